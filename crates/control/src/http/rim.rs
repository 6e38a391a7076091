//! The rim: whatever leaves the server passes here, and leaves as the contract says.
//!
//! A problem is written out; an error that a library made by itself (a method nobody serves, a
//! panic) becomes a problem too.

use super::{
    Http,
    answer::{Carried, Refused},
    forward,
    table::{self, Says},
    write,
};
use api::{Code, Problem};
use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use tokio::time::Instant;

/// What answers a path that nobody mounted.
pub(super) async fn no_such_path(method: Method, request: Request) -> Refused {
    let problem =
        Problem::new(Code::NotFound, format!("{method} {} is not part of the API", request.uri().path()));
    problem.with_hint("the paths are listed at /v1/openapi.json").into()
}

/// The outermost layer.
pub(super) async fn around(State(http): State<Http>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let method = request.method().clone();
    let row = path.as_deref().and_then(|path| table::row(method.as_str(), path));
    let request_id = row.filter(|row| row.once).and_then(|_| write::request_id(request.headers()));
    let begun = Instant::now();
    let answered = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    let mut response = answered.unwrap_or_else(|_| {
        tracing::error!(%method, path = path.as_deref(), "a handler panicked");
        let text = "the server failed while it answered; what it was asked may have been done";
        let problem = Problem { request_id, ..Problem::new(Code::Internal, text) };
        Refused::from(problem).into_response()
    });
    if let Some(carried) = response.extensions_mut().remove::<Carried>() {
        write_out(&mut response, *carried.problem);
    } else if response.extensions().get::<forward::Foreign>().is_some() {
        // Another member has written it out.
    } else if response.status().is_client_error() || response.status().is_server_error() {
        let problem = foreign(response.status(), &method, path.as_deref());
        write_out(&mut response, problem);
    }
    if response.status() == StatusCode::METHOD_NOT_ALLOWED
        && let Some(path) = &path
        && let Ok(allow) = HeaderValue::from_str(&table::methods(path))
    {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    http.figures.count(&method, path.as_deref(), response.status());
    if row.is_some_and(|row| {
        matches!(row.says, Says::Json(_) | Says::Either(..) | Says::Page(_) | Says::Nothing)
    }) {
        http.figures.took(begun.elapsed());
    }
    response
}

/// A problem as it leaves, for whoever stands outside of the rim.
pub(super) fn written(problem: Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = status.into_response();
    write_out(&mut response, problem);
    response
}

fn write_out(response: &mut Response, problem: Problem) {
    let body = serde_json::to_vec(&problem).expect("a problem has no type that JSON refuses");
    if problem.code == Code::Unauthenticated {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    let headers = response.headers_mut();
    if let Some(seconds) = problem.retry_after_s {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(Problem::MEDIA_TYPE));
    *response.body_mut() = Body::from(body);
}

/// A problem for an error that no handler of ours made.
fn foreign(status: StatusCode, method: &Method, path: Option<&str>) -> Problem {
    match status {
        StatusCode::METHOD_NOT_ALLOWED => method_not_allowed(method, path.unwrap_or_default()),
        StatusCode::NOT_FOUND => Problem::new(Code::NotFound, "there is nothing here"),
        status if status.is_client_error() => Problem {
            status: status.as_u16(),
            ..Problem::new(Code::InvalidRequest, format!("refused with {status}"))
        },
        status => Problem::new(Code::Internal, format!("failed with {status}")),
    }
}

/// HTTP has a status of its own for this, and clients rely on it: the one place where a code is
/// sent with another status than its own.
pub(super) fn method_not_allowed(method: &Method, path: &str) -> Problem {
    let detail = format!("{method} is not possible on {path}; it takes {}", table::methods(path));
    let problem = Problem::new(Code::InvalidRequest, detail);
    Problem { status: StatusCode::METHOD_NOT_ALLOWED.as_u16(), ..problem }
}
