//! What is sent between two backups: the log as it grows, so that a restore may go further than the last
//! backup.
//!
//! Each object is a part of the log, sealed, and says itself which entry it follows and which it ends
//! with; the chain proves that it is the right one. So there is nothing to keep in step: whoever goes on
//! sending, after a restart or beside another, can at worst send the same entries twice.

use crate::{
    key::{Key, sha256},
    manifest::{Hex, Manifest, list},
    part::Part,
    sealed::{self, Binding},
    source::Source,
    store::{ObjectError, Put, Store},
    verify::VerifyError,
    write::{Sum, blocking},
};
use log::{
    Head,
    wal::{Entries, EntriesError},
};
use std::sync::Arc;
use tokio::sync::watch;
use types::{DurationMs, Index, limits};

pub(crate) const LOG: &str = "log";

/// Why the log could not be archived. What was sent before is as it was; the next step tries again.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// There is no backup to go on from, or it cannot be read.
    #[error(transparent)]
    Backup(#[from] VerifyError),
    /// The log cannot be read, or is another one than was backed up.
    #[error("cannot read the log")]
    Log(#[from] EntriesError),
    /// The store did not do what was asked.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// The log ends before what was archived of it.
    #[error(
        "the log ends at entry {log}, but {archived} are archived: entries were lost, or this is an old copy"
    )]
    Behind {
        /// Where the log ends.
        log: Index,
        /// Where the archive ends.
        archived: Index,
    },
}

/// What one step sent.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Everything up to here can be restored.
    pub head: Head,
    /// What was sent.
    pub sent: Sum,
}

/// Sends a log as it grows.
#[derive(Debug)]
pub struct Archiver {
    store: Store,
    key: Key,
    source: Arc<dyn Source>,
    cluster: String,
    /// Everything up to here is in the store.
    archived: Head,
    /// The way on from there; opened anew after an error.
    entries: Option<Entries>,
}

impl Archiver {
    /// Goes on where the last backup, and what was archived since, ends.
    ///
    /// # Errors
    /// There is no backup yet, or it is of another cluster.
    pub async fn start(store: Store, key: Key, source: Arc<dyn Source>) -> Result<Self, ArchiveError> {
        let entries = {
            let source = Arc::clone(&source);
            blocking(move || source.entries()).await?
        };
        let cluster = entries.identity().cluster.clone();
        store.claim(&cluster).await?;
        let newest = list(&store).await?.pop();
        let newest = newest.ok_or_else(|| VerifyError::None { store: store.to_string() })?;
        let manifest = Manifest::fetch(&store, &key, &cluster, newest.id).await?;
        let trail = Trail::begin(&store, manifest.head.head()).await?;
        let archived = trail.find_end(&store, &key, &cluster).await?;
        Ok(Self { store, key, source, cluster, archived, entries: None })
    }

    /// Everything up to here is in the store.
    pub fn archived(&self) -> Head {
        self.archived
    }

    /// Sends what came since the last step, up to the head of this moment.
    ///
    /// # Errors
    /// See [`ArchiveError`]; call it again.
    pub async fn step(&mut self) -> Result<Step, ArchiveError> {
        self.store.is_of(&self.cluster).await?;
        let source = Arc::clone(&self.source);
        let head = blocking(move || source.head()).await?;
        if head.index < self.archived.index {
            return Err(ArchiveError::Behind { log: head.index, archived: self.archived.index });
        }
        let mut sent = Sum::default();
        while self.archived.index < head.index {
            let (source, archived) = (Arc::clone(&self.source), self.archived);
            let entries = self.entries.take();
            let (key, cluster) = (self.key.clone(), self.cluster.clone());
            let cut = blocking(move || {
                let mut entries = match entries {
                    Some(entries) => entries,
                    None => {
                        let mut entries = source.entries()?;
                        entries.seek(&archived)?;
                        entries
                    }
                };
                let part = Part::cut(&mut entries, head.index, |_| Ok(()))?;
                Ok((part.map(|part| (seal(&key, &cluster, &part), part.end)), entries))
            });
            let (part, entries) = cut.await?;
            let Some(((name, bytes), end)) = part else { break };
            self.store.put(&name, bytes.clone(), Put::Over).await?;
            if self.store.get(&name, limits::BACKUP_OBJECT).await? != bytes {
                return Err(self.store.damaged(&name, 0, "it does not read back as it was written").into());
            }
            sent.add(bytes.len() as u64);
            (self.archived, self.entries) = (end, Some(entries));
        }
        if sent.objects > 0 {
            // A directory whose disk went away meanwhile was written to beside it.
            self.store.is_of(&self.cluster).await?;
        }
        Ok(Step { head: self.archived, sent })
    }

