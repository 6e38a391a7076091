//! Reading a log directory entry by entry while somebody else may be writing to it: for backups.
//!
//! Nothing here writes, and nothing waits for the writer. What makes that safe:
//!
//! - Only entries up to a head that is known to be committed are read. Nobody changes those.
//! - A segment that is sealed meanwhile is in the archive before its plain file goes, and an open
//!   file stays readable.
//! - Every entry is checked against the one before it, the chain included, so that whatever else may
//!   go wrong is noticed.

use super::{
    archive::{self, Archived},
    carried::Carried,
    format::{
        CommittedNote, Inventory, NOTHING, PLAIN, SEGMENT_HEADER, SegmentHeader, archive_path, segment_path,
        snapshot_path,
    },
    frame::Check,
    inspect::Problem,
    read::{Reader, Source, Step},
    recover::{self, OpenError},
    snapshot,
    store::Segment,
};
use crate::{Head, ReadError};
use rt::{Disk, DiskError, DiskFile};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use types::{EventId, Index, NodeId};

/// Whose log a directory holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster, as given when the log was created.
    pub cluster: String,
    /// The node.
    pub node: NodeId,
    /// The version of the directory's layout.
    pub version: u32,
}

/// Why entries could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EntriesError {
    /// A file is not as it was written.
    #[error("{0}")]
    Damaged(Problem),
    /// Entries are not there.
    #[error("{} lacks its entries from {from} on: a segment is missing", dir.display())]
    Missing {
        /// The directory.
        dir: PathBuf,
        /// The first entry that is missing.
        from: Index,
    },
    /// The log has another history than the one asked for.
    #[error("{} has another history: its entry {at} is not the one that is known from before", dir.display())]
    Diverged {
        /// The directory.
        dir: PathBuf,
        /// The entry that differs.
        at: Index,
    },
    /// The directory is none of a log, or of one that this program does not know.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk did not do what was asked.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// A place in a log directory, and the way on from there.
#[derive(Debug)]
pub struct Entries {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    log_id: [u8; 16],
    identity: Identity,
    head: Head,
    open: Option<Open>,
    /// Everything up to here was committed when the open segment was last looked at.
    known: Index,
}

/// The segment that is being read.
#[derive(Debug)]
struct Open {
    path: PathBuf,
    source: Source,
    reader: Reader,
}

impl Open {
    /// Reads from disk again what stands from `offset` on.
    fn look_again(&mut self, offset: u64) {
        self.reader = Reader::new(self.source.clone(), offset, u64::MAX, Check::Full);
    }
}

