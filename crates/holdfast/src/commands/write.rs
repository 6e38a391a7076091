//! Sending a write once, and telling what became of it.
//!
//! Invariant: a write is sent at most once by one run of the command line. If its outcome is in
//! doubt, the log is asked, for a bounded time; if that gives no final answer, the command exits
//! with *unknown* and the two commands that resolve it. Sending again, and voiding, are the
//! operator's to decide.
//!
//! Once the log has said *executed*, nothing that is read afterwards can take it back.

use super::follow;
use crate::{
    context::Context,
    failure::Failure,
    output::{self, Form},
};
use api::{
    Client, ClientError, Code, EventSummary, EventsQuery, Outcome, Problem, Receipt, RequestState,
    RequestVerdict, ResultBody,
};
use tokio::time::Instant;
use types::{EventId, RequestId, limits};

/// A write that was executed.
#[derive(Debug)]
pub struct Executed {
    /// What it did, as far as that is known.
    pub receipt: Receipt,
    /// Why the receipt's events and result are not known, if they are not: its answer was lost, and
    /// its events could not be read.
    pub unread: Option<String>,
}

/// Sends the write that `call` makes, and returns what it did.
pub async fn send<F>(context: &Context, call: F) -> Result<Executed, Failure>
where
    F: AsyncFnOnce(&Client, RequestId) -> Result<Receipt, ClientError>,
{
    let id = context.intent();
    let error = match call(&context.client, id).await {
        Ok(receipt) => return Ok(Executed { receipt, unread: None }),
        Err(error) => error,
    };
    match &error {
        ClientError::NotSent { .. } => return Err(Failure::not_executed(&error, id)),
        ClientError::Problem(problem) if problem.outcome == Outcome::NotExecuted => {
            return Err(Failure::not_executed(&error, id));
        }
        ClientError::Problem(_) | ClientError::Unknown { .. } | ClientError::BadAnswer { .. } => {}
    }
    output::note(&format!("{error}"));
    output::note(&format!("asking the log what became of request {id}"));
    settle(context, id, &error).await
}

/// Asks until there is a final answer or the time for it is over.
async fn settle(context: &Context, id: RequestId, error: &ClientError) -> Result<Executed, Failure> {
    let deadline = Instant::now() + limits::OUTCOME_ASK.into();
    let client = context.client.clone().with_timeout(limits::OUTCOME_ASK.into());
    loop {
        match tokio::time::timeout_at(deadline, client.request(id)).await {
            Ok(Ok(state)) if state.is_final => return conclude(&client, state, deadline).await,
            Ok(_) => {}
            Err(_) => return Err(unknown(id, error)),
        }
        if tokio::time::timeout_at(deadline, tokio::time::sleep(limits::WAIT_POLL.into())).await.is_err() {
            return Err(unknown(id, error));
        }
    }
}

fn unknown(id: RequestId, error: &ClientError) -> Failure {
    let what = format!("{error}; whether request {id} was executed is not known, and it was not sent again");
    Problem::new(Code::UnknownOutcome, what)
        .with_request(id)
        .with_hint(format!(
            "holdfast requests show {id} (or, so that it can never run: holdfast requests void {id})"
        ))
        .into()
}

/// The log has spoken.
async fn conclude(client: &Client, state: RequestState, deadline: Instant) -> Result<Executed, Failure> {
    let id = state.request_id;
    let reason = state.reason.clone().unwrap_or_else(|| "no reason is recorded".to_owned());
    let refused = |code: Code, what: String| {
        Err(Problem::new(code, what).with_request(id).with_outcome(Outcome::NotExecuted).into())
    };
    match state.state {
        RequestVerdict::Executed => {
            let event = state.event.unwrap_or(EventId::ZERO);
            output::note(&format!("the log says: executed at event {event}"));
            Ok(recovered(client, id, event, deadline).await)
        }
        RequestVerdict::Refused => {
            refused(state.code.unwrap_or(Code::Conflict), format!("the log says: refused: {reason}"))
        }
        RequestVerdict::Voided => refused(Code::RequestVoided, format!("the log says: voided: {reason}")),
        RequestVerdict::Expired | RequestVerdict::NotSeen => {
            let what =
                format!("request {id} is behind the log's horizon, and what became of it is no longer known");
            Err(Problem::new(Code::UnknownOutcome, what).with_request(id).with_hint("holdfast status").into())
        }
    }
}

/// The receipt of a request whose answer was lost, as far as its events tell. They are asked for until
/// they are there or the time is over: without them nobody can say what the request has begun.
async fn recovered(client: &Client, id: RequestId, last: EventId, deadline: Instant) -> Executed {
    let first = EventId::new(last.get().saturating_sub(limits::COMMAND_EVENTS as u64));
    let query = EventsQuery { after: first, limit: Some(limits::COMMAND_EVENTS), wait: false };
    let mut progress = output::Progress::new(Form::Json);
    let look = async || client.events(query).await;
    let (page, unread) = match follow::persistently(look, deadline, &mut progress).await {
        Ok(page) => (page.events, None),
        Err(error) => (
            Vec::new(),
            Some(error.map_or_else(|| "no answer in time".to_owned(), |error| error.to_string())),
        ),
    };
    let mut result = ResultBody::default();
    let mut events = Vec::new();
    for event in page.into_iter().filter(|event| event.request_id == Some(id)) {
        let subject = &event.subject.id;
        match event.subject.kind.as_str() {
            "app" => result.app = subject.parse().ok(),
            "env" | "environment" => result.env = subject.parse().ok(),
            "release" => result.release = subject.parse().ok(),
            "deploy" => result.deploy = subject.parse().ok(),
            "node" => result.node = subject.parse().ok(),
            "token" => result.token = subject.parse().ok(),
            _ => {}
        }
        events.push(EventSummary { id: event.id, kind: event.kind, subject: event.subject.id });
    }
    let receipt = Receipt { request_id: id, outcome: Outcome::Executed, event: last, events, result };
    Executed { receipt, unread }
}
