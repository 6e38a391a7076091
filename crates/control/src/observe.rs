//! What nodes say about themselves: leases and acknowledgements. Kept in memory only; after a
//! restart nothing has been seen, which is not the same as nothing being there
//! (`partial_view_removes_nothing`).
//!
//! A node that once named a plan newer than the log is ahead of it for as long as this process
//! lives: the log grows past that number, and what it then calls by it is another plan.

use domain::plan::{NodeSeen, Observed, RoleSeen};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard},
};
use types::{
    EventId, Generation, NodeId, Timestamp,
    plan::{Lease, NodeRole},
};

/// The newest lease of every node and role.
#[derive(Debug)]
pub struct Observations {
    said: Mutex<Said>,
    changed: tokio::sync::watch::Sender<u64>,
}

#[derive(Debug)]
struct Said {
    seen: Observed,
    /// Who has named the plan it holds.
    heard: BTreeSet<(NodeId, NodeRole)>,
    /// Nodes that hold a plan this log never made: the plan, and where the log ended then.
    ahead: BTreeMap<NodeId, (Generation, EventId)>,
}

impl Said {
    /// Notes the plan that a role of a node holds.
    fn hear(&mut self, node: NodeId, role: NodeRole, held: Generation, head: EventId) {
        self.heard.insert((node, role));
        if held.get() > head.get() && !self.ahead.contains_key(&node) {
            tracing::error!(%node, %held, %head, "a node acts on a plan newer than this log");
            self.ahead.insert(node, (held, head));
            // What it said it acted on before were plans of that other log as well.
            let seen = self.seen.nodes.get_mut(&node).into_iter();
            for role in seen.flat_map(|seen| [&mut seen.agent, &mut seen.edge]).flatten() {
                role.generation = Generation::ZERO;
            }
        }
    }
}

impl Observations {
    /// Nothing seen yet; observing since `now`.
    pub fn new(now: Timestamp) -> Self {
        let seen = Observed { since: now, nodes: Default::default() };
        let said = Mutex::new(Said { seen, heard: BTreeSet::new(), ahead: BTreeMap::new() });
        Self { said, changed: tokio::sync::watch::Sender::new(0) }
    }

    /// Forgets the leases, for they were renewed elsewhere meanwhile; observing since `now`. What is
    /// known of plans that this log never made stays.
    pub fn begin_anew(&self, now: Timestamp) {
        self.lock().seen = Observed { since: now, nodes: Default::default() };
        self.changed.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().expect("no thread panics while it holds this")
    }

    /// Notes which plan a role of a node holds, while the log ends at `head`.
    pub fn hear(&self, node: NodeId, role: NodeRole, held: Generation, head: EventId) {
        self.lock().hear(node, role, held, head);
    }

    /// Notes a lease, while the log ends at `head`. Reconcilers are woken only if it says something
    /// new.
    pub fn renew(&self, node: NodeId, lease: &Lease, now: Timestamp, head: EventId) {
        let news = {
            let mut said = self.lock();
            said.hear(node, lease.role, lease.generation, head);
            // A plan of another log acknowledges nothing of this one.
            let generation = match said.ahead.contains_key(&node) {
                true => Generation::ZERO,
                false => lease.generation,
            };
            let fresh = RoleSeen {
                last: now,
                generation,
                pressure: lease.pressure,
                running: lease.running.iter().copied().collect(),
                draining: lease.draining.iter().copied().collect(),
            };
            let slot: &mut NodeSeen = said.seen.nodes.entry(node).or_default();
            let slot = match lease.role {
                NodeRole::Agent => &mut slot.agent,
                NodeRole::Edge => &mut slot.edge,
            };
            let news = slot.as_ref().is_none_or(|old| RoleSeen { last: old.last, ..fresh.clone() } != *old);
            *slot = Some(fresh);
            news
        };
        if news {
            self.changed.send_modify(|count| *count += 1);
        }
    }

    /// Whether a role of a node has said which plan it holds since this process began.
    pub fn has_heard(&self, node: NodeId, role: NodeRole) -> bool {
        self.lock().heard.contains(&(node, role))
    }

    /// The plan that this log never made and the node acts on, and where the log ended when the
    /// node said so.
    pub fn ahead(&self, node: NodeId) -> Option<(Generation, EventId)> {
        self.lock().ahead.get(&node).copied()
    }

    /// All of it, as planners read it.
    pub fn snapshot(&self) -> Observed {
        self.lock().seen.clone()
    }

    /// Moves on whenever something new was said.
    pub fn changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
