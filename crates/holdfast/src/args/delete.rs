//! What takes something away that has content, and so is guarded.

use super::cluster::ConfirmArgs;
use clap::Args;
use types::Name;

/// Why, and how it is confirmed.
#[derive(Clone, Debug, Args)]
pub struct WhyArgs {
    /// Why; goes into the log with the act
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub confirm: ConfirmArgs,
}

#[derive(Clone, Debug, Args)]
pub struct AppArgs {
    /// The app
    pub name: Name,
    #[command(flatten)]
    pub why: WhyArgs,
}

#[derive(Clone, Debug, Args)]
pub struct EnvArgs {
    /// The environment
    pub name: Name,
    #[command(flatten)]
    pub why: WhyArgs,
}

#[derive(Clone, Debug, Args)]
pub struct NodeArgs {
    /// The node, by name or id
    pub node: String,
    #[command(flatten)]
    pub why: WhyArgs,
}
