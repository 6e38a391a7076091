//! The edge's own counts, read from its metrics page.

use crate::{Outcome, http::get_plain};
use std::{collections::BTreeMap, time::Duration};

/// Connections that the backend ended before the client did, by instance.
pub const CLOSED_FIRST: &str = "holdfast_edge_backend_closed_first_total";
/// Connections open now, by instance.
pub const OPEN: &str = "holdfast_edge_backend_open";

/// One reading of a metrics page in the Prometheus text format.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Reads the page at a loopback port.
    ///
    /// # Errors
    /// The page does not answer.
    pub fn read(port: u16) -> Outcome<Self> {
        let answer = get_plain(&format!("127.0.0.1:{port}"), "/metrics", Duration::from_secs(5))?;
        Ok(Self::parse(&String::from_utf8_lossy(&answer.body)))
    }

    /// Reads the text format; comments and lines that are not samples are passed over.
    pub fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        Self(
            samples
                .filter_map(|line| line.rsplit_once(' '))
                .filter_map(|(series, value)| Some((series.to_owned(), value.parse().ok()?)))
                .collect(),
        )
    }

    /// The series `name` for one instance; 0 when the edge has not counted anything there yet.
    pub fn of_instance(&self, name: &str, instance: &str) -> u64 {
        let label = format!("instance=\"{instance}\"");
        let matching = self.0.iter().filter(|(series, _)| {
            series.split_once('{').is_some_and(|(metric, labels)| metric == name && labels.contains(&label))
        });
        matching.map(|(_, value)| *value as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_found_by_instance() {
        let metrics =
            Metrics::parse("# TYPE a counter\na{instance=\"ins_1\"} 3\na{instance=\"ins_2\"} 4\nb 9\n");
        assert_eq!(metrics.of_instance("a", "ins_2"), 4);
        assert_eq!(metrics.of_instance("a", "ins_3"), 0);
    }
}
