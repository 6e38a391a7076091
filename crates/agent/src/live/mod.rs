//! Tests with the real runtime: they need root, `runc`, `conmon`, `ip`, `nsenter` and a static
//! `busybox`, and fail where one is missing.

mod disk;
mod instance;
mod recovery;
mod registry;

use crate::{
    agent::Agent,
    config::{Config, Places},
    container::{Image, StartError},
    fixture,
    images::Images,
    link::{ControlLink, LinkError},
    root,
};
use api::{LeaseAnswer, LogsAsk, NodeMessage};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use types::{
    Digest, Generation, InstanceId, Timestamp,
    manifest::{Health, HealthKind},
    plan::{Change, Desired, InstancePlan, InstanceSpec, Lease, NodePlan, PinnedImage, Transition},
};

/// How long a test waits for a fact before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

static NUMBERS: AtomicU64 = AtomicU64::new(1);

/// A number that no other instance of any test on this machine has.
fn number() -> u128 {
    let own = u128::from(NUMBERS.fetch_add(1, Ordering::Relaxed));
    u128::from(std::process::id()) << 32 | own
}

/// A control plane that keeps everything in memory and can be cut off.
#[derive(Default)]
struct Control {
    plan: watch::Sender<Option<NodePlan>>,
    asks: watch::Sender<Option<LogsAsk>>,
    answers: Mutex<BTreeMap<u64, Vec<u8>>>,
    reports: Mutex<BTreeMap<InstanceId, Vec<Transition>>>,
    leases: Mutex<Vec<Lease>>,
    is_gone: AtomicBool,
}

impl Control {
    fn check(&self) -> Result<(), LinkError> {
        if self.is_gone.load(Ordering::Relaxed) { Err(LinkError("gone".into())) } else { Ok(()) }
    }

    fn declare(&self, generation: u64, instances: &[(InstanceId, Desired, InstanceSpec)]) {
        let planned = |(id, desired, spec): &(InstanceId, Desired, InstanceSpec)| {
            (*id, InstancePlan { desired: *desired, spec: spec.clone() })
        };
        self.plan.send_replace(Some(NodePlan {
            node: fixture::NODE,
            cluster: "test".into(),
            epoch: types::Epoch::new(1),
            generation: Generation::new(generation),
            adoption: None,
            instances: instances.iter().map(planned).collect(),
        }));
    }

    fn seen(&self, id: InstanceId) -> Vec<Change> {
        let reports = self.reports.lock().expect("no test panics here");
        reports
            .get(&id)
            .map(|all| all.iter().map(|report| report.change.clone()).collect())
            .unwrap_or_default()
    }

    fn count(&self, id: InstanceId, wanted: impl Fn(&Change) -> bool) -> usize {
        self.seen(id).iter().filter(|change| wanted(change)).count()
    }

