//! The small files of a log directory and the names of the large ones.
//!
//! `format` is text, for people too, and is written last when a log is created: without it there
//! is no log. `mark` and `committed` are binary, checksummed and replaced whole; `vote` is replaced in
//! place, because it must be possible without space.

use super::in_place::{Content, InPlace};
use crate::{Chain, Head};
use rt::{Disk, DiskError};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use types::{Epoch, EventId, Index, NodeId, Term};

/// The version of everything in the directory. Raised when any layout changes.
///
/// 2 has proposals among its entries, and the file `committed`. A directory of version 1 is read as it
/// is, and becomes one of version 2 when a member of a cluster opens it.
/// 3 is that of a log whose cluster was lost: its files are those of one cluster, and its members belong
/// to another. Written by a recovery only.
pub(super) const VERSION: u32 = 3;
/// The version of a member's log.
pub(super) const MEMBER: u32 = 2;
/// The version of a log of one machine, without consensus: still written, and the oldest that is read.
pub(super) const PLAIN: u32 = 1;
const TITLE: &str = "holdfast log";

pub(super) const FORMAT: &str = "format";
pub(super) const LOCK: &str = "lock";
pub(super) const VOTE: &str = "vote";
pub(super) const MARK: &str = "mark";
pub(super) const COMMITTED: &str = "committed";
pub(super) const ARCHIVE: &str = "archive";
pub(super) const SNAPSHOTS: &str = "snapshots";
const SEGMENT_SUFFIX: &str = ".seg";
const ARCHIVE_SUFFIX: &str = ".seg.zst";
const SNAPSHOT_SUFFIX: &str = ".snap";
/// What a file ends with while it is being written.
pub(super) const UNFINISHED: &str = ".new";

/// Why a log could not be created.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There is one.
    #[error("{} already holds a log", dir.display())]
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// There are files of a log, but not the one that says what it is.
    #[error(
        "{} holds segments of a log but no file `{FORMAT}`, so a new log would hide them; \
         bring that file back from a backup, or choose another directory", dir.display()
    )]
    Remains {
        /// The directory.
        dir: PathBuf,
    },
    /// The cluster's identity cannot be written down.
    #[error("the identity of a cluster is one line of 1 to 200 characters")]
    Identity,
    /// The disk did not do what was asked.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What the file `format` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub version: u32,
    pub cluster: String,
    pub node: NodeId,
    /// The cluster that the files were written in, if it was another.
    pub origin: Option<String>,
    /// A recovery that is not done yet.
    pub recovering: Option<Recovering>,
}

/// How a log whose cluster was lost begins anew: what is to stand behind its last entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Recovering {
    /// The last entry that there was.
    pub last: Index,
    /// Who the members are.
    pub members: Vec<u8>,
    /// Why the next epoch is opened.
    pub why: Vec<u8>,
}

impl Recovering {
    fn encode(&self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        format!("recovering {} {} {}.\n", self.last.get(), hex(&self.members), hex(&self.why))
    }

    fn decode(line: &str) -> Option<Self> {
        let bytes = |text: &str| {
            let digits = text.as_bytes().chunks(2).map(std::str::from_utf8);
            digits.map(|digits| u8::from_str_radix(digits.ok()?, 16).ok()).collect::<Option<Vec<u8>>>()
        };
        let mut parts = line.strip_prefix("recovering ")?.strip_suffix('.')?.split(' ');
        let last = Index::new(parts.next()?.parse().ok()?);
        Some(Self { last, members: bytes(parts.next()?)?, why: bytes(parts.next()?)? })
    }
}

/// What is wrong with the file `format`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FormatProblem {
    Newer(u32),
    Unreadable,
}

impl Format {
    /// A new log's.
    pub(super) fn new(version: u32, cluster: &str, node: NodeId) -> Self {
        Self { version, cluster: cluster.into(), node, origin: None, recovering: None }
    }

    /// Sixteen bytes that stand in every file, so that files of two logs cannot be mixed up.
    pub(super) fn log_id(&self) -> [u8; 16] {
        let origin = self.origin.as_ref().unwrap_or(&self.cluster);
        let hash: [u8; 32] = Sha256::digest(origin.as_bytes()).into();
        hash[..16].try_into().expect("a range of sixteen bytes")
    }

