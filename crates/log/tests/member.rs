//! A member's log and a cluster of one, on a disk that fails: what survives, what waits, what stops.

#![allow(
    clippy::disallowed_methods,
    reason = "real threads over a simulated disk: a test waits for them in real time"
)]

use bytes::Bytes;
use holdfast_log::{
    AppendError, Batch, Kind, Log,
    cluster::{Alone, ClusterLog, Failover, Options as ClusterOptions, Promotion},
    wal::{
        self, Anew, Entry, Halted, Has, Incarnation, MemberLog, Mistake, Options, RawEntry, Vote, Wal,
        epoch_payload,
    },
};
use rt::{Disk, DiskError, Fault, Operation, SimDisk, ThreadSpawner};
use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        mpsc::{self, Receiver},
    },
    time::{Duration, Instant},
};
use types::{Epoch, EventId, Index, NodeId, Term, limits};

const DIR: &str = "/log";
const PATIENCE: Duration = Duration::from_secs(10);

fn id(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

fn small() -> Options {
    Options { segment_bytes: 2048, reserve_bytes: 1024, recent_bytes: 300, ..Options::default() }
}

fn share(disk: &SimDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

/// What `on_fatal` was called with.
type Deaths = Arc<Mutex<Vec<String>>>;

fn fatal() -> (wal::Fatal, Deaths) {
    let deaths = Deaths::default();
    let told = deaths.clone();
    (Box::new(move |error: &DiskError| told.lock().expect("no panic").push(error.to_string())), deaths)
}

fn count(deaths: &Deaths) -> usize {
    deaths.lock().expect("no panic").len()
}

fn try_member(disk: &SimDisk) -> Result<(MemberLog, Deaths), String> {
    let (fatal, deaths) = fatal();
    let founding = Bytes::from_static(b"the founder");
    let opened = MemberLog::open(share(disk), Path::new(DIR), small(), founding, 7, &ThreadSpawner, fatal);
    opened.map(|(log, _)| (log, deaths)).map_err(|error| format!("{error:?}"))
}

fn member(disk: &SimDisk) -> (MemberLog, Deaths) {
    try_member(disk).expect("opens")
}

/// Hands something over; the receiver hears when it is durable.
fn told(start: impl FnOnce(holdfast_log::wal::Done)) -> Receiver<Result<(), Halted>> {
    let (tell, told) = mpsc::sync_channel(1);
    start(Box::new(move |result| {
        let _gone = tell.send(result);
    }));
    told
}

fn append(log: &MemberLog, entries: Vec<RawEntry>) {
    let told = told(|done| log.append(entries, done).expect("in their form"));
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Ok(())));
}

fn entry(kind: Kind, payload: impl Into<Bytes>) -> RawEntry {
    RawEntry { kind, term: Term::new(1), leader: id(1), payload: payload.into() }
}

fn opening(leader: NodeId) -> RawEntry {
    RawEntry { leader, ..entry(Kind::Epoch, epoch_payload(leader, b"first")) }
}

fn soon(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends within bounds, or the test fails.
fn ends(what: &str, act: impl FnOnce() + Send + 'static) {
    let (tell, told) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        act();
        let _gone = tell.send(());
    });
    assert_eq!(told.recv_timeout(PATIENCE), Ok(()), "{what} does not end");
}

/// The log of one machine with events, archived ones too, and a snapshot at its end.
fn plain(disk: &SimDisk) -> EventId {
    Wal::create(&share(disk), Path::new(DIR), "one machine", id(1)).expect("creates");
    let mut wal = Wal::open(share(disk), Path::new(DIR), small()).expect("opens").0;
    for number in 0..40 {
        let batch = Batch::new(vec![Bytes::from(format!("event {number} {}", "x".repeat(100)))]);
        wal.append_group(&[Entry::Batch(batch)], &mut Vec::new()).expect("appends");
        if number == 20 || number == 39 {
            let at = wal.head().event;
            wal.save_snapshot(at, Box::new(|out| out.write_all(b"folded"))).expect("saves");
        }
    }
    let event = wal.head().event;
    wal.close().expect("closes");
    event
}

