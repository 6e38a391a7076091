//! Clients that never pause, and a count of what became of each request.
//!
//! Three kinds run side by side on each route, by server name and by port: a new connection for each
//! request, connections that a pool renews now and then, and connections that last until the other
//! side says goodbye. Each request is counted once, in the phase in which it
//! ends, with the reason if it failed. A request fails if its connection cannot be made or
//! verified, ends early, takes longer than [`PATIENCE`], or is not answered with 200 by the demo's
//! server. Nothing is tried again to make a figure look better: the next request is the next one.
//!
//! A connection that lives on and is told `Connection: close` is opened anew: that is how HTTP
//! says goodbye, and no request was lost. A connection that is gone without that word fails the
//! request that finds out.

use crate::{Answer, Failure, Outcome, Target, Wire};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long one request may take before it has failed.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long a pooled connection lives before its client opens the next one, as pools of HTTP clients
/// do. An instance that drains keeps its open connections for a while, and this is what ends them;
/// those that last longer are told to close by the instance itself.
pub const LIFE: Duration = Duration::from_secs(6);

/// The two ways in.
#[derive(Clone)]
pub struct Routes {
    /// By server name.
    pub tls: Target,
    /// By a port of its own.
    pub tcp: Target,
}

/// What became of the requests of one phase.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// All that ended in the phase.
    pub requests: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Why, and how often.
    pub reasons: BTreeMap<String, u64>,
    /// Versions that answered, and how often.
    pub versions: BTreeMap<String, u64>,
    /// The slowest that succeeded.
    pub slowest: Duration,
}

/// How long a client uses a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// For one request.
    New,
    /// For [`LIFE`].
    Pooled,
    /// Until the other side says goodbye.
    Lasting,
}

/// One client: which way in, how, how many at once, and how long between two of its requests.
struct Crowd {
    name: &'static str,
    target: Target,
    style: Style,
    clients: usize,
    every: Duration,
}

/// State shared by all clients and whoever reads the count.
struct Shared {
    tally: Mutex<Tally>,
    /// Requests ended, by client; grows by one with each.
    done: Vec<AtomicU64>,
    stop: AtomicBool,
}

/// The running load.
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Load {
    /// Starts all clients on a thread of their own.
    ///
    /// # Errors
    /// No thread.
    pub fn start(routes: &Routes) -> Outcome<Self> {
        let crowd = |name, target: &Target, style, clients, every_ms| Crowd {
            name,
            target: target.clone(),
            style,
            clients,
            every: Duration::from_millis(every_ms),
        };
        let crowds = [
            crowd("new tls", &routes.tls, Style::New, 4, 40),
            crowd("pooled tls", &routes.tls, Style::Pooled, 8, 20),
            crowd("lasting tls", &routes.tls, Style::Lasting, 4, 20),
            crowd("new tcp", &routes.tcp, Style::New, 2, 20),
            crowd("pooled tcp", &routes.tcp, Style::Pooled, 2, 20),
            crowd("lasting tcp", &routes.tcp, Style::Lasting, 2, 20),
        ];
        let clients = crowds.iter().map(|crowd| crowd.clients).sum();
        let shared = Arc::new(Shared {
            tally: Mutex::default(),
            done: (0..clients).map(|_| AtomicU64::new(0)).collect(),
            stop: AtomicBool::new(false),
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::new("start the load", error))?;
        let for_thread = Arc::clone(&shared);
        let run = move || runtime.block_on(run_all(for_thread, crowds));
        let thread = thread::Builder::new().name("load".into()).spawn(run);
        let thread = thread.map_err(|error| Failure::new("start the load", error))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// What was counted since the last call; the next phase begins.
    pub fn take(&self) -> Tally {
        std::mem::take(&mut *self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What has been counted so far in this phase.
    pub fn look(&self) -> Tally {
        self.shared.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until every request that is under way now has ended, so that what a phase broke is
    /// counted in that phase. The load goes on.
    ///
    /// # Errors
    /// A client that does not move: its request would have ended by [`PATIENCE`].
    pub fn settle(&self) -> Outcome {
        // Two more than now: the first may have begun before, the second began after.
        let read = || self.shared.done.iter().map(|done| done.load(SeqCst)).collect::<Vec<_>>();
        let before = read();
        crate::wait_for("every client to end two more requests", 3 * PATIENCE, || {
            read().iter().zip(&before).all(|(now, before)| *now >= before + 2).then_some(())
        })
    }

    /// Ends all clients after their present request and returns the last count.
    pub fn stop(mut self) -> Tally {
        self.shared.stop.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
        self.take()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, SeqCst);
    }
}

async fn run_all(shared: Arc<Shared>, crowds: [Crowd; 6]) {
    let mut clients = tokio::task::JoinSet::new();
    for crowd in &crowds {
        for _ in 0..crowd.clients {
            let (shared, place) = (Arc::clone(&shared), clients.len());
            let (name, target, style, every) = (crowd.name, crowd.target.clone(), crowd.style, crowd.every);
            clients.spawn(run_one(shared, place, name, target, style, every));
        }
    }
    while clients.join_next().await.is_some() {}
}

async fn run_one(
    shared: Arc<Shared>,
    place: usize,
    name: &'static str,
    target: Target,
    style: Style,
    every: Duration,
) {
    let mut ticks = interval(every);
    // After a stall the pace is as before: a burst would say more about the client than the edge.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wire: Option<Wire> = None;
    while !shared.stop.load(SeqCst) {
        ticks.tick().await;
        let start = Instant::now();
        if let Some(old) = wire.take_if(|wire| style == Style::Pooled && wire.age() > LIFE) {
            old.close().await;
        }
        let result = match timeout(PATIENCE, request(&target, style, &mut wire)).await {
            Ok(result) => result,
            Err(_) => {
                wire = None;
                Err(io::Error::from(io::ErrorKind::TimedOut))
            }
        };
        shared.count(name, start.elapsed(), &result);
        shared.done[place].fetch_add(1, SeqCst);
    }
}

/// One request; `wire` holds the connection that lives on, if one does.
async fn request(target: &Target, style: Style, wire: &mut Option<Wire>) -> io::Result<Answer> {
    let mut open = match wire.take() {
        Some(open) => open,
        None => target.connect().await?,
    };
    let answer = open.get("/").await?;
    match style {
        Style::Pooled | Style::Lasting if !answer.closes => *wire = Some(open),
        Style::New | Style::Pooled | Style::Lasting => open.close().await,
    }
    Ok(answer)
}

impl Shared {
    fn count(&self, client: &str, took: Duration, result: &io::Result<Answer>) {
        let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
        tally.requests += 1;
        let reason = match result {
            Ok(answer) => match version(answer) {
                Some(version) => {
                    *tally.versions.entry(version).or_default() += 1;
                    tally.slowest = tally.slowest.max(took);
                    return;
                }
                None => format!("status {}", answer.status),
            },
            Err(error) => error.to_string(),
        };
        tally.failed += 1;
        *tally.reasons.entry(format!("{client}: {reason}")).or_default() += 1;
    }
}

/// The version in an answer of the demo's server; `None` if it is anything else.
fn version(answer: &Answer) -> Option<String> {
    let text = std::str::from_utf8(&answer.body).ok()?;
    let version = text.strip_prefix("version=")?.split(' ').next()?;
    (answer.status == 200).then(|| version.to_owned())
}
