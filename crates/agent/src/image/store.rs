//! The images of one host: what is whole, what is being made, what can go.

use super::{
    blobs::Blobs,
    error::{ImageError, OpenError, Trouble},
    marker::{Marker, sync_dir},
    pull,
};
use crate::images::Pulls;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use oci::ImageConfig;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};
use tokio::sync::Semaphore;
use types::{ByteSize, Digest, limits, plan::PinnedImage};

/// An image that is whole and on this disk. It is not evicted while somebody holds this.
#[derive(Debug)]
pub struct UnpackedImage {
    /// The digest of its manifest.
    pub digest: Digest,
    /// Its files, shared by all instances: a lower directory, never to be written to.
    pub root: PathBuf,
    /// How it wants to be run.
    pub config: ImageConfig,
}

/// The images of this host. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct ImageStore {
    shared: Arc<Shelf>,
}

type Flight = Shared<BoxFuture<'static, Result<Arc<UnpackedImage>, ImageError>>>;

pub(crate) struct Shelf {
    dir: PathBuf,
    pub(crate) blobs: Blobs,
    state: Mutex<State>,
    pulls: Semaphore,
    next: AtomicU64,
    begun: AtomicU64,
    failed: AtomicU64,
}

#[derive(Default)]
struct State {
    whole: BTreeMap<Digest, Whole>,
    /// Images that somebody waits for. By reference as well: another source may do better.
    flights: BTreeMap<PinnedImage, Flight>,
}

struct Whole {
    image: Arc<UnpackedImage>,
    unpacked: ByteSize,
    used: SystemTime,
}

impl ImageStore {
    /// Opens the store in `dir`, made if missing, and throws away whatever is half made.
    ///
    /// # Errors
    /// The directory cannot be made, read or cleaned.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        open(dir)
            .map(|shelf| Self { shared: Arc::new(shelf) })
            .map_err(|source| OpenError { path: dir.to_owned(), source })
    }

    /// Fetches and unpacks an image if it is not here, and returns it. Calls for the same image at
    /// the same time share the work, and it goes on when a caller goes away.
    ///
    /// # Errors
    /// See [`ImageError`]. It answers within [`limits::IMAGE_PULL`], plus waiting for its turn.
    pub async fn ensure(&self, image: &PinnedImage) -> Result<Arc<UnpackedImage>, ImageError> {
        let flight = {
            let mut state = self.shared.state();
            if let Some(found) = state.find(&image.digest) {
                return Ok(found);
            }
            match state.flights.get(image) {
                Some(flight) => flight.clone(),
                None => {
                    let flight = self.start(image.clone());
                    state.flights.insert(image.clone(), flight.clone());
                    flight
                }
            }
        };
        flight.await
    }

    /// How many images were fetched since the store was opened.
    pub(crate) fn pulls(&self) -> Pulls {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Pulls { begun: read(&self.shared.begun), failed: read(&self.shared.failed) }
    }

    fn start(&self, image: PinnedImage) -> Flight {
        let (shelf, task_image) = (self.shared.clone(), image.clone());
        let task = tokio::spawn(async move {
            let result = {
                let _turn = shelf.pulls.acquire().await.expect("the semaphore is never closed");
                shelf.begun.fetch_add(1, Ordering::Relaxed);
                pull::pull(&shelf, &task_image).await
            };
            let mut state = shelf.state();
            state.flights.remove(&task_image);
            match result {
                Ok(marker) => Ok(state.add(&shelf.dir, marker)),
                Err(trouble) => {
                    shelf.failed.fetch_add(1, Ordering::Relaxed);
                    Err(trouble.about(&task_image))
                }
            }
        });
        let shelf = self.shared.clone();
        async move {
            task.await.unwrap_or_else(|error| {
                shelf.state().flights.remove(&image);
                Err(Trouble::Broken(format!("the work on it ended early: {error}")).about(&image))
            })
        }
        .boxed()
        .shared()
    }

    /// An image that is here.
    pub fn cached(&self, digest: &Digest) -> Option<Arc<UnpackedImage>> {
        self.shared.state().find(digest)
    }

    /// Makes space: removes fetched blobs, then images that are neither in `keep` nor held by
    /// anybody, the longest unused first, until [`limits::DISK_ENOUGH`] is free. Blocks on the disk.
    ///
    /// # Errors
    /// The disk failed; what was removed until then is gone.
    pub fn evict_unused(&self, keep: &BTreeSet<Digest>) -> Result<ByteSize, io::Error> {
        let enough = || self.shared.free().is_ok_and(|free| free >= limits::DISK_ENOUGH);
        let mut freed = self.shared.blobs.evict(&enough)?.bytes();
        while !enough() {
            let Some(oldest) = self.shared.state().take_oldest(keep) else { break };
            self.shared.remove_root(&oldest.image.digest)?;
            tracing::info!(digest = %oldest.image.digest, "evicted an unused image");
            freed += oldest.unpacked.bytes();
        }
        Ok(ByteSize::from_bytes(freed))
    }
}

