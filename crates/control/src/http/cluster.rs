//! The cluster, seen from one of its members, and what operators do to it.
//!
//! An act is explained and confirmed where it is carried out: at the node that is to lead, at the one
//! that leads, at the one that is to be fenced. Any member hands the request on, once; the token is in
//! the memory of the member that acts.

mod adopt;
mod lead;
mod promote;
mod remove;

pub(super) use adopt::adopt;
pub(super) use lead::{fence, handover};
pub(super) use promote::promote;
pub(super) use remove::remove;

use super::{
    Http,
    access::Caller,
    answer::{At, Refused, Result, missing, refused},
    apart, backups,
    input::Said,
    tokens,
    write::{self, Write},
};
use crate::{
    cluster::{Cluster, Invitation, MemberReport, Mode},
    secret::Secret,
};
use api::{
    ClusterActRequest, ClusterStatus, Code, Failover, Fingerprint, MemberJoinRequest, MemberJoinSecret,
    MemberRow, Outcome, PeerRefused, Problem, SnapshotDone,
};
use axum::extract::State;
use domain::{Command, NewToken};
use log::cluster::TransportError;
use std::time::Duration;
use types::{ByteSize, NodeId, Timestamp};

/// This server's place in its cluster.
fn cluster(http: &Http) -> Result<&Cluster> {
    http.cluster.as_ref().ok_or_else(|| refused(Code::Unavailable, "this server's log has no members"))
}

/// The member of this name or id.
fn member(cluster: &Cluster, named: &str) -> Result<NodeId> {
    let members = cluster.log().status().members;
    let by_name = || members.iter().find(|(_, member)| member.name == named).map(|(node, _)| *node);
    let by_id = named.parse::<NodeId>().ok().filter(|node| members.contains_key(node));
    by_id.or_else(by_name).ok_or_else(|| {
        let problem = missing(format_args!("member {named}")).problem;
        problem.with_hint("holdfast cluster status lists the members").into()
    })
}

/// The member that an act is about; without a name, the one that is asked.
fn named(cluster: &Cluster, asked: &ClusterActRequest) -> Result<NodeId> {
    asked.node.as_deref().map_or(Ok(cluster.own()), |named| member(cluster, named))
}

/// What people call a member.
fn name_of(cluster: &Cluster, node: NodeId) -> String {
    let members = cluster.log().status().members;
    let name = members.get(&node).map(|member| member.name.clone()).filter(|name| !name.is_empty());
    name.map_or(node.to_string(), |name| format!("{name} ({node})"))
}

/// `GET /v1/cluster`
pub(super) async fn status(State(http): State<Http>) -> Result<At<ClusterStatus>> {
    let cluster = cluster(&http)?;
    let status = cluster.log().status();
    let mut reports = cluster.reports().await;
    let newest = reports.values().flatten().map(|report| report.event).max().unwrap_or_default();
    let (contacts, health, now) = (cluster.contacts().all(), cluster.transport().health(), http.core.now());
    let heard = |node: &NodeId| {
        let asked = contacts.get(node).map(|contact| contact.heard);
        asked.max(health.get(node).and_then(|health| health.heard))
    };
    let answers = |node: &&NodeId| matches!(reports.get(*node), Some(Ok(report)) if report.takes_part());
    let answering = status.voters.iter().filter(answers).count();
    let backup = backups::status(&http.core, reports.values().flatten());
    let members = status.members.iter().map(|(node, member)| {
        let report = reports.remove(node);
        let mut row = MemberRow {
            node: *node,
            name: member.name.parse().unwrap_or_else(|_| UNNAMED.parse().expect("a valid name")),
            peer: member.peer.clone(),
            api: member.api.clone(),
            votes: status.firm.contains(node),
            leads: false,
            epoch: None,
            applied_event: None,
            index: None,
            lag_events: None,
            heard_ms: None,
            disk_free: None,
            snapshot_event: None,
            snapshot_age_ms: None,
            fenced: false,
            short_of_space: false,
            aside: Vec::new(),
            trouble: None,
        };
        match report {
            Some(Ok(report)) => fill(&mut row, report, newest.get(), now),
            Some(Err(error)) => row.trouble = Some(trouble(&error)),
            None => {}
        }
        row.heard_ms = match *node == status.own {
            true => Some(0),
            false => heard(node).map(|at| now.since(at).as_ms()),
        };
        row
    });
    let mut members: Vec<MemberRow> = members.collect();
    members.sort_by(|one, other| (&one.name, one.node).cmp(&(&other.name, other.node)));
    let head = http.core.head();
    let refused = cluster.contacts().refused();
    let body = ClusterStatus {
        cluster: cluster.name().to_owned(),
        fingerprint: cluster.identity().fingerprint().ok().map(|print| Fingerprint(print).to_string()),
        own: status.own,
        failover: match cluster.settings().failover {
            Mode::Automatic => Failover::Automatic,
            Mode::Operator => Failover::Operator,
        },
        leader: members.iter().find(|row| row.leads).map(|row| row.node),
        epoch: head.epoch,
        term: status.term,
        quorum: answering > status.voters.len() / 2,
        head: head.event,
        members,
        refused: refused.map(|last| PeerRefused { from: last.from.to_string(), why: last.why, at: last.at }),
        backup,
        apart: apart::first(&http.core),
    };
    Ok(At::new(head.event, body))
}

