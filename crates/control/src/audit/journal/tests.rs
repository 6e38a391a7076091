use super::*;
use api::{AuditRequest, AuditType, Outcome};
use rt::{Fault, Operation, SimDisk};
use types::EventId;

const DIR: &str = "/data";

const SEEN: Seen = Seen { node: None, epoch: types::Epoch::new(3), event: types::EventId::new(7) };

fn note(act: &str) -> Note {
    let body = Some(serde_json::json!({ "reason": "ein \"Grund\"\n", "cpu": 0.5 }));
    let request =
        AuditRequest { method: "POST".into(), path: "/v1/x".into(), body, ..AuditRequest::default() };
    let note = Note::new(AuditType::Refused, "tok_1", request, Outcome::NotExecuted);
    Note { act: Some(act.into()), reason: "größer\nals".into(), ..note }
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
    Journal::read(disk.as_ref(), Path::new(DIR), |entry| acts.extend(entry.act)).expect("a sound journal");
    acts
}

#[test]
fn entries_are_chained_and_go_on_after_a_restart() {
    let (_, disk) = disk(1);
    assert_eq!(Journal::verify(disk.as_ref(), Path::new(DIR)).expect("none yet"), Verified::default());
    let (journal, found) = open(&disk);
    assert_eq!(found.entries, 0);
    assert_eq!(journal.append(Timestamp::from_ms(1), SEEN, note("one")).expect("written"), 1);
    assert!(Journal::open(&disk, Path::new(DIR)).is_err(), "one process at a time");
    drop(journal);
    let (journal, found) = open(&disk);
    assert_eq!((found.entries, found.torn), (1, 0));
    assert_eq!(journal.append(Timestamp::from_ms(2), SEEN, note("two")).expect("written"), 2);
    assert_eq!(acts(&disk), ["one", "two"]);
}

#[test]
fn whatever_is_changed_in_it_is_noticed() {
    let (sim, disk) = disk(1);
    let (journal, _) = open(&disk);
    for act in ["one", "two", "three"] {
        journal.append(Timestamp::from_ms(1), SEEN, note(act)).expect("written");
    }
    drop(journal);
    let path = dir_in(Path::new(DIR)).join(NAME);
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
        journal.append(Timestamp::from_ms(1), SEEN, note("one")).expect("written");
        sim.fail_next(Operation::Sync, Fault::Crash);
        journal.append(Timestamp::from_ms(2), SEEN, note("lost")).expect_err("the power went");
        drop(journal);
        sim.restart();
        let (journal, found) = open(&disk);
        torn += u64::from(found.torn > 0);
        assert!((1..=2).contains(&found.entries), "seed {seed}: {found:?}");
        journal.append(Timestamp::from_ms(3), SEEN, note("after")).expect("written");
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
    journal.append(Timestamp::from_ms(1), SEEN, note("one")).expect("written");
    sim.set_capacity(Some(sim.used() + 10));
    journal.append(Timestamp::from_ms(2), SEEN, note("no space")).expect_err("the disk is full");
    sim.set_capacity(None);
    assert_eq!(journal.append(Timestamp::from_ms(3), SEEN, note("two")).expect("space again"), 2);
}

#[test]
fn after_a_failed_sync_it_goes_on_behind_what_was_durable_as_soon_as_the_disk_does() {
    for seed in 0..50 {
        let (sim, disk) = disk(seed);
        let (journal, _) = open(&disk);
        journal.append(Timestamp::from_ms(1), SEEN, note("one")).expect("written");
        sim.fail_next(Operation::Sync, Fault::Io);
        journal.append(Timestamp::from_ms(2), SEEN, note("refused")).expect_err("the sync failed");
        sim.fail_next(Operation::Sync, Fault::Io);
        let error = journal.append(Timestamp::from_ms(3), SEEN, note("refused")).expect_err("it fails still");
        assert!(error.to_string().contains("cannot be gone on with"), "{error}");
        assert_eq!(journal.append(Timestamp::from_ms(4), SEEN, note("two")).expect("it is well again"), 2);
        assert_eq!(journal.verify_now().expect("sound").entries, 2);
        drop(journal);
        sim.restart();
        assert_eq!(acts(&disk), ["one", "two"], "seed {seed}");
    }
}

