//! What a server is told of its place in a cluster: `member.toml` in its data directory.
//!
//! Made by `holdfast cluster init` or `join`, and by nobody else; a directory without it is a cluster
//! of one whose only member nobody can reach.

use log::cluster::{Failover, Member};
use rt::{Disk, RealDisk};
use serde::{Deserialize, Serialize};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use types::Name;

/// The file.
pub(super) const FILE: &str = "member.toml";
/// The least and the most that an election timeout may be, in milliseconds.
const ELECTION: (u64, u64) = (50, 60_000);

/// A member's own settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// What people call it.
    pub name: String,
    /// It was let into a cluster that others founded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub joined: bool,
    /// The last event of the cluster that it was recovered from: whoever became a member before is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovered_at: Option<u64>,
    /// Where it listens for other members; none if nobody can join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Where other members reach it: host and port.
    #[serde(default)]
    pub peer: String,
    /// Where clients reach its API, as a URL; empty if they do not.
    #[serde(default)]
    pub api: String,
    /// Who may stand for election by itself. The same on every member.
    #[serde(default)]
    pub failover: Mode,
    /// After how many milliseconds without a leader another may be elected: a random time in this
    /// range. The same on every member.
    #[serde(default = "election")]
    pub election_ms: [u64; 2],
}

/// `failover` as it is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The members elect another leader by themselves.
    #[default]
    Automatic,
    /// Only an operator makes another node the one that sequences.
    Operator,
}

impl Mode {
    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Operator => "operator",
        }
    }
}

impl From<Mode> for Failover {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Automatic => Self::Automatic,
            Mode::Operator => Self::Operator,
        }
    }
}

fn election() -> [u64; 2] {
    [150, 300]
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: String::new(),
            joined: false,
            recovered_at: None,
            listen: None,
            peer: String::new(),
            api: String::new(),
            failover: Mode::Automatic,
            election_ms: election(),
        }
    }
}

/// Why there are no settings that could be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read or written.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("{path}: {why}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong, with its place.
        why: String,
    },
}

impl Settings {
    /// What lies in a data directory; none if nothing does.
    ///
    /// # Errors
    /// It cannot be read or makes no sense.
    pub fn load(data_dir: &Path) -> Result<Option<Self>, SettingsError> {
        let path = data_dir.join(FILE);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(SettingsError::File { path, source }),
        };
        let content = |why: String| SettingsError::Content { path: path.clone(), why };
        let settings: Self = toml::from_str(&text).map_err(|error| content(error.to_string()))?;
        settings.check().map_err(content)?;
        Ok(Some(settings))
    }

    /// Keeps them.
    ///
    /// # Errors
    /// They make no sense, or the disk refuses.
    pub fn save(&self, data_dir: &Path) -> Result<(), SettingsError> {
        let path = data_dir.join(FILE);
        self.check().map_err(|why| SettingsError::Content { path: path.clone(), why })?;
        let text = toml::to_string(self).expect("settings are plain data");
        let file = |source| SettingsError::File { path: path.clone(), source };
        RealDisk.create_dir(data_dir).map_err(|error| file(error.source))?;
        rt::replace_file(&RealDisk, &path, text.as_bytes()).map_err(|error| file(error.source))
    }

    /// Whether they can be used.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        let [least, most] = self.election_ms;
        if least < ELECTION.0 || most > ELECTION.1 || most < least + least / 2 {
            return Err(format!(
                "election_ms = [{least}, {most}]: from {} to {} at most, and the second half as much again as the first, so that two do not stand at once",
                ELECTION.0, ELECTION.1
            ));
        }
        if !self.name.is_empty()
            && let Err(error) = self.name.parse::<Name>()
        {
            return Err(format!("name = {:?}: {error}", self.name));
        }
        if !self.peer.is_empty() && !has_port(&self.peer) {
            return Err(format!("peer = {:?} is not HOST:PORT", self.peer));
        }
        if !self.api.is_empty() && !self.api.starts_with("http://") && !self.api.starts_with("https://") {
            return Err(format!("api = {:?} is not a URL", self.api));
        }
        Ok(())
    }

    /// As the other members know it.
    pub fn member(&self) -> Member {
        Member { name: self.name.clone(), peer: self.peer.clone(), api: self.api.clone() }
    }

    /// How consensus runs with them.
    pub(super) fn options(&self) -> log::cluster::Options {
        let [least, most] = self.election_ms.map(Duration::from_millis);
        log::cluster::Options {
            failover: self.failover.into(),
            election: (least, most),
            heartbeat: least * 2 / 15,
            own: self.member(),
            ..log::cluster::Options::default()
        }
    }
}

fn has_port(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(Settings::load(dir.path()).expect("nothing there"), None);
        let settings = Settings {
            name: "one".into(),
            joined: true,
            recovered_at: None,
            listen: Some("127.0.0.1:7071".parse().expect("an address")),
            peer: "one.example:7071".into(),
            api: "http://127.0.0.1:7070".into(),
            failover: Mode::Operator,
            election_ms: [200, 400],
        };
        settings.save(dir.path()).expect("saved");
        assert_eq!(Settings::load(dir.path()).expect("there"), Some(settings));
    }

    #[test]
    fn what_makes_no_sense_is_said_with_its_place() {
        let dir = tempfile::tempdir().expect("a directory");
        for (text, told) in [
            ("name = \"a\"\nfailover = \"sometimes\"", "line 2"),
            ("name = \"a\"\nlisen = \"127.0.0.1:1\"", "unknown field `lisen`"),
            ("name = \"a\"\nelection_ms = [100, 110]", "election_ms"),
            ("name = \"a\"\npeer = \"one\"", "HOST:PORT"),
            ("name = \"a\"\napi = \"one:7070\"", "not a URL"),
        ] {
            std::fs::write(dir.path().join(FILE), text).expect("written");
            let error = Settings::load(dir.path()).expect_err(text).to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
