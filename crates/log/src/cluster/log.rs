//! A member at work: opens its log, runs consensus on a thread of its own, and is a [`Log`].

use super::{
    adapter::{Machine, Seen, Storage},
    shape::{Applied, Call, Data, Leader, Member, Placed, Runtime, Shape, encode_members, log_id, ours},
    transport::{self, Message, Network, Transport, TransportError},
};
use crate::{
    AppendError, AppendFuture, Appended, Authority, Batch, Head, Kind, Log, Pending, ReadError, Record,
    SnapshotError, SnapshotWriter,
    contract::check_batch,
    entry,
    wal::{Fatal, Halted, MemberLog, OpenMemberError, Recovered, epoch_payload, read_epoch},
};
use bytes::Bytes;
use futures_util::FutureExt;
use openraft::{
    Config, LogId, Membership, Raft, ServerState, SnapshotPolicy, StepDownPolicy,
    async_runtime::watch::WatchReceiver as _,
    errors::ClientWriteError,
    raft::{AppendEntriesRequest, ClientWriteResponse, ClientWriteResult},
};
use rt::{Disk, Spawner};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::sync::{oneshot, watch};
use types::{EventId, Index, NodeId, Term, limits};

/// What an epoch says that no operator asked for.
pub(super) const BY_ITSELF: &[u8] = b"elected";

/// Who may stand for election by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// Every voter: when the leader is silent, the others elect another.
    Automatic,
    /// Only the node that the last epoch names. Any other needs an operator.
    Operator,
}

/// How a member runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who may stand for election.
    pub failover: Failover,
    /// How long a follower waits for a silent leader before it asks for an election: a random time
    /// in this range.
    pub election: (Duration, Duration),
    /// How often a leader is heard when nothing happens.
    pub heartbeat: Duration,
    /// Where others reach this member, for a cluster that it founds.
    pub own: Member,
    /// How its log behaves.
    pub wal: crate::wal::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            failover: Failover::Automatic,
            election: (Duration::from_millis(150), Duration::from_millis(300)),
            heartbeat: Duration::from_millis(50),
            own: Member::default(),
            wal: crate::wal::Options::default(),
        }
    }
}

/// Why a member could not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenClusterError {
    /// Its log does not open.
    #[error(transparent)]
    Log(#[from] OpenMemberError),
    /// Its log stopped before anything began.
    #[error(transparent)]
    Halted(#[from] Halted),
    /// The thread of consensus could not be started.
    #[error("cannot start the thread of consensus")]
    Thread(#[source] io::Error),
    /// openraft does not take the log.
    #[error("consensus does not start: {why}")]
    Consensus {
        /// In its words.
        why: String,
    },
}

impl OpenClusterError {
    /// What is wrong with the log itself, if that is it.
    pub fn open_error(&self) -> Option<&crate::wal::OpenError> {
        match self {
            Self::Log(error) => error.open_error(),
            _ => None,
        }
    }
}

/// What a member knows of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub own: NodeId,
    /// Who leads, as far as this member knows.
    pub leader: Option<NodeId>,
    /// The term it knows of.
    pub term: Term,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Everyone, with the address.
    pub members: BTreeMap<NodeId, Member>,
    /// How far each is, as the leader knows it; empty on others.
    pub matched: BTreeMap<NodeId, Index>,
    /// Since when a majority has been heard, on the leader.
    pub quorum_silent: Option<Duration>,
    /// Whether this member takes part in deciding anything.
    pub state: &'static str,
}

/// A member that was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The entry that made it one.
    pub index: Index,
}

/// The log of a cluster, as one of its members sees it.
#[derive(Clone)]
pub struct ClusterLog(Arc<Inner>);

impl fmt::Debug for ClusterLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterLog").field("log", &self.0.log).finish_non_exhaustive()
    }
}

struct Inner {
    log: Arc<MemberLog>,
    raft: Raft<Shape, Machine>,
    gate: Arc<Mutex<Gate>>,
    authority: watch::Receiver<Option<Authority>>,
    epochs: watch::Receiver<Option<Opened>>,
    transport: Arc<dyn Transport>,
    /// Who was a member when the log was opened.
    members: Membership<NodeId, Member>,
    patience: Duration,
    reason: Arc<Mutex<Vec<u8>>>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<rt::TaskHandle>>,
}

