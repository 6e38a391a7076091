//! A cluster of real servers, each on a machine of its own, asked and broken from outside.

use crate::{
    net::{Host, Net},
    wire::{self, Answer, Call, Lost},
};
use demo::{Cli, Outcome, Process, kill, wait_for};
use rt::Boundary;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::Value;
use std::{
    net::Ipv4Addr,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

/// How long something that must happen may take.
pub const SOON: Duration = Duration::from_secs(20);
/// How long one call may take.
pub const ANSWER: Duration = Duration::from_secs(20);
/// The names of members, in their order.
pub const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];

/// The machines, and the members on them. Everything ends and is removed when it is dropped.
pub struct Cluster {
    members: Vec<Member>,
    token: String,
    /// More flags of `server`, for all of them.
    flags: Vec<String>,
    /// They listen where others reach them, and are asked over TLS with the authority's certificate.
    tls: Option<Arc<ClientConfig>>,
    is_reached: bool,
    net: Net,
    dir: tempfile::TempDir,
}

/// One member, running or not.
pub struct Member {
    pub data: PathBuf,
    process: Option<Process>,
}

/// What a new cluster is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Made<'a> {
    /// Of these machines are members.
    pub members: usize,
    /// There are so many more.
    pub spare: usize,
    /// More flags of `cluster init`.
    pub flags: &'a [&'a str],
}

impl Cluster {
    /// Machines, and nothing on them.
    pub fn machines(count: usize) -> Self {
        let net = Net::new(count).expect("namespaces: this needs root, ip and nft");
        let dir = tempfile::Builder::new().prefix("holdfast-cluster-").tempdir().expect("a directory");
        let data = |name: &&str| Member { data: dir.path().join(name), process: None };
        let members = NAMES[..count].iter().map(data).collect();
        Self { members, token: String::new(), flags: Vec::new(), tls: None, is_reached: false, net, dir }
    }

    /// Members that all vote.
    pub fn of(made: Made<'_>) -> Self {
        let mut cluster = Self::machines(made.members + made.spare);
        cluster.found(made.flags);
        for at in 1..made.members {
            cluster.join(at);
        }
        cluster.all_vote(made.members);
        cluster
    }

    /// Three members that elect their leader.
    pub fn of_three() -> Self {
        Self::of(Made { members: 3, ..Made::default() })
    }

    /// Three members that wait for an operator.
    pub fn operated() -> Self {
        Self::of(Made { members: 3, flags: &["--failover", "operator"], ..Made::default() })
    }

    /// From here on, servers listen at the addresses of their machines.
    pub fn listen_for_others(&mut self) {
        self.is_reached = true;
    }

    /// The URL of a member's API, as others would name it.
    pub fn api(&self, at: usize) -> String {
        format!("https://{}:7070", self.host(at).address())
    }

