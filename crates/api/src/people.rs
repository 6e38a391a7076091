//! People who may log in: members of an org, their sessions, their own tokens.

use crate::TokenRole;
use serde::{Deserialize, Serialize};
use std::fmt;
use types::{DurationMs, Name, PersonId, Timestamp};
use utoipa::ToSchema;

/// A password on its way. Printing it for debugging shows nothing of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct Password(String);

impl Password {
    /// What somebody typed.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, to be hashed.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Begin a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LoginRequest {
    /// The member's name.
    pub name: String,
    /// Its password.
    #[schema(value_type = String)]
    pub password: Password,
}

/// A session. Its secret is in the cookie that came with this answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoginAnswer {
    /// Who logged in.
    #[schema(value_type = String)]
    pub person: PersonId,
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// What it may do.
    pub role: TokenRole,
    /// To be sent with every write, in the header `Holdfast-Csrf`.
    pub csrf: String,
    /// After how long without a request it ends.
    #[schema(value_type = String)]
    pub idle: DurationMs,
    /// When it ends, used or not.
    #[schema(value_type = u64)]
    pub ends: Timestamp,
}

/// Add a member to the caller's org.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonRequest {
    /// What it logs in as; one of a kind on the server.
    #[schema(value_type = String)]
    pub name: Name,
    /// What it may do.
    pub role: TokenRole,
    /// What it logs in with; absent for one that is to log in by way of a provider only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub password: Option<Password>,
}

/// Somebody whom an OpenID provider knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonIdentity {
    /// The provider's URL, exactly as it says itself.
    pub issuer: String,
    /// What the provider calls the person by (`sub`): no name and no address, which can go to others.
    pub subject: String,
}

/// Give a member another role, another password, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PersonChange {
    /// The new role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<TokenRole>,
    /// The new password. Whoever is logged in with the old one is not any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub password: Option<Password>,
}

/// A member of an org.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PersonRow {
    /// Its id, as events name it.
    #[schema(value_type = String)]
    pub id: PersonId,
    /// What it logs in as.
    #[schema(value_type = String)]
    pub name: Name,
    /// What it may do.
    pub role: TokenRole,
    /// The org it belongs to.
    #[schema(value_type = String)]
    pub org: Name,
    /// When it was added.
    #[schema(value_type = u64)]
    pub added: Timestamp,
    /// How many living tokens it has.
    pub tokens: u64,
    /// Whether it has a password to log in with.
    #[serde(default)]
    pub password: bool,
    /// Whom it may log in as by way of a provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<PersonIdentity>,
}

/// Change the caller's own password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordChange {
    /// The present one.
    #[schema(value_type = String)]
    pub current: Password,
    /// The new one.
    #[schema(value_type = String)]
    pub password: Password,
}

/// Make a token of the caller's own. The answer's `result.secret` is the only time its secret is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnTokenRequest {
    /// What people call it.
    #[schema(value_type = String)]
    pub name: Name,
    /// What it may do, at most what its holder may; absent means the same.
    #[serde(default)]
    pub role: Option<TokenRole>,
    /// How long it lives.
    #[schema(value_type = String)]
    pub expires_in: DurationMs,
}
