//! Appending: a plain state machine over the disk.

use super::{
    aside::{self, AsideError},
    format::{
        ARCHIVE, CreateError, FORMAT, Format, Inventory, LOCK, MEMBER, NOTHING, PLAIN, SEGMENT_HEADER,
        SNAPSHOTS, SegmentHeader, UNFINISHED, Vote, VoteError, save_mark, segment_path,
    },
    frame::{self, Check},
    in_place::is_only_space,
    read::{Reader, Source, Step},
    recover::{self, OpenError, Recovered},
    snapshot,
    store::{Segment, Store},
};
use crate::{
    Appended, Batch, EntryHeader, Head, Kind, ReadError, Record, SnapshotError, SnapshotWriter, entry,
};
use bytes::Bytes;
use rt::{Disk, DiskError, DiskFile, DiskLock, Operation};
use std::{path::Path, sync::Arc};
use types::{Epoch, EventId, Index, NodeId, Term};

/// How a log behaves; the defaults are right for a server.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A segment that would grow past this is followed by a new one.
    pub segment_bytes: u64,
    /// How much space is reserved, as zeroes, ahead of what is written.
    pub reserve_bytes: u64,
    /// How much memory the most recent events may take.
    pub recent_bytes: usize,
    /// Something to do wrong, for tests that prove that it would be noticed.
    #[doc(hidden)]
    pub mistake: Option<Mistake>,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, reserve_bytes: 4 << 20, recent_bytes: 32 << 20, mistake: None }
    }
}

/// A deliberate mistake. The simulator shows that each one breaks a promise visibly.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// An append is answered before its sync.
    AnswerBeforeSync,
    /// Checksums and the chain are not looked at.
    ChecksumIgnored,
    /// What recovery drops stays in the file.
    TailNotCut,
    /// A member keeps entries that another leader has replaced.
    SuffixNotCut,
    /// A leader of a cluster decides before its own epoch is opened.
    EpochNotAwaited,
    /// A restarted leader of a cluster goes on in its old term.
    LeaderResumes,
}

/// What to append.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Events, together.
    Batch(Batch),
    /// Nothing.
    Blank,
    /// Members, in the encoding of the consensus layer.
    Membership(Bytes),
    /// Opens the next epoch, in which this node sequences.
    Epoch {
        /// The node with authority.
        node: NodeId,
        /// Why, for people.
        reason: String,
    },
}

impl Entry {
    const fn kind(&self) -> Kind {
        match self {
            Self::Batch(_) => Kind::Batch,
            Self::Blank => Kind::Blank,
            Self::Membership(_) => Kind::Membership,
            Self::Epoch { .. } => Kind::Epoch,
        }
    }

    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Batch(batch) => entry::put_events(out, &batch.events),
            Self::Blank => {}
            Self::Membership(bytes) => out.extend_from_slice(bytes),
            Self::Epoch { node, reason } => {
                out.extend_from_slice(&node.as_u128().to_le_bytes());
                out.extend_from_slice(reason.as_bytes());
            }
        }
    }

    fn events(&self) -> &[Bytes] {
        match self {
            Self::Batch(batch) => &batch.events,
            _ => &[],
        }
    }
}

