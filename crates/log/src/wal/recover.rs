//! Opening a log: what is taken, what is dropped, and what stops the start.
//!
//! Every record that is not archived is read and checked, with the chain. Then:
//!
//! - In a segment that is not the last, everything must be there and right, up to where the next
//!   segment says that it begins.
//! - In the last segment, something that is not a record may be the remains of a write that a
//!   crash tore. A torn write may have lost its beginning and kept its end, so whole records may
//!   stand behind it. But no record written later can know the torn one as durable. If one does,
//!   the torn one was durable once and is now damaged, and the log does not start.
//! - Only then is the tail cut off, and it is reported.
//! - A log that ends before its mark, its newest snapshot or what is noted as committed has lost
//!   something.

use super::{
    archive::{self, Archived},
    format::{
        ARCHIVE, CommittedNote, FORMAT, Format, FormatProblem, Inventory, LOCK, NOTHING, SEGMENT_HEADER,
        SegmentHeader, VERSION, archive_path, load_mark, segment_path, snapshot_path,
    },
    frame::{self, Check, Found},
    machine::{Mistake, Options},
    quarantine,
    read::{Reader, Source, Step},
    repair,
    replica::Replica,
    snapshot,
    store::{Recent, Segment, Store, View},
};
use crate::{Head, ReadError};
use bytes::Bytes;
use rt::{Disk, DiskError, DiskFile, DiskLock};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use types::{EventId, Index, NodeId};

/// So many entries a torn write can have held, at the very most: its smallest record is one frame.
const TORN_ENTRIES: u64 = 1 << 20;

/// What recovery found.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// The end of the log.
    pub head: Head,
    /// The identity of the cluster, as given when the log was created.
    pub cluster: String,
    /// Segments read and checked.
    pub segments: usize,
    /// Segments in the archive.
    pub archived: usize,
    /// What was cut off the end: parts of appends that were never acknowledged.
    pub dropped: Option<Dropped>,
}

/// What was cut off the end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The file.
    pub segment: PathBuf,
    /// Where it was cut.
    pub offset: u64,
    /// How many bytes were behind that, up to the last that was not zero.
    pub bytes: u64,
}

const RESTORE: &str = "run `holdfast log verify` to see all damage, keep a copy of the directory, and \
    bring the file back from a backup; nothing was changed";

/// Why a log does not open. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by another process ({holder}); stop that one, or use another data directory", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// What the other process wrote about itself.
        holder: String,
    },
    /// There is no log.
    #[error("{} holds no log", dir.display())]
    NotCreated {
        /// The directory.
        dir: PathBuf,
    },
    /// A later version wrote it.
    #[error(
        "{} is in log format {found}, and this program knows formats up to {VERSION}; \
         start the newer holdfast that wrote it", dir.display()
    )]
    NewerFormat {
        /// The directory.
        dir: PathBuf,
        /// The version found.
        found: u32,
    },
    /// The file that says what the directory is, cannot be read.
    #[error("{} is damaged; {RESTORE}", path.display())]
    FormatDamaged {
        /// The file.
        path: PathBuf,
    },
    /// A file is not what was written.
    #[error("{} is damaged at offset {offset}: {why}; {RESTORE}", segment.display())]
    Damaged {
        /// The file.
        segment: PathBuf,
        /// Where.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// A file is gone.
    #[error("the log lacks its entries from {from} on, up to {next}: a segment is missing; {RESTORE}", next = next.display())]
    Missing {
        /// The first entry that is missing.
        from: Index,
        /// The file after the gap.
        next: PathBuf,
    },
    /// The log ends before events that were durable.
    #[error(
        "{} ends at offset {offset} with event {found}, but {witness} shows that event {durable} was durable; {RESTORE}",
        segment.display()
    )]
    Shortened {
        /// The last file.
        segment: PathBuf,
        /// Where it ends.
        offset: u64,
        /// Its last event.
        found: EventId,
        /// What was there once.
        durable: EventId,
        /// What shows it.
        witness: String,
    },
    /// Damaged files are being replaced, and not all are.
    #[error("the repair of {} was cut short; start its server, which goes on with it", dir.display())]
    Replacing {
        /// The directory.
        dir: PathBuf,
    },
    /// The disk did not do what was asked.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl OpenError {
    /// Whether a member with others can put back what is wrong; see [`super::Repair`].
    pub fn is_damage(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. } | Self::Missing { .. } | Self::Shortened { .. } | Self::Replacing { .. }
        )
    }
}

