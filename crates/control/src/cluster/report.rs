//! What a member says of itself.

use super::Cluster;
use crate::backups;
use log::Log;
use rt::{Disk, RealDisk};
use serde::{Deserialize, Serialize};
use std::path::Path;
use types::{Epoch, EventId, Index, Term, Timestamp};

/// How a member is, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberReport {
    /// Its release.
    pub version: String,
    /// How it takes part: leader, follower, learner, candidate, stopped.
    pub state: String,
    /// Whether it sequences.
    pub sequences: bool,
    /// The term it knows of.
    pub term: Term,
    /// The epoch it knows to be in force.
    pub epoch: Epoch,
    /// The last entry it knows to be committed.
    pub index: Index,
    /// The last event it knows to be committed.
    pub event: EventId,
    /// What its state and its views reflect.
    pub applied: EventId,
    /// Bytes left on the disk of its log.
    pub disk_free: Option<u64>,
    /// Its disk has nothing but the reserve left.
    pub short_of_space: bool,
    /// The event of its newest snapshot, and when that was made.
    pub snapshot: Option<(EventId, Timestamp)>,
    /// It sequences nothing until it learns a higher epoch.
    pub fenced: bool,
    /// Files of entries that it had and that were never committed.
    pub aside: Vec<String>,
    /// What is wrong there.
    pub trouble: Option<String>,
    /// How it is with the backups that it makes when it sequences; none if it was not told to.
    pub backup: Option<backups::Report>,
}

impl Cluster {
    /// How this member is.
    pub fn report(&self) -> MemberReport {
        let log = self.log();
        let (status, head) = (log.status(), log.head());
        let core = self.0.served.get().map(|(core, _)| core);
        let applied = core.map_or(EventId::ZERO, |core| core.state().head.min(*core.viewed().borrow()));
        let dir = self.0.data_dir.join("log");
        MemberReport {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: status.state.to_owned(),
            sequences: log.authority().borrow().is_some(),
            term: status.term,
            epoch: head.epoch,
            index: head.index,
            event: head.event,
            applied,
            disk_free: RealDisk.free_space(&dir).ok(),
            short_of_space: log.is_short_of_space(),
            snapshot: newest_snapshot(&dir.join("snapshots")),
            fenced: status.fenced.is_some(),
            aside: status.aside.iter().map(|aside| aside.path.display().to_string()).collect(),
            trouble: core.and_then(crate::Core::snapshot_trouble).or_else(|| self.damage()),
            backup: self.backups().map(backups::Backups::report),
        }
    }
}

/// The newest snapshot's event, which is its name, and its time.
fn newest_snapshot(dir: &Path) -> Option<(EventId, Timestamp)> {
    let names = RealDisk.list(dir).ok()?;
    let events =
        names.iter().filter_map(|name| name.strip_suffix(".snap")?.parse::<u64>().ok().zip(Some(name)));
    let (event, name) = events.max()?;
    let made = std::fs::metadata(dir.join(name)).ok()?.modified().ok()?;
    let since = made.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some((EventId::new(event), Timestamp::from_ms(u64::try_from(since.as_millis()).ok()?)))
}
