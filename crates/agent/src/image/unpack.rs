//! Putting one layer over those below it.
//!
//! A layer above the lowest is read twice: first its hash is checked and what it removes is
//! removed, then its files are put in place. So removals hit lower layers only, wherever they stand
//! in the archive, and nothing of a false layer is ever put over a right one.
//!
//! What a member may do: files, directories, symbolic and hard links and named pipes are made, with
//! owner, mode and time. Devices are left out: the runtime gives every instance the ones it may
//! have. Extended attributes are left out too: file capabilities have no effect under
//! no_new_privs, and overlay attributes would change what a lower directory means.

use super::{
    error::Trouble,
    member::{Kind, Member, Members},
    stream::{Budget, Stream},
    tree::{self, Spot, Tree},
    whiteout::{self, Whiteout},
};
use rustix::{
    fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid},
    io::Errno,
};
use std::{
    fs::File,
    io::{Seek, Write},
};
use types::Digest;

/// Where a layer lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// Nothing is below it that it could remove.
    Lowest,
    /// Other layers are below it.
    Above,
}

/// Unpacks a layer, which must hash to `diff_id` once decompressed. After an error the tree is
/// worth nothing.
pub(crate) fn layer(
    tree: &mut Tree,
    blob: &mut File,
    diff_id: &Digest,
    position: Position,
    budget: &mut Budget,
) -> Result<(), Trouble> {
    if position == Position::Above {
        let mut look_ahead = budget.look_ahead();
        let mut members = Members::new(Stream::new(blob, &mut look_ahead)?);
        while let Some(member) = members.next()? {
            whiteout::apply(tree, &tree::parts(&member.path)?)?;
        }
        members.into_stream().finish(diff_id)?;
        blob.rewind()?;
    }
    let mut members = Members::new(Stream::new(blob, budget)?);
    while let Some(member) = members.next()? {
        members.budget().file()?;
        put(tree, &member, &mut members)?;
    }
    members.into_stream().finish(diff_id)
}

fn put(tree: &Tree, member: &Member, members: &mut Members<'_>) -> Result<(), Trouble> {
    let parts = tree::parts(&member.path)?;
    if whiteout::read(&parts)? != Whiteout::No {
        return Ok(());
    }
    if parts.is_empty() {
        return match member.kind {
            Kind::Directory => own_dir(tree.root(), c".", member),
            _ => Err(Trouble::Image("it replaces its own root".into())),
        };
    }
    match member.kind {
        Kind::Directory => directory(&tree.spot_of_dir(&parts, members.budget())?, member),
        Kind::File => file(&tree.spot(&parts, members.budget())?, member, members),
        Kind::Symlink => symlink(&tree.spot(&parts, members.budget())?, member),
        Kind::HardLink => hard_link(tree, &tree.spot(&parts, members.budget())?, member),
        Kind::Pipe => pipe(&tree.spot(&parts, members.budget())?, member),
        Kind::Device => {
            tracing::debug!(path = %String::from_utf8_lossy(&member.path), "a device in an image is left out");
            Ok(())
        }
    }
}

/// Makes something new under a name, removing what had it.
fn replace<T>(spot: &Spot, make: impl Fn() -> Result<T, Errno>) -> Result<T, Trouble> {
    match make() {
        Err(Errno::EXIST) => {
            tree::remove(&spot.dir, &spot.name)?;
            Ok(make()?)
        }
        made => Ok(made?),
    }
}

fn directory(spot: &Spot, member: &Member) -> Result<(), Trouble> {
    if tree::kind(&spot.dir, &spot.name)? != Some(FileType::Directory) {
        replace(spot, || fs::mkdirat(&spot.dir, &spot.name, Mode::RWXU))?;
    }
    own_dir(&spot.dir, &spot.name, member)
}

