//! A log that is lost and made anew: from a backup, and from the one member that is left. Real servers,
//! killed with SIGKILL; everything goes through the command line.

mod by_itself;

use demo::{Process, free_ports, wait_for};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

/// How long something that must happen may take.
const SOON: Duration = Duration::from_secs(30);
/// How much later a recovery is killed in each round, in milliseconds.
const STEP: u64 = 12;
const ACKNOWLEDGED: [&str; 2] = ["what only other members have is lost", "no other member runs or will run"];

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}", self.out))
    }

    fn done(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self
    }

    fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        for word in words {
            assert!(self.err.contains(word), "{word:?} is not in: {}", self.err);
        }
    }
}

/// A directory for everything, and one server at a time.
struct Scene {
    dir: tempfile::TempDir,
    listen: String,
    server: Option<Process>,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-restore-").tempdir().expect("a directory");
        let [port] = free_ports().expect("a port");
        let scene = Self { dir, listen: format!("127.0.0.1:{port}"), server: None };
        for (name, byte) in [("key", "A"), ("other", "B")] {
            let path = scene.dir.path().join(name);
            // 32 bytes as base64.
            fs::write(&path, format!("{}=", byte.repeat(42) + "A")).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("private");
        }
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HOLDFAST_")) {
            command.env_remove(name);
        }
        let context = self.path("context.toml");
        command.current_dir(self.dir.path()).env("HOLDFAST_CONFIG", context).args(args).stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Said {
        let Output { status, stdout, stderr } = self.command(args).output().expect("the program runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Said { code: status.code().unwrap_or(-1), out: text(&stdout), err: text(&stderr) }
    }

    /// Starts a server on this directory and waits until it can be written to.
    fn start(&mut self, data: &str) {
        self.start_with(data, &[]);
    }

    /// The same, with more flags.
    fn start_with(&mut self, data: &str, more: &[&str]) {
        let own = ["server", "--data-dir", data, "--listen", &self.listen];
        let mut command = self.command(&[&own[..], more].concat());
        let mut server = Process::start(self.dir.path(), data, &mut command).expect("a server");
        let url = format!("http://{}", self.listen);
        let ready = ["wait", "ready", "--timeout", "20s", "--server", &url];
        let up = server.wait_until("readiness", SOON, || (self.run(&ready).code == 0).then_some(()));
        up.expect("a server that is ready");
        self.server = Some(server);
    }

    fn kill(&mut self) {
        self.server.take().expect("it runs").kill_hard();
    }

    /// One write; it is durable when this returns.
    fn write(&self, name: &str) {
        self.run(&["tokens", "create", name, "--role", "viewer"]).done();
    }

    /// All events of a directory, from the disk.
    fn events(&self, data: &str) -> Vec<String> {
        let said = self.run(&["log", "cat", "--data-dir", data, "--json"]).done();
        said.out.lines().map(str::to_owned).collect()
    }

    fn backup(&self, data: &str) -> Value {
        let made =
            ["cluster", "backup", "--to", "backups", "--key-file", "key", "--data-dir", data, "--json"];
        self.run(&made).json()
    }

    fn restore(&self, into: &str, more: &[&str]) -> Said {
        let from = ["cluster", "restore", "--from", "backups", "--key-file", "key", "--into", into, "--json"];
        self.run(&[&from[..], more].concat())
    }

    /// The fingerprints that the server that runs gives of its views, by name.
    fn views(&self) -> Vec<(String, u64, String)> {
        let rows = self.run(&["views", "list", "--json"]).json();
        let rows = rows.as_array().cloned().unwrap_or_default();
        rows.iter().map(|row| view(row, "checkpoint")).collect()
    }
}

fn view(row: &Value, event: &str) -> (String, u64, String) {
    let text = |name: &str| row[name].as_str().expect("text").to_owned();
    (text("name"), row[event].as_u64().expect("a number"), text("fingerprint"))
}

fn views_of(answer: &Value) -> Vec<(String, u64, String)> {
    answer["views"].as_array().expect("views").iter().map(|row| view(row, "event")).collect()
}

fn number(answer: &Value, name: &str) -> u64 {
    answer[name].as_u64().unwrap_or_else(|| panic!("{name} in {answer}"))
}

/// Writes until it is told to end, or the server has gone.
fn writer(scene: &Scene) -> Child {
    let program = env!("CARGO_BIN_EXE_holdfast");
    let line = format!(
        "n=0; while [ ! -e stop ] && {program} tokens create w$n --role viewer >/dev/null; do n=$((n+1)); done"
    );
    let mut command = Command::new("sh");
    command.args(["-c", &line]).current_dir(scene.dir.path()).env_remove("HOLDFAST_TOKEN");
    command.env("HOLDFAST_CONFIG", scene.path("context.toml")).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell")
}

