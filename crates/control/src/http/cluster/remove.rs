//! Removing a member.

use super::{ACT, cluster, name_of, named, noted};
use crate::{
    cluster::Cluster,
    http::{
        Http,
        access::Caller,
        answer::{At, Result},
        forward,
        guard::{Pass, Reason, Shown},
        input::Said,
        write::{self, Write},
    },
    journal::Ended,
};
use api::{ActDone, ClusterActRequest, Code, Problem, Proof};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use domain::Command;
use serde_json::json;
use std::time::Duration;
use types::NodeId;

pub(super) fn proof(name: &str, proven_by: impl Into<String>) -> Proof {
    Proof { name: name.to_owned(), proven_by: proven_by.into() }
}

/// The member that leads, if it is another.
pub(super) fn elsewhere(http: &Http, cluster: &Cluster) -> Result<Option<NodeId>> {
    if http.core.leads() {
        return Ok(None);
    }
    let leader = cluster.leader().ok_or_else(|| {
        let problem = Problem::new(Code::Unavailable, cluster.why_no_leader());
        problem.with_hint("holdfast cluster status says who is there and who is missing")
    })?;
    Ok(Some(leader.node))
}

/// `POST /v1/cluster/remove`: explains, or removes a member for ever.
pub(in crate::http) async fn remove(
    State(http): State<Http>,
    caller: Caller,
    said: Said,
) -> Result<Response> {
    let asked: ClusterActRequest = write::parse(&said)?;
    let cluster = cluster(&http)?;
    if let Some(leader) = elsewhere(&http, cluster)? {
        return forward::to_member(cluster, leader, &said).await;
    }
    let write = Write::read(&http, &said, caller.actor())?;
    if let Some(executed) = write.before(&http.core.state())? {
        let outcome = "it was removed before, by this very request".to_owned();
        let done = ActDone { outcome, epoch: None, event: Some(executed.event), gap_ms: None };
        return Ok(At::new(executed.event, done).into_response());
    }
    let node = named(cluster, &asked)?;
    let shown = removal(&http, cluster, node).await?;
    let confirmed = match http.guard.pass(&caller, &said, shown.clone()).await? {
        Pass::Explained(explained) => return Ok(Json(explained).into_response()),
        Pass::Confirmed(confirmed) => confirmed,
    };
    let name = name_of(cluster, node);
    let command = Command::RemoveMember { node, confirmed: confirmed.clone() };
    let executed = match write.submit(&http, command).await {
        Ok(executed) => executed,
        Err(refused) => {
            noted(
                http.guard.ended(&confirmed, &said, &shown, (Ended::Failed, &refused.problem.detail)).await,
            );
            return Err(refused);
        }
    };
    noted(
        http.guard
            .ended(&confirmed, &said, &shown, (Ended::Executed, &format!("event {}", executed.event)))
            .await,
    );
    let gone = gone(cluster, node).await;
    let outcome = match gone {
        true => format!("{name} is no member any more; what it says is refused"),
        false => format!(
            "{name} is removed by event {}; the members are changed as soon as a majority answers",
            executed.event
        ),
    };
    let done = ActDone { outcome, epoch: None, event: Some(executed.event), gap_ms: None };
    Ok(At::new(executed.event, done).into_response())
}

/// Waits, bounded, until consensus has it no more.
async fn gone(cluster: &Cluster, node: NodeId) -> bool {
    let deadline = tokio::time::Instant::now() + ACT;
    while cluster.log().status().members.contains_key(&node) {
        if tokio::time::Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    true
}

async fn removal(http: &Http, cluster: &Cluster, node: NodeId) -> Result<Shown> {
    let status = cluster.log().status();
    let name = name_of(cluster, node);
    // One that the log has removed already is on its way out, and counts for nothing.
    let state = http.core.state();
    let leaves = |voter: &NodeId| state.members.get(voter).is_some_and(|member| !member.is_present());
    let left: Vec<NodeId> =
        status.voters.iter().copied().filter(|voter| *voter != node && !leaves(voter)).collect();
    if left.is_empty() {
        let detail = format!("{name} is the only member that votes: without it there is no cluster");
        return Err(Problem::new(Code::Conflict, detail).into());
    }
    let reports = cluster.reports().await;
    let answering = left
        .iter()
        .filter(|voter| matches!(reports.get(voter), Some(Ok(report)) if report.takes_part()))
        .count();
    let needed = left.len() / 2 + 1;
    if status.voters.contains(&node) && answering < needed {
        let detail = format!(
            "denied by acked_is_durable: without {name} {} voters are left, {needed} of them must answer to write anything, and {answering} do",
            left.len()
        );
        let problem = Problem::new(Code::Denied, detail);
        return Err(problem
            .with_hint("start the members that do not answer, or remove one of those first")
            .into());
    }
    let spare = left.len() - needed;
    let mut will = vec![format!(
        "{name} loses its vote and is nothing to this cluster any more; what it says is refused"
    )];
    if node == status.own {
        will.push("it sequences now: the lead is handed over first".to_owned());
    }
    let before = status.voters.len();
    let spare_before = before - (before / 2 + 1);
    Ok(Shown {
        act: format!("cluster remove {name}"),
        will,
        touches: vec![format!(
            "how many members may fail: {spare_before} of {before} now, {spare} of {} afterwards",
            left.len()
        )],
        irreversible: vec![format!(
            "the id {node} is never used again; the machine can join anew under another"
        )],
        invariants: vec![proof(
            "acked_is_durable",
            format!("{answering} of the {} voters that are left answer, {needed} are needed", left.len()),
        )],
        overrides: Vec::new(),
        facts: json!({ "voters now": before, "voters afterwards": left.len(), "epoch": http.core.head().epoch.get() }),
        state: json!({
            "who votes": left.iter().chain([&node]).map(ToString::to_string).collect::<Vec<_>>(),
            "epoch": http.core.head().epoch.get(),
        }),
        reason: Reason::Required,
    })
}
