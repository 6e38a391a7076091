//! How an entry lies on disk.
//!
//! ```text
//! length   u32   bytes after the checksum, padding left out; 0 where nothing was written yet
//! checksum u32   crc32c over the length and everything after the checksum
//! fields         kind u8, index u64, term u64, leader u128, epoch u64, first event u64, count u32
//! synced   u64   the last index that was durable when this entry was written
//! chain  [u8;32] sha256 over the chain before, the fields and the payload
//! payload        for a batch: each event after its length as u32
//! padding        zeroes up to a multiple of 8
//! ```
//!
//! All numbers are little-endian. Records begin at multiples of 8, so that a search for records
//! behind damage has few places to look at.

use crate::entry::{self, Chain, EntryHeader, FIELDS, FRAME, Kind};
use bytes::Bytes;
use types::{Index, limits};

/// Records begin at multiples of this.
pub(super) const ALIGN: usize = 8;
const PREFIX: usize = 8;
const SYNCED: usize = PREFIX + FIELDS;
const CHAIN: usize = SYNCED + 8;

/// Whether the checksum is looked at. Only the simulator ever says no, to prove that it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// The checksum must match.
    Full,
    /// It need not.
    Ignored,
}

/// A record as found.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub header: EntryHeader,
    /// The last index that was durable when it was written.
    pub synced: Index,
    pub payload: Bytes,
}

/// What stands at a place.
#[derive(Debug)]
pub(super) enum Found {
    /// A whole record of this many bytes, padding included.
    Frame(Frame, usize),
    /// Nothing: the length is zero.
    Nothing,
    /// A record would need more bytes than there are; this many in all.
    Needs(usize),
    /// Not a record.
    Bad(&'static str),
}

/// The size of a record with padding.
pub(super) const fn padded(unpadded: usize) -> usize {
    unpadded.next_multiple_of(ALIGN)
}

/// Appends the record of an entry to `buffer`: the payload is written by `put`, the chain is
/// computed from the chain before and set in the header.
pub(super) fn encode(
    buffer: &mut Vec<u8>,
    header: &mut EntryHeader,
    synced: Index,
    before: &Chain,
    put: impl FnOnce(&mut Vec<u8>),
) {
    let start = buffer.len();
    debug_assert!(start.is_multiple_of(ALIGN), "records are aligned");
    buffer.resize(start + FRAME, 0);
    put(buffer);
    let end = buffer.len();
    let fields = header.fields();
    header.chain = entry::chain(before, &fields, &buffer[start + FRAME..end]);
    let record = &mut buffer[start..end];
    let length = u32::try_from(record.len() - PREFIX).expect("a record is far below 4 GiB");
    record[..4].copy_from_slice(&length.to_le_bytes());
    record[PREFIX..SYNCED].copy_from_slice(&fields);
    record[SYNCED..CHAIN].copy_from_slice(&synced.get().to_le_bytes());
    record[CHAIN..FRAME].copy_from_slice(&header.chain);
    let checksum = checksum(record);
    record[4..8].copy_from_slice(&checksum.to_le_bytes());
    buffer.resize(start + padded(end - start), 0);
}

fn checksum(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[PREFIX..])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a range of four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a range of eight bytes"))
}

/// Looks at the start of `buffer` for a record.
pub(super) fn decode(buffer: &Bytes, check: Check) -> Found {
    if buffer.len() < PREFIX {
        return if buffer.iter().all(|byte| *byte == 0) { Found::Nothing } else { Found::Needs(FRAME) };
    }
    let length = u32_at(buffer, 0) as usize;
    if length == 0 {
        return Found::Nothing;
    }
    let size = length + PREFIX;
    if size < FRAME {
        return Found::Bad("its length is less than a header");
    }
    if size > limits::BATCH_BYTES {
        return Found::Bad("its length is more than a record may have");
    }
    if buffer.len() < padded(size) {
        return Found::Needs(padded(size));
    }
    if check == Check::Full && u32_at(buffer, 4) != checksum(&buffer[..size]) {
        return Found::Bad("its checksum does not match its content");
    }
    // The checksum ends where the record does; what is behind it is known without one.
    if buffer[size..padded(size)].iter().any(|byte| *byte != 0) {
        return Found::Bad("something stands in the padding behind it");
    }
    match header(buffer) {
        None => Found::Bad("it is of no known kind"),
        Some(header) => {
            let synced = Index::new(u64_at(buffer, SYNCED));
            Found::Frame(Frame { header, synced, payload: buffer.slice(FRAME..size) }, padded(size))
        }
    }
}

fn header(bytes: &[u8]) -> Option<EntryHeader> {
    let mut header = EntryHeader::from_fields(&bytes[PREFIX..SYNCED])?;
    header.chain.copy_from_slice(&bytes[CHAIN..FRAME]);
    Some(header)
}

/// Whether a record may begin here that an entry of an index in `range` would have. Cheap, and
/// right far more often than not: what it lets through is decoded and checked.
pub(super) fn may_begin(bytes: &[u8], range: &std::ops::RangeInclusive<u64>) -> bool {
    bytes.len() >= FRAME
        && Kind::from_code(bytes[PREFIX]).is_some()
        && range.contains(&u64_at(bytes, PREFIX + 1))
        && (FRAME..=limits::BATCH_BYTES).contains(&(u32_at(bytes, 0) as usize + PREFIX))
}

impl Frame {
    /// Whether it stands where an entry after `before` must stand; what is wrong if not.
    pub(super) fn follows(&self, before: &crate::Head, check: Check) -> Result<(), String> {
        let header = &self.header;
        if header.index != before.index.next() {
            return Err(format!("it has index {}, where {} must stand", header.index, before.index.next()));
        }
        if header.first != before.event.next() {
            return Err(format!(
                "it begins at event {}, where {} must stand",
                header.first,
                before.event.next()
            ));
        }
        let chain = entry::chain(&before.chain, &header.fields(), &self.payload);
        if check == Check::Full && header.chain != chain {
            return Err("its hash does not chain to the entry before it".into());
        }
        if header.epoch < before.epoch || header.term < before.term {
            return Err(format!(
                "its epoch {} or term {} is lower than before it",
                header.epoch, header.term
            ));
        }
        let counts = match header.kind {
            Kind::Batch => header.count > 0,
            Kind::Proposal => entry::takes_effect(&self.payload, before)? == (header.count > 0),
            Kind::Blank | Kind::Membership | Kind::Epoch => header.count == 0,
        };
        if !counts {
            return Err("it has the wrong number of events for its kind and place".into());
        }
        self.events().map(|_| ())
    }

    /// The head after it.
    pub(super) fn head(&self) -> crate::Head {
        crate::Head {
            event: self.header.last(),
            index: self.header.index,
            term: self.header.term,
            epoch: self.header.epoch,
            chain: self.header.chain,
        }
    }

    /// Its events, without copying them; none for entries that carry none, and for what is void.
    pub(super) fn events(&self) -> Result<Vec<Bytes>, String> {
        let events = match self.header.kind {
            Kind::Batch => entry::events_in(&self.payload, 0)?,
            Kind::Proposal if self.header.count > 0 => entry::events_in(&self.payload, entry::PROPOSAL)?,
            _ => return Ok(Vec::new()),
        };
        let wrong = || "the lengths of its events do not add up".to_string();
        if events.len() != self.header.count as usize { Err(wrong()) } else { Ok(events) }
    }
}
