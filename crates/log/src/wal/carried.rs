//! Entries outside of a log directory: how a backup carries them, byte for byte the same from every
//! member.
//!
//! ```text
//! fields   as in a record: kind, index, term, leader, epoch, first event, count
//! chain    [u8;32]
//! length   u32   of the payload
//! payload
//! ```
//!
//! What a record has besides belongs to the directory it lies in: how far *that* log was durable when
//! it was written, its checksum, and padding.

use super::{
    format::{HEAD, get_head, put_head},
    frame::{Check, Frame},
    member::MemberLog,
};
use crate::{EntryHeader, Head, ReadError, Record, entry::FIELDS};
use bytes::{Buf, Bytes};
use types::{Index, limits};

/// What stands in front of the payload.
const FRONT: usize = FIELDS + 32 + 4;

/// An entry as it travels outside of a log directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Everything but its payload.
    pub header: EntryHeader,
    /// What stands in it, in the form of its kind.
    pub payload: Bytes,
}

impl Carried {
    /// How many bytes [`Self::put`] adds.
    pub fn size(&self) -> usize {
        FRONT + self.payload.len()
    }

    /// Appends it to `out`.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.header.fields());
        out.extend_from_slice(&self.header.chain);
        let length = u32::try_from(self.payload.len()).expect("a payload is far below 4 GiB");
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&self.payload);
    }

    /// Takes the next one off `bytes`, without copying its payload. Says nothing about whether it
    /// stands in its place: that is [`Self::follows`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(bytes: &mut Bytes) -> Result<Self, &'static str> {
        if bytes.len() < FRONT {
            return Err("an entry is cut short");
        }
        let front = bytes.split_to(FRONT);
        let mut header = EntryHeader::from_fields(&front).ok_or("an entry is of no known kind")?;
        header.chain.copy_from_slice(&front[FIELDS..FIELDS + 32]);
        let length = (&front[FIELDS + 32..]).get_u32_le() as usize;
        if length > limits::BATCH_BYTES {
            return Err("an entry is longer than an entry may be");
        }
        if length > bytes.len() {
            return Err("an entry is cut short");
        }
        Ok(Self { header, payload: bytes.split_to(length) })
    }

    /// Whether it is the entry after `before`, by number, epoch and chain; gives the head with it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn follows(&self, before: &Head) -> Result<Head, String> {
        let frame = self.frame();
        frame.follows(before, Check::Full)?;
        Ok(frame.head())
    }

    /// Its events, without copying them; none for an entry that has none.
    ///
    /// # Errors
    /// Their lengths do not add up. Never after [`Self::follows`] was fine.
    pub fn records(&self) -> Result<Vec<Record>, String> {
        let record = |(place, bytes)| Record {
            id: self.header.first.plus(place as u64),
            epoch: self.header.epoch,
            bytes,
        };
        Ok(self.frame().events()?.into_iter().enumerate().map(record).collect())
    }

    fn frame(&self) -> Frame {
        Frame { header: self.header, synced: Index::ZERO, payload: self.payload.clone() }
    }
}

/// What a member's log gives to one that lacks entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carry {
    /// Entries, each as [`Carried::put`] writes it.
    Entries(Vec<u8>),
    /// It has another entry there.
    Differs,
    /// It has not so much.
    Short,
}

impl MemberLog {
    /// What follows the entry `after` here, up to `until`: at least one entry, and about `max_bytes` at
    /// most. Only what is durable.
    ///
    /// # Errors
    /// The disk failed or what is on it is not what was written.
    pub fn carry(&self, after: &Head, until: Index, max_bytes: usize) -> Result<Carry, ReadError> {
        if after.index >= until || until > self.tail().index {
            return Ok(Carry::Short);
        }
        let (mut entries, mut differs) = (Vec::new(), false);
        self.store().walk(after.index, |head, frame| {
            if head.index <= after.index {
                differs = head.chain != after.chain;
                return !differs;
            }
            let entry = Carried { header: frame.header, payload: frame.payload.clone() };
            if !entries.is_empty() && entries.len() + entry.size() > max_bytes {
                return false;
            }
            entry.put(&mut entries);
            head.index < until
        })?;
        Ok(if differs { Carry::Differs } else { Carry::Entries(entries) })
    }
}

impl Head {
    /// Before the first entry.
    pub const NOTHING: Self = super::format::NOTHING;
    /// How many bytes a head takes.
    pub const BYTES: usize = HEAD;

    /// Index, event, term and epoch, little-endian, and the chain.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        put_head(&mut out, self);
        out
    }

    /// What [`Self::to_bytes`] gave.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        get_head(bytes)
    }
}
