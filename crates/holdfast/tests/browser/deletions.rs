//! Deletions from the page: confirmed with the name, gone stale, and abandoned at each step. The log says
//! that each was executed once, or never.

use crate::{
    driver::{At, Browser},
    reading::{accessible, owner, picture},
};
use demo::{
    Authority, Cli, Manifest, Platform, free_ports,
    image::{Recipe, Temper, build},
    wait_for,
};
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// How long something that must happen may take.
const SOON: Duration = Duration::from_secs(30);

/// A server with environments of one app. Nothing runs them: what is declared and routed is enough to lose.
struct Scene {
    platform: Platform,
    layout: PathBuf,
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-web-").tempdir().expect("a directory");
        let authority = Authority::new().expect("an authority");
        let layout = dir.path().join("image");
        let recipe = Recipe { version: "v1", temper: Temper::Sound };
        build(&layout, &authority, &["shop.example"], &[recipe]).expect("the demo's image");
        let binary = Path::new(env!("CARGO_BIN_EXE_holdfast"));
        let mut platform = Platform::new(binary, &dir.path().join("run")).expect("a platform");
        platform.start_server().expect("a server");
        Self { platform, layout, dir }
    }

    fn cli(&self, words: &[&str]) -> Cli {
        self.platform.cli(words).expect("an answer")
    }

    /// Declares an environment.
    fn declare(&self, env: &str) {
        let [port] = free_ports().expect("a port");
        let image = format!("oci:{}:v1", self.layout.display());
        let host = format!("{env}.example");
        let manifest = Manifest { image: &image, host: &host, tcp: port, replicas: 2 };
        let path = self.dir.path().join(format!("{env}.toml"));
        std::fs::write(&path, manifest.text()).expect("written");
        let path = path.display().to_string();
        self.cli(&["apply", "-f", &path, "--env", env, "--yes", "--no-wait"]).executed().expect("declared");
    }

    fn is_there(&self, env: &str) -> bool {
        let said = self.cli(&["status", "--app", "demo", "--env", env]);
        assert!([0, 4].contains(&said.code), "{said:?}");
        said.code == 0
    }

    /// How many deletions of environments the log has.
    fn deletions(&self) -> usize {
        let events = self.cli(&["events", "--limit", "500", "--json"]).executed().expect("events").stdout;
        events.matches("environment.deleted").count()
    }

    fn browser(&self) -> Browser {
        let browser = Browser::start(&At::here());
        browser.log_in(&self.platform.url(), &owner(&self.platform));
        browser
    }

    /// Has the deletion of an environment explained. The id of its request.
    fn explain(&self, browser: &Browser, env: &str) -> String {
        browser.go(&format!("{}/apps/demo/{env}", self.platform.url()));
        browser.unfold("delete-env");
        browser.type_in("#delete-env-reason", "it is over");
        browser.send("delete-env");
        browser.reads("Nothing has been done yet.");
        let id = browser.script("return document.querySelector('main [name=request_id]').value");
        id.as_str().expect("an id").to_owned()
    }

    /// What the log says of a request.
    fn verdict(&self, id: &str) -> String {
        let said = self.cli(&["requests", "show", id, "--json"]);
        let first = said.stdout.lines().next().unwrap_or_default().to_owned();
        let state: Value =
            serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {first}"));
        state["state"].as_str().expect("a verdict").to_owned()
    }
}

#[test]
fn a_deletion_is_confirmed_by_name_goes_stale_and_is_abandoned_at_each_step() {
    let mut scene = Scene::new();
    for env in ["prod", "beta", "left", "one", "two", "three"] {
        scene.declare(env);
    }
    let browser = scene.browser();
    confirmed(&scene, &browser);
    stale(&scene, &browser);
    left(&scene, browser);
    for (env, closes) in [("one", Closes::Sent), ("two", Closes::Answered), ("three", Closes::Killed)] {
        closed(&scene, env, closes);
    }
    whole(&scene, &scene.browser());
    scene.platform.stop().expect("an orderly end");
}

