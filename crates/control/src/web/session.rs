//! Logging in: with a name and a password, which opens a session of the API, or with a token, for which
//! a cookie of the page stands from then on.
//!
//! Invariants:
//! - a token is in this server's memory and in no cookie, page or log; its sessions end with the process,
//!   with [`limits::SESSION_IDLE`] without a visit, after [`limits::SESSION_LIFE`], and with their token.
//! - a form is taken from a page of this server only: the browser must say so, and the form must bring
//!   back what its page was given.

use super::{Web, frame, parts, visit::Answer};
use crate::{http::connection_of, secret::Secret};
use api::{Code, Problem, Whoami, routes};
use axum::{
    Form,
    body::Body,
    extract::{RawQuery, State},
    http::{
        Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header,
        request::Parts,
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use maud::html;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tower::ServiceExt;
use types::{Timestamp, limits};

const COOKIE: &str = "holdfast_session";
/// In which a browser says where a request comes from.
const SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The sessions of one server, by the SHA-256 of their cookie.
#[derive(Default)]
pub(super) struct Sessions {
    open: Mutex<BTreeMap<[u8; 32], Session>>,
}

struct Session {
    authorization: HeaderValue,
    csrf: String,
    made: Timestamp,
    used: Timestamp,
}

/// What is known of who brings a cookie.
pub(super) struct Known {
    /// What shows the API who asks.
    pub(super) shown: HeaderMap,
    /// What a form has to bring back.
    pub(super) csrf: String,
}

/// Who this is, if anybody has logged in: with a token here, or with a password at the API.
pub(super) fn known(web: &Web, headers: &HeaderMap, now: Timestamp) -> Option<Known> {
    web.sessions.known(headers, now).or_else(|| {
        let csrf = web.http.csrf_of(headers)?;
        let mut shown = HeaderMap::new();
        for line in headers.get_all(header::COOKIE) {
            shown.append(header::COOKIE, line.clone());
        }
        // A form is held against both by the page before anything is asked in its name.
        shown.insert(routes::CSRF, HeaderValue::from_str(&csrf).ok()?);
        shown.insert(SITE, HeaderValue::from_static("same-origin"));
        Some(Known { shown, csrf })
    })
}

impl Session {
    fn lives(&self, now: Timestamp) -> bool {
        now >= self.made
            && now.since(self.made) < limits::SESSION_LIFE
            && now.since(self.used) < limits::SESSION_IDLE
    }
}

impl Sessions {
    /// Whose cookie this is, if it is anybody's still. A visit keeps a session from falling idle.
    pub(super) fn known(&self, headers: &HeaderMap, now: Timestamp) -> Option<Known> {
        let hash = hashed(cookie(headers)?);
        let mut open = self.lock();
        let session = open.get_mut(&hash).filter(|session| session.lives(now))?;
        session.used = now;
        let shown = HeaderMap::from_iter([(header::AUTHORIZATION, session.authorization.clone())]);
        Some(Known { shown, csrf: session.csrf.clone() })
    }

    /// Ends the session of a cookie.
    pub(super) fn end(&self, headers: &HeaderMap) {
        if let Some(cookie) = cookie(headers) {
            self.lock().remove(&hashed(cookie));
        }
    }

    /// Begins one; the oldest makes room.
    fn begin(&self, cookie: &str, session: Session) {
        let mut open = self.lock();
        let now = session.made;
        open.retain(|_, session| session.lives(now));
        if open.len() >= limits::WEB_SESSIONS {
            let oldest = open.iter().min_by_key(|(_, session)| session.used).map(|(hash, _)| *hash);
            oldest.map(|hash| open.remove(&hash));
        }
        open.insert(hashed(cookie), session);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<[u8; 32], Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hashed(cookie: &str) -> [u8; 32] {
    Sha256::digest(cookie.as_bytes()).into()
}

fn cookie(headers: &HeaderMap) -> Option<&str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value).next()
}

/// Whether the browser says that a form was sent by a page of this server.
///
/// A browser that is told `no-referrer` sends `Origin: null` with its forms, so what it says in
/// `Sec-Fetch-Site` counts first.
pub(super) fn same_origin(headers: &HeaderMap) -> Answer<()> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let own = match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), _, _) => site == "same-origin",
        (None, Some(origin), Some(host)) => {
            origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) == Some(host)
        }
        _ => false,
    };
    if own {
        return Ok(());
    }
    let detail = "the browser does not say that this form was sent by a page of this server";
    Err(Problem::new(Code::Forbidden, detail).with_hint("open the page here and send its form again").into())
}

