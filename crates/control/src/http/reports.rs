//! What nodes say: that they live, and what their instances did.

use super::{
    Http,
    access::Caller,
    answer::{At, Result, refused},
    input::{self, Said},
    streams, write,
};
use crate::{observe::Line, writer::Answer};
use api::{Code, LeaseAnswer, Problem, ReportAnswer, ReportRequest};
use axum::extract::State;
use domain::Command;
use std::collections::BTreeMap;
use types::{
    InstanceId, limits,
    plan::{Change, Lease, NodeRole, Transition},
};

/// `POST /v1/node/lease`: noted in memory only.
pub(super) async fn lease(State(http): State<Http>, caller: Caller, said: Said) -> Result<At<LeaseAnswer>> {
    let node = caller.node()?;
    let lease: Lease = input::json(&said.body)?;
    streams::named(lease.held.clone().unwrap_or(lease.generation.into()))?;
    let state = http.core.state();
    streams::plays(&state, node, lease.role)?;
    let now = http.core.now();
    if lease.held.as_ref().is_some_and(|held| http.core.is_late(&state, held)) {
        return Err(refused(Code::Unavailable, "this server has not caught up with its log yet"));
    }
    let identity = http.core.identity();
    http.core.observations().renew(node, &lease, now, Line { state: &state, identity: &identity });
    let generation = streams::newest(&state, node, lease.role).unwrap_or_default();
    let answer = LeaseAnswer { generation, server_time: now, cluster: identity };
    Ok(At::new(state.head, answer))
}

/// `POST /v1/node/report`: what is accepted is durable, or was of no use.
pub(super) async fn report(State(http): State<Http>, caller: Caller, said: Said) -> Result<At<ReportAnswer>> {
    let node = caller.node()?;
    let ReportRequest { mut transitions } = input::json(&said.body)?;
    streams::plays(&http.core.state(), node, NodeRole::Agent)?;
    if transitions.len() > limits::REPORT_BATCH {
        let detail =
            format!("{} transitions in one report; {} is the most", transitions.len(), limits::REPORT_BATCH);
        return Err(refused(Code::TooMany, detail));
    }
    // A log that is older than what runs does not know these instances, and must not make the
    // agent forget what it saw of them. Whether it is older, the node's plan tells.
    if let Some(why) = http.core.why_apart(node) {
        return Err(refused(Code::Conflict, why));
    }
    if !http.core.observations().has_heard(node, NodeRole::Agent) {
        let detail = "this server has not heard yet which plan the node's agent holds";
        let problem = Problem::new(Code::Unavailable, detail);
        return Err(problem.with_hint("renew the lease, and report it again").into());
    }
    if http.core.observations().comes_over(node) {
        let detail = "the node's agent still acts on a plan of another log";
        return Err(Problem::new(Code::Unavailable, detail)
            .with_hint("report it again under the new plan")
            .into());
    }
    transitions.iter_mut().for_each(shorten);
    let accepted = highest(&transitions);
    let submitted = http.core.submit(Command::Report { node, transitions }, caller.actor(), None);
    let Ok(answer) = tokio::time::timeout(limits::VERDICT_WAIT.into(), submitted).await else {
        let detail = format!("the log did not answer within {}; report it again", limits::VERDICT_WAIT);
        return Err(Problem::new(Code::UnknownOutcome, detail).into());
    };
    match answer {
        Answer::Executed { event, .. } => Ok(At::new(event, ReportAnswer { accepted })),
        Answer::Refused { code, text, .. } => Err(refused(code.parse().unwrap_or(Code::Conflict), text)),
        Answer::Unavailable { storage_full, why } => Err(write::not_now(storage_full, why).into()),
        Answer::Unknown { why } => Err(refused(Code::UnknownOutcome, why)),
    }
}

fn highest(transitions: &[Transition]) -> BTreeMap<InstanceId, u64> {
    let mut highest = BTreeMap::new();
    for transition in transitions {
        let sequence: &mut u64 = highest.entry(transition.instance).or_default();
        *sequence = (*sequence).max(transition.sequence);
    }
    highest
}

/// A detail is for people and stays in the log for ever: it is cut to its bound.
fn shorten(transition: &mut Transition) {
    match &mut transition.change {
        Change::Waiting { detail, .. }
        | Change::Unready { detail }
        | Change::Crashed { detail, .. }
        | Change::Failed { detail, .. } => {
            if let Some((end, _)) = detail.char_indices().nth(limits::DETAIL_CHARS) {
                detail.truncate(end);
            }
        }
        Change::Preparing | Change::Booting | Change::Ready | Change::Stopped | Change::Collected => {}
    }
}
