//! The decision state: the least that commands are decided against and plans are made from.
//!
//! It is a fold over all events and total: [`State::apply`] cannot fail, because what could not be
//! applied is never written. The maps are persistent trees with shared nodes, so a clone costs
//! nothing and can be kept, read or written out elsewhere while the writer goes on.
//!
//! Invariants, decided before an event is written:
//! - `memory_is_never_oversubscribed`: a node's `used` is the sum of the caps placed on it and
//!   never above its capacity. Asserted where it is changed, in production too: a log that breaks it
//!   was not written by this code, and going on would hand out memory that is not there.
//! - a name, a host, a port and a request id are each held by one owner at most.
//! - a generation counts the event that last changed the plan, so it never falls: see [`Line`].

mod apply;
mod backup;
mod config;
mod deletion;
mod deploy;
mod instance;
mod line;
mod member;
mod node;
mod person;
mod release;
mod request;
mod route;

pub use backup::{BackupDrilled, BackupFailed, BackupMade, Backups};
pub use config::{Approval, Change, Config, Entry, Held, Layer, Namespace, Policy, Proposed, Schedule};
pub use deploy::{Deploy, DeployState, Environment};
pub use instance::{Instance, InstanceState};
pub use line::{Apart, Line, Standing, Taken};
pub use member::MemberState;
pub use node::{Node, NodeState};
pub use person::{Holder, Identity, Link, Person, Scope};
pub use release::{Release, ReleaseState};
pub use request::{Decided, Requests};
pub use route::{Route, RouteState};

use crate::event::{Role, Subject};
use imbl::{OrdMap, OrdSet};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use types::{
    AppId, DeployId, EnvId, EventId, Generation, InstanceId, Name, NodeId, OrgId, PersonId, ReleaseId,
    RouteId, Timestamp, TokenId, plan::RouteMatch,
};

/// An organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Org {
    /// Its name.
    pub name: Name,
    /// Events so far.
    pub sequence: u64,
}

/// An app.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct App {
    /// Whose it is.
    pub org: OrgId,
    /// Its name, one of a kind in the org.
    pub name: Name,
    /// Events so far.
    pub sequence: u64,
}

/// A bearer token: what it may do, and how it is recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The only org it sees; none for join tokens and nodes.
    pub org: Option<OrgId>,
    /// What people call it.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// The node whose credential it is.
    pub node: Option<NodeId>,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
    /// Whose it is, if that was said.
    pub holder: Option<Holder>,
    /// It was revoked, or used up.
    pub dead: bool,
    /// Events so far.
    pub sequence: u64,
}

impl Token {
    /// Whether it opens anything at `now`.
    pub fn lives(&self, now: Timestamp) -> bool {
        !self.dead && self.expires.is_none_or(|end| now < end)
    }
}

/// Everything decisions are made against. Fields are read freely; only [`State::apply`] writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each field is a map named after its aggregate")]
pub struct State {
    /// The last event applied.
    pub head: EventId,
    /// When it was written: the newest time this log has seen.
    pub at: Timestamp,
    /// The name that its first event gives it; empty before. A log that was restored or recovered has
    /// another identity since, which only the log itself knows.
    pub cluster: String,
    pub cluster_sequence: u64,
    pub orgs: OrdMap<OrgId, Org>,
    pub org_names: OrdMap<Name, OrgId>,
    pub apps: OrdMap<AppId, App>,
    pub app_names: OrdMap<(OrgId, Name), AppId>,
    pub envs: OrdMap<EnvId, Arc<Environment>>,
    pub env_names: OrdMap<(AppId, Name), EnvId>,
    pub releases: OrdMap<ReleaseId, Arc<Release>>,
    pub deploys: OrdMap<DeployId, Arc<Deploy>>,
    pub instances: OrdMap<InstanceId, Arc<Instance>>,
    pub env_instances: OrdSet<(EnvId, InstanceId)>,
    pub node_instances: OrdSet<(NodeId, InstanceId)>,
    pub routes: OrdMap<RouteId, Route>,
    pub route_keys: OrdMap<RouteMatch, RouteId>,
    pub env_routes: OrdSet<(EnvId, RouteId)>,
    pub nodes: OrdMap<NodeId, Arc<Node>>,
    pub node_names: OrdMap<Name, NodeId>,
    /// Every member there ever was.
    pub members: OrdMap<NodeId, MemberState>,
    pub tokens: OrdMap<TokenId, Token>,
    pub token_hashes: OrdMap<[u8; 32], TokenId>,
    pub people: OrdMap<PersonId, Person>,
    /// Those that are there.
    pub person_names: OrdMap<Name, PersonId>,
    /// Those of them that may log in by way of a provider.
    pub identities: OrdMap<Identity, PersonId>,
    pub requests: Requests,
    pub backups: Backups,
    pub config: Config,
    /// The event that last changed what edges do.
    pub edge_generation: Generation,
    /// How its generations are counted, and what it has adopted.
    pub line: Line,
}