    pub(super) fn is_writable(&self) -> bool {
        (1..=200).contains(&self.cluster.len()) && !self.cluster.chars().any(char::is_control)
    }

    pub(super) fn encode(&self) -> String {
        let Self { version, cluster, node, origin, recovering } = self;
        let mut body = format!("{TITLE}\nversion {version}\ncluster {cluster}\nnode {node}\n");
        body.extend(origin.iter().map(|origin| format!("origin {origin}\n")));
        body.extend(recovering.iter().map(Recovering::encode));
        format!("{body}checksum {:08x}\n", crc32c::crc32c(body.as_bytes()))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, FormatProblem> {
        let text = std::str::from_utf8(bytes).map_err(|_| FormatProblem::Unreadable)?;
        let mut lines = text.lines();
        // The version comes before anything that a later version might write differently.
        let known_title = lines.next() == Some(TITLE);
        let version = lines.next().and_then(|line| line.strip_prefix("version ")?.parse::<u32>().ok());
        let version = match version {
            Some(version) if known_title && version > VERSION => return Err(FormatProblem::Newer(version)),
            Some(version) if known_title && version >= PLAIN => version,
            _ => return Err(FormatProblem::Unreadable),
        };
        let body_end = text.rfind("checksum ").ok_or(FormatProblem::Unreadable)?;
        let (body, checksum) = text.split_at(body_end);
        if checksum != format!("checksum {:08x}\n", crc32c::crc32c(body.as_bytes())) {
            return Err(FormatProblem::Unreadable);
        }
        let cluster = lines.next().and_then(|line| line.strip_prefix("cluster "));
        let node = lines.next().and_then(|line| line.strip_prefix("node ")?.parse().ok());
        let (Some(cluster), Some(node)) = (cluster, node) else { return Err(FormatProblem::Unreadable) };
        let mut format = Self::new(version, cluster, node);
        for line in lines.filter(|line| version > MEMBER && !line.starts_with("checksum ")) {
            if let Some(origin) = line.strip_prefix("origin ") {
                format.origin = Some(origin.into());
            } else {
                format.recovering = Some(Recovering::decode(line).ok_or(FormatProblem::Unreadable)?);
            }
        }
        Ok(format)
    }
}

/// The header of a segment file: what must have come before its first entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub log_id: [u8; 16],
    /// The head before its first entry.
    pub before: Head,
}

/// The size of the header of a segment.
pub(super) const SEGMENT_HEADER: usize = 128;
const SEGMENT_MAGIC: &[u8; 8] = b"HFSEG\0\0\x01";

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut out = [0; SEGMENT_HEADER];
        out[..8].copy_from_slice(SEGMENT_MAGIC);
        out[8..24].copy_from_slice(&self.log_id);
        put_head(&mut out[24..88], &self.before);
        let checksum = crc32c::crc32c(&out[..124]);
        out[124..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() < SEGMENT_HEADER {
            return Err("it is shorter than the header of a segment");
        }
        if &bytes[..8] != SEGMENT_MAGIC {
            return Err("it does not begin like a segment");
        }
        if crc32c::crc32c(&bytes[..124]).to_le_bytes() != bytes[124..SEGMENT_HEADER] {
            return Err("the checksum of its header does not match");
        }
        Ok(Self {
            log_id: bytes[8..24].try_into().expect("a range of sixteen bytes"),
            before: get_head(&bytes[24..88]),
        })
    }
}

/// A head takes this many bytes.
pub(super) const HEAD: usize = 64;

pub(super) fn put_head(out: &mut [u8], head: &Head) {
    out[..8].copy_from_slice(&head.index.get().to_le_bytes());
    out[8..16].copy_from_slice(&head.event.get().to_le_bytes());
    out[16..24].copy_from_slice(&head.term.get().to_le_bytes());
    out[24..32].copy_from_slice(&head.epoch.get().to_le_bytes());
    out[32..64].copy_from_slice(&head.chain);
}

pub(super) fn get_head(bytes: &[u8]) -> Head {
    let number =
        |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a range of eight bytes"));
    let chain: Chain = bytes[32..64].try_into().expect("a range of 32 bytes");
    Head {
        index: Index::new(number(0)),
        event: EventId::new(number(8)),
        term: Term::new(number(16)),
        epoch: Epoch::new(number(24)),
        chain,
    }
}

