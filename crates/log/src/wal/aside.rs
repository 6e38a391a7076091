//! What was durable here and is cut because the cluster never committed it: kept aside, for people.
//!
//! Each file is a segment like any other, under `aside/`, named by its first and last entry and a
//! number of its own. Nothing reads them by itself. There is room for [`limits::ASIDE_FILES`]; past that
//! the oldest stay and new ones are not kept, which is said.

use super::{
    format::{SEGMENT_HEADER, SegmentHeader, UNFINISHED},
    frame,
    store::Store,
};
use crate::{Head, Kind, ReadError};
use rt::{Disk, DiskError};
use std::path::{Path, PathBuf};
use types::{Index, limits};

const ASIDE: &str = "aside";
const SUFFIX: &str = ".seg";
/// So many bytes are written at once.
const PIECE: usize = 1 << 20;

/// Entries that were cut, in a file of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// The file.
    pub path: PathBuf,
    /// The first entry in it.
    pub first: Index,
    /// The last entry in it.
    pub last: Index,
    /// Tells apart those that stood in the same places; larger is later.
    pub number: u64,
}

impl Aside {
    fn named(dir: &Path, name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(SUFFIX)?.split('-').map(str::parse);
        let mut next = || parts.next()?.ok();
        let (first, last, number) = (next()?, next()?, next()?);
        let path = dir.join(ASIDE).join(name);
        Some(Self { path, first: Index::new(first), last: Index::new(last), number })
    }
}

/// The files that are kept aside in a log directory, the oldest first.
///
/// # Errors
/// The disk failed.
pub fn aside(disk: &dyn Disk, dir: &Path) -> Result<Vec<Aside>, DiskError> {
    let names = match disk.list(&dir.join(ASIDE)) {
        Ok(names) => names,
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found: Vec<Aside> = names.iter().filter_map(|name| Aside::named(dir, name)).collect();
    found.sort_by_key(|aside| aside.number);
    Ok(found)
}

/// Why entries could not be kept aside.
#[derive(Debug)]
pub(super) enum AsideError {
    Read(ReadError),
    Disk(DiskError),
}

/// Keeps the entries after `last` aside, durably, if anything was asked for in them: what consensus
/// made of itself is nobody's loss.
pub(super) fn keep(store: &Store, last: Index) -> Result<(), AsideError> {
    let (tail, mut before, mut asked) = (store.view().tail().index, None, false);
    store
        .walk(last.max(Index::new(1)), |head, frame| {
            if head.index == last {
                before = Some(head);
            }
            let kind = frame.header.kind;
            asked |= head.index > last && matches!(kind, Kind::Batch | Kind::Proposal);
            !asked
        })
        .map_err(AsideError::Read)?;
    if !asked {
        return Ok(());
    }
    let mut kept = store.kept_aside();
    if kept.len() >= limits::ASIDE_FILES {
        tracing::error!(
            first = last.get() + 1,
            last = tail.get(),
            most = limits::ASIDE_FILES,
            "entries that were never committed are cut and not kept aside: there are too many already"
        );
        return Ok(());
    }
    let number = kept.last().map_or(0, |aside| aside.number) + 1;
    let first = last.next();
    let name = format!("{:020}-{:020}-{number}{SUFFIX}", first.get(), tail.get());
    let path = store.dir.join(ASIDE).join(name);
    let before = before.unwrap_or(super::format::NOTHING);
    write(store, &path, before)?;
    tracing::warn!(file = %path.display(), "entries that were never committed are kept aside and cut");
    kept.push(Aside { path, first, last: tail, number });
    Ok(())
}

fn write(store: &Store, path: &Path, before: Head) -> Result<(), AsideError> {
    let disk = &*store.disk;
    let dir = store.dir.join(ASIDE);
    disk.create_dir(&dir).and_then(|()| disk.sync_dir(&store.dir)).map_err(AsideError::Disk)?;
    let new = path.with_extension(format!("seg{UNFINISHED}"));
    let written = fill(store, &new, before);
    if written.is_err() {
        // Give the space back: the disk may be full. What failed is what the caller must hear.
        let _best_effort = disk.remove(&new);
    }
    written?;
    disk.rename(&new, path).and_then(|()| disk.sync_dir(&dir)).map_err(AsideError::Disk)
}

fn fill(store: &Store, new: &Path, before: Head) -> Result<(), AsideError> {
    let disk = &*store.disk;
    match disk.remove(new) {
        Err(error) if !error.is_not_found() => return Err(AsideError::Disk(error)),
        _ => {}
    }
    let file = disk.create(new).map_err(AsideError::Disk)?;
    let header = SegmentHeader { log_id: store.log_id, before };
    file.write_at(0, &header.encode()).map_err(AsideError::Disk)?;
    let (mut piece, mut offset, mut chain) = (Vec::with_capacity(PIECE), SEGMENT_HEADER as u64, before.chain);
    let mut failed = None;
    let mut flush = |piece: &mut Vec<u8>| {
        let written = file.write_at(offset, piece);
        offset += piece.len() as u64;
        piece.clear();
        written
    };
    let walked = store.walk(before.index.next(), |_, frame| {
        let mut header = frame.header;
        frame::encode(&mut piece, &mut header, frame.synced, &chain, |out| {
            out.extend_from_slice(&frame.payload);
        });
        chain = header.chain;
        if piece.len() >= PIECE {
            failed = flush(&mut piece).err();
        }
        failed.is_none()
    });
    walked.map_err(AsideError::Read)?;
    let done = failed.map_or_else(|| flush(&mut piece), Err);
    done.and_then(|()| file.sync_data()).map_err(AsideError::Disk)
}
