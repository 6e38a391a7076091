//! Configuration: namespaces, values, schemas, and changes from their draft to their release.

mod properties;
mod reviews;
mod values;

use crate::world::{World, name};
use holdfast_domain::{
    Actor, Command, Confirmation, Confirmed, Event, Rejection, Role, Settled,
    config::{ChangeStep, ConfigCommand, ConfigEvent, ConfigRefusal, Edit, Inherits, Put, Settings, Value},
    state::Change,
};
use std::sync::Arc;
use types::{ChangeId, ConfigKey, NamespaceId, PersonId, ValueKind};

pub fn key(text: &str) -> ConfigKey {
    text.parse().expect("a key")
}

pub fn value(kind: ValueKind, text: &str) -> Put {
    Put::Set(Arc::new(Value::new(kind, text.as_bytes(), "", &[]).expect("a value")))
}

pub fn set(at: &str, text: &str) -> Edit {
    Edit { key: key(at), put: value(ValueKind::String, text), expect: None }
}

pub fn confirmed(reason: &str) -> Confirmed {
    Confirmed {
        actor: Actor::System,
        kind: Confirmation::Person,
        acknowledged: Vec::new(),
        reason: reason.into(),
        at: types::Timestamp::from_ms(1),
    }
}

/// A world with people who write and review.
pub struct Desk {
    pub world: World,
    pub ann: PersonId,
    pub bob: PersonId,
    pub cid: PersonId,
}

impl Desk {
    /// Ann and Bob are operators, Cid is a developer.
    pub fn new() -> Self {
        let mut world = World::new();
        let mut add = |called: &str, role| {
            let command = Command::AddPerson { org: world.org, name: name(called), role, hash: "h".into() };
            match world.ok(command)[0] {
                Event::PersonAdded { person, .. } => person,
                ref other => panic!("{other:?}"),
            }
        };
        let [ann, bob, cid] = [("ann", Role::Operator), ("bob", Role::Operator), ("cid", Role::Developer)]
            .map(|(n, r)| add(n, r));
        Self { world, ann, bob, cid }
    }

    pub fn says(&mut self, by: PersonId, command: ConfigCommand) -> Result<Vec<Event>, Rejection> {
        match self.world.submit_as(Actor::Person(by), &Command::Config(command), None, None) {
            Settled::Now { events, outcome } => outcome.map(|_| events),
            Settled::Unacceptable(rejection) => Err(rejection),
            Settled::Before(_) => unreachable!("no request was given"),
        }
    }

    pub fn namespace(&mut self, path: &str, settings: Settings) -> NamespaceId {
        self.namespace_from(path, Inherits::Front, settings).expect("a namespace")
    }

    pub fn namespace_from(
        &mut self,
        path: &str,
        inherits: Inherits,
        settings: Settings,
    ) -> Result<NamespaceId, Rejection> {
        let command = ConfigCommand::CreateNamespace {
            org: self.world.org,
            path: path.parse().expect("a path"),
            inherits,
            description: "".into(),
            settings: Arc::new(settings),
        };
        let by = self.ann;
        self.says(by, command).map(|events| match &events[0] {
            Event::Config(ConfigEvent::NamespaceCreated { namespace, .. }) => *namespace,
            other => panic!("{other:?}"),
        })
    }

    pub fn write(&mut self, namespace: NamespaceId, edits: &[Edit]) -> Result<Vec<Event>, Rejection> {
        let by = self.cid;
        self.says(by, ConfigCommand::Write { namespace, edits: edits.to_vec(), note: "".into() })
    }

    pub fn draft(&mut self, by: PersonId, namespace: NamespaceId, edits: &[Edit]) -> ChangeId {
        let drafted = ConfigCommand::Draft { namespace, title: "a change".into(), edits: edits.to_vec() };
        match &self.says(by, drafted).expect("a draft")[0] {
            Event::Config(ConfigEvent::Drafted { change, .. }) => *change,
            other => panic!("{other:?}"),
        }
    }

    pub fn step(
        &mut self,
        by: PersonId,
        change: ChangeId,
        step: ChangeStep,
    ) -> Result<Vec<Event>, Rejection> {
        self.says(by, ConfigCommand::Change { change, step })
    }

    pub fn change(&self, id: ChangeId) -> &Change {
        &self.world.state.config.changes[&id]
    }

    /// Approves what is there.
    pub fn approve(&mut self, by: PersonId, change: ChangeId) -> Result<Vec<Event>, Rejection> {
        let (revision, hash) = (self.change(change).revision, self.change(change).hash);
        self.step(by, change, ChangeStep::Approve { revision, hash })
    }

    /// The text of the value that holds.
    pub fn read(&self, namespace: NamespaceId, at: &str) -> Option<String> {
        let (_, entry) = self.world.state.config.effective(namespace, &key(at))?;
        let bytes = entry.value()?.bytes.as_bytes();
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    pub fn version(&self, namespace: NamespaceId, at: &str) -> u32 {
        self.world.state.config.namespaces[&namespace].entries.get(&key(at)).map_or(0, |entry| entry.version)
    }
}

/// The refusal inside, if it is one about configuration.
pub fn refusal<T: std::fmt::Debug>(answer: Result<T, Rejection>) -> ConfigRefusal {
    match answer {
        Err(Rejection::Config(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

pub fn reviewed() -> Settings {
    Settings { direct: Some(false), approvals: Some(1), four_eyes: Some(true), ..Settings::default() }
}
