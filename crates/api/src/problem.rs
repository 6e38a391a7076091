//! Every way in which a call can fail: one closed set of codes, one shape (RFC 9457).
//!
//! A code is a promise: scripts branch on it, so its word, status and exit code never change, and
//! each has a page under `docs/errors/`. What differs from case to case is in `detail` and `hint`.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use types::RequestId;
use utoipa::{
    ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

/// What became of the request that met a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It took effect and is durable.
    Executed,
    /// It had no effect and never will.
    NotExecuted,
    /// Nobody can say yet: ask for the request by its id.
    Unknown,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Executed => "executed",
            Self::NotExecuted => "not_executed",
            Self::Unknown => "unknown",
        })
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $exit:literal, $title:literal;)*) => {
        /// What went wrong, for programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Code {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The word on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The HTTP status it is sent with.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// What the command line exits with, unless the outcome says more.
            pub const fn exit_code(self) -> u8 {
                match self { $(Self::$name => $exit,)* }
            }

            /// A short title for people.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

// By hand: the derive does not see through the macro, and would name the variants and not their words.
impl utoipa::PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let words = Self::ALL.iter().map(|code| code.as_str());
        let schema = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words));
        schema.description(Some("What went wrong, for programs.")).into()
    }
}

impl ToSchema for Code {}

codes! {
    /// The request cannot be read: bad JSON, a missing header, a value out of range.
    InvalidRequest = "invalid_request", 400, 2, "The request cannot be read";
    /// The manifest breaks a rule; `path` says where.
    InvalidManifest = "invalid_manifest", 422, 2, "The manifest is not sound";
    /// The request id is neither a ULID nor a UUIDv7, or is missing on a write.
    InvalidRequestId = "invalid_request_id", 400, 2, "The request id is not a ULID or UUIDv7";
    /// The request id was used before, for something else.
    RequestIdReused = "request_id_reused", 422, 5, "The request id belongs to another request";
    /// The request id is older than the horizon.
    RequestExpired = "request_expired", 410, 5, "The request id is too old";
    /// The request id is from too far ahead of the server's clock.
    RequestAhead = "request_ahead", 400, 5, "The request id is from the future";
    /// The request was voided and may never run.
    RequestVoided = "request_voided", 409, 5, "The request was voided";
    /// No token, or one that is unknown, expired or revoked.
    Unauthenticated = "unauthenticated", 401, 3, "Who asks is not known";
    /// The token does not allow this.
    Forbidden = "forbidden", 403, 3, "Not allowed";
    /// A login by way of a provider took too long, was finished before, or began in another browser.
    LoginExpired = "login_expired", 400, 3, "The login is not one that is under way";
    /// The provider said no, or what it said of who logs in does not hold.
    LoginRefused = "login_refused", 403, 3, "The provider does not vouch for this login";
    /// The provider knows who it is, and no member is linked to that identity.
    LoginUnlinked = "login_unlinked", 403, 3, "No member belongs to this identity";
    /// The provider does not answer, or not as a provider does.
    ProviderUnavailable = "provider_unavailable", 503, 6, "The login provider cannot be asked";
    /// There is no such thing, or it is not visible to this token.
    NotFound = "not_found", 404, 4, "Not found";
    /// The life cycle of what it is about does not allow it now.
    Conflict = "conflict", 409, 5, "Not possible in the present state";
    /// The name is in use.
    NameTaken = "name_taken", 409, 5, "The name is taken";
    /// Another environment owns the host name or port.
    RouteTaken = "route_taken", 409, 5, "The route belongs to another environment";
    /// The registry or layout has no such image.
    ImageNotFound = "image_not_found", 422, 4, "No such image";
    /// The registry or layout could not be reached.
    ImageUnavailable = "image_unavailable", 503, 6, "The image's source cannot be reached";
    /// The image is not what its digest says, or breaks a limit.
    ImageInvalid = "image_invalid", 422, 5, "The image is not valid";
    /// The app has no process of that name.
    NoSuchProcess = "no_such_process", 404, 4, "No such process";
    /// A quota or limit is reached.
    TooMany = "too_many", 429, 5, "A limit is reached";
    /// Too many in too short a time; `Retry-After` says when to go on.
    RateLimited = "rate_limited", 429, 6, "Too many in too short a time";
    /// The request body is larger than the limit.
    BodyTooLarge = "body_too_large", 413, 2, "The request is too large";
    /// `If-Match` names another state than the present one.
    PreconditionFailed = "precondition_failed", 412, 5, "It has changed meanwhile";
    /// A guarded act came without its token: it must be explained first.
    ConfirmationRequired = "confirmation_required", 428, 5, "It must be explained and confirmed";
    /// What the explanation showed has changed since.
    ConfirmationStale = "confirmation_stale", 409, 5, "What was shown has changed";
    /// The token is wrong, used, expired, or belongs to somebody or something else.
    ConfirmationInvalid = "confirmation_invalid", 409, 5, "The confirmation is not valid";
    /// An invariant that the act overrides is not acknowledged as asked.
    AcknowledgementRequired = "acknowledgement_required", 422, 5, "A risk must be acknowledged";
    /// What was asked for is written, and the view that answers has not reached it within the bound.
    NotVisibleYet = "not_visible_yet", 503, 6, "Written, not yet visible";
    /// The copy of the log that was asked does not have an event of that number, though it was waited for.
    EventAhead = "event_ahead", 412, 6, "That event is not here";
    /// The server cannot take it now; it was certainly not executed.
    Unavailable = "unavailable", 503, 6, "Not available now";
    /// An invariant would not be proven; `detail` names it. Nothing has changed.
    Denied = "denied", 409, 5, "An invariant forbids it";
    /// No majority of the members can be reached, so nothing can be said about now.
    NoQuorum = "no_quorum", 503, 6, "No majority answers";
    /// It may or may not have been executed.
    UnknownOutcome = "unknown_outcome", 504, 7, "The outcome is not known";
    /// The disk of the server is full; it was not executed.
    StorageFull = "storage_full", 507, 6, "The server's disk is full";
    /// The server carries as many streams as it may.
    StreamLimit = "stream_limit", 503, 6, "Too many open streams";
    /// A fault of the server itself.
    Internal = "internal", 500, 1, "The server failed";
    /// Said by the command line: what was asked for was executed, and the deploy it began failed.
    DeployFailed = "deploy_failed", 409, 1, "The deploy failed";
    /// Said by the command line: executed, and not finished within the time given.
    StillGoing = "still_going", 504, 7, "Not finished yet";
    /// Said by the command line: a role cannot start on this machine.
    CannotStart = "cannot_start", 503, 1, "It cannot start here";
}

