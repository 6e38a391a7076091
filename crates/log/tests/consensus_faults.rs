//! Members whose disks are full or slow, that lag, are far away, or are older copies of themselves.

#![allow(
    clippy::disallowed_methods,
    reason = "real members on real threads: a test waits for them in real time"
)]

mod hooked_disk;
mod in_process;

use holdfast_log::{
    Log,
    cluster::{Alone, ClusterLog, Member, Options},
    wal::{OpenMemberError, Wal},
};
use hooked_disk::HookedDisk;
use in_process::{Board, ELECTION, HEARTBEAT, Line, PATIENCE, event, id, soon};
use rt::{Disk, DiskError, Operation, SimDisk, ThreadSpawner};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};
use types::{ByteSize, EventId, NodeId};

const NAME: &str = "faults";
const DIR: &str = "/log";
/// A disk whose syncs of some files do not return while it is stuck.
#[derive(Clone)]
struct Slow {
    disk: SimDisk,
    hooked: HookedDisk,
    stuck: Arc<(Mutex<Vec<&'static str>>, Condvar)>,
}

impl Slow {
    fn on(disk: SimDisk) -> Self {
        let stuck: Arc<(Mutex<Vec<&str>>, Condvar)> = Arc::default();
        let names = Arc::clone(&stuck);
        let hooked = HookedDisk::new(disk.clone(), move |operation, path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_stuck = |names: &mut Vec<&str>| names.iter().any(|slow| name.starts_with(slow));
            if operation == Operation::Sync {
                let stuck = names.0.lock().expect("no panics");
                drop(names.1.wait_while(stuck, is_stuck).expect("no panics"));
            }
        });
        Self { disk, hooked, stuck }
    }

    /// From now on only these are slow.
    fn stick(&self, names: &[&'static str]) {
        *self.stuck.0.lock().expect("no panics") = names.to_vec();
        self.stuck.1.notify_all();
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
            cluster.runtime.block_on(cluster.board.leader().set_voters(voters, PATIENCE)).expect("voters");
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
        let leader = self.board.leader();
        let added = leader.add_learner(node, Member::default(), PATIENCE);
        self.runtime.block_on(added).expect("added");
    }

    fn try_start(&self, node: NodeId) -> Result<ClusterLog, String> {
        let options = Options {
            election: ELECTION,
            heartbeat: HEARTBEAT,
            catch_up: self.catch_up,
            ..Options::default()
        };
        let (disk, deaths) = (Arc::new(self.disks[&node].hooked.clone()), Arc::clone(&self.deaths));
        let transport = Arc::new(Line { board: Arc::clone(&self.board), from: node });
        let fatal = Box::new(move |error: &DiskError| {
            deaths.lock().expect("no panics").push((node, error.to_string()));
        });
        let opened = ClusterLog::open(disk, &PathBuf::from(DIR), options, &ThreadSpawner, transport, fatal);
        opened.map(|(log, _)| log).map_err(|error| error.to_string())
    }

    fn start(&self, node: NodeId) {
        self.board.starts(self.try_start(node).expect("it opens"));
    }

    fn stop(&self, node: NodeId) {
        self.board.ends(node).close();
    }

    /// Ends a process at once. What it does afterwards nobody hears, and it does not reach the disk.
    fn kill(&self, node: NodeId) {
        let log = self.board.ends(node);
        self.disks[&node].disk.restart();
        log.close();
    }

    fn other(&self, than: NodeId) -> NodeId {
        if than == id(2) { id(3) } else { id(2) }
    }

    fn write(&self, log: &ClusterLog, text: &str) {
        let head = log.head().event;
        log.append(head, event(text)).wait().expect("written");
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
        self.board.close();
    }
}

#[test]
fn fm_cfg6_a_follower_whose_disk_is_full_votes() {
    let cluster = Cluster::of(3);
    let old = cluster.board.leader();
    cluster.write(&old, "before");
    cluster.board.level(&old);
    let (gone, full) = (old.node(), cluster.other(old.node()));
    cluster.disks[&full].disk.set_capacity(Some(0));
    drop(old);
    // Not in good order: nobody hands the lead over.
    cluster.kill(gone);
    let next = cluster.board.leader();
    assert_ne!(next.node(), gone);
    cluster.write(&next, "without it");
}

#[test]
fn a_slow_disk_under_notes_and_fences_costs_nobody_the_lead() {
    let cluster = Cluster::of(3);
    let leader = cluster.board.leader();
    cluster.write(&leader, "before");
    cluster.board.level(&leader);
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
    soon("another leader", || (cluster.board.leader().node() != leader.node()).then_some(()));
}

/// Rolled back to a snapshot of its machine while the same life went on, it begins a life that nobody has
/// seen; and so does a copy that was started often.
#[test]
fn an_older_copy_is_refused_however_late_its_life_is() {
    for starts in [0, 5] {
        let mut cluster = Cluster::of(3);
        let leader = cluster.board.leader();
        let node = cluster.other(leader.node());
        cluster.write(&leader, "before");
        cluster.board.level(&leader);
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
        cluster.board.level(&leader);
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
        let leader = cluster.board.leader();
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
        let next = cluster.board.leader();
        cluster.write(&next, "after");
        cluster.board.level(&next);
    }
    assert_eq!(cluster.refused(), []);
}

#[test]
fn whoever_catches_up_gets_its_share_and_is_not_taken_for_current() {
    let mut cluster = Cluster::of(1);
    cluster.catch_up = ByteSize::from_mib(2);
    cluster.stop(id(1));
    cluster.start(id(1));
    let leader = cluster.board.leader();
    let large = "x".repeat(64 << 10);
    for _ in 0..16 * 10 {
        cluster.write(&leader, &large);
    }
    cluster.make(id(2));
    let (adding, since) = (leader.clone(), Instant::now());
    cluster.runtime.spawn(async move { adding.add_learner(id(2), Member::default(), PATIENCE).await });
    let follower = cluster.board.member(id(2));
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
    let leader = cluster.board.leader();
    cluster.board.delay(Duration::from_millis(200));
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
