//! What an adoption of many nodes is shown and confirmed by.

use super::*;
use crate::{http::guard, observe::Line, writer::Core};
use domain::{Actor, Envelope, Event, codec};
use log::{Batch, Log, MemoryLog};
use rt::{OsRandom, SimClock};
use std::{collections::BTreeSet, net::Ipv6Addr, sync::Arc};
use types::{
    ByteSize, Epoch, EventId, MilliCpu, NodeId, OrgId, Timestamp, TokenId,
    history::Held,
    plan::{Capacity, Lease},
};

const NODES: u64 = 1_000;
const IDENTITY: &str = "new";
const START: Timestamp = Timestamp::from_ms(1_763_673_600_000);

fn envelope(id: EventId, event: Event) -> Envelope {
    let (epoch, actor, request, cause) = (Epoch::new(1), Actor::System, None, None);
    Envelope { id, epoch, at: START, actor, request, cause, sequence: 1, event }
}

fn enrolled(nth: u64) -> Event {
    Event::NodeEnrolled {
        node: node(nth),
        // As long as a name may be.
        name: format!("n{nth:062}").parse().expect("a name"),
        roles: BTreeSet::from([NodeRole::Agent, NodeRole::Edge]),
        capacity: Capacity { memory: ByteSize::from_mib(1), cpu: MilliCpu::new(1) },
        prefix: Ipv6Addr::from(0xfd00_u128 << 112 | u128::from(nth) << 64),
        join: TokenId::from_u128(99),
    }
}

fn node(nth: u64) -> NodeId {
    NodeId::from_u128(u128::from(nth))
}

fn lease(nth: u64, role: NodeRole, running: u128) -> Lease {
    let (generation, epoch) = (Generation::new(5_000 + nth), Epoch::new(7));
    let held = Held { cluster: "o".repeat(limits::IDENTITY_BYTES), epoch, event: EventId::ZERO, generation };
    let running = (0..running).map(|each| InstanceId::from_u128(u128::from(nth) << 32 | each)).collect();
    Lease { role, generation, held: Some(held), pressure: None, running, draining: Vec::new() }
}

/// A log that knows the nodes, each of which runs twenty instances of another log.
async fn fleet() -> Core {
    let log = Arc::new(MemoryLog::new());
    let created = Event::ClusterCreated { cluster: IDENTITY.into() };
    let events = std::iter::once(created).chain((1..=NODES).map(enrolled));
    let encoded = events.zip(1..).map(|(event, id)| codec::encode(&envelope(EventId::new(id), event)).into());
    let encoded: Vec<_> = encoded.collect();
    let mut head = EventId::ZERO;
    for part in encoded.chunks(100) {
        log.append(head, Batch::new(part.to_vec())).await.expect("memory takes it");
        head = log.head().event;
    }
    let opened = Core::open(log, Arc::new(SimClock::new(START)), Arc::new(OsRandom));
    let (core, _driver) = opened.expect("a sound log");
    for nth in 1..=NODES {
        renew(&core, &lease(nth, NodeRole::Agent, 20), nth);
        renew(&core, &lease(nth, NodeRole::Edge, 0), nth);
    }
    core
}

fn renew(core: &Core, lease: &Lease, nth: u64) {
    let state = core.state();
    core.observations().renew(node(nth), lease, START, Line { state: &state, identity: IDENTITY });
}

fn plan(core: &Core) -> Plan {
    Plan::of(&core.state(), IDENTITY.to_owned(), apart::known(core))
}

fn bound(core: &Core, state: &Decided) -> Value {
    guard::bound(&plan(core).shown(state)).map_err(|refused| refused.problem).expect("in bounds")
}

#[tokio::test]
async fn a_large_fleet_is_adopted_whole_and_shown_in_bounds() {
    let core = fleet().await;
    let plan = plan(&core);
    assert_eq!(plan.apart.rows.len() as u64, 2 * NODES);
    assert_eq!(plan.highest(), Generation::new(5_000 + NODES), "the last node is taken over as well");
    let shown = plan.shown(&core.state());
    let facts = shown.facts.as_array().expect("rows");
    assert_eq!(facts.len(), limits::ADOPT_NODES + 1);
    assert_eq!(facts[limits::ADOPT_NODES]["node"], format!("and {} more", 2_000 - limits::ADOPT_NODES));
    let will = shown.will.join("\n");
    assert!(will.contains("and 992 more agents: stop and remove 19840, start 0"), "{will}");
    assert_eq!(apart::first(&core).len(), limits::ADOPT_NODES);

    // Who is not named is confirmed all the same.
    let state = core.state();
    let before = bound(&core, &state);
    assert_eq!(before, bound(&core, &state));
    let mut other = lease(NODES, NodeRole::Agent, 20);
    other.running[0] = InstanceId::from_u128(1);
    renew(&core, &other, NODES);
    let after = bound(&core, &state);
    assert_eq!(before["what it will do"], after["what it will do"], "the numbers are the same");
    assert_ne!(before, after, "and yet it stops another instance");
}

#[tokio::test]
async fn an_event_that_changes_nothing_of_it_leaves_an_adoption_confirmed() {
    let core = fleet().await;
    let state = core.state();
    let before = bound(&core, &state);
    let mut later = Decided::clone(&state);
    for nth in 1..=6_000_u128 {
        let name = format!("org-{nth}").parse().expect("a name");
        let event = Event::OrgCreated { org: OrgId::from_u128(nth), name };
        let next = later.head.next();
        later.apply(&envelope(next, event));
    }
    assert!(later.generation_of(later.head) > plan(&core).highest());
    assert_eq!(before, bound(&core, &later));
}
