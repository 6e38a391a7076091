//! Members of a cluster that reach each other over real TLS on loopback.

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use holdfast_control::peer::{
    Authority, CaError, Contacts, Health, Identity, PeerTransport, Receive, Standing, Tls, ca::member_name,
    serve,
};
use log::{
    Batch, Log,
    cluster::{ClusterLog, Member, Options, Transport, TransportError},
    conformance,
    wal::Wal,
};
use rt::{Clock, Disk, RealDisk, SystemClock, ThreadSpawner};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Handle, Runtime},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use types::{EventId, NodeId, limits};

const CLUSTER: &str = "one";
/// Longer than anything here takes; reached only when something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

fn id(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

fn authority() -> Authority {
    Authority::make(CLUSTER, SystemClock.now()).expect("an authority")
}

fn identity(authority: &Authority, number: u128) -> Identity {
    authority.issue(id(number), SystemClock.now()).expect("issued")
}

fn tls(authority: &Authority, number: u128) -> Tls {
    identity(authority, number).tls().expect("usable")
}

fn at(address: SocketAddr) -> Member {
    Member { peer: address.to_string(), ..Member::default() }
}

/// Waits, bounded, for what must come.
async fn soon<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A side that asks, without a log.
struct Caller(PeerTransport);

impl Caller {
    fn new(tls: Tls) -> Self {
        Self(PeerTransport::new(tls, Handle::current(), clock()))
    }

    fn ask(&self, to: u128, address: SocketAddr, text: &str) -> JoinHandle<Result<Bytes, TransportError>> {
        let text = Bytes::copy_from_slice(text.as_bytes());
        tokio::spawn(self.0.call(id(to), &at(address), text, PATIENCE))
    }

    async fn asked(&self, to: u128, address: SocketAddr, text: &str) -> Result<Bytes, TransportError> {
        self.ask(to, address, text).await.expect("no panic")
    }

    fn health(&self, of: u128) -> Health {
        self.0.health().remove(&id(of)).expect("it was asked")
    }
}

/// A member that answers with what it was asked, at once or when it is let.
#[derive(Default)]
struct Echo {
    begun: AtomicUsize,
    standing: Mutex<Standing>,
    gate: Option<Semaphore>,
}

/// What [`Echo`] is asked through.
struct Ears(Arc<Echo>);

impl Receive for Ears {
    fn receive(&self, message: Bytes) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let echo = Arc::clone(&self.0);
        async move {
            echo.begun.fetch_add(1, SeqCst);
            if let Some(gate) = echo.gate.as_ref().filter(|_| message.starts_with(b"slow")) {
                gate.acquire().await.expect("never closed").forget();
            }
            match &message[..] {
                b"no" => Err(TransportError::Refused("as it was asked to".into())),
                _ => Ok(message),
            }
        }
        .boxed()
    }

    fn standing(&self) -> Standing {
        self.0.standing.lock().expect("no panics").clone()
    }
}

/// A side that is asked.
struct Served {
    address: SocketAddr,
    echo: Arc<Echo>,
    contacts: Contacts,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    async fn new(tls: Tls, echo: Echo) -> Self {
        Self::at("127.0.0.1:0".parse().expect("an address"), tls, echo).await
    }

    async fn at(address: SocketAddr, tls: Tls, echo: Echo) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (echo, contacts, stop) = (Arc::new(echo), Contacts::new(clock()), CancellationToken::new());
        let task = tokio::spawn(serve(
            listener,
            tls,
            Arc::new(Ears(Arc::clone(&echo))),
            contacts.clone(),
            stop.clone(),
        ));
        Self { address, echo, contacts, stop, task }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("no panic");
    }

    async fn refused(&self) -> String {
        soon("a refusal", || self.contacts.refused()).await.why
    }

    fn begun(&self) -> usize {
        self.echo.begun.load(SeqCst)
    }
}

/// Whatever TLS lets through: it trusts the authority and shows the certificate it is told to.
async fn raw(trusted: &Identity, shown: &Identity, to: NodeId, address: SocketAddr) -> TlsStream<TcpStream> {
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(der(trusted.parts()[0])).expect("a root");
    let [_, certificate, key] = shown.parts();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![der(certificate)], key)
        .expect("they belong together");
    let name = ServerName::try_from(member_name(to)).expect("a name");
    let stream = TcpStream::connect(address).await.expect("it listens");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.expect("this side is content")
}

