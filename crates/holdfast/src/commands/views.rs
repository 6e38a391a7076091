//! `views`: what is folded from the log, and whether it still is.

use crate::{
    args::ViewsVerb,
    context::Context,
    failure::Failure,
    output::{self, Form},
};
use api::{Code, Outcome, Problem, RebuildAnswer};

/// Lists, or rebuilds and compares.
pub async fn run(context: &Context, verb: Option<ViewsVerb>) -> Result<(), Failure> {
    match verb.unwrap_or(ViewsVerb::List) {
        ViewsVerb::List => list(context).await,
        ViewsVerb::Rebuild { name: Some(name) } => rebuild(context, vec![name]).await,
        ViewsVerb::Rebuild { name: None } => {
            let rows = context.client.views().await.map_err(Failure::of_read)?;
            rebuild(context, rows.into_iter().map(|row| row.name).collect()).await
        }
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let rows = context.client.views().await.map_err(Failure::of_read)?;
    if context.form == Form::Json {
        output::json(&rows);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                row.name.clone(),
                row.checkpoint.to_string(),
                row.behind.to_string(),
                row.fingerprint.clone(),
                row.quarantined.clone().unwrap_or_default(),
            ]
        })
        .collect();
    output::table(&["VIEW", "EVENT", "BEHIND", "FINGERPRINT", "QUARANTINED"], &rows, "no views");
    Ok(())
}

async fn rebuild(context: &Context, names: Vec<String>) -> Result<(), Failure> {
    let mut answers: Vec<RebuildAnswer> = Vec::new();
    for name in names {
        answers.push(context.client.rebuild_view(&name).await.map_err(Failure::of_read)?);
    }
    match context.form {
        Form::Json => output::outcome_json(&answers),
        Form::Text => {
            let rows: Vec<Vec<String>> = answers
                .iter()
                .map(|row| {
                    let verdict = if row.equal { "equal" } else { "DIFFERENT" };
                    vec![
                        row.name.clone(),
                        row.events.to_string(),
                        verdict.to_owned(),
                        row.before.clone(),
                        row.after.clone(),
                    ]
                })
                .collect();
            output::outcome(&output::columns(&["VIEW", "EVENTS", "", "BEFORE", "AFTER"], &rows));
        }
    }
    let different: Vec<&str> = answers.iter().filter(|row| !row.equal).map(|row| row.name.as_str()).collect();
    if different.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        Code::Internal,
        format!("rebuilt from the log, these views differ: {}", different.join(", ")),
    )
    .with_outcome(Outcome::NotExecuted)
    .with_hint("keep the data directory, and report it with: holdfast log verify")
    .into())
}
