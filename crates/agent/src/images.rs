//! What the agent wants of an image cache. The cache itself is in [`crate::image`].

use crate::{
    container::{Image, StartError},
    image::ImageStore,
    spec::Wishes,
};
use async_trait::async_trait;
use std::collections::BTreeSet;
use types::{Digest, plan::PinnedImage};

/// A cache of unpacked images.
#[async_trait]
pub(crate) trait Images: Send + Sync + 'static {
    /// The unpacked image of this digest: from the cache, or fetched into it.
    async fn ensure(&self, image: &PinnedImage) -> Result<Image, StartError>;

    /// Removes what is cached and not in use, to make room. Blocks on the disk.
    fn evict(&self, in_use: &BTreeSet<Digest>);

    /// How many images were fetched.
    fn pulls(&self) -> Pulls {
        Pulls::default()
    }
}

/// Images fetched since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pulls {
    /// Begun.
    pub(crate) begun: u64,
    /// Failed.
    pub(crate) failed: u64,
}

#[async_trait]
impl Images for ImageStore {
    async fn ensure(&self, image: &PinnedImage) -> Result<Image, StartError> {
        let found =
            ImageStore::ensure(self, image).await.map_err(|error| StartError::new(error.reason(), &error))?;
        let config = &found.config;
        Ok(Image {
            root: found.root.clone(),
            wishes: Wishes {
                entrypoint: config.entrypoint.clone(),
                cmd: config.cmd.clone(),
                env: config.env.clone(),
                working_dir: config.working_dir.clone(),
            },
            user: config.user.clone(),
            stop_signal: config.stop_signal.clone(),
            _held: Some(found),
        })
    }

    fn evict(&self, in_use: &BTreeSet<Digest>) {
        match self.evict_unused(in_use) {
            Ok(freed) => tracing::info!(%freed, "made room by dropping cached images"),
            Err(error) => tracing::warn!(%error, "cached images could not be dropped"),
        }
    }

    fn pulls(&self) -> Pulls {
        ImageStore::pulls(self)
    }
}
