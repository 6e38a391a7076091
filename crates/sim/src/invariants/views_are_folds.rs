//! `views_are_folds`: the state and every view, rebuilt from event 1, are what a member holds.

use crate::Violation;
use domain::{State, codec, view::Views};
use log::Record;

/// The invariant's name.
pub const NAME: &str = "views_are_folds";

/// Holds a member's state and views, which reflect all of these events, against a new fold.
///
/// # Errors
/// What differs.
pub fn check(read: &[Record], state: &State, views: &Views) -> Result<(), Violation> {
    let (mut fresh_state, mut fresh) = (State::default(), Views::new());
    for record in read {
        let envelope = codec::decode(record.id, record.epoch, &record.bytes)
            .map_err(|error| Violation::new(NAME, format!("event {}: {error}", record.id)))?;
        fresh_state.apply(&envelope);
        fresh.apply(&envelope);
    }
    if fresh_state != *state {
        let (fresh, held) = (format!("{fresh_state:#?}"), format!("{state:#?}"));
        let differs = fresh.lines().zip(held.lines()).find(|(fresh, held)| fresh != held);
        let what = format!("the state at {} is not the fold of {}: {differs:?}", state.head, read.len());
        return Err(Violation::new(NAME, what));
    }
    for name in domain::view::NAMES {
        if fresh.fingerprint(name) != views.fingerprint(name) {
            let what = format!("the view {name} at {:?} is not the fold", views.checkpoint(name));
            return Err(Violation::new(NAME, what));
        }
    }
    Ok(())
}
