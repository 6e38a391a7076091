//! Objects that are damaged, cut, swapped or gone; other keys; stores and disks that fail half way.

use crate::world::*;
use async_trait::async_trait;
use futures_util::stream::BoxStream;
use holdfast_backup::{
    Archiver, BackupError, Key, ObjectError, RestoreError, Reuse, Store, To, VerifyError, backup, list,
    verify,
};
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, local::LocalFileSystem, path::Path,
};
use rt::SystemClock;
use std::{
    fmt, fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};
use types::EventId;

/// A log of a full part and a rest, backed up, with a snapshot, and a little archived since.
async fn backed_up() -> World {
    let world = World::new();
    let mut wal = world.open();
    let heads = append(&mut wal, 36, 100_000);
    save_snapshot(&wal, heads[2].event);
    world.backup().await;
    let mut archiver = Archiver::start(world.store.clone(), key(), world.source()).await.expect("starts");
    append(&mut wal, 3, 100);
    wal.close().expect("closes");
    archiver.step().await.expect("archives");
    verify(&world.store, &key(), None).await.expect("verifies");
    world
}

/// What an error and everything behind it says.
fn told(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).map(|error| format!("{error}; ")).collect()
}

async fn assert_useless(world: &World, object: &str, what: &str) {
    let error = verify(&world.store, &key(), None).await.expect_err(what);
    assert!(error.to_string().contains(object), "{what}: {error} does not name {object}");
    let error = told(&world.restore("new", To::Last).await.expect_err(what));
    assert!(error.contains(object), "{what}: {error} does not name {object}");
    assert_no_log(&world.dir("new"));
}

#[tokio::test]
async fn whatever_is_done_to_an_object_is_noticed_and_named() {
    let world = backed_up().await;
    let all = world.stored();
    assert!(all.len() >= 5, "{all:?}");
    for object in &all {
        let path = world.objects.join(object);
        let good = fs::read(&path).expect("reads");
        for at in [0, 8, 17, 48, good.len() / 2, good.len() - 1] {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(&path, &bad).expect("writes");
            assert_useless(&world, object, &format!("{object}: a bit at {at}")).await;
        }
        for length in [0, 47, 48, good.len() / 3, good.len() - 1] {
            fs::write(&path, &good[..length]).expect("writes");
            assert_useless(&world, object, &format!("{object}: cut at {length}")).await;
        }
        fs::remove_file(&path).expect("removes");
        // Without a manifest there is no backup, and without the end of the archive it ends earlier: what
        // is not there cannot be known to be missing.
        if object.starts_with("objects/") {
            assert_useless(&world, object, &format!("{object} is gone")).await;
        }
        fs::write(&path, &good).expect("writes");
    }
    for (one, other) in all.iter().zip(all.iter().skip(1)) {
        let [first, second] = [one, other].map(|name| fs::read(world.objects.join(name)).expect("reads"));
        fs::write(world.objects.join(one), &second).expect("writes");
        fs::write(world.objects.join(other), &first).expect("writes");
        let error = verify(&world.store, &key(), None).await.expect_err("they are swapped").to_string();
        assert!(error.contains(one.as_str()) || error.contains(other.as_str()), "{error}");
        fs::write(world.objects.join(one), &first).expect("writes");
        fs::write(world.objects.join(other), &second).expect("writes");
    }
    verify(&world.store, &key(), None).await.expect("all is as it was");
}

#[tokio::test]
async fn what_comes_before_the_damage_can_be_restored_by_asking_for_it() {
    let world = backed_up().await;
    let (_, all) = events(&world.log);
    let archived = world.stored().into_iter().find(|name| name.starts_with("log/")).expect("one");
    let path = world.objects.join(&archived);
    let good = fs::read(&path).expect("reads");
    fs::write(&path, &good[..good.len() - 20]).expect("writes");
    let error = world.restore("new", To::Last).await.expect_err("its end is damaged");
    let RestoreError::Broken { reached, .. } = error else { panic!("{error}") };
    let restored = world.restore("new", To::Event(reached)).await.expect("up to there all is well");
    assert_eq!(restored.head.event, reached);
    assert!(events(&world.dir("new")).1 == all[..reached.get() as usize]);

    // A part in the middle of what was archived is gone.
    fs::write(&path, &good).expect("writes");
    let mut archiver = Archiver::start(world.store.clone(), key(), world.source()).await.expect("starts");
    for _ in 0..2 {
        append(&mut world.open(), 2, 100);
        archiver.step().await.expect("archives");
    }
    fs::remove_file(&path).expect("removes");
    let error = world.restore("gap", To::Last).await.expect_err("a part is missing");
    assert!(matches!(error, RestoreError::Broken { reached: found, .. } if found == reached), "{error}");
    // Whoever goes on archiving notices, and closes the gap.
    let mut archiver = Archiver::start(world.store.clone(), key(), world.source()).await.expect("starts");
    archiver.step().await.expect("archives");
    let (head, _) = events(&world.log);
    assert_eq!(world.restore("whole", To::Last).await.expect("restores").head, head);
}

