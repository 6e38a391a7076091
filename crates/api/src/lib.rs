//! The wire contract: requests, answers, plans, problem codes, routes, and typed clients.
//!
//! Both sides of every HTTP exchange are written against this crate, so that a shape can only
//! change in one place. It knows the vocabulary of `types` and nothing of how a server decides.
//!
//! - [`routes`]: every path and method, as the server mounts them and the clients call them.
//! - [`Problem`] and [`Code`]: every way in which a call can fail, closed set.
//! - [`Client`]: for people and programs, with a bearer token. It never sends anything twice.
//! - [`Sending`]: a write that is sent once, and asked for when its answer was lost.
//! - [`NodeClient`]: for agents and edges, with a node's credential.

mod apply;
mod audit;
mod backup;
mod client;
mod client_audit;
mod client_calls;
mod client_guarded;
mod client_people;
mod cluster;
mod event;
mod guard;
mod node;
mod node_client;
mod operate;
mod outcome;
mod people;
mod place;
mod problem;
pub mod routes;
mod rows;
pub mod shell;
mod sse;

pub use apply::{
    ApplyRequest, DeployRequest, Difference, EventSummary, PlanAnswer, Receipt, RestartRequest, ResultBody,
    RollbackRequest, ScaleRequest,
};
pub use audit::{
    AuditConfirmation, AuditJournal, AuditMore, AuditNews, AuditPage, AuditQuery, AuditRequest, AuditRow,
    AuditType, AuditVerified, UnknownAuditType,
};
pub use backup::{ArchiveRow, BackupAsked, BackupFailure, BackupRow, BackupStatus};
pub use client::{Client, ClientError};
pub use client_people::Session;
pub use cluster::{
    ActDone, ApartRow, ClusterActRequest, ClusterStatus, Failover, MemberJoinRequest, MemberJoinSecret,
    MemberRow, PeerRefused, SnapshotDone,
};
pub use event::{EventPage, EventRow, EventsQuery, Subject};
pub use guard::{ActRequest, ConfirmedBy, Explained, Override, Proof, UnknownConfirmedBy};
pub use node::{
    EnrolRequest, Enrolled, JoinTokenRequest, LeaseAnswer, LogsAsk, NodeMessage, NodeStreamQuery,
    ReportAnswer, ReportRequest,
};
pub use node_client::NodeClient;
pub use operate::{
    Live, Ready, RebuildAnswer, RequestState, RequestVerdict, TokenRequest, TokenRole, TokenRow, Version,
    ViewRow, Whoami,
};
pub use outcome::{Came, Sending};
pub use people::{
    LoginAnswer, LoginRequest, OwnTokenRequest, Password, PasswordChange, PersonChange, PersonIdentity,
    PersonRequest, PersonRow,
};
pub use place::{Fingerprint, Place};
pub use problem::{Code, Outcome, Problem};
pub use rows::{
    AppRow, BackendRow, DeployRow, DeployState, EnvRow, EnvStatus, Explanation, ExplanationLine, InstanceRow,
    LogsQuery, NodeRow, Page, PageQuery, PlanQuery, ProcessStatus, ReleaseRow, RouteRow,
};
pub use sse::{SseError, SseMessage, SseParser};
