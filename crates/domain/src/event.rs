//! Events: what happened, in the past tense, for ever.
//!
//! The shape of a variant never changes once it has been written by a release: a new need is a new
//! variant at the END of the enum (its place is its number in the stored form), with the old one
//! still applied as before.

use crate::{
    backup::BackupNote,
    config::ConfigEvent,
    confirmed::Confirmed,
    state::{Holder, Identity, Taken},
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, net::Ipv6Addr};
use types::{
    AppId, ChangeId, DeployId, EnvId, Epoch, EventId, InstanceId, Name, NamespaceId, NodeId, OrgId, PersonId,
    ReleaseId, RequestId, RouteId, Timestamp, TokenId,
    manifest::{Manifest, ProxyProtocol},
    plan::{Capacity, Change, NodeRole, PinnedImage, Reason, RouteMatch},
};

/// An event and what is known about it. `id` and `epoch` come from the log, the rest is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Its place in the one order.
    pub id: EventId,
    /// The authority that wrote it.
    pub epoch: Epoch,
    /// When, by the sequencer's clock.
    pub at: Timestamp,
    /// Who caused it.
    pub actor: Actor,
    /// The request it belongs to, if somebody asked from outside.
    pub request: Option<RequestId>,
    /// The event that made a reconciler act, if one did.
    pub cause: Option<EventId>,
    /// Its place among the events of its subject: 1, 2, 3, …
    pub sequence: u64,
    /// What happened.
    pub event: Event,
}

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Actor {
    /// The platform itself: a reconciler, or the first start.
    System,
    /// Whoever holds this token.
    Token(TokenId),
    /// A node, by its own credential.
    Node(NodeId),
    /// Somebody who has logged in.
    Person(PersonId),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::Token(id) => id.fmt(f),
            Self::Node(id) => id.fmt(f),
            Self::Person(id) => id.fmt(f),
        }
    }
}

/// What a token may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything in its org, and the server.
    Owner,
    /// Reads in its org.
    Viewer,
    /// Enrols one node, once; admits no member.
    Join,
    /// The credential of a node.
    Node,
    /// Admits one member of the cluster, once.
    MemberJoin,
    /// Everything in its org but the owners, and the nodes.
    Admin,
    /// Apps, nodes and guarded acts.
    Operator,
    /// Apps.
    Developer,
    /// Reads what is done and by whom.
    Auditor,
}

/// The aggregate an event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant is named after its aggregate")]
pub enum Subject {
    Cluster,
    Org(OrgId),
    App(AppId),
    Environment(EnvId),
    Release(ReleaseId),
    Deploy(DeployId),
    Instance(InstanceId),
    Route(RouteId),
    Node(NodeId),
    Token(TokenId),
    Request(RequestId),
    Member(NodeId),
    Person(PersonId),
    Namespace(NamespaceId),
    Change(ChangeId),
}

/// Why a deploy was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeployKind {
    /// A manifest was applied.
    Apply,
    /// Back to an earlier release.
    Rollback,
    /// The same release again, with fresh instances.
    Restart,
}

/// Why a deploy failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeployFailure {
    /// Its instances failed as often as they may.
    Attempts {
        /// What the last of them failed with.
        reason: Reason,
        /// More for people.
        detail: String,
    },
    /// It was not done in time.
    Deadline {
        /// What it was still waiting for.
        waiting: String,
    },
    /// Another deploy of the environment took its place.
    Superseded {
        /// By which.
        by: DeployId,
    },
    /// Its environment was deleted.
    Deleted,
}

/// How well a node is known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeHealth {
    /// Its lease is current.
    Reachable,
    /// Its lease ran out a while ago.
    Offline,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It was done; the events before this one with the same request are what it did.
    Executed(Done),
    /// A rule said no.
    Refused {
        /// The problem code, as on the wire.
        code: String,
        /// The answer, word for word.
        text: String,
    },
    /// It may never run.
    Voided,
}

/// What an executed request made, so that a copy of it gets the same answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What was done, in a few words.
    pub summary: String,
    /// The app it concerned.
    pub app: Option<AppId>,
    /// The environment it concerned.
    pub env: Option<EnvId>,
    /// The release it made or chose.
    pub release: Option<ReleaseId>,
    /// The deploy it started.
    pub deploy: Option<DeployId>,
    /// The token it made or revoked.
    pub token: Option<TokenId>,
    /// The node it enrolled or changed.
    pub node: Option<NodeId>,
}

