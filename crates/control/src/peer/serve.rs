//! Being asked by other members: who is let in, and how what they ask is answered.
//!
//! ```text
//!   accept ─► TLS: of our authority? ─► greeting: this cluster? the member of the certificate?
//!                    │ no                      │ no                       │ still a member?
//!                    ▼                         ▼                          ▼
//!                an alert                  the reason               requests, answered as they end
//! ```

use super::{
    ca::{Tls, names},
    frame::{Frame, FrameError, Kind, Outbox, Reader, outbox, write, write_one},
    greeting::Greeting,
};
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use log::cluster::{ClusterLog, TransportError};
use rt::Clock;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::{NodeId, Timestamp, limits};

/// Between two tries to accept when the system has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What other members ask.
pub trait Receive: Send + Sync + 'static {
    /// Takes a message of a member that is known, and gives the answer.
    fn receive(&self, message: Bytes) -> BoxFuture<'static, Result<Bytes, TransportError>>;

    /// What this member knows of who is one.
    fn standing(&self) -> Standing;

    /// Who a message says it is of, if it says so.
    fn sender(&self, _message: &Bytes) -> Option<NodeId> {
        None
    }

    /// Makes one a member that has no certificate yet: what it says of itself, to what it needs.
    fn admit(&self, _join: Bytes) -> BoxFuture<'static, Result<Bytes, NotAdmitted>> {
        let why = "nobody can join through this member".to_owned();
        Box::pin(std::future::ready(Err(NotAdmitted::Refused(why))))
    }
}

/// Why one that asked to be made a member has nothing in its hands. The text is for whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// It was certainly not made one.
    Refused(String),
    /// It may have been made one. The same request finds out.
    Unclear(String),
}

/// What a member knows of who is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// This member.
    pub own: Option<NodeId>,
    /// Who it thinks leads.
    pub leader: Option<NodeId>,
    /// Everyone; empty on one that waits to be added.
    pub members: BTreeSet<NodeId>,
    /// Whether it leads and a majority has said so lately.
    pub leads: bool,
}

impl Receive for ClusterLog {
    fn receive(&self, message: Bytes) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let log = self.clone();
        async move { Self::receive(&log, message).await }.boxed()
    }

    fn sender(&self, message: &Bytes) -> Option<NodeId> {
        log::cluster::Message::sender(message)
    }

    fn standing(&self) -> Standing {
        let status = self.status();
        let is_current = |silent: Duration| silent < Duration::from(limits::PEER_CURRENT);
        let alone = status.voters.iter().eq([&status.own]);
        let leads = status.state == "leader" && (alone || status.quorum_silent.is_some_and(is_current));
        Standing {
            own: Some(status.own),
            leader: status.leader,
            members: status.members.into_keys().collect(),
            leads,
        }
    }
}

impl Standing {
    /// Whether `peer` is surely no member (any more).
    ///
    /// That it is missing here is not enough: a member that was away while the others changed would
    /// never hear of it, since whoever could tell it is one it does not know. So only one that leads,
    /// or has just heard the leader, is sure. Where there is no leader, a member that was removed may
    /// be heard; its log is behind, so nobody elects it (Raft's own argument: Ongaro 2014, 4.2.3).
    fn excludes(&self, peer: NodeId, heard_lately: impl Fn(NodeId) -> bool) -> bool {
        let is_known = self.members.is_empty() || self.members.contains(&peer);
        let leader = self.leader.filter(|leader| self.members.contains(leader) && Some(*leader) != self.own);
        !is_known && (self.leads || leader.is_some_and(heard_lately))
    }
}

/// When a member was last heard here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// When it last asked anything or gave a sign of life.
    pub heard: Timestamp,
    /// How many connections it has open.
    pub connections: usize,
}

/// The last one that was not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When.
    pub at: Timestamp,
    /// From where it came.
    pub from: SocketAddr,
    /// Why it was not let in.
    pub why: String,
}

/// Who asked this member, and when.
#[derive(Clone)]
pub struct Contacts {
    clock: Arc<dyn Clock>,
    book: Arc<Mutex<Book>>,
}

#[derive(Default)]
struct Book {
    contacts: BTreeMap<NodeId, Contact>,
    /// When each asked something, on a clock that does not jump.
    asked: BTreeMap<NodeId, Instant>,
    refused: Option<Refusal>,
}

