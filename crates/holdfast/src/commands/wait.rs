//! `wait`: until an environment is as declared, a deploy is over, the server is ready, or an event
//! is there.

use super::follow;
use crate::{
    context::Context,
    failure::Failure,
    output::{self, Form, Progress},
};
use api::{ClientError, Code, EventsQuery, Problem};
use types::{DeployId, EventId, limits};

/// Waits for what is named.
pub async fn run(context: &Context, what: &str) -> Result<(), Failure> {
    if let Ok(deploy) = what.parse() {
        return deploy_over(context, deploy).await;
    }
    if let Ok(event) = what.parse() {
        return event_there(context, event).await;
    }
    match what {
        "converged" => {
            let place = context.place()?;
            let reached = follow::converged(context, &place, None, EventId::ZERO).await;
            let status = reached.map_err(|ended| ended.of_read("holdfast explain"))?;
            match context.form {
                Form::Json => output::json(&status),
                Form::Text => output::line(&format!("{place} is as declared, as of event {}", status.event)),
            }
            Ok(())
        }
        "ready" => server_ready(context).await,
        _ => Err(Failure::usage(
            format!("{what:?} is nothing to wait for"),
            "holdfast wait converged|ready|dep_…|EVENT",
        )),
    }
}

async fn deploy_over(context: &Context, deploy: DeployId) -> Result<(), Failure> {
    let place = context.place()?;
    let row = follow::deploy_to_end(context, &place, deploy, EventId::ZERO).await;
    let row = row.map_err(|ended| ended.of_read(&place.wait_deploy(deploy)))?;
    match context.form {
        Form::Json => output::outcome_json(&row),
        Form::Text => output::outcome(&format!("deploy {}  {}\n", row.id, row.state)),
    }
    follow::deploy_failure(&row).map_or(Ok(()), Err)
}

async fn server_ready(context: &Context) -> Result<(), Failure> {
    let deadline = context.deadline(limits::WAIT_DEFAULT);
    let mut progress = Progress::new(context.form);
    let look = async || context.client.ready().await;
    let ready = follow::persistently(look, deadline, &mut progress).await;
    let ready =
        ready.map_err(|error| error.map_or_else(|| too_long("the server is not ready"), Failure::of_read))?;
    match context.form {
        Form::Json => output::json(&ready),
        Form::Text => {
            output::line(&format!("ready: {} in epoch {}, at event {}", ready.role, ready.epoch, ready.head))
        }
    }
    Ok(())
}

async fn event_there(context: &Context, event: EventId) -> Result<(), Failure> {
    let deadline = context.deadline(limits::WAIT_DEFAULT);
    let mut progress = Progress::new(context.form);
    let before = EventId::new(event.get().saturating_sub(1));
    let query = EventsQuery { after: before, limit: Some(1), wait: false };
    loop {
        let look = async || context.client.events(query).await;
        let ends_at = match follow::persistently(look, deadline, &mut progress).await {
            Ok(page) if page.head >= event => {
                // It may be one that this token is not shown; what follows it is not what was asked for.
                if let Some(found) = page.events.iter().find(|found| found.id == event) {
                    super::events::print(context.form, found);
                }
                return Ok(());
            }
            Ok(page) => format!("the log is at event {}", page.head),
            Err(Some(ClientError::Problem(problem))) if is_ahead(&problem) => problem.detail,
            Err(Some(error)) => return Err(Failure::of_read(error)),
            Err(None) => return Err(too_long("the event is not there")),
        };
        progress.show(&ends_at);
        if tokio::time::Instant::now() + limits::WAIT_POLL.into() > deadline {
            return Err(too_long(&format!("event {event} is not there ({ends_at})")));
        }
        tokio::time::sleep(limits::WAIT_POLL.into()).await;
    }
}

/// The log does not reach to where was to be read from: it may yet.
fn is_ahead(problem: &Problem) -> bool {
    problem.code == Code::InvalidRequest && problem.path.as_deref() == Some("after")
}

fn too_long(what: &str) -> Failure {
    Problem::new(Code::StillGoing, format!("{what} within the time given"))
        .with_hint("the same command with a longer --timeout")
        .into()
}
