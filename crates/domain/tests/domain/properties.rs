//! Whatever people declare and whatever breaks, the planners keep the invariants that
//! [`World`](crate::world::World) checks at every event, and bring a world that behaves to rest.

use crate::world::{World, crashed, manifest, name, speaking};
use holdfast_domain::{Command, NodeHealth, State, UNHEARD, codec, plan, state::InstanceState, view};
use proptest::prelude::*;
use types::{
    ByteSize, DurationMs, EventId, InstanceId, NodeId,
    manifest::{Manifest, ProxyProtocol},
    plan::{Change, NodeRole, Reason},
};

/// What may happen, by small numbers that are taken modulo what there is.
#[derive(Clone, Debug)]
enum Act {
    Apply {
        app: u8,
        tag: u8,
        web: u32,
        worker: Option<u32>,
        mib: u64,
        shape: u8,
    },
    Scale {
        app: u8,
        worker: bool,
        to: u32,
    },
    Restart {
        app: u8,
    },
    Rollback {
        app: u8,
    },
    Crash {
        nth: usize,
    },
    Unready {
        nth: usize,
    },
    Kill {
        node: usize,
    },
    Revive {
        node: usize,
    },
    Drain {
        node: usize,
    },
    Activate {
        node: usize,
    },
    DeleteEnv {
        app: u8,
    },
    DeleteApp {
        app: u8,
    },
    Disable {
        node: usize,
    },
    /// Disabled or not, heard or not: it is refused, or done.
    Remove {
        node: usize,
        said_off: bool,
    },
    Lag {
        node: usize,
        passes: u32,
    },
    Forget,
    Run {
        passes: u32,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let worker = prop::option::of(1..3u32);
    let shape = prop_oneof![2 => Just(0u8), 1 => 0..16u8];
    prop_oneof![
        4 => (0..2u8, 0..6u8, 1..4u32, worker, 1..5u64, shape)
            .prop_map(|(app, tag, web, worker, mib, shape)| {
                Act::Apply { app, tag, web, worker, mib: mib * 32, shape }
            }),
        2 => (0..2u8, any::<bool>(), 0..5u32).prop_map(|(app, worker, to)| Act::Scale { app, worker, to }),
        1 => (0..2u8).prop_map(|app| Act::Restart { app }),
        1 => (0..2u8).prop_map(|app| Act::Rollback { app }),
        2 => (0..8usize).prop_map(|nth| Act::Crash { nth }),
        1 => (0..8usize).prop_map(|nth| Act::Unready { nth }),
        1 => (0..5usize).prop_map(|node| Act::Kill { node }),
        2 => (0..5usize).prop_map(|node| Act::Revive { node }),
        1 => (0..5usize).prop_map(|node| Act::Drain { node }),
        1 => (0..5usize).prop_map(|node| Act::Activate { node }),
        1 => (0..2u8).prop_map(|app| Act::DeleteEnv { app }),
        1 => (0..2u8).prop_map(|app| Act::DeleteApp { app }),
        1 => (0..5usize).prop_map(|node| Act::Disable { node }),
        1 => (0..5usize, any::<bool>()).prop_map(|(node, said_off)| Act::Remove { node, said_off }),
        2 => (0..5usize, 1..40u32).prop_map(|(node, passes)| Act::Lag { node, passes }),
        1 => Just(Act::Forget),
        8 => (1..45u32).prop_map(|passes| Act::Run { passes }),
    ]
}

/// Tag 5 can never run, tag 4 ends at its cap; all others run.
fn fate(state: &State, id: InstanceId) -> Change {
    let release = &state.releases[&state.instances[&id].release];
    match release.image.reference.as_bytes().last() {
        Some(b'5') => Change::Failed { reason: Reason::CommandInvalid, detail: "no such file".into() },
        Some(b'4') => crashed(Reason::OomKilled),
        _ => Change::Ready,
    }
}

fn pass(world: &mut World, mut fate: impl FnMut(&State, InstanceId) -> Change) -> usize {
    world.wait(DurationMs::from_secs(1));
    world.lease_all();
    world.agents(&mut fate);
    world.plan()
}

/// A release that cannot run may have been promoted with no instance at all. When the world behaves
/// what serves does run.
fn kind_fate(state: &State, id: InstanceId) -> Change {
    let instance = &state.instances[&id];
    let serving = state.envs[&instance.env].serving.and_then(|deploy| state.deploys.get(&deploy));
    if serving.is_some_and(|serving| serving.release == instance.release) {
        Change::Ready
    } else {
        fate(state, id)
    }
}

fn nth_node(world: &World, nth: usize) -> NodeId {
    *world.machines.keys().nth(nth % world.machines.len()).expect("there are nodes")
}

fn nth_live(world: &World, nth: usize) -> Option<InstanceId> {
    let up = |node| world.machines[&node].up;
    let live = world.state.instances.iter().filter(|(_, found)| found.is_live() && up(found.node));
    let live: Vec<InstanceId> = live.map(|(id, _)| *id).collect();
    live.get(nth.checked_rem(live.len())?).copied()
}

/// Bit by bit: another port, PROXY protocol, the route leads to the other process, a second route.
fn shaped(declared: Manifest, shape: u8) -> Manifest {
    let (port, number) = if shape & 1 == 0 { ("http", 8080) } else { ("web", 9090) };
    let proxy_protocol = if shape & 2 == 0 { ProxyProtocol::Off } else { ProxyProtocol::V2 };
    let mut declared = speaking(declared, port, number, proxy_protocol);
    if shape & 8 != 0 {
        let mut second = declared.routes[0].clone();
        second.host = Some(format!("{}-2.example", declared.app).parse().expect("a host name"));
        declared.routes.push(second);
    }
    if shape & 4 != 0 && declared.processes.contains_key(&name("worker")) {
        declared.routes[0].process = name("worker");
    }
    declared
}

fn run(world: &mut World, act: &Act) {
    let app = |nth: u8| if nth == 0 { "shop" } else { "blog" };
    let env = |world: &World, nth: u8| {
        let app = world.state.app_names.get(&(world.org, name(app(nth))))?;
        world.state.env_names.get(&(*app, name("prod"))).copied()
    };
    match *act {
        Act::Apply { app: nth, tag, web, worker, mib, shape } => {
            let mut processes = vec![("web", web, mib)];
            processes.extend(worker.map(|count| ("worker", count, mib * 2)));
            let host = format!("{}.example", app(nth));
            let declared = manifest(app(nth), &tag.to_string(), &processes, Some(&host));
            world.apply(shaped(declared, shape)).expect("a sound manifest is accepted");
        }
        Act::Scale { app, worker, to } => {
            let process = name(if worker { "worker" } else { "web" });
            let env = env(world, app);
            // It may be refused: the process may not be there.
            env.map(|env| world.submit(Command::Scale { env, process, replicas: to }));
        }
        Act::Restart { app } => drop(env(world, app).map(|env| world.submit(Command::Restart { env }))),
        Act::Rollback { app } => {
            let env = env(world, app);
            env.map(|env| world.submit(Command::Rollback { env, release: None }));
        }
        Act::Crash { nth } => {
            let found = nth_live(world, nth);
            found.map(|id| world.report(id, crashed(Reason::Exited)));
        }
        Act::Unready { nth } => {
            let found =
                nth_live(world, nth).filter(|id| world.state.instances[id].state == InstanceState::Ready);
            found.map(|id| world.report(id, Change::Unready { detail: "no answer".into() }));
        }
        Act::Kill { node } => world.machines.get_mut(&nth_node(world, node)).expect("listed").up = false,
        Act::Revive { node } => world.machines.get_mut(&nth_node(world, node)).expect("listed").up = true,
        Act::Drain { node } => drop(world.submit(Command::DrainNode { node: nth_node(world, node) })),
        Act::Activate { node } => drop(world.submit(Command::ActivateNode { node: nth_node(world, node) })),
        Act::DeleteEnv { .. } | Act::DeleteApp { .. } | Act::Disable { .. } | Act::Remove { .. } => {
            take_out(world, act);
        }
        Act::Lag { node, passes } => {
            world.machines.get_mut(&nth_node(world, node)).expect("listed").lag = passes
        }
        Act::Forget => {
            // A server restarts: it has seen nothing so far.
            world.observed.since = world.now;
            world.observed.nodes.clear();
        }
        Act::Run { passes } => (0..passes).for_each(|_| {
            let _ = pass(world, fate);
        }),
    }
}

/// What somebody confirmed: it is done, or refused for what it would leave unknown.
fn take_out(world: &mut World, act: &Act) {
    let app = |world: &World, nth: u8| {
        let called = if nth == 0 { "shop" } else { "blog" };
        world.state.app_names.get(&(world.org, name(called))).copied()
    };
    match *act {
        Act::DeleteEnv { app: nth } => {
            let app = app(world, nth);
            let env = app.and_then(|app| world.state.env_names.get(&(app, name("prod"))).copied());
            env.map(|env| world.delete_env(env).expect("it is as shown"));
        }
        Act::DeleteApp { app: nth } => {
            let app = app(world, nth);
            app.map(|app| world.delete_app(app).expect("it is as shown"));
        }
        Act::Disable { node } => drop(world.disable(nth_node(world, node)).expect("it is as shown")),
        Act::Remove { node, said_off } => {
            let id = nth_node(world, node);
            // The others still have somewhere to run, and somebody to route to them.
            let is_last = |role| {
                let has = |found: &&NodeId| world.machines[*found].roles.contains(&role);
                world.machines.keys().filter(has).collect::<Vec<_>>() == [&id]
            };
            let needed = world.state.nodes[&id].name == name("big")
                || is_last(NodeRole::Agent)
                || is_last(NodeRole::Edge);
            if !needed {
                // Once it has stopped what it had, the next try succeeds.
                drop(world.disable(id).expect("it is as shown"));
                drop(world.remove(id, if said_off { &[UNHEARD] } else { &[] }));
            }
        }
        _ => {}
    }
}

fn world(acts: &[Act]) -> World {
    let mut world = World::new();
    world.node("big", &[NodeRole::Agent], ByteSize::from_mib(16 << 10));
    world.node("small-1", &[NodeRole::Agent], ByteSize::from_mib(200));
    world.node("small-2", &[NodeRole::Agent, NodeRole::Edge], ByteSize::from_mib(400));
    world.node("edge-1", &[NodeRole::Edge], ByteSize::from_mib(0));
    world.node("edge-2", &[NodeRole::Edge], ByteSize::from_mib(0));
    acts.iter().for_each(|act| run(&mut world, act));
    world
}

/// Everything comes back and stays well; passes until nothing moves any more.
fn calm(world: &mut World) -> u32 {
    for id in world.machines.keys().copied().collect::<Vec<_>>() {
        let machine = world.machines.get_mut(&id).expect("listed");
        (machine.up, machine.lag) = (true, 0);
        drop(world.submit(Command::ActivateNode { node: id }));
    }
    let mut quiet = 0;
    for passes in 0..400 {
        let head = world.state.head;
        let taken = pass(world, kind_fate);
        quiet = if taken == 0 && head == world.state.head { quiet + 1 } else { 0 };
        // Longer than any wait there is: a backoff, a deadline, a drain.
        if quiet > 65 {
            return passes;
        }
    }
    let lines: Vec<_> = world
        .state
        .envs
        .keys()
        .flat_map(|env| plan::explain(&world.state, *env, &world.observed, world.now))
        .collect();
    let tail: Vec<_> = world.log.iter().rev().take(12).map(|e| format!("{} {:?}", e.id, e.event)).collect();
    panic!("the world does not come to rest: {lines:#?}\n{tail:#?}");
}

fn check_rest(world: &World) {
    for (id, node) in &world.state.nodes {
        assert_eq!(node.health, NodeHealth::Reachable, "{}", node.name);
        assert!(world.machines[id].up);
    }
    for (id, env) in &world.state.envs {
        assert!(!world.state.is_deleted(*id), "what was deleted is forgotten");
        assert_eq!(env.rolling, None, "{}: every deploy has ended", world.state.env_label(*id));
        let lines = plan::explain(&world.state, *id, &world.observed, world.now);
        assert!(
            lines.iter().all(|line| line.subject == "deploy"),
            "nothing to explain but a failed deploy: {lines:?}"
        );
        let Some(serving) = env.serving.and_then(|id| world.state.deploys.get(&id)) else { continue };
        for process in world.state.releases[&serving.release].manifest.processes.keys() {
            let ready = world
                .state
                .instances_of(*id)
                .filter(|(_, found)| found.process == *process && found.state == InstanceState::Ready);
            assert_eq!(
                ready.count() as u32,
                env.scale[process],
                "{process} of {}",
                world.state.env_label(*id)
            );
        }
    }
    assert!(world.state.instances.values().all(|found| found.is_live()), "nothing is left half gone");
    assert!(
        world.state.routes.values().all(|route| route.state == holdfast_domain::state::RouteState::Active)
    );
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(1500))]

    /// Never oversubscribed, never below what must stay up, every step accepted (all checked inside
    /// the world), and at rest within bounded passes once the world behaves.
    #[test]
    fn a_world_that_behaves_comes_to_rest(acts in prop::collection::vec(act(), 1..40)) {
        let mut world = world(&acts);
        calm(&mut world);
        check_rest(&world);
    }
}

