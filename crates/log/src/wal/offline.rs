//! What can be done to the log of a member that does not run: looking how far it is, fencing it, and
//! beginning a new cluster from it when the old one is lost.
//!
//! ```text
//!   the old cluster's ─► format: of the new cluster, recovering ─► members, epoch ─► committed ─► done
//!        nothing is changed │ from here on the old cluster refuses it     every start goes on with it
//! ```
//!
//! Whether a directory belongs to the old cluster or to the new one is decided by one file that is
//! replaced whole. The files of the log keep the identity of the cluster that wrote them; its history
//! goes on in the new one.

use super::{
    fence::{self as marker, Fence},
    format::{CommittedNote, FORMAT, Format, MembersNote, PLAIN, Recovering, VERSION, Vote},
    machine::{Options, Wal},
    member::{OpenMemberError, epoch_payload},
    recover::{self, Looked, OpenError, read_format},
    refusal,
    replica::{RawEntry, Replica, unfounded},
    store::{Recent, Store, View},
};
use crate::{Head, Kind};
use bytes::Bytes;
use rt::{Disk, DiskError};
use std::{path::Path, sync::Arc};
use types::{Epoch, Index, NodeId, Term, limits};

/// How far the log in a directory is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The cluster it belongs to.
    pub cluster: String,
    /// The node it belongs to.
    pub node: NodeId,
    /// Its end. What is behind [`Self::committed`] may have been committed or not.
    pub tail: Head,
    /// Up to here it was certainly committed.
    pub committed: Head,
    /// The last vote of its node.
    pub vote: Vote,
    /// The epoch in which it is fenced.
    pub fenced: Option<Epoch>,
}

/// How far the log in this directory is. Changes nothing, and needs no lock: what a running process is
/// about to write may be missing.
///
/// # Errors
/// There is no log, it is damaged, or the disk failed.
pub fn position(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Found, OpenMemberError> {
    let Looked { format, check, archived, segments, .. } = recover::look(disk, dir, &Options::default())?;
    let tail = segments.all.last().expect("a log has a segment").end;
    let log_id = format.log_id();
    let (segments, recent, replica) = (segments.all, Recent::new(0), Replica::default());
    let view = View { head: tail, segments, archived, recent, replica };
    let store = Store::new(Arc::clone(disk), dir, log_id, check, view);
    let committed = if format.version == PLAIN { tail } else { store.known_committed()?.committed };
    let vote = Vote::load(&**disk, dir)?;
    let fence = marker::load(&**disk, &marker::file(dir), committed.epoch);
    let fenced = fence.map_err(OpenMemberError::from_disk)?.map(|fence| fence.epoch);
    Ok(Found { cluster: format.cluster, node: format.node, tail, committed, vote, fenced })
}

/// Fences the node of this directory in the epoch that it knows to be in force, and gives its final
/// position. The node must not run. Done again it changes nothing.
///
/// # Errors
/// As [`position`]; or the node runs.
pub fn fence(disk: &Arc<dyn Disk>, dir: &Path) -> Result<Found, OpenMemberError> {
    recover::node_of(&**disk, dir)?;
    let _lock = recover::lock(&**disk, dir)?;
    let found = position(disk, dir)?;
    if found.fenced.is_some() {
        return Ok(found);
    }
    let epoch = found.committed.epoch;
    let fence = Fence { epoch, term: found.vote.term.max(found.tail.term) };
    marker::save(&**disk, &mut marker::file(dir), Some(fence)).map_err(OpenMemberError::from_disk)?;
    Ok(Found { fenced: Some(epoch), ..found })
}

/// What a log begins anew with.
#[derive(Clone, Copy, Debug)]
pub struct Anew<'a> {
    /// The identity of the new cluster.
    pub cluster: &'a str,
    /// Its only member: an id that was never used.
    pub node: NodeId,
    /// Who the members are, in the encoding of the consensus layer.
    pub members: &'a [u8],
    /// What the entry says that opens its first epoch.
    pub why: &'a [u8],
}

/// Why a log was not made that of a new cluster.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log does not open.
    #[error(transparent)]
    Log(#[from] OpenMemberError),
    /// It is of a machine without a cluster.
    #[error("this log never belonged to a cluster; start it as it is")]
    Plain,
    /// Members of the old cluster must not be able to speak to the new one.
    #[error("the new cluster needs an identity that is one line of 1 to 200 characters and not the old one")]
    Identity,
    /// A former member must not be taken for the new one.
    #[error(
        "the only member of the new cluster needs an id that was never used, and {node} is the old one's"
    )]
    Node {
        /// The id.
        node: NodeId,
    },
    /// The reason is longer than [`limits::EPOCH_REASON`].
    #[error("the reason takes {bytes} bytes, and {} is the most", limits::EPOCH_REASON)]
    Reason {
        /// How many it takes.
        bytes: usize,
    },
}

