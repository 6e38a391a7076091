//! Waiting for what a write began, and the receipt at the end of it.
//!
//! A server that goes away while a deploy is followed changes nothing about the deploy: it is asked
//! again until it answers or the time is over. Only reads are repeated here.

use crate::{
    context::{Context, Patience, Place},
    failure::Failure,
    output::{self, Form, Progress},
};
use api::{ClientError, Code, DeployRow, DeployState, EnvStatus, Outcome, Problem, Receipt};
use serde::Serialize;
use tokio::time::Instant;
use types::{DeployId, DurationMs, EventId, Name, limits};

/// The end of a write, as `--json` shows it.
#[derive(Debug, Serialize)]
struct Done<'a> {
    #[serde(flatten)]
    receipt: &'a Receipt,
    /// How the deploy stood when it was last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    deploy: Option<&'a DeployRow>,
    /// From sending to now.
    took_ms: u64,
}

/// Waits for what the write began, if there is anything and waiting is wanted; prints the receipt.
pub async fn finish(
    context: &Context,
    place: Option<&Place>,
    receipt: Receipt,
    since: Instant,
) -> Result<(), Failure> {
    let waits = context.patience == Patience::Wait;
    let followed = match (place, receipt.result.deploy) {
        (Some(place), Some(deploy)) if waits => {
            Some(deploy_to_end(context, place, deploy, receipt.event).await)
        }
        _ => None,
    };
    let (deploy, failure) = match followed {
        Some(Ok(deploy)) => {
            let failure = failure_of(&deploy, &receipt);
            (Some(deploy), failure)
        }
        Some(Err(mut failure)) => {
            failure.problem.request_id = Some(receipt.request_id);
            (None, Some(failure))
        }
        None => (None, None),
    };
    let took_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    let done = Done { receipt: &receipt, deploy: deploy.as_ref(), took_ms };
    match context.form {
        Form::Json => output::json(&done),
        Form::Text => print(&done),
    }
    failure.map_or(Ok(()), Err)
}

fn print(done: &Done<'_>) {
    let receipt = done.receipt;
    let events = match receipt.events.as_slice() {
        [] => format!("nothing changed; as of event {}", receipt.event),
        [one] => format!("event {} ({})", one.id, one.kind),
        [first, .., last] => format!("events {}–{} ({}, …, {})", first.id, last.id, first.kind, last.kind),
    };
    output::line(&format!("{}  request {}  {events}", receipt.outcome, receipt.request_id));
    let result = &receipt.result;
    if let Some(why) = &result.unchanged {
        output::line(&format!("unchanged  {why}"));
    }
    if let Some(release) = result.release_number {
        let image = result.image.as_ref().map_or(String::new(), |image| format!("  {}", image.digest));
        output::line(&format!("release {release}{image}"));
    }
    if let Some(secret) = &result.secret {
        output::line(secret);
    }
    match (done.deploy, result.deploy) {
        (Some(deploy), _) => {
            let took = output::span(DurationMs::from_ms(done.took_ms));
            output::line(&format!("deploy {}  {} after {took}", deploy.id, deploy.state));
        }
        (None, Some(deploy)) => output::line(&format!("deploy {deploy}  under way: holdfast wait {deploy}")),
        (None, None) => {}
    }
}

/// The failure that a finished deploy means, if it means one.
pub fn failure_of(deploy: &DeployRow, receipt: &Receipt) -> Option<Failure> {
    deploy_failure(deploy).map(|mut failure| {
        failure.problem.request_id = Some(receipt.request_id);
        failure
    })
}

/// The same, for a deploy that was only watched.
pub fn deploy_failure(deploy: &DeployRow) -> Option<Failure> {
    (deploy.state == DeployState::Failed).then(|| {
        let reason = deploy.reason.as_deref().unwrap_or("no reason is recorded");
        let way_back = deploy.way_back.clone().unwrap_or_else(|| "holdfast rollback".to_owned());
        Problem::new(
            Code::DeployFailed,
            format!("deploy {} of release {} failed: {reason}", deploy.id, deploy.release),
        )
        .with_hint(format!("{way_back} (or see why: holdfast explain)"))
        .into()
    })
}

