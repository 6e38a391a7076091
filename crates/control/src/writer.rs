//! The core of a server: the log, the one writer, the state that readers see, and the views.
//!
//! ```text
//!   submit ──queue──▶ writer: decide a batch ──append──▶ log (one fdatasync for all that wait)
//!                        ▲   pipelined, the overlay runs ahead        │ durable, in order
//!                        └──── reset when an append failed ◀──────────┤
//!                                                     publish state ◀─┘─▶ answer ─▶ views follow
//! ```
//! Invariants: `acked_is_durable` (an answer leaves only after its watermark is durable) and
//! readers never see what is only queued. When the log says *unknown*, so does every answer that
//! waits for it, and so does every failure that comes after it in this process: what rested on the
//! doubtful batch may stand in the log as well. Nothing is tried again.

use crate::{
    figures::Figures,
    observe::Observations,
    sequencer::{Decided, Outcome, Proposal, Sequencer},
};
use domain::{
    Actor, Command, Done, Envelope, State, codec,
    state::{Apart, Standing},
    view::Views,
};
use futures_util::{StreamExt, stream::FuturesOrdered};
use log::{AppendError, Authority, Log};
use rt::Boundary;
use std::{
    sync::{
        Arc, Mutex, OnceLock, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use types::{EventId, NodeId, RequestId, Timestamp, history::Held, limits};

/// Events between two snapshots of the state.
const SNAPSHOT_EVERY: u64 = 50_000;
/// Events read from the log at once when a fold catches up.
const CATCH_UP: usize = 4096;

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done and durable.
    Executed {
        /// What it made.
        done: Done,
        /// Its last event.
        event: EventId,
        /// It had been decided before.
        replayed: bool,
    },
    /// A rule said no.
    Refused {
        /// The problem code.
        code: String,
        /// The answer, word for word.
        text: String,
        /// Where the verdict stands; none when the id itself was not acceptable.
        event: Option<EventId>,
        /// It had been decided before.
        replayed: bool,
    },
    /// Certainly not executed.
    Unavailable {
        /// The log's disk has no space.
        storage_full: bool,
        /// More for people.
        why: String,
    },
    /// Only the log can say, once it answers again.
    Unknown {
        /// More for people.
        why: String,
    },
}

/// Why a server cannot start from its log.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Read(#[from] log::ReadError),
    /// An event cannot be understood.
    #[error("the log holds what this Holdfast cannot read; it was written by a newer one, or is damaged")]
    Decode(#[from] codec::Error),
    /// The clock is far behind what was written under another one. One of the two is wrong, and
    /// with a wrong one every token, lease and request id would be judged wrongly.
    #[error(
        "this machine's clock says {clock}, and the newest event of the log was written at {newest}; more than {} behind is too much to go on with",
        limits::CLOCK_BEHIND
    )]
    ClockBehind {
        /// What the clock says.
        clock: Timestamp,
        /// When the newest event was written.
        newest: Timestamp,
    },
}

/// An event was written and a view has not reached it within the bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("written at event {event}, not yet visible: the slowest view is at {at}")]
pub struct NotVisible {
    /// What was waited for.
    pub event: EventId,
    /// How far the slowest view is.
    pub at: EventId,
}

type Waiting = (Proposal, oneshot::Sender<Answer>);

struct Shared {
    log: Arc<dyn Log>,
    clock: Arc<dyn rt::Clock>,
    random: Arc<dyn rt::Random>,
    queue: mpsc::Sender<Waiting>,
    state: RwLock<Arc<State>>,
    applied: watch::Sender<EventId>,
    views: Mutex<Views>,
    viewed: watch::Sender<EventId>,
    observations: Observations,
    /// What tells the log from all others; none where only its first event says.
    identity: OnceLock<String>,
    snapshot: Mutex<Option<String>>,
    /// The newest event's time and since when it has been ahead of the clock: see [`Core::now`].
    behind: Mutex<Option<(Timestamp, Instant)>>,
    /// The log has said *unknown* once.
    doubt: AtomicBool,
    /// The log had no space for the last batch.
    full: AtomicBool,
    /// Held while a view is folded anew.
    rebuilding: Arc<tokio::sync::Mutex<()>>,
    figures: Arc<Figures>,
}

