//! What reads answer: one row type for each noun, the status of an environment, and explanations.
//!
//! States are the words of the life cycles, sent as text: they are shown, not branched on. Where a
//! program must branch (does a deploy go on?) there is an enum.

use serde::{Deserialize, Serialize};
use std::net::{Ipv6Addr, SocketAddr};
use types::{
    AppId, DeployId, EnvId, EventId, Generation, HostName, InstanceId, Name, NodeId, ReleaseId, RouteId,
    Timestamp,
    manifest::RouteMode,
    plan::{Capacity, NodeRole, PinnedImage, Reason},
};
use utoipa::{IntoParams, ToSchema};

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The rows, in the order of their ids or names.
    pub rows: Vec<T>,
    /// The cursor of the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// Which page, and how fresh.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// At most this many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Wait until the view has reached this event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<u64>)]
    #[schema(value_type = Option<u64>)]
    pub at_least: Option<EventId>,
}

/// Whether an apply is only planned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub struct PlanQuery {
    /// Answer what would change, and write nothing.
    #[serde(default)]
    pub plan: bool,
}

/// Which part of an instance's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub struct LogsQuery {
    /// So many of the last lines first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<u32>,
    /// Stay and send what comes.
    #[serde(default)]
    pub follow: bool,
}

/// An app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AppRow {
    /// Its id.
    #[schema(value_type = String)]
    pub id: AppId,
    /// The org it belongs to.
    #[schema(value_type = String)]
    pub org: Name,
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// When it was made.
    #[schema(value_type = u64)]
    pub created: Timestamp,
    /// Its environments.
    #[schema(value_type = Vec<String>)]
    pub envs: Vec<Name>,
}

/// An environment in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvRow {
    /// Its id.
    #[schema(value_type = String)]
    pub id: EnvId,
    /// The app's name.
    #[schema(value_type = String)]
    pub app: Name,
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// The number of the release that it is at or on the way to.
    pub release: Option<u64>,
    /// How the last deploy stands.
    pub deploy: Option<DeployState>,
    /// Instances wanted, over all processes.
    pub desired: u32,
    /// Instances ready.
    pub ready: u32,
}

/// What is declared for an environment, what runs, what is routed, and why they differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnvStatus {
    /// The environment's id.
    #[schema(value_type = String)]
    pub id: EnvId,
    /// The org's name.
    #[schema(value_type = String)]
    pub org: Name,
    /// The app's name.
    #[schema(value_type = String)]
    pub app: Name,
    /// The environment's name.
    #[schema(value_type = String)]
    pub env: Name,
    /// The release it is at or on the way to.
    pub release: Option<ReleaseRow>,
    /// The last deploy.
    pub deploy: Option<DeployRow>,
    /// Each process.
    pub processes: Vec<ProcessStatus>,
    /// Each route.
    pub routes: Vec<RouteRow>,
    /// Whether everything is as declared.
    pub converged: bool,
    /// Why it is not, in sentences.
    pub why: Vec<String>,
    /// The event this reflects.
    #[schema(value_type = u64)]
    pub event: EventId,
}

/// One process of an environment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProcessStatus {
    /// Its name.
    #[schema(value_type = String)]
    pub process: Name,
    /// Instances declared.
    pub desired: u32,
    /// Instances that exist, in any state but stopped.
    pub placed: u32,
    /// Instances ready.
    pub ready: u32,
    /// Ready instances of the declared release.
    pub current: u32,
    /// Instances on their way to ready.
    pub starting: u32,
    /// Instances on their way out.
    pub draining: u32,
    /// Instances that crashed or failed.
    pub failing: u32,
    /// Instances that edges send to.
    pub routed: u32,
    /// Why it is not as declared.
    pub why: Option<String>,
}

/// A release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseRow {
    /// Its id.
    #[schema(value_type = String)]
    pub id: ReleaseId,
    /// Its number within its app: 1, 2, 3, …
    pub number: u64,
    /// The image it pins.
    #[schema(value_type = Object)]
    pub image: PinnedImage,
    /// When it was made.
    #[schema(value_type = u64)]
    pub created: Timestamp,
    /// Where it is in its life.
    pub state: String,
    /// Whether the environment is at it or on the way to it.
    pub current: bool,
}

/// Where a deploy is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeployState {
    /// Decided.
    Started,
    /// Instances are being replaced.
    Rolling,
    /// The new instances are ready; the old ones drain.
    Cutover,
    /// Done.
    Succeeded,
    /// Given up: it says why, and how to go back.
    Failed,
}

