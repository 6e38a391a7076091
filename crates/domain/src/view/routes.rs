//! Every route, with its owner.

use super::{Fault, Mark, View, canonical, missing};
use crate::{
    event::{Envelope, Event},
    state::RouteState,
};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use types::{EnvId, Name, RouteId, manifest::ProxyProtocol, plan::RouteMatch};

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteRow {
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
    /// When it was asked for.
    pub requested: Mark,
    /// When it last changed.
    pub changed: Mark,
}

/// The view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Routes {
    /// All routes, by id.
    pub rows: OrdMap<RouteId, Arc<RouteRow>>,
}

impl Routes {
    /// What people call it.
    pub const NAME: &'static str = "routes";

    fn step(&mut self, id: RouteId, to: RouteState, envelope: &Envelope) -> Result<&mut RouteRow, Fault> {
        let row = Arc::make_mut(self.rows.get_mut(&id).ok_or_else(|| missing(envelope, id))?);
        row.state = to;
        row.changed = Mark::of(envelope);
        Ok(row)
    }
}

impl View for Routes {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn apply(&mut self, envelope: &Envelope) -> Result<(), Fault> {
        match &envelope.event {
            Event::RouteRequested { route, env, matches, process, port, proxy_protocol } => {
                let made = RouteRow {
                    env: *env,
                    matches: matches.clone(),
                    process: process.clone(),
                    port: port.clone(),
                    proxy_protocol: *proxy_protocol,
                    state: RouteState::Requested,
                    requested: Mark::of(envelope),
                    changed: Mark::of(envelope),
                };
                self.rows.insert(*route, Arc::new(made));
            }
            Event::RouteValidated { route } => drop(self.step(*route, RouteState::Validated, envelope)?),
            Event::RouteActivated { route } => drop(self.step(*route, RouteState::Active, envelope)?),
            Event::RouteUpdating { route, process, port, proxy_protocol } => {
                let row = self.step(*route, RouteState::Updating, envelope)?;
                row.process = process.clone();
                row.port = port.clone();
                row.proxy_protocol = *proxy_protocol;
            }
            Event::RouteRemoved { route } => {
                self.rows.remove(route).ok_or_else(|| missing(envelope, route))?;
            }
            _ => {}
        }
        Ok(())
    }

    fn rows(&self) -> Vec<u8> {
        canonical(self)
    }
}
