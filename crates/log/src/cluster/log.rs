//! A member at work: opens its log, runs consensus on a thread of its own, and is a [`Log`].

use super::{
    adapter::{Machine, Seen},
    consensus::Start,
    gate::{self, Gate},
    members::alone,
    shape::{Leader, Member, Placed, Runtime, Shape, encode_members, log_id, ours},
    transport::{self, Message, Network, Transport, TransportError},
};
use crate::{
    AppendError, AppendFuture, Authority, Batch, Head, Log, ReadError, Record, SnapshotError, SnapshotWriter,
    contract::check_batch,
    wal::{Fatal, Halted, Has, MemberLog, OpenMemberError, Recovered, read_epoch},
};
use bytes::Bytes;
use openraft::{
    LogId, Membership, Raft,
    async_runtime::watch::WatchReceiver as _,
    raft::{AppendEntriesRequest, AppendEntriesResponse},
};
use rt::{Boundary, Disk, Spawner};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    fmt, io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};
use types::{ByteSize, Epoch, EventId, Index, NodeId, Term, limits};

/// What an epoch says that no operator asked for.
pub(super) const BY_ITSELF: &[u8] = b"elected";

/// What an epoch says of a node that an operator's word had elected, and that ended before it could say the
/// word itself: the word is in the journal of the member that was asked.
pub(super) const WORD_LOST: &[u8] = b"elected on an operator's word, and cut short before its epoch was open";

/// Between two looks at something that is waited for.
pub(super) const LOOK: Duration = Duration::from_millis(2);

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
    /// Tells this life of the member from any other.
    pub random: Arc<dyn rt::Random>,
    /// How much each member gets in a second that catches up, in entries, while this one leads.
    pub catch_up: ByteSize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            failover: Failover::Automatic,
            election: (Duration::from_millis(150), Duration::from_millis(300)),
            heartbeat: Duration::from_millis(20),
            own: Member::default(),
            wal: crate::wal::Options::default(),
            random: Arc::new(rt::OsRandom),
            catch_up: limits::CATCH_UP,
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
    /// Whether a record of the log is damaged; see [`super::repair()`].
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Log(error) if error.is_damage())
    }

    /// What is wrong with the log itself, if that is it.
    pub fn open_error(&self) -> Option<&crate::wal::OpenError> {
        match self {
            Self::Log(error) => error.open_error(),
            _ => None,
        }
    }
}

/// The log of a cluster, as one of its members sees it.
#[derive(Clone)]
pub struct ClusterLog(pub(super) Arc<Inner>);

impl fmt::Debug for ClusterLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterLog").field("log", &self.0.log).finish_non_exhaustive()
    }
}

pub(super) struct Inner {
    log: Arc<MemberLog>,
    raft: Raft<Shape, Machine>,
    pub(super) gate: Arc<Mutex<Gate>>,
    authority: watch::Receiver<Option<Authority>>,
    pub(super) epochs: watch::Receiver<Option<Opened>>,
    transport: Arc<dyn Transport>,
    failover: Failover,
    /// Who was a member when the log was opened.
    pub(super) members: Membership<NodeId, Member>,
    pub(super) patience: Duration,
    pub(super) reason: Arc<Mutex<Option<Reason>>>,
    fence: watch::Sender<Option<Epoch>>,
    heard: Mutex<Heard>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<rt::TaskHandle>>,
}

/// The log as the thread of consensus holds it for a while. If it is the last to let go, it must not wait for
/// the thread, which is itself: that ends by itself, and the log is closed with it.
pub(super) struct Borrowed(Option<Arc<Inner>>);

impl Borrowed {
    pub(super) fn of(inner: Arc<Inner>) -> Self {
        Self(Some(inner))
    }

    pub(super) fn log(&self) -> ClusterLog {
        ClusterLog(Arc::clone(self.0.as_ref().expect("it is let go only at the end")))
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(last) = self.0.take().and_then(Arc::into_inner) {
            lock(&last.thread).take();
        }
    }
}

/// What was heard of leaders.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Heard {
    /// When the last append was accepted here.
    pub(super) last: Option<Instant>,
    /// When a leader said last how far it had committed, and all of it can be read here.
    pub(super) current: Option<Instant>,
    /// Up to where a leader had committed then, which cannot be read here yet.
    awaited: Option<(Index, Instant)>,
}

