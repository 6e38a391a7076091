//! One instance, from its first try to its end: a task that does what it was told last.
//!
//! ```text
//!            ┌───────────── wait, longer each time ◀──────────┐
//!            ▼                                                │
//!  begin ─ bring up ──▶ attend (probe, wait for the end) ─── crashed
//!            │  │               │
//!            │  └─ can never ───┼──▶ failed, until told to stop
//!            └──── told to stop ┴──▶ stop ──▶ collect ──▶ done
//! ```
//!
//! It needs no control plane for any of this. What it does is noted in the journal; what it must
//! know after a restart of the agent is in the journal and on the machine itself.

use crate::{
    backoff::Backoff,
    container::{Containers, Image, StartError, stop_signal},
    images::Images,
    journal::Journal,
    monitor::Process,
    probe::{self, Judge, Verdict},
    reconcile::{Begin, Wish},
};
use rustix::process::Signal;
use std::{
    sync::{
        Arc,
        atomic::{AtomicI32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, sleep_until},
};
use types::{
    InstanceId, Timestamp, limits,
    plan::{Change, InstanceSpec, Reason},
};

/// What all supervisors of an agent share.
pub(crate) struct Shared {
    pub(crate) containers: Containers,
    pub(crate) images: Arc<dyn Images>,
    pub(crate) journal: Journal,
    /// Bounds starts that go on at once.
    pub(crate) starts: Semaphore,
    /// What the host is short of.
    pub(crate) pressure: watch::Receiver<Option<Reason>>,
    pub(crate) counts: Counts,
}

/// What the metrics count.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) starts: AtomicU64,
    pub(crate) start_failures: AtomicU64,
    pub(crate) crashes: AtomicU64,
    pub(crate) oom_kills: AtomicU64,
    pub(crate) adoptions: AtomicU64,
    pub(crate) reports: AtomicU64,
    pub(crate) link_errors: AtomicU64,
    pub(crate) plans_refused: AtomicU64,
    pub(crate) restarts: AtomicU64,
    pub(crate) probe_failures: AtomicU64,
    pub(crate) image_failures: AtomicU64,
}

pub(crate) fn add_one(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The supervisor of one instance.
pub(crate) struct Supervisor {
    pub(crate) id: InstanceId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) wish: watch::Receiver<Wish>,
    /// The process id while it runs, else 0; for the lease.
    pub(crate) running: Arc<AtomicI32>,
}

/// What came of bringing an instance up.
enum Brought {
    Up(Process, Arc<Image>),
    WishChanged,
    GaveUp,
}