    /// The certificate of the cluster's authority, in PEM.
    pub fn authority(&self) -> PathBuf {
        self.data(0).join("peer/ca.pem")
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The owner's token.
    pub fn token(&self) -> &str {
        &self.token
    }

    pub fn host(&self, at: usize) -> &Host {
        self.net.host(at)
    }

    pub fn data(&self, at: usize) -> &Path {
        &self.members[at].data
    }

    /// Where a member is reached by others.
    pub fn peer(&self, at: usize) -> String {
        format!("{}:7071", self.host(at).address())
    }

    /// Another directory for a member that is not started yet: a small disk, say.
    pub fn keep_in(&mut self, at: usize, data: PathBuf) {
        self.members[at].data = data;
    }

    /// From here on, every server is started with these as well.
    pub fn serve_with(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(ToString::to_string).collect();
    }

    /// Makes machine 0 the first member, and starts it.
    pub fn found(&mut self, flags: &[&str]) {
        let said = self.init(0, flags).executed().expect("a founder");
        let token = said.stdout.split_whitespace().find(|word| word.starts_with("hf_"));
        self.token = token.expect("the owner's token is printed").to_owned();
        self.tls = self.is_reached.then(|| trusting(&self.authority()));
        self.start(0);
        wait_for("the founder to lead", SOON, || self.leads(0).then_some(())).expect("a leader");
    }

    /// Runs `cluster init` on a machine.
    pub fn init(&self, at: usize, flags: &[&str]) -> Cli {
        let (peer, data) = (self.peer(at), self.data(at).display().to_string());
        let api = self.api(at);
        let own =
            ["cluster", "init", "--data-dir", &data, "--name", NAMES[at], "--peer", &peer, "--api", &api];
        self.cli(at, &[&own, flags].concat())
    }

    /// A secret that lets one in, made at a member.
    pub fn secret(&self, at: usize) -> String {
        let said = self.cli(at, &["cluster", "join-token"]).executed().expect("a secret");
        said.stdout.trim().to_owned()
    }

    /// Runs `cluster join` on a machine, as the member of this name, at that member.
    pub fn ask_to_join(&self, at: usize, name: &str, through: usize, secret: &str) -> Cli {
        self.ask_to_join_with(at, name, through, secret, &[])
    }

    /// The same, with more flags.
    pub fn ask_to_join_with(
        &self,
        at: usize,
        name: &str,
        through: usize,
        secret: &str,
        flags: &[&str],
    ) -> Cli {
        let (peer, data) = (self.peer(at), self.data(at).display().to_string());
        let (api, door) = (self.api(at), self.peer(through));
        let own = ["cluster", "join", &door, "--secret", secret, "--data-dir", &data, "--name", name];
        self.cli(at, &[&own, ["--peer", &peer, "--api", &api].as_slice(), flags].concat())
    }

    /// Makes a machine a member through the first one, and starts it.
    pub fn join(&mut self, at: usize) {
        let secret = self.secret(0);
        self.ask_to_join(at, NAMES[at], 0, &secret).executed().expect("let in");
        self.start(at);
    }

    /// Waits until `count` members vote and have a leader, as all know that run.
    pub fn all_vote(&self, count: usize) {
        let running: Vec<usize> = (0..self.members.len()).filter(|at| self.runs(*at)).collect();
        self.all_vote_of(&running, count);
    }

    /// The same, as these know it.
    pub fn all_vote_of(&self, asked: &[usize], count: usize) {
        wait_for("all members to vote", SOON, || {
            asked.iter().all(|at| self.votes(*at) == Some(count)).then_some(())
        })
        .unwrap_or_else(|error| {
            panic!("{error}: {:?}", asked.iter().map(|at| self.status(*at)).collect::<Vec<_>>())
        });
    }

    /// How many vote, as a member that hears a leader knows it.
    fn votes(&self, at: usize) -> Option<usize> {
        let status = self.status(at)?;
        status["leader"].as_str()?;
        Some(status["members"].as_array()?.iter().filter(|row| row["votes"] == true).count())
    }

    /// Starts a server and waits until it answers at all.
    pub fn start(&mut self, at: usize) {
        self.launch(at).expect("a server");
        self.answers(at);
    }

    /// Waits until a server that was started answers.
    pub fn answers(&mut self, at: usize) {
        let Self { members, net, tls, .. } = self;
        let process = members[at].process.as_mut().expect("it was started");
        let live = Call { method: "GET", path: "/health/live", headers: &[], body: None };
        let host = net.host(at);
        let answered = process.wait_until("an answer", SOON, || {
            let patience = Duration::from_secs(1);
            let answer = match tls {
                Some(tls) => wire::call_over_tls(host, tls, &live, patience),
                None => wire::call(host, &live, patience),
            };
            answer.ok().filter(|answer| answer.status == 200)
        });
        answered.expect("a server that answers");
    }

    /// Starts a server and waits for nothing.
    pub fn launch(&mut self, at: usize) -> Outcome {
        let mut command = self.command(at);
        let address = if self.is_reached { self.host(at).address() } else { Ipv4Addr::LOCALHOST };
        command.args(["server", "--listen", &format!("{address}:7070"), "--data-dir"]).arg(self.data(at));
        command.args(&self.flags);
        command.env("HOLDFAST_KILL_AT", self.killer(at));
        self.members[at].process = Some(Process::start(self.dir(), NAMES[at], &mut command)?);
        Ok(())
    }

    /// Whether a server was started and has not ended.
    pub fn runs(&self, at: usize) -> bool {
        self.members[at].process.as_ref().is_some_and(|process| demo::alive(process.pid()))
    }

    /// Everything a server said.
    pub fn said(&self, at: usize) -> String {
        let text = std::fs::read(self.dir().join("logs").join(format!("{}.log", NAMES[at])));
        String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
    }

    /// The end of what a server said.
    pub fn last_words(&self, at: usize) -> String {
        let text = self.said(at);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }

    /// SIGKILL.
    pub fn kill(&mut self, at: usize) {
        self.members[at].process.take().expect("it runs").kill_hard();
    }

    /// The file that says where a member ends itself.
    fn killer(&self, at: usize) -> PathBuf {
        self.dir().join(format!("{}.kill", NAMES[at]))
    }

    /// A member kills itself when it reaches this boundary for the `times`-th time from now.
    pub fn arm(&self, at: usize, boundary: Boundary, times: u32) {
        self.armed(at, &format!("{} {times}", boundary.name()));
    }

    fn armed(&self, at: usize, text: &str) {
        // Whole or not at all: it may be read at any time.
        let unfinished = self.killer(at).with_extension("unfinished");
        std::fs::write(&unfinished, text).expect("written");
        std::fs::rename(&unfinished, self.killer(at)).expect("renamed");
    }

    /// A member stops itself when it reaches this boundary.
    pub fn arm_to_stop(&self, at: usize, boundary: Boundary) {
        self.armed(at, &format!("{} stop", boundary.name()));
    }

    /// Waits until it has.
    pub fn stopped_at(&self, at: usize) {
        wait_for("a member to stop itself", SOON, || (!self.killer(at).exists()).then_some(()))
            .expect("it comes there");
    }

    /// It does not, after all.
    pub fn disarm(&self, at: usize) {
        match std::fs::remove_file(self.killer(at)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("not disarmed: {error}"),
            _ => {}
        }
    }

    /// Waits until a member has killed itself at the boundary for which it was armed.
    pub fn killed_at(&mut self, at: usize, boundary: Boundary) {
        self.killed_at_one_of(&[at], boundary);
    }

    /// Waits until one of these has killed itself at the boundary for which all were armed; which one.
    pub fn killed_at_one_of(&mut self, members: &[usize], boundary: Boundary) -> usize {
        let killed = wait_for("a member to reach a boundary", SOON, || {
            members.iter().find_map(|at| {
                let status = self.members[*at].process.as_mut()?.ended()?;
                Some((*at, status.signal()))
            })
        });
        let (at, signal) = killed.unwrap_or_else(|error| panic!("{error}: {}", boundary.name()));
        self.members[at].process.take();
        let there = !self.killer(at).exists();
        assert_eq!((signal, there), (Some(libc::SIGKILL), true), "{} at {}", NAMES[at], boundary.name());
        at
    }

    /// SIGTERM.
    pub fn stop(&mut self, at: usize) {
        let process = self.members[at].process.take().expect("it runs");
        let ended = process.terminate(SOON).expect("an end");
        assert_eq!(ended.code(), Some(0), "an orderly end: {}", self.last_words(at));
    }

    /// Sends a signal.
    pub fn signal(&self, at: usize, signal: i32) {
        kill(self.pid(at), signal);
    }

    pub fn pid(&self, at: usize) -> u32 {
        self.members[at].process.as_ref().expect("it runs").pid()
    }

    fn command(&self, at: usize) -> Command {
        self.program(at, env!("CARGO_BIN_EXE_holdfast"))
    }

    /// A program on a machine, with what the command line there goes by.
    pub fn program(&self, at: usize, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HOLDFAST_")) {
            command.env_remove(name);
        }
        let context = self.dir().join(format!("{}.toml", NAMES[at]));
        command.current_dir(self.dir()).env("HOLDFAST_CONFIG", context);
        if !self.token.is_empty() {
            command.env("HOLDFAST_TOKEN", &self.token);
        }
        command.env("HOLDFAST_LOG", "info,openraft=error").stdin(Stdio::null());
        self.host(at).place(&mut command);
        command
    }

