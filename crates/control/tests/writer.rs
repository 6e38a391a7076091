//! The core against a log that fails when told to: what is answered is what the log holds.

use domain::{Actor, Command, NewToken, Role};
use holdfast_control::{Answer, Core};
use log::{
    AppendError, AppendFuture, Batch, Head, Log, MemoryLog, ReadError, Record, SnapshotError, SnapshotWriter,
};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use types::{EventId, RequestId, Timestamp};

/// A memory log whose next appends answer what the test wants.
struct Failing {
    inner: MemoryLog,
    script: Mutex<Vec<AppendError>>,
}

impl Log for Failing {
    fn head(&self) -> Head {
        self.inner.head()
    }
    fn append(&self, expected: EventId, batch: Batch) -> AppendFuture {
        match self.script.lock().expect("one test").pop() {
            Some(error) => AppendFuture::ready(Err(error)),
            None => self.inner.append(expected, batch),
        }
    }
    fn read(&self, after: EventId, max_events: usize) -> Result<Vec<Record>, ReadError> {
        self.inner.read(after, max_events)
    }
    fn subscribe(&self) -> watch::Receiver<EventId> {
        self.inner.subscribe()
    }
    fn save_snapshot(&self, at: EventId, write: SnapshotWriter) -> Result<(), SnapshotError> {
        self.inner.save_snapshot(at, write)
    }
    fn load_snapshot(&self) -> Result<Option<(EventId, Vec<u8>)>, SnapshotError> {
        self.inner.load_snapshot()
    }
}

struct World {
    log: Arc<Failing>,
    clock: Arc<rt::SimClock>,
    core: Core,
    stop: CancellationToken,
    driver: tokio::task::JoinHandle<()>,
}

fn open(log: Arc<Failing>) -> World {
    let clock = Arc::new(rt::SimClock::new(Timestamp::from_ms(1_800_000_000_000)));
    let random = Arc::new(rt::SimRandom::new(7));
    let (core, driver) = Core::open(log.clone(), clock.clone(), random).expect("an empty log folds");
    let stop = CancellationToken::new();
    let driver = tokio::spawn(driver.run(stop.clone()));
    World { log, clock, core, stop, driver }
}

impl World {
    async fn begun() -> Self {
        let log = Arc::new(Failing { inner: MemoryLog::new(), script: Mutex::default() });
        let world = open(log);
        let owner = NewToken { name: "owner".parse().expect("a name"), hash: [1; 32], expires: None };
        let command = Command::Bootstrap { cluster: "c".into(), org: "main".parse().expect("a name"), owner };
        let answer = world.core.submit(command, Actor::System, None).await;
        assert!(matches!(answer, Answer::Executed { .. }), "{answer:?}");
        world
    }

    fn request(&self, n: u128) -> RequestId {
        RequestId::from_parts(rt::Clock::now(self.clock.as_ref()), n)
    }

    async fn token(&self, n: u128, name: &str) -> Answer {
        let org = *self.core.state().orgs.keys().next().expect("begun");
        let token = NewToken { name: name.parse().expect("a name"), hash: [n as u8; 32], expires: None };
        let command = Command::CreateToken { org, role: Role::Viewer, token };
        let mut body = [0; 32];
        body[..name.len()].copy_from_slice(name.as_bytes());
        self.core.submit(command, Actor::System, Some((self.request(n), body))).await
    }

    async fn reopen(self) -> Self {
        self.stop.cancel();
        self.driver.await.expect("the writer ends well");
        open(self.log)
    }
}

fn event_of(answer: &Answer) -> EventId {
    match answer {
        Answer::Executed { event, .. } => *event,
        other => panic!("not executed: {other:?}"),
    }
}

