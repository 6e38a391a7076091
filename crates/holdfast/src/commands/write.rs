//! Sending a write once, and telling what became of it: [`api::Sending`] sends and asks, and here it is
//! told, also to whoever interrupts it.
//!
//! Once the log has said *executed*, nothing that is read afterwards can take it back.

use super::follow;
use crate::{
    context::Context,
    failure::Failure,
    interrupt,
    output::{self, Form},
};
use api::{
    Came, Client, ClientError, Code, EventSummary, EventsQuery, Outcome, Problem, Receipt, RequestState,
    ResultBody, Sending,
};
use rt::Boundary;
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
    let next = context.resolves(id);
    let executed = match once(context, id, &next, async |client| call(client, id).await).await? {
        Came::Answered(receipt) => Executed { receipt, unread: None },
        Came::Found { state, by } => recovered(&by, *state).await,
    };
    let receipt = &executed.receipt;
    let what = format!("executed at event {}; interrupted before its end was seen", receipt.event);
    let problem = Problem::new(Code::StillGoing, what).with_outcome(Outcome::Executed).with_request(id);
    interrupt::means(problem.with_hint("holdfast wait converged").into(), context.form);
    Ok(executed)
}

/// Sends anything that changes something, once; `next` tells its outcome when nobody could say.
pub async fn once<T>(
    context: &Context,
    id: RequestId,
    next: &str,
    call: impl AsyncFnOnce(&Client) -> Result<T, ClientError>,
) -> Result<Came<T>, Failure> {
    let what = format!(
        "interrupted before an answer came; whether request {id} was executed is not known, and it was not sent again"
    );
    let interrupted = Problem::new(Code::UnknownOutcome, what).with_request(id).with_hint(next);
    interrupt::means(interrupted.into(), context.form);
    // Whoever is killed now finds the request by this. Programs name it themselves.
    if context.form == Form::Text && !context.names_request() {
        output::note(&format!("request {id}"));
    }
    let patience = limits::OUTCOME_ASK.into();
    let sending = Sending { id, to: &context.client, others: &context.others, patience, next };
    let doubt = |error: &ClientError| {
        // With JSON there is one problem object, and this is none.
        if context.form == Form::Text {
            output::note(&format!("{error}"));
            output::note(&format!("asking the log what became of request {id}"));
        }
    };
    Boundary::CallBegun.reached();
    let came =
        sending.once(call, doubt).await.map_err(|problem| Failure::of_write(earlier(context, problem)));
    Boundary::CallAnswered.reached();
    let came = came?;
    if let (Came::Found { state, .. }, Form::Text) = (&came, context.form) {
        let event = state.event.unwrap_or(EventId::ZERO);
        output::note(&format!("the log says: executed at event {event}"));
    }
    Ok(came)
}

/// Of a request that was named, what is certain is that it was not executed now: it may have been sent before.
fn earlier(context: &Context, mut problem: Box<Problem>) -> Box<Problem> {
    if let (true, 6, Some(id)) = (context.names_request(), problem.exit_code(), problem.request_id) {
        problem.detail.push_str("; what became of an earlier sending of this request is not known here");
        problem.hint = Some(format!("holdfast requests show {id}"));
    }
    problem
}

/// The receipt of a request whose answer was lost, as far as its events tell. They are asked for until
/// they are there or the time is over: without them nobody can say what the request has begun.
async fn recovered(by: &Client, state: RequestState) -> Executed {
    let (id, last) = (state.request_id, state.event.unwrap_or(EventId::ZERO));
    let client = by.clone().with_timeout(limits::OUTCOME_ASK.into());
    let deadline = Instant::now() + limits::OUTCOME_ASK.into();
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
        if ["token.created", "token.issued"].contains(&event.kind.as_str()) {
            result.unchanged =
                Some("executed; its secret was in the answer that was lost, and is nowhere else".to_owned());
        }
        events.push(EventSummary { id: event.id, kind: event.kind, subject: event.subject.id });
    }
    let receipt = Receipt { request_id: id, outcome: Outcome::Executed, event: last, events, result };
    Executed { receipt, unread }
}
