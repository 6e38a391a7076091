//! The files of a log: whatever is changed in them, the log is refused or what is read is a beginning of what was
//! written, and `verify` calls nothing good that is less than all of it. And entries as another member sends
//! them: any payload is refused, or is read back as it was taken after a restart.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use log::{
    Batch, Kind, Record,
    wal::{self, Entry, OpenError, Options, RawEntry, Wal, check_entry},
};
use rt::{Disk, SimDisk};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};
use types::{EventId, NodeId, Term};

const DIR: &str = "/log";
const NODE: NodeId = NodeId::from_u128(1);

struct Example {
    disk: SimDisk,
    files: Vec<PathBuf>,
    events: Vec<Record>,
}

fn small() -> Options {
    Options { segment_bytes: 1200, reserve_bytes: 64, recent_bytes: 0, ..Options::default() }
}

fn open(disk: &SimDisk) -> Result<Wal, OpenError> {
    Wal::open(Arc::new(disk.clone()), Path::new(DIR), small()).map(|(wal, _)| wal)
}

/// A log with segments, an archive and snapshots, closed.
fn example() -> &'static Example {
    static EXAMPLE: OnceLock<Example> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        let disk = SimDisk::new(1);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        Wal::create(&shared, Path::new(DIR), "fuzz", NODE).expect("creates");
        let mut wal = open(&disk).expect("opens");
        for number in 0..14 {
            let events = (0..=number % 3).map(|at| Bytes::from(format!("event {at} of {number}"))).collect();
            wal.append_group(&[Entry::Batch(Batch::new(events))], &mut Vec::new()).expect("appends");
            if number == 5 || number == 9 {
                wal.save_snapshot(wal.head().event, Box::new(|out| out.write_all(b"the state"))).expect("saves");
            }
        }
        let events = wal.read(EventId::ZERO, usize::MAX).expect("reads");
        wal.close().expect("closes");
        let files = disk.files().into_iter().map(|(path, _)| path).collect();
        Example { disk, files, events }
    })
}

/// A log with nothing in it, closed.
fn empty() -> &'static SimDisk {
    static EMPTY: OnceLock<SimDisk> = OnceLock::new();
    EMPTY.get_or_init(|| {
        let disk = SimDisk::new(1);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        Wal::create(&shared, Path::new(DIR), "fuzz", NODE).expect("creates");
        disk
    })
}

/// One change of a file: cut, or some bytes written over it.
fn change(bytes: &mut Vec<u8>, place: u16, with: &[u8]) {
    let place = usize::from(place).min(bytes.len());
    if with.is_empty() {
        return bytes.truncate(place);
    }
    let end = (place + with.len()).min(bytes.len());
    bytes[place..end].copy_from_slice(&with[..end - place]);
}

fn files(changes: Vec<(u8, u16, &[u8])>) {
    let example = example();
    let disk = example.disk.copy();
    for (file, place, with) in changes {
        let path = &example.files[usize::from(file) % example.files.len()];
        disk.damage(path, |bytes| change(bytes, place, with));
    }
    if wal::verify(&disk, Path::new(DIR)).is_ok_and(|report| report.is_good() && report.torn_tail.is_none()) {
        let read = open(&disk).expect("what is good opens").read(EventId::ZERO, usize::MAX);
        assert_eq!(read.expect("and reads"), example.events);
    }
    let Ok(wal) = open(&disk) else { return };
    if let Ok(read) = wal.read(EventId::ZERO, usize::MAX) {
        assert!(example.events.starts_with(&read), "what is read was written, in order");
    }
}

fn entry(kind: u8, payload: &[u8]) {
    let kinds = [Kind::Batch, Kind::Proposal, Kind::Epoch, Kind::Blank, Kind::Membership];
    let kind = kinds[usize::from(kind) % kinds.len()];
    let payload = Bytes::copy_from_slice(payload);
    let entry = RawEntry { kind, term: Term::new(1), leader: NODE, payload };
    if check_entry(&entry).is_err() {
        return;
    }
    let disk = empty().copy();
    let mut wal = open(&disk).expect("opens");
    wal.append_raw(&[entry]).expect("what passed the check is taken");
    let tail = wal.tail();
    wal.close().expect("closes");
    assert_eq!(open(&disk).expect("and opens again").tail(), tail);
}

fuzz_target!(|input: (Vec<(u8, u16, &[u8])>, u8, &[u8])| {
    let (changes, kind, payload) = input;
    files(changes);
    entry(kind, payload);
});
