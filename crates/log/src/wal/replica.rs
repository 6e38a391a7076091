//! What the log of a cluster's member knows besides: entries that are not committed yet, and the
//! newest entries as they are sent to others.
//!
//! ```text
//!   archive … segments …  │ committed: readers see it │ durable here │ handed over │
//!                                                     ▲ head         ▲ tail        ▲ hot
//! ```
//!
//! Invariants:
//!
//! - Readers see an event only once its entry is committed: what a majority holds is never cut.
//! - Whether a proposal takes effect follows from the entries before it alone, so it is settled when
//!   it is written, and every member settles it alike.
//! - `committed` on disk may lag behind; it never runs ahead.

use super::{
    format::{COMMITTED, CommittedNote, FORMAT, Format, MEMBER, MembersNote, NOTHING, PLAIN, Vote},
    frame::Frame,
    machine::{Entry, GroupError, Wal},
    member::OpenMemberError,
    read::{Reader, Source, Step},
    recover::{OpenError, read_format},
    snapshot,
    store::{Store, View},
};
use crate::{Chain, EntryHeader, Head, Kind, ReadError, Record, entry};
use bytes::Bytes;
use rt::DiskError;
use std::{collections::VecDeque, path::Path, sync::Arc};
use types::{Index, NodeId, Term};

/// So many bytes of the newest entries are kept in memory for members that follow closely.
const HOT_BYTES: usize = 32 << 20;
/// So many bytes of events may wait for their commit in memory; what is beyond is read from disk.
const WAITING_BYTES: usize = 32 << 20;

/// An entry as the consensus layer places it. Its index is the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawEntry {
    /// What it carries.
    pub kind: Kind,
    /// The term of its leader.
    pub term: Term,
    /// Who led that term.
    pub leader: NodeId,
    /// What stands in it, in the form of its kind.
    pub payload: Bytes,
}

/// What became of an entry that is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The end of the log with it.
    pub head: Head,
    /// How many events it has.
    pub events: u64,
}

/// An entry that is durable here and not known to be committed.
#[derive(Debug)]
struct Waiting {
    end: Head,
    /// Its events; `None` if they are to be read from disk.
    records: Option<Vec<Record>>,
    /// Who the members are with it, if it says so.
    members: Option<MembersNote>,
}

/// What a directory itself says of the cluster's commits.
#[derive(Debug)]
pub(super) struct Known {
    pub committed: Head,
    members: Option<MembersNote>,
    waiting: VecDeque<Waiting>,
    noted: Index,
}

/// See the top of this file.
#[derive(Debug, Default)]
pub(super) struct Replica {
    used: bool,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    hot: VecDeque<RawEntry>,
    /// The index of the first entry in `hot`.
    hot_from: u64,
    hot_bytes: usize,
    /// The last committed entry that changed the members.
    members: Option<MembersNote>,
}

impl Replica {
    /// Whether this is the log of a cluster's member.
    pub(super) fn is_used(&self) -> bool {
        self.used
    }

    /// Forgets everything after `end`.
    pub(super) fn cut(&mut self, end: &Head) {
        self.waiting.retain(|waiting| waiting.end.index <= end.index);
        self.waiting_bytes = self.waiting.iter().map(Waiting::bytes).sum();
        self.forget_hot_after(end.index);
    }

    fn forget_hot_after(&mut self, last: Index) {
        let keep = (last.get() + 1).saturating_sub(self.hot_from);
        self.hot.truncate(usize::try_from(keep).unwrap_or(usize::MAX));
        self.hot_bytes = self.hot.iter().map(RawEntry::bytes).sum();
        // What comes next stands behind `last`, even if none of it was in memory.
        self.hot_from = self.hot_from.min(last.get() + 1);
    }

    fn wait(&mut self, mut waiting: Waiting) {
        let bytes = waiting.bytes();
        if self.waiting_bytes + bytes > WAITING_BYTES {
            waiting.records = None;
        } else {
            self.waiting_bytes += bytes;
        }
        self.waiting.push_back(waiting);
    }

    /// The entries from `from` on, if the first of them is here.
    fn hot(&self, from: Index, until: Index, max_bytes: usize) -> Option<Vec<(Index, RawEntry)>> {
        let skip = usize::try_from(from.get().checked_sub(self.hot_from)?).ok()?;
        if skip >= self.hot.len() {
            return None;
        }
        let mut bytes = 0;
        let mut found = Vec::new();
        for (place, entry) in self.hot.iter().enumerate().skip(skip) {
            let index = Index::new(self.hot_from + place as u64);
            bytes += entry.bytes();
            if index >= until || (bytes > max_bytes && !found.is_empty()) {
                break;
            }
            found.push((index, entry.clone()));
        }
        Some(found)
    }
}

