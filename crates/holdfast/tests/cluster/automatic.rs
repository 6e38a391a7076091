//! Members that elect their leader: `failover = automatic`.

use crate::{
    ledger::{Told, Writers, write},
    net::Way,
    scene::{ANSWER, Cluster, Made, NAMES, SOON},
    wire::Call,
};
use demo::wait_for;
use std::time::{Duration, Instant};

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
    let there = format!("{}/v1/tokens", cluster.api(leader));
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
    let killed = Instant::now();
    cluster.kill(leader);
    let next = cluster.leader_among(&rest);
    assert_ne!(next, leader);
    writers.more(30);
    // Reads went on all the while and go on.
    assert_eq!(cluster.get(rest[0], "/v1/nodes").expect("an answer").status, 200);
    cluster.start(leader);
    cluster.all_vote(3);
    writers.more(10);
    let ledger = writers.stop();
    let count = ledger.agrees(&cluster, &ALL);
    assert!(count.executed >= 70, "{count:?}");
    // How short it is where nothing else runs is for `make bench`; here the machine is full of tests.
    let gap = ledger.first_after(killed).expect("writes went on") - killed;
    assert!(gap < Duration::from_secs(5), "{gap:?} without a write");
}

/// So many followers of so many members are killed under load.
fn minority(members: usize, victims: usize) {
    let mut cluster = Cluster::of(Made { members, ..Made::default() });
    let all: Vec<usize> = (0..members).collect();
    let leader = cluster.leader_among(&all);
    let followers: Vec<usize> = all.iter().copied().filter(|at| *at != leader).collect();
    let (gone, left) = followers.split_at(victims);
    let alive = [&[leader], left].concat();
    let writers = Writers::start(&cluster, &alive);
    writers.more(20);
    gone.iter().for_each(|at| cluster.kill(*at));
    writers.more(30);
    for at in &alive {
        assert_eq!(cluster.get(*at, "/v1/nodes").expect("an answer").status, 200, "reads go on");
        assert_eq!(cluster.get(*at, "/health/ready").expect("an answer").status, 200);
    }
    gone.iter().for_each(|at| cluster.start(*at));
    cluster.all_vote(members);
    writers.more(10);
    let ledger = writers.stop();
    let count = ledger.agrees(&cluster, &all);
    let first = ledger.0.iter().find(|line| !matches!(line.told, Told::Executed(_)));
    assert_eq!((count.not_executed, count.unknown), (0, 0), "{first:?}");
}

#[test]
fn fm_cfg1_a_minority_of_followers_is_killed_and_no_write_is_lost_or_refused() {
    minority(3, 1);
}

#[test]
fn fm_cfg1_two_of_five_are_killed_and_no_write_is_lost_or_refused() {
    minority(5, 2);
}

#[test]
fn fm_cfg3_without_a_majority_nothing_is_written_and_old_reads_are_asked_for() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader_among(&ALL);
    let rest = others(leader);
    let writers = Writers::start(&cluster, &[leader]);
    writers.more(20);
    rest.iter().for_each(|at| cluster.kill(*at));
    let refused = wait_for("a write that is refused for want of a majority", SOON, || {
        let line = write(&cluster, leader);
        assert!(!matches!(line.told, Told::Executed(_)), "{line:?}");
        (line.told == Told::NotExecuted).then_some(line)
    });
    let refused = refused.expect("a refusal");
    assert!(refused.words.starts_with("503") && refused.words.contains("majority"), "{refused:?}");
    let ready = wait_for("a readiness that says so", SOON, || {
        cluster.get(leader, "/health/ready").ok().filter(|answer| answer.status == 503)
    });
    let ready = ready.expect("not ready");
    assert_eq!(ready.code(), "no_quorum", "{ready:?}");
    let linearizable = cluster.get(leader, "/v1/tokens?consistency=linearizable").expect("an answer");
    assert_eq!(linearizable.status, 503, "{linearizable:?}");
    let refused = wait_for("reads that are too old to be given unasked", SOON, || {
        cluster.get(leader, "/v1/tokens").ok().filter(|answer| answer.status == 503)
    });
    assert_eq!(refused.expect("refused").code(), "no_quorum");
    let stale = cluster.get(leader, "/v1/tokens?consistency=stale").expect("an answer");
    assert!(stale.status == 200 && stale.header("holdfast-age").is_some(), "{stale:?}");

    rest.iter().for_each(|at| cluster.launch(*at).expect("a server"));
    rest.iter().for_each(|at| cluster.answers(*at));
    cluster.all_vote(3);
    writers.more(10);
    writers.stop().agrees(&cluster, &ALL);
    assert_eq!(cluster.get(leader, "/health/ready").expect("an answer").status, 200);
}

