//! The first page: what is declared, what runs, what is routed, what differs and why; then what it
//! stands on.

use super::place;
use crate::web::{
    frame::{Place, Renewed},
    parts::{self, Table},
    visit::{Answer, Visit},
};
use api::{
    AppRow, ClusterStatus, Code, EnvStatus, EventPage, NodeRow, Page, Ready,
    routes::{self, fill},
};
use axum::response::Response;
use maud::{Markup, html};
use types::{EventId, Timestamp};

/// Environments that are shown whole; there are links to the others.
const ENVIRONMENTS: usize = 24;
/// The last events.
const EVENTS: u64 = 12;

/// What the page is made of. What could not be read says why.
pub(super) struct Overview {
    now: Timestamp,
    environments: Vec<EnvStatus>,
    /// How many there are besides.
    others: usize,
    ready: Answer<Ready>,
    cluster: Answer<ClusterStatus>,
    nodes: Answer<Page<NodeRow>>,
    events: Answer<EventPage>,
}

/// `GET /`
pub(in crate::web) async fn show(visit: Visit) -> Response {
    let content = collect(&visit).await.map(|overview| render(&overview));
    visit.page(Place::Overview, "Overview", Renewed::ByEventsAndTime, content)
}

async fn collect(visit: &Visit) -> Answer<Overview> {
    let apps: Page<AppRow> = visit.get(&fill(routes::APPS, &[visit.org()])).await?;
    let all: Vec<(&str, &str)> = apps
        .rows
        .iter()
        .flat_map(|app| app.envs.iter().map(|env| (app.name.as_str(), env.as_str())))
        .collect();
    let mut environments = Vec::new();
    for (app, env) in all.iter().take(ENVIRONMENTS) {
        match visit.get(&fill(routes::ENV, &[visit.org(), app, env])).await {
            Ok(status) => environments.push(status),
            // It went between the list and this.
            Err(problem) if problem.code == Code::NotFound => {}
            Err(problem) => return Err(problem),
        }
    }
    let head = visit.fresh().event.map_or(0, EventId::get);
    let after = head.saturating_sub(EVENTS);
    Ok(Overview {
        now: visit.now,
        others: all.len().saturating_sub(ENVIRONMENTS),
        environments,
        ready: visit.get(routes::HEALTH_READY).await,
        cluster: visit.get(routes::CLUSTER).await,
        nodes: visit.get(routes::NODES).await,
        events: visit.get(&format!("{}?after={after}", routes::EVENTS)).await,
    })
}

fn render(overview: &Overview) -> Markup {
    html! {
        h1 { "Overview" }
        (environments(overview))
        div .columns {
            section #server data-renewed aria-labelledby="server-heading" {
                h2 #server-heading { "Server" }
                (server(&overview.ready))
                (cluster(&overview.cluster))
            }
            section #machines data-renewed aria-labelledby="machines-heading" {
                h2 #machines-heading { "Nodes" }
                (nodes(&overview.nodes))
            }
        }
        (events(overview))
    }
}

fn environments(overview: &Overview) -> Markup {
    let rows = overview.environments.iter().map(row).collect();
    let table = Table {
        id: "environments",
        caption: "Environments: declared, running, routed",
        headings: &[
            "Environment",
            "Release",
            "Declared",
            "Ready",
            "Routed",
            "Last deploy",
            "What differs, and why",
        ],
        rows,
        empty: "there are none yet; make one with: holdfast apply",
    };
    html! {
        (table.show())
        @if overview.others > 0 { p { "And " (overview.others) " more: " a href="/apps" { "all apps" } } }
    }
}

fn row(status: &EnvStatus) -> Vec<Markup> {
    let (app, env) = (status.app.as_str(), status.env.as_str());
    let sum = |of: fn(&api::ProcessStatus) -> u32| status.processes.iter().map(of).sum::<u32>();
    let (declared, ready) = (sum(|process| process.desired), sum(|process| process.ready));
    let path = place(app, env);
    vec![
        html! { a href=(path) { (app) "/" (env) } },
        parts::or_dash(status.release.as_ref().map(|release| release.number)),
        html! { (declared) },
        html! { (ready) },
        match status.routes.is_empty() {
            true => html! { "no route" },
            false => html! { (sum(|process| process.routed)) },
        },
        match &status.deploy {
            Some(deploy) => html! { a href={ (path) "/deploys/" (deploy.id) } { (deploy.state) } },
            None => parts::or_dash(None::<u8>),
        },
        differs(status),
    ]
}

