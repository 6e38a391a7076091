//! Single rules of the planners, each by itself.

use crate::world::{World, crashed, decision, manifest, name};
use holdfast_domain::{
    Command, DeployFailure, Event, NodeHealth, Rejection, plan,
    plan::placement::{Ask, choose, place_many},
    state::InstanceState,
};
use std::collections::BTreeMap;
use types::{
    ByteSize, DurationMs, EnvId, MilliCpu, NodeId, limits,
    plan::{Change, NodeRole, Reason},
};

fn pass(world: &mut World) {
    world.wait(DurationMs::from_secs(1));
    world.lease_all();
    world.agents(&mut |_, _| Change::Ready);
    world.plan();
}

/// Two agents and an edge, and an app that serves with two instances.
fn serving() -> (World, EnvId) {
    let mut world = World::new();
    world.node("a", &[NodeRole::Agent], ByteSize::from_mib(512));
    world.node("b", &[NodeRole::Agent], ByteSize::from_mib(512));
    world.node("edge", &[NodeRole::Edge], ByteSize::from_mib(0));
    world.apply(manifest("shop", "1", &[("web", 2, 64)], Some("shop.example"))).expect("accepted");
    (0..8).for_each(|_| pass(&mut world));
    let env = world.env("shop", "prod");
    assert!(world.state.envs[&env].serving.is_some(), "it serves");
    (world, env)
}

#[test]
fn waits_double_up_to_the_longest() {
    let waits: Vec<u64> = [0, 1, 2, 3, 8, 9, 40, u32::MAX].map(|count| plan::backoff(count).as_ms()).to_vec();
    assert_eq!(waits, [0, 250, 500, 1000, 32_000, 60_000, 60_000, 60_000]);
}

#[test]
fn a_first_deploy_places_everything_at_once_and_spreads_it() {
    let mut world = World::new();
    let nodes = ["a", "b"].map(|text| world.node(text, &[NodeRole::Agent], ByteSize::from_mib(512)));
    world.apply(manifest("shop", "1", &[("web", 2, 64)], None)).expect("accepted");
    world.plan();
    let placed: Vec<NodeId> = world.state.instances.values().map(|found| found.node).collect();
    assert_eq!(placed.len(), 2);
    assert!(nodes.iter().all(|node| placed.contains(node)), "one on each");
}

#[test]
fn a_deploy_that_keeps_failing_ends_with_its_last_reason_and_says_how_to_go_back() {
    let (mut world, env) = serving();
    world.apply(manifest("shop", "2", &[("web", 2, 64)], Some("shop.example"))).expect("accepted");
    for _ in 0..10 {
        world.wait(DurationMs::from_secs(1));
        world.lease_all();
        world.agents(&mut |_, _| crashed(Reason::OomKilled));
        world.plan();
    }
    let failed = world.state.envs[&env].latest.expect("there was one");
    let failure = world.state.deploys[&failed].failure.clone();
    assert!(
        matches!(failure, Some(DeployFailure::Attempts { reason: Reason::OomKilled, .. })),
        "{failure:?}"
    );
    assert_eq!(
        plan::way_back(&world.state, failed).as_deref(),
        Some("release 1 still serves; holdfast rollback, or fix and apply again")
    );
    let ready = world.state.instances.values().filter(|found| found.state == InstanceState::Ready);
    assert_eq!(ready.count(), 2, "what served goes on");
    let lines = plan::explain(&world.state, env, &world.observed, world.now);
    assert!(
        lines.iter().any(|line| line.subject == "deploy" && line.why.contains("oom_killed")),
        "{lines:?}"
    );
}

