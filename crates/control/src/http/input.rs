//! What comes in: bodies within their bound and in time, JSON with its place, queries, and paths.

use super::answer::{Refused, Result, refused};
use api::{Code, Problem};
use axum::{
    body::Body,
    extract::{FromRequestParts, Path, Query, Request},
    http::{header, request::Parts},
};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::de::DeserializeOwned;
use std::time::Duration;
use types::limits;

/// Reads a body to its end.
pub(super) async fn body(request: Request) -> Result<Bytes> {
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced: Option<u64> =
        announced.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let mut body = request.into_body();
    if announced.is_some_and(|length| length > limits::REQUEST_BODY.bytes()) {
        return Err(too_large(&mut body).await);
    }
    let wait = limits::REQUEST_BODY_WAIT;
    let Ok(read) = tokio::time::timeout(wait.into(), take(&mut body)).await else {
        return Err(refused(Code::InvalidRequest, format!("the body was not whole within {wait}")));
    };
    match read? {
        Some(bytes) => Ok(bytes),
        None => Err(too_large(&mut body).await),
    }
}

/// The whole body, or none if it is over the bound.
async fn take(body: &mut Body) -> Result<Option<Bytes>> {
    let mut whole = BytesMut::new();
    let mut pieces = std::mem::take(body).into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece =
            piece.map_err(|error| refused(Code::InvalidRequest, format!("the body broke off: {error}")))?;
        if whole.len() + piece.len() > limits::REQUEST_BODY.bytes() as usize {
            *body = Body::from_stream(pieces);
            return Ok(None);
        }
        whole.extend_from_slice(&piece);
    }
    Ok(Some(whole.freeze()))
}

/// Reads on for a while without keeping anything: a client that is still writing when the
/// connection is closed never sees the answer.
async fn too_large(body: &mut Body) -> Refused {
    let mut pieces = std::mem::take(body).into_data_stream();
    let drain = async { while let Some(Ok(_)) = pieces.next().await {} };
    // Past the bound the connection is closed over the client's head.
    let _drained = tokio::time::timeout(Duration::from(limits::REQUEST_DRAIN_WAIT), drain).await;
    let detail = format!("the body is larger than {}", limits::REQUEST_BODY);
    refused(Code::BodyTooLarge, detail)
}

/// Reads JSON; a complaint says line, column and key. No body at all is an empty object.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let bytes = if bytes.iter().all(u8::is_ascii_whitespace) { b"{}" } else { bytes };
    serde_json::from_slice(bytes).map_err(|error| {
        let problem = Problem::new(Code::InvalidRequest, format!("the body cannot be read: {error}"));
        problem.with_path(format!("line {}, column {}", error.line(), error.column())).into()
    })
}

/// The places of a path, decoded.
pub(super) struct Places<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Places<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(places)| Self(places))
            .map_err(|error| refused(Code::InvalidRequest, error.body_text()))
    }
}

/// The query, read.
pub(super) struct Asked<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(asked)| Self(asked))
            .map_err(|error| refused(Code::InvalidRequest, error.body_text()))
    }
}

/// A whole body and the head it came with, for the few calls that are no writes with a receipt.
pub(super) struct Said {
    pub(super) parts: Parts,
    pub(super) body: Bytes,
}

impl<S: Send + Sync> axum::extract::FromRequest<S> for Said {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (parts, whole) = request.into_parts();
        let mut again = Request::new(whole);
        *again.headers_mut() = parts.headers.clone();
        Ok(Self { body: body(again).await?, parts })
    }
}
