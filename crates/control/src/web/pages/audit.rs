//! What anybody attempted: of the log and of every member's journal, and whose journal could not be read.

use crate::web::{
    frame::{Place, Renewed},
    parts::{self, Table},
    visit::{Answer, Visit},
};
use api::{
    AuditJournal, AuditPage, AuditRow, AuditType, Code, Outcome, Problem,
    routes::{self, fill},
    shell::quoted,
};
use axum::response::Response;
use maud::{Markup, html};
use types::{DurationMs, Timestamp, limits};

/// Rows on a page: each with its body still makes a page that is there at once.
const ROWS: usize = 30;
/// From the first row on, where another page would name a cursor.
const BEGINNING: &str = "beginning";
/// What can be chosen, as the page's own query and the flags of the command line name it.
const CHOICES: [&str; 4] = ["type", "outcome", "actor", "since"];

/// What was asked for.
#[derive(Default)]
struct Asked {
    /// Of [`CHOICES`], in their order.
    chosen: [Option<String>; 4],
    /// Behind which row; none for the last ones.
    from: Option<String>,
}

/// `GET /audit`, with what is wanted
pub(in crate::web) async fn show(visit: Visit) -> Response {
    let asked = Asked::of(|name| visit.asked(name));
    let content = collect(&visit, &asked).await;
    let content = content.map(|page| render(&page, &asked, visit.now));
    // The last rows follow what happens; others stay where they were asked for.
    let renewed = if asked.from.is_none() { Renewed::ByEventsAndTime } else { Renewed::Never };
    visit.page(Place::Audit, "Audit", renewed, content)
}

async fn collect(visit: &Visit, asked: &Asked) -> Answer<AuditPage> {
    visit.get(&asked.path(visit.now)?).await
}

impl Asked {
    fn of(asked: impl Fn(&str) -> Option<String>) -> Self {
        let said = |name| asked(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        Self { chosen: CHOICES.map(said), from: said("from") }
    }

    fn chosen(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let pairs = CHOICES.iter().zip(&self.chosen);
        pairs.filter_map(|(name, value)| Some((*name, value.as_deref()?)))
    }

    /// The path of the API.
    fn path(&self, now: Timestamp) -> Answer<String> {
        let mut path = format!("{}?limit={ROWS}", routes::AUDIT);
        match self.from.as_deref() {
            None => path.push_str(&format!("&last={ROWS}")),
            Some(BEGINNING) => {}
            Some(cursor) => path.push_str(&pair("cursor", cursor)),
        }
        for (name, value) in self.chosen() {
            if name != "since" {
                path.push_str(&pair(name, value));
                continue;
            }
            let age = value.parse::<DurationMs>().map_err(|_| {
                let problem = Problem::new(Code::InvalidRequest, "wants a span, as in 30m, 2h or 7d");
                Box::new(problem.with_path("since"))
            })?;
            path.push_str(&format!("&since={}", now.minus(age).as_ms()));
        }
        Ok(path)
    }

    /// This page, behind another row.
    fn link(&self, from: Option<&str>) -> String {
        let chosen = self.chosen().map(|(name, value)| pair(name, value));
        let pairs: String = chosen.chain(from.map(|from| pair("from", from))).collect();
        format!("/audit?{}", pairs.trim_start_matches('&'))
    }

    fn command(&self) -> String {
        let mut words = match self.from {
            None => format!("holdfast audit --limit {ROWS}"),
            Some(_) => "holdfast audit --all".to_owned(),
        };
        for (name, value) in self.chosen() {
            words.push_str(&format!(" --{name} {}", quoted(value)));
        }
        words
    }
}

fn pair(name: &str, value: &str) -> String {
    format!("&{name}={}", &fill("/{value}", &[value])[1..])
}

fn render(page: &AuditPage, asked: &Asked, now: Timestamp) -> Markup {
    let row = |row| row_of(row, &page.journals, now);
    let (caption, rows) = match asked.from {
        None => ("What was attempted, the last first", page.rows.iter().rev().map(row).collect()),
        Some(_) => ("What was attempted, the first first", page.rows.iter().map(row).collect()),
    };
    let table = Table {
        id: "attempts",
        caption,
        headings: &["When", "Type", "Outcome", "Who", "What", "Why", "Stands in"],
        rows,
        empty: if page.earlier {
            "none of those that were looked at fits"
        } else {
            "there is nothing here that fits"
        },
    };
    html! {
        h1 { "Audit" }
        (choice(asked))
        (unread(&page.journals, now))
        (table.show())
        @if page.earlier {
            p .note {
                "Only the last " (limits::AUDIT_SCAN) " lines of each journal and events of the log were looked at. "
                "From the beginning, all are."
            }
        }
        nav aria-label="Pages of the audit" {
            ul {
                li { a href=(asked.link(Some(BEGINNING))) { "From the beginning" } }
                @if page.more { li { a href=(asked.link(Some(&page.cursor))) { "Next page" } } }
                li { a href=(asked.link(None)) { "The last" } }
            }
        }
        (parts::command(&asked.command()))
        (journals(&page.journals, now))
        p .note {
            "Whether every journal is as it was written, this says: "
            code { "holdfast audit verify" }
        }
    }
}

/// The form that chooses.
fn choice(asked: &Asked) -> Markup {
    let [kind, outcome, actor, since] = asked.chosen.each_ref().map(Option::as_deref);
    let outcomes = [Outcome::Executed, Outcome::NotExecuted, Outcome::Unknown];
    html! {
        form .choose method="get" action="/audit" role="search" aria-label="Audit" {
            p {
                label for="type" { "Type" }
                select #type name="type" {
                    option value="" { "every" }
                    @for each in AuditType::ALL {
                        option value=(each.as_str()) selected[kind == Some(each.as_str())] { (each.as_str()) }
                    }
                }
            }
            p {
                label for="outcome" { "Outcome" }
                select #outcome name="outcome" {
                    option value="" { "every" }
                    @for each in outcomes {
                        @let word = each.to_string();
                        option value=(word) selected[outcome == Some(&*word)] { (parts::outcome(each)) }
                    }
                }
            }
            p {
                label for="actor" { "Who" }
                input #actor name="actor" value=[actor] spellcheck="false" autocomplete="off";
            }
            p {
                label for="since" { "Not longer ago than, as in 2h" }
                input #since name="since" value=[since] spellcheck="false" autocomplete="off";
            }
            p { button { "Show" } }
        }
    }
}

