//! `promotion_is_atomic`: after any crash the authority is wholly old or wholly new; and with operators,
//! it never moves to a node that nobody promoted.

use super::one_authority::Entry;
use crate::{Violation, cluster::Told};
use log::cluster::{Failover, Promotion};
use types::NodeId;

/// The invariant's name.
pub const NAME: &str = "promotion_is_atomic";

/// Holds the epochs of the committed entries against the promotions that were asked for.
///
/// # Errors
/// What does not hold.
pub fn check(told: &Told, failover: Failover, entries: &[Entry]) -> Result<(), Violation> {
    let broken = |what: String| Err(Violation::new(NAME, what));
    for asked in &told.promotions {
        if let Some(Promotion::Succeeded(epoch)) = asked.result {
            let opened = entries.iter().find(|entry| entry.opens.is_some() && entry.epoch == epoch);
            if opened.and_then(|entry| entry.opens) != Some(asked.node) {
                let what =
                    format!("{} was promoted in epoch {epoch}, and the log has {opened:?}", asked.node);
                return broken(what);
            }
        }
    }
    if failover == Failover::Automatic {
        return Ok(());
    }
    let mut holder: Option<NodeId> = None;
    let mut moves: Vec<NodeId> = Vec::new();
    for node in entries.iter().filter_map(|entry| entry.opens) {
        if holder.is_some_and(|holder| holder != node) {
            moves.push(node);
        }
        holder = Some(node);
    }
    for node in &moves {
        // Denied ones changed nothing; any other may have won, whatever its asker heard.
        let allowed = told
            .promotions
            .iter()
            .filter(|asked| asked.node == *node && !matches!(asked.result, Some(Promotion::Denied(_))))
            .count();
        let moved = moves.iter().filter(|to| *to == node).count();
        if moved > allowed {
            let what = format!("authority moved to {node} {moved} times, and {allowed} promotions allow it");
            return broken(what);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Asked;
    use types::{Epoch, EventId, Term};

    fn opened(epoch: u64, node: u128) -> Entry {
        let node = NodeId::from_u128(node);
        let (term, epoch) = (Term::new(epoch), Epoch::new(epoch));
        Entry { term, leader: node, epoch, last: EventId::ZERO, events: 0, opens: Some(node) }
    }

    #[test]
    fn authority_that_moves_by_itself_is_seen() {
        let mut told = Told::default();
        let entries = [opened(1, 1), opened(2, 1), opened(3, 2)];
        assert!(check(&told, Failover::Operator, &entries).is_err());
        assert_eq!(check(&told, Failover::Automatic, &entries), Ok(()));
        told.promotions.push(Asked { node: NodeId::from_u128(2), result: None });
        assert_eq!(check(&told, Failover::Operator, &entries), Ok(()));
    }

    #[test]
    fn a_promotion_that_is_not_in_the_log_is_seen() {
        let result = Some(Promotion::Succeeded(Epoch::new(3)));
        let told = Told { promotions: vec![Asked { node: NodeId::from_u128(2), result }], ..Told::default() };
        assert_eq!(check(&told, Failover::Operator, &[opened(1, 1), opened(2, 1), opened(3, 2)]), Ok(()));
        assert!(check(&told, Failover::Automatic, &[opened(1, 1), opened(2, 2), opened(3, 1)]).is_err());
        assert!(check(&told, Failover::Automatic, &[opened(1, 1)]).is_err());
    }
}