fn frame(length: usize, kind: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(length).expect("a length");
    [&length.to_le_bytes()[..], &7u64.to_le_bytes(), &[kind], bytes].concat()
}

fn hello(version: u8, node: NodeId) -> Vec<u8> {
    let greeting = postcard::to_extend(&(CLUSTER, node, ""), vec![version]).expect("plain data");
    frame(greeting.len(), 1, &greeting)
}

/// The kind and content of the next frame.
async fn heard(stream: &mut TlsStream<TcpStream>) -> (u8, String) {
    let mut header = [0; 13];
    stream.read_exact(&mut header).await.expect("a header");
    let length = u32::from_le_bytes(header[..4].try_into().expect("four"));
    let mut bytes = vec![0; length as usize];
    stream.read_exact(&mut bytes).await.expect("the rest");
    (header[12], String::from_utf8(bytes).expect("text"))
}

fn refusal(answer: Result<Bytes, TransportError>) -> String {
    match answer {
        Err(TransportError::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_member_is_asked_and_answers() {
    let authority = authority();
    let (caller, served) =
        (Caller::new(tls(&authority, 1)), Served::new(tls(&authority, 2), Echo::default()).await);
    for length in [0, 1, limits::PEER_PIECE + 1, limits::PEER_MESSAGE] {
        let text = "x".repeat(length);
        assert_eq!(caller.asked(2, served.address, &text).await.expect("answered"), text);
    }
    assert_eq!(refusal(caller.asked(2, served.address, "no").await), "as it was asked to");
    let too_much = "x".repeat(limits::PEER_MESSAGE + 1);
    assert!(refusal(caller.asked(2, served.address, &too_much).await).contains("is the most"));
    assert_eq!(caller.asked(2, served.address, "still there").await.expect("answered"), "still there");
    let health = caller.health(2);
    assert!(health.connected && health.heard.is_some() && health.failed.is_none(), "{health:?}");
    let contact = served.contacts.all()[&id(1)];
    assert_eq!(contact.connections, 1, "one connection carried all of it");
    assert!(contact.heard > types::Timestamp::ZERO);
}

#[tokio::test]
async fn one_of_another_authority_is_refused() {
    let (ours, theirs) = (authority(), authority());
    let served = Served::new(tls(&ours, 1), Echo::default()).await;
    let foreign = Caller::new(tls(&theirs, 2));
    let why = refusal(foreign.asked(1, served.address, "hello").await);
    assert!(why.contains("another authority issued its certificate"), "{why}");
    let (_, shown) = foreign.health(1).failed.expect("it failed");
    assert!(shown.contains(&why), "{shown}");
    assert!(served.refused().await.contains("its certificate is not taken"));

    // One that would trust this member all the same learns it from this member.
    let mut liar = raw(&identity(&ours, 2), &identity(&theirs, 2), id(1), served.address).await;
    let _refused_meanwhile = liar.write_all(&hello(1, id(2))).await;
    let alert = liar.read_u8().await.expect_err("never let in");
    assert!(alert.to_string().contains("alert"), "{alert}");
    let why = soon("the second refusal", || {
        served.contacts.refused().filter(|last| last.why.contains("certificate:"))
    });
    assert!(why.await.why.contains("certificate"));
    assert_eq!(served.begun(), 0);
}

#[tokio::test]
async fn one_of_another_cluster_is_refused() {
    let authority = authority();
    let served = Served::new(tls(&authority, 1), Echo::default()).await;
    let caller = Caller::new(tls(&authority, 2).claiming("other", id(2)));
    let why = refusal(caller.asked(1, served.address, "hello").await);
    assert_eq!(why, "another cluster (other, not one)");
    assert_eq!(served.refused().await, why);
    let (_, shown) = caller.health(1).failed.expect("it failed");
    assert!(shown.contains(&why), "{shown}");
    assert_eq!(served.begun(), 0);
}

#[tokio::test]
async fn one_that_claims_to_be_another_is_refused() {
    let authority = authority();
    let served = Served::new(tls(&authority, 1), Echo::default()).await;
    let caller = Caller::new(tls(&authority, 2).claiming(CLUSTER, id(3)));
    let why = refusal(caller.asked(1, served.address, "hello").await);
    assert!(why.contains(&format!("member {} is not the one it says", id(3))), "{why}");
    assert_eq!(served.refused().await, why);
    assert_eq!(served.begun(), 0);
    // The other way round: whoever answers must be the one that was asked.
    let caller = Caller::new(tls(&authority, 2));
    let why = refusal(caller.asked(3, served.address, "hello").await);
    assert!(why.contains(&format!("is not member {}", id(3))), "{why}");
    assert_eq!(served.begun(), 0);
}

#[tokio::test]
async fn one_that_speaks_another_version_is_told() {
    let authority = authority();
    let served = Served::new(tls(&authority, 1), Echo::default()).await;
    let own = identity(&authority, 2);
    let mut stream = raw(&own, &own, id(1), served.address).await;
    stream.write_all(&hello(9, id(2))).await.expect("written");
    let (kind, why) = heard(&mut stream).await;
    assert_eq!(kind, 3);
    assert!(why.contains("speaks version 9"), "{why}");
    assert_eq!(stream.read(&mut [0]).await.expect("closed in order"), 0);
}

#[tokio::test]
async fn a_frame_above_the_limit_closes_the_connection() {
    let authority = authority();
    let served = Served::new(tls(&authority, 1), Echo::default()).await;
    let own = identity(&authority, 2);
    let mut stream = raw(&own, &own, id(1), served.address).await;
    stream.write_all(&hello(1, id(2))).await.expect("written");
    assert_eq!(heard(&mut stream).await.0, 2, "welcome");
    // Nothing follows the header: whoever made room for the content would wait for it.
    stream.write_all(&frame(u32::MAX as usize, 4, &[])).await.expect("written");
    let (kind, why) = heard(&mut stream).await;
    assert_eq!(kind, 3);
    assert!(why.contains("a frame of 4294967295 bytes"), "{why}");
    assert_eq!(stream.read(&mut [0]).await.expect("closed in order"), 0);
    assert_eq!(served.begun(), 0);
    let caller = Caller::new(tls(&authority, 3));
    caller.asked(1, served.address, "others").await.expect("are served");
}

#[tokio::test]
async fn a_greeting_may_not_be_long() {
    let authority = authority();
    let served = Served::new(tls(&authority, 1), Echo::default()).await;
    let own = identity(&authority, 2);
    let mut stream = raw(&own, &own, id(1), served.address).await;
    stream.write_all(&frame(limits::PEER_HELLO + 1, 1, &[])).await.expect("written");
    assert!(heard(&mut stream).await.1.contains("is the most"));
}

#[tokio::test]
async fn slow_requests_do_not_hold_up_a_quick_one() {
    let authority = authority();
    let gate = Some(Semaphore::new(0));
    let served = Served::new(tls(&authority, 1), Echo { gate, ..Echo::default() }).await;
    let caller = Caller::new(tls(&authority, 2));
    let text = "slow".repeat(limits::PEER_PIECE);
    let slow: Vec<_> = (0..64).map(|_| caller.ask(1, served.address, &text)).collect();
    soon("all of them to be under way", || (served.begun() == 64).then_some(())).await;
    assert_eq!(caller.asked(1, served.address, "quick").await.expect("answered"), "quick");
    assert!(slow.iter().all(|each| !each.is_finished()), "the quick one is first");

    // As many as may be are under way; one more is not sent, and that is an answer.
    let more: Vec<_> = (64..limits::PEER_REQUESTS).map(|_| caller.ask(1, served.address, "slow")).collect();
    let full = limits::PEER_REQUESTS + 1;
    soon("every place to be taken", || (served.begun() == full).then_some(())).await;
    let refused = caller.asked(1, served.address, "quick").await;
    assert!(matches!(&refused, Err(TransportError::Unreachable(why)) if why.contains("wait for an answer")));

    let gate = served.echo.gate.as_ref().expect("there is one");
    gate.add_permits(limits::PEER_REQUESTS);
    for each in slow.into_iter().chain(more) {
        assert!(each.await.expect("no panic").expect("answered").starts_with(b"slow"));
    }
}

#[tokio::test]
async fn a_broken_connection_says_what_may_have_been_heard() {
    let authority = authority();
    let gate = Some(Semaphore::new(0));
    let served = Served::new(tls(&authority, 1), Echo { gate, ..Echo::default() }).await;
    let (address, caller) = (served.address, Caller::new(tls(&authority, 2)));
    let slow = caller.ask(1, address, "slow");
    soon("it to be under way", || (served.begun() == 1).then_some(())).await;
    served.stop().await;
    let lost = slow.await.expect("no panic");
    assert!(matches!(lost, Err(TransportError::Lost(_))), "{lost:?}");
    let gone = caller.asked(1, address, "hello").await;
    assert!(matches!(gone, Err(TransportError::Unreachable(_))), "{gone:?}");
    assert!(!caller.health(1).connected && caller.health(1).failed.is_some());

    let again = Served::at(address, tls(&authority, 1), Echo::default()).await;
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = caller.asked(1, address, "hello").await {
        assert!(matches!(error, TransportError::Unreachable(_)), "{error}");
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let health = caller.health(1);
    assert!(health.connected && health.heard >= health.failed.map(|(at, _)| at), "well again");
    again.stop().await;
}

#[tokio::test]
async fn a_member_that_is_away_is_not_hammered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, tries) = (listener.local_addr().expect("bound"), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&tries);
    let away = tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, SeqCst);
        }
    });
    let caller = Caller::new(tls(&authority(), 2));
    let start = Instant::now();
    for _ in 0..1000 {
        caller.asked(1, address, "hello").await.expect_err("nobody who speaks TLS");
    }
    // Each try is followed by a wait twice as long as the one before.
    let most = 2 + start.elapsed().as_millis() / u128::from(limits::PEER_RETRY_MIN.as_ms());
    assert!((tries.load(SeqCst) as u128) <= most, "{tries:?} tries, {most} are the most");
    away.abort();
}

