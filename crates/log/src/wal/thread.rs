//! The write-ahead log behind a thread: appends queue up, one writer commits whatever waits.
//!
//! ```text
//! append ─► queue ─► writer: all that waits ─► one write, one sync ─► publish ─► answer each
//! ```
//!
//! There is no timer: while one sync runs, the next group gathers. Invariants:
//!
//! - Answers are given in the order of the queue, and after readers can see the events.
//! - The head an append is compared with is that of the queue's end. When a group fails, everything
//!   queued behind it was decided on it and is refused before anything else can be queued.
//! - After a failed write or sync, or a panic, nothing is written any more, by this thread or
//!   another, and the process is told to end.
//!
//! No server runs on it: a cluster of one does. It stays as the bare log that a cluster of one is measured
//! against, in one run of the same bench, and as the second log that keeps the conformance suite honest about
//! what is a promise of every log and what is consensus's own.

use super::{
    format::CreateError,
    machine::{Entry, GroupError, Options, Wal},
    recover::{OpenError, Recovered},
    snapshot,
    store::Store,
};
use crate::{
    AppendError, AppendFuture, Appended, Batch, Head, Log, Pending, ReadError, Record, SnapshotError,
    SnapshotWriter, contract::check_batch,
};
use rt::{Disk, DiskError, Operation, Spawner, TaskHandle};
use std::{
    collections::VecDeque,
    fmt, io,
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard},
};
use tokio::sync::watch;
use types::{EventId, NodeId, limits};

/// A group is closed when it has this many bytes: what waits longer would wait in vain.
const GROUP_BYTES: usize = 16 << 20;

/// Called once, when the disk has failed under the log or its writer has panicked. The process must
/// end: what it holds in memory may be ahead of the disk.
pub type Fatal = Box<dyn Fn(&DiskError) + Send + Sync>;

/// Why a log could not be opened for use.
#[derive(Debug, thiserror::Error)]
pub enum OpenLogError {
    /// The log itself does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It could not be created.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// Its writer could not be started.
    #[error("cannot start the writer of the log")]
    Thread(#[source] io::Error),
}

/// The log of one machine.
pub struct WalLog {
    store: Arc<Store>,
    shared: Arc<Shared>,
    writer: Mutex<Option<TaskHandle>>,
    node: NodeId,
}

impl fmt::Debug for WalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalLog").field("dir", &self.store.dir).field("head", &self.store.head()).finish()
    }
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

struct Queue {
    jobs: VecDeque<Job>,
    /// Jobs that the writer has taken and not yet answered.
    in_flight: usize,
    /// The head when everything queued is durable.
    end: EventId,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Running,
    /// What is queued is still written, nothing new is taken.
    Closing,
    Stopped,
}

struct Job {
    entry: Entry,
    bytes: usize,
    pending: Pending,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no code panics while it holds this lock")
    }
}