/// A cheap handle on the core of a server.
#[derive(Clone)]
pub struct Core(Arc<Shared>);

/// The task side of a [`Core`]: the writer and the views' follower.
pub struct Driver {
    core: Core,
    queue: mpsc::Receiver<Waiting>,
    /// The authority it decided under last.
    led: Option<Authority>,
    /// What the last snapshot reflects, whoever asked for it.
    snapshot_at: EventId,
}

impl Core {
    /// Folds what the log holds, from its newest snapshot on, and makes the two halves.
    ///
    /// # Errors
    /// A log that cannot be read or understood to its end: nothing is guessed. A clock that is far
    /// behind the log.
    pub fn open(
        log: Arc<dyn Log>,
        clock: Arc<dyn rt::Clock>,
        random: Arc<dyn rt::Random>,
    ) -> Result<(Self, Driver), StartError> {
        // Read once: others may write meanwhile, and state and views must begin at the same event.
        let head = log.head().event;
        let mut state = load_snapshot(log.as_ref(), head);
        let snapshot_at = state.head;
        fold_until(log.as_ref(), state.head, head, |envelope| state.apply(envelope))?;
        let (now, newest) = (clock.now(), state.at);
        if now.plus(limits::CLOCK_BEHIND) < newest {
            return Err(StartError::ClockBehind { clock: now, newest });
        }
        let mut views = Views::new();
        fold_until(log.as_ref(), EventId::ZERO, head, |envelope| views.apply(envelope))?;
        let (queue, waiting) = mpsc::channel(limits::COMMAND_QUEUE);
        let shared = Shared {
            observations: Observations::new(now.max(newest)),
            identity: OnceLock::new(),
            log,
            clock,
            random,
            queue,
            state: RwLock::new(Arc::new(state)),
            applied: watch::Sender::new(head),
            views: Mutex::new(views),
            viewed: watch::Sender::new(head),
            snapshot: Mutex::new(None),
            behind: Mutex::default(),
            doubt: AtomicBool::new(false),
            full: AtomicBool::new(false),
            rebuilding: Arc::default(),
            figures: Arc::default(),
        };
        let core = Self(Arc::new(shared));
        Ok((core.clone(), Driver { core, queue: waiting, led: None, snapshot_at }))
    }

    /// Has a command decided, and answers when that is durable.
    pub async fn submit(
        &self,
        command: Command,
        actor: Actor,
        request: Option<(RequestId, [u8; 32])>,
    ) -> Answer {
        self.propose(Proposal { command, actor, judged: None, request, cause: None }).await
    }

    /// The same with its cause, for reconcilers.
    pub async fn propose(&self, proposal: Proposal) -> Answer {
        let (answer, answered) = oneshot::channel();
        let full = |why: &str| Answer::Unavailable { storage_full: false, why: why.to_owned() };
        let answer = match self.0.queue.try_send((proposal, answer)) {
            Err(mpsc::error::TrySendError::Full(_)) => full("the queue of commands is full"),
            Err(mpsc::error::TrySendError::Closed(_)) => full("the server is stopping"),
            Ok(()) => {
                answered.await.unwrap_or_else(|_| Answer::Unknown { why: "the server stopped".to_owned() })
            }
        };
        self.0.figures.answered(&answer);
        answer
    }

    /// The state, durable, as of now.
    pub fn state(&self) -> Arc<State> {
        self.0.state.read().expect("no thread panics while it holds this").clone()
    }

    /// The event that [`Core::state`] reflects.
    pub fn applied(&self) -> watch::Receiver<EventId> {
        self.0.applied.subscribe()
    }

    /// The event that every healthy view reflects.
    pub fn viewed(&self) -> watch::Receiver<EventId> {
        self.0.viewed.subscribe()
    }

