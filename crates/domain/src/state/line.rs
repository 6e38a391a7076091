//! The line of history that plans are made from: how its generations are counted, and what it has
//! adopted of others.
//!
//! Invariants:
//! - a generation is its event's number, and further ahead by as much as the last adoption lifted it:
//!   above every plan that was adopted. So generations of one log never fall and never meet, and for a
//!   node that comes over from another log they never fall either.
//! - a plan is of this log if its event is here and was written in the epoch that its name says.

use super::{InstanceState, State};
use crate::event::Envelope;
use imbl::{OrdMap, Vector};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc};
use types::{
    Epoch, EventId, Generation, InstanceId,
    history::{Adoption, Held},
    limits,
};

/// How far another history was taken over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Taken {
    /// The identity of its log.
    pub cluster: String,
    /// The furthest plan of it that any node held.
    pub generation: Generation,
    /// The epoch of that plan, for people.
    pub epoch: Epoch,
}

/// The epochs and adoptions of this log.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Every epoch that has events, by its first.
    epochs: OrdMap<EventId, Epoch>,
    /// Every adoption, with its generation.
    adoptions: OrdMap<EventId, Generation>,
    /// The furthest of each log that was adopted, the last adopted last.
    taken: Vector<Taken>,
}

/// How a plan that a node holds stands to this log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This log made it, or there is none.
    Own,
    /// It is of a history that this log has adopted: the newest plan takes its place.
    Adopted,
    /// This log never made it.
    Apart(Apart),
}

/// Why a plan is none of this log's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apart {
    /// Another log made it.
    OtherLog,
    /// It is newer than this log.
    Ahead,
    /// Its number is of another epoch here: the log lost what it reflects, and has grown since.
    Branch,
}

impl Line {
    pub(super) fn note_epoch(&mut self, envelope: &Envelope) {
        if self.epochs.get_max().is_none_or(|(_, epoch)| *epoch != envelope.epoch) {
            self.epochs.insert(envelope.id, envelope.epoch);
        }
    }

    /// Notes an adoption and gives its generation.
    fn adopt(&mut self, event: EventId, taken: &[Taken]) -> Generation {
        let highest = taken.iter().map(|each| each.generation.next()).max().unwrap_or_default();
        let since = self.generation_of(event).max(highest);
        self.adoptions.insert(event, since);
        for each in taken {
            let before = self.taken.iter().position(|old| old.cluster == each.cluster);
            let before = before.map(|at| self.taken.remove(at));
            let upto = before.map_or(each.generation, |old| old.generation.max(each.generation));
            self.taken.push_back(Taken { generation: upto, ..each.clone() });
        }
        while self.taken.len() > limits::ADOPTED_LOGS {
            self.taken.pop_front();
        }
        since
    }

    fn generation_of(&self, event: EventId) -> Generation {
        let last = self.adoptions.get_prev(&event);
        let lift = last.map_or(0, |(event, since)| since.get() - event.get());
        Generation::new(event.get() + lift)
    }

    fn event_of(&self, generation: Generation) -> Option<EventId> {
        let last = self.adoptions.iter().rev().find(|(_, since)| **since <= generation);
        let (lift, end) = match last {
            None => (0, self.adoptions.get_min().map(|(event, _)| *event)),
            Some((event, since)) => {
                let next = self.adoptions.get_next(&event.next()).map(|(event, _)| *event);
                (since.get() - event.get(), next)
            }
        };
        let event = EventId::new(generation.get() - lift);
        end.is_none_or(|end| event < end).then_some(event)
    }
}

impl State {
    /// The generation of a plan that this event changed last.
    pub fn generation_of(&self, event: EventId) -> Generation {
        self.line.generation_of(event)
    }

    /// The event of a generation of this log; none if it counted past that number.
    pub fn event_of(&self, generation: Generation) -> Option<EventId> {
        self.line.event_of(generation)
    }

    /// The epoch that an event was written in; zero before the first.
    pub fn epoch_of(&self, event: EventId) -> Epoch {
        self.line.epochs.get_prev(&event).map_or(Epoch::ZERO, |(_, epoch)| *epoch)
    }

    /// What has been adopted, as plans say it.
    pub fn adoption(&self) -> Option<Adoption> {
        let (event, since) = self.line.adoptions.get_max()?;
        let of = self.line.taken.iter().map(|each| (each.cluster.clone(), each.generation)).collect();
        Some(Adoption { event: *event, since: *since, of })
    }

    /// No plan of before the last adoption has a generation as high as this.
    pub fn line_since(&self) -> Generation {
        self.line.adoptions.get_max().map_or(Generation::ZERO, |(_, since)| *since)
    }

    /// Whether a plan that the log of this identity never made was taken over by it.
    pub fn has_adopted(&self, identity: &str, held: &Held) -> bool {
        let of = if held.cluster.is_empty() { identity } else { &held.cluster };
        let found = self.line.taken.iter().find(|each| each.cluster == of);
        found.is_some_and(|each| held.generation <= each.generation)
    }

    /// How a plan stands to the log of this identity, of which this is the state.
    pub fn standing(&self, identity: &str, held: &Held) -> Standing {
        let is_own = held.cluster.is_empty() || held.cluster == identity;
        if is_own {
            let event = self.event_of(held.generation).filter(|event| *event <= self.head);
            let same = |event: &EventId| held.epoch == Epoch::ZERO || self.epoch_of(*event) == held.epoch;
            if held.generation == Generation::ZERO || event.filter(same).is_some() {
                return Standing::Own;
            }
        }
        if self.has_adopted(identity, held) {
            return Standing::Adopted;
        }
        Standing::Apart(match is_own {
            false => Apart::OtherLog,
            true if held.generation > self.generation_of(self.head) => Apart::Ahead,
            true => Apart::Branch,
        })
    }

    /// What nodes hold was adopted: every plan is new and above theirs, and what instances are is told
    /// by their agents afresh. `absent` were ready here and do not run.
    pub(super) fn apply_adopted(&mut self, envelope: &Envelope, taken: &[Taken], absent: &[InstanceId]) {
        let since = self.line.adopt(envelope.id, taken);
        self.cluster_sequence = envelope.sequence;
        let nodes: Vec<_> = self.nodes.keys().copied().collect();
        for id in nodes {
            if let Some(node) = self.nodes.get_mut(&id) {
                Arc::make_mut(node).generation = since;
            }
        }
        self.edge_generation = since;
        let absent: BTreeSet<InstanceId> = absent.iter().copied().collect();
        let instances: Vec<InstanceId> = self.instances.keys().copied().collect();
        for id in instances {
            let Some(instance) = self.instances.get_mut(&id).map(Arc::make_mut) else { continue };
            // Agents have forgotten what the other history had confirmed, and count on from there.
            instance.report = 0;
            let is_doubtful = match instance.state {
                InstanceState::Allocated | InstanceState::Preparing => true,
                InstanceState::Ready => absent.contains(&id),
                _ => false,
            };
            if is_doubtful {
                self.step_instance(envelope, id, InstanceState::Booting);
            }
        }
    }
}
