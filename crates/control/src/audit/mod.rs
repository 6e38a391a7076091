//! The audit: everything that anybody attempted, and what came of it.
//!
//! ```text
//!   executed ─────────────────────────────────────► the log ────────────┐
//!   guarded acts ─► journal first, then the act                         ├─► joined, for readers
//!   refused, denied, failed, abandoned ─► recorder ─► journal ──────────┘
//!                                          │ floods are counted, many share one sync
//! ```
//!
//! Invariants:
//! - a guarded act goes on only when its confirmation is durable in the journal of the node that acts.
//! - what was attempted elsewise is answered as it is, written down or not; what was not written is
//!   counted, and the count is written as soon as the disk takes it. A process that ends before forgets it,
//!   and says so in its own log if it still can.
//! - no line holds a secret: see [`redact`].
//!
//! [`entry`] is the shape of a line, [`journal`] the files, [`segments`] how they are read, [`recorder`] what writes them, [`flood`]
//! what bounds them, [`reading`] what readers are told.

mod entry;
mod flood;
mod journal;
mod reading;
mod recorder;
mod redact;
mod segments;

pub use self::{
    entry::{Entry, Note, Seen},
    journal::{Journal, JournalError, Verified},
    recorder::{Audit, Recorder},
};
pub(crate) use self::{
    flood::source,
    reading::{Filter, JournalAsk, JournalTold, Piece, confirmed_by, last_of_log, of_log},
    recorder::Attempted,
    redact::{request, scrubbed},
};
pub use api::AuditType as Ended;
