//! Tasks of simulated processes, on one thread, in an order that one seed decides.
//!
//! ```text
//!   ready tasks ──(dice)──► poll one ──► those it woke become ready, in the order of their numbers
//!        ▲                                                            │
//!        └── tokio's paused clock jumps to the next timer ◄── nobody is ready
//! ```
//!
//! Which task runs next depends on the seed and on the *set* of tasks that are ready, never on the
//! order in which they were woken: so nothing that tokio decides by its own dice can be seen. Every
//! task belongs to a process; a process can be stopped for a while, and killed, which drops all its
//! tasks where they are.

use crate::{JoinHandle, SimRandom, Spawner, Task, TaskHandle};
use std::{
    any::Any,
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::{Future, poll_fn},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};
use tokio::sync::oneshot;

/// So many polls without the time moving are taken for a loop that never waits.
const POLLS_WITHOUT_TIME: u64 = 200_000;

/// A simulated process. 0 is the world outside of all of them, which is never stopped or killed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process(pub u64);

/// The tasks of one simulation. Clones are the same.
#[derive(Clone)]
pub struct SimTasks(Rc<Inner>);

struct Inner {
    slots: RefCell<BTreeMap<u64, Slot>>,
    next: Cell<u64>,
    inbox: Arc<Inbox>,
    ready: RefCell<Vec<u64>>,
    stopped: RefCell<BTreeSet<Process>>,
    killed: RefCell<BTreeSet<Process>>,
    current: Cell<Process>,
    random: SimRandom,
    dice: SimRandom,
    trace: Cell<u64>,
    polls: Cell<u64>,
    panics: RefCell<Vec<(Process, String)>>,
}

struct Slot {
    process: Process,
    /// Not here while it is polled.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    wake: Arc<WakeOne>,
}

#[derive(Default)]
struct Inbox {
    woken: Mutex<Vec<u64>>,
    outside: Mutex<Option<Waker>>,
}

struct WakeOne {
    task: u64,
    queued: AtomicBool,
    inbox: Arc<Inbox>,
}

impl Wake for WakeOne {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.queued.swap(true, Ordering::SeqCst) {
            return;
        }
        self.inbox.woken.lock().expect("no code panics while it holds this lock").push(self.task);
        let outside = self.inbox.outside.lock().expect("no code panics while it holds this lock").take();
        if let Some(outside) = outside {
            outside.wake();
        }
    }
}

thread_local! {
    static HERE: RefCell<Option<SimTasks>> = const { RefCell::new(None) };
}

/// While it lives, this thread is inside of a simulation.
struct Inside;

impl Drop for Inside {
    fn drop(&mut self) {
        HERE.with_borrow_mut(Option::take);
    }
}

impl fmt::Debug for SimTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimTasks").field("polls", &self.0.polls.get()).finish_non_exhaustive()
    }
}

impl SimTasks {
    /// No tasks yet.
    pub fn new(seed: u64) -> Self {
        let random = SimRandom::new(seed);
        Self(Rc::new(Inner {
            slots: RefCell::default(),
            next: Cell::new(1),
            inbox: Arc::default(),
            ready: RefCell::default(),
            stopped: RefCell::default(),
            killed: RefCell::default(),
            current: Cell::default(),
            dice: SimRandom::new(random.u64()),
            random,
            trace: Cell::new(seed),
            polls: Cell::new(0),
            panics: RefCell::default(),
        }))
    }

    /// The simulation that this thread is inside of, if any.
    pub fn here() -> Option<Self> {
        HERE.with_borrow(Clone::clone)
    }

    /// The process whose task runs now.
    pub fn process(&self) -> Process {
        self.0.current.get()
    }

    /// Dice for code that wants some; apart from those that choose tasks.
    pub fn dice(&self) -> u64 {
        self.0.dice.u64()
    }

    /// A number that depends on everything that has happened so far: which task ran when, and what was
    /// [noted](Self::note).
    pub fn trace(&self) -> u64 {
        self.0.trace.get()
    }

    /// Makes this a part of the trace.
    pub fn note(&self, what: u64) {
        let mixed = (self.0.trace.get() ^ what).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0.trace.set(mixed ^ (mixed >> 29));
    }

    /// How many times a task was polled.
    pub fn polls(&self) -> u64 {
        self.0.polls.get()
    }

    /// Panics of tasks since the last call.
    pub fn panics(&self) -> Vec<(Process, String)> {
        self.0.panics.take()
    }

