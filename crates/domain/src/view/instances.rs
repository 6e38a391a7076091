//! Every instance until nothing of it is left on its node.

use super::{Fault, Mark, View, canonical, missing};
use crate::{
    event::{Envelope, Event},
    state::InstanceState,
};
use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use std::{net::Ipv6Addr, sync::Arc};
use types::{
    DeployId, EnvId, InstanceId, Name, NodeId, ReleaseId,
    plan::{Change, Reason},
};

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRow {
    /// Its environment.
    pub env: EnvId,
    /// The process it is a copy of.
    pub process: Name,
    /// What it runs.
    pub release: ReleaseId,
    /// The deploy that wanted it.
    pub deploy: DeployId,
    /// Where it runs.
    pub node: NodeId,
    /// Its own address.
    pub address: Ipv6Addr,
    /// Where it is in its life.
    pub state: InstanceState,
    /// It may be stopped, and whether that was forced.
    pub released: Option<bool>,
    /// The last reason it was not running, kept after it is well again.
    pub reason: Option<(Reason, String)>,
    /// How often its process ended by itself.
    pub restarts: u32,
    /// When it was placed.
    pub allocated: Mark,
    /// When its state last changed.
    pub since: Mark,
}

/// The view.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Instances {
    /// All instances, by id.
    pub rows: OrdMap<InstanceId, Arc<InstanceRow>>,
}

impl Instances {
    /// What people call it.
    pub const NAME: &'static str = "instances";

    fn allocated(&mut self, envelope: &Envelope) {
        let Event::InstanceAllocated { instance, env, process, release, deploy, node, address } =
            &envelope.event
        else {
            return;
        };
        let made = InstanceRow {
            env: *env,
            process: process.clone(),
            release: *release,
            deploy: *deploy,
            node: *node,
            address: *address,
            state: InstanceState::Allocated,
            released: None,
            reason: None,
            restarts: 0,
            allocated: Mark::of(envelope),
            since: Mark::of(envelope),
        };
        self.rows.insert(*instance, Arc::new(made));
    }

    fn changed(&mut self, envelope: &Envelope, id: InstanceId, change: &Change) {
        if matches!(change, Change::Collected) {
            self.rows.remove(&id);
            return;
        }
        // One report can tell of an instance's end and, from before it, of something else.
        let Some(row) = self.rows.get_mut(&id) else { return };
        let row = Arc::make_mut(row);
        match change {
            Change::Preparing => row.go(InstanceState::Preparing, envelope),
            Change::Waiting { reason, detail } => row.reason = Some((*reason, detail.clone())),
            Change::Booting => row.go(InstanceState::Booting, envelope),
            Change::Ready => row.go(InstanceState::Ready, envelope),
            Change::Unready { detail } => {
                row.reason = Some((Reason::HealthLost, detail.clone()));
                row.go(InstanceState::Booting, envelope);
            }
            Change::Crashed { reason, detail, restarts } => {
                row.reason = Some((*reason, detail.clone()));
                row.restarts = *restarts;
                row.go(InstanceState::Booting, envelope);
            }
            Change::Failed { reason, detail } => {
                row.reason = Some((*reason, detail.clone()));
                row.go(InstanceState::Failed, envelope);
            }
            Change::Stopped => {
                row.go(InstanceState::Draining, envelope);
                row.go(InstanceState::Stopped, envelope);
            }
            Change::Collected => {}
        }
    }

    fn row(&mut self, id: InstanceId, envelope: &Envelope) -> Result<&mut InstanceRow, Fault> {
        self.rows.get_mut(&id).map(Arc::make_mut).ok_or_else(|| missing(envelope, id))
    }
}

impl InstanceRow {
    /// The same life cycle as the state's: a report that is out of place changes nothing.
    fn go(&mut self, to: InstanceState, envelope: &Envelope) {
        if self.state != to && self.state.may_go(to) {
            self.state = to;
            self.since = Mark::of(envelope);
        }
    }
}

impl View for Instances {
    fn name(&self) -> &'static str {
        Self::NAME
    }

    fn apply(&mut self, envelope: &Envelope) -> Result<(), Fault> {
        match &envelope.event {
            Event::InstanceAllocated { .. } => self.allocated(envelope),
            Event::InstanceChanged { instance, change, .. } => self.changed(envelope, *instance, change),
            Event::InstanceDraining { instance } => {
                self.row(*instance, envelope)?.go(InstanceState::Draining, envelope);
            }
            Event::InstanceReleased { instance, forced } => {
                self.row(*instance, envelope)?.released = Some(*forced);
            }
            Event::InstanceLost { instance } => {
                let row = self.row(*instance, envelope)?;
                row.reason = Some((Reason::NodeLost, "its node was lost".to_owned()));
                row.go(InstanceState::Failed, envelope);
            }
            Event::NodeRemoved { node, .. } => {
                let there = |(id, row): (&InstanceId, &Arc<InstanceRow>)| (row.node == *node).then_some(*id);
                let there: Vec<InstanceId> = self.rows.iter().filter_map(there).collect();
                there.iter().for_each(|id| drop(self.rows.remove(id)));
            }
            _ => {}
        }
        Ok(())
    }

    fn rows(&self) -> Vec<u8> {
        canonical(self)
    }
}
