//! The core against a log that fails when told to: what is answered is what the log holds.

use domain::{Actor, Command, NewToken, Role};
use holdfast_control::{Answer, Core};
use log::{
    AppendError, AppendFuture, Batch, Head, Log, MemoryLog, ReadError, Record, SnapshotError, SnapshotWriter,
};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use types::{EventId, RequestId, Timestamp, limits};

/// A memory log whose next appends answer what the test wants, and which tells a test of its reads.
#[derive(Default)]
struct Failing {
    inner: MemoryLog,
    script: Mutex<Vec<AppendError>>,
    /// The next read after event 0, as a fold from the beginning makes, waits for this.
    pause: Mutex<Option<Pause>>,
    /// The next read of what is new loses its first event.
    lose: AtomicBool,
    /// What is appended is durable, and whoever appended it hears of it when the test lets go.
    late: Arc<tokio::sync::Mutex<()>>,
    /// What another node writes in the place of the next append, whose outcome is unknown.
    usurper: Mutex<Option<Batch>>,
}

/// Says that it is reached, and waits to be let go.
struct Pause {
    reached: oneshot::Sender<()>,
    go: std::sync::mpsc::Receiver<()>,
}

impl Log for Failing {
    fn head(&self) -> Head {
        self.inner.head()
    }
    fn append(&self, expected: EventId, batch: Batch) -> AppendFuture {
        if let Some(other) = self.usurper.lock().expect("one test").take() {
            let appended = self.inner.append(expected, other);
            let (pending, answer) = AppendFuture::pending();
            let late = self.late.clone();
            tokio::spawn(async move {
                appended.await.expect("the other node writes");
                let _let_go = late.lock().await;
                pending.answer(Err(AppendError::Unknown));
            });
            return answer;
        }
        match self.script.lock().expect("one test").pop() {
            Some(error) => AppendFuture::ready(Err(error)),
            None => {
                let appended = self.inner.append(expected, batch);
                if self.late.try_lock().is_ok() {
                    return appended;
                }
                let (pending, answer) = AppendFuture::pending();
                let late = self.late.clone();
                tokio::spawn(async move {
                    let appended = appended.await;
                    let _let_go = late.lock().await;
                    pending.answer(appended);
                });
                answer
            }
        }
    }
    fn read(&self, after: EventId, max_events: usize) -> Result<Vec<Record>, ReadError> {
        let mut records = self.inner.read(after, max_events)?;
        if after == EventId::ZERO
            && let Some(pause) = self.pause.lock().expect("one test").take()
        {
            pause.reached.send(()).expect("the test waits");
            pause.go.recv().expect("the test lets go");
        }
        if after > EventId::ZERO && records.len() > 1 && self.lose.swap(false, Ordering::SeqCst) {
            records.remove(0);
        }
        Ok(records)
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

const START: Timestamp = Timestamp::from_ms(1_800_000_000_000);

fn open(log: Arc<Failing>) -> World {
    let clock = Arc::new(rt::SimClock::new(START));
    let random = Arc::new(rt::SimRandom::new(7));
    let (core, driver) = Core::open(log.clone(), clock.clone(), random).expect("an empty log folds");
    let stop = CancellationToken::new();
    let driver = tokio::spawn(driver.run(stop.clone()));
    World { log, clock, core, stop, driver }
}

impl World {
    async fn begun() -> Self {
        let log = Arc::new(Failing::default());
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
    assert!(world.core.is_full(), "it can be told without writing");
    let later = world.token(5, "reader").await;
    assert!(!world.core.is_full(), "and is over with the first write that fits");
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

/// What was decided on a batch in doubt is in doubt as well: here a copy of the very request, which
/// has nothing to write of its own.
#[tokio::test]
async fn what_rests_on_a_batch_in_doubt_is_in_doubt() {
    let world = Arc::new(World::begun().await);
    world.log.inner.hold();
    let copies: Vec<_> = (0..3)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.token(5, "reader").await })
        })
        .collect();
    // Decided and waiting: an append after the end that is durable is refused.
    loop {
        let probe = world.log.inner.append(EventId::ZERO, Batch::new(vec![vec![0].into()])).await;
        match probe {
            Err(AppendError::HeadMoved { head }) if head > world.log.head().event => break,
            _ => tokio::task::yield_now().await,
        }
    }
    let late = tokio::spawn({
        let world = world.clone();
        async move { world.token(5, "reader").await }
    });
    while world.core.queued() > 0 {
        tokio::task::yield_now().await;
    }
    world.log.inner.fail_held(AppendError::Unknown);
    for copy in copies.into_iter().chain([late]) {
        let answer = copy.await.expect("no panic");
        assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
    }
    // The log has stopped; nothing that it refuses from now on is known for certain.
    let after = world.token(6, "reader").await;
    assert!(matches!(after, Answer::Unknown { .. }), "{after:?}");
    assert!(world.core.in_doubt());
}

