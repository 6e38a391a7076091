//! What it takes to run Holdfast for real on one machine and to break it for real.
//!
//! The program `demo-run` and the tests of the failure model share this: real processes with log
//! and pid files ([`Process`]), a server, an agent and an edge on free loopback ports
//! ([`Platform`]), images made on the spot ([`image`]), a registry ([`Registry`]), and clients that
//! never pause ([`Load`]). Everything goes through the `holdfast` program as a user would; no crate
//! of Holdfast is linked here, so what works here works from outside.
//!
//! A process is only ever ended by its id, and only after its start time proved that it is still
//! the one that was started.

mod process;
pub use process::{Process, Stamp, alive, interrupt_on_signals, kill, started, wait_for};

mod ports;
pub use ports::free_ports;

mod certificate;
pub use certificate::Authority;

pub mod image;

mod manifest;
pub use manifest::Manifest;

mod registry;
pub use registry::Registry;

mod http;
pub use http::{Answer, Target, Wire, get_blocking, get_plain};

mod metrics;
pub use metrics::{CLOSED_FIRST, Metrics, OPEN};

mod load;
pub use load::{Load, Routes, Tally};

mod platform;
pub use platform::{Cli, Platform, Role};

mod instances;
pub use instances::{Running, clear_host};

/// The error of everything here: what happened, for a person to read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Failure {
    /// What was tried and why it did not work.
    pub fn new(what: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Self(format!("{what}: {why}"))
    }
}

/// The result of everything here.
pub type Outcome<T = ()> = Result<T, Failure>;
