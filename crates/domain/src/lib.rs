//! What the platform means, as plain functions over plain data.
//!
//! A [`Command`] is what somebody wants; [`decide()`] answers with [`Event`]s or a [`Rejection`],
//! looking at a [`State`]; [`State::apply`] folds events and never fails; [`plan`] says what is
//! still missing; [`view`] holds what people read. There is no I/O, no clock, no randomness and no
//! hash order here: time and fresh ids come in through [`Context`], so the same log gives the same
//! state on every machine, for ever.
//!
//! ```text
//!   Command ──decide(State)──▶ Events ──log──▶ State::apply ──▶ plan ──▶ more Commands
//!                                        └──▶ views (each on its own)
//! ```

mod backup;
pub mod codec;
mod command;
pub mod config;
mod confirmed;
mod content;
mod decide;
pub mod derive;
mod event;
pub mod plan;
mod rejection;
pub mod state;
pub mod view;

pub use backup::{BackupNote, BackupStep};
pub use command::{Command, Context, NewMember, NewToken};
pub use confirmed::{Confirmation, Confirmed};
pub use content::Content;
pub use decide::{Decision, Settled, UNHEARD, approvals, decide, ending, settle};
pub use event::{
    Actor, DeployFailure, DeployKind, Done, Envelope, Event, NodeHealth, Role, Subject, Verdict,
};
pub use rejection::Rejection;
pub use state::State;
