//! Damage anywhere in one of three members' logs, and its repair from the other two, cut short anywhere:
//! afterwards the log is what it was, or what the leader has, and never a shorter one that looks whole.

use super::{
    repair::{Answer, NotRepaired, Others, Question, Waits, repair_within},
    shape::{Member, encode_members},
    transport::TransportError,
};
use crate::{
    Kind, entry,
    wal::{
        self, Carried, Carry, Has, Incarnation, MemberLog, OpenMemberError, Options, RawEntry, RepairError,
        Repaired, Vote, VoteError, Wal, epoch_payload,
    },
};
use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use openraft::Membership;
use rt::{Disk, Fault, SimDisk, SimRandom, ThreadSpawner};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};
use types::{Index, NodeId, Term};

const DIR: &str = "/log";
const ROUNDS: u64 = 150;

fn id(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

fn small() -> Options {
    Options { segment_bytes: 1500, reserve_bytes: 200, recent_bytes: 300, ..Options::default() }
}

fn share(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn try_open(disk: &SimDisk) -> Result<MemberLog, OpenMemberError> {
    let (fatal, founding) = (Box::new(|_: &rt::DiskError| {}), Bytes::new());
    MemberLog::open(share(disk), Path::new(DIR), small(), founding, 7, &ThreadSpawner, fatal)
        .map(|(log, _)| log)
}

fn open(disk: &SimDisk) -> MemberLog {
    try_open(disk).expect("opens")
}

fn create(seed: u64, node: NodeId) -> SimDisk {
    let disk = SimDisk::new(seed);
    Wal::create_member(&share(&disk), Path::new(DIR), "repairs", node).expect("creates");
    disk
}

fn append(log: &MemberLog, entries: Vec<RawEntry>) {
    let (tell, told) = mpsc::sync_channel(1);
    let done = Box::new(move |result| tell.send(result).expect("waited for"));
    log.append(entries, done).expect("in their form");
    assert_eq!(told.recv(), Ok(Ok(())));
}

fn members() -> Bytes {
    let nodes: BTreeMap<NodeId, Member> = (1..=3).map(|number| (id(number), Member::default())).collect();
    let voters = BTreeSet::from([id(1), id(2), id(3)]);
    encode_members(&Membership::new(vec![voters], nodes).expect("all are members"))
}

/// Entries as a leader of this term makes them, decided on the end of this log.
fn random_entries(random: &SimRandom, log: &MemberLog, term: u64, count: u64) -> Vec<RawEntry> {
    let (mut event, mut epoch) = (log.tail().event, log.tail().epoch);
    let leader = id(2);
    let entry = |kind, payload| RawEntry { kind, term: Term::new(term), leader, payload };
    let made = (0..count).map(|_| match random.below(8) {
        0 => entry(Kind::Blank, Bytes::new()),
        1 => {
            epoch = epoch.plus(1);
            entry(Kind::Epoch, epoch_payload(leader, b"a test"))
        }
        _ => {
            let size = random.below(60) as usize;
            let events: Vec<Bytes> = (0..=random.below(2)).map(|_| Bytes::from(vec![b'x'; size])).collect();
            let payload = entry::proposal(event, epoch, &events);
            event = event.plus(events.len() as u64);
            entry(Kind::Proposal, payload)
        }
    });
    made.collect()
}

/// Every entry of a log, as it travels.
fn everything(log: &MemberLog) -> Vec<Carried> {
    let mut all = Vec::new();
    let mut head = crate::Head::NOTHING;
    while head.index < log.tail().index {
        match log.carry(&head, log.tail().index, 4000).expect("reads") {
            Carry::Entries(bytes) => {
                let mut bytes = Bytes::from(bytes);
                while !bytes.is_empty() {
                    let entry = Carried::take(&mut bytes).expect("whole");
                    head = entry.follows(&head).expect("follows");
                    all.push(entry);
                }
            }
            other => panic!("{other:?}"),
        }
    }
    all
}

/// The other two members.
struct Two {
    logs: BTreeMap<NodeId, Arc<MemberLog>>,
    leader: Option<NodeId>,
    /// Bytes of entries in one answer.
    piece: usize,
    /// Nobody answers any more after so many questions.
    questions: Mutex<u64>,
}

impl Two {
    fn new(logs: [&Arc<MemberLog>; 2], leader: Option<u128>) -> Self {
        let logs = [id(2), id(3)].into_iter().zip(logs.into_iter().cloned()).collect();
        Self { logs, leader: leader.map(id), piece: 700, questions: Mutex::new(u64::MAX) }
    }
}

impl Others for Two {
    fn ask(
        &self,
        to: NodeId,
        _member: &Member,
        question: &Question,
    ) -> BoxFuture<'static, Result<Answer, TransportError>> {
        let mut left = self.questions.lock().expect("no panics");
        let log = self.logs[&to].clone();
        let answer = match (*left, question) {
            (0, _) => Err(TransportError::Unreachable("cut".into())),
            (_, Question::Lead) if self.leader == Some(to) => {
                Ok(Answer::Leads(log.tail().to_bytes().to_vec()))
            }
            (_, Question::Lead) => Err(TransportError::Refused("it does not lead".into())),
            (_, Question::Entries { after, until }) => {
                let after = crate::Head::from_bytes(&after.clone().try_into().expect("a head"));
                Ok(match log.carry(&after, *until, self.piece).expect("reads") {
                    Carry::Entries(entries) => Answer::Entries(entries),
                    Carry::Differs => Answer::Differs,
                    Carry::Short => Answer::Short,
                })
            }
        };
        *left -= u64::from(*left > 0);
        std::future::ready(answer).boxed()
    }

    fn tell(&self, _how: &str) {}
}

const AT_ONCE: Waits = Waits { leader: Duration::ZERO, alone: Duration::ZERO };

fn repair(disk: &SimDisk, others: &dyn Others, waits: &Waits) -> Result<Vec<Repaired>, NotRepaired> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(repair_within(&share(disk), Path::new(DIR), &small(), others, waits))
}

