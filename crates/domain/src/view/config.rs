//! The history of configuration: every version of every key, every release, every change.
//!
//! No value is here: a version says which event of the log holds it.

use super::{Fault, Mark, View, canonical, missing};
use crate::{
    config::{Based, ConfigEvent, Put, Stage, Who},
    event::{Envelope, Event},
};
use imbl::{OrdMap, OrdSet, Vector};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use types::{ChangeId, ConfigKey, EventId, NamespaceId, NamespacePath, OrgId, Timestamp, ValueKind};

/// What a key became.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Became {
    /// It got a value.
    Set {
        /// Of what kind.
        kind: ValueKind,
        /// Its bytes.
        bytes: u32,
        /// SHA-256 of them.
        hash: [u8; 32],
    },
    /// It has no value, and none is inherited.
    Deleted,
    /// What is inherited shows again.
    Inherited,
}

impl Became {
    fn of(put: &Put) -> Self {
        match put {
            Put::Set(value) => {
                let bytes = value.bytes.as_bytes();
                let hash = Sha256::digest(bytes).into();
                Self::Set { kind: value.kind, bytes: bytes.len() as u32, hash }
            }
            Put::Delete => Self::Deleted,
            Put::Inherit => Self::Inherited,
        }
    }
}

/// One version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionRow {
    /// 1, 2, 3, …
    pub version: u32,
    /// The release of the namespace that it came with.
    pub release: u32,
    /// What it became.
    pub became: Became,
    /// The event that holds its value.
    pub held: EventId,
    /// When it was published, and by which event.
    pub published: Mark,
    /// Who wrote it, or published the change that did.
    pub by: Who,
}

/// A release of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    /// 1, 2, 3, …
    pub release: u32,
    /// When, and by which event.
    pub published: Mark,
    /// Who wrote or published it.
    pub by: Who,
    /// The change that it is; none for a direct write.
    pub change: Option<ChangeId>,
    /// What its writer says of it.
    pub note: Arc<str>,
    /// How many keys it touched.
    pub keys: u32,
    /// Why nobody's approval was asked, where that was so.
    pub break_glass: Option<Arc<str>>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamespaceRow {
    /// Whose it is.
    pub org: OrgId,
    /// Where it is, or was.
    pub path: NamespacePath,
    /// Every version of every key, the oldest first.
    pub keys: OrdMap<ConfigKey, Vector<VersionRow>>,
    /// Every release, the oldest first.
    pub releases: Vector<Publication>,
    /// When it was made.
    pub created: Mark,
    /// When it was deleted.
    pub deleted: Option<Mark>,
}

impl NamespaceRow {
    /// The version of a key that held when a release was the newest.
    pub fn version_at(&self, key: &ConfigKey, release: u32) -> Option<&VersionRow> {
        let versions = self.keys.get(key)?;
        let after = versions.binary_search_by(|row| match row.release <= release {
            true => std::cmp::Ordering::Less,
            false => std::cmp::Ordering::Greater,
        });
        let (Ok(after) | Err(after)) = after;
        versions.get(after.checked_sub(1)?)
    }

    /// The release that was the newest at an event; zero before the first.
    pub fn release_at(&self, event: EventId) -> u32 {
        let after = self.releases.binary_search_by(|row| match row.published.event <= event {
            true => std::cmp::Ordering::Less,
            false => std::cmp::Ordering::Greater,
        });
        let (Ok(after) | Err(after)) = after;
        after as u32
    }
}

/// One edit of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposedRow {
    /// The version that it was made on.
    pub base: u32,
    /// What the key is to become.
    pub became: Became,
    /// The event that holds its value.
    pub held: EventId,
}

/// Something that happened to a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRow {
    /// The kind of the event, as `approved`.
    pub what: String,
    /// When, and by which event.
    pub mark: Mark,
    /// Who did it; none if it came about by itself.
    pub by: Option<Who>,
    /// A comment, a reason, a time.
    pub text: Arc<str>,
}

/// A change, open or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRow {
    /// Where its keys are.
    pub namespace: NamespaceId,
    /// What people call it.
    pub title: Arc<str>,
    /// Who drafted it.
    pub author: Who,
    /// Where it is in its life.
    pub stage: Stage,
    /// How often it was submitted.
    pub revision: u32,
    /// Its edits.
    pub edits: OrdMap<ConfigKey, ProposedRow>,
    /// The release that it is.
    pub release: Option<u32>,
    /// How it went, the oldest first.
    pub steps: Vector<StepRow>,
    /// When it was drafted.
    pub drafted: Mark,
    /// When something last happened to it.
    pub changed: Mark,
}

