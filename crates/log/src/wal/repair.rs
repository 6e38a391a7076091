//! Putting back what is damaged in a member's log, from entries that other members give.
//!
//! ```text
//!   damaged ─► repair/: the files anew, entry by entry ─► quarantine/: copies of the damaged ones
//!      ▲ the log does not open      │ killed: goes on               │
//!      └────────────────────────────┘                               ▼
//!   whole ◄── marker gone ◄── damaged files replaced ◄── marker: does not open, needs nobody any more
//! ```
//!
//! Invariants:
//!
//! - Until everything is there, the damaged files stay as they are, and they keep the log from opening.
//!   While they are replaced, the marker does. So no crash leaves a shorter log that looks whole.
//! - Every entry follows the one before it by its chain, from an end that is known to be right to one
//!   that is: of what stands behind the damage, or of the leader's log. See decision 16.
//! - A damaged file is replaced or removed only when a copy of it is durable.
//! - A log that is taken over from a leader may be shorter than what was acknowledged in an earlier term.
//!   The vote for that leader is durable before, and says so to whoever remembers.

use super::{
    archive,
    carried::Carried,
    format::{
        ARCHIVE, CommittedNote, FORMAT, Inventory, PLAIN, SEGMENT_HEADER, SegmentHeader, Vote, archive_path,
        checked, save_mark, segment_path, unchecked,
    },
    frame,
    incarnation::Incarnations,
    inspect::Problem,
    machine::Options,
    member::OpenMemberError,
    quarantine,
    read::Source,
    recover::{self, OpenError},
    survey::{self, Part, Stretch},
};
use crate::Head;
use bytes::Bytes;
use rt::{Boundary, Disk, DiskError, DiskFile, DiskLock};
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use types::{Index, NodeId, limits};

const PLACE: &str = "repair";
/// Says that damaged files are being replaced, and by what.
pub(super) const MARKER: &str = "replacing";
const MAGIC: &[u8; 8] = b"HFREPL\0\x01";

/// Why a log was not repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// It cannot be: its vote is gone, or it is of no member.
    #[error(transparent)]
    Open(#[from] OpenMemberError),
    /// What was given is not what belongs there.
    #[error("what was given does not belong there: {0}")]
    Foreign(String),
    /// What is certainly committed here is not what others have.
    #[error(
        "{} says that entry {at} was committed, and other members have another one there; \
         this member cannot be repaired: remove it from the cluster and let a fresh directory join", dir.display()
    )]
    History {
        /// The log directory.
        dir: PathBuf,
        /// The entry.
        at: Index,
    },
    /// No more damaged files are kept, and none is thrown away.
    #[error(
        "{} damaged files are kept in {} already, so no more is repaired; look at the disk of this machine, \
         move them away, and start again", limits::QUARANTINE_FILES, dir.join("quarantine").display()
    )]
    Quarantine {
        /// The log directory.
        dir: PathBuf,
    },
}

impl From<DiskError> for RepairError {
    fn from(error: DiskError) -> Self {
        Self::Open(OpenMemberError::from_disk(error))
    }
}

impl From<OpenError> for RepairError {
    fn from(error: OpenError) -> Self {
        Self::Open(error.into())
    }
}

/// What was repaired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repaired {
    /// The first thing that was wrong.
    pub wrong: Problem,
    /// The entries that were put back, the first and the last.
    pub entries: (Index, Index),
    /// Where the damaged files are kept.
    pub kept: Vec<PathBuf>,
}

/// What the marker says: these files go, those come, and so far the log is durable then.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Replacing {
    old: Vec<(u64, bool)>,
    new: Vec<(u64, bool)>,
    /// The end of the log, if it is another one.
    end: Option<Vec<u8>>,
}

