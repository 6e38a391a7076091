//! The log of one member of a cluster, behind a thread: what the consensus layer hands over queues
//! up, and one writer makes it durable.
//!
//! ```text
//!   hand over ─► queue ─► writer: all that waits ─► one write, one sync ─► tell each
//!       └─► readable for others at once                commit ─► readable for everyone
//! ```
//!
//! Invariants:
//!
//! - Everything is done in the order it was handed over: a vote is not durable before the entries in
//!   front of it, and a cut comes after what it cuts.
//! - Nobody is told before the sync that covers it has returned.
//! - After a failed write or sync nothing is written any more; the process must end.
//! - A disk without space makes the writer wait, not fail: what was handed over is neither lost nor
//!   told as durable, and goes on when there is space.

use super::{
    aside::{self, Aside},
    fence::{self, Fence},
    format::{ARCHIVE, CreateError, Vote, VoteError},
    in_place::{InPlace, is_only_space},
    incarnation::{Has, Incarnations},
    machine::{GroupError, Options, Wal},
    quarantine,
    recover::{OpenError, Recovered},
    refusal,
    replica::{self, Committed, RawEntry},
    snapshot,
    store::Store,
    thread::{Fatal, OpenLogError},
};
use crate::{Head, ReadError, Record, SnapshotError, SnapshotWriter};
use bytes::Bytes;
use futures_util::FutureExt;
use rt::{Disk, DiskError, Spawner, TaskHandle};
use std::{
    collections::VecDeque,
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use types::{Epoch, EventId, Index, NodeId, Term};

/// A group is closed when it has this many bytes.
const GROUP_BYTES: usize = 16 << 20;
/// How long the writer waits for space before it looks again.
const SPACE_WAIT: Duration = Duration::from_millis(200);
/// How long the writer looks for more before it sleeps. To wake it costs an idle machine about as much as a sync,
/// and who was just told often hands over more at once: one appender reaches 0.87 of the bare log's rate with
/// this, and 0.6 without (`make bench`).
const AWAKE: Duration = Duration::from_micros(100);

/// Why something that was handed over is not durable. Whether it is on disk, only a restart can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the log has stopped")]
pub struct Halted;

/// Is told what became of something handed over. Called from the writer's thread; must not block.
pub type Done = Box<dyn FnOnce(Result<(), Halted>) + Send>;

/// Why a member's log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenMemberError {
    /// The log itself does not open.
    #[error(transparent)]
    Open(#[from] OpenLogError),
    /// What is committed cannot be found in it.
    #[error("the log cannot be read")]
    Read(#[from] ReadError),
    /// The vote cannot be read.
    #[error(transparent)]
    Vote(#[from] VoteError),
    /// Another member has refused it.
    #[error("{} must not be started again: {why}", dir.display())]
    Refused {
        /// The directory.
        dir: PathBuf,
        /// In the other member's words.
        why: String,
    },
}

impl OpenMemberError {
    /// The disk did not let the log be looked for.
    pub fn from_disk(error: DiskError) -> Self {
        OpenError::from(error).into()
    }

    /// Whether a record of the log is damaged; see [`super::Repair`].
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Read(ReadError::Damaged { .. }))
            || self.open_error().is_some_and(OpenError::is_damage)
    }

    /// What is wrong with the log itself, if that is it.
    pub fn open_error(&self) -> Option<&OpenError> {
        match self {
            Self::Open(OpenLogError::Open(error)) => Some(error),
            _ => None,
        }
    }
}

impl From<OpenError> for OpenMemberError {
    fn from(error: OpenError) -> Self {
        Self::Open(error.into())
    }
}

impl From<CreateError> for OpenMemberError {
    fn from(error: CreateError) -> Self {
        Self::Open(error.into())
    }
}

/// The log of one member. See the top of this file.
pub struct MemberLog {
    store: Arc<Store>,
    shared: Arc<Shared>,
    writer: Mutex<Option<TaskHandle>>,
    durable: watch::Receiver<Index>,
    node: NodeId,
    vote: Mutex<Vote>,
    short: Arc<AtomicBool>,
    lives: Arc<Incarnations>,
    /// Never held while the disk is waited for.
    fence: Mutex<Option<Fence>>,
    /// Where it is marked; held while it is.
    marker: Mutex<InPlace>,
}

impl fmt::Debug for MemberLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemberLog").field("dir", &self.store.dir).field("tail", &self.tail()).finish()
    }
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Wakes the writer where it is not a thread but a task, in a simulation.
    task: Option<Notify>,
    on_fatal: Mutex<Option<Fatal>>,
}

