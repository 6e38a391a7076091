//! `POST /v1/cluster/promote`: make another node the one that sequences.

use super::{cluster, lead::in_epoch, name_of, named};
use crate::{
    audit::Ended,
    cluster::Cluster,
    http::{
        Http,
        access::Caller,
        act::{By, Came, elsewhere, guarded, proof},
        answer::{At, Refused, Result},
        guard::{Reason, Shown},
        input::Said,
        write,
    },
};
use api::{ActDone, ClusterActRequest, Code, Problem};
use axum::{extract::State, response::Response};
use log::{
    Log,
    cluster::{Denied, Position, Promotion, Said as Voter, Validation},
};
use serde_json::{Value, json};

/// Explains, or runs a promotion of the node that is named, at that node.
pub(in crate::http) async fn promote(
    State(http): State<Http>,
    caller: Caller,
    said: Said,
) -> Result<Response> {
    let asked: ClusterActRequest = write::parse(&said)?;
    let cluster = cluster(&http)?;
    let node = named(cluster, &asked)?;
    if let Some(answer) = elsewhere(&http, cluster, &said, By::Member(node), false).await? {
        return Ok(answer);
    }
    let (name, run) = (name_of(cluster, node), cluster.clone());
    let validation = cluster.log().validate().await;
    let shown = match &validation.verdict {
        Ok(()) => Ok(shown(cluster, &validation)),
        Err(denied) => Err(denial(denied)),
    };
    guarded(&http, &caller, said, &format!("cluster promote {name}"), shown, move |confirmed| async move {
        came_of(run.log().promote(&in_epoch(&confirmed)).await, &run, &name)
    })
    .await
}

fn came_of(promotion: Promotion, cluster: &Cluster, name: &str) -> Came {
    match promotion {
        Promotion::Succeeded(epoch) => {
            let head = cluster.log().head().event;
            let done = ActDone::executed(format!("{name} sequences in epoch {epoch}"));
            let done = ActDone { epoch: Some(epoch), event: Some(head), ..done };
            Came::executed(format!("epoch {epoch} is open"), At::new(head, done))
        }
        Promotion::Denied(denied) => Came::not(Ended::Denied, denied.to_string(), denial(&denied)),
        Promotion::NotWon => {
            let problem = Problem::new(Code::Conflict, NOT_WON).with_hint("holdfast cluster status");
            Came::not(Ended::Failed, NOT_WON.to_owned(), problem.into())
        }
        Promotion::Unknown => {
            let hint = "holdfast cluster status: the epoch that the members name is the answer";
            let problem = Problem::new(Code::UnknownOutcome, UNKNOWN).with_hint(hint);
            Came::not(Ended::Failed, UNKNOWN.to_owned(), problem.into())
        }
    }
}

const NOT_WON: &str = "it stood for election and did not win: the old authority stands";
const UNKNOWN: &str = "it stood for election and its epoch is not committed yet: only the log can say";

/// Why it may not be, with the invariant that would not be proven.
fn denial(denied: &Denied) -> Refused {
    let (invariant, hint) = match denied {
        Denied::MajorityMissing { .. } => (
            "one_authority",
            "start the members that are missing; if a majority is lost for good: holdfast cluster recover",
        ),
        Denied::PrimaryAlive { .. } => {
            ("one_authority", "holdfast cluster handover NODE moves the lead of one that lives")
        }
        Denied::Behind { .. } => {
            ("acked_is_durable", "promote the member that has the most: holdfast cluster status")
        }
        Denied::Later { .. } => ("promotion_is_atomic", "holdfast cluster status says who sequences now"),
        Denied::Fenced => ("one_authority", "promote another member; the fence is lifted by a higher epoch"),
        Denied::NotAVoter => ("one_authority", "only a member that votes can be promoted"),
        Denied::IsPrimary => ("one_authority", "there is nothing to do"),
    };
    let detail = format!("denied by {invariant}: {denied}; nothing has changed anywhere");
    Problem::new(Code::Denied, detail).with_hint(hint).into()
}

