//! What every role's process does: lines on standard error, an event loop, an end on a signal.

use crate::{failure::Failure, output::Form};
use std::{
    error::Error,
    path::{Path, PathBuf},
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Sends log lines to standard error, as `HOLDFAST_LOG` filters them.
pub fn speak(form: Form) {
    let filter = EnvFilter::try_from_env("HOLDFAST_LOG").unwrap_or_else(|_| EnvFilter::new(SPOKEN));
    // A line that cannot be written is lost and nothing else: the default says so on standard error,
    // which panics where that is a closed pipe.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .log_internal_errors(false);
    // Fails only if something speaks already.
    let _ = match form {
        Form::Text => lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).try_init(),
        Form::Json => lines.json().try_init(),
    };
}

/// What is said unless asked otherwise. The consensus library tells of every heartbeat that fails; this
/// program says once that a member cannot be asked.
const SPOKEN: &str = "info,openraft=error";

/// The event loop of a role.
pub fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::cannot_start(format!("the system gives no threads: {error}"), None))
}

/// Is cancelled at the first SIGTERM or SIGINT. The second ends the process at once.
pub fn until_told() -> Result<CancellationToken, Failure> {
    let listen = |kind| {
        signal(kind)
            .map_err(|error| Failure::cannot_start(format!("signals cannot be received: {error}"), None))
    };
    let (mut term, mut int) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let told = CancellationToken::new();
    let shutdown = told.clone();
    tokio::spawn(async move {
        for round in 0..2 {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if round == 0 {
                tracing::info!("stopping");
                told.cancel();
            }
        }
        tracing::warn!("told twice; stopping at once");
        std::process::exit(1);
    });
    Ok(shutdown)
}

/// Makes a data directory and gives its absolute path.
pub fn data_dir(dir: &Path) -> Result<PathBuf, Failure> {
    let failed = |error: std::io::Error| {
        let next = "name another with --data-dir, or run this as a user who may write there";
        Failure::cannot_start(
            format!("the data directory {} cannot be used: {error}", dir.display()),
            Some(next.into()),
        )
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    dir.canonicalize().map_err(failed)
}

/// An error with all its causes, in one sentence. A cause that the text above it has told already is
/// not told again.
pub fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}
