//! The audit of three members: what was attempted stands there once, whoever was killed, and whatever
//! was changed in a journal is found.

use crate::{
    disk::Disk,
    scene::{ANSWER, Cluster, NAMES, SOON},
    wire::{Answer, Call, Lost},
};
use demo::wait_for;
use rt::{Clock as _, OsRandom, Random as _, SystemClock};
use serde_json::{Value, json};
use types::RequestId;

const ALL: [usize; 3] = [0, 1, 2];

fn id() -> String {
    RequestId::from_parts(SystemClock.now(), OsRandom.u128()).to_string()
}

fn send(cluster: &Cluster, at: usize, path: &str, id: &str, body: &Value) -> Result<Answer, Lost> {
    let headers = [("idempotency-key", id)];
    cluster.call(at, &Call { method: "POST", path, headers: &headers, body: Some(body) }, ANSWER)
}

fn token() -> Value {
    json!({ "name": "ci", "role": "viewer", "expires_in": "1h" })
}

/// Everything that a member knows of the audit.
fn audit(cluster: &Cluster, at: usize) -> Value {
    cluster.read(at, "/v1/audit?limit=500")
}

/// The types of the rows about a request, in their order.
fn of(audit: &Value, id: &str) -> Vec<String> {
    let rows = audit["rows"].as_array().expect("rows").iter();
    let rows = rows.filter(|row| row["request"]["id"] == id);
    rows.map(|row| row["type"].as_str().expect("a type").to_owned()).collect()
}

fn journal<'a>(audit: &'a Value, name: &str) -> &'a Value {
    let all = audit["journals"].as_array().expect("journals");
    all.iter().find(|journal| journal["name"] == name).expect("every member is named")
}

/// One attempt of every kind, each with its id and how the audit calls it. Members 1 and 2 are gone for a
/// while.
fn attempts(cluster: &mut Cluster) -> Vec<(String, &'static str)> {
    let (executed, refused, denied) = (id(), id(), id());
    let (failed, abandoned) = (id(), id());
    assert_eq!(send(cluster, 1, "/v1/tokens", &executed, &token()).expect("an answer").status, 200);
    let scale = json!({ "process": "web", "replicas": 1, "password": "hunter2" });
    let path = "/v1/orgs/default/apps/none/envs/prod/scale";
    let answer = send(cluster, 1, path, &refused, &scale).expect("an answer");
    assert!((400..500).contains(&answer.status), "{answer:?}");
    let headers = [("idempotency-key", denied.as_str()), ("authorization", "Bearer hf_guessed")];
    let call = Call { method: "POST", path: "/v1/tokens", headers: &headers, body: Some(&token()) };
    let answer = crate::wire::call(cluster.host(2), &call, ANSWER).expect("an answer");
    assert_eq!(answer.status, 401, "{answer:?}");

    // Explained at member 2, which is stopped in good order before anybody confirms.
    let body = json!({ "node": NAMES[2], "reason": "to be abandoned" });
    let answer = send(cluster, 2, "/v1/cluster/fence?explain", &abandoned, &body).expect("an answer");
    assert_eq!(answer.status, 200, "{answer:?}");
    cluster.stop(2);
    cluster.kill(1);
    wait_for("a write without a majority to fail", SOON, || {
        let answer = send(cluster, 0, "/v1/tokens", &failed, &token()).ok()?;
        (answer.status >= 500).then_some(())
    })
    .expect("it fails");
    cluster.start(1);
    cluster.start(2);
    cluster.all_vote(3);
    vec![
        (executed, "executed"),
        (refused, "refused"),
        (denied, "denied"),
        (failed, "failed"),
        (abandoned, "abandoned"),
    ]
}

