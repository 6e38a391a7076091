//! `cluster recover`: begins a new cluster from one member's disk, when the majority is lost for good.
//!
//! ```text
//!   explained, confirmed ─► journal ─► recovering/: plan, peer/ ─► the log's own recovery ─► peer/, member.toml
//!         nothing is changed │ the old cluster's member, as it was │ the new cluster's; any start goes on
//! ```
//!
//! Invariants:
//! - until the log is the new cluster's, the directory is the old member's, unchanged; from then on the
//!   plan says what is left to do, and the same command, or the server's next start, does it.
//! - nothing that the old cluster's members trust is used again: cluster, node, authority and certificate
//!   are new. The old authority is moved aside, not removed.

use super::offline::{actor, at, hex, is_a_reason, unread, unwritten};
use crate::{
    args::offline::RecoverArgs,
    commands::confirm::{self, Answer},
    failure::Failure,
    output::{self, Form},
    roles::process,
};
use api::{Code, Explained, Override, Problem};
use control::{Ended, Journal, Note, Seen, cluster::Settings, peer::Authority};
use domain::{Actor, Confirmation, Confirmed};
use log::{
    Head,
    wal::{self, Found},
};
use rt::{Clock as _, Disk, OsRandom, Random as _, RealDisk, SystemClock};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};
use types::NodeId;

/// Below the data directory; there from the confirmation until all is done.
const STAGE: &str = "recovering";
/// In it: written last, so that what it names is there.
const PLAN: &str = "plan.json";
/// The plan when all of it is done, in the data directory: what the same command is answered from.
const DONE: &str = "recovered.json";
const PEER: &str = "peer";
const PLAN_VERSION: u32 = 1;
/// Each invariant that is overridden, and what is typed for it.
const RISKS: [(&str, &str); 2] = [
    ("acked_is_durable", "what only other members have is lost"),
    ("one_authority", "no other member runs or will run"),
];

/// What was confirmed and has begun.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    version: u32,
    /// What it was confirmed with.
    token: String,
    /// The new cluster and its only member.
    cluster: String,
    node: NodeId,
    /// Whose directory it was.
    old_cluster: String,
    old_node: NodeId,
    why: Confirmed,
}

/// Explains, asks, and makes the directory the only member of a new cluster.
pub fn run(args: RecoverArgs, form: Form) -> Result<(), Failure> {
    let RecoverArgs { data_dir, why } = args;
    is_a_reason(&why.reason, "holdfast cluster recover --help")?;
    if why.reason.trim().is_empty() {
        let what = "an act that overrides invariants needs a reason";
        return Err(Failure::usage(what, "holdfast cluster recover --data-dir DIR --reason TEXT"));
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let position = || wal::position(&disk, &data_dir.join("log")).map_err(|error| unread(&error));
    finish(&data_dir)?;
    let done = plan_of(&data_dir, &data_dir.join(DONE))?;
    if done.is_some_and(|plan| Some(plan.token) == why.confirm.confirm) {
        say(form, &data_dir, &position()?);
        return Ok(());
    }
    let found = position()?;
    let explained = explained(&found);
    let token = explained.token.clone();
    if let Some(given) = &why.confirm.confirm {
        is_of(given, &found)?;
        are_acknowledged(&why.confirm.acknowledge)?;
    } else if let Answer::Explained = confirm::settle(form, &explained, &why.confirm, || {
        let dir = confirm::quoted(&data_dir.display().to_string());
        let reason = confirm::quoted(&why.reason);
        format!("holdfast cluster recover --data-dir {dir} --reason {reason} --confirm {token}")
    })? {
        return Ok(());
    }
    recover(&disk, &data_dir, &token, why.reason)?;
    say(form, &data_dir, &position()?);
    Ok(())
}

/// Writes down what was confirmed, and does it.
fn recover(disk: &Arc<dyn Disk>, data_dir: &Path, token: &str, reason: String) -> Result<(), Failure> {
    // From here on no server has the directory: its journal has one owner at a time.
    let (journal, _) = Journal::open(disk, data_dir).map_err(|error| unwritten(&error))?;
    let found = wal::position(disk, &data_dir.join("log")).map_err(|error| unread(&error))?;
    is_of(token, &found)?;
    let (settings, now) = (settings(data_dir)?, SystemClock.now());
    let plan = Plan {
        version: PLAN_VERSION,
        token: token.to_owned(),
        cluster: format!("{:032x}", OsRandom.u128()),
        node: NodeId::from_parts(now, OsRandom.u128()),
        old_cluster: found.cluster.clone(),
        old_node: found.node,
        why: Confirmed {
            actor: Actor::System,
            kind: Confirmation::Offline,
            acknowledged: RISKS.iter().map(|(invariant, _)| (*invariant).to_owned()).collect(),
            reason,
            at: now,
        },
    };
    note(&journal, data_dir, &plan, &found.tail, Ended::Confirmed, plan.why.reason.clone())?;
    let done = stage(data_dir, &plan).and_then(|()| carry_out(disk, data_dir, &plan, &settings));
    match done {
        Ok(found) => executed(&journal, data_dir, &plan, &found),
        Err(why) => {
            let _said_below = note(&journal, data_dir, &plan, &found.tail, Ended::Failed, why.clone());
            let stage = data_dir.join(STAGE);
            if matches!(plan_of(data_dir, &stage.join(PLAN)), Ok(None)) {
                // It binds nobody, so it does not matter either if it stays.
                let _removed = fs::remove_dir_all(&stage);
            }
            return Err(failed(data_dir, &why));
        }
    }
    Ok(())
}

/// Finishes a recovery of this directory that has begun, if there is one. Nobody else may have it open.
///
/// # Errors
/// The disk refuses, or another process has the directory; it can be called again.
pub fn finish(data_dir: &Path) -> Result<(), Failure> {
    let Some(plan) = plan_of(data_dir, &data_dir.join(STAGE).join(PLAN))? else { return Ok(()) };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let (journal, _) = Journal::open(&disk, data_dir).map_err(|error| unwritten(&error))?;
    let settings = settings(data_dir)?;
    let found = carry_out(&disk, data_dir, &plan, &settings).map_err(|why| failed(data_dir, &why))?;
    executed(&journal, data_dir, &plan, &found);
    Ok(())
}

/// The plan in this file, if the log is that of the new cluster already. A plan without that is of a
/// recovery that never began, and binds nobody.
fn plan_of(data_dir: &Path, path: &Path) -> Result<Option<Plan>, Failure> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::local(format!("cannot read {}: {error}", path.display()))),
    };
    let plan: Plan = serde_json::from_slice(&text)
        .map_err(|error| Failure::local(format!("{} is damaged: {error}", path.display())))?;
    if plan.version != PLAN_VERSION {
        let Plan { version, .. } = plan;
        let what = format!("{} is of version {version}; start the Holdfast that wrote it", path.display());
        return Err(Failure::local(what));
    }
    let owner = wal::owner(&RealDisk, &data_dir.join("log"));
    let owner = owner.map_err(|error| unread(&error.into()))?;
    Ok(owner.is_some_and(|owner| owner == (plan.cluster.clone(), plan.node)).then_some(plan))
}

