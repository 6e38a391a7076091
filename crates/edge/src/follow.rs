//! Follows the control plane: takes plans, and says with leases what is in effect.
//!
//! Order of a new plan: stored, then switched to, then its ports opened and closed, then (by the
//! lease, once nothing works from an older table) acknowledged. A plan that cannot be stored is not
//! acted on; the stream is opened again and it comes again.

use crate::{
    connection::Entry,
    edge::Shared,
    link::{ControlLink, LinkError, Plans},
    listen,
    store::{Accepted, PlanStore, Refused},
};
use futures_util::StreamExt;
use rt::{OsRandom, Random};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use types::{
    limits,
    plan::{EdgePlan, Lease, NodeRole},
};

/// Leases in a row that were answered with a newer generation than the one held, after which the
/// stream is taken for dead though it looks open.
const LAGGING_LEASES: u32 = 3;

/// Holds the plan and the listeners that it asks for.
pub struct Follower {
    shared: Arc<Shared>,
    store: Option<PlanStore>,
    /// The raw ports listened on, each with what ends its listener.
    ports: BTreeMap<u16, CancellationToken>,
    /// Ends all accepting.
    accepting: CancellationToken,
}

impl Follower {
    /// A follower that already acts on the plan of the store.
    pub fn new(shared: Arc<Shared>, store: PlanStore, accepting: CancellationToken) -> Self {
        let held = store.held().cloned();
        let follower = Self { shared, store: Some(store), ports: BTreeMap::new(), accepting };
        if let Some(plan) = held {
            follower.act_on(&plan);
        }
        follower
    }

    /// Opens the ports of the plan in effect.
    pub fn open_ports(&mut self) {
        let wanted: BTreeSet<u16> = self.shared.switch.table().ports().collect();
        self.ports.retain(|port, stop| {
            let keep = wanted.contains(port);
            if !keep {
                stop.cancel();
            }
            keep
        });
        for port in wanted {
            let (shared, accepting) = (&self.shared, &self.accepting);
            self.ports.entry(port).or_insert_with(|| {
                let stop = accepting.child_token();
                shared.acceptors.spawn(listen_on(Arc::clone(shared), port, stop.clone()));
                stop
            });
        }
    }

