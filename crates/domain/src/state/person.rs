//! People: members of an org, who log in by name and password.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};
use types::{EventId, Name, OrgId, ParseError, PersonId, limits};

use crate::event::Role;

/// Somebody who may log in. Whoever was removed is remembered, so that the log can still be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The org it belongs to.
    pub org: OrgId,
    /// Its name, one of a kind among those that are there.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// Argon2id over its password, with salt and parameters, as text; empty if it has none.
    pub hash: String,
    /// The event that last set its password: what was opened with an older one is shut.
    pub password: EventId,
    /// Whom a provider knows it as, if it may log in there.
    pub link: Option<Link>,
    /// The event that last changed it.
    pub changed: EventId,
    /// The event that removed it.
    pub removed: Option<EventId>,
    /// Events so far.
    pub sequence: u64,
}

impl Person {
    /// Whether it was not removed.
    pub const fn is_there(&self) -> bool {
        self.removed.is_none()
    }

    /// Whether what was opened after this event had set a password, or a link, is open still.
    pub fn proves(&self, event: EventId) -> bool {
        let linked = self.link.as_ref().is_some_and(|link| link.event == event);
        self.is_there() && (self.password == event || linked)
    }
}

/// Somebody whom an OpenID provider knows. A subject means something with its issuer only, and neither
/// is ever given to somebody else by a provider that keeps to the standard; names and addresses are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// The provider's URL, as it says itself.
    pub issuer: String,
    /// What the provider calls the person by, for ever.
    pub subject: String,
}

/// The identity that a person may log in as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Which one.
    pub identity: Identity,
    /// The event that linked it: what was opened with an older one is shut.
    pub event: EventId,
}

/// What a service principal may do besides what its role lets it: `confirm:cluster.promote` lets it
/// confirm that one guarded act.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Scope(String);

impl Scope {
    /// The scope that lets one confirm an act, whose words are `cluster promote NAME`: the noun and the
    /// verb count, the target does not.
    pub fn of_act(act: &str) -> Self {
        let words: Vec<&str> = act.split_whitespace().take(2).collect();
        Self(format!("confirm:{}", words.join(".")))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Scope> for String {
    fn from(scope: Scope) -> Self {
        scope.0
    }
}

impl TryFrom<String> for Scope {
    type Error = ParseError;

    fn try_from(text: String) -> Result<Self, ParseError> {
        text.parse()
    }
}

impl FromStr for Scope {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let is_word = |word: &str| {
            !word.is_empty() && word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-')
        };
        let act = text.strip_prefix("confirm:").and_then(|act| act.split_once('.'));
        match act {
            Some((noun, verb)) if is_word(noun) && is_word(verb) && text.len() <= limits::SCOPE_CHARS => {
                Ok(Self(text.to_owned()))
            }
            _ => {
                Err(ParseError::new("scope", text, "wants confirm:NOUN.VERB, as in confirm:cluster.promote"))
            }
        }
    }
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// A member of the org, and it ends with that member.
    Person(PersonId),
    /// A program. It confirms the guarded acts that its scopes name, and no others.
    Service(BTreeSet<Scope>),
}
