//! For how long nothing can be written when the leader is killed: three servers with default settings,
//! each in a network namespace of its own, clients that write all the time through the members that are
//! left, and SIGKILL for whoever leads, fifty times.
//!
//! The gap is the time from the signal to the first answer *executed* to a write that was sent after it.
//! Nothing that was acknowledged may be lost and no request may have run twice: afterwards every
//! request is looked for in the log of every member.

#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/cluster/ledger.rs"]
mod ledger;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/cluster/net.rs"]
mod net;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/cluster/scene.rs"]
mod scene;
#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../tests/cluster/wire.rs"]
mod wire;

use ledger::{Ledger, Writers};
use scene::Cluster;
use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

const KILLS: usize = 50;
const ALL: [usize; 3] = [0, 1, 2];

fn main() {
    // `cargo test --benches` only wants to know that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let kills = std::env::var("HOLDFAST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    let mut cluster = Cluster::of_three();
    let (mut gaps, mut all) = (Vec::new(), Ledger::default());
    while gaps.len() < kills {
        let leader = cluster.leader_among(&ALL);
        let (gap, ledger) = kill(&mut cluster, leader);
        all.0.extend(ledger.0);
        // None where another led by then: that was no kill of a leader.
        let Some(gap) = gap else { continue };
        gaps.push(gap);
        eprintln!("kill {}: {} ms", gaps.len(), gap.as_millis());
    }
    let count = all.agrees(&cluster, &ALL);
    gaps.sort();
    let ms = |share: f64| {
        let last = gaps.len() - 1;
        gaps[((last as f64) * share).ceil() as usize].as_secs_f64() * 1000.0
    };
    let report = serde_json::json!({
        "what": "no write is acknowledged after SIGKILL of the leader of three members, in milliseconds",
        "kills": gaps.len(),
        "median_ms": ms(0.5).round(),
        "p95_ms": ms(0.95).round(),
        "worst_ms": ms(1.0).round(),
        "writes_executed": count.executed,
        "writes_refused": count.not_executed,
        "writes_unknown_then_certain": count.unknown,
        "acknowledged_and_lost": 0,
        "run_twice": 0,
    });
    let text = serde_json::to_string_pretty(&report).expect("plain data");
    println!("{text}");
    let dir =
        std::env::var_os("HOLDFAST_BENCH_DIR").map_or_else(|| PathBuf::from("target/bench"), PathBuf::from);
    std::fs::create_dir_all(&dir).expect("a directory for figures");
    std::fs::write(dir.join("write-gap.json"), text + "\n").expect("figures are written");
}

/// Kills the leader under load, and brings it back. The gap, and what clients were told.
fn kill(cluster: &mut Cluster, leader: usize) -> (Option<Duration>, Ledger) {
    let rest: Vec<usize> = ALL.into_iter().filter(|at| *at != leader).collect();
    let writers = Writers::start(cluster, &rest);
    writers.more(20);
    if !cluster.leads(leader) {
        return (None, writers.stop());
    }
    let killed = Instant::now();
    cluster.signal(leader, libc::SIGKILL);
    writers.more(20);
    cluster.kill(leader);
    cluster.start(leader);
    cluster.all_vote(3);
    writers.more(20);
    let ledger = writers.stop();
    let first = ledger.first_after(killed).expect("writes went on");
    cluster.caught_up(&ALL);
    (Some(first - killed), ledger)
}
