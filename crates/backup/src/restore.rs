//! Making a log from a backup and what was archived since, up to an event or a time; and the drill that
//! proves that it can be done.
//!
//! Invariants:
//!
//! - Nothing is written over: the directory must be empty.
//! - The new log has another identity. So members and data planes of the old one notice, and files of
//!   the two cannot be mixed up. Its last entry opens an epoch in the name of its own node, and no
//!   member of the old cluster is one of it.
//! - Every entry is checked on its way in, and all of them are read back from disk, before the directory
//!   counts as a log.

use crate::{
    archive::Trail,
    key::Key,
    manifest::{Id, Manifest},
    part::{Part, Walk},
    store::{ObjectError, Store},
    verify::{self, VerifyError},
    write::Sum,
};
use log::{
    Head, ReadError, Record,
    wal::{NewLog, NewLogError, OpenError, Options, Wal},
};
use ring::digest;
use rt::{Clock, Disk, DiskError};
use std::{fmt, io, path::Path, path::PathBuf, sync::Arc};
use types::{ByteSize, DurationMs, EventId, NodeId, Timestamp, limits};

/// How far a restore goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// As far as there is something.
    Last,
    /// Up to this event; if a batch holds it and later ones, up to the batch before.
    Event(EventId),
    /// Up to the last batch before the first with an event later than this.
    Time(Timestamp),
}

/// Why nothing was restored. The directory holds no log, and is empty again if the disk let it.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup cannot be read.
    #[error(transparent)]
    Backup(#[from] VerifyError),
    /// The backup, or what was archived since, cannot be read further than this.
    #[error(
        "everything up to event {reached} can be restored, by asking for that event; what comes after cannot be read"
    )]
    Broken {
        /// The last event before what cannot be read.
        reached: EventId,
        /// What is wrong there.
        #[source]
        source: ObjectError,
    },
    /// There is no such event.
    #[error("asked for event {asked}, but the backup and what was archived since end at event {ends}")]
    Beyond {
        /// The event.
        asked: EventId,
        /// The last there is.
        ends: EventId,
    },
    /// The new log would be taken for the old one.
    #[error(
        "the restored log must not be called {cluster} again: members of the old one would take it for theirs"
    )]
    SameCluster {
        /// The identity of the old one.
        cluster: String,
    },
    /// The directory cannot be used, or not written.
    #[error(transparent)]
    New(#[from] NewLogError),
    /// What was written is not what was read.
    #[error(
        "what was written reads back otherwise, though every entry chains; the memory or the disk of this machine is at fault"
    )]
    Differs,
    /// What was written does not open as a log.
    #[error("what was restored does not open as a log")]
    Open(#[from] OpenError),
    /// What was restored does not read.
    #[error("what was restored cannot be read")]
    Read(#[from] ReadError),
    /// The directory for the drill cannot be made or removed.
    #[error("cannot use {} for a drill", dir.display())]
    Scratch {
        /// It.
        dir: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is not enough space for a drill.
    #[error(
        "{} has {free} free, and a drill leaves {}: give it another directory", dir.display(), limits::DRILL_LEAVES
    )]
    NoRoom {
        /// Where it restores to.
        dir: PathBuf,
        /// What is left there.
        free: ByteSize,
    },
    /// Another drill runs there, or the disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl From<ObjectError> for RestoreError {
    fn from(error: ObjectError) -> Self {
        Self::Backup(error.into())
    }
}

/// A digest over events in their order, each with its number and epoch: equal only if all of them are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Makes a [`Fingerprint`].
#[derive(Clone)]
pub struct Fingerprinter(digest::Context);

impl fmt::Debug for Fingerprinter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprinter")
    }
}

impl Default for Fingerprinter {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Fingerprinter {
    /// Takes the next event.
    pub fn add(&mut self, record: &Record) {
        self.0.update(&record.id.get().to_le_bytes());
        self.0.update(&record.epoch.get().to_le_bytes());
        self.0.update(&(record.bytes.len() as u64).to_le_bytes());
        self.0.update(&record.bytes);
    }

