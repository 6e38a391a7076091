//! The real command line against a server that cuts, lies and refuses: whatever happens, the exit
//! code and the words must be what can be known, and a write must have been sent at most once.

#[path = "truth/guarded.rs"]
mod guarded;
#[path = "truth/lost.rs"]
mod lost;
#[path = "truth/offline.rs"]
mod offline;

use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

const ID: &str = "01JD0000000000000000000001";
const DEPLOY: &str = "dep_01JD0000000000000000000002";

/// What the fake server does with a request that it has read.
enum Reaction {
    Answer(u16, Value),
    /// Only so many bytes of the answer.
    Part(usize, Value),
    /// The answer, and nobody listens any more.
    Last(Value),
    Cut,
}

/// Method and path of a request, and its whole text.
#[derive(Clone, Debug)]
struct Heard {
    line: String,
    text: String,
}

struct Fake {
    url: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Fake {
    fn start(mut react: impl FnMut(&Heard) -> Reaction + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&heard);
        thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let Some(request) = read_request(&mut stream) else { continue };
                list.lock().expect("no panic").push(request.clone());
                let (status, part, body, last) = match react(&request) {
                    Reaction::Answer(status, body) => (status, usize::MAX, body, false),
                    Reaction::Part(part, body) => (200, part, body, false),
                    Reaction::Last(body) => (200, usize::MAX, body, true),
                    Reaction::Cut => continue,
                };
                let body = body.to_string();
                let answer = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                );
                if last {
                    // Before the answer: whoever has it finds nobody.
                    drop(listener);
                    let _ = stream.write_all(answer.as_bytes());
                    return;
                }
                // A client that has gone has its answer.
                let _ = stream.write_all(&answer.as_bytes()[..part.min(answer.len())]);
                let _ = stream.shutdown(Shutdown::Both);
            }
        });
        Self { url, heard }
    }

    fn writes(&self) -> Vec<Heard> {
        let heard = self.heard.lock().expect("no panic");
        heard
            .iter()
            .filter(|request| request.line.starts_with("POST") && !request.line.contains("plan=true"))
            .cloned()
            .collect()
    }

    fn count(&self) -> usize {
        self.heard.lock().expect("no panic").len()
    }
}

fn read_request(stream: &mut TcpStream) -> Option<Heard> {
    let (mut bytes, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let announced = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")
                    .and_then(|length| length.parse().ok())
            });
            if body.len() >= announced.unwrap_or(0) {
                let line = head.lines().next().unwrap_or_default().trim_end_matches(" HTTP/1.1").to_owned();
                return Some(Heard { line, text });
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&piece[..count]),
        }
    }
}

struct Said {
    code: i32,
    out: String,
    err: String,
}

/// Runs the command line with nothing of the caller's own context, and no terminal.
fn holdfast(url: &str, args: &[&str]) -> Said {
    holdfast_into(url, args, Stdio::piped())
}

/// The same, with this as standard output.
fn holdfast_into(url: &str, args: &[&str], stdout: Stdio) -> Said {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HOLDFAST_")) {
        command.env_remove(name);
    }
    let output: Output = command
        .current_dir(dir.path())
        .env("HOLDFAST_CONFIG", dir.path().join("context.toml"))
        .args(args)
        .args(["--server", url, "--token", "hf_test", "--app", "shop"])
        .stdin(Stdio::null())
        .stdout(stdout)
        .output()
        .expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: output.status.code().unwrap_or(-1), out: text(&output.stdout), err: text(&output.stderr) }
}

fn scale(url: &str) -> Said {
    holdfast(url, &["scale", "web=3", "--no-wait", "--request-id", ID])
}

fn receipt() -> Value {
    json!({ "request_id": ID, "outcome": "executed", "event": 42,
        "events": [{ "id": 42, "kind": "scale.set", "subject": "env_01JD0000000000000000000003" }], "result": {} })
}

fn state(state: &str, is_final: bool, event: Option<u64>, reason: Option<&str>, code: Option<&str>) -> Value {
    let outcome = match state {
        "executed" => "executed",
        "refused" | "voided" => "not_executed",
        _ => "unknown",
    };
    json!({ "request_id": ID, "state": state, "final": is_final, "outcome": outcome, "event": event,
        "reason": reason, "code": code, "at": null })
}

