//! A writer that panics: nobody waits for it in vain, and the process is told to end.

mod hooked_disk;

use bytes::Bytes;
use holdfast_log::{AppendError, Batch, Log, WalLog, wal::Options};
use hooked_disk::HookedDisk;
use rt::{Disk, DiskError, Operation, SimDisk, ThreadSpawner};
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use types::{EventId, NodeId};

#[test]
fn a_writer_that_panics_ends_the_process() {
    let sprung = Arc::new(AtomicBool::new(false));
    let trap = Arc::clone(&sprung);
    // As a bug in the writer would.
    let disk: Arc<dyn Disk> = Arc::new(HookedDisk::new(SimDisk::new(1), move |operation, _| {
        assert!(operation != Operation::Write || !trap.load(Ordering::SeqCst), "the trap is sprung");
    }));
    let deaths: Arc<Mutex<Vec<String>>> = Arc::default();
    let told = deaths.clone();
    let fatal = Box::new(move |error: &DiskError| told.lock().expect("no panic").push(error.to_string()));
    let (dir, node) = (Path::new("/log"), NodeId::from_u128(1));
    let opened = WalLog::open_or_create(disk, dir, "panics", node, Options::default(), &ThreadSpawner, fatal);
    let log = opened.expect("opens").0;
    let append = || log.append(log.head().event, Batch::new(vec![Bytes::from_static(b"x")])).wait();
    append().expect("all is well");
    sprung.store(true, Ordering::SeqCst);
    assert_eq!(append(), Err(AppendError::Unknown), "it may have been written");
    log.close();
    let deaths = deaths.lock().expect("no panic");
    assert_eq!(deaths.len(), 1, "{deaths:?}");
    assert!(deaths[0].contains("panicked"), "{deaths:?}");
    assert_eq!(append(), Err(AppendError::Stopped));
    assert_eq!(log.read(EventId::ZERO, 10).expect("reads go on").len(), 1);
}
