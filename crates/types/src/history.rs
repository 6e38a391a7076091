//! Whose plan a plan is, and which plan may follow which.
//!
//! A plan is named by the log that made it, the epoch and the event that it reflects, and its
//! generation. A log that was restored or recovered is another history under another identity: it may
//! lack what nodes act on already. Its plans follow theirs only after it has *adopted* what they hold.
//! From then on its generations are above every one that they hold, so that for one node the number
//! never falls, whichever log counts it.

use crate::{Epoch, EventId, Generation, limits};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};

/// The name of the plan that a node holds: what it says in its first message.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Held {
    /// The identity of the log that made it. Empty where the node is of a version that does not say;
    /// without a plan, the log that the node was enrolled in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// The epoch that its event was written in. Zero where it is not known.
    #[serde(default)]
    pub epoch: Epoch,
    /// The event that it reflects. Zero where it is not known.
    #[serde(default)]
    pub event: EventId,
    /// How new it is; zero for none.
    pub generation: Generation,
}

impl Held {
    /// Whether it can be the name of a plan: the identity is one line of bounded length, and the number
    /// leaves room to count on from.
    pub fn is_sound(&self) -> bool {
        self.cluster.len() <= limits::IDENTITY_BYTES
            && !self.cluster.chars().any(char::is_control)
            && self.generation <= limits::GENERATION_MAX
    }
}

/// A plan of which only the generation is known.
impl From<Generation> for Held {
    fn from(generation: Generation) -> Self {
        Self { generation, ..Self::default() }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, epoch, event, generation } = self;
        match *generation {
            Generation::ZERO => f.write_str("no plan")?,
            generation => write!(f, "plan {generation}")?,
        }
        if !cluster.is_empty() {
            write!(f, " of log {cluster}")?;
        }
        if *epoch > Epoch::ZERO {
            write!(f, " (event {event} in epoch {epoch})")?;
        }
        Ok(())
    }
}

/// What a log has adopted of other histories; stands in every plan that it makes since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adoption {
    /// The event of the last adoption.
    pub event: EventId,
    /// That event's generation. It is above every plan that was adopted, and no plan since is below it.
    pub since: Generation,
    /// The logs whose plans these may follow, and up to which generation.
    pub of: BTreeMap<String, Generation>,
}

impl Adoption {
    /// Whether plans with this adoption may follow a plan.
    pub fn covers(&self, held: &Held) -> bool {
        self.of.get(&held.cluster).is_some_and(|upto| held.generation <= *upto)
    }
}

/// Why one plan does not follow another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Another log made it, which has not adopted the plan that is held.
    #[error("it is of log {offered:?}, which has not adopted {held}")]
    OtherLog {
        /// The log of the plan that is offered.
        offered: String,
        /// The plan that is held.
        held: Held,
    },
    /// It is older.
    #[error("it is of generation {offered}, and generation {held} is held: a plan never goes back")]
    Older {
        /// The generation offered.
        offered: Generation,
        /// The generation held.
        held: Generation,
    },
    /// It has a higher number and an older authority: it is of a branch of the log that was left.
    #[error("it is of epoch {offered}, and epoch {held} is held: its authority is over")]
    OlderEpoch {
        /// The epoch offered.
        offered: Epoch,
        /// The epoch held.
        held: Epoch,
    },
}

/// Whether a plan may take the place of the one that is held, by their names. Two of one generation
/// have to be the same plan, which the caller compares.
///
/// # Errors
/// Why it may not.
pub fn follows(held: &Held, offered: &Held, adoption: Option<&Adoption>) -> Result<(), Misfit> {
    let adopts =
        adoption.is_some_and(|adoption| adoption.covers(held) && offered.generation >= adoption.since);
    if offered.cluster != held.cluster && !adopts {
        let offered = offered.cluster.chars().take(80).collect();
        return Err(Misfit::OtherLog { offered, held: held.clone() });
    }
    if offered.generation < held.generation {
        return Err(Misfit::Older { offered: offered.generation, held: held.generation });
    }
    // A plan of an earlier version names no epoch.
    if offered.epoch < held.epoch && offered.epoch > Epoch::ZERO && !adopts {
        return Err(Misfit::OlderEpoch { offered: offered.epoch, held: held.epoch });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(cluster: &str, epoch: u64, generation: u64) -> Held {
        Held {
            cluster: cluster.into(),
            epoch: Epoch::new(epoch),
            event: EventId::new(generation),
            generation: Generation::new(generation),
        }
    }

    fn adoption(since: u64, of: &[(&str, u64)]) -> Adoption {
        let of = of.iter().map(|(log, upto)| ((*log).to_owned(), Generation::new(*upto))).collect();
        Adoption { event: EventId::new(11), since: Generation::new(since), of }
    }

    #[test]
    fn within_one_log_only_newer_plans_follow() {
        let now = held("a", 2, 10);
        assert_eq!(follows(&now, &held("a", 2, 11), None), Ok(()));
        assert_eq!(follows(&now, &held("a", 3, 10), None), Ok(()));
        assert!(matches!(follows(&now, &held("a", 2, 9), None), Err(Misfit::Older { .. })));
        assert!(matches!(follows(&now, &held("a", 1, 12), None), Err(Misfit::OlderEpoch { .. })));
        assert_eq!(follows(&now, &held("a", 0, 12), None), Ok(()), "of a version that names no epoch");
    }

    #[test]
    fn another_log_is_followed_only_if_it_has_adopted_what_is_held() {
        let now = held("a", 7, 150);
        let offered = held("b", 2, 151);
        let refused = |adoption: Option<&Adoption>| {
            matches!(follows(&now, &offered, adoption), Err(Misfit::OtherLog { .. }))
        };
        assert!(refused(None));
        assert!(refused(Some(&adoption(151, &[("a", 149)]))), "adopted up to before it");
        assert!(refused(Some(&adoption(151, &[("c", 500)]))), "adopted somebody else");
        assert!(refused(Some(&adoption(152, &[("a", 150)]))), "of before the adoption");
        assert_eq!(follows(&now, &offered, Some(&adoption(151, &[("a", 150)]))), Ok(()));
        // And never back.
        let adopted = adoption(151, &[("a", 150)]);
        assert!(matches!(follows(&offered, &held("a", 7, 900), None), Err(Misfit::OtherLog { .. })));
        assert!(matches!(
            follows(&offered, &held("a", 7, 900), Some(&adopted)),
            Err(Misfit::OtherLog { .. })
        ));
    }

    #[test]
    fn a_log_that_lost_its_end_goes_on_by_adopting_what_it_lost() {
        let now = held("a", 7, 150);
        let offered = held("a", 5, 151);
        assert!(matches!(follows(&now, &offered, None), Err(Misfit::OlderEpoch { .. })));
        assert_eq!(follows(&now, &offered, Some(&adoption(151, &[("a", 150)]))), Ok(()));
    }

    #[test]
    fn a_node_without_a_plan_takes_one_of_its_own_log_or_of_one_that_adopted_that() {
        let none = Held { cluster: "a".into(), ..Held::default() };
        assert_eq!(follows(&none, &held("a", 1, 4), None), Ok(()));
        assert!(follows(&none, &held("b", 1, 4), None).is_err());
        assert_eq!(follows(&none, &held("b", 1, 4), Some(&adoption(4, &[("a", 0)]))), Ok(()));
    }
}
