//! Which life of a member speaks: a counter that rises whenever its log is opened, with a random part; and
//! what the member had when that life began.
//!
//! A member that is started from an older copy of its directory has forgotten what it promised. Two things
//! show it, and either is enough for it not to be heard:
//!
//! - Its counter: each member keeps, durably, the highest that it has seen of every other, and hears nothing
//!   that is older. Of two copies that run at once, the first that is heard is the one.
//! - What it has: whoever was promised a vote or acknowledged an entry remembers it, and a life that begins
//!   with less is refused, however late it is.
//!
//! A member that was only cut short by a crash is never refused: what it promised was durable before it said
//! so. Its log may have become shorter since, but only under a leader of a later term, whose term it has voted
//! for by then; so what is compared is the last vote first, and the end of the log for an equal one.
//!
//! What is remembered of promises is noted on disk together with lives, and at an orderly stop. A peer that
//! crashes may have forgotten some, and one that was away never knew: it believes an older copy.

use super::{
    format::unchecked,
    in_place::{Content, InPlace},
    recover::OpenError,
};
use rt::{Disk, DiskError};
use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};
use types::{Index, NodeId, Term};

const FILE: &str = "incarnation";
const MAGIC: &[u8; 8] = b"HFINCA\0\x02";
/// As older programs stored it: lives alone, in a file that is replaced whole.
const MAGIC_1: &[u8; 8] = b"HFINCA\0\x01";
const LIFE: usize = 8 + 16;
const PROMISE: usize = 8 + 8;
/// A node, its life, what it promised, and a life of it that was refused.
const OTHER: usize = 16 + LIFE + PROMISE + LIFE;
/// A new file has place for so many others.
const OTHERS: usize = 48;

/// A life of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incarnation {
    /// How often its log has been opened.
    pub count: u64,
    /// Tells apart two copies of one directory that were opened equally often.
    pub nonce: u128,
}

/// What a member has, or has promised to have: a vote in this term or later, and, for as long as that is its
/// last vote, a log that reaches this entry. The order is that of having more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Has {
    /// The term of its last vote.
    pub vote: Term,
    /// The last entry.
    pub entry: Index,
}

impl fmt::Display for Has {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a vote in term {} and entries up to {}", self.vote, self.entry)
    }
}

/// Why a member is not heard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// It has lived on since.
    #[error(
        "node {node} was started from an older copy of its directory: this is its start {count}, and start \
         {seen} has been heard; remove it from the cluster and let it join as a new member"
    )]
    Older {
        /// Who.
        node: NodeId,
        /// Of which start the message is.
        count: u64,
        /// Which was heard.
        seen: u64,
    },
    /// Another copy of it was heard first.
    #[error("node {node} runs twice: another copy of its directory was started and heard first")]
    Twin {
        /// Who.
        node: NodeId,
    },
    /// It had more.
    #[error(
        "node {node} was started from an older copy of its directory: it had {promised}, and began its start \
         {count} with less; remove it from the cluster and let it join as a new member"
    )]
    Forgot {
        /// Who.
        node: NodeId,
        /// Of which start the message is.
        count: u64,
        /// What it is known to have had.
        promised: Has,
    },
    /// What is heard first of a new life must be noted first.
    #[error("the new start of node {node} cannot be noted: {why}")]
    NotNoted {
        /// Who.
        node: NodeId,
        /// What the disk said.
        why: String,
    },
}

impl Stale {
    /// Whether it is the member itself that cannot be heard, now and ever.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::NotNoted { .. })
    }
}

/// What is known of another member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Other {
    heard: Incarnation,
    promised: Has,
    refused: Incarnation,
}

impl Other {
    /// Whether this life may be heard without anything being noted; `None` if it must be looked at.
    fn known(&self, node: NodeId, life: Incarnation) -> Option<Result<(), Stale>> {
        let count = life.count;
        if life == self.heard {
            Some(Ok(()))
        } else if count < self.heard.count {
            Some(Err(Stale::Older { node, count, seen: self.heard.count }))
        } else if count == self.heard.count {
            Some(Err(Stale::Twin { node }))
        } else if life == self.refused {
            Some(Err(Stale::Forgot { node, count, promised: self.promised }))
        } else {
            None
        }
    }
}

