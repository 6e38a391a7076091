//! Writing the directory of a log from entries that are known: for a restore.
//!
//! Invariants:
//!
//! - Every entry is checked against the one before it, the chain included, before it is written, and
//!   all of it is read back before the directory counts as a log.
//! - The file `format` comes last, when everything else is durable: without it there is no log, so a
//!   directory that is half written is never taken for one.
//! - It is a log of one machine, whoever the entries say the members were: who opens it as a member founds
//!   a cluster of its own.

use super::{
    carried::Carried,
    entries::{Entries, EntriesError, Identity},
    format::{
        ARCHIVE, COMMITTED, FORMAT, Format, LOCK, MARK, NOTHING, PLAIN, SEGMENT_HEADER, SNAPSHOTS,
        SegmentHeader, UNFINISHED, save_mark, segment_path, snapshot_path,
    },
    frame,
    member::epoch_payload,
    snapshot,
};
use crate::{EntryHeader, Head, Kind, Record, entry};
use rt::{Disk, DiskError, DiskFile, DiskLock};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use types::{EventId, Index, NodeId};

/// A segment that would grow past this is followed by a new one.
const SEGMENT_BYTES: u64 = 64 << 20;
/// So much is gathered before it is written.
const WRITE_BYTES: usize = 1 << 20;
/// What a new file system has of its own accord.
const OF_THE_FILE_SYSTEM: &str = "lost+found";

/// Why a log could not be written.
#[derive(Debug, thiserror::Error)]
pub enum NewLogError {
    /// There is something in the directory.
    #[error(
        "{} is not empty (it has {found}); choose a new directory, or remove what is left of a restore \
         that did not come to its end", dir.display()
    )]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// One of the names in it.
        found: String,
    },
    /// The identity cannot be written down.
    #[error("the identity of a cluster is one line of 1 to 200 characters")]
    Identity,
    /// An entry does not follow the one before it.
    #[error("entry {at} cannot stand there: {why}")]
    Entry {
        /// Its index.
        at: Index,
        /// What is wrong.
        why: String,
    },
    /// What was written does not read back.
    #[error("what was written does not read back")]
    ReadBack(#[source] EntriesError),
    /// What was written reads back, but other than it was given.
    #[error("what was written reads back otherwise: it ends at {found}, not at {wanted}")]
    Differs {
        /// The last entry that was written.
        wanted: Index,
        /// The last entry that is there.
        found: Index,
    },
    /// The disk did not do what was asked.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A log that is being written.
#[derive(Debug)]
pub struct NewLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    format: Format,
    head: Head,
    /// The end of what is synced.
    synced: Index,
    file: Option<Box<dyn DiskFile>>,
    /// Where in the file the buffer belongs.
    offset: u64,
    buffer: Vec<u8>,
    made: Vec<PathBuf>,
    _lock: Box<dyn DiskLock>,
}

impl NewLog {
    /// Begins a log in a directory that is empty or not there.
    ///
    /// # Errors
    /// It is not empty, or the disk failed.
    pub fn begin(disk: Arc<dyn Disk>, dir: &Path, cluster: &str, node: NodeId) -> Result<Self, NewLogError> {
        let format = Format { version: PLAIN, cluster: cluster.into(), node, origin: None, recovering: None };
        if !format.is_writable() {
            return Err(NewLogError::Identity);
        }
        disk.create_dir(dir)?;
        for found in disk.list(dir)?.into_iter().filter(|name| name != OF_THE_FILE_SYSTEM) {
            // What `abandon` leaves behind.
            let hollow = [ARCHIVE, SNAPSHOTS].contains(&&*found) && disk.list(&dir.join(&found))?.is_empty();
            if !hollow {
                return Err(NewLogError::NotEmpty { dir: dir.into(), found });
            }
        }
        let lock = disk.lock(&dir.join(LOCK), "restoring the log\n")?;
        for part in [ARCHIVE, SNAPSHOTS] {
            disk.create_dir(&dir.join(part))?;
        }
        Ok(Self {
            disk,
            dir: dir.into(),
            format,
            head: NOTHING,
            synced: Index::ZERO,
            file: None,
            offset: 0,
            buffer: Vec::with_capacity(2 * WRITE_BYTES),
            made: Vec::new(),
            _lock: lock,
        })
    }

