//! What is durable, as readers see it: shared between the writer and everyone who reads.
//!
//! The lock is held to look something up or to publish, never over I/O. Readers take the open file
//! and the place from here and read without the lock: what is durable does not change any more.

use super::{
    archive::{self, Archived},
    aside::Aside,
    format::SEGMENT_HEADER,
    frame::Check,
    read::{Reader, Source, Step},
    replica::Replica,
};
use crate::{Head, ReadError, Record};
use bytes::Bytes;
use rt::{Disk, DiskFile};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard},
};
use tokio::sync::watch;
use types::{EventId, Index};

/// Places are remembered this many bytes apart.
const MARK_EVERY: u64 = 16 << 10;
/// One read gives at most about this many bytes, so that a reader's memory is bounded.
const READ_BYTES: usize = 16 << 20;

/// A segment that is not archived.
#[derive(Debug)]
pub(super) struct Segment {
    /// The head before its first entry.
    pub before: Head,
    /// The head after its last durable entry.
    pub end: Head,
    pub path: PathBuf,
    pub file: Arc<dyn DiskFile>,
    /// Where its durable records end.
    pub used: u64,
    /// Some of its entries and where their records begin.
    marks: Vec<Mark>,
}

/// Where the record of an entry begins.
#[derive(Clone, Copy, Debug)]
struct Mark {
    index: Index,
    event: EventId,
    offset: u64,
}

impl Segment {
    pub(super) fn new(before: Head, path: PathBuf, file: Arc<dyn DiskFile>) -> Self {
        Self { before, end: before, path, file, used: SEGMENT_HEADER as u64, marks: Vec::new() }
    }

    /// Takes note of a durable record that begins at `offset` and after which the head is `end`.
    pub(super) fn note(&mut self, offset: u64, next: u64, end: Head) {
        if self.marks.last().is_none_or(|mark| offset >= mark.offset + MARK_EVERY) {
            self.marks.push(Mark { index: self.end.index.next(), event: self.end.event.next(), offset });
        }
        self.end = end;
        self.used = next;
    }

    /// Forgets everything from `used` on.
    pub(super) fn cut(&mut self, used: u64, end: Head) {
        self.marks.retain(|mark| mark.offset < used);
        self.used = used;
        self.end = end;
    }

    /// Where to begin reading for this event.
    fn place(&self, event: EventId) -> u64 {
        let after = self.marks.partition_point(|mark| mark.event <= event);
        after.checked_sub(1).map_or(SEGMENT_HEADER as u64, |at| self.marks[at].offset)
    }

    /// Where to begin reading for this entry.
    pub(super) fn place_of(&self, index: Index) -> u64 {
        let after = self.marks.partition_point(|mark| mark.index <= index);
        after.checked_sub(1).map_or(SEGMENT_HEADER as u64, |at| self.marks[at].offset)
    }
}

/// The last events, kept in memory: whoever follows the log reads these.
#[derive(Debug)]
pub(super) struct Recent {
    records: VecDeque<Record>,
    bytes: usize,
    limit: usize,
}

impl Recent {
    pub(super) fn new(limit: usize) -> Self {
        Self { records: VecDeque::new(), bytes: 0, limit }
    }

    pub(super) fn push(&mut self, record: Record) {
        self.bytes += record.bytes.len() + size_of::<Record>();
        self.records.push_back(record);
        while self.bytes > self.limit {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.bytes.len() + size_of::<Record>();
        }
    }

    pub(super) fn clear(&mut self) {
        self.records.clear();
        self.bytes = 0;
    }

    /// `None` unless the event after the cursor is here.
    fn after(&self, after: EventId, max: usize) -> Option<Vec<Record>> {
        let first = self.records.front()?.id;
        let skip = usize::try_from(after.next().get().checked_sub(first.get())?).ok()?;
        if skip >= self.records.len() {
            return None;
        }
        Some(self.records.range(skip..).take(max).cloned().collect())
    }
}

/// Everything readers look at.
#[derive(Debug)]
pub(super) struct View {
    /// The end of what readers may see: what is durable and, in a cluster, committed.
    pub head: Head,
    /// In order; the last one is written to.
    pub segments: Vec<Segment>,
    /// In order, all before the first segment.
    pub archived: Vec<Archived>,
    pub recent: Recent,
    /// What a member of a cluster has besides; empty in a log of one machine.
    pub replica: Replica,
}

/// A log directory and what is durable in it.
#[derive(Debug)]
pub(super) struct Store {
    pub disk: Arc<dyn Disk>,
    pub dir: PathBuf,
    pub log_id: [u8; 16],
    pub check: Check,
    view: RwLock<View>,
    durable: watch::Sender<EventId>,
    /// Held by whoever saves a snapshot or seals segments: one at a time.
    pub sealing: Mutex<()>,
    /// The archived segment read last, unpacked: a replay reads each of them many times in a row.
    unpacked: Mutex<Option<(Index, Bytes)>>,
    /// The last entry that is noted on disk as committed; held while a note is written.
    noted: Mutex<Index>,
    /// What is kept aside.
    aside: Mutex<Vec<Aside>>,
}

/// Where the next records for a reader are.
enum Place {
    Ready(Vec<Record>),
    Segment { path: PathBuf, reader: Reader, until: EventId },
    Archived(Archived),
}

