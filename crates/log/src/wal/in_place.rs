//! A small file that is replaced where it lies: once it is there, it needs no space any more.
//!
//! ```text
//!   copy │ copy        each: magic [u8;8], number u64, length u32, content, CRC-32C
//! ```
//!
//! Invariants:
//!
//! - A content is stored when both copies have it: the one that is not the newest is written and synced
//!   first, then the other. So a crash spoils at most one copy and leaves what was stored before or this.
//! - A copy that rots never brings back what was stored before the last: the other has the same content.
//! - What was found in one copy only may not be durable. [`InPlace::settle`] makes it so, before anybody
//!   acts on it.
//!
//! A file system that copies on write may want space all the same; then the old content stands, and the
//! caller does what it does without space.

use rt::{Disk, DiskError, Operation};
use std::path::{Path, PathBuf};

/// What a disk may write as a whole: a torn write of one copy never touches the other.
const PAGE: usize = 4096;
/// Magic, number, length; and the checksum.
const AROUND: usize = 8 + 8 + 4 + 4;

/// A file of two copies.
#[derive(Debug)]
pub(super) struct InPlace {
    path: PathBuf,
    magic: [u8; 8],
    /// The least that a new file gives each copy, in bytes.
    room: usize,
    /// After a sync that failed nothing is known about the file: then another takes its place.
    trusted: bool,
}

/// What is in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// There is none.
    Missing,
    /// What was stored.
    Stored(Vec<u8>),
    /// Something else: an older form, or nothing that can be read.
    Other(Vec<u8>),
}

/// Both copies, as far as they can be read: number and content.
struct Copies {
    both: [Option<(u64, Vec<u8>)>; 2],
    /// How many bytes each may have.
    room: usize,
}

impl InPlace {
    /// The file of this name, with at least `room` bytes for a content.
    pub(super) fn new(path: &Path, magic: &[u8; 8], room: usize) -> Self {
        Self { path: path.into(), magic: *magic, room, trusted: true }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What was stored last. Changes nothing.
    pub(super) fn load(&self, disk: &dyn Disk) -> Result<Content, DiskError> {
        let bytes = match disk.read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(Content::Missing),
            Err(error) => return Err(error),
        };
        let newest = self.copies(&bytes).and_then(Copies::newest);
        Ok(newest.map_or(Content::Other(bytes), |(_, content)| Content::Stored(content)))
    }

    /// Makes what [`Self::load`] gives durable, if a crash left it in one copy only.
    pub(super) fn settle(&mut self, disk: &dyn Disk) -> Result<(), DiskError> {
        let bytes = match disk.read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        };
        match self.copies(&bytes) {
            Some(copies) if !copies.are_one() => {
                let (_, content) = copies.newest().expect("one of them is good");
                self.store(disk, &content)
            }
            _ => Ok(()),
        }
    }

    /// Replaces the content. Durable when it returns; after an error it may be there or not.
    pub(super) fn store(&mut self, disk: &dyn Disk, content: &[u8]) -> Result<(), DiskError> {
        let bytes = match disk.read(&self.path) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let copies = bytes
            .and_then(|bytes| self.copies(&bytes))
            .filter(|copies| self.trusted && copies.room >= AROUND + content.len());
        let Some(copies) = copies else {
            return self.replace(disk, content);
        };
        let (newest, number) = copies.place_of_newest();
        let copy = self.encode(number + 1, content);
        let file = disk.open(&self.path)?;
        let mut synced = || {
            let result = file.sync_data();
            self.trusted &= result.is_ok();
            result
        };
        if !copies.are_one() {
            // The newest may have been read from the kernel's memory, and is all there is.
            synced()?;
        }
        for place in [1 - newest, newest] {
            file.write_at((place * copies.room) as u64, &copy)?;
            synced()?;
        }
        Ok(())
    }

    /// A new file, with the content in both copies.
    fn replace(&mut self, disk: &dyn Disk, content: &[u8]) -> Result<(), DiskError> {
        let room = self.room.max(AROUND + content.len()).next_multiple_of(PAGE);
        let mut copy = self.encode(1, content);
        copy.resize(room, 0);
        rt::replace_file(disk, &self.path, &copy.repeat(2))?;
        self.trusted = true;
        Ok(())
    }

    fn encode(&self, number: u64, content: &[u8]) -> Vec<u8> {
        let length = u32::try_from(content.len()).expect("it is a small file");
        let mut out = self.magic.to_vec();
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(content);
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// `None` if this is not a file of two copies, or none of them can be read.
    fn copies(&self, bytes: &[u8]) -> Option<Copies> {
        let room = bytes.len() / 2;
        if room == 0 || !bytes.len().is_multiple_of(2 * PAGE) {
            return None;
        }
        let both = [self.decode(&bytes[..room]), self.decode(&bytes[room..])];
        both.iter().any(Option::is_some).then_some(Copies { both, room })
    }

    fn decode(&self, copy: &[u8]) -> Option<(u64, Vec<u8>)> {
        let length = u32::from_le_bytes(copy.get(16..20)?.try_into().ok()?) as usize;
        let (content, rest) = copy.split_at_checked(20 + length)?;
        let good = content[..8] == self.magic && rest.get(..4)? == crc32c::crc32c(content).to_le_bytes();
        let number = u64::from_le_bytes(content[8..16].try_into().expect("a range of eight bytes"));
        good.then(|| (number, content[20..].to_vec()))
    }
}

