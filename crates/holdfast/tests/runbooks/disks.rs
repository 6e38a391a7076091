//! Pages about disks of members: full, damaged, rolled back.

use crate::{
    At,
    disk::Disk,
    ledger::{Told, Writers, write},
    page::Page,
    scene::{ANSWER, Cluster, NAMES, SOON},
    wire::{self, Call},
};
use demo::wait_for;
use std::{
    path::{Path, PathBuf},
    process::Command,
};

const ALL: [usize; 3] = [0, 1, 2];

fn executed(cluster: &Cluster, at: usize) {
    let line = wait_for("a write", SOON, || {
        Some(write(cluster, at)).filter(|line| matches!(line.told, Told::Executed(_)))
    });
    line.expect("executed");
}

#[test]
fn the_page_about_a_full_disk() {
    let disk = Disk::new(24);
    let mut cluster = Cluster::machines(3);
    cluster.keep_in(0, disk.data());
    cluster.found(&["--failover", "operator"]);
    cluster.join(1);
    cluster.join(2);
    cluster.all_vote(3);
    let mut page = Page::read("disk-full");
    let data = disk.data().display().to_string();
    let words = [("DATA", data.as_str()), ("NODE", NAMES[1])];
    disk.fill();
    let writers = Writers::eager(&cluster, &[1, 1, 1, 2, 2, 2, 0, 0]);
    let looked = wait_for("the full disk to be noticed", SOON, || {
        Some(page.says("look", &At(&cluster, 0), &words)).filter(|said| said.contains("short of space"))
    });
    writers.stop();
    looked.expect("told");
    let refused = write(&cluster, 1);
    assert!(refused.words.starts_with("507 storage_full"), "{refused:?}");
    // With not one byte left it cannot be written down that somebody confirmed.
    page.walk("full", &At(&cluster, 1), &words);
    ease(&disk, 512 << 10);
    page.walk("handover", &At(&cluster, 1), &words);
    assert_eq!(cluster.leader_among(&ALL), 1);
    executed(&cluster, 1);
    disk.clear();
    wait_for("space to be noticed", SOON, || {
        let said = page.says("over", &At(&cluster, 0), &words);
        (!said.contains("short of space")).then_some(())
    })
    .expect("by itself");
    executed(&cluster, 0);
    cluster.same_everywhere(&ALL);
}

/// Gives so many bytes of a disk that was filled back.
fn ease(disk: &Disk, bytes: u64) {
    let fill = disk.data().with_file_name("fill");
    let file = std::fs::File::options().write(true).open(fill).expect("it was filled");
    let size = file.metadata().expect("known").len();
    file.set_len(size.saturating_sub(bytes)).expect("cut");
}

/// Flips a byte in the middle of the records of the last segment below a data directory.
fn flip(data: &Path) {
    let found = std::fs::read_dir(data.join("log")).expect("a log").flatten().map(|entry| entry.path());
    let segments = found.filter(|path| path.extension().is_some_and(|end| end == "seg"));
    let path: PathBuf = segments.max().expect("a segment");
    let mut bytes = std::fs::read(&path).expect("read");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("has content");
    bytes[128 + (end - 128) / 2] ^= 0x10;
    std::fs::write(path, bytes).expect("written");
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp");
    assert!(status.success());
}

#[test]
fn pages_about_a_damaged_record_and_an_older_copy() {
    let mut cluster = Cluster::of_three();
    for at in ALL {
        executed(&cluster, at);
    }
    let leader = cluster.leader_among(&ALL);
    let (hurt, old) = ((leader + 1) % 3, (leader + 2) % 3);
    damaged(&mut cluster, hurt);
    rolled_back(&mut cluster, old, hurt);
    cluster.same_everywhere(&ALL);
}

fn damaged(cluster: &mut Cluster, hurt: usize) {
    let mut page = Page::read("damaged-record");
    cluster.caught_up(&ALL);
    cluster.stop(hurt);
    let alone = cluster.dir().join("alone");
    copy(cluster.data(hurt), &alone);
    flip(&alone);
    let alone = alone.display().to_string();
    let said = page.says("alone", &At(cluster, hurt), &[("DATA", &alone)]);
    assert!(said.contains("DAMAGED"), "{said}");
    flip(cluster.data(hurt));
    cluster.start(hurt);
    cluster.all_vote(3);
    let (data, aside) = (cluster.data(hurt).display().to_string(), cluster.dir().join("kept"));
    let aside = aside.display().to_string();
    let words = [("DATA", data.as_str()), ("ASIDE", &aside)];
    let looked = page.says("look", &At(cluster, hurt), &words);
    assert!(looked.contains("its log was damaged"), "{looked}");
    let cleared = page.says("clear", &At(cluster, hurt), &words);
    assert!(!cleared.contains("damaged"), "{cleared}");
}