impl Entries {
    /// Stands before the first entry of the log in `dir`.
    ///
    /// # Errors
    /// There is no log, or none that this program knows.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, EntriesError> {
        if !disk.exists(&dir.join(super::format::FORMAT))? {
            return Err(OpenError::NotCreated { dir: dir.into() }.into());
        }
        let format = recover::read_format(&*disk, dir)?;
        let log_id = format.log_id();
        let identity = Identity { cluster: format.cluster, node: format.node, version: format.version };
        Ok(Self { disk, dir: dir.into(), log_id, identity, head: NOTHING, open: None, known: Index::ZERO })
    }

    /// As [`Self::open`], of a directory that has no file `format` yet.
    pub(super) fn of(disk: Arc<dyn Disk>, dir: &Path, log_id: [u8; 16], identity: Identity) -> Self {
        Self { disk, dir: dir.into(), log_id, identity, head: NOTHING, open: None, known: Index::ZERO }
    }

    /// Whose log it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The last entry that was given; at first, [`Head::NOTHING`].
    pub fn head(&self) -> Head {
        self.head
    }

    /// Goes on after the entry `to.index`, and checks that the log has the same history up to it.
    ///
    /// # Errors
    /// [`EntriesError::Diverged`] if it has not; or it cannot be read.
    pub fn seek(&mut self, to: &Head) -> Result<(), EntriesError> {
        (self.head, self.open) = (NOTHING, None);
        if to.index == Index::ZERO {
            return Ok(());
        }
        let found = Inventory::take(&*self.disk, &self.dir)?;
        let firsts = found.archived.iter().chain(&found.segments);
        let first = firsts.filter(|first| **first <= to.index).max().copied();
        let first = first.ok_or(EntriesError::Missing { dir: self.dir.clone(), from: Index::new(1) })?;
        self.head = self.enter(first)?;
        while self.next(to.index)?.is_some() {}
        if self.head != *to {
            return Err(EntriesError::Diverged { dir: self.dir.clone(), at: to.index });
        }
        Ok(())
    }

    /// The next entry, checked against the one before it; `None` after the entry `until`. The caller
    /// knows that everything up to there is committed.
    ///
    /// # Errors
    /// It is not there, or not as it was written.
    pub fn next(&mut self, until: Index) -> Result<Option<Carried>, EntriesError> {
        if self.head.index >= until {
            return Ok(None);
        }
        if until > self.known {
            // What stands in memory behind the entries known so far may have been cut since, and
            // other entries committed in its place. They are in the same file: the segment of a
            // committed entry stays.
            self.known = until;
            if let Some(open) = &mut self.open {
                open.look_again(open.reader.offset());
            }
        }
        // A read beside the writer may have seen a record half.
        let mut again = true;
        loop {
            let Some(open) = &mut self.open else {
                let before = self.enter(self.head.index.next())?;
                if before != self.head {
                    let path = &self.open.as_ref().expect("it was just entered").path;
                    return Err(problem(path, 0, "it does not chain to the segment before it"));
                }
                again = false;
                continue;
            };
            match open.reader.next()? {
                Step::Frame(offset, frame) => {
                    if let Err(why) = frame.follows(&self.head, Check::Full) {
                        return Err(problem(&open.path, offset, why));
                    }
                    self.head = frame.head();
                    return Ok(Some(Carried { header: frame.header, payload: frame.payload }));
                }
                Step::End(offset) | Step::Bad(offset, _) if again => {
                    open.look_again(offset);
                    again = false;
                }
                Step::End(_) => self.open = None,
                Step::Bad(offset, why) => return Err(problem(&open.path, offset, why)),
            }
        }
    }

    /// Opens the segment that begins with this entry; gives the head before it.
    fn enter(&mut self, first: Index) -> Result<Head, EntriesError> {
        let path = segment_path(&self.dir, first);
        match self.disk.open_read(&path) {
            Ok(file) => return self.enter_plain(path, file.into()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
        let path = archive_path(&self.dir, first);
        let archived = match Archived::read(&*self.disk, &path) {
            Ok(archived) => archived.map_err(|why| problem(&path, 0, why))?,
            Err(error) if error.is_not_found() => {
                return Err(EntriesError::Missing { dir: self.dir.clone(), from: first });
            }
            Err(error) => return Err(error.into()),
        };
        self.check_log(&path, &archived.log_id)?;
        let plain = archive::unpack(&*self.disk, &archived).map_err(|error| match error {
            ReadError::Disk(error) => EntriesError::Disk(error),
            error => problem(&path, 0, error.to_string()),
        })?;
        self.begin(path, Source::Memory(plain));
        Ok(archived.before)
    }

    fn enter_plain(&mut self, path: PathBuf, file: Arc<dyn DiskFile>) -> Result<Head, EntriesError> {
        let mut bytes = [0; SEGMENT_HEADER];
        let read = file.read_at(0, &mut bytes)?;
        let header = SegmentHeader::decode(&bytes[..read]).map_err(|why| problem(&path, 0, why))?;
        self.check_log(&path, &header.log_id)?;
        self.begin(path, Source::File(file));
        Ok(header.before)
    }

    fn check_log(&self, path: &Path, found: &[u8; 16]) -> Result<(), EntriesError> {
        let ours = *found == self.log_id;
        if ours { Ok(()) } else { Err(problem(path, 0, "it belongs to another log")) }
    }

    fn begin(&mut self, path: PathBuf, source: Source) {
        let reader = Reader::new(source.clone(), SEGMENT_HEADER as u64, u64::MAX, Check::Full);
        self.open = Some(Open { path, source, reader });
    }

    /// How far the log is certainly committed, by what lies on disk alone; for whoever has no handle
    /// on it.
    ///
    /// A log of one machine that no process has open: to its end. One that is open: to what its records
    /// show to have been durable, which leaves out the last write. A member's log: to what it has noted
    /// as committed, which may lag; ask the running member if that matters.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn find_committed(&self) -> Result<Head, EntriesError> {
        if self.identity.version > PLAIN {
            let found = Inventory::take(&*self.disk, &self.dir)?;
            let noted = CommittedNote::load(&*self.disk, &self.dir)?.map(|note| note.head);
            let sealed = self.last_sealed(&found)?;
            return Ok(noted.into_iter().chain([sealed]).max_by_key(|head| head.index).unwrap_or(NOTHING));
        }
        // While it is held, no writer can come. Where it cannot be had, somebody may be writing.
        let alone = recover::lock(&*self.disk, &self.dir).ok();
        let found = Inventory::take(&*self.disk, &self.dir)?;
        let Some(first) = found.segments.last() else { return self.last_sealed(&found) };
        let path = segment_path(&self.dir, *first);
        let file: Arc<dyn DiskFile> = match self.disk.open_read(&path) {
            Ok(file) => file.into(),
            // Sealed in this moment: so there is a newer one.
            Err(error) if error.is_not_found() => {
                drop(alone);
                return self.find_committed();
            }
            Err(error) => return Err(error.into()),
        };
        let mut bytes = [0; SEGMENT_HEADER];
        let read = file.read_at(0, &mut bytes)?;
        let header = SegmentHeader::decode(&bytes[..read]).map_err(|why| problem(&path, 0, why))?;
        let mut segment = Segment::new(header.before, path, file);
        if alone.is_some() {
            let walked = recover::go_through(&mut segment, Check::Full)?;
            recover::judge_tail(&segment, walked.stop)?;
            return Ok(segment.end);
        }
        witnessed(&segment)
    }

    /// The end of the archive.
    fn last_sealed(&self, found: &Inventory) -> Result<Head, EntriesError> {
        let Some(last) = found.archived.last() else { return Ok(NOTHING) };
        let path = archive_path(&self.dir, *last);
        let archived = Archived::read(&*self.disk, &path)?.map_err(|why| problem(&path, 0, why))?;
        Ok(archived.end)
    }

    /// The newest good snapshot of an event up to `last`, with its content.
    ///
    /// # Errors
    /// The disk failed. A snapshot that is damaged, or is gone meanwhile, is passed over: it is only a
    /// shortcut.
    pub fn snapshot(&self, last: EventId) -> Result<Option<(EventId, Vec<u8>)>, EntriesError> {
        let found = Inventory::take(&*self.disk, &self.dir)?.snapshots;
        for at in found.into_iter().rev().filter(|at| *at <= last) {
            let path = snapshot_path(&self.dir, at);
            let bytes = match self.disk.read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            match snapshot::decode(&bytes, &self.log_id, at) {
                Ok(content) => return Ok(Some((at, content.to_vec()))),
                Err(why) => tracing::warn!(snapshot = %path.display(), why, "a snapshot is damaged"),
            }
        }
        Ok(None)
    }
}

/// The end of what the records of the last segment show to have been durable.
fn witnessed(segment: &Segment) -> Result<Head, EntriesError> {
    let source = Source::File(Arc::clone(&segment.file));
    let mut reader = Reader::new(source, SEGMENT_HEADER as u64, u64::MAX, Check::Full);
    // A segment is begun when everything before it is durable.
    let (mut durable, mut head) = (segment.before, segment.before);
    let mut waiting = std::collections::VecDeque::new();
    while let Step::Frame(offset, frame) = reader.next()? {
        frame.follows(&head, Check::Full).map_err(|why| problem(&segment.path, offset, why))?;
        head = frame.head();
        while let Some(next) = waiting.pop_front_if(|next: &mut Head| next.index <= frame.synced) {
            durable = next;
        }
        waiting.push_back(head);
    }
    Ok(durable)
}

fn problem(path: &Path, offset: u64, what: impl Into<String>) -> EntriesError {
    EntriesError::Damaged(Problem { path: path.into(), offset, what: what.into() })
}
