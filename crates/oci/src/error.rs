//! Why an image could not be had, in the few kinds that call for different next steps.

use types::Digest;

/// An image, document or blob could not be had. The texts are whole sentences for people.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody answered, or not in time, or with an error of the far side. Trying again may help.
    #[error("{place} cannot be reached: {why}; check that it runs and that this machine can reach it")]
    Unreachable {
        /// The registry or layout.
        place: String,
        /// What happened.
        why: String,
    },
    /// The far side answers and does not have it, or does not give it to us.
    #[error("{place} does not have {what}: {why}")]
    NotFound {
        /// The registry or layout.
        place: String,
        /// The repository and tag or digest.
        what: String,
        /// What it said, and what to do.
        why: String,
    },
    /// What came is not an image that can be used here, or breaks a limit.
    #[error("{what} from {place} cannot be used: {why}")]
    Invalid {
        /// The registry or layout; for a reference that makes no sense, `the reference`.
        place: String,
        /// The repository and tag or digest.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// What came is not what was asked for.
    #[error("{place} gave other bytes than {wanted}: they hash to {found}; push the image again")]
    Mismatch {
        /// The registry or layout.
        place: String,
        /// The digest that was asked for.
        wanted: Digest,
        /// What came.
        found: Digest,
    },
    /// The bytes came, and could not be written down here.
    #[error("what {place} sent cannot be stored: {source}")]
    Store {
        /// The registry or layout.
        place: String,
        /// What the disk said.
        source: std::io::Error,
    },
}

/// What [`resolve`](crate::resolve()) fails with; it never stores, so never with `Store`.
pub type ResolveError = FetchError;
