//! One instance as the edge knows it, beyond any one table: its open connections, its counters,
//! and whether it refused lately.
//!
//! Tables come and go with every plan; what is counted and learnt about a backend stays. So a
//! [`Target`] lives in the [`crate::switch::Switch`] and tables hold it by reference.
//!
//! Ejection of a target:
//!
//! ```text
//!   well ──a connect fails──► left alone for BACKEND_EJECT ──time passes──► on trial
//!    ▲                               ▲                                        │
//!    └────────── its connect succeeds ─┼──────────────────────────────────────┤
//!                                      └──────────── its connect fails ───────┘
//! ```
//!
//! On trial exactly one connection is sent to it while the others go on avoiding it, so that a
//! backend that swallows packets costs one client a connect timeout, not all of them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use tokio::sync::Notify;
use types::{InstanceId, limits};

/// What is counted for one instance, whatever its addresses.
#[derive(Debug)]
pub struct Tally {
    /// The instance.
    pub instance: InstanceId,
    /// Connections spliced to it now.
    open: AtomicU64,
    /// Connections ever opened to it.
    pub opened: AtomicU64,
    /// Connections to it that have ended.
    pub closed: AtomicU64,
    /// Connections that it ended or reset while the client's side was still open.
    pub closed_first: AtomicU64,
    /// Connects to it that failed or timed out.
    pub refused: AtomicU64,
    /// Told whenever `open` falls to zero: the instance may have drained.
    changed: Arc<Notify>,
}

impl Tally {
    /// Nothing counted yet; `changed` is told whenever the last open connection ends.
    pub fn new(instance: InstanceId, changed: Arc<Notify>) -> Self {
        let zero = AtomicU64::default;
        Self {
            instance,
            open: zero(),
            opened: zero(),
            closed: zero(),
            closed_first: zero(),
            refused: zero(),
            changed,
        }
    }

    /// Connections spliced to it now.
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }
}

/// A connection spliced to an instance; counted as open until this is dropped.
#[derive(Debug)]
pub struct Open(Arc<Tally>);

impl Open {
    /// Counts one more open connection.
    pub fn new(tally: Arc<Tally>) -> Self {
        tally.open.fetch_add(1, Relaxed);
        tally.opened.fetch_add(1, Relaxed);
        Self(tally)
    }

    /// Notes that the backend ended this connection before the client did.
    pub fn backend_closed_first(&self) {
        self.0.closed_first.fetch_add(1, Relaxed);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed.fetch_add(1, Relaxed);
        if self.0.open.fetch_sub(1, Relaxed) == 1 {
            self.0.changed.notify_one();
        }
    }
}

/// One address of one instance, and how it behaved lately.
#[derive(Debug)]
pub struct Target {
    /// Where it listens.
    pub address: SocketAddr,
    /// The counters of its instance.
    pub tally: Arc<Tally>,
    /// In the clock of [`crate::switch::Switch::now_ms`]: left alone until then. 0: it is well.
    avoid_until: AtomicU64,
}

/// Whether a connection should try a target now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is well.
    Well,
    /// It refused, its time has passed, and this connection is the one that tries it.
    Trial,
    /// It is left alone while there is another.
    Ejected,
}

impl Target {
    /// A target that is well.
    pub fn new(address: SocketAddr, tally: Arc<Tally>) -> Self {
        Self { address, tally, avoid_until: AtomicU64::new(0) }
    }

    /// Whether to try it now. A `Trial` is handed to one caller only and must be tried.
    pub fn admit(&self, now_ms: u64) -> Admission {
        let until = self.avoid_until.load(Relaxed);
        if until == 0 {
            return Admission::Well;
        }
        let trial_ends = now_ms + limits::BACKEND_CONNECT.as_ms() + 1;
        let mine =
            now_ms >= until && self.avoid_until.compare_exchange(until, trial_ends, Relaxed, Relaxed).is_ok();
        if mine { Admission::Trial } else { Admission::Ejected }
    }

    /// It accepted a connection. Answers whether it was ejected until now.
    pub fn accepted(&self) -> bool {
        self.avoid_until.load(Relaxed) != 0 && self.avoid_until.swap(0, Relaxed) != 0
    }

    /// It did not accept. Answers whether it was well until now.
    pub fn refused(&self, now_ms: u64) -> bool {
        self.tally.refused.fetch_add(1, Relaxed);
        self.avoid_until.swap(now_ms + limits::BACKEND_EJECT.as_ms(), Relaxed) == 0
    }

    /// Whether it is left alone or on trial.
    pub fn is_ejected(&self) -> bool {
        self.avoid_until.load(Relaxed) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusing_target_is_left_alone_then_tried_by_one() {
        let tally = Arc::new(Tally::new(InstanceId::from_u128(1), Arc::default()));
        let target = Target::new("[::1]:1".parse().expect("an address"), tally);
        let eject = limits::BACKEND_EJECT.as_ms();
        assert_eq!(target.admit(10), Admission::Well);
        assert!(target.refused(10));
        assert_eq!(target.admit(10 + eject - 1), Admission::Ejected);
        assert_eq!(target.admit(10 + eject), Admission::Trial);
        assert_eq!(target.admit(10 + eject), Admission::Ejected, "one trial at a time");
        assert!(!target.refused(20 + eject), "it was ejected already");
        assert_eq!(target.admit(20 + 2 * eject), Admission::Trial);
        assert!(target.accepted());
        assert_eq!(target.admit(20 + 2 * eject), Admission::Well);
    }

    #[test]
    fn a_trial_that_was_never_finished_does_not_eject_for_ever() {
        let tally = Arc::new(Tally::new(InstanceId::from_u128(1), Arc::default()));
        let target = Target::new("[::1]:1".parse().expect("an address"), tally);
        target.refused(0);
        let now = limits::BACKEND_EJECT.as_ms();
        assert_eq!(target.admit(now), Admission::Trial);
        assert_eq!(target.admit(now + limits::BACKEND_CONNECT.as_ms() + 1), Admission::Trial);
    }
}
