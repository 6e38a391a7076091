//! Backups that the server makes by itself: the log archived as it grows, whole backups on a schedule,
//! old ones taken away, and drills that prove the last one.
//!
//! ```text
//!   authority here ─► a thread of its own, behind all others
//!                       ├─ archiving: every few seconds, what came since
//!                       └─ making:    backup ─► prune, and drill, each when it is due by the log
//!   what came of it ─► the log (backup.made, .drilled, .failed, .recovered) and `cluster status`
//! ```
//!
//! Invariants:
//! - The member with authority does it, and nobody else. When the last was made stands in the log, so
//!   that the next one to lead goes on from there. Two at once, around a change of authority, cost a
//!   little space and nothing else: objects are named by their content, manifests are never written
//!   over, and what is young is not pruned.
//! - Nothing of the server waits for it: it reads committed entries beside the writer, in threads that
//!   have a low priority. A store that hangs keeps no server from stopping.
//! - It never fails silently, and never fills the log: a failure is in the status at once, and in the log
//!   the first time and then now and then.
//! - A store that had the last backup and has none now is not begun anew: so looks a disk that is not
//!   mounted.

mod making;
mod proof;
mod worker;

use crate::{cluster::Cluster, writer::Core};
use ::backup::{Key, OpenStoreError, Store};
use domain::BackupStep;
use rt::{Spawner, ThreadSpawner};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;
use types::{ByteSize, DurationMs, EventId, Timestamp, limits};
use worker::Worker;

/// What a server is told of backups.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A directory, or `s3://BUCKET/PREFIX`.
    pub place: String,
    /// What seals them.
    pub key: Key,
    /// Between two backups.
    pub every: DurationMs,
    /// How many are kept.
    pub keep: NonZeroUsize,
    /// Between two steps of the archive; none if the log is not archived.
    pub archive: Option<DurationMs>,
    /// Between two drills; none if there are none.
    pub drill: Option<DurationMs>,
    /// Where drills restore to.
    pub scratch: PathBuf,
    /// Bytes in a second to and from the store, at the most; none if there is no bound.
    pub rate: Option<ByteSize>,
}

/// Why backups cannot be made as a server is told.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The place is none.
    #[error(transparent)]
    Place(#[from] OpenStoreError),
    /// A text is too long to be noted.
    #[error("the place for backups has {length} characters, and {} is the most", limits::BACKUP_TEXT)]
    Long {
        /// How many it has.
        length: usize,
    },
    /// A time is too short.
    #[error("{what} every {given} is too often: {} at the least", limits::BACKUP_EVERY_MIN)]
    Often {
        /// What would be done so often.
        what: &'static str,
        /// The time given.
        given: DurationMs,
    },
}

impl Settings {
    /// Whether they can be used. A directory that is not there, or a bucket that does not answer, is no
    /// mistake of the settings: it is said in the status, and tried again.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), SettingsError> {
        let length = self.place.chars().count();
        if length > limits::BACKUP_TEXT {
            return Err(SettingsError::Long { length });
        }
        if self.place.is_empty() || (self.place.contains("://") && !self.place.starts_with("file://")) {
            Store::open(&self.place)?;
        }
        let often = [("a backup", Some(self.every)), ("archiving", self.archive), ("a drill", self.drill)];
        for (what, given) in often {
            if let Some(given) = given.filter(|given| *given < limits::BACKUP_EVERY_MIN) {
                return Err(SettingsError::Often { what, given });
            }
        }
        Ok(())
    }
}

/// How it is with backups on one member, as its process knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Where backups go.
    pub place: String,
    /// Everything up to this event is archived, and when nothing was missing there; none before the
    /// first time, or if the log is not archived.
    pub archived: Option<(EventId, Timestamp)>,
    /// Steps that failed when they were tried last: why, and when.
    pub failing: Vec<(BackupStep, String, Timestamp)>,
    /// What is under way.
    pub busy: Option<BackupStep>,
}

/// A cheap handle on the backups of a server.
#[derive(Clone)]
pub struct Backups(Arc<Shared>);

