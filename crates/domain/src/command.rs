//! Commands: what somebody wants, in the imperative, and the context it is decided in.

use crate::{
    backup::BackupNote,
    config::ConfigCommand,
    confirmed::Confirmed,
    content::Content,
    event::{Actor, DeployFailure, NodeHealth, Role},
    state::{Holder, Identity, Taken},
};
use std::collections::BTreeSet;
use types::{
    AppId, DeployId, EnvId, EventId, InstanceId, Name, NodeId, OrgId, PersonId, ReleaseId, RequestId,
    RouteId, Timestamp, TokenId,
    manifest::Manifest,
    plan::{Capacity, NodeRole, PinnedImage, Transition},
};

/// A token to be made. The caller keeps the secret; the log gets its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewToken {
    /// What people call it.
    pub name: Name,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
}

/// A member to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMember {
    /// What people call it.
    pub name: Name,
    /// Where other members reach it: `host:port`.
    pub peer: String,
    /// The URL where people reach its API; empty if they cannot.
    pub api: String,
    /// Whether it is to decide with the others, or only to read along.
    pub votes: bool,
}

/// Everything that can be wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "fields repeat the vocabulary of their types")]
pub enum Command {
    /// The first command of a log: names it, makes the first org and its owner token.
    Bootstrap {
        cluster: String,
        org: Name,
        owner: NewToken,
    },
    /// Bring an environment to a manifest; makes app and environment when they are new.
    Apply {
        org: OrgId,
        env: Name,
        manifest: Box<Manifest>,
        image: PinnedImage,
    },
    /// Another number of instances of one process.
    Scale {
        env: EnvId,
        process: Name,
        replicas: u32,
    },
    /// Fresh instances of the release that serves.
    Restart {
        env: EnvId,
    },
    /// Back to a release: the named one; else what serves, if something newer is under way or has
    /// failed; else the one promoted before what serves.
    Rollback {
        env: EnvId,
        release: Option<ReleaseId>,
    },
    CreateToken {
        org: OrgId,
        role: Role,
        token: NewToken,
    },
    RevokeToken {
        token: TokenId,
    },
    /// A token of a person, or of a program with scopes.
    IssueToken {
        org: OrgId,
        role: Role,
        holder: Holder,
        token: NewToken,
    },
    /// Somebody may log in. `hash` is Argon2id over the password.
    AddPerson {
        org: OrgId,
        name: Name,
        role: Role,
        hash: String,
    },
    SetPerson {
        person: PersonId,
        role: Option<Role>,
        hash: Option<String>,
    },
    RemovePerson {
        person: PersonId,
    },
    /// It may log in as this identity, and as no other.
    LinkPerson {
        person: PersonId,
        identity: Identity,
    },
    UnlinkPerson {
        person: PersonId,
    },
    /// A token that enrols one node.
    CreateJoin {
        token: NewToken,
    },
    /// A node presents a join token (already authenticated as `join`) and gets its credential.
    EnrolNode {
        join: TokenId,
        name: Name,
        roles: BTreeSet<NodeRole>,
        capacity: Capacity,
        credential: [u8; 32],
    },
    /// A secret that admits one member of the cluster.
    CreateMemberJoin {
        token: NewToken,
    },
    /// The member that began the cluster; by the platform itself, while there is none.
    FoundMember {
        node: NodeId,
        member: NewMember,
    },
    /// A machine presents a member's join secret, of which this is the hash, and gets its id.
    AdmitMember {
        secret: [u8; 32],
        member: NewMember,
    },
    RemoveMember {
        node: NodeId,
        confirmed: Confirmed,
    },
    /// A guarded act leaves its record, and nothing else in the log.
    ConfirmAct {
        act: String,
        target: String,
        confirmed: Confirmed,
    },
    /// What nodes hold of other histories is taken over by the log of this identity, confirmed. `absent`
    /// are instances that are ready by this log and that do not run.
    Adopt {
        cluster: String,
        taken: Vec<Taken>,
        absent: Vec<InstanceId>,
        confirmed: Confirmed,
    },
    /// The environment and all it has, as it was shown. With content it wants a confirmation.
    DeleteEnvironment {
        env: EnvId,
        shown: Content,
        confirmed: Option<Confirmed>,
    },
    /// The app with its environments, as they were shown. With content it wants a confirmation.
    DeleteApp {
        app: AppId,
        shown: Content,
        confirmed: Option<Confirmed>,
    },
    /// The node takes nothing, routes nothing, and stops what it has, as it was shown.
    DisableNode {
        node: NodeId,
        shown: Content,
        confirmed: Confirmed,
    },
    /// A disabled node is none any more.
    RemoveNode {
        node: NodeId,
        shown: Content,
        confirmed: Confirmed,
    },
    DrainNode {
        node: NodeId,
    },
    ActivateNode {
        node: NodeId,
    },
    /// `request` may never run.
    VoidRequest {
        request: RequestId,
    },
    /// Something about configuration.
    Config(ConfigCommand),

    // From agents.
    Report {
        node: NodeId,
        transitions: Vec<Transition>,
    },

    // From reconcilers. Each is checked again against the state it meets.
    AllocateInstance {
        env: EnvId,
        process: Name,
        deploy: DeployId,
        node: NodeId,
    },
    DrainInstance {
        instance: InstanceId,
    },
    ReleaseInstance {
        instance: InstanceId,
        forced: bool,
    },
    LoseInstance {
        instance: InstanceId,
    },
    StartRolling {
        deploy: DeployId,
    },
    CutOver {
        deploy: DeployId,
    },
    SucceedDeploy {
        deploy: DeployId,
    },
    FailDeploy {
        deploy: DeployId,
        failure: DeployFailure,
    },
    ActivateRoute {
        route: RouteId,
    },
    SetNodeHealth {
        node: NodeId,
        health: NodeHealth,
    },
    MoveHorizon {
        to: Timestamp,
    },
    NoteBackup {
        note: BackupNote,
    },
}

/// What a decision may know besides the state: who, when, and dice already thrown.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The time of the decision.
    pub now: Timestamp,
    /// Who asks.
    pub actor: Actor,
    /// The event of the state by which the asker was let in; none if nobody had to be.
    pub judged: Option<EventId>,
    /// The request and the SHA-256 of its body, when it came from outside.
    pub request: Option<(RequestId, [u8; 32])>,
    /// The event a reconciler acts on.
    pub cause: Option<EventId>,
    /// Randomness for fresh ids.
    pub random: u128,
}

impl Context {
    /// Randomness for the `nth` fresh id of this decision. Weyl steps keep them apart.
    pub(crate) const fn dice(&self, nth: u64) -> u128 {
        self.random.wrapping_add((nth as u128).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835))
    }
}
