//! One visit to one page: who comes, and what the API tells them.

use super::{Web, frame, live, session};
use crate::http::{OnPage, UNATTENDED, connection_of, is_named};
use api::{Code, Problem, TokenRole, Whoami, routes};
use axum::{
    body::{Body, to_bytes},
    extract::FromRequestParts,
    http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, request::Parts},
    response::Response,
};
use bytes::Bytes;
use domain::Actor;
use maud::html;
use serde::de::DeserializeOwned;
use std::sync::{Mutex, PoisonError};
use tower::ServiceExt;
use types::{EventId, Name, RequestId, Timestamp, limits};

/// What the API says, or why it does not.
pub(super) type Answer<T> = Result<T, Box<Problem>>;

/// A visitor who is let in, and what has been asked for them so far.
pub(super) struct Visit {
    pub(super) web: Web,
    /// What shows the API who asks.
    shown: HeaderMap,
    /// What is known of their connection.
    connection: Extensions,
    /// What a form of this visitor has to bring back.
    pub(super) csrf: String,
    pub(super) who: Who,
    /// When the page is made.
    pub(super) now: Timestamp,
    /// Path and query of the page.
    pub(super) path: String,
    pub(super) query: String,
    fresh: Mutex<Fresh>,
}

/// Who a visitor is, as the API says.
#[derive(Clone, Debug, Default)]
pub(super) struct Who {
    pub(super) principal: String,
    /// What it may do; nothing before the API has said it.
    pub(super) role: Option<TokenRole>,
    /// The name it logs in with, if it can.
    pub(super) member: Option<Name>,
    /// Whether it has logged in with a password.
    pub(super) has_session: bool,
    pub(super) org: Option<Name>,
    pub(super) cluster: String,
}

/// What a page reflects: the oldest of what it was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fresh {
    pub(super) event: Option<EventId>,
    /// What a member that does not lead says of the leader: for how many milliseconds it was not heard.
    pub(super) age: Option<String>,
}

/// One call of the API.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: Vec<u8>,
}

