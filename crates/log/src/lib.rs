//! The append-only log: one trait, its conformance suite, and the write-ahead log.
//!
//! Everything that anyone declared or that changed hands is an event in here. Ids are 1, 2, 3, …
//! without gaps; nothing edits history and nothing drops it. The log knows events as bytes and
//! never looks inside them.
//!
//! What every implementation promises, and [`conformance`] checks:
//!
//! - `append_only`: an event once read is the same for ever, byte for byte.
//! - `gapless_order`: a reader by cursor misses none and sees none twice.
//! - `acked_is_durable`: an append that was answered with [`Appended`] survives a crash.
//! - A batch is atomic: all of its events are there, or none.
//! - Append is a compare-and-set on the head, so what was decided against one state can never be
//!   written after another.
//! - Readers see only what is durable.

pub mod cluster;
pub mod conformance;
mod contract;
mod entry;
mod memory;
pub mod wal;

pub use contract::{
    AppendError, AppendFuture, Appended, Authority, Batch, Head, Log, Pending, ReadError, Record,
    SnapshotError, SnapshotWriter,
};
pub use entry::{Chain, EntryHeader, Kind};
pub use memory::MemoryLog;
pub use wal::WalLog;
