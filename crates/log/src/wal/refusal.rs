//! The marker of a directory that another member knows for an older copy of one: it must not be started
//! again, for each start would make it look younger. Only the directory's removal removes it.

use rt::{Disk, DiskError};
use std::path::Path;

const REFUSED: &str = "refused";

/// Marks this directory, with the reason for people to read.
pub(super) fn save(disk: &dyn Disk, dir: &Path, why: &str) -> Result<(), DiskError> {
    rt::replace_file(disk, &dir.join(REFUSED), format!("{why}\n").as_bytes())
}

/// Why this directory must not be started, if so.
pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<String>, DiskError> {
    match disk.read(&dir.join(REFUSED)) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).trim().to_owned())),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Takes the marker away, where the directory becomes that of a new node in a new cluster.
pub(super) fn lift(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    match disk.remove(&dir.join(REFUSED)) {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => disk.sync_dir(dir),
    }
}
