//! The pages: each collects rows from the API and renders them with a pure function.

pub(super) mod apps;
pub(super) mod audit;
pub(super) mod cluster;
pub(super) mod deploy;
pub(super) mod environment;
pub(super) mod events;
pub(super) mod instance;
pub(super) mod members;
pub(super) mod nodes;
pub(super) mod overview;
pub(super) mod requests;
pub(super) mod routes;
pub(super) mod tokens;
pub(super) mod views;

use super::visit::{Answer, Visit};
use api::{Page, routes::fill};
use maud::{Markup, html};
use serde::de::DeserializeOwned;

/// Rows of one page: enough to read, and small enough to be there at once.
const ROWS: usize = 100;

/// A page of rows, from where the visitor is.
async fn rows<T: DeserializeOwned>(visit: &Visit, path: &str) -> Answer<Page<T>> {
    let mut path = format!("{path}?limit={ROWS}");
    if let Some(cursor) = visit.asked("cursor") {
        path.push_str("&cursor=");
        path.push_str(&fill("/{cursor}", &[&cursor])[1..]);
    }
    visit.get(&path).await
}

/// The way to the next page of rows, if there is one.
fn more(visit: &Visit, next: Option<&str>) -> Markup {
    html! {
        @if let Some(next) = next {
            p { a href={ (visit.path) "?cursor=" (&fill("/{cursor}", &[next])[1..]) } { "Next page" } }
        }
    }
}

/// The page of an environment.
fn place(app: &str, env: &str) -> String {
    fill("/apps/{app}/{env}", &[app, env])
}
