//! Who is a member, what each knows, and changing that.
//!
//! Every wait has a bound, given by the caller. Past it a change may still come about: ask again, which
//! changes nothing more.

use super::{
    log::ClusterLog,
    shape::{Member, encode_members, ours},
};
use crate::wal::{Anew, Aside, Found, RecoverError};
use openraft::{ChangeMembers, Membership, ServerState, async_runtime::watch::WatchReceiver as _};
use rt::Disk;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
use types::{Epoch, EventId, Index, NodeId, Term};

/// What a member knows of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub own: NodeId,
    /// Who leads, as far as this member knows.
    pub leader: Option<NodeId>,
    /// The term it knows of.
    pub term: Term,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who of them votes whatever becomes of a change of members that is under way.
    pub firm: BTreeSet<NodeId>,
    /// Everyone, with the address.
    pub members: BTreeMap<NodeId, Member>,
    /// How far each is, as the leader knows it; empty on others.
    pub matched: BTreeMap<NodeId, Index>,
    /// For how long no majority has answered, on the leader.
    pub quorum_silent: Option<Duration>,
    /// How old the last sign of the cluster is: on a leader, since a majority last answered; on any other,
    /// since the last append of a leader was accepted. `None` if there was none in this life.
    pub heard: Option<Duration>,
    /// How old what can be read here is at most: on a leader, as [`Self::heard`]; on any other, since a leader
    /// said how far it had committed, and this member has all of that. `None` if it never was so in this life.
    pub age: Option<Duration>,
    /// The epoch in force.
    pub epoch: Epoch,
    /// The last entry known to be committed.
    pub committed: Index,
    /// The last event known to be committed.
    pub event: EventId,
    /// The epoch in which it is fenced.
    pub fenced: Option<Epoch>,
    /// Its disk is short of space: it takes nothing new.
    pub short_of_space: bool,
    /// Entries that were cut here because they were never committed, kept aside; the oldest first.
    pub aside: Vec<Aside>,
    /// Whether this member takes part in deciding anything.
    pub state: &'static str,
}

/// A member that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The entry that made it one.
    pub index: Index,
}

/// Why the members were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Without it nobody could ever decide anything again.
    #[error("node {node} is the last voter, and a cluster cannot be without one")]
    LastVoter {
        /// Who.
        node: NodeId,
    },
    /// It may still come about.
    #[error("not done within {patience:?}; it may still come about, and may be asked for again")]
    NotInTime {
        /// How long was waited.
        patience: Duration,
    },
    /// Consensus did not take it: this node does not lead, another change is under way, …
    #[error("{why}")]
    Refused {
        /// In its words.
        why: String,
    },
}

async fn bounded<T, E: fmt::Display>(
    patience: Duration,
    change: impl Future<Output = Result<T, E>>,
) -> Result<T, ChangeError> {
    match tokio::time::timeout(patience, change).await {
        Ok(changed) => changed.map_err(|error| ChangeError::Refused { why: error.to_string() }),
        Err(_) => Err(ChangeError::NotInTime { patience }),
    }
}

/// Makes the log of a member whose cluster has lost its majority that of a new cluster, with this node as
/// its only voter: all that stands in it counts as committed, and the next epoch is opened with `why`. The
/// node must not run. After a crash on the way the directory is wholly the old cluster's or goes on to be
/// the new one's. Members of the old cluster cannot speak to it: its identity is another.
///
/// What the old cluster had committed and this member does not have, is missing: choose the member with
/// the highest (epoch, index), see [`crate::wal::position`].
///
/// # Errors
/// See [`RecoverError`].
pub fn recover(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    cluster: &str,
    node: NodeId,
    own: Member,
    why: &[u8],
) -> Result<Found, RecoverError> {
    let members = encode_members(&alone(node, own));
    crate::wal::recover(disk, dir, &Anew { cluster, node, members: &members, why })
}

