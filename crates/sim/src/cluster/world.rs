//! Everything outside of the simulated processes: machines with their disks, the network between them,
//! and somebody who remembers all that was said.

use super::{
    Mistake, Plan, Tally,
    disk::LifeDisk,
    life::{self, Running},
    net::{Weather, number},
    told::Told,
};
use crate::Violation;
use bytes::Bytes;
use log::cluster::{ClusterLog, TransportError};
use rt::{Process, SimClock, SimDisk, SimRandom, SimTasks};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::oneshot;
use types::{NodeId, Timestamp};

/// The story of a round is kept up to so many lines.
const STORY: usize = 400;

/// A machine: what survives the processes that run on it.
pub(crate) struct Machine {
    pub disk: SimDisk,
    pub clock: Arc<SimClock>,
    lives: u64,
    pub life: Option<Life>,
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
    told: Mutex<Told>,
    silent: Mutex<Vec<oneshot::Sender<Result<Bytes, TransportError>>>>,
    violation: Mutex<Option<Violation>>,
    story: Mutex<Vec<String>>,
    tally: Mutex<Tally>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds this lock")
}

/// Where the log of a member lies on its disk.
pub(crate) fn dir() -> PathBuf {
    "/log".into()
}

impl World {
    pub(crate) fn new(plan: Plan, seed: u64) -> Self {
        let random = SimRandom::new(seed);
        let machine = || Machine {
            disk: SimDisk::new(random.u64()),
            clock: Arc::new(SimClock::new(Timestamp::from_ms(1_800_000_000_000))),
            lives: 0,
            life: None,
        };
        let machines = (1..=plan.members).map(|node| (NodeId::from_u128(node.into()), machine())).collect();
        Self {
            plan,
            machines: Mutex::new(machines),
            random,
            weather: Mutex::default(),
            told: Mutex::default(),
            silent: Mutex::default(),
            violation: Mutex::default(),
            story: Mutex::default(),
            tally: Mutex::default(),
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

    pub(crate) fn told(&self) -> MutexGuard<'_, Told> {
        lock(&self.told)
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

    pub(crate) fn with_machine<R>(&self, node: NodeId, look: impl FnOnce(&mut Machine) -> R) -> R {
        look(lock(&self.machines).get_mut(&node).expect("nodes come from this map"))
    }

    pub(crate) fn life(&self, node: NodeId) -> Option<Life> {
        self.with_machine(node, |machine| machine.life.clone())
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
            if machine.life.is_some() {
                return None;
            }
            machine.lives += 1;
            let process = Process(number(node) * 1000 + machine.lives);
            let disk = LifeDisk::new(machine.disk.clone(), self.plan.mistake);
            disk.set_lag(self.plan.lag);
            machine.life = Some(Life { process, disk: disk.clone(), running: None });
            Some((process, disk, Arc::clone(&machine.clock)))
        });
        if let Some((process, disk, clock)) = begun {
            self.say(|| format!("{} starts", number(node)));
            tasks.spawn_in(process, life::live(Arc::clone(self), node, process, disk, clock));
        }
    }

    /// Ends the process of a machine at once. Without power, what was not synced is lost or torn.
    pub(crate) fn crash(&self, node: NodeId, power: Power) {
        let (ended, powered) = self.with_machine(node, |machine| {
            if let Some(life) = &machine.life {
                life.disk.end();
            }
            (machine.life.take(), machine.disk.is_powered())
        });
        let Some(life) = ended else { return };
        self.say(|| format!("{} crashes, power {power:?}", number(node)));
        self.count(|tally| tally.crashes += 1);
        if let Some(tasks) = SimTasks::here() {
            tasks.kill(life.process);
        }
        drop(life);
        self.with_machine(node, |machine| match power {
            Power::On if powered => machine.disk.kill(),
            Power::On | Power::Lost => machine.disk.restart(),
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
