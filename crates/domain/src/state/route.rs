//! Routes: `requested → validated → active ⇄ updating → removed (gone)`.

use serde::{Deserialize, Serialize};
use types::{EnvId, Generation, Name, manifest::ProxyProtocol, plan::RouteMatch};

/// Where a route is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteState {
    /// Asked for.
    Requested,
    /// Nobody else owns the name; edges are being told.
    Validated,
    /// Every edge has it.
    Active,
    /// Edges are being told of a change.
    Updating,
}

use RouteState::{Active, Requested, Updating, Validated};

/// The legal changes; nothing else ever happens to a route but its removal.
pub(super) const TRANSITIONS: &[(RouteState, RouteState)] = &[
    (Requested, Validated),
    (Validated, Active),
    (Active, Updating),
    (Updating, Active),
    (Validated, Updating),
];

/// A way in to a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Who owns the name.
    pub env: EnvId,
    /// What edges listen for.
    pub matches: RouteMatch,
    /// Who answers.
    pub process: Name,
    /// On which of its ports.
    pub port: Name,
    /// Whether backends are told the client's address.
    pub proxy_protocol: ProxyProtocol,
    /// Where it is in its life.
    pub state: RouteState,
    /// What an edge must have taken over to know its newest form.
    pub routed: Generation,
    /// Events so far.
    pub sequence: u64,
}

impl Route {
    pub(super) fn go(&mut self, to: RouteState) {
        if TRANSITIONS.contains(&(self.state, to)) {
            self.state = to;
        }
    }
}
