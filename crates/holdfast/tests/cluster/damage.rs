//! A member whose log has a damaged record: it asks the others for what is lost, and takes no part until
//! it is back.

use crate::{
    ledger::{Told, Writers, write},
    net::Way,
    scene::{Cluster, Made, NAMES, SOON},
};
use demo::wait_for;
use rt::Boundary::{self, *};
use std::path::PathBuf;

const ALL: [usize; 3] = [0, 1, 2];

/// What a repair comes to, one after the other.
pub const REPAIR: [Boundary; 6] =
    [RepairBegun, RepairTaken, RepairKept, RepairMarked, RepairReplaced, RepairDone];

/// The last segment of a member's log, and where its records end.
fn segment(cluster: &Cluster, at: usize) -> (PathBuf, Vec<u8>, usize) {
    let found = std::fs::read_dir(cluster.data(at).join("log")).expect("a log");
    let segments = found
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "seg"));
    let path = segments.max().expect("a segment");
    let bytes = std::fs::read(&path).expect("read");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("has content");
    (path, bytes, end)
}

/// Flips a byte of a stopped member's log at this part of its records.
fn flip(cluster: &Cluster, at: usize, part: f64) {
    let (path, mut bytes, end) = segment(cluster, at);
    let place = 128 + ((end - 128) as f64 * part) as usize;
    bytes[place] ^= 0x10;
    std::fs::write(path, bytes).expect("written");
}

/// Three members with some history; a follower.
fn scene() -> (Cluster, usize) {
    let cluster = Cluster::of_three();
    let follower = ALL.into_iter().find(|at| *at != cluster.leader_among(&ALL)).expect("one of them");
    let writers = Writers::start(&cluster, &ALL);
    writers.more(100);
    writers.stop();
    cluster.caught_up(&ALL);
    (cluster, follower)
}

/// What the others say of a member.
fn trouble(cluster: &Cluster, asked: usize, of: usize) -> Option<String> {
    let status = cluster.status(asked)?;
    let rows = status["members"].as_array()?;
    rows.iter().find(|row| row["name"] == NAMES[of])?["trouble"].as_str().map(str::to_owned)
}

fn why_not_ready(cluster: &Cluster, at: usize) -> Option<String> {
    cluster
        .get(at, "/health/ready")
        .ok()
        .filter(|answer| answer.status == 503)
        .map(|answer| answer.body.to_string())
}