/// An opened log directory.
pub(super) struct Opened {
    pub store: Store,
    pub node: NodeId,
    pub reserved: u64,
    pub lock: Box<dyn DiskLock>,
    pub recovered: Recovered,
}

/// A log directory as it is: everything is read and checked, and nothing was changed.
pub(super) struct Looked {
    pub format: Format,
    pub check: Check,
    pub archived: Vec<Archived>,
    pub segments: Segments,
    unfinished: Vec<PathBuf>,
    /// Plain segments that are archived too.
    twice: Vec<PathBuf>,
}

pub(super) fn look(disk: &Arc<dyn Disk>, dir: &Path, options: &Options) -> Result<Looked, OpenError> {
    if !disk.exists(&dir.join(FORMAT))? {
        return Err(OpenError::NotCreated { dir: dir.into() });
    }
    let format = read_format(&**disk, dir)?;
    if repair::is_replacing(&**disk, dir)? {
        return Err(OpenError::Replacing { dir: dir.into() });
    }
    if let Some((segment, why)) = quarantine::suspected(&**disk, dir)? {
        return Err(OpenError::Damaged { segment, offset: 0, why });
    }
    let log_id = format.log_id();
    let check = if options.mistake == Some(Mistake::ChecksumIgnored) { Check::Ignored } else { Check::Full };
    let found = Inventory::take(&**disk, dir)?;
    let archived = open_archive(&**disk, dir, log_id, &found.archived)?;
    let history = archived.last().map_or(NOTHING, |archived| archived.end);
    let (twice, live) = sealed_twice(&**disk, dir, &archived, &found.segments, history)?;
    let segments = open_segments(disk, dir, log_id, history, &live, check)?;
    check_witnesses(&**disk, dir, &segments.all, &found.snapshots, &log_id)?;
    Ok(Looked { format, check, archived, segments, unfinished: found.unfinished, twice })
}

pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path, options: &Options) -> Result<Opened, OpenError> {
    if !disk.exists(&dir.join(FORMAT))? {
        return Err(OpenError::NotCreated { dir: dir.into() });
    }
    let lock = lock(&*disk, dir)?;
    let Looked { format, check, archived, segments, unfinished, twice } = look(&disk, dir, options)?;
    let Segments { all: segments, dropped, mut reserved, last_group } = segments;
    let log_id = format.log_id();
    let last = segments.last().expect("a log has a segment");
    let head = last.end;
    // From here on the directory is changed: leftovers go, the tail is cut, all of it is synced.
    for path in &unfinished {
        disk.remove(path)?;
    }
    repair::clear(&*disk, dir)?;
    quarantine::clear_suspect(&*disk, dir)?;
    if !twice.is_empty() {
        // The archived files may have their names only in the kernel's memory: a process that was
        // killed, or whose disk failed, did not get to make them durable.
        disk.sync_dir(&dir.join(ARCHIVE))?;
    }
    for path in &twice {
        disk.remove(path)?;
    }
    if let Some(dropped) = &dropped
        && options.mistake != Some(Mistake::TailNotCut)
    {
        last.file.set_len(dropped.offset)?;
        reserved = dropped.offset;
        tracing::warn!(segment = %dropped.segment.display(), offset = dropped.offset, bytes = dropped.bytes,
            event = head.event.get(), "cut an incomplete tail that was never acknowledged");
    }
    rewrite_last_group(last, last_group)?;
    disk.sync_dir(dir)?;
    let recovered = Recovered {
        head,
        cluster: format.cluster,
        segments: segments.len(),
        archived: archived.len(),
        dropped,
    };
    let recent = Recent::new(options.recent_bytes);
    let view = View { head, segments, archived, recent, replica: Replica::default() };
    let store = Store::new(disk, dir, log_id, check, view);
    Ok(Opened { store, node: format.node, reserved, lock, recovered })
}