struct Shared {
    settings: Settings,
    now: Mutex<Now>,
    asked: Notify,
}

/// What only this process knows.
#[derive(Default)]
struct Now {
    archived: Option<(EventId, Timestamp)>,
    failing: BTreeMap<BackupStep, (String, Timestamp)>,
    failures: BTreeMap<BackupStep, u64>,
    busy: Option<BackupStep>,
}

impl Backups {
    /// Backups as they are told, none of them yet.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Shared { settings, now: Mutex::default(), asked: Notify::new() }))
    }

    /// Has a backup made as soon as the last one is done, whenever the next would be.
    pub fn ask(&self) {
        self.0.asked.notify_one();
    }

    /// How it is.
    pub fn report(&self) -> Report {
        let now = self.lock();
        let failing = now.failing.iter().map(|(step, (why, at))| (*step, why.clone(), *at));
        Report {
            place: self.0.settings.place.clone(),
            archived: now.archived,
            failing: failing.collect(),
            busy: now.busy,
        }
    }

    /// How often each step has failed since this process began.
    pub fn failures(&self) -> BTreeMap<BackupStep, u64> {
        self.lock().failures.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.0.now.lock().expect("no thread panics while it holds this")
    }

    fn failed(&self, step: BackupStep, why: &str, at: Timestamp) {
        let mut now = self.lock();
        *now.failures.entry(step).or_default() += 1;
        now.failing.insert(step, (why.to_owned(), at));
    }

    /// Makes them while this node has authority, until told to stop.
    pub(crate) async fn keep(self, core: Core, cluster: Cluster, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let worker = Worker::new(self.clone(), core.clone(), &cluster);
            let ended = beside(worker, stop.child_token());
            let why = match ended {
                Ok(ended) => match stop.run_until_cancelled(ended).await {
                    Some(Ok(())) => "they ended by themselves".to_owned(),
                    Some(Err(_)) => "they ended by a fault of this program".to_owned(),
                    None => return,
                },
                Err(error) => error.to_string(),
            };
            tracing::error!(%why, "backups are not made any more; they begin again in a while");
            self.failed(BackupStep::Backup, &why, core.now());
            let wait = tokio::time::sleep(limits::BACKUP_AGAIN_MAX.into());
            if stop.run_until_cancelled(wait).await.is_none() {
                return;
            }
        }
    }
}

/// Runs a worker in a thread with a runtime of its own; the answer comes when it has ended. Neither the
/// thread nor what it does in others is waited for: a store may never answer.
fn beside(worker: Worker, stop: CancellationToken) -> std::io::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (told, ended) = oneshot::channel();
    let task = move || {
        rt::step_back();
        runtime.block_on(stop.run_until_cancelled(worker.run()));
        runtime.shutdown_background();
        let _nobody_waits = told.send(());
    };
    ThreadSpawner.spawn("backups", Box::new(task))?;
    Ok(ended)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(place: &str) -> Settings {
        Settings {
            place: place.into(),
            key: Key::new([1; 32]),
            every: limits::BACKUP_EVERY,
            keep: NonZeroUsize::MIN,
            archive: None,
            drill: None,
            scratch: PathBuf::new(),
            rate: None,
        }
    }

    #[test]
    fn settings_that_can_never_work_are_told_from_a_store_that_is_away() {
        settings("/nowhere/at/all").check().expect("a disk that is not mounted is no mistake");
        for (place, told) in
            [("ftp://host/x", "no place for backups"), ("s3://", "no place"), ("", "cannot use")]
        {
            let error = settings(place).check().expect_err(place).to_string();
            assert!(error.contains(told), "{place}: {error}");
        }
        let error = settings(&"x".repeat(500)).check().expect_err("too long").to_string();
        assert!(error.contains("500 characters"), "{error}");
        let often = Settings { drill: Some(DurationMs::from_ms(10)), ..settings("/x") };
        let error = often.check().expect_err("too often").to_string();
        assert!(error.contains("a drill every 10ms"), "{error}");
    }
}
