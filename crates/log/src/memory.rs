//! A log in memory, for tests of whatever stands on a log. Durable means: not held back.
//!
//! A test can hold the disk still ([`MemoryLog::hold`]), let it go on, or have it fail, and so see
//! every state that a real log can be in while appends are under way.

use crate::{
    AppendError, AppendFuture, Appended, Authority, Batch, Head, Kind, Log, Pending, ReadError, Record,
    SnapshotError, SnapshotWriter,
    contract::check_batch,
    entry::{self, EntryHeader},
};
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};
use tokio::sync::watch;
use types::{Epoch, EventId, Index, NodeId, Term, limits};

/// A log that lives as long as the value does.
#[derive(Debug)]
pub struct MemoryLog {
    state: Mutex<State>,
    durable: watch::Sender<EventId>,
    node: NodeId,
}

#[derive(Debug)]
struct State {
    head: Head,
    records: Vec<Record>,
    queue: VecDeque<(Batch, Pending)>,
    queued: EventId,
    snapshots: VecDeque<(EventId, Vec<u8>)>,
    disk: Behaviour,
    /// Whether whoever asks is told that another node sequences.
    follows: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Behaviour {
    Works,
    Held,
    Stopped,
}

impl Default for MemoryLog {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLog {
    /// An empty log with its first epoch open.
    pub fn new() -> Self {
        let node = NodeId::from_u128(0);
        let mut head = Head {
            event: EventId::ZERO,
            index: Index::ZERO,
            term: Term::new(1),
            epoch: Epoch::ZERO,
            chain: [0; 32],
        };
        head.epoch = Epoch::new(1);
        advance(&mut head, node, Kind::Epoch, &[], 0);
        Self {
            state: Mutex::new(State {
                head,
                records: Vec::new(),
                queue: VecDeque::new(),
                queued: EventId::ZERO,
                snapshots: VecDeque::new(),
                disk: Behaviour::Works,
                follows: false,
            }),
            durable: watch::Sender::new(EventId::ZERO),
            node,
        }
    }

    /// From now on appends wait, as on a disk that has not answered yet.
    pub fn hold(&self) {
        self.lock().disk = Behaviour::Held;
    }

    /// Everything held becomes durable, in order, and appends work again.
    pub fn release(&self) {
        let mut state = self.lock();
        state.disk = Behaviour::Works;
        self.drain(&mut state);
    }

    /// From now on whoever asks is told that another node sequences; or that this one does again. Who has
    /// asked before is not told.
    pub fn follow(&self, follows: bool) {
        self.lock().follows = follows;
    }

    /// Opens the next epoch, as a new authority does.
    pub fn open_epoch(&self) -> Epoch {
        let mut state = self.lock();
        state.head.epoch = state.head.epoch.next();
        advance(&mut state.head, self.node, Kind::Epoch, &[], 0);
        state.head.epoch
    }

    /// Everything held fails: the first with this error, the rest as it follows from that. With
    /// [`AppendError::Unknown`] or [`AppendError::Stopped`] the log stops for good.
    pub fn fail_held(&self, error: AppendError) {
        let mut state = self.lock();
        let fatal = matches!(error, AppendError::Unknown | AppendError::Stopped);
        state.disk = if fatal { Behaviour::Stopped } else { Behaviour::Works };
        state.queued = state.head.event;
        let rest = if fatal { error.clone() } else { AppendError::HeadMoved { head: state.head.event } };
        for (place, (_, pending)) in state.queue.drain(..).enumerate() {
            pending.answer(Err(if place == 0 { error.clone() } else { rest.clone() }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds this lock")
    }

    fn drain(&self, state: &mut State) {
        let mut answers = Vec::new();
        while let Some((batch, pending)) = state.queue.pop_front() {
            let first = state.head.event.next();
            let mut payload = Vec::with_capacity(entry::payload_size(&batch.events));
            entry::put_events(&mut payload, &batch.events);
            advance(&mut state.head, self.node, Kind::Batch, &payload, batch.events.len() as u32);
            let epoch = state.head.epoch;
            for (place, bytes) in batch.events.into_iter().enumerate() {
                state.records.push(Record { id: first.plus(place as u64), epoch, bytes });
            }
            answers.push((pending, Appended { first, last: state.head.event, index: state.head.index }));
        }
        // The head is published before anyone is answered: who holds an answer can read it.
        self.durable.send_replace(state.head.event);
        for (pending, appended) in answers {
            pending.answer(Ok(appended));
        }
    }
}

fn advance(head: &mut Head, node: NodeId, kind: Kind, payload: &[u8], count: u32) {
    let header = EntryHeader {
        kind,
        index: head.index.next(),
        term: head.term,
        leader: node,
        epoch: head.epoch,
        first: head.event.next(),
        count,
        chain: [0; 32],
    };
    head.chain = entry::chain(&head.chain, &header.fields(), payload);
    head.index = header.index;
    head.event = header.last();
}

impl Log for MemoryLog {
    fn authority(&self) -> watch::Receiver<Option<Authority>> {
        let Head { epoch, term, .. } = self.head();
        let held = (!self.lock().follows).then_some(Authority { epoch, term });
        watch::channel(held).1
    }

    fn head(&self) -> Head {
        self.lock().head
    }

    fn append(&self, expected: EventId, batch: Batch) -> AppendFuture {
        if let Err(error) = check_batch(&batch) {
            return AppendFuture::ready(Err(error));
        }
        let mut state = self.lock();
        if state.disk == Behaviour::Stopped {
            return AppendFuture::ready(Err(AppendError::Stopped));
        }
        if expected != state.queued {
            return AppendFuture::ready(Err(AppendError::HeadMoved { head: state.queued }));
        }
        if state.queue.len() >= limits::BATCHES_IN_FLIGHT {
            return AppendFuture::ready(Err(AppendError::Busy { waiting: state.queue.len() }));
        }
        let (pending, future) = AppendFuture::pending();
        state.queued = state.queued.plus(batch.events.len() as u64);
        state.queue.push_back((batch, pending));
        if state.disk == Behaviour::Works {
            self.drain(&mut state);
        }
        future
    }

    fn read(&self, after: EventId, max_events: usize) -> Result<Vec<Record>, ReadError> {
        let state = self.lock();
        if after > state.head.event {
            return Err(ReadError::Ahead { after, head: state.head.event });
        }
        Ok(state.records.iter().skip(after.get() as usize).take(max_events).cloned().collect())
    }

    fn subscribe(&self) -> watch::Receiver<EventId> {
        self.durable.subscribe()
    }

    fn save_snapshot(&self, at: EventId, write: SnapshotWriter) -> Result<(), SnapshotError> {
        let head = self.head().event;
        if at > head {
            return Err(SnapshotError::Ahead { at, head });
        }
        let mut content = Vec::new();
        write(&mut content).map_err(SnapshotError::Content)?;
        let mut state = self.lock();
        state.snapshots.retain(|(kept, _)| *kept != at);
        state.snapshots.push_back((at, content));
        state.snapshots.make_contiguous().sort_by_key(|(event, _)| *event);
        while state.snapshots.len() > 2 {
            state.snapshots.pop_front();
        }
        Ok(())
    }

    fn load_snapshot(&self) -> Result<Option<(EventId, Vec<u8>)>, SnapshotError> {
        Ok(self.lock().snapshots.back().cloned())
    }
}
