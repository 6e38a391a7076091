//! A control plane that was taken back: what runs goes on untouched until an operator adopts it.

use super::{SOON, Scene, counted, meanwhile, processes};
use demo::{Cli, Role, Running, get_blocking, wait_for};
use serde_json::Value;
use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, time::Duration};

const ACKNOWLEDGED: [&str; 2] = ["what only other members have is lost", "no other member runs or will run"];

impl Scene {
    fn cli(&self, arguments: &[&str]) -> Cli {
        self.platform.cli(arguments).expect("an answer")
    }

    fn done(&self, arguments: &[&str]) -> Value {
        self.cli(arguments).executed().expect("executed").json().expect("JSON")
    }

    /// The nodes that nothing is pushed to, once both have said what they hold.
    fn apart(&self) -> Vec<Value> {
        wait_for("both nodes to say what they hold", SOON, || {
            let status = self.cli(&["cluster", "status", "--json"]).json().ok()?;
            let rows = status["apart"].as_array()?.clone();
            let knows = |row: &Value| {
                row["role"] == "edge"
                    || row["keeps"].as_array().map_or(0, Vec::len) > 0
                    || row["stops"].as_array().map_or(0, Vec::len) > 0
            };
            (rows.len() == 2 && rows.iter().all(knows)).then_some(rows)
        })
        .expect("two nodes apart")
    }

    /// Explains an adoption, and what it says.
    fn explained(&self) -> Value {
        self.done(&["cluster", "adopt", "--reason", "taken back", "--explain", "--json"])
    }

    fn adopt(&self) -> Value {
        let explained = self.explained();
        let token = explained["token"].as_str().expect("a token");
        self.done(&["cluster", "adopt", "--reason", "taken back", "--confirm", token, "--json"])
    }

    /// Makes a backup of the server's log; where its data directory is.
    fn backed_up(&self) -> String {
        let key = self.platform.dir().join("key");
        fs::write(&key, format!("{}A=", "A".repeat(42))).expect("written");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("private");
        let data = self.platform.data(Role::Server).display().to_string();
        let to = ["--to", "backups", "--key-file", "key"];
        self.done(&[&["cluster", "backup", "--data-dir", &data, "--json"], &to[..]].concat());
        data
    }

    /// The power goes, and the nodes come back from their disks without a server.
    fn comes_back(&mut self) {
        self.platform.cut_power().expect("nothing left");
        self.platform.start_agent().expect("the agent, without a server");
        self.platform.start_edge().expect("the edge, without a server");
        self.answered();
    }

    /// The version that is served by way of the edge.
    fn version(&self) -> Option<String> {
        let answer = get_blocking(&self.routes.tcp, "/version", Duration::from_secs(3)).ok()?;
        Some(String::from_utf8_lossy(&answer.body).trim().to_owned())
    }

    fn status(&self) -> Value {
        self.cli(&["status", "--app", "demo", "--json"]).json().expect("JSON")
    }
}

fn ids(running: &[Running]) -> BTreeSet<String> {
    running.iter().map(|one| one.instance.clone()).collect()
}

