//! The audit: what anybody attempted, and what came of it.

use crate::Outcome;
use serde::{Deserialize, Serialize};
use types::{Epoch, EventId, NodeId, RequestId, Timestamp};
use utoipa::{IntoParams, ToSchema};

/// What an audit row tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditType {
    /// A guarded act was confirmed and is about to run; what became of it is in the log, or in a later row.
    Confirmed,
    /// A rule said no, or a confirmation was not valid; nothing was tried.
    Refused,
    /// Whoever asked was not let in or may not do this, or an invariant forbids it.
    Denied,
    /// It was done.
    Executed,
    /// It was begun, and failed or is in doubt.
    Failed,
    /// It was explained and never confirmed, or whoever asked hung up before there was an outcome.
    Abandoned,
    /// So many more of one source that were only counted.
    More,
    /// So many that could not be written when they happened.
    Lost,
}

impl AuditType {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Confirmed,
        Self::Refused,
        Self::Denied,
        Self::Executed,
        Self::Failed,
        Self::Abandoned,
        Self::More,
        Self::Lost,
    ];

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Executed => "executed",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
            Self::More => "more",
            Self::Lost => "lost",
        }
    }
}

impl std::str::FromStr for AuditType {
    type Err = UnknownAuditType;
    fn from_str(text: &str) -> Result<Self, UnknownAuditType> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        found.ok_or_else(|| UnknownAuditType(text.to_owned()))
    }
}

/// A word that is no type of audit rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of confirmed, refused, denied, executed, failed, abandoned, more and lost")]
pub struct UnknownAuditType(pub String);

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditRequest {
    /// Its id, if it named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub id: Option<RequestId>,
    /// The method of HTTP; none of a command that ran without a server.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub method: String,
    /// The path with its query, or the command line; secrets in it are redacted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// What it said, with secrets replaced by `[redacted]`; text if it was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
    /// What is missing of the body, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
}

/// How a guarded act was confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditConfirmation {
    /// `person`, `script` or `offline`.
    pub kind: String,
    /// The invariants that it overrides, each acknowledged.
    #[serde(default)]
    pub acknowledged: Vec<String>,
}

/// Attempts that were only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditMore {
    /// How many.
    pub count: u64,
    /// The first of them.
    #[schema(value_type = u64)]
    pub from: Timestamp,
    /// The last of them.
    #[schema(value_type = u64)]
    pub until: Timestamp,
}

/// One attempt: of the log if it was executed there, else of a member's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRow {
    /// When, by the clock of whoever wrote it.
    #[schema(value_type = u64)]
    pub at: Timestamp,
    /// What it tells of.
    #[serde(rename = "type")]
    pub kind: AuditType,
    /// Who attempted it.
    pub actor: String,
    /// From where, as far as that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The member in whose journal it stands; none if it stands in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub node: Option<NodeId>,
    /// Its line in that journal, or its event.
    pub seq: u64,
    /// The authority that this member knew of.
    #[schema(value_type = u64)]
    pub epoch: Epoch,
    /// The last event that this member had seen.
    #[schema(value_type = u64)]
    pub last_event: EventId,
    /// The act and its target, or the kinds of the events that it caused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<String>,
    /// What was asked.
    pub request: AuditRequest,
    /// How it was confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<AuditConfirmation>,
    /// The problem's code, if it met one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What became of it, as far as was known then.
    pub outcome: Outcome,
    /// Why: the reason given, or the rule that said no.
    pub reason: String,
    /// How many it stands for, if they were only counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<AuditMore>,
}

/// Which rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    /// Go on behind this cursor; without one, from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Without a cursor: begin so many rows before the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<usize>,
    /// At most this many in a page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only of this actor, as rows name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Only of this type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<AuditType>,
    /// Only with this outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Only from this time on, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u64>)]
    #[schema(value_type = Option<u64>)]
    pub since: Option<Timestamp>,
}

/// How it is with one member's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditJournal {
    /// The member; none of a server that has no members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub node: Option<NodeId>,
    /// What people call it.
    pub name: String,
    /// Why it could not be read; none if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
    /// When what is shown of it was read; none if nothing of it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub as_of: Option<Timestamp>,
    /// Its last line then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_line: Option<u64>,
}

/// One page of the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// In order of the last event seen, the member, and its line.
    pub rows: Vec<AuditRow>,
    /// Where to go on.
    pub cursor: String,
    /// Whether there is more already.
    pub more: bool,
    /// Of the last rows: only so many lines and events were looked at, and earlier ones may fit too. Reading from
    /// the beginning looks at all.
    #[serde(default)]
    pub earlier: bool,
    /// Every member's journal, also of those that could not be read.
    pub journals: Vec<AuditJournal>,
}

/// One message of the audit's stream: a row, or the journals when their readability has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditNews {
    /// A row.
    Row(Box<AuditRow>),
    /// How it is with the journals from here on.
    Journals(Vec<AuditJournal>),
}

/// One member's journal, held against its chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditVerified {
    /// The member; none of a server that has no members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub node: Option<NodeId>,
    /// What people call it.
    pub name: String,
    /// Its first line that is there; none if it could not be verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Its last line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// The chain after its last line, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<String>,
    /// What differs from the chain, and where first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs: Option<String>,
    /// Why it could not be verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unread: Option<String>,
    /// The event that removed this member, of which nobody asks any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub removed: Option<EventId>,
}
