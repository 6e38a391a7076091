//! The majority is lost for good, and an operator begins a new cluster from what is left.
//!
//! What the new one has must be everything that any member that is left knew to be committed, byte for
//! byte. The old members may all come back: they are another cluster's, and stay apart from it.

use super::{
    life::member,
    members::{admit, voters, work},
    net::number,
    world::{Era, Membership, Power, World, dir, lock},
};
use crate::{
    Violation,
    invariants::{acked_is_durable, no_confirmation_no_act},
};
use log::{Head, cluster::recover, wal};
use rt::{Disk, Fault, Random, SimDisk};
use std::{path::Path, sync::Arc, time::Duration};
use types::NodeId;

/// The name of the cluster that was recovered.
pub(crate) const RECOVERED: &str = "sim-recovered";

/// Loses a majority of those that vote, and recovers; says whether it came to that.
pub(crate) async fn lose_majority(world: &Arc<World>) -> bool {
    let Some(voters) = voters(world, Era::First).filter(|voters| voters.len() > 1) else { return false };
    // Others who change the members would never come to an end in a cluster without a majority.
    if lock(&world.operators).working > 0 {
        return false;
    }
    let mut left: Vec<NodeId> = voters.into_iter().collect();
    let mut lost = Vec::new();
    for _ in 0..left.len() / 2 + 1 {
        lost.push(left.remove(world.random.below(left.len() as u64) as usize));
    }
    let numbers = |nodes: &[NodeId]| nodes.iter().map(|node| number(*node)).collect::<Vec<_>>();
    world.say(|| format!("{:?} are lost, {:?} are left", numbers(&lost), numbers(&left)));
    if left.is_empty() {
        // Of two, one is the majority together with the other: either is enough to recover from.
        left.extend(lost.pop());
    }
    world.count(|tally| tally.majorities_lost += 1);
    for node in &lost {
        world.crash(*node, Power::Lost);
        world.with_machine(*node, |machine| machine.gone = true);
    }
    tokio::time::sleep(Duration::from_millis(world.random.below(500))).await;
    recover_from(world, &left).await;
    // What was thought lost comes back: the old cluster may go on, and is another.
    for node in lost.into_iter().chain(left).filter(|_| world.random.percent(60)) {
        world.with_machine(node, |machine| machine.gone = false);
        world.start(node);
    }
    for votes in [true, world.random.percent(70)] {
        let adding = Arc::clone(world);
        work(world, async move {
            admit(&adding, Era::Recovered, votes).await;
        });
    }
    true
}

/// Chooses the member that has the most, and makes its log that of a new cluster.
async fn recover_from(world: &Arc<World>, left: &[NodeId]) {
    let mut found = Vec::new();
    for node in left {
        let power = if world.random.percent(50) { Power::Lost } else { Power::On };
        world.crash(*node, power);
        let disk = world.with_machine(*node, |machine| {
            machine.gone = true;
            machine.disk.restart();
            machine.disk.set_capacity(None);
            machine.disk.clone()
        });
        let Some(disk) = disk else { continue };
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        match wal::position(&shared, Path::new(&dir())) {
            Ok(position) => found.push((position, *node, disk)),
            Err(error) => return fail(world, "position", &error),
        }
    }
    let certain = found.iter().map(|(position, ..)| position.committed).max_by_key(|head| head.event);
    let best = found.into_iter().max_by_key(|(position, ..)| (position.tail.epoch, position.tail.index));
    let (Some((position, old, disk)), Some(certain)) = (best, certain) else { return };
    let node = NodeId::from_u128(world.random.u128());
    if !recover_now(world, &disk, node) {
        return;
    }
    keep(world, (old, node), certain, &position);
    let cluster = Membership { era: Era::Recovered, recovered_at: Some(position.tail.event.get()) };
    world.take_machine(old);
    world.add_machine(node, cluster, Some(disk));
    world.start(node);
}

/// Recovers; the power may go on the way, and then it is done again.
fn recover_now(world: &Arc<World>, disk: &SimDisk, node: NodeId) -> bool {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    if world.random.percent(50) {
        disk.fail_in(1 + world.random.below(60), Fault::Crash);
    }
    let why = no_confirmation_no_act::RECOVERED.as_bytes();
    loop {
        match recover(&shared, Path::new(&dir()), RECOVERED, node, member(node), why) {
            Ok(_) => {
                disk.clear_faults();
                world.count(|tally| tally.recovered += 1);
                return true;
            }
            Err(_) if !disk.is_powered() => {
                world.count(|tally| tally.recoveries_cut_short += 1);
                disk.restart();
            }
            Err(error) => {
                fail(world, "recover", &error);
                return false;
            }
        }
    }
}

fn fail(world: &World, what: &str, error: &dyn std::error::Error) {
    world.violated(Violation::new("recovery", format!("{what}: {error}")));
}

/// From here on the world holds the new cluster to what is certain.
fn keep(world: &World, (old, node): (NodeId, NodeId), certain: Head, position: &wal::Found) {
    let told = world.told(Era::First).recovered(node, certain);
    world.say(|| {
        let floor = world.told(Era::First).floor;
        format!(
            "{} goes on as {} in a new cluster, at {}; certain up to {}, known up to {floor}",
            number(old),
            number(node),
            position.tail.event,
            certain.event
        )
    });
    if position.tail.event < certain.event {
        let what = format!(
            "the member with the highest position ends at {}, and another knows {} to be committed",
            position.tail.event, certain.event
        );
        world.violated(Violation::new(acked_is_durable::NAME, what));
    }
    *world.told(Era::Recovered) = told;
}
