//! Nodes: `enrolled → active ⇄ draining`, each `→ disabled → active`; health is beside it and comes
//! from leases.

use crate::event::NodeHealth;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, net::Ipv6Addr};
use types::{
    ByteSize, EventId, Generation, MilliCpu, Name,
    plan::{Capacity, NodeRole},
};

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Known, not used yet.
    Enrolled,
    /// Used.
    Active,
    /// Nothing new; what is there moves away.
    Draining,
    /// Nothing at all: what is there goes at once, and its edge routes nothing.
    Disabled,
}

/// The legal changes; nothing else ever happens to a node.
pub(super) const TRANSITIONS: &[(NodeState, NodeState)] = &[
    (NodeState::Enrolled, NodeState::Active),
    (NodeState::Active, NodeState::Draining),
    (NodeState::Draining, NodeState::Active),
    (NodeState::Enrolled, NodeState::Disabled),
    (NodeState::Active, NodeState::Disabled),
    (NodeState::Draining, NodeState::Disabled),
    (NodeState::Disabled, NodeState::Active),
];

/// A machine that runs an agent, an edge or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name, one of a kind.
    pub name: Name,
    /// The parts it plays.
    pub roles: BTreeSet<NodeRole>,
    /// What it can give.
    pub capacity: Capacity,
    /// Memory caps placed on it.
    pub used: ByteSize,
    /// Processor shares placed on it.
    pub cpu_used: MilliCpu,
    /// The /64 its instances' addresses come from.
    pub prefix: Ipv6Addr,
    /// Where it is in its life.
    pub state: NodeState,
    /// How well it is known to be.
    pub health: NodeHealth,
    /// The event that last changed its plan.
    pub generation: Generation,
    /// The event that last changed the node itself.
    pub changed: EventId,
    /// Events so far.
    pub sequence: u64,
}

impl Node {
    pub(super) fn go(&mut self, to: NodeState) {
        if TRANSITIONS.contains(&(self.state, to)) {
            self.state = to;
        }
    }

    /// Memory not yet promised to an instance.
    pub const fn free(&self) -> ByteSize {
        ByteSize::from_bytes(self.capacity.memory.bytes().saturating_sub(self.used.bytes()))
    }

    /// Whether new instances may go there, as far as the log knows.
    pub fn takes_instances(&self) -> bool {
        self.state == NodeState::Active
            && self.health == NodeHealth::Reachable
            && self.roles.contains(&NodeRole::Agent)
    }
}
