//! A server, put together: the log on this machine's disk, the core over it, reconcilers, HTTP.

use crate::{
    http, reconcile,
    secret::Secret,
    writer::{Answer, Core, StartError},
};
use domain::{Actor, Command, NewToken};
use log::{Log, WalLog, wal::OpenLogError};
use rt::{Clock, Disk, OsRandom, Random, RealDisk, SystemClock, ThreadSpawner};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use types::{Name, NodeId};

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the log, its snapshots and its archive lie.
    pub data_dir: PathBuf,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// The org that a new log begins with.
    pub org: Name,
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The log does not open.
    #[error("the log in {dir} does not open")]
    Log {
        /// The data directory.
        dir: PathBuf,
        /// What is wrong, with the way on.
        #[source]
        source: OpenLogError,
    },
    /// The log opens and cannot be folded.
    #[error("the log in {dir} cannot be folded into a state")]
    Fold {
        /// The data directory.
        dir: PathBuf,
        /// What is wrong.
        #[source]
        source: StartError,
    },
    /// The log opens and is from a later time than this machine's.
    #[error("the log in {dir} cannot be gone on with at this machine's time")]
    Clock {
        /// The data directory.
        dir: PathBuf,
        /// Both times.
        #[source]
        source: StartError,
    },
    /// The address is taken or not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The address can be reached by others, and there is no TLS yet.
    #[error("{0} is not a loopback address, and this release serves plain HTTP on loopback only")]
    NotLoopback(SocketAddr),
    /// The first owner token could not be kept or the log not begun.
    #[error("the log could not be begun: {0}")]
    Begin(String),
    /// A part that is never to end by itself has ended. What was left would have looked alive.
    #[error("{part} has ended by itself, and a server without it could do nothing: {why}")]
    Ended {
        /// Which part.
        part: &'static str,
        /// What it left behind.
        why: String,
    },
}

/// A server that has started.
pub struct Server {
    core: Core,
    address: SocketAddr,
    owner: Option<Secret>,
    listener: TcpListener,
    driver: tokio::task::JoinHandle<()>,
    stop_driver: CancellationToken,
}

impl Server {
    /// Opens the log, folds it, begins it if it is new, and listens. Serves nothing yet.
    ///
    /// # Errors
    /// Each names what is wrong and, in its source, the way on.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        if !config.listen.ip().is_loopback() {
            return Err(ServerError::NotLoopback(config.listen));
        }
        // The address first: a log is not begun by a server that cannot be reached.
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| ServerError::Listen { address: config.listen, source })?;
        let address =
            listener.local_addr().map_err(|source| ServerError::Listen { address: config.listen, source })?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let dir = config.data_dir.clone();
        let opened = tokio::task::spawn_blocking({
            let (disk, dir) = (disk.clone(), dir.clone());
            move || open_log(disk, &dir)
        });
        let (log, cluster) = opened
            .await
            .expect("opening does not panic")
            .map_err(|source| ServerError::Log { dir: dir.clone(), source })?;
        let folded = tokio::task::spawn_blocking(move || {
            Core::open(log, Arc::new(SystemClock) as Arc<dyn Clock>, Arc::new(OsRandom) as Arc<dyn Random>)
        });
        let (core, driver) =
            folded.await.expect("folding does not panic").map_err(|source| match source {
                StartError::ClockBehind { .. } => ServerError::Clock { dir: dir.clone(), source },
                _ => ServerError::Fold { dir: dir.clone(), source },
            })?;
        let stop_driver = CancellationToken::new();
        let driver = tokio::spawn(driver.run(stop_driver.clone()));
        let owner = begin(&core, disk, &config, cluster).await.map_err(ServerError::Begin)?;
        Ok(Self { core, address, owner, listener, driver, stop_driver })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The first owner's secret, as long as nobody has taken it over: see [`Server::owner_taken`].
    pub fn first_owner(&self) -> Option<&Secret> {
        self.owner.as_ref()
    }

    /// Forgets the first owner's secret on disk: somebody has it now.
    pub fn owner_taken(data_dir: &Path) -> Result<(), rt::DiskError> {
        RealDisk.remove(&data_dir.join(OWNER_FILE))
    }

    /// The core, for whoever embeds a server.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Serves until told to stop; then answers what is under way and ends.
    ///
    /// # Errors
    /// A part of it ended before it was told to. Nothing of it is left running then.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), ServerError> {
        let stop = shutdown.child_token();
        let mut parts = JoinSet::new();
        parts.spawn(reconcile::rollout(self.core.clone(), stop.clone()));
        parts.spawn(reconcile::liveness(self.core.clone(), stop.clone()));
        parts.spawn(reconcile::garbage(self.core.clone(), stop.clone()));
        let router = http::router(self.core.clone(), http::Options::default());
        parts.spawn(http::serve(self.listener, router, stop.clone()));
        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => None,
            ended = &mut self.driver => Some(("the writer of the log", ended)),
            Some(ended) = parts.join_next() => Some(("a reconciler or the HTTP server", ended)),
        };
        stop.cancel();
        while let Some(part) = parts.join_next().await {
            if let Err(error) = part {
                tracing::error!(%error, "a part of the server ended badly");
            }
        }
        // Last, so that everything asked before the end is answered.
        self.stop_driver.cancel();
        if !self.driver.is_finished()
            && let Err(error) = (&mut self.driver).await
        {
            tracing::error!(%error, "the writer ended badly");
        }
        match ended {
            None => Ok(()),
            Some((part, ended)) => {
                let why = ended.err().map_or("it was not told to".to_owned(), |error| error.to_string());
                Err(ServerError::Ended { part, why })
            }
        }
    }
}

