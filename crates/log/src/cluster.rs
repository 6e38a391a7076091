//! The log of a cluster of one to many members, by consensus.
//!
//! ```text
//!   append ─► authority? head as expected? ─► openraft ─┬─► own write-ahead log ──┐ durable on a
//!                                                       └─► the others', by TLS ──┤ majority
//!   answered, and readable everywhere ◄─── committed, in order ◄──────────────────┘
//! ```
//!
//! `adapter` is the one file that knows both our log and openraft; `shape` holds the types.
//! [`ClusterLog`] stands behind the same [`crate::Log`] as the log of one machine.
//!
//! Invariants:
//!
//! - `one_authority`: a node sequences only in a term that it leads, and only after its own entry,
//!   which opens an epoch, is committed there. Everything it proposes names that term, so nothing that
//!   was waiting when it lost the lead can slip into a later one.
//! - What a proposal was decided on is compared again where it is written, on every member alike.
//! - An append whose leader is gone is *unknown*: only the log can say, and it does once it has moved on.

mod adapter;
mod awake;
mod consensus;
#[cfg(test)]
mod fault_tests;
mod gate;
mod greeting;
mod handover;
mod log;
mod members;
mod promotion;
mod repair;
#[cfg(test)]
mod repair_tests;
mod shape;
#[cfg(test)]
mod suite;
mod transport;

pub use self::{
    handover::{HandOverError, HandedOver},
    log::{ClusterLog, Failover, OpenClusterError, Options},
    members::{ChangeError, Joined, Status, recover},
    promotion::{Denied, Position, Promotion, Said, Validation},
    repair::{Answer, NotRepaired, Others, Question, repair},
    shape::{Member, Shape},
    transport::{Alone, Message, Transport, TransportError},
};
