//! Requests that come twice, and requests that are lost.

use crate::{
    cut,
    scene::{SOON, Scene, fresh, said},
};
use api::RequestVerdict;
use demo::{Cli, wait_for};
use types::RequestId;

fn create(name: &str, id: RequestId, url: &str) -> Vec<String> {
    ["tokens", "create", name, "--role", "viewer", "--json", "--request-id", &id.to_string(), "--server", url]
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

/// The event of a receipt.
fn event(told: &Cli) -> u64 {
    let receipt = told.json().expect("a receipt");
    assert_eq!((told.code, receipt["outcome"].as_str()), (0, Some("executed")), "{told:?}");
    receipt["event"].as_u64().expect("an event")
}

#[test]
fn fm_o3_requests_show_answers_from_the_log_at_every_server() {
    let mut scene = Scene::of(3);
    let url = scene.url(1);
    let (executed, refused, voided, not_seen) = (fresh(), fresh(), fresh(), fresh());
    let expired = RequestId::from_parts(types::Timestamp::from_ms(5), 1);
    event(&scene.cli(&words(&create("ci", executed, &url))));
    cut::apply(&scene, &cut::image(scene.dir()), "64Mi");
    let id = refused.to_string();
    let scale = ["scale", "nobody=3", "--app", "shop", "--request-id", &id, "--server", &url];
    assert_eq!(scene.cli(&scale).code, 4, "refused by a rule");
    assert_eq!(scene.cli(&["requests", "void", &voided.to_string(), "--server", &url]).code, 0);
    let all = [
        (executed, RequestVerdict::Executed, true),
        (refused, RequestVerdict::Refused, true),
        (voided, RequestVerdict::Voided, true),
        (expired, RequestVerdict::Expired, true),
        (not_seen, RequestVerdict::NotSeen, false),
    ];
    let told = |scene: &Scene, at: usize| {
        all.iter().all(|(id, verdict, is_final)| {
            let line = ["requests", "show", &id.to_string(), "--json", "--server", &scene.url(at)];
            let shown = scene.cli(&line);
            let Ok(state) = shown.json() else { return false };
            let verdict = serde_json::to_value(verdict).expect("a word");
            let exit = if *is_final { 0 } else { 7 };
            state["state"] == verdict && state["final"] == *is_final && shown.code == exit
        })
    };
    let everywhere = |scene: &Scene, servers: &[usize]| {
        for at in servers {
            // One that was not there may have to catch up; it never says anything else for certain.
            wait_for("five answers", SOON, || told(scene, *at).then_some(()))
                .unwrap_or_else(|error| panic!("{error}: at {at}"));
        }
    };
    everywhere(&scene, &[0, 1, 2]);
    let leader = scene.leader();
    scene.kill(leader);
    scene.leader();
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    everywhere(&scene, &others);
    others.iter().for_each(|at| scene.kill(*at));
    (0..3).for_each(|at| scene.launch(at));
    scene.leader();
    everywhere(&scene, &[0, 1, 2]);
}

#[test]
fn fm_o5_a_request_that_comes_twice_runs_once_and_gets_the_first_ones_outcome() {
    let mut scene = Scene::of(3);
    let id = fresh();
    // At all members at once, twice each.
    let begun: Vec<_> =
        (0..6).map(|at| scene.begin(&words(&create("ci", id, &scene.url(at % 3))), None)).collect();
    let told: Vec<Cli> =
        begun.into_iter().map(|child| said(&child.wait_with_output().expect("it ends"))).collect();
    let events: Vec<u64> = told.iter().map(event).collect();
    assert!(events.iter().all(|event| *event == events[0]), "{told:?}");
    let secrets = told.iter().filter(|told| told.stdout.contains("\"secret\":\"hf_")).count();
    assert_eq!(secrets, 1, "one of them was the first: {told:?}");
    let leader = scene.leader();
    assert_eq!(scene.effects(leader, id), ["token.created"]);
    // After the leader died and came back, and after all of them did.
    scene.kill(leader);
    let next = scene.leader();
    assert_eq!(event(&scene.cli(&words(&create("ci", id, &scene.url(next))))), events[0]);
    scene.start(leader);
    (0..3).for_each(|at| scene.kill(at));
    (0..3).for_each(|at| scene.launch(at));
    let leader = scene.leader();
    for at in 0..3 {
        assert_eq!(event(&scene.cli(&words(&create("ci", id, &scene.url(at))))), events[0], "at {at}");
    }
    // Another body is another intent, and is refused at each of them.
    for at in 0..3 {
        let other = scene.cli(&words(&create("other", id, &scene.url(at))));
        assert_eq!(other.code, 5, "{other:?}");
        assert!(other.stderr.contains("request_id_reused"), "{other:?}");
    }
    assert_eq!(scene.effects(leader, id), ["token.created"]);
    assert_eq!(scene.verdict(leader, id), RequestVerdict::Executed);
    // A member that finds no leader has no less: the copy is not done, and the request was.
    (0..3).filter(|at| *at != leader).for_each(|at| scene.kill(at));
    let told = scene.cli(&words(&create("ci", id, &scene.url(leader))));
    assert_eq!(event(&told), events[0], "the one that led answers, or looks it up: {told:?}");
    (0..3).filter(|at| *at != leader).for_each(|at| scene.start(at));
    let leader = scene.leader();
    // Two intents at once under one id, at two members: one runs, the other is refused.
    let id = fresh();
    let begun: Vec<_> = ["red", "blue"]
        .iter()
        .enumerate()
        .map(|(at, name)| scene.begin(&words(&create(name, id, &scene.url(at))), None))
        .collect();
    let told: Vec<Cli> =
        begun.into_iter().map(|child| said(&child.wait_with_output().expect("it ends"))).collect();
    let mut codes: Vec<i32> = told.iter().map(|told| told.code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, 5], "{told:?}");
    assert_eq!(scene.effects(leader, id), ["token.created"]);
}
