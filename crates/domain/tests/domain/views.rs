//! Views fail alone, and are the same when they are folded anew.

use crate::world::{World, manifest};
use holdfast_domain::{
    Envelope, Event,
    view::{self, Fault, Held, View, Views},
};
use types::{ByteSize, EventId, InstanceId, plan::NodeRole};

fn log() -> Vec<Envelope> {
    let mut world = World::new();
    world.node("n1", &[NodeRole::Agent, NodeRole::Edge], ByteSize::from_mib(512));
    world.apply(manifest("shop", "1", &[("web", 2, 32)], Some("shop.example"))).expect("accepted");
    for _ in 0..8 {
        world.lease_all();
        world.agents(&mut |_, _| types::plan::Change::Ready);
        world.plan();
    }
    world.log
}

fn folded(log: &[Envelope]) -> Views {
    let mut views = Views::new();
    log.iter().for_each(|envelope| views.apply(envelope));
    views
}

/// Counts events, and cannot go on at one of them.
#[derive(Default)]
struct Fragile {
    count: u64,
    poison: u64,
}

impl View for Fragile {
    fn name(&self) -> &'static str {
        "fragile"
    }
    fn apply(&mut self, envelope: &Envelope) -> Result<(), Fault> {
        if envelope.id.get() == self.poison {
            return Err(Fault::Missing { event: envelope.id, what: "a row".into() });
        }
        self.count += 1;
        Ok(())
    }
    fn rows(&self) -> Vec<u8> {
        self.count.to_be_bytes().to_vec()
    }
}

#[test]
fn a_view_that_cannot_go_on_stays_at_its_checkpoint() {
    let log = log();
    let mut held = Held::new(Fragile { poison: 5, ..Fragile::default() });
    log.iter().for_each(|envelope| held.apply(envelope));
    assert_eq!(held.checkpoint(), EventId::new(4));
    assert_eq!(held.view().count, 4);
    let quarantine = held.quarantine().expect("it met its poison");
    assert_eq!(quarantine.event, EventId::new(5));
    assert_eq!(quarantine.fault.to_string(), "event 5 is about a row, which is not in the view");
}

#[test]
fn one_quarantined_view_does_not_hold_the_others_up_and_is_rebuilt_from_the_log() {
    let mut log = log();
    let mut views = folded(&log);
    // The log has no such event: it stands for a view that is wrong about something.
    let mut foreign = log.last().expect("a log").clone();
    foreign.id = foreign.id.next();
    foreign.event = Event::InstanceDraining { instance: InstanceId::from_u128(1) };
    views.apply(&foreign);
    log.push(foreign.clone());
    let stuck = views.quarantined("instances").expect("it has no such row");
    assert_eq!(stuck.event, foreign.id);
    assert_eq!(views.checkpoint("instances").map(EventId::next), Some(foreign.id));
    for name in ["apps", "nodes", "routes"] {
        assert_eq!(views.quarantined(name), None);
        assert_eq!(views.checkpoint(name), Some(foreign.id));
    }
    log.pop();
    let before = views.fingerprint("instances");
    assert!(views.rebuild("instances", &log));
    assert_eq!(views.quarantined("instances"), None);
    assert_eq!(views.fingerprint("instances"), before, "it stood at the last event that fitted");
    assert!(!views.rebuild("nonsense", &log));
}

#[test]
fn a_gap_quarantines_every_view_instead_of_being_skipped() {
    let log = log();
    let mut views = folded(&log[..3]);
    views.apply(&log[4]);
    for name in view::NAMES {
        let quarantine = views.quarantined(name).expect("an event is missing");
        assert_eq!(quarantine.fault, Fault::Gap { checkpoint: EventId::new(3), given: EventId::new(5) });
    }
}

#[test]
fn fingerprints_tell_rows_and_checkpoints_apart() {
    let log = log();
    for name in view::NAMES {
        let mut seen: Vec<[u8; 32]> =
            (0..=log.len()).map(|count| folded(&log[..count]).fingerprint(name).expect("known")).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), log.len() + 1, "{name}");
    }
}

#[test]
fn deploys_keep_their_whole_history() {
    let log = log();
    let views = folded(&log);
    let deploy = views.apps().deploys.values().next().expect("there was one");
    let steps: Vec<String> = deploy.steps.iter().map(|step| format!("{:?}", step.state)).collect();
    assert_eq!(steps, ["Started", "Rolling", "Cutover", "Succeeded"]);
    for step in &deploy.steps {
        let event = &log[step.mark.event.get() as usize - 1];
        assert_eq!(event.at, step.mark.at);
        assert!(event.event.kind().starts_with("deploy."));
    }
}
