//! The slot and the simulated disk it is tried on.

use holdfast_rt as rt;
use rt::{Disk, Fault, RealDisk, SimDisk, SimRandom, Slot, SlotError, replace_file};
use std::{path::Path, sync::Arc};

const DIR: &str = "/data";

fn slot(disk: &SimDisk) -> Slot {
    Slot::open(Arc::new(disk.clone()), Path::new(DIR), "plan").expect("opens")
}

#[test]
fn what_was_stored_last_is_loaded() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = || Slot::open(Arc::new(RealDisk), dir.path(), "plan").expect("opens");
    assert_eq!(open().load().expect("loads"), None);
    for content in ["one", "two", "", "four"] {
        open().store(content.as_bytes()).expect("stores");
        let loaded = open().load().expect("loads").expect("is there");
        assert_eq!((loaded.bytes.as_slice(), loaded.fallback), (content.as_bytes(), None));
    }
}

#[test]
fn damage_at_any_byte_is_found_named_and_kept_aside() {
    let store_two = |disk: &SimDisk| {
        let mut slot = slot(disk);
        slot.store(b"older").expect("stores");
        slot.store(b"newer").expect("stores");
    };
    let length = 28 + 5;
    for at in 0..length {
        for cut in [false, true] {
            let disk = SimDisk::new(at as u64);
            store_two(&disk);
            disk.damage(&Path::new(DIR).join("plan"), |bytes| {
                if cut { bytes.truncate(at) } else { bytes[at] ^= 0x10 }
            });
            let loaded = slot(&disk).load().expect("falls back").expect("is there");
            assert_eq!(loaded.bytes, b"older", "byte {at}");
            let damaged = loaded.fallback.expect("says so").damaged;
            assert!(disk.exists(&damaged).expect("asks"), "the damaged file is kept");
            // The good one stays where the next load and the next store find it.
            assert_eq!(slot(&disk).load().expect("loads").expect("is there").bytes, b"older");
            slot(&disk).store(b"newest").expect("stores");
            assert_eq!(slot(&disk).load().expect("loads").expect("is there").bytes, b"newest");
        }
    }
}

#[test]
fn damage_without_a_previous_content_is_an_error_that_names_the_file() {
    let disk = SimDisk::new(1);
    slot(&disk).store(b"only").expect("stores");
    disk.damage(&Path::new(DIR).join("plan"), |bytes| bytes[30] ^= 1);
    match slot(&disk).load() {
        Err(SlotError::Damaged { path, aside, .. }) => {
            assert_eq!(path, Path::new("/data/plan"));
            assert_eq!(aside, Path::new("/data/plan.damaged-1"));
        }
        other => panic!("{other:?}"),
    }
}

/// Every crash point of a store, many seeds: what was acknowledged is there, whole.
#[test]
fn a_store_survives_a_crash_at_every_operation() {
    for seed in 0..2000 {
        let random = SimRandom::new(seed);
        let disk = SimDisk::new(seed);
        let mut acked: u64 = 0;
        let mut tried: u64 = 0;
        for _ in 0..6 {
            disk.fail_in(1 + random.below(30), Fault::Crash);
            while let Ok(mut slot) = Slot::open(Arc::new(disk.clone()), Path::new(DIR), "plan") {
                tried += 1;
                let content = vec![tried as u8; 700 + random.below(3000) as usize];
                if slot.store(&content).is_err() {
                    break;
                }
                acked = tried;
            }
            disk.restart();
            disk.clear_faults();
            let found = match slot(&disk).load().expect("never damaged by a crash") {
                None => 0,
                Some(loaded) => {
                    assert_eq!(loaded.fallback, None, "seed {seed}: a crash is not damage");
                    assert!(loaded.bytes.iter().all(|byte| *byte == loaded.bytes[0]), "seed {seed}: mixed");
                    u64::from(loaded.bytes[0])
                }
            };
            assert!(
                (acked..=tried).contains(&found),
                "seed {seed}: acked {acked}, found {found}, tried {tried}"
            );
            acked = found;
        }
    }
}

#[test]
fn a_full_disk_leaves_the_content_before() {
    let disk = SimDisk::new(3);
    slot(&disk).store(b"before").expect("stores");
    disk.set_capacity(Some(disk.used() + 100));
    assert!(matches!(slot(&disk).store(&[1; 500]), Err(SlotError::Disk(error)) if error.is_no_space()));
    assert_eq!(slot(&disk).load().expect("loads").expect("is there").bytes, b"before");
    disk.set_capacity(None);
    slot(&disk).store(b"after").expect("there is space again");
    assert_eq!(slot(&disk).load().expect("loads").expect("is there").bytes, b"after");
}

#[test]
fn a_replaced_file_is_old_or_new() {
    for seed in 0..500 {
        let disk = SimDisk::new(seed);
        let path = Path::new("/data/file");
        disk.create_dir(Path::new(DIR)).expect("creates");
        replace_file(&disk, path, &[1; 2000]).expect("replaces");
        disk.fail_in(1 + seed % 8, Fault::Crash);
        let acked = replace_file(&disk, path, &[2; 3000]).is_ok();
        disk.restart();
        let content = disk.read(path).expect("is there");
        assert!(content == [2; 3000] || (!acked && content == [1; 2000]), "seed {seed}");
    }
}

