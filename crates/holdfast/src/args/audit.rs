//! `holdfast audit`: what anybody attempted.

use clap::{Args, Subcommand};
use std::path::PathBuf;
use types::{DurationMs, Timestamp};

#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AuditArgs {
    #[command(subcommand)]
    pub verb: Option<AuditVerb>,
    /// Stay and print what comes
    #[arg(long, short)]
    pub follow: bool,
    /// At most so many of the last
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
    /// From the first on, however many; with --json it is an export
    #[arg(long, conflicts_with = "limit")]
    pub all: bool,
    /// Only of this actor, as in tok_01J…
    #[arg(long, value_name = "ID")]
    pub actor: Option<String>,
    /// Only confirmed, refused, denied, executed, failed, abandoned, more or lost
    #[arg(long, value_name = "TYPE")]
    pub r#type: Option<api::AuditType>,
    /// Only executed, not_executed or unknown
    #[arg(long, value_parser = outcome_of)]
    pub outcome: Option<api::Outcome>,
    /// Only since then, as in 2h or 2026-11-20T09:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since_of)]
    pub since: Option<Timestamp>,
}

#[derive(Clone, Debug, Subcommand)]
pub enum AuditVerb {
    /// Hold the journal of every member against its chain
    Verify {
        /// Without a server: the journal in this data directory
        #[arg(long, value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
}

fn outcome_of(text: &str) -> Result<api::Outcome, String> {
    let all = [api::Outcome::Executed, api::Outcome::NotExecuted, api::Outcome::Unknown];
    let found = all.into_iter().find(|outcome| outcome.to_string() == text);
    found.ok_or_else(|| "wants executed, not_executed or unknown".to_owned())
}

fn since_of(text: &str) -> Result<Timestamp, String> {
    use rt::Clock as _;
    match text.parse::<DurationMs>() {
        Ok(ago) => Ok(rt::SystemClock.now().minus(ago)),
        Err(_) => super::offline::time_of(text),
    }
}
