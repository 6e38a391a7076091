//! Who this machine is: enrolled once with a single-use secret, then kept in `node.toml`.
//!
//! After the first start no server is needed: agent and edge know from this file who they are, and
//! everything else from their stored plans.

use super::process::whole;
use crate::{
    args::{Global, NodeArgs},
    context::{DEFAULT_SERVER, as_known, fresh_request_id},
    failure::Failure,
    private_file,
};
use api::{ClientError, EnrolRequest, Enrolled, Fingerprint, NodeClient, Place};
use serde::{Deserialize, Serialize};
use std::{
    net::Ipv6Addr,
    path::{Path, PathBuf},
};
use types::{
    Name, NodeId, limits,
    plan::{Capacity, NodeRole},
};

/// The content of `node.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Whose node it is.
    pub server: String,
    /// The node.
    pub node: NodeId,
    /// The control plane it belongs to.
    pub cluster: String,
    /// The addresses of its instances.
    pub prefix: Ipv6Addr,
    /// The node's bearer secret.
    pub credential: String,
}

/// What a node says of itself when it is enrolled.
#[derive(Clone, Debug)]
pub struct Newcomer {
    /// What it is to be called.
    pub name: Option<Name>,
    /// The parts it plays.
    pub roles: Vec<NodeRole>,
    /// What it can give.
    pub capacity: Capacity,
}

impl Identity {
    /// The kept identity, if there is one.
    pub fn load(path: &Path) -> Result<Option<Self>, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(Failure::cannot_start(
                    format!("{} cannot be read: {error}", path.display()),
                    None,
                ));
            }
        };
        toml::from_str(&text).map(Some).map_err(|error| {
            let next = "restore it, or move it away and enrol again: holdfast nodes join-token";
            let what = format!("{} is damaged: {}", path.display(), error.message());
            Failure::cannot_start(what, Some(next.to_owned()))
        })
    }

    /// Becomes a node, and keeps that.
    pub async fn enrol(
        server: &str,
        join_token: &str,
        newcomer: Newcomer,
        path: &Path,
    ) -> Result<Self, Failure> {
        let name = match newcomer.name {
            Some(name) => name,
            None => host_name(),
        };
        let (join_token, server) = &believed(join_token, server);
        let request = EnrolRequest {
            join_token: join_token.clone(),
            name,
            roles: newcomer.roles,
            capacity: newcomer.capacity,
        };
        let Enrolled { node, credential, cluster, prefix } = ask(server, &request).await?;
        let identity = Self { server: server.clone(), node, cluster, prefix, credential };
        let text = toml::to_string(&identity).expect("an identity is plain data");
        private_file::replace(path, &text).map_err(|error| {
            let next = "make room or choose another --data-dir, then enrol again: holdfast nodes join-token";
            let what = format!("node {node} is enrolled, but {} cannot be written: {error}", path.display());
            Failure::cannot_start(what, Some(next.to_owned()))
        })?;
        tracing::info!(%node, name = %request.name, "enrolled");
        Ok(identity)
    }

    /// The way to its server.
    pub fn client(&self) -> Result<NodeClient, Failure> {
        NodeClient::new(&self.server, &self.credential).map_err(|error| {
            Failure::usage(whole(&error), "name the server with --server https://HOST:PORT#sha256=…")
        })
    }
}

/// A join token's secret, and the server with the fingerprint that came with the secret, if one did: a
/// machine that joins believes the server that its owner meant, and no other.
fn believed(join_token: &str, server: &str) -> (String, String) {
    let found = join_token.rsplit_once('.');
    let pinned = found.and_then(|(secret, pin)| Some((secret, pin.parse::<Fingerprint>().ok()?)));
    let Some((secret, pin)) = pinned else { return (join_token.to_owned(), server.to_owned()) };
    let place = server.parse::<Place>().ok().filter(|place| place.url.starts_with("https://"));
    let server = match place {
        Some(place) => Place { pin: place.pin.or(Some(pin)), ..place }.to_string(),
        None => server.to_owned(),
    };
    (secret.to_owned(), server)
}

/// Asks until the server is there: a server that starts at the same time may need a moment, and what
/// was not sent may be sent again.
async fn ask(server: &str, request: &EnrolRequest) -> Result<Enrolled, Failure> {
    let deadline = tokio::time::Instant::now() + limits::ENROL_WAIT.into();
    let mut said = false;
    loop {
        let error = match NodeClient::enrol(server, fresh_request_id(), request).await {
            Ok(enrolled) => return Ok(enrolled),
            Err(error) => error,
        };
        match &error {
            ClientError::NotSent { .. } if tokio::time::Instant::now() < deadline => {
                if !std::mem::replace(&mut said, true) {
                    tracing::info!(server, "waiting for the server: {error}");
                }
                tokio::time::sleep(limits::WAIT_POLL.into()).await;
            }
            ClientError::NotSent { .. } => {
                let next = "start the server first; only the first start of a node needs it";
                return Err(Failure::cannot_start(whole(&error), Some(next.to_owned())));
            }
            ClientError::Problem(problem) => return Err((**problem).clone().into()),
            ClientError::Unknown { .. } | ClientError::BadAnswer { .. } => {
                let what = format!("{error}; the join token may be used up");
                let next = "take a new one: holdfast nodes join-token";
                return Err(Failure::cannot_start(what, Some(next.to_owned())));
            }
        }
    }
}

/// The identity that these arguments mean: the kept one or, with a join token, a new one.
pub async fn of(
    args: &NodeArgs,
    global: &Global,
    data_dir: &Path,
    newcomer: Newcomer,
) -> Result<Identity, Failure> {
    let path: PathBuf = args.credential_file.clone().unwrap_or_else(|| data_dir.join("node.toml"));
    if let Some(mut identity) = Identity::load(&path)? {
        if let Some(server) = &global.server {
            identity.server = as_known(server, std::slice::from_ref(&identity.server));
        }
        return Ok(identity);
    }
    let Some(join_token) = &args.join_token else {
        let what = format!("this machine is no node yet: there is no {}", path.display());
        let next = "an owner runs `holdfast nodes join-token`; start this again with --join-token SECRET --server URL";
        return Err(Failure::usage(what, next));
    };
    let server = global.server.as_deref().unwrap_or(DEFAULT_SERVER);
    Identity::enrol(server, join_token, newcomer, &path).await
}

/// The machine's host name as a node's name, as far as it can be one.
pub fn host_name() -> Name {
    let raw = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let first = raw.split('.').next().unwrap_or_default();
    let text: String =
        first.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    text.trim_matches('-').parse().unwrap_or_else(|_| "node".parse().expect("a valid name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            server: "http://127.0.0.1:7070".into(),
            node: NodeId::from_u128(5),
            cluster: "c".into(),
            prefix: "fd00::".parse().expect("valid"),
            credential: "hf_secret".into(),
        }
    }

    #[test]
    fn an_identity_reads_back_and_a_damaged_one_says_what_to_do() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("node.toml");
        assert_eq!(Identity::load(&path).expect("none"), None);
        private_file::replace(&path, &toml::to_string(&identity()).expect("text")).expect("written");
        assert_eq!(Identity::load(&path).expect("read"), Some(identity()));
        std::fs::write(&path, "node = 1").expect("written");
        let failure = Identity::load(&path).expect_err("damaged");
        assert_eq!(failure.exit, 1);
        assert!(failure.text().contains("node.toml is damaged"), "{}", failure.text());
    }

    #[test]
    fn this_machine_has_a_name() {
        assert!(!host_name().as_str().is_empty());
    }
}
