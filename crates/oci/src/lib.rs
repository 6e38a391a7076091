//! Images where they come from: references, registries and OCI layouts, every byte checked.
//!
//! The server uses [`resolve()`] to pin what a person wrote to one digest; an agent uses [`Source`]
//! to fetch exactly what was pinned. Neither trusts where the bytes come from:
//!
//! - *nothing unchecked leaves here*: a document or blob is handed out only when its size and its
//!   SHA-256 are the promised ones;
//! - *nothing unbounded comes in*: documents, blobs, layers and times have named limits;
//! - plain HTTP is spoken with loopback addresses only.

mod check;
mod document;
mod error;
mod layout;
mod reference;
mod registry;
mod resolve;
mod source;

pub use document::{Descriptor, ImageConfig, ImageManifest, Platform};
pub use error::{FetchError, ResolveError};
pub use reference::{LayoutName, Reference, RegistryName};
pub use resolve::resolve;
pub use source::Source;
