//! One instance: its start, its confinement, its limits, its end.

use super::*;
use types::{ByteSize, DurationMs, plan::Reason};

#[tokio::test]
async fn an_instance_starts_answers_on_its_own_address_and_reports() {
    let mut host = Host::new();
    let number = number();
    let (id, spec) = (InstanceId::from_u128(number), web(number));
    host.start_agent().await;
    host.control.declare(1, &[(id, Desired::Running, spec.clone())]);
    host.control.wait_ready(id).await;
    assert!(fetch(&spec, "/").await.expect("it answers").contains("hello"));
    assert_eq!(host.control.seen(id), [Change::Preparing, Change::Booting, Change::Ready]);
    let control = Arc::clone(&host.control);
    wait_until("the lease names it", || {
        let leases = control.leases.lock().expect("no test panics here");
        leases.last().is_some_and(|lease| lease.running == [id] && lease.generation == Generation::new(1))
    })
    .await;
    host.control.declare(2, &[(id, Desired::Stopped, spec.clone())]);
    host.control.wait_for(id, "collected", |change| *change == Change::Collected).await;
    let last = host.control.seen(id).split_off(3);
    assert_eq!(last, [Change::Stopped, Change::Collected]);
    assert!(!exists(host.places().instance(id).dir()), "nothing of it is left");
    assert!(!exists(Path::new(&format!("/sys/class/net/{}", crate::network::host_end(id)))));
    assert!(fetch(&spec, "/").await.is_err());
}

#[tokio::test]
async fn an_instance_is_confined() {
    let mut host = Host::new();
    let number = number();
    let id = InstanceId::from_u128(number);
    let text = "echo caps $(grep CapEff /proc/self/status); grep NoNewPrivs /proc/self/status; \
                grep -w Seccomp: /proc/self/status; touch /scratch && echo scratch is writable; \
                mount -t tmpfs none /tmp || echo no mounts; touch /proc/sys/x || echo proc is read-only; \
                cat /proc/kcore | head -c 1 || true; ip addr show dev eth0; exec sleep 1000";
    let mut spec = script(number, text);
    std::os::unix::fs::symlink("busybox", host.dir.path().join("image/bin/grep")).expect("a link");
    spec.stop_grace = DurationMs::from_ms(100);
    host.start_agent().await;
    host.control.declare(1, &[(id, Desired::Running, spec.clone())]);
    host.control.wait_ready(id).await;
    let said = host.places().instance(id).log();
    let end = format!("{}/128", spec.address);
    wait_until("it has said all", || std::fs::read_to_string(&said).unwrap_or_default().contains(&end)).await;
    let said = std::fs::read_to_string(&said).expect("a log");
    for wanted in ["NoNewPrivs:\t1", "Seccomp:\t2", "scratch is writable", "no mounts", "proc is read-only"] {
        assert!(said.contains(wanted), "{wanted:?} is not in:\n{said}");
    }
    // chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service,
    // sys_chroot, mknod, audit_write, setfcap; the usual set is ...a80425fb, net_raw is bit 13.
    assert!(said.contains("CapEff: 00000000a80405fb"), "{said}");
    assert!(!exists(&host.dir.path().join("image/scratch")), "the image itself is untouched");
}

#[tokio::test]
async fn one_that_eats_memory_is_killed_at_its_cap_and_named() {
    let mut host = Host::new();
    let number = number();
    let id = InstanceId::from_u128(number);
    let mut spec = script(number, "sleep 0.2; exec tail -c 400m /dev/zero");
    spec.memory = ByteSize::from_mib(16);
    host.start_agent().await;
    host.control.declare(1, &[(id, Desired::Running, spec)]);
    let crash = host.control.wait_for(id, "crashed", |change| matches!(change, Change::Crashed { .. })).await;
    assert!(matches!(crash, Change::Crashed { reason: Reason::OomKilled, restarts: 1, .. }), "{crash:?}");
}

