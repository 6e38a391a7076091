//! Read views: how far each is, and what its content hashes to.

use crate::web::{
    acts, forms,
    frame::{Place, Renewed},
    parts::Table,
    visit::{Answer, Visit},
};
use api::{Page, ViewRow, routes};
use axum::response::Response;
use maud::{Markup, html};

/// `GET /views`
pub(in crate::web) async fn show(visit: Visit) -> Response {
    let page: Answer<Page<ViewRow>> = visit.get(routes::VIEWS).await;
    let content = page.map(|page| {
        let all: Vec<(String, String)> =
            page.rows.iter().map(|row| (row.name.clone(), row.name.clone())).collect();
        let which = vec![forms::Input::choice("name", "View", &all)];
        html! { (render(&page.rows)) (forms::section(&visit, &[(&acts::REBUILD, which)], &[])) }
    });
    visit.page(Place::Views, "Views", Renewed::ByEvents, content)
}

fn render(rows: &[ViewRow]) -> Markup {
    let row = |view: &ViewRow| {
        vec![
            html! { (view.name) },
            html! { (view.checkpoint) },
            html! { (view.behind) },
            html! { (view.quarantined.as_deref().unwrap_or("no")) },
            html! { span .id { (view.fingerprint) } },
        ]
    };
    let table = Table {
        id: "views",
        caption: "Read views of this member",
        headings: &["View", "Up to event", "Events behind", "Set aside", "Fingerprint"],
        rows: rows.iter().map(row).collect(),
        empty: "there are none",
    };
    html! {
        h1 { "Views" }
        p { "A view is a fold over the log. Equal content has an equal fingerprint, on every member." }
        (table.show())
    }
}
