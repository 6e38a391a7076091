//! Names of the configuration service: where values live, how they are called, what they are.

use crate::{Name, ParseError, limits};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr, sync::Arc};

/// Text that was checked once, with an error that says which part is wrong.
macro_rules! joined_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.into())),
                    Err((place, why)) => Err(ParseError::new($what, &at(text, place), why)),
                }
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// Where in a text something is wrong: the part of this number, from 1; the whole of it if zero.
type Wrong = (usize, &'static str);

fn at(text: &str, place: usize) -> String {
    let part = place.checked_sub(1).and_then(|nth| text.split('/').nth(nth));
    match part {
        Some(part) if text.contains('/') => format!("{part} (part {place} of {text})"),
        _ => text.to_owned(),
    }
}

fn path(text: &str) -> Result<(), Wrong> {
    if text.is_empty() || text.len() > limits::CONFIG_PATH {
        return Err((0, "wants 1 to 255 characters"));
    }
    if text.split('/').count() > limits::CONFIG_DEPTH {
        return Err((0, "wants at most 8 names joined by slashes"));
    }
    for (part, place) in text.split('/').zip(1..) {
        if part.parse::<Name>().is_err() {
            return Err((place, "wants names of lower-case letters, digits and hyphens, joined by slashes"));
        }
    }
    Ok(())
}

fn key(text: &str) -> Result<(), Wrong> {
    if text.is_empty() || text.len() > limits::CONFIG_KEY {
        return Err((0, "wants 1 to 256 characters"));
    }
    for (part, place) in text.split('/').zip(1..) {
        if part.is_empty() {
            return Err((place, "wants no empty part between slashes, nor one at an end"));
        }
        if part.bytes().all(|byte| byte == b'.') {
            return Err((place, "wants no part that is dots only"));
        }
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !part.bytes().all(fits) {
            return Err((place, "wants letters, digits, dots, underscores, hyphens and slashes"));
        }
    }
    Ok(())
}

joined_text!(
    /** Where configuration lives: `shop/prod/eu`, names joined by slashes. */
    NamespacePath, "namespace", path
);

joined_text!(
    /** What a value is called in its namespace: `db.pool/size`. */
    ConfigKey, "configuration key", key
);

impl NamespacePath {
    /// The path in front of the last name; none for a single name.
    pub fn front(&self) -> Option<Self> {
        self.0.rsplit_once('/').map(|(front, _)| Self(front.into()))
    }
}

/// What a value is, so that readers and schemas know how to take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueKind {
    /// One line of text.
    String,
    /// A JSON number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Any JSON, kept in one canonical form.
    Json,
    /// Text of any number of lines.
    Text,
    /// Bytes.
    Binary,
    /// The name of a secret: never its value.
    Secret,
}

impl ValueKind {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::String, Self::Number, Self::Boolean, Self::Json, Self::Text, Self::Binary, Self::Secret];

    /// As people read it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Json => "json",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Secret => "secret",
        }
    }
}

impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ValueKind {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == text);
        let why = "wants string, number, boolean, json, text, binary or secret";
        found.ok_or_else(|| ParseError::new("kind of value", text, why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_names_joined_by_slashes() {
        let path: NamespacePath = "shop/prod/eu".parse().expect("a path");
        assert_eq!(path.front().map(|front| front.to_string()), Some("shop/prod".into()));
        assert_eq!(path.front().and_then(|front| front.front()).and_then(|front| front.front()), None);
        for bad in ["", "/", "shop/", "/shop", "shop//eu", "Shop", "a/b/c/d/e/f/g/h/i", &"x/".repeat(200)] {
            assert!(bad.parse::<NamespacePath>().is_err(), "{bad:?}");
        }
        let wrong = "shop/Prod/eu".parse::<NamespacePath>().expect_err("upper case");
        assert!(wrong.to_string().contains("Prod (part 2 of shop/Prod/eu)"), "{wrong}");
    }

    #[test]
    fn a_key_has_no_empty_part_and_none_of_dots() {
        for good in ["a", "db.pool/size", "A_b-c.d", "..a", &"k".repeat(256)] {
            assert!(good.parse::<ConfigKey>().is_ok(), "{good:?}");
        }
        for bad in ["", "/a", "a/", "a//b", "..", "a/./b", "a b", "ä", &"k".repeat(257)] {
            assert!(bad.parse::<ConfigKey>().is_err(), "{bad:?}");
        }
        let wrong = "a/../b".parse::<ConfigKey>().expect_err("dots");
        assert!(wrong.to_string().contains(".. (part 2 of a/../b)"), "{wrong}");
    }
}
