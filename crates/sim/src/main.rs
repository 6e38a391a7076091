//! Runs many rounds: `SEEDS=2000 holdfast-sim`, or from another first seed with `FROM=n`; of one kind only
//! with `KIND=disk` or `KIND=cluster`. `ONLY=3,8` runs the first seed's round of a cluster with none but these
//! of its troubles, and tells its story.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a command line tool that reports how long it took"
)]

use holdfast_sim::cluster::{self, Round, Tally, cluster_round};
use std::{collections::BTreeSet, ops::Range, process::ExitCode, sync::Mutex, thread, time::Instant};

/// So many lines of a failed round's story are shown.
const LINES: usize = 80;
/// In so many rounds of clusters everything happens.
const MANY: u64 = 200;

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

/// Rounds of clusters, until one breaks an invariant.
fn clusters(seeds: Range<u64>, sum: &Mutex<Tally>) -> bool {
    for seed in seeds {
        let round = cluster_round(seed, None, &None);
        if let Some(violation) = &round.violation {
            println!("cluster, seed {seed}: {violation}");
            let (only, round) = cluster::least(seed, None, violation.invariant);
            tell(&round);
            let only: Vec<String> = only.iter().map(u64::to_string).collect();
            let only = only.join(",");
            println!("  again: KIND=cluster FROM={seed} ONLY={only} make sim SEEDS=1");
            println!("  whole: KIND=cluster FROM={seed} make sim SEEDS=1");
            return true;
        }
        let mut sum = sum.lock().expect("no thread panics while it holds this");
        *sum = sum.plus(&round.tally);
    }
    false
}

fn tell(round: &Round) {
    for line in &round.story[round.story.len().saturating_sub(LINES)..] {
        println!("  {line}");
    }
}

/// One round of a cluster with none but these troubles, and its story. Whether it broke an invariant.
fn only(seed: u64, text: &str) -> Result<bool, String> {
    let numbers = text.split(',').filter(|number| !number.is_empty()).map(str::parse);
    let troubles = numbers.collect::<Result<BTreeSet<u64>, _>>();
    let troubles = troubles.map_err(|_| format!("ONLY wants numbers with commas, not {text:?}"))?;
    let round = cluster_round(seed, None, &Some(troubles));
    tell(&round);
    match &round.violation {
        Some(violation) => println!("cluster, seed {seed}: {violation}"),
        None => println!("cluster, seed {seed}: every invariant holds"),
    }
    Ok(round.violation.is_some())
}

/// What happened in all rounds. Whether something never did that should have.
fn sum_up(count: u64, sum: &Tally) -> bool {
    println!("cluster: {sum}");
    let never = sum.never();
    if count >= MANY && !never.is_empty() {
        println!("cluster: in {count} rounds there was never any of {never:?}; the harness is broken");
        return true;
    }
    false
}

/// Shares the seeds among threads; how many of them found something.
fn share(what: &str, seeds: Range<u64>, run: impl Fn(Range<u64>) -> bool + Copy + Send) -> usize {
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
    if let Ok(text) = std::env::var("ONLY") {
        return match only(from, &text) {
            Ok(false) => ExitCode::SUCCESS,
            Ok(true) => ExitCode::FAILURE,
            Err(why) => {
                eprintln!("{why}");
                ExitCode::from(2)
            }
        };
    }
    let kind = std::env::var("KIND").unwrap_or_default();
    let mut failed = 0;
    if kind != "cluster" {
        failed += share("disk", from..from + seeds, disk);
    }
    if kind != "disk" {
        let sum = Mutex::default();
        failed += share("cluster", from..from + seeds, |seeds| clusters(seeds, &sum));
        let sum = *sum.lock().expect("every thread has ended");
        failed += usize::from(failed == 0 && sum_up(seeds, &sum));
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
