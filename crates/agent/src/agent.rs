//! The agent itself: holds the plan, gives every instance a supervisor, talks with the control plane.
//!
//! It makes no policy choices. Ending it ends no instance: those run on under their monitors, and
//! the next agent on the same data directory adopts them.

use crate::{
    backoff::{Backoff, jittered},
    cgroup::Cgroups,
    config::{Config, Places},
    container::Containers,
    images::Images,
    journal::{Journal, JournalError},
    link::ControlLink,
    logs,
    metrics::{self, Metrics},
    plan_store::{OpenError, PlanStore, Refusal},
    preflight::{self, PreflightError},
    pressure,
    reconcile::{self, Observed, Seen, Step, Trace, Wish},
    supervisor::{Counts, Shared, Supervisor, add_one},
};
use api::{LogsAsk, NodeMessage};
use futures_util::StreamExt;
use rt::{Clock, Disk, DiskError, DiskLock, SystemClock};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::Permissions,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::{Id, JoinSet},
};
use tokio_util::sync::CancellationToken;
use types::{
    Digest, Generation, InstanceId,
    history::Held,
    limits,
    plan::{Change, Lease, NodePlan, NodeRole, Reason},
};

/// The agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The machine, or the way it was started, does not do.
    #[error(transparent)]
    Preflight(#[from] PreflightError),
    /// Another agent runs on the same data directory.
    #[error("another agent runs on {}; stop it first", .0.display())]
    Locked(std::path::PathBuf),
    /// The data directory cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The stored plan cannot be used.
    #[error(transparent)]
    Plan(#[from] OpenError),
    /// The stored reports cannot be read.
    #[error(transparent)]
    Reports(#[from] JournalError),
    /// The image cache cannot be used.
    #[error(transparent)]
    Images(#[from] crate::image::OpenError),
    /// Metrics are asked for where the whole network could read them.
    #[error("metrics on {0}: they are served on loopback addresses only")]
    Metrics(SocketAddr),
    /// A directory cannot be kept from other users of this machine.
    #[error("cannot shut other users out of {}: {source}", path.display())]
    Private {
        /// The directory.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// What the agent knows of one supervisor.
struct Supervised {
    wish: watch::Sender<Wish>,
    running: Arc<AtomicI32>,
}

/// State that the tasks of the agent share. No lock in it is held across a wait.
struct Inner {
    config: Config,
    shared: Arc<Shared>,
    link: Arc<dyn ControlLink>,
    plans: Mutex<PlanStore>,
    newest: watch::Sender<Option<Arc<NodePlan>>>,
    supervised: Mutex<BTreeMap<InstanceId, Supervised>>,
    /// Set when the runtime's list has been read, so that what is said of it is complete.
    listed: watch::Sender<bool>,
    pressure: watch::Sender<Option<Reason>>,
    /// A plan was stored: the lease is renewed at once, since it acknowledges.
    poke: Notify,
    /// When the control plane answered last; the start, before it ever did.
    heard: Mutex<Instant>,
}

/// A host agent, ready to run.
pub struct Agent {
    inner: Arc<Inner>,
    metrics: Option<Metrics>,
    _lock: Box<dyn DiskLock>,
}

impl Agent {
    /// Checks the machine, takes the data directory, and reads what is stored in it.
    ///
    /// # Errors
    /// Each says what to do.
    pub async fn start(
        mut config: Config,
        disk: Arc<dyn Disk>,
        link: Arc<dyn ControlLink>,
    ) -> Result<Self, StartError> {
        config.data_dir = std::path::absolute(&config.data_dir).unwrap_or(config.data_dir);
        // Asked before anything is made, so that someone who is not root is told that and no more.
        preflight::check(&config.data_dir)?;
        let images = crate::image::ImageStore::open(&Places::new(&config.data_dir).images())?;
        Self::start_with(config, disk, link, Arc::new(images)).await
    }

    pub(crate) async fn start_with(
        config: Config,
        disk: Arc<dyn Disk>,
        link: Arc<dyn ControlLink>,
        images: Arc<dyn Images>,
    ) -> Result<Self, StartError> {
        let tools = preflight::check(&config.data_dir)?;
        let places = Places::new(&config.data_dir);
        let cgroups = Cgroups::detect(places.cgroup())?;
        let abilities = cgroups.abilities();
        tracing::info!(layout = cgroups.layout(), ?abilities, "control groups");
        if !abilities.swap {
            tracing::warn!(
                "this kernel cannot cap swap (boot with swapaccount=1); instances may swap past their memory cap"
            );
        }
        disk.create_dir(&config.data_dir)?;
        let holder = format!("agent {} pid {}", config.node, std::process::id());
        let lock = disk.lock(&places.lock(), &holder).map_err(|error| {
            if error.is_locked() { StartError::Locked(config.data_dir.clone()) } else { error.into() }
        })?;
        for dir in [places.instances(), places.runtime()] {
            disk.create_dir(&dir)?;
            shut_others_out(&dir)?;
        }
        let plans = PlanStore::open(Arc::clone(&disk), &config.data_dir, config.node, &config.cluster)?;
        let journal = Journal::open(disk, &config.data_dir, SystemClock.now())?;
        if let Some(plan) = plans.current() {
            journal.report_to(plan, SystemClock.now());
        }
        let metrics = match config.metrics {
            None => None,
            Some(address) if !address.ip().is_loopback() => return Err(StartError::Metrics(address)),
            Some(address) => Some(Metrics::at(address).await),
        };
        let pressure = watch::Sender::new(None);
        let shared = Shared {
            containers: Containers::new(tools, places, cgroups),
            images,
            journal,
            starts: Semaphore::new(limits::AGENT_STARTS),
            pressure: pressure.subscribe(),
            counts: Counts::default(),
        };
        let inner = Inner {
            newest: watch::Sender::new(plans.current().cloned()),
            config,
            shared: Arc::new(shared),
            link,
            plans: Mutex::new(plans),
            supervised: Mutex::default(),
            listed: watch::Sender::new(false),
            pressure,
            poke: Notify::new(),
            heard: Mutex::new(Instant::now()),
        };
        Ok(Self { inner: Arc::new(inner), metrics, _lock: lock })
    }

    /// The address that metrics are served on; `None` as well while it is taken by another program.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(Metrics::bound)
    }

    /// What the node can give: what the configuration says, else what the machine has.
    pub fn capacity(&self) -> types::plan::Capacity {
        self.inner.config.capacity.unwrap_or_else(crate::capacity)
    }

    /// Runs until told to end. Instances keep running when it ends.
    pub async fn run(self, shutdown: CancellationToken) {
        let inner = self.inner;
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&inner).watch_disk());
        tasks.spawn(Arc::clone(&inner).write_reports());
        tasks.spawn(Arc::clone(&inner).send_reports());
        tasks.spawn(Arc::clone(&inner).keep_lease());
        tasks.spawn(Arc::clone(&inner).follow_plans());
        tasks.spawn(Arc::clone(&inner).reconcile());
        if let Some(metrics) = self.metrics {
            let shown = Arc::clone(&inner);
            tasks.spawn(metrics.serve(Arc::new(move || shown.metrics())));
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            // These tasks never end by themselves: one that did has panicked, and the process must
            // not go on with half of an agent. Instances run on; whoever starts us starts us again.
            ended = tasks.join_next() => panic!("a task of the agent ended: {ended:?}"),
        }
        tasks.shutdown().await;
        inner.shared.containers.tidy();
        // What was noted last is reported by the next agent.
        if let Err(error) = inner.shared.journal.store() {
            tracing::warn!(%error, "the last reports could not be stored");
        }
    }
}

/// Makes a directory its owner's alone, one of an earlier version too. Instances have root's powers
/// over their own files: what they make there, with a set-user-id bit or as a device, must not be
/// within reach of the other users of this machine. And their variables are nobody else's business.
fn shut_others_out(dir: &Path) -> Result<(), StartError> {
    std::fs::set_permissions(dir, Permissions::from_mode(0o700))
        .map_err(|source| StartError::Private { path: dir.to_path_buf(), source })
}

impl Inner {
    fn supervised(&self) -> std::sync::MutexGuard<'_, BTreeMap<InstanceId, Supervised>> {
        self.supervised.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn running(&self) -> Vec<InstanceId> {
        let all = self.supervised();
        all.iter().filter(|(_, one)| one.running.load(Ordering::Relaxed) != 0).map(|(id, _)| *id).collect()
    }

    fn generation(&self) -> Generation {
        self.newest.borrow().as_ref().map_or(Generation::ZERO, |plan| plan.generation)
    }

    /// The name of the plan it acts on.
    fn held(&self) -> Held {
        let none = || Held { cluster: self.config.cluster.clone(), ..Held::default() };
        self.newest.borrow().as_ref().map_or_else(none, |plan| plan.name())
    }

    fn metrics(&self) -> String {
        let gauges = metrics::Gauges {
            running: self.running().len(),
            supervised: self.supervised().len(),
            generation: self.generation().get(),
            unconfirmed: self.shared.journal.unconfirmed().len(),
            disk_short: self.pressure.borrow().is_some(),
            space: pressure::space(&self.config.data_dir),
            control_silent: self.heard.lock().unwrap_or_else(PoisonError::into_inner).elapsed(),
            pulls: self.shared.images.pulls(),
        };
        metrics::render(&self.shared.counts, gauges)
    }

    /// Brings what is to what is wanted, again and again.
    async fn reconcile(self: Arc<Self>) {
        let mut plans = self.newest.subscribe();
        let mut tasks: JoinSet<()> = JoinSet::new();
        let mut owners: HashMap<Id, InstanceId> = HashMap::new();
        let mut containers = self.list_containers().await;
        loop {
            let desired = plans.borrow_and_update().clone();
            match self.observe(&containers) {
                Err(error) => {
                    tracing::error!(%error, "cannot list the instances on disk; nothing is changed")
                }
                Ok(observed) => {
                    for step in reconcile::plan(desired.as_deref(), &observed) {
                        self.execute(step, &mut tasks, &mut owners);
                    }
                    self.listed.send_replace(true);
                }
            }
            // From here on, supervisors know what runs.
            containers.clear();
            if let Some(plan) = &desired {
                let kept: BTreeSet<InstanceId> =
                    plan.instances.keys().copied().chain(self.supervised().keys().copied()).collect();
                self.shared.journal.retain(|id| kept.contains(&id));
            }
            tokio::select! {
                changed = plans.changed() => changed.expect("the sender lives in self"),
                ended = tasks.join_next_with_id(), if !tasks.is_empty() => {
                    containers = self.supervisor_ended(ended.expect("there are tasks"), &mut owners).await;
                }
                () = tokio::time::sleep(Duration::from(limits::AGENT_RECONCILE)) => {}
            }
        }
    }

    /// Forgets a supervisor. After a panic the runtime is asked what is left of its instance.
    async fn supervisor_ended(
        &self,
        ended: Result<(Id, ()), tokio::task::JoinError>,
        owners: &mut HashMap<Id, InstanceId>,
    ) -> BTreeMap<InstanceId, Option<i32>> {
        let (task, panicked) = match ended {
            Ok((task, ())) => (task, None),
            Err(error) => (error.id(), Some(error)),
        };
        if let Some(id) = owners.remove(&task) {
            self.supervised().remove(&id);
            if let Some(error) = panicked {
                tracing::error!(instance = %id, %error, "its supervisor broke; it gets another");
                return self.list_containers().await;
            }
        }
        BTreeMap::new()
    }

    async fn list_containers(&self) -> BTreeMap<InstanceId, Option<i32>> {
        let mut backoff = Backoff::restart();
        loop {
            match self.shared.containers.list().await {
                Ok(found) => return found,
                Err(error) => {
                    tracing::error!(%error, "cannot list what runs; nothing is changed until that works")
                }
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    fn observe(&self, containers: &BTreeMap<InstanceId, Option<i32>>) -> std::io::Result<Observed> {
        let supervised = self.supervised();
        let known = supervised.keys().chain(containers.keys()).copied();
        let files = self.shared.containers.on_disk()?;
        let planned: Vec<InstanceId> = self
            .newest
            .borrow()
            .as_ref()
            .map(|plan| plan.instances.keys().copied().collect())
            .unwrap_or_default();
        let ids: BTreeSet<InstanceId> = known.chain(files.iter().copied()).chain(planned).collect();
        let see = |id: InstanceId| {
            let trace = match containers.get(&id) {
                Some(Some(pid)) => Trace::Runs { pid: *pid },
                Some(None) => Trace::Remains,
                None if files.contains(&id) => Trace::Remains,
                None => Trace::Nothing,
            };
            let told = supervised.get(&id).map(|one| one.wish.borrow().clone());
            let collected = self.shared.journal.last(id) == Some(Change::Collected);
            (id, Seen { trace, told, collected })
        };
        Ok(Observed { instances: ids.into_iter().map(see).collect() })
    }

    fn execute(&self, step: Step, tasks: &mut JoinSet<()>, owners: &mut HashMap<Id, InstanceId>) {
        match step {
            Step::Tell { id, wish } => {
                if let Some(one) = self.supervised().get(&id) {
                    one.wish.send_replace(wish);
                }
            }
            Step::Supervise { id, begin, wish } => {
                tracing::debug!(instance = %id, ?begin, stop = wish == Wish::Stop, "supervise");
                let (sender, receiver) = watch::channel(wish);
                let running = Arc::new(AtomicI32::new(0));
                let supervisor = Supervisor {
                    id,
                    shared: Arc::clone(&self.shared),
                    wish: receiver,
                    running: Arc::clone(&running),
                };
                owners.insert(tasks.spawn(supervisor.run(begin)).id(), id);
                self.supervised().insert(id, Supervised { wish: sender, running });
            }
        }
    }

    /// Keeps the plan stream open and takes what comes.
    async fn follow_plans(self: Arc<Self>) {
        let mut backoff = Backoff::link();
        let readers = Arc::new(Semaphore::new(limits::LOG_READERS));
        loop {
            match self.link.stream(self.held()).await {
                Err(error) => self.link_failed("plan stream", &error.to_string()),
                Ok(mut messages) => {
                    while let Some(message) = messages.next().await {
                        match message {
                            Ok(NodeMessage::Plan(plan)) => {
                                backoff.reset();
                                if !self.take(*plan).await {
                                    break;
                                }
                            }
                            Ok(NodeMessage::Logs(ask)) => self.answer_logs(ask, &readers),
                            Err(error) => {
                                self.link_failed("plan stream", &error.to_string());
                                break;
                            }
                        }
                    }
                }
            }
            tokio::time::sleep(jittered(backoff.next())).await;
        }
    }

    /// Stores a plan and makes it the one to act on. False: it could not be stored, so it must be
    /// asked for again.
    async fn take(self: &Arc<Self>, plan: NodePlan) -> bool {
        let own = Arc::clone(self);
        let taken = tokio::task::spawn_blocking(move || {
            own.plans.lock().unwrap_or_else(PoisonError::into_inner).accept(plan)
        });
        match taken.await.expect("storing a plan does not panic") {
            Ok(None) => {}
            Ok(Some(plan)) => {
                tracing::info!(generation = %plan.generation, instances = plan.instances.len(), "plan stored");
                self.shared.journal.report_to(&plan, SystemClock.now());
                self.newest.send_replace(Some(plan));
                self.poke.notify_one();
            }
            Err(refusal) => {
                add_one(&self.shared.counts.plans_refused);
                tracing::error!(%refusal, "plan not taken; the one before it stands");
                return !matches!(refusal, Refusal::Store(_));
            }
        }
        true
    }

    fn link_failed(&self, what: &str, error: &str) {
        add_one(&self.shared.counts.link_errors);
        tracing::debug!(what, error, "control plane not reached; instances go on");
    }

    fn answer_logs(self: &Arc<Self>, ask: LogsAsk, readers: &Arc<Semaphore>) {
        let turn = Arc::clone(readers).try_acquire_owned();
        let own = Arc::clone(self);
        tokio::spawn(async move {
            let places = own.shared.containers.places(ask.instance);
            let text = match (&turn, ask.follow) {
                (Err(_), _) => futures_util::stream::once(async {
                    "too many logs are read at once on this node\n".into()
                })
                .boxed(),
                (Ok(_), true) => logs::read(places, ask.tail_lines, logs::Until::Collected),
                (Ok(_), false) => logs::read(places, ask.tail_lines, logs::Until::Now),
            };
            if let Err(error) = own.link.answer_logs(ask.ask, text).await {
                own.link_failed("logs", &error.to_string());
            }
            drop(turn);
        });
    }

    /// Renews the lease, at once when a plan was stored.
    async fn keep_lease(self: Arc<Self>) {
        let mut listed = self.listed.subscribe();
        listed.wait_for(|done| *done).await.expect("the sender lives in self");
        loop {
            let lease = Lease {
                role: NodeRole::Agent,
                generation: self.generation(),
                held: Some(self.held()),
                pressure: *self.pressure.borrow(),
                running: self.running(),
                draining: Vec::new(),
            };
            match self.link.renew(&lease).await {
                Ok(_) => *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now(),
                Err(error) => self.link_failed("lease", &error.to_string()),
            }
            tokio::select! {
                () = self.poke.notified() => {}
                () = tokio::time::sleep(Duration::from(limits::LEASE_RENEW)) => {}
            }
        }
    }

    /// Makes what was noted durable, as soon as it is noted; what comes meanwhile goes together.
    async fn write_reports(self: Arc<Self>) {
        let mut backoff = Backoff::link();
        loop {
            self.shared.journal.dirty().await;
            loop {
                let journal = self.shared.journal.clone();
                let stored = tokio::task::spawn_blocking(move || journal.store()).await;
                match stored.expect("storing reports does not panic") {
                    Ok(()) => break backoff.reset(),
                    Err(error) => tracing::warn!(%error, "reports cannot be stored and so not be sent yet"),
                }
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }

    /// Sends what is durable until the server has it.
    async fn send_reports(self: Arc<Self>) {
        let mut backoff = Backoff::link();
        loop {
            self.shared.journal.ready().await;
            loop {
                let batch = self.shared.journal.unconfirmed();
                if batch.is_empty() {
                    break;
                }
                match self.link.report(&batch).await {
                    Ok(accepted) => {
                        let confirmed = self.shared.journal.confirm(&accepted);
                        self.shared.counts.reports.fetch_add(confirmed, Ordering::Relaxed);
                        if confirmed > 0 {
                            backoff.reset();
                            continue;
                        }
                        self.link_failed("report", "nothing of it was accepted");
                    }
                    Err(error) => self.link_failed("report", &error.to_string()),
                }
                tokio::time::sleep(jittered(backoff.next())).await;
            }
        }
    }

    /// Looks at the free space, makes room where it can, and says when there is none.
    async fn watch_disk(self: Arc<Self>) {
        loop {
            let dir = &self.config.data_dir;
            let before = *self.pressure.borrow();
            let mut found = pressure::judge(before, pressure::space(dir));
            if found.is_some() {
                self.evict_images().await;
                found = pressure::judge(before, pressure::space(dir));
            }
            if found != before {
                tracing::warn!(pressure = ?found, "free space of {}", dir.display());
                self.pressure.send_replace(found);
                self.poke.notify_one();
            }
            tokio::time::sleep(Duration::from(limits::LEASE_RENEW)).await;
        }
    }

    async fn evict_images(&self) {
        let mut in_use: BTreeSet<Digest> = BTreeSet::new();
        if let Some(plan) = self.newest.borrow().as_ref() {
            in_use.extend(plan.instances.values().map(|planned| planned.spec.image.digest.clone()));
        }
        let supervised: Vec<InstanceId> = self.supervised().keys().copied().collect();
        let started = supervised.into_iter().filter_map(|id| self.shared.containers.started_with(id));
        in_use.extend(started.map(|run| run.spec.image.digest));
        let images = Arc::clone(&self.shared.images);
        if let Err(error) = tokio::task::spawn_blocking(move || images.evict(&in_use)).await {
            tracing::error!(%error, "evicting images broke");
        }
    }
}