    /// Starts a task of the process that runs now.
    pub fn spawn<F: Future + 'static>(&self, future: F) -> JoinHandle<F::Output> {
        self.spawn_in(self.process(), future)
    }

    /// Starts a task of this process. One that was killed starts nothing any more.
    pub fn spawn_in<F: Future + 'static>(&self, process: Process, future: F) -> JoinHandle<F::Output> {
        let (tell, told) = oneshot::channel();
        let task = self.0.next.replace(self.0.next.get() + 1);
        let handle = JoinHandle::of_sim(task, told);
        if self.0.killed.borrow().contains(&process) {
            return handle;
        }
        let future = async move {
            let _nobody_waits = tell.send(future.await);
        };
        let wake =
            Arc::new(WakeOne { task, queued: AtomicBool::new(false), inbox: Arc::clone(&self.0.inbox) });
        wake.wake_by_ref();
        let slot = Slot { process, future: Some(Box::pin(future)), wake };
        self.0.slots.borrow_mut().insert(task, slot);
        handle
    }

    /// The process gets no turn from now on, until [`Self::go_on`].
    pub fn stop(&self, process: Process) {
        self.0.stopped.borrow_mut().insert(process);
    }

    /// The process runs again, as if nothing had been.
    pub fn go_on(&self, process: Process) {
        self.0.stopped.borrow_mut().remove(&process);
    }

    /// Ends a process: its tasks are dropped where they are, at once or, for the one that asks, when it
    /// next waits.
    pub fn kill(&self, process: Process) {
        assert_ne!(process, Process::default(), "the world cannot be killed");
        self.0.killed.borrow_mut().insert(process);
        self.0.stopped.borrow_mut().remove(&process);
        let dead: Vec<Slot> = {
            let mut slots = self.0.slots.borrow_mut();
            let dead: Vec<u64> =
                slots.iter().filter(|(_, slot)| slot.process == process).map(|(task, _)| *task).collect();
            dead.iter().filter_map(|task| slots.remove(task)).collect()
        };
        // What they do while they are dropped is done by them.
        let before = self.0.current.replace(process);
        drop(dead);
        self.0.current.set(before);
    }

    /// Runs everything until `main` is done, on a tokio runtime of one thread whose clock is paused. The
    /// time moves only when no task is ready.
    pub async fn run<T: 'static>(&self, main: impl Future<Output = T> + 'static) -> T {
        let done = Rc::new(RefCell::new(None));
        let result = Rc::clone(&done);
        self.spawn_in(Process::default(), async move {
            *result.borrow_mut() = Some(main.await);
        });
        // Without tokio's budget for a task, which would make them wait for nothing.
        tokio::task::coop::unconstrained(poll_fn(move |context| {
            HERE.set(Some(self.clone()));
            let _inside = Inside;
            let outside = &self.0.inbox.outside;
            *outside.lock().expect("no code panics while it holds this lock") = Some(context.waker().clone());
            for _ in 0..POLLS_WITHOUT_TIME {
                if let Some(result) = done.borrow_mut().take() {
                    return Poll::Ready(result);
                }
                if !self.step(|_| true) {
                    return Poll::Pending;
                }
            }
            panic!("{POLLS_WITHOUT_TIME} steps without the time moving: somebody never waits");
        }))
        .await
    }

    /// Runs tasks of the process that runs now, until none of them is ready or this is so: for code that
    /// blocks its thread until another has done something.
    pub fn settle(&self, is_so: impl Fn() -> bool) {
        let process = self.process();
        while !is_so() && self.step(|other| other == process) {}
    }

    /// Starts a task in place of a thread.
    pub fn spawn_loop(&self, future: impl Future<Output = ()> + 'static) -> TaskHandle {
        let done = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&done);
        self.spawn(async move {
            future.await;
            ended.store(true, Ordering::SeqCst);
        });
        TaskHandle::of_sim(done)
    }

    pub(crate) fn forget(&self, task: u64) {
        let slot = self.0.slots.borrow_mut().remove(&task);
        drop(slot);
    }

    /// Forgets all tasks. What they held is dropped.
    pub fn clear(&self) {
        HERE.set(Some(self.clone()));
        let _inside = Inside;
        let slots = std::mem::take(&mut *self.0.slots.borrow_mut());
        for slot in slots.values() {
            self.0.killed.borrow_mut().insert(slot.process);
        }
        drop(slots);
    }

    /// Polls one ready task of these processes; false when there is none.
    fn step(&self, of: impl Fn(Process) -> bool) -> bool {
        let Some((task, process, mut future, wake)) = self.choose(of) else { return false };
        self.0.polls.set(self.0.polls.get() + 1);
        self.note(task);
        wake.queued.store(false, Ordering::SeqCst);
        let waker = Waker::from(wake);
        let before = self.0.current.replace(process);
        let polled =
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        match polled {
            Ok(Poll::Pending) => {
                // Gone if the process was killed meanwhile.
                if let Some(slot) = self.0.slots.borrow_mut().get_mut(&task) {
                    slot.future = Some(future);
                    future = Box::pin(std::future::ready(()));
                }
            }
            Ok(Poll::Ready(())) => {
                self.0.slots.borrow_mut().remove(&task);
            }
            Err(panic) => {
                self.0.slots.borrow_mut().remove(&task);
                self.0.panics.borrow_mut().push((process, text_of(panic.as_ref())));
            }
        }
        drop(future);
        self.0.current.set(before);
        true
    }

    #[allow(clippy::type_complexity, reason = "the parts of one slot")]
    fn choose(
        &self,
        of: impl Fn(Process) -> bool,
    ) -> Option<(u64, Process, Pin<Box<dyn Future<Output = ()>>>, Arc<WakeOne>)> {
        let mut woken =
            std::mem::take(&mut *self.0.inbox.woken.lock().expect("no code panics while it holds this lock"));
        woken.sort_unstable();
        let mut slots = self.0.slots.borrow_mut();
        let mut ready = self.0.ready.borrow_mut();
        ready.extend(woken);
        ready.retain(|task| slots.contains_key(task));
        let stopped = self.0.stopped.borrow();
        let may = |task: &u64| {
            let slot = &slots[task];
            slot.future.is_some() && of(slot.process) && !stopped.contains(&slot.process)
        };
        let places: Vec<usize> =
            ready.iter().enumerate().filter(|(_, task)| may(task)).map(|(place, _)| place).collect();
        if places.is_empty() {
            return None;
        }
        let task = ready.remove(places[self.0.random.below(places.len() as u64) as usize]);
        let slot = slots.get_mut(&task).expect("ready tasks have a slot");
        let future = slot.future.take().expect("only those with a future were chosen from");
        Some((task, slot.process, future, Arc::clone(&slot.wake)))
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

/// Starts tasks of the simulation in place of threads.
#[derive(Clone, Copy, Debug, Default)]
pub struct SimTaskSpawner;

impl Spawner for SimTaskSpawner {
    /// Only what waits by `await` can share a thread with everything else: see [`Spawner::tasks`].
    fn spawn(&self, name: &str, _task: Task) -> io::Result<TaskHandle> {
        Err(io::Error::other(format!("{name} blocks its thread, and a simulation has only one")))
    }

    fn tasks(&self) -> Option<SimTasks> {
        SimTasks::here()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn runtime() -> tokio::runtime::Runtime {
        let built = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        built.expect("a runtime")
    }

    /// Several tasks that wait for each other by tokio's means, two of which are stopped and killed.
    fn story(seed: u64) -> (u64, Vec<u32>) {
        let tasks = SimTasks::new(seed);
        let inside = tasks.clone();
        let seen = runtime().block_on(tasks.run(async move {
            let (tell, told) = tokio::sync::watch::channel(0_u32);
            let (send, mut got) = tokio::sync::mpsc::channel(100);
            for number in 0..10_u32 {
                let (mut told, send) = (told.clone(), send.clone());
                inside.spawn_in(Process(u64::from(1 + number % 3)), async move {
                    while told.changed().await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(u64::from(number % 4))).await;
                        if send.send(number).await.is_err() {
                            return;
                        }
                    }
                });
            }
            for round in 0..5 {
                tell.send_replace(round);
                match round {
                    1 => inside.stop(Process(1)),
                    2 => inside.kill(Process(2)),
                    3 => inside.go_on(Process(1)),
                    _ => {}
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            drop((tell, send));
            let mut all = Vec::new();
            while let Some(number) = got.recv().await {
                all.push(number);
            }
            all
        }));
        (tasks.trace(), seen)
    }

    #[test]
    fn the_same_seed_gives_the_same_order_and_another_gives_another() {
        for seed in 0..20 {
            assert_eq!(story(seed), story(seed));
        }
        assert_ne!(story(1), story(2));
    }

    #[test]
    fn a_process_stops_goes_on_and_dies() {
        let (_, seen) = story(3);
        let of = |process: u32| seen.iter().filter(|number| **number % 3 == process - 1).count();
        assert_eq!(of(3), 15, "undisturbed");
        assert_eq!(of(1), 4 * 3, "told three times while it was stopped, it sees the last");
        assert_eq!(of(2), 6, "two rounds, and then it was killed");
    }

    #[test]
    fn whoever_blocks_lets_its_own_process_run() {
        let tasks = SimTasks::new(1);
        let inside = tasks.clone();
        let answer = runtime().block_on(tasks.run(async move {
            let (tell, told) = std::sync::mpsc::sync_channel(1);
            inside.spawn(async move {
                crate::give_way().await;
                tell.send(7).expect("somebody waits");
            });
            inside.settle(|| false);
            told.try_recv()
        }));
        assert_eq!(answer, Ok(7));
    }

    #[test]
    fn a_panic_is_kept_and_ends_only_its_task() {
        let tasks = SimTasks::new(1);
        let inside = tasks.clone();
        let gone = runtime().block_on(tasks.run(async move {
            inside.spawn_in(Process(4), async { panic!("as it was meant to") }).await.is_err()
        }));
        assert!(gone);
        assert_eq!(tasks.panics(), [(Process(4), "as it was meant to".to_owned())]);
    }
}
