//! Damage: every byte of a small log, flipped or cut off, is found, named, and never glossed over.

use bytes::Bytes;
use holdfast_log::{
    Batch, Record,
    wal::{self, Entry, OpenError, Options, Wal},
};
use rt::{Disk, SimDisk};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use types::{EventId, Index, NodeId};

const DIR: &str = "/log";

fn small() -> Options {
    Options { segment_bytes: 1200, reserve_bytes: 64, recent_bytes: 0, ..Options::default() }
}

fn open(disk: &SimDisk) -> Result<(Wal, wal::Recovered), OpenError> {
    Wal::open(Arc::new(disk.clone()), Path::new(DIR), small())
}

fn group(number: u64) -> Vec<Entry> {
    let event =
        |place: u64| Bytes::from(format!("event {place} of group {number}").repeat(1 + number as usize % 4));
    (0..1 + number % 3).map(|entry| Entry::Batch(Batch::new((0..1 + entry).map(event).collect()))).collect()
}

fn everything(wal: &Wal) -> Vec<Record> {
    wal.read(EventId::ZERO, usize::MAX).expect("reads")
}

/// A log with an archive, two snapshots and several segments, and all its events.
fn example() -> (SimDisk, Wal, Vec<Record>) {
    let disk = SimDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    Wal::create(&shared, Path::new(DIR), "damage", NodeId::from_u128(1)).expect("creates");
    let mut wal = open(&disk).expect("opens").0;
    for number in 0..14 {
        wal.append_group(&group(number), &mut Vec::new()).expect("appends");
        if number == 5 || number == 7 {
            let at = wal.head().event;
            wal.save_snapshot(at, Box::new(|out| out.write_all(b"the state"))).expect("saves");
        }
    }
    let events = everything(&wal);
    assert!(wal.last_purged() > Index::ZERO, "something is archived");
    (disk, wal, events)
}

fn files(disk: &SimDisk, suffix: &str) -> Vec<(PathBuf, u64)> {
    disk.files().into_iter().filter(|(path, _)| path.to_string_lossy().ends_with(suffix)).collect()
}

/// Opens a damaged copy, which must refuse and change nothing, or have all the events.
fn refused(disk: &SimDisk, events: &[Record], what: &str) -> Option<OpenError> {
    let before: Vec<_> = disk.files().into_iter().map(|(path, _)| disk.read(&path).expect("reads")).collect();
    match open(disk) {
        Ok((wal, recovered)) => {
            assert_eq!(everything(&wal), events, "{what}: {recovered:?}");
            None
        }
        Err(error) => {
            let after: Vec<_> =
                disk.files().into_iter().map(|(path, _)| disk.read(&path).expect("reads")).collect();
            assert!(before == after, "{what}: a refused start changed something");
            Some(error)
        }
    }
}

/// The file that an error names, and where.
fn place(error: &OpenError) -> (&Path, u64) {
    match error {
        OpenError::Damaged { segment, offset, .. } | OpenError::Shortened { segment, offset, .. } => {
            (segment, *offset)
        }
        OpenError::FormatDamaged { path } => (path, 0),
        other => panic!("names no file: {other}"),
    }
}

#[test]
fn a_flipped_byte_anywhere_in_a_segment_stops_the_start() {
    let (disk, wal, events) = example();
    wal.close().expect("closes");
    let segments = files(&disk, ".seg");
    assert!(segments.len() >= 3);
    for (number, (path, size)) in segments.iter().enumerate() {
        let content = disk.read(path).expect("reads");
        let used = content.iter().rposition(|byte| *byte != 0).expect("has content") + 1;
        for at in 0..*size as usize {
            let copy = disk.copy();
            copy.damage(path, |bytes| bytes[at] ^= 1 << (at % 8));
            let what = format!("{}, byte {at}", path.display());
            let report = wal::verify(&copy, Path::new(DIR)).expect("verifies");
            match refused(&copy, &events, &what) {
                Some(error) => {
                    let (named, offset) = place(&error);
                    assert_eq!(named, path, "{what}");
                    assert!(offset <= at as u64, "{what}: named {offset}");
                    assert!(!report.is_good(), "{what}: {report:?}");
                }
                // Reserved space holds nothing; what appears there is cut off and reported.
                None => assert!(number + 1 == segments.len() && at >= used, "{what} went unnoticed"),
            }
        }
    }
}

