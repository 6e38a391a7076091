//! The file that makes a root count: written last, durable before the root gets its name.

use oci::ImageConfig;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};
use types::{ByteSize, Digest, limits};

/// The version of what is written below. A root with another one is made anew.
const VERSION: u32 = 1;

const NAME: &str = "complete";

/// What is known of a whole root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    version: u32,
    pub(crate) digest: Digest,
    pub(crate) unpacked: ByteSize,
    pub(crate) config: ImageConfig,
}

impl Marker {
    pub(crate) fn new(digest: Digest, unpacked: ByteSize, config: ImageConfig) -> Self {
        Self { version: VERSION, digest, unpacked, config }
    }

    /// Makes everything below `dir` durable, then says that it is whole, durably.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let handle = open_dir(dir)?;
        // One call for all files: a hundred thousand single ones would take minutes.
        rustix::fs::syncfs(&handle)?;
        let mut file = File::create_new(dir.join(NAME))?;
        file.write_all(&serde_json::to_vec(self).expect("a marker is plain data"))?;
        file.sync_all()?;
        rustix::fs::fsync(&handle)?;
        Ok(())
    }

    /// What is known of the root in `dir`; `None` if it is not whole, or not understood.
    pub(crate) fn read(dir: &Path, digest: &Digest) -> Option<Self> {
        let path = dir.join(NAME);
        let meta = fs::symlink_metadata(&path).ok()?;
        if !meta.is_file() || meta.len() > 2 * limits::IMAGE_DOCUMENT.bytes() {
            return None;
        }
        let marker: Self = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        (marker.version == VERSION && marker.digest == *digest && dir.join("rootfs").is_dir())
            .then_some(marker)
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    Ok(rustix::fs::fsync(open_dir(dir)?)?)
}

fn open_dir(dir: &Path) -> io::Result<rustix::fd::OwnedFd> {
    Ok(rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}