/// What is not as declared, in sentences.
pub(super) fn differs(status: &EnvStatus) -> Markup {
    match status.why.as_slice() {
        [] if status.converged => html! { "nothing" },
        [] => html! { "not as declared" },
        [one] => html! { (one) },
        all => html! { ul { @for one in all { li { (one) } } } },
    }
}

fn server(ready: &Answer<Ready>) -> Markup {
    match ready {
        Ok(ready) => html! {
            dl {
                dt { "Takes writes" } dd { @if ready.ready { "yes" } @else { "no" } }
                dt { "Role" } dd { (ready.role) }
                dt { "Epoch" } dd { (ready.epoch) }
                dt { "Last event" } dd { (ready.head) ", in every view up to " (ready.applied) }
                @if let Some(reason) = &ready.reason { dt { "What is wrong" } dd { (reason) } }
            }
        },
        Err(problem) => html! { p { "Does not take writes: " (problem.detail) } },
    }
}

fn cluster(cluster: &Answer<ClusterStatus>) -> Markup {
    match cluster {
        Ok(status) => {
            let silent = status.members.iter().filter(|member| member.trouble.is_some()).count();
            html! {
                p {
                    a href="/cluster" {
                        (status.members.len()) @if status.members.len() == 1 { " member" } @else { " members" }
                    }
                    ", " (silent) " with trouble, "
                    @if status.quorum { "a majority answers" } @else { "no majority answers" }
                    @match status.backup.as_ref().and_then(|backup| backup.last.as_ref()) {
                        Some(last) => { ", last backup " (parts::span(last.age_ms)) " old" }
                        None => ", no backup yet"
                    }
                }
            }
        }
        Err(problem) => html! { p { "The cluster is not shown: " (problem.detail) } },
    }
}

fn nodes(nodes: &Answer<Page<NodeRow>>) -> Markup {
    let nodes = match nodes {
        Ok(nodes) => nodes,
        Err(problem) => return html! { p { "They are not shown: " (problem.detail) } },
    };
    let mut words: Vec<(&str, usize)> = Vec::new();
    for node in &nodes.rows {
        match words.iter_mut().find(|(word, _)| *word == node.state) {
            Some((_, count)) => *count += 1,
            None => words.push((&node.state, 1)),
        }
    }
    html! {
        @if nodes.rows.is_empty() {
            p { "There are none; a machine becomes one with the secret of: " code { "holdfast nodes join-token" } }
        } @else {
            dl { @for (word, count) in words { dt { (word) } dd { (count) } } }
            p { a href="/nodes" { "All nodes" } }
        }
    }
}

fn events(overview: &Overview) -> Markup {
    let page = match &overview.events {
        Ok(page) => page,
        Err(problem) => return html! { p { "Events are not shown: " (problem.detail) } },
    };
    let rows = page.events.iter().rev().map(|event| super::events::row(event, overview.now)).collect();
    let table = Table {
        id: "last",
        caption: "The last events",
        headings: super::events::HEADINGS,
        rows,
        empty: "none",
    };
    html! { (table.show()) p { a href="/events" { "All events" } } }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use api::Problem;
    use serde_json::json;

    /// A status as the API sends it.
    pub(in super::super) fn status() -> EnvStatus {
        serde_json::from_value(json!({
            "id": types::EnvId::from_u128(1), "org": "main", "app": "shop", "env": "prod",
            "release": { "id": types::ReleaseId::from_u128(1), "number": 3,
                "image": { "reference": "r/shop:1", "digest": format!("sha256:{}", "a".repeat(64)) },
                "created": 1000, "state": "promoted", "current": true },
            "deploy": null,
            "processes": [{ "process": "web", "desired": 3, "placed": 3, "ready": 2, "current": 2, "starting": 1,
                "draining": 0, "failing": 0, "routed": 2, "why": "<b>one starts</b>" }],
            "routes": [], "converged": false, "why": ["web: wanted 3, is 2: <b>one starts</b>"], "event": 7
        }))
        .unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn what_differs_is_said_with_its_reason_and_escaped() {
        let forbidden = || Box::new(Problem::new(Code::Forbidden, "<i>no</i>"));
        let overview = Overview {
            now: Timestamp::from_ms(5000),
            environments: vec![status()],
            others: 2,
            ready: Err(Problem::new(Code::NoQuorum, "no majority <i>").into()),
            cluster: Err(forbidden()),
            nodes: Err(forbidden()),
            events: Err(forbidden()),
        };
        let text = render(&overview).into_string();
        for part in [
            "shop/prod",
            "web: wanted 3, is 2: &lt;b&gt;one starts&lt;/b&gt;",
            "And 2 more",
            "Does not take writes: no majority &lt;i&gt;",
            "no route",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("<b>") && !text.contains("<i>"), "{text}");
    }
}