/// The view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Configs {
    /// Every namespace that there was.
    pub namespaces: OrdMap<NamespaceId, Arc<NamespaceRow>>,
    /// Every change that there was.
    pub changes: OrdMap<ChangeId, Arc<ChangeRow>>,
    /// The same by namespace.
    pub of_namespace: OrdSet<(NamespaceId, ChangeId)>,
}

impl Configs {
    /// What people call it.
    pub const NAME: &'static str = "config";

    /// The changes of a namespace, the newest first.
    pub fn changes_of(&self, id: NamespaceId) -> impl Iterator<Item = (ChangeId, &Arc<ChangeRow>)> {
        let range = (id, ChangeId::from_u128(0))..=(id, ChangeId::from_u128(u128::MAX));
        self.of_namespace.range(range).rev().filter_map(|(_, id)| Some((*id, self.changes.get(id)?)))
    }

    fn publish(
        &mut self,
        id: NamespaceId,
        edits: impl Iterator<Item = (ConfigKey, ProposedRow)>,
        mut row: Publication,
        envelope: &Envelope,
    ) -> Result<(), Fault> {
        let found = self.namespaces.get_mut(&id).ok_or_else(|| missing(envelope, id))?;
        let found = Arc::make_mut(found);
        for (key, ProposedRow { base, became, held }) in edits {
            let (release, published, by) = (row.release, row.published, row.by);
            let version = VersionRow { version: base + 1, release, became, held, published, by };
            found.keys.entry(key).or_default().push_back(version);
            row.keys += 1;
        }
        found.releases.push_back(row);
        Ok(())
    }

    fn apply_published(&mut self, event: &ConfigEvent, envelope: &Envelope) -> Result<(), Fault> {
        let ConfigEvent::Published { change, namespace, by, release, break_glass } = event else {
            return Ok(());
        };
        if !self.namespaces.contains_key(namespace) {
            return Err(missing(envelope, namespace));
        }
        let row = self.step(*change, envelope, Some(*by), "")?;
        (row.stage, row.release) = (Stage::Published, Some(*release));
        let (edits, note) = (row.edits.clone(), row.title.clone());
        let publication = Publication {
            release: *release,
            published: Mark::of(envelope),
            by: *by,
            change: Some(*change),
            note,
            keys: 0,
            break_glass: break_glass.as_ref().map(|confirmed| confirmed.reason.as_str().into()),
        };
        self.publish(*namespace, edits.into_iter(), publication, envelope)
    }

    /// A change, with one more step.
    fn step(
        &mut self,
        id: ChangeId,
        envelope: &Envelope,
        by: Option<Who>,
        text: &str,
    ) -> Result<&mut ChangeRow, Fault> {
        let row = Arc::make_mut(self.changes.get_mut(&id).ok_or_else(|| missing(envelope, id))?);
        let what = envelope.event.kind().trim_start_matches("change.").to_owned();
        row.steps.push_back(StepRow { what, mark: Mark::of(envelope), by, text: text.into() });
        row.changed = Mark::of(envelope);
        Ok(row)
    }

