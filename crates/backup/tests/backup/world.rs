//! A log in a directory, a store beside it, and what was written.

use bytes::Bytes;
use holdfast_backup::{
    Directory, Done, Key, NewIdentity, Restored, Reuse, Source, Store, To, backup, restore,
};
use log::{
    Batch, Head, Record,
    wal::{Entry, Options, Wal},
};
use rt::{Disk, RealDisk, SystemClock};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};
use tempfile::TempDir;
use types::{EventId, NodeId, Timestamp};

pub const CLUSTER: &str = "the old cluster";

pub fn disk() -> Arc<dyn Disk> {
    Arc::new(RealDisk)
}

pub fn key() -> Key {
    Key::new([7; 32])
}

/// Small segments, so that every log here has several.
pub fn options() -> Options {
    Options { segment_bytes: 32 << 10, reserve_bytes: 4 << 10, recent_bytes: 4 << 10, ..Options::default() }
}

/// An event of this time; the rest does not compress.
pub fn event(time_ms: u64, size: usize) -> Bytes {
    let mut bytes = time_ms.to_le_bytes().to_vec();
    let mut noise = time_ms ^ 0x9E37_79B9_7F4A_7C15;
    while bytes.len() < size {
        noise ^= noise << 13;
        noise ^= noise >> 7;
        noise ^= noise << 17;
        bytes.extend_from_slice(&noise.to_le_bytes());
    }
    bytes.into()
}

pub fn time_of(record: &Record) -> Option<Timestamp> {
    Some(Timestamp::from_ms(u64::from_le_bytes(record.bytes[..8].try_into().expect("eight bytes"))))
}

pub struct World {
    pub tmp: TempDir,
    pub log: PathBuf,
    pub objects: PathBuf,
    pub store: Store,
}

impl World {
    /// An empty log.
    pub fn new() -> Self {
        let tmp = tempfile::tempdir().expect("a directory");
        let (log, objects) = (tmp.path().join("log"), tmp.path().join("store"));
        Wal::create(&disk(), &log, CLUSTER, NodeId::from_u128(1)).expect("a log");
        let store = Store::directory(&objects).expect("a store");
        Self { tmp, log, objects, store }
    }

    pub fn open(&self) -> Wal {
        Wal::open(disk(), &self.log, options()).expect("the log").0
    }

    pub fn source(&self) -> Arc<dyn Source> {
        Arc::new(Directory::new(disk(), &self.log))
    }

    pub async fn backup(&self) -> Done {
        backup(&self.store, &key(), self.source(), &SystemClock, Reuse::Objects).await.expect("a backup")
    }

    pub fn dir(&self, name: &str) -> PathBuf {
        self.tmp.path().join(name)
    }

    pub async fn restore(&self, name: &str, to: To) -> Result<Restored, holdfast_backup::RestoreError> {
        self.restore_into(&self.dir(name), to).await
    }

    pub async fn restore_into(&self, dir: &Path, to: To) -> Result<Restored, holdfast_backup::RestoreError> {
        restore(&self.store, &key(), None, disk(), dir, to, &new_identity(), time_of).await
    }

    /// Every object in the store, as its name in there.
    pub fn stored(&self) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ["objects", "manifests", "log"] {
            let Ok(list) = fs::read_dir(self.objects.join(folder)) else { continue };
            for entry in list {
                let name = entry.expect("an entry").file_name().into_string().expect("a name");
                found.push(format!("{folder}/{name}"));
            }
        }
        found.sort();
        found
    }
}

pub fn new_identity() -> NewIdentity {
    NewIdentity { cluster: "the new cluster".into(), node: NodeId::from_u128(9) }
}

/// Appends batches of one to four events, the time of each being its number in tenths of seconds;
/// gives the head after each.
pub fn append(wal: &mut Wal, batches: u64, size: usize) -> Vec<Head> {
    let mut heads = Vec::new();
    for _ in 0..batches {
        let first = wal.head().event.get() + 1;
        let count = 1 + wal.head().index.get() % 4;
        let events = (first..first + count).map(|id| event(id * 100, size)).collect();
        wal.append_group(&[Entry::Batch(Batch::new(events))], &mut Vec::new()).expect("an append");
        heads.push(wal.head());
    }
    heads
}

pub fn save_snapshot(wal: &Wal, at: EventId) {
    let content = format!("the state at {at}");
    wal.save_snapshot(at, Box::new(move |to| to.write_all(content.as_bytes()))).expect("a snapshot");
}

/// Every event of the log in `dir`.
pub fn events(dir: &Path) -> (Head, Vec<Record>) {
    let (wal, _) = Wal::open(disk(), dir, Options::default()).expect("the log opens");
    let mut all: Vec<Record> = Vec::new();
    loop {
        let page = wal.read(all.last().map_or(EventId::ZERO, |last| last.id), 1000).expect("reads");
        if page.is_empty() {
            let head = wal.head();
            wal.close().expect("closes");
            return (head, all);
        }
        all.extend(page);
    }
}

/// That nothing in `dir` can be taken for a log.
pub fn assert_no_log(dir: &Path) {
    assert!(!dir.join("format").exists(), "{} holds a log", dir.display());
    assert!(Wal::open(disk(), dir, Options::default()).is_err());
}
