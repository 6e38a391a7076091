//! Consensus at work, on a thread of its own: who leads, who may sequence, and when the lead is let go.

use super::{
    adapter::{Machine, Storage},
    awake::stay_awake,
    gate::Gate,
    greeting::greet,
    log::{BY_ITSELF, Borrowed, Failover, Inner, LOOK, Opened, Options, Reason, WORD_LOST, lock},
    shape::{Call, Data, Leader, Shape, ours},
    transport::Network,
};
use crate::{
    Authority, Kind,
    wal::{MemberLog, Mistake, epoch_payload, read_epoch},
};
use openraft::{
    Config, Raft, ServerState, SnapshotPolicy, StepDownPolicy, async_runtime::watch::WatchReceiver as _,
    errors::ClientWriteError, metrics::RaftServerMetrics, raft::ClientWriteResult,
};
use rt::{Boundary, Spawner, TaskHandle};
use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Mutex, OnceLock, Weak},
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use types::{Epoch, Index, NodeId, Term, limits};

/// How often a leader looks whether its disk has space.
const SPACE_LOOK: Duration = Duration::from_millis(500);
/// About so many bytes of entries are looked through at once for the last epoch.
const LOOK_BYTES: usize = 1 << 20;

/// What the thread of consensus begins with.
pub(super) struct Start {
    pub(super) log: Arc<MemberLog>,
    pub(super) machine: Machine,
    pub(super) network: Network,
    pub(super) options: Options,
    pub(super) gate: Arc<Mutex<Gate>>,
    pub(super) authority: watch::Sender<Option<Authority>>,
    pub(super) epochs: watch::Receiver<Option<Opened>>,
    pub(super) reason: Arc<Mutex<Option<Reason>>>,
    pub(super) fence: watch::Receiver<Option<Epoch>>,
    /// The log that all of this is of, once it is open.
    pub(super) own: Arc<OnceLock<Weak<Inner>>>,
}

pub(super) type Started = std::sync::mpsc::SyncSender<Result<Raft<Shape, Machine>, String>>;

impl Start {
    /// Starts consensus, on a thread of its own or, in a simulation, as a task.
    pub(super) fn begin(
        self,
        spawner: &dyn Spawner,
        started: Started,
        stopped: oneshot::Receiver<()>,
    ) -> io::Result<TaskHandle> {
        let Some(tasks) = spawner.tasks() else {
            return spawner.spawn("consensus", Box::new(move || self.run_on_thread(&started, stopped)));
        };
        let handle = tasks.spawn_loop(async move { self.run(&started, stopped).await });
        tasks.settle(|| false);
        Ok(handle)
    }

