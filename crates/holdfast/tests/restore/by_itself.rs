//! Backups that a server makes by itself: on time, through SIGKILL, and with a store that goes away.

use crate::{SOON, Said, Scene, number, views_of};
use demo::{get_plain, wait_for};
use serde_json::Value;
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// Flags of a server that backs itself up to `backups/` with this key.
fn with_key(key: &'static str) -> Vec<&'static str> {
    vec!["--backup-to", "backups", "--backup-key-file", key, "--backup-archive", "1s"]
}

fn flags(more: &[&'static str]) -> Vec<&'static str> {
    [&with_key("key")[..], more].concat()
}

impl Scene {
    fn store(&self) {
        fs::create_dir(self.path("backups")).expect("made");
    }

    /// What `cluster status` says of backups; null if nothing.
    fn backups(&self) -> Value {
        let said = self.run(&["cluster", "status", "--json"]);
        if said.code == 0 { said.json()["backup"].clone() } else { Value::Null }
    }

    fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, SOON, || Some(self.backups()).filter(|found| is(found)))
            .unwrap_or_else(|error| panic!("{error}: {}", self.backups()))
    }

    /// Waits until a step is said to fail for a reason with these words.
    fn until_fails(&self, step: &str, words: &str) -> Value {
        self.until(&format!("{step} to fail: {words}"), |found| {
            failing(found, step).is_some_and(|why| why.contains(words))
        })
    }

    fn until_well(&self) {
        self.until("everything to work again", |found| {
            let failures = found["failures"].as_array().cloned().unwrap_or_default();
            found["archive"]["behind_events"] == 0
                && failures.iter().all(|failure| failure["goes_on"] == false)
        });
    }

    /// The kinds of all events about backups, from the disk.
    fn noted(&self) -> Vec<String> {
        let events = self.events("data").into_iter().map(|line| serde_json::from_str(&line).expect("JSON"));
        let kinds = events.map(|event: Value| event["kind"].as_str().unwrap_or_default().to_owned());
        kinds.filter(|kind| kind.starts_with("backup.")).collect()
    }

    fn verify(&self) -> Said {
        self.run(&["cluster", "backup", "--to", "backups", "--key-file", "key", "--verify", "--json"])
    }

    fn listed(&self) -> Vec<Value> {
        let said = self.run(&["cluster", "backup", "--to", "backups", "--list", "--json"]).json();
        said.as_array().cloned().expect("backups")
    }
}

fn failing(found: &Value, step: &str) -> Option<String> {
    let failures = found["failures"].as_array()?;
    let failure = failures.iter().find(|failure| failure["step"] == step && failure["goes_on"] == true)?;
    failure["why"].as_str().map(str::to_owned)
}

fn event(found: &Value, part: &str) -> u64 {
    found[part]["event"].as_u64().unwrap_or_default()
}

#[test]
fn fm_b_a_server_backs_itself_up_and_drills_on_its_own() {
    let mut scene = Scene::new();
    scene.store();
    let often = ["--backup-every", "2s", "--backup-keep", "2", "--backup-drill", "3s"];
    scene.start_with("data", &flags(&often));
    scene.write("early");
    let first =
        scene.until("a backup and a drill", |found| event(found, "last") > 0 && event(found, "drill") > 0);
    scene.write("later");
    let later = event(&first, "last") + 1;
    let second = scene.until("another of each", |found| {
        event(found, "last") > later && event(found, "drill") > event(&first, "drill")
    });
    assert_ne!(first["last"]["id"], second["last"]["id"]);
    assert!(second["place"].as_str().is_some_and(|place| place.ends_with("backups")), "{second}");
    scene.until("old ones to be taken away", |_| scene.listed().len() <= 3);
    assert!(!scene.path("data/drill/holdfast-drill").exists() || scene.backups()["busy"] == "drill");

    // Out of turn, and shown to people.
    let head = scene.events("data").len() as u64;
    let made = scene.run(&["cluster", "backup", "--json"]).json();
    assert!(number(&made, "event") >= head, "{made}");
    assert!(scene.listed().iter().any(|row| row["id"] == made["id"]), "{made}");
    let text = scene.run(&["cluster", "status"]).done().out;
    assert!(text.contains("backup   up to event ") && text.contains("drill    up to event "), "{text}");
    let answer = get_plain(&scene.listen, "/metrics", SOON).expect("metrics");
    let metrics = String::from_utf8_lossy(&answer.body).into_owned();
    for name in [
        "backup_age_seconds",
        "backup_drill_age_seconds",
        "archive_age_seconds",
        "backup_failing{step=\"drill\"} 0",
    ] {
        assert!(metrics.contains(&format!("holdfast_{name}")), "{name}: {metrics}");
    }
    let noted = scene.noted();
    for kind in ["backup.made", "backup.drilled"] {
        assert!(noted.iter().filter(|noted| *noted == kind).count() >= 2, "{noted:?}");
    }
    assert!(!noted.iter().any(|kind| kind == "backup.failed"), "{noted:?}");

    scene.kill();
    scene.verify().done();
    let drill =
        ["cluster", "drill", "--from", "backups", "--key-file", "key", "--scratch", "scratch", "--json"];
    assert!(number(&scene.run(&drill).json(), "event") >= number(&made, "event"));
}

#[test]
fn fm_b_what_was_acknowledged_is_archived_within_the_interval() {
    let mut scene = Scene::new();
    scene.store();
    scene.start_with("data", &flags(&["--backup-every", "1h", "--backup-drill", "off"]));
    scene.until("the first backup", |found| event(found, "last") > 0);
    for round in 0..5 {
        scene.write(&format!("w{round}"));
    }
    // So many are acknowledged now; what the status promises is waited for, and then everything is lost.
    let (acknowledged, since) = (scene.events("data").len() as u64, Instant::now());
    let found = scene.until("them to be archived", |found| event(found, "archive") >= acknowledged);
    assert!(since.elapsed() < Duration::from_secs(10), "the interval is a second: {:?}", since.elapsed());
    assert!(event(&found, "last") < acknowledged, "it is the archive that has them: {found}");
    let (views, before) = (scene.views(), scene.events("data"));
    scene.kill();
    fs::remove_dir_all(scene.path("data")).expect("the disk is lost");

    let restored = scene.restore("whole", &[]).json();
    assert!(number(&restored, "event") >= acknowledged, "{restored}");
    assert_eq!(scene.events("whole"), before);
    assert_eq!(views_of(&restored), views);
    let part = scene.restore("part", &["--to-event", &(acknowledged - 2).to_string()]).json();
    let kept = usize::try_from(number(&part, "event")).expect("few");
    assert_eq!(scene.events("part"), before[..kept], "also to a moment that only the archive has");

    // The restored log is another: it does not write into the place of the old one, and says so.
    scene.start_with("whole", &flags(&["--backup-every", "1h"]));
    scene.until_fails("archive", "holds backups of the cluster");
    scene.write("goes-on");
    scene.kill();
    scene.verify().done();
}

#[test]
fn fm_b_a_server_that_is_killed_in_a_backup_or_a_drill_makes_them_anew() {
    let mut scene = Scene::new();
    scene.store();
    // So slow that it is certainly killed on the way.
    let slow = flags(&["--backup-every", "1s", "--backup-drill", "1s", "--backup-rate", "1Ki"]);
    scene.start_with("data", &slow);
    scene.write("early");
    scene.until("a backup under way", |found| found["busy"] == "backup");
    scene.kill();
    assert!(scene.listed().is_empty(), "what is half made does not count");
    let often = flags(&["--backup-every", "1s", "--backup-drill", "1h"]);
    scene.start_with("data", &often);
    scene.until("a backup and a drill", |found| event(found, "last") > 0 && event(found, "drill") > 0);
    scene.kill();
    scene.verify().done();

    scene.start_with("data", &slow);
    scene.until("a drill under way", |found| found["busy"] == "drill");
    wait_for("its directory", SOON, || scene.path("data/drill/holdfast-drill").exists().then_some(()))
        .expect("a drill");
    scene.kill();
    let left = scene.path("data/drill/holdfast-drill");
    let off = flags(&["--backup-every", "1h", "--backup-drill", "off"]);
    scene.start_with("data", &off);
    wait_for("what it left to be removed", SOON, || (!left.exists()).then_some(())).expect("no leftovers");
    scene.write("later");
    scene.until_well();
    scene.kill();
    scene.verify().done();
}

#[test]
fn fm_b_a_store_that_goes_away_is_said_and_taken_up_again() {
    let mut scene = Scene::new();
    scene.store();
    let hourly = flags(&["--backup-every", "1h", "--backup-drill", "off"]);
    scene.start_with("data", &hourly);
    scene.until("the first backup", |found| event(found, "last") > 0);
    scene.until_well();

    fs::rename(scene.path("backups"), scene.path("away")).expect("taken away");
    scene.write("while-away");
    scene.until_fails("archive", "backups");
    assert!(!scene.path("backups").exists(), "nothing is made in its place");
    let asked = scene.run(&["cluster", "backup"]);
    assert!(asked.code != 0 && asked.err.contains("tried again"), "{}{}", asked.out, asked.err);
    let status = scene.run(&["cluster", "status"]).done();
    assert!(status.err.contains("archive failed at"), "{}", status.err);

    // An empty directory, as where a disk is not mounted.
    fs::create_dir(scene.path("backups")).expect("made");
    scene.until_fails("backup", "is it mounted?");
    assert_eq!(fs::read_dir(scene.path("backups")).expect("there").count(), 0, "nothing is begun there");
    fs::remove_dir(scene.path("backups")).expect("empty");
    fs::rename(scene.path("away"), scene.path("backups")).expect("back");
    scene.until("backups again", |found| failing(found, "archive").is_none());
    scene.run(&["cluster", "backup"]);
    scene.until_well();
    let noted = scene.noted();
    for kind in ["backup.failed", "backup.recovered"] {
        assert!(noted.iter().any(|noted| noted == kind), "{kind}: {noted:?}");
    }
    assert!(noted.len() < 12, "a failure that goes on fills no log: {noted:?}");
    scene.kill();

    // Another key than the backups are sealed with.
    let other = [&with_key("other")[..], &["--backup-every", "1h", "--backup-drill", "off"]].concat();
    scene.start_with("data", &other);
    scene.write("another-key");
    scene.until_fails("archive", "sealed with the key");
    scene.kill();
    scene.start_with("data", &hourly);
    scene.until_well();
    let last = scene.events("data").len() as u64;
    scene.until("all to be archived", |found| event(found, "archive") >= last.saturating_sub(1));
    scene.kill();
    assert!(number(&scene.verify().json(), "reach") >= last - 1);
}

/// A small file system of its own, in a directory.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path) -> Self {
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "holdfast-test"]).arg(at).status();
        assert!(mount.is_ok_and(|status| status.success()), "this needs root");
        Self(at)
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn fm_b_a_full_store_is_said_and_the_service_goes_on() {
    let mut scene = Scene::new();
    scene.store();
    let store = scene.path("backups");
    let small = Small::mount(&store);
    scene.start_with("data", &flags(&["--backup-every", "1h", "--backup-drill", "off"]));
    scene.until("the first backup", |found| event(found, "last") > 0);
    let mut fill = fs::File::create(store.join("fill")).expect("a file");
    for size in [1 << 16, 4096, 1] {
        while std::io::Write::write_all(&mut fill, &vec![1; size]).is_ok() {}
    }
    scene.write("while-full");
    scene.until_fails("archive", "No space left");
    scene.write("goes-on");
    drop(fill);
    fs::remove_file(store.join("fill")).expect("removed");
    scene.until_well();
    scene.kill();
    scene.verify().done();
    drop(small);
}

