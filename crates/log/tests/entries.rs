//! Reading a directory entry by entry while its writer goes on, and writing a new one from entries.

use bytes::Bytes;
use holdfast_log::{
    Batch, Head, Kind,
    wal::{Carried, Entries, EntriesError, Entry, NewLog, NewLogError, Options, RawEntry, Wal},
};
use rt::{Disk, Fault, SimDisk};
use std::{path::Path, sync::Arc};
use types::{EventId, Index, NodeId, Term};

const DIR: &str = "/log";
const NODE: NodeId = NodeId::from_u128(1);

fn small() -> Options {
    Options { segment_bytes: 1500, reserve_bytes: 200, recent_bytes: 300, ..Options::default() }
}

fn new_disk() -> (SimDisk, Arc<dyn Disk>) {
    let sim = SimDisk::new(1);
    (sim.clone(), Arc::new(sim))
}

fn append(wal: &mut Wal, batches: usize) {
    for number in 0..batches {
        let events =
            (0..=number % 3).map(|nth| Bytes::from(format!("event {nth} of batch {number}"))).collect();
        wal.append_group(&[Entry::Batch(Batch::new(events))], &mut Vec::new()).expect("appends");
    }
}

fn all(entries: &mut Entries, until: Index) -> Vec<Carried> {
    std::iter::from_fn(|| entries.next(until).expect("reads")).collect()
}

#[test]
fn entries_are_read_beside_the_writer_and_through_the_archive() {
    let (_, disk) = new_disk();
    Wal::create(&disk, Path::new(DIR), "demo", NODE).expect("creates");
    let mut wal = Wal::open(Arc::clone(&disk), Path::new(DIR), small()).expect("opens").0;
    let mut entries = Entries::open(Arc::clone(&disk), Path::new(DIR)).expect("opens");
    let mut found = Vec::new();
    for round in 0..6 {
        append(&mut wal, 7);
        found.extend(all(&mut entries, wal.head().index));
        assert_eq!(entries.head(), wal.head(), "round {round}");
        // Seals what the reader may have open.
        wal.save_snapshot(wal.head().event, Box::new(|to| to.write_all(b"state"))).expect("a snapshot");
    }
    assert!(wal.last_purged() > Index::ZERO);
    let mut again = Entries::open(Arc::clone(&disk), Path::new(DIR)).expect("opens");
    assert!(all(&mut again, wal.head().index) == found, "from the archive it is the same");
    let records: Vec<_> = found.iter().flat_map(|entry| entry.records().expect("adds up")).collect();
    assert_eq!(records, wal.read(EventId::ZERO, 1000).expect("reads"));

    // From any entry on.
    let mut head = Head::NOTHING;
    for (place, entry) in found.iter().enumerate() {
        head = entry.follows(&head).expect("it follows");
        again.seek(&head).expect("it is there");
        assert!(all(&mut again, wal.head().index) == found[place + 1..]);
        let other = Head { chain: [1; 32], ..head };
        assert!(matches!(again.seek(&other), Err(EntriesError::Diverged { .. })));
    }
    let (at, content) = again.snapshot(wal.head().event).expect("reads").expect("one");
    assert_eq!((at, content.as_slice()), (wal.head().event, b"state".as_slice()));
}

/// A leader's entries that were never committed are cut, and others come in their place. Whoever had
/// read the file before must not give the old ones.
#[test]
fn entries_that_were_cut_are_not_given_from_memory() {
    let (_, disk) = new_disk();
    Wal::create_member(&disk, Path::new(DIR), "demo", NODE).expect("creates");
    let mut wal = Wal::open(Arc::clone(&disk), Path::new(DIR), small()).expect("opens").0;
    let batch = |term, text: &'static [u8]| {
        let length = (text.len() as u32).to_le_bytes();
        let payload = [length.as_slice(), text].concat().into();
        RawEntry { kind: Kind::Batch, term: Term::new(term), leader: NODE, payload }
    };
    wal.append_raw(&[batch(1, b"one"), batch(1, b"never committed"), batch(1, b"nor this")])
        .expect("appends");
    let mut entries = Entries::open(Arc::clone(&disk), Path::new(DIR)).expect("opens");
    assert_eq!(all(&mut entries, Index::new(1)).len(), 1, "one is committed");
    wal.cut_suffix(Index::new(1)).expect("cuts");
    wal.append_raw(&[batch(2, b"two"), batch(2, b"three")]).expect("appends");
    let found = all(&mut entries, Index::new(3));
    assert_eq!(entries.head(), wal.tail());
    let texts: Vec<_> = found.iter().flat_map(|entry| entry.records().expect("adds up")).collect();
    assert_eq!(texts.iter().map(|record| &*record.bytes).collect::<Vec<_>>(), [b"two".as_slice(), b"three"]);
}

