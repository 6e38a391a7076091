//! `append_only`: an event once read is the same for ever, byte for byte.

use crate::{History, Violation};
use log::Record;

/// The invariant's name.
pub const NAME: &str = "append_only";

/// Holds everything that is read now against everything that was ever read.
pub fn check(history: &History, now: &[Record]) -> Result<(), Violation> {
    for (known, found) in history.read.iter().zip(now) {
        if known != found {
            return Err(Violation::new(NAME, format!("event {} was {known:?} and is {found:?}", known.id)));
        }
    }
    if now.len() < history.read.len() {
        let what = format!("event {} was read once and is gone", now.len() + 1);
        return Err(Violation::new(NAME, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::{Epoch, EventId};

    fn records(texts: &[&'static str]) -> Vec<Record> {
        let record = |(place, text): (usize, &&'static str)| Record {
            id: EventId::new(place as u64 + 1),
            epoch: Epoch::new(1),
            bytes: text.as_bytes().into(),
        };
        texts.iter().enumerate().map(record).collect()
    }

    #[test]
    fn a_changed_or_lost_event_is_seen() {
        let mut history = History::default();
        history.saw(&records(&["a", "b"]));
        assert_eq!(check(&history, &records(&["a", "b", "c"])), Ok(()));
        assert!(check(&history, &records(&["a", "x", "c"])).is_err());
        assert!(check(&history, &records(&["a"])).is_err());
    }
}
