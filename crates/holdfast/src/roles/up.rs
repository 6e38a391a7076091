//! `holdfast up`: server, agent and edge on one machine, as three processes of this program.
//!
//! Three processes and not three tasks, so that one that dies takes no other with it. A child that
//! ends is started again, after a wait that grows; one that cannot even start the first time ends
//! `up` with its own exit code, for that is a mistake to be told and not to be repeated.
//!
//! Everything lies below the data directory: the server's log directly, the agent's and the edge's
//! things in `agent/` and `edge/`, and the identity of the machine in `node.toml`.

use super::{
    agent::rootly,
    identity::{Identity, Newcomer},
    owner, process,
};
use crate::{
    args::{Global, UpArgs},
    context::{Context, fresh_request_id},
    failure::Failure,
    output,
};
use api::{Client, JoinTokenRequest};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use types::{
    DurationMs, limits,
    plan::{Capacity, NodeRole},
};

/// The name that the server keeps its first owner token under until somebody has it.
const OWNER_FILE: &str = "owner-token";

/// Runs everything until it is told to stop. Instances run on.
pub fn run(args: UpArgs, global: Global) -> Result<(), Failure> {
    if !args.without_agent {
        rootly()?;
    }
    // One thread: a child is told of its parent's death when the thread that started it ends.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::cannot_start(format!("the system gives no event queue: {error}"), None))?;
    runtime.block_on(all(args, global))
}

async fn all(args: UpArgs, global: Global) -> Result<(), Failure> {
    let shutdown = process::until_told()?;
    let data_dir = process::data_dir(&args.data_dir)?;
    let url = format!("http://{}", args.listen);
    let mut children = vec![Watched::start(server(&args, &data_dir))?];
    let begun = async {
        ready(&url, &mut children[0], &shutdown).await?;
        take_owner_token(&url, &data_dir);
        enrol(&args, &global, &url, &data_dir).await
    };
    let begun = tokio::select! {
        begun = begun => begun,
        () = shutdown.cancelled() => { stop(children).await; return Ok(()) }
    };
    let begun = begun.and_then(|()| {
        for role in others(&args, &url, &data_dir) {
            children.push(Watched::start(role)?);
        }
        Ok(())
    });
    if let Err(failure) = begun {
        stop(children).await;
        return Err(failure);
    }
    output::note(&format!("holdfast is up: {url}; try: holdfast status"));
    let ended = watch(&mut children, &shutdown).await;
    stop(children).await;
    ended
}

/// One role as it is started, again and again.
#[derive(Clone, Debug)]
struct Spec {
    name: &'static str,
    args: Vec<String>,
}

fn server(args: &UpArgs, data_dir: &Path) -> Spec {
    let flags = ["--listen".to_owned(), args.listen.to_string(), "--leave-owner-token".to_owned()];
    Spec { name: "server", args: with_data_dir(data_dir.to_path_buf(), flags) }
}

fn with_data_dir(dir: PathBuf, flags: impl IntoIterator<Item = String>) -> Vec<String> {
    // Paths that are no text are refused by the canonical path check of the agent anyway.
    let mut args = vec!["--data-dir".to_owned(), dir.to_string_lossy().into_owned()];
    args.extend(flags);
    args
}

fn others(args: &UpArgs, url: &str, data_dir: &Path) -> Vec<Spec> {
    let identity = data_dir.join("node.toml").to_string_lossy().into_owned();
    let node = || ["--credential-file".to_owned(), identity.clone(), "--server".to_owned(), url.to_owned()];
    let routing = &args.routing;
    let listening = [
        "--tls-listen".to_owned(),
        routing.tls_listen.to_string(),
        "--tcp-address".to_owned(),
        routing.tcp_address.to_string(),
        "--edge-metrics".to_owned(),
        routing.edge_metrics.to_string(),
    ];
    let mut specs = Vec::new();
    if !args.without_agent {
        let flags = node().into_iter().chain(["--metrics".to_owned(), args.agent_metrics.to_string()]);
        specs.push(Spec { name: "agent", args: with_data_dir(data_dir.join("agent"), flags) });
    }
    let flags = node().into_iter().chain(listening);
    specs.push(Spec { name: "edge", args: with_data_dir(data_dir.join("edge"), flags) });
    specs
}

/// Waits until the server answers, or says that it cannot start.
async fn ready(url: &str, server: &mut Watched, shutdown: &CancellationToken) -> Result<(), Failure> {
    let client = Client::new(url, None)
        .map_err(|error| Failure::usage(error.to_string(), "--listen 127.0.0.1:7070"))?;
    let client = client.with_timeout(Duration::from_secs(2));
    while !shutdown.is_cancelled() {
        if let Some(status) = server.ended() {
            return Err(child_failed("server", status));
        }
        if client.ready().await.is_ok() {
            break;
        }
        tokio::time::sleep(limits::WAIT_POLL.into()).await;
    }
    Ok(())
}

