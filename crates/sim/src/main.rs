//! Runs many rounds: `SEEDS=20000 holdfast-sim`, or from another first seed with `FROM=n`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a command line tool that reports how long it took"
)]

use std::{process::ExitCode, thread};

fn number(variable: &str, default: u64) -> Result<u64, String> {
    match std::env::var(variable) {
        Ok(text) => text.parse().map_err(|_| format!("{variable} wants a number, not {text:?}")),
        Err(_) => Ok(default),
    }
}

fn main() -> ExitCode {
    let (seeds, from) = match number("SEEDS", 20_000).and_then(|seeds| Ok((seeds, number("FROM", 0)?))) {
        Ok(numbers) => numbers,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    let threads = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let begun = std::time::Instant::now();
    let share = seeds.div_ceil(threads);
    let failed = thread::scope(|scope| {
        let run = |thread: u64| {
            let (start, end) = (from + thread * share, from + ((thread + 1) * share).min(seeds));
            let result = holdfast_sim::rounds(start..end.max(start), None);
            match &result {
                Ok(tally) => println!("seeds {start}..{end}: every invariant holds; {tally:?}"),
                Err((seed, violation)) => {
                    println!("seed {seed}: {violation}\n  again: SEEDS=1 FROM={seed} make sim");
                }
            }
            result.is_err()
        };
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(true)).filter(|failed| *failed).count()
    });
    println!("{seeds} rounds in {:.1} s", begun.elapsed().as_secs_f64());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
