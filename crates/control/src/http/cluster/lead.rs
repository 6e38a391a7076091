//! Handing the lead over, and fencing.

use super::{ACT, cluster, name_of, named};
use crate::{
    audit::Ended,
    cluster::Cluster,
    http::{
        Http,
        access::Caller,
        act::{By, Came, elsewhere, guarded, proof},
        answer::{At, Result, refused},
        guard::{Reason, Shown},
        input::Said,
        write,
    },
};
use api::{ActDone, ClusterActRequest, Code, Problem};
use axum::{extract::State, response::Response};
use domain::Confirmed;
use log::{
    Log,
    cluster::{HandOverError, HandedOver},
};
use serde_json::json;
use types::{EventId, NodeId};

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
    if let Some(answer) = elsewhere(&http, cluster, &said, By::Leader, false).await? {
        return Ok(answer);
    }
    let (name, run) = (name_of(cluster, to), cluster.clone());
    let act = format!("cluster handover {name}");
    guarded(&http, &caller, said, &act, handing(cluster, to), move |confirmed| async move {
        let handed = run.log().hand_over(to, &in_epoch(&confirmed), ACT).await;
        came_of(handed, &name, run.log().head().event)
    })
    .await
}

/// What the epoch says that an act opens.
pub(super) fn in_epoch(confirmed: &Confirmed) -> Vec<u8> {
    serde_json::to_vec(confirmed).expect("a confirmation is plain data")
}

fn came_of(handed: std::result::Result<HandedOver, HandOverError>, name: &str, head: EventId) -> Came {
    match handed {
        Ok(handed) => {
            let done = ActDone::executed(format!("{name} sequences in epoch {}", handed.epoch));
            let gap_ms = u64::try_from(handed.gap.as_millis()).ok();
            let done = ActDone { epoch: Some(handed.epoch), event: Some(head), gap_ms, ..done };
            Came::executed(format!("epoch {}", handed.epoch), At::new(head, done))
        }
        Err(error) => {
            let code = if error.is_unknown() { Code::UnknownOutcome } else { Code::Conflict };
            let problem = Problem::new(code, error.to_string()).with_hint("holdfast cluster status");
            Came::not(Ended::Failed, error.to_string(), problem.into())
        }
    }
}

/// What a handover would do.
fn handing(cluster: &Cluster, to: NodeId) -> Result<Shown> {
    let (status, head) = (cluster.log().status(), cluster.log().head());
    if to == status.own {
        return Err(refused(Code::Conflict, "this node sequences already"));
    }
    if !status.voters.contains(&to) {
        let detail = format!("{} does not vote, so it cannot lead", name_of(cluster, to));
        return Err(refused(Code::Conflict, detail));
    }
    let (from, name) = (name_of(cluster, status.own), name_of(cluster, to));
    let lag = status.matched.get(&to).map(|at| head.index.get().saturating_sub(at.get()));
    Ok(Shown {
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
    })
}

/// `POST /v1/cluster/fence`: explains, or makes the node that is named refuse to sequence.
pub(in crate::http) async fn fence(State(http): State<Http>, caller: Caller, said: Said) -> Result<Response> {
    let asked: ClusterActRequest = write::parse(&said)?;
    let cluster = cluster(&http)?;
    let node = named(cluster, &asked)?;
    if let Some(answer) = elsewhere(&http, cluster, &said, By::Member(node), false).await? {
        return Ok(answer);
    }
    let shown = fencing(cluster, http.core.leads());
    let (act, name, run) = (shown.act.clone(), name_of(cluster, node), cluster.clone());
    guarded(&http, &caller, said, &act, Ok(shown), move |_| fenced(run, name)).await
}

/// What a fence would do.
fn fencing(cluster: &Cluster, sequences: bool) -> Shown {
    let (head, name) = (cluster.log().head(), name_of(cluster, cluster.own()));
    let mut will = vec![format!(
        "{name} writes a marker to its disk and sequences nothing until an epoch after {} is committed here",
        head.epoch
    )];
    if sequences {
        will.push("it sequences now: from the marker on no member takes writes until another one is elected or promoted".to_owned());
    }
    let mut irreversible = vec!["the marker is lifted by a higher epoch and by nothing else".to_owned()];
    if cluster.log().status().voters.len() < 2 {
        irreversible.push("no other member votes, so none can open one: only holdfast cluster recover goes on with this log".to_owned());
    }
    Shown {
        act: format!("cluster fence {name}"),
        will,
        touches: vec![format!(
            "{name} alone: it votes, follows and serves reads as before, and deposes nobody"
        )],
        irreversible,
        invariants: vec![proof("one_authority", "a fenced node holds no authority, also after a restart")],
        overrides: Vec::new(),
        facts: json!({ "epoch": head.epoch.get(), "last event": head.event.get(), "last entry": head.index.get(), "sequences now": sequences }),
        state: json!({ "epoch": head.epoch.get(), "it sequences now": sequences }),
        reason: Reason::Required,
    }
}

async fn fenced(cluster: Cluster, name: String) -> Came {
    let log = cluster.log().clone();
    let fenced = rt::blocking(move || (log.fence(), log.head())).await;
    let (why, code) = match fenced {
        Ok((Ok(epoch), head)) => {
            let done = format!(
                "{name} is fenced in epoch {epoch}, at entry {} and event {}",
                head.index, head.event
            );
            let done = ActDone { epoch: Some(epoch), event: Some(head.event), ..ActDone::executed(done) };
            return Came::executed(format!("epoch {epoch}"), At::new(head.event, done));
        }
        Ok((Err(error), _)) => (format!("the marker could not be written: {error}"), Code::Internal),
        Err(gone) => (gone.to_string(), Code::Internal),
    };
    Came::not(Ended::Failed, why.clone(), refused(code, why))
}
