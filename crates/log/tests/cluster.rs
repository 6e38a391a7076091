//! The log of a cluster: the same promises as any log, on one, three and five members in one process,
//! each with a directory of its own on the real disk, and messages passed in memory.

#![allow(
    clippy::disallowed_methods,
    reason = "real members on real threads: a test waits for them in real time"
)]

mod in_process;

use bytes::Bytes;
use holdfast_log::{
    AppendError, AppendFuture, Batch, Head, Kind, Log, ReadError, Record, SnapshotError, SnapshotWriter,
    cluster::{
        ChangeError, ClusterLog, Denied, Failover, HandOverError, Member, Options, Promotion, Said,
        TransportError, recover,
    },
    conformance,
    wal::{self, Wal},
};
use in_process::{Board, ELECTION, HEARTBEAT, Line, PATIENCE, event, id, soon};
use rt::{Disk, RealDisk, SimDisk, ThreadSpawner};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::sync::watch;
use types::{EventId, NodeId};

const NAME: &str = "a test";

/// Members in one process.
struct Cluster {
    board: Arc<Board>,
    dir: tempfile::TempDir,
    failover: Failover,
    runtime: tokio::runtime::Runtime,
    /// Disks that may run full; the real one otherwise.
    disks: BTreeMap<NodeId, SimDisk>,
}

impl Cluster {
    /// A cluster of so many voters. The first founded it; the others were added.
    fn of(count: u128, failover: Failover) -> Self {
        Self::on(count, failover, BTreeMap::new())
    }