/// Whether a form brings back what its page was given.
pub(super) fn genuine(given: &str, expected: &str) -> Answer<()> {
    // By their hashes: how long it takes to compare says nothing of what is compared.
    if hashed(given) == hashed(expected) {
        return Ok(());
    }
    let detail = "the form is not one of this session's";
    Err(Problem::new(Code::Forbidden, detail)
        .with_hint("open its page again and send the form from there")
        .into())
}

/// Sends whoever is not let in to where they can be, and back afterwards.
pub(super) fn ask_again(parts: &Parts, why: &str) -> Response {
    let wants_page = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if parts.method != Method::GET || !wants_page.is_some_and(|accept| accept.contains("text/html")) {
        let problem = Problem::new(Code::Unauthenticated, why);
        return frame::bare(
            "Log in",
            &html! { h1 { "Log in" } (parts::problem(&problem)) p { a href="/login" { "Log in" } } },
            &problem,
        );
    }
    let whole = parts.uri.path_and_query().map_or("/", |whole| whole.as_str());
    let place = routes::fill("/{to}", &[whole]);
    let why = routes::fill("/{why}", &[why]);
    see(&format!("/login?to={}&why={}", &place[1..], &why[1..]))
}

fn see(place: &str) -> Response {
    let place = HeaderValue::from_str(place).unwrap_or(HeaderValue::from_static("/"));
    frame::guarded((StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response())
}

/// Where to go on after a login: a page of this server, or the first one.
fn place(asked: Option<String>) -> String {
    asked
        .filter(|to| to.starts_with('/') && !to.starts_with("//") && !to.contains('\\'))
        .unwrap_or("/".to_owned())
}

/// `GET /login`
pub(super) async fn ask(RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let why = super::visit::asked(&query, "why");
    form(&place(super::visit::asked(&query, "to")), why.as_deref(), None)
}

fn form(to: &str, why: Option<&str>, problem: Option<&Problem>) -> Response {
    let content = html! {
        h1 { "Log in" }
        @if let Some(why) = why { p { (why) } }
        @if let Some(problem) = problem { (parts::problem(problem)) }
        form method="post" action="/login" {
            input type="hidden" name="to" value=(to);
            p {
                label for="name" { "Name" }
                input #name name="name" required autocomplete="username" spellcheck="false";
            }
            p {
                label for="password" { "Password" }
                input #password type="password" name="password" required autocomplete="current-password";
            }
            button { "Log in" }
        }
        h2 { "With a token" }
        form method="post" action="/login" {
            input type="hidden" name="to" value=(to);
            p {
                label for="token" { "Token" }
                input #token type="password" name="token" required autocomplete="off" spellcheck="false"
                    aria-describedby="about-token";
            }
            p #about-token .note {
                "A token as "
                code { "holdfast tokens create" }
                " prints it, or the first one, which "
                code { "holdfast up" }
                " shows once. It is kept in the memory of this server until you log out."
            }
            button #with-token { "Log in with the token" }
        }
    };
    match problem {
        Some(problem) => frame::bare("Log in", &content, problem),
        None => frame::plain("Log in", &content),
    }
}

/// What the form of a login says: a token, or a name and a password.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Login {
    token: String,
    name: String,
    password: String,
    to: Option<String>,
}