#[tokio::test]
async fn a_member_that_was_removed_is_refused() {
    let authority = authority();
    let gate = Some(Semaphore::new(0));
    let served = Served::new(tls(&authority, 1), Echo { gate, ..Echo::default() }).await;
    let caller = Caller::new(tls(&authority, 3));
    let slow = caller.ask(1, served.address, "slow");
    soon("it to be under way", || (served.begun() == 1).then_some(())).await;
    let members = BTreeSet::from([id(1), id(2)]);
    let standing = Standing { own: Some(id(1)), leader: Some(id(1)), members, leads: true };
    *served.echo.standing.lock().expect("no panics") = standing;
    let lost = slow.await.expect("no panic").expect_err("it may not stay").to_string();
    assert!(lost.contains(&format!("not a member: {}", id(3))), "{lost}");
    let another = Caller::new(tls(&authority, 3));
    let why = refusal(another.asked(1, served.address, "hello").await);
    assert_eq!(why, format!("not a member: {}", id(3)));
    assert_eq!(served.refused().await, why);
    let member = Caller::new(tls(&authority, 2));
    member.asked(1, served.address, "hello").await.expect("a member is answered");
    assert_eq!(served.begun(), 2);
}

#[test]
fn an_identity_is_kept_for_its_owner_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let made = authority();
    assert!(Identity::load(dir.path(), CLUSTER, id(1)).expect("nothing there").is_none());
    made.save(dir.path()).expect("saved");
    identity(&made, 1).save(dir.path()).expect("saved");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let peer = dir.path().join("peer");
    assert_eq!(mode(&peer), 0o700);
    let names = ["ca.key", "ca.pem", "member.key", "member.pem"];
    assert_eq!(RealDisk.list(&peer).expect("listed"), names);
    assert!(names.iter().all(|name| mode(&peer.join(name)) == 0o600));
    let loaded = Identity::load(dir.path(), CLUSTER, id(1)).expect("usable").expect("there");
    assert_eq!(loaded.parts(), loaded.clone().parts());
    // What the loaded authority issues is taken by those who know the first.
    let again = Authority::load(dir.path(), CLUSTER).expect("usable");
    let issued = identity(&again, 2);
    assert_eq!(issued.parts()[0], loaded.parts()[0]);
    issued.tls().expect("usable");
    assert!(!format!("{made:?}{loaded:?}").contains("PRIVATE"), "keys are not shown");
}