    fn on(count: u128, failover: Failover, disks: BTreeMap<NodeId, SimDisk>) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let board = Arc::default();
        let cluster = Self { board, dir, failover, runtime: runtime.expect("a runtime"), disks };
        Wal::create(&cluster.disk(id(1)), &cluster.path(id(1)), NAME, id(1)).expect("made");
        cluster.start(id(1));
        cluster.board.leader();
        for number in 2..=count {
            let disk = cluster.disk(id(number));
            Wal::create_member(&disk, &cluster.path(id(number)), NAME, id(number)).expect("made");
            cluster.start(id(number));
            let first = cluster.board.member(id(1));
            cluster
                .runtime
                .block_on(first.add_learner(id(number), Member::default(), PATIENCE))
                .expect("added");
        }
        if count > 1 {
            let voters = (1..=count).map(id).collect();
            cluster
                .runtime
                .block_on(cluster.board.member(id(1)).set_voters(voters, PATIENCE))
                .expect("voters");
        }
        cluster
    }

    fn path(&self, node: NodeId) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    fn disk(&self, node: NodeId) -> Arc<dyn Disk> {
        self.disks
            .get(&node)
            .map_or_else(|| Arc::new(RealDisk) as Arc<dyn Disk>, |disk| Arc::new(disk.clone()))
    }

    fn start(&self, node: NodeId) {
        let transport = Arc::new(Line { board: Arc::clone(&self.board), from: node });
        let options = Options {
            failover: self.failover,
            election: ELECTION,
            heartbeat: HEARTBEAT,
            ..Options::default()
        };
        let opened = ClusterLog::open(
            self.disk(node),
            &self.path(node),
            options,
            &ThreadSpawner,
            transport,
            Box::new(move |error| {
                // An older copy ends when it is told that it is one.
                assert!(error.to_string().contains("copy of its directory"), "{error}");
            }),
        );
        let (log, _) = opened.expect("it opens");
        self.board.starts(log);
    }

    /// Ends a member as a process ends that has time to.
    fn stop(&self, node: NodeId) {
        self.board.ends(node).close();
    }

    /// Another voter than this one.
    fn other(&self, than: NodeId) -> ClusterLog {
        self.board.member(if than == id(2) { id(3) } else { id(2) })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.board.close();
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
    Arc::new(Led { log: cluster.board.leader(), _cluster: cluster })
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

fn texts(log: &ClusterLog) -> Vec<String> {
    let records = log.read(EventId::ZERO, 10_000).expect("it reads");
    conformance::assert_gapless(&records);
    records.iter().map(|record| String::from_utf8_lossy(&record.bytes).into_owned()).collect()
}

#[test]
fn a_member_starts_again_where_it_was() {
    let cluster = Cluster::of(1, Failover::Automatic);
    for number in 0..10 {
        let log = cluster.board.leader();
        let epoch = log.head().epoch;
        let appended = log.append(EventId::new(number), event(&number.to_string())).wait();
        assert_eq!(appended.expect("written").last.get(), number + 1);
        drop(log);
        cluster.stop(id(1));
        cluster.start(id(1));
        let log = cluster.board.leader();
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
        let leader = cluster.board.leader();
        for _ in 0..20 {
            let head = leader.head().event;
            leader.append(head, event(&format!("{written}"))).wait().expect("a majority lives");
            written += 1;
        }
        let gone = leader.node();
        drop(leader);
        cluster.stop(gone);
        let next = cluster.board.leader();
        assert_ne!(next.node(), gone, "round {round}");
        let expected: Vec<String> = (0..written).map(|number: i32| number.to_string()).collect();
        assert_eq!(texts(&next), expected);
        drop(next);
        cluster.start(gone);
    }
    let head = cluster.board.leader().head().event;
    for number in 1..=3 {
        let member = cluster.board.member(id(number));
        soon("everyone to have everything", || (member.head().event == head).then_some(()));
    }
}

#[test]
fn fm_p7_a_leader_that_is_cut_off_cannot_commit() {
    let cluster = Cluster::of(3, Failover::Automatic);
    let old = cluster.board.leader();
    old.append(EventId::ZERO, event("before")).wait().expect("written");
    cluster.board.cut(old.node());
    let lonely = old.append(EventId::new(1), event("lonely"));
    let new = soon("another leader", || {
        let leader = cluster.board.leader();
        (leader.node() != old.node()).then_some(leader)
    });
    let refused = old.append(EventId::new(2), event("later"));
    new.append(EventId::new(1), event("after")).wait().expect("the majority goes on");
    cluster.board.heal();
    assert_eq!(lonely.wait(), Err(AppendError::Unknown), "only the log can say");
    assert!(refused.wait().is_err());
    soon("the old leader to follow", || (old.head().event.get() == 2).then_some(()));
    assert_eq!(texts(&old), ["before", "after"]);
    assert!(old.authority().borrow().is_none());
}

#[test]
fn nobody_takes_authority_by_itself_where_an_operator_must() {
    let cluster = Cluster::of(3, Failover::Operator);
    let old = cluster.board.leader();
    old.append(EventId::ZERO, event("before")).wait().expect("written");
    for number in 1..=3 {
        let member = cluster.board.member(id(number));
        soon("everyone to have it", || (member.head().event.get() == 1).then_some(()));
    }
    let gone = old.node();
    drop(old);
    cluster.stop(gone);
    // Several election timeouts: what is shown is that nothing happens.
    std::thread::sleep(Duration::from_secs(6));
    for number in (1..=3).map(id).filter(|node| *node != gone) {
        let member = cluster.board.member(number);
        assert!(member.authority().borrow().is_none());
        let refused = member.append(EventId::new(1), event("no")).wait();
        assert!(matches!(refused, Err(AppendError::NoAuthority { .. })), "{refused:?}");
        assert_eq!(texts(&member), ["before"], "reads go on");
    }
    let chosen = cluster.board.member(id(if gone == id(2) { 3 } else { 2 }));
    let promoted = cluster.runtime.block_on(chosen.promote(b"the first is on fire"));
    assert!(matches!(promoted, Promotion::Succeeded(_)), "{promoted:?}");
    assert_eq!(cluster.board.leader().node(), chosen.node());
    assert_eq!(chosen.sequencer(), Some(chosen.node()));
    chosen.append(EventId::new(1), event("after")).wait().expect("the promoted one writes");
}

#[test]
fn a_promotion_is_denied_while_the_primary_lives_and_disturbs_nobody() {
    let cluster = Cluster::of(3, Failover::Operator);
    let old = cluster.board.leader();
    let before = old.position();
    let other = cluster.board.member(if old.node() == id(2) { id(3) } else { id(2) });
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
    let old = cluster.board.leader();
    old.append(EventId::ZERO, event("before")).wait().expect("written");
    cluster.board.level(&old);
    let (gone, chosen) = (old.node(), if old.node() == id(2) { id(3) } else { id(2) });
    drop(old);
    cluster.stop(gone);
    cluster.board.cut(chosen);
    let chosen = cluster.board.member(chosen);
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
        let old = cluster.board.leader();
        let head = old.head().event;
        assert_eq!(head.get(), round);
        old.append(head, event(&format!("{round}"))).wait().expect("written");
        for number in 1..=3 {
            let member = cluster.board.member(id(number));
            soon("everyone to have it", || (member.head().event.get() == round + 1).then_some(()));
        }
        let gone = old.node();
        drop(old);
        cluster.stop(gone);
        let next = cluster.board.member(if gone == id(1) { id(2) } else { id(1) });
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
        let back = cluster.board.member(gone);
        soon("the old primary to follow", || (back.sequencer() == Some(next.node())).then_some(()));
        assert_eq!(back.position().epoch, promoted);
        assert!(back.authority().borrow().is_none(), "it does not take authority back");
    }
}

