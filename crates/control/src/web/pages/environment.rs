//! One environment: what is declared, what is, why they differ, its history, and what can be done.

use super::{place, routes as ways};
use crate::web::{
    acts, forms,
    frame::{Place, Renewed},
    parts::{self, Table},
    visit::{Answer, Visit},
};
use api::{
    DeployRow, EnvStatus, Explanation, InstanceRow, Page, ReleaseRow,
    routes::{self, fill},
};
use axum::{extract::Path, response::Response};
use maud::{Markup, html};
use types::Timestamp;

/// Releases and deploys that are shown.
const HISTORY: usize = 20;
/// Instances that are shown.
const INSTANCES: usize = 200;

/// What the page is made of.
struct Found {
    now: Timestamp,
    status: EnvStatus,
    why: Explanation,
    instances: Page<InstanceRow>,
    releases: Page<ReleaseRow>,
    deploys: Page<DeployRow>,
}

/// `GET /apps/{app}/{env}`
pub(in crate::web) async fn show(visit: Visit, Path((app, env)): Path<(String, String)>) -> Response {
    let found = collect(&visit, &app, &env).await;
    let content = found.map(|found| html! { (render(&found)) (change(&visit, &found)) });
    visit.page(Place::Apps, &format!("{app}/{env}"), Renewed::ByEventsAndTime, content)
}

async fn collect(visit: &Visit, app: &str, env: &str) -> Answer<Found> {
    let path = |of: &str| fill(of, &[visit.org(), app, env]);
    Ok(Found {
        now: visit.now,
        status: visit.get(&path(routes::ENV)).await?,
        why: visit.get(&path(routes::EXPLAIN)).await?,
        instances: visit.get(&format!("{}?limit={INSTANCES}", path(routes::INSTANCES))).await?,
        releases: visit.get(&format!("{}?limit={HISTORY}", path(routes::RELEASES))).await?,
        deploys: visit.get(&format!("{}?limit={HISTORY}", path(routes::DEPLOYS))).await?,
    })
}

fn render(found: &Found) -> Markup {
    let status = &found.status;
    html! {
        h1 { (status.app) "/" (status.env) }
        section #state data-renewed aria-labelledby="state-heading" {
            h2 #state-heading { "As declared?" }
            p { (found.why.summary) }
            (why(&found.why))
            @if let Some(release) = &status.release {
                dl {
                    dt { "Release" } dd { (release.number) ", " (release.image.reference) }
                    dt { "Digest" } dd { span .id { (release.image.digest) } }
                }
            }
        }
        (processes(status))
        (instances(found))
        (ways::table(&status.routes))
        (deploys(found))
        (releases(found))
    }
}

fn why(explanation: &Explanation) -> Markup {
    let row = |line: &api::ExplanationLine| {
        vec![
            html! { (line.subject) },
            html! { (line.desired) },
            html! { (line.actual) },
            html! { (line.why) },
            match line.since_event {
                Some(event) => {
                    html! { a href={ "/events?after=" (event.get().saturating_sub(1)) } { (event) } }
                }
                None => parts::or_dash(None::<u8>),
            },
        ]
    };
    html! {
        @if !explanation.lines.is_empty() {
            (Table {
                id: "",
                caption: "What differs, and why",
                headings: &["What", "Declared", "Is", "Why", "Since event"],
                rows: explanation.lines.iter().map(row).collect(),
                empty: "nothing",
            }.show())
        }
    }
}

fn processes(status: &EnvStatus) -> Markup {
    let row = |process: &api::ProcessStatus| {
        let counts = [
            process.desired,
            process.ready,
            process.current,
            process.starting,
            process.draining,
            process.failing,
            process.routed,
        ];
        let mut cells = vec![html! { (process.process) }];
        cells.extend(counts.iter().map(|count| html! { (count) }));
        cells.push(html! { (process.why.as_deref().unwrap_or("as declared")) });
        cells
    };
    Table {
        id: "processes",
        caption: "Processes",
        headings: &[
            "Process",
            "Declared",
            "Ready",
            "Of this release",
            "Starting",
            "Draining",
            "Failing",
            "Routed",
            "Why",
        ],
        rows: status.processes.iter().map(row).collect(),
        empty: "none is declared",
    }
    .show()
}

fn instances(found: &Found) -> Markup {
    let row = |instance: &InstanceRow| {
        let path =
            format!("{}/instances/{}", place(instance.app.as_str(), instance.env.as_str()), instance.id);
        vec![
            html! { a .id href=(path) { (instance.id) } },
            html! { (instance.process) },
            html! { (instance.release) },
            html! { (instance.node) },
            html! { (instance.state) },
            html! { (instance.restarts) },
            parts::time(instance.since, found.now),
            html! { (because(instance)) },
        ]
    };
    // What has ended says nothing of now; its page stays.
    let present =
        found.instances.rows.iter().filter(|row| !matches!(row.state.as_str(), "stopped" | "collected"));
    let table = Table {
        id: "instances",
        caption: "Instances",
        headings: &["Instance", "Process", "Release", "Node", "State", "Restarts", "Since", "Why"],
        rows: present.map(row).collect(),
        empty: "none runs",
    };
    html! {
        (table.show())
        @if found.instances.next.is_some() {
            p { "These are of the first " (INSTANCES) "; all are printed by: " code { "holdfast ps" } }
        }
    }
}

