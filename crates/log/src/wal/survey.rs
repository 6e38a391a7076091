//! Finding what is damaged in a member's log, so that it can be repaired.
//!
//! ```text
//!   good │ good │ bad  bad │ good │ good        a stretch with an end: what stands behind it proves it
//!   good │ good │ bad  bad │                    one that reaches the end of the log
//!          base ┘          └ goal
//! ```
//!
//! Everything is read, the archive too: this runs only when something is wrong. Nothing is changed.

use super::{
    archive::{self, Archived},
    format::{
        Format, Inventory, NOTHING, SEGMENT_HEADER, SegmentHeader, archive_path, load_mark, segment_path,
    },
    frame::{self, Check, Found},
    inspect::Problem,
    machine::Options,
    read::{Reader, Source, Step},
    recover::{self, OpenError, Stop},
    store::Segment,
};
use crate::{Head, Kind, ReadError};
use bytes::Bytes;
use rt::{Disk, DiskError, DiskFile};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use types::Index;

/// A file of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub first: Index,
    pub archived: bool,
}

impl Part {
    pub fn path(&self, dir: &Path) -> PathBuf {
        match self.archived {
            true => archive_path(dir, self.first),
            false => segment_path(dir, self.first),
        }
    }
}

/// Files of the log that are not as they were written, one behind the other.
#[derive(Clone, Debug)]
pub(super) struct Stretch {
    /// The end of what stands before it.
    pub base: Head,
    /// Its end, as what is readable behind it proves it; none if nothing does.
    pub goal: Option<Head>,
    /// Its files.
    pub files: Vec<Part>,
    /// Where the files that take their place begin, and of which kind they are. Empty for a stretch that
    /// reaches the end of the log, whose files begin wherever the one before is full.
    pub begins: Vec<Part>,
    /// Whether it reaches the end of the log.
    pub is_end: bool,
    /// The plain segments before it and the ends before them, the newest first.
    pub before: Vec<(Part, Head)>,
    /// The plain segments behind it.
    pub behind: Vec<Part>,
    /// The first thing that is wrong.
    pub wrong: Problem,
    /// Who the members are, as the last entry says that can be read.
    pub members: Option<Bytes>,
}

/// What a file of the log holds.
#[derive(Debug)]
struct Seen {
    part: Part,
    before: Option<Head>,
    end: Head,
    wrong: Option<(u64, String)>,
    members: Option<(Index, Bytes)>,
}

impl Seen {
    fn bad(part: Part, offset: u64, why: impl Into<String>) -> Self {
        Self { part, before: None, end: NOTHING, wrong: Some((offset, why.into())), members: None }
    }
}

/// The first stretch that is damaged; none if the log opens as it is.
pub(super) fn first_stretch(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    format: &Format,
    options: &Options,
) -> Result<Option<Stretch>, OpenError> {
    let refusal = match recover::look(disk, dir, options) {
        Ok(_) => return Ok(None),
        Err(OpenError::Disk(error)) => return Err(error.into()),
        Err(error) => error,
    };
    let found = Inventory::take(&**disk, dir)?;
    let mut parts: Vec<Part> =
        found.archived.iter().map(|first| Part { first: *first, archived: true }).collect();
    // A plain segment that is archived too goes by itself, once the archived one is good.
    let plain = found.segments.iter().filter(|first| !found.archived.contains(first));
    parts.extend(plain.map(|first| Part { first: *first, archived: false }));
    parts.sort_by_key(|part| part.first);
    let mut seen = Vec::with_capacity(parts.len());
    for (place, part) in parts.iter().enumerate() {
        seen.push(look_at(disk, dir, format, *part, place + 1 == parts.len())?);
    }
    join(&mut seen);
    let first = seen.iter().position(|seen| seen.wrong.is_some());
    let lacks_first = seen.first().is_some_and(|seen| seen.wrong.is_none() && seen.before != Some(NOTHING));
    let is_short = parts.last().is_none_or(|part| part.archived)
        || matches!(refusal, OpenError::Shortened { .. }) && first.is_none();
    let span = match first {
        _ if lacks_first => 0..0,
        Some(first) => {
            let good = seen[first..].iter().position(|seen| seen.wrong.is_none());
            first..good.map_or(seen.len(), |good| first + good)
        }
        // Everything there is right, and something is missing behind it.
        None if is_short => {
            let last = seen.last().is_some_and(|seen| !seen.part.archived);
            seen.len() - usize::from(last)..seen.len()
        }
        None => return Err(refusal),
    };
    let mut stretch = stretch_of(&seen, span, dir, &refusal).ok_or(refusal)?;
    if stretch.is_end {
        stretch.goal = readable_end(disk, dir, &stretch)?;
    }
    Ok(Some(stretch))
}

