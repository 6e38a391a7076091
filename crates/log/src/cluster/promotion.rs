//! Making another node the one that sequences, on an operator's word.
//!
//! ```text
//!   asked ─► validating ──► approved ──► transitioning ──► succeeded: its epoch is committed
//!               │                            │
//!               ▼                            ▼
//!             denied,                     not won: the old authority stands
//!             by an invariant
//! ```
//!
//! Validating asks every voter whether it would vote for this node, which changes nothing anywhere and
//! does not disturb a primary. Only what a majority says it would do is evidence; silence is none. A
//! single positive sign that the primary lives is enough to deny. What is durable begins with the
//! election, and is decided by one entry: before the new epoch is committed the old authority stands,
//! after it the new one.

use super::{
    log::{ClusterLog, lock},
    shape::{Candidate, Leader, Shape, ours},
    transport::{Message, TransportError},
};
use openraft::{
    LogId, ServerState,
    async_runtime::watch::WatchReceiver as _,
    raft::{VoteRequest, VoteResponse},
};
use rt::Boundary;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use types::{Epoch, Index, NodeId, Term};

/// How far a member is, in its own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Its last entry, committed or not.
    pub last: Option<LogId<Leader>>,
    /// The last entry it knows to be committed.
    pub committed: Index,
    /// The epoch it knows to be in force.
    pub epoch: Epoch,
    /// The term it knows of.
    pub term: Term,
    /// It leads that term itself, and is not fenced.
    pub leads: bool,
    /// It is fenced: it will not sequence until another authority has begun.
    pub fenced: bool,
    /// Its disk is short of space.
    pub short_of_space: bool,
}

/// What a voter said when asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It would vote for this node.
    Would(Position),
    /// It would not: it hears a leader.
    HearsLeader(Position),
    /// It would not: it has entries that this node lacks.
    IsAhead(Position),
    /// It would not: it knows of a later election.
    KnowsLater(Position),
    /// It leads itself.
    Leads(Position),
    /// Nothing.
    Silent(TransportError),
}

/// Why a promotion is denied: the invariant that would not be proven.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// `one_authority`: too few voters promise, and only promises count.
    #[error(
        "a majority is missing: {promised} of {voters} voters would vote for it, and {needed} must; silence proves nothing"
    )]
    MajorityMissing {
        /// How many would.
        promised: usize,
        /// How many there are.
        voters: usize,
        /// How many are needed.
        needed: usize,
    },
    /// `one_authority`: the primary answers, or a member hears it.
    #[error("the primary lives: {by} says so; use a handover")]
    PrimaryAlive {
        /// Who says so.
        by: NodeId,
    },
    /// `acked_is_durable`: another member has entries that this node lacks.
    #[error("node {by} has entries up to {its}, and this node only up to {own}: promote that one")]
    Behind {
        /// Who is ahead.
        by: NodeId,
        /// Its last entry.
        its: Index,
        /// This node's last entry.
        own: Index,
    },
    /// `promotion_is_atomic`: a later election is under way or has been held.
    #[error("node {by} knows of a later election: another promotion is running, or this node has missed one")]
    Later {
        /// Who knows.
        by: NodeId,
    },
    /// `one_authority`: it was told not to sequence.
    #[error("this node is fenced until another one sequences")]
    Fenced,
    /// It cannot be elected at all.
    #[error("this node does not vote")]
    NotAVoter,
    /// There is nothing to do.
    #[error("this node sequences already")]
    IsPrimary,
}

/// What a promotion would be based on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Validation {
    /// This node.
    pub own: Position,
    /// What each other voter said.
    pub said: BTreeMap<NodeId, Said>,
    /// Whether it may go on.
    pub verdict: Result<(), Denied>,
}

/// What became of a promotion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promotion {
    /// This node sequences, in this epoch.
    Succeeded(Epoch),
    /// It was denied; nothing has changed anywhere.
    Denied(Denied),
    /// It stood for election and has not won: the old authority stands.
    NotWon,
    /// It may have won. Only the log can say, by the last epoch.
    Unknown,
}

/// How long an election and the first entry after it may take.
const TRANSITION: Duration = Duration::from_secs(5);

impl ClusterLog {
    /// How far this member is.
    pub fn position(&self) -> Position {
        let metrics = self.raft().metrics().borrow_watched().clone();
        let head = self.member_log().head();
        let fenced = self.fenced().is_some();
        Position {
            last: self.last_id(),
            committed: head.index,
            epoch: head.epoch,
            term: Term::new(metrics.vote.leader_id.term),
            leads: metrics.state == ServerState::Leader && !fenced,
            fenced,
            short_of_space: self.member_log().is_short_of_space(),
        }
    }

