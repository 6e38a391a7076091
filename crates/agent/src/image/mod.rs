//! Images on this host: fetched once, checked, unpacked where nothing can escape, kept by digest.
//!
//! ```text
//! images/blobs/sha256/<hex>     what was fetched; each file hashes to its name
//! images/roots/<hex>/rootfs     an image unpacked, named by its manifest; never written to again
//! images/roots/<hex>/complete   written last and durably: without it the root does not exist
//! images/tmp/                   whatever is half made; emptied at start
//! ```
//!
//! - *a root that is there is whole*: it is made in `tmp`, made durable, marked, and only then
//!   renamed into place; it leaves in the opposite order;
//! - *what runs is what was pinned*: every byte descends by digest from the manifest's;
//! - *a cached image needs nobody*: no registry is asked for what is here.

mod blobs;
mod error;
mod marker;
mod member;
mod pull;
mod store;
mod stream;
mod tree;
mod unpack;
mod whiteout;

pub use error::{ImageError, OpenError};
pub use oci::ImageConfig;
pub use store::{ImageStore, UnpackedImage};

#[cfg(test)]
mod unpack_tests;
