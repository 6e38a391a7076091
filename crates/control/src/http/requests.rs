//! What became of a request, and making sure that one never runs.

use super::{
    Http,
    access::{Caller, Who},
    answer::{At, Refused, Result, missing, refused},
    audit,
    input::Places,
    roles::Permission,
    write,
};
use crate::{sequencer::Proposal, writer::Answer};
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
    let (mut attempts, mut unread) = (Vec::new(), Vec::new());
    if caller.may(Permission::ReadAccess) {
        (attempts, unread) = audit::of_request(&http, &caller, id).await;
    }
    // After the journals: a verdict is in the log before its line is in a journal.
    let state = http.core.state();
    let known = known(&state, &caller, id, http.core.now());
    Ok(At::new(state.head, RequestState { attempts, unread, ..known }))
}

fn parse(text: &str) -> Result<RequestId> {
    text.parse().map_err(|error: types::ParseError| refused(Code::InvalidRequestId, error.to_string()))
}

/// What the log tells this caller about a request. Another org's is as if it was never seen.
fn known(state: &Decided, caller: &Caller, id: RequestId, now: Timestamp) -> RequestState {
    let nothing = |verdict: RequestVerdict, is_final| RequestState {
        request_id: id,
        state: verdict,
        outcome: verdict.outcome(),
        is_final,
        event: None,
        reason: None,
        code: None,
        at: None,
        attempts: Vec::new(),
        unread: Vec::new(),
    };
    let visible = state.requests.get(id).filter(|decided| is_visible(state, Some(caller), decided));
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

/// Whether a caller may know what came of a request. Who was not let in (a machine that is to be
/// enrolled, say) may know of requests in the name of no org.
pub(super) fn is_visible(state: &Decided, caller: Option<&Caller>, decided: &Decision) -> bool {
    match caller.map(|caller| caller.who) {
        Some(Who::Person { org, .. }) => {
            principal_org(state, decided.principal) == Some(org)
                || belongs_to_server(state, decided.principal)
        }
        Some(Who::Node(_)) => false,
        None => belongs_to_server(state, decided.principal),
    }
}

/// The org of whoever asked.
pub(super) fn principal_org(state: &Decided, principal: Actor) -> Option<OrgId> {
    match principal {
        Actor::Token(token) => state.tokens.get(&token)?.org,
        Actor::Person(person) => Some(state.people.get(&person)?.org),
        Actor::System | Actor::Node(_) => None,
    }
}

/// Nodes and join tokens ask in the name of no org; every owner and viewer may know.
fn belongs_to_server(state: &Decided, principal: Actor) -> bool {
    match principal {
        Actor::System | Actor::Node(_) => true,
        Actor::Person(_) => false,
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
    if state.requests.get(request).is_some_and(|decided| !is_visible(&state, Some(&caller), decided)) {
        return Err(missing(format_args!("request {request}")));
    }
    let (command, actor, judged) = (Command::VoidRequest { request }, caller.actor(), Some(caller.judged));
    let submitted = http.core.propose(Proposal { command, actor, judged, request: None, cause: None });
    let Ok(answer) = tokio::time::timeout(limits::VERDICT_WAIT.into(), submitted).await else {
        let detail = format!("the log did not answer within {}", limits::VERDICT_WAIT);
        return Err(undecided(&http, request, Problem::new(Code::UnknownOutcome, detail)));
    };
    match answer {
        Answer::Executed { event, .. } => {
            let _late = http.core.wait_for(event).await;
            let state = http.core.state();
            Ok(At::new(event, known(&state, &caller, request, http.core.now())))
        }
        // About who asks, and not about the request.
        Answer::Refused { code, text, .. } if code == Code::Unauthenticated.as_str() => {
            Err(Problem::new(Code::Unauthenticated, text).into())
        }
        Answer::Refused { code, text, .. } => {
            let problem = Problem::new(code.parse().unwrap_or(Code::Conflict), text);
            Err(undecided(&http, request, problem))
        }
        Answer::Unavailable { storage_full, why } => {
            Err(undecided(&http, request, write::not_now(storage_full, why)))
        }
        Answer::Unknown { why } => Err(undecided(&http, request, Problem::new(Code::UnknownOutcome, why))),
    }
}

/// Voiding failed. The problem is about the request that was to be voided, so its outcome is that
/// request's: one without a verdict may still run, unless it is too old to.
fn undecided(http: &Http, request: RequestId, problem: Problem) -> Refused {
    let state = http.core.state();
    let decided = state.requests.get(request);
    let outcome = match decided.map(|decided| &decided.verdict) {
        Some(Verdict::Executed(_)) => Outcome::Executed,
        Some(Verdict::Refused { .. } | Verdict::Voided) => Outcome::NotExecuted,
        None if problem.code == Code::RequestExpired => problem.outcome,
        None => Outcome::Unknown,
    };
    let mut problem = problem.with_request(request).with_outcome(outcome);
    if outcome == Outcome::Unknown {
        problem.hint = Some(format!("holdfast requests void {request}"));
    }
    let event = decided.map(|decided| decided.event);
    Refused { problem: Box::new(problem), event, settled: true }
}
