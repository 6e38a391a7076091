//! What was noted of a node under one leader, after another has adopted it.

use super::*;
use crate::writer::Core;
use domain::{Actor, Confirmation, Confirmed, Envelope, Event, codec, state::Taken};
use log::{Batch, Log, MemoryLog};
use rt::{OsRandom, SimClock};
use std::sync::Arc;
use types::{Epoch, TokenId};

const NODE: NodeId = NodeId::from_u128(7);
const IDENTITY: &str = "new";
const START: Timestamp = Timestamp::from_ms(1_763_673_600_000);

fn envelope(id: u64, event: Event) -> Envelope {
    let (id, epoch) = (EventId::new(id), Epoch::new(1));
    let (actor, request, cause) = (Actor::System, None, None);
    Envelope { id, epoch, at: START, actor, request, cause, sequence: 1, event }
}

fn adopted(upto: u64) -> Event {
    let (generation, epoch) = (Generation::new(upto), Epoch::new(1));
    let confirmed = Confirmed {
        actor: Actor::Token(TokenId::from_u128(1)),
        kind: Confirmation::Person,
        acknowledged: Vec::new(),
        reason: "restored".into(),
        at: START,
    };
    let taken = vec![Taken { cluster: "old".into(), generation, epoch }];
    Event::ClusterAdopted { cluster: IDENTITY.into(), taken, absent: Vec::new(), confirmed }
}

fn old(generation: u64) -> Held {
    Held { cluster: "old".into(), ..Held::from(Generation::new(generation)) }
}

/// The newest plan of a log.
fn derived(line: Line<'_>) -> Held {
    domain::derive::name(line.state, line.identity, line.state.generation_of(line.state.head))
}

fn created() -> Envelope {
    envelope(1, Event::ClusterCreated { cluster: IDENTITY.into() })
}

fn adopting(upto: u64) -> State {
    let mut state = State::default();
    state.apply(&created());
    state.apply(&envelope(2, adopted(upto)));
    state
}

#[test]
fn who_was_noted_apart_is_so_no_more_once_it_was_adopted_by_whomever() {
    let mut state = State::default();
    state.apply(&created());
    let before = Line { state: &state, identity: IDENTITY };
    let observations = Observations::new(START);
    observations.hear(NODE, NodeRole::Agent, &old(9), before);
    observations.hear(NODE, NodeRole::Edge, &old(12), before);
    observations.begin_anew(START);
    assert_eq!(observations.apart(NODE, before).map(|stray| stray.held), Some(old(9)));
    assert_eq!(observations.all_apart(before).len(), 2);
    // The edge holds more than was adopted.
    let less = adopting(9);
    let less = Line { state: &less, identity: IDENTITY };
    assert_eq!(observations.apart(NODE, less).map(|stray| stray.held), Some(old(12)));
    assert_eq!(observations.all_apart(less).len(), 1);
    let all = adopting(12);
    let all = Line { state: &all, identity: IDENTITY };
    assert_eq!(observations.apart(NODE, all), None);
    assert!(observations.all_apart(all).is_empty());
    // What its agent reports is still of the other log, until it says that it has come over.
    assert!(observations.comes_over(NODE));
    observations.hear(NODE, NodeRole::Agent, &old(9), all);
    assert!(observations.comes_over(NODE));
    let own = derived(all);
    observations.hear(NODE, NodeRole::Agent, &own, all);
    assert!(!observations.comes_over(NODE));
}

#[tokio::test]
async fn only_who_sequences_goes_by_the_strays_that_were_noted_apart() {
    let log = Arc::new(MemoryLog::new());
    let batch = Batch::new(vec![codec::encode(&created()).into()]);
    log.append(EventId::ZERO, batch).await.expect("memory takes it");
    let opened = Core::open(log.clone(), Arc::new(SimClock::new(START)), Arc::new(OsRandom));
    let (core, _driver) = opened.expect("a sound log");
    let state = core.state();
    let line = Line { state: &state, identity: IDENTITY };
    core.observations().hear(NODE, NodeRole::Agent, &old(9), line);
    assert!(core.why_apart(NODE).is_some_and(|why| why.contains("another log")));
    log.follow(true);
    assert_eq!(core.why_apart(NODE), None, "what it noted when it led may have been adopted since");
    log.follow(false);
    assert!(core.why_apart(NODE).is_some(), "it has noted more than the log may say by a number");
}