impl WalLog {
    /// Opens the log in this directory and starts its writer.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        spawner: &dyn Spawner,
        on_fatal: Fatal,
    ) -> Result<(Self, Recovered), OpenLogError> {
        let (wal, recovered) = Wal::open(disk, dir, options)?;
        let store = Arc::clone(wal.store());
        let node = wal.node();
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue {
                jobs: VecDeque::with_capacity(limits::BATCHES_IN_FLIGHT),
                in_flight: 0,
                end: wal.head().event,
                state: State::Running,
            }),
            wake: Condvar::new(),
        });
        let on_fatal = Arc::from(on_fatal);
        let writer = Writer { wal, shared: Arc::clone(&shared), store: Arc::clone(&store), on_fatal };
        let handle =
            spawner.spawn("log-writer", Box::new(move || writer.run())).map_err(OpenLogError::Thread)?;
        Ok((Self { store, shared, writer: Mutex::new(Some(handle)), node }, recovered))
    }

    /// As [`Self::open`], and creates the log first if there is none: its first epoch is opened in
    /// the name of `node`.
    pub fn open_or_create(
        disk: Arc<dyn Disk>,
        dir: &Path,
        cluster: &str,
        node: NodeId,
        options: Options,
        spawner: &dyn Spawner,
        on_fatal: Fatal,
    ) -> Result<(Self, Recovered), OpenLogError> {
        if !Wal::exists(&*disk, dir).map_err(OpenError::from)? {
            Wal::create(&disk, dir, cluster, node)?;
        }
        Self::open(disk, dir, options, spawner, on_fatal)
    }

    /// The node that this log belongs to.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Opens the next epoch, in which `node` sequences. Resolves when that is durable; the epoch is
    /// then in [`Log::head`].
    pub fn open_epoch(&self, node: NodeId, reason: &str) -> AppendFuture {
        let entry = Entry::Epoch { node, reason: reason.into() };
        self.queue(None, entry, reason.len())
    }

    /// Writes what is queued, stops the writer and notes how far the log is. Appends from now on
    /// answer [`AppendError::Stopped`]; reads go on. Blocks. Dropping the log does the same.
    pub fn close(&self) {
        {
            let mut queue = self.shared.lock();
            if queue.state == State::Running {
                queue.state = State::Closing;
            }
        }
        self.shared.wake.notify_all();
        let writer = self.writer.lock().expect("no code panics while it holds this lock").take();
        if let Some(writer) = writer
            && !writer.join()
        {
            tracing::error!("the writer of the log ended in a panic");
        }
    }

    fn queue(&self, expected: Option<EventId>, entry: Entry, bytes: usize) -> AppendFuture {
        let mut queue = self.shared.lock();
        if queue.state != State::Running {
            return AppendFuture::ready(Err(AppendError::Stopped));
        }
        if expected.is_some_and(|expected| expected != queue.end) {
            return AppendFuture::ready(Err(AppendError::HeadMoved { head: queue.end }));
        }
        let waiting = queue.jobs.len() + queue.in_flight;
        if waiting >= limits::BATCHES_IN_FLIGHT {
            return AppendFuture::ready(Err(AppendError::Busy { waiting }));
        }
        let (pending, future) = AppendFuture::pending();
        if let Entry::Batch(batch) = &entry {
            queue.end = queue.end.plus(batch.events.len() as u64);
        }
        queue.jobs.push_back(Job { entry, bytes, pending });
        // The writer looks at the queue again before it sleeps, so it needs waking only then.
        let asleep = queue.in_flight == 0 && queue.jobs.len() == 1;
        drop(queue);
        if asleep {
            self.shared.wake.notify_one();
        }
        future
    }
}

impl Drop for WalLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Log for WalLog {
    fn head(&self) -> Head {
        self.store.head()
    }

    fn append(&self, expected: EventId, batch: Batch) -> AppendFuture {
        match check_batch(&batch) {
            Ok(bytes) => self.queue(Some(expected), Entry::Batch(batch), bytes),
            Err(error) => AppendFuture::ready(Err(error)),
        }
    }

    fn read(&self, after: EventId, max_events: usize) -> Result<Vec<Record>, ReadError> {
        self.store.read(after, max_events)
    }

    fn subscribe(&self) -> watch::Receiver<EventId> {
        self.store.subscribe()
    }

    fn save_snapshot(&self, at: EventId, write: SnapshotWriter) -> Result<(), SnapshotError> {
        snapshot::save(&self.store, at, write)
    }

    fn load_snapshot(&self) -> Result<Option<(EventId, Vec<u8>)>, SnapshotError> {
        snapshot::load(&self.store)
    }
}

/// What the thread owns.
struct Writer {
    wal: Wal,
    shared: Arc<Shared>,
    store: Arc<Store>,
    on_fatal: Arc<dyn Fn(&DiskError) + Send + Sync>,
}

