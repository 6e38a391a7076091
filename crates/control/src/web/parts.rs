//! What pages are made of: times with their age, tables, problems, facts.

use api::{Outcome, Problem, TokenRow};
use maud::{Markup, html};
use serde_json::Value;
use types::{ByteSize, Timestamp};

/// A point in time and how long ago it was. The script keeps the age right while the page is open.
pub(super) fn time(at: Timestamp, now: Timestamp) -> Markup {
    let whole = at.to_string();
    let (date, clock) = (whole.get(..10).unwrap_or_default(), whole.get(11..19).unwrap_or_default());
    html! {
        time datetime=(whole) { (date) " " (clock) " UTC" }
        " (" span data-since=(at.as_ms()) { (ago(at, now)) } ")"
    }
}

/// The same, if there is one.
pub(super) fn maybe_time(at: Option<Timestamp>, now: Timestamp, otherwise: &str) -> Markup {
    match at {
        Some(at) => time(at, now),
        None => html! { (otherwise) },
    }
}

fn ago(at: Timestamp, now: Timestamp) -> String {
    match at > now {
        true => format!("in {}", span(at.since(now).as_ms())),
        false => format!("{} ago", span(now.since(at).as_ms())),
    }
}

/// A span in its largest unit, rounded down: nothing looks older than it is by more than that.
pub(super) fn span(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// A size for people: three digits at least, rounded down.
pub(super) fn size(size: ByteSize) -> String {
    let bytes = size.bytes();
    let (shift, unit) = match bytes {
        0..10_240 => return format!("{bytes} B"),
        10_240..10_485_760 => (10, "KiB"),
        10_485_760..10_737_418_240 => (20, "MiB"),
        _ => (30, "GiB"),
    };
    format!("{} {unit}", bytes >> shift)
}

/// Whatever is there, or a dash that a screen reader names.
pub(super) fn or_dash(value: Option<impl std::fmt::Display>) -> Markup {
    match value {
        Some(value) => html! { (value.to_string()) },
        None => html! { span aria-label="none" role="img" { "–" } },
    }
}

/// Whether a token opens anything.
pub(super) fn state_of(token: &TokenRow, now: Timestamp) -> Markup {
    html! {
        @if token.revoked { "revoked" }
        @else if token.expires.is_some_and(|end| end <= now) { "expired" }
        @else { "valid" }
    }
}

/// A table that a screen reader can walk: a caption, a heading for each column, and the first cell of a
/// row as the row's. It is renewed while the page is open if `id` is not empty.
pub(super) struct Table<'a> {
    pub(super) id: &'a str,
    pub(super) caption: &'a str,
    pub(super) headings: &'a [&'a str],
    pub(super) rows: Vec<Vec<Markup>>,
    /// What is said where there is nothing.
    pub(super) empty: &'a str,
}

