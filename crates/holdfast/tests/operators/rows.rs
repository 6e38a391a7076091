//! The rows, one by one: an ordinary write and a guarded act, with one server and with three.

use crate::{
    cut,
    proxy::{Cut, Proxy},
    scene::{SOON, Scene, fresh, said},
};
use api::RequestVerdict;
use demo::{Cli, wait_for};
use rt::Boundary::{self, *};
use std::process::Child;
use types::RequestId;

/// What the log must say of a request afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Truth {
    Executed,
    NotExecuted,
}

/// An ordinary write: where a server dies in it, and what that leaves.
const WRITE: [(Boundary, Truth); 4] = [
    (WriteReceived, Truth::NotExecuted),
    (WriteDecided, Truth::NotExecuted),
    (WriteDurable, Truth::Executed),
    (WriteAnswered, Truth::Executed),
];

/// The same for a guarded act, from its confirmation on.
const ACT: [(Boundary, Truth); 6] = [
    (ActJudged, Truth::NotExecuted),
    (ActConfirmed, Truth::NotExecuted),
    (WriteReceived, Truth::NotExecuted),
    (WriteDecided, Truth::NotExecuted),
    (WriteDurable, Truth::Executed),
    (ActDone, Truth::Executed),
];

/// The command line that makes a token, as this request.
fn create(id: RequestId, servers: &str) -> Vec<String> {
    let words = ["tokens", "create", "ci", "--role", "viewer", "--json", "--request-id"];
    let mut words: Vec<String> = words.iter().map(ToString::to_string).collect();
    words.extend([id.to_string(), "--server".to_owned(), servers.to_owned()]);
    words
}

/// The command line that removes a member, as this request, with more words.
fn remove(member: &str, id: RequestId, servers: &str, more: &[&str]) -> Vec<String> {
    let words = ["cluster", "remove", member, "--reason", "sold", "--json", "--request-id"];
    let mut words: Vec<String> = words.iter().map(ToString::to_string).collect();
    words.extend([id.to_string(), "--server".to_owned(), servers.to_owned()]);
    words.extend(more.iter().map(ToString::to_string));
    words
}

fn words(line: &[String]) -> Vec<&str> {
    line.iter().map(String::as_str).collect()
}

/// Has an act explained and gives its token.
fn explained(scene: &Scene, line: &[String]) -> String {
    let explained = scene.cli(&[words(line), vec!["--explain"]].concat());
    let explained = explained.executed().expect("an explanation").json().expect("JSON");
    explained["token"].as_str().expect("a token").to_owned()
}

fn end(child: Child) -> Cli {
    said(&child.wait_with_output().expect("the program ends"))
}

/// The outcome that the command line told with `--json`, of its receipt or of its problem.
fn outcome(told: &Cli) -> String {
    let text = if told.code == 0 { &told.stdout } else { &told.stderr };
    let value: serde_json::Value =
        serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {told:?}"));
    value["outcome"].as_str().unwrap_or_else(|| panic!("no outcome: {told:?}")).to_owned()
}

/// What the command line told is the truth, and with what it named the truth is certain at this server.
fn agrees(scene: &Scene, at: usize, (told, id): (&Cli, RequestId), truth: Truth) {
    match (told.code, truth) {
        (0, Truth::Executed) => assert_eq!(outcome(told), "executed"),
        (7, _) => {
            assert_eq!(outcome(told), "unknown", "{told:?}");
            for verb in ["show", "void"] {
                assert!(told.stderr.contains(&format!("holdfast requests {verb} {id}")), "{told:?}");
            }
        }
        _ => panic!("{truth:?}, and it was told {told:?}"),
    }
    let url = scene.url(at);
    let show = ["requests", "show", &id.to_string(), "--server", &url];
    let shown = scene.cli(&show);
    match truth {
        Truth::Executed => {
            assert_eq!(shown.code, 0, "{shown:?}");
            assert_eq!(scene.verdict(at, id), RequestVerdict::Executed);
            assert!(!scene.void(at, id), "what ran is not voided");
            assert_eq!(scene.effects(at, id).len(), 1, "once, and wholly");
        }
        Truth::NotExecuted => {
            assert_eq!((shown.code, scene.state(at, id).is_final), (7, false), "{shown:?}");
            assert!(scene.void(at, id), "it may never run any more");
            assert_eq!(scene.effects(at, id), Vec::<String>::new());
        }
    }
}