/// Makes the last group durable before anyone reads it. A killed process may have left it in the
/// kernel's memory only; and after a sync that failed, the kernel believes that it is on disk, so
/// that another sync alone would do nothing. Writing the same bytes again makes it do its work.
fn rewrite_last_group(last: &Segment, from: u64) -> Result<(), DiskError> {
    let size = usize::try_from(last.used.saturating_sub(from)).expect("a group fits the address space");
    let mut bytes = vec![0; size];
    let read = last.file.read_at(from, &mut bytes)?;
    last.file.write_at(from, &bytes[..read])?;
    last.file.sync_data()
}

pub(super) fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn DiskLock>, OpenError> {
    let path = dir.join(LOCK);
    match disk.lock(&path, &format!("process {}", std::process::id())) {
        Ok(lock) => Ok(lock),
        Err(error) if error.is_locked() => {
            let holder = disk.read(&path).unwrap_or_default();
            let holder = String::from_utf8_lossy(&holder).trim().to_string();
            Err(OpenError::Locked { dir: dir.into(), holder })
        }
        Err(error) => Err(error.into()),
    }
}

/// The node that the log in this directory belongs to.
///
/// # Errors
/// There is no log, or what says so cannot be read.
pub fn node_of(disk: &dyn Disk, dir: &Path) -> Result<NodeId, OpenError> {
    if !disk.exists(&dir.join(FORMAT))? {
        return Err(OpenError::NotCreated { dir: dir.into() });
    }
    Ok(read_format(disk, dir)?.node)
}

pub(super) fn read_format(disk: &dyn Disk, dir: &Path) -> Result<Format, OpenError> {
    let path = dir.join(FORMAT);
    Format::decode(&disk.read(&path)?).map_err(|problem| match problem {
        FormatProblem::Newer(found) => OpenError::NewerFormat { dir: dir.into(), found },
        FormatProblem::Unreadable => OpenError::FormatDamaged { path },
    })
}

/// Which cluster and which node the log in this directory belongs to; none if there is no log.
/// Reads one small file and changes nothing.
///
/// # Errors
/// It cannot be read, is damaged, or is of a newer Holdfast.
pub fn owner(disk: &dyn Disk, dir: &Path) -> Result<Option<(String, NodeId)>, OpenError> {
    if !disk.exists(&dir.join(FORMAT))? {
        return Ok(None);
    }
    let format = read_format(disk, dir)?;
    Ok(Some((format.cluster, format.node)))
}

/// The archive's headers, in order and without gaps.
fn open_archive(
    disk: &dyn Disk,
    dir: &Path,
    log_id: [u8; 16],
    found: &[Index],
) -> Result<Vec<Archived>, OpenError> {
    let mut archived: Vec<Archived> = Vec::with_capacity(found.len());
    let mut head = NOTHING;
    for first in found {
        let path = archive_path(dir, *first);
        if *first != head.index.next() {
            return Err(OpenError::Missing { from: head.index.next(), next: path });
        }
        let damaged = |why: &str| OpenError::Damaged { segment: path.clone(), offset: 0, why: why.into() };
        let header = Archived::read(disk, &path)?.map_err(damaged)?;
        if header.log_id != log_id {
            return Err(damaged("it belongs to another log"));
        }
        if header.before != head {
            return Err(damaged("it does not chain to the segment before it"));
        }
        head = header.end;
        archived.push(header);
    }
    Ok(archived)
}

/// Plain segments that are archived too, after a crash between the two, and those that are not.
fn sealed_twice(
    disk: &dyn Disk,
    dir: &Path,
    archived: &[Archived],
    segments: &[Index],
    history: Head,
) -> Result<(Vec<PathBuf>, Vec<Index>), OpenError> {
    let mut twice = Vec::new();
    for first in segments.iter().filter(|first| **first <= history.index) {
        let path = segment_path(dir, *first);
        let place = archived.iter().find(|archived| archived.before.index.next() == *first);
        let archived = place.ok_or_else(|| OpenError::Damaged {
            segment: path.clone(),
            offset: 0,
            why: "it overlaps the archive".into(),
        })?;
        archive::unpack(disk, archived).map_err(|error| match error {
            ReadError::Disk(error) => OpenError::Disk(error),
            error => OpenError::Damaged {
                segment: archived.path.clone(),
                offset: 0,
                why: format!(
                    "{error}; the same entries are in {}, so the archived file can be moved away",
                    path.display()
                ),
            },
        })?;
        twice.push(path);
    }
    Ok((twice, segments.iter().copied().filter(|first| *first > history.index).collect()))
}

