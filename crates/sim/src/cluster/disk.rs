//! The disk of one life of one process: nothing of that life reaches the disk after its end, and it can
//! be slow. It can also lie, to prove that a lie would be noticed.

use super::Mistake;
use rt::{Disk, DiskError, DiskFile, DiskLock, Operation, SimDisk};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

/// A [`SimDisk`] as one life of a process sees it. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct LifeDisk {
    disk: SimDisk,
    life: Arc<Life>,
}

#[derive(Debug)]
struct Life {
    ended: AtomicBool,
    lag_ms: AtomicU64,
    mistake: Option<Mistake>,
}

impl LifeDisk {
    pub(crate) fn new(disk: SimDisk, mistake: Option<Mistake>) -> Self {
        let life = Life { ended: AtomicBool::new(false), lag_ms: AtomicU64::new(0), mistake };
        Self { disk, life: Arc::new(life) }
    }

    /// From now on everything fails.
    pub(crate) fn end(&self) {
        self.life.ended.store(true, Ordering::SeqCst);
    }

    /// Whether the process could not go on, whatever it did: it is over, or the power is.
    pub(crate) fn is_gone(&self) -> bool {
        self.life.ended.load(Ordering::SeqCst) || !self.disk.is_powered()
    }

    /// How long each write takes from now on.
    pub(crate) fn set_lag(&self, lag: Duration) {
        self.life.lag_ms.store(lag.as_millis() as u64, Ordering::SeqCst);
    }

    fn alive(&self, operation: Operation, path: &Path) -> Result<(), DiskError> {
        if self.life.ended.load(Ordering::SeqCst) {
            return Err(DiskError::new(operation, path, io::Error::other("the process has ended")));
        }
        Ok(())
    }

    fn file(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(LifeFile { file, disk: self.clone() })
    }
}

impl Disk for LifeDisk {
    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.alive(Operation::Open, path)?;
        self.disk.open(path).map(|file| self.file(file))
    }

    fn open_read(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.alive(Operation::Open, path)?;
        self.disk.open_read(path).map(|file| self.file(file))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.alive(Operation::Create, path)?;
        self.disk.create(path).map(|file| self.file(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.alive(Operation::Rename, from)?;
        let is_vote = to.file_name().is_some_and(|name| name == "vote");
        if is_vote && self.life.mistake == Some(Mistake::VoteNotStored) {
            return self.disk.remove(from);
        }
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.alive(Operation::Remove, path)?;
        self.disk.remove(path)
    }

    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        self.alive(Operation::List, dir)?;
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.alive(Operation::CreateDir, dir)?;
        self.disk.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.alive(Operation::SyncDir, dir)?;
        self.disk.sync_dir(dir)
    }

    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn DiskLock>, DiskError> {
        self.alive(Operation::Lock, path)?;
        self.disk.lock(path, holder)
    }

    fn free_space(&self, dir: &Path) -> Result<u64, DiskError> {
        self.alive(Operation::Space, dir)?;
        self.disk.free_space(dir)
    }

    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        self.alive(Operation::Open, path)?;
        self.disk.exists(path)
    }

    fn lag(&self) -> Duration {
        Duration::from_millis(self.life.lag_ms.load(Ordering::SeqCst))
    }
}

#[derive(Debug)]
struct LifeFile {
    file: Box<dyn DiskFile>,
    disk: LifeDisk,
}

impl LifeFile {
    fn alive(&self, operation: Operation) -> Result<(), DiskError> {
        self.disk.alive(operation, self.file.path())
    }

    fn is_segment(&self) -> bool {
        let path: PathBuf = self.file.path().into();
        path.extension().is_some_and(|extension| extension == "seg")
    }
}

impl DiskFile for LifeFile {
    fn size(&self) -> Result<u64, DiskError> {
        self.alive(Operation::Read)?;
        self.file.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        self.alive(Operation::Read)?;
        self.file.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.alive(Operation::Write)?;
        self.file.write_at(offset, bytes)
    }

    fn allocate(&self, length: u64) -> Result<(), DiskError> {
        self.alive(Operation::Allocate)?;
        self.file.allocate(length)
    }

    fn set_len(&self, length: u64) -> Result<(), DiskError> {
        self.alive(Operation::SetLength)?;
        self.file.set_len(length)
    }

    fn sync_data(&self) -> Result<(), DiskError> {
        self.alive(Operation::Sync)?;
        if self.disk.life.mistake == Some(Mistake::AckBeforeSync) && self.is_segment() {
            return Ok(());
        }
        self.file.sync_data()
    }

    fn path(&self) -> &Path {
        self.file.path()
    }
}
