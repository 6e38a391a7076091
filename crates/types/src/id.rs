//! Ids: 128 bits, a 48-bit millisecond time first, so that they sort by birth.
//!
//! Text form is `prefix_` and 26 letters of Crockford base 32 (the ULID form); in binary formats
//! an id is 16 bytes. Ids are made by [`AppId::from_parts`] from a time and randomness that the
//! caller brings: this crate has no clock and no dice.

use crate::{ParseError, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn encode(value: u128) -> [u8; 26] {
    let mut out = [0; 26];
    for (place, byte) in out.iter_mut().enumerate() {
        *byte = ALPHABET[(value >> (125 - 5 * place)) as usize & 31];
    }
    out
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != 26 || text.as_bytes()[0] > b'7' {
        return None;
    }
    text.bytes().try_fold(0u128, |sum, byte| {
        let digit = ALPHABET.iter().position(|known| *known == byte.to_ascii_uppercase())?;
        Some(sum << 5 | digit as u128)
    })
}

/// What all ids share: made from time and randomness, printed, parsed, stored as 16 bytes.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// An id born at `time`, told apart from its peers by the low 80 bits of `random`.
            pub const fn from_parts(time: Timestamp, random: u128) -> Self {
                Self((time.as_ms() as u128 & 0xFFFF_FFFF_FFFF) << 80 | random & ((1 << 80) - 1))
            }

            /// The id with exactly these bits.
            pub const fn from_u128(bits: u128) -> Self {
                Self(bits)
            }

            /// All 128 bits.
            pub const fn as_u128(self) -> u128 {
                self.0
            }

            /// When the id was born, by the clock of whoever made it.
            pub const fn time(self) -> Timestamp {
                Timestamp::from_ms((self.0 >> 80) as u64)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(std::str::from_utf8(&encode(self.0)).expect("the alphabet is ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;
            fn from_str(text: &str) -> Result<Self, ParseError> {
                text.strip_prefix($prefix)
                    .and_then(decode)
                    .map(Self)
                    .ok_or_else(|| ParseError::new(stringify!($name), text, concat!("wants ", $prefix, "<26 letters of base 32>")))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() { to.collect_str(self) } else { self.0.to_be_bytes().serialize(to) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                if from.is_human_readable() {
                    String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; 16]>::deserialize(from).map(|bytes| Self(u128::from_be_bytes(bytes)))
                }
            }
        }
    };
}

id!(/** An organisation: the owner of apps. */ OrgId, "org_");
id!(/** An app. */ AppId, "app_");
id!(/** An environment of an app: the wall for secrets, configuration and routes. */ EnvId, "env_");
id!(/** A release: one canonical manifest with a pinned image. */ ReleaseId, "rel_");
id!(/** One attempt to bring an environment to a release. */ DeployId, "dep_");
id!(/** One isolated copy of a process. */ InstanceId, "ins_");
id!(/** A route from a listener to a process. */ RouteId, "rte_");
id!(/** A machine that runs an agent, an edge or both. */ NodeId, "nod_");
id!(/** A bearer token; never the secret itself. */ TokenId, "tok_");
id!(/** Somebody who may log in: a member of an org. */ PersonId, "per_");
id!(/** A namespace of configuration. */ NamespaceId, "ns_");
id!(/** A change of configuration that is reviewed before it is published. */ ChangeId, "chg_");
id!(/** What ties log lines of one piece of work together; has no meaning in the domain. */ Correlation, "cor_");

id!(
    /** A request: made fresh for each intent by whoever intends, and the key to its one outcome.

    Text form is a bare ULID. A UUIDv7 is taken too: both begin with 48 bits of milliseconds. */
    RawRequestId, ""
);

/// The id of a request. Parses a ULID or a UUIDv7; always prints the ULID form of the same bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(RawRequestId);

impl RequestId {
    /// A request id born at `time`; see [`AppId::from_parts`].
    pub const fn from_parts(time: Timestamp, random: u128) -> Self {
        Self(RawRequestId::from_parts(time, random))
    }
    /// The id with exactly these bits.
    pub const fn from_u128(bits: u128) -> Self {
        Self(RawRequestId::from_u128(bits))
    }
    /// All 128 bits.
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }
    /// When the client says the request was made.
    pub const fn time(self) -> Timestamp {
        self.0.time()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for RequestId {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Ok(id) = text.parse() {
            return Ok(Self(id));
        }
        let error = || ParseError::new("RequestId", text, "wants a ULID or a UUIDv7");
        let groups: Vec<&str> = text.split('-').collect();
        let shape: Vec<usize> = groups.iter().map(|group| group.len()).collect();
        if shape != [8, 4, 4, 4, 12] || !groups[2].starts_with('7') || !text.is_ascii() {
            return Err(error());
        }
        u128::from_str_radix(&groups.concat(), 16).map(Self::from_u128).map_err(|_| error())
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(to)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
        } else {
            RawRequestId::deserialize(from).map(Self)
        }
    }
}

impl From<u64> for NodeId {
    /// The node of this number: for suites of tests that count their nodes.
    fn from(number: u64) -> Self {
        Self::from_u128(u128::from(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_prints_and_parses_to_itself() {
        let id = AppId::from_parts(Timestamp::from_ms(1_763_673_600_123), 0xDEAD_BEEF);
        assert_eq!(id.to_string().parse::<AppId>(), Ok(id));
        assert_eq!(id.time().as_ms(), 1_763_673_600_123);
        assert!(id.to_string().starts_with("app_01"));
        assert!("env_01ARZ3NDEKTSV4RRFFQ69G5FAV".parse::<AppId>().is_err());
    }

    #[test]
    fn ids_sort_by_time() {
        let early = AppId::from_parts(Timestamp::from_ms(1), u128::MAX);
        let late = AppId::from_parts(Timestamp::from_ms(2), 0);
        assert!(early < late && early.to_string() < late.to_string());
    }

    #[test]
    fn a_request_id_is_a_ulid_or_a_uuid_of_version_7() {
        let uuid: RequestId = "019aa2f0-0f4b-7d3a-8c55-1b2f0a9e7d11".parse().expect("a UUIDv7");
        assert_eq!(uuid.time().as_ms(), 0x019a_a2f0_0f4b);
        assert_eq!(uuid.to_string().parse::<RequestId>(), Ok(uuid));
        assert!("019aa2f0-0f4b-4d3a-8c55-1b2f0a9e7d11".parse::<RequestId>().is_err(), "a UUIDv4 has no time");
        assert!("nonsense".parse::<RequestId>().is_err());
    }
}
