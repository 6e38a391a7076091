//! Pinning: from what a person wrote to the digest of one image manifest.
//!
//! What is pinned is never an index: an agent fetches `name@digest` and runs it, with no choice
//! left that could fall differently on another day.

use crate::{
    Descriptor, FetchError, Platform, ResolveError, Source,
    check::digest_of,
    document::{Document, choose},
    source::Place,
};
use std::time::Duration;
use types::{Digest, limits, plan::PinnedImage};

/// Indexes that may point to one another before an image must come.
const INDEX_DEPTH: usize = 4;

/// The annotation that names an image in an OCI layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Pins a reference to the digest of its image manifest for `platform`. The manifest was fetched,
/// hashes to the digest, and describes an image within the limits.
///
/// # Errors
/// See [`ResolveError`]. It answers within [`limits::IMAGE_RESOLVE`].
pub async fn resolve(reference: &str, platform: &Platform) -> Result<PinnedImage, ResolveError> {
    let source = Source::new(reference)?;
    let found = tokio::time::timeout(Duration::from(limits::IMAGE_RESOLVE), pin(&source, platform)).await;
    let digest = found.unwrap_or_else(|_| {
        Err(FetchError::Unreachable {
            place: source.place().into(),
            why: format!("no whole answer within {}", limits::IMAGE_RESOLVE),
        })
    })?;
    Ok(PinnedImage { reference: reference.to_owned(), digest })
}

async fn pin(source: &Source, platform: &Platform) -> Result<Digest, FetchError> {
    let (mut digest, mut bytes) = first(source).await?;
    for _ in 0..INDEX_DEPTH {
        match source.parse(digest.as_str(), &bytes)? {
            Document::Manifest(_) => return Ok(digest),
            Document::Index(entries) => {
                let entry = choose(&entries, platform).ok_or_else(|| {
                    source.invalid(digest.as_str(), &format!("it has no image for {platform}"))
                })?;
                (digest, bytes) = (entry.digest.clone(), source.checked(&entry.digest).await?);
            }
        }
    }
    Err(source.invalid(digest.as_str(), "its indexes point to one another too often"))
}

/// What the reference itself names: a manifest or an index.
async fn first(source: &Source) -> Result<(Digest, Vec<u8>), FetchError> {
    match &source.0 {
        Place::Registry(registry) => match registry.digest() {
            Some(digest) => Ok((digest.clone(), source.checked(digest).await?)),
            None => {
                let bytes = registry.document(&registry.wanted()).await?;
                // A tag promises no digest; what came is what is pinned.
                Ok((digest_of(&bytes), bytes))
            }
        },
        Place::Layout(layout) => {
            let bytes = layout.index().await?;
            let Document::Index(entries) = source.parse("index.json", &bytes)? else {
                return Err(source.invalid("index.json", "it is no index"));
            };
            let digest = tagged(source, &entries, layout.tag())?.digest.clone();
            let bytes = source.checked(&digest).await?;
            Ok((digest, bytes))
        }
    }
}

fn tagged<'a>(
    source: &Source,
    entries: &'a [Descriptor],
    tag: Option<&str>,
) -> Result<&'a Descriptor, FetchError> {
    let name = |entry: &'a Descriptor| entry.annotations.as_ref()?.get(REF_NAME).map(String::as_str);
    let found = match tag {
        Some(tag) => entries.iter().find(|entry| name(entry) == Some(tag)),
        None => match entries {
            [only] => Some(only),
            _ => entries.iter().find(|entry| name(entry) == Some("latest")),
        },
    };
    found.ok_or_else(|| {
        let known: Vec<&str> = entries.iter().filter_map(name).take(10).collect();
        FetchError::NotFound {
            place: source.place().into(),
            what: tag.map_or("an untagged or single image".into(), |tag| format!("the tag {tag}")),
            why: format!("it has the tags {known:?}; name one of them after a colon"),
        }
    })
}
