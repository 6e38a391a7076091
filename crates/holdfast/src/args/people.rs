//! Flags of `members` and `login`.

use clap::{Args, Subcommand};
use types::{DurationMs, Name};

#[derive(Debug, Subcommand)]
pub enum MembersVerb {
    /// All who may log in
    List,
    /// Add one; its password is asked for, or read as one line of standard input
    Create {
        name: Name,
        /// owner, admin, operator, developer, viewer or auditor
        #[arg(long)]
        role: api::TokenRole,
        /// Without a password: it logs in by way of a provider only, once it is linked
        #[arg(long)]
        no_password: bool,
    },
    /// Let one log in by way of a provider, as the identity that the provider knows it by
    Link {
        name: Name,
        /// The provider's URL, exactly as it says itself
        #[arg(long, value_name = "URL")]
        issuer: String,
        /// What the provider calls it by; whoever logs in there without being linked is shown theirs
        #[arg(long, value_name = "TEXT")]
        subject: String,
    },
    /// Let one log in by way of no provider; sessions opened that way and its tokens end
    Unlink { name: Name },
    /// Give one another role or password; sessions and tokens made with the old password end
    Set {
        name: Name,
        /// owner, admin, operator, developer, viewer or auditor
        #[arg(long)]
        role: Option<api::TokenRole>,
        /// Ask for a new password, or read it as one line of standard input
        #[arg(long)]
        password: bool,
    },
    /// Remove one, with its sessions and tokens
    Delete { name: Name },
    /// Change one's own password: asks for the present one, or reads both as two lines of standard input; one's
    /// sessions and tokens end
    Password,
}

#[derive(Debug, Args)]
pub struct LoginArgs {
    /// The member; its password is asked for, or read as one line of standard input
    pub name: Name,
    /// What the token may do, at most what the member may
    #[arg(long)]
    pub role: Option<api::TokenRole>,
    /// What the token is to be called
    #[arg(long, default_value = "login", value_name = "NAME")]
    pub token_name: Name,
    /// How long the token lives
    #[arg(long, default_value = "12h", value_name = "DURATION")]
    pub expires_in: DurationMs,
    /// Forget the token that is saved now, which may be the only copy
    #[arg(long)]
    pub replace: bool,
}