    async fn wait_for(&self, id: InstanceId, what: &str, wanted: impl Fn(&Change) -> bool) -> Change {
        let start = Instant::now();
        loop {
            if let Some(found) = self.seen(id).into_iter().find(&wanted) {
                return found;
            }
            assert!(start.elapsed() < PATIENCE, "{id} never was {what}; it was {:#?}", self.seen(id));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn wait_ready(&self, id: InstanceId) {
        self.wait_for(id, "ready", |change| *change == Change::Ready).await;
    }
}

#[async_trait]
impl ControlLink for Arc<Control> {
    async fn stream(
        &self,
        held: types::history::Held,
    ) -> Result<BoxStream<'static, Result<NodeMessage, LinkError>>, LinkError> {
        self.check()?;
        let plans = tokio_stream(self.plan.subscribe()).filter_map(move |plan| async move {
            plan.filter(|plan| plan.generation > held.generation)
                .map(|plan| Ok(NodeMessage::Plan(Box::new(plan))))
        });
        let asks = tokio_stream(self.asks.subscribe())
            .filter_map(|ask| async move { ask.map(|ask| Ok(NodeMessage::Logs(ask))) });
        Ok(futures_util::stream::select(plans.boxed(), asks.boxed()).boxed())
    }

    async fn renew(&self, lease: &Lease) -> Result<LeaseAnswer, LinkError> {
        self.check()?;
        self.leases.lock().expect("no test panics here").push(lease.clone());
        Ok(LeaseAnswer { generation: Generation::ZERO, server_time: Timestamp::ZERO, cluster: "test".into() })
    }

    async fn report(&self, transitions: &[Transition]) -> Result<BTreeMap<InstanceId, u64>, LinkError> {
        self.check()?;
        let mut reports = self.reports.lock().expect("no test panics here");
        let mut accepted = BTreeMap::new();
        for report in transitions {
            let known = reports.entry(report.instance).or_default();
            let newest = known.last().map_or(0, |last| last.sequence);
            if report.sequence > newest {
                known.push(report.clone());
            }
            accepted.insert(report.instance, newest.max(report.sequence));
        }
        Ok(accepted)
    }

    async fn answer_logs(&self, ask: u64, mut text: BoxStream<'static, Bytes>) -> Result<(), LinkError> {
        while let Some(bytes) = text.next().await {
            self.answers
                .lock()
                .expect("no test panics here")
                .entry(ask)
                .or_default()
                .extend_from_slice(&bytes);
        }
        Ok(())
    }
}

/// What a watch holds and then every new value, ending with its sender.
fn tokio_stream<T: Clone + Send + Sync + 'static>(receiver: watch::Receiver<T>) -> BoxStream<'static, T> {
    futures_util::stream::unfold((receiver, true), |(mut receiver, first)| async move {
        if !first {
            receiver.changed().await.ok()?;
        }
        let value = receiver.borrow_and_update().clone();
        Some((value, (receiver, false)))
    })
    .boxed()
}

/// An image that lies unpacked in a directory.
struct Ready {
    root: PathBuf,
}

#[async_trait]
impl Images for Ready {
    async fn ensure(&self, _: &PinnedImage) -> Result<Image, StartError> {
        Ok(Image { root: self.root.clone(), ..Image::default() })
    }
    fn evict(&self, _: &BTreeSet<Digest>) {}
}

/// A host: a data directory, an image, and whatever agent runs on it. Leaves nothing behind.
struct Host {
    dir: tempfile::TempDir,
    control: Arc<Control>,
    agent: Option<(JoinHandle<()>, CancellationToken)>,
    /// Use the real image store instead of the image that lies ready.
    real_images: bool,
    metrics: Option<std::net::SocketAddr>,
    /// Where an agent is told to serve metrics.
    metrics_wanted: std::net::SocketAddr,
    small_disk: Option<Small>,
}

/// A small file system over a host's data directory.
struct Small(PathBuf);

impl Small {
    fn mount(at: PathBuf) -> Self {
        std::fs::create_dir_all(&at).expect("a directory");
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &at, "tmpfs", flags, c"size=64m").expect("a tmpfs");
        Self(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH);
    }
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let bin = dir.path().join("image/bin");
        std::fs::create_dir_all(&bin).expect("the image");
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for name in
            ["sh", "sleep", "httpd", "cat", "seq", "tail", "head", "touch", "id", "ip", "mkdir", "mount"]
        {
            std::os::unix::fs::symlink("busybox", bin.join(name)).expect("a link");
        }
        Self {
            dir,
            control: Arc::new(Control::default()),
            agent: None,
            real_images: false,
            metrics: None,
            metrics_wanted: "127.0.0.1:0".parse().expect("an address"),
            small_disk: None,
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn places(&self) -> Places {
        Places::new(&self.data())
    }

    async fn make(&self) -> Result<Agent, crate::StartError> {
        let config = Config {
            data_dir: self.data(),
            node: fixture::NODE,
            cluster: "test".into(),
            metrics: Some(self.metrics_wanted),
            capacity: None,
        };
        if self.real_images {
            return Agent::start(config, Arc::new(rt::RealDisk), Arc::new(Arc::clone(&self.control))).await;
        }
        let images = Arc::new(Ready { root: self.dir.path().join("image") });
        Agent::start_with(config, Arc::new(rt::RealDisk), Arc::new(Arc::clone(&self.control)), images).await
    }

    async fn start_agent(&mut self) {
        let agent = self.make().await.expect("the agent starts");
        self.metrics = agent.metrics_address();
        let token = CancellationToken::new();
        self.agent = Some((tokio::spawn(agent.run(token.clone())), token));
    }

    /// As if it was killed: nothing is said to anyone, nothing is put in order.
    async fn kill_agent(&mut self) {
        let (task, _) = self.agent.take().expect("an agent runs");
        task.abort();
        let _ = task.await;
    }

    /// What the agent's metrics say.
    async fn metrics(&self) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let address = self.metrics.expect("an agent was started");
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("metrics are served");
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").await.expect("asked");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("answered");
        text
    }

