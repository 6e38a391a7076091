//! Who is a member, made so.
//!
//! The log says who was let in and who was removed; consensus has its own list, which decides who
//! votes. Whoever leads brings the second in step with the first, one change at a time: a member is
//! added without a vote, is given one when it has nearly everything, and loses both when it was
//! removed. Nothing else changes the members, so a change that was cut short goes on under the next
//! leader.

use super::{Ask, Cluster};
use crate::writer::{Answer, Core};
use domain::{Actor, Command, Confirmation, Confirmed, NewMember, state::MemberState as Declared};
use log::cluster::{ClusterLog, Member, Status};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio_util::sync::CancellationToken;
use types::{Index, NodeId, limits};

/// How long it rests at the most.
const TICK: Duration = Duration::from_millis(500);
/// Why a leader that is to be removed hands over, in the epoch that follows.
const REMOVED: &[u8] = b"the one before was removed";
/// A new member gets its vote when it lacks no more entries than this.
const NEARLY: u64 = 1000;

/// One change of consensus's list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    /// It reads along.
    Add(NodeId, Member),
    /// It votes.
    Vote(NodeId),
    /// It is reached elsewhere.
    Move(NodeId, Member),
    /// It is nothing any more.
    Remove(NodeId),
    /// This member is to be removed, and another has to lead for that.
    HandOver(NodeId),
}

/// What whoever keeps the list knows besides the log.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// As what this member begins the cluster, if it does and others can join it.
    pub founds: Option<NewMember>,
    /// The last event of the cluster that this one was recovered from: whoever became a member before is
    /// none.
    pub recovered_at: Option<u64>,
    /// Members that said that they are reached elsewhere now.
    pub moved: BTreeMap<NodeId, Member>,
}

/// Brings consensus's list in step with the log's, while this member leads, until told to stop.
pub(super) async fn keep(cluster: Cluster, core: Core, shutdown: CancellationToken) {
    let mut applied = core.applied();
    while !shutdown.is_cancelled() {
        let mut worked = false;
        if core.leads() {
            let place = cluster.place();
            let nearer = bring_nearer(cluster.log(), &core, &place);
            match shutdown.run_until_cancelled(nearer).await {
                Some(made) => worked = made,
                None => return,
            }
        } else if shutdown.run_until_cancelled(tell_where(&cluster)).await.is_none() {
            return;
        }
        if worked {
            continue;
        }
        tokio::select! {
            _ = tokio::time::sleep(TICK) => {}
            changed = applied.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => return,
        }
    }
}

/// On the member that leads: makes the one change that brings consensus's list nearer to the log's, if one
/// is missing. Says whether something came of it. Dropped on the way, the change may still come about.
pub async fn bring_nearer(log: &ClusterLog, core: &Core, place: &Place) -> bool {
    found(log.node(), core, place).await;
    let status = log.status();
    match next_change(&declared(core, place.recovered_at), &status, &place.moved) {
        Some(change) => make(log, &change, &status).await,
        None => false,
    }
}

impl Cluster {
    fn place(&self) -> Place {
        let settings = self.settings();
        let founds = settings.listen.is_some() && !settings.joined;
        let named = settings.name.parse().ok().filter(|_| founds);
        let (peer, api) = (settings.peer.clone(), settings.api.clone());
        Place {
            founds: named.map(|name| NewMember { name, peer, api, votes: true }),
            recovered_at: settings.recovered_at,
            moved: self.moved(),
        }
    }
}

/// Writes down the member that began the cluster, once others can join it; and before that, that those of
/// a cluster that it was recovered from are members no more.
async fn found(node: NodeId, core: &Core, place: &Place) {
    let state = core.state();
    for (node, member) in &state.members {
        if member.is_present() && place.recovered_at.is_some_and(|event| member.admitted.get() <= event) {
            write(core, Command::RemoveMember { node: *node, confirmed: recovered(core) }).await;
        }
    }
    let is_first = !core.state().members.values().any(Declared::is_present);
    if let Some(member) = place.founds.clone().filter(|_| is_first) {
        write(core, Command::FoundMember { node, member }).await;
    }
}

/// What made the members of a lost cluster none of this one: the recovery, which was confirmed on the disk
/// and stands in this node's journal and in the epoch that it opened.
fn recovered(core: &Core) -> Confirmed {
    Confirmed {
        actor: Actor::System,
        kind: Confirmation::Offline,
        acknowledged: Vec::new(),
        reason: "the cluster was recovered from one of its members".to_owned(),
        at: core.now(),
    }
}

async fn write(core: &Core, command: Command) {
    match core.submit(command, Actor::System, None).await {
        Answer::Executed { .. } => {}
        other => tracing::warn!(?other, "who is a member is not written down yet"),
    }
}

