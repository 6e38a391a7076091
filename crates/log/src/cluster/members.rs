//! Changing the list of members, one change at a time.

use super::{
    log::{ClusterLog, Joined},
    shape::{Member, ours},
};
use openraft::{ChangeMembers, async_runtime::watch::WatchReceiver as _};
use std::collections::{BTreeMap, BTreeSet};
use types::NodeId;

impl ClusterLog {
    /// Says where a member is reached from now on.
    ///
    /// # Errors
    /// In the words of consensus: not the leader, not a member, another change is under way, …
    pub async fn readdress(&self, node: NodeId, member: Member) -> Result<Joined, String> {
        self.change(ChangeMembers::SetNodes(BTreeMap::from([(node, member)]))).await
    }

    /// Takes a member out wholly. One that is none is out already.
    ///
    /// # Errors
    /// As [`Self::readdress`]; and the last voter cannot go.
    pub async fn remove(&self, node: NodeId) -> Result<(), String> {
        let metrics = self.raft().metrics().borrow_watched().clone();
        let members = metrics.membership_config.membership();
        if members.get_node(&node).is_none() {
            return Ok(());
        }
        let voters: BTreeSet<NodeId> = members.voter_ids().collect();
        if voters.len() == 1 && voters.contains(&node) {
            return Err("the last voter cannot be taken out".into());
        }
        let gone = BTreeSet::from([node]);
        let change = match voters.contains(&node) {
            true => ChangeMembers::RemoveVoters(gone),
            false => ChangeMembers::RemoveNodes(gone),
        };
        self.change(change).await.map(drop)
    }

    async fn change(&self, change: ChangeMembers<NodeId, Member>) -> Result<Joined, String> {
        let made = self.raft().change_membership(change, false).await.map_err(|error| error.to_string())?;
        Ok(Joined { index: ours(made.log_id.index) })
    }
}
