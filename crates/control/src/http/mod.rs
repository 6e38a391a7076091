//! HTTP: who may ask for what, and how each question is answered.
//!
//! ```text
//!   connection ─▶ rim (panics, bare errors, figures) ─▶ attempts (what did not come about)
//!              ─▶ gate (table × role, outcomes) ─▶ handler ─▶ Core
//! ```
//! Invariants:
//! - everything that is not open is closed: a path that the table does not name is answered by
//!   nobody, and a handler gets its [`access::Caller`] from the gate or not at all.
//! - what goes wrong leaves as an [`api::Problem`], whoever noticed it.
//! - a thing of another org and a thing that does not exist are answered in the same words.

mod access;
mod act;
mod answer;
mod apart;
mod apply;
mod asks;
mod attempts;
mod audit;
mod backups;
mod cluster;
mod copies;
mod deletions;
mod difference;
mod environments;
mod events;
mod forward;
mod guard;
mod images;
mod input;
mod metrics;
mod nodes;
mod nodes_out;
mod oidc;
mod openapi;
mod operate;
mod password;
mod patience;
mod people;
mod place;
mod reads;
mod repairing;
mod reports;
mod requests;
mod rim;
mod roles;
mod rows;
mod serve;
mod session;
mod status;
mod streams;
mod table;
mod throttle;
mod tokens;
mod write;

pub(crate) use attempts::page::{OnPage, watch as watch_page};
pub use images::{Images, Resolving};
pub(crate) use oidc::{Brought, ByProvider, Finished, OpenedBy};
pub use openapi::openapi;
pub(crate) use repairing::serve_meanwhile;
pub use roles::access;
pub(crate) use roles::{given_by, may};
pub use serve::{serve, serve_with};
pub(crate) use session::{SEC_FETCH_SITE, UNATTENDED, is_named};

use crate::{audit::Audit, cluster::Cluster, providers, writer::Core};
use api::{Fingerprint, routes as at};
use axum::{
    Router,
    http::{Extensions, HeaderMap},
    middleware,
    routing::{delete, get, post},
};
use std::sync::Arc;
use types::limits;

/// What a router is told besides its core.
#[derive(Clone)]
pub struct Options {
    /// How image references become digests.
    pub images: Images,
    /// Streams and long polls of people and programs carried at once.
    pub streams: usize,
    /// This server's place in its cluster; none over a log that has no members.
    pub cluster: Option<Cluster>,
    /// Those of nodes, which have places of their own: no reader of events may keep a plan from its
    /// node.
    pub node_streams: usize,
    /// Requests that one token or person may make in a second, over a while.
    pub requests_per_second: u32,
    /// The same at once, after a pause.
    pub requests_burst: u32,
    /// Where what is attempted is written down; without a journal guarded acts are refused.
    pub audit: Audit,
    /// What the server is known by, if it serves over TLS.
    pub pin: Option<Fingerprint>,
    /// Those by way of which people may log in, checked; none if there are none.
    pub providers: Option<providers::Settings>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            images: images::registries(),
            streams: limits::STREAMS,
            cluster: None,
            node_streams: limits::NODE_STREAMS,
            requests_per_second: limits::REQUESTS_PER_SECOND,
            requests_burst: limits::REQUESTS_BURST,
            audit: Audit::default(),
            pin: None,
            providers: None,
        }
    }
}

/// What every handler shares.
pub(crate) struct Shared {
    core: Core,
    cluster: Option<Cluster>,
    images: Images,
    asks: asks::Asks,
    guard: guard::Guard,
    pin: Option<Fingerprint>,
    sessions: session::Sessions,
    logins: throttle::Logins,
    providers: oidc::Providers,
    hashers: password::Hashers,
    pace: throttle::Pace,
    audit: Audit,
    mirrors: audit::Mirrors,
    figures: metrics::Figures,
    copies: copies::Copies,
    streams: streams::Places,
    node_streams: streams::Places,
}

/// A handle on [`Shared`].
pub(crate) type Http = Arc<Shared>;

/// Every route of the API over one core, and the web page that asks it.
pub fn router(core: Core, options: Options) -> Router {
    let http = shared(core, options);
    let api = api(http.clone());
    crate::web::router(http, api.clone()).merge(api)
}

impl Shared {
    /// What all of this is served over.
    pub(crate) fn core(&self) -> &Core {
        &self.core
    }

    /// What a write has to bring back of the session whose cookie is in these headers, if there is one.
    pub(crate) fn csrf_of(&self, headers: &HeaderMap, connection: &Extensions) -> Option<String> {
        session::find(self, headers, connection).map(|found| found.csrf)
    }
}

/// Whether a call leaves a verdict in the log, under the id of its request.
pub(crate) fn leaves_verdict(method: &str, path: &str) -> bool {
    table::row(method, path).is_some_and(|row| row.once)
}

/// What is known of the connection of a request, for another that is made in its name.
pub(crate) fn connection_of(request: &Extensions) -> Extensions {
    let mut known = Extensions::new();
    request.get::<serve::Stopping>().cloned().map(|found| known.insert(found));
    request.get::<session::Peer>().copied().map(|found| known.insert(found));
    request.get::<session::Encrypted>().copied().map(|found| known.insert(found));
    known
}