/// A damaged stretch of a member's log, while it is repaired. The log is locked.
#[derive(Debug)]
pub struct Repair {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    node: NodeId,
    log_id: [u8; 16],
    segment_bytes: u64,
    /// Up to here the log was certainly committed.
    noted: Head,
    stretch: Stretch,
    /// The end of what is rebuilt.
    head: Head,
    /// The files that are rebuilt, and where the last one ends.
    files: Vec<Part>,
    open: Option<(Arc<dyn DiskFile>, u64)>,
    _lock: Box<dyn DiskLock>,
}

impl Repair {
    /// Looks for what is damaged in the log of a member that does not run; none if it opens as it is.
    /// Finishes replacing files if that was cut short, and goes on with what was rebuilt before.
    ///
    /// # Errors
    /// It cannot be repaired, and why. The log was not changed.
    pub fn begin(disk: &Arc<dyn Disk>, dir: &Path, options: &Options) -> Result<Option<Self>, RepairError> {
        if !disk.exists(&dir.join(FORMAT))? {
            return Err(OpenError::NotCreated { dir: dir.into() }.into());
        }
        let lock = recover::lock(&**disk, dir)?;
        let format = recover::read_format(&**disk, dir)?;
        replace(&**disk, dir)?;
        if format.version == PLAIN || format.recovering.is_some() {
            return Ok(None);
        }
        let Some(stretch) = survey::first_stretch(disk, dir, &format, options)? else { return Ok(None) };
        // Without them this node has forgotten what it promised, whatever its log says.
        let lives = Incarnations::load(Arc::clone(disk), dir)?;
        let was_started = lives.own().count > 0;
        let vote = if was_started { Vote::load_existing(&**disk, dir) } else { Vote::load(&**disk, dir) };
        vote.map_err(OpenMemberError::from)?;
        if !quarantine::has_room(&**disk, dir)? {
            return Err(RepairError::Quarantine { dir: dir.into() });
        }
        let noted = CommittedNote::load(&**disk, dir)?.map_or(Head::NOTHING, |note| note.head);
        let mut repair = Self {
            disk: Arc::clone(disk),
            dir: dir.into(),
            node: format.node,
            log_id: format.log_id(),
            segment_bytes: options.segment_bytes,
            noted,
            head: stretch.base,
            stretch,
            files: Vec::new(),
            open: None,
            _lock: lock,
        };
        repair.go_on()?;
        Ok(Some(repair))
    }

    /// The first thing that is wrong.
    pub fn wrong(&self) -> &Problem {
        &self.stretch.wrong
    }

    /// The member this log belongs to.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Who the members are, as the log says as far as it can be read.
    ///
    /// # Errors
    /// The disk failed.
    pub fn members(&self) -> Result<Option<Bytes>, DiskError> {
        let noted = CommittedNote::load(&*self.disk, &self.dir)?.and_then(|note| note.members);
        Ok(self.stretch.members.clone().or(noted.map(|note| note.payload)))
    }

    /// The end of what is rebuilt.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Whether anything is rebuilt.
    pub fn has_begun(&self) -> bool {
        !self.files.is_empty()
    }

    /// The end that proves everything to be back, if what can be read here says so.
    pub fn goal(&self) -> Option<Head> {
        self.stretch.goal
    }

    /// Whether it is the end of the log that is damaged: then a leader's end proves it as well.
    pub fn is_end(&self) -> bool {
        self.stretch.is_end
    }

    /// Nobody has what stood there, so it was never committed: takes everything from there on for damaged.
    /// False if that cannot be.
    ///
    /// # Errors
    /// The disk failed.
    pub fn give_up_what_follows(&mut self) -> Result<bool, RepairError> {
        let Stretch { is_end, begins, behind, .. } = &self.stretch;
        if *is_end || begins.iter().chain(behind).any(|part| part.archived) {
            return Ok(false);
        }
        self.stretch.files.append(&mut self.stretch.behind);
        self.stretch.begins.clear();
        (self.stretch.is_end, self.stretch.goal) = (true, None);
        self.start_over()?;
        Ok(true)
    }