#[test]
fn sealing_that_fails_at_any_step_is_gone_on_with() {
    let mut failed = 0;
    for step in 1..10 {
        let (sim, disk) = disk(step);
        let (journal, _) = open(&disk);
        while journal.lock().length < limits::JOURNAL_SEGMENT {
            fill(&journal, journal.last().0 + 1);
        }
        let (last, _) = journal.last();
        sim.fail_in(step, Fault::Io);
        let written = journal.append(Timestamp::from_ms(1), SEEN, note("after")).is_ok();
        failed += u32::from(!written);
        sim.clear_faults();
        journal.append(Timestamp::from_ms(2), SEEN, note("on")).expect("it goes on");
        let (found, wanted) = (journal.verify_now().expect("sound"), last + u64::from(written) + 1);
        assert_eq!((found.first, found.entries), (1, wanted), "step {step}");
        drop(journal);
        assert_eq!(open(&disk).1.head(), found.head(), "step {step}");
    }
    assert!(failed > 2, "no step failed");
}

#[test]
fn what_is_cut_off_its_end_or_put_in_its_place_is_found_while_it_is_used() {
    let (sim, disk) = disk(1);
    let (journal, _) = open(&disk);
    for act in ["one", "two", "three"] {
        journal.append(Timestamp::from_ms(1), SEEN, note(act)).expect("written");
    }
    let path = dir_in(Path::new(DIR)).join(NAME);
    let sound = disk.read(&path).expect("there");
    let lines: Vec<&[u8]> = sound.split_inclusive(|byte| *byte == b'\n').collect();
    let shorter = lines[..2].concat();
    sim.damage(&path, |bytes| bytes.truncate(shorter.len()));
    let error = journal.verify_now().expect_err("its last line is missing");
    assert!(matches!(error, JournalError::Damaged { seq: 3, .. }), "{error}");
    sim.damage(&path, |bytes| *bytes = sound.clone());
    assert_eq!(journal.verify_now().expect("sound again").entries, 3);

    // Another file of the same name: sound by itself, and not what was written.
    let put = |content: &[u8]| {
        let file = disk.create(&path).expect("created");
        file.write_at(0, content).expect("written");
        file.sync_data().expect("durable");
    };
    disk.rename(&path, Path::new("/data/audit/kept")).expect("renamed");
    let error = journal.verify_now().expect_err("it is gone");
    assert!(matches!(error, JournalError::Damaged { seq: 1, .. }), "{error}");
    put(&shorter);
    journal.verify_now().expect_err("it is shorter");
    disk.remove(&path).expect("removed");
    let other = {
        let (sim, disk) = self::disk(2);
        let (journal, _) = open(&disk);
        for act in ["one", "two", "4"] {
            journal.append(Timestamp::from_ms(1), SEEN, note(act)).expect("written");
        }
        sim.read(&path).expect("there")
    };
    put(&other);
    let error = journal.verify_now().expect_err("it is another one");
    assert!(matches!(error, JournalError::Damaged { seq: 3, .. }), "{error}");
}

#[test]
fn what_is_sealed_while_it_is_read_is_read_too() {
    let (_, disk) = disk(1);
    let (journal, _) = open(&disk);
    // More than one segment takes.
    const MANY: u64 = 25_000;
    fill(&journal, MANY);
    let sealed = |disk: &Arc<dyn Disk>| {
        let names = disk.list(&dir_in(Path::new(DIR))).expect("listed");
        names.iter().filter(|name| name.starts_with("journal.0")).count()
    };
    let before = sealed(&disk);
    assert!(before > 0);
    let mut seqs = Vec::new();
    let found = Journal::read(disk.as_ref(), Path::new(DIR), |entry| {
        seqs.push(entry.seq);
        // Twice, for what was in use and what is used then.
        if entry.seq == 1 || entry.seq == MANY {
            let upto = journal.last().0 + MANY;
            fill(&journal, upto);
        }
    });
    assert!(sealed(&disk) > before + 1);
    let found = found.expect("nothing differs");
    let (last, head) = journal.last();
    assert_eq!((found.entries, found.head()), (last, head));
    assert!(seqs.iter().copied().eq(1..=last), "each line once");
}