/// Why attending an instance ended.
enum Attended {
    Ended { reason: Reason, detail: String },
    WishChanged,
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Supervisor {
    /// Does what is wished until the wish is *stop* and nothing is left to stop.
    pub(crate) async fn run(mut self, begin: Begin) {
        let mut backoff = Backoff::restart();
        let mut process = self.begin(begin, &mut backoff).await;
        loop {
            let wish = self.wish.borrow_and_update().clone();
            let Wish::Run(spec) = wish else { break };
            if let (Some(_), Some(started)) = (&process, self.shared.containers.started_with(self.id))
                && started.spec != *spec
            {
                tracing::info!(instance = %self.id, "its specification has changed; it is started anew");
                self.stop(process.take()).await;
            }
            let adopted = process.is_some();
            let (held, _image) = match process.take() {
                Some(held) => (held, None),
                None => match self.bring_up(&spec).await {
                    Brought::Up(held, image) => (held, Some(image)),
                    Brought::WishChanged => continue,
                    Brought::GaveUp => {
                        self.wish_changed().await;
                        continue;
                    }
                },
            };
            self.running.store(held.pid(), Ordering::Relaxed);
            let began = Instant::now();
            match self.attend(&spec, &held, adopted).await {
                Attended::WishChanged => process = Some(held),
                Attended::Ended { reason, detail } => {
                    self.running.store(0, Ordering::Relaxed);
                    self.crashed(reason, detail);
                    self.clear().await;
                    if began.elapsed() >= Duration::from(limits::RESTART_BACKOFF_RESET) {
                        backoff.reset();
                    }
                    self.pause(backoff.next()).await;
                }
            }
        }
        self.stop(process).await;
        self.note(Change::Stopped);
        self.collect().await;
        self.note(Change::Collected);
    }

    fn note(&self, change: Change) {
        tracing::info!(instance = %self.id, ?change, "instance");
        self.shared.journal.note(self.id, now(), change);
    }

    fn crashed(&self, reason: Reason, detail: String) {
        tracing::warn!(instance = %self.id, %reason, detail, "instance ended");
        add_one(&self.shared.counts.crashes);
        if reason == Reason::OomKilled {
            add_one(&self.shared.counts.oom_kills);
        }
        self.shared.journal.note_crash(self.id, now(), reason, detail);
    }

    /// Takes hold of what runs, or says how it ended while nobody looked.
    async fn begin(&mut self, begin: Begin, backoff: &mut Backoff) -> Option<Process> {
        match begin {
            Begin::Fresh => return None,
            Begin::Adopt { pid } => match self.shared.containers.adopt(self.id, pid) {
                Ok(process) => {
                    tracing::info!(instance = %self.id, pid, "adopted");
                    add_one(&self.shared.counts.adoptions);
                    self.running.store(pid, Ordering::Relaxed);
                    // The agent before may have died between the start and its report of it.
                    let known = self.shared.journal.last(self.id);
                    let was_told =
                        matches!(known, Some(Change::Booting | Change::Ready | Change::Unready { .. }));
                    if !was_told && matches!(&*self.wish.borrow(), Wish::Run(_)) {
                        self.note(Change::Booting);
                    }
                    return Some(process);
                }
                Err(error) => tracing::info!(instance = %self.id, pid, %error, "ended before it was adopted"),
            },
            Begin::Remains => {}
        }
        let was_up = matches!(
            self.shared.journal.last(self.id),
            Some(Change::Booting | Change::Ready | Change::Unready { .. })
        );
        if was_up && matches!(&*self.wish.borrow(), Wish::Run(_)) {
            if self.shared.containers.left_word(self.id) {
                let ending = self.shared.containers.ending(self.id).await;
                self.crashed(ending.reason, ending.detail);
                self.pause(backoff.next()).await;
            } else {
                let how = match self.shared.journal.is_new_boot() {
                    true => "it went down with its host",
                    false => "it was not there any more when the agent started",
                };
                self.crashed(Reason::Killed, how.into());
            }
        }
        None
    }

    /// Waits, unless the wish changes.
    async fn pause(&mut self, wait: Duration) {
        tokio::select! {
            () = sleep(wait) => {}
            () = self.wish_changed() => {}
        }
    }

    /// Waits until the wish is another than the one last looked at, and leaves it to be looked at.
    async fn wish_changed(&mut self) {
        if self.wish.changed().await.is_err() {
            // The agent is ending, and takes this task with it.
            std::future::pending::<()>().await;
        }
        self.wish.mark_changed();
    }

    async fn bring_up(&mut self, spec: &Arc<InstanceSpec>) -> Brought {
        let mut backoff = Backoff::restart();
        if matches!(self.shared.journal.last(self.id), Some(Change::Failed { .. })) {
            return Brought::GaveUp;
        }
        if self.shared.journal.last(self.id).is_none() {
            self.note(Change::Preparing);
        }
        let again = matches!(self.shared.journal.last(self.id), Some(Change::Crashed { .. }));
        loop {
            if self.wish.has_changed().unwrap_or(false) {
                return Brought::WishChanged;
            }
            let tried = self.try_once(spec).await;
            let error = match tried {
                Some(Ok((process, image))) => {
                    add_one(&self.shared.counts.starts);
                    if again {
                        add_one(&self.shared.counts.restarts);
                    }
                    self.note(Change::Booting);
                    return Brought::Up(process, image);
                }
                Some(Err(error)) => error,
                None => return Brought::WishChanged,
            };
            add_one(&self.shared.counts.start_failures);
            let StartError { reason, detail } = error.clone();
            if error.is_final() {
                self.note(Change::Failed { reason, detail });
                return Brought::GaveUp;
            }
            self.note(Change::Waiting { reason, detail });
            self.pause(backoff.next()).await;
        }
    }

    /// One try to get the image and start. `None`: the wish changed while waiting for the image.
    async fn try_once(&mut self, spec: &InstanceSpec) -> Option<Result<(Process, Arc<Image>), StartError>> {
        let is_new = matches!(
            self.shared.journal.last(self.id),
            None | Some(Change::Preparing | Change::Waiting { .. } | Change::Collected)
        );
        let pressure = *self.shared.pressure.borrow();
        if let (true, Some(reason)) = (is_new, pressure) {
            return Some(Err(StartError::new(
                reason,
                &"the host takes no new instances until it has space again",
            )));
        }
        let shared = Arc::clone(&self.shared);
        let image = tokio::select! {
            image = shared.images.ensure(&spec.image) => image,
            () = self.wish_changed() => return None,
        };
        let image = match image {
            Ok(image) => Arc::new(image),
            Err(error) => {
                add_one(&shared.counts.image_failures);
                return Some(Err(error));
            }
        };
        let _turn = shared.starts.acquire().await.expect("the semaphore is never closed");
        // Once begun, a start is carried through: it is short, and half of one is worth nothing.
        let started = shared.containers.start(self.id, spec, &image).await;
        Some(started.map(|process| (process, image)))
    }

    /// Probes the instance and waits for its end or another wish.
    async fn attend(&mut self, spec: &InstanceSpec, process: &Process, adopted: bool) -> Attended {
        let port = spec.health.as_ref().and_then(|health| Some((health, *spec.ports.get(&health.port)?)));
        let Some((health, port)) = port else {
            self.note(Change::Ready);
            return tokio::select! {
                () = process.ended() => self.ended().await,
                () = self.wish_changed() => Attended::WishChanged,
            };
        };
        let was_ready = adopted && self.shared.journal.last(self.id) == Some(Change::Ready);
        let mut judge = if was_ready {
            Judge::was_ready(health, Instant::now())
        } else {
            Judge::fresh(health, Instant::now())
        };
        let mut next = Instant::now();
        loop {
            let answer = async {
                sleep_until(next).await;
                probe::ask(health, spec.address, port).await
            };
            let answer = tokio::select! {
                () = process.ended() => return self.ended().await,
                () = self.wish_changed() => return Attended::WishChanged,
                answer = answer => answer,
            };
            if answer.is_err() {
                add_one(&self.shared.counts.probe_failures);
            }
            match judge.take(answer, Instant::now()) {
                Verdict::Same => {}
                Verdict::Ready => self.note(Change::Ready),
                Verdict::Unready(detail) => self.note(Change::Unready { detail }),
                Verdict::End(reason, detail) => {
                    process.signal(Signal::KILL);
                    process.ended().await;
                    return Attended::Ended { reason, detail };
                }
            }
            next = Instant::now() + judge.pause();
        }
    }

    async fn ended(&self) -> Attended {
        let ending = self.shared.containers.ending(self.id).await;
        Attended::Ended { reason: ending.reason, detail: ending.detail }
    }

    /// Ends what runs: the image's signal, the grace, and then for certain.
    async fn stop(&self, process: Option<Process>) {
        let Some(process) = process else { return };
        let started = self.shared.containers.started_with(self.id);
        let grace = started.as_ref().map_or(limits::STOP_GRACE, |run| run.spec.stop_grace);
        process.signal(stop_signal(started.and_then(|run| run.stop_signal).as_deref()));
        if tokio::time::timeout(Duration::from(grace), process.ended()).await.is_err() {
            tracing::info!(instance = %self.id, %grace, "still runs after its grace; killed");
            process.signal(Signal::KILL);
            process.ended().await;
        }
        self.running.store(0, Ordering::Relaxed);
    }

    /// Takes the remains of a run away at once, so that the next finds nothing in its way.
    async fn clear(&self) {
        if let Err(error) = self.shared.containers.remove(self.id).await {
            tracing::warn!(instance = %self.id, %error, "cannot remove all of the last run yet; tried again");
        }
    }

    async fn collect(&self) {
        let mut backoff = Backoff::restart();
        while let Err(error) = self.shared.containers.collect(self.id).await {
            tracing::warn!(instance = %self.id, %error, "cannot remove all of it yet; tried again");
            sleep(backoff.next()).await;
        }
    }
}
