//! One life of one process: it opens its log, takes part, serves commands, and is watched.

use super::{
    disk::LifeDisk,
    members,
    net::{Line, number},
    recovery::RECOVERED,
    world::{Era, World, dir, has_log},
};
use crate::{Violation, invariants::gapless_order};
use control::Core;
use log::{
    Log, ReadError,
    cluster::{ClusterLog, Member, Options},
    wal::Wal,
};
use rt::{Process, SimClock, SimRandom, SimTaskSpawner};
use std::{path::Path, sync::Arc};
use tokio_util::sync::CancellationToken;
use types::{EventId, NodeId};

/// The name of the cluster.
const CLUSTER: &str = "sim";
/// The node that founds the cluster.
pub(crate) const FOUNDER: NodeId = NodeId::from_u128(1);

/// A process that has started.
#[derive(Clone)]
pub(crate) struct Running {
    pub log: ClusterLog,
    pub core: Core,
    pub stop: CancellationToken,
}

/// From the start of a process to its end, unless it is killed before.
pub(crate) async fn live(
    world: Arc<World>,
    node: NodeId,
    process: Process,
    disk: LifeDisk,
    clock: Arc<SimClock>,
) {
    let faulted = || world.with_machine(node, |machine| machine.disk.faulted());
    let before = faulted();
    let begun = begin(&world, node, process, &disk, clock);
    let (running, driver) = match begun {
        Ok(begun) => begun,
        Err(why) if disk.is_gone() || faulted() > before => {
            return world.die(node, process, &why);
        }
        Err(why) => {
            world.violated(Violation::new("recovery", format!("{} refuses to start: {why}", number(node))));
            return world.die(node, process, &why);
        }
    };
    world.with_machine(node, |machine| {
        if let Some(life) = &mut machine.life {
            life.running = Some(running.clone());
        }
    });
    let Running { log, core, stop } = running;
    let recovered_at = world.with_machine(node, |machine| machine.cluster.recovered_at).flatten();
    rt::spawn(members::keep(node, log.clone(), core, recovered_at));
    rt::spawn(watch_authority(Arc::clone(&world), node, process, log.clone()));
    rt::spawn(read_along(Arc::clone(&world), node, disk.clone(), log.clone()));
    driver.run(stop.clone()).await;
    if stop.is_cancelled() {
        log.close();
        world.die(node, process, "it was told to stop");
    } else {
        world.die(node, process, "its writer has ended");
    }
}

fn begin(
    world: &Arc<World>,
    node: NodeId,
    process: Process,
    disk: &LifeDisk,
    clock: Arc<SimClock>,
) -> Result<(Running, control::Driver), String> {
    let door: Arc<dyn rt::Disk> = Arc::new(disk.clone());
    let dir = dir();
    if !has_log(disk).map_err(|error| error.to_string())? {
        let made = match world.with_machine(node, |machine| machine.founds) {
            Some(true) => Wal::create(&door, &dir, CLUSTER, node),
            _ => Wal::create_member(&door, &dir, name(world.era_of(node)), node),
        };
        made.map_err(|error| error.to_string())?;
    }
    let options = Options {
        failover: world.plan.failover,
        election: world.plan.election,
        heartbeat: world.plan.heartbeat,
        own: member(node),
        wal: world.plan.wal,
        random: Arc::new(SimRandom::new(world.random.u64())),
        ..Options::default()
    };
    let line = Arc::new(Line { world: Arc::clone(world), from: node, process });
    // The writer may say it from any task; the process ends with the next one.
    let world_ = Arc::clone(world);
    let fatal = Box::new(move |error: &rt::DiskError| world_.die(node, process, &error.to_string()));
    let (log, recovered) = ClusterLog::open(door, Path::new(&dir), options, &SimTaskSpawner, line, fatal)
        .map_err(|error| chain(&error))?;
    world.count(|tally| tally.tails_cut += u64::from(recovered.dropped.is_some()));
    let random = Arc::new(SimRandom::new(world.random.u64()));
    let (core, driver) = Core::open(Arc::new(log.clone()), clock, random).map_err(|error| chain(&error))?;
    Ok((Running { log, core, stop: CancellationToken::new() }, driver))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn name(era: Era) -> &'static str {
    match era {
        Era::First => CLUSTER,
        Era::Recovered => RECOVERED,
    }
}

pub(crate) fn member(node: NodeId) -> Member {
    Member { name: format!("n{}", number(node)), peer: String::new(), api: String::new() }
}

/// Whoever may decide says so, and is held to it.
async fn watch_authority(world: Arc<World>, node: NodeId, process: Process, log: ClusterLog) {
    let mut authority = log.authority();
    loop {
        let held = *authority.borrow_and_update();
        if let Some(held) = held {
            world.say(|| format!("{} sequences in epoch {}, term {}", number(node), held.epoch, held.term));
            world.count(|tally| tally.authorities += 1);
            let result = world.told_by(node).claimed(node, process, held);
            world.check(result);
        }
        if authority.changed().await.is_err() {
            return;
        }
    }
}

/// Reads everything that is committed, from the first event on, as it becomes visible.
async fn read_along(world: Arc<World>, node: NodeId, disk: LifeDisk, log: ClusterLog) {
    let mut news = log.subscribe();
    let mut at = EventId::ZERO;
    loop {
        news.borrow_and_update();
        let page = 1 + world.random.below(60) as usize;
        match log.read(at, page) {
            Ok(records) if records.is_empty() => {
                if news.changed().await.is_err() {
                    return;
                }
            }
            Ok(records) => {
                at = records.last().map_or(at, |last| last.id);
                let result = world.told_by(node).saw(node, &records);
                world.check(result);
            }
            Err(ReadError::Disk(_)) if disk.is_gone() => return,
            Err(ReadError::Disk(error)) => return world.say(|| format!("{}: {error}", number(node))),
            Err(error) => {
                let what = format!("{} cannot read after {at}: {error}", number(node));
                return world.violated(Violation::new(gapless_order::NAME, what));
            }
        }
    }
}