/// Two files that are good, and between them something is missing: then the first is not whole.
fn join(seen: &mut [Seen]) {
    for place in 1..seen.len() {
        let (left, right) = seen.split_at_mut(place);
        let (one, next) = (&mut left[place - 1], &right[0]);
        if let (None, None, Some(before)) = (&one.wrong, &next.wrong, next.before)
            && one.end.index < before.index
        {
            one.wrong = Some((0, format!("it lacks entries from {} on", one.end.index.next())));
        }
    }
}

/// None if what is left and right of it cannot be of one history.
fn stretch_of(
    seen: &[Seen],
    span: std::ops::Range<usize>,
    dir: &Path,
    refusal: &OpenError,
) -> Option<Stretch> {
    let base = span.start.checked_sub(1).map_or(NOTHING, |last| seen[last].end);
    let next = seen.get(span.end);
    let goal = next.and_then(|next| next.before);
    let files: Vec<Part> = seen[span.clone()].iter().map(|seen| seen.part).collect();
    let chains = seen.windows(2).all(|pair| {
        pair[0].wrong.is_some() || pair[1].wrong.is_some() || Some(pair[0].end) == pair[1].before
    });
    if !chains || goal.is_some_and(|goal| goal.index <= base.index) {
        return None;
    }
    let mut begins = Vec::new();
    if let Some(next) = next {
        let kind = files.first().map_or(next.part.archived, |file| file.archived);
        begins.push(Part { first: base.index.next(), archived: kind });
        let others =
            files.iter().filter(|file| file.first > base.index.next() && next.part.first > file.first);
        begins.extend(others);
    }
    let found = seen[span.clone()].iter().find_map(|seen| Some((seen, seen.wrong.clone()?)));
    let wrong = match found {
        Some((seen, (offset, what))) => Problem { path: seen.part.path(dir), offset, what },
        None => problem_of(refusal, dir),
    };
    let earlier = (0..span.start).rev().filter(|place| !seen[*place].part.archived);
    let before =
        earlier.map(|place| (seen[place].part, place.checked_sub(1).map_or(NOTHING, |last| seen[last].end)));
    let behind = seen[span.end..].iter().map(|seen| seen.part).collect();
    let members = seen.iter().filter_map(|seen| seen.members.clone()).max_by_key(|(index, _)| *index);
    Some(Stretch {
        base,
        goal,
        files,
        begins,
        is_end: next.is_none(),
        before: before.collect(),
        behind,
        wrong,
        members: members.map(|(_, payload)| payload),
    })
}

/// What is missing where everything that is there is right.
fn problem_of(refusal: &OpenError, dir: &Path) -> Problem {
    match refusal {
        OpenError::Shortened { segment, offset, found, durable, witness } => Problem {
            path: segment.clone(),
            offset: *offset,
            what: format!("it ends with event {found}, but {witness} shows that event {durable} was durable"),
        },
        OpenError::Missing { from, .. } => {
            Problem { path: dir.into(), offset: 0, what: format!("its entries from {from} on are missing") }
        }
        other => Problem { path: dir.into(), offset: 0, what: other.to_string() },
    }
}

/// Reads all of a file.
fn look_at(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    format: &Format,
    part: Part,
    last: bool,
) -> Result<Seen, DiskError> {
    let path = part.path(dir);
    if part.archived {
        return look_at_archived(&**disk, &path, format, part);
    }
    let file: Arc<dyn DiskFile> = disk.open_read(&path)?.into();
    let mut bytes = [0; SEGMENT_HEADER];
    let read = file.read_at(0, &mut bytes)?;
    let header = match SegmentHeader::decode(&bytes[..read]) {
        Ok(header) => header,
        Err(why) => return Ok(Seen::bad(part, 0, why)),
    };
    if let Err(why) = belongs(&header.log_id, header.before, format, part) {
        return Ok(Seen::bad(part, 0, why));
    }
    let mut walked = walk(Source::File(Arc::clone(&file)), header.before)?;
    if last && !walked.is_misplaced {
        let mut segment = Segment::new(header.before, path, file);
        segment.cut(walked.used, walked.end);
        let stop = match walked.wrong.take() {
            Some((offset, why)) => Stop::Broken(offset, why),
            None => Stop::Clean,
        };
        walked.wrong = match recover::judge_tail(&segment, stop) {
            Ok(_) => None,
            Err(OpenError::Damaged { offset, why, .. }) => Some((offset, why)),
            Err(OpenError::Disk(error)) => return Err(error),
            Err(error) => Some((walked.used, error.to_string())),
        };
    }
    let Walked { end, wrong, members, .. } = walked;
    Ok(Seen { part, before: Some(header.before), end, wrong, members })
}

