//! `holdfast cluster …`: members, authority, and the guarded acts on them.

use super::{
    member::{InitArgs, JoinArgs},
    offline::{BackupArgs, DrillArgs, RecoverArgs, RestoreArgs},
};
use clap::{Args, Subcommand};
use types::DurationMs;

/// How a guarded act is confirmed. `--yes` is understood and answers nothing.
#[derive(Clone, Debug, Default, Args)]
pub struct ConfirmArgs {
    /// Only explain what it would do
    #[arg(long, conflicts_with = "confirm")]
    pub explain: bool,
    /// Run what was explained with this token, without asking; for scripts
    #[arg(long, value_name = "TOKEN")]
    pub confirm: Option<String>,
    /// What the explanation asks to be typed for an invariant that is overridden; may be repeated
    #[arg(long, value_name = "TEXT", requires = "confirm")]
    pub acknowledge: Vec<String>,
    /// Taken by every command that asks; a guarded act is not answered by it
    #[arg(long, short, hide = true)]
    pub yes: bool,
}

/// A guarded act on a member.
#[derive(Clone, Debug, Args)]
pub struct MemberArgs {
    /// The member, by name or id
    pub node: String,
    #[command(flatten)]
    pub why: ReasonArgs,
}

/// A guarded act with its reason.
#[derive(Clone, Debug, Args)]
pub struct ReasonArgs {
    /// Why; goes into the log with the act
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    #[command(flatten)]
    pub confirm: ConfirmArgs,
}

/// Through a server or, if none can run there, on its data directory.
#[derive(Clone, Debug, Args)]
pub struct FenceArgs {
    /// The member, by name or id; the one that is asked if none is named
    #[arg(conflicts_with = "data_dir")]
    pub node: Option<String>,
    /// Fence the member that this directory belongs to, without a server; it must not run
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<std::path::PathBuf>,
    /// Why; goes into the journal of the node
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub confirm: ConfirmArgs,
}

#[derive(Debug, Subcommand)]
pub enum ClusterVerb {
    /// Make a directory the first member of a cluster that others can join
    Init(InitArgs),
    /// Make a directory a member of a cluster that is there
    Join(JoinArgs),
    /// Members, who leads, how far each is
    Status,
    /// A single-use secret that makes a machine a member
    JoinToken {
        /// How long it may be used
        #[arg(long, default_value = "1h", value_name = "DURATION")]
        expires_in: DurationMs,
    },
    /// Give authority to a member whose primary is gone
    Promote(MemberArgs),
    /// Give authority from a primary that lives to another member, without losing a write
    Handover(MemberArgs),
    /// Have a member sequence nothing until it learns a higher epoch
    Fence(FenceArgs),
    /// Take a member out, for ever
    Remove(MemberArgs),
    /// Make a snapshot now on the server that is asked
    Snapshot,
    /// Go on with agents that hold plans from ahead of a log that was restored or recovered
    Adopt(ReasonArgs),
    /// Begin a new cluster from one member's disk, when the majority is lost for good
    Recover(RecoverArgs),
    /// Have the server back up its log now; or back up any, or look at the backups there are, with --to
    Backup(BackupArgs),
    /// Make a new data directory from a backup, up to any event or time; changes nothing else, and so
    /// asks for no confirmation
    Restore(RestoreArgs),
    /// Prove the newest backup: restore it aside, fold every event, remove it again
    Drill(DrillArgs),
}
