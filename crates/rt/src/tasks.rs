//! The door to asynchronous tasks: tokio's, or those of a simulation.
//!
//! What is spawned through this door runs on tokio, unless the thread is inside of a simulation (see
//! [`crate::SimTasks`]): then it belongs to the simulated process that spawned it, and dies with it.

use crate::SimTasks;
use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::oneshot;

/// A spawned task, which goes on when this is dropped. Resolves to what the task gave.
#[derive(Debug)]
pub struct JoinHandle<T>(Kind<T>);

#[derive(Debug)]
enum Kind<T> {
    Tokio(tokio::task::JoinHandle<T>),
    Sim(u64, oneshot::Receiver<T>),
}

/// A task ended without a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskGone {
    /// It panicked; otherwise it was stopped.
    pub panicked: bool,
}

impl fmt::Display for TaskGone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.panicked { "the task panicked" } else { "the task was stopped" })
    }
}

impl std::error::Error for TaskGone {}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, TaskGone>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Kind::Tokio(handle) => {
                let gone = |error: tokio::task::JoinError| TaskGone { panicked: error.is_panic() };
                Pin::new(handle).poll(context).map(|result| result.map_err(gone))
            }
            Kind::Sim(_, told) => {
                Pin::new(told).poll(context).map(|result| result.map_err(|_| TaskGone { panicked: false }))
            }
        }
    }
}

impl<T> JoinHandle<T> {
    pub(crate) fn of_sim(task: u64, told: oneshot::Receiver<T>) -> Self {
        Self(Kind::Sim(task, told))
    }

    /// Stops the task when it next waits, if it has not ended.
    pub fn abort(&self) {
        match &self.0 {
            Kind::Tokio(handle) => handle.abort(),
            Kind::Sim(task, _) => {
                if let Some(tasks) = SimTasks::here() {
                    tasks.forget(*task);
                }
            }
        }
    }
}

/// Starts a task. Outside of a simulation it must be called within a tokio runtime.
#[allow(clippy::disallowed_methods, reason = "this is the door")]
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    match SimTasks::here() {
        Some(tasks) => tasks.spawn(future),
        None => JoinHandle(Kind::Tokio(tokio::spawn(future))),
    }
}

/// Does work that may block: beside the runtime, and in a simulation at once.
///
/// # Errors
/// It panicked, or the runtime is ending.
#[allow(clippy::disallowed_methods, reason = "this is the door")]
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TaskGone> {
    if SimTasks::here().is_some() {
        return Ok(work());
    }
    let gone = |error: tokio::task::JoinError| TaskGone { panicked: error.is_panic() };
    tokio::task::spawn_blocking(work).await.map_err(gone)
}

/// Lets other tasks go first.
pub async fn give_way() {
    if SimTasks::here().is_none() {
        return tokio::task::yield_now().await;
    }
    let mut gave = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut gave, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
