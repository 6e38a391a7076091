//! Rejections: the domain says no. Nothing broke, nothing happened.

use crate::config::ConfigRefusal;
use types::{HostName, Name, RequestId, manifest::Unsound};

/// A rule that says no, with what the asker needs to go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each variant says what its fields are")]
pub enum Rejection {
    #[error("{what} does not exist")]
    NotFound { what: String },
    #[error("{0}")]
    Manifest(#[from] Unsound),
    #[error("{route} is routed to another environment already")]
    RouteTaken { route: String, host: Option<HostName> },
    #[error("the name {name} is taken by another {what}")]
    NameTaken { what: &'static str, name: Name },
    #[error("no process {process} in this environment; there is {known}")]
    NoSuchProcess { process: Name, known: String },
    #[error("{what}: at most {limit}")]
    TooMany { what: String, limit: u64 },
    #[error("{what} is {is}, so it cannot {cannot}")]
    LifeCycle { what: String, is: String, cannot: &'static str },
    #[error("node {node} has {free} of memory left and the instance is capped at {wanted}")]
    NoMemory { node: String, free: types::ByteSize, wanted: types::ByteSize },
    #[error("request {0} was voided: it may never run")]
    Voided(RequestId),
    #[error("request {0} was used before with another body; make a new id for a new intent")]
    RequestReused(RequestId),
    #[error(
        "request {request} is older than the horizon {horizon}; look at what is there and make a new request"
    )]
    RequestExpired { request: RequestId, horizon: types::Timestamp },
    #[error("request {request} is from the future: the server's clock says {now}")]
    RequestAhead { request: RequestId, now: types::Timestamp },
    #[error("{what} cannot be used: it {why}")]
    Invalid { what: String, why: &'static str },
    #[error("the token is not valid any more")]
    TokenDead,
    #[error("the role, password or link of {0} was changed after the request was let in")]
    AuthorityMoved(Name),
    #[error("it is the last owner of the org: make another one first")]
    LastOwner,
    #[error("this log was begun already")]
    Begun,
    #[error("since it was explained, {what}")]
    Moved { what: String },
    #[error("{what} is not empty, so deleting it wants a confirmation")]
    Unconfirmed { what: String },
    #[error(transparent)]
    Config(#[from] ConfigRefusal),
}

impl Rejection {
    /// The problem code on the wire.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "not_found",
            Self::Manifest(_) => "invalid_manifest",
            Self::RouteTaken { .. } => "route_taken",
            Self::NameTaken { .. } => "name_taken",
            Self::NoSuchProcess { .. } => "no_such_process",
            Self::TooMany { .. } => "too_many",
            Self::LifeCycle { .. } | Self::NoMemory { .. } | Self::LastOwner | Self::Begun => "conflict",
            Self::Voided(_) => "request_voided",
            Self::RequestReused(_) => "request_id_reused",
            Self::RequestExpired { .. } => "request_expired",
            Self::RequestAhead { .. } => "request_ahead",
            Self::Invalid { .. } => "invalid_request",
            Self::TokenDead | Self::AuthorityMoved(_) => "unauthenticated",
            Self::Moved { .. } => "confirmation_stale",
            Self::Unconfirmed { .. } => "confirmation_required",
            Self::Config(refusal) => refusal.code(),
        }
    }
}
