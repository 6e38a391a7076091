//! What the container runtime really runs, found through `/proc` and not by asking Holdfast: a
//! proof of "the same processes as before" must not come from the one whose word is in question.

use crate::{Outcome, Stamp, wait_for};
use std::{
    collections::BTreeMap,
    ffi::CString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// One instance on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its id, `ins_…`.
    pub instance: String,
    /// The process that watches over it.
    pub shim: Stamp,
    /// Its own processes, the first one first.
    pub processes: Vec<Stamp>,
}

impl Running {
    /// Every instance of the agent with this data directory, by id.
    pub fn find(agent: &Path) -> Vec<Self> {
        let parents = parents();
        let mut found: Vec<Self> = shims(agent)
            .into_iter()
            .map(|(instance, shim)| Self { instance, shim, processes: descendants(&parents, shim.pid) })
            .filter(|running| !running.processes.is_empty())
            .collect();
        found.sort_by(|a, b| a.instance.cmp(&b.instance));
        found
    }

    /// Its first process.
    pub fn main(&self) -> Stamp {
        self.processes[0]
    }
}

/// Watching processes whose command line names an instance below `agent`.
fn shims(agent: &Path) -> Vec<(String, Stamp)> {
    let prefix = format!("{}/instances/", agent.display());
    let instance_of = |pid: u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let mut words = line.split('\0');
        if !words.next()?.ends_with("conmon") {
            return None;
        }
        let rest = words.find_map(|word| word.split_once(&prefix).map(|(_, rest)| rest.to_owned()))?;
        Some(rest.split('/').next()?.to_owned())
    };
    pids().into_iter().filter_map(|pid| Some((instance_of(pid)?, Stamp::of(pid)?))).collect()
}

fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut all: Vec<u32> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    all.sort_unstable();
    all
}

/// The parent of every process.
fn parents() -> BTreeMap<u32, u32> {
    let parent = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat[stat.rfind(')')? + 2..].split(' ').nth(1)?.parse().ok()
    };
    pids().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect()
}

/// The processes of the instance below `root`.
fn descendants(parents: &BTreeMap<u32, u32>, root: u32) -> Vec<Stamp> {
    let mut own = family(parents, root);
    own.retain(|process| !of_the_runtime(process.pid));
    own
}

/// Every process below `root`.
fn family(parents: &BTreeMap<u32, u32>, root: u32) -> Vec<Stamp> {
    let mut family = vec![root];
    let mut at = 0;
    while at < family.len() {
        let parent = family[at];
        family.extend(parents.iter().filter(|(_, of)| **of == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    family.into_iter().skip(1).filter_map(Stamp::of).collect()
}

/// Whether this is still the container runtime at work: it forks several short-lived processes under
/// the watching one before the last of them becomes the instance's own program.
fn of_the_runtime(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.starts_with("runc"))
}

/// Removes what an agent below `dir` left on the host: watching processes and instances first, then
/// mounts, control groups and the runtime's state. Fine if there is nothing.
///
/// # Errors
/// A process that survives SIGKILL.
pub fn clear_host(dir: &Path) -> Outcome {
    let parents = parents();
    let mut victims: Vec<Stamp> = Vec::new();
    for (_, shim) in shims_below(dir) {
        victims.push(shim);
        victims.extend(family(&parents, shim.pid));
    }
    let realms = realms(&victims);
    for victim in &victims {
        victim.kill(libc::SIGKILL);
    }
    wait_for("instances to be gone", Duration::from_secs(10), || {
        victims.iter().all(|victim| !victim.runs()).then_some(())
    })?;
    unmount_below(dir);
    for realm in realms {
        remove_realm(&realm);
    }
    Ok(())
}

/// Watching processes of any agent below `dir`.
fn shims_below(dir: &Path) -> Vec<(String, Stamp)> {
    let mut agents = vec![dir.to_owned(), dir.join("agent")];
    agents.extend(fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path().join("agent")));
    agents.sort();
    agents.dedup();
    agents.iter().flat_map(|agent| shims(agent)).collect()
}

/// The control groups that hold these processes, two levels up: `holdfast-REALM/ins_…`.
fn realms(victims: &[Stamp]) -> Vec<String> {
    let mut found: Vec<String> = victims
        .iter()
        .filter_map(|victim| fs::read_to_string(format!("/proc/{}/cgroup", victim.pid)).ok())
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            let path = line.rsplit(':').next()?;
            path.split('/').find_map(|part| part.strip_prefix("holdfast-")).map(str::to_owned)
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

fn remove_realm(realm: &str) {
    fs::remove_dir_all(Path::new("/run/holdfast").join(realm)).ok();
    let root = Path::new("/sys/fs/cgroup");
    let mut roots = vec![root.to_owned()];
    roots.extend(fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()));
    for parent in roots.iter().map(|root| root.join(format!("holdfast-{realm}"))) {
        let inner: Vec<PathBuf> =
            fs::read_dir(&parent).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        // The kernel takes a moment to see that a group is empty; an empty one left behind is harmless.
        for group in inner.iter().filter(|path| path.is_dir()).chain([&parent]) {
            wait_for("an empty control group", Duration::from_millis(500), || {
                (!group.exists() || fs::remove_dir(group).is_ok()).then_some(())
            })
            .ok();
        }
    }
}

fn unmount_below(dir: &Path) {
    let prefix = format!("{}/", dir.display());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let below = mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|at| at.starts_with(&prefix));
    for at in below.collect::<Vec<_>>().into_iter().rev() {
        let path = CString::new(at).expect("a path from the kernel has no zero byte");
        // SAFETY: the path is a valid C string for the length of the call.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    }
}