    /// What stands before the damage is not what the leader has, so its end was never committed: takes one
    /// segment more for damaged.
    ///
    /// # Errors
    /// [`RepairError::History`] if it was committed.
    pub fn step_back(&mut self) -> Result<(), RepairError> {
        let committed = self.stretch.base.index <= self.noted.index;
        if committed || !self.stretch.is_end || self.stretch.before.is_empty() {
            return Err(RepairError::History { dir: self.dir.clone(), at: self.stretch.base.index });
        }
        let (part, base) = self.stretch.before.remove(0);
        self.stretch.files.insert(0, part);
        (self.stretch.base, self.stretch.goal) = (base, None);
        self.start_over()
    }

    /// Throws away what was rebuilt.
    ///
    /// # Errors
    /// The disk failed.
    pub fn start_over(&mut self) -> Result<(), RepairError> {
        self.open = None;
        self.files.clear();
        self.head = self.stretch.base;
        Ok(clear(&*self.disk, &self.dir)?)
    }

    /// Takes entries, as [`Carried`] carries them, that follow [`Self::head`]. Durable when it returns.
    ///
    /// # Errors
    /// [`RepairError::Foreign`] if one of them does not follow the one before, or nothing of it is right;
    /// then [`Self::start_over`].
    pub fn take(&mut self, mut entries: Bytes) -> Result<(), RepairError> {
        let mut buffer = Vec::new();
        while !entries.is_empty() {
            let entry = Carried::take(&mut entries).map_err(|why| RepairError::Foreign(why.into()))?;
            let head = entry.follows(&self.head).map_err(RepairError::Foreign)?;
            if head.index == self.noted.index && head.chain != self.noted.chain {
                return Err(RepairError::History { dir: self.dir.clone(), at: head.index });
            }
            if self.open.is_none() || self.begins_with(head.index, buffer.len()) {
                self.write(&mut buffer)?;
                self.begin_file()?;
            }
            let mut header = entry.header;
            // It takes its place only together with those before it, when all are durable.
            let synced = self.head.index;
            frame::encode(&mut buffer, &mut header, synced, &self.head.chain, |out| {
                out.extend_from_slice(&entry.payload);
            });
            self.head = head;
        }
        self.write(&mut buffer)?;
        Boundary::RepairTaken.reached();
        Ok(())
    }

    /// Whether a file begins with this entry.
    fn begins_with(&self, index: Index, waiting: usize) -> bool {
        match self.stretch.is_end {
            true => self.open.as_ref().is_some_and(|(_, used)| used + waiting as u64 > self.segment_bytes),
            false => self.stretch.begins.iter().any(|part| part.first == index),
        }
    }

    fn begin_file(&mut self) -> Result<(), RepairError> {
        let first = self.head.index.next();
        let place = self.stretch.begins.iter().find(|part| part.first == first);
        let part = place.copied().unwrap_or(Part { first, archived: false });
        let place = self.dir.join(PLACE);
        if self.files.is_empty() {
            self.disk.create_dir(&place)?;
            self.disk.sync_dir(&self.dir)?;
        }
        let path = segment_path(&place, first);
        let header = SegmentHeader { log_id: self.log_id, before: self.head };
        rt::replace_file(&*self.disk, &path, &header.encode())?;
        self.open = Some((self.disk.open(&path)?.into(), SEGMENT_HEADER as u64));
        self.files.push(part);
        Ok(())
    }

    fn write(&mut self, buffer: &mut Vec<u8>) -> Result<(), RepairError> {
        if let Some((file, used)) = self.open.as_mut().filter(|_| !buffer.is_empty()) {
            file.write_at(*used, buffer)?;
            file.sync_data()?;
            *used += buffer.len() as u64;
            buffer.clear();
        }
        Ok(())
    }