#[test]
fn fm_b_a_drill_without_room_is_said_and_fills_no_disk() {
    let mut scene = Scene::new();
    scene.store();
    let scratch = scene.path("scratch");
    fs::create_dir(&scratch).expect("made");
    let small = Small::mount(&scratch);
    scene.start_with("data", &flags(&["--backup-every", "1h", "--backup-scratch", "scratch"]));
    scene.until_fails("drill", "a drill leaves 256Mi");
    scene.write("goes-on");
    assert!(!scratch.join("holdfast-drill").exists(), "nothing is left there");
    assert!(event(&scene.backups(), "last") > 0, "the backup is as good as before");
    scene.kill();
    drop(small);
}

#[test]
fn settings_of_backups_that_cannot_be_are_told_at_the_start() {
    let scene = Scene::new();
    let start = |more: &[&str]| {
        scene.run(&[&["server", "--data-dir", "data", "--listen", "127.0.0.1:0"][..], more].concat())
    };
    start(&["--backup-to", "backups"]).refused(2, &["without a key", "--backup-key-file"]);
    let nokey = ["--backup-to", "backups", "--backup-key-file", "nokey"];
    start(&nokey).refused(2, &["cannot read the key from nokey", "openssl"]);
    let place = ["--backup-to", "ftp://x/y", "--backup-key-file", "key"];
    start(&place).refused(2, &["--backup-to ftp://x/y", "no place for backups"]);
    let often = ["--backup-to", "backups", "--backup-key-file", "key", "--backup-every", "1ms"];
    start(&often).refused(2, &["1ms is too often"]);
    start(&["--backup-key-file", "key"]).refused(2, &["--backup-to"]);
    fs::write(scene.path("server.toml"), "backup-to = \"backups\"\nbackup-kep = 3\n").expect("written");
    start(&["--config", "server.toml"]).refused(2, &["server.toml: `backup-kep` is no flag of `server`"]);
    assert!(!scene.path("data/log").exists(), "no log was begun");
}
