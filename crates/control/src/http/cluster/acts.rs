//! Handing over, fencing, removing.

use super::{ACT, cluster, name_of, named, noted};
use crate::{
    cluster::Cluster,
    http::{
        Http,
        access::Caller,
        answer::{At, Result, refused},
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
use log::Log;
use serde_json::json;
use std::time::Duration;
use types::NodeId;

fn proof(name: &str, proven_by: impl Into<String>) -> Proof {
    Proof { name: name.to_owned(), proven_by: proven_by.into() }
}

/// The member that leads, if it is another.
fn elsewhere(http: &Http, cluster: &Cluster) -> Result<Option<NodeId>> {
    if http.core.leads() {
        return Ok(None);
    }
    let leader = cluster.leader().ok_or_else(|| {
        let problem = Problem::new(Code::Unavailable, cluster.why_no_leader());
        problem.with_hint("holdfast cluster status says who is there and who is missing")
    })?;
    Ok(Some(leader.node))
}

/// `POST /v1/cluster/handover`: explains, or moves the lead to the node that is named, at the member
/// that has it.
pub(in crate::http) async fn handover(
    State(http): State<Http>,
    caller: Caller,
    said: Said,
) -> Result<Response> {
    let asked: ClusterActRequest = write::parse(&said)?;
    let cluster = cluster(&http)?;
    let to = named(cluster, &asked)?;
    if let Some(leader) = elsewhere(&http, cluster)? {
        return forward::to_member(cluster, leader, &said).await;
    }
    let status = cluster.log().status();
    if to == status.own {
        return Err(refused(Code::Conflict, "this node sequences already"));
    }
    if !status.voters.contains(&to) {
        return Err(refused(Code::Conflict, format!("{} does not vote, so it cannot lead", name_of(cluster, to))));
    }
    let head = cluster.log().head();
    let (from, name) = (name_of(cluster, status.own), name_of(cluster, to));
    let lag = status.matched.get(&to).map(|at| head.index.get().saturating_sub(at.get()));
    let shown = Shown {
        act: format!("cluster handover {name}"),
        will: vec![
            format!("{from} takes no new write, finishes what is under way, and waits until {name} has everything"),
            format!("{name} is elected and opens the epoch after {}; until then writes wait", head.epoch),
            "if anything fails before the election, this node goes on as before".to_owned(),
        ],
        touches: vec!["who sequences; reads, instances, routes and open connections are not touched".to_owned()],
        irreversible: vec!["an epoch is never closed: going back is another handover".to_owned()],
        invariants: vec![
            proof("acked_is_durable", "it takes over only what it has, and it has everything before it stands"),
            proof("one_authority", "this node sequences nothing from before the election on"),
        ],
        overrides: Vec::new(),
        facts: json!({ "entries that it lacks now": lag, "epoch": head.epoch.get() }),
        state: json!({ "epoch": head.epoch.get(), "the node that sequences": status.own.to_string() }),
        reason: Reason::Required,
    };
    let confirmed = match http.guard.pass(&caller, &said, shown.clone()).await? {
        Pass::Explained(explained) => return Ok(Json(explained).into_response()),
        Pass::Confirmed(confirmed) => confirmed,
    };
    let why = serde_json::to_vec(&confirmed).expect("a confirmation is plain data");
    let handed = cluster.log().hand_over(to, &why, ACT).await;
    match handed {
        Ok(handed) => {
            noted(http.guard.ended(&confirmed, &said, &shown, (Ended::Executed, &format!("epoch {}", handed.epoch))).await);
            let gap_ms = u64::try_from(handed.gap.as_millis()).ok();
            let outcome = format!("{name} sequences in epoch {}", handed.epoch);
            let head = cluster.log().head().event;
            let done = ActDone { outcome, epoch: Some(handed.epoch), event: Some(head), gap_ms };
            Ok(At::new(head, done).into_response())
        }
        Err(error) => {
            noted(http.guard.ended(&confirmed, &said, &shown, (Ended::Failed, &error.to_string())).await);
            let code = if error.is_unknown() { Code::UnknownOutcome } else { Code::Conflict };
            Err(Problem::new(code, error.to_string()).with_hint("holdfast cluster status").into())
        }
    }
}

/// `POST /v1/cluster/fence`: explains, or makes the node that is named refuse to sequence.
pub(in crate::http) async fn fence(
    State(http): State<Http>,
    caller: Caller,
    said: Said,
) -> Result<Response> {
    let asked: ClusterActRequest = write::parse(&said)?;
    let cluster = cluster(&http)?;
    let node = named(cluster, &asked)?;
    if node != cluster.own() {
        return forward::to_member(cluster, node, &said).await;
    }
    let (head, name) = (cluster.log().head(), name_of(cluster, node));
    let sequences = http.core.leads();
    let mut will = vec![format!(
        "{name} writes a marker to its disk and sequences nothing until an epoch after {} is committed here",
        head.epoch
    )];
    if sequences {
        will.push("it sequences now: from the marker on no member takes writes until another one is elected or promoted".to_owned());
    }
    let shown = Shown {
        act: format!("cluster fence {name}"),
        will,
        touches: vec![format!("{name} alone: it votes, follows and serves reads as before, and deposes nobody")],
        irreversible: vec!["the marker is lifted by a higher epoch and by nothing else".to_owned()],
        invariants: vec![proof("one_authority", "a fenced node holds no authority, also after a restart")],
        overrides: Vec::new(),
        facts: json!({ "epoch": head.epoch.get(), "last event": head.event.get(), "last entry": head.index.get(), "sequences now": sequences }),
        state: json!({ "epoch": head.epoch.get(), "it sequences now": sequences }),
        reason: Reason::Required,
    };
    let confirmed = match http.guard.pass(&caller, &said, shown.clone()).await? {
        Pass::Explained(explained) => return Ok(Json(explained).into_response()),
        Pass::Confirmed(confirmed) => confirmed,
    };
    match cluster.log().fence().await {
        Ok(position) => {
            noted(http.guard.ended(&confirmed, &said, &shown, (Ended::Executed, &format!("epoch {}", position.epoch))).await);
            let outcome = format!(
                "{name} is fenced in epoch {}, at entry {} and event {}",
                position.epoch, position.index, position.event
            );
            let done = ActDone { outcome, epoch: Some(position.epoch), event: Some(position.event), gap_ms: None };
            Ok(At::new(position.event, done).into_response())
        }
        Err(error) => {
            noted(http.guard.ended(&confirmed, &said, &shown, (Ended::Failed, &error.to_string())).await);
            Err(refused(Code::Internal, format!("the marker could not be written: {error}")))
        }
    }
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
            noted(http.guard.ended(&confirmed, &said, &shown, (Ended::Failed, &refused.problem.detail)).await);
            return Err(refused);
        }
    };
    noted(http.guard.ended(&confirmed, &said, &shown, (Ended::Executed, &format!("event {}", executed.event))).await);
    let gone = gone(cluster, node).await;
    let outcome = match gone {
        true => format!("{name} is no member any more; what it says is refused"),
        false => format!("{name} is removed by event {}; the members are changed as soon as a majority answers", executed.event),
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
    let left: Vec<NodeId> = status.voters.iter().copied().filter(|voter| *voter != node).collect();
    if left.is_empty() {
        let detail = format!("{name} is the only member that votes: without it there is no cluster");
        return Err(Problem::new(Code::Conflict, detail).into());
    }
    let reports = cluster.reports().await;
    let answering = left.iter().filter(|voter| reports.get(voter).is_some_and(Result::is_ok)).count();
    let needed = left.len() / 2 + 1;
    if status.voters.contains(&node) && answering < needed {
        let detail = format!(
            "denied by acked_is_durable: without {name} {} voters are left, {needed} of them must answer to write anything, and {answering} do",
            left.len()
        );
        let problem = Problem::new(Code::Denied, detail);
        return Err(problem.with_hint("start the members that do not answer, or remove one of those first").into());
    }
    let spare = left.len() - needed;
    let mut will = vec![format!("{name} loses its vote and is nothing to this cluster any more; what it says is refused")];
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
        irreversible: vec![format!("the id {node} is never used again; the machine can join anew under another")],
        invariants: vec![proof(
            "acked_is_durable",
            format!("{answering} of the {} voters that are left answer, {needed} are needed", left.len()),
        )],
        overrides: Vec::new(),
        facts: json!({ "voters now": before, "voters afterwards": left.len(), "epoch": http.core.head().epoch.get() }),
        state: json!({
            "who votes": status.voters.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "epoch": http.core.head().epoch.get(),
        }),
        reason: Reason::Required,
    })
}