/// A life of one member, and the logs of the other two.
struct Life {
    disk: SimDisk,
    others: [Arc<MemberLog>; 2],
    /// What it had, all durable.
    had: Vec<Carried>,
    committed: Index,
    vote: Vote,
    /// How many lives of it the others have heard of.
    lives: Cell<u64>,
}

fn files(disk: &SimDisk) -> Vec<PathBuf> {
    let in_log = |path: &PathBuf| {
        let name = path.to_string_lossy();
        (name.ends_with(".seg") || name.ends_with(".zst"))
            && !name.contains("/quarantine/")
            && !name.contains("/repair/")
    };
    disk.files().into_iter().map(|(path, _)| path).filter(in_log).collect()
}

/// The leader of a life leads in this term, after whatever this member has.
const LEADS: u64 = 5;
/// The term in which this member has acknowledged what was never committed, if it had any.
const LOST: u64 = 2;
/// The terms of its last vote, by the seed.
const VOTES: [u64; 4] = [LOST, 3, LEADS, 7];

impl Life {
    fn new(seed: u64) -> Self {
        let random = SimRandom::new(seed);
        let disk = create(seed, id(1));
        let log = open(&disk);
        let others = [2, 3].map(|node| Arc::new(open(&create(seed + 1000, id(node)))));
        let first =
            RawEntry { kind: Kind::Membership, term: Term::new(1), leader: id(2), payload: members() };
        let all = |entries: Vec<RawEntry>| {
            append(&log, entries.clone());
            others.iter().for_each(|other| append(other, entries.clone()));
        };
        all(vec![first]);
        let mut committed = Index::new(1);
        for _ in 0..2 + random.below(25) {
            all(random_entries(&random, &log, 1, 1 + random.below(4)));
            if random.percent(60) {
                committed = log.tail().index;
                log.commit(committed).expect("durable");
            }
            if random.percent(20) {
                let _none_without_events =
                    log.save_snapshot(log.head().event, Box::new(|out| out.write_all(b"state")));
            }
        }
        // What was never committed: another leader has other entries there.
        if random.percent(30) {
            append(&log, random_entries(&random, &log, LOST, 1 + random.below(20)));
        }
        let beyond = random_entries(&random, &others[0], LEADS, 1 + random.below(20));
        others.iter().for_each(|other| append(other, beyond.clone()));
        let term = Term::new(VOTES[(seed % 4) as usize]);
        let vote = Vote { term, voted_for: Some(id(3)) };
        let (tell, told) = mpsc::sync_channel(1);
        log.save_vote(vote, Box::new(move |result| tell.send(result).expect("waited for")));
        assert_eq!(told.recv(), Ok(Ok(())));
        let had = everything(&log);
        if random.percent(50) {
            log.note_committed().expect("noted");
        }
        // A process that is killed, or one that stops well.
        let disk = if random.percent(50) { disk.copy() } else { disk };
        drop(log);
        Self { disk, others, had, committed, vote, lives: Cell::new(0) }
    }