impl Copies {
    fn are_one(&self) -> bool {
        matches!(&self.both, [Some(one), Some(other)] if one == other)
    }

    /// Which one is the newest, and its number.
    fn place_of_newest(&self) -> (usize, u64) {
        let number = |place: usize| self.both[place].as_ref().map(|(number, _)| *number);
        let newest = usize::from(number(1) > number(0));
        (newest, number(newest).expect("one of them is good"))
    }

    fn newest(self) -> Option<(u64, Vec<u8>)> {
        let (newest, _) = self.place_of_newest();
        let [one, other] = self.both;
        if newest == 0 { one } else { other }
    }
}

/// Whether it was for lack of space that nothing was stored, so that the old content stands.
pub(super) fn is_only_space(error: &DiskError) -> bool {
    error.is_no_space() && !matches!(error.operation, Operation::Sync | Operation::SyncDir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt::{Fault, SimDisk};

    const FILE: &str = "/log/kept";
    const MAGIC: &[u8; 8] = b"HFTEST\0\x01";

    fn disk(seed: u64) -> SimDisk {
        let disk = SimDisk::new(seed);
        disk.create_dir(Path::new("/log")).expect("creates");
        disk
    }

    fn kept() -> InPlace {
        InPlace::new(Path::new(FILE), MAGIC, 100)
    }

    fn stored(disk: &SimDisk) -> Vec<u8> {
        match kept().load(disk).expect("reads") {
            Content::Stored(content) => content,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_needs_no_space_once_it_is_there() {
        let disk = disk(1);
        assert_eq!(kept().load(&disk).expect("reads"), Content::Missing);
        kept().store(&disk, b"first").expect("creates");
        disk.set_capacity(Some(disk.used()));
        for number in 0..5_u8 {
            kept().store(&disk, &[number; 60]).expect("in place");
            assert_eq!(stored(&disk), [number; 60]);
        }
        let too_long = kept().store(&disk, &[9; 2 * PAGE]).expect_err("it does not fit");
        assert!(is_only_space(&too_long));
        assert_eq!(stored(&disk), [4; 60], "the old one stands");
        disk.set_capacity(None);
        kept().store(&disk, &[9; 2 * PAGE]).expect("in a larger file");
        assert_eq!(stored(&disk), [9; 2 * PAGE]);
    }

    /// Cut short anywhere, by the power or by a kill that the power follows.
    #[test]
    fn a_crash_leaves_what_was_stored_or_what_was_to_be() {
        let mut cuts = 0;
        for seed in 0..400 {
            let disk = disk(seed);
            kept().store(&disk, &[1; 60]).expect("creates");
            kept().store(&disk, &[2; 60]).expect("stores");
            let mut expected = vec![vec![2; 60]];
            for round in 3..7_u8 {
                disk.fail_in(1 + (seed + u64::from(round)) % 12, Fault::Crash);
                let done = kept().store(&disk, &[round; 60]).is_ok();
                if done {
                    expected = vec![vec![round; 60]];
                } else {
                    cuts += 1;
                    expected.push(vec![round; 60]);
                }
                disk.clear_faults();
                disk.restart();
                let found = stored(&disk);
                assert!(expected.contains(&found), "seed {seed}, round {round}: {found:?}");
                let mut file = kept();
                file.settle(&disk).expect("settles");
                disk.restart();
                assert_eq!(stored(&disk), found, "what was acted on is there for good");
                expected = vec![found];
            }
        }
        assert!(cuts > 400, "{cuts}");
    }

    #[test]
    fn a_copy_that_rots_brings_nothing_older_back() {
        for place in [30, PAGE + 30] {
            let disk = disk(1);
            for number in 1..4_u8 {
                kept().store(&disk, &[number; 60]).expect("stores");
            }
            disk.damage(Path::new(FILE), |bytes| bytes[place] ^= 1);
            assert_eq!(stored(&disk), [3; 60]);
            kept().settle(&disk).expect("settles");
            disk.damage(Path::new(FILE), |bytes| bytes[PAGE + 30 - place + 30] ^= 1);
            assert_eq!(stored(&disk), [3; 60], "the other one was made good");
        }
        let disk = disk(1);
        kept().store(&disk, b"first").expect("stores");
        disk.damage(Path::new(FILE), |bytes| {
            bytes[22] ^= 1;
            bytes[PAGE + 22] ^= 1;
        });
        assert!(matches!(kept().load(&disk).expect("reads"), Content::Other(_)));
    }

    #[test]
    fn after_a_sync_that_failed_another_file_takes_its_place() {
        for seed in 0..50 {
            let disk = disk(seed);
            let mut file = kept();
            file.store(&disk, &[1; 60]).expect("creates");
            disk.fail_next(Operation::Sync, Fault::Io);
            file.store(&disk, &[2; 60]).expect_err("it failed");
            file.store(&disk, &[3; 60]).expect("in a new file");
            disk.restart();
            assert_eq!(stored(&disk), [3; 60]);
        }
    }
}
