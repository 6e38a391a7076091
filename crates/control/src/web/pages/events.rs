//! What happened: a page of events, the newest first, with who caused each and by which request.

use crate::web::{
    frame::{Place, Renewed},
    parts::{self, Table},
    visit::{Answer, Visit},
};
use api::{EventPage, EventRow, Ready, routes};
use axum::response::Response;
use maud::{Markup, html};
use types::{EventId, Timestamp};

/// Events on a page.
const EVENTS: u64 = 50;

/// The columns of [`row`].
pub(super) const HEADINGS: &[&str] = &["Event", "When", "What", "About", "Who", "Request", "Because of"];

/// `GET /events`
pub(in crate::web) async fn show(visit: Visit) -> Response {
    let asked = visit.asked("after").and_then(|after| after.parse::<u64>().ok());
    let content = collect(&visit, asked).await.map(|(after, page)| render(&page, after, visit.now));
    // The newest page follows the log; an older one stays where it was asked for.
    let renewed = if asked.is_none() { Renewed::ByEvents } else { Renewed::Never };
    visit.page(Place::Events, "Events", renewed, content)
}

async fn collect(visit: &Visit, asked: Option<u64>) -> Answer<(u64, EventPage)> {
    let after = match asked {
        Some(after) => after,
        None => {
            let head = match visit.get::<Ready>(routes::HEALTH_READY).await {
                Ok(ready) => ready.applied,
                // Reads go on without a quorum.
                Err(_) => visit.get::<EventPage>(&format!("{}?after=0&limit=1", routes::EVENTS)).await?.head,
            };
            head.get().saturating_sub(EVENTS)
        }
    };
    let page = visit.get(&format!("{}?after={after}&limit={EVENTS}", routes::EVENTS)).await?;
    Ok((after, page))
}

fn render(page: &EventPage, after: u64, now: Timestamp) -> Markup {
    let last = page.events.last().map_or(after, |event| event.id.get());
    let table = Table {
        id: "events",
        caption: "Events, the newest first",
        headings: HEADINGS,
        rows: page.events.iter().rev().map(|event| row(event, now)).collect(),
        empty: "there are none here that you may see",
    };
    html! {
        h1 { "Events" }
        (table.show())
        nav aria-label="Pages of events" {
            ul {
                @if after > 0 {
                    li { a href={ "/events?after=" (after.saturating_sub(EVENTS)) } { "Older" } }
                }
                @if EventId::new(last) < page.head {
                    li { a href={ "/events?after=" (last) } { "Newer" } }
                }
                li { a href="/events" { "The newest" } }
            }
        }
    }
}

/// An event in a table.
pub(super) fn row(event: &EventRow, now: Timestamp) -> Vec<Markup> {
    vec![
        html! { (event.id) },
        parts::time(event.at, now),
        html! {
            (event.kind)
            details {
                summary { "What it says" }
                (parts::facts("It says", &event.data))
            }
        },
        html! { (event.subject.kind) " " span .id { (event.subject.id) } },
        html! { span .id { (event.actor) } },
        match &event.request_id {
            Some(id) => html! { a .id href={ "/requests?id=" (id) } { (id) } },
            None => parts::or_dash(None::<u8>),
        },
        match event.cause {
            Some(cause) => {
                html! { a href={ "/events?after=" (cause.get().saturating_sub(1)) } { "event " (cause) } }
            }
            None => parts::or_dash(None::<u8>),
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_says_who_and_why_and_nothing_of_it_is_markup() {
        let page: EventPage = serde_json::from_value(json!({ "head": 60, "events": [{
            "id": 51, "at": 1000, "kind": "deploy.started", "version": 1,
            "subject": { "type": "deploy", "id": "dep_1", "sequence": 1 }, "actor": "tok_<i>", "epoch": 1,
            "cause": 50, "data": { "<b>": { "reason": "<script>" } } }] }))
        .expect("a page");
        let text = render(&page, 50, Timestamp::from_ms(2000)).into_string();
        for part in ["tok_&lt;i&gt;", "&lt;b&gt;", "reason &lt;script&gt;", "after=49", "Older", "Newer"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("<script>"), "{text}");
    }
}
