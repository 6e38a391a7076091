//! Configuration as decisions see it: what holds now, what is proposed, and who asks for what.
//!
//! Older versions are not here: the log has them, and a view knows where. Invariants, decided before
//! an event is written:
//! - the versions of a key are 1, 2, 3, …, a deletion is one too, and none is ever used twice; so are
//!   the releases of a namespace.
//! - inheritance has no circle and is bounded: `parent` leads to a namespace without one in less than
//!   [`limits::CONFIG_CHAIN`] steps.

mod change;
mod reading;

pub use change::{Approval, Change, Proposed, Schedule};
pub use reading::Layer;

use crate::{
    config::{Based, ConfigEvent, Put, Reviewers, Schema, Settings, Stage, Value, Who},
    event::{Envelope, Role},
};
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, sync::Arc};
use types::{ChangeId, ConfigKey, EventId, NamespaceId, NamespacePath, OrgId, Timestamp, limits};

/// What a namespace says of a key now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Held {
    /// It has this value.
    Value(Arc<Value>),
    /// It has none, and hides what would be inherited.
    Deleted,
    /// It says nothing any more.
    Inherited,
}

/// A key of a namespace, and what became of it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// How often it was published: 1, 2, 3, …
    pub version: u32,
    /// The release of the namespace that last touched it.
    pub release: u32,
    /// The event that published that.
    pub event: EventId,
    /// What it is.
    pub held: Held,
}

impl Entry {
    /// Its value, if it has one.
    pub const fn value(&self) -> Option<&Arc<Value>> {
        match &self.held {
            Held::Value(value) => Some(value),
            Held::Deleted | Held::Inherited => None,
        }
    }
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Namespace {
    /// Whose it is.
    pub org: OrgId,
    /// Where it is.
    pub path: NamespacePath,
    /// The one it inherits from.
    pub parent: Option<NamespaceId>,
    /// What it is for.
    pub description: Arc<str>,
    /// What it says about itself.
    pub settings: Arc<Settings>,
    /// Its own schema, with the event that set it.
    pub schema: Option<(Schema, EventId)>,
    /// Every key that it ever had.
    pub entries: OrdMap<ConfigKey, Entry>,
    /// How many of them have a value.
    pub values: u32,
    /// Bytes of those values.
    pub bytes: u64,
    /// The number of its newest release.
    pub release: u32,
    /// The event that made it.
    pub released: EventId,
    /// The event that last changed the namespace itself: its settings, parent or schema.
    pub changed: EventId,
    /// Events so far.
    pub sequence: u64,
}

/// The settings that hold in a namespace, its own and inherited ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whether values may be written directly.
    pub direct: bool,
    /// How many approvals a change needs.
    pub approvals: u8,
    /// Whether only members approve, and never what they wrote.
    pub four_eyes: bool,
    /// Who approves and publishes.
    pub reviewers: Reviewers,
    /// At most so many values.
    pub entries: u32,
    /// At most so many bytes of values.
    pub bytes: u64,
}

/// What an org uses of what it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Namespaces.
    pub namespaces: u32,
    /// Bytes of values, and of values that are proposed.
    pub bytes: u64,
}

/// All configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// All namespaces.
    pub namespaces: OrdMap<NamespaceId, Arc<Namespace>>,
    /// Where each is.
    pub paths: OrdMap<(OrgId, NamespacePath), NamespaceId>,
    /// Each with those that inherit from it.
    pub heirs: OrdSet<(NamespaceId, NamespaceId)>,
    /// Whose each namespace is or was.
    pub owners: OrdMap<NamespaceId, OrgId>,
    /// What each org uses.
    pub usage: OrdMap<OrgId, Usage>,
    /// Changes that are neither published nor withdrawn.
    pub changes: OrdMap<ChangeId, Arc<Change>>,
    /// The same by namespace.
    pub open: OrdSet<(NamespaceId, ChangeId)>,
    /// The same by the keys they touch.
    pub touched: OrdSet<(NamespaceId, ConfigKey, ChangeId)>,
    /// Changes that are scheduled, the first due first.
    pub due: OrdSet<(Timestamp, ChangeId)>,
}

impl Config {
    /// A namespace by its path.
    pub fn at(&self, org: OrgId, path: &NamespacePath) -> Option<(NamespaceId, &Arc<Namespace>)> {
        let id = *self.paths.get(&(org, path.clone()))?;
        Some((id, self.namespaces.get(&id)?))
    }