/// Explained, with the command that does the same; not done with another name; done with its own.
fn confirmed(scene: &Scene, browser: &Browser) {
    let first = scene.explain(browser, "prod");
    for text in ["prod.example", "2 of web", "demo/prod", "holdfast envs delete prod"] {
        browser.reads(text);
    }
    accessible(browser, "a deletion that is explained");
    browser.picture(&picture("deletion-light.png"));
    browser.type_in("#typed", "demo/beta");
    browser.send("delete-env");
    browser.reads("Delete an environment: not executed");
    browser.reads("is confirmed by typing demo/prod");
    browser.reads("Nothing was asked for that the log could tell of.");
    accessible(browser, "a deletion that was not confirmed");
    assert!(scene.is_there("prod") && scene.verdict(&first) == "not_seen");
    browser.send("delete-env");
    browser.reads("Nothing has been done yet.");
    browser.type_in("#typed", "demo/prod");
    browser.send("delete-env");
    browser.reads("Delete an environment: executed");
    accessible(browser, "a deletion that was executed");
    assert!(!scene.is_there("prod"));
    assert_eq!(scene.deletions(), 1);
}

/// What somebody else decides meanwhile is said, and nothing is done.
fn stale(scene: &Scene, browser: &Browser) {
    let request = scene.explain(browser, "beta");
    scene.cli(&["scale", "web=3", "--app", "demo", "--env", "beta", "--no-wait"]).executed().expect("scaled");
    browser.type_in("#typed", "demo/beta");
    browser.send("delete-env");
    browser.reads("What was shown has changed");
    browser.reads("instances of web was 2 and is 3");
    browser.reads("not executed");
    accessible(browser, "a deletion that went stale");
    assert!(scene.is_there("beta") && scene.verdict(&request) == "not_seen");
    assert_eq!(scene.deletions(), 1);
}

/// Closed with the explanation on the page: never seen, and it never will be.
fn left(scene: &Scene, browser: Browser) {
    let request = scene.explain(&browser, "left");
    browser.type_in("#typed", "demo/left");
    drop(browser);
    assert_eq!(scene.verdict(&request), "not_seen");
    assert_eq!(scene.cli(&["requests", "void", &request]).code, 0);
    assert!(scene.is_there("left"));
    assert_eq!(scene.deletions(), 1);
}

/// How a browser ends after its person has confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closes {
    /// With the form at the server, and no answer yet.
    Sent,
    /// With the answer on the page.
    Answered,
    /// By SIGKILL of everything that it is, with the form at the server.
    Killed,
}

/// Closed after the confirmation has come to the server: executed once, whoever still looks.
fn closed(scene: &Scene, env: &str, closes: Closes) {
    let (before, browser) = (scene.deletions(), scene.browser());
    let request = scene.explain(&browser, env);
    browser.type_in("#typed", &format!("demo/{env}"));
    if closes == Closes::Answered {
        browser.send("delete-env");
        browser.reads("Delete an environment: executed");
        drop(browser);
    } else {
        // The server stands still with the confirmation in its hands until the browser is gone.
        scene.platform.stop_server_at("act.judged").expect("told");
        // Later: the driver waits for what a script itself sets going, and nobody answers that now.
        browser.script(
            "const form = document.querySelector('form[action=\"/do/delete-env\"]'); \
             setTimeout(() => form.requestSubmit(), 200)",
        );
        scene.platform.server_stopped().expect("the form has left");
        match closes {
            Closes::Killed => browser.kill(),
            _ => drop(browser),
        }
        scene.platform.server_goes_on().expect("it runs");
    }
    // What was confirmed runs to its end.
    wait_for("the deletion", SOON, || (scene.verdict(&request) == "executed").then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {env}, {closes:?}: {}", scene.verdict(&request)));
    assert!(!scene.is_there(env) && scene.deletions() == before + 1, "{env}");
    assert_eq!(scene.cli(&["requests", "void", &request, "--json"]).code, 5, "too late: {env}");
}

/// An app is deleted with what is left of it; one that is empty needs no name.
fn whole(scene: &Scene, browser: &Browser) {
    browser.go(&format!("{}/apps", scene.platform.url()));
    browser.unfold("delete-app");
    browser.choose("#delete-app-app", "demo");
    browser.type_in("#delete-app-reason", "all of it");
    browser.send("delete-app");
    browser.reads("Nothing has been done yet.");
    browser.reads("demo/left");
    browser.type_in("#typed", "demo");
    browser.send("delete-app");
    browser.reads("Delete an app: executed");
    browser.go(&format!("{}/apps", scene.platform.url()));
    browser.reads("there are none yet");
    accessible(browser, "no apps");
}
