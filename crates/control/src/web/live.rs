//! What goes on while a page is open: a pulse for the script, and the log of an instance.

use super::{
    frame,
    visit::{Call, Visit},
};
use api::{
    Problem, SseParser,
    routes::{self, fill},
};
use axum::{
    body::Body,
    extract::Path,
    http::{HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::StreamExt;
use maud::html;
use std::convert::Infallible;
use types::EventId;

/// Where a page hears of events.
pub(super) const PULSE: &str = "/live";

/// `GET /live`: a line for each event that the visitor may see, and a pulse while there is none. The
/// script reads the page again; what happened is in there, not in here.
pub(super) async fn pulse(visit: Visit) -> Response {
    let after = visit.asked("after").and_then(|after| after.parse::<EventId>().ok()).unwrap_or_default();
    let path = format!("{}?after={after}", routes::EVENTS);
    let headers = [("accept", "text/event-stream")];
    match visit.send(Call { method: Method::GET, path: &path, headers: &headers, body: Vec::new() }).await {
        Ok(answer) if answer.status().is_success() => frame::guarded(pulses(answer)),
        Ok(answer) => frame::guarded(answer.status().into_response()),
        Err(problem) => refused(&problem),
    }
}

fn pulses(answer: Response) -> Response {
    let mut parser = SseParser::default();
    let stream = answer.into_body().into_data_stream().filter_map(move |piece| {
        let line = piece.ok().and_then(|piece| parser.push(&piece).ok()).map(|messages| {
            let id = messages.last().and_then(|last| last.id.clone());
            Bytes::from(match id {
                Some(id) => format!("data: {id}\n\n"),
                None => "event: pulse\ndata: lives\n\n".to_owned(),
            })
        });
        std::future::ready(line.map(Ok::<_, Infallible>))
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, Body::from_stream(stream)).into_response()
}

/// `GET /instances/{id}/log`: its last lines as text and, if that is asked for, what comes.
pub(super) async fn log(visit: Visit, Path(id): Path<String>) -> Response {
    let tail = visit.asked("tail").and_then(|tail| tail.parse::<u32>().ok()).unwrap_or_default();
    let follow = visit.asked("follow").is_some_and(|follow| follow == "true");
    let path = fill(routes::LOGS, &[visit.org(), &id]);
    let path = format!("{path}?tail={tail}&follow={follow}");
    match visit.send(Call { method: Method::GET, path: &path, headers: &[], body: Vec::new() }).await {
        Ok(answer) if answer.status().is_success() => frame::guarded(answer),
        Ok(answer) => {
            let body = axum::body::to_bytes(answer.into_body(), types::limits::CLIENT_BODY).await;
            let problem = body.ok().and_then(|bytes| serde_json::from_slice::<Problem>(&bytes).ok());
            let unread = || Problem::new(api::Code::Internal, "the API's answer cannot be read");
            refused(&problem.unwrap_or_else(unread))
        }
        Err(problem) => refused(&problem),
    }
}

fn refused(problem: &Problem) -> Response {
    let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response =
        frame::bare(&problem.title, &html! { h1 { "Not shown" } (super::parts::problem(problem)) }, problem);
    *response.status_mut() = status;
    response
}
