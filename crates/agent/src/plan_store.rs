//! The plan on disk. Invariants:
//!
//! - A plan is durable before [`PlanStore::accept`] returns it to be acted on.
//! - `generation_never_falls`: no plan older than the stored one is accepted. The one exception is
//!   damage: if the newest stored plan cannot be read, the one before it is all there is; it is
//!   used, loudly, and a newer one asked for.
//! - A plan of another node is refused, and one of another log unless that log has adopted the plan that
//!   is stored: see [`types::history`].

use rt::{Disk, Slot, SlotError};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, net::Ipv6Addr, path::Path, sync::Arc};
use types::{
    Generation, InstanceId, NodeId,
    history::{Held, Misfit, follows},
    limits,
    plan::{InstanceSpec, NodePlan},
};

/// The version of the stored form.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Stored<P> {
    version: u32,
    plan: P,
}

/// The stored plan could not be read at start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk or the content is damaged.
    #[error("the stored plan cannot be read: {0}")]
    Slot(#[from] SlotError),
    /// It is of a version that this program does not know.
    #[error("the stored plan has version {0}, which is newer than this program; use the newer program")]
    Newer(u32),
    /// It is not a plan.
    #[error("the stored plan makes no sense: {0}")]
    Senseless(serde_json::Error),
    /// It belongs to somebody else.
    #[error("the stored plan is of node {node} in cluster {cluster}; this data directory is another node's")]
    Foreign {
        /// The node it names.
        node: NodeId,
        /// The control plane it names.
        cluster: String,
    },
}

/// A plan was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It is for another node.
    #[error("the plan is for node {0}")]
    OtherNode(NodeId),
    /// It does not follow the one that is stored.
    #[error("the plan is refused: {0}")]
    Misfit(#[from] Misfit),
    /// Two different plans say they are equally new.
    #[error("there are two different plans of generation {0}")]
    Ambiguous(Generation),
    /// It asks for something impossible.
    #[error("instance {instance}: {why}")]
    Unsound {
        /// Of which instance.
        instance: InstanceId,
        /// What is wrong.
        why: &'static str,
    },
    /// It could not be made durable, so it is not acted on.
    #[error("the plan could not be stored: {0}")]
    Store(#[from] SlotError),
}

/// The stored plan of one node.
#[derive(Debug)]
pub struct PlanStore {
    slot: Slot,
    node: NodeId,
    cluster: String,
    current: Option<Arc<NodePlan>>,
}

impl PlanStore {
    /// Reads what is stored.
    ///
    /// # Errors
    /// It cannot be read, or belongs to somebody else.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, node: NodeId, cluster: &str) -> Result<Self, OpenError> {
        let slot = Slot::open(disk, dir, "plan")?;
        let current = match slot.load()? {
            None => None,
            Some(loaded) => {
                let stored: Stored<serde_json::Value> =
                    serde_json::from_slice(&loaded.bytes).map_err(OpenError::Senseless)?;
                if stored.version > VERSION {
                    return Err(OpenError::Newer(stored.version));
                }
                let plan: NodePlan = serde_json::from_value(stored.plan).map_err(OpenError::Senseless)?;
                // One that came over from the log that enrolled it says so.
                let is_ours = plan.cluster == cluster || plan.adoption.is_some();
                if plan.node != node || !is_ours {
                    return Err(OpenError::Foreign { node: plan.node, cluster: plan.cluster });
                }
                Some(Arc::new(plan))
            }
        };
        Ok(Self { slot, node, cluster: cluster.to_owned(), current })
    }

    /// The newest plan, which is durable.
    pub fn current(&self) -> Option<&Arc<NodePlan>> {
        self.current.as_ref()
    }

    /// The name of the newest plan; without one, that of the log which enrolled the node.
    pub fn held(&self) -> Held {
        let none = || Held { cluster: self.cluster.clone(), ..Held::default() };
        self.current.as_ref().map_or_else(none, |plan| plan.name())
    }

    /// Takes a plan, if it is one for us and not older, and makes it durable. `None`: it is the one
    /// we have.
    ///
    /// # Errors
    /// It is refused, or could not be made durable; the plan before it stands.
    pub fn accept(&mut self, plan: NodePlan) -> Result<Option<Arc<NodePlan>>, Refusal> {
        if plan.node != self.node {
            return Err(Refusal::OtherNode(plan.node));
        }
        follows(&self.held(), &plan.name(), plan.adoption.as_ref())?;
        if let Some(held) = self.current.as_ref().filter(|held| held.generation == plan.generation) {
            // One that was stored by a version that did not name it has no epoch.
            let same = **held == NodePlan { epoch: held.epoch, ..plan.clone() };
            return if same { Ok(None) } else { Err(Refusal::Ambiguous(plan.generation)) };
        }
        check(&plan)?;
        let bytes = serde_json::to_vec(&Stored { version: VERSION, plan: &plan })
            .expect("a plan has only text keys and can be written as JSON");
        self.slot.store(&bytes)?;
        let plan = Arc::new(plan);
        self.current = Some(Arc::clone(&plan));
        Ok(Some(plan))
    }
}

/// What a plan must not ask, whoever made it.
fn check(plan: &NodePlan) -> Result<(), Refusal> {
    let mut addresses = BTreeSet::new();
    for (id, wanted) in &plan.instances {
        let why = unsound(&wanted.spec)
            .or_else(|| (!addresses.insert(wanted.spec.address)).then_some("has the address of another"));
        if let Some(why) = why {
            return Err(Refusal::Unsound { instance: *id, why });
        }
    }
    Ok(())
}

fn unsound(spec: &InstanceSpec) -> Option<&'static str> {
    let odd_name = |name: &String| name.is_empty() || name.contains(['=', '\0']);
    let all_text = spec.command.iter().chain(spec.variables.values());
    if !is_usable(spec.address) {
        Some("has an address that an instance cannot have")
    } else if !(limits::MEMORY_MIN..=limits::MEMORY_MAX).contains(&spec.memory) {
        Some("has a memory cap out of bounds")
    } else if spec.command.len() > limits::ARGUMENTS || spec.variables.len() > limits::ARGUMENTS {
        Some("has too many arguments or variables")
    } else if spec.variables.keys().any(odd_name) {
        Some("has a variable whose name is empty or holds '=' or a zero byte")
    } else if all_text.into_iter().any(|text| text.contains('\0')) {
        Some("has a zero byte in its command or variables")
    } else if spec.health.as_ref().is_some_and(|health| !spec.ports.contains_key(&health.port)) {
        Some("is to be probed on a port it does not have")
    } else {
        None
    }
}

fn is_usable(address: Ipv6Addr) -> bool {
    !address.is_loopback()
        && !address.is_unspecified()
        && !address.is_multicast()
        && !address.is_unicast_link_local()
}
