//! Logs: from an agent through the server to a reader, and nothing past either's end.

use crate::world::*;
use api::{ClientError, Code, LogsAsk, LogsQuery, NodeMessage};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::{pin::Pin, time::Duration};
use types::{Generation, InstanceId};

pub type Messages = Pin<Box<dyn Stream<Item = Result<NodeMessage, ClientError>> + Send>>;

pub async fn attend(world: &World) -> Messages {
    Box::pin(world.node(NODE_ONE).agent_stream(Generation::ZERO).await.expect("a stream"))
}

pub async fn ask(messages: &mut Messages) -> LogsAsk {
    loop {
        match soon("an ask", messages.next()).await.expect("goes on").expect("a message") {
            NodeMessage::Logs(ask) => return ask,
            NodeMessage::Plan(_) => {}
        }
    }
}

async fn placed() -> (World, InstanceId) {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let instance = world.place(ONE).await;
    (world, instance)
}

#[tokio::test]
async fn a_log_goes_from_the_agent_to_the_reader() {
    let (world, instance) = placed().await;
    let mut messages = attend(&world).await;
    let reader = world.client(VIEWER);
    let reading = tokio::spawn(async move {
        let query = LogsQuery { tail: Some(7), follow: false };
        let stream = reader.logs(&name("main"), instance, query).await.expect("a log");
        let pieces: Vec<Bytes> = Box::pin(stream).map(|piece| piece.expect("bytes")).collect().await;
        pieces.concat()
    });
    let wish = ask(&mut messages).await;
    assert_eq!((wish.instance, wish.tail_lines, wish.follow), (instance, 7, false));
    let large = Bytes::from(vec![b'x'; 3 << 20]);
    let pieces = futures_util::stream::iter([Bytes::from("first\n"), large.clone(), Bytes::from("last\n")]);
    world.node(NODE_ONE).answer_logs(wish.ask, pieces).await.expect("read");
    let read = soon("the log", reading).await.expect("no panic");
    assert_eq!(read, [b"first\n".as_slice(), &large, b"last\n"].concat());
    let late = world.node(NODE_ONE).answer_logs(wish.ask, futures_util::stream::empty()).await;
    assert_eq!(late.expect_err("answered").code(), Some(Code::NotFound));
}

#[tokio::test]
async fn a_node_answers_only_what_it_was_asked() {
    let (world, instance) = placed().await;
    let mut messages = attend(&world).await;
    let reader = world.owner();
    let reading = tokio::spawn(async move {
        let stream = reader.logs(&name("main"), instance, LogsQuery::default()).await.expect("a log");
        let pieces: Vec<_> = Box::pin(stream).map(|piece| piece.expect("bytes")).collect().await;
        pieces.concat()
    });
    let wish = ask(&mut messages).await;
    let forged = futures_util::stream::iter([Bytes::from("forged")]);
    let error = world.node(NODE_TWO).answer_logs(wish.ask, forged).await.expect_err("not its ask");
    assert_eq!(error.code(), Some(Code::NotFound));
    let own = futures_util::stream::iter([Bytes::from("own")]);
    world.node(NODE_ONE).answer_logs(wish.ask, own).await.expect("read");
    assert_eq!(soon("the log", reading).await.expect("no panic"), b"own");
}

#[tokio::test]
async fn a_reader_that_leaves_ends_the_agents_upload() {
    let (world, instance) = placed().await;
    let mut messages = attend(&world).await;
    let reader = world.owner();
    let opened = tokio::spawn(async move {
        let query = LogsQuery { tail: None, follow: true };
        Box::pin(reader.logs(&name("main"), instance, query).await.expect("a log"))
    });
    let wish = ask(&mut messages).await;
    let agent = world.node(NODE_ONE);
    // A log in which nothing happens any more: only the server can end this upload.
    let quiet = futures_util::stream::iter([Bytes::from("line\n")]).chain(futures_util::stream::pending());
    let upload = tokio::spawn(async move { agent.answer_logs(wish.ask, quiet).await });
    let mut stream = soon("the log", opened).await.expect("no panic");
    assert_eq!(soon("a line", stream.next()).await.expect("goes on").expect("bytes"), "line\n");
    drop(stream);
    // How the agent hears of it (an answer or a closed connection) is the transport's affair.
    let _ended = soon("the upload", upload).await.expect("no panic");
}

#[tokio::test]
async fn a_followed_log_ends_with_its_readers_token() {
    let (world, instance) = placed().await;
    let mut messages = attend(&world).await;
    let request = api::TokenRequest {
        name: name("reader"),
        role: api::TokenRole::Viewer,
        org: None,
        expires_in: types::DurationMs::from_secs(3600),
        scopes: None,
    };
    let made = world.owner().create_token(world.id(), &request).await.expect("made");
    let reader = world.client(&made.result.secret.expect("a secret"));
    let opened = tokio::spawn(async move {
        let query = LogsQuery { tail: None, follow: true };
        Box::pin(reader.logs(&name("main"), instance, query).await.expect("a log"))
    });
    let wish = ask(&mut messages).await;
    let agent = world.node(NODE_ONE);
    let quiet = futures_util::stream::iter([Bytes::from("line\n")]).chain(futures_util::stream::pending());
    let upload = tokio::spawn(async move { agent.answer_logs(wish.ask, quiet).await });
    let mut stream = soon("the log", opened).await.expect("no panic");
    assert_eq!(soon("a line", stream.next()).await.expect("goes on").expect("bytes"), "line\n");
    world.owner().revoke_token(world.id(), made.result.token.expect("a token")).await.expect("revoked");
    assert!(soon("the end", stream.next()).await.is_none(), "a quiet log ends too");
    let _ended = soon("the upload", upload).await.expect("no panic");
}

#[tokio::test]
async fn without_an_agent_the_reader_is_told_which_node_is_silent() {
    let (world, instance) = placed().await;
    let error = world
        .owner()
        .logs(&name("main"), instance, LogsQuery::default())
        .await
        .map(drop)
        .expect_err("nobody");
    let ClientError::Problem(problem) = error else { panic!("{error}") };
    assert_eq!(problem.code, Code::Unavailable);
    assert!(problem.detail.contains("node one"), "{problem:?}");
    // One that has just gone is either known to be gone or does not answer: both are bounded.
    drop(attend(&world).await);
    let (reader, org) = (world.owner(), name("main"));
    let asked = reader.logs(&org, instance, LogsQuery::default());
    let error = tokio::time::timeout(Duration::from_secs(15), asked).await.expect("bounded").map(drop);
    assert_eq!(error.expect_err("nobody").code(), Some(Code::Unavailable));
    let foreign = world.client(FOREIGN).logs(&name("other"), instance, LogsQuery::default()).await.map(drop);
    assert_eq!(foreign.expect_err("not theirs").code(), Some(Code::NotFound));
}
