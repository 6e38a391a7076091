//! A server to test: two orgs, every kind of token, two nodes, a registry that can be switched off.

use api::{ApplyRequest, Client, Code, NodeClient, Problem, Receipt};
use domain::{Actor, Command, Envelope, Event, Role, codec};
use holdfast_control::{Answer, Audit, Core, Images, Journal, Options, Secret, router, serve};
use log::{Batch, Log, MemoryLog};
use rt::{Clock, Disk, OsRandom, Random, SimClock, SimDisk};
use std::{
    collections::BTreeSet,
    net::{Ipv6Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use types::{
    ByteSize, Digest, EnvId, Epoch, EventId, Generation, InstanceId, MilliCpu, Name, NodeId, OrgId,
    RequestId, Timestamp, TokenId,
    plan::{Capacity, Lease, NodeRole, PinnedImage},
};

pub const OWNER: &str = "hf_owner";
pub const VIEWER: &str = "hf_viewer";
pub const FOREIGN: &str = "hf_foreign";
pub const EXPIRED: &str = "hf_expired";
pub const REVOKED: &str = "hf_revoked";
pub const JOIN: &str = "hf_join";
pub const NODE_ONE: &str = "hf_node-one";
pub const NODE_TWO: &str = "hf_node-two";

pub const ORG: OrgId = OrgId::from_u128(1);
pub const OTHER_ORG: OrgId = OrgId::from_u128(2);
pub const ONE: NodeId = NodeId::from_u128(11);
pub const TWO: NodeId = NodeId::from_u128(12);
/// Where the journal of [`World::audited`] lies.
pub const AUDITED: &str = "/data";
pub const START: Timestamp = Timestamp::from_ms(1_763_673_600_000);

/// A server under test. Dropping it stops everything.
pub struct World {
    pub core: Core,
    pub log: Arc<MemoryLog>,
    pub clock: Arc<SimClock>,
    pub address: SocketAddr,
    pub registry: Arc<Registry>,
    pub shutdown: CancellationToken,
    pub served: Option<tokio::task::JoinHandle<()>>,
    stop_driver: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.stop_driver.cancel();
    }
}

/// A registry that knows every image, until it is switched off.
#[derive(Default)]
pub struct Registry {
    pub off: AtomicBool,
    pub asked: AtomicUsize,
    /// While a test holds this, nobody is answered.
    pub silent: Arc<tokio::sync::Mutex<()>>,
}

fn images(registry: Arc<Registry>) -> Images {
    Arc::new(move |reference: String| {
        registry.asked.fetch_add(1, Ordering::SeqCst);
        let off = registry.off.load(Ordering::SeqCst);
        let silent = registry.silent.clone();
        Box::pin(async move {
            if off {
                return Err(Problem::new(Code::ImageUnavailable, "the registry is gone"));
            }
            let _spoken = silent.lock().await;
            Ok(pinned(&reference))
        })
    })
}

pub fn pinned(reference: &str) -> PinnedImage {
    use sha2::Digest as _;
    let digest = Digest::from_sha256(sha2::Sha256::digest(reference.as_bytes()).into());
    PinnedImage { reference: reference.to_owned(), digest }
}

pub fn name(text: &str) -> Name {
    text.parse().expect("a valid name")
}

fn token(
    id: u128,
    org: Option<OrgId>,
    role: Role,
    node: Option<NodeId>,
    secret: &str,
    expires: Option<Timestamp>,
) -> Event {
    let hash = Secret::from_text(secret).hash();
    let name = name(secret.trim_start_matches("hf_"));
    Event::TokenCreated { token: TokenId::from_u128(id), org, name, role, node, hash, expires }
}

pub fn capacity() -> Capacity {
    Capacity { memory: ByteSize::from_mib(4096), cpu: MilliCpu::new(4000) }
}

fn node(node: NodeId, called: &str, roles: &[NodeRole]) -> Event {
    let (name, roles) = (name(called), roles.iter().copied().collect::<BTreeSet<_>>());
    let prefix = Ipv6Addr::from(0xfd00_u128 << 112 | node.as_u128() << 64);
    Event::NodeEnrolled { node, name, roles, capacity: capacity(), prefix, join: TokenId::from_u128(99) }
}

fn beginning() -> Vec<Event> {
    let revoked = TokenId::from_u128(25);
    vec![
        Event::ClusterCreated { cluster: "test-cluster".into() },
        Event::OrgCreated { org: ORG, name: name("main") },
        Event::OrgCreated { org: OTHER_ORG, name: name("other") },
        token(21, Some(ORG), Role::Owner, None, OWNER, None),
        token(22, Some(ORG), Role::Viewer, None, VIEWER, None),
        token(23, Some(OTHER_ORG), Role::Owner, None, FOREIGN, None),
        token(24, Some(ORG), Role::Owner, None, EXPIRED, Some(Timestamp::from_ms(1000))),
        token(25, Some(ORG), Role::Owner, None, REVOKED, None),
        Event::TokenRevoked { token: revoked },
        token(26, None, Role::Join, None, JOIN, None),
        node(ONE, "one", &[NodeRole::Agent, NodeRole::Edge]),
        token(31, None, Role::Node, Some(ONE), NODE_ONE, None),
        Event::NodeActivated { node: ONE },
        node(TWO, "two", &[NodeRole::Agent]),
        token(32, None, Role::Node, Some(TWO), NODE_TWO, None),
        Event::NodeActivated { node: TWO },
    ]
}

async fn write(log: &MemoryLog, events: Vec<Event>) {
    let mut encoded = Vec::new();
    for (nth, event) in events.into_iter().enumerate() {
        let envelope = Envelope {
            id: EventId::new(nth as u64 + 1),
            epoch: Epoch::new(1),
            at: START,
            actor: Actor::System,
            request: None,
            cause: None,
            sequence: 1,
            event,
        };
        encoded.push(codec::encode(&envelope).into());
    }
    log.append(EventId::ZERO, Batch::new(encoded)).await.expect("memory takes it");
}

impl World {
    pub async fn start() -> Self {
        Self::with_streams(types::limits::STREAMS, types::limits::NODE_STREAMS).await
    }

    /// One whose journal lies on this disk.
    pub async fn audited(disk: &SimDisk) -> Self {
        Self::audited_with(disk, Options::default()).await
    }

    /// The same with other options.
    pub async fn audited_with(disk: &SimDisk, options: Options) -> Self {
        let door: Arc<dyn Disk> = Arc::new(disk.clone());
        disk.create_dir(Path::new(AUDITED)).expect("a directory");
        let (journal, _) = Journal::open(&door, Path::new(AUDITED)).expect("a journal");
        Self::journaled(options, Some(Arc::new(journal))).await
    }

    pub async fn with_streams(streams: usize, node_streams: usize) -> Self {
        Self::with(Options { streams, node_streams, ..Options::default() }).await
    }

    pub async fn with(options: Options) -> Self {
        Self::journaled(options, None).await
    }

    async fn journaled(options: Options, journal: Option<Arc<Journal>>) -> Self {
        let (log, clock) = (Arc::new(MemoryLog::new()), Arc::new(SimClock::new(START)));
        write(&log, beginning()).await;
        let opened =
            Core::open(log.clone(), clock.clone() as Arc<dyn Clock>, Arc::new(OsRandom) as Arc<dyn Random>);
        let (core, driver) = opened.expect("a sound log");
        let (shutdown, stop_driver) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(driver.run(stop_driver.clone()));
        let registry = Arc::new(Registry::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let images = images(registry.clone());
        let mut options = Options { images, ..options };
        if let Some(journal) = journal {
            let (audit, recorder) = Audit::of(Ok(journal), Some(ONE), core.clone());
            tokio::spawn(recorder.run(stop_driver.clone()));
            options.audit = audit;
        }
        let served = tokio::spawn(serve(listener, router(core.clone(), options), shutdown.clone()));
        Self { core, log, clock, address, registry, shutdown, served: Some(served), stop_driver }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn client(&self, secret: &str) -> Client {
        Client::new(&self.url(), Some(secret.to_owned())).expect("a client")
    }

    pub fn owner(&self) -> Client {
        self.client(OWNER)
    }

    pub fn node(&self, secret: &str) -> NodeClient {
        NodeClient::new(&self.url(), secret).expect("a client")
    }

    /// A fresh request id, by the server's clock.
    pub fn id(&self) -> RequestId {
        RequestId::from_parts(self.clock.now(), OsRandom.u128())
    }

    pub async fn apply(&self, image: &str) -> Receipt {
        self.owner().apply(&name("main"), self.id(), &shop(image)).await.expect("applied")
    }

    pub fn env(&self) -> EnvId {
        *self.core.state().envs.keys().next().expect("an environment")
    }

    /// Places one instance of `web` on a node, as the rollout does.
    pub async fn place(&self, node: NodeId) -> InstanceId {
        let state = self.core.state();
        let env = self.env();
        let deploy = state.envs[&env].target().expect("a deploy");
        let command = Command::AllocateInstance { env, process: name("web"), deploy, node };
        let before: BTreeSet<InstanceId> = state.instances.keys().copied().collect();
        let answer = self.core.submit(command, Actor::System, None).await;
        assert!(matches!(answer, Answer::Executed { .. }), "{answer:?}");
        let after = self.core.state();
        *after.instances.keys().find(|id| !before.contains(id)).expect("placed")
    }

    /// Waits until the log holds back a batch that is not durable. Asking for an append after event
    /// 0 changes nothing and is answered with the end of what is queued.
    pub async fn until_held(&self) {
        for _ in 0..1000 {
            let probe = self.log.append(EventId::ZERO, Batch::new(vec![vec![0].into()])).await;
            match probe {
                Err(log::AppendError::HeadMoved { head }) if head > self.log.head().event => return,
                Err(log::AppendError::HeadMoved { .. }) => {
                    tokio::time::sleep(Duration::from_millis(10)).await
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("nothing was appended");
    }

    /// Waits until people hold so many streams and long polls open.
    pub async fn until_streams(&self, count: usize) {
        self.until_figure("streams", count).await;
    }

    /// The same for nodes.
    pub async fn until_node_streams(&self, count: usize) {
        self.until_figure("node_streams", count).await;
    }

    async fn until_figure(&self, figure: &str, count: usize) {
        let line = format!("\nholdfast_{figure} {count}\n");
        for _ in 0..1000 {
            let figures = self.bare("GET", api::routes::METRICS).send().await.expect("an answer");
            if figures.text().await.expect("text").contains(&line) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{figure} is never {count}");
    }

    /// A node says that it lives and acts on this plan.
    pub async fn renew(&self, secret: &str, role: NodeRole, generation: Generation) {
        let lease =
            Lease { role, generation, held: None, pressure: None, running: Vec::new(), draining: Vec::new() };
        self.node(secret).renew(&lease).await.expect("renewed");
    }

    /// A bare request.
    pub fn bare(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        http().request(method, format!("{}{path}", self.url()))
    }
}

fn http() -> reqwest::Client {
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().pool_max_idle_per_host(0).no_proxy().tls_certs_only([]);
    builder.timeout(Duration::from_secs(60)).build().expect("a client")
}

/// The status and the problem of an answer that must be one.
pub async fn problem(request: reqwest::RequestBuilder) -> (u16, Problem) {
    let response = request.send().await.expect("an answer");
    let status = response.status().as_u16();
    let media = response.headers().get("content-type").map(|value| value.to_str().expect("text").to_owned());
    let body = response.text().await.expect("a body");
    let problem: Problem =
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{status} {body:?}: {error}"));
    assert_eq!(media.as_deref(), Some(Problem::MEDIA_TYPE), "{body}");
    assert_eq!(problem.status, status);
    (status, problem)
}

/// `shop` with one process of two replicas behind one route.
pub fn shop(image: &str) -> ApplyRequest {
    let manifest = serde_json::json!({
        "schema": 1,
        "app": "shop",
        "image": { "ref": image },
        "processes": {
            "web": {
                "memory": "64Mi",
                "replicas": 2,
                "ports": [{ "name": "http", "port": 8080 }],
                "health": { "type": "tcp", "port": "http" },
            }
        },
        "routes": [{ "host": "shop.test", "process": "web", "port": "http" }],
    });
    ApplyRequest { env: name("prod"), manifest: serde_json::from_value(manifest).expect("a manifest") }
}

/// Org, app and environment of [`shop`].
pub fn place() -> (Name, Name, Name) {
    (name("main"), name("shop"), name("prod"))
}

/// Waits for a future, bounded.
pub async fn soon<F: Future>(what: &str, future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .unwrap_or_else(|_| panic!("took too long: {what}"))
}
