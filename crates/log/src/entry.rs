//! What stands in the log: entries, each with a header and a payload, chained by hash.
//!
//! A replicated log needs entries that carry no events (a blank one after an election, a change of
//! members); they are in the format from the start, so that a log of one machine can become one of
//! several without being rewritten. Events are numbered across entries, so entries without events
//! leave no gap in event ids.

use bytes::Bytes;
use sha2::{Digest, Sha256};
use types::{Epoch, EventId, Index, NodeId, Term};

/// The hash over an entry and, through the one before it, over all that came before.
pub type Chain = [u8; 32];

/// What an entry carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Events, written together.
    Batch,
    /// Nothing; it only takes a place.
    Blank,
    /// Who is a member, in the encoding of the consensus layer.
    Membership,
    /// An epoch is opened: the payload names the node that sequences, and why.
    Epoch,
    /// Events with the head and the epoch that they were decided on. Only if both are what they
    /// were does it take event ids; otherwise it is void: it has none, and nobody reads it. Which of
    /// the two it is follows from the entries before it alone, so every member finds the same.
    Proposal,
}

impl Kind {
    /// The byte that stands for it in the format.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Batch => 1,
            Self::Blank => 2,
            Self::Membership => 3,
            Self::Epoch => 4,
            Self::Proposal => 5,
        }
    }

    /// Whether a leader is asked for it, as opposed to what consensus makes of itself.
    pub(crate) const fn is_data(self) -> bool {
        matches!(self, Self::Batch | Self::Epoch | Self::Proposal)
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Batch),
            2 => Some(Self::Blank),
            3 => Some(Self::Membership),
            4 => Some(Self::Epoch),
            5 => Some(Self::Proposal),
            _ => None,
        }
    }
}

/// Everything about an entry but its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryHeader {
    /// What it carries.
    pub kind: Kind,
    /// Its place in the log: 1, 2, 3, … without gaps.
    pub index: Index,
    /// The consensus term it was written in.
    pub term: Term,
    /// The node that led that term.
    pub leader: NodeId,
    /// The authority it was written under; for an epoch entry, the one it opens.
    pub epoch: Epoch,
    /// The id of its first event or, if it has none, of the next event there will be.
    pub first: EventId,
    /// How many events it has.
    pub count: u32,
    /// Over the chain of the entry before, this header and the payload.
    pub chain: Chain,
}

/// The size of the header fields that the chain covers.
pub(crate) const FIELDS: usize = 1 + 8 + 8 + 16 + 8 + 8 + 4;

impl EntryHeader {
    /// The last event after this entry: its own last or, without events, the last before it.
    pub const fn last(&self) -> EventId {
        EventId::new(self.first.get() + self.count as u64 - 1)
    }

    /// The fields in their order in the format, little-endian, the chain left out.
    pub(crate) fn fields(&self) -> [u8; FIELDS] {
        let mut out = [0; FIELDS];
        out[0] = self.kind.code();
        out[1..9].copy_from_slice(&self.index.get().to_le_bytes());
        out[9..17].copy_from_slice(&self.term.get().to_le_bytes());
        out[17..33].copy_from_slice(&self.leader.as_u128().to_le_bytes());
        out[33..41].copy_from_slice(&self.epoch.get().to_le_bytes());
        out[41..49].copy_from_slice(&self.first.get().to_le_bytes());
        out[49..53].copy_from_slice(&self.count.to_le_bytes());
        out
    }

    /// What [`Self::fields`] gave, with a chain of zeroes; `None` for a kind that is not known.
    pub(crate) fn from_fields(bytes: &[u8]) -> Option<Self> {
        let u64_at =
            |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a range of eight bytes"));
        let leader = bytes[17..33].try_into().expect("a range of sixteen bytes");
        Some(Self {
            kind: Kind::from_code(bytes[0])?,
            index: Index::new(u64_at(1)),
            term: Term::new(u64_at(9)),
            leader: NodeId::from_u128(u128::from_le_bytes(leader)),
            epoch: Epoch::new(u64_at(33)),
            first: EventId::new(u64_at(41)),
            count: u32::from_le_bytes(bytes[49..53].try_into().expect("a range of four bytes")),
            chain: [0; 32],
        })
    }
}

/// The chain after an entry: sha256 over the chain before it, its header fields and its payload.
pub(crate) fn chain(before: &Chain, fields: &[u8; FIELDS], payload: &[u8]) -> Chain {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update(fields);
    hash.update(payload);
    hash.finalize().into()
}

/// What the payload of a proposal begins with: the head and the epoch it was decided on.
pub(crate) const PROPOSAL: usize = 16;

/// The payload of a proposal.
pub(crate) fn proposal(expected: EventId, epoch: Epoch, events: &[Bytes]) -> Bytes {
    let mut payload = Vec::with_capacity(PROPOSAL + payload_size(events));
    payload.extend_from_slice(&expected.get().to_le_bytes());
    payload.extend_from_slice(&epoch.get().to_le_bytes());
    put_events(&mut payload, events);
    payload.into()
}

/// The events in a payload of them, without copying.
pub(crate) fn events_in(payload: &Bytes, from: usize) -> Result<Vec<Bytes>, String> {
    let wrong = || "the lengths of its events do not add up".to_string();
    let mut events = Vec::new();
    let mut at = from;
    if payload.len() < from {
        return Err(wrong());
    }
    while at < payload.len() {
        let start = at + EVENT_OVERHEAD;
        let length = payload.get(at..start).ok_or_else(wrong)?;
        let length = u32::from_le_bytes(length.try_into().expect("a range of four bytes")) as usize;
        let end = start.checked_add(length).filter(|end| *end <= payload.len()).ok_or_else(wrong)?;
        events.push(payload.slice(start..end));
        at = end;
    }
    Ok(events)
}

/// Whether a proposal takes effect after this head; an error if the payload is none.
pub(crate) fn takes_effect(payload: &[u8], before: &crate::Head) -> Result<bool, String> {
    let number = |at: usize| {
        let bytes = payload.get(at..at + 8).ok_or("it is shorter than a proposal")?;
        Ok::<u64, String>(u64::from_le_bytes(bytes.try_into().expect("a range of eight bytes")))
    };
    Ok(number(0)? == before.event.get() && number(8)? == before.epoch.get())
}

/// Bytes that a payload spends on each event besides the event itself: its length.
pub(crate) const EVENT_OVERHEAD: usize = 4;

/// The payload of a batch: each event after its length.
pub(crate) fn put_events(payload: &mut Vec<u8>, events: &[Bytes]) {
    for event in events {
        payload.extend_from_slice(&(event.len() as u32).to_le_bytes());
        payload.extend_from_slice(event);
    }
}

/// How large the payload of these events is.
pub(crate) fn payload_size(events: &[Bytes]) -> usize {
    events.iter().map(|event| event.len() + EVENT_OVERHEAD).sum()
}

/// The size of everything in a record but its payload: length, checksum, fields, the last
/// durable index, chain.
pub(crate) const FRAME: usize = 4 + 4 + FIELDS + 8 + 32;
