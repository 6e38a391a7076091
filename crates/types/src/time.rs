//! Points in time and spans of it, in milliseconds. Whoever has a clock makes them; see `rt::Clock`.

use crate::ParseError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// Milliseconds since 1970-01-01T00:00:00Z, by the clock of whoever wrote it down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The start of 1970.
    pub const ZERO: Self = Self(0);
    /// From milliseconds since 1970.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }
    /// Milliseconds since 1970.
    pub const fn as_ms(self) -> u64 {
        self.0
    }
    /// Later by `span`; stops at the end of time.
    pub const fn plus(self, span: DurationMs) -> Self {
        Self(self.0.saturating_add(span.0))
    }
    /// Earlier by `span`; stops at 1970.
    pub const fn minus(self, span: DurationMs) -> Self {
        Self(self.0.saturating_sub(span.0))
    }
    /// How long after `earlier` this is; nothing if it is not.
    pub const fn since(self, earlier: Self) -> DurationMs {
        DurationMs(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC. The civil date is computed as in Howard Hinnant's `civil_from_days`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = ((self.0 / 86_400_000) as i64, self.0 % 86_400_000);
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let day_of_era = z.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted + 2) / 5 + 1;
        let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
        let year = year_of_era + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
    }
}

/// A span of time in milliseconds. Text form is a whole number and `ms`, `s`, `m`, `h` or `d`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DurationMs(u64);

const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

impl DurationMs {
    /// This many milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }
    /// This many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds * 1000)
    }
    /// The milliseconds.
    pub const fn as_ms(self) -> u64 {
        self.0
    }
}

impl From<DurationMs> for std::time::Duration {
    fn from(span: DurationMs) -> Self {
        Self::from_millis(span.0)
    }
}

impl FromStr for DurationMs {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = |why| ParseError::new("duration", text, why);
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (count, unit) = text.split_at(digits);
        let (_, factor) = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(|| error("wants a whole number and a unit: ms, s, m, h or d, as in \"5s\""))?;
        let count: u64 =
            count.parse().map_err(|_| error("wants a whole number before the unit, as in \"5s\""))?;
        count.checked_mul(*factor).map(Self).ok_or_else(|| error("is more than can be counted"))
    }
}

impl fmt::Display for DurationMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, factor) = UNITS
            .iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
            .unwrap_or(&("ms", 1));
        write!(f, "{}{unit}", self.0 / factor)
    }
}

impl Serialize for DurationMs {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { self.0.serialize(to) }
    }
}

impl<'de> Deserialize<'de> for DurationMs {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
        } else {
            u64::deserialize(from).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_print_as_rfc_3339() {
        assert_eq!(Timestamp::from_ms(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_ms(951_782_400_000).to_string(), "2000-02-29T00:00:00.000Z");
        assert_eq!(Timestamp::from_ms(1_795_219_199_999).to_string(), "2026-11-20T23:59:59.999Z");
    }

    #[test]
    fn durations_print_in_their_largest_whole_unit() {
        assert_eq!("90s".parse::<DurationMs>().map(|d| d.to_string()), Ok("90s".into()));
        assert_eq!("120s".parse::<DurationMs>().map(|d| d.to_string()), Ok("2m".into()));
        assert!("5".parse::<DurationMs>().is_err());
        assert!("5 s".parse::<DurationMs>().is_err());
    }
}
