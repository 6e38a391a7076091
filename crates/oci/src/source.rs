//! Fetching what was pinned: the same calls for a registry and for a layout.

use crate::{
    Descriptor, FetchError, ImageManifest, Reference,
    check::{Check, digest_of},
    document::Document,
    layout::Layout,
    registry::Registry,
};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use types::{Digest, limits};

/// A place that images are fetched from.
pub struct Source(pub(crate) Place);

pub(crate) enum Place {
    Registry(Registry),
    Layout(Layout),
}

/// Bytes read from a file at once.
const PIECE: usize = 128 << 10;

impl Source {
    /// The source that a reference names. Nothing is asked yet.
    ///
    /// # Errors
    /// `Invalid` for a reference that makes no sense; `Unreachable` where TLS cannot be set up.
    pub fn new(reference: &str) -> Result<Self, FetchError> {
        let parsed = reference.parse().map_err(|error: types::ParseError| FetchError::Invalid {
            place: "the reference".into(),
            what: reference.chars().take(80).collect(),
            why: error.to_string(),
        })?;
        Ok(Self(match parsed {
            Reference::Registry(name) => Place::Registry(Registry::new(name)?),
            Reference::Layout(name) => Place::Layout(Layout::new(name)),
        }))
    }

    /// The registry or layout, for people.
    pub fn place(&self) -> &str {
        match &self.0 {
            Place::Registry(registry) => registry.place(),
            Place::Layout(layout) => layout.place(),
        }
    }

    /// The manifest with this digest, and its bytes, which hash to it.
    ///
    /// # Errors
    /// See [`FetchError`]; an index is `Invalid`, since it is no image.
    pub async fn manifest(&self, digest: &Digest) -> Result<(ImageManifest, Vec<u8>), FetchError> {
        let bytes = self.checked(digest).await?;
        match self.parse(digest.as_str(), &bytes)? {
            Document::Manifest(manifest) => Ok((manifest, bytes)),
            Document::Index(_) => {
                Err(self.invalid(digest.as_str(), "it is an index of images; pin one of them"))
            }
        }
    }

    /// A small blob, such as a configuration, whole.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn document(&self, wanted: &Descriptor) -> Result<Vec<u8>, FetchError> {
        if wanted.size > limits::IMAGE_DOCUMENT.bytes() {
            return Err(
                self.invalid(wanted.digest.as_str(), &format!("it has more than {}", limits::IMAGE_DOCUMENT))
            );
        }
        let mut bytes = Vec::new();
        self.blob(wanted, &mut bytes).await?;
        Ok(bytes)
    }

    /// Writes a blob to `into`. What was written is worth nothing unless this returns `Ok`.
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn blob(
        &self,
        wanted: &Descriptor,
        into: &mut (impl AsyncWrite + Unpin),
    ) -> Result<(), FetchError> {
        let mut check = Check::new(self.place(), wanted);
        let store = |source| FetchError::Store { place: self.place().into(), source };
        match &self.0 {
            Place::Registry(registry) => {
                let mut response = registry.blob(&wanted.digest).await?;
                while let Some(bytes) =
                    response.chunk().await.map_err(|error| registry.unreachable(&error))?
                {
                    check.take(&bytes)?;
                    into.write_all(&bytes).await.map_err(store)?;
                }
            }
            Place::Layout(layout) => {
                let mut file = layout.blob(&wanted.digest).await?;
                let mut piece = vec![0; PIECE];
                loop {
                    let count = file.read(&mut piece).await.map_err(|error| layout.unreachable(&error))?;
                    if count == 0 {
                        break;
                    }
                    check.take(&piece[..count])?;
                    into.write_all(&piece[..count]).await.map_err(store)?;
                }
            }
        }
        into.flush().await.map_err(store)?;
        check.finish()
    }

    /// A manifest or index by digest, checked.
    pub(crate) async fn checked(&self, digest: &Digest) -> Result<Vec<u8>, FetchError> {
        let bytes = match &self.0 {
            Place::Registry(registry) => registry.document(digest.as_str()).await?,
            Place::Layout(layout) => layout.document(digest).await?,
        };
        let found = digest_of(&bytes);
        if found == *digest {
            return Ok(bytes);
        }
        Err(FetchError::Mismatch { place: self.place().into(), wanted: digest.clone(), found })
    }

    pub(crate) fn parse(&self, what: &str, bytes: &[u8]) -> Result<Document, FetchError> {
        Document::parse(bytes).map_err(|why| self.invalid(what, &why))
    }

    pub(crate) fn invalid(&self, what: &str, why: &str) -> FetchError {
        FetchError::Invalid { place: self.place().into(), what: what.into(), why: why.into() }
    }
}
