//! The log on a disk that fails: what is answered, what goes on, what stops.

use bytes::Bytes;
use holdfast_log::{
    AppendError, Batch, Log, WalLog, conformance,
    wal::{Options, Wal},
};
use rt::{Disk, DiskError, Fault, Operation, SimDisk, ThreadSpawner};
use std::{
    path::Path,
    sync::{Arc, Mutex},
};
use types::{EventId, NodeId};

const DIR: &str = "/log";

/// What `on_fatal` was called with.
type Deaths = Arc<Mutex<Vec<String>>>;

fn small() -> Options {
    Options { segment_bytes: 2048, reserve_bytes: 256, recent_bytes: 0, ..Options::default() }
}

fn open(disk: &SimDisk) -> (WalLog, Deaths) {
    let deaths = Deaths::default();
    let told = deaths.clone();
    let fatal = Box::new(move |error: &DiskError| told.lock().expect("no panic").push(error.to_string()));
    let node = NodeId::from_u128(1);
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let opened = WalLog::open_or_create(disk, Path::new(DIR), "faults", node, small(), &ThreadSpawner, fatal);
    (opened.expect("opens").0, deaths)
}

fn batch(size: usize) -> Batch {
    Batch::new(vec![Bytes::from(vec![b'x'; size])])
}

fn append(log: &WalLog, size: usize) -> Result<u64, AppendError> {
    log.append(log.head().event, batch(size)).wait().map(|appended| appended.last.get())
}

/// Row J1 and CFG6 for the log: a full disk refuses writes, certainly, keeps reads, and mends itself.
#[test]
fn fm_j1_a_full_disk_refuses_appends_and_the_log_goes_on_by_itself() {
    let disk = SimDisk::new(1);
    let (log, deaths) = open(&disk);
    for _ in 0..10 {
        append(&log, 100).expect("there is space");
    }
    disk.set_capacity(Some(disk.used() + 1000));
    let refused =
        (0..50).map(|_| append(&log, 100)).filter(|result| *result == Err(AppendError::NoSpace)).count();
    assert!((30..50).contains(&refused), "{refused}");
    let head = log.head();
    let records = log.read(EventId::ZERO, 1000).expect("reads go on");
    conformance::assert_gapless(&records);
    assert_eq!(records.len() as u64, head.event.get());
    // Something larger is refused too, and something smaller is not kept from fitting.
    assert_eq!(append(&log, 5000), Err(AppendError::NoSpace));
    assert_eq!(log.head(), head, "a refused append leaves nothing");
    disk.set_capacity(None);
    assert_eq!(append(&log, 5000), Ok(head.event.get() + 1));
    assert!(deaths.lock().expect("no panic").is_empty(), "a full disk is no reason to die");
    drop(log);
    let (log, _) = open(&disk);
    assert_eq!(log.head().event, head.event.next());
    conformance::assert_gapless(&log.read(EventId::ZERO, 1000).expect("reads"));
}

/// Space that runs out in the middle of a write leaves nothing of it, also after a crash.
#[test]
fn an_append_cut_short_by_a_full_disk_leaves_nothing() {
    for operation in 1..12 {
        for seed in 0..20 {
            let disk = SimDisk::new(seed);
            let shared: Arc<dyn Disk> = Arc::new(disk.clone());
            Wal::create(&shared, Path::new(DIR), "faults", NodeId::from_u128(1)).expect("creates");
            let mut wal = Wal::open(shared.clone(), Path::new(DIR), small()).expect("opens").0;
            let entry = |size| [holdfast_log::wal::Entry::Batch(batch(size))];
            wal.append_group(&entry(500), &mut Vec::new()).expect("appends");
            let head = wal.head();
            disk.fail_in(operation, Fault::NoSpace);
            let result = wal.append_group(&entry(1900), &mut Vec::new());
            let head = match result {
                Ok(()) => wal.head(),
                Err(holdfast_log::wal::GroupError::NoSpace(_)) => head,
                // A sync or a rename that fails is not about this append alone.
                Err(_) => continue,
            };
            assert_eq!(wal.head(), head);
            disk.clear_faults();
            if seed % 2 == 0 {
                wal.append_group(&entry(30), &mut Vec::new()).expect("goes on");
            }
            let head = wal.head();
            drop(wal);
            disk.restart();
            let (wal, recovered) = Wal::open(shared, Path::new(DIR), small()).expect("opens");
            assert_eq!((wal.head(), recovered.dropped), (head, None), "operation {operation}, seed {seed}");
        }
    }
}

