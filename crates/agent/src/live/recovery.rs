//! What survives the death of the agent, of the control plane, and of everything.

use super::*;
use types::plan::Reason;

#[tokio::test]
async fn fm_g_agent_restart_adopts_running_instances() {
    let mut host = Host::new();
    let numbers = [number(), number()];
    let all: Vec<_> = numbers
        .iter()
        .map(|number| (InstanceId::from_u128(*number), Desired::Running, web(*number)))
        .collect();
    host.start_agent().await;
    host.control.declare(1, &all);
    for (id, ..) in &all {
        host.control.wait_ready(*id).await;
    }
    let pids: Vec<i32> = all.iter().map(|(id, ..)| host.pid(*id)).collect();
    host.kill_agent().await;
    for (_, _, spec) in &all {
        assert!(fetch(spec, "/").await.is_ok(), "instances run without an agent");
    }
    host.control.is_gone.store(true, Ordering::Relaxed);
    host.start_agent().await;
    host.control.is_gone.store(false, Ordering::Relaxed);
    let control = Arc::clone(&host.control);
    control.leases.lock().expect("no test panics here").clear();
    wait_until("both are adopted", || {
        control.leases.lock().expect("no test panics here").iter().any(|lease| lease.running.len() == 2)
    })
    .await;
    for ((id, _, spec), pid) in all.iter().zip(pids) {
        assert_eq!(host.pid(*id), pid, "the same process");
        assert!(fetch(spec, "/").await.is_ok());
        assert_eq!(
            control.seen(*id),
            [Change::Preparing, Change::Booting, Change::Ready],
            "nothing is said twice"
        );
    }
}

