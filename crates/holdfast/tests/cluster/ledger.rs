//! Clients that write all the time, each to one member, and the book they keep: what each was told.
//! Afterwards the log must say the same of every single request.

use crate::{
    net::Host,
    scene::Cluster,
    wire::{self, Answer, Call, Lost},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use types::{RequestId, Timestamp};

/// Between two writes of one client.
const PAUSE: Duration = Duration::from_millis(10);
/// How long a client waits for one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Executed at this event.
    Executed(u64),
    /// It had no effect and never will.
    NotExecuted,
    /// Nobody could say, or nobody answered.
    Unknown,
}

/// One request of one client.
#[derive(Clone, Debug)]
pub struct Line {
    pub request: RequestId,
    pub told: Told,
    pub sent: Instant,
    pub answered: Instant,
    /// What was said, in a few words.
    pub words: String,
}

/// A fresh request id.
pub fn fresh() -> RequestId {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // A hasher of the standard library begins with random keys.
    let random = u128::from(RandomState::new().hash_one(count)) << 16 | u128::from(count & 0xffff);
    RequestId::from_parts(Timestamp::from_ms(u64::try_from(since.as_millis()).expect("fits")), random)
}

/// What a write asks for.
pub fn token() -> Value {
    json!({ "name": "written", "role": "viewer", "expires_in": "1h" })
}

/// What an answer says of a write, and how.
pub fn told(answer: &Result<Answer, Lost>) -> (Told, String) {
    let answer = match answer {
        Ok(answer) => answer,
        Err(Lost::NotSent(why)) => return (Told::NotExecuted, format!("not sent: {why}")),
        Err(Lost::Unknown(why)) => return (Told::Unknown, why.clone()),
    };
    let words = || format!("{} {}: {}", answer.status, answer.code(), answer.body["detail"]);
    match answer.body["outcome"].as_str() {
        Some("executed") => match answer.body["event"].as_u64() {
            Some(event) => (Told::Executed(event), String::new()),
            None => (Told::Unknown, format!("executed without an event: {}", answer.body)),
        },
        Some("not_executed") => (Told::NotExecuted, words()),
        _ => (Told::Unknown, words()),
    }
}

/// One write through one member.
pub fn write(cluster: &Cluster, at: usize) -> Line {
    write_from(cluster.host(at), cluster.token(), PATIENCE)
}

fn write_from(host: &Host, token_of_owner: &str, patience: Duration) -> Line {
    let request = fresh();
    let (bearer, id) = (format!("Bearer {token_of_owner}"), request.to_string());
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", id.as_str())];
    let body = token();
    let sent = Instant::now();
    let call = Call { method: "POST", path: "/v1/tokens", headers: &headers, body: Some(&body) };
    let answer = wire::call(host, &call, patience);
    let (told, words) = told(&answer);
    Line { request, told, sent, answered: Instant::now(), words }
}

/// Clients that write until they are told to stop.
pub struct Writers {
    stop: Arc<AtomicBool>,
    executed: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<Line>>>,
}

impl Writers {
    /// One client for each of these members.
    pub fn start(cluster: &Cluster, members: &[usize]) -> Self {
        Self::with(cluster, members, PAUSE)
    }

    /// The same, without a pause between two writes of one client.
    pub fn eager(cluster: &Cluster, members: &[usize]) -> Self {
        Self::with(cluster, members, Duration::ZERO)
    }

    fn with(cluster: &Cluster, members: &[usize], pause: Duration) -> Self {
        let (stop, executed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = members.iter().map(|at| {
            let (host, token) = (cluster.host(*at).clone(), cluster.token().to_owned());
            let (stop, executed) = (Arc::clone(&stop), Arc::clone(&executed));
            std::thread::spawn(move || {
                let mut lines = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let line = write_from(&host, &token, PATIENCE);
                    executed.fetch_add(u64::from(matches!(line.told, Told::Executed(_))), Ordering::Relaxed);
                    lines.push(line);
                    std::thread::sleep(pause);
                }
                lines
            })
        });
        let threads = threads.collect();
        Self { stop, executed, threads }
    }

    /// Waits until so many more writes were executed.
    pub fn more(&self, count: u64) {
        let wanted = self.executed.load(Ordering::Relaxed) + count;
        demo::wait_for("writes to go on", crate::scene::SOON, || {
            (self.executed.load(Ordering::Relaxed) >= wanted).then_some(())
        })
        .expect("writes that are executed");
    }

    /// What all of them were told.
    pub fn stop(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        let lines = self.threads.into_iter().flat_map(|thread| thread.join().expect("a client that ends"));
        let mut lines: Vec<Line> = lines.collect();
        lines.sort_by_key(|line| line.sent);
        Ledger(lines)
    }
}