fn look_at_archived(disk: &dyn Disk, path: &Path, format: &Format, part: Part) -> Result<Seen, DiskError> {
    let archived = match Archived::read(disk, path)? {
        Ok(archived) => archived,
        Err(why) => return Ok(Seen::bad(part, 0, why)),
    };
    if let Err(why) = belongs(&archived.log_id, archived.before, format, part) {
        return Ok(Seen::bad(part, 0, why));
    }
    let plain = match archive::unpack(disk, &archived) {
        Ok(plain) => plain,
        Err(ReadError::Disk(error)) => return Err(error),
        Err(error) => return Ok(Seen::bad(part, 0, error.to_string())),
    };
    let Walked { end, mut wrong, members, .. } = walk(Source::Memory(plain), archived.before)?;
    if wrong.is_none() && end != archived.end {
        wrong = Some((0, "it does not end where its header says".into()));
    }
    Ok(Seen { part, before: Some(archived.before), end, wrong, members })
}

fn belongs(log_id: &[u8; 16], before: Head, format: &Format, part: Part) -> Result<(), &'static str> {
    if *log_id != format.log_id() {
        return Err("it belongs to another log");
    }
    if before.index.next() != part.first {
        return Err("it begins with another entry than its name says");
    }
    Ok(())
}

/// What a walk through the records of a file found.
pub(super) struct Walked {
    pub end: Head,
    pub used: u64,
    pub wrong: Option<(u64, String)>,
    /// What is wrong is a whole record in the wrong place.
    pub is_misplaced: bool,
    pub members: Option<(Index, Bytes)>,
}

/// Goes through the records that follow `before`, as far as they do.
pub(super) fn walk(source: Source, before: Head) -> Result<Walked, DiskError> {
    let mut reader = Reader::new(source, SEGMENT_HEADER as u64, u64::MAX, Check::Full);
    let used = SEGMENT_HEADER as u64;
    let mut walked = Walked { end: before, used, wrong: None, is_misplaced: false, members: None };
    loop {
        match reader.next()? {
            Step::Frame(offset, frame) => {
                if let Err(why) = frame.follows(&walked.end, Check::Full) {
                    walked.wrong = Some((offset, why));
                    walked.is_misplaced = true;
                    return Ok(walked);
                }
                if frame.header.kind == Kind::Membership {
                    walked.members = Some((frame.header.index, frame.payload.clone()));
                }
                (walked.end, walked.used) = (frame.head(), reader.offset());
            }
            Step::End(_) => return Ok(walked),
            Step::Bad(offset, why) => {
                walked.wrong = Some((offset, why.into()));
                return Ok(walked);
            }
        }
    }
}

/// The end of the log, if records behind the damage reach it without a doubt: nothing stands behind them,
/// and nothing shows that there was more.
fn readable_end(disk: &Arc<dyn Disk>, dir: &Path, stretch: &Stretch) -> Result<Option<Head>, OpenError> {
    let Some(last) = stretch.files.last().filter(|part| !part.archived) else { return Ok(None) };
    let bytes = Bytes::from(disk.read(&last.path(dir))?);
    let Some(end) = last_record(&bytes, stretch.base.index) else { return Ok(None) };
    let mark = load_mark(&**disk, dir)?.map_or(Index::ZERO, |mark| mark.index);
    let noted = super::format::CommittedNote::load(&**disk, dir)?.map_or(Index::ZERO, |note| note.head.index);
    let snapshots = Inventory::take(&**disk, dir)?.snapshots;
    let is_whole = mark <= end.index && noted <= end.index && snapshots.iter().all(|at| *at <= end.event);
    Ok(is_whole.then_some(end))
}

/// The last record of a segment, if nothing but zeroes stands behind it.
fn last_record(bytes: &Bytes, base: Index) -> Option<Head> {
    let range = base.next().get()..=u64::MAX;
    let mut at = SEGMENT_HEADER;
    let mut last: Option<Head> = None;
    let mut end = at;
    while at < bytes.len() {
        if frame::may_begin(&bytes[at..], &range)
            && let Found::Frame(found, size) = frame::decode(&bytes.slice(at..), Check::Full)
            // What only looks like a record, within another, does not go on from the one before.
            && last.is_none_or(|last| found.header.index > last.index)
        {
            last = Some(found.head());
            at += size;
            end = at;
            continue;
        }
        at += frame::ALIGN;
    }
    last.filter(|_| bytes[end.min(bytes.len())..].iter().all(|byte| *byte == 0))
}
