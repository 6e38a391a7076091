//! What is backed up is what is restored, to any event and any time.

use crate::world::*;
use holdfast_backup::{
    Archiver, BackupError, Directory, Fingerprinter, Live, RestoreError, Reuse, Source, To, backup, drill,
    list, prune, restore, verify,
};
use log::{
    Batch, Kind, Log,
    cluster::{self, Alone, ClusterLog, Failover},
    wal::{EntriesError, Entry, MemberLog, NewLogError, RawEntry, Wal, epoch_payload},
};
use rt::{SystemClock, ThreadSpawner};
use std::{fs, num::NonZeroUsize, path::Path, sync::Arc};
use types::{DurationMs, EventId, Index, NodeId, Term, Timestamp, limits};

#[tokio::test]
async fn a_restored_log_has_every_event_the_chain_and_another_name() {
    let world = World::new();
    let mut wal = world.open();
    append(&mut wal, 60, 700);
    wal.open_epoch(NodeId::from_u128(1), "a test").expect("an epoch");
    append(&mut wal, 60, 700);
    save_snapshot(&wal, EventId::new(90));
    save_snapshot(&wal, EventId::new(150));
    append(&mut wal, 5, 700);
    assert!(fs::read_dir(world.log.join("archive")).expect("an archive").count() > 1);
    wal.close().expect("closes");

    let done = world.backup().await;
    let verified = verify(&world.store, &key(), None).await.expect("verifies");
    assert_eq!((verified.id, verified.head), (done.id, done.head));
    let (head, old) = events(&world.log);
    assert_eq!(done.head, head);

    let restored = world.restore("new", To::Last).await.expect("restores");
    let (found, new) = events(&world.dir("new"));
    assert_eq!((found, restored.head), (restored.end, head), "the chain is the same, and one entry more");
    assert_eq!((found.index, found.epoch), (head.index.next(), head.epoch.plus(1)));
    assert!(new == old, "every event is the same");
    let mut print = Fingerprinter::default();
    old.iter().for_each(|record| print.add(record));
    assert_eq!(restored.fingerprint, print.finish());
    assert_eq!(restored.of, CLUSTER);
    let (wal, recovered) = Wal::open(disk(), &world.dir("new"), options()).expect("opens");
    assert_eq!((recovered.cluster.as_str(), wal.node()), ("the new cluster", NodeId::from_u128(9)));
    assert_eq!(recovered.dropped, None);
    let snapshot = wal.load_snapshot().expect("reads").expect("a snapshot");
    assert_eq!(snapshot, (EventId::new(150), b"the state at 150".to_vec()));
    // It goes on as a log does, and no file of the old one can be brought into it.
    drop(wal);
    let (mut wal, _) = Wal::open(disk(), &world.dir("new"), options()).expect("opens");
    append(&mut wal, 1, 100);
    drop(wal);
    let (last, _) = events(&world.dir("new"));
    assert!(last.event > head.event);
    let old_snapshot = format!("snapshots/{:020}.snap", 150);
    fs::copy(world.log.join(&old_snapshot), world.dir("new").join(&old_snapshot)).expect("copies");
    let report = log::wal::verify(&rt::RealDisk, &world.dir("new")).expect("reads");
    assert!(report.problems[0].what.contains("belongs to another log"), "{:?}", report.problems);
}

