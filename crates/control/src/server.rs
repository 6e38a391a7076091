//! A server, put together: its place in its cluster with the log, the core over it, reconcilers, HTTP.

use crate::{
    audit::Audit,
    backups::{self, Backups},
    cluster::{Cluster, OpenError, Repairing, Settings},
    http,
    peer::{CaError, Identity, Shown, hosts},
    providers, reconcile,
    secret::Secret,
    writer::{Answer, Core, Driver, StartError},
};
use api::{Fingerprint, Place};
use domain::{Actor, Command, NewToken};
use log::Log;
use rt::{Clock, Disk, OsRandom, Random, RealDisk, SystemClock};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{net::TcpListener, runtime::Handle, task::JoinSet};
use tokio_util::sync::CancellationToken;
use types::{Name, NodeId, limits};

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the log, its snapshots and its archive lie.
    pub data_dir: PathBuf,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// The org that a new log begins with.
    pub org: Name,
    /// Backups that it makes by itself; none if it is not to.
    pub backups: Option<backups::Settings>,
    /// Providers that people may log in by way of, checked; none if there are none.
    pub providers: Option<providers::Settings>,
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
        source: OpenError,
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
    /// The address can be reached by others, and there is nothing to show them.
    #[error("cannot serve TLS on {address}")]
    Tls {
        /// Where.
        address: SocketAddr,
        /// What is wrong with this member's certificate.
        #[source]
        source: CaError,
    },
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
    cluster: Option<Cluster>,
    address: SocketAddr,
    /// What it shows, and is known by, where others could listen.
    tls: Option<(Shown, Fingerprint)>,
    owner: Option<Secret>,
    listener: TcpListener,
    writer: Writer,
    /// Other members are let in from before there is anything to serve: they may have to elect.
    stop_peers: CancellationToken,
    backups: Option<backups::Settings>,
    providers: Option<providers::Settings>,
}

/// The task that decides and writes. Without its end nothing of a server may go.
struct Writer {
    driver: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Writer {
    fn start(driver: Driver) -> Self {
        let stop = CancellationToken::new();
        Self { driver: tokio::spawn(driver.run(stop.clone())), stop }
    }

    /// Ends it when everything asked before is answered.
    async fn end(mut self) {
        self.stop.cancel();
        if !self.driver.is_finished()
            && let Err(error) = (&mut self.driver).await
        {
            tracing::error!(%error, "the writer ended badly");
        }
    }
}

impl Server {
    /// Opens the log, folds it, begins it if it is new, and listens. Serves nothing yet.
    ///
    /// # Errors
    /// Each names what is wrong and, in its source, the way on.
    pub async fn start(config: Config) -> Result<Self, ServerError> {
        Self::start_unless(config, CancellationToken::new()).await
    }

