use super::*;
use api::{AuditRequest, AuditType, Outcome};
use types::Epoch;

const ONE: NodeId = NodeId::from_u128(1);
const TWO: NodeId = NodeId::from_u128(2);

fn row(node: Option<NodeId>, seq: u64, event: u64) -> AuditRow {
    AuditRow {
        at: Timestamp::from_ms(event),
        kind: AuditType::Refused,
        actor: "tok_1".into(),
        source: None,
        node,
        seq,
        epoch: Epoch::new(1),
        last_event: EventId::new(event),
        act: None,
        request: AuditRequest::default(),
        confirmation: None,
        code: None,
        outcome: Outcome::NotExecuted,
        reason: String::new(),
        more: None,
    }
}

/// Lines of one source, each with the last event that it saw.
fn lines(node: Option<NodeId>, events: &[u64]) -> Vec<AuditRow> {
    events
        .iter()
        .zip(1..)
        .map(|(event, seq)| row(node, if node.is_some() { seq } else { *event }, *event))
        .collect()
}

fn piece(all: &[AuditRow], after: u64, limit: usize) -> Piece {
    let rows: Vec<AuditRow> = all.iter().filter(|row| row.seq > after).take(limit).cloned().collect();
    let end = all.last().map_or(0, |row| row.seq);
    let (reached, reached_event) =
        rows.last().map_or((after, EventId::ZERO), |row| (row.seq, row.last_event));
    Piece { rows, reached, reached_event, more: reached < end, end }
}

fn world() -> [(Source, Vec<AuditRow>); 3] {
    [
        (None, lines(None, &[1, 2, 5, 9])),
        (Some(Some(ONE)), lines(Some(ONE), &[2, 2, 2, 7])),
        (Some(Some(TWO)), lines(Some(TWO), &[1, 8, 8])),
    ]
}

fn at(cursor: &Cursor, source: Source) -> u64 {
    source.map_or(cursor.event, |node| cursor.lines.get(&node).copied().unwrap_or_default())
}

#[test]
fn pages_of_any_size_put_together_are_everything_once_and_in_order() {
    let world = world();
    for limit in 1..12 {
        let (mut cursor, mut all) = (Cursor::default(), Vec::new());
        for _ in 0..30 {
            let sources =
                world.iter().map(|(source, rows)| (*source, piece(rows, at(&cursor, *source), limit)));
            let merged = merge(sources.collect(), limit, false, &mut cursor);
            assert!(merged.rows.len() <= limit);
            all.extend(merged.rows.into_iter().map(|(_, row)| (row.last_event.get(), row.node, row.seq)));
            assert_eq!(cursor.to_string().parse(), Ok(cursor.clone()));
            if !merged.more {
                break;
            }
        }
        let mut wanted: Vec<_> = world
            .iter()
            .flat_map(|(_, rows)| rows)
            .map(|row| (row.last_event.get(), row.node, row.seq))
            .collect();
        wanted.sort();
        assert_eq!(all, wanted, "{limit} at once");
    }
}

#[test]
fn the_last_rows_end_where_reading_on_begins() {
    let world = world();
    let mut cursor = Cursor::default();
    let sources = || world.iter().map(|(source, rows)| (*source, piece(rows, 0, 100))).collect();
    let merged = merge(sources(), 3, true, &mut cursor);
    let rows: Vec<u64> = merged.rows.iter().map(|(_, row)| row.last_event.get()).collect();
    assert_eq!(rows, [8, 8, 9]);
    assert_eq!((at(&cursor, None), at(&cursor, Some(Some(ONE))), at(&cursor, Some(Some(TWO)))), (9, 4, 3));
    // Whoever loses the stream before the first of them gets these again, and none before.
    let start = merged.start;
    assert_eq!((at(&start, None), at(&start, Some(Some(ONE))), at(&start, Some(Some(TWO)))), (8, 4, 1));
}

#[test]
fn what_was_read_of_a_journal_is_known_while_its_member_is_away_and_has_no_gap() {
    let (mirrors, filter) = (Mirrors::default(), Filter::default());
    let all = lines(Some(ONE), &[1, 2, 3, 4, 5]);
    assert!(mirrors.after(ONE, Some(0), &filter).is_none());
    mirrors.note(ONE, 2, &piece(&all, 2, 2), Timestamp::from_ms(10));
    let (known, to, read) = mirrors.after(ONE, Some(3), &filter).expect("something");
    assert_eq!((known.rows.len(), known.reached, to, read), (1, 4, 4, Timestamp::from_ms(10)));
    // From before what is known nothing is told, and the reader stays where he is.
    let (known, ..) = mirrors.after(ONE, Some(1), &filter).expect("something");
    assert_eq!((known.rows.len(), known.reached), (0, 1));
    mirrors.note(ONE, 4, &piece(&all, 4, 2), Timestamp::from_ms(11));
    assert_eq!(mirrors.after(ONE, None, &filter).expect("something").0.rows.len(), 3);
}

#[test]
fn a_cursor_that_is_none_is_told() {
    for bad in ["", "x", "1.", "1.nod_x-2", "1.-"] {
        assert_eq!(bad.parse::<Cursor>(), Err(()), "{bad}");
    }
    let alone = Cursor { event: 7, lines: [(None, 3)].into() };
    assert_eq!(alone.to_string(), "7.-3");
    assert_eq!("7.-3".parse(), Ok(alone));
}
