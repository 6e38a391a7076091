//! A leader whose first entry takes longer to be committed than it waits for it, or is never committed.

use super::{
    Plan, Round, client,
    cut_short::{cut_off, may_be_promoted, others},
    fate,
    life::FOUNDER,
    members, plan, play, verdict,
    world::{World, dir},
};
use crate::invariants::one_authority;
use log::{Log, cluster::Failover};
use rt::{SimRandom, SimTasks};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;
use types::{EventId, NodeId};

/// What came of it.
#[derive(Clone, Debug)]
pub struct SlowEpoch {
    /// With the verdict on everything that was said.
    pub round: Round,
    /// Whether it was slow: the dice may have let it be committed before.
    pub happened: bool,
    /// So many epochs the promotion opened.
    pub opened: usize,
    /// Whether the node that led for nothing could lead again.
    pub leads_again: bool,
}

/// Plays it, from one seed. With `lost`, nobody ever hears of the entry, and another leads meanwhile.
pub fn slow_epoch(seed: u64, lost: bool) -> SlowEpoch {
    let came = Arc::new(Mutex::new((false, 0, false)));
    let tell = Arc::clone(&came);
    let of_three =
        |random: &SimRandom| Plan { members: 3, loses: false, failover: Failover::Operator, ..plan(random) };
    let round = play(seed, of_three, move |world| whole(world, lost, tell));
    let (happened, opened, leads_again) = *came.lock().expect("no code panics while it holds this");
    SlowEpoch { round, happened, opened, leads_again }
}

async fn whole(world: Arc<World>, lost: bool, came: Arc<Mutex<(bool, usize, bool)>>) {
    fate::calm(&world);
    world.nodes().into_iter().for_each(|node| world.start(node));
    let Some(tasks) = SimTasks::here() else { return };
    if !members::form(&world, verdict::FORMED).await || !verdict::rest(&world, &tasks).await {
        return;
    }
    let [candidate, voter] = others(&world, FOUNDER);
    cut_off(&world, &tasks, FOUNDER);
    if !may_be_promoted(&world, candidate).await {
        return;
    }
    tasks.spawn(fate::promote(Arc::clone(&world), candidate));
    let sequences = || world.running(candidate).is_some_and(|(_, log)| log.authority().borrow().is_some());
    let leads = || world.running(candidate).is_some_and(|(_, log)| log.status().state == "leader");
    let deadline = Instant::now() + Duration::from_secs(4);
    while Instant::now() < deadline && !leads() {
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    // From the very moment on at which it leads nobody acknowledges anything.
    world.weather().cut.insert((voter, candidate));
    if lost {
        world.weather().cut.insert((candidate, voter));
    }
    // Longer than it waits for its entry.
    tokio::time::sleep(world.plan.election.1 * 4).await;
    let happened = leads() && !sequences();
    if lost {
        // Meanwhile the one before leads again.
        world.weather().cut.retain(|way| *way == (voter, candidate) || *way == (candidate, voter));
        let back = Instant::now() + Duration::from_secs(10);
        while Instant::now() < back && verdict::leader(&world) != Some(FOUNDER) {
            tokio::time::sleep(verdict::LOOK).await;
        }
    }
    fate::heal(&world);
    if !verdict::rest(&world, &tasks).await {
        return;
    }
    let opened = epochs(&world, candidate);
    let leader = verdict::leader(&world);
    if let Some((process, log)) =
        leader.filter(|leader| *leader != candidate).and_then(|leader| world.running(leader))
    {
        let (_, why) = world.told(world.era()).wanted(candidate);
        let patience = Duration::from_millis(1400);
        let handing = async move { log.hand_over(candidate, why.as_bytes(), patience).await };
        let _either = client::in_process(process, handing).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let again = sequences();
    if verdict::rest(&world, &tasks).await {
        verdict::judge(&world);
    }
    *came.lock().expect("no code panics while it holds this") = (happened, opened, again);
}

/// How many epochs a node has opened, as its own log has it.
fn epochs(world: &World, node: NodeId) -> usize {
    let mut opened = 0;
    let scanned = world.with_machine(node, |machine| {
        log::wal::scan(&machine.disk, &dir(), EventId::ZERO, |header, parts| {
            opened += usize::from(one_authority::Entry::of(header, parts).opens == Some(node));
        })
    });
    scanned.and_then(Result::ok).map_or(usize::MAX, |()| opened)
}
