//! What happens to configuration. The rules of the event enum hold here too: shapes stay, and new
//! variants come at the end.

use super::value::Value;
use crate::{
    confirmed::Confirmed,
    event::{Role, Subject},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, sync::Arc};
use types::{ByteSize, ChangeId, ConfigKey, NamespaceId, NamespacePath, OrgId, PersonId, Timestamp, TokenId};

/// Who did something, as reviews tell people apart: a token of a member is that member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// A member of the org, by itself or with a token of its own.
    Person(PersonId),
    /// A program, or whoever holds a token that belongs to no member.
    Token(TokenId),
    /// The platform itself.
    Platform,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person(id) => id.fmt(f),
            Self::Token(id) => id.fmt(f),
            Self::Platform => f.write_str("system"),
        }
    }
}

/// What is to become of a key in its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Put {
    /// It has this value.
    Set(Arc<Value>),
    /// It has none, and none is inherited.
    Delete,
    /// The namespace says nothing of it any more: what is inherited shows again.
    Inherit,
}

/// One key's part of a write or a change, with the version that it comes after: zero if the key was
/// never there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Based {
    /// Which key.
    pub key: ConfigKey,
    /// The version it was looked at in.
    pub base: u32,
    /// What it is to become.
    pub put: Put,
}

/// Who reviews the changes of a namespace, and may publish them: whoever has one of these roles, and
/// the people named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reviewers {
    /// Roles of people.
    pub roles: BTreeSet<Role>,
    /// Members of the org.
    pub people: BTreeSet<PersonId>,
}

/// What a namespace says about itself. What it leaves open is inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether values may be written without a change that was reviewed.
    pub direct: Option<bool>,
    /// How many approvals a change needs.
    pub approvals: Option<u8>,
    /// Whether only members may approve, and never what they wrote themselves.
    pub four_eyes: Option<bool>,
    /// Who approves and publishes.
    pub reviewers: Option<Reviewers>,
    /// At most so many values.
    pub entries: Option<u32>,
    /// At most so many bytes of values.
    pub bytes: Option<ByteSize>,
}

/// Where a change is in its life. The legal steps are in `state/config/change.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// It is being written.
    Draft,
    /// It waits for reviewers.
    InReview,
    /// It has the approvals it needs, as it stands.
    Approved,
    /// A reviewer said no; it can be edited and submitted again.
    Rejected,
    /// It is a release.
    Published,
    /// Given up.
    Withdrawn,
}

impl Stage {
    /// As people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::InReview => "in review",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Published => "published",
            Self::Withdrawn => "withdrawn",
        }
    }
}

/// Everything that can happen to configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "fields repeat the vocabulary of their types; variants say what happened")]
pub enum ConfigEvent {
    NamespaceCreated {
        namespace: NamespaceId,
        org: OrgId,
        path: NamespacePath,
        parent: Option<NamespaceId>,
        description: Arc<str>,
        settings: Arc<Settings>,
    },
    NamespaceSet {
        namespace: NamespaceId,
        parent: Option<NamespaceId>,
        description: Arc<str>,
        settings: Arc<Settings>,
    },
    /// The text of a JSON Schema; without one the inherited schema holds. Confirmed if it breaks values
    /// that are there.
    SchemaSet {
        namespace: NamespaceId,
        schema: Option<Arc<str>>,
        confirmed: Option<Confirmed>,
    },
    /// Its path is free. Unconfirmed only if it was empty.
    NamespaceDeleted {
        namespace: NamespaceId,
        confirmed: Option<Confirmed>,
    },
    /// The next release of a namespace, written directly.
    Written {
        namespace: NamespaceId,
        by: Who,
        release: u32,
        edits: Vec<Based>,
        note: Arc<str>,
    },
    Drafted {
        change: ChangeId,
        namespace: NamespaceId,
        by: Who,
        title: Arc<str>,
        edits: Vec<Based>,
    },
    /// It is a draft again, with these edits in the place of those of the same keys.
    Edited {
        change: ChangeId,
        namespace: NamespaceId,
        by: Who,
        title: Option<Arc<str>>,
        edits: Vec<Based>,
        dropped: Vec<ConfigKey>,
        /// Keys whose edit stays, on the version that is there now.
        rebased: Vec<(ConfigKey, u32)>,
    },
    /// `hash` is over all edits with their bases; approvals are of it. `stage` is where that brings it.
    Submitted {
        change: ChangeId,
        namespace: NamespaceId,
        by: Who,
        revision: u32,
        hash: [u8; 32],
        stage: Stage,
    },
    Commented {
        change: ChangeId,
        namespace: NamespaceId,
        by: Who,
        text: Arc<str>,
    },
    Approved {
        change: ChangeId,
        namespace: NamespaceId,
        by: Who,
        revision: u32,
        hash: [u8; 32],
        stage: Stage,
    },
    Rejected {
        change: ChangeId,
        namespace: NamespaceId,
        by: Who,
        revision: u32,
        reason: Arc<str>,
    },
    /// A release moved keys it was based on: its approvals are void and it is a draft again.
    Reopened {
        change: ChangeId,
        namespace: NamespaceId,
        release: u32,
        keys: Vec<ConfigKey>,
    },
    Withdrawn {
        change: ChangeId,
        namespace: NamespaceId,
        by: Who,
        reason: Arc<str>,
    },
    /// It will be published then; never mind, if none.
    Scheduled {
        change: ChangeId,
        namespace: NamespaceId,
        by: Who,
        at: Option<Timestamp>,
    },
    /// Its time came and it could not be published.
    Suspended {
        change: ChangeId,
        namespace: NamespaceId,
        why: Arc<str>,
    },
    /// The next release of a namespace. With a confirmation nobody's approval was asked.
    Published {
        change: ChangeId,
        namespace: NamespaceId,
        by: Who,
        release: u32,
        break_glass: Option<Confirmed>,
    },
}