/// `POST /login`
pub(super) async fn login(
    State(web): State<Web>,
    headers: HeaderMap,
    extensions: Extensions,
    Form(login): Form<Login>,
) -> Response {
    let to = place(login.to.clone());
    let begun = match same_origin(&headers) {
        Err(problem) => Err(problem),
        Ok(()) if login.token.is_empty() => with_password(&web, &extensions, &login).await,
        Ok(()) => with_token(&web, &extensions, &login).await,
    };
    match begun {
        Ok(cookie) => {
            let mut response = see(&to);
            response.headers_mut().insert(header::SET_COOKIE, cookie);
            response
        }
        Err(problem) => form(&to, None, Some(&problem)),
    }
}

/// Asks the API in the name of a connection. The head and the body of its answer.
async fn ask_api(
    web: &Web,
    extensions: &Extensions,
    mut request: Request<Body>,
) -> Answer<(HeaderMap, Bytes)> {
    *request.extensions_mut() = connection_of(extensions);
    let answer = web.api.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
    let (parts, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, limits::CLIENT_BODY).await.unwrap_or_default();
    if parts.status.is_success() {
        return Ok((parts.headers, bytes));
    }
    let unread = |_| Box::new(Problem::new(Code::Internal, "the API gave no answer"));
    Err(serde_json::from_slice(&bytes).unwrap_or_else(unread))
}

/// Opens a session of the API. Its cookie.
async fn with_password(web: &Web, extensions: &Extensions, login: &Login) -> Answer<HeaderValue> {
    let body = serde_json::json!({ "name": login.name, "password": login.password }).to_string();
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(routes::LOGIN);
    request.headers_mut().insert(SITE, HeaderValue::from_static("same-origin"));
    let (headers, _) = ask_api(web, extensions, request).await?;
    let none = || Box::new(Problem::new(Code::Internal, "the API opened no session"));
    headers.get(header::SET_COOKIE).cloned().ok_or_else(none)
}

/// Keeps a token that the API takes. The cookie that stands for it.
async fn with_token(web: &Web, extensions: &Extensions, login: &Login) -> Answer<HeaderValue> {
    let unreadable = |_| Box::new(Problem::new(Code::Unauthenticated, "this is not a token"));
    let authorization =
        HeaderValue::from_str(&format!("Bearer {}", login.token.trim())).map_err(unreadable)?;
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = Uri::from_static(routes::WHOAMI);
    request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
    let (_, answer) = ask_api(web, extensions, request).await?;
    let unread = |_| Box::new(Problem::new(Code::Internal, "the API gave no answer"));
    serde_json::from_slice::<Whoami>(&answer).map_err(unread)?;
    let (now, random) = (web.http.core().now(), web.http.core().random());
    let cookie = Secret::make(random).reveal().to_owned();
    let csrf = format!("{:032x}", random.u128());
    web.sessions.begin(&cookie, Session { authorization, csrf, made: now, used: now });
    let life = limits::SESSION_LIFE.as_ms() / 1000;
    // `Secure` once the server speaks TLS by itself: a browser would not send it back over plain HTTP.
    let line = format!("{COOKIE}={cookie}; Path=/; HttpOnly; SameSite=Strict; Max-Age={life}");
    HeaderValue::from_str(&line).map_err(|error| Problem::new(Code::Internal, error.to_string()).into())
}

/// What the form of a logout says.
#[derive(serde::Deserialize)]
pub(super) struct Logout {
    csrf: String,
}