#[test]
fn what_does_not_belong_together_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let (made, peer) = (authority(), dir.path().join("peer"));
    let load = || Identity::load(dir.path(), CLUSTER, id(1)).map(|_| ()).expect_err("not usable").to_string();
    let no_authority =
        |cluster: &str| Authority::load(dir.path(), cluster).expect_err("not usable").to_string();
    assert!(no_authority(CLUSTER).contains("ca.pem is missing; certificates can be issued by a member"));
    made.save(dir.path()).expect("saved");
    identity(&made, 1).save(dir.path()).expect("saved");
    assert!(no_authority("other").contains("of cluster other"), "{}", no_authority("other"));

    let other = Identity::load(dir.path(), CLUSTER, id(2)).map(|_| ()).expect_err("another's").to_string();
    assert!(other.contains("member.pem") && other.contains("does not name this member"), "{other}");
    std::fs::write(peer.join("member.key"), identity(&made, 1).parts()[2]).expect("written");
    assert!(load().contains("member.key is not usable") && load().contains("again"), "{}", load());
    std::fs::remove_file(peer.join("member.key")).expect("removed");
    assert!(load().contains("member.key is missing"), "{}", load());
    identity(&made, 1).save(dir.path()).expect("saved");
    identity(&authority(), 1).save(&dir.path().join("else")).expect("saved");
    std::fs::copy(dir.path().join("else/peer/ca.pem"), peer.join("ca.pem")).expect("copied");
    assert!(load().contains("ca.pem did not issue it"), "{}", load());
    assert!(no_authority(CLUSTER).contains("ca.pem is not usable"), "{}", no_authority(CLUSTER));
    std::fs::write(peer.join("ca.key"), [0xff]).expect("written");
    assert!(matches!(Authority::load(dir.path(), CLUSTER), Err(CaError::Unusable { .. })));
}

