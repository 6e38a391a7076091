//! The container driver: does what the supervisors say, decides nothing.
//!
//! Every act can be repeated, and every act cleans up what an earlier, interrupted one left: a
//! start begins by removing all traces of the run before it.

use crate::{
    cgroup::{Abilities, Cgroups},
    config::{InstancePlaces, Places},
    monitor::{self, CreateError, Process},
    network,
    preflight::Tools,
    root,
    spec::{self, Recipe, Wishes},
    tool::{self, ToolError, detail},
    user,
};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, io, os::unix::fs::DirBuilderExt, path::Path, time::Duration};
use types::{
    InstanceId, limits,
    plan::{InstanceSpec, Reason},
};

/// An instance was not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub(crate) struct StartError {
    /// The reason of the closed set.
    pub(crate) reason: Reason,
    /// More for people.
    pub(crate) detail: String,
}

impl StartError {
    pub(crate) fn new(reason: Reason, text: &dyn std::fmt::Display) -> Self {
        Self { reason, detail: detail(&text.to_string()) }
    }

    fn io(what: &str, error: &io::Error) -> Self {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        let reason = if full { Reason::DiskFull } else { Reason::RuntimeFailed };
        Self::new(reason, &format!("{what}: {error}"))
    }

    /// Whether trying again can never help.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self.reason, Reason::CommandInvalid | Reason::ImageInvalid | Reason::ImageNotFound)
    }
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) reason: Reason,
    pub(crate) detail: String,
}

/// What an image gives to a start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) root: std::path::PathBuf,
    pub(crate) wishes: Wishes,
    pub(crate) user: String,
    pub(crate) stop_signal: Option<String>,
    /// Never read: holding it keeps the image from being evicted.
    pub(crate) _held: Option<std::sync::Arc<crate::image::UnpackedImage>>,
}

/// What a run was started with: enough to stop it well when nobody remembers more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Started {
    pub(crate) spec: InstanceSpec,
    pub(crate) stop_signal: Option<String>,
}

/// The driver.
#[derive(Debug)]
pub(crate) struct Containers {
    tools: Tools,
    places: Places,
    cgroups: Cgroups,
}

#[derive(Deserialize)]
struct Listed {
    id: String,
    pid: i32,
    status: String,
}

impl Containers {
    pub(crate) fn new(tools: Tools, places: Places, cgroups: Cgroups) -> Self {
        Self { tools, places, cgroups }
    }

    pub(crate) fn places(&self, id: InstanceId) -> InstancePlaces {
        self.places.instance(id)
    }

    async fn runc(&self, args: &[&str]) -> Result<String, ToolError> {
        let root = self.places.runtime();
        let root = root.to_string_lossy();
        let mut all = vec!["--root", &root];
        all.extend_from_slice(args);
        tool::run(&self.tools.runc, &all, "").await
    }

    /// Every container there is and whether it runs, by the runtime's own list.
    ///
    /// # Errors
    /// The list could not be had; then nothing may be concluded from it.
    pub(crate) async fn list(&self) -> Result<BTreeMap<InstanceId, Option<i32>>, ToolError> {
        let text = self.runc(&["list", "--format", "json"]).await?;
        let listed: Option<Vec<Listed>> = serde_json::from_str(&text)
            .map_err(|error| ToolError { tool: "runc list".into(), said: error.to_string() })?;
        let mut found = BTreeMap::new();
        for row in listed.unwrap_or_default() {
            let Ok(id) = row.id.parse() else { continue };
            // "created" never got its start: it is taken for ended and removed.
            let runs = row.status == "running" || row.status == "paused";
            found.insert(id, (runs && self.cgroups.holds(id, row.pid)).then_some(row.pid));
        }
        // Processes whose runtime state was lost are found by their control group.
        for id in self.cgroups.populated() {
            found.entry(id).or_insert(None);
        }
        Ok(found)
    }