#[test]
fn a_deploy_that_finds_no_room_says_so_and_ends_at_its_deadline() {
    let (mut world, env) = serving();
    world.apply(manifest("shop", "2", &[("web", 2, 1024)], Some("shop.example"))).expect("accepted");
    pass(&mut world);
    let lines = plan::explain(&world.state, env, &world.observed, world.now);
    let web = lines.iter().find(|line| line.subject == "web").expect("it is not as wanted");
    assert!(
        web.why.contains("no node has room: a has 448Mi of memory left and 1Gi is wanted"),
        "{}",
        web.why
    );
    let wake = plan::next_wake(&world.state, env, &world.observed, world.now).expect("a deadline");
    assert!(wake <= world.now.plus(DurationMs::from_secs(60)));
    (0..62).for_each(|_| pass(&mut world));
    let failed = world.state.envs[&env].latest.expect("there was one");
    let Some(DeployFailure::Deadline { waiting }) = &world.state.deploys[&failed].failure else {
        panic!("no deadline")
    };
    assert!(waiting.contains("no node has room"), "{waiting}");
}

#[test]
fn an_edge_that_was_not_heard_of_is_no_acknowledgement() {
    let (mut world, env) = serving();
    let edge = world.node_named("edge");
    world.ok(Command::Scale { env, process: name("web"), replicas: 1 });
    world.plan();
    let draining = |world: &World| {
        let found = world.state.instances.iter().find(|(_, found)| found.state == InstanceState::Draining);
        found.map(|(id, found)| (*id, found.released))
    };
    let (id, released) = draining(&world).expect("one too many");
    assert!(!released, "the edge still has the plan before");
    // A server that has just started has not heard of the edge: partial_view_removes_nothing.
    world.observed.nodes.remove(&edge);
    world.observed.since = world.now;
    assert!(plan::rollout(&world.state, env, &world.observed, world.now).is_empty());
    // It is heard of, with the plan from before; then with the new one and connections still open.
    world.lease(edge);
    assert!(plan::rollout(&world.state, env, &world.observed, world.now).is_empty());
    world.machines.get_mut(&edge).expect("known").generation = world.state.edge_generation;
    world.lease(edge);
    let seen = world.observed.nodes.get_mut(&edge).and_then(|seen| seen.edge.as_mut()).expect("leased");
    seen.draining.insert(id);
    assert!(plan::rollout(&world.state, env, &world.observed, world.now).is_empty());
    let seen = world.observed.nodes.get_mut(&edge).and_then(|seen| seen.edge.as_mut()).expect("leased");
    seen.draining.clear();
    let steps = plan::rollout(&world.state, env, &world.observed, world.now);
    assert_eq!(steps.len(), 1);
    assert_eq!(steps[0].command, Command::ReleaseInstance { instance: id, forced: false });
}

#[test]
fn connections_that_never_end_are_cut_after_the_longest_wait() {
    let (mut world, env) = serving();
    let edge = world.node_named("edge");
    world.machines.get_mut(&edge).expect("known").lag = u32::MAX;
    world.ok(Command::Scale { env, process: name("web"), replicas: 1 });
    world.plan();
    let drained = world.now;
    let mut events = Vec::new();
    while world.now < drained.plus(limits::DRAIN_WAIT) {
        assert!(events.is_empty());
        world.wait(DurationMs::from_secs(1));
        world.lease_all();
        let steps = plan::rollout(&world.state, env, &world.observed, world.now);
        events.extend(steps.into_iter().flat_map(|step| world.step(step)));
    }
    assert!(matches!(events[..], [Event::InstanceReleased { forced: true, .. }]), "{events:?}");
}

