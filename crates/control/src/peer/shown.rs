//! What a server shows of itself to clients over TLS.
//!
//! A member that has the authority issues itself a certificate for whatever address a client came to, so
//! that what was given the authority's certificate (a browser, curl, what scrapes figures) takes it as any
//! other. It ends, and long before that the next greeting gets another; nothing of it is on disk, and the
//! authority's fingerprint, by which clients of this project know it, stays. It is no member's: nobody who
//! has its key is let in as one.
//!
//! One without the authority (it only reads along) shows its member's certificate, which names no address:
//! enough for whoever knows the fingerprint.

use super::ca::{Authority, CaError, Identity};
use rt::Clock;
use rustls::ServerConfig;
use std::{
    collections::BTreeMap,
    fmt,
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};
use types::{Timestamp, limits};

/// What is shown; cheap to clone.
#[derive(Clone, Debug)]
pub struct Shown(Arc<Kind>);

enum Kind {
    Always(Arc<ServerConfig>),
    Issued(Box<Issuing>),
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always(_) => "Always",
            Self::Issued(_) => "Issued",
        })
    }
}

struct Issuing {
    authority: Authority,
    names: Vec<String>,
    clock: Arc<dyn Clock>,
    /// By the address that clients come to, of those that this machine has.
    made: Mutex<BTreeMap<Option<IpAddr>, Made>>,
}

struct Made {
    config: Arc<ServerConfig>,
    at: Timestamp,
}

impl Made {
    /// A clock that was set back to before its beginning ends it as well.
    fn serves(&self, now: Timestamp) -> bool {
        let last = limits::API_CERTIFICATE_LIFE.as_ms() - limits::API_CERTIFICATE_LEFT.as_ms();
        now.as_ms().saturating_add(limits::PEER_CLOCK_BEHIND.as_ms()) > self.at.as_ms()
            && now.since(self.at).as_ms() < last
    }
}

impl Shown {
    /// The same to everybody, for ever.
    pub fn always(config: ServerConfig) -> Self {
        Self(Arc::new(Kind::Always(Arc::new(config))))
    }

    /// What this authority issues for these names besides the address that a client comes to.
    pub fn issued(authority: Authority, names: Vec<String>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Kind::Issued(Box::new(Issuing { authority, names, clock, made: Mutex::default() }))))
    }

    /// What a member shows whose data directory this is.
    ///
    /// # Errors
    /// Its certificate is of no use.
    pub fn of(
        data_dir: &Path,
        cluster: &str,
        identity: &Identity,
        names: Vec<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, CaError> {
        match Authority::load(data_dir, cluster) {
            Ok(authority) => Ok(Self::issued(authority, names, clock)),
            Err(error) => {
                if !matches!(error, CaError::Missing { .. }) {
                    tracing::warn!(%error, "the API shows the member's certificate, which names no address");
                }
                identity.api().map(Self::always)
            }
        }
    }

    /// To a client that came to this address of the machine.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn to(&self, address: Option<IpAddr>) -> Result<Arc<ServerConfig>, CaError> {
        match &*self.0 {
            Kind::Always(config) => Ok(config.clone()),
            Kind::Issued(issuing) => issuing.to(address),
        }
    }
}

impl Issuing {
    fn to(&self, address: Option<IpAddr>) -> Result<Arc<ServerConfig>, CaError> {
        let now = self.clock.now();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = made.get(&address).filter(|known| known.serves(now)) {
            return Ok(known.config.clone());
        }
        // A machine has few addresses; one whose addresses come and go starts over now and then.
        if made.len() >= limits::API_CERTIFICATES {
            made.clear();
        }
        let names = self.names.iter().cloned().chain(address.map(|address| address.to_string()));
        let config = Arc::new(self.authority.issue_for(names.collect(), now)?);
        made.insert(address, Made { config: config.clone(), at: now });
        Ok(config)
    }
}

/// The hosts of these addresses, `HOST:PORT` or URLs, as a certificate can name them.
pub fn hosts<'a>(addresses: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let host = |address: &'a str| {
        let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
        let authority = rest.split(['/', '#', '?']).next().unwrap_or_default();
        let host = match authority.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => authority,
        };
        host.trim_start_matches('[').trim_end_matches(']').to_owned()
    };
    let named = |host: &String| !host.is_empty() && host.is_ascii();
    std::iter::once("localhost".to_owned()).chain(addresses.into_iter().map(host).filter(named)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rt::SimClock;
    use types::DurationMs;

    const NOW: Timestamp = Timestamp::from_ms(1_763_673_600_000);

    #[test]
    fn hosts_are_found_in_addresses_and_urls() {
        let found = hosts(["one.example:7071", "https://[fd00::1]:7070/x", "https://10.0.0.5", "", "ö:1"]);
        assert_eq!(found, ["localhost", "one.example", "fd00::1", "10.0.0.5"]);
    }

    #[test]
    fn another_is_made_for_each_address_and_long_before_it_ends() {
        let clock = Arc::new(SimClock::new(NOW));
        let authority = Authority::make("ours", NOW).expect("an authority");
        let shown = Shown::issued(authority, hosts(["one.example:7071"]), clock.clone());
        let to = |text: &str| shown.to(Some(text.parse().expect("an address"))).expect("made");
        let first = to("10.0.0.5");
        assert!(Arc::ptr_eq(&first, &to("10.0.0.5")), "it is made once");
        assert!(!Arc::ptr_eq(&first, &to("10.0.0.6")));
        let (life, left) = (limits::API_CERTIFICATE_LIFE.as_ms(), limits::API_CERTIFICATE_LEFT.as_ms());
        clock.advance(DurationMs::from_ms(life - left - 1));
        assert!(Arc::ptr_eq(&first, &to("10.0.0.5")));
        clock.advance(DurationMs::from_ms(1));
        let second = to("10.0.0.5");
        assert!(!Arc::ptr_eq(&first, &second), "made anew");
        clock.set(NOW);
        assert!(!Arc::ptr_eq(&second, &to("10.0.0.5")), "it has not begun on a clock that was set back");
    }

    #[test]
    fn a_machine_with_ever_new_addresses_keeps_few() {
        let authority = Authority::make("ours", NOW).expect("an authority");
        let shown = Shown::issued(authority, Vec::new(), Arc::new(SimClock::new(NOW)));
        for nth in 0..=limits::API_CERTIFICATES {
            let nth = u8::try_from(nth).expect("few");
            shown.to(Some([10, 0, 0, nth].into())).expect("made");
        }
        let Kind::Issued(issuing) = &*shown.0 else { panic!("issued") };
        assert_eq!(issuing.made.lock().expect("whole").len(), 1);
    }
}