impl DeployState {
    /// Whether nothing follows.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Rolling => "rolling",
            Self::Cutover => "cutover",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

impl std::fmt::Display for DeployState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A deploy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeployRow {
    /// Its id.
    #[schema(value_type = String)]
    pub id: DeployId,
    /// What started it: `deploy`, `rollback`, `restart` or `scale`.
    pub kind: String,
    /// The number of its release.
    pub release: u64,
    /// Where it is in its life.
    pub state: DeployState,
    /// When it started.
    #[schema(value_type = u64)]
    pub started: Timestamp,
    /// When it fails if it has not succeeded.
    #[schema(value_type = u64)]
    pub deadline: Timestamp,
    /// When it succeeded or failed.
    #[schema(value_type = Option<u64>)]
    pub ended: Option<Timestamp>,
    /// Failures of its instances so far.
    pub failures: u32,
    /// Failures that end it.
    pub attempts: u32,
    /// Why it failed, or what it waits for.
    pub reason: Option<String>,
    /// If it failed: one command that goes back.
    pub way_back: Option<String>,
    /// What has happened so far and what is next, in lines for people.
    pub steps: Vec<String>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceRow {
    /// Its id.
    #[schema(value_type = String)]
    pub id: InstanceId,
    /// The app's name.
    #[schema(value_type = String)]
    pub app: Name,
    /// The environment's name.
    #[schema(value_type = String)]
    pub env: Name,
    /// The process's name.
    #[schema(value_type = String)]
    pub process: Name,
    /// The number of its release.
    pub release: u64,
    /// The name of the node it is on.
    #[schema(value_type = String)]
    pub node: Name,
    /// Where it is in its life.
    pub state: String,
    /// Why it does not run, if it does not.
    #[schema(value_type = Option<String>)]
    pub reason: Option<Reason>,
    /// More about the reason.
    pub detail: Option<String>,
    /// How often its process was started again.
    pub restarts: u32,
    /// Its address.
    #[schema(value_type = String)]
    pub address: Ipv6Addr,
    /// Since when it is in that state.
    #[schema(value_type = u64)]
    pub since: Timestamp,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteRow {
    /// Its id.
    #[schema(value_type = String)]
    pub id: RouteId,
    /// The app's name.
    #[schema(value_type = String)]
    pub app: Name,
    /// The environment's name.
    #[schema(value_type = String)]
    pub env: Name,
    /// The process that answers.
    #[schema(value_type = String)]
    pub process: Name,
    /// The process's port.
    #[schema(value_type = String)]
    pub port: Name,
    /// How connections find it.
    #[schema(value_type = String)]
    pub mode: RouteMode,
    /// For `tls`: the server name.
    #[schema(value_type = Option<String>)]
    pub host: Option<HostName>,
    /// For `tcp`: the port that edges listen on.
    pub listen: Option<u16>,
    /// Where it is in its life.
    pub state: String,
    /// Who may take its connections now.
    pub backends: Vec<BackendRow>,
}

/// One instance behind a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackendRow {
    /// The instance.
    #[schema(value_type = String)]
    pub instance: InstanceId,
    /// Where it listens.
    #[schema(value_type = String)]
    pub address: SocketAddr,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeRow {
    /// Its id.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// Where it is in its life.
    pub state: String,
    /// The parts it plays.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<NodeRole>,
    /// What it can give.
    #[schema(value_type = Object)]
    pub capacity: Capacity,
    /// What of it is given to instances.
    #[schema(value_type = Object)]
    pub used: Capacity,
    /// When it was last heard of, by the server's clock.
    #[schema(value_type = Option<u64>)]
    pub last_seen: Option<Timestamp>,
    /// The generation of the newest plan made for its agent.
    #[schema(value_type = u64)]
    pub generation: Generation,
    /// The generation its agent says it acts on.
    #[schema(value_type = Option<u64>)]
    pub acknowledged: Option<Generation>,
    /// The generation its edge says it acts on.
    #[schema(value_type = Option<u64>)]
    pub edge_acknowledged: Option<Generation>,
    /// What it is short of, if it takes no new instances for that.
    #[schema(value_type = Option<String>)]
    pub pressure: Option<Reason>,
    /// Why nothing is pushed to it: it holds a plan that the server's log never made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<String>,
}

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Explanation {
    /// The whole in one sentence.
    pub summary: String,
    /// Each part.
    pub lines: Vec<ExplanationLine>,
}

/// One thing: what is declared, what is, and why they differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ExplanationLine {
    /// What it is about.
    pub subject: String,
    /// What is declared.
    pub desired: String,
    /// What is.
    pub actual: String,
    /// Why they differ; empty if they do not.
    pub why: String,
    /// The event that made it so.
    #[schema(value_type = Option<u64>)]
    pub since_event: Option<EventId>,
}
