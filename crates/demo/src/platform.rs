//! A whole Holdfast on this machine: server, agent and edge as three processes, and the command
//! line against them, all through the one program that users have.

use crate::{Failure, Metrics, Outcome, Process, Routes, Running, Target, clear_host, free_ports};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// How long a role may take to come up.
const START: Duration = Duration::from_secs(30);
/// How long a role may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(20);

/// One of the three processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The control plane.
    Server,
    /// The host agent.
    Agent,
    /// The edge.
    Edge,
}

impl Role {
    /// The verb of the command line, also the name of its data directory.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Agent => "agent",
            Self::Edge => "edge",
        }
    }
}

/// What a run of the command line said.
#[derive(Clone, Debug)]
pub struct Cli {
    /// Its exit code.
    pub code: i32,
    /// Its data.
    pub stdout: String,
    /// Everything else.
    pub stderr: String,
}

impl Cli {
    /// The data as JSON.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn json(&self) -> Outcome<serde_json::Value> {
        serde_json::from_str(&self.stdout).map_err(|error| {
            Failure::new(format!("read as JSON: {}{}", self.stdout.trim(), self.stderr.trim()), error)
        })
    }

    /// This, if it exited with 0.
    ///
    /// # Errors
    /// It did not; with what it said.
    pub fn executed(self) -> Outcome<Self> {
        if self.code == 0 {
            return Ok(self);
        }
        let said = format!("{}{}", self.stdout, self.stderr);
        Err(Failure::new(format!("holdfast exited with {}", self.code), said.trim()))
    }
}

/// The three processes, their ports and their directory.
pub struct Platform {
    binary: PathBuf,
    dir: PathBuf,
    api: u16,
    tls: u16,
    tcp: u16,
    agent_metrics: u16,
    edge_metrics: u16,
    /// More flags of the server.
    server_flags: Vec<String>,
    server: Option<Process>,
    agent: Option<Process>,
    edge: Option<Process>,
}

impl Platform {
    /// Nothing runs yet. `dir` must be absolute; everything is kept below it.
    ///
    /// # Errors
    /// No root, no free ports, or the directory cannot be made.
    pub fn new(binary: &Path, dir: &Path) -> Outcome<Self> {
        // SAFETY: plain system call without arguments.
        if unsafe { libc::geteuid() } != 0 {
            return Err(Failure("containers need root; run this as root or with sudo".into()));
        }
        fs::create_dir_all(dir).map_err(|error| Failure::new(format!("make {}", dir.display()), error))?;
        let [api, tls, tcp, agent_metrics, edge_metrics] = free_ports()?;
        let dir =
            dir.canonicalize().map_err(|error| Failure::new(format!("find {}", dir.display()), error))?;
        let binary = binary.to_owned();
        Ok(Self {
            binary,
            dir,
            api,
            tls,
            tcp,
            agent_metrics,
            edge_metrics,
            server_flags: Vec::new(),
            server: None,
            agent: None,
            edge: None,
        })
    }

    /// The directory that everything is below.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The data directory of one role.
    pub fn data(&self, role: Role) -> PathBuf {
        self.dir.join(role.as_str())
    }

    /// The port for a route by port.
    pub fn tcp_port(&self) -> u16 {
        self.tcp
    }

    /// The two ways in, for a host name.
    ///
    /// # Errors
    /// The authority's certificate is not sound.
    pub fn routes(&self, host: &str, authority: &[u8]) -> Outcome<Routes> {
        Ok(Routes { tls: Target::tls(self.tls, host, authority)?, tcp: Target::plain(self.tcp) })
    }

    /// From here on, the server is started with these as well.
    pub fn serve_with(&mut self, flags: &[&str]) {
        self.server_flags = flags.iter().map(ToString::to_string).collect();
    }

    /// The file by which the server is told to stand still at a boundary; while it is there, it has not yet.
    fn stops_at(&self) -> PathBuf {
        self.dir.join("stops-at")
    }