#[test]
fn fm_b_what_a_restored_log_does_not_know_runs_on_until_it_is_adopted() {
    let mut scene = Scene::serving();
    let first = ids(&scene.two());
    let data = scene.backed_up();
    // What comes after the backup is lost with the server's disk.
    let image = format!("oci:{}:v2", scene.layout.display());
    scene.apply(&image).expect("an answer").executed().expect("version 2 deployed");
    scene.converged();
    let before = scene.two();
    assert!(ids(&before).is_disjoint(&first));
    let load = scene.load();
    scene.platform.kill_hard(Role::Server);
    fs::remove_dir_all(&data).expect("the disk is lost");
    scene.done(&["cluster", "restore", "--from", "backups", "--key-file", "key", "--into", &data, "--json"]);
    scene.platform.start_server().expect("the restored server");

    let apart = scene.apart();
    let agent = apart.iter().find(|row| row["role"] == "agent").expect("the agent");
    let listed = |row: &Value, what: &str| -> BTreeSet<String> {
        let all = row[what].as_array().cloned().unwrap_or_default();
        all.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect()
    };
    assert_eq!((listed(agent, "stops"), listed(agent, "starts")), (ids(&before), first.clone()), "{agent}");
    assert!(agent["holds"]["generation"].as_u64() > agent["here"]["generation"].as_u64(), "{agent}");
    assert_ne!(agent["holds"]["cluster"], agent["here"]["cluster"], "{agent}");
    let status = scene.status();
    assert_eq!(status["converged"], false, "{status}");
    assert!(status["why"].to_string().contains("cluster adopt"), "{status}");
    let nodes = scene.cli(&["nodes", "list"]);
    assert!(nodes.stderr.contains("which is another log than this one"), "{nodes:?}");
    // A plain write is written, and waits.
    let scaled = scene.cli(&["scale", "web=3", "--app", "demo", "--no-wait"]);
    assert_eq!(scaled.code, 0, "{scaled:?}");
    let explained = scene.explained().to_string();
    for id in &ids(&before) {
        assert!(explained.contains(&format!("{id} (not known to this log)")), "{explained}");
    }
    // Explained and not confirmed, or confirmed with a word that nobody gave: nothing changes.
    assert_eq!(scene.cli(&["cluster", "adopt", "--reason", "x"]).code, 5);
    assert_eq!(scene.cli(&["cluster", "adopt", "--reason", "x", "--confirm", "act_1"]).code, 5);
    meanwhile(3);
    assert_eq!(scene.version().as_deref(), Some("v2"));
    assert_eq!(processes(&scene.two()), processes(&before), "nothing was touched");
    assert_eq!(scene.apart().len(), 2);
    let tally = counted(&load);
    assert_eq!(tally.failed, 0, "{tally:?}");
    drop(load);

    let done = scene.adopt();
    assert!(done["event"].as_u64().is_some(), "{done}");
    wait_for("version 1 to be served again", SOON, || (scene.version()? == "v1").then_some(()))
        .expect("served");
    scene.converged();
    let after = scene.platform.running();
    assert_eq!(after.len(), 3, "what was written meanwhile is done too");
    assert!(ids(&after).is_superset(&first) && ids(&after).is_disjoint(&ids(&before)));
    let again = scene.cli(&["cluster", "adopt", "--reason", "x", "--explain"]);
    assert_eq!(again.code, 5, "{again:?}");
    assert!(again.stderr.contains("nothing to adopt"), "{again:?}");
    scene.comes_back();
    assert_eq!(scene.version().as_deref(), Some("v1"));
    scene.platform.start_server().expect("the server, later");
    scene.converged();
    scene.apply(&image).expect("an answer").executed().expect("version 2 deployed anew");
    assert_eq!(scene.version().as_deref(), Some("v2"));
    scene.platform.stop().expect("an orderly end");
}

#[test]
fn fm_b_a_recovered_log_goes_on_with_what_runs_once_it_is_adopted() {
    let mut scene = Scene::serving();
    let data = scene.platform.data(Role::Server).display().to_string();
    let before = scene.two();
    let load = scene.load();
    scene.platform.kill_hard(Role::Server);
    let recover = ["cluster", "recover", "--data-dir", &data, "--reason", "burnt", "--json"];
    let explained = scene.done(&[&recover[..], &["--explain"]].concat());
    let token = explained["token"].as_str().expect("a token");
    let [one, two] = ACKNOWLEDGED;
    scene.done(&[&recover[..], &["--confirm", token, "--acknowledge", one, "--acknowledge", two]].concat());
    scene.platform.start_server().expect("the recovered server");
    for row in scene.apart() {
        assert_eq!((&row["stops"], &row["starts"]), (&Value::Array(vec![]), &Value::Array(vec![])), "{row}");
        assert_eq!(row["holds"]["event"], row["here"]["event"], "the same history so far: {row}");
    }
    let done = scene.adopt();
    assert!(done["event"].as_u64().is_some(), "{done}");
    scene.converged();
    assert_eq!(processes(&scene.two()), processes(&before), "nothing was started or stopped");
    let tally = counted(&load);
    assert_eq!(tally.failed, 0, "{tally:?}");
    let scaled = scene.cli(&["scale", "web=3", "--app", "demo"]);
    assert_eq!(scaled.code, 0, "{scaled:?}");
    assert_eq!(scene.platform.running().len(), 3, "plans are followed again");
    scene.platform.stop().expect("an orderly end");
}
