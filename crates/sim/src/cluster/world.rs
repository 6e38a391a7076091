//! Everything outside of the simulated processes: machines with their disks, the network between them,
//! and somebody who remembers all that was said.

use super::{
    Mistake, Plan, Tally,
    disk::LifeDisk,
    life::{self, Running},
    net::{Weather, number},
    told::Told,
};
use crate::{Violation, invariants::one_authority};
use bytes::Bytes;
use log::cluster::{ClusterLog, Message, TransportError};
use rt::{Process, SimClock, SimDisk, SimRandom, SimTasks};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;
use types::{NodeId, Timestamp};

/// The time at which every clock begins.
pub(crate) const START: Timestamp = Timestamp::from_ms(1_800_000_000_000);
/// The story of a round is kept up to so many lines.
const STORY: usize = 400;

/// A machine: what survives the processes that run on it.
pub(crate) struct Machine {
    pub disk: SimDisk,
    pub clock: Arc<SimClock>,
    pub life: Option<Life>,
    pub cluster: Membership,
    /// What is started on it with an empty disk founds the cluster.
    pub founds: bool,
    /// Nothing is ever started on it again.
    pub gone: bool,
    /// A copy of its disk while nothing ran on it, and which was its last life then.
    pub copy: Option<(SimDisk, Process)>,
}

/// To which cluster a machine belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub era: Era,
    /// The last event of the cluster that this one was recovered from, on the machine that did it.
    pub recovered_at: Option<u64>,
}

/// The cluster of the beginning, or the one that was recovered from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Era {
    #[default]
    First,
    Recovered,
}

/// The process that runs on a machine.
#[derive(Clone)]
pub(crate) struct Life {
    pub process: Process,
    pub disk: LifeDisk,
    /// There once it has started.
    pub running: Option<Running>,
}

/// See the top of this file.
pub(crate) struct World {
    pub plan: Plan,
    pub random: SimRandom,
    pub weather: Mutex<Weather>,
    machines: Mutex<BTreeMap<NodeId, Machine>>,
    told: [Mutex<Told>; 2],
    pub operators: Mutex<Operators>,
    lives: AtomicU64,
    troubles: AtomicU64,
    silent: Mutex<Vec<oneshot::Sender<Result<Bytes, TransportError>>>>,
    violation: Mutex<Option<Violation>>,
    story: Mutex<Vec<String>>,
    tally: Mutex<Tally>,
}

/// What those who change the members must agree on.
#[derive(Debug, Default)]
pub(crate) struct Operators {
    /// How many are at work.
    pub working: u64,
    /// Somebody is taking a member away.
    pub removing: bool,
    /// A process that runs from an older copy, and must not be heard.
    pub old: Option<Process>,
    /// The last life of a node that another has heard: by, of.
    pub heard: BTreeMap<(NodeId, NodeId), Process>,
    /// How many members were named so far.
    pub named: u64,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds this lock")
}

/// Where the log of a member lies on its disk.
pub(crate) fn dir() -> PathBuf {
    "/log".into()
}

impl World {
    pub(crate) fn new(plan: Plan, seed: u64) -> Self {
        let world = Self {
            plan,
            random: SimRandom::new(seed),
            machines: Mutex::default(),
            weather: Mutex::default(),
            told: Default::default(),
            operators: Mutex::default(),
            lives: AtomicU64::new(0),
            troubles: AtomicU64::new(0),
            silent: Mutex::default(),
            violation: Mutex::default(),
            story: Mutex::default(),
            tally: Mutex::default(),
        };
        world.add_machine(life::FOUNDER, Membership { era: Era::First, recovered_at: None }, None);
        world
    }

    /// A machine on which this node is to run, with this disk or an empty one.
    pub(crate) fn add_machine(&self, node: NodeId, cluster: Membership, disk: Option<SimDisk>) {
        let disk = disk.unwrap_or_else(|| SimDisk::new(self.random.u64()));
        let clock = Arc::new(SimClock::new(START));
        let founds = node == life::FOUNDER;
        let machine = Machine { disk, clock, life: None, cluster, founds, gone: false, copy: None };
        lock(&self.machines).insert(node, machine);
    }

    /// Takes a machine away, on which nothing runs.
    pub(crate) fn take_machine(&self, node: NodeId) -> Option<Machine> {
        lock(&self.machines).remove(&node)
    }

    /// Whether the next trouble befalls this round.
    pub(crate) fn is_due(&self) -> bool {
        let number = self.troubles.fetch_add(1, Ordering::SeqCst);
        self.count(|tally| tally.troubles += 1);
        self.plan.only.as_ref().is_none_or(|only| only.contains(&number))
    }

    /// How many operations of disks have failed so far.
    pub(crate) fn disk_faults(&self) -> u64 {
        lock(&self.machines).values().map(|machine| machine.disk.faulted()).sum()
    }