impl fmt::Debug for Contacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contacts").finish_non_exhaustive()
    }
}

impl Contacts {
    /// Nobody yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, book: Arc::default() }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().expect("no code panics while it holds this lock")
    }

    /// Everyone who was let in since the start.
    pub fn all(&self) -> BTreeMap<NodeId, Contact> {
        self.book().contacts.clone()
    }

    /// The last one that was not let in.
    pub fn refused(&self) -> Option<Refusal> {
        self.book().refused.clone()
    }

    fn heard(&self, peer: NodeId) {
        let now = self.clock.now();
        self.book().contacts.entry(peer).or_default().heard = now;
    }

    fn asked(&self, peer: NodeId) {
        self.book().asked.insert(peer, Instant::now());
    }

    fn asked_lately(&self, peer: NodeId) -> bool {
        self.book().asked.get(&peer).is_some_and(|at| at.elapsed() < Duration::from(limits::PEER_CURRENT))
    }

    fn refuse(&self, from: SocketAddr, why: &str) {
        let at = self.clock.now();
        let mut book = self.book();
        let is_news = book.refused.as_ref().is_none_or(|last| last.why != why || last.from.ip() != from.ip());
        book.refused = Some(Refusal { at, from, why: why.to_owned() });
        drop(book);
        // One that is refused comes again and again.
        if is_news {
            tracing::warn!(%from, why, "a connection of another member was refused");
        }
    }

    fn came(&self, peer: NodeId) -> Present {
        self.book().contacts.entry(peer).or_default().connections += 1;
        self.heard(peer);
        Present { contacts: self.clone(), peer }
    }
}

/// A connection that is counted.
struct Present {
    contacts: Contacts,
    peer: NodeId,
}

impl Drop for Present {
    fn drop(&mut self) {
        self.contacts.book().contacts.entry(self.peer).or_default().connections -= 1;
    }
}