/// Half of the log in the backup, half in what was archived since; every event of both is asked for.
#[tokio::test]
async fn fm_b_a_restore_ends_at_the_last_batch_up_to_any_event_or_time() {
    let world = World::new();
    let mut wal = world.open();
    let mut borders = append(&mut wal, 9, 200);
    world.backup().await;
    let mut archiver = Archiver::start(world.store.clone(), key(), world.source()).await.expect("starts");
    for _ in 0..3 {
        borders.extend(append(&mut wal, 2, 200));
        // In use by `wal`, so its very last write is not known to be durable yet.
        archiver.step().await.expect("archives");
    }
    wal.close().expect("closes");
    archiver.step().await.expect("archives");
    let last = borders.last().expect("batches").event;
    assert_eq!(archiver.archived().event, last);
    let (_, all) = events(&world.log);

    for asked in 0..=last.get() {
        let border = borders.iter().rev().find(|head| head.event.get() <= asked);
        let inside = borders.iter().find(|head| head.event.get() > asked).map(|head| head.event);
        let begins = border.map_or(0, |head| head.event.get());
        for (kind, to) in [
            ("event", To::Event(EventId::new(asked))),
            ("time", To::Time(Timestamp::from_ms(asked * 100 + 50))),
        ] {
            let name = format!("{kind}-{asked}");
            let restored = world.restore(&name, to).await.expect("restores");
            assert_eq!(restored.head.event.get(), begins, "{name}");
            if let Some(border) = border {
                assert_eq!(restored.head, *border, "{name}: the chain of that place");
            }
            let wanted = if kind == "event" && asked > begins { inside } else { None };
            assert_eq!(restored.inside_batch_to, wanted, "{name}");
            let (head, found) = events(&world.dir(&name));
            assert_eq!(head, restored.end);
            assert!(found == all[..begins as usize], "{name}");
        }
    }
    let beyond = world.restore("beyond", To::Event(last.next())).await.expect_err("there is no such event");
    assert!(matches!(beyond, RestoreError::Beyond { asked, ends } if asked == last.next() && ends == last));
    assert_no_log(&world.dir("beyond"));
    assert_eq!(
        world.restore("all", To::Time(Timestamp::from_ms(u64::MAX))).await.expect("all").head.event,
        last
    );
}

#[tokio::test]
async fn what_is_in_the_store_is_not_sent_again() {
    let world = World::new();
    let mut wal = world.open();
    // More than two parts.
    append(&mut wal, 70, 100_000);
    let first = world.backup().await;
    assert!(first.sent.objects >= 3 && first.sent.bytes > 2 * limits::BACKUP_PART as u64, "{first:?}");
    assert_eq!(first.reused.objects, 0);

    let again = world.backup().await;
    assert_eq!(again.sent.objects, 0, "the same log has the same objects");
    assert_eq!(again.reused, first.sent);

    append(&mut wal, 2, 1000);
    let more = world.backup().await;
    assert_eq!(more.sent.objects, 1, "only the last part has grown");
    let whole =
        backup(&world.store, &key(), world.source(), &SystemClock, Reuse::Nothing).await.expect("whole");
    assert_eq!(whole.sent.objects, more.sent.objects + more.reused.objects);

    // Another key shares nothing, neither names nor content.
    let other = holdfast_backup::Key::new([8; 32]);
    let under =
        backup(&world.store, &other, world.source(), &SystemClock, Reuse::Objects).await.expect("another");
    assert_eq!(under.reused.objects, 0);
    assert_eq!(list(&world.store).await.expect("lists").len(), 5);
    verify(&world.store, &key(), Some(whole.id)).await.expect("the others are as they were");
}

