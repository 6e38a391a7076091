//! What a backup is: the list of its objects, sealed, written when all of them are known to be good.

use crate::{
    key::{Key, KeyId, sha256},
    sealed::{self, Binding},
    store::{Found, ObjectError, Store},
};
use bytes::Bytes;
use log::Head;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};
use types::{EventId, Index, NodeId, Timestamp, limits};

/// The version of all objects of a backup. Raised when any layout changes.
pub(crate) const VERSION: u32 = 1;
pub(crate) const MANIFESTS: &str = "manifests";
pub(crate) const OBJECTS: &str = "objects";

/// Names a backup: how far it reaches, when it was made, and a random end. Later ones of one log are
/// greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    index: Index,
    event: EventId,
    time: Timestamp,
    dice: u32,
}

impl Id {
    pub(crate) fn new(head: &Head, time: Timestamp, dice: u32) -> Self {
        Self { index: head.index, event: head.event, time, dice }
    }

    /// The last event it has.
    pub fn event(&self) -> EventId {
        self.event
    }

    /// The last entry it has.
    pub fn index(&self) -> Index {
        self.index
    }

    /// When it was made, by the clock of whoever made it.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    pub(crate) fn object(&self) -> String {
        format!("{MANIFESTS}/{self}")
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, event, time, dice } = self;
        write!(f, "{:016}-{:016}-{:015}-{dice:08x}", index.get(), event.get(), time.as_ms())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is no name of a backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a backup; `cluster backup --list` shows them")]
pub struct IdError(String);

impl FromStr for Id {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let parse = || {
            let mut parts = text.split('-');
            let mut number = || parts.next()?.parse::<u64>().ok();
            let (index, event, time) = (number()?, number()?, number()?);
            let dice = u32::from_str_radix(parts.next()?, 16).ok()?;
            let (index, event) = (Index::new(index), EventId::new(event));
            let id = Self { index, event, time: Timestamp::from_ms(time), dice };
            (id.to_string() == text).then_some(id)
        };
        parse().ok_or_else(|| IdError(text.into()))
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// 32 bytes as hexadecimal text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hex(pub [u8; 32]);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let wrong = || serde::de::Error::custom("32 bytes in hexadecimal are wanted");
        let mut out = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        for (place, byte) in out.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(out))
    }
}

/// A head as the manifest has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Place {
    index: Index,
    event: EventId,
    term: types::Term,
    epoch: types::Epoch,
    chain: Hex,
}

impl From<Head> for Place {
    fn from(head: Head) -> Self {
        let Head { event, index, term, epoch, chain } = head;
        Self { index, event, term, epoch, chain: Hex(chain) }
    }
}

impl Place {
    pub(crate) fn head(&self) -> Head {
        let Self { index, event, term, epoch, chain } = *self;
        Head { event, index, term, epoch, chain: chain.0 }
    }
}

/// One object of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Object {
    name: Hex,
    /// Of the content, unsealed.
    sha256: Hex,
    /// The length of the content, unsealed.
    plain: u64,
    /// The length of the object.
    pub stored: u64,
}

/// Content on its way into the store.
pub(crate) struct Sealed {
    pub object: Object,
    pub bytes: Bytes,
}

impl Object {
    /// Seals content under the name that it gives itself.
    pub(crate) fn seal(key: &Key, cluster: &str, content: &[u8]) -> Sealed {
        let sha256 = sha256(content);
        let mut object = Self {
            name: Hex(key.name(&sha256)),
            sha256: Hex(sha256),
            plain: content.len() as u64,
            stored: 0,
        };
        let bytes = sealed::seal(key, Binding { cluster, name: &object.name() }, content);
        object.stored = bytes.len() as u64;
        Sealed { object, bytes }
    }

    pub(crate) fn name(&self) -> String {
        format!("{OBJECTS}/{}", self.name)
    }