impl Waiting {
    /// An entry as it stands on disk.
    fn read(end: Head, frame: &Frame) -> Self {
        Self { end, records: None, members: members_in(frame) }
    }

    fn bytes(&self) -> usize {
        let records = self.records.iter().flatten();
        records.map(|record| record.bytes.len() + size_of::<Record>()).sum()
    }
}

impl RawEntry {
    fn bytes(&self) -> usize {
        self.payload.len() + size_of::<Self>()
    }
}

/// Who the members are with this entry, if it says so.
fn members_in(frame: &Frame) -> Option<MembersNote> {
    let EntryHeader { kind, index, term, leader, .. } = frame.header;
    (kind == Kind::Membership).then(|| MembersNote { index, term, leader, payload: frame.payload.clone() })
}

impl View {
    /// The end of what is durable here.
    pub(super) fn tail(&self) -> Head {
        self.segments.last().expect("a log has a segment").end
    }
}

impl Store {
    /// How far the log is certainly committed, who the members were there, and what comes behind it.
    ///
    /// What is archived or in a snapshot was committed, whatever became of the note.
    pub(super) fn known_committed(&self) -> Result<Known, ReadError> {
        let noted = CommittedNote::load(&*self.disk, &self.dir).map_err(ReadError::Disk)?;
        let noted = noted.unwrap_or(CommittedNote { head: NOTHING, members: None });
        self.check_noted(&noted.head)?;
        let sealed = self.view().archived.last().map_or(NOTHING, |archived| archived.end);
        let shown = snapshot::newest_after(self, noted.head.event).map_err(ReadError::Disk)?;
        let mut members = noted.members;
        let mut committed = noted.head;
        let mut waiting = VecDeque::new();
        self.walk(noted.head.index.next(), |head, frame| {
            if head.index <= sealed.index || committed.event < shown {
                committed = head;
                members = members_in(frame).or(members.take());
            } else {
                waiting.push_back(Waiting::read(head, frame));
            }
            true
        })?;
        Ok(Known { committed, members, waiting, noted: noted.head.index })
    }

    /// From now on this is the log of a cluster's member: what is behind the noted commit is not
    /// known to be committed. Before anyone reads.
    pub(super) fn become_member(&self) -> Result<(), ReadError> {
        let known = self.known_committed()?;
        let mut view = self.change();
        view.replica = Replica { used: true, members: known.members, ..Replica::default() };
        view.replica.hot_from = view.tail().index.get() + 1;
        known.waiting.into_iter().for_each(|waiting| view.replica.wait(waiting));
        view.head = known.committed;
        drop(view);
        *self.noted() = known.noted;
        self.announce();
        Ok(())
    }

    /// The chain says whether what was committed is what is there.
    fn check_noted(&self, noted: &Head) -> Result<(), ReadError> {
        let found = self.head_at(noted.index)?;
        if found.is_none_or(|found| found.chain == noted.chain) && noted.index <= self.view().tail().index {
            return Ok(());
        }
        Err(ReadError::Damaged {
            path: self.dir.join(COMMITTED),
            offset: 0,
            why: format!("what was committed at entry {} is not what stands in the log", noted.index),
        })
    }

    /// The head after an entry of a plain segment; `None` for one that is archived, and for 0.
    fn head_at(&self, index: Index) -> Result<Option<Head>, ReadError> {
        let mut found = None;
        if self.view().archived.last().map_or(Index::ZERO, |archived| archived.end.index) < index {
            self.walk(index, |head, _| {
                found = Some(head);
                false
            })?;
        }
        Ok(found)
    }

    /// Hands entries over: they can be read for others at once, and are durable once the writer says so.
    pub(super) fn hand_over(&self, entries: &[RawEntry]) {
        let mut view = self.change();
        let tail = view.tail().index;
        let replica = &mut view.replica;
        replica.hot.extend(entries.iter().cloned());
        replica.hot_bytes += entries.iter().map(RawEntry::bytes).sum::<usize>();
        while replica.hot_bytes > HOT_BYTES && replica.hot_from <= tail.get() {
            let Some(oldest) = replica.hot.pop_front() else { break };
            replica.hot_from += 1;
            replica.hot_bytes -= oldest.bytes();
        }
    }