#[tokio::test]
async fn pruning_keeps_what_is_named_and_what_is_young() {
    let world = World::new();
    let mut wal = world.open();
    let mut done = Vec::new();
    for _ in 0..4 {
        append(&mut wal, 3, 500);
        done.push(world.backup().await);
    }
    let mut archiver = Archiver::start(world.store.clone(), key(), world.source()).await.expect("starts");
    append(&mut wal, 3, 500);
    archiver.step().await.expect("archives");
    append(&mut wal, 3, 500);
    wal.close().expect("closes");
    archiver.step().await.expect("archives");
    let before = world.stored();
    let two = NonZeroUsize::new(2).expect("not zero");
    let young = prune(&world.store, &key(), &SystemClock, two, limits::BACKUP_GRACE).await.expect("prunes");
    assert_eq!(young.objects.objects, 0, "all objects are young");
    assert_eq!(young.removed, [done[0].id, done[1].id]);
    assert_eq!(world.stored().len(), before.len() - 2, "two manifests");
    let old = prune(&world.store, &key(), &SystemClock, two, DurationMs::from_ms(0)).await.expect("prunes");
    assert_eq!(old.objects.objects, 2, "what the first two named alone");
    for done in &done[2..] {
        verify(&world.store, &key(), Some(done.id)).await.expect("verifies");
    }
    let (head, _) = events(&world.log);
    assert_eq!(world.restore("all", To::Last).await.expect("restores").head, head);
    // A newer backup takes the place of what was archived before it.
    world.backup().await;
    let done = prune(&world.store, &key(), &SystemClock, two, DurationMs::from_ms(0)).await.expect("prunes");
    assert!(done.objects.objects >= 2);
    assert!(!world.stored().iter().any(|name| name.starts_with("log/")));
    assert_eq!(world.restore("still", To::Last).await.expect("restores").head, head);
    // Without the key of a kept backup it is not known what it needs.
    let other = holdfast_backup::Key::new([8; 32]);
    let before = world.stored();
    prune(&world.store, &other, &SystemClock, two, DurationMs::from_ms(0)).await.expect_err("another key");
    assert_eq!(world.stored(), before);
}

#[tokio::test]
async fn a_drill_folds_every_event_and_leaves_nothing() {
    let world = World::new();
    let mut wal = world.open();
    append(&mut wal, 40, 300);
    wal.close().expect("closes");
    world.backup().await;
    let scratch = world.dir("scratch");
    // What a drill that was killed has left.
    fs::create_dir_all(scratch.join("holdfast-drill/archive")).expect("a directory");
    fs::write(scratch.join("holdfast-drill/00000000000000000001.seg"), b"half").expect("a file");
    let (mut count, mut sum) = (0, 0);
    let key = key();
    let drilled = drill(&world.store, &key, disk(), &scratch, &SystemClock, |record| {
        count += 1;
        sum += record.id.get();
    });
    let drilled = drilled.await.expect("it can be restored");
    let (head, all) = events(&world.log);
    assert_eq!((drilled.event, count), (head.event, all.len()));
    assert_eq!(sum, all.iter().map(|record| record.id.get()).sum::<u64>());
    assert!(!scratch.join("holdfast-drill").exists());
    for name in world.stored().iter().filter(|name| name.starts_with("objects/")) {
        fs::remove_file(world.objects.join(name)).expect("removes");
    }
    drill(&world.store, &key, disk(), &scratch, &SystemClock, |_| {}).await.expect_err("it cannot");
    assert!(!scratch.join("holdfast-drill").exists());
}

#[tokio::test]
async fn a_directory_that_is_not_empty_is_left_alone() {
    let world = World::new();
    append(&mut world.open(), 3, 100);
    world.backup().await;
    fs::create_dir(world.dir("full")).expect("a directory");
    fs::write(world.dir("full").join("letter"), b"dear").expect("a file");
    let refused = world.restore("full", To::Last).await.expect_err("it is not empty");
    assert!(matches!(&refused, RestoreError::New(NewLogError::NotEmpty { found, .. }) if found == "letter"));
    assert_eq!(fs::read_dir(world.dir("full")).expect("lists").count(), 1);
    let refused = world.restore_into(&world.log, To::Last).await.expect_err("it holds a log");
    assert!(refused.to_string().contains("not empty"), "{refused}");

    let mut same = new_identity();
    same.cluster = CLUSTER.into();
    let refused =
        restore(&world.store, &key(), None, disk(), &world.dir("new"), To::Last, &same, time_of).await;
    assert!(matches!(refused, Err(RestoreError::SameCluster { .. })));
    assert!(!world.dir("new").exists());
}

