//! What the world outside was told by a cluster: who claimed to decide, every event that any member
//! gave to a reader, and every call with its answer.

use crate::{
    Violation,
    invariants::{append_only, gapless_order, one_authority},
};
use control::{Answer, Proposal};
use log::{Authority, Head, Record, cluster::Promotion};
use rt::Process;
use std::collections::BTreeMap;
use types::{Epoch, EventId, NodeId, Term};

/// One call of a client, of the many that may carry the same request.
#[derive(Clone, Debug)]
pub struct Call {
    /// What was asked.
    pub proposal: Proposal,
    /// The last event that anyone had been told of when it began.
    pub floor: EventId,
    /// The last epoch of a promotion that was known to have succeeded when it began.
    pub epoch: Epoch,
    /// What was answered; none if nothing was heard.
    pub answer: Option<Answer>,
}

/// Who said to have authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The node.
    pub node: NodeId,
    /// In which of its lives.
    pub process: Process,
    /// The term it led.
    pub term: Term,
}

/// A promotion that was asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which node was to sequence.
    pub node: NodeId,
    /// What the entry that opens its epoch is to say.
    pub why: String,
    /// What it said; none if nothing was heard, or if it was to be handed the lead.
    pub result: Option<Promotion>,
}

/// Everything that was ever told to anyone. See the top of this file.
#[derive(Debug, Default)]
pub struct Told {
    /// Every event that any member has shown to a reader, in order.
    pub read: Vec<Record>,
    /// The last event that was acknowledged or read with the promise to be the latest.
    pub floor: EventId,
    /// The epoch of the last promotion that succeeded.
    pub promoted: Epoch,
    /// All calls.
    pub calls: Vec<Call>,
    /// Who claimed which epoch.
    pub claims: BTreeMap<Epoch, Claim>,
    /// Who led each term in which somebody could decide, and in which of its lives.
    pub terms: BTreeMap<Term, (NodeId, Process)>,
    /// A node that an operator had fenced, and in which epoch, once that is durable.
    pub fence: Option<(NodeId, Option<Epoch>)>,
    /// Promotions, in the order in which they were asked for.
    pub promotions: Vec<Asked>,
    /// Removals of members that an operator confirmed: of whom, and in which words.
    pub removals: BTreeMap<String, NodeId>,
    /// Whom the log of a lost cluster was given to.
    pub recovered: Option<NodeId>,
}

impl Told {
    /// Somebody wants this node to sequence. Gives its place, and the words for the entry.
    pub fn wanted(&mut self, node: NodeId) -> (usize, String) {
        let place = self.promotions.len();
        let why = format!("an operator asked, number {place}");
        self.promotions.push(Asked { node, why: why.clone(), result: None });
        (place, why)
    }

    /// What is still true when the majority is lost and this node goes on with what one of the others had:
    /// everything up to `kept`; nothing of what came later, also of authority, is certain.
    #[must_use]
    pub fn recovered(&self, node: NodeId, kept: Head) -> Self {
        let forget = |asked: &Asked| match asked.result {
            Some(Promotion::Succeeded(epoch)) if epoch > kept.epoch => {
                Asked { result: None, ..asked.clone() }
            }
            _ => asked.clone(),
        };
        // What was answered with something that is lost may have happened or not.
        let calls = self.calls.iter().cloned().map(|call| match call.answer {
            Some(Answer::Executed { event, .. } | Answer::Refused { event: Some(event), .. })
                if event > kept.event =>
            {
                Call { answer: None, ..call }
            }
            _ => call,
        });
        Self {
            calls: calls.collect(),
            read: self.read.iter().take(kept.event.get() as usize).cloned().collect(),
            floor: self.floor.min(kept.event),
            promoted: self.promoted.min(kept.epoch),
            promotions: self.promotions.iter().map(forget).collect(),
            removals: self.removals.clone(),
            recovered: Some(node),
            ..Self::default()
        }
    }

    /// A call begins; gives its place.
    pub fn called(&mut self, proposal: Proposal) -> usize {
        let call = Call { proposal, floor: self.floor, epoch: self.promoted, answer: None };
        self.calls.push(call);
        self.calls.len() - 1
    }

    /// A call is answered.
    pub fn answered(&mut self, call: usize, answer: Answer) {
        let event = match &answer {
            Answer::Executed { event, .. } => Some(*event),
            Answer::Refused { event, .. } => *event,
            Answer::Unavailable { .. } | Answer::Unknown { .. } => None,
        };
        self.floor = self.floor.max(event.unwrap_or(EventId::ZERO));
        self.calls[call].answer = Some(answer);
    }

    /// A node says that it may decide.
    ///
    /// # Errors
    /// Another node, or another life of this one, has said so of the same epoch.
    pub fn claimed(&mut self, node: NodeId, process: Process, held: Authority) -> Result<(), Violation> {
        let claim = Claim { node, process, term: held.term };
        let known = *self.claims.entry(held.epoch).or_insert(claim);
        if known != claim {
            let what = format!("epoch {} was claimed by {known:?}, and now by {claim:?}", held.epoch);
            return Err(Violation::new(one_authority::NAME, what));
        }
        if let Some((fenced, Some(at))) = self.fence
            && fenced == node
            && held.epoch == at.plus(1)
        {
            let what = format!("{node} was fenced in epoch {at} and sequences in {}", held.epoch);
            return Err(Violation::new(one_authority::NAME, what));
        }
        // One leader in each term; and one that has started anew must be elected anew.
        let led = *self.terms.entry(held.term).or_insert((node, process));
        if led != (node, process) {
            let what = format!("term {} was led by {led:?}, and now by {:?}", held.term, (node, process));
            return Err(Violation::new(one_authority::NAME, what));
        }
        Ok(())
    }

    /// A member gave these to a reader, who had read everything before them.
    ///
    /// # Errors
    /// Another reader has seen something else there.
    pub fn saw(&mut self, node: NodeId, records: &[Record]) -> Result<(), Violation> {
        for record in records {
            let place = record.id.get() as usize;
            match self.read.get(place.wrapping_sub(1)) {
                Some(known) if known == record => {}
                Some(known) => {
                    let what = format!("event {place} was {known:?}, and {node} gives {record:?}");
                    return Err(Violation::new(append_only::NAME, what));
                }
                None if place == self.read.len() + 1 => self.read.push(record.clone()),
                None => {
                    let what = format!("{node} gives event {place} where {} follows", self.read.len() + 1);
                    return Err(Violation::new(gapless_order::NAME, what));
                }
            }
        }
        Ok(())
    }
}