/// What clients were told, in the order of asking.
#[derive(Clone, Debug, Default)]
pub struct Ledger(pub Vec<Line>);

/// How many requests came to which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub executed: usize,
    pub not_executed: usize,
    pub unknown: usize,
    /// Of the unknown, those that turn out to have been executed.
    pub done: usize,
}

impl Ledger {
    pub fn count(&self, wanted: impl Fn(&Line) -> bool) -> usize {
        self.0.iter().filter(|line| wanted(line)).count()
    }

    /// When the first write was answered as executed that was sent after `since`.
    pub fn first_after(&self, since: Instant) -> Option<Instant> {
        let after = self.0.iter().filter(|line| line.sent >= since && matches!(line.told, Told::Executed(_)));
        after.map(|line| line.answered).min()
    }

    /// Every request must be what its client was told, by the word of every one of `members`, which
    /// have the same events; what nobody could say becomes certain now. Voids what was never seen.
    pub fn agrees(&self, cluster: &Cluster, members: &[usize]) -> Count {
        for line in self.0.iter().filter(|line| line.told == Told::Unknown) {
            self.resolve(cluster, members[0], line);
        }
        let events = cluster.same_everywhere(members);
        let mut caused: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
        for event in &events {
            if let Some(request) = event["request_id"].as_str() {
                let (id, kind) = (event["id"].as_u64().expect("an id"), event["kind"].to_string());
                caused.entry(request.to_owned()).or_default().push((id, kind));
            }
        }
        let mut count = Count::default();
        for line in &self.0 {
            let found = caused.get(&line.request.to_string()).cloned().unwrap_or_default();
            let effects: Vec<u64> =
                found.iter().filter(|(_, kind)| kind.contains("token.created")).map(|(id, _)| *id).collect();
            assert!(effects.len() <= 1, "{line:?} ran more than once: {found:?}");
            match line.told {
                Told::Executed(event) => {
                    // The event of its verdict is the last it caused.
                    assert_eq!(
                        (effects.len(), found.last().map(|(id, _)| *id)),
                        (1, Some(event)),
                        "{line:?}: {found:?}"
                    );
                    count.executed += 1;
                }
                Told::NotExecuted => {
                    assert!(effects.is_empty(), "{line:?} had an effect: {found:?}");
                    count.not_executed += 1;
                }
                Told::Unknown => {
                    count.unknown += 1;
                    count.done += effects.len();
                }
            }
        }
        self.asked(cluster, members, &caused);
        count
    }

    /// `requests show` says the same as the events do: of all that was not plainly executed, and of
    /// some that were.
    fn asked(&self, cluster: &Cluster, members: &[usize], caused: &BTreeMap<String, Vec<(u64, String)>>) {
        let plain = self.0.iter().filter(|line| matches!(line.told, Told::Executed(_)));
        let step = (self.0.len() / 50).max(1);
        let others = self.0.iter().filter(|line| !matches!(line.told, Told::Executed(_)));
        for (number, line) in plain.step_by(step).chain(others.take(200)).enumerate() {
            let at = members[number % members.len()];
            let state = cluster.read(at, &format!("/v1/requests/{}", line.request));
            let found = caused.get(&line.request.to_string());
            let ran = found.is_some_and(|found| found.iter().any(|(_, kind)| kind.contains("token.created")));
            match found.and_then(|found| found.last()).map(|(id, _)| *id).filter(|_| ran) {
                Some(event) => {
                    assert_eq!((&state["state"], &state["event"]), (&json!("executed"), &json!(event)))
                }
                None => assert_ne!(state["state"], "executed", "{line:?}: {state}"),
            }
            assert!(state["final"] == true || line.told == Told::NotExecuted, "{line:?}: {state}");
        }
    }

    /// Asks what became of a request, and makes sure that one nobody has seen never runs.
    fn resolve(&self, cluster: &Cluster, at: usize, line: &Line) {
        let path = format!("/v1/requests/{}", line.request);
        let state = cluster.read(at, &format!("{path}?consistency=linearizable"));
        if state["final"] == true {
            return;
        }
        assert_eq!(state["state"], "not_seen", "{state}");
        let void = format!("{path}/void");
        let voided = cluster.call(
            at,
            &Call { method: "POST", path: &void, headers: &[], body: None },
            crate::scene::ANSWER,
        );
        let voided = voided.unwrap_or_else(|lost| panic!("{lost:?}"));
        assert_eq!((voided.status, &voided.body["final"]), (200, &json!(true)), "{voided:?}");
    }
}
