//! Removing a member.

use super::{ACT, cluster, name_of, named};
use crate::{
    cluster::Cluster,
    http::{
        Http,
        access::Caller,
        act::{By, Came, before, elsewhere, guarded, proof},
        answer::{At, Result},
        guard::{Reason, Shown},
        input::Said,
        write::{self, Write},
    },
};
use api::{ActDone, ClusterActRequest, Code, Problem};
use axum::{extract::State, response::Response};
use domain::{Command, State as Decided};
use serde_json::json;
use std::{collections::BTreeSet, time::Duration};
use types::NodeId;

/// `POST /v1/cluster/remove`: explains, or removes a member for ever.
pub(in crate::http) async fn remove(
    State(http): State<Http>,
    caller: Caller,
    said: Said,
) -> Result<Response> {
    let asked: ClusterActRequest = write::parse(&said)?;
    let cluster = cluster(&http)?;
    if let Some(answer) = elsewhere(&http, cluster, &said, By::Leader, true).await? {
        return Ok(answer);
    }
    let write = Write::read(&http, &said, &caller)?;
    if let Some(answer) = before(&http, &write, "it was removed before, by this very request")? {
        return Ok(answer);
    }
    let node = named(cluster, &asked)?;
    let (name, shown) = (name_of(cluster, node), removal(&http, cluster, node).await);
    let act = format!("cluster remove {name}");
    let (core, run) = (http.clone(), cluster.clone());
    guarded(&http, &caller, said, &act, shown, move |confirmed| async move {
        let command = Command::RemoveMember { node, confirmed };
        let executed = match write.submit(&core, command).await {
            Ok(executed) => executed,
            Err(refused) => return Came::refused(refused),
        };
        let event = executed.event;
        let done = match gone(&run, node).await {
            true => format!("{name} is no member any more; what it says is refused"),
            false => format!(
                "{name} is removed by event {event}; the members are changed as soon as a majority answers"
            ),
        };
        let done = ActDone { event: Some(event), ..ActDone::executed(done) };
        Came::in_log(At::new(event, done))
    })
    .await
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

/// Who votes without this one. One that the log has removed already is on its way out, and counts for nothing.
fn left_without(node: NodeId, voters: &BTreeSet<NodeId>, state: &Decided) -> Vec<NodeId> {
    let leaves = |voter: &NodeId| state.members.get(voter).is_some_and(|member| !member.is_present());
    voters.iter().copied().filter(|voter| *voter != node && !leaves(voter)).collect()
}

async fn removal(http: &Http, cluster: &Cluster, node: NodeId) -> Result<Shown> {
    let status = cluster.log().status();
    let name = name_of(cluster, node);
    let left = left_without(node, &status.voters, &http.core.state());
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

#[cfg(test)]
mod tests {
    use super::*;
    use domain::state::MemberState;
    use types::EventId;

    #[test]
    fn those_that_are_leaving_are_not_left() {
        let id = NodeId::from_u128;
        let member = |removed: Option<u64>| MemberState {
            name: "a".parse().expect("a name"),
            peer: String::new(),
            api: String::new(),
            votes: true,
            admitted: EventId::new(1),
            removed: removed.map(EventId::new),
            sequence: 1,
        };
        let mut state = Decided::default();
        for (number, removed) in [(1, None), (2, None), (3, Some(9)), (4, None)] {
            state.members.insert(id(number), member(removed));
        }
        let voters = BTreeSet::from([id(1), id(2), id(3), id(4)]);
        assert_eq!(left_without(id(1), &voters, &state), [id(2), id(4)], "the third is on its way out");
        assert_eq!(left_without(id(9), &voters, &state), [id(1), id(2), id(4)]);
    }
}
