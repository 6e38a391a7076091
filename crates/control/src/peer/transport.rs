//! The door to other members over TLS, and how it has been with each of them.

use super::{
    ca::Tls,
    frame::Flight,
    line::{Ask, Line},
};
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use log::cluster::{Member, Transport, TransportError};
use rt::Clock;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
    time::timeout,
};
use types::{NodeId, Timestamp, limits};

/// How it has been with a member that was asked something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether there is a connection.
    pub connected: bool,
    /// When it was last heard.
    pub heard: Option<Timestamp>,
    /// When it could last not be asked, or a connection to it broke, and why. It may be well since:
    /// then it was heard later.
    pub failed: Option<(Timestamp, String)>,
}

/// The door of a member to the others.
#[derive(Clone)]
pub struct PeerTransport(Arc<Inner>);

struct Inner {
    tls: Tls,
    runtime: Handle,
    clock: Arc<dyn Clock>,
    lines: Mutex<BTreeMap<NodeId, Wire>>,
    /// Where members are reached that may be known under an older address to whoever asks.
    reached: Mutex<BTreeMap<NodeId, String>>,
    health: Healths,
}

/// Where questions to one member are left.
struct Wire {
    address: String,
    asks: mpsc::Sender<Ask>,
}

type Healths = Arc<Mutex<BTreeMap<NodeId, Health>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds this lock")
}

impl fmt::Debug for PeerTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerTransport").field("node", &self.0.tls.node).finish_non_exhaustive()
    }
}

impl PeerTransport {
    /// A door that shows this identity. Its connections live on `runtime`, which must not be the one
    /// of consensus: that thread has better things to do than to encrypt.
    pub fn new(tls: Tls, runtime: Handle, clock: Arc<dyn Clock>) -> Self {
        let (lines, reached, health) = (Mutex::default(), Mutex::default(), Arc::default());
        Self(Arc::new(Inner { tls, runtime, clock, lines, reached, health }))
    }

    /// From now on these members are asked at these addresses, whatever is known to whoever asks. Whoever
    /// answers there must show that it is the member that is meant.
    pub fn reach(&self, addresses: BTreeMap<NodeId, String>) {
        *lock(&self.0.reached) = addresses;
    }

    /// How it has been with each member that was ever asked something.
    pub fn health(&self) -> BTreeMap<NodeId, Health> {
        lock(&self.0.health).clone()
    }
}

impl Inner {
    /// Leaves a question on the line to a member. A member that has moved gets a new line; the old one
    /// ends when what was left on it has.
    fn leave(&self, to: NodeId, member: &Member, ask: Ask) -> Result<(), TransportError> {
        let address = lock(&self.reached).get(&to).cloned().unwrap_or_else(|| member.peer.clone());
        let mut lines = lock(&self.lines);
        if lines.get(&to).is_none_or(|wire| wire.address != address || wire.asks.is_closed()) {
            let (asks_in, asks) = mpsc::channel(limits::PEER_REQUESTS);
            let record = Record { to, clock: Arc::clone(&self.clock), all: Arc::clone(&self.health) };
            let line = Line { to, address: address.clone(), tls: self.tls.clone(), record, asks };
            self.runtime.spawn(line.run());
            lines.insert(to, Wire { address, asks: asks_in });
        }
        let left = lines[&to].asks.try_send(ask);
        left.map_err(|_| {
            let why = format!("{} questions to it wait to be sent", limits::PEER_REQUESTS);
            TransportError::Unreachable(why)
        })
    }
}

impl Transport for PeerTransport {
    fn call(
        &self,
        to: NodeId,
        member: &Member,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let (inner, member) = (Arc::clone(&self.0), member.clone());
        async move {
            if message.len() > limits::PEER_MESSAGE {
                let (length, most) = (message.len(), limits::PEER_MESSAGE);
                let why = format!("a message of {length} bytes, and {most} is the most");
                return Err(TransportError::Refused(why));
            }
            let (answer, told) = oneshot::channel();
            let flight = Arc::new(Flight::default());
            let waits = Waits(Arc::clone(&flight));
            inner.leave(to, &member, Ask { message, flight, answer })?;
            drop(inner);
            let why = match timeout(patience, told).await {
                Ok(Ok(answer)) => return answer,
                Ok(Err(_)) => "this member has closed the connection".to_owned(),
                Err(_) => format!("no answer within {} ms", patience.as_millis()),
            };
            match waits.0.is_sent() {
                true => Err(TransportError::Lost(why)),
                false => Err(TransportError::Unreachable(why)),
            }
        }
        .boxed()
    }
}

/// Somebody waits for the answer. Dropped, nobody does, and what has not left need not.
struct Waits(Arc<Flight>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.forget();
    }
}

/// Where a line writes down how it goes.
pub(super) struct Record {
    to: NodeId,
    clock: Arc<dyn Clock>,
    all: Healths,
}

impl Record {
    fn note(&self, change: impl FnOnce(&mut Health, Timestamp)) {
        let now = self.clock.now();
        change(lock(&self.all).entry(self.to).or_default(), now);
    }

    pub fn connected(&self) {
        tracing::info!(member = %self.to, "connected to a member");
        self.note(|health, now| {
            health.connected = true;
            health.heard = Some(now);
        });
    }

    pub fn disconnected(&self) {
        self.note(|health, _| health.connected = false);
    }

    pub fn heard(&self) {
        self.note(|health, now| health.heard = Some(now));
    }

    /// Says it aloud only when it is news: a member that is away is tried again for ever.
    pub fn failed(&self, why: &str) {
        let mut is_news = false;
        self.note(|health, now| {
            let known = health.failed.as_ref();
            is_news = known.is_none_or(|(at, known)| known != why || health.heard > Some(*at));
            health.failed = Some((now, why.to_owned()));
        });
        if is_news {
            tracing::warn!(member = %self.to, why, "a member cannot be asked");
        }
    }
}
