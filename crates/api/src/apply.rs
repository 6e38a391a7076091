//! Writes to an environment, what they would change, and the receipt that follows each.

use crate::Outcome;
use serde::{Deserialize, Serialize};
use types::{
    AppId, DeployId, EnvId, EventId, Name, NodeId, ReleaseId, RequestId, TokenId, manifest::Manifest,
    plan::PinnedImage,
};
use utoipa::ToSchema;

/// Bring an environment to a manifest. With `?plan=true` nothing is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The environment; made if it is not there.
    #[schema(value_type = String)]
    pub env: Name,
    /// What is wanted.
    #[schema(value_type = Object)]
    pub manifest: Manifest,
}

/// What an apply would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlanAnswer {
    /// What differs from what is declared now, in the order of the manifest. Empty: nothing to do.
    pub changes: Vec<Difference>,
    /// The image as it would be pinned.
    #[schema(value_type = Object)]
    pub image: PinnedImage,
    /// Whether a release of exactly this content is there already.
    pub release_exists: bool,
    /// The deploy under way, if there is one. With no changes, it is one of exactly this content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rolling: Option<DeployId>,
    /// What a person should know before saying yes.
    pub warnings: Vec<String>,
}

/// One difference between what is declared and what would be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Difference {
    /// Where, as keys joined by dots.
    pub path: String,
    /// What is there now; absent if nothing is.
    pub before: Option<String>,
    /// What would be there; absent if nothing would.
    pub after: Option<String>,
}

/// Set how many instances of a process there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// The process.
    #[schema(value_type = String)]
    pub process: Name,
    /// How many; 0 stops it.
    pub replicas: u32,
}

/// Replace instances by fresh ones of the same release, one at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartRequest {
    /// Only this process; absent means all.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub process: Option<Name>,
}

/// Go back to an earlier release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// A release id or number; absent means the one that last succeeded before the present one.
    #[serde(default)]
    pub release: Option<String>,
}

/// Deploy another image with the manifest as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployRequest {
    /// The image reference, as in a manifest.
    pub image: String,
}

/// What became of a write. The same request id gets the same receipt, however often it is sent;
/// only a secret is given once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The request.
    #[schema(value_type = String)]
    pub request_id: RequestId,
    /// What became of it.
    pub outcome: Outcome,
    /// The last event it caused or, if it changed nothing, the event the answer reflects.
    #[schema(value_type = u64)]
    pub event: EventId,
    /// Every event it caused.
    pub events: Vec<EventSummary>,
    /// What those events made.
    pub result: ResultBody,
}

/// An event in one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventSummary {
    /// Its place in the order.
    #[schema(value_type = u64)]
    pub id: EventId,
    /// Its kind, as in `deploy.started`.
    pub kind: String,
    /// What it is about, as an id.
    pub subject: String,
}

/// What a write made or touched. Only what applies is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResultBody {
    /// The app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub app: Option<AppId>,
    /// The environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub env: Option<EnvId>,
    /// The release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub release: Option<ReleaseId>,
    /// The release's number within its app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_number: Option<u64>,
    /// The image that the release pins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub image: Option<PinnedImage>,
    /// The deploy to follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub deploy: Option<DeployId>,
    /// The node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub node: Option<NodeId>,
    /// The token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub token: Option<TokenId>,
    /// The token's secret: given in the first answer and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Why nothing changed, where nothing did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unchanged: Option<String>,
}
