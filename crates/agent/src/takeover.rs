//! An agent that goes over to another log: which plans it takes, and what it tells that log.

use crate::{
    fixture,
    journal::Journal,
    plan_store::{OpenError, PlanStore, Refusal},
};
use rt::{Fault, Random, SimDisk, SimRandom, Slot};
use std::{collections::BTreeMap, path::Path, sync::Arc};
use types::{
    EventId, Generation, InstanceId, Timestamp,
    history::{Adoption, Misfit},
    plan::{Change, NodePlan},
};

const DIR: &str = "/data";
const ID: InstanceId = InstanceId::from_u128(1);
const OTHER: InstanceId = InstanceId::from_u128(2);
const NOW: Timestamp = Timestamp::from_ms(1_000_000);

fn open(disk: &SimDisk) -> Result<PlanStore, OpenError> {
    PlanStore::open(Arc::new(disk.clone()), Path::new(DIR), fixture::NODE, "test")
}

fn journal(disk: &SimDisk) -> Journal {
    Journal::open(Arc::new(disk.clone()), Path::new(DIR), NOW).expect("it opens")
}

/// A plan of another log that has adopted this node's up to a generation.
fn adopting(generation: u64, upto: u64) -> NodePlan {
    let of = BTreeMap::from([("test".to_owned(), Generation::new(upto))]);
    let adoption = Adoption { event: EventId::new(3), since: Generation::new(upto + 1), of };
    NodePlan { cluster: "new".into(), adoption: Some(adoption), ..fixture::plan(generation, &[1]) }
}

#[test]
fn another_log_is_followed_once_it_has_adopted_the_plan_held() {
    let disk = SimDisk::new(1);
    let mut plans = open(&disk).expect("an empty disk");
    plans.accept(fixture::plan(5, &[1, 2])).expect("the first plan");
    let foreign = NodePlan { cluster: "new".into(), ..fixture::plan(900, &[]) };
    for refused in [foreign, adopting(6, 4)] {
        let refusal = plans.accept(refused).expect_err("not adopted");
        assert!(matches!(refusal, Refusal::Misfit(Misfit::OtherLog { .. })), "{refusal}");
    }
    assert_eq!(open(&disk).expect("a good disk").held().generation, Generation::new(5));
    plans.accept(adopting(6, 5)).expect("adopted");
    let mut plans = open(&disk).expect("it is this node's, whoever enrolled it");
    assert_eq!(plans.held(), adopting(6, 5).name(), "after a restart too");
    let back = plans.accept(fixture::plan(900, &[1])).expect_err("never back");
    assert!(matches!(back, Refusal::Misfit(Misfit::OtherLog { .. })), "{back}");
    plans.accept(adopting(7, 5)).expect("it goes on");
}

#[test]
fn an_agent_without_a_plan_waits_for_the_log_that_enrolled_it_or_one_that_took_that_over() {
    let disk = SimDisk::new(1);
    let mut plans = open(&disk).expect("an empty disk");
    assert_eq!((plans.held().cluster.as_str(), plans.held().generation), ("test", Generation::ZERO));
    let foreign = NodePlan { cluster: "new".into(), ..fixture::plan(4, &[]) };
    assert!(matches!(plans.accept(foreign), Err(Refusal::Misfit(Misfit::OtherLog { .. }))));
    plans.accept(adopting(4, 0)).expect("adopted");
}

#[test]
fn a_plan_stored_before_plans_named_their_epoch_is_read() {
    let disk = SimDisk::new(1);
    let mut text = serde_json::to_value(fixture::plan(5, &[1])).expect("JSON");
    let fields = text.as_object_mut().expect("an object");
    assert!(fields.remove("epoch").is_some());
    assert!(!fields.contains_key("adoption"), "as it was stored then");
    let stored = serde_json::json!({ "version": 1, "plan": text });
    let mut slot = Slot::open(Arc::new(disk.clone()), Path::new(DIR), "plan").expect("an empty disk");
    slot.store(stored.to_string().as_bytes()).expect("stored");
    let mut plans = open(&disk).expect("it is read");
    assert_eq!(plans.held().generation, Generation::new(5));
    assert!(matches!(plans.accept(fixture::plan(5, &[1])), Ok(None)), "the same plan, named");
    plans.accept(fixture::plan(6, &[1])).expect("the next");
}

#[test]
fn a_log_that_takes_over_is_told_of_every_instance_afresh() {
    let disk = SimDisk::new(1);
    let book = journal(&disk);
    book.report_to(&fixture::plan(5, &[1, 2]), NOW);
    [Change::Preparing, Change::Booting, Change::Ready]
        .into_iter()
        .for_each(|change| book.note(ID, NOW, change));
    [Change::Stopped, Change::Collected].into_iter().for_each(|change| book.note(OTHER, NOW, change));
    book.store().expect("stored");
    book.confirm(&BTreeMap::from([(ID, 3), (OTHER, 2)]));
    assert!(book.unconfirmed().is_empty());
    book.note(OTHER, NOW, Change::Preparing);
    book.note(OTHER, NOW, Change::Collected);
    book.report_to(&fixture::plan(6, &[1, 2]), NOW);
    book.store().expect("stored");
    assert_eq!(book.unconfirmed().len(), 2, "the same log is told what it was not told yet, and no more");
    // The plan is stored and the power goes before anything is noted of it.
    drop(book);
    disk.restart();
    let book = journal(&disk);
    book.report_to(&adopting(7, 6), NOW);
    book.store().expect("stored");
    let said: Vec<_> =
        book.unconfirmed().into_iter().map(|said| (said.instance, said.sequence, said.change)).collect();
    assert_eq!(said, [(ID, 4, Change::Ready)], "what became of it under the other log is no news here");
    assert_eq!(book.last(OTHER), None, "nothing of it is left: if it is wanted again it is new");
    drop(book);
    let book = journal(&disk);
    book.report_to(&adopting(8, 6), NOW);
    assert_eq!(book.unconfirmed().len(), 1, "said once");
}

#[test]
fn fm_b_agent_goes_over_to_another_log_whole_or_not_at_all() {
    let mut came_over = 0;
    for seed in 0..400 {
        let (disk, dice) = (SimDisk::new(seed), SimRandom::new(seed ^ 0xB));
        open(&disk).expect("an empty disk").accept(fixture::plan(5, &[1, 2])).expect("the first plan");
        let mut acted_on_new = false;
        for _ in 0..3 {
            disk.fail_in(1 + (dice.u128() as u64) % 60, Fault::Crash);
            if let Ok(mut plans) = open(&disk) {
                assert!(!acted_on_new || plans.held().cluster == "new", "seed {seed}: it went back");
                acted_on_new |= plans.accept(adopting(6, 5)).is_ok();
            }
            disk.clear_faults();
            disk.restart();
        }
        let plans = open(&disk).expect("a crash never spoils the plan");
        let held = plans.current().expect("one of them");
        assert!(
            **held == fixture::plan(5, &[1, 2]) && !acted_on_new || **held == adopting(6, 5),
            "seed {seed}"
        );
        came_over += u32::from(acted_on_new);
    }
    assert!(came_over > 50, "the rounds did what they are for: {came_over}");
}
