//! The thread's own part: who works when, and how it is told.

use super::{Backups, Settings};
use crate::{
    cluster::Cluster,
    sequencer::Proposal,
    writer::{Answer, Core},
};
use ::backup::{Archiver, Live, Source, Store};
use domain::{Actor, BackupNote, BackupStep, Command, state::BackupFailed};
use log::Log;
use rt::{Disk, RealDisk};
use std::{error::Error, sync::Arc};
use types::{DurationMs, EventId, Timestamp, limits};

/// How long a step of the archive that failed rests at the most, unless it comes more seldom anyway.
const ARCHIVE_AGAIN: DurationMs = DurationMs::from_secs(10);

/// What makes the backups of one log.
#[derive(Clone)]
pub(super) struct Worker {
    pub(super) backups: Backups,
    pub(super) core: Core,
    pub(super) source: Arc<dyn Source>,
    pub(super) disk: Arc<dyn Disk>,
}

/// Why a step did not come to its end.
#[derive(Debug)]
pub(super) struct Trouble {
    /// For people.
    pub(super) why: String,
    /// What lies in the store is not what was written there: everything is to be sent again.
    pub(super) damaged: bool,
}

impl Trouble {
    pub(super) fn of(error: &dyn Error) -> Self {
        let mut why = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            let said = cause.to_string();
            if !why.contains(&said) {
                why.push_str(": ");
                why.push_str(&said);
            }
            next = cause.source();
        }
        Self::new(&why)
    }

    pub(super) fn new(why: &str) -> Self {
        let bounded = |text: &str| text.chars().take(limits::BACKUP_TEXT).collect();
        Self { why: bounded(why), damaged: false }
    }
}

impl<E: Error> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

/// The wait after so many failures in a row.
pub(super) fn again(tries: u32, most: DurationMs) -> DurationMs {
    let doubled = limits::BACKUP_AGAIN_MIN.as_ms() << tries.saturating_sub(1).min(16);
    DurationMs::from_ms(doubled.min(most.as_ms()))
}

impl Worker {
    pub(super) fn new(backups: Backups, core: Core, cluster: &Cluster) -> Self {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let log: Arc<dyn Log> = Arc::new(cluster.log().clone());
        let source = Arc::new(Live::new(log, Arc::clone(&disk), &cluster.data_dir().join("log")));
        Self { backups, core, source, disk }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.backups.0.settings
    }

