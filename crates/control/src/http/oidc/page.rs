//! The page's way to a login by way of a provider. What does not come about is written down like a login
//! with a wrong password, and who came in like one with the right one.

use super::{
    super::{Http, answer::Result, attempts, session},
    Brought, Finished, Sent, begin, finish, is_begun_here, shown,
};
use crate::audit::{self, Attempted, Ended, Note};
use api::{AuditRequest, Outcome, Problem};
use axum::http::{Extensions, HeaderMap};
use domain::{Actor, state::Identity};
use std::net::IpAddr;
use types::{Name, PersonId};

/// Logging in by way of a provider, for the page.
pub(crate) struct ByProvider<'a> {
    pub(crate) http: &'a Http,
    pub(crate) headers: &'a HeaderMap,
    /// What is known of the connection.
    pub(crate) connection: &'a Extensions,
}

impl ByProvider<'_> {
    /// Name and title of each provider.
    pub(crate) fn titles(http: &Http) -> Vec<(Name, String)> {
        http.providers.titles()
    }

    /// Sends a browser to a provider; `to` is the page to go on with.
    pub(crate) async fn begin(&self, name: &str, to: String) -> std::result::Result<Sent, Box<Problem>> {
        let begun = self.begun(name, to).await.map_err(|refused| refused.problem);
        if let Err(problem) = &begun {
            self.write_down(format!("/login/{name}"), None, Err(problem)).await;
        }
        begun
    }

    async fn begun(&self, name: &str, to: String) -> Result<Sent> {
        is_begun_here(self.headers)?;
        let had = session::had(self.headers, self.connection);
        begin(self.http, name, to, had, self.address()).await
    }

    /// Takes what it brings back.
    pub(crate) async fn finish(&self, name: &str, brought: &Brought) -> Finished {
        let finished = finish(self.http, name, brought, self.headers, self.connection).await;
        let Finished { opened, identity, .. } = &finished;
        let ended = opened.as_ref().map(|opened| opened.person).map_err(|problem| &**problem);
        match &ended {
            Ok(_) => self.http.logins.forgive_from(self.address()),
            Err(problem) => {
                self.http.logins.failed();
                let (why, address) = (&problem.detail, self.address());
                tracing::info!(provider = name, ?address, why, "a login by way of a provider failed");
            }
        }
        self.write_down(format!("/login/{name}/callback"), identity.as_ref(), ended).await;
        finished
    }

    /// Of the query nothing is kept: with what stands in it somebody could come in.
    async fn write_down(
        &self,
        path: String,
        identity: Option<&Identity>,
        ended: std::result::Result<PersonId, &Problem>,
    ) {
        let (core, source) = (&self.http.core, self.address().map(audit::source));
        let body = identity
            .map(|Identity { issuer, subject }| serde_json::json!({ "issuer": issuer, "subject": subject }));
        let request =
            AuditRequest { method: "GET".into(), path: shown(&path), body, ..AuditRequest::default() };
        let (kind, actor, outcome) = match ended {
            Ok(person) => (Ended::Executed, Actor::Person(person).to_string(), Outcome::Executed),
            Err(problem) => {
                (attempts::kind(problem).unwrap_or(Ended::Denied), "nobody".to_owned(), problem.outcome)
            }
        };
        let flood = Some(source.clone().unwrap_or_else(|| "unknown sources".to_owned()));
        let code = ended.err().map(|problem| problem.code);
        let reason = ended.err().map(|problem| problem.detail.clone()).unwrap_or_default();
        let note = Note { source, code, reason, ..Note::new(kind, actor, request, outcome) };
        self.http.audit.record(core, Attempted { at: core.now(), note, flood }).await;
    }

    fn address(&self) -> Option<IpAddr> {
        self.connection.get::<session::Peer>().map(|peer| peer.0)
    }
}
