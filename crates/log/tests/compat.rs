//! A log directory that the first version wrote, kept for ever and read by every later version.
//!
//! `UPDATE_COMPAT=1` writes it anew, which is right only as long as no version was released.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it prepares and compares real files"
)]

use holdfast_log::{
    Batch, Kind, Record,
    wal::{self, Entry, Options, Vote, Wal},
};
use rt::{Disk, RealDisk};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use types::{EventId, NodeId, Term};

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/v1")
}

fn options() -> Options {
    Options { segment_bytes: 700, reserve_bytes: 64, recent_bytes: 0, ..Options::default() }
}

fn event(number: u64) -> String {
    format!("event {number}, the same in every version")
}

/// The history of the kept log: archived, plain, with two epochs, snapshots, a vote and a clean stop.
fn write(dir: &Path) {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let node = NodeId::from_u128(0x0123_4567_89AB_CDEF);
    Wal::create(&disk, dir, "compat v1", node).expect("creates");
    let mut wal = Wal::open(disk, dir, options()).expect("opens").0;
    let mut next = 1;
    for group in 0..8_u64 {
        let events = (next..=next + group % 4).map(|number| event(number).into()).collect();
        next += group % 4 + 1;
        let entries = [Entry::Batch(Batch::new(events)), Entry::Blank];
        wal.append_group(&entries, &mut Vec::new()).expect("appends");
        if group == 3 || group == 5 {
            let at = wal.head().event;
            wal.save_snapshot(at, Box::new(move |out| write!(out, "the state at {at}"))).expect("saves");
        }
        if group == 4 {
            wal.open_epoch(node, "the second epoch").expect("opens");
        }
    }
    wal.save_vote(Vote { term: Term::new(1), voted_for: Some(node) }).expect("saves");
    wal.close().expect("closes");
    fs::remove_file(dir.join("lock")).expect("is there");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("creates");
    for entry in fs::read_dir(from).expect("is there") {
        let entry = entry.expect("reads");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("has a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copies");
        }
    }
}

#[test]
fn a_log_of_version_1_is_read_and_goes_on() {
    if std::env::var_os("UPDATE_COMPAT").is_some() {
        fs::remove_dir_all(kept()).ok();
        write(&kept());
    }
    let dir = tempfile::tempdir().expect("a directory");
    copy(&kept(), dir.path());
    let report = wal::verify(&RealDisk, dir.path()).expect("verifies");
    assert!(report.is_good() && report.archived > 0 && report.segments > 1, "{report:?}");
    let (mut epochs, mut blanks) = (0, 0);
    wal::scan(&RealDisk, dir.path(), EventId::ZERO, |header, _| match header.kind {
        Kind::Epoch => epochs += 1,
        Kind::Blank => blanks += 1,
        Kind::Batch | Kind::Membership | Kind::Proposal => {}
    })
    .expect("scans");
    assert_eq!((epochs, blanks), (2, 8));

    let (mut wal, recovered) = Wal::open(Arc::new(RealDisk), dir.path(), options()).expect("opens");
    assert_eq!((recovered.cluster.as_str(), recovered.dropped), ("compat v1", None));
    assert_eq!((wal.head().event, wal.head().epoch.get()), (EventId::new(20), 2));
    let records = wal.read(EventId::ZERO, 1000).expect("reads");
    assert_eq!(records.len(), 20);
    for Record { id, epoch, bytes } in records {
        assert_eq!(bytes, event(id.get()).as_bytes());
        assert_eq!(epoch.get(), if id.get() <= 11 { 1 } else { 2 });
    }
    assert_eq!(wal.load_snapshot().expect("loads"), Some((EventId::new(13), b"the state at 13".to_vec())));
    let node = NodeId::from_u128(0x0123_4567_89AB_CDEF);
    assert_eq!(wal.vote().expect("loads"), Vote { term: Term::new(1), voted_for: Some(node) });
    wal.append_group(&[Entry::Blank], &mut Vec::new()).expect("goes on");
}

/// As long as the version stays 1, the same history must give the same bytes. But for the vote: it has a file
/// of two copies now, and that of the kept log is of the form before.
#[test]
fn this_version_writes_version_1_byte_for_byte() {
    let dir = tempfile::tempdir().expect("a directory");
    write(dir.path());
    let mut compared = 0;
    for place in ["", "snapshots"] {
        for entry in fs::read_dir(kept().join(place)).expect("is there") {
            let entry = entry.expect("reads");
            if entry.file_type().expect("has a type").is_file() && entry.file_name() != "vote" {
                let now = fs::read(dir.path().join(place).join(entry.file_name())).expect("is written too");
                assert!(now == fs::read(entry.path()).expect("reads"), "{}", entry.path().display());
                compared += 1;
            }
        }
    }
    assert!(compared >= 6 && dir.path().join("vote").is_file(), "{compared}");
}