/// Found by the simulator: what was decided on a lost batch was published once another node had written
/// as many events, and the state was not the fold of the log.
#[tokio::test]
async fn what_rests_on_a_lost_batch_is_not_published_when_another_node_wrote_in_its_place() {
    let other = World::begun().await;
    let begun = other.core.head().event;
    other.token(6, "other").await;
    let events = other.log.read(begun, usize::MAX).expect("reads");

    let world = Arc::new(World::begun().await);
    assert_eq!(world.core.head().event, begun);
    let let_go = world.log.late.clone().lock_owned().await;
    let events = events.into_iter().map(|record| record.bytes).collect();
    *world.log.usurper.lock().expect("one test") = Some(Batch::new(events));
    let ask = || {
        let world = world.clone();
        tokio::spawn(async move { world.token(5, "reader").await })
    };
    let first = ask();
    let mut durable = world.log.subscribe();
    durable.wait_for(|head| *head > begun).await.expect("the other node writes");
    // A copy, which has nothing to write and rests on the first.
    let copy = ask();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.core.queued(), 0, "both are decided");
    drop(let_go);
    for answer in [first, copy] {
        let answer = answer.await.expect("answered");
        assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
    }
    world.core.wait_for(world.core.head().event).await.expect("it follows the log");
    let state = world.core.state();
    let names: Vec<String> = state.tokens.values().map(|token| token.name.to_string()).collect();
    assert!(names.contains(&"other".to_owned()) && !names.contains(&"reader".to_owned()), "{names:?}");
}

#[tokio::test]
async fn a_view_that_was_set_aside_is_rebuilt_under_writes_without_a_gap() {
    let world = World::begun().await;
    world.log.lose.store(true, Ordering::SeqCst);
    let event = event_of(&world.token(5, "reader").await);
    world.core.wait_for(event).await.expect("the other views go on");
    let apps = domain::view::NAMES[0];
    assert!(world.core.with_views(|views| views.quarantined(apps).is_some()), "a view met a gap");

    let (reached, told) = oneshot::channel();
    let (go, gone) = std::sync::mpsc::sync_channel(1);
    *world.log.pause.lock().expect("one test") = Some(Pause { reached, go: gone });
    let core = world.core.clone();
    let rebuilding = tokio::spawn(async move { core.rebuild(apps.to_owned()).await });
    told.await.expect("it folds");
    // While it folds, the log goes on, and the other views with it.
    let event = event_of(&world.token(6, "reader").await);
    world.core.wait_for(event).await.expect("visible");
    go.send(()).expect("it waits");
    let rebuilt = rebuilding.await.expect("no panic").expect("readable").expect("known");
    assert_eq!((rebuilt.events, rebuilt.before == rebuilt.after), (event.get(), false));
    let event = event_of(&world.token(7, "reader").await);
    world.core.wait_for(event).await.expect("visible");
    world.core.with_views(|views| {
        assert_eq!(views.quarantined(apps), None);
        assert_eq!(views.checkpoint(apps), Some(event));
    });
}

#[tokio::test]
async fn nothing_is_visible_before_the_state_reflects_it() {
    let world = Arc::new(World::begun().await);
    let held = world.log.late.clone().lock_owned().await;
    let writing = tokio::spawn({
        let world = world.clone();
        async move { world.token(5, "reader").await }
    });
    // The views follow the log by themselves, and are ahead of the state here.
    let mut viewed = world.core.viewed();
    let head = world.core.state().head;
    let event = *viewed.wait_for(|at| *at > head).await.expect("they go on");
    let waiting = world.core.wait_for(event);
    tokio::pin!(waiting);
    assert!(futures_util::poll!(&mut waiting).is_pending(), "the state has not got there");
    drop(held);
    waiting.await.expect("visible");
    assert!(world.core.state().head >= event);
    writing.await.expect("no panic");
}

#[tokio::test]
async fn one_time_goes_by_for_everybody_after_a_clock_was_set_back() {
    let world = World::begun().await;
    let hour = types::DurationMs::from_secs(3600);
    world.clock.advance(hour);
    let ahead = world.core.now();
    world.token(5, "reader").await;
    world.clock.set(START);
    assert_eq!(world.core.state().at, ahead);
    let first = world.core.now();
    assert!(first >= ahead, "never behind the newest event");
    let begun = std::time::Instant::now();
    while world.core.now() <= first {
        assert!(begun.elapsed().as_secs() < 10, "waits must end, though the clock is behind");
        tokio::task::yield_now().await;
    }
    world.clock.set(ahead.plus(hour));
    assert_eq!(world.core.now(), ahead.plus(hour), "and once it has caught up, the clock leads");
}

#[tokio::test]
async fn a_log_from_a_much_later_time_is_not_gone_on_with() {
    let world = World::begun().await;
    world.clock.advance(limits::CLOCK_BEHIND);
    world.clock.advance(types::DurationMs::from_ms(1));
    world.token(5, "reader").await;
    let (log, newest) = (world.log.clone(), world.core.state().at);
    let start = |at: Timestamp| {
        let clock = Arc::new(rt::SimClock::new(at));
        Core::open(log.clone(), clock, Arc::new(rt::SimRandom::new(7))).map(drop)
    };
    let error = start(START).expect_err("one of the two is wrong").to_string();
    assert!(error.contains(&START.to_string()) && error.contains(&newest.to_string()), "{error}");
    start(newest.minus(limits::CLOCK_BEHIND)).expect("that much is gone on with");
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