#[test]
fn what_a_start_cuts_off_is_told_by_the_next_line() {
    let (sim, disk) = disk(1);
    let (journal, _) = open(&disk);
    for act in ["one", "two", "three"] {
        journal.append(Timestamp::from_ms(1), SEEN, note(act)).expect("written");
    }
    drop(journal);
    let path = dir_in(Path::new(DIR)).join(NAME);
    // Whether by a crash or by hand: of the last write this cannot be told.
    sim.damage(&path, |bytes| bytes.truncate(bytes.len() - 7));
    let (journal, found) = open(&disk);
    assert!(found.torn > 0 && found.entries == 2);
    sim.set_capacity(Some(sim.used()));
    journal.append(Timestamp::from_ms(2), SEEN, note("no space")).expect_err("the disk is full");
    sim.set_capacity(None);
    assert_eq!(journal.append(Timestamp::from_ms(3), SEEN, note("after")).expect("written"), 4);
    journal.append(Timestamp::from_ms(4), SEEN, note("on")).expect("written");
    let mut told = Vec::new();
    Journal::read(disk.as_ref(), Path::new(DIR), |entry| told.push((entry.ended, entry.reason)))
        .expect("sound");
    let lost: Vec<_> = told.iter().filter(|(kind, _)| *kind == AuditType::Lost).collect();
    assert_eq!(lost, [&told[2]], "{told:?}");
    let words = format!("{} bytes behind line 2 were torn", found.torn);
    assert!(told[2].1.starts_with(&words), "{}", told[2].1);
}

#[test]
fn a_long_text_is_cut_and_says_so() {
    let (_, disk) = disk(1);
    let (journal, _) = open(&disk);
    let long = Note { reason: "ü".repeat(limits::JOURNAL_TEXT), ..note("one") };
    journal.append(Timestamp::from_ms(1), SEEN, long).expect("written");
    let mut reason = String::new();
    Journal::read(disk.as_ref(), Path::new(DIR), |entry| reason = entry.reason).expect("sound");
    assert!(reason.len() < limits::JOURNAL_TEXT + 40 && reason.ends_with("(8192 bytes)"), "{reason}");
}

/// The size of a segment as the tests see it: as many lines as fit.
fn fill(journal: &Journal, upto: u64) {
    while journal.last().0 < upto {
        let notes = (0..200).map(|nth| (Timestamp::from_ms(nth), SEEN, note("many"))).collect();
        journal.append_all(notes).expect("written");
    }
}

#[test]
fn segments_are_sealed_and_the_chain_goes_on_over_them() {
    let (sim, disk) = disk(1);
    let (journal, _) = open(&disk);
    fill(&journal, 40_000);
    let (last, head) = journal.last();
    let names = disk.list(&dir_in(Path::new(DIR))).expect("listed");
    let sealed: Vec<&String> = names.iter().filter(|name| name.starts_with("journal.0")).collect();
    assert!(sealed.len() >= 2, "{names:?}");
    assert_eq!(*sealed[0], format!("journal.00000000000000000001.{}", "0".repeat(64)));
    let found = journal.verify_now().expect("sound");
    assert_eq!((found.first, found.entries, found.head()), (1, last, head.clone()));
    for after in [0, 1, 7, last / 3, last / 2, last - 600, last - 3, last] {
        let lines = journal.after(after).expect("read");
        let seqs: Vec<u64> = lines.iter().map(|line| line.seq).collect();
        assert_eq!(seqs, (after + 1..=last).take(seqs.len()).collect::<Vec<_>>(), "after {after}");
        assert_eq!(seqs.is_empty(), after == last);
    }
    drop(journal);
    let (journal, found) = open(&disk);
    assert_eq!((found.entries, found.head()), (last, head.clone()));
    drop(journal);
    // The oldest may be moved away; what is left says where it begins.
    disk.remove(&dir_in(Path::new(DIR)).join(sealed[0])).expect("removed");
    let found = Journal::verify(disk.as_ref(), Path::new(DIR)).expect("sound");
    assert_eq!((found.entries, found.head()), (last, head));
    assert!(found.first > 1);
    // Its first line is held against the chain before it, which its name says.
    let oldest = dir_in(Path::new(DIR)).join(sealed[1]);
    let change = |sim: &SimDisk| {
        sim.damage(&oldest, |bytes| {
            let at = bytes.windows(6).position(|word| word == b"\"many\"").expect("its act");
            bytes[at + 1..at + 5].copy_from_slice(b"none");
        })
    };
    let copy = sim.copy();
    change(&copy);
    let error = Journal::verify(&copy, Path::new(DIR)).expect_err("its first line was changed");
    assert!(matches!(error, JournalError::Damaged { seq, .. } if seq == found.first), "{error}");
    // Names of earlier releases lack it: that line is taken on trust, and not called verified.
    let copy = sim.copy();
    let old = dir_in(Path::new(DIR)).join(format!("journal.{:020}", found.first));
    copy.rename(&oldest, &old).expect("renamed");
    let trusting = Journal::verify(&copy, Path::new(DIR)).expect("sound");
    assert_eq!((trusting.first, trusting.head()), (found.first + 1, found.head()));
    // A flipped byte in a sealed segment is found, though a start does not look there.
    sim.damage(&oldest, |bytes| bytes[5000] ^= 1);
    let error = Journal::verify(disk.as_ref(), Path::new(DIR)).expect_err("damaged");
    assert!(matches!(error, JournalError::Damaged { seq, .. } if seq > found.first), "{error}");
}

