//! The plan on disk: all an edge needs to serve when there is nobody to ask.
//!
//! Invariants:
//! - `stored_before_acted`: [`PlanStore::accept`] answers a plan only once it is durable;
//! - `generation_never_falls`: a plan older than the one held is refused;
//! - a plan of another log than the one held is refused, unless that log has adopted the one held: two
//!   control planes that both believe to own this edge are a mistake that a person must see.
//!
//! The file is a [`Slot`], whose content is JSON with a version: see [`Stored`].

use rt::{Disk, Slot, SlotError};
use serde::{Deserialize, Serialize};
use std::{path::Path, sync::Arc};
use types::{
    Generation,
    history::{Held, Misfit, follows},
    plan::EdgePlan,
};

const FILE: &str = "edge-plan";
const FORMAT: u32 = 1;

/// The stored form. A changed shape gets a new number and a pure step from the old one.
#[derive(Serialize, Deserialize)]
struct Stored<P> {
    format: u32,
    plan: P,
}

/// What is read first, whatever the format.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// Why the stored plan cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk did not do what was asked.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// A newer version wrote it.
    #[error("{path} has format {found}, and this version knows {FORMAT}: start the newer version")]
    Newer {
        /// The file.
        path: String,
        /// Its format.
        found: u32,
    },
    /// The file is whole and does not hold a plan.
    #[error("{path} does not hold a plan; move it away to start without one")]
    Content {
        /// The file.
        path: String,
        /// What the reader says.
        source: serde_json::Error,
    },
}

/// Why a plan is not acted on.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It does not follow the one held.
    #[error(transparent)]
    Misfit(#[from] Misfit),
    /// It says something else than the plan of the same generation that is held.
    #[error("it has the generation {held} of the plan held and is another plan")]
    Differs {
        /// The generation of both.
        held: Generation,
    },
    /// It could not be made durable.
    #[error("it could not be stored")]
    Store(#[from] SlotError),
}

/// What became of a plan that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is stored and newer: act on it.
    New(Arc<EdgePlan>),
    /// It is the plan held.
    Same,
}

/// The plan held, in memory and on disk.
#[derive(Debug)]
pub struct PlanStore {
    slot: Slot,
    held: Option<Arc<EdgePlan>>,
}

impl PlanStore {
    /// Opens the store of a data directory and reads what it holds.
    ///
    /// # Errors
    /// [`OpenError`]. Damaged content is no error: it was moved aside and said in the log, and the
    /// edge goes on with the plan stored before it, or without one.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self, OpenError> {
        let slot = Slot::open(disk, dir, FILE)?;
        let bytes = match slot.load() {
            Ok(loaded) => loaded.map(|loaded| loaded.bytes),
            Err(damaged @ SlotError::Damaged { .. }) => {
                tracing::error!(error = %damaged, "starting without a plan");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let held = bytes.map(|bytes| decode(&bytes, slot.path())).transpose()?.map(Arc::new);
        Ok(Self { slot, held })
    }

    /// The plan held.
    pub fn held(&self) -> Option<&Arc<EdgePlan>> {
        self.held.as_ref()
    }

    /// The name of the plan held; of none if there is none.
    pub fn name(&self) -> Held {
        self.held.as_ref().map_or_else(Held::default, |plan| plan.name())
    }

    /// Takes a plan if it may be acted on, and makes it durable first. Blocks on the disk.
    ///
    /// # Errors
    /// [`Refused`]; the plan held stays.
    pub fn accept(&mut self, plan: EdgePlan) -> Result<Accepted, Refused> {
        if let Some(held) = &self.held {
            follows(&held.name(), &plan.name(), plan.adoption.as_ref())?;
            if plan.generation == held.generation {
                // One that was stored by a version that did not name it has no epoch.
                let same = **held == EdgePlan { epoch: held.epoch, ..plan };
                return if same {
                    Ok(Accepted::Same)
                } else {
                    Err(Refused::Differs { held: held.generation })
                };
            }
        }
        let stored = Stored { format: FORMAT, plan: &plan };
        self.slot.store(&serde_json::to_vec(&stored).expect("a plan has only text keys"))?;
        let plan = Arc::new(plan);
        self.held = Some(Arc::clone(&plan));
        Ok(Accepted::New(plan))
    }
}

fn decode(bytes: &[u8], path: &Path) -> Result<EdgePlan, OpenError> {
    let path = || path.display().to_string();
    let content = |source| OpenError::Content { path: path(), source };
    match serde_json::from_slice::<Format>(bytes).map_err(content)?.format {
        FORMAT => Ok(serde_json::from_slice::<Stored<EdgePlan>>(bytes).map_err(content)?.plan),
        found => Err(OpenError::Newer { path: path(), found }),
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
