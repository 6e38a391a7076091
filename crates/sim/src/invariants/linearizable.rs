//! `linearizable`: every request that was executed has one place in the order, after everything that
//! anyone knew of when it was sent and no later than its answer; what was answered as not executed has
//! none; and a read that promises the latest gives nothing older than what was known.
//!
//! The log is one register whose value is its head, and an append is a compare-and-set on it. So it is
//! enough that each call's event is later than the [`Call::floor`](crate::cluster::Call) it began with.

use super::request_runs_once;
use crate::{Violation, cluster::Told};
use control::Answer;
use std::collections::BTreeSet;
use types::RequestId;

/// The invariant's name.
pub const NAME: &str = "linearizable";

/// Holds every call against the log.
///
/// # Errors
/// What does not hold.
pub fn check(told: &Told) -> Result<(), Violation> {
    let broken = |what: String| Err(Violation::new(NAME, what));
    let places = request_runs_once::places(&told.read)?;
    let certainly_not = certainly_not_executed(told);
    for call in &told.calls {
        let Some((request, _)) = call.proposal.request else { continue };
        let place = places.get(&request);
        let (event, replayed) = match &call.answer {
            Some(
                Answer::Executed { event, replayed, .. }
                | Answer::Refused { event: Some(event), replayed, .. },
            ) => (*event, *replayed),
            _ => {
                if let Some(place) = place
                    && certainly_not.contains(&request)
                {
                    return broken(format!("{request} was not executed, and has the events {place:?}"));
                }
                continue;
            }
        };
        let Some((first, last)) = place else {
            return broken(format!("{request} was answered with event {event}, and the log has none"));
        };
        if event < *first || event > *last {
            return broken(format!("{request} was answered with event {event}, and has {first} to {last}"));
        }
        if !replayed && *first <= call.floor {
            return broken(format!(
                "{request} was executed at {first}, when {} was known before it was sent",
                call.floor
            ));
        }
        let epoch = told.read[event.get() as usize - 1].epoch;
        if !replayed && epoch < call.epoch {
            let what =
                format!("{request} was executed in epoch {epoch}, after epoch {} was known", call.epoch);
            return broken(what);
        }
    }
    Ok(())
}

/// Requests of which every call was answered as certainly not executed.
fn certainly_not_executed(told: &Told) -> BTreeSet<RequestId> {
    let (mut certain, mut other) = (BTreeSet::new(), BTreeSet::new());
    for call in &told.calls {
        let Some((request, _)) = call.proposal.request else { continue };
        match call.answer {
            Some(Answer::Unavailable { .. } | Answer::Refused { event: None, .. }) => certain.insert(request),
            _ => other.insert(request),
        };
    }
    certain.difference(&other).copied().collect()
}