/// Lets other members ask, until told to stop. Then every connection is cut: they ask another.
pub async fn serve(
    listener: TcpListener,
    tls: Tls,
    log: Arc<dyn Receive>,
    contacts: Contacts,
    shutdown: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(limits::PEER_CONNECTIONS));
    let connections = TaskTracker::new();
    let host = Host { tls, log, contacts };
    loop {
        // Without room nothing is accepted: the kernel's queue waits.
        let permit = tokio::select! {
            permit = Arc::clone(&room).acquire_owned() => permit.expect("the semaphore is never closed"),
            () = shutdown.cancelled() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, from)) => {
                let guest = host.clone().attend(stream, from, permit);
                connections.spawn(shutdown.clone().run_until_cancelled_owned(guest));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection of another member could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

#[derive(Clone)]
struct Host {
    tls: Tls,
    log: Arc<dyn Receive>,
    contacts: Contacts,
}

impl Host {
    async fn attend(self, stream: TcpStream, from: SocketAddr, _room: OwnedSemaphorePermit) {
        // Short answers must not wait for more.
        let _best_effort = stream.set_nodelay(true);
        let greeting: Duration = limits::PEER_GREETING.into();
        let accept = TlsAcceptor::from(Arc::clone(&self.tls.server)).accept(stream).into_fallible();
        let mut stream = match timeout(greeting, accept).await {
            Ok(Ok(stream)) => stream,
            Ok(Err((error, stream))) => {
                self.contacts.refuse(from, &format!("its certificate is not taken: {error}"));
                return linger(stream).await;
            }
            Err(_) => return self.contacts.refuse(from, "it did not finish its greeting"),
        };
        let mut reader = Reader::new(limits::PEER_HELLO);
        let peer = match timeout(greeting, reader.read(&mut stream)).await {
            Err(_) => return self.contacts.refuse(from, "it did not finish its greeting"),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(hello)) if hello.kind == Kind::Join => return self.admit(hello, from, stream).await,
            Ok(Ok(hello)) => self.judge(&hello, &stream),
        };
        let welcome = match &peer {
            Ok(_) => Frame::new(0, Kind::Welcome, Bytes::new()),
            Err(why) => Frame::new(0, Kind::Parting, why.clone().into_bytes()),
        };
        let told = write_one(&mut stream, &welcome).await;
        match (peer, told) {
            (Ok(peer), Ok(())) => self.host(peer, from, stream).await,
            (Ok(_), Err(error)) => tracing::debug!(%from, %error, "a member hung up while it was let in"),
            (Err(why), _) => {
                self.contacts.refuse(from, &why);
                linger(stream).await;
            }
        }
    }

    /// Answers one that asks to be made a member: the one thing that needs no certificate.
    async fn admit(self, join: Frame, from: SocketAddr, mut stream: TlsStream<TcpStream>) {
        let told = match timeout(limits::PEER_JOIN.into(), self.log.admit(join.bytes)).await {
            Ok(told) => told,
            Err(_) => {
                Err(NotAdmitted::Unclear(format!("the cluster did not answer within {}", limits::PEER_JOIN)))
            }
        };
        let answer = match told {
            Ok(admission) => Frame::new(0, Kind::Admitted, admission),
            Err(NotAdmitted::Refused(why)) => {
                self.contacts.refuse(from, &format!("it asked to join: {why}"));
                Frame::new(0, Kind::Parting, why.into_bytes())
            }
            Err(NotAdmitted::Unclear(why)) => Frame::new(0, Kind::Unclear, why.into_bytes()),
        };
        match write_one(&mut stream, &answer).await {
            Ok(()) => linger(stream).await,
            Err(error) => tracing::debug!(%from, %error, "one that asked to join hung up"),
        }
    }

    /// Who calls, if it may.
    fn judge(&self, hello: &Frame, stream: &TlsStream<TcpStream>) -> Result<NodeId, String> {
        if hello.kind != Kind::Hello {
            return Err(format!("it begins with {:?} and not with a greeting", hello.kind));
        }
        let Greeting { cluster, node, mode } = Greeting::decode(&hello.bytes)?;
        if cluster != self.tls.cluster {
            return Err(format!("another cluster ({cluster}, not {})", self.tls.cluster));
        }
        if mode != self.tls.mode {
            return Err(format!(
                "{node} runs with failover = {mode:?} and {} with {:?}: write the same into member.toml of both and start them again",
                self.tls.node, self.tls.mode
            ));
        }
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        if !shown.is_some_and(|shown| names(shown, node)) {
            return Err(format!("member {node} is not the one it says: its certificate names another"));
        }
        self.standing(node)
    }

    fn standing(&self, peer: NodeId) -> Result<NodeId, String> {
        let excluded = self.log.standing().excludes(peer, |leader| self.contacts.asked_lately(leader));
        if excluded { Err(format!("not a member: {peer}")) } else { Ok(peer) }
    }

    /// Answers one that was let in, until it goes or may not stay.
    async fn host(self, peer: NodeId, from: SocketAddr, stream: TlsStream<TcpStream>) {
        let _present = self.contacts.came(peer);
        let (mut reading, mut writing) = tokio::io::split(stream);
        let (outbox, queue) = outbox();
        // One message between reading and acting, since a read that is dropped loses what it has.
        let (heard_in, heard) = mpsc::channel(1);
        let why = tokio::select! {
            error = hear(&mut reading, heard_in) => error,
            sent = write(queue, &mut writing) => return tracing::debug!(%peer, ?sent, "a member hung up"),
            why = self.answer(peer, heard, &outbox) => Err(why),
        };
        let why = match why {
            Ok(FrameError::Broken(error)) => return tracing::debug!(%peer, %error, "a member hung up"),
            Ok(error) => error.to_string(),
            Err(why) => why,
        };
        self.contacts.refuse(from, &why);
        let parting = Frame::new(0, Kind::Parting, why.into_bytes());
        if write_one(&mut writing, &parting).await.is_ok() {
            linger(reading.unsplit(writing)).await;
        }
    }

    /// Acts on what is heard; ends with the reason why no more is taken.
    async fn answer(&self, peer: NodeId, mut heard: mpsc::Receiver<Frame>, outbox: &Outbox) -> String {
        let mut look = interval(limits::PEER_PING.into());
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut under_way = JoinSet::new();
        loop {
            tokio::select! {
                Some(frame) = heard.recv() => {
                    self.contacts.heard(peer);
                    match frame.kind {
                        Kind::Request => self.take(peer, frame, &mut under_way, outbox),
                        // Without room an answer is on its way, and is a sign of life too.
                        Kind::Ping => drop(outbox.offer(Frame::new(frame.id, Kind::Pong, Bytes::new()))),
                        kind => return format!("it asks with {kind:?}"),
                    }
                }
                Some(ended) = under_way.join_next() => if let Err(error) = ended {
                    tracing::error!(%peer, %error, "a message of a member could not be answered");
                },
                _ = look.tick() => if let Err(why) = self.standing(peer) {
                    return why;
                },
            }
        }
    }

    fn take(&self, peer: NodeId, request: Frame, under_way: &mut JoinSet<()>, outbox: &Outbox) {
        self.contacts.asked(peer);
        if under_way.len() >= limits::PEER_REQUESTS {
            let why = format!("{} requests are under way", limits::PEER_REQUESTS);
            // Without room the answers before it are not read either.
            let _told = outbox.offer(Frame::new(request.id, Kind::Refusal, why.into_bytes()));
            return;
        }
        if let Some(sender) = self.log.sender(&request.bytes).filter(|sender| *sender != peer) {
            let why = format!("{peer} says that it is {sender}");
            let _told = outbox.offer(Frame::new(request.id, Kind::Refusal, why.into_bytes()));
            return;
        }
        let (log, outbox) = (Arc::clone(&self.log), outbox.clone());
        under_way.spawn(async move {
            let answer = match log.receive(request.bytes).await {
                Ok(bytes) if bytes.len() <= limits::PEER_MESSAGE => {
                    Frame::new(request.id, Kind::Answer, bytes)
                }
                Ok(bytes) => refusal(request.id, format!("an answer of {} bytes", bytes.len())),
                Err(TransportError::Refused(why)) => refusal(request.id, why),
                Err(error) => refusal(request.id, error.to_string()),
            };
            outbox.send(answer).await;
        });
    }
}