/// Found by reading: an epoch that was won and lost again within the time of its promotion was told as not
/// won, and committed later by another leader.
#[test]
fn fm_p2_a_promotion_whose_epoch_may_be_committed_by_another_is_unknown() {
    let cluster = Cluster::of(3, Failover::Operator);
    let old = cluster.board.leader();
    old.append(EventId::ZERO, event("before")).wait().expect("written");
    cluster.board.level(&old);
    let (term, last) = (old.position().term, old.position().last.expect("it has entries").index);
    drop(old);
    cluster.stop(id(1));
    let (chosen, third) = (cluster.board.member(id(2)), cluster.board.member(id(3)));
    cluster.board.mute(Some((third.node(), term)));
    let promoted = {
        let chosen = chosen.clone();
        // The lease of the gone primary runs out; until then its follower still vouches for it.
        cluster.runtime.spawn(async move {
            loop {
                match chosen.promote(b"lost meanwhile").await {
                    Promotion::Denied(Denied::PrimaryAlive { .. }) => {}
                    other => return other,
                }
            }
        })
    };
    // A blank entry of the new leader, then that of its epoch.
    let has_epoch = || third.position().last.filter(|it| it.index >= last + 2).map(drop);
    soon("the epoch at another member", has_epoch);
    cluster.board.cut(id(2));
    cluster.board.mute(None);
    cluster.start(id(1));
    soon("another promotion", || match cluster.runtime.block_on(third.promote(b"instead")) {
        Promotion::Succeeded(_) => Some(()),
        Promotion::Denied(Denied::PrimaryAlive { .. }) => None,
        other => panic!("{other:?}"),
    });
    cluster.board.heal();
    assert_eq!(cluster.runtime.block_on(promoted).expect("no panics"), Promotion::Unknown);
    soon("it to follow", || (chosen.sequencer() == Some(third.node())).then_some(()));
    drop((chosen, third));
    cluster.stop(id(2));
    assert!(epochs(&cluster, id(2)).ends_with(&["lost meanwhile".to_owned(), "instead".to_owned()]));
}

/// Why the epochs were opened, as it stands in the log of a member that does not run.
fn epochs(cluster: &Cluster, node: NodeId) -> Vec<String> {
    let mut epochs = Vec::new();
    let scanned = wal::scan(&*cluster.disk(node), &cluster.path(node), EventId::ZERO, |header, parts| {
        if header.kind == Kind::Epoch {
            epochs.push(String::from_utf8_lossy(&parts[0][16..]).into_owned());
        }
    });
    scanned.expect("it reads");
    epochs
}

/// The last of them: why the epoch was opened that is in force.
fn why(cluster: &Cluster, node: NodeId) -> String {
    epochs(cluster, node).pop().unwrap_or_default()
}

