//! Becoming a member of a cluster that others founded.
//!
//! ```text
//!   invitation: a secret for one member, and the fingerprint of the cluster's authority
//!        │
//!        ▼  joining.toml (the request's id), member.toml
//!   ask any member ──► the leader writes member.admitted, issues a certificate
//!        │
//!        ▼  peer/, member.toml, and last log/format: from then on this directory is a member
//!   the server starts, and the leader adds it: reading first, voting when it has nearly everything
//! ```
//!
//! Cut short anywhere, the same command goes on: the request has one id, and whoever asks again with
//! it is told the same again.

use super::{Cluster, Mode, Settings, SettingsError};
use crate::{
    peer::{Authority, CaError, Identity, NotAdmitted, ask_to_join},
    secret::Secret,
    writer::Answer,
};
use domain::{Actor, Command, NewMember, Role};
use log::{
    cluster::TransportError,
    wal::{CreateError, OpenError, Wal},
};
use rt::{Boundary, Clock, Disk, DiskError, OsRandom, Random, RealDisk, SystemClock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};
use types::{NodeId, RequestId};

/// The version of what is said here.
const VERSION: u8 = 2;
/// The request that is under way.
const FILE: &str = "joining.toml";

/// What lets one machine become a member.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// The secret, for one member.
    pub secret: Secret,
    /// The fingerprint of the authority that whoever answers has to show.
    pub authority: [u8; 32],
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.secret.reveal())?;
        self.authority.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Invitation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "it is not what `holdfast cluster join-token` printed: SECRET.FINGERPRINT".to_owned();
        let (secret, hex) = text.trim().rsplit_once('.').ok_or_else(form)?;
        if secret.is_empty() || hex.len() != 64 || !hex.is_ascii() {
            return Err(form());
        }
        let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).map_err(|_| form());
        let bytes: Vec<u8> = (0..32).map(byte).collect::<Result<_, _>>()?;
        let authority = bytes.try_into().map_err(|_| form())?;
        Ok(Self { secret: Secret::from_text(secret), authority })
    }
}

/// What one that wants to join says of itself.
#[derive(Serialize, Deserialize)]
struct Join {
    version: u8,
    request: RequestId,
    secret: String,
    name: String,
    peer: String,
    api: String,
    votes: bool,
}

/// What it gets.
#[derive(Serialize, Deserialize)]
struct Admission {
    cluster: String,
    node: NodeId,
    failover: Mode,
    election_ms: [u64; 2],
    /// The authority's certificate and key: every member that votes can come to lead, and let others in. One
    /// that only reads gets neither.
    authority: Option<[String; 2]>,
    /// The authority's certificate, the member's, and its key.
    identity: [String; 3],
}

/// Why a directory has not become a member. Whatever it is, the same command may be run again.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is a log already.
    #[error(
        "{dir} holds the log of node {node} of cluster {cluster} already; a member of another cluster needs a directory of its own"
    )]
    Taken {
        /// The data directory.
        dir: PathBuf,
        /// Whose log it is.
        node: NodeId,
        /// Of which cluster.
        cluster: String,
    },
    /// Its settings make no sense or cannot be kept.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// What it was given cannot be kept or used.
    #[error(transparent)]
    Certificate(#[from] CaError),
    /// The disk refuses.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log that is there cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log cannot be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// Nobody let it in, and why.
    #[error("{0}")]
    Refused(String),
    /// The cluster was not reached: it has certainly not been made a member.
    #[error("{0}")]
    NoAnswer(String),
    /// It may have been made a member.
    #[error("{0}; whether it was made a member is not known here")]
    Unclear(String),
}

/// A directory that is a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The cluster.
    pub cluster: String,
    /// The member.
    pub node: NodeId,
    /// It had been one before.
    pub before: bool,
}

