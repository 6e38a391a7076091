//! A log that is taken back and what nodes hold then: generations, standings, instances.

use crate::world::{World, manifest};
use holdfast_domain::{
    Actor, Command, Confirmation, Confirmed, Event, Rejection, State, derive,
    state::{Apart, InstanceState, Standing, Taken},
};
use types::{
    ByteSize, Epoch, EventId, Generation, InstanceId, NodeId, Timestamp, TokenId,
    history::{Held, follows},
    plan::{Change, NodeRole, Transition},
};

const OLD: &str = "old";
const NEW: &str = "new";

fn held(cluster: &str, epoch: u64, generation: u64) -> Held {
    let (epoch, generation) = (Epoch::new(epoch), Generation::new(generation));
    Held { cluster: cluster.into(), epoch, event: EventId::new(generation.get()), generation }
}

fn taken(cluster: &str, generation: Generation) -> Taken {
    Taken { cluster: cluster.into(), generation, epoch: Epoch::new(1) }
}

fn adopt(taken: Vec<Taken>, absent: Vec<InstanceId>) -> Command {
    let confirmed = Confirmed {
        actor: Actor::Token(TokenId::from_u128(1)),
        kind: Confirmation::Person,
        acknowledged: Vec::new(),
        reason: "restored".into(),
        at: Timestamp::from_ms(1_800_000_000_000),
    };
    Command::Adopt { cluster: NEW.into(), taken, absent, confirmed }
}

/// Two instances that serve on one node, and what the node holds a while later in a history that this
/// world does not go on with.
fn taken_back() -> (World, NodeId, Held) {
    let mut world = World::new();
    let node = world.node("one", &[NodeRole::Agent, NodeRole::Edge], ByteSize::from_mib(1024));
    world.ok(Command::ActivateNode { node });
    world.apply(manifest("shop", "1", &[("web", 2, 64)], Some("shop.example"))).expect("applied");
    settle(&mut world);
    let mut future = world.clone();
    future.apply(manifest("shop", "2", &[("web", 2, 64)], Some("shop.example"))).expect("applied");
    settle(&mut future);
    let plan = derive::node_plan(&future.state, OLD, node).expect("a plan");
    assert!(plan.generation.get() > world.state.head.get());
    (world, node, plan.name())
}

fn settle(world: &mut World) {
    for _ in 0..40 {
        world.plan();
        world.agents(&mut |_, _| Change::Ready);
        world.lease_all();
    }
}

fn name_of(state: &State, node: NodeId) -> Held {
    derive::node_plan(state, NEW, node).expect("a plan").name()
}

#[test]
fn a_plan_of_this_log_is_told_from_one_it_never_made() {
    let (world, node, later) = taken_back();
    let state = &world.state;
    let own = name_of(state, node);
    assert_eq!(
        (own.cluster.as_str(), own.epoch, own.event.get()),
        (NEW, Epoch::new(1), own.generation.get())
    );
    assert_eq!(state.standing(NEW, &own), Standing::Own);
    assert_eq!(state.standing(NEW, &Held::default()), Standing::Own, "no plan");
    assert_eq!(state.standing(NEW, &Held::from(own.generation)), Standing::Own, "of an earlier version");
    assert_eq!(state.standing(NEW, &later), Standing::Apart(Apart::OtherLog));
    let none = Held { cluster: OLD.into(), ..Held::default() };
    assert_eq!(state.standing(NEW, &none), Standing::Apart(Apart::OtherLog), "enrolled elsewhere");
    let ahead = Held { cluster: NEW.into(), ..later };
    assert_eq!(state.standing(NEW, &ahead), Standing::Apart(Apart::Ahead));
    let branch = Held { epoch: Epoch::new(5), ..own };
    assert_eq!(
        state.standing(NEW, &branch),
        Standing::Apart(Apart::Branch),
        "written under another authority"
    );
}

#[test]
fn an_adoption_lifts_every_plan_above_what_nodes_hold() {
    let (mut world, node, later) = taken_back();
    let before = name_of(&world.state, node);
    assert!(follows(&later, &before, world.state.adoption().as_ref()).is_err());
    let events = world.ok(adopt(vec![taken(OLD, later.generation)], Vec::new()));
    assert!(matches!(&events[..], [Event::ClusterAdopted { cluster, .. }] if cluster == NEW));
    let (state, since) = (&world.state, world.state.line_since());
    assert!(since > later.generation, "{since} and {later}");
    for generation in [state.nodes[&node].generation, state.edge_generation] {
        assert_eq!(generation, since);
    }
    let after = name_of(state, node);
    assert_eq!(after.event, state.head);
    assert_eq!(follows(&later, &after, state.adoption().as_ref()), Ok(()));
    assert_eq!(follows(&before, &after, state.adoption().as_ref()), Ok(()), "a node that came meanwhile");
    assert_eq!(state.standing(NEW, &later), Standing::Adopted);
    assert_eq!(state.standing(NEW, &before), Standing::Own);
    assert_eq!(state.standing(NEW, &after), Standing::Own);
    let beyond = held(OLD, 1, later.generation.get() + 1);
    assert_eq!(state.standing(NEW, &beyond), Standing::Apart(Apart::OtherLog), "not what was shown");
    // Between the two counts there is nothing.
    let between = Held::from(Generation::new(since.get() - 1));
    assert_eq!(state.event_of(between.generation), None);
    // Generations go on from there, and so does the way back to their events.
    world.ok(Command::DrainNode { node });
    let (state, head) = (&world.state, world.state.head);
    assert_eq!(state.event_of(state.generation_of(head)), Some(head));
    assert_eq!(state.generation_of(head), since.next());
    assert_eq!(state.event_of(before.generation), Some(before.event), "of before the adoption");
}