#[test]
fn a_handover_loses_nothing_and_says_why() {
    for failover in [Failover::Automatic, Failover::Operator] {
        let cluster = Cluster::of(3, failover);
        let old = cluster.board.leader();
        let next = cluster.other(old.node());
        let writer = old.clone();
        let writing = std::thread::spawn(move || {
            let mut written = 0;
            loop {
                match writer.append(EventId::new(written), event(&written.to_string())).wait() {
                    Ok(_) => written += 1,
                    Err(AppendError::NoAuthority { .. }) => return written,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        soon("some writes", || (old.head().event.get() > 20).then_some(()));
        let before = old.head().epoch;
        let handed = cluster.runtime.block_on(old.hand_over(next.node(), b"a new disk", PATIENCE));
        let handed = handed.expect("handed over");
        println!("{failover:?}: nothing could be written for {:?}", handed.gap);
        let written = writing.join().expect("no panics");
        assert!(handed.epoch > before);
        assert_eq!((old.sequencer(), old.head().epoch), (Some(next.node()), handed.epoch));
        soon("its authority", || next.authority().borrow().is_some().then_some(()));
        assert_eq!(next.head().event.get(), written, "certainly not executed, and nothing lost");
        next.append(EventId::new(written), event("after")).wait().expect("the next one writes");
        assert!(old.authority().borrow().is_none());
        let refused = cluster.runtime.block_on(old.hand_over(next.node(), b"again", PATIENCE));
        assert_eq!(refused, Err(HandOverError::NotPrimary));
        cluster.board.level(&next);
        let node = old.node();
        drop((old, next));
        cluster.stop(node);
        assert_eq!(why(&cluster, node), "a new disk");
    }
}

/// Found by the simulator: an epoch that nobody had asked for said what an earlier one had said.
#[test]
fn what_a_handover_says_is_for_one_epoch_only() {
    let cluster = Cluster::of(2, Failover::Automatic);
    let first = cluster.board.leader();
    let next = cluster.other(first.node());
    for (from, to, why) in [(&first, &next, b"there"), (&next, &first, b"back.")] {
        cluster.runtime.block_on(from.hand_over(to.node(), why, PATIENCE)).expect("handed over");
        soon("its authority", || to.authority().borrow().is_some().then_some(()));
    }
    first.fence().expect("fenced");
    soon("the other to be elected", || next.authority().borrow().is_some().then_some(()));
    let node = next.node();
    drop((first, next));
    cluster.stop(node);
    assert_eq!(why(&cluster, node), "elected");
}

#[test]
fn a_handover_that_fails_leaves_the_old_primary_writing() {
    for failover in [Failover::Automatic, Failover::Operator] {
        let cluster = Cluster::of(3, failover);
        let old = cluster.board.leader();
        let before = old.position();
        let next = cluster.other(old.node()).node();
        let mut written = 0;
        let mut write = |what: &str| {
            old.append(EventId::new(written), event(what)).wait().expect("the old primary writes");
            written += 1;
        };
        let hand_over =
            |to, why: &[u8], ms| cluster.runtime.block_on(old.hand_over(to, why, Duration::from_millis(ms)));
        write("before");
        cluster.board.cut(next);
        write("it lacks this");
        assert!(matches!(
            hand_over(next, b"cut off", 300),
            Err(HandOverError::NotTaken { .. } | HandOverError::Behind { .. })
        ));
        write("after");
        cluster.board.heal();
        assert_eq!(hand_over(id(9), b"nobody", 300), Err(HandOverError::NotAVoter { to: id(9) }));
        assert_eq!(hand_over(old.node(), b"itself", 300), Err(HandOverError::NotAVoter { to: old.node() }));
        assert!(matches!(hand_over(next, &[0; 5000], 300), Err(HandOverError::Reason { .. })));
        cluster.board.member(next).fence().expect("fenced");
        let refused = soon("an answer", || match hand_over(next, b"fenced", 2000) {
            Err(HandOverError::NotTaken { source: TransportError::Refused(why), .. }) => Some(why),
            Err(HandOverError::NotTaken { .. } | HandOverError::Behind { .. }) => None,
            other => panic!("{other:?}"),
        });
        assert!(refused.contains("fenced"), "{refused}");
        write("after all");
        assert_eq!((old.position().term, old.position().epoch), (before.term, before.epoch));
    }
}

#[test]
fn a_leader_that_stops_hands_over_where_elections_are_automatic() {
    let cluster = Cluster::of(3, Failover::Automatic);
    let old = cluster.board.leader();
    old.append(EventId::ZERO, event("before")).wait().expect("written");
    cluster.board.level(&old);
    let (gone, term) = (old.node(), old.status().term);
    drop(old);
    cluster.stop(gone);
    let led = (1..=3).map(id).filter(|node| *node != gone).any(|node| {
        let status = cluster.board.member(node).status();
        status.leader.is_some_and(|leader| leader != gone) && status.term > term
    });
    assert!(led, "another leads before the old one is gone");
}

#[test]
fn a_fenced_primary_sequences_no_more_and_deposes_nobody() {
    for failover in [Failover::Automatic, Failover::Operator] {
        let cluster = Cluster::of(3, failover);
        let old = cluster.board.leader();
        old.append(EventId::ZERO, event("before")).wait().expect("written");
        cluster.board.level(&old);
        let fenced = old.fence().expect("fenced");
        assert_eq!(old.fence().expect("again"), fenced);
        assert_eq!((old.status().fenced, fenced), (Some(fenced), old.head().epoch));
        soon("it to let go", || old.authority().borrow().is_none().then_some(()));
        let refused = old.append(EventId::new(1), event("no")).wait();
        assert!(matches!(refused, Err(AppendError::NoAuthority { .. })), "{refused:?}");
        let denied = cluster.runtime.block_on(old.promote(b"me"));
        assert!(matches!(denied, Promotion::Denied(Denied::Fenced | Denied::IsPrimary)), "{denied:?}");
        let next = match failover {
            Failover::Automatic => cluster.board.leader(),
            Failover::Operator => {
                let next = cluster.other(old.node());
                soon("a promotion", || match cluster.runtime.block_on(next.promote(b"fenced")) {
                    Promotion::Succeeded(_) => Some(()),
                    // Its followers vouch for it until its lease has run out.
                    Promotion::Denied(Denied::PrimaryAlive { .. }) => None,
                    other => panic!("{other:?}"),
                });
                next
            }
        };
        assert_ne!(next.node(), old.node());
        next.append(EventId::new(1), event("after")).wait().expect("the next one writes");
        soon("the old one to follow", || (old.head().event.get() == 2).then_some(()));
        soon("the fence to be lifted", || old.fenced().is_none().then_some(()));
        cluster.runtime.block_on(next.hand_over(old.node(), b"back", PATIENCE)).expect("it may lead again");
    }
}

#[test]
fn a_fence_on_a_follower_changes_nothing_for_the_others_and_outlives_restarts() {
    let cluster = Cluster::of(3, Failover::Automatic);
    let old = cluster.board.leader();
    old.append(EventId::ZERO, event("before")).wait().expect("written");
    cluster.board.level(&old);
    let (leader, term) = (old.node(), old.status().term);
    let node = cluster.other(leader).node();
    cluster.stop(node);
    let found = wal::fence(&cluster.disk(node), &cluster.path(node)).expect("fenced offline");
    assert_eq!((found.fenced, found.committed.event.get()), (Some(old.head().epoch), 1));
    assert_eq!(wal::fence(&cluster.disk(node), &cluster.path(node)).expect("again"), found);
    cluster.start(node);
    let member = cluster.board.member(node);
    assert_eq!(member.fenced(), found.fenced);
    old.append(EventId::new(1), event("after")).wait().expect("the primary goes on");
    cluster.board.level(&old);
    assert_eq!((old.status().term, old.authority().borrow().is_some()), (term, true), "nobody is deposed");
    // It votes: without it the other voter would be no majority.
    drop(old);
    cluster.stop(leader);
    let next = cluster.board.leader();
    assert!(next.node() != node && next.node() != leader);
    soon("the fence to be lifted", || member.fenced().is_none().then_some(()));
    drop(member);
    cluster.stop(node);
    cluster.start(node);
    assert_eq!(cluster.board.member(node).fenced(), None, "lifted for good");
}

#[test]
fn fm_p3_what_a_cut_off_primary_wrote_alone_is_kept_aside() {
    let cluster = Cluster::of(3, Failover::Automatic);
    let old = cluster.board.leader();
    old.append(EventId::ZERO, event("before")).wait().expect("written");
    cluster.board.level(&old);
    cluster.board.cut(old.node());
    let lonely = [old.append(EventId::new(1), event("lonely")), old.append(EventId::new(2), event("too"))];
    let new = soon("another leader", || {
        let leader = cluster.board.leader();
        (leader.node() != old.node()).then_some(leader)
    });
    new.append(EventId::new(1), event("after")).wait().expect("the majority goes on");
    cluster.board.heal();
    assert_eq!(lonely.map(AppendFuture::wait), [Err(AppendError::Unknown), Err(AppendError::Unknown)]);
    soon("the old leader to follow", || (old.head().event.get() == 2).then_some(()));
    let aside = old.status().aside;
    assert_eq!(aside.len(), 1);
    let mut kept = Vec::new();
    let scanned = wal::scan_aside(&RealDisk, &aside[0].path, |header, parts| {
        kept.extend(parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()));
        assert!((aside[0].first..=aside[0].last).contains(&header.index));
    });
    scanned.expect("it reads");
    assert_eq!(kept, ["lonely", "too"]);
    assert_eq!(wal::aside(&RealDisk, &cluster.path(old.node())).expect("lists"), aside);
    assert_eq!(texts(&old), ["before", "after"]);
}

#[test]
fn fm_cfg3_a_cluster_that_lost_its_majority_is_recovered_as_another() {
    let mut cluster = Cluster::of(3, Failover::Automatic);
    let leader = cluster.board.leader();
    for number in 0..5 {
        leader.append(EventId::new(number), event(&number.to_string())).wait().expect("written");
    }
    cluster.board.level(&leader);
    drop(leader);
    (1..=3).map(id).for_each(|node| cluster.stop(node));
    let (disk, dir) = (cluster.disk(id(1)), cluster.path(id(1)));
    let before = wal::position(&disk, &dir).expect("reads");
    assert_eq!((before.cluster.as_str(), before.tail.event.get()), (NAME, 5));
    let anew = |name, node| recover(&disk, &dir, name, node, Member::default(), b"two machines burnt");
    assert!(anew(NAME, id(7)).is_err(), "its old members must not speak to it");
    assert!(anew("another", id(1)).is_err(), "a former member must not be taken for the new one");
    assert_eq!(wal::position(&disk, &dir).expect("reads"), before, "nothing was changed");
    let found = anew("another", id(7)).expect("recovered");
    assert_eq!((found.cluster.as_str(), found.node, found.committed), ("another", id(7), found.tail));
    assert_eq!(found.tail.epoch, before.tail.epoch.plus(1));
    assert_eq!(anew("another", id(7)).expect("again"), found);
    assert_eq!(why(&cluster, id(1)), "two machines burnt");
    std::fs::rename(&dir, cluster.path(id(7))).expect("moves");
    cluster.failover = Failover::Operator;
    cluster.start(id(7));
    let log = cluster.board.leader();
    assert_eq!((log.node(), log.status().voters), (id(7), BTreeSet::from([id(7)])));
    log.append(EventId::new(5), event("5")).wait().expect("written");
    assert_eq!(texts(&log), ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn a_member_from_an_older_copy_of_its_directory_is_refused() {
    let cluster = Cluster::of(3, Failover::Automatic);
    let leader = cluster.board.leader();
    let node = cluster.other(leader.node()).node();
    cluster.stop(node);
    let (dir, copy) = (cluster.path(node), cluster.dir.path().join("copy"));
    let copied = std::process::Command::new("cp").arg("-r").args([&dir, &copy]).status();
    assert!(copied.expect("cp runs").success());
    cluster.start(node);
    leader.append(EventId::ZERO, event("it acknowledges this")).wait().expect("written");
    cluster.board.level(&leader);
    // Whoever it has spoken to knows of its later life.
    let said = cluster.runtime.block_on(cluster.board.member(node).validate()).said;
    assert!(said.values().all(|said| !matches!(said, Said::Silent(_))), "{said:?}");
    cluster.stop(node);
    std::fs::remove_dir_all(&dir).expect("removed");
    std::fs::rename(&copy, &dir).expect("moved");
    cluster.start(node);
    let stale = cluster.board.member(node);
    // The copy was started as often as the original was: it is taken for its twin.
    let said = cluster.runtime.block_on(stale.validate()).said;
    for said in said.values() {
        let Said::Silent(TransportError::Refused(why)) = said else { panic!("{said:?}") };
        assert!(why.contains("copy of its directory"), "{why}");
    }
    leader.append(EventId::new(1), event("without it")).wait().expect("the others are a majority");
}

#[test]
fn fm_cfg6_a_leader_without_space_hands_over_and_serves_reads() {
    let disks: BTreeMap<NodeId, SimDisk> = (1..=3).map(|number| (id(number), SimDisk::new(7))).collect();
    let cluster = Cluster::on(3, Failover::Automatic, disks);
    let old = cluster.board.leader();
    old.append(EventId::ZERO, event("before")).wait().expect("written");
    cluster.board.level(&old);
    let disk = &cluster.disks[&old.node()];
    disk.set_capacity(Some(disk.used()));
    let large = Batch::new(vec![Bytes::from(vec![b'x'; 3 << 20])]);
    let mut written = 1;
    let next = soon("another leader", || {
        match old.append(EventId::new(written), large.clone()).wait() {
            Ok(_) => written += 1,
            Err(AppendError::NoSpace | AppendError::NoAuthority { .. } | AppendError::Unknown) => {}
            Err(error) => panic!("{error}"),
        }
        let leader = cluster.board.leader();
        (leader.node() != old.node()).then_some(leader)
    });
    let head = next.head().event;
    next.append(head, event("after")).wait().expect("the others have space");
    assert_eq!(texts(&old)[0], "before", "reads go on");
    disk.set_capacity(None);
    soon("it to have everything", || (old.head().event == head.next()).then_some(()));
    soon("its space to be seen", || (!old.status().short_of_space).then_some(()));
}

#[test]
fn members_are_taken_out_once_and_never_the_last_voter() {
    let cluster = Cluster::of(3, Failover::Automatic);
    let leader = cluster.board.leader();
    let status = leader.status();
    assert_eq!((status.epoch, status.committed), (leader.head().epoch, leader.head().index));
    assert!(status.heard.is_some_and(|age| age < PATIENCE));
    cluster.board.cut(leader.node());
    let added = leader.add_learner(id(9), Member::default(), Duration::from_millis(300));
    let added = cluster.runtime.block_on(added);
    assert!(matches!(added, Err(ChangeError::NotInTime { .. })), "{added:?}");
    cluster.board.heal();
    let leader = soon("the learner, which may still come about, or not", || {
        let leader = cluster.board.leader();
        cluster.runtime.block_on(leader.remove(id(9), PATIENCE)).ok().map(|()| leader)
    });
    let others: Vec<NodeId> = (1..=3).map(id).filter(|node| *node != leader.node()).collect();
    for node in &others {
        soon("a follower to hear the leader", || cluster.board.member(*node).status().heard);
        for _ in 0..2 {
            cluster.runtime.block_on(leader.remove(*node, PATIENCE)).expect("removed");
        }
        assert!(!leader.status().members.contains_key(node));
    }
    let last = cluster.runtime.block_on(leader.remove(leader.node(), PATIENCE));
    assert_eq!(last, Err(ChangeError::LastVoter { node: leader.node() }));
}