/// A server that has just restarted scaled down and let go of the only instance that edges knew.
#[test]
fn a_silent_edge_makes_no_ready_instance_a_surplus() {
    let acts = [
        Act::Apply { app: 0, tag: 0, web: 2, worker: None, mib: 32, shape: 0 },
        Act::Run { passes: 4 },
        Act::Kill { node: 2 },
        Act::Forget,
        Act::Scale { app: 0, worker: false, to: 1 },
        Act::Crash { nth: 0 },
        Act::Run { passes: 1 },
    ];
    let mut world = world(&acts);
    calm(&mut world);
    check_rest(&world);
}

proptest! {
    #![proptest_config(config(200))]

    /// Equal inputs give equal logs; a log folds to the same state and views after being stored.
    #[test]
    fn a_log_folds_to_the_same_state_and_views(acts in prop::collection::vec(act(), 1..25)) {
        let (first, second) = (world(&acts), world(&acts));
        prop_assert_eq!(&first.log, &second.log);
        let mut state = State::default();
        let mut views = view::Views::new();
        for envelope in &first.log {
            let stored = codec::encode(envelope);
            let read = codec::decode(envelope.id, envelope.epoch, &stored).expect("it was just written");
            prop_assert_eq!(envelope, &read);
            state.apply(&read);
            views.apply(&read);
        }
        prop_assert_eq!(&state, &first.state);
        for name in view::NAMES {
            prop_assert_eq!(views.quarantined(name), None);
            prop_assert_eq!(views.checkpoint(name), Some(EventId::new(first.log.len() as u64)));
            prop_assert_eq!(views.fingerprint(name), first.views.fingerprint(name));
        }
        for (id, node) in &state.nodes {
            prop_assert_eq!(node.used, views.nodes().rows[id].used.memory);
        }
        for (id, instance) in &state.instances {
            prop_assert_eq!(instance.state, views.instances().rows[id].state);
        }
        prop_assert_eq!(state.instances.len(), views.instances().rows.len());
    }
}