fn take_owner_token(url: &str, data_dir: &Path) {
    if let Ok(token) = std::fs::read_to_string(data_dir.join(OWNER_FILE)) {
        owner::hand_over(url, token.trim(), data_dir);
    }
}

/// Makes this machine a node, unless it is one.
async fn enrol(args: &UpArgs, global: &Global, url: &str, data_dir: &Path) -> Result<(), Failure> {
    let path = data_dir.join("node.toml");
    if Identity::load(&path)?.is_some() {
        return Ok(());
    }
    let global = Global { server: Some(url.to_owned()), ..global.clone() };
    let context = Context::new(&global)?;
    let request = JoinTokenRequest { expires_in: DurationMs::from_secs(600) };
    let receipt =
        context.client.create_join_token(fresh_request_id(), &request).await.map_err(Failure::of_read)?;
    let Some(secret) = receipt.result.secret else {
        return Err(Failure::cannot_start("the server gave no join token", Some("holdfast up".to_owned())));
    };
    let newcomer = if args.without_agent {
        Newcomer { name: args.name.clone(), roles: vec![NodeRole::Edge], capacity: Capacity::default() }
    } else {
        let roles = vec![NodeRole::Agent, NodeRole::Edge];
        Newcomer { name: args.name.clone(), roles, capacity: ::agent::capacity() }
    };
    Identity::enrol(url, &secret, newcomer, &path).await.map(drop)
}

/// A child, and how often it had to be started.
#[derive(Debug)]
struct Watched {
    spec: Spec,
    child: Option<Child>,
    started: Instant,
    wait: Duration,
    again_at: Option<Instant>,
    first: bool,
}

/// A child that ends this soon after its first start has not started.
const FIRST_START: Duration = Duration::from_secs(5);

impl Watched {
    fn start(spec: Spec) -> Result<Self, Failure> {
        let child = spawn(&spec)?;
        let wait = limits::RESTART_BACKOFF_MIN.into();
        Ok(Self { spec, child: Some(child), started: Instant::now(), wait, again_at: None, first: true })
    }

    fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Looks after the child: notes its end, and starts it again when its time has come.
    fn tend(&mut self) -> Result<(), Failure> {
        if let Some(status) = self.ended() {
            self.child = None;
            let lived = self.started.elapsed();
            if self.first && lived < FIRST_START {
                return Err(child_failed(self.spec.name, status));
            }
            if lived >= limits::RESTART_BACKOFF_RESET.into() {
                self.wait = limits::RESTART_BACKOFF_MIN.into();
            }
            tracing::error!(role = self.spec.name, %status, again_in = ?self.wait, "a role has ended");
            self.again_at = Some(Instant::now() + self.wait);
            self.wait = (self.wait * 2).min(limits::RESTART_BACKOFF_MAX.into());
        }
        if self.again_at.is_some_and(|at| Instant::now() >= at) {
            self.again_at = None;
            self.first = false;
            self.started = Instant::now();
            self.child = Some(spawn(&self.spec)?);
        }
        Ok(())
    }
}

fn child_failed(name: &str, status: std::process::ExitStatus) -> Failure {
    let mut failure =
        Failure::cannot_start(format!("the {name} has ended ({status}); it said why above"), None);
    failure.exit =
        status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1);
    failure
}

async fn watch(children: &mut [Watched], shutdown: &CancellationToken) -> Result<(), Failure> {
    loop {
        for child in children.iter_mut() {
            child.tend()?;
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(limits::WAIT_POLL.into()) => {}
        }
    }
}

fn spawn(spec: &Spec) -> Result<Child, Failure> {
    let failed = |error: std::io::Error| {
        Failure::cannot_start(format!("the {} cannot be started: {error}", spec.name), None)
    };
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    // A group of its own: Ctrl-C reaches `up` alone, which then stops its children in order.
    command.arg(spec.name).args(&spec.args).process_group(0);
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only two system calls are made, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            // Without `up` a child would hold its ports and its data directory with nobody to stop it.
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
            if rustix::process::getppid() != Some(parent) {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            Ok(())
        });
    }
    command.spawn().map_err(failed)
}

/// Ends the children, the edge first: it lets open connections finish while everything else stands.
async fn stop(children: Vec<Watched>) {
    for watched in children.into_iter().rev() {
        let Some(mut child) = watched.child else { continue };
        if let Some(pid) = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            // Fails only if it has ended already, which is what is wanted.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let grace = Duration::from(limits::EDGE_DRAIN) + Duration::from(limits::STOP_GRACE);
        if tokio::time::timeout(grace, child.wait()).await.is_err() {
            tracing::warn!(role = watched.spec.name, "it does not stop; killing it");
            let _ = child.kill().await;
        }
    }
}