    /// Waits, bounded, until state and views reflect `event`. Either may be first: the views follow
    /// the log by themselves.
    ///
    /// # Errors
    /// The bound passed first.
    pub async fn wait_for(&self, event: EventId) -> Result<(), NotVisible> {
        let (mut applied, mut viewed) = (self.applied(), self.viewed());
        let both = async {
            applied.wait_for(|at| *at >= event).await.is_ok()
                && viewed.wait_for(|at| *at >= event).await.is_ok()
        };
        match tokio::time::timeout(limits::READ_WAIT.into(), both).await {
            Ok(true) => Ok(()),
            _ => {
                let at = (*self.0.applied.borrow()).min(*self.0.viewed.borrow());
                Err(NotVisible { event, at })
            }
        }
    }

    /// Looks at the views while nothing moves them. Keep it short: the follower waits.
    pub fn with_views<R>(&self, look: impl FnOnce(&Views) -> R) -> R {
        look(&self.0.views.lock().expect("no thread panics while it holds this"))
    }

    /// Folds a view anew from the first event, compares it with the live one, and swaps it in. One
    /// view at a time: each fold reads the whole log.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn rebuild(&self, name: String) -> Result<Option<Rebuilt>, StartError> {
        let (core, turn) = (self.clone(), self.0.rebuilding.clone().lock_owned().await);
        let folding = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            core.rebuild_now(&name)
        });
        folding.await.expect("folding does not panic")
    }

    fn rebuild_now(&self, name: &str) -> Result<Option<Rebuilt>, StartError> {
        let mut fresh = Views::new();
        if fresh.fingerprint(name).is_none() {
            return Ok(None);
        }
        let checkpoint = |views: &Views| views.checkpoint(name).expect("the name was found above");
        let fingerprint = |views: &Views| views.fingerprint(name).expect("the name was found above");
        loop {
            // Most of it is folded while the live views go on.
            let target = *self.0.viewed.borrow();
            fold_until(self.0.log.as_ref(), checkpoint(&fresh), target, |event| fresh.apply(event))?;
            let mut live = self.0.views.lock().expect("no thread panics while it holds this");
            // The follower moves the views and says so under this lock, so what it gives them next
            // is the event after this one; a quarantined view itself stands further back.
            let at = *self.0.viewed.borrow();
            let broken = fresh.quarantined(name).is_some();
            if !broken && at.get() - checkpoint(&fresh).get() > CATCH_UP as u64 {
                continue;
            }
            if !broken {
                fold_until(self.0.log.as_ref(), checkpoint(&fresh), at, |event| fresh.apply(event))?;
            }
            let rebuilt = Rebuilt {
                before: fingerprint(&live),
                after: fingerprint(&fresh),
                events: checkpoint(&fresh).get(),
            };
            // A fold that cannot go on is no better than what is there.
            if fresh.quarantined(name).is_none() {
                assert_eq!(checkpoint(&fresh), at, "the live view would be given events with a gap");
                live.replace(name, fresh);
            }
            return Ok(Some(rebuilt));
        }
    }

    /// Events after a cursor, decoded.
    ///
    /// # Errors
    /// The log cannot be read or understood.
    pub fn events(&self, after: EventId, limit: usize) -> Result<Vec<Envelope>, StartError> {
        let records = self.0.log.read(after, limit.min(limits::PAGE_ROWS))?;
        records.iter().map(|record| Ok(codec::decode(record.id, record.epoch, &record.bytes)?)).collect()
    }

    /// The durable head of the log.
    pub fn head(&self) -> log::Head {
        self.0.log.head()
    }

    /// What nodes said.
    pub fn observations(&self) -> &Observations {
        &self.0.observations
    }

    /// The one time that everything here goes by: the clock's, and never behind the newest event.
    ///
    /// A clock may be set back after events were written under a later time. From then on the time
    /// is the newest event's and what has passed since, so that waits still end and leases still
    /// run out.
    pub fn now(&self) -> Timestamp {
        let (clock, newest) = (self.0.clock.now(), self.state().at);
        let mut behind = self.0.behind.lock().expect("no thread panics while it holds this");
        if clock >= newest {
            *behind = None;
            return clock;
        }
        let (_, since) = match *behind {
            Some(anchor) if anchor.0 == newest => anchor,
            _ => *behind.insert((newest, Instant::now())),
        };
        newest.plus(types::DurationMs::from_ms(since.elapsed().as_millis() as u64))
    }

    /// The server's dice.
    pub fn random(&self) -> &dyn rt::Random {
        self.0.random.as_ref()
    }

    /// From here on the log is known by this, whatever its first event calls it: one that was restored
    /// or recovered has another identity than the one its events began in.
    pub fn is_called(&self, identity: &str) {
        let _once = self.0.identity.set(identity.to_owned());
    }

    /// What tells the log from all others: plans are named by it.
    pub fn identity(&self) -> String {
        self.0.identity.get().cloned().unwrap_or_else(|| self.state().cluster.clone())
    }

    /// Whether a plan is of this log and newer than a state of it only because that state is late: a node
    /// that has it is not ahead of the log.
    pub fn is_late(&self, state: &State, held: &Held) -> bool {
        let made = state.generation_of(self.head().event);
        state.standing(&self.identity(), held) == Standing::Apart(Apart::Ahead) && held.generation <= made
    }

    /// Why nothing may be pushed to a node: it holds a plan that this log never made. Either the log is
    /// older than what it governs (it was restored from a backup, say), or it is another one. Only who
    /// sequences goes by what it has noted: another may have noted it when it led, and hears no leases since.
    pub fn why_apart(&self, node: NodeId) -> Option<String> {
        if !self.leads() {
            return None;
        }
        let (state, identity) = (self.state(), self.identity());
        let line = crate::observe::Line { state: &state, identity: &identity };
        let stray = self.observations().apart(node, line)?;
        Some(format!("node {node}: {stray}; {}", crate::observe::HINT))
    }

    /// Whether the log has said *unknown* in this process: then an absent verdict proves nothing.
    pub fn in_doubt(&self) -> bool {
        self.0.doubt.load(Ordering::SeqCst)
    }

    /// What the writer has counted.
    pub(crate) fn figures(&self) -> &Figures {
        &self.0.figures
    }

    /// Whether the writer is there to decide.
    pub fn is_open(&self) -> bool {
        !self.0.queue.is_closed()
    }

    /// Commands that wait to be decided.
    pub fn queued(&self) -> usize {
        limits::COMMAND_QUEUE - self.0.queue.capacity()
    }

    /// Whether the log had no space for the last batch.
    pub fn is_full(&self) -> bool {
        self.0.full.load(Ordering::SeqCst)
    }

    /// Why the last snapshot could not be made, if it could not.
    pub fn snapshot_trouble(&self) -> Option<String> {
        self.0.snapshot.lock().expect("no thread panics while it holds this").clone()
    }

    /// Who may sequence, and whether it is this node: see [`Log::authority`].
    pub fn authority(&self) -> watch::Receiver<Option<Authority>> {
        self.0.log.authority()
    }

    /// Whether this node sequences.
    pub fn leads(&self) -> bool {
        self.0.log.authority().borrow().is_some()
    }

    /// Snapshots the state as of now; gives the event that it reflects. Blocks.
    ///
    /// # Errors
    /// Why it could not be made. The log goes on without it.
    pub fn save_snapshot(&self) -> Result<EventId, String> {
        let state = self.state();
        let head = state.head;
        let write = Box::new(move |to: &mut dyn std::io::Write| crate::snapshot::encode(&state, to));
        let saved = self.0.log.save_snapshot(head, write).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            format!("{error}{}", cause.unwrap_or_default())
        });
        if let Err(why) = &saved {
            tracing::error!(%why, at = %head, "a snapshot could not be made; the log goes on without it");
        }
        *self.0.snapshot.lock().expect("no thread panics while it holds this") = saved.clone().err();
        saved.map(|()| head)
    }

    fn publish(&self, state: State) {
        let head = state.head;
        *self.0.state.write().expect("no thread panics while it holds this") = Arc::new(state);
        self.0.applied.send_replace(head);
    }
}