    /// Reads it from the store and compares it with what is known of it.
    pub(crate) async fn fetch(&self, store: &Store, key: &Key, cluster: &str) -> Result<Bytes, ObjectError> {
        let name = self.name();
        let bytes = store.get(&name, limits::BACKUP_OBJECT).await?;
        if bytes.len() as u64 != self.stored {
            let why = format!("it has {} bytes where {} were written", bytes.len(), self.stored);
            return Err(store.damaged(&name, bytes.len() as u64, why));
        }
        let content = sealed::open(key, Binding { cluster, name: &name }, &bytes, limits::BACKUP_OBJECT)
            .map_err(|error| store.unopened(&name, error, key.id()))?;
        if content.len() as u64 != self.plain || sha256(&content) != self.sha256.0 {
            return Err(store.damaged(&name, 0, "it is not what the manifest says"));
        }
        Ok(content)
    }
}

/// Entries of the log in one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    pub object: Object,
    /// Its last entry.
    pub end: Place,
    /// Whether another backup cuts it the same way.
    pub full: bool,
}

/// A folded state, in pieces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Snapshot {
    pub event: EventId,
    pub pieces: Vec<Object>,
}

/// See the top of this file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub version: u32,
    pub id: Id,
    pub cluster: String,
    /// Whose directory it was made from.
    pub node: NodeId,
    /// The version of that directory.
    pub log_version: u32,
    pub time: Timestamp,
    pub key: KeyId,
    /// The last entry.
    pub head: Place,
    /// All entries, from the first.
    pub log: Vec<Run>,
    pub snapshot: Option<Snapshot>,
}

impl Manifest {
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Object> {
        let pieces = self.snapshot.iter().flat_map(|snapshot| &snapshot.pieces);
        self.log.iter().map(|run| &run.object).chain(pieces)
    }

    pub(crate) fn seal(&self, key: &Key) -> Bytes {
        let text = serde_json::to_vec(self).expect("a manifest has only what JSON has");
        sealed::seal(key, Binding { cluster: &self.cluster, name: &self.id.object() }, &text)
    }

    /// Reads a manifest. It is as it was written; its objects are not looked at.
    pub(crate) async fn fetch(store: &Store, key: &Key, cluster: &str, id: Id) -> Result<Self, ObjectError> {
        let name = id.object();
        let bytes = store.get(&name, limits::BACKUP_MANIFEST).await?;
        let text = sealed::open(key, Binding { cluster, name: &name }, &bytes, limits::BACKUP_MANIFEST)
            .map_err(|error| store.unopened(&name, error, key.id()))?;
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let unread =
            |error: serde_json::Error| store.damaged(&name, 0, format!("it is no manifest: {error}"));
        let found: Version = serde_json::from_slice(&text).map_err(unread)?;
        if found.version != VERSION {
            let why = format!("it is of version {}, and this program knows {VERSION}", found.version);
            return Err(store.damaged(&name, 0, why));
        }
        let manifest: Self = serde_json::from_slice(&text).map_err(unread)?;
        if manifest.id != id || manifest.cluster != cluster {
            return Err(store.damaged(&name, 0, "it is the manifest of another backup"));
        }
        Ok(manifest)
    }
}

/// A backup that is in a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub id: Id,
    /// How large its manifest is.
    pub manifest_bytes: u64,
}

/// The backups in a store, the oldest first. Needs no key, since it only looks at names.
///
/// # Errors
/// The store failed, or something lies there that is no backup.
pub async fn list(store: &Store) -> Result<Vec<Listed>, ObjectError> {
    let listed = |Found { name, bytes, .. }: Found| {
        let id = name.strip_prefix(MANIFESTS).and_then(|name| name.strip_prefix('/'));
        let id = id.and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| store.damaged(&name, 0, "it is not named like a backup"))?;
        Ok(Listed { id, manifest_bytes: bytes })
    };
    let mut all: Vec<Listed> =
        store.list(MANIFESTS).await?.into_iter().map(listed).collect::<Result<_, _>>()?;
    all.sort_by_key(|listed| listed.id);
    Ok(all)
}
