//! The words every other crate speaks: ids, counters, names, sizes, limits and the manifest.
//!
//! Nothing here decides anything or touches the world. A value that exists is valid: text from
//! outside becomes one of these types at the rim or is refused there with a [`ParseError`].

mod config;
mod counter;
pub mod history;
mod id;
pub mod limits;
pub mod manifest;
mod name;
pub mod plan;
mod size;
mod time;

pub use config::{ConfigKey, NamespacePath, ValueKind};
pub use counter::{Epoch, EventId, Generation, Index, Term};
pub use id::{
    AppId, ChangeId, Correlation, DeployId, EnvId, InstanceId, NamespaceId, NodeId, OrgId, PersonId,
    ReleaseId, RequestId, RouteId, TokenId,
};
pub use name::{Digest, HostName, Name, ParseError, SecretKey};
pub use size::{ByteSize, MilliCpu};
pub use time::{DurationMs, Timestamp};
