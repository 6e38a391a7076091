//! What a layer removes from those below it: `.wh.name`, and `.wh..wh..opq` for all of a directory.

use super::{
    error::Trouble,
    tree::{Tree, clear, remove},
};

/// What the last part of a member's path says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Whiteout<'a> {
    /// It is a plain member.
    No,
    /// The sibling of this name is gone.
    Name(&'a [u8]),
    /// All that lower layers have in this directory is gone.
    Opaque,
    /// Book-keeping of a file system that layers were once made with; it means nothing.
    Ignored,
}

const MARK: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const BOOKS: &[u8] = b".wh..wh.";

/// Reads the mark in a path of plain parts.
pub(crate) fn read<'a>(parts: &[&'a [u8]]) -> Result<Whiteout<'a>, Trouble> {
    let Some((last, dirs)) = parts.split_last() else { return Ok(Whiteout::No) };
    if *last == OPAQUE {
        return Ok(Whiteout::Opaque);
    }
    if last.starts_with(BOOKS) || dirs.iter().any(|part| part.starts_with(BOOKS)) {
        return Ok(Whiteout::Ignored);
    }
    match last.strip_prefix(MARK) {
        None => Ok(Whiteout::No),
        Some(b"" | b"." | b"..") => Err(Trouble::Image("it removes a directory's own entry".into())),
        Some(name) => Ok(Whiteout::Name(name)),
    }
}

/// Removes from the lower layers what a member says.
pub(crate) fn apply(tree: &Tree, parts: &[&[u8]]) -> Result<(), Trouble> {
    let dirs = &parts[..parts.len().saturating_sub(1)];
    match read(parts)? {
        Whiteout::No | Whiteout::Ignored => Ok(()),
        Whiteout::Opaque => tree.find(dirs)?.map_or(Ok(()), clear),
        Whiteout::Name(name) => {
            let path: Vec<&[u8]> = dirs.iter().copied().chain([name]).collect();
            tree.spot_if_there(&path)?.map_or(Ok(()), |spot| remove(&spot.dir, &spot.name))
        }
    }
}
