//! What became of a request, and making sure that one never runs.

use super::{
    Http,
    access::{Caller, Who},
    answer::{At, Refused, Result, missing, refused},
    input::Places,
    write,
};
use crate::writer::Answer;
use api::{Code, Outcome, Problem, RequestState, RequestVerdict};
use axum::extract::State;
use domain::{Actor, Command, State as Decided, Verdict, state::Decided as Decision};
use types::{OrgId, RequestId, Timestamp, limits};

/// `GET /v1/requests/{id}`
pub(super) async fn show(
    State(http): State<Http>,
    caller: Caller,
    Places(id): Places<String>,
) -> Result<At<RequestState>> {
    let id = parse(&id)?;
    let state = http.core.state();
    Ok(At::new(state.head, known(&state, &caller, id, http.core.clock().now())))
}

fn parse(text: &str) -> Result<RequestId> {
    text.parse().map_err(|error: types::ParseError| refused(Code::InvalidRequestId, error.to_string()))
}

/// What the log tells this caller about a request. Another org's is as if it was never seen.
fn known(state: &Decided, caller: &Caller, id: RequestId, now: Timestamp) -> RequestState {
    let nothing = |verdict, is_final| RequestState {
        request_id: id,
        state: verdict,
        is_final,
        event: None,
        reason: None,
        code: None,
        at: None,
    };
    let visible = state.requests.get(id).filter(|decided| is_visible(state, caller, decided));
    let Some(decided) = visible else {
        let horizon = state.requests.horizon().max(now.minus(limits::REQUEST_HORIZON));
        return match id.time() < horizon {
            true => nothing(RequestVerdict::Expired, true),
            false => nothing(RequestVerdict::NotSeen, false),
        };
    };
    let (verdict, reason, code) = match &decided.verdict {
        Verdict::Executed(_) => (RequestVerdict::Executed, None, None),
        Verdict::Refused { code, text } => (RequestVerdict::Refused, Some(text.clone()), code.parse().ok()),
        Verdict::Voided => (RequestVerdict::Voided, Some("voided: it may never run".to_owned()), None),
    };
    RequestState { event: Some(decided.event), at: Some(decided.at), reason, code, ..nothing(verdict, true) }
}

fn is_visible(state: &Decided, caller: &Caller, decided: &Decision) -> bool {
    match caller.who {
        Who::Person { org, .. } => {
            principal_org(state, decided.principal) == Some(org)
                || belongs_to_server(state, decided.principal)
        }
        Who::Node(_) => false,
    }
}

/// The org of whoever asked.
pub(super) fn principal_org(state: &Decided, principal: Actor) -> Option<OrgId> {
    match principal {
        Actor::Token(token) => state.tokens.get(&token)?.org,
        Actor::System | Actor::Node(_) => None,
    }
}

/// Nodes and join tokens ask in the name of no org; every owner and viewer may know.
fn belongs_to_server(state: &Decided, principal: Actor) -> bool {
    match principal {
        Actor::System | Actor::Node(_) => true,
        Actor::Token(token) => state.tokens.get(&token).is_some_and(|token| token.org.is_none()),
    }
}

/// `POST /v1/requests/{id}/void`
pub(super) async fn void(
    State(http): State<Http>,
    caller: Caller,
    Places(id): Places<String>,
) -> Result<At<RequestState>> {
    let request = parse(&id)?;
    let state = http.core.state();
    if state.requests.get(request).is_some_and(|decided| !is_visible(&state, &caller, decided)) {
        return Err(missing(format_args!("request {request}")));
    }
    let submitted = http.core.submit(Command::VoidRequest { request }, caller.actor(), None);
    let Ok(answer) = tokio::time::timeout(limits::VERDICT_WAIT.into(), submitted).await else {
        let detail = format!("the log did not answer within {}", limits::VERDICT_WAIT);
        return Err(Problem::new(Code::UnknownOutcome, detail).with_request(request).into());
    };
    match answer {
        Answer::Executed { event, .. } => {
            let _late = http.core.wait_for(event).await;
            let state = http.core.state();
            Ok(At::new(event, known(&state, &caller, request, http.core.clock().now())))
        }
        Answer::Refused { code, text, .. } => Err(too_late(&http, request, &code, text)),
        Answer::Unavailable { storage_full, why } => Err(write::unavailable(storage_full, why)),
        Answer::Unknown { why } => Err(Problem::new(Code::UnknownOutcome, why).with_request(request).into()),
    }
}

/// The problem is about the request itself, so its outcome is that request's.
fn too_late(http: &Http, request: RequestId, code: &str, text: String) -> Refused {
    let state = http.core.state();
    let decided = state.requests.get(request);
    let outcome = match decided.map(|decided| &decided.verdict) {
        Some(Verdict::Executed(_)) => Outcome::Executed,
        _ => Outcome::NotExecuted,
    };
    let problem = Problem::new(code.parse().unwrap_or(Code::Conflict), text).with_request(request);
    let event = decided.map(|decided| decided.event);
    Refused { problem: Box::new(problem.with_outcome(outcome)), event }
}
