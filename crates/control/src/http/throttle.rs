//! How often somebody may try: failed logins by name and address, requests by asker.
//!
//! All in memory and bounded: when it is full, what was quiet for longest is forgotten.

use super::answer::Refused;
use api::{Code, Problem};
use domain::Actor;
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;
use types::limits;

/// Failed logins, and what came of logins in all.
#[derive(Debug, Default)]
pub(super) struct Logins {
    names: Mutex<Window<String>>,
    addresses: Mutex<Window<IpAddr>>,
    opened: AtomicU64,
    failed: AtomicU64,
    turned_away: AtomicU64,
}

impl Logins {
    /// What came of logins, by outcome.
    pub(super) fn counts(&self) -> [(&'static str, u64); 3] {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [("opened", of(&self.opened)), ("failed", of(&self.failed)), ("turned_away", of(&self.turned_away))]
    }

    /// Counts a try before it is made, so that many at once are not more than are allowed.
    pub(super) fn begin(&self, name: &str, address: Option<IpAddr>) -> Result<(), Refused> {
        // The address first: one that is kept out must not keep others out by their names.
        self.begin_from(address)?;
        let limit = limits::LOGIN_FAILURES_PER_NAME;
        match locked(&self.names).count(name.to_owned(), limit, Instant::now()) {
            None => Ok(()),
            Some(wait) => Err(self.turn_away(wait)),
        }
    }

    /// The same for a login by way of a provider: whose it will be is not known yet. Of one's own machine
    /// everybody has the same address, so that nobody there is told apart by it.
    pub(super) fn begin_from(&self, address: Option<IpAddr>) -> Result<(), Refused> {
        let Some(address) = address.filter(|address| !address.to_canonical().is_loopback()) else {
            return Ok(());
        };
        let (key, limit) = (network(address), limits::LOGIN_FAILURES_PER_ADDRESS);
        match locked(&self.addresses).count(key, limit, Instant::now()) {
            None => Ok(()),
            Some(wait) => Err(self.turn_away(wait)),
        }
    }

    fn turn_away(&self, wait: Duration) -> Refused {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        too_fast("too many logins failed under this name or from this address", wait)
    }

    /// Somebody is in.
    pub(super) fn opened(&self) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    /// It was the right password: this try and those under the name are forgiven.
    pub(super) fn forgive(&self, name: &str, address: Option<IpAddr>) {
        locked(&self.names).counted.remove(name);
        self.forgive_from(address);
    }

    /// The provider vouched for whoever it was: this try is forgiven.
    pub(super) fn forgive_from(&self, address: Option<IpAddr>) {
        if let Some(address) = address {
            locked(&self.addresses).forgive(&network(address));
        }
    }

    /// It was not.
    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Who has a whole network of IPv6 to themselves is one address.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => IpAddr::V6((u128::from(six) & !(u128::MAX >> 64)).into()),
        four => four,
    }
}

/// How many in a window that begins with the first.
#[derive(Debug)]
struct Window<K> {
    counted: BTreeMap<K, (Instant, u32)>,
}

impl<K> Default for Window<K> {
    fn default() -> Self {
        Self { counted: BTreeMap::new() }
    }
}

impl<K: Ord + Clone> Window<K> {
    /// One more, or how long until there may be one.
    fn count(&mut self, key: K, limit: u32, now: Instant) -> Option<Duration> {
        let window = Duration::from(limits::LOGIN_WINDOW);
        if !self.counted.contains_key(&key) && self.counted.len() >= limits::LOGIN_COUNTED {
            let oldest = self.counted.iter().min_by_key(|(_, (since, _))| *since).map(|(key, _)| key.clone());
            oldest.map(|oldest| self.counted.remove(&oldest));
        }
        let (since, count) = self.counted.entry(key).or_insert((now, 0));
        if now.duration_since(*since) >= window {
            (*since, *count) = (now, 0);
        }
        if *count >= limit {
            return Some(window.saturating_sub(now.duration_since(*since)));
        }
        *count += 1;
        None
    }

    fn forgive(&mut self, key: &K) {
        if let Some((_, count)) = self.counted.get_mut(key) {
            *count = count.saturating_sub(1);
        }
    }
}

