//! Plans that change under load, are refused, are acknowledged, and outlive the control plane.

use crate::{failing::Silent, stage::*};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::net::TcpStream;
use types::plan::{EdgePlan, NodeRole};

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_changes_under_load_drop_and_misroute_nothing() {
    const CHANGES: u64 = 2000;
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let mut shop = Vec::new();
    let mut blog = Vec::new();
    let mut raw = Vec::new();
    for number in 0..3 {
        shop.push(Server::tls(10 + number, env(1)).await);
        blog.push(Server::tls(20 + number, env(2)).await);
        raw.push(Server::plain(30 + number, env(3)).await);
    }
    let (edge, port, coming) = (start(config(dir.path()), Some(&control)), free_port(), free_port());
    let (tls, raw_address) = (edge.tls(), loopback(port));
    let change = |generation: u64| {
        let some = |servers: &[Server]| {
            let out = (generation % 4) as usize;
            let kept = servers.iter().enumerate().filter(|(place, _)| *place != out);
            let mut backends: Vec<_> = kept.map(|(_, server)| server.backend.clone()).collect();
            backends.rotate_left(generation as usize % 2);
            backends
        };
        let mut routes = vec![
            tls_route(env(1), "shop.test", some(&shop)),
            tls_route(env(2), "blog.test", some(&blog)),
            tcp_route(env(3), port, some(&raw)),
        ];
        if generation.is_multiple_of(3) {
            routes.push(tcp_route(env(3), coming, some(&raw)));
            routes.push(tls_route(env(2), "sometimes.test", some(&shop)));
        }
        plan(generation, routes)
    };
    control.publish(change(1));
    until("the first plan is served", || {
        edge.handle.generation().get() == 1 && std::net::TcpStream::connect(raw_address).is_ok()
    })
    .await;

    let (over, visits) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut workers = Vec::new();
    for worker in 0..3 {
        let (over, visits) = (Arc::clone(&over), Arc::clone(&visits));
        workers.push(tokio::spawn(async move {
            while !over.load(SeqCst) {
                let (reached, owner) = match worker % 3 {
                    0 => (visit(tls, "shop.test").await, env(1)),
                    1 => (visit(tls, "blog.test").await, env(2)),
                    _ => (visit_tcp(raw_address).await, env(3)),
                };
                let reached = reached.expect("no connection is dropped");
                assert!(reached.ends_with(&format!(" {owner}\n")), "{reached} is not of {owner}");
                visits.fetch_add(1, SeqCst);
            }
        }));
    }
    for host in ["shop.test", "blog.test"] {
        let mut stream = tls_connect(tls, host, Speech::default()).await.expect("served");
        let over = Arc::clone(&over);
        workers.push(tokio::spawn(async move {
            read_who(&mut stream).await.expect("served");
            while !over.load(SeqCst) {
                check_echo(&mut stream, &[7; 5000]).await.expect("an open connection is not touched");
            }
        }));
    }
    for generation in 2..=CHANGES {
        control.publish(change(generation));
        until("the change is in effect", || edge.handle.generation().get() == generation).await;
    }
    over.store(true, SeqCst);
    for worker in workers {
        worker.await.expect("no worker fails");
    }
    assert_eq!(edge.metric("holdfast_edge_plans_total"), CHANGES);
    assert!(visits.load(SeqCst) > 500, "only {} visits", visits.load(SeqCst));
    for result in ["no_route", "no_backend", "backends_failed"] {
        assert_eq!(edge.result(result), 0, "{result}");
    }
    until("all of it is acknowledged", || control.acknowledged() == CHANGES).await;
    edge.stop().await;
}

