use super::*;
use log::MemoryLog;
use rt::{Clock as _, Disk, Fault, Operation, OsRandom, SimClock, SimDisk};
use std::path::Path;
use types::DurationMs;

const DIR: &str = "/data";

struct World {
    disk: SimDisk,
    clock: Arc<SimClock>,
    core: Core,
    audit: Audit,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl World {
    fn start() -> Self {
        let disk = SimDisk::new(1);
        disk.create_dir(Path::new(DIR)).expect("a directory");
        let door: Arc<dyn Disk> = Arc::new(disk.clone());
        let (journal, _) = Journal::open(&door, Path::new(DIR)).expect("a journal");
        let clock = Arc::new(SimClock::new(Timestamp::from_ms(1_763_673_600_000)));
        let (core, _driver) =
            Core::open(Arc::new(MemoryLog::new()), clock.clone(), Arc::new(OsRandom)).expect("a log");
        let (audit, recorder) = Audit::of(Ok(Arc::new(journal)), Some(NodeId::from_u128(7)), core.clone());
        let stop = CancellationToken::new();
        let running = tokio::spawn(recorder.run(stop.clone()));
        Self { disk, clock, core, audit, stop, running }
    }

    fn attempt(&self, actor: &str, flood: Option<&str>) -> Attempted {
        let note = Note::new(AuditType::Denied, actor, AuditRequest::default(), Outcome::NotExecuted);
        Attempted { at: self.clock.now(), note, flood: flood.map(str::to_owned) }
    }

    async fn record(&self, actor: &str, flood: Option<&str>) {
        self.audit.record(&self.core, self.attempt(actor, flood)).await;
    }

    fn lines(&self) -> Vec<(AuditType, String, String)> {
        let mut lines = Vec::new();
        Journal::read(&self.disk, Path::new(DIR), |entry| {
            lines.push((entry.ended, entry.actor, entry.reason))
        })
        .expect("a sound journal");
        lines
    }

    /// Waits until the journal is as wanted.
    async fn until(&self, what: &str, fits: impl Fn(&[(AuditType, String, String)]) -> bool) {
        for _ in 0..1000 {
            if fits(&self.lines()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: {:?}", self.lines());
    }
}

#[tokio::test]
async fn many_attempts_share_a_sync_and_each_is_durable_when_it_is_answered() {
    let world = World::start();
    let before = world.disk.operations();
    let all = (0..200).map(|nth| {
        let actor = format!("tok_{nth}");
        let attempt = world.attempt(&actor, None);
        async { world.audit.record(&world.core, attempt).await }
    });
    futures_util::future::join_all(all).await;
    let operations = world.disk.operations() - before;
    world.disk.restart();
    let found = Journal::verify(&world.disk, Path::new(DIR)).expect("sound");
    assert_eq!(found.entries, 200, "none of them is lost with the power");
    assert!(operations < 40, "{operations} writes and syncs for 200 lines");
}

#[tokio::test]
async fn a_flood_ends_in_one_line_when_its_window_closes_or_the_server_stops() {
    let world = World::start();
    for _ in 0..limits::FLOOD_LINES + 3 {
        world.record("nobody", Some("10.0.0.1")).await;
    }
    assert_eq!(world.lines().len() as u64, limits::FLOOD_LINES);
    assert_eq!(world.audit.figures().counted, 3);
    world.clock.advance(limits::FLOOD_WINDOW);
    let last =
        |lines: &[(AuditType, String, String)]| lines.last().is_some_and(|line| line.0 == AuditType::More);
    world.until("the window closes", last).await;
    let (_, _, reason) = world.lines().pop().expect("a line");
    assert!(reason.starts_with("and 3 more from 10.0.0.1 between 2025-"), "{reason}");
    for _ in 0..limits::FLOOD_LINES + 1234 {
        world.record("nobody", Some("10.0.0.1")).await;
    }
    world.stop.cancel();
    let World { running, disk, .. } = world;
    running.await.expect("it ends well");
    let mut reasons = Vec::new();
    Journal::read(&disk, Path::new(DIR), |entry| reasons.push(entry.reason)).expect("sound");
    assert_eq!(reasons.len() as u64, 2 * limits::FLOOD_LINES + 2);
    assert!(reasons.last().expect("a line").starts_with("and 1,234 more"), "{reasons:?}");
}

#[tokio::test]
async fn what_was_explained_and_never_confirmed_is_abandoned() {
    let world = World::start();
    let note =
        |actor: &str| Note::new(AuditType::Abandoned, actor, AuditRequest::default(), Outcome::NotExecuted);
    let until = world.clock.now().plus(limits::CONFIRMATION_LIFE);
    world.audit.explained(&world.core, [1; 32], note("ann"), until);
    world.audit.explained(&world.core, [2; 32], note("bob"), until);
    world.audit.explained(&world.core, [3; 32], note("vic"), until.plus(DurationMs::from_secs(1000)));
    world.audit.settled(&[2; 32]);
    world.clock.advance(limits::CONFIRMATION_LIFE);
    world.until("it is over", |lines| lines.len() == 1).await;
    let (kind, actor, reason) = world.lines().remove(0);
    assert_eq!((kind, actor.as_str()), (AuditType::Abandoned, "ann"));
    assert!(reason.contains("not confirmed within 2m"), "{reason}");
    world.stop.cancel();
    let World { running, disk, .. } = world;
    running.await.expect("it ends well");
    let mut last = None;
    Journal::read(&disk, Path::new(DIR), |entry| last = Some((entry.actor, entry.reason))).expect("sound");
    let (actor, reason) = last.expect("a line");
    assert!(actor == "vic" && reason.contains("before the server stopped"), "{actor} {reason}");
}

#[tokio::test]
async fn what_a_full_disk_did_not_take_is_counted_and_the_count_is_written() {
    let world = World::start();
    world.disk.set_capacity(Some(world.disk.used()));
    world.record("nobody", None).await;
    world.record("nobody", None).await;
    let refused = world.audit.write(&world.core, world.attempt("ann", None).note).await;
    refused.expect_err("a guarded act is not let through");
    assert!(world.audit.trouble().is_some() && !world.audit.figures().is_writable);
    assert_eq!(world.audit.figures().lost, 3);
    world.disk.set_capacity(None);
    world.until("space is back", |lines| lines.len() == 1).await;
    let (kind, _, reason) = world.lines().remove(0);
    assert_eq!(kind, AuditType::Lost);
    assert!(reason.starts_with("3 attempts between ") && reason.contains("could not be written"), "{reason}");
    for _ in 0..1000 {
        if world.audit.trouble().is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.audit.trouble(), None, "it says that it is well again");
    world.record("ann", None).await;
    assert_eq!(world.lines().len(), 2);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_written_until_the_disk_does_what_it_is_asked_again() {
    let world = World::start();
    world.disk.fail_next(Operation::Sync, Fault::Io);
    world.record("nobody", None).await;
    assert_eq!(world.audit.figures().lost, 1);
    // Until then what the disk did not make durable may still be read.
    let gone_on = |lines: &[(AuditType, String, String)]| lines.iter().any(|line| line.0 == AuditType::Lost);
    world.until("the journal is gone on with", gone_on).await;
    let [(kind, _, reason)] = &world.lines()[..] else { panic!("{:?}", world.lines()) };
    assert!(*kind == AuditType::Lost && reason.starts_with("1 attempts between "), "{reason}");
    world
        .audit
        .write(&world.core, world.attempt("ann", None).note)
        .await
        .expect("a guarded act is let through");
}

#[tokio::test]
async fn a_count_that_the_disk_refuses_is_not_lost() {
    let world = World::start();
    for _ in 0..limits::FLOOD_LINES + 1234 {
        world.record("nobody", Some("10.0.0.1")).await;
    }
    world.disk.set_capacity(Some(world.disk.used()));
    world.clock.advance(limits::FLOOD_WINDOW);
    for _ in 0..1000 {
        if world.audit.figures().lost > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(world.audit.figures().lost, 1234);
    world.disk.set_capacity(None);
    let lost = |lines: &[(AuditType, String, String)]| lines.iter().any(|line| line.0 == AuditType::Lost);
    world.until("space is back", lost).await;
    let (_, _, reason) = world.lines().pop().expect("a line");
    assert!(reason.starts_with("1,234 attempts between "), "{reason}");
}

#[tokio::test]
async fn whoever_has_one_thing_after_the_other_explained_is_bounded_and_counted() {
    let world = World::start();
    let note = || Note::new(AuditType::Abandoned, "ann", AuditRequest::default(), Outcome::NotExecuted);
    let until = world.clock.now().plus(limits::CONFIRMATION_LIFE);
    let many = limits::CONFIRMATIONS as u64 + limits::FLOOD_LINES + 7;
    for nth in 0..many {
        let mut token = [0; 32];
        token[..8].copy_from_slice(&nth.to_be_bytes());
        world.audit.explained(&world.core, token, note(), until);
    }
    assert_eq!(world.audit.state().explained.len(), limits::CONFIRMATIONS);
    world.until("they are written", |lines| lines.len() as u64 >= limits::FLOOD_LINES).await;
    for _ in 0..1000 {
        if world.audit.figures().counted == 7 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((world.lines().len() as u64, world.audit.figures().counted), (limits::FLOOD_LINES, 7));
    assert!(world.lines().iter().all(|(_, _, reason)| reason.contains("too many others")));
}

#[tokio::test]
async fn what_the_start_cut_off_is_written_down_before_anything_is_attempted() {
    let world = World::start();
    world.record("ann", None).await;
    world.stop.cancel();
    let World { running, disk, core, audit, .. } = world;
    running.await.expect("it ends well");
    drop(audit);
    let path = Path::new(DIR).join("audit/journal");
    disk.damage(&path, |bytes| bytes.truncate(bytes.len() - 1));
    let door: Arc<dyn Disk> = Arc::new(disk.clone());
    let (journal, found) = Journal::open(&door, Path::new(DIR)).expect("a journal");
    assert!(found.torn > 0);
    let (_audit, recorder) = Audit::of(Ok(Arc::new(journal)), None, core);
    let stop = CancellationToken::new();
    stop.cancel();
    recorder.run(stop).await;
    let mut lines = Vec::new();
    Journal::read(&disk, Path::new(DIR), |entry| lines.push((entry.ended, entry.reason))).expect("sound");
    let words = format!("{} bytes behind line 0 were torn", found.torn);
    assert!(lines.len() == 1 && lines[0].0 == AuditType::Lost && lines[0].1.starts_with(&words), "{lines:?}");
}

#[tokio::test]
async fn without_the_journal_that_should_be_there_attempts_are_counted() {
    let clock = Arc::new(SimClock::new(Timestamp::from_ms(1_763_673_600_000)));
    let (core, _driver) =
        Core::open(Arc::new(MemoryLog::new()), clock.clone(), Arc::new(OsRandom)).expect("a log");
    let broken = JournalError::Broken { path: "/data/audit/journal".into(), why: "the disk is gone".into() };
    let (audit, _recorder) = Audit::of(Err(broken), None, core.clone());
    let note = Note::new(AuditType::Denied, "ann", AuditRequest::default(), Outcome::NotExecuted);
    audit.record(&core, Attempted { at: clock.now(), note, flood: None }).await;
    assert_eq!((audit.figures().lost, audit.figures().is_writable), (1, false));
    assert!(audit.trouble().is_some_and(|why| why.contains("the disk is gone")));
}
