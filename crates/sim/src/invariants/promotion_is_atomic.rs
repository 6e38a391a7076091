//! `promotion_is_atomic`: after any crash the authority is wholly old or wholly new: what was told as
//! succeeded is in the log, and what was told as denied or not won is not. That authority moves by nothing
//! else is [`super::no_confirmation_no_act`].

use super::one_authority::Entry;
use crate::{Violation, cluster::Told};
use log::cluster::Promotion;

/// The invariant's name.
pub const NAME: &str = "promotion_is_atomic";

/// Holds the epochs of the committed entries against the promotions that were asked for.
///
/// # Errors
/// What does not hold.
pub fn check(told: &Told, entries: &[Entry]) -> Result<(), Violation> {
    let broken = |what: String| Err(Violation::new(NAME, what));
    for asked in &told.promotions {
        let moved = entries.iter().find(|entry| entry.opens.is_some() && entry.why == asked.why);
        if let (Some(Promotion::Denied(_) | Promotion::NotWon), Some(moved)) = (&asked.result, moved) {
            return broken(format!("{asked:?} was told, and the log has {moved:?}"));
        }
        if let Some(Promotion::Succeeded(epoch)) = asked.result {
            let opened = entries.iter().find(|entry| entry.opens.is_some() && entry.epoch == epoch);
            if opened.and_then(|entry| entry.opens) != Some(asked.node) {
                let what =
                    format!("{} was promoted in epoch {epoch}, and the log has {opened:?}", asked.node);
                return broken(what);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::cluster::Denied;
    use types::{Epoch, EventId, NodeId, Term};

    fn opened(epoch: u64, node: u128, why: &str) -> Entry {
        let node = NodeId::from_u128(node);
        let (term, epoch, why) = (Term::new(epoch), Epoch::new(epoch), why.to_owned());
        Entry { term, leader: node, epoch, last: EventId::ZERO, events: 0, opens: Some(node), why }
    }

    #[test]
    fn a_promotion_that_is_not_in_the_log_is_seen() {
        let mut told = Told::default();
        let (_, why) = told.wanted(NodeId::from_u128(2));
        told.promotions[0].result = Some(Promotion::Succeeded(Epoch::new(3)));
        let begin = [opened(1, 1, ""), opened(2, 1, "")];
        assert_eq!(check(&told, &[&begin[..], &[opened(3, 2, &why)]].concat()), Ok(()));
        assert!(check(&told, &[&begin[..], &[opened(3, 1, "")]].concat()).is_err());
        assert!(check(&told, &begin).is_err());
    }

    #[test]
    fn a_denied_promotion_that_happens_is_seen() {
        let mut told = Told::default();
        let (_, why) = told.wanted(NodeId::from_u128(2));
        told.promotions[0].result = Some(Promotion::Denied(Denied::IsPrimary));
        assert_eq!(check(&told, &[opened(1, 1, "")]), Ok(()));
        assert!(check(&told, &[opened(1, 1, ""), opened(2, 2, &why)]).is_err());
    }
}
