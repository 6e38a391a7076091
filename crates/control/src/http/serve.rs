//! Serving connections: bounded, impatient with slow heads and stalled readers, and quick to end.
//!
//! Everything that goes on for ever (streams, long polls, logs) watches [`Stopping`] and ends with
//! it; what is short gets [`limits::SERVER_DRAIN`] to finish.

use super::{answer::Refused, patience::Patience, session::Peer};
use axum::{
    Router,
    extract::{Extension, FromRequestParts},
    http::request::Parts,
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
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

/// Serves until told to stop; then takes nothing new, ends streams, and lets short answers finish.
pub async fn serve(listener: TcpListener, router: Router, shutdown: CancellationToken) {
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
                drop(connections.spawn(attend(stream, router.clone(), &graceful, permit, cut.clone())))
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

fn attend(
    stream: TcpStream,
    router: Router,
    graceful: &GracefulShutdown,
    permit: OwnedSemaphorePermit,
    cut: CancellationToken,
) -> impl Future<Output = ()> + Send + use<> {
    let peer = stream.peer_addr().ok().map(|peer| Peer(peer.ip()));
    let service = router.map_request(move |mut request: hyper::Request<hyper::body::Incoming>| {
        peer.map(|peer| request.extensions_mut().insert(peer));
        request
    });
    // Small answers must not wait for a full segment.
    let _best_effort = stream.set_nodelay(true);
    let reader = Patience::new(stream, limits::READER_STALL.into());
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from(limits::REQUEST_HEAD_WAIT))
        .serve_connection(TokioIo::new(reader), TowerToHyperService::new(service));
    let watched = graceful.watch(connection);
    async move {
        let ended = cut.run_until_cancelled_owned(watched).await;
        if let Some(Err(error)) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
        drop(permit);
    }
}
