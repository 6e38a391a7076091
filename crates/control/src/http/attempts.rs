//! What was attempted and did not come about is written down here, on its way out.
//!
//! Of every request that would change something this keeps what it says until there is an outcome.
//! What was executed stands in the log; what was refused, denied or failed, and what nobody waited for
//! any more, goes into the journal of this member, unless another member answered and has it there. A
//! guarded act writes its own lines, and says so.

pub(crate) mod page;

use super::{
    Http, access,
    answer::Carried,
    forward::Foreign,
    session::Peer,
    table::{self, Row, Rule},
    write,
};
use crate::{
    audit::{self, Attempted, Ended, Note},
    cluster::Forwarded,
};
use api::{Code, Outcome, Problem, routes as at};
use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{Extensions, request::Parts},
    middleware::Next,
    response::Response,
};
use bytes::{Bytes, BytesMut};
use domain::Actor;
use futures_util::StreamExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use types::limits;

/// What is kept of a request that would change something. Rides along as an extension.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempt(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    body: Vec<Bytes>,
    size: usize,
    is_whole: bool,
    actor: Option<Actor>,
    /// A guarded act that was confirmed: what it comes to is written by whoever runs it, also when
    /// nobody waits any more.
    is_confirmed: bool,
    /// There is a line of it.
    is_written: bool,
}

impl Attempt {
    /// Its line was written elsewhere.
    pub(super) fn is_written(parts: &Parts) {
        if let Some(attempt) = parts.extensions.get::<Self>() {
            attempt.kept().is_written = true;
        }
    }

    /// It was confirmed, and that is written.
    pub(super) fn is_confirmed(parts: &Parts) {
        if let Some(attempt) = parts.extensions.get::<Self>() {
            attempt.kept().is_confirmed = true;
        }
    }

    /// It is of this one, whom a session has introduced.
    pub(super) fn is_of(extensions: &Extensions, actor: Actor) {
        if let Some(attempt) = extensions.get::<Self>() {
            attempt.kept().actor = Some(actor);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same body, of which everything that is read is kept.
    fn keep(&self, body: Body) -> Body {
        let (during, after) = (self.clone(), self.clone());
        let pieces = body.into_data_stream().inspect(move |piece| {
            let mut kept = during.kept();
            if let Ok(piece) = piece
                && kept.size + piece.len() <= limits::REQUEST_BODY.bytes() as usize
            {
                kept.size += piece.len();
                kept.body.push(piece.clone());
            }
        });
        let end = futures_util::stream::once(async move {
            after.kept().is_whole = true;
            Ok(Bytes::new())
        });
        Body::from_stream(pieces.chain(end))
    }

    fn body(&self) -> (Bytes, bool) {
        let kept = self.kept();
        let mut whole = BytesMut::with_capacity(kept.size);
        kept.body.iter().for_each(|piece| whole.extend_from_slice(piece));
        (whole.freeze(), kept.is_whole)
    }
}

/// What is done and stands in no log: it is written down when it is done, too.
const UNLOGGED: [&str; 5] =
    [at::VIEW_REBUILD, at::CLUSTER_SNAPSHOT, at::CLUSTER_BACKUP, at::LOGIN, at::LOGOUT];

/// The layer between the rim and the gate.
pub(super) async fn watch(State(http): State<Http>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let row = path.and_then(|path| table::row(request.method().as_str(), path.as_str()));
    let Some(row) = row.filter(|row| row.method != "GET") else { return next.run(request).await };
    let attempt = Attempt::default();
    let (mut parts, body) = request.into_parts();
    parts.extensions.insert(attempt.clone());
    let mut watched = Watched { http, row, attempt: attempt.clone(), parts: Some(parts.clone()) };
    let response = next.run(Request::from_parts(parts, attempt.keep(body))).await;
    let parts = watched.parts.take();
    if let Some(attempted) = parts.and_then(|parts| watched.ended(&parts, &response)) {
        watched.http.audit.record(&watched.http.core, attempted).await;
    }
    response
}

/// A request under way. Dropped with its head, nobody waits for its outcome.
struct Watched {
    http: Http,
    row: &'static Row,
    attempt: Attempt,
    parts: Option<Parts>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        let kept = {
            let kept = self.attempt.kept();
            (kept.is_confirmed, kept.is_written, kept.is_whole)
        };
        let (false, false, is_whole) = kept else { return };
        if is_question(self.row, &parts) {
            return;
        }
        let (kind, why, outcome) = match (std::thread::panicking(), is_whole || !self.has_body()) {
            (true, _) => (Ended::Failed, "the server failed while it answered", Outcome::Unknown),
            (false, false) => {
                let why = "whoever asked hung up before all of the request was here";
                (Ended::Abandoned, why, Outcome::NotExecuted)
            }
            (false, true) => {
                (Ended::Abandoned, "whoever asked hung up before there was an outcome", Outcome::Unknown)
            }
        };
        let attempted = self.attempted(&parts, kind, None, why.to_owned(), outcome);
        self.http.audit.offer(&self.http.core, attempted);
    }
}

impl Watched {
    /// Whether nothing can be done before the body was read.
    fn has_body(&self) -> bool {
        self.row.body.is_some()
    }

