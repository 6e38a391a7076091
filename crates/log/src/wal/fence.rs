//! The marker of a fenced node: it refuses to sequence until another authority has begun.
//!
//! It stands in the log directory, so that it outlives restarts and can be put there while the node
//! does not run. It is no vote, so it deposes nobody: the node still follows and still votes.

use super::format::{checked, unchecked};
use rt::{Disk, DiskError};
use std::path::Path;
use types::Epoch;

const FENCE: &str = "fence";
const MAGIC: &[u8; 8] = b"HFFENC\0\x01";

/// Marks the node of this directory as fenced in this epoch.
pub(super) fn save(disk: &dyn Disk, dir: &Path, epoch: Epoch) -> Result<(), DiskError> {
    rt::replace_file(disk, &dir.join(FENCE), &checked(MAGIC, &epoch.get().to_le_bytes()))
}

/// The epoch in which the node is fenced. A marker that cannot be read fences in `now`: it was put
/// there for a reason.
pub(super) fn load(disk: &dyn Disk, dir: &Path, now: Epoch) -> Result<Option<Epoch>, DiskError> {
    let path = dir.join(FENCE);
    let bytes = match disk.read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let Some(body) = unchecked(MAGIC, &bytes, 8) else {
        tracing::warn!(file = %path.display(), "damaged: this node is fenced all the same");
        return Ok(Some(now));
    };
    Ok(Some(Epoch::new(u64::from_le_bytes(body.try_into().expect("eight bytes")))))
}

/// Lifts the marker.
pub(super) fn lift(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    match disk.remove(&dir.join(FENCE)) {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => disk.sync_dir(dir),
    }
}