impl Table<'_> {
    pub(super) fn show(&self) -> Markup {
        html! {
            div id=[(!self.id.is_empty()).then_some(self.id)] data-renewed[!self.id.is_empty()] {
                @if self.rows.is_empty() {
                    p { strong { (self.caption) } ": " (self.empty) }
                } @else {
                    div .scroll role="region" aria-label=(self.caption) tabindex="0" {
                        table {
                            caption { (self.caption) }
                            thead { tr { @for heading in self.headings { th scope="col" { (heading) } } } }
                            tbody {
                                @for row in &self.rows {
                                    tr {
                                        @for (place, cell) in row.iter().enumerate() {
                                            @if place == 0 { th scope="row" { (cell) } } @else { td { (cell) } }
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What became of something, in words.
pub(super) const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Executed => "executed",
        Outcome::NotExecuted => "not executed",
        Outcome::Unknown => "not known",
    }
}

/// A problem, whole: what happened, what became of the request, what to do next.
pub(super) fn problem(problem: &Problem) -> Markup {
    html! {
        section .problem role="alert" {
            h2 { (problem.title) }
            p { (problem.detail) }
            dl {
                dt { "Code" } dd { code { (problem.code) } }
                dt { "What became of it" }
                dd { (outcome(problem.outcome)) }
                @if let Some(path) = &problem.path { dt { "Where" } dd { code { (path) } } }
                @if let Some(hint) = &problem.hint { dt { "What to do next" } dd { (hint) } }
                @if let Some(id) = &problem.request_id {
                    dt { "Request" }
                    dd { a href={ "/requests?id=" (id) } { (id) } }
                }
            }
        }
    }
}

/// Facts of any shape: an object as terms and values, a list of objects as a table.
pub(super) fn facts(caption: &str, value: &Value) -> Markup {
    match value {
        Value::Array(rows) if rows.iter().all(Value::is_object) && !rows.is_empty() => {
            let mut headings: Vec<&str> = Vec::new();
            for key in rows.iter().filter_map(Value::as_object).flat_map(|row| row.keys()) {
                if !headings.contains(&key.as_str()) {
                    headings.push(key);
                }
            }
            let cell = |row: &Value, key: &str| html! { (word(row.get(key).unwrap_or(&Value::Null))) };
            let rows = rows.iter().map(|row| headings.iter().map(|key| cell(row, key)).collect()).collect();
            Table { id: "", caption, headings: &headings, rows, empty: "nothing" }.show()
        }
        Value::Object(fields) if fields.is_empty() => html! {},
        Value::Object(fields) => html! {
            dl { @for (name, value) in fields { dt { (name) } dd { (word(value)) } } }
        },
        Value::Null => html! {},
        other => html! { p { (caption) ": " (word(other)) } },
    }
}

/// A value in one line.
pub(super) fn word(value: &Value) -> String {
    match value {
        Value::Null => "not known".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Array(all) if all.is_empty() => "none".to_owned(),
        Value::Array(all) => all.iter().map(word).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(name, value)| format!("{name} {}", word(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

/// A list of sentences under a heading; nothing where there are none.
pub(super) fn sentences(heading: &str, all: &[String]) -> Markup {
    html! {
        @if !all.is_empty() {
            h2 { (heading) }
            ul { @for one in all { li { (one) } } }
        }
    }
}

/// One command of the command line.
pub(super) fn command(line: &str) -> Markup {
    html! { p .command { "The same from the command line: " code { (line) } } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_time_says_how_long_ago_it_was() {
        let (at, now) = (Timestamp::from_ms(951_782_400_000), Timestamp::from_ms(951_782_465_000));
        let text = time(at, now).into_string();
        assert!(text.contains("2000-02-29 00:00:00 UTC") && text.contains("65 s ago"), "{text}");
        assert!(time(now, at).into_string().contains("in 65 s"));
        for (ms, text) in [(999, "999 ms"), (119_999, "119 s"), (120_000, "2 min"), (172_800_000, "2 d")] {
            assert_eq!(span(ms), text);
        }
        assert_eq!(size(ByteSize::from_mib(512)), "512 MiB");
        assert_eq!(size(ByteSize::from_bytes(17)), "17 B");
    }

    #[test]
    fn whatever_comes_from_outside_is_escaped() {
        let evil = "<script>alert(1)</script>\"'&";
        let problem_ = Problem::new(api::Code::NotFound, evil).with_hint(evil).with_path(evil);
        let row = json!([{ "a": evil, evil: [evil, { "b": evil }] }]);
        let rows = vec![vec![html! { (evil) }]];
        let table = Table { id: "x", caption: evil, headings: &[evil], rows, empty: evil };
        for made in [
            problem(&problem_),
            facts(evil, &row),
            facts("x", &row[0]),
            facts(evil, &json!(evil)),
            sentences(evil, &[evil.to_owned()]),
            command(evil),
            table.show(),
            or_dash(Some(evil)),
        ] {
            let text = made.into_string();
            assert!(!text.contains("<script") && text.contains("&lt;script"), "{text}");
            assert!(!text.contains("\"'&\""), "an attribute cannot be left: {text}");
        }
    }

    #[test]
    fn facts_of_rows_are_a_table_with_every_column() {
        let text = facts("Members", &json!([{ "name": "one" }, { "name": "two", "lag": 3, "up": true }]));
        let text = text.into_string();
        for part in ["<caption>Members</caption>", "<th scope=\"col\">lag</th>", "not known", "<td>yes</td>"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