    /// Runs consensus until told to stop. One thread: a write passes through several tasks, and each
    /// wake-up of another core costs more than the task itself.
    fn run_on_thread(self, started: &Started, stopped: oneshot::Receiver<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error.to_string()))),
        };
        runtime.spawn(stay_awake(Arc::clone(&self.gate)));
        runtime.block_on(self.run(started, stopped));
    }

    async fn run(self, started: &Started, stopped: oneshot::Receiver<()>) {
        let node = self.log.node();
        let storage = Storage::new(Arc::clone(&self.log));
        if self.options.wal.mistake == Some(Mistake::LeaderResumes)
            && let Err(error) = storage.resume()
        {
            return drop(started.send(Err(error.to_string())));
        }
        let config = Config {
            enable_elect: self.options.failover == Failover::Automatic && self.log.fenced().is_none(),
            enable_heartbeat: self.log.fenced().is_none(),
            ..config(&self.options)
        };
        let config = match config.validate() {
            Ok(config) => Arc::new(config),
            Err(error) => return drop(started.send(Err(error.to_string()))),
        };
        let machine = self.machine.clone();
        let raft = match Raft::new(node, config, self.network.clone(), storage, machine).await {
            Ok(raft) => raft,
            Err(error) => return drop(started.send(Err(error.to_string()))),
        };
        if started.send(Ok(raft.clone())).is_err() {
            return;
        }
        let log = Arc::clone(&self.log);
        let leaves = self.options.failover == Failover::Automatic;
        let gate = Arc::clone(&self.gate);
        let greeting = greet(raft.clone(), self.network.clone(), self.options.election.1);
        let (space, own) = (raft.clone(), Arc::clone(&self.own));
        let space = yield_for_space(space, Arc::clone(&self.log), self.options.failover, own);
        let by_itself = tokio::select! {
            biased;
            _told_or_gone = stopped => false,
            () = space => false,
            () = greeting => false,
            () = self.follow_authority(raft.clone()) => true,
        };
        if leaves && !by_itself && log.fenced().is_none() {
            let wait = Duration::from(limits::HANDOVER_ON_STOP);
            let _not_in_time = tokio::time::timeout(wait, leave(&raft, &gate)).await;
        }
        let ended = raft.shutdown().await;
        if let Err(error) = &ended {
            tracing::error!(%error, "consensus ended badly");
        }
        if by_itself {
            log.fail("consensus has stopped by itself");
        }
    }

    /// Opens an epoch whenever this node has come to lead a term, and holds the authority while it
    /// leads. See `one_authority`.
    async fn follow_authority(self, raft: Raft<Shape, Machine>) {
        let mut metrics = raft.server_metrics();
        let (mut epochs, mut fence) = (self.epochs.clone(), self.fence.clone());
        // The term in which this run of consensus has asked for an epoch of its own: an entry of an
        // earlier life, or with which the log was made, opens nothing.
        let mut asked = None;
        // And that in which it waits for that epoch.
        let mut proposed = None;
        let (mut stood, pause) = (None::<Instant>, self.pause());
        loop {
            let Some((leads, alone)) = leading(&metrics.borrow_watched()) else { return self.hold(None) };
            let opened = *epochs.borrow_and_update();
            let fenced = self.obey_fence(&raft, opened, &mut fence).await;
            // Fenced, it leads nobody and stands for nothing.
            let leads = leads.filter(|_| !fenced);
            let alone = alone && !fenced;
            let cut_off = leads.is_some() && is_cut_off(&raft, self.options.election.1 * 3);
            // Not again before the answers can be there: each time begins anew.
            let due = alone && stood.is_none_or(|at| at.elapsed() >= pause);
            if due && self.may_stand(opened) {
                stood = Some(Instant::now());
                if raft.trigger().elect(true).await.is_err() {
                    return self.hold(None);
                }
            }
            match leads {
                None => self.hold(None),
                // It may be another's already: nothing new is begun until a majority answers again.
                Some(leader) if asked == Some(leader) && cut_off => self.hold(None),
                Some(leader)
                    if self.options.wal.mistake == Some(Mistake::EpochNotAwaited)
                        || asked == Some(leader)
                            && opened.is_some_and(|opened| opened.id.leader_id == leader) =>
                {
                    let epoch = self.log.head().epoch;
                    self.hold(Some((Authority { epoch, term: Term::new(leader.term) }, leader)));
                }
                // A second entry would open a second epoch.
                Some(leader) if proposed == Some(leader) => self.hold(None),
                Some(leader) => {
                    self.hold(None);
                    asked = Some(leader);
                    match self.open_epoch(&raft, leader, opened).await {
                        Opening::Committed => {}
                        Opening::Pending => proposed = asked,
                        Opening::Refused => {
                            if !self.looks_again(&raft).await {
                                return self.hold(None);
                            }
                            continue;
                        }
                    }
                }
            }
            tokio::select! {
                biased;
                changed = openraft::async_runtime::watch::WatchReceiver::changed(&mut metrics) => {
                    if changed.is_err() { return self.hold(None) }
                }
                changed = epochs.changed() => if changed.is_err() { return self.hold(None) },
                changed = fence.changed() => if changed.is_err() { return self.hold(None) },
                () = tokio::time::sleep(self.options.election.0), if leads.is_some() => {}
                // Asked and not won, for the others may have been away; or whoever was to take the lead has
                // not come to it.
                () = tokio::time::sleep(pause), if alone && self.options.failover == Failover::Operator => {}
            }
        }
    }

    /// How long this node waits for votes before it stands again. Another for each node, so that two do not
    /// stand in step.
    fn pause(&self) -> Duration {
        let (least, most) = self.options.election;
        let span = u128::max((most - least).as_millis(), 1);
        most + Duration::from_millis((self.log.node().as_u128() % span) as u64)
    }

    /// Where an operator decides, only the node that the last epoch names stands by itself; or one that has
    /// led what it has last: an operator had asked for that, and it was elected. While it hands the lead over
    /// it leaves the place to the other.
    fn may_stand(&self, opened: Option<Opened>) -> bool {
        self.options.failover == Failover::Operator
            && lock(&self.gate).handing.is_none()
            && (self.is_named(opened) || self.led_last())
    }

    /// Whether the last epoch in this log names this node. One that is not known to be committed counts: it
    /// may be, and another may have sequenced in it.
    fn is_named(&self, opened: Option<Opened>) -> bool {
        let mut named = opened.map(|opened| opened.node);
        let (known, head) =
            (opened.map_or(Index::ZERO, |opened| ours(opened.id.index)), self.log.head().index);
        // Of what is committed only the last entry may be an epoch that has not been told yet: one is told
        // before the next is committed. So this reads a few entries, however old the epoch is.
        let (mut from, until) = (known.next().max(head), self.log.newest().next());
        while from < until {
            let found = self.log.entries(from, until, LOOK_BYTES);
            let Ok(found) = found.inspect_err(|error| self.log.note_damage(error)) else { return false };
            let Some((last, _)) = found.last() else { break };
            from = last.next();
            let epochs = found.iter().filter(|(_, entry)| entry.kind == Kind::Epoch);
            if let Some((_, entry)) = epochs.last() {
                named = read_epoch(&entry.payload).map(|(node, _)| node);
            }
        }
        named == Some(self.log.node())
    }

    /// After an entry was refused, because the lease is young, or the lead is lost: rests. False when
    /// consensus has stopped, which the metrics of the server do not say.
    async fn looks_again(&self, raft: &Raft<Shape, Machine>) -> bool {
        tokio::time::sleep(self.options.heartbeat).await;
        raft.trigger().heartbeat().await.is_ok()
    }

    /// Whether the last entry here is of a term that this node led.
    fn led_last(&self) -> bool {
        let index = self.log.newest();
        let last = self.log.entries(index, index.next(), 1).ok().and_then(|mut found| found.pop());
        last.is_some_and(|(_, entry)| entry.leader == self.log.node())
    }

    /// Whether this node is fenced. A fenced node is heard by nobody as a leader and does not stand, until
    /// another node has opened an epoch in a term after all that it had heard of: then the fence is lifted.
    async fn obey_fence(
        &self,
        raft: &Raft<Shape, Machine>,
        opened: Option<Opened>,
        fence: &mut watch::Receiver<Option<Epoch>>,
    ) -> bool {
        let fence = *fence.borrow_and_update();
        let epoch = self.log.head().epoch;
        let replaced = opened.is_some_and(|Opened { id, node }| {
            self.log.fence_ends_with(epoch, node, Term::new(id.leader_id.term))
        });
        let mut fenced = fence.is_some() && self.log.fenced().is_some();
        if fenced && replaced {
            let log = Arc::clone(&self.log);
            match rt::blocking(move || log.lift_fence()).await {
                Ok(Ok(())) => fenced = false,
                Ok(Err(error)) => tracing::warn!(%error, "the fence of this node could not be lifted"),
                Err(error) => tracing::warn!(%error, "the fence of this node was not lifted"),
            }
        }
        let config = raft.runtime_config();
        config.heartbeat(!fenced);
        config.elect(!fenced && self.options.failover == Failover::Automatic);
        fenced
    }

    fn hold(&self, held: Option<(Authority, Leader)>) {
        let mut gate = lock(&self.gate);
        if gate.authority == held {
            return;
        }
        let refused = gate.hold(held);
        drop(gate);
        refused.give();
        self.authority.send_replace(held.map(|(authority, _)| authority));
    }

    /// Proposes the entry that opens this node's epoch in a term it leads. A reason is used up by the epoch
    /// that says it.
    async fn open_epoch(
        &self,
        raft: &Raft<Shape, Machine>,
        leader: Leader,
        before: Option<Opened>,
    ) -> Opening {
        Boundary::EpochOpening.reached();
        let by_word = self.options.failover == Failover::Operator && !self.is_named(before);
        let unsaid = if by_word { WORD_LOST } else { BY_ITSELF };
        // Taken: an entry whose fate is not known bears it, and no other may. Put back if it was not taken.
        let reason = lock(&self.reason).take().filter(Reason::holds);
        let why = reason.as_ref().map(|reason| &reason.why[..]);
        let payload = epoch_payload(leader.node, why.unwrap_or(unsaid));
        let data = Data { code: Kind::Epoch.code(), payload };
        let (tell, told) = oneshot::channel();
        let call = Call(Box::new(move |result: ClientWriteResult<Shape>| {
            let refused = matches!(result, Err(ClientWriteError::ForwardToLeader(_)));
            let _gone = tell.send(result.map(|_| ()).map_err(|_| refused));
        }) as Box<dyn FnOnce(_) + Send>);
        let written = raft.write(data).responder(call).with_leader(leader).await;
        // An entry of a leader that is none any more may never be settled.
        let told = match written {
            Ok(()) => tokio::time::timeout(self.options.election.1 * 3, told).await,
            Err(_) => Ok(Ok(Err(true))),
        };
        match told {
            Ok(Ok(Ok(()))) => Opening::Committed,
            // It is in no log.
            Ok(Ok(Err(true))) => {
                let mut place = lock(&self.reason);
                if place.is_none() {
                    *place = reason;
                }
                Opening::Refused
            }
            // Another's stands there, or consensus has let go of it.
            Ok(Ok(Err(false)) | Err(_)) => Opening::Refused,
            Err(_) => Opening::Pending,
        }
    }
}

