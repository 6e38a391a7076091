//! Nodes: what they can give, and what has been promised of it.
//!
//! Caps are in the releases' manifests, so this view remembers those of every release.

use super::{Fault, Mark, View, canonical, missing};
use crate::{
    event::{Envelope, Event, NodeHealth},
    state::NodeState,
};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    sync::Arc,
};
use types::{
    ByteSize, InstanceId, MilliCpu, Name, NodeId, ReleaseId,
    plan::{Capacity, Change, NodeRole},
};

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// Its name.
    pub name: Name,
    /// The parts it plays.
    pub roles: BTreeSet<NodeRole>,
    /// What it can give.
    pub capacity: Capacity,
    /// What is promised of it.
    pub used: Capacity,
    /// Instances that hold memory on it.
    pub instances: u32,
    /// The /64 its instances' addresses come from.
    pub prefix: Ipv6Addr,
    /// Where it is in its life.
    pub state: NodeState,
    /// How well it is known to be.
    pub health: NodeHealth,
    /// When it was enrolled.
    pub enrolled: Mark,
    /// When the node itself last changed.
    pub changed: Mark,
}

/// What an instance holds on its node until it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Hold {
    node: NodeId,
    needs: Capacity,
}

/// The view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Nodes {
    /// All nodes, by id.
    pub rows: OrdMap<NodeId, Arc<NodeRow>>,
    caps: OrdMap<ReleaseId, Arc<BTreeMap<Name, Capacity>>>,
    holds: OrdMap<InstanceId, Hold>,
}

impl Nodes {
    /// What people call it.
    pub const NAME: &'static str = "nodes";

    fn row(&mut self, id: NodeId, envelope: &Envelope) -> Result<&mut NodeRow, Fault> {
        self.rows.get_mut(&id).map(Arc::make_mut).ok_or_else(|| missing(envelope, id))
    }

    fn enrolled(&mut self, envelope: &Envelope) {
        let Event::NodeEnrolled { node, name, roles, capacity, prefix, .. } = &envelope.event else { return };
        let made = NodeRow {
            name: name.clone(),
            roles: roles.clone(),
            capacity: *capacity,
            used: Capacity::default(),
            instances: 0,
            prefix: *prefix,
            state: NodeState::Enrolled,
            health: NodeHealth::Reachable,
            enrolled: Mark::of(envelope),
            changed: Mark::of(envelope),
        };
        self.rows.insert(*node, Arc::new(made));
    }

    fn take(&mut self, envelope: &Envelope) -> Result<(), Fault> {
        let Event::InstanceAllocated { instance, process, release, node, .. } = &envelope.event else {
            return Ok(());
        };
        let caps = self.caps.get(release).ok_or_else(|| missing(envelope, release))?;
        let needs = caps.get(process).copied().ok_or_else(|| missing(envelope, process))?;
        let row = self.row(*node, envelope)?;
        row.instances += 1;
        row.used = Capacity {
            memory: ByteSize::from_bytes(row.used.memory.bytes().saturating_add(needs.memory.bytes())),
            cpu: MilliCpu::new(row.used.cpu.get().saturating_add(needs.cpu.get())),
        };
        self.holds.insert(*instance, Hold { node: *node, needs });
        Ok(())
    }

    fn give(&mut self, instance: InstanceId) {
        // Stopped and then collected: the memory is given back once.
        let Some(Hold { node, needs }) = self.holds.remove(&instance) else { return };
        let Some(row) = self.rows.get_mut(&node) else { return };
        let row = Arc::make_mut(row);
        row.instances = row.instances.saturating_sub(1);
        row.used = Capacity {
            memory: ByteSize::from_bytes(row.used.memory.bytes().saturating_sub(needs.memory.bytes())),
            cpu: MilliCpu::new(row.used.cpu.get().saturating_sub(needs.cpu.get())),
        };
    }
}

impl View for Nodes {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn apply(&mut self, envelope: &Envelope) -> Result<(), Fault> {
        match &envelope.event {
            Event::NodeEnrolled { .. } => self.enrolled(envelope),
            Event::NodeActivated { node }
            | Event::NodeDraining { node }
            | Event::NodeDisabled { node, .. } => {
                let row = self.row(*node, envelope)?;
                row.changed = Mark::of(envelope);
                row.state = match envelope.event {
                    Event::NodeDraining { .. } => NodeState::Draining,
                    Event::NodeDisabled { .. } => NodeState::Disabled,
                    _ => NodeState::Active,
                };
            }
            Event::NodeRemoved { node, .. } => {
                self.rows.remove(node).ok_or_else(|| missing(envelope, node))?;
                let there = |(id, hold): (&InstanceId, &Hold)| (hold.node == *node).then_some(*id);
                let there: Vec<InstanceId> = self.holds.iter().filter_map(there).collect();
                there.iter().for_each(|id| {
                    self.holds.remove(id);
                });
            }
            Event::NodeHealthChanged { node, health } => {
                let row = self.row(*node, envelope)?;
                row.changed = Mark::of(envelope);
                row.health = *health;
            }
            Event::ReleaseCreated { release, manifest, .. } => {
                let caps = manifest.processes.iter().map(|(name, process)| {
                    (name.clone(), Capacity { memory: process.memory, cpu: process.cpu })
                });
                self.caps.insert(*release, Arc::new(caps.collect()));
            }
            Event::InstanceAllocated { .. } => self.take(envelope)?,
            Event::InstanceChanged { instance, change: Change::Stopped | Change::Collected, .. } => {
                self.give(*instance);
            }
            _ => {}
        }
        Ok(())
    }

    fn rows(&self) -> Vec<u8> {
        canonical(self)
    }
}
