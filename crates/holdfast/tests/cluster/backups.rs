//! Backups that servers make by themselves, when the one that makes them is gone.

use crate::{
    ledger::{Told, Writers, write},
    scene::{Cluster, Made, NAMES, SOON},
};
use demo::wait_for;
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};

const ALL: [usize; 3] = [0, 1, 2];

/// Three servers that all know one place for backups.
fn backed_up(flags: &[&str]) -> Cluster {
    let mut cluster = Cluster::machines(3);
    fs::create_dir(cluster.dir().join("backups")).expect("made");
    let key = cluster.dir().join("key");
    fs::write(&key, "A".repeat(43) + "=").expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("private");
    let own = ["--backup-to", "backups", "--backup-key-file", "key", "--backup-archive", "1s"];
    cluster.serve_with(&[&own, flags].concat());
    cluster.found(Made::default().flags);
    cluster.join(1);
    cluster.join(2);
    cluster.all_vote(3);
    cluster
}

fn backup(cluster: &Cluster, at: usize) -> Option<Value> {
    Some(cluster.status(at)?["backup"].clone()).filter(|found| !found.is_null())
}

/// Waits until a member says this of the backups.
fn until(cluster: &Cluster, at: usize, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, SOON, || backup(cluster, at).filter(|found| is(found)))
        .unwrap_or_else(|error| panic!("{error}: {:?}", backup(cluster, at)))
}

#[test]
fn fm_b_whoever_leads_next_goes_on_with_the_backups() {
    let mut cluster = backed_up(&["--backup-every", "2s", "--backup-drill", "3s", "--backup-keep", "3"]);
    let leader = cluster.leader_among(&ALL);
    let rest: Vec<usize> = ALL.into_iter().filter(|at| *at != leader).collect();
    let writers = Writers::start(&cluster, &rest);
    writers.more(10);
    // Every member says the same of it.
    for at in ALL {
        until(&cluster, at, "a backup and a drill", |found| {
            found["last"]["event"].is_u64()
                && found["drill"]["event"].is_u64()
                && found["archive"].is_object()
        });
    }
    cluster.kill(leader);
    let next = cluster.leader_among(&rest);
    writers.more(10);
    let since = backup(&cluster, next).expect("known")["last"]["event"].as_u64().expect("an event");
    cluster.start(leader);
    cluster.all_vote(3);
    let ledger = writers.stop();
    ledger.agrees(&cluster, &ALL);
    let line = write(&cluster, rest[0]);
    let Told::Executed(event) = line.told else { panic!("{line:?}") };
    let done = until(&cluster, rest[0], "a later backup, and all archived", |found| {
        let event_of = |part: &str| found[part]["event"].as_u64().unwrap_or_default();
        event_of("last") > since && event_of("archive") >= event && event_of("last") >= event
    });
    let goes_on = |failure: &&Value| failure["goes_on"] == true;
    let failures = done["failures"].as_array().cloned().unwrap_or_default();
    assert_eq!(failures.iter().find(goes_on), None, "{done}");
    // Nobody fought over the store: all of it is right.
    ALL.iter().for_each(|at| cluster.kill(*at));
    let verify = ["cluster", "backup", "--to", "backups", "--key-file", "key", "--verify", "--json"];
    let verified = cluster.cli(0, &verify).executed().expect("verifies").json().expect("JSON");
    assert!(verified["reach"].as_u64() >= Some(event), "{verified}");
}

#[test]
fn fm_b_all_members_are_lost_and_what_was_archived_is_not() {
    let mut cluster = backed_up(&["--backup-every", "1h", "--backup-drill", "off"]);
    let leader = cluster.leader_among(&ALL);
    until(&cluster, leader, "the first backup", |found| found["last"]["event"].is_u64());
    let line = write(&cluster, (leader + 1) % 3);
    let Told::Executed(event) = line.told else { panic!("{line:?}") };
    let acknowledged = Instant::now();
    until(&cluster, leader, "it to be archived", |found| found["archive"]["event"].as_u64() >= Some(event));
    assert!(acknowledged.elapsed() < Duration::from_secs(10), "{:?}", acknowledged.elapsed());
    for at in ALL {
        cluster.kill(at);
        fs::remove_dir_all(cluster.data(at)).expect("the disk is lost");
    }
    let into = cluster.dir().join("new").display().to_string();
    let restore = ["cluster", "restore", "--from", "backups", "--key-file", "key", "--into", &into, "--json"];
    let restored = cluster.cli(0, &restore).executed().expect("restored").json().expect("JSON");
    assert!(restored["event"].as_u64() >= Some(event), "{restored}");
    let events = cluster.cli(0, &["log", "cat", "--data-dir", &into, "--json"]).executed().expect("read");
    assert!(
        events.stdout.contains(&line.request.to_string()),
        "{} is there, said {}",
        line.request,
        NAMES[leader]
    );
}
