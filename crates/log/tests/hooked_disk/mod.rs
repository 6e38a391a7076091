//! A disk in memory that does something first when a file is written or synced: it waits, or it panics.

use rt::{Disk, DiskError, DiskFile, DiskLock, Operation, SimDisk};
use std::{fmt, path::Path, sync::Arc};

/// Is told before each write and sync of a file.
pub type Hook = Arc<dyn Fn(Operation, &Path) + Send + Sync>;

#[derive(Clone)]
pub struct HookedDisk {
    pub disk: SimDisk,
    hook: Hook,
}

struct HookedFile {
    file: Box<dyn DiskFile>,
    hook: Hook,
}

impl HookedDisk {
    pub fn new(disk: SimDisk, hook: impl Fn(Operation, &Path) + Send + Sync + 'static) -> Self {
        Self { disk, hook: Arc::new(hook) }
    }

    fn hooked(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(HookedFile { file, hook: Arc::clone(&self.hook) })
    }
}

impl fmt::Debug for HookedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.disk.fmt(f)
    }
}

impl fmt::Debug for HookedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl Disk for HookedDisk {
    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.open(path).map(|file| self.hooked(file))
    }
    fn open_read(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.open_read(path)
    }
    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.create(path).map(|file| self.hooked(file))
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

impl DiskFile for HookedFile {
    fn size(&self) -> Result<u64, DiskError> {
        self.file.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        self.file.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        (self.hook)(Operation::Write, self.file.path());
        self.file.write_at(offset, bytes)
    }
    fn allocate(&self, length: u64) -> Result<(), DiskError> {
        self.file.allocate(length)
    }
    fn set_len(&self, length: u64) -> Result<(), DiskError> {
        self.file.set_len(length)
    }
    fn sync_data(&self) -> Result<(), DiskError> {
        (self.hook)(Operation::Sync, self.file.path());
        self.file.sync_data()
    }
    fn path(&self) -> &Path {
        self.file.path()
    }
}