/// Requests of each asker: a bucket that fills by so many in a second, up to a burst.
#[derive(Debug)]
pub(super) struct Pace {
    rate: u32,
    burst: u32,
    buckets: Mutex<BTreeMap<Actor, Bucket>>,
    turned_away: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Pace {
    /// Nobody has asked yet.
    pub(super) fn new(rate: u32, burst: u32) -> Self {
        Self { rate, burst, buckets: Mutex::default(), turned_away: AtomicU64::new(0) }
    }

    /// Requests that came too fast.
    pub(super) fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Takes one request of this asker. Nodes have no such limit: what they say is bounded elsewhere,
    /// and a node that is turned away loses its lease.
    pub(super) fn take(&self, asker: Actor) -> Result<(), Refused> {
        if matches!(asker, Actor::Node(_) | Actor::System) {
            return Ok(());
        }
        let Some(wait) = self.wait(asker, Instant::now()) else { return Ok(()) };
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        let detail = format!("more than {} requests in a second", self.rate);
        Err(too_fast(&detail, wait))
    }

    fn wait(&self, asker: Actor, now: Instant) -> Option<Duration> {
        let (rate, full) = (f64::from(self.rate), f64::from(self.burst));
        let mut buckets = locked(&self.buckets);
        if !buckets.contains_key(&asker) && buckets.len() >= limits::ASKERS_COUNTED {
            let oldest = buckets.iter().min_by_key(|(_, bucket)| bucket.at).map(|(asker, _)| *asker);
            oldest.map(|oldest| buckets.remove(&oldest));
        }
        let bucket = buckets.entry(asker).or_insert(Bucket { left: full, at: now });
        bucket.left = (bucket.left + rate * now.duration_since(bucket.at).as_secs_f64()).min(full);
        bucket.at = now;
        if bucket.left < 1.0 {
            return Some(Duration::from_secs_f64((1.0 - bucket.left) / rate));
        }
        bucket.left -= 1.0;
        None
    }
}

fn locked<T>(all: &Mutex<T>) -> MutexGuard<'_, T> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}

fn too_fast(detail: &str, wait: Duration) -> Refused {
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let problem = Problem::new(Code::RateLimited, detail).with_hint(format!("try again in {seconds}s"));
    Problem { retry_after_s: Some(seconds.max(1)), ..problem }.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::TokenId;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_taken_and_then_as_many_as_the_rate_says() {
        let (pace, asker) = (Pace::new(50, 200), Actor::Token(TokenId::from_u128(1)));
        for _ in 0..200 {
            assert!(pace.take(asker).is_ok());
        }
        let refused = pace.take(asker).expect_err("too fast").problem;
        assert_eq!((refused.code, refused.retry_after_s), (Code::RateLimited, Some(1)));
        assert!(pace.take(Actor::Token(TokenId::from_u128(2))).is_ok(), "another asker is not slowed");
        tokio::time::advance(Duration::from_millis(100)).await;
        let taken = (0..200).filter(|_| pace.take(asker).is_ok()).count();
        assert_eq!((taken, pace.turned_away()), (5, 1 + 195));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_counted_is_bounded() {
        let (pace, logins) = (Pace::new(1, 1), Logins::default());
        for nth in 0..limits::ASKERS_COUNTED as u128 + 100 {
            assert!(pace.take(Actor::Token(TokenId::from_u128(nth))).is_ok());
        }
        assert_eq!(locked(&pace.buckets).len(), limits::ASKERS_COUNTED);
        for nth in 0..limits::LOGIN_COUNTED + 100 {
            assert!(logins.begin(&nth.to_string(), None).is_ok());
        }
        assert_eq!(locked(&logins.names).counted.len(), limits::LOGIN_COUNTED);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_waits_after_too_many_failures_and_so_does_an_address() {
        let (logins, here) = (Logins::default(), Some(IpAddr::from([192, 0, 2, 1])));
        for _ in 0..limits::LOGIN_FAILURES_PER_NAME {
            assert!(logins.begin("ann", here).is_ok());
        }
        assert!(logins.begin("ann", Some(IpAddr::from([192, 0, 2, 2]))).is_err(), "whatever the address");
        for nth in 0..limits::LOGIN_FAILURES_PER_ADDRESS - limits::LOGIN_FAILURES_PER_NAME {
            assert!(logins.begin(&format!("b{nth}"), here).is_ok());
        }
        for _ in 0..limits::LOGIN_FAILURES_PER_NAME {
            assert!(logins.begin("carl", here).is_err(), "whatever the name");
        }
        let elsewhere = Some(IpAddr::from([192, 0, 2, 3]));
        assert!(logins.begin("carl", elsewhere).is_ok(), "who is kept out keeps out nobody else");
        tokio::time::advance(limits::LOGIN_WINDOW.into()).await;
        assert!(logins.begin("ann", here).is_ok());
        logins.forgive("ann", here);
        assert!(!locked(&logins.names).counted.contains_key("ann"));
    }

    #[tokio::test(start_paused = true)]
    async fn logins_by_way_of_a_provider_are_counted_by_address_and_forgiven() {
        let (logins, here) = (Logins::default(), Some(IpAddr::from([192, 0, 2, 1])));
        for _ in 0..limits::LOGIN_FAILURES_PER_ADDRESS * 2 {
            assert!(logins.begin_from(here).is_ok());
            logins.forgive_from(here);
        }
        for _ in 0..limits::LOGIN_FAILURES_PER_ADDRESS {
            assert!(logins.begin_from(here).is_ok());
        }
        assert!(logins.begin_from(here).is_err() && logins.begin("ann", here).is_err());
        assert!(logins.begin_from(Some(IpAddr::from([192, 0, 2, 2]))).is_ok());
        tokio::time::advance(limits::LOGIN_WINDOW.into()).await;
        assert!(logins.begin_from(here).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn those_of_one_machine_are_told_apart_by_name_alone() {
        let logins = Logins::default();
        for nth in 0..limits::LOGIN_FAILURES_PER_ADDRESS * 2 {
            let here = if nth % 2 == 0 { "127.0.0.1" } else { "::ffff:127.0.0.1" };
            assert!(logins.begin(&format!("a{nth}"), here.parse().ok()).is_ok());
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let of = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:1"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
