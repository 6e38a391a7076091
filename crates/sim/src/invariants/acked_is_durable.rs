//! `acked_is_durable`: an executed outcome survives any crash, and so does a refusal.

use crate::{History, Violation, cluster::Told};
use control::{Outcome, Sequencer};
use domain::State;
use types::{Epoch, EventId};

/// The invariant's name.
pub const NAME: &str = "acked_is_durable";

/// Holds the recovered head, the newest snapshot, and the state folded from the log against every
/// answer that was given.
pub fn check(history: &History, state: &State, snapshot: EventId) -> Result<(), Violation> {
    if state.head < history.acked {
        let what = format!("event {} was acknowledged, and the log ends at {}", history.acked, state.head);
        return Err(Violation::new(NAME, what));
    }
    if snapshot < history.snapshot {
        let what = format!("a snapshot at {} was saved, and the newest is at {snapshot}", history.snapshot);
        return Err(Violation::new(NAME, what));
    }
    // The asker sends it again: the log must give the same answer, as one given before.
    let again = history.answered.iter().rev().take(20);
    for answered in again {
        let mut sequencer = Sequencer::new(state.clone(), Epoch::new(1));
        let decided = sequencer.decide(std::slice::from_ref(&answered.proposal), state.at, || 0);
        if !decided.batch.events.is_empty() || !is_same(&answered.outcome, &decided.outcomes[0]) {
            let what = format!("{:?} was answered, and now {:?}", answered.outcome, decided.outcomes[0]);
            return Err(Violation::new(NAME, what));
        }
    }
    Ok(())
}

/// Everything that anyone was told of is still read once all is well.
///
/// # Errors
/// It is not.
pub fn check_cluster(told: &Told) -> Result<(), Violation> {
    if (told.read.len() as u64) < told.floor.get() {
        let what = format!("event {} was acknowledged, and {} are read", told.floor, told.read.len());
        return Err(Violation::new(NAME, what));
    }
    Ok(())
}

/// Whether the second answer is the first one, repeated.
fn is_same(first: &Outcome, second: &Outcome) -> bool {
    match (first, second) {
        (
            Outcome::Executed { done, event, .. },
            Outcome::Executed { done: done_again, event: event_again, replayed: true },
        ) => done == done_again && event == event_again,
        (
            Outcome::Refused { code, text, event, .. },
            Outcome::Refused { code: code_again, text: text_again, event: event_again, replayed: true },
        ) => code == code_again && text == text_again && event == event_again,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_acknowledgement_is_seen() {
        let mut history = History { acked: EventId::new(3), ..History::default() };
        let mut state = State::default();
        assert!(check(&history, &state, EventId::ZERO).is_err());
        state.head = EventId::new(3);
        assert_eq!(check(&history, &state, EventId::ZERO), Ok(()));
        history.snapshot = EventId::new(2);
        assert!(check(&history, &state, EventId::new(1)).is_err());
    }
}
