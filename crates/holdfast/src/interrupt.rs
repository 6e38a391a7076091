//! Ctrl-C and SIGTERM in the middle of a command: what is true at that moment is said, and the exit
//! code says it too.
//!
//! A write whose answer is not there yet may have been executed; without its request id nobody could
//! find out. At a prompt nothing was done. Only commands that said so beforehand are watched: any other
//! ends as the system ends it.

use crate::{failure::Failure, output::Form};
use std::sync::{
    Mutex, MutexGuard, Once, PoisonError,
    mpsc::{SyncSender, sync_channel},
};
use tokio::signal::unix::{SignalKind, signal};

/// What an interruption means now.
static NOW: Mutex<Option<(Failure, Form)>> = Mutex::new(None);
/// What a shell says of a process that Ctrl-C has ended.
const INTERRUPTED: i32 = 128 + 2;
static WATCH: Once = Once::new();

fn now() -> MutexGuard<'static, Option<(Failure, Form)>> {
    NOW.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on, an interruption means this.
pub fn means(failure: Failure, form: Form) {
    *now() = Some((failure, form));
    WATCH.call_once(|| {
        // Until signals are watched for, the system's own way is left: the process ends and says nothing.
        let (ready, watched) = sync_channel(1);
        let _thread = std::thread::Builder::new().name("signals".to_owned()).spawn(|| watch(ready));
        // An error as well as a word: there is nobody to wait for any more.
        let _ready = watched.recv();
    });
}

/// What was said before is no longer so: an interruption ends the process and says nothing.
pub fn means_nothing() {
    *now() = None;
}

fn watch(ready: SyncSender<()>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let listen = |kind| signal(kind).ok();
        let Some((mut int, mut term)) = listen(SignalKind::interrupt()).zip(listen(SignalKind::terminate()))
        else {
            return;
        };
        drop(ready);
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
        }
    });
    // Held until the end: what the command finds out from now on comes too late.
    let told = now();
    if let Some((failure, form)) = told.as_ref() {
        // Behind the question that was not answered, or the progress that is shown.
        if *form == Form::Text {
            crate::output::note("");
        }
        let _said = failure.report(*form);
        std::process::exit(i32::from(failure.exit));
    }
    std::process::exit(INTERRUPTED);
}
