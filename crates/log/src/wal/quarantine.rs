//! Damaged files as they were found: kept for people before anything takes their place.
//!
//! A copy is named after the file and its content, so that keeping it again changes nothing. Nothing
//! reads the copies and nothing removes them. There is room for [`limits::QUARANTINE_FILES`]; past
//! that nothing is repaired, which is said.

use super::archive;
use rt::{Disk, DiskError};
use std::path::{Path, PathBuf};
use types::limits;

const QUARANTINE: &str = "quarantine";
/// Names the archived segment that a read found damaged.
const SUSPECT: &str = "suspect";

/// The damaged files that are kept in a log directory.
///
/// # Errors
/// The disk failed.
pub fn quarantined(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let place = dir.join(QUARANTINE);
    match disk.list(&place) {
        // What a crash left of a copy is none.
        Ok(names) => Ok(names
            .iter()
            .filter(|name| !name.ends_with(super::format::UNFINISHED))
            .map(|name| place.join(name))
            .collect()),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether another damaged file may be kept.
pub(super) fn has_room(disk: &dyn Disk, dir: &Path) -> Result<bool, DiskError> {
    Ok(quarantined(disk, dir)?.len() < limits::QUARANTINE_FILES)
}

/// Keeps a copy of a file, durably; the file stays. Gives the copy, or none of a file that is gone.
pub(super) fn keep(disk: &dyn Disk, dir: &Path, path: &Path) -> Result<Option<PathBuf>, DiskError> {
    let bytes = match disk.read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let place = dir.join(QUARANTINE);
    disk.create_dir(&place)?;
    disk.sync_dir(dir)?;
    let name = path.file_name().expect("a file has a name").to_string_lossy();
    let copy = place.join(format!("{name}.{:08x}", crc32c::crc32c(&bytes)));
    if !disk.exists(&copy)? {
        rt::replace_file(disk, &copy, &bytes)?;
    }
    disk.sync_dir(&place)?;
    Ok(Some(copy))
}

/// Notes that a read found this archived segment damaged: its content is not looked at by a start, so
/// the next one would not know.
pub(super) fn suspect(disk: &dyn Disk, dir: &Path, path: &Path) -> Result<(), DiskError> {
    let name = path.file_name().expect("a file has a name").to_string_lossy();
    rt::replace_file(disk, &dir.join(SUSPECT), name.as_bytes())
}

/// The archived segment of which that is noted, if it is damaged indeed, and what is wrong with it.
pub(super) fn suspected(disk: &dyn Disk, dir: &Path) -> Result<Option<(PathBuf, String)>, DiskError> {
    let name = match disk.read(&dir.join(SUSPECT)) {
        Ok(name) => name,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let path = dir.join(super::format::ARCHIVE).join(String::from_utf8_lossy(&name).as_ref());
    if !disk.exists(&path)? {
        return Ok(None);
    }
    let wrong = match archive::Archived::read(disk, &path)? {
        Err(why) => Some(why.to_owned()),
        Ok(archived) => match archive::unpack(disk, &archived) {
            Ok(_) => None,
            Err(crate::ReadError::Disk(error)) => return Err(error),
            Err(error) => Some(error.to_string()),
        },
    };
    Ok(wrong.map(|why| (path, why)))
}

/// Forgets what was noted.
pub(super) fn clear_suspect(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    match disk.remove(&dir.join(SUSPECT)) {
        Err(error) if error.is_not_found() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => disk.sync_dir(dir),
    }
}