/// The head of a log before its first entry.
pub(super) const NOTHING: Head =
    Head { event: EventId::ZERO, index: Index::ZERO, term: Term::ZERO, epoch: Epoch::ZERO, chain: [0; 32] };

/// A node's vote in an election. A log on one disk never votes; the place is in the format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// The term voted in.
    pub term: Term,
    /// For whom.
    pub voted_for: Option<NodeId>,
}

/// Why the vote could not be read.
#[derive(Debug, thiserror::Error)]
pub enum VoteError {
    /// It is there and not readable. Voting again could elect two leaders.
    #[error("{} is damaged; this node must not vote: remove it from the cluster and join it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// There is none, and this member has promised some.
    #[error("{} is gone; this node must not vote: remove it from the cluster and join it again", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The disk did not do what was asked.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// How many bytes a vote takes: term, whether there is one, and for whom.
const VOTE_BYTES: usize = 8 + 1 + 16;
const VOTE_MAGIC: &[u8; 8] = b"HFVOTE\0\x02";
/// A vote as older programs stored it: in a file that is replaced whole.
const VOTE_MAGIC_1: &[u8; 8] = b"HFVOTE\0\x01";
const MARK_MAGIC: &[u8; 8] = b"HFMARK\0\x01";
const COMMITTED_MAGIC: &[u8; 8] = b"HFCOMM\0\x01";

pub(super) fn checked(magic: &[u8; 8], body: &[u8]) -> Vec<u8> {
    let mut out = [magic.as_slice(), body].concat();
    let checksum = crc32c::crc32c(&out);
    out.extend_from_slice(&checksum.to_le_bytes());
    out
}

pub(super) fn unchecked<'a>(magic: &[u8; 8], bytes: &'a [u8], size: usize) -> Option<&'a [u8]> {
    let (content, checksum) = bytes.split_at_checked(8 + size)?;
    let good = content[..8] == *magic && crc32c::crc32c(content).to_le_bytes() == *checksum;
    good.then_some(&content[8..])
}

impl Vote {
    fn file(dir: &Path) -> InPlace {
        InPlace::new(&dir.join(VOTE), VOTE_MAGIC, VOTE_BYTES)
    }

    /// Durable when it returns. Needs no space once a vote was stored.
    pub(super) fn save(&self, disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
        let mut body = [0; VOTE_BYTES];
        body[..8].copy_from_slice(&self.term.get().to_le_bytes());
        if let Some(node) = self.voted_for {
            body[8] = 1;
            body[9..].copy_from_slice(&node.as_u128().to_le_bytes());
        }
        Self::file(dir).store(disk, &body)
    }

    pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Result<Self, VoteError> {
        Ok(Self::load_any(disk, dir)?.0)
    }

    /// That of a member that was started before: each start sees to it that there is one.
    pub(super) fn load_existing(disk: &dyn Disk, dir: &Path) -> Result<Self, VoteError> {
        let path = dir.join(VOTE);
        if !disk.exists(&path)? {
            return Err(VoteError::Missing { path });
        }
        Self::load(disk, dir)
    }

    /// The vote, and whether it is stored in a place of its own.
    fn load_any(disk: &dyn Disk, dir: &Path) -> Result<(Self, bool), VoteError> {
        let file = Self::file(dir);
        let damaged = || VoteError::Damaged { path: file.path().into() };
        match file.load(disk)? {
            Content::Missing => Ok((Self::default(), false)),
            Content::Stored(body) => Ok((Self::decode(&body).ok_or_else(damaged)?, true)),
            Content::Other(bytes) => {
                let body = unchecked(VOTE_MAGIC_1, &bytes, VOTE_BYTES).ok_or_else(damaged)?;
                Ok((Self::decode(body).ok_or_else(damaged)?, false))
            }
        }
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let term = u64::from_le_bytes(body.get(..8)?.try_into().ok()?);
        let node = u128::from_le_bytes(body.get(9..VOTE_BYTES)?.try_into().ok()?);
        let voted_for = (body[8] == 1).then(|| NodeId::from_u128(node));
        Some(Self { term: Term::new(term), voted_for })
    }

