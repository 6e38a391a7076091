//! The backups of this log, as it says itself.

use crate::{
    backup::{BackupNote, BackupStep},
    event::Envelope,
};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use types::{EventId, Timestamp};

/// The last backup that was made and read back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupMade {
    /// Its name in the store.
    pub id: String,
    /// The store.
    pub place: String,
    /// The last event it has.
    pub event: EventId,
    /// When that was noted.
    pub at: Timestamp,
}

/// The last drill that proved a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupDrilled {
    /// The backup.
    pub id: String,
    /// The last event that was restored and folded.
    pub event: EventId,
    /// Over all events of the restored log, in hexadecimal.
    pub fingerprint: String,
    /// When that was noted.
    pub at: Timestamp,
}

/// The last failure of a step that was noted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFailed {
    /// Why.
    pub why: String,
    /// When that was noted.
    pub at: Timestamp,
    /// When the step worked again.
    pub over: Option<Timestamp>,
}

/// The backups of this log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backups {
    /// The last backup.
    pub made: Option<BackupMade>,
    /// The last drill.
    pub drilled: Option<BackupDrilled>,
    /// The last failure of each step.
    pub failed: OrdMap<BackupStep, BackupFailed>,
}

impl Backups {
    /// Whether the last that was noted of a step is that it failed.
    pub fn is_failing(&self, step: BackupStep) -> bool {
        self.failed.get(&step).is_some_and(|failed| failed.over.is_none())
    }

    pub(super) fn apply(&mut self, note: &BackupNote, envelope: &Envelope) {
        let at = envelope.at;
        match note {
            BackupNote::Failed { step, why } => {
                self.failed.insert(*step, BackupFailed { why: why.clone(), at, over: None });
                return;
            }
            BackupNote::Made { id, place, event } => {
                self.made = Some(BackupMade { id: id.clone(), place: place.clone(), event: *event, at });
            }
            BackupNote::Drilled { id, event, fingerprint } => {
                let (id, fingerprint) = (id.clone(), fingerprint.clone());
                self.drilled = Some(BackupDrilled { id, event: *event, fingerprint, at });
            }
            BackupNote::Recovered { .. } => {}
        }
        if let Some(failed) = self.failed.get_mut(&note.step()) {
            failed.over.get_or_insert(at);
        }
    }
}
