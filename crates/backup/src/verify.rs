//! Reading a backup back: every object opened, compared, and chained from the first entry on.

use crate::{
    archive::Trail,
    key::Key,
    manifest::{Id, Manifest, list},
    part::{self, Part},
    store::{ObjectError, Store},
    write::Sum,
};
use log::Head;
use types::Index;

/// Why a backup is not right.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// An object is not there, or not as it was written.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// There is no backup.
    #[error("{store} holds no backup")]
    None {
        /// Where.
        store: String,
    },
    /// Its objects are right, but do not make the log that the manifest says.
    #[error("the backup {id} ends at entry {found}, where its manifest says {wanted}")]
    Ends {
        /// The backup.
        id: Id,
        /// By its manifest.
        wanted: Index,
        /// By its entries.
        found: Index,
    },
}

/// A backup that is right.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Its name.
    pub id: Id,
    /// The last entry it has.
    pub head: Head,
    /// The last entry that can be restored, with what was archived since.
    pub reach: Head,
    /// What was read.
    pub read: Sum,
}

/// Reads a backup back, the newest if none is named, and what was archived since; behind an older one,
/// as far as that is still there.
///
/// # Errors
/// It is not right; the error names the object.
pub async fn verify(store: &Store, key: &Key, id: Option<Id>) -> Result<Verified, VerifyError> {
    let manifest = choose(store, key, id).await?;
    let mut read = objects(store, key, &manifest).await?;
    let mut trail = Trail::begin(store, manifest.head.head()).await?;
    let newest = list(store).await?.last().is_none_or(|listed| listed.id == manifest.id);
    if !newest && trail.is_cut_off() {
        return Ok(Verified { id: manifest.id, head: trail.head(), reach: trail.head(), read });
    }
    while let Some((part, name, bytes)) = trail.next(store, key, &manifest.cluster).await? {
        read.add(bytes);
        let from = trail.head();
        let end = part::check(store, &name, part, from).await?;
        trail.went_to(end);
    }
    Ok(Verified { id: manifest.id, head: manifest.head.head(), reach: trail.head(), read })
}

/// The newest backup, if there is one; it opens with this key, and nothing else of it is looked at.
///
/// # Errors
/// It is sealed with another key, or cannot be read.
pub async fn newest(store: &Store, key: &Key) -> Result<Option<Id>, VerifyError> {
    match choose(store, key, None).await {
        Ok(manifest) => Ok(Some(manifest.id)),
        Err(VerifyError::None { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The manifest of this backup, or of the newest.
pub(crate) async fn choose(store: &Store, key: &Key, id: Option<Id>) -> Result<Manifest, VerifyError> {
    let cluster = match store.cluster().await {
        Err(ObjectError::Missing { store, .. }) => return Err(VerifyError::None { store }),
        cluster => cluster?,
    };
    let newest = || async { Ok::<_, ObjectError>(list(store).await?.pop().map(|listed| listed.id)) };
    let id = match id {
        Some(id) => Some(id),
        None => newest().await?,
    };
    let id = id.ok_or_else(|| VerifyError::None { store: store.to_string() })?;
    Ok(Manifest::fetch(store, key, &cluster, id).await?)
}

/// Reads every object that a manifest names, and chains the entries.
pub(crate) async fn objects(store: &Store, key: &Key, manifest: &Manifest) -> Result<Sum, VerifyError> {
    let mut read = Sum::default();
    let mut head = Head::NOTHING;
    for run in &manifest.log {
        let content = run.object.fetch(store, key, &manifest.cluster).await?;
        read.add(run.object.stored);
        let name = run.object.name();
        let part = Part::read(content).map_err(|why| store.damaged(&name, 0, why))?;
        if part.end != run.end.head() {
            return Err(store.damaged(&name, 0, "it ends elsewhere than the manifest says").into());
        }
        head = part::check(store, &name, part, head).await?;
    }
    for piece in manifest.snapshot.iter().flat_map(|snapshot| &snapshot.pieces) {
        piece.fetch(store, key, &manifest.cluster).await?;
        read.add(piece.stored);
    }
    if head != manifest.head.head() {
        let wanted = manifest.head.head().index;
        return Err(VerifyError::Ends { id: manifest.id, wanted, found: head.index });
    }
    Ok(read)
}