/// This member's life and those of the others it has heard.
pub struct Incarnations {
    disk: Arc<dyn Disk>,
    own: Incarnation,
    /// What this member had when this life began.
    began: Has,
    /// Never held while the disk is waited for.
    others: Mutex<BTreeMap<NodeId, Other>>,
    /// Where it is noted; held while something is.
    file: Mutex<InPlace>,
}

impl fmt::Debug for Incarnations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incarnations").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Incarnations {
    /// What is kept in this directory, before this life has begun.
    pub(super) fn load(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, OpenError> {
        let file = InPlace::new(&dir.join(FILE), MAGIC, LIFE + OTHERS * OTHER);
        let found = match file.load(&*disk)? {
            Content::Missing => Some(Default::default()),
            Content::Stored(body) => decode(&body),
            Content::Other(bytes) => decode_1(&bytes),
        };
        let (own, others) = found.ok_or_else(|| OpenError::FormatDamaged { path: file.path().into() })?;
        let (others, file) = (Mutex::new(others), Mutex::new(file));
        Ok(Self { disk, own, began: Has::default(), others, file })
    }

    /// Begins this life, in which this member begins with `has`. Durable when it returns; repeated after a
    /// failure it is the same life.
    pub(super) fn begin(&mut self, nonce: u128, has: Has) -> Result<(), DiskError> {
        let own = Incarnation { count: self.own.count + 1, nonce };
        let others = self.others().clone();
        self.file().store(&*self.disk, &encode(&own, &others))?;
        (self.own, self.began) = (own, has);
        Ok(())
    }

    /// This member's life.
    pub fn own(&self) -> Incarnation {
        self.own
    }

    /// What this member had when this life began.
    pub fn began(&self) -> Has {
        self.began
    }

    /// Whether a member in this life may be heard, if that is known: never waits for the disk.
    pub fn known(&self, node: NodeId, life: Incarnation) -> Option<Result<(), Stale>> {
        self.others().get(&node).copied().unwrap_or_default().known(node, life)
    }

    /// Whether a member may be heard in this life, which it began with `has`. A later life than any that
    /// was heard is noted first, durably, and so is its refusal; so this may block for as long as a sync
    /// takes. That is once for each start of a member.
    ///
    /// # Errors
    /// It may not, and why.
    pub fn admit(&self, node: NodeId, life: Incarnation, has: Has) -> Result<(), Stale> {
        let mut file = self.file();
        let mut others = self.others().clone();
        let other = others.entry(node).or_default();
        if let Some(known) = other.known(node, life) {
            return known;
        }
        let promised = other.promised;
        let forgot = (has < promised).then_some(Stale::Forgot { node, count: life.count, promised });
        match &forgot {
            Some(_) => other.refused = life,
            None => other.heard = life,
        }
        let noted = file.store(&*self.disk, &encode(&self.own, &others));
        if let Some(forgot) = forgot {
            if let Err(error) = noted {
                tracing::warn!(%error, "that a member is refused could not be noted");
            }
            self.others().entry(node).or_default().refused = life;
            return Err(forgot);
        }
        noted.map_err(|error| Stale::NotNoted { node, why: error.to_string() })?;
        self.others().entry(node).or_default().heard = life;
        Ok(())
    }

    /// Remembers that a member has this: it has said so, after it was durable there.
    pub fn promised(&self, node: NodeId, has: Has) {
        let mut others = self.others();
        let other = others.entry(node).or_default();
        other.promised = other.promised.max(has);
    }

    /// Notes what is remembered.
    ///
    /// # Errors
    /// The disk failed; what was noted before may be all that is.
    pub(super) fn note(&self) -> Result<(), DiskError> {
        let mut file = self.file();
        let others = self.others().clone();
        match others.is_empty() {
            true => Ok(()),
            false => file.store(&*self.disk, &encode(&self.own, &others)),
        }
    }

    fn others(&self) -> MutexGuard<'_, BTreeMap<NodeId, Other>> {
        self.others.lock().expect("no code panics while it holds this lock")
    }

    fn file(&self) -> MutexGuard<'_, InPlace> {
        self.file.lock().expect("no code panics while it holds this lock")
    }
}

