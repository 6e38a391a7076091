//! A round from its beginning to the verdict: the cluster is formed, there is trouble, all is made
//! well, and then it must come to rest, and everything that was ever said must be true.

use super::{
    client::{self, client},
    fate,
    life::FOUNDER,
    members,
    net::number,
    world::{World, dir, lock},
};
use crate::{
    Violation,
    invariants::{
        acked_is_durable, gapless_order, linearizable, no_confirmation_no_act, one_authority,
        promotion_is_atomic, request_runs_once, views_are_folds,
    },
};
use log::{Log, cluster::Failover};
use rt::SimTasks;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::Instant;
use types::{EventId, NodeId};

/// A cluster of well members is formed within this.
pub(crate) const FORMED: Duration = Duration::from_secs(20);
/// Once all is well, a cluster writes and all its members have caught up within this.
const RESTS: Duration = Duration::from_secs(60);
/// How often somebody looks.
pub(crate) const LOOK: Duration = Duration::from_millis(25);

/// The invariant that a cluster whose members are all well comes to write again.
pub(crate) const LIVENESS: &str = "liveness";

/// The whole round. What is found is kept in the world.
pub(crate) async fn whole(world: Arc<World>) {
    fate::calm(&world);
    world.start(FOUNDER);
    if !members::form(&world, FORMED).await {
        return;
    }
    let Some(tasks) = SimTasks::here() else { return };
    let mut clients: Vec<_> = (0..3).map(|_| tasks.spawn(client(Arc::clone(&world)))).collect();
    if world.plan.readers {
        clients.push(tasks.spawn(client::reader(Arc::clone(&world), tasks.dice())));
    }
    let fate = tasks.spawn(fate::fate(Arc::clone(&world)));
    tokio::pin!(fate);
    loop {
        tokio::select! {
            biased;
            _ended = &mut fate => break,
            () = tokio::time::sleep(LOOK) => {}
        }
        if broken(&world, &tasks) {
            return;
        }
    }
    clients.iter().for_each(rt::JoinHandle::abort);
    fate::heal(&world);
    if rest(&world, &tasks).await {
        judge(&world);
    }
}

/// Whether there is a violation already. Panics are.
fn broken(world: &World, tasks: &SimTasks) -> bool {
    for (process, text) in tasks.panics() {
        world.violated(Violation::new("panic", format!("in process {}: {text}", process.0)));
    }
    world.violation().is_some()
}

/// Waits until somebody writes, and everybody has read it.
pub(crate) async fn rest(world: &Arc<World>, tasks: &SimTasks) -> bool {
    let healed = Instant::now();
    let mut written = None;
    let mut promoting: Option<rt::JoinHandle<()>> = None;
    let mut sent = Vec::new();
    while healed.elapsed() < RESTS {
        tokio::time::sleep(LOOK).await;
        if broken(world, tasks) {
            return false;
        }
        let era = world.era();
        let nodes = world.nodes_of(era);
        world.nodes().into_iter().for_each(|node| world.start(node));
        let Some(leader) = leader(world) else {
            // The node that may stand by itself has its chance first.
            if world.plan.failover == Failover::Operator
                && healed.elapsed() > RESTS / 6
                && promoting.as_mut().is_none_or(is_over)
            {
                promoting = Some(tasks.spawn(fate::promote(Arc::clone(world), one_of(world, &nodes))));
            }
            continue;
        };
        if written.is_none() {
            written = write(world, leader, &mut sent).await;
            continue;
        }
        let present = members::present(world, era);
        members::bring_machines(world, &present, era);
        if members::voters(world, era).is_some() && all_are_at(world, &present) {
            return true;
        }
    }
    let nodes = world.nodes_of(world.era());
    let working = lock(&world.operators).working;
    let heads: Vec<_> = nodes
        .iter()
        .map(|node| (number(*node), world.running(*node).map(|(_, log)| (log.head().index, log.status()))))
        .collect();
    let what = format!("all is well for {RESTS:?}; written: {written:?}; operators: {working}; {heads:?}");
    world.violated(Violation::new(LIVENESS, what));
    false
}

fn one_of(world: &World, nodes: &[NodeId]) -> NodeId {
    nodes[world.random.below(nodes.len() as u64) as usize]
}

/// A node that sequences.
pub(crate) fn leader(world: &World) -> Option<NodeId> {
    world.decides(world.era())
}

fn is_over(handle: &mut rt::JoinHandle<()>) -> bool {
    use futures_util::FutureExt;
    handle.now_or_never().is_some()
}

pub(crate) async fn write(
    world: &Arc<World>,
    leader: NodeId,
    sent: &mut Vec<control::Proposal>,
) -> Option<EventId> {
    let (_, core) = world.core(leader)?;
    let now = core.now();
    let state = core.state();
    let proposals = crate::workload::proposals(&state, &world.random, now, sent);
    let proposal = proposals.into_iter().find(|proposal| proposal.request.is_some())?;
    match client::ask(world, leader, proposal).await? {
        control::Answer::Executed { event, .. } => Some(event),
        control::Answer::Refused { event, .. } => event,
        control::Answer::Unavailable { .. } | control::Answer::Unknown { .. } => None,
    }
}

/// Whether nobody changes the members any more, all of them show the same end, and their state and views
/// have reached it.
fn all_are_at(world: &World, nodes: &BTreeSet<NodeId>) -> bool {
    if lock(&world.operators).working > 0 || nodes.is_empty() {
        return false;
    }
    let ends: Vec<_> = nodes
        .iter()
        .filter_map(|node| {
            let (_, log) = world.running(*node)?;
            let (_, core) = world.core(*node)?;
            let head = log.head();
            (core.state().head == head.event && *core.viewed().borrow() == head.event).then_some(head)
        })
        .collect();
    let read = world.told(world.era()).read.len() as u64;
    ends.len() == nodes.len() && ends.iter().all(|head| *head == ends[0] && head.event.get() == read)
}

/// Everything is held against everything.
pub(crate) fn judge(world: &Arc<World>) {
    let era = world.era();
    let present = members::present(world, era);
    let told = world.told(era);
    world.count(|tally| tally.events = told.read.len() as u64);
    let mut found: Vec<Violation> = Vec::new();
    let mut check = |result: Result<(), Violation>| found.extend(result.err());
    check(acked_is_durable::check_cluster(&told));
    check(request_runs_once::check(&told.read, &told.calls));
    check(linearizable::check(&told));
    for node in present {
        let Some((_, log)) = world.running(node) else { continue };
        let Some((_, core)) = world.core(node) else { continue };
        check(gapless_order::check(log.head(), &told.read));
        let folds = core.with_views(|views| views_are_folds::check(&told.read, &core.state(), views));
        check(folds.map_err(|violation| violation.of(number(node))));
        let mut epochs = Vec::new();
        let scanned = world.with_machine(node, |machine| {
            log::wal::scan(&machine.disk, &dir(), EventId::ZERO, |header, parts| {
                epochs.push(one_authority::Entry::of(header, parts));
            })
        });
        match scanned {
            Some(Ok(())) => {
                check(one_authority::check(&told, &epochs));
                check(promotion_is_atomic::check(&told, &epochs));
                check(no_confirmation_no_act::check(&told, world.plan.failover, &epochs));
            }
            None => {}
            Some(Err(error)) => check(Err(Violation::new("verify", format!("{}: {error}", number(node))))),
        }
    }
    drop(told);
    found.into_iter().for_each(|violation| world.violated(violation));
}
