//! Where instances go.
//!
//! Memory is hard: a node without room for the cap is no choice (`memory_is_never_oversubscribed`).
//! Processor time is soft: it orders, it never refuses. Of the nodes with room the best one has the
//! fewest instances of the same process, then the fewest of the same environment, then the largest
//! free share of processor time, then the lowest id.
//!
//! A [`Fleet`] keeps nodes ordered by free share, in classes by the power of two of their free
//! memory, so that the best node without any instance of an environment is found without looking at
//! all nodes; those that have one are kept in an order of their own while their process is placed.

use super::{Observed, fresh};
use crate::state::State;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};
use types::{ByteSize, EnvId, MilliCpu, Name, NodeId, Timestamp};

/// Reasons named in one refusal; the rest is counted.
const REASONS: usize = 8;

/// Instances that want a place.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Of which environment.
    pub env: EnvId,
    /// Of which process.
    pub process: Name,
    /// The cap of each.
    pub memory: ByteSize,
    /// The share of each.
    pub cpu: MilliCpu,
    /// How many.
    pub count: u32,
}

/// Where the instances of one [`Ask`] go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// A node for each instance that has found one.
    pub nodes: Vec<NodeId>,
    /// Why the others have none.
    pub unplaced: Option<Unplaced>,
}

/// Why there is no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaced {
    /// Node by node, cut at a few.
    pub reasons: Vec<String>,
}

impl std::fmt::Display for Unplaced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no node has room: {}", self.reasons.join("; "))
    }
}

struct Slot {
    id: NodeId,
    name: Name,
    free: u64,
    cpu: u64,
    cpu_used: u64,
}

impl Slot {
    /// The free share of processor time in thousandths, negative when more was promised than is.
    fn share(&self) -> i64 {
        (self.cpu as i64 - self.cpu_used as i64) * 1000 / (self.cpu.max(1) as i64)
    }

    /// Nodes of one class have free memory with the same highest bit.
    fn class(&self) -> u32 {
        self.free.checked_ilog2().unwrap_or(0)
    }
}

/// How many instances of the asking process and of its environment a slot has.
#[derive(Clone, Copy, Default)]
struct Tally {
    process: u32,
    env: u32,
}

type Rank = (u32, u32, Reverse<i64>, usize);

/// The nodes that take instances, with what is left on each. Placing takes from what is left.
pub struct Fleet {
    /// In order of id, so that a place in here orders as the id does.
    slots: Vec<Slot>,
    classes: BTreeMap<u32, BTreeSet<(Reverse<i64>, usize)>>,
    refusals: Vec<String>,
}

impl Fleet {
    /// The nodes as the log and the leases have them.
    pub fn new(state: &State, observed: &Observed, now: Timestamp) -> Self {
        let mut fleet = Self { slots: Vec::new(), classes: BTreeMap::new(), refusals: Vec::new() };
        for (id, node) in &state.nodes {
            let agent = observed.agent(*id);
            let refusal = match agent.and_then(|seen| seen.pressure) {
                _ if !node.takes_instances() => "takes no instances".to_owned(),
                _ if !fresh(agent, now) => "has not been heard of".to_owned(),
                Some(pressure) => format!("is short of resources ({pressure})"),
                None => {
                    fleet.slots.push(Slot {
                        id: *id,
                        name: node.name.clone(),
                        free: node.free().bytes(),
                        cpu: u64::from(node.capacity.cpu.get()),
                        cpu_used: u64::from(node.cpu_used.get()),
                    });
                    continue;
                }
            };
            if node.roles.contains(&types::plan::NodeRole::Agent) {
                fleet.refusals.push(format!("{} {refusal}", node.name));
            }
        }
        for place in 0..fleet.slots.len() {
            fleet.index(place);
        }
        fleet
    }

    fn index(&mut self, place: usize) {
        let slot = &self.slots[place];
        self.classes.entry(slot.class()).or_default().insert((Reverse(slot.share()), place));
    }

    fn take(&mut self, place: usize, memory: u64, cpu: u64) {
        let (class, key) = (self.slots[place].class(), (Reverse(self.slots[place].share()), place));
        if let Some(nodes) = self.classes.get_mut(&class) {
            nodes.remove(&key);
            if nodes.is_empty() {
                self.classes.remove(&class);
            }
        }
        let slot = &mut self.slots[place];
        slot.free = slot.free.saturating_sub(memory);
        slot.cpu_used += cpu;
        self.index(place);
    }

    /// The best node with room and without any instance of the environment.
    fn best_free(&self, memory: u64, tallies: &BTreeMap<usize, Tally>) -> Option<usize> {
        self.classes
            .range(memory.checked_ilog2().unwrap_or(0)..)
            .filter_map(|(_, nodes)| {
                nodes
                    .iter()
                    .find(|(_, place)| self.slots[*place].free >= memory && !tallies.contains_key(place))
            })
            .min()
            .map(|(_, place)| *place)
    }