struct Queue {
    jobs: VecDeque<Job>,
    busy: bool,
    open: bool,
    /// Whether the writer waits for space.
    patient: bool,
}

enum Job {
    Append { entries: Vec<RawEntry>, done: Done },
    Cut { last: Index, done: Done },
    Vote { vote: Vote, done: Done },
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no code panics while it holds this lock")
    }

    fn wake(&self) {
        self.wake.notify_all();
        if let Some(task) = &self.task {
            task.notify_one();
        }
    }

    /// Waits until woken, on the thread of the writer or as its task; at most so long.
    async fn wait(&self, queue: MutexGuard<'_, Queue>, at_most: Option<Duration>) {
        let poisoned = "no code panics while it holds this lock";
        match (&self.task, at_most) {
            (None, None) => {
                if let Some(queue) = self.still_idle(queue) {
                    drop(self.wake.wait(queue).expect(poisoned));
                }
            }
            (None, Some(at_most)) => drop(self.wake.wait_timeout(queue, at_most).expect(poisoned)),
            (Some(task), None) => {
                drop(queue);
                task.notified().await;
            }
            (Some(task), Some(at_most)) => {
                drop(queue);
                let _woken_or_not = tokio::time::timeout(at_most, task.notified()).await;
            }
        }
    }

    /// Looks for something to do for a moment, letting every thread go first that wants the core. The queue, if
    /// there is nothing.
    fn still_idle<'a>(&'a self, queue: MutexGuard<'a, Queue>) -> Option<MutexGuard<'a, Queue>> {
        drop(queue);
        let since = Instant::now();
        loop {
            let late = since.elapsed() >= AWAKE;
            let queue = self.lock();
            if !queue.jobs.is_empty() || !queue.open {
                return None;
            }
            if late {
                return Some(queue);
            }
            drop(queue);
            std::thread::yield_now();
        }
    }

    /// Has the process end. Said once.
    fn fail(&self, error: &DiskError) {
        let on_fatal = self.on_fatal.lock().expect("no code panics while it holds this lock").take();
        if let Some(on_fatal) = on_fatal {
            on_fatal(error);
        }
    }
}

