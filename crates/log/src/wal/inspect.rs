//! Looking at a log without opening it for writing: `log verify` and `log cat`.
//!
//! Both only read and need no lock, so they work on a copy, on a log that does not start, and on
//! one that is in use (whose very end may then be in the middle of a write).

use super::{
    archive::{self, Archived},
    format::{
        Format, Inventory, NOTHING, SEGMENT_HEADER, SegmentHeader, archive_path, load_mark, segment_path,
        snapshot_path,
    },
    frame::Check,
    read::{Reader, Source, Step},
    recover::{self, OpenError, Stop},
    snapshot,
    store::Segment,
};
use crate::{EntryHeader, Head, Kind};
use bytes::Bytes;
use rt::{Disk, DiskError};
use std::{
    fmt,
    path::{Path, PathBuf},
};
use types::{EventId, Index};

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at offset {}: {}", self.path.display(), self.offset, self.what)
    }
}

/// The whole log, checked.
#[derive(Clone, Debug)]
pub struct Report {
    /// The identity of the cluster; empty if it cannot be read.
    pub cluster: String,
    /// The end of what is right.
    pub head: Head,
    /// Plain segments.
    pub segments: usize,
    /// Archived segments.
    pub archived: usize,
    /// Snapshots.
    pub snapshots: usize,
    /// Entries that are right.
    pub entries: u64,
    /// Events that are right.
    pub events: u64,
    /// The end of an append that was never acknowledged, which the next start will cut off.
    pub torn_tail: Option<Problem>,
    /// Everything that is wrong.
    pub problems: Vec<Problem>,
}

impl Report {
    /// Whether everything is as it was written.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, path: &Path, offset: u64, what: impl Into<String>) {
        self.problems.push(Problem { path: path.into(), offset, what: what.into() });
    }
}

/// Why a log could not be gone through.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// It is not as it was written.
    #[error("{0}")]
    Damaged(Problem),
    /// It cannot be read at all.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The disk did not do what was asked.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Checks every segment, the archive and the snapshots: checksums, chain, and that nothing is
/// missing. Goes on after a problem with the next file, so that all problems are in the report.
pub fn verify(disk: &dyn Disk, dir: &Path) -> Result<Report, ScanError> {
    let found = Inventory::take(disk, dir)?;
    let mut report = Report {
        cluster: String::new(),
        head: NOTHING,
        segments: found.segments.len(),
        archived: found.archived.len(),
        snapshots: found.snapshots.len(),
        entries: 0,
        events: 0,
        torn_tail: None,
        problems: Vec::new(),
    };
    let format = match recover::read_format(disk, dir) {
        Ok(format) => format,
        Err(error @ (OpenError::Disk(_) | OpenError::NewerFormat { .. })) => return Err(error.into()),
        Err(error) => {
            report.problem(&dir.join(super::format::FORMAT), 0, error.to_string());
            return Ok(report);
        }
    };
    report.cluster.clone_from(&format.cluster);
    for first in &found.archived {
        verify_archived(disk, &archive_path(dir, *first), *first, &format, &mut report)?;
    }
    let archived = report.head.index;
    let live: Vec<Index> = found.segments.iter().copied().filter(|first| *first > archived).collect();
    for (place, first) in live.iter().enumerate() {
        let last = place + 1 == live.len();
        verify_segment(disk, &segment_path(dir, *first), *first, &format, last, &mut report)?;
    }
    if live.is_empty() {
        report.problem(dir, 0, "there is no segment to write to");
    }
    for at in &found.snapshots {
        verify_snapshot(disk, &snapshot_path(dir, *at), *at, &format, &mut report)?;
    }
    if let Some(mark) = load_mark(disk, dir)?
        && mark.index > report.head.index
        && report.problems.is_empty()
    {
        let what =
            format!("the log ends at event {}, but was durable up to {}", report.head.event, mark.event);
        report.problem(dir, 0, what);
    }
    Ok(report)
}