#[test]
fn instances_of_a_lost_node_are_replaced_unless_most_nodes_seem_lost() {
    let (mut world, env) = serving();
    let (a, b) = (world.node_named("a"), world.node_named("b"));
    world.machines.get_mut(&a).expect("known").up = false;
    let count = |world: &World, node: NodeId| {
        world.state.instances_on(node).filter(|(_, found)| found.is_live()).count()
    };
    (0..28).for_each(|_| pass(&mut world));
    assert_eq!(
        (count(&world, a), world.state.nodes[&a].health),
        (1, NodeHealth::Reachable),
        "not before its time"
    );
    (0..8).for_each(|_| pass(&mut world));
    assert_eq!(world.state.nodes[&a].health, NodeHealth::Offline);
    assert_eq!((count(&world, a), count(&world, b)), (0, 2));
    world.machines.get_mut(&b).expect("known").up = false;
    (0..40).for_each(|_| pass(&mut world));
    assert_eq!(world.state.nodes[&b].health, NodeHealth::Offline);
    assert_eq!(count(&world, b), 2, "both silent at once: the observer suspects itself");
    let why = plan::suspicion(&world.state, &world.observed, world.now).expect("most are silent");
    assert!(why.contains("2 of 2 nodes are silent at once"), "{why}");
    assert!(!plan::explain(&world.state, env, &world.observed, world.now).is_empty());
}

#[test]
fn a_draining_node_is_emptied_without_a_gap() {
    let (mut world, env) = serving();
    let a = world.node_named("a");
    world.ok(Command::DrainNode { node: a });
    for _ in 0..12 {
        pass(&mut world);
        let ready =
            world.state.instances_of(env).filter(|(_, found)| found.state == InstanceState::Ready).count();
        assert!(ready >= 2, "what is wanted stays up");
    }
    assert_eq!(world.state.instances_on(a).count(), 0);
}

#[test]
fn a_process_that_is_gone_from_the_manifest_serves_until_the_new_release_does() {
    let mut world = World::new();
    world.node("a", &[NodeRole::Agent, NodeRole::Edge], ByteSize::from_mib(1024));
    world.apply(manifest("shop", "1", &[("web", 2, 64)], Some("shop.example"))).expect("accepted");
    (0..8).for_each(|_| pass(&mut world));
    world.apply(manifest("shop", "2", &[("front", 2, 64)], Some("shop.example"))).expect("accepted");
    let ready = |world: &World, process: &str| {
        let here = world.state.instances.values();
        here.filter(|found| found.process == name(process) && found.state == InstanceState::Ready).count()
    };
    while ready(&world, "front") < 2 {
        assert_eq!(ready(&world, "web"), 2);
        pass(&mut world);
    }
    (0..10).for_each(|_| pass(&mut world));
    assert_eq!((ready(&world, "web"), ready(&world, "front")), (0, 2));
    let route = world.state.routes.values().next().expect("its route");
    assert_eq!((route.process.as_str(), route.state), ("front", holdfast_domain::state::RouteState::Active));
}

#[test]
fn placement_refuses_with_a_reason_per_node() {
    let mut world = World::new();
    let env = EnvId::from_u128(1);
    let ask =
        Ask { env, process: name("web"), memory: ByteSize::from_mib(64), cpu: MilliCpu::new(1), count: 1 };
    let none = choose(&world.state, &world.observed, &ask, world.now).expect_err("no nodes");
    assert_eq!(none.to_string(), "no node has room: no node has joined as an agent");
    let silent = world.node("silent", &[NodeRole::Agent], ByteSize::from_mib(512));
    world.observed.nodes.remove(&silent);
    let short = world.node("short", &[NodeRole::Agent], ByteSize::from_mib(512));
    let seen = world.observed.nodes.get_mut(&short).and_then(|seen| seen.agent.as_mut()).expect("leased");
    seen.pressure = Some(Reason::DiskFull);
    world.node("tiny", &[NodeRole::Agent], ByteSize::from_mib(8));
    world.node("edge", &[NodeRole::Edge], ByteSize::from_mib(512));
    let text = choose(&world.state, &world.observed, &ask, world.now).expect_err("no room").to_string();
    for part in ["silent has not been heard of", "short is short of resources (disk_full)", "tiny has 8Mi"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("edge"), "an edge is no place for instances: {text}");
}

