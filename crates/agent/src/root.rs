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
    path::{Path, PathBuf},
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
    // Instances get no new privileges anyway; so the bit says nothing in this mount either.
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    rustix::mount::mount("overlay", places.root(), "overlay", flags, options.as_c_str())?;
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

/// Removes trees, on a thread that may block: an instance can leave millions of files, and the
/// threads that renew the lease must not wait for them. Goes on when the caller goes away.
///
/// # Errors
/// The disk refused; those before it are gone.
pub(crate) async fn remove_trees(dirs: Vec<PathBuf>) -> io::Result<()> {
    let work = tokio::task::spawn_blocking(move || dirs.iter().try_for_each(|dir| remove_tree(dir)));
    work.await.unwrap_or_else(|error| Err(io::Error::other(error)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn removing_what_an_instance_left_holds_up_no_task() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().expect("a runtime");
        let dir = tempfile::tempdir().expect("a directory");
        let tree = dir.path().join("scratch");
        fs::create_dir_all(tree.join("a/b")).expect("made");
        fs::write(tree.join("a/file"), "left").expect("written");
        runtime.block_on(async {
            // The one thread for work that blocks is busy: whoever removes in place is seen at once.
            let (release, held) = std::sync::mpsc::sync_channel::<()>(0);
            let busy = tokio::task::spawn_blocking(move || held.recv());
            let mut removal = std::pin::pin!(remove_trees(vec![tree.clone(), dir.path().join("none")]));
            assert!(removal.as_mut().now_or_never().is_none(), "it was removed by the task itself");
            assert!(tree.exists());
            release.send(()).expect("it waits");
            removal.await.expect("removed");
            assert!(!tree.exists());
            busy.await.expect("no panic").expect("released");
        });
    }
}