    /// Instances that have files here.
    pub(crate) fn on_disk(&self) -> io::Result<Vec<InstanceId>> {
        match std::fs::read_dir(self.places.instances()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
            Ok(entries) => {
                let names = entries.collect::<Result<Vec<_>, _>>()?;
                Ok(names.iter().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
            }
        }
    }

    /// What the last run of an instance was started with.
    pub(crate) fn started_with(&self, id: InstanceId) -> Option<Started> {
        serde_json::from_slice(&std::fs::read(self.places(id).spec()).ok()?).ok()
    }

    /// Starts an instance, from nothing to a running process with its network.
    ///
    /// # Errors
    /// It was not started, and nothing of it is left but its log.
    pub(crate) async fn start(
        &self,
        id: InstanceId,
        spec: &InstanceSpec,
        image: &Image,
    ) -> Result<Process, StartError> {
        self.remove(id).await.map_err(|error| StartError::new(Reason::RuntimeFailed, &error))?;
        let started = self.try_start(id, spec, image).await;
        if started.is_err()
            && let Err(error) = self.remove(id).await
        {
            tracing::warn!(instance = %id, %error, "cannot clean up after a failed start; tried again at the next");
        }
        started
    }

    async fn try_start(
        &self,
        id: InstanceId,
        spec: &InstanceSpec,
        image: &Image,
    ) -> Result<Process, StartError> {
        self.prepare(id, spec, image).await?;
        let pid = monitor::create(&self.tools, &self.places, id).await.map_err(|error| {
            let reason = match &error {
                CreateError::Refused(said) if said.contains("exec: ") || said.contains("executable file") => {
                    Reason::CommandInvalid
                }
                _ => Reason::RuntimeFailed,
            };
            StartError::new(reason, &error)
        })?;
        let process = Process::hold(pid).map_err(|error| StartError::io("its process", &error))?;
        network::connect(&self.tools, id, pid, spec.address)
            .await
            .map_err(|error| StartError::new(Reason::NetworkFailed, &error))?;
        self.runc(&["start", &id.to_string()])
            .await
            .map_err(|error| StartError::new(Reason::RuntimeFailed, &error.said))?;
        Ok(process)
    }

    /// Writes and mounts what a start needs, on a thread that may block.
    async fn prepare(&self, id: InstanceId, spec: &InstanceSpec, image: &Image) -> Result<(), StartError> {
        let ground = Ground {
            own: self.places(id),
            cgroup: self.cgroups.path(id),
            abilities: self.cgroups.abilities(),
        };
        let (spec, image) = (spec.clone(), image.clone());
        let work = tokio::task::spawn_blocking(move || ground.prepare(id, &spec, &image));
        work.await.unwrap_or_else(|error| Err(StartError::new(Reason::RuntimeFailed, &error)))
    }

    /// Takes hold of an instance that runs already.
    ///
    /// # Errors
    /// It has ended since.
    pub(crate) fn adopt(&self, id: InstanceId, pid: i32) -> io::Result<Process> {
        let process = Process::hold(pid)?;
        // Held first, checked after: now the id cannot be used for another process.
        if self.cgroups.holds(id, pid) { Ok(process) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Says how an instance ended, once its process has. Asked before [`Containers::remove`].
    pub(crate) async fn ending(&self, id: InstanceId) -> Ending {
        let status = monitor::exit_status(&self.places(id)).await;
        classify(status, self.cgroups.oom_kills(id))
    }

    /// Whether the monitor has left word of how the last run ended.
    pub(crate) fn left_word(&self, id: InstanceId) -> bool {
        self.places(id).exit().exists()
    }

    /// Ends what runs of an instance and removes all of its last run but the log.
    ///
    /// # Errors
    /// Something could not be removed; trying again is right.
    pub(crate) async fn remove(&self, id: InstanceId) -> Result<(), ToolError> {
        let name = id.to_string();
        let failed = |what: &str, error: io::Error| ToolError { tool: what.into(), said: error.to_string() };
        if self.places.runtime().join(&name).exists()
            && let Err(error) = self.runc(&["delete", "--force", &name]).await
        {
            tracing::debug!(instance = %id, %error, "runc delete");
        }
        self.end_processes(id).await;
        // A state that runc cannot read any more, after a power cut for instance, stands in the way.
        root::remove_tree(&self.places.runtime().join(&name))
            .map_err(|error| failed("runtime state", error))?;
        self.cgroups.remove(id).map_err(|error| failed("control group", error))?;
        network::disconnect(&self.tools, id).await?;
        let own = self.places(id);
        root::unmount(&own).map_err(|error| failed("unmount", error))?;
        let left = vec![own.scratch(), own.scratch_work(), own.root(), own.bundle()];
        root::remove_trees(left).await.map_err(|error| failed("scratch layer", error))
    }

    /// Kills whatever is in the control group and waits, with a bound, until it is empty.
    async fn end_processes(&self, id: InstanceId) {
        let mut waited = Duration::ZERO;
        let pause = Duration::from_millis(5);
        while waited < Duration::from(limits::AGENT_TOOL) {
            let left = self.cgroups.processes(id);
            if left.is_empty() {
                return;
            }
            for pid in left {
                // Zero would be a process of another namespace, and our own group.
                if let Some(pid) =
                    rustix::process::Pid::from_raw(pid).filter(|pid| pid.as_raw_nonzero().get() > 1)
                {
                    let _ = rustix::process::kill_process(pid, Signal::KILL);
                }
            }
            tokio::time::sleep(pause).await;
            waited += pause;
        }
    }

    /// Removes the control group of all instances, if none is left in it.
    pub(crate) fn tidy(&self) {
        self.cgroups.remove_parent();
    }

    /// Removes everything of an instance, its log too.
    ///
    /// # Errors
    /// Something could not be removed; trying again is right.
    pub(crate) async fn collect(&self, id: InstanceId) -> Result<(), ToolError> {
        self.remove(id).await?;
        if let Some(started) = self.started_with(id) {
            network::forget(&self.tools, started.spec.address).await;
        }
        root::remove_trees(vec![self.places(id).dir().to_path_buf()])
            .await
            .map_err(|error| ToolError { tool: "instance directory".into(), said: error.to_string() })
    }
}

/// Where an instance is to be made, and with what.
struct Ground {
    own: InstancePlaces,
    cgroup: String,
    abilities: Abilities,
}

impl Ground {
    /// Writes the files of a run and mounts its root. Blocks on the disk.
    fn prepare(self, id: InstanceId, spec: &InstanceSpec, image: &Image) -> Result<(), StartError> {
        let Self { own, cgroup, abilities } = self;
        let identity = user::resolve(&image.root, &image.user)
            .map_err(|error| StartError::new(Reason::ImageInvalid, &error))?;
        let bundle = own.bundle();
        let recipe = Recipe {
            id,
            spec,
            wishes: &image.wishes,
            identity: &identity,
            root: &own.root(),
            files: &bundle,
            cgroup,
            abilities,
        };
        let config =
            spec::render(&recipe).map_err(|error| StartError::new(Reason::CommandInvalid, &error))?;
        let name = spec::host_name(id, spec);
        let hosts = format!("127.0.0.1 localhost\n::1 localhost ip6-localhost\n{} {name}\n", spec.address);
        let written = || -> io::Result<()> {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(own.dir())?;
            root::remove_tree(&bundle)?;
            std::fs::DirBuilder::new().mode(0o700).create(&bundle)?;
            std::fs::write(bundle.join("hosts"), hosts)?;
            std::fs::write(bundle.join("hostname"), format!("{name}\n"))?;
            std::fs::write(bundle.join("config.json"), config.to_string())?;
            let started = Started { spec: spec.clone(), stop_signal: image.stop_signal.clone() };
            std::fs::write(own.spec(), serde_json::to_vec(&started)?)?;
            rotate_log(&own)?;
            root::mount(&own, &image.root)
        };
        written().map_err(|error| StartError::io("its files", &error))
    }
}

/// Keeps the log bounded over many runs: the monitor counts only what its own run writes, and keeps
/// that to a quarter of the bound. So each of the two files stays below a half.
fn rotate_log(own: &InstancePlaces) -> io::Result<()> {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
    if size(&own.log()) > limits::INSTANCE_LOG.bytes() / 4 {
        std::fs::rename(own.log(), own.log_before())?;
    }
    Ok(())
}

/// Names an ending. The exit status is the runtime's: 128 and the signal for one that was killed.
/// *Killed at its cap* is what the kernel counted, never a guess from the signal.
fn classify(status: Option<i32>, oom_kills: u64) -> Ending {
    if oom_kills > 0 && status != Some(0) {
        let detail = match status {
            Some(status) => format!("killed at its memory cap ({oom_kills} times); exit status {status}"),
            None => format!("killed at its memory cap ({oom_kills} times)"),
        };
        return Ending { reason: Reason::OomKilled, detail };
    }
    match status {
        None => Ending {
            reason: Reason::Killed,
            detail: "killed together with its monitor; exit status unknown".into(),
        },
        Some(status) if (129..=128 + 64).contains(&status) => {
            Ending { reason: Reason::Killed, detail: format!("killed by signal {}", status - 128) }
        }
        Some(status) => Ending { reason: Reason::Exited, detail: format!("exit status {status}") },
    }
}

/// The signal that an image wants for a graceful stop: a name with or without `SIG`, or a number.
pub(crate) fn stop_signal(wanted: Option<&str>) -> Signal {
    let known = |text: &str| -> Option<Signal> {
        let name = text.trim().to_ascii_uppercase();
        match name.strip_prefix("SIG").unwrap_or(&name) {
            "HUP" | "1" => Some(Signal::HUP),
            "INT" | "2" => Some(Signal::INT),
            "QUIT" | "3" => Some(Signal::QUIT),
            "KILL" | "9" => Some(Signal::KILL),
            "USR1" | "10" => Some(Signal::USR1),
            "USR2" | "12" => Some(Signal::USR2),
            "WINCH" | "28" => Some(Signal::WINCH),
            _ => None,
        }
    };
    wanted.and_then(known).unwrap_or(Signal::TERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_named_by_what_the_kernel_counted() {
        assert_eq!(classify(Some(137), 1).reason, Reason::OomKilled);
        assert_eq!(classify(Some(137), 0).reason, Reason::Killed);
        assert_eq!(classify(Some(3), 0), Ending { reason: Reason::Exited, detail: "exit status 3".into() });
        assert_eq!(classify(None, 0).reason, Reason::Killed);
        assert_eq!(
            classify(Some(0), 1).reason,
            Reason::Exited,
            "a child died, the instance went on and ended well"
        );
    }

    #[test]
    fn the_image_chooses_its_stop_signal() {
        assert_eq!(stop_signal(None), Signal::TERM);
        assert_eq!(stop_signal(Some("SIGQUIT")), Signal::QUIT);
        assert_eq!(stop_signal(Some("int")), Signal::INT);
        assert_eq!(stop_signal(Some("3")), Signal::QUIT);
        assert_eq!(stop_signal(Some("nonsense")), Signal::TERM);
    }
}