impl State {
    fn find(&mut self, digest: &Digest) -> Option<Arc<UnpackedImage>> {
        let whole = self.whole.get_mut(digest)?;
        if !whole.image.root.is_dir() {
            // Somebody cleaned up by hand; it is fetched again.
            self.whole.remove(digest);
            return None;
        }
        whole.used = SystemTime::now();
        Some(whole.image.clone())
    }

    fn add(&mut self, dir: &Path, marker: Marker) -> Arc<UnpackedImage> {
        if let Some(found) = self.find(&marker.digest) {
            return found;
        }
        let root = root_of(dir, &marker.digest).join("rootfs");
        let image = Arc::new(UnpackedImage { digest: marker.digest.clone(), root, config: marker.config });
        let whole = Whole { image: image.clone(), unpacked: marker.unpacked, used: SystemTime::now() };
        self.whole.insert(marker.digest, whole);
        image
    }

    /// Takes out the image that was not used for longest. After this nobody can get it any more.
    fn take_oldest(&mut self, keep: &BTreeSet<Digest>) -> Option<Whole> {
        let free = |(digest, whole): &(&Digest, &Whole)| {
            !keep.contains(*digest) && Arc::strong_count(&whole.image) == 1
        };
        let oldest = self.whole.iter().filter(free).min_by_key(|(_, whole)| whole.used)?.0.clone();
        self.whole.remove(&oldest)
    }
}

impl Shelf {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A new name for something half made.
    pub(crate) fn scratch(&self, what: &str) -> PathBuf {
        self.dir.join("tmp").join(format!("{what}-{}", self.next.fetch_add(1, Ordering::Relaxed)))
    }

    /// Gives a whole root its name. One that is there already and whole is as good.
    pub(crate) fn install(&self, made: &Path, marker: Marker) -> io::Result<Marker> {
        let root = root_of(&self.dir, &marker.digest);
        if let Some(there) = Marker::read(&root, &marker.digest) {
            fs::remove_dir_all(made)?;
            return Ok(there);
        }
        self.remove_root(&marker.digest)?;
        fs::rename(made, &root)?;
        sync_dir(&self.dir.join("roots"))?;
        Ok(marker)
    }

    /// Moves a root away before its files go, so that none is ever half removed under its name.
    fn remove_root(&self, digest: &Digest) -> io::Result<()> {
        let gone = self.scratch("gone");
        match fs::rename(root_of(&self.dir, digest), &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => done?,
        }
        sync_dir(&self.dir.join("roots"))?;
        fs::remove_dir_all(gone)
    }

    fn free(&self) -> io::Result<ByteSize> {
        let disk = rustix::fs::statvfs(&self.dir)?;
        Ok(ByteSize::from_bytes(disk.f_bavail.saturating_mul(disk.f_frsize)))
    }
}

fn root_of(dir: &Path, digest: &Digest) -> PathBuf {
    dir.join("roots").join(digest.hex())
}

fn open(dir: &Path) -> io::Result<Shelf> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    // Images bring files that run as root for whoever may reach them; nobody else may.
    fs::set_permissions(dir, fs::Permissions::from_mode(0o700))?;
    let dir = dir.canonicalize()?;
    let (blobs, roots, tmp) = (dir.join("blobs/sha256"), dir.join("roots"), dir.join("tmp"));
    remove_tree(&tmp)?;
    for each in [&blobs, &roots, &tmp] {
        fs::create_dir_all(each)?;
    }
    let mut state = State::default();
    for entry in fs::read_dir(&roots)? {
        let entry = entry?;
        let named = entry.file_name().to_str().and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
        match named.and_then(|digest| Marker::read(&entry.path(), &digest)) {
            Some(marker) => {
                state.add(&dir, marker);
            }
            None => {
                tracing::warn!(path = %entry.path().display(), "an image that is not whole is removed");
                let gone = tmp.join(entry.file_name());
                fs::rename(entry.path(), &gone)?;
                remove_tree(&gone)?;
            }
        }
    }
    Ok(Shelf {
        blobs: Blobs::new(blobs, tmp),
        dir,
        state: Mutex::new(state),
        pulls: Semaphore::new(limits::AGENT_STARTS),
        next: AtomicU64::new(0),
        begun: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    })
}

/// Removes a file or a tree without following links; fine if there is none.
fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
