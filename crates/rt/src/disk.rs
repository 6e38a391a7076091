//! The door to the disk: what storage code may do, and nothing else.
//!
//! The contract is the weakest that real file systems keep:
//!
//! - What was written is durable only after [`DiskFile::sync_data`] returned. Until then a crash
//!   may keep any part of it, in any order.
//! - A new, renamed or removed name is durable only after [`Disk::sync_dir`] on its directory.
//! - After a failed sync nothing is known about the file; the caller must stop using it.
//! - A rename within one directory is atomic: the new name is the old file or the new one.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// What was asked of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opening an existing file.
    Open,
    /// Creating a new file.
    Create,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Reserving space.
    Allocate,
    /// Setting the length.
    SetLength,
    /// Making content durable.
    Sync,
    /// Renaming.
    Rename,
    /// Removing.
    Remove,
    /// Listing a directory.
    List,
    /// Creating a directory.
    CreateDir,
    /// Making names durable.
    SyncDir,
    /// Taking the exclusive lock.
    Lock,
    /// Asking for free space.
    Space,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Allocate => "allocate space for",
            Self::SetLength => "set the length of",
            Self::Sync => "sync",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::List => "list",
            Self::CreateDir => "create the directory",
            Self::SyncDir => "sync the directory",
            Self::Lock => "lock",
            Self::Space => "ask for the free space of",
        })
    }
}

/// The disk did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct DiskError {
    /// What was asked.
    pub operation: Operation,
    /// Of which file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl DiskError {
    /// An error of this operation on this path.
    pub fn new(operation: Operation, path: &Path, source: io::Error) -> Self {
        Self { operation, path: path.to_path_buf(), source }
    }

    /// Whether there is no such file.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether space or quota ran out.
    pub fn is_no_space(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether another process holds the lock.
    pub fn is_locked(&self) -> bool {
        self.operation == Operation::Lock && self.source.kind() == io::ErrorKind::WouldBlock
    }
}

/// A file system as storage code sees it. Paths are absolute or relative to the process.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Opens an existing file for reading and writing.
    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError>;

    /// Opens an existing file for reading only.
    fn open_read(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError>;

    /// Creates a file that must not exist yet, for reading and writing.
    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError>;

    /// Gives a file another name in the same directory, replacing what has that name.
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> Result<(), DiskError>;

    /// The names of the files and directories in a directory, sorted.
    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError>;

    /// Creates a directory and those above it; fine if it is there.
    fn create_dir(&self, dir: &Path) -> Result<(), DiskError>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError>;

    /// Takes the exclusive lock on this file, creating it if need be, and writes `holder` into it
    /// for people to read. Held until the value is dropped or the process dies. Does not wait: see
    /// [`DiskError::is_locked`].
    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn DiskLock>, DiskError>;

    /// Bytes that can still be written to the file system of this directory.
    fn free_space(&self, dir: &Path) -> Result<u64, DiskError>;

    /// The content of a whole file.
    fn read(&self, path: &Path) -> Result<Vec<u8>, DiskError> {
        let file = self.open_read(path)?;
        let size = file.size()?;
        let mut content = vec![0; usize::try_from(size).expect("a file fits the address space")];
        let read = file.read_at(0, &mut content)?;
        content.truncate(read);
        Ok(content)
    }

    /// Whether there is a file or directory of this name.
    fn exists(&self, path: &Path) -> Result<bool, DiskError>;

    /// How long whoever writes has to wait before the disk does more. A real one makes its callers wait
    /// by itself; a simulated one cannot, because all its callers share one thread.
    fn lag(&self) -> Duration {
        Duration::ZERO
    }
}

/// An open file. Closed when dropped, which makes nothing durable.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Its length.
    fn size(&self) -> Result<u64, DiskError>;

    /// Reads from `offset` until the buffer is full or the file ends; says how much.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError>;

    /// Writes all of it at `offset`.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Reserves space so that the file is at least this long and writing within it needs no
    /// metadata. What was not written reads as zeroes.
    fn allocate(&self, length: u64) -> Result<(), DiskError>;

    /// Cuts or extends the file.
    fn set_len(&self, length: u64) -> Result<(), DiskError>;

    /// Makes what was written durable. After an error, the file must not be trusted again.
    fn sync_data(&self) -> Result<(), DiskError>;

    /// The file's path, for messages.
    fn path(&self) -> &Path;
}

/// An exclusive lock, held until dropped.
pub trait DiskLock: Send + Sync + fmt::Debug {}