#[test]
fn fm_b_a_lost_data_directory_is_restored_to_the_end_and_to_a_moment_before() {
    let mut scene = Scene::new();
    scene.start("data");
    scene.write("early");
    let early = scene.backup("data");
    // The second backup is made while somebody writes.
    let mut writing = writer(&scene);
    wait_for("writes", SOON, || {
        (scene.events("data").len() as u64 > number(&early, "event") + 3).then_some(())
    })
    .expect("a writer");
    let busy = scene.backup("data");
    assert!(number(&busy, "event") > number(&early, "event"), "{busy}");
    fs::write(scene.path("stop"), "").expect("told");
    writing.wait().expect("it ends");
    let last = scene.backup("data");
    let before = scene.events("data");
    assert_eq!(before.len() as u64, number(&last, "event"));
    let views = scene.views();
    scene.kill();

    let drill =
        ["cluster", "drill", "--from", "backups", "--key-file", "key", "--scratch", "scratch", "--json"];
    let drilled = scene.run(&drill).json();
    assert_eq!(drilled["from"], last["id"]);
    assert_eq!(views_of(&drilled), views, "folded in the drill as by the server");
    assert!(!scene.path("scratch/holdfast-drill").exists(), "a drill leaves nothing");
    fs::remove_dir_all(scene.path("data")).expect("the disk is lost");

    let whole = scene.restore("whole", &[]).json();
    assert_eq!((&whole["event"], &whole["chain"]), (&last["event"], &last["chain"]));
    assert_eq!(whole["fingerprint"], drilled["fingerprint"]);
    assert_eq!(views_of(&whole), views);
    assert_eq!(scene.events("whole"), before);
    scene.restore("whole", &[]).refused(5, &["whole is not empty"]);

    let event = number(&early, "event").to_string();
    let part = scene.restore("part", &["--to-event", &event]).json();
    assert_eq!((&part["event"], &part["chain"]), (&early["event"], &early["chain"]));
    assert_eq!(scene.events("part"), before[..usize::try_from(number(&early, "event")).expect("few")]);
    let at: Value = serde_json::from_str(&before[before.len() / 2]).expect("an event");
    let time = rfc3339(number(&at, "at"));
    let timed = scene.restore("timed", &["--to-time", &time]).json();
    let kept = usize::try_from(number(&timed, "event")).expect("few");
    assert_eq!(scene.events("timed"), before[..kept]);
    assert!(kept > before.len() / 2 && kept <= before.len(), "{kept} of {}", before.len());
    let after = before.get(kept).map(|line| serde_json::from_str::<Value>(line).expect("an event"));
    assert!(
        after.is_none_or(|after| number(&after, "at") > number(&at, "at")),
        "no event of that time is missing"
    );

    // It serves what was there, to the same token, and goes on.
    scene.start("whole");
    assert!(scene.run(&["tokens", "list"]).done().out.contains("early"));
    scene.write("later");
    let rebuilt = scene.run(&["views", "rebuild", "--json"]).json();
    assert!(rebuilt.as_array().is_some_and(|rows| rows.iter().all(|row| row["equal"] == true)), "{rebuilt}");
    let now = scene.events("whole");
    assert_eq!(now[..before.len()], before);
    assert!(now.len() > before.len());
    scene.kill();
}

