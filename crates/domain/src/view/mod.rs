//! Read views: what people look at, apart from the state that decisions are made against.
//!
//! Each view is a fold over all events with a checkpoint and a fingerprint of its own
//! (`views_are_folds`: rebuilt from the first event it has the fingerprint of the live one). A view
//! that cannot go on is quarantined: it stays at its checkpoint with the reason, and the others go
//! on without it. Rows are of this module, not of the state: a view may keep what decisions have
//! forgotten, and its shape may change without touching them.
//!
//! The maps are persistent trees of shared rows, so a clone for a reader costs next to nothing.

mod apps;
mod config;
mod instances;
mod nodes;
mod routes;

pub use apps::{AppRow, Apps, DeployRow, DeployStep, EnvRow, ReleaseRow};
pub use config::{Became, ChangeRow, Configs, NamespaceRow, ProposedRow, Publication, StepRow, VersionRow};
pub use instances::{InstanceRow, Instances};
pub use nodes::{NodeRow, Nodes};
pub use routes::{RouteRow, Routes};

use crate::event::Envelope;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use types::EventId;

/// The names of all views, in the order they are fed.
pub const NAMES: [&str; 5] = [Apps::NAME, Instances::NAME, Nodes::NAME, Routes::NAME, Configs::NAME];

/// Why a view cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The event is not the next one.
    #[error("stands at event {checkpoint} and was given event {given}")]
    Gap {
        /// The last event folded in.
        checkpoint: EventId,
        /// The event that came.
        given: EventId,
    },
    /// The event is about something that should be there and is not.
    #[error("event {event} is about {what}, which is not in the view")]
    Missing {
        /// Which event.
        event: EventId,
        /// What is not there.
        what: String,
    },
}

/// A fold over all events.
pub trait View: Send {
    /// What people call it.
    fn name(&self) -> &'static str;

    /// Folds one event in. The view is unchanged when it returns a fault.
    ///
    /// # Errors
    /// The event does not fit what was folded before.
    fn apply(&mut self, envelope: &Envelope) -> Result<(), Fault>;

    /// The rows in a canonical form: equal rows have equal bytes.
    fn rows(&self) -> Vec<u8>;
}

/// A view that was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// The event it could not fold.
    pub event: EventId,
    /// Why.
    pub fault: Fault,
}

/// A view with its checkpoint.
#[derive(Clone, Debug, Default)]
pub struct Held<V> {
    view: V,
    checkpoint: EventId,
    quarantine: Option<Quarantine>,
}

impl<V: View> Held<V> {
    /// A view that has seen nothing.
    pub fn new(view: V) -> Self {
        Self { view, checkpoint: EventId::ZERO, quarantine: None }
    }

    /// Folds one event in, or quarantines the view.
    pub fn apply(&mut self, envelope: &Envelope) {
        if self.quarantine.is_some() {
            return;
        }
        let checkpoint = self.checkpoint;
        let result = match envelope.id == checkpoint.next() {
            true => self.view.apply(envelope),
            false => Err(Fault::Gap { checkpoint, given: envelope.id }),
        };
        match result {
            Ok(()) => self.checkpoint = envelope.id,
            Err(fault) => self.quarantine = Some(Quarantine { event: envelope.id, fault }),
        }
    }

    /// The rows.
    pub const fn view(&self) -> &V {
        &self.view
    }

    /// The last event folded in.
    pub const fn checkpoint(&self) -> EventId {
        self.checkpoint
    }

    /// Why it stands still, if it does.
    pub const fn quarantine(&self) -> Option<&Quarantine> {
        self.quarantine.as_ref()
    }

    /// SHA-256 over the rows and the checkpoint.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.view.name().as_bytes());
        hash.update(self.checkpoint.get().to_be_bytes());
        hash.update(self.view.rows());
        hash.finalize().into()
    }
}

/// All views of a server.
#[derive(Clone, Debug, Default)]
pub struct Views {
    apps: Held<Apps>,
    instances: Held<Instances>,
    nodes: Held<Nodes>,
    routes: Held<Routes>,
    config: Held<Configs>,
}

