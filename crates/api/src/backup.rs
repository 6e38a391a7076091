//! Backups that the server makes by itself.

use serde::{Deserialize, Serialize};
use types::{EventId, Timestamp};
use utoipa::ToSchema;

/// How it is with backups of the log: what the log says of them, and what the member that makes them
/// says besides. What is not known is not there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupStatus {
    /// Where the member that leads sends them; absent if it was not told to make any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<String>,
    /// The last one that was made and read back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<BackupRow>,
    /// The last drill that restored and folded one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drill: Option<BackupRow>,
    /// How far the log is archived; absent if it is not, or not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ArchiveRow>,
    /// What is under way: `backup`, `prune` or `drill`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub busy: Option<String>,
    /// The last failure of each step, those that go on among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<BackupFailure>,
}

/// A backup, or a drill of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupRow {
    /// The backup's name in the store.
    pub id: String,
    /// The last event it has, or that was restored.
    #[schema(value_type = u64)]
    pub event: EventId,
    /// When it was noted in the log.
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// Milliseconds since then.
    pub age_ms: u64,
}

/// How far the log is archived.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArchiveRow {
    /// The last event that is archived.
    #[schema(value_type = u64)]
    pub event: EventId,
    /// Events of the log that are not.
    pub behind_events: u64,
    /// Milliseconds since nothing was missing: what was acknowledged before is archived.
    pub age_ms: u64,
}

/// A step of the backups failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupFailure {
    /// Which: `backup`, `archive`, `prune` or `drill`.
    pub step: String,
    /// Why.
    pub why: String,
    /// When; the last time, if it still fails.
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// Whether it still fails; it is tried again.
    pub goes_on: bool,
}

/// A backup was asked for. It is made beside everything else: the status says when it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupAsked {
    /// Always *executed*: it was asked for.
    pub outcome: crate::Outcome,
    /// The backup will have this event.
    #[schema(value_type = u64)]
    pub event: EventId,
    /// When it was asked for, by the clock of the server.
    #[schema(value_type = u64)]
    pub at: Timestamp,
}
