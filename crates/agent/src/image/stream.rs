//! A layer's bytes on their way into the tree: decompressed, counted, hashed, never endless.

use super::error::Trouble;
use sha2::{Digest as _, Sha256};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    time::Instant,
};
use types::{ByteSize, Digest, limits};

/// What an image may still use. Bytes are counted as they come out of decompression, so that a
/// bomb is noticed however it is packed.
pub(crate) struct Budget {
    bytes: u64,
    files: u64,
    deadline: Instant,
}

impl Budget {
    pub(crate) fn new(deadline: Instant) -> Self {
        Self { bytes: 0, files: 0, deadline }
    }

    /// The same limits for a look ahead that unpacks nothing.
    pub(crate) fn look_ahead(&self) -> Self {
        Self { ..*self }
    }

    /// What was unpacked so far.
    pub(crate) fn unpacked(&self) -> ByteSize {
        ByteSize::from_bytes(self.bytes)
    }

    /// One more file, directory, link or other entry.
    pub(crate) fn file(&mut self) -> Result<(), Trouble> {
        self.files += 1;
        if self.files > limits::IMAGE_FILES {
            return Err(Trouble::Image(format!("it has more than {} files", limits::IMAGE_FILES)));
        }
        Ok(())
    }

    /// Refuses a file that is said to be larger than what is left, before any of it is written.
    pub(crate) fn announce(&self, size: u64) -> Result<(), Trouble> {
        if self.bytes.saturating_add(size) > limits::IMAGE_UNPACKED.bytes() {
            Err(too_large())
        } else {
            Ok(())
        }
    }

    fn take(&mut self, bytes: usize) -> Result<(), Trouble> {
        self.bytes += bytes as u64;
        if self.bytes > limits::IMAGE_UNPACKED.bytes() {
            return Err(too_large());
        }
        if Instant::now() > self.deadline {
            return Err(super::pull::too_slow());
        }
        Ok(())
    }
}

fn too_large() -> Trouble {
    Trouble::Image(format!("it unpacks to more than {}", limits::IMAGE_UNPACKED))
}

/// A decompressed layer.
pub(crate) struct Stream<'a> {
    from: Box<dyn Read + 'a>,
    hash: Sha256,
    pub(crate) budget: &'a mut Budget,
}

/// Compressed bytes read at once.
const PIECE: usize = 128 << 10;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

impl<'a> Stream<'a> {
    /// Decompresses by what the bytes are, not by what the manifest calls them.
    pub(crate) fn new(blob: &'a mut File, budget: &'a mut Budget) -> Result<Self, Trouble> {
        let mut blob = BufReader::with_capacity(PIECE, blob);
        let start = blob.fill_buf()?;
        let from: Box<dyn Read + 'a> = if start.starts_with(&GZIP) {
            Box::new(flate2::bufread::MultiGzDecoder::new(blob))
        } else if start.starts_with(&ZSTD) {
            Box::new(zstd::stream::read::Decoder::with_buffer(blob)?)
        } else {
            Box::new(blob)
        };
        Ok(Self { from, hash: Sha256::new(), budget })
    }

    /// Reads up to the size of `into`; 0 only at the end.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> Result<usize, Trouble> {
        loop {
            match self.from.read(into) {
                Ok(count) => {
                    self.budget.take(count)?;
                    self.hash.update(&into[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel's errors are the disk's; every other is the decompressor's.
                Err(error) if error.raw_os_error().is_some() => return Err(error.into()),
                Err(error) => return Err(Trouble::Image(format!("it cannot be decompressed: {error}"))),
            }
        }
    }

    /// Reads what is left; the whole must hash to `diff_id`.
    pub(crate) fn finish(mut self, diff_id: &Digest) -> Result<(), Trouble> {
        let mut piece = vec![0; PIECE];
        while self.read(&mut piece)? > 0 {}
        let found = Digest::from_sha256(self.hash.finalize().into());
        if found == *diff_id {
            return Ok(());
        }
        Err(Trouble::Image(format!("it unpacks to {found}, and the image's configuration says {diff_id}")))
    }
}