#[test]
fn a_crash_at_any_step_of_sealing_loses_nothing() {
    for step in 0..16 {
        let (sim, disk) = disk(step);
        let (journal, _) = open(&disk);
        fill(&journal, 1);
        while journal.lock().length < limits::JOURNAL_SEGMENT {
            fill(&journal, journal.last().0 + 1);
        }
        let (last, _) = journal.last();
        sim.fail_in(step, Fault::Crash);
        let written = journal.append(Timestamp::from_ms(1), SEEN, note("after"));
        drop(journal);
        if !sim.is_powered() {
            sim.restart();
        }
        sim.clear_faults();
        let (journal, found) = open(&disk);
        assert!(found.entries >= last + u64::from(written.is_ok()), "step {step}: {found:?} of {last}");
        journal.append(Timestamp::from_ms(2), SEEN, note("on")).expect("written");
        let all = journal.verify_now().expect("sound");
        assert_eq!(all.entries, found.entries + 1, "step {step}");
    }
}

#[test]
fn lines_that_became_durable_together_are_torn_together_and_no_others() {
    let mut torn = 0;
    for seed in 0..200 {
        let (sim, disk) = disk(seed);
        let (journal, _) = open(&disk);
        let many = |count| (0..count).map(|_| (Timestamp::from_ms(1), SEEN, note("many"))).collect();
        journal.append_all(many(3)).expect("written");
        sim.fail_next(Operation::Sync, Fault::Crash);
        journal.append_all(many(5)).expect_err("the power went");
        drop(journal);
        sim.restart();
        let (journal, found) = open(&disk);
        torn += u64::from(found.torn > 0);
        assert!((3..=8).contains(&found.entries), "seed {seed}: {found:?}");
        journal.append(Timestamp::from_ms(3), SEEN, note("after")).expect("written");
        drop(journal);
        // What was durable before something else was written is never taken for torn.
        sim.damage(&dir_in(Path::new(DIR)).join(NAME), |bytes| bytes[40] = 0);
        let error = Journal::verify(disk.as_ref(), Path::new(DIR)).expect_err("damaged");
        assert!(matches!(error, JournalError::Damaged { seq: 1, .. }), "seed {seed}: {error}");
    }
    assert!(torn > 0, "no seed tore anything");
}

#[test]
fn lines_of_the_first_shape_are_read_verified_and_gone_on_with() {
    let old = include_bytes!("../../../tests/compat/journal-v1.jsonl");
    let (sim, disk) = disk(1);
    disk.create_dir(&dir_in(Path::new(DIR))).expect("a directory");
    let path = dir_in(Path::new(DIR)).join(NAME);
    let file = disk.create(&path).expect("created");
    file.write_at(0, old).expect("written");
    file.sync_data().expect("durable");
    let (journal, found) = open(&disk);
    assert_eq!((found.first, found.entries, found.torn), (1, 2, 0));
    journal.append(Timestamp::from_ms(1), SEEN, note("new")).expect("written");
    let mut entries = Vec::new();
    Journal::read(disk.as_ref(), Path::new(DIR), |entry| entries.push(entry)).expect("sound");
    let kinds: Vec<_> = entries.iter().map(|entry| (entry.version, entry.ended)).collect();
    assert_eq!(kinds, [(1, AuditType::Confirmed), (1, AuditType::Executed), (2, AuditType::Refused)]);
    assert_eq!(entries[1].outcome, Outcome::Executed);
    assert!(entries[0].request.path.contains("nobody waits for this"), "{:?}", entries[0]);
    assert_eq!((entries[2].last_event, entries[2].seq), (EventId::new(7), 3));
    sim.damage(&path, |bytes| bytes[200] ^= 1);
    let error = Journal::verify(disk.as_ref(), Path::new(DIR)).expect_err("damaged");
    assert!(matches!(error, JournalError::Damaged { seq: 1, .. }), "{error}");
}
