//! A member whose disk is full, on a real small file system.

use crate::{
    ledger::{Ledger, Told, Writers, write},
    scene::{Cluster, NAMES, SOON},
};
use demo::wait_for;
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

const ALL: [usize; 3] = [0, 1, 2];

/// A small disk; nothing of it is left when it is dropped.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn new(mebibytes: u32) -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-disk-").tempdir().expect("a directory");
        let size = format!("size={mebibytes}m");
        mount("mount", &["-t", "tmpfs", "-o", &size, "holdfast-test"], dir.path());
        Self { dir }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Leaves not one byte.
    fn fill(&self) {
        let mut file = File::create(self.dir.path().join("fill")).expect("a file");
        for size in [1 << 20, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn clear(&self) {
        std::fs::remove_file(self.dir.path().join("fill")).expect("removed");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file open on it is being killed.
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

fn mount(program: &str, arguments: &[&str], at: &Path) {
    let status = Command::new(program).args(arguments).arg(at).status().expect("it runs");
    assert!(status.success(), "{program} {arguments:?}: this needs root");
}

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
