//! Control groups: which layout this machine has, and what they count.
//!
//! A machine has one of two layouts. *Unified*: `/sys/fs/cgroup` is one version 2 tree. *Split*:
//! version 1 hierarchies, one for each controller, perhaps with a version 2 tree beside them that
//! holds none of the controllers used here (the hybrid layout). The test is the one `runc` makes,
//! so that both always agree. `runc` translates the specification's limits for either.

use crate::preflight::PreflightError;
use std::{
    io,
    path::{Path, PathBuf},
};
use types::InstanceId;

/// The layout and what it can do.
#[derive(Clone, Debug)]
pub(crate) struct Cgroups {
    layout: Layout,
    /// The group of all instances of this agent.
    parent: String,
}

#[derive(Clone, Debug)]
enum Layout {
    Unified { root: PathBuf },
    Split { hierarchies: Vec<Hierarchy> },
}

/// One version 1 hierarchy.
#[derive(Clone, Debug)]
struct Hierarchy {
    root: PathBuf,
    controllers: Vec<String>,
}

/// Which limits can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Abilities {
    /// Swap can be capped together with memory.
    pub(crate) swap: bool,
    /// Processor time can be weighed.
    pub(crate) cpu: bool,
    /// Processes can be counted.
    pub(crate) pids: bool,
    /// Devices can be denied by the version 1 controller, or by a program in version 2.
    pub(crate) devices: bool,
}

const ROOT: &str = "/sys/fs/cgroup";

