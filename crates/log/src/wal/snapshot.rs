//! Snapshots: the folded state at an event, so that a start need not read all of history.
//!
//! ```text
//! magic [u8;8], log id [u8;16], event u64, content …, content length u64, crc32c u32 over all
//! ```
//!
//! A snapshot also proves that the log was durable up to its event: a log that ends before its
//! snapshot has lost something, and recovery says so.

use super::{
    archive,
    format::{Inventory, SNAPSHOTS, UNFINISHED, snapshot_path},
    quarantine,
    store::Store,
};
use crate::{SnapshotError, SnapshotWriter};
use rt::{DiskError, DiskFile};
use std::{
    io::{self, Write},
    path::Path,
};
use types::EventId;

const MAGIC: &[u8; 8] = b"HFSNAP\0\x01";
const HEADER: usize = 8 + 16 + 8;
const TRAILER: usize = 8 + 4;
/// So many snapshots are kept.
const KEPT: usize = 2;
const BUFFER: usize = 256 << 10;

/// Writes to a file from its beginning and keeps the checksum.
struct Output<'a> {
    file: &'a dyn DiskFile,
    buffer: Vec<u8>,
    offset: u64,
    checksum: u32,
    /// The disk's own error, which [`io::Error`] cannot carry whole.
    failed: Option<DiskError>,
}

impl Output<'_> {
    fn flush_buffer(&mut self) -> io::Result<()> {
        if let Err(error) = self.file.write_at(self.offset, &self.buffer) {
            let kind = error.source.kind();
            self.failed = Some(error);
            return Err(kind.into());
        }
        self.checksum = crc32c::crc32c_append(self.checksum, &self.buffer);
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= BUFFER {
            self.flush_buffer()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.flush_buffer()
    }
}

/// Saves a snapshot, drops all but the last two, and seals the segments behind the oldest kept.
pub(super) fn save(store: &Store, at: EventId, write: SnapshotWriter) -> Result<(), SnapshotError> {
    let head = store.head().event;
    if at > head {
        return Err(SnapshotError::Ahead { at, head });
    }
    let _one_at_a_time = store.sealing.lock().expect("no code panics while it holds this lock");
    let disk = &*store.disk;
    let path = snapshot_path(&store.dir, at);
    let new = path.with_extension(format!("snap{UNFINISHED}"));
    match disk.remove(&new) {
        Err(error) if !error.is_not_found() => return Err(SnapshotError::Disk(error)),
        _ => {}
    }
    if let Err(error) = write_file(store, &new, at, write) {
        // Give the space back. What failed is what the caller must hear.
        let _best_effort = disk.remove(&new);
        return Err(error);
    }
    disk.rename(&new, &path).map_err(SnapshotError::Disk)?;
    disk.sync_dir(&store.dir.join(SNAPSHOTS)).map_err(SnapshotError::Disk)?;
    let oldest = drop_old(store).map_err(SnapshotError::Disk)?;
    archive::seal(store, oldest).map_err(|error| SnapshotError::Seal { why: error.to_string() })?;
    Ok(())
}

fn write_file(store: &Store, new: &Path, at: EventId, write: SnapshotWriter) -> Result<(), SnapshotError> {
    let file = store.disk.create(new).map_err(SnapshotError::Disk)?;
    let mut buffer = Vec::with_capacity(2 * BUFFER);
    buffer.extend_from_slice(MAGIC);
    buffer.extend_from_slice(&store.log_id);
    buffer.extend_from_slice(&at.get().to_le_bytes());
    let mut output = Output { file: &*file, buffer, offset: 0, checksum: 0, failed: None };
    let finish = || -> io::Result<()> {
        write(&mut output)?;
        output.flush_buffer()?;
        let length = output.offset - HEADER as u64;
        output.buffer.extend_from_slice(&length.to_le_bytes());
        output.flush_buffer()?;
        let checksum = output.checksum;
        output.buffer.extend_from_slice(&checksum.to_le_bytes());
        output.flush_buffer()
    };
    if let Err(error) = finish() {
        return Err(match output.failed {
            Some(error) => SnapshotError::Disk(error),
            None => SnapshotError::Content(error),
        });
    }
    file.sync_data().map_err(SnapshotError::Disk)
}

