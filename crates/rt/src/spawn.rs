//! The door to threads of our own.

use crate::SimTasks;
use std::{
    collections::VecDeque,
    fmt, io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// What a thread runs.
pub type Task = Box<dyn FnOnce() + Send + 'static>;

/// Starts work beside the caller.
pub trait Spawner: Send + Sync + fmt::Debug {
    /// Starts `task` under a name that shows in `ps` and in panics.
    fn spawn(&self, name: &str, task: Task) -> io::Result<TaskHandle>;

    /// In a simulation, where what has a thread of its own elsewhere is a task among others. Whoever
    /// blocks until such a task has done something calls [`SimTasks::settle`] first.
    fn tasks(&self) -> Option<SimTasks> {
        None
    }
}

/// A started task.
#[derive(Debug)]
pub struct TaskHandle(Started);

#[derive(Debug)]
enum Started {
    /// It runs when somebody else runs it.
    Kept,
    Thread(thread::JoinHandle<()>),
    /// Says whether it has ended.
    Sim(Arc<AtomicBool>),
}

impl TaskHandle {
    pub(crate) fn of_sim(ended: Arc<AtomicBool>) -> Self {
        Self(Started::Sim(ended))
    }

    /// Waits for its end; says whether it ended without a panic. In a simulation it waits only as long
    /// as no time passes.
    pub fn join(self) -> bool {
        match self.0 {
            Started::Kept => true,
            Started::Thread(thread) => thread.join().is_ok(),
            Started::Sim(ended) => {
                if let Some(tasks) = SimTasks::here() {
                    tasks.settle(|| ended.load(Ordering::SeqCst));
                }
                true
            }
        }
    }
}

/// One operating system thread for each task.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadSpawner;

impl Spawner for ThreadSpawner {
    fn spawn(&self, name: &str, task: Task) -> io::Result<TaskHandle> {
        thread::Builder::new().name(name.into()).spawn(task).map(|thread| TaskHandle(Started::Thread(thread)))
    }
}

/// Has this thread, and those that it starts from now on, run behind all others of the machine.
pub fn step_back() {
    if let Err(error) = rustix::process::nice(10) {
        tracing::debug!(%error, "a thread keeps its priority");
    }
}

/// Keeps tasks until the test runs them, one after the other, on its own thread. For tasks that
/// end by themselves.
#[derive(Default)]
pub struct SimSpawner(Mutex<VecDeque<(String, Task)>>);

impl SimSpawner {
    /// Runs the task that waits longest and says its name; `None` when none waits.
    pub fn run_next(&self) -> Option<String> {
        let (name, task) = self.lock().pop_front()?;
        task();
        Some(name)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(String, Task)>> {
        self.0.lock().expect("no code panics while it holds this lock")
    }
}

impl fmt::Debug for SimSpawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.lock().iter().map(|(name, _)| name)).finish()
    }
}

impl Spawner for SimSpawner {
    fn spawn(&self, name: &str, task: Task) -> io::Result<TaskHandle> {
        self.lock().push_back((name.into(), task));
        Ok(TaskHandle(Started::Kept))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn tasks_run_where_they_are_told_to() {
        let count = Arc::new(AtomicU32::new(0));
        let task = || {
            let count = Arc::clone(&count);
            Box::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
            }) as Task
        };
        let handle = ThreadSpawner.spawn("real", task()).expect("a thread");
        assert!(handle.join());
        assert_eq!(count.load(Ordering::SeqCst), 1);

        let sim = SimSpawner::default();
        sim.spawn("kept", task()).expect("kept");
        assert_eq!(count.load(Ordering::SeqCst), 1);
        assert_eq!(sim.run_next().as_deref(), Some("kept"));
        assert_eq!(count.load(Ordering::SeqCst), 2);
        assert_eq!(sim.run_next(), None);
    }
}
