//! `POST /v1/cluster/promote`: make another node the one that sequences.

use super::{cluster, name_of, named, noted};
use crate::{
    cluster::Cluster,
    http::{
        Http,
        access::Caller,
        answer::{At, Refused, Result},
        forward,
        guard::{Pass, Reason, Shown},
        input::Said,
        write,
    },
    journal::Ended,
};
use api::{ActDone, ClusterActRequest, Code, Problem, Proof};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use log::{
    Log,
    cluster::{Denied, Position, Promotion, Said as Voter, Validation},
};
use serde_json::json;

/// Explains, or runs a promotion of the node that is named, at that node.
pub(in crate::http) async fn promote(
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
    let validation = cluster.log().validate().await;
    if let Err(denied) = &validation.verdict {
        return Err(denial(denied));
    }
    let shown = shown(cluster, &validation);
    let confirmed = match http.guard.pass(&caller, &said, shown.clone()).await? {
        Pass::Explained(explained) => return Ok(Json(explained).into_response()),
        Pass::Confirmed(confirmed) => confirmed,
    };
    let why = serde_json::to_vec(&confirmed).expect("a confirmation is plain data");
    let promotion = cluster.log().promote(&why).await;
    let (ended, told) = match &promotion {
        Promotion::Succeeded(epoch) => (Ended::Executed, format!("epoch {epoch} is open")),
        Promotion::Denied(denied) => (Ended::Denied, denied.to_string()),
        Promotion::NotWon => (Ended::Failed, NOT_WON.to_owned()),
        Promotion::Unknown => (Ended::Failed, UNKNOWN.to_owned()),
    };
    noted(http.guard.ended(&confirmed, &said, &shown, (ended, &told)).await);
    match promotion {
        Promotion::Succeeded(epoch) => {
            let head = cluster.log().head().event;
            let outcome = format!("{} sequences in epoch {epoch}", name_of(cluster, node));
            let done = ActDone { outcome, epoch: Some(epoch), event: Some(head), gap_ms: None };
            Ok(At::new(head, done).into_response())
        }
        Promotion::Denied(denied) => Err(denial(&denied)),
        Promotion::NotWon => {
            Err(Problem::new(Code::Conflict, NOT_WON).with_hint("holdfast cluster status").into())
        }
        Promotion::Unknown => {
            let hint = "holdfast cluster status: the epoch that the members name is the answer";
            Err(Problem::new(Code::UnknownOutcome, UNKNOWN).with_hint(hint).into())
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
    let mut facts = vec![row(own, "is to be promoted", Some(&validation.own))];
    facts.extend(validation.said.iter().map(|(node, said)| {
        let (words, position) = words(said);
        row(*node, &words, position)
    }));
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
            format!("it stands for election: {promises} of {voters} voters promise their votes, {needed} are needed"),
            format!("one entry opens the epoch after {}: from then on {name} sequences, not {before}", head.epoch),
            lost,
        ],
        touches: vec!["who sequences; running instances, routes and open connections are not touched".to_owned()],
        irreversible: vec!["an epoch is never closed: going back is another promotion or a handover".to_owned()],
        invariants: vec![
            Proof {
                name: "one_authority".to_owned(),
                proven_by: format!("the promises of {promises} of {voters} voters, and no sign of life of {before}"),
            },
            Proof {
                name: "acked_is_durable".to_owned(),
                proven_by: "every acknowledged entry is on a majority, and no voter that promises has more than this node".to_owned(),
            },
            Proof {
                name: "promotion_is_atomic".to_owned(),
                proven_by: "one committed entry names the new authority; before it the old one stands".to_owned(),
            },
        ],
        overrides: Vec::new(),
        facts: json!(facts),
        state: json!({
            "epoch": head.epoch.get(),
            "the node that sequences": before,
            "this node's last entry": validation.own.last.map(|id| id.index + 1),
            "who promises": validation.said.iter().filter(|(_, said)| matches!(said, Voter::Would(_))).map(|(node, _)| node.to_string()).collect::<Vec<_>>(),
        }),
        reason: Reason::Required,
    }
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
