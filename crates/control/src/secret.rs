//! Bearer secrets: made once, shown once, kept only as their SHA-256.
//!
//! 256 random bits need no salt and no slow hash: there is nothing to guess.

use sha2::{Digest, Sha256};
use std::fmt;

/// The text a bearer presents. Printing it for debugging shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A fresh one: `hf_` and 64 hexadecimal digits.
    pub fn make(random: &dyn rt::Random) -> Self {
        Self(format!("hf_{:032x}{:032x}", random.u128(), random.u128()))
    }

    /// One that was shown before.
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// What the log knows of it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }

    /// The text itself, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