/// Everything that can happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "fields repeat the vocabulary of their types; variants say what happened")]
pub enum Event {
    /// The log got its first event; `cluster` tells this log from all others.
    ClusterCreated {
        cluster: String,
    },
    OrgCreated {
        org: OrgId,
        name: Name,
    },
    AppCreated {
        app: AppId,
        org: OrgId,
        name: Name,
    },
    EnvironmentCreated {
        env: EnvId,
        app: AppId,
        name: Name,
    },
    /// A canonical manifest with its image pinned. `content` is the SHA-256 of both.
    ReleaseCreated {
        release: ReleaseId,
        env: EnvId,
        number: u32,
        manifest: Box<Manifest>,
        image: PinnedImage,
        content: [u8; 32],
    },
    ReleaseAvailable {
        release: ReleaseId,
    },
    ReleasePromoted {
        release: ReleaseId,
    },
    ReleaseSuperseded {
        release: ReleaseId,
    },
    ReleaseRolledBack {
        release: ReleaseId,
    },
    DeployStarted {
        deploy: DeployId,
        env: EnvId,
        release: ReleaseId,
        kind: DeployKind,
        deadline: Timestamp,
        attempts: u32,
    },
    DeployRolling {
        deploy: DeployId,
    },
    DeployCutOver {
        deploy: DeployId,
    },
    DeploySucceeded {
        deploy: DeployId,
    },
    DeployFailed {
        deploy: DeployId,
        failure: DeployFailure,
    },
    ScaleSet {
        env: EnvId,
        process: Name,
        replicas: u32,
    },
    InstanceAllocated {
        instance: InstanceId,
        env: EnvId,
        process: Name,
        release: ReleaseId,
        deploy: DeployId,
        node: NodeId,
        address: Ipv6Addr,
    },
    /// An agent saw a change. `report` is the agent's own count for the instance.
    InstanceChanged {
        instance: InstanceId,
        report: u64,
        seen: Timestamp,
        change: Change,
    },
    /// No new connection is to reach it.
    InstanceDraining {
        instance: InstanceId,
    },
    /// No edge sends to it any more, or the wait for that is over: it may be stopped.
    InstanceReleased {
        instance: InstanceId,
        forced: bool,
    },
    /// Its node was lost; it is replaced and, should the node return, stopped there.
    InstanceLost {
        instance: InstanceId,
    },
    RouteRequested {
        route: RouteId,
        env: EnvId,
        matches: RouteMatch,
        process: Name,
        port: Name,
        proxy_protocol: ProxyProtocol,
    },
    RouteValidated {
        route: RouteId,
    },
    RouteActivated {
        route: RouteId,
    },
    RouteUpdating {
        route: RouteId,
        process: Name,
        port: Name,
        proxy_protocol: ProxyProtocol,
    },
    RouteRemoved {
        route: RouteId,
    },
    NodeEnrolled {
        node: NodeId,
        name: Name,
        roles: BTreeSet<NodeRole>,
        capacity: Capacity,
        prefix: Ipv6Addr,
        join: TokenId,
    },
    NodeActivated {
        node: NodeId,
    },
    NodeDraining {
        node: NodeId,
    },
    NodeHealthChanged {
        node: NodeId,
        health: NodeHealth,
    },
    /// `hash` is the SHA-256 of the secret; the secret itself is nowhere.
    TokenCreated {
        token: TokenId,
        org: Option<OrgId>,
        name: Name,
        role: Role,
        node: Option<NodeId>,
        hash: [u8; 32],
        expires: Option<Timestamp>,
    },
    TokenRevoked {
        token: TokenId,
    },
    /// `body` is the SHA-256 of what was asked, so that a reused id with another body is noticed.
    RequestDecided {
        request: RequestId,
        principal: Actor,
        body: [u8; 32],
        verdict: Verdict,
    },
    /// Requests born before `to` are refused from now on, and their verdicts may be forgotten.
    HorizonMoved {
        to: Timestamp,
    },
    /// A node got a copy of the log. `join` is the token it came with; the first member has none.
    MemberAdmitted {
        node: NodeId,
        name: Name,
        peer: String,
        api: String,
        votes: bool,
        join: Option<TokenId>,
    },
    /// It is no member any more and never will be again under this id.
    MemberRemoved {
        node: NodeId,
        confirmed: Confirmed,
    },
    /// A guarded act was confirmed that leaves nothing else in the log.
    ActConfirmed {
        act: String,
        target: String,
        confirmed: Confirmed,
    },
    /// Something came of the backups that the server makes by itself.
    BackupNoted {
        note: BackupNote,
    },
    /// What nodes held of other histories was taken over by the log of this identity: since this event
    /// its plans follow theirs. `absent` were ready by this log and did not run.
    ClusterAdopted {
        cluster: String,
        taken: Vec<Taken>,
        absent: Vec<InstanceId>,
        confirmed: Confirmed,
    },
    /// Somebody may log in. `hash` is Argon2id over the password; the password itself is nowhere.
    PersonAdded {
        person: PersonId,
        org: OrgId,
        name: Name,
        role: Role,
        hash: String,
    },
    PersonRoleChanged {
        person: PersonId,
        role: Role,
    },
    PersonPasswordChanged {
        person: PersonId,
        hash: String,
    },
    /// Its tokens end with it.
    PersonRemoved {
        person: PersonId,
    },
    /// A token that belongs to a person, or to a program with scopes.
    TokenIssued {
        token: TokenId,
        org: OrgId,
        name: Name,
        role: Role,
        holder: Holder,
        hash: [u8; 32],
        expires: Option<Timestamp>,
    },
    /// Its name is free; what it still runs is drained and stopped. Unconfirmed only if it was empty.
    EnvironmentDeleted {
        env: EnvId,
        org: OrgId,
        confirmed: Option<Confirmed>,
    },
    /// Its name is free; its environments were deleted just before. Unconfirmed only if it was empty.
    AppDeleted {
        app: AppId,
        org: OrgId,
        confirmed: Option<Confirmed>,
    },
    /// It takes nothing, routes nothing, and stops what it has.
    NodeDisabled {
        node: NodeId,
        confirmed: Confirmed,
    },
    /// Its credential opens nothing any more, and what it had is forgotten.
    NodeRemoved {
        node: NodeId,
        confirmed: Confirmed,
    },
    /// Something happened to configuration.
    Config(ConfigEvent),
    /// It may log in as this identity from now on, and as no other: whatever was linked before is not.
    PersonLinked {
        person: PersonId,
        identity: Identity,
    },
    PersonUnlinked {
        person: PersonId,
    },
}