    /// Goes on with what an earlier run has rebuilt. What is not whole of it is thrown away.
    fn go_on(&mut self) -> Result<(), RepairError> {
        let place = self.dir.join(PLACE);
        let found = Inventory::take_segments(&*self.disk, &place)?;
        let Some(begun) = found.first().map(|first| self.header_of(*first)).transpose()?.flatten() else {
            return self.start_over();
        };
        // It had stepped back.
        while self.stretch.base != begun && self.stretch.base.index > begun.index {
            if self.step_back_to(begun).is_none() {
                return self.start_over();
            }
        }
        if self.stretch.base != begun {
            return self.start_over();
        }
        for (at, first) in found.iter().enumerate() {
            if *first != self.head.index.next() || self.header_of(*first)? != Some(self.head) {
                return self.start_over();
            }
            let path = segment_path(&place, *first);
            let file: Arc<dyn DiskFile> = self.disk.open(&path)?.into();
            let walked = survey::walk(Source::File(Arc::clone(&file)), self.head)?;
            let is_last = at + 1 == found.len();
            if file.size()? != walked.used && !is_last {
                return self.start_over();
            }
            file.set_len(walked.used)?;
            if is_last {
                // After a sync that failed the kernel may take it for durable: written again, it is.
                let mut bytes = vec![0; usize::try_from(walked.used).expect("a segment fits memory")];
                file.read_at(0, &mut bytes)?;
                file.write_at(0, &bytes)?;
            }
            file.sync_data()?;
            let begins = self.stretch.begins.iter().find(|part| part.first == *first);
            self.files.push(begins.copied().unwrap_or(Part { first: *first, archived: false }));
            self.open = Some((file, walked.used));
            self.head = walked.end;
        }
        Ok(())
    }

    fn step_back_to(&mut self, begun: Head) -> Option<()> {
        let is_possible = self.stretch.is_end && self.stretch.before.iter().any(|(_, base)| *base == begun);
        if !is_possible {
            return None;
        }
        let (part, base) = self.stretch.before.remove(0);
        self.stretch.files.insert(0, part);
        (self.stretch.base, self.stretch.goal, self.head) = (base, None, base);
        Some(())
    }

    /// The end before a rebuilt file, if it is one.
    fn header_of(&self, first: Index) -> Result<Option<Head>, DiskError> {
        let bytes = self.disk.read(&segment_path(&self.dir.join(PLACE), first))?;
        let header = bytes.get(..SEGMENT_HEADER).and_then(|bytes| SegmentHeader::decode(bytes).ok());
        Ok(header.filter(|header| header.log_id == self.log_id).map(|header| header.before))
    }

    /// Puts what was rebuilt in the place of what was damaged. It must reach `goal`, which is proven: by
    /// what stands here, or by `leader`, whose end it is.
    ///
    /// # Errors
    /// [`RepairError::Foreign`] if it does not end there: then nothing was changed.
    pub fn finish(mut self, goal: &Head, leader: Option<NodeId>) -> Result<Repaired, RepairError> {
        if self.head != *goal {
            return Err(RepairError::Foreign(format!("it does not end as entry {} does", goal.index)));
        }
        if self.open.is_none() {
            self.begin_file()?;
        }
        self.open = None;
        self.pack()?;
        if let Some(leader) = leader {
            self.vote_for(leader, goal)?;
        }
        let disk = &*self.disk;
        let mut kept = Vec::new();
        for part in &self.stretch.files {
            kept.extend(quarantine::keep(disk, &self.dir, &part.path(&self.dir))?);
        }
        Boundary::RepairKept.reached();
        let plain = |part: &Part| (part.first.get(), part.archived);
        let replacing = Replacing {
            old: self.stretch.files.iter().map(plain).collect(),
            new: self.files.iter().map(plain).collect(),
            end: self.stretch.is_end.then(|| self.head.to_bytes().to_vec()),
        };
        let body = postcard::to_stdvec(&replacing).expect("names are plain data");
        rt::replace_file(disk, &self.dir.join(MARKER), &checked(MAGIC, &body))?;
        Boundary::RepairMarked.reached();
        replace(disk, &self.dir)?;
        let entries = (self.stretch.base.index.next(), self.head.index);
        Ok(Repaired { wrong: self.stretch.wrong, entries, kept })
    }