#[test]
fn many_are_placed_evenly_and_never_beyond_memory() {
    let mut world = World::new();
    for nth in 0..40 {
        world.node(&format!("n{nth}"), &[NodeRole::Agent], ByteSize::from_mib(640 + 64 * (nth % 3)));
    }
    let ask = |env: u128, process: &str, mib, count| Ask {
        env: EnvId::from_u128(env),
        process: name(process),
        memory: ByteSize::from_mib(mib),
        cpu: MilliCpu::new(250),
        count,
    };
    let asks = vec![
        ask(1, "web", 64, 100),
        ask(2, "web", 32, 60),
        ask(1, "worker", 128, 70),
        ask(3, "web", 64, 900),
    ];
    let placed = place_many(&world.state, &world.observed, &asks, world.now);
    assert_eq!(placed, place_many(&world.state, &world.observed, &asks, world.now), "the same again");
    let mut used = BTreeMap::<NodeId, u64>::new();
    for (ask, placed) in asks.iter().zip(&placed) {
        placed.nodes.iter().for_each(|node| *used.entry(*node).or_default() += ask.memory.bytes());
    }
    for (node, bytes) in used {
        assert!(bytes <= world.state.nodes[&node].capacity.memory.bytes());
    }
    let spread = |placed: &[NodeId]| {
        let mut counts = BTreeMap::<NodeId, u32>::new();
        placed.iter().for_each(|node| *counts.entry(*node).or_default() += 1);
        (counts.len(), *counts.values().min().expect("some"), *counts.values().max().expect("some"))
    };
    assert_eq!(spread(&placed[0].nodes), (40, 2, 3));
    assert_eq!(spread(&placed[1].nodes), (40, 1, 2));
    assert_eq!(placed[2].nodes.len(), 70);
    assert!(placed[3].nodes.len() < 900 && placed[3].unplaced.is_some());
    let left = |placed: &[NodeId]| placed.len();
    assert!(left(&placed[3].nodes) > 100, "the rest of the memory is used");
}

#[test]
fn memory_is_refused_where_it_is_decided_too() {
    let (world, env) = serving();
    let deploy = world.state.envs[&env].target().expect("it serves");
    let (process, node) = (name("web"), world.node_named("edge"));
    let refused = decision(&world, &Command::AllocateInstance { env, process, deploy, node });
    assert!(matches!(refused, Err(Rejection::LifeCycle { .. } | Rejection::NoMemory { .. })), "{refused:?}");
}

/// Between the look of a planner and the decision of its step, others may have failed.
#[test]
fn what_a_late_planner_wants_drained_is_decided_again_by_what_is_ready() {
    let (mut world, env) = serving();
    world.ok(Command::Scale { env, process: name("web"), replicas: 1 });
    let steps = plan::rollout(&world.state, env, &world.observed, world.now);
    let drained = steps.iter().find_map(|step| match step.command {
        Command::DrainInstance { instance } => Some(instance),
        _ => None,
    });
    let drained = drained.expect("one too many");
    let other = world.state.instances.keys().copied().find(|id| *id != drained).expect("there were two");
    world.report(other, crashed(Reason::Exited));
    let refused = world.submit(Command::DrainInstance { instance: drained }).expect_err("it is the last");
    assert!(refused.to_string().contains("only 0 others are ready"), "{refused}");
    world.report(other, Change::Ready);
    world.lease_all();
    world.ok(Command::DrainInstance { instance: drained });
}

#[test]
#[should_panic = "memory_is_never_oversubscribed"]
fn a_log_that_oversubscribes_memory_is_not_gone_on_with() {
    let (world, _) = serving();
    let last = world.log.iter().rev().find(|found| matches!(found.event, Event::InstanceAllocated { .. }));
    let mut again = last.expect("two were placed").clone();
    let mut state = world.state.clone();
    for nth in 1..=8 {
        let Event::InstanceAllocated { instance, .. } = &mut again.event else { panic!("it is one") };
        *instance = types::InstanceId::from_u128(nth);
        again.id = state.head.next();
        state.apply(&again);
    }
}