/// Makes the directory a member of the cluster whose member is reached at `address`.
///
/// # Errors
/// See [`JoinError`].
pub async fn join(
    data_dir: &Path,
    settings: Settings,
    votes: bool,
    address: &str,
    invitation: &Invitation,
) -> Result<Joined, JoinError> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let log = data_dir.join("log");
    if let Some((cluster, node)) = log::wal::owner(&*disk, &log)? {
        let joined = Settings::load(data_dir)?.is_some_and(|settings| settings.joined);
        let same = Identity::load(data_dir, &cluster, node)?
            .is_some_and(|identity| identity.fingerprint().is_ok_and(|print| print == invitation.authority));
        return match joined && same {
            true => Ok(Joined { cluster, node, before: true }),
            false => Err(JoinError::Taken { dir: data_dir.to_owned(), node, cluster }),
        };
    }
    let mut settings = Settings { joined: true, ..settings };
    settings.save(data_dir)?;
    let request = pending(data_dir, &settings, votes, invitation)?;
    let join = Join {
        version: VERSION,
        request,
        secret: invitation.secret.reveal().to_owned(),
        name: settings.name.clone(),
        peer: settings.peer.clone(),
        api: settings.api.clone(),
        votes,
    };
    let join = postcard::to_stdvec(&join).expect("it is plain data");
    let answer =
        ask_to_join(address, invitation.authority, join.into()).await.map_err(|error| match error {
            TransportError::Refused(why) => JoinError::Refused(why),
            TransportError::Unreachable(_) => JoinError::NoAnswer(error.to_string()),
            TransportError::Lost(why) => JoinError::Unclear(why),
        })?;
    let unreadable =
        |error: postcard::Error| JoinError::Unclear(format!("the answer cannot be read: {error}"));
    let admission: Admission = postcard::from_bytes(&answer).map_err(unreadable)?;
    let Admission { cluster, node, .. } = &admission;
    if let Some(parts) = admission.authority.clone() {
        Authority::from_parts(cluster, parts)?.save(data_dir)?;
    }
    Identity::from_parts(cluster.clone(), *node, admission.identity.clone())?.save(data_dir)?;
    (settings.failover, settings.election_ms) = (admission.failover, admission.election_ms);
    settings.save(data_dir)?;
    // Last: from here on the directory is a member.
    Wal::create_member(&disk, &log, cluster, *node)?;
    disk.remove(&data_dir.join(FILE))?;
    Ok(Joined { cluster: cluster.clone(), node: *node, before: false })
}

/// The id of the request, the same for every run that asks for the same with the same secret.
fn pending(
    data_dir: &Path,
    settings: &Settings,
    votes: bool,
    invitation: &Invitation,
) -> Result<RequestId, DiskError> {
    let path = data_dir.join(FILE);
    let Settings { name, peer, api, .. } = settings;
    let secret = invitation.secret.hash();
    let asked = postcard::to_stdvec(&(secret, name, peer, api, votes)).expect("it is plain data");
    let asked: String = Sha256::digest(&asked).iter().map(|byte| format!("{byte:02x}")).collect();
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let mut lines = kept.lines();
    let same = lines.next() == Some(&format!("asked = \"{asked}\""));
    let id = lines.next().and_then(|line| line.strip_prefix("request = \"")?.strip_suffix('"')?.parse().ok());
    if let Some(id) = id.filter(|_| same) {
        return Ok(id);
    }
    let id = RequestId::from_parts(SystemClock.now(), OsRandom.u128());
    let text = format!("asked = \"{asked}\"\nrequest = \"{id}\"\n");
    rt::replace_file(&RealDisk, &path, text.as_bytes())?;
    Ok(id)
}

