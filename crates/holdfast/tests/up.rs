//! `holdfast up` as people run it: its first start, the start after a power cut, and what it makes of
//! children that die. Real processes, killed with SIGKILL.
//!
//! One test deploys containers and needs what `failure_model.rs` needs; the others run the server and
//! the edge only.

use demo::{
    Authority, Manifest, Process, Running, Stamp, Target, clear_host, free_ports, get_blocking, get_plain,
    image::{Recipe, Temper, build},
    kill, wait_for,
};
use std::{
    ffi::OsStr,
    fs,
    net::TcpListener,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

const HOST: &str = "shop.example";
/// How long a wait for something that must happen may take.
const SOON: Duration = Duration::from_secs(40);

/// Which roles `up` starts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Roles {
    All,
    WithoutAgent,
}

/// A directory and ports for one `up`.
struct Scene {
    dir: tempfile::TempDir,
    data: PathBuf,
    binary: PathBuf,
    roles: Roles,
    /// Where the API listens: at 127.0.0.1, or everywhere.
    at: &'static str,
    /// API, TLS, TCP, the agent's and the edge's metrics.
    ports: [u16; 5],
    up: Option<Process>,
}

impl Scene {
    fn new(roles: Roles) -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-up-").tempdir().expect("a directory");
        let (data, binary) = (dir.path().join("data"), PathBuf::from(env!("CARGO_BIN_EXE_holdfast")));
        Self { dir, data, binary, roles, at: "127.0.0.1", ports: free_ports().expect("ports"), up: None }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    fn context(&self) -> PathBuf {
        self.dir.path().join("context.toml")
    }

    /// The program, with nothing of the caller's own Holdfast.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HOLDFAST_")) {
            command.env_remove(name);
        }
        command.current_dir(self.dir.path()).env("HOLDFAST_CONFIG", self.context());
        command
    }

    fn up(&self) -> Command {
        let [api, tls, _, agent, edge] = self.ports;
        let at = |port: u16| format!("127.0.0.1:{port}");
        let mut command = self.command();
        let listen = format!("{}:{api}", self.at);
        command.args(["up", "--listen", &listen, "--tls-listen", &at(tls), "--tcp-address", "127.0.0.1"]);
        command.args(["--edge-metrics", &at(edge), "--agent-metrics", &at(agent), "--name", "one"]);
        if self.roles == Roles::WithoutAgent {
            command.arg("--without-agent");
        }
        command.arg("--data-dir").arg(&self.data);
        command
    }

    fn start(&mut self) {
        self.start_as(&mut self.up());
    }

    fn start_as(&mut self, command: &mut Command) {
        self.up = Some(Process::start(self.dir.path(), "up", command).expect("up starts"));
    }

    fn running_up(&mut self) -> &mut Process {
        self.up.as_mut().expect("up was started")
    }

    /// Waits for a fact while `up` runs.
    fn until<T>(&mut self, what: &str, fact: impl FnMut() -> Option<T>) -> T {
        self.running_up().wait_until(what, SOON, fact).expect("up goes on")
    }

    fn until_said(&mut self, words: &str) {
        let log = self.running_up().log().to_owned();
        self.until(words, || fs::read_to_string(&log).ok()?.contains(words).then_some(()));
    }

    fn until_ready(&mut self) {
        let address = format!("127.0.0.1:{}", self.ports[0]);
        self.until("the server to be ready", || ready(&address));
    }

    fn until_edge(&mut self) {
        let address = format!("127.0.0.1:{}", self.ports[4]);
        self.until("the edge to run", || {
            let answer = get_plain(&address, "/metrics", Duration::from_secs(1)).ok()?;
            (answer.status == 200).then_some(())
        });
    }

    /// Everything that `up` has said so far.
    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("logs/up.log")).unwrap_or_default()
    }

    /// Runs the command line against this server.
    fn cli(&self, arguments: &[&str]) -> (i32, String) {
        let output = self
            .command()
            .args(arguments)
            .args(["--server", &self.url()])
            .stdin(Stdio::null())
            .output()
            .expect("the program runs");
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        (output.status.code().unwrap_or(-1), text.concat())
    }

    fn done(&self, arguments: &[&str]) -> String {
        let (code, said) = self.cli(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
        said
    }

    /// The children of `up`, by the role each plays.
    fn children(&self) -> Vec<(String, Stamp)> {
        self.up.as_ref().map_or(Vec::new(), |up| children_of(up.pid()))
    }

    fn child(&self, role: &str) -> Option<Stamp> {
        self.children().into_iter().find(|(name, _)| name == role).map(|(_, stamp)| stamp)
    }

    /// SIGTERM, and how it ended.
    fn stop(&mut self) -> ExitStatus {
        self.up.take().expect("up was started").terminate(SOON).expect("an end")
    }

    /// What a power cut leaves of processes: nothing.
    fn cut_power(&mut self) {
        let children = self.children();
        if let Some(up) = self.up.take() {
            kill(up.pid(), libc::SIGKILL);
            for (_, child) in &children {
                child.kill(libc::SIGKILL);
            }
            up.kill_hard();
        }
        wait_for("the roles to be gone", SOON, || {
            children.iter().all(|(_, child)| !child.runs()).then_some(())
        })
        .expect("nothing survives SIGKILL");
        clear_host(self.dir.path()).expect("no instance survives SIGKILL");
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let children = self.children();
        if let Some(up) = self.up.take() {
            up.kill_hard();
        }
        children.iter().for_each(|(_, child)| child.kill(libc::SIGKILL));
        // Nobody is left to tell.
        clear_host(self.dir.path()).ok();
    }
}