impl MemberLog {
    /// Opens the log in this directory and starts its writer. What is behind the last noted commit
    /// is not visible yet. The log of one machine becomes that of the first member of a cluster, in
    /// which `founding` says who the members are; no other directory ever founds one. `nonce` is a
    /// random number, which tells this life of the member from any other.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        founding: Bytes,
        nonce: u128,
        spawner: &dyn Spawner,
        on_fatal: Fatal,
    ) -> Result<(Self, Recovered), OpenMemberError> {
        let (mut wal, recovered) = Wal::open(disk, dir, options)?;
        if wal.is_plain()? {
            wal.found(founding)?;
        }
        wal.finish_recovery()?;
        let store = Arc::clone(wal.store());
        if let Some(why) = refusal::load(&*store.disk, dir).map_err(OpenMemberError::from_disk)? {
            return Err(OpenMemberError::Refused { dir: dir.into(), why });
        }
        let vote = wal.settle_vote()?;
        let has = Has { vote: vote.term, entry: wal.tail().index };
        let mut lives = Incarnations::load(Arc::clone(&store.disk), dir)?;
        wal.spend_reserve(|| lives.begin(nonce, has)).map_err(OpenMemberError::from_disk)?;
        let lives = Arc::new(lives);
        store.become_member()?;
        *store.kept_aside() = aside::aside(&*store.disk, dir).map_err(OpenMemberError::from_disk)?;
        let (fence, marker) = fence_of(&mut wal).map_err(OpenMemberError::from_disk)?;
        let node = wal.node();
        let on_fatal = Mutex::new(Some(on_fatal));
        let queue = Queue { jobs: VecDeque::new(), busy: false, open: true, patient: true };
        let task = spawner.tasks().map(|_| Notify::new());
        let shared = Arc::new(Shared { queue: Mutex::new(queue), wake: Condvar::new(), task, on_fatal });
        let (tell, durable) = watch::channel(wal.tail().index);
        let short = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            wal,
            shared: Arc::clone(&shared),
            store: Arc::clone(&store),
            durable: tell,
            short: Arc::clone(&short),
            lives: Arc::clone(&lives),
        };
        let handle = match spawner.tasks() {
            Some(tasks) => tasks.spawn_loop(writer.run()),
            None => spawner
                .spawn("log-writer", Box::new(move || writer.run_on_thread()))
                .map_err(OpenLogError::Thread)?,
        };
        let writer = Mutex::new(Some(handle));
        let (vote, fence, marker) = (vote.into(), fence.into(), marker.into());
        let log = Self { store, shared, writer, durable, node, vote, short, lives, fence, marker };
        Ok((log, recovered))
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Notes that a read found this log damaged, so that the next start looks there and repairs it.
    pub fn note_damage(&self, error: &ReadError) {
        let ReadError::Damaged { path, .. } = error else { return };
        tracing::error!(%error, "a record of the log is damaged");
        if path.parent().is_some_and(|place| place.ends_with(ARCHIVE))
            && let Err(error) = quarantine::suspect(&*self.store.disk, &self.store.dir, path)
        {
            tracing::error!(%error, "that it is damaged cannot be noted");
        }
    }

    /// The member this log belongs to.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Whether the disk has no space beyond what this log has in reserve. Nothing new should be begun;
    /// what is under way still finds place.
    pub fn is_short_of_space(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    /// This member's life, and those of the others it has heard.
    pub fn lives(&self) -> &Incarnations {
        &self.lives
    }

    /// What is kept aside of entries that were cut, the oldest first.
    pub fn aside(&self) -> Vec<Aside> {
        self.store.kept_aside().clone()
    }

    /// The epoch in which this node is fenced: it must not sequence until another authority has begun.
    pub fn fenced(&self) -> Option<Epoch> {
        self.known_fence().map(|fence| fence.epoch)
    }

    /// Whether the fence ends with an epoch that `opener` opened in this term: an authority that began after
    /// every election this node had heard of when it was fenced.
    pub fn fence_ends_with(&self, epoch: Epoch, opener: NodeId, term: Term) -> bool {
        self.known_fence().is_some_and(|fence| fence.ends_with(self.node, epoch, opener, term))
    }

    fn known_fence(&self) -> Option<Fence> {
        *self.fence.lock().expect("no code panics while it holds this lock")
    }

    /// Fences this node in the epoch that it knows to be in force. Durable when it returns, so it may block
    /// for as long as a sync takes; done again it changes nothing. Gives the epoch.
    ///
    /// # Errors
    /// The disk failed; the node may be fenced after a restart.
    pub fn fence(&self) -> Result<Epoch, DiskError> {
        let mut marker = self.marker.lock().expect("no code panics while it holds this lock");
        if let Some(fence) = self.known_fence() {
            return Ok(fence.epoch);
        }
        let term = self.vote().term.max(self.tail().term);
        let fence = Fence { epoch: self.head().epoch, term };
        fence::save(&*self.store.disk, &mut marker, Some(fence))?;
        *self.fence.lock().expect("no code panics while it holds this lock") = Some(fence);
        Ok(fence.epoch)
    }

    /// Lifts the fence. May block for as long as a sync takes.
    ///
    /// # Errors
    /// The disk failed; the node is still fenced.
    pub fn lift_fence(&self) -> Result<(), DiskError> {
        let mut marker = self.marker.lock().expect("no code panics while it holds this lock");
        fence::save(&*self.store.disk, &mut marker, None)?;
        *self.fence.lock().expect("no code panics while it holds this lock") = None;
        Ok(())
    }

    /// Another member knows this directory for an older copy: marks it, so that it is not started again, and
    /// has the process end. May block for as long as a sync takes.
    pub fn refused(&self, why: &str) {
        if let Err(error) = refusal::save(&*self.store.disk, &self.store.dir, why) {
            tracing::error!(%error, "that this member was refused cannot be noted");
        }
        self.fail(why);
    }

    /// The end of what is committed.
    pub fn head(&self) -> Head {
        self.store.head()
    }

    /// The end of what is durable here.
    pub fn tail(&self) -> Head {
        self.store.view().tail()
    }

    /// How far this log is durable, and a wake-up whenever that moves.
    pub fn durable(&self) -> watch::Receiver<Index> {
        self.durable.clone()
    }

    /// The last entry there is, durable or only handed over.
    pub fn newest(&self) -> Index {
        self.store.newest()
    }

    /// The last entry that only the archive has.
    pub fn sealed(&self) -> Index {
        self.store.view().archived.last().map_or(Index::ZERO, |archived| archived.end.index)
    }

    /// Hands entries over that follow [`Self::newest`]. They can be read at once and are durable when
    /// `done` is told so.
    ///
    /// # Errors
    /// An entry is not in the form of its kind; nothing was handed over, and `done` is not called.
    pub fn append(&self, entries: Vec<RawEntry>, done: Done) -> Result<(), String> {
        entries.iter().try_for_each(replica::check)?;
        // In memory and in the queue under one lock: both have the same order.
        let mut queue = self.shared.lock();
        self.store.hand_over(&entries);
        self.push(&mut queue, Job::Append { entries, done });
        Ok(())
    }

    /// Removes every entry after `last`.
    pub fn cut(&self, last: Index, done: Done) {
        let mut queue = self.shared.lock();
        self.store.take_back(last);
        self.push(&mut queue, Job::Cut { last, done });
    }

    /// Replaces the vote.
    pub fn save_vote(&self, vote: Vote, done: Done) {
        *self.vote.lock().expect("no code panics while it holds this lock") = vote;
        self.push(&mut self.shared.lock(), Job::Vote { vote, done });
    }

    /// The vote, as it was last handed over.
    pub fn vote(&self) -> Vote {
        *self.vote.lock().expect("no code panics while it holds this lock")
    }

    fn push(&self, queue: &mut Queue, job: Job) {
        if !queue.open {
            job.done()(Err(Halted));
            return;
        }
        queue.jobs.push_back(job);
        if !queue.busy {
            self.shared.wake();
        }
    }

    /// Makes everything up to `index` visible. `None` while that is not durable here: wait for
    /// [`Self::durable`].
    pub fn commit(&self, index: Index) -> Option<Committed> {
        self.store.commit(index)
    }

    /// Wakes those who wait for events that [`Self::commit`] made visible.
    pub fn announce(&self) {
        self.store.announce();
    }

    /// Notes on disk how far the log is committed, so that a restart shows as much at once.
    ///
    /// # Errors
    /// The disk failed; only the shortcut is lost.
    pub fn note_committed(&self) -> Result<(), DiskError> {
        self.store.note_committed()
    }

    /// As [`Self::entries`], if the first of them is in memory: never blocks.
    pub fn hot_entries(&self, from: Index, until: Index, max_bytes: usize) -> Option<Vec<(Index, RawEntry)>> {
        self.store.hot_entries(from, until, max_bytes)
    }

    /// Entries from `from` up to and without `until`: at least one if there is one, and about
    /// `max_bytes` at most.
    ///
    /// # Errors
    /// The disk failed or what is on it is not what was written.
    pub fn entries(
        &self,
        from: Index,
        until: Index,
        max_bytes: usize,
    ) -> Result<Vec<(Index, RawEntry)>, ReadError> {
        self.store.entries(from, until, max_bytes)
    }

    /// The first entry of each term in a range of durable entries, with that term's leader.
    ///
    /// # Errors
    /// As [`Self::entries`].
    pub fn leaders(&self, first: Index, last: Index) -> Result<Vec<(Index, Term, NodeId)>, ReadError> {
        self.store.leaders(first, last)
    }

    /// The last committed entry that changed the members: index, term, leader, payload.
    pub fn members(&self) -> Option<(Index, Term, NodeId, Bytes)> {
        self.store.members().map(|note| (note.index, note.term, note.leader, note.payload))
    }

    /// The last committed entry that opened an epoch.
    ///
    /// # Errors
    /// As [`Self::entries`].
    pub fn last_epoch(&self) -> Result<Option<(Index, RawEntry)>, ReadError> {
        self.store.last_epoch()
    }

    /// The directory.
    pub fn dir(&self) -> std::path::PathBuf {
        self.store.dir.clone()
    }

    /// Committed events after the cursor; see [`crate::Log::read`].
    ///
    /// # Errors
    /// As there.
    pub fn read(&self, after: EventId, max_events: usize) -> Result<Vec<Record>, ReadError> {
        self.store.read(after, max_events)
    }

    /// The last committed event, and a wake-up whenever that moves.
    pub fn subscribe(&self) -> watch::Receiver<EventId> {
        self.store.subscribe()
    }

    /// See [`crate::Log::save_snapshot`].
    ///
    /// # Errors
    /// As there.
    pub fn save_snapshot(&self, at: EventId, write: SnapshotWriter) -> Result<(), SnapshotError> {
        // First, so that a restart never finds a snapshot of what it does not know as committed.
        self.note_committed().map_err(SnapshotError::Disk)?;
        snapshot::save(&self.store, at, write)
    }

    /// See [`crate::Log::load_snapshot`].
    ///
    /// # Errors
    /// As there.
    pub fn load_snapshot(&self) -> Result<Option<(EventId, Vec<u8>)>, SnapshotError> {
        snapshot::load(&self.store)
    }

    /// From now on nothing waits for space any more: what finds none is answered [`Halted`], and ends
    /// the writer.
    pub fn hurry(&self) {
        self.shared.lock().patient = false;
        self.shared.wake();
    }

    /// Has the process end, because what stands on this log has failed. Said once.
    pub fn fail(&self, why: &str) {
        let source = std::io::Error::other(why.to_owned());
        self.shared.fail(&DiskError::new(rt::Operation::Write, &self.store.dir, source));
    }

    /// Writes what is queued, stops the writer and notes how far the log is; what finds no space is
    /// answered [`Halted`]. Blocks. Dropping does the same.
    pub fn close(&self) {
        self.shared.lock().open = false;
        self.shared.wake();
        let writer = self.writer.lock().expect("no code panics while it holds this lock").take();
        if let Some(writer) = writer
            && !writer.join()
        {
            tracing::error!("the writer of the log ended in a panic");
        }
    }
}

