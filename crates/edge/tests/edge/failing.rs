//! Backends that refuse, vanish or say nothing; clients that do.

use crate::stage::*;
use std::{
    io::ErrorKind,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use types::{limits, plan::Backend};

/// An address that nobody listens on.
fn dead_backend(number: u128) -> Backend {
    Backend { instance: instance(number), env: env(1), address: loopback(free_port()), proxy_protocol: None }
}

/// A listener whose queue is full: connects to it get no answer, as behind a cut cable.
pub struct Silent {
    pub backend: Backend,
    _listener: socket2::Socket,
    _queued: Vec<socket2::Socket>,
}

impl Silent {
    pub fn new(number: u128) -> Self {
        let socket =
            || socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::STREAM, None).expect("a socket");
        let listener = socket();
        listener.bind(&loopback(0).into()).expect("a port");
        listener.listen(0).expect("it listens");
        let bound = listener.local_addr().expect("bound");
        let queued = (0..4).map(|_| {
            let client = socket();
            client.set_nonblocking(true).expect("a socket");
            // In progress or queued: either fills the queue.
            let _ = client.connect(&bound);
            client
        });
        let queued = queued.collect();
        let address = bound.as_socket().expect("an address of IPv6");
        let backend = Backend { instance: instance(number), env: env(1), address, proxy_protocol: None };
        Self { backend, _listener: listener, _queued: queued }
    }
}

async fn serve(edge: &Running, control: &Control, generation: u64, port: u16, backends: Vec<Backend>) {
    control.publish(plan(generation, vec![tcp_route(env(1), port, backends)]));
    until("the port is open", || {
        edge.handle.generation().get() == generation && edge.metric("holdfast_edge_ports_waiting") == 0
    })
    .await;
}

/// A figure of the one route.
fn of_route(edge: &Running, name: &str) -> u64 {
    let metrics = edge.handle.metrics();
    let line = format!("\nholdfast_edge_route_{name}{{route=");
    let (_, rest) = metrics.split_once(&line).unwrap_or_else(|| panic!("no {name} in {metrics}"));
    let value = rest.lines().next().and_then(|rest| rest.rsplit_once(' '));
    value.expect("a value").1.parse().expect("a number")
}

#[tokio::test]
async fn a_refusing_backend_is_passed_over_then_taken_back() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let (alive, dead) = (Server::plain(1, env(1)).await, dead_backend(2));
    let (edge, port) = (start(config(dir.path()), Some(&control)), free_port());
    serve(&edge, &control, 1, port, vec![dead.clone(), alive.backend.clone()]).await;
    for _ in 0..20 {
        assert_eq!(visit_tcp(loopback(port)).await.expect("served by the other"), who(&alive.backend));
    }
    assert_eq!(edge.of("backend_ejected", dead.instance), 1);
    let refused = edge.of("backend_refused_total", dead.instance);
    assert!((1..=3).contains(&refused), "left alone after it refused, not asked {refused} times");

    let back = Server::plain_at(2, env(1), dead.address).await;
    let start = Instant::now();
    let mut reached = String::new();
    while reached != who(&back.backend) {
        assert!(start.elapsed() < PATIENCE, "it is never taken back");
        reached = visit_tcp(loopback(port)).await.expect("served");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(edge.of("backend_ejected", dead.instance), 0);
    edge.stop().await;
}

#[tokio::test]
async fn a_silent_backend_costs_one_connect_timeout() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let (alive, silent) = (Server::plain(1, env(1)).await, Silent::new(2));
    let mut config = config(dir.path());
    config.connect_wait = Duration::from_millis(300);
    let (edge, port) = (start(config, Some(&control)), free_port());
    serve(&edge, &control, 1, port, vec![silent.backend.clone(), alive.backend.clone()]).await;
    let begin = Instant::now();
    assert_eq!(visit_tcp(loopback(port)).await.expect("the next is tried"), who(&alive.backend));
    assert!(begin.elapsed() >= Duration::from_millis(300));
    let begin = Instant::now();
    for _ in 0..10 {
        assert_eq!(visit_tcp(loopback(port)).await.expect("served"), who(&alive.backend));
    }
    assert!(begin.elapsed() < Duration::from_millis(300), "it is left alone: {:?}", begin.elapsed());
    edge.stop().await;
}

