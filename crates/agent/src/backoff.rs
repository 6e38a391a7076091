//! How long to wait before the next try.

use std::time::Duration;
use types::{DurationMs, limits};

/// A wait that doubles with each failure, between two bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    min: DurationMs,
    max: DurationMs,
    failures: u32,
}

impl Backoff {
    /// Between starts of a crashing instance.
    pub(crate) const fn restart() -> Self {
        Self { min: limits::RESTART_BACKOFF_MIN, max: limits::RESTART_BACKOFF_MAX, failures: 0 }
    }

    /// Between calls of a control plane that does not answer.
    pub(crate) const fn link() -> Self {
        Self { min: limits::AGENT_RETRY_MIN, max: limits::AGENT_RETRY_MAX, failures: 0 }
    }

    /// The wait after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let doubled = self.min.as_ms().saturating_mul(1 << self.failures.min(32));
        self.failures = self.failures.saturating_add(1);
        DurationMs::from_ms(doubled.min(self.max.as_ms())).into()
    }

    /// All is well: the next failure is the first again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Something between half of a wait and the whole, so that many that failed together do not come
/// back together. The spread comes from the clock: nothing depends on its quality.
pub(crate) fn jittered(wait: Duration) -> Duration {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    wait / 2 + wait / 2 * (now.subsec_nanos() % 1000) / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_bound_and_begin_again() {
        let mut backoff = Backoff::restart();
        let waits: Vec<u128> = (0..12).map(|_| backoff.next().as_millis()).collect();
        assert_eq!(waits[..5], [250, 500, 1000, 2000, 4000]);
        assert_eq!(waits[11], 60_000);
        backoff.reset();
        assert_eq!(backoff.next().as_millis(), 250);
        assert!(jittered(Duration::from_secs(2)) >= Duration::from_secs(1));
    }
}