/// The leader is cut off with its own clients; everybody else goes on.
fn cut_off(way: Way) {
    let cluster = Cluster::of_three();
    let leader = cluster.leader_among(&ALL);
    let rest = others(leader);
    let (inside, outside) = (Writers::start(&cluster, &[leader]), Writers::start(&cluster, &rest));
    inside.more(10);
    outside.more(10);
    cluster.host(leader).cut(way);
    let next = cluster.leader_among(&rest);
    outside.more(20);
    let asked = Instant::now();
    let read = cluster.get(leader, "/v1/tokens?consistency=linearizable").expect("an answer");
    let words = read.body.to_string().chars().take(200).collect::<String>();
    assert_eq!(
        read.status,
        503,
        "{} leads {:?}, was {}: {words} {:?}",
        NAMES[next],
        cluster.leader_of(&ALL),
        NAMES[leader],
        cluster.status(leader)
    );
    assert!(asked.elapsed() < Duration::from_secs(6), "fast, and not after {:?}", asked.elapsed());
    let stale = cluster.get(leader, "/v1/tokens?consistency=stale").expect("an answer");
    assert!(stale.status == 200 && stale.header("holdfast-age").is_some(), "{stale:?}");
    let cut = Instant::now();
    cluster.host(leader).heal();
    cluster.all_vote(3);
    writable(&cluster, leader);
    let (inside, outside) = (inside.stop(), outside.stop());
    assert!(outside.count(|line| line.sent > cut) > 0, "writes went on");
    let count = inside.agrees(&cluster, &ALL);
    eprintln!("{way:?}: {next} took over; inside {count:?}, outside {:?}", outside.agrees(&cluster, &ALL));
}

#[test]
fn fm_cfg4_a_leader_cut_off_both_ways_is_replaced_and_its_writes_become_certain() {
    cut_off(Way::Both);
}

#[test]
fn fm_cfg4_a_leader_that_nobody_hears_is_replaced() {
    cut_off(Way::Out);
}

#[test]
fn fm_cfg4_a_leader_that_hears_nobody_is_replaced() {
    cut_off(Way::In);
}

/// Kibibytes of memory that a process has.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
    line.trim().trim_end_matches(" kB").parse().expect("kibibytes")
}

#[test]
fn fm_cfg5_a_follower_that_stands_still_costs_bounded_memory_and_catches_up() {
    let mut cluster = Cluster::of(Made { members: 3, spare: 1, ..Made::default() });
    let leader = cluster.leader_among(&ALL);
    let [slow, other] = others(leader)[..] else { panic!("two followers") };
    let writers = Writers::start(&cluster, &[leader, leader, other, other]);
    writers.more(50);
    let before = resident(cluster.pid(leader));
    cluster.signal(slow, libc::SIGSTOP);
    writers.more(600);
    let grown = resident(cluster.pid(leader)).saturating_sub(before);
    assert!(grown < 64 << 10, "the leader took {grown} KiB more");
    let lag = wait_for("the lag to be shown", SOON, || {
        let status = cluster.status(leader)?;
        let rows = status["members"].as_array()?.clone();
        rows.into_iter().find(|row| row["name"] == NAMES[slow] && row["trouble"].is_string())
    });
    assert!(lag.is_ok(), "{:?}", cluster.status(leader));
    cluster.signal(slow, libc::SIGCONT);
    cluster.caught_up_to(slow, cluster.head(leader).expect("a head"));

    // One that joins late gets everything from the first event on, though there are snapshots.
    cluster.cli(leader, &["cluster", "snapshot"]).executed().expect("a snapshot");
    let secret = cluster.secret(leader);
    cluster.ask_to_join(3, NAMES[3], leader, &secret).executed().expect("let in");
    cluster.start(3);
    cluster.all_vote(4);
    writers.more(10);
    let count = writers.stop().agrees(&cluster, &[0, 1, 2, 3]);
    assert!(count.executed >= 650, "{count:?}");
    let said = cluster.cli(3, &["views", "rebuild", "--json"]).executed();
    if let Ok(said) = said {
        assert!(!said.stdout.contains("\"equal\":false"), "{said:?}");
    }
}
