//! The table in effect, and the proof that the ones before it are out of use.
//!
//! A connection that is looking for a backend holds the table it looks in ([`Switch::table`]) until
//! it is spliced, closed or given up. A change swaps the whole table at once; a table that was
//! swapped out lives on for exactly as long as such attempts hold it. So
//!
//! `acked_means_unused`: once [`Switch::acknowledged`] answers G, no connection will be opened to a
//! backend that the plan of G does not have. Connections opened before are in [`Switch::draining`].

use crate::{
    backend::{Tally, Target},
    table::{Count, Lasting, LeftOut, Table},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak,
        atomic::{AtomicU64, Ordering::Acquire, fence},
    },
};
use tokio::{sync::Notify, time::Instant};
use types::{
    Generation, InstanceId, RouteId, limits,
    plan::{Backend, EdgePlan},
};

/// Holds the table in effect and everything that outlives tables.
#[derive(Debug)]
pub struct Switch {
    current: RwLock<Arc<Table>>,
    kept: Mutex<Kept>,
    changed: Arc<Notify>,
    born: Instant,
    /// How often a backend that was well refused a connection.
    pub ejections: AtomicU64,
}

/// What outlives tables.
#[derive(Debug)]
struct Kept {
    changed: Arc<Notify>,
    tallies: BTreeMap<InstanceId, Arc<Tally>>,
    targets: BTreeMap<(InstanceId, SocketAddr), Arc<Target>>,
    counts: BTreeMap<RouteId, Arc<Count>>,
    /// Instances that left the plan, the one that left first at the front.
    retired: Vec<InstanceId>,
    /// Tables that were swapped out and may still be held.
    older: Vec<(Generation, Weak<Table>)>,
}

impl Lasting for Kept {
    fn target(&mut self, backend: &Backend) -> Arc<Target> {
        let tally = self
            .tallies
            .entry(backend.instance)
            .or_insert_with(|| Arc::new(Tally::new(backend.instance, Arc::clone(&self.changed))));
        let place = self.targets.entry((backend.instance, backend.address));
        Arc::clone(place.or_insert_with(|| Arc::new(Target::new(backend.address, Arc::clone(tally)))))
    }

    fn count(&mut self, route: RouteId) -> Arc<Count> {
        Arc::clone(self.counts.entry(route).or_default())
    }
}

impl Kept {
    /// Forgets what the new table does not name, but not at once the counters of instances: they
    /// are shown until [`limits::EDGE_RETIRED`] others have left, and as long as one is open.
    fn forget(&mut self, plan: &EdgePlan, table: &Table) {
        let named: BTreeSet<InstanceId> = table.instances().collect();
        self.counts.retain(|route, _| plan.routes.contains_key(route));
        self.targets.retain(|_, target| Arc::strong_count(target) > 1);
        self.retired.retain(|instance| !named.contains(instance));
        let known: BTreeSet<InstanceId> = self.retired.iter().copied().collect();
        let gone = self.tallies.keys().filter(|id| !named.contains(id) && !known.contains(id));
        self.retired.extend(gone);
        let mut excess = self.retired.len().saturating_sub(limits::EDGE_RETIRED);
        let tallies = &mut self.tallies;
        self.retired.retain(|instance| {
            let idle = tallies.get(instance).is_none_or(|tally| tally.open() == 0);
            let forget = excess > 0 && idle;
            if forget {
                excess -= 1;
                tallies.remove(instance);
            }
            !forget
        });
    }
}

/// The counters of one instance and whether it is in the plan; for metrics.
#[derive(Debug)]
pub struct Shown {
    /// Its counters.
    pub tally: Arc<Tally>,
    /// Addresses of it that are ejected now.
    pub ejected: usize,
}

impl Switch {
    /// An edge without a plan: it routes nothing.
    pub fn new() -> Self {
        let changed = Arc::new(Notify::new());
        Self {
            current: RwLock::new(Arc::new(Table::empty(Arc::clone(&changed)))),
            kept: Mutex::new(Kept {
                changed: Arc::clone(&changed),
                tallies: BTreeMap::new(),
                targets: BTreeMap::new(),
                counts: BTreeMap::new(),
                retired: Vec::new(),
                older: Vec::new(),
            }),
            changed,
            born: Instant::now(),
            ejections: AtomicU64::new(0),
        }
    }

    /// The table in effect. Whoever holds it keeps its generation from being let go of, so it is
    /// held while a backend is looked for and no longer.
    pub fn table(&self) -> Arc<Table> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts a plan in effect for every connection that looks for its backend from now on.
    ///
    /// # Panics
    /// If the plan is older than the one in effect: the caller checks, this is the safety net of
    /// `generation_never_falls`.
    pub fn change(&self, plan: &EdgePlan) -> Vec<LeftOut> {
        let mut kept = self.kept();
        let table = Arc::new(Table::build(plan, &mut *kept, Arc::clone(&self.changed)));
        let left_out = table.left_out.clone();
        let before = {
            let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
            assert!(plan.generation >= current.generation, "generation_never_falls");
            std::mem::replace(&mut *current, Arc::clone(&table))
        };
        kept.older.retain(|(_, table)| table.strong_count() > 0);
        kept.older.push((before.generation, Arc::downgrade(&before)));
        drop(before);
        kept.forget(plan, &table);
        drop(kept);
        self.changed.notify_one();
        left_out
    }

    /// The newest generation such that no attempt works from an older table any more.
    pub fn acknowledged(&self) -> Generation {
        let mut kept = self.kept();
        kept.older.retain(|(_, table)| table.strong_count() > 0);
        // Pairs with the release by which the last holder let go: what that attempt counted as open
        // is seen by whoever asks for `draining` after this.
        fence(Acquire);
        let held = kept.older.iter().map(|(generation, _)| *generation).min();
        // Still under the lock: a change between would let the newer one pass unproven.
        held.unwrap_or_else(|| self.generation())
    }

    /// The generation in effect for new connections.
    pub fn generation(&self) -> Generation {
        self.table().generation
    }

    /// Instances that connections are open to and that the plan in effect does not have.
    pub fn draining(&self) -> Vec<InstanceId> {
        let kept = self.kept();
        let open = |id: &&InstanceId| kept.tallies.get(id).is_some_and(|tally| tally.open() > 0);
        let mut draining: Vec<_> = kept.retired.iter().filter(open).copied().collect();
        draining.sort_unstable();
        draining
    }

    /// Waits until something that a lease says may have changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Milliseconds since the switch was made; never 0. The clock of ejection.
    pub fn now_ms(&self) -> u64 {
        self.born.elapsed().as_millis() as u64 + 1
    }

    /// Every instance with its counters, in the order of their ids.
    pub fn shown(&self) -> Vec<Shown> {
        let kept = self.kept();
        let mut shown: BTreeMap<InstanceId, Shown> = kept
            .tallies
            .iter()
            .map(|(id, tally)| (*id, Shown { tally: Arc::clone(tally), ejected: 0 }))
            .collect();
        for target in kept.targets.values().filter(|target| target.is_ejected()) {
            if let Some(shown) = shown.get_mut(&target.tally.instance) {
                shown.ejected += 1;
            }
        }
        shown.into_values().collect()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "switch_tests.rs"]
mod tests;
