//! A member's damaged log is repaired from members at work: whoever leads proves it first, and what a
//! read finds damaged is repaired by the next start.

#![allow(
    clippy::disallowed_methods,
    reason = "real members on real threads: a test waits for them in real time"
)]

mod in_process;

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use holdfast_log::{
    Batch, Log, ReadError, Record,
    cluster::{
        self, Answer, ClusterLog, Member, NotRepaired, OpenClusterError, Options, Others, Question,
        TransportError,
    },
    wal::{self, Repaired, Wal},
};
use in_process::{Board, ELECTION, HEARTBEAT, Line, PATIENCE, id, soon};
use rt::{Disk, SimDisk, ThreadSpawner};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use types::{EventId, NodeId};

const DIR: &str = "/log";

/// The others, as one that repairs asks them.
struct Asked<'a>(&'a Board, NodeId);

impl Others for Asked<'_> {
    fn ask(
        &self,
        to: NodeId,
        _member: &Member,
        question: &Question,
    ) -> BoxFuture<'static, Result<Answer, TransportError>> {
        let (peer, question) = (self.0.reach(self.1, to), question.clone());
        async move { peer?.answer(question).await.map_err(TransportError::Refused) }.boxed()
    }

    fn tell(&self, _how: &str) {}
}

/// Three members, each on a disk of its own.
struct Three {
    board: Arc<Board>,
    disks: BTreeMap<NodeId, SimDisk>,
    deaths: Arc<Mutex<Vec<String>>>,
    runtime: tokio::runtime::Runtime,
}

fn small() -> wal::Options {
    wal::Options { segment_bytes: 2048, reserve_bytes: 1024, recent_bytes: 300, ..wal::Options::default() }
}

impl Three {
    fn new() -> Self {
        let disks: BTreeMap<NodeId, SimDisk> =
            (1..=3).map(|number| (id(number), SimDisk::new(number as u64))).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let (board, deaths) = Default::default();
        let three = Self { board, disks, deaths, runtime: runtime.expect("a runtime") };
        Wal::create(&three.disk(id(1)), Path::new(DIR), "repairs", id(1)).expect("made");
        three.start(id(1)).expect("opens");
        let first = three.board.leader();
        for number in 2..=3 {
            Wal::create_member(&three.disk(id(number)), Path::new(DIR), "repairs", id(number)).expect("made");
            three.start(id(number)).expect("opens");
            let added = first.add_learner(id(number), Member::default(), PATIENCE);
            three.runtime.block_on(added).expect("added");
        }
        let voters = (1..=3).map(id).collect();
        three.runtime.block_on(first.set_voters(voters, PATIENCE)).expect("voters");
        three
    }

    fn disk(&self, node: NodeId) -> Arc<dyn Disk> {
        Arc::new(self.disks[&node].clone())
    }

    fn start(&self, node: NodeId) -> Result<ClusterLog, OpenClusterError> {
        let options =
            Options { election: ELECTION, heartbeat: HEARTBEAT, wal: small(), ..Options::default() };
        let way = Arc::new(Line { board: Arc::clone(&self.board), from: node });
        let deaths = Arc::clone(&self.deaths);
        let fatal = Box::new(move |error: &rt::DiskError| {
            deaths.lock().expect("no panics").push(error.to_string());
        });
        let (log, _) =
            ClusterLog::open(self.disk(node), Path::new(DIR), options, &ThreadSpawner, way, fatal)?;
        self.board.starts(log.clone());
        Ok(log)
    }

    fn stop(&self, node: NodeId) {
        self.board.ends(node).close();
    }

    fn repair(&self, node: NodeId) -> Result<Vec<Repaired>, NotRepaired> {
        let disk = self.disk(node);
        self.runtime.block_on(cluster::repair(&disk, Path::new(DIR), &small(), &Asked(&self.board, node)))
    }

    fn follower(&self) -> NodeId {
        let leader = self.board.leader().node();
        [id(2), id(3), id(1)].into_iter().find(|node| *node != leader).expect("one of them")
    }

