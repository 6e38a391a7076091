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
    let roles = visit.gives();
    let living = rows.iter().filter(|row| !row.revoked);
    let all: Vec<(String, String)> =
        living.map(|row| (row.id.to_string(), format!("{} ({}), {}", row.name, row.role, row.id))).collect();
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
            html! { (token.role) },
            parts::or_dash(token.org.as_ref()),
            whose(token),
            parts::time(token.created, now),
            parts::maybe_time(token.expires, now, "never"),
            parts::state_of(token, now),
            html! { span .id { (token.id) } },
        ]
    };
    Table {
        id: "tokens",
        caption: "Tokens of this org",
        headings: &["Name", "Role", "Org", "Whose", "Made", "Ends", "State", "Id"],
        rows: rows.iter().map(row).collect(),
        empty: "there are none",
    }
    .show()
}

fn whose(token: &TokenRow) -> Markup {
    html! {
        @match (&token.member, &token.scopes) {
            (Some(member), _) => { "the member " (member) }
            (None, Some(_)) => "a service principal",
            (None, None) => "whoever has it",
        }
    }
}
