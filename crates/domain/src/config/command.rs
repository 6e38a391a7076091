//! What people want of configuration.

use super::event::{Put, Settings};
use crate::{confirmed::Confirmed, content::Content};
use std::sync::Arc;
use types::{ChangeId, ConfigKey, NamespaceId, NamespacePath, OrgId, Timestamp};

/// One key's part of what is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// Which key.
    pub key: ConfigKey,
    /// What it is to become.
    pub put: Put,
    /// The version that it must have now: zero if it must not be there.
    pub expect: Option<u32>,
}

/// Where a namespace is to inherit from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inherits {
    /// The namespace of its path's front part; nowhere if it has none.
    Front,
    /// This one.
    From(NamespaceId),
}

/// Everything that can be wanted of configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields repeat the vocabulary of their types")]
pub enum ConfigCommand {
    CreateNamespace {
        org: OrgId,
        path: NamespacePath,
        inherits: Inherits,
        description: Arc<str>,
        settings: Arc<Settings>,
    },
    /// What is not given stays.
    SetNamespace {
        namespace: NamespaceId,
        inherits: Option<Inherits>,
        description: Option<Arc<str>>,
        settings: Option<Arc<Settings>>,
    },
    /// Binds a JSON Schema, or none. One that breaks values wants a confirmation of what was shown.
    SetSchema {
        namespace: NamespaceId,
        schema: Option<Arc<str>>,
        forced: Option<(Content, Confirmed)>,
    },
    /// With content it wants a confirmation.
    DeleteNamespace {
        namespace: NamespaceId,
        shown: Content,
        confirmed: Option<Confirmed>,
    },
    /// All or nothing, where direct writes are allowed.
    Write {
        namespace: NamespaceId,
        edits: Vec<Edit>,
        note: Arc<str>,
    },
    Draft {
        namespace: NamespaceId,
        title: Arc<str>,
        edits: Vec<Edit>,
    },
    /// A step of a change that is there.
    Change {
        change: ChangeId,
        step: ChangeStep,
    },
}

/// What can be done with a change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields repeat the vocabulary of their types")]
pub enum ChangeStep {
    /// `rebase` takes the versions that are there now as those that every edit was made on.
    Edit {
        title: Option<Arc<str>>,
        edits: Vec<Edit>,
        drop: Vec<ConfigKey>,
        rebase: bool,
    },
    Submit,
    Comment {
        text: Arc<str>,
    },
    /// Of what was looked at: a revision, and the hash of its content.
    Approve {
        revision: u32,
        hash: [u8; 32],
    },
    Reject {
        revision: u32,
        reason: Arc<str>,
    },
    Withdraw {
        reason: Arc<str>,
    },
    Schedule {
        at: Option<Timestamp>,
    },
    Publish,
    /// Nobody's approval is asked; the confirmation holds the reason.
    BreakGlass {
        shown: Content,
        confirmed: Confirmed,
    },
    /// From the reconciler: its time has come.
    PublishDue,
}
