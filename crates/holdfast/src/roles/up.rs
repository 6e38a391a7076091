//! `holdfast up`: server, agent and edge on one machine, as three processes of this program.
//!
//! Three processes and not three tasks, so that one that dies takes no other with it. A child that
//! ends is started again, after a wait that grows.
//!
//! On a machine that is a node already, all three start at once and none waits for another: after a
//! power cut agent and edge bring back everything from their stored plans, whether the server can
//! start or not. Only where nothing is enrolled yet comes the server first, for a node is made there,
//! and only there does a child that cannot start end `up` with its own exit code: it is a mistake to
//! be told and not to be repeated.
//!
//! Everything lies below the data directory: the server's log directly, the agent's and the edge's
//! things in `agent/` and `edge/`, and the identity of the machine in `node.toml`.

use super::{
    agent::rootly,
    child::{Spec, Stance, Watched},
    identity::{Identity, Newcomer},
    owner, port, process,
};
use crate::{
    args::{Global, UpArgs},
    context::{Context, fresh_request_id},
    failure::Failure,
    output,
};
use api::{Client, JoinTokenRequest};
use rt::{Disk as _, DiskError, DiskLock, RealDisk};
use std::{
    ffi::OsString,
    io::ErrorKind,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::Instant;
use types::{
    DurationMs, limits,
    plan::{Capacity, NodeRole},
};

/// The name that the server keeps its first owner token under until somebody has it.
const OWNER_FILE: &str = "owner-token";
/// What makes a machine a node.
const IDENTITY_FILE: &str = "node.toml";
/// Held by the one `up` of a data directory.
const LOCK_FILE: &str = "up.lock";
/// How long the server may take to say whether it is ready.
const READY_ANSWER: Duration = Duration::from_secs(2);

/// Runs everything until it is told to stop. Instances run on.
pub fn run(args: UpArgs, global: Global) -> Result<(), Failure> {
    if args.listen.port() == 0 {
        let what = "`up` needs a port that it can tell agent and edge, and 0 means any";
        return Err(Failure::usage(what, "--listen 127.0.0.1:7070"));
    }
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
    let _lock = only_one(&data_dir)?;
    let up = Up { args, global, data_dir };
    let mut children = Vec::new();
    let ended = tokio::select! {
        ended = up.run(&mut children) => ended,
        () = shutdown.cancelled() => Ok(()),
    };
    // The edge first: it lets open connections finish while everything else stands.
    for child in children.into_iter().rev() {
        child.stop().await;
    }
    ended
}

/// Two of them would start everything twice and fight for each port for ever.
fn only_one(data_dir: &Path) -> Result<Option<Box<dyn DiskLock>>, Failure> {
    let holder = format!("holdfast up, pid {}", std::process::id());
    match RealDisk.lock(&data_dir.join(LOCK_FILE), &holder) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) if error.is_locked() => {
            let what = format!("`holdfast up` runs already on {}", data_dir.display());
            Err(Failure::cannot_start(what, Some("name another directory with --data-dir".to_owned())))
        }
        // An enrolled machine starts its roles all the same: each goes on when the mount is mended.
        Err(error) if is_read_only(&error) && !data_dir.join(IDENTITY_FILE).exists() => {
            let what = format!(
                "the data directory {} is on a file system that is mounted read-only",
                data_dir.display()
            );
            let next = "mount it writable (mount -o remount,rw …), or name another directory with --data-dir";
            Err(Failure::cannot_start(what, Some(next.to_owned())))
        }
        // A disk that is full must not keep what is deployed from running; each role has its own lock.
        Err(error) => {
            tracing::warn!(%error, "whether another `up` runs here is not known");
            Ok(None)
        }
    }
}

fn is_read_only(error: &DiskError) -> bool {
    error.source.kind() == ErrorKind::ReadOnlyFilesystem
}

/// One run of `up`.
struct Up {
    args: UpArgs,
    global: Global,
    data_dir: PathBuf,
}

impl Up {
    /// Where the server is; on an address that others reach, with its fingerprint once it has one.
    fn url(&self) -> String {
        control::address_of(&self.data_dir, self.args.listen)
    }

    /// Starts everything and watches it. The server is always the first of the children.
    async fn run(&self, children: &mut Vec<Watched>) -> Result<(), Failure> {
        match Identity::load(&self.identity())? {
            Some(identity) => {
                tracing::info!(node = %identity.node, "starting everything; what is deployed needs no server");
                for spec in [vec![self.server()], self.others()].concat() {
                    children.push(Watched::start(spec, Stance::Retry)?);
                }
            }
            None => {
                self.check_machine()?;
                self.first_server(children).await?;
                self.enrol().await?;
                for spec in self.others() {
                    children.push(Watched::start(spec, Stance::Tell)?);
                }
            }
        }
        self.watch(children).await
    }

    /// Before anything is written and a token is spent: what would keep a role from starting is told.
    fn check_machine(&self) -> Result<(), Failure> {
        let (args, routing) = (&self.args, &self.args.routing);
        let mut wanted = vec![
            ("--listen", args.listen),
            ("--tls-listen", routing.tls_listen),
            ("--edge-metrics", routing.edge_metrics),
        ];
        if !args.without_agent {
            ::agent::preflight(&self.data_dir.join("agent"))
                .map_err(|error| Failure::cannot_start(process::whole(&error), None))?;
            wanted.push(("--agent-metrics", args.agent_metrics));
        }
        let Some((flag, address, error)) = port::first_refused(&wanted) else { return Ok(()) };
        let why = match error.kind() {
            ErrorKind::AddrInUse => "the port is taken by another program or another flag".to_owned(),
            _ => error.to_string(),
        };
        let next = match error.kind() {
            ErrorKind::PermissionDenied => {
                format!("the same command with sudo, or a port from 1024 on: {flag} …")
            }
            _ => format!("name another address with {flag}, or find who has it with: ss -ltnp"),
        };
        Err(Failure::cannot_start(format!("cannot listen on {address}: {why}"), Some(next)))
    }

