//! The client against a server that misbehaves: what it says must be what can be known.

use futures_util::StreamExt;
use holdfast_api::{Client, ClientError, Code, NodeClient, NodeMessage, Outcome, Problem, ScaleRequest};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};
use types::{Generation, Name, RequestId};

/// A server that does `act` to each connection, and counts them.
struct Fake {
    url: String,
    connections: Arc<AtomicUsize>,
}

impl Fake {
    fn start(act: impl Fn(TcpStream) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                act(stream);
            }
        });
        Self { url, connections }
    }

    fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::start(move |mut stream| {
            read_request(&mut stream);
            stream.write_all(&answer).expect("the client listens");
            let _ = stream.shutdown(Shutdown::Both);
        })
    }
}

/// Reads a head and as much body as it announces.
fn read_request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
                })
                .map_or(0, |length| length.parse().expect("a number"));
            if body.len() >= length {
                return text;
            }
        }
        match stream.read(&mut piece).expect("the client speaks") {
            0 => return text,
            count => bytes.extend_from_slice(&piece[..count]),
        }
    }
}

fn name(text: &str) -> Name {
    text.parse().expect("valid")
}

async fn scale(url: &str) -> Result<holdfast_api::Receipt, ClientError> {
    let client = Client::new(url, Some("secret".into())).expect("a client");
    let request = ScaleRequest { process: name("web"), replicas: 3 };
    client.scale((&name("main"), &name("shop"), &name("prod")), RequestId::from_u128(7), &request).await
}

#[tokio::test]
async fn nobody_listening_is_certainly_not_executed() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let error = scale(&format!("http://127.0.0.1:{port}")).await.expect_err("nobody listens");
    assert!(matches!(error, ClientError::NotSent { .. }), "{error:?}");
    assert!(error.to_string().contains("refused"), "{error}");
    let error = scale("https://no-such-host.invalid:1").await.expect_err("no such name");
    assert!(matches!(error, ClientError::NotSent { .. }), "{error:?}");
    let error = Client::new("127.0.0.1:7070", None).expect_err("not a URL");
    assert!(matches!(error, ClientError::NotSent { .. }), "{error:?}");
}

#[tokio::test]
async fn a_connection_cut_anywhere_after_it_was_made_is_unknown_and_never_sent_again() {
    let receipt = concat!(
        r#"{"request_id":"00000000000000000000000007","outcome":"executed","#,
        r#""event":4,"events":[],"result":{}}"#
    );
    let whole = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{receipt}",
        receipt.len()
    );
    // At once, before anything is read.
    let fake = Fake::start(drop);
    let error = scale(&fake.url).await.expect_err("cut");
    assert!(matches!(error, ClientError::Unknown { .. }), "{error:?}");
    assert_eq!(fake.connections.load(Ordering::SeqCst), 1);
    // After the request, with every possible length of the answer but the whole.
    for length in 0..whole.len() {
        let fake = Fake::answering(&whole.as_bytes()[..length]);
        let error = scale(&fake.url).await.expect_err("cut");
        assert!(matches!(error, ClientError::Unknown { .. }), "{length}: {error:?}");
        assert_eq!(fake.connections.load(Ordering::SeqCst), 1, "{length}");
    }
    let fake = Fake::answering(whole.as_bytes());
    assert_eq!(scale(&fake.url).await.expect("whole").event.get(), 4);
}

#[tokio::test]
async fn problems_and_strange_answers_are_told_apart() {
    let problem = Problem::new(Code::NoSuchProcess, "there is web");
    let body = serde_json::to_string(&problem).expect("json");
    let answer = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    match scale(&Fake::answering(answer).url).await.expect_err("a problem") {
        ClientError::Problem(got) => {
            assert_eq!(*got, problem);
            assert_eq!(got.outcome, Outcome::NotExecuted);
        }
        other => panic!("{other:?}"),
    }
    for strange in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
    ] {
        let error = scale(&Fake::answering(strange).url).await.expect_err("strange");
        assert!(matches!(error, ClientError::BadAnswer { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_write_carries_its_request_id_and_the_token() {
    let (send, heard) = std::sync::mpsc::sync_channel(1);
    let fake = Fake::start(move |mut stream| {
        send.send(read_request(&mut stream)).expect("the test waits");
    });
    let _ = scale(&fake.url).await;
    let request = heard.recv().expect("a request").to_ascii_lowercase();
    assert!(request.starts_with("post /v1/orgs/main/apps/shop/envs/prod/scale http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nidempotency-key: 00000000000000000000000007\r\n"), "{request}");
    assert!(request.contains("\r\nauthorization: bearer secret\r\n"), "{request}");
    assert!(request.ends_with(r#"{"process":"web","replicas":3}"#), "{request}");
}

#[tokio::test]
async fn a_stream_brings_plans_and_asks_and_its_end_is_an_error() {
    let node = types::NodeId::from_u128(5);
    let plan = format!(r#"{{"node":"{node}","cluster":"c","generation":9,"instances":{{}}}}"#);
    let ask = format!(
        r#"{{"ask":3,"instance":"{}","tail_lines":10,"follow":false}}"#,
        types::InstanceId::from_u128(6)
    );
    let fake = Fake::answering(format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n: ping\n\nevent: plan\ndata: {plan}\n\n\
         event: later\ndata: 1\n\nevent: logs\ndata: {ask}\n\n"
    ));
    let client = NodeClient::new(&fake.url, "credential").expect("a client");
    let stream = client.agent_stream(Generation::ZERO).await.expect("open");
    let messages: Vec<_> = stream.collect().await;
    assert_eq!(messages.len(), 3, "{messages:?}");
    assert!(
        matches!(&messages[0], Ok(NodeMessage::Plan(plan)) if plan.generation.get() == 9 && plan.node == node)
    );
    assert!(matches!(&messages[1], Ok(NodeMessage::Logs(ask)) if ask.ask == 3));
    assert!(matches!(&messages[2], Err(ClientError::Unknown { .. })), "{messages:?}");
}
