//! Fetched blobs, by digest. A cache and no more: each is checked again before it is used, and any
//! may vanish at any time, since whoever uses one holds it open.

use super::{error::Trouble, marker::sync_dir};
use oci::{Descriptor, FetchError, Source};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};
use tokio::{io::AsyncWriteExt, task::spawn_blocking};
use types::{ByteSize, Digest};

/// The directory of blobs.
pub(crate) struct Blobs {
    dir: PathBuf,
    tmp: PathBuf,
    next: AtomicU64,
}

/// Bytes read from a file at once.
const PIECE: usize = 128 << 10;

impl Blobs {
    pub(crate) fn new(dir: PathBuf, tmp: PathBuf) -> Self {
        Self { dir, tmp, next: AtomicU64::new(0) }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    /// The bytes of a small blob, if they are here and whole.
    pub(crate) async fn small(&self, digest: &Digest) -> Option<Vec<u8>> {
        let file = self.cached(digest).await?;
        spawn_blocking(move || {
            let mut bytes = Vec::new();
            let limit = types::limits::IMAGE_DOCUMENT.bytes();
            file.take(limit).read_to_end(&mut bytes).ok().map(|_| bytes)
        })
        .await
        .ok()
        .flatten()
    }

    /// Keeps a small blob that was checked. A disk that does not take it costs only the cache.
    pub(crate) async fn keep(&self, digest: &Digest, bytes: Vec<u8>) -> Result<(), Trouble> {
        let (new, path, dir) = (self.unfinished(), self.path(digest), self.dir.clone());
        blocking(move || {
            let written = fs::write(&new, bytes).and_then(|()| File::open(&new)?.sync_all());
            finish(written, &new, &path, &dir)
        })
        .await
    }

    /// A blob that is here, open at its start and checked; a damaged one is removed.
    pub(crate) async fn cached(&self, digest: &Digest) -> Option<File> {
        let (path, digest) = (self.path(digest), digest.clone());
        spawn_blocking(move || {
            let mut file = File::open(&path).ok()?;
            match hash(&mut file) {
                Ok(found) if found == digest => {
                    file.rewind().ok()?;
                    Some(file)
                }
                _ => {
                    tracing::warn!(path = %path.display(), "a cached blob is damaged and is fetched again");
                    let _gone_is_as_good = fs::remove_file(&path);
                    None
                }
            }
        })
        .await
        .ok()
        .flatten()
    }

    /// A blob, from here or from its source, open at its start and checked.
    pub(crate) async fn fetch(&self, source: &Source, wanted: &Descriptor) -> Result<File, Trouble> {
        if let Some(file) = self.cached(&wanted.digest).await {
            return Ok(file);
        }
        let new = self.unfinished();
        let written = download(source, wanted, &new).await;
        let (path, dir) = (self.path(&wanted.digest), self.dir.clone());
        if let Err(error) = written {
            let _best_effort = tokio::fs::remove_file(&new).await;
            return Err(error);
        }
        blocking(move || {
            let file = File::open(&new)?;
            finish(file.sync_all(), &new, &path, &dir).map(|()| file)
        })
        .await
    }

    fn unfinished(&self) -> PathBuf {
        self.tmp.join(format!("blob-{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// Removes blobs, the oldest first, until `enough` says so. Returns what was freed.
    pub(crate) fn evict(&self, enough: &dyn Fn() -> bool) -> io::Result<ByteSize> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if let Ok(meta) = entry.metadata() {
                found.push((meta.modified().ok(), entry.path(), meta.len()));
            }
        }
        found.sort();
        let mut freed = 0;
        for (_, path, size) in found {
            if enough() {
                break;
            }
            match fs::remove_file(path) {
                Ok(()) => freed += size,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ByteSize::from_bytes(freed))
    }
}

async fn download(source: &Source, wanted: &Descriptor, new: &Path) -> Result<(), Trouble> {
    let store = |error| FetchError::Store { place: source.place().to_owned(), source: error };
    let file = tokio::fs::File::create_new(new).await.map_err(store)?;
    let mut file = tokio::io::BufWriter::with_capacity(PIECE, file);
    source.blob(wanted, &mut file).await?;
    file.shutdown().await.map_err(store)?;
    Ok(())
}

/// Gives a written file its name, or removes it.
fn finish(written: io::Result<()>, new: &Path, path: &Path, dir: &Path) -> io::Result<()> {
    let done = written.and_then(|()| fs::rename(new, path)).and_then(|()| sync_dir(dir));
    if done.is_err() {
        let _best_effort = fs::remove_file(new);
    }
    done
}

fn hash(file: &mut File) -> io::Result<Digest> {
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Digest::from_sha256(hash.finalize().into())),
            count => hash.update(&piece[..count]),
        }
    }
}

/// Runs blocking work on files; a panic in it is trouble, not ours to die of.
pub(crate) async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, Trouble>
where
    T: Send + 'static,
    E: Into<Trouble> + Send + 'static,
{
    match spawn_blocking(work).await {
        Ok(done) => done.map_err(Into::into),
        Err(error) => Err(Trouble::Broken(format!("the work on it ended early: {error}"))),
    }
}