/// A view folded anew, beside the one that was live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// The fingerprint of the live one.
    pub before: [u8; 32],
    /// The fingerprint of the new one, at the same event.
    pub after: [u8; 32],
    /// Events folded.
    pub events: u64,
}

fn load_snapshot(log: &dyn Log, head: EventId) -> State {
    let loaded = match log.load_snapshot() {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::warn!(%error, "no snapshot can be used; folding the whole log");
            None
        }
    };
    let state = loaded.and_then(|(at, bytes)| match crate::snapshot::decode(&bytes) {
        Ok(state) if state.head == at && at <= head => Some(state),
        Ok(state) if state.head == at => {
            tracing::warn!(%at, %head, "the snapshot is ahead of what is known to be committed; folding the whole log");
            None
        }
        _ => {
            tracing::warn!(%at, "the snapshot is of another format; folding the whole log");
            None
        }
    });
    state.unwrap_or_default()
}

fn fold_until(
    log: &dyn Log,
    mut after: EventId,
    until: EventId,
    mut each: impl FnMut(&Envelope),
) -> Result<(), StartError> {
    while after < until {
        let wanted = (until.get() - after.get()).min(CATCH_UP as u64) as usize;
        for record in log.read(after, wanted)? {
            each(&codec::decode(record.id, record.epoch, &record.bytes)?);
            after = record.id;
        }
    }
    Ok(())
}