    /// The same, until told to stop: a damaged log is repaired from other members first, and that may take
    /// long. Meanwhile it says so to whoever asks.
    ///
    /// # Errors
    /// As [`Self::start`]; or it was stopped.
    pub async fn start_unless(config: Config, stop: CancellationToken) -> Result<Self, ServerError> {
        // The address first: a log is not begun by a server that cannot be reached.
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| ServerError::Listen { address: config.listen, source })?;
        let address =
            listener.local_addr().map_err(|source| ServerError::Listen { address: config.listen, source })?;
        let unheard = |source| ServerError::Listen { address: config.listen, source };
        let (listener, meanwhile) = twice(listener).map_err(unheard)?;
        let cluster = open(&config, meanwhile, stop).await?;
        let peers = listen_for_members(&cluster, &config).await?;
        let stop_peers = CancellationToken::new();
        if let Some(peers) = peers {
            let (cluster, stop) = (cluster.clone(), stop_peers.clone());
            tokio::spawn(async move { cluster.serve(peers, stop).await });
        }
        let begun = match shown(&cluster, config.listen) {
            Ok(tls) => fold_and_begin(&cluster, &config).await.map(|begun| (begun, tls)),
            Err(error) => Err(error),
        };
        match begun {
            Ok(((core, writer, owner), tls)) => {
                let (cluster, backups, providers) = (Some(cluster), config.backups, config.providers);
                Ok(Self {
                    core,
                    cluster,
                    address,
                    tls,
                    owner,
                    listener,
                    writer,
                    stop_peers,
                    backups,
                    providers,
                })
            }
            Err(error) => {
                stop_peers.cancel();
                Err(error)
            }
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it is, and what it is known by: what clients take.
    pub fn url(&self) -> String {
        url(self.address, self.tls.as_ref().map(|(_, pin)| *pin))
    }

    /// The first owner's secret, as long as nobody has taken it over: see [`Server::owner_taken`].
    pub fn first_owner(&self) -> Option<&Secret> {
        self.owner.as_ref()
    }

    /// Forgets the first owner's secret on disk: somebody has it now.
    pub fn owner_taken(data_dir: &Path) -> Result<(), rt::DiskError> {
        RealDisk.remove(&data_dir.join(OWNER_FILE))
    }

    /// Whether this is a token of its log.
    pub fn knows(&self, token: &str) -> bool {
        self.core.state().token_hashes.contains_key(&Secret::from_text(token).hash())
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
        let (audit, recording) = record(&self.cluster, &self.core);
        let (tls, pin) = self.tls.unzip();
        let options = http::Options {
            cluster: self.cluster.clone(),
            audit: audit.clone(),
            pin,
            providers: self.providers,
            ..http::Options::default()
        };
        let router = http::router(self.core.clone(), options);
        if let Some(cluster) = &self.cluster {
            cluster.answer_with(self.core.clone(), router.clone());
            cluster.audit_with(audit);
            parts.spawn(cluster.clone().keep_members(self.core.clone(), stop.clone()));
            parts.spawn(cluster.clone().keep_note(stop.clone()));
            if let Some(settings) = self.backups {
                let backups = Backups::new(settings);
                cluster.back_up_with(backups.clone());
                parts.spawn(backups.keep(self.core.clone(), cluster.clone(), stop.clone()));
            }
        }
        parts.spawn(http::serve_with(self.listener, tls, router, stop.clone()));
        let ended = tokio::select! {
            biased;
            () = shutdown.cancelled() => None,
            ended = &mut self.writer.driver => Some(("the writer of the log", ended)),
            Some(ended) = parts.join_next() => Some(("a reconciler or the HTTP server", ended)),
        };
        stop.cancel();
        while let Some(part) = parts.join_next().await {
            if let Err(error) = part {
                tracing::error!(%error, "a part of the server ended badly");
            }
        }
        // Then, so that everything asked before the end is answered, and what came of it written down. What other
        // members hand on comes by their own line, and is theirs to write down once it is not taken.
        if let Some(cluster) = &self.cluster {
            cluster.answer_no_more().await;
        }
        self.writer.end().await;
        recording.end().await;
        self.stop_peers.cancel();
        if let Some(cluster) = self.cluster {
            // Blocks until what is queued is written and the lead, if it can be, is handed over.
            let closed = tokio::task::spawn_blocking(move || cluster.log().close()).await;
            if let Err(error) = closed {
                tracing::error!(%error, "the log did not close well");
            }
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

/// One port, for two that use it one after the other.
fn twice(listener: TcpListener) -> std::io::Result<(TcpListener, TcpListener)> {
    let listener = listener.into_std()?;
    let other = listener.try_clone()?;
    Ok((TcpListener::from_std(listener)?, TcpListener::from_std(other)?))
}

/// What a server shows of itself on an address that others reach: tokens would be seen on the way there.
fn shown(cluster: &Cluster, address: SocketAddr) -> Result<Option<(Shown, Fingerprint)>, ServerError> {
    if address.ip().is_loopback() {
        return Ok(None);
    }
    let (dir, identity) = (cluster.data_dir(), cluster.identity());
    let of = || {
        Ok((
            to_clients(dir, cluster.name(), identity, cluster.settings())?,
            Fingerprint(identity.fingerprint()?),
        ))
    };
    of().map(Some).map_err(|source| ServerError::Tls { address, source })
}

fn to_clients(dir: &Path, cluster: &str, identity: &Identity, settings: &Settings) -> Result<Shown, CaError> {
    Shown::of(dir, cluster, identity, hosts([&*settings.api, &*settings.peer]), Arc::new(SystemClock))
}

/// The same before the log is open: what lies in the data directory from before, if that can be used.
fn known_before(config: &Config) -> Option<Shown> {
    let (dir, settings) = (&config.data_dir, Settings::load(&config.data_dir).ok()?.unwrap_or_default());
    let (name, node) = log::wal::owner(&RealDisk, &dir.join("log")).ok()??;
    let identity = Identity::load(dir, &name, node).ok()??;
    let shown = || to_clients(dir, &name, &identity, &settings).ok();
    (!config.listen.ip().is_loopback()).then(shown).flatten()
}

/// The address of a server with this data directory, as far as it is known before it runs: without its
/// fingerprint until it has begun.
pub fn address_of(data_dir: &Path, listen: SocketAddr) -> String {
    let known = || {
        let (name, node) = log::wal::owner(&RealDisk, &data_dir.join("log")).ok()??;
        Identity::load(data_dir, &name, node).ok()??.fingerprint().ok().map(Fingerprint)
    };
    url(listen, known())
}

/// Where a server is reached on its own machine that listens here.
fn url(listen: SocketAddr, pin: Option<Fingerprint>) -> String {
    if listen.ip().is_loopback() {
        return format!("http://{listen}");
    }
    // One that listens everywhere is reached here.
    let own: IpAddr = if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let reached = if listen.ip().is_unspecified() { SocketAddr::new(own, listen.port()) } else { listen };
    Place { url: format!("https://{reached}"), pin }.to_string()
}

/// Opens the log; while it is repaired, `listener` says so.
async fn open(
    config: &Config,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<Cluster, ServerError> {
    // If nobody waits for this any more, nobody waits for the repair either.
    let (stop, done) = (stop.child_token(), CancellationToken::new());
    let (_stops, _ends) = (stop.clone().drop_guard(), done.clone().drop_guard());
    let repairing = Repairing::new(stop);
    let tls = known_before(config);
    let telling = tokio::spawn(http::serve_meanwhile(listener, tls, repairing.told(), done.clone()));
    let (dir, runtime) = (config.data_dir.clone(), Handle::current());
    let opened = tokio::task::spawn_blocking(move || Cluster::open(&dir, runtime, Some(&repairing))).await;
    done.cancel();
    if let Err(error) = telling.await {
        tracing::error!(%error, "what tells of the repair ended badly");
    }
    let failed = |source| ServerError::Log { dir: config.data_dir.clone(), source };
    opened.expect("opening does not panic").map_err(failed)
}

/// The task that writes down what is attempted.
struct Recording {
    driver: tokio::task::JoinHandle<()>,
    stop: CancellationToken,
}

impl Recording {
    /// Ends it when everything that it was told is written down.
    async fn end(self) {
        self.stop.cancel();
        if let Err(error) = self.driver.await {
            tracing::error!(%error, "what writes the audit ended badly");
        }
    }
}

/// Begins to write down what is attempted here, if there is a directory for it.
fn record(cluster: &Option<Cluster>, core: &Core) -> (Audit, Recording) {
    let stop = CancellationToken::new();
    let Some(cluster) = cluster else {
        return (Audit::default(), Recording { driver: tokio::spawn(async {}), stop });
    };
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let journal = crate::Journal::open(&disk, cluster.data_dir())
        .inspect_err(|error| tracing::error!(%error, "the audit cannot be written; guarded acts are refused"))
        .map(|(journal, _)| Arc::new(journal));
    let (audit, recorder) = Audit::of(journal, Some(cluster.own()), core.clone());
    (audit, Recording { driver: tokio::spawn(recorder.run(stop.clone())), stop })
}

/// A data directory that is a member and can be started.
pub struct Initialised {
    /// The cluster.
    pub cluster: String,
    /// The member.
    pub node: NodeId,
    /// What its servers are known by over TLS.
    pub pin: Option<Fingerprint>,
    /// The first owner's secret, as long as nobody has taken it over: see [`Server::owner_taken`].
    pub owner: Option<Secret>,
    /// There was a log already, which is as it was.
    pub before: bool,
}

/// Makes a data directory the first member of a cluster that others can join, and begins its log. One
/// that has a log already only gets its settings.
///
/// # Errors
/// Each names what is wrong and, in its source, the way on; it can be run again.
pub async fn init(data_dir: &Path, org: Name, settings: &Settings) -> Result<Initialised, ServerError> {
    let failed = |source: OpenError| ServerError::Log { dir: data_dir.to_owned(), source };
    let known = Settings::load(data_dir).map_err(|error| failed(error.into()))?;
    let joined = known.as_ref().is_some_and(|known| known.joined);
    let before = log::wal::owner(&RealDisk, &data_dir.join("log"))
        .map_err(|error| failed(log::cluster::OpenClusterError::Log(error.into()).into()))?
        .is_some();
    // One that was never let in can begin a cluster of its own.
    let settings = Settings { joined: joined && before, ..settings.clone() };
    let (data_dir_of, listen) = (data_dir.to_owned(), ([127, 0, 0, 1], 0).into());
    let config = Config { data_dir: data_dir_of, listen, org, backups: None, providers: None };
    let (dir, runtime) = (data_dir.to_owned(), Handle::current());
    let opened = tokio::task::spawn_blocking(move || {
        let cluster = Cluster::open_as(&dir, runtime, Some(settings.clone()), None)?;
        // Only now, with its lock: what a server runs with is not changed under it.
        settings.save(&dir).map(|()| cluster).map_err(OpenError::from)
    });
    let cluster = opened.await.expect("opening does not panic").map_err(failed)?;
    let begun = fold_and_begin(&cluster, &config).await;
    let (name, node) = (cluster.name().to_owned(), cluster.own());
    let pin = cluster.identity().fingerprint().ok().map(Fingerprint);
    let ended = match begun {
        Ok((core, writer, owner)) => {
            writer.end().await;
            drop(core);
            Ok(Initialised { cluster: name, node, pin, owner, before })
        }
        Err(error) => Err(error),
    };
    let closed = tokio::task::spawn_blocking(move || cluster.log().close()).await;
    closed.expect("closing does not panic");
    ended
}

/// The port for other members, if there is to be one.
async fn listen_for_members(cluster: &Cluster, config: &Config) -> Result<Option<TcpListener>, ServerError> {
    let Some(address) = cluster.settings().listen else { return Ok(None) };
    debug_assert_ne!(address, config.listen);
    TcpListener::bind(address).await.map(Some).map_err(|source| ServerError::Listen { address, source })
}

/// Folds the log, starts the writer, and begins a log that is new.
async fn fold_and_begin(
    cluster: &Cluster,
    config: &Config,
) -> Result<(Core, Writer, Option<Secret>), ServerError> {
    let dir = config.data_dir.clone();
    let status = cluster.log().status();
    let is_alone = status.voters.iter().eq([&status.own]);
    let mut authority = cluster.log().authority();
    let mut elected = true;
    if is_alone {
        // It elects itself at once, and then everything that is in its log is known to be committed. A
        // disk that is full may keep it from that; what it knows is served all the same.
        let election = authority.wait_for(Option::is_some);
        elected = tokio::time::timeout(limits::ELECTION_WAIT.into(), election).await.is_ok();
        if !elected {
            tracing::error!("this node was not elected to write to its own log yet; it serves what it knows");
        }
    }
    let log: Arc<dyn Log> = Arc::new(cluster.log().clone());
    let folded = tokio::task::spawn_blocking(move || {
        Core::open(log, Arc::new(SystemClock) as Arc<dyn Clock>, Arc::new(OsRandom) as Arc<dyn Random>)
    });
    let (core, driver) = folded.await.expect("folding does not panic").map_err(|source| match source {
        StartError::ClockBehind { .. } => ServerError::Clock { dir: dir.clone(), source },
        _ => ServerError::Fold { dir: dir.clone(), source },
    })?;
    core.is_called(cluster.name());
    let writer = Writer::start(driver);
    if !elected && core.state().cluster.is_empty() {
        writer.end().await;
        let why = "this node was not elected to write to its own log; is its disk full?";
        return Err(ServerError::Begin(why.to_owned()));
    }
    if !is_alone || !elected {
        return Ok((core, writer, kept_secret(config)));
    }
    match begin(&core, Arc::new(RealDisk), config, cluster.name().to_owned()).await {
        Ok(owner) => Ok((core, writer, owner)),
        Err(why) => {
            writer.end().await;
            Err(ServerError::Begin(why))
        }
    }
}

/// Holds the first owner's secret from before the log is begun until somebody has it, so that a
/// crash in between cannot lock everybody out.
const OWNER_FILE: &str = "owner-token";

fn kept_secret(config: &Config) -> Option<Secret> {
    let text = std::fs::read_to_string(config.data_dir.join(OWNER_FILE)).ok()?;
    Some(Secret::from_text(text.trim()))
}

async fn begin(
    core: &Core,
    disk: Arc<dyn Disk>,
    config: &Config,
    cluster: String,
) -> Result<Option<Secret>, String> {
    let (path, kept) = (config.data_dir.join(OWNER_FILE), kept_secret(config));
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
        // What was there already has become visible meanwhile.
        Answer::Refused { .. } if !core.state().cluster.is_empty() => Ok(kept_secret(config)),
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
        let writer = Writer { driver: part, stop: CancellationToken::new() };
        let stop_peers = CancellationToken::new();
        let (cluster, tls, owner, backups, providers) = (None, None, None, None, None);
        Server { core, cluster, address, tls, owner, listener, writer, stop_peers, backups, providers }
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
