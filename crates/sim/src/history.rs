//! What the world outside knows of a log: everything it was told, kept by someone who never crashes.

use control::{Outcome, Proposal};
use log::Record;
use std::fmt;
use types::EventId;

/// An invariant does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

impl Violation {
    pub(crate) fn new(invariant: &'static str, what: impl Into<String>) -> Self {
        Self { invariant, what: what.into() }
    }

    /// The same, said of a member.
    pub(crate) fn of(self, node: u64) -> Self {
        Self { what: format!("on {node}: {}", self.what), ..self }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// A request that was answered with an outcome that stands in the log.
#[derive(Clone, Debug)]
pub struct Answered {
    /// What was asked.
    pub proposal: Proposal,
    /// What was answered.
    pub outcome: Outcome,
}

/// Everything that was ever told to anyone.
#[derive(Debug, Default)]
pub struct History {
    /// Every event that was ever read, in order: what a reader saw, it saw for ever.
    pub read: Vec<Record>,
    /// The last event of the last append that was acknowledged.
    pub acked: EventId,
    /// Requests that were answered.
    pub answered: Vec<Answered>,
    /// The last snapshot that was said to be saved.
    pub snapshot: EventId,
}

impl History {
    /// Takes note of what a reader has seen of the whole log.
    pub fn saw(&mut self, records: &[Record]) {
        let known = self.read.len();
        self.read.extend_from_slice(&records[known.min(records.len())..]);
    }
}
