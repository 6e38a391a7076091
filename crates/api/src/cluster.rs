//! The cluster: who is a member and how far each is, and the acts on it.

use crate::{BackupStatus, Outcome};
use serde::{Deserialize, Serialize};
use types::{
    ByteSize, DurationMs, Epoch, EventId, Index, InstanceId, Name, NodeId, Term, Timestamp, history::Held,
    plan::NodeRole,
};
use utoipa::ToSchema;

/// Who may take authority without being told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Failover {
    /// Every voter that does not hear a leader.
    Automatic,
    /// Only the node that the last epoch names; any other waits for an operator.
    Operator,
}

/// The cluster, as the node that answers knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterStatus {
    /// The identity of the log.
    pub cluster: String,
    /// The fingerprint of its certificate authority, by which all members are known: what follows `#` in
    /// the URL of a member that serves over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The node that answers.
    #[schema(value_type = String)]
    pub own: NodeId,
    /// Who may take authority without being told to.
    pub failover: Failover,
    /// The node that leads, as far as this one knows.
    #[schema(value_type = Option<String>)]
    pub leader: Option<NodeId>,
    /// The last epoch that is committed here.
    #[schema(value_type = u64)]
    pub epoch: Epoch,
    /// The newest term seen here.
    #[schema(value_type = u64)]
    pub term: Term,
    /// Whether a majority was heard lately: by this node if it leads, otherwise by its leader.
    pub quorum: bool,
    /// The last event that is committed here.
    #[schema(value_type = u64)]
    pub head: EventId,
    /// Its members, in the order of their names.
    pub members: Vec<MemberRow>,
    /// The last connection between members that was refused here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<PeerRefused>,
    /// How it is with backups; absent where there never was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupStatus>,
    /// Nodes that hold a plan which this log never made: nothing is pushed to them until that is
    /// adopted. Known to the member that leads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<ApartRow>,
}

/// A node that holds a plan which the server's log never made, and what an adoption would do there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApartRow {
    /// Which node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// The role that holds the plan: agent or edge.
    #[schema(value_type = String)]
    pub role: NodeRole,
    /// The plan that it holds.
    #[schema(value_type = Object)]
    pub holds: Held,
    /// The newest plan that this log has for it.
    #[schema(value_type = Object)]
    pub here: Held,
    /// Why the one is none of this log's.
    pub why: String,
    /// Instances that run there and that this log does not know, or wants stopped: an adoption stops
    /// them. Of agents that have said what runs.
    #[schema(value_type = Vec<String>)]
    pub stops: Vec<InstanceId>,
    /// Instances that this log wants there and that do not run: an adoption starts them.
    #[schema(value_type = Vec<String>)]
    pub starts: Vec<InstanceId>,
    /// Instances that run there and go on untouched.
    #[schema(value_type = Vec<String>)]
    pub keeps: Vec<InstanceId>,
}

/// A member, as the node that answers last heard of it. What is not known is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberRow {
    /// Its id, never used twice.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// Where other members reach it: `host:port`.
    pub peer: String,
    /// The URL of its API; empty if people cannot reach it.
    pub api: String,
    /// Whether it decides with the others, or only reads along.
    pub votes: bool,
    /// Whether it leads.
    pub leads: bool,
    /// The last epoch committed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub epoch: Option<Epoch>,
    /// The last event that its readers see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub applied_event: Option<EventId>,
    /// The last entry that is durable there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub index: Option<Index>,
    /// Events it is behind the leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_events: Option<u64>,
    /// Milliseconds since anything was heard of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<u64>,
    /// Bytes that are free where it keeps its log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub disk_free: Option<ByteSize>,
    /// The event of its newest snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub snapshot_event: Option<EventId>,
    /// The age of its newest snapshot in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_age_ms: Option<u64>,
    /// Whether it refuses to sequence until it learns a higher epoch.
    #[serde(default)]
    pub fenced: bool,
    /// Whether it refuses writes for lack of space.
    #[serde(default)]
    pub short_of_space: bool,
    /// Files of entries that it had and that were never committed.
    #[serde(default)]
    pub aside: Vec<String>,
    /// What is wrong with it, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// A connection between members that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PeerRefused {
    /// Where it came from, and who it said it was.
    pub from: String,
    /// Why.
    pub why: String,
    /// When, by the clock of the node that refused.
    #[schema(value_type = u64)]
    pub at: Timestamp,
}

/// Make a secret that admits one member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberJoinRequest {
    /// How long it may be used.
    #[schema(value_type = String)]
    pub expires_in: DurationMs,
}

/// A secret that admits one member, once. It is in this answer and in no other.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemberJoinSecret {
    /// Always *executed*.
    pub outcome: Outcome,
    /// What the machine that joins is given.
    pub secret: String,
    /// When it ends by itself.
    #[schema(value_type = u64)]
    pub expires: Timestamp,
}

impl std::fmt::Debug for MemberJoinSecret {
    /// Never shows the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemberJoinSecret").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// A guarded act on the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClusterActRequest {
    /// The member it is about, by name or id; absent means the one that is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why; goes into the log with the act.
    #[serde(default)]
    pub reason: String,
    /// What the explanation asks to be typed, for each invariant that the act overrides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acknowledge: Vec<String>,
}

/// A guarded act that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ActDone {
    /// Always *executed*.
    pub outcome: Outcome,
    /// What was done, in words.
    pub done: String,
    /// The epoch that it opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub epoch: Option<Epoch>,
    /// The event that records it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub event: Option<EventId>,
    /// How long no node took writes, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap_ms: Option<u64>,
}

impl ActDone {
    /// An act that was done, in words; what else is known of it is added.
    pub fn executed(done: impl Into<String>) -> Self {
        Self { outcome: Outcome::Executed, done: done.into(), epoch: None, event: None, gap_ms: None }
    }
}

/// A snapshot that was made on demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotDone {
    /// Always *executed*.
    pub outcome: Outcome,
    /// The event it reflects.
    #[schema(value_type = u64)]
    pub event: EventId,
}