impl Store {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, log_id: [u8; 16], check: Check, view: View) -> Self {
        Self {
            disk,
            dir: dir.to_path_buf(),
            log_id,
            check,
            durable: watch::Sender::new(view.head.event),
            view: RwLock::new(view),
            sealing: Mutex::new(()),
            unpacked: Mutex::new(None),
            noted: Mutex::new(Index::ZERO),
            aside: Mutex::default(),
        }
    }

    pub(super) fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().expect("no code panics while it holds this lock")
    }

    /// For the writer and the sealer, to publish what they made durable.
    pub(super) fn change(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().expect("no code panics while it holds this lock")
    }

    pub(super) fn noted(&self) -> MutexGuard<'_, Index> {
        self.noted.lock().expect("no code panics while it holds this lock")
    }

    pub(super) fn kept_aside(&self) -> MutexGuard<'_, Vec<Aside>> {
        self.aside.lock().expect("no code panics while it holds this lock")
    }

    /// Wakes subscribers when the head they know is no longer the head.
    pub(super) fn announce(&self) {
        let head = self.head().event;
        self.durable.send_if_modified(|known| std::mem::replace(known, head) != head);
    }

    pub(super) fn head(&self) -> Head {
        self.view().head
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<EventId> {
        self.durable.subscribe()
    }

    /// Events after the cursor, in order and without gaps; empty only at the head.
    pub(super) fn read(&self, after: EventId, max: usize) -> Result<Vec<Record>, ReadError> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let mut cursor = after;
        while records.len() < max && bytes < READ_BYTES {
            let more = self.read_some(cursor, max - records.len())?;
            let Some(last) = more.last() else { break };
            cursor = last.id;
            bytes += more.iter().map(|record| record.bytes.len()).sum::<usize>();
            records.extend(more);
        }
        Ok(records)
    }

    /// As [`Self::read`], from one place only.
    fn read_some(&self, after: EventId, max: usize) -> Result<Vec<Record>, ReadError> {
        match self.find(after, max)? {
            Place::Ready(records) => Ok(records),
            Place::Segment { path, reader, until } => collect(reader, &path, after, until, max),
            Place::Archived(archived) => {
                let content = self.unpack(&archived)?;
                let limit = content.len() as u64;
                let reader = Reader::new(Source::Memory(content), SEGMENT_HEADER as u64, limit, self.check);
                collect(reader, &archived.path, after, archived.end.event, max)
            }
        }
    }

    fn find(&self, after: EventId, max: usize) -> Result<Place, ReadError> {
        let view = self.view();
        if after > view.head.event {
            return Err(ReadError::Ahead { after, head: view.head.event });
        }
        if after == view.head.event {
            return Ok(Place::Ready(Vec::new()));
        }
        if let Some(records) = view.recent.after(after, max) {
            return Ok(Place::Ready(records));
        }
        // A segment without events ends where it begins, and so is never the one.
        let segment = view.segments.partition_point(|segment| segment.end.event <= after);
        if let Some(segment) = view.segments.get(segment)
            && segment.before.event <= after
        {
            let source = Source::File(Arc::clone(&segment.file));
            let reader = Reader::new(source, segment.place(after.next()), segment.used, self.check);
            return Ok(Place::Segment { path: segment.path.clone(), reader, until: view.head.event });
        }
        let archived = view.archived.partition_point(|archived| archived.end.event <= after);
        let archived = view.archived.get(archived).expect("recovery has seen that nothing is missing");
        Ok(Place::Archived(archived.clone()))
    }

    pub(super) fn unpack(&self, archived: &Archived) -> Result<Bytes, ReadError> {
        let first = archived.before.index.next();
        let known = self.unpacked.lock().expect("no code panics while it holds this lock").clone();
        if let Some((at, content)) = known
            && at == first
        {
            return Ok(content);
        }
        let content = archive::unpack(&*self.disk, archived)?;
        *self.unpacked.lock().expect("no code panics while it holds this lock") =
            Some((first, content.clone()));
        Ok(content)
    }
}

/// Events after the cursor and up to `until`, from one segment that has the next one.
fn collect(
    mut reader: Reader,
    path: &Path,
    after: EventId,
    until: EventId,
    max: usize,
) -> Result<Vec<Record>, ReadError> {
    let damaged =
        |offset, why: &str| ReadError::Damaged { path: path.to_path_buf(), offset, why: why.into() };
    let mut records: Vec<Record> = Vec::new();
    let mut bytes = 0;
    while records.len() < max && bytes < READ_BYTES && records.last().is_none_or(|last| last.id < until) {
        let (offset, frame) = match reader.next().map_err(ReadError::Disk)? {
            Step::Frame(offset, frame) => (offset, frame),
            Step::End(offset) if records.is_empty() => {
                return Err(damaged(offset, "events that were there are missing"));
            }
            Step::End(_) => break,
            Step::Bad(offset, why) => return Err(damaged(offset, why)),
        };
        let events = frame.events().map_err(|why| damaged(offset, &why))?;
        let first = frame.header.first;
        for (place, event) in events.into_iter().enumerate() {
            let id = first.plus(place as u64);
            if id > after && id <= until && records.len() < max {
                if id != records.last().map_or(after, |last| last.id).next() {
                    return Err(damaged(offset, "its events do not follow those before"));
                }
                bytes += event.len();
                records.push(Record { id, epoch: frame.header.epoch, bytes: event });
            }
        }
    }
    Ok(records)
}
