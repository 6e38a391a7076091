//! A round from its beginning to the verdict: the cluster is formed, there is trouble, all is made
//! well, and then it must come to rest, and everything that was ever said must be true.

use super::{
    client::{self, client},
    fate,
    life::{FOUNDER, member},
    net::number,
    world::{World, dir},
};
use crate::{
    Violation,
    invariants::{
        acked_is_durable, gapless_order, linearizable, one_authority, promotion_is_atomic, request_runs_once,
        views_are_folds,
    },
};
use log::{Log, cluster::Failover};
use rt::SimTasks;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time::Instant;
use types::{EventId, NodeId};

/// A cluster of well members is formed within this.
const FORMED: Duration = Duration::from_secs(20);
/// Once all is well, a cluster writes and all its members have caught up within this.
const RESTS: Duration = Duration::from_secs(30);
/// How long a change of the members may take.
const CHANGE: Duration = Duration::from_secs(5);
/// How often somebody looks.
pub(crate) const LOOK: Duration = Duration::from_millis(25);

/// The invariant that a cluster whose members are all well comes to write again.
const LIVENESS: &str = "liveness";

/// The whole round. What is found is kept in the world.
pub(crate) async fn whole(world: Arc<World>) {
    fate::calm(&world);
    for node in world.nodes() {
        world.start(node);
    }
    if !form(&world).await {
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

/// Somebody makes the founder's cluster one of all members.
pub(crate) async fn form(world: &Arc<World>) -> bool {
    let deadline = Instant::now() + FORMED;
    let nodes: BTreeSet<NodeId> = world.nodes().into_iter().collect();
    let mut added = BTreeSet::from([FOUNDER]);
    while Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
        let Some((process, log)) = world.running(FOUNDER) else { continue };
        if log.authority().borrow().is_none() {
            continue;
        }
        if log.status().voters == nodes {
            return true;
        }
        let next = nodes.difference(&added).next().copied();
        let all = nodes.clone();
        let done = client::in_process(process, async move {
            match next {
                Some(node) => log.add_learner(node, member(node), CHANGE).await,
                None => log.set_voters(all, CHANGE).await,
            }
        });
        match done.await {
            Some(Ok(_)) => added.extend(next),
            Some(Err(why)) => world.say(|| format!("forming: {why}")),
            None => {}
        }
    }
    world.violated(Violation::new(LIVENESS, format!("not formed within {FORMED:?}")));
    false
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
        let nodes = world.nodes();
        nodes.iter().for_each(|node| world.start(*node));
        let Some(leader) = leader(world) else {
            // The node that may stand by itself has its chance first.
            if world.plan.failover == Failover::Operator
                && healed.elapsed() > RESTS / 6
                && promoting.as_mut().is_none_or(is_over)
            {
                promoting = Some(tasks.spawn(fate::promote(Arc::clone(world), world.any_node())));
            }
            continue;
        };
        if written.is_none() {
            written = write(world, leader, &mut sent).await;
            continue;
        }
        if all_are_at(world, &nodes) {
            return true;
        }
    }
    let nodes = world.nodes();
    let heads: Vec<_> = nodes
        .iter()
        .map(|node| (number(*node), world.running(*node).map(|(_, log)| (log.head().index, log.status()))))
        .collect();
    let what = format!("all is well for {RESTS:?}; written: {written:?}; {heads:?}");
    world.violated(Violation::new(LIVENESS, what));
    false
}

/// A node that sequences.
pub(crate) fn leader(world: &World) -> Option<NodeId> {
    let sequences =
        |node: &NodeId| world.running(*node).is_some_and(|(_, log)| log.authority().borrow().is_some());
    world.nodes().into_iter().find(sequences)
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

/// Whether all members show the same end, and their state and views have reached it.
fn all_are_at(world: &World, nodes: &[NodeId]) -> bool {
    let ends: Vec<_> = nodes
        .iter()
        .filter_map(|node| {
            let (_, log) = world.running(*node)?;
            let (_, core) = world.core(*node)?;
            let head = log.head();
            (core.state().head == head.event && *core.viewed().borrow() == head.event).then_some(head)
        })
        .collect();
    let read = world.told().read.len() as u64;
    ends.len() == nodes.len() && ends.iter().all(|head| *head == ends[0] && head.event.get() == read)
}

/// Everything is held against everything.
pub(crate) fn judge(world: &Arc<World>) {
    let told = world.told();
    world.count(|tally| tally.events = told.read.len() as u64);
    let mut found: Vec<Violation> = Vec::new();
    let mut check = |result: Result<(), Violation>| found.extend(result.err());
    check(acked_is_durable::check_cluster(&told));
    check(request_runs_once::check(&told.read, &told.calls));
    check(linearizable::check(&told));
    for node in world.nodes() {
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
            Ok(()) => {
                check(one_authority::check(&told, &epochs));
                check(promotion_is_atomic::check(&told, world.plan.failover, &epochs));
            }
            Err(error) => check(Err(Violation::new("verify", format!("{}: {error}", number(node))))),
        }
    }
    drop(told);
    found.into_iter().for_each(|violation| world.violated(violation));
}
