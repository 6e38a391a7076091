//! A deploy of real instances, watched while it goes on, and what can be done about it.

use crate::{
    driver::{At, Browser, SOON},
    reading::{accessible, owner, picture},
};
use demo::{
    Authority, Manifest, Platform,
    image::{Recipe, Temper, build},
    wait_for,
};
use std::{path::Path, time::Duration};

const HOST: &str = "shop.example";

#[test]
fn a_deploy_is_watched_live_and_rolled_back_from_the_page() {
    let dir = tempfile::Builder::new().prefix("holdfast-web-").tempdir().expect("a directory");
    let authority = Authority::new().expect("an authority");
    let recipes = ["v1", "v2"].map(|version| Recipe { version, temper: Temper::Sound });
    let layout = dir.path().join("image");
    build(&layout, &authority, &[HOST], &recipes).expect("the demo's image");
    let binary = Path::new(env!("CARGO_BIN_EXE_holdfast"));
    let mut platform = Platform::new(binary, &dir.path().join("run")).expect("a platform");
    platform.start().expect("server, agent and edge");
    let image = |version: &str| format!("oci:{}:{version}", layout.display());
    let manifest = Manifest { image: &image("v1"), host: HOST, tcp: platform.tcp_port(), replicas: 2 };
    platform.apply(&manifest.text()).and_then(demo::Cli::executed).expect("version 1");
    let (url, browser) = (platform.url(), Browser::start(&At::here()));
    browser.log_in(&url, &owner(&platform));
    browser.go(&format!("{url}/apps/demo/prod"));
    let environment = browser.url();
    browser.unfold("deploy");
    browser.type_in("#deploy-image", &image("v2"));
    browser.send("deploy");
    browser.reads("Deploy another image: executed");
    accessible(&browser, "a receipt");
    browser.click("main p a");
    watched(&browser, "It has succeeded");
    accessible(&browser, "a deploy");
    browser.picture(&picture("deploy-light.png"));
    browser.go(&environment);
    browser.reads("runs and is routed");
    accessible(&browser, "an environment");
    pictures(&browser, &url, &environment);
    logs(&browser, &environment);
    rolled_back(&browser, &environment);
    drop(browser);
    platform.stop().expect("an end");
}

/// Waits for a sentence on a page that is not loaded again.
fn watched(browser: &Browser, sentence: &str) {
    browser.script("window.sameDocument = true");
    wait_for(sentence, Duration::from_secs(60), || browser.seen().contains(sentence).then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", browser.seen()));
    assert_eq!(browser.script("return window.sameDocument === true"), true, "it was watched, not reloaded");
}

fn pictures(browser: &Browser, url: &str, environment: &str) {
    for scheme in ["light", "dark"] {
        browser.likes(scheme);
        let all = [
            ("overview", format!("{url}/")),
            ("environment", environment.to_owned()),
            ("nodes", format!("{url}/nodes")),
        ];
        for (name, at) in all {
            browser.go(&at);
            browser.reads("Read again");
            accessible(browser, &format!("{name} ({scheme})"));
            browser.picture(&picture(&format!("{name}-{scheme}.png")));
        }
    }
    browser.likes("light");
}

/// What an instance prints is there, and what it prints from then on is added.
fn logs(browser: &Browser, environment: &str) {
    browser.go(environment);
    browser.click("#instances tbody th a");
    browser.reads("What it prints");
    accessible(browser, "an instance");
    browser.click("#follow button");
    browser.reads("What comes is added below.");
    browser.click("#follow button");
    browser.reads("Not followed any more.");
}

fn rolled_back(browser: &Browser, environment: &str) {
    browser.go(environment);
    browser.unfold("rollback");
    browser.send("rollback");
    browser.reads("Roll back: executed");
    // A reload is the same request.
    let request = browser.text("main a.id[href^=\"/requests\"]");
    browser.click("main p a");
    watched(browser, "It has succeeded");
    browser.go(environment);
    wait_for("the older release", SOON, || browser.seen().contains("1 (current)").then_some(()))
        .unwrap_or_else(|error| panic!("{error}: {}", browser.seen()));
    browser.click("header a[href=\"/requests\"]");
    browser.type_in("#request", &request);
    browser.click("main form button");
    browser.reads("executed");
}
