//! Members whose disks are full or slow, that lag, are far away, or are older copies of themselves.

#![allow(
    clippy::disallowed_methods,
    reason = "real members on real threads: a test waits for them in real time"
)]

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use holdfast_log::{
    Batch, Log,
    cluster::{Alone, ClusterLog, Member, Options, Transport, TransportError},
    wal::{OpenMemberError, Wal},
};
use rt::{Disk, DiskError, DiskFile, DiskLock, SimDisk, ThreadSpawner};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};
use types::{ByteSize, EventId, NodeId};

const NAME: &str = "faults";
const DIR: &str = "/log";
const PATIENCE: Duration = Duration::from_secs(20);
/// Patient, because everything in these tests shares two cores.
const ELECTION: (Duration, Duration) = (Duration::from_millis(1500), Duration::from_millis(2500));

fn id(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

/// A disk whose syncs of some files do not return while it is stuck.
#[derive(Clone, Debug)]
struct Slow {
    disk: SimDisk,
    stuck: Arc<(Mutex<Vec<&'static str>>, Condvar)>,
}

#[derive(Debug)]
struct SlowFile {
    file: Box<dyn DiskFile>,
    disk: Slow,
}

impl Slow {
    fn on(disk: SimDisk) -> Self {
        Self { disk, stuck: Arc::default() }
    }

    /// From now on only these are slow.
    fn stick(&self, names: &[&'static str]) {
        *self.stuck.0.lock().expect("no panics") = names.to_vec();
        self.stuck.1.notify_all();
    }

    fn wrap(&self, file: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(SlowFile { file, disk: self.clone() })
    }
}

impl Disk for Slow {
    fn open(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.open(path).map(|file| self.wrap(file))
    }
    fn open_read(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.open_read(path)
    }
    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>, DiskError> {
        self.disk.create(path).map(|file| self.wrap(file))
    }
    fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> Result<(), DiskError> {
        self.disk.remove(path)
    }
    fn list(&self, dir: &Path) -> Result<Vec<String>, DiskError> {
        self.disk.list(dir)
    }
    fn create_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.disk.create_dir(dir)
    }
    fn sync_dir(&self, dir: &Path) -> Result<(), DiskError> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path, holder: &str) -> Result<Box<dyn DiskLock>, DiskError> {
        self.disk.lock(path, holder)
    }
    fn free_space(&self, dir: &Path) -> Result<u64, DiskError> {
        self.disk.free_space(dir)
    }
    fn exists(&self, path: &Path) -> Result<bool, DiskError> {
        self.disk.exists(path)
    }
}

impl DiskFile for SlowFile {
    fn size(&self) -> Result<u64, DiskError> {
        self.file.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, DiskError> {
        self.file.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_at(offset, bytes)
    }
    fn allocate(&self, length: u64) -> Result<(), DiskError> {
        self.file.allocate(length)
    }
    fn set_len(&self, length: u64) -> Result<(), DiskError> {
        self.file.set_len(length)
    }
    fn sync_data(&self) -> Result<(), DiskError> {
        let name = self.file.path().file_name().map(|name| name.to_string_lossy().into_owned());
        let is_stuck = |names: &mut Vec<&str>| {
            names.iter().any(|slow| name.as_ref().is_some_and(|name| name.starts_with(slow)))
        };
        let (stuck, moved) = &*self.disk.stuck;
        drop(moved.wait_while(stuck.lock().expect("no panics"), is_stuck).expect("no panics"));
        self.file.sync_data()
    }
    fn path(&self) -> &Path {
        self.file.path()
    }
}

/// Carries messages between members of this process.
#[derive(Default)]
struct Board {
    members: Mutex<BTreeMap<NodeId, ClusterLog>>,
    /// How far apart they are.
    delay: Mutex<Duration>,
}

struct Line(Arc<Board>);

impl Transport for Line {
    fn call(
        &self,
        to: NodeId,
        _member: &Member,
        message: Bytes,
        _patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let board = Arc::clone(&self.0);
        async move {
            let delay = *board.delay.lock().expect("no panics");
            tokio::time::sleep(delay).await;
            let gone = || TransportError::Unreachable("gone".into());
            let peer = board.members.lock().expect("no panics").get(&to).cloned().ok_or_else(gone)?;
            peer.receive(message).await
        }
        .boxed()
    }
}

/// Members in one process, each on a disk of its own.
struct Cluster {
    board: Arc<Board>,
    disks: BTreeMap<NodeId, Slow>,
    runtime: tokio::runtime::Runtime,
    /// What each process ended of.
    deaths: Arc<Mutex<Vec<(NodeId, String)>>>,
    catch_up: ByteSize,
}

impl Cluster {
    fn of(count: u128) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let mut cluster = Self {
            board: Arc::default(),
            disks: BTreeMap::new(),
            runtime: runtime.expect("a runtime"),
            deaths: Arc::default(),
            catch_up: Options::default().catch_up,
        };
        for number in 1..=count {
            cluster.make(id(number));
            if number > 1 {
                cluster.add(id(number));
            }
        }
        if count > 1 {
            let voters = (1..=count).map(id).collect();
            cluster.runtime.block_on(cluster.leader().set_voters(voters, PATIENCE)).expect("voters");
        }
        cluster
    }

    /// Makes a directory, the first a founder's, and starts it.
    fn make(&mut self, node: NodeId) {
        let disk = SimDisk::new(7);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        match node == id(1) {
            true => Wal::create(&shared, Path::new(DIR), NAME, node).expect("made"),
            false => Wal::create_member(&shared, Path::new(DIR), NAME, node).expect("made"),
        }
        self.disks.insert(node, Slow::on(disk));
        self.start(node);
    }

    fn add(&self, node: NodeId) {
        let leader = self.leader();
        let added = leader.add_learner(node, Member::default(), PATIENCE);
        self.runtime.block_on(added).expect("added");
    }

    fn try_start(&self, node: NodeId) -> Result<ClusterLog, String> {
        let options = Options {
            election: ELECTION,
            heartbeat: Duration::from_millis(150),
            catch_up: self.catch_up,
            ..Options::default()
        };
        let (disk, deaths) = (Arc::new(self.disks[&node].clone()), Arc::clone(&self.deaths));
        let transport = Arc::new(Line(Arc::clone(&self.board)));
        let fatal = Box::new(move |error: &DiskError| {
            deaths.lock().expect("no panics").push((node, error.to_string()));
        });
        let opened = ClusterLog::open(disk, &PathBuf::from(DIR), options, &ThreadSpawner, transport, fatal);
        opened.map(|(log, _)| log).map_err(|error| error.to_string())
    }

    fn start(&self, node: NodeId) {
        let log = self.try_start(node).expect("it opens");
        self.board.members.lock().expect("no panics").insert(node, log);
    }

    fn stop(&self, node: NodeId) {
        let log = self.board.members.lock().expect("no panics").remove(&node).expect("it runs");
        log.close();
    }

    /// Ends a process at once. What it does afterwards nobody hears, and it does not reach the disk.
    fn kill(&self, node: NodeId) {
        let log = self.board.members.lock().expect("no panics").remove(&node).expect("it runs");
        self.disks[&node].disk.restart();
        log.close();
    }

    fn member(&self, node: NodeId) -> ClusterLog {
        self.board.members.lock().expect("no panics")[&node].clone()
    }

    fn leader(&self) -> ClusterLog {
        soon("a leader", || {
            let members: Vec<_> = self.board.members.lock().expect("no panics").values().cloned().collect();
            let leads = members.into_iter().filter(|log| log.authority().borrow().is_some());
            leads.max_by_key(|log| log.authority().borrow().map(|authority| authority.term))
        })
    }

    fn other(&self, than: NodeId) -> NodeId {
        if than == id(2) { id(3) } else { id(2) }
    }

    fn write(&self, log: &ClusterLog, text: &str) {
        let head = log.head().event;
        log.append(head, event(text)).wait().expect("written");
    }

    fn level(&self, log: &ClusterLog) {
        let members: Vec<_> = self.board.members.lock().expect("no panics").values().cloned().collect();
        for member in members {
            soon("everyone to have it", || (member.head().event >= log.head().event).then_some(()));
        }
    }

    /// Who was refused as an older copy, and ended of it.
    fn refused(&self) -> Vec<(NodeId, String)> {
        let deaths = self.deaths.lock().expect("no panics");
        deaths.iter().filter(|(_, why)| why.contains("copy of its directory")).cloned().collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.disks.values().for_each(|disk| disk.stick(&[]));
        let members = std::mem::take(&mut *self.board.members.lock().expect("no panics"));
        members.into_values().for_each(|log| log.close());
    }
}

fn event(text: &str) -> Batch {
    Batch::new(vec![Bytes::copy_from_slice(text.as_bytes())])
}

/// Waits, bounded, for what must come.
fn soon<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn fm_cfg6_a_follower_whose_disk_is_full_votes() {
    let cluster = Cluster::of(3);
    let old = cluster.leader();
    cluster.write(&old, "before");
    cluster.level(&old);
    let (gone, full) = (old.node(), cluster.other(old.node()));
    cluster.disks[&full].disk.set_capacity(Some(0));
    drop(old);
    // Not in good order: nobody hands the lead over.
    cluster.kill(gone);
    let next = cluster.leader();
    assert_ne!(next.node(), gone);
    cluster.write(&next, "without it");
}

#[test]
fn a_slow_disk_under_notes_and_fences_costs_nobody_the_lead() {
    let cluster = Cluster::of(3);
    let leader = cluster.leader();
    cluster.write(&leader, "before");
    cluster.level(&leader);
    let (term, disk) = (leader.status().term, &cluster.disks[&leader.node()]);
    disk.stick(&["committed", "fence", "incarnation"]);
    // Each of them syncs: who the members are is noted, another begins a life, and it is fenced.
    let other = cluster.other(leader.node());
    let address = Member { api: "http://elsewhere".into(), ..Member::default() };
    let changed = cluster.runtime.block_on(leader.readdress(other, address, Duration::from_millis(100)));
    assert!(changed.is_err(), "it waits for the disk");
    cluster.stop(other);
    cluster.start(other);
    let fencing = leader.clone();
    let fencing = std::thread::spawn(move || fencing.fence());
    let since = Instant::now();
    while since.elapsed() < 3 * ELECTION.1 {
        let begun = Instant::now();
        let status = leader.status();
        assert!(begun.elapsed() < Duration::from_secs(1), "whoever asks waits for the disk");
        assert_eq!((status.term, status.fenced), (term, None));
        assert_eq!(status.leader, Some(leader.node()), "it leads on");
        std::thread::sleep(Duration::from_millis(20));
    }
    disk.stick(&[]);
    fencing.join().expect("no panics").expect("fenced");
    soon("another leader", || (cluster.leader().node() != leader.node()).then_some(()));
}

/// Rolled back to a snapshot of its machine while the same life went on, it begins a life that nobody has
/// seen; and so does a copy that was started often.
#[test]
fn an_older_copy_is_refused_however_late_its_life_is() {
    for starts in [0, 5] {
        let mut cluster = Cluster::of(3);
        let leader = cluster.leader();
        let node = cluster.other(leader.node());
        cluster.write(&leader, "before");
        cluster.level(&leader);
        let copy = cluster.disks[&node].disk.copy();
        for _ in 0..starts {
            let disk: Arc<dyn Disk> = Arc::new(copy.clone());
            let fatal = Box::new(|error: &DiskError| panic!("{error}"));
            let dir = Path::new(DIR);
            let opened =
                ClusterLog::open(disk, dir, Options::default(), &ThreadSpawner, Arc::new(Alone), fatal);
            opened.expect("opens").0.close();
        }
        cluster.write(&leader, "it acknowledges this");
        cluster.level(&leader);
        soon("its acknowledgement", || {
            (leader.status().matched.get(&node) >= Some(&leader.head().index)).then_some(())
        });
        cluster.kill(node);
        cluster.disks.insert(node, Slow::on(copy));
        cluster.start(node);
        let (refused, why) = soon("it to be refused", || cluster.refused().pop());
        assert_eq!(refused, node);
        assert!(why.contains("older copy of its directory: it had"), "{why}");
        cluster.stop(node);
        let again = cluster.try_start(node).expect_err("it must not count on");
        assert!(again.contains("must not be started again"), "{again}");
        cluster.write(&leader, "without it");
        assert_eq!(cluster.refused().len(), 1, "nobody else is");
    }
}

#[test]
fn a_member_that_was_only_cut_short_is_never_refused() {
    let cluster = Cluster::of(3);
    for round in 0..6_u64 {
        let leader = cluster.leader();
        let node = if round % 3 == 2 { leader.node() } else { cluster.other(leader.node()) };
        let writer = leader.clone();
        let writing = std::thread::spawn(move || {
            for number in 0..50 {
                let head = writer.head().event;
                if writer.append(head, event(&format!("{round} {number}"))).wait().is_err() {
                    return;
                }
            }
        });
        soon("some writes", || (leader.head().event.get() >= round * 5).then_some(()));
        cluster.kill(node);
        drop(leader);
        writing.join().expect("no panics");
        cluster.start(node);
        let next = cluster.leader();
        cluster.write(&next, "after");
        cluster.level(&next);
    }
    assert_eq!(cluster.refused(), []);
}

#[test]
fn whoever_catches_up_gets_its_share_and_is_not_taken_for_current() {
    let mut cluster = Cluster::of(1);
    cluster.catch_up = ByteSize::from_mib(2);
    cluster.stop(id(1));
    cluster.start(id(1));
    let leader = cluster.leader();
    let large = "x".repeat(64 << 10);
    for _ in 0..16 * 10 {
        cluster.write(&leader, &large);
    }
    cluster.make(id(2));
    let (adding, since) = (leader.clone(), Instant::now());
    cluster.runtime.spawn(async move { adding.add_learner(id(2), Member::default(), PATIENCE).await });
    let follower = cluster.member(id(2));
    let head = leader.head().event;
    let mut slowest = Duration::ZERO;
    while follower.head().event < head {
        let begun = Instant::now();
        cluster.write(&leader, "new");
        slowest = slowest.max(begun.elapsed());
        let status = follower.status();
        if status.event < head {
            assert_eq!(status.age, None, "what it has is older than anything it was told");
        }
        assert!(since.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = since.elapsed();
    println!("10 MiB at 2 MiB/s took {took:?}; the slowest write meanwhile {slowest:?}");
    // What is sent first goes at once: a message, and what closes the distance.
    assert!(took > Duration::from_secs(2), "{took:?}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let head = leader.head();
    soon("it to have everything", || (follower.head() == head).then_some(()));
    let status = soon("it to be current", || Some(follower.status()).filter(|status| status.age.is_some()));
    assert!(status.age >= status.heard && status.heard.is_some());
}

/// Three times as far as a heartbeat lasts, and a little less than a lost message takes.
#[test]
fn entries_reach_a_member_that_is_far_away() {
    let cluster = Cluster::of(2);
    let leader = cluster.leader();
    *cluster.board.delay.lock().expect("no panics") = Duration::from_millis(200);
    cluster.write(&leader, "over a long way");
    assert_eq!(leader.head().event, EventId::new(1));
}

#[test]
fn why_a_start_is_refused_is_said_in_full() {
    let why = "node 2 was started from an older copy of its directory".to_owned();
    let error = OpenMemberError::Refused { dir: DIR.into(), why };
    let text = "/log must not be started again: node 2 was started from an older copy of its directory";
    assert_eq!(error.to_string(), text);
}
