//! A member whose disk is full, on a real small file system.

use crate::{
    disk::Disk,
    ledger::{Ledger, Told, Writers, write},
    scene::{Cluster, NAMES, SOON},
};
use demo::wait_for;
use std::path::PathBuf;

const ALL: [usize; 3] = [0, 1, 2];

/// Three members; the first one, which leads, has the small disk.
fn on(disk: &Disk, flags: &[&str]) -> Cluster {
    let mut cluster = Cluster::machines(3);
    cluster.keep_in(0, disk.data());
    cluster.found(flags);
    cluster.join(1);
    cluster.join(2);
    cluster.all_vote(3);
    cluster
}

/// Whether a member says of another that its disk is short of space.
fn short(cluster: &Cluster, asked: usize, of: usize) -> Option<bool> {
    let status = cluster.status(asked)?;
    let rows = status["members"].as_array()?;
    rows.iter().find(|row| row["name"] == NAMES[of])?["short_of_space"].as_bool()
}

/// Writes until the member with the full disk has used its reserve. What was said.
fn use_up(cluster: &Cluster) -> Ledger {
    let writers = Writers::eager(cluster, &[1, 1, 1, 2, 2, 2, 0, 0]);
    let noticed =
        wait_for("the full disk to be noticed", SOON, || short(cluster, 1, 0).filter(|short| *short));
    let ledger = writers.stop();
    assert!(noticed.is_ok(), "{noticed:?} after {} writes: {:?}", ledger.0.len(), cluster.status(1));
    ledger
}

fn recovers(cluster: &Cluster, disk: &Disk) {
    assert_eq!(cluster.get(0, "/v1/nodes").expect("an answer").status, 200, "reads go on");
    disk.clear();
    wait_for("space to be noticed", SOON, || short(cluster, 1, 0).filter(|short| !short)).expect("by itself");
    for at in ALL {
        let mut last = None;
        wait_for("a write", SOON, || {
            last = Some(write(cluster, at));
            last.as_ref().is_some_and(|line| matches!(line.told, Told::Executed(_))).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {last:?}"));
    }
}

#[test]
fn fm_cfg6_a_leader_with_a_full_disk_hands_over_and_recovers_by_itself() {
    let disk = Disk::new(24);
    let cluster = on(&disk, &[]);
    assert_eq!(cluster.leader_among(&ALL), 0);
    disk.fill();
    let ledger = use_up(&cluster);
    let next = cluster.leader_among(&[1, 2]);
    assert_ne!(next, 0);
    let line = write(&cluster, next);
    assert!(matches!(line.told, Told::Executed(_)), "the others write on: {line:?}");
    recovers(&cluster, &disk);
    ledger.agrees(&cluster, &ALL);
}

#[test]
fn fm_cfg6_a_primary_with_a_full_disk_refuses_and_asks_for_a_handover() {
    let disk = Disk::new(24);
    let cluster = on(&disk, &["--failover", "operator"]);
    disk.fill();
    let ledger = use_up(&cluster);
    for at in ALL {
        let line = write(&cluster, at);
        assert_eq!(line.told, Told::NotExecuted, "{line:?}");
        assert!(line.words.starts_with("507 storage_full"), "{line:?}");
    }
    assert_eq!(cluster.leader_of(&ALL), Some(0), "nobody takes authority by itself");
    let ready = cluster.get(0, "/health/ready").expect("an answer");
    let said = ready.body.to_string();
    assert!(said.contains("disk") && said.contains("handover"), "it asks for a handover: {ready:?}");
    recovers(&cluster, &disk);
    ledger.agrees(&cluster, &ALL);
}

#[test]
fn fm_cfg7_a_snapshot_that_cannot_be_made_or_read_costs_nothing() {
    let disk = Disk::new(24);
    let mut cluster = on(&disk, &[]);
    let made = |cluster: &Cluster| {
        let line = write(cluster, 0);
        assert!(matches!(line.told, Told::Executed(_)), "{line:?}");
        cluster.cli(0, &["cluster", "snapshot", "--json"])
    };
    for _ in 0..2 {
        made(&cluster).executed().expect("a snapshot");
    }
    // One that cannot be made says why, and writes go on.
    disk.fill();
    let refused = made(&cluster);
    assert!([1, 6].contains(&refused.code) && refused.stderr.contains("space"), "{refused:?}");
    let line = write(&cluster, 0);
    assert!(matches!(line.told, Told::Executed(_)), "{line:?}");
    disk.clear();
    // The newest is damaged: the one before is used, and nothing is missing.
    cluster.stop(0);
    let snapshots = std::fs::read_dir(disk.data().join("log/snapshots")).expect("snapshots");
    let mut paths: Vec<PathBuf> = snapshots.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    assert_eq!(paths.len(), 2, "the last two are kept: {paths:?}");
    let mut bytes = std::fs::read(&paths[1]).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&paths[1], bytes).expect("written");
    cluster.start(0);
    cluster.all_vote(3);
    cluster.same_everywhere(&ALL);
    made(&cluster).executed().expect("a snapshot");
}