impl Writer {
    fn run(mut self) {
        // If this thread panics, nobody may wait for answers that never come.
        let guard = StopOnPanic {
            shared: Arc::clone(&self.shared),
            store: Arc::clone(&self.store),
            on_fatal: Arc::clone(&self.on_fatal),
        };
        let mut entries = Vec::new();
        let mut owed = Vec::new();
        let mut placed = Vec::new();
        while self.take_group(&mut entries, &mut owed) {
            let result = self.wal.append_group(&entries, &mut placed);
            entries.clear();
            if !self.answer(result, &mut owed, &placed) {
                return;
            }
        }
        drop(guard);
        if let Err(error) = self.wal.close() {
            tracing::warn!(%error, "cannot note the end of the log; the next start is as after a crash");
        }
    }

    /// Takes everything that waits, or waits itself. False when the log is closed and empty.
    fn take_group(&self, entries: &mut Vec<Entry>, owed: &mut Vec<Pending>) -> bool {
        let mut queue = self.shared.lock();
        queue.in_flight = 0;
        while queue.jobs.is_empty() {
            if queue.state != State::Running {
                return false;
            }
            queue = self.shared.wake.wait(queue).expect("no code panics while it holds this lock");
        }
        let mut bytes = 0;
        while let Some(job) = queue.jobs.front() {
            if bytes > 0 && bytes + job.bytes > GROUP_BYTES {
                break;
            }
            bytes += job.bytes;
            let job = queue.jobs.pop_front().expect("it was there a line ago");
            entries.push(job.entry);
            owed.push(job.pending);
        }
        queue.in_flight = owed.len();
        true
    }

    /// Answers a group; false when the log has stopped.
    fn answer(&self, result: Result<(), GroupError>, owed: &mut Vec<Pending>, placed: &[Appended]) -> bool {
        match result {
            Ok(()) => {
                self.store.announce();
                // Whoever is answered may append at once, so the places are free before that.
                self.shared.lock().in_flight = 0;
                for (pending, appended) in owed.drain(..).zip(placed) {
                    pending.answer(Ok(*appended));
                }
                true
            }
            Err(GroupError::NoSpace(error)) => {
                tracing::error!(%error, "the log refuses appends until there is space");
                let head = self.store.head().event;
                let behind = self.refuse_queued(State::Running, head);
                for pending in owed.drain(..) {
                    pending.answer(Err(AppendError::NoSpace));
                }
                for job in behind {
                    job.pending.answer(Err(AppendError::HeadMoved { head }));
                }
                true
            }
            Err(GroupError::Failed(error)) => {
                tracing::error!(%error, "the log has failed and stops; this process must end");
                self.stop(owed, &AppendError::Unknown);
                (self.on_fatal)(&error);
                false
            }
            Err(GroupError::Stopped) => {
                self.stop(owed, &AppendError::Stopped);
                false
            }
        }
    }

    fn stop(&self, owed: &mut Vec<Pending>, error: &AppendError) {
        let behind = self.refuse_queued(State::Stopped, self.store.head().event);
        for pending in owed.drain(..) {
            pending.answer(Err(error.clone()));
        }
        // These never reached the disk, and that is certain.
        for job in behind {
            job.pending.answer(Err(AppendError::Stopped));
        }
    }

    /// Empties the queue, with whose end nothing may be compared any more.
    fn refuse_queued(&self, state: State, head: EventId) -> VecDeque<Job> {
        let mut queue = self.shared.lock();
        if state == State::Stopped {
            queue.state = state;
        }
        queue.end = head;
        queue.in_flight = 0;
        std::mem::take(&mut queue.jobs)
    }
}

/// Stops the log when its writer is gone without having said so, and has the process end. Answers
/// that are owed resolve to unknown, because they are dropped.
struct StopOnPanic {
    shared: Arc<Shared>,
    store: Arc<Store>,
    on_fatal: Arc<dyn Fn(&DiskError) + Send + Sync>,
}

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        if let Ok(mut queue) = self.shared.queue.lock() {
            queue.state = State::Stopped;
            queue.jobs.clear();
        }
        if std::thread::panicking() {
            let source = io::Error::other("the writer of the log panicked");
            (self.on_fatal)(&DiskError::new(Operation::Write, &self.store.dir, source));
        }
    }
}