#[tokio::test]
async fn one_that_crashes_is_started_again_with_a_growing_wait() {
    let mut host = Host::new();
    let number = number();
    let id = InstanceId::from_u128(number);
    host.start_agent().await;
    host.control.declare(1, &[(id, Desired::Running, script(number, "echo run; exit 3"))]);
    host.control
        .wait_for(id, "crashed four times", |change| matches!(change, Change::Crashed { restarts: 4, .. }))
        .await;
    let reports = host.control.reports.lock().expect("no test panics here")[&id].clone();
    let crashes: Vec<&Transition> =
        reports.iter().filter(|report| matches!(report.change, Change::Crashed { .. })).collect();
    assert!(crashes.iter().all(|report| matches!(&report.change,
        Change::Crashed { reason: Reason::Exited, detail, .. } if detail == "exit status 3")));
    let waits: Vec<u64> = crashes.windows(2).map(|pair| pair[1].at.since(pair[0].at).as_ms()).collect();
    assert!(waits[0] >= 250 && waits[1] >= 500 && waits[2] >= 1000, "{waits:?}");
    let sequences: Vec<u64> = reports.iter().map(|report| report.sequence).collect();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>(), "each once, in order");
}

#[tokio::test]
async fn a_stop_is_graceful_and_then_certain() {
    let mut host = Host::new();
    let (kind, deaf) = (number(), number());
    let (kind_id, deaf_id) = (InstanceId::from_u128(kind), InstanceId::from_u128(deaf));
    let mark = "echo up; trap 'echo bye; sleep 0.3; exit 0' TERM; while :; do sleep 0.05; done";
    let kind_spec = script(kind, mark);
    let mut deaf_spec = script(deaf, "trap '' TERM; echo up; while :; do sleep 0.05; done");
    deaf_spec.stop_grace = DurationMs::from_ms(500);
    host.start_agent().await;
    let with = |desired| [(kind_id, desired, kind_spec.clone()), (deaf_id, desired, deaf_spec.clone())];
    host.control.declare(1, &with(Desired::Running));
    for id in [kind_id, deaf_id] {
        let log = host.places().instance(id).log();
        wait_until("it is up", || std::fs::read_to_string(&log).unwrap_or_default().contains("up")).await;
    }
    let kind_log = std::fs::File::open(host.places().instance(kind_id).log()).expect("a log");
    let began = Instant::now();
    host.control.declare(2, &with(Desired::Stopped));
    for id in [kind_id, deaf_id] {
        host.control.wait_for(id, "collected", |change| *change == Change::Collected).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(500), "the deaf one had its grace");
    let said = std::io::read_to_string(kind_log).expect("text");
    assert!(said.contains("bye"), "the kind one was asked first: {said}");
}

#[tokio::test]
async fn a_command_that_is_not_there_fails_for_good() {
    let mut host = Host::new();
    let number = number();
    let id = InstanceId::from_u128(number);
    let mut spec = fixture::spec(number);
    spec.command = vec!["/no/such/program".into()];
    host.start_agent().await;
    host.control.declare(1, &[(id, Desired::Running, spec.clone())]);
    let failed = host.control.wait_for(id, "failed", |change| matches!(change, Change::Failed { .. })).await;
    assert!(
        matches!(&failed, Change::Failed { reason: Reason::CommandInvalid, detail } if detail.contains("/no/such/program")),
        "{failed:?}"
    );
    host.control.declare(2, &[(id, Desired::Stopped, spec)]);
    host.control.wait_for(id, "collected", |change| *change == Change::Collected).await;
}

#[tokio::test]
async fn one_that_never_answers_is_ended_after_its_grace() {
    let mut host = Host::new();
    let number = number();
    let id = InstanceId::from_u128(number);
    let mut spec = web(number);
    spec.command = vec!["/bin/sleep".into(), "1000".into()];
    spec.health.as_mut().expect("it is probed").grace = DurationMs::from_ms(300);
    host.start_agent().await;
    host.control.declare(1, &[(id, Desired::Running, spec)]);
    let crash = host.control.wait_for(id, "crashed", |change| matches!(change, Change::Crashed { .. })).await;
    assert!(matches!(crash, Change::Crashed { reason: Reason::HealthTimeout, .. }), "{crash:?}");
    assert_eq!(host.control.count(id, |change| *change == Change::Ready), 0);
}