    fn rank(&self, place: usize, tally: Tally) -> Rank {
        (tally.process, tally.env, Reverse(self.slots[place].share()), place)
    }

    /// Places what is asked for beside what the environment has already.
    pub fn place(&mut self, state: &State, ask: &Ask) -> Placed {
        let mut tallies = self.tallies(state, ask);
        let placed = self.place_beside(ask, &mut tallies);
        let missing = ask.count as usize - placed.len();
        Placed { unplaced: (missing > 0).then(|| self.unplaced(ask)), nodes: placed }
    }

    fn tallies(&self, state: &State, ask: &Ask) -> BTreeMap<usize, Tally> {
        let mut tallies = BTreeMap::<usize, Tally>::new();
        for (_, instance) in state.instances_of(ask.env).filter(|(_, instance)| instance.is_live()) {
            let Ok(place) = self.slots.binary_search_by_key(&instance.node, |slot| slot.id) else { continue };
            let tally = tallies.entry(place).or_default();
            tally.env += 1;
            tally.process += u32::from(instance.process == ask.process);
        }
        tallies
    }

    fn place_beside(&mut self, ask: &Ask, tallies: &mut BTreeMap<usize, Tally>) -> Vec<NodeId> {
        let (memory, cpu) = (ask.memory.bytes(), u64::from(ask.cpu.get()));
        let mut ranked: BTreeSet<Rank> =
            tallies.iter().map(|(place, tally)| self.rank(*place, *tally)).collect();
        let mut placed = Vec::with_capacity(ask.count as usize);
        // What is full stays full while this ask goes on: neither search looks at it twice.
        let mut untouched = true;
        while placed.len() < ask.count as usize {
            let free = if untouched { self.best_free(memory, tallies) } else { None };
            untouched = free.is_some();
            let Some(place) = free.or_else(|| {
                while let Some(first) = ranked.pop_first() {
                    if self.slots[first.3].free >= memory {
                        return Some(first.3);
                    }
                }
                None
            }) else {
                break;
            };
            self.take(place, memory, cpu);
            let tally = tallies.entry(place).or_default();
            tally.env += 1;
            tally.process += 1;
            let tally = *tally;
            ranked.insert(self.rank(place, tally));
            placed.push(self.slots[place].id);
        }
        placed
    }

    fn unplaced(&self, ask: &Ask) -> Unplaced {
        let full = self.slots.iter().map(|slot| {
            let free = ByteSize::from_bytes(slot.free);
            format!("{} has {free} of memory left and {} is wanted", slot.name, ask.memory)
        });
        let mut reasons: Vec<String> = full.chain(self.refusals.iter().cloned()).collect();
        let more = reasons.len().saturating_sub(REASONS);
        reasons.truncate(REASONS);
        if more > 0 {
            reasons.push(format!("and {more} nodes more"));
        }
        if reasons.is_empty() {
            reasons.push("no node has joined as an agent".to_owned());
        }
        Unplaced { reasons }
    }
}

/// A node for one instance.
///
/// # Errors
/// Why no node takes it.
pub fn choose(state: &State, observed: &Observed, ask: &Ask, now: Timestamp) -> Result<NodeId, Unplaced> {
    let mut fleet = Fleet::new(state, observed, now);
    let placed = fleet.place(state, &Ask { count: 1, ..ask.clone() });
    match placed.nodes.first() {
        Some(node) => Ok(*node),
        None => Err(fleet.unplaced(ask)),
    }
}

/// A place for every ask, in order, each beside those before it.
pub fn place_many(state: &State, observed: &Observed, asks: &[Ask], now: Timestamp) -> Vec<Placed> {
    let mut fleet = Fleet::new(state, observed, now);
    let mut seen: BTreeMap<EnvId, Vec<(Name, NodeId)>> = BTreeMap::new();
    let mut answers = Vec::with_capacity(asks.len());
    for ask in asks {
        let mut tallies = fleet.tallies(state, ask);
        let before = seen.entry(ask.env).or_default();
        for (process, node) in before.iter() {
            if let Ok(place) = fleet.slots.binary_search_by_key(node, |slot| slot.id) {
                let tally = tallies.entry(place).or_default();
                tally.env += 1;
                tally.process += u32::from(*process == ask.process);
            }
        }
        let nodes = fleet.place_beside(ask, &mut tallies);
        before.extend(nodes.iter().map(|node| (ask.process.clone(), *node)));
        let unplaced = (nodes.len() < ask.count as usize).then(|| fleet.unplaced(ask));
        answers.push(Placed { nodes, unplaced });
    }
    answers
}