fn encode(own: &Incarnation, others: &BTreeMap<NodeId, Other>) -> Vec<u8> {
    fn put(body: &mut Vec<u8>, life: &Incarnation) {
        body.extend_from_slice(&life.count.to_le_bytes());
        body.extend_from_slice(&life.nonce.to_le_bytes());
    }
    let mut body = Vec::with_capacity(LIFE + others.len() * OTHER);
    put(&mut body, own);
    for (node, Other { heard, promised, refused }) in others {
        body.extend_from_slice(&node.as_u128().to_le_bytes());
        put(&mut body, heard);
        body.extend_from_slice(&promised.vote.get().to_le_bytes());
        body.extend_from_slice(&promised.entry.get().to_le_bytes());
        put(&mut body, refused);
    }
    body
}

type Known = (Incarnation, BTreeMap<NodeId, Other>);

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?))
}

fn node(bytes: &[u8]) -> Option<NodeId> {
    Some(NodeId::from_u128(u128::from_le_bytes(bytes.get(..16)?.try_into().ok()?)))
}

fn life(bytes: &[u8]) -> Option<Incarnation> {
    Some(Incarnation { count: number(bytes)?, nonce: node(bytes.get(8..)?)?.as_u128() })
}

fn decode(body: &[u8]) -> Option<Known> {
    let (own, rest) = body.split_at_checked(LIFE)?;
    let others = rest.chunks(OTHER).map(|bytes| {
        let (heard, rest) = bytes.get(16..)?.split_at_checked(LIFE)?;
        let promised = Has { vote: Term::new(number(rest)?), entry: Index::new(number(rest.get(8..)?)?) };
        let refused = life(rest.get(PROMISE..)?)?;
        Some((node(bytes)?, Other { heard: life(heard)?, promised, refused }))
    });
    Some((life(own)?, others.collect::<Option<_>>()?))
}