#[test]
fn the_audit_shows_every_attempt_once_whichever_member_was_killed() {
    let mut cluster = Cluster::of_three();
    let attempts = attempts(&mut cluster);
    let once = |cluster: &Cluster, at: usize| {
        let shown = audit(cluster, at);
        for (id, kind) in &attempts {
            assert_eq!(of(&shown, id), [*kind], "{id} at {}: {shown:#}", NAMES[at]);
        }
        let text = shown.to_string();
        assert!(text.contains("[redacted]") && !text.contains("hunter2") && !text.contains("hf_guessed"));
    };
    ALL.iter().for_each(|at| once(&cluster, *at));
    for at in ALL {
        cluster.kill(at);
        let other = (at + 1) % 3;
        wait_for("the dead member's journal to be named", SOON, || {
            let shown = audit(&cluster, other);
            let dead = journal(&shown, NAMES[at]);
            (dead["unread"].is_string() && dead["as_of"].is_u64()).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {:#}", audit(&cluster, other)));
        // What was read of it before is still shown.
        once(&cluster, other);
        cluster.start(at);
        cluster.all_vote(3);
        once(&cluster, at);
    }
    the_command_line_tells_the_same(&cluster, &attempts);
    a_flipped_byte_is_found(&cluster);
}

fn the_command_line_tells_the_same(cluster: &Cluster, attempts: &[(String, &'static str)]) {
    let table = cluster.cli(1, &["audit", "--limit", "200"]).executed().expect("a table").stdout;
    let export = cluster.cli(1, &["audit", "--all", "--json"]).executed().expect("an export").stdout;
    for (id, kind) in attempts {
        let line = table.lines().find(|line| line.contains(id)).unwrap_or_else(|| panic!("{id} in {table}"));
        assert!(line.contains(kind), "{line}");
        let rows = export.lines().map(|line| serde_json::from_str::<Value>(line).expect("a row"));
        assert_eq!(rows.filter(|row| row["request"]["id"] == **id && row["type"] == *kind).count(), 1);
    }
    let (denied, _) = &attempts[2];
    let shown = cluster.cli(0, &["requests", "show", denied]);
    assert_eq!(shown.code, 7, "it was never seen by the log: {shown:?}");
    assert!(shown.stdout.contains("not seen so far") && shown.stdout.contains("denied"), "{shown:?}");
    assert!(shown.stdout.contains("none of that is final"), "{shown:?}");
}

fn a_flipped_byte_is_found(cluster: &Cluster) {
    let sound = cluster.cli(0, &["audit", "verify"]).executed().expect("all are sound");
    for name in NAMES.iter().take(3) {
        assert!(sound.stdout.lines().any(|line| line.starts_with(name)), "{sound:?}");
    }
    // By hand, as the page says.
    let by_hand = by_hand(cluster.data(0));
    assert!(sound.stdout.contains(&by_hand), "{by_hand} is not in {sound:?}");
    // The member that sequenced saw the most.
    let (data, path) = (cluster.data(0).display().to_string(), cluster.data(0).join("audit/journal"));
    cluster.cli(0, &["audit", "verify", "--data-dir", &data]).executed().expect("it is sound");
    let mut bytes = std::fs::read(&path).expect("a journal");
    // What is cut off its end leaves a chain that is whole, and not what that server has written.
    let last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("a line");
    std::fs::write(&path, &bytes[..=last]).expect("written");
    cluster.cli(0, &["audit", "verify", "--data-dir", &data]).executed().expect("its chain is whole");
    let said = cluster.cli(1, &["audit", "verify"]);
    assert!(said.code == 1 && said.stdout.contains("its lines end before it"), "{said:?}");
    let second = bytes.iter().position(|byte| *byte == b'\n').expect("a line") + 40;
    bytes[second] ^= 1;
    std::fs::write(&path, bytes).expect("written");
    for said in
        [cluster.cli(1, &["audit", "verify"]), cluster.cli(0, &["audit", "verify", "--data-dir", &data])]
    {
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.stdout.contains("DIFFERS") && said.stdout.contains("at entry 2"), "{said:?}");
    }
}

/// The head of a journal as the commands of `docs/audit.md` compute it.
fn by_hand(data: &std::path::Path) -> String {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/audit.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let script = page.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a script");
    let mut bash = std::process::Command::new("bash");
    let output = bash.arg("-c").arg(script).current_dir(data.join("audit")).output().expect("bash");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn a_full_disk_refuses_guarded_acts_and_readiness_says_so() {
    let disk = Disk::new(24);
    let mut cluster = Cluster::machines(1);
    cluster.keep_in(0, disk.data());
    cluster.found(&[]);
    let body = json!({ "node": NAMES[0], "reason": "the disk is full" });
    let explained = send(&cluster, 0, "/v1/cluster/fence?explain", &id(), &body).expect("an answer");
    let token = explained.body["token"].as_str().expect("a token").to_owned();
    disk.fill();
    let headers = [("holdfast-confirm", token.as_str())];
    let call = Call { method: "POST", path: "/v1/cluster/fence", headers: &headers, body: Some(&body) };
    let refused = cluster.call(0, &call, ANSWER).expect("an answer");
    assert_eq!((refused.status, refused.code()), (503, "unavailable"), "{refused:?}");
    assert!(refused.body["detail"].as_str().is_some_and(|text| text.contains("must be written down")));
    let ready = cluster.get(0, "/health/ready").expect("an answer");
    assert_eq!(ready.status, 200, "{ready:?}");
    let reason = ready.body["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("the audit cannot be written"), "{ready:?}");
    assert_eq!(cluster.get(0, "/v1/nodes").expect("an answer").status, 200, "reads go on");
    disk.clear();
    wait_for("the gap to be written", SOON, || {
        let shown = audit(&cluster, 0);
        let rows = shown["rows"].as_array()?;
        rows.iter().find(|row| row["type"] == "lost").map(drop)
    })
    .unwrap_or_else(|error| panic!("{error}: {:#}", audit(&cluster, 0)));
    let explained = send(&cluster, 0, "/v1/cluster/fence?explain", &id(), &body).expect("an answer");
    let token = explained.body["token"].as_str().expect("a token").to_owned();
    let headers = [("holdfast-confirm", token.as_str())];
    let call = Call { method: "POST", path: "/v1/cluster/fence", headers: &headers, body: Some(&body) };
    let done = cluster.call(0, &call, ANSWER).expect("an answer");
    assert_eq!(done.status, 200, "{done:?}");
}
