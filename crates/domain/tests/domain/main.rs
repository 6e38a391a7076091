//! Tests of the domain from outside: transcripts of every life cycle, a simulated world that the
//! planners have to bring to rest, the stored form of events, and requests that run once.
#![allow(clippy::disallowed_methods, reason = "tests read and rewrite their golden files")]

mod adoption;
mod backups;
mod codec;
mod config;
mod deletion;
mod members;
mod people;
mod planning;
mod properties;
mod requests;
mod transcripts;
mod views;
mod world;
