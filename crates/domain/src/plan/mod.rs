//! Planners: what is still missing, as commands.
//!
//! Each planner looks at the state (what the log says) and at [`Observed`] (what servers know
//! beside it) and returns [`Step`]s. A step is a command like any other: it is decided again,
//! against the state it meets, so a planner that was late does no harm. When nothing is missing
//! nothing is returned, so a planner may be run at any time and any number of times.
//!
//! Invariants:
//! - `partial_view_removes_nothing`: an edge that has not been heard of acknowledges nothing, and a
//!   node that has not been heard of is not lost before its lease would have run out in front of
//!   this very observer.
//! - of a process, and of what a route leads to, what is available never falls below the least of what
//!   is wanted and what was available, by anything a planner does; what somebody confirmed that it has
//!   to go (a node disabled, an environment deleted) excepted. What it wants drained is decided
//!   again by what is ready then; what edges have acknowledged is the planner's knowledge alone.
//! - bounded: one pass returns at most [`limits::PLAN_STEPS`] steps.

mod edges;
mod explain;
mod liveness;
pub mod placement;
mod publishing;
mod rollout;
mod survey;

pub use edges::let_go;
pub use explain::{Line, explain, way_back};
pub use liveness::{garbage, liveness, suspicion};
pub use publishing::publishing;
pub use rollout::{next_wake, rollout};

use crate::command::Command;
use std::collections::{BTreeMap, BTreeSet};
use types::{DurationMs, EventId, Generation, InstanceId, NodeId, Timestamp, limits, plan::Reason};

/// What servers know beside the log: leases and acknowledgements. Not events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// When this server began to observe.
    pub since: Timestamp,
    /// Every node it has heard of since.
    pub nodes: BTreeMap<NodeId, NodeSeen>,
}

/// What was heard of one node, by role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSeen {
    /// From its agent.
    pub agent: Option<RoleSeen>,
    /// From its edge.
    pub edge: Option<RoleSeen>,
    /// Why nothing is pushed to it: it holds a plan that this log never made.
    pub apart: Option<String>,
}

/// The newest lease of one role of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleSeen {
    /// When it came.
    pub last: Timestamp,
    /// The plan it has stored and acts on.
    pub generation: Generation,
    /// What is short, if anything is.
    pub pressure: Option<Reason>,
    /// What runs there.
    pub running: BTreeSet<InstanceId>,
    /// What connections are still open to though the plan has left it out.
    pub draining: BTreeSet<InstanceId>,
}

/// One command a planner wants, the event that made it want it, and why in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What to do.
    pub command: Command,
    /// The event that caused it.
    pub cause: EventId,
    /// Why, for the log and for people.
    pub why: String,
}

impl Observed {
    fn agent(&self, node: NodeId) -> Option<&RoleSeen> {
        self.nodes.get(&node)?.agent.as_ref()
    }

    fn edge(&self, node: NodeId) -> Option<&RoleSeen> {
        self.nodes.get(&node)?.edge.as_ref()
    }

    /// When a role was last heard of; never later than now, never before this observer began.
    fn last(&self, role: Option<&RoleSeen>) -> Timestamp {
        role.map_or(self.since, |seen| seen.last.max(self.since))
    }
}

/// Whether a lease is recent enough to believe.
fn fresh(role: Option<&RoleSeen>, now: Timestamp) -> bool {
    role.is_some_and(|seen| now < seen.last.plus(limits::LEASE_SUSPECT))
}

/// How long to wait before a replacement is placed after `failures` failures in a row: doubles from
/// [`limits::RESTART_BACKOFF_MIN`] to [`limits::RESTART_BACKOFF_MAX`].
pub const fn backoff(failures: u32) -> DurationMs {
    if failures == 0 {
        return DurationMs::from_ms(0);
    }
    let doublings = if failures > 32 { 31 } else { failures - 1 };
    let wait = limits::RESTART_BACKOFF_MIN.as_ms() << doublings;
    let most = limits::RESTART_BACKOFF_MAX.as_ms();
    DurationMs::from_ms(if wait > most { most } else { wait })
}
