//! Handing the lead to another voter, on purpose and without losing a write.
//!
//! ```text
//!   asked ─► it follows closely ─► it knows why ─► nothing new is begun ─► what is under way is done
//!              │ no                  │ no                                     │ not in time
//!              ▼                     ▼                                        ▼
//!            this node writes on, as if never asked ◄──────────────────────────
//!                                                                             │
//!            this node writes on ◄── it did not stand, or did not win ◄── it has everything: transfer
//!                                                                             │
//!                                                              its epoch is committed: done
//! ```
//!
//! The transfer is asked of the target itself, not of our own consensus: that would refuse writes from
//! then on, even if the target never wins.

use super::{
    log::{ClusterLog, LOOK, lock},
    shape::{Member, Shape, ours},
    transport::{Message, TransportError},
};
use openraft::{
    async_runtime::watch::WatchReceiver as _,
    raft::{TransferLeaderRequest, TransferLeaderResponse},
};
use rt::Boundary;
use std::time::Duration;
use tokio::time::Instant;
use types::{Epoch, Index, NodeId, limits};

/// So many entries the next primary may lack when writes are stopped for it.
const NEAR: u64 = 1024;

/// The lead was handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandedOver {
    /// The epoch in which the other node sequences.
    pub epoch: Epoch,
    /// For how long nothing could be written, as seen from here.
    pub gap: Duration,
}

/// Why the lead was not handed over. But for [`Self::Unknown`], this node writes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandOverError {
    /// It has nothing to hand over.
    #[error("this node does not sequence")]
    NotPrimary,
    /// Only another voter can lead.
    #[error("node {to} is not another voter of this cluster")]
    NotAVoter {
        /// To whom it was to be handed.
        to: NodeId,
    },
    /// One at a time.
    #[error("the lead is being handed over already")]
    Running,
    /// The reason is longer than [`limits::EPOCH_REASON`].
    #[error("the reason takes {bytes} bytes, and {} is the most", limits::EPOCH_REASON)]
    Reason {
        /// How many it takes.
        bytes: usize,
    },
    /// It does not answer, or will not lead.
    #[error("node {to} does not take it: {source}")]
    NotTaken {
        /// To whom it was to be handed.
        to: NodeId,
        /// In its words.
        source: TransportError,
    },
    /// It lacks entries.
    #[error("node {to} has entries up to {its}, and must have them up to {needed}")]
    Behind {
        /// To whom it was to be handed.
        to: NodeId,
        /// Its last entry.
        its: Index,
        /// What it needs.
        needed: Index,
    },
    /// What was under way was not done in time.
    #[error("{in_flight} writes under way were not done in time")]
    Undrained {
        /// How many.
        in_flight: usize,
    },
    /// It was asked and did not win.
    #[error("node {to} was asked and did not come to lead in time")]
    NotWon {
        /// To whom it was to be handed.
        to: NodeId,
    },
    /// This node leads no more, and who does is not known yet. The last epoch says, once it is known.
    #[error("this node leads no more, and who does is not known yet")]
    Unknown,
}

impl HandOverError {
    /// Whether only the log can say what came of it. Otherwise this node writes on, or never did.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

/// Nothing new is begun while it lives.
struct Pause<'a>(&'a ClusterLog);

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        lock(&self.0.inner().gate).handing = None;
    }
}

/// What must be done before the lead may go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// Whoever waits for a write here is answered.
    Answered,
    /// Nothing: this node has no place to write it, and the others do.
    Nothing,
}

impl ClusterLog {
    /// Hands the lead to another voter, within `patience`, and returns when its epoch is committed here.
    /// Meanwhile writes are refused, certainly not executed, and what is under way is done first. `why` is
    /// written in the entry that opens its epoch.
    ///
    /// # Errors
    /// See [`HandOverError`].
    pub async fn hand_over(
        &self,
        to: NodeId,
        why: &[u8],
        patience: Duration,
    ) -> Result<HandedOver, HandOverError> {
        self.give(to, why, patience, Before::Answered).await
    }