/// Which journals could not be read, and what is shown of them.
fn unread(journals: &[AuditJournal], now: Timestamp) -> Markup {
    let unread = journals.iter().filter_map(|journal| Some((journal, journal.unread.as_deref()?)));
    html! {
        div #unread data-renewed {
            @for (journal, why) in unread {
                section .problem {
                    p { strong { "The journal of " (journal.name) " could not be read: " } (why) }
                    p {
                        @match (journal.as_of, journal.last_line) {
                            (Some(at), Some(line)) => {
                                "What is shown of it was read " (parts::time(at, now)) " and ends at line " (line) "."
                            }
                            _ => "Nothing of it is shown.",
                        }
                    }
                }
            }
        }
    }
}

fn journals(journals: &[AuditJournal], now: Timestamp) -> Markup {
    let row = |journal: &AuditJournal| {
        vec![
            html! { (journal.name) },
            html! { (journal.unread.as_deref().unwrap_or("was read")) },
            parts::maybe_time(journal.as_of, now, "nothing of it is shown"),
            parts::or_dash(journal.last_line),
        ]
    };
    Table {
        id: "journals",
        caption: "Journals",
        headings: &["Member", "State", "As of", "Last line"],
        rows: journals.iter().map(row).collect(),
        empty: "there is none",
    }
    .show()
}

fn row_of(row: &AuditRow, journals: &[AuditJournal], now: Timestamp) -> Vec<Markup> {
    let call = format!("{} {}", row.request.method, row.request.path);
    let what = row.act.clone().unwrap_or_else(|| call.trim().to_owned());
    vec![
        parts::time(row.at, now),
        html! { (row.kind.as_str()) },
        html! { (parts::outcome(row.outcome)) },
        html! { span .id { (row.actor) } },
        html! {
            (what)
            details {
                summary { "All of it" }
                (whole(row))
            }
        },
        html! { @if let Some(code) = &row.code { code { (code) } ": " } (row.reason) },
        stands_in(row, journals),
    ]
}

/// Where a row is written.
fn stands_in(row: &AuditRow, journals: &[AuditJournal]) -> Markup {
    let Some(node) = row.node else {
        return html! { a href={ "/events?after=" (row.seq.saturating_sub(1)) } { "event " (row.seq) } };
    };
    let name = journals.iter().find(|journal| journal.node == Some(node)).map(|journal| &journal.name);
    html! {
        @match name { Some(name) => (name), None => span .id { (node) } }
        ", line " (row.seq)
    }
}

/// Everything that a row says.
fn whole(row: &AuditRow) -> Markup {
    let request = &row.request;
    html! {
        dl {
            dt { "Source" } dd { (parts::or_dash(row.source.as_ref())) }
            @if let Some(id) = request.id {
                dt { "Request" } dd { a .id href={ "/requests?id=" (id) } { (id) } }
            }
            @if !request.path.is_empty() {
                dt { "Call" } dd { code { (request.method) " " (request.path) } }
            }
            @if let Some(body) = &request.body { dt { "Body" } dd { pre { (pretty(body)) } } }
            @if let Some(cut) = &request.cut { dt { "Missing of the body" } dd { (cut) } }
            @if let Some(given) = &row.confirmation {
                dt { "Confirmed by" } dd { (given.kind) }
                dt { "Acknowledged" }
                dd { @if given.acknowledged.is_empty() { "nothing" } @else { (given.acknowledged.join(", ")) } }
            }
            @if let Some(more) = row.more {
                dt { "Stands for" } dd { (more.count) ", from " (more.from) " until " (more.until) }
            }
            dt { "Epoch" } dd { (row.epoch) }
            dt { "Last event seen" } dd { (row.last_event) }
        }
        @if let Some(id) = request.id { (parts::command(&format!("holdfast requests show {id}"))) }
    }
}