fn problem(code: &str, status: u16, outcome: &str) -> Value {
    json!({ "type": format!("docs/errors/{code}.md"), "title": "t", "status": status, "detail": "told by the server",
        "code": code, "outcome": outcome })
}

/// The one event of the request.
fn page(kind: &str, subject: &str, id: &str) -> Value {
    json!({ "head": 42, "events": [{ "id": 42, "at": 1, "kind": kind, "version": 1,
        "subject": { "type": subject, "id": id, "sequence": 2 },
        "actor": "system", "request_id": ID, "epoch": 1, "data": {} }] })
}

fn scaled() -> Value {
    page("scale.set", "environment", "env_01JD0000000000000000000003")
}

/// A server that loses every answer to a write, and says this of requests.
fn losing(verdict: Value) -> Fake {
    Fake::start(move |request| match request.line.split(' ').collect::<Vec<_>>()[..] {
        ["GET", path] if path == format!("/v1/requests/{ID}") => Reaction::Answer(200, verdict.clone()),
        ["GET", path] if path.starts_with("/v1/events") => Reaction::Answer(200, scaled()),
        _ => Reaction::Cut,
    })
}

#[test]
fn nobody_there_is_exit_6_and_nothing_was_sent() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    for args in [&["scale", "web=3"][..], &["status"], &["apps"], &["events"]] {
        let said = holdfast(&format!("http://127.0.0.1:{port}"), args);
        assert_eq!(said.code, 6, "{args:?}: {}", said.err);
        assert!(said.err.contains("nothing was sent"), "{}", said.err);
        assert!(said.err.contains("next: holdfast up"), "{}", said.err);
        assert_eq!(said.out, "");
    }
}

#[test]
fn an_answer_is_printed_as_a_receipt() {
    let fake = Fake::start(|_| Reaction::Answer(200, receipt()));
    let said = scale(&fake.url);
    assert_eq!(
        (said.code, said.out.as_str()),
        (0, &*format!("executed  request {ID}  event 42 (scale.set)\n"))
    );
    let writes = fake.writes();
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].line, "POST /v1/orgs/main/apps/shop/envs/prod/scale");
    assert!(
        writes[0]
            .text
            .to_ascii_lowercase()
            .contains(&format!("idempotency-key: {}", ID.to_ascii_lowercase()))
    );
}

#[test]
fn a_lost_answer_is_looked_up_in_the_log_and_never_sent_again() {
    let executed = || state("executed", true, Some(42), None, None);
    let fake = losing(executed());
    let said = scale(&fake.url);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.err.contains("the log says: executed at event 42"), "{}", said.err);
    assert!(said.out.contains("event 42 (scale.set)"), "{}", said.out);
    assert_eq!(fake.writes().len(), 1);

    let cases = [
        (
            state("refused", true, Some(9), Some("the name is gone"), Some("route_taken")),
            5,
            "the name is gone",
        ),
        (
            state("refused", true, Some(9), Some("no such process"), Some("no_such_process")),
            4,
            "no such process",
        ),
        (state("voided", true, Some(9), Some("by its owner"), None), 5, "voided: by its owner"),
        (state("expired", true, None, None, None), 7, "horizon"),
    ];
    for (verdict, code, words) in cases {
        let fake = losing(verdict);
        let said = scale(&fake.url);
        assert_eq!(said.code, code, "{}", said.err);
        assert!(said.err.contains(words), "{words}: {}", said.err);
        assert_eq!(said.out, "");
        assert_eq!(fake.writes().len(), 1);
    }
}

#[test]
fn an_answer_cut_at_any_length_is_looked_up() {
    for part in [0, 1, 20, 70, 100, 150] {
        let fake = Fake::start(move |request| match request.line.starts_with("POST") {
            true => Reaction::Part(part, receipt()),
            false if request.line.contains("/requests/") => {
                Reaction::Answer(200, state("executed", true, Some(42), None, None))
            }
            false => Reaction::Answer(200, scaled()),
        });
        let said = scale(&fake.url);
        assert_eq!(said.code, 0, "{part}: {}", said.err);
        assert!(said.out.starts_with(&format!("executed  request {ID}")), "{part}: {}", said.out);
        assert_eq!(fake.writes().len(), 1, "{part}");
    }
}

