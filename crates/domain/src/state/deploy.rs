//! Environments, and the deploys that move them from release to release.
//!
//! ```text
//!   started ──▶ rolling ──▶ cutover ──▶ succeeded
//!      └───────────┴───────────┴──────▶ failed      (never rolls back by itself)
//! ```

use crate::event::{DeployFailure, DeployKind};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use types::{AppId, DeployId, EnvId, EventId, Name, ReleaseId, Timestamp, plan::Reason};

/// Where a deploy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeployState {
    /// Decided, nothing placed yet.
    Started,
    /// Instances come and go.
    Rolling,
    /// All new ones serve; the edges let go of the old.
    Cutover,
    /// Done.
    Succeeded,
    /// Not done; the reason is in the deploy.
    Failed,
}

/// The legal changes; nothing else ever happens to a deploy.
pub(super) const TRANSITIONS: &[(DeployState, DeployState)] = &[
    (DeployState::Started, DeployState::Rolling),
    (DeployState::Rolling, DeployState::Cutover),
    (DeployState::Cutover, DeployState::Succeeded),
    (DeployState::Started, DeployState::Failed),
    (DeployState::Rolling, DeployState::Failed),
    (DeployState::Cutover, DeployState::Failed),
];

impl DeployState {
    /// Whether the life cycle lets it go there.
    pub fn may_go(self, to: Self) -> bool {
        TRANSITIONS.contains(&(self, to))
    }
    /// Whether it still moves things.
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Started | Self::Rolling | Self::Cutover)
    }
}

/// One attempt to bring an environment to a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deploy {
    /// Which environment.
    pub env: EnvId,
    /// To which release.
    pub release: ReleaseId,
    /// Why.
    pub kind: DeployKind,
    /// Where it is.
    pub state: DeployState,
    /// When it was decided.
    pub started: Timestamp,
    /// When it fails if it is not done.
    pub deadline: Timestamp,
    /// How many failures of fresh instances end it.
    pub attempts: u32,
    /// How many there were.
    pub failures: u32,
    /// The newest of them.
    pub last_failure: Option<(Reason, String)>,
    /// Why it failed, if it did.
    pub failure: Option<DeployFailure>,
    /// Events so far.
    pub sequence: u64,
}

impl Deploy {
    pub(super) fn go(&mut self, to: DeployState) {
        if self.state.may_go(to) {
            self.state = to;
        }
    }
}

/// An environment: what it serves, what it is moving to, and how many of each process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment {
    /// Whose it is.
    pub app: AppId,
    /// Its name, one of a kind in the app.
    pub name: Name,
    /// Its releases by number, oldest first.
    pub releases: Vec<ReleaseId>,
    /// The deploy that last succeeded: what is kept running.
    pub serving: Option<DeployId>,
    /// The deploy under way.
    pub rolling: Option<DeployId>,
    /// The newest deploy of all, whatever came of it.
    pub latest: Option<DeployId>,
    /// Promoted releases, oldest first, the serving one last; bounded.
    pub promoted: Vec<ReleaseId>,
    /// Instances wanted of each process.
    pub scale: BTreeMap<Name, u32>,
    /// Failures in a row of instances that were to replace others, and the last one's time.
    pub failed_in_a_row: u32,
    /// When the last of those failed.
    pub last_failed: Timestamp,
    /// The last event that could matter to what is running here.
    pub changed: EventId,
    /// Events so far.
    pub sequence: u64,
}

impl Environment {
    /// What the environment is to run: the deploy under way, else the one that last succeeded.
    pub fn target(&self) -> Option<DeployId> {
        self.rolling.or(self.serving)
    }

    /// Whether something newer than what serves is under way or has failed.
    pub fn is_unsettled(&self) -> bool {
        self.latest != self.serving
    }
}
