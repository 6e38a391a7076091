//! Changes: edits of many keys that are reviewed, and published together.
//!
//! ```text
//!   draft ──▶ in review ──▶ approved ──▶ published
//!     ▲ ▲         │  │          │  │
//!     │ └─────────┴──┼──────────┘  │         (edited, or its base moved)
//!     │              ▼             │
//!     └────────── rejected ◀───────┘
//! ```
//! Everything that is not published can be withdrawn. Invariants:
//! - an approval is of one content: the hash over every edit and the version it was made on. What
//!   changes an edit, or moves such a version, takes the approvals away in the same batch.
//! - what is published is what was approved, as it stands; but for a break-glass, which says so.

use crate::config::{Based, Stage, Who};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeSet, sync::Arc};
use types::{ConfigKey, EventId, NamespaceId, Timestamp};

use Stage::{Approved, Draft, InReview, Published, Rejected, Withdrawn};

/// The legal steps; nothing else ever happens to a change. Staying put is always legal. A draft is
/// approved at once where no approval is asked for, and rejected ones are submitted again as they are.
/// What is not approved is published by break-glass only.
pub(super) const TRANSITIONS: &[(Stage, Stage)] = &[
    (Draft, InReview),
    (Draft, Approved),
    (InReview, Approved),
    (InReview, Draft),
    (Approved, Draft),
    (InReview, Rejected),
    (Approved, Rejected),
    (Rejected, Draft),
    (Rejected, InReview),
    (Rejected, Approved),
    (Approved, Published),
    (InReview, Published),
    (Draft, Published),
    (Rejected, Published),
    (Draft, Withdrawn),
    (InReview, Withdrawn),
    (Approved, Withdrawn),
    (Rejected, Withdrawn),
];

impl Stage {
    /// Whether the life cycle lets it go there.
    pub fn may_go(self, to: Self) -> bool {
        self == to || TRANSITIONS.contains(&(self, to))
    }

    /// Whether reviewers have it: its content is fixed and may be approved.
    pub const fn is_reviewed(self) -> bool {
        matches!(self, InReview | Approved)
    }
}

/// One edit of a change, and the event that holds its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposed {
    /// The edit.
    pub edit: Based,
    /// Where it stands in the log.
    pub event: EventId,
}

/// A yes of a reviewer to the content as it was submitted last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Whose.
    pub by: Who,
    /// Which event.
    pub event: EventId,
}

/// When an approved change is to be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Then, or as soon after it as somebody can decide.
    pub at: Timestamp,
    /// Who said so, and publishes it.
    pub by: Who,
}

/// A change that is neither published nor withdrawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where its keys are.
    pub namespace: NamespaceId,
    /// What people call it.
    pub title: Arc<str>,
    /// Who drafted it.
    pub author: Who,
    /// Everybody that wrote any of it, the author too.
    pub writers: Arc<BTreeSet<Who>>,
    /// Where it is in its life.
    pub stage: Stage,
    /// How often it was submitted.
    pub revision: u32,
    /// Of the content that was submitted last.
    pub hash: [u8; 32],
    /// By key.
    pub edits: OrdMap<ConfigKey, Proposed>,
    /// Bytes of its values.
    pub bytes: u64,
    /// Of the content as it stands.
    pub approvals: Vec<Approval>,
    /// When it is to be published.
    pub schedule: Option<Schedule>,
    /// Why it was not published when it should have been.
    pub suspended: Option<Arc<str>>,
    /// The release that moved what it was based on, since it was edited last.
    pub moved: Option<u32>,
    /// How many there are.
    pub comments: u32,
    /// How often it was edited.
    pub steps: u32,
    /// The event that drafted it.
    pub drafted: EventId,
    /// The event that last changed it.
    pub changed: EventId,
    /// Events so far.
    pub sequence: u64,
}

impl Change {
    pub(super) fn go(&mut self, to: Stage) {
        if self.stage.may_go(to) {
            self.stage = to;
        }
        if !to.is_reviewed() {
            self.approvals.clear();
            self.schedule = None;
        }
    }

    /// Puts edits in the place of those of the same keys.
    pub(super) fn take(&mut self, edits: &[Based], event: EventId) {
        for edit in edits {
            self.drop_key(&edit.key);
            self.bytes += edit.size();
            self.edits.insert(edit.key.clone(), Proposed { edit: edit.clone(), event });
        }
    }

    pub(super) fn drop_key(&mut self, key: &ConfigKey) {
        if let Some(old) = self.edits.remove(key) {
            self.bytes -= old.edit.size();
        }
    }

    /// SHA-256 over all that an approval is of: where, and each edit with the version it was made on.
    pub fn content_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.namespace.as_u128().to_be_bytes());
        let edits: Vec<&Based> = self.edits.values().map(|proposed| &proposed.edit).collect();
        hash.update(postcard::to_allocvec(&edits).expect("an edit has no type that postcard refuses"));
        hash.finalize().into()
    }
}

impl Based {
    /// Bytes of the value that it brings.
    pub fn size(&self) -> u64 {
        match &self.put {
            crate::config::Put::Set(value) => value.size(),
            crate::config::Put::Delete | crate::config::Put::Inherit => 0,
        }
    }
}