impl Heard {
    /// A leader had committed up to there. Continuous writes never let a follower have all of what it was
    /// told last, so what it was told first is waited for.
    fn hear(&mut self, at: Instant, committed: Index, head: Index) {
        self.last = Some(at);
        self.look(head);
        match committed <= head {
            true => self.current = Some(at),
            false => _ = self.awaited.get_or_insert((committed, at)),
        }
    }

    fn look(&mut self, head: Index) {
        if let Some((_, at)) = self.awaited.take_if(|(committed, _)| *committed <= head) {
            self.current = self.current.max(Some(at));
        }
    }
}

/// The last epoch that is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) id: LogId<Leader>,
    pub(super) node: NodeId,
}

/// What the next epoch that this node opens shall say.
#[derive(Clone, Debug)]
pub(super) struct Reason {
    pub(super) why: Vec<u8>,
    until: Instant,
    /// Who has told it, if it was another node.
    pub(super) told: Option<NodeId>,
}

impl Reason {
    pub(super) fn holds(&self) -> bool {
        Instant::now() < self.until
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
        let node = crate::wal::node_of(&*disk, dir).map_err(OpenMemberError::from)?;
        let founding = encode_members(&alone(node, options.own.clone()));
        let (log, recovered) = {
            let nonce = options.random.u128();
            MemberLog::open(disk, dir, options.wal, founding, nonce, spawner, on_fatal)?
        };
        let log = Arc::new(log);
        let (epoch_tell, epochs) = watch::channel(last_epoch(&log)?);
        let tell = Arc::new(move |seen: Seen| {
            let Seen::Epoch { id, node } = seen;
            epoch_tell.send_replace(Some(Opened { id, node }));
        });
        let machine = Machine::new(Arc::clone(&log), tell).map_err(OpenMemberError::from)?;
        let members = machine.members();
        let reason = Arc::default();
        let own = Arc::new(OnceLock::new());
        let (fence_tell, fence) = watch::channel(log.fenced());
        let (patience, failover) = (options.election.1, options.failover);
        let (catch_up, log_) = (options.catch_up, Arc::clone(&log));
        let network = Network { transport: Arc::clone(&transport), log: log_, catch_up };
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
            fence,
            own: Arc::clone(&own),
        };
        let thread = start.begin(spawner, started_tell, stopped).map_err(OpenClusterError::Thread)?;
        let raft = started.recv().unwrap_or_else(|_| Err("its thread ended".into()));
        let raft = raft.map_err(|why| OpenClusterError::Consensus { why })?;
        let inner = Inner {
            log,
            raft,
            gate,
            authority,
            epochs,
            transport,
            failover,
            members,
            patience,
            reason,
            fence: fence_tell,
            heard: Mutex::default(),
            stop: Mutex::new(Some(stop)),
            thread: Mutex::new(Some(thread)),
        };
        let inner = Arc::new(inner);
        own.get_or_init(|| Arc::downgrade(&inner));
        Ok((Self(inner), recovered))
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
        let (raft, log) = (&self.0.raft, &self.0.log);
        let (kind, sender, body) = match Message::read(log, &message).await {
            Ok(read) => read,
            Err(error) => return transport::refusal(log, error),
        };
        match kind {
            Message::Append => self.receive_append(sender, &body).await,
            Message::Vote => {
                let answer = raft.vote(transport::content(&body)?).await;
                answer.map(|answer| transport::answer(log, &answer)).map_err(|error| refused(&error))
            }
            Message::PreVote => {
                Boundary::PromiseAsked.reached();
                let answer = raft.pre_vote(transport::content(&body)?).await;
                answer.map(|answer| transport::answer(log, &answer)).map_err(|error| refused(&error))
            }
            Message::Position => Ok(transport::answer(log, &self.position())),
            Message::Expect => {
                self.expect(sender, transport::content(&body)?).map_err(TransportError::Refused)?;
                Boundary::HandoverExpected.reached();
                Ok(transport::answer(log, &()))
            }
            Message::Transfer => {
                self.may_take_over(sender).map_err(TransportError::Refused)?;
                Boundary::HandoverTaking.reached();
                let answer = raft.handle_transfer_leader(transport::content(&body)?).await;
                answer.map(|answer| transport::answer(log, &answer)).map_err(|error| refused(&error))
            }
        }
    }

    async fn receive_append(&self, sender: NodeId, body: &[u8]) -> Result<Bytes, TransportError> {
        let (at, log) = (Instant::now(), &self.0.log);
        let request: AppendEntriesRequest<Shape> = transport::content(body)?;
        request.entries.iter().try_for_each(Placed::check).map_err(TransportError::Refused)?;
        let committed = request.leader_commit.map_or(Index::ZERO, |id| ours(id.index));
        let leader = request.vote.leader_id;
        let answer = self.0.raft.append_entries(request).await;
        let answer = answer.map_err(|error| TransportError::Refused(error.to_string()))?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            lock(&self.0.heard).hear(at, committed, log.head().index);
            if leader.node == sender {
                // Who leads a term has voted for itself in it.
                log.lives().promised(sender, Has { vote: Term::new(leader.term), entry: Index::ZERO });
            }
        }
        Ok(transport::answer(log, &answer))
    }

    /// Stands for election, having asked first whether it would win. Returns when it is asked.
    ///
    /// # Errors
    /// Consensus has stopped.
    pub async fn stand(&self) -> Result<(), String> {
        self.may_sequence()?;
        self.0.raft.trigger().elect(true).await.map_err(|error| error.to_string())
    }

    /// Waits until a majority has confirmed that this node leads and everything committed before is
    /// visible here; gives the event that a read now reflects at least.
    ///
    /// # Errors
    /// It does not lead, or no majority answers.
    pub async fn linearizable(&self) -> Result<EventId, String> {
        if self.fenced().is_some() {
            return Err("this node is fenced".into());
        }
        let policy = openraft::raft::ReadPolicy::ReadIndex;
        self.0.raft.ensure_linearizable(policy).await.map_err(|error| error.to_string())?;
        Ok(self.0.log.head().event)
    }

    /// Whether anybody else has a copy of this log.
    fn has_others(&self) -> bool {
        self.status().members.len() > 1
    }

    pub(super) fn raft(&self) -> &Raft<Shape, Machine> {
        &self.0.raft
    }

    pub(super) fn member_log(&self) -> &MemberLog {
        &self.0.log
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }

    /// What was heard of leaders, when one can read here up to `head`.
    pub(super) fn heard(&self, head: Index) -> Heard {
        let mut heard = lock(&self.0.heard);
        heard.look(head);
        *heard
    }

    /// Notes on disk how far the log is committed, for whoever reads it beside this process. Blocks for as
    /// long as a sync takes.
    ///
    /// # Errors
    /// The disk failed; only the note is missing.
    pub fn note_committed(&self) -> Result<(), rt::DiskError> {
        self.0.log.note_committed()
    }

    /// The epoch in which this node is fenced.
    pub fn fenced(&self) -> Option<Epoch> {
        self.0.log.fenced()
    }

    /// Fences this node: it holds no authority and does not seek any, also after a restart, until another
    /// node has opened a later epoch. It deposes nobody, follows and votes. If it leads, it is silent from
    /// now on, so that its followers may turn to another. Durable when it returns; done again it changes
    /// nothing. Gives the epoch. May block for as long as a sync takes.
    ///
    /// # Errors
    /// The disk failed; the node may be fenced after a restart.
    pub fn fence(&self) -> Result<Epoch, rt::DiskError> {
        let epoch = self.0.log.fence()?;
        self.0.fence.send_replace(Some(epoch));
        Ok(epoch)
    }

    /// What the next epoch that this node opens until then shall say, cut at [`limits::EPOCH_REASON`].
    pub(super) fn set_reason(&self, why: &[u8], until: Instant) {
        let why = &why[..why.len().min(limits::EPOCH_REASON)];
        *lock(&self.0.reason) = Some(Reason { why: why.to_vec(), until, told: None });
    }

    pub(super) fn forget_reason(&self) {
        *lock(&self.0.reason) = None;
    }

    /// Remembers for a while that another node is about to hand over the lead, and why.
    fn expect(&self, from: NodeId, why: Vec<u8>) -> Result<(), String> {
        if why.len() > limits::EPOCH_REASON {
            return Err(format!("a reason of {} bytes, and {} is the most", why.len(), limits::EPOCH_REASON));
        }
        self.may_sequence()?;
        let until = Instant::now() + Duration::from(limits::HANDOVER_REMEMBERED);
        *lock(&self.0.reason) = Some(Reason { why, until, told: Some(from) });
        Ok(())
    }

    /// Whether the lead may be taken over from this node. Where an operator decides, it has said so first.
    fn may_take_over(&self, from: NodeId) -> Result<(), String> {
        self.may_sequence()?;
        let reason = lock(&self.0.reason);
        let told = reason.as_ref().filter(|reason| reason.holds()).and_then(|reason| reason.told);
        match self.0.failover {
            Failover::Operator if told != Some(from) => {
                Err(format!("node {from} has not said why it hands the lead over"))
            }
            _ => Ok(()),
        }
    }

    fn may_sequence(&self) -> Result<(), String> {
        match (self.fenced(), self.0.log.is_short_of_space()) {
            (Some(epoch), _) => Err(format!("this node is fenced in epoch {epoch}")),
            (None, true) => Err("the disk of this node is short of space".into()),
            (None, false) => Ok(()),
        }
    }

    /// Asks another member, which has as long as it may take.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        id: NodeId,
        member: &Member,
        kind: Message,
        content: &impl Serialize,
    ) -> Result<T, TransportError> {
        let (patience, log) = (self.0.patience, &self.0.log);
        let call = self.0.transport.call(id, member, kind.write(log, content), patience);
        let lost = || TransportError::Lost(format!("no answer within {patience:?}"));
        let answer = tokio::time::timeout(patience, call).await.unwrap_or_else(|_| Err(lost()))?;
        transport::answer_of(log, id, &answer).await
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

    fn propose(&self, expected: EventId, batch: Batch) -> AppendFuture {
        if self.0.log.is_short_of_space() {
            return AppendFuture::ready(Err(AppendError::NoSpace));
        }
        let taken = {
            let mut gate = lock(&self.0.gate);
            gate.take(expected, batch, || self.0.log.head().event, || self.0.who_has())
        };
        match taken {
            Ok(future) => {
                gate::hand_over(&self.0.gate, &self.0.raft);
                future
            }
            Err(error) => AppendFuture::ready(Err(error)),
        }
    }
}

