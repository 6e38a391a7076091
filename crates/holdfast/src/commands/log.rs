//! `log`: the log on this machine's disk, read without a server and without its lock.

use crate::{
    args::{LogPlace, LogVerb},
    failure::Failure,
    output::{self, Form},
};
use api::{Code, EventRow, Outcome, Problem, Subject};
use domain::{Envelope, codec};
use log::wal::{self, OpenError, Report, ScanError};
use rt::RealDisk;
use serde::Serialize;
use std::{
    io::{BufWriter, ErrorKind, Write as _},
    path::{Path, PathBuf},
};
use types::{Epoch, EventId};

/// Verifies, prints or exports.
pub fn run(verb: LogVerb, form: Form) -> Result<(), Failure> {
    match verb {
        LogVerb::Verify(place) => verify(&directory(&place)?, form),
        LogVerb::Cat { place, after, limit } => cat(&directory(&place)?, after, limit, form),
        LogVerb::Export { place, output } => export(&directory(&place)?, &output, form),
    }
}

/// The log's own directory below a server's data directory.
fn directory(place: &LogPlace) -> Result<PathBuf, Failure> {
    let dir = place.data_dir.join("log");
    if dir.is_dir() {
        return Ok(dir);
    }
    let what = format!("{} is no server's data directory: it has no log/", place.data_dir.display());
    Err(Problem::new(Code::NotFound, what).with_hint("name it with --data-dir DIR").into())
}

/// What `--json` says of a verified log.
#[derive(Debug, Serialize)]
struct Verified {
    good: bool,
    cluster: String,
    events: u64,
    entries: u64,
    head: EventId,
    segments: usize,
    archived: usize,
    snapshots: usize,
    torn_tail: Option<String>,
    problems: Vec<String>,
}

fn told(problem: &wal::Problem) -> String {
    format!("{} at offset {}: {}", problem.path.display(), problem.offset, problem.what)
}

fn verify(dir: &Path, form: Form) -> Result<(), Failure> {
    let report = wal::verify(&RealDisk, dir).map_err(|error| broken(&error))?;
    let undecodable = if report.is_good() { decode_all(dir)? } else { None };
    let verified = verified(&report, undecodable);
    match form {
        Form::Json => output::outcome_json(&verified),
        Form::Text => {
            let Verified { events, entries, head, segments, archived, snapshots, .. } = &verified;
            let mut lines = vec![format!(
                "{events} events in {entries} entries up to event {head}; {segments} segments, {archived} archived, \
                 {snapshots} snapshots"
            )];
            let torn = |tail| format!("torn end, never acknowledged, cut off at the next start: {tail}");
            lines.extend(verified.torn_tail.as_ref().map(torn));
            lines.extend(verified.problems.iter().map(|problem| format!("DAMAGED  {problem}")));
            lines.extend(verified.good.then(|| "every record is as it was written".to_owned()));
            output::outcome(&(lines.join("\n") + "\n"));
        }
    }
    if verified.good {
        return Ok(());
    }
    let what = format!("the log is damaged in {} places", verified.problems.len());
    Err(Problem::new(Code::Internal, what)
        .with_outcome(Outcome::NotExecuted)
        .with_hint("keep this directory as it is and restore a copy of it from before the damage")
        .into())
}

fn verified(report: &Report, undecodable: Option<String>) -> Verified {
    let mut problems: Vec<String> = report.problems.iter().map(told).collect();
    problems.extend(undecodable);
    Verified {
        good: problems.is_empty(),
        cluster: report.cluster.clone(),
        events: report.events,
        entries: report.entries,
        head: report.head.event,
        segments: report.segments,
        archived: report.archived,
        snapshots: report.snapshots,
        torn_tail: report.torn_tail.as_ref().map(told),
        problems,
    }
}

/// Whether every event can be understood, not only read.
fn decode_all(dir: &Path) -> Result<Option<String>, Failure> {
    let mut first = None;
    each_event(dir, EventId::ZERO, |id, epoch, bytes| {
        if first.is_none() {
            first = codec::decode(id, epoch, bytes).err().map(|error| error.to_string());
        }
    })?;
    Ok(first)
}

/// Hands over each event of the log in `dir` after this one, without the log's lock.
pub fn each_event(
    dir: &Path,
    after: EventId,
    mut each: impl FnMut(EventId, Epoch, &[u8]),
) -> Result<(), Failure> {
    let scanned = wal::scan(&RealDisk, dir, after, |header, events| {
        if !matches!(header.kind, log::Kind::Batch | log::Kind::Proposal) {
            return;
        }
        for (place, event) in events.iter().enumerate() {
            let id = header.first.plus(place as u64);
            if id > after {
                each(id, header.epoch, event);
            }
        }
    });
    scanned.map_err(|error| broken(&error))
}

fn broken(error: &ScanError) -> Failure {
    let problem = Problem::new(Code::Internal, error.to_string()).with_outcome(Outcome::NotExecuted);
    problem.with_hint(way_on(error)).into()
}