    /// Runs the command line on a machine, to its end.
    pub fn cli(&self, at: usize, arguments: &[&str]) -> Cli {
        let output = self.command(at).args(arguments).output().expect("the program runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Cli {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// Begins to run the command line on a machine.
    pub fn begin(&self, at: usize, arguments: &[&str]) -> Child {
        let mut command = self.command(at);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program runs")
    }

    /// Asks a member as the owner.
    pub fn call(&self, at: usize, asked: &Call<'_>, patience: Duration) -> Result<Answer, Lost> {
        let bearer = format!("Bearer {}", self.token);
        let headers = [&[("authorization", bearer.as_str())], asked.headers].concat();
        let call = Call { method: asked.method, path: asked.path, headers: &headers, body: asked.body };
        match &self.tls {
            Some(tls) => wire::call_over_tls(self.host(at), tls, &call, patience),
            None => wire::call(self.host(at), &call, patience),
        }
    }

    /// Reads from a member.
    pub fn get(&self, at: usize, path: &str) -> Result<Answer, Lost> {
        self.call(at, &Call { method: "GET", path, headers: &[], body: None }, ANSWER)
    }

    /// Reads what must be there.
    pub fn read(&self, at: usize, path: &str) -> Value {
        let answer = self.get(at, path).unwrap_or_else(|lost| panic!("{} {path}: {lost:?}", NAMES[at]));
        assert_eq!(answer.status, 200, "{} {path}: {answer:?}", NAMES[at]);
        answer.body
    }

    /// The cluster as a member sees it.
    pub fn status(&self, at: usize) -> Option<Value> {
        self.get(at, "/v1/cluster").ok().filter(|answer| answer.status == 200).map(|answer| answer.body)
    }

    /// Whether a member says that it leads.
    pub fn leads(&self, at: usize) -> bool {
        let Some(status) = self.status(at) else { return false };
        let own = |row: &&Value| row["node"] == status["own"];
        status["members"]
            .as_array()
            .and_then(|rows| rows.iter().find(own))
            .is_some_and(|row| row["leads"] == true)
    }

    /// The member that leads, of these.
    pub fn leader_of(&self, members: &[usize]) -> Option<usize> {
        members.iter().copied().find(|at| self.leads(*at))
    }

    /// Waits until one of these leads.
    pub fn leader_among(&self, members: &[usize]) -> usize {
        wait_for("a leader", SOON, || self.leader_of(members))
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.status(members[0])))
    }

