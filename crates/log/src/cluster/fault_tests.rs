//! What only shows from inside: who waits for whom when a log is let go.

#![expect(clippy::disallowed_methods, reason = "a test that waits for a real thread, and for real time")]

use super::{
    log::{Borrowed, ClusterLog, Options},
    transport::Alone,
};
use crate::wal::Wal;
use rt::{Disk, SimDisk, ThreadSpawner};
use std::{
    path::Path,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant},
};
use types::NodeId;

const DIR: &str = "/log";
const PATIENCE: Duration = Duration::from_secs(10);

fn open(disk: &SimDisk) -> ClusterLog {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let opened = ClusterLog::open(
        shared,
        Path::new(DIR),
        Options::default(),
        &ThreadSpawner,
        Arc::new(Alone),
        Box::new(|_| {}),
    );
    opened.expect("opens").0
}

fn alone() -> (SimDisk, ClusterLog) {
    let disk = SimDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    Wal::create(&shared, Path::new(DIR), "faults", NodeId::from_u128(1)).expect("creates");
    let log = open(&disk);
    (disk, log)
}

#[allow(clippy::disallowed_methods, reason = "real threads: waited for in real time, bounded")]
fn soon(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends within bounds, or the test fails.
fn ends<T: Send + 'static>(what: &str, act: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let _gone = tell.send(act());
    });
    match told.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(RecvTimeoutError::Timeout) => panic!("{what} does not end"),
        Err(RecvTimeoutError::Disconnected) => panic!("{what} panics"),
    }
}

#[test]
fn a_log_that_consensus_held_for_a_while_is_closed_when_its_last_handle_goes() {
    let (disk, mut log) = alone();
    for _ in 0..5 {
        drop(Borrowed::of(Arc::clone(&log.0)));
        ends("the drop", move || drop(log));
        log = open(&disk);
    }
}

/// As the thread of consensus does when everybody else is gone.
#[test]
fn consensus_that_is_the_last_to_hold_a_log_does_not_wait_for_itself() {
    let (disk, log) = alone();
    let borrowed = Borrowed::of(Arc::clone(&log.0));
    let thread = Arc::clone(&log.0);
    drop(log);
    drop(thread);
    ends("letting go", move || drop(borrowed));
    // Its thread ends by itself, and gives the directory back.
    soon("the directory to be free", || disk.lock(&Path::new(DIR).join("lock"), "a test").is_ok());
}
