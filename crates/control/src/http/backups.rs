//! Backups that the server makes by itself: how it is with them, and one out of turn.

use super::{
    Http,
    answer::{At, Result},
};
use crate::{cluster::MemberReport, writer::Core};
use api::{ArchiveRow, BackupAsked, BackupFailure, BackupRow, BackupStatus, Code, Outcome, Problem};
use axum::extract::State;
use types::{EventId, Timestamp};

/// How it is: what the log says, and what the member that leads reports besides; none where there never
/// was a backup or a word of one.
pub(super) fn status<'a>(
    core: &Core,
    mut reports: impl Iterator<Item = &'a MemberReport>,
) -> Option<BackupStatus> {
    let (state, head, now) = (core.state(), core.head().event, core.now());
    let known = &state.backups;
    let live = reports.find(|report| report.sequences).and_then(|report| report.backup.clone());
    if live.is_none() && known.made.is_none() && known.failed.is_empty() {
        return None;
    }
    let row = |id: &String, event: EventId, at: Timestamp| {
        let age_ms = now.since(at).as_ms();
        BackupRow { id: id.clone(), event, at, age_ms }
    };
    let archive = live.as_ref().and_then(|live| live.archived).map(|(event, complete)| ArchiveRow {
        event,
        behind_events: head.get().saturating_sub(event.get()),
        age_ms: now.since(complete).as_ms(),
    });
    let failing = live.iter().flat_map(|live| live.failing.clone());
    let mut failures: Vec<BackupFailure> = failing
        .map(|(step, why, at)| BackupFailure { step: step.as_str().to_owned(), why, at, goes_on: true })
        .collect();
    for (step, failed) in &known.failed {
        let (step, why, at) = (step.as_str().to_owned(), failed.why.clone(), failed.at);
        if !failures.iter().any(|other| other.step == step) {
            failures.push(BackupFailure { step, why, at, goes_on: failed.over.is_none() });
        }
    }
    Some(BackupStatus {
        place: live.as_ref().map(|live| live.place.clone()),
        last: known.made.as_ref().map(|made| row(&made.id, made.event, made.at)),
        drill: known.drilled.as_ref().map(|drilled| row(&drilled.id, drilled.event, drilled.at)),
        archive,
        busy: live.and_then(|live| live.busy).map(|step| step.as_str().to_owned()),
        failures,
    })
}

/// `POST /v1/cluster/backup`
pub(super) async fn ask(State(http): State<Http>) -> Result<At<BackupAsked>> {
    let Some(backups) = http.cluster.as_ref().and_then(|cluster| cluster.backups()) else {
        let problem = Problem::new(Code::Conflict, "the member that leads was not told where backups go");
        let hint = "start it with --backup-to and --backup-key-file, or back it up from outside with --to";
        return Err(problem.with_hint(hint).into());
    };
    let (event, at) = (http.core.head().event, http.core.now());
    let asked = BackupAsked { outcome: Outcome::Executed, event, at };
    backups.ask();
    Ok(At::new(asked.event, asked))
}