#[tokio::test]
async fn an_attempt_from_an_older_plan_holds_the_acknowledgement_back() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let silent = Silent::new(1);
    let mut config = config(dir.path());
    config.connect_wait = Duration::from_millis(1500);
    let (edge, port) = (start(config, Some(&control)), free_port());
    control.publish(plan(1, vec![tcp_route(env(1), port, vec![silent.backend.clone()])]));
    until("the first plan is acknowledged", || control.acknowledged() == 1).await;
    until("the port is open", || edge.metric("holdfast_edge_ports_waiting") == 0).await;
    let waiting = TcpStream::connect(loopback(port)).await.expect("the edge accepts");
    until("it looks for its backend", || edge.handle.open_connections() == 1).await;
    control.publish(plan(2, vec![tcp_route(env(1), port, vec![])]));
    until("the second plan is in effect", || edge.handle.generation().get() == 2).await;
    assert_eq!(edge.handle.acknowledged().get(), 1, "the attempt may still reach the backend");
    until("the attempt ends", || edge.handle.open_connections() == 0).await;
    until("the second plan is acknowledged", || control.acknowledged() == 2).await;
    drop(waiting);
    edge.stop().await;
}

#[tokio::test]
async fn an_instance_drains_until_its_last_connection_ends() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let (old, new) = (Server::tls(1, env(1)).await, Server::tls(2, env(1)).await);
    let edge = start(config(dir.path()), Some(&control));
    control.publish(plan(1, vec![tls_route(env(1), "shop.test", vec![old.backend.clone()])]));
    until("the first plan is acknowledged", || control.acknowledged() == 1).await;
    let mut stream = tls_connect(edge.tls(), "shop.test", Speech::default()).await.expect("served");
    assert_eq!(read_who(&mut stream).await.expect("served"), who(&old.backend));
    control.publish(plan(2, vec![tls_route(env(1), "shop.test", vec![new.backend.clone()])]));
    until("the second plan is acknowledged", || control.acknowledged() == 2).await;
    let lease = control.lease().expect("renewed");
    assert_eq!((lease.role, lease.draining), (NodeRole::Edge, vec![instance(1)]));
    for _ in 0..5 {
        assert_eq!(visit(edge.tls(), "shop.test").await.expect("served"), who(&new.backend));
    }
    check_echo(&mut stream, b"still here").await.expect("the open one is not touched");
    drop(stream);
    until("it has drained", || control.lease().is_some_and(|lease| lease.draining.is_empty())).await;
    assert_eq!(edge.of("backend_closed_first_total", instance(1)), 0);
    edge.stop().await;
}

#[tokio::test]
async fn a_name_that_moves_is_served_by_its_new_owner_only() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let servers = [Server::tls(1, env(1)).await, Server::tls(2, env(2)).await];
    let edge = start(config(dir.path()), Some(&control));
    for generation in 1..=40 {
        let owner = &servers[generation as usize % 2].backend;
        control.publish(plan(generation, vec![tls_route(owner.env, "shop.test", vec![owner.clone()])]));
        until("the plan is acknowledged", || edge.handle.acknowledged().get() == generation).await;
        assert_eq!(visit(edge.tls(), "shop.test").await.expect("served"), who(owner));
    }
    edge.stop().await;
}

#[tokio::test]
async fn generation_never_falls() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let (newer, older) = (Server::tls(1, env(1)).await, Server::tls(2, env(1)).await);
    let edge = start(config(dir.path()), Some(&control));
    control.publish(plan(5, vec![tls_route(env(1), "shop.test", vec![newer.backend.clone()])]));
    until("the plan is acknowledged", || control.acknowledged() == 5).await;
    control.publish(plan(4, vec![tls_route(env(1), "shop.test", vec![older.backend.clone()])]));
    until("the older plan is refused", || edge.metric("holdfast_edge_plans_refused_total") > 0).await;
    assert_eq!(visit(edge.tls(), "shop.test").await.expect("served"), who(&newer.backend));
    let other = plan(6, vec![tls_route(env(1), "shop.test", vec![older.backend.clone()])]);
    let refused = edge.metric("holdfast_edge_plans_refused_total");
    control.publish(EdgePlan { cluster: "another".into(), ..other });
    until("the other's plan is refused", || edge.metric("holdfast_edge_plans_refused_total") > refused + 1)
        .await;
    assert_eq!(visit(edge.tls(), "shop.test").await.expect("served"), who(&newer.backend));
    assert_eq!(control.acknowledged(), 5);
    edge.stop().await;
    let edge = start(config(dir.path()), None);
    assert_eq!(edge.handle.generation().get(), 5);
    edge.stop().await;
}

