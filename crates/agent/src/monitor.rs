//! Starting an instance under its monitor, `conmon`, and reading what the monitor wrote.
//!
//! The monitor is a process of its own, one for each instance, that outlives the agent: it holds
//! the instance's output and writes it to a bounded log, and it waits for the instance to end and
//! writes the exit status. See `docs/decisions/0003-instance-monitor.md`.
//!
//! ```text
//!  agent ──spawns──▶ conmon ──runs──▶ runc create ──▶ init (waits)      pid comes over a pipe
//!  agent ─────────────────────────── runc start  ──▶ init becomes the instance's process
//!                    conmon ◀── output, exit status
//! ```

use crate::{
    config::{InstancePlaces, Places},
    preflight::Tools,
    tool::detail,
};
use rustix::process::{Pid, PidfdFlags, Signal};
use serde::Deserialize;
use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
    process::Stdio,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, unix::AsyncFd},
    net::unix::pipe,
};
use types::{InstanceId, limits};

/// The runtime did not create the instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// The monitor could not be started or does not behave.
    #[error("conmon: {0}")]
    Monitor(String),
    /// `runc` refused.
    #[error("{0}")]
    Refused(String),
}

/// What `conmon` says over its pipe: the process id, or -1 and why.
#[derive(Deserialize)]
struct Said {
    data: i32,
    #[serde(default)]
    message: String,
}

/// Creates the container of a prepared bundle; its first process waits to be started.
///
/// # Errors
/// The monitor or the runtime refused.
pub(crate) async fn create(tools: &Tools, places: &Places, id: InstanceId) -> Result<i32, CreateError> {
    let broken = |error: io::Error| CreateError::Monitor(error.to_string());
    let (reader, writer) = io::pipe().map_err(broken)?;
    let mut child = spawn(tools, places, id, OwnedFd::from(writer)).map_err(broken)?;
    // The monitor lives as long as its instance; when it ends while we live, this takes its status.
    let waiting = tokio::spawn(async move { child.wait().await });
    let mut reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(broken)?;
    let mut text = Vec::new();
    let read = async {
        let mut chunk = [0; 4096];
        // One line is said; the pipe stays open as long as the monitor lives.
        while !text.contains(&b'\n') && text.len() < 64 << 10 {
            match reader.read(&mut chunk).await? {
                0 => break,
                count => text.extend_from_slice(&chunk[..count]),
            }
        }
        io::Result::Ok(())
    };
    match tokio::time::timeout(Duration::from(limits::AGENT_TOOL), read).await {
        Err(_) => return Err(CreateError::Monitor(format!("said nothing within {}", limits::AGENT_TOOL))),
        Ok(Err(error)) => return Err(broken(error)),
        Ok(Ok(())) => {}
    }
    let Some(said) = serde_json::from_slice::<Said>(&text).ok() else {
        let status = tokio::time::timeout(Duration::from_secs(1), waiting).await;
        return Err(CreateError::Monitor(format!("ended without a word: {status:?}")));
    };
    match said.data {
        pid if pid > 0 => Ok(pid),
        _ => Err(CreateError::Refused(detail(said.message.trim_start_matches("runc create failed: ")))),
    }
}

fn spawn(tools: &Tools, places: &Places, id: InstanceId, pipe: OwnedFd) -> io::Result<tokio::process::Child> {
    let own = places.instance(id);
    let bundle = own.bundle();
    let name = id.to_string();
    let quarter = (limits::INSTANCE_LOG.bytes() / 4).to_string();
    let number = pipe.as_raw_fd();
    let mut command = tokio::process::Command::new(&tools.conmon);
    command
        .args(["--api-version", "1", "--sync", "--cid", &name, "--cuuid", &name, "--name", &name])
        .arg("--runtime")
        .arg(&tools.runc)
        .arg("--bundle")
        .arg(&bundle)
        .arg("--persist-dir")
        .arg(&bundle)
        .arg("--container-pidfile")
        .arg(bundle.join("pid"))
        .arg("--log-path")
        .arg(format!("k8s-file:{}", own.log().display()))
        .args(["--log-size-max", &quarter, "--no-sync-log", "--full-attach"])
        .args(["--runtime-arg", "--root", "--runtime-arg"])
        .arg(places.runtime())
        .args(["--runtime-arg", "--log", "--runtime-arg"])
        .arg(bundle.join("runc.log"))
        .env("_OCI_SYNCPIPE", number.to_string())
        .env_remove("_OCI_STARTPIPE")
        .env_remove("NOTIFY_SOCKET")
        .current_dir(&bundle)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let keep_open = move || {
        // SAFETY of the descriptor: `pipe` is alive in the parent until after the fork.
        if unsafe { libc::fcntl(number, libc::F_SETFD, 0) } == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    };
    // SAFETY: between fork and exec only `fcntl` is called, which is async-signal-safe.
    unsafe { command.pre_exec(keep_open) };
    let child = command.spawn();
    drop(pipe);
    child
}

/// The first process of a running instance, held so that its id cannot come to mean another.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    handle: AsyncFd<OwnedFd>,
}

impl Process {
    /// Takes hold of a process.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn hold(pid: i32) -> io::Result<Self> {
        let known = Pid::from_raw(pid).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let handle = rustix::process::pidfd_open(known, PidfdFlags::NONBLOCK)?;
        // SAFETY: the descriptor is owned by the `AsyncFd` and stays open as long as that is registered.
        let handle = unsafe { AsyncFd::register_with_interest(handle, tokio::io::Interest::READABLE)? };
        Ok(Self { pid, handle })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) {
        // The handle of a process becomes readable when the process ends, and stays so. An error
        // would mean that the runtime is shutting down, and takes this task with it.
        if self.handle.readable().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Sends it a signal; fine if it has ended.
    pub(crate) fn signal(&self, signal: Signal) {
        // The only failures are that it has ended, or that we are not root any more.
        let _ = rustix::process::pidfd_send_signal(self.handle.get_ref(), signal);
    }
}

/// Waits a moment for the exit status that the monitor writes after the instance has ended.
/// `None`: the monitor died too, so nobody knows.
pub(crate) async fn exit_status(own: &InstancePlaces) -> Option<i32> {
    let path = own.exit();
    let mut waited = Duration::ZERO;
    let pause = Duration::from_millis(10);
    while waited < Duration::from_secs(1) {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if let Ok(status) = text.trim().parse() {
            return Some(status);
        }
        tokio::time::sleep(pause).await;
        waited += pause;
    }
    None
}
