//! The journal: `audit/` in the data directory, what the log cannot hold. One line for each attempt.
//!
//! ```text
//!   audit/journal.00000000000000000001.CHAIN ─► audit/journal.00000000000000009120.CHAIN ─► audit/journal
//!   sealed, never written again; named after its first line and the chain before it         the one in use
//! ```
//!
//! Invariants:
//! - a line that was appended is never changed: whatever differs from the chain is an error and is
//!   never repaired.
//! - only what was written last can be torn by a crash: it is cut off, and a line says how much it was.
//! - after a failed write that cannot be taken back, or a failed sync, nothing is appended until what is behind
//!   the last durable line is cut off and the file was read anew.
//! - nothing is ever removed: sealed segments stay until somebody moves them away, oldest first.

use super::{
    entry::{self, Entry, Note, Seen},
    segments::{self, NAME, NEXT, Walk, sealed_name},
};
use api::{AuditRequest, AuditType, Outcome};
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
    /// An earlier write failed, and what it left cannot be cut off and read again so far.
    #[error("{} could not be written, and cannot be gone on with: {why}", path.display())]
    Broken {
        /// The segment in use.
        path: PathBuf,
        /// Why not.
        why: String,
    },
}

/// What the journal held when it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The first line that was held against the chain; what was before it has been moved away. 0 if there is none.
    pub first: u64,
    /// The number of the last line.
    pub entries: u64,
    /// The chain after it.
    pub chain: [u8; 32],
    /// Bytes behind the last whole line, torn by a crash.
    pub torn: u64,
    /// Bytes of the whole lines in the segment in use.
    pub(super) length: u64,
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
    /// The first line of the segment in use, and the chain before it.
    first: u64,
    before: [u8; 32],
    entries: u64,
    chain: [u8; 32],
    length: u64,
    broken: bool,
    /// Bytes behind the last line that the start cut off, as long as no line says so.
    torn: u64,
    /// The last lines, for readers.
    recent: VecDeque<Arc<Entry>>,
}

