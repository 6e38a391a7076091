//! What the demo leaves behind: `target/demo/summary.json` and the same as a table.

use demo::{Failure, Outcome, Tally};
use serde::Serialize;
use std::{fs, path::Path, time::Duration};

/// Requests that a whole run must have counted.
pub const ENOUGH: u64 = 50_000;

/// One row.
#[derive(Debug, Serialize)]
pub struct Phase {
    /// What was done to the platform.
    pub name: String,
    /// Requests that ended in this phase.
    pub requests: u64,
    /// Those that failed.
    pub failed: u64,
    /// How many may.
    pub allowed: u64,
    /// Why that many, and what was seen.
    pub why: String,
}

impl Phase {
    /// Whether the promise was kept.
    pub fn kept(&self) -> bool {
        self.failed <= self.allowed
    }
}

/// All figures of a run.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Every phase, in order.
    pub phases: Vec<Phase>,
    /// From the first `holdfast apply` to an answer on every route.
    pub ready_ms: u64,
    /// From the start of agent and edge after the power cut to an answer on every route.
    pub cold_start_ms: u64,
    /// Whether every view, rebuilt from the log, was what it had been.
    pub fingerprints_equal: bool,
    /// The whole run, building excepted.
    pub total_s: f64,
}

impl Summary {
    /// Adds a phase and prints its line.
    pub fn add(&mut self, name: &str, tally: &Tally, allowed: u64, why: String) {
        let phase =
            Phase { name: name.to_owned(), requests: tally.requests, failed: tally.failed, allowed, why };
        let verdict = if phase.kept() { "kept" } else { "BROKEN" };
        println!(
            "   {} requests, {} failed, {} allowed: {verdict}; slowest {} ms",
            phase.requests,
            phase.failed,
            phase.allowed,
            tally.slowest.as_millis()
        );
        for (reason, count) in &tally.reasons {
            println!("     {count} × {reason}");
        }
        self.phases.push(phase);
    }

    /// All requests of the run.
    pub fn requests(&self) -> u64 {
        self.phases.iter().map(|phase| phase.requests).sum()
    }

    /// What is not as promised; empty if the demo holds.
    pub fn complaints(&self) -> Vec<String> {
        let mut found: Vec<String> = self
            .phases
            .iter()
            .filter(|phase| !phase.kept())
            .map(|phase| format!("{}: {} failed, {} allowed", phase.name, phase.failed, phase.allowed))
            .collect();
        if self.requests() < ENOUGH {
            found.push(format!("only {} requests in all; wanted {ENOUGH}", self.requests()));
        }
        if !self.fingerprints_equal {
            found.push("a rebuilt view differs from the live one".into());
        }
        found
    }

    /// Writes the file.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Outcome {
        let text =
            serde_json::to_string_pretty(self).map_err(|error| Failure::new("write figures", error))?;
        fs::write(path, text + "\n").map_err(|error| Failure::new(format!("write {}", path.display()), error))
    }

    /// Prints all of it for people.
    pub fn print(&self, total: Duration) {
        println!("\n{:<44} {:>9} {:>7} {:>8}", "phase", "requests", "failed", "allowed");
        for phase in &self.phases {
            let mark = if phase.kept() { "" } else { "  BROKEN" };
            println!(
                "{:<44} {:>9} {:>7} {:>8}{mark}",
                phase.name, phase.requests, phase.failed, phase.allowed
            );
        }
        println!("{:<44} {:>9}", "all", self.requests());
        println!("first answer on every route after apply      {} ms", self.ready_ms);
        println!("every route again after the power cut        {} ms", self.cold_start_ms);
        println!("rebuilt views equal                          {}", self.fingerprints_equal);
        println!("total                                        {:.1} s", total.as_secs_f64());
    }
}
