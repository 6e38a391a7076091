//! Who gets a connection, and what passes through it.

use crate::stage::*;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use types::{
    manifest::ProxyProtocol,
    plan::{Backend, EdgeRoute},
};

#[tokio::test]
async fn names_reach_the_environment_that_owns_them() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let (shop, blog) = (Server::tls(1, env(1)).await, Server::tls(2, env(2)).await);
    let edge = start(config(dir.path()), Some(&control));
    let routes = vec![
        tls_route(env(1), "shop.test", vec![shop.backend.clone()]),
        tls_route(env(2), "blog.test", vec![blog.backend.clone()]),
    ];
    control.publish(plan(1, routes));
    until("the plan is in effect", || edge.handle.generation().get() == 1).await;
    for _ in 0..5 {
        assert_eq!(visit(edge.tls(), "shop.test").await.expect("served"), who(&shop.backend));
        assert_eq!(visit(edge.tls(), "blog.test").await.expect("served"), who(&blog.backend));
        assert_eq!(visit(edge.tls(), "BLOG.Test").await.expect("served"), who(&blog.backend));
    }
    for fragment in [32, 50, 200] {
        let speech = Speech { fragment: Some(fragment), nameless: false };
        let mut stream = tls_connect(edge.tls(), "shop.test", speech).await.expect("records do not matter");
        assert_eq!(read_who(&mut stream).await.expect("served"), who(&shop.backend));
    }
    assert!(visit(edge.tls(), "other.test").await.is_err(), "nobody owns it");
    assert!(visit(edge.tls(), "www.shop.test").await.is_err(), "nobody owns it");
    let speech = Speech { fragment: None, nameless: true };
    assert!(tls_connect(edge.tls(), "shop.test", speech).await.is_err(), "there is no default");
    assert!(say_and_wait(edge.tls(), b"GET / HTTP/1.1\r\n\r\n").await.is_empty());
    until("every end is counted", || {
        (edge.result("no_route"), edge.result("no_name"), edge.result("not_tls")) == (2, 1, 1)
    })
    .await;
    edge.stop().await;
}

#[tokio::test]
async fn a_hello_may_come_byte_by_byte() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let shop = Server::tls(1, env(1)).await;
    let edge = start(config(dir.path()), Some(&control));
    control.publish(plan(1, vec![tls_route(env(1), "shop.test", vec![shop.backend.clone()])]));
    until("the plan is in effect", || edge.handle.generation().get() == 1).await;

    // Between the client and the edge, every byte becomes a segment of its own.
    let slow = TcpListener::bind(loopback(0)).await.expect("a port");
    let address = slow.local_addr().expect("bound");
    let to = edge.tls();
    let relay = tokio::spawn(async move {
        let (client, _) = slow.accept().await.expect("a client");
        let edge = TcpStream::connect(to).await.expect("the edge accepts");
        edge.set_nodelay(true).expect("an open socket");
        let ((mut from, mut back), (mut down, mut up)) = (client.into_split(), edge.into_split());
        let back = tokio::spawn(async move { tokio::io::copy(&mut down, &mut back).await });
        let mut count = 0;
        while let Ok(byte) = from.read_u8().await {
            up.write_all(&[byte]).await.expect("the edge reads");
            count += 1;
        }
        drop(up);
        back.await.expect("no panic").expect("the edge answers");
        count
    });
    assert_eq!(visit(address, "shop.test").await.expect("served"), who(&shop.backend));
    assert!(relay.await.expect("no panic") > 200);
    edge.stop().await;
}

#[tokio::test]
async fn no_cross_env_route() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let (own, foreign) = (Server::tls(1, env(1)).await, Server::tls(2, env(2)).await);
    let edge = start(config(dir.path()), Some(&control));
    let backends = vec![foreign.backend.clone(), own.backend.clone()];
    let routes = vec![
        tls_route(env(1), "shop.test", backends),
        tls_route(env(1), "only-foreign.test", vec![foreign.backend.clone()]),
        tls_route(env(2), "shop.test", vec![foreign.backend.clone()]),
    ];
    control.publish(plan(1, routes));
    until("the plan is in effect", || edge.handle.generation().get() == 1).await;
    for _ in 0..10 {
        assert_eq!(visit(edge.tls(), "shop.test").await.expect("served"), who(&own.backend));
    }
    assert!(visit(edge.tls(), "only-foreign.test").await.is_err());
    until("the end is counted", || edge.result("no_backend") == 1).await;
    assert_eq!(edge.metric("holdfast_edge_plan_left_out"), 3, "two backends and a doubled name");
    edge.stop().await;
}