fn refusal(id: u64, why: String) -> Frame {
    Frame::new(id, Kind::Refusal, why.into_bytes())
}

/// Reads until it cannot.
async fn hear(
    from: &mut ReadHalf<TlsStream<TcpStream>>,
    to: mpsc::Sender<Frame>,
) -> Result<FrameError, String> {
    let mut reader = Reader::new(limits::PEER_MESSAGE);
    loop {
        match reader.read(from).await {
            Ok(frame) => {
                if to.send(frame).await.is_err() {
                    return Err("this member takes no more".into());
                }
            }
            Err(error) => return Ok(error),
        }
    }
}

/// Leaves the last word to be read: closing with something unread would take it back.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let close = async {
        stream.shutdown().await?;
        let mut unread = [0; 1024];
        while stream.read(&mut unread).await? > 0 {}
        std::io::Result::Ok(())
    };
    let _best_effort = timeout(limits::PEER_GREETING.into(), close).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> NodeId {
        NodeId::from_u128(number)
    }

    #[test]
    fn only_who_is_sure_excludes_anybody() {
        let members = BTreeSet::from([id(1), id(2)]);
        let follower =
            Standing { own: Some(id(2)), leader: Some(id(1)), members: members.clone(), leads: false };
        let leader = Standing { own: Some(id(1)), leader: Some(id(1)), members, leads: true };
        let lost = Standing { leads: false, ..leader.clone() };
        let stranger = Standing { leader: Some(id(3)), ..follower.clone() };
        let newcomer = Standing::default();
        let (heard, silent) = (|_| true, |_| false);
        assert!(leader.excludes(id(3), silent), "one that leads knows");
        assert!(follower.excludes(id(3), heard), "one that has just heard the leader knows");
        assert!(!follower.excludes(id(3), silent), "one that was away may be behind");
        assert!(!lost.excludes(id(3), heard), "one that leads nobody may be behind");
        assert!(!stranger.excludes(id(3), heard), "its leader is one it has not heard of yet");
        assert!(!newcomer.excludes(id(3), heard), "one that waits to be added takes whoever adds it");
        for standing in [leader, follower, lost, stranger, newcomer] {
            assert!(!standing.excludes(id(2), heard), "a member is one: {standing:?}");
        }
    }
}
