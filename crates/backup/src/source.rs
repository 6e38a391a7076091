//! The log that is backed up, while it is written to or not.

use log::{
    Head, Log,
    wal::{Entries, EntriesError},
};
use rt::Disk;
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// A log to back up. Everything here may read from disk: it is called where blocking is allowed.
pub trait Source: Send + Sync + fmt::Debug + 'static {
    /// The end of what is committed: a backup of this moment ends here.
    ///
    /// # Errors
    /// The log cannot be read.
    fn head(&self) -> Result<Head, EntriesError>;

    /// Its entries, from the first.
    ///
    /// # Errors
    /// The log cannot be read.
    fn entries(&self) -> Result<Entries, EntriesError>;
}

/// A directory, read without a handle on the log: of a server that runs or of none. How far it is
/// committed is found out from what lies on disk; see [`Entries::find_committed`].
#[derive(Clone, Debug)]
pub struct Directory {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl Directory {
    /// The log in `dir`.
    pub fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.into() }
    }
}

impl Source for Directory {
    fn head(&self) -> Result<Head, EntriesError> {
        self.entries()?.find_committed()
    }

    fn entries(&self) -> Result<Entries, EntriesError> {
        Entries::open(Arc::clone(&self.disk), &self.dir)
    }
}

/// A log that this process has open, and its directory. Appends never wait for it.
pub struct Live {
    log: Arc<dyn Log>,
    directory: Directory,
}

impl Live {
    /// This log, which lies in `dir`.
    pub fn new(log: Arc<dyn Log>, disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { log, directory: Directory::new(disk, dir) }
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live").field("directory", &self.directory).finish()
    }
}

impl Source for Live {
    fn head(&self) -> Result<Head, EntriesError> {
        Ok(self.log.head())
    }

    fn entries(&self) -> Result<Entries, EntriesError> {
        self.directory.entries()
    }
}
