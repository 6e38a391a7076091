//! The client for people and programs. It sends each request exactly once, and says what is known
//! when no answer came.
//!
//! Invariant: nothing is retried, redirected or kept alive behind the caller's back. A connection is
//! used for one request, so a failure to connect means that nothing was sent, and any later failure
//! that it may have been.

use crate::{Code, Fingerprint, Place, Problem, SseError, place::pinned};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use std::{error::Error, time::Duration};
use types::{EventId, RequestId, limits};

/// Why a call has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The connection could not be made: certainly not executed, safe to send again.
    #[error("cannot reach {server}: {why}")]
    NotSent {
        /// Where it was to go.
        server: String,
        /// The innermost cause.
        why: String,
    },
    /// It was sent, at least in part, and no whole answer came: it may have been executed.
    #[error("the connection to {server} was lost before a whole answer came: {why}")]
    Unknown {
        /// Where it went.
        server: String,
        /// The innermost cause.
        why: String,
    },
    /// The server says what is wrong.
    #[error(transparent)]
    Problem(#[from] Box<Problem>),
    /// There is an answer, and it is not one of this contract.
    #[error("{server} gave an answer that is not Holdfast's: {why}")]
    BadAnswer {
        /// Who answered.
        server: String,
        /// The status it answered with.
        status: u16,
        /// What is wrong with it.
        why: String,
    },
}

impl ClientError {
    /// Whether another server was there than the one with the fingerprint that is expected.
    pub fn is_stranger(&self) -> bool {
        matches!(self, Self::NotSent { why, .. } if why.contains(crate::place::EXPECTED))
    }

    /// The code, if the server gave one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Problem(problem) => Some(problem.code),
            _ => None,
        }
    }
}

/// A connection-less client of one server with one token.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) wire: Wire,
    pub(crate) at_least: Option<EventId>,
}

impl Client {
    /// A client of the server at this URL, as in `http://127.0.0.1:7070`.
    ///
    /// # Errors
    /// *Not sent*, if the URL cannot be one of a server.
    pub fn new(server: &str, token: Option<String>) -> Result<Self, ClientError> {
        Ok(Self { wire: Wire::new(server, token, limits::CLIENT_ANSWER.into())?, at_least: None })
    }

    /// The same, waiting this long for an answer.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.wire.timeout = timeout;
        self
    }

    /// The same, whose reads wait until this event is visible.
    #[must_use]
    pub fn at_least(mut self, event: EventId) -> Self {
        self.at_least = Some(event);
        self
    }

    /// Whether it has a token to show.
    pub fn has_token(&self) -> bool {
        self.wire.secret.is_some()
    }

    /// Where the server is, and what it is known by: what [`Self::new`] takes.
    pub fn server(&self) -> String {
        let (url, pin) = (self.wire.server.clone(), self.wire.pin);
        Place { url, pin }.to_string()
    }
}

/// What both clients share: one server, one secret, and the rules for telling failures apart.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) server: String,
    pin: Option<Fingerprint>,
    pub(crate) secret: Option<String>,
    timeout: Duration,
    http: reqwest::Client,
    /// For event streams: silence longer than the bound is loss.
    streams: reqwest::Client,
}

impl std::fmt::Debug for Wire {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Wire {
    pub(crate) fn new(server: &str, secret: Option<String>, timeout: Duration) -> Result<Self, ClientError> {
        let place = server.parse::<Place>();
        let Place { url: server, pin } =
            place.map_err(|why| ClientError::NotSent { server: server.to_owned(), why })?;
        let not_sent = |why: String| ClientError::NotSent { server: server.clone(), why };
        // Fails only if a provider is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let build =
            |builder: reqwest::ClientBuilder| builder.build().map_err(|error| not_sent(innermost(&error)));
        Ok(Self {
            http: build(builder(&server, pin).map_err(&not_sent)?)?,
            streams: build(
                builder(&server, pin).map_err(&not_sent)?.read_timeout(limits::STREAM_SILENCE.into()),
            )?,
            server,
            pin,
            secret,
            timeout,
        })
    }

    /// A call with a bounded answer.
    pub(crate) fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.dress(self.http.request(method, format!("{}{path}", self.server)).timeout(self.timeout))
    }

    /// A call whose body or answer goes on for as long as both sides like.
    pub(crate) fn open(&self, method: Method, path: &str) -> RequestBuilder {
        self.dress(self.http.request(method, format!("{}{path}", self.server)))
    }

    /// A call that opens an event stream.
    pub(crate) fn stream(&self, path: &str) -> RequestBuilder {
        let request = self.streams.get(format!("{}{path}", self.server));
        self.dress(request.header("accept", "text/event-stream"))
    }

    fn dress(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.secret {
            Some(secret) => request.bearer_auth(secret),
            None => request,
        }
    }