    /// What is to be written down of an answer, if anything is.
    fn ended(&self, parts: &Parts, response: &Response) -> Option<Attempted> {
        if self.attempt.kept().is_written || response.extensions().get::<Foreign>().is_some() {
            return None;
        }
        let Some(Carried { problem, .. }) = response.extensions().get::<Carried>() else {
            let is_done = response.status().is_success() && UNLOGGED.contains(&self.row.path);
            let done = || self.attempted(parts, Ended::Executed, None, String::new(), Outcome::Executed);
            return is_done.then(done);
        };
        let kind = kind(problem)?;
        if kind != Ended::Denied && is_question(self.row, parts) {
            return None;
        }
        let why = problem.detail.clone();
        Some(self.attempted(parts, kind, Some(problem.code), why, problem.outcome))
    }

    fn attempted(
        &self,
        parts: &Parts,
        kind: Ended,
        code: Option<Code>,
        why: String,
        outcome: Outcome,
    ) -> Attempted {
        let (core, headers) = (&self.http.core, &parts.headers);
        let (body, is_whole) = self.attempt.body();
        let is_whole = is_whole || !self.has_body();
        let path = parts.uri.path_and_query().map_or("/", |whole| whole.as_str());
        let id = write::request_id(headers);
        let (request, hidden) = audit::request(id, parts.method.as_str(), path, &body, is_whole);
        let introduced = self.attempt.kept().actor;
        let known = introduced.or_else(|| {
            access::authenticate(&core.state(), headers, core.now()).ok().map(|caller| caller.actor())
        });
        let actor = known.or_else(|| access::presented(&core.state(), headers).map(Actor::Token));
        let actor = actor.map_or("nobody".to_owned(), |actor| actor.to_string());
        let source = source(parts);
        let flood = self.flood(kind, code, known, source.as_deref());
        let reason = audit::scrubbed(why, &request, &hidden);
        let note = Note { source, code, reason, ..Note::new(kind, actor, request, outcome) };
        Attempted { at: core.now(), note, flood }
    }

