//! Which life of a member speaks: a counter that rises whenever its log is opened, with a random part.
//!
//! A member that is started from an older copy of its directory has forgotten what it promised. Its
//! counter shows it: each member keeps, durably, the highest that it has seen of every other, and hears
//! nothing that is older. Of two copies that run at once, the first that is heard is the one.

use super::{
    format::{checked, unchecked},
    recover::OpenError,
};
use rt::{Disk, DiskError};
use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};
use types::NodeId;

const FILE: &str = "incarnation";
const MAGIC: &[u8; 8] = b"HFINCA\0\x01";
const LIFE: usize = 8 + 16;

/// A life of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Incarnation {
    /// How often its log has been opened.
    pub count: u64,
    /// Tells apart two copies of one directory that were opened equally often.
    pub nonce: u128,
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
    /// What is heard first of a new life must be noted first.
    #[error("the new start of node {node} cannot be noted: {why}")]
    NotNoted {
        /// Who.
        node: NodeId,
        /// What the disk said.
        why: String,
    },
}

/// This member's life and those of the others it has heard.
pub struct Incarnations {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    own: Incarnation,
    seen: Mutex<BTreeMap<NodeId, Incarnation>>,
}

impl fmt::Debug for Incarnations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incarnations").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Incarnations {
    /// What is kept in this directory, before this life has begun.
    pub(super) fn load(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(FILE);
        let (own, seen) = match disk.read(&path) {
            Ok(bytes) => decode(&bytes).ok_or_else(|| OpenError::FormatDamaged { path: path.clone() })?,
            Err(error) if error.is_not_found() => Default::default(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { disk, path, own, seen: Mutex::new(seen) })
    }

    /// Begins this life. Durable when it returns; repeated after a failure it is the same life.
    pub(super) fn begin(&mut self, nonce: u128) -> Result<(), DiskError> {
        let own = Incarnation { count: self.own.count + 1, nonce };
        let seen = self.seen.get_mut().expect("no code panics while it holds this lock");
        rt::replace_file(&*self.disk, &self.path, &encode(&own, seen))?;
        self.own = own;
        Ok(())
    }

    /// This member's life.
    pub fn own(&self) -> Incarnation {
        self.own
    }

    /// Whether a member in this life may be heard. A later life than any that was heard is noted first,
    /// durably, so this may block for as long as a sync takes; that is once for each start of a member.
    ///
    /// # Errors
    /// It may not, and why.
    pub fn admit(&self, node: NodeId, life: Incarnation) -> Result<(), Stale> {
        let mut seen = self.seen.lock().expect("no code panics while it holds this lock");
        let known = seen.get(&node).copied().unwrap_or_default();
        if life == known {
            return Ok(());
        }
        if life.count < known.count {
            return Err(Stale::Older { node, count: life.count, seen: known.count });
        }
        if life.count == known.count {
            return Err(Stale::Twin { node });
        }
        let mut next = seen.clone();
        next.insert(node, life);
        let noted = rt::replace_file(&*self.disk, &self.path, &encode(&self.own, &next));
        noted.map_err(|error| Stale::NotNoted { node, why: error.to_string() })?;
        *seen = next;
        Ok(())
    }
}

fn encode(own: &Incarnation, seen: &BTreeMap<NodeId, Incarnation>) -> Vec<u8> {
    let mut body = Vec::with_capacity(LIFE + seen.len() * (16 + LIFE));
    let mut put = |life: &Incarnation| {
        body.extend_from_slice(&life.count.to_le_bytes());
        body.extend_from_slice(&life.nonce.to_le_bytes());
    };
    put(own);
    for (node, life) in seen {
        body.extend_from_slice(&node.as_u128().to_le_bytes());
        body.extend_from_slice(&life.count.to_le_bytes());
        body.extend_from_slice(&life.nonce.to_le_bytes());
    }
    checked(MAGIC, &body)
}

fn decode(bytes: &[u8]) -> Option<(Incarnation, BTreeMap<NodeId, Incarnation>)> {
    let body = unchecked(MAGIC, bytes, bytes.len().checked_sub(12)?)?;
    let life = |bytes: &[u8]| {
        let count = u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?);
        let nonce = u128::from_le_bytes(bytes.get(8..LIFE)?.try_into().ok()?);
        Some(Incarnation { count, nonce })
    };
    let (own, rest) = body.split_at_checked(LIFE)?;
    let seen = rest.chunks(16 + LIFE).map(|other| {
        let node = u128::from_le_bytes(other.get(..16)?.try_into().ok()?);
        Some((NodeId::from_u128(node), life(&other[16..])?))
    });
    Some((life(own)?, seen.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt::SimDisk;

    fn begun(disk: &SimDisk, nonce: u128) -> Incarnations {
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let mut lives = Incarnations::load(shared, Path::new("/log")).expect("loads");
        lives.begin(nonce).expect("begins");
        lives
    }

    #[test]
    fn a_member_from_an_older_copy_is_not_heard_after_any_restart() {
        let disk = SimDisk::new(1);
        disk.create_dir(Path::new("/log")).expect("creates");
        let node = NodeId::from_u128(2);
        let life = |count, nonce| Incarnation { count, nonce };
        let lives = begun(&disk, 7);
        assert_eq!(lives.own(), life(1, 7));
        assert_eq!(lives.admit(node, life(3, 1)), Ok(()));
        assert_eq!(lives.admit(node, life(3, 1)), Ok(()));
        disk.restart();
        let lives = begun(&disk, 8);
        assert_eq!(lives.own(), life(2, 8));
        assert_eq!(lives.admit(node, life(3, 2)), Err(Stale::Twin { node }));
        assert_eq!(lives.admit(node, life(2, 1)), Err(Stale::Older { node, count: 2, seen: 3 }));
        assert_eq!(lives.admit(node, life(4, 2)), Ok(()), "it was started again");
        assert_eq!(lives.admit(node, life(3, 1)), Err(Stale::Older { node, count: 3, seen: 4 }));
        disk.damage(&Path::new("/log").join(FILE), |bytes| bytes[10] ^= 1);
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let damaged = Incarnations::load(shared, Path::new("/log"));
        assert!(matches!(damaged, Err(OpenError::FormatDamaged { .. })));
    }
}