fn own_dir(dir: impl rustix::fd::AsFd, name: &std::ffi::CStr, member: &Member) -> Result<(), Trouble> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = fs::openat(dir, name, flags, Mode::empty())?;
    own(&handle, member)
}

fn file(spot: &Spot, member: &Member, members: &mut Members<'_>) -> Result<(), Trouble> {
    members.budget().announce(member.size)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = replace(spot, || fs::openat(&spot.dir, &spot.name, flags, Mode::RUSR | Mode::WUSR))?;
    let mut file = File::from(handle);
    let mut piece = vec![0; (member.size as usize).clamp(1, 64 << 10)];
    loop {
        match members.read(&mut piece)? {
            0 => break,
            count => file.write_all(&piece[..count])?,
        }
    }
    own(&file, member)
}

fn symlink(spot: &Spot, member: &Member) -> Result<(), Trouble> {
    if member.link.is_empty() || member.link.len() >= types::limits::IMAGE_PATH || member.link.contains(&0) {
        return Err(Trouble::Image("it has a symbolic link to what can be no path".into()));
    }
    // Where it points is never looked at: it is followed within the root, or by the instance.
    replace(spot, || fs::symlinkat(member.link.as_slice(), &spot.dir, &spot.name))?;
    let (uid, gid) = owner(member);
    Ok(fs::chownat(&spot.dir, &spot.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Gives what is there another name. The target's path is resolved like every other, and a
/// symbolic link as target is linked itself, not followed.
fn hard_link(tree: &Tree, spot: &Spot, member: &Member) -> Result<(), Trouble> {
    let missing = || {
        let target = String::from_utf8_lossy(&member.link).escape_debug().to_string();
        Trouble::Image(format!("it has a hard link to {target:?}, which is no file in it"))
    };
    let target = tree.spot_if_there(&tree::parts(&member.link)?)?.ok_or_else(missing)?;
    let stat = |spot: &Spot| fs::statat(&spot.dir, &spot.name, AtFlags::SYMLINK_NOFOLLOW);
    let from = stat(&target).map_err(|_| missing())?;
    if FileType::from_raw_mode(from.st_mode) == FileType::Directory {
        return Err(missing());
    }
    if stat(spot).is_ok_and(|to| (to.st_dev, to.st_ino) == (from.st_dev, from.st_ino)) {
        return Ok(());
    }
    let link = || fs::linkat(&target.dir, &target.name, &spot.dir, &spot.name, AtFlags::empty());
    match replace(spot, link) {
        Err(Trouble::Disk(error)) if error.kind() == std::io::ErrorKind::NotFound => Err(missing()),
        Err(Trouble::Disk(error)) if error.kind() == std::io::ErrorKind::TooManyLinks => {
            Err(Trouble::Image("one of its files has too many hard links".into()))
        }
        done => done,
    }
}

fn pipe(spot: &Spot, member: &Member) -> Result<(), Trouble> {
    replace(spot, || fs::mkfifoat(&spot.dir, &spot.name, Mode::RUSR | Mode::WUSR))?;
    let (uid, gid) = owner(member);
    fs::chownat(&spot.dir, &spot.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(fs::chmodat(&spot.dir, &spot.name, Mode::from_raw_mode(member.mode), AtFlags::empty())?)
}

fn owner(member: &Member) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(member.uid)), Some(Gid::from_raw(member.gid)))
}

/// Owner first: changing it takes setuid away, which the mode may then give again.
fn own(handle: impl rustix::fd::AsFd, member: &Member) -> Result<(), Trouble> {
    let handle = handle.as_fd();
    let (uid, gid) = owner(member);
    fs::fchown(handle, uid, gid)?;
    fs::fchmod(handle, Mode::from_raw_mode(member.mode))?;
    let at = Timespec { tv_sec: i64::from(u32::try_from(member.mtime).unwrap_or(u32::MAX)), tv_nsec: 0 };
    Ok(fs::futimens(handle, &Timestamps { last_access: at, last_modification: at })?)
}