pub(super) fn describe(leader: Option<NodeId>) -> String {
    leader.map_or_else(|| "no node is known to lead".to_owned(), |leader| format!("node {leader} leads"))
}

impl Inner {
    fn who_has(&self) -> String {
        describe(self.raft.metrics().borrow_watched().current_leader)
    }

    fn close(&self) {
        let refused = lock(&self.gate).close();
        refused.give();
        if let Some(stop) = lock(&self.stop).take() {
            let _ended_already = stop.send(());
        }
        // Consensus may be waiting for the writer, and the writer for space. What fails by that now is no
        // reason for the process to die: consensus has been told to stop.
        self.log.hurry();
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

/// The last epoch that is known as committed at the start.
fn last_epoch(log: &MemberLog) -> Result<Option<Opened>, OpenMemberError> {
    Ok(log.last_epoch()?.and_then(|(index, entry)| {
        let (node, _) = read_epoch(&entry.payload)?;
        Some(Opened { id: log_id(index, entry.term, entry.leader)?, node })
    }))
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
            Ok(_) => self.propose(expected, batch),
            Err(error) => AppendFuture::ready(Err(error)),
        }
    }

    fn read(&self, after: EventId, max_events: usize) -> Result<Vec<Record>, ReadError> {
        let read = self.0.log.read(after, max_events);
        if let Err(error @ ReadError::Damaged { .. }) = &read
            && self.has_others()
        {
            // The next start asks the others for what is lost; an older state must not be shown until then.
            self.0.log.note_damage(error);
            self.0.log.fail(&error.to_string());
        }
        read
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
