//! Backups of the log: sealed, verified, restored to any event.
//!
//! A backup is a consistent copy of the log up to a committed head, with the newest snapshot, in a
//! directory or an S3-compatible store. Between two backups the log is archived as it grows, so that a
//! restore may go to any event or time up to a moment ago. Read in this order: [`Source`] is what is
//! backed up, [`Store`] where to, [`Key`] what seals it; then [`backup()`], [`Archiver`], [`verify()`],
//! [`restore()`], [`drill()`] and [`prune()`].
//!
//! What it promises:
//!
//! - A backup counts only when all of it was read back, opened, and chained from the first entry to the
//!   head. Its manifest is written last.
//! - Making one never waits for the writer of the log, nor the writer for it.
//! - Nothing in the store can be read or changed unseen without the key: objects are bound to their
//!   cluster, their name and their order.
//! - A restored log ends at a batch's border, has the chain that the old one had there, and an identity
//!   of its own. A directory that is half restored is no log.

mod archive;
mod key;
mod manifest;
mod part;
mod prune;
mod restore;
mod sealed;
mod source;
mod store;
mod verify;
mod write;

pub use archive::{ArchiveError, Archiver, Step};
pub use key::{Key, KeyError, KeyId};
pub use manifest::{Id, IdError, Listed, list};
pub use object_store::aws::AmazonS3Builder;
pub use prune::{Pruned, prune};
pub use restore::{
    Drilled, Fingerprint, Fingerprinter, NewIdentity, RestoreError, Restored, To, clear_drill, drill, restore,
};
pub use source::{Directory, Live, Source};
pub use store::{ObjectError, OpenStoreError, Store};
pub use verify::{Verified, VerifyError, newest, verify};
pub use write::{BackupError, Done, Reuse, Sum, backup};
