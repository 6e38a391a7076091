//! The journal: `audit/journal` in the data directory, what the log cannot hold.
//!
//! Acts that were made on the disk without a server, and guarded acts that were confirmed, refused or
//! denied on this node, also when no log could be written. One line of JSON for each, durable before
//! the act goes on, each with a hash over its text and the hash before it.
//!
//! Invariants:
//! - an entry that was appended is never changed: whatever differs from the chain is an error and is
//!   never repaired.
//! - only the last line can be torn by a crash, and nothing rested on it: it is cut off, and said.
//! - after a failed write that cannot be taken back, or a failed sync, nothing is appended any more.

use rt::{Disk, DiskError, DiskFile, DiskLock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use types::{Timestamp, limits};

/// The version of the shape of a line.
const VERSION: u32 = 1;

/// What came of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It was confirmed and is about to run; what became of it is in the log, or in a later entry.
    Confirmed,
    /// Its confirmation was not valid; nothing was tried.
    Refused,
    /// A rule forbade it, before it was confirmed or after.
    Denied,
    /// It was done.
    Executed,
    /// It was tried, and failed or is in doubt.
    Failed,
}

/// What is to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Who acted.
    pub actor: String,
    /// The act and its target.
    pub act: String,
    /// What was asked, as in `POST /v1/cluster/promote {…}`, or the command line.
    pub request: String,
    /// What came of it.
    pub outcome: Ended,
    /// Why: the reason given, or the rule that said no.
    pub reason: String,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The version of this shape.
    #[serde(rename = "v")]
    pub version: u32,
    /// Its place: 1, 2, 3, …
    pub seq: u64,
    /// When, by the machine's clock.
    pub at: Timestamp,
    /// Who acted.
    pub actor: String,
    /// The act and its target.
    pub act: String,
    /// What was asked.
    pub request: String,
    /// What came of it.
    pub outcome: Ended,
    /// Why.
    pub reason: String,
    /// SHA-256, in hexadecimal, over the chain before (32 bytes, zeroes before the first) and this
    /// line with an empty chain.
    #[serde(default)]
    pub chain: String,
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk did not do what was asked.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// An entry is not what was written.
    #[error("{} is damaged at entry {seq}: {why}; keep the file, and look at its copies", path.display())]
    Damaged {
        /// The journal.
        path: PathBuf,
        /// The entry that is not as it was written.
        seq: u64,
        /// What is wrong with it.
        why: String,
    },
    /// It has its largest size.
    #[error("{} has reached {} bytes; move it away, and a new one begins", path.display(), limits::JOURNAL_BYTES)]
    Full {
        /// The journal.
        path: PathBuf,
    },
    /// An earlier write failed, so that the file is not to be trusted until it is read again.
    #[error("{} could not be written before; restart the server", path.display())]
    Broken {
        /// The journal.
        path: PathBuf,
    },
}

/// What the journal held when it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many entries there are.
    pub entries: u64,
    /// The chain after the last of them.
    pub chain: [u8; 32],
    /// Bytes behind the last whole entry, torn by a crash.
    pub torn: u64,
    /// Bytes of the whole entries.
    length: u64,
}

/// The journal, open for appending. One process at a time has it.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    end: Mutex<End>,
    _lock: Box<dyn DiskLock>,
}

#[derive(Debug)]
struct End {
    file: Box<dyn DiskFile>,
    entries: u64,
    chain: [u8; 32],
    length: u64,
    broken: bool,
}

fn path_in(data_dir: &Path) -> PathBuf {
    data_dir.join("audit").join("journal")
}

impl Journal {
    /// Opens the journal of a data directory, begins it if there is none, and cuts what a crash has
    /// torn. The second value is what was found before that.
    ///
    /// # Errors
    /// The disk, another process that has it open, or an entry that is not as it was written.
    pub fn open(disk: &Arc<dyn Disk>, data_dir: &Path) -> Result<(Self, Verified), JournalError> {
        let path = path_in(data_dir);
        let dir = data_dir.join("audit");
        disk.create_dir(&dir)?;
        disk.sync_dir(data_dir)?;
        let lock = disk.lock(&dir.join("lock"), &format!("process {}", std::process::id()))?;
        if !disk.exists(&path)? {
            disk.create(&path)?.sync_data()?;
        }
        // Also for one that is there: whoever made it may have crashed before its name was durable.
        disk.sync_dir(&dir)?;
        let found = Self::verify(disk.as_ref(), data_dir)?;
        let file = disk.open(&path)?;
        if found.torn > 0 {
            tracing::warn!(file = %path.display(), bytes = found.torn,
                "the end of the journal was torn by a crash and is cut off; no act rested on it");
            file.set_len(found.length)?;
        }
        // What was read may still lie in the caches of a machine whose last process was killed.
        file.sync_data()?;
        let Verified { entries, chain, length, .. } = found;
        let end = Mutex::new(End { file, entries, chain, length, broken: false });
        Ok((Self { path, end, _lock: lock }, found))
    }

