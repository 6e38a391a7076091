//! `cluster backup`, `restore` and `drill`: backups of a log, made and used without a server.
//!
//! A restore writes into an empty directory under a new identity. It changes nothing that is there, and so
//! is not a guarded act.

use super::offline::hex;
use crate::{
    args::offline::{BackupArgs, DrillArgs, KeyArgs, RestoreArgs},
    commands::log::each_event,
    failure::Failure,
    output::{self, Form},
    roles::process,
};
use api::{Code, Outcome, Problem};
use backup::{
    Directory, Key, NewIdentity, ObjectError, RestoreError, Restored, Reuse, Store, To, VerifyError,
};
use domain::{codec, view};
use log::Record;
use rt::{Clock as _, Disk, OsRandom, Random as _, RealDisk, SystemClock};
use serde::Serialize;
use serde_json::json;
use std::{error::Error, fs, io, path::Path, sync::Arc};
use types::{Epoch, EventId, Index, NodeId, Timestamp, limits};

/// `holdfast cluster backup`
pub async fn backup(args: BackupArgs, form: Form) -> Result<(), Failure> {
    let to = args.to.as_deref().expect("without a place it is the server that is asked");
    if args.list {
        return list(&existing(to)?, form).await;
    }
    let key = key(&args.key).await?;
    match args.verify {
        Some(id) => verify(&existing(to)?, &key, id, form).await,
        None => make(&open(to)?, &key, &args, form).await,
    }
}

async fn make(store: &Store, key: &Key, args: &BackupArgs, form: Form) -> Result<(), Failure> {
    let dir = args.data_dir.join("log");
    if !dir.is_dir() {
        let what = format!("{} is no server's data directory: it has no log/", args.data_dir.display());
        return Err(Problem::new(Code::NotFound, what).with_hint("name it with --data-dir DIR").into());
    }
    let behind = noted(&dir).await?;
    let source = Arc::new(Directory::new(Arc::new(RealDisk), &dir));
    let reuse = if args.whole { Reuse::Nothing } else { Reuse::Objects };
    let done = ::backup::backup(store, key, source, &SystemClock, reuse).await;
    let done = done.map_err(|error| failed(&error, "holdfast log verify --data-dir DIR"))?;
    match form {
        Form::Json => output::outcome_json(&json!({
            "id": done.id.to_string(), "event": done.head.event, "index": done.head.index,
            "epoch": done.head.epoch, "chain": hex(&done.head), "snapshot": done.snapshot,
            "sent_bytes": done.sent.bytes, "reused_bytes": done.reused.bytes, "took_ms": done.took.as_ms(),
        })),
        Form::Text => output::outcome(&format!(
            "{}\nup to event {}, read back and verified in {}; {} bytes sent, {} were there\n",
            done.id, done.head.event, done.took, done.sent.bytes, done.reused.bytes
        )),
    }
    if let Some(tail) = behind.filter(|tail| *tail > done.head.index) {
        output::note(&format!(
            "the log goes on to entry {tail}; what is behind {} is not known to be committed, and is not in the backup",
            done.head.index
        ));
    }
    let Some(keep) = args.keep else { return Ok(()) };
    let pruned = ::backup::prune(store, key, &SystemClock, keep, limits::BACKUP_GRACE).await;
    let pruned = pruned.map_err(|error| {
        let text = format!("the backup {} is made, but old ones were not all removed", done.id);
        Failure::local(format!("{text}: {}", process::whole(&error)))
    })?;
    output::note(&format!(
        "{} backups are kept, {} removed with {} bytes",
        pruned.kept.len(),
        pruned.removed.len(),
        pruned.objects.bytes
    ));
    Ok(())
}

/// Waits, bounded, until everything that is durable now is noted as committed: a server notes it now and
/// then. Gives the last entry if that does not come.
async fn noted(dir: &Path) -> Result<Option<Index>, Failure> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let position = || {
        let found = log::wal::position(&disk, dir);
        found.map_err(|error| failed(&error, "holdfast log verify --data-dir DIR"))
    };
    let tail = position()?.tail.index;
    let deadline = tokio::time::Instant::now() + limits::COMMIT_NOTE_WAIT.into();
    while position()?.committed.index < tail {
        if tokio::time::Instant::now() > deadline {
            return Ok(Some(tail));
        }
        tokio::time::sleep(limits::WAIT_POLL.into()).await;
    }
    Ok(None)
}

async fn list(store: &Store, form: Form) -> Result<(), Failure> {
    let listed = ::backup::list(store).await.map_err(|error| of_object(&error))?;
    if form == Form::Json {
        let rows: Vec<_> = listed
            .iter()
            .map(|row| json!({ "id": row.id.to_string(), "event": row.id.event(), "index": row.id.index(), "at": row.id.time() }))
            .collect();
        output::json(&rows);
        return Ok(());
    }
    let row = |row: &::backup::Listed| {
        vec![row.id.to_string(), row.id.event().to_string(), output::time(row.id.time())]
    };
    let rows: Vec<Vec<String>> = listed.iter().map(row).collect();
    output::table(&["BACKUP", "EVENT", "MADE"], &rows, "no backups");
    Ok(())
}

