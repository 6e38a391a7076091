//! What the log notes of its backups: only from the platform itself, bounded, and only what is news.

use crate::world::World;
use holdfast_domain::{Actor, BackupNote, BackupStep, Command, Event, Rejection, Settled};
use types::{EventId, TokenId, limits};

fn note(world: &mut World, note: BackupNote) -> Vec<Event> {
    world.ok(Command::NoteBackup { note })
}

fn made(event: u64) -> BackupNote {
    BackupNote::Made { id: format!("b{event}"), place: "/backups".into(), event: EventId::new(event) }
}

#[test]
fn what_came_of_backups_is_in_the_state_for_whoever_leads_next() {
    let mut world = World::new();
    assert_eq!(note(&mut world, made(1)).len(), 1);
    let drilled = BackupNote::Drilled { id: "b1".into(), event: EventId::new(2), fingerprint: "ab".into() };
    note(&mut world, drilled);
    let backups = &world.state.backups;
    assert_eq!(backups.made.as_ref().map(|made| (made.event, made.at)), Some((EventId::new(1), world.now)));
    assert_eq!(backups.drilled.as_ref().map(|drilled| drilled.id.as_str()), Some("b1"));

    let step = BackupStep::Archive;
    assert!(note(&mut world, BackupNote::Recovered { step }).is_empty(), "it had not failed");
    note(&mut world, BackupNote::Failed { step, why: "gone".into() });
    assert!(world.state.backups.is_failing(step));
    assert_eq!(note(&mut world, BackupNote::Recovered { step }).len(), 1);
    assert!(!world.state.backups.is_failing(step));
    let failed = &world.state.backups.failed[&step];
    assert_eq!((failed.why.as_str(), failed.over), ("gone", Some(world.now)), "it is remembered");

    // A backup that is made says itself that it works again.
    note(&mut world, BackupNote::Failed { step: BackupStep::Backup, why: "gone".into() });
    note(&mut world, made(9));
    assert!(!world.state.backups.is_failing(BackupStep::Backup));
}

#[test]
fn nobody_else_notes_backups_and_no_note_is_long() {
    let mut world = World::new();
    let command = Command::NoteBackup { note: made(1) };
    let token = Actor::Token(TokenId::from_u128(1));
    match world.submit_as(token, &command, None, None) {
        Settled::Now { events, .. } => assert!(events.is_empty(), "{events:?}"),
        other => panic!("{other:?}"),
    }
    assert!(world.state.backups.made.is_none());
    let why = "x".repeat(limits::BACKUP_TEXT + 1);
    let long = Command::NoteBackup { note: BackupNote::Failed { step: BackupStep::Drill, why } };
    assert!(matches!(world.submit(long), Err(Rejection::TooMany { .. })));
}