fn verify_archived(
    disk: &dyn Disk,
    path: &Path,
    first: Index,
    format: &Format,
    report: &mut Report,
) -> Result<(), ScanError> {
    let archived = match Archived::read(disk, path)? {
        Ok(archived) => archived,
        Err(why) => {
            report.problem(path, 0, why);
            return Ok(());
        }
    };
    check_start(path, first, &archived.log_id, archived.before, format, report);
    match archive::unpack(disk, &archived) {
        Ok(plain) => {
            let mut segment = Plain { path, before: archived.before, source: Source::Memory(plain) };
            let stop = segment.go_through(report)?;
            if let Stop::Broken(offset, why) = stop {
                report.problem(path, offset, why);
            }
            if report.head != archived.end {
                report.problem(path, 0, "it does not end where its header says");
                report.head = archived.end;
            }
        }
        Err(crate::ReadError::Disk(error)) => return Err(error.into()),
        Err(error) => {
            report.problem(path, 0, error.to_string());
            report.head = archived.end;
        }
    }
    Ok(())
}

/// What every segment must begin with. Afterwards the report goes on from there in any case.
fn check_start(
    path: &Path,
    first: Index,
    log_id: &[u8; 16],
    before: Head,
    format: &Format,
    report: &mut Report,
) {
    let expected = report.head.index.next();
    if first > expected {
        report.problem(path, 0, format!("the entries from {expected} on, up to this file, are missing"));
    } else if before != report.head {
        report.problem(path, 0, "it does not chain to the segment before it");
    }
    if *log_id != format.log_id() {
        report.problem(path, 0, "it belongs to another log");
    }
    report.head = before;
}

/// A segment's records, wherever they are.
struct Plain<'a> {
    path: &'a Path,
    before: Head,
    source: Source,
}

impl Plain<'_> {
    fn go_through(&mut self, report: &mut Report) -> Result<Stop, ScanError> {
        let mut reader = Reader::new(self.source.clone(), SEGMENT_HEADER as u64, u64::MAX, Check::Full);
        let mut head = self.before;
        let stop = loop {
            match reader.next()? {
                Step::Frame(offset, frame) => {
                    if let Err(why) = frame.follows(&head, Check::Full) {
                        break Stop::Broken(offset, why);
                    }
                    head = frame.head();
                    report.entries += 1;
                    report.events += u64::from(frame.header.count);
                }
                Step::End(_) => break Stop::Clean,
                Step::Bad(offset, why) => break Stop::Broken(offset, why.into()),
            }
        };
        report.head = head;
        Ok(stop)
    }
}