    /// Of everything so far.
    pub fn finish(self) -> Fingerprint {
        Fingerprint(self.0.finish().as_ref().try_into().expect("such a digest has 32 bytes"))
    }
}

/// What the restored log is called.
#[derive(Clone, Debug)]
pub struct NewIdentity {
    /// The cluster: another than the old one.
    pub cluster: String,
    /// The node whose log it is.
    pub node: NodeId,
}

/// A log that was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The backup it began with.
    pub from: Id,
    /// The cluster that the backup is of.
    pub of: String,
    /// Where what was restored ends. The chain is that of the old log at this entry.
    pub head: Head,
    /// Where the log ends: with one entry more, which opens the next epoch in the name of the new node.
    pub end: Head,
    /// The last event of the batch that the asked-for event is inside of, if it is: then the log ends
    /// before that batch.
    pub inside_batch_to: Option<EventId>,
    /// The event of the snapshot that was restored with it.
    pub snapshot: Option<EventId>,
    /// Over all its events, as read back from disk.
    pub fingerprint: Fingerprint,
    /// What was read from the store.
    pub read: Sum,
}

/// Makes a log in `dir`, which is empty or not there, from a backup (the newest, if none is named) and
/// what was archived since. `time_of` says when an event was, if that can be known.
///
/// # Errors
/// See [`RestoreError`].
#[expect(clippy::too_many_arguments, reason = "each is a decision of the operator's")]
pub async fn restore(
    store: &Store,
    key: &Key,
    id: Option<Id>,
    disk: Arc<dyn Disk>,
    dir: &Path,
    to: To,
    identity: &NewIdentity,
    time_of: impl Fn(&Record) -> Option<Timestamp>,
) -> Result<Restored, RestoreError> {
    let all = Room { disk, dir, leaves: ByteSize::default() };
    restore_into(store, key, id, all, to, identity, time_of).await
}

/// Where a log is restored to.
struct Room<'a> {
    disk: Arc<dyn Disk>,
    dir: &'a Path,
    /// Of the space there, this much is not used.
    leaves: ByteSize,
}

impl Room<'_> {
    fn takes(&self, bytes: usize) -> Result<(), RestoreError> {
        if self.leaves == ByteSize::default() {
            return Ok(());
        }
        let free = self.disk.free_space(self.dir)?;
        if free >= self.leaves.bytes() + bytes as u64 {
            return Ok(());
        }
        Err(RestoreError::NoRoom { dir: self.dir.into(), free: ByteSize::from_bytes(free) })
    }
}

async fn restore_into(
    store: &Store,
    key: &Key,
    id: Option<Id>,
    room: Room<'_>,
    to: To,
    identity: &NewIdentity,
    time_of: impl Fn(&Record) -> Option<Timestamp>,
) -> Result<Restored, RestoreError> {
    let manifest = verify::choose(store, key, id).await?;
    let NewIdentity { cluster, node } = identity.clone();
    if cluster == manifest.cluster {
        return Err(RestoreError::SameCluster { cluster });
    }
    let log = NewLog::begin(Arc::clone(&room.disk), room.dir, &cluster, node)?;
    let mut filling = Filling {
        store,
        key,
        manifest: &manifest,
        room: &room,
        log,
        to,
        time_of,
        fingerprint: Fingerprinter::default(),
        inside_batch_to: None,
        read: Sum::default(),
    };
    let filled = match filling.fill().await {
        Ok(snapshot) => {
            let head = filling.log.head();
            filling.finish().map(|fingerprint| (head, snapshot, fingerprint))
        }
        Err(error) => Err(error),
    };
    let Filling { log, inside_batch_to, read, .. } = filling;
    let end = log.head();
    let (head, snapshot, fingerprint) = match filled {
        Ok(filled) => filled,
        Err(error) => {
            log.abandon();
            return Err(error);
        }
    };
    drop(log);
    let (wal, recovered) = Wal::open(room.disk, room.dir, Options::default())?;
    assert!(recovered.head == end, "what was read back ends where it was written to");
    wal.close()?;
    let (from, of) = (manifest.id, manifest.cluster);
    Ok(Restored { from, of, head, end, inside_batch_to, snapshot, fingerprint, read })
}

/// A log that is being filled.
struct Filling<'a, F> {
    store: &'a Store,
    key: &'a Key,
    manifest: &'a Manifest,
    room: &'a Room<'a>,
    log: NewLog,
    to: To,
    time_of: F,
    fingerprint: Fingerprinter,
    inside_batch_to: Option<EventId>,
    read: Sum,
}

