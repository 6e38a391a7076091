//! The whole server, with its real log, registry client and reconcilers.

use crate::world::{name, place, shop};
use api::{Client, ClientError, Code, Outcome};
use holdfast_control::{Config, Server, ServerError};
use rt::{Clock, OsRandom, Random, SystemClock};
use std::{path::Path, time::Duration};
use tokio_util::sync::CancellationToken;
use types::RequestId;

async fn start(dir: &Path) -> (Client, CancellationToken, tokio::task::JoinHandle<Result<(), ServerError>>) {
    let listen = "127.0.0.1:0".parse().expect("an address");
    let config =
        Config { data_dir: dir.to_owned(), listen, org: name("main"), backups: None, providers: None };
    let server = unlocked(config).await;
    let secret = server.first_owner().expect("kept until it is taken").reveal().to_owned();
    let client = Client::new(&format!("http://{}", server.address()), Some(secret)).expect("a client");
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(server.run(shutdown.clone()));
    (client, shutdown, running)
}

/// Starts once the log is free: within one process the last task of a server that ended may hold
/// its lock for a moment longer.
async fn unlocked(config: Config) -> Server {
    let mut last = None;
    for _ in 0..500 {
        match Server::start(config.clone()).await {
            Ok(server) => return server,
            Err(error @ ServerError::Log { .. }) => last = Some(error),
            Err(error) => panic!("{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{last:?}");
}

fn id() -> RequestId {
    RequestId::from_parts(SystemClock.now(), OsRandom.u128())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_answers_the_same_after_it_was_started_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let (client, shutdown, running) = start(dir.path()).await;
    let nowhere = shop(&format!("oci:{}", dir.path().join("nothing").display()));
    let error = client.apply(&name("main"), id(), &nowhere).await.expect_err("no such layout");
    let ClientError::Problem(problem) = error else { panic!("{error}") };
    let image = [Code::ImageNotFound, Code::ImageUnavailable].contains(&problem.code);
    assert!(image && problem.outcome == Outcome::NotExecuted, "{problem:?}");
    let request = api::JoinTokenRequest { expires_in: types::DurationMs::from_secs(60) };
    let join = id();
    let made = client.create_join_token(join, &request).await.expect("made");
    shutdown.cancel();
    running.await.expect("no panic").expect("ends well");
    let (again, shutdown, running) = start(dir.path()).await;
    let replayed = again.create_join_token(join, &request).await.expect("the same receipt");
    assert_eq!((replayed.event, replayed.result.token), (made.event, made.result.token));
    assert_eq!((replayed.result.secret, made.result.secret.is_some()), (None, true));
    let (org, app, env) = place();
    assert_eq!(again.status((&org, &app, &env)).await.expect_err("none").code(), Some(Code::NotFound));
    shutdown.cancel();
    running.await.expect("no panic").expect("ends well");
}
