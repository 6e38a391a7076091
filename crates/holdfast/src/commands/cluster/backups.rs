//! Backups that the server makes by itself: how they are, and one out of turn.

use super::failed;
use crate::{
    args::offline::KeyArgs,
    context::{Context, Patience},
    failure::Failure,
    output::{self, Form, Progress},
};
use api::{BackupAsked, BackupFailure, BackupStatus, Code, Problem};
use types::{DurationMs, limits};

/// How long one that was asked for is waited for, unless told otherwise.
const WAIT: DurationMs = DurationMs::from_secs(600);

/// The lines of `cluster status`.
pub fn lines(status: &BackupStatus) -> String {
    let ago = |ms: u64| format!("{} ago", output::span(DurationMs::from_ms(ms)));
    let row = |row: &api::BackupRow| format!("up to event {}, {}", row.event, ago(row.age_ms));
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "none yet".to_owned());
    let place = status.place.as_ref().map_or(String::new(), |place| format!(", in {place}"));
    let archive = status.archive.as_ref().map(|archive| match archive.behind_events {
        0 => format!("up to event {}, nothing is missing", archive.event),
        behind => format!(
            "up to event {}, {behind} events are missing; nothing was {}",
            archive.event,
            ago(archive.age_ms)
        ),
    });
    let mut text = format!("backup   {}{place}\n", or_none(status.last.as_ref().map(row)));
    if let Some(archive) = archive {
        text.push_str(&format!("archive  {archive}\n"));
    }
    text.push_str(&format!("drill    {}\n", or_none(status.drill.as_ref().map(row))));
    if let Some(busy) = &status.busy {
        text.push_str(&format!("now      {busy}\n"));
    }
    text
}

/// What somebody should do something about, and what went wrong last.
pub fn notes(status: &BackupStatus) -> Vec<String> {
    let mut notes = Vec::new();
    if status.place.is_none() {
        notes.push(
            "note: nobody makes backups now: the member that leads was not told to, or is not heard; give every member --backup-to"
                .to_owned(),
        );
    }
    for failure in &status.failures {
        let (step, why, at) = (&failure.step, &failure.why, output::time(failure.at));
        notes.push(match failure.goes_on {
            true => format!("note: {step} failed at {at} and is tried again: {why}"),
            false => format!("note: {step} failed at {at}, and worked again later: {why}"),
        });
    }
    notes
}

/// `cluster backup` without a place: the server makes one now, to where it was told.
pub async fn ask(context: &Context, key: &KeyArgs) -> Result<(), Failure> {
    if key.key_file.is_some() || key.key_command.is_some() {
        let what = "the server that is asked for a backup has a key of its own";
        return Err(Failure::usage(what, "--to PLACE with the key, or neither"));
    }
    let id = context.intent();
    let asked = context.client.ask_backup(id).await;
    let asked = asked.map_err(|error| failed(error, id, &context.shows_cluster()))?;
    if context.patience == Patience::NoWait {
        match context.form {
            Form::Json => output::outcome_json(&asked),
            Form::Text => output::outcome(&format!("asked for a backup with event {}\n", asked.event)),
        }
        return Ok(());
    }
    let status = made(context, &asked).await?;
    let last = status.last.as_ref().expect("it is what was waited for");
    match context.form {
        Form::Json => output::outcome_json(last),
        Form::Text => {
            let place = status.place.as_deref().unwrap_or("the store");
            output::outcome(&format!(
                "{}\nup to event {}, read back and verified, in {place}\n",
                last.id, last.event
            ));
        }
    }
    Ok(())
}

/// Waits until there is a backup with the event that was asked for, or making it has failed since.
async fn made(context: &Context, asked: &BackupAsked) -> Result<BackupStatus, Failure> {
    let deadline = context.deadline(WAIT);
    let mut progress = Progress::new(context.form);
    loop {
        // A member that is being replaced may not answer for a moment.
        let look = async || context.client.cluster().await;
        let found = crate::commands::follow::persistently(look, deadline, &mut progress).await;
        let status = match found {
            Ok(status) => status.backup.unwrap_or_default(),
            Err(Some(error)) => return Err(Failure::of_read(error)),
            Err(None) => return Err(not_yet()),
        };
        if status.last.as_ref().is_some_and(|last| last.event >= asked.event && last.at >= asked.at) {
            return Ok(status);
        }
        let since = |failure: &&BackupFailure| failure.goes_on && failure.at >= asked.at;
        if let Some(failed) = status.failures.iter().filter(since).find(|failure| failure.step == "backup") {
            let what = format!("the backup could not be made, and is tried again: {}", failed.why);
            let mut failure = Failure::local(what);
            failure.problem.hint = Some("holdfast cluster status".to_owned());
            return Err(failure);
        }
        progress.show(status.busy.as_deref().unwrap_or("waiting"));
        if tokio::time::Instant::now() + limits::WAIT_POLL.into() > deadline {
            return Err(not_yet());
        }
        tokio::time::sleep(limits::WAIT_POLL.into()).await;
    }
}

fn not_yet() -> Failure {
    let what = "the backup is not made within the time given; the server goes on with it";
    Problem::new(Code::StillGoing, what).with_hint("holdfast cluster status").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{ArchiveRow, BackupRow};
    use types::{EventId, Timestamp};

    #[test]
    fn what_is_known_of_backups_stands_in_a_few_lines() {
        let (event, at) = (EventId::new(42), Timestamp::ZERO);
        let row = BackupRow { id: "a".into(), event, at, age_ms: 1500 };
        let archive = ArchiveRow { event, behind_events: 0, age_ms: 900 };
        let status = BackupStatus {
            place: Some("s3://b/log".into()),
            last: Some(row.clone()),
            drill: None,
            archive: Some(archive.clone()),
            busy: Some("drill".into()),
            failures: vec![BackupFailure { step: "archive".into(), why: "gone".into(), at, goes_on: true }],
        };
        let expected = "\
backup   up to event 42, 1.5s ago, in s3://b/log
archive  up to event 42, nothing is missing
drill    none yet
now      drill
";
        assert_eq!(lines(&status), expected);
        assert_eq!(notes(&status), ["note: archive failed at 1970-01-01T00:00:00Z and is tried again: gone"]);
        let archive = ArchiveRow { behind_events: 3, ..archive };
        let left =
            BackupStatus { place: None, archive: Some(archive), busy: None, drill: Some(row), ..status };
        assert!(lines(&left).contains("3 events are missing; nothing was 0.9s ago"), "{}", lines(&left));
        assert!(notes(&left)[0].contains("--backup-to"), "{:?}", notes(&left));
    }
}
