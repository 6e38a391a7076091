//! The reports of an agent: what it has seen of each instance and the server has not confirmed.
//!
//! Invariants:
//!
//! - A report leaves the node only after it is durable, so its sequence is never used for another.
//! - A report is kept until the server says that it is durable there; sent twice it has the same
//!   sequence, and the server passes over it.
//! - A crash before a report is durable loses nothing but its time: what an instance *is* gets
//!   compared with what was last noted when the agent starts, and reported if it differs.
//! - Bounded: past [`limits::REPORTS_PER_INSTANCE`] the oldest go. Each tells a whole state.

use rt::{Disk, Slot, SlotError};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;
use types::{
    InstanceId, Timestamp, limits,
    plan::{Change, Reason, Transition},
};

/// The version of the stored form.
const VERSION: u32 = 1;

/// The reports could not be read at start.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The disk or the content is damaged.
    #[error("the stored reports cannot be read: {0}")]
    Slot(#[from] SlotError),
    /// They make no sense, or are of a newer version.
    #[error("the stored reports make no sense: {0}")]
    Senseless(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Book {
    version: u32,
    instances: BTreeMap<InstanceId, Account>,
}

/// What is known of one instance's reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Account {
    /// The sequence of the newest report.
    sequence: u64,
    /// How often it has ended by itself.
    restarts: u32,
    /// The newest report, confirmed or not.
    last: Option<Change>,
    /// Not confirmed yet, oldest first.
    pending: VecDeque<Transition>,
    /// Up to here it is on the disk.
    #[serde(skip)]
    durable: u64,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    slot: Mutex<Slot>,
    /// There is something to write down.
    dirty: Notify,
    /// There is something to send.
    ready: Notify,
}

/// The reports; a cheap handle.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

impl Journal {
    /// Reads what is stored.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, JournalError> {
        let slot = Slot::open(disk, dir, "reports")?;
        let mut book = match slot.load()? {
            None => Book { version: VERSION, instances: BTreeMap::new() },
            Some(loaded) => serde_json::from_slice::<Book>(&loaded.bytes)
                .map_err(|error| JournalError::Senseless(error.to_string()))?,
        };
        if book.version != VERSION {
            return Err(JournalError::Senseless(format!("version {} is not {VERSION}", book.version)));
        }
        for account in book.instances.values_mut() {
            account.durable = account.sequence;
        }
        let shared = Shared {
            book: Mutex::new(book),
            slot: Mutex::new(slot),
            dirty: Notify::new(),
            ready: Notify::new(),
        };
        let journal = Self { shared: Arc::new(shared) };
        journal.shared.ready.notify_one();
        Ok(journal)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // The book is whole between any two statements, so a panic elsewhere does not spoil it.
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was last noted of an instance.
    pub fn last(&self, id: InstanceId) -> Option<Change> {
        self.book().instances.get(&id).and_then(|account| account.last.clone())
    }

    /// Notes a change, unless it is what was noted last.
    pub fn note(&self, id: InstanceId, at: Timestamp, change: Change) {
        let mut book = self.book();
        let account = book.instances.entry(id).or_default();
        if account.last.as_ref() != Some(&change) {
            account.add(id, at, change);
            drop(book);
            self.shared.dirty.notify_one();
        }
    }

    /// Notes that an instance ended by itself, and counts it.
    pub fn note_crash(&self, id: InstanceId, at: Timestamp, reason: Reason, detail: String) {
        let mut book = self.book();
        let account = book.instances.entry(id).or_default();
        account.restarts = account.restarts.saturating_add(1);
        let restarts = account.restarts;
        account.add(id, at, Change::Crashed { reason, detail, restarts });
        drop(book);
        self.shared.dirty.notify_one();
    }

    /// Drops the accounts that `keep` does not want and that have nothing left to send.
    pub fn retain(&self, keep: impl Fn(InstanceId) -> bool) {
        let mut book = self.book();
        let before = book.instances.len();
        book.instances.retain(|id, account| keep(*id) || !account.pending.is_empty());
        if book.instances.len() < before {
            self.shared.dirty.notify_one();
        }
    }

    /// Makes everything noted so far durable. Blocks on the disk.
    ///
    /// # Errors
    /// The disk refused; nothing noted is sent until a later call succeeds.
    pub fn store(&self) -> Result<(), SlotError> {
        let mut slot = self.shared.slot.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, reached) = {
            let book = self.book();
            let bytes = serde_json::to_vec(&*book).expect("reports have only text keys");
            let reached: Vec<(InstanceId, u64)> =
                book.instances.iter().map(|(id, account)| (*id, account.sequence)).collect();
            (bytes, reached)
        };
        slot.store(&bytes)?;
        let mut book = self.book();
        for (id, sequence) in reached {
            if let Some(account) = book.instances.get_mut(&id) {
                account.durable = account.durable.max(sequence);
            }
        }
        drop(book);
        self.shared.ready.notify_one();
        Ok(())
    }

    /// Durable reports that the server has not confirmed, oldest first for each instance.
    pub fn unconfirmed(&self) -> Vec<Transition> {
        let book = self.book();
        let all = book
            .instances
            .values()
            .flat_map(|account| account.pending.iter().filter(|report| report.sequence <= account.durable));
        all.take(limits::REPORT_BATCH).cloned().collect()
    }

    /// Forgets what the server has; says how many reports that were.
    pub fn confirm(&self, accepted: &BTreeMap<InstanceId, u64>) -> u64 {
        let mut book = self.book();
        let mut confirmed = 0;
        for (id, upto) in accepted {
            if let Some(account) = book.instances.get_mut(id) {
                let before = account.pending.len();
                account.pending.retain(|report| report.sequence > *upto);
                confirmed += (before - account.pending.len()) as u64;
                // A server that has seen more than we remember: never use those numbers again.
                account.sequence = account.sequence.max(*upto);
            }
        }
        confirmed
    }

    /// Waits until something was noted since the last time.
    pub async fn dirty(&self) {
        self.shared.dirty.notified().await;
    }

    /// Waits until something became durable since the last time.
    pub async fn ready(&self) {
        self.shared.ready.notified().await;
    }
}

