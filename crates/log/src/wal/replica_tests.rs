//! A member's log on a disk that loses power, against a model: whatever was done in whatever order,
//! what was acknowledged is there, and what was committed is never anything else.

use super::{
    machine::{Options, Wal},
    replica::RawEntry,
};
use crate::{Kind, entry};
use bytes::Bytes;
use rt::{Disk, Fault, Random as _, SimDisk, SimRandom};
use std::{path::Path, sync::Arc};
use types::{EventId, Index, NodeId, Term};

const DIR: &str = "/log";
const ROUNDS: u64 = 4000;

fn small() -> Options {
    Options { segment_bytes: 1500, reserve_bytes: 200, recent_bytes: 300, ..Options::default() }
}

/// What must be there.
#[derive(Default)]
struct Model {
    /// Entries that were acknowledged as durable, the first one's index being 1.
    durable: Vec<RawEntry>,
    /// Entries of the last append, if power failed under it: each may be there or not.
    perhaps: Vec<RawEntry>,
    /// So many of them are committed, and were seen so.
    committed: usize,
    events: Vec<Bytes>,
}

fn open(disk: &SimDisk) -> Wal {
    let wal = Wal::open(Arc::new(disk.clone()), Path::new(DIR), small()).expect("opens").0;
    wal.store().become_member().expect("reads");
    wal
}

fn random_entry(random: &SimRandom, wal: &Wal, term: Term) -> RawEntry {
    let number = random.u128();
    let leader = NodeId::from_u128(u128::from(term.get() % 3));
    let events: Vec<Bytes> =
        (0..=number % 3).map(|nth| Bytes::from(format!("event {nth} of {number:x}"))).collect();
    let tail = wal.tail();
    let (kind, payload) = match number >> 64 & 7 {
        0 => (Kind::Blank, Bytes::new()),
        1 => (Kind::Epoch, super::member::epoch_payload(leader, b"a test")),
        // Decided on a head that is not the head: void.
        2 => (Kind::Proposal, entry::proposal(tail.event.next(), tail.epoch, &events)),
        3 => (Kind::Proposal, entry::proposal(tail.event, tail.epoch.plus(1), &events)),
        _ => (Kind::Proposal, entry::proposal(tail.event, tail.epoch, &events)),
    };
    RawEntry { kind, term, leader, payload }
}

/// One thing that may happen to a member's log. Power may fail in it.
fn step(random: &SimRandom, wal: &mut Wal, model: &mut Model, term: &mut Term) {
    let draw = random.u128();
    match draw % 8 {
        0..=3 => {
            *term = term.plus((draw >> 8 & 7 == 0).into());
            let entries = vec![random_entry(random, wal, *term)];
            wal.store().hand_over(&entries);
            model.perhaps.clone_from(&entries);
            if wal.append_raw(&entries).is_ok() {
                model.durable.append(&mut model.perhaps);
            }
        }
        4 | 5 => {
            let waiting = model.durable.len() - model.committed;
            let more = (draw >> 8) as usize % (waiting + 1);
            if model.committed + more > 0 {
                let index = Index::new((model.committed + more) as u64);
                let committed = wal.store().commit(index).expect("it is durable");
                model.committed += more;
                // Power may fail under a read as well.
                let Ok(shown) = wal.read(EventId::ZERO, 10_000) else { return };
                assert_eq!(committed.head.event, shown.last().map_or(EventId::ZERO, |last| last.id));
                model.events = shown.into_iter().map(|record| record.bytes).collect();
            }
        }
        6 => {
            let keep = model.committed + (draw >> 8) as usize % (model.durable.len() - model.committed + 1);
            let last = Index::new(keep as u64);
            wal.store().take_back(last);
            // Power may fail before or after: what is cut may be there or not, what is kept must be.
            model.perhaps = model.durable.split_off(keep);
            if wal.cut_suffix(last).is_ok() {
                model.perhaps.clear();
            }
        }
        _ => {
            let _power_may_fail = wal.store().note_committed();
        }
    }
}

fn check(wal: &Wal, model: &mut Model) {
    let found = wal.store().entries(Index::new(1), Index::new(u64::MAX), usize::MAX).unwrap_or_default();
    let found: Vec<RawEntry> = found.into_iter().map(|(_, entry)| entry).collect();
    let all: Vec<RawEntry> = model.durable.iter().chain(&model.perhaps).cloned().collect();
    assert!(found.len() >= model.durable.len(), "what was acknowledged is there");
    assert_eq!(found[..], all[..found.len()], "and is what it was");
    let head = wal.store().head();
    assert!(head.index.get() <= model.committed as u64, "what is noted as committed never runs ahead");
    model.durable = found;
    model.perhaps.clear();
    if model.committed > 0 {
        wal.store().commit(Index::new(model.committed as u64)).expect("it is durable");
    }
    let shown = wal.read(EventId::ZERO, 10_000).expect("reads");
    let shown: Vec<Bytes> = shown.into_iter().map(|record| record.bytes).collect();
    assert_eq!(shown[..model.events.len()], model.events, "what was read is the same for ever");
    model.events = shown;
}

#[test]
fn what_is_acknowledged_and_committed_survives_power_cuts_in_any_order() {
    let (mut cuts, mut void) = (0, 0);
    for seed in 0..ROUNDS {
        let (disk, random) = (SimDisk::new(seed), SimRandom::new(seed));
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        Wal::create_member(&shared, Path::new(DIR), "rounds", NodeId::from_u128(1)).expect("creates");
        let (mut model, mut term) = (Model::default(), Term::new(1));
        for _life in 0..3 {
            let mut wal = open(&disk);
            check(&wal, &mut model);
            if random.u128() % 3 > 0 {
                disk.fail_in(1 + (random.u128() % 60) as u64, Fault::Crash);
            }
            for _ in 0..40 {
                step(&random, &mut wal, &mut model, &mut term);
                if !disk.is_powered() {
                    cuts += 1;
                    break;
                }
            }
            if random.u128() % 2 == 0 {
                // An orderly stop notes the end, and a cut in the next life must note another.
                let _power_may_have_failed = wal.close();
            }
            disk.clear_faults();
            disk.restart();
        }
        let wal = open(&disk);
        check(&wal, &mut model);
        let tail = wal.tail();
        void += model.durable.len() - tail.event.get().min(model.durable.len() as u64) as usize;
        let report = super::verify(&disk, Path::new(DIR)).expect("verifies");
        assert!(report.is_good(), "seed {seed}: {:?}", report.problems);
    }
    assert!(cuts > ROUNDS, "power failed {cuts} times");
    assert!(void > 0, "some proposals were void");
}

/// Found by the fuzz target `log_reader`.
#[test]
fn an_entry_of_events_without_any_is_refused_before_it_is_written() {
    let (term, leader) = (Term::new(1), NodeId::from_u128(1));
    let checked = |kind, payload: Bytes| super::replica::check(&RawEntry { kind, term, leader, payload });
    for (kind, head) in [(Kind::Batch, 0), (Kind::Proposal, entry::PROPOSAL)] {
        assert_eq!(checked(kind, vec![0; head].into()), Err("it has no event".to_owned()), "{kind:?}");
        assert_eq!(checked(kind, [vec![0; head], vec![1, 0, 0, 0, 7]].concat().into()), Ok(()), "{kind:?}");
    }
}
