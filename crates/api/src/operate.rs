//! What operators ask of the server itself: tokens, requests, views, health, version.

use crate::{AuditRow, Code, Outcome};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use types::{DurationMs, Epoch, EventId, Name, RequestId, Timestamp, TokenId};
use utoipa::ToSchema;

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenRole {
    /// Everything.
    Owner,
    /// Everything but owners, their tokens, and new members of the cluster.
    Admin,
    /// Deploys, works on nodes, and does guarded acts.
    Operator,
    /// Deploys, scales and rolls back.
    Developer,
    /// Reads apps and what runs of them.
    Viewer,
    /// Reads events, requests, audit and who may get in.
    Auditor,
}

impl TokenRole {
    /// All of them, from the one that may most.
    pub const ALL: [Self; 6] =
        [Self::Owner, Self::Admin, Self::Operator, Self::Developer, Self::Viewer, Self::Auditor];

    /// The word on the wire and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Developer => "developer",
            Self::Viewer => "viewer",
            Self::Auditor => "auditor",
        }
    }
}

impl fmt::Display for TokenRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for TokenRole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.map(Self::as_str).join(", ");
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(format!("wants one of {known}"))
    }
}

/// Make a token. The answer's `result.secret` is the only time its secret is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// What people call it.
    #[schema(value_type = String)]
    pub name: Name,
    /// What it may do.
    pub role: TokenRole,
    /// The org it is bound to; absent means all.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub org: Option<Name>,
    /// How long it lives.
    #[schema(value_type = String)]
    pub expires_in: DurationMs,
    /// Makes it a service principal, which confirms the guarded acts named here and no others, as in
    /// `confirm:cluster.promote`. Absent means that it is no service principal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenRow {
    /// Its id.
    #[schema(value_type = String)]
    pub id: TokenId,
    /// What people call it.
    #[schema(value_type = String)]
    pub name: Name,
    /// What it may do.
    pub role: TokenRole,
    /// The org it is bound to; absent means all.
    #[schema(value_type = Option<String>)]
    pub org: Option<Name>,
    /// When it was made.
    #[schema(value_type = u64)]
    pub created: Timestamp,
    /// When it ends by itself; absent means never.
    #[schema(value_type = Option<u64>)]
    pub expires: Option<Timestamp>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// The member whose own it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub member: Option<Name>,
    /// What it may confirm, if it is a service principal's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scopes: Option<Vec<String>>,
}

/// What is known of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestVerdict {
    /// It took effect.
    Executed,
    /// It was refused and had no effect.
    Refused,
    /// It may never run.
    Voided,
    /// It is behind the horizon: it may never run, and whether it did is no longer known here.
    Expired,
    /// Nothing was seen of it so far; it may still arrive.
    NotSeen,
}

impl RequestVerdict {
    /// Whether the request was executed, as far as this tells.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Executed => Outcome::Executed,
            Self::Refused | Self::Voided => Outcome::NotExecuted,
            Self::Expired | Self::NotSeen => Outcome::Unknown,
        }
    }
}

/// What became of a request, as the log tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestState {
    /// The request.
    #[schema(value_type = String)]
    pub request_id: RequestId,
    /// What is known.
    pub state: RequestVerdict,
    /// Whether it was executed, as far as that tells.
    pub outcome: Outcome,
    /// Whether that can never change. Only *not seen* is not final.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// The event of the verdict; for an executed request, the last event it caused.
    #[schema(value_type = Option<u64>)]
    pub event: Option<EventId>,
    /// Why it was refused or voided.
    pub reason: Option<String>,
    /// The code it was refused with.
    pub code: Option<Code>,
    /// When the verdict was written.
    #[schema(value_type = Option<u64>)]
    pub at: Option<Timestamp>,
    /// What the members' journals know of it, for one who may read the audit: attempts that were refused,
    /// denied, failed or abandoned. None of them is a verdict.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AuditRow>,
    /// Members whose journals could not be read, or not as far back as to know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<String>,
}

/// A read view: a fold over the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ViewRow {
    /// Its name.
    pub name: String,
    /// The last event in it.
    #[schema(value_type = u64)]
    pub checkpoint: EventId,
    /// A hash over its whole content: equal content, equal fingerprint.
    pub fingerprint: String,
    /// Why it was set aside, if it was.
    pub quarantined: Option<String>,
    /// Events in the log that are not in it yet.
    pub behind: u64,
}

/// A view folded anew from the first event, against the one that was live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RebuildAnswer {
    /// Always *executed*.
    pub outcome: Outcome,
    /// The view.
    pub name: String,
    /// The fingerprint of the live one.
    pub before: String,
    /// The fingerprint of the rebuilt one, at the same event.
    pub after: String,
    /// Whether they are equal.
    pub equal: bool,
    /// How many events were folded.
    pub events: u64,
}

/// That the process answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Live {
    /// Always true.
    pub live: bool,
}

/// Whether the server can do its work, and who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ready {
    /// Whether it takes writes.
    pub ready: bool,
    /// What it is in its cluster: `leader` with a log of its own.
    pub role: String,
    /// The authority it writes under.
    #[schema(value_type = u64)]
    pub epoch: Epoch,
    /// The last event that is durable.
    #[schema(value_type = u64)]
    pub head: EventId,
    /// The last event that every view has.
    #[schema(value_type = u64)]
    pub applied: EventId,
    /// Why it is not ready, or what is wrong though it is.
    pub reason: Option<String>,
}

/// What runs here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// The version of Holdfast.
    pub version: String,
    /// The API it speaks.
    pub api: String,
    /// The identity of the log.
    pub cluster: String,
    /// The server's time; absent from one that does not tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub at: Option<Timestamp>,
}

/// Who the bearer of the token is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Whoami {
    /// The principal, as events name it.
    pub principal: String,
    /// The name of the member that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub member: Option<Name>,
    /// What it may do.
    pub role: TokenRole,
    /// The org it is bound to; absent means all.
    #[schema(value_type = Option<String>)]
    pub org: Option<Name>,
    /// The token used; absent in a session.
    #[schema(value_type = Option<String>)]
    pub token: Option<TokenId>,
    /// When the token ends by itself; absent means never.
    #[schema(value_type = Option<u64>)]
    pub expires: Option<Timestamp>,
    /// The identity of the log.
    pub cluster: String,
}
