//! `cluster fence --data-dir`: on the disk of a member that does not run.

use super::*;
use control::{Ended, Entry, Journal};
use rt::{Disk, RealDisk};
use std::path::Path;

/// No server is asked: nobody listens there.
const NOWHERE: &str = "http://127.0.0.1:9";

fn member(dir: &Path) {
    let place = dir.to_str().expect("text");
    let made = ["cluster", "init", "--data-dir", place, "--name", "one", "--peer", "127.0.0.1:7071"];
    let said = holdfast(NOWHERE, &made);
    assert_eq!(said.code, 0, "{}", said.err);
}

fn journal(dir: &Path) -> Vec<Entry> {
    let mut entries = Vec::new();
    Journal::read(&RealDisk, dir, |entry| entries.push(entry)).expect("a sound journal");
    entries
}

#[test]
fn a_member_is_fenced_on_its_disk_once_it_is_confirmed() {
    let dir = tempfile::tempdir().expect("a directory");
    member(dir.path());
    let before = journal(dir.path()).len();
    let place = dir.path().to_str().expect("text");
    let fence = ["cluster", "fence", "--data-dir", place, "--reason", "cut off"];
    let only = holdfast(NOWHERE, &[&fence[..], &["--explain"]].concat());
    assert_eq!(only.code, 0, "{}", only.err);
    assert!(only.out.contains("sequence nothing") && only.out.contains("durable here"), "{}", only.out);

    let asked = holdfast(NOWHERE, &[&fence[..], &["--yes"]].concat());
    assert_eq!(asked.code, 5, "{}", asked.err);
    let next =
        asked.err.lines().find_map(|line| line.trim().strip_prefix("next: holdfast ")).expect("a command");
    let token = next.rsplit(' ').next().expect("a token");
    assert!(token.starts_with("off_"), "{next}");
    let other = holdfast(NOWHERE, &[&fence[..], &["--confirm", "off_other"]].concat());
    assert_eq!(other.code, 5, "{}", other.err);
    assert_eq!(journal(dir.path()).len(), before, "nothing was done so far");

    let held = Journal::open(&(Arc::new(RealDisk) as Arc<dyn Disk>), dir.path()).expect("opened");
    let locked = holdfast(NOWHERE, &[&fence[..], &["--confirm", token]].concat());
    assert_eq!(locked.code, 6, "{}", locked.err);
    assert!(locked.err.contains("a server runs there"), "{}", locked.err);
    drop(held);

    let done = holdfast(NOWHERE, &[&fence[..], &["--confirm", token]].concat());
    assert_eq!(done.code, 0, "{}", done.err);
    assert!(
        done.out.contains("is fenced in epoch") && done.out.contains("its log ends at entry"),
        "{}",
        done.out
    );
    let written = journal(dir.path()).split_off(before);
    let outcomes: Vec<Ended> = written.iter().map(|entry| entry.ended).collect();
    assert_eq!(outcomes, [Ended::Confirmed, Ended::Executed]);
    assert_eq!(written[0].reason, "cut off");
    assert!(written.iter().all(|entry| entry.actor.starts_with("user ")), "{written:?}");

    let again = holdfast(NOWHERE, &[&fence[..], &["--json"]].concat());
    assert_eq!(again.code, 0, "{}", again.err);
    let position: Value = serde_json::from_str(&again.out).expect("one value");
    assert!(position["fenced"].is_u64() && position["tail"]["chain"].is_string(), "{position}");
    assert_eq!(journal(dir.path()).len(), before + 2, "doing it again does nothing");
}

#[test]
fn a_directory_without_a_log_is_not_fenced_nor_written_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let place = dir.path().to_str().expect("text");
    let said = holdfast(NOWHERE, &["cluster", "fence", "--data-dir", place]);
    assert_eq!(said.code, 4, "{}", said.err);
    assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 0);
}