    async fn give(
        &self,
        to: NodeId,
        why: &[u8],
        patience: Duration,
        before: Before,
    ) -> Result<HandedOver, HandOverError> {
        let deadline = Instant::now() + patience;
        let Some((held, _)) = lock(&self.inner().gate).authority else {
            return Err(HandOverError::NotPrimary);
        };
        if why.len() > limits::EPOCH_REASON {
            return Err(HandOverError::Reason { bytes: why.len() });
        }
        let status = self.status();
        let voter = status.members.get(&to).filter(|_| to != status.own && status.voters.contains(&to));
        let member = voter.ok_or(HandOverError::NotAVoter { to })?;
        self.follows(to, NEAR, deadline).await?;
        let told: Result<(), _> = self.call(to, member, Message::Expect, &why.to_vec()).await;
        told.map_err(|source| HandOverError::NotTaken { to, source })?;
        Boundary::HandoverTold.reached();
        let _pause = self.pause(to)?;
        let since = Instant::now();
        if before == Before::Answered {
            self.drained(deadline).await?;
        }
        Boundary::HandoverDrained.reached();
        self.follows(to, 0, deadline).await?;
        Boundary::HandoverCaughtUp.reached();
        self.ask_to_lead(to, member).await?;
        Boundary::HandoverAsked.reached();
        let mut epochs = self.inner().epochs.clone();
        let taken = epochs.wait_for(|opened| {
            opened.is_some_and(|opened| opened.node == to && opened.id.leader_id.term > held.term.get())
        });
        if tokio::time::timeout_at(deadline, taken).await.is_ok() {
            Boundary::HandoverTaken.reached();
            return Ok(HandedOver { epoch: self.member_log().head().epoch, gap: since.elapsed() });
        }
        let leads = self.raft().metrics().borrow_watched().current_leader == Some(self.node());
        Err(if leads { HandOverError::NotWon { to } } else { HandOverError::Unknown })
    }

    fn pause(&self, to: NodeId) -> Result<Pause<'_>, HandOverError> {
        let mut gate = lock(&self.inner().gate);
        if gate.handing.is_some() {
            return Err(HandOverError::Running);
        }
        gate.handing = Some(to);
        Ok(Pause(self))
    }

    /// Waits until what is under way is answered.
    async fn drained(&self, deadline: Instant) -> Result<(), HandOverError> {
        loop {
            let in_flight = lock(&self.inner().gate).in_flight;
            if in_flight == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(HandOverError::Undrained { in_flight });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Waits until a member lacks at most so many entries.
    async fn follows(&self, to: NodeId, lacks: u64, deadline: Instant) -> Result<(), HandOverError> {
        loop {
            let needed = Index::new(self.member_log().newest().get().saturating_sub(lacks));
            let metrics = self.raft().metrics().borrow_watched().clone();
            let Some(matched) = metrics.replication else { return Err(HandOverError::NotPrimary) };
            let its = matched.get(&to).copied().flatten().map_or(Index::ZERO, |at| ours(at.index));
            if its >= needed {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(HandOverError::Behind { to, its, needed });
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn ask_to_lead(&self, to: NodeId, member: &Member) -> Result<(), HandOverError> {
        let vote = self.raft().metrics().borrow_watched().vote;
        let request = TransferLeaderRequest::<Shape>::new(vote, to, self.last_id());
        let answer: Result<TransferLeaderResponse<Shape>, _> =
            self.call(to, member, Message::Transfer, &request).await;
        match answer {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                let source = TransportError::Refused(error.to_string());
                Err(HandOverError::NotTaken { to, source })
            }
            // It may have been heard: what comes of it is waited for.
            Err(TransportError::Lost(_)) => Ok(()),
            Err(source) => Err(HandOverError::NotTaken { to, source }),
        }
    }

    /// Hands the lead to a voter whose disk has space, because that of this node has none.
    pub(super) async fn yield_for_space(&self) {
        let status = self.status();
        let mut others: Vec<_> = status.matched.iter().collect();
        others.sort_by_key(|(_, at)| std::cmp::Reverse(**at));
        for (to, _) in others.into_iter().filter(|(id, _)| status.voters.contains(id)) {
            let patience = 4 * self.inner().patience;
            let handed = self.give(*to, b"the disk of the leader is full", patience, Before::Nothing).await;
            match handed {
                Ok(_) => return tracing::warn!(%to, "handed the lead over: the disk of this node is full"),
                Err(error) => tracing::warn!(%to, %error, "cannot hand the lead over"),
            }
        }
    }
}