/// A batch on its way to the disk, and who waits for it.
struct UnderWay {
    state: State,
    waiting: Vec<(Outcome, oneshot::Sender<Answer>)>,
}

impl Driver {
    /// Decides, writes, publishes and answers, until told to stop and everything under way is
    /// answered.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let views = rt::spawn(follow(self.core.clone(), shutdown.clone()));
        let mut authority = self.core.0.log.authority();
        let mut waiting: Vec<Waiting> = Vec::new();
        loop {
            let held = *authority.borrow_and_update();
            if let Err(error) = self.catch_up() {
                tracing::error!(%error, "the state cannot follow the log");
                break;
            }
            let goes_on = match held {
                Some(held) => self.lead(held, &mut authority, &mut waiting, &shutdown).await,
                None => self.stand_by(&mut authority, &mut waiting, &shutdown).await,
            };
            if !goes_on {
                break;
            }
        }
        drop(self.queue);
        // Waited for, so that nothing holds the log once this returns.
        views.abort();
        let _aborted = views.await;
    }

    /// Decides and writes under this authority, until it is gone, or an append has failed: then what
    /// was decided on it is thrown away and the log is asked again what stands. False at the end.
    async fn lead(
        &mut self,
        held: Authority,
        authority: &mut watch::Receiver<Option<Authority>>,
        waiting: &mut Vec<Waiting>,
        shutdown: &CancellationToken,
    ) -> bool {
        if self.led.replace(held) != Some(held) {
            tracing::info!(epoch = %held.epoch, "this node sequences");
            self.core.0.figures.leads_begun.fetch_add(1, Ordering::Relaxed);
            // What was in doubt under an earlier authority has been decided: the log has been read up
            // to this one.
            self.core.0.doubt.store(false, Ordering::SeqCst);
            // Nodes spoke to whoever sequenced before; nothing of that is known here.
            self.core.observations().begin_anew(self.core.now());
        }
        let mut sequencer = Sequencer::new(self.core.state().as_ref().clone(), held.epoch);
        let mut under_way = FuturesOrdered::new();
        let (mut leaving, mut failed) = (false, false);
        let mut constant = false;
        let mut drained = std::pin::pin!(drained(shutdown));
        loop {
            if leaving && under_way.is_empty() {
                return true;
            }
            // Without authority nothing is begun, and nobody waits for what is in doubt to be settled.
            let lost = leaving && authority.borrow().is_none();
            if lost {
                refuse(waiting);
            }
            // Before anything is waited for: some may have come under the authority before.
            if self.core.0.log.is_short_of_space() {
                self.answer_no_space(waiting);
            }
            while !waiting.is_empty() && !leaving && under_way.len() < limits::BATCHES_IN_FLIGHT / 2 {
                let batch = self.decide(&mut sequencer, waiting);
                under_way.push_back(self.append(batch));
            }
            let open =
                !leaving && under_way.len() < limits::BATCHES_IN_FLIGHT / 2 && !shutdown.is_cancelled();
            tokio::select! {
                biased;
                Some((result, batch)) = under_way.next(), if !under_way.is_empty() => {
                    failed |= self.conclude(result, batch, failed);
                    leaving |= failed;
                    self.snapshot();
                }
                changed = authority.changed(), if !leaving && !constant => match changed {
                    Ok(()) => leaving = true,
                    Err(_) if authority.borrow().is_some() => constant = true,
                    Err(_) => leaving = true,
                },
                count = self.queue.recv_many(waiting, limits::BATCH_COMMANDS), if lost || (open && waiting.is_empty()) => {
                    if count == 0 { return false; }
                }
                () = shutdown.cancelled(), if under_way.is_empty() => return false,
                () = &mut drained, if !under_way.is_empty() => {
                    // Whoever waits is told *unknown* as their answers are dropped.
                    tracing::warn!(batches = under_way.len(), "the log does not answer; stopping without it");
                    return false;
                }
            }
        }
    }

    /// Follows what another node writes, and takes no command, until this node may. False at the end.
    async fn stand_by(
        &mut self,
        authority: &mut watch::Receiver<Option<Authority>>,
        waiting: &mut Vec<Waiting>,
        shutdown: &CancellationToken,
    ) -> bool {
        let mut durable = self.core.0.log.subscribe();
        loop {
            refuse(waiting);
            tokio::select! {
                biased;
                changed = authority.changed() => return changed.is_ok(),
                changed = durable.changed() => {
                    if changed.is_err() { return false; }
                    if let Err(error) = self.catch_up() {
                        tracing::error!(%error, "the state cannot follow the log");
                        return false;
                    }
                    self.snapshot();
                }
                count = self.queue.recv_many(waiting, limits::BATCH_COMMANDS) => {
                    if count == 0 { return false; }
                }
                () = shutdown.cancelled() => return false,
            }
        }
    }

    /// Brings the state to the end of what is committed, whoever wrote it.
    fn catch_up(&self) -> Result<(), StartError> {
        let head = self.core.head().event;
        if self.core.state().head >= head {
            return Ok(());
        }
        let mut state = self.core.state().as_ref().clone();
        fold_until(self.core.0.log.as_ref(), state.head, head, |envelope| state.apply(envelope))?;
        self.core.publish(state);
        Ok(())
    }

    fn decide(
        &self,
        sequencer: &mut Sequencer,
        waiting: &mut Vec<Waiting>,
    ) -> (Decided, Vec<oneshot::Sender<Answer>>) {
        let proposals: Vec<Proposal> = waiting.iter().map(|(proposal, _)| proposal.clone()).collect();
        let core = &self.core.0;
        let decided = sequencer.decide(&proposals, self.core.now(), || core.random.u128());
        let answers = waiting.drain(..decided.outcomes.len()).map(|(_, answer)| answer).collect();
        (decided, answers)
    }

    /// The append of one batch. A batch without events only waits for its turn: its answers rest on
    /// what is under way before it.
    fn append(
        &self,
        (decided, answers): (Decided, Vec<oneshot::Sender<Answer>>),
    ) -> impl Future<Output = (Result<(), AppendError>, UnderWay)> + use<> {
        let asked = decided.envelopes.iter().any(|envelope| envelope.request.is_some());
        if asked {
            Boundary::WriteDecided.reached();
        }
        let appended = (!decided.batch.events.is_empty())
            .then(|| self.core.0.log.append(decided.expected, decided.batch));
        let waiting = decided.outcomes.into_iter().zip(answers).collect();
        let batch = UnderWay { state: decided.state, waiting };
        let (begun, figures) = (Instant::now(), self.core.0.figures.clone());
        async move {
            let result = match appended {
                Some(appended) => {
                    let result = appended.await.map(|_| ());
                    figures.appended(begun.elapsed(), &result);
                    result
                }
                None => Ok(()),
            };
            if asked && result.is_ok() {
                Boundary::WriteDurable.reached();
            }
            (result, batch)
        }
    }

    /// Publishes and answers one batch; true if the overlay must be thrown away. `failed` says that one
    /// before it was not written.
    fn conclude(&self, result: Result<(), AppendError>, batch: UnderWay, failed: bool) -> bool {
        // A batch that rests on one that failed must not be published, even if it wrote nothing: another
        // node may have written other events of the same numbers by now.
        let rests = !failed && batch.state.head <= self.core.head().event;
        let failed = match result {
            Ok(()) if rests => {
                if batch.state.head > self.core.state().head {
                    self.core.0.full.store(false, Ordering::SeqCst);
                    self.core.publish(batch.state);
                }
                for (outcome, answer) in batch.waiting {
                    // Whoever asked may have gone; the verdict stands in the log.
                    let _gone = answer.send(answer_of(outcome));
                }
                return false;
            }
            Ok(()) => AppendError::HeadMoved { head: self.core.head().event },
            Err(error) => error,
        };
        tracing::error!(error = %failed, commands = batch.waiting.len(), "a batch was not confirmed by the log");
        if failed == AppendError::Unknown {
            self.core.0.doubt.store(true, Ordering::SeqCst);
        }
        if failed == AppendError::NoSpace {
            self.core.0.full.store(true, Ordering::SeqCst);
        }
        let answer = match failed {
            // What follows a doubtful batch was decided on it, and shares its doubt.
            _ if self.core.in_doubt() => Answer::Unknown { why: failed.to_string() },
            AppendError::NoSpace => Answer::Unavailable { storage_full: true, why: failed.to_string() },
            _ => Answer::Unavailable { storage_full: false, why: failed.to_string() },
        };
        for (_, waiting) in batch.waiting {
            let _gone = waiting.send(answer.clone());
        }
        true
    }

    /// Starts a snapshot in the background when enough has happened since the last.
    fn snapshot(&mut self) {
        let head = self.core.state().head;
        if head.get() < self.snapshot_at.get() + SNAPSHOT_EVERY {
            return;
        }
        self.snapshot_at = head;
        let core = self.core.clone();
        tokio::task::spawn_blocking(move || core.save_snapshot());
    }

    /// Nothing is decided that could not be written: certainly not executed.
    fn answer_no_space(&self, waiting: &mut Vec<Waiting>) {
        for (_, answer) in waiting.drain(..) {
            self.core.0.full.store(true, Ordering::SeqCst);
            let why = AppendError::NoSpace.to_string();
            let _gone = answer.send(Answer::Unavailable { storage_full: true, why });
        }
    }
}

