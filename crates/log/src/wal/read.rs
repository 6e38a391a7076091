//! Going through the records of one segment in order, from a file or from memory.

use super::{
    format::SEGMENT_HEADER,
    frame::{self, Check, Found, Frame},
};
use bytes::{Bytes, BytesMut};
use rt::{DiskError, DiskFile};
use std::sync::Arc;

/// How much is read from disk at once.
const CHUNK: usize = 256 << 10;

/// Where the records are.
#[derive(Clone, Debug)]
pub(super) enum Source {
    File(Arc<dyn DiskFile>),
    Memory(Bytes),
}

/// What stands next.
#[derive(Debug)]
pub(super) enum Step {
    /// A record, whole and with a matching checksum, and where it begins.
    Frame(u64, Frame),
    /// Nothing was written from here on, or the end of the source is reached.
    End(u64),
    /// Something else than a record, and what is wrong with it.
    Bad(u64, &'static str),
}

/// Reads records one after the other.
#[derive(Debug)]
pub(super) struct Reader {
    source: Source,
    check: Check,
    /// Where the next record begins.
    offset: u64,
    /// Not a byte from here on is looked at.
    limit: u64,
    buffer: Bytes,
}

impl Reader {
    /// Reads from `offset`, at most up to `limit`.
    pub(super) fn new(source: Source, offset: u64, limit: u64, check: Check) -> Self {
        debug_assert!(offset >= SEGMENT_HEADER as u64, "records begin after the header");
        let buffer = match &source {
            Source::File(_) => Bytes::new(),
            Source::Memory(all) => {
                let end = all.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
                let start = end.min(usize::try_from(offset).unwrap_or(usize::MAX));
                all.slice(start..end)
            }
        };
        Self { source, check, offset, limit, buffer }
    }

    /// Where the next record begins.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record. After [`Step::End`] or [`Step::Bad`] it stays there.
    pub(super) fn next(&mut self) -> Result<Step, DiskError> {
        let mut wanted = frame::ALIGN;
        loop {
            if self.buffer.len() < wanted {
                self.fill(wanted)?;
            }
            if self.buffer.is_empty() {
                return Ok(Step::End(self.offset));
            }
            match frame::decode(&self.buffer, self.check) {
                Found::Frame(found, size) => {
                    let at = self.offset;
                    self.offset += size as u64;
                    self.buffer = self.buffer.slice(size..);
                    return Ok(Step::Frame(at, found));
                }
                Found::Nothing => return Ok(Step::End(self.offset)),
                Found::Bad(why) => return Ok(Step::Bad(self.offset, why)),
                Found::Needs(size) => {
                    if wanted >= size {
                        return Ok(Step::Bad(self.offset, "it is cut short"));
                    }
                    wanted = size;
                }
            }
        }
    }

    /// Sees to it that `wanted` bytes are in the buffer, or all there are.
    fn fill(&mut self, wanted: usize) -> Result<(), DiskError> {
        let Source::File(file) = &self.source else { return Ok(()) };
        let left = usize::try_from(self.limit.saturating_sub(self.offset)).unwrap_or(usize::MAX);
        let size = wanted.max(CHUNK).min(left);
        let mut fresh = BytesMut::zeroed(size);
        let read = file.read_at(self.offset, &mut fresh)?;
        fresh.truncate(read);
        self.buffer = fresh.freeze();
        Ok(())
    }
}