    /// Waits until all of these have the same head, and gives it.
    pub fn caught_up(&self, members: &[usize]) -> u64 {
        wait_for("all members to be equally far", SOON, || {
            let heads: Vec<u64> = members.iter().filter_map(|at| self.head(*at)).collect();
            (heads.len() == members.len() && heads.iter().all(|head| *head == heads[0])).then_some(heads[0])
        })
        .unwrap_or_else(|error| {
            panic!("{error}: {:?}", members.iter().map(|at| self.head(*at)).collect::<Vec<_>>())
        })
    }

    /// Waits until a member has this event.
    pub fn caught_up_to(&self, at: usize, event: u64) {
        wait_for("a member to catch up", SOON, || self.head(at).filter(|head| *head >= event))
            .unwrap_or_else(|error| panic!("{error}: {:?} of {event}", self.head(at)));
    }

    /// The last event that a member has.
    pub fn head(&self, at: usize) -> Option<u64> {
        self.get(at, "/v1/events?after=0&limit=1").ok()?.body["head"].as_u64()
    }

    /// Every event that a member has.
    pub fn events(&self, at: usize) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        loop {
            let after = events.last().map_or(0, |event| event["id"].as_u64().expect("an id"));
            let page = self.read(at, &format!("/v1/events?after={after}&limit=500"));
            let rows = page["events"].as_array().expect("a page").clone();
            if rows.is_empty() {
                return events;
            }
            events.extend(rows);
        }
    }

    /// Every event, which must be the same on all of these, gapless from 1; and so must be the views.
    pub fn same_everywhere(&self, members: &[usize]) -> Vec<Value> {
        self.caught_up(members);
        let events = self.events(members[0]);
        let ids: Vec<u64> = events.iter().filter_map(|event| event["id"].as_u64()).collect();
        assert_eq!(ids, (1..=events.len() as u64).collect::<Vec<_>>(), "gapless");
        for at in &members[1..] {
            let other = self.events(*at);
            let differ = events.iter().zip(&other).find(|(one, other)| one != other);
            assert_eq!(differ, None, "{} and {} have other events", NAMES[members[0]], NAMES[*at]);
            assert_eq!(events.len(), other.len());
        }
        let views = |at: usize| -> Value {
            let page = self.read(at, "/v1/views");
            let rows = page["rows"].as_array().or(page.as_array()).expect("views").clone();
            rows.iter()
                .map(|row| serde_json::json!([row["name"], row["checkpoint"], row["fingerprint"]]))
                .collect()
        };
        for at in &members[1..] {
            let equal = wait_for("equal views", SOON, || (views(*at) == views(members[0])).then_some(()));
            equal.unwrap_or_else(|error| panic!("{error}: {} {}", views(*at), views(members[0])));
        }
        events
    }
}

/// A client of TLS that was given one certificate to trust, and goes by names as every other does.
pub fn trusting(authority: &Path) -> Arc<ClientConfig> {
    let certificate = CertificateDer::from_pem_file(authority).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("of an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Arc::new(config.expect("versions").with_root_certificates(roots).with_no_client_auth())
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (at, name) in NAMES.iter().enumerate().take(self.members.len()) {
                eprintln!("--- {name} said last:\n{}", self.last_words(at));
            }
            // For whoever wants to look: HOLDFAST_TEST_KEEP=1.
            if std::env::var_os("HOLDFAST_TEST_KEEP").is_some() {
                eprintln!("--- kept: {}", self.dir.path().display());
                self.dir.disable_cleanup(true);
            }
        }
        // Before the namespaces and the directories go.
        for member in &mut self.members {
            member.process.take();
        }
    }
}
