//! The root of an instance: its image, read-only and shared, under a scratch layer of its own.
//!
//! The scratch layer is made empty for every run, so that a crash never starts from what the crash
//! left behind; what must last belongs in a volume. Nothing here follows a path inside the image.

use crate::config::InstancePlaces;
use rustix::mount::{MountFlags, UnmountFlags};
use std::{
    ffi::CString,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
};

/// Mounts the root of an instance afresh.
///
/// # Errors
/// The directories or the mount could not be made.
pub(crate) fn mount(places: &InstancePlaces, image: &Path) -> io::Result<()> {
    unmount(places)?;
    for dir in [places.scratch(), places.scratch_work(), places.root()] {
        remove_tree(&dir)?;
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&dir)?;
    }
    // The merged root has the mode and owner of the uppermost layer's root.
    let of = fs::metadata(image)?;
    fs::set_permissions(places.scratch(), fs::Permissions::from_mode(of.permissions().mode() & 0o7777))?;
    if fs::symlink_metadata(image.join("tmp")).is_err() {
        let tmp = places.scratch().join("tmp");
        fs::create_dir(&tmp)?;
        fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777))?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        image.display(),
        places.scratch().display(),
        places.scratch_work().display()
    );
    let options = CString::new(options).map_err(|_| io::Error::other("a path has a zero byte"))?;
    rustix::mount::mount("overlay", places.root(), "overlay", MountFlags::NODEV, options.as_c_str())?;
    Ok(())
}

/// Unmounts the root, however often it was mounted. Fine if it was not.
///
/// # Errors
/// The kernel refused.
pub(crate) fn unmount(places: &InstancePlaces) -> io::Result<()> {
    loop {
        match rustix::mount::unmount(places.root(), UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Removes a tree; fine if there is none. Never follows a link out of it.
///
/// # Errors
/// The disk refused.
pub(crate) fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
