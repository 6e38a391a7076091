//! What the writer of the log counts, for `/metrics`. Counting never waits for anybody.

use crate::writer::Answer;
use log::AppendError;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Upper bounds of the buckets of every histogram, in seconds: from a write to a fast disk to a call that
/// its client has given up.
pub(crate) const BUCKETS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Kinds of refusals counted one by one; what comes later is counted as `other`.
const CODES: usize = 64;

/// How long something took, in buckets.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Not cumulative; the last takes what is above all bounds.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

/// A histogram as it was at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Counted {
    /// How many took at most as long as each bound of [`BUCKETS`].
    pub(crate) at_most: [u64; BUCKETS.len()],
    /// How many there were.
    pub(crate) count: u64,
    /// How long all of them took, in seconds.
    pub(crate) sum: f64,
}

impl Histogram {
    /// Counts one that took this long.
    pub(crate) fn took(&self, time: Duration) {
        let seconds = time.as_secs_f64();
        let at = BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BUCKETS.len());
        self.buckets[at].fetch_add(1, Relaxed);
        self.micros.fetch_add(u64::try_from(time.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    /// What was counted. The count is that of the buckets, so that the two never disagree.
    pub(crate) fn counted(&self) -> Counted {
        let mut sum = 0;
        let mut at_most = [0; BUCKETS.len()];
        for (at, bucket) in self.buckets.iter().enumerate() {
            sum += bucket.load(Relaxed);
            if let Some(place) = at_most.get_mut(at) {
                *place = sum;
            }
        }
        Counted { at_most, count: sum, sum: self.micros.load(Relaxed) as f64 / 1e6 }
    }
}

/// How commands ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Ending {
    Executed,
    Refused,
    NoSpace,
    Unavailable,
    Unknown,
}

impl Ending {
    pub(crate) const ALL: [(Self, &'static str); 5] = [
        (Self::Executed, "executed"),
        (Self::Refused, "refused"),
        (Self::NoSpace, "no_space"),
        (Self::Unavailable, "unavailable"),
        (Self::Unknown, "unknown"),
    ];
}

/// What one server's writer has done since its start.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    /// From handing a batch to the log until it is durable.
    pub(crate) append: Histogram,
    /// Batches that the log did not confirm.
    append_failures: AtomicU64,
    /// Times that this node began to sequence.
    pub(crate) leads_begun: AtomicU64,
    endings: [AtomicU64; Ending::ALL.len()],
    refusals: Mutex<BTreeMap<String, u64>>,
}

impl Figures {
    /// Notes what became of a batch.
    pub(crate) fn appended<T>(&self, time: Duration, result: &Result<T, AppendError>) {
        match result {
            Ok(_) => self.append.took(time),
            Err(_) => drop(self.append_failures.fetch_add(1, Relaxed)),
        }
    }

    /// Notes what a command was answered.
    pub(crate) fn answered(&self, answer: &Answer) {
        let ending = match answer {
            Answer::Executed { .. } => Ending::Executed,
            Answer::Refused { code, .. } => {
                self.refused(code);
                Ending::Refused
            }
            Answer::Unavailable { storage_full: true, .. } => Ending::NoSpace,
            Answer::Unavailable { .. } => Ending::Unavailable,
            Answer::Unknown { .. } => Ending::Unknown,
        };
        self.endings[ending as usize].fetch_add(1, Relaxed);
    }

    fn refused(&self, code: &str) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let code = if refusals.contains_key(code) || refusals.len() < CODES { code } else { "other" };
        *refusals.entry(code.to_owned()).or_default() += 1;
    }

    pub(crate) fn append_failures(&self) -> u64 {
        self.append_failures.load(Relaxed)
    }

    pub(crate) fn ended(&self, ending: Ending) -> u64 {
        self.endings[ending as usize].load(Relaxed)
    }

    /// Refused commands by problem code.
    pub(crate) fn refusals(&self) -> BTreeMap<String, u64> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_each_once_and_what_is_above_all_bounds_too() {
        let histogram = Histogram::default();
        for ms in [0, 1, 3, 3, 60_000] {
            histogram.took(Duration::from_millis(ms));
        }
        let counted = histogram.counted();
        assert_eq!(counted.count, 5);
        assert_eq!(counted.at_most[0], 1, "0 ms is within half a millisecond");
        assert_eq!(counted.at_most[1], 2, "a bound belongs to its bucket");
        assert_eq!(counted.at_most[BUCKETS.len() - 1], 4, "a minute is above them all");
        assert!((counted.sum - 60.007).abs() < 1e-9, "{}", counted.sum);
        assert!(BUCKETS.is_sorted());
    }

    #[test]
    fn kinds_of_refusals_are_bounded() {
        let figures = Figures::default();
        for nth in 0..CODES + 10 {
            let code = format!("code_{nth}");
            figures.answered(&Answer::Refused { code, text: String::new(), event: None, replayed: false });
        }
        let refusals = figures.refusals();
        assert_eq!((refusals.len(), refusals["other"]), (CODES + 1, 10));
        assert_eq!(figures.ended(Ending::Refused), CODES as u64 + 10);
    }
}