#[tokio::test]
async fn one_that_ended_while_no_agent_ran_is_named_and_started_again() {
    let mut host = Host::new();
    let number = number();
    let (id, spec) = (InstanceId::from_u128(number), web(number));
    host.start_agent().await;
    host.control.declare(1, &[(id, Desired::Running, spec.clone())]);
    host.control.wait_ready(id).await;
    host.kill_agent().await;
    kill(host.pid(id));
    let exit = host.places().instance(id).exit();
    wait_until("the monitor has written the status", || exists(&exit)).await;
    host.start_agent().await;
    host.control.wait_for(id, "crashed", |change| matches!(change, Change::Crashed { .. })).await;
    let start = Instant::now();
    while host.control.count(id, |change| *change == Change::Ready) < 2 {
        assert!(start.elapsed() < PATIENCE, "{:?}", host.control.seen(id));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let crash = host.control.wait_for(id, "crashed", |change| matches!(change, Change::Crashed { .. })).await;
    assert!(
        matches!(&crash, Change::Crashed { reason: Reason::Killed, detail, .. } if detail == "killed by signal 9"),
        "{crash:?}"
    );
    assert!(fetch(&spec, "/").await.is_ok());
}

#[tokio::test]
async fn fm_a2_after_a_power_cut_all_is_started_from_the_stored_plan_without_a_server() {
    let mut host = Host::new();
    let numbers = [number(), number()];
    let all: Vec<_> = numbers
        .iter()
        .map(|number| (InstanceId::from_u128(*number), Desired::Running, web(*number)))
        .collect();
    host.start_agent().await;
    host.control.declare(1, &all);
    for (id, ..) in &all {
        host.control.wait_ready(*id).await;
    }
    host.kill_agent().await;
    all.iter().for_each(|(id, ..)| host.cut_power(*id));
    // The second one loses its runtime state as well, as when /run is empty after a boot.
    std::fs::remove_dir_all(host.places().runtime().join(all[1].0.to_string())).expect("it had state");
    host.control.is_gone.store(true, Ordering::Relaxed);
    host.start_agent().await;
    let start = Instant::now();
    for (_, _, spec) in &all {
        while fetch(spec, "/").await.is_err() {
            assert!(start.elapsed() < PATIENCE, "{} never came back", spec.address);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    host.control.is_gone.store(false, Ordering::Relaxed);
    for (id, ..) in &all {
        let crash =
            host.control.wait_for(*id, "crashed", |change| matches!(change, Change::Crashed { .. })).await;
        assert!(matches!(&crash, Change::Crashed { reason: Reason::Killed, .. }), "{crash:?}");
    }
}

#[tokio::test]
async fn fm_a_crashes_are_mended_while_the_control_plane_is_gone() {
    let mut host = Host::new();
    let number = number();
    let (id, spec) = (InstanceId::from_u128(number), web(number));
    host.start_agent().await;
    host.control.declare(1, &[(id, Desired::Running, spec.clone())]);
    host.control.wait_ready(id).await;
    host.control.is_gone.store(true, Ordering::Relaxed);
    let pid = host.pid(id);
    kill(pid);
    let start = Instant::now();
    loop {
        let text =
            std::fs::read_to_string(host.places().instance(id).bundle().join("pid")).unwrap_or_default();
        let other = text.trim().parse::<i32>().is_ok_and(|found| found != pid);
        if other && fetch(&spec, "/").await.is_ok() {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "it never came back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        host.control.count(id, |change| matches!(change, Change::Crashed { .. })),
        0,
        "nobody heard of it yet"
    );
    host.control.is_gone.store(false, Ordering::Relaxed);
    host.control.wait_for(id, "crashed", |change| matches!(change, Change::Crashed { .. })).await;
}

#[tokio::test]
async fn one_whose_monitor_died_is_left_alone() {
    let mut host = Host::new();
    let number = number();
    let (id, spec) = (InstanceId::from_u128(number), web(number));
    host.start_agent().await;
    host.control.declare(1, &[(id, Desired::Running, spec.clone())]);
    host.control.wait_ready(id).await;
    let pid = host.pid(id);
    for monitor in processes_with(&id.to_string()) {
        kill(monitor);
    }
    host.kill_agent().await;
    host.start_agent().await;
    let control = Arc::clone(&host.control);
    control.leases.lock().expect("no test panics here").clear();
    wait_until("it is adopted", || {
        control.leases.lock().expect("no test panics here").iter().any(|lease| lease.running == [id])
    })
    .await;
    assert_eq!(host.pid(id), pid);
    assert!(fetch(&spec, "/").await.is_ok());
    kill(pid);
    let crash = control.wait_for(id, "crashed", |change| matches!(change, Change::Crashed { .. })).await;
    assert!(matches!(crash, Change::Crashed { reason: Reason::Killed, .. }), "{crash:?}");
}

#[tokio::test]
async fn a_start_that_was_never_reported_is_reported_when_adopted() {
    let mut host = Host::new();
    let number = number();
    let (id, spec) = (InstanceId::from_u128(number), web(number));
    host.start_agent().await;
    host.control.declare(1, &[(id, Desired::Running, spec.clone())]);
    host.control.wait_ready(id).await;
    let pid = host.pid(id);
    host.kill_agent().await;
    // As if the power of the agent's disk had gone before any report was durable.
    for name in ["reports", "reports.previous"] {
        let _ = std::fs::remove_file(host.data().join(name));
    }
    host.control.reports.lock().expect("no test panics here").clear();
    host.start_agent().await;
    host.control.wait_ready(id).await;
    assert_eq!(host.control.seen(id), [Change::Booting, Change::Ready]);
    assert_eq!(host.pid(id), pid);
}

#[tokio::test]
async fn damaged_reports_and_a_taken_port_for_metrics_keep_no_agent_from_starting() {
    let mut host = Host::new();
    let number = number();
    let (id, spec) = (InstanceId::from_u128(number), web(number));
    host.start_agent().await;
    host.control.declare(1, &[(id, Desired::Running, spec.clone())]);
    host.control.wait_ready(id).await;
    let pid = host.pid(id);
    host.kill_agent().await;
    for name in ["reports", "reports.previous"] {
        std::fs::write(host.data().join(name), "nothing that was ever stored").expect("damaged");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    host.metrics_wanted = taken.local_addr().expect("bound");
    host.start_agent().await;
    assert_eq!(host.metrics, None, "not yet");
    // The control plane here passes over every sequence that is not above those it has.
    wait_until("it is said to be ready again", || {
        host.control.count(id, |change| *change == Change::Ready) == 2
    })
    .await;
    assert_eq!(host.pid(id), pid, "adopted, not started again");
    assert!(exists(&host.data().join("reports.damaged-1")), "kept for people");
    drop(taken);
    host.metrics = Some(host.metrics_wanted);
    let start = Instant::now();
    while tokio::net::TcpStream::connect(host.metrics_wanted).await.is_err() {
        assert!(start.elapsed() < PATIENCE, "metrics are never served");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(host.metrics().await.contains("holdfast_agent_adoptions_total 1"));
}
