//! The log of a cluster: the same promises as any log, on one, three and five members in one process,
//! each with a directory of its own on the real disk, and messages passed in memory.

#![allow(
    clippy::disallowed_methods,
    reason = "real members on real threads: a test waits for them in real time"
)]

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use holdfast_log::{
    AppendError, AppendFuture, Batch, Head, Log, ReadError, Record, SnapshotError, SnapshotWriter,
    cluster::{ClusterLog, Denied, Failover, Member, Options, Promotion, Transport, TransportError},
    conformance,
    wal::Wal,
};
use rt::{Disk, RealDisk, ThreadSpawner};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::watch;
use types::{EventId, NodeId};

const NAME: &str = "a test";

/// Carries messages between members of this process, and can be cut in one direction.
#[derive(Default)]
struct Switchboard {
    members: Mutex<BTreeMap<NodeId, ClusterLog>>,
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
}

struct Line {
    board: Arc<Switchboard>,
    from: NodeId,
}

impl Transport for Line {
    fn call(
        &self,
        to: NodeId,
        _member: &Member,
        message: Bytes,
        _patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let (board, from) = (Arc::clone(&self.board), self.from);
        async move {
            let gone = || TransportError::Unreachable("cut".into());
            let is_cut = |way: &(NodeId, NodeId)| board.cut.lock().expect("no panics").contains(way);
            if is_cut(&(from, to)) {
                return Err(gone());
            }
            let peer = board.members.lock().expect("no panics").get(&to).cloned().ok_or_else(gone)?;
            let answer = peer.receive(message).await;
            if is_cut(&(to, from)) { Err(TransportError::Lost("cut".into())) } else { answer }
        }
        .boxed()
    }
}

/// Members in one process.
struct Cluster {
    board: Arc<Switchboard>,
    dir: tempfile::TempDir,
    failover: Failover,
    runtime: tokio::runtime::Runtime,
}

