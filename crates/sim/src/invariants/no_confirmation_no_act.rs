//! `no_confirmation_no_act`: a guarded act is in the log only with its own, fresh, single-use confirmation.
//!
//! The tokens are the server's, and are tested there. Here it is held that consensus keeps to what was
//! confirmed, whatever befalls it: authority moves by an operator's word only to the node that the operator
//! named, once for each word; and nobody is a member no more without one.

use super::one_authority::Entry;
use crate::{
    Violation,
    cluster::{Asked, Told},
};
use domain::{Confirmation, Event, codec};
use log::cluster::{Failover, Promotion};
use std::collections::BTreeSet;
use types::NodeId;

/// The invariant's name.
pub const NAME: &str = "no_confirmation_no_act";
/// What the epoch says that a recovery opens.
pub const RECOVERED: &str = "an operator has recovered it";
/// What the epoch says that follows one of a member that was removed.
const REMOVED: &str = "the one before was removed";
/// What it says of a node that stands by itself.
const ELECTED: &str = "elected";
/// What it says of one that an operator's word had elected, and that has lost the word.
const WORD_LOST: &str = "elected on an operator's word, and cut short before its epoch was open";

/// Holds the epochs of the committed entries, and the removals, against what was confirmed.
///
/// # Errors
/// What does not hold.
pub fn check(told: &Told, failover: Failover, entries: &[Entry]) -> Result<(), Violation> {
    let broken = |what: String| Err(Violation::new(NAME, what));
    let removed = removals(told)?;
    let (mut holder, mut used) = (None::<NodeId>, BTreeSet::new());
    for entry in entries {
        let Some(node) = entry.opens else { continue };
        let before = holder.replace(node).filter(|before| *before != node);
        let all = told.promotions.iter().enumerate();
        let asked = all.clone().find(|(_, asked)| asked.why == entry.why);
        if let Some((_, asked)) = asked.filter(|(_, asked)| asked.node != node) {
            return broken(format!("{} was named in {:?}, and {entry:?}", asked.node, asked.why));
        }
        let Some(before) = before else { continue };
        // One that was elected by an operator's word and ended before its epoch was written stands again by
        // itself, and has forgotten the word.
        let by_word = asked.or_else(|| {
            let is_it = |place: &usize, asked: &Asked| is_open(asked, node) && !used.contains(place);
            all.clone().find(|(place, asked)| entry.why == WORD_LOST && is_it(place, asked))
        });
        // So does one that was handed the lead by a leader that was to be removed.
        let after_removal = [REMOVED, ELECTED, WORD_LOST].contains(&&*entry.why) && removed.contains(&before);
        let recovered = entry.why == RECOVERED && told.recovered == Some(node);
        match by_word {
            _ if failover == Failover::Automatic && asked.is_none() => {}
            _ if after_removal || recovered => {}
            None => return broken(format!("authority moves from {before} by no word: {entry:?}")),
            Some((place, _)) if !used.insert(place) => {
                return broken(format!("authority moves from {before} by a word that was used: {entry:?}"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Whether this may have made the node stand, whatever was heard of it.
fn is_open(asked: &Asked, node: NodeId) -> bool {
    let over = matches!(asked.result, Some(Promotion::Denied(_) | Promotion::NotWon));
    asked.node == node && !over
}

/// Who was removed; each by a word of its own, unless it was a member of a cluster that was lost.
fn removals(told: &Told) -> Result<BTreeSet<NodeId>, Violation> {
    let mut removed = BTreeSet::new();
    for record in &told.read {
        let envelope = codec::decode(record.id, record.epoch, &record.bytes)
            .map_err(|error| Violation::new(NAME, format!("event {}: {error}", record.id)))?;
        let Event::MemberRemoved { node, confirmed } = &envelope.event else { continue };
        let by_recovery = confirmed.kind == Confirmation::Offline && told.recovered.is_some();
        if !removed.insert(*node) || (told.removals.get(&confirmed.reason) != Some(node) && !by_recovery) {
            return Err(Violation::new(NAME, format!("{node} was removed by {confirmed:?}")));
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Epoch, EventId, Term};

    const BY_ITSELF: &str = "elected";

    fn opened(epoch: u64, node: u128, why: &str) -> Entry {
        let node = NodeId::from_u128(node);
        let (term, epoch, why) = (Term::new(epoch), Epoch::new(epoch), why.to_owned());
        Entry { term, leader: node, epoch, last: EventId::ZERO, events: 0, opens: Some(node), why }
    }

    #[test]
    fn a_move_without_a_word_or_by_a_used_or_foreign_one_is_seen() {
        let mut told = Told::default();
        let (_, why) = told.wanted(NodeId::from_u128(2));
        let operator = |entries: &[Entry]| check(&told, Failover::Operator, entries);
        let begin = opened(1, 1, BY_ITSELF);
        assert_eq!(operator(&[begin.clone(), opened(2, 2, &why)]), Ok(()));
        assert_eq!(operator(&[begin.clone(), opened(2, 2, WORD_LOST)]), Ok(()), "it forgot the word");
        assert!(operator(&[begin.clone(), opened(2, 2, BY_ITSELF)]).is_err(), "and says so");
        assert!(operator(&[begin.clone(), opened(2, 3, WORD_LOST)]).is_err());
        assert!(operator(&[begin.clone(), opened(2, 3, &why)]).is_err());
        assert!(operator(&[begin.clone(), opened(2, 3, REMOVED)]).is_err());
        let (_, back) = told.wanted(NodeId::from_u128(1));
        let twice = [begin, opened(2, 2, &why), opened(3, 1, &back), opened(4, 2, &why)];
        assert!(check(&told, Failover::Operator, &twice).is_err());
        assert_eq!(check(&told, Failover::Operator, &twice[..3]), Ok(()));
    }
}
