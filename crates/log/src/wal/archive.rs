//! Segments that are history: compressed, and no longer needed to start.
//!
//! An archived segment is a header and the whole segment file up to its last record, as one zstd
//! frame. It is written, synced, read back and compared before the plain file is removed. A crash
//! in between leaves both, and the next start removes the plain one.

use super::{
    format::{ARCHIVE, HEAD, archive_path, get_head, put_head},
    store::Store,
};
use crate::{Head, ReadError};
use bytes::Bytes;
use rt::{Disk, DiskError};
use std::path::{Path, PathBuf};
use types::EventId;

const MAGIC: &[u8; 8] = b"HFARCH\0\x01";
/// Magic, log id, head before, head after, plain length, plain checksum, checksum of all this.
pub(super) const HEADER: usize = 8 + 16 + HEAD + HEAD + 8 + 4 + 4;
/// Fast, and within a tenth of what the slow levels reach on event records.
const LEVEL: i32 = 3;

/// An archived segment.
#[derive(Clone, Debug)]
pub(super) struct Archived {
    pub log_id: [u8; 16],
    /// The head before its first entry.
    pub before: Head,
    /// The head after its last entry.
    pub end: Head,
    pub path: PathBuf,
    plain_bytes: u64,
    plain_checksum: u32,
}

impl Archived {
    fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(MAGIC);
        out[8..24].copy_from_slice(&self.log_id);
        put_head(&mut out[24..88], &self.before);
        put_head(&mut out[88..152], &self.end);
        out[152..160].copy_from_slice(&self.plain_bytes.to_le_bytes());
        out[160..164].copy_from_slice(&self.plain_checksum.to_le_bytes());
        let checksum = crc32c::crc32c(&out[..164]);
        out[164..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Reads the header of an archived segment.
    pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<Result<Self, &'static str>, DiskError> {
        let mut header = [0; HEADER];
        let read = disk.open_read(path)?.read_at(0, &mut header)?;
        Ok(Self::decode(&header[..read], path))
    }

    fn decode(header: &[u8], path: &Path) -> Result<Self, &'static str> {
        if header.len() < HEADER || &header[..8] != MAGIC {
            return Err("it does not begin like an archived segment");
        }
        if crc32c::crc32c(&header[..164]).to_le_bytes() != header[164..HEADER] {
            return Err("the checksum of its header does not match");
        }
        Ok(Self {
            log_id: header[8..24].try_into().expect("a range of sixteen bytes"),
            before: get_head(&header[24..88]),
            end: get_head(&header[88..152]),
            path: path.to_path_buf(),
            plain_bytes: u64::from_le_bytes(header[152..160].try_into().expect("a range of eight bytes")),
            plain_checksum: u32::from_le_bytes(header[160..164].try_into().expect("a range of four bytes")),
        })
    }
}

/// The segment file as it was.
pub(super) fn unpack(disk: &dyn Disk, archived: &Archived) -> Result<Bytes, ReadError> {
    let damaged = |why: &str| ReadError::Damaged { path: archived.path.clone(), offset: 0, why: why.into() };
    let packed = disk.read(&archived.path).map_err(ReadError::Disk)?;
    let body = packed.get(HEADER..).ok_or_else(|| damaged("it is cut short"))?;
    let size = usize::try_from(archived.plain_bytes).map_err(|_| damaged("its size cannot be"))?;
    let plain = zstd::bulk::decompress(body, size).map_err(|_| damaged("it does not decompress"))?;
    if plain.len() != size || crc32c::crc32c(&plain) != archived.plain_checksum {
        return Err(damaged("its content is not what was archived"));
    }
    Ok(plain.into())
}

/// Why a segment could not be sealed. It stays where it is, and the next snapshot tries again.
#[derive(Debug, thiserror::Error)]
pub(super) enum SealError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error("cannot compress a segment: {0}")]
    Compress(std::io::Error),
    #[error("what was archived does not read back: {0}")]
    Verify(ReadError),
}

/// Moves every segment whose events are all at or before `at` into the archive; says how many. The
/// caller holds [`Store::sealing`].
pub(super) fn seal(store: &Store, at: EventId) -> Result<usize, SealError> {
    let mut sealed = 0;
    loop {
        let next = {
            let view = store.view();
            // The last one is written to, so it stays.
            let candidate = (view.segments.len() > 1).then(|| &view.segments[0]);
            // What is not committed may still be cut, and then must not be in the archive.
            let candidate =
                candidate.filter(|segment| segment.end.event <= at && segment.end.index <= view.head.index);
            candidate.map(|segment| (segment.path.clone(), segment.before, segment.end, segment.used))
        };
        let Some((path, before, end, used)) = next else { return Ok(sealed) };
        let archived = pack(store, &path, before, end, used)?;
        {
            let mut view = store.change();
            view.archived.push(archived);
            view.segments.remove(0);
        }
        // A crash may undo this; the next start does it again.
        store.disk.remove(&path)?;
        sealed += 1;
    }
}

/// The archived form of a plain segment file.
pub(super) fn packed(
    log_id: [u8; 16],
    before: Head,
    end: Head,
    plain: &[u8],
) -> Result<Vec<u8>, std::io::Error> {
    let (plain_bytes, plain_checksum) = (plain.len() as u64, crc32c::crc32c(plain));
    let path = PathBuf::new();
    let archived = Archived { log_id, before, end, path, plain_bytes, plain_checksum };
    let body = zstd::bulk::compress(plain, LEVEL)?;
    Ok([archived.encode().as_slice(), &body].concat())
}

fn pack(store: &Store, path: &Path, before: Head, end: Head, used: u64) -> Result<Archived, SealError> {
    let disk = &*store.disk;
    let mut plain = disk.read(path)?;
    plain.truncate(usize::try_from(used).expect("a segment fits the address space"));
    let path = archive_path(&store.dir, before.index.next());
    let packed = packed(store.log_id, before, end, &plain).map_err(SealError::Compress)?;
    let archived = Archived::decode(&packed[..HEADER], &path).expect("it was made here");
    rt::replace_file(disk, &path, &packed)?;
    if unpack(disk, &archived).map_err(SealError::Verify)? != plain {
        let path = archived.path.clone();
        let why = "it differs from the segment".to_string();
        return Err(SealError::Verify(ReadError::Damaged { path, offset: 0, why }));
    }
    disk.sync_dir(&store.dir.join(ARCHIVE))?;
    Ok(archived)
}
