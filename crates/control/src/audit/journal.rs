//! The journal: `audit/` in the data directory, what the log cannot hold. One line for each attempt.
//!
//! ```text
//!   audit/journal.00000000000000000001 ─► audit/journal.00000000000000009120 ─► audit/journal
//!   sealed, never written again; named after its first line                     the one in use
//! ```
//!
//! Invariants:
//! - a line that was appended is never changed: whatever differs from the chain is an error and is
//!   never repaired.
//! - only the last line can be torn by a crash, and nothing rested on it: it is cut off, and said.
//! - after a failed write that cannot be taken back, or a failed sync, nothing is appended any more.
//! - nothing is ever removed: sealed segments stay until somebody moves them away, oldest first.

use super::entry::{self, Entry, Note, Seen};
use rt::{Disk, DiskError, DiskFile, DiskLock};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use types::{Timestamp, limits};

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk did not do what was asked.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A line is not what was written.
    #[error("{} is damaged at entry {seq}: {why}; keep the file, and look at its copies", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// The line that is not as it was written.
        seq: u64,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody opened one.
    #[error("this server has no journal")]
    Absent,
    /// An earlier write failed, so that the file is not to be trusted until it is read again.
    #[error("{} could not be written before; restart the server", path.display())]
    Broken {
        /// The segment in use.
        path: PathBuf,
    },
}

/// What the journal held when it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The first line that is there; what was before it has been moved away. 0 if there is none.
    pub first: u64,
    /// The number of the last line.
    pub entries: u64,
    /// The chain after it.
    pub chain: [u8; 32],
    /// Bytes behind the last whole line, torn by a crash.
    pub torn: u64,
    /// Bytes of the whole lines in the segment in use.
    length: u64,
}

impl Verified {
    /// The chain after the last line, in hexadecimal.
    pub fn head(&self) -> String {
        entry::hex(self.chain)
    }
}

/// The journal, open for appending. One process at a time has it.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    end: Mutex<End>,
    _lock: Box<dyn DiskLock>,
}

#[derive(Debug)]
struct End {
    file: Box<dyn DiskFile>,
    /// The first line of the segment in use.
    first: u64,
    entries: u64,
    chain: [u8; 32],
    length: u64,
    broken: bool,
    /// The last lines, for readers.
    recent: VecDeque<Arc<Entry>>,
}

/// The segment in use, and what it is called while it is made.
const NAME: &str = "journal";
const NEXT: &str = "journal.next";

pub(super) fn dir_in(data_dir: &Path) -> PathBuf {
    data_dir.join("audit")
}

fn sealed_name(first: u64) -> String {
    format!("{NAME}.{first:020}")
}