impl Cgroups {
    /// Looks at the machine.
    ///
    /// # Errors
    /// Nothing here can cap memory.
    pub(crate) fn detect(parent: String) -> Result<Self, PreflightError> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let unified = rustix::fs::statfs(ROOT).is_ok_and(|found| found.f_type as u64 == 0x6367_7270);
        let layout = if unified {
            Layout::Unified { root: ROOT.into() }
        } else {
            Layout::Split { hierarchies: hierarchies(&mounts) }
        };
        let found = Self { layout, parent };
        if found.has("memory") { Ok(found) } else { Err(PreflightError::NoMemoryController) }
    }

    fn has(&self, controller: &str) -> bool {
        match &self.layout {
            Layout::Unified { root } => std::fs::read_to_string(root.join("cgroup.controllers"))
                .is_ok_and(|list| list.split_whitespace().any(|word| word == controller)),
            Layout::Split { .. } => self.hierarchy(controller).is_some(),
        }
    }

    fn hierarchy(&self, controller: &str) -> Option<&Path> {
        let Layout::Split { hierarchies } = &self.layout else { return None };
        let holds = |found: &&Hierarchy| found.controllers.iter().any(|word| word == controller);
        hierarchies.iter().find(holds).map(|found| found.root.as_path())
    }

    /// Which limits this machine can set besides that on memory.
    pub(crate) fn abilities(&self) -> Abilities {
        let swap = match &self.layout {
            Layout::Unified { .. } => true,
            Layout::Split { .. } => {
                self.hierarchy("memory").is_some_and(|root| root.join("memory.memsw.limit_in_bytes").exists())
            }
        };
        let devices = matches!(self.layout, Layout::Unified { .. }) || self.has("devices");
        Abilities { swap, cpu: self.has("cpu"), pids: self.has("pids"), devices }
    }

    /// The layout in a word, for logs.
    pub(crate) fn layout(&self) -> &'static str {
        match self.layout {
            Layout::Unified { .. } => "unified (v2)",
            Layout::Split { .. } => "split (v1)",
        }
    }

    /// The path that `runc` is told.
    pub(crate) fn path(&self, id: InstanceId) -> String {
        format!("/{}/{id}", self.parent)
    }

    /// How often the kernel has killed a process of this instance at its memory cap in this run.
    /// Asked before the group is removed; a group that is gone has counted nothing.
    pub(crate) fn oom_kills(&self, id: InstanceId) -> u64 {
        let file = match &self.layout {
            Layout::Unified { root } => root.join(&self.parent).join(id.to_string()).join("memory.events"),
            Layout::Split { .. } => match self.hierarchy("memory") {
                Some(root) => root.join(&self.parent).join(id.to_string()).join("memory.oom_control"),
                None => return 0,
            },
        };
        std::fs::read_to_string(file).map_or(0, |text| oom_kill_count(&text))
    }

    /// The processes of this instance, by the first hierarchy that has the group.
    pub(crate) fn processes(&self, id: InstanceId) -> Vec<i32> {
        let list = self.groups(id).into_iter().find_map(|dir| {
            let text = std::fs::read_to_string(dir.join("cgroup.procs")).ok()?;
            Some(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
        });
        list.unwrap_or_default()
    }

    /// Whether this process belongs to this instance. Guards against process ids used again.
    pub(crate) fn holds(&self, id: InstanceId, pid: i32) -> bool {
        let path = self.path(id);
        std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
            .is_ok_and(|text| text.lines().any(|line| line.ends_with(&path)))
    }

    fn roots(&self) -> Vec<&Path> {
        match &self.layout {
            Layout::Unified { root } => vec![root.as_path()],
            Layout::Split { hierarchies } => hierarchies.iter().map(|found| found.root.as_path()).collect(),
        }
    }

    fn groups(&self, id: InstanceId) -> Vec<PathBuf> {
        let name = id.to_string();
        let all = self.roots().into_iter().map(|root| root.join(&self.parent).join(&name));
        all.filter(|dir| dir.is_dir()).collect()
    }

    /// Instances that have a group with processes in it, whatever the runtime says.
    pub(crate) fn populated(&self) -> Vec<InstanceId> {
        let mut found: Vec<InstanceId> = Vec::new();
        for root in self.roots() {
            let Ok(entries) = std::fs::read_dir(root.join(&self.parent)) else { continue };
            found.extend(
                entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<InstanceId>().ok()),
            );
        }
        found.sort_unstable();
        found.dedup();
        found.retain(|id| !self.processes(*id).is_empty());
        found
    }

    /// Removes the empty groups of an instance, which `runc` does too unless its state was lost.
    ///
    /// # Errors
    /// A group still has processes.
    pub(crate) fn remove(&self, id: InstanceId) -> io::Result<()> {
        for dir in self.groups(id) {
            match std::fs::remove_dir(&dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Removes the group of all instances where it is empty.
    pub(crate) fn remove_parent(&self) {
        for root in self.roots() {
            // Another hierarchy may not have it, and a group in use stays: both are fine.
            let _ = std::fs::remove_dir(root.join(&self.parent));
        }
    }
}

fn oom_kill_count(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
    line.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// The hierarchies in a `mountinfo`: `… mountpoint … - cgroup source rw,memory`.
fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    let parse = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let root = PathBuf::from(before.split(' ').nth(4)?);
        let mut words = after.split(' ');
        let listed = match words.next()? {
            "cgroup" => words.next_back()?,
            // The version 2 tree beside the others: `runc` makes groups in it too.
            "cgroup2" => "",
            _ => return None,
        };
        let controllers = listed.split(',').filter(|word| *word != "rw").map(str::to_owned).collect();
        Some(Hierarchy { root, controllers })
    };
    mountinfo.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_hierarchies_are_read_from_the_mounts() {
        let text = "30 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                    31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n\
                    32 25 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let cgroups =
            Cgroups { layout: Layout::Split { hierarchies: hierarchies(text) }, parent: "p".into() };
        assert_eq!(cgroups.hierarchy("cpu"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!(cgroups.hierarchy("memory"), Some(Path::new("/sys/fs/cgroup/memory")));
        assert_eq!(cgroups.hierarchy("pids"), None);
        assert!(cgroups.roots().contains(&Path::new("/sys/fs/cgroup/unified")), "cleaned up like the others");
    }

    #[test]
    fn oom_kills_are_read_in_both_versions() {
        assert_eq!(oom_kill_count("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 2);
        assert_eq!(oom_kill_count("low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0\n"), 1);
        assert_eq!(oom_kill_count(""), 0);
    }
}