#[tokio::test]
async fn logs_are_served_followed_and_bounded() {
    let mut host = Host::new();
    let number = number();
    let id = InstanceId::from_u128(number);
    // About 30 MB in all: more than the bound.
    let text = "seq 1 5; while ! [ -e /more ]; do sleep 0.05; done; seq 6 8; sleep 0.5; seq 1 1500000; exec sleep 1000";
    let spec = script(number, text);
    host.start_agent().await;
    host.control.declare(1, &[(id, Desired::Running, spec)]);
    host.control.wait_ready(id).await;
    let own = host.places().instance(id);
    let log = own.log();
    wait_until("it spoke", || std::fs::read_to_string(&log).unwrap_or_default().contains("F 5")).await;
    host.control.asks.send_replace(Some(LogsAsk { ask: 1, instance: id, tail_lines: 2, follow: true }));
    let answer = |ask: u64| {
        let answers = host.control.answers.lock().expect("no test panics here");
        String::from_utf8_lossy(answers.get(&ask).map_or(&[], Vec::as_slice)).into_owned()
    };
    wait_until("the tail came", || answer(1) == "4\n5\n").await;
    std::fs::write(format!("/proc/{}/root/more", host.pid(id)), "").expect("a mark inside");
    wait_until("what came was followed", || answer(1).contains("4\n5\n6\n7\n8\n")).await;
    wait_until("all was said", || {
        std::fs::read_to_string(&log)
            .unwrap_or_default()
            .lines()
            .last()
            .is_some_and(|line| line.ends_with(" 1500000"))
    })
    .await;
    let kept: u64 =
        [own.log(), own.log_before()].iter().filter_map(|path| Some(path.metadata().ok()?.len())).sum();
    assert!(kept <= types::limits::INSTANCE_LOG.bytes(), "{kept}");
    host.control.asks.send_replace(Some(LogsAsk { ask: 2, instance: id, tail_lines: 2, follow: false }));
    wait_until("the tail came", || answer(2) == "1499999\n1500000\n").await;
}

#[tokio::test]
async fn a_hostile_plan_changes_nothing() {
    let mut host = Host::new();
    let number = number();
    let (id, spec) = (InstanceId::from_u128(number), web(number));
    host.start_agent().await;
    host.control.declare(5, &[(id, Desired::Running, spec.clone())]);
    host.control.wait_ready(id).await;
    let pid = host.pid(id);
    let empty = |generation| fixture::plan(generation, &[]);
    let hostile = [
        NodePlan { node: types::NodeId::from_u128(78), ..empty(6) },
        NodePlan { cluster: "other".into(), ..empty(6) },
        empty(5),
        {
            let mut plan = fixture::plan(6, &[1]);
            plan.instances.values_mut().for_each(|one| one.spec.address = std::net::Ipv6Addr::LOCALHOST);
            plan
        },
    ];
    for (place, plan) in hostile.into_iter().enumerate() {
        host.control.plan.send_replace(Some(plan));
        let wanted = format!("holdfast_agent_plans_refused_total {}\n", place + 1);
        let start = Instant::now();
        while !host.metrics().await.contains(&wanted) {
            assert!(start.elapsed() < PATIENCE, "plan {place} was not refused");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    assert_eq!(host.pid(id), pid);
    assert!(fetch(&spec, "/").await.is_ok());
    // The next good plan is taken all the same.
    host.control.declare(7, &[]);
    let own = host.places().instance(id);
    wait_until("it is gone", || !exists(own.dir())).await;
}

#[tokio::test]
async fn a_second_agent_on_the_same_directory_is_refused() {
    let mut host = Host::new();
    host.start_agent().await;
    let refused = host.make().await.err().expect("the directory is taken");
    assert!(matches!(refused, crate::StartError::Locked(_)), "{refused}");
}

#[tokio::test]
async fn what_an_instance_makes_is_out_of_reach_of_the_hosts_other_users() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| {
        let found = std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        found.permissions().mode() & 0o7777
    };
    let mut host = Host::new();
    let number = number();
    let id = InstanceId::from_u128(number);
    std::os::unix::fs::symlink("busybox", host.dir.path().join("image/bin/chmod")).expect("a link");
    let spec = script(number, "cat /bin/busybox > /tool; chmod 4755 /tool; exec sleep 1000");
    // As an earlier version left them.
    let (instances, runtime) = (host.places().instances(), host.places().runtime());
    for dir in [&instances, &runtime] {
        std::fs::create_dir_all(dir).expect("made");
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).expect("set");
    }
    host.start_agent().await;
    host.control.declare(1, &[(id, Desired::Running, spec)]);
    host.control.wait_ready(id).await;
    let tool = host.places().instance(id).scratch().join("tool");
    wait_until("it has made itself a way to root", || exists(&tool) && mode(&tool) == 0o4755).await;
    for dir in [&instances, &runtime, host.places().instance(id).dir()] {
        assert_eq!(mode(dir), 0o700, "{}", dir.display());
    }
    for name in ["plan", "reports"] {
        wait_until("it is stored", || exists(&host.data().join(name))).await;
        assert_eq!(mode(&host.data().join(name)), 0o600, "{name}");
    }
}
