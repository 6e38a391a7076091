//! What the machine must have before an agent starts: each lack is one error that says what to do.

use std::{
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// The machine, or the way the agent was started, does not do.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    /// Not root.
    #[error(
        "the agent makes namespaces, mounts and control groups and so must run as root; start it with: sudo holdfast agent"
    )]
    NotRoot,
    /// A program is missing.
    #[error("{tool} is not installed; on Debian and Ubuntu: apt-get install -y {package}")]
    ToolMissing {
        /// The program.
        tool: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program does not work.
    #[error("{tool} does not work here: {why}")]
    ToolBroken {
        /// The program.
        tool: &'static str,
        /// What it said.
        why: String,
    },
    /// The runtime cannot filter system calls.
    #[error(
        "this runc was built without seccomp and could not confine instances; install Debian's: apt-get install -y runc"
    )]
    NoSeccomp,
    /// No control groups that can cap memory.
    #[error(
        "no control group hierarchy with the memory controller is mounted at /sys/fs/cgroup; boot with cgroups enabled (kernel option cgroup_enable=memory)"
    )]
    NoMemoryController,
    /// The path of the data directory cannot be used in mount options.
    #[error("the data directory {} must be an absolute path without ':' ',' '\\' and newlines", path.display())]
    DataDir {
        /// The path.
        path: PathBuf,
    },
}

/// The programs the agent calls, by absolute path.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) runc: PathBuf,
    pub(crate) conmon: PathBuf,
    pub(crate) ip: PathBuf,
    pub(crate) nsenter: PathBuf,
}

/// Places where system programs are, whatever the caller's search path says.
const PROGRAM_DIRS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

fn find(tool: &'static str, package: &'static str) -> Result<PathBuf, PreflightError> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let searched: Vec<PathBuf> = std::env::split_paths(&path).filter(|dir| dir.is_absolute()).collect();
    searched
        .into_iter()
        .chain(PROGRAM_DIRS.iter().map(PathBuf::from))
        .map(|dir| dir.join(tool))
        .find(|candidate| candidate.is_file())
        .ok_or(PreflightError::ToolMissing { tool, package })
}

/// Whether an agent could start here with this data directory, as far as can be told before anything
/// is made.
///
/// # Errors
/// The first thing that is missing.
pub fn preflight(data_dir: &Path) -> Result<(), PreflightError> {
    check(data_dir).map(drop)
}

/// Checks who we are and finds the programs.
///
/// # Errors
/// The first thing that is missing.
pub(crate) fn check(data_dir: &Path) -> Result<Tools, PreflightError> {
    if !rustix::process::geteuid().is_root() {
        return Err(PreflightError::NotRoot);
    }
    let awkward = data_dir.as_os_str().as_bytes().iter().any(|byte| b":,\\\n".contains(byte));
    if awkward || !data_dir.is_absolute() {
        return Err(PreflightError::DataDir { path: data_dir.to_path_buf() });
    }
    let tools = Tools {
        runc: find("runc", "runc")?,
        conmon: find("conmon", "conmon")?,
        ip: find("ip", "iproute2")?,
        nsenter: find("nsenter", "util-linux")?,
    };
    let said = std::process::Command::new(&tools.runc).arg("--version").output();
    let said = said.map_err(|error| PreflightError::ToolBroken { tool: "runc", why: error.to_string() })?;
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr).trim().to_owned();
        return Err(PreflightError::ToolBroken { tool: "runc", why });
    }
    if !String::from_utf8_lossy(&said.stdout).contains("libseccomp") {
        return Err(PreflightError::NoSeccomp);
    }
    Ok(tools)
}
