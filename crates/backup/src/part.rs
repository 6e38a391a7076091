//! A run of entries in one object.
//!
//! ```text
//! magic  [u8;8]
//! before [u8;64]   the head before its first entry
//! end    [u8;64]   the head after its last
//! entries          as `log::wal::Carried` lays them out
//! ```

use crate::store::{ObjectError, Store};
use bytes::Bytes;
use log::{
    Head,
    wal::{Carried, Entries, EntriesError},
};
use types::{Index, limits};

const MAGIC: &[u8; 8] = b"HFPART\0\x01";
const HEADER: usize = 8 + 2 * Head::BYTES;

/// A run of entries.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub before: Head,
    pub end: Head,
    /// As it lies in the object, unsealed.
    pub content: Bytes,
    /// Whether it was closed because it was large enough: another backup cuts it the same way.
    pub full: bool,
}

impl Part {
    /// Takes entries up to `until`, but not many more than make a part; `None` if there is none.
    /// `each` sees the head after every entry.
    pub(crate) fn cut(
        entries: &mut Entries,
        until: Index,
        mut each: impl FnMut(&Head) -> Result<(), EntriesError>,
    ) -> Result<Option<Self>, EntriesError> {
        let before = entries.head();
        let mut content = vec![0; HEADER];
        while content.len() < limits::BACKUP_PART {
            let Some(entry) = entries.next(until)? else { break };
            entry.put(&mut content);
            each(&entries.head())?;
        }
        let end = entries.head();
        if end.index == before.index {
            return Ok(None);
        }
        content[..8].copy_from_slice(MAGIC);
        content[8..8 + Head::BYTES].copy_from_slice(&before.to_bytes());
        content[8 + Head::BYTES..HEADER].copy_from_slice(&end.to_bytes());
        let full = content.len() >= limits::BACKUP_PART;
        Ok(Some(Self { before, end, content: content.into(), full }))
    }

    /// Reads what [`Self::cut`] made: the heads only, nothing is checked yet.
    pub(crate) fn read(content: Bytes) -> Result<Self, &'static str> {
        if content.len() < HEADER || content[..8] != *MAGIC {
            return Err("it does not begin like a part of a log");
        }
        let head = |at: usize| {
            Head::from_bytes(content[at..at + Head::BYTES].try_into().expect("a range as long as a head"))
        };
        let (before, end) = (head(8), head(8 + Head::BYTES));
        let full = content.len() >= limits::BACKUP_PART;
        Ok(Self { before, end, content, full })
    }

    /// Gives each entry that comes after `from`, which lies in this part, checked against the one before
    /// it, until told to stop. The error says where in the part it is.
    pub(crate) fn walk(
        &self,
        from: Head,
        mut each: impl FnMut(&Carried, &Head) -> Walk,
    ) -> Result<Head, (u64, String)> {
        let mut rest = self.content.slice(HEADER..);
        let (mut head, mut reached) = (self.before, self.before.index >= from.index);
        if reached && self.before != from {
            return Err((0, "it does not begin where the one before it ends".into()));
        }
        while !rest.is_empty() {
            let offset = (self.content.len() - rest.len()) as u64;
            let entry = Carried::take(&mut rest).map_err(|why| (offset, why.to_owned()))?;
            let next = entry.follows(&head).map_err(|why| (offset, why))?;
            if reached && each(&entry, &next) == Walk::Stop {
                return Ok(head);
            }
            head = next;
            if !reached && head.index == from.index {
                reached = true;
                if head != from {
                    return Err((offset, "its history is not the one of the parts before it".into()));
                }
            }
        }
        if head != self.end {
            return Err((self.content.len() as u64, "it does not end where it says".into()));
        }
        Ok(head)
    }
}

/// Checks all of a part that comes after `from`, off the async threads; gives its end.
pub(crate) async fn check(store: &Store, name: &str, part: Part, from: Head) -> Result<Head, ObjectError> {
    let walked = tokio::task::spawn_blocking(move || part.walk(from, |_, _| Walk::On));
    let walked = walked.await.expect("checking a part does not panic");
    walked.map_err(|(offset, why)| store.damaged(name, offset, why))
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walk {
    On,
    Stop,
}

/// Cuts bytes into pieces of the size of a part.
pub(crate) fn pieces(content: Vec<u8>) -> impl Iterator<Item = Bytes> {
    let mut rest = Bytes::from(content);
    std::iter::from_fn(move || {
        let size = rest.len().min(limits::BACKUP_PART);
        (size > 0).then(|| rest.split_to(size))
    })
}