pub(super) fn dir_in(data_dir: &Path) -> PathBuf {
    data_dir.join("audit")
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
        disk.create_dir(&dir)?;
        disk.sync_dir(data_dir)?;
        let lock = disk.lock(&dir.join("lock"), &format!("process {}", std::process::id()))?;
        let (end, found) = load(disk.as_ref(), &dir)?;
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
        segments::read(disk, &dir_in(data_dir), each)
    }

    /// Holds all of this journal against its chain, and against what this process has written: what was cut off
    /// its end, or put in its place, is found as well. Blocks.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub fn verify_now(&self) -> Result<Verified, JournalError> {
        let path = self.dir.join(NAME);
        // What is written meanwhile stands behind what is looked at; a segment that is sealed meanwhile
        // would be missed, so nothing is sealed until the list is made and the last one is read.
        let (sealed, content, entries, chain) = {
            let mut end = self.lock();
            self.mend(&mut end)?;
            let mut content = segments::in_use(self.disk.as_ref(), &path)?;
            content.truncate(usize::try_from(end.length).expect("a segment fits the address space"));
            (segments::sealed(self.disk.as_ref(), &self.dir)?, content, end.entries, end.chain)
        };
        let mut walk = Walk::start(sealed.first());
        for segment in &sealed {
            walk.segment((&segment.path, &self.disk.read(&segment.path)?), false, |_| {})?;
        }
        // What is written by now was finished: nothing of it may be torn.
        walk.segment((&path, &content), false, |_| {})?;
        is_whole(&path, &walk.found, entries, chain)?;
        Ok(walk.found)
    }

    /// The whole lines of the segment in use.
    fn in_use(&self, end: &MutexGuard<'_, End>) -> Result<Vec<u8>, JournalError> {
        let mut content = vec![0; usize::try_from(end.length).expect("a segment fits the address space")];
        let read = end.file.read_at(0, &mut content)?;
        content.truncate(read);
        Ok(content)
    }

    /// Goes on after a write that failed: cuts off what it left, of which nothing was said to be written, and
    /// reads the journal anew. Every line that was written has to be there.
    fn mend(&self, end: &mut End) -> Result<(), JournalError> {
        if !end.broken {
            return Ok(());
        }
        let path = self.dir.join(NAME);
        let again = || -> Result<End, JournalError> {
            end.file.set_len(end.length)?;
            end.file.sync_data()?;
            let (again, found) = load(self.disk.as_ref(), &self.dir)?;
            is_whole(&path, &found, end.entries, end.chain)?;
            Ok(End { torn: end.torn, ..again })
        };
        *end = again().map_err(|why| JournalError::Broken { path, why: why.to_string() })?;
        Ok(())
    }

    /// Writes an entry and returns its place once it is durable. Blocks.
    ///
    /// # Errors
    /// Nothing may rest on an entry that was not written: the act it is about must not go on.
    pub fn append(&self, at: Timestamp, seen: Seen, note: Note) -> Result<u64, JournalError> {
        self.append_all(vec![(at, seen, note)])
    }

    /// Writes entries with one sync, and returns the place of the last one once all are durable. Blocks. What the
    /// start cut off is told before them.
    ///
    /// # Errors
    /// None of them was written.
    pub fn append_all(&self, mut notes: Vec<(Timestamp, Seen, Note)>) -> Result<u64, JournalError> {
        let mut end = self.lock();
        let first = notes.first().map(|(at, seen, _)| (*at, *seen));
        if let Some((at, seen)) = first.filter(|_| end.torn > 0) {
            notes.insert(0, (at, seen, cut_off(&end)));
        }
        self.put(&mut end, notes)
    }

    /// Writes down what the start cut off, unless there is nothing or a line says so already. Blocks.
    ///
    /// # Errors
    /// It is not written; the next line will tell it.
    pub(super) fn own_up(&self, at: Timestamp, seen: Seen) -> Result<(), JournalError> {
        let mut end = self.lock();
        if end.torn > 0 {
            let note = cut_off(&end);
            self.put(&mut end, vec![(at, seen, note)])?;
        }
        Ok(())
    }

    fn put(&self, end: &mut End, notes: Vec<(Timestamp, Seen, Note)>) -> Result<u64, JournalError> {
        self.mend(end)?;
        if end.length >= limits::JOURNAL_SEGMENT {
            self.seal(end)?;
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
        (end.entries, end.chain, end.torn) = (seq, chain, 0);
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
        // From the first renaming on, only the disk knows what is there.
        end.broken = true;
        self.disk.rename(&path, &self.dir.join(sealed_name(end.first, end.before)))?;
        // A crash may keep the second renaming without the first, and then nothing names what is sealed.
        self.disk.sync_dir(&self.dir)?;
        self.disk.rename(&next, &path)?;
        self.disk.sync_dir(&self.dir)?;
        end.file = self.disk.open(&path)?;
        (end.first, end.before) = (end.entries + 1, end.chain);
        (end.length, end.broken) = (0, false);
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
            let all = segments::sealed(self.disk.as_ref(), &self.dir)?;
            // The last that begins at or before the line; what was moved away is passed over.
            let at = all.iter().rposition(|sealed| sealed.first <= seq + 1).unwrap_or(0);
            match all.get(at) {
                Some(sealed) => (self.disk.read(&sealed.path)?, sealed.path.clone()),
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

/// Reads the last two segments, begins one if there is none in use, and cuts off what a crash has torn. The second
/// value is what was found before that.
fn load(disk: &dyn Disk, dir: &Path) -> Result<(End, Verified), JournalError> {
    let path = dir.join(NAME);
    if !disk.exists(&path)? {
        match disk.exists(&dir.join(NEXT))? {
            true => disk.rename(&dir.join(NEXT), &path)?,
            false => disk.create(&path)?.sync_data()?,
        }
    }
    // Also for one that is there: whoever made it may have crashed before its name was durable.
    disk.sync_dir(dir)?;
    let mut recent = VecDeque::new();
    let mut keep = |entry| {
        recent.push_back(Arc::new(entry));
        if recent.len() > limits::JOURNAL_RECENT {
            recent.pop_front();
        }
    };
    let sealed = segments::sealed(disk, dir)?.pop();
    let mut walk = Walk::start(sealed.as_ref());
    if let Some(sealed) = &sealed {
        walk.segment((&sealed.path, &disk.read(&sealed.path)?), false, &mut keep)?;
    }
    let (first, before) = (walk.found.entries + 1, walk.found.chain);
    walk.segment((&path, &disk.read(&path)?), true, &mut keep)?;
    let found = walk.found;
    let file = disk.open(&path)?;
    if found.torn > 0 {
        tracing::warn!(file = %path.display(), bytes = found.torn,
            "the end of the journal was torn by a crash and is cut off");
        file.set_len(found.length)?;
    }
    // What was read may still lie in the caches of a machine whose last process was killed.
    file.sync_data()?;
    let Verified { entries, chain, length, torn, .. } = found;
    Ok((End { file, first, before, entries, chain, length, broken: false, torn, recent }, found))
}

/// Whether what was read is all that was written.
fn is_whole(path: &Path, found: &Verified, entries: u64, chain: [u8; 32]) -> Result<(), JournalError> {
    let (seq, why) = match found.entries {
        read if read < entries => (read + 1, format!("its lines end before it, and {entries} were written")),
        read if (read, found.chain) != (entries, chain) => {
            (read, "its end is not what this server has written".to_owned())
        }
        _ => return Ok(()),
    };
    Err(JournalError::Damaged { path: path.to_owned(), seq, why })
}

/// The line about what the start cut off.
fn cut_off(end: &End) -> Note {
    let (bytes, line) = (end.torn, end.entries);
    let reason = format!(
        "{bytes} bytes behind line {line} were torn, by a crash as far as can be known, and were cut off at the \
         start: what they told of is not known"
    );
    Note { reason, ..Note::new(AuditType::Lost, "several", AuditRequest::default(), Outcome::Unknown) }
}

#[cfg(test)]
mod tests;