/// Puts a new authority and certificate beside the old ones, and the plan last.
fn stage(data_dir: &Path, plan: &Plan) -> Result<(), String> {
    let dir = data_dir.join(STAGE);
    match fs::remove_dir_all(&dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(about(&dir)(error)),
        _ => RealDisk.create_dir(&dir).map_err(|error| error.to_string())?,
    }
    let now = SystemClock.now();
    let authority = Authority::make(&plan.cluster, now).map_err(|error| process::whole(&error))?;
    authority.save(&dir).map_err(|error| process::whole(&error))?;
    let identity = authority.issue(plan.node, now).map_err(|error| process::whole(&error))?;
    identity.save(&dir).map_err(|error| process::whole(&error))?;
    let text = serde_json::to_vec(plan).expect("a plan is plain data");
    rt::replace_file(&RealDisk, &dir.join(PLAN), &text).map_err(|error| error.to_string())?;
    RealDisk.sync_dir(data_dir).map_err(|error| error.to_string())
}

/// What the plan says; each step may be found done.
fn carry_out(
    disk: &Arc<dyn Disk>,
    data_dir: &Path,
    plan: &Plan,
    settings: &Settings,
) -> Result<Found, String> {
    let (dir, why) = (data_dir.join("log"), serde_json::to_vec(&plan.why).expect("plain data"));
    let found = log::cluster::recover(disk, &dir, &plan.cluster, plan.node, settings.member(), &why);
    let found = found.map_err(|error| process::whole(&error))?;
    let (stage, peer, aside) = (data_dir.join(STAGE), data_dir.join(PEER), aside(data_dir, plan.old_node));
    let sync = |dir: &Path| disk.sync_dir(dir).map_err(|error| error.to_string());
    let new = stage.join(PEER);
    if new.exists() {
        if peer.exists() {
            fs::rename(&peer, &aside).map_err(about(&aside))?;
            sync(data_dir)?;
        }
        fs::rename(&new, &peer).map_err(about(&peer))?;
        sync(&stage)?;
        sync(data_dir)?;
    }
    // Members of the old cluster stand in the log and are none of this one.
    let settings = Settings { joined: false, recovered_at: Some(found.tail.event.get()), ..settings.clone() };
    settings.save(data_dir).map_err(|error| process::whole(&error))?;
    // The plan goes first: a stage without one means nothing.
    fs::rename(stage.join(PLAN), data_dir.join(DONE)).map_err(about(&stage))?;
    sync(&stage)?;
    sync(data_dir)?;
    fs::remove_dir_all(&stage).map_err(about(&stage))?;
    sync(data_dir)?;
    Ok(found)
}

/// Where the old member's certificates are kept.
fn aside(data_dir: &Path, node: NodeId) -> PathBuf {
    data_dir.join(format!("peer-of-{node}"))
}