    /// Starts the server of a machine that is no node yet, and waits until it answers.
    async fn first_server(&self, children: &mut Vec<Watched>) -> Result<(), Failure> {
        children.push(Watched::start(self.server(), Stance::Tell)?);
        let deadline = Instant::now() + limits::WAIT_DEFAULT.into();
        loop {
            children[0].tend()?;
            if self.answers(&children[0]).await {
                children[0].has_started();
                return Ok(());
            }
            if Instant::now() > deadline {
                let what = format!("the server has started and is not ready after {}", limits::WAIT_DEFAULT);
                return Err(Failure::cannot_start(
                    what,
                    Some(format!("holdfast wait ready --server {}", self.url())),
                ));
            }
            tokio::time::sleep(limits::WAIT_POLL.into()).await;
        }
    }

    /// Whether this very child answers. Another server on the same port would take this machine in
    /// as a node of its own.
    async fn answers(&self, server: &Watched) -> bool {
        let Ok(client) = Client::new(&self.url(), None) else { return false };
        server.listens_on(self.args.listen) && client.with_timeout(READY_ANSWER).ready().await.is_ok()
    }

    /// Keeps everything running, and says when it does for the first time.
    async fn watch(&self, children: &mut [Watched]) -> Result<(), Failure> {
        let mut said = false;
        loop {
            for child in children.iter_mut() {
                child.tend()?;
            }
            if !said && children.iter().all(Watched::is_settled) && self.answers(&children[0]).await {
                // Last of all: whoever reads the token may use everything, and until the machine is a
                // node, its own copy is what makes it one.
                if let Some(token) = self.owner_token() {
                    owner::hand_over(&self.url(), &token, &self.data_dir);
                }
                output::note(&format!("holdfast is up: {}; try: holdfast status", self.url()));
                said = true;
            }
            tokio::time::sleep(limits::WAIT_POLL.into()).await;
        }
    }

    fn identity(&self) -> PathBuf {
        self.data_dir.join(IDENTITY_FILE)
    }

    /// The first owner's token, as long as nobody has it.
    fn owner_token(&self) -> Option<String> {
        let token = std::fs::read_to_string(self.data_dir.join(OWNER_FILE)).ok()?;
        Some(token.trim().to_owned())
    }

    fn server(&self) -> Spec {
        let listen = self.args.listen.to_string();
        let flags = ["--listen".into(), listen.into(), "--leave-owner-token".into()];
        let providers = self.args.providers.iter().flat_map(|file| ["--providers".into(), file.into()]);
        let flags = flags.into_iter().chain(providers).chain(self.args.backups.flags());
        Spec { name: "server", args: with_data_dir(self.data_dir.clone(), flags) }
    }

    fn others(&self) -> Vec<Spec> {
        let node = || {
            let identity = self.identity().into_os_string();
            ["--credential-file".into(), identity, "--server".into(), OsString::from(self.url())]
        };
        let routing = &self.args.routing;
        let listening: [OsString; 6] = [
            "--tls-listen".into(),
            routing.tls_listen.to_string().into(),
            "--tcp-address".into(),
            routing.tcp_address.to_string().into(),
            "--edge-metrics".into(),
            routing.edge_metrics.to_string().into(),
        ];
        let mut specs = Vec::new();
        if !self.args.without_agent {
            let metrics = ["--metrics".into(), self.args.agent_metrics.to_string().into()];
            let flags = node().into_iter().chain(metrics);
            specs.push(Spec { name: "agent", args: with_data_dir(self.data_dir.join("agent"), flags) });
        }
        let flags = node().into_iter().chain(listening);
        specs.push(Spec { name: "edge", args: with_data_dir(self.data_dir.join("edge"), flags) });
        specs
    }

    /// Makes this machine a node.
    async fn enrol(&self) -> Result<(), Failure> {
        // The token of this very server, where it is at hand: whatever the environment or the saved
        // context hold may be another server's, and is not this one's to see.
        let client = match self.owner_token() {
            Some(token) => Client::new(&self.url(), Some(token)).map_err(Failure::of_read)?,
            None => {
                let here = Global { server: Some(self.url()), ..self.global.clone() };
                Context::new(&here)?.client
            }
        };
        let request = JoinTokenRequest { expires_in: DurationMs::from_secs(600) };
        let receipt =
            client.create_join_token(fresh_request_id(), &request).await.map_err(Failure::of_read)?;
        let Some(secret) = receipt.result.secret else {
            return Err(Failure::cannot_start(
                "the server gave no join token",
                Some("holdfast up".to_owned()),
            ));
        };
        let name = self.args.name.clone();
        let newcomer = if self.args.without_agent {
            Newcomer { name, roles: vec![NodeRole::Edge], capacity: Capacity::default() }
        } else {
            Newcomer { name, roles: vec![NodeRole::Agent, NodeRole::Edge], capacity: ::agent::capacity() }
        };
        Identity::enrol(&self.url(), &secret, newcomer, &self.identity()).await.map(drop)
    }
}

fn with_data_dir(dir: PathBuf, flags: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut args = vec!["--data-dir".into(), dir.into_os_string()];
    args.extend(flags);
    args
}
