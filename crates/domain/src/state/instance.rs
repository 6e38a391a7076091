//! Instances.
//!
//! ```text
//!  allocated ─▶ preparing ⇄ booting ⇄ ready ─▶ draining ─▶ stopped ─▶ (collected: gone)
//!      └────────────┴──────────┴────────┴──▶ failed ─▶ draining
//! ```
//! Any of the first four may be told to drain. A draining one that fails goes on draining: it is on its
//! way out already, and what it was is kept in its reason.
//!
//! A crash takes a ready instance back to booting: the agent starts the same instance again. Only
//! what can never run, or was on a lost node, is failed.

use serde::{Deserialize, Serialize};
use std::net::Ipv6Addr;
use types::{
    ByteSize, DeployId, EnvId, EventId, Generation, MilliCpu, Name, NodeId, ReleaseId, Timestamp,
    plan::Reason,
};

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Placed on a node.
    Allocated,
    /// The node fetches and makes its root.
    Preparing,
    /// Its process runs, or is started again, and is not ready.
    Booting,
    /// It answers its probe.
    Ready,
    /// It is to take no new connection; once released, it is stopped.
    Draining,
    /// Its process is gone.
    Stopped,
    /// It can never run.
    Failed,
}

use InstanceState::{Allocated, Booting, Draining, Failed, Preparing, Ready, Stopped};

/// The legal changes; nothing else ever happens to an instance. Staying put is always legal.
pub(super) const TRANSITIONS: &[(InstanceState, InstanceState)] = &[
    (Allocated, Preparing),
    (Allocated, Booting),
    (Preparing, Booting),
    (Booting, Preparing),
    (Booting, Ready),
    (Ready, Booting),
    (Ready, Preparing),
    (Allocated, Draining),
    (Preparing, Draining),
    (Booting, Draining),
    (Ready, Draining),
    (Failed, Draining),
    (Allocated, Failed),
    (Preparing, Failed),
    (Booting, Failed),
    (Ready, Failed),
    (Draining, Stopped),
];

impl InstanceState {
    /// Whether the life cycle lets it go there. Staying put is always legal.
    pub fn may_go(self, to: Self) -> bool {
        self == to || TRANSITIONS.contains(&(self, to))
    }
}

/// One isolated copy of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its environment: the wall.
    pub env: EnvId,
    /// The process it is a copy of.
    pub process: Name,
    /// What it runs.
    pub release: ReleaseId,
    /// The deploy that wanted it.
    pub deploy: DeployId,
    /// Where it runs.
    pub node: NodeId,
    /// Its own address.
    pub address: Ipv6Addr,
    /// The memory it holds on the node.
    pub memory: ByteSize,
    /// The processor share it asks for.
    pub cpu: MilliCpu,
    /// Where it is in its life.
    pub state: InstanceState,
    /// It has been ready at least once.
    pub was_ready: bool,
    /// No edge sends to it any more; it may be stopped.
    pub released: bool,
    /// Why it is not running, or last was not.
    pub reason: Option<(Reason, String)>,
    /// How often its process ended by itself.
    pub restarts: u32,
    /// The agent's count of the last report applied.
    pub report: u64,
    /// When it was placed.
    pub allocated: Timestamp,
    /// When its state last changed.
    pub since: Timestamp,
    /// The event that last changed it.
    pub changed: EventId,
    /// What an edge must have taken over to know about the last change.
    pub routed: Generation,
    /// Events so far.
    pub sequence: u64,
}

impl Instance {
    /// Whether it counts towards the wanted number: it runs or is about to.
    pub const fn is_live(&self) -> bool {
        matches!(self.state, Allocated | Preparing | Booting | Ready)
    }

    /// Whether it still holds memory on its node.
    pub const fn holds_memory(&self) -> bool {
        !matches!(self.state, Stopped)
    }

    /// Whether the life cycle lets it go there.
    pub fn may_go(&self, to: InstanceState) -> bool {
        self.state.may_go(to)
    }
}
