//! Guarded acts beyond the cluster, on real processes: what is deleted stops and is routed no more, what
//! is not goes on, and a node that is disabled is empty.

use super::{HOST, SOON, Scene, counted, processes};
use demo::{Load, Manifest, Role, Routes, Running, Target, free_ports, get_blocking, wait_for};
use serde_json::Value;
use std::{collections::BTreeSet, time::Duration};

impl Scene {
    /// Explains an act and confirms it as a script does.
    fn confirmed(&self, act: &[&str]) -> Value {
        let run = |more: &[&str]| self.platform.cli(&[act, more].concat()).expect("an answer");
        let bare = run(&["--yes"]);
        assert_eq!(bare.code, 5, "without a confirmation nothing runs: {bare:?}");
        let explained = run(&["--explain", "--json"]).executed().expect("explained").json().expect("JSON");
        let token = explained["token"].as_str().expect("a token").to_owned();
        run(&["--confirm", &token, "--json"]).executed().expect("done").json().expect("JSON")
    }

    /// The instances that run, once there are so many.
    fn running(&self, count: usize) -> Vec<Running> {
        wait_for("the instances that are wanted", SOON, || {
            let running = self.platform.running();
            (running.len() == count).then_some(running)
        })
        .unwrap_or_else(|error| {
            let said = |words: &[&str]| self.platform.cli(words).map_or(String::new(), |said| said.stdout);
            panic!("{error}\n{}\n{}", said(&["ps", "--all"]), said(&["events", "--limit", "500"]))
        })
    }

    fn is_answered(&self, target: &Target) -> bool {
        get_blocking(target, "/", Duration::from_secs(3)).is_ok_and(|answer| answer.status == 200)
    }
}

fn ids(running: &[Running]) -> BTreeSet<String> {
    running.iter().map(|one| one.instance.clone()).collect()
}

#[test]
fn what_is_deleted_stops_and_answers_no_more_and_another_app_is_untouched() {
    let mut scene = Scene::serving();
    let first = ids(&scene.two());
    let image = format!("oci:{}:v1", scene.layout.display());
    let [port] = free_ports().expect("a port");
    let other = Manifest { image: &image, host: "other.example", tcp: port, replicas: 1 };
    let other = other.text().replace("app = \"demo\"", "app = \"other\"");
    scene.platform.apply(&other).expect("an answer").executed().expect("another app");
    let kept: Vec<Running> =
        scene.running(3).into_iter().filter(|one| !first.contains(&one.instance)).collect();
    let untouched = processes(&kept);
    let route = Target::plain(port);
    wait_for("the other app to answer", SOON, || scene.is_answered(&route).then_some(())).expect("answered");
    let load = Load::start(&Routes { tls: route.clone(), tcp: route.clone() }).expect("a load");

    let done = scene.confirmed(&["apps", "delete", "demo", "--reason", "over"]);
    assert!(done["event"].as_u64().is_some(), "{done}");
    for target in [&scene.routes.tls, &scene.routes.tcp] {
        wait_for("a route that is gone", SOON, || (!scene.is_answered(target)).then_some(())).expect("gone");
    }
    let left = scene.running(1);
    assert_eq!(processes(&left), untouched, "the other app runs as before");
    wait_for("nothing of it to be left", SOON, || {
        let nodes = scene.platform.cli(&["nodes", "list", "--json"]).ok()?.json().ok()?;
        let used = nodes
            .as_array()?
            .iter()
            .map(|row| row["used"]["memory"].as_str().unwrap_or(""))
            .collect::<Vec<_>>();
        used.contains(&"64Mi").then_some(())
    })
    .expect("the memory given back");
    assert_eq!(scene.platform.cli(&["status", "--app", "demo"]).expect("an answer").code, 4);
    let events = scene.platform.cli(&["events", "--limit", "500", "--json"]).expect("an answer").stdout;
    for kind in ["environment.deleted", "app.deleted", "route.removed"] {
        assert!(events.contains(kind), "{kind} stays in the log");
    }
    let tally = counted(&load);
    assert!(tally.requests > 0 && tally.failed == 0, "clients of the other app saw nothing: {tally:?}");
    drop(load);

    // Its name and its routes are free.
    scene.apply(&image).expect("an answer").executed().expect("deployed anew");
    scene.answered();
    assert!(ids(&scene.running(3)).is_disjoint(&first));
    assert!(scene.routes.tls.tls.is_some(), "{HOST} is asked for by name");
    scene.platform.stop().expect("an orderly end");
}

#[test]
fn a_disabled_node_stops_what_it_has_until_it_is_activated() {
    let mut scene = Scene::serving();
    let before = ids(&scene.two());
    let nodes = scene.platform.cli(&["nodes", "list", "--json"]).expect("an answer").json().expect("JSON");
    let runs = |row: &&Value| row["roles"].as_array().is_some_and(|roles| roles.contains(&"agent".into()));
    let node = nodes.as_array().and_then(|rows| rows.iter().find(runs)).expect("an agent");
    let name = node["name"].as_str().expect("a name").to_owned();
    // A server that is killed after it explained knows the token no more.
    let disable = ["nodes", "disable", &name];
    let explained =
        scene.platform.cli(&[&disable[..], &["--explain", "--json"]].concat()).expect("an answer");
    let token = explained.json().expect("JSON")["token"].as_str().expect("a token").to_owned();
    scene.platform.kill_hard(Role::Server);
    scene.platform.start_server().expect("the server again");
    let late = scene.platform.cli(&[&disable[..], &["--confirm", &token]].concat()).expect("an answer");
    assert_eq!(late.code, 5, "{late:?}");
    assert_eq!(ids(&scene.two()), before, "nothing was done");

    scene.confirmed(&disable);
    scene.running(0);
    let early = scene.platform.cli(&["nodes", "drain", &name]).expect("an answer");
    assert_eq!(early.code, 5, "{early:?}");
    scene.platform.cli(&["nodes", "activate", &name]).expect("an answer").executed().expect("activated");
    assert!(ids(&scene.running(2)).is_disjoint(&before));
    scene.converged();
    scene.confirmed(&disable);
    scene.running(0);
    wait_for("the node to be removed", SOON, || {
        let remove = ["nodes", "remove", &name, "--explain", "--json"];
        let explained = scene.platform.cli(&remove).ok()?;
        (explained.code == 0).then_some(())
    })
    .expect("nothing is left there");
    scene.confirmed(&["nodes", "remove", &name]);
    let nodes = scene.platform.cli(&["nodes", "list"]).expect("an answer");
    assert!(!nodes.stdout.contains(&name), "{nodes:?}");
    scene.platform.stop().expect("an orderly end");
}
