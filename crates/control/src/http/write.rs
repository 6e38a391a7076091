//! Writes: a request id, one verdict, a receipt.
//!
//! `request_runs_once`: what is known of the request id is looked at before anything else, so a
//! request sent again gets its verdict even when what it needed then (a registry, say) is gone now.
//! The sequencer looks again, against what is under way.

use super::{
    Http,
    access::Caller,
    answer::{At, Refused, Result, refused},
    copies::UnderWay,
    input::{self, Said},
};
use crate::{sequencer::Proposal, writer::Answer};
use api::{Code, EventSummary, Outcome, Problem, Receipt, ResultBody, routes};
use axum::http::{HeaderMap, header};
use domain::{Actor, Command, Done, Envelope, Event, State, Verdict};
use rt::Boundary;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use types::{EventId, RequestId, limits};

/// A write as it was asked for.
pub(super) struct Write {
    /// Its request.
    pub(super) id: RequestId,
    copy: Arc<UnderWay>,
    actor: Actor,
    judged: Option<EventId>,
    hash: [u8; 32],
    condition: Option<Condition>,
}

/// What `If-Match` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition {
    Exists,
    OneOf(Vec<String>),
}

/// What came of a write.
pub(super) struct Executed {
    pub(super) done: Done,
    pub(super) event: EventId,
    pub(super) replayed: bool,
}

impl Write {
    /// Reads the head of a write: it must name its request, of which a copy is under way from here
    /// until the log has answered or the handler has ended.
    pub(super) fn read(http: &Http, said: &Said, caller: &Caller) -> Result<Self> {
        Self::of(http, said, caller.actor(), Some(caller.judged))
    }

    /// The same of somebody whom the gate does not know, and who is judged where the command is decided.
    pub(super) fn of(http: &Http, said: &Said, actor: Actor, judged: Option<EventId>) -> Result<Self> {
        let headers = &said.parts.headers;
        let Some(value) = headers.get(routes::IDEMPOTENCY_KEY) else {
            let problem = Problem::new(
                Code::InvalidRequest,
                "a write must name its request in the Idempotency-Key header",
            );
            return Err(problem
                .with_hint("send a fresh ULID or UUIDv7, and the same one when you send it again")
                .into());
        };
        let text = value.to_str().unwrap_or("not text");
        let id = text.parse().map_err(|error: types::ParseError| {
            let problem = Problem::new(Code::InvalidRequestId, error.to_string());
            problem.with_hint("make a fresh ULID or UUIDv7 for each intent")
        })?;
        let hash = fingerprint(said)?;
        let copy = Arc::new(http.copies.enter(id));
        Ok(Self { id, copy, actor, judged, hash, condition: condition(headers)? })
    }

    /// What is known of this request already.
    pub(super) fn before(&self, state: &State) -> Result<Option<Executed>> {
        let Some(decided) = state.requests.get(self.id) else { return Ok(None) };
        if decided.verdict == Verdict::Voided {
            let detail = format!("request {} was voided: it may never run", self.id);
            return Err(refusal(Code::RequestVoided, detail, Some(decided.event)));
        }
        if decided.body != self.hash || decided.principal != self.actor {
            let detail = format!("request {} was used before, for something else", self.id);
            return Err(refusal(Code::RequestIdReused, detail, None));
        }
        match &decided.verdict {
            Verdict::Executed(done) => {
                Ok(Some(Executed { done: done.clone(), event: decided.event, replayed: true }))
            }
            Verdict::Refused { code, text } => Err(refusal(known(code), text.clone(), Some(decided.event))),
            Verdict::Voided => unreachable!("answered above"),
        }
    }

    /// Holds `If-Match` against the event that last changed what is written to.
    ///
    /// The comparison is made before the command is queued; what other writers queue at the same
    /// moment is decided by the order of the log.
    pub(super) fn check(&self, changed: Option<EventId>) -> Result<()> {
        let met = match (&self.condition, changed) {
            (None, _) | (Some(Condition::Exists), Some(_)) => true,
            (Some(_), None) => false,
            (Some(Condition::OneOf(tags)), Some(event)) => tags.contains(&event.to_string()),
        };
        if met {
            return Ok(());
        }
        let now = changed.map_or("it does not exist".to_owned(), |event| format!("it is at \"{event}\""));
        let problem = Problem::new(Code::PreconditionFailed, format!("If-Match names another state: {now}"));
        Err(problem.with_hint("look at what is there now and decide again").into())
    }