/// Members of one cluster in one process, each with a disk, a port and a certificate of its own.
struct Cluster {
    running: BTreeMap<NodeId, Node>,
    members: BTreeMap<NodeId, Member>,
    authority: Authority,
    dir: tempfile::TempDir,
    runtime: Runtime,
}

struct Node {
    log: ClusterLog,
    transport: PeerTransport,
    contacts: Contacts,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Cluster {
    fn of(count: u128) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let mut cluster = Self {
            running: BTreeMap::new(),
            members: BTreeMap::new(),
            authority: authority(),
            dir: tempfile::tempdir().expect("a directory"),
            runtime: runtime.expect("a runtime"),
        };
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        Wal::create(&disk, &cluster.path(id(1)), CLUSTER, id(1)).expect("made");
        cluster.start(id(1));
        cluster.leader();
        for node in (2..=count).map(id) {
            Wal::create_member(&disk, &cluster.path(node), CLUSTER, node).expect("made");
            cluster.start(node);
            let (first, member) = (&cluster.running[&id(1)].log, cluster.members[&node].clone());
            cluster
                .runtime
                .block_on(first.add_learner(node, member, Duration::from_secs(20)))
                .expect("added");
        }
        let voters = (1..=count).map(id).collect();
        cluster
            .runtime
            .block_on(cluster.running[&id(1)].log.set_voters(voters, Duration::from_secs(20)))
            .expect("voters");
        cluster
    }

    fn path(&self, node: NodeId) -> PathBuf {
        self.dir.path().join(node.to_string()).join("log")
    }

    fn start(&mut self, node: NodeId) {
        let known = self.members.get(&node).map_or("127.0.0.1:0", |member| &member.peer);
        let listener = self.runtime.block_on(TcpListener::bind(known)).expect("a port");
        let own = at(listener.local_addr().expect("bound"));
        self.members.insert(node, own.clone());
        let tls = self.authority.issue(node, SystemClock.now()).and_then(|own| own.tls()).expect("usable");
        let transport = PeerTransport::new(tls.clone(), self.runtime.handle().clone(), clock());
        // Patient, because everything in these tests shares two cores.
        let options = Options {
            election: (Duration::from_millis(600), Duration::from_millis(1200)),
            heartbeat: Duration::from_millis(100),
            own,
            ..Options::default()
        };
        let opened = ClusterLog::open(
            Arc::new(RealDisk),
            &self.path(node),
            options,
            &ThreadSpawner,
            Arc::new(transport.clone()),
            Box::new(|error| panic!("{error}")),
        );
        let (log, _) = opened.expect("it opens");
        let (contacts, stop) = (Contacts::new(clock()), CancellationToken::new());
        let receive = Arc::new(log.clone());
        let serving = self.runtime.spawn(serve(listener, tls, receive, contacts.clone(), stop.clone()));
        self.running.insert(node, Node { log, transport, contacts, stop, serving });
    }