impl From<DiskError> for RecoverError {
    fn from(error: DiskError) -> Self {
        Self::Log(OpenMemberError::from_disk(error))
    }
}

impl From<OpenError> for RecoverError {
    fn from(error: OpenError) -> Self {
        Self::Log(error.into())
    }
}

/// Makes a log whose cluster has lost its majority the log of a new cluster with one member: all that
/// stands in it counts as committed, and a new epoch is opened. After a crash on the way the directory is
/// wholly the old cluster's or goes on to be the new one's, by itself or when this is called again.
///
/// The next election is in a term after every one that this node knows of; a fence is lifted.
///
/// # Errors
/// Nothing was changed but what every start changes, unless a disk failed on the way.
pub fn recover(disk: &Arc<dyn Disk>, dir: &Path, anew: &Anew<'_>) -> Result<Found, RecoverError> {
    recover::node_of(&**disk, dir)?;
    // Two entries: what is reserved already is likely to have place for them.
    let options = Options { reserve_bytes: 0, ..Options::default() };
    // What stands in the log may be in the kernel's memory only. Opened, it is durable.
    let (mut wal, _) = Wal::open(Arc::clone(disk), dir, options)?;
    let format = read_format(&**disk, dir)?;
    // Called again, after a crash or without need.
    if format.cluster != anew.cluster || format.node != anew.node {
        begin(disk, dir, format, wal.tail().index, anew)?;
    }
    wal.finish_recovery()?;
    drop(wal);
    Ok(position(disk, dir)?)
}

fn begin(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    format: Format,
    last: Index,
    anew: &Anew<'_>,
) -> Result<(), RecoverError> {
    if format.version == PLAIN {
        return Err(RecoverError::Plain);
    }
    if format.node == anew.node {
        return Err(RecoverError::Node { node: anew.node });
    }
    if anew.why.len() > limits::EPOCH_REASON {
        return Err(RecoverError::Reason { bytes: anew.why.len() });
    }
    let recovering = Recovering { last, members: anew.members.to_vec(), why: anew.why.to_vec() };
    let new = Format {
        version: VERSION,
        cluster: anew.cluster.into(),
        node: anew.node,
        // Of a recovery that was never finished nothing more is kept than what stands in the log.
        origin: Some(format.origin.unwrap_or_else(|| format.cluster.clone())),
        recovering: Some(recovering),
    };
    if !new.is_writable() || format.cluster == anew.cluster {
        return Err(RecoverError::Identity);
    }
    Ok(rt::replace_file(&**disk, &dir.join(FORMAT), new.encode().as_bytes())?)
}

impl Wal {
    /// Finishes a recovery that has begun; each step may be found done.
    pub(super) fn finish_recovery(&mut self) -> Result<(), OpenMemberError> {
        let store = Arc::clone(&self.store);
        let (disk, dir) = (&*store.disk, &store.dir);
        let format = read_format(disk, dir)?;
        let Some(Recovering { last, members, why }) = &format.recovering else { return Ok(()) };
        let node = format.node;
        let vote = Vote::load(disk, dir)?;
        // A term that nobody has led, and that the next leader is elected after.
        let term = match self.head.index > *last {
            true => self.head.term,
            false => Term::new(self.head.term.max(vote.term).get() + 1),
        };
        let entry = |kind, payload: Bytes| RawEntry { kind, term, leader: node, payload };
        let missing =
            [entry(Kind::Membership, members.clone().into()), entry(Kind::Epoch, epoch_payload(node, why))];
        let there = self.head.index.get().saturating_sub(last.get());
        let there = usize::try_from(there).unwrap_or(usize::MAX).min(missing.len());
        self.append_raw(&missing[there..]).map_err(unfounded)?;
        let vote = Vote { term, voted_for: Some(node) };
        self.spend_reserve(|| vote.save(disk, dir)).map_err(OpenMemberError::from_disk)?;
        let members = MembersNote { index: last.next(), term, leader: node, payload: members.clone().into() };
        let note = CommittedNote { head: self.head, members: Some(members) };
        self.spend_reserve(|| note.save(disk, dir)).map_err(OpenMemberError::from_disk)?;
        // A new node of a new cluster: what was said of the old one is none of its business.
        if disk.exists(&dir.join(marker::FENCE)).map_err(OpenMemberError::from_disk)? {
            let mut file = marker::file(dir);
            self.spend_reserve(|| marker::save(disk, &mut file, None)).map_err(OpenMemberError::from_disk)?;
        }
        refusal::lift(disk, dir).map_err(OpenMemberError::from_disk)?;
        let done = Format { recovering: None, ..format.clone() };
        let finish = || rt::replace_file(disk, &dir.join(FORMAT), done.encode().as_bytes());
        self.spend_reserve(finish).map_err(OpenMemberError::from_disk)
    }
}
