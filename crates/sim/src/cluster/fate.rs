//! What befalls a cluster: the dice choose, from the kinds of trouble that a round has.

use super::{
    client, members,
    net::number,
    recovery,
    world::{Era, Power, World},
};
use log::cluster::{Failover, Promotion};
use rt::{Fault, Operation, SimTasks};
use std::{sync::Arc, time::Duration};
use types::{DurationMs, NodeId};

/// A kind of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A process ends and starts again.
    Kill,
    /// A machine loses power.
    PowerLoss,
    /// All machines lose power at once.
    AllPowerLoss,
    /// A way is cut in one direction.
    CutOneWay,
    /// A node is cut off.
    CutOff,
    /// Messages are slow, lost, doubled.
    Weather,
    /// A process gets no turn for a while.
    Pause,
    /// A clock jumps.
    ClockJump,
    /// A disk is slow.
    SlowDisk,
    /// A disk is full for a while.
    FullDisk,
    /// A disk fails.
    BadDisk,
    /// The power goes in the middle of an operation of the disk.
    PowerLossInWrite,
    /// An operator promotes somebody.
    Promote,
    /// An operator hands over.
    HandOver,
    /// A process stops in good order.
    Stop,
    /// A member snapshots its state.
    Snapshot,
    /// An operator fences a node.
    Fence,
    /// An operator lets a new voter in.
    AddVoter,
    /// An operator lets a member in that only reads along.
    AddLearner,
    /// An operator removes a member.
    Remove,
    /// A machine loses its disk for good.
    LoseDisk,
}

const ALL: [Trouble; 21] = [
    Trouble::Kill,
    Trouble::PowerLoss,
    Trouble::AllPowerLoss,
    Trouble::CutOneWay,
    Trouble::CutOff,
    Trouble::Weather,
    Trouble::Pause,
    Trouble::ClockJump,
    Trouble::SlowDisk,
    Trouble::FullDisk,
    Trouble::BadDisk,
    Trouble::PowerLossInWrite,
    Trouble::Promote,
    Trouble::HandOver,
    Trouble::Stop,
    Trouble::Snapshot,
    Trouble::Fence,
    Trouble::AddVoter,
    Trouble::AddLearner,
    Trouble::Remove,
    Trouble::LoseDisk,
];

/// The kinds of trouble of a round: about half of all, so that each is seen with and without the others.
fn kinds(world: &World) -> Vec<Trouble> {
    let mut kinds: Vec<Trouble> = ALL.into_iter().filter(|_| world.random.percent(45)).collect();
    if world.plan.failover == Failover::Operator {
        kinds.push(Trouble::Promote);
    }
    if world.plan.members == 1 || kinds.iter().any(|kind| [Trouble::Remove, Trouble::LoseDisk].contains(kind))
    {
        // Were it the last that votes, nobody could ever open the epoch that lifts the fence.
        kinds.retain(|kind| *kind != Trouble::Fence);
    }
    if kinds.is_empty() {
        kinds.push(Trouble::Kill);
    }
    kinds
}

/// Makes trouble until the safety phase is over.
pub(crate) async fn fate(world: Arc<World>) {
    let kinds = kinds(&world);
    world.say(|| format!("{} members, {:?}, trouble: {kinds:?}", world.plan.members, world.plan.failover));
    trouble(&world, &kinds, world.plan.trouble).await;
    if world.plan.loses && recovery::lose_majority(&world).await {
        trouble(&world, &kinds, world.plan.trouble / 2).await;
    }
}

async fn trouble(world: &Arc<World>, kinds: &[Trouble], during: Duration) {
    let end = tokio::time::Instant::now() + during;
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(world.random.below(2 * world.plan.pause_ms))).await;
        if world.is_due() {
            let kind = kinds[world.random.below(kinds.len() as u64) as usize];
            befall(world, kind);
        }
    }
}

