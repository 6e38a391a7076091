//! Handing the lead over, and fencing.

use super::{
    ACT, cluster, name_of, named, noted,
    remove::{elsewhere, proof},
};
use crate::{
    cluster::Cluster,
    http::{
        Http,
        access::Caller,
        answer::{At, Result, refused},
        forward,
        guard::{Pass, Reason, Shown},
        input::Said,
        write,
    },
    journal::Ended,
};
use api::{ActDone, ClusterActRequest, Code, Problem};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use log::Log;
use serde_json::json;
use types::NodeId;

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
        return Err(refused(
            Code::Conflict,
            format!("{} does not vote, so it cannot lead", name_of(cluster, to)),
        ));
    }
    let name = name_of(cluster, to);
    let shown = handing(cluster, to);
    let confirmed = match http.guard.pass(&caller, &said, shown.clone()).await? {
        Pass::Explained(explained) => return Ok(Json(explained).into_response()),
        Pass::Confirmed(confirmed) => confirmed,
    };
    let why = serde_json::to_vec(&confirmed).expect("a confirmation is plain data");
    let handed = cluster.log().hand_over(to, &why, ACT).await;
    match handed {
        Ok(handed) => {
            noted(
                http.guard
                    .ended(&confirmed, &said, &shown, (Ended::Executed, &format!("epoch {}", handed.epoch)))
                    .await,
            );
            let gap_ms = u64::try_from(handed.gap.as_millis()).ok();
            let outcome = format!("{name} sequences in epoch {}", handed.epoch);
            let head = cluster.log().head().event;
            let done = ActDone { outcome, epoch: Some(handed.epoch), event: Some(head), gap_ms };
            Ok(At::new(head, done).into_response())
        }
        Err(error) => {
            noted(http.guard.ended(&confirmed, &said, &shown, (Ended::Failed, &error.to_string())).await);
            let code = if error == log::cluster::HandOverError::Unknown {
                Code::UnknownOutcome
            } else {
                Code::Conflict
            };
            Err(Problem::new(code, error.to_string()).with_hint("holdfast cluster status").into())
        }
    }
}

/// What a handover would do.
fn handing(cluster: &Cluster, to: NodeId) -> Shown {
    let (status, head) = (cluster.log().status(), cluster.log().head());
    let (from, name) = (name_of(cluster, status.own), name_of(cluster, to));
    let lag = status.matched.get(&to).map(|at| head.index.get().saturating_sub(at.get()));
    Shown {
        act: format!("cluster handover {name}"),
        will: vec![
            format!(
                "{from} takes no new write, finishes what is under way, and waits until {name} has everything"
            ),
            format!("{name} is elected and opens the epoch after {}; until then writes wait", head.epoch),
            "if anything fails before the election, this node goes on as before".to_owned(),
        ],
        touches: vec![
            "who sequences; reads, instances, routes and open connections are not touched".to_owned(),
        ],
        irreversible: vec!["an epoch is never closed: going back is another handover".to_owned()],
        invariants: vec![
            proof(
                "acked_is_durable",
                "it takes over only what it has, and it has everything before it stands",
            ),
            proof("one_authority", "this node sequences nothing from before the election on"),
        ],
        overrides: Vec::new(),
        facts: json!({ "entries that it lacks now": lag, "epoch": head.epoch.get() }),
        state: json!({ "epoch": head.epoch.get(), "the node that sequences": status.own.to_string() }),
        reason: Reason::Required,
    }
}

/// `POST /v1/cluster/fence`: explains, or makes the node that is named refuse to sequence.
pub(in crate::http) async fn fence(State(http): State<Http>, caller: Caller, said: Said) -> Result<Response> {
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
        touches: vec![format!(
            "{name} alone: it votes, follows and serves reads as before, and deposes nobody"
        )],
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
    let log = cluster.log().clone();
    let fenced = tokio::task::spawn_blocking(move || (log.fence(), log.head())).await;
    match fenced.map_err(|error| refused(Code::Internal, error.to_string()))? {
        (Ok(epoch), head) => {
            noted(
                http.guard
                    .ended(&confirmed, &said, &shown, (Ended::Executed, &format!("epoch {epoch}")))
                    .await,
            );
            let outcome = format!(
                "{name} is fenced in epoch {epoch}, at entry {} and event {}",
                head.index, head.event
            );
            let done = ActDone { outcome, epoch: Some(epoch), event: Some(head.event), gap_ms: None };
            Ok(At::new(head.event, done).into_response())
        }
        (Err(error), _) => {
            noted(http.guard.ended(&confirmed, &said, &shown, (Ended::Failed, &error.to_string())).await);
            Err(refused(Code::Internal, format!("the marker could not be written: {error}")))
        }
    }
}