#[test]
fn what_nobody_can_say_is_exit_7_with_both_ways_on() {
    for fake in [losing(state("not_seen", false, None, None, None)), Fake::start(|_| Reaction::Cut)] {
        let said = scale(&fake.url);
        assert_eq!(said.code, 7, "{}", said.err);
        assert!(said.err.contains(&format!("holdfast requests show {ID}")), "{}", said.err);
        assert!(said.err.contains(&format!("holdfast requests void {ID}")), "{}", said.err);
        assert_eq!(said.out, "");
        assert_eq!(fake.writes().len(), 1);
    }
}

#[test]
fn every_refusal_has_its_exit_code() {
    let cases = [
        ("invalid_request", 400, "not_executed", 2),
        ("body_too_large", 413, "not_executed", 2),
        ("unauthenticated", 401, "not_executed", 3),
        ("forbidden", 403, "not_executed", 3),
        ("not_found", 404, "not_executed", 4),
        ("conflict", 409, "not_executed", 5),
        ("request_id_reused", 422, "not_executed", 5),
        ("too_many", 429, "not_executed", 5),
        ("unavailable", 503, "not_executed", 6),
        ("storage_full", 507, "not_executed", 6),
        ("internal", 500, "not_executed", 1),
    ];
    for (code, status, outcome, exit) in cases {
        let fake = Fake::start(move |_| Reaction::Answer(status, problem(code, status, outcome)));
        let said = scale(&fake.url);
        assert_eq!(said.code, exit, "{code}: {}", said.err);
        assert!(said.err.contains("told by the server"), "{}", said.err);
        assert_eq!(fake.count(), 1, "{code}: asked for no more");
        let said = holdfast(&fake.url, &["status"]);
        assert_eq!(said.code, exit, "{code}, reading: {}", said.err);
    }
    let fake = Fake::start(|request| match request.line.starts_with("POST") {
        true => Reaction::Answer(504, problem("unknown_outcome", 504, "unknown")),
        false if request.line.contains("/requests/") => {
            Reaction::Answer(200, state("executed", true, Some(42), None, None))
        }
        false => Reaction::Answer(200, scaled()),
    });
    assert_eq!(scale(&fake.url).code, 0, "an unknown outcome is looked up");
}

#[test]
fn with_json_an_error_is_one_problem_object() {
    let fake = Fake::start(|_| Reaction::Answer(409, problem("conflict", 409, "not_executed")));
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let cases: [(&str, &[&str], &str, i32); 4] = [
        (&fake.url, &["scale", "web=3", "--json"], "conflict", 5),
        (&format!("http://127.0.0.1:{port}"), &["status", "--json"], "unavailable", 6),
        (&fake.url, &["scale", "web", "--json"], "invalid_request", 2),
        (&fake.url, &["apply", "--json"], "invalid_manifest", 2),
    ];
    for (url, args, code, exit) in cases {
        let said = holdfast(url, args);
        assert_eq!((said.code, said.out.as_str()), (exit, ""), "{args:?}: {}", said.err);
        let value: Value = serde_json::from_str(said.err.trim()).expect("one object");
        assert_eq!(value["code"], code, "{args:?}: {value}");
        assert_eq!(value["outcome"], "not_executed", "{args:?}: {value}");
    }
}

/// A directory with a manifest, and its path.
fn manifest() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("holdfast.toml");
    let text =
        "schema = 1\napp = \"shop\"\n[image]\nref = \"r/shop:1\"\n[processes.web]\nmemory = \"64Mi\"\n";
    std::fs::write(&path, text).expect("written");
    let path = path.display().to_string();
    (dir, path)
}

fn plan(changes: Value) -> Value {
    json!({ "changes": changes, "release_exists": false, "warnings": ["mind the gap"],
        "image": { "reference": "r/shop:1", "digest": format!("sha256:{}", "a".repeat(64)) } })
}

/// A server that takes an apply, and whose deploy stands like this.
fn deploying(state: &'static str) -> Fake {
    Fake::start(move |request| {
        if request.line.contains("plan=true") {
            return Reaction::Answer(200, plan(json!([{ "path": "app", "before": null, "after": "shop" }])));
        }
        if request.line.starts_with("POST") {
            return Reaction::Answer(200, applied());
        }
        Reaction::Answer(200, deploy_row(state))
    })
}