    fn write(&self, count: usize) {
        let log = self.board.leader();
        for number in 0..count {
            let batch = Batch::new(vec![Bytes::from(format!("event {number} {}", "x".repeat(100)))]);
            log.append(log.head().event, batch).wait().expect("appended");
        }
    }

    fn level(&self, node: NodeId) -> ClusterLog {
        let head = self.board.leader().head().event;
        let log = self.board.member(node);
        soon("it to have everything", || (log.head().event >= head).then_some(()));
        log
    }

    fn all(&self, log: &ClusterLog) -> Vec<Record> {
        log.read(EventId::ZERO, usize::MAX).expect("reads")
    }

    fn file(&self, node: NodeId, suffix: &str) -> PathBuf {
        let files = self.disks[&node].files().into_iter().map(|(path, _)| path);
        files.filter(|path| path.to_string_lossy().ends_with(suffix)).max().expect("such a file")
    }
}

impl Drop for Three {
    fn drop(&mut self) {
        self.board.close();
    }
}

#[test]
fn fm_cfg6_a_damaged_end_is_taken_from_a_leader_that_proves_that_it_leads() {
    let three = Three::new();
    three.write(40);
    let hurt = three.follower();
    three.level(hurt);
    three.stop(hurt);
    let path = three.file(hurt, ".seg");
    let bytes = three.disks[&hurt].read(&path).expect("reads");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("has content");
    three.disks[&hurt].damage(&path, |bytes| bytes[end] ^= 1);
    let error = three.start(hurt).expect_err("damaged");
    assert!(error.is_damage(), "{error}");
    three.write(10);
    // One that leads and hears nobody does not say that it leads.
    let leader = three.board.leader();
    three.board.cut(leader.node());
    let asked = three.runtime.block_on(leader.answer(Question::Lead));
    assert!(asked.is_err(), "{asked:?}");
    three.board.heal();

    let done = three.repair(hurt).expect("repaired");
    assert_eq!(done.len(), 1, "{done:?}");
    three.start(hurt).expect("opens");
    three.write(10);
    let log = three.level(hurt);
    assert_eq!(three.all(&log), three.all(&three.board.leader()));
    assert_eq!(wal::quarantined(&*three.disk(hurt), Path::new(DIR)).expect("lists"), done[0].kept);
}

#[test]
fn fm_cfg6_what_a_read_finds_damaged_is_repaired_by_the_next_start() {
    let three = Three::new();
    three.write(60);
    let hurt = three.follower();
    let log = three.level(hurt);
    log.save_snapshot(log.head().event, Box::new(|out| out.write_all(b"state"))).expect("saved");
    three.write(5);
    let log = three.level(hurt);
    log.save_snapshot(log.head().event, Box::new(|out| out.write_all(b"state"))).expect("saved");
    three.stop(hurt);
    let path = three.file(hurt, ".zst");
    three.disks[&hurt].damage(&path, |bytes| {
        let middle = bytes.len() / 2 + 84;
        bytes[middle] ^= 0x55;
    });
    // It is not needed to start; the first read ends the process.
    let log = three.start(hurt).expect("opens");
    soon("the members to be known", || (log.status().members.len() == 3).then_some(()));
    let error = log.read(EventId::ZERO, usize::MAX).expect_err("damaged");
    assert!(matches!(&error, ReadError::Damaged { path: named, .. } if *named == path), "{error}");
    let deaths = three.deaths.lock().expect("no panics").clone();
    assert!(deaths.len() == 1 && deaths[0].contains("damaged"), "{deaths:?}");
    drop(log);
    three.stop(hurt);

    let error = three.start(hurt).expect_err("it is known now");
    assert!(error.is_damage(), "{error}");
    let done = three.repair(hurt).expect("repaired");
    assert_eq!(done.len(), 1, "{done:?}");
    three.start(hurt).expect("opens");
    let log = three.level(hurt);
    assert_eq!(three.all(&log), three.all(&three.board.leader()));
    let report = wal::verify(&*three.disk(hurt), Path::new(DIR)).expect("verifies");
    assert!(report.is_good(), "{:?}", report.problems);
}