#[tokio::test]
async fn fm_e2_edge_serves_from_disk_without_control() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let (shop, raw) = (Server::tls(1, env(1)).await, Server::plain(2, env(2)).await);
    let port = free_port();
    let machine = tokio::runtime::Runtime::new().expect("a runtime of its own");
    let edge = {
        let _there = machine.enter();
        start(config(dir.path()), Some(&control))
    };
    let routes = vec![
        tls_route(env(1), "shop.test", vec![shop.backend.clone()]),
        tcp_route(env(2), port, vec![raw.backend.clone()]),
    ];
    control.publish(plan(7, routes));
    until("the plan is acknowledged", || control.acknowledged() == 7).await;
    // The edge goes without a word: nothing is said, nothing is tidied up.
    machine.shutdown_background();
    edge.task.await.expect_err("it was cut off");
    until("its port is free", || std::net::TcpListener::bind(loopback(port)).is_ok()).await;

    control.set_up(false);
    let edge = start(config(dir.path()), Some(&control));
    assert_eq!(visit(edge.tls(), "shop.test").await.expect("at once"), who(&shop.backend));
    until("the raw port is open", || edge.metric("holdfast_edge_ports_waiting") == 0).await;
    assert_eq!(visit_tcp(loopback(port)).await.expect("served"), who(&raw.backend));
    assert_eq!(edge.handle.generation().get(), 7);

    control.set_up(true);
    control.publish(plan(8, vec![tls_route(env(1), "shop.test", vec![shop.backend.clone()])]));
    until("it catches up", || control.acknowledged() == 8).await;
    edge.stop().await;
}

#[tokio::test]
async fn fm_a_edge_serves_while_control_is_away() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let shop = Server::tls(1, env(1)).await;
    let edge = start(config(dir.path()), Some(&control));
    control.publish(plan(1, vec![tls_route(env(1), "shop.test", vec![shop.backend.clone()])]));
    until("the plan is acknowledged", || control.acknowledged() == 1).await;
    let mut stream = tls_connect(edge.tls(), "shop.test", Speech::default()).await.expect("served");
    read_who(&mut stream).await.expect("served");
    control.set_up(false);
    until("the edge knows", || edge.metric("holdfast_edge_control_linked") == 0).await;
    for _ in 0..50 {
        assert_eq!(visit(edge.tls(), "shop.test").await.expect("served"), who(&shop.backend));
        check_echo(&mut stream, b"still here").await.expect("open connections are not touched");
    }
    control.publish(plan(2, vec![tls_route(env(1), "shop.test", vec![shop.backend.clone()])]));
    control.set_up(true);
    until("it catches up", || control.acknowledged() == 2).await;
    check_echo(&mut stream, b"still here").await.expect("open connections are not touched");
    drop(stream);
    edge.stop().await;
}

#[tokio::test]
async fn a_port_that_stays_is_never_closed_and_one_that_goes_is() {
    let (dir, control) = (tempfile::tempdir().expect("a directory"), Control::new());
    let raw = Server::plain(1, env(1)).await;
    let (edge, stays, goes) = (start(config(dir.path()), Some(&control)), free_port(), free_port());
    let route = |port| tcp_route(env(1), port, vec![raw.backend.clone()]);
    control.publish(plan(1, vec![route(stays), route(goes)]));
    until("both are open", || {
        edge.handle.generation().get() == 1 && edge.metric("holdfast_edge_ports_waiting") == 0
    })
    .await;
    let mut on_gone = TcpStream::connect(loopback(goes)).await.expect("open");
    read_who(&mut on_gone).await.expect("served");
    control.publish(plan(2, vec![route(stays)]));
    until("it is closed", || std::net::TcpStream::connect(loopback(goes)).is_err()).await;
    check_echo(&mut on_gone, b"still here").await.expect("only the listener is closed");
    assert_eq!(visit_tcp(loopback(stays)).await.expect("served"), who(&raw.backend));
    control.publish(plan(3, vec![route(goes)]));
    until("it is open again", || std::net::TcpStream::connect(loopback(goes)).is_ok()).await;
    assert_eq!(visit_tcp(loopback(goes)).await.expect("served"), who(&raw.backend));
    drop(on_gone);
    edge.stop().await;
}
