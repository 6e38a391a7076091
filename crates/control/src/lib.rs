//! The control plane: one writer over the log, reconcilers that drive towards what is declared,
//! and HTTP for people, programs and nodes.
//!
//! Start reading at [`Sequencer`] (decides), go on to [`Core`] (makes it durable and visible), then
//! `reconcile` (what happens by itself) and `http` (who may ask for what).

mod sequencer;
mod core;
mod snapshot;
mod observe;
mod reconcile;
mod secret;
mod http;
mod server;

pub use core::{Answer, Core, Driver, NotVisible, Rebuilt, StartError};
pub use observe::Observations;
pub use secret::Secret;
pub use sequencer::{Decided, Outcome, Proposal, Sequencer};
pub use server::{Config, Server, ServerError};
pub use http::{Images, Options, Resolving, openapi, router, serve};
