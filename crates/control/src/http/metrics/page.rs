//! A page of figures under way, in Prometheus' text form (exposition format 0.0.4).

use crate::figures::{BUCKETS, Histogram};
use std::fmt::{Display, Write};

/// The text so far. Every name is written once, with its help and its type before its lines.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    pub(super) fn into_text(self) -> String {
        self.0
    }

    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = write!(self.0, "# HELP holdfast_{name} {help}\n# TYPE holdfast_{name} {kind}\n");
    }

    pub(super) fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _infallible = writeln!(self.0, "holdfast_{name}{labels} {value}");
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.line(name, &[], value);
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "counter", help);
        self.line(name, &[], value);
    }

    /// One line for each of a closed set of values of one label.
    pub(super) fn by<V: Display>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        label: &str,
        lines: impl IntoIterator<Item = (&'static str, V)>,
    ) {
        self.head(name, kind, help);
        for (key, value) in lines {
            self.line(name, &[(label, key)], value);
        }
    }

    pub(super) fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let counted = histogram.counted();
        let bucket = format!("{name}_bucket");
        for (bound, count) in BUCKETS.iter().zip(counted.at_most) {
            self.line(&bucket, &[("le", &bound.to_string())], count);
        }
        self.line(&bucket, &[("le", "+Inf")], counted.count);
        self.line(&format!("{name}_sum"), &[], counted.sum);
        self.line(&format!("{name}_count"), &[], counted.count);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_break_out_of_its_line() {
        let mut page = Page::default();
        page.line("x", &[("name", "a\"b\\c\nd")], 1);
        assert_eq!(page.into_text(), "holdfast_x{name=\"a\\\"b\\\\c\\nd\"} 1\n");
    }

    #[test]
    fn a_histogram_ends_with_all_its_counts() {
        let (mut page, histogram) = (Page::default(), Histogram::default());
        histogram.took(std::time::Duration::from_millis(2));
        page.histogram("wait_seconds", "A wait.", &histogram);
        let text = page.into_text();
        for line in [
            "_bucket{le=\"0.001\"} 0",
            "_bucket{le=\"0.0025\"} 1",
            "_bucket{le=\"+Inf\"} 1",
            "_sum 0.002",
            "_count 1",
        ] {
            assert!(text.contains(&format!("\nholdfast_wait_seconds{line}\n")), "{line}: {text}");
        }
    }
}