    /// Who it is counted for, if it may be one of a flood: nodes say the same again and again while something
    /// is wrong, whoever is not let in may knock as often as he likes, and whoever asks too fast goes on
    /// asking. What was executed is never counted only. `known`: who it is, if that was shown.
    fn flood(
        &self,
        kind: Ended,
        code: Option<Code>,
        known: Option<Actor>,
        source: Option<&str>,
    ) -> Option<String> {
        match (kind, known) {
            (Ended::Executed, _) => None,
            (_, Some(actor)) if code == Some(Code::RateLimited) => Some(actor.to_string()),
            (Ended::Denied, _) | (_, None) => Some(source.unwrap_or("unknown sources").to_owned()),
            _ if self.row.rule == Rule::Node => Some(source.unwrap_or("unknown sources").to_owned()),
            _ => None,
        }
    }
}

/// What kind of end a problem is; none if what was asked for is done.
pub(super) fn kind(problem: &Problem) -> Option<Ended> {
    match problem.code {
        Code::NotVisibleYet => None,
        Code::Unauthenticated
        | Code::Forbidden
        | Code::Denied
        | Code::LoginExpired
        | Code::LoginRefused
        | Code::LoginUnlinked => Some(Ended::Denied),
        Code::UnknownOutcome
        | Code::Internal
        | Code::Unavailable
        | Code::StorageFull
        | Code::NoQuorum
        | Code::ImageUnavailable
        | Code::ProviderUnavailable
        | Code::StreamLimit => Some(Ended::Failed),
        _ => Some(Ended::Refused),
    }
}

/// Whether it only asks what would happen, which a route must know how to be asked.
fn is_question(row: &Row, parts: &Parts) -> bool {
    let is_flag = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        [at::EXPLAIN_FLAG, "plan"].contains(&key) && row.query.contains(&key) && value != "false"
    };
    parts.uri.query().is_some_and(|query| query.split('&').any(is_flag))
}

/// Where a request came from: another member says it of what it hands on.
pub(super) fn source(parts: &Parts) -> Option<String> {
    if let Some(Forwarded { by }) = parts.extensions.get::<Forwarded>() {
        let said = parts.headers.get(at::HOLDFAST_SOURCE).and_then(|value| value.to_str().ok());
        return Some(said.map_or_else(|| format!("member {by}"), str::to_owned));
    }
    parts.extensions.get::<Peer>().map(|Peer(address)| audit::source(*address))
}

/// A request of a guarded act as a line holds it.
pub(super) fn of_said(said: &super::input::Said) -> api::AuditRequest {
    let path = said.parts.uri.path_and_query().map_or("/", |whole| whole.as_str());
    let id = write::request_id(&said.parts.headers);
    audit::request(id, said.parts.method.as_str(), path, &said.body, true).0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{answer::Refused, guard::tests::World};
    use axum::{http::header, response::IntoResponse};

    /// A write that another member has to answer, when it is known here already: it is not let in yet.
    fn watched(http: &Http, token: Option<&str>) -> Watched {
        let request = Request::builder().method("POST").uri(at::TOKENS);
        let request = match token {
            Some(token) => request.header(header::AUTHORIZATION, format!("Bearer {token}")),
            None => request,
        };
        let (parts, _) = request.body(()).expect("a request").into_parts();
        let row = table::row("POST", at::TOKENS).expect("a row");
        Watched { http: http.clone(), row, attempt: Attempt::default(), parts: Some(parts) }
    }

    /// What is counted of a call that fails before anybody is let in, as at a member that knows no leader.
    fn of_failure(http: &Http, token: Option<&str>) -> Option<String> {
        let mut watched = watched(http, token);
        let parts = watched.parts.take().expect("its head");
        let failed = Refused::from(Problem::new(Code::NoQuorum, "no member leads")).into_response();
        let attempted = watched.ended(&parts, &failed).expect("a line");
        assert_eq!(attempted.note.ended, Ended::Failed);
        attempted.flood
    }

    #[tokio::test]
    async fn what_strangers_do_before_they_are_turned_away_is_counted() {
        let world = World::start().await;
        assert_eq!(of_failure(&world.http, Some("hf_ann")), None, "of a member each is told");
        let strangers = Some("unknown sources".to_owned());
        assert_eq!(of_failure(&world.http, None), strangers);
        assert_eq!(of_failure(&world.http, Some("hf_guessed")), strangers);
        for _ in 0..limits::FLOOD_LINES + 7 {
            drop(watched(&world.http, None));
        }
        for _ in 0..1000 {
            let figures = world.http.audit.figures();
            if figures.counted == 7 {
                assert_eq!(figures.written.get("abandoned"), Some(&limits::FLOOD_LINES));
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("{:?}", world.http.audit.figures());
    }
}