    /// The server stands still when it comes to this boundary.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn stop_server_at(&self, boundary: &str) -> Outcome {
        // Whole or not at all: it may be read at any time.
        let unfinished = self.dir.join("stops-at.unfinished");
        let written = fs::write(&unfinished, format!("{boundary} stop"));
        let written = written.and_then(|()| fs::rename(&unfinished, self.stops_at()));
        written.map_err(|error| Failure::new("tell the server where to stop", error))
    }

    /// Waits until it has.
    ///
    /// # Errors
    /// It does not come there.
    pub fn server_stopped(&self) -> Outcome {
        crate::wait_for("the server to stand still", START, || (!self.stops_at().exists()).then_some(()))
    }

    /// Lets a server that stands still go on.
    ///
    /// # Errors
    /// There is none.
    pub fn server_goes_on(&self) -> Outcome {
        let server = self.server.as_ref().ok_or_else(|| Failure("no server was started".into()))?;
        crate::kill(server.pid(), libc::SIGCONT);
        Ok(())
    }

    /// Starts the server and waits until it is ready.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_server(&mut self) -> Outcome {
        let mut command = self.command();
        command
            .args(["server", "--listen", &format!("127.0.0.1:{}", self.api), "--data-dir"])
            .arg(self.data(Role::Server))
            .args(&self.server_flags)
            .env("HOLDFAST_KILL_AT", self.stops_at());
        let mut process = Process::start(&self.dir, "server", &mut command)?;
        let address = format!("127.0.0.1:{}", self.api);
        process.wait_until("its readiness", START, || {
            let answer = crate::get_plain(&address, "/health/ready", Duration::from_secs(1)).ok()?;
            // The first start also hands over the owner's token, by way of the saved context.
            (answer.status == 200 && self.context().exists()).then_some(())
        })?;
        self.server = Some(process);
        Ok(())
    }

    /// Starts the agent. The first time it needs a server to enrol at; later it needs nobody.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_agent(&mut self) -> Outcome {
        let metrics = format!("127.0.0.1:{}", self.agent_metrics);
        let mut command = self.role(Role::Agent)?;
        command.args(["--metrics", &metrics]);
        self.agent = Some(self.enrolled(Role::Agent, &mut command)?);
        Ok(())
    }

    /// Starts the edge. As [`Platform::start_agent`].
    ///
    /// # Errors
    /// It does not come up.
    pub fn start_edge(&mut self) -> Outcome {
        let mut command = self.role(Role::Edge)?;
        let (tls, metrics) = (format!("127.0.0.1:{}", self.tls), format!("127.0.0.1:{}", self.edge_metrics));
        command.args(["--tls-listen", &tls, "--tcp-address", "127.0.0.1", "--edge-metrics", &metrics]);
        self.edge = Some(self.enrolled(Role::Edge, &mut command)?);
        Ok(())
    }

    /// Starts all three, and waits until both nodes are enrolled.
    ///
    /// # Errors
    /// One does not come up.
    pub fn start(&mut self) -> Outcome {
        self.start_server()?;
        self.start_agent()?;
        self.start_edge()
    }

    /// Starts a node's role and waits until it knows who it is.
    fn enrolled(&self, role: Role, command: &mut Command) -> Outcome<Process> {
        let mut process = Process::start(&self.dir, role.as_str(), command)?;
        let identity = self.data(role).join("node.toml");
        process.wait_until("its enrolment", START, || identity.exists().then_some(()))?;
        Ok(process)
    }

    fn command(&self) -> Command {
        self.program(&self.binary)
    }

    /// A program with what the command line here goes by, and nothing of the caller's own Holdfast.
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HOLDFAST_")) {
            command.env_remove(name);
        }
        command.current_dir(&self.dir).env("HOLDFAST_CONFIG", self.context());
        command
    }

    fn role(&self, role: Role) -> Outcome<Command> {
        let data = self.data(role);
        let first = !data.join("node.toml").exists();
        let mut command = self.command();
        command.args([role.as_str(), "--server", &self.url(), "--data-dir"]).arg(&data);
        if first {
            let made = self.cli(&["nodes", "join-token", "--json"])?.executed()?.json()?;
            let token = ["/result/secret", "/secret"].iter().find_map(|at| made.pointer(at)?.as_str());
            let token = token.ok_or_else(|| Failure(format!("no join token in {made}")))?;
            command.args(["--join-token", token, "--name", role.as_str()]);
        }
        Ok(command)
    }

    /// The saved context of the command line, with the owner's token.
    pub fn context(&self) -> PathBuf {
        self.dir.join("context.toml")
    }

    /// Where the API is.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.api)
    }

    /// Runs the command line to its end.
    ///
    /// # Errors
    /// It cannot be started. That it says no is not an error here; see [`Cli::executed`].
    pub fn cli(&self, arguments: &[&str]) -> Outcome<Cli> {
        let mut command = self.command();
        let output = command
            .args(arguments)
            .args(["--server", &self.url()])
            .output()
            .map_err(|error| Failure::new(format!("run {command:?}"), error))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Cli {
            code: output.status.code().unwrap_or(-1),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        })
    }

    /// Writes a manifest and applies it, as a user would.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn apply(&self, manifest: &str) -> Outcome<Cli> {
        let path = self.dir.join("holdfast.toml");
        fs::write(&path, manifest).map_err(|error| Failure::new("write the manifest", error))?;
        self.cli(&["apply", "-f", &path.display().to_string(), "--yes"])
    }

    fn slot(&mut self, role: Role) -> &mut Option<Process> {
        match role {
            Role::Server => &mut self.server,
            Role::Agent => &mut self.agent,
            Role::Edge => &mut self.edge,
        }
    }

    /// The process of a role.
    ///
    /// # Errors
    /// It was not started or has been ended.
    pub fn process(&mut self, role: Role) -> Outcome<&mut Process> {
        self.slot(role).as_mut().ok_or_else(|| Failure(format!("the {} does not run", role.as_str())))
    }

    /// SIGKILL for one role.
    pub fn kill_hard(&mut self, role: Role) {
        if let Some(process) = self.slot(role).take() {
            process.kill_hard();
        }
    }

    /// What a power cut leaves of processes: nothing. Server, agent, edge, watching processes and
    /// instances are killed; what they had on disk stays.
    ///
    /// # Errors
    /// A process that survives SIGKILL.
    pub fn cut_power(&mut self) -> Outcome {
        // The roles first and all at once, so that none sees another one go and writes about it.
        for role in [Role::Server, Role::Agent, Role::Edge] {
            if let Some(process) = self.slot(role) {
                crate::kill(process.pid(), libc::SIGKILL);
            }
        }
        for role in [Role::Server, Role::Agent, Role::Edge] {
            self.kill_hard(role);
        }
        // Then the instances; a reboot also takes mounts, control groups and the runtime's state.
        clear_host(&self.dir)
    }

    /// The instances that run here, by `/proc`.
    pub fn running(&self) -> Vec<Running> {
        Running::find(&self.data(Role::Agent))
    }

    /// The edge's counters.
    ///
    /// # Errors
    /// The edge does not answer.
    pub fn metrics(&self) -> Outcome<Metrics> {
        Metrics::read(self.edge_metrics)
    }

    /// Ends everything: SIGTERM, SIGKILL where that does not help, and clears the host.
    ///
    /// # Errors
    /// A process that survives SIGKILL.
    pub fn stop(&mut self) -> Outcome {
        for role in [Role::Edge, Role::Agent, Role::Server] {
            if let Some(process) = self.slot(role).take() {
                process.terminate(STOP)?;
            }
        }
        clear_host(&self.dir)
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        for role in [Role::Edge, Role::Agent, Role::Server] {
            self.kill_hard(role);
        }
        // Nobody is left to tell; the next run clears again.
        clear_host(&self.dir).ok();
    }
}
