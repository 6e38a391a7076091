//! `doctor`: looks at this machine and at the server it is pointed at. Each line is well, or wants
//! attention and names one command to go on. It changes nothing.

mod machine;
mod server;

use crate::{
    context::Context,
    output::{self, Form},
};
use serde::Serialize;
use std::path::Path;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Attention,
    /// It could not be looked at, and nothing follows from that.
    Skipped,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    /// How it is, in words.
    what: String,
    /// The command to go on with.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, what: what.into(), next: None }
    }

    fn attention(check: &'static str, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Attention, what: what.into(), next: Some(next.into()) }
    }

    fn skipped(check: &'static str, what: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Skipped, what: what.into(), next: None }
    }
}

/// Looks, and prints what was found. Ends the process with 1 if anything wants attention: that is the
/// answer, and no failure of this command.
pub async fn run(context: &Context, data_dir: &Path) {
    let mut findings = machine::look(data_dir);
    findings.extend(server::look(context).await);
    let wanting = findings.iter().filter(|finding| finding.verdict == Verdict::Attention).count();
    match context.form {
        Form::Json => output::json(&serde_json::json!({ "ok": wanting == 0, "findings": findings })),
        Form::Text => output::raw(text(&findings).as_bytes()),
    }
    if wanting > 0 {
        std::process::exit(1);
    }
}

fn text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { check, verdict, what, next } in findings {
        let word = match verdict {
            Verdict::Ok => "ok",
            Verdict::Attention => "attention",
            Verdict::Skipped => "skipped",
        };
        text.push_str(&format!("{word:<10} {check:<9} {what}\n"));
        if let Some(next) = next {
            text.push_str(&format!("{:<20} next: {next}\n", ""));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wants_attention_names_its_command() {
        let findings = [
            Finding::ok("disk", "3.0Gi of 9.0Gi free"),
            Finding::attention("clock", "4s behind the server's", "timedatectl"),
            Finding::skipped("nodes", "an owner's token is needed"),
        ];
        let expected = "\
ok         disk      3.0Gi of 9.0Gi free
attention  clock     4s behind the server's
                     next: timedatectl
skipped    nodes     an owner's token is needed
";
        assert_eq!(text(&findings), expected);
    }
}