    /// Votes for the leader whose log this becomes, in the term of its end, unless there is a vote of that
    /// term or a later one.
    fn vote_for(&self, leader: NodeId, end: &Head) -> Result<(), RepairError> {
        let disk = &*self.disk;
        if end.term > Vote::load(disk, &self.dir).map_err(OpenMemberError::from)?.term {
            Vote { term: end.term, voted_for: Some(leader) }.save(disk, &self.dir)?;
        }
        Ok(())
    }

    /// Packs the files that belong into the archive.
    fn pack(&self) -> Result<(), RepairError> {
        let place = self.dir.join(PLACE);
        for (at, part) in self.files.iter().enumerate().filter(|(_, part)| part.archived) {
            let path = segment_path(&place, part.first);
            let before = self.header_of(part.first)?.expect("it was written here");
            let end = match self.files.get(at + 1) {
                Some(next) => self.header_of(next.first)?.expect("it was written here"),
                None => self.head,
            };
            let plain = self.disk.read(&path)?;
            let packed = archive::packed(self.log_id, before, end, &plain);
            let packed = packed.map_err(|error| DiskError::new(rt::Operation::Write, &path, error))?;
            rt::replace_file(&*self.disk, &packed_path(&self.dir, part.first), &packed)?;
        }
        Ok(())
    }
}

fn packed_path(dir: &Path, first: Index) -> PathBuf {
    let name = archive_path(dir, first);
    dir.join(PLACE).join(name.file_name().expect("a file has a name"))
}

/// Replaces damaged files as the marker says, if there is one. Each step may be found done.
fn replace(disk: &dyn Disk, dir: &Path) -> Result<(), RepairError> {
    let path = dir.join(MARKER);
    let bytes = match disk.read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let body = bytes.len().checked_sub(12).and_then(|size| unchecked(MAGIC, &bytes, size));
    let replacing: Option<Replacing> = body.and_then(|body| postcard::from_bytes(body).ok());
    let replacing = replacing.ok_or(OpenError::FormatDamaged { path: path.clone() })?;
    let part = |(first, archived): &(u64, bool)| Part { first: Index::new(*first), archived: *archived };
    for part in replacing.new.iter().map(part) {
        let from = match part.archived {
            true => packed_path(dir, part.first),
            false => segment_path(&dir.join(PLACE), part.first),
        };
        rt::replace_file(disk, &part.path(dir), &disk.read(&from)?)?;
        Boundary::RepairReplaced.reached();
    }
    for old in replacing.old.iter().filter(|old| !replacing.new.contains(old)) {
        match disk.remove(&part(old).path(dir)) {
            Err(error) if !error.is_not_found() => return Err(error.into()),
            _ => {}
        }
    }
    disk.sync_dir(dir)?;
    disk.sync_dir(&dir.join(ARCHIVE))?;
    if let Some(end) = replacing.end.as_deref().and_then(|end| end.try_into().ok()) {
        save_mark(disk, dir, &Head::from_bytes(end))?;
    }
    quarantine::clear_suspect(disk, dir)?;
    Boundary::RepairDone.reached();
    disk.remove(&path)?;
    disk.sync_dir(dir)?;
    Ok(clear(disk, dir)?)
}

/// Removes what was rebuilt: it is in its place, or of no use.
pub(super) fn clear(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    let place = dir.join(PLACE);
    let names = match disk.list(&place) {
        Ok(names) => names,
        Err(error) if error.is_not_found() => return Ok(()),
        Err(error) => return Err(error),
    };
    if names.is_empty() {
        return Ok(());
    }
    for name in names {
        disk.remove(&place.join(name))?;
    }
    disk.sync_dir(&place)
}

/// Whether the log must not be opened because its files are being replaced.
pub(super) fn is_replacing(disk: &dyn Disk, dir: &Path) -> Result<bool, DiskError> {
    disk.exists(&dir.join(MARKER))
}
