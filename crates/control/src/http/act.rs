//! What is the same in every guarded act on the cluster: who carries it out, and how it goes from its
//! call to its end.
//!
//! ```text
//!   about another member, or for the one that leads ─► handed on
//!   denied ─► with a token: written down ─► the denial
//!   explained ─► the explanation
//!   judged ─► a task of its own: confirmed ─► run ─► its end is written down ─► answered, if anybody waits
//! ```
//!
//! A client that hangs up stops nothing: from the moment its token is used up, an act runs to its end, which
//! is bounded.

use super::{
    Http,
    access::Caller,
    answer::{At, Refused, Result},
    attempts::{self, Attempt},
    cluster::internal,
    forward,
    guard::{self, Shown},
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

/// What came of an act.
pub(super) struct Came {
    /// How it ended, as the journal is told; none where the log itself says it.
    pub(super) ended: Option<(Ended, String)>,
    pub(super) answer: Result<At<ActDone>>,
}

impl Came {
    /// It was executed and stands in no log.
    pub(super) fn executed(told: String, answer: At<ActDone>) -> Self {
        Self { ended: Some((Ended::Executed, told)), answer: Ok(answer) }
    }

    /// It was executed, and the log says so.
    pub(super) fn in_log(answer: At<ActDone>) -> Self {
        Self { ended: None, answer: Ok(answer) }
    }

    /// It ended in this way, with a problem.
    pub(super) fn not(ended: Ended, told: String, refused: Refused) -> Self {
        Self { ended: Some((ended, told)), answer: Err(refused) }
    }

    /// The log did not take its command.
    pub(super) fn refused(refused: Refused) -> Self {
        let ended = attempts::kind(&refused.problem).map(|ended| (ended, refused.problem.detail.clone()));
        Self { ended, answer: Err(refused) }
    }
}

/// Explains an act, or confirms it and runs it. `act` names it where `shown` does not, because it is denied.
pub(super) async fn guarded<F>(
    http: &Http,
    caller: &Caller,
    said: Said,
    act: &str,
    shown: Result<Shown>,
    run: impl FnOnce(Confirmed) -> F + Send + 'static,
) -> Result<Response>
where
    F: Future<Output = Came> + Send + 'static,
{
    let shown = match shown {
        Ok(shown) => shown,
        Err(denied) => {
            http.guard.denied(caller, &said, act, &denied.problem).await;
            return Err(denied);
        }
    };
    if guard::wants_explanation(&said) {
        return Ok(Json(http.guard.explain(caller, &said, shown)?).into_response());
    }
    let confirmed = http.guard.judge(caller, &said, &shown).await?;
    // The token is used up: between this and the task nothing waits, so that nobody who hangs up takes the act
    // with them, and what comes of it is the task's to write down.
    Attempt::is_confirmed(&said.parts);
    let http = Arc::clone(http);
    let done = rt::spawn(async move {
        http.guard.confirm(&confirmed, &said, &shown).await?;
        let Came { ended, answer } = run(confirmed.clone()).await;
        Boundary::ActDone.reached();
        // What was done is done, also when the journal does not take it; that it was confirmed stands there.
        let problem = answer.as_ref().err().map(|refused| refused.problem.as_ref());
        Attempt::is_written(&said.parts);
        if let Some((ended, told)) = ended
            && let Err(refused) = http.guard.ended(&confirmed, &said, &shown, (ended, &told), problem).await
        {
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
        Ok(executed) => Came::in_log(done(executed.event, executed.done.summary)),
        Err(refused) => Came::refused(refused),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_log_refuses_is_told_as_what_it_is() {
        let ended = |code| Came::refused(Problem::new(code, "why").into()).ended.map(|(ended, _)| ended);
        assert_eq!(ended(Code::ConfirmationStale), Some(Ended::Refused));
        assert_eq!(ended(Code::TooMany), Some(Ended::Refused));
        assert_eq!(ended(Code::PreconditionFailed), Some(Ended::Refused));
        assert_eq!(ended(Code::Denied), Some(Ended::Denied));
        assert_eq!(ended(Code::UnknownOutcome), Some(Ended::Failed));
        assert_eq!(ended(Code::Unavailable), Some(Ended::Failed));
        assert_eq!(ended(Code::NotVisibleYet), None, "it is executed, and the log says so");
    }
}