    fn stop(&mut self, node: NodeId) {
        let node = self.running.remove(&node).expect("it runs");
        node.stop.cancel();
        self.runtime.block_on(node.serving).expect("no panic");
        node.log.close();
    }

    /// Waits for the one that may write.
    fn leader(&self) -> ClusterLog {
        self.soon("a leader", || {
            let logs = self.running.values().map(|node| node.log.clone());
            let held = |log: &ClusterLog| log.authority().borrow().map(|authority| authority.term);
            logs.filter(|log| held(log).is_some()).max_by_key(held)
        })
    }

    fn soon<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        self.runtime.block_on(soon(what, look))
    }

    /// Appends so many events, as many at once as may be, and waits for all of them.
    fn append(&self, leader: &ClusterLog, count: u64) {
        let start = leader.head().event;
        let group = limits::BATCHES_IN_FLIGHT as u64;
        for first in (0..count).step_by(limits::BATCHES_IN_FLIGHT) {
            let batch = |number: u64| Batch::new(vec![Bytes::from(start.plus(number + 1).to_string())]);
            let until = count.min(first + group);
            let written: Vec<_> =
                (first..until).map(|number| leader.append(start.plus(number), batch(number))).collect();
            for each in written {
                each.wait().expect("a majority lives");
            }
        }
    }

    /// Waits until everyone has everything up to here, and looks at it.
    fn everyone_has(&self, head: EventId) {
        for node in self.running.values() {
            self.soon("everyone to have everything", || (node.log.head().event == head).then_some(()));
            let records = node.log.read(EventId::ZERO, 10_000).expect("it reads");
            conformance::assert_gapless(&records);
            assert_eq!(records.len() as u64, head.get());
            assert!(records.iter().zip(1..).all(|(record, at)| record.bytes == EventId::new(at).to_string()));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let all: Vec<_> = self.running.keys().copied().collect();
        all.into_iter().for_each(|node| self.stop(node));
    }
}

#[test]
fn members_agree_over_tls() {
    let cluster = Cluster::of(3);
    let leader = cluster.leader();
    cluster.append(&leader, 400);
    cluster.everyone_has(EventId::new(400));
    let health = cluster.running[&leader.node()].transport.health();
    assert_eq!(health.len(), 2);
    for (other, health) in health {
        assert!(health.connected && health.heard.is_some(), "{other}: {health:?}");
        assert!(cluster.running[&other].contacts.all().contains_key(&leader.node()));
    }
}

#[test]
fn a_leader_that_stops_is_replaced_over_tls() {
    let mut cluster = Cluster::of(3);
    for round in 1..=3 {
        let leader = cluster.leader();
        cluster.append(&leader, 50);
        let gone = leader.node();
        drop(leader);
        cluster.stop(gone);
        let next = cluster.leader();
        assert_ne!(next.node(), gone, "round {round}");
        cluster.append(&next, 50);
        cluster.start(gone);
        cluster.everyone_has(EventId::new(round * 100));
    }
}

#[test]
fn a_voter_that_is_removed_is_not_heard() {
    let cluster = Cluster::of(3);
    let leader = cluster.leader();
    cluster.append(&leader, 10);
    let gone = cluster.running.keys().copied().find(|node| *node != leader.node()).expect("others");
    let rest = cluster.running.keys().copied().filter(|node| *node != gone).collect();
    cluster.runtime.block_on(leader.set_voters(rest, Duration::from_secs(20))).expect("removed");
    // Whether it knows or not: it asks the leader, and is told.
    let (asks, to) = (cluster.running[&gone].transport.clone(), leader.node());
    let why = cluster.soon("a refusal", || {
        let _left_on_the_line =
            cluster.runtime.spawn(asks.call(to, &cluster.members[&to], Bytes::new(), PATIENCE));
        let (_, why) = asks.health().remove(&to)?.failed?;
        why.contains("not a member").then_some(why)
    });
    assert!(why.contains(&gone.to_string()), "{why}");
    cluster.append(&leader, 10);
}