    /// Forgets what was handed over after `last`, before the writer cuts it.
    pub(super) fn take_back(&self, last: Index) {
        self.change().replica.forget_hot_after(last);
    }

    /// The last entry there is, durable or only handed over.
    pub(super) fn newest(&self) -> Index {
        let view = self.view();
        let handed_over = view.replica.hot_from + view.replica.hot.len() as u64 - 1;
        view.tail().index.max(Index::new(handed_over))
    }

    /// Makes everything up to `index` visible. `None` while that is not durable here.
    pub(super) fn commit(&self, index: Index) -> Option<Committed> {
        let mut view = self.change();
        if view.head.index >= index {
            // Told again after a restart; what it was, is in the log.
            return Some(Committed { head: view.head, events: 0 });
        }
        if view.tail().index < index {
            return None;
        }
        let view = &mut *view;
        let mut events = 0;
        while view.head.index < index {
            let next = view.replica.waiting.pop_front().expect("up to the tail all wait");
            let Waiting { end, records, members } = next;
            if members.is_some() {
                view.replica.members = members;
            }
            events = end.event.get() - view.head.event.get();
            match records {
                Some(records) => {
                    for record in records {
                        view.replica.waiting_bytes -= record.bytes.len() + size_of::<Record>();
                        view.recent.push(record);
                    }
                }
                // Those before it would no longer join what comes after it.
                None if events > 0 => view.recent.clear(),
                None => {}
            }
            view.head = end;
        }
        Some(Committed { head: view.head, events })
    }

    /// Notes on disk how far the log is committed, and who the members are there. Whoever comes with
    /// older news finds it noted already.
    pub(super) fn note_committed(&self) -> Result<(), DiskError> {
        let mut noted = self.noted();
        let note = {
            let view = self.view();
            CommittedNote { head: view.head, members: view.replica.members.clone() }
        };
        if note.head.index > *noted {
            note.save(&*self.disk, &self.dir)?;
            *noted = note.head.index;
        }
        Ok(())
    }

    /// As [`Self::entries`], if the first of them is in memory.
    pub(super) fn hot_entries(
        &self,
        from: Index,
        until: Index,
        max_bytes: usize,
    ) -> Option<Vec<(Index, RawEntry)>> {
        self.view().replica.hot(from, until, max_bytes)
    }

    /// Entries from `from` up to and without `until`, as they were handed over; at least one if there
    /// is one, and about `max_bytes` at most. From memory, segments or the archive.
    pub(super) fn entries(
        &self,
        from: Index,
        until: Index,
        max_bytes: usize,
    ) -> Result<Vec<(Index, RawEntry)>, ReadError> {
        if let Some(found) = self.hot_entries(from, until, max_bytes) {
            return Ok(found);
        }
        let mut found = Vec::new();
        let mut bytes = 0;
        self.walk(from, |head, frame| {
            let header = frame.header;
            let entry = RawEntry {
                kind: header.kind,
                term: header.term,
                leader: header.leader,
                payload: frame.payload.clone(),
            };
            bytes += entry.bytes();
            if head.index >= until || (bytes > max_bytes && !found.is_empty()) {
                return false;
            }
            found.push((head.index, entry));
            true
        })?;
        Ok(found)
    }

    /// The first entry of each term in a range, with that term's leader; the range's own first too.
    pub(super) fn leaders(&self, first: Index, last: Index) -> Result<Vec<(Index, Term, NodeId)>, ReadError> {
        let spans: Vec<(Head, Head)> = {
            let view = self.view();
            let archived = view.archived.iter().map(|archived| (archived.before, archived.end));
            archived.chain(view.segments.iter().map(|segment| (segment.before, segment.end))).collect()
        };
        let mut found: Vec<(Index, Term, NodeId)> = Vec::new();
        for (before, end) in spans {
            // A segment of one term, which began before it, has nothing to tell.
            let tells = before.term != end.term || found.is_empty();
            if !tells || end.index < first || before.index >= last {
                continue;
            }
            self.walk(before.index.next().max(first), |head, frame| {
                if found.last().is_none_or(|(_, term, _)| *term != head.term) {
                    found.push((head.index, head.term, frame.header.leader));
                }
                head.index < end.index && head.index < last && head.term < end.term
            })?;
        }
        Ok(found)
    }

