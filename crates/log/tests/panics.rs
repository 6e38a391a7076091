//! A writer that panics: nobody waits for it in vain, and the process is told to end.

use bytes::Bytes;
use holdfast_log::{AppendError, Batch, Log, WalLog, wal::Options};
use rt::{Disk, DiskError, DiskFile, DiskLock, SimDisk, ThreadSpawner};
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};
use types::{EventId, NodeId};

/// A disk whose writes panic when the test says so, as a bug in the writer would.
#[derive(Debug)]
struct Trap {
    disk: SimDisk,
    sprung: Arc<AtomicBool>,
}

#[derive(Debug)]
struct TrapFile {
    file: Box<dyn DiskFile>,
    sprung: Arc<AtomicBool>,
}

impl Trap {
    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(TrapFile { file, sprung: self.sprung.clone() })
    }
}

impl Disk for Trap {
    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.open(path).map(|file| self.file(file))
    }
    fn open_read(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.open_read(path)
    }
    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.create(path).map(|file| self.file(file))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.remove(path)
    }
    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        self.disk.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.disk.create_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn DiskLock>, DiskError> {
        self.disk.lock(path, holder)
    }
    fn free_space(&self, dir: &Path) -> Result<u64, DiskError> {
        self.disk.free_space(dir)
    }
    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        self.disk.exists(path)
    }
}

impl DiskFile for TrapFile {
    fn size(&self) -> Result<u64, DiskError> {
        self.file.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        self.file.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        assert!(!self.sprung.load(Ordering::SeqCst), "the trap is sprung");
        self.file.write_at(offset, bytes)
    }
    fn allocate(&self, length: u64) -> Result<(), DiskError> {
        self.file.allocate(length)
    }
    fn set_len(&self, length: u64) -> Result<(), DiskError> {
        self.file.set_len(length)
    }
    fn sync_data(&self) -> Result<(), DiskError> {
        self.file.sync_data()
    }
    fn path(&self) -> &Path {
        self.file.path()
    }
}

#[test]
fn a_writer_that_panics_ends_the_process() {
    let sprung = Arc::new(AtomicBool::new(false));
    let disk: Arc<dyn Disk> = Arc::new(Trap { disk: SimDisk::new(1), sprung: sprung.clone() });
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