    /// The cluster that counts in the end.
    pub(crate) fn era(&self) -> Era {
        let recovered = |machine: &Machine| machine.cluster.era == Era::Recovered;
        match lock(&self.machines).values().any(recovered) {
            true => Era::Recovered,
            false => Era::First,
        }
    }

    pub(crate) fn era_of(&self, node: NodeId) -> Era {
        self.with_machine(node, |machine| machine.cluster.era).unwrap_or_default()
    }

    /// Who was ever let in to this cluster and has a machine.
    pub(crate) fn nodes_of(&self, era: Era) -> Vec<NodeId> {
        self.nodes().into_iter().filter(|node| self.era_of(*node) == era).collect()
    }

    /// The node of this cluster that decides, and its process.
    pub(crate) fn decides(&self, era: Era) -> Option<NodeId> {
        let decides = |node: &NodeId| {
            self.running(*node).is_some_and(|(_, log)| log::Log::authority(&log).borrow().is_some())
        };
        self.nodes_of(era).into_iter().find(decides)
    }

    /// A message was answered: who runs from an older copy must not be heard.
    pub(crate) fn heard(
        &self,
        (from, sender): (NodeId, Process),
        by: NodeId,
        answer: &Result<Bytes, TransportError>,
    ) {
        let mut operators = lock(&self.operators);
        let is_old = operators.old == Some(sender);
        let is_refused = answer.as_ref().is_ok_and(|answer| Message::is_refusal(answer));
        let is_heard = answer.is_ok() && !is_refused;
        if is_heard {
            operators.heard.insert((by, from), sender);
        }
        drop(operators);
        if is_old && is_heard {
            let what = format!("{} heard the older copy of {}", number(by), number(from));
            self.violated(Violation::new(one_authority::NAME, what));
        }
        if is_old && is_refused {
            self.count(|tally| tally.old_identities_refused += 1);
        }
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        lock(&self.machines).keys().copied().collect()
    }

    /// One of them, by dice.
    pub(crate) fn any_node(&self) -> NodeId {
        let nodes = self.nodes();
        nodes[self.random.below(nodes.len() as u64) as usize]
    }

    pub(crate) fn mistake(&self) -> Option<Mistake> {
        self.plan.mistake
    }