/// The last epoch that is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Opened {
    id: LogId<Leader>,
    node: NodeId,
}

/// What an append is compared with before it is proposed.
#[derive(Debug, Default)]
struct Gate {
    /// The term that this node leads and may sequence in, and that term's epoch.
    authority: Option<(Authority, LeaderOf)>,
    /// The head when everything proposed is committed.
    end: EventId,
    in_flight: usize,
    closed: bool,
}

type LeaderOf = Leader;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds this lock")
}

impl ClusterLog {
    /// Opens the log of a member and takes part. A log that has no members yet is made the first
    /// member of a cluster of its own; one that [`crate::wal::Wal::create_member`] made waits to be added.
    ///
    /// Call it outside of any async task: it blocks until the log is recovered.
    ///
    /// # Errors
    /// Nothing was changed but what recovery changes.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        spawner: &dyn Spawner,
        transport: Arc<dyn Transport>,
        on_fatal: Fatal,
    ) -> Result<(Self, Recovered), OpenClusterError> {
        let founding = founders(&*disk, dir, &options.own)?;
        let (log, recovered) = MemberLog::open(disk, dir, options.wal, founding, spawner, on_fatal)?;
        let log = Arc::new(log);
        let (epoch_tell, epochs) = watch::channel(last_epoch(&log)?);
        let tell = Arc::new(move |seen: Seen| {
            let Seen::Epoch { id, node } = seen;
            epoch_tell.send_replace(Some(Opened { id, node }));
        });
        let machine = Machine::new(Arc::clone(&log), tell).map_err(OpenMemberError::from)?;
        let members = machine.members();
        let reason = Arc::new(Mutex::new(BY_ITSELF.to_vec()));
        let patience = options.election.1;
        let network = Network { transport: Arc::clone(&transport), own: log.node() };
        let gate = Arc::new(Mutex::new(Gate::default()));
        let (authority_tell, authority) = watch::channel(None);
        let (started_tell, started) = std::sync::mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let start = Start {
            log: Arc::clone(&log),
            machine,
            network,
            options,
            gate: Arc::clone(&gate),
            authority: authority_tell,
            epochs: epochs.clone(),
            reason: Arc::clone(&reason),
        };
        let thread = spawner
            .spawn("consensus", Box::new(move || start.run(&started_tell, stopped)))
            .map_err(OpenClusterError::Thread)?;
        let raft = started.recv().unwrap_or_else(|_| Err("its thread ended".into()));
        let raft = raft.map_err(|why| OpenClusterError::Consensus { why })?;
        let inner = Inner {
            log,
            raft,
            gate,
            authority,
            epochs,
            transport,
            members,
            patience,
            reason,
            stop: Mutex::new(Some(stop)),
            thread: Mutex::new(Some(thread)),
        };
        Ok((Self(Arc::new(inner)), recovered))
    }

    /// This member.
    pub fn node(&self) -> NodeId {
        self.0.log.node()
    }

    /// The node that the last committed epoch names.
    pub fn sequencer(&self) -> Option<NodeId> {
        self.0.epochs.borrow().map(|opened| opened.node)
    }

    /// Hands a message of another member to consensus, and gives the answer to send back. Who sent
    /// it must be known by then.
    ///
    /// # Errors
    /// It cannot be read, or consensus has stopped here.
    pub async fn receive(&self, message: Bytes) -> Result<Bytes, TransportError> {
        let refused = |error: &dyn fmt::Display| TransportError::Refused(error.to_string());
        let raft = &self.0.raft;
        let (kind, body) = Message::read(&message)?;
        match kind {
            Message::Append => {
                let request: AppendEntriesRequest<Shape> = transport::content(&body)?;
                request.entries.iter().try_for_each(Placed::check).map_err(TransportError::Refused)?;
                let answer = raft.append_entries(request).await;
                answer.map(|answer| transport::answer(&answer)).map_err(|error| refused(&error))
            }
            Message::Vote => {
                let answer = raft.vote(transport::content(&body)?).await;
                answer.map(|answer| transport::answer(&answer)).map_err(|error| refused(&error))
            }
            Message::PreVote => {
                let answer = raft.pre_vote(transport::content(&body)?).await;
                answer.map(|answer| transport::answer(&answer)).map_err(|error| refused(&error))
            }
            Message::Position => Ok(transport::answer(&self.position())),
            Message::Transfer => {
                let answer = raft.handle_transfer_leader(transport::content(&body)?).await;
                answer.map(|answer| transport::answer(&answer)).map_err(|error| refused(&error))
            }
        }
    }

    /// What this member knows of its cluster.
    pub fn status(&self) -> Status {
        let metrics = self.0.raft.metrics().borrow_watched().clone();
        let members = match metrics.membership_config.membership() {
            // Consensus has not told anything yet: what was committed when the log was opened.
            told if told.nodes().next().is_none() => &self.0.members,
            told => told,
        };
        let matched = metrics.replication.iter().flatten();
        Status {
            own: self.node(),
            leader: metrics.current_leader,
            term: Term::new(metrics.vote.leader_id.term),
            voters: members.voter_ids().collect(),
            members: members.nodes().map(|(id, member)| (*id, member.clone())).collect(),
            matched: matched.filter_map(|(id, at)| Some((*id, ours((*at)?.index)))).collect(),
            quorum_silent: metrics.last_quorum_acked.map(|at| openraft::Instant::elapsed(&*at)),
            state: match metrics.state {
                ServerState::Leader => "leader",
                ServerState::Candidate => "candidate",
                ServerState::Follower => "follower",
                ServerState::Learner => "learner",
                ServerState::Shutdown => "stopped",
            },
        }
    }

    /// Adds a member that reads along and does not vote. Returns when it has caught up.
    ///
    /// # Errors
    /// In the words of consensus: not the leader, another change is under way, …
    pub async fn add_learner(&self, id: NodeId, member: Member) -> Result<Joined, String> {
        let added = self.0.raft.add_learner(id, member, true).await.map_err(|error| error.to_string())?;
        Ok(Joined { index: ours(added.log_id.index) })
    }

    /// Makes exactly these the voters. All must be members.
    ///
    /// # Errors
    /// As [`Self::add_learner`].
    pub async fn set_voters(&self, voters: BTreeSet<NodeId>) -> Result<Joined, String> {
        let set = self.0.raft.change_membership(voters, false).await.map_err(|error| error.to_string())?;
        Ok(Joined { index: ours(set.log_id.index) })
    }

    /// Asks consensus to hand the lead to another voter. Returns when it is asked, not when it is done.
    ///
    /// # Errors
    /// Consensus has stopped.
    pub async fn hand_over(&self, to: NodeId) -> Result<(), String> {
        self.0.raft.trigger().transfer_leader(to).await.map_err(|error| error.to_string())
    }

    /// Stands for election, having asked first whether it would win. Returns when it is asked.
    ///
    /// # Errors
    /// Consensus has stopped.
    pub async fn stand(&self) -> Result<(), String> {
        self.0.raft.trigger().elect(true).await.map_err(|error| error.to_string())
    }

    /// Waits until a majority has confirmed that this node leads and everything committed before is
    /// visible here; gives the event that a read now reflects at least.
    ///
    /// # Errors
    /// It does not lead, or no majority answers.
    pub async fn linearizable(&self) -> Result<EventId, String> {
        let policy = openraft::raft::ReadPolicy::ReadIndex;
        self.0.raft.ensure_linearizable(policy).await.map_err(|error| error.to_string())?;
        Ok(self.0.log.head().event)
    }

    pub(super) fn raft(&self) -> &Raft<Shape, Machine> {
        &self.0.raft
    }

    pub(super) fn member_log(&self) -> &MemberLog {
        &self.0.log
    }

    pub(super) fn transport(&self) -> &dyn Transport {
        &*self.0.transport
    }

    /// How long another member may take to answer a question.
    pub(super) fn patience(&self) -> Duration {
        self.0.patience
    }

    /// What the next epoch that this node opens shall say.
    pub(super) fn set_reason(&self, why: &[u8]) {
        *lock(&self.0.reason) = why.to_vec();
    }

    /// The id of the last entry, durable or only handed over.
    pub(super) fn last_id(&self) -> Option<LogId<Leader>> {
        let index = self.0.log.newest();
        let (index, entry) = self.0.log.entries(index, index.next(), 1).ok()?.pop()?;
        log_id(index, entry.term, entry.leader)
    }

    /// Stops taking part, writes what is queued and closes the log. Blocks. Dropping the last handle
    /// does the same.
    pub fn close(&self) {
        self.0.close();
    }

    fn propose(&self, expected: EventId, batch: &Batch) -> AppendFuture {
        let mut gate = lock(&self.0.gate);
        let answer = |error| AppendFuture::ready(Err(error));
        if gate.closed {
            return answer(AppendError::Stopped);
        }
        if self.0.log.is_short_of_space() {
            return answer(AppendError::NoSpace);
        }
        let Some((authority, leader)) = gate.authority else {
            return answer(AppendError::NoAuthority { why: self.0.who_has() });
        };
        if gate.in_flight == 0 {
            gate.end = self.0.log.head().event;
        }
        if expected != gate.end {
            return answer(AppendError::HeadMoved { head: gate.end });
        }
        if gate.in_flight >= limits::BATCHES_IN_FLIGHT {
            return answer(AppendError::Busy { waiting: gate.in_flight });
        }
        let payload = entry::proposal(expected, authority.epoch, &batch.events);
        let (pending, future) = AppendFuture::pending();
        let owed = Owed { pending: Some(pending), gate: Arc::clone(&self.0.gate) };
        let call = Call(Box::new(move |result| owed.settle(result)) as Box<dyn FnOnce(_) + Send>);
        let data = Data { code: Kind::Proposal.code(), payload };
        gate.in_flight += 1;
        let end = gate.end.plus(batch.events.len() as u64);
        gate.end = end;
        // The channel to consensus has room for far more than may be in flight, so this never waits;
        // and nobody else proposes in between, so the order is that of the gate.
        let request = self.0.raft.write(data).responder(call).with_leader(leader).into_future();
        // Not under tokio's budget for a task: without budget it would wait although there is room.
        let mut request = Box::pin(tokio::task::coop::unconstrained(request));
        let sent = (&mut request).now_or_never();
        // The gate first: a request that was not taken drops its call, which settles the answer as
        // unknown and needs the gate for that.
        drop(gate);
        drop(request);
        match sent {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::error!(%error, "consensus has stopped"),
            None => tracing::error!("consensus took no request"),
        }
        future
    }
}

