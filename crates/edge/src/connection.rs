//! One connection, from its first byte to its last: name, route, backend, relay.
//!
//! ```text
//!   accepted ─► hello (TLS only) ─► table taken ─► connect, next, next ─► table let go ─► relayed
//!                  │ bound, garbage      │ no route       │ nobody
//!                  ▼                     ▼                ▼
//!                closed                closed           closed
//! ```
//!
//! The table is taken only once the name is known, so a client that is slow to say it holds no
//! generation back; see [`crate::switch`].

use crate::{
    backend::{Admission, Open, Target},
    hello, proxy,
    relay::{Side, relay},
    switch::Switch,
    table::{Route, Table},
};
use std::{
    cell::RefCell,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    net::{TcpSocket, TcpStream},
    time::{Instant, timeout, timeout_at},
};
use types::{HostName, limits, manifest::ProxyProtocol};

/// By which listener a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The listener whose routes are told apart by server name.
    Tls,
    /// The port of one raw route.
    Tcp(u16),
}

/// How one connection ended; the `result` label of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Carried; the client ended it first.
    ClientClosed,
    /// Carried; the backend ended it first.
    BackendClosed,
    /// Over the bound of open connections.
    OverBound,
    /// The first bytes were no ClientHello, or a malformed one.
    NotTls,
    /// The ClientHello had no usable name.
    NoName,
    /// The ClientHello was longer than its bound.
    HelloTooLong,
    /// The ClientHello took longer than its bound.
    HelloTooSlow,
    /// The client left before it had said its name.
    ClientLeft,
    /// Nobody owns the name or the port.
    NoRoute,
    /// The route has no backend.
    NoBackend,
    /// Every backend of the route was tried and refused.
    BackendsFailed,
    /// Closed because the edge stopped.
    Stopped,
}

impl Outcome {
    /// Every outcome, in the order of the metrics.
    pub const ALL: [Self; 12] = [
        Self::ClientClosed,
        Self::BackendClosed,
        Self::OverBound,
        Self::NotTls,
        Self::NoName,
        Self::HelloTooLong,
        Self::HelloTooSlow,
        Self::ClientLeft,
        Self::NoRoute,
        Self::NoBackend,
        Self::BackendsFailed,
        Self::Stopped,
    ];

    /// The word in the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::BackendClosed => "backend_closed",
            Self::OverBound => "over_bound",
            Self::NotTls => "not_tls",
            Self::NoName => "no_name",
            Self::HelloTooLong => "hello_too_long",
            Self::HelloTooSlow => "hello_too_slow",
            Self::ClientLeft => "client_left",
            Self::NoRoute => "no_route",
            Self::NoBackend => "no_backend",
            Self::BackendsFailed => "backends_failed",
            Self::Stopped => "stopped",
        }
    }
}

/// The waits of one connection; see [`crate::Config`].
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// For the whole ClientHello.
    pub hello: Duration,
    /// For one backend to accept.
    pub connect: Duration,
    /// For all tries together.
    pub connect_total: Duration,
    /// For a byte or the end of a client whose backend has ended.
    pub half_closed: Duration,
}

thread_local! {
    /// Where first bytes land before the reader keeps them. In a waiting task it would stay for as
    /// long as the connection.
    static CHUNK: RefCell<[u8; limits::CLIENT_HELLO]> = const { RefCell::new([0; limits::CLIENT_HELLO]) };
}

/// Serves one accepted connection to its end.
pub async fn serve(switch: &Switch, waits: &Waits, entry: Entry, client: TcpStream) -> Outcome {
    let (name, greeting) = match entry {
        Entry::Tcp(_) => (None, Vec::new()),
        Entry::Tls => match timeout(waits.hello, read_hello(&client)).await {
            Err(_) => return Outcome::HelloTooSlow,
            Ok(Err(outcome)) => return outcome,
            Ok(Ok((name, raw))) => (Some(name), raw),
        },
    };
    let (backend, open, proxy_protocol) = match find_backend(switch, waits, entry, name.as_ref()).await {
        Ok(found) => found,
        Err(outcome) => return outcome,
    };
    let greeting = match proxy_protocol {
        ProxyProtocol::Off => greeting,
        ProxyProtocol::V2 => match (client.peer_addr(), client.local_addr()) {
            (Ok(from), Ok(to)) => [proxy::header(from, to), greeting].concat(),
            // Without addresses there is no true header; a backend that waits for one gets nothing.
            _ => return Outcome::ClientLeft,
        },
    };
    let ended = relay(&client, &backend, greeting, waits.half_closed).await;
    match ended.first {
        Side::Client => Outcome::ClientClosed,
        Side::Backend => {
            open.backend_closed_first();
            Outcome::BackendClosed
        }
    }
}