/// Everything in a log that had no consensus is committed, whenever its first start as a member is cut
/// short; and its cluster is founded once.
#[test]
fn a_log_of_one_machine_becomes_a_members_whole_or_not_at_all() {
    let mut cuts = 0;
    for operation in 1.. {
        let disk = SimDisk::new(operation);
        let event = plain(&disk);
        disk.fail_in(operation, Fault::Crash);
        drop(try_member(&disk));
        let cut = !disk.is_powered();
        disk.clear_faults();
        disk.restart();
        let (log, _) = member(&disk);
        assert_eq!(log.head().event, event, "cut at operation {operation}: all of it is committed");
        let snapshot = log.load_snapshot().expect("loads").expect("there is one").0;
        assert!(snapshot <= log.head().event);
        let (index, .., members) = log.members().expect("founded");
        assert_eq!((index, &members[..]), (log.tail().index, &b"the founder"[..]));
        assert_eq!(log.tail().index.get(), 42, "founded once");
        assert_eq!(log.read(EventId::ZERO, 1000).expect("reads").len(), 40);
        if !cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 20, "{cuts}");
}

#[test]
fn a_damaged_note_of_what_is_committed_never_leaves_a_snapshot_ahead() {
    for lost in [false, true] {
        let disk = SimDisk::new(1);
        let event = plain(&disk);
        drop(member(&disk));
        let note = Path::new(DIR).join("committed");
        match lost {
            true => disk.remove(&note).expect("removes"),
            false => disk.damage(&note, |bytes| bytes[20] ^= 1),
        }
        let (log, _) = member(&disk);
        assert_eq!(log.head().event, event, "a snapshot is a witness");
        assert_eq!(log.load_snapshot().expect("loads").expect("there is one").0, event);
        // What no witness reaches, consensus commits anew.
        assert_eq!(log.commit(log.tail().index).expect("durable").head, log.tail());
        assert_eq!(&log.members().expect("found again").3[..], b"the founder");
    }
}

#[test]
fn what_is_committed_and_who_the_members_are_is_noted_at_once() {
    for operation in 1..12 {
        let disk = SimDisk::new(operation);
        Wal::create_member(&share(&disk), Path::new(DIR), "notes", id(1)).expect("creates");
        let (log, _) = member(&disk);
        let members = |text: &'static str| entry(Kind::Membership, text.as_bytes());
        append(&log, vec![opening(id(1)), members("old"), members("new")]);
        log.commit(Index::new(2)).expect("durable");
        log.note_committed().expect("noted");
        log.commit(Index::new(3)).expect("durable");
        disk.fail_in(operation, Fault::Crash);
        let _power_may_fail = log.note_committed();
        drop(log);
        disk.clear_faults();
        disk.restart();
        let (log, _) = member(&disk);
        let (index, .., found) = log.members().expect("noted");
        let expected: &[u8] = if log.head().index.get() == 3 { b"new" } else { b"old" };
        assert_eq!((index, &found[..]), (log.head().index, expected), "cut at operation {operation}");
    }
}

#[test]
fn what_is_noted_already_is_not_noted_again() {
    let disk = SimDisk::new(1);
    Wal::create_member(&share(&disk), Path::new(DIR), "notes", id(1)).expect("creates");
    let (log, _) = member(&disk);
    append(&log, vec![opening(id(1))]);
    log.commit(Index::new(1)).expect("durable");
    log.note_committed().expect("noted");
    let operations = disk.operations();
    log.note_committed().expect("noted");
    assert_eq!(disk.operations(), operations);
}