/// Why a group was not appended.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// There is no space. Certainly nothing of the group is or will be there, and the next group
    /// may work.
    #[error("the disk of the log has no space")]
    NoSpace(#[source] DiskError),
    /// The disk failed. Whether the group is there, only recovery can say. The process must end.
    #[error("the disk failed under the log; this process must not write to it again")]
    Failed(#[source] DiskError),
    /// It failed before.
    #[error("the log has stopped after a failed write")]
    Stopped,
}

impl GroupError {
    /// What the disk said, if it said anything.
    pub(super) fn into_disk(self) -> Option<DiskError> {
        match self {
            Self::NoSpace(error) | Self::Failed(error) => Some(error),
            Self::Stopped => None,
        }
    }

    /// What a small file that is replaced whole ran into. The old content stands when there is no space;
    /// after a sync that failed, nothing is certain.
    fn of_small_file(error: DiskError) -> Self {
        if is_only_space(&error) { Self::NoSpace(error) } else { Self::Failed(error) }
    }
}

/// The write-ahead log of one directory, opened for writing.
#[derive(Debug)]
pub struct Wal {
    pub(super) store: Arc<Store>,
    options: Options,
    node: NodeId,
    term: Term,
    leader: NodeId,
    /// The end of what is written and durable.
    pub(super) head: Head,
    /// How long the last segment's file is; from where its records end on it is zeroes.
    reserved: u64,
    pub(super) buffer: Vec<u8>,
    pub(super) stopped: bool,
    /// See [`Self::is_short`].
    short: bool,
    _lock: Box<dyn DiskLock>,
}

impl Wal {
    /// Makes a new log: its first entry opens epoch 1 in the name of `node`. Whole or not at all:
    /// after a crash on the way it can be called again.
    pub fn create(disk: &Arc<dyn Disk>, dir: &Path, cluster: &str, node: NodeId) -> Result<(), CreateError> {
        let format = Format::new(PLAIN, cluster, node);
        if !format.is_writable() {
            return Err(CreateError::Identity);
        }
        Self::begin(disk, dir, &format, &first_segment(&format))
    }

    /// Makes the log of a member that joins: it has no entry yet, and gets every one, the first
    /// included, from the others. As [`Self::create`] in all else.
    pub fn create_member(
        disk: &Arc<dyn Disk>,
        dir: &Path,
        cluster: &str,
        node: NodeId,
    ) -> Result<(), CreateError> {
        let format = Format::new(MEMBER, cluster, node);
        if !format.is_writable() {
            return Err(CreateError::Identity);
        }
        let empty = SegmentHeader { log_id: format.log_id(), before: NOTHING }.encode();
        Self::begin(disk, dir, &format, &empty)
    }

    fn begin(disk: &Arc<dyn Disk>, dir: &Path, format: &Format, content: &[u8]) -> Result<(), CreateError> {
        for part in [dir.to_path_buf(), dir.join(ARCHIVE), dir.join(SNAPSHOTS)] {
            disk.create_dir(&part)?;
        }
        let _lock = disk.lock(&dir.join(LOCK), "creating the log\n")?;
        if disk.exists(&dir.join(FORMAT))? {
            return Err(CreateError::Exists { dir: dir.into() });
        }
        let found = Inventory::take(&**disk, dir)?;
        let first = segment_path(dir, Index::new(1));
        if !found.archived.is_empty() || found.segments.iter().any(|index| index.get() != 1) {
            return Err(CreateError::Remains { dir: dir.into() });
        }
        if !found.segments.is_empty() {
            // Without `format` nobody can have appended to it, unless somebody removed that file.
            if disk.open_read(&first)?.size()? > content.len() as u64 {
                return Err(CreateError::Remains { dir: dir.into() });
            }
        }
        rt::replace_file(&**disk, &first, content)?;
        rt::replace_file(&**disk, &dir.join(FORMAT), format.encode().as_bytes())?;
        Ok(())
    }

    /// Whether there is a log in this directory.
    pub fn exists(disk: &dyn Disk, dir: &Path) -> Result<bool, DiskError> {
        disk.exists(&dir.join(FORMAT))
    }

    /// Opens a log and recovers it: drops an incomplete tail and says so, and refuses everything
    /// else that is not as it was written.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<(Self, Recovered), OpenError> {
        let opened = recover::open(disk, dir, &options)?;
        let head = opened.store.head();
        let wal = Self {
            store: Arc::new(opened.store),
            options,
            node: opened.node,
            term: head.term,
            leader: opened.node,
            head,
            reserved: opened.reserved,
            buffer: Vec::with_capacity(1 << 20),
            stopped: false,
            short: false,
            _lock: opened.lock,
        };
        Ok((wal, opened.recovered))
    }

    /// The durable head.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The node this log belongs to.
    pub fn node(&self) -> NodeId {
        self.node
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Entries are from now on written in this term, led by this node.
    pub fn lead(&mut self, term: Term, leader: NodeId) {
        assert!(term >= self.head.term, "terms never fall");
        self.term = term;
        self.leader = leader;
    }

    /// This node's last vote.
    pub fn vote(&self) -> Result<Vote, VoteError> {
        Vote::load(&*self.store.disk, &self.store.dir)
    }

    /// Sees to it that the vote is durable, and that the next ones need no space.
    pub(super) fn settle_vote(&mut self) -> Result<Vote, VoteError> {
        let store = Arc::clone(&self.store);
        let mut vote = Ok(Vote::default());
        let settled = self.spend_reserve(|| match Vote::settle(&*store.disk, &store.dir) {
            Err(VoteError::Disk(error)) => Err(error),
            found => {
                vote = found;
                Ok(())
            }
        });
        match settled {
            Ok(()) => vote,
            // It has no place of its own yet, and stands where it was.
            Err(error) if is_only_space(&error) => self.vote(),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces the vote. Durable when it returns. Takes no space, or the reserve where the file system
    /// wants some all the same; without any the old one stands.
    pub fn save_vote(&mut self, vote: Vote) -> Result<(), GroupError> {
        if self.stopped {
            return Err(GroupError::Stopped);
        }
        let store = Arc::clone(&self.store);
        let saved = self.spend_reserve(|| vote.save(&*store.disk, &store.dir));
        let saved = saved.map_err(GroupError::of_small_file);
        self.stopped |= matches!(saved, Err(GroupError::Failed(_)));
        saved
    }

    /// Keeps the entries after `last` aside before they are cut; see [`super::aside()`].
    pub(super) fn keep_aside(&mut self, last: Index) -> Result<(), GroupError> {
        if self.stopped || last >= self.head.index {
            return Ok(());
        }
        let store = Arc::clone(&self.store);
        let mut damaged = None;
        let kept = self.spend_reserve(|| match aside::keep(&store, last) {
            Ok(()) => Ok(()),
            Err(AsideError::Disk(error) | AsideError::Read(ReadError::Disk(error))) => Err(error),
            Err(AsideError::Read(error)) => {
                damaged = Some(error);
                Ok(())
            }
        });
        if let Some(error) = damaged {
            let source = std::io::Error::other(error.to_string());
            return Err(GroupError::Failed(DiskError::new(Operation::Read, &store.dir, source)));
        }
        kept.map_err(GroupError::of_small_file)
    }

    /// Writes small files, for which the reserve is given up if there is no other space.
    pub(super) fn spend_reserve(
        &mut self,
        mut write: impl FnMut() -> Result<(), DiskError>,
    ) -> Result<(), DiskError> {
        match write() {
            Err(error) if error.is_no_space() && self.reserved > self.used() => {
                self.short = true;
                self.reserved = self.used();
                self.last_file().set_len(self.reserved)?;
                write()
            }
            result => result,
        }
    }

    /// The end of what is written and durable, committed or not.
    pub fn tail(&self) -> Head {
        self.head
    }

    /// Appends all of it with one write and one sync, and returns when it is durable. Every batch
    /// must have passed the checks of [`crate::Log::append`]. `placed` is cleared and then gets, for each
    /// entry, where it is.
    pub fn append_group(&mut self, entries: &[Entry], placed: &mut Vec<Appended>) -> Result<(), GroupError> {
        placed.clear();
        if self.stopped {
            return Err(GroupError::Stopped);
        }
        if entries.is_empty() {
            return Ok(());
        }
        let headers = self.encode(entries, placed);
        if let Err(error) = self.make_durable() {
            placed.clear();
            return Err(error);
        }
        self.publish(entries, &headers);
        Ok(())
    }

    /// Writes and syncs the buffer. After anything but a lack of space nothing is written any more.
    pub(super) fn make_durable(&mut self) -> Result<(), GroupError> {
        let result = self.make_room().and_then(|()| self.write());
        self.stopped |= matches!(result, Err(GroupError::Failed(_)));
        result
    }

    fn encode(&mut self, entries: &[Entry], placed: &mut Vec<Appended>) -> Vec<(EntryHeader, u64)> {
        self.buffer.clear();
        let mut headers = Vec::with_capacity(entries.len());
        let mut head = self.head;
        for entry in entries {
            let events = entry.events();
            let opens = u64::from(entry.kind() == Kind::Epoch);
            let mut header = EntryHeader {
                kind: entry.kind(),
                index: head.index.next(),
                term: self.term,
                leader: self.leader,
                epoch: head.epoch.plus(opens),
                first: head.event.next(),
                count: u32::try_from(events.len()).expect("a batch is smaller than that"),
                chain: [0; 32],
            };
            frame::encode(&mut self.buffer, &mut header, self.head.index, &head.chain, |out| entry.put(out));
            head = Head {
                event: header.last(),
                index: header.index,
                term: header.term,
                epoch: header.epoch,
                chain: header.chain,
            };
            placed.push(Appended { first: header.first, last: header.last(), index: header.index });
            headers.push((header, self.buffer.len() as u64));
        }
        headers
    }

    fn used(&self) -> u64 {
        self.store.view().segments.last().expect("a log has a segment").used
    }

    fn last_file(&self) -> Arc<dyn DiskFile> {
        Arc::clone(&self.store.view().segments.last().expect("a log has a segment").file)
    }

    /// Whether the disk could not give the space that is kept in reserve: what is reserved already
    /// still takes a little, and whoever can wait should.
    pub(super) fn is_short(&self) -> bool {
        self.short
    }

    /// Tries again to get the reserve, if there was no space for it.
    pub(super) fn replenish(&mut self) -> Result<(), GroupError> {
        if self.short && !self.stopped {
            let used = self.used();
            self.reserve(used)?;
        }
        Ok(())
    }

    /// Sees to it that the buffer fits into reserved space of the last segment, which may be new.
    fn make_room(&mut self) -> Result<(), GroupError> {
        let size = self.buffer.len() as u64;
        let used = self.used();
        if used > SEGMENT_HEADER as u64 && used + size > self.options.segment_bytes {
            match self.rotate() {
                // A segment that grows a little too large is better than none.
                Err(GroupError::NoSpace(_)) if used + size <= self.reserved => self.short = true,
                rotated => rotated?,
            }
        }
        let end = self.used() + size;
        if end + self.options.reserve_bytes / 2 <= self.reserved {
            return Ok(());
        }
        self.reserve(end)
    }

    /// Reserves space behind `end`, or at least up to it.
    fn reserve(&mut self, end: u64) -> Result<(), GroupError> {
        let file = self.last_file();
        // Less than what was asked for will do when space is short.
        for goal in [end + self.options.reserve_bytes, end] {
            if goal <= self.reserved {
                return Ok(());
            }
            match file.allocate(goal) {
                Ok(()) => {
                    self.short = goal == end && self.options.reserve_bytes > 0;
                    self.reserved = goal;
                    return Ok(());
                }
                Err(error) if error.is_no_space() => {
                    self.short = true;
                    file.set_len(self.reserved).map_err(GroupError::Failed)?;
                    if goal == end {
                        return Err(GroupError::NoSpace(error));
                    }
                }
                Err(error) => return Err(GroupError::Failed(error)),
            }
        }
        unreachable!("the last goal returns")
    }

    /// Begins a new segment. Everything in the last one is durable.
    fn rotate(&mut self) -> Result<(), GroupError> {
        let disk = &*self.store.disk;
        let path = segment_path(&self.store.dir, self.head.index.next());
        let new = path.with_extension(format!("seg{UNFINISHED}"));
        let made = self.make_segment(&new);
        let (file, reserved) = match made {
            Ok(made) => made,
            Err(error) if error.is_no_space() && error.operation != Operation::Sync => {
                return match disk.remove(&new) {
                    Err(error) if !error.is_not_found() => Err(GroupError::Failed(error)),
                    _ => Err(GroupError::NoSpace(error)),
                };
            }
            Err(error) => return Err(GroupError::Failed(error)),
        };
        disk.rename(&new, &path).and_then(|()| disk.sync_dir(&self.store.dir)).map_err(GroupError::Failed)?;
        // What was reserved in the old one is given back. If not, it is only zeroes.
        let _best_effort = self.last_file().set_len(self.used());
        self.reserved = reserved;
        self.store.change().segments.push(Segment::new(self.head, path, file));
        Ok(())
    }

    fn make_segment(&self, new: &Path) -> Result<(Arc<dyn DiskFile>, u64), DiskError> {
        let disk = &*self.store.disk;
        match disk.remove(new) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
        let file: Arc<dyn DiskFile> = disk.create(new)?.into();
        let header = SegmentHeader { log_id: self.store.log_id, before: self.head };
        file.write_at(0, &header.encode())?;
        let reserved = SEGMENT_HEADER as u64 + self.buffer.len() as u64 + self.options.reserve_bytes;
        file.allocate(reserved)?;
        file.sync_data()?;
        Ok((file, reserved))
    }

    fn write(&mut self) -> Result<(), GroupError> {
        let file = self.last_file();
        let used = self.used();
        if let Err(error) = file.write_at(used, &self.buffer) {
            if !error.is_no_space() {
                return Err(GroupError::Failed(error));
            }
            // A file system that copies on write may run out even in reserved space. The part that
            // was written must not be found by a later recovery.
            file.set_len(used).and_then(|()| file.sync_data()).map_err(GroupError::Failed)?;
            self.reserved = used;
            return Err(GroupError::NoSpace(error));
        }
        if self.options.mistake == Some(Mistake::AnswerBeforeSync) {
            return Ok(());
        }
        file.sync_data().map_err(GroupError::Failed)
    }

    /// Lets readers see what has just become durable.
    fn publish(&mut self, entries: &[Entry], headers: &[(EntryHeader, u64)]) {
        let mut view = self.store.change();
        let view = &mut *view;
        let segment = view.segments.last_mut().expect("a log has a segment");
        let base = segment.used;
        let mut offset = base;
        for (entry, (header, end)) in entries.iter().zip(headers) {
            self.head = Head {
                event: header.last(),
                index: header.index,
                term: header.term,
                epoch: header.epoch,
                chain: header.chain,
            };
            segment.note(offset, base + end, self.head);
            offset = base + end;
            for (place, bytes) in entry.events().iter().enumerate() {
                let id = header.first.plus(place as u64);
                view.recent.push(Record { id, epoch: header.epoch, bytes: bytes.clone() });
            }
        }
        view.head = self.head;
    }

    /// Durable events after the cursor; see [`crate::Log::read`].
    pub fn read(&self, after: EventId, max_events: usize) -> Result<Vec<Record>, ReadError> {
        self.store.read(after, max_events)
    }

    /// Opens the next epoch, in which `node` sequences.
    pub fn open_epoch(&mut self, node: NodeId, reason: &str) -> Result<Epoch, GroupError> {
        let entry = Entry::Epoch { node, reason: reason.into() };
        self.append_group(&[entry], &mut Vec::new())?;
        Ok(self.head.epoch)
    }

    /// See [`crate::Log::save_snapshot`].
    pub fn save_snapshot(&self, at: EventId, write: SnapshotWriter) -> Result<(), SnapshotError> {
        snapshot::save(&self.store, at, write)
    }

    /// See [`crate::Log::load_snapshot`].
    pub fn load_snapshot(&self) -> Result<Option<(EventId, Vec<u8>)>, SnapshotError> {
        snapshot::load(&self.store)
    }

    /// The last entry that only the archive has; [`Index::ZERO`] when it has none.
    pub fn last_purged(&self) -> Index {
        self.store.view().archived.last().map_or(Index::ZERO, |archived| archived.end.index)
    }

    /// Removes every entry after `last`: a leader has other entries there. Only entries that were
    /// never committed may go, and none that is archived or in a snapshot can.
    pub fn cut_suffix(&mut self, last: Index) -> Result<(), GroupError> {
        if self.stopped {
            return Err(GroupError::Stopped);
        }
        if last >= self.head.index || self.options.mistake == Some(Mistake::SuffixNotCut) {
            return Ok(());
        }
        assert!(last >= self.last_purged(), "what is archived is committed, and is never cut");
        let cut = self.cut(last);
        self.stopped |= matches!(cut, Err(GroupError::Failed(_)));
        cut
    }

    fn cut(&mut self, last: Index) -> Result<(), GroupError> {
        let store = Arc::clone(&self.store);
        let disk = &*store.disk;
        let (end, used, file) = {
            let view = store.view();
            let place = view.segments.partition_point(|segment| segment.before.index < last);
            // The very first segment may lose all its entries, and stays.
            let place = place.saturating_sub(1);
            let segment = &view.segments[place];
            (segment.before, segment.used, Arc::clone(&segment.file))
        };
        let (head, offset) = find_end(end, used, &file, last).map_err(GroupError::Failed)?;
        let snapshots = Inventory::take(disk, &store.dir).map_err(GroupError::Failed)?.snapshots;
        assert!(
            snapshots.iter().all(|at| *at <= head.event),
            "what a snapshot reflects is committed, and is never cut"
        );
        assert!(
            !store.view().replica.is_used() || store.head().index <= head.index,
            "what is committed is never cut"
        );
        // The mark says what must be there at the next start, so it goes down first. Without space for
        // it nothing has changed.
        let lower = || save_mark(disk, &store.dir, &head);
        self.spend_reserve(lower).map_err(GroupError::of_small_file)?;
        self.cut_files(head, offset, &file).map_err(GroupError::Failed)
    }

    fn cut_files(&mut self, head: Head, offset: u64, file: &Arc<dyn DiskFile>) -> Result<(), DiskError> {
        let store = Arc::clone(&self.store);
        let disk = &*store.disk;
        // The newest first, each durably, so that a crash never leaves a gap.
        loop {
            let path = {
                let mut view = store.change();
                let newest = view.segments.last().expect("a log has a segment");
                if newest.before.index < head.index || view.segments.len() == 1 {
                    break;
                }
                let path = newest.path.clone();
                view.segments.pop();
                let end = view.segments.last().expect("the one with `last` stays").end;
                if !view.replica.is_used() {
                    view.head = end;
                }
                path
            };
            disk.remove(&path)?;
            disk.sync_dir(&store.dir)?;
        }
        file.set_len(offset)?;
        file.sync_data()?;
        let mut view = store.change();
        if !view.replica.is_used() {
            view.recent.clear();
        }
        view.segments.last_mut().expect("a log has a segment").cut(offset, head);
        if view.replica.is_used() {
            view.replica.cut(&head);
        } else {
            view.head = head;
        }
        drop(view);
        self.head = head;
        self.term = self.term.max(head.term);
        self.reserved = offset;
        store.announce();
        Ok(())
    }

    /// Notes how far the log is, so that the next start notices if its end is gone, and gives the
    /// lock back. Without it the log is as safe as after a crash.
    pub fn close(self) -> Result<(), DiskError> {
        if self.stopped {
            return Ok(());
        }
        save_mark(&*self.store.disk, &self.store.dir, &self.head)
    }
}

/// The head after the entry `last`, and where its record ends, in a segment that has it.
fn find_end(
    before: Head,
    used: u64,
    file: &Arc<dyn DiskFile>,
    last: Index,
) -> Result<(Head, u64), DiskError> {
    let mut reader = Reader::new(Source::File(Arc::clone(file)), SEGMENT_HEADER as u64, used, Check::Full);
    let mut head = before;
    let mut found = None;
    loop {
        match reader.next()? {
            Step::Frame(offset, _) if head.index == last => {
                found.get_or_insert(offset);
                break;
            }
            Step::Frame(_, frame) => head = frame.head(),
            Step::End(offset) => {
                found.get_or_insert(offset);
                break;
            }
            Step::Bad(offset, why) => {
                let error = std::io::Error::other(format!("at offset {offset}: {why}"));
                return Err(DiskError::new(Operation::Read, file.path(), error));
            }
        }
    }
    Ok((head, found.unwrap_or(used)))
}

/// The first segment of a new log, with the entry that opens the first epoch.
fn first_segment(format: &Format) -> Vec<u8> {
    let mut bytes = SegmentHeader { log_id: format.log_id(), before: NOTHING }.encode().to_vec();
    let mut header = EntryHeader {
        kind: Kind::Epoch,
        index: Index::new(1),
        term: Term::new(1),
        leader: format.node,
        epoch: Epoch::new(1),
        first: EventId::new(1),
        count: 0,
        chain: [0; 32],
    };
    let entry = Entry::Epoch { node: format.node, reason: "the log was created".into() };
    frame::encode(&mut bytes, &mut header, Index::ZERO, &NOTHING.chain, |out| entry.put(out));
    bytes
}