    /// Works whenever this node has authority; ends only when the log has.
    pub(super) async fn run(self) {
        if let Err(error) = ::backup::clear_drill(&*self.disk, &self.settings().scratch) {
            tracing::warn!(%error, "what an earlier drill has left cannot be removed");
        }
        let mut authority = self.core.authority();
        loop {
            let held = match authority.wait_for(Option::is_some).await {
                Ok(held) => *held,
                Err(_) => return,
            };
            let lost = async {
                if authority.wait_for(|now| *now != held).await.is_err() {
                    // Its sender is gone: what it says now is for ever.
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = async { tokio::join!(self.archiving(), self.making()); } => {}
                () = lost => {}
            }
            let mut now = self.backups.lock();
            (now.archived, now.busy) = (None, None);
            now.failing.clear();
        }
    }

    pub(super) fn store(&self) -> Result<Store, Trouble> {
        let store = Store::existing(&self.settings().place)?;
        Ok(match self.settings().rate {
            Some(rate) => store.at_most(rate),
            None => store,
        })
    }

    /// Sends the log as it grows.
    async fn archiving(&self) {
        let Some(every) = self.settings().archive else { return std::future::pending().await };
        let (mut archiver, mut tries) = (None, 0);
        loop {
            let began = self.core.now();
            let wait = match self.archive(&mut archiver).await {
                Ok(Some(event)) => {
                    self.backups.lock().archived = Some((event, began));
                    self.works(BackupStep::Archive).await;
                    tries = 0;
                    every
                }
                // The first backup is not made yet: if it cannot be, that is said there.
                Ok(None) => every,
                Err(trouble) => {
                    // Begun anew from what is in the store then.
                    archiver = None;
                    tries += 1;
                    self.failed(BackupStep::Archive, &trouble.why).await;
                    again(tries, ARCHIVE_AGAIN.max(every))
                }
            };
            tokio::time::sleep(wait.into()).await;
        }
    }

    /// Sends what came since the last step; gives the event up to which all is archived, or none if
    /// there is no backup to go on from.
    async fn archive(&self, archiver: &mut Option<Archiver>) -> Result<Option<EventId>, Trouble> {
        if archiver.is_none() {
            let (store, key) = (self.store()?, &self.settings().key);
            // Asked first, for an archiver takes a place that is empty.
            if ::backup::newest(&store, key).await?.is_none() {
                return Ok(None);
            }
            *archiver = Some(Archiver::start(store, key.clone(), Arc::clone(&self.source)).await?);
        }
        let archiver = archiver.as_mut().expect("it was begun above");
        Ok(Some(archiver.step().await?.head.event))
    }

    /// A step works. If it had failed, that is over.
    pub(super) async fn works(&self, step: BackupStep) {
        self.backups.lock().failing.remove(&step);
        if self.core.state().backups.is_failing(step) {
            self.note(BackupNote::Recovered { step }).await;
        }
    }

    /// A step has failed: said at once, and noted the first time and then now and then.
    pub(super) async fn failed(&self, step: BackupStep, why: &str) {
        let now = self.core.now();
        tracing::error!(step = step.as_str(), %why, "the log is not backed up as it should be; it is tried again");
        self.backups.failed(step, why, now);
        if is_news(self.core.state().backups.failed.get(&step), now) {
            self.note(BackupNote::Failed { step, why: why.to_owned() }).await;
        }
    }

    /// Writes it into the log; false if that may not have been done.
    pub(super) async fn note(&self, note: BackupNote) -> bool {
        let command = Command::NoteBackup { note };
        let proposal = Proposal { command, actor: Actor::System, judged: None, request: None, cause: None };
        let why = match self.core.propose(proposal).await {
            Answer::Executed { .. } => return true,
            Answer::Refused { text, .. } => text,
            Answer::Unavailable { why, .. } | Answer::Unknown { why } => why,
        };
        tracing::warn!(%why, "what came of a backup was not written into the log");
        false
    }
}

/// Whether a failure is worth an event, after the last that was noted of the same step.
fn is_news(last: Option<&BackupFailed>, now: Timestamp) -> bool {
    match last.map(|last| (last.at, last.over)) {
        None => true,
        Some((at, None)) => at.plus(limits::BACKUP_FAILED_AGAIN) <= now,
        Some((_, Some(over))) => over.plus(limits::BACKUP_FAILED_APART) <= now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_goes_on_or_comes_again_fills_no_log() {
        let at = Timestamp::from_ms(1_000_000);
        let last = |over| BackupFailed { why: String::new(), at, over };
        assert!(is_news(None, at));
        let goes_on = last(None);
        assert!(!is_news(Some(&goes_on), at.plus(DurationMs::from_secs(3599))));
        assert!(is_news(Some(&goes_on), at.plus(limits::BACKUP_FAILED_AGAIN)));
        let over = at.plus(DurationMs::from_secs(10));
        let again = last(Some(over));
        assert!(!is_news(Some(&again), over.plus(DurationMs::from_secs(299))));
        assert!(is_news(Some(&again), over.plus(limits::BACKUP_FAILED_APART)));
    }

    #[test]
    fn waits_grow_to_their_bound() {
        let waits: Vec<u64> = (1..=12).map(|tries| again(tries, limits::BACKUP_AGAIN_MAX).as_ms()).collect();
        assert_eq!(waits[..4], [1000, 2000, 4000, 8000]);
        assert_eq!(waits[11], limits::BACKUP_AGAIN_MAX.as_ms());
        assert_eq!(again(u32::MAX, ARCHIVE_AGAIN), ARCHIVE_AGAIN);
    }
}