#[tokio::test]
async fn another_key_is_named_and_opens_nothing() {
    let world = backed_up().await;
    let other = Key::new([8; 32]);
    let error = verify(&world.store, &other, None).await.expect_err("another key");
    let VerifyError::Object(ObjectError::OtherKey { wanted, given, .. }) = error else { panic!("{error}") };
    assert_eq!((wanted, given), (key().id(), other.id()));
    // No text of an event is in the store.
    let secret = event(100, 100_000);
    for name in world.stored() {
        let bytes = fs::read(world.objects.join(name)).expect("reads");
        assert!(!bytes.windows(32).any(|window| window == &secret[64..96]));
    }
}

#[tokio::test]
async fn a_damaged_object_is_not_reused_unseen() {
    let world = backed_up().await;
    let manifests = list(&world.store).await.expect("lists");
    let part = world.stored().into_iter().find(|name| name.starts_with("objects/")).expect("one");
    let mut bytes = fs::read(world.objects.join(&part)).expect("reads");
    bytes[100] ^= 1;
    fs::write(world.objects.join(&part), &bytes).expect("writes");
    let error = backup(&world.store, &key(), world.source(), &SystemClock, Reuse::Objects).await;
    assert!(matches!(error, Err(BackupError::Verify(_))), "{error:?}");
    assert_eq!(list(&world.store).await.expect("lists"), manifests, "it does not count");
    let whole = backup(&world.store, &key(), world.source(), &SystemClock, Reuse::Nothing).await;
    verify(&world.store, &key(), Some(whole.expect("a backup").id)).await.expect("mended");
}

#[tokio::test]
async fn a_damaged_log_is_not_backed_up() {
    let world = World::new();
    append(&mut world.open(), 300, 500);
    let mut segments: Vec<_> =
        fs::read_dir(&world.log).expect("lists").map(|found| found.expect("one").path()).collect();
    segments.retain(|path| path.extension().is_some_and(|end| end == "seg"));
    segments.sort();
    let good = fs::read(&segments[1]).expect("reads");
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&segments[1], &bad).expect("writes");
    let error = backup(&world.store, &key(), world.source(), &SystemClock, Reuse::Objects).await;
    let error = error.expect_err("it is damaged");
    let why = std::error::Error::source(&error).expect("a reason").to_string();
    assert!(why.contains(&segments[1].display().to_string()) && why.contains("offset"), "{why}");
    fs::remove_file(&segments[1]).expect("removes");
    let error = backup(&world.store, &key(), world.source(), &SystemClock, Reuse::Objects).await;
    let error = error.expect_err("a segment is missing");
    assert!(std::error::Error::source(&error).expect("a reason").to_string().contains("missing"));
    assert!(list(&world.store).await.expect("lists").is_empty());
}

/// A store that takes so many calls and then fails.
#[derive(Debug)]
struct Failing {
    inner: LocalFileSystem,
    left: AtomicI64,
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store that fails")
    }
}

impl Failing {
    fn call(&self) -> Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        Err(object_store::Error::Generic { store: "test", source: "out of order".into() })
    }
}

#[async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.call()?;
        self.inner.put_opts(at, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.call()?;
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(&self, all: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(all)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// At every single call.
#[tokio::test]
async fn a_store_that_fails_half_way_leaves_every_older_backup_and_takes_the_next() {
    let world = World::new();
    append(&mut world.open(), 70, 100_000);
    let first = world.backup().await;
    append(&mut world.open(), 40, 100_000);
    let mut calls = 0;
    loop {
        let inner = LocalFileSystem::new_with_prefix(&world.objects).expect("a store");
        let failing = Arc::new(Failing { inner, left: AtomicI64::new(calls) });
        let store = Store::on(failing, "a store that fails".into());
        let done = backup(&store, &key(), world.source(), &SystemClock, Reuse::Objects).await;
        let all = list(&world.store).await.expect("lists");
        if done.is_ok() {
            assert_eq!(all.len(), 2);
            break;
        }
        assert_eq!(verify(&world.store, &key(), Some(all[0].id)).await.expect("as it was").head, first.head);
        if all.len() > 1 {
            // The manifest was written, and only reading it back failed: it is a whole backup.
            verify(&world.store, &key(), Some(all[1].id)).await.expect("whole");
            break;
        }
        calls += 1;
    }
    assert!(calls > 5, "it was tried at {calls} calls");
    verify(&world.store, &key(), Some(world.backup().await.id)).await.expect("the next one is whole");
}

/// A file system of 4 MiB, taken down when dropped.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(at: std::path::PathBuf) -> Self {
        fs::create_dir_all(&at).expect("a directory");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&at).status();
        assert!(mounted.expect("mount runs").success(), "mounting needs root, as `make test` gives it");
        Self(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _best_effort = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test]
async fn fm_b_a_full_disk_stops_a_restore_and_leaves_no_log() {
    let world = backed_up().await;
    let small = Small::mount(world.dir("small"));
    let error = world.restore_into(&small.0, To::Last).await.expect_err("8 MiB do not fit");
    let RestoreError::New(log::wal::NewLogError::Disk(disk)) = &error else { panic!("{error}") };
    assert!(disk.is_no_space(), "{error}");
    assert_no_log(&small.0);
    // What was written is gone, so that less can be restored into the same place.
    let restored = world.restore_into(&small.0, To::Event(EventId::new(10))).await.expect("a megabyte fits");
    assert_eq!(events(&small.0).0, restored.end);
}
