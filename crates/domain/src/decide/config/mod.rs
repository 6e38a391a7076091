//! Configuration: namespaces, writes, changes and their reviews.
//!
//! Who may read and write at all is judged at the rim; who may approve and publish is judged here,
//! when it is decided, by the settings that hold in the namespace then.

mod change;
mod namespace;
mod release;
mod review;
mod schema;

pub use review::approvals;
pub(crate) use schema::broken_by;

use super::{Decision, asker, done, missing};
use crate::{
    command::Context,
    config::{ConfigCommand, ConfigEvent, Who},
    event::{Actor, Event},
    rejection::Rejection,
    state::{Change, Namespace, State},
};
use std::sync::Arc;
use types::{ChangeId, NamespaceId, limits};

/// Decides a command about configuration.
pub(super) fn decide(
    state: &State,
    command: &ConfigCommand,
    context: &Context,
) -> Result<Decision, Rejection> {
    match command {
        ConfigCommand::CreateNamespace { org, path, inherits, description, settings } => {
            namespace::create(state, *org, path, *inherits, (description, settings), context)
        }
        ConfigCommand::SetNamespace { namespace, inherits, description, settings } => {
            namespace::set(state, *namespace, *inherits, (description.as_ref(), settings.as_ref()))
        }
        ConfigCommand::DeleteNamespace { namespace, shown, confirmed } => {
            namespace::delete(state, *namespace, shown, confirmed.as_ref())
        }
        ConfigCommand::SetSchema { namespace, schema, forced } => {
            schema::set(state, *namespace, schema.as_ref(), forced.as_ref())
        }
        ConfigCommand::Write { namespace, edits, note } => {
            release::write(state, *namespace, edits, note, context)
        }
        ConfigCommand::Draft { namespace, title, edits } => {
            change::draft(state, *namespace, title, edits, context)
        }
        ConfigCommand::Change { change, step } => change::step(state, *change, step, context),
    }
}

/// Who asks, as reviews tell people apart.
fn who(state: &State, actor: Actor) -> Who {
    match (actor, actor_person(state, actor)) {
        (_, Some(person)) => Who::Person(person),
        (Actor::Token(token), None) => Who::Token(token),
        (Actor::Person(_) | Actor::System | Actor::Node(_), None) => Who::Platform,
    }
}

fn actor_person(state: &State, actor: Actor) -> Option<types::PersonId> {
    asker(state, actor)?;
    match actor {
        Actor::Person(id) => Some(id),
        Actor::Token(id) => match state.tokens.get(&id)?.holder {
            Some(crate::state::Holder::Person(id)) => Some(id),
            _ => None,
        },
        Actor::System | Actor::Node(_) => None,
    }
}

fn there(state: &State, id: NamespaceId) -> Result<&Arc<Namespace>, Rejection> {
    state.config.namespaces.get(&id).ok_or_else(|| missing(format!("namespace {id}")))
}

fn open(state: &State, id: ChangeId) -> Result<&Arc<Change>, Rejection> {
    state.config.changes.get(&id).ok_or_else(|| missing(format!("an open change {id}")))
}

fn event(event: ConfigEvent) -> Event {
    Event::Config(event)
}

fn one(happened: ConfigEvent, summary: impl Into<String>) -> Decision {
    done(vec![event(happened)], summary)
}

/// A text that people write, within its bound.
fn said(what: &str, text: &str, limit: usize) -> Result<(), Rejection> {
    at_most(format!("bytes of {what}"), text.len() as u64, limit as u64)
}

/// Words of a review: they are no use if there are none.
fn reasoned(what: &str, text: &str) -> Result<(), Rejection> {
    if text.trim().is_empty() {
        return Err(Rejection::Invalid { what: what.to_owned(), why: "says nothing" });
    }
    said(what, text, limits::CONFIG_COMMENT)
}

fn at_most(what: impl Into<String>, count: u64, limit: u64) -> Result<(), Rejection> {
    match count > limit {
        true => Err(Rejection::TooMany { what: what.into(), limit }),
        false => Ok(()),
    }
}
