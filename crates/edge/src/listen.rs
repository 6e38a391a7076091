//! Listening sockets: made, kept across plans, and accepted from.
//!
//! A listener belongs to an address, not to a route: when a plan changes what stands behind a
//! port, the socket stays and no connection that waits in it is lost. A port that is taken by
//! another program is asked for again, with a growing wait, while all others serve.

use crate::{
    connection::{self, Entry, Outcome},
    edge::Shared,
};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use types::limits;

/// Between two looks at a peer that is silent: finds those that vanished without a word.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;
/// The wait after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// What every stream through the edge has set. Accepted streams inherit it from their listener.
pub fn set_stream_options(socket: &SockRef<'_>) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)
}

/// Listens on an address. `[::]` takes IPv4 as well.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    if let SocketAddr::V6(v6) = address {
        socket.set_only_v6(!v6.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    set_stream_options(&SockRef::from(&socket))?;
    socket.bind(&address.into())?;
    socket.listen(limits::EDGE_BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Binds an address however long it takes; `None` if `stop` came first. Says once what is in the
/// way and once that it is gone.
pub async fn bind_patiently(address: SocketAddr, stop: &CancellationToken) -> Option<TcpListener> {
    let mut wait = Duration::from(limits::EDGE_RETRY_MIN);
    let mut failed = false;
    // Asked first: what a plan adds while the edge stops is not opened any more.
    while !stop.is_cancelled() {
        match bind(address) {
            Ok(listener) => {
                tracing::info!(%address, again = failed, "listening");
                return Some(listener);
            }
            Err(error) if !failed => {
                tracing::error!(%address, %error, "cannot listen; trying again until it works");
                failed = true;
            }
            Err(_) => {}
        }
        tokio::select! {
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(wait) => wait = (wait * 2).min(limits::EDGE_RETRY_MAX.into()),
        }
    }
    None
}

/// Accepts and serves connections until `stop`; those under way go on after it.
pub async fn accept(shared: Arc<Shared>, listener: TcpListener, entry: Entry, stop: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => take(&shared, entry, stream),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                tracing::error!(%error, ?entry, "cannot accept connections for now");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    take_backlog(&shared, entry, listener);
}

/// Clients that wait in the backlog have connected already: closing on them would be a reset. The
/// system is asked itself, since the runtime may not have heard yet that somebody waits, and it ends
/// a task's turn after some accepts.
fn take_backlog(shared: &Arc<Shared>, entry: Entry, listener: TcpListener) {
    let listener = match listener.into_std() {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, ?entry, "clients in the backlog are lost"),
    };
    // A bound, so that clients who come faster than they are taken do not keep the edge from ending.
    for _ in 0..limits::EDGE_BACKLOG {
        let accepted = listener.accept().and_then(|(stream, _)| {
            stream.set_nonblocking(true)?;
            TcpStream::from_std(stream)
        });
        match accepted {
            Ok(stream) => take(shared, entry, stream),
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Err(error) => return tracing::error!(%error, ?entry, "clients in the backlog are lost"),
        }
    }
}

fn take(shared: &Arc<Shared>, entry: Entry, stream: TcpStream) {
    shared.meter.accepted(entry);
    let Ok(permit) = Arc::clone(&shared.room).try_acquire_owned() else {
        shared.meter.ended(Outcome::OverBound);
        return;
    };
    let shared_too = Arc::clone(shared);
    shared.connections.spawn(async move {
        let shared = shared_too;
        let outcome = tokio::select! {
            outcome = connection::serve(&shared.switch, &shared.waits, entry, stream) => outcome,
            () = shared.abort.cancelled() => Outcome::Stopped,
        };
        drop(permit);
        shared.meter.ended(outcome);
    });
}

/// Whether an accept failed because that one client was gone already (see accept(2), Linux).
fn is_about_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::ConnectionRefused
            | Kind::Interrupted
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
            | Kind::NetworkDown
            | Kind::PermissionDenied
    )
}