async fn verify(store: &Store, key: &Key, id: Option<::backup::Id>, form: Form) -> Result<(), Failure> {
    let verified = ::backup::verify(store, key, id).await.map_err(|error| of_backup(&error))?;
    match form {
        Form::Json => output::outcome_json(&json!({
            "id": verified.id.to_string(), "event": verified.head.event, "reach": verified.reach.event,
            "chain": hex(&verified.head), "objects": verified.read.objects, "bytes": verified.read.bytes,
        })),
        Form::Text => output::outcome(&format!(
            "{}\nevery object is as it was written: {} of {} bytes; a restore can go to event {}\n",
            verified.id, verified.read.objects, verified.read.bytes, verified.reach.event
        )),
    }
    Ok(())
}

/// `holdfast cluster restore`
pub async fn restore(args: RestoreArgs, form: Form) -> Result<(), Failure> {
    let (store, key) = (existing(&args.from)?, key(&args.key).await?);
    let to = match (args.to_event, args.to_time) {
        (Some(event), _) => To::Event(event),
        (None, Some(time)) => To::Time(time),
        (None, None) => To::Last,
    };
    let made = is_empty(&args.into)?;
    let dir = process::data_dir(&args.into)?;
    let identity = NewIdentity {
        cluster: format!("{:032x}", OsRandom.u128()),
        node: NodeId::from_parts(SystemClock.now(), OsRandom.u128()),
    };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let log = dir.join("log");
    let restored = ::backup::restore(&store, &key, args.backup, disk, &log, to, &identity, time_of).await;
    let restored = restored.map_err(|error| {
        // It was empty before, and what is in it now is no log.
        let _kept_if_refused = fs::remove_dir_all(&log);
        if made == Made::Here {
            let _kept_if_filled = fs::remove_dir(&dir);
        }
        of_restore(&error)
    })?;
    let mut fold = Fold::default();
    each_event(&log, EventId::ZERO, |id, epoch, bytes| fold.add(id, epoch, bytes))?;
    say_restored(form, &args.into, &identity, &restored, &fold);
    if let Some(last) = restored.inside_batch_to {
        output::note(&format!(
            "the event that was asked for is inside a batch that ends with event {last}: the log ends before it"
        ));
    }
    fold.is_understood()
}

fn say_restored(form: Form, into: &Path, identity: &NewIdentity, restored: &Restored, fold: &Fold) {
    let Restored { from, of, head, end, fingerprint, .. } = restored;
    let NewIdentity { cluster, node } = identity;
    if form == Form::Json {
        output::outcome_json(&json!({
            "from": from.to_string(), "of": of, "cluster": cluster, "node": node, "event": head.event,
            "index": head.index, "chain": hex(head), "epoch": end.epoch, "snapshot": restored.snapshot,
            "inside_batch_to": restored.inside_batch_to, "fingerprint": fingerprint.to_string(),
            "views": fold.rows(),
        }));
        return;
    }
    output::outcome(&format!(
        "{} holds the log of cluster {of} up to event {}, entry {}, chain {}\nit is cluster {cluster} now, in \
         epoch {}\nfingerprint of all its events: {fingerprint}\n{}",
        into.display(),
        head.event,
        head.index,
        hex(head),
        end.epoch,
        fold.table()
    ));
    output::note(&format!("start it: holdfast server --data-dir {}", into.display()));
}

/// `holdfast cluster drill`
pub async fn drill(args: DrillArgs, form: Form) -> Result<(), Failure> {
    let (store, key) = (existing(&args.from)?, key(&args.key).await?);
    let scratch = args.scratch.unwrap_or_else(std::env::temp_dir);
    let mut fold = Fold::default();
    let each = |record: &Record| fold.add(record.id, record.epoch, &record.bytes);
    let drilled = ::backup::drill(&store, &key, Arc::new(RealDisk), &scratch, &SystemClock, each).await;
    let drilled = drilled.map_err(|error| of_restore(&error))?;
    fold.is_understood()?;
    match form {
        Form::Json => output::outcome_json(&json!({
            "from": drilled.from.to_string(), "event": drilled.event, "took_ms": drilled.took.as_ms(),
            "fingerprint": drilled.fingerprint.to_string(), "bytes": drilled.read.bytes, "views": fold.rows(),
        })),
        Form::Text => output::outcome(&format!(
            "{}\nwas restored up to event {} and folded in {}\nfingerprint of all its events: {}\n{}",
            drilled.from,
            drilled.event,
            drilled.took,
            drilled.fingerprint,
            fold.table()
        )),
    }
    Ok(())
}

/// Whether the new directory was there before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Here,
    Before,
}

fn is_empty(dir: &Path) -> Result<Made, Failure> {
    match fs::read_dir(dir).map(|mut inside| inside.next().is_none()) {
        Ok(true) => Ok(Made::Before),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Made::Here),
        Err(error) => Err(Failure::local(format!("cannot use {}: {error}", dir.display()))),
        Ok(false) => {
            let what = format!("{} is not empty, and a restore writes over nothing", dir.display());
            Err(Problem::new(Code::Conflict, what).with_hint("--into DIR with one that is empty").into())
        }
    }
}