/// An answer that is owed. Dropped without one, it is *unknown*.
struct Owed {
    pending: Option<Pending>,
    gate: Arc<Mutex<Gate>>,
}

impl Owed {
    fn settle(mut self, result: ClientWriteResult<Shape>) {
        let answer = match result {
            Ok(ClientWriteResponse { data: Applied { last, events: 0 }, .. }) => {
                Err(AppendError::HeadMoved { head: last })
            }
            Ok(ClientWriteResponse { log_id, data: Applied { last, events }, .. }) => {
                let first = EventId::new(last.get() - events + 1);
                Ok(Appended { first, last, index: ours(log_id.index) })
            }
            Err(ClientWriteError::ForwardToLeader(other)) => {
                Err(AppendError::NoAuthority { why: describe(other.leader_id) })
            }
            Err(
                ClientWriteError::LogEntryDiscarded(_)
                | ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_),
            ) => Err(AppendError::Unknown),
        };
        self.give(answer);
    }

    fn give(&mut self, answer: Result<Appended, AppendError>) {
        if let Some(pending) = self.pending.take() {
            // The place is free before the answer: whoever gets it may append at once.
            lock(&self.gate).in_flight -= 1;
            pending.answer(answer);
        }
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.give(Err(AppendError::Unknown));
    }
}

