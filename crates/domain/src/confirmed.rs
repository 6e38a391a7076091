//! Confirmations: who said yes to a guarded act, how, and to which risks.

use crate::event::Actor;
use serde::{Deserialize, Serialize};
use types::Timestamp;

/// How a guarded act was confirmed. Stored: a new kind is added at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    /// A person was shown the explanation and typed the answer, as the client says.
    Person,
    /// A program was given the token.
    Script,
    /// Whoever could write to the data directory, without a server.
    Offline,
    /// A service principal, with a scope for this act.
    Service,
}

/// The confirmation of a guarded act, as it goes into an event or into the entry of an epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// Who confirmed.
    pub actor: Actor,
    /// How.
    pub kind: Confirmation,
    /// The invariants that the act overrides; each was acknowledged by typing what was asked.
    pub acknowledged: Vec<String>,
    /// Why, in the words of whoever confirmed; may be empty where nothing is overridden.
    pub reason: String,
    /// When, by the clock of the server that held the token.
    pub at: Timestamp,
}