/// Why an instance does not run, if it does not.
pub(super) fn because(instance: &InstanceRow) -> String {
    match (&instance.reason, &instance.detail) {
        (Some(reason), Some(detail)) => format!("{reason}: {detail}"),
        (Some(reason), None) => reason.to_string(),
        (None, detail) => detail.clone().unwrap_or_default(),
    }
}

fn deploys(found: &Found) -> Markup {
    let path = place(found.status.app.as_str(), found.status.env.as_str());
    let row = |deploy: &DeployRow| {
        vec![
            html! { a .id href={ (path) "/deploys/" (deploy.id) } { (deploy.id) } },
            html! { (deploy.kind) },
            html! { (deploy.release) },
            html! { (deploy.state) },
            parts::time(deploy.started, found.now),
            parts::maybe_time(deploy.ended, found.now, "goes on"),
            html! { (deploy.reason.as_deref().unwrap_or_default()) },
        ]
    };
    Table {
        id: "deploys",
        caption: "Deploys, the newest first",
        headings: &["Deploy", "Begun by", "Release", "State", "Started", "Ended", "Why"],
        rows: found.deploys.rows.iter().map(row).collect(),
        empty: "there was none",
    }
    .show()
}

fn releases(found: &Found) -> Markup {
    let row = |release: &ReleaseRow| {
        vec![
            html! { (release.number) @if release.current { " (current)" } },
            html! { (release.state) },
            parts::time(release.created, found.now),
            html! { (release.image.reference) },
            html! { span .id { (release.image.digest) } },
        ]
    };
    Table {
        id: "releases",
        caption: "Releases, the newest first",
        headings: &["Release", "State", "Made", "Image", "Digest"],
        rows: found.releases.rows.iter().map(row).collect(),
        empty: "there is none",
    }
    .show()
}

fn change(visit: &Visit, found: &Found) -> Markup {
    let status = &found.status;
    let fixed = [("app", status.app.as_str()), ("env", status.env.as_str())];
    let processes: Vec<(String, String)> =
        status.processes.iter().map(|row| (row.process.to_string(), row.process.to_string())).collect();
    let mut some = processes.clone();
    some.insert(0, (String::new(), "every process".to_owned()));
    let mut releases = vec![(String::new(), "the last one that worked before".to_owned())];
    releases.extend(
        found
            .releases
            .rows
            .iter()
            .filter(|row| !row.current)
            .map(|row| (row.number.to_string(), format!("release {}: {}", row.number, row.image.reference))),
    );
    let image = status.release.as_ref().map_or("", |release| release.image.reference.as_str());
    forms::section(
        visit,
        &[
            (
                &acts::SCALE,
                vec![
                    forms::Input::choice("process", "Process", &processes),
                    forms::Input::number("replicas", "Instances"),
                ],
            ),
            (&acts::RESTART, vec![forms::Input::choice("process", "Process", &some)]),
            (&acts::ROLLBACK, vec![forms::Input::choice("release", "Release", &releases)]),
            (&acts::DEPLOY, vec![forms::Input::text("image", "Image", image)]),
            (&acts::DELETE_ENV, vec![forms::Input::text("reason", "Why", "")]),
        ],
        &fixed,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::pages::overview::tests::status;
    use serde_json::json;

    #[test]
    fn everything_of_an_environment_is_there_and_escaped() {
        let instance = json!([{ "id": types::InstanceId::from_u128(1), "app": "shop", "env": "prod", "process": "web",
            "release": 3, "node": "one", "state": "booting", "reason": "image_unavailable",
            "detail": "<script>x</script>", "restarts": 2, "address": "fd00::1", "since": 1000 }]);
        let empty = json!({ "rows": [] });
        let found = Found {
            now: Timestamp::from_ms(61_000),
            status: status(),
            why: serde_json::from_value(json!({ "summary": "<i>one</i> way", "lines": [
                { "subject": "web", "desired": "3", "actual": "2", "why": "<u>", "since_event": 5 }] }))
            .expect("an explanation"),
            instances: serde_json::from_value(json!({ "rows": instance })).expect("instances"),
            releases: serde_json::from_value(empty.clone()).expect("none"),
            deploys: serde_json::from_value(empty).expect("none"),
        };
        let text = render(&found).into_string();
        for part in [
            "&lt;i&gt;one&lt;/i&gt; way",
            "href=\"/events?after=4\"",
            "&lt;script&gt;x&lt;/script&gt;",
            "60 s ago",
            "there was none",
            "3, r/shop:1",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("<script>") && !text.contains("<u>"), "{text}");
        assert_eq!(
            crate::web::pages::overview::differs(&found.status).into_string().matches("&lt;b&gt;").count(),
            1
        );
    }
}
