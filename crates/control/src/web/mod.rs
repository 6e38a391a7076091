//! The web page for operators: rendered here, on the same address as the API, for a browser that
//! needs no script to read it.
//!
//! ```text
//!   browser ─▶ Visit (cookie ─▶ session) ─▶ page ─▶ the API's own router, in this process ─▶ rows ─▶ HTML
//! ```
//! Invariants:
//! - a page knows what the API answers to the same caller and nothing else: there is no second policy,
//!   and a guarded act is explained and confirmed by the very calls that the command line makes.
//! - nothing is sent again. The id of a request is made when its form is rendered, so that a double
//!   click or a reload is the same request.
//! - whatever can be stale says how old it is, and words come before colours.
//! - texts from outside reach a page through `maud`, which escapes them.

mod acts;
mod assets;
mod doing;
mod forms;
mod frame;
mod live;
mod outcome;
mod pages;
mod parts;
mod provider;
mod session;
mod visit;

use crate::http::{Http, watch_page};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware,
    routing::{get, post},
};
use types::limits;

/// What every page shares.
#[derive(Clone)]
struct Web {
    http: Http,
    /// The API of this very server.
    api: Router,
}

/// Every page, over the API that answers for it.
pub(crate) fn router(http: Http, api: Router) -> Router {
    Router::new()
        .route("/login", get(session::ask).post(session::login))
        .route("/login/{provider}", get(provider::begin))
        .route("/login/{provider}/callback", get(provider::back))
        .route("/logout", post(session::logout))
        .route("/", get(pages::overview::show))
        .route("/apps", get(pages::apps::show))
        .route("/apps/{app}/{env}", get(pages::environment::show))
        .route("/apps/{app}/{env}/deploys/{deploy}", get(pages::deploy::show))
        .route("/apps/{app}/{env}/instances/{id}", get(pages::instance::show))
        .route("/instances/{id}/log", get(live::log))
        .route("/routes", get(pages::routes::show))
        .route("/nodes", get(pages::nodes::show))
        .route("/cluster", get(pages::cluster::show))
        .route("/events", get(pages::events::show))
        .route("/audit", get(pages::audit::show))
        .route("/requests", get(pages::requests::show))
        .route("/views", get(pages::views::show))
        .route("/members", get(pages::members::show))
        .route("/tokens", get(pages::tokens::show))
        .route("/do/{act}", post(doing::act))
        .route(live::PULSE, get(live::pulse))
        .route("/assets/{name}", get(assets::show))
        .layer(DefaultBodyLimit::max(limits::FORM_BODY))
        .layer(middleware::from_fn_with_state(http.clone(), watch_page))
        .with_state(Web { http, api })
}