    /// Sends, and turns anything but success into the error that says what is known.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.failed(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = self.body(response).await?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(ClientError::Problem(Box::new(problem))),
            Err(_) => Err(self.bad(
                status,
                format!("status {status} with {:?}", String::from_utf8_lossy(&body[..body.len().min(200)])),
            )),
        }
    }

    /// The same without its secret.
    pub(crate) fn without_secret(self) -> Self {
        Self { secret: None, ..self }
    }

    /// Sends and reads one JSON answer.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request).await?;
        self.answer(response).await
    }

    /// Reads one JSON answer.
    pub(crate) async fn answer<T: DeserializeOwned>(&self, response: Response) -> Result<T, ClientError> {
        let status = response.status();
        let body = self.body(response).await?;
        serde_json::from_slice(&body).map_err(|error| self.bad(status, error.to_string()))
    }

    /// Sends and reads one JSON answer, or none if there is no content.
    pub(crate) async fn json_or_nothing<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<Option<T>, ClientError> {
        let response = self.send(request).await?;
        let status = response.status();
        if status == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let body = self.body(response).await?;
        serde_json::from_slice(&body).map(Some).map_err(|error| self.bad(status, error.to_string()))
    }

    /// A write: its request id goes with it.
    pub(crate) async fn write<T: DeserializeOwned>(
        &self,
        path: &str,
        request_id: RequestId,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        let request =
            self.call(Method::POST, path).header(crate::routes::IDEMPOTENCY_KEY, request_id.to_string());
        self.json(request.json(body)).await
    }

    /// The rest of an answer as it comes.
    pub(crate) fn bytes(
        &self,
        response: Response,
    ) -> impl Stream<Item = Result<Bytes, ClientError>> + Send + use<> {
        let wire = self.clone();
        response.bytes_stream().map_err(move |error| wire.failed(&error))
    }

    async fn body(&self, response: Response) -> Result<Vec<u8>, ClientError> {
        let status = response.status();
        let mut whole = Vec::new();
        let mut bytes = response.bytes_stream();
        while let Some(piece) = bytes.next().await {
            whole.extend_from_slice(&piece.map_err(|error| self.failed(&error))?);
            if whole.len() > limits::CLIENT_BODY {
                return Err(self.bad(status, format!("it is larger than {} bytes", limits::CLIENT_BODY)));
            }
        }
        Ok(whole)
    }

    /// Only a failure to connect, or to make the request at all, proves that nothing was sent.
    fn failed(&self, error: &reqwest::Error) -> ClientError {
        let (server, mut why) = (self.server.clone(), innermost(error));
        if let Some(more) = about_tls(&why, self.pin) {
            why.push_str(more);
        }
        if error.is_connect() || error.is_builder() {
            ClientError::NotSent { server, why }
        } else {
            ClientError::Unknown { server, why }
        }
    }

    pub(crate) fn bad(&self, status: StatusCode, why: String) -> ClientError {
        ClientError::BadAnswer { server: self.server.clone(), status: status.as_u16(), why }
    }

    pub(crate) fn unreadable(&self, error: &SseError) -> ClientError {
        self.bad(StatusCode::OK, error.to_string())
    }
}

fn builder(server: &str, pin: Option<Fingerprint>) -> Result<reqwest::ClientBuilder, String> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(limits::CLIENT_CONNECT.into())
        .tcp_keepalive(Duration::from(limits::STREAM_PING))
        .pool_max_idle_per_host(0)
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .no_proxy();
    Ok(match pin {
        Some(pin) => builder.tls_backend_preconfigured(pinned(pin).map_err(|error| error.to_string())?),
        // A machine without certificate roots can still speak plain HTTP to itself.
        None if server.starts_with("http://") => builder.tls_certs_only([]),
        None => builder,
    })
}

/// What the words of a TLS library mean for whoever reads them.
fn about_tls(why: &str, pin: Option<Fingerprint>) -> Option<&'static str> {
    if pin.is_none() && why.contains("UnknownIssuer") {
        return Some(
            ": no root of this machine knows it; name it with its fingerprint, as the server shows it: URL#sha256=…",
        );
    }
    let is_of_time = ["expired", "not valid yet"].iter().any(|word| why.contains(word));
    if is_of_time {
        return Some(" (is the clock right, here and there?)");
    }
    why.contains("InvalidContentType").then_some(
        ": it speaks no TLS; a server that listens on a loopback address only is named with http://",
    )
}

/// The text at the bottom of a chain of causes: "connection refused" rather than "error sending request".
fn innermost(error: &dyn Error) -> String {
    let mut deepest = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    // What the verifier of a pinned server says comes with words of the library before it.
    deepest.to_string().trim_start_matches("unexpected error: ").to_owned()
}
