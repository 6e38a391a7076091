//! Logging in by way of a provider: the browser is sent there, and comes back with what it was given.
//!
//! `GET` both, and the first is a link: a policy that lets forms go to this server only would stop a form
//! that is sent on to a provider.

use super::{Web, frame, session, visit};
use crate::http::{Brought, ByProvider, Finished, OpenedBy, connection_of};
use axum::{
    extract::{Path, Query, RawQuery, State, rejection::QueryRejection},
    http::{Extensions, HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use maud::{Markup, html};

/// The links of a login page to each provider; `to` is the page to go on with.
pub(super) fn links(web: &Web, to: &str) -> Markup {
    let providers = ByProvider::titles(&web.http);
    html! {
        @if !providers.is_empty() {
            ul #providers {
                @for (name, title) in &providers {
                    li { a href={ "/login/" (name) "?" (session::query("to", to)) } { "Log in with " (title) } }
                }
            }
        }
    }
}

/// `GET /login/{provider}`
pub(super) async fn begin(
    State(web): State<Web>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    extensions: Extensions,
) -> Response {
    let to = session::place(visit::asked(&query.unwrap_or_default(), "to"));
    let connection = connection_of(&extensions);
    let by = ByProvider { http: &web.http, headers: &headers, connection: &connection };
    match by.begin(&name, to.clone()).await {
        Ok(sent) => {
            let head = [(header::LOCATION, sent.place), (header::SET_COOKIE, sent.cookie)];
            frame::guarded((StatusCode::SEE_OTHER, head).into_response())
        }
        Err(problem) => session::form(&web, &to, None, Some(&problem)),
    }
}

/// `GET /login/{provider}/callback`
pub(super) async fn back(
    State(web): State<Web>,
    Path(name): Path<String>,
    brought: Result<Query<Brought>, QueryRejection>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Response {
    let connection = connection_of(&extensions);
    let by = ByProvider { http: &web.http, headers: &headers, connection: &connection };
    // What cannot be read belongs to no login that is under way.
    let brought = brought.map(|Query(brought)| brought).unwrap_or_default();
    let Finished { opened, cookie: taken_back, .. } = by.finish(&name, &brought).await;
    let mut response = match opened {
        Ok(OpenedBy { cookie, to, .. }) => {
            let mut response = go_on(&to);
            response.headers_mut().append(header::SET_COOKIE, cookie);
            response
        }
        Err(problem) => session::form(&web, "/", None, Some(&problem)),
    };
    response.headers_mut().append(header::SET_COOKIE, taken_back);
    response
}

/// A page that goes on by itself. A redirect would not do: the browser came from another site, and on the
/// way from there it does not show a cookie that is kept to this one.
fn go_on(to: &str) -> Response {
    let content = html! {
        h1 { "You are logged in" }
        p { a href=(to) { "Go on" } }
    };
    let mut response = frame::plain("You are logged in", &content);
    let refresh = format!("0;url={to}");
    // What no header takes is a place that the person goes on to by themselves.
    if let Ok(refresh) = HeaderValue::from_str(&refresh) {
        response.headers_mut().insert(header::REFRESH, refresh);
    }
    response
}
