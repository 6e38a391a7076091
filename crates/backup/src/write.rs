//! Making a backup.
//!
//! ```text
//!   committed head ─► entries after the full parts of the last backup ─► seal ─► objects
//!                     newest snapshot ──────────────────────────────────► seal ─► objects
//!   objects ─► read back, open, chain from the first entry to the head ─► manifest ─► read back
//! ```
//!
//! Invariants:
//!
//! - A manifest is written only when every object it names was read back from the store and is right.
//! - Killed anywhere, this leaves objects that nobody names, and every older backup as it was.
//! - One part of the log is in memory at a time.

use crate::{
    key::Key,
    manifest::{Id, Manifest, Object, Run, Snapshot, VERSION, list},
    part::{Part, pieces},
    source::Source,
    store::{ObjectError, Put, Store},
    verify::{self, VerifyError},
};
use bytes::Bytes;
use log::{
    Head,
    wal::{Entries, EntriesError},
};
use rt::{Clock, OsRandom, Random};
use std::sync::Arc;
use types::{DurationMs, EventId, Index};

/// Why there is no backup. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The log cannot be read.
    #[error("cannot read the log")]
    Log(#[from] EntriesError),
    /// The log is empty.
    #[error("there is nothing to back up: the log has no entry that is known to be committed")]
    Empty,
    /// The log ends before the last backup of it.
    #[error(
        "the log ends at entry {log}, but the last backup of this cluster, {last}, reaches {backup}: entries \
         were lost, or this is an old copy. Restore that backup, or use another store"
    )]
    Behind {
        /// Where the log ends.
        log: Index,
        /// Where the backup ends.
        backup: Index,
        /// The backup.
        last: Id,
    },
    /// An object cannot be written or read.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// What was written is not right.
    #[error("the backup was written, but does not verify, and so does not count; make it anew without reuse")]
    Verify(#[from] VerifyError),
}

/// What a backup takes from the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// Objects that are there already are not sent again. Read back and verified are all of them.
    Objects,
    /// Everything is sent, over what is there.
    Nothing,
}

/// A backup that is made and verified.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its name.
    pub id: Id,
    /// The last entry it has.
    pub head: Head,
    /// The event of the snapshot in it.
    pub snapshot: Option<EventId>,
    /// Objects that were sent, and their bytes.
    pub sent: Sum,
    /// Objects that were there already, and their bytes.
    pub reused: Sum,
    /// How long it took, verifying included.
    pub took: DurationMs,
}

/// So many objects of so many bytes together, as they lie in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub objects: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl Sum {
    pub(crate) fn add(&mut self, bytes: u64) {
        self.objects += 1;
        self.bytes += bytes;
    }
}

/// Backs the log up to its head as it is now. Appends go on meanwhile.
///
/// # Errors
/// See [`BackupError`]. Nothing that was there before is changed.
pub async fn backup(
    store: &Store,
    key: &Key,
    source: Arc<dyn Source>,
    clock: &dyn Clock,
    reuse: Reuse,
) -> Result<Done, BackupError> {
    let started = clock.now();
    let (head, entries) = blocking(move || Ok((source.head()?, source.entries()?))).await?;
    if head.index == Index::ZERO {
        return Err(BackupError::Empty);
    }
    let identity = entries.identity().clone();
    store.claim(&identity.cluster).await?;
    let previous = previous(store, key, &identity.cluster).await?;
    if let Some(previous) = &previous
        && previous.head.head().index > head.index
    {
        let backup = previous.head.head().index;
        return Err(BackupError::Behind { log: head.index, backup, last: previous.id });
    }
    let mut sender = Sender {
        store,
        key,
        cluster: &identity.cluster,
        reuse,
        sent: Sum::default(),
        reused: Sum::default(),
    };
    let (log, entries) = sender.log(entries, head, previous).await?;
    let snapshot = sender.snapshot(entries, head.event).await?;
    let (sent, reused) = (sender.sent, sender.reused);
    let dice = OsRandom.u128() as u32;
    let manifest = Manifest {
        version: VERSION,
        id: Id::new(&head, started, dice),
        cluster: identity.cluster,
        node: identity.node,
        log_version: identity.version,
        time: started,
        key: key.id(),
        head: head.into(),
        log,
        snapshot,
    };
    verify::objects(store, key, &manifest).await?;
    let name = manifest.id.object();
    store.put(&name, manifest.seal(key), Put::New).await?;
    if Manifest::fetch(store, key, &manifest.cluster, manifest.id).await? != manifest {
        return Err(store.damaged(&name, 0, "it does not read back as it was written").into());
    }
    let snapshot = manifest.snapshot.as_ref().map(|snapshot| snapshot.event);
    let took = clock.now().since(started);
    Ok(Done { id: manifest.id, head, snapshot, sent, reused, took })
}

