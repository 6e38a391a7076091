//! A backup and a restore that are killed, at whatever place they happen to be.

use crate::world::*;
use holdfast_backup::{Reuse, Store, To, backup, list, prune, restore, verify};
use rt::SystemClock;
use std::{
    env, fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};
use types::DurationMs;

const WHAT: &str = "HOLDFAST_TEST_BACKUP_CHILD";
const DIR: &str = "HOLDFAST_TEST_BACKUP_DIR";

/// Not a test of its own: what the tests below start, and kill.
#[tokio::test]
async fn child() {
    let (Ok(what), Some(dir)) = (env::var(WHAT), env::var_os(DIR)) else { return };
    let dir = PathBuf::from(dir);
    let store = Store::directory(&dir.join("store")).expect("a store");
    if what == "backup" {
        let source = Arc::new(holdfast_backup::Directory::new(disk(), &dir.join("log")));
        backup(&store, &key(), source, &SystemClock, Reuse::Objects).await.expect("a backup");
    } else {
        let new = dir.join(what);
        restore(&store, &key(), None, disk(), &new, To::Last, &new_identity(), time_of)
            .await
            .expect("restores");
    }
}

fn start(world: &World, what: &str) -> Child {
    let mut command = Command::new(env::current_exe().expect("this program"));
    command.args(["--exact", "interrupted::child", "--nocapture"]);
    command.env(WHAT, what).env(DIR, world.tmp.path());
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
}

/// Waits until there are `count` files in a directory, or the child has ended; then kills it. Says
/// whether it was killed before it ended.
fn kill_at(mut child: Child, dir: &Path, count: usize) -> bool {
    let began = Instant::now();
    // What is not whole yet has a `#` in its name.
    let whole = |entry: &std::io::Result<fs::DirEntry>| {
        entry.as_ref().is_ok_and(|entry| !entry.file_name().to_string_lossy().contains('#'))
    };
    let files = || fs::read_dir(dir).map_or(0, |found| found.filter(whole).count());
    while files() < count && child.try_wait().expect("asks").is_none() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does nothing");
        std::thread::yield_now();
    }
    child.kill().expect("kills");
    !child.wait().expect("waits").success()
}

#[tokio::test]
async fn fm_b_a_backup_that_is_killed_leaves_the_ones_before_and_is_taken_up_again() {
    let world = World::new();
    append(&mut world.open(), 10, 100_000);
    let first = world.backup().await;
    append(&mut world.open(), 200, 100_000);
    let mut killed = 0;
    // From the first new object on; past the last one it is verifying.
    for count in 2..8 {
        let list_before = list(&world.store).await.expect("lists");
        killed += usize::from(kill_at(start(&world, "backup"), &world.objects.join("objects"), count));
        let all = list(&world.store).await.expect("lists");
        assert!(all.starts_with(&list_before));
        for listed in &all {
            verify(&world.store, &key(), Some(listed.id)).await.expect("what is listed is whole");
        }
    }
    assert!(killed > 0, "no child was caught at its work");
    assert_eq!(list(&world.store).await.expect("lists")[0].id, first.id);
    let done = world.backup().await;
    assert!(done.reused.objects > 0, "what was sent before it was killed is not sent again");
    assert_eq!(world.restore("new", To::Last).await.expect("restores").head, events(&world.log).0);
    // What was being written when it was killed is not there for ever.
    fs::write(world.objects.join("objects/0123#1"), b"half").expect("writes");
    let (one, now) = (NonZeroUsize::new(1).expect("not zero"), DurationMs::from_ms(0));
    prune(&world.store, &key(), &SystemClock, one, now).await.expect("prunes");
    assert!(!world.stored().iter().any(|name| name.contains('#')), "{:?}", world.stored());
    verify(&world.store, &key(), None).await.expect("verifies");
}

#[tokio::test]
async fn fm_b_a_restore_that_is_killed_leaves_no_log() {
    let world = World::new();
    append(&mut world.open(), 300, 100_000);
    world.backup().await;
    let mut killed = 0;
    for count in 1..7 {
        let name = format!("new-{count}");
        killed += usize::from(kill_at(start(&world, &name), &world.dir(&name), count));
        let dir = world.dir(&name);
        if dir.join("format").exists() {
            assert_eq!(events(&dir).0.event, events(&world.log).0.event, "a log is a whole one");
        } else {
            assert_no_log(&dir);
            if fs::read_dir(&dir).is_ok_and(|found| found.count() > 2) {
                let refused = world.restore_into(&dir, To::Last).await.expect_err("its remains are there");
                assert!(refused.to_string().contains("did not come to its end"), "{refused}");
            }
        }
    }
    assert!(killed > 0, "no child was caught at its work");
}
