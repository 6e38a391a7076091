//! The reports of an agent: what it has seen of each instance and the server has not confirmed.
//!
//! Invariants:
//!
//! - A report leaves the node only after it is durable, so its sequence is never used for another.
//! - A report is kept until the server says that it is durable there; sent twice it has the same
//!   sequence, and the server passes over it.
//! - A crash before a report is durable loses nothing but its time: what an instance *is* gets
//!   compared with what was last noted when the agent starts, and reported if it differs.
//! - When the node goes over to another log, which does not know what was confirmed to the one before, it
//!   is told of every instance afresh: the book names the log that its reports are for.
//! - Bounded: past [`limits::REPORTS_PER_INSTANCE`] the oldest go. Each tells a whole state.
//! - Damage never keeps the agent from starting: what cannot be read is put aside for people, and
//!   the book begins anew, or with what was stored before.
//!
//! After damage the last sequences are not known, and a server passes over, yet confirms, whatever
//! is not above the highest that it has: an agent that counted from 1 again would lose its reports
//! until it had caught up, and never learn of it. So it goes on above the clock, in milliseconds
//! since 1970: no instance has had a report for each of those, which a clock that is not set at all
//! (a machine without one counts from its start) keeps as well, unless it is the second damage. The
//! number is stored, and everything is above it from then on.

use rt::{Disk, Slot, SlotError};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;
use types::{
    Generation, InstanceId, Timestamp, limits,
    plan::{Change, NodePlan, Reason, Transition},
};

/// The version of the stored form.
const VERSION: u32 = 1;

/// The disk refused to read the reports at start. What is damaged is no error.
#[derive(Debug, thiserror::Error)]
#[error("the stored reports cannot be read: {0}")]
pub struct JournalError(#[from] SlotError);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Book {
    version: u32,
    /// Every new report has a sequence above this; 0 where no report was ever lost.
    #[serde(default)]
    floor: u64,
    /// The boot of the host in which this was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    boot: Option<String>,
    /// The log that is told, and the generation of its last adoption. Absent before the first plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    told: Option<(String, Generation)>,
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
    /// The host was started anew since these reports were stored.
    is_new_boot: bool,
}

/// The reports; a cheap handle.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
}

