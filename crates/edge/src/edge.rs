//! The edge as a component: started, run, stopped.

use crate::{
    connection::{Entry, Waits},
    follow::{self, Follower},
    link::ControlLink,
    listen,
    meter::{self, Meter},
    scrape,
    store::{self, PlanStore},
    switch::Switch,
};
use rt::Disk;
use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use types::{Generation, InstanceId, limits};

/// Open files for everything but connections: listeners, the plan, the control plane, the runtime.
const DESCRIPTORS_BESIDE: u64 = 256;

/// How an edge is set up. The waits are the limits of `types::limits` unless a test changes them.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where its plan is kept.
    pub data_dir: PathBuf,
    /// Where TLS connections come in; `None` for an edge of raw routes only.
    pub listen_tls: Option<SocketAddr>,
    /// The address that the ports of raw routes are opened on.
    pub listen_tcp_address: IpAddr,
    /// Where metrics are read; `None` for nowhere.
    pub metrics: Option<SocketAddr>,
    /// Connections served at once; one more is accepted and closed.
    pub max_connections: usize,
    /// How long a client may take for its ClientHello.
    pub hello_wait: Duration,
    /// How long one backend may take to accept.
    pub connect_wait: Duration,
    /// How long a client may be silent whose backend has ended.
    pub half_closed_wait: Duration,
    /// How long open connections may go on after the stop.
    pub drain_wait: Duration,
}

impl Config {
    /// The usual set-up with its plan in this directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            listen_tls: Some(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 443)),
            listen_tcp_address: Ipv6Addr::UNSPECIFIED.into(),
            metrics: Some(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 7072)),
            max_connections: limits::EDGE_CONNECTIONS,
            hello_wait: limits::CLIENT_HELLO_WAIT.into(),
            connect_wait: limits::BACKEND_CONNECT.into(),
            half_closed_wait: limits::EDGE_HALF_CLOSED.into(),
            drain_wait: limits::EDGE_DRAIN.into(),
        }
    }
}

/// Why an edge cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The main address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The stored plan cannot be read.
    #[error("cannot open the stored plan")]
    Plan(#[from] store::OpenError),
}

/// What all tasks of an edge share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub switch: Switch,
    pub meter: Meter,
    pub waits: Waits,
    pub max_connections: usize,
    pub room: Arc<Semaphore>,
    pub connections: TaskTracker,
    /// The tasks that accept. Each may still add connections until it has ended.
    pub acceptors: TaskTracker,
    /// Ends connections that outlived the drain.
    pub abort: CancellationToken,
    pub listen_tcp_address: IpAddr,
    pub metrics_address: OnceLock<SocketAddr>,
}

/// An edge that has its plan and its main listener, and waits to be run.
pub struct Edge {
    shared: Arc<Shared>,
    follower: Follower,
    tls: Option<TcpListener>,
    tls_address: Option<SocketAddr>,
    link: Option<Arc<dyn ControlLink>>,
    metrics: Option<SocketAddr>,
    drain_wait: Duration,
    accepting: CancellationToken,
}

/// Looks into a running edge. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    tls_address: Option<SocketAddr>,
}

impl Edge {
    /// Reads the stored plan, puts it in effect and binds the main listener. Must be called within
    /// a tokio runtime. Nothing is accepted before [`Edge::run`].
    ///
    /// # Errors
    /// [`StartError`]. A raw route's port or the metrics' being taken is no error: it is logged and
    /// tried again while all else serves.
    pub fn start(
        config: Config,
        disk: Arc<dyn Disk>,
        link: Option<Arc<dyn ControlLink>>,
    ) -> Result<Self, StartError> {
        let store = PlanStore::open(disk, &config.data_dir)?;
        make_room_for_descriptors(config.max_connections);
        let tls = match config.listen_tls {
            None => None,
            Some(address) => {
                Some(listen::bind(address).map_err(|source| StartError::Listen { address, source })?)
            }
        };
        let shared = Arc::new(Shared {
            switch: Switch::new(),
            meter: Meter::default(),
            waits: Waits {
                hello: config.hello_wait,
                connect: config.connect_wait,
                connect_total: limits::EDGE_CONNECT_TOTAL.into(),
                half_closed: config.half_closed_wait,
            },
            max_connections: config.max_connections,
            room: Arc::new(Semaphore::new(config.max_connections)),
            connections: TaskTracker::new(),
            acceptors: TaskTracker::new(),
            abort: CancellationToken::new(),
            listen_tcp_address: config.listen_tcp_address,
            metrics_address: OnceLock::new(),
        });
        let accepting = CancellationToken::new();
        Ok(Self {
            follower: Follower::new(Arc::clone(&shared), store, accepting.clone()),
            shared,
            tls_address: tls.as_ref().and_then(|listener| listener.local_addr().ok()),
            tls,
            link,
            metrics: config.metrics,
            drain_wait: config.drain_wait,
            accepting,
        })
    }

