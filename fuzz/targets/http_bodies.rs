//! Every route that takes a body, asked by its owner, with any bytes: the answer is never a fault of the server,
//! and a refusal is a problem that says what is wrong.
#![no_main]

use axum::{
    Router,
    body::Body,
    http::{Request, header},
};
use control::{Core, Images, Options, Secret};
use domain::{Actor, Envelope, Event, Role, codec};
use http_body_util::BodyExt as _;
use libfuzzer_sys::fuzz_target;
use log::{Batch, Log as _, MemoryLog};
use rt::{Clock, Random, SimClock, SimRandom};
use sha2::Digest as _;
use std::{
    cell::RefCell,
    collections::BTreeSet,
    net::Ipv6Addr,
    sync::Arc,
    time::Duration,
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use types::{
    ByteSize, Digest, DurationMs, Epoch, EventId, MilliCpu, Name, NodeId, OrgId, RequestId, Timestamp, TokenId, limits,
    plan::{Capacity, NodeRole, PinnedImage},
};

const OWNER: &str = "hf_owner";
const NODE: &str = "hf_node";
const ORG: OrgId = OrgId::from_u128(1);
const ONE: NodeId = NodeId::from_u128(11);
const START: Timestamp = Timestamp::from_ms(1_763_673_600_000);
/// A server is asked so often; then there is a new one, so that neither memory nor time grows with the run.
const ASKED: u32 = 2000;
/// Longer than anything waits that a request without another's help can end.
const PATIENCE: Duration = Duration::from_secs(20);

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

fn token(id: u128, org: Option<OrgId>, role: Role, node: Option<NodeId>, secret: &str) -> Event {
    let hash = Secret::from_text(secret).hash();
    let name = name(secret.trim_start_matches("hf_"));
    Event::TokenCreated { token: TokenId::from_u128(id), org, name, role, node, hash, expires: None }
}

fn beginning() -> Vec<Event> {
    let capacity = Capacity { memory: ByteSize::from_mib(4096), cpu: MilliCpu::new(4000) };
    let roles = BTreeSet::from([NodeRole::Agent, NodeRole::Edge]);
    let prefix = Ipv6Addr::from(0xfd00_u128 << 112 | ONE.as_u128() << 64);
    let join = TokenId::from_u128(99);
    vec![
        Event::ClusterCreated { cluster: "fuzz".into() },
        Event::OrgCreated { org: ORG, name: name("main") },
        token(21, Some(ORG), Role::Owner, None, OWNER),
        Event::NodeEnrolled { node: ONE, name: name("one"), roles, capacity, prefix, join },
        token(31, None, Role::Node, Some(ONE), NODE),
        Event::NodeActivated { node: ONE },
    ]
}

async fn written(log: &MemoryLog) {
    let envelope = |(nth, event): (usize, Event)| {
        let id = EventId::new(nth as u64 + 1);
        let (epoch, actor, sequence) = (Epoch::new(1), Actor::System, 1);
        codec::encode(&Envelope { id, epoch, at: START, actor, request: None, cause: None, sequence, event })
    };
    let events = beginning().into_iter().enumerate().map(|event| envelope(event).into()).collect();
    log.append(EventId::ZERO, Batch::new(events)).await.expect("memory takes it");
}

/// A registry that knows every image.
fn images() -> Images {
    Arc::new(|reference: String| {
        let digest = Digest::from_sha256(sha2::Sha256::digest(reference.as_bytes()).into());
        Box::pin(async move { Ok(PinnedImage { reference, digest }) })
    })
}

/// A route that takes a body: method and path, with what exists in the place of what it names.
struct Route {
    method: String,
    path: String,
    secret: &'static str,
}

fn routes() -> Vec<Route> {
    let document = serde_json::to_value(control::openapi()).expect("a document");
    let paths = document["paths"].as_object().expect("paths");
    let mut routes = Vec::new();
    for (path, methods) in paths {
        let known = [("{org}", "main"), ("{app}", "shop"), ("{env}", "prod")];
        let path = known.iter().fold(path.clone(), |path, (from, to)| path.replace(from, to));
        // Whatever else is named is one node, person, token or instance with this id, or none.
        let path = path.split('/').map(|part| if part.starts_with('{') { ONE.to_string() } else { part.into() });
        let path = path.collect::<Vec<_>>().join("/");
        for (method, row) in methods.as_object().expect("methods") {
            if row.get("requestBody").is_some() {
                let secret = if path.starts_with("/v1/node") { NODE } else { OWNER };
                routes.push(Route { method: method.to_uppercase(), path: path.clone(), secret });
            }
        }
    }
    assert!(routes.len() > 15, "the contract lists the routes with bodies");
    routes
}

struct World {
    runtime: Runtime,
    router: Router,
    clock: Arc<SimClock>,
    random: SimRandom,
    stop: CancellationToken,
    routes: Vec<Route>,
    asked: u32,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let clock = Arc::new(SimClock::new(START));
        let (stop, log) = (CancellationToken::new(), Arc::new(MemoryLog::new()));
        let router = runtime.block_on(async {
            written(&log).await;
            let random = Arc::new(SimRandom::new(1)) as Arc<dyn Random>;
            let opened = Core::open(log, Arc::clone(&clock) as Arc<dyn Clock>, random);
            let (core, driver) = opened.expect("a sound log");
            tokio::spawn(driver.run(stop.clone()));
            control::router(core, Options { images: images(), ..Options::default() })
        });
        Self { runtime, router, clock, random: SimRandom::new(2), stop, routes: routes(), asked: 0 }
    }

    /// One request with this body, and what must be true of its answer.
    fn ask(&mut self, route: u8, body: &[u8]) {
        self.asked += 1;
        // Nobody is asked to slow down.
        self.clock.advance(DurationMs::from_secs(1));
        let route = &self.routes[usize::from(route) % self.routes.len()];
        let once = RequestId::from_parts(self.clock.now(), self.random.u128());
        let request = Request::builder()
            .method(route.method.as_str())
            .uri(&route.path)
            .header(header::AUTHORIZATION, format!("Bearer {}", route.secret))
            .header(header::CONTENT_TYPE, "application/json")
            .header("idempotency-key", once.to_string())
            .body(Body::from(body.to_vec()))
            .expect("a request");
        let router = self.router.clone();
        let answer = self.runtime.block_on(async {
            let asked = async {
                let response = router.oneshot(request).await.expect("infallible");
                let (head, body) = response.into_parts();
                (head, body.collect().await.expect("a body").to_bytes())
            };
            tokio::time::timeout(PATIENCE, asked).await
        });
        let Ok((head, answer)) = answer else { panic!("{} {} is not answered", route.method, route.path) };
        let what = || format!("{} {}: {} {answer:?}", route.method, route.path, head.status);
        if head.status.is_success() {
            return;
        }
        let problem: api::Problem = serde_json::from_slice(&answer).unwrap_or_else(|_| panic!("{}", what()));
        assert_eq!(problem.status, head.status.as_u16(), "{}", what());
        // This server has no cluster, and says so.
        let fault = head.status.is_server_error() && problem.code != api::Code::Unavailable;
        assert!(!fault, "{}", what());
    }
}

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

fuzz_target!(|input: (u8, &[u8])| {
    let (route, body) = input;
    if body.len() > limits::MANIFEST_BYTES {
        return;
    }
    WORLD.with_borrow_mut(|world| {
        if world.as_ref().is_some_and(|world| world.asked >= ASKED) {
            *world = None;
        }
        world.get_or_insert_with(World::new).ask(route, body);
    });
});