#[test]
fn fm_b_a_wrong_key_and_a_damaged_backup_are_refused_and_leave_nothing() {
    let mut scene = Scene::new();
    scene.start("data");
    scene.backup("data");
    scene.kill();
    let with =
        |key: &'static str| ["cluster", "restore", "--from", "backups", "--key-file", key, "--into", "new"];
    scene.run(&with("other")).refused(1, &["sealed with the key", "--key-file"]);
    scene.run(&with("nokey")).refused(2, &["cannot read the key from nokey"]);
    assert!(!scene.path("new").exists());
    let none = ["cluster", "restore", "--from", "empty", "--key-file", "key", "--into", "new"];
    scene.run(&none).refused(4, &["there is no directory empty"]);
    fs::create_dir(scene.path("empty")).expect("made");
    scene.run(&none).refused(4, &["holds no backup"]);
    let beyond = scene.restore("new", &["--to-event", "4711"]);
    beyond.refused(4, &["4711", "--to-event"]);
    assert!(!scene.path("new").exists(), "what was made for a restore that failed is gone");

    for object in fs::read_dir(scene.path("backups/objects")).expect("objects").flatten() {
        let mut bytes = fs::read(object.path()).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(object.path(), bytes).expect("written");
    }
    scene.run(&with("key")).refused(1, &["is damaged at offset"]);
    assert!(!scene.path("new").exists());
    let verify = ["cluster", "backup", "--to", "backups", "--key-file", "key", "--verify"];
    scene.run(&verify).refused(1, &["is damaged at offset"]);
    let drill = ["cluster", "drill", "--from", "backups", "--key-file", "key", "--scratch", "scratch"];
    scene.run(&drill).refused(1, &["is damaged at offset"]);
    let listed = scene.run(&["cluster", "backup", "--to", "backups", "--list", "--json"]).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "listing needs no key: {listed}");
    // All of it is sent again, and then it is right.
    let whole =
        ["cluster", "backup", "--to", "backups", "--key-file", "key", "--data-dir", "data", "--whole"];
    scene.run(&[&whole[..], &["--keep", "1"]].concat()).done();
    scene.run(&verify).done();
}

/// A time of the log as the command line reads it.
fn rfc3339(ms: u64) -> String {
    let time = std::time::UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_millis(time).to_string()
}

/// A member that can be joined, with something in its log, and killed.
fn member(scene: &mut Scene) {
    let [peer] = free_ports().expect("a port");
    let peer = format!("127.0.0.1:{peer}");
    let made = scene.run(&["cluster", "init", "--data-dir", "data", "--name", "one", "--peer", &peer]).done();
    let token = made.out.split_whitespace().chain(made.err.split_whitespace());
    let token = token.map(str::to_owned).find(|word| word.starts_with("hf_")).expect("the owner's token");
    let context = format!("server = \"http://{}\"\ntoken = \"{token}\"\n", scene.listen);
    fs::write(scene.path("context.toml"), context).expect("written");
    scene.start("data");
    scene.write("early");
    scene.kill();
}

fn token_of(scene: &Scene, data: &str) -> String {
    let explain = ["cluster", "recover", "--data-dir", data, "--reason", "burnt", "--explain", "--json"];
    scene.run(&explain).json()["token"].as_str().expect("a token").to_owned()
}

fn recover(scene: &Scene, data: &str, token: &str, acknowledged: &[&str]) -> Command {
    let mut args =
        vec!["cluster", "recover", "--data-dir", data, "--reason", "burnt", "--confirm", token, "--json"];
    for text in acknowledged {
        args.extend(["--acknowledge", text]);
    }
    scene.command(&args)
}