    /// A namespace and those it inherits from, the nearest first.
    pub fn chain(&self, id: NamespaceId) -> impl Iterator<Item = (NamespaceId, &Arc<Namespace>)> {
        let found = |id: NamespaceId| self.namespaces.get(&id).map(|namespace| (id, namespace));
        std::iter::successors(found(id), move |(_, namespace)| namespace.parent.and_then(found))
            .take(limits::CONFIG_CHAIN)
    }

    /// The settings that hold in a namespace: each from the nearest that says it.
    pub fn policy(&self, id: NamespaceId) -> Policy {
        fn nearest<'c, T>(
            chain: impl Iterator<Item = &'c Arc<Namespace>>,
            said: impl Fn(&'c Settings) -> Option<T>,
        ) -> Option<T> {
            chain.into_iter().find_map(|namespace| said(&namespace.settings))
        }
        let chain = || self.chain(id).map(|(_, namespace)| namespace);
        let reviewers = nearest(chain(), |own| own.reviewers.as_ref()).cloned();
        Policy {
            direct: nearest(chain(), |own| own.direct).unwrap_or(true),
            approvals: nearest(chain(), |own| own.approvals).unwrap_or(0),
            four_eyes: nearest(chain(), |own| own.four_eyes).unwrap_or(false),
            reviewers: reviewers.unwrap_or_else(Reviewers::by_role),
            entries: nearest(chain(), |own| own.entries).unwrap_or(limits::CONFIG_ENTRIES),
            bytes: nearest(chain(), |own| own.bytes).unwrap_or(limits::CONFIG_BYTES).bytes(),
        }
    }

    /// The schema that holds in a namespace, and whose it is.
    pub fn schema(&self, id: NamespaceId) -> Option<(NamespaceId, &Schema)> {
        self.chain(id).find_map(|(id, namespace)| Some((id, &namespace.schema.as_ref()?.0)))
    }

    /// The value that holds for a key in a namespace, and where it comes from.
    pub fn effective(&self, id: NamespaceId, key: &ConfigKey) -> Option<(NamespaceId, &Entry)> {
        for (id, namespace) in self.chain(id) {
            match namespace.entries.get(key).map(|entry| (entry, &entry.held)) {
                Some((entry, Held::Value(_))) => return Some((id, entry)),
                Some((_, Held::Deleted)) => return None,
                Some((_, Held::Inherited)) | None => {}
            }
        }
        None
    }

    /// The changes of a namespace that are neither published nor withdrawn, oldest first.
    pub fn open_of(&self, id: NamespaceId) -> impl Iterator<Item = (ChangeId, &Arc<Change>)> {
        let range = (id, ChangeId::from_u128(0))..=(id, ChangeId::from_u128(u128::MAX));
        self.open.range(range).filter_map(|(_, change)| Some((*change, self.changes.get(change)?)))
    }

    /// The namespaces that inherit from one directly.
    pub fn heirs_of(&self, id: NamespaceId) -> impl Iterator<Item = NamespaceId> {
        let range = (id, NamespaceId::from_u128(0))..=(id, NamespaceId::from_u128(u128::MAX));
        self.heirs.range(range).map(|(_, heir)| *heir)
    }

    /// The changes of a namespace that touch a key.
    pub fn touching(&self, id: NamespaceId, key: &ConfigKey) -> impl Iterator<Item = ChangeId> {
        let ends = [ChangeId::from_u128(0), ChangeId::from_u128(u128::MAX)];
        let [from, to] = ends.map(|change| (id, key.clone(), change));
        self.touched.range(from..=to).map(|(_, _, change)| *change)
    }

    /// Folds one event in.
    pub(super) fn apply(&mut self, event: &ConfigEvent, envelope: &Envelope) {
        match event {
            ConfigEvent::NamespaceCreated { .. }
            | ConfigEvent::NamespaceSet { .. }
            | ConfigEvent::SchemaSet { .. }
            | ConfigEvent::NamespaceDeleted { .. } => self.apply_namespace(event, envelope),
            ConfigEvent::Written { namespace, release, edits, .. } => {
                if let Some(found) = self.namespaces.get_mut(namespace) {
                    Arc::make_mut(found).sequence = envelope.sequence;
                }
                self.publish(*namespace, *release, edits.iter(), envelope);
            }
            ConfigEvent::Drafted { change, namespace, by, title, edits } => {
                self.apply_drafted(*change, *namespace, *by, title, edits, envelope);
            }
            ConfigEvent::Published { change, namespace, release, .. } => {
                if let Some(closed) = self.close(*change) {
                    let edits = closed.edits.values().map(|proposed| &proposed.edit);
                    self.publish(*namespace, *release, edits, envelope);
                }
            }
            ConfigEvent::Withdrawn { change, .. } => drop(self.close(*change)),
            _ => self.apply_step(event, envelope),
        }
    }

