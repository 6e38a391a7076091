//! Where appends become entries: in the order of their heads, a few entries at a time.
//!
//! ```text
//!   append ─► gate: head, authority, room? ─► queue ─► all that waits ─► one entry ─► consensus
//!                                               ▲                                        │
//!                                               └──────── an entry is settled ◄──────────┘
//! ```
//!
//! Consensus costs the same for an entry of one event and of a thousand, so what waits while
//! [`limits::ENTRIES_IN_FLIGHT`] entries are under way becomes one entry; and while one is, those who were just
//! answered are waited for. That entry is a proposal on the head of the first append in it: it takes effect as
//! a whole or not at all, and when the first would have been void, so would have been the others.
//!
//! Invariants:
//!
//! - What stands in the queue has not been handed to consensus: it is certainly not written when the authority
//!   ends, when an entry before it fails, or when the log is closed.
//! - One thread at a time hands entries over, so their order is that of the gate; and it holds no lock while
//!   it does, because consensus may answer from within.

use super::{
    adapter::Machine,
    log::{describe, lock},
    shape::{Applied, Call, Data, Leader, Shape, ours},
};
use crate::{
    AppendError, AppendFuture, Appended, Authority, Batch, Kind, Pending,
    entry::{self, FRAME, PROPOSAL},
};
use bytes::Bytes;
use futures_util::FutureExt;
use openraft::{
    Raft,
    errors::ClientWriteError,
    raft::{ClientWriteResponse, ClientWriteResult},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};
use tokio::sync::Notify;
use types::{EventId, NodeId, limits};

/// What an append is compared with before it is proposed, and what waits to be.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// The term that this node leads and may sequence in, and that term's epoch.
    pub(super) authority: Option<(Authority, Leader)>,
    /// Appends that are not answered yet, in the queue or under way.
    pub(super) in_flight: usize,
    /// The lead is being handed over, and nothing new is begun.
    pub(super) handing: Option<NodeId>,
    closed: bool,
    /// The head when everything that was handed to consensus is committed.
    sent: EventId,
    /// The head when the queue is committed as well.
    end: EventId,
    queue: VecDeque<Waiting>,
    /// Entries handed to consensus and not settled.
    entries: usize,
    /// How many appends were in the entry that was settled last. Who was answered often appends again at once.
    answered: usize,
    /// Somebody is handing entries over, and looks again before it is done.
    sending: bool,
    /// How often an entry was handed over or settled.
    moves: u64,
    /// Is told of each that is handed over.
    handed: Arc<Notify>,
}

#[derive(Debug)]
struct Waiting {
    events: Vec<Bytes>,
    pending: Pending,
}

/// An entry on its way.
struct Next {
    payload: Bytes,
    leader: Leader,
    parts: Vec<Part>,
}

/// One append in an entry.
struct Part {
    events: u64,
    pending: Pending,
}

/// Answers to give once the gate is let go: whoever gets one may append at once.
#[must_use]
pub(super) struct Answers(Vec<(Pending, Result<Appended, AppendError>)>);

impl Answers {
    pub(super) fn give(self) {
        for (pending, answer) in self.0 {
            pending.answer(answer);
        }
    }
}

impl Gate {
    /// Whether this node may sequence from now on, and in which epoch.
    pub(super) fn hold(&mut self, held: Option<(Authority, Leader)>) -> Answers {
        self.authority = held;
        self.refuse(&AppendError::NoAuthority { why: "the authority ended before it was proposed".into() })
    }

    /// Takes nothing any more.
    pub(super) fn close(&mut self) -> Answers {
        self.closed = true;
        self.refuse(&AppendError::Stopped)
    }

    /// Empties the queue: none of it is written.
    fn refuse(&mut self, error: &AppendError) -> Answers {
        self.in_flight -= self.queue.len();
        self.end = self.sent;
        Answers(self.queue.drain(..).map(|waiting| (waiting.pending, Err(error.clone()))).collect())
    }

    /// How often an entry was handed over or settled.
    pub(super) fn moves(&self) -> u64 {
        self.moves
    }

    /// What is told of each entry that is handed over.
    pub(super) fn handed(&self) -> Arc<Notify> {
        Arc::clone(&self.handed)
    }

    /// Takes an append into the queue. `head` gives that of what is committed, `other` says who has the
    /// authority when this node does not.
    pub(super) fn take(
        &mut self,
        expected: EventId,
        batch: Batch,
        head: impl FnOnce() -> EventId,
        other: impl FnOnce() -> String,
    ) -> Result<AppendFuture, AppendError> {
        if self.closed {
            return Err(AppendError::Stopped);
        }
        if self.authority.is_none() {
            return Err(AppendError::NoAuthority { why: other() });
        }
        if let Some(to) = self.handing {
            return Err(AppendError::NoAuthority { why: format!("it is being handed to node {to}") });
        }
        if self.in_flight == 0 {
            self.sent = head();
            self.end = self.sent;
        }
        if expected != self.end {
            return Err(AppendError::HeadMoved { head: self.end });
        }
        if self.in_flight >= limits::BATCHES_IN_FLIGHT {
            return Err(AppendError::Busy { waiting: self.in_flight });
        }
        let (pending, future) = AppendFuture::pending();
        self.in_flight += 1;
        self.end = expected.plus(batch.events.len() as u64);
        self.queue.push_back(Waiting { events: batch.events, pending });
        Ok(future)
    }

