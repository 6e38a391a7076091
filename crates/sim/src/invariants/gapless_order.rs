//! `gapless_order`: ids are 1, 2, 3, …; a reader by cursor misses none and sees none twice.

use crate::Violation;
use log::{Head, ReadError, Record};
use types::EventId;

/// The invariant's name.
pub const NAME: &str = "gapless_order";

/// Reads everything by cursor in pages of these sizes, as a follower does, and checks the order up
/// to the head.
pub fn read_all(
    head: Head,
    mut read: impl FnMut(EventId, usize) -> Result<Vec<Record>, ReadError>,
    mut page: impl FnMut() -> usize,
) -> Result<Vec<Record>, Violation> {
    let mut all: Vec<Record> = Vec::new();
    loop {
        let cursor = all.last().map_or(EventId::ZERO, |record| record.id);
        let size = page().max(1);
        let more = read(cursor, size)
            .map_err(|error| Violation::new(NAME, format!("reading after {cursor} fails: {error}")))?;
        if more.len() > size {
            return Err(Violation::new(NAME, format!("asked for {size} after {cursor}, got {}", more.len())));
        }
        if more.is_empty() {
            break;
        }
        all.extend(more);
    }
    check(head, &all)?;
    Ok(all)
}

/// Checks ids and the head.
pub fn check(head: Head, all: &[Record]) -> Result<(), Violation> {
    for (place, record) in all.iter().enumerate() {
        if record.id.get() != place as u64 + 1 {
            let what = format!("event {} stands where {} must stand", record.id, place + 1);
            return Err(Violation::new(NAME, what));
        }
    }
    if all.len() as u64 != head.event.get() {
        let what = format!("the head is {}, but there are {} events", head.event, all.len());
        return Err(Violation::new(NAME, what));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Epoch;

    #[test]
    fn a_gap_a_double_and_a_short_read_are_seen() {
        let log = log::MemoryLog::new();
        let head = |event| Head { event: EventId::new(event), ..log::Log::head(&log) };
        let record = |id| Record { id: EventId::new(id), epoch: Epoch::new(1), bytes: "e".into() };
        assert_eq!(check(head(2), &[record(1), record(2)]), Ok(()));
        assert!(check(head(2), &[record(1), record(3)]).is_err());
        assert!(check(head(2), &[record(1), record(1)]).is_err());
        assert!(check(head(3), &[record(1), record(2)]).is_err());
        let pages =
            |after: EventId, _| Ok(if after.get() < 2 { vec![record(after.get() + 2)] } else { vec![] });
        assert!(read_all(head(2), pages, || 1).is_err());
    }
}