impl Drop for MemberLog {
    fn drop(&mut self) {
        self.close();
    }
}

impl Job {
    fn done(self) -> Done {
        match self {
            Self::Append { done, .. } | Self::Cut { done, .. } | Self::Vote { done, .. } => done,
        }
    }
}

/// The fence of this log's node, and the place of its marker, which needs no space from now on.
fn fence_of(wal: &mut Wal) -> Result<(Option<Fence>, InPlace), DiskError> {
    let store = Arc::clone(wal.store());
    let mut marker = fence::file(&store.dir);
    let fence = fence::load(&*store.disk, &marker, store.head().epoch)?;
    match wal.spend_reserve(|| fence::settle(&*store.disk, &mut marker, fence)) {
        Err(error) if !is_only_space(&error) => Err(error),
        _ => Ok((fence, marker)),
    }
}

/// What the thread owns.
struct Writer {
    wal: Wal,
    shared: Arc<Shared>,
    store: Arc<Store>,
    durable: watch::Sender<Index>,
    short: Arc<AtomicBool>,
    lives: Arc<Incarnations>,
}

/// What the writer does in one go.
enum Step {
    Append(Vec<RawEntry>, Vec<Done>),
    Cut(Index, Done),
    Vote(Vote, Done),
    /// Nothing waits, and the reserve is gone.
    Replenish,
}