fn befall(world: &Arc<World>, kind: Trouble) {
    let node = victim(world);
    let wait = world.random.below(1200);
    match kind {
        Trouble::Kill => crash(world, node, Power::On, wait),
        Trouble::PowerLoss => crash(world, node, Power::Lost, wait),
        Trouble::AllPowerLoss => {
            world.count(|tally| tally.power_losses_of_all += 1);
            for node in world.nodes() {
                crash(world, node, Power::Lost, world.random.below(300));
            }
        }
        Trouble::CutOneWay | Trouble::CutOff => cut(world, node, kind, wait),
        Trouble::Weather => weather(world, wait),
        Trouble::Pause => pause(world, node, wait),
        Trouble::ClockJump => clock_jump(world, node),
        Trouble::SlowDisk => slow_disk(world, node, wait),
        Trouble::FullDisk => full_disk(world, node, wait),
        Trouble::BadDisk => bad_disk(world, node),
        Trouble::PowerLossInWrite => power_loss_in_write(world, node),
        Trouble::Promote => promote_at_the_worst_moment(world, node, wait),
        Trouble::HandOver => {
            // Often by the one that can.
            let leads = world.decides(world.era_of(node)).filter(|_| world.random.percent(70));
            in_world(hand_over(Arc::clone(world), leads.unwrap_or(node), world.any_node()));
        }
        Trouble::Snapshot => in_world(snapshot(Arc::clone(world), world.any_node())),
        Trouble::Fence => in_world(fence(Arc::clone(world), node)),
        Trouble::Stop => {
            let Some(running) = world.life(node).and_then(|life| life.running) else { return };
            world.say(|| format!("{} is told to stop", number(node)));
            world.count(|tally| tally.stops += 1);
            running.stop.cancel();
            start_later(world, node, wait);
        }
        Trouble::AddVoter => members::add(world, true),
        Trouble::AddLearner => members::add(world, false),
        Trouble::Remove => members::take_away(world, node),
        Trouble::LoseDisk => members::lose_disk(world, node, wait),
    }
}

fn clock_jump(world: &World, node: NodeId) {
    let span = DurationMs::from_ms(world.random.below(120_000));
    let back = world.random.percent(50);
    world.say(|| format!("{}: its clock jumps by {span}, back: {back}", number(node)));
    world.count(|tally| tally.clock_jumps += 1);
    world.with_machine(node, |machine| {
        let now = rt::Clock::now(&*machine.clock);
        machine.clock.set(if back { now.minus(span) } else { now.plus(span) });
    });
}

fn bad_disk(world: &World, node: NodeId) {
    let operation = if world.random.percent(50) { Operation::Sync } else { Operation::Write };
    world.with_machine(node, |machine| machine.disk.fail_next(operation, Fault::Io));
    world.say(|| format!("{}: the next {operation} fails", number(node)));
    world.count(|tally| tally.bad_disks += 1);
}

fn power_loss_in_write(world: &World, node: NodeId) {
    let at = 1 + world.random.below(20);
    world.with_machine(node, |machine| machine.disk.fail_in(at, Fault::Crash));
    world.say(|| format!("{}: the power goes at operation {at} from now", number(node)));
}

/// Somebody, and often the one that leads: that is where it hurts.
fn victim(world: &Arc<World>) -> NodeId {
    let leader = world.running(world.any_node()).and_then(|(_, log)| log.sequencer());
    leader.filter(|_| world.random.percent(50)).unwrap_or_else(|| world.any_node())
}

fn in_world(future: impl Future<Output = ()> + 'static) {
    if let Some(tasks) = SimTasks::here() {
        tasks.spawn_in(rt::Process::default(), future);
    }
}

fn after(world: &Arc<World>, ms: u64, what: impl FnOnce(&Arc<World>) + 'static) {
    let world = Arc::clone(world);
    in_world(async move {
        tokio::time::sleep(Duration::from_millis(ms)).await;
        what(&world);
    });
}

