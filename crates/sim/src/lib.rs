//! Deterministic simulator: production code on simulated doors, one file per invariant.
//!
//! A round is one seed. It runs the production sequencer over the production write-ahead log on a
//! disk that loses, tears and reorders what was not synced, fills up, and fails; it kills the
//! process and cuts the power, again and again, also during recovery; and after each recovery it
//! holds what the log says against what it said before. The same seed gives the same round.
//!
//! Rounds of clusters are in [`cluster`].
//!
//! `make sim SEEDS=n` runs n rounds and names the seed of each that breaks an invariant.

pub mod cluster;
mod history;
pub mod invariants;
mod round;
mod workload;

pub use history::{History, Violation};
pub use round::{Tally, round, rounds};