/// The contract that storage code relies on, and what a careless program would trip over.
#[test]
fn the_simulated_disk_forgets_what_was_not_synced() {
    let mut lost_content = 0;
    let mut lost_names = 0;
    let mut torn = 0;
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let path = Path::new("/data/file");
        disk.create_dir(Path::new(DIR)).expect("creates");
        let file = disk.create(path).expect("creates");
        file.write_at(0, &[7; 2048]).expect("writes");
        disk.restart();
        match disk.read(path) {
            Err(_) => lost_names += 1,
            Ok(content) if content.iter().all(|byte| *byte != 7) => lost_content += 1,
            Ok(content) if content != [7; 2048] => torn += 1,
            Ok(_) => {}
        }
        assert!(file.read_at(0, &mut [0; 1]).is_err(), "a handle from before the crash is dead");
    }
    assert!(lost_names > 20 && lost_content > 5 && torn > 20, "{lost_names} {lost_content} {torn}");
}

#[test]
fn a_failed_sync_is_not_mended_by_the_next() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        let path = Path::new("/data/file");
        disk.create_dir(Path::new(DIR)).expect("creates");
        let file = disk.create(path).expect("creates");
        disk.sync_dir(Path::new(DIR)).expect("syncs");
        file.write_at(0, &[7; 2048]).expect("writes");
        disk.fail_in(1, Fault::Io);
        assert!(file.sync_data().is_err());
        file.sync_data().expect("claims to be fine");
        disk.restart();
        lost += u32::from(disk.read(path).expect("is there") != [7; 2048]);
    }
    assert!(lost > 50, "{lost}");
}

#[test]
fn a_lock_is_held_by_one_and_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("lock");
    let held = RealDisk.lock(&path, "pid 1").expect("locks");
    assert!(RealDisk.lock(&path, "pid 2").expect_err("is held").is_locked());
    assert_eq!(RealDisk.read(&path).expect("reads"), b"pid 1");
    drop(held);
    drop(RealDisk.lock(&path, "pid 3").expect("is free again"));

    let disk = SimDisk::new(0);
    disk.create_dir(Path::new(DIR)).expect("creates");
    let held = disk.lock(Path::new("/data/lock"), "").expect("locks");
    assert!(disk.lock(Path::new("/data/lock"), "").expect_err("is held").is_locked());
    disk.restart();
    let again = disk.lock(Path::new("/data/lock"), "").expect("a crash frees it");
    drop(held);
    assert!(disk.lock(Path::new("/data/lock"), "").expect_err("is held").is_locked());
    drop(again);
}

#[test]
fn the_real_disk_reserves_space_that_reads_as_zeroes() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("file");
    let file = RealDisk.create(&path).expect("creates");
    file.write_at(0, b"kept").expect("writes");
    file.allocate(1 << 20).expect("allocates");
    assert_eq!(file.size().expect("has a size"), 1 << 20);
    let content = RealDisk.read(&path).expect("reads");
    assert!(content.starts_with(b"kept") && content[4..].iter().all(|byte| *byte == 0));
    assert!(RealDisk.free_space(dir.path()).expect("asks") > 0);
    assert_eq!(RealDisk.list(dir.path()).expect("lists"), ["file"]);
}

#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let mode = |name: &str| {
        let meta = std::fs::metadata(dir.path().join(name)).expect("it is there");
        meta.permissions().mode() & 0o777
    };
    let file = RealDisk.create(&dir.path().join("made")).expect("created");
    assert_eq!(mode("made"), 0o600, "from its first moment");
    drop(file);
    replace_file(&RealDisk, &dir.path().join("secret"), b"one").expect("replaced");
    assert_eq!(mode("secret"), 0o600);
    // One that was readable before is not any more once it is replaced.
    let open_to_all = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(dir.path().join("secret"), open_to_all).expect("opened up");
    replace_file(&RealDisk, &dir.path().join("secret"), b"two").expect("replaced");
    assert_eq!(mode("secret"), 0o600);
    let mut slot = Slot::open(Arc::new(RealDisk), dir.path(), "plan").expect("opens");
    slot.store(b"one").expect("stores");
    slot.store(b"two").expect("stores");
    assert_eq!((mode("plan"), mode("plan.previous")), (0o600, 0o600));
}

#[test]
fn what_makes_no_sense_to_its_reader_gives_way_to_what_was_before() {
    let disk = SimDisk::new(1);
    slot(&disk).store(b"older").expect("stores");
    slot(&disk).store(b"newer").expect("stores");
    for (wanted, aside) in [(&b"newer"[..], "plan.damaged-1"), (b"older", "plan.damaged-2")] {
        let slot = slot(&disk);
        assert_eq!(slot.load().expect("loads").expect("is there").bytes, wanted);
        let moved = slot.put_newest_aside().expect("moved");
        assert_eq!(moved, Some(Path::new(DIR).join(aside)), "it is kept for people");
        assert!(disk.exists(&Path::new(DIR).join(aside)).expect("asks"));
    }
    assert_eq!(slot(&disk).load().expect("loads"), None);
    assert_eq!(slot(&disk).put_newest_aside().expect("nothing to move"), None);
}
