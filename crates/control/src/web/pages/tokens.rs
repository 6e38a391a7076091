//! Bearer tokens, without their secrets.

use super::{more, rows};
use crate::web::{
    acts, forms,
    frame::{Place, Renewed},
    parts::{self, Table},
    visit::Visit,
};
use api::{TokenRow, routes};
use axum::response::Response;
use maud::{Markup, html};
use types::Timestamp;

/// `GET /tokens`
pub(in crate::web) async fn show(visit: Visit) -> Response {
    let page = rows::<TokenRow>(&visit, routes::TOKENS).await;
    let content = page.map(|page| {
        html! {
            h1 { "Tokens" }
            (table(&page.rows, visit.now))
            (more(&visit, page.next.as_deref()))
            (change(&visit, &page.rows))
        }
    });
    visit.page(Place::Tokens, "Tokens", Renewed::ByEvents, content)
}

fn change(visit: &Visit, rows: &[TokenRow]) -> Markup {
    let roles: Vec<(String, String)> =
        acts::ROLES.iter().map(|role| ((*role).to_owned(), (*role).to_owned())).collect();
    let living = rows.iter().filter(|row| !row.revoked);
    let all: Vec<(String, String)> = living
        .map(|row| (row.id.to_string(), format!("{} ({}), {}", row.name, parts::role(row.role), row.id)))
        .collect();
    let create = vec![
        forms::Input::text("name", "Name", ""),
        forms::Input::choice("role", "Role", &roles),
        forms::Input::text("expires_in", "How long it lives", "90d"),
    ];
    let revoke = vec![forms::Input::choice("id", "Token", &all)];
    forms::section(visit, &[(&acts::CREATE_TOKEN, create), (&acts::REVOKE_TOKEN, revoke)], &[])
}

fn table(rows: &[TokenRow], now: Timestamp) -> Markup {
    let row = |token: &TokenRow| {
        vec![
            html! { (token.name) },
            html! { (parts::role(token.role)) },
            parts::or_dash(token.org.as_ref()),
            parts::time(token.created, now),
            parts::maybe_time(token.expires, now, "never"),
            html! { @if token.revoked { "revoked" } @else if token.expires.is_some_and(|end| end <= now) { "expired" } @else { "valid" } },
            html! { span .id { (token.id) } },
        ]
    };
    Table {
        id: "tokens",
        caption: "Tokens of this org",
        headings: &["Name", "Role", "Org", "Made", "Ends", "State", "Id"],
        rows: rows.iter().map(row).collect(),
        empty: "there are none",
    }
    .show()
}
