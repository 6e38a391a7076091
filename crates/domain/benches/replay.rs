//! How fast a log of a million events is folded: decoding alone, and decoding with the decision
//! state, all views and their fingerprints. Writes `target/bench/replay.json`.

#![allow(clippy::disallowed_methods, reason = "a measurement needs a clock and leaves a file behind")]

use holdfast_domain::{
    Actor, DeployKind, Done, Envelope, Event, State, Verdict, codec,
    view::{self, Views},
};
use std::{collections::BTreeSet, net::Ipv6Addr, time::Instant};
use types::{
    AppId, ByteSize, DeployId, Digest, DurationMs, EnvId, Epoch, EventId, InstanceId, MilliCpu, Name, NodeId,
    OrgId, ReleaseId, RequestId, Timestamp, TokenId,
    manifest::{Image, Manifest, Port, Process, SCHEMA},
    plan::{Capacity, Change, NodeRole, PinnedImage},
};

const EVENTS: usize = 1_000_000;
const ROUNDS: usize = 5;
const NODES: u64 = 50;
const APPS: u64 = 200;
const REPLICAS: u64 = 4;

/// Writes a log as a year of deploys would: one app after the other gets a release, four fresh
/// instances, and lets go of the four before.
struct Writer {
    state: State,
    log: Vec<Vec<u8>>,
    dice: u128,
    now: Timestamp,
}

impl Writer {
    fn roll(&mut self) -> u128 {
        self.dice = self.dice.wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645).wrapping_add(1);
        self.dice >> 13
    }

    fn write(&mut self, event: Event) {
        self.now = self.now.plus(DurationMs::from_ms(20));
        let id = self.state.head.next();
        let sequence = self.state.next_sequence(event.subject());
        let (at, actor, epoch) = (self.now, Actor::System, Epoch::new(1));
        let envelope = Envelope { id, epoch, at, actor, request: None, cause: Some(id), sequence, event };
        self.state.apply(&envelope);
        self.log.push(codec::encode(&envelope));
    }

    fn full(&self) -> bool {
        self.log.len() >= EVENTS
    }

    fn changed(&mut self, instance: InstanceId, report: u64, change: Change) {
        self.write(Event::InstanceChanged { instance, report, seen: self.now, change });
    }
}

fn name(text: impl AsRef<str>) -> Name {
    text.as_ref().parse().expect("a name")
}

fn manifest(app: &Name, number: u32) -> Manifest {
    let process = Process {
        command: vec!["/bin/server".into(), "--listen".into(), "8080".into()],
        memory: ByteSize::from_mib(64),
        cpu: MilliCpu::new(100),
        replicas: REPLICAS as u32,
        ports: vec![Port { name: name("http"), port: 8080 }],
        health: None,
        env: [("RELEASE".to_owned(), number.to_string())].into(),
        stop_grace: DurationMs::from_secs(10),
    };
    Manifest {
        schema: SCHEMA,
        app: app.clone(),
        image: Image { reference: format!("registry.example/{app}:{number}") },
        processes: [(name("web"), process)].into(),
        routes: Vec::new(),
        volumes: Vec::new(),
        secrets: Default::default(),
        config: Default::default(),
        deploy: Default::default(),
    }
}

struct App {
    name: Name,
    env: EnvId,
    number: u32,
    release: Option<ReleaseId>,
    running: Vec<InstanceId>,
}

fn deploy(writer: &mut Writer, app: &mut App, nodes: &[NodeId]) {
    app.number += 1;
    let (release, deploy) =
        (ReleaseId::from_parts(writer.now, writer.roll()), DeployId::from_parts(writer.now, writer.roll()));
    let manifest = Box::new(manifest(&app.name, app.number));
    let mut content = [0; 32];
    content[..16].copy_from_slice(&writer.roll().to_be_bytes());
    let image =
        PinnedImage { reference: manifest.image.reference.clone(), digest: Digest::from_sha256(content) };
    writer.write(Event::ReleaseCreated {
        release,
        env: app.env,
        number: app.number,
        manifest,
        image,
        content,
    });
    writer.write(Event::ReleaseAvailable { release });
    let deadline = writer.now.plus(DurationMs::from_secs(300));
    writer.write(Event::DeployStarted {
        deploy,
        env: app.env,
        release,
        kind: DeployKind::Apply,
        deadline,
        attempts: 3,
    });
    let request = RequestId::from_parts(writer.now, writer.roll());
    let verdict =
        Verdict::Executed(Done { summary: "deploying".into(), deploy: Some(deploy), ..Done::default() });
    let principal = Actor::Token(TokenId::from_u128(1));
    writer.write(Event::RequestDecided { request, principal, body: content, verdict });
    writer.write(Event::DeployRolling { deploy });
    let mut fresh = Vec::new();
    let mut old = std::mem::take(&mut app.running).into_iter();
    for _ in 0..REPLICAS {
        let instance = InstanceId::from_parts(writer.now, writer.roll());
        let node = nodes[(writer.roll() % u128::from(NODES)) as usize];
        let address = Ipv6Addr::from(instance.as_u128());
        let process = name("web");
        writer.write(Event::InstanceAllocated {
            instance,
            env: app.env,
            process,
            release,
            deploy,
            node,
            address,
        });
        writer.changed(instance, 1, Change::Preparing);
        writer.changed(instance, 2, Change::Booting);
        writer.changed(instance, 3, Change::Ready);
        fresh.push(instance);
        if let Some(instance) = old.next() {
            writer.write(Event::InstanceDraining { instance });
            writer.write(Event::InstanceReleased { instance, forced: false });
            writer.changed(instance, 4, Change::Stopped);
            writer.changed(instance, 5, Change::Collected);
        }
    }
    app.running = fresh;
    writer.write(Event::DeployCutOver { deploy });
    writer.write(Event::DeploySucceeded { deploy });
    if let Some(release) = app.release.replace(release) {
        writer.write(Event::ReleaseSuperseded { release });
    }
    writer.write(Event::ReleasePromoted { release });
}

