//! The failure model, row by row, on real processes: `docs/failure-model.md` links these by name.
//!
//! Each test runs a server, an agent and an edge of the built program on free loopback ports, with
//! real containers of the demo's image, kills what its row says with SIGKILL, and counts what
//! clients saw. Needs root and the packages of `make setup`, and the image's program of `make app`;
//! without them it fails and says so.

#[path = "failure_model/adopt.rs"]
mod adopt;
#[path = "failure_model/deletion.rs"]
mod deletion;

use demo::{
    Authority, CLOSED_FIRST, Cli, Load, Manifest, OPEN, Outcome, Platform, Registry, Role, Routes, Running,
    Stamp, Tally, get_blocking,
    image::{Recipe, Temper, build},
    wait_for,
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

const HOST: &str = "shop.example";
/// How long a wait for something that must happen may take.
const SOON: Duration = Duration::from_secs(40);

/// A platform with version 1 deployed and served, in a directory of its own.
struct Scene {
    platform: Platform,
    routes: Routes,
    layout: PathBuf,
    dir: tempfile::TempDir,
}

/// Images v1 and v2 in an OCI layout.
fn images(dir: &Path) -> (PathBuf, Authority) {
    let authority = Authority::new().expect("an authority");
    let recipes = ["v1", "v2"].map(|version| Recipe { version, temper: Temper::Sound });
    let layout = dir.join("image");
    build(&layout, &authority, &[HOST], &recipes).expect("the demo's image");
    (layout, authority)
}

impl Scene {
    /// Everything runs; nothing is deployed.
    fn empty() -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-fm-").tempdir().expect("a directory");
        let (layout, authority) = images(dir.path());
        let binary = Path::new(env!("CARGO_BIN_EXE_holdfast"));
        let mut platform = Platform::new(binary, &dir.path().join("run")).expect("a platform");
        platform.start().expect("server, agent and edge");
        let routes = platform.routes(HOST, authority.der()).expect("two ways in");
        Self { platform, routes, layout, dir }
    }

    /// Version 1 with two instances is deployed and served.
    fn serving() -> Self {
        let scene = Self::empty();
        let image = format!("oci:{}:v1", scene.layout.display());
        scene.apply(&image).expect("an answer").executed().expect("version 1 deployed");
        scene.answered();
        scene.converged();
        scene
    }

    fn apply(&self, image: &str) -> Outcome<Cli> {
        let manifest = Manifest { image, host: HOST, tcp: self.platform.tcp_port(), replicas: 2 };
        self.platform.apply(&manifest.text())
    }

    fn load(&self) -> Load {
        Load::start(&self.routes).expect("a load")
    }

    /// Waits until both ways in are answered.
    fn answered(&self) {
        for target in [&self.routes.tls, &self.routes.tcp] {
            wait_for("an answer on every route", SOON, || {
                let answer = get_blocking(target, "/", Duration::from_secs(3)).ok()?;
                (answer.status == 200).then_some(())
            })
            .expect("an answer");
        }
    }

    /// Waits until the control plane says that all is as declared.
    fn converged(&self) {
        wait_for("everything to be as declared", SOON, || {
            let status = self.platform.cli(&["status", "--app", "demo", "--json"]).ok()?.json().ok()?;
            (status["converged"] == true).then_some(())
        })
        .expect("a converged environment");
    }

    /// The two instances that run, by `/proc`.
    fn two(&self) -> Vec<Running> {
        wait_for("two instances to run", SOON, || {
            let running = self.platform.running();
            (running.len() == 2).then_some(running)
        })
        .expect("two instances")
    }

    /// Kills an instance under load and returns how many connections ended with it, by the edge's
    /// count, once it runs and is routed to again.
    fn kill_one(&self) -> u64 {
        let before = self.platform.metrics().expect("the edge's counters");
        let victim = self.two().remove(0);
        victim.main().kill(libc::SIGKILL);
        let id = victim.instance.as_str();
        wait_for("the killed instance to run again", SOON, || {
            let now = self.platform.running();
            now.iter().find(|one| one.instance == id && one.main() != victim.main()).map(drop)
        })
        .expect("a restart");
        wait_for("the edge to send to it again", SOON, || {
            (self.platform.metrics().ok()?.of_instance(OPEN, id) > 0).then_some(())
        })
        .expect("the instance in use");
        let after = self.platform.metrics().expect("the edge's counters");
        after.of_instance(CLOSED_FIRST, id) - before.of_instance(CLOSED_FIRST, id)
    }
}

