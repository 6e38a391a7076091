//! Counters that order things: events, epochs, generations, terms and log indexes.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u64);

        impl $name {
            /// Before the first.
            pub const ZERO: Self = Self(0);
            /// The counter at exactly this value.
            pub const fn new(value: u64) -> Self {
                Self(value)
            }
            /// The plain number.
            pub const fn get(self) -> u64 {
                self.0
            }
            /// The next one.
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
            /// This many further on.
            pub const fn plus(self, count: u64) -> Self {
                Self(self.0 + count)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = std::num::ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

counter!(/** The place of an event in the one order: 1, 2, 3, … without gaps. 0 is before the first. */ EventId);
counter!(/** Who has authority, counted: opened by one committed entry, never lowered. */ Epoch);
counter!(/** The age of a plan: the id of the last event that changed it. */ Generation);
counter!(/** A consensus term. A log on one disk keeps it at 1. */ Term);
counter!(/** The place of an entry in the log. Entries carry zero or more events. */ Index);

impl Generation {
    /// The generation of a plan last changed by this event.
    pub const fn of(event: EventId) -> Self {
        Self(event.0)
    }
}