/// Removes all but the last snapshots; gives the oldest that is kept. A damaged one does not count:
/// what it was to stand for must stay replayable.
fn drop_old(store: &Store) -> Result<EventId, DiskError> {
    let disk = &*store.disk;
    let mut kept = Vec::new();
    for at in Inventory::take(disk, &store.dir)?.snapshots.into_iter().rev() {
        let path = snapshot_path(&store.dir, at);
        if kept.len() >= KEPT {
            disk.remove(&path)?;
        } else if decode(&disk.read(&path)?, &store.log_id, at).is_ok() {
            kept.push(at);
        }
    }
    Ok(kept.last().copied().unwrap_or(EventId::ZERO))
}

fn set_aside(store: &Store, path: &Path) -> Result<(), DiskError> {
    let _not_while_one_is_saved = store.sealing.lock().expect("no code panics while it holds this lock");
    quarantine::keep(&*store.disk, &store.dir, path)?;
    store.disk.remove(path)?;
    store.disk.sync_dir(&store.dir.join(SNAPSHOTS))
}

/// The newest good snapshot. A member, which has every entry, goes on without one if it must.
pub(super) fn load(store: &Store) -> Result<Option<(EventId, Vec<u8>)>, SnapshotError> {
    let disk = &*store.disk;
    let is_member = store.view().replica.is_used();
    let mut damaged = None;
    for at in Inventory::take(disk, &store.dir).map_err(SnapshotError::Disk)?.snapshots.into_iter().rev() {
        let path = snapshot_path(&store.dir, at);
        match decode(&disk.read(&path).map_err(SnapshotError::Disk)?, &store.log_id, at) {
            Ok(content) => {
                if let Some((path, why)) = damaged {
                    tracing::warn!(snapshot = %path, why, event = at.get(),
                        "a snapshot is damaged; going on with the one before it");
                }
                return Ok(Some((at, content.to_vec())));
            }
            Err(why)
                if is_member && quarantine::has_room(disk, &store.dir).map_err(SnapshotError::Disk)? =>
            {
                set_aside(store, &path).map_err(SnapshotError::Disk)?;
                tracing::warn!(snapshot = %path.display(), why, "a snapshot is damaged, and kept in quarantine");
            }
            Err(why) => {
                damaged.get_or_insert((path.display().to_string(), why));
            }
        }
    }
    match damaged {
        // The log has every event from the first on.
        Some((snapshot, why)) if is_member => {
            tracing::warn!(snapshot, why, "no snapshot is readable; going on without");
            Ok(None)
        }
        None => Ok(None),
        Some((_, why)) => Err(SnapshotError::Damaged { path: store.dir.join(SNAPSHOTS), why: why.into() }),
    }
}

/// The event of the newest good snapshot, or `event` if none is newer.
pub(super) fn newest_after(store: &Store, event: EventId) -> Result<EventId, DiskError> {
    let snapshots = Inventory::take(&*store.disk, &store.dir)?.snapshots;
    for at in snapshots.into_iter().rev().take_while(|at| *at > event) {
        let content = store.disk.read(&snapshot_path(&store.dir, at))?;
        if decode(&content, &store.log_id, at).is_ok() {
            return Ok(at);
        }
    }
    Ok(event)
}

/// A whole snapshot file of this content.
pub(super) fn encode(log_id: &[u8; 16], at: EventId, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + content.len() + TRAILER);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(log_id);
    out.extend_from_slice(&at.get().to_le_bytes());
    out.extend_from_slice(content);
    out.extend_from_slice(&(content.len() as u64).to_le_bytes());
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

/// The content of a snapshot file, checked.
pub(super) fn decode<'a>(bytes: &'a [u8], log_id: &[u8; 16], at: EventId) -> Result<&'a [u8], &'static str> {
    if bytes.len() < HEADER + TRAILER {
        return Err("it is cut short");
    }
    let (body, checksum) = bytes.split_at(bytes.len() - 4);
    if crc32c::crc32c(body).to_le_bytes() != *checksum {
        return Err("its checksum does not match its content");
    }
    if body[..8] != *MAGIC {
        return Err("it does not begin like a snapshot");
    }
    if body[8..24] != *log_id {
        return Err("it belongs to another log");
    }
    if body[24..32] != at.get().to_le_bytes() {
        return Err("it is of another event than its name says");
    }
    let (content, length) = body[HEADER..].split_at(body.len() - HEADER - 8);
    if *length != (content.len() as u64).to_le_bytes() {
        return Err("it has another length than it says");
    }
    Ok(content)
}