fn shown(cluster: &Cluster, validation: &Validation) -> Shown {
    let (own, status) = (cluster.own(), cluster.log().status());
    let head = cluster.log().head();
    let name = name_of(cluster, own);
    let before = cluster.log().sequencer().map_or("nobody".to_owned(), |node| name_of(cluster, node));
    let promises = validation.said.values().filter(|said| matches!(said, Voter::Would(_))).count() + 1;
    let (voters, needed) = (status.voters.len(), status.voters.len() / 2 + 1);
    let silent: Vec<String> = validation
        .said
        .iter()
        .filter(|(_, said)| matches!(said, Voter::Silent(_)))
        .map(|(node, _)| name_of(cluster, *node))
        .collect();
    let lost = match silent.is_empty() {
        true => "nothing is lost: every voter promises its vote and none has more entries".to_owned(),
        false => format!(
            "nothing that was acknowledged is lost; what {} wrote and no majority has was never acknowledged, and is kept aside there when it returns",
            silent.join(" and ")
        ),
    };
    Shown {
        act: format!("cluster promote {name}"),
        will: vec![
            format!("{name} asks every voter once more whether it would win; until then nothing is durable"),
            format!(
                "it stands for election: {promises} of {voters} voters promise their votes, {needed} are needed"
            ),
            format!(
                "one entry opens the epoch after {}: from then on {name} sequences, not {before}",
                head.epoch
            ),
            lost,
        ],
        touches: vec![
            "who sequences; running instances, routes and open connections are not touched".to_owned(),
        ],
        irreversible: vec![
            "an epoch is never closed: going back is another promotion or a handover".to_owned(),
        ],
        invariants: vec![
            proof(
                "one_authority",
                format!("the promises of {promises} of {voters} voters, and no sign of life of {before}"),
            ),
            proof(
                "acked_is_durable",
                "every acknowledged entry is on a majority, and no voter that promises has more than this node",
            ),
            proof(
                "promotion_is_atomic",
                "one committed entry names the new authority; before it the old one stands",
            ),
        ],
        overrides: Vec::new(),
        facts: facts(cluster, validation),
        state: json!({
            "epoch": head.epoch.get(),
            "the node that sequences": before,
            "this node's last entry": validation.own.last.map(|id| id.index + 1),
            "who promises": validation.said.iter().filter(|(_, said)| matches!(said, Voter::Would(_))).map(|(node, _)| node.to_string()).collect::<Vec<_>>(),
        }),
        reason: Reason::Required,
    }
}

/// What is known of each member, as far as it said anything.
fn facts(cluster: &Cluster, validation: &Validation) -> Value {
    let row = |node, said: &str, position: Option<&Position>| {
        json!({
            "member": name_of(cluster, node),
            "says": said,
            "last_entry": position.and_then(|at| at.last).map(|id| id.index + 1),
            "committed": position.map(|at| at.committed.get()),
            "epoch": position.map(|at| at.epoch.get()),
            "term": position.map(|at| at.term.get()),
        })
    };
    let mut facts = vec![row(cluster.own(), "is to be promoted", Some(&validation.own))];
    facts.extend(validation.said.iter().map(|(node, said)| {
        let (words, position) = words(said);
        row(*node, &words, position)
    }));
    json!(facts)
}

fn words(said: &Voter) -> (String, Option<&Position>) {
    match said {
        Voter::Would(at) => ("would vote for it".into(), Some(at)),
        Voter::HearsLeader(at) => ("hears a leader".into(), Some(at)),
        Voter::IsAhead(at) => ("has more entries".into(), Some(at)),
        Voter::KnowsLater(at) => ("knows of a later election".into(), Some(at)),
        Voter::Leads(at) => ("leads".into(), Some(at)),
        Voter::Silent(error) => (format!("silent, which proves nothing: {error}"), None),
    }
}
