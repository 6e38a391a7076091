//! The cluster: its members and how far each is, backups, and who sequences.

use crate::web::{
    acts, forms,
    frame::{Place, Renewed},
    parts::{self, Table},
    visit::{Answer, Visit},
};
use api::{BackupRow, BackupStatus, ClusterStatus, Failover, MemberRow, routes};
use axum::response::Response;
use maud::{Markup, html};
use types::Timestamp;

/// `GET /cluster`
pub(in crate::web) async fn show(visit: Visit) -> Response {
    let status: Answer<ClusterStatus> = visit.get(routes::CLUSTER).await;
    let content = status.map(|status| html! { (render(&status, visit.now)) (change(&visit, &status)) });
    visit.page(Place::Cluster, "Cluster", Renewed::ByEventsAndTime, content)
}

fn render(status: &ClusterStatus, now: Timestamp) -> Markup {
    let name = |node: &types::NodeId| {
        status.members.iter().find(|member| member.node == *node).map(|member| member.name.to_string())
    };
    html! {
        h1 { "Cluster" }
        section #authority data-renewed aria-labelledby="authority-heading" {
            h2 #authority-heading { "Authority" }
            dl {
                dt { "Who sequences" }
                dd { @match &status.leader {
                    Some(leader) => (name(leader).unwrap_or_else(|| leader.to_string())),
                    None => "nobody that this member knows of: writes are refused",
                } }
                dt { "Majority" } dd { @if status.quorum { "answers" } @else { "does not answer" } }
                dt { "Epoch" } dd { (status.epoch) ", term " (status.term) }
                dt { "Last event" } dd { (status.head) }
                dt { "Failover" }
                dd { @match status.failover {
                    Failover::Automatic => "automatic: a voter that hears no leader may stand for election",
                    Failover::Operator => "by an operator: no other member takes authority by itself",
                } }
                dt { "This page is from" } dd { (name(&status.own).unwrap_or_else(|| status.own.to_string())) }
                @if let Some(refused) = &status.refused {
                    dt { "Last connection refused" }
                    dd { (refused.from) ": " (refused.why) ", " (parts::time(refused.at, now)) }
                }
            }
        }
        (members(status))
        (apart(status))
        (backups(status.backup.as_ref(), now))
    }
}

fn members(status: &ClusterStatus) -> Markup {
    Table {
        id: "members",
        caption: "Members",
        headings: &[
            "Member",
            "Part",
            "Epoch",
            "Last entry",
            "Event seen by readers",
            "Events behind",
            "Heard",
            "Disk free",
            "Snapshot",
            "What is wrong",
        ],
        rows: status.members.iter().map(member).collect(),
        empty: "none is known",
    }
    .show()
}

fn member(row: &MemberRow) -> Vec<Markup> {
    let part = match (row.leads, row.votes) {
        (true, _) => "sequences",
        (false, true) => "votes",
        (false, false) => "reads along",
    };
    let mut wrong: Vec<String> = row.trouble.iter().cloned().collect();
    wrong
        .extend(row.fenced.then(|| "fenced: it sequences nothing until it learns a higher epoch".to_owned()));
    wrong.extend(row.short_of_space.then(|| "short of space: it refuses writes".to_owned()));
    wrong.extend(row.aside.iter().map(|file| format!("entries never committed, kept aside in {file}")));
    vec![
        html! { (row.name) br; span .id { (row.node) } },
        html! { (part) },
        parts::or_dash(row.epoch),
        parts::or_dash(row.index),
        parts::or_dash(row.applied_event),
        parts::or_dash(row.lag_events),
        match row.heard_ms {
            Some(ms) => html! { (parts::span(ms)) " ago" },
            None => html! { "never" },
        },
        parts::or_dash(row.disk_free.map(parts::size)),
        match (row.snapshot_event, row.snapshot_age_ms) {
            (Some(event), Some(age)) => html! { "event " (event) ", " (parts::span(age)) " old" },
            _ => html! { "none" },
        },
        html! {
            @if wrong.is_empty() { "nothing known" } @else { (wrong.join("; ")) }
        },
    ]
}

