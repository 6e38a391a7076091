//! Replacing a file so that a crash at any instruction leaves the old content or the new.

use crate::{Disk, DiskError};
use std::path::{Path, PathBuf};

/// The name a file has while it is being written. Leftovers of a crash are overwritten.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().expect("a file has a name").to_os_string();
    name.push(".new");
    path.with_file_name(name)
}

/// The directory of a file.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Writes `bytes` beside `path` under another name and makes them durable, but does not rename.
pub(crate) fn write_unfinished(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<PathBuf, DiskError> {
    let new = unfinished(path);
    match disk.remove(&new) {
        Err(error) if !error.is_not_found() => return Err(error),
        _ => {}
    }
    let file = disk.create(&new)?;
    let written = file.write_at(0, bytes).and_then(|()| file.sync_data());
    if written.is_err() {
        // Give the space back: the disk may be full. What failed is what the caller must hear.
        let _best_effort = disk.remove(&new);
    }
    written.map(|()| new)
}

/// Replaces the content of `path`, or creates it. When this returns `Ok`, the new content survives
/// a crash; when it fails or crashes on the way, the file has wholly the old content or wholly the
/// new.
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), DiskError> {
    let new = write_unfinished(disk, path, bytes)?;
    disk.rename(&new, path)?;
    disk.sync_dir(parent(path))
}