impl Code {
    /// What a problem of this code says about the outcome, unless it is known better.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::NotVisibleYet | Self::DeployFailed | Self::StillGoing => Outcome::Executed,
            Self::UnknownOutcome | Self::Internal => Outcome::Unknown,
            _ => Outcome::NotExecuted,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Code {
    type Err = UnknownCode;
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

/// A word that is not a code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a problem code")]
pub struct UnknownCode(pub String);

/// A problem as it is sent, after RFC 9457, with media type [`Problem::MEDIA_TYPE`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct Problem {
    /// Where the code is explained: `docs/errors/CODE.md`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The code's title.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened in this case, and why.
    pub detail: String,
    /// What went wrong, for programs.
    pub code: Code,
    /// The request it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub request_id: Option<RequestId>,
    /// What became of that request.
    pub outcome: Outcome,
    /// What to do next, at best one command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where in the input, as keys joined by dots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// After how many seconds to try again; also in the header `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

impl Problem {
    /// The media type of a problem.
    pub const MEDIA_TYPE: &'static str = "application/problem+json";

    /// A problem with the status, title and outcome of its code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("docs/errors/{code}.md"),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code,
            request_id: None,
            outcome: code.outcome(),
            hint: None,
            path: None,
            retry_after_s: None,
        }
    }

    /// The same, about this request.
    #[must_use]
    pub fn with_request(self, request_id: RequestId) -> Self {
        Self { request_id: Some(request_id), ..self }
    }

    /// The same, with a way on.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The same, with the place in the input.
    #[must_use]
    pub fn with_path(self, path: impl Into<String>) -> Self {
        Self { path: Some(path.into()), ..self }
    }

    /// The same, with an outcome that is known better than the code tells.
    #[must_use]
    pub fn with_outcome(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }

    /// What the command line exits with: the outcome decides first, then the code.
    pub const fn exit_code(&self) -> u8 {
        match self.outcome {
            Outcome::Unknown => 7,
            Outcome::Executed | Outcome::NotExecuted => self.code.exit_code(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_its_own_word_and_parses_back() {
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(*code));
            let json = serde_json::to_string(code).expect("a word");
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<Code>(&json).expect("its own word"), *code);
            assert!((400..600).contains(&code.status()), "{code}");
            assert!((1..=7).contains(&code.exit_code()), "{code}");
            assert_eq!(Code::ALL.iter().filter(|other| other.as_str() == code.as_str()).count(), 1, "{code}");
        }
        assert!("no_such_code".parse::<Code>().is_err());
    }

    #[test]
    fn an_unknown_outcome_exits_with_seven_whatever_the_code() {
        assert_eq!(Problem::new(Code::Internal, "x").exit_code(), 7);
        assert_eq!(Problem::new(Code::Internal, "x").with_outcome(Outcome::NotExecuted).exit_code(), 1);
        assert_eq!(Problem::new(Code::RouteTaken, "x").exit_code(), 5);
    }
}