/// The segments that are there, the oldest first, each with its first line where its name says it.
fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<(Option<u64>, PathBuf)>, JournalError> {
    let names = match disk.list(dir) {
        Ok(names) => names,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let first = |name: &String| name.strip_prefix("journal.")?.parse::<u64>().ok().zip(Some(dir.join(name)));
    let mut found: Vec<(Option<u64>, PathBuf)> =
        names.iter().filter_map(first).map(|(first, path)| (Some(first), path)).collect();
    found.sort();
    if names.iter().any(|name| name == NAME) {
        found.push((None, dir.join(NAME)));
    }
    Ok(found)
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
struct Walk {
    found: Verified,
    /// None before the first line of what is left of a journal.
    before: Option<[u8; 32]>,
}

impl Walk {
    fn start(first: Option<u64>) -> Self {
        let first = first.unwrap_or(1);
        let before = (first == 1).then_some([0; 32]);
        Self { found: Verified { first: 0, entries: first - 1, ..Verified::default() }, before }
    }

    /// Walks over one segment. Only the last one may have a torn end.
    fn segment(
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
            if self.found.first == 0 {
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

impl Journal {
    /// Opens the journal of a data directory, begins it if there is none, and cuts what a crash has
    /// torn. The second value is what was found before that. Of the sealed segments only the last is
    /// read: [`Self::verify`] reads all.
    ///
    /// # Errors
    /// The disk, another process that has it open, or a line that is not as it was written.
    pub fn open(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<(Self, Verified), JournalError> {
        let dir = dir_in(data_dir);
        let path = dir.join(NAME);
        disk.create_dir(&dir)?;
        disk.sync_dir(data_dir)?;
        let lock = disk.lock(&dir.join("lock"), &format!("process {}", std::process::id()))?;
        if !disk.exists(&path)? {
            match disk.exists(&dir.join(NEXT))? {
                true => disk.rename(&dir.join(NEXT), &path)?,
                false => disk.create(&path)?.sync_data()?,
            }
        }
        // Also for one that is there: whoever made it may have crashed before its name was durable.
        disk.sync_dir(&dir)?;
        let all = segments(disk.as_ref(), &dir)?;
        let last = &all[all.len().saturating_sub(2)..];
        let mut recent = VecDeque::new();
        let (found, first) = walk(disk.as_ref(), last, |entry| {
            recent.push_back(Arc::new(entry));
            if recent.len() > limits::JOURNAL_RECENT {
                recent.pop_front();
            }
        })?;
        let file = disk.open(&path)?;
        if found.torn > 0 {
            tracing::warn!(file = %path.display(), bytes = found.torn,
                "the end of the journal was torn by a crash and is cut off; no act rested on it");
            file.set_len(found.length)?;
        }
        // What was read may still lie in the caches of a machine whose last process was killed.
        file.sync_data()?;
        let Verified { entries, chain, length, .. } = found;
        let end = End { file, first, entries, chain, length, broken: false, recent };
        Ok((Self { disk: disk.clone(), dir, end: Mutex::new(end), _lock: lock }, found))
    }

    /// Reads a whole journal, without its lock. One that was never begun is empty.
    ///
    /// # Errors
    /// The disk, or the first line that is not as it was written.
    pub fn verify(disk: &dyn Disk, data_dir: &Path) -> Result<Verified, JournalError> {
        Self::read(disk, data_dir, |_| {})
    }

    /// The same, and hands over each line.
    ///
    /// # Errors
    /// The disk, or the first line that is not as it was written.
    pub fn read(disk: &dyn Disk, data_dir: &Path, each: impl FnMut(Entry)) -> Result<Verified, JournalError> {
        let all = segments(disk, &dir_in(data_dir))?;
        walk(disk, &all, each).map(|(found, _)| found)
    }

    /// Holds all of this journal against its chain, as it is now. Blocks.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_now(&self) -> Result<Verified, JournalError> {
        // What is written meanwhile stands behind what is looked at; a segment that is sealed meanwhile
        // would be missed, so nothing is sealed until the list is made and the last one is read.
        let (sealed, last) = {
            let end = self.lock();
            let mut all = segments(self.disk.as_ref(), &self.dir)?;
            all.pop();
            (all, self.in_use(&end)?)
        };
        let mut walk = Walk::start(sealed.first().and_then(|(first, _)| *first));
        for (_, path) in &sealed {
            walk.segment((path, &self.disk.read(path)?), false, |_| {})?;
        }
        // What is written by now was finished: nothing of it may be torn.
        walk.segment((&self.dir.join(NAME), &last), false, |_| {})?;
        Ok(walk.found)
    }

    /// The whole lines of the segment in use.
    fn in_use(&self, end: &MutexGuard<'_, End>) -> Result<Vec<u8>, JournalError> {
        let mut content = vec![0; usize::try_from(end.length).expect("a segment fits the address space")];
        let read = end.file.read_at(0, &mut content)?;
        content.truncate(read);
        Ok(content)
    }

    /// Writes an entry and returns its place once it is durable. Blocks.
    ///
    /// # Errors
    /// Nothing may rest on an entry that was not written: the act it is about must not go on.
    pub fn append(&self, at: Timestamp, seen: Seen, note: Note) -> Result<u64, JournalError> {
        self.append_all(vec![(at, seen, note)])
    }

    /// Writes entries with one sync, and returns the place of the last one once all are durable. Blocks.
    ///
    /// # Errors
    /// None of them was written.
    pub fn append_all(&self, notes: Vec<(Timestamp, Seen, Note)>) -> Result<u64, JournalError> {
        let mut end = self.lock();
        if end.broken {
            return Err(JournalError::Broken { path: self.dir.join(NAME) });
        }
        if end.length >= limits::JOURNAL_SEGMENT {
            self.seal(&mut end)?;
        }
        let (mut seq, mut chain) = (end.entries, end.chain);
        let (mut text, mut entries) = (String::new(), Vec::with_capacity(notes.len()));
        let group = (notes.len() > 1).then_some(seq + 1);
        for (at, seen, note) in notes {
            seq += 1;
            let bare = Entry { group, ..Entry::new(seq, at, seen, note) };
            let (entry, line, after) = entry::written(bare, chain);
            chain = after;
            text.push_str(&line);
            text.push('\n');
            entries.push(Arc::new(entry));
        }
        if let Err(error) = end.file.write_at(end.length, text.as_bytes()) {
            // A full disk takes nothing, or a part that can be cut off again.
            end.broken = end.file.set_len(end.length).is_err();
            return Err(error.into());
        }
        if let Err(error) = end.file.sync_data() {
            end.broken = true;
            return Err(error.into());
        }
        end.length += text.len() as u64;
        (end.entries, end.chain) = (seq, chain);
        end.recent.extend(entries);
        while end.recent.len() > limits::JOURNAL_RECENT {
            end.recent.pop_front();
        }
        Ok(seq)
    }

    /// Seals the segment in use and begins another. One that cannot be begun leaves the old one in use.
    fn seal(&self, end: &mut End) -> Result<(), JournalError> {
        let (path, next) = (self.dir.join(NAME), self.dir.join(NEXT));
        let begin = || -> Result<Box<dyn DiskFile>, DiskError> {
            if self.disk.exists(&next)? {
                self.disk.remove(&next)?;
            }
            let file = self.disk.create(&next)?;
            file.sync_data()?;
            Ok(file)
        };
        if let Err(error) = begin() {
            tracing::warn!(%error, "a new segment of the journal cannot be begun; the old one grows on");
            return Ok(());
        }
        // From the first renaming on, only a start from the disk knows what is there.
        end.broken = true;
        self.disk.rename(&path, &self.dir.join(sealed_name(end.first)))?;
        // A crash may keep the second renaming without the first, and then nothing names what is sealed.
        self.disk.sync_dir(&self.dir)?;
        self.disk.rename(&next, &path)?;
        self.disk.sync_dir(&self.dir)?;
        end.file = self.disk.open(&path)?;
        (end.first, end.length, end.broken) = (end.entries + 1, 0, false);
        Ok(())
    }

    /// The number of the last line, and the chain after it in hexadecimal.
    pub fn last(&self) -> (u64, String) {
        let end = self.lock();
        (end.entries, entry::hex(end.chain))
    }

    /// Lines after this one in their order, at least one if there is one, at most a page. Blocks.
    ///
    /// # Errors
    /// The disk, or a line that cannot be read.
    pub fn after(&self, seq: u64) -> Result<Vec<Arc<Entry>>, JournalError> {
        let end = self.lock();
        let oldest = end.recent.front().map_or(end.entries + 1, |entry| entry.seq);
        if seq + 1 >= oldest {
            let skip = usize::try_from(seq + 1 - oldest).unwrap_or(usize::MAX);
            return Ok(page(end.recent.iter().skip(skip).cloned()));
        }
        let (content, path) = if seq + 1 >= end.first {
            (self.in_use(&end)?, self.dir.join(NAME))
        } else {
            let sealed = segments(self.disk.as_ref(), &self.dir)?;
            let sealed = sealed.into_iter().filter_map(|(first, path)| Some((first?, path)));
            let all: Vec<(u64, PathBuf)> = sealed.collect();
            // The last that begins at or before the line; what was moved away is passed over.
            let at = all.iter().rposition(|(first, _)| *first <= seq + 1).unwrap_or(0);
            match all.get(at) {
                Some((_, path)) => (self.disk.read(path)?, path.clone()),
                None => (self.in_use(&end)?, self.dir.join(NAME)),
            }
        };
        drop(end);
        let mut found = Vec::new();
        for line in content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let entry = entry::read(line).map_err(|why| JournalError::Damaged {
                path: path.clone(),
                seq: seq + 1 + found.len() as u64,
                why,
            })?;
            if entry.seq > seq {
                found.push(Arc::new(entry));
            }
            if found.len() >= limits::JOURNAL_PAGE {
                break;
            }
        }
        Ok(page(found.into_iter()))
    }

    fn lock(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// As many as fit, one always.
fn page(entries: impl Iterator<Item = Arc<Entry>>) -> Vec<Arc<Entry>> {
    let mut size = 0;
    entries
        .take(limits::JOURNAL_PAGE)
        .take_while(|entry| {
            let before = size;
            size += serde_json::to_string(entry.as_ref()).map_or(0, |text| text.len());
            before < limits::JOURNAL_PAGE_BYTES
        })
        .collect()
}

/// Walks over segments. The second value is the first line of the one in use.
fn walk(
    disk: &dyn Disk,
    segments: &[(Option<u64>, PathBuf)],
    mut each: impl FnMut(Entry),
) -> Result<(Verified, u64), JournalError> {
    let mut walk = Walk::start(segments.first().and_then(|(first, _)| *first));
    let mut first = walk.found.entries + 1;
    for (nth, (_, path)) in segments.iter().enumerate() {
        first = walk.found.entries + 1;
        walk.segment((path, &disk.read(path)?), nth + 1 == segments.len(), &mut each)?;
    }
    Ok((walk.found, first))
}

#[cfg(test)]
mod tests;
