use super::*;
use rt::{Fault, Operation, SimDisk};

const DIR: &str = "/data";

fn note(act: &str) -> Note {
    Note {
        actor: "tok_1".into(),
        act: act.into(),
        request: "POST /v1/x {\"reason\":\"ein \\\"Grund\\\"\\n\"}".into(),
        outcome: Ended::Refused,
        reason: "größer\nals".into(),
    }
}

fn disk(seed: u64) -> (SimDisk, Arc<dyn Disk>) {
    let disk = SimDisk::new(seed);
    disk.create_dir(Path::new(DIR)).expect("a directory");
    (disk.clone(), Arc::new(disk))
}

fn open(disk: &Arc<dyn Disk>) -> (Journal, Verified) {
    Journal::open(disk, Path::new(DIR)).expect("a sound journal")
}

fn acts(disk: &Arc<dyn Disk>) -> Vec<String> {
    let mut acts = Vec::new();
    Journal::read(disk.as_ref(), Path::new(DIR), |entry| acts.push(entry.act)).expect("a sound journal");
    acts
}

#[test]
fn entries_are_chained_and_go_on_after_a_restart() {
    let (_, disk) = disk(1);
    assert_eq!(Journal::verify(disk.as_ref(), Path::new(DIR)).expect("none yet"), Verified::default());
    let (journal, found) = open(&disk);
    assert_eq!(found.entries, 0);
    assert_eq!(journal.append(Timestamp::from_ms(1), note("one")).expect("written"), 1);
    assert!(Journal::open(&disk, Path::new(DIR)).is_err(), "one process at a time");
    drop(journal);
    let (journal, found) = open(&disk);
    assert_eq!((found.entries, found.torn), (1, 0));
    assert_eq!(journal.append(Timestamp::from_ms(2), note("two")).expect("written"), 2);
    assert_eq!(acts(&disk), ["one", "two"]);
}

#[test]
fn whatever_is_changed_in_it_is_noticed() {
    let (sim, disk) = disk(1);
    let (journal, _) = open(&disk);
    for act in ["one", "two", "three"] {
        journal.append(Timestamp::from_ms(1), note(act)).expect("written");
    }
    drop(journal);
    let path = path_in(Path::new(DIR));
    let sound = disk.read(&path).expect("there");
    for at in 0..sound.len() {
        let copy = sim.copy();
        copy.damage(&path, |bytes| bytes[at] ^= 1);
        let read = Journal::verify(&copy, Path::new(DIR));
        // Without its last newline the last line is as if torn; anything else is damage.
        match read {
            Err(JournalError::Damaged { .. }) => {}
            Ok(found) => assert!(at + 1 == sound.len() && found.entries == 2 && found.torn > 0, "byte {at}"),
            Err(other) => panic!("byte {at}: {other}"),
        }
    }
    sim.damage(&path, |bytes| {
        let first = bytes.iter().position(|byte| *byte == b'\n').expect("a line");
        bytes.drain(..=first);
    });
    let error = Journal::verify(disk.as_ref(), Path::new(DIR)).expect_err("the first is missing");
    assert!(error.to_string().contains("entry 1"), "{error}");
}

#[test]
fn a_crash_tears_only_what_was_not_acknowledged() {
    let mut torn = 0;
    for seed in 0..200 {
        let (sim, disk) = disk(seed);
        let (journal, _) = open(&disk);
        journal.append(Timestamp::from_ms(1), note("one")).expect("written");
        sim.fail_next(Operation::Sync, Fault::Crash);
        journal.append(Timestamp::from_ms(2), note("lost")).expect_err("the power went");
        drop(journal);
        sim.restart();
        let (journal, found) = open(&disk);
        torn += u64::from(found.torn > 0);
        assert!((1..=2).contains(&found.entries), "seed {seed}: {found:?}");
        journal.append(Timestamp::from_ms(3), note("after")).expect("written");
        drop(journal);
        sim.restart();
        let acts = acts(&disk);
        assert_eq!((acts[0].as_str(), acts[acts.len() - 1].as_str()), ("one", "after"), "seed {seed}");
    }
    assert!(torn > 0, "no seed tore a line");
}

#[test]
fn a_full_disk_refuses_and_a_failed_sync_ends_it() {
    let (sim, disk) = disk(1);
    let (journal, _) = open(&disk);
    journal.append(Timestamp::from_ms(1), note("one")).expect("written");
    sim.set_capacity(Some(sim.used() + 10));
    journal.append(Timestamp::from_ms(2), note("no space")).expect_err("the disk is full");
    sim.set_capacity(None);
    assert_eq!(journal.append(Timestamp::from_ms(3), note("two")).expect("space again"), 2);
    sim.fail_next(Operation::Sync, Fault::Io);
    journal.append(Timestamp::from_ms(4), note("three")).expect_err("the sync failed");
    let error = journal.append(Timestamp::from_ms(5), note("four")).expect_err("not trusted any more");
    assert!(matches!(error, JournalError::Broken { .. }), "{error}");
}

#[test]
fn a_long_text_is_cut_and_says_so() {
    let (_, disk) = disk(1);
    let (journal, _) = open(&disk);
    let long = Note { reason: "ü".repeat(limits::JOURNAL_TEXT), ..note("one") };
    journal.append(Timestamp::from_ms(1), long).expect("written");
    let mut reason = String::new();
    Journal::read(disk.as_ref(), Path::new(DIR), |entry| reason = entry.reason).expect("sound");
    assert!(reason.len() < limits::JOURNAL_TEXT + 40 && reason.ends_with("(8192 bytes)"), "{reason}");
}
