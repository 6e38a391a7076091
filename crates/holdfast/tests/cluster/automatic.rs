//! Members that elect their leader: `failover = automatic`.

use crate::{
    ledger::{Told, Writers, write},
    scene::{ANSWER, Cluster, NAMES, SOON},
    wire::Call,
};
use demo::wait_for;

const ALL: [usize; 3] = [0, 1, 2];

/// The members other than one.
fn others(of: usize) -> Vec<usize> {
    ALL.into_iter().filter(|at| *at != of).collect()
}

/// Waits until a write through a member is executed.
fn writable(cluster: &Cluster, at: usize) {
    let mut last = String::new();
    wait_for("a write to be executed", SOON, || {
        let line = write(cluster, at);
        last = format!("{:?} {}", line.told, line.words);
        matches!(line.told, Told::Executed(_)).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}; the last through {}: {last}", NAMES[at]));
}

#[test]
fn a_cluster_of_three_forms_serves_and_forwards() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader_among(&ALL);
    let follower = others(leader)[0];
    for at in ALL {
        let line = write(&cluster, at);
        assert!(matches!(line.told, Told::Executed(_)), "through {}: {line:?}", NAMES[at]);
    }
    reads_are_labelled(&cluster, leader, follower);
    cluster.same_everywhere(&ALL);

    // All at once, and twice.
    for _ in 0..2 {
        ALL.iter().for_each(|at| cluster.kill(*at));
        ALL.iter().for_each(|at| cluster.launch(*at).expect("a server"));
        ALL.iter().for_each(|at| cluster.answers(*at));
    }
    cluster.all_vote(3);
    writable(&cluster, follower);
    let events = cluster.same_everywhere(&ALL);
    let founded = events.iter().filter(|event| event["kind"] == "cluster.created").count();
    assert_eq!(founded, 1, "one history");
    ALL.iter().for_each(|at| cluster.stop(*at));
}

fn reads_are_labelled(cluster: &Cluster, leader: usize, follower: usize) {
    let read = |at, path: &str| cluster.get(at, path).expect("an answer");
    let own = read(leader, "/v1/nodes");
    assert_eq!((own.status, own.header("holdfast-age")), (200, None), "{own:?}");
    let copy = read(follower, "/v1/nodes");
    let age: u64 = copy.header("holdfast-age").expect("an age").parse().expect("milliseconds");
    assert!(copy.status == 200 && age < 10_000, "{copy:?}");
    for consistency in ["leader", "linearizable", "stale"] {
        let answer = read(follower, &format!("/v1/tokens?consistency={consistency}"));
        assert_eq!(answer.status, 200, "{consistency}: {answer:?}");
        assert!(answer.header("holdfast-event").is_some(), "{consistency}: {answer:?}");
        let is_local = answer.header("holdfast-age").is_some();
        assert_eq!(is_local, consistency == "stale", "{consistency}: {answer:?}");
    }
    let wrong = read(follower, "/v1/tokens?consistency=eventual");
    assert_eq!(wrong.status, 400, "{wrong:?}");

    let id = crate::ledger::fresh().to_string();
    let headers = [("idempotency-key", id.as_str()), ("holdfast-forward", "redirect")];
    let body = crate::ledger::token();
    let call = Call { method: "POST", path: "/v1/tokens", headers: &headers, body: Some(&body) };
    let sent_on = cluster.call(follower, &call, ANSWER).expect("an answer");
    let there = format!("http://{}:7070/v1/tokens", cluster.host(leader).address());
    assert_eq!((sent_on.status, sent_on.header("location")), (307, Some(there.as_str())), "{sent_on:?}");

    for at in ALL {
        assert_eq!(read(at, "/health/live").status, 200);
        let ready = read(at, "/health/ready");
        let role = if at == leader { "leader" } else { "follower" };
        assert_eq!((ready.status, ready.body["role"].as_str()), (200, Some(role)), "{ready:?}");
    }
}

#[test]
fn fm_cfg2_a_killed_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader_among(&ALL);
    let rest = others(leader);
    let writers = Writers::start(&cluster, &rest);
    writers.more(30);
    cluster.kill(leader);
    let next = cluster.leader_among(&rest);
    assert_ne!(next, leader);
    writers.more(30);
    // Reads went on all the while and go on.
    assert_eq!(cluster.get(rest[0], "/v1/nodes").expect("an answer").status, 200);
    cluster.start(leader);
    cluster.all_vote(3);
    writers.more(10);
    let count = writers.stop().agrees(&cluster, &ALL);
    assert!(count.executed >= 70, "{count:?}");
}