    /// The last committed entry that opened an epoch: its index, term, leader and payload.
    pub(super) fn last_epoch(&self) -> Result<Option<(Index, RawEntry)>, ReadError> {
        let (committed, spans) = {
            let view = self.view();
            let archived = view.archived.iter().map(|archived| (archived.before, archived.end));
            let live = view.segments.iter().map(|segment| (segment.before, segment.end));
            (view.head.index, archived.chain(live).collect::<Vec<_>>())
        };
        for (before, end) in spans.into_iter().rev() {
            if before.epoch == end.epoch || before.index >= committed {
                continue;
            }
            let mut found = None;
            self.walk(before.index.next(), |head, frame| {
                if head.index <= committed && frame.header.kind == Kind::Epoch {
                    let (kind, term, leader) = (frame.header.kind, frame.header.term, frame.header.leader);
                    found =
                        Some((head.index, RawEntry { kind, term, leader, payload: frame.payload.clone() }));
                }
                head.index < end.index && head.index < committed
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The last committed entry that changed the members.
    pub(super) fn members(&self) -> Option<MembersNote> {
        self.view().replica.members.clone()
    }

    /// Gives every durable entry from `from` on, with the head after it, until told to stop.
    pub(super) fn walk(
        &self,
        from: Index,
        mut each: impl FnMut(Head, &Frame) -> bool,
    ) -> Result<(), ReadError> {
        let mut next = from.max(Index::new(1));
        loop {
            let (reader, path, end) = {
                let view = self.view();
                if next > view.tail().index {
                    return Ok(());
                }
                let archived = view.archived.partition_point(|archived| archived.end.index < next);
                if let Some(archived) = view.archived.get(archived).cloned() {
                    drop(view);
                    let content = self.unpack(&archived)?;
                    let limit = content.len() as u64;
                    let start = super::format::SEGMENT_HEADER as u64;
                    let reader = Reader::new(Source::Memory(content), start, limit, self.check);
                    (reader, archived.path, archived.end.index)
                } else {
                    let place = view.segments.partition_point(|segment| segment.end.index < next);
                    let segment = &view.segments[place];
                    let source = Source::File(segment.file.clone());
                    let reader = Reader::new(source, segment.place_of(next), segment.used, self.check);
                    (reader, segment.path.clone(), segment.end.index)
                }
            };
            if !walk_one(reader, &path, next, end, &mut each)? {
                return Ok(());
            }
            next = end.next();
        }
    }
}

/// The entries of one segment, from `from` to `end`. False when told to stop.
fn walk_one(
    mut reader: Reader,
    path: &Path,
    from: Index,
    end: Index,
    each: &mut impl FnMut(Head, &Frame) -> bool,
) -> Result<bool, ReadError> {
    let damaged = |offset, why: &str| ReadError::Damaged { path: path.into(), offset, why: why.into() };
    loop {
        match reader.next().map_err(ReadError::Disk)? {
            Step::Frame(_, frame) if frame.header.index < from => {}
            Step::Frame(_, frame) => {
                let head = frame.head();
                if !each(head, &frame) {
                    return Ok(false);
                }
                if head.index >= end {
                    return Ok(true);
                }
            }
            Step::End(offset) => return Err(damaged(offset, "entries that were there are missing")),
            Step::Bad(offset, why) => return Err(damaged(offset, why)),
        }
    }
}

impl Wal {
    /// Whether this log was written without consensus.
    pub(super) fn is_plain(&self) -> Result<bool, OpenError> {
        Ok(read_format(&*self.store.disk, &self.store.dir)?.version == PLAIN)
    }

    /// Makes the log of one machine that of a cluster's first member. All of it is committed: it had
    /// one writer, which asked nobody.
    ///
    /// `members` says who the members are from now on. The version is raised last, so that a crash
    /// leaves a log of one machine, or a member whose cluster is founded and whose commits are noted.
    /// The term of the old entries has been led: whoever leads next is elected in a later one.
    pub(super) fn found(&mut self, members: Bytes) -> Result<(), OpenMemberError> {
        let store = Arc::clone(&self.store);
        let (disk, dir) = (&*store.disk, &store.dir);
        let format = read_format(disk, dir)?;
        let mut last = None;
        store.walk(self.head.index, |_, frame| {
            last = members_in(frame);
            true
        })?;
        if last.is_none() {
            let entry = Entry::Membership(members.clone());
            self.append_group(&[entry], &mut Vec::new()).map_err(unfounded)?;
            let Head { index, term, .. } = self.head;
            last = Some(MembersNote { index, term, leader: format.node, payload: members });
        }
        let led = Vote { term: self.head.term, voted_for: Some(format.node) };
        if Vote::load(disk, dir)?.term < led.term {
            self.spend_reserve(|| led.save(disk, dir)).map_err(OpenMemberError::from_disk)?;
        }
        let note = CommittedNote { head: self.head, members: last };
        self.spend_reserve(|| note.save(disk, dir)).map_err(OpenMemberError::from_disk)?;
        // An older program must not take it for its own any more.
        let format = Format { version: MEMBER, ..format };
        let raise = || rt::replace_file(disk, &dir.join(FORMAT), format.encode().as_bytes());
        self.spend_reserve(raise).map_err(OpenMemberError::from_disk)
    }

    /// Appends entries as they were placed, with one write and one sync. They are durable when it
    /// returns, and nobody sees their events before [`Store::commit`].
    pub fn append_raw(&mut self, entries: &[RawEntry]) -> Result<(), GroupError> {
        if self.stopped {
            return Err(GroupError::Stopped);
        }
        if entries.is_empty() {
            return Ok(());
        }
        self.buffer.clear();
        let mut written = Vec::with_capacity(entries.len());
        let (mut head, synced) = (self.head, self.head.index);
        for entry in entries {
            let (mut header, events) = place(entry, &head);
            super::frame::encode(&mut self.buffer, &mut header, synced, &head.chain, |out| {
                out.extend_from_slice(&entry.payload);
            });
            head = head_after(&header, header.chain);
            let EntryHeader { kind, index, term, leader, .. } = header;
            let payload = entry.payload.clone();
            let members = (kind == Kind::Membership).then_some(MembersNote { index, term, leader, payload });
            written.push((header, self.buffer.len() as u64, events, members));
        }
        self.make_durable()?;
        let mut view = self.store.change();
        let view = &mut *view;
        let segment = view.segments.last_mut().expect("a log has a segment");
        let base = segment.used;
        let mut offset = base;
        for (header, end, events, members) in written {
            self.head = head_after(&header, header.chain);
            segment.note(offset, base + end, self.head);
            offset = base + end;
            let record =
                |(place, bytes)| Record { id: header.first.plus(place as u64), epoch: header.epoch, bytes };
            let records = Some(events.into_iter().enumerate().map(record).collect());
            view.replica.wait(Waiting { end: self.head, records, members });
        }
        Ok(())
    }
}

/// The header of an entry after this head, without its chain, and the events it brings.
fn place(entry: &RawEntry, before: &Head) -> (EntryHeader, Vec<Bytes>) {
    assert!(entry.term >= before.term, "terms never fall");
    let events = match entry.kind {
        Kind::Batch => entry::events_in(&entry.payload, 0),
        Kind::Proposal if entry::takes_effect(&entry.payload, before).unwrap_or(false) => {
            entry::events_in(&entry.payload, entry::PROPOSAL)
        }
        _ => Ok(Vec::new()),
    };
    let events = events.expect("entries are checked where they come in");
    let header = EntryHeader {
        kind: entry.kind,
        index: before.index.next(),
        term: entry.term,
        leader: entry.leader,
        epoch: before.epoch.plus(u64::from(entry.kind == Kind::Epoch)),
        first: before.event.next(),
        count: u32::try_from(events.len()).expect("a batch is smaller than that"),
        chain: [0; 32],
    };
    (header, events)
}

fn head_after(header: &EntryHeader, chain: Chain) -> Head {
    Head { event: header.last(), index: header.index, term: header.term, epoch: header.epoch, chain }
}

/// Whether the payload is in the form of its kind: what comes from another machine is checked before
/// it is written.
pub fn check(entry: &RawEntry) -> Result<(), String> {
    // Without an event it would be written, and the log would never open again.
    let some = |events: Vec<Bytes>| match events.is_empty() {
        true => Err("it has no event".to_owned()),
        false => Ok(()),
    };
    match entry.kind {
        Kind::Batch => some(entry::events_in(&entry.payload, 0)?),
        Kind::Proposal => {
            entry::takes_effect(&entry.payload, &super::format::NOTHING)?;
            some(entry::events_in(&entry.payload, entry::PROPOSAL)?)
        }
        Kind::Epoch if entry.payload.len() < 16 => Err("an epoch names no node".into()),
        Kind::Blank | Kind::Membership | Kind::Epoch => Ok(()),
    }
}

pub(super) fn unfounded(error: GroupError) -> OpenMemberError {
    let error = error.into_disk().expect("nothing was written before");
    OpenMemberError::from_disk(error)
}
