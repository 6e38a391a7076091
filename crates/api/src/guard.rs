//! Guarded acts: explained first, then confirmed, then run.
//!
//! `POST path?explain` with the whole body answers with an [`Explained`] and its token; the same call
//! with that token in [`routes::CONFIRM`](crate::routes::CONFIRM) runs the act. The token is bound to
//! who asked, to the request (only `acknowledge` may be added to its body), and to the state that was
//! shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What exactly a guarded act will do, and the token that runs it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explained {
    /// The act and its target, as in `cluster promote three`.
    pub act: String,
    /// What will happen, in order.
    pub will: Vec<String>,
    /// What it touches.
    pub touches: Vec<String>,
    /// What of it cannot be undone.
    pub irreversible: Vec<String>,
    /// The invariants that hold, and what proves each.
    pub invariants: Vec<Proof>,
    /// The invariants that do not hold or are not proven, each to be acknowledged.
    pub overrides: Vec<Override>,
    /// What the server knows and bases this on: an object, or an array of objects (rows).
    #[schema(value_type = Object)]
    pub facts: serde_json::Value,
    /// To be sent with the same call, once; empty where nothing has to be confirmed, because nothing is
    /// lost: the same call without a token runs it.
    pub token: String,
    /// How long the token lives from now on, in milliseconds.
    pub expires_ms: u64,
}

/// A guarded act on what its path names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ActRequest {
    /// Why; goes into the log with the act.
    #[serde(default)]
    pub reason: String,
    /// What the explanation asks to be typed, for each invariant that the act overrides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acknowledge: Vec<String>,
}

/// An invariant that holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proof {
    /// Its name.
    pub name: String,
    /// What proves it here.
    pub proven_by: String,
}

/// An invariant that the act overrides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Override {
    /// Its name.
    pub invariant: String,
    /// What has to stand in `acknowledge`, letter by letter.
    pub type_this: String,
}

/// Who gives a confirmation, as the client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConfirmedBy {
    /// A person who was shown the explanation and typed the answer.
    Person,
    /// A program that was given the token.
    Script,
}

impl ConfirmedBy {
    /// The word in the header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Script => "script",
        }
    }
}

impl std::str::FromStr for ConfirmedBy {
    type Err = UnknownConfirmedBy;
    fn from_str(text: &str) -> Result<Self, UnknownConfirmedBy> {
        [Self::Person, Self::Script]
            .into_iter()
            .find(|by| by.as_str() == text)
            .ok_or_else(|| UnknownConfirmedBy(text.to_owned()))
    }
}

/// A word that names no kind of confirmation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not who confirms: person or script")]
pub struct UnknownConfirmedBy(pub String);