/// The same cluster, but another history: a copy of the directory that was started by mistake.
#[tokio::test]
async fn a_log_that_has_lost_entries_or_forked_is_not_backed_up_over_the_good_one() {
    let world = World::new();
    let mut wal = world.open();
    append(&mut wal, 5, 100);
    wal.close().expect("closes");
    let fork = World { log: world.dir("fork"), ..World::new() };
    copy(&world.log, &fork.log);
    append(&mut world.open(), 3, 100);
    let good = world.backup().await;

    let source = || Arc::new(Directory::new(disk(), &fork.log));
    let behind = backup(&world.store, &key(), source(), &SystemClock, Reuse::Objects).await;
    assert!(matches!(behind, Err(BackupError::Behind { last, .. }) if last == good.id), "{behind:?}");
    append(&mut fork.open(), 4, 200);
    for reuse in [Reuse::Objects, Reuse::Nothing] {
        let forked = backup(&world.store, &key(), source(), &SystemClock, reuse).await;
        assert!(matches!(forked, Err(BackupError::Log(EntriesError::Diverged { .. }))), "{forked:?}");
    }
    let mut archiver =
        Archiver::start(world.store.clone(), key(), source()).await.expect("starts; it has read nothing yet");
    archiver.step().await.expect_err("it has another history");
    assert_eq!(world.restore("new", To::Last).await.expect("restores").head, good.head);

    // Another cluster has no place there at all.
    let other = World { log: world.dir("other"), ..World::new() };
    Wal::create(&disk(), &other.log, "another cluster", NodeId::from_u128(1)).expect("a log");
    let other = backup(&world.store, &key(), other.source(), &SystemClock, Reuse::Objects).await;
    assert!(other.expect_err("not its store").to_string().contains(CLUSTER));
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &to)
        } else {
            fs::copy(entry.path(), to).expect("copies");
        }
    }
}

/// Entries of a member, as consensus places them: void proposals, epochs, changes of members.
fn member_entries(wal: &mut Wal, rounds: u64) {
    let leader = NodeId::from_u128(3);
    for round in 0..rounds {
        let term = Term::new(1 + round / 5);
        let entry = |kind, payload| RawEntry { kind, term, leader, payload };
        if round % 5 == 0 {
            wal.append_raw(&[entry(Kind::Epoch, epoch_payload(leader, b"a test"))]).expect("appends");
            wal.append_raw(&[entry(Kind::Membership, vec![1, 2, 3].into())]).expect("appends");
        }
        let head = wal.tail();
        let proposal = |expected: EventId| {
            let mut payload = expected.get().to_le_bytes().to_vec();
            payload.extend_from_slice(&head.epoch.get().to_le_bytes());
            for id in [1, 2] {
                let event = event((head.event.get() + id) * 100, 300);
                payload.extend_from_slice(&(event.len() as u32).to_le_bytes());
                payload.extend_from_slice(&event);
            }
            entry(Kind::Proposal, payload.into())
        };
        // The second is void: it was decided on what is no longer the head.
        wal.append_raw(&[proposal(head.event), proposal(head.event)]).expect("appends");
    }
}

const FOUNDER: &[u8] = b"a founder";

fn member(dir: &Path) -> MemberLog {
    let fatal = Box::new(|error: &rt::DiskError| panic!("{error}"));
    MemberLog::open(disk(), dir, options(), FOUNDER.into(), 1, &ThreadSpawner, fatal).expect("opens").0
}