    /// Flips one byte of a durable record; gives the file.
    fn damage(&self, random: &SimRandom) -> PathBuf {
        let files = files(&self.disk);
        let path = files[random.below(files.len() as u64) as usize].clone();
        let bytes = self.disk.read(&path).expect("reads");
        let used = bytes.iter().rposition(|byte| *byte != 0).expect("has content") + 1;
        let at = match random.percent(40) {
            true => used - 1 - random.below(used.min(200) as u64) as usize,
            false => random.below(used as u64) as usize,
        };
        self.disk.damage(&path, |bytes| bytes[at] ^= 1 << random.below(8));
        if path.to_string_lossy().ends_with(".zst") {
            // Only a read finds it.
            if let Ok(log) = try_open(&self.disk) {
                let found = log.carry(&crate::Head::NOTHING, log.tail().index, usize::MAX);
                found.as_ref().err().into_iter().for_each(|error| log.note_damage(error));
            }
        }
        path
    }

    /// The log as it is now is whole: nothing that was promised is missing.
    fn is_whole(&self, disk: &SimDisk, what: &str) {
        let log = open(disk);
        let (has, leads) = (everything(&log), everything(&self.others[0]));
        assert_eq!(has[..self.committed.get() as usize], self.had[..self.committed.get() as usize], "{what}");
        let is_own = has == self.had;
        let is_leaders = has == leads;
        assert!(
            is_own || is_leaders,
            "{what}: {} of {} entries, {} of the leader",
            has.len(),
            self.had.len(),
            leads.len()
        );
        self.is_bound(&log, is_leaders, what);
        drop(log);
        let report = wal::verify(disk, Path::new(DIR)).expect("verifies");
        assert!(report.is_good(), "{what}: {:?}", report.problems);
    }
}

impl Life {
    /// What it promised binds it: its vote, and for whom, and nobody may take it for an older copy.
    fn is_bound(&self, log: &MemberLog, is_leaders: bool, what: &str) {
        match is_leaders && self.vote.term < Term::new(LEADS) {
            true => {
                let vote = log.vote();
                assert_eq!(vote.term, Term::new(LEADS), "{what}: it follows that leader");
                assert!([Some(id(2)), Some(id(3))].contains(&vote.voted_for), "{what}: {vote:?}");
            }
            false => assert_eq!(log.vote(), self.vote, "{what}: the vote is as it was"),
        }
        let (lives, old) = (log.lives(), self.others[1].lives());
        let acknowledged = Has { vote: Term::new(LOST), entry: Index::new(self.had.len() as u64) };
        old.promised(id(1), acknowledged.max(Has { vote: self.vote.term, entry: Index::ZERO }));
        // Of each copy of the disk this is another life.
        self.lives.set(self.lives.get() + 1);
        let life = Incarnation { count: self.lives.get(), nonce: 1 };
        assert_eq!(old.admit(id(1), life, lives.began()), Ok(()), "{what}");
    }
}

fn is_damaged(disk: &SimDisk) -> bool {
    match try_open(disk) {
        Ok(_) => false,
        Err(error) => {
            assert!(error.is_damage(), "{error}");
            true
        }
    }
}

#[test]
fn fm_cfg6_a_byte_flipped_anywhere_is_repaired_to_what_was_promised() {
    let (mut repaired, mut archived, mut proven) = (0, 0, 0);
    for seed in 0..ROUNDS {
        let life = Life::new(seed);
        let random = SimRandom::new(seed ^ 0xdead);
        let path = life.damage(&random);
        let damaged = life.disk.read(&path).expect("reads");
        // Sealed or cut as a torn tail by the look itself, it would not be what was damaged.
        if !is_damaged(&life.disk.copy()) {
            continue;
        }
        let what = format!("seed {seed}, {}", path.display());
        let leader = if random.percent(70) { Some(2) } else { None };
        let two = Two::new([&life.others[0], &life.others[1]], leader);
        match repair(&life.disk, &two, &AT_ONCE) {
            Ok(done) => {
                assert_eq!(done.len(), 1, "{what}");
                assert!(
                    done[0].kept.iter().any(|kept| life.disk.read(kept).expect("kept") == damaged),
                    "{what}"
                );
                life.is_whole(&life.disk, &what);
                repaired += 1;
                archived += usize::from(path.to_string_lossy().ends_with(".zst"));
                proven += usize::from(leader.is_none());
            }
            // Without a leader nobody can say what stood at the end.
            Err(NotRepaired::Nobody { .. }) if leader.is_none() => {
                assert!(is_damaged(&life.disk), "{what}: damaged as it was");
                let two = Two::new([&life.others[0], &life.others[1]], Some(3));
                repair(&life.disk, &two, &AT_ONCE).expect("a leader is there now");
                life.is_whole(&life.disk, &what);
            }
            Err(error) => panic!("{what}: {error:?}"),
        }
    }
    assert!(
        repaired > ROUNDS / 2 && archived > 5 && proven > 5,
        "{repaired}, {archived} archived, {proven} proven"
    );
}