    /// A view of this edge that outlives [`Edge::run`].
    pub fn handle(&self) -> Handle {
        Handle { shared: Arc::clone(&self.shared), tls_address: self.tls_address }
    }

    /// Serves until `shutdown`, then accepts no more and lets open connections end, within the
    /// drain's bound. Leases go on to the last, so that the control plane knows what is still open.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { shared, mut follower, tls, link, metrics, drain_wait, accepting, .. } = self;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        // Should this future be dropped instead of run to its end, nothing of the edge stays behind.
        let _guards = [&accepting, &stop, &shared.abort].map(|token| token.clone().drop_guard());
        if let Some(listener) = tls {
            let accept = listen::accept(Arc::clone(&shared), listener, Entry::Tls, accepting.clone());
            shared.acceptors.spawn(accept);
        }
        follower.open_ports();
        if let Some(address) = metrics {
            tasks.spawn(scrape::serve(Arc::clone(&shared), address, stop.clone()));
        }
        // A follower without a link is kept, for it owns the raw ports' listeners.
        let mut _kept = None;
        match link {
            Some(link) => {
                let reopen = Arc::new(Notify::new());
                tasks.spawn(follow::renew(
                    Arc::clone(&shared),
                    Arc::clone(&link),
                    Arc::clone(&reopen),
                    stop.clone(),
                ));
                tasks.spawn(follower.run(link, reopen, stop.clone()));
            }
            None => _kept = Some(follower),
        }
        shutdown.cancelled().await;
        accepting.cancel();
        // They first take the clients that wait in their backlogs; only then is it known who is open.
        shared.acceptors.close();
        shared.acceptors.wait().await;
        drain(&shared, drain_wait).await;
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}

/// Raises the limit of open files towards what the bound of connections needs, two for each, as far
/// as the machine allows, and says so if that is not enough.
fn make_room_for_descriptors(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let needed = 2 * connections as u64 + DESCRIPTORS_BESIDE;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let allowed = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(allowed), maximum: limit.maximum });
    if raised.is_err() || allowed < needed {
        tracing::warn!(needed, allowed, "the limit of open files is too low for the bound of connections");
    }
}

async fn drain(shared: &Shared, wait: Duration) {
    shared.connections.close();
    let open = shared.connections.len();
    tracing::info!(open, "accepting no more; open connections may end");
    if timeout(wait, shared.connections.wait()).await.is_err() {
        tracing::warn!(open = shared.connections.len(), "the drain is over; closing what is open");
        shared.abort.cancel();
        shared.connections.wait().await;
    }
}

impl Handle {
    /// Where TLS connections come in.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        self.tls_address
    }

    /// Where metrics are read, once that listener is bound.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.shared.metrics_address.get().copied()
    }

    /// The plan in effect for new connections.
    pub fn generation(&self) -> Generation {
        self.shared.switch.generation()
    }

    /// The plan that the lease acknowledges; see [`types::plan::Lease`].
    pub fn acknowledged(&self) -> Generation {
        self.shared.switch.acknowledged()
    }

    /// Instances that left the plan and that connections are still open to.
    pub fn draining(&self) -> Vec<InstanceId> {
        self.shared.switch.draining()
    }

    /// Connections being served.
    pub fn open_connections(&self) -> usize {
        self.shared.max_connections - self.shared.room.available_permits()
    }

    /// The metrics as Prometheus text.
    pub fn metrics(&self) -> String {
        meter::render(&self.shared)
    }
}
