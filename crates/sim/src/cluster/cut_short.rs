//! A change of authority during which the power of a machine goes, at one certain operation of its disk.
//!
//! ```text
//!   formed, written ─► the primary is cut off with a write that nobody else has
//!       ─► another is promoted ─► the n-th operation of a disk: no power ─► all is well again ─► one authority?
//! ```
//!
//! What was not synced is lost, kept or torn, as the dice fall. Run for every n until there is none.

use super::{
    Plan, Round, client, fate,
    life::FOUNDER,
    members, plan, play,
    verdict::{self, LOOK},
    world::{Power, World},
};
use crate::Violation;
use log::{
    Log,
    cluster::{Failover, Promotion},
};
use rt::{Fault, SimRandom, SimTasks};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use types::NodeId;

/// Whose power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// The node that is to lead.
    Candidate,
    /// The one whose vote it needs.
    Voter,
}

/// When it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At this operation from the moment on at which authority is to change.
    During(u64),
    /// At this operation after a promotion was told as done; at once, with 0. Then everybody's.
    After(u64),
}

/// What is to happen.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    /// Who may lead: with elections, the members choose by themselves.
    pub failover: Failover,
    /// Whose power goes.
    pub victim: Victim,
    /// When.
    pub when: When,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct CutShort {
    /// With the verdict on everything that was said.
    pub round: Round,
    /// Whether there was such an operation at all.
    pub happened: bool,
    /// What the promotion said; none if nothing was heard.
    pub said: Option<Promotion>,
    /// Whether the candidate led when all was well again.
    pub moved: bool,
}

#[derive(Clone, Debug, Default)]
struct CameOf {
    happened: bool,
    said: Option<Promotion>,
    moved: bool,
}

/// A promotion, and whatever is written after it, is over within this.
const CHANGED: Duration = Duration::from_secs(7);
/// How long a candidate may have to wait until nobody vouches for the old primary.
const SILENT: Duration = Duration::from_secs(10);

/// Plays it, from one seed.
pub fn cut_short(seed: u64, cut: Cut) -> CutShort {
    let came = Arc::new(Mutex::new(CameOf::default()));
    let tell = Arc::clone(&came);
    let of_three =
        |random: &SimRandom| Plan { members: 3, loses: false, failover: cut.failover, ..plan(random) };
    let round = play(seed, of_three, move |world| whole(world, cut, tell));
    let CameOf { happened, said, moved } = came.lock().expect("no code panics while it holds this").clone();
    CutShort { round, happened, said, moved }
}

async fn whole(world: Arc<World>, cut: Cut, came: Arc<Mutex<CameOf>>) {
    let tell =
        |change: &dyn Fn(&mut CameOf)| change(&mut came.lock().expect("no code panics while it holds this"));
    fate::calm(&world);
    world.nodes().into_iter().for_each(|node| world.start(node));
    let Some(tasks) = SimTasks::here() else { return };
    if !members::form(&world, verdict::FORMED).await || !verdict::rest(&world, &tasks).await {
        return;
    }
    let old = verdict::leader(&world).unwrap_or(FOUNDER);
    let [candidate, voter] = others(&world, old);
    let victim = if cut.victim == Victim::Candidate { candidate } else { voter };
    cut_off(&world, &tasks, old);
    let faulted = |world: &World| world.with_machine(victim, |machine| machine.disk.faulted());
    let before = faulted(&world);
    if cut.failover == Failover::Operator && !may_be_promoted(&world, candidate).await {
        return;
    }
    if let When::During(operation) = cut.when {
        world.with_machine(victim, |machine| machine.disk.fail_in(operation, Fault::Crash));
    }
    change(&world, &tasks, (candidate, victim), cut).await;
    tell(&|came| came.happened = faulted(&world) > before || cut.when == When::After(0));
    fate::heal(&world);
    if verdict::rest(&world, &tasks).await {
        verdict::judge(&world);
    }
    let said = world
        .told(world.era())
        .promotions
        .iter()
        .find(|asked| asked.node == candidate)
        .and_then(|asked| asked.result.clone());
    let moved = verdict::leader(&world) == Some(candidate);
    tell(&|came| (came.said, came.moved) = (said.clone(), moved));
}

/// The two that are not this one, of a cluster of three.
pub(super) fn others(world: &World, node: NodeId) -> [NodeId; 2] {
    let others: Vec<_> = world.nodes_of(world.era()).into_iter().filter(|other| *other != node).collect();
    others.try_into().expect("a cluster of three was formed")
}

/// Nobody hears a node any more; it has begun a write that nobody else has.
pub(super) fn cut_off(world: &Arc<World>, tasks: &SimTasks, node: NodeId) {
    let others = world.nodes().into_iter().filter(|other| *other != node);
    world.weather().cut.extend(others.flat_map(|other| [(node, other), (other, node)]));
    let world = Arc::clone(world);
    tasks.spawn(async move { verdict::write(&world, node, &mut Vec::new()).await });
}

/// Waits until nobody vouches for the old primary.
pub(super) async fn may_be_promoted(world: &Arc<World>, candidate: NodeId) -> bool {
    let deadline = Instant::now() + SILENT;
    while Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
        let Some((process, log)) = world.running(candidate) else { continue };
        let validation = client::in_process(process, async move { log.validate().await }).await;
        if validation.is_some_and(|validation| validation.verdict.is_ok()) {
            return true;
        }
    }
    world.violated(Violation::new("liveness", format!("nobody may be promoted within {SILENT:?}")));
    false
}

/// Authority changes, and the power goes.
async fn change(world: &Arc<World>, tasks: &SimTasks, (candidate, victim): (NodeId, NodeId), cut: Cut) {
    if cut.failover == Failover::Operator {
        tasks.spawn(fate::promote(Arc::clone(world), candidate));
    }
    let deadline = Instant::now() + CHANGED;
    let mut sent = Vec::new();
    let mut written = None;
    let mut told = false;
    while Instant::now() < deadline && written.is_none() {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let gone = world.with_machine(victim, |machine| !machine.disk.is_powered()).unwrap_or_default();
        if gone {
            world.crash(victim, Power::Lost);
            world.start(victim);
        }
        let succeeded = |asked: &super::Asked| matches!(asked.result, Some(Promotion::Succeeded(_)));
        if let When::After(operation) = cut.when
            && !told
            && world.told(world.era()).promotions.iter().any(succeeded)
        {
            told = true;
            if operation == 0 {
                break;
            }
            world.with_machine(victim, |machine| machine.disk.fail_in(operation, Fault::Crash));
        }
        let writes = told || matches!(cut.when, When::During(_));
        let sequences = world.running(candidate).is_some_and(|(_, log)| log.authority().borrow().is_some());
        if writes && sequences {
            written = verdict::write(world, candidate, &mut sent).await;
        } else if world.told(world.era()).promotions.iter().any(|asked| asked.result.is_some()) && !gone {
            break;
        }
    }
    if let When::After(_) = cut.when {
        world.nodes().into_iter().for_each(|node| world.crash(node, Power::Lost));
    }
}
