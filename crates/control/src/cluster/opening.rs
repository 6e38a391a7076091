//! Opening a member's log and everything that makes it one.

use super::{
    Cluster, Inner, Repairing, Settings, SettingsError,
    repairing::{Patient, is_alone},
};
use crate::peer::{Authority, CaError, Contacts, Identity, PeerTransport};
use log::{
    cluster::{ClusterLog, NotRepaired, OpenClusterError},
    wal::{OpenMemberError, Wal},
};
use rt::{Clock, Disk, OsRandom, Random, RealDisk, SystemClock, ThreadSpawner};
use std::{
    path::Path,
    sync::{Arc, Mutex, OnceLock},
};
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use types::NodeId;

/// Why a member does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What it was told of its place cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Its log does not open.
    #[error(transparent)]
    Log(#[from] OpenClusterError),
    /// It has no certificate that could be used.
    #[error(transparent)]
    Certificate(#[from] CaError),
    /// It was asked to join and has not.
    #[error(
        "this directory waits to join a cluster and has not been let in: run the same `holdfast cluster join` again"
    )]
    Joining,
    /// It is damaged, and was not repaired.
    #[error(transparent)]
    Repair(#[from] NotRepaired),
    /// It was told to stop while its log was repaired. The next start goes on.
    #[error("it was told to stop while its log was repaired")]
    Stopped,
}

impl OpenError {
    /// What is wrong with the log itself, if that is it.
    pub fn open_error(&self) -> Option<&log::wal::OpenError> {
        match self {
            Self::Log(error) => error.open_error(),
            _ => None,
        }
    }
}

impl Cluster {
    /// Opens the member that lives in this directory; an empty one becomes the first member of a
    /// cluster of its own. Connections to others live on `runtime`. Blocks.
    ///
    /// A damaged log is repaired from other members first, if that is allowed here; that takes as long as it
    /// takes.
    ///
    /// # Errors
    /// Each names what is wrong and, in its source, the way on. Nothing is changed but what recovery
    /// changes.
    pub fn open(data_dir: &Path, runtime: Handle, repairing: Option<&Repairing>) -> Result<Self, OpenError> {
        Self::open_as(data_dir, runtime, Settings::load(data_dir)?, repairing)
    }

    /// The same, with other settings than lie there.
    pub(crate) fn open_as(
        data_dir: &Path,
        runtime: Handle,
        settings: Option<Settings>,
        repairing: Option<&Repairing>,
    ) -> Result<Self, OpenError> {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let dir = data_dir.join("log");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (name, node) = match log::wal::owner(&*disk, &dir).map_err(OpenMemberError::from) {
            Ok(Some(owner)) => owner,
            Ok(None) if settings.as_ref().is_some_and(|settings| settings.joined) => {
                return Err(OpenError::Joining);
            }
            Ok(None) => found(&disk, &dir, &*clock)?,
            Err(error) => return Err(OpenClusterError::from(error).into()),
        };
        let settings = settings.unwrap_or_default();
        let identity = identity(data_dir, &name, node, &settings, &*clock)?;
        let tls = identity.tls()?.in_mode(settings.failover.as_str());
        let transport = PeerTransport::new(tls.clone(), runtime.clone(), Arc::clone(&clock));
        let options = settings.options();
        // After a failed write nothing in memory can be trusted to match the disk. The process ends at
        // once, without destructors, and the next start reads what is really there.
        let open = || {
            let fatal = Box::new(|error: &rt::DiskError| {
                tracing::error!(%error, "the log's disk failed; this process stops now");
                std::process::abort();
            });
            let (disk, way) = (Arc::clone(&disk), Arc::new(transport.clone()));
            ClusterLog::open(disk, &dir, options.clone(), &ThreadSpawner, way, fatal)
        };
        let opened = match (open(), repairing) {
            (Err(error), Some(repairing)) if error.is_damage() => {
                let (disk, dir, settings, options) = (&disk, &*dir, &settings, &options.wal);
                let (clock, transport) = (&clock, &transport);
                let patient = Patient { disk, dir, node, settings, options, tls, clock, transport };
                match runtime.block_on(patient.heal(repairing)) {
                    Ok(()) => open(),
                    Err(alone) if is_alone(&alone) => Err(error),
                    Err(other) => return Err(other),
                }
            }
            (opened, _) => opened,
        };
        let (log, recovered) = opened?;
        if let Some(dropped) = &recovered.dropped {
            tracing::warn!(
                ?dropped,
                "the end of the log was torn by a crash and is cut off; nothing of it was acknowledged"
            );
        }
        tracing::info!(head = %recovered.head.event, segments = recovered.segments, "the log is open");
        Ok(Self(Arc::new(Inner {
            log,
            name,
            settings,
            identity,
            data_dir: data_dir.to_owned(),
            transport,
            contacts: Contacts::new(clock),
            served: OnceLock::new(),
            answering: TaskTracker::new(),
            backups: OnceLock::new(),
            audit: OnceLock::new(),
            moved: Mutex::default(),
        })))
    }
}

/// Makes the log of a new cluster's first member.
fn found(disk: &Arc<dyn Disk>, dir: &Path, clock: &dyn Clock) -> Result<(String, NodeId), OpenClusterError> {
    let name = format!("{:032x}", OsRandom.u128());
    let node = NodeId::from_parts(clock.now(), OsRandom.u128());
    Wal::create(disk, dir, &name, node).map_err(OpenMemberError::from)?;
    Ok((name, node))
}

/// The member's certificate. The founder issues itself one; whoever joined has brought it.
fn identity(
    data_dir: &Path,
    name: &str,
    node: NodeId,
    settings: &Settings,
    clock: &dyn Clock,
) -> Result<Identity, CaError> {
    if let Some(identity) = Identity::load(data_dir, name, node)? {
        return Ok(identity);
    }
    let authority = match Authority::load(data_dir, name) {
        // Nothing that was made with another one could be taken for its own any more.
        Err(CaError::Missing { .. }) if !settings.joined => {
            let authority = Authority::make(name, clock.now())?;
            authority.save(data_dir)?;
            authority
        }
        authority => authority?,
    };
    let identity = authority.issue(node, clock.now())?;
    identity.save(data_dir)?;
    Ok(identity)
}