/// What became of the entry that opens an epoch.
enum Opening {
    Committed,
    /// Not in time. As long as this node leads, it is there and may be.
    Pending,
    /// It was not taken.
    Refused,
}

/// The term that this node leads, if it leads one, and whether nobody is known to lead; `None` when consensus
/// has stopped. That its channel is closed then cannot be relied on: a handle may keep it open.
fn leading(metrics: &RaftServerMetrics<Shape>) -> Option<(Option<Leader>, bool)> {
    let vote = &metrics.vote;
    let leads = (metrics.state == ServerState::Leader && vote.committed)
        .then_some(Leader { term: vote.leader_id.term, node: vote.leader_id.node });
    (metrics.state != ServerState::Shutdown).then_some((leads, metrics.current_leader.is_none()))
}

/// Whether this leader has heard no majority for longer than that.
fn is_cut_off(raft: &Raft<Shape, Machine>, bound: Duration) -> bool {
    let metrics = raft.metrics().borrow_watched().clone();
    let own = *raft.node_id();
    let is_alone = metrics.membership_config.membership().voter_ids().eq([own]);
    let silent = metrics.last_quorum_acked.map(|at| openraft::Instant::elapsed(&*at));
    !is_alone && silent.is_some_and(|silent| silent > bound)
}

/// Hands the lead to a voter that has space as soon as this node has none. Never ends.
async fn yield_for_space(
    raft: Raft<Shape, Machine>,
    log: Arc<MemberLog>,
    failover: Failover,
    own: Arc<OnceLock<Weak<Inner>>>,
) {
    loop {
        tokio::time::sleep(SPACE_LOOK).await;
        let leads = raft.metrics().borrow_watched().state == ServerState::Leader;
        if failover == Failover::Operator || !leads || !log.is_short_of_space() {
            continue;
        }
        if let Some(inner) = own.get().and_then(Weak::upgrade) {
            let borrowed = Borrowed::of(inner);
            borrowed.log().yield_for_space().await;
        }
    }
}