    /// Sees to it that the vote is durable, and has a place in which the next ones need no space.
    pub(super) fn settle(disk: &dyn Disk, dir: &Path) -> Result<Self, VoteError> {
        let (vote, has_place) = Self::load_any(disk, dir)?;
        match has_place {
            true => Self::file(dir).settle(disk)?,
            false => vote.save(disk, dir)?,
        }
        Ok(vote)
    }
}

/// Notes that the log was durable up to this head.
pub(super) fn save_mark(disk: &dyn Disk, dir: &Path, head: &Head) -> Result<(), DiskError> {
    let mut body = [0; HEAD];
    put_head(&mut body, head);
    rt::replace_file(disk, &dir.join(MARK), &checked(MARK_MAGIC, &body))
}

/// The noted head. A missing or damaged mark only makes recovery less strict, so it is no error.
pub(super) fn load_mark(disk: &dyn Disk, dir: &Path) -> Result<Option<Head>, DiskError> {
    match disk.read(&dir.join(MARK)) {
        Ok(bytes) => Ok(unchecked(MARK_MAGIC, &bytes, HEAD).map(get_head)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is noted of the cluster's commits. One file, replaced whole: where the log was committed, and
/// who the members were there, can never be of two moments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CommittedNote {
    /// Up to here the log is committed for certain.
    pub head: Head,
    /// The last entry up to there that says who the members are.
    pub members: Option<MembersNote>,
}

/// The entry that made the members what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MembersNote {
    pub index: Index,
    pub term: Term,
    pub leader: NodeId,
    pub payload: bytes::Bytes,
}

impl CommittedNote {
    pub(super) fn save(&self, disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
        let mut body = vec![0; HEAD];
        put_head(&mut body, &self.head);
        if let Some(MembersNote { index, term, leader, payload }) = &self.members {
            body.extend_from_slice(&index.get().to_le_bytes());
            body.extend_from_slice(&term.get().to_le_bytes());
            body.extend_from_slice(&leader.as_u128().to_le_bytes());
            body.extend_from_slice(payload);
        }
        rt::replace_file(disk, &dir.join(COMMITTED), &checked(COMMITTED_MAGIC, &body))
    }

    /// What was noted. The note is only a shortcut: without it, or with a damaged one, the archive and
    /// the snapshots say how much was committed at least, and consensus commits the rest anew.
    pub(super) fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, DiskError> {
        let path = dir.join(COMMITTED);
        let bytes = match disk.read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error),
        };
        let body = bytes.len().checked_sub(12).and_then(|size| unchecked(COMMITTED_MAGIC, &bytes, size));
        let note = body.and_then(Self::decode);
        if note.is_none() {
            tracing::warn!(file = %path.display(), "damaged: what it noted is learned anew");
        }
        Ok(note)
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let (head, rest) = body.split_at_checked(HEAD)?;
        let head = get_head(head);
        if rest.is_empty() {
            return Some(Self { head, members: None });
        }
        let (place, payload) = rest.split_at_checked(32)?;
        let number =
            |at: usize| u64::from_le_bytes(place[at..at + 8].try_into().expect("a range of eight bytes"));
        let leader = u128::from_le_bytes(place[16..].try_into().expect("a range of sixteen bytes"));
        let members = MembersNote {
            index: Index::new(number(0)),
            term: Term::new(number(8)),
            leader: NodeId::from_u128(leader),
            payload: payload.to_vec().into(),
        };
        Some(Self { head, members: Some(members) })
    }
}

pub(super) fn segment_path(dir: &Path, first: Index) -> PathBuf {
    dir.join(format!("{:020}{SEGMENT_SUFFIX}", first.get()))
}

pub(super) fn archive_path(dir: &Path, first: Index) -> PathBuf {
    dir.join(ARCHIVE).join(format!("{:020}{ARCHIVE_SUFFIX}", first.get()))
}

pub(super) fn snapshot_path(dir: &Path, at: EventId) -> PathBuf {
    dir.join(SNAPSHOTS).join(format!("{:020}{SNAPSHOT_SUFFIX}", at.get()))
}

/// The large files of a log directory, by their names alone.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub segments: Vec<Index>,
    pub archived: Vec<Index>,
    pub snapshots: Vec<EventId>,
    pub unfinished: Vec<PathBuf>,
}