/// Repaired to a shorter log under a later leader, it is heard by whoever it had acknowledged more to.
#[test]
fn fm_cfg6_a_member_with_less_after_its_repair_is_no_older_copy() {
    let mut shorter = 0;
    for seed in (0..1000).step_by(VOTES.len()) {
        let life = Life::new(seed);
        let had = Index::new(life.had.len() as u64);
        let end = life.others[0].tail().index;
        let last = files(&life.disk).into_iter().rfind(|path| path.to_string_lossy().ends_with(".seg"));
        life.disk.damage(&last.expect("a segment"), |bytes| bytes[140] ^= 1);
        if had <= end || !is_damaged(&life.disk.copy()) {
            continue;
        }
        let what = format!("seed {seed}");
        assert_eq!(life.vote.term, Term::new(LOST), "{what}: with this vote it would have forgotten");
        let two = Two::new([&life.others[0], &life.others[1]], Some(3));
        repair(&life.disk, &two, &AT_ONCE).expect("repaired");
        life.is_whole(&life.disk, &what);
        assert_eq!(open(&life.disk).tail().index, end, "{what}");
        shorter += 1;
        if shorter == 3 {
            return;
        }
    }
    panic!("{shorter} of them had more than the leader");
}

/// Cut short at any write, it leaves a log that does not open, or one that is whole; and it goes on.
#[test]
fn fm_cfg6_a_repair_that_is_cut_short_anywhere_is_marked_or_whole() {
    let mut cuts = 0;
    for seed in 0..24 {
        let life = Life::new(seed);
        let random = SimRandom::new(seed ^ 0xdead);
        life.damage(&random);
        if !is_damaged(&life.disk.copy()) {
            continue;
        }
        let two = Two::new([&life.others[0], &life.others[1]], Some(2));
        for operation in 1.. {
            let disk = life.disk.copy();
            disk.fail_in(operation, Fault::Crash);
            let _power_may_fail = repair(&disk, &two, &AT_ONCE);
            let cut = !disk.is_powered();
            disk.clear_faults();
            disk.restart();
            let what = format!("seed {seed}, cut at {operation}");
            if is_damaged(&disk) {
                assert!(cut, "{what}");
                repair(&disk, &two, &AT_ONCE).expect("goes on");
            }
            life.is_whole(&disk, &what);
            if !cut {
                break;
            }
            cuts += 1;
        }
    }
    assert!(cuts > 500, "{cuts}");
}

/// The others go away in the middle: what was fetched is kept, and fetched no second time.
#[test]
fn fm_cfg6_a_repair_goes_on_with_what_was_fetched() {
    let life = Life::new(3);
    let last = files(&life.disk)
        .into_iter()
        .rfind(|path| path.to_string_lossy().ends_with(".seg"))
        .expect("a segment");
    life.disk.damage(&last, |bytes| bytes[140] ^= 1);
    let mut asked = 0;
    for allowed in 2.. {
        let two = Two { piece: 1, ..Two::new([&life.others[0], &life.others[1]], Some(2)) };
        *two.questions.lock().expect("no panics") = allowed;
        let done = repair(&life.disk, &two, &AT_ONCE);
        asked += 1;
        match done {
            Ok(_) => break,
            Err(error) => assert!(matches!(error, NotRepaired::Nobody { .. }), "{error}"),
        }
        assert!(is_damaged(&life.disk), "not whole yet");
        assert!(asked < 100, "it begins anew each time");
    }
    assert!(asked > 3, "it took several runs: {asked}");
    life.is_whole(&life.disk, "after several runs");
}

