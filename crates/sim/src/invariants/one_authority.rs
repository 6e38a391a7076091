//! `one_authority`: at most one node can commit in an epoch; nothing of a lower epoch can be committed
//! after a higher one.

use crate::{Violation, cluster::Told};
use bytes::Bytes;
use log::{EntryHeader, Kind, wal::read_epoch};
use types::{Epoch, EventId, NodeId, Term};

/// The invariant's name.
pub const NAME: &str = "one_authority";

/// What an entry of the log says about authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The term it was made in.
    pub term: Term,
    /// Who led that term.
    pub leader: NodeId,
    /// The epoch in force.
    pub epoch: Epoch,
    /// Its last event, or the last before it.
    pub last: EventId,
    /// How many events it has.
    pub events: u32,
    /// Who sequences, if it opens an epoch.
    pub opens: Option<NodeId>,
    /// What else it says, if it opens an epoch.
    pub why: String,
}

impl Entry {
    /// From an entry as it is stored.
    pub fn of(header: &EntryHeader, parts: &[Bytes]) -> Self {
        let payload = parts.first().filter(|_| header.kind == Kind::Epoch);
        let (opens, why) = payload.and_then(read_epoch).unzip();
        Self {
            term: header.term,
            leader: header.leader,
            epoch: header.epoch,
            last: header.last(),
            events: header.count,
            opens,
            why: String::from_utf8_lossy(&why.unwrap_or_default()).into_owned(),
        }
    }
}

/// Holds the committed entries of a member, from the first on, against every claim that was made.
///
/// # Errors
/// What does not hold.
pub fn check(told: &Told, entries: &[Entry]) -> Result<(), Violation> {
    let broken = |what: String| Err(Violation::new(NAME, what));
    let mut epoch = Epoch::ZERO;
    let mut holder = None;
    for entry in entries {
        if let Some(node) = entry.opens {
            if entry.epoch != epoch.plus(1) {
                return broken(format!("epoch {} comes after {epoch}", entry.epoch));
            }
            if entry.leader != node {
                return broken(format!(
                    "{} opened epoch {} in the name of {node}",
                    entry.leader, entry.epoch
                ));
            }
            (epoch, holder) = (entry.epoch, Some((node, entry.term)));
            if let Some(claim) = told.claims.get(&epoch)
                && (claim.node, claim.term) != (node, entry.term)
            {
                return broken(format!("epoch {epoch} is {entry:?}, and was claimed by {claim:?}"));
            }
        } else if entry.epoch != epoch {
            return broken(format!("an entry of epoch {} stands in epoch {epoch}", entry.epoch));
        }
        if entry.events > 0 && holder != Some((entry.leader, entry.term)) {
            return broken(format!("in epoch {epoch} of {holder:?} stand events of {entry:?}"));
        }
    }
    match told.claims.last_key_value() {
        Some((claimed, claim)) if *claimed > epoch => {
            broken(format!("epoch {claimed} was claimed by {claim:?}, and the log ends in epoch {epoch}"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Claim;
    use rt::Process;

    fn entry(epoch: u64, node: u128, opens: bool) -> Entry {
        let node = NodeId::from_u128(node);
        Entry {
            term: Term::new(epoch),
            leader: node,
            epoch: Epoch::new(epoch),
            last: EventId::ZERO,
            events: u32::from(!opens),
            opens: opens.then_some(node),
            why: String::new(),
        }
    }

    #[test]
    fn a_second_holder_and_a_late_entry_are_seen() {
        let mut told = Told::default();
        let good = [entry(1, 1, true), entry(1, 1, false), entry(2, 2, true), entry(2, 2, false)];
        assert_eq!(check(&told, &good), Ok(()));
        assert!(check(&told, &[entry(1, 1, true), entry(1, 2, false)]).is_err());
        assert!(check(&told, &[entry(1, 1, true), entry(2, 2, true), entry(1, 1, false)]).is_err());
        assert!(check(&told, &[entry(1, 1, true), entry(1, 2, true)]).is_err());
        let claim = Claim { node: NodeId::from_u128(3), process: Process(7), term: Term::new(2) };
        told.claims.insert(Epoch::new(2), claim);
        assert!(check(&told, &good).is_err());
    }
}
