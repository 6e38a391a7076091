//! The marker of a fenced node: it refuses to sequence until another authority has begun.
//!
//! It stands in the log directory, so that it outlives restarts and can be put there while the node
//! does not run. It is no vote, so it deposes nobody: the node still follows and still votes.
//!
//! What ends it is an epoch of another node in a term later than any this node had heard of when it was
//! fenced. An epoch alone says too little: a node that lags may come to an older authority's only then.

use super::{
    format::unchecked,
    in_place::{Content, InPlace},
};
use rt::{Disk, DiskError};
use std::path::Path;
use types::{Epoch, NodeId, Term};

pub(super) const FENCE: &str = "fence";
const MAGIC: &[u8; 8] = b"HFFENC\0\x02";
/// As older programs put it there: the epoch alone, in a file that is there only for a fenced node.
const MAGIC_1: &[u8; 8] = b"HFFENC\0\x01";
/// Whether it is fenced, the epoch, the term.
const BYTES: usize = 1 + 8 + 8;

/// That a node is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fence {
    /// The epoch it knew to be in force.
    pub epoch: Epoch,
    /// The last term it had heard of; zero if nobody noted it.
    pub term: Term,
}

impl Fence {
    /// Whether it ends with an epoch that `opener` opened in this term, as the node `own` sees it.
    pub(super) fn ends_with(&self, own: NodeId, epoch: Epoch, opener: NodeId, term: Term) -> bool {
        opener != own && epoch > self.epoch && term > self.term
    }
}

/// The place of the marker.
pub(super) fn file(dir: &Path) -> InPlace {
    InPlace::new(&dir.join(FENCE), MAGIC, BYTES)
}

/// Marks the node of this directory as fenced, or as not fenced any more.
pub(super) fn save(disk: &dyn Disk, file: &mut InPlace, fence: Option<Fence>) -> Result<(), DiskError> {
    let mut body = [0; BYTES];
    if let Some(Fence { epoch, term }) = fence {
        body[0] = 1;
        body[1..9].copy_from_slice(&epoch.get().to_le_bytes());
        body[9..].copy_from_slice(&term.get().to_le_bytes());
    }
    file.store(disk, &body)
}

/// Whether the node is fenced. A marker that cannot be read fences in `now`: it was put there for a
/// reason.
pub(super) fn load(disk: &dyn Disk, file: &InPlace, now: Epoch) -> Result<Option<Fence>, DiskError> {
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let of = |epoch, term| Some(Fence { epoch, term: Term::new(term) });
    Ok(match file.load(disk)? {
        Content::Missing => None,
        Content::Stored(body) if body.len() == BYTES && body[0] == 0 => None,
        Content::Stored(body) if body.len() == BYTES => {
            of(Epoch::new(number(&body[1..9])), number(&body[9..]))
        }
        Content::Stored(_) => of(now, 0),
        Content::Other(bytes) => match unchecked(MAGIC_1, &bytes, 8) {
            Some(epoch) => of(Epoch::new(number(epoch)), 0),
            None => {
                tracing::warn!(file = %file.path().display(), "damaged: this node is fenced all the same");
                of(now, 0)
            }
        },
    })
}

/// Sees to it that the marker is durable and has a place in which it needs no space.
pub(super) fn settle(disk: &dyn Disk, file: &mut InPlace, fence: Option<Fence>) -> Result<(), DiskError> {
    match file.load(disk)? {
        Content::Stored(_) => file.settle(disk),
        Content::Missing | Content::Other(_) => save(disk, file, fence),
    }
}
