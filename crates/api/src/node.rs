//! What agents and edges say and are told.
//!
//! A stream is a sequence of whole plans, each newer than the one before; whoever loses the stream
//! loses nothing but freshness and opens it again with the generation it holds.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::Ipv6Addr};
use types::{
    DurationMs, Epoch, EventId, Generation, InstanceId, Name, NodeId, Timestamp,
    history::Held,
    plan::{Capacity, NodePlan, NodeRole, Transition},
};
use utoipa::{IntoParams, ToSchema};

/// Make a join token. The answer's `result.secret` enrols one node, once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// How long it may be used.
    #[schema(value_type = String)]
    pub expires_in: DurationMs,
}

/// Become a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnrolRequest {
    /// The single-use secret.
    pub join_token: String,
    /// What the node is to be called.
    #[schema(value_type = String)]
    pub name: Name,
    /// The parts it plays.
    #[schema(value_type = Vec<String>)]
    pub roles: Vec<NodeRole>,
    /// What it can give to instances.
    #[schema(value_type = Object)]
    pub capacity: Capacity,
}

/// A node's identity. The credential is seen this once; the node keeps it on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Enrolled {
    /// The node's id.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The bearer secret of the node.
    pub credential: String,
    /// The identity of the log that enrolled it.
    pub cluster: String,
    /// The first address of the /64 that the node's instances are numbered from.
    #[schema(value_type = String)]
    pub prefix: Ipv6Addr,
}

/// How a node opens its stream, or polls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
pub struct NodeStreamQuery {
    /// The generation it holds: only a newer plan is sent. 0: it holds none.
    #[serde(default)]
    #[param(value_type = u64)]
    #[schema(value_type = u64)]
    pub after: Generation,
    /// The identity of the log that made the plan it holds; without a plan, the one it was enrolled in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// The epoch in that plan's name.
    #[serde(default)]
    #[param(value_type = u64)]
    #[schema(value_type = u64)]
    pub epoch: Epoch,
    /// The event in that plan's name.
    #[serde(default)]
    #[param(value_type = u64)]
    #[schema(value_type = u64)]
    pub event: EventId,
    /// One plan as JSON, or 204 if there is none within the bound of a long poll.
    #[serde(default)]
    pub poll: bool,
}

impl NodeStreamQuery {
    /// Asks for what follows this plan.
    pub fn of(held: Held, poll: bool) -> Self {
        let Held { cluster, epoch, event, generation } = held;
        Self { after: generation, cluster, epoch, event, poll }
    }

    /// The plan that the node holds.
    pub fn held(&self) -> Held {
        let Self { after, cluster, epoch, event, .. } = self.clone();
        Held { cluster, epoch, event, generation: after }
    }
}

/// What an agent's stream brings. As server-sent events: `plan` and `logs`, each with JSON data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeMessage {
    /// The whole plan.
    Plan(Box<NodePlan>),
    /// Somebody wants to read a log.
    Logs(LogsAsk),
}

/// A wish to read the log of an instance; answered at the ask's own path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogsAsk {
    /// The number to answer under.
    pub ask: u64,
    /// Whose log.
    #[schema(value_type = String)]
    pub instance: InstanceId,
    /// So many of the last lines first.
    pub tail_lines: u32,
    /// Stay and send what comes.
    pub follow: bool,
}

/// The answer to a renewed lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeaseAnswer {
    /// The newest plan there is for this role; a node that holds an older one opens its stream anew.
    #[schema(value_type = u64)]
    pub generation: Generation,
    /// The server's clock.
    #[schema(value_type = u64)]
    pub server_time: Timestamp,
    /// The identity of the log that answers.
    pub cluster: String,
}

/// What an agent saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportRequest {
    /// In the order it was seen, for each instance.
    #[schema(value_type = Vec<Object>)]
    pub transitions: Vec<Transition>,
}

/// How far the reports are durable, so that the agent may forget them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReportAnswer {
    /// For each instance reported: the highest sequence that is durable or will never be wanted.
    #[schema(value_type = Object)]
    pub accepted: BTreeMap<InstanceId, u64>,
}