fn generate() -> Vec<Vec<u8>> {
    let now = Timestamp::from_ms(1_800_000_000_000);
    let mut writer = Writer { state: State::default(), log: Vec::with_capacity(EVENTS), dice: 11, now };
    let org = OrgId::from_u128(1);
    writer.write(Event::ClusterCreated { cluster: "bench".into() });
    writer.write(Event::OrgCreated { org, name: name("acme") });
    let nodes: Vec<NodeId> = (0..NODES).map(|nth| NodeId::from_u128(u128::from(nth) + 1)).collect();
    for (nth, node) in nodes.iter().enumerate() {
        let roles = BTreeSet::from([NodeRole::Agent]);
        let capacity = Capacity { memory: ByteSize::from_mib(64 << 10), cpu: MilliCpu::new(16_000) };
        let prefix = Ipv6Addr::from((0xfd00u128 << 112) + ((nth as u128) << 64));
        let join = TokenId::from_u128(nth as u128 + 9);
        writer.write(Event::NodeEnrolled {
            node: *node,
            name: name(format!("node-{nth}")),
            roles,
            capacity,
            prefix,
            join,
        });
        writer.write(Event::NodeActivated { node: *node });
    }
    let mut apps = Vec::new();
    for nth in 0..APPS {
        let (app, env) = (AppId::from_u128(u128::from(nth) + 1), EnvId::from_u128(u128::from(nth) + 1));
        let app_name = name(format!("app-{nth}"));
        writer.write(Event::AppCreated { app, org, name: app_name.clone() });
        writer.write(Event::EnvironmentCreated { env, app, name: name("prod") });
        writer.write(Event::ScaleSet { env, process: name("web"), replicas: REPLICAS as u32 });
        apps.push(App { name: app_name, env, number: 0, release: None, running: Vec::new() });
    }
    'full: loop {
        for app in &mut apps {
            deploy(&mut writer, app, &nodes);
            if writer.full() {
                break 'full;
            }
        }
        let to = writer.now.minus(types::limits::REQUEST_HORIZON);
        writer.write(Event::HorizonMoved { to });
    }
    writer.log.truncate(EVENTS);
    writer.log
}

fn each(log: &[Vec<u8>], mut look: impl FnMut(Envelope)) {
    for (place, bytes) in log.iter().enumerate() {
        let id = EventId::new(place as u64 + 1);
        look(codec::decode(id, Epoch::new(1), bytes).expect("it was just written"));
    }
}

fn median(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn main() {
    let log = generate();
    let bytes: usize = log.iter().map(Vec::len).sum();
    let decode = median(|| each(&log, |envelope| drop(std::hint::black_box(envelope))));
    let state_only = median(|| {
        let mut state = State::default();
        each(&log, |envelope| state.apply(&envelope));
        std::hint::black_box(&state);
    });
    let all = median(|| {
        let (mut state, mut views) = (State::default(), Views::new());
        each(&log, |envelope| {
            state.apply(&envelope);
            views.apply(&envelope);
        });
        for name in view::NAMES {
            assert_eq!(views.quarantined(name), None, "{name} follows the whole log");
            std::hint::black_box(views.fingerprint(name));
        }
    });
    let (ratio, rate) = (all / decode, EVENTS as f64 / all);
    println!("events {EVENTS}, {bytes} bytes");
    println!("decode            {decode:.3} s  {:.0} events/s", EVENTS as f64 / decode);
    println!("decode and state  {state_only:.3} s  {:.0} events/s", EVENTS as f64 / state_only);
    println!("all and prints    {all:.3} s  {rate:.0} events/s, {ratio:.2} times decoding");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/bench");
    let json = format!(
        "{{\"events\": {EVENTS}, \"bytes\": {bytes}, \"decode_s\": {decode:.4}, \"state_s\": {state_only:.4}, \"all_s\": {all:.4}, \"events_per_s\": {rate:.0}, \"ratio\": {ratio:.3}}}\n"
    );
    std::fs::create_dir_all(folder).expect("target can be written");
    std::fs::write(format!("{folder}/replay.json"), json).expect("target can be written");
}
