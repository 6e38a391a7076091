//! The parts a machine plays, each a process of its own; `up` starts one of each and watches them.
//!
//! A role that cannot start says why in one sentence and exits with 1. One that runs ends on SIGTERM
//! or SIGINT, in order, and exits with 0.

mod agent;
mod child;
mod edge;
mod identity;
pub mod owner;
mod port;
pub mod process;
mod providers;
mod server;
mod up;

pub use identity::host_name;
pub use server::refused as cannot_start_server;

use crate::{
    args::{Global, Role},
    failure::Failure,
};

/// Plays one part until it is told to stop.
pub fn run(role: Role, global: Global) -> Result<(), Failure> {
    process::speak(global.form());
    // `up` starts its children by a path that says `exe`; tools that list processes show a name. It is
    // for people only, so that it may fail.
    let _ = std::fs::write("/proc/self/comm", "holdfast");
    match role {
        Role::Up(args) => up::run(args, global),
        Role::Server(args) => process::runtime()?.block_on(server::run(args)),
        Role::Agent(args) => process::runtime()?.block_on(agent::run(args, global)),
        Role::Edge(args) => process::runtime()?.block_on(edge::run(args, global)),
    }
}