    /// The process id of an instance, by the runtime's own word.
    fn pid(&self, id: InstanceId) -> i32 {
        let text =
            std::fs::read_to_string(self.places().instance(id).bundle().join("pid")).expect("a pid file");
        text.trim().parse().expect("a pid")
    }

    /// Kills everything that belongs to an instance, monitor first, as a power cut would.
    fn cut_power(&self, id: InstanceId) {
        let marker = id.to_string();
        for pid in processes_with(&marker) {
            kill(pid);
        }
        kill(self.pid(id));
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some((task, _)) = &self.agent {
            task.abort();
        }
        let places = self.places();
        let names = std::fs::read_dir(places.instances())
            .map(|all| all.flatten().collect())
            .unwrap_or_else(|_| Vec::new());
        let cgroups = crate::cgroup::Cgroups::detect(places.cgroup()).ok();
        for id in names.iter().filter_map(|name| name.file_name().to_str()?.parse::<InstanceId>().ok()) {
            processes_with(&id.to_string()).into_iter().for_each(kill);
            run(
                "runc",
                &["--root", &places.runtime().to_string_lossy(), "delete", "--force", &id.to_string()],
            );
            run("ip", &["link", "del", &crate::network::host_end(id)]);
            let own = places.instance(id);
            if let Some(cgroups) = &cgroups {
                cgroups.processes(id).into_iter().for_each(kill);
                let start = Instant::now();
                while cgroups.remove(id).is_err() && start.elapsed() < Duration::from_secs(5) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
            if let Some(spec) = std::fs::read(own.spec())
                .ok()
                .and_then(|text| serde_json::from_slice::<crate::container::Started>(&text).ok())
            {
                run("ip", &["-6", "route", "del", "unreachable", &format!("{}/128", spec.spec.address)]);
            }
            let _ = root::unmount(&own);
        }
        if let Some(cgroups) = cgroups {
            cgroups.remove_parent();
        }
        if let Some(realm) = places.runtime().parent() {
            let _ = std::fs::remove_dir_all(realm);
        }
    }
}

fn run(program: &str, args: &[&str]) {
    let _ = std::process::Command::new(program).args(args).output();
}

fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Processes whose command line holds this text.
fn processes_with(marker: &str) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").expect("proc is mounted").flatten();
    all.filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        (String::from_utf8_lossy(&line).contains(marker) && pid != std::process::id() as i32).then_some(pid)
    })
    .collect()
}

/// A specification with an address of its own that runs this shell script.
fn script(number: u128, text: &str) -> InstanceSpec {
    let mut spec = fixture::spec(number);
    spec.command = vec!["/bin/sh".into(), "-c".into(), text.into()];
    spec
}

/// A web server on port 8080, probed on `/`.
fn web(number: u128) -> InstanceSpec {
    let mut spec = script(number, "mkdir /www; echo hello > /www/index.html; exec httpd -f -p 8080 -h /www");
    spec.ports = [("http".parse().expect("a name"), 8080)].into();
    spec.health = Some(Health {
        kind: HealthKind::Http,
        port: "http".parse().expect("a name"),
        path: Some("/".into()),
        interval: types::DurationMs::from_ms(100),
        timeout: types::DurationMs::from_ms(500),
        grace: types::DurationMs::from_secs(10),
    });
    spec
}

async fn wait_until(what: &str, fact: impl Fn() -> bool) {
    let start = Instant::now();
    while !fact() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn fetch(spec: &InstanceSpec, path: &str) -> std::io::Result<String> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect((spec.address, 8080)).await?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}
