//! Every log passes the same suite.

use holdfast_log::{Batch, Log, MemoryLog, Record, WalLog, conformance, wal::Options};
use rt::{RealDisk, SimDisk, ThreadSpawner};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use types::{EventId, NodeId};

fn wal(disk: Arc<dyn rt::Disk>, dir: &Path, options: Options) -> WalLog {
    let fatal = Box::new(|error: &rt::DiskError| panic!("{error}"));
    let node = NodeId::from_u128(1);
    WalLog::open_or_create(disk, dir, "conformance", node, options, &ThreadSpawner, fatal).expect("opens").0
}

/// Everything small, so that segments rotate, nothing is served from memory, and much is archived.
fn tight() -> Options {
    Options { segment_bytes: 4096, reserve_bytes: 1024, recent_bytes: 0, ..Options::default() }
}

#[test]
fn memory_log() {
    conformance::all(&|| Arc::new(MemoryLog::new()));
}

#[test]
fn wal_log_on_a_real_disk() {
    let dir = tempfile::tempdir().expect("a directory");
    let count = AtomicU64::new(0);
    conformance::all(&|| {
        let dir = dir.path().join(count.fetch_add(1, Ordering::Relaxed).to_string());
        Arc::new(wal(Arc::new(RealDisk), &dir, Options { reserve_bytes: 1 << 16, ..Options::default() }))
            as Arc<dyn Log>
    });
}

#[test]
fn wal_log_with_everything_small() {
    conformance::all(&|| Arc::new(wal(Arc::new(SimDisk::new(1)), Path::new("/log"), tight())));
}

/// The same history from memory, from segments and from the archive, across restarts.
#[test]
fn history_is_the_same_from_wherever_it_is_read() {
    let disk = SimDisk::new(2);
    let open = |options| wal(Arc::new(disk.clone()), Path::new("/log"), options);
    let log = open(Options::default());
    conformance::reads_large_histories(&log);
    let head = log.head();
    let read = |log: &WalLog| {
        let mut all: Vec<Record> = Vec::new();
        loop {
            let more = log.read(all.last().map_or(EventId::ZERO, |record| record.id), 100).expect("reads");
            if more.is_empty() {
                return all;
            }
            all.extend(more);
        }
    };
    let from_memory = read(&log);
    drop(log);
    let log = open(tight());
    assert_eq!(log.head(), head);
    assert_eq!(read(&log), from_memory);
    // Two snapshots at the head, and everything but the last segment is history.
    for at in [head.event.get(), head.event.get() + 1] {
        let next = log.append(log.head().event, Batch::new(vec!["more".into()]));
        next.wait().expect("is appended");
        log.save_snapshot(EventId::new(at), Box::new(|out| out.write_all(b"state"))).expect("is saved");
    }
    let archived = disk.files().iter().filter(|(path, _)| path.starts_with("/log/archive")).count();
    assert!(archived > 0, "{:?}", disk.files());
    assert_eq!(read(&log)[..from_memory.len()], from_memory[..]);
    drop(log);
    let log = open(tight());
    assert_eq!(log.read(EventId::ZERO, usize::MAX).expect("reads")[..from_memory.len()], from_memory[..]);
}
