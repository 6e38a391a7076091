//! The apps of the org, with their environments.

use super::{more, place, rows};
use crate::web::{
    acts, forms,
    frame::{Place, Renewed},
    parts::{self, Table},
    visit::Visit,
};
use api::{
    AppRow, Page,
    routes::{self, fill},
};
use axum::response::Response;
use maud::{Markup, html};
use types::Timestamp;

/// `GET /apps`
pub(in crate::web) async fn show(visit: Visit) -> Response {
    let page = rows::<AppRow>(&visit, &fill(routes::APPS, &[visit.org()])).await;
    let content = page.map(|page| {
        html! { (render(&page, visit.now)) (more(&visit, page.next.as_deref())) (change(&visit, &page.rows)) }
    });
    visit.page(Place::Apps, "Apps", Renewed::ByEvents, content)
}

fn render(page: &Page<AppRow>, now: Timestamp) -> Markup {
    let row = |app: &AppRow| {
        vec![
            html! { (app.name) },
            html! {
                @for (count, env) in app.envs.iter().enumerate() {
                    @if count > 0 { ", " }
                    a href=(place(app.name.as_str(), env.as_str())) { (app.name) "/" (env) }
                }
            },
            parts::time(app.created, now),
            html! { span .id { (app.id) } },
        ]
    };
    let table = Table {
        id: "apps",
        caption: "Apps",
        headings: &["App", "Environments", "Made", "Id"],
        rows: page.rows.iter().map(row).collect(),
        empty: "there are none yet; make one with: holdfast apply",
    };
    html! { h1 { "Apps" } (table.show()) }
}

fn change(visit: &Visit, rows: &[AppRow]) -> Markup {
    let all: Vec<(String, String)> =
        rows.iter().map(|row| (row.name.to_string(), row.name.to_string())).collect();
    let inputs = vec![forms::Input::choice("app", "App", &all), forms::Input::text("reason", "Why", "")];
    html! { @if !rows.is_empty() { (forms::section(visit, &[(&acts::DELETE_APP, inputs)], &[])) } }
}