impl Writer {
    fn run_on_thread(self) {
        self.run().now_or_never().expect("on a thread it waits in place");
    }

    async fn run(mut self) {
        let guard = StopOnPanic(Arc::clone(&self.shared));
        while let Some(step) = self.take().await {
            let lag = self.store.disk.lag();
            if self.shared.task.is_some() && !lag.is_zero() {
                tokio::time::sleep(lag).await;
            }
            let (result, owed) = match step {
                Step::Append(entries, owed) => (self.patiently(|wal| wal.append_raw(&entries)).await, owed),
                Step::Cut(last, done) => {
                    let result = match self.patiently(|wal| wal.keep_aside(last)).await {
                        Ok(()) => self.patiently(|wal| wal.cut_suffix(last)).await,
                        Err(error) => Err(error),
                    };
                    (result, vec![done])
                }
                Step::Vote(vote, done) => (self.patiently(|wal| wal.save_vote(vote)).await, vec![done]),
                Step::Replenish => (self.replenish(), Vec::new()),
            };
            match result {
                Ok(()) => {
                    self.note_space(self.wal.is_short());
                    self.durable.send_replace(self.wal.tail().index);
                    owed.into_iter().for_each(|done| done(Ok(())));
                }
                Err(error) => return self.stop(error, owed),
            }
        }
        drop(guard);
        if let Err(error) = self.lives.note() {
            tracing::debug!(%error, "what others have is not noted");
        }
        if let Err(error) = self.store.note_committed().and_then(|()| self.wal.close()) {
            tracing::warn!(%error, "cannot note the end of the log; the next start is as after a crash");
        }
    }

