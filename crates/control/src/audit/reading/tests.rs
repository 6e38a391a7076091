use super::*;
use crate::audit::{Note, Seen};
use rt::{Disk, SimDisk};
use std::path::Path;

/// A journal of one line of ann and then so many of bob, each a millisecond after the one before.
fn journal(of_bob: u64) -> Arc<Journal> {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new("/data")).expect("a directory");
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let (journal, _) = Journal::open(&disk, Path::new("/data")).expect("a journal");
    let line = |seq: u64| {
        let actor = if seq == 1 { "ann" } else { "bob" };
        let note = Note::new(AuditType::Denied, actor, AuditRequest::default(), Outcome::NotExecuted);
        (Timestamp::from_ms(seq), Seen::default(), note)
    };
    let all: Vec<u64> = (1..=of_bob + 1).collect();
    for some in all.chunks(500) {
        journal.append_all(some.iter().copied().map(line).collect()).expect("written");
    }
    Arc::new(journal)
}

#[test]
fn that_earlier_lines_were_not_looked_at_is_said_unless_none_of_them_can_fit() {
    let ann = Filter { actor: Some("ann".into()), ..Filter::default() };
    let bob = Filter { actor: Some("bob".into()), ..Filter::default() };
    let window = limits::AUDIT_SCAN as u64;
    let found = |journal: &_, filter: &Filter| {
        let piece = last(journal, 50, filter).expect("a piece");
        (piece.rows.len(), piece.cut)
    };
    let within = journal(window - 1);
    assert_eq!(found(&within, &ann), (1, false), "all of it was looked at");
    let behind = journal(window);
    assert_eq!(found(&behind, &ann), (0, true));
    assert_eq!(found(&behind, &bob), (50, false), "they are the last, whatever was before");
    assert_eq!(found(&behind, &Filter::default()), (50, false));
    let since = |at: u64| Filter { since: Some(Timestamp::from_ms(at)), ..ann.clone() };
    assert_eq!(found(&behind, &since(1)), (0, true));
    assert_eq!(found(&behind, &since(2)), (0, false), "what was not looked at is older");
}