impl Inventory {
    /// The plain segments in one directory.
    pub(super) fn take_segments(disk: &dyn Disk, place: &Path) -> Result<Vec<Index>, DiskError> {
        let names = match disk.list(place) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            names => names?,
        };
        let number = |name: &String| name.strip_suffix(SEGMENT_SUFFIX)?.parse().ok().map(Index::new);
        let mut found: Vec<Index> = names.iter().filter_map(number).collect();
        found.sort();
        Ok(found)
    }

    pub(super) fn take(disk: &dyn Disk, dir: &Path) -> Result<Self, DiskError> {
        let mut all = Self::default();
        for place in [dir.to_path_buf(), dir.join(ARCHIVE), dir.join(SNAPSHOTS)] {
            for name in disk.list(&place)? {
                let number = |suffix| name.strip_suffix(suffix)?.parse::<u64>().ok();
                if name.ends_with(UNFINISHED) {
                    all.unfinished.push(place.join(&name));
                } else if let Some(first) = number(SEGMENT_SUFFIX) {
                    all.segments.push(Index::new(first));
                } else if let Some(first) = number(ARCHIVE_SUFFIX) {
                    all.archived.push(Index::new(first));
                } else if let Some(at) = number(SNAPSHOT_SUFFIX) {
                    all.snapshots.push(EventId::new(at));
                }
            }
        }
        // Names have leading zeroes, but a name brought in by hand may not.
        all.segments.sort();
        all.archived.sort();
        all.snapshots.sort();
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_reads_as_it_was_written_and_a_newer_one_is_named() {
        let recovering = Recovering { last: Index::new(7), members: vec![1, 255], why: Vec::new() };
        let format = Format {
            origin: Some("the one before".into()),
            recovering: Some(recovering),
            ..Format::new(VERSION, "demo of 2026", NodeId::from_u128(7))
        };
        let text = format.encode();
        assert_eq!(Format::decode(text.as_bytes()), Ok(format));
        let newer = text.replace("version 3", "version 4");
        assert_eq!(Format::decode(newer.as_bytes()), Err(FormatProblem::Newer(4)));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(Format::decode(&bytes).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_damaged_vote_is_not_taken_for_none() {
        let disk = rt::SimDisk::new(1);
        let dir = Path::new("/log");
        disk.create_dir(dir).expect("creates");
        assert_eq!(Vote::load(&disk, dir).expect("none yet"), Vote::default());
        let vote = Vote { term: Term::new(9), voted_for: Some(NodeId::from_u128(3)) };
        vote.save(&disk, dir).expect("saves");
        disk.restart();
        assert_eq!(Vote::load(&disk, dir).expect("loads"), vote);
        disk.damage(&dir.join(VOTE), |bytes| bytes[20] ^= 1);
        assert_eq!(Vote::load(&disk, dir).expect("its other copy is good"), vote);
        disk.damage(&dir.join(VOTE), |bytes| bytes.fill(1));
        assert!(matches!(Vote::load(&disk, dir), Err(VoteError::Damaged { .. })));
    }

    #[test]
    fn a_vote_of_an_older_program_is_read_and_gets_a_place_of_its_own() {
        let disk = rt::SimDisk::new(1);
        let dir = Path::new("/log");
        disk.create_dir(dir).expect("creates");
        let vote = Vote { term: Term::new(9), voted_for: Some(NodeId::from_u128(3)) };
        let body = [&9_u64.to_le_bytes()[..], &[1], &3_u128.to_le_bytes()].concat();
        let old = checked(VOTE_MAGIC_1, &body);
        rt::replace_file(&disk, &dir.join(VOTE), &old).expect("as it was stored");
        assert_eq!(Vote::load(&disk, dir).expect("loads"), vote);
        assert_eq!(Vote::settle(&disk, dir).expect("settles"), vote);
        disk.set_capacity(Some(disk.used()));
        let next = Vote { term: Term::new(10), voted_for: None };
        next.save(&disk, dir).expect("needs no space");
        disk.restart();
        assert_eq!(Vote::load(&disk, dir).expect("loads"), next);
        disk.damage(&dir.join(VOTE), |bytes| *bytes = [&old[..20], &[0; 17]].concat());
        assert!(matches!(Vote::load(&disk, dir), Err(VoteError::Damaged { .. })));
    }
}
