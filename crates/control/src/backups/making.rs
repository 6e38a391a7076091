//! Whole backups and drills, one at a time, each when it is due.

use super::{
    proof::Proof,
    worker::{Trouble, Worker, again},
};
use ::backup::{BackupError, Reuse};
use domain::{BackupNote, BackupStep, state::Backups};
use rt::SystemClock;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use types::{DurationMs, Timestamp, limits};

/// A step that failed rests until this time.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    tries: u32,
    until: Timestamp,
}

impl Rest {
    fn after(&mut self, done: bool, now: Timestamp) {
        *self = match done {
            true => Self::default(),
            false => {
                let tries = self.tries.saturating_add(1);
                Self { tries, until: now.plus(again(tries, limits::BACKUP_AGAIN_MAX)) }
            }
        };
    }
}

/// When the next backup to this place is due, and the next drill if one is wanted and there is a backup.
fn due(
    backups: &Backups,
    place: &str,
    every: DurationMs,
    drill: Option<DurationMs>,
) -> (Timestamp, Option<Timestamp>) {
    let made = backups.made.as_ref().filter(|made| made.place == place);
    let backup = made.map_or(Timestamp::ZERO, |made| made.at.plus(every));
    let last = backups.drilled.as_ref().map(|drilled| drilled.at);
    let drill =
        drill.filter(|_| made.is_some()).map(|every| last.map_or(Timestamp::ZERO, |at| at.plus(every)));
    (backup, drill)
}

impl Worker {
    /// Makes backups and drills as they are due.
    pub(super) async fn making(&self) {
        let (mut backup_rest, mut drill_rest) = (Rest::default(), Rest::default());
        let (mut reuse, mut asked) = (Reuse::Objects, false);
        loop {
            let settings = self.settings();
            let (backup, drill) =
                due(&self.core.state().backups, &settings.place, settings.every, settings.drill);
            // What somebody asked for and failed is due until it is made.
            let backup = if asked { backup_rest.until } else { backup.max(backup_rest.until) };
            let drill = drill.map(|at| at.max(drill_rest.until)).filter(|at| *at < backup);
            let wait = drill.unwrap_or(backup).since(self.core.now());
            let now = tokio::select! {
                biased;
                () = self.backups.0.asked.notified() => true,
                () = tokio::time::sleep(wait.into()) => false,
            };
            asked |= now;
            if drill.is_some() && !now {
                let done = self.told(BackupStep::Drill, self.drill()).await.is_ok();
                drill_rest.after(done, self.core.now());
                continue;
            }
            let made = self.told(BackupStep::Backup, self.make(reuse)).await;
            reuse = match &made {
                Err(trouble) if trouble.damaged => Reuse::Nothing,
                _ => Reuse::Objects,
            };
            backup_rest.after(made.is_ok(), self.core.now());
            asked &= made.is_err();
            if made.is_ok() {
                let pruned = self.told(BackupStep::Prune, self.prune()).await;
                tracing::debug!(done = pruned.is_ok(), "old backups are taken away");
            }
        }
    }

    /// Has a step done, and tells what came of it.
    async fn told(
        &self,
        step: BackupStep,
        work: impl Future<Output = Result<Option<BackupNote>, Trouble>>,
    ) -> Result<(), Trouble> {
        self.backups.lock().busy = Some(step);
        let done = work.await;
        self.backups.lock().busy = None;
        match done {
            Ok(Some(note)) => {
                self.backups.lock().failing.remove(&step);
                match self.note(note).await {
                    true => Ok(()),
                    // It would be made again at once: the log says when the last was.
                    false => Err(Trouble::new("it is done, and could not be noted")),
                }
            }
            Ok(None) => {
                self.works(step).await;
                Ok(())
            }
            Err(trouble) => {
                self.failed(step, &trouble.why).await;
                Err(trouble)
            }
        }
    }

