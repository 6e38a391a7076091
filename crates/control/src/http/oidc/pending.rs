//! Logins that were sent to a provider and have not come back.
//!
//! Each comes back once at most, in time, to the browser that began it, from the provider it was sent to.

use crate::http::session;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use types::{Name, Timestamp, limits};

/// The SHA-256 of a secret.
type Key = [u8; 32];

/// One login under way.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Where it was sent to.
    pub(super) provider: Name,
    /// The SHA-256 of what its browser's cookie holds.
    pub(super) browser: Key,
    /// The sessions that the browser has here: on its way back from another site it does not show them.
    pub(super) had: Vec<session::Key>,
    /// What the provider has to put into its word, so that an older word is none.
    pub(super) nonce: String,
    /// What shows the provider that the code is used by whoever asked for it.
    pub(super) verifier: String,
    /// The page to go on with.
    pub(super) to: String,
    pub(super) begun: Timestamp,
}

/// All of one server, by the SHA-256 of their states.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<BTreeMap<Key, Waiting>>);

impl Pending {
    /// Adds one; the oldest makes room.
    pub(super) fn add(&self, state: &str, waiting: Waiting) {
        let mut all = self.lock();
        let now = waiting.begun;
        all.retain(|_, other| is_in_time(other, now));
        if all.len() >= limits::LOGINS_PENDING {
            let oldest = all.iter().min_by_key(|(_, other)| other.begun).map(|(key, _)| *key);
            oldest.map(|oldest| all.remove(&oldest));
        }
        all.insert(hashed(state), waiting);
    }

    /// Takes the one of a state, if it comes back in time, from this provider, in the browser that has this
    /// secret. It is gone afterwards, whoever brought it.
    pub(super) fn take(&self, state: &str, provider: &str, browser: &str, now: Timestamp) -> Option<Waiting> {
        let waiting = self.lock().remove(&hashed(state))?;
        let fits = waiting.provider.as_str() == provider && waiting.browser == hashed(browser);
        (fits && is_in_time(&waiting, now)).then_some(waiting)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A clock that was set back ends it: nobody knows how old it is then.
fn is_in_time(waiting: &Waiting, now: Timestamp) -> bool {
    now >= waiting.begun && now.since(waiting.begun) < limits::LOGIN_PENDING
}

/// What is kept of a secret.
pub(super) fn hashed(secret: &str) -> Key {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_763_673_600_000);

    fn waiting(begun: Timestamp) -> Waiting {
        Waiting {
            provider: "corp".parse().expect("a name"),
            browser: hashed("cookie"),
            had: Vec::new(),
            nonce: "n".into(),
            verifier: "v".into(),
            to: "/".into(),
            begun,
        }
    }

    #[test]
    fn a_login_comes_back_once_in_time_from_where_it_was_sent_to_the_browser_that_began_it() {
        let pending = Pending::default();
        let (late, early) = (NOW.plus(limits::LOGIN_PENDING), Timestamp::from_ms(NOW.as_ms() - 1));
        for (state, provider, browser, now, fits) in [
            ("s", "corp", "cookie", NOW, true),
            ("other", "corp", "cookie", NOW, false),
            ("s", "other", "cookie", NOW, false),
            ("s", "corp", "other", NOW, false),
            ("s", "corp", "", NOW, false),
            ("s", "corp", "cookie", late, false),
            ("s", "corp", "cookie", early, false),
        ] {
            pending.add("s", waiting(NOW));
            let taken = pending.take(state, provider, browser, now).is_some();
            assert_eq!(taken, fits, "{state} {provider} {browser} {now}");
            let again = pending.take("s", "corp", "cookie", NOW).is_some();
            assert_eq!(again, state == "other", "once, whoever brought it");
        }
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        let pending = Pending::default();
        for nth in 0..limits::LOGINS_PENDING as u64 + 5 {
            pending.add(&nth.to_string(), waiting(Timestamp::from_ms(NOW.as_ms() + nth)));
        }
        assert_eq!(pending.lock().len(), limits::LOGINS_PENDING);
        let now = NOW.plus(types::DurationMs::from_secs(60));
        assert!(pending.take("4", "corp", "cookie", now).is_none());
        assert!(pending.take("5", "corp", "cookie", now).is_some());
    }
}
