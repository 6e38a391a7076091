//! `demo-run`: tells the whole story on this machine, breaks what can break, and counts.
//!
//! Everything it starts is below `target/demo`, on free loopback ports, and is ended when it ends,
//! also after a failure or Ctrl-C; what a killed run left is cleared by the next one. With `--keep`
//! it is left running. `DEMO_OUTAGE_S` makes the server's outage longer, never shorter.

mod story;
mod summary;

use demo::{Failure, Outcome, Stamp, clear_host, interrupt_on_signals};
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};
use story::Story;
use summary::Summary;

const OUTAGE_S: u64 = 20;

fn main() -> ExitCode {
    interrupt_on_signals();
    let keep = std::env::args().skip(1).any(|argument| argument == "--keep");
    match run(keep) {
        Ok(complaints) if complaints.is_empty() => {
            println!("\nthe demo holds");
            ExitCode::SUCCESS
        }
        Ok(complaints) => {
            println!("\nthe demo does not hold:\n  {}", complaints.join("\n  "));
            ExitCode::FAILURE
        }
        Err(failure) => {
            println!("\nthe demo stopped: {failure}\nlogs: target/demo/logs");
            ExitCode::FAILURE
        }
    }
}

fn run(keep: bool) -> Outcome<Vec<String>> {
    let start = Instant::now();
    let (binary, dir) = places()?;
    clear(&dir)?;
    let outage = std::env::var("DEMO_OUTAGE_S").ok().and_then(|text| text.parse().ok()).unwrap_or(OUTAGE_S);
    let mut story = Story::prepare(&binary, &dir, Duration::from_secs(outage.max(OUTAGE_S)))?;
    let told = story.tell();
    story.summary.total_s = (start.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    story.summary.write(&dir.join("summary.json"))?;
    story.summary.print(start.elapsed());
    println!("figures: {}", dir.join("summary.json").display());
    if let Err(failure) = told {
        story.platform.stop()?;
        return Err(failure);
    }
    finish(story, keep, &dir)
}

fn finish(mut story: Story, keep: bool, dir: &Path) -> Outcome<Vec<String>> {
    let summary: Summary = std::mem::take(&mut story.summary);
    if keep {
        println!("left running; to use it: export HOLDFAST_CONFIG={}", dir.join("context.toml").display());
        std::mem::forget(story);
    } else {
        story.platform.stop()?;
    }
    Ok(summary.complaints())
}

/// The program under test, built beside this one, and the demo's directory.
fn places() -> Outcome<(PathBuf, PathBuf)> {
    let own = std::env::current_exe().map_err(|error| Failure::new("find myself", error))?;
    let binary = own.with_file_name("holdfast");
    if !binary.exists() {
        return Err(Failure("holdfast is not built; run: make demo".into()));
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let target = target.canonicalize().map_err(|error| Failure::new("find the target directory", error))?;
    Ok((binary, target.join("demo")))
}

/// Ends what an earlier run left, by the pid files it wrote, and begins with an empty directory.
fn clear(dir: &Path) -> Outcome {
    for entry in fs::read_dir(dir.join("pids")).into_iter().flatten().flatten() {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        let mut fields = text.split_whitespace().map(str::parse::<u64>);
        if let (Some(Ok(pid)), Some(Ok(started))) = (fields.next(), fields.next())
            && let Ok(pid) = u32::try_from(pid)
        {
            Stamp { pid, started }.kill(libc::SIGKILL);
        }
    }
    clear_host(dir)?;
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::new(format!("empty {}", dir.display()), error))
        }
        _ => fs::create_dir_all(dir).map_err(|error| Failure::new(format!("make {}", dir.display()), error)),
    }
}