/// A server's own log today: consensus of one. What is restored elects itself and goes on.
#[tokio::test]
async fn the_log_of_a_cluster_goes_on_after_a_restore_without_its_old_members() {
    let world = World::new();
    let open = |dir: &Path, failover: Failover| {
        let options = cluster::Options { failover, wal: options(), ..cluster::Options::default() };
        let fatal = Box::new(|error: &rt::DiskError| panic!("{error}"));
        ClusterLog::open(disk(), dir, options, &ThreadSpawner, Arc::new(Alone), fatal).expect("opens").0
    };
    let write = async |log: &ClusterLog, count: u64| {
        let mut authority = log.authority();
        authority.wait_for(Option::is_some).await.expect("it is elected");
        for _ in 0..count {
            let head = log.head().event;
            log.append(head, Batch::new(vec![event(head.get() * 100 + 100, 300)])).await.expect("appends");
        }
        log.head()
    };
    let old = open(&world.log, Failover::Automatic);
    write(&old, 20).await;
    let live: Arc<dyn Source> = Arc::new(Live::new(Arc::new(old.clone()), disk(), &world.log));
    let done = backup(&world.store, &key(), live, &SystemClock, Reuse::Objects).await.expect("a backup");
    old.close();
    for (name, failover) in [("automatic", Failover::Automatic), ("operator", Failover::Operator)] {
        let restored = world.restore(name, To::Event(EventId::new(15))).await.expect("restores");
        assert_eq!(restored.of, CLUSTER);
        let new = open(&world.dir(name), failover);
        let head = write(&new, 3).await;
        assert_eq!(head.event, EventId::new(18));
        assert!(head.epoch > done.head.epoch, "{name}: it has an authority of its own");
        assert_eq!(new.sequencer(), Some(NodeId::from_u128(9)));
        new.close();
    }
}

#[tokio::test]
async fn the_log_of_a_member_is_restored_to_what_is_committed() {
    let world = World::new();
    let make = |name: &str, node: u128| {
        let dir = world.dir(name);
        Wal::create_member(&disk(), &dir, "a cluster of three", NodeId::from_u128(node)).expect("a log");
        member_entries(&mut Wal::open(disk(), &dir, options()).expect("opens").0, 20);
        let member = member(&dir);
        member.commit(Index::new(30)).expect("it is durable");
        member.close();
        dir
    };
    let (one, two) = (make("one", 1), make("two", 2));
    let source = |dir| Arc::new(Directory::new(disk(), dir));
    let done =
        backup(&world.store, &key(), source(&one), &SystemClock, Reuse::Objects).await.expect("a backup");
    assert_eq!(done.head.index, Index::new(30), "what comes after is not committed");
    let other =
        backup(&world.store, &key(), source(&two), &SystemClock, Reuse::Objects).await.expect("a backup");
    assert_eq!((other.sent.objects, other.head), (0, done.head), "the same entries make the same objects");

    let restored = world.restore("new", To::Last).await.expect("restores");
    assert_eq!(restored.head, done.head);
    let member = member(&world.dir("new"));
    assert_eq!(member.head().event, done.head.event, "all of it is known to be committed");
    let (index, _, leader, payload) = member.members().expect("somebody is a member");
    assert!(index > done.head.index, "none of the old ones");
    assert_eq!((leader, payload.as_ref()), (NodeId::from_u128(9), FOUNDER));
    let all = member.read(EventId::ZERO, 1000).expect("reads");
    assert_eq!(all.len() as u64, done.head.event.get());
    assert!(all.iter().all(|record| time_of(record) == Some(Timestamp::from_ms(record.id.get() * 100))));
}

#[tokio::test]
async fn a_directory_in_use_is_backed_up_to_what_is_shown_to_be_durable() {
    let world = World::new();
    let mut wal = world.open();
    let heads = append(&mut wal, 10, 100);
    let done = world.backup().await;
    assert_eq!(done.head, heads[8], "the tenth append shows that the ninth was durable");
    let batch = log::Batch::new(vec![event(1, 100)]);
    wal.append_group(&[Entry::Batch(batch.clone()), Entry::Batch(batch)], &mut Vec::new()).expect("appends");
    assert_eq!(world.backup().await.head, heads[9], "one write counts as a whole");
    drop(wal);
    assert!(world.backup().await.head.event.get() == heads[9].event.get() + 2, "nobody writes any more");
}