/// A member's machine goes back to an older state of its disk.
fn rolled_back(cluster: &mut Cluster, old: usize, works: usize) {
    let mut page = Page::read("older-copy");
    cluster.stop(old);
    let (data, before) = (cluster.data(old).to_owned(), cluster.dir().join("before"));
    copy(&data, &before);
    cluster.start(old);
    cluster.all_vote(3);
    for _ in 0..5 {
        executed(cluster, old);
    }
    cluster.caught_up(&ALL);
    cluster.kill(old);
    std::fs::remove_dir_all(&data).expect("rolled back");
    std::fs::rename(&before, &data).expect("rolled back");
    cluster.launch(old).expect("a process");
    wait_for("the copy to be refused", SOON, || data.join("log/refused").exists().then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", cluster.last_words(old)));
    wait_for("it to end", SOON, || (!cluster.runs(old)).then_some(())).expect("it takes no part");
    let (text, peer, member) = (data.display().to_string(), cluster.peer(old), cluster.peer(works));
    let node = [("NODE", NAMES[old])];
    page.walk("remove", &At(cluster, works), &node);
    page.walk("aside", &At(cluster, old), &[("DATA", &text)]);
    // The secret is of a member that works; the rest is typed on the machine of the new one.
    let secret = cluster.secret(works);
    let words = [
        ("MEMBER", member.as_str()),
        ("SECRET", &secret),
        ("DATA", &text),
        ("NAME", "fresh"),
        ("HOST:PORT", &peer),
    ];
    page.walk("secret", &At(cluster, works), &[]);
    page.walk("join", &At(cluster, old), &words);
    cluster.start(old);
    cluster.all_vote(3);
    assert!(page.says("over", &At(cluster, works), &[]).contains("fresh "));
}

#[test]
fn the_page_about_an_audit_that_cannot_be_written() {
    let disk = Disk::new(24);
    let mut cluster = Cluster::machines(1);
    cluster.keep_in(0, disk.data());
    cluster.found(&[]);
    let mut page = Page::read("audit-unwritable");
    let (data, aside) = (disk.data().display().to_string(), cluster.dir().join("kept").display().to_string());
    let words = [("DATA", data.as_str()), ("ASIDE", &aside)];
    denied(&cluster);
    disk.fill();
    // What is left of the journal's last block takes a few lines more.
    wait_for("the audit not to be written", SOON, || {
        denied(&cluster);
        let ready = cluster.get(0, "/health/ready").ok()?;
        ready.body["reason"].is_string().then_some(())
    })
    .expect("it is noticed");
    let looked = page.says("look", &At(&cluster, 0), &words);
    assert!(looked.contains("the audit cannot be written, and guarded acts are refused"), "{looked}");
    disk.clear();
    wait_for("the gap to be written", SOON, || {
        page.says("space", &At(&cluster, 0), &words).contains("attempts between").then_some(())
    })
    .expect("by itself");
    cluster.stop(0);
    let path = disk.data().join("audit/journal");
    let mut bytes = std::fs::read(&path).expect("a journal");
    bytes[40] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    cluster.start(0);
    let damaged = page.says("damaged", &At(&cluster, 0), &words);
    assert!(damaged.contains("at entry 1"), "{damaged}");
    cluster.stop(0);
    page.walk("aside", &At(&cluster, 0), &words);
    cluster.start(0);
    denied(&cluster);
    let over = page.says("over", &At(&cluster, 0), &words);
    assert!(over.contains("1-1") && over.contains("as it was written"), "{over}");
    assert!(Path::new(&aside).join("journal").exists());
}

/// Somebody is not let in.
fn denied(cluster: &Cluster) {
    let headers = [("authorization", "Bearer hf_guessed")];
    let call = Call { method: "POST", path: "/v1/tokens", headers: &headers, body: None };
    assert_eq!(wire::call(cluster.host(0), &call, ANSWER).expect("an answer").status, 401);
}