    /// What is to be handed over next: as much of the queue as one entry takes.
    fn next(&mut self) -> Option<Next> {
        let (authority, leader) = self.authority?;
        // While another is under way nothing is lost by waiting for as many as were just answered, and the disk
        // takes about as long for one append as for all of them.
        let has_company = self.entries == 0 || self.queue.len() >= self.answered;
        if self.entries >= limits::ENTRIES_IN_FLIGHT || self.queue.is_empty() || !has_company {
            return None;
        }
        let (mut events, mut parts) = (Vec::new(), Vec::new());
        let mut bytes = PROPOSAL + FRAME;
        while let Some(waiting) = self.queue.front() {
            bytes += entry::payload_size(&waiting.events);
            if bytes > limits::BATCH_BYTES && !parts.is_empty() {
                break;
            }
            let Some(waiting) = self.queue.pop_front() else { break };
            parts.push(Part { events: waiting.events.len() as u64, pending: waiting.pending });
            events.extend(waiting.events);
        }
        let payload = entry::proposal(self.sent, authority.epoch, &events);
        self.sent = self.sent.plus(events.len() as u64);
        self.entries += 1;
        self.moves += 1;
        self.handed.notify_one();
        Some(Next { payload, leader, parts })
    }
}

/// Hands over what may be. Never waits, and never holds the gate meanwhile.
pub(super) fn hand_over(gate: &Arc<Mutex<Gate>>, raft: &Raft<Shape, Machine>) {
    loop {
        let next = {
            let mut gate = lock(gate);
            if gate.sending {
                return;
            }
            let Some(next) = gate.next() else { return };
            gate.sending = true;
            next
        };
        let owed = Owed { parts: next.parts, gate: Arc::clone(gate), raft: raft.clone() };
        let call = Call(Box::new(move |result| owed.settle(result)) as Box<dyn FnOnce(_) + Send>);
        let data = Data { code: Kind::Proposal.code(), payload: next.payload };
        // The channel to consensus has room for far more than may be in flight, so this never waits.
        let request = raft.write(data).responder(call).with_leader(next.leader).into_future();
        // Not under tokio's budget for a task: without budget it would wait although there is room.
        match tokio::task::coop::unconstrained(request).now_or_never() {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::error!(%error, "consensus has stopped"),
            None => tracing::error!("consensus took no request"),
        }
        lock(gate).sending = false;
    }
}

/// The answers that an entry owes. Dropped without one, they are *unknown*.
struct Owed {
    parts: Vec<Part>,
    gate: Arc<Mutex<Gate>>,
    raft: Raft<Shape, Machine>,
}

