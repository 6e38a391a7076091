//! What a snapshot of a million aggregates costs those who write meanwhile: how long a command takes until it
//! is durable, from one writer, through consensus of one member on a real disk, while snapshots are written
//! one after the other and while none is. Taken in turns of equal length; medians of five of each. Writes
//! `target/bench/snapshot.json`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a benchmark measures the real clock, disk and threads"
)]

use domain::{Actor, Command, DeployKind, Envelope, Event, NewToken, Role, State, codec};
use holdfast_control::{Answer, Core};
use log::{
    Batch, Log,
    cluster::{Alone, ClusterLog, Options},
    wal::Wal,
};
use rt::{Disk, OsRandom, RealDisk, SystemClock, ThreadSpawner};
use std::{
    collections::BTreeSet,
    fs,
    net::Ipv6Addr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;
use types::{
    AppId, ByteSize, DeployId, Digest, DurationMs, EnvId, Epoch, InstanceId, MilliCpu, Name, NodeId, OrgId,
    ReleaseId, Timestamp, TokenId,
    manifest::{Image, Manifest, Port, Process, SCHEMA},
    plan::{Capacity, NodeRole, PinnedImage},
};

const AGGREGATES: u64 = 1_000_000;
const NODES: u64 = 1000;
const TURNS: usize = 5;
const TURN: Duration = Duration::from_secs(4);
/// Events in one batch while the log is filled.
const FILL: u64 = 20_000;

fn name(text: impl AsRef<str>) -> Name {
    text.as_ref().parse().expect("a name")
}

fn manifest() -> Manifest {
    let process = Process {
        command: vec!["/bin/server".into()],
        memory: ByteSize::from_mib(64),
        cpu: MilliCpu::new(100),
        replicas: 1,
        ports: vec![Port { name: name("http"), port: 8080 }],
        health: None,
        env: Default::default(),
        stop_grace: DurationMs::from_secs(10),
    };
    Manifest {
        schema: SCHEMA,
        app: name("app"),
        image: Image { reference: "registry.example/app:1".into() },
        processes: [(name("web"), process)].into(),
        routes: Vec::new(),
        volumes: Vec::new(),
        secrets: Default::default(),
        config: Default::default(),
        deploy: Default::default(),
    }
}

/// Everything that the instances belong to.
fn ground(at: Timestamp) -> Vec<Event> {
    let (org, app, env) = (OrgId::from_u128(1), AppId::from_u128(1), EnvId::from_u128(1));
    let mut events = vec![
        Event::ClusterCreated { cluster: "bench".into() },
        Event::OrgCreated { org, name: name("acme") },
    ];
    for nth in 1..=NODES {
        let node = NodeId::from_u128(u128::from(nth));
        events.push(Event::NodeEnrolled {
            node,
            name: name(format!("node-{nth}")),
            roles: BTreeSet::from([NodeRole::Agent]),
            capacity: Capacity { memory: ByteSize::from_mib(1 << 20), cpu: MilliCpu::new(1_000_000) },
            prefix: Ipv6Addr::from((0xfd00_u128 << 112) + (u128::from(nth) << 64)),
            join: TokenId::from_u128(u128::from(nth)),
        });
        events.push(Event::NodeActivated { node });
    }
    let (release, deploy) = (ReleaseId::from_u128(1), DeployId::from_u128(1));
    let manifest = Box::new(manifest());
    let image =
        PinnedImage { reference: manifest.image.reference.clone(), digest: Digest::from_sha256([1; 32]) };
    events.push(Event::AppCreated { app, org, name: name("app") });
    events.push(Event::EnvironmentCreated { env, app, name: name("prod") });
    events.push(Event::ReleaseCreated { release, env, number: 1, manifest, image, content: [1; 32] });
    events.push(Event::ReleaseAvailable { release });
    let (kind, deadline) = (DeployKind::Apply, at.plus(DurationMs::from_secs(86_400)));
    events.push(Event::DeployStarted { deploy, env, release, kind, deadline, attempts: 3 });
    events
}

fn instance(nth: u64) -> Event {
    let id = u128::from(nth) + 1;
    Event::InstanceAllocated {
        instance: InstanceId::from_u128(id),
        env: EnvId::from_u128(1),
        process: name("web"),
        release: ReleaseId::from_u128(1),
        deploy: DeployId::from_u128(1),
        node: NodeId::from_u128(u128::from(nth % NODES) + 1),
        address: Ipv6Addr::from((0xfd00_u128 << 112) + (u128::from(nth % NODES + 1) << 64) + id),
    }
}

/// Appends what makes a million aggregates.
async fn fill(log: &ClusterLog, at: Timestamp) {
    let mut state = State::default();
    let epoch = Epoch::new(1);
    let mut events = ground(at).into_iter().chain((0..AGGREGATES).map(instance)).peekable();
    while events.peek().is_some() {
        let head = state.head;
        let batch = events.by_ref().take(FILL as usize).map(|event| {
            let (id, sequence) = (state.head.next(), state.next_sequence(event.subject()));
            let actor = Actor::System;
            let envelope = Envelope { id, epoch, at, actor, request: None, cause: None, sequence, event };
            state.apply(&envelope);
            codec::encode(&envelope).into()
        });
        let batch = Batch::new(batch.collect());
        log.append(head, batch).await.expect("the log is filled");
    }
    assert!(state.instances.len() as u64 == AGGREGATES, "each is one of its own");
}

/// How long each command took, in microseconds, in order.
async fn commands(core: &Core, number: &mut u64) -> Vec<u64> {
    let (begun, mut took) = (Instant::now(), Vec::new());
    while begun.elapsed() < TURN {
        *number += 1;
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        let token = NewToken { name: name(format!("reader-{number}")), hash, expires: None };
        let command = Command::CreateToken { org: OrgId::from_u128(1), role: Role::Viewer, token };
        let asked = Instant::now();
        let answer = core.submit(command, Actor::System, None).await;
        assert!(matches!(answer, Answer::Executed { .. }), "{answer:?}");
        took.push(asked.elapsed().as_micros() as u64);
    }
    took.sort_unstable();
    took
}

fn p99(took: &[u64]) -> f64 {
    took[took.len() * 99 / 100] as f64
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}

async fn measure(dir: &Path) -> String {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    Wal::create(&disk, dir, "bench", NodeId::from_u128(1)).expect("creates");
    let fatal = Box::new(|error: &rt::DiskError| panic!("{error}"));
    let opened = ClusterLog::open(disk, dir, Options::default(), &ThreadSpawner, Arc::new(Alone), fatal);
    let log = opened.expect("opens").0;
    log.authority().wait_for(Option::is_some).await.expect("consensus runs");
    fill(&log, rt::Clock::now(&SystemClock)).await;
    let core = Core::open(Arc::new(log.clone()), Arc::new(SystemClock), Arc::new(OsRandom));
    let (core, driver) = core.expect("the log folds");
    let stop = CancellationToken::new();
    let driver = tokio::spawn(driver.run(stop.clone()));
    let (mut alone, mut beside, mut snapshots, mut number) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..TURNS {
        alone.push(p99(&commands(&core, &mut number).await));
        let over = Arc::new(AtomicBool::new(false));
        let saving = tokio::task::spawn_blocking({
            let (core, over) = (core.clone(), Arc::clone(&over));
            move || {
                let mut took = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    core.save_snapshot().expect("saved");
                    took.push(begun.elapsed().as_secs_f64());
                }
                took
            }
        });
        beside.push(p99(&commands(&core, &mut number).await));
        over.store(true, Ordering::Relaxed);
        snapshots.extend(saving.await.expect("saves"));
    }
    stop.cancel();
    driver.await.expect("the writer ends well");
    let count = snapshots.len();
    let (alone, beside, snapshot) = (median(alone), median(beside), median(snapshots));
    let ratio = beside / alone;
    println!("aggregates {AGGREGATES}, commands {number}, snapshots {count}, each {snapshot:.2} s");
    println!("p99 of a command, no snapshot      {alone:>8.0} µs");
    println!("p99 of a command, beside snapshots {beside:>8.0} µs  {ratio:.2} times");
    format!(
        "{{\"aggregates\": {AGGREGATES}, \"commands\": {number}, \"snapshots\": {count}, \"snapshot_s\": {snapshot:.3}, \"p99_alone_us\": {alone:.0}, \"p99_beside_us\": {beside:.0}, \"ratio\": {ratio:.3}}}\n"
    )
}

fn main() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/bench");
    fs::create_dir_all(&target).expect("creates");
    let dir = tempfile::Builder::new().prefix("snapshot-").tempdir_in(&target).expect("a directory");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let json = runtime.block_on(measure(&dir.path().join("log")));
    fs::write(target.join("snapshot.json"), json).expect("writes");
}