impl Event {
    /// The version of this variant's shape; goes up when a new variant replaces an old one.
    pub const fn version(&self) -> u32 {
        1
    }

    /// The stable name people and scripts see: `deploy.started`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ClusterCreated { .. } => "cluster.created",
            Self::OrgCreated { .. } => "org.created",
            Self::AppCreated { .. } => "app.created",
            Self::EnvironmentCreated { .. } => "environment.created",
            Self::ReleaseCreated { .. } => "release.created",
            Self::ReleaseAvailable { .. } => "release.available",
            Self::ReleasePromoted { .. } => "release.promoted",
            Self::ReleaseSuperseded { .. } => "release.superseded",
            Self::ReleaseRolledBack { .. } => "release.rolled_back",
            Self::DeployStarted { .. } => "deploy.started",
            Self::DeployRolling { .. } => "deploy.rolling",
            Self::DeployCutOver { .. } => "deploy.cut_over",
            Self::DeploySucceeded { .. } => "deploy.succeeded",
            Self::DeployFailed { .. } => "deploy.failed",
            Self::ScaleSet { .. } => "scale.set",
            Self::InstanceAllocated { .. } => "instance.allocated",
            Self::InstanceChanged { change, .. } => match change {
                Change::Preparing => "instance.preparing",
                Change::Waiting { .. } => "instance.waiting",
                Change::Booting => "instance.booting",
                Change::Ready => "instance.ready",
                Change::Unready { .. } => "instance.unready",
                Change::Crashed { .. } => "instance.crashed",
                Change::Failed { .. } => "instance.failed",
                Change::Stopped => "instance.stopped",
                Change::Collected => "instance.collected",
            },
            Self::InstanceDraining { .. } => "instance.draining",
            Self::InstanceReleased { .. } => "instance.released",
            Self::InstanceLost { .. } => "instance.lost",
            Self::RouteRequested { .. } => "route.requested",
            Self::RouteValidated { .. } => "route.validated",
            Self::RouteActivated { .. } => "route.activated",
            Self::RouteUpdating { .. } => "route.updating",
            Self::RouteRemoved { .. } => "route.removed",
            Self::NodeEnrolled { .. } => "node.enrolled",
            Self::NodeActivated { .. } => "node.activated",
            Self::NodeDraining { .. } => "node.draining",
            Self::NodeHealthChanged { .. } => "node.health_changed",
            Self::TokenCreated { .. } => "token.created",
            Self::TokenRevoked { .. } => "token.revoked",
            Self::RequestDecided { .. } => "request.decided",
            Self::HorizonMoved { .. } => "horizon.moved",
            Self::MemberAdmitted { .. } => "member.admitted",
            Self::MemberRemoved { .. } => "member.removed",
            Self::ActConfirmed { .. } => "act.confirmed",
            Self::BackupNoted { note } => match note {
                BackupNote::Made { .. } => "backup.made",
                BackupNote::Drilled { .. } => "backup.drilled",
                BackupNote::Failed { .. } => "backup.failed",
                BackupNote::Recovered { .. } => "backup.recovered",
            },
            Self::ClusterAdopted { .. } => "cluster.adopted",
            Self::PersonAdded { .. } => "person.added",
            Self::PersonRoleChanged { .. } => "person.role_changed",
            Self::PersonPasswordChanged { .. } => "person.password_changed",
            Self::PersonRemoved { .. } => "person.removed",
            Self::TokenIssued { .. } => "token.issued",
            Self::EnvironmentDeleted { .. } => "environment.deleted",
            Self::AppDeleted { .. } => "app.deleted",
            Self::NodeDisabled { .. } => "node.disabled",
            Self::NodeRemoved { .. } => "node.removed",
            Self::Config(event) => event.kind(),
            Self::PersonLinked { .. } => "person.linked",
            Self::PersonUnlinked { .. } => "person.unlinked",
        }
    }

    /// The aggregate it belongs to.
    pub const fn subject(&self) -> Subject {
        match self {
            Self::ClusterCreated { .. }
            | Self::HorizonMoved { .. }
            | Self::ActConfirmed { .. }
            | Self::BackupNoted { .. }
            | Self::ClusterAdopted { .. } => Subject::Cluster,
            Self::MemberAdmitted { node, .. } | Self::MemberRemoved { node, .. } => Subject::Member(*node),
            Self::OrgCreated { org, .. } => Subject::Org(*org),
            Self::AppCreated { app, .. } | Self::AppDeleted { app, .. } => Subject::App(*app),
            Self::EnvironmentCreated { env, .. }
            | Self::EnvironmentDeleted { env, .. }
            | Self::ScaleSet { env, .. } => Subject::Environment(*env),
            Self::ReleaseCreated { release, .. }
            | Self::ReleaseAvailable { release }
            | Self::ReleasePromoted { release }
            | Self::ReleaseSuperseded { release }
            | Self::ReleaseRolledBack { release } => Subject::Release(*release),
            Self::DeployStarted { deploy, .. }
            | Self::DeployRolling { deploy }
            | Self::DeployCutOver { deploy }
            | Self::DeploySucceeded { deploy }
            | Self::DeployFailed { deploy, .. } => Subject::Deploy(*deploy),
            Self::InstanceAllocated { instance, .. }
            | Self::InstanceChanged { instance, .. }
            | Self::InstanceDraining { instance }
            | Self::InstanceReleased { instance, .. }
            | Self::InstanceLost { instance } => Subject::Instance(*instance),
            Self::RouteRequested { route, .. }
            | Self::RouteValidated { route }
            | Self::RouteActivated { route }
            | Self::RouteUpdating { route, .. }
            | Self::RouteRemoved { route } => Subject::Route(*route),
            Self::NodeEnrolled { node, .. }
            | Self::NodeActivated { node }
            | Self::NodeDraining { node }
            | Self::NodeHealthChanged { node, .. }
            | Self::NodeDisabled { node, .. }
            | Self::NodeRemoved { node, .. } => Subject::Node(*node),
            Self::TokenCreated { token, .. }
            | Self::TokenRevoked { token }
            | Self::TokenIssued { token, .. } => Subject::Token(*token),
            Self::PersonAdded { person, .. }
            | Self::PersonRoleChanged { person, .. }
            | Self::PersonPasswordChanged { person, .. }
            | Self::PersonLinked { person, .. }
            | Self::PersonUnlinked { person }
            | Self::PersonRemoved { person } => Subject::Person(*person),
            Self::RequestDecided { request, .. } => Subject::Request(*request),
            Self::Config(event) => event.subject(),
        }
    }
}
