//! Calling a program: bounded in time, with its complaint kept.

use std::{ffi::OsStr, path::Path, process::Stdio, time::Duration};
use tokio::{io::AsyncWriteExt, process::Command};
use types::limits;

/// A program did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{tool}: {said}")]
pub(crate) struct ToolError {
    /// Its name and first argument.
    pub(crate) tool: String,
    /// What it said, or what became of it; bounded.
    pub(crate) said: String,
}

/// Text cut to what fits a report.
pub(crate) fn detail(text: &str) -> String {
    text.trim().chars().take(limits::DETAIL_CHARS).collect()
}

/// Runs a program to its end with this input and returns what it printed.
///
/// # Errors
/// It could not be started, took too long (and was killed), or failed.
pub(crate) async fn run<S: AsRef<OsStr>>(
    program: &Path,
    args: &[S],
    input: &str,
) -> Result<String, ToolError> {
    let first = args.first().map(|word| word.as_ref().to_string_lossy().into_owned()).unwrap_or_default();
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let failed = |said: &str| ToolError { tool: format!("{name} {first}"), said: detail(said) };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| failed(&error.to_string()))?;
    let mut stdin = child.stdin.take().expect("the input was asked to be a pipe");
    let text = input.to_owned();
    let work = async move {
        // A program that does not read its input to the end says why by itself.
        let _ = stdin.write_all(text.as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(Duration::from(limits::AGENT_TOOL), work)
        .await
        .map_err(|_| failed(&format!("took longer than {}", limits::AGENT_TOOL)))?
        .map_err(|error| failed(&error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(if said.trim().is_empty() { "failed and said nothing" } else { &said }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_gets_its_input_and_its_complaint_is_kept() {
        let sh = Path::new("/bin/sh");
        assert_eq!(run(sh, &["-c", "cat"], "hello").await.expect("cat works"), "hello");
        let error = run(sh, &["-c", "echo oh no >&2; exit 3"], "").await.expect_err("it failed");
        assert_eq!(error.said, "oh no");
        assert!(run::<&str>(Path::new("/nonexistent"), &[], "").await.is_err());
    }
}