impl Visit {
    /// Reads something: the answer, or why there is none.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Answer<T> {
        let path = with(path, self.consistency());
        let bytes =
            self.call(Call { method: Method::GET, path: &path, headers: &[], body: Vec::new() }).await?;
        read(&bytes)
    }

    /// Asks for something, whatever it is. Sent once.
    pub(super) async fn call(&self, call: Call<'_>) -> Answer<Bytes> {
        let (parts, body) = self.send(call).await?.into_parts();
        let bytes = to_bytes(body, limits::CLIENT_BODY).await.map_err(|error| internal(&error))?;
        if parts.status.is_success() {
            return Ok(bytes);
        }
        Err(read(&bytes).unwrap_or_else(|unreadable| unreadable))
    }

    /// The same, with the answer as it comes.
    pub(super) async fn send(&self, call: Call<'_>) -> Answer<Response> {
        let mut request = Request::new(Body::from(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = call.path.parse().map_err(|error| internal(&error))?;
        request.headers_mut().clone_from(&self.shown);
        for (name, value) in call.headers {
            let value = HeaderValue::from_str(value).map_err(|_| {
                let detail = format!("{name} has a character that no header takes");
                Box::new(Problem::new(Code::InvalidRequest, detail))
            })?;
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        request.extensions_mut().clone_from(&self.connection);
        let answer = self.web.api.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        self.note(answer.headers());
        Ok(answer)
    }

    fn note(&self, headers: &HeaderMap) {
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let event = text(routes::HOLDFAST_EVENT).and_then(|text| text.parse::<EventId>().ok());
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.event = match (fresh.event, event) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        if let Some(age) = text(routes::HOLDFAST_AGE) {
            fresh.age = Some(age.to_owned());
        }
    }

    /// Who asks, as far as a session shows it.
    pub(super) fn visitor(&self) -> Option<Actor> {
        self.web.http.visitor(&self.shown, &self.connection)
    }

    /// What the page reflects so far.
    pub(super) fn fresh(&self) -> Fresh {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The org that the visitor belongs to.
    pub(super) fn org(&self) -> &str {
        self.who.org.as_ref().map_or("main", Name::as_str)
    }

    /// Whether the API lets the visitor's role have this, by the table that it asks itself. It decides;
    /// this only spares what it would refuse.
    pub(super) fn may(&self, method: &str, path: &str) -> bool {
        self.who.role.is_some_and(|role| crate::http::may(role, method, path))
    }

    /// The roles that the visitor may give, as a form offers them: the one that may least first.
    pub(super) fn gives(&self) -> Vec<(String, String)> {
        let given = self.who.role.map(crate::http::given_by).unwrap_or_default();
        given.iter().rev().map(|role| (role.to_string(), role.to_string())).collect()
    }

    /// A fresh id for an intent.
    pub(super) fn request_id(&self) -> RequestId {
        RequestId::from_parts(self.now, self.web.http.core().random().u128())
    }

    /// What the page's own query says under this name.
    pub(super) fn asked(&self, name: &str) -> Option<String> {
        asked(&self.query, name)
    }

    fn consistency(&self) -> Option<&'static str> {
        self.query.split('&').any(|pair| pair == "consistency=stale").then_some("consistency=stale")
    }
}

/// The value of a name in a query, if it is there.
pub(super) fn asked(query: &str, name: &str) -> Option<String> {
    let uri = axum::http::Uri::builder().path_and_query(format!("/?{query}")).build().ok()?;
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&uri).ok()?;
    pairs.0.into_iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

fn with(path: &str, pair: Option<&str>) -> String {
    match pair {
        None => path.to_owned(),
        Some(pair) if path.contains('?') => format!("{path}&{pair}"),
        Some(pair) => format!("{path}?{pair}"),
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    serde_json::from_slice(bytes).map_err(|error| internal(&error))
}

fn internal(error: &dyn std::fmt::Display) -> Box<Problem> {
    Box::new(Problem::new(Code::Internal, format!("an answer of the API cannot be read: {error}")))
}

impl FromRequestParts<Web> for Visit {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, web: &Web) -> Result<Self, Response> {
        let now = web.http.core().now();
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let mut shown = session::told_by(&parts.headers);
        // A pulse is asked for by an open page, and its script says so of whatever else it reads by itself.
        if path == live::PULSE || parts.headers.contains_key(UNATTENDED) {
            shown.insert(UNATTENDED, HeaderValue::from_static("true"));
        }
        let Some(csrf) = web.http.csrf_of(&shown, &parts.extensions) else {
            let ended =
                if is_named(&parts.headers, &parts.extensions) { "Your session has ended. " } else { "" };
            return Err(session::ask_again(parts, &format!("{ended}Log in to see this page.")));
        };
        // A form is held against its own by the page before anything is asked in its name.
        shown.insert(routes::CSRF, HeaderValue::from_str(&csrf).expect("digits can stand in a header"));
        let mut visit = Self {
            web: web.clone(),
            shown,
            connection: connection_of(&parts.extensions),
            csrf,
            who: Who::default(),
            now,
            path,
            query,
            fresh: Mutex::default(),
        };
        match visit.get::<Whoami>(routes::WHOAMI).await {
            Ok(Whoami { principal, role, org, cluster, member, token, .. }) => {
                let (role, has_session) = (Some(role), token.is_none());
                visit.who = Who { principal, role, member, has_session, org, cluster };
            }
            Err(problem) if problem.code == Code::Unauthenticated => {
                return Err(session::ask_again(
                    parts,
                    &format!("Your session has ended: {}.", problem.detail),
                ));
            }
            Err(problem) => {
                let content = html! { h1 { "Not available" } (super::parts::problem(&problem)) };
                let told = OnPage::refused(&problem, web.http.visitor(&visit.shown, &parts.extensions));
                return Err(told.on(frame::bare("Not available", &content, &problem)));
            }
        }
        *visit.fresh.lock().unwrap_or_else(PoisonError::into_inner) = Fresh::default();
        Ok(visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_read_decoded() {
        assert_eq!(asked("a=1&id=x%20y", "id"), Some("x y".into()));
        assert_eq!(asked("a=1", "id"), None);
        assert_eq!(
            with("/v1/nodes?limit=3", Some("consistency=stale")),
            "/v1/nodes?limit=3&consistency=stale"
        );
        assert_eq!(with("/v1/nodes", None), "/v1/nodes");
    }
}