    /// Waits for space as long as it takes, or until the log is closed.
    #[allow(clippy::await_holding_lock, reason = "it is given to the wait, which lets go of it")]
    async fn patiently(
        &mut self,
        mut write: impl FnMut(&mut Wal) -> Result<(), GroupError>,
    ) -> Result<(), GroupError> {
        let mut told = false;
        loop {
            match write(&mut self.wal) {
                Err(GroupError::NoSpace(error)) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(%error, "the disk of the log is full; everything waits for space");
                    }
                    self.note_space(true);
                    let queue = self.shared.lock();
                    if !queue.open || !queue.patient {
                        return Err(GroupError::NoSpace(error));
                    }
                    self.shared.wait(queue, Some(SPACE_WAIT)).await;
                }
                result => return result,
            }
        }
    }

    /// Looks for space once more.
    fn replenish(&mut self) -> Result<(), GroupError> {
        match self.wal.replenish() {
            Err(GroupError::NoSpace(error)) => {
                tracing::debug!(%error, "no space yet");
                Ok(())
            }
            result => result,
        }
    }

    fn note_space(&self, short: bool) {
        if self.short.swap(short, Ordering::Relaxed) != short {
            match short {
                true => tracing::error!("the disk of the log has no space in reserve; no new writes"),
                false => tracing::info!("the disk of the log has space again"),
            }
        }
    }

    /// The next thing to do: neighbouring appends together. `None` when closed and empty.
    #[allow(clippy::await_holding_lock, reason = "it is given to the wait, which lets go of it")]
    async fn take(&mut self) -> Option<Step> {
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.lock();
        queue.busy = false;
        while queue.jobs.is_empty() {
            if !queue.open {
                return None;
            }
            if self.wal.is_short() {
                // Nothing new comes until there is space, so somebody must look.
                shared.wait(queue, Some(SPACE_WAIT)).await;
                queue = shared.lock();
                if queue.jobs.is_empty() && queue.open {
                    return Some(Step::Replenish);
                }
                continue;
            }
            shared.wait(queue, None).await;
            queue = shared.lock();
        }
        queue.busy = true;
        let (mut all, mut owed, mut bytes) = (Vec::new(), Vec::new(), 0);
        loop {
            match queue.jobs.pop_front() {
                Some(Job::Append { entries, done }) => {
                    bytes += entries.iter().map(|entry| entry.payload.len()).sum::<usize>();
                    all.extend(entries);
                    owed.push(done);
                    let more = matches!(queue.jobs.front(), Some(Job::Append { .. }));
                    if !more || bytes > GROUP_BYTES {
                        return Some(Step::Append(all, owed));
                    }
                }
                Some(Job::Cut { last, done }) => return Some(Step::Cut(last, done)),
                Some(Job::Vote { vote, done }) => return Some(Step::Vote(vote, done)),
                None => unreachable!("an append is taken only together with a next one"),
            }
        }
    }

    fn stop(self, error: GroupError, owed: Vec<Done>) {
        let behind = {
            let mut queue = self.shared.lock();
            queue.open = false;
            std::mem::take(&mut queue.jobs)
        };
        owed.into_iter().for_each(|done| done(Err(Halted)));
        behind.into_iter().for_each(|job| job.done()(Err(Halted)));
        match error {
            GroupError::Failed(error) => {
                tracing::error!(%error, "the log has failed and stops; this process must end");
                self.shared.fail(&error);
            }
            GroupError::NoSpace(_) | GroupError::Stopped => {}
        }
    }
}

/// Stops the log when its writer is gone without having said so.
struct StopOnPanic(Arc<Shared>);

impl Drop for StopOnPanic {
    fn drop(&mut self) {
        let Ok(mut queue) = self.0.queue.lock() else { return };
        queue.open = false;
        let owed = std::mem::take(&mut queue.jobs);
        drop(queue);
        owed.into_iter().for_each(|job| job.done()(Err(Halted)));
    }
}

/// The payload of an entry that opens an epoch in which `node` sequences.
pub fn epoch_payload(node: NodeId, why: &[u8]) -> Bytes {
    [node.as_u128().to_le_bytes().as_slice(), why].concat().into()
}

/// The node that an epoch entry names, and what else it says.
pub fn read_epoch(payload: &Bytes) -> Option<(NodeId, Bytes)> {
    let node = payload.get(..16)?.try_into().expect("a range of sixteen bytes");
    Some((NodeId::from_u128(u128::from_le_bytes(node)), payload.slice(16..)))
}
