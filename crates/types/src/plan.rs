//! What the control plane declares to a node and to an edge, and what they report back.
//!
//! A plan is whole, never a difference of unknown base: whoever holds one needs nobody to act on
//! it. It carries the [`Generation`] it was made at; an agent or edge never goes back to a lower
//! one (`generation_never_falls`).

use crate::manifest::{Health, ProxyProtocol};
use crate::{
    ByteSize, Digest, DurationMs, EnvId, Epoch, EventId, Generation, HostName, InstanceId, MilliCpu, Name,
    NodeId, RouteId, Timestamp,
    history::{Adoption, Held},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr},
};

/// Everything one agent is to keep running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePlan {
    /// Whose plan this is; an agent refuses another node's.
    pub node: NodeId,
    /// The identity of the log that it was made from; a node that holds another log's plan refuses this
    /// one, unless that is adopted.
    pub cluster: String,
    /// The epoch of the event that it reflects. Zero in plans of versions that did not name it.
    #[serde(default)]
    pub epoch: Epoch,
    /// How new it is.
    pub generation: Generation,
    /// What its log has adopted of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Adoption>,
    /// Every instance the node should have. One that it has and that is not here is to be removed.
    pub instances: BTreeMap<InstanceId, InstancePlan>,
}

impl NodePlan {
    /// What it is called.
    pub fn name(&self) -> Held {
        named(&self.cluster, self.epoch, self.generation, self.adoption.as_ref())
    }
}

impl EdgePlan {
    /// What it is called.
    pub fn name(&self) -> Held {
        named(&self.cluster, self.epoch, self.generation, self.adoption.as_ref())
    }
}

fn named(cluster: &str, epoch: Epoch, generation: Generation, adoption: Option<&Adoption>) -> Held {
    // Since an adoption, generations are as far ahead of the events as that one is.
    let lift = adoption.map_or(0, |last| last.since.get().saturating_sub(last.event.get()));
    let event = EventId::new(generation.get().saturating_sub(lift));
    Held { cluster: cluster.to_owned(), epoch, event, generation }
}

/// One instance on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstancePlan {
    /// Run it, or stop it.
    pub desired: Desired,
    /// What to run.
    pub spec: InstanceSpec,
}

/// What is wanted of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Desired {
    /// Running; started again when it ends.
    Running,
    /// Stopped: SIGTERM, the grace, SIGKILL. Only said when no edge sends to it any more.
    Stopped,
}

/// All that an agent needs to run one instance, without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// The org, app, environment and process, for people and log lines.
    pub org: Name,
    /// The app's name.
    pub app: Name,
    /// The environment's name.
    pub env: Name,
    /// The process's name.
    pub process: Name,
    /// The environment's id: the wall.
    pub env_id: EnvId,
    /// Where the image comes from.
    pub image: PinnedImage,
    /// The command; empty means the image's own entry point and command.
    pub command: Vec<String>,
    /// Plain environment variables. Never secrets.
    pub variables: BTreeMap<String, String>,
    /// The hard memory cap, swap included.
    pub memory: ByteSize,
    /// The soft share of processor time.
    pub cpu: MilliCpu,
    /// The instance's own address.
    pub address: Ipv6Addr,
    /// Named ports it listens on.
    pub ports: BTreeMap<Name, u16>,
    /// How to tell that it is ready; without one it is ready when it runs.
    pub health: Option<Health>,
    /// Between SIGTERM and SIGKILL.
    pub stop_grace: DurationMs,
}

/// An image by its digest, and where to get it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PinnedImage {
    /// What was asked for, as written: `registry/name:tag` or `oci:/absolute/path[:tag]`.
    pub reference: String,
    /// The digest of the image manifest. What runs is this and nothing else.
    pub digest: Digest,
}

/// Everything an edge routes. All edges of a cluster hold the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgePlan {
    /// The identity of the log that it was made from.
    pub cluster: String,
    /// The epoch of the event that it reflects. Zero in plans of versions that did not name it.
    #[serde(default)]
    pub epoch: Epoch,
    /// How new it is.
    pub generation: Generation,
    /// What its log has adopted of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoption: Option<Adoption>,
    /// Every route, by id.
    pub routes: BTreeMap<RouteId, EdgeRoute>,
}

/// One route and the backends that may take its connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeRoute {
    /// The environment that owns the name; a backend of another is never in this route.
    pub env: EnvId,
    /// What the edge listens for.
    pub matches: RouteMatch,
    /// Whether backends are told the client's address, unless a backend says otherwise for itself.
    pub proxy_protocol: ProxyProtocol,
    /// Instances that were ready when the plan was made. A draining one is not here.
    pub backends: Vec<Backend>,
}

/// How a connection finds its route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RouteMatch {
    /// By the server name in the ClientHello, on the edge's TLS listener; passed through untouched.
    Tls {
        /// The name, lower case.
        host: HostName,
    },
    /// By a TCP port of its own.
    Tcp {
        /// The port the edge listens on.
        listen: u16,
    },
}

