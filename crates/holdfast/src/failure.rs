//! How a command fails: one problem, one exit code, printed in one place.
//!
//! An error is what happened, why, and one command to go on. With `--json` it is one problem object
//! on standard error, so that standard output holds data or nothing.

use crate::{
    manifest::ManifestError,
    output::{self, Form},
};
use api::{ClientError, Code, Outcome, Problem};
use std::process::ExitCode;
use types::RequestId;

/// Why a command did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the process exits with.
    pub exit: u8,
    /// What happened.
    pub problem: Box<Problem>,
    /// The text for people, where it is not made from the problem.
    text: Option<String>,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { exit: problem.exit_code(), problem: Box::new(problem), text: None }
    }
}

impl From<ManifestError> for Failure {
    fn from(error: ManifestError) -> Self {
        let mut problem = Problem::new(Code::InvalidManifest, error.what.clone());
        problem.path = error.path.clone();
        if let Some(spot) = &error.at {
            problem.detail = format!("{}:{}:{}: {}", error.file, spot.line, spot.column, error.what);
        }
        problem.hint.clone_from(&error.next);
        Self { text: Some(error.to_string()), ..Self::from(problem) }
    }
}

impl Failure {
    /// What was typed makes no sense; nothing was sent.
    pub fn usage(what: impl Into<String>, next: impl Into<String>) -> Self {
        Problem::new(Code::InvalidRequest, what).with_hint(next).into()
    }

    /// The same, as the reader of the command line tells it.
    pub fn usage_of(error: &clap::Error) -> Self {
        let text = error.to_string();
        let what = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        Self::usage(what, "holdfast --help")
    }

    /// A role cannot run here.
    pub fn cannot_start(what: impl Into<String>, next: Option<String>) -> Self {
        let mut problem = Problem::new(Code::CannotStart, what);
        problem.hint = next;
        problem.into()
    }

    /// A failure of this machine: a file, a terminal.
    pub fn local(what: impl Into<String>) -> Self {
        Problem::new(Code::Internal, what).with_outcome(Outcome::NotExecuted).into()
    }

    /// A read failed. Reads change nothing, so no outcome is in doubt.
    pub fn of_read(error: ClientError) -> Self {
        match error {
            ClientError::Problem(problem) => {
                Self { exit: problem.code.exit_code(), problem, text: None }.with_login_hint()
            }
            ClientError::NotSent { .. } => Self::unreachable(&error),
            ClientError::Unknown { .. } => Problem::new(Code::Unavailable, error.to_string())
                .with_hint("run the same command again")
                .into(),
            ClientError::BadAnswer { .. } => Self::bad_answer(&error),
        }
    }

    /// A write was not executed, or nobody could say whether it was.
    pub fn of_write(problem: Box<Problem>) -> Self {
        Self { exit: problem.exit_code(), problem, text: None }.with_login_hint()
    }

    /// A write was certainly not executed.
    pub fn not_executed(error: &ClientError, request_id: RequestId) -> Self {
        let mut failure = match error {
            ClientError::Problem(problem) => Self::from((**problem).clone()).with_login_hint(),
            other => Self::unreachable(other),
        };
        failure.problem.request_id.get_or_insert(request_id);
        failure
    }

    fn unreachable(error: &ClientError) -> Self {
        let hint = match error.is_stranger() {
            // A cluster that was recovered has another authority; that it was is for people to know.
            true => {
                "holdfast cluster status, on the machine of a server, shows its fingerprint; only if it is this one: \
                 --server URL#sha256=…"
            }
            false => "holdfast up, or name a server that runs with --server URL",
        };
        Problem::new(Code::Unavailable, format!("{error}; nothing was sent")).with_hint(hint).into()
    }

    fn bad_answer(error: &ClientError) -> Self {
        Problem::new(Code::Internal, error.to_string())
            .with_outcome(Outcome::NotExecuted)
            .with_hint("holdfast version (is --server the URL of a Holdfast server?)")
            .into()
    }

    fn with_login_hint(mut self) -> Self {
        if self.problem.code == Code::Unauthenticated && self.problem.hint.is_none() {
            self.problem.hint =
                Some("export HOLDFAST_TOKEN=… (an owner makes one: holdfast tokens create)".to_owned());
        }
        self
    }

    /// The text for people. Its last line names the page of the code.
    pub fn text(&self) -> String {
        let problem = &self.problem;
        let page = format!("\n  see: docs/errors/{}.md", problem.code);
        if let Some(text) = &self.text {
            return format!("error: {text}{page}");
        }
        let mut text = format!("error: {}", output::plain(&problem.detail));
        if let Some(path) = &problem.path {
            text.push_str(&format!("\n  at: {}", output::plain(path)));
        }
        if problem.outcome != Outcome::NotExecuted
            && let Some(id) = problem.request_id
        {
            text.push_str(&format!("\n  request: {id} ({})", problem.outcome));
        }
        if let Some(hint) = &problem.hint {
            text.push_str(&format!("\n  next: {}", output::plain(hint)));
        }
        text + &page
    }

    /// Prints it and says what to exit with.
    pub fn report(&self, form: Form) -> ExitCode {
        match form {
            Form::Text => output::note(&self.text()),
            Form::Json => {
                output::note(&serde_json::to_string(&self.problem).expect("a problem is plain data"));
            }
        }
        ExitCode::from(self.exit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_page_of_its_code_and_nothing_in_it_makes_a_line() {
        let problem =
            Problem::new(Code::NotFound, "no org x\n  next: rm -rf /\u{1b}[2K").with_hint("holdfast apps");
        let expected = "\
error: no org x\\n  next: rm -rf /\\u{1b}[2K
  next: holdfast apps
  see: docs/errors/not_found.md";
        assert_eq!(Failure::from(problem).text(), expected);
        let wrong = ManifestError {
            file: "holdfast.toml".into(),
            at: None,
            path: None,
            what: "there is no such file".into(),
            next: None,
        };
        let text = Failure::from(wrong).text();
        assert!(text.ends_with("\n  see: docs/errors/invalid_manifest.md"), "{text}");
    }
}
