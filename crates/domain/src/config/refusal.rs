//! Why configuration is refused.

use super::{schema::NotASchema, value::Unfit};
use types::{ConfigKey, NamespacePath};

/// A key that is not in the version that it was looked at in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Which key.
    pub key: ConfigKey,
    /// The version that was wanted; zero for none.
    pub wanted: u32,
    /// The version that is there; zero for none.
    pub found: u32,
}

fn listed(mismatches: &[Mismatch]) -> String {
    let version = |number: u32| if number == 0 { "absent".to_owned() } else { format!("version {number}") };
    let one =
        |each: &Mismatch| format!("{} is {}, not {}", each.key, version(each.found), version(each.wanted));
    mismatches.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Why the domain says no to something about configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each variant says what its fields are")]
pub enum ConfigRefusal {
    #[error("{0} exists already")]
    PathTaken(NamespacePath),
    #[error("{path} has no parent: create {front} first")]
    NoParent { path: NamespacePath, front: NamespacePath },
    #[error("inheriting would go in a circle: {0}")]
    Cycle(String),
    #[error("{path} is inherited by {heirs}: delete those first, or let them inherit from another")]
    Inherited { path: NamespacePath, heirs: String },
    #[error("the value of {key} cannot be taken: {why}")]
    Unfit { key: ConfigKey, why: Unfit },
    #[error("{}", listed(.0))]
    Versions(Vec<Mismatch>),
    #[error("{path} takes no direct writes: draft a change and have it reviewed")]
    ReviewOnly { path: NamespacePath },
    #[error("the schema of {path} forbids it: {violations}")]
    Violates { path: NamespacePath, violations: String },
    #[error("the schema would break what is there: {violations}")]
    Breaks { violations: String },
    #[error("it is not a schema that can be used: {0}")]
    NotASchema(#[from] NotASchema),
    #[error("what was looked at is revision {seen}, and the change is at revision {now}")]
    OtherRevision { seen: u32, now: u32 },
    #[error("what was looked at is not the content of revision {revision}")]
    OtherContent { revision: u32 },
    #[error("what it was based on has moved: {}; rebase it, look at the difference and submit it again", listed(.0))]
    BaseMoved(Vec<Mismatch>),
    #[error("four eyes are asked for in {path}: whoever wrote a change does not approve it")]
    OwnChange { path: NamespacePath },
    #[error("four eyes are asked for in {path}: only a member approves, and this token belongs to none")]
    NoMember { path: NamespacePath },
    #[error("only reviewers of {path} may {what}: {reviewers}")]
    NotAReviewer { path: NamespacePath, what: &'static str, reviewers: String },
    #[error("only who wrote the change or a reviewer of {path} may withdraw it")]
    NotTheAuthor { path: NamespacePath },
    #[error("it needs {needed} approvals as it stands and has {has}")]
    TooFewApprovals { needed: u8, has: u8 },
}

impl ConfigRefusal {
    /// The problem code on the wire.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::PathTaken(_) => "name_taken",
            Self::NoParent { .. } => "not_found",
            Self::Cycle(_) => "inheritance_cycle",
            Self::Inherited { .. } => "conflict",
            Self::Unfit { .. } => "invalid_value",
            Self::Versions(_) => "version_conflict",
            Self::ReviewOnly { .. } => "review_required",
            Self::Violates { .. } | Self::Breaks { .. } => "schema_violated",
            Self::NotASchema(_) => "invalid_schema",
            Self::OtherRevision { .. } | Self::OtherContent { .. } | Self::BaseMoved(_) => "base_moved",
            Self::OwnChange { .. } | Self::NoMember { .. } => "four_eyes",
            Self::NotAReviewer { .. } | Self::NotTheAuthor { .. } => "not_a_reviewer",
            Self::TooFewApprovals { .. } => "approvals_missing",
        }
    }
}