/// The receipt of an apply.
fn applied() -> Value {
    json!({ "request_id": ID, "outcome": "executed", "event": 7, "events": [
        { "id": 6, "kind": "release.created", "subject": "rel_01JD0000000000000000000004" },
        { "id": 7, "kind": "deploy.started", "subject": DEPLOY }],
        "result": { "deploy": DEPLOY, "release_number": 3,
            "image": { "reference": "r/shop:1", "digest": format!("sha256:{}", "a".repeat(64)) } } })
}

fn deploy_row(state: &str) -> Value {
    let failed = state == "failed";
    json!({ "id": DEPLOY, "kind": "apply", "release": 3, "state": state, "started": 1, "deadline": 2,
        "ended": null, "failures": 0, "attempts": 3, "steps": ["placed web on one"],
        "reason": failed.then_some("oom_killed: at its cap"),
        "way_back": failed.then_some("holdfast rollback 2 --app shop") })
}

fn apply(fake: &Fake, more: &[&str]) -> Said {
    let (_dir, path) = manifest();
    let mut args = vec!["apply", "-f", &path, "--request-id", ID];
    args.extend(more);
    holdfast(&fake.url, &args)
}

#[test]
fn apply_without_a_yes_and_without_a_terminal_sends_nothing() {
    let fake = deploying("succeeded");
    let said = apply(&fake, &[]);
    assert_eq!(said.code, 5, "{}", said.err);
    assert!(said.err.contains("--yes"), "{}", said.err);
    assert!(said.err.contains("  + app = shop"), "the difference is shown: {}", said.err);
    assert!(fake.writes().is_empty());
    let said = apply(&fake, &["--plan"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("  + app = shop"), "{}", said.out);
    assert!(fake.writes().is_empty());
}

#[test]
fn apply_waits_for_the_deploy_and_prints_a_receipt() {
    let fake = deploying("succeeded");
    let said = apply(&fake, &["--yes"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.err.contains("warning: mind the gap") && said.err.contains("placed web on one"),
        "{}",
        said.err
    );
    assert!(said.out.contains("events 6–7 (release.created, …, deploy.started)"), "{}", said.out);
    assert!(said.out.contains(&format!("release 3  sha256:{}", "a".repeat(64))), "{}", said.out);
    assert!(said.out.contains(&format!("deploy {DEPLOY}  succeeded after ")), "{}", said.out);
    let said = apply(&fake, &["--yes", "--json"]);
    let value: Value = serde_json::from_str(&said.out).expect("one object");
    assert_eq!(
        (&value["request_id"], &value["deploy"]["state"]),
        (&json!(ID), &json!("succeeded")),
        "{value}"
    );
}

#[test]
fn a_failed_deploy_is_exit_1_with_its_reason_and_the_way_back() {
    let said = apply(&deploying("failed"), &["--yes"]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("failed: oom_killed: at its cap"), "{}", said.err);
    assert!(said.err.contains("next: holdfast rollback 2 --app shop"), "{}", said.err);
    assert!(said.out.contains(&format!("executed  request {ID}")), "{}", said.out);
}

#[test]
fn a_deploy_that_goes_on_past_the_timeout_is_exit_7_and_says_how_to_wait() {
    let said = apply(&deploying("rolling"), &["--yes", "--timeout", "600ms"]);
    assert_eq!(said.code, 7, "{}", said.err);
    assert!(said.err.contains(&format!("next: holdfast wait {DEPLOY}")), "{}", said.err);
    let said = apply(&deploying("rolling"), &["--yes", "--no-wait"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains(&format!("deploy {DEPLOY}  under way")), "{}", said.out);
}

/// How reading goes wrong after a write was executed.
#[derive(Clone, Copy, Debug)]
enum Loss {
    Gone,
    Cuts,
    Unavailable,
    Unauthenticated,
}

/// A server that executes a write with this receipt, and then cannot be read.
fn silent_after(receipt: Value, loss: Loss) -> Fake {
    Fake::start(move |request| {
        if request.line.contains("plan=true") {
            return Reaction::Answer(200, plan(json!([{ "path": "app", "before": null, "after": "shop" }])));
        }
        match (request.line.starts_with("POST"), loss) {
            (true, Loss::Gone) => Reaction::Last(receipt.clone()),
            (true, _) => Reaction::Answer(200, receipt.clone()),
            (false, Loss::Unavailable) => Reaction::Answer(503, problem("unavailable", 503, "not_executed")),
            (false, Loss::Unauthenticated) => {
                Reaction::Answer(401, problem("unauthenticated", 401, "not_executed"))
            }
            (false, Loss::Gone | Loss::Cuts) => Reaction::Cut,
        }
    })
}

/// What was executed, and cannot be followed any further: exit 7, never a word against the write.
fn still_going(said: &Said, next: &str, about: &str) {
    assert_eq!(said.code, 7, "{about}: {}", said.err);
    assert!(said.out.contains("executed"), "{about}: the receipt is printed: {}", said.out);
    assert!(!said.out.contains("nothing changed"), "{about}: {}", said.out);
    let last = said.err.lines().last().unwrap_or_default();
    let problem: Value = serde_json::from_str(last).expect("one problem object");
    assert_eq!(problem["code"], "still_going", "{about}: {problem}");
    assert_eq!(problem["outcome"], "executed", "{about}: {problem}");
    assert_eq!(problem["request_id"], ID, "{about}: {problem}");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("executed at event")), "{problem}");
    let hint = problem["hint"].as_str().unwrap_or_default();
    assert!(hint.starts_with(next), "{about}: {problem}");
}

#[test]
fn no_reading_that_fails_speaks_for_a_write_that_was_executed() {
    for loss in [Loss::Gone, Loss::Cuts, Loss::Unavailable, Loss::Unauthenticated] {
        let fake = silent_after(receipt(), loss);
        let args = ["scale", "web=3", "--request-id", ID, "--timeout", "1s", "--json"];
        still_going(
            &holdfast(&fake.url, &args),
            "holdfast wait converged --app shop",
            &format!("scale, {loss:?}"),
        );
        assert_eq!(fake.writes().len(), 1);
        let fake = silent_after(applied(), loss);
        let said = apply(&fake, &["--yes", "--timeout", "1s", "--json"]);
        still_going(&said, &format!("holdfast wait {DEPLOY} --app shop"), &format!("apply, {loss:?}"));
        assert_eq!(fake.writes().len(), 1);
    }
}

/// A server that loses the answer to an apply, knows that it was executed, and whose events cannot
/// be read so many times.
fn forgetful(failures: usize) -> Fake {
    let mut left = failures;
    Fake::start(move |request| {
        if request.line.contains("plan=true") {
            return Reaction::Answer(200, plan(json!([{ "path": "app", "before": null, "after": "shop" }])));
        }
        if request.line.starts_with("POST") {
            return Reaction::Cut;
        }
        if request.line.contains("/requests/") {
            return Reaction::Answer(200, state("executed", true, Some(42), None, None));
        }
        if request.line.starts_with("GET /v1/events") {
            if left > 0 {
                left -= 1;
                return Reaction::Answer(503, problem("unavailable", 503, "not_executed"));
            }
            return Reaction::Answer(200, page("deploy.started", "deploy", DEPLOY));
        }
        Reaction::Answer(200, deploy_row("failed"))
    })
}

#[test]
fn events_that_were_not_read_are_not_events_that_did_not_happen() {
    let fake = forgetful(2);
    let said = apply(&fake, &["--yes"]);
    assert_eq!(said.code, 1, "read again, and the deploy that failed is found: {}", said.err);
    assert!(said.out.contains(&format!("deploy {DEPLOY}  failed")), "{}", said.out);

    let fake = forgetful(usize::MAX);
    let said = apply(&fake, &["--yes", "--json"]);
    still_going(&said, "holdfast wait converged --app shop", "apply");
    let fake = forgetful(usize::MAX);
    let said = apply(&fake, &["--yes", "--no-wait"]);
    assert_eq!(said.code, 0, "executed, and nothing else was asked for: {}", said.err);
    assert!(said.out.contains("could not be read") && !said.out.contains("nothing changed"), "{}", said.out);
    assert_eq!(fake.writes().len(), 1);
}

#[test]
fn who_reads_the_receipt_does_not_change_the_outcome() {
    let closed = || Stdio::from(std::io::pipe().expect("a pipe").1);
    let full = || Stdio::from(std::fs::File::options().write(true).open("/dev/full").expect("/dev/full"));
    let (_dir, path) = manifest();
    let args = ["apply", "-f", &path, "--yes", "--request-id", ID];
    for (state, exit) in [("failed", 1), ("succeeded", 0)] {
        let fake = deploying(state);
        for (stdout, about) in [(closed(), "closed"), (full(), "full")] {
            let said = holdfast_into(&fake.url, &args, stdout);
            assert_eq!(said.code, exit, "{state}, {about}: {}", said.err);
            assert!(said.err.contains("standard output cannot be written"), "{about}: {}", said.err);
        }
        let wait = ["wait", DEPLOY];
        assert_eq!(holdfast_into(&fake.url, &wait, closed()).code, exit, "waiting, {state}");
    }
    // What was only read is lost with its reader, and a full disk is a failure then.
    let fake = Fake::start(|_| Reaction::Answer(200, state("executed", true, Some(42), None, None)));
    let show = ["requests", "show", ID];
    assert_eq!(holdfast_into(&fake.url, &show, closed()).code, 0);
    let fake = Fake::start(|_| Reaction::Answer(200, scaled()));
    assert_eq!(holdfast_into(&fake.url, &["events"], closed()).code, 0);
    assert_eq!(holdfast_into(&fake.url, &["events"], full()).code, 1);
}

#[test]
fn rollback_to_wherever_asks_first() {
    let fake = deploying("succeeded");
    let said = holdfast(&fake.url, &["rollback"]);
    assert_eq!(said.code, 5, "{}", said.err);
    assert!(said.err.contains("--yes"), "{}", said.err);
    assert!(fake.writes().is_empty(), "nothing was sent");
    for args in [&["rollback", "--yes"][..], &["rollback", "2"]] {
        let said = holdfast(&fake.url, args);
        assert_eq!(said.code, 0, "{args:?}: {}", said.err);
    }
    assert_eq!(fake.writes().len(), 2);
}

#[test]
fn nothing_to_change_and_a_bad_manifest_send_nothing() {
    let fake = Fake::start(|_| Reaction::Answer(200, plan(json!([]))));
    let (_dir, path) = manifest();
    let said = holdfast(&fake.url, &["apply", "-f", &path]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("nothing to change"), "{}", said.out);
    assert!(fake.writes().is_empty());

    let (dir, path) = manifest();
    std::fs::write(dir.path().join("holdfast.toml"), "schema = 1\nap = \"shop\"\n").expect("written");
    let before = fake.count();
    let said = holdfast(&fake.url, &["apply", "-f", &path, "--yes"]);
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(
        said.err.contains("holdfast.toml:2:1: unknown key `ap`") && said.err.contains("did you mean `app`?"),
        "{}",
        said.err
    );
    assert_eq!(fake.count(), before, "nothing was asked");
}

#[test]
fn a_request_that_was_not_seen_can_be_voided() {
    let fake = Fake::start(|request| match request.line.starts_with("POST") {
        true => Reaction::Answer(200, state("voided", true, Some(50), Some("by its owner"), None)),
        false => Reaction::Answer(200, state("not_seen", false, None, None, None)),
    });
    let said = holdfast(&fake.url, &["requests", "show", ID]);
    assert_eq!(said.code, 7, "{}", said.err);
    assert!(said.err.contains(&format!("holdfast requests void {ID}")), "{}", said.err);
    let said = holdfast(&fake.url, &["requests", "void", ID]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("voided at event 50"), "{}", said.out);
}

#[test]
fn what_cannot_be_understood_is_exit_2() {
    for args in [
        &["scale", "web"][..],
        &["scale", "web=1000000"],
        &["requests", "show", "nonsense"],
        &["status", "--timeout", "5"],
        &["frobnicate"],
        &["wait", "forever"],
    ] {
        let said = holdfast("http://127.0.0.1:1", args);
        assert_eq!(said.code, 2, "{args:?}: {}", said.err);
        assert_eq!(said.out, "", "{args:?}");
    }
    assert_eq!(holdfast("http://127.0.0.1:1", &["--version"]).code, 0);
    assert_eq!(holdfast("ftp://127.0.0.1", &["status"]).code, 2);
}

/// A server where this is what an apply finds under way, with nothing to change.
fn rolling_already(state: &'static str) -> Fake {
    Fake::start(move |request| {
        if request.line.contains("plan=true") {
            let mut plan = plan(json!([]));
            plan["rolling"] = json!(DEPLOY);
            return Reaction::Answer(200, plan);
        }
        match request.line.starts_with("POST") {
            true => Reaction::Answer(200, applied()),
            false => Reaction::Answer(200, deploy_row(state)),
        }
    })
}

#[test]
fn an_apply_of_what_rolls_out_already_ends_as_that_does() {
    let (_dir, path) = manifest();
    let run = |state, more: &[&str]| {
        let fake = rolling_already(state);
        let said = holdfast(&fake.url, &[&["apply", "-f", &path, "--yes"], more].concat());
        assert!(fake.writes().is_empty(), "nothing is sent");
        said
    };
    let said = run("failed", &[]);
    assert_eq!(said.code, 1, "{}", said.err);
    assert!(said.err.contains("oom_killed"), "{}", said.err);
    let said = run("succeeded", &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains(&format!("deploy {DEPLOY}  succeeded")), "{}", said.out);
    let said = run("rolling", &["--timeout", "600ms"]);
    assert_eq!(said.code, 7, "{}", said.err);
    let said = run("failed", &["--no-wait"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("nothing to change"), "{}", said.out);
}

#[test]
fn a_named_request_is_sent_even_when_nothing_would_change() {
    let fake = rolling_already("succeeded");
    let said = apply(&fake, &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(fake.writes().len(), 1);
    assert!(said.out.contains(&format!("executed  request {ID}")), "{}", said.out);
    assert!(said.out.contains(&format!("deploy {DEPLOY}  succeeded after")), "{}", said.out);
}

#[test]
fn a_deploy_that_is_not_over_in_time_says_what_it_waits_for() {
    let fake = Fake::start(|_| {
        let mut row = deploy_row("rolling");
        row["reason"] = json!("web: 0 of 1 available: 0002 preparing on one, disk_full");
        Reaction::Answer(200, row)
    });
    let said = holdfast(&fake.url, &["wait", DEPLOY, "--timeout", "600ms"]);
    assert_eq!(said.code, 7, "{}", said.err);
    assert!(said.err.contains("preparing on one, disk_full"), "{}", said.err);
}

#[test]
fn an_event_that_is_not_there_yet_is_waited_for() {
    let ahead = || {
        let mut problem = problem("invalid_request", 400, "not_executed");
        problem["path"] = json!("after");
        Reaction::Answer(400, problem)
    };
    let fake = Fake::start(move |_| ahead());
    let said = holdfast(&fake.url, &["wait", "42", "--timeout", "600ms"]);
    assert_eq!(said.code, 7, "{}", said.err);
    let mut left = 2;
    let fake = Fake::start(move |_| {
        if left > 0 {
            left -= 1;
            return ahead();
        }
        Reaction::Answer(200, page("deploy.started", "deploy", DEPLOY))
    });
    let said = holdfast(&fake.url, &["wait", "42", "--timeout", "20s"]);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("deploy.started"), "{}", said.out);
    // One that this token may not see is there all the same, and the next one is not it.
    let fake = Fake::start(|_| Reaction::Answer(200, page("deploy.started", "deploy", DEPLOY)));
    let said = holdfast(&fake.url, &["wait", "41"]);
    assert_eq!((said.code, said.out.as_str()), (0, ""), "{}", said.err);
}

#[test]
fn what_is_as_declared_is_explained_and_what_is_not_there_is_not_found() {
    let fake = Fake::start(|request| {
        let path = request.line.split(['?', ' ']).nth(1).unwrap_or_default();
        Reaction::Answer(
            200,
            match path.rsplit('/').next() {
                Some("explain") => json!({ "summary": "shop/prod is as declared", "lines": [] }),
                Some("instances") => json!({ "rows": [], "next": null }),
                _ => json!({ "id": "env_01JD0000000000000000000003", "org": "main", "app": "shop",
                    "env": "prod", "release": null, "deploy": null, "routes": [], "converged": true,
                    "why": [], "event": 7, "processes": [{ "process": "web", "desired": 2, "placed": 2,
                        "ready": 2, "current": 2, "starting": 0, "draining": 0, "failing": 0,
                        "routed": 2, "why": null }] }),
            },
        )
    });
    let said = holdfast(&fake.url, &["explain", "web"]);
    assert_eq!((said.code, said.out.as_str()), (0, "web: as declared, 2 of 2 ready\n"), "{}", said.err);
    let said = holdfast(&fake.url, &["explain", "wbe"]);
    assert_eq!(said.code, 4, "{}", said.err);
    assert!(said.err.contains("nothing in shop/prod is called \"wbe\"; it has web"), "{}", said.err);
}