/// Who the log says is a member, and who was one; without those of a cluster that this one was recovered
/// from.
fn declared(core: &Core, recovered_at: Option<u64>) -> BTreeMap<NodeId, Declared> {
    let state = core.state();
    let is_of_this = |member: &Declared| recovered_at.is_none_or(|event| member.admitted.get() > event);
    let members = state.members.iter().filter(|(_, member)| is_of_this(member));
    members.map(|(node, member)| (*node, member.clone())).collect()
}

/// The next change that brings one list nearer to the other.
fn next_change(
    declared: &BTreeMap<NodeId, Declared>,
    status: &Status,
    moved: &BTreeMap<NodeId, Member>,
) -> Option<Change> {
    let gone = |node: &NodeId| declared.get(node).is_some_and(|member| member.removed.is_some());
    let at = |node: &NodeId| status.matched.get(node).copied().unwrap_or(Index::ZERO);
    // The one that is furthest behind first: were it dead, and one that lives were removed before it, there
    // might be no majority left that could remove it. This member last.
    let order = |node: &&NodeId| (**node == status.own, at(node));
    if let Some(node) = status.members.keys().filter(|node| gone(node)).min_by_key(order) {
        if *node != status.own {
            return Some(Change::Remove(*node));
        }
        // The furthest of the others: it has the least to wait for.
        let others = status.voters.iter().filter(|other| *other != node && !gone(other));
        let next = others.max_by_key(|other| at(other));
        return next.map(|next| Change::HandOver(*next));
    }
    for (node, member) in moved {
        if status.members.get(node).is_some_and(|known| known != member) {
            return Some(Change::Move(*node, member.clone()));
        }
    }
    for (node, member) in declared.iter().filter(|(_, member)| member.removed.is_none()) {
        if !status.members.contains_key(node) {
            let member =
                Member { name: member.name.to_string(), peer: member.peer.clone(), api: member.api.clone() };
            return Some(Change::Add(*node, member));
        }
        let has = |node: &NodeId| status.matched.get(node).map_or(0, |at| at.get());
        if member.votes
            && !status.voters.contains(node)
            && has(node) + NEARLY >= has(&status.own)
            && has(node) > 0
        {
            return Some(Change::Vote(*node));
        }
    }
    None
}

/// Makes one change; says whether something came of it.
async fn make(log: &ClusterLog, change: &Change, status: &Status) -> bool {
    let patience = Duration::from(limits::MEMBERS_WAIT);
    let made = async {
        let changed = match change {
            Change::Add(node, member) => log.add_learner(*node, member.clone(), patience).await.map(drop),
            Change::Vote(node) => {
                let voters: BTreeSet<NodeId> = status.voters.iter().copied().chain([*node]).collect();
                log.set_voters(voters, patience).await.map(drop)
            }
            Change::Move(node, member) => log.readdress(*node, member.clone(), patience).await,
            Change::Remove(node) => log.remove(*node, patience).await,
            Change::HandOver(to) => {
                let handed = log.hand_over(*to, REMOVED, patience).await;
                return handed.map(drop).map_err(|error| error.to_string());
            }
        };
        changed.map_err(|error| error.to_string())
    };
    match made.await {
        Ok(()) => {
            tracing::info!(?change, "the members of the cluster changed");
            true
        }
        Err(why) => {
            tracing::warn!(?change, why, "the members of the cluster are not changed yet");
            false
        }
    }
}