fn apart(status: &ClusterStatus) -> Markup {
    let row = |row: &api::ApartRow| {
        vec![
            html! { (row.name) },
            html! { (row.why) },
            html! { (row.stops.len()) },
            html! { (row.starts.len()) },
            html! { (row.keeps.len()) },
        ]
    };
    html! {
        div #apart data-renewed {
            @if !status.apart.is_empty() {
                (Table {
                    id: "",
                    caption: "Nodes that hold a plan which this log never made",
                    headings: &["Node", "Why", "An adoption stops", "starts", "keeps"],
                    rows: status.apart.iter().map(row).collect(),
                    empty: "",
                }.show())
            }
        }
    }
}

fn backups(status: Option<&BackupStatus>, now: Timestamp) -> Markup {
    let made = |row: &Option<BackupRow>| {
        html! {
            @match row {
                Some(row) => { (row.id) ", event " (row.event) ", " (parts::time(row.at, now)) }
                None => "none yet",
            }
        }
    };
    html! {
        section #backups data-renewed aria-labelledby="backups-heading" {
            h2 #backups-heading { "Backups" }
            @match status {
                None => p { "None was made, and none is made by itself." },
                Some(status) => {
                    dl {
                        dt { "Sent to" } dd { (status.place.as_deref().unwrap_or("nowhere: none is made by itself")) }
                        dt { "Last backup" } dd { (made(&status.last)) }
                        dt { "Last drill" } dd { (made(&status.drill)) }
                        dt { "Archived" }
                        dd { @match &status.archive {
                            Some(archive) => {
                                "up to event " (archive.event) ", " (archive.behind_events) " behind, complete "
                                (parts::span(archive.age_ms)) " ago"
                            }
                            None => "not yet",
                        } }
                        @if let Some(busy) = &status.busy { dt { "Under way" } dd { (busy) } }
                        @for failure in &status.failures {
                            dt { "Failed: " (failure.step) }
                            dd { (failure.why) ", " (parts::time(failure.at, now)) @if failure.goes_on { ", and still fails" } }
                        }
                    }
                }
            }
        }
    }
}

fn change(visit: &Visit, status: &ClusterStatus) -> Markup {
    let all: Vec<(String, String)> =
        status.members.iter().map(|row| (row.name.to_string(), row.name.to_string())).collect();
    let which =
        || vec![forms::Input::choice("node", "Member", &all), forms::Input::text("reason", "Why", "")];
    let reason = vec![forms::Input::text("reason", "Why", "")];
    let life = vec![forms::Input::text("expires_in", "How long it may be used", "1h")];
    forms::section(
        visit,
        &[
            (&acts::PROMOTE, which()),
            (&acts::HANDOVER, which()),
            (&acts::FENCE, which()),
            (&acts::REMOVE, which()),
            (&acts::ADOPT, reason),
            (&acts::MEMBER_TOKEN, life),
            (&acts::SNAPSHOT, Vec::new()),
            (&acts::BACKUP, Vec::new()),
        ],
        &[],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_member_that_does_not_answer_is_named_with_its_trouble() {
        let status: ClusterStatus = serde_json::from_value(json!({
            "cluster": "c", "own": types::NodeId::from_u128(1), "failover": "operator", "leader": null, "epoch": 3,
            "term": 5, "quorum": false, "head": 9, "members": [
                { "node": types::NodeId::from_u128(1), "name": "one", "peer": "p", "api": "", "votes": true, "leads": false,
                  "heard_ms": 0, "lag_events": 0, "fenced": true },
                { "node": types::NodeId::from_u128(2), "name": "two", "peer": "p", "api": "", "votes": true, "leads": false,
                  "heard_ms": 130_000, "trouble": "cannot be reached: <b>" }]
        }))
        .expect("a status");
        let text = render(&status, Timestamp::from_ms(1)).into_string();
        for part in [
            "nobody that this member knows of",
            "does not answer",
            "cannot be reached: &lt;b&gt;",
            "2 min ago",
            "fenced: it sequences nothing",
            "no other member takes authority",
            "None was made",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
