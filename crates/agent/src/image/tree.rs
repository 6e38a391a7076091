//! The directory an image is unpacked into, as the image will see it: its root is the root.
//!
//! *No name leads outside*: the kernel resolves every path of more than one part from the root's
//! own handle with `openat2`, with the root as the end of `..` and the start of absolute links;
//! everything is then made or removed by a single name in a directory's handle, never followed.

use super::{error::Trouble, stream::Budget};
use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags},
    io::Errno,
};
use std::{collections::VecDeque, ffi::CString, path::Path};
use types::limits;

/// The tree that is being made.
pub(crate) struct Tree {
    root: OwnedFd,
}

/// A member's place: a directory, and a name in it that is one plain part.
pub(crate) struct Spot {
    pub(crate) dir: OwnedFd,
    pub(crate) name: CString,
}

/// Links followed on the way to one place, as the kernel does.
const LINKS: usize = 40;

const HANDLE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Splits a member's path into plain parts. No parts mean the root itself.
pub(crate) fn parts(path: &[u8]) -> Result<Vec<&[u8]>, Trouble> {
    if path.len() > limits::IMAGE_PATH {
        return Err(Trouble::Image(format!("a path has more than {} bytes", limits::IMAGE_PATH)));
    }
    let parts: Vec<&[u8]> =
        path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    for part in &parts {
        let shown = || String::from_utf8_lossy(path).escape_debug().to_string();
        if *part == b".." {
            return Err(Trouble::Image(format!("the path {:?} would leave the image's root", shown())));
        }
        if part.contains(&0) || part.len() > 255 {
            return Err(Trouble::Image(format!("the path {:?} has a part that no file can have", shown())));
        }
    }
    Ok(parts)
}

impl Tree {
    pub(crate) fn open(root: &Path) -> Result<Self, Trouble> {
        Ok(Self { root: fs::open(root, HANDLE, Mode::empty())? })
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// The place of a member; directories on the way are made.
    pub(crate) fn spot(&self, parts: &[&[u8]], budget: &mut Budget) -> Result<Spot, Trouble> {
        let (name, dirs) = parts.split_last().expect("the root has no place in itself");
        let dir = match self.find(dirs)? {
            Some(dir) => dir,
            None => self.make(dirs, budget)?.0,
        };
        Ok(Spot { dir, name: plain(name) })
    }

    /// The place of a directory that may have to be made; refused if it lies too deep.
    pub(crate) fn spot_of_dir(&self, parts: &[&[u8]], budget: &mut Budget) -> Result<Spot, Trouble> {
        let (name, dirs) = parts.split_last().expect("the root has no place in itself");
        let (dir, depth) = self.make(dirs, budget)?;
        within_depth(depth + 1)?;
        Ok(Spot { dir, name: plain(name) })
    }

    /// The place of something that must be there already; `None` if its directory is not.
    pub(crate) fn spot_if_there(&self, parts: &[&[u8]]) -> Result<Option<Spot>, Trouble> {
        let Some((name, dirs)) = parts.split_last() else { return Ok(None) };
        Ok(self.find(dirs)?.map(|dir| Spot { dir, name: plain(name) }))
    }

    /// A directory by its path, links followed within the root.
    pub(crate) fn find(&self, dirs: &[&[u8]]) -> Result<Option<OwnedFd>, Trouble> {
        let path = if dirs.is_empty() { b".".to_vec() } else { dirs.join(&b'/') };
        let flags = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        loop {
            match fs::openat2(&self.root, path.as_slice(), HANDLE, Mode::empty(), flags) {
                Ok(dir) => return Ok(Some(dir)),
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOTDIR | Errno::LOOP | Errno::XDEV | Errno::NAMETOOLONG) => {
                    return Err(no_way(&path));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The same, making what is missing. Also says how deep it lies.
    ///
    /// A link may point to what is not there yet; then that is made, as other unpackers do. So the
    /// path is walked here part by part, and `at` is always a path without links.
    fn make(&self, dirs: &[&[u8]], budget: &mut Budget) -> Result<(OwnedFd, usize), Trouble> {
        let mut todo: VecDeque<Vec<u8>> = dirs.iter().map(|part| part.to_vec()).collect();
        let mut at: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    at.pop();
                    continue;
                }
                _ => {}
            }
            let (dir, name) = (self.real(&at)?, plain(&part));
            match kind(&dir, &name)? {
                Some(FileType::Directory) => at.push(part),
                Some(FileType::Symlink) => {
                    links += 1;
                    let target = fs::readlinkat(&dir, &name, Vec::new())?.into_bytes();
                    if links > LINKS || todo.len() > limits::IMAGE_PATH {
                        return Err(no_way(&part));
                    }
                    if target.starts_with(b"/") {
                        at.clear();
                    }
                    for each in target.split(|byte| *byte == b'/').rev() {
                        todo.push_front(each.to_vec());
                    }
                }
                Some(_) => return Err(no_way(&part)),
                None => {
                    at.push(part);
                    within_depth(at.len())?;
                    budget.file()?;
                    fs::mkdirat(&dir, &name, Mode::from_raw_mode(0o755))?;
                    fs::chmodat(&dir, &name, Mode::from_raw_mode(0o755), AtFlags::empty())?;
                }
            }
        }
        Ok((self.real(&at)?, at.len()))
    }

    fn real(&self, at: &[Vec<u8>]) -> Result<OwnedFd, Trouble> {
        let path = if at.is_empty() { b".".to_vec() } else { at.join(&b'/') };
        let flags = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        Ok(fs::openat2(&self.root, path.as_slice(), HANDLE, Mode::empty(), flags)?)
    }
}

fn plain(part: &[u8]) -> CString {
    CString::new(part).expect("a part of a path has no zero byte")
}

fn within_depth(depth: usize) -> Result<(), Trouble> {
    if depth > limits::IMAGE_DEPTH {
        return Err(Trouble::Image(format!(
            "it has more than {} directories in one another",
            limits::IMAGE_DEPTH
        )));
    }
    Ok(())
}

fn no_way(path: &[u8]) -> Trouble {
    Trouble::Image(format!("a path goes through {:?}, which is no directory", String::from_utf8_lossy(path)))
}

/// What a name is, not followed; `None` if it is not there.
pub(crate) fn kind(dir: impl AsFd, name: &CString) -> Result<Option<FileType>, Trouble> {
    match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes a name and all below it; fine if it is not there. Depth is bounded by what was let in.
pub(crate) fn remove(dir: impl AsFd, name: &CString) -> Result<(), Trouble> {
    let dir = dir.as_fd();
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    clear(fs::openat(dir, name, HANDLE | OFlags::NOFOLLOW, Mode::empty())?)?;
    Ok(fs::unlinkat(dir, name, AtFlags::REMOVEDIR)?)
}

/// Removes everything in a directory.
pub(crate) fn clear(dir: OwnedFd) -> Result<(), Trouble> {
    let mut names = Vec::new();
    // A path handle cannot be read; `.` in it is the same directory, whatever its name leads to.
    let readable = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    for entry in Dir::new(fs::openat(&dir, c".", readable, Mode::empty())?)? {
        let name = entry?.file_name().to_owned();
        if name.as_bytes() != b"." && name.as_bytes() != b".." {
            names.push(name);
        }
    }
    names.iter().try_for_each(|name| remove(&dir, name))
}