/// Tells every member where this one is reached, as long as the list of consensus says something else: the
/// leader cannot say that it leads to one that it does not reach. And tells the leader what others have said.
async fn tell_where(cluster: &Cluster) {
    let (own, patience) = (cluster.own(), Duration::from(limits::PEER_REPORT));
    let (status, leader) = (cluster.log().status(), cluster.leader());
    let mut asks = Vec::new();
    for (node, member) in cluster.moved() {
        let (to, ask): (Vec<NodeId>, Ask) = match node == own {
            true => (status.members.keys().copied().collect(), Ask::Moved { node, member }),
            false => (leader.iter().map(|leader| leader.node).collect(), Ask::HasMoved { node, member }),
        };
        let to = to.into_iter().filter(|to| *to != own && *to != node);
        asks.extend(to.map(|to| (to, ask.clone())));
    }
    let status = &status;
    let told = asks.iter().map(|(to, ask)| async move {
        let Some(member) = status.members.get(to) else { return };
        if let Err(error) = cluster.ask(*to, member, ask, patience).await {
            tracing::debug!(%to, %error, "a member was not told where another is");
        }
    });
    futures_util::future::join_all(told).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{EventId, Term};

    fn id(number: u128) -> NodeId {
        NodeId::from_u128(number)
    }

    fn member(name: &str) -> Member {
        Member { name: name.into(), peer: format!("{name}:7071"), api: String::new() }
    }

    fn one(name: &str) -> Declared {
        Declared {
            name: name.parse().expect("a name"),
            peer: format!("{name}:7071"),
            api: String::new(),
            votes: true,
            admitted: EventId::new(1),
            removed: None,
            sequence: 1,
        }
    }

    /// A cluster that member 1 leads.
    fn status(voters: &[u128], learners: &[u128], matched: &[(u128, u64)]) -> Status {
        let all = voters.iter().chain(learners);
        Status {
            leader: Some(id(1)),
            term: Term::new(1),
            voters: voters.iter().map(|number| id(*number)).collect(),
            firm: voters.iter().map(|number| id(*number)).collect(),
            members: all.map(|number| (id(*number), member(&format!("m{number}")))).collect(),
            matched: matched.iter().map(|(number, at)| (id(*number), Index::new(*at))).collect(),
            own: id(1),
            quorum_silent: None,
            heard: None,
            age: None,
            epoch: types::Epoch::new(1),
            committed: Index::new(9),
            event: EventId::new(9),
            fenced: None,
            short_of_space: false,
            aside: Vec::new(),
            state: "leader",
        }
    }

    fn log(entries: &[(u128, Declared)]) -> BTreeMap<NodeId, Declared> {
        entries.iter().map(|(number, member)| (id(*number), member.clone())).collect()
    }

    fn change(declared: &BTreeMap<NodeId, Declared>, status: &Status) -> Option<Change> {
        next_change(declared, status, &BTreeMap::new())
    }

    #[test]
    fn a_new_member_reads_along_first_and_votes_when_it_has_nearly_everything() {
        let members = log(&[(2, one("m2"))]);
        assert_eq!(change(&members, &status(&[1], &[], &[(1, 9)])), Some(Change::Add(id(2), member("m2"))));
        let far = status(&[1], &[2], &[(1, 5000), (2, 7)]);
        assert_eq!(change(&members, &far), None, "it is far behind");
        let silent = status(&[1], &[2], &[(1, 9)]);
        assert_eq!(change(&members, &silent), None, "it has not said that it has anything");
        let near = status(&[1], &[2], &[(1, 5000), (2, 4800)]);
        assert_eq!(change(&members, &near), Some(Change::Vote(id(2))));
        assert_eq!(change(&members, &status(&[1, 2], &[], &[(1, 9), (2, 9)])), None);
    }

    #[test]
    fn one_that_only_reads_never_votes() {
        let members = log(&[(2, Declared { votes: false, ..one("m2") })]);
        assert_eq!(change(&members, &status(&[1], &[2], &[(1, 9), (2, 9)])), None);
    }

    #[test]
    fn one_that_was_removed_goes_and_the_founder_can() {
        let removed = |name| Declared { removed: Some(EventId::new(5)), ..one(name) };
        let three = status(&[1, 2, 3], &[], &[(1, 9), (2, 8), (3, 9)]);
        assert_eq!(change(&log(&[(2, removed("m2"))]), &three), Some(Change::Remove(id(2))));
        assert_eq!(change(&log(&[(1, removed("m1"))]), &three), Some(Change::HandOver(id(3))));
        assert_eq!(change(&log(&[(4, removed("m4"))]), &three), None, "it is nothing already");
        assert_eq!(change(&log(&[(1, removed("m1"))]), &status(&[1], &[], &[(1, 9)])), None);
    }

    #[test]
    fn of_two_that_were_removed_the_one_that_is_behind_goes_first() {
        let removed = |name| Declared { removed: Some(EventId::new(5)), ..one(name) };
        let both = log(&[(2, removed("m2")), (3, removed("m3"))]);
        let dead = status(&[1, 2, 3], &[], &[(1, 9), (2, 9), (3, 4)]);
        assert_eq!(change(&both, &dead), Some(Change::Remove(id(3))), "without 2 nobody could remove it");
        let own = log(&[(1, removed("m1")), (2, removed("m2"))]);
        assert_eq!(change(&own, &dead), Some(Change::Remove(id(2))), "whoever leads goes last");
    }

    #[test]
    fn one_that_moved_is_reached_at_its_new_address() {
        let two = status(&[1, 2], &[], &[(1, 9), (2, 9)]);
        let moved = BTreeMap::from([(id(2), Member { peer: "other:1".into(), ..member("m2") })]);
        let wanted = Change::Move(id(2), moved[&id(2)].clone());
        assert_eq!(next_change(&BTreeMap::new(), &two, &moved), Some(wanted));
        let same = BTreeMap::from([(id(2), member("m2"))]);
        assert_eq!(next_change(&BTreeMap::new(), &two, &same), None);
    }
}
