//! Configuration: values by key in namespaces that inherit from each other, changed by writes and by
//! changes that people review.
//!
//! ```text
//!   namespace ──inherits──▶ namespace ──▶ …        nearest wins: values, schema, settings
//!   write ─────────────────────────────┐
//!   draft ─▶ in review ─▶ approved ────┴─▶ release 1, 2, 3, … of the namespace
//! ```
//! What is stored is here; decisions are in `decide/config`, the state in `state/config`, what people
//! read of the past in `view/config.rs`.
//!
//! A value stands in the log once: in the event of the write, or of the draft or edit that proposed it.
//! Publishing refers to it.

mod command;
mod event;
mod refusal;
mod schema;
mod value;

pub use command::{ChangeStep, ConfigCommand, Edit, Inherits};
pub use event::{Based, ConfigEvent, Put, Reviewers, Settings, Stage, Who};
pub use refusal::{ConfigRefusal, Mismatch};
pub use schema::{NotASchema, Schema, Violation};
pub use value::{Blob, Unfit, Value, canonical};