fn id(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

impl Cluster {
    /// A cluster of so many voters. The first founded it; the others were added.
    fn of(count: u128, failover: Failover) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let board = Arc::default();
        let cluster = Self { board, dir, failover, runtime: runtime.expect("a runtime") };
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        Wal::create(&disk, &cluster.path(id(1)), NAME, id(1)).expect("made");
        cluster.start(id(1));
        cluster.leader();
        for number in 2..=count {
            Wal::create_member(&disk, &cluster.path(id(number)), NAME, id(number)).expect("made");
            cluster.start(id(number));
            let first = cluster.member(id(1));
            cluster.runtime.block_on(first.add_learner(id(number), Member::default())).expect("added");
        }
        if count > 1 {
            let voters = (1..=count).map(id).collect();
            cluster.runtime.block_on(cluster.member(id(1)).set_voters(voters)).expect("voters");
        }
        cluster
    }

    fn path(&self, node: NodeId) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    fn start(&self, node: NodeId) {
        let transport = Arc::new(Line { board: Arc::clone(&self.board), from: node });
        // Patient, because everything in these tests shares two cores.
        let options = Options {
            failover: self.failover,
            election: (Duration::from_millis(1500), Duration::from_millis(2500)),
            heartbeat: Duration::from_millis(150),
            ..Options::default()
        };
        let opened = ClusterLog::open(
            Arc::new(RealDisk),
            &self.path(node),
            options,
            &ThreadSpawner,
            transport,
            Box::new(|error| panic!("{error}")),
        );
        let (log, _) = opened.expect("it opens");
        self.board.members.lock().expect("no panics").insert(node, log);
    }

    /// Ends a member as a process ends that has time to.
    fn stop(&self, node: NodeId) {
        let log = self.board.members.lock().expect("no panics").remove(&node).expect("it runs");
        log.close();
    }

    fn member(&self, node: NodeId) -> ClusterLog {
        self.board.members.lock().expect("no panics")[&node].clone()
    }

    /// Waits for the one that may write.
    fn leader(&self) -> ClusterLog {
        soon("a leader", || {
            let members: Vec<_> = self.board.members.lock().expect("no panics").values().cloned().collect();
            members
                .into_iter()
                .filter(|log| log.authority().borrow().is_some())
                .max_by_key(|log| log.authority().borrow().map(|authority| authority.term))
        })
    }

    fn cut(&self, node: NodeId) {
        let others: Vec<_> = self.board.members.lock().expect("no panics").keys().copied().collect();
        let mut cut = self.board.cut.lock().expect("no panics");
        for other in others.into_iter().filter(|other| *other != node) {
            cut.extend([(node, other), (other, node)]);
        }
    }

    fn heal(&self) {
        self.board.cut.lock().expect("no panics").clear();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let members = std::mem::take(&mut *self.board.members.lock().expect("no panics"));
        members.into_values().for_each(|log| log.close());
    }
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

/// The log of the member that leads, together with the cluster it lives in.
struct Led {
    log: ClusterLog,
    _cluster: Cluster,
}

impl Log for Led {
    fn head(&self) -> Head {
        self.log.head()
    }
    fn append(&self, expected: EventId, batch: Batch) -> AppendFuture {
        self.log.append(expected, batch)
    }
    fn read(&self, after: EventId, max: usize) -> Result<Vec<Record>, ReadError> {
        self.log.read(after, max)
    }
    fn subscribe(&self) -> watch::Receiver<EventId> {
        self.log.subscribe()
    }
    fn save_snapshot(&self, at: EventId, write: SnapshotWriter) -> Result<(), SnapshotError> {
        self.log.save_snapshot(at, write)
    }
    fn load_snapshot(&self) -> Result<Option<(EventId, Vec<u8>)>, SnapshotError> {
        self.log.load_snapshot()
    }
}

fn led(count: u128) -> Arc<dyn Log> {
    let cluster = Cluster::of(count, Failover::Automatic);
    Arc::new(Led { log: cluster.leader(), _cluster: cluster })
}

#[test]
fn one_member_keeps_what_every_log_promises() {
    conformance::all(&|| led(1));
}

#[test]
fn three_members_keep_what_every_log_promises() {
    conformance::all(&|| led(3));
}

#[test]
fn five_members_keep_what_every_log_promises() {
    conformance::all(&|| led(5));
}

fn event(text: &str) -> Batch {
    Batch::new(vec![Bytes::copy_from_slice(text.as_bytes())])
}

fn texts(log: &ClusterLog) -> Vec<String> {
    let records = log.read(EventId::ZERO, 10_000).expect("it reads");
    conformance::assert_gapless(&records);
    records.iter().map(|record| String::from_utf8_lossy(&record.bytes).into_owned()).collect()
}

#[test]
fn a_member_starts_again_where_it_was() {
    let cluster = Cluster::of(1, Failover::Automatic);
    for number in 0..10 {
        let log = cluster.leader();
        let epoch = log.head().epoch;
        let appended = log.append(EventId::new(number), event(&number.to_string())).wait();
        assert_eq!(appended.expect("written").last.get(), number + 1);
        drop(log);
        cluster.stop(id(1));
        cluster.start(id(1));
        let log = cluster.leader();
        assert!(log.head().epoch > epoch, "elected again, never simply resumed");
        assert_eq!(log.head().event.get(), number + 1);
        assert_eq!(texts(&log).len() as u64, number + 1);
    }
}

#[test]
fn what_was_acknowledged_outlives_its_leader() {
    let cluster = Cluster::of(3, Failover::Automatic);
    let mut written = 0;
    for round in 0..5 {
        let leader = cluster.leader();
        for _ in 0..20 {
            let head = leader.head().event;
            leader.append(head, event(&format!("{written}"))).wait().expect("a majority lives");
            written += 1;
        }
        let gone = leader.node();
        drop(leader);
        cluster.stop(gone);
        let next = cluster.leader();
        assert_ne!(next.node(), gone, "round {round}");
        let expected: Vec<String> = (0..written).map(|number: i32| number.to_string()).collect();
        assert_eq!(texts(&next), expected);
        drop(next);
        cluster.start(gone);
    }
    let head = cluster.leader().head().event;
    for number in 1..=3 {
        let member = cluster.member(id(number));
        soon("everyone to have everything", || (member.head().event == head).then_some(()));
    }
}

#[test]
fn fm_p7_a_leader_that_is_cut_off_cannot_commit() {
    let cluster = Cluster::of(3, Failover::Automatic);
    let old = cluster.leader();
    old.append(EventId::ZERO, event("before")).wait().expect("written");
    cluster.cut(old.node());
    let lonely = old.append(EventId::new(1), event("lonely"));
    let new = soon("another leader", || {
        let leader = cluster.leader();
        (leader.node() != old.node()).then_some(leader)
    });
    let refused = old.append(EventId::new(2), event("later"));
    new.append(EventId::new(1), event("after")).wait().expect("the majority goes on");
    cluster.heal();
    assert_eq!(lonely.wait(), Err(AppendError::Unknown), "only the log can say");
    assert!(refused.wait().is_err());
    soon("the old leader to follow", || (old.head().event.get() == 2).then_some(()));
    assert_eq!(texts(&old), ["before", "after"]);
    assert!(old.authority().borrow().is_none());
}

#[test]
fn nobody_takes_authority_by_itself_where_an_operator_must() {
    let cluster = Cluster::of(3, Failover::Operator);
    let old = cluster.leader();
    old.append(EventId::ZERO, event("before")).wait().expect("written");
    for number in 1..=3 {
        let member = cluster.member(id(number));
        soon("everyone to have it", || (member.head().event.get() == 1).then_some(()));
    }
    let gone = old.node();
    drop(old);
    cluster.stop(gone);
    // Several election timeouts: what is shown is that nothing happens.
    std::thread::sleep(Duration::from_secs(6));
    for number in (1..=3).map(id).filter(|node| *node != gone) {
        let member = cluster.member(number);
        assert!(member.authority().borrow().is_none());
        let refused = member.append(EventId::new(1), event("no")).wait();
        assert!(matches!(refused, Err(AppendError::NoAuthority { .. })), "{refused:?}");
        assert_eq!(texts(&member), ["before"], "reads go on");
    }
    let chosen = cluster.member(id(if gone == id(2) { 3 } else { 2 }));
    let promoted = cluster.runtime.block_on(chosen.promote(b"the first is on fire"));
    assert!(matches!(promoted, Promotion::Succeeded(_)), "{promoted:?}");
    assert_eq!(cluster.leader().node(), chosen.node());
    assert_eq!(chosen.sequencer(), Some(chosen.node()));
    chosen.append(EventId::new(1), event("after")).wait().expect("the promoted one writes");
}

#[test]
fn a_promotion_is_denied_while_the_primary_lives_and_disturbs_nobody() {
    let cluster = Cluster::of(3, Failover::Operator);
    let old = cluster.leader();
    let before = old.position();
    let other = cluster.member(if old.node() == id(2) { id(3) } else { id(2) });
    for _ in 0..3 {
        let denied = cluster.runtime.block_on(other.promote(b"because"));
        assert!(matches!(denied, Promotion::Denied(Denied::PrimaryAlive { .. })), "{denied:?}");
    }
    let after = old.position();
    assert_eq!(
        (after.term, after.epoch, after.leads),
        (before.term, before.epoch, true),
        "as if never asked"
    );
    old.append(EventId::ZERO, event("still")).wait().expect("the primary goes on");
}

#[test]
fn fm_p6_a_promotion_without_a_majority_is_denied_by_name() {
    let cluster = Cluster::of(3, Failover::Operator);
    let old = cluster.leader();
    old.append(EventId::ZERO, event("before")).wait().expect("written");
    let (gone, chosen) = (old.node(), if old.node() == id(2) { id(3) } else { id(2) });
    drop(old);
    cluster.stop(gone);
    cluster.cut(chosen);
    let chosen = cluster.member(chosen);
    let epoch = chosen.position().epoch;
    let denied = cluster.runtime.block_on(chosen.promote(b"because"));
    let missing = Denied::MajorityMissing { promised: 1, voters: 3, needed: 2 };
    assert_eq!(denied, Promotion::Denied(missing));
    assert_eq!(chosen.position().epoch, epoch);
    assert_eq!(cluster.runtime.block_on(chosen.promote(b"again")), denied, "asking again changes nothing");
}

#[test]
fn fm_p3_promotions_go_there_and_back_and_the_old_primary_follows() {
    let cluster = Cluster::of(3, Failover::Operator);
    for round in 0..4_u64 {
        let old = cluster.leader();
        let head = old.head().event;
        assert_eq!(head.get(), round);
        old.append(head, event(&format!("{round}"))).wait().expect("written");
        for number in 1..=3 {
            let member = cluster.member(id(number));
            soon("everyone to have it", || (member.head().event.get() == round + 1).then_some(()));
        }
        let gone = old.node();
        drop(old);
        cluster.stop(gone);
        let next = cluster.member(if gone == id(1) { id(2) } else { id(1) });
        // The lease of the gone primary runs out; until then its followers still vouch for it.
        let promoted = soon("a promotion", || {
            match cluster.runtime.block_on(next.promote(format!("round {round}").as_bytes())) {
                Promotion::Succeeded(epoch) => Some(epoch),
                Promotion::Denied(Denied::PrimaryAlive { .. }) => None,
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(next.position().epoch, promoted);
        cluster.start(gone);
        let back = cluster.member(gone);
        soon("the old primary to follow", || (back.sequencer() == Some(next.node())).then_some(()));
        assert_eq!(back.position().epoch, promoted);
        assert!(back.authority().borrow().is_none(), "it does not take authority back");
    }
}