/// What helps where a log cannot be read through.
fn way_on(error: &ScanError) -> &'static str {
    let disk = match error {
        ScanError::Disk(disk) | ScanError::Open(OpenError::Disk(disk)) => Some(disk.source.kind()),
        _ => None,
    };
    match (error, disk) {
        (_, Some(ErrorKind::PermissionDenied)) => "run it as the user whose server keeps this directory",
        (_, Some(ErrorKind::ReadOnlyFilesystem)) => {
            "mount the file system writable again: mount -o remount,rw"
        }
        (_, Some(_)) => "check the disk: dmesg, and smartctl -a",
        (ScanError::Open(OpenError::NewerFormat { .. }), _) => "start the newer holdfast that wrote it",
        (ScanError::Open(OpenError::Locked { .. }), _) => "stop the process that has it open",
        (ScanError::Open(OpenError::NotCreated { .. }), _) => {
            "name a server's data directory with --data-dir"
        }
        _ => "keep this directory as it is and restore a copy of it from before the damage",
    }
}

/// An event as readers of the API see it.
fn row(envelope: &Envelope) -> EventRow {
    let Envelope { id, epoch, at, actor, request, cause, sequence, event } = envelope;
    let actor = actor.to_string();
    let subject = serde_json::to_value(event.subject()).expect("a subject is plain data");
    let (kind, subject_id) = match &subject {
        serde_json::Value::Object(one) => one.iter().next().map_or_else(
            || (String::new(), String::new()),
            |(kind, id)| (kind.clone(), id.as_str().unwrap_or_default().to_owned()),
        ),
        other => (other.as_str().unwrap_or_default().to_owned(), String::new()),
    };
    EventRow {
        id: *id,
        at: *at,
        kind: event.kind().to_owned(),
        version: event.version(),
        subject: Subject { kind, id: subject_id, sequence: *sequence },
        actor,
        request_id: *request,
        epoch: *epoch,
        cause: *cause,
        data: data(event),
    }
}

/// What the event says, without the name of its kind, which stands beside it, and without the hash
/// of a secret, which is nobody's to read.
fn data(event: &domain::Event) -> serde_json::Value {
    let mut said = match serde_json::to_value(event).expect("an event is plain data") {
        serde_json::Value::Object(tagged) if tagged.len() == 1 => {
            tagged.into_iter().next().map_or(serde_json::Value::Null, |(_, said)| said)
        }
        other => other,
    };
    if let Some(fields) = said.as_object_mut() {
        fields.remove("hash");
    }
    said
}

fn decoded(id: EventId, epoch: Epoch, bytes: &[u8]) -> Result<EventRow, Failure> {
    codec::decode(id, epoch, bytes).map(|envelope| row(&envelope)).map_err(|error| {
        Problem::new(Code::Internal, error.to_string())
            .with_outcome(Outcome::NotExecuted)
            .with_hint("read it with the Holdfast that wrote it, or a newer one")
            .into()
    })
}

fn cat(dir: &Path, after: EventId, limit: Option<usize>, form: Form) -> Result<(), Failure> {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut failure = None;
    each_event(dir, after, |id, epoch, bytes| {
        if left == 0 || failure.is_some() {
            return;
        }
        left -= 1;
        match decoded(id, epoch, bytes) {
            Ok(row) => super::events::print(form, &row),
            Err(error) => failure = Some(error),
        }
    })?;
    failure.map_or(Ok(()), Err)
}

fn export(dir: &Path, to: &Path, form: Form) -> Result<(), Failure> {
    let failed =
        |error: std::io::Error| Failure::local(format!("{} cannot be written: {error}", to.display()));
    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(to).map_err(failed)?;
    let mut out = BufWriter::new(file);
    let (mut count, mut failure) = (0_u64, None);
    each_event(dir, EventId::ZERO, |id, epoch, bytes| {
        if failure.is_some() {
            return;
        }
        let written = decoded(id, epoch, bytes).and_then(|row| {
            serde_json::to_writer(&mut out, &row).map_err(std::io::Error::from).map_err(failed)?;
            out.write_all(b"\n").map_err(failed)
        });
        match written {
            Ok(()) => count += 1,
            Err(error) => failure = Some(error),
        }
    })?;
    if let Some(failure) = failure {
        return Err(failure);
    }
    out.into_inner().map_err(|error| failed(error.into_error()))?.sync_all().map_err(failed)?;
    match form {
        Form::Json => output::json(&serde_json::json!({ "events": count, "file": to.display().to_string() })),
        Form::Text => output::note(&format!("{count} events written to {}", to.display())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt::{DiskError, Operation};

    #[test]
    fn what_helps_is_said_for_each_trouble() {
        let disk = |kind: ErrorKind| {
            way_on(&ScanError::Disk(DiskError::new(Operation::Read, Path::new("log/1.seg"), kind.into())))
        };
        assert!(disk(ErrorKind::PermissionDenied).contains("as the user"));
        assert!(disk(ErrorKind::ReadOnlyFilesystem).contains("remount,rw"));
        let newer = OpenError::NewerFormat { dir: PathBuf::from("log"), found: 9 };
        assert!(way_on(&newer.into()).contains("newer holdfast"));
        let damaged = OpenError::FormatDamaged { path: PathBuf::from("log/format") };
        for error in [damaged.into(), ScanError::Open(OpenError::NotCreated { dir: PathBuf::from("log") })] {
            assert!(!way_on(&error).contains("log verify"), "{error}");
        }
    }
}