fn about(path: &Path) -> impl FnOnce(io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

fn settings(data_dir: &Path) -> Result<Settings, Failure> {
    let settings = Settings::load(data_dir);
    Ok(settings.map_err(|error| Failure::local(process::whole(&error)))?.unwrap_or_default())
}

fn note(
    journal: &Journal,
    dir: &Path,
    plan: &Plan,
    tail: &Head,
    outcome: Ended,
    reason: String,
) -> Result<(), Failure> {
    let Plan { cluster, node, old_cluster, old_node, .. } = plan;
    let act = format!("cluster recover: {old_node} of {old_cluster} becomes {node} of {cluster}");
    let command = format!("cluster recover --data-dir {}", dir.display());
    let mut note = Note::offline(outcome, actor(), act, command, reason);
    if let Some(confirmation) = &mut note.confirmation {
        confirmation.acknowledged = plan.why.acknowledged.clone();
    }
    let seen = Seen { node: Some(*node), epoch: tail.epoch, event: tail.event };
    journal.append(SystemClock.now(), seen, note).map(drop).map_err(|error| unwritten(&error))
}

/// It is done, and stays so; that it was confirmed stands in the journal already.
fn executed(journal: &Journal, data_dir: &Path, plan: &Plan, found: &Found) {
    if let Err(failure) = note(journal, data_dir, plan, &found.tail, Ended::Executed, at(&found.tail)) {
        output::note(&format!("note: {}", failure.problem.detail));
    }
}

fn failed(data_dir: &Path, why: &str) -> Failure {
    let mut failure = Failure::local(why);
    let dir = confirm::quoted(&data_dir.display().to_string());
    failure.problem.hint =
        Some(format!("holdfast cluster recover --data-dir {dir} … (goes on where it was)"));
    failure
}

fn explained(found: &Found) -> Explained {
    let Found { cluster, node, tail, committed, .. } = found;
    let row = |name: &str, head: &Head| json!({ "name": name, "event": head.event, "index": head.index, "epoch": head.epoch, "chain": hex(head) });
    let unsure = tail.index.get() - committed.index.get();
    Explained {
        act: format!("cluster recover {node}"),
        will: vec![
            format!(
                "make this log, up to {}, that of a new cluster with one member, under new names",
                at(tail)
            ),
            format!("count all of it as committed: {unsure} entries at its end are not known to have been"),
            "make a new authority and certificate, and keep the old ones aside".to_owned(),
            "open the next epoch; a fence is lifted".to_owned(),
        ],
        touches: vec![format!("node {node} of cluster {cluster}; no other member's disk")],
        irreversible: vec![
            "what was acknowledged behind this position is missing from the new cluster: nothing is only if \
             this member is the furthest of all"
                .to_owned(),
            "so run this with --explain on every member that is left, and choose the highest (epoch, index)"
                .to_owned(),
            format!("members of cluster {cluster} can never speak to the new one; they join anew, empty"),
        ],
        invariants: Vec::new(),
        overrides: RISKS
            .iter()
            .map(|(invariant, typed)| Override {
                invariant: (*invariant).to_owned(),
                type_this: (*typed).to_owned(),
            })
            .collect(),
        facts: json!([row("durable here", tail), row("known as committed", committed)]),
        token: token(found),
        expires_ms: 0,
    }
}

/// The node and where its log ends; not to be taken for the confirmation of another act.
fn token(found: &Found) -> String {
    format!("rec_{}_{}_{}", found.node, found.tail.index, &hex(&found.tail)[..16])
}

fn is_of(given: &str, found: &Found) -> Result<(), Failure> {
    if given == token(found) {
        return Ok(());
    }
    let what = "the confirmation is for another act or node, or the log has grown since it was explained";
    Err(Problem::new(Code::ConfirmationStale, what).with_hint("the same command without --confirm").into())
}

fn are_acknowledged(typed: &[String]) -> Result<(), Failure> {
    let missing = RISKS.iter().find(|(_, text)| !typed.iter().any(|typed| typed == text));
    let Some((invariant, text)) = missing else { return Ok(()) };
    let what = format!("this overrides {invariant}, which was not acknowledged; nothing was done");
    let hint = format!("the same command with --acknowledge {}", confirm::quoted(text));
    Err(Problem::new(Code::ConfirmationRequired, what).with_hint(hint).into())
}

fn say(form: Form, data_dir: &Path, found: &Found) {
    let Found { cluster, node, tail, .. } = found;
    match form {
        Form::Json => output::outcome_json(&json!({
            "cluster": cluster, "node": node,
            "tail": { "event": tail.event, "index": tail.index, "epoch": tail.epoch, "chain": hex(tail) },
        })),
        Form::Text => {
            output::outcome(&format!(
                "{node} is the only member of the new cluster {cluster}\nits log ends at {}, chain {}\n",
                at(tail),
                hex(tail)
            ));
            output::note(&format!("start it: holdfast server --data-dir {}", data_dir.display()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_override_is_acknowledged_word_for_word() {
        let typed = RISKS.map(|(_, text)| text.to_owned());
        assert!(are_acknowledged(&typed).is_ok());
        assert!(are_acknowledged(&typed[..1]).is_err_and(|failure| failure.exit == 5));
        assert!(are_acknowledged(&["yes".to_owned(), typed[1].clone()]).is_err());
    }
}