    /// Asks every voter whether this node would be elected, and whether the primary lives. Changes
    /// nothing anywhere.
    pub async fn validate(&self) -> Validation {
        Boundary::PromotionAsked.reached();
        let own = self.position();
        let metrics = self.raft().metrics().borrow_watched().clone();
        let members = metrics.membership_config.membership().clone();
        let candidate = Candidate { term: own.term.get() + 1, node: self.node() };
        let vote = openraft::Vote { leader_id: candidate, committed: false };
        let request = VoteRequest::<Shape>::new(vote, own.last);
        let others = members.voter_ids().filter(|id| *id != self.node());
        let asked = others.map(|id| {
            let member = members.get_node(&id).cloned().unwrap_or_default();
            let request = request.clone();
            async move {
                let said = self.ask(id, &member, &request, own).await;
                Boundary::PromotionTold.reached();
                (id, said)
            }
        });
        let said: BTreeMap<NodeId, Said> = futures_util::future::join_all(asked).await.into_iter().collect();
        let configs = members.get_joint_config().clone();
        let verdict = judge(self.node(), own, &said, &configs);
        if verdict.is_ok() {
            Boundary::PromotionValidated.reached();
        }
        Validation { own, said, verdict }
    }

    /// Whether another member hears this one and is heard: a refusal says why not.
    ///
    /// # Errors
    /// It cannot be reached or does not answer, or one of the two is taken for an older copy by the other.
    pub async fn greet(&self, node: NodeId) -> Result<(), TransportError> {
        let members = self.raft().metrics().borrow_watched().membership_config.membership().clone();
        let member = members.get_node(&node).cloned().unwrap_or_default();
        let position: Result<Position, _> = self.call(node, &member, Message::Position, &()).await;
        position.map(drop)
    }

    async fn ask(
        &self,
        id: NodeId,
        member: &super::Member,
        request: &VoteRequest<Shape>,
        own: Position,
    ) -> Said {
        let position: Result<Position, _> = self.call(id, member, Message::Position, &()).await;
        let position = match position {
            Ok(position) if position.leads => return Said::Leads(position),
            Ok(position) => position,
            Err(error) => return Said::Silent(error),
        };
        let answer: Result<VoteResponse<Shape>, _> = self.call(id, member, Message::PreVote, request).await;
        match answer {
            Ok(answer) if answer.vote_granted => Said::Would(position),
            Ok(_) if position.last > own.last => Said::IsAhead(position),
            Ok(answer) if answer.vote.leader_id.term > request.vote.leader_id.term => {
                Said::KnowsLater(position)
            }
            Ok(_) => Said::HearsLeader(position),
            Err(error) => Said::Silent(error),
        }
    }

    /// Makes this node the one that sequences, if that is safe; `why` goes into the entry that opens its
    /// epoch.
    pub async fn promote(&self, why: &[u8]) -> Promotion {
        let validation = self.validate().await;
        if let Err(denied) = validation.verdict {
            return Promotion::Denied(denied);
        }
        let before = self.member_log().head().epoch;
        let mut authority = crate::Log::authority(self);
        let deadline = tokio::time::Instant::now() + TRANSITION;
        self.set_reason(why, deadline + TRANSITION);
        let mut words = Words(Some(self));
        // Asked again and again: consensus does not stand while this node itself has just heard the old
        // primary, and nothing tells whether it has stood.
        let mut asked = false;
        let won = loop {
            if self.raft().trigger().elect(true).await.is_err() {
                // Consensus has stopped, perhaps after it stood.
                return if asked { Promotion::Unknown } else { Promotion::NotWon };
            }
            asked = true;
            let again = deadline.min(tokio::time::Instant::now() + self.inner().patience);
            let won = authority.wait_for(|held| held.is_some_and(|held| held.epoch > before));
            let won = tokio::time::timeout_at(again, won).await.map(|won| won.map(|held| *held));
            if won.is_ok() || again == deadline {
                break won;
            }
        };
        let promotion = match won {
            Ok(Ok(held)) => match held {
                Some(held) => {
                    Boundary::PromotionSucceeded.reached();
                    Promotion::Succeeded(held.epoch)
                }
                None => Promotion::Unknown,
            },
            Ok(Err(_)) => Promotion::Unknown,
            Err(_) => self.not_won_yet(why),
        };
        if promotion == Promotion::Unknown {
            // It may still win, and its epoch says then why.
            words.0 = None;
        }
        promotion
    }

    /// What is known of a promotion whose time is over. The words are taken by the entry that opens its epoch
    /// and by nothing else: while they are unsaid, and this node does not stand any more, no epoch can come of
    /// it. An entry that was handed over may be committed by whoever leads next.
    fn not_won_yet(&self, why: &[u8]) -> Promotion {
        // Held meanwhile, so that the words are not taken between the two looks.
        let mut words = lock(&self.inner().reason);
        let metrics = self.raft().metrics().borrow_watched().clone();
        let stands = metrics.state == ServerState::Leader || metrics.state == ServerState::Candidate;
        let may_win = stands && metrics.vote.leader_id.node == self.node();
        let unsaid = words.as_ref().is_some_and(|words| words.told.is_none() && words.why == why);
        if !unsaid || may_win {
            return Promotion::Unknown;
        }
        *words = None;
        Promotion::NotWon
    }
}