/// The segments that are not archived, and what is special about the last one.
pub(super) struct Segments {
    pub all: Vec<Segment>,
    pub dropped: Option<Dropped>,
    reserved: u64,
    last_group: u64,
}

fn open_segments(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    log_id: [u8; 16],
    history: Head,
    found: &[Index],
    check: Check,
) -> Result<Segments, OpenError> {
    let mut segments = Vec::with_capacity(found.len());
    let mut head = history;
    let (mut tail, mut last_group) = ((None, 0), 0);
    for (place, first) in found.iter().enumerate() {
        let path = segment_path(dir, *first);
        if *first != head.index.next() {
            return Err(missing_or_damaged(segments.last(), head, path));
        }
        let mut segment = open_segment(&**disk, path, log_id, head)?;
        let last = place + 1 == found.len();
        let walked = go_through(&mut segment, check)?;
        last_group = walked.last_group;
        match walked.stop {
            Stop::Clean if !last => {}
            Stop::Broken(offset, why) if !last => return Err(damaged(&segment, offset, why)),
            stop => tail = judge_tail(&segment, stop)?,
        }
        head = segment.end;
        segments.push(segment);
    }
    if segments.is_empty() {
        return Err(OpenError::Missing { from: history.index.next(), next: dir.to_path_buf() });
    }
    Ok(Segments { all: segments, dropped: tail.0, reserved: tail.1, last_group })
}

/// A gap before the file `next`: the segment before it ends early, or one in between is gone.
fn missing_or_damaged(before: Option<&Segment>, head: Head, next: PathBuf) -> OpenError {
    match before {
        Some(segment) if has_content(segment) => damaged(
            segment,
            segment.used,
            format!("an entry must stand here: the next segment is {}", next.display()),
        ),
        _ => OpenError::Missing { from: head.index.next(), next },
    }
}

/// Whether anything but zeroes stands behind the last record. On doubt, no: the gap is named then.
fn has_content(segment: &Segment) -> bool {
    rest(segment).is_ok_and(|bytes| bytes.iter().any(|byte| *byte != 0))
}

fn rest(segment: &Segment) -> Result<Bytes, DiskError> {
    let size = segment.file.size()?;
    let mut bytes = vec![0; usize::try_from(size.saturating_sub(segment.used)).unwrap_or(0)];
    let read = segment.file.read_at(segment.used, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes.into())
}

pub(super) fn open_segment(
    disk: &dyn Disk,
    path: PathBuf,
    log_id: [u8; 16],
    before: Head,
) -> Result<Segment, OpenError> {
    let file: Arc<dyn DiskFile> = disk.open(&path)?.into();
    let mut bytes = [0; SEGMENT_HEADER];
    let read = file.read_at(0, &mut bytes)?;
    let damaged = |why: &str| OpenError::Damaged { segment: path.clone(), offset: 0, why: why.into() };
    let header = SegmentHeader::decode(&bytes[..read]).map_err(damaged)?;
    if header.log_id != log_id {
        return Err(damaged("it belongs to another log"));
    }
    if header.before != before {
        return Err(damaged("it does not chain to the segment before it"));
    }
    Ok(Segment::new(before, path, file))
}

fn damaged(segment: &Segment, offset: u64, why: impl Into<String>) -> OpenError {
    OpenError::Damaged { segment: segment.path.clone(), offset, why: why.into() }
}

/// What a walk through a segment found.
pub(super) struct Walked {
    pub stop: Stop,
    /// Where the last group begins: the records that were not known to be durable when the last one
    /// was written.
    pub last_group: u64,
}

/// Where the records of a segment stop.
pub(super) enum Stop {
    /// At zeroes or the end of the file.
    Clean,
    /// At something that is not a record.
    Broken(u64, String),
}