    fn apply_namespace(&mut self, event: &ConfigEvent, envelope: &Envelope) {
        match event {
            ConfigEvent::NamespaceCreated { namespace, org, path, parent, description, settings } => {
                let made = Namespace {
                    org: *org,
                    path: path.clone(),
                    parent: *parent,
                    description: description.clone(),
                    settings: settings.clone(),
                    schema: None,
                    entries: OrdMap::new(),
                    values: 0,
                    bytes: 0,
                    release: 0,
                    released: envelope.id,
                    changed: envelope.id,
                    sequence: envelope.sequence,
                };
                self.namespaces.insert(*namespace, Arc::new(made));
                self.paths.insert((*org, path.clone()), *namespace);
                self.owners.insert(*namespace, *org);
                self.heirs.extend(parent.map(|parent| (parent, *namespace)));
                self.usage.entry(*org).or_default().namespaces += 1;
            }
            ConfigEvent::NamespaceSet { namespace, parent, description, settings } => {
                let Some(found) = self.namespaces.get_mut(namespace).map(Arc::make_mut) else { return };
                (found.changed, found.sequence) = (envelope.id, envelope.sequence);
                found.description = description.clone();
                found.settings = settings.clone();
                let before = std::mem::replace(&mut found.parent, *parent);
                before.map(|before| self.heirs.remove(&(before, *namespace)));
                self.heirs.extend(parent.map(|parent| (parent, *namespace)));
            }
            ConfigEvent::SchemaSet { namespace, schema, .. } => {
                let Some(found) = self.namespaces.get_mut(namespace).map(Arc::make_mut) else { return };
                (found.changed, found.sequence) = (envelope.id, envelope.sequence);
                found.schema = schema.clone().map(|text| (Schema::stored(text), envelope.id));
            }
            ConfigEvent::NamespaceDeleted { namespace, .. } => self.forget(*namespace),
            _ => {}
        }
    }

    fn forget(&mut self, id: NamespaceId) {
        let open: Vec<ChangeId> = self.open_of(id).map(|(change, _)| change).collect();
        open.into_iter().for_each(|change| drop(self.close(change)));
        let Some(gone) = self.namespaces.remove(&id) else { return };
        self.paths.remove(&(gone.org, gone.path.clone()));
        gone.parent.map(|parent| self.heirs.remove(&(parent, id)));
        let usage = self.usage.entry(gone.org).or_default();
        usage.namespaces -= 1;
        usage.bytes -= gone.bytes;
    }