/// Reads until the name is known. Answers it with every byte that was read.
async fn read_hello(client: &TcpStream) -> Result<(HostName, Vec<u8>), Outcome> {
    let mut reader = hello::Reader::default();
    loop {
        client.readable().await.map_err(|_| Outcome::ClientLeft)?;
        let fed = CHUNK.with_borrow_mut(|chunk| {
            let count = match client.try_read(&mut chunk[..reader.room()]) {
                Ok(0) => return Err(Outcome::ClientLeft),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => return Err(Outcome::ClientLeft),
            };
            reader.feed(&chunk[..count]).map_err(|error| match error {
                hello::Error::NotTls | hello::Error::Malformed => Outcome::NotTls,
                hello::Error::NoName | hello::Error::BadName => Outcome::NoName,
                hello::Error::TooLong => Outcome::HelloTooLong,
            })
        })?;
        if let hello::Progress::Name(name) = fed {
            return Ok((name, reader.into_raw()));
        }
    }
}

/// Connects to a backend of the route that owns the name or port.
///
/// Holds the table from the look-up until the connection counts as open, and not one moment less.
async fn find_backend(
    switch: &Switch,
    waits: &Waits,
    entry: Entry,
    name: Option<&HostName>,
) -> Result<(TcpStream, Open, ProxyProtocol), Outcome> {
    let table: Arc<Table> = switch.table();
    let route = match entry {
        Entry::Tls => name.and_then(|name| table.by_name(name)),
        Entry::Tcp(port) => table.by_port(port),
    };
    let route = route.ok_or(Outcome::NoRoute)?;
    let found = match route.ways.is_empty() {
        true => Err(Outcome::NoBackend),
        false => connect_any(switch, waits, route).await.ok_or(Outcome::BackendsFailed),
    };
    let counter = if found.is_ok() { &route.count.carried } else { &route.count.closed };
    counter.fetch_add(1, Relaxed);
    found
}

/// Tries every target of the route once: first those that are well or on trial, in turn, then
/// those that are ejected, for there is nobody else.
async fn connect_any(
    switch: &Switch,
    waits: &Waits,
    route: &Route,
) -> Option<(TcpStream, Open, ProxyProtocol)> {
    let deadline = Instant::now() + waits.connect_total;
    let count = route.ways.len();
    let start = route.count.turn.fetch_add(1, Relaxed);
    let mut ejected = Vec::new();
    for place in 0..count {
        let way = &route.ways[start.wrapping_add(place) % count];
        if way.target.admit(switch.now_ms()) == Admission::Ejected {
            ejected.push(way);
        } else if let Some((stream, open)) = connect(switch, waits, deadline, route, &way.target).await {
            return Some((stream, open, way.proxy_protocol));
        }
    }
    for way in ejected {
        if let Some((stream, open)) = connect(switch, waits, deadline, route, &way.target).await {
            return Some((stream, open, way.proxy_protocol));
        }
    }
    None
}

async fn connect(
    switch: &Switch,
    waits: &Waits,
    deadline: Instant,
    route: &Route,
    target: &Arc<Target>,
) -> Option<(TcpStream, Open)> {
    if Instant::now() >= deadline {
        return None;
    }
    let until = deadline.min(Instant::now() + waits.connect);
    let error = match timeout_at(until, dial(target.address)).await {
        Ok(Ok(stream)) => {
            if target.accepted() {
                tracing::info!(instance = %target.tally.instance, address = %target.address, "backend re-admitted");
            }
            return Some((stream, Open::new(Arc::clone(&target.tally))));
        }
        Ok(Err(error)) => error,
        Err(_) => io::Error::from(io::ErrorKind::TimedOut),
    };
    if is_our_own(&error) {
        tracing::error!(address = %target.address, %error, "cannot make connections");
        return None;
    }
    if target.refused(switch.now_ms()) {
        switch.ejections.fetch_add(1, Relaxed);
        tracing::warn!(
            route = %route.id, instance = %target.tally.instance, address = %target.address, %error,
            "backend ejected"
        );
    }
    None
}

/// Whether a failed connect says nothing about the backend: no descriptor, port or memory here.
fn is_our_own(error: &io::Error) -> bool {
    let ours = [libc::EMFILE, libc::ENFILE, libc::EADDRNOTAVAIL, libc::ENOBUFS, libc::ENOMEM];
    error.raw_os_error().is_some_and(|code| ours.contains(&code))
}

async fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = match address.ip() {
        IpAddr::V4(_) => TcpSocket::new_v4()?,
        IpAddr::V6(_) => TcpSocket::new_v6()?,
    };
    crate::listen::set_stream_options(&socket2::SockRef::from(&socket))?;
    socket.connect(address).await
}