fn ready(address: &str) -> Option<()> {
    let answer = get_plain(address, "/health/ready", Duration::from_secs(1)).ok()?;
    (answer.status == 200).then_some(())
}

fn children_of(parent: u32) -> Vec<(String, Stamp)> {
    let child = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let of: u32 = stat[stat.rfind(')')? + 2..].split(' ').nth(1)?.parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let role = String::from_utf8_lossy(&line).split('\0').nth(1)?.to_owned();
        // Between fork and exec a child still looks like its parent.
        (of == parent && role != "up").then(|| Some((role, Stamp::of(pid)?))).flatten()
    };
    let all = fs::read_dir("/proc").expect("processes").flatten();
    all.filter_map(|entry| child(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Flips one bit in the head of the log's segment.
fn damage(log: &Path) {
    let files = fs::read_dir(log).expect("a log").flatten().map(|entry| entry.path());
    let segment =
        files.filter(|path| path.extension().is_some_and(|kind| kind == "seg")).min().expect("a segment");
    let mut bytes = fs::read(&segment).expect("read");
    bytes[8] ^= 1;
    fs::write(&segment, bytes).expect("written");
}

#[test]
fn fm_a2_up_brings_everything_back_though_its_log_is_damaged() {
    let mut scene = Scene::new(Roles::All);
    let authority = Authority::new().expect("an authority");
    let layout = scene.dir.path().join("image");
    build(&layout, &authority, &[HOST], &[Recipe { version: "v1", temper: Temper::Sound }])
        .expect("an image");
    scene.start();
    scene.until_said("holdfast is up");
    let image = format!("oci:{}:v1", layout.display());
    let manifest = scene.dir.path().join("holdfast.toml");
    let tcp = scene.ports[2];
    fs::write(&manifest, Manifest { image: &image, host: HOST, tcp, replicas: 1 }.text()).expect("written");
    scene.done(&["apply", "-f", &manifest.display().to_string(), "--yes"]);
    let targets = [Target::tls(scene.ports[1], HOST, authority.der()).expect("a target"), Target::plain(tcp)];
    let answered = || {
        let answers =
            |target| get_blocking(target, "/", Duration::from_secs(3)).is_ok_and(|it| it.status == 200);
        targets.iter().all(answers).then_some(())
    };
    scene.until("an answer on every route", answered);
    scene.done(&["wait", "converged", "--app", "demo"]);

    scene.cut_power();
    assert!(Running::find(&scene.data.join("agent")).is_empty());
    assert_eq!(answered(), None);
    damage(&scene.data.join("log"));
    let (before, log) = (scene.said().len(), scene.dir.path().join("logs/up.log"));
    scene.start();
    scene.until("an answer on every route, without a server", answered);
    scene.until("the server's reason", || {
        let said = fs::read_to_string(&log).ok()?;
        (said[before..].contains(".seg") && said[before..].contains("damaged")).then_some(())
    });
    assert_eq!(scene.cli(&["status", "--app", "demo"]).0, 6, "there is no server");
    assert!(scene.running_up().ended().is_none(), "and `up` goes on: {}", scene.said());
    assert!(scene.child("agent").is_some() && scene.child("edge").is_some());
    assert_eq!(scene.stop().code(), Some(0));
}

#[test]
fn a_taken_port_keeps_nothing_but_the_server_away() {
    let mut scene = Scene::new(Roles::WithoutAgent);
    scene.start();
    scene.until_said("holdfast is up");
    assert_eq!(scene.stop().code(), Some(0));
    let taken = TcpListener::bind(("127.0.0.1", scene.ports[0])).expect("the port");
    scene.start();
    scene.until_edge();
    scene.until_said("cannot listen on");
    assert_eq!(scene.said().matches("holdfast is up").count(), 1, "it is not said of another's port");
    drop(taken);
    scene.until_ready();
    assert!(scene.running_up().ended().is_none());
    assert_eq!(scene.stop().code(), Some(0));
}

#[test]
fn a_role_is_started_again_when_the_program_was_replaced() {
    let mut scene = Scene::new(Roles::WithoutAgent);
    let copy = scene.dir.path().join("holdfast");
    fs::copy(&scene.binary, &copy).expect("a copy");
    scene.binary.clone_from(&copy);
    scene.start();
    scene.until_said("holdfast is up");
    fs::remove_file(&copy).expect("removed, as an upgrade does");
    for role in ["server", "server"] {
        let before = scene.child(role).expect("it runs");
        before.kill(libc::SIGKILL);
        let parent = scene.running_up().pid();
        let again = scene.until("the role to run again", || {
            let mut children = children_of(parent).into_iter();
            children.find(|(name, stamp)| name == role && *stamp != before).map(|(_, stamp)| stamp)
        });
        scene.until_ready();
        let name = fs::read_to_string(format!("/proc/{}/comm", again.pid)).expect("it runs");
        assert_eq!(name.trim(), "holdfast", "tools that list processes show its name");
    }
    assert_eq!(scene.stop().code(), Some(0));
}

#[test]
fn a_first_start_needs_no_home() {
    let mut scene = Scene::new(Roles::WithoutAgent);
    let mut command = scene.up();
    for name in ["HOME", "XDG_CONFIG_HOME", "HOLDFAST_CONFIG"] {
        command.env_remove(name);
    }
    scene.start_as(&mut command);
    scene.until_said("holdfast is up");
    assert!(scene.data.join("node.toml").exists());
    let said = scene.said();
    let token = said.lines().find_map(|line| line.strip_prefix("owner token (shown this once): "));
    let token = token.expect("the token, for nothing else has it").to_owned();
    assert!(scene.done(&["whoami", "--token", &token]).contains("owner"));
    assert_eq!(scene.stop().code(), Some(0));
    scene.start_as(&mut command);
    scene.until_ready();
}

#[test]
fn a_first_start_uses_its_own_servers_token_and_no_other() {
    let mut scene = Scene::new(Roles::WithoutAgent);
    let other = "server = \"https://10.0.0.1:7070\"\ntoken = \"hf_of_another_server\"\n";
    fs::write(scene.context(), other).expect("written");
    let mut command = scene.up();
    command.env("HOLDFAST_TOKEN", "hf_of_yet_another_server");
    scene.start_as(&mut command);
    scene.until_said("holdfast is up");
    assert!(scene.data.join("node.toml").exists());
    assert_eq!(fs::read_to_string(scene.context()).expect("kept"), other, "left to the other server");
    assert_eq!(scene.stop().code(), Some(0));
}

#[test]
fn a_second_up_on_a_taken_port_does_not_join_the_first() {
    let mut first = Scene::new(Roles::WithoutAgent);
    first.start();
    first.until_said("holdfast is up");
    let mut second = Scene::new(Roles::WithoutAgent);
    second.ports[0] = first.ports[0];
    // As the same user would run it: the context knows the first one's token.
    let mut command = second.up();
    command.env("HOLDFAST_CONFIG", first.context());
    second.start_as(&mut command);
    let ended = wait_for("the second up to give up", SOON, || second.running_up().ended()).expect("an end");
    assert_eq!(ended.code(), Some(1), "{}", second.said());
    assert!(second.said().contains("the port is taken"), "{}", second.said());
    assert!(!second.data.join("node.toml").exists());
    let nodes: serde_json::Value = serde_json::from_str(&first.done(&["nodes", "--json"])).expect("JSON");
    assert_eq!(nodes.as_array().map(Vec::len), Some(1), "{nodes}");
    assert_eq!(first.stop().code(), Some(0));
}

#[test]
fn a_first_start_that_cannot_get_its_ports_begins_nothing() {
    for (port, flag) in [(1, "--tls-listen"), (4, "--edge-metrics")] {
        let mut scene = Scene::new(Roles::WithoutAgent);
        let _taken = TcpListener::bind(("127.0.0.1", scene.ports[port])).expect("the port");
        scene.start();
        let ended = wait_for("up to give up", SOON, || scene.running_up().ended()).expect("an end");
        assert_eq!(ended.code(), Some(1), "{}", scene.said());
        let said = scene.said();
        assert!(said.contains("the port is taken") && said.contains(flag), "{said}");
        assert!(!said.contains("owner token") && !said.contains("holdfast is up"), "{said}");
        assert!(!scene.data.join("log").exists() && !scene.context().exists(), "nothing was begun");
    }
}

#[test]
fn two_of_them_on_one_directory_are_one_too_many() {
    let mut scene = Scene::new(Roles::WithoutAgent);
    scene.start();
    scene.until_said("holdfast is up");
    let second = scene.up().stdin(Stdio::null()).output().expect("the program runs");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("runs already on"), "{second:?}");
    assert!(scene.running_up().ended().is_none());
    assert_eq!(scene.stop().code(), Some(0));
}

#[test]
fn any_port_is_no_port_that_others_can_be_told() {
    let mut scene = Scene::new(Roles::WithoutAgent);
    scene.ports[0] = 0;
    scene.start();
    let ended = wait_for("up to refuse", SOON, || scene.running_up().ended()).expect("an end");
    assert_eq!(ended.code(), Some(2), "{}", scene.said());
    assert!(scene.said().contains("--listen 127.0.0.1:7070"), "{}", scene.said());
    assert!(!scene.data.exists(), "nothing was begun");
}

#[test]
fn a_directory_that_is_no_text_is_used_as_it_is() {
    let mut scene = Scene::new(Roles::WithoutAgent);
    scene.data = scene.dir.path().join(OsStr::from_bytes(b"data-\xff"));
    scene.start();
    scene.until_said("holdfast is up");
    for name in ["log", "edge", "node.toml"] {
        assert!(scene.data.join(name).exists(), "{name}");
    }
    assert_eq!(scene.stop().code(), Some(0));
}

/// Agent and edge find the server by its fingerprint, at the first start and at every other.
#[test]
fn all_roles_of_an_up_that_others_reach_speak_tls() {
    let mut scene = Scene::new(Roles::All);
    scene.at = "0.0.0.0";
    for _ in 0..2 {
        scene.start();
        scene.until_said("holdfast is up: https://127.0.0.1:");
        // The saved context knows the server; both roles of the node are heard over TLS.
        let nodes = |scene: &Scene| {
            let said = scene.command().args(["nodes", "list", "--json"]).output().expect("the program runs");
            serde_json::from_slice::<serde_json::Value>(&said.stdout).unwrap_or_default()
        };
        let told = wait_for("both roles to be heard", SOON, || {
            let told = nodes(&scene);
            let is_heard = |plan: &str| told[0][plan].is_u64();
            (is_heard("acknowledged") && is_heard("edge_acknowledged")).then_some(())
        });
        told.unwrap_or_else(|error| panic!("{error}: {} {}", nodes(&scene), scene.said()));
        let node = fs::read_to_string(scene.data.join("node.toml")).expect("kept");
        assert!(node.contains("https://127.0.0.1:") && node.contains("#sha256="), "{node}");
        assert_eq!(scene.stop().code(), Some(0));
        fs::remove_file(scene.dir.path().join("logs/up.log")).expect("a new one");
    }
    let (code, said) = scene.cli(&["whoami"]);
    assert_eq!(code, 6, "nothing runs, and nothing is sent in plain: {said}");
}