    /// The end of what was given so far.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Adds the next entry. After an error, [`Self::abandon`] is all that is left.
    ///
    /// # Errors
    /// It does not follow the one before it, or the disk failed.
    pub fn push(&mut self, carried: &Carried) -> Result<(), NewLogError> {
        let head = carried
            .follows(&self.head)
            .map_err(|why| NewLogError::Entry { at: self.head.index.next(), why })?;
        let used = self.offset + self.buffer.len() as u64;
        let size = frame::padded(entry::FRAME + carried.payload.len()) as u64;
        if self.file.is_none() || (used > SEGMENT_HEADER as u64 && used + size > SEGMENT_BYTES) {
            self.rotate()?;
        }
        let mut header = carried.header;
        frame::encode(&mut self.buffer, &mut header, self.synced, &self.head.chain, |out| {
            out.extend_from_slice(&carried.payload);
        });
        assert!(header.chain == head.chain, "`follows` has seen that the chain is right");
        self.head = head;
        if self.buffer.len() >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    /// Adds an entry that opens the next epoch, in which this log's node sequences: in a term of its own,
    /// since the last one was led by another.
    ///
    /// # Errors
    /// The disk failed.
    pub fn open_epoch(&mut self, reason: &str) -> Result<(), NewLogError> {
        let (before, node) = (self.head, self.format.node);
        let payload = epoch_payload(node, reason.as_bytes());
        let mut header = EntryHeader {
            kind: Kind::Epoch,
            index: before.index.next(),
            term: before.term.plus(1),
            leader: node,
            epoch: before.epoch.plus(1),
            first: before.event.next(),
            count: 0,
            chain: [0; 32],
        };
        header.chain = entry::chain(&before.chain, &header.fields(), &payload);
        self.push(&Carried { header, payload })
    }

    fn rotate(&mut self) -> Result<(), NewLogError> {
        self.sync()?;
        let path = segment_path(&self.dir, self.head.index.next());
        self.file = Some(self.disk.create(&path)?);
        self.made.push(path);
        let header = SegmentHeader { log_id: self.format.log_id(), before: self.head };
        self.offset = 0;
        self.buffer.extend_from_slice(&header.encode());
        Ok(())
    }

    fn write(&mut self) -> Result<(), NewLogError> {
        if let Some(file) = &self.file {
            file.write_at(self.offset, &self.buffer)?;
        }
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), NewLogError> {
        self.write()?;
        if let Some(file) = &self.file {
            file.sync_data()?;
        }
        self.synced = self.head.index;
        Ok(())
    }

    /// Adds a snapshot of an event that is there already.
    ///
    /// # Errors
    /// The disk failed.
    pub fn snapshot(&mut self, at: EventId, content: &[u8]) -> Result<(), NewLogError> {
        assert!(at <= self.head.event, "a snapshot reflects events that are there");
        let path = snapshot_path(&self.dir, at);
        let file = self.disk.create(&path)?;
        self.made.push(path);
        file.write_at(0, &snapshot::encode(&self.format.log_id(), at, content))?;
        Ok(file.sync_data()?)
    }

    /// Makes all of it durable, reads it back from disk, giving every event to `each`, and only then makes
    /// it a log.
    ///
    /// # Errors
    /// It does not read back as it was given, or the disk failed: then it is no log, and
    /// [`Self::abandon`] takes it away.
    pub fn finish(&mut self, mut each: impl FnMut(&Record)) -> Result<Head, NewLogError> {
        if self.file.is_none() {
            self.rotate()?;
        }
        self.sync()?;
        let (disk, dir) = (Arc::clone(&self.disk), self.dir.clone());
        let Format { version, cluster, node, .. } = self.format.clone();
        let identity = Identity { cluster, node, version };
        let mut written = Entries::of(Arc::clone(&disk), &dir, self.format.log_id(), identity);
        while let Some(entry) = written.next(self.head.index).map_err(NewLogError::ReadBack)? {
            let records = entry.records().expect("`next` has seen that they add up");
            records.iter().for_each(&mut each);
        }
        if written.head() != self.head {
            return Err(NewLogError::Differs { wanted: self.head.index, found: written.head().index });
        }
        save_mark(&*disk, &dir, &self.head)?;
        for part in [dir.join(ARCHIVE), dir.join(SNAPSHOTS), dir.clone()] {
            disk.sync_dir(&part)?;
        }
        rt::replace_file(&*disk, &dir.join(FORMAT), self.format.encode().as_bytes())?;
        Ok(self.head)
    }

    /// Takes away what was written, as far as the disk lets it. The directory stays.
    pub fn abandon(self) {
        let disk = &*self.disk;
        // `format` first: from then on it is no log.
        let small = [FORMAT, MARK, COMMITTED, LOCK].map(|name| self.dir.join(name));
        let unfinished = [FORMAT, MARK, COMMITTED].map(|name| self.dir.join(format!("{name}{UNFINISHED}")));
        let all = small[..1].iter().chain(&self.made).chain(&small[1..]).chain(&unfinished);
        for path in all {
            if let Err(error) = disk.remove(path)
                && !error.is_not_found()
            {
                tracing::warn!(%error, "cannot take away what is left of a log that was not finished");
            }
        }
    }
}