/// Runs one expression on the view of a name, whatever its type.
macro_rules! named {
    ($views:expr, $name:expr, $held:ident => $what:expr) => {
        match $name {
            Apps::NAME => {
                let $held = &$views.apps;
                Some($what)
            }
            Instances::NAME => {
                let $held = &$views.instances;
                Some($what)
            }
            Nodes::NAME => {
                let $held = &$views.nodes;
                Some($what)
            }
            Routes::NAME => {
                let $held = &$views.routes;
                Some($what)
            }
            Configs::NAME => {
                let $held = &$views.config;
                Some($what)
            }
            _ => None,
        }
    };
}

impl Views {
    /// Views that have seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Feeds every view that is not quarantined.
    pub fn apply(&mut self, envelope: &Envelope) {
        self.apps.apply(envelope);
        self.instances.apply(envelope);
        self.nodes.apply(envelope);
        self.routes.apply(envelope);
        self.config.apply(envelope);
    }

    /// Apps, environments, releases and deploys.
    pub const fn apps(&self) -> &Apps {
        self.apps.view()
    }

    /// Instances.
    pub const fn instances(&self) -> &Instances {
        self.instances.view()
    }

    /// Nodes.
    pub const fn nodes(&self) -> &Nodes {
        self.nodes.view()
    }

    /// Routes.
    pub const fn routes(&self) -> &Routes {
        self.routes.view()
    }

    /// The history of configuration.
    pub const fn config(&self) -> &Configs {
        self.config.view()
    }

    /// The last event a view has folded in; `None` for a name nobody knows.
    pub fn checkpoint(&self, name: &str) -> Option<EventId> {
        named!(self, name, held => held.checkpoint())
    }

    /// SHA-256 over a view's rows and checkpoint; `None` for a name nobody knows.
    pub fn fingerprint(&self, name: &str) -> Option<[u8; 32]> {
        named!(self, name, held => held.fingerprint())
    }

    /// Why a view stands still, if it does.
    pub fn quarantined(&self, name: &str) -> Option<&Quarantine> {
        named!(self, name, held => held.quarantine())?
    }

    /// Puts the view of `name` from `fresh` in the place of the live one; false for an unknown name.
    pub fn replace(&mut self, name: &str, fresh: Self) -> bool {
        match name {
            Apps::NAME => self.apps = fresh.apps,
            Instances::NAME => self.instances = fresh.instances,
            Nodes::NAME => self.nodes = fresh.nodes,
            Routes::NAME => self.routes = fresh.routes,
            Configs::NAME => self.config = fresh.config,
            _ => return false,
        }
        true
    }

    /// Folds one view anew from `events`, all of them from the first, and swaps it in.
    /// False for an unknown name.
    pub fn rebuild<'e>(&mut self, name: &str, events: impl IntoIterator<Item = &'e Envelope>) -> bool {
        fn fold<'e, V: View + Default>(events: impl IntoIterator<Item = &'e Envelope>) -> Held<V> {
            let mut held = Held::new(V::default());
            events.into_iter().for_each(|envelope| held.apply(envelope));
            held
        }
        match name {
            Apps::NAME => self.apps = fold(events),
            Instances::NAME => self.instances = fold(events),
            Nodes::NAME => self.nodes = fold(events),
            Routes::NAME => self.routes = fold(events),
            Configs::NAME => self.config = fold(events),
            _ => return false,
        }
        true
    }
}

/// When something was last changed, and by which event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The event.
    pub event: EventId,
    /// When it was written.
    pub at: types::Timestamp,
}

impl Mark {
    const fn of(envelope: &Envelope) -> Self {
        Self { event: envelope.id, at: envelope.at }
    }
}

fn missing(envelope: &Envelope, what: impl std::fmt::Display) -> Fault {
    Fault::Missing { event: envelope.id, what: what.to_string() }
}

fn canonical(rows: &impl Serialize) -> Vec<u8> {
    postcard::to_allocvec(rows).expect("rows have no type that postcard refuses")
}
