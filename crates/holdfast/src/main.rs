//! The one binary: the command line, and each role a machine can play.
//!
//! This crate composes and prints; it decides nothing. What is declared goes to a server through
//! `api`; what a role does is in `control`, `agent` and `edge`.

mod args;
mod commands;
mod context;
mod failure;
mod interrupt;
mod manifest;
mod output;
mod password;
mod private_file;
mod role_file;
mod roles;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let json = std::env::args_os().any(|arg| arg == "--json");
    let form = if json { output::Form::Json } else { output::Form::Text };
    let line = match role_file::widen(std::env::args_os().collect()) {
        Ok(line) => line,
        Err(failure) => return failure.report(form),
    };
    let cli = match args::Cli::try_parse_from(line) {
        Ok(cli) => cli,
        Err(error) if !json || !error.use_stderr() => error.exit(),
        Err(error) => return failure::Failure::usage_of(&error).report(output::Form::Json),
    };
    let form = cli.global.form();
    let outcome = match cli.command {
        args::Command::Role(role) => roles::run(*role, cli.global),
        args::Command::Daily(command) => commands::run(command, cli.global),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(form),
    }
}