#[tokio::test]
async fn when_all_are_ejected_they_are_tried_all_the_same() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let dead = dead_backend(1);
    let (edge, port) = (start(config(dir.path()), Some(&control)), free_port());
    serve(&edge, &control, 1, port, vec![dead.clone()]).await;
    let mut client = TcpStream::connect(loopback(port)).await.expect("the edge accepts");
    assert_eq!(client.read(&mut [0; 1]).await.ok().unwrap_or(0), 0, "closed, for there is nobody");
    until("it is counted", || edge.result("backends_failed") == 1).await;
    assert_eq!(of_route(&edge, "closed_total"), 1, "by its route as well");
    assert_eq!(of_route(&edge, "backends_ejected"), 1);
    let back = Server::plain_at(1, env(1), dead.address).await;
    assert_eq!(visit_tcp(loopback(port)).await.expect("at once"), who(&back.backend));
    assert_eq!(of_route(&edge, "connections_total"), 1);
    assert_eq!((of_route(&edge, "closed_total"), of_route(&edge, "backends_ejected")), (1, 0));
    assert_eq!(edge.metric("holdfast_edge_backend_ejections_total"), 1);
    // What is counted goes on from plan to plan, also of a route that has lost its backends.
    serve(&edge, &control, 2, port, Vec::new()).await;
    assert_eq!((of_route(&edge, "connections_total"), of_route(&edge, "backends")), (1, 0));
    assert_eq!(edge.metric("holdfast_edge_routes_without_backend"), 1);
    edge.stop().await;
}

#[tokio::test]
async fn a_killed_backend_ends_its_connections_and_is_counted() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let (one, other) = (Server::tls(1, env(1)).await, Server::tls(2, env(1)).await);
    let edge = start(config(dir.path()), Some(&control));
    let backends = vec![one.backend.clone(), other.backend.clone()];
    control.publish(plan(1, vec![tls_route(env(1), "shop.test", backends)]));
    until("the plan is in effect", || edge.handle.generation().get() == 1).await;
    let (mut on_one, mut on_other) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let mut stream = tls_connect(edge.tls(), "shop.test", Speech::default()).await.expect("served");
        let reached = read_who(&mut stream).await.expect("served");
        if reached == who(&one.backend) { on_one.push(stream) } else { on_other.push(stream) }
    }
    assert_eq!((on_one.len(), on_other.len()), (5, 5));
    one.kill();
    for mut stream in on_one {
        let end = stream.read(&mut [0; 1]).await;
        assert!(matches!(end, Ok(0) | Err(_)), "the client learns of it");
    }
    until("each is counted", || edge.of("backend_closed_first_total", instance(1)) == 5).await;
    for stream in &mut on_other {
        check_echo(stream, b"still here").await.expect("the others are not touched");
    }
    for _ in 0..10 {
        assert_eq!(visit(edge.tls(), "shop.test").await.expect("served"), who(&other.backend));
    }
    drop(on_other);
    until("all is closed", || edge.handle.open_connections() == 0).await;
    assert_eq!(edge.of("backend_closed_first_total", instance(2)), 0);
    edge.stop().await;
}

#[tokio::test]
async fn a_reset_of_the_backend_is_a_reset_for_the_client() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let backend = tokio::net::TcpListener::bind(loopback(0)).await.expect("a port");
    let address = backend.local_addr().expect("bound");
    let (edge, port) = (start(config(dir.path()), Some(&control)), free_port());
    serve(
        &edge,
        &control,
        1,
        port,
        vec![Backend { instance: instance(1), env: env(1), address, proxy_protocol: None }],
    )
    .await;
    let mut client = TcpStream::connect(loopback(port)).await.expect("open");
    let (mut server, _) = backend.accept().await.expect("the edge connects");
    server.write_all(b"half an ans").await.expect("open");
    let mut got = [0; 11];
    client.read_exact(&mut got).await.expect("what was sent before");
    server.set_zero_linger().expect("open");
    drop(server);
    let error = client.read(&mut [0; 1]).await.expect_err("a cut answer is no whole answer");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    until("it is counted", || edge.of("backend_closed_first_total", instance(1)) == 1).await;
    edge.stop().await;
}

