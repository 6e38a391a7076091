//! Why an image is not here, with what to do about it.

use oci::FetchError;
use std::{io, path::PathBuf};
use types::{
    Digest,
    plan::{PinnedImage, Reason},
};

/// The store's directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the image store {} cannot be opened: {source}", path.display())]
pub struct OpenError {
    /// Where.
    pub path: PathBuf,
    /// What the disk said.
    pub source: io::Error,
}

/// An image could not be made ready. Whoever waited for the same image gets the same answer, so
/// causes are kept as text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Its source cannot be reached; it is worth trying again.
    #[error("image {reference} ({digest}) cannot be fetched now: {why}; it is tried again")]
    Unavailable {
        /// What was asked for, as written.
        reference: String,
        /// What it was pinned to.
        digest: Digest,
        /// What happened.
        why: String,
    },
    /// Its source does not have it.
    #[error("image {reference} ({digest}) does not exist: {why}; push it again, or deploy another")]
    NotFound {
        /// What was asked for, as written.
        reference: String,
        /// What it was pinned to.
        digest: Digest,
        /// Who said so.
        why: String,
    },
    /// It breaks a limit, is not what its digest says, or would not stay within its root.
    #[error("image {reference} ({digest}) cannot be used: {why}; build it anew and deploy that")]
    Invalid {
        /// What was asked for, as written.
        reference: String,
        /// What it was pinned to.
        digest: Digest,
        /// What is wrong with it.
        why: String,
    },
    /// There is no space for it here.
    #[error("image {reference} ({digest}) does not fit on this host's disk: {why}; make space on this host")]
    DiskFull {
        /// What was asked for, as written.
        reference: String,
        /// What it was pinned to.
        digest: Digest,
        /// What did not fit.
        why: String,
    },
    /// The disk here failed in another way.
    #[error("image {reference} ({digest}) cannot be stored on this host: {why}; it is tried again")]
    Store {
        /// What was asked for, as written.
        reference: String,
        /// What it was pinned to.
        digest: Digest,
        /// What the disk said.
        why: String,
    },
}

impl ImageError {
    /// The reason that is reported for an instance which wants this image.
    pub const fn reason(&self) -> Reason {
        match self {
            // A disk that fails may work again, like a registry; the text tells them apart.
            Self::Unavailable { .. } | Self::Store { .. } => Reason::ImageUnavailable,
            Self::NotFound { .. } => Reason::ImageNotFound,
            Self::Invalid { .. } => Reason::ImageInvalid,
            Self::DiskFull { .. } => Reason::DiskFull,
        }
    }
}

/// What goes wrong on the way, before it is said about an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The image itself is at fault.
    #[error("{0}")]
    Image(String),
    /// The disk is at fault.
    #[error("{0}")]
    Disk(#[from] io::Error),
    /// It took too long, or the work was broken off.
    #[error("{0}")]
    Broken(String),
}

impl From<rustix::io::Errno> for Trouble {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Disk(error.into())
    }
}

impl Trouble {
    /// The same, said about an image.
    pub(crate) fn about(self, image: &PinnedImage) -> ImageError {
        let (reference, digest, why) = (image.reference.clone(), image.digest.clone(), self.to_string());
        match self {
            Self::Fetch(FetchError::Unreachable { .. }) | Self::Broken(_) => {
                ImageError::Unavailable { reference, digest, why }
            }
            Self::Fetch(FetchError::NotFound { .. }) => ImageError::NotFound { reference, digest, why },
            Self::Fetch(FetchError::Invalid { .. } | FetchError::Mismatch { .. }) | Self::Image(_) => {
                ImageError::Invalid { reference, digest, why }
            }
            Self::Disk(source) | Self::Fetch(FetchError::Store { source, .. }) => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    ImageError::DiskFull { reference, digest, why }
                }
                _ => ImageError::Store { reference, digest, why },
            },
        }
    }
}