impl Owed {
    fn settle(mut self, result: ClientWriteResult<Shape>) {
        let answer = match result {
            Ok(ClientWriteResponse { data: Applied { last, events: 0 }, .. }) => {
                Err(AppendError::HeadMoved { head: last })
            }
            Ok(ClientWriteResponse { log_id, data: Applied { last, events }, .. }) => {
                Ok((EventId::new(last.get() - events), ours(log_id.index)))
            }
            Err(ClientWriteError::ForwardToLeader(other)) => {
                Err(AppendError::NoAuthority { why: describe(other.leader_id) })
            }
            Err(
                ClientWriteError::LogEntryDiscarded(_)
                | ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_),
            ) => Err(AppendError::Unknown),
        };
        self.answer(answer);
    }

    /// Answers each append in the entry, with the event before it and the entry's index, or why not.
    fn answer(&mut self, answer: Result<(EventId, types::Index), AppendError>) {
        let parts = std::mem::take(&mut self.parts);
        if parts.is_empty() {
            return;
        }
        let behind = {
            let mut gate = lock(&self.gate);
            gate.entries -= 1;
            gate.moves += 1;
            gate.answered = parts.len();
            gate.in_flight -= parts.len();
            match &answer {
                Ok(_) => Answers(Vec::new()),
                Err(AppendError::HeadMoved { head }) => gate.refuse(&AppendError::HeadMoved { head: *head }),
                Err(_) => gate.refuse(&AppendError::NoAuthority {
                    why: "what was appended before it was not written here".into(),
                }),
            }
        };
        let mut answers = Vec::with_capacity(parts.len());
        let mut before = answer.as_ref().map_or(EventId::ZERO, |(before, _)| *before);
        for part in parts {
            let last = before.plus(part.events);
            let appended = answer.clone().map(|(_, index)| Appended { first: before.next(), last, index });
            before = last;
            answers.push((part.pending, appended));
        }
        Answers(answers).give();
        behind.give();
        hand_over(&self.gate, &self.raft);
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.answer(Err(AppendError::Unknown));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Log,
        cluster::{Alone, ClusterLog, Options},
        wal::Wal,
    };
    use rt::{Disk, SimDisk, ThreadSpawner};
    use std::{path::Path, time::Duration};
    use types::{Epoch, Term};

    fn gate(head: u64) -> Gate {
        let leader = Leader { term: 3, node: NodeId::from_u128(1) };
        let authority = Authority { epoch: Epoch::new(2), term: Term::new(3) };
        let head = EventId::new(head);
        Gate { authority: Some((authority, leader)), sent: head, end: head, ..Gate::default() }
    }

    fn take(gate: &mut Gate, expected: u64, sizes: &[usize]) -> Result<AppendFuture, AppendError> {
        let events = sizes.iter().map(|size| Bytes::from(vec![7; *size])).collect();
        let head = gate.sent;
        gate.take(EventId::new(expected), Batch::new(events), || head, String::new)
    }

    #[test]
    fn what_waits_shares_the_next_entry_and_a_large_one_is_divided() {
        let mut gate = gate(10);
        let _one = take(&mut gate, 10, &[100]).expect("is taken");
        let first = gate.next().expect("is handed over at once");
        assert_eq!(first.parts.len(), 1);
        let _two = take(&mut gate, 11, &[100, 100]).expect("is taken");
        let _three = take(&mut gate, 13, &[100]).expect("is taken");
        let second = gate.next().expect("there is room");
        assert_eq!(second.payload[..8], 11_u64.to_le_bytes(), "on the head of its first append");
        assert_eq!(second.parts.iter().map(|part| part.events).collect::<Vec<_>>(), [2, 1]);
        let half = limits::BATCH_BYTES / 2;
        let _four = take(&mut gate, 14, &[half]).expect("is taken");
        let _five = take(&mut gate, 15, &[half]).expect("is taken");
        assert_eq!(gate.next().expect("there is room").parts.len(), 1, "both are more than an entry takes");
        assert_eq!(gate.next().expect("there is room").parts.len(), 1);
        let _six = take(&mut gate, 16, &[1]).expect("is taken");
        assert!(gate.next().is_none(), "{} entries are under way", limits::ENTRIES_IN_FLIGHT);
        assert_eq!(gate.in_flight, 6);
    }

    #[test]
    fn while_an_entry_is_under_way_as_many_as_were_just_answered_are_waited_for() {
        let mut gate = gate(0);
        gate.answered = 3;
        let _one = take(&mut gate, 0, &[1]).expect("is taken");
        assert!(gate.next().is_some(), "nothing is under way");
        let _two = take(&mut gate, 1, &[1]).expect("is taken");
        let _three = take(&mut gate, 2, &[1]).expect("is taken");
        assert!(gate.next().is_none(), "a third is on its way");
        let _four = take(&mut gate, 3, &[1]).expect("is taken");
        assert_eq!(gate.next().expect("all are there").parts.len(), 3);
        let _five = take(&mut gate, 4, &[1]).expect("is taken");
        gate.entries = 0;
        assert_eq!(gate.next().expect("nothing is under way").parts.len(), 1);
    }

    #[test]
    fn what_was_not_handed_over_is_certainly_not_written_when_the_authority_ends() {
        let mut gate = gate(0);
        let sent = take(&mut gate, 0, &[1]).expect("is taken");
        let _sent = gate.next().expect("is handed over");
        let waits = take(&mut gate, 1, &[1]).expect("is taken");
        let held = gate.authority;
        gate.hold(None).give();
        assert!(matches!(waits.wait(), Err(AppendError::NoAuthority { .. })));
        assert_eq!(gate.in_flight, 1, "what is under way is still owed");
        gate.hold(held).give();
        let moved = take(&mut gate, 2, &[1]).map(|_| ());
        assert_eq!(moved, Err(AppendError::HeadMoved { head: EventId::new(1) }));
        let _follows = take(&mut gate, 1, &[1]).expect("follows what is under way");
        drop(sent);
    }

    #[test]
    fn an_append_at_a_consensus_that_has_died_is_answered() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new(1));
        let dir = Path::new("/log");
        Wal::create(&disk, dir, "test", NodeId::from_u128(1)).expect("creates");
        let fatal = Box::new(|_: &rt::DiskError| {});
        let opened = ClusterLog::open(disk, dir, Options::default(), &ThreadSpawner, Arc::new(Alone), fatal);
        let log = opened.expect("opens").0;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            log.authority().wait_for(Option::is_some).await.expect("it leads");
            log.raft().shutdown().await.expect("stops");
            // As if the write had come in the moment before the authority was taken back.
            lock(&log.inner().gate).hold(gate(0).authority).give();
            let head = log.head().event;
            let answer = log.append(head, Batch::new(vec![Bytes::from_static(b"late")]));
            let answer = tokio::time::timeout(Duration::from_secs(10), answer).await;
            assert!(answer.expect("is answered").is_err());
        });
    }
}