/// A cluster of one.
pub(super) fn alone(node: NodeId, own: Member) -> Membership<NodeId, Member> {
    let members = Membership::new(vec![BTreeSet::from([node])], BTreeMap::from([(node, own)]));
    members.expect("its only voter is a member")
}

impl ClusterLog {
    /// What this member knows of its cluster.
    pub fn status(&self) -> Status {
        let metrics = self.raft().metrics().borrow_watched().clone();
        let members = match metrics.membership_config.membership() {
            // Consensus has not told anything yet: what was committed when the log was opened.
            told if told.nodes().next().is_none() => &self.inner().members,
            told => told,
        };
        let matched = metrics.replication.iter().flatten();
        let quorum_silent = metrics.last_quorum_acked.map(|at| openraft::Instant::elapsed(&*at));
        let log = self.member_log();
        let head = log.head();
        let heard = self.heard(head.index);
        let leads = metrics.state == ServerState::Leader;
        let since = |at: Option<Instant>| if leads { quorum_silent } else { at.map(|at| at.elapsed()) };
        Status {
            own: self.node(),
            leader: metrics.current_leader,
            term: Term::new(metrics.vote.leader_id.term),
            voters: members.voter_ids().collect(),
            firm: in_each(members.get_joint_config()),
            members: members.nodes().map(|(id, member)| (*id, member.clone())).collect(),
            matched: matched.filter_map(|(id, at)| Some((*id, ours((*at)?.index)))).collect(),
            quorum_silent,
            heard: since(heard.last),
            age: since(heard.current),
            epoch: head.epoch,
            committed: head.index,
            event: head.event,
            fenced: self.fenced(),
            short_of_space: log.is_short_of_space(),
            aside: log.aside(),
            state: match metrics.state {
                ServerState::Leader => "leader",
                ServerState::Candidate => "candidate",
                ServerState::Follower => "follower",
                ServerState::Learner => "learner",
                ServerState::Shutdown => "stopped",
            },
        }
    }

    /// Adds a member that reads along and does not vote. Returns when it has nearly caught up, within
    /// `patience`.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn add_learner(
        &self,
        id: NodeId,
        member: Member,
        patience: Duration,
    ) -> Result<Joined, ChangeError> {
        let added = bounded(patience, self.raft().add_learner(id, member, true)).await?;
        Ok(Joined { index: ours(added.log_id.index) })
    }

    /// Makes exactly these the voters, within `patience`. All must be members; a voter that is not among
    /// them is a member no more.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn set_voters(
        &self,
        voters: BTreeSet<NodeId>,
        patience: Duration,
    ) -> Result<Joined, ChangeError> {
        let set = bounded(patience, self.raft().change_membership(voters, false)).await?;
        Ok(Joined { index: ours(set.log_id.index) })
    }

    /// Says where a member is reached from now on, within `patience`.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn readdress(&self, id: NodeId, member: Member, patience: Duration) -> Result<(), ChangeError> {
        let change = ChangeMembers::SetNodes(BTreeMap::from([(id, member)]));
        bounded(patience, self.raft().change_membership(change, false)).await.map(drop)
    }

    /// Takes a voter or a learner out of the cluster wholly, within `patience`. Done again it changes
    /// nothing.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn remove(&self, node: NodeId, patience: Duration) -> Result<(), ChangeError> {
        let Status { voters, members, .. } = self.status();
        let change = match (voters.contains(&node), members.contains_key(&node)) {
            (true, _) if voters.len() == 1 => return Err(ChangeError::LastVoter { node }),
            (true, _) => ChangeMembers::RemoveVoters(BTreeSet::from([node])),
            (false, true) => ChangeMembers::RemoveNodes(BTreeSet::from([node])),
            (false, false) => return Ok(()),
        };
        bounded(patience, self.raft().change_membership(change, false)).await.map(drop)
    }
}

/// Who stands in each of these.
fn in_each(configs: &[BTreeSet<NodeId>]) -> BTreeSet<NodeId> {
    let mut configs = configs.iter();
    let first = configs.next().cloned().unwrap_or_default();
    configs.fold(first, |left, config| &left & config)
}
