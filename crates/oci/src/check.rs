//! Counting and hashing while bytes come in, so that nothing false and nothing endless is kept.

use crate::{Descriptor, FetchError};
use sha2::{Digest as _, Sha256};
use types::Digest;

/// The digest of some bytes.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// Follows one blob from its first byte to its last.
pub(crate) struct Check<'a> {
    place: &'a str,
    wanted: &'a Descriptor,
    seen: u64,
    hash: Sha256,
}

impl<'a> Check<'a> {
    pub(crate) fn new(place: &'a str, wanted: &'a Descriptor) -> Self {
        Self { place, wanted, seen: 0, hash: Sha256::new() }
    }

    /// Takes the next bytes; refuses the first one too many, before it is kept.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.seen += bytes.len() as u64;
        if self.seen > self.wanted.size {
            return Err(self.wrong_size("sent more"));
        }
        self.hash.update(bytes);
        Ok(())
    }

    /// All bytes have come: they must be the promised ones.
    pub(crate) fn finish(self) -> Result<(), FetchError> {
        if self.seen != self.wanted.size {
            return Err(self.wrong_size("sent fewer"));
        }
        let found = Digest::from_sha256(self.hash.finalize().into());
        if found == self.wanted.digest {
            return Ok(());
        }
        Err(FetchError::Mismatch { place: self.place.into(), wanted: self.wanted.digest.clone(), found })
    }

    fn wrong_size(&self, how: &str) -> FetchError {
        FetchError::Invalid {
            place: self.place.into(),
            what: self.wanted.digest.to_string(),
            why: format!(
                "the manifest says {} bytes and the far side {how}; push the image again",
                self.wanted.size
            ),
        }
    }
}
