//! Waiting for what a write began, and the receipt at the end of it.
//!
//! A server that goes away while a deploy is followed changes nothing about the deploy: it is asked
//! again until it answers or the time is over. Only reads are repeated here.

use super::write::Executed;
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
    /// Why events and result of the receipt are not known, if they are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<&'a str>,
    /// How the deploy stood when it was last looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    deploy: Option<&'a DeployRow>,
    /// From sending to now.
    took_ms: u64,
}

/// Waiting has ended before what was waited for.
#[derive(Debug)]
pub struct Ended {
    /// What has not been seen, as the end of "it is not known whether …".
    whether: String,
    why: Why,
}

#[derive(Debug)]
enum Why {
    /// It was seen not to be so, in these words, until the time was over.
    NotYet(String),
    /// The time was over before there was any answer.
    NoAnswer,
    /// Reading failed for good or, when the time was over, the last time.
    Unread(ClientError),
}

impl From<Option<ClientError>> for Why {
    fn from(error: Option<ClientError>) -> Self {
        error.map_or(Self::NoAnswer, Self::Unread)
    }
}

impl Ended {
    fn unknown(whether: &str, why: impl std::fmt::Display) -> String {
        format!("it is not known whether {whether}: {why}")
    }

    /// For a command that only reads: what cannot be read is its failure.
    pub fn of_read(self, next: &str) -> Failure {
        let what = match self.why {
            Why::Unread(error) => return Failure::of_read(error),
            Why::NoAnswer => Self::unknown(&self.whether, "no answer came in the time given"),
            Why::NotYet(why) => why,
        };
        Problem::new(Code::StillGoing, what).with_hint(next).into()
    }

    /// For a write that was executed: no reading that failed afterwards speaks for it.
    pub fn of_write(self, receipt: &Receipt, next: &str) -> Failure {
        let what = match self.why {
            Why::Unread(error) => Self::unknown(&self.whether, error),
            Why::NoAnswer => Self::unknown(&self.whether, "no answer came in the time given"),
            Why::NotYet(why) => why,
        };
        begun(receipt, &what, next)
    }
}

/// A write that was executed, and whose end was not seen.
fn begun(receipt: &Receipt, what: &str, next: &str) -> Failure {
    Problem::new(Code::StillGoing, format!("executed at event {}; {what}", receipt.event))
        .with_outcome(Outcome::Executed)
        .with_request(receipt.request_id)
        .with_hint(next)
        .into()
}

/// Waits for what the write began, if there is anything and waiting is wanted; prints the receipt.
pub async fn finish(
    context: &Context,
    place: Option<&Place>,
    done: Executed,
    since: Instant,
) -> Result<(), Failure> {
    let Executed { receipt, unread } = done;
    let (mut deploy, mut failure) = (None, None);
    if let Some(place) = place.filter(|_| context.patience == Patience::Wait) {
        match (&unread, receipt.result.deploy) {
            (Some(why), _) => {
                let what = format!("what it began could not be read: {why}");
                failure = Some(begun(&receipt, &what, &place.wait_converged()));
            }
            (None, Some(id)) => match deploy_to_end(context, place, id, receipt.event).await {
                Ok(row) => {
                    failure = failure_of(&row, &receipt);
                    deploy = Some(row);
                }
                Err(ended) => failure = Some(ended.of_write(&receipt, &place.wait_deploy(id))),
            },
            (None, None) => {}
        }
    }
    let took_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
    let done = Done { receipt: &receipt, unread: unread.as_deref(), deploy: deploy.as_ref(), took_ms };
    match context.form {
        Form::Json => output::outcome_json(&done),
        Form::Text => output::outcome(&told(&done)),
    }
    failure.map_or(Ok(()), Err)
}

/// The receipt as people read it.
fn told(done: &Done<'_>) -> String {
    let receipt = done.receipt;
    let events = match (done.unread, receipt.events.as_slice()) {
        (Some(_), _) => format!("as of event {}; its own events could not be read", receipt.event),
        (None, []) => format!("nothing changed; as of event {}", receipt.event),
        (None, [one]) => format!("event {} ({})", one.id, one.kind),
        (None, [first, .., last]) => {
            format!("events {}–{} ({}, …, {})", first.id, last.id, first.kind, last.kind)
        }
    };
    let mut lines = vec![format!("{}  request {}  {events}", receipt.outcome, receipt.request_id)];
    let result = &receipt.result;
    lines.extend(result.unchanged.as_ref().map(|why| format!("unchanged  {why}")));
    if let Some(release) = result.release_number {
        let image = result.image.as_ref().map_or(String::new(), |image| format!("  {}", image.digest));
        lines.push(format!("release {release}{image}"));
    }
    lines.extend(result.secret.clone());
    match (done.deploy, result.deploy) {
        (Some(deploy), _) => {
            let took = output::span(DurationMs::from_ms(done.took_ms));
            lines.push(format!("deploy {}  {} after {took}", deploy.id, deploy.state));
        }
        (None, Some(deploy)) => lines.push(format!("deploy {deploy}  under way: holdfast wait {deploy}")),
        (None, None) => {}
    }
    lines.join("\n") + "\n"
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
) -> Result<DeployRow, Ended> {
    let deadline = context.deadline(limits::WAIT_DEFAULT);
    let client = context.client.clone().at_least(at_least);
    let mut progress = Progress::new(context.form);
    let mut said = Vec::new();
    let started = Instant::now();
    let ended = |why| Ended { whether: format!("deploy {deploy} has succeeded"), why };
    loop {
        let look = async || client.deploy_status(place.names(), deploy).await;
        let row = persistently(look, deadline, &mut progress).await.map_err(|error| ended(error.into()))?;
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
            let why =
                format!("deploy {deploy} has neither succeeded nor failed in the time given{waits_for}");
            return Err(ended(Why::NotYet(why)));
        }
        tokio::time::sleep(limits::WAIT_POLL.into()).await;
    }
}

/// Waits until the environment is as declared.
pub async fn converged(
    context: &Context,
    place: &Place,
    process: Option<&Name>,
    at_least: EventId,
) -> Result<EnvStatus, Ended> {
    let deadline = context.deadline(limits::WAIT_DEFAULT);
    let client = context.client.clone().at_least(at_least);
    let mut progress = Progress::new(context.form);
    let ended = |why| Ended { whether: format!("{place} is as declared"), why };
    loop {
        let look = async || client.status(place.names()).await;
        let status =
            persistently(look, deadline, &mut progress).await.map_err(|error| ended(error.into()))?;
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
            let why = format!("{place} is not as declared within the time given: {}", status.why.join("; "));
            return Err(ended(Why::NotYet(why)));
        }
        tokio::time::sleep(limits::WAIT_POLL.into()).await;
    }
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
                if !matches!(problem.code, Code::Unavailable | Code::NotVisibleYet | Code::EventAhead) =>
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
