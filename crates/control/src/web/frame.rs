//! What every page has around it: landmarks, where one is, as of when, and the headers that keep it in.

use super::{
    assets, parts,
    visit::{Answer, Visit},
};
use api::{Problem, routes};
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
};
use maud::{DOCTYPE, Markup, html};

/// The pages of the menu.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Overview,
    Apps,
    Routes,
    Nodes,
    Cluster,
    Events,
    Audit,
    Requests,
    Views,
    Members,
    Tokens,
}

/// Each with the path of the API that it reads: whom that is closed to is not sent there.
const MENU: [(Place, &str, &str, &str); 11] = [
    (Place::Overview, "/", "Overview", routes::EVENTS),
    (Place::Apps, "/apps", "Apps", routes::APPS),
    (Place::Routes, "/routes", "Routes", routes::ROUTES),
    (Place::Nodes, "/nodes", "Nodes", routes::NODES),
    (Place::Cluster, "/cluster", "Cluster", routes::CLUSTER),
    (Place::Events, "/events", "Events", routes::EVENTS),
    (Place::Audit, "/audit", "Audit", routes::AUDIT),
    (Place::Requests, "/requests", "Requests", routes::REQUEST),
    (Place::Views, "/views", "Views", routes::VIEWS),
    (Place::Members, "/members", "Members", routes::OWN_TOKENS),
    (Place::Tokens, "/tokens", "Tokens", routes::TOKENS),
];

impl Place {
    /// Its path, and its name in the menu.
    pub(super) fn link(self) -> (&'static str, &'static str) {
        let found = MENU.iter().find(|(place, ..)| *place == self);
        found.map(|(_, path, name, _)| (*path, *name)).expect("every place is in the menu")
    }
}

/// Why a page is made again while it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewed {
    /// It is as it was.
    Never,
    /// With each event that the visitor may see.
    ByEvents,
    /// With events, and every few seconds: it shows what no event tells.
    ByEventsAndTime,
}

/// Scripts and styles are this server's own files; nothing is loaded from elsewhere, nothing runs that
/// stands in a page, and nobody may show a page inside of another.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Headers of every answer.
pub(super) fn guarded(mut response: Response) -> Response {
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let headers = response.headers_mut();
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

fn document(title: &str, body: &Markup) -> Response {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Holdfast" }
                link rel="icon" type="image/svg+xml" href=(assets::ICON.path());
                link rel="stylesheet" href=(assets::STYLE.path()) integrity=(assets::STYLE.integrity());
                script defer src=(assets::SCRIPT.path()) integrity=(assets::SCRIPT.integrity()) {}
            }
            (body)
        }
    };
    guarded(Html(page.into_string()).into_response())
}

/// A page for who has not logged in.
pub(super) fn plain(title: &str, content: &Markup) -> Response {
    document(
        title,
        &html! {
            body {
                a .skip href="#main" { "Skip to the content" }
                header { p .brand { "Holdfast" } }
                main #main tabindex="-1" { (content) }
            }
        },
    )
}

/// The same, with the status of a problem.
pub(super) fn bare(title: &str, content: &Markup, problem: &Problem) -> Response {
    with_status(plain(title, content), problem)
}

fn with_status(mut response: Response, problem: &Problem) -> Response {
    *response.status_mut() =
        StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

impl Visit {
    /// A page, or the problem instead of it.
    pub(super) fn page(
        &self,
        place: Place,
        title: &str,
        renewed: Renewed,
        content: Answer<Markup>,
    ) -> Response {
        match content {
            Ok(content) => document(title, &self.body(place, title, renewed, &content)),
            Err(problem) => {
                let content = html! {
                    h1 { (title) }
                    (parts::problem(&problem))
                    @if problem.code == api::Code::NoQuorum {
                        p { a href={ (self.path) "?consistency=stale" } {
                            "Show what this member knows, however old it is"
                        } }
                    }
                };
                with_status(document(title, &self.body(place, title, Renewed::Never, &content)), &problem)
            }
        }
    }

    fn body(&self, place: Place, title: &str, renewed: Renewed, content: &Markup) -> Markup {
        let fresh = self.fresh();
        let live = (renewed != Renewed::Never).then(|| match fresh.event {
            Some(event) => format!("/live?after={event}"),
            None => "/live".to_owned(),
        });
        let every = (renewed == Renewed::ByEventsAndTime).then_some(5);
        html! {
            body data-live=[live] data-every=[every] data-now=(self.now.as_ms()) {
                a .skip href="#main" { "Skip to the content" }
                (self.banner(place))
                div #lost role="alert" {}
                div #said role="status" {}
                main #main tabindex="-1" {
                    (content)
                    p .asof #asof data-renewed {
                        (title) ", as "
                        @if let Some(event) = fresh.event { "of event " (event) ", " }
                        "read " (parts::time(self.now, self.now)) ". "
                        @if let Some(age) = &fresh.age {
                            "This member does not lead; it last heard the leader "
                            @match age.parse::<u64>() {
                                Ok(ms) => { (parts::span(ms)) " before that. " }
                                Err(_) => "at a time that is not known. "
                            }
                        }
                        a href={ (self.path) @if !self.query.is_empty() { "?" (self.query) } } { "Read again" }
                    }
                }
                footer { p { "Holdfast " (env!("CARGO_PKG_VERSION")) ", log " code { (self.who.cluster) } } }
            }
        }
    }

    fn banner(&self, place: Place) -> Markup {
        html! {
            header {
                p .brand { a href="/" { "Holdfast" } }
                nav aria-label="Pages" {
                    ul {
                        @for (at, path, name, read) in MENU {
                            @if self.may("GET", read) {
                                li { a href=(path) aria-current=[(at == place).then_some("page")] { (name) } }
                            }
                        }
                    }
                }
                form .who method="post" action="/logout" {
                    input type="hidden" name="csrf" value=(self.csrf);
                    span {
                        @if let Some(role) = self.who.role { (role) }
                        @if let Some(org) = &self.who.org { " in " (org) }
                        ", " span .id { (self.who.principal) }
                    }
                    button { "Log out" }
                }
            }
        }
    }
}
