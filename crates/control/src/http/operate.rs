//! The server about itself: views, health, version, and who asks.

use super::{
    Http,
    access::{By, Caller, Who},
    answer::{At, Result, missing, refused},
    input::{Asked, Places},
    reads::{self, Order},
    roles,
};
use crate::cluster::{Cluster, Mode};
use api::{Code, Live, Outcome, Page, PageQuery, Problem, Ready, RebuildAnswer, Version, ViewRow, Whoami};
use axum::{Json, extract::State};
use domain::view;

/// The version of the API that this server speaks.
const API: &str = "v1";

/// Said while the log refuses writes for lack of space. Reads go on, and so does the server.
const FULL: &str = "the last write was refused because the disk is full: \
                    free space where the server keeps its data; writes work again by themselves";

fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `GET /v1/views`
pub(super) async fn views(
    State(http): State<Http>,
    Asked(query): Asked<PageQuery>,
) -> Result<At<Page<ViewRow>>> {
    let head = reads::fresh(&http, query.at_least).await?.head;
    let rows = http.core.with_views(|views| {
        let row = |name: &'static str| {
            let checkpoint = views.checkpoint(name)?;
            let row = ViewRow {
                name: name.to_owned(),
                checkpoint,
                fingerprint: hex(views.fingerprint(name)?),
                quarantined: views.quarantined(name).map(|why| why.fault.to_string()),
                behind: head.get().saturating_sub(checkpoint.get()),
            };
            Some((name.to_owned(), row))
        };
        let mut rows: Vec<_> = view::NAMES.iter().filter_map(|name| row(name)).collect();
        rows.sort_by(|(one, _), (other, _)| one.cmp(other));
        rows
    });
    Ok(At::new(head, reads::page(rows, &query, Order::Rising)))
}

/// `POST /v1/views/{name}/rebuild`
pub(super) async fn rebuild(
    State(http): State<Http>,
    Places(name): Places<String>,
) -> Result<At<RebuildAnswer>> {
    let rebuilt = http.core.rebuild(name.clone()).await.map_err(|error| {
        tracing::error!(%error, view = name, "a view cannot be rebuilt");
        refused(Code::Internal, format!("the log cannot be read: {error}"))
    })?;
    let Some(rebuilt) = rebuilt else {
        let problem = missing(format_args!("view {name}")).problem;
        return Err(problem.with_hint(format!("there are {}", view::NAMES.join(", "))).into());
    };
    let answer = RebuildAnswer {
        outcome: Outcome::Executed,
        name,
        before: hex(rebuilt.before),
        after: hex(rebuilt.after),
        equal: rebuilt.before == rebuilt.after,
        events: rebuilt.events,
    };
    Ok(At::new(http.core.state().head, answer))
}

/// `GET /health/live`
pub(super) async fn live() -> Json<Live> {
    Json(Live { live: true })
}

/// `GET /health/ready`: takes writes, as far as can be told without writing.
pub(super) async fn ready(State(http): State<Http>) -> Result<At<Ready>> {
    let head = http.core.head();
    let applied = *http.core.viewed().borrow();
    if http.core.state().cluster.is_empty() {
        return Err(refused(Code::Unavailable, "the log has not been begun yet"));
    }
    if !http.core.is_open() {
        return Err(refused(Code::Unavailable, "the writer of the log has ended"));
    }
    if let Some(why) = http.cluster.as_ref().and_then(|cluster| cluster.why_not_ready(http.core.leads())) {
        let problem = Problem::new(Code::NoQuorum, why);
        return Err(problem.with_hint("holdfast cluster status says who is there and who is missing").into());
    }
    if http.core.queued() >= types::limits::COMMAND_QUEUE {
        return Err(refused(Code::Unavailable, "the queue of commands is full"));
    }
    let quarantined = http.core.with_views(|views| {
        let reason =
            |name: &str| Some(format!("view {name} stands still: {}", views.quarantined(name)?.fault));
        view::NAMES.iter().find_map(|name| reason(name))
    });
    let full = http.core.is_full().then(|| match &http.cluster {
        Some(cluster) if cluster.settings().failover == Mode::Operator && cluster.has_others() => {
            format!("{FULL}; another member can take them: holdfast cluster handover NODE")
        }
        _ => FULL.to_owned(),
    });
    let reason = full.or(quarantined).or_else(|| http.core.snapshot_trouble());
    let reason = reason.or_else(|| http.cluster.as_ref().and_then(Cluster::damage));
    let unwritten = |why| format!("the audit cannot be written, and guarded acts are refused: {why}");
    let reason = reason.or_else(|| http.audit.trouble().map(unwritten));
    let body = Ready {
        ready: true,
        role: match &http.cluster {
            Some(cluster) if !http.core.leads() => cluster.log().status().state.to_owned(),
            _ => "leader".to_owned(),
        },
        epoch: head.epoch,
        head: head.event,
        applied,
        reason,
    };
    Ok(At::new(applied, body))
}

/// `GET /v1/version`
pub(super) async fn version(State(http): State<Http>) -> Json<Version> {
    Json(Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        api: API.to_owned(),
        cluster: http.core.identity(),
        at: Some(http.core.now()),
    })
}

/// `GET /v1/whoami`
pub(super) async fn whoami(State(http): State<Http>, caller: Caller) -> Result<At<Whoami>> {
    let state = http.core.state();
    let Who::Person { role, org } = caller.who else {
        return Err(refused(Code::Forbidden, "a node is no person"));
    };
    let role =
        roles::told(role).ok_or_else(|| refused(Code::Forbidden, "this token has no role of people"))?;
    let token = match caller.by {
        By::Token(token) => Some(token),
        By::Session { .. } => None,
    };
    let person = caller.person(&state).and_then(|id| state.people.get(&id));
    let body = Whoami {
        principal: caller.actor().to_string(),
        member: person.map(|person| person.name.clone()),
        role,
        org: state.orgs.get(&org).map(|org| org.name.clone()),
        token,
        expires: token.and_then(|token| state.tokens.get(&token)?.expires),
        cluster: http.core.identity(),
    };
    Ok(At::new(state.head, body))
}