#[test]
fn fm_cfg6_votes_lives_and_fences_need_no_space() {
    let disk = SimDisk::new(1);
    Wal::create_member(&share(&disk), Path::new(DIR), "full", id(1)).expect("creates");
    let (log, deaths) = member(&disk);
    append(&log, vec![opening(id(1))]);
    // Not even the reserve is needed, which entries may use up.
    disk.set_capacity(Some(0));
    for term in 7..12 {
        let vote = Vote { term: Term::new(term), voted_for: Some(id(2)) };
        let told = told(|done| log.save_vote(vote, done));
        assert_eq!(told.recv_timeout(PATIENCE), Ok(Ok(())));
    }
    assert!(!log.is_short_of_space());
    let life = Incarnation { count: 1, nonce: 1 };
    assert_eq!(log.lives().admit(id(2), life, Has::default()), Ok(()), "another member begins a life");
    assert_eq!(log.fence().expect("fenced"), Epoch::ZERO);
    let own = log.lives().own();
    log.close();
    drop(log);
    disk.restart();
    let (log, _) = member(&disk);
    assert_eq!(log.vote(), Vote { term: Term::new(11), voted_for: Some(id(2)) });
    assert_eq!((log.fenced(), log.lives().own().count), (Some(Epoch::ZERO), own.count + 1));
    assert_eq!(log.lives().known(id(2), life), Some(Ok(())));
    assert_eq!(count(&deaths), 0, "a full disk is no reason to die");
}

/// On a file system that copies on write even that wants space: then a vote waits as entries do.
#[test]
fn a_vote_that_finds_no_space_waits_for_it() {
    let disk = SimDisk::new(1);
    Wal::create_member(&share(&disk), Path::new(DIR), "full", id(1)).expect("creates");
    let (log, deaths) = member(&disk);
    append(&log, vec![opening(id(1))]);
    (0..3).for_each(|_| disk.fail_next(Operation::Write, Fault::NoSpace));
    let vote = Vote { term: Term::new(7), voted_for: Some(id(2)) };
    let told = told(|done| log.save_vote(vote, done));
    assert_eq!(told.recv_timeout(PATIENCE), Ok(Ok(())));
    assert_eq!((count(&deaths), disk.faulted()), (0, 3));
    log.close();
    drop(log);
    disk.restart();
    assert_eq!(member(&disk).0.vote(), vote);
}

#[test]
fn what_was_never_committed_is_cut_on_a_full_disk_too() {
    let disk = SimDisk::new(1);
    Wal::create_member(&share(&disk), Path::new(DIR), "full", id(1)).expect("creates");
    let (log, deaths) = member(&disk);
    append(&log, vec![opening(id(1)), entry(Kind::Blank, ""), entry(Kind::Blank, "")]);
    disk.set_capacity(Some(disk.used()));
    let cut = told(|done| log.cut(Index::new(1), done));
    assert_eq!(cut.recv_timeout(PATIENCE), Ok(Ok(())), "the reserve is given up for it");
    assert_eq!((log.tail().index, count(&deaths)), (Index::new(1), 0));
}

#[test]
fn a_log_of_one_machine_becomes_a_members_on_a_full_disk_too() {
    let disk = SimDisk::new(1);
    let event = plain(&disk);
    let options = Options { reserve_bytes: 64 << 10, ..small() };
    let mut wal = Wal::open(share(&disk), Path::new(DIR), options).expect("opens").0;
    wal.append_group(&[Entry::Blank], &mut Vec::new()).expect("appends");
    drop(wal);
    disk.set_capacity(Some(disk.used()));
    assert_eq!(member(&disk).0.head().event, event, "the reserve is given up for it");
}

#[test]
fn a_disk_that_fails_while_space_is_looked_for_stops_the_log() {
    let disk = SimDisk::new(1);
    Wal::create_member(&share(&disk), Path::new(DIR), "fails", id(1)).expect("creates");
    let (log, deaths) = member(&disk);
    append(&log, vec![opening(id(1))]);
    disk.set_capacity(Some(disk.used()));
    append(&log, vec![entry(Kind::Blank, ""); 8]);
    soon("the reserve to run short", || log.is_short_of_space());
    disk.fail_next(Operation::Allocate, Fault::Io);
    soon("the log to stop", || count(&deaths) == 1);
    let refused = told(|done| log.append(vec![entry(Kind::Blank, "")], done).expect("in its form"));
    assert_eq!(refused.recv_timeout(PATIENCE), Ok(Err(Halted)));
}

fn alone(disk: &SimDisk) -> (ClusterLog, Deaths) {
    let options = ClusterOptions { wal: small(), ..ClusterOptions::default() };
    let (fatal, deaths) = fatal();
    let opened =
        ClusterLog::open(share(disk), Path::new(DIR), options, &ThreadSpawner, Arc::new(Alone), fatal);
    (opened.expect("opens").0, deaths)
}