#[test]
fn a_segment_cut_short_anywhere_stops_the_start() {
    let (disk, wal, events) = example();
    wal.close().expect("closes");
    for (path, size) in files(&disk, ".seg") {
        let content = disk.read(&path).expect("reads");
        let used = content.iter().rposition(|byte| *byte != 0).expect("has content") + 1;
        for length in 0..size as usize {
            let copy = disk.copy();
            copy.damage(&path, |bytes| bytes.truncate(length));
            let what = format!("{} cut to {length}", path.display());
            match refused(&copy, &events, &what) {
                Some(OpenError::Missing { .. }) | None if length >= used => {}
                Some(error @ OpenError::Missing { .. }) => assert!(error.to_string().contains("missing")),
                Some(error) => assert_eq!(place(&error).0, path, "{what}"),
                None => panic!("{what} went unnoticed"),
            }
        }
    }
}

/// Without a clean stop, the very last append cannot be told from one that was under way. Only it.
#[test]
fn without_a_clean_stop_only_the_last_group_can_go() {
    let (disk, wal, events) = example();
    let head = wal.head();
    drop(wal);
    let last = group(13).len();
    let kept = events.len() - (1..=last).sum::<usize>();
    let (path, size) = files(&disk, ".seg").pop().expect("has segments");
    let mut dropped = 0;
    for at in 0..size as usize {
        let copy = disk.copy();
        copy.damage(&path, |bytes| bytes[at] ^= 0x40);
        match open(&copy) {
            Err(error) => assert_eq!(place(&error).0, path),
            Ok((wal, recovered)) if wal.head() != head => {
                let cut = recovered.dropped.expect("is reported");
                assert_eq!((&cut.segment, cut.offset <= at as u64), (&path, true));
                let found = everything(&wal);
                assert!(found.len() >= kept && found[..] == events[..found.len()], "byte {at}");
                dropped += 1;
            }
            Ok((wal, _)) => assert_eq!(everything(&wal), events, "byte {at}"),
        }
    }
    assert!(dropped > 100, "{dropped}");
}

#[test]
fn damage_to_the_archive_is_found_by_whoever_looks() {
    let (disk, wal, events) = example();
    wal.close().expect("closes");
    let archives = files(&disk, ".zst");
    assert!(!archives.is_empty());
    for (path, size) in archives {
        for at in 0..size as usize {
            let copy = disk.copy();
            copy.damage(&path, |bytes| bytes[at] ^= 0x04);
            let report = wal::verify(&copy, Path::new(DIR)).expect("verifies");
            assert!(report.problems.iter().any(|problem| problem.path == path), "byte {at}: {report:?}");
            assert!(wal::scan(&copy, Path::new(DIR), EventId::ZERO, |_, _| {}).is_err(), "byte {at}");
            if let Ok((wal, _)) = open(&copy) {
                // Its content is not needed to start, but no read gives what was not written.
                let error = wal.read(EventId::ZERO, 1000).expect_err("is damaged");
                assert!(error.to_string().contains(&*path.to_string_lossy()), "{error}");
                let last = EventId::new(events.len() as u64 - 1);
                assert_eq!(wal.read(last, 1).expect("reads")[0], events[events.len() - 1]);
            }
        }
    }
}

#[test]
fn a_damaged_snapshot_is_passed_over_and_two_are_an_error() {
    let (disk, wal, _) = example();
    let (newest, content) = wal.load_snapshot().expect("loads").expect("is there");
    assert_eq!(content, b"the state");
    wal.close().expect("closes");
    let snapshots = files(&disk, ".snap");
    assert_eq!(snapshots.len(), 2);
    let (path, size) = &snapshots[1];
    for at in 0..*size as usize {
        let copy = disk.copy();
        copy.damage(path, |bytes| bytes[at] ^= 0x80);
        let wal = open(&copy).expect("opens").0;
        let (older, content) = wal.load_snapshot().expect("falls back").expect("is there");
        assert!(older < newest && content == b"the state", "byte {at}");
        let report = wal::verify(&copy, Path::new(DIR)).expect("verifies");
        assert!(report.problems.iter().any(|problem| problem.path == *path));
        copy.damage(&snapshots[0].0, |bytes| bytes.truncate(at.min(20)));
        assert!(wal.load_snapshot().is_err());
    }
}