impl ConfigEvent {
    /// The stable name people and scripts see.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::NamespaceCreated { .. } => "namespace.created",
            Self::NamespaceSet { .. } => "namespace.set",
            Self::SchemaSet { .. } => "namespace.schema_set",
            Self::NamespaceDeleted { .. } => "namespace.deleted",
            Self::Written { .. } => "config.written",
            Self::Drafted { .. } => "change.drafted",
            Self::Edited { .. } => "change.edited",
            Self::Submitted { .. } => "change.submitted",
            Self::Commented { .. } => "change.commented",
            Self::Approved { .. } => "change.approved",
            Self::Rejected { .. } => "change.rejected",
            Self::Reopened { .. } => "change.reopened",
            Self::Withdrawn { .. } => "change.withdrawn",
            Self::Scheduled { .. } => "change.scheduled",
            Self::Suspended { .. } => "change.suspended",
            Self::Published { break_glass: None, .. } => "change.published",
            Self::Published { break_glass: Some(_), .. } => "change.break_glass",
        }
    }

    /// The namespace it is about.
    pub const fn namespace(&self) -> NamespaceId {
        match self {
            Self::NamespaceCreated { namespace, .. }
            | Self::NamespaceSet { namespace, .. }
            | Self::SchemaSet { namespace, .. }
            | Self::NamespaceDeleted { namespace, .. }
            | Self::Written { namespace, .. }
            | Self::Drafted { namespace, .. }
            | Self::Edited { namespace, .. }
            | Self::Submitted { namespace, .. }
            | Self::Commented { namespace, .. }
            | Self::Approved { namespace, .. }
            | Self::Rejected { namespace, .. }
            | Self::Reopened { namespace, .. }
            | Self::Withdrawn { namespace, .. }
            | Self::Scheduled { namespace, .. }
            | Self::Suspended { namespace, .. }
            | Self::Published { namespace, .. } => *namespace,
        }
    }

    /// The change it is about, if it is about one.
    pub const fn change(&self) -> Option<ChangeId> {
        match self {
            Self::NamespaceCreated { .. }
            | Self::NamespaceSet { .. }
            | Self::SchemaSet { .. }
            | Self::NamespaceDeleted { .. }
            | Self::Written { .. } => None,
            Self::Drafted { change, .. }
            | Self::Edited { change, .. }
            | Self::Submitted { change, .. }
            | Self::Commented { change, .. }
            | Self::Approved { change, .. }
            | Self::Rejected { change, .. }
            | Self::Reopened { change, .. }
            | Self::Withdrawn { change, .. }
            | Self::Scheduled { change, .. }
            | Self::Suspended { change, .. }
            | Self::Published { change, .. } => Some(*change),
        }
    }

    /// The aggregate it belongs to.
    pub const fn subject(&self) -> Subject {
        match self.change() {
            Some(change) => Subject::Change(change),
            None => Subject::Namespace(self.namespace()),
        }
    }

    /// The release of the namespace that it made.
    pub const fn release(&self) -> Option<u32> {
        match self {
            Self::Written { release, .. } | Self::Published { release, .. } => Some(*release),
            _ => None,
        }
    }
}