impl Account {
    fn add(&mut self, instance: InstanceId, at: Timestamp, change: Change) {
        self.sequence += 1;
        self.last = Some(change.clone());
        self.pending.push_back(Transition { instance, sequence: self.sequence, at, change });
        while self.pending.len() > limits::REPORTS_PER_INSTANCE {
            self.pending.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt::SimDisk;

    const ID: InstanceId = InstanceId::from_u128(5);

    fn open(disk: &Arc<SimDisk>) -> Journal {
        Journal::open(Arc::clone(disk) as Arc<dyn Disk>, Path::new("/data")).expect("it opens")
    }

    #[test]
    fn a_report_is_sent_only_when_durable_and_kept_until_confirmed() {
        let disk = Arc::new(SimDisk::new(1));
        let journal = open(&disk);
        journal.note(ID, Timestamp::from_ms(1), Change::Booting);
        assert!(journal.unconfirmed().is_empty(), "not durable yet");
        journal.store().expect("stored");
        journal.note(ID, Timestamp::from_ms(2), Change::Booting);
        journal.note(ID, Timestamp::from_ms(3), Change::Ready);
        assert_eq!(journal.unconfirmed().len(), 1, "the same state is not reported twice");
        journal.store().expect("stored");
        drop(journal);
        let journal = open(&disk);
        let sequences: Vec<u64> = journal.unconfirmed().iter().map(|report| report.sequence).collect();
        assert_eq!(sequences, [1, 2]);
        journal.confirm(&[(ID, 1)].into());
        assert_eq!(journal.unconfirmed().len(), 1);
        assert_eq!(journal.last(ID), Some(Change::Ready));
        journal.note_crash(ID, Timestamp::from_ms(4), Reason::Exited, String::new());
        journal.store().expect("stored");
        assert_eq!(journal.unconfirmed().last().map(|report| report.sequence), Some(3));
    }

    #[test]
    fn reports_are_bounded_and_the_newest_stay() {
        let journal = open(&Arc::new(SimDisk::new(1)));
        for round in 0..1000 {
            journal.note_crash(ID, Timestamp::from_ms(round), Reason::Exited, String::new());
        }
        journal.store().expect("stored");
        let kept = journal.unconfirmed();
        assert_eq!(kept.len(), limits::REPORTS_PER_INSTANCE);
        assert_eq!(kept.last().map(|report| report.sequence), Some(1000));
        journal.retain(|_| false);
        assert_eq!(journal.unconfirmed().len(), kept.len(), "unconfirmed reports are not dropped");
        journal.confirm(&[(ID, 1000)].into());
        journal.retain(|_| false);
        assert_eq!(journal.last(ID), None);
    }
}
