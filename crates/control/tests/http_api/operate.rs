//! The server about itself.

use crate::world::*;
use api::{Code, routes};
use std::{fs, path::Path};

#[tokio::test]
async fn a_view_folded_anew_equals_the_live_one() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let instance = world.place(ONE).await;
    let views = world.owner().views().await.expect("views");
    assert!(views.len() >= 4 && views.iter().all(|view| view.quarantined.is_none()), "{views:?}");
    for view in views {
        let rebuilt = world.owner().rebuild_view(&view.name).await.expect("rebuilt");
        assert!(rebuilt.equal && rebuilt.events > 10, "{rebuilt:?}");
        assert_eq!(rebuilt.before, rebuilt.after);
    }
    let missing = world.owner().rebuild_view("nothing").await.expect_err("no such view");
    assert_eq!(missing.code(), Some(Code::NotFound));
    assert!(world.core.state().instances.contains_key(&instance));
}

#[tokio::test]
async fn health_version_and_whoami_tell_who_is_there() {
    let world = World::start().await;
    let ready = world.owner().ready().await.expect("ready");
    assert!(ready.ready && ready.reason.is_none());
    assert_eq!((ready.role.as_str(), ready.epoch.get()), ("leader", 1));
    assert_eq!(world.owner().version().await.expect("a version").cluster, "test-cluster");
    let live = world.bare("GET", routes::HEALTH_LIVE).send().await.expect("an answer");
    assert_eq!(live.status(), 200);
    let who = world.client(FOREIGN).whoami().await.expect("known");
    assert_eq!((who.org, who.expires), (Some(name("other")), None));
}

#[tokio::test]
async fn figures_are_lines_that_prometheus_reads() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let text =
        world.bare("GET", routes::METRICS).send().await.expect("an answer").text().await.expect("text");
    let mut kinds = std::collections::BTreeSet::new();
    for line in text.lines() {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            assert!(kinds.insert(kind.split(' ').next().expect("a name").to_owned()), "{line} twice");
        }
        if line.starts_with('#') {
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
        let name = name.split('{').next().expect("a name");
        let of = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        assert!(kinds.contains(name) || of.is_some_and(|of| kinds.contains(of)), "{line} has no type");
    }
    let head = world.core.head().event;
    assert!(text.contains(&format!("\nholdfast_log_head_event {head}\n")), "{text}");
    let applied =
        "holdfast_http_requests_total{method=\"POST\",path=\"/v1/orgs/{org}/apply\",status=\"200\"} 1";
    assert!(text.contains(applied), "{text}");
    assert!(!text.contains("shop"), "figures are open to all and name nobody's things");
    for line in [
        "holdfast_leads 1",
        "holdfast_leader_changes_total 1",
        "holdfast_instances{state=\"allocated\"} 0",
        "holdfast_deploys{state=\"failed\"} 0",
        "holdfast_deploy_overdue_seconds 0",
        "holdfast_commands_total{outcome=\"executed\"} 1",
        "holdfast_nodes{state=\"active\",health=\"reachable\"} 2",
    ] {
        assert!(text.contains(&format!("\n{line}\n")), "{line}: {text}");
    }
    // An agent and an edge on one node, an agent on the other; nobody has been heard of.
    assert_eq!(text.matches("\nholdfast_lease_age_seconds{").count(), 3, "{text}");
}

/// Whoever asks for anything at all makes the page no longer than the table of routes allows.
#[tokio::test]
async fn no_request_makes_lines_of_its_own() {
    let world = World::start().await;
    let lines = async || {
        let page = world.bare("GET", routes::METRICS).send().await.expect("an answer");
        let text = page.text().await.expect("text");
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    lines().await;
    let before = lines().await;
    for nth in 0..200 {
        for method in ["GET", "POST", "DELETE", "PUT", "BREW"] {
            let asked = world.bare(method, &format!("/v1/nothing-{nth}?x={nth}")).bearer_auth("hf_nobody");
            asked.send().await.expect("an answer");
        }
        let path = format!("/v1/orgs/org-{nth}/apps/app-{nth}/envs/env-{nth}");
        world.bare("GET", &path).bearer_auth(OWNER).send().await.expect("an answer");
    }
    let after = lines().await;
    assert!(after <= before + 12, "{before} lines before, {after} after a thousand requests");
}

/// `UPDATE_OPENAPI=1` writes the copy anew.
#[tokio::test]
async fn the_contract_in_the_documents_is_the_one_that_is_served() {
    let world = World::start().await;
    let served =
        world.bare("GET", routes::OPENAPI).send().await.expect("an answer").text().await.expect("text");
    let served: serde_json::Value = serde_json::from_str(&served).expect("JSON");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        let text = serde_json::to_string_pretty(&served).expect("JSON");
        fs::write(&path, text + "\n").expect("docs can be written");
    }
    let copy = fs::read_to_string(&path).expect("docs/openapi.json; UPDATE_OPENAPI=1 makes it");
    let copy: serde_json::Value = serde_json::from_str(&copy).expect("JSON");
    assert!(copy == served, "docs/openapi.json is not what is served; UPDATE_OPENAPI=1 writes it anew");
}

#[tokio::test]
async fn every_path_of_the_contract_has_a_handler() {
    let world = World::start().await;
    for path in routes::ALL {
        let response = world.bare("OPTIONS", path).send().await.expect("an answer");
        // A path that nobody mounted is not found; one that is mounted says what it takes.
        assert_eq!(response.status(), 405, "{path}");
        let allow = response.headers()["allow"].to_str().expect("text").to_owned();
        for method in allow.split(", ") {
            let request = world.bare(method, path).bearer_auth("hf_nobody");
            let status = request.send().await.expect("an answer").status();
            assert!(status != 404 && status != 405 && status != 500, "{method} {path}: {status}");
        }
    }
}
