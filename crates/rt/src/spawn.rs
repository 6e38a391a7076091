//! The door to threads of our own.

use std::{collections::VecDeque, fmt, io, sync::Mutex, thread};

/// What a thread runs.
pub type Task = Box<dyn FnOnce() + Send + 'static>;

/// Starts work beside the caller.
pub trait Spawner: Send + Sync + fmt::Debug {
    /// Starts `task` under a name that shows in `ps` and in panics.
    fn spawn(&self, name: &str, task: Task) -> io::Result<TaskHandle>;
}

/// A started task.
#[derive(Debug)]
pub struct TaskHandle(Option<thread::JoinHandle<()>>);

impl TaskHandle {
    /// Waits for its end; says whether it ended without a panic.
    pub fn join(self) -> bool {
        self.0.is_none_or(|thread| thread.join().is_ok())
    }
}

/// One operating system thread for each task.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadSpawner;

impl Spawner for ThreadSpawner {
    fn spawn(&self, name: &str, task: Task) -> io::Result<TaskHandle> {
        thread::Builder::new().name(name.into()).spawn(task).map(|thread| TaskHandle(Some(thread)))
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
        Ok(TaskHandle(None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

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