    /// Has a command decided under this request, within a bound.
    pub(super) async fn submit(&self, http: &Http, command: Command) -> Result<Executed> {
        Boundary::WriteReceived.reached();
        let (actor, judged, request) = (self.actor, self.judged, Some((self.id, self.hash)));
        let proposal = Proposal { command, actor, judged, request, cause: None };
        let core = http.core.clone();
        let copy = self.copy.clone();
        // A task of its own: what is queued is under way until the log has answered, even when its
        // handler has ended (the client hung up, or the bound passed).
        let submitted = tokio::spawn(async move {
            let answer = core.propose(proposal).await;
            drop(copy);
            answer
        });
        let Ok(answer) = tokio::time::timeout(limits::VERDICT_WAIT.into(), submitted).await else {
            let detail = format!("the log did not answer within {}", limits::VERDICT_WAIT);
            return Err(self.unknown(detail));
        };
        Boundary::WriteAnswered.reached();
        match answer.unwrap_or_else(|error| Answer::Unknown { why: error.to_string() }) {
            Answer::Executed { done, event, replayed } => Ok(Executed { done, event, replayed }),
            Answer::Refused { code, text, event, .. } => Err(refusal(known(&code), text, event)),
            Answer::Unavailable { storage_full, why } => Err(not_now(storage_full, why).into()),
            Answer::Unknown { why } => Err(self.unknown(why)),
        }
    }

    fn unknown(&self, why: String) -> Refused {
        let problem = Problem::new(Code::UnknownOutcome, why).with_request(self.id);
        problem.with_hint(format!("holdfast requests show {}", self.id)).into()
    }

    /// Waits until readers see the write, bounded, and says what came of it.
    pub(super) async fn receipt(&self, http: &Http, executed: Executed) -> Result<At<Receipt>> {
        self.receipt_with(http, executed, None).await
    }

    /// The same with a secret that is shown this once.
    pub(super) async fn receipt_with(
        &self,
        http: &Http,
        executed: Executed,
        secret: Option<String>,
    ) -> Result<At<Receipt>> {
        let Executed { done, event, replayed } = executed;
        // Past the bound the receipt says the same: it is executed. A read that needs it says so.
        let _late = http.core.wait_for(event).await;
        let events = caused(http, self.id, event).await;
        let state = http.core.state();
        let mut result = result(&state, &done);
        if events.iter().all(|summary| summary.kind == DECIDED) {
            result.unchanged = Some(done.summary);
        }
        if replayed
            && result.token.is_some()
            && events.iter().any(|summary| ["token.created", "token.issued"].contains(&summary.kind.as_str()))
        {
            result.unchanged = Some("executed before; the secret was in the first answer only".to_owned());
        }
        result.secret = secret;
        let tag = done.env.and_then(|env| state.envs.get(&env)).map(|env| env.changed);
        let receipt = Receipt { request_id: self.id, outcome: Outcome::Executed, event, events, result };
        let answer = At::new(event, receipt);
        Ok(match tag {
            Some(tag) => answer.tagged(tag),
            None => answer,
        })
    }
}

/// The request that a head names, if it names one.
pub(super) fn request_id(headers: &HeaderMap) -> Option<RequestId> {
    headers.get(routes::IDEMPOTENCY_KEY)?.to_str().ok()?.parse().ok()
}

/// Reads the body of a write.
pub(super) fn parse<T: DeserializeOwned>(said: &Said) -> Result<T> {
    input::json(&said.body)
}

/// A refusal that stands in the log, or that the request's id earned by itself.
fn refusal(code: Code, text: String, event: Option<EventId>) -> Refused {
    let mut problem = Problem::new(code, text).with_outcome(Outcome::NotExecuted);
    problem.hint = hint(code).map(str::to_owned);
    if code == Code::InvalidManifest {
        problem.path = problem.detail.split_once(": ").map(|(path, _)| path.to_owned());
    }
    // These verdicts are final for every copy; another refusal without an event is about the moment.
    let lasting = [Code::RequestIdReused, Code::RequestVoided, Code::RequestExpired, Code::Unauthenticated];
    Refused { problem: Box::new(problem), event, settled: event.is_some() || lasting.contains(&code) }
}

fn hint(code: Code) -> Option<&'static str> {
    match code {
        Code::RequestIdReused | Code::RequestExpired | Code::RequestVoided => {
            Some("make a new request id for a new intent")
        }
        Code::Unauthenticated => Some("ask an owner for a new one: holdfast tokens create"),
        Code::RequestAhead => Some("set the clock of the machine that made the request id"),
        Code::RouteTaken => Some("holdfast routes"),
        Code::NoSuchProcess => Some("holdfast status"),
        _ => None,
    }
}

/// The code a rule answered with. The domain's words are those of the contract.
fn known(code: &str) -> Code {
    code.parse().unwrap_or_else(|_| {
        tracing::error!(code, "the domain knows a code that the contract does not");
        Code::Conflict
    })
}

/// This copy was certainly not executed.
pub(super) fn not_now(storage_full: bool, why: String) -> Problem {
    let code = if storage_full { Code::StorageFull } else { Code::Unavailable };
    let hint = match storage_full {
        true => "free space where the server keeps its data; writes work again by themselves",
        false => "it was not executed; send it again in a while",
    };
    Problem::new(code, why).with_hint(hint)
}

/// What of a body is no part of its fingerprint: it goes into the log, and a fast hash over a password
/// would let every reader of the log try passwords against it.
const NOT_HASHED: [&str; 2] = ["password", "current"];

