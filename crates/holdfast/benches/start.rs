//! How long `holdfast up` takes on an empty directory: from the start of the process to the server's first
//! *ready*, and until its agent and its edge run as well. Eleven starts, each in a directory of its own; needs
//! what the agent needs (root, the container runtime). Writes `start.json`.

use demo::{Process, free_ports, get_plain};
use std::{
    fs,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

const STARTS: usize = 11;
/// How long a start may take before it counts as failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// One start: milliseconds until the server is ready, and until all roles run.
fn start() -> (f64, f64) {
    let dir = tempfile::Builder::new().prefix("holdfast-start-").tempdir().expect("a directory");
    let [api, tls, agent, edge] = free_ports().expect("ports");
    let at = |port: u16| format!("127.0.0.1:{port}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HOLDFAST_")) {
        command.env_remove(name);
    }
    command.env("HOLDFAST_CONFIG", dir.path().join("context.toml")).current_dir(dir.path());
    command.args(["up", "--listen", &at(api), "--tls-listen", &at(tls), "--tcp-address", "127.0.0.1"]);
    command.args(["--edge-metrics", &at(edge), "--agent-metrics", &at(agent), "--name", "one"]);
    command.arg("--data-dir").arg(dir.path().join("data"));
    let begun = Instant::now();
    let mut up = Process::start(dir.path(), "up", &mut command).expect("up starts");
    let (address, second) = (at(api), Duration::from_secs(1));
    let ready = || {
        let answer = get_plain(&address, "/health/ready", second).ok()?;
        (answer.status == 200).then(|| begun.elapsed())
    };
    let ready = up.wait_until("the server to be ready", PATIENCE, ready).expect("up goes on");
    let roles = || {
        let runs =
            |port: u16| get_plain(&at(port), "/metrics", second).is_ok_and(|answer| answer.status == 200);
        (runs(agent) && runs(edge)).then(|| begun.elapsed())
    };
    let all = up.wait_until("all roles to run", PATIENCE, roles).expect("up goes on");
    up.terminate(Duration::from_secs(20)).expect("up ends");
    (ready.as_secs_f64() * 1000.0, all.as_secs_f64() * 1000.0)
}

fn main() {
    // `cargo test --benches` only wants to know that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (mut ready, mut all): (Vec<f64>, Vec<f64>) = (0..STARTS).map(|_| start()).unzip();
    ready.sort_by(f64::total_cmp);
    all.sort_by(f64::total_cmp);
    let report = serde_json::json!({
        "what": "start of `holdfast up` on an empty directory, in milliseconds",
        "starts": STARTS,
        "ready_median_ms": ready[STARTS / 2].round(),
        "ready_worst_ms": ready[STARTS - 1].round(),
        "all_roles_median_ms": all[STARTS / 2].round(),
        "all_roles_worst_ms": all[STARTS - 1].round(),
    });
    let text = serde_json::to_string_pretty(&report).expect("plain data");
    println!("{text}");
    let dir =
        std::env::var_os("HOLDFAST_BENCH_DIR").map_or_else(|| PathBuf::from("target/bench"), PathBuf::from);
    fs::create_dir_all(&dir).expect("a directory for figures");
    fs::write(dir.join("start.json"), text + "\n").expect("figures are written");
}