fn said(mut command: Command) -> Said {
    let Output { status, stdout, stderr } = command.output().expect("the program runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Said { code: status.code().unwrap_or(-1), out: text(&stdout), err: text(&stderr) }
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status().expect("cp runs");
    assert!(done.success());
}

#[test]
fn fm_cfg3_recover_begins_a_new_cluster_from_one_member() {
    let mut scene = Scene::new();
    member(&mut scene);
    let before = scene.events("data");
    copy(&scene.path("data"), &scene.path("left"));

    let only =
        scene.run(&["cluster", "recover", "--data-dir", "left", "--reason", "burnt", "--explain"]).done();
    for words in ["acked_is_durable", "one_authority", "highest (epoch, index)", "durable here"] {
        assert!(only.out.contains(words), "{words}: {}", only.out);
    }
    let token = token_of(&scene, "left");
    said(recover(&scene, "left", &token, &[])).refused(5, &["acked_is_durable", "not acknowledged"]);
    said(recover(&scene, "left", &token, &ACKNOWLEDGED[..1])).refused(5, &["one_authority"]);
    said(recover(&scene, "left", "rec_other", &ACKNOWLEDGED)).refused(5, &["another act or node"]);
    let authority = fs::read(scene.path("data/peer/ca.pem")).expect("an authority");
    assert_eq!(
        fs::read(scene.path("left/peer/ca.pem")).expect("an authority"),
        authority,
        "nothing was done"
    );

    let done = said(recover(&scene, "left", &token, &ACKNOWLEDGED)).json();
    assert!(done["cluster"].is_string() && done["node"].is_string(), "{done}");
    assert_ne!(fs::read(scene.path("left/peer/ca.pem")).expect("an authority"), authority);
    let journal = fs::read_to_string(scene.path("left/audit/journal")).expect("a journal");
    assert!(journal.contains("cluster recover") && journal.contains("burnt"), "{journal}");
    // Its lines stand where the log ends, and not before everything else.
    let lines = journal.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let seen: Vec<_> = lines.map(|line| line["last_event"].clone()).collect();
    assert_eq!(seen[seen.len() - 2..], [done["tail"]["event"].clone(), done["tail"]["event"].clone()]);
    let again = said(recover(&scene, "left", &token, &ACKNOWLEDGED)).json();
    assert_eq!(again, done, "the same command again changes nothing");

    scene.start("left");
    assert_eq!(scene.events("left")[..before.len()], before);
    scene.write("later");
    let status = scene.run(&["cluster", "status", "--json"]).json();
    assert!(status.to_string().contains(done["node"].as_str().expect("text")), "{status}");

    scene.kill();
    let text = fs::read_to_string(scene.path("left/log/format")).expect("a format");
    assert!(text.contains(done["cluster"].as_str().expect("text")), "{text}");
}

#[test]
fn fm_cfg3_recover_that_is_killed_goes_on_with_the_same_command_or_the_next_start() {
    let mut scene = Scene::new();
    member(&mut scene);
    let before = scene.events("data");
    let token = token_of(&scene, "data");
    // Killed after ever longer times: before anything, between any two steps, at last not at all.
    let (mut round, mut finished) = (0_u64, false);
    while !finished {
        let data = format!("left{round}");
        copy(&scene.path("data"), &scene.path(&data));
        let mut command = recover(&scene, &data, &token, &ACKNOWLEDGED);
        let mut child =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program runs");
        std::thread::sleep(Duration::from_millis(STEP * round));
        let _has_ended = child.kill();
        finished = child.wait().expect("it ends").success();
        let format = |data: &str| fs::read(scene.path(data).join("log/format")).expect("a format");
        let is_new = format(&data) != format("data");
        // If the log is the new cluster's, the next start goes on as well.
        if !is_new || round % 2 == 0 {
            said(recover(&scene, &data, &token, &ACKNOWLEDGED)).json();
        }
        scene.start(&data);
        assert_eq!(scene.events(&data)[..before.len()], before, "round {round}");
        scene.write("later");
        scene.kill();
        assert!(!scene.path(&data).join("recovering").exists(), "round {round}");
        assert!(scene.path(&data).join("recovered.json").exists(), "round {round}");
        fs::remove_dir_all(scene.path(&data)).expect("removed");
        round += 1;
        assert!(round < 200, "it never finished");
    }
}

#[test]
fn fm_cfg3_recover_leaves_members_of_the_old_cluster_outside() {
    let mut scene = Scene::new();
    member(&mut scene);
    scene.start("data");
    let [api, peer] = free_ports().expect("ports");
    let (api, peer) = (format!("127.0.0.1:{api}"), format!("127.0.0.1:{peer}"));
    let settings = fs::read_to_string(scene.path("data/member.toml")).expect("settings");
    let door = settings.lines().find_map(|line| line.strip_prefix("peer = ")).expect("an address");
    let secret = scene.run(&["cluster", "join-token"]).done().out;
    let join = ["cluster", "join", door.trim_matches('"'), "--secret", secret.trim(), "--data-dir", "two"];
    scene
        .run(&[&join[..], &["--name", "two", "--peer", &peer, "--api", &format!("http://{api}")]].concat())
        .done();
    let mut command = scene.command(&["server", "--data-dir", "two", "--listen", &api]);
    let two = Process::start(scene.dir.path(), "two", &mut command).expect("a server");
    wait_for("the second member to vote", SOON, || {
        let status = scene.run(&["cluster", "status", "--json"]).json();
        let members = status["members"].as_array()?;
        (members.iter().filter(|row| row["votes"] == true).count() == 2).then_some(())
    })
    .expect("two voters");
    scene.kill();
    // The other goes on running, and knows this one's address.
    let old = scene.events("two");
    let token = token_of(&scene, "data");
    said(recover(&scene, "data", &token, &ACKNOWLEDGED)).json();
    scene.start("data");
    for at in 0..10 {
        scene.write(&format!("later{at}"));
    }
    let new = scene.events("data");
    assert!(new.len() >= old.len() + 10);
    let removed = |events: &[String]| events.iter().filter(|event| event.contains("member.removed")).count();
    assert_eq!(
        (removed(&old), removed(&new)),
        (0, 2),
        "both members of the lost cluster are members no more"
    );
    assert!(demo::alive(two.pid()), "{}", two.last_words());
    assert_eq!(scene.events("two"), old, "nothing of the new cluster comes to a member of the old one");
    two.kill_hard();
    scene.kill();
}