    /// Takes plans until `stop`.
    pub async fn run(mut self, link: Arc<dyn ControlLink>, reopen: Arc<Notify>, stop: CancellationToken) {
        let mut backoff = Backoff::new();
        loop {
            let begun = Instant::now();
            let lost = tokio::select! {
                () = stop.cancelled() => return,
                lost = self.follow(&*link, &reopen, &mut backoff) => lost,
            };
            if begun.elapsed() >= Duration::from(limits::EDGE_RETRY_MAX) {
                // It was a stream that lasted: losing it is news.
                backoff.reset();
            }
            match lost {
                Lost::Link(error) if backoff.is_first() => {
                    tracing::warn!(
                        error = chain(&error),
                        "no plans from the control plane; serving the plan held"
                    );
                }
                Lost::Link(_) | Lost::Ended => {}
                Lost::Refused(refused) => {
                    self.shared.meter.plans_refused.fetch_add(1, Relaxed);
                    tracing::error!(error = chain(&refused), "a plan was refused; serving the plan held");
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = backoff.wait() => {}
            }
        }
    }

    /// One stream of plans, to its end.
    async fn follow(&mut self, link: &dyn ControlLink, reopen: &Notify, backoff: &mut Backoff) -> Lost {
        let held = self.store().name();
        let mut plans: Plans = match link.plans(held).await {
            Ok(plans) => plans,
            Err(error) => return Lost::Link(error),
        };
        loop {
            let plan = tokio::select! {
                plan = plans.next() => plan,
                () = reopen.notified() => return Lost::Ended,
            };
            match plan {
                None => return Lost::Ended,
                Some(Err(error)) => return Lost::Link(error),
                Some(Ok(plan)) => match self.take(plan).await {
                    Ok(()) => backoff.reset(),
                    Err(refused) => return Lost::Refused(refused),
                },
            }
        }
    }

    /// Stores a plan, then acts on it.
    async fn take(&mut self, plan: EdgePlan) -> Result<(), Refused> {
        let mut store = self.store.take().expect("put back by whoever took it");
        // Should this future be dropped here, the edge is stopping and no plan is taken again.
        let work = tokio::task::spawn_blocking(move || {
            let accepted = store.accept(plan);
            (store, accepted)
        });
        let (store, accepted) = work.await.expect("storing a plan does not panic");
        self.store = Some(store);
        if let Accepted::New(plan) = accepted? {
            self.act_on(&plan);
            self.open_ports();
        }
        Ok(())
    }

    fn act_on(&self, plan: &EdgePlan) {
        let left_out = self.shared.switch.change(plan);
        for part in &left_out {
            tracing::error!(generation = %plan.generation, "left out of the plan: {part}");
        }
        self.shared.meter.left_out.store(left_out.len() as u64, Relaxed);
        self.shared.meter.plans.fetch_add(1, Relaxed);
        tracing::info!(generation = %plan.generation, routes = plan.routes.len(), "plan in effect");
    }

    fn store(&self) -> &PlanStore {
        self.store.as_ref().expect("put back by whoever took it")
    }
}

/// Why a stream of plans is over.
enum Lost {
    Ended,
    Link(LinkError),
    Refused(Refused),
}

async fn listen_on(shared: Arc<Shared>, port: u16, stop: CancellationToken) {
    let address = SocketAddr::new(shared.listen_tcp_address, port);
    shared.meter.ports_waiting.fetch_add(1, Relaxed);
    let listener = listen::bind_patiently(address, &stop).await;
    shared.meter.ports_waiting.fetch_sub(1, Relaxed);
    if let Some(listener) = listener {
        listen::accept(shared, listener, Entry::Tcp(port), stop).await;
        tracing::info!(%address, "no longer listening");
    }
}

/// Renews the lease until `stop`: regularly, and as soon as what it says has changed.
pub async fn renew(
    shared: Arc<Shared>,
    link: Arc<dyn ControlLink>,
    reopen: Arc<Notify>,
    stop: CancellationToken,
) {
    let mut said: Option<Lease> = None;
    let mut lagging = 0;
    let mut backoff = Backoff::new();
    let mut regular = tokio::time::interval(limits::LEASE_RENEW.into());
    regular.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due = tokio::select! {
            () = stop.cancelled() => return,
            _ = regular.tick() => true,
            () = shared.switch.changed() => false,
        };
        let lease = lease(&shared);
        if !due && said.as_ref() == Some(&lease) {
            continue;
        }
        let answer = tokio::select! {
            () = stop.cancelled() => return,
            answer = timeout(limits::LEASE_SUSPECT.into(), link.renew(lease.clone())) => answer,
        };
        let failure = match answer {
            Ok(Ok(newest)) => {
                shared.meter.heard_ms.store(shared.switch.now_ms(), Relaxed);
                lagging = if newest > shared.switch.generation() { lagging + 1 } else { 0 };
                None
            }
            Ok(Err(error)) => Some(chain(&error)),
            Err(_) => Some("no answer in time".into()),
        };
        shared.meter.linked.store(u64::from(failure.is_none()), Relaxed);
        if lagging >= LAGGING_LEASES {
            lagging = 0;
            reopen.notify_one();
        }
        let pause = match failure {
            None => {
                said = Some(lease);
                backoff.reset();
                Duration::from(limits::EDGE_RENEW_SPACING)
            }
            Some(error) => {
                if backoff.is_first() {
                    tracing::warn!(error, "the lease is not renewed; serving goes on");
                }
                said = None;
                backoff.next()
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// What is true now. The acknowledgement is read before the open connections: one that was still
/// looking for its backend is then either holding the acknowledgement back or counted as open.
fn lease(shared: &Shared) -> Lease {
    let generation = shared.switch.acknowledged();
    Lease {
        role: NodeRole::Edge,
        generation,
        held: Some(shared.switch.table().name.clone()),
        pressure: None,
        running: Vec::new(),
        draining: shared.switch.draining(),
    }
}

/// An error with all its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

/// Waits that grow, with jitter, so that many edges do not come back at the same moment.
struct Backoff {
    next: Duration,
}

impl Backoff {
    fn new() -> Self {
        Self { next: limits::EDGE_RETRY_MIN.into() }
    }

    fn reset(&mut self) {
        *self = Self::new();
    }

    fn is_first(&self) -> bool {
        self.next == Duration::from(limits::EDGE_RETRY_MIN)
    }

    /// Between a half and the whole of a wait that doubles.
    fn next(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(limits::EDGE_RETRY_MAX.into());
        whole.mul_f64(0.5 + (OsRandom.u128() % 1024) as f64 / 2048.0)
    }

    async fn wait(&mut self) {
        let pause = self.next();
        tokio::time::sleep(pause).await;
    }
}
