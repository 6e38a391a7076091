//! Members of the cluster: `admitted → removed`, and never back.

use serde::{Deserialize, Serialize};
use types::{EventId, Name};

/// A node that has, or had, a copy of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberState {
    /// Its name, one of a kind among those that are present.
    pub name: Name,
    /// Where other members reach it: `host:port`.
    pub peer: String,
    /// The URL where people reach its API; empty if they cannot.
    pub api: String,
    /// Whether it decides with the others, or only reads along.
    pub votes: bool,
    /// The event that admitted it.
    pub admitted: EventId,
    /// The event that removed it, after which it is remembered so that its id is never used again.
    pub removed: Option<EventId>,
    /// Events so far.
    pub sequence: u64,
}

impl MemberState {
    /// Whether it was admitted and not removed.
    pub const fn is_present(&self) -> bool {
        self.removed.is_none()
    }
}
