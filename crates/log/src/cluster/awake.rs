//! Keeps the thread of consensus awake while appends are on their way.
//!
//! An append wakes that thread twice: when it is handed over, and when it is durable. On an idle machine each
//! costs more than everything else that consensus does for it, a virtual one above all. So the thread polls
//! instead of sleeping, until nothing has moved for [`AWAKE`], and lets every other thread go first that wants
//! its core. The writer of the log does the same (`wal/member.rs`). With one appender both together are the
//! difference between half of the bare log's rate and 0.87 of it (`make bench`).

use super::{gate::Gate, log::lock};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::time::Instant;

/// Somewhat more than a quick disk takes to sync. On a slower one a wake-up is a small part of an append, and
/// this is all that is polled in vain for each.
const AWAKE: Duration = Duration::from_micros(200);

/// Never ends. For a thread of its own only: on a shared one it would keep others from their work.
pub(super) async fn stay_awake(gate: Arc<Mutex<Gate>>) {
    let handed = lock(&gate).handed();
    loop {
        handed.notified().await;
        let (mut seen, mut since) = (0, Instant::now());
        while since.elapsed() < AWAKE {
            let moves = lock(&gate).moves();
            if moves != seen {
                (seen, since) = (moves, Instant::now());
            }
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
    }
}
