//! The contract between the log and everything that writes to it or reads from it.
//!
//! Implementations: [`crate::MemoryLog`] for tests, the write-ahead log for one machine. A
//! replicated log will stand behind the same trait, which is why an answer may be *unknown*.

use bytes::Bytes;
use std::{
    future::Future,
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::{oneshot, watch};
use types::{Epoch, EventId, Index, Term};

/// One event as the log stores it: opaque bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the one order.
    pub id: EventId,
    /// The authority it was written under.
    pub epoch: Epoch,
    /// What was appended, byte for byte.
    pub bytes: Bytes,
}

/// Events that are written together or not at all: at least one, and with their frame at most
/// [`types::limits::BATCH_BYTES`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// In order.
    pub events: Vec<Bytes>,
}

impl Batch {
    /// A batch of these events.
    pub fn new(events: Vec<Bytes>) -> Self {
        Self { events }
    }
}

/// Proof that a batch is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The id of its first event.
    pub first: EventId,
    /// The id of its last event.
    pub last: EventId,
    /// The log entry that holds it.
    pub index: Index,
}

/// The end of what is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last event; [`EventId::ZERO`] when there is none.
    pub event: EventId,
    /// The last entry. Entries without events (an epoch, say) count too.
    pub index: Index,
    /// The consensus term of the last entry.
    pub term: Term,
    /// The epoch in force.
    pub epoch: Epoch,
    /// The hash that chains every entry up to here.
    pub chain: [u8; 32],
}

/// Why an append did not answer with [`Appended`].
///
/// Everything but [`Self::Unknown`] means: certainly not written, now or later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The batch was decided against a state that is not the latest. Decide again.
    #[error("the log has moved on: its head is event {head}")]
    HeadMoved {
        /// The head of what is durable and queued.
        head: EventId,
    },
    /// The batch has no events.
    #[error("a batch needs at least one event")]
    Empty,
    /// The batch is larger than a log takes in one piece.
    #[error("the batch takes {bytes} bytes, and {limit} is the most")]
    TooLarge {
        /// What it would take, frame included.
        bytes: usize,
        /// The most one batch may take.
        limit: usize,
    },
    /// [`types::limits::BATCHES_IN_FLIGHT`] batches wait already. Try again when one is answered.
    #[error("the log has {waiting} batches waiting, which is the most it takes")]
    Busy {
        /// How many wait.
        waiting: usize,
    },
    /// The disk has no space. Reads go on, and appends work again when there is space.
    #[error("the disk of the log has no space")]
    NoSpace,
    /// This node does not sequence, or no longer: another does, or nobody. Certainly not written.
    #[error("this node has no authority to write: {why}")]
    NoAuthority {
        /// Who has, as far as is known.
        why: String,
    },
    /// The log has stopped, after a failed write or because it was closed.
    #[error("the log has stopped")]
    Stopped,
    /// The log cannot say whether the batch is durable. Only the log, read after a restart, can.
    #[error("the log cannot say whether the batch was written")]
    Unknown,
}

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The cursor is past the head: it comes from another log, or from a later state of this one.
    #[error("asked for events after {after}, but the log ends at {head}")]
    Ahead {
        /// The cursor.
        after: EventId,
        /// The durable head.
        head: EventId,
    },
    /// What is on disk is not what was written.
    #[error("{path} is damaged at offset {offset}: {why}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The disk did not give what was asked of it.
    #[error("cannot read the log")]
    Disk(#[source] rt::DiskError),
}

/// Why a snapshot could not be saved or loaded. Appends and reads go on.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It claims to reflect events that are not durable.
    #[error("a snapshot at event {at} is ahead of the log, which ends at {head}")]
    Ahead {
        /// The event of the snapshot.
        at: EventId,
        /// The durable head.
        head: EventId,
    },
    /// Whoever writes the content gave up.
    #[error("the content of the snapshot could not be written")]
    Content(#[source] io::Error),
    /// Every snapshot there is, is damaged.
    #[error("no snapshot in {path} is readable: {why}")]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// What is wrong with the newest.
        why: String,
    },
    /// The disk failed.
    #[error("the disk failed under the snapshot")]
    Disk(#[source] rt::DiskError),
    /// Segments behind the snapshot could not be sealed. The snapshot itself is kept.
    #[error("the snapshot is saved, but segments behind it could not be sealed: {why}")]
    Seal {
        /// What went wrong.
        why: String,
    },
}

/// Writes the content of a snapshot.
pub type SnapshotWriter = Box<dyn FnOnce(&mut dyn io::Write) -> io::Result<()> + Send>;

/// The right to sequence: held by one node at most, and by nobody for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The epoch it was opened with. Whoever decides, decides for this epoch.
    pub epoch: Epoch,
    /// The consensus term it was won in.
    pub term: Term,
}