/// The log of this machine, and the name that tells it from all others.
fn open_log(disk: Arc<dyn Disk>, dir: &Path) -> Result<(Arc<dyn Log>, String), OpenLogError> {
    // After a failed write nothing in memory can be trusted to match the disk. The process ends at
    // once, without destructors, and the next start reads what is really there.
    let fatal = Box::new(|error: &rt::DiskError| {
        tracing::error!(%error, "the log's disk failed; this process stops now");
        std::process::abort();
    });
    let cluster = format!("{:032x}", OsRandom.u128());
    let node = NodeId::from_parts(SystemClock.now(), OsRandom.u128());
    let options = log::wal::Options::default();
    let (log, recovered) =
        WalLog::open_or_create(disk, &dir.join("log"), &cluster, node, options, &ThreadSpawner, fatal)?;
    if let Some(dropped) = &recovered.dropped {
        tracing::warn!(
            ?dropped,
            "the end of the log was torn by a crash and is cut off; nothing of it was acknowledged"
        );
    }
    tracing::info!(head = %recovered.head.event, segments = recovered.segments, "the log is open");
    Ok((Arc::new(log), recovered.cluster))
}

/// Holds the first owner's secret from before the log is begun until somebody has it, so that a
/// crash in between cannot lock everybody out.
const OWNER_FILE: &str = "owner-token";

async fn begin(
    core: &Core,
    disk: Arc<dyn Disk>,
    config: &Config,
    cluster: String,
) -> Result<Option<Secret>, String> {
    let path = config.data_dir.join(OWNER_FILE);
    let kept = std::fs::read_to_string(&path).ok().map(|text| Secret::from_text(text.trim()));
    if !core.state().cluster.is_empty() {
        return Ok(kept);
    }
    let secret = kept.unwrap_or_else(|| Secret::make(core.random()));
    rt::replace_file(disk.as_ref(), &path, secret.reveal().as_bytes()).map_err(|error| error.to_string())?;
    let name = "first-owner".parse().expect("a valid name");
    let owner = NewToken { name, hash: secret.hash(), expires: None };
    let command = Command::Bootstrap { cluster, org: config.org.clone(), owner };
    match core.submit(command, Actor::System, None).await {
        Answer::Executed { .. } => Ok(Some(secret)),
        Answer::Refused { text, .. } => Err(text),
        Answer::Unavailable { why, .. } | Answer::Unknown { why } => Err(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::MemoryLog;

    async fn server(part: tokio::task::JoinHandle<()>) -> Server {
        let log = Arc::new(MemoryLog::new());
        let (core, _never_run) =
            Core::open(log, Arc::new(SystemClock), Arc::new(OsRandom)).expect("an empty log folds");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let stop_driver = CancellationToken::new();
        Server { core, address, owner: None, listener, driver: part, stop_driver }
    }

    #[tokio::test]
    async fn a_server_does_not_outlive_its_writer() {
        let server = server(tokio::spawn(async { panic!("as a writer might") })).await;
        let address = server.address();
        let running = server.run(CancellationToken::new());
        let error = tokio::time::timeout(std::time::Duration::from_secs(20), running)
            .await
            .expect("it ends by itself")
            .expect_err("it was not told to");
        assert!(error.to_string().contains("the writer of the log"), "{error}");
        tokio::net::TcpStream::connect(address).await.expect_err("nobody listens any more");
    }
}
