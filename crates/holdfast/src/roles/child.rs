//! A role as a child process: started, watched, started again after a wait that grows.
//!
//! Invariant: whatever becomes of one child, the others are not touched. Only a child that was told
//! to [`Stance::Tell`] may end its watcher, and only at its first start.

use crate::failure::Failure;
use std::{ffi::OsString, net::SocketAddr, process::ExitStatus, time::Duration};
use tokio::{
    process::{Child, Command},
    time::Instant,
};
use types::limits;

/// This program, even after its file was replaced or removed: a role that is started again is the
/// same program as the one that starts it.
const SELF: &str = "/proc/self/exe";

/// One role as it is started, again and again.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The verb of the command line.
    pub name: &'static str,
    /// Its flags. Not text: a path need not be one.
    pub args: Vec<OsString>,
}

/// What a first start that fails means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    /// A mistake of whoever set this up: it is told, and ends everything.
    Tell,
    /// Bad luck of a machine that is in use: it is tried again.
    Retry,
}

/// A child that ends this soon after its first start has not started.
const FIRST_START: Duration = Duration::from_secs(5);

/// A child that has lived this long is told of as running.
const SETTLED: Duration = Duration::from_secs(1);

/// A child, and how often it had to be started.
#[derive(Debug)]
pub struct Watched {
    spec: Spec,
    child: Option<Child>,
    started: Instant,
    wait: Duration,
    again_at: Option<Instant>,
    stance: Stance,
}

impl Watched {
    /// Starts a child.
    ///
    /// # Errors
    /// It cannot be started, and that is to be told.
    pub fn start(spec: Spec, stance: Stance) -> Result<Self, Failure> {
        let (started, wait) = (Instant::now(), limits::RESTART_BACKOFF_MIN.into());
        let mut watched = Self { spec, child: None, started, wait, again_at: None, stance };
        watched.begin()?;
        Ok(watched)
    }

    /// From now on its end is no mistake of anybody: it has been seen at work.
    pub fn has_started(&mut self) {
        self.stance = Stance::Retry;
    }

    /// Whether it has run long enough to say that it has started: what cannot start ends at once.
    pub fn is_settled(&self) -> bool {
        self.child.is_some() && self.started.elapsed() >= SETTLED
    }

    /// Whether this child, and no other process, listens there. Where the kernel does not tell, it is
    /// enough that the child runs, for it ends when it does not get its port.
    pub fn listens_on(&self, address: SocketAddr) -> bool {
        let pid = self.child.as_ref().and_then(Child::id);
        pid.is_some_and(|pid| super::port::held_by(pid, address).unwrap_or(true))
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().ok().flatten()
    }

    /// Looks after the child: notes its end, and starts it again when its time has come.
    ///
    /// # Errors
    /// It did not even start the first time, and that is to be told.
    pub fn tend(&mut self) -> Result<(), Failure> {
        if let Some(status) = self.ended() {
            self.child = None;
            let lived = self.started.elapsed();
            if self.stance == Stance::Tell && lived < FIRST_START {
                return Err(failed(self.spec.name, status));
            }
            if lived >= Duration::from(limits::RESTART_BACKOFF_RESET) {
                self.wait = limits::RESTART_BACKOFF_MIN.into();
            }
            self.again_later(&format!("it has ended ({status}) and said why above"));
        }
        if self.again_at.is_some_and(|at| Instant::now() >= at) {
            self.again_at = None;
            self.stance = Stance::Retry;
            self.begin()?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), Failure> {
        self.started = Instant::now();
        match spawn(&self.spec) {
            Ok(child) => self.child = Some(child),
            Err(error) if self.stance == Stance::Tell => {
                let what = format!("the {} cannot be started: {error}", self.spec.name);
                return Err(Failure::cannot_start(what, None));
            }
            // One more start that failed: memory or process ids may be short for a moment.
            Err(error) => self.again_later(&format!("it cannot be started: {error}")),
        }
        Ok(())
    }

    fn again_later(&mut self, why: &str) {
        tracing::error!(role = self.spec.name, why, again_in = ?self.wait, "a role does not run");
        self.again_at = Some(Instant::now() + self.wait);
        self.wait = (self.wait * 2).min(limits::RESTART_BACKOFF_MAX.into());
    }

    /// Ends the child, in order if it can.
    pub async fn stop(self) {
        let Some(mut child) = self.child else { return };
        if let Some(pid) = child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            // Fails only if it has ended already, which is what is wanted.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let grace = Duration::from(limits::EDGE_DRAIN) + Duration::from(limits::STOP_GRACE);
        if tokio::time::timeout(grace, child.wait()).await.is_err() {
            tracing::warn!(role = self.spec.name, "it does not stop; killing it");
            let _ = child.kill().await;
        }
    }
}

fn failed(name: &str, status: ExitStatus) -> Failure {
    let mut failure =
        Failure::cannot_start(format!("the {name} has ended ({status}); it said why above"), None);
    failure.exit =
        status.code().and_then(|code| u8::try_from(code).ok()).filter(|code| *code != 0).unwrap_or(1);
    failure
}

fn spawn(spec: &Spec) -> std::io::Result<Child> {
    let mut command = Command::new(SELF);
    // A group of its own: Ctrl-C reaches `up` alone, which then stops its children in order.
    command.arg0("holdfast").arg(spec.name).args(&spec.args).process_group(0);
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec only two system calls are made, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            // Without `up` a child would hold its ports and its data directory with nobody to stop it.
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
            if rustix::process::getppid() != Some(parent) {
                return Err(std::io::ErrorKind::Interrupted.into());
            }
            Ok(())
        });
    }
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child whose start fails: the kernel takes no argument with a zero byte in it.
    fn impossible() -> Spec {
        Spec { name: "edge", args: vec![OsString::from("a\0b")] }
    }

    #[tokio::test]
    async fn a_start_that_fails_is_told_once_and_tried_again_later() {
        let told = Watched::start(impossible(), Stance::Tell).expect_err("a mistake");
        assert_eq!(told.exit, 1);
        assert!(told.text().contains("the edge cannot be started"), "{}", told.text());

        let mut child = Watched::start(impossible(), Stance::Retry).expect("it goes on");
        let first = child.again_at.expect("another time");
        child.again_at = Some(Instant::now());
        child.tend().expect("a failed start ends nothing");
        assert!(child.again_at.expect("another time") > first, "and the wait grows");
    }
}
