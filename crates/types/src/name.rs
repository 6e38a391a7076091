//! Names that people choose, and digests that content chooses. Valid once made.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// Why a piece of text is not a value of the wanted type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a valid {what}: {why}")]
pub struct ParseError {
    /// The wanted type, for people.
    pub what: &'static str,
    /// What was given, cut to 80 characters.
    pub text: String,
    /// The rule it breaks.
    pub why: &'static str,
}

impl ParseError {
    /// A refusal of `text`, which was to be a `what`, because of `why`.
    pub fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        Self { what, text: text.chars().take(80).collect(), why }
    }
}

macro_rules! checked_text {
    ($(#[$doc:meta])* $name:ident, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                let check: fn(&str) -> Result<(), &'static str> = $check;
                check(text).map_err(|why| ParseError::new($what, text, why))?;
                Ok(Self(text.into()))
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

fn label(text: &str) -> Result<(), &'static str> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > 63 {
        return Err("wants 1 to 63 characters");
    }
    if !text.bytes().all(inner) {
        return Err("wants lower-case letters, digits and hyphens only");
    }
    if text.starts_with('-') || text.ends_with('-') {
        return Err("must not begin or end with a hyphen");
    }
    Ok(())
}

checked_text!(
    /** The name of an org, app, environment, process, port, volume or node: one DNS label. */
    Name, "name", label
);

checked_text!(
    /** A host name as an edge matches it: lower case, no final dot, at most 253 characters. */
    HostName, "host name", |text| {
        if text.is_empty() || text.len() > 253 {
            return Err("wants 1 to 253 characters");
        }
        if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
            return Err("an address is not a host name");
        }
        text.split('.').try_for_each(|part| label(part).map_err(|_| {
            "wants labels of lower-case letters, digits and hyphens, joined by dots"
        }))
    }
);

checked_text!(
    /** What content hashes to: `sha256:` and 64 lower-case hexadecimal digits. */
    Digest, "digest", |text| {
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) => Ok(()),
            _ => Err("wants sha256: and 64 lower-case hexadecimal digits"),
        }
    }
);

checked_text!(
    /** The name of one secret value, as a program reads it from its environment file. */
    SecretKey, "secret name", |text| {
        let ok = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if text.is_empty() || text.len() > 128 || !text.bytes().all(ok) || text.as_bytes()[0].is_ascii_digit() {
            return Err("wants upper-case letters, digits and underscores, not beginning with a digit");
        }
        Ok(())
    }
);

impl Digest {
    /// The 64 hexadecimal digits, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// The digest with these 32 bytes.
    pub fn from_sha256(bytes: [u8; 32]) -> Self {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("sha256:{hex}").into())
    }
}

impl HostName {
    /// Takes a name as a client or a person writes it: any case, one final dot allowed.
    pub fn from_wire(text: &str) -> Result<Self, ParseError> {
        text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase().parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        assert!("web-1".parse::<Name>().is_ok());
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn host_names_lose_case_and_final_dot_on_the_wire_only() {
        assert_eq!(HostName::from_wire("Shop.Example.").expect("valid").as_str(), "shop.example");
        for bad in ["Shop.example", "a..b", "10.0.0.1", "", ".", "a b"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
    }
}