    fn publish<'e>(
        &mut self,
        id: NamespaceId,
        release: u32,
        edits: impl Iterator<Item = &'e Based>,
        envelope: &Envelope,
    ) {
        let Some(namespace) = self.namespaces.get_mut(&id).map(Arc::make_mut) else { return };
        let before = namespace.bytes;
        (namespace.release, namespace.released) = (release, envelope.id);
        for Based { key, base, put } in edits {
            let held = match put {
                Put::Set(value) => Held::Value(value.clone()),
                Put::Delete => Held::Deleted,
                Put::Inherit => Held::Inherited,
            };
            if let Held::Value(value) = &held {
                namespace.values += 1;
                namespace.bytes += value.size();
            }
            let entry = Entry { version: base + 1, release, event: envelope.id, held };
            if let Some(Entry { held: Held::Value(old), .. }) = namespace.entries.insert(key.clone(), entry) {
                namespace.values -= 1;
                namespace.bytes -= old.size();
            }
        }
        let (org, after) = (namespace.org, namespace.bytes);
        let usage = self.usage.entry(org).or_default();
        usage.bytes = (usage.bytes + after) - before;
    }

    fn apply_drafted(
        &mut self,
        id: ChangeId,
        namespace: NamespaceId,
        by: Who,
        title: &Arc<str>,
        edits: &[Based],
        envelope: &Envelope,
    ) {
        let mut change = Change {
            namespace,
            title: title.clone(),
            author: by,
            writers: Arc::new(BTreeSet::from([by])),
            stage: Stage::Draft,
            revision: 0,
            hash: [0; 32],
            edits: OrdMap::new(),
            bytes: 0,
            approvals: Vec::new(),
            schedule: None,
            suspended: None,
            moved: None,
            comments: 0,
            steps: 0,
            drafted: envelope.id,
            changed: envelope.id,
            sequence: envelope.sequence,
        };
        change.take(edits, envelope.id);
        self.changes.insert(id, Arc::new(change));
        self.open.insert((namespace, id));
        self.index(id);
    }

    /// Whatever happens to a change that stays.
    fn apply_step(&mut self, event: &ConfigEvent, envelope: &Envelope) {
        let Some(id) = event.change().filter(|id| self.changes.contains_key(id)) else { return };
        self.unindex(id);
        if let Some(change) = self.changes.get_mut(&id).map(Arc::make_mut) {
            (change.changed, change.sequence) = (envelope.id, envelope.sequence);
            change.step(event, envelope);
        }
        self.index(id);
    }

    /// Takes a change out.
    fn close(&mut self, id: ChangeId) -> Option<Arc<Change>> {
        self.unindex(id);
        let change = self.changes.remove(&id)?;
        self.open.remove(&(change.namespace, id));
        Some(change)
    }

    fn index(&mut self, id: ChangeId) {
        let Some(change) = self.changes.get(&id) else { return };
        self.touched.extend(change.edits.keys().map(|key| (change.namespace, key.clone(), id)));
        self.due.extend(change.schedule.map(|schedule| (schedule.at, id)));
        if let Some(org) = self.owners.get(&change.namespace) {
            self.usage.entry(*org).or_default().bytes += change.bytes;
        }
    }

    fn unindex(&mut self, id: ChangeId) {
        let Some(change) = self.changes.get(&id) else { return };
        for key in change.edits.keys() {
            self.touched.remove(&(change.namespace, key.clone(), id));
        }
        change.schedule.map(|schedule| self.due.remove(&(schedule.at, id)));
        if let Some(org) = self.owners.get(&change.namespace) {
            self.usage.entry(*org).or_default().bytes -= change.bytes;
        }
    }
}

impl Change {
    fn step(&mut self, event: &ConfigEvent, envelope: &Envelope) {
        match event {
            ConfigEvent::Edited { by, title, edits, dropped, rebased, .. } => {
                self.go(Stage::Draft);
                self.steps += 1;
                (self.moved, self.suspended) = (None, None);
                Arc::make_mut(&mut self.writers).insert(*by);
                self.title = title.clone().unwrap_or_else(|| self.title.clone());
                dropped.iter().for_each(|key| self.drop_key(key));
                self.take(edits, envelope.id);
                for (key, base) in rebased {
                    if let Some(proposed) = self.edits.get_mut(key) {
                        proposed.edit.base = *base;
                    }
                }
            }
            ConfigEvent::Submitted { revision, hash, stage, .. } => {
                self.go(*stage);
                self.approvals.clear();
                (self.revision, self.hash) = (*revision, *hash);
            }
            ConfigEvent::Approved { by, stage, .. } => {
                self.go(*stage);
                self.approvals.push(Approval { by: *by, event: envelope.id });
            }
            ConfigEvent::Rejected { .. } => self.go(Stage::Rejected),
            ConfigEvent::Reopened { release, .. } => {
                if self.schedule.is_some() {
                    self.suspended = Some(format!("release {release} moved what it was based on").into());
                }
                self.go(Stage::Draft);
                self.moved = Some(*release);
            }
            ConfigEvent::Commented { .. } => self.comments += 1,
            ConfigEvent::Scheduled { at, by, .. } => {
                self.schedule = at.map(|at| Schedule { at, by: *by });
                self.suspended = None;
            }
            ConfigEvent::Suspended { why, .. } => {
                self.schedule = None;
                self.suspended = Some(why.clone());
            }
            _ => {}
        }
    }
}

impl Reviewers {
    /// Who reviews where nothing is said about it.
    pub fn by_role() -> Self {
        Self { roles: BTreeSet::from([Role::Owner, Role::Admin, Role::Operator]), people: BTreeSet::new() }
    }
}
