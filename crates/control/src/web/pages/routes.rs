//! Routes: the ways in, and who may take their connections.

use super::{more, place, rows};
use crate::web::{
    frame::{Place, Renewed},
    parts::{self, Table},
    visit::Visit,
};
use api::{
    RouteRow,
    routes::{self, fill},
};
use axum::response::Response;
use maud::{Markup, html};
use types::manifest::RouteMode;

/// `GET /routes`
pub(in crate::web) async fn show(visit: Visit) -> Response {
    let page = rows::<RouteRow>(&visit, &fill(routes::ROUTES, &[visit.org()])).await;
    let content =
        page.map(|page| html! { h1 { "Routes" } (table(&page.rows)) (more(&visit, page.next.as_deref())) });
    visit.page(Place::Routes, "Routes", Renewed::ByEvents, content)
}

/// A table of routes.
pub(super) fn table(rows: &[RouteRow]) -> Markup {
    let row = |route: &RouteRow| {
        let (app, env) = (route.app.as_str(), route.env.as_str());
        vec![
            match route.mode {
                RouteMode::Tls => html! { (parts::or_dash(route.host.as_ref())) " (TLS by server name)" },
                RouteMode::Tcp => html! { "port " (parts::or_dash(route.listen)) " (TCP)" },
            },
            html! { a href=(place(app, env)) { (app) "/" (env) } },
            html! { (route.process) " " (route.port) },
            html! { (route.state) },
            html! {
                @if route.backends.is_empty() { "no instance" }
                @for (count, backend) in route.backends.iter().enumerate() {
                    @if count > 0 { br; }
                    span .id { (backend.address) }
                }
            },
        ]
    };
    Table {
        id: "routes",
        caption: "Routes",
        headings: &["Way in", "Environment", "Process and port", "State", "Sent to"],
        rows: rows.iter().map(row).collect(),
        empty: "there are none",
    }
    .show()
}
