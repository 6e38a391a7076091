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
    Piece { rows, reached, reached_event, more: reached < end, end, cut: false }
}

fn world() -> [(Source, Vec<AuditRow>); 3] {
    [
        (None, lines(None, &[1, 2, 5, 9])),
        (Some(Some(ONE)), lines(Some(ONE), &[2, 2, 2, 7])),
        (Some(Some(TWO)), lines(Some(TWO), &[1, 8, 8])),
    ]
}

/// A recovery writes lines that have seen nothing, and what was queued is overtaken.
fn falling_world() -> [(Source, Vec<AuditRow>); 3] {
    [
        (None, lines(None, &[1, 2, 5, 9, 12])),
        (Some(Some(ONE)), lines(Some(ONE), &[2, 6, 9, 0, 0, 3, 9, 10])),
        (Some(Some(TWO)), lines(Some(TWO), &[1, 8, 7, 8])),
    ]
}

fn at(cursor: &Cursor, source: Source) -> u64 {
    source.map_or(cursor.event, |node| cursor.lines.get(&node).copied().unwrap_or_default())
}

fn place((_, row): &Sourced) -> (u64, Option<NodeId>, u64) {
    (row.last_event.get(), row.node, row.seq)
}

/// All pages of so many rows, each read from where the one before ended.
fn pages(
    world: &[(Source, Vec<AuditRow>)],
    limit: usize,
    piece: impl Fn(&[AuditRow], u64) -> Piece,
) -> Vec<Sourced> {
    let (mut cursor, mut all) = (Cursor::default(), Vec::new());
    for _ in 0..60 {
        let sources = world.iter().map(|(source, rows)| (*source, piece(rows, at(&cursor, *source))));
        let merged = merge(sources.collect(), limit, false, &mut cursor);
        assert!(merged.rows.len() <= limit);
        all.extend(merged.rows);
        assert_eq!(cursor.to_string().parse(), Ok(cursor.clone()));
        if !merged.more {
            return all;
        }
    }
    panic!("there is no end of it, {limit} at once");
}

#[test]
fn pages_of_any_size_put_together_are_everything_once_and_in_order() {
    let world = world();
    let mut wanted: Vec<_> = world
        .iter()
        .flat_map(|(_, rows)| rows)
        .map(|row| (row.last_event.get(), row.node, row.seq))
        .collect();
    wanted.sort();
    for limit in 1..12 {
        let all = pages(&world, limit, |rows, after| piece(rows, after, limit));
        assert_eq!(all.iter().map(place).collect::<Vec<_>>(), wanted, "{limit} at once");
        // The same where each look ends behind two lines, whether they fit or not.
        let all = pages(&world, limit, |rows, after| piece(rows, after, 2));
        assert_eq!(
            all.iter().map(place).collect::<Vec<_>>(),
            wanted,
            "{limit} at once, looked at two by two"
        );
    }
}

#[test]
fn a_journal_whose_lines_have_seen_less_than_those_before_is_read_whole_and_in_its_order() {
    let world = falling_world();
    let whole: Vec<_> = pages(&world, 100, |rows, after| piece(rows, after, 100)).iter().map(place).collect();
    for (source, rows) in &world {
        let own = |(_, node, _): &&(u64, Option<NodeId>, u64)| *node == source.flatten();
        let seqs: Vec<u64> = whole.iter().filter(own).map(|(_, _, seq)| *seq).collect();
        assert_eq!(seqs, rows.iter().map(|row| row.seq).collect::<Vec<_>>(), "{source:?}");
    }
    for limit in 1..20 {
        let all = pages(&world, limit, |rows, after| piece(rows, after, limit));
        assert_eq!(all.iter().map(place).collect::<Vec<_>>(), whole, "{limit} at once");
    }
    // They stand behind the line that they were written behind, also among the last.
    let (mut cursor, last) = (Cursor::default(), 9);
    let sources = world.iter().map(|(source, rows)| (*source, piece(rows, 0, 100))).collect();
    let merged = merge(sources, last, true, &mut cursor);
    assert_eq!(merged.rows.iter().map(place).collect::<Vec<_>>(), whole[whole.len() - last..]);
    let recovery = |row: &&Sourced| row.1.last_event == EventId::ZERO;
    assert_eq!(merged.rows.iter().filter(recovery).count(), 2, "{:?}", merged.rows);
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
