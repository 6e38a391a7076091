//! The segments of a journal: what they are called, and the walk along their chain.

use super::{
    entry::{self, Entry},
    journal::{JournalError, Verified},
};
use rt::Disk;
use std::path::{Path, PathBuf};

/// The segment in use, and what it is called while it is made.
pub(super) const NAME: &str = "journal";
pub(super) const NEXT: &str = "journal.next";

/// A segment that is never written again.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Sealed {
    /// Its first line.
    pub(super) first: u64,
    /// The chain before that line, so that it can be verified when the segments before it were moved away. Names
    /// that earlier releases gave lack it.
    before: Option<[u8; 32]>,
    pub(super) path: PathBuf,
}

pub(super) fn sealed_name(first: u64, before: [u8; 32]) -> String {
    format!("{NAME}.{first:020}.{}", entry::hex(before))
}

fn parse(name: &str) -> Option<(u64, Option<[u8; 32]>)> {
    let rest = name.strip_prefix(NAME)?.strip_prefix('.')?;
    match rest.split_once('.') {
        Some((first, before)) => Some((first.parse().ok()?, Some(entry::unhex(before)?))),
        None => Some((rest.parse().ok()?, None)),
    }
}

/// The sealed segments that are there, the oldest first.
pub(super) fn sealed(disk: &dyn Disk, dir: &Path) -> Result<Vec<Sealed>, JournalError> {
    let names = match disk.list(dir) {
        Ok(names) => names,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let sealed = |name: &String| {
        let (first, before) = parse(name)?;
        Some(Sealed { first, before, path: dir.join(name) })
    };
    let mut found: Vec<Sealed> = names.iter().filter_map(sealed).collect();
    found.sort();
    Ok(found)
}

/// The segment in use as it is under its name; nothing if it is not there.
pub(super) fn in_use(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, JournalError> {
    match disk.read(path) {
        Ok(content) => Ok(content),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Walks over all of a journal, also while another process writes it.
pub(super) fn read(
    disk: &dyn Disk,
    dir: &Path,
    mut each: impl FnMut(Entry),
) -> Result<Verified, JournalError> {
    let current = dir.join(NAME);
    let mut all = sealed(disk, dir)?;
    let mut walk = Walk::start(all.first());
    let mut newest = None;
    // Each round reads what was sealed during the one before, which takes longer to write than to read.
    loop {
        let walked = newest;
        for segment in all.iter().filter(|segment| Some(segment.first) > walked) {
            walk.segment((&segment.path, &disk.read(&segment.path)?), false, &mut each)?;
            newest = Some(segment.first);
        }
        let content = in_use(disk, &current)?;
        all = sealed(disk, dir)?;
        if all.last().map(|segment| segment.first) <= newest {
            walk.segment((&current, &content), true, each)?;
            return Ok(walk.found);
        }
    }
}

/// Whether something was made durable after the line of this number and what became durable with it.
///
/// Of an unfinished write any part may be there, its end without its beginning too; what is missing
/// reads as zeroes, which no line has. A line of a later write says that this one was finished.
fn has_later_group(rest: &[u8], seq: u64) -> bool {
    let mut later = rest.split(|byte| *byte == b'\n').filter_map(|line| entry::read(line).ok());
    later.any(|entry| entry.group.unwrap_or(entry.seq) > seq)
}

/// A walk along the chain.
pub(super) struct Walk {
    pub(super) found: Verified,
    /// None before a first line whose segment does not say what was before it.
    before: Option<[u8; 32]>,
}

impl Walk {
    /// Begins at this segment; without one, at the first line of all.
    pub(super) fn start(oldest: Option<&Sealed>) -> Self {
        let (first, before) = oldest.map_or((1, None), |oldest| (oldest.first, oldest.before));
        let before = if first == 1 { Some([0; 32]) } else { before };
        let found = Verified {
            entries: first.saturating_sub(1),
            chain: before.unwrap_or_default(),
            ..Verified::default()
        };
        Self { found, before }
    }

    /// Walks over one segment. Only the last one may have a torn end.
    pub(super) fn segment(
        &mut self,
        (path, content): (&Path, &[u8]),
        is_last: bool,
        mut each: impl FnMut(Entry),
    ) -> Result<(), JournalError> {
        self.found.length = 0;
        let mut rest = content;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end + 1);
            let seq = self.found.entries + 1;
            if is_last && line.contains(&0) && !has_later_group(after, seq) {
                break;
            }
            let damaged = |why| JournalError::Damaged { path: path.to_owned(), seq, why };
            let (entry, chain) = entry::check(&line[..end], self.before).map_err(damaged)?;
            if entry.seq != seq {
                return Err(damaged(format!("it says that it is entry {}", entry.seq)));
            }
            // A line before which nothing is known is taken on trust, and not counted as verified.
            if self.found.first == 0 && self.before.is_some() {
                self.found.first = seq;
            }
            (self.before, self.found.chain) = (Some(chain), chain);
            self.found.entries = seq;
            self.found.length += line.len() as u64;
            each(entry);
            rest = after;
        }
        self.found.torn = rest.len() as u64;
        if !is_last && !rest.is_empty() {
            let seq = self.found.entries + 1;
            let why = "it is torn, and lines follow it".to_owned();
            return Err(JournalError::Damaged { path: path.to_owned(), seq, why });
        }
        Ok(())
    }
}