fn time_of(record: &Record) -> Option<Timestamp> {
    codec::decode(record.id, record.epoch, &record.bytes).ok().map(|envelope| envelope.at)
}

fn open(place: &str) -> Result<Store, Failure> {
    Store::open(place)
        .map_err(|error| Failure::usage(process::whole(&error), "a directory, or s3://BUCKET/PREFIX"))
}

/// The same, where something must be there already: a name that was mistyped makes no directory.
fn existing(place: &str) -> Result<Store, Failure> {
    if place.contains("://") || Path::new(place).is_dir() {
        return open(place);
    }
    let problem = Problem::new(Code::NotFound, format!("there is no directory {place}"));
    Err(problem.with_hint("name the directory or bucket that holds the backups").into())
}

pub async fn key(args: &KeyArgs) -> Result<Key, Failure> {
    let made = "openssl rand -base64 32 > backup.key && chmod 600 backup.key";
    let key = match (&args.key_file, &args.key_command) {
        (Some(file), _) => Key::from_file(file),
        (None, Some(command)) => Key::from_command("sh", &["-c".to_owned(), command.clone()]).await,
        (None, None) => {
            let what = "backups are sealed: give --key-file FILE or --key-command COMMAND";
            return Err(Failure::usage(what, made));
        }
    };
    key.map_err(|error| Failure::usage(process::whole(&error), made))
}

/// The views, folded from every event, to be compared with those of a server.
#[derive(Default)]
struct Fold {
    views: view::Views,
    wrong: Option<String>,
}

#[derive(Serialize)]
struct ViewRow {
    name: &'static str,
    event: EventId,
    fingerprint: String,
}

impl Fold {
    fn add(&mut self, id: EventId, epoch: Epoch, bytes: &[u8]) {
        match codec::decode(id, epoch, bytes) {
            Ok(envelope) => self.views.apply(&envelope),
            Err(error) => {
                self.wrong.get_or_insert_with(|| error.to_string());
            }
        }
    }

    /// By name, as a server lists them.
    fn rows(&self) -> Vec<ViewRow> {
        let row = |name| {
            let print = self.views.fingerprint(name)?;
            let fingerprint = print.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(ViewRow { name, event: self.views.checkpoint(name)?, fingerprint })
        };
        let mut rows: Vec<_> = view::NAMES.into_iter().filter_map(row).collect();
        rows.sort_by_key(|row| row.name);
        rows
    }

    fn table(&self) -> String {
        let cells = |row: ViewRow| vec![row.name.to_owned(), row.event.to_string(), row.fingerprint];
        let rows: Vec<Vec<String>> = self.rows().into_iter().map(cells).collect();
        output::columns(&["VIEW", "EVENT", "FINGERPRINT"], &rows)
    }

    /// An event that this program cannot read, or that does not fit what was before it, is a failure.
    fn is_understood(&self) -> Result<(), Failure> {
        let stopped = |name: &&str| self.views.quarantined(name).map(|why| why.fault.to_string());
        let wrong = self.wrong.clone().or_else(|| view::NAMES.iter().find_map(stopped));
        let Some(why) = wrong else { return Ok(()) };
        let what = format!("every record is as it was written, but not all of it can be folded: {why}");
        let mut failure = Failure::local(what);
        failure.problem.hint = Some("use the Holdfast that wrote it, or a newer one".to_owned());
        Err(failure)
    }
}

fn failed(error: &dyn Error, hint: &str) -> Failure {
    let problem = Problem::new(Code::Internal, process::whole(error)).with_outcome(Outcome::NotExecuted);
    problem.with_hint(hint).into()
}

fn of_object(error: &ObjectError) -> Failure {
    let hint = match error {
        ObjectError::OtherKey { .. } => "--key-file FILE with the key of that id",
        ObjectError::OtherCluster { .. } => "--to with another directory or prefix",
        ObjectError::Damaged { .. } | ObjectError::Missing { .. } => {
            "--backup ID with an older one (holdfast cluster backup --list), or --to-event with an earlier event"
        }
        _ => "look at the store, and run the same command again",
    };
    failed(error, hint)
}

fn of_backup(error: &VerifyError) -> Failure {
    match error {
        VerifyError::Object(error) => of_object(error),
        VerifyError::None { .. } => {
            let problem = Problem::new(Code::NotFound, error.to_string());
            problem.with_hint("look at the directory or prefix").into()
        }
        VerifyError::Ends { .. } => failed(error, "holdfast cluster backup --list, and an older one"),
    }
}

fn of_restore(error: &RestoreError) -> Failure {
    match error {
        RestoreError::Backup(error) => of_backup(error),
        RestoreError::Broken { reached, .. } => {
            failed(error, &format!("--to-event {reached}, or --backup ID with another one"))
        }
        RestoreError::Beyond { ends, .. } => {
            let problem = Problem::new(Code::NotFound, error.to_string());
            problem.with_hint(format!("--to-event {ends}, or without it")).into()
        }
        _ => failed(error, "remove what was written, look at the disk, and restore again"),
    }
}