fn describe(leader: Option<NodeId>) -> String {
    leader.map_or_else(|| "no node is known to lead".to_owned(), |leader| format!("node {leader} leads"))
}

impl Inner {
    fn who_has(&self) -> String {
        describe(self.raft.metrics().borrow_watched().current_leader)
    }

    fn close(&self) {
        lock(&self.gate).closed = true;
        // Consensus may be waiting for the writer, and the writer for space.
        self.log.hurry();
        if let Some(stop) = lock(&self.stop).take() {
            let _ended_already = stop.send(());
        }
        let thread = lock(&self.thread).take();
        if let Some(thread) = thread
            && !thread.join()
        {
            tracing::error!("the thread of consensus ended in a panic");
        }
        self.log.close();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// What a log that was made for one machine says of its members when it becomes that of a cluster.
fn founders(disk: &dyn Disk, dir: &Path, own: &Member) -> Result<Bytes, OpenClusterError> {
    let node = crate::wal::node_of(disk, dir).map_err(OpenMemberError::from)?;
    let members = Membership::new(vec![BTreeSet::from([node])], BTreeMap::from([(node, own.clone())]));
    let members = members.map_err(|error| OpenClusterError::Consensus { why: error.to_string() })?;
    Ok(encode_members(&members))
}

/// The last epoch that is known as committed at the start.
fn last_epoch(log: &MemberLog) -> Result<Option<Opened>, OpenMemberError> {
    Ok(log.last_epoch()?.and_then(|(index, entry)| {
        let (node, _) = read_epoch(&entry.payload)?;
        Some(Opened { id: log_id(index, entry.term, entry.leader)?, node })
    }))
}

/// What the thread of consensus begins with.
struct Start {
    log: Arc<MemberLog>,
    machine: Machine,
    network: Network,
    options: Options,
    gate: Arc<Mutex<Gate>>,
    authority: watch::Sender<Option<Authority>>,
    epochs: watch::Receiver<Option<Opened>>,
    reason: Arc<Mutex<Vec<u8>>>,
}

type Started = std::sync::mpsc::SyncSender<Result<Raft<Shape, Machine>, String>>;

impl Start {
    /// Runs consensus until told to stop. One thread: a write passes through several tasks, and each
    /// wake-up of another core costs more than the task itself.
    fn run(self, started: &Started, stopped: oneshot::Receiver<()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(started.send(Err(error.to_string()))),
        };
        runtime.block_on(async {
            let node = self.log.node();
            let storage = Storage::new(Arc::clone(&self.log));
            let config = match config(&self.options).validate() {
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
            let by_itself = tokio::select! {
                biased;
                _told_or_gone = stopped => false,
                () = self.follow_authority(raft.clone()) => true,
            };
            let ended = raft.shutdown().await;
            if let Err(error) = &ended {
                tracing::error!(%error, "consensus ended badly");
            }
            if by_itself {
                log.fail("consensus has stopped by itself");
            }
        });
    }

    /// Opens an epoch whenever this node has come to lead a term, and holds the authority while it
    /// leads. See `one_authority`.
    async fn follow_authority(self, raft: Raft<Shape, Machine>) {
        let mut metrics = raft.server_metrics();
        let mut epochs = self.epochs.clone();
        // The term in which this run of consensus has asked for an epoch of its own: an entry of an
        // earlier life, or with which the log was made, opens nothing.
        let mut asked = None;
        loop {
            let (leads, alone) = {
                let metrics = metrics.borrow_watched();
                let vote = &metrics.vote;
                let leads = (metrics.state == ServerState::Leader && vote.committed)
                    .then_some(Leader { term: vote.leader_id.term, node: vote.leader_id.node });
                (leads, metrics.current_leader.is_none())
            };
            let opened = *epochs.borrow_and_update();
            // Where an operator decides, only the node that the last epoch names stands by itself.
            let stands = self.options.failover == Failover::Operator
                && alone
                && opened.is_some_and(|opened| opened.node == self.log.node());
            if stands && raft.trigger().elect(true).await.is_err() {
                return self.hold(None);
            }
            match leads {
                None => self.hold(None),
                Some(leader)
                    if asked == Some(leader)
                        && opened.is_some_and(|opened| opened.id.leader_id == leader) =>
                {
                    let epoch = self.log.head().epoch;
                    self.hold(Some((Authority { epoch, term: Term::new(leader.term) }, leader)));
                }
                Some(leader) => {
                    self.hold(None);
                    asked = Some(leader);
                    if !self.open_epoch(&raft, leader).await {
                        // Refused while the lease is young, or the lead is lost: look again.
                        tokio::time::sleep(self.options.heartbeat).await;
                        continue;
                    }
                }
            }
            tokio::select! {
                changed = openraft::async_runtime::watch::WatchReceiver::changed(&mut metrics) => {
                    if changed.is_err() { return self.hold(None) }
                }
                changed = epochs.changed() => if changed.is_err() { return self.hold(None) },
                // Asked and not won: the others may have been away.
                () = tokio::time::sleep(self.options.election.1), if stands => {}
            }
        }
    }

    fn hold(&self, held: Option<(Authority, Leader)>) {
        let mut gate = lock(&self.gate);
        if gate.authority == held {
            return;
        }
        gate.authority = held;
        drop(gate);
        self.authority.send_replace(held.map(|(authority, _)| authority));
    }

    /// Proposes the entry that opens this node's epoch in a term it leads. True once it is committed.
    async fn open_epoch(&self, raft: &Raft<Shape, Machine>, leader: Leader) -> bool {
        let payload = epoch_payload(leader.node, &lock(&self.reason));
        let data = Data { code: Kind::Epoch.code(), payload };
        let (tell, told) = oneshot::channel();
        let call = Call(Box::new(move |result: ClientWriteResult<Shape>| {
            let _gone = tell.send(result.is_ok());
        }) as Box<dyn FnOnce(_) + Send>);
        raft.write(data).responder(call).with_leader(leader).await.is_ok() && told.await == Ok(true)
    }
}

fn config(options: &Options) -> Config {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Config {
        cluster_name: "holdfast".into(),
        election_timeout_min: ms(options.election.0),
        election_timeout_max: ms(options.election.1),
        heartbeat_interval: ms(options.heartbeat),
        snapshot_policy: SnapshotPolicy::Never,
        max_payload_entries: limits::BATCHES_IN_FLIGHT as u64,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(false),
        enable_elect: options.failover == Failover::Automatic,
        removed_leader_step_down: match options.failover {
            Failover::Automatic => StepDownPolicy::After(ms(options.election.0)),
            Failover::Operator => StepDownPolicy::Never,
        },
        ..Config::default()
    }
}

impl Log for ClusterLog {
    fn head(&self) -> Head {
        self.0.log.head()
    }

    fn authority(&self) -> watch::Receiver<Option<Authority>> {
        self.0.authority.clone()
    }

    fn is_short_of_space(&self) -> bool {
        self.0.log.is_short_of_space()
    }

    fn append(&self, expected: EventId, batch: Batch) -> AppendFuture {
        match check_batch(&batch) {
            Ok(_) => self.propose(expected, &batch),
            Err(error) => AppendFuture::ready(Err(error)),
        }
    }

    fn read(&self, after: EventId, max_events: usize) -> Result<Vec<Record>, ReadError> {
        self.0.log.read(after, max_events)
    }

    fn subscribe(&self) -> watch::Receiver<EventId> {
        self.0.log.subscribe()
    }

    fn save_snapshot(&self, at: EventId, write: SnapshotWriter) -> Result<(), SnapshotError> {
        self.0.log.save_snapshot(at, write)
    }

    fn load_snapshot(&self) -> Result<Option<(EventId, Vec<u8>)>, SnapshotError> {
        self.0.log.load_snapshot()
    }
}

/// So that the runtime in [`super::shape`] is what openraft runs on.
const _: fn() = || {
    fn is_runtime<T: openraft::AsyncRuntime>() {}
    is_runtime::<Runtime>();
};
