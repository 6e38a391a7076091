//! `logs`: what instances print, from one or from all of them.

use super::look::is_present;
use crate::{
    args::LogsArgs,
    context::Context,
    failure::Failure,
    output::{self, Form},
};
use api::{ClientError, Code, LogsQuery, Problem};
use futures_util::{StreamExt as _, stream::SelectAll};
use serde::Serialize;
use types::InstanceId;

/// One line in JSON.
#[derive(Debug, Serialize)]
struct Line<'a> {
    instance: InstanceId,
    line: &'a str,
}

/// How lines are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mark {
    /// There is only one instance: its bytes go through untouched.
    None,
    /// Each line carries its instance.
    Instance,
}

/// Prints the end of the logs and, if wished, what follows.
pub async fn run(context: &Context, args: LogsArgs) -> Result<(), Failure> {
    let wanted = match args.instance {
        Some(instance) => vec![instance],
        None => present(context, &args).await?,
    };
    let mark = if wanted.len() == 1 && context.form == Form::Text { Mark::None } else { Mark::Instance };
    let query = LogsQuery { tail: Some(args.tail), follow: args.follow };
    let mut all = SelectAll::new();
    for instance in wanted {
        let bytes = context.client.logs(&context.org, instance, query).await.map_err(Failure::of_read)?;
        let ended = futures_util::stream::once(async move { (instance, None) });
        all.push(Box::pin(bytes.map(move |piece| (instance, Some(piece))).chain(ended)));
    }
    let mut unfinished: std::collections::BTreeMap<InstanceId, Vec<u8>> = Default::default();
    while let Some((instance, piece)) = all.next().await {
        let piece = match piece {
            Some(Ok(piece)) => piece,
            Some(Err(error)) => return Err(lost(error)),
            None => {
                if let Some(rest) = unfinished.remove(&instance).filter(|rest| !rest.is_empty()) {
                    print(context.form, instance, &rest);
                }
                continue;
            }
        };
        if mark == Mark::None {
            output::raw(&piece);
            continue;
        }
        let held = unfinished.entry(instance).or_default();
        held.extend_from_slice(&piece);
        while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = held.drain(..=end).collect();
            print(context.form, instance, &line[..end]);
        }
    }
    Ok(())
}

async fn present(context: &Context, args: &LogsArgs) -> Result<Vec<InstanceId>, Failure> {
    let place = context.place()?;
    let rows = context.client.instances(place.names()).await.map_err(Failure::of_read)?;
    let wanted: Vec<InstanceId> = rows
        .iter()
        .filter(|row| is_present(row) && args.process.as_ref().is_none_or(|process| *process == row.process))
        .map(|row| row.id)
        .collect();
    if wanted.is_empty() {
        let problem = Problem::new(Code::NotFound, format!("{place} has no such instances"));
        return Err(problem.with_hint("holdfast ps --all").into());
    }
    Ok(wanted)
}

fn print(form: Form, instance: InstanceId, line: &[u8]) {
    let text = String::from_utf8_lossy(line);
    match form {
        Form::Json => output::json(&Line { instance, line: text.trim_end_matches('\r') }),
        // What an app writes is printed as it is, colours and all.
        Form::Text => output::raw(format!("{instance} | {text}\n").as_bytes()),
    }
}

fn lost(error: ClientError) -> Failure {
    Failure::of_read(error)
}
