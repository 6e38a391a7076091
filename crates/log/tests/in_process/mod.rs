//! Members of one process: messages are passed in memory, and can be cut off, held up and lost.

#![allow(dead_code, reason = "each test takes what it needs of this")]

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use holdfast_log::{
    Batch, Log,
    cluster::{ClusterLog, Member, Transport, TransportError},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use types::{NodeId, Term};

/// For what must come.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Patient, because everything in these tests shares two cores.
pub const ELECTION: (Duration, Duration) = (Duration::from_millis(1500), Duration::from_millis(2500));
pub const HEARTBEAT: Duration = Duration::from_millis(150);

pub fn id(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

pub fn event(text: &str) -> Batch {
    Batch::new(vec![Bytes::copy_from_slice(text.as_bytes())])
}

/// Waits, bounded, for what must come.
pub fn soon<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Who runs, and what befalls messages.
#[derive(Default)]
pub struct Board {
    members: Mutex<BTreeMap<NodeId, ClusterLog>>,
    /// Whom nothing reaches, and who reaches nobody.
    cut: Mutex<BTreeSet<NodeId>>,
    /// No answer of this member arrives once it has an entry of a term after this one.
    mute: Mutex<Option<(NodeId, Term)>>,
    /// How long a message takes.
    delay: Mutex<Duration>,
}

impl Board {
    pub fn starts(&self, log: ClusterLog) {
        self.members.lock().expect("no panics").insert(log.node(), log);
    }

    /// Nobody reaches it any more.
    pub fn ends(&self, node: NodeId) -> ClusterLog {
        self.members.lock().expect("no panics").remove(&node).expect("it runs")
    }

    pub fn member(&self, node: NodeId) -> ClusterLog {
        self.members.lock().expect("no panics")[&node].clone()
    }

    /// The one to whom this one speaks.
    pub fn reach(&self, from: NodeId, to: NodeId) -> Result<ClusterLog, TransportError> {
        let gone = || TransportError::Unreachable("nobody is there".into());
        if self.is_cut(from, to) {
            return Err(gone());
        }
        self.members.lock().expect("no panics").get(&to).cloned().ok_or_else(gone)
    }

    pub fn running(&self) -> Vec<ClusterLog> {
        self.members.lock().expect("no panics").values().cloned().collect()
    }

    /// Waits for the one that may write.
    pub fn leader(&self) -> ClusterLog {
        soon("a leader", || {
            let leads = self.running().into_iter().filter(|log| log.authority().borrow().is_some());
            leads.max_by_key(|log| log.authority().borrow().map(|authority| authority.term))
        })
    }

    /// Waits until everyone who runs has everything that this one has.
    pub fn level(&self, log: &ClusterLog) {
        for member in self.running() {
            soon("everyone to have it", || (member.head().event >= log.head().event).then_some(()));
        }
    }

    /// Nobody hears this one, and it hears nobody.
    pub fn cut(&self, node: NodeId) {
        self.cut.lock().expect("no panics").insert(node);
    }

    pub fn heal(&self) {
        self.cut.lock().expect("no panics").clear();
    }

    pub fn mute(&self, mute: Option<(NodeId, Term)>) {
        *self.mute.lock().expect("no panics") = mute;
    }

    pub fn delay(&self, delay: Duration) {
        *self.delay.lock().expect("no panics") = delay;
    }

    pub fn close(&self) {
        let members = std::mem::take(&mut *self.members.lock().expect("no panics"));
        members.into_values().for_each(|log| log.close());
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        let cut = self.cut.lock().expect("no panics");
        cut.contains(&from) || cut.contains(&to)
    }

    fn is_mute(&self, peer: &ClusterLog) -> bool {
        let mute = *self.mute.lock().expect("no panics");
        let last = || peer.position().last.map_or(0, |last| last.committed_leader_id().term);
        mute.is_some_and(|(node, term)| node == peer.node() && last() > term.get())
    }
}

/// The way of one member to the others.
pub struct Line {
    pub board: Arc<Board>,
    pub from: NodeId,
}

impl Transport for Line {
    fn call(
        &self,
        to: NodeId,
        _member: &Member,
        message: Bytes,
        _patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let (board, from) = (Arc::clone(&self.board), self.from);
        async move {
            let delay = *board.delay.lock().expect("no panics");
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            let peer = board.reach(from, to)?;
            let answer = peer.receive(message).await;
            let lost = board.is_mute(&peer) || board.is_cut(to, from);
            if lost { Err(TransportError::Lost("cut".into())) } else { answer }
        }
        .boxed()
    }
}
