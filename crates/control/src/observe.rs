//! What nodes say about themselves: leases and acknowledgements. Kept in memory only; after a
//! restart nothing has been seen, which is not the same as nothing being there
//! (`partial_view_removes_nothing`).

use domain::plan::{NodeSeen, Observed, RoleSeen};
use std::sync::Mutex;
use types::{
    NodeId, Timestamp,
    plan::{Lease, NodeRole},
};

/// The newest lease of every node and role.
#[derive(Debug)]
pub struct Observations {
    seen: Mutex<Observed>,
    changed: tokio::sync::watch::Sender<u64>,
}

impl Observations {
    /// Nothing seen yet; observing since `now`.
    pub fn new(now: Timestamp) -> Self {
        let seen = Mutex::new(Observed { since: now, nodes: Default::default() });
        Self { seen, changed: tokio::sync::watch::Sender::new(0) }
    }

    /// Notes a lease. Reconcilers are woken only if it says something new.
    pub fn renew(&self, node: NodeId, lease: &Lease, now: Timestamp) {
        let fresh = RoleSeen {
            last: now,
            generation: lease.generation,
            pressure: lease.pressure,
            running: lease.running.iter().copied().collect(),
            draining: lease.draining.iter().copied().collect(),
        };
        let news = {
            let mut seen = self.seen.lock().expect("no thread panics while it holds this");
            let slot: &mut NodeSeen = seen.nodes.entry(node).or_default();
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

    /// All of it, as planners read it.
    pub fn snapshot(&self) -> Observed {
        self.seen.lock().expect("no thread panics while it holds this").clone()
    }

    /// Moves on whenever something new was said.
    pub fn changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