    /// Takes a step every `every`, until told to stop or whoever could say so is gone; a last step then.
    /// `told` hears what became of each.
    pub async fn run(
        mut self,
        every: DurationMs,
        mut stop: watch::Receiver<bool>,
        mut told: impl FnMut(&Result<Step, ArchiveError>),
    ) {
        loop {
            told(&self.step().await);
            let stopped = stop.wait_for(|stop| *stop);
            if tokio::time::timeout(every.into(), stopped).await.is_ok() {
                told(&self.step().await);
                return;
            }
        }
    }
}

fn seal(key: &Key, cluster: &str, part: &Part) -> (String, bytes::Bytes) {
    let tag = Hex(key.name(&sha256(&part.content))).to_string();
    let name = format!("{LOG}/{:016}-{:016}-{}", part.before.index.get(), part.end.index.get(), &tag[..16]);
    let bytes = sealed::seal(key, Binding { cluster, name: &name }, &part.content);
    (name, bytes)
}

/// The entry that an archived part follows, and its last.
pub(crate) fn span(name: &str) -> Option<(Index, Index)> {
    let mut parts = name.strip_prefix(LOG)?.strip_prefix('/')?.split('-');
    let mut number = || parts.next()?.parse::<u64>().ok().map(Index::new);
    Some((number()?, number()?))
}

/// The archived parts after a backup, in the order of their entries.
#[derive(Debug)]
pub(crate) struct Trail {
    /// Before, last, name.
    all: Vec<(Index, Index, String)>,
    head: Head,
}

impl Trail {
    /// Stands at the end of a backup.
    pub(crate) async fn begin(store: &Store, head: Head) -> Result<Self, ObjectError> {
        let mut all = Vec::new();
        for found in store.list(LOG).await? {
            let (before, last) = span(&found.name)
                .ok_or_else(|| store.damaged(&found.name, 0, "it is not named like a part of a log"))?;
            all.push((before, last, found.name));
        }
        Ok(Self { all, head })
    }

    pub(crate) fn head(&self) -> Head {
        self.head
    }

    pub(crate) fn went_to(&mut self, head: Head) {
        self.head = head;
    }

    /// Names of parts that have the entry after this one; those that reach furthest first.
    fn after(&self, index: Index) -> Vec<&(Index, Index, String)> {
        let mut found: Vec<_> =
            self.all.iter().filter(|(before, last, _)| *before <= index && index < *last).collect();
        found.sort_by_key(|(_, last, _)| std::cmp::Reverse(*last));
        found
    }

    /// Whether there are parts, but none with the next entry: behind an older backup they may have been
    /// pruned, since a newer one has what was in them.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.after(self.head.index).is_empty()
            && self.all.iter().any(|(before, ..)| *before > self.head.index)
    }

    /// The part with the next entry, its name and its size in the store; `None` at the end. One that
    /// cannot be read is passed over if another has the same entries.
    ///
    /// # Errors
    /// The part with the next entry cannot be read, or is gone while there are later ones.
    pub(crate) async fn next(
        &self,
        store: &Store,
        key: &Key,
        cluster: &str,
    ) -> Result<Option<(Part, String, u64)>, ObjectError> {
        let mut failed = None;
        for (_, _, name) in self.after(self.head.index) {
            match fetch(store, key, cluster, name).await {
                Ok((part, bytes)) => return Ok(Some((part, name.clone(), bytes))),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        if self.is_cut_off() {
            let object = format!("the archived part of the log after entry {}", self.head.index);
            return Err(ObjectError::Missing { store: store.to_string(), object });
        }
        Ok(None)
    }

    /// How far it reaches by the names, and by the last of these parts itself. If that one cannot be
    /// read, or something is missing, sending begins again from the backup.
    async fn find_end(&self, store: &Store, key: &Key, cluster: &str) -> Result<Head, ObjectError> {
        let (mut index, mut newest) = (self.head.index, None);
        while let Some((_, last, name)) = self.after(index).first() {
            (index, newest) = (*last, Some(name));
        }
        let Some(name) = newest else { return Ok(self.head) };
        match fetch(store, key, cluster, name).await {
            Ok((part, _)) => Ok(part.end),
            Err(error @ ObjectError::Store { .. }) => Err(error),
            Err(error) => {
                tracing::warn!(%error, "archiving again from the last backup on");
                Ok(self.head)
            }
        }
    }
}

async fn fetch(store: &Store, key: &Key, cluster: &str, name: &str) -> Result<(Part, u64), ObjectError> {
    let bytes = store.get(name, limits::BACKUP_OBJECT).await?;
    let content = sealed::open(key, Binding { cluster, name }, &bytes, limits::BACKUP_OBJECT)
        .map_err(|error| store.unopened(name, error, key.id()))?;
    let part = Part::read(content).map_err(|why| store.damaged(name, 0, why))?;
    if span(name) != Some((part.before.index, part.end.index)) {
        return Err(store.damaged(name, 0, "it holds other entries than its name says"));
    }
    Ok((part, bytes.len() as u64))
}