/// Where only an operator gives the lead to another.
fn by_operator(disk: &SimDisk) -> ClusterLog {
    let failover = Failover::Operator;
    let options = ClusterOptions { wal: small(), failover, ..ClusterOptions::default() };
    let (fatal, _) = fatal();
    let opened =
        ClusterLog::open(share(disk), Path::new(DIR), options, &ThreadSpawner, Arc::new(Alone), fatal);
    opened.expect("opens").0
}

/// Found by the simulator: the primary of before had the other's epoch, and not that it was committed.
#[test]
fn where_an_operator_decides_nobody_stands_whose_log_names_another_at_its_end() {
    let disk = SimDisk::new(1);
    Wal::create(&share(&disk), Path::new(DIR), "an operator", id(1)).expect("creates");
    let first = by_operator(&disk);
    leads(&first);
    first.close();
    let again = by_operator(&disk);
    leads(&again);
    again.close();
    let (log, _) = member(&disk);
    let term = Term::new(9);
    let vote = Vote { term, voted_for: Some(id(2)) };
    assert_eq!(told(|done| log.save_vote(vote, done)).recv_timeout(PATIENCE), Ok(Ok(())));
    append(&log, vec![RawEntry { term, ..opening(id(2)) }]);
    log.close();
    let silent = by_operator(&disk);
    // It would have stood ten times.
    std::thread::sleep(10 * ClusterOptions::default().election.1);
    assert_eq!(silent.status().term, term);
    assert_eq!(silent.status().leader, None);
    // An operator's word is enough.
    let promoted = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let promoted = promoted.block_on(silent.promote(b"it is gone"));
    assert!(matches!(promoted, Promotion::Succeeded(_)), "{promoted:?}");
    silent.close();
}

fn leads(log: &ClusterLog) {
    soon("authority", || log.authority().borrow().is_some());
}

#[test]
fn a_stop_ends_while_the_writer_waits_for_space() {
    let disk = SimDisk::new(1);
    Wal::create(&share(&disk), Path::new(DIR), "stops", id(1)).expect("creates");
    let (log, deaths) = alone(&disk);
    leads(&log);
    disk.set_capacity(Some(disk.used()));
    let large = Batch::new(vec![Bytes::from(vec![b'x'; 1500])]);
    let waiting = log.append(EventId::ZERO, large);
    soon("the writer to wait for space", || {
        log.append(EventId::ZERO, Batch::new(vec!["more".into()])).wait() == Err(AppendError::NoSpace)
    });
    let closing = log.clone();
    ends("closing", move || closing.close());
    assert_eq!(waiting.wait(), Err(AppendError::Unknown));
    assert_eq!(count(&deaths), 0, "an orderly stop");
}

/// Votes are waited for by consensus itself, which must end all the same.
#[test]
fn a_stop_ends_while_a_vote_waits_for_space() {
    let disk = SimDisk::new(1);
    Wal::create(&share(&disk), Path::new(DIR), "stops", id(1)).expect("creates");
    alone(&disk).0.close();
    disk.set_capacity(Some(disk.used() - 200));
    let (log, deaths) = alone(&disk);
    ends("closing", move || log.close());
    assert_eq!(count(&deaths), 0, "an orderly stop");
}

#[test]
fn a_founder_opens_an_epoch_of_its_own() {
    let disk = SimDisk::new(1);
    Wal::create(&share(&disk), Path::new(DIR), "founds", id(1)).expect("creates");
    for life in 1..4 {
        let (log, _) = alone(&disk);
        leads(&log);
        let held = log.authority().borrow().expect("held");
        assert_eq!(held.epoch, Epoch::new(1 + life), "the first is the one with which the log was made");
        assert!(held.term > Term::new(1), "a term that was led before is not led again");
        log.close();
    }
}

