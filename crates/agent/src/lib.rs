//! The host agent: runs what its plan holds, and needs nobody to keep going.
//!
//! A plan comes from the control plane and is durable before it is acted on ([`PlanStore`]). A pure
//! planner compares it with what is on the machine; each instance then has a supervisor of its own
//! that brings it up, probes it, starts it again when it ends, and stops it when told. What a
//! supervisor sees goes into a durable journal and from there to the control plane, once each.
//!
//! Instances are containers made by `runc`, each under a monitor of its own (`conmon`) that
//! outlives the agent. So ending the agent, or killing it, ends no instance, and the next agent on
//! the same data directory adopts what runs. After a power cut it starts all of it again from the
//! stored plan.

mod agent;
mod backoff;
mod capacity;
mod cgroup;
mod config;
mod container;
pub mod image;
mod images;
mod journal;
mod link;
mod logs;
mod metrics;
mod monitor;
mod network;
mod plan_store;
mod preflight;
mod pressure;
mod probe;
mod reconcile;
mod root;
mod seccomp;
mod spec;
mod supervisor;
mod tool;
mod user;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod live;
#[cfg(test)]
mod power;
#[cfg(test)]
mod takeover;

pub use agent::{Agent, StartError};
pub use capacity::capacity;
pub use config::Config;
pub use journal::{Journal, JournalError};
pub use link::{ControlLink, LinkError};
pub use plan_store::{OpenError, PlanStore, Refusal};
pub use preflight::{PreflightError, preflight};
