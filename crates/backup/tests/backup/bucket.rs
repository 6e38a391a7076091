//! A bucket of an S3-compatible server (s3s, over real sockets, with signatures checked).

use crate::world::*;
use holdfast_backup::{
    AmazonS3Builder, Archiver, Key, ObjectError, Reuse, Store, To, backup, list, prune, restore, verify,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use rt::SystemClock;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use std::{fs, net::SocketAddr, num::NonZeroUsize, path::Path};
use tokio::{net::TcpListener, task::JoinHandle};
use types::DurationMs;

const BUCKET: &str = "backups";

/// Serves `root` until the handle is aborted.
async fn serve(root: &Path) -> (SocketAddr, JoinHandle<()>) {
    fs::create_dir_all(root.join(BUCKET)).expect("a bucket");
    let files = s3s_fs::FileSystem::new(root).expect("a file system");
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single("the-user", "the-secret"));
    let service = builder.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let mut open = tokio::task::JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let service = service.clone();
            open.spawn(async move {
                let served = auto::Builder::new(TokioExecutor::new());
                let _closed_by_the_client = served.serve_connection(TokioIo::new(socket), service).await;
            });
        }
    });
    (at, serving)
}

fn bucket(at: SocketAddr, secret: &str) -> Store {
    let builder = AmazonS3Builder::new()
        .with_endpoint(format!("http://{at}"))
        .with_allow_http(true)
        .with_region("eu-central-1")
        .with_access_key_id("the-user")
        .with_secret_access_key(secret);
    Store::bucket(builder, &format!("s3://{BUCKET}/of/this/cluster")).expect("a store")
}

#[tokio::test]
async fn a_bucket_takes_backups_and_gives_them_back() {
    let world = World::new();
    let mut wal = world.open();
    append(&mut wal, 70, 100_000);
    let root = world.dir("s3");
    let (at, serving) = serve(&root).await;
    let store = bucket(at, "the-secret");
    let (key, identity) = (key(), new_identity());
    let made = || backup(&store, &key, world.source(), &SystemClock, Reuse::Objects);
    let first = made().await.expect("a backup");
    assert!(first.sent.objects >= 3);
    let mut archiver = Archiver::start(store.clone(), key.clone(), world.source()).await.expect("starts");
    append(&mut wal, 3, 100);
    wal.close().expect("closes");
    archiver.step().await.expect("archives");
    verify(&store, &key, None).await.expect("verifies");
    let (head, all) = events(&world.log);
    let new = world.dir("new");
    let restored = restore(&store, &key, None, disk(), &new, To::Last, &identity, time_of);
    assert_eq!(restored.await.expect("restores").head, head);
    assert!(events(&new).1 == all);

    let second = made().await.expect("a backup");
    assert_eq!((second.sent.objects, list(&store).await.expect("lists").len()), (1, 2));
    let one = NonZeroUsize::new(1).expect("not zero");
    let pruned = prune(&store, &key, &SystemClock, one, DurationMs::from_ms(0)).await.expect("prunes");
    assert_eq!((pruned.kept, pruned.removed), (vec![second.id], vec![first.id]));
    assert_eq!(pruned.objects.objects, 2, "the end of the first backup, and what was archived");
    verify(&store, &key, None).await.expect("verifies");

    // Others' credentials, another key, a server that is gone.
    let refused = list(&bucket(at, "a guess")).await.expect_err("not signed by the user");
    assert!(matches!(refused, ObjectError::Store { .. }), "{refused}");
    let error = verify(&store, &Key::new([8; 32]), None).await.expect_err("another key").to_string();
    assert!(error.contains("sealed with the key"), "{error}");
    serving.abort();
    let _aborted = serving.await;
    let error = made().await.expect_err("nobody listens");
    assert!(std::error::Error::source(&error).is_some(), "it says why: {error}");
}