    async fn make(&self, reuse: Reuse) -> Result<Option<BackupNote>, Trouble> {
        let (store, settings) = (self.store()?, self.settings());
        let newest = ::backup::newest(&store, &settings.key).await?;
        let state = self.core.state();
        let before = state.backups.made.as_ref().filter(|made| made.place == settings.place);
        if let (None, Some(before)) = (newest, before) {
            let (place, id) = (&settings.place, &before.id);
            return Err(Trouble::new(&format!(
                "{place} had the backup {id} and holds none now: is it mounted? To begin anew there, make the first by hand: holdfast cluster backup --to {place}"
            )));
        }
        let source = Arc::clone(&self.source);
        let done = match ::backup::backup(&store, &settings.key, source, &SystemClock, reuse).await {
            Err(error @ BackupError::Verify(_)) => {
                return Err(Trouble { damaged: true, ..Trouble::of(&error) });
            }
            done => done?,
        };
        tracing::info!(id = %done.id, event = %done.head.event, sent = done.sent.bytes, took = %done.took, "backed up");
        let (id, place) = (done.id.to_string(), settings.place.clone());
        Ok(Some(BackupNote::Made { id, place, event: done.head.event }))
    }

    async fn prune(&self) -> Result<Option<BackupNote>, Trouble> {
        let (store, settings) = (self.store()?, self.settings());
        ::backup::prune(&store, &settings.key, &SystemClock, settings.keep, limits::BACKUP_GRACE).await?;
        Ok(None)
    }

    /// Restores the newest backup aside, and proves that it is this log. Folding takes a thread of its
    /// own, so that archiving goes on.
    async fn drill(&self) -> Result<Option<BackupNote>, Trouble> {
        let (worker, runtime, stop) = (self.clone(), Handle::current(), CancellationToken::new());
        let _at_the_end = stop.clone().drop_guard();
        let work = move || runtime.block_on(stop.run_until_cancelled(worker.restore_aside()));
        match tokio::task::spawn_blocking(work).await? {
            Some(done) => done.map(Some),
            None => Err(Trouble::new("it was stopped")),
        }
    }

    async fn restore_aside(&self) -> Result<BackupNote, Trouble> {
        let (store, settings) = (self.store()?, self.settings());
        let mut proof = Proof::default();
        let drilled = ::backup::drill(
            &store,
            &settings.key,
            Arc::clone(&self.disk),
            &settings.scratch,
            &SystemClock,
            |record| proof.add(record),
        )
        .await?;
        // The chain covers every entry before it.
        self.source.entries()?.seek(&drilled.head)?;
        proof.against(&self.core)?;
        tracing::info!(from = %drilled.from, event = %drilled.event, took = %drilled.took, "drilled");
        let (id, fingerprint) = (drilled.from.to_string(), drilled.fingerprint.to_string());
        Ok(BackupNote::Drilled { id, event: drilled.event, fingerprint })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::state::{BackupDrilled, BackupMade};
    use types::EventId;

    #[test]
    fn what_is_due_is_known_from_the_log_and_the_place() {
        let (hour, day) = (DurationMs::from_secs(3600), DurationMs::from_secs(24 * 3600));
        let at = Timestamp::from_ms(5_000_000);
        let mut backups = Backups::default();
        assert_eq!(due(&backups, "a", hour, Some(day)), (Timestamp::ZERO, None), "there is nothing to drill");
        let made = BackupMade { id: "1".into(), place: "a".into(), event: EventId::new(7), at };
        backups.made = Some(made);
        assert_eq!(due(&backups, "a", hour, Some(day)), (at.plus(hour), Some(Timestamp::ZERO)));
        assert_eq!(due(&backups, "b", hour, Some(day)), (Timestamp::ZERO, None), "the place is another");
        assert_eq!(due(&backups, "a", hour, None), (at.plus(hour), None));
        let drilled =
            BackupDrilled { id: "1".into(), event: EventId::new(7), fingerprint: String::new(), at };
        backups.drilled = Some(drilled);
        assert_eq!(due(&backups, "a", hour, Some(day)), (at.plus(hour), Some(at.plus(day))));
    }

    #[test]
    fn a_step_that_fails_rests_longer_each_time() {
        let (mut rest, now) = (Rest::default(), Timestamp::from_ms(1000));
        rest.after(false, now);
        assert_eq!(rest.until, now.plus(limits::BACKUP_AGAIN_MIN));
        rest.after(false, now);
        assert!(rest.until > now.plus(limits::BACKUP_AGAIN_MIN));
        rest.after(true, now);
        assert_eq!(rest.until, Timestamp::ZERO);
    }
}