#[tokio::test]
async fn an_answer_given_before_the_backend_stopped_reading_arrives() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let backend = tokio::net::TcpListener::bind(loopback(0)).await.expect("a port");
    let address = backend.local_addr().expect("bound");
    let (edge, port) = (start(config(dir.path()), Some(&control)), free_port());
    serve(
        &edge,
        &control,
        1,
        port,
        vec![Backend { instance: instance(1), env: env(1), address, proxy_protocol: None }],
    )
    .await;
    let mut client = TcpStream::connect(loopback(port)).await.expect("open");
    let (mut server, _) = backend.accept().await.expect("the edge connects");
    server.write_all(b"too large").await.expect("open");
    drop(server);
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.expect("the answer, then an orderly end");
    assert_eq!(got, b"too large");
    // The client goes on sending to a backend that is gone, then ends as well.
    for _ in 0..100 {
        client.write_all(&[0; 10_000]).await.expect("what is sent now is dropped, not reset");
    }
    client.shutdown().await.expect("open");
    until("it is over", || edge.result("backend_closed") == 1).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_client_that_lingers_after_its_backend_is_closed_at_the_bound() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let backend = tokio::net::TcpListener::bind(loopback(0)).await.expect("a port");
    let address = backend.local_addr().expect("bound");
    let mut config = config(dir.path());
    config.half_closed_wait = Duration::from_millis(400);
    let (edge, port) = (start(config, Some(&control)), free_port());
    serve(
        &edge,
        &control,
        1,
        port,
        vec![Backend { instance: instance(1), env: env(1), address, proxy_protocol: None }],
    )
    .await;
    let mut client = TcpStream::connect(loopback(port)).await.expect("open");
    let (mut server, _) = backend.accept().await.expect("the edge connects");
    server.shutdown().await.expect("open");
    // As long as it says something, it may go on.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.write_all(b"more").await.expect("open");
    }
    let mut got = [0; 40];
    server.read_exact(&mut got).await.expect("all of it came through");
    let begin = Instant::now();
    until("it is over", || edge.result("backend_closed") == 1).await;
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_eq!(server.read(&mut [0; 1]).await.ok().unwrap_or(0), 0, "the backend is let go");
    drop(client);
    edge.stop().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_closed_at_the_bound() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let mut config = config(dir.path());
    config.hello_wait = Duration::from_millis(200);
    let edge = start(config, Some(&control));
    let begin = Instant::now();
    assert!(say_and_wait(edge.tls(), b"\x16\x03\x01\x02\x00\x01").await.is_empty());
    assert!(begin.elapsed() >= Duration::from_millis(200));
    assert!(say_and_wait(edge.tls(), b"").await.is_empty());
    // A byte now and then does not win time.
    let mut slow = TcpStream::connect(edge.tls()).await.expect("the edge accepts");
    let begin = Instant::now();
    for byte in b"\x16\x03\x01\x02\x00".iter().chain(std::iter::repeat_n(&1, 1000)) {
        if slow.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    until("all are counted", || edge.result("hello_too_slow") == 3).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_hello_without_end_is_closed_at_the_bound() {
    let dir = tempfile::tempdir().expect("a directory");
    let edge = start(config(dir.path()), None);
    let mut endless = Vec::new();
    let mut message = vec![1, 0, 0xff, 0xff, 3, 3];
    message.extend([0; 33]);
    message.extend([0x80, 0]);
    message.resize(limits::CLIENT_HELLO, 0x0a);
    for part in message.chunks(1000) {
        endless.extend([22, 3, 1]);
        endless.extend((part.len() as u16).to_be_bytes());
        endless.extend(part);
    }
    assert!(say_and_wait(edge.tls(), &endless[..limits::CLIENT_HELLO]).await.is_empty());
    until("it is counted", || edge.result("hello_too_long") == 1).await;
    edge.stop().await;
}

#[tokio::test]
async fn over_the_bound_connections_are_accepted_and_closed() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let server = Server::plain(1, env(1)).await;
    let mut config = config(dir.path());
    config.max_connections = 2;
    let (edge, port) = (start(config, Some(&control)), free_port());
    serve(&edge, &control, 1, port, vec![server.backend.clone()]).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(loopback(port)).await.expect("open");
        read_who(&mut stream).await.expect("served");
        held.push(stream);
    }
    assert_eq!(edge.metric("holdfast_edge_open_connections"), 2);
    assert!(visit_tcp(loopback(port)).await.is_err());
    until("it is counted", || edge.result("over_bound") == 1).await;
    for stream in &mut held {
        check_echo(stream, b"still here").await.expect("those inside are not touched");
    }
    held.pop();
    until("there is room", || edge.handle.open_connections() == 1).await;
    assert_eq!(visit_tcp(loopback(port)).await.expect("served"), who(&server.backend));
    drop(held);
    edge.stop().await;
}