/// The processes of all instances.
fn processes(running: &[Running]) -> Vec<Stamp> {
    running.iter().flat_map(|running| running.processes.clone()).collect()
}

/// Lets what is under way end and returns the count.
fn counted(load: &Load) -> Tally {
    load.settle().expect("clients that move");
    load.take()
}

/// Lets clients go on for a while: what is shown is that nothing happens.
fn meanwhile(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

#[test]
fn fm_a_edge_serves_while_server_is_dead() {
    let mut scene = Scene::serving();
    let before = processes(&scene.two());
    let load = scene.load();
    scene.platform.kill_hard(Role::Server);
    meanwhile(5);
    let refused = scene.platform.cli(&["scale", "web=3", "--app", "demo"]).expect("an answer");
    assert_eq!(refused.code, 6, "a write without a server is certainly not executed: {refused:?}");
    scene.platform.start_server().expect("the server again");
    scene.converged();
    let tally = counted(&load);
    assert_eq!(tally.failed, 0, "{tally:?}");
    assert!(tally.requests > 500, "{tally:?}");
    assert_eq!(processes(&scene.two()), before, "nothing in the data plane was restarted");
    let scaled = scene.platform.cli(&["scale", "web=1", "--app", "demo"]).expect("an answer");
    scaled.executed().expect("writes work again");
    scene.platform.stop().expect("an orderly end");
}

#[test]
fn fm_a_crashed_instance_is_restarted_while_server_is_dead() {
    let mut scene = Scene::serving();
    let load = scene.load();
    scene.platform.kill_hard(Role::Server);
    let cut = scene.kill_one();
    let tally = counted(&load);
    assert!(tally.failed <= cut, "{cut} connections were open on the instance: {tally:?}");
    meanwhile(1);
    let tally = counted(&load);
    assert_eq!(tally.failed, 0, "afterwards all is well: {tally:?}");
    scene.platform.start_server().expect("the server again");
    scene.converged();
    scene.platform.stop().expect("an orderly end");
}

#[test]
fn fm_a2_everything_returns_from_plans_on_disk_after_a_power_cut() {
    let mut scene = Scene::serving();
    let before = scene.two();
    scene.platform.cut_power().expect("nothing left");
    assert!(scene.platform.running().is_empty());
    scene.platform.start_agent().expect("the agent, without a server");
    scene.platform.start_edge().expect("the edge, without a server");
    scene.answered();
    let after = scene.two();
    let ids = |running: &[Running]| running.iter().map(|one| one.instance.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&after), ids(&before), "the same instances, as new processes");
    let load = scene.load();
    meanwhile(2);
    let tally = counted(&load);
    assert_eq!(tally.failed, 0, "{tally:?}");
    scene.platform.start_server().expect("the server, later");
    scene.converged();
    assert_eq!(processes(&scene.two()), processes(&after), "a late server restarts nothing");
    scene.platform.stop().expect("an orderly end");
}

#[test]
fn fm_c_a_view_is_rebuilt_from_the_log_and_equal() {
    let mut scene = Scene::serving();
    let load = scene.load();
    let listed = scene.platform.cli(&["views", "list", "--json"]).expect("an answer");
    let listed = listed.executed().expect("the views").json().expect("JSON");
    let names: Vec<&str> = rows(&listed).iter().filter_map(|row| row["name"].as_str()).collect();
    assert!(!names.is_empty(), "{listed}");
    for name in names {
        let said = scene.platform.cli(&["views", "rebuild", name, "--json"]).expect("an answer");
        let said = said.executed().expect("a rebuilt view").json().expect("JSON");
        for row in rows(&said) {
            assert_eq!(row["equal"], true, "{row}");
            assert_eq!(row["before"], row["after"], "{row}");
            assert!(row["events"].as_u64().is_some_and(|events| events > 0), "folded from events: {row}");
        }
    }
    // Appends go on, and what they change is seen.
    let scaled = scene.platform.cli(&["scale", "web=3", "--app", "demo"]).expect("an answer");
    scaled.executed().expect("a write after the rebuild");
    scene.converged();
    assert_eq!(scene.platform.running().len(), 3);
    let tally = counted(&load);
    assert_eq!(tally.failed, 0, "{tally:?}");
    scene.platform.stop().expect("an orderly end");
}

/// The rows of an answer that is one row, a list of them, or a page.
fn rows(answer: &serde_json::Value) -> Vec<&serde_json::Value> {
    match answer.as_array().or_else(|| answer["rows"].as_array()) {
        Some(rows) => rows.iter().collect(),
        None => vec![answer],
    }
}

