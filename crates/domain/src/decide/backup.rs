//! What came of backups: only the platform itself notes it.

use super::{Decision, done};
use crate::{
    backup::BackupNote,
    command::Context,
    event::{Actor, Event},
    rejection::Rejection,
    state::State,
};
use types::limits;

/// Notes what came of a step. That something works again is worth a word only after it had failed.
pub(super) fn note(state: &State, note: &BackupNote, context: &Context) -> Result<Decision, Rejection> {
    let is_news = !matches!(note, BackupNote::Recovered { step } if !state.backups.is_failing(*step));
    if context.actor != Actor::System || !is_news {
        return Ok(Decision::default());
    }
    bounded(note)?;
    let summary = match note {
        BackupNote::Made { event, .. } => format!("backed up to event {event}"),
        BackupNote::Drilled { event, .. } => format!("restored in a drill up to event {event}"),
        BackupNote::Failed { step, .. } => format!("{} failed", step.as_str()),
        BackupNote::Recovered { step } => format!("{} works again", step.as_str()),
    };
    Ok(done(vec![Event::BackupNoted { note: note.clone() }], summary))
}

fn bounded(note: &BackupNote) -> Result<(), Rejection> {
    let texts = match note {
        BackupNote::Made { id, place, .. } => vec![id, place],
        BackupNote::Drilled { id, fingerprint, .. } => vec![id, fingerprint],
        BackupNote::Failed { why, .. } => vec![why],
        BackupNote::Recovered { .. } => Vec::new(),
    };
    match texts.iter().all(|text| text.chars().count() <= limits::BACKUP_TEXT) {
        true => Ok(()),
        false => {
            let what = "characters of what is noted of a backup".to_owned();
            Err(Rejection::TooMany { what, limit: limits::BACKUP_TEXT as u64 })
        }
    }
}