/// SHA-256 over method, path, query and the body in one canonical form, so that the same intent
/// written with other spaces or another order of keys is still the same request.
fn fingerprint(said: &Said) -> Result<[u8; 32]> {
    let mut hash = Sha256::new();
    hash.update(said.parts.method.as_str());
    hash.update(b"\n");
    hash.update(said.parts.uri.path());
    if let Some(query) = said.parts.uri.query().filter(|query| !query.is_empty()) {
        hash.update(b"?");
        hash.update(query);
    }
    hash.update(b"\n");
    let mut value: serde_json::Value = input::json(&said.body)?;
    if let Some(fields) = value.as_object_mut() {
        NOT_HASHED.iter().for_each(|secret| drop(fields.remove(*secret)));
    }
    let mut canonical = Vec::with_capacity(said.body.len());
    canonicalise(&value, &mut canonical);
    hash.update(&canonical);
    Ok(hash.finalize().into())
}

/// JSON with sorted keys and no spaces.
pub(super) fn canonicalise(value: &serde_json::Value, to: &mut Vec<u8>) {
    use serde_json::Value;
    match value {
        Value::Object(map) => {
            let sorted: std::collections::BTreeMap<_, _> = map.iter().collect();
            to.push(b'{');
            for (key, value) in sorted {
                to.extend(Value::String(key.clone()).to_string().bytes());
                to.push(b':');
                canonicalise(value, to);
                to.push(b',');
            }
            to.push(b'}');
        }
        Value::Array(values) => {
            to.push(b'[');
            for value in values {
                canonicalise(value, to);
                to.push(b',');
            }
            to.push(b']');
        }
        leaf => to.extend(leaf.to_string().bytes()),
    }
}

fn condition(headers: &HeaderMap) -> Result<Option<Condition>> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().map_err(|_| refused(Code::InvalidRequest, "If-Match is not text"))?;
    if text.trim() == "*" {
        return Ok(Some(Condition::Exists));
    }
    let tags = text.split(',').map(|tag| tag.trim().trim_start_matches("W/").trim_matches('"').to_owned());
    Ok(Some(Condition::OneOf(tags.collect())))
}

/// The kind of the event that every request leaves, whatever else it does.
const DECIDED: &str = "request.decided";

/// Every event of a request, which stand together and end with `last`.
async fn caused(http: &Http, request: RequestId, last: EventId) -> Vec<EventSummary> {
    let core = http.core.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut found: Vec<Envelope> = Vec::new();
        // Most requests cause a handful; the widest possible window is read only if need be.
        for window in [16, limits::COMMAND_EVENTS as u64 + 1] {
            let after = EventId::new(last.get().saturating_sub(window));
            let all = core.events(after, (last.get() - after.get()) as usize)?;
            let whole = all.first().is_none_or(|first| first.request != Some(request));
            found = all.into_iter().filter(|envelope| envelope.request == Some(request)).collect();
            if whole {
                break;
            }
        }
        Ok::<_, crate::writer::StartError>(found)
    });
    match read.await {
        Ok(Ok(found)) => {
            let cluster = http.core.state().cluster.clone();
            found.iter().map(|envelope| summary(envelope, &cluster)).collect()
        }
        Ok(Err(error)) => {
            tracing::error!(%error, %request, "the events of a request cannot be read for its receipt");
            Vec::new()
        }
        Err(error) => {
            tracing::error!(%error, %request, "reading the events of a request failed");
            Vec::new()
        }
    }
}

fn summary(envelope: &Envelope, cluster: &str) -> EventSummary {
    let Envelope { id, event, .. } = envelope;
    EventSummary { id: *id, kind: event.kind().to_owned(), subject: subject_id(event, cluster) }
}

/// The id of what an event is about.
pub(super) fn subject_id(event: &Event, cluster: &str) -> String {
    super::events::subject(event.subject(), cluster).1
}

fn result(state: &State, done: &Done) -> ResultBody {
    let release = done.release.and_then(|id| state.releases.get(&id));
    ResultBody {
        app: done.app,
        env: done.env,
        release: done.release,
        release_number: release.map(|release| u64::from(release.number)),
        image: release.map(|release| release.image.clone()),
        deploy: done.deploy,
        node: done.node,
        token: done.token,
        ..ResultBody::default()
    }
}

/// Reads a write: who asks, its head, and what is known of it already.
pub(super) fn open(http: &Http, caller: &Caller, said: &Said) -> Result<(Write, Option<Executed>)> {
    let write = Write::read(http, said, caller)?;
    let before = write.before(&http.core.state())?;
    Ok((write, before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_comes_with_what_to_do() {
        let full = not_now(true, "no space".into());
        assert_eq!((full.code, full.outcome), (Code::StorageFull, Outcome::NotExecuted));
        assert!(full.hint.is_some_and(|hint| hint.contains("free space where the server keeps its data")));
        let busy = not_now(false, "the queue is full".into());
        assert!(busy.hint.is_some_and(|hint| hint.contains("send it again")));
    }
}
