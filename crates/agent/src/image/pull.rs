//! One pull: manifest, configuration, then layer after layer, fetched and unpacked.

use super::{
    blobs::blocking,
    error::Trouble,
    marker::Marker,
    store::Shelf,
    stream::Budget,
    tree::Tree,
    unpack::{self, Position},
};
use oci::{Descriptor, ImageConfig, ImageManifest, Platform, Source};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};
use types::{ByteSize, Digest, limits, plan::PinnedImage};

/// Makes an image whole under its name.
pub(crate) async fn pull(shelf: &std::sync::Arc<Shelf>, image: &PinnedImage) -> Result<Marker, Trouble> {
    let deadline = Instant::now() + limits::IMAGE_PULL.into();
    let source = Source::new(&image.reference)?;
    let manifest = in_time(deadline, manifest(shelf, &source, &image.digest)).await?;
    let config = in_time(deadline, config(shelf, &source, &manifest)).await?;
    let made = shelf.scratch("root");
    let built = build(shelf, &source, &manifest, &config, &made, deadline).await;
    let (shelf, digest) = (shelf.clone(), image.digest.clone());
    blocking(move || {
        let done = built.and_then(|unpacked| {
            let marker = Marker::new(digest, unpacked, config);
            marker.write(&made)?;
            Ok(shelf.install(&made, marker)?)
        });
        if done.is_err() && made.exists() {
            // The disk may be full: give back what was taken. A leftover goes at the next start.
            let _best_effort = fs::remove_dir_all(&made);
        }
        done
    })
    .await
}

async fn manifest(shelf: &Shelf, source: &Source, digest: &Digest) -> Result<ImageManifest, Trouble> {
    if let Some(bytes) = shelf.blobs.small(digest).await {
        return ImageManifest::parse(&bytes).map_err(Trouble::Image);
    }
    let (manifest, bytes) = source.manifest(digest).await?;
    shelf.blobs.keep(digest, bytes).await?;
    Ok(manifest)
}

async fn config(shelf: &Shelf, source: &Source, manifest: &ImageManifest) -> Result<ImageConfig, Trouble> {
    let wanted = &manifest.config;
    let bytes = match shelf.blobs.small(&wanted.digest).await {
        Some(bytes) => bytes,
        None => {
            let bytes = source.document(wanted).await?;
            shelf.blobs.keep(&wanted.digest, bytes.clone()).await?;
            bytes
        }
    };
    ImageConfig::parse(&bytes, manifest.layers.len(), &Platform::host()).map_err(Trouble::Image)
}

/// Unpacks all layers below `made`. Returns how much they became.
async fn build(
    shelf: &Shelf,
    source: &Source,
    manifest: &ImageManifest,
    config: &ImageConfig,
    made: &Path,
    deadline: Instant,
) -> Result<ByteSize, Trouble> {
    let rootfs: PathBuf = made.join("rootfs");
    let mut tree = blocking(move || {
        fs::create_dir_all(&rootfs)?;
        Tree::open(&rootfs)
    })
    .await?;
    let mut budget = Budget::new(deadline);
    for (number, (layer, diff_id)) in manifest.layers.iter().zip(&config.diff_ids).enumerate() {
        let mut blob = in_time(deadline, shelf.blobs.fetch(source, layer)).await?;
        let diff_id = diff_id.clone();
        let position = if number == 0 { Position::Lowest } else { Position::Above };
        (tree, budget) = blocking(move || {
            unpack::layer(&mut tree, &mut blob, &diff_id, position, &mut budget).map(|()| (tree, budget))
        })
        .await
        .map_err(|trouble| in_layer(trouble, number, layer))?;
    }
    Ok(budget.unpacked())
}

fn in_layer(trouble: Trouble, number: usize, layer: &Descriptor) -> Trouble {
    match trouble {
        Trouble::Image(why) => Trouble::Image(format!("layer {} ({}): {why}", number + 1, layer.digest)),
        other => other,
    }
}

async fn in_time<T>(deadline: Instant, work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    tokio::time::timeout_at(deadline.into(), work).await.unwrap_or_else(|_| Err(too_slow()))
}

/// The whole pull took too long.
pub(crate) fn too_slow() -> Trouble {
    Trouble::Broken(format!("it took longer than {}", limits::IMAGE_PULL))
}
