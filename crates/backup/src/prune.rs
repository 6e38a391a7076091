//! Taking old backups away: the manifests first, then what no manifest names any more.

use crate::{
    archive::{LOG, span},
    key::Key,
    manifest::{Id, MANIFESTS, Manifest, OBJECTS, list},
    store::{ObjectError, Store},
    write::Sum,
};
use rt::Clock;
use std::{collections::BTreeSet, num::NonZeroUsize};
use types::{DurationMs, limits};

/// What is left, and what is gone.
#[derive(Clone, Debug)]
pub struct Pruned {
    /// The backups that are kept, the oldest first.
    pub kept: Vec<Id>,
    /// The backups that are gone.
    pub removed: Vec<Id>,
    /// Objects that nobody named any more, what was archived before the newest backup, and what a writer
    /// that was killed left unfinished.
    pub objects: Sum,
}

/// Keeps the last `keep` backups. Of the objects that no kept backup names, those older than `grace` go
/// ([`types::limits::BACKUP_GRACE`], unless nothing else can write to the store): younger ones may belong
/// to a backup that is being made.
///
/// # Errors
/// A kept backup cannot be read, so that what it needs is not known: then no object is removed. Or the
/// store failed; call it again.
pub async fn prune(
    store: &Store,
    key: &Key,
    clock: &dyn Clock,
    keep: NonZeroUsize,
    grace: DurationMs,
) -> Result<Pruned, ObjectError> {
    let cluster = store.cluster().await?;
    // Looked at before the manifests: what is written meanwhile is not in here.
    let objects = store.list(OBJECTS).await?;
    let archived = store.list(LOG).await?;
    let mut removed: Vec<Id> = list(store).await?.into_iter().map(|listed| listed.id).collect();
    let kept = removed.split_off(removed.len().saturating_sub(keep.get()));
    let mut named = BTreeSet::new();
    for id in &kept {
        let manifest = Manifest::fetch(store, key, &cluster, *id).await?;
        named.extend(manifest.objects().map(|object| object.name()));
    }
    for id in &removed {
        store.remove(&id.object()).await?;
    }
    let mut gone = Sum::default();
    let now = clock.now();
    for object in objects.iter().filter(|object| !named.contains(&object.name)) {
        if object.written.plus(grace) <= now {
            store.remove(&object.name).await?;
            gone.add(object.bytes);
        }
    }
    let covered = kept.last().map(Id::index);
    for part in &archived {
        if let (Some(covered), Some((_, last))) = (covered, span(&part.name))
            && last <= covered
            && part.written.plus(grace.min(limits::ARCHIVE_GRACE)) <= now
        {
            store.remove(&part.name).await?;
            gone.add(part.bytes);
        }
    }
    for folder in [OBJECTS, MANIFESTS, LOG] {
        store.remove_unfinished(folder, now.minus(grace))?.into_iter().for_each(|bytes| gone.add(bytes));
    }
    Ok(Pruned { kept, removed, objects: gone })
}