/// The append-only log. See the crate's first page for what it promises.
pub trait Log: Send + Sync + 'static {
    /// The durable head; never what is only queued.
    fn head(&self) -> Head;

    /// Whether this node may append, and a wake-up whenever that changes. A log that has no other
    /// writer gives a constant: its sender is gone. Everything that was appended under an earlier
    /// authority and will ever take effect is visible before a new one is seen here.
    fn authority(&self) -> watch::Receiver<Option<Authority>> {
        let head = self.head();
        watch::channel(Some(Authority { epoch: head.epoch, term: head.term })).1
    }

    /// Whether the disk has no space beyond what is in reserve: an append would be refused with
    /// [`AppendError::NoSpace`], or wait behind what waits for space.
    fn is_short_of_space(&self) -> bool {
        false
    }

    /// Queues a batch; the future resolves when it is durable.
    ///
    /// `expected` is compared at once with the head of what is durable and queued, so a caller may
    /// pipeline: `append(5, [a])` and then `append(6, [b])` without waiting. When a queued append
    /// fails, all queued after it fail too. Never blocks: a full queue answers
    /// [`AppendError::Busy`]. Dropping the future does not take the batch back.
    fn append(&self, expected: EventId, batch: Batch) -> AppendFuture;

    /// Up to `max_events` durable events after the cursor, in order, without gaps, from the
    /// archive too. Empty when the cursor is at the head. May read from disk: call it where
    /// blocking is allowed.
    fn read(&self, after: EventId, max_events: usize) -> Result<Vec<Record>, ReadError>;

    /// The durable head, and a wake-up whenever it moves.
    fn subscribe(&self) -> watch::Receiver<EventId>;

    /// Saves a snapshot that reflects every event up to `at`: checksummed, whole or not at all,
    /// the last two kept. Blocks its caller, never an append. Afterwards, segments wholly behind
    /// the oldest kept snapshot are sealed into the archive.
    fn save_snapshot(&self, at: EventId, write: SnapshotWriter) -> Result<(), SnapshotError>;

    /// The newest good snapshot, with the event it reflects. A damaged newest one is passed over
    /// for the one before it, and the log says so.
    fn load_snapshot(&self) -> Result<Option<(EventId, Vec<u8>)>, SnapshotError>;
}

/// The answer to an append, when it comes. `'static` and `Send`.
///
/// Resolves to [`AppendError::Unknown`] if the log goes away without an answer.
#[derive(Debug)]
#[must_use = "the answer says whether the batch is durable"]
pub struct AppendFuture {
    state: FutureState,
}

#[derive(Debug)]
enum FutureState {
    Ready(Option<Result<Appended, AppendError>>),
    Waiting(oneshot::Receiver<Result<Appended, AppendError>>),
}

/// The other end of an [`AppendFuture`]: whoever holds it owes the answer.
#[derive(Debug)]
pub struct Pending(oneshot::Sender<Result<Appended, AppendError>>);

impl Pending {
    /// Gives the answer. Nobody may be waiting any more; that is fine.
    pub fn answer(self, result: Result<Appended, AppendError>) {
        let _gone_is_fine = self.0.send(result);
    }
}

impl AppendFuture {
    /// An answer known at once.
    pub fn ready(result: Result<Appended, AppendError>) -> Self {
        Self { state: FutureState::Ready(Some(result)) }
    }

    /// An answer that [`Pending`] will bring.
    pub fn pending() -> (Pending, Self) {
        let (sender, receiver) = oneshot::channel();
        (Pending(sender), Self { state: FutureState::Waiting(receiver) })
    }

    /// Waits on this thread. Must not be called from an async task.
    pub fn wait(self) -> Result<Appended, AppendError> {
        match self.state {
            FutureState::Ready(result) => result.unwrap_or(Err(AppendError::Unknown)),
            FutureState::Waiting(receiver) => receiver.blocking_recv().unwrap_or(Err(AppendError::Unknown)),
        }
    }
}

impl Future for AppendFuture {
    type Output = Result<Appended, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.state {
            FutureState::Ready(result) => Poll::Ready(result.take().unwrap_or(Err(AppendError::Unknown))),
            FutureState::Waiting(receiver) => {
                Pin::new(receiver).poll(context).map(|answer| answer.unwrap_or(Err(AppendError::Unknown)))
            }
        }
    }
}

/// What every implementation refuses before it looks at the head. Gives the size of the record.
pub(crate) fn check_batch(batch: &Batch) -> Result<usize, AppendError> {
    let limit = types::limits::BATCH_BYTES;
    // As a proposal, which is the larger of the two forms: what one log takes, every log takes.
    let bytes = crate::entry::PROPOSAL + crate::entry::payload_size(&batch.events) + crate::entry::FRAME;
    if batch.events.is_empty() {
        return Err(AppendError::Empty);
    }
    if bytes > limit {
        return Err(AppendError::TooLarge { bytes, limit });
    }
    Ok(bytes)
}
