//! Servers of one cluster on loopback, a command line against them, and what their log says.

use api::{Client, EventRow, EventsQuery, RequestState, RequestVerdict};
use demo::{Cli, Process, free_ports, wait_for};
use rt::{Boundary, Clock as _, Random as _};
use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};
use types::{EventId, RequestId};

/// How long something that must happen may take.
pub const SOON: Duration = Duration::from_secs(30);
const NAMES: [&str; 3] = ["one", "two", "three"];

/// One server, running or not.
struct Member {
    api: String,
    peer: String,
    process: Option<Process>,
}

/// A cluster. Everything ends and is removed when it is dropped.
pub struct Scene {
    members: Vec<Member>,
    token: String,
    dir: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

/// A fresh request id.
pub fn fresh() -> RequestId {
    RequestId::from_parts(rt::SystemClock.now(), rt::OsRandom.u128())
}

/// What a run of the command line said.
pub fn said(output: &Output) -> Cli {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Cli {
        code: output.status.code().unwrap_or(-1),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

impl Scene {
    /// So many servers that elect their leader. The first one leads at first.
    pub fn of(count: usize) -> Self {
        let dir = tempfile::Builder::new().prefix("holdfast-operators-").tempdir().expect("a directory");
        let members = (0..count).map(|_| {
            let [api, peer] = free_ports().expect("ports");
            Member { api: format!("127.0.0.1:{api}"), peer: format!("127.0.0.1:{peer}"), process: None }
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("an event loop");
        let mut scene = Self { members: members.collect(), token: String::new(), dir, runtime };
        let made = scene.place(0, &["cluster", "init"]).executed().expect("a founder");
        let token = made.stdout.split_whitespace().find(|word| word.starts_with("hf_"));
        scene.token = token.expect("the owner's token is printed").to_owned();
        scene.start(0);
        for (at, name) in NAMES.into_iter().enumerate().take(count).skip(1) {
            scene.join(name, at).executed().expect("let in");
            scene.start(at);
        }
        scene.all_vote(count);
        scene
    }

    /// Waits until so many vote, as every server that runs knows.
    fn all_vote(&self, count: usize) {
        let votes = |client: &Client| {
            let status = self.block(client.cluster()).ok()?;
            status.leader?;
            Some(status.members.iter().filter(|row| row.votes).count())
        };
        wait_for("all members to vote", SOON, || {
            let all = (0..count).all(|at| votes(&self.client(at)) == Some(count));
            all.then_some(())
        })
        .expect("voters");
    }

    /// `cluster init` or `join` for a member's place.
    fn place(&self, at: usize, verb: &[&str]) -> Cli {
        self.place_as(NAMES[at], at, verb)
    }

    fn place_as(&self, name: &str, at: usize, verb: &[&str]) -> Cli {
        let (data, api) = (self.data_of(name).display().to_string(), self.url(at));
        let own = ["--data-dir", &data, "--name", name, "--peer", &self.members[at].peer, "--api", &api];
        said(&self.command(&[verb, own.as_slice()].concat()).output().expect("the program runs"))
    }

    /// Makes a directory a member by this name.
    fn join(&self, name: &str, at: usize) -> Cli {
        let url = self.url(0);
        let secret = self.cli(&["cluster", "join-token", "--server", &url]).executed().expect("a secret");
        self.place_as(name, at, &["cluster", "join", &self.members[0].peer, "--secret", secret.stdout.trim()])
    }

    /// A member that is let in and never started: one to be removed.
    pub fn ghost(&self, name: &str) {
        let [peer] = free_ports().expect("a port");
        let (peer, data) = (format!("127.0.0.1:{peer}"), self.data_of(name).display().to_string());
        let url = self.url(0);
        let secret = self.cli(&["cluster", "join-token", "--server", &url]).executed().expect("a secret");
        let own = ["cluster", "join", &self.members[0].peer, "--secret", secret.stdout.trim()];
        let place = ["--data-dir", &data, "--name", name, "--peer", &peer, "--read-only"];
        let output = self.command(&[own.as_slice(), place.as_slice()].concat()).output();
        said(&output.expect("the program runs")).executed().expect("let in");
    }

    /// Whether a member of this name is in the cluster.
    pub fn has_member(&self, at: usize, name: &str) -> bool {
        let status = self.block(self.client(at).cluster()).expect("a status");
        status.members.iter().any(|row| row.name.as_str() == name)
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn data_of(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// The data directory of a server.
    pub fn data(&self, at: usize) -> PathBuf {
        self.data_of(NAMES[at])
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// Where a server's API listens.
    pub fn address(&self, at: usize) -> &str {
        &self.members[at].api
    }

    pub fn url(&self, at: usize) -> String {
        format!("http://{}", self.members[at].api)
    }

    /// All of them, this one first, as the command line takes them.
    pub fn urls(&self, first: usize) -> String {
        let others = (0..self.members.len()).filter(|at| *at != first);
        std::iter::once(first).chain(others).map(|at| self.url(at)).collect::<Vec<_>>().join(",")
    }

    pub fn client(&self, at: usize) -> Client {
        let client = Client::new(&self.url(at), Some(self.token.clone())).expect("a client");
        client.with_timeout(Duration::from_secs(10))
    }

    /// Runs a future to its end.
    pub fn block<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Starts a server and waits until it knows who leads.
    pub fn start(&mut self, at: usize) {
        self.launch(at);
        let client = self.client(at);
        wait_for("a server that knows a leader", SOON, || {
            self.block(client.cluster()).is_ok_and(|status| status.leader.is_some()).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {}", self.last_words(at)));
    }

    /// Starts a server and waits for nothing.
    pub fn launch(&mut self, at: usize) {
        let (api, data) = (self.members[at].api.clone(), self.data(at).display().to_string());
        let mut command = self.command(&["server", "--listen", &api, "--data-dir", &data]);
        command.env("HOLDFAST_KILL_AT", self.killer(at)).env("HOLDFAST_LOG", "info,openraft=error");
        let process = Process::start(self.dir(), NAMES[at], &mut command).expect("a server");
        self.members[at].process = Some(process);
    }

    fn last_words(&self, at: usize) -> String {
        self.members[at].process.as_ref().map(Process::last_words).unwrap_or_default()
    }

    /// SIGKILL.
    pub fn kill(&mut self, at: usize) {
        self.members[at].process.take().expect("it runs").kill_hard();
    }

    /// SIGKILL, and the same server again.
    pub fn restart(&mut self, at: usize) {
        if let Some(process) = self.members[at].process.take() {
            process.kill_hard();
        }
        self.start(at);
    }

    /// The server that leads, as it says itself.
    pub fn leader(&self) -> usize {
        let leads = |at: usize| {
            let status = self.block(self.client(at).cluster()).ok()?;
            (status.leader == Some(status.own)).then_some(at)
        };
        let running = || (0..self.members.len()).filter(|at| self.members[*at].process.is_some());
        wait_for("a leader", SOON, || running().find_map(leads)).expect("a leader")
    }

    fn killer(&self, at: usize) -> PathBuf {
        self.dir().join(format!("{}.kill", NAMES[at]))
    }

    /// A server kills itself when it comes to this boundary.
    pub fn arm(&self, at: usize, boundary: Boundary) {
        arm(&self.killer(at), boundary.name());
    }

    /// It stands still there instead.
    pub fn arm_to_stop(&self, at: usize, boundary: Boundary) {
        arm(&self.killer(at), &format!("{} stop", boundary.name()));
    }

    /// Waits until it has.
    pub fn stopped_at(&self, at: usize) {
        wait_for("a server to stand still", SOON, || (!self.killer(at).exists()).then_some(()))
            .expect("it comes there");
    }

    /// Lets it go on.
    pub fn goes_on(&self, at: usize) {
        demo::kill(self.members[at].process.as_ref().expect("it runs").pid(), libc::SIGCONT);
    }

    /// Waits until a server has killed itself where it was armed to.
    pub fn killed(&mut self, at: usize) {
        let process = self.members[at].process.as_mut().expect("it was started");
        let ended = wait_for("a server to kill itself", SOON, || process.ended()).expect("it comes there");
        assert_eq!(ended.signal(), Some(libc::SIGKILL), "{ended:?}");
        assert!(!self.killer(at).exists());
        self.members[at].process.take();
    }

    /// The program, with nothing of the caller's own Holdfast and no terminal.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HOLDFAST_")) {
            command.env_remove(name);
        }
        command.current_dir(self.dir()).env("HOLDFAST_CONFIG", self.dir().join("context.toml"));
        if !self.token.is_empty() {
            command.env("HOLDFAST_TOKEN", &self.token);
        }
        command.args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs the command line to its end.
    pub fn cli(&self, arguments: &[&str]) -> Cli {
        said(&self.command(arguments).output().expect("the program runs"))
    }

    /// Begins to run it; armed to kill itself where this says.
    pub fn begin(&self, arguments: &[&str], dies: Option<Boundary>) -> Child {
        let mut command = self.command(arguments);
        if let Some(boundary) = dies {
            let file = self.dir().join(format!("client-{}.kill", fresh()));
            arm(&file, boundary.name());
            command.env("HOLDFAST_KILL_AT", file);
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program runs")
    }

    /// Runs the command line until it kills itself there.
    pub fn dies_at(&self, arguments: &[&str], boundary: Boundary) {
        let output = self.begin(arguments, Some(boundary)).wait_with_output().expect("it ends");
        assert_eq!(output.status.signal(), Some(libc::SIGKILL), "{arguments:?}: {:?}", said(&output));
    }

    /// What a server says of a request, as the log tells.
    pub fn state(&self, at: usize, id: RequestId) -> RequestState {
        wait_for("an answer about a request", SOON, || self.block(self.client(at).request(id)).ok())
            .expect("a state")
    }

    /// The same, of a request whose verdict must be there.
    pub fn verdict(&self, at: usize, id: RequestId) -> RequestVerdict {
        let state = self.state(at, id);
        assert!(state.is_final, "{state:?}");
        state.state
    }

    /// Every event that a server has.
    pub fn events(&self, at: usize) -> Vec<EventRow> {
        let mut events: Vec<EventRow> = Vec::new();
        loop {
            let after = events.last().map_or(EventId::ZERO, |event| event.id);
            let query = EventsQuery { after, limit: Some(500), wait: false };
            let page = self.block(self.client(at).events(query)).expect("a page");
            if page.events.is_empty() {
                return events;
            }
            events.extend(page.events);
        }
    }

    /// The kinds of the events of each request, which must stand together and end with its verdict.
    pub fn caused(&self, at: usize) -> BTreeMap<RequestId, Vec<String>> {
        let mut caused: BTreeMap<RequestId, Vec<(u64, String)>> = BTreeMap::new();
        for event in self.events(at) {
            if let Some(id) = event.request_id {
                caused.entry(id).or_default().push((event.id.get(), event.kind));
            }
        }
        let whole = caused.into_iter().map(|(id, events)| {
            let (first, last) = (events[0].0, events[events.len() - 1].0);
            assert_eq!(last - first + 1, events.len() as u64, "{id} is written in parts: {events:?}");
            let kinds: Vec<String> = events.into_iter().map(|(_, kind)| kind).collect();
            let verdicts = kinds.iter().filter(|kind| *kind == DECIDED).count();
            assert_eq!((verdicts, kinds.last().map(String::as_str)), (1, Some(DECIDED)), "{id}: {kinds:?}");
            (id, kinds)
        });
        whole.collect()
    }

    /// The effects of one request: its events but the verdict.
    pub fn effects(&self, at: usize, id: RequestId) -> Vec<String> {
        let mut kinds = self.caused(at).remove(&id).unwrap_or_default();
        kinds.retain(|kind| kind != DECIDED);
        kinds
    }

    /// Voids a request that nobody has seen, which makes it certain; true if that was so.
    pub fn void(&self, at: usize, id: RequestId) -> bool {
        let said = self.cli(&["requests", "void", &id.to_string(), "--server", &self.url(at)]);
        let state = self.state(at, id);
        assert!(state.is_final, "{said:?}: {state:?}");
        assert_eq!(said.code == 0, state.state == RequestVerdict::Voided, "{said:?}: {state:?}");
        said.code == 0
    }
}

/// The event that every request leaves.
const DECIDED: &str = "request.decided";

fn arm(file: &Path, text: &str) {
    // Whole or not at all: it may be read at any time.
    let unfinished = file.with_extension("unfinished");
    std::fs::write(&unfinished, text).expect("written");
    std::fs::rename(&unfinished, file).expect("renamed");
}

impl Drop for Scene {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (at, name) in NAMES.iter().enumerate().take(self.members.len()) {
                eprintln!("--- {name} said last:\n{}", self.last_words(at));
            }
        }
    }
}