impl Cluster {
    /// Lets one in, as the member that leads.
    pub(super) async fn admit(&self, join: &[u8]) -> Result<Vec<u8>, NotAdmitted> {
        let refused = |why: &str| NotAdmitted::Refused(why.to_owned());
        let Some((core, _)) = self.0.served.get() else {
            return Err(refused("this member has not started to answer; ask again"));
        };
        if join.first() != Some(&VERSION) {
            return Err(refused("it speaks another version than this member: use the same release"));
        }
        let asked: Join = postcard::from_bytes(join)
            .map_err(|error| NotAdmitted::Refused(format!("it cannot be read: {error}")))?;
        let node = self.admit_to_log(core, join, asked).await?;
        Boundary::MemberAdmitted.reached();
        let votes = core.state().members.get(&node).is_some_and(|member| member.votes);
        // From here on it is a member: what fails now, the same request finds mended.
        let trouble = |error: CaError| NotAdmitted::Unclear(format!("no certificate can be issued: {error}"));
        let authority = Authority::load(self.data_dir(), self.name()).map_err(trouble)?;
        let identity = authority.issue(node, SystemClock.now()).map_err(trouble)?;
        let admission = Admission {
            cluster: self.name().to_owned(),
            node,
            failover: self.settings().failover,
            election_ms: self.settings().election_ms,
            authority: votes.then(|| authority.parts()),
            identity: identity.parts().map(str::to_owned),
        };
        Ok(postcard::to_stdvec(&admission).expect("it is plain data"))
    }

    async fn admit_to_log(
        &self,
        core: &crate::Core,
        whole: &[u8],
        asked: Join,
    ) -> Result<NodeId, NotAdmitted> {
        let refused = |why: &str| NotAdmitted::Refused(why.to_owned());
        let hash = Secret::from_text(&asked.secret).hash();
        let state = core.state();
        let unknown = "the secret is not known here, was used, or is not for a member: holdfast cluster join-token makes a new one";
        // A used one is found by the request that used it, so that one sent again gets its own verdict.
        let used = || match state.requests.get(asked.request)?.principal {
            Actor::Token(token) => Some(token),
            Actor::System | Actor::Node(_) | Actor::Person(_) => None,
        };
        let found = state.token_hashes.get(&hash).copied().or_else(used);
        let is_for_members = |id: &types::TokenId| {
            state.tokens.get(id).is_some_and(|token| token.role == Role::MemberJoin && token.hash == hash)
        };
        let join = found.filter(is_for_members).ok_or_else(|| refused(unknown))?;
        let Join { name, peer, api, votes, request, .. } = asked;
        let name = name.parse().map_err(|error| refused(&format!("its name, {name:?}: {error}")))?;
        let command = Command::AdmitMember { secret: hash, member: NewMember { name, peer, api, votes } };
        let body = Sha256::digest(whole).into();
        match core.submit(command, Actor::Token(join), Some((request, body))).await {
            Answer::Executed { done, .. } => done.node.ok_or_else(|| refused("nobody was let in")),
            Answer::Refused { text, .. } => Err(NotAdmitted::Refused(text)),
            Answer::Unavailable { why, .. } => Err(refused(&format!("{why}; run the same command again"))),
            Answer::Unknown { why } => Err(NotAdmitted::Unclear(why)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_is_read_as_it_was_written() {
        let invitation = Invitation { secret: Secret::make(&OsRandom), authority: [0xa5; 32] };
        let read: Invitation = invitation.to_string().parse().expect("as written");
        assert_eq!(
            (read.secret.reveal(), read.authority),
            (invitation.secret.reveal(), invitation.authority)
        );
        for bad in ["", "hf_x", ".00", "hf_x.zz", &format!("hf_x.{}", "é".repeat(32))] {
            assert!(bad.parse::<Invitation>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_same_asks_with_the_same_request_and_anything_else_with_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let invitation = || Invitation { secret: Secret::make(&OsRandom), authority: [0; 32] };
        let (one, other) = (invitation(), invitation());
        let named = |name: &str| Settings { name: name.to_owned(), ..Settings::default() };
        let ask = |settings: &Settings, invitation: &Invitation| {
            pending(dir.path(), settings, true, invitation).expect("kept")
        };
        let first = ask(&named("one"), &one);
        assert_eq!(ask(&named("one"), &one), first);
        let renamed = ask(&named("two"), &one);
        assert_ne!(renamed, first, "it was refused for its name, say");
        assert_ne!(ask(&named("two"), &other), renamed);
    }
}
