//! The stored plan and the stored reports on the disk that loses, tears and reorders what was not
//! synced: production code, thousands of crashes.

use crate::{
    fixture,
    journal::Journal,
    plan_store::{PlanStore, Refusal},
};
use rt::{Disk, Fault, Random, SimDisk, SimRandom};
use std::{collections::BTreeMap, path::Path, sync::Arc};
use types::{
    Generation, InstanceId, Timestamp,
    history::Misfit,
    plan::{Change, Reason, Transition},
};

const DIR: &str = "/data";
const ROUNDS: u64 = 400;
const CRASHES: u64 = 12;

fn open_plans(disk: &SimDisk) -> PlanStore {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    PlanStore::open(disk, Path::new(DIR), fixture::NODE, "test").expect("a crash never spoils the plan")
}

fn open_journal(disk: &SimDisk) -> Journal {
    Journal::open(Arc::new(disk.clone()), Path::new(DIR), Timestamp::ZERO)
        .expect("a crash never spoils the reports")
}

fn roll(dice: &SimRandom) -> u64 {
    dice.u128() as u64
}

/// Any of the ways in which the disk may fail, some operations from now.
fn next_fault(dice: &SimRandom) -> (u64, Fault) {
    let fault = match roll(dice) % 4 {
        0 => Fault::NoSpace,
        1 => Fault::Io,
        _ => Fault::Crash,
    };
    (1 + roll(dice) % 24, fault)
}

#[test]
fn fm_a2_agent_plan_survives_power_loss_on_faulty_disk() {
    for seed in 0..ROUNDS {
        let disk = SimDisk::new(seed);
        let dice = SimRandom::new(seed ^ 0xA2);
        let mut acknowledged = Generation::ZERO;
        let mut offered = 0;
        for _ in 0..CRASHES {
            let mut plans = open_plans(&disk);
            let held = plans.held().generation;
            assert!(held >= acknowledged, "seed {seed}: {acknowledged} was acknowledged, {held} is here");
            assert!(held.get() <= offered, "seed {seed}: nobody ever offered {held}");
            if let Some(plan) = plans.current() {
                assert_eq!(**plan, sample(held.get()), "seed {seed}: the plan is whole");
            }
            let (after, fault) = next_fault(&dice);
            disk.fail_in(after, fault);
            for _ in 0..6 {
                offered += 1;
                match plans.accept(sample(offered)) {
                    Ok(_) => acknowledged = Generation::new(offered),
                    Err(Refusal::Store(_)) => break,
                    Err(other) => panic!("seed {seed}: {other}"),
                }
                let older = plans.accept(sample(offered - 1));
                assert!(
                    matches!(older, Err(Refusal::Misfit(Misfit::Older { .. }))) || offered == 1,
                    "seed {seed}: {older:?}"
                );
            }
            drop(plans);
            disk.restart();
        }
    }
}

/// A plan whose content follows from its generation.
fn sample(generation: u64) -> types::plan::NodePlan {
    let numbers: Vec<u128> = (0..u128::from(generation % 5)).collect();
    fixture::plan(generation, &numbers)
}

#[test]
fn fm_a2_agent_reports_are_neither_lost_nor_doubled_on_faulty_disk() {
    let ids = [InstanceId::from_u128(1), InstanceId::from_u128(2)];
    for seed in 0..ROUNDS {
        let disk = SimDisk::new(seed);
        let dice = SimRandom::new(seed ^ 0x0B);
        // What the server has: it takes a sequence once and never another under the same number.
        let mut server: BTreeMap<(InstanceId, u64), Transition> = BTreeMap::new();
        for _ in 0..CRASHES {
            let journal = open_journal(&disk);
            let (after, fault) = next_fault(&dice);
            disk.fail_in(after, fault);
            for step in 0..8 {
                let id = ids[(roll(&dice) % 2) as usize];
                let at = Timestamp::from_ms(roll(&dice) % 1_000_000);
                match roll(&dice) % 3 {
                    0 => journal.note(id, at, Change::Booting),
                    1 => journal.note(id, at, Change::Ready),
                    _ => journal.note_crash(id, at, Reason::Exited, format!("step {step}")),
                }
                if journal.store().is_err() {
                    break;
                }
                let sent = journal.unconfirmed();
                let mut accepted = BTreeMap::new();
                for report in sent {
                    let key = (report.instance, report.sequence);
                    let known = server.entry(key).or_insert_with(|| report.clone());
                    assert_eq!(*known, report, "seed {seed}: one number, two reports");
                    accepted.insert(report.instance, report.sequence);
                }
                // An answer may be lost: then the same is sent again.
                if roll(&dice).is_multiple_of(2) {
                    journal.confirm(&accepted);
                }
            }
            drop(journal);
            disk.restart();
        }
        let journal = open_journal(&disk);
        for id in ids {
            let newest = server.keys().filter(|(of, _)| *of == id).map(|(_, sequence)| *sequence).max();
            journal.note(id, Timestamp::ZERO, Change::Stopped);
            journal.store().expect("the disk is well");
            let next = journal.unconfirmed().into_iter().rfind(|report| report.instance == id);
            let next = next.expect("it was noted").sequence;
            assert!(newest.is_none_or(|newest| next > newest), "seed {seed}: numbers go on");
        }
    }
}
