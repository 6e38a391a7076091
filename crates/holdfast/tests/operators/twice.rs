//! Requests that come twice, and requests that are lost.

use crate::scene::{Scene, fresh, said};
use api::RequestVerdict;
use demo::Cli;
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