/// What the next epoch shall say, as long as the act lasts that gives it: also if nobody waits for its end.
struct Words<'a>(Option<&'a ClusterLog>);

impl Drop for Words<'_> {
    fn drop(&mut self) {
        if let Some(log) = self.0 {
            log.forget_reason();
        }
    }
}

/// Whether what the voters said proves that this node may be elected.
fn judge(
    node: NodeId,
    own: Position,
    said: &BTreeMap<NodeId, Said>,
    configs: &[std::collections::BTreeSet<NodeId>],
) -> Result<(), Denied> {
    if own.leads {
        return Err(Denied::IsPrimary);
    }
    if own.fenced {
        return Err(Denied::Fenced);
    }
    if !configs.iter().any(|voters| voters.contains(&node)) {
        return Err(Denied::NotAVoter);
    }
    // A sign of life denies, whoever gives it and however many would vote.
    for (by, said) in said {
        if matches!(said, Said::Leads(_) | Said::HearsLeader(_)) {
            return Err(Denied::PrimaryAlive { by: *by });
        }
    }
    let index = |id: Option<LogId<Leader>>| id.map_or(Index::ZERO, |id| ours(id.index));
    let would = |id: &NodeId| *id == node || matches!(said.get(id), Some(Said::Would(_)));
    for voters in configs {
        let (promised, needed) = (voters.iter().filter(|id| would(id)).count(), voters.len() / 2 + 1);
        if promised >= needed {
            continue;
        }
        for (by, said) in said {
            match said {
                Said::IsAhead(its) => {
                    return Err(Denied::Behind { by: *by, its: index(its.last), own: index(own.last) });
                }
                Said::KnowsLater(_) => return Err(Denied::Later { by: *by }),
                _ => {}
            }
        }
        return Err(Denied::MajorityMissing { promised, voters: voters.len(), needed });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn id(number: u128) -> NodeId {
        NodeId::from_u128(number)
    }

    fn at(index: u64) -> Position {
        let last = super::super::shape::log_id(Index::new(index), Term::new(1), id(1));
        Position {
            last,
            committed: Index::new(index),
            epoch: Epoch::new(1),
            term: Term::new(1),
            leads: false,
            fenced: false,
            short_of_space: false,
        }
    }

    fn silent() -> Said {
        Said::Silent(TransportError::Unreachable("gone".into()))
    }

    fn verdict(said: [(u128, Said); 2]) -> Result<(), Denied> {
        let voters = BTreeSet::from([id(1), id(2), id(3)]);
        let said = said.into_iter().map(|(number, said)| (id(number), said)).collect();
        judge(id(2), at(7), &said, &[voters])
    }

    #[test]
    fn only_promises_of_a_majority_are_evidence() {
        assert_eq!(verdict([(1, silent()), (3, Said::Would(at(7)))]), Ok(()));
        let missing = Denied::MajorityMissing { promised: 1, voters: 3, needed: 2 };
        assert_eq!(verdict([(1, silent()), (3, silent())]), Err(missing));
    }

    #[test]
    fn one_sign_of_life_denies() {
        let alive = |by| Err(Denied::PrimaryAlive { by: id(by) });
        assert_eq!(verdict([(1, Said::Leads(at(7))), (3, Said::Would(at(7)))]), alive(1));
        assert_eq!(verdict([(1, silent()), (3, Said::HearsLeader(at(7)))]), alive(3));
    }

    #[test]
    fn a_node_that_lacks_entries_is_sent_to_the_one_that_has_them() {
        let behind = Denied::Behind { by: id(3), its: Index::new(9), own: Index::new(7) };
        assert_eq!(verdict([(1, silent()), (3, Said::IsAhead(at(9)))]), Err(behind));
        assert_eq!(verdict([(1, silent()), (3, Said::KnowsLater(at(7)))]), Err(Denied::Later { by: id(3) }));
    }

    #[test]
    fn a_change_of_voters_needs_a_majority_of_both() {
        let said = BTreeMap::from([(id(1), silent()), (id(3), Said::Would(at(7))), (id(4), silent())]);
        let old = BTreeSet::from([id(1), id(2), id(3)]);
        let new = BTreeSet::from([id(1), id(2), id(4)]);
        assert_eq!(judge(id(2), at(7), &said, std::slice::from_ref(&old)), Ok(()));
        let missing = Denied::MajorityMissing { promised: 1, voters: 3, needed: 2 };
        assert_eq!(judge(id(2), at(7), &said, &[old, new]), Err(missing));
        assert_eq!(judge(id(5), at(7), &said, &[BTreeSet::from([id(1)])]), Err(Denied::NotAVoter));
    }
}