impl<F: Fn(&Record) -> Option<Timestamp>> Filling<'_, F> {
    /// Goes through the backup and the trail behind it, and stops where it should. Gives the event of
    /// the snapshot.
    async fn fill(&mut self) -> Result<Option<EventId>, RestoreError> {
        let stopped = self.take_backup().await? == Walk::Stop || self.take_trail().await? == Walk::Stop;
        let ends = self.log.head().event;
        match self.to {
            To::Event(asked) if !stopped && ends < asked => Err(RestoreError::Beyond { asked, ends }),
            _ => self.snapshot().await,
        }
    }

    async fn take_backup(&mut self) -> Result<Walk, RestoreError> {
        for run in &self.manifest.log {
            if self.is_there() {
                return Ok(Walk::Stop);
            }
            let content = run.object.fetch(self.store, self.key, &self.manifest.cluster).await;
            let content = content.map_err(|error| self.broken(error))?;
            self.read.add(run.object.stored);
            let name = run.object.name();
            let part = Part::read(content).map_err(|why| self.store.damaged(&name, 0, why))?;
            if self.take(&part, &name)? == Walk::Stop {
                return Ok(Walk::Stop);
            }
        }
        Ok(Walk::On)
    }

    async fn take_trail(&mut self) -> Result<Walk, RestoreError> {
        let mut trail = Trail::begin(self.store, self.log.head()).await?;
        while !self.is_there() {
            let next = trail.next(self.store, self.key, &self.manifest.cluster).await;
            let Some((part, name, bytes)) = next.map_err(|error| self.broken(error))? else {
                return Ok(Walk::On);
            };
            self.read.add(bytes);
            if self.take(&part, &name)? == Walk::Stop {
                return Ok(Walk::Stop);
            }
            trail.went_to(self.log.head());
        }
        Ok(Walk::Stop)
    }

    /// Whether the event that was asked for is the last one, so that nothing further need be read.
    fn is_there(&self) -> bool {
        // Before the first event there are entries that no log can be without.
        matches!(self.to, To::Event(asked) if asked != EventId::ZERO && asked == self.log.head().event)
    }

    fn broken(&self, source: ObjectError) -> RestoreError {
        match self.log.head().event {
            EventId::ZERO => source.into(),
            reached => RestoreError::Broken { reached, source },
        }
    }

    fn take(&mut self, part: &Part, name: &str) -> Result<Walk, RestoreError> {
        self.room.takes(part.content.len())?;
        let mut failed = None;
        let (mut stopped, mut inside) = (Walk::On, None);
        let Self { log, to, time_of, fingerprint, .. } = self;
        let walked = part.walk(log.head(), |entry, head| {
            let records = entry.records().expect("the walk has seen that they add up");
            let later = match *to {
                To::Last => false,
                To::Event(asked) => !records.is_empty() && head.event > asked,
                To::Time(asked) => records.iter().filter_map(&*time_of).any(|time| time > asked),
            };
            if later {
                stopped = Walk::Stop;
                inside = match *to {
                    To::Event(asked) if entry.header.first <= asked => Some(head.event),
                    _ => None,
                };
                return Walk::Stop;
            }
            if let Err(error) = log.push(entry) {
                failed = Some(error);
                return Walk::Stop;
            }
            records.iter().for_each(|record| fingerprint.add(record));
            Walk::On
        });
        if let Some(error) = failed {
            return Err(error.into());
        }
        walked.map_err(|(offset, why)| self.broken(self.store.damaged(name, offset, why)))?;
        self.inside_batch_to = inside;
        Ok(stopped)
    }

    /// Adds the backup's snapshot, if it is not of a later state.
    async fn snapshot(&mut self) -> Result<Option<EventId>, RestoreError> {
        let Some(snapshot) = &self.manifest.snapshot else { return Ok(None) };
        if snapshot.event > self.log.head().event {
            return Ok(None);
        }
        let mut content = Vec::new();
        for piece in &snapshot.pieces {
            content.extend_from_slice(&piece.fetch(self.store, self.key, &self.manifest.cluster).await?);
            self.read.add(piece.stored);
        }
        self.log.snapshot(snapshot.event, &content)?;
        Ok(Some(snapshot.event))
    }

    fn finish(&mut self) -> Result<Fingerprint, RestoreError> {
        self.log.open_epoch(&format!("restored from backup {}", self.manifest.id))?;
        let mut read_back = Fingerprinter::default();
        self.log.finish(|record| read_back.add(record))?;
        let (written, found) = (self.fingerprint.clone().finish(), read_back.finish());
        if written == found { Ok(found) } else { Err(RestoreError::Differs) }
    }
}