/// A failed sync: whoever waits is told the truth, nothing is written afterwards, the process dies.
#[test]
fn fm_p2_a_failed_sync_stops_the_log_for_good() {
    for fault in [Fault::Io, Fault::NoSpace] {
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let (log, deaths) = open(&disk);
            append(&log, 100).expect("appends");
            let before = log.head();
            disk.fail_next(Operation::Sync, fault);
            let waiting: Vec<_> =
                (0..10).map(|place| log.append(before.event.plus(place), batch(1))).collect();
            let answers: Vec<_> = waiting.into_iter().map(|future| future.wait()).collect();
            assert_eq!(answers[0], Err(AppendError::Unknown), "seed {seed}: it may or may not be there");
            assert!(
                answers
                    .iter()
                    .all(|answer| matches!(answer, Err(AppendError::Unknown | AppendError::Stopped))),
                "seed {seed}: {answers:?}"
            );
            let operations = disk.operations();
            assert_eq!(append(&log, 1), Err(AppendError::Stopped));
            assert_eq!(log.head(), before, "readers see what is durable and no more");
            log.close();
            assert_eq!(deaths.lock().expect("no panic").len(), 1, "seed {seed}: the process must end, once");
            assert_eq!(disk.operations(), operations, "nothing was written afterwards");
            disk.restart();
            let (log, _) = open(&disk);
            assert!(log.head().event >= before.event, "seed {seed}: what was acknowledged is there");
        }
    }
}

/// Everything queued behind an append that fails was decided on it.
#[test]
fn what_is_queued_behind_a_refused_append_is_refused() {
    let disk = SimDisk::new(4);
    let (log, _) = open(&disk);
    append(&log, 10).expect("appends");
    disk.set_capacity(Some(disk.used()));
    let first = log.append(EventId::new(1), batch(3000));
    let second = log.append(EventId::new(2), batch(1));
    assert_eq!(first.wait(), Err(AppendError::NoSpace));
    let second = second.wait();
    assert!(matches!(second, Err(AppendError::NoSpace | AppendError::HeadMoved { .. })), "{second:?}");
    disk.set_capacity(None);
    assert_eq!(append(&log, 1), Ok(2));
}

#[test]
fn an_epoch_is_opened_by_an_entry_and_stays_open() {
    let disk = SimDisk::new(5);
    let (log, _) = open(&disk);
    append(&log, 10).expect("appends");
    log.open_epoch(NodeId::from_u128(2), "the test says so").wait().expect("opens");
    assert_eq!((log.head().epoch.get(), log.head().event), (2, EventId::new(1)));
    append(&log, 10).expect("appends");
    drop(log);
    disk.restart();
    let (log, _) = open(&disk);
    let epochs: Vec<u64> =
        log.read(EventId::ZERO, 10).expect("reads").iter().map(|record| record.epoch.get()).collect();
    assert_eq!(epochs, [1, 2]);
    assert_eq!(log.head().epoch.get(), 2);
}

/// A snapshot that cannot be written harms nobody (row CFG7), and a closed log still answers reads.
#[test]
fn fm_cfg7_a_snapshot_that_fails_leaves_the_one_before() {
    let disk = SimDisk::new(6);
    let (log, deaths) = open(&disk);
    append(&log, 100).expect("appends");
    let save = |content: usize| {
        log.save_snapshot(log.head().event, Box::new(move |out| out.write_all(&vec![9; content])))
    };
    save(100).expect("saves");
    append(&log, 100).expect("appends");
    disk.set_capacity(Some(disk.used() + 3000));
    save(1 << 20).expect_err("there is no space");
    assert_eq!(log.load_snapshot().expect("loads").expect("is there"), (EventId::new(1), vec![9; 100]));
    append(&log, 100).expect("its space was given back");
    disk.set_capacity(None);
    save(200).expect("saves");
    assert!(deaths.lock().expect("no panic").is_empty());
    log.close();
    assert_eq!(append(&log, 1), Err(AppendError::Stopped));
    assert_eq!(log.read(EventId::ZERO, 10).expect("reads").len(), 3);
}