/// Hands the lead to the voter that has most, once what is under way is done. Ends when another leads, or
/// if there is nothing to hand over.
async fn leave(raft: &Raft<Shape, Machine>, gate: &Mutex<Gate>) {
    let own = *raft.node_id();
    let others = {
        let metrics = raft.metrics().borrow_watched().clone();
        let voters: BTreeSet<NodeId> = metrics.membership_config.membership().voter_ids().collect();
        let matched = metrics.replication.into_iter().flatten();
        matched.filter(|(id, _)| *id != own && voters.contains(id)).max_by_key(|(_, at)| *at)
    };
    let Some((to, Some(_))) = others else { return };
    while lock(gate).in_flight > 0 {
        tokio::time::sleep(LOOK).await;
    }
    if raft.trigger().transfer_leader(to).await.is_err() {
        return;
    }
    let leads = || raft.metrics().borrow_watched().current_leader == Some(own);
    while leads() {
        tokio::time::sleep(LOOK).await;
    }
}

fn config(options: &Options) -> Config {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: "holdfast".into(),
        // openraft 0.10.0-alpha.37 takes a leader for gone after its lease, which is the larger of these,
        // and then one of them more (`Vote::is_expired`, `EngineConfig`). So two fifths of what is asked for,
        // and a leader is missed within what is asked for.
        election_timeout_min: ms(options.election.0 * 2 / 5),
        election_timeout_max: ms(options.election.1 * 2 / 5),
        heartbeat_interval: ms(options.heartbeat),
        snapshot_policy: SnapshotPolicy::Never,
        max_payload_entries: limits::BATCHES_IN_FLIGHT as u64,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(options.wal.mistake == Some(Mistake::LeaderResumes)),
        removed_leader_step_down: match options.failover {
            Failover::Automatic => StepDownPolicy::After(ms(options.election.0)),
            Failover::Operator => StepDownPolicy::Never,
        },
        ..Config::default()
    }
}
