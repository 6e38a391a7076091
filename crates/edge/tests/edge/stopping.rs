//! Starting where a port is taken, stopping under load, and what metrics say.

use crate::stage::*;
use holdfast_edge::{Edge, StartError};
use rt::RealDisk;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test]
async fn open_connections_end_in_their_own_time_after_the_stop() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let server = Server::tls(1, env(1)).await;
    let edge = start(config(dir.path()), Some(&control));
    control.publish(plan(1, vec![tls_route(env(1), "shop.test", vec![server.backend.clone()])]));
    until("the plan is in effect", || edge.handle.generation().get() == 1).await;
    let mut stream = tls_connect(edge.tls(), "shop.test", Speech::default()).await.expect("served");
    read_who(&mut stream).await.expect("served");
    edge.shutdown.cancel();
    until("nobody new is let in", || std::net::TcpStream::connect(edge.tls()).is_err()).await;
    check_echo(&mut stream, b"still here").await.expect("the open one goes on");
    assert!(!edge.task.is_finished());
    drop(stream);
    edge.stop().await;
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let server = Server::tls(1, env(1)).await;
    let mut config = config(dir.path());
    config.drain_wait = Duration::from_millis(300);
    let edge = start(config, Some(&control));
    control.publish(plan(1, vec![tls_route(env(1), "shop.test", vec![server.backend.clone()])]));
    until("the plan is in effect", || edge.handle.generation().get() == 1).await;
    let mut stream = tls_connect(edge.tls(), "shop.test", Speech::default()).await.expect("served");
    read_who(&mut stream).await.expect("served");
    let (begin, handle) = (Instant::now(), edge.handle.clone());
    edge.stop().await;
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert!(handle.metrics().contains("connections_total{result=\"stopped\"} 1"));
    assert!(stream.read(&mut [0; 1]).await.is_err(), "cut, not ended");
}

#[tokio::test]
async fn a_taken_main_port_stops_the_start_and_names_itself() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind(loopback(0)).expect("a port");
    let address = taken.local_addr().expect("bound");
    let mut config = config(dir.path());
    config.listen_tls = Some(address);
    let error = Edge::start(config, Arc::new(RealDisk), None).err().expect("it is taken");
    assert!(matches!(error, StartError::Listen { .. }));
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
}

#[tokio::test]
async fn a_taken_route_port_waits_while_the_rest_serves() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let server = Server::plain(1, env(1)).await;
    let (edge, port) = (start(config(dir.path()), Some(&control)), free_port());
    let taken = std::net::TcpListener::bind(loopback(0)).expect("a port");
    let taken_port = taken.local_addr().expect("bound").port();
    let routes = vec![
        tcp_route(env(1), taken_port, vec![server.backend.clone()]),
        tcp_route(env(1), port, vec![server.backend.clone()]),
    ];
    control.publish(plan(1, routes));
    until("the free one is open", || {
        edge.handle.generation().get() == 1 && edge.metric("holdfast_edge_ports_waiting") == 1
    })
    .await;
    assert_eq!(visit_tcp(loopback(port)).await.expect("served"), who(&server.backend));
    drop(taken);
    until("the other is open", || edge.metric("holdfast_edge_ports_waiting") == 0).await;
    assert_eq!(visit_tcp(loopback(taken_port)).await.expect("served"), who(&server.backend));
    edge.stop().await;
}

#[tokio::test]
async fn metrics_are_served_as_prometheus_text() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut config = config(dir.path());
    config.metrics = Some(loopback(0));
    let edge = start(config, None);
    until("metrics are served", || edge.handle.metrics_address().is_some()).await;
    let address = edge.handle.metrics_address().expect("served");
    let get = async |line: &str| {
        let mut stream = TcpStream::connect(address).await.expect("it accepts");
        stream.write_all(format!("{line}\r\nHost: edge\r\n\r\n").as_bytes()).await.expect("open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer
    };
    let answer = get("GET /metrics HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    for line in body.lines() {
        let sample = line.strip_prefix("holdfast_edge_").and_then(|rest| rest.rsplit_once(' '));
        let is_sample = sample.is_some_and(|(_, value)| value.parse::<f64>().is_ok());
        assert!(line.starts_with("# HELP ") || line.starts_with("# TYPE ") || is_sample, "{line}");
    }
    assert!(body.contains("\nholdfast_edge_plan_generation 0\n"));
    assert!(get("GET / HTTP/1.1").await.starts_with("HTTP/1.1 404 "));
    edge.stop().await;
}

#[tokio::test]
async fn an_unspecified_address_takes_both_families() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let server = Server::tls(1, env(1)).await;
    let mut config = config(dir.path());
    config.listen_tls = Some("[::]:0".parse().expect("an address"));
    let edge = start(config, Some(&control));
    control.publish(plan(1, vec![tls_route(env(1), "shop.test", vec![server.backend.clone()])]));
    until("the plan is in effect", || edge.handle.generation().get() == 1).await;
    let port = edge.tls().port();
    for address in [loopback(port), std::net::SocketAddr::from(([127, 0, 0, 1], port))] {
        assert_eq!(visit(address, "shop.test").await.expect("served"), who(&server.backend));
    }
    edge.stop().await;
}

/// On one thread: nothing of the edge runs while the clients connect, so all of them wait in the
/// backlog when the stop comes.
#[tokio::test]
async fn clients_that_wait_in_the_backlog_are_served_after_the_stop() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let (secure, plain) = (Server::tls(1, env(1)).await, Server::plain(2, env(1)).await);
    let (edge, port) = (start(config(dir.path()), Some(&control)), free_port());
    let routes = vec![
        tls_route(env(1), "shop.test", vec![secure.backend.clone()]),
        tcp_route(env(1), port, vec![plain.backend.clone()]),
    ];
    control.publish(plan(1, routes));
    until("both are open", || {
        edge.handle.generation().get() == 1 && edge.metric("holdfast_edge_ports_waiting") == 0
    })
    .await;
    // More than a task of the runtime accepts in one turn.
    let connect = |address| {
        let stream = std::net::TcpStream::connect(address).expect("the backlog has room");
        stream.set_nonblocking(true).expect("an open socket");
        TcpStream::from_std(stream).expect("a runtime")
    };
    let at_tls = connect(edge.tls());
    let at_port: Vec<TcpStream> = (0..200).map(|_| connect(loopback(port))).collect();
    edge.shutdown.cancel();
    let mut stream = tls_over(at_tls, "shop.test", Speech::default()).await.expect("served");
    assert_eq!(read_who(&mut stream).await.expect("served"), who(&secure.backend));
    for (number, mut stream) in at_port.into_iter().enumerate() {
        let said = read_who(&mut stream).await.unwrap_or_else(|error| panic!("client {number}: {error}"));
        assert_eq!(said, who(&plain.backend));
    }
    drop(stream);
    edge.stop().await;
}
