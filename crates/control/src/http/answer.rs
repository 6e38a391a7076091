//! How answers leave: JSON with the event it reflects, or a problem that the rim writes out.

use api::{Code, Problem, routes};
use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use types::EventId;

/// What a handler gives.
pub(super) type Result<T> = std::result::Result<T, Refused>;

/// A problem on its way out, with the event that holds the verdict if one does.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) problem: Box<Problem>,
    pub(super) event: Option<EventId>,
    /// Its outcome is the last word on its request; otherwise [`super::copies`] looks at what else
    /// is known of that.
    pub(super) settled: bool,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self { problem: Box::new(problem), event: None, settled: false }
    }
}

/// A refusal with this code and text.
pub(super) fn refused(code: Code, detail: impl Into<String>) -> Refused {
    Problem::new(code, detail).into()
}

/// The one answer to whatever is not there, or not there for this caller.
pub(super) fn missing(what: impl std::fmt::Display) -> Refused {
    refused(Code::NotFound, format!("{what} does not exist"))
}

impl IntoResponse for Refused {
    /// The problem rides along as an extension; the gate adds the request, and [`super::rim`] writes it out.
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = status.into_response();
        if let Some(event) = self.event {
            response.headers_mut().insert(HOLDFAST_EVENT, number(event.get()));
        }
        response.extensions_mut().insert(Carried { problem: self.problem, settled: self.settled });
        response
    }
}

/// A problem inside a response that is not written out yet.
#[derive(Clone, Debug)]
pub(super) struct Carried {
    pub(super) problem: Box<Problem>,
    pub(super) settled: bool,
}

/// The header that names the event an answer reflects.
pub(super) const HOLDFAST_EVENT: HeaderName = HeaderName::from_static(routes::HOLDFAST_EVENT);

fn number(value: u64) -> HeaderValue {
    HeaderValue::from_str(&value.to_string()).expect("digits can stand in a header")
}

/// JSON that reflects an event.
pub(super) struct At<T> {
    /// Which event.
    pub(super) event: EventId,
    /// The event that last changed what is answered, if that is known.
    pub(super) tag: Option<EventId>,
    /// The body.
    pub(super) body: T,
}

impl<T> At<T> {
    /// A body that reflects `event`.
    pub(super) fn new(event: EventId, body: T) -> Self {
        Self { event, tag: None, body }
    }

    /// The same, last changed by `tag`.
    pub(super) fn tagged(self, tag: EventId) -> Self {
        Self { tag: Some(tag), ..self }
    }
}

impl<T: Serialize> IntoResponse for At<T> {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(HOLDFAST_EVENT, number(self.event.get()));
        if let Some(tag) = self.tag {
            let text = format!("\"{tag}\"");
            headers.insert(header::ETAG, HeaderValue::from_str(&text).expect("digits can stand in a header"));
        }
        (headers, Json(self.body)).into_response()
    }
}
