//! What the page answers by itself: logins with a token, logouts, and forms that it refuses before the API is
//! asked. Everything else on the page is a call of the API, whose line is written there.

use super::{kind, source};
use crate::{
    audit::{self, Attempted, Ended, Note},
    http::{Http, Shared, session},
    secret::Secret,
};
use api::{Outcome, Problem};
use axum::{
    extract::{Request, State},
    http::{Extensions, HeaderMap, Method, request::Parts},
    middleware::Next,
    response::Response,
};
use domain::Actor;

/// What became of a form that the page answered by itself. Rides along with the answer.
#[derive(Clone, Debug)]
pub(crate) struct OnPage {
    actor: Option<Actor>,
    problem: Option<Box<Problem>>,
}

impl OnPage {
    /// It was done, for whom.
    pub(crate) fn done(actor: Actor) -> Self {
        Self { actor: Some(actor), problem: None }
    }

    /// It was not, of whom if that is known.
    pub(crate) fn refused(problem: &Problem, actor: Option<Actor>) -> Self {
        Self { actor, problem: Some(Box::new(problem.clone())) }
    }

    /// The answer that tells it.
    pub(crate) fn on(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }

    fn attempted(self, http: &Http, parts: &Parts) -> Option<Attempted> {
        let Self { actor, problem } = self;
        let ended = problem.as_ref().map_or(Some(Ended::Executed), |problem| kind(problem))?;
        let path = parts.uri.path_and_query().map_or("/", |whole| whole.as_str());
        let (mut request, hidden) = audit::request(None, parts.method.as_str(), path, b"", true);
        request.cut = Some("what a form says is not kept".to_owned());
        let outcome = problem.as_ref().map_or(Outcome::Executed, |problem| problem.outcome);
        let why = problem.as_ref().map_or(String::new(), |problem| problem.detail.clone());
        let reason = audit::scrubbed(why, &request, &hidden);
        let source = source(parts);
        let may_flood = ended != Ended::Executed;
        let flood = may_flood.then(|| source.clone().unwrap_or_else(|| "unknown sources".to_owned()));
        let actor = actor.map_or("nobody".to_owned(), |actor| actor.to_string());
        let code = problem.map(|problem| problem.code);
        let note = Note { source, code, reason, ..Note::new(ended, actor, request, outcome) };
        Some(Attempted { at: http.core.now(), note, flood })
    }
}

/// The layer around the forms of the page.
pub(crate) async fn watch(State(http): State<Http>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let mut response = next.run(Request::from_parts(parts.clone(), body)).await;
    let told = response.extensions_mut().remove::<OnPage>();
    if let Some(attempted) = told.and_then(|told| told.attempted(&http, &parts)) {
        http.audit.record(&http.core, attempted).await;
    }
    response
}

impl Shared {
    /// Who has logged in, as the cookie in these headers shows.
    pub(crate) fn visitor(&self, headers: &HeaderMap, connection: &Extensions) -> Option<Actor> {
        session::find(self, headers, connection).map(|found| found.owner())
    }

    /// Whose token this is, also one that opens nothing any more.
    pub(crate) fn bearer(&self, secret: &str) -> Option<Actor> {
        let known = self.core.state().token_hashes.get(&Secret::from_text(secret).hash()).copied();
        known.map(Actor::Token)
    }
}