/// The newest backup under this key; with another key there is nothing to go on from.
async fn previous(store: &Store, key: &Key, cluster: &str) -> Result<Option<Manifest>, ObjectError> {
    for listed in list(store).await?.into_iter().rev() {
        match Manifest::fetch(store, key, cluster, listed.id).await {
            Ok(manifest) => return Ok(Some(manifest)),
            Err(ObjectError::OtherKey { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

struct Sender<'a> {
    store: &'a Store,
    key: &'a Key,
    cluster: &'a str,
    reuse: Reuse,
    sent: Sum,
    reused: Sum,
}

impl Sender<'_> {
    /// Sends what the log has besides the full parts of the backup before.
    async fn log(
        &mut self,
        mut entries: Entries,
        head: Head,
        previous: Option<Manifest>,
    ) -> Result<(Vec<Run>, Entries), BackupError> {
        let known = previous.as_ref().map(|manifest| manifest.head.head());
        let mut log = previous.map(|manifest| manifest.log).unwrap_or_default();
        let kept = if self.reuse == Reuse::Objects { log.partition_point(|run| run.full) } else { 0 };
        log.truncate(kept);
        log.iter().for_each(|run| self.reused.add(run.object.stored));
        let from = log.last().map_or(Head::NOTHING, |run| run.end.head());
        entries = blocking(move || entries.seek(&from).map(|()| entries)).await?;
        loop {
            let (key, cluster) = (self.key.clone(), self.cluster.to_owned());
            let cut = blocking(move || {
                let part = Part::cut(&mut entries, head.index, |passed| same_history(known, passed))?;
                let sealed =
                    part.map(|part| (Object::seal(&key, &cluster, &part.content), part.end, part.full));
                Ok((sealed, entries))
            });
            let (sealed, back) = cut.await?;
            entries = back;
            let Some((sealed, end, full)) = sealed else { return Ok((log, entries)) };
            let object = self.send(sealed.object, sealed.bytes).await?;
            log.push(Run { object, end: end.into(), full });
        }
    }

    async fn snapshot(&mut self, entries: Entries, last: EventId) -> Result<Option<Snapshot>, BackupError> {
        let Some((event, content)) = blocking(move || entries.snapshot(last)).await? else { return Ok(None) };
        let mut all = Vec::new();
        for piece in pieces(content) {
            let (key, cluster) = (self.key.clone(), self.cluster.to_owned());
            let sealed = blocking(move || Ok(Object::seal(&key, &cluster, &piece))).await?;
            all.push(self.send(sealed.object, sealed.bytes).await?);
        }
        Ok(Some(Snapshot { event, pieces: all }))
    }

    /// Sends an object unless it is there. One that is there may have been packed otherwise, by another
    /// version say, and then is written over: what counts is what the manifest will say.
    async fn send(&mut self, object: Object, bytes: Bytes) -> Result<Object, ObjectError> {
        let name = object.name();
        if self.reuse == Reuse::Objects && self.store.size(&name).await? == Some(object.stored) {
            self.reused.add(object.stored);
            return Ok(object);
        }
        self.sent.add(object.stored);
        self.store.put(&name, bytes, Put::Over).await?;
        Ok(object)
    }
}

fn same_history(known: Option<Head>, passed: &Head) -> Result<(), EntriesError> {
    match known {
        Some(known) if known.index == passed.index && known != *passed => {
            Err(EntriesError::Diverged { dir: "the log".into(), at: known.index })
        }
        _ => Ok(()),
    }
}

/// Runs what reads from disk or seals, where that may take its time.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, EntriesError> + Send + 'static,
) -> Result<T, EntriesError> {
    tokio::task::spawn_blocking(work).await.expect("reading and sealing do not panic")
}
