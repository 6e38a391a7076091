//! The control plane: one writer over the log, reconcilers that drive towards what is declared,
//! and HTTP for people, programs and nodes.
//!
//! Start reading at [`Sequencer`] (decides), go on to [`Core`] (makes it durable and visible), then
//! `reconcile` (what happens by itself) and `http` (who may ask for what).

mod audit;
pub mod backups;
pub mod cluster;
mod figures;
mod http;
mod observe;
pub mod peer;
pub mod providers;
mod reconcile;
mod secret;
mod sequencer;
mod server;
mod snapshot;
mod web;
mod writer;

pub use audit::{Audit, Ended, Entry, Journal, JournalError, Note, Recorder, Seen, Verified};
pub use http::{Images, Options, Resolving, access, openapi, router, serve, serve_with};
pub use observe::Observations;
pub use secret::Secret;
pub use sequencer::{Decided, Outcome, Proposal, Sequencer};
pub use server::{Config, Initialised, Server, ServerError, address_of, init};
pub use writer::{Answer, Core, Driver, NotVisible, Rebuilt, StartError};
