//! An OCI layout: a directory with `index.json` and `blobs/sha256/…`.

use crate::{FetchError, LayoutName};
use std::io::ErrorKind;
use tokio::{fs::File, io::AsyncReadExt};
use types::{Digest, limits};

/// Reads one layout.
pub(crate) struct Layout {
    name: LayoutName,
    place: String,
}

impl Layout {
    pub(crate) fn new(name: LayoutName) -> Self {
        let place = format!("the OCI layout {}", name.path.display());
        Self { name, place }
    }

    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    pub(crate) fn tag(&self) -> Option<&str> {
        self.name.tag.as_deref()
    }

    /// The bytes of `index.json`.
    pub(crate) async fn index(&self) -> Result<Vec<u8>, FetchError> {
        let file = self.file("index.json", "an index.json").await?;
        self.bounded(file, "index.json").await
    }

    /// The bytes of a document, unchecked.
    pub(crate) async fn document(&self, digest: &Digest) -> Result<Vec<u8>, FetchError> {
        let file = self.blob(digest).await?;
        self.bounded(file, digest.as_str()).await
    }

    /// The file of a blob, unchecked.
    pub(crate) async fn blob(&self, digest: &Digest) -> Result<File, FetchError> {
        self.file(&format!("blobs/sha256/{}", digest.hex()), digest.as_str()).await
    }

    async fn file(&self, below: &str, what: &str) -> Result<File, FetchError> {
        let path = self.name.path.join(below);
        // Looked at before it is opened: opening a pipe would wait for ever.
        let looked = tokio::fs::metadata(&path).await;
        let opened = match looked {
            Ok(meta) if meta.is_file() => File::open(&path).await,
            Ok(_) => Err(std::io::Error::other("it is no regular file")),
            Err(error) => Err(error),
        };
        opened.map_err(|error| self.failure(what, &error))
    }

    fn failure(&self, what: &str, error: &std::io::Error) -> FetchError {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => FetchError::NotFound {
                place: self.place.clone(),
                what: what.into(),
                why:
                    "there is no such file on this machine; copy the layout to every host that is to run it, \
                      or push the image to a registry"
                        .into(),
            },
            _ => self.unreachable(error),
        }
    }

    pub(crate) fn unreachable(&self, error: &std::io::Error) -> FetchError {
        FetchError::Unreachable { place: self.place.clone(), why: error.to_string() }
    }

    async fn bounded(&self, file: File, what: &str) -> Result<Vec<u8>, FetchError> {
        let limit = limits::IMAGE_DOCUMENT.bytes();
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).await.map_err(|error| self.unreachable(&error))?;
        if bytes.len() as u64 > limit {
            return Err(FetchError::Invalid {
                place: self.place.clone(),
                what: what.into(),
                why: format!("it has more than {}", limits::IMAGE_DOCUMENT),
            });
        }
        Ok(bytes)
    }
}
