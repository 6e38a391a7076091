//! The stored form of the decision state: one byte of version, then postcard.
//!
//! A snapshot is a shortcut, never a truth: one of another version is passed over and the log is
//! folded from its first event.

use domain::State;
use std::io;

/// Goes up whenever the shape of [`State`] changes.
const VERSION: u8 = 8;

/// Writes a state.
///
/// # Errors
/// The writer failed.
pub(crate) fn encode(state: &State, to: &mut dyn io::Write) -> io::Result<()> {
    to.write_all(&[VERSION])?;
    postcard::to_io(state, to).map(|_| ()).map_err(io::Error::other)
}

/// Reads what [`encode`] wrote.
pub(crate) fn decode(bytes: &[u8]) -> Result<State, postcard::Error> {
    match bytes.split_first() {
        Some((&VERSION, body)) => postcard::from_bytes(body),
        _ => Err(postcard::Error::DeserializeBadEncoding),
    }
}
