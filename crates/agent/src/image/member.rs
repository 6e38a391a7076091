//! The members of a tar archive, read with limits.
//!
//! The usual reader takes extended headers of any length into memory; this one does not. Only what
//! layers are made of is read: ustar, GNU long names, pax. Sparse files are refused: no image
//! builder writes them, and their sizes are promises without bytes.

use super::{error::Trouble, stream::Stream};
use std::ops::Range;
use tar::{EntryType, Header, PaxExtensions};
use types::limits;

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    HardLink,
    Pipe,
    Device,
}

/// One member, before its bytes.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) kind: Kind,
    /// As written: not cleaned, not trusted.
    pub(crate) path: Vec<u8>,
    /// The target of a link, as written.
    pub(crate) link: Vec<u8>,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: u64,
}

/// Reads members one after the other.
pub(crate) struct Members<'a> {
    stream: Stream<'a>,
    /// Bytes of the present member that were not read yet, and what fills its last block.
    left: u64,
    padding: u64,
}

const BLOCK: usize = 512;

/// Extended headers that may stand before one member; the formats in use have three at most.
const EXTENSIONS: usize = 8;

/// What extended headers say about the member after them.
#[derive(Default)]
struct Extended {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<u64>,
}

fn malformed(why: &str) -> Trouble {
    Trouble::Image(format!("it is no valid archive: {why}"))
}

/// Where the numbers stand in a header.
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;

/// A number of a header. A field that was left blank is zero, as most readers have it.
fn number<N: Default>(header: &Header, field: Range<usize>, read: std::io::Result<N>) -> Option<N> {
    let blank = header.as_bytes()[field].iter().all(|byte| matches!(byte, 0 | b' '));
    if blank { Some(N::default()) } else { read.ok() }
}

impl<'a> Members<'a> {
    pub(crate) fn new(stream: Stream<'a>) -> Self {
        Self { stream, left: 0, padding: 0 }
    }

    pub(crate) fn budget(&mut self) -> &mut super::stream::Budget {
        self.stream.budget
    }

    /// The stream again, somewhere behind the last member that was looked at.
    pub(crate) fn into_stream(self) -> Stream<'a> {
        self.stream
    }

    /// Reads bytes of the present member; 0 only at its end.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, Trouble> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(into.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.stream.read(&mut into[..most])?;
        if count == 0 {
            return Err(malformed("it ends in the middle of a file"));
        }
        self.left -= count as u64;
        Ok(count)
    }

    /// The next member; `None` at the end of the archive.
    pub(crate) fn next(&mut self) -> Result<Option<Member>, Trouble> {
        let mut extended = Extended::default();
        for _ in 0..=EXTENSIONS {
            self.skip()?;
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let size =
                number(&header, SIZE, header.entry_size()).ok_or_else(|| malformed("a size is no number"))?;
            self.begin(size);
            match kind {
                EntryType::GNULongName => extended.path = Some(self.text(limits::IMAGE_PATH)?),
                EntryType::GNULongLink => extended.link = Some(self.text(limits::IMAGE_PATH)?),
                EntryType::XHeader => {
                    let bytes = self.whole(limits::IMAGE_HEADER)?;
                    extended.read_pax(&bytes)?;
                }
                // Speaks of all members at once, and says nothing that matters here.
                EntryType::XGlobalHeader => {}
                _ => return self.member(&header, extended).map(Some),
            }
        }
        Err(malformed("too many extended headers before one file"))
    }

    fn begin(&mut self, size: u64) {
        self.left = size;
        self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
    }

    fn skip(&mut self) -> Result<(), Trouble> {
        let padding = std::mem::take(&mut self.padding);
        self.stream.budget.announce(self.left.saturating_add(padding))?;
        let mut piece = [0; 16 << 10];
        while self.read(&mut piece)? > 0 {}
        // Some tools (`umoci insert` is one) leave out what fills the last block, and the end mark
        // with it. Nothing is lost by that, so, as other readers do, it is taken for the end.
        let mut left = usize::try_from(padding).expect("less than a block");
        while left > 0 {
            match self.stream.read(&mut piece[..left])? {
                0 => break,
                count => left -= count,
            }
        }
        Ok(())
    }

    fn header(&mut self) -> Result<Option<Header>, Trouble> {
        let mut header = Header::new_old();
        let block: &mut [u8] = header.as_mut_bytes();
        let mut filled = 0;
        while filled < BLOCK {
            match self.stream.read(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(malformed("it ends in the middle of a header")),
                count => filled += count,
            }
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum::<u32>()
            - block[148..156].iter().map(|byte| u32::from(*byte)).sum::<u32>()
            + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(malformed("a header's checksum is wrong"));
        }
        Ok(Some(header))
    }

    fn whole(&mut self, limit: usize) -> Result<Vec<u8>, Trouble> {
        if self.left > limit as u64 {
            return Err(malformed("an extended header or a name is too long"));
        }
        let mut bytes = vec![0; self.left as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            filled += self.read(&mut bytes[filled..])?;
        }
        Ok(bytes)
    }

    fn text(&mut self, limit: usize) -> Result<Vec<u8>, Trouble> {
        let mut bytes = self.whole(limit)?;
        while bytes.last() == Some(&0) {
            bytes.pop();
        }
        Ok(bytes)
    }

    fn member(&mut self, header: &Header, extended: Extended) -> Result<Member, Trouble> {
        let path = extended.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Link => Kind::HardLink,
            EntryType::Fifo => Kind::Pipe,
            EntryType::Char | EntryType::Block => Kind::Device,
            EntryType::GNUSparse => return Err(malformed("it has a sparse file, which is not supported")),
            other => {
                return Err(malformed(&format!(
                    "it has a member of the unknown type {:?}",
                    other.as_byte() as char
                )));
            }
        };
        // What is no file has no bytes, whatever its header says; every common reader agrees.
        let size = if kind == Kind::File { extended.size.unwrap_or(self.left) } else { 0 };
        self.begin(size);
        let link = extended.link.or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned));
        let id = |extended: Option<u64>, plain: Option<u64>| {
            let id = extended.or(plain).and_then(|id| u32::try_from(id).ok());
            // The last number means "leave as it is" to the kernel.
            id.filter(|id| *id != u32::MAX).ok_or_else(|| malformed("an owner is no number that fits"))
        };
        Ok(Member {
            kind,
            path,
            link: link.unwrap_or_default(),
            size,
            mode: number(header, MODE, header.mode()).ok_or_else(|| malformed("a mode is no number"))?
                & 0o7777,
            uid: id(extended.uid, number(header, UID, header.uid()))?,
            gid: id(extended.gid, number(header, GID, header.gid()))?,
            mtime: extended.mtime.or(number(header, MTIME, header.mtime())).unwrap_or(0),
        })
    }
}

impl Extended {
    fn read_pax(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        for record in PaxExtensions::new(bytes) {
            let record = record.map_err(|_| malformed("an extended header cannot be read"))?;
            let (key, value) = (record.key_bytes(), record.value_bytes());
            let number = || {
                let text = std::str::from_utf8(value).ok()?;
                text.split('.').next()?.parse::<u64>().ok()
            };
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number().ok_or_else(|| malformed("a size is no number"))?),
                b"uid" => self.uid = Some(number().ok_or_else(|| malformed("an owner is no number"))?),
                b"gid" => self.gid = Some(number().ok_or_else(|| malformed("an owner is no number"))?),
                b"mtime" => self.mtime = number(),
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(malformed("it has a sparse file, which is not supported"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