#[test]
fn carried_entries_are_read_as_they_were_put_and_never_beyond_their_end() {
    let (_, disk) = new_disk();
    Wal::create(&disk, Path::new(DIR), "demo", NODE).expect("creates");
    let mut wal = Wal::open(Arc::clone(&disk), Path::new(DIR), small()).expect("opens").0;
    append(&mut wal, 5);
    let found = all(&mut Entries::open(Arc::clone(&disk), Path::new(DIR)).expect("opens"), wal.head().index);
    let mut bytes = Vec::new();
    found.iter().for_each(|entry| entry.put(&mut bytes));
    assert_eq!(bytes.len(), found.iter().map(Carried::size).sum::<usize>());
    let mut rest = Bytes::from(bytes.clone());
    for entry in &found {
        assert_eq!(Carried::take(&mut rest).as_ref(), Ok(entry));
    }
    assert!(rest.is_empty());
    let first = found[0].size();
    for length in 0..first {
        assert!(Carried::take(&mut Bytes::copy_from_slice(&bytes[..length])).is_err(), "{length}");
    }
    // Any bit of it that changes is seen where it must follow.
    for at in 0..first {
        let mut changed = bytes[..first].to_vec();
        changed[at] ^= 1;
        let taken = Carried::take(&mut changed.into());
        assert!(taken.is_err() || taken.is_ok_and(|entry| entry.follows(&Head::NOTHING).is_err()), "{at}");
    }
}

/// Power goes, or the disk fails or fills up, at every single operation of writing a new log.
#[test]
fn fm_b_a_new_log_is_whole_or_none_whatever_the_disk_does() {
    let (_, source) = new_disk();
    Wal::create(&source, Path::new(DIR), "demo", NODE).expect("creates");
    let mut wal = Wal::open(Arc::clone(&source), Path::new(DIR), small()).expect("opens").0;
    append(&mut wal, 40);
    let head = wal.head();
    let found = all(&mut Entries::open(source, Path::new(DIR)).expect("opens"), head.index);
    let write = |disk: &Arc<dyn Disk>| -> Result<(), NewLogError> {
        let mut log = NewLog::begin(Arc::clone(disk), Path::new("/new"), "new", NODE)?;
        let mut fill = || {
            found.iter().try_for_each(|entry| log.push(entry))?;
            log.snapshot(EventId::new(3), b"state")?;
            log.finish(|_| {})
        };
        match fill() {
            Ok(end) => assert_eq!(end, head),
            Err(error) => {
                log.abandon();
                return Err(error);
            }
        }
        Ok(())
    };
    for fault in [Fault::Crash, Fault::Io, Fault::NoSpace] {
        let mut operation = 1;
        loop {
            let (sim, disk) = new_disk();
            sim.fail_in(operation, fault);
            let written = write(&disk);
            sim.clear_faults();
            if fault == Fault::Crash {
                sim.restart();
            }
            match Wal::open(Arc::clone(&disk), Path::new("/new"), small()) {
                Ok((wal, _)) => assert_eq!(wal.head(), head, "{fault:?} at {operation}"),
                Err(_) => assert!(written.is_err(), "{fault:?} at {operation}"),
            }
            if written.is_ok() {
                break;
            }
            if fault != Fault::Crash {
                write(&disk).unwrap_or_else(|error| panic!("{fault:?} at {operation}: again: {error}"));
            }
            operation += 1;
        }
        assert!(operation > 15, "{fault:?}: only {operation} operations");
    }
}
