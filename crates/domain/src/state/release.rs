//! Releases: `created → available → promoted → superseded | rolled back`, and back to promoted.

use serde::{Deserialize, Serialize};
use types::{EnvId, Timestamp, manifest::Manifest, plan::PinnedImage};

/// Where a release is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseState {
    /// Written down.
    Created,
    /// Its image is pinned; it can be deployed.
    Available,
    /// It serves.
    Promoted,
    /// A later one serves.
    Superseded,
    /// An earlier one serves again.
    RolledBack,
}

/// The legal changes; nothing else ever happens to a release.
pub(super) const TRANSITIONS: &[(ReleaseState, ReleaseState)] = &[
    (ReleaseState::Created, ReleaseState::Available),
    (ReleaseState::Available, ReleaseState::Promoted),
    (ReleaseState::Promoted, ReleaseState::Superseded),
    (ReleaseState::Promoted, ReleaseState::RolledBack),
    (ReleaseState::Superseded, ReleaseState::Promoted),
    (ReleaseState::RolledBack, ReleaseState::Promoted),
];

/// One canonical manifest with its image pinned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Whose it is.
    pub env: EnvId,
    /// 1, 2, 3, … within the environment.
    pub number: u32,
    /// What was declared.
    pub manifest: Box<Manifest>,
    /// What runs.
    pub image: PinnedImage,
    /// SHA-256 of manifest and image: equal content is one release.
    pub content: [u8; 32],
    /// Where it is in its life.
    pub state: ReleaseState,
    /// When it was written down.
    pub created: Timestamp,
    /// Events so far.
    pub sequence: u64,
}

impl Release {
    pub(super) fn go(&mut self, to: ReleaseState) {
        if TRANSITIONS.contains(&(self.state, to)) {
            self.state = to;
        }
    }
}