fn is_repaired(cluster: &Cluster, at: usize) {
    cluster.all_vote(3);
    let others: Vec<usize> = ALL.into_iter().filter(|other| *other != at).collect();
    for asked in ALL {
        let told = || trouble(cluster, asked, at).unwrap_or_default();
        wait_for("the damage to be told", SOON, || {
            let told = told();
            (told.contains("was damaged") && told.contains("quarantine")).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {}", told()));
    }
    let kept = std::fs::read_dir(cluster.data(at).join("log/quarantine")).expect("kept").count();
    assert!(kept > 0, "the damaged file is kept");
    for via in [at, others[0]] {
        let line = write(cluster, via);
        assert!(matches!(line.told, Told::Executed(_)), "{line:?}");
    }
    cluster.same_everywhere(&ALL);
    let verified = cluster.cli(at, &["log", "verify", "--data-dir", &cluster.data(at).display().to_string()]);
    assert_eq!(verified.code, 0, "{verified:?}");
}

#[test]
fn fm_cfg6_a_damaged_record_is_repaired_from_peers_wherever_it_is() {
    let (mut cluster, hurt) = scene();
    for part in [0.5, 0.0, 1.0, 0.97] {
        cluster.stop(hurt);
        flip(&cluster, hurt, part);
        // The others go on meanwhile.
        let leader = cluster.leader_among(&ALL.into_iter().filter(|at| *at != hurt).collect::<Vec<_>>());
        for _ in 0..5 {
            let line = write(&cluster, leader);
            assert!(matches!(line.told, Told::Executed(_)), "{line:?}");
        }
        cluster.start(hurt);
        wait_for("the repair", SOON, || why_not_ready(&cluster, hurt).is_none().then_some(()))
            .unwrap_or_else(|error| panic!("{error}: {}", cluster.last_words(hurt)));
        is_repaired(&cluster, hurt);
        assert!(cluster.said(hurt).contains("what was damaged is repaired"), "{}", cluster.last_words(hurt));
    }
}

#[test]
fn fm_cfg6_a_repair_that_is_killed_goes_on_and_votes_for_nobody_before() {
    let (mut cluster, hurt) = scene();
    cluster.stop(hurt);
    flip(&cluster, hurt, 1.0);
    // Each goes on where the one before was killed, to the end.
    for boundary in REPAIR {
        cluster.arm(hurt, boundary, 1);
        cluster.launch(hurt).expect("a process");
        cluster.killed_at(hurt, boundary);
    }
    cluster.start(hurt);
    is_repaired(&cluster, hurt);
    cluster.stop(hurt);
    flip(&cluster, hurt, 0.6);
    // Nobody can be asked: it says so, and takes no part.
    cluster.host(hurt).cut(Way::Both);
    cluster.start(hurt);
    wait_for("the repair to be told", SOON, || {
        let why = why_not_ready(&cluster, hurt)?;
        (why.contains("repairs its log") && why.contains("is damaged at offset")).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:?}", why_not_ready(&cluster, hurt)));
    cluster.kill(hurt);
    cluster.host(hurt).heal();
    cluster.start(hurt);
    is_repaired(&cluster, hurt);
}

#[test]
fn fm_cfg6_a_damaged_member_waits_for_a_leader_and_elects_none() {
    let (mut cluster, hurt) = scene();
    let others: Vec<usize> = ALL.into_iter().filter(|at| *at != hurt).collect();
    cluster.stop(hurt);
    let before = cluster.events(others[0]);
    cluster.stop(others[0]);
    // What is damaged reaches the end, so nothing here proves that all of it is back.
    flip(&cluster, hurt, 1.0);
    cluster.start(hurt);
    let told = |cluster: &Cluster| {
        let told = trouble(cluster, others[1], hurt).filter(|told| told.contains("is damaged at offset"));
        told.and(why_not_ready(cluster, hurt)).map(drop)
    };
    wait_for("both to tell", SOON, || told(&cluster)).unwrap_or_else(|error| {
        panic!("{error}: {:?} {}", cluster.status(others[1]), cluster.last_words(hurt))
    });
    assert_eq!(cluster.leader_of(&[hurt, others[1]]), None, "it votes for nobody");
    let status = cluster.status(others[1]).expect("a status");
    assert_eq!(status["quorum"], false, "it does not count: {status}");
    // An orderly end, and the next start goes on.
    cluster.stop(hurt);
    cluster.start(hurt);
    wait_for("both to tell", SOON, || told(&cluster)).expect("as before");
    cluster.start(others[0]);
    is_repaired(&cluster, hurt);
    let after = cluster.events(hurt);
    assert_eq!(after[..before.len()], before[..], "nothing that was told is lost");
}

#[test]
fn fm_cfg6_a_damaged_log_without_others_stops_and_says_so() {
    let mut cluster = Cluster::of(Made { members: 1, ..Made::default() });
    for _ in 0..20 {
        let line = write(&cluster, 0);
        assert!(matches!(line.told, Told::Executed(_)), "{line:?}");
    }
    cluster.stop(0);
    flip(&cluster, 0, 0.5);
    let data = cluster.data(0).display().to_string();
    let said = cluster.cli(0, &["server", "--listen", "127.0.0.1:7070", "--data-dir", &data]);
    assert_eq!(said.code, 1, "{said:?}");
    let words = ["is damaged at offset", ".seg", "next: holdfast log verify"];
    words.iter().for_each(|word| assert!(said.stderr.contains(word), "{word:?} is not said: {said:?}"));
    assert!(!cluster.data(0).join("log/quarantine").exists(), "nothing was changed");
}