impl Journal {
    /// Reads what is stored. What is damaged is put aside; `now` is where sequences then go on.
    ///
    /// # Errors
    /// The disk refused.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, now: Timestamp) -> Result<Self, JournalError> {
        // Where the kernel does not tell, nobody can say that the host went down.
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        Self::open_in(boot.map(|id| id.trim().to_owned()), disk, dir, now)
    }

    /// The same, in this boot of the host.
    fn open_in(
        boot: Option<String>,
        disk: Arc<dyn Disk>,
        dir: &Path,
        now: Timestamp,
    ) -> Result<Self, JournalError> {
        let slot = Slot::open(disk, dir, "reports")?;
        let (mut book, is_damaged) = read(&slot, now)?;
        // What went down with its host is reported by the same store that brings the new boot's id, so
        // an agent that dies before that says it the next time.
        let is_new_boot = matches!((&book.boot, &boot), (Some(before), Some(now)) if before != now);
        let is_noted = book.boot == boot;
        book.boot = boot;
        for account in book.instances.values_mut() {
            account.durable = account.sequence;
        }
        let shared = Shared {
            book: Mutex::new(book),
            slot: Mutex::new(slot),
            dirty: Notify::new(),
            ready: Notify::new(),
            is_new_boot,
        };
        let journal = Self { shared: Arc::new(shared) };
        journal.shared.ready.notify_one();
        if !is_noted {
            journal.shared.dirty.notify_one();
        }
        if is_damaged && let Err(error) = journal.store() {
            // The next start could not tell any more that something was lost; so it is tried again.
            tracing::warn!(%error, "what is left of the reports cannot be stored yet");
            journal.shared.dirty.notify_one();
        }
        Ok(journal)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        // The book is whole between any two statements, so a panic elsewhere does not spoil it.
        self.shared.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the host was started anew since the last of these reports was stored.
    pub fn is_new_boot(&self) -> bool {
        self.shared.is_new_boot
    }

    /// What was last noted of an instance.
    pub fn last(&self, id: InstanceId) -> Option<Change> {
        self.book().instances.get(&id).and_then(|account| account.last.clone())
    }

    /// Notes a change, unless it is what was noted last.
    pub fn note(&self, id: InstanceId, at: Timestamp, change: Change) {
        let mut book = self.book();
        let account = book.account(id);
        if account.last.as_ref() != Some(&change) {
            account.add(id, at, change);
            drop(book);
            self.shared.dirty.notify_one();
        }
    }

    /// Notes that an instance ended by itself, and counts it.
    pub fn note_crash(&self, id: InstanceId, at: Timestamp, reason: Reason, detail: String) {
        let mut book = self.book();
        let account = book.account(id);
        account.restarts = account.restarts.saturating_add(1);
        let restarts = account.restarts;
        account.add(id, at, Change::Crashed { reason, detail, restarts });
        drop(book);
        self.shared.dirty.notify_one();
    }

    /// Notes that reports are for the log that made this plan. If it has taken the node over from another,
    /// what each instance is now becomes a report again, in the place of what the other was not told yet:
    /// that it was stopped there says nothing of what is wanted here. One of which nothing is left is begun
    /// anew.
    pub fn report_to(&self, plan: &NodePlan, at: Timestamp) {
        let since = plan.adoption.as_ref().map_or(Generation::ZERO, |adoption| adoption.since);
        let told = (plan.cluster.clone(), since);
        let mut book = self.book();
        if book.told.as_ref() == Some(&told) {
            return;
        }
        book.told = Some(told);
        if since > Generation::ZERO {
            for (id, account) in &mut book.instances {
                account.pending.clear();
                match account.last.take() {
                    None | Some(Change::Stopped | Change::Collected) => {}
                    // That it ended once is no news; that it is started again is.
                    Some(Change::Crashed { .. }) => account.add(*id, at, Change::Booting),
                    Some(last) => account.add(*id, at, last),
                }
            }
        }
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

/// The stored book, or an empty one, and whether something of it was lost.
fn read(slot: &Slot, now: Timestamp) -> Result<(Book, bool), SlotError> {
    let mut is_damaged = false;
    // Ends: each round but the last moves one of the slot's two files away.
    let mut book = loop {
        let loaded = match slot.load() {
            Ok(None) => {
                break Book {
                    version: VERSION,
                    floor: 0,
                    boot: None,
                    told: None,
                    instances: BTreeMap::new(),
                };
            }
            Ok(Some(loaded)) => loaded,
            Err(damaged @ SlotError::Damaged { .. }) => {
                tracing::error!(error = %damaged, "reports are lost");
                is_damaged = true;
                continue;
            }
            Err(error) => return Err(error),
        };
        is_damaged |= loaded.fallback.is_some();
        match serde_json::from_slice::<Book>(&loaded.bytes) {
            Ok(book) if book.version == VERSION => break book,
            Ok(Book { version, .. }) => {
                let aside = slot.put_newest_aside()?;
                tracing::error!(version, ?aside, "the stored reports are of a version that is not known");
            }
            Err(error) => {
                let aside = slot.put_newest_aside()?;
                tracing::error!(%error, ?aside, "the stored reports make no sense");
            }
        }
        is_damaged = true;
    };
    if is_damaged {
        book.floor = book.floor.max(now.as_ms());
        tracing::warn!(
            floor = book.floor,
            known = book.instances.len(),
            "going on with what is left of them"
        );
    }
    Ok((book, is_damaged))
}

impl Book {
    fn account(&mut self, id: InstanceId) -> &mut Account {
        let account = self.instances.entry(id).or_default();
        account.sequence = account.sequence.max(self.floor);
        account
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
        let now = Timestamp::from_ms(1_000_000);
        Journal::open(Arc::clone(disk) as Arc<dyn Disk>, Path::new("/data"), now).expect("it opens")
    }

    #[test]
    fn only_another_boot_of_the_host_is_another_boot() {
        let disk = Arc::new(SimDisk::new(1));
        let open = |boot: Option<&str>| {
            let disk = Arc::clone(&disk) as Arc<dyn Disk>;
            let journal =
                Journal::open_in(boot.map(str::to_owned), disk, Path::new("/data"), Timestamp::from_ms(1));
            let journal = journal.expect("it opens");
            journal.store().expect("stored");
            journal.is_new_boot()
        };
        assert!(!open(None), "nothing was stored before");
        assert!(!open(Some("one")), "which boot it was is not known");
        assert!(!open(Some("one")), "only the agent was started again");
        assert!(open(Some("two")), "the host was");
        assert!(!open(Some("two")));
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

    /// As the real one: takes what is above the highest it has, and confirms whatever it is sent.
    fn send(journal: &Journal, server: &mut Vec<Transition>) {
        journal.store().expect("stored");
        let sent = journal.unconfirmed();
        for report in &sent {
            let known = server.iter().filter(|known| known.instance == report.instance);
            if known.map(|known| known.sequence).max().is_none_or(|highest| report.sequence > highest) {
                server.push(report.clone());
            }
        }
        journal.confirm(&sent.iter().map(|report| (report.instance, report.sequence)).collect());
    }

    #[test]
    fn after_damage_the_agent_starts_and_the_server_hears_of_everything_new() {
        type Spoil = fn(&mut Vec<u8>);
        let spoils: [Spoil; 3] = [
            |bytes| bytes[40] ^= 1,
            |bytes| bytes.truncate(3),
            // Whole by its checksum, and no book: the length and the sum are of other content.
            |bytes| {
                let disk = Arc::new(SimDisk::new(9));
                let mut slot = Slot::open(disk.clone(), Path::new("/other"), "reports").expect("opens");
                slot.store(br#"{"version":99,"instances":{}}"#).expect("stored");
                *bytes = disk.read(Path::new("/other/reports")).expect("read");
            },
        ];
        for names in [&["reports"][..], &["reports", "reports.previous"]] {
            for spoil in spoils {
                let (disk, mut server) = (Arc::new(SimDisk::new(1)), Vec::new());
                let journal = open(&disk);
                for round in 0..20 {
                    journal.note(ID, Timestamp::from_ms(round), Change::Booting);
                    journal.note(ID, Timestamp::from_ms(round), Change::Ready);
                    send(&journal, &mut server);
                }
                drop(journal);
                for name in names {
                    disk.damage(&Path::new("/data").join(name), spoil);
                }
                let journal = open(&disk);
                journal.note_crash(ID, Timestamp::from_ms(50), Reason::Exited, String::new());
                send(&journal, &mut server);
                drop(journal);
                let journal = open(&disk);
                journal.note(InstanceId::from_u128(6), Timestamp::from_ms(51), Change::Booting);
                journal.note(ID, Timestamp::from_ms(52), Change::Booting);
                send(&journal, &mut server);
                let of = |report: &&Transition| report.instance == ID && report.at.as_ms() >= 50;
                let heard: Vec<&Change> = server.iter().filter(of).map(|report| &report.change).collect();
                assert!(
                    matches!(heard[..], [Change::Crashed { .. }, Change::Booting]),
                    "{names:?}: the server heard {heard:?}"
                );
                let aside = disk.list(Path::new("/data")).expect("listed");
                let kept = aside.iter().filter(|name| name.contains("damaged")).count();
                assert_eq!(kept, names.len(), "what was damaged is kept: {aside:?}");
            }
        }
    }
}