/// Follows a deploy until nothing more follows.
pub async fn deploy_to_end(
    context: &Context,
    place: &Place,
    deploy: DeployId,
    at_least: EventId,
) -> Result<DeployRow, Failure> {
    let deadline = context.deadline(limits::WAIT_DEFAULT);
    let client = context.client.clone().at_least(at_least);
    let mut progress = Progress::new(context.form);
    let mut said = Vec::new();
    let started = Instant::now();
    loop {
        let look = async || client.deploy_status(place.names(), deploy).await;
        let row = persistently(look, deadline, &mut progress)
            .await
            .map_err(|error| going(deploy, error.as_ref()))?;
        for step in row.steps.iter().filter(|_| context.form == Form::Text) {
            if !said.contains(step) {
                progress.say(&format!("  {step}"));
                said.push(step.clone());
            }
        }
        if row.state.is_final() {
            return Ok(row);
        }
        let waited = output::span(DurationMs::from_ms(started.elapsed().as_millis() as u64));
        let waits_for = row.reason.as_deref().map_or(String::new(), |reason| format!(": {reason}"));
        progress.show(&format!("{} {waited}{waits_for}", row.state));
        if Instant::now() + limits::WAIT_POLL.into() > deadline {
            return Err(going(deploy, None));
        }
        tokio::time::sleep(limits::WAIT_POLL.into()).await;
    }
}

fn going(deploy: DeployId, error: Option<&ClientError>) -> Failure {
    if let Some(ClientError::Problem(problem)) = error {
        return problem.as_ref().clone().into();
    }
    let what = match error {
        Some(error) => format!("deploy {deploy} was started; how it stands is not known, for {error}"),
        None => format!("deploy {deploy} was started and has neither succeeded nor failed in the time given"),
    };
    Problem::new(Code::StillGoing, what).with_hint(format!("holdfast wait {deploy}")).into()
}

/// Waits until the environment is as declared.
pub async fn converged(
    context: &Context,
    place: &Place,
    process: Option<&Name>,
    at_least: EventId,
) -> Result<EnvStatus, Failure> {
    let deadline = context.deadline(limits::WAIT_DEFAULT);
    let client = context.client.clone().at_least(at_least);
    let mut progress = Progress::new(context.form);
    loop {
        let look = async || client.status(place.names()).await;
        let status = persistently(look, deadline, &mut progress).await.map_err(|error| match error {
            Some(error) => Failure::of_read(error),
            None => not_converged(place, &[]),
        })?;
        let reached = match process {
            Some(name) => status
                .processes
                .iter()
                .filter(|row| row.process == *name)
                .all(|row| row.ready == row.desired && row.placed == row.desired),
            None => status.converged,
        };
        if reached {
            return Ok(status);
        }
        progress
            .show(&format!("waiting: {}", status.why.first().map_or("not as declared yet", String::as_str)));
        if Instant::now() + limits::WAIT_POLL.into() > deadline {
            return Err(not_converged(place, &status.why));
        }
        tokio::time::sleep(limits::WAIT_POLL.into()).await;
    }
}

fn not_converged(place: &Place, why: &[String]) -> Failure {
    let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
    Problem::new(Code::StillGoing, format!("{place} is not as declared within the time given{why}"))
        .with_outcome(Outcome::Executed)
        .with_hint("holdfast explain")
        .into()
}

/// Reads, and reads again while the server is away, until the deadline. A problem that the server
/// states is final, unless it is that it cannot answer now.
pub async fn persistently<T>(
    look: impl AsyncFn() -> Result<T, ClientError>,
    deadline: Instant,
    progress: &mut Progress,
) -> Result<T, Option<ClientError>> {
    let mut last = None;
    loop {
        match tokio::time::timeout_at(deadline, look()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Err(_) => return Err(last),
            Ok(Err(ClientError::Problem(problem)))
                if !matches!(problem.code, Code::Unavailable | Code::NotVisibleYet) =>
            {
                return Err(Some(ClientError::Problem(problem)));
            }
            Ok(Err(error)) => {
                progress.show(&format!("{error}; asking again"));
                last = Some(error);
            }
        }
        if Instant::now() + limits::WAIT_POLL.into() > deadline {
            return Err(last);
        }
        tokio::time::sleep(limits::WAIT_POLL.into()).await;
    }
}