    fn apply_namespace(&mut self, event: &ConfigEvent, envelope: &Envelope) -> Result<(), Fault> {
        match event {
            ConfigEvent::NamespaceCreated { namespace, org, path, .. } => {
                let made = NamespaceRow {
                    org: *org,
                    path: path.clone(),
                    keys: OrdMap::new(),
                    releases: Vector::new(),
                    created: Mark::of(envelope),
                    deleted: None,
                };
                self.namespaces.insert(*namespace, Arc::new(made));
            }
            ConfigEvent::NamespaceDeleted { namespace, .. } => {
                let found = self.namespaces.get_mut(namespace);
                let found = found.ok_or_else(|| missing(envelope, namespace))?;
                Arc::make_mut(found).deleted = Some(Mark::of(envelope));
                let is_open = |row: &ChangeRow| !matches!(row.stage, Stage::Published | Stage::Withdrawn);
                let open = self.changes_of(*namespace).filter(|(_, row)| is_open(row));
                for id in open.map(|(id, _)| id).collect::<Vec<_>>() {
                    let row = self.step(id, envelope, None, "the namespace was deleted")?;
                    row.stage = Stage::Withdrawn;
                }
            }
            ConfigEvent::Written { namespace, by, release, edits, note } => {
                let publication = Publication {
                    release: *release,
                    published: Mark::of(envelope),
                    by: *by,
                    change: None,
                    note: note.clone(),
                    keys: 0,
                    break_glass: None,
                };
                let edits = edits.iter().map(|edit| (edit.key.clone(), proposed(edit, envelope)));
                self.publish(*namespace, edits, publication, envelope)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn apply_change(&mut self, event: &ConfigEvent, envelope: &Envelope) -> Result<(), Fault> {
        match event {
            ConfigEvent::Drafted { change, namespace, by, title, edits } => {
                let made = ChangeRow {
                    namespace: *namespace,
                    title: title.clone(),
                    author: *by,
                    stage: Stage::Draft,
                    revision: 0,
                    edits: edits.iter().map(|edit| (edit.key.clone(), proposed(edit, envelope))).collect(),
                    release: None,
                    steps: Vector::new(),
                    drafted: Mark::of(envelope),
                    changed: Mark::of(envelope),
                };
                self.changes.insert(*change, Arc::new(made));
                self.of_namespace.insert((*namespace, *change));
                self.step(*change, envelope, Some(*by), "")?;
            }
            ConfigEvent::Edited { change, by, title, edits, dropped, rebased, .. } => {
                let row = self.step(*change, envelope, Some(*by), "")?;
                row.stage = Stage::Draft;
                row.title = title.clone().unwrap_or_else(|| row.title.clone());
                for key in dropped {
                    row.edits.remove(key);
                }
                for (key, base) in rebased {
                    if let Some(edit) = row.edits.get_mut(key) {
                        edit.base = *base;
                    }
                }
                row.edits.extend(edits.iter().map(|edit| (edit.key.clone(), proposed(edit, envelope))));
            }
            ConfigEvent::Submitted { change, by, revision, stage, .. } => {
                let row = self.step(*change, envelope, Some(*by), &format!("revision {revision}"))?;
                (row.stage, row.revision) = (*stage, *revision);
            }
            ConfigEvent::Approved { change, by, revision, stage, .. } => {
                let row = self.step(*change, envelope, Some(*by), &format!("revision {revision}"))?;
                row.stage = *stage;
            }
            ConfigEvent::Commented { change, by, text, .. } => {
                self.step(*change, envelope, Some(*by), text)?;
            }
            ConfigEvent::Rejected { change, by, reason, .. } => {
                self.step(*change, envelope, Some(*by), reason)?.stage = Stage::Rejected;
            }
            ConfigEvent::Withdrawn { change, by, reason, .. } => {
                self.step(*change, envelope, Some(*by), reason)?.stage = Stage::Withdrawn;
            }
            ConfigEvent::Reopened { change, release, keys, .. } => {
                let keys: Vec<&str> = keys.iter().map(ConfigKey::as_str).collect();
                let text = format!("release {release} moved {}: approvals are void", keys.join(", "));
                self.step(*change, envelope, None, &text)?.stage = Stage::Draft;
            }
            ConfigEvent::Scheduled { change, by, at, .. } => {
                let text = at.map_or("not any more".to_owned(), |at: Timestamp| at.to_string());
                self.step(*change, envelope, Some(*by), &text)?;
            }
            ConfigEvent::Suspended { change, why, .. } => drop(self.step(*change, envelope, None, why)?),
            _ => {}
        }
        Ok(())
    }
}

fn proposed(edit: &Based, envelope: &Envelope) -> ProposedRow {
    ProposedRow { base: edit.base, became: Became::of(&edit.put), held: envelope.id }
}

impl View for Configs {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn apply(&mut self, envelope: &Envelope) -> Result<(), Fault> {
        let Event::Config(event) = &envelope.event else { return Ok(()) };
        match event {
            ConfigEvent::Published { .. } => self.apply_published(event, envelope),
            event if event.change().is_some() => self.apply_change(event, envelope),
            event => self.apply_namespace(event, envelope),
        }
    }

    fn rows(&self) -> Vec<u8> {
        canonical(self)
    }
}