fn verify_segment(
    disk: &dyn Disk,
    path: &Path,
    first: Index,
    format: &Format,
    last: bool,
    report: &mut Report,
) -> Result<(), ScanError> {
    let file: std::sync::Arc<dyn rt::DiskFile> = disk.open_read(path)?.into();
    let mut bytes = [0; SEGMENT_HEADER];
    let read = file.read_at(0, &mut bytes)?;
    let header = match SegmentHeader::decode(&bytes[..read]) {
        Ok(header) => header,
        Err(why) => {
            report.problem(path, 0, why);
            return Ok(());
        }
    };
    check_start(path, first, &header.log_id, header.before, format, report);
    let mut plain = Plain { path, before: header.before, source: Source::File(file.clone()) };
    let stop = plain.go_through(report)?;
    if !last {
        if let Stop::Broken(offset, why) = stop {
            report.problem(plain.path, offset, why);
        }
        return Ok(());
    }
    let mut segment = Segment::new(header.before, path.into(), file);
    match recover::go_through(&mut segment, Check::Full)
        .and_then(|walked| recover::judge_tail(&segment, walked.stop))
    {
        Ok((None, _)) => {}
        Ok((Some(dropped), _)) => {
            let what = format!("{} bytes of an append that was never acknowledged", dropped.bytes);
            report.torn_tail = Some(Problem { path: path.into(), offset: dropped.offset, what });
        }
        Err(OpenError::Damaged { segment, offset, why }) => report.problem(&segment, offset, why),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn verify_snapshot(
    disk: &dyn Disk,
    path: &Path,
    at: EventId,
    format: &Format,
    report: &mut Report,
) -> Result<(), ScanError> {
    match snapshot::decode(&disk.read(path)?, &format.log_id(), at) {
        Err(why) => report.problem(path, 0, why),
        Ok(_) if at > report.head.event && report.problems.is_empty() => {
            report.problem(
                path,
                0,
                format!("it is of event {at}, but the log ends at {}", report.head.event),
            );
        }
        Ok(_) => {}
    }
    Ok(())
}

/// Calls `each` for every entry that has an event after the cursor, and for the entries without
/// events among them. A batch gives its events; any other entry gives its payload, if it has one.
/// A torn tail ends it; damage is an error, after everything before the damage was given.
pub fn scan(
    disk: &dyn Disk,
    dir: &Path,
    after: EventId,
    mut each: impl FnMut(&EntryHeader, &[Bytes]),
) -> Result<(), ScanError> {
    let format = recover::read_format(disk, dir)?;
    let found = Inventory::take(disk, dir)?;
    let problem =
        |path: &Path, offset, what: String| ScanError::Damaged(Problem { path: path.into(), offset, what });
    let mut head = NOTHING;
    for first in &found.archived {
        let path = archive_path(dir, *first);
        let archived = Archived::read(disk, &path)?.map_err(|why| problem(&path, 0, why.into()))?;
        if archived.before != head || archived.log_id != format.log_id() {
            return Err(problem(&path, 0, "it does not chain to the segment before it".into()));
        }
        if archived.end.event > after || after == EventId::ZERO {
            let plain =
                archive::unpack(disk, &archived).map_err(|error| problem(&path, 0, error.to_string()))?;
            let stop = scan_records(Source::Memory(plain), &mut head, after, &mut each);
            if let Stop::Broken(offset, why) = stop? {
                return Err(problem(&path, offset, why));
            }
        }
        head = archived.end;
    }
    let live: Vec<Index> = found.segments.iter().copied().filter(|first| *first > head.index).collect();
    for (place, first) in live.iter().enumerate() {
        let path = segment_path(dir, *first);
        if *first != head.index.next() {
            let what = format!("the entries from {} on, up to this file, are missing", head.index.next());
            return Err(problem(&path, 0, what));
        }
        let mut segment = recover::open_segment(disk, path.clone(), format.log_id(), head)?;
        let source = Source::File(segment.file.clone());
        let stop = scan_records(source, &mut head, after, &mut each)?;
        match stop {
            Stop::Broken(offset, why) if place + 1 < live.len() => return Err(problem(&path, offset, why)),
            _ if place + 1 < live.len() => {}
            _ => {
                let walked = recover::go_through(&mut segment, Check::Full)?;
                recover::judge_tail(&segment, walked.stop)?;
            }
        }
    }
    Ok(())
}

/// As [`scan`], for a file of entries that are kept [aside](super::aside()): calls `each` for all of them.
pub fn scan_aside(
    disk: &dyn Disk,
    path: &Path,
    mut each: impl FnMut(&EntryHeader, &[Bytes]),
) -> Result<(), ScanError> {
    let problem = |offset, what: String| ScanError::Damaged(Problem { path: path.into(), offset, what });
    let file: std::sync::Arc<dyn rt::DiskFile> = disk.open_read(path)?.into();
    let mut bytes = [0; SEGMENT_HEADER];
    let read = file.read_at(0, &mut bytes)?;
    let header = SegmentHeader::decode(&bytes[..read]).map_err(|why| problem(0, why.into()))?;
    let mut head = header.before;
    match scan_records(Source::File(file), &mut head, EventId::ZERO, &mut each)? {
        Stop::Broken(offset, why) => Err(problem(offset, why)),
        Stop::Clean => Ok(()),
    }
}

fn scan_records(
    source: Source,
    head: &mut Head,
    after: EventId,
    each: &mut impl FnMut(&EntryHeader, &[Bytes]),
) -> Result<Stop, ScanError> {
    let mut reader = Reader::new(source, SEGMENT_HEADER as u64, u64::MAX, Check::Full);
    loop {
        match reader.next()? {
            Step::Frame(offset, frame) => {
                if let Err(why) = frame.follows(head, Check::Full) {
                    return Ok(Stop::Broken(offset, why));
                }
                *head = frame.head();
                let wanted = match frame.header.kind {
                    Kind::Batch | Kind::Proposal => frame.header.last() > after,
                    _ => frame.header.first > after,
                };
                if wanted {
                    let parts = match frame.header.kind {
                        Kind::Batch | Kind::Proposal => {
                            frame.events().expect("`follows` has seen that they add up")
                        }
                        _ => vec![frame.payload.clone()],
                    };
                    each(&frame.header, &parts);
                }
            }
            Step::End(_) => return Ok(Stop::Clean),
            Step::Bad(offset, why) => return Ok(Stop::Broken(offset, why.into())),
        }
    }
}