impl std::fmt::Display for RouteMatch {
    /// What it is called outside: the host, or the port.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tls { host } => write!(f, "{host}"),
            Self::Tcp { listen } => write!(f, "port {listen}"),
        }
    }
}

/// One instance as a target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Backend {
    /// The instance.
    pub instance: InstanceId,
    /// The environment it belongs to; checked against the route's before it is used.
    pub env: EnvId,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether this one is told the client's address, where its release says otherwise than the
    /// route. Absent when they agree, and in plans stored before backends spoke for themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// A change of an instance that an agent saw. Reported once each, in order, until acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// Which instance.
    pub instance: InstanceId,
    /// Counted by the agent per instance from 1, so that a report sent twice is applied once.
    pub sequence: u64,
    /// When the agent saw it.
    pub at: Timestamp,
    /// What it saw.
    pub change: Change,
}

/// What happened to an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The image is being fetched or the root is being made.
    Preparing,
    /// It cannot go on yet; the agent tries again by itself.
    Waiting {
        /// Why.
        reason: Reason,
        /// More for people, at most a few hundred characters.
        detail: String,
    },
    /// The process was started.
    Booting,
    /// It answers its probe.
    Ready,
    /// It ran and no longer answers its probe.
    Unready {
        /// More for people.
        detail: String,
    },
    /// The process ended by itself; the agent starts it again after a wait.
    Crashed {
        /// Why it ended.
        reason: Reason,
        /// More for people.
        detail: String,
        /// How often it has ended by now.
        restarts: u32,
    },
    /// It can never run as declared; the agent gives up.
    Failed {
        /// Why.
        reason: Reason,
        /// More for people.
        detail: String,
    },
    /// It was stopped because the plan says so.
    Stopped,
    /// Nothing of it is left on the node.
    Collected,
}

/// The closed set of reasons why an instance is not running.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The registry or layout could not be reached.
    ImageUnavailable,
    /// The registry or layout has no such image.
    ImageNotFound,
    /// What was fetched is not what the digest says, breaks a limit, or would unpack outside its root.
    ImageInvalid,
    /// The command is not in the image or cannot be executed.
    CommandInvalid,
    /// The runtime could not start it.
    RuntimeFailed,
    /// The network of the instance could not be made.
    NetworkFailed,
    /// The process ended with an exit code.
    Exited,
    /// The process was killed by a signal.
    Killed,
    /// The process was killed at its memory cap.
    OomKilled,
    /// It never answered its probe within the grace.
    HealthTimeout,
    /// It stopped answering its probe and was ended.
    HealthLost,
    /// The host has no space.
    DiskFull,
    /// Secrets could not be delivered.
    SecretsInjectionFailed,
    /// The node was lost.
    NodeLost,
}

impl Reason {
    /// The word used on the wire and shown to people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ImageUnavailable => "image_unavailable",
            Self::ImageNotFound => "image_not_found",
            Self::ImageInvalid => "image_invalid",
            Self::CommandInvalid => "command_invalid",
            Self::RuntimeFailed => "runtime_failed",
            Self::NetworkFailed => "network_failed",
            Self::Exited => "exited",
            Self::Killed => "killed",
            Self::OomKilled => "oom_killed",
            Self::HealthTimeout => "health_timeout",
            Self::HealthLost => "health_lost",
            Self::DiskFull => "disk_full",
            Self::SecretsInjectionFailed => "secrets_injection_failed",
            Self::NodeLost => "node_lost",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a node can give, as it says itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Memory for instances.
    pub memory: ByteSize,
    /// Processor time for instances.
    pub cpu: MilliCpu,
}

/// The parts a node plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeRole {
    /// Runs instances.
    Agent,
    /// Routes connections.
    Edge,
}

/// A renewal of a node's lease: it lives, and this is what it holds. Not an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Which of its roles speaks.
    pub role: NodeRole,
    /// The plan that nothing in it goes behind any more: what it acknowledges.
    pub generation: Generation,
    /// The plan that it has stored. Absent from nodes of versions that did not name it; then it is the
    /// one above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// Whether new instances may be placed here; `Some` names what is short.
    pub pressure: Option<Reason>,
    /// Instances whose process runs here now, in an agent's word. What an agent has taken hold of or
    /// started; after its restart one that it has yet to adopt is missing for a moment. So it is for
    /// people: nothing may be concluded from an instance that is not in it. Empty for edges.
    pub running: Vec<InstanceId>,
    /// Instances no longer in the plan that connections are still open to. Edges only.
    #[serde(default)]
    pub draining: Vec<InstanceId>,
}

/// What an instance's state was at an event; for tables and explanations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The event the statement reflects.
    pub event: EventId,
    /// When that event was written.
    pub at: Timestamp,
}
