//! What all edges together have acknowledged.
//!
//! An edge counts until it is known to be offline; while it counts and is silent, nothing is
//! acknowledged: a planner that waits too long only waits, one that does not wait cuts connections.
//!
//! When most edges are offline at once, it is as likely that this observer is cut off, and that they
//! live and serve the plan they have stored. Then nothing is acknowledged at all, however long it
//! takes, until they are heard of or an operator drains those that are gone for good.

use super::{Observed, fresh};
use crate::{
    event::NodeHealth,
    state::{NodeState, State},
};
use std::collections::BTreeSet;
use types::{Generation, InstanceId, Name, NodeId, Timestamp, limits, plan::NodeRole};

/// Whether every edge that has a say acts on a plan at least this new.
pub fn let_go(state: &State, observed: &Observed, now: Timestamp, generation: Generation) -> bool {
    Edges::new(state, observed, now).acknowledged(generation)
}

/// One edge that has a say.
struct Edge {
    name: Name,
    /// The plan it acts on; `None` while it is silent.
    generation: Option<Generation>,
    draining: BTreeSet<InstanceId>,
}

/// Every edge that has a say.
pub(super) struct Edges {
    counted: Vec<Edge>,
    /// Most are offline at once; how that is told.
    suspicion: Option<String>,
}

impl Edges {
    pub(super) fn new(state: &State, observed: &Observed, now: Timestamp) -> Self {
        let counted = edge_nodes(state, observed)
            .filter(|(_, _, last)| now < last.plus(limits::LEASE_OFFLINE))
            .map(|(id, name, _)| {
                let seen = observed.edge(id).filter(|seen| fresh(Some(seen), now));
                Edge {
                    name: name.clone(),
                    generation: seen.map(|seen| seen.generation),
                    draining: seen.map(|seen| seen.draining.clone()).unwrap_or_default(),
                }
            })
            .collect();
        Self { counted, suspicion: suspicion(state, observed, now) }
    }

    /// Whether so many edges are offline that what they serve cannot be told.
    pub(super) const fn is_suspicious(&self) -> bool {
        self.suspicion.is_some()
    }

    /// Whether every edge acts on a plan at least this new.
    pub(super) fn acknowledged(&self, generation: Generation) -> bool {
        self.suspicion.is_none()
            && self.counted.iter().all(|edge| edge.generation.is_some_and(|has| has >= generation))
    }

    /// Whether an edge still has connections open to an instance that left the plan.
    pub(super) fn holds(&self, instance: InstanceId) -> bool {
        self.counted.iter().any(|edge| edge.draining.contains(&instance))
    }

    /// The edges that have not acknowledged, in words; empty when all have.
    pub(super) fn behind(&self, generation: Generation) -> Vec<String> {
        let late = |edge: &Edge| match edge.generation {
            None => Some(format!("edge {} is silent", edge.name)),
            Some(has) if has < generation => {
                Some(format!("edge {} has plan {has} and {generation} is wanted", edge.name))
            }
            Some(_) => None,
        };
        self.suspicion.iter().cloned().chain(self.counted.iter().filter_map(late)).collect()
    }
}

/// Why no edge's silence is taken for a death: too many of those that are to route are silent. Nodes
/// that are being drained are not asked for, so draining the dead is how an operator says they are.
fn suspicion(state: &State, observed: &Observed, now: Timestamp) -> Option<String> {
    let active = |id: &NodeId| state.nodes.get(id).is_some_and(|node| node.state == NodeState::Active);
    let is_edge = |id: &NodeId| state.nodes.get(id).is_some_and(|node| node.roles.contains(&NodeRole::Edge));
    let all = state.nodes.keys().filter(|id| active(id) && is_edge(id)).count();
    let heard = edge_nodes(state, observed)
        .filter(|(id, _, last)| active(id) && now < last.plus(limits::LEASE_OFFLINE))
        .count();
    let silent = all - heard;
    (heard * 2 < all).then(|| {
        format!(
            "{silent} of {all} edges are offline at once and may still serve: nothing is taken from them until they are heard of or drained (holdfast nodes drain NODE)"
        )
    })
}

/// Edge nodes not known to be offline, with when each was last heard of.
pub(super) fn edge_nodes<'a>(
    state: &'a State,
    observed: &'a Observed,
) -> impl Iterator<Item = (NodeId, &'a Name, Timestamp)> {
    state
        .nodes
        .iter()
        .filter(|(_, node)| node.roles.contains(&NodeRole::Edge) && node.health == NodeHealth::Reachable)
        .map(|(id, node)| (*id, &node.name, observed.last(observed.edge(*id))))
}