/// Answers commands that nobody decides here: certainly not executed.
fn refuse(waiting: &mut Vec<Waiting>) {
    for (_, answer) in waiting.drain(..) {
        let why = "this node does not sequence; another does, or nobody at the moment".to_owned();
        let _gone = answer.send(Answer::Unavailable { storage_full: false, why });
    }
}

/// Ends when a stop was asked for and what was under way then has had its time.
async fn drained(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    tokio::time::sleep(limits::WRITER_DRAIN.into()).await;
}

fn answer_of(outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Executed { done, event, replayed } => Answer::Executed { done, event, replayed },
        Outcome::Refused { code, text, event, replayed } => Answer::Refused { code, text, event, replayed },
    }
}

/// Feeds the views from the durable log, on their own cursor: a slow view slows no write.
async fn follow(core: Core, shutdown: CancellationToken) {
    let mut durable = core.0.log.subscribe();
    let mut at = *core.0.viewed.borrow();
    while !shutdown.is_cancelled() {
        match core.events(at, limits::PAGE_ROWS) {
            Ok(envelopes) if envelopes.is_empty() => {
                tokio::select! {
                    biased;
                    changed = durable.changed() => if changed.is_err() { return },
                    () = shutdown.cancelled() => return,
                }
            }
            Ok(envelopes) => {
                let mut views = core.0.views.lock().expect("no thread panics while it holds this");
                envelopes.iter().for_each(|envelope| views.apply(envelope));
                at = envelopes.last().map_or(at, |last| last.id);
                // Before the lock goes: whoever holds it finds the views where this says.
                core.0.viewed.send_replace(at);
                drop(views);
            }
            Err(error) => {
                tracing::error!(%error, after = %at, "the views cannot follow the log");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