/// From what an older program stored.
fn decode_1(bytes: &[u8]) -> Option<Known> {
    let body = unchecked(MAGIC_1, bytes, bytes.len().checked_sub(12)?)?;
    let (own, rest) = body.split_at_checked(LIFE)?;
    let others = rest.chunks(16 + LIFE).map(|bytes| {
        let heard = life(bytes.get(16..)?)?;
        Some((node(bytes)?, Other { heard, ..Other::default() }))
    });
    Some((life(own)?, others.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::{super::format::checked, *};
    use rt::SimDisk;

    const DIR: &str = "/log";

    fn disk() -> SimDisk {
        let disk = SimDisk::new(1);
        disk.create_dir(Path::new(DIR)).expect("creates");
        disk
    }

    fn begun(disk: &SimDisk, nonce: u128) -> Incarnations {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut lives = Incarnations::load(shared, Path::new(DIR)).expect("loads");
        lives.begin(nonce, Has::default()).expect("begins");
        lives
    }

    fn life(count: u64, nonce: u128) -> Incarnation {
        Incarnation { count, nonce }
    }

    fn has(vote: u64, entry: u64) -> Has {
        Has { vote: Term::new(vote), entry: Index::new(entry) }
    }

    #[test]
    fn a_member_from_an_older_copy_is_not_heard_after_any_restart() {
        let disk = disk();
        let node = NodeId::from_u128(2);
        let lives = begun(&disk, 7);
        let admit = |lives: &Incarnations, life| lives.admit(node, life, has(1, 1));
        assert_eq!(lives.own(), life(1, 7));
        assert_eq!(admit(&lives, life(3, 1)), Ok(()));
        assert_eq!(admit(&lives, life(3, 1)), Ok(()));
        disk.restart();
        let lives = begun(&disk, 8);
        assert_eq!(lives.own(), life(2, 8));
        assert_eq!(admit(&lives, life(3, 2)), Err(Stale::Twin { node }));
        assert_eq!(admit(&lives, life(2, 1)), Err(Stale::Older { node, count: 2, seen: 3 }));
        assert_eq!(admit(&lives, life(4, 2)), Ok(()), "it was started again");
        assert_eq!(admit(&lives, life(3, 1)), Err(Stale::Older { node, count: 3, seen: 4 }));
        disk.damage(&Path::new(DIR).join(FILE), |bytes| bytes.fill(1));
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let damaged = Incarnations::load(shared, Path::new(DIR));
        assert!(matches!(damaged, Err(OpenError::FormatDamaged { .. })));
    }

    #[test]
    fn whoever_begins_with_less_than_it_had_is_refused_however_late_its_life_is() {
        let disk = disk();
        let node = NodeId::from_u128(2);
        let lives = begun(&disk, 7);
        assert_eq!(lives.admit(node, life(5, 1), has(3, 10)), Ok(()));
        lives.promised(node, has(4, 20));
        lives.promised(node, has(3, 90));
        for (count, less) in [(6, has(3, 90)), (7, has(4, 19)), (8, has(0, 0))] {
            let forgot = Stale::Forgot { node, count, promised: has(4, 20) };
            assert_eq!(lives.admit(node, life(count, 9), less), Err(forgot.clone()));
            let again = lives.admit(node, life(count, 9), has(9, 99));
            assert_eq!(again, Err(forgot), "its words do not become better");
        }
        assert_eq!(lives.admit(node, life(5, 1), has(3, 10)), Ok(()), "the life that was heard goes on");
        let forgot = |count| Err(Stale::Forgot { node, count, promised: has(4, 20) });
        assert_eq!(lives.known(node, life(8, 9)), Some(forgot(8)));
        disk.restart();
        let lives = begun(&disk, 8);
        assert_eq!(lives.admit(node, life(8, 9), has(9, 99)), forgot(8), "noted");
        assert_eq!(lives.admit(node, life(9, 9), has(4, 19)), forgot(9));
        // Under a leader of a later term a log may have become shorter.
        assert_eq!(lives.admit(node, life(9, 3), has(5, 2)), Ok(()));
        assert_eq!(lives.admit(node, life(10, 3), has(5, 2)), Ok(()));
    }

    #[test]
    fn what_is_remembered_is_noted_at_a_stop() {
        let disk = disk();
        let node = NodeId::from_u128(2);
        let lives = begun(&disk, 7);
        lives.promised(node, has(4, 20));
        lives.note().expect("noted");
        disk.restart();
        let refused = begun(&disk, 8).admit(node, life(1, 1), has(4, 19));
        assert!(matches!(refused, Err(Stale::Forgot { .. })), "{refused:?}");
    }

    #[test]
    fn a_new_life_needs_no_space() {
        let disk = disk();
        let node = |number| NodeId::from_u128(number);
        drop(begun(&disk, 7));
        disk.set_capacity(Some(disk.used()));
        let lives = begun(&disk, 8);
        for number in 1..=OTHERS as u128 {
            assert_eq!(lives.admit(node(number), life(1, 1), has(0, 0)), Ok(()));
        }
        disk.restart();
        assert_eq!(begun(&disk, 9).own(), life(3, 9));
    }

    #[test]
    fn lives_that_an_older_program_noted_are_read() {
        let disk = disk();
        let node = NodeId::from_u128(2);
        let put = |life: Incarnation| [&life.count.to_le_bytes()[..], &life.nonce.to_le_bytes()].concat();
        let body = [put(life(6, 1)), node.as_u128().to_le_bytes().to_vec(), put(life(3, 2))].concat();
        let path = Path::new(DIR).join(FILE);
        rt::replace_file(&disk, &path, &checked(MAGIC_1, &body)).expect("as it was stored");
        let lives = begun(&disk, 7);
        assert_eq!(lives.own(), life(7, 7));
        assert_eq!(lives.known(node, life(3, 2)), Some(Ok(())));
        assert_eq!(lives.known(node, life(3, 1)), Some(Err(Stale::Twin { node })));
    }
}