#[test]
fn a_second_adoption_lifts_further_and_the_same_again_does_nothing() {
    let (mut world, node, later) = taken_back();
    world.ok(adopt(vec![taken(OLD, later.generation)], Vec::new()));
    let (head, first) = (world.state.head, world.state.line_since());
    assert_eq!(world.ok(adopt(vec![taken(OLD, later.generation)], Vec::new())), []);
    assert_eq!(world.state.head, head);
    let far = Generation::new(10_000);
    world.ok(adopt(vec![taken("third", far)], Vec::new()));
    assert_eq!(world.state.line_since(), far.next());
    assert_eq!(world.state.event_of(first), Some(head));
    for old in [later, held("third", 7, 10_000)] {
        assert_eq!(world.state.standing(NEW, &old), Standing::Adopted);
        let offered = name_of(&world.state, node);
        assert_eq!(follows(&old, &offered, world.state.adoption().as_ref()), Ok(()));
    }
}

#[test]
fn a_log_that_lost_its_own_end_adopts_that_end() {
    let (mut world, node, later) = taken_back();
    let lost = Held { cluster: NEW.into(), epoch: Epoch::new(9), ..later };
    world.ok(adopt(vec![taken(NEW, lost.generation)], Vec::new()));
    assert_eq!(world.state.standing(NEW, &lost), Standing::Adopted);
    let offered = name_of(&world.state, node);
    assert_eq!(follows(&lost, &offered, world.state.adoption().as_ref()), Ok(()));
}

#[test]
fn what_instances_are_is_told_afresh_after_an_adoption() {
    let (mut world, node, later) = taken_back();
    let ids: Vec<InstanceId> = world.state.instances_on(node).map(|(id, _)| id).collect();
    let [runs, gone] = ids[..] else { panic!("{ids:?}") };
    let sequence = world.state.instances[&runs].report;
    assert!(sequence > 0);
    world.ok(adopt(vec![taken(OLD, later.generation)], vec![gone]));
    let is = |world: &World, id| world.state.instances[&id].state;
    assert_eq!((is(&world, runs), is(&world, gone)), (InstanceState::Ready, InstanceState::Booting));
    let edges = derive::edge_plan(&world.state, NEW);
    let backends: Vec<InstanceId> =
        edges.routes.values().flat_map(|route| &route.backends).map(|backend| backend.instance).collect();
    assert_eq!(backends, [runs], "nobody is sent to what does not run");
    // The agent began it anew and counts from 1, as for one that it never had.
    let at = world.now;
    let report = |sequence, change| Transition { instance: gone, sequence, at, change };
    let transitions =
        vec![report(1, Change::Preparing), report(2, Change::Booting), report(3, Change::Ready)];
    assert_eq!(world.ok(Command::Report { node, transitions }).len(), 3);
    assert_eq!(is(&world, gone), InstanceState::Ready);
}

#[test]
fn an_adoption_is_bounded() {
    let (mut world, _, _) = taken_back();
    let many: Vec<Taken> =
        (0..=types::limits::ADOPTED_LOGS).map(|nth| taken(&nth.to_string(), Generation::new(1))).collect();
    let refused = world.submit(adopt(many, Vec::new())).expect_err("too many");
    assert!(matches!(refused, Rejection::TooMany { .. }), "{refused}");
    let refused = world.submit(adopt(vec![taken("", Generation::new(1))], Vec::new())).expect_err("nobody");
    assert!(matches!(refused, Rejection::Invalid { .. }), "{refused}");
    // Past the bound the first adopted are forgotten: a node that still holds one is shown again.
    for nth in 0..=types::limits::ADOPTED_LOGS {
        world.ok(adopt(vec![taken(&format!("log-{nth}"), Generation::new(1))], Vec::new()));
    }
    assert_eq!(world.state.adoption().expect("adopted").of.len(), types::limits::ADOPTED_LOGS);
    assert!(!world.state.has_adopted(NEW, &held("log-0", 1, 1)));
}
