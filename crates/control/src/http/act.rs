//! What is the same in every guarded act on the cluster: who carries it out, and how it goes from its
//! call to its end.
//!
//! ```text
//!   about another member, or for the one that leads ─► handed on
//!   denied ─► with a token: written down ─► the denial
//!   explained ─► the explanation
//!   confirmed ─► a task of its own ─► its end is written down ─► answered, if anybody still waits
//! ```
//!
//! A client that hangs up stops nothing: an act that was confirmed runs to its end, which is bounded.

use super::{
    Http,
    access::Caller,
    answer::{At, Result},
    cluster::internal,
    forward,
    guard::{Pass, Shown},
    input::Said,
    rows,
    write::Write,
};
use crate::{audit::Ended, cluster::Cluster};
use api::{ActDone, Code, Problem, Proof};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use domain::{Command, Confirmed, Content, State as Decided, state::Instance};
use rt::Boundary;
use serde_json::{Value, json};
use std::sync::Arc;
use types::{EventId, InstanceId, NodeId, limits};

/// Who carries an act out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// This member, which it is about.
    Member(NodeId),
    /// The one that leads.
    Leader,
}

/// What another member says of an act that it has to carry out; none if it is for this one. `in_log`: whether the
/// log keeps its verdict under the request's id.
pub(super) async fn elsewhere(
    http: &Http,
    cluster: &Cluster,
    said: &Said,
    by: By,
    in_log: bool,
) -> Result<Option<Response>> {
    let node = match by {
        By::Member(node) if node == cluster.own() => return Ok(None),
        By::Member(node) => node,
        By::Leader if http.core.leads() => return Ok(None),
        By::Leader => {
            let leader = cluster.leader().ok_or_else(|| {
                let problem = Problem::new(Code::Unavailable, cluster.why_no_leader());
                problem.with_hint("holdfast cluster status says who is there and who is missing")
            })?;
            leader.node
        }
    };
    forward::to_member(cluster, node, said, in_log).await.map(Some)
}

/// What came of an act: how it ended, as the journal has it, and the answer.
pub(super) struct Came {
    pub(super) ended: Ended,
    pub(super) told: String,
    pub(super) answer: Result<At<ActDone>>,
}

/// Explains an act, or confirms it and runs it. `act` names it where `shown` does not, because it is denied.
pub(super) async fn guarded<F>(
    http: &Http,
    caller: &Caller,
    said: Said,
    act: &str,
    shown: Result<Shown>,
    run: impl FnOnce(Confirmed) -> F,
) -> Result<Response>
where
    F: Future<Output = Came> + Send + 'static,
{
    let shown = match shown {
        Ok(shown) => shown,
        Err(denied) => {
            http.guard.denied(caller, &said, act, &denied.problem.detail).await;
            return Err(denied);
        }
    };
    let confirmed = match http.guard.pass(caller, &said, shown.clone()).await? {
        Pass::Explained(explained) => return Ok(Json(explained).into_response()),
        Pass::Confirmed(confirmed) => confirmed,
    };
    let (http, running) = (Arc::clone(http), run(confirmed.clone()));
    let done = rt::spawn(async move {
        let Came { ended, told, answer } = running.await;
        Boundary::ActDone.reached();
        // What was done is done, also when the journal does not take it; that it was confirmed stands there.
        let problem = answer.as_ref().err().map(|refused| refused.problem.as_ref());
        if let Err(refused) = http.guard.ended(&confirmed, &said, &shown, (ended, &told), problem).await {
            tracing::error!(why = refused.problem.detail, "the end of an act could not be written down");
        }
        answer
    });
    Ok(done.await.map_err(|gone| internal(&gone))??.into_response())
}

/// The answer to an act whose very request was executed before.
pub(super) fn before(http: &Http, write: &Write, outcome: &str) -> Result<Option<Response>> {
    let executed = write.before(&http.core.state())?;
    Ok(executed.map(|executed| done(executed.event, outcome.to_owned()).into_response()))
}

/// Has the log decide an act that is one command.
pub(super) async fn decided(http: &Http, write: &Write, command: Command) -> Came {
    match write.submit(http, command).await {
        Ok(executed) => {
            let (event, outcome) = (executed.event, executed.done.summary);
            Came { ended: Ended::Executed, told: format!("event {event}"), answer: Ok(done(event, outcome)) }
        }
        Err(refused) => {
            let told = refused.problem.detail.clone();
            Came { ended: Ended::Failed, told, answer: Err(refused) }
        }
    }
}

fn done(event: EventId, outcome: String) -> At<ActDone> {
    At::new(event, ActDone { event: Some(event), ..ActDone::executed(outcome) })
}

/// What the token of an act is bound to.
pub(super) fn bound(content: &Content) -> Value {
    Value::Object(content.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect())
}

/// Instances as an explanation knows them. They change by themselves, so that nothing is bound to it.
pub(super) fn instances<'a>(
    state: &Decided,
    found: impl Iterator<Item = (InstanceId, &'a Arc<Instance>)>,
) -> Value {
    let row = |(id, instance): (InstanceId, &Arc<Instance>)| {
        json!({
            "instance": id.to_string(),
            "of": format!("{}/{}", state.env_label(instance.env), instance.process),
            "node": state.nodes.get(&instance.node).map(|node| node.name.to_string()),
            "state": rows::instance_word(instance.state),
        })
    };
    let mut rows: Vec<Value> = found.map(row).collect();
    let more = rows.len().saturating_sub(limits::ACT_ROWS);
    rows.truncate(limits::ACT_ROWS);
    if more > 0 {
        rows.push(json!({ "instance": format!("and {more} more") }));
    }
    Value::Array(rows)
}

/// An invariant, and what proves it.
pub(super) fn proof(name: &str, proven_by: impl Into<String>) -> Proof {
    Proof { name: name.to_owned(), proven_by: proven_by.into() }
}
