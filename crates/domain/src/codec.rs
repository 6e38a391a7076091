//! How an event is stored: one byte of format version, then postcard.
//!
//! Postcard numbers enum variants by their place, which is why [`Event`] only ever grows at its
//! end. A later format gets the next version byte and a `migrate` beside this reader.

use crate::event::{Actor, Envelope, Event};
use types::{Epoch, EventId, RequestId, Timestamp};

const VERSION: u8 = 1;

/// An event that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Written by a newer Holdfast.
    #[error("event {id} has format version {version}; this Holdfast reads up to {VERSION}")]
    Newer {
        /// Which event.
        id: EventId,
        /// Its version byte.
        version: u8,
    },
    /// Not what any Holdfast writes.
    #[error("event {id} cannot be decoded")]
    Malformed {
        /// Which event.
        id: EventId,
        /// What the decoder says.
        #[source]
        source: postcard::Error,
    },
}

#[derive(serde::Serialize)]
struct Stored<'a>(Timestamp, Actor, Option<RequestId>, Option<EventId>, u64, &'a Event);

/// The stored form of an envelope, without id and epoch: the log knows those.
pub fn encode(envelope: &Envelope) -> Vec<u8> {
    let Envelope { at, actor, request, cause, sequence, event, .. } = envelope;
    postcard::to_extend(&Stored(*at, *actor, *request, *cause, *sequence, event), vec![VERSION])
        .expect("an event has no type that postcard refuses")
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// A newer format, or bytes that are no event.
pub fn decode(id: EventId, epoch: Epoch, bytes: &[u8]) -> Result<Envelope, Error> {
    let Some((&VERSION, body)) = bytes.split_first() else {
        return Err(Error::Newer { id, version: bytes.first().copied().unwrap_or(0) });
    };
    let (at, actor, request, cause, sequence, event) =
        postcard::from_bytes(body).map_err(|source| Error::Malformed { id, source })?;
    Ok(Envelope { id, epoch, at, actor, request, cause, sequence, event })
}
