//! Amounts of memory and processor time.

use crate::ParseError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// A number of bytes. Text form is a whole number and one of `B`, `Ki`, `Mi`, `Gi`, `Ti`.
///
/// The unit is never left out: `256` could mean bytes or mebibytes, and a wrong guess is an outage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

const UNITS: [(&str, u32); 5] = [("Ti", 40), ("Gi", 30), ("Mi", 20), ("Ki", 10), ("B", 0)];

impl ByteSize {
    /// This many bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }
    /// This many mebibytes.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib << 20)
    }
    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let error = |why| ParseError::new("size", text, why);
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let (digits, unit) = (digits.trim_end(), &text[digits.len()..]);
        if unit.is_empty() {
            return Err(error("wants a unit: B, Ki, Mi, Gi or Ti, as in \"256Mi\""));
        }
        let (_, shift) = UNITS.iter().find(|(known, _)| *known == unit).ok_or_else(|| {
            error("its unit is not known; the units are B, Ki, Mi, Gi and Ti, as in \"256Mi\"")
        })?;
        let count: u64 =
            digits.parse().map_err(|_| error("wants a whole number before the unit, as in \"256Mi\""))?;
        count.checked_mul(1 << shift).map(Self).ok_or_else(|| error("is more than can be counted"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, shift) = UNITS
            .iter()
            .find(|(_, shift)| self.0 != 0 && self.0.trailing_zeros() >= *shift)
            .unwrap_or(&("B", 0));
        write!(f, "{}{unit}", self.0 >> shift)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { self.0.serialize(to) }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
        } else {
            u64::deserialize(from).map(Self)
        }
    }
}

/// Processor time in thousandths of one core. In readable formats it is a number of cores: `0.5`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MilliCpu(u32);

impl MilliCpu {
    /// This many thousandths of a core.
    pub const fn new(milli: u32) -> Self {
        Self(milli)
    }
    /// The thousandths.
    pub const fn get(self) -> u32 {
        self.0
    }
    /// From a number of cores, rounded to a thousandth; `None` unless finite and within 0..=1024.
    pub fn from_cores(cores: f64) -> Option<Self> {
        (cores.is_finite() && (0.0..=1024.0).contains(&cores)).then(|| Self((cores * 1000.0).round() as u32))
    }
}

impl fmt::Display for MilliCpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(self.0) / 1000.0)
    }
}

impl Serialize for MilliCpu {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { (f64::from(self.0) / 1000.0).serialize(to) } else { self.0.serialize(to) }
    }
}

impl<'de> Deserialize<'de> for MilliCpu {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            Self::from_cores(f64::deserialize(from)?)
                .ok_or_else(|| serde::de::Error::custom("cpu wants a number of cores from 0 to 1024"))
        } else {
            u32::deserialize(from).map(Self)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_needs_its_unit() {
        assert_eq!("256Mi".parse(), Ok(ByteSize::from_mib(256)));
        assert_eq!("1Gi".parse::<ByteSize>().map(|size| size.to_string()), Ok("1Gi".into()));
        assert!("256".parse::<ByteSize>().expect_err("no unit").why.contains("unit"));
        assert!("99999999999Ti".parse::<ByteSize>().is_err());
        assert!("-1Mi".parse::<ByteSize>().is_err());
    }
}