fn pretty(body: &serde_json::Value) -> String {
    match body {
        serde_json::Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(pairs: &[(&str, &str)]) -> Asked {
        let find = |name: &str| pairs.iter().find(|(known, _)| *known == name);
        Asked::of(|name| find(name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn what_is_chosen_is_asked_of_the_api_linked_and_said_as_a_command() {
        let now = Timestamp::from_ms(10_000_000);
        let asked_ = asked(&[("type", "denied"), ("outcome", ""), ("actor", "a b&c"), ("since", "2h")]);
        assert_eq!(
            asked_.path(now).expect("a path"),
            "/v1/audit?limit=30&last=30&type=denied&actor=a%20b%26c&since=2800000"
        );
        assert_eq!(asked_.link(Some("7.-3")), "/audit?type=denied&actor=a%20b%26c&since=2h&from=7.-3");
        assert_eq!(asked_.command(), "holdfast audit --limit 30 --type denied --actor 'a b&c' --since 2h");
        let wrong = asked(&[("since", "yesterday")]).path(now).expect_err("no span");
        assert_eq!((wrong.code, wrong.path.as_deref()), (Code::InvalidRequest, Some("since")));
        let from = asked(&[("from", "7.-3")]);
        assert_eq!(from.path(now).expect("a path"), "/v1/audit?limit=30&cursor=7.-3");
        assert_eq!(asked(&[("from", BEGINNING)]).path(now).expect("a path"), "/v1/audit?limit=30");
        assert_eq!(from.command(), "holdfast audit --all");
    }

    #[test]
    fn a_row_is_whole_and_escaped_and_a_journal_that_cannot_be_read_is_named_with_its_age() {
        let (one, two) = (types::NodeId::from_u128(1), types::NodeId::from_u128(2));
        let page: AuditPage = serde_json::from_value(json!({ "cursor": "9", "more": true, "rows": [
            { "at": 1000, "type": "refused", "actor": "tok_<i>", "source": "10.0.0.1", "node": two, "seq": 4, "epoch": 1,
              "last_event": 9, "act": "cluster.promote <two>", "code": "stale_confirmation", "outcome": "not_executed",
              "request": { "id": types::RequestId::from_u128(5), "method": "POST", "path": "/v1/<x>",
                           "body": { "password": "[redacted]", "<k>": 1 }, "cut": "100 bytes" },
              "confirmation": { "kind": "person", "acknowledged": ["one_authority"] }, "reason": "<b>moved" },
            { "at": 2000, "type": "more", "actor": "several", "node": one, "seq": 1, "epoch": 1, "last_event": 9,
              "request": {}, "outcome": "not_executed", "reason": "and 7 more", "more": { "count": 7, "from": 1, "until": 2 } },
            { "at": 3000, "type": "executed", "actor": "tok_1", "seq": 9, "epoch": 1, "last_event": 9, "request": {},
              "outcome": "executed", "reason": "" }],
            "journals": [{ "node": one, "name": "one", "as_of": 61000, "last_line": 1 },
                         { "node": two, "name": "two", "unread": "no answer <u>", "as_of": 1000, "last_line": 4 },
                         { "node": types::NodeId::from_u128(3), "name": "three", "unread": "gone" }] }))
        .expect("a page");
        let text = render(&page, &Asked::default(), Timestamp::from_ms(61_000)).into_string();
        for part in [
            "tok_&lt;i&gt;",
            "cluster.promote &lt;two&gt;",
            "&lt;b&gt;moved",
            "[redacted]",
            "&lt;k&gt;",
            "100 bytes",
            "one_authority",
            "stale_confirmation",
            "two, line 4",
            "href=\"/events?after=8\">event 9",
            "The journal of two could not be read: </strong>no answer &lt;u&gt;",
            "60 s ago",
            "ends at line 4",
            "Nothing of it is shown.",
            "7, from ",
            "from=9\">Next page",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(
            text.find("event 9").expect("there") < text.find("two, line 4").expect("there"),
            "the last first"
        );
        assert!(!text.contains("were looked at"), "{text}");
        let none = AuditPage { rows: Vec::new(), earlier: true, ..page };
        let none = render(&none, &Asked::default(), Timestamp::from_ms(61_000)).into_string();
        assert!(
            none.contains("none of those that were looked at fits") && none.contains("Only the last 20000")
        );
        assert!(!text.contains("<u>") && !text.contains("<k>") && !text.contains("<b>"), "{text}");
    }
}