/// What a member is called that nobody has named.
const UNNAMED: &str = "unnamed";

fn fill(row: &mut MemberRow, report: MemberReport, newest: u64, now: Timestamp) {
    row.leads = report.sequences;
    row.epoch = Some(report.epoch);
    row.index = Some(report.index);
    row.applied_event = Some(report.applied);
    row.lag_events = Some(newest.saturating_sub(report.event.get()));
    row.disk_free = report.disk_free.map(ByteSize::from_bytes);
    row.snapshot_event = report.snapshot.map(|(event, _)| event);
    row.snapshot_age_ms = report.snapshot.map(|(_, at)| now.since(at).as_ms());
    row.short_of_space = report.short_of_space;
    row.fenced = report.fenced;
    row.aside = report.aside;
    row.trouble = report.trouble;
}

fn trouble(error: &TransportError) -> String {
    match error {
        TransportError::Unreachable(why) => format!("cannot be reached: {why}"),
        TransportError::Lost(why) => format!("does not answer: {why}"),
        TransportError::Refused(why) => format!("refuses: {why}"),
    }
}

/// `POST /v1/cluster/join-tokens`
pub(super) async fn join_token(
    State(http): State<Http>,
    caller: Caller,
    said: Said,
) -> Result<At<MemberJoinSecret>> {
    let cluster = cluster(&http)?;
    if cluster.settings().listen.is_none() {
        let detail = "this member does not listen for others, so nobody can join through it";
        let hint = "stop it, and give it an address: holdfast cluster init --data-dir DIR --peer HOST:PORT";
        return Err(Problem::new(Code::Conflict, detail).with_hint(hint).into());
    }
    let asked: MemberJoinRequest = write::parse(&said)?;
    let write = Write::read(&http, &said, &caller)?;
    if write.before(&http.core.state())?.is_some() {
        return Err(refused(
            Code::Conflict,
            "this request made a secret before, which was in its first answer only",
        ));
    }
    let secret = Secret::make(http.core.random());
    let expires = http.core.now().plus(tokens::lifetime(asked.expires_in)?);
    let name = "member-join".parse().expect("a valid name");
    let token = NewToken { name, hash: secret.hash(), expires: Some(expires) };
    let executed = write.submit(&http, Command::CreateMemberJoin { token }).await?;
    let authority = cluster.identity().fingerprint().map_err(|error| internal(&error))?;
    let secret = Invitation { secret, authority }.to_string();
    Ok(At::new(executed.event, MemberJoinSecret { outcome: Outcome::Executed, secret, expires }))
}

pub(super) fn internal(error: &dyn std::fmt::Display) -> Refused {
    refused(Code::Internal, error.to_string())
}

/// `POST /v1/cluster/snapshot`
pub(super) async fn snapshot(State(http): State<Http>) -> Result<At<SnapshotDone>> {
    let core = http.core.clone();
    let saved = tokio::task::spawn_blocking(move || core.save_snapshot()).await;
    let event = saved.map_err(|error| internal(&error))?.map_err(|why| {
        let problem = Problem::new(Code::Unavailable, format!("the snapshot could not be made: {why}"));
        problem.with_hint("the log goes on without it; the one before is kept")
    })?;
    Ok(At::new(event, SnapshotDone { outcome: Outcome::Executed, event }))
}

/// How long an act may take once it is confirmed.
const ACT: Duration = Duration::from_secs(10);