    /// What the world was told by this cluster.
    pub(crate) fn told(&self, era: Era) -> MutexGuard<'_, Told> {
        lock(&self.told[era as usize])
    }

    /// What the world was told by the cluster of this node.
    pub(crate) fn told_by(&self, node: NodeId) -> MutexGuard<'_, Told> {
        self.told(self.era_of(node))
    }

    pub(crate) fn weather(&self) -> MutexGuard<'_, Weather> {
        lock(&self.weather)
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Tally)) {
        count(&mut lock(&self.tally));
    }

    pub(crate) fn tally(&self) -> Tally {
        *lock(&self.tally)
    }

    /// Makes it a part of the trace.
    pub(crate) fn note(&self, what: u64) {
        if let Some(tasks) = SimTasks::here() {
            tasks.note(what);
        }
    }

    /// A line of the story.
    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        let mut story = lock(&self.story);
        if story.len() == STORY {
            story.remove(0);
        }
        let ms = tokio::time::Instant::now().duration_since(self.plan.begun).as_millis();
        story.push(format!("{ms:>6} ms  {}", what()));
    }

    pub(crate) fn story(&self) -> Vec<String> {
        lock(&self.story).clone()
    }

    /// The first violation counts.
    pub(crate) fn violated(&self, violation: Violation) {
        self.say(|| format!("BROKEN {violation}"));
        lock(&self.violation).get_or_insert(violation);
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        lock(&self.violation).clone()
    }

    pub(crate) fn check(&self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.violated(violation);
        }
    }

    /// None if the node has no machine (any more).
    pub(crate) fn with_machine<R>(&self, node: NodeId, look: impl FnOnce(&mut Machine) -> R) -> Option<R> {
        lock(&self.machines).get_mut(&node).map(look)
    }

    pub(crate) fn life(&self, node: NodeId) -> Option<Life> {
        self.with_machine(node, |machine| machine.life.clone()).flatten()
    }

    /// The process of this node, once it has started, and its log.
    pub(crate) fn running(&self, node: NodeId) -> Option<(Process, ClusterLog)> {
        let life = self.life(node)?;
        Some((life.process, life.running?.log))
    }

    pub(crate) fn core(&self, node: NodeId) -> Option<(Process, control::Core)> {
        let life = self.life(node)?;
        Some((life.process, life.running?.core))
    }

    /// Starts the process of a machine on which none runs.
    pub(crate) fn start(self: &Arc<Self>, node: NodeId) {
        let Some(tasks) = SimTasks::here() else { return };
        let begun = self.with_machine(node, |machine| {
            if machine.life.is_some() || machine.gone {
                return None;
            }
            let process = Process(1 + self.lives.fetch_add(1, Ordering::SeqCst));
            let disk = LifeDisk::new(machine.disk.clone(), self.plan.mistake);
            disk.set_lag(self.plan.lag);
            machine.life = Some(Life { process, disk: disk.clone(), running: None });
            Some((process, disk, Arc::clone(&machine.clock)))
        });
        if let Some((process, disk, clock)) = begun.flatten() {
            self.say(|| format!("{} starts", number(node)));
            self.count(|tally| tally.starts += 1);
            tasks.spawn_in(process, life::live(Arc::clone(self), node, process, disk, clock));
        }
    }

    /// Ends the process of a machine at once. Without power, what was not synced is lost or torn.
    pub(crate) fn crash(&self, node: NodeId, power: Power) {
        let ended = self.with_machine(node, |machine| {
            if let Some(life) = &machine.life {
                life.disk.end();
            }
            machine.life.take().map(|life| (life, machine.disk.is_powered()))
        });
        let Some((life, powered)) = ended.flatten() else { return };
        self.say(|| format!("{} crashes, power {power:?}", number(node)));
        self.count(|tally| match (power, powered) {
            (Power::On, true) => tally.kills += 1,
            (Power::On, false) => tally.power_losses_in_write += 1,
            (Power::Lost, _) => tally.power_losses += 1,
        });
        if let Some(tasks) = SimTasks::here() {
            tasks.kill(life.process);
        }
        // A copy of one that was alone is a cluster of its own, which nobody could refuse.
        let had_others = life.running.as_ref().is_some_and(|run| run.log.status().voters.len() > 1);
        let (process, copied) = (life.process, self.random.percent(50) && had_others);
        drop(life);
        self.with_machine(node, |machine| {
            match power {
                Power::On if powered => machine.disk.kill(),
                Power::On | Power::Lost => machine.disk.restart(),
            }
            if copied {
                machine.copy = Some((machine.disk.copy(), process));
            }
        });
    }

    /// The process stops by itself, because it cannot go on.
    pub(crate) fn die(self: &Arc<Self>, node: NodeId, process: Process, why: &str) {
        self.say(|| format!("{} cannot go on: {why}", number(node)));
        let Some(tasks) = SimTasks::here() else { return };
        tasks.stop(process);
        let world = Arc::clone(self);
        tasks.spawn_in(Process::default(), async move {
            if world.life(node).is_some_and(|life| life.process == process) {
                world.crash(node, Power::On);
            }
            // Whoever watches over it starts it again.
            tokio::time::sleep(Duration::from_millis(50 + world.random.below(500))).await;
            world.start(node);
        });
    }

    /// After how many milliseconds a message, and its double if it has one, arrive; `None` if none does.
    pub(crate) fn fates(&self, from: NodeId, to: NodeId) -> Option<Vec<u64>> {
        let weather = lock(&self.weather);
        if weather.cut.contains(&(from, to)) || self.random.percent(weather.lost) {
            return None;
        }
        let copies = 1 + u64::from(self.random.percent(weather.doubled));
        Some((0..copies).map(|_| self.random.below(weather.delay_ms + 1)).collect())
    }

    /// A message that does not arrive: the sender is told, or hears nothing.
    pub(crate) async fn silence(
        &self,
        tell: oneshot::Sender<Result<Bytes, TransportError>>,
        told: oneshot::Receiver<Result<Bytes, TransportError>>,
    ) -> Result<Bytes, TransportError> {
        self.count(|tally| tally.lost += 1);
        if self.random.percent(50) {
            return Err(TransportError::Unreachable("cut".into()));
        }
        self.keep_silent(tell);
        told.await.unwrap_or_else(|_| Err(TransportError::Lost("the round is over".into())))
    }

    pub(crate) fn keep_silent(&self, tell: oneshot::Sender<Result<Bytes, TransportError>>) {
        lock(&self.silent).push(tell);
    }

    /// Forgets whatever would keep processes alive.
    pub(crate) fn end(&self) {
        for machine in lock(&self.machines).values_mut() {
            if let Some(life) = &machine.life {
                life.disk.end();
            }
        }
        lock(&self.silent).clear();
    }

    /// After the tasks are gone.
    pub(crate) fn forget(&self) {
        let lives: Vec<Option<Life>> =
            lock(&self.machines).values_mut().map(|machine| machine.life.take()).collect();
        drop(lives);
    }
}

/// What a crash leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Power {
    /// Only the process ends.
    On,
    /// The machine went too.
    Lost,
}

/// Whether there is a log on this machine's disk.
pub(crate) fn has_log(disk: &LifeDisk) -> Result<bool, rt::DiskError> {
    log::wal::Wal::exists(disk, Path::new(&dir()))
}