    /// Reads a whole journal, without its lock. One that was never begun is empty.
    ///
    /// # Errors
    /// The disk, or the first entry that is not as it was written.
    pub fn verify(disk: &dyn Disk, data_dir: &Path) -> Result<Verified, JournalError> {
        Self::read(disk, data_dir, |_| {})
    }

    /// The same, and hands over each entry.
    ///
    /// # Errors
    /// The disk, or the first entry that is not as it was written.
    pub fn read(
        disk: &dyn Disk,
        data_dir: &Path,
        mut each: impl FnMut(Entry),
    ) -> Result<Verified, JournalError> {
        let path = path_in(data_dir);
        let content = match disk.read(&path) {
            Ok(content) => content,
            Err(error) if error.is_not_found() => return Ok(Verified::default()),
            Err(error) => return Err(error.into()),
        };
        let mut found = Verified::default();
        let mut rest = &content[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end + 1);
            // Of an unfinished write any part may be there, its end without its beginning too; what is
            // missing reads as zeroes, which no line has.
            if after.is_empty() && line.contains(&0) {
                break;
            }
            let seq = found.entries + 1;
            let entry = check(&line[..end], seq, found.chain).map_err(|why| JournalError::Damaged {
                path: path.clone(),
                seq,
                why,
            })?;
            found.chain = chained(found.chain, &entry);
            found.entries = seq;
            found.length += line.len() as u64;
            each(entry);
            rest = after;
        }
        found.torn = rest.len() as u64;
        Ok(found)
    }

    /// Writes an entry and returns its place once it is durable. Blocks.
    ///
    /// # Errors
    /// Nothing may rest on an entry that was not written: the act it is about must not go on.
    pub fn append(&self, at: Timestamp, note: Note) -> Result<u64, JournalError> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if end.broken {
            return Err(JournalError::Broken { path: self.path.clone() });
        }
        let Note { actor, act, request, outcome, reason } = note;
        let mut entry = Entry {
            version: VERSION,
            seq: end.entries + 1,
            at,
            actor: bounded(actor),
            act: bounded(act),
            request: bounded(request),
            outcome,
            reason: bounded(reason),
            chain: String::new(),
        };
        let chain = chained(end.chain, &entry);
        entry.chain = hex(chain);
        let mut line = text(&entry);
        line.push('\n');
        if end.length + line.len() as u64 > limits::JOURNAL_BYTES as u64 {
            return Err(JournalError::Full { path: self.path.clone() });
        }
        if let Err(error) = end.file.write_at(end.length, line.as_bytes()) {
            // A full disk takes nothing, or a part that can be cut off again.
            end.broken = end.file.set_len(end.length).is_err();
            return Err(error.into());
        }
        if let Err(error) = end.file.sync_data() {
            end.broken = true;
            return Err(error.into());
        }
        end.length += line.len() as u64;
        end.entries = entry.seq;
        end.chain = chain;
        Ok(entry.seq)
    }
}

fn text(entry: &Entry) -> String {
    serde_json::to_string(entry).expect("an entry is plain data")
}

fn chained(before: [u8; 32], entry: &Entry) -> [u8; 32] {
    let bare = Entry { chain: String::new(), ..entry.clone() };
    Sha256::new_with_prefix(before).chain_update(text(&bare)).finalize().into()
}

fn check(line: &[u8], seq: u64, before: [u8; 32]) -> Result<Entry, String> {
    let entry: Entry = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    if entry.version != VERSION {
        return Err(format!("it is of version {}, and this Holdfast reads {VERSION}", entry.version));
    }
    if entry.seq != seq {
        return Err(format!("it says that it is entry {}", entry.seq));
    }
    if entry.chain != hex(chained(before, &entry)) || text(&entry).as_bytes() != line {
        return Err("it is not what its chain says".to_owned());
    }
    Ok(entry)
}

fn bounded(mut text: String) -> String {
    if text.len() > limits::JOURNAL_TEXT {
        let whole = text.len();
        let cut = (0..=limits::JOURNAL_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push_str(&format!("… ({whole} bytes)"));
    }
    text
}

fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