impl State {
    /// The place the next event of `subject` takes.
    pub fn next_sequence(&self, subject: Subject) -> u64 {
        let so_far = match subject {
            Subject::Cluster => Some(self.cluster_sequence),
            Subject::Org(id) => self.orgs.get(&id).map(|org| org.sequence),
            Subject::App(id) => self.apps.get(&id).map(|app| app.sequence),
            Subject::Environment(id) => self.envs.get(&id).map(|env| env.sequence),
            Subject::Release(id) => self.releases.get(&id).map(|release| release.sequence),
            Subject::Deploy(id) => self.deploys.get(&id).map(|deploy| deploy.sequence),
            Subject::Instance(id) => self.instances.get(&id).map(|instance| instance.sequence),
            Subject::Route(id) => self.routes.get(&id).map(|route| route.sequence),
            Subject::Node(id) => self.nodes.get(&id).map(|node| node.sequence),
            Subject::Member(id) => self.members.get(&id).map(|member| member.sequence),
            Subject::Token(id) => self.tokens.get(&id).map(|token| token.sequence),
            Subject::Person(id) => self.people.get(&id).map(|person| person.sequence),
            Subject::Namespace(id) => self.config.namespaces.get(&id).map(|found| found.sequence),
            Subject::Change(id) => self.config.changes.get(&id).map(|change| change.sequence),
            Subject::Request(_) => None,
        };
        so_far.unwrap_or(0) + 1
    }

    /// The instances of an environment, in order of id.
    pub fn instances_of(&self, env: EnvId) -> impl Iterator<Item = (InstanceId, &Arc<Instance>)> {
        let range = (env, InstanceId::from_u128(0))..=(env, InstanceId::from_u128(u128::MAX));
        self.env_instances.range(range).filter_map(|(_, id)| Some((*id, self.instances.get(id)?)))
    }

    /// The instances placed on a node, in order of id.
    pub fn instances_on(&self, node: NodeId) -> impl Iterator<Item = (InstanceId, &Arc<Instance>)> {
        let range = (node, InstanceId::from_u128(0))..=(node, InstanceId::from_u128(u128::MAX));
        self.node_instances.range(range).filter_map(|(_, id)| Some((*id, self.instances.get(id)?)))
    }

    /// The routes of an environment, in order of id.
    pub fn routes_of(&self, env: EnvId) -> impl Iterator<Item = (RouteId, &Route)> {
        let range = (env, RouteId::from_u128(0))..=(env, RouteId::from_u128(u128::MAX));
        self.env_routes.range(range).filter_map(|(_, id)| Some((*id, self.routes.get(id)?)))
    }

    /// The org that an environment belongs to.
    pub fn org_of(&self, env: EnvId) -> Option<OrgId> {
        self.apps.get(&self.envs.get(&env)?.app).map(|app| app.org)
    }

    /// Whether an environment was deleted and is here only until its last instance is gone: another may
    /// have its name.
    pub fn is_deleted(&self, id: EnvId) -> bool {
        let Some(env) = self.envs.get(&id) else { return true };
        self.env_names.get(&(env.app, env.name.clone())) != Some(&id)
    }

    /// Whether an environment runs nothing, routes nothing, and is about to do neither.
    pub fn is_idle(&self, id: EnvId) -> bool {
        let rests = |env: &Arc<Environment>| env.serving.is_none() && env.rolling.is_none();
        self.envs.get(&id).is_none_or(rests)
            && self.routes_of(id).next().is_none()
            && !self.instances_of(id).any(|(_, instance)| instance.holds_memory())
    }

    /// Whether an instance has to go whatever is wanted: its environment is deleted, or its node
    /// disabled.
    pub fn is_evicted(&self, instance: &Instance) -> bool {
        let disabled = |node: &Arc<Node>| node.state == NodeState::Disabled;
        self.is_deleted(instance.env) || self.nodes.get(&instance.node).is_some_and(disabled)
    }

    /// `app/env`, for people.
    pub fn env_label(&self, id: EnvId) -> String {
        let label = || {
            let env = self.envs.get(&id)?;
            Some(format!("{}/{}", self.apps.get(&env.app)?.name, env.name))
        };
        label().unwrap_or_else(|| id.to_string())
    }

    /// Whether a route leads to this process, so that its instances matter to edges.
    pub fn is_routed(&self, env: EnvId, process: &Name) -> bool {
        self.routes_of(env).any(|(_, route)| route.process == *process)
    }
}
