//! Floods: of one source so many attempts are written in a window, and the rest is counted.

use api::AuditMore;
use std::collections::BTreeMap;
use types::{Timestamp, limits};

/// What is to be done with an attempt that may be one of a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is written.
    Written,
    /// It is counted.
    Counted,
}

/// The windows that are open, by source.
#[derive(Debug, Default)]
pub(super) struct Floods(BTreeMap<String, Window>);

#[derive(Debug)]
struct Window {
    opened: Timestamp,
    written: u64,
    more: Option<AuditMore>,
}

/// Stands for every source that is one too many to be told apart.
const OTHERS: &str = "other sources";

impl Floods {
    /// One more attempt of a source.
    pub(super) fn count(&mut self, source: &str, at: Timestamp) -> Verdict {
        let is_new = !self.0.contains_key(source);
        let source = if is_new && self.0.len() >= limits::FLOOD_SOURCES { OTHERS } else { source };
        let window = self.0.entry(source.to_owned());
        let window = window.or_insert_with(|| Window { opened: at, written: 0, more: None });
        if window.written < limits::FLOOD_LINES {
            window.written += 1;
            return Verdict::Written;
        }
        let more = window.more.get_or_insert(AuditMore { count: 0, from: at, until: at });
        (more.count, more.until) = (more.count + 1, at.max(more.until));
        Verdict::Counted
    }

    /// Closes the windows that are over, or all of them; says what each counted.
    pub(super) fn close(&mut self, now: Option<Timestamp>) -> Vec<(String, AuditMore)> {
        let is_over = |window: &Window| match now {
            Some(now) => now.since(window.opened) >= limits::FLOOD_WINDOW || now < window.opened,
            None => true,
        };
        let over: Vec<String> =
            self.0.iter().filter(|(_, window)| is_over(window)).map(|(source, _)| source.clone()).collect();
        let closed = over.into_iter().filter_map(|source| {
            let more = self.0.remove(&source)?.more?;
            Some((source, more))
        });
        closed.collect()
    }
}

/// Where somebody asks from, as windows tell sources apart: one machine has a whole network of IPv6.
pub(crate) fn source(address: std::net::IpAddr) -> String {
    match address.to_canonical() {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            match address.is_loopback() {
                true => address.to_string(),
                false => format!("{}/64", std::net::Ipv6Addr::from(network)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_a_bounded_number_of_lines_and_one_that_counts_the_rest() {
        let mut floods = Floods::default();
        let at = |second: u64| Timestamp::from_ms(second * 1000);
        let mut written = 0;
        for nth in 0..1254 {
            written += u64::from(floods.count("10.0.0.1", at(10 + nth / 100)) == Verdict::Written);
        }
        assert_eq!(written, limits::FLOOD_LINES);
        assert_eq!(floods.count("10.0.0.2", at(11)), Verdict::Written, "another source has its own window");
        assert_eq!(floods.close(Some(at(69))), []);
        let more = AuditMore { count: 1234, from: at(10), until: at(22) };
        assert_eq!(floods.close(Some(at(70))), [("10.0.0.1".to_owned(), more)]);
        assert_eq!(floods.count("10.0.0.1", at(71)), Verdict::Written);
        assert_eq!(floods.close(None), [], "nothing was counted since");
    }

    #[test]
    fn sources_are_bounded_too() {
        let mut floods = Floods::default();
        for nth in 0..2 * limits::FLOOD_SOURCES {
            floods.count(&format!("source {nth}"), Timestamp::ZERO);
        }
        assert_eq!(floods.0.len(), limits::FLOOD_SOURCES + 1);
        let counted: u64 = floods.close(None).iter().map(|(_, more)| more.count).sum();
        assert_eq!(counted, limits::FLOOD_SOURCES as u64 - limits::FLOOD_LINES);
    }

    #[test]
    fn one_machines_addresses_are_one_source() {
        for (address, wanted) in [
            ("10.0.0.1", "10.0.0.1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
            ("::1", "::1"),
        ] {
            assert_eq!(source(address.parse().expect("an address")), wanted);
        }
    }
}
