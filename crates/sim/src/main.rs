//! Runs many rounds: `SEEDS=2000 holdfast-sim`, or from another first seed with `FROM=n`; of one kind only
//! with `KIND=disk` or `KIND=cluster`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a command line tool that reports how long it took"
)]

use holdfast_sim::cluster::{self, Tally, cluster_round};
use std::{ops::Range, process::ExitCode, thread, time::Instant};

/// So many lines of a failed round's story are shown.
const LINES: usize = 60;

fn number(variable: &str, default: u64) -> Result<u64, String> {
    match std::env::var(variable) {
        Ok(text) => text.parse().map_err(|_| format!("{variable} wants a number, not {text:?}")),
        Err(_) => Ok(default),
    }
}

/// Rounds on one bad disk. Whether one broke an invariant.
fn disk(seeds: Range<u64>) -> bool {
    match holdfast_sim::rounds(seeds.clone(), None) {
        Ok(tally) => {
            println!("disk, seeds {seeds:?}: every invariant holds; {tally:?}");
            false
        }
        Err((seed, violation)) => {
            println!("disk, seed {seed}: {violation}\n  again: KIND=disk FROM={seed} make sim SEEDS=1");
            true
        }
    }
}

/// Rounds of clusters. Whether one broke an invariant.
fn clusters(seeds: Range<u64>) -> bool {
    let mut sum = Tally::default();
    for seed in seeds.clone() {
        let round = cluster_round(seed, None, None);
        if let Some(violation) = &round.violation {
            println!("cluster, seed {seed}: {violation}");
            let least = cluster::least(seed, None, violation.invariant);
            for line in &least.story[least.story.len().saturating_sub(LINES)..] {
                println!("  {line}");
            }
            println!("  again: KIND=cluster FROM={seed} make sim SEEDS=1");
            return true;
        }
        sum = sum.plus(&round.tally);
    }
    println!("cluster, seeds {seeds:?}: every invariant holds; {sum:?}");
    false
}

/// Shares the seeds among threads; how many of them found something.
fn share(what: &str, seeds: Range<u64>, run: fn(Range<u64>) -> bool) -> usize {
    let begun = Instant::now();
    let count = seeds.end - seeds.start;
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let each = count.div_ceil(threads).max(1);
    let failed = thread::scope(|scope| {
        let part = |thread: u64| {
            let start = (seeds.start + thread * each).min(seeds.end);
            start..(start + each).min(seeds.end)
        };
        let parts: Vec<_> = (0..threads).map(part).map(|part| scope.spawn(move || run(part))).collect();
        parts.into_iter().map(|part| part.join().unwrap_or(true)).filter(|failed| *failed).count()
    });
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "{what}: {count} rounds in {seconds:.1} s, {:.1} each second",
        count as f64 / seconds.max(0.001)
    );
    failed
}

fn main() -> ExitCode {
    let (seeds, from) = match number("SEEDS", 2000).and_then(|seeds| Ok((seeds, number("FROM", 0)?))) {
        Ok(numbers) => numbers,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let kind = std::env::var("KIND").unwrap_or_default();
    let mut failed = 0;
    if kind != "cluster" {
        failed += share("disk", from..from + seeds, disk);
    }
    if kind != "disk" {
        failed += share("cluster", from..from + seeds, clusters);
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
