//! People and programs that use the cluster: they ask, hear nothing, ask the same again elsewhere, and
//! read what they are promised to be the latest.

use super::{
    Mistake,
    net::number,
    world::{START, World},
};
use crate::{Violation, invariants::linearizable, workload};
use control::{Answer, Proposal};
use domain::State;
use log::Log;
use rt::{Process, SimTasks};
use std::{sync::Arc, time::Duration};
use tokio::sync::oneshot;
use types::{DurationMs, NodeId};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// A client has so many requests in mind that it may send again.
const REMEMBERED: usize = 12;

/// Asks until the round is over.
pub(crate) async fn client(world: Arc<World>) {
    let mut sent: Vec<Proposal> = Vec::new();
    let mut liked = world.any_node();
    loop {
        tokio::time::sleep(Duration::from_millis(world.random.below(world.plan.pace_ms))).await;
        if world.random.percent(10) {
            read(&world, liked).await;
        }
        let state = world.core(liked).map(|(_, core)| core.state());
        let state = state.unwrap_or_else(|| Arc::new(State::default()));
        let now = START.plus(DurationMs::from_ms(world.plan.begun.elapsed().as_millis() as u64));
        let mut proposals = workload::proposals(&state, &world.random, now, &mut sent);
        // A horizon is moved with the clocks of those who do it, which jump here.
        proposals.retain(|proposal| proposal.request.is_some() || state.cluster.is_empty());
        let excess = sent.len().saturating_sub(REMEMBERED);
        sent.drain(..excess);
        for proposal in proposals {
            match ask(&world, liked, proposal).await {
                Some(Answer::Executed { .. } | Answer::Refused { .. }) => {}
                other => {
                    world.count(|tally| tally.unheard += u64::from(other.is_none()));
                    let known = leader(&world).filter(|_| world.random.percent(70));
                    liked = known.unwrap_or_else(|| world.any_node());
                    let wait = world.random.below(2 * world.plan.pace_ms);
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                }
            }
        }
    }
}

/// Reads from anybody, without waiting for one answer before it asks for the next.
pub(crate) async fn reader(world: Arc<World>, seed: u64) {
    let random = rt::SimRandom::new(seed);
    loop {
        tokio::time::sleep(Duration::from_millis(1 + random.below(20))).await;
        let nodes = world.nodes();
        let node = nodes[random.below(nodes.len() as u64) as usize];
        let world = Arc::clone(&world);
        if let Some(tasks) = SimTasks::here() {
            tasks.spawn(async move { read(&world, node).await });
        }
    }
}

/// Who leads, as some member says.
fn leader(world: &Arc<World>) -> Option<NodeId> {
    let (_, log) = world.running(world.any_node())?;
    log.sequencer()
}

/// One call, which is remembered with its answer.
pub(crate) async fn ask(world: &Arc<World>, node: NodeId, proposal: Proposal) -> Option<Answer> {
    let (process, core) = world.core(node)?;
    let era = world.era_of(node);
    let call = world.told(era).called(proposal.clone());
    let answer = in_process(process, async move { core.propose(proposal).await }).await?;
    world.count(|tally| match &answer {
        Answer::Executed { .. } | Answer::Refused { .. } => tally.answered += 1,
        Answer::Unavailable { storage_full, .. } => {
            tally.unavailable += 1;
            tally.no_space += u64::from(*storage_full);
        }
        Answer::Unknown { .. } => tally.unknown += 1,
    });
    world.told(era).answered(call, answer.clone());
    Some(answer)
}

/// Has a process do this, and waits for what comes of it, at most [`PATIENCE`].
pub(crate) async fn in_process<T: 'static>(
    process: Process,
    what: impl Future<Output = T> + 'static,
) -> Option<T> {
    let (tell, told) = oneshot::channel();
    SimTasks::here()?.spawn_in(process, async move {
        let _gave_up = tell.send(what.await);
    });
    tokio::time::timeout(PATIENCE, told).await.ok()?.ok()
}

/// Reads with the promise that it is the latest.
async fn read(world: &Arc<World>, node: NodeId) {
    let Some((process, log)) = world.running(node) else { return };
    let era = world.era_of(node);
    let floor = world.told(era).floor;
    let trusting = world.mistake() == Some(Mistake::LeaseTrusted);
    let read = in_process(process, async move {
        if trusting {
            let held = log.authority().borrow().is_some();
            return held.then(|| log.head().event);
        }
        log.linearizable().await.ok()
    });
    let Some(Some(event)) = read.await else { return };
    world.count(|tally| tally.read += 1);
    if event < floor {
        let what = format!("{} read event {event} as the latest, after {floor} was known", number(node));
        world.violated(Violation::new(linearizable::NAME, what));
    }
    let mut told = world.told(era);
    told.floor = told.floor.max(event);
}