/// Takes note of every record of a segment, checking each against the one before.
pub(super) fn go_through(segment: &mut Segment, check: Check) -> Result<Walked, OpenError> {
    let source = Source::File(Arc::clone(&segment.file));
    let mut reader = Reader::new(source, SEGMENT_HEADER as u64, u64::MAX, check);
    let (mut synced, mut last_group) = (None, SEGMENT_HEADER as u64);
    let stop = loop {
        match reader.next()? {
            Step::Frame(offset, frame) => {
                // A whole record in the wrong place is never the work of a crash.
                frame.follows(&segment.end, check).map_err(|why| damaged(segment, offset, why))?;
                segment.note(offset, reader.offset(), frame.head());
                if synced.replace(frame.synced) != Some(frame.synced) {
                    last_group = offset;
                }
            }
            Step::End(_) => break Stop::Clean,
            Step::Bad(offset, why) => break Stop::Broken(offset, why.into()),
        }
    };
    Ok(Walked { stop, last_group })
}

/// What stands behind the last record of the last segment: nothing, a torn tail, or damage. Gives
/// the tail to cut, and how long the file is.
pub(super) fn judge_tail(segment: &Segment, stop: Stop) -> Result<(Option<Dropped>, u64), OpenError> {
    let bytes = rest(segment)?;
    let length = segment.used + bytes.len() as u64;
    let Some(last) = bytes.iter().rposition(|byte| *byte != 0) else {
        // A file that does not end at a multiple of the alignment is brought there by the cut.
        return Ok((None, length));
    };
    let lost = segment.end.index.next();
    if let Some(offset) = find_witness(&bytes, lost) {
        let what = match stop {
            Stop::Clean => "there is nothing where an entry must stand".to_string(),
            Stop::Broken(_, why) => format!("what stands there is not an entry: {why}"),
        };
        let behind = segment.used + offset as u64;
        let why = format!("{what}; the entry at offset {behind} shows that entry {lost} was durable");
        return Err(damaged(segment, segment.used, why));
    }
    let dropped = Dropped { segment: segment.path.clone(), offset: segment.used, bytes: last as u64 + 1 };
    Ok((Some(dropped), length))
}

/// A whole record that was written when the entry `lost` was already durable.
fn find_witness(bytes: &Bytes, lost: Index) -> Option<usize> {
    let range = lost.get()..=lost.get() + TORN_ENTRIES;
    (0..bytes.len()).step_by(frame::ALIGN).find(|at| {
        if !frame::may_begin(&bytes[*at..], &range) {
            return false;
        }
        match frame::decode(&bytes.slice(*at..), Check::Full) {
            Found::Frame(frame, _) => frame.synced >= lost,
            _ => false,
        }
    })
}

/// The log must reach at least as far as what is known to have been durable.
fn check_witnesses(
    disk: &dyn Disk,
    dir: &Path,
    segments: &[Segment],
    snapshots: &[EventId],
    log_id: &[u8; 16],
) -> Result<(), OpenError> {
    let last = segments.last().expect("a log has a segment");
    let shortened = |durable, witness: String| OpenError::Shortened {
        segment: last.path.clone(),
        offset: last.used,
        found: last.end.event,
        durable,
        witness,
    };
    if let Some(mark) = load_mark(disk, dir)? {
        if mark.index > last.end.index {
            return Err(shortened(mark.event, "the mark of the last clean stop".into()));
        }
        let ends = segments.iter().map(|segment| segment.end).chain(segments.iter().map(|s| s.before));
        for head in ends.filter(|head| head.index == mark.index) {
            if head.chain != mark.chain {
                return Err(damaged(last, 0, "its history is not the one that the mark was made in"));
            }
        }
    }
    let noted = CommittedNote::load(disk, dir)?.map_or(NOTHING, |note| note.head);
    if noted.index > last.end.index {
        return Err(shortened(noted.event, "the note of what the cluster had committed".into()));
    }
    for at in snapshots.iter().rev().take_while(|at| **at > last.end.event) {
        let path = snapshot_path(dir, *at);
        if snapshot::decode(&disk.read(&path)?, log_id, *at).is_ok() {
            return Err(shortened(*at, format!("the snapshot {}", path.display())));
        }
    }
    Ok(())
}