#[tokio::test]
async fn connections_go_round() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let servers =
        [Server::plain(1, env(1)).await, Server::plain(2, env(1)).await, Server::plain(3, env(1)).await];
    let (edge, port) = (start(config(dir.path()), Some(&control)), free_port());
    let backends: Vec<Backend> = servers.iter().map(|server| server.backend.clone()).collect();
    control.publish(plan(1, vec![tcp_route(env(1), port, backends)]));
    until("the port is open", || std::net::TcpStream::connect(loopback(port)).is_ok()).await;
    for _ in 0..30 {
        visit_tcp(loopback(port)).await.expect("served");
    }
    for server in &servers {
        let opened = edge.of("backend_opened_total", server.backend.instance);
        assert!((10..=12).contains(&opened), "{opened}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn each_direction_ends_by_itself() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let backend = TcpListener::bind(loopback(0)).await.expect("a port");
    let address = backend.local_addr().expect("bound");
    let (edge, port) = (start(config(dir.path()), Some(&control)), free_port());
    let target = Backend { instance: instance(1), env: env(1), address, proxy_protocol: None };
    control.publish(plan(1, vec![tcp_route(env(1), port, vec![target])]));
    until("the plan is in effect", || edge.handle.generation().get() == 1).await;
    let connect = async || loop {
        match TcpStream::connect(loopback(port)).await {
            Ok(client) => return client,
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
    };

    // The client ends first and still gets the whole answer, more than any buffer holds.
    let answer: Vec<u8> = (0..6_000_000u32).map(|place| (place % 251) as u8).collect();
    let mut client = connect().await;
    let (mut server, _) = backend.accept().await.expect("the edge connects");
    client.write_all(b"question").await.expect("open");
    client.shutdown().await.expect("open");
    let mut question = Vec::new();
    server.read_to_end(&mut question).await.expect("the client's end comes through");
    assert_eq!(question, b"question");
    let sent = answer.clone();
    let server = tokio::spawn(async move {
        server.write_all(&sent).await.expect("the client still reads");
    });
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.expect("a whole answer");
    assert!(got == answer, "{} bytes of {}", got.len(), answer.len());
    server.await.expect("no panic");
    until("it is counted", || edge.result("client_closed") == 1).await;
    assert_eq!(edge.of("backend_closed_first_total", instance(1)), 0);

    // The backend ends first and still gets everything from the client.
    let mut client = connect().await;
    let (mut server, _) = backend.accept().await.expect("the edge connects");
    server.write_all(b"only this").await.expect("open");
    server.shutdown().await.expect("open");
    let mut got = Vec::new();
    client.read_to_end(&mut got).await.expect("the backend's end comes through");
    assert_eq!(got, b"only this");
    let sent = answer.clone();
    let client = tokio::spawn(async move {
        client.write_all(&sent).await.expect("the backend still reads");
    });
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.expect("all of it");
    assert!(got == answer, "{} bytes of {}", got.len(), answer.len());
    client.await.expect("no panic");
    drop(server);
    until("it is counted", || edge.result("backend_closed") == 1).await;
    assert_eq!(edge.of("backend_closed_first_total", instance(1)), 1);
    edge.stop().await;
}

#[tokio::test]
async fn the_client_is_named_in_proxy_protocol() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let backend = TcpListener::bind(loopback(0)).await.expect("a port");
    let address = backend.local_addr().expect("bound");
    let (edge, port) = (start(config(dir.path()), Some(&control)), free_port());
    let target = Backend { instance: instance(1), env: env(1), address, proxy_protocol: None };
    let route = EdgeRoute { proxy_protocol: ProxyProtocol::V2, ..tcp_route(env(1), port, vec![target]) };
    control.publish(plan(1, vec![route]));
    until("the port is open", || {
        edge.metric("holdfast_edge_ports_waiting") == 0 && edge.handle.generation().get() == 1
    })
    .await;
    let mut client = TcpStream::connect(loopback(port)).await.expect("the port is open");
    client.write_all(b"after the header").await.expect("open");
    client.shutdown().await.expect("open");
    let (mut server, _) = backend.accept().await.expect("the edge connects");
    let mut got = Vec::new();
    server.read_to_end(&mut got).await.expect("all of it");
    let from: SocketAddr = client.local_addr().expect("open");
    assert_eq!(&got[..16], b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24");
    assert_eq!(got[16..32], std::net::Ipv6Addr::LOCALHOST.octets());
    assert_eq!(got[48..50], from.port().to_be_bytes());
    assert_eq!(got[50..52], port.to_be_bytes());
    assert_eq!(&got[52..], b"after the header");
    drop((client, server));
    edge.stop().await;
}

/// During a rollout instances of two releases answer one route, and each hears what its own release
/// declared; a backend that says nothing for itself hears what the route says.
#[tokio::test]
async fn a_backend_is_spoken_to_as_it_says_itself() {
    const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let (edge, port) = (start(config(dir.path()), Some(&control)), free_port());
    let cases = [
        (ProxyProtocol::Off, Some(ProxyProtocol::V2), true),
        (ProxyProtocol::V2, Some(ProxyProtocol::Off), false),
        (ProxyProtocol::V2, None, true),
        (ProxyProtocol::Off, None, false),
    ];
    for (nth, (by_route, own, is_told)) in (1..).zip(cases) {
        let backend = TcpListener::bind(loopback(0)).await.expect("a port");
        let address = backend.local_addr().expect("bound");
        let target = Backend { instance: instance(nth.into()), env: env(1), address, proxy_protocol: own };
        let route = EdgeRoute { proxy_protocol: by_route, ..tcp_route(env(1), port, vec![target]) };
        control.publish(plan(nth, vec![route]));
        until("the plan is taken over", || {
            edge.metric("holdfast_edge_ports_waiting") == 0 && edge.handle.generation().get() == nth
        })
        .await;
        let mut client = TcpStream::connect(loopback(port)).await.expect("the port is open");
        client.write_all(b"hello").await.expect("open");
        client.shutdown().await.expect("open");
        let (mut server, _) = backend.accept().await.expect("the edge connects");
        let mut got = Vec::new();
        server.read_to_end(&mut got).await.expect("all of it");
        assert_eq!(got.starts_with(HEADER), is_told, "{by_route:?} with {own:?}");
        assert!(got.ends_with(b"hello"));
    }
    edge.stop().await;
}
