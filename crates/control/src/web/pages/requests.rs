//! What became of a request, as the log tells.

use crate::web::{
    acts, forms,
    frame::{Place, Renewed},
    parts,
    visit::Visit,
};
use api::{
    RequestState, RequestVerdict,
    routes::{self, fill},
};
use axum::response::Response;
use maud::{Markup, html};
use types::Timestamp;

/// `GET /requests`, with an id to look up.
pub(in crate::web) async fn show(visit: Visit) -> Response {
    let asked = visit.asked("id").map(|id| id.trim().to_owned()).filter(|id| !id.is_empty());
    let content = match &asked {
        None => Ok(html! {}),
        Some(id) => visit.get::<RequestState>(&fill(routes::REQUEST, &[id])).await.map(|state| {
            html! {
                (render(&state, visit.now))
                @if state.state == RequestVerdict::NotSeen {
                    (forms::section(&visit, &[(&acts::VOID, Vec::new())], &[("id", id)]))
                }
            }
        }),
    };
    let content = content.map(|found| html! { h1 { "Requests" } (search(asked.as_deref())) (found) });
    visit.page(Place::Requests, "Requests", Renewed::ByEvents, content)
}

fn search(asked: Option<&str>) -> Markup {
    html! {
        form method="get" action="/requests" role="search" aria-label="Requests" {
            p {
                label for="request" { "Request id" }
                input #request name="id" value=[asked] required spellcheck="false" autocomplete="off"
                    aria-describedby="about-request";
                button { "Look it up" }
            }
            p #about-request .note {
                "Forms and commands that write to the log name their request, and the log knows what became of \
                 it, also when the answer was lost. It has none for what is about one member or who sequences \
                 (promotion, handover, fence, snapshot) and for backups: see " a href="/cluster" { "Cluster" } "."
            }
        }
    }
}

fn render(state: &RequestState, now: Timestamp) -> Markup {
    let word = match state.state {
        RequestVerdict::Executed => "executed",
        RequestVerdict::Refused => "refused: it had no effect",
        RequestVerdict::Voided => "voided: it may never run",
        RequestVerdict::Expired => "expired: it may never run, and whether it did is not known here any more",
        RequestVerdict::NotSeen => "not seen so far: it may still arrive",
    };
    html! {
        section #verdict data-renewed aria-labelledby="verdict-heading" {
            h2 #verdict-heading { "What became of it" }
            dl {
                dt { "Request" } dd { span .id { (state.request_id) } }
                dt { "Verdict" } dd { (word) }
                dt { "Final" } dd { @if state.is_final { "yes" } @else { "no" } }
                @if let Some(event) = state.event {
                    dt { "Event" }
                    dd { a href={ "/events?after=" (event.get().saturating_sub(1)) } { (event) } }
                }
                @if let Some(at) = state.at { dt { "When" } dd { (parts::time(at, now)) } }
                @if let Some(code) = state.code { dt { "Code" } dd { code { (code) } } }
                @if let Some(reason) = &state.reason { dt { "Why" } dd { (reason) } }
            }
        }
        (parts::command(&format!("holdfast requests show {}", state.request_id)))
    }
}
