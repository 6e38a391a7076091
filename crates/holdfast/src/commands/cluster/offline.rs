//! `cluster fence --data-dir`: fences a member that does not run, on its own disk.
//!
//! There is no server that could hold a token. What is confirmed is a position: the token names the node
//! and the end of its log, so it fits nothing else, and the directory's journal takes the act before it
//! is done. Whoever can write to the directory needs no secret to do worse.

use crate::{
    args::cluster::FenceArgs,
    commands::confirm::{self, Answer},
    failure::Failure,
    output::{self, Form},
};
use api::{Code, Explained, Outcome, Problem, Proof};
use control::{Ended, Journal, JournalError, Note, Seen};
use log::{
    Head,
    wal::{self, Found, OpenError, OpenMemberError},
};
use rt::{Clock as _, Disk, RealDisk, SystemClock};
use serde_json::json;
use std::{path::Path, sync::Arc};
use types::{Epoch, limits};

/// Explains, asks, fences, and prints the final position.
pub fn fence(args: FenceArgs, form: Form) -> Result<(), Failure> {
    let data_dir = args.data_dir.as_deref().unwrap_or(Path::new("."));
    is_a_reason(&args.reason, "holdfast cluster fence --help")?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let dir = data_dir.join("log");
    let found = wal::position(&disk, &dir).map_err(|error| unread(&error))?;
    if let Some(epoch) = found.fenced {
        say(form, &found, epoch, "was fenced before");
        return Ok(());
    }
    let explained = explained(&found);
    if let Some(given) = &args.confirm.confirm {
        is_of(given, &found)?;
    } else if let Answer::Explained = confirm::settle(form, &explained, &args.confirm, || {
        let dir = confirm::quoted(&data_dir.display().to_string());
        let reason = match args.reason.is_empty() {
            true => String::new(),
            false => format!(" --reason {}", confirm::quoted(&args.reason)),
        };
        format!("holdfast cluster fence --data-dir {dir}{reason} --confirm {}", explained.token)
    })? {
        return Ok(());
    }
    // From here on no server has the directory: its journal has one owner at a time.
    let (journal, _) = Journal::open(&disk, data_dir).map_err(|error| unwritten(&error))?;
    let now = wal::position(&disk, &dir).map_err(|error| unread(&error))?;
    is_of(&explained.token, &now)?;
    let note = |ended, reason: String| {
        let command = format!("cluster fence --data-dir {} ({})", data_dir.display(), explained.token);
        Note::offline(ended, actor(), explained.act.clone(), command, reason)
    };
    let Head { epoch, event, .. } = now.committed;
    let seen = Seen { node: Some(now.node), epoch, event };
    let write = |note| journal.append(SystemClock.now(), seen, note).map_err(|error| unwritten(&error));
    write(note(Ended::Confirmed, args.reason.clone()))?;
    match wal::fence(&disk, &dir) {
        Ok(done) => {
            let epoch = done.fenced.unwrap_or(done.committed.epoch);
            say(form, &done, epoch, "is fenced");
            // It is fenced, and stays so; that it was confirmed stands in the journal already.
            if let Err(failure) = write(note(Ended::Executed, at(&done.tail))) {
                output::note(&format!("note: {}", failure.problem.detail));
            }
            Ok(())
        }
        Err(error) => {
            let _said_below = write(note(Ended::Failed, error.to_string()));
            Err(unread(&error))
        }
    }
}

/// Whether it can go into the journal as a reason.
pub(super) fn is_a_reason(reason: &str, help: &str) -> Result<(), Failure> {
    if reason.chars().count() <= limits::REASON_CHARS && !reason.chars().any(char::is_control) {
        return Ok(());
    }
    let what = format!("the reason is one line of at most {} characters", limits::REASON_CHARS);
    Err(Failure::usage(what, help))
}

/// Who acts, as far as this machine knows.
pub(super) fn actor() -> String {
    format!("user {} of this machine", rustix::process::getuid().as_raw())
}

fn explained(found: &Found) -> Explained {
    let row = |name: &str, head: &Head| json!({ "name": name, "event": head.event, "index": head.index, "epoch": head.epoch, "chain": hex(head) });
    Explained {
        act: format!("cluster fence {}", found.node),
        will: vec![
            format!("mark node {} as fenced in epoch {}", found.node, found.committed.epoch),
            "have it sequence nothing, whoever starts it, until it learns a higher epoch".to_owned(),
        ],
        touches: vec![format!("node {} of cluster {}; no other member", found.node, found.cluster)],
        irreversible: vec!["only a higher epoch lifts the mark".to_owned()],
        invariants: vec![Proof {
            name: "one_authority".to_owned(),
            proven_by: "a fence is no vote: it deposes nobody, and the node goes on to follow and to vote"
                .to_owned(),
        }],
        overrides: Vec::new(),
        facts: json!([row("durable here", &found.tail), row("known as committed", &found.committed)]),
        token: token(found),
        expires_ms: 0,
    }
}

/// The node and where its log ends.
fn token(found: &Found) -> String {
    format!("off_{}_{}_{}", found.node, found.tail.index, &hex(&found.tail)[..16])
}

fn is_of(given: &str, found: &Found) -> Result<(), Failure> {
    if given == token(found) {
        return Ok(());
    }
    let what = "the confirmation is for another node, or the log has grown since it was explained";
    Err(Problem::new(Code::ConfirmationStale, what).with_hint("the same command without --confirm").into())
}

pub(super) fn hex(head: &Head) -> String {
    head.chain.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn at(head: &Head) -> String {
    format!("entry {}, event {}, epoch {}", head.index, head.event, head.epoch)
}

fn say(form: Form, found: &Found, epoch: Epoch, how: &str) {
    let Found { cluster, node, tail, committed, .. } = found;
    match form {
        Form::Json => {
            let head = |head: &Head| json!({ "event": head.event, "index": head.index, "epoch": head.epoch, "chain": hex(head) });
            output::outcome_json(&json!({
                "cluster": cluster, "node": node, "fenced": epoch,
                "tail": head(tail), "committed": head(committed),
            }));
        }
        Form::Text => output::outcome(&format!(
            "{node} {how} in epoch {epoch}\nits log ends at {}, chain {}\nknown as committed: {}\n",
            at(tail),
            hex(tail),
            at(committed)
        )),
    }
}

pub(super) fn unread(error: &OpenMemberError) -> Failure {
    let (code, hint) = match error.open_error() {
        Some(OpenError::NotCreated { .. }) => {
            (Code::NotFound, "name a server's data directory with --data-dir DIR")
        }
        Some(OpenError::Locked { .. }) => {
            (Code::Conflict, "ask the server that runs there: holdfast cluster fence --server URL")
        }
        _ => (Code::Internal, "holdfast log verify --data-dir DIR"),
    };
    Problem::new(code, error.to_string()).with_outcome(Outcome::NotExecuted).with_hint(hint).into()
}

pub(super) fn unwritten(error: &JournalError) -> Failure {
    let hint = match error {
        JournalError::Disk(disk) if disk.is_locked() => {
            "a server runs there; ask it: holdfast cluster fence --server URL"
        }
        _ => "an act that cannot be written down is not done; mend the disk under audit/",
    };
    Problem::new(Code::Unavailable, error.to_string()).with_hint(hint).into()
}