#[test]
fn fm_cfg8_a_joiner_that_restarts_before_it_was_fed_founds_nothing() {
    for fed in 0..3 {
        let disk = SimDisk::new(1);
        Wal::create_member(&share(&disk), Path::new(DIR), "joins", id(2)).expect("creates");
        let (log, _) = member(&disk);
        for _ in 0..fed {
            append(&log, vec![opening(id(1))]);
        }
        log.commit(Index::new(fed)).expect("durable");
        log.close();
        drop(log);
        let (log, _) = alone(&disk);
        assert!(log.status().voters.is_empty(), "fed {fed} entries");
        assert_eq!(log.head().index, Index::new(fed));
        assert!(log.authority().borrow().is_none());
    }
}

/// Cut short anywhere, a recovery leaves the old cluster's log or goes on to be the new one's.
#[test]
fn fm_p2_a_recovery_is_whole_or_not_at_all() {
    let (mut cuts, mut old) = (0, 0);
    for operation in 1.. {
        let disk = SimDisk::new(operation);
        let event = plain(&disk);
        let (log, _) = member(&disk);
        append(&log, vec![entry(Kind::Blank, "")]);
        log.close();
        drop(log);
        let anew = Anew { cluster: "another", node: id(7), members: b"the seventh", why: b"it burns" };
        let again = || wal::recover(&share(&disk), Path::new(DIR), &anew);
        disk.fail_in(operation, Fault::Crash);
        let _power_may_fail = again();
        let cut = !disk.is_powered();
        disk.clear_faults();
        disk.restart();
        let before = wal::position(&share(&disk), Path::new(DIR)).expect("reads");
        if before.cluster == "one machine" {
            assert_eq!((before.node, before.tail.index.get()), (id(1), 43), "cut at {operation}: untouched");
            old += 1;
        }
        if operation % 2 == 0 || before.cluster == "one machine" {
            again().expect("repeated");
        }
        // Or a start goes on with it.
        let (log, _) = member(&disk);
        assert_eq!(
            (log.node(), log.head(), log.head().event),
            (id(7), log.tail(), event),
            "cut at {operation}"
        );
        assert_eq!((log.head().index.get(), log.head().epoch.get()), (45, 2));
        let (index, .., members) = log.members().expect("founded");
        assert_eq!((index.get(), &members[..]), (44, &b"the seventh"[..]));
        assert!(log.vote().term >= log.head().term, "the next leader is elected in a later term");
        assert_eq!(log.read(EventId::ZERO, 1000).expect("reads").len(), 40);
        drop(log);
        let report = wal::verify(&disk, Path::new(DIR)).expect("verifies");
        assert!(report.is_good(), "{:?}", report.problems);
        if !cut {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 20 && old > 5, "{cuts} cuts, {old} of them before it began");
}

/// A killed process leaves entries that can be read and are not durable. A recovery that counts them makes
/// them so first.
#[test]
fn a_recovery_counts_only_what_is_durable() {
    for operation in 1..60 {
        let disk = SimDisk::new(operation);
        plain(&disk);
        drop(member(&disk).0);
        let careless = Options { mistake: Some(Mistake::AnswerBeforeSync), ..small() };
        let mut wal = Wal::open(share(&disk), Path::new(DIR), careless).expect("opens").0;
        wal.append_raw(&[entry(Kind::Blank, ""), entry(Kind::Blank, "")]).expect("written, not synced");
        disk.kill();
        drop(wal);
        let anew = Anew { cluster: "another", node: id(7), members: b"the seventh", why: b"it burns" };
        disk.fail_in(operation, Fault::Crash);
        let _power_may_fail = wal::recover(&share(&disk), Path::new(DIR), &anew);
        disk.clear_faults();
        disk.restart();
        wal::recover(&share(&disk), Path::new(DIR), &anew).expect("goes on, or begins");
        let (log, _) = member(&disk);
        let (index, .., members) = log.members().expect("founded");
        assert_eq!(&members[..], b"the seventh", "cut at {operation}");
        assert_eq!(index.next(), log.tail().index, "cut at {operation}: the members, then the epoch");
        drop(log);
        let report = wal::verify(&disk, Path::new(DIR)).expect("verifies");
        assert!(report.is_good(), "cut at {operation}: {:?}", report.problems);
    }
}

#[test]
fn a_fence_outlives_the_epochs_of_elections_that_were_known_when_it_was_set() {
    let disk = SimDisk::new(1);
    Wal::create_member(&share(&disk), Path::new(DIR), "lags", id(1)).expect("creates");
    let (log, _) = member(&disk);
    append(&log, vec![opening(id(1))]);
    log.commit(Index::new(1)).expect("durable");
    // It has voted in term 2 and has the entry that opened its epoch, and lags in knowing it committed.
    let voted = told(|done| log.save_vote(Vote { term: Term::new(2), voted_for: Some(id(2)) }, done));
    assert_eq!(voted.recv_timeout(PATIENCE), Ok(Ok(())));
    append(&log, vec![RawEntry { term: Term::new(2), ..opening(id(2)) }]);
    assert_eq!(log.fence().expect("fenced"), Epoch::new(1));
    log.commit(Index::new(2)).expect("durable");
    let (epoch, ends) = (log.head().epoch, |opener, term| (opener, Term::new(term)));
    for (opener, term) in [ends(id(2), 2), ends(id(1), 3)] {
        assert!(!log.fence_ends_with(epoch, opener, term), "{opener} in term {term}");
    }
    assert!(log.fence_ends_with(epoch, id(2), Term::new(3)));
    drop(log);
    disk.restart();
    let (log, _) = member(&disk);
    assert_eq!(log.fenced(), Some(Epoch::new(1)));
    assert!(!log.fence_ends_with(epoch, id(2), Term::new(2)));
    log.lift_fence().expect("lifted");
    drop(log);
    disk.restart();
    assert_eq!(member(&disk).0.fenced(), None);
}

#[test]
fn a_directory_that_was_refused_is_not_started_again() {
    let disk = SimDisk::new(1);
    plain(&disk);
    let (log, deaths) = member(&disk);
    let life = log.lives().own().count;
    log.refused("node 1 was started from an older copy of its directory");
    assert_eq!(count(&deaths), 1, "the process ends");
    drop(log);
    disk.restart();
    for _ in 0..2 {
        let why = try_member(&disk).expect_err("refused");
        assert!(why.contains("older copy"), "{why}");
    }
    // The old cluster's refusal is none of a new one.
    let anew = Anew { cluster: "another", node: id(7), members: b"the seventh", why: b"it burns" };
    wal::recover(&share(&disk), Path::new(DIR), &anew).expect("recovers");
    assert_eq!(member(&disk).0.lives().own().count, life + 1, "no start was counted meanwhile");
}

#[test]
fn what_is_cut_is_kept_aside_first_and_the_oldest_stay() {
    let disk = SimDisk::new(1);
    Wal::create_member(&share(&disk), Path::new(DIR), "aside", id(1)).expect("creates");
    let (log, _) = member(&disk);
    append(&log, vec![opening(id(1))]);
    let batch = || entry(Kind::Batch, [&5_u32.to_le_bytes()[..], b"event"].concat());
    let cut = || {
        let cut = told(|done| log.cut(Index::new(1), done));
        assert_eq!(cut.recv_timeout(PATIENCE), Ok(Ok(())));
    };
    append(&log, vec![entry(Kind::Blank, "")]);
    cut();
    assert!(log.aside().is_empty(), "nothing that anybody asked for");
    for number in 0..limits::ASIDE_FILES + 3 {
        // Larger than a segment, and of several.
        append(&log, (0..30).map(|_| batch()).collect());
        cut();
        assert_eq!(log.aside().len(), (number + 1).min(limits::ASIDE_FILES));
    }
    let kept = log.aside();
    drop(log);
    assert_eq!(wal::aside(&disk, Path::new(DIR)).expect("lists"), kept);
    for aside in [&kept[0], &kept[limits::ASIDE_FILES - 1]] {
        assert_eq!((aside.first, aside.last), (Index::new(2), Index::new(31)));
        let mut events = 0;
        wal::scan_aside(&disk, &aside.path, |_, parts| events += parts.len()).expect("reads");
        assert_eq!(events, 30);
    }
    assert_eq!(member(&disk).0.aside(), kept, "known after a restart");
}