/// What a drill proved.
#[derive(Clone, Debug)]
pub struct Drilled {
    /// The backup it began with.
    pub from: Id,
    /// The last entry that was restored. The chain is that of the old log there.
    pub head: Head,
    /// The last event that was restored and folded.
    pub event: EventId,
    /// Over all events.
    pub fingerprint: Fingerprint,
    /// How long all of it took.
    pub took: DurationMs,
    /// What was read from the store.
    pub read: Sum,
}

/// The name of a drill's directory within the one that it is given.
const DRILL: &str = "holdfast-drill";
/// The name of the lock beside it.
const LOCK: &str = "holdfast-drill.lock";
/// Events that are read at once to be folded.
const PAGE: usize = 4096;

/// Restores the newest backup, and what was archived since, in a directory of its own within `scratch`,
/// opens it as a server would, gives every event to `fold`, and removes it again. What a drill that was
/// killed has left there is removed first. It leaves [`limits::DRILL_LEAVES`] of the space there.
///
/// # Errors
/// It cannot be restored; so this backup is worth nothing.
pub async fn drill(
    store: &Store,
    key: &Key,
    disk: Arc<dyn Disk>,
    scratch: &Path,
    clock: &dyn Clock,
    mut fold: impl FnMut(&Record),
) -> Result<Drilled, RestoreError> {
    let started = clock.now();
    disk.create_dir(scratch)?;
    let _one_at_a_time = disk.lock(&scratch.join(LOCK), "a drill")?;
    let dir = Scratch::make(scratch.join(DRILL))?;
    let node = NodeId::from_u128(1);
    let cluster = format!("a drill at {started}");
    let identity = NewIdentity { cluster, node };
    let room = Room { disk: Arc::clone(&disk), dir: &dir.0, leaves: limits::DRILL_LEAVES };
    let restored = restore_into(store, key, None, room, To::Last, &identity, |_| None).await?;
    let (wal, _) = Wal::open(disk, &dir.0, Options::default())?;
    let mut read_back = Fingerprinter::default();
    let mut cursor = EventId::ZERO;
    loop {
        let page = wal.read(cursor, PAGE)?;
        let Some(last) = page.last() else { break };
        cursor = last.id;
        for record in &page {
            read_back.add(record);
            fold(record);
        }
        rt::give_way().await;
    }
    drop(wal);
    let fingerprint = read_back.finish();
    if fingerprint != restored.fingerprint || cursor != restored.head.event {
        return Err(RestoreError::Differs);
    }
    dir.clear()?;
    let took = clock.now().since(started);
    let Restored { from, head, read, .. } = restored;
    Ok(Drilled { from, head, event: cursor, fingerprint, took, read })
}

/// Removes what a drill that was killed has left in `scratch`; nothing while another one runs there.
///
/// # Errors
/// It cannot be removed.
pub fn clear_drill(disk: &dyn Disk, scratch: &Path) -> Result<(), RestoreError> {
    if !scratch.join(DRILL).exists() {
        return Ok(());
    }
    let _one_at_a_time = match disk.lock(&scratch.join(LOCK), "clearing up after a drill") {
        Err(error) if error.is_locked() => return Ok(()),
        lock => lock?,
    };
    Scratch(scratch.join(DRILL)).clear()
}

/// A directory that is removed again.
struct Scratch(PathBuf);

impl Scratch {
    fn make(dir: PathBuf) -> Result<Self, RestoreError> {
        let scratch = Self(dir);
        scratch.clear()?;
        Ok(scratch)
    }

    fn clear(&self) -> Result<(), RestoreError> {
        match std::fs::remove_dir_all(&self.0) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(RestoreError::Scratch { dir: self.0.clone(), source })
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            tracing::warn!(%error, "a drill has left its directory behind");
        }
    }
}