/// An operator sees that a node is gone, or believes it, and has another promoted; while that is under way
/// anything may happen.
fn promote_at_the_worst_moment(world: &Arc<World>, node: NodeId, wait: u64) {
    let node = world.decides(world.era_of(node)).filter(|_| world.random.percent(50)).unwrap_or(node);
    let away = 600 + 2 * wait;
    match world.random.below(4) {
        0 => crash(world, node, Power::On, away),
        1 => cut(world, node, Trouble::CutOff, away),
        2 => pause(world, node, away),
        _ => {}
    }
    for _ in 0..1 + world.random.below(3) {
        let (next, at) = (world.any_node(), world.random.below(away));
        after(world, at, move |world| in_world(promote(Arc::clone(world), next)));
    }
    if world.random.percent(30) {
        let (next, at) = (world.any_node(), world.random.below(away));
        after(world, at, move |world| crash(world, next, Power::Lost, 200));
    }
}

fn start_later(world: &Arc<World>, node: NodeId, wait: u64) {
    after(world, wait, move |world| world.start(node));
}

fn crash(world: &Arc<World>, node: NodeId, power: Power, wait: u64) {
    world.crash(node, power);
    start_later(world, node, wait);
}

fn cut(world: &Arc<World>, node: NodeId, kind: Trouble, wait: u64) {
    let others: Vec<NodeId> = world.nodes().into_iter().filter(|other| *other != node).collect();
    if others.is_empty() {
        return;
    }
    let ways: Vec<(NodeId, NodeId)> = match kind {
        Trouble::CutOff => others.iter().flat_map(|other| [(node, *other), (*other, node)]).collect(),
        _ => {
            let all_of_it = world.random.percent(50);
            let one = others[world.random.below(others.len() as u64) as usize];
            let inwards = world.random.percent(50);
            let way = |other: NodeId| if inwards { (other, node) } else { (node, other) };
            others.iter().filter(|other| all_of_it || **other == one).map(|other| way(*other)).collect()
        }
    };
    let pairs: Vec<_> = ways.iter().map(|(from, to)| (number(*from), number(*to))).collect();
    world.say(|| format!("cut: {pairs:?} for {wait} ms"));
    world.weather().cut.extend(ways.iter().copied());
    world.count(|tally| match kind {
        Trouble::CutOff => tally.cuts_off += 1,
        _ => tally.cuts_one_way += 1,
    });
    after(world, wait, move |world| {
        let mut weather = world.weather();
        ways.iter().for_each(|way| {
            weather.cut.remove(way);
        });
    });
}

fn weather(world: &Arc<World>, wait: u64) {
    let (delay, lost, doubled) = (world.random.below(80), world.random.below(40), world.random.below(60));
    world.say(|| format!("weather: up to {delay} ms, {lost} % lost, {doubled} % doubled, for {wait} ms"));
    world.count(|tally| tally.storms += 1);
    let mut weather = world.weather();
    (weather.delay_ms, weather.lost, weather.doubled) = (delay, lost, doubled);
    drop(weather);
    after(world, wait, |world| calm(world));
}

/// The network as it is on good days.
pub(crate) fn calm(world: &World) {
    let mut weather = world.weather();
    (weather.delay_ms, weather.lost, weather.doubled) = (2, 0, 5);
}

fn pause(world: &Arc<World>, node: NodeId, wait: u64) {
    let Some(life) = world.life(node) else { return };
    world.say(|| format!("{} gets no turn for {wait} ms", number(node)));
    world.count(|tally| tally.pauses += 1);
    let Some(tasks) = SimTasks::here() else { return };
    tasks.stop(life.process);
    after(world, wait, move |_| {
        if let Some(tasks) = SimTasks::here() {
            tasks.go_on(life.process);
        }
    });
}

fn slow_disk(world: &Arc<World>, node: NodeId, wait: u64) {
    let Some(life) = world.life(node) else { return };
    let lag = 1 + world.random.below(200);
    world.say(|| format!("{}: each write takes {lag} ms, for {wait} ms", number(node)));
    world.count(|tally| tally.slow_disks += 1);
    life.disk.set_lag(Duration::from_millis(lag));
    after(world, wait, move |world| life.disk.set_lag(world.plan.lag));
}

