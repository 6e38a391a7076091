//! Fetched blobs, by digest. A cache and no more: each is checked again before it is used, and any
//! may vanish at any time, since whoever uses one holds it open.

use super::{error::Trouble, marker::sync_dir};
use oci::{Descriptor, FetchError, Source};
use sha2::{Digest as _, Sha256};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, Write},
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
            let (new, mut file) = Unfinished::create(new)?;
            file.write_all(&bytes)?;
            new.finish(&file, &path, &dir)
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
        let new = download(source, wanted, self.unfinished()).await?;
        let (path, dir) = (self.path(&wanted.digest), self.dir.clone());
        blocking(move || {
            let file = File::open(&new.0)?;
            new.finish(&file, &path, &dir).map(|()| file)
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

/// A file that is removed unless it gets its name: whatever happens to the work on it, an error or
/// that nobody waits for it any more, leaves nothing on the disk.
struct Unfinished(PathBuf);

impl Unfinished {
    /// Blocks. Made on the same thread as the file, so that there is none without its guard.
    fn create(path: PathBuf) -> io::Result<(Self, File)> {
        let file = File::create_new(&path)?;
        Ok((Self(path), file))
    }

    /// Makes what was written durable and gives it its name. Blocks.
    fn finish(self, file: &File, path: &Path, dir: &Path) -> io::Result<()> {
        file.sync_all()?;
        fs::rename(&self.0, path)?;
        sync_dir(dir)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // One that has its name is not here any more; what cannot be removed goes at the next start.
        let _best_effort = fs::remove_file(&self.0);
    }
}

async fn download(source: &Source, wanted: &Descriptor, new: PathBuf) -> Result<Unfinished, Trouble> {
    let store = |error| FetchError::Store { place: source.place().to_owned(), source: error };
    let made = spawn_blocking(move || Unfinished::create(new)).await;
    let (new, file) = made.unwrap_or_else(|error| Err(io::Error::other(error))).map_err(store)?;
    let mut file = tokio::io::BufWriter::with_capacity(PIECE, tokio::fs::File::from_std(file));
    source.blob(wanted, &mut file).await?;
    file.shutdown().await.map_err(store)?;
    Ok(new)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader},
        net::TcpListener,
        time::{Duration, Instant},
    };

    /// A registry that promises a gibibyte and says it in drops, until its reader has had enough.
    fn trickle() -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("somebody asks");
            let lines = BufReader::new(stream.try_clone().expect("a socket")).lines();
            let head: Vec<_> =
                lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).collect();
            assert!(!head.is_empty());
            let mut sent = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 1 << 30);
            while sent.is_ok() {
                sent = stream.write_all(&[b' '; PIECE]);
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        port
    }

    #[tokio::test]
    async fn a_pull_that_runs_out_of_time_leaves_nothing_on_the_disk() {
        let dir = tempfile::tempdir().expect("a directory");
        let (kept, tmp) = (dir.path().join("blobs"), dir.path().join("tmp"));
        for each in [&kept, &tmp] {
            fs::create_dir(each).expect("made");
        }
        let blobs = Blobs::new(kept.clone(), tmp.clone());
        let source = Source::new(&format!("127.0.0.1:{}/shop:1", trickle())).expect("a reference");
        let wanted: Descriptor = serde_json::from_value(serde_json::json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": format!("sha256:{}", "0".repeat(64)), "size": 1 << 30,
        }))
        .expect("a descriptor");
        let written = || {
            let files = fs::read_dir(&tmp).expect("readable").flatten();
            files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum::<u64>()
        };
        let patience = Instant::now() + Duration::from_secs(20);
        let enough = async {
            while written() == 0 {
                assert!(Instant::now() < patience, "nothing was ever written");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        // As the limit does it: the work is dropped in the middle.
        tokio::select! {
            done = blobs.fetch(&source, &wanted) => panic!("it never ends: {:?}", done.err()),
            () = enough => {}
        }
        assert_eq!(fs::read_dir(&tmp).expect("readable").count(), 0, "what was fetched is given back");
        assert_eq!(fs::read_dir(&kept).expect("readable").count(), 0);
    }
}
