//! What an agent is told, and where it keeps what.
//!
//! Everything that must outlive a reboot lies below the data directory. Below `/run` lies only
//! what the container runtime itself keeps, and losing it loses nothing but running processes.
//! Both, and the control groups, carry a name made from the data directory, so that several agents
//! on one machine never see one another's instances.

use sha2::{Digest as _, Sha256};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};
use types::{InstanceId, NodeId, plan::Capacity};

/// How one agent is to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The node this agent is.
    pub node: NodeId,
    /// The control plane it belongs to; plans of any other are refused.
    pub cluster: String,
    /// Where metrics are served; only ever a loopback address. `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// What the node can give, where that is not what the machine has.
    pub capacity: Option<Capacity>,
}

/// The paths and names of one agent.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    data: PathBuf,
    realm: String,
}

impl Places {
    /// The places of the agent with this data directory, which must be absolute.
    pub(crate) fn new(data: &Path) -> Self {
        let digest = Sha256::digest(data.as_os_str().as_encoded_bytes());
        let realm = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
        Self { data: data.to_path_buf(), realm }
    }

    /// The file whose lock says that an agent runs on this directory.
    pub(crate) fn lock(&self) -> PathBuf {
        self.data.join("agent.lock")
    }

    /// Where images are cached.
    pub(crate) fn images(&self) -> PathBuf {
        self.data.join("images")
    }

    /// Where instances live.
    pub(crate) fn instances(&self) -> PathBuf {
        self.data.join("instances")
    }

    /// What belongs to one instance.
    pub(crate) fn instance(&self, id: InstanceId) -> InstancePlaces {
        InstancePlaces { dir: self.instances().join(id.to_string()) }
    }

    /// Where `runc` keeps its state.
    pub(crate) fn runtime(&self) -> PathBuf {
        Path::new("/run/holdfast").join(&self.realm).join("runc")
    }

    /// The control group that holds this agent's instances, below each hierarchy's root.
    pub(crate) fn cgroup(&self) -> String {
        format!("holdfast-{}", self.realm)
    }
}

/// The paths of one instance.
#[derive(Clone, Debug)]
pub(crate) struct InstancePlaces {
    dir: PathBuf,
}

impl InstancePlaces {
    /// All of it.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The specification that the present run was started with.
    pub(crate) fn spec(&self) -> PathBuf {
        self.dir.join("spec.json")
    }

    /// The bundle of the present run: what `runc` reads, and what `conmon` writes.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Where `conmon` writes the exit status.
    pub(crate) fn exit(&self) -> PathBuf {
        self.bundle().join("exit")
    }

    /// Where the root is mounted.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    /// What the present run wrote over its image.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.join("scratch")
    }

    /// The working directory that overlayfs wants beside the scratch layer.
    pub(crate) fn scratch_work(&self) -> PathBuf {
        self.dir.join("scratch.work")
    }

    /// What it said, of all its runs.
    pub(crate) fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// What it said before that.
    pub(crate) fn log_before(&self) -> PathBuf {
        self.dir.join("log.1")
    }
}
