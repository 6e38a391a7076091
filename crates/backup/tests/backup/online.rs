//! Backups while a writer writes as fast as it can.

use crate::world::*;
use holdfast_backup::{Archiver, Live, Reuse, Source, To, backup, verify};
use log::{Batch, Log, WalLog};
use rt::{SystemClock, ThreadSpawner};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use types::{DurationMs, EventId};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm_b_a_backup_beside_a_writer_at_full_speed_has_its_chain() {
    let world = World::new();
    let fatal = Box::new(|error: &rt::DiskError| panic!("{error}"));
    let (log, _) = WalLog::open(disk(), &world.log, options(), &ThreadSpawner, fatal).expect("opens");
    let log = Arc::new(log);
    let go_on = Arc::new(AtomicBool::new(true));
    let writer = std::thread::spawn({
        let (log, go_on) = (Arc::clone(&log), Arc::clone(&go_on));
        move || {
            let mut expected = log.head().event;
            let mut sealed = expected;
            while go_on.load(Ordering::SeqCst) {
                let events: Vec<_> = (1..=5).map(|nth| event((expected.get() + nth) * 100, 600)).collect();
                let appended = log.append(expected, Batch::new(events)).wait().expect("an append");
                expected = appended.last;
                // Seals segments away while they are read.
                if expected.get() > sealed.get() + 500 {
                    sealed = expected;
                    log.save_snapshot(expected, Box::new(|to| to.write_all(b"state"))).expect("a snapshot");
                }
            }
            expected
        }
    });
    let source: Arc<dyn Source> = Arc::new(Live::new(Arc::clone(&log) as Arc<dyn Log>, disk(), &world.log));
    let key = key();
    let made = |source| backup(&world.store, &key, source, &SystemClock, Reuse::Objects);
    let mut done = vec![made(Arc::clone(&source)).await.expect("a backup")];
    let archiver =
        Archiver::start(world.store.clone(), key.clone(), Arc::clone(&source)).await.expect("starts");
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let archiving = tokio::spawn(archiver.run(DurationMs::from_ms(20), stopped, |step| {
        step.as_ref().expect("archives");
    }));
    for _ in 0..6 {
        done.push(made(Arc::clone(&source)).await.expect("a backup"));
    }
    // Of the same directory, without the handle.
    done.push(made(world.source()).await.expect("a backup"));
    go_on.store(false, Ordering::SeqCst);
    let last = writer.join().expect("the writer");
    stop.send(true).expect("it listens");
    archiving.await.expect("it ends");
    log.close();

    let (head, all) = events(&world.log);
    assert_eq!(head.event, last);
    assert!(done.first().expect("one").head.event < done[5].head.event, "the log grew meanwhile");
    for done in &done {
        assert_eq!(verify(&world.store, &key, Some(done.id)).await.expect("verifies").head, done.head);
    }
    let restored = world.restore("new", To::Last).await.expect("restores");
    assert_eq!(restored.head, head, "what was archived reaches the last append");
    assert!(events(&world.dir("new")).1 == all);
    // A backup of any moment has the chain that the log had there.
    let middle = done[3].head;
    let restored = world.restore("middle", To::Event(middle.event)).await.expect("restores");
    assert_eq!(restored.head.event, middle.event);
    assert!(events(&world.dir("middle")).1 == all[..middle.event.get() as usize]);
    assert!(restored.snapshot.is_none_or(|at| at <= middle.event));
    assert!(restored.head.event > EventId::ZERO);
}
