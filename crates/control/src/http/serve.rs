//! Serving connections, over TLS where others could listen: bounded, impatient with slow heads and
//! stalled readers, and quick to end. What speaks plain HTTP where TLS is spoken is told so, and nothing else.
//!
//! Everything that goes on for ever (streams, long polls, logs) watches [`Stopping`] and ends with
//! it; what is short gets [`limits::SERVER_DRAIN`] to finish.

use super::{
    answer::Refused,
    patience::Patience,
    rim,
    session::{Encrypted, Peer},
};
use crate::peer::Shown;
use api::{Code, Problem};
use axum::{
    Router,
    extract::{Extension, FromRequestParts},
    http::{HeaderValue, header, request::Parts},
    response::Response,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
    service::TowerToHyperService,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;
use types::limits;

/// Between two tries to accept when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Tells whatever goes on for ever that the server stops. Never told where nobody serves (a router
/// called directly, say).
#[derive(Clone, Debug, Default)]
pub(super) struct Stopping(CancellationToken);

impl Stopping {
    pub(super) async fn stopped(&self) {
        self.0.cancelled().await;
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Stopping {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// Serves plain HTTP until told to stop; then takes nothing new, ends streams, and lets short answers
/// finish.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
    serve_with(listener, None, router, shutdown).await;
}

/// The same, over TLS if it is given something to show.
pub async fn serve_with(
    listener: TcpListener,
    tls: Option<Shown>,
    router: Router,
    shutdown: CancellationToken,
) {
    let router = router.layer(Extension(Stopping(shutdown.clone())));
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(limits::SERVER_CONNECTIONS));
    let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
    loop {
        // Without room nothing is accepted: the kernel's queue waits, and past it the client.
        let permit = tokio::select! {
            permit = room.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
            () = shutdown.cancelled() => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match stream {
            Ok((stream, _)) => {
                let visit = Visit { tls: tls.clone(), router: router.clone(), watcher: graceful.watcher() };
                let (cut, stopping) = (cut.clone(), shutdown.clone());
                drop(connections.spawn(async move {
                    cut.run_until_cancelled_owned(visit.attend(stream, stopping)).await;
                    drop(permit);
                }));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = tokio::time::timeout(limits::SERVER_DRAIN.into(), graceful.shutdown()).await;
    if drained.is_err() {
        tracing::warn!("connections were still open after {}; they are cut", limits::SERVER_DRAIN);
    }
    // Nothing of this server may outlive it: whoever starts the next one wants its log.
    cut.cancel();
    connections.close();
    connections.wait().await;
}

/// What one connection is served with.
struct Visit {
    tls: Option<Shown>,
    router: Router,
    watcher: Watcher,
}

/// How a client began.
enum Greeted {
    Encrypted(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

impl Visit {
    async fn attend(self, stream: TcpStream, stopping: CancellationToken) {
        // Small answers must not wait for a full segment.
        let _best_effort = stream.set_nodelay(true);
        let peer = stream.peer_addr().ok().map(|peer| Peer(peer.ip()));
        let Some(tls) = self.tls.clone() else { return self.talk(stream, peer).await };
        let greeting = tokio::time::timeout(limits::REQUEST_HEAD_WAIT.into(), greet(&tls, stream));
        match stopping.run_until_cancelled(greeting).await {
            Some(Ok(Ok(Greeted::Encrypted(stream)))) => self.talk(stream, peer).await,
            Some(Ok(Ok(Greeted::Plain(stream)))) => {
                let router = Router::new().fallback(speaks_tls);
                Self { tls: None, router, ..self }.talk(stream, peer).await;
            }
            Some(Ok(Err(error))) => tracing::debug!(%error, "a connection spoke no TLS that was understood"),
            Some(Err(_)) => tracing::debug!("a connection did not finish its greeting in time"),
            None => {}
        }
    }

    async fn talk(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, peer: Option<Peer>) {
        let encrypted = self.tls.as_ref().map(|_| Encrypted);
        let service = self.router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
            peer.map(|peer| request.extensions_mut().insert(peer));
            encrypted.map(|encrypted| request.extensions_mut().insert(encrypted));
            request
        });
        let reader = Patience::new(stream, limits::READER_STALL.into());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from(limits::REQUEST_HEAD_WAIT))
            .serve_connection(TokioIo::new(reader), TowerToHyperService::new(service));
        if let Err(error) = self.watcher.watch(connection).await {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

async fn greet(tls: &Shown, stream: TcpStream) -> io::Result<Greeted> {
    // A request begins with the capitals of its method, a greeting of TLS with a number that is no letter.
    let mut first = [0];
    stream.peek(&mut first).await?;
    if first[0].is_ascii_uppercase() {
        return Ok(Greeted::Plain(stream));
    }
    let address = stream.local_addr().ok().map(|address| address.ip().to_canonical());
    let config = tls.to(address).map_err(io::Error::other)?;
    TlsAcceptor::from(config).accept(stream).await.map(|stream| Greeted::Encrypted(Box::new(stream)))
}

/// To whoever speaks plain HTTP here. It is not sent on to TLS by itself: whoever listens on the way would
/// see its token again and again, and nobody would notice.
async fn speaks_tls() -> Response {
    let detail = "this port speaks TLS, and the request came in plain; it was not read";
    let hint = "https:// instead of http://, with the fingerprint that the server shows: --server https://HOST:PORT#sha256=…";
    let mut response = rim::written(Problem::new(Code::InvalidRequest, detail).with_hint(hint));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