/// The members are as the truth has it: one that is removed goes as soon as a leader sees to it.
fn shows(scene: &Scene, at: usize, member: &str, truth: Truth) {
    match truth {
        Truth::NotExecuted => assert!(scene.has_member(at, member)),
        Truth::Executed => {
            wait_for("a member to be gone", SOON, || (!scene.has_member(at, member)).then_some(()))
                .expect("it was removed");
        }
    }
}

/// Lines of a server's journal that hold this.
fn journal(scene: &Scene, at: usize, text: &str) -> Vec<String> {
    let dir = std::fs::read_dir(scene.data(at).join("audit")).expect("a journal");
    let files = dir.filter_map(|entry| std::fs::read(entry.ok()?.path()).ok());
    let lines: Vec<String> = files
        .flat_map(|bytes| String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    lines.into_iter().filter(|line| line.contains(text)).collect()
}

fn confirmed(scene: &Scene, at: usize, id: RequestId) -> bool {
    journal(scene, at, &id.to_string()).iter().any(|line| line.contains(r#""confirmed""#))
}

impl Scene {
    /// A proxy before a server.
    pub fn proxy(&self, at: usize, cut: Cut) -> Proxy {
        let to = self.address(at).parse().expect("an address");
        self.block(async { Proxy::start(to, cut).await })
    }
}

#[test]
fn fm_o1_a_client_that_dies_before_it_sends_leaves_nothing() {
    let scene = Scene::of(1);
    scene.ghost("ghost");
    let proxy = scene.proxy(0, Cut::NONE);
    let (write, act) = (fresh(), fresh());
    let create = create(write, &proxy.url);
    let token = explained(&scene, &remove("ghost", act, &scene.url(0), &[]));
    let remove = remove("ghost", act, &proxy.url, &["--confirm", &token]);
    let before = scene.caused(0);
    scene.dies_at(&words(&create), CallBegun);
    scene.dies_at(&words(&remove), CallBegun);
    assert_eq!(proxy.heard(), Vec::<String>::new(), "nothing was sent");
    assert_eq!(scene.caused(0), before, "no record of anything");
    assert!(scene.has_member(0, "ghost") && journal(&scene, 0, &act.to_string()).is_empty());
    for id in [write, act] {
        let shown = scene.cli(&["requests", "show", &id.to_string(), "--server", &scene.url(0)]);
        assert_eq!(shown.code, 7, "not seen so far: {shown:?}");
    }
    // Whoever wants it gives the same command again.
    for line in [&create, &remove] {
        scene.cli(&words(line)).executed().expect("done now");
    }
    assert_eq!(proxy.writes().len(), 2, "{:?}", proxy.heard());
    shows(&scene, 0, "ghost", Truth::Executed);
    for id in [write, act] {
        assert_eq!(scene.effects(0, id).len(), 1);
    }
}

#[test]
fn fm_o2_what_is_not_confirmed_is_discarded_with_its_client_or_its_server() {
    let mut scene = Scene::of(1);
    scene.ghost("ghost");
    let before = scene.caused(0);
    let proxy = scene.proxy(0, Cut::NONE);
    // The client dies with the explanation in its hands.
    let id = fresh();
    scene.dies_at(&words(&remove("ghost", id, &proxy.url, &[])), CallExplained);
    assert_eq!(proxy.heard(), ["POST /v1/cluster/remove?explain HTTP/1.1"]);
    // The server dies as it hands the token out.
    scene.arm(0, ActExplained);
    let lost = scene.cli(&words(&remove("ghost", id, &proxy.url, &[])));
    scene.killed(0);
    assert_eq!((lost.code, outcome(&lost).as_str()), (6, "not_executed"), "{lost:?}");
    scene.start(0);
    // The confirmation dies with the server.
    let token = explained(&scene, &remove("ghost", id, &proxy.url, &[]));
    scene.restart(0);
    let confirm = remove("ghost", id, &proxy.url, &["--confirm", &token]);
    let refused = scene.cli(&words(&confirm));
    assert_eq!((refused.code, outcome(&refused).as_str()), (5, "not_executed"), "{refused:?}");
    assert!(refused.stderr.contains("confirmation_invalid"), "{refused:?}");
    // It dies when the token is used up and nothing was written down: used up it stays.
    let token = explained(&scene, &remove("ghost", id, &proxy.url, &[]));
    scene.arm(0, ActJudged);
    let confirm = remove("ghost", id, &proxy.url, &["--confirm", &token]);
    let child = scene.begin(&words(&confirm), None);
    scene.killed(0);
    scene.start(0);
    let told = end(child);
    assert_eq!((told.code, outcome(&told).as_str()), (7, "unknown"), "{told:?}");
    assert_eq!(scene.cli(&words(&confirm)).code, 5, "the token died with the server");
    assert!(!confirmed(&scene, 0, id), "nothing says that it was confirmed");
    assert_eq!(scene.caused(0), before, "nothing was done");
    assert!(scene.has_member(0, "ghost") && scene.void(0, id));
}

#[test]
fn fm_o3_after_the_confirmation_the_log_tells_whether_it_was_done() {
    let mut scene = Scene::of(1);
    for (round, (boundary, truth)) in ACT.into_iter().enumerate() {
        let (name, id) = (format!("ghost-{round}"), fresh());
        scene.ghost(&name);
        let proxy = scene.proxy(0, Cut::NONE);
        let token = explained(&scene, &remove(&name, id, &scene.url(0), &[]));
        scene.arm(0, boundary);
        let line = remove(&name, id, &proxy.url, &["--confirm", &token]);
        let child = scene.begin(&words(&line), None);
        scene.killed(0);
        scene.start(0);
        let told = end(child);
        eprintln!("server killed at {}: {truth:?}, told {}", boundary.name(), told.code);
        assert_eq!(proxy.writes().len(), 1, "sent once: {:?}", proxy.heard());
        agrees(&scene, 0, (&told, id), truth);
        shows(&scene, 0, &name, truth);
        assert_eq!(confirmed(&scene, 0, id), boundary != ActJudged, "written down before it is done");
    }
}

#[test]
fn fm_o3_a_client_that_dies_waiting_leaves_what_the_log_says() {
    let scene = Scene::of(1);
    scene.ghost("ghost");
    let proxy = scene.proxy(0, Cut::NONE);
    let (write, act) = (fresh(), fresh());
    let token = explained(&scene, &remove("ghost", act, &scene.url(0), &[]));
    let lines =
        [(write, create(write, &proxy.url)), (act, remove("ghost", act, &proxy.url, &["--confirm", &token]))];
    for (id, line) in &lines {
        // The server stands still with the verdict in its hands; whoever asked is gone when it goes on.
        scene.arm_to_stop(0, WriteDurable);
        let mut child = scene.begin(&words(line), None);
        scene.stopped_at(0);
        child.kill().expect("SIGKILL");
        child.wait().expect("reaped");
        scene.goes_on(0);
        assert_eq!(scene.verdict(0, *id), RequestVerdict::Executed);
        assert_eq!(scene.effects(0, *id).len(), 1);
    }
    assert_eq!(proxy.writes().len(), 2);
    shows(&scene, 0, "ghost", Truth::Executed);
    // One that dies with the outcome in its hands has told nobody, and it is there.
    let id = fresh();
    scene.dies_at(&words(&create(id, &proxy.url)), CallAnswered);
    assert_eq!(scene.verdict(0, id), RequestVerdict::Executed);
    // The same command again does nothing and gives the first one's outcome.
    let again = scene.cli(&words(&create(id, &proxy.url))).executed().expect("the same outcome");
    assert!(again.stdout.contains("executed before"), "{again:?}");
    assert_eq!(scene.effects(0, id).len(), 1);
}

#[test]
fn fm_o3_another_server_tells_what_became_of_an_act_whose_leader_died() {
    let mut scene = Scene::of(3);
    for (round, (boundary, truth)) in
        [(ActConfirmed, Truth::NotExecuted), (WriteDurable, Truth::Executed)].into_iter().enumerate()
    {
        let (name, id) = (format!("ghost-{round}"), fresh());
        if round == 0 {
            scene.ghost("ghost-0");
            scene.ghost("ghost-1");
        }
        let leader = scene.leader();
        let token = explained(&scene, &remove(&name, id, &scene.url(leader), &[]));
        scene.arm(leader, boundary);
        let line = remove(&name, id, &scene.urls(leader), &["--confirm", &token]);
        let child = scene.begin(&words(&line), None);
        scene.killed(leader);
        let next = scene.leader();
        let told = end(child);
        let code = if truth == Truth::Executed { 0 } else { 7 };
        assert_eq!(told.code, code, "leader killed at {}: {told:?}", boundary.name());
        agrees(&scene, next, (&told, id), truth);
        scene.start(leader);
        wait_for("the verdict where it is back", SOON, || scene.state(leader, id).is_final.then_some(()))
            .expect("it catches up");
        shows(&scene, next, &name, truth);
    }
}

#[test]
fn fm_o4_a_server_that_dies_around_dispatch_has_done_it_or_not() {
    let mut scene = Scene::of(1);
    let mut done = Vec::new();
    for (boundary, truth) in WRITE {
        let (id, proxy) = (fresh(), scene.proxy(0, Cut::NONE));
        scene.arm(0, boundary);
        let child = scene.begin(&words(&create(id, &proxy.url)), None);
        scene.killed(0);
        scene.start(0);
        let told = end(child);
        eprintln!("killed at {}: {truth:?}, told {}", boundary.name(), told.code);
        assert_eq!(proxy.writes().len(), 1, "sent once: {:?}", proxy.heard());
        agrees(&scene, 0, (&told, id), truth);
        done.push((id, truth));
    }
    // Never replayed: neither by a restart, nor by another.
    let before = scene.caused(0);
    scene.restart(0);
    scene.restart(0);
    assert_eq!(scene.caused(0), before);
    for (id, truth) in done {
        assert_eq!(scene.effects(0, id).len(), usize::from(truth == Truth::Executed));
    }
}

#[test]
fn fm_o4_a_leader_that_dies_around_dispatch_is_spoken_for_by_another() {
    let mut scene = Scene::of(3);
    for (boundary, truth) in WRITE {
        let (id, leader) = (fresh(), scene.leader());
        scene.arm(leader, boundary);
        let child = scene.begin(&words(&create(id, &scene.urls(leader))), None);
        scene.killed(leader);
        let next = scene.leader();
        let told = end(child);
        let code = if truth == Truth::Executed { 0 } else { 7 };
        assert_eq!(told.code, code, "leader killed at {}: {told:?}", boundary.name());
        agrees(&scene, next, (&told, id), truth);
        scene.start(leader);
        let found = wait_for("the same verdict everywhere", SOON, || {
            let states: Vec<_> = (0..3).map(|at| scene.state(at, id)).collect();
            (states[0] == states[1] && states[1] == states[2] && states[0].is_final).then_some(())
        });
        found.unwrap_or_else(|error| panic!("{error}: {:?}", scene.state(leader, id)));
    }
}

#[test]
fn fm_o6_a_refusal_is_told_word_for_word_and_what_the_log_cannot_say_is_unknown() {
    let mut scene = Scene::of(3);
    let leader = scene.leader();
    // A rule says no: the words are those of the server, also of the log afterwards.
    let id = fresh();
    cut::apply(&scene, &cut::image(scene.dir()), "64Mi");
    let text = id.to_string();
    let line = ["scale", "nobody=3", "--app", "shop", "--json", "--request-id", &text, "--server"];
    let url = scene.url(leader);
    let refused = scene.cli(&[&line[..], &[url.as_str()]].concat());
    assert_eq!((refused.code, outcome(&refused).as_str()), (4, "not_executed"), "{refused:?}");
    let state = scene.state(leader, id);
    assert_eq!((state.state, state.is_final), (RequestVerdict::Refused, true), "{state:?}");
    let reason = state.reason.expect("why");
    let problem: serde_json::Value = serde_json::from_str(refused.stderr.trim()).expect("a problem");
    assert_eq!(problem["detail"], reason);
    let shown = scene.cli(&["requests", "show", &id.to_string(), "--server", &url]);
    assert!(shown.code == 0 && shown.stdout.contains(&reason), "{shown:?}");

    // The log fails: without a majority nothing is certain, and nothing is said.
    let others: Vec<usize> = (0..3).filter(|at| *at != leader).collect();
    others.iter().for_each(|at| scene.kill(*at));
    let id = fresh();
    let told = scene.cli(&[words(&create(id, &url)), vec!["--timeout", "3s"]].concat());
    assert!([6, 7].contains(&told.code), "{told:?}");
    let lost = told.code == 7;
    assert_eq!(outcome(&told), if lost { "unknown" } else { "not_executed" });
    others.iter().for_each(|at| scene.start(*at));
    let next = scene.leader();
    if lost {
        // It answers again: now it is certain, whichever way.
        let _was_open = scene.void(next, id);
    }
    let ran = scene.state(next, id).state == RequestVerdict::Executed;
    assert!(!ran || lost, "{told:?}");
    assert_eq!(scene.effects(next, id).len(), usize::from(ran));
}

#[test]
fn fm_o7_an_invalid_request_is_rejected_and_an_abandoned_one_leaves_nothing() {
    let scene = Scene::of(1);
    scene.ghost("ghost");
    let before = scene.caused(0);
    let proxy = scene.proxy(0, Cut::NONE);
    // What makes no sense is not sent, and nothing is made of it.
    let manifest = scene.dir().join("holdfast.toml");
    std::fs::write(&manifest, "schema = 1\napp = \"shop\"\n[procesess.web]\nmemory = \"64Mi\"\n")
        .expect("written");
    for line in
        [&["apply", "--yes"][..], &["tokens", "create", "CI!", "--role", "viewer"], &["scale", "web=many"]]
    {
        let said = scene.cli(&[line, &["--json", "--server", &proxy.url]].concat());
        assert_eq!((said.code, outcome(&said).as_str()), (2, "not_executed"), "{line:?}: {said:?}");
    }
    assert_eq!(proxy.heard(), Vec::<String>::new());
    // What only the server can tell is refused with the reason, and corrected by nobody.
    for (line, code) in [
        (&["scale", "web=3", "--app", "nobody"][..], 4),
        (&["cluster", "remove", "nobody", "--reason", "sold"], 4),
        (&["nodes", "drain", "nobody"], 4),
    ] {
        let said = scene.cli(&[line, &["--json", "--server", &proxy.url]].concat());
        assert_eq!((said.code, outcome(&said).as_str()), (code, "not_executed"), "{line:?}: {said:?}");
        assert!(said.stderr.contains("nobody"), "{said:?}");
    }
    let refused = scene.caused(0);
    let new = refused.iter().filter(|(id, _)| !before.contains_key(id));
    assert!(
        new.clone().all(|(_, kinds)| kinds.len() == 1),
        "nothing but verdicts: {:?}",
        new.collect::<Vec<_>>()
    );
    // An act that was explained and left: nothing happens, and nothing is cleaned up.
    let id = fresh();
    let left = scene.cli(&words(&remove("ghost", id, &proxy.url, &[])));
    assert_eq!(left.code, 5, "{left:?}");
    assert!(scene.has_member(0, "ghost"));
    assert_eq!(scene.caused(0), refused);
    assert!(!scene.state(0, id).is_final, "not seen so far");
}
