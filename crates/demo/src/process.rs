//! Real processes: started with a log and a pid file, watched, and ended by their ids.

use crate::{Failure, Outcome};
use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

/// Between two looks at a fact that is waited for.
const LOOK: Duration = Duration::from_millis(10);

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C and SIGTERM make every wait fail, so that what runs is ended in order.
pub fn interrupt_on_signals() {
    extern "C" fn interrupt(_: libc::c_int) {
        INTERRUPTED.store(true, Ordering::Relaxed);
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only stores to an atomic, which a signal handler may do.
        unsafe { libc::signal(signal, interrupt as *const () as libc::sighandler_t) };
    }
}

/// Waits until `fact` gives something, and fails with what was waited for when `within` is over.
pub fn wait_for<T>(what: &str, within: Duration, mut fact: impl FnMut() -> Option<T>) -> Outcome<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = fact() {
            return Ok(found);
        }
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err(Failure(format!("interrupted while waiting for: {what}")));
        }
        if start.elapsed() > within {
            return Err(Failure(format!("waited {} s in vain for: {what}", within.as_secs_f32())));
        }
        sleep(LOOK);
    }
}

/// When a process was started, in the kernel's ticks: with the id it names a process for good.
pub fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program is in brackets and may hold anything; fields are counted after it.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 2..].split(' ').collect();
    (fields.first() != Some(&"Z")).then(|| fields.get(19)?.parse().ok())?
}

/// Whether a process runs; a zombie does not.
pub fn alive(pid: u32) -> bool {
    started(pid).is_some()
}

/// Sends a signal to one process. A process that is gone already is fine.
pub fn kill(pid: u32, signal: i32) {
    let pid = i32::try_from(pid).expect("the kernel's process ids fit");
    assert!(pid > 1, "never a group, never init");
    // SAFETY: plain system call without memory; the id is of one process.
    unsafe { libc::kill(pid, signal) };
}

/// A process named for good: its id and when it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Its id.
    pub pid: u32,
    /// Its start, as in [`started`].
    pub started: u64,
}

impl Stamp {
    /// The process that has this id now.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: started(pid)? })
    }

    /// Whether this very process still runs.
    pub fn runs(self) -> bool {
        started(self.pid) == Some(self.started)
    }

    /// Sends a signal if this very process still runs.
    pub fn kill(self, signal: i32) {
        if self.runs() {
            kill(self.pid, signal);
        }
    }
}

/// A child with its log file and pid file; killed when dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    pid_file: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `dir/logs/NAME.log` and its id in
    /// `dir/pids/NAME`.
    ///
    /// # Errors
    /// The program cannot be started, or its files cannot be made.
    pub fn start(dir: &Path, name: &str, command: &mut Command) -> Outcome<Self> {
        let fail = |error| Failure::new(format!("start {name} ({command:?})"), error);
        let (logs, pids) = (dir.join("logs"), dir.join("pids"));
        fs::create_dir_all(&logs).and_then(|()| fs::create_dir_all(&pids)).map_err(fail)?;
        let log = logs.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).map_err(fail)?;
        let other = file.try_clone().map_err(fail)?;
        let child = match command.stdin(Stdio::null()).stdout(file).stderr(other).spawn() {
            Ok(child) => child,
            Err(error) => return Err(Failure::new(format!("start {name} ({command:?})"), error)),
        };
        let pid_file = pids.join(name);
        let stamp = format!("{} {}\n", child.id(), started(child.id()).unwrap_or_default());
        let process = Self { name: name.to_owned(), child, log, pid_file };
        fs::write(&process.pid_file, stamp)
            .map_err(|error| Failure::new(format!("write {}", process.pid_file.display()), error))?;
        Ok(process)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// The end of its output, for messages.
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Ends it as a power cut would: SIGKILL, and it is reaped.
    pub fn kill_hard(mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// SIGTERM, and SIGKILL when `grace` is over. Returns how it ended.
    ///
    /// # Errors
    /// The child cannot be waited for.
    pub fn terminate(mut self, grace: Duration) -> Outcome<ExitStatus> {
        kill(self.pid(), libc::SIGTERM);
        let name = self.name.clone();
        if let Ok(status) = wait_for(&format!("{name} to end"), grace, || self.ended()) {
            return Ok(status);
        }
        self.child.kill().ok();
        self.child.wait().map_err(|error| Failure::new(format!("wait for {name}"), error))
    }

    /// Waits until `fact` gives something while the process lives.
    ///
    /// # Errors
    /// The process ended or the time is over; with the end of its output.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        within: Duration,
        mut fact: impl FnMut() -> Option<T>,
    ) -> Outcome<T> {
        let start = Instant::now();
        loop {
            if let Some(found) = fact() {
                return Ok(found);
            }
            let end = self.ended();
            if end.is_some() || start.elapsed() > within {
                let how = end.map_or("is too slow".to_owned(), |status| {
                    status
                        .signal()
                        .map_or(format!("ended ({status})"), |signal| format!("was killed ({signal})"))
                });
                let (name, words) = (&self.name, self.last_words());
                return Err(Failure(format!("{name} {how}, waiting for {what}; its log ends:\n{words}")));
            }
            sleep(LOOK);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.child.kill().ok();
            self.child.wait().ok();
        }
        fs::remove_file(&self.pid_file).ok();
    }
}
