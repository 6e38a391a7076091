//! What the log says of its own backups: who restores reads it, and whoever leads next goes on from it.

use serde::{Deserialize, Serialize};
use types::EventId;

/// What keeps a log restorable, each part on its own schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupStep {
    /// Making a whole backup and reading it back.
    Backup,
    /// Sending the log as it grows.
    Archive,
    /// Taking old backups away.
    Prune,
    /// Restoring the last backup aside and folding it.
    Drill,
}

impl BackupStep {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Backup, Self::Archive, Self::Prune, Self::Drill];

    /// As people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Archive => "archive",
            Self::Prune => "prune",
            Self::Drill => "drill",
        }
    }
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackupNote {
    /// A backup was made, read back and found right, up to `event`.
    Made {
        /// Its name in the store.
        id: String,
        /// The store.
        place: String,
        /// The last event it has.
        event: EventId,
    },
    /// The newest backup, and what was archived since, was restored and folded.
    Drilled {
        /// The backup.
        id: String,
        /// The last event that was restored.
        event: EventId,
        /// Over all events of the restored log, in hexadecimal.
        fingerprint: String,
    },
    /// A step failed and will be tried again. Not written for every try.
    Failed {
        /// Which.
        step: BackupStep,
        /// Why.
        why: String,
    },
    /// A step that had failed works again.
    Recovered {
        /// Which.
        step: BackupStep,
    },
}

impl BackupNote {
    /// Which step it is about.
    pub const fn step(&self) -> BackupStep {
        match self {
            Self::Made { .. } => BackupStep::Backup,
            Self::Drilled { .. } => BackupStep::Drill,
            Self::Failed { step, .. } | Self::Recovered { step } => *step,
        }
    }
}
