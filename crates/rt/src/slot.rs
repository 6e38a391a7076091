//! A small file that is replaced whole, checked when read, and keeps its previous content.
//!
//! Agents and edges keep their plan in one: after a power cut it is all they have. Invariants:
//!
//! - When [`Slot::store`] has returned, every later [`Slot::load`] gives that content or newer
//!   content, whatever crashes in between, unless the disk damages it.
//! - Damaged content is never returned. It is moved aside under a name of its own, for people, and
//!   the content stored before it is given instead, marked as such.
//! - A store that failed or crashed leaves the content before it or its own, whole.

use crate::{
    Disk, DiskError,
    replace::{parent, write_unfinished},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Eight bytes that say what the file is, and the version of its layout.
const MAGIC: &[u8; 8] = b"HFSLOT\0\x01";
/// Magic, counter, length, checksum over all but the magic and itself.
const HEADER: usize = 8 + 8 + 8 + 4;

/// A named content in a directory.
#[derive(Debug)]
pub struct Slot {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// How many stores there were, for people who look at several files of a slot. Which content is
    /// the newest is said by the names alone: renames are atomic and leave one file under each.
    counter: u64,
}

/// What a slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The content.
    pub bytes: Vec<u8>,
    /// Set when this is not the newest content, because the newest is damaged.
    pub fallback: Option<Fallback>,
}

/// The newest content was damaged and the one before it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Where the damaged file is now.
    pub damaged: PathBuf,
    /// What is wrong with it.
    pub why: String,
}

/// Why a slot could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// What is in the file is not what was stored, and there is no previous content.
    #[error("{} is damaged: {why}; it is kept as {}", path.display(), aside.display())]
    Damaged {
        /// The file that was damaged.
        path: PathBuf,
        /// Where it is now.
        aside: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The disk did not do what was asked.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

enum Content {
    Missing,
    Good { counter: u64, bytes: Vec<u8> },
    Damaged(String),
}

impl Slot {
    /// The slot of this name in this directory, which is created if need be. One process at a time
    /// may have it open.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, name: &str) -> Result<Self, SlotError> {
        disk.create_dir(dir)?;
        let mut slot = Self { path: dir.join(name), disk, counter: 0 };
        for path in [slot.path.clone(), slot.previous()] {
            if let Content::Good { counter, .. } = slot.read(&path)? {
                slot.counter = slot.counter.max(counter);
            }
        }
        Ok(slot)
    }

    /// What was stored last; `None` if nothing ever was.
    pub fn load(&self) -> Result<Option<Loaded>, SlotError> {
        let why = match self.read(&self.path)? {
            Content::Good { bytes, .. } => return Ok(Some(Loaded { bytes, fallback: None })),
            Content::Missing => None,
            Content::Damaged(why) => Some((self.put_aside(&self.path)?, why)),
        };
        match (self.read(&self.previous())?, why) {
            // A store that crashed between its two renames: the content before it stands.
            (Content::Good { bytes, .. }, None) => Ok(Some(Loaded { bytes, fallback: None })),
            (Content::Good { bytes, .. }, Some((damaged, why))) => {
                tracing::warn!(file = %self.path.display(), aside = %damaged.display(), why,
                    "damaged; going on with the content stored before it");
                Ok(Some(Loaded { bytes, fallback: Some(Fallback { damaged, why }) }))
            }
            (Content::Missing, None) => Ok(None),
            (Content::Damaged(why), None) => {
                let path = self.previous();
                let aside = self.put_aside(&path)?;
                Err(SlotError::Damaged { path, aside, why })
            }
            (_, Some((aside, why))) => Err(SlotError::Damaged { path: self.path.clone(), aside, why }),
        }
    }

    /// Replaces the content. Durable when it returns.
    pub fn store(&mut self, bytes: &[u8]) -> Result<(), SlotError> {
        let counter = self.counter + 1;
        let new = write_unfinished(&*self.disk, &self.path, &encode(counter, bytes))?;
        // Only good content may become the previous one: it is what a damaged file falls back to.
        if let Content::Good { .. } = self.read(&self.path)? {
            self.disk.rename(&self.path, &self.previous())?;
        }
        self.disk.rename(&new, &self.path)?;
        self.disk.sync_dir(parent(&self.path))?;
        self.counter = counter;
        Ok(())
    }

    /// Moves what [`Slot::load`] gives out of the way, for a caller to whom it makes no sense. The
    /// next load gives the content stored before it, if there is any. `None`: nothing was there.
    pub fn put_newest_aside(&self) -> Result<Option<PathBuf>, SlotError> {
        for path in [self.path.clone(), self.previous()] {
            if self.disk.exists(&path)? {
                return self.put_aside(&path).map(Some);
            }
        }
        Ok(None)
    }

    /// The file that holds the newest content.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn previous(&self) -> PathBuf {
        self.beside("previous")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.file_name().expect("made with a name").to_os_string();
        name.push(".");
        name.push(suffix);
        self.path.with_file_name(name)
    }

    fn put_aside(&self, path: &Path) -> Result<PathBuf, SlotError> {
        let mut number = 1;
        let aside = loop {
            let aside = self.beside(&format!("damaged-{number}"));
            if !self.disk.exists(&aside)? {
                break aside;
            }
            number += 1;
        };
        self.disk.rename(path, &aside)?;
        self.disk.sync_dir(parent(path))?;
        Ok(aside)
    }

    fn read(&self, path: &Path) -> Result<Content, SlotError> {
        match self.disk.read(path) {
            Ok(content) => Ok(decode(&content)),
            Err(error) if error.is_not_found() => Ok(Content::Missing),
            Err(error) => Err(error.into()),
        }
    }
}

fn encode(counter: u64, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + bytes.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&counter.to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(&checksum(&out[8..24], bytes).to_le_bytes());
    out.extend_from_slice(bytes);
    out
}

fn checksum(header: &[u8], bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), bytes)
}

fn decode(content: &[u8]) -> Content {
    let damaged = |why: String| Content::Damaged(why);
    if content.len() < HEADER {
        return damaged(format!("it has {} bytes, less than its header", content.len()));
    }
    if content[..7] != MAGIC[..7] {
        return damaged("it does not begin like a file of this kind".into());
    }
    if content[7] != MAGIC[7] {
        return damaged(format!("its layout is version {}, and this program knows {}", content[7], MAGIC[7]));
    }
    let (header, bytes) = content.split_at(HEADER);
    let number = |range: std::ops::Range<usize>| {
        u64::from_le_bytes(header[range].try_into().expect("a range of eight bytes"))
    };
    if number(16..24) != bytes.len() as u64 {
        return damaged(format!("it should hold {} bytes and holds {}", number(16..24), bytes.len()));
    }
    let stored = u32::from_le_bytes(header[24..28].try_into().expect("a range of four bytes"));
    if stored != checksum(&header[8..24], bytes) {
        return damaged("its checksum does not match its content".into());
    }
    Content::Good { counter: number(8..16), bytes: bytes.to_vec() }
}