#[test]
fn what_cannot_be_repaired_says_why_and_changes_nothing() {
    let damaged = |seed| {
        let life = Life::new(seed);
        let path = files(&life.disk).pop().expect("a segment");
        life.disk.damage(&path, |bytes| bytes[130] ^= 1);
        life
    };
    let (life, other) = (damaged(4), Life::new(5));
    // Nobody is there.
    let two = Two::new([&life.others[0], &life.others[1]], Some(2));
    *two.questions.lock().expect("no panics") = 0;
    let error = repair(&life.disk, &two, &AT_ONCE).expect_err("nobody");
    assert!(matches!(&error, NotRepaired::Nobody { .. }) && error.to_string().contains("cut"), "{error}");
    // Another history than the one that was committed here.
    let two = Two::new([&other.others[0], &other.others[1]], Some(2));
    let error = repair(&life.disk, &two, &AT_ONCE);
    assert!(matches!(error, Err(NotRepaired::Failed { .. } | NotRepaired::Nobody { .. })), "{error:?}");
    assert!(is_damaged(&life.disk));
    // A vote that cannot be read is a promise that is forgotten.
    let copy = life.disk.copy();
    let vote = Path::new(DIR).join("vote");
    let spoil = |bytes: &mut Vec<u8>, copy: usize| {
        let at = copy * bytes.len() / 2 + 20;
        bytes[at] ^= 1;
    };
    copy.damage(&vote, |bytes| (0..2).for_each(|copy| spoil(bytes, copy)));
    let two = Two::new([&life.others[0], &life.others[1]], Some(2));
    let refused = |disk: &SimDisk| match repair(disk, &two, &AT_ONCE).expect_err("must not vote") {
        NotRepaired::Unread(RepairError::Open(OpenMemberError::Vote(error))) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(&copy), VoteError::Damaged { .. }));
    assert!(is_damaged(&copy));
    // So is one that is gone: every start has seen to it that there is one.
    let copy = life.disk.copy();
    copy.remove(&vote).expect("removes");
    assert!(matches!(refused(&copy), VoteError::Missing { .. }));
    assert!(is_damaged(&copy));
    // One copy of it is enough.
    life.disk.damage(&vote, |bytes| spoil(bytes, 0));
    // As it is, it can be.
    repair(&life.disk, &two, &AT_ONCE).expect("repaired");
    life.is_whole(&life.disk, "at last");
}

/// The other members, over a slow line, of whom none answers some of the questions.
struct Slow {
    two: Two,
    asked: Mutex<u64>,
    silent: Range<u64>,
}

const SLOW: Duration = Duration::from_millis(100);

impl Others for Slow {
    fn ask(
        &self,
        to: NodeId,
        member: &Member,
        question: &Question,
    ) -> BoxFuture<'static, Result<Answer, TransportError>> {
        let mut asked = self.asked.lock().expect("no panics");
        *asked += 1;
        if self.silent.contains(&*asked) {
            return std::future::ready(Err(TransportError::Lost("cut".into()))).boxed();
        }
        let answer = self.two.ask(to, member, question);
        async move {
            tokio::time::sleep(SLOW).await;
            answer.await
        }
        .boxed()
    }

    fn tell(&self, _how: &str) {}
}

/// It is waited for answers since the last one, not since the beginning.
#[test]
fn a_slow_repair_in_the_middle_outlives_a_question_without_an_answer() {
    let life = Life::new(3);
    let first = files(&life.disk).into_iter().find(|path| path.to_string_lossy().ends_with(".seg"));
    life.disk.damage(&first.expect("a segment"), |bytes| bytes[140] ^= 1);
    assert!(is_damaged(&life.disk.copy()));
    let two = Two { piece: 1, ..Two::new([&life.others[0], &life.others[1]], None) };
    let slow = Slow { two, asked: Mutex::new(0), silent: 6..8 };
    let waits = Waits { leader: Duration::ZERO, alone: SLOW * 5 };
    repair(&life.disk, &slow, &waits).expect("repaired");
    assert!(*slow.asked.lock().expect("no panics") > 8, "it went on after the silence");
    life.is_whole(&life.disk, "after the silence");
}

/// Whoever has no others is told of the damage alone.
#[test]
fn a_log_without_others_is_not_touched() {
    let disk = create(1, id(1));
    let log = open(&disk);
    let alone = super::members::alone(id(1), Member::default());
    let payload = encode_members(&alone);
    append(&log, vec![RawEntry { kind: Kind::Membership, term: Term::new(1), leader: id(1), payload }]);
    append(
        &log,
        vec![RawEntry { kind: Kind::Blank, term: Term::new(1), leader: id(1), payload: Bytes::new() }],
    );
    log.close();
    drop(log);
    let path = files(&disk).pop().expect("a segment");
    let end = disk.read(&path).expect("reads").iter().rposition(|byte| *byte != 0).expect("has content");
    disk.damage(&path, |bytes| bytes[end] ^= 1);
    let before: Vec<_> = disk.files();
    let two = Two { logs: BTreeMap::new(), ..Two::new([&Arc::new(open(&create(2, id(2)))); 2], None) };
    let error = repair(&disk, &two, &AT_ONCE).expect_err("alone");
    assert!(
        matches!(&error, NotRepaired::Alone { what } if what.contains("is damaged at offset")),
        "{error}"
    );
    assert_eq!(disk.files(), before);
}