fn api(http: Http) -> Router {
    Router::new()
        .merge(environments())
        .merge(infrastructure())
        .merge(server())
        .merge(people())
        .fallback(rim::no_such_path)
        .layer(middleware::from_fn_with_state(http.clone(), access::gate))
        .layer(middleware::from_fn_with_state(http.clone(), attempts::watch))
        .layer(middleware::from_fn_with_state(http.clone(), rim::around))
        .with_state(http)
}

fn shared(core: Core, options: Options) -> Http {
    Arc::new(Shared {
        guard: guard::Guard::new(core.clone(), options.audit.clone()),
        audit: options.audit,
        mirrors: audit::Mirrors::default(),
        core,
        pin: options.pin,
        cluster: options.cluster,
        images: options.images,
        asks: asks::Asks::default(),
        sessions: session::Sessions::default(),
        logins: throttle::Logins::default(),
        providers: options.providers.as_ref().map_or_else(Default::default, oidc::Providers::new),
        hashers: password::Hashers::default(),
        pace: throttle::Pace::new(options.requests_per_second, options.requests_burst),
        figures: metrics::Figures::default(),
        copies: copies::Copies::default(),
        streams: streams::Places::new(options.streams),
        node_streams: streams::Places::new(options.node_streams),
    })
}

fn environments() -> Router<Http> {
    Router::new()
        .route(at::APPLY, post(apply::apply))
        .route(at::APPS, get(reads::apps))
        .route(at::APP, get(reads::app))
        .route(at::APP_DELETE, post(deletions::app))
        .route(at::ENVS, get(reads::envs))
        .route(at::ENV, get(reads::env))
        .route(at::ENV_DELETE, post(deletions::environment))
        .route(at::SCALE, post(environments::scale))
        .route(at::RESTART, post(environments::restart))
        .route(at::ROLLBACK, post(environments::rollback))
        .route(at::DEPLOY, post(environments::deploy))
        .route(at::RELEASES, get(reads::releases))
        .route(at::DEPLOYS, get(reads::deploys))
        .route(at::DEPLOY_ONE, get(reads::deploy))
        .route(at::INSTANCES, get(reads::instances))
        .route(at::EXPLAIN, get(reads::explain))
        .route(at::ROUTES, get(reads::routes))
        .route(at::LOGS, get(asks::logs))
}

fn infrastructure() -> Router<Http> {
    Router::new()
        .route(at::NODES, get(nodes::list))
        .route(at::NODE_DRAIN, post(nodes::drain))
        .route(at::NODE_ACTIVATE, post(nodes::activate))
        .route(at::NODE_DISABLE, post(nodes_out::disable))
        .route(at::NODE_REMOVE, post(nodes_out::remove))
        .route(at::JOIN_TOKENS, post(nodes::create_join))
        .route(at::ENROL, post(nodes::enrol))
        .route(at::AGENT_STREAM, get(streams::agent))
        .route(at::EDGE_STREAM, get(streams::edge))
        .route(at::LEASE, post(reports::lease))
        .route(at::REPORT, post(reports::report))
        .route(at::ASK, post(asks::answer))
}

fn server() -> Router<Http> {
    Router::new()
        .route(at::TOKENS, get(tokens::list).post(tokens::create))
        .route(at::TOKEN, delete(tokens::revoke))
        .route(at::EVENTS, get(events::events))
        .route(at::AUDIT, get(audit::show))
        .route(at::AUDIT_VERIFY, get(audit::verify))
        .route(at::REQUEST, get(requests::show))
        .route(at::REQUEST_VOID, post(requests::void))
        .route(at::VIEWS, get(operate::views))
        .route(at::VIEW_REBUILD, post(operate::rebuild))
        .route(at::CLUSTER, get(cluster::status))
        .route(at::CLUSTER_JOIN_TOKENS, post(cluster::join_token))
        .route(at::CLUSTER_PROMOTE, post(cluster::promote))
        .route(at::CLUSTER_HANDOVER, post(cluster::handover))
        .route(at::CLUSTER_FENCE, post(cluster::fence))
        .route(at::CLUSTER_REMOVE, post(cluster::remove))
        .route(at::CLUSTER_ADOPT, post(cluster::adopt))
        .route(at::CLUSTER_SNAPSHOT, post(cluster::snapshot))
        .route(at::CLUSTER_BACKUP, post(backups::ask))
        .route(at::HEALTH_LIVE, get(operate::live))
        .route(at::HEALTH_READY, get(operate::ready))
        .route(at::METRICS, get(metrics::show))
        .route(at::OPENAPI, get(openapi::show))
        .route(at::VERSION, get(operate::version))
        .route(at::WHOAMI, get(operate::whoami))
}

fn people() -> Router<Http> {
    Router::new()
        .route(at::LOGIN, post(session::login))
        .route(at::LOGOUT, post(session::logout))
        .route(at::OWN_PASSWORD, post(people::own_password))
        .route(at::OWN_TOKENS, get(people::own_tokens).post(people::own_token))
        .route(at::OWN_TOKEN, delete(people::revoke_own))
        .route(at::MEMBERS, get(people::list).post(people::create))
        .route(at::MEMBER, post(people::set).delete(people::remove))
        .route(at::MEMBER_IDENTITY, post(people::link).delete(people::unlink))
}