#[tokio::test]
async fn a_request_sent_again_gets_its_first_answer_also_after_a_restart() {
    let world = World::begun().await;
    let first = world.token(9, "reader").await;
    let again = world.token(9, "reader").await;
    assert_eq!(event_of(&first), event_of(&again));
    assert!(matches!(again, Answer::Executed { replayed: true, .. }));
    let other = world.token(9, "writer").await;
    assert!(
        matches!(&other, Answer::Refused { code, event: None, .. } if code == "request_id_reused"),
        "{other:?}"
    );
    let head = world.core.head().event;
    let world = world.reopen().await;
    let after = world.token(9, "reader").await;
    assert_eq!(event_of(&first), event_of(&after));
    assert_eq!(world.core.head().event, head, "nothing was written for a copy");
}

#[tokio::test]
async fn a_full_disk_is_certainly_not_executed_and_the_request_may_come_again() {
    let world = World::begun().await;
    let head = world.core.head().event;
    world.log.script.lock().expect("one test").push(AppendError::NoSpace);
    let refused = world.token(5, "reader").await;
    assert!(matches!(refused, Answer::Unavailable { storage_full: true, .. }), "{refused:?}");
    assert_eq!(world.core.state().head, head);
    let later = world.token(5, "reader").await;
    assert!(
        matches!(later, Answer::Executed { replayed: false, .. }),
        "the overlay was thrown away: {later:?}"
    );
    assert_eq!(world.core.state().tokens.len(), 2);
}

#[tokio::test]
async fn what_the_log_cannot_say_nobody_says() {
    let world = World::begun().await;
    world.log.script.lock().expect("one test").push(AppendError::Unknown);
    let unknown = world.token(5, "reader").await;
    assert!(matches!(unknown, Answer::Unknown { .. }), "{unknown:?}");
}

#[tokio::test]
async fn a_voided_request_never_runs() {
    let world = World::begun().await;
    let victim = world.request(77);
    let void = Command::VoidRequest { request: victim };
    let done = world.core.submit(void.clone(), Actor::System, Some((world.request(1), [1; 32]))).await;
    assert!(matches!(done, Answer::Executed { .. }), "{done:?}");
    let late = world.token(77, "reader").await;
    assert!(matches!(&late, Answer::Refused { code, .. } if code == "request_voided"), "{late:?}");
    let again = world.core.submit(void, Actor::System, Some((world.request(2), [2; 32]))).await;
    assert!(matches!(again, Answer::Executed { .. }), "voiding twice is the same as once: {again:?}");
}

#[tokio::test]
async fn ids_beyond_the_horizon_or_from_the_future_leave_no_trace() {
    let world = World::begun().await;
    let head = world.core.head().event;
    let org = *world.core.state().orgs.keys().next().expect("begun");
    for (ms, code) in [(1_700_000_000_000, "request_expired"), (1_900_000_000_000, "request_ahead")] {
        let token = NewToken { name: "x".parse().expect("a name"), hash: [3; 32], expires: None };
        let command = Command::CreateToken { org, role: Role::Viewer, token };
        let request = RequestId::from_parts(Timestamp::from_ms(ms), 1);
        let answer = world.core.submit(command, Actor::System, Some((request, [0; 32]))).await;
        assert!(
            matches!(&answer, Answer::Refused { code: got, event: None, .. } if got == code),
            "{answer:?}"
        );
    }
    assert_eq!(world.core.head().event, head);
}

#[tokio::test]
async fn many_at_once_are_written_once_each_and_in_one_order() {
    let world = Arc::new(World::begun().await);
    let asked: Vec<_> = (0..500u128)
        .map(|n| {
            let world = world.clone();
            // Each request is sent twice at the same time.
            tokio::spawn(async move { (world.token(1000 + n / 2, "reader").await, n / 2) })
        })
        .collect();
    let mut by_request = std::collections::BTreeMap::<u128, Vec<EventId>>::new();
    for task in asked {
        let (answer, request) = task.await.expect("no panic");
        by_request.entry(request).or_default().push(event_of(&answer));
    }
    assert!(by_request.values().all(|events| events[0] == events[1]), "a copy got another answer");
    assert_eq!(world.core.state().tokens.len(), 251);
}
