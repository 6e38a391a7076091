//! What came of every request, until the horizon passes it.
//!
//! A request id carries its birth time and ids sort by it, so the verdicts the horizon passes are
//! the first ones of the map, and a forgotten id is refused by its age: forgetting never doubles.

use crate::event::{Actor, Verdict};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use types::{EventId, RequestId, Timestamp};

/// A verdict and where it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Who asked.
    pub principal: Actor,
    /// SHA-256 of what was asked.
    pub body: [u8; 32],
    /// What came of it.
    pub verdict: Verdict,
    /// The event that holds the verdict.
    pub event: EventId,
    /// When it was decided.
    pub at: Timestamp,
}

/// Verdicts by request, and how many each principal has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Requests {
    decided: OrdMap<RequestId, Arc<Decided>>,
    per_principal: OrdMap<Actor, u64>,
    horizon: Timestamp,
}

impl Requests {
    /// What came of `request`, if it is remembered.
    pub fn get(&self, request: RequestId) -> Option<&Arc<Decided>> {
        self.decided.get(&request)
    }

    /// Ids born before this are refused.
    pub const fn horizon(&self) -> Timestamp {
        self.horizon
    }

    /// How many verdicts of `principal` are remembered.
    pub fn count(&self, principal: Actor) -> u64 {
        self.per_principal.get(&principal).copied().unwrap_or(0)
    }

    /// How many verdicts are remembered.
    pub fn len(&self) -> usize {
        self.decided.len()
    }

    /// Whether none is remembered.
    pub fn is_empty(&self) -> bool {
        self.decided.is_empty()
    }

    pub(super) fn insert(&mut self, request: RequestId, decided: Decided) {
        *self.per_principal.entry(decided.principal).or_insert(0) += 1;
        self.decided.insert(request, Arc::new(decided));
    }

    pub(super) fn move_horizon(&mut self, to: Timestamp) {
        self.horizon = self.horizon.max(to);
        while let Some((request, decided)) =
            self.decided.get_min().map(|(id, decided)| (*id, decided.clone()))
        {
            if request.time() >= self.horizon {
                break;
            }
            self.decided.remove(&request);
            if let Some(count) = self.per_principal.get_mut(&decided.principal) {
                *count = count.saturating_sub(1);
            }
            if self.count(decided.principal) == 0 {
                self.per_principal.remove(&decided.principal);
            }
        }
    }
}