#[test]
fn fm_e2_a_killed_edge_serves_from_disk_without_a_server() {
    let mut scene = Scene::serving();
    let before = processes(&scene.two());
    scene.platform.kill_hard(Role::Server);
    scene.platform.kill_hard(Role::Edge);
    let gone = get_blocking(&scene.routes.tls, "/", Duration::from_secs(2));
    assert!(gone.is_err(), "no edge, no public traffic");
    let start = Instant::now();
    scene.platform.start_edge().expect("the edge, without a server");
    scene.answered();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(5), "an edge serves from disk at once, and this took {took:?}");
    let load = scene.load();
    meanwhile(2);
    let tally = counted(&load);
    assert_eq!(tally.failed, 0, "{tally:?}");
    assert_eq!(processes(&scene.two()), before, "instances never noticed");
    scene.platform.start_server().expect("the server, later");
    let image = format!("oci:{}:v2", scene.layout.display());
    scene.apply(&image).expect("an answer").executed().expect("the edge catches up: version 2 is deployed");
    let tally = counted(&load);
    assert_eq!(tally.failed, 0, "{tally:?}");
    assert!(tally.versions.contains_key("v2"), "{tally:?}");
    scene.platform.stop().expect("an orderly end");
}

#[test]
fn fm_g_a_killed_agent_adopts_what_runs_and_restarts_nothing() {
    let mut scene = Scene::serving();
    let before = scene.two();
    let load = scene.load();
    scene.platform.kill_hard(Role::Agent);
    meanwhile(3);
    assert_eq!(processes(&scene.two()), processes(&before), "instances live without their agent");
    scene.platform.start_agent().expect("the agent again");
    scene.converged();
    let tally = counted(&load);
    assert_eq!(tally.failed, 0, "{tally:?}");
    assert_eq!(processes(&scene.two()), processes(&before), "adopted, not restarted");
    // Adopted means watched: an instance that dies now is started again.
    let cut = scene.kill_one();
    let tally = counted(&load);
    assert!(tally.failed <= cut, "{cut} connections were open on the instance: {tally:?}");
    scene.platform.stop().expect("an orderly end");
}

#[test]
fn fm_k_without_a_registry_cached_images_deploy_and_others_wait() {
    let scene = Scene::empty();
    let mut platform = scene.platform;
    let mut registry = Registry::start(scene.dir.path()).expect("a registry");
    let first = registry.push(&scene.layout, "v1", "shop").expect("a push");
    let second = registry.push(&scene.layout, "v2", "shop").expect("a push");
    let port = platform.tcp_port();
    let text = |image| Manifest { image, host: HOST, tcp: port, replicas: 2 }.text();
    platform.apply(&text(&first)).expect("an answer").executed().expect("version 1 deployed");

    // What runs goes on, and what is cached can be started again.
    registry.kill_hard();
    let restarted = platform.cli(&["restart", "--app", "demo"]).expect("an answer");
    restarted.executed().expect("fresh instances of a cached image");
    let refused = platform.apply(&text(&second)).expect("an answer");
    assert_ne!(refused.code, 0, "a tag cannot be pinned without its registry: {refused:?}");

    // A deploy that was pinned before and needs a pull now waits, and says why.
    registry.resume().expect("the registry for a moment");
    platform.kill_hard(Role::Agent);
    std::fs::write(platform.dir().join("holdfast.toml"), text(&second)).expect("a manifest");
    let written = platform.cli(&["apply", "--yes", "--no-wait"]).expect("an answer");
    written.executed().expect("version 2 declared");
    registry.kill_hard();
    platform.start_agent().expect("the agent again");
    wait_for("an instance that says image_unavailable", SOON, || {
        let rows = platform.cli(&["ps", "--app", "demo", "--json"]).ok()?.stdout;
        rows.contains("image_unavailable").then_some(())
    })
    .expect("the reason");
    let answer = get_blocking(&scene.routes.tcp, "/version", Duration::from_secs(3)).expect("version 1");
    assert_eq!(answer.body, b"v1\n");

    // The registry is back, and nobody has to do anything.
    registry.resume().expect("the registry again");
    wait_for("version 2 to answer", SOON, || {
        let answer = get_blocking(&scene.routes.tcp, "/version", Duration::from_secs(3)).ok()?;
        (answer.body == b"v2\n").then_some(())
    })
    .expect("the deploy to go on by itself");
    platform.stop().expect("an orderly end");
}