#[test]
fn a_missing_file_is_named_by_what_it_leaves_open() {
    let (disk, wal, _) = example();
    wal.close().expect("closes");
    let mut missing = files(&disk, ".seg");
    missing.extend(files(&disk, ".zst"));
    for (path, _) in missing {
        let copy = disk.copy();
        copy.remove(&path).expect("removes");
        let error = open(&copy).expect_err("something is missing");
        assert!(
            matches!(
                error,
                OpenError::Missing { .. } | OpenError::Shortened { .. } | OpenError::Damaged { .. }
            ),
            "{error}"
        );
        let report = wal::verify(&copy, Path::new(DIR)).expect("verifies");
        assert!(!report.is_good(), "{}: {report:?}", path.display());
    }
    let copy = disk.copy();
    copy.remove(&Path::new(DIR).join("format")).expect("removes");
    assert!(matches!(open(&copy), Err(OpenError::NotCreated { .. })));
    let shared: Arc<dyn Disk> = Arc::new(copy);
    let refused = Wal::create(&shared, Path::new(DIR), "damage", NodeId::from_u128(1));
    assert!(matches!(refused, Err(wal::CreateError::Remains { .. })), "a new log would hide the old one");
}

#[test]
fn a_good_log_verifies_and_scans() {
    let (disk, wal, events) = example();
    wal.close().expect("closes");
    let report = wal::verify(&disk, Path::new(DIR)).expect("verifies");
    assert!(report.is_good() && report.torn_tail.is_none(), "{report:?}");
    assert_eq!((report.events, report.cluster.as_str()), (events.len() as u64, "damage"));
    for after in 0..=events.len() as u64 {
        let mut scanned = Vec::new();
        wal::scan(&disk, Path::new(DIR), EventId::new(after), |header, parts| {
            if header.kind == holdfast_log::Kind::Batch {
                for (place, bytes) in parts.iter().enumerate() {
                    let id = header.first.plus(place as u64);
                    if id.get() > after {
                        scanned.push(Record { id, epoch: header.epoch, bytes: bytes.clone() });
                    }
                }
            }
        })
        .expect("scans");
        assert_eq!(scanned[..], events[after as usize..]);
    }
}

#[test]
fn a_newer_format_is_refused_and_says_what_to_do() {
    let (disk, wal, _) = example();
    wal.close().expect("closes");
    disk.damage(&Path::new(DIR).join("format"), |bytes| {
        *bytes =
            String::from_utf8(bytes.clone()).expect("text").replace("version 1", "version 4").into_bytes();
    });
    let error = open(&disk).expect_err("is newer");
    assert!(matches!(error, OpenError::NewerFormat { found: 4, .. }));
    assert!(error.to_string().contains("start the newer holdfast"), "{error}");
}

#[test]
fn a_second_opener_is_told_who_has_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let disk: Arc<dyn Disk> = Arc::new(rt::RealDisk);
    Wal::create(&disk, dir.path(), "locks", NodeId::from_u128(1)).expect("creates");
    let (wal, _) = Wal::open(disk.clone(), dir.path(), small()).expect("opens");
    let error = Wal::open(disk.clone(), dir.path(), small()).expect_err("is in use");
    assert!(
        matches!(&error, OpenError::Locked { holder, .. } if *holder == format!("process {}", std::process::id()))
    );
    wal.close().expect("closes");
    Wal::open(disk, dir.path(), small()).expect("is free again");
}

/// What a replicated log needs of this one.
#[test]
fn a_cut_suffix_stays_cut_and_the_log_goes_on() {
    let (disk, mut wal, events) = example();
    let (snapshot, _) = wal.load_snapshot().expect("loads").expect("is there");
    let segments = files(&disk, ".seg").len();
    // Down to the snapshot, across segments.
    while wal.head().event > snapshot {
        let last = wal.head().index.get() - 1;
        wal.cut_suffix(Index::new(last)).expect("cuts");
        assert_eq!(wal.head().index.get(), last);
        let left = everything(&wal);
        assert_eq!(left[..], events[..left.len()]);
        let copy = disk.copy();
        let reopened = open(&copy).expect("opens").0;
        assert_eq!((reopened.head(), everything(&reopened)), (wal.head(), left));
    }
    assert!(files(&disk, ".seg").len() < segments, "whole segments were cut");
    wal.lead(wal.head().term.next(), NodeId::from_u128(2));
    let mut placed = Vec::new();
    let entries = [Entry::Blank, Entry::Membership(Bytes::from_static(b"1,2,3")), group(1).remove(0)];
    wal.append_group(&entries, &mut placed).expect("appends");
    let epoch = wal.open_epoch(NodeId::from_u128(2), "the test says so").expect("appends");
    assert_eq!(epoch.get(), 2);
    let (head, left) = (wal.head(), everything(&wal));
    wal.close().expect("closes");
    let reopened = open(&disk).expect("opens").0;
    assert_eq!((reopened.head(), everything(&reopened)), (head, left));
    assert!(wal::verify(&disk, Path::new(DIR)).expect("verifies").is_good());
}
