//! What all edges together have acknowledged.
//!
//! An edge counts until it is known to be offline; while it counts and is silent, nothing is
//! acknowledged: a planner that waits too long only waits, one that does not wait cuts connections.

use super::{Observed, fresh};
use crate::{event::NodeHealth, state::State};
use std::collections::BTreeSet;
use types::{Generation, InstanceId, Name, NodeId, Timestamp, limits, plan::NodeRole};

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
        Self { counted }
    }

    /// Whether every edge acts on a plan at least this new.
    pub(super) fn acknowledged(&self, generation: Generation) -> bool {
        self.counted.iter().all(|edge| edge.generation.is_some_and(|has| has >= generation))
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
        self.counted.iter().filter_map(late).collect()
    }
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
