//! Logging in, with a name and a password or with a token, and out again. Either opens a session of the
//! API, in [`crate::http`]: here are the pages around it.
//!
//! Invariants:
//! - a token is in no cookie and no page: a session knows it by its id.
//! - nobody logs in or out but from a page of this server.
//! - a login leads to a page of this server.

use super::{Web, frame, parts, provider, visit::Answer};
use crate::http::{OnPage, SEC_FETCH_SITE, connection_of};
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
use domain::Actor;
use maud::html;
use tower::ServiceExt;
use types::{TokenId, limits};

/// What the API has to know of a browser: its session, and where it says that its request comes from.
pub(super) fn told_by(browser: &HeaderMap) -> HeaderMap {
    const OF_IT: [HeaderName; 4] = [header::COOKIE, header::HOST, header::ORIGIN, SEC_FETCH_SITE];
    let told = browser.iter().filter(|(name, _)| OF_IT.contains(*name));
    told.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Sends whoever is not let in to where they can be, and back afterwards.
pub(super) fn ask_again(parts: &Parts, why: &str) -> Response {
    let wants_page = parts.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if parts.method != Method::GET || !wants_page.is_some_and(|accept| accept.contains("text/html")) {
        let problem = Problem::new(Code::Unauthenticated, why);
        let page = html! { h1 { "Log in" } (parts::problem(&problem)) p { a href="/login" { "Log in" } } };
        return OnPage::refused(&problem, None).on(frame::bare("Log in", &page, &problem));
    }
    let whole = parts.uri.path_and_query().map_or("/", |whole| whole.as_str());
    see(&format!("/login?{}&{}", query("to", whole), query("why", why)))
}

/// One pair of a query.
pub(super) fn query(name: &str, value: &str) -> String {
    format!("{name}={}", &routes::fill("/{value}", &[value])[1..])
}

fn see(place: &str) -> Response {
    let place = HeaderValue::from_str(place).unwrap_or(HeaderValue::from_static("/"));
    frame::guarded((StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response())
}

/// Where to go on after a login: a page of this server, or the first one.
///
/// Browsers leave tabs and line ends out of a place, and take a backslash for a slash: `/<tab>/evil` leads to
/// another server.
pub(super) fn place(asked: Option<String>) -> String {
    asked
        .filter(|to| to.starts_with('/') && !to.starts_with("//"))
        .filter(|to| !to.contains(|letter: char| letter == '\\' || letter.is_control()))
        .unwrap_or("/".to_owned())
}

/// `GET /login`
pub(super) async fn ask(State(web): State<Web>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let why = super::visit::asked(&query, "why");
    form(&web, &place(super::visit::asked(&query, "to")), why.as_deref(), None)
}

pub(super) fn form(web: &Web, to: &str, why: Option<&str>, problem: Option<&Problem>) -> Response {
    let content = html! {
        h1 { "Log in" }
        @if let Some(why) = why { p { (why) } }
        @if let Some(problem) = problem { (parts::problem(problem)) }
        (provider::links(web, to))
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
                " shows once. You are then who has it, until it ends or you log out."
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
    let begun = match web.http.takes_login(&headers) {
        Err(problem) => Err(problem),
        // The API writes down what comes of it.
        Ok(()) if login.token.is_empty() => {
            return match with_password(&web, &headers, &extensions, &login).await {
                Ok(cookie) => entered(&to, cookie),
                Err(problem) => form(&web, &to, None, Some(&problem)),
            };
        }
        Ok(()) => with_token(&web, &headers, &extensions, &login).await,
    };
    match begun {
        Ok((token, cookie)) => OnPage::done(Actor::Token(token)).on(entered(&to, cookie)),
        Err(problem) => {
            let told = OnPage::refused(&problem, web.http.bearer(login.token.trim()));
            told.on(form(&web, &to, None, Some(&problem)))
        }
    }
}

/// Where somebody who has logged in goes on.
fn entered(to: &str, cookie: HeaderValue) -> Response {
    let mut response = see(to);
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
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

/// Opens a session of whoever has this name and password. Its cookie.
async fn with_password(
    web: &Web,
    headers: &HeaderMap,
    extensions: &Extensions,
    login: &Login,
) -> Answer<HeaderValue> {
    let body = serde_json::json!({ "name": login.name, "password": login.password }).to_string();
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::from_static(routes::LOGIN);
    *request.headers_mut() = told_by(headers);
    let (headers, _) = ask_api(web, extensions, request).await?;
    let none = || Box::new(Problem::new(Code::Internal, "the API opened no session"));
    headers.get(header::SET_COOKIE).cloned().ok_or_else(none)
}

/// Opens a session of the bearer of a token that the API takes. The token's id, and the session's cookie.
async fn with_token(
    web: &Web,
    headers: &HeaderMap,
    extensions: &Extensions,
    login: &Login,
) -> Answer<(TokenId, HeaderValue)> {
    let unreadable = |_| Box::new(Problem::new(Code::Unauthenticated, "this is not a token"));
    let authorization =
        HeaderValue::from_str(&format!("Bearer {}", login.token.trim())).map_err(unreadable)?;
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = Uri::from_static(routes::WHOAMI);
    request.headers_mut().insert(header::AUTHORIZATION, authorization);
    let (_, answer) = ask_api(web, extensions, request).await?;
    let token = serde_json::from_slice::<Whoami>(&answer).ok().and_then(|who| who.token);
    let unread = || Box::new(Problem::new(Code::Internal, "the API gave no answer"));
    let token = token.ok_or_else(unread)?;
    Ok((token, web.http.log_in(token, headers, extensions)?))
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
    if let Err(problem) = web.http.takes_form(&headers, &extensions, &said.csrf) {
        let page = html! { h1 { "Log out" } (parts::problem(&problem)) };
        return OnPage::refused(&problem, None).on(frame::bare("Log out", &page, &problem));
    }
    let who = web.http.visitor(&headers, &extensions);
    let gone = web.http.log_out(&headers, &extensions);
    let mut response = see("/login?why=You%20are%20logged%20out.");
    response.headers_mut().insert(header::SET_COOKIE, gone);
    match who {
        Some(who) => OnPage::done(who).on(response),
        None => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_pages_of_this_server_only() {
        for (asked, to) in [
            ("/nodes?x=1", "/nodes?x=1"),
            ("/requests?id=%2F", "/requests?id=%2F"),
            ("", "/"),
            ("nodes", "/"),
            ("http://evil.example", "/"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("/nodes\\..", "/"),
            ("/\t/evil.example", "/"),
            ("/\n/evil.example", "/"),
            ("/\r/evil.example", "/"),
            ("\t//evil.example", "/"),
            ("/\0/evil.example", "/"),
            ("/\u{7f}/evil.example", "/"),
            ("/\u{85}/evil.example", "/"),
        ] {
            assert_eq!(place(Some(asked.into())), to, "{asked:?}");
        }
    }
}