/// `POST /logout`
pub(super) async fn logout(
    State(web): State<Web>,
    headers: HeaderMap,
    extensions: Extensions,
    Form(said): Form<Logout>,
) -> Response {
    let mut gone =
        HeaderValue::from_static("holdfast_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    if let Some(known) = known(&web, &headers, web.http.core().now()) {
        if let Err(problem) = same_origin(&headers).and_then(|()| genuine(&said.csrf, &known.csrf)) {
            return frame::bare("Log out", &html! { h1 { "Log out" } (parts::problem(&problem)) }, &problem);
        }
        web.sessions.end(&headers);
        if !known.shown.contains_key(header::AUTHORIZATION) {
            let mut request = Request::new(Body::empty());
            *request.method_mut() = Method::POST;
            *request.uri_mut() = Uri::from_static(routes::LOGOUT);
            *request.headers_mut() = known.shown;
            // What was not ended there ends by itself; the browser forgets it either way.
            if let Ok((headers, _)) = ask_api(&web, &extensions, request).await
                && let Some(cookie) = headers.get(header::SET_COOKIE)
            {
                gone = cookie.clone();
            }
        }
    }
    let mut response = see("/login?why=You%20are%20logged%20out.");
    response.headers_mut().insert(header::SET_COOKIE, gone);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)))
            .collect()
    }

    fn session(at: u64) -> Session {
        let at = Timestamp::from_ms(at);
        Session { authorization: HeaderValue::from_static("Bearer x"), csrf: "c".into(), made: at, used: at }
    }

    #[test]
    fn a_session_ends_idle_and_after_its_life() {
        let sessions = Sessions::default();
        let (idle, life) = (limits::SESSION_IDLE.as_ms(), limits::SESSION_LIFE.as_ms());
        let headers = said(&[("cookie", "a=b; holdfast_session=one")]);
        let known = |at| sessions.known(&headers, Timestamp::from_ms(at)).is_some();
        sessions.begin("one", session(1000));
        assert!(known(1000) && !known(1000 + idle) && !known(999));
        let mut at = 1000;
        while at + idle / 2 < 1000 + life {
            at += idle / 2;
            assert!(known(at), "a visit keeps it");
        }
        assert!(!known(1000 + life));
        assert!(
            sessions.known(&said(&[("cookie", "holdfast_session=two")]), Timestamp::from_ms(1000)).is_none()
        );
    }

    #[test]
    fn there_are_so_many_sessions_and_no_more() {
        let sessions = Sessions::default();
        for number in 0..limits::WEB_SESSIONS as u64 + 5 {
            sessions.begin(&number.to_string(), session(1000 + number));
        }
        assert_eq!(sessions.lock().len(), limits::WEB_SESSIONS);
        assert!(sessions.lock().contains_key(&hashed("5")) && !sessions.lock().contains_key(&hashed("4")));
    }

    #[test]
    fn a_form_comes_from_a_page_of_this_server_or_is_not_taken() {
        for (headers, taken) in [
            (said(&[("sec-fetch-site", "same-origin"), ("origin", "null")]), true),
            (said(&[("sec-fetch-site", "cross-site"), ("origin", "http://here"), ("host", "here")]), false),
            (said(&[("sec-fetch-site", "same-site")]), false),
            (said(&[("sec-fetch-site", "none")]), false),
            (said(&[("origin", "http://127.0.0.1:7070"), ("host", "127.0.0.1:7070")]), true),
            (said(&[("origin", "https://here"), ("host", "here")]), true),
            (said(&[("origin", "http://there"), ("host", "here")]), false),
            (said(&[("origin", "null"), ("host", "here")]), false),
            (said(&[("host", "here")]), false),
        ] {
            assert_eq!(same_origin(&headers).is_ok(), taken, "{headers:?}");
        }
        assert!(genuine("a", "a").is_ok() && genuine("", "a").is_err());
    }

    #[test]
    fn a_login_leads_to_pages_of_this_server_only() {
        for (asked, to) in
            [("/nodes?x=1", "/nodes?x=1"), ("//evil", "/"), ("http://evil", "/"), ("/\\evil", "/"), ("", "/")]
        {
            assert_eq!(place(Some(asked.into())), to);
        }
    }
}