fn full_disk(world: &Arc<World>, node: NodeId, wait: u64) {
    let room = world.random.below(2500);
    world.say(|| format!("{}: {room} bytes left, for {wait} ms", number(node)));
    world.count(|tally| tally.full_disks += 1);
    world.with_machine(node, |machine| machine.disk.set_capacity(Some(machine.disk.used() + room)));
    after(world, wait, move |world| {
        world.with_machine(node, |machine| machine.disk.set_capacity(None));
    });
}

async fn snapshot(world: Arc<World>, node: NodeId) {
    let Some((process, core)) = world.core(node) else { return };
    let saved = client::in_process(process, async move { core.save_snapshot() }).await;
    world.say(|| format!("{} snapshots: {saved:?}", number(node)));
    world.count(|tally| tally.snapshots += u64::from(matches!(saved, Some(Ok(_)))));
}

/// One node in each round, and none of a cluster that was recovered, which begins with one voter: were all
/// fenced, nobody could ever lift it.
async fn fence(world: Arc<World>, node: NodeId) {
    let Some((process, log)) = world.running(node) else { return };
    let era = world.era_of(node);
    if era == Era::Recovered || world.told(era).fence.is_some() {
        return;
    }
    world.told(era).fence = Some((node, None));
    let fenced = client::in_process(process, async move { log.fence() }).await;
    world.say(|| format!("{} is fenced: {fenced:?}", number(node)));
    if let Some(Ok(epoch)) = fenced {
        world.told(era).fence = Some((node, Some(epoch)));
        world.count(|tally| tally.fences += 1);
    }
}

/// An operator has a node hand the lead to another.
async fn hand_over(world: Arc<World>, node: NodeId, to: NodeId) {
    let Some((process, log)) = world.running(node) else { return };
    let (_, why) = world.told_by(node).wanted(to);
    let patience = Duration::from_millis(1000);
    let handing = async move { log.hand_over(to, why.as_bytes(), patience).await };
    let result = client::in_process(process, handing).await;
    world.say(|| format!("{} hands over to {}: {result:?}", number(node), number(to)));
    world.count(|tally| match result {
        Some(Ok(_)) => tally.handed_over += 1,
        _ => tally.not_handed_over += 1,
    });
}

/// An operator has a node promoted, and remembers what it said.
pub(crate) async fn promote(world: Arc<World>, node: NodeId) {
    let Some((process, log)) = world.running(node) else { return };
    let era = world.era_of(node);
    let (place, why) = world.told(era).wanted(node);
    let (tell, answered) = tokio::sync::oneshot::channel();
    let Some(tasks) = SimTasks::here() else { return };
    tasks.spawn_in(process, async move {
        let _gone = tell.send(log.promote(why.as_bytes()).await);
    });
    let Ok(result) = answered.await else { return };
    world.say(|| format!("promotion of {}: {result:?}", number(node)));
    let mut told = world.told(era);
    if let Promotion::Succeeded(epoch) = &result {
        told.promoted = told.promoted.max(*epoch);
    }
    let won = matches!(result, Promotion::Succeeded(_));
    told.promotions[place].result = Some(result);
    drop(told);
    world.count(|tally| match won {
        true => tally.promoted += 1,
        false => tally.not_promoted += 1,
    });
}

/// Ends all trouble: every machine has power and space, every process runs, every way is open.
pub(crate) fn heal(world: &Arc<World>) {
    world.say(|| "everything is well again".to_owned());
    world.weather().cut.clear();
    calm(world);
    for node in world.nodes() {
        world.with_machine(node, |machine| {
            machine.disk.clear_faults();
            machine.disk.set_capacity(None);
        });
        if let Some(life) = world.life(node) {
            life.disk.set_lag(world.plan.lag);
            if let Some(tasks) = SimTasks::here() {
                tasks.go_on(life.process);
            }
            if life.disk.is_gone() {
                world.crash(node, Power::Lost);
            }
        }
        world.start(node);
    }
}
