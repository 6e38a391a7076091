//! The shapes that openraft works with, made of ours.
//!
//! A term has one leader, as in the Raft paper, and every log id still says which node that was: our
//! log writes it down. openraft counts entries from 0 and our log from 1; [`ours`] and [`theirs`] are
//! the only places that know.

use crate::{Kind, wal::RawEntry};
use bytes::Bytes;
use openraft::{
    AsyncRuntime, EntryPayload, LogId, Membership, OptionalSend, RaftTypeConfig,
    entry::RaftEntry,
    raft::responder::Responder,
    vote::{LeaderIdCompare, RaftLeaderId},
};
use openraft_rt_tokio::{TokioInstant, TokioMpsc, TokioMutex, TokioOneshot, TokioRuntime, TokioWatch};
use serde::{Deserialize, Serialize};
use std::{
    cmp::Ordering, collections::BTreeMap, convert::Infallible, fmt, future::Future, pin::Pin, time::Duration,
};
use types::{EventId, Index, NodeId, Term};

/// Where a member can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// What people call it.
    pub name: String,
    /// Where other members reach it: host and port.
    pub peer: String,
    /// Where clients reach its API: a URL. Empty if it has none.
    pub api: String,
}

/// The consensus layer's configuration: every type it needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape;

impl RaftTypeConfig for Shape {
    type D = Data;
    type R = Applied;
    type NodeId = NodeId;
    type Node = Member;
    type Term = u64;
    type LeaderId = Candidate;
    type Vote = openraft::Vote<Candidate>;
    type Payload = EntryPayload<Data, NodeId, Member>;
    type Entry = Placed;
    type Responder<T>
        = Call<T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type AsyncRuntime = Runtime;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// What a leader asks to have appended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Data {
    /// A batch, a proposal or an epoch, by its code in the format.
    pub code: u8,
    /// What stands in it.
    pub payload: Bytes,
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kind {}, {} bytes", self.code, self.payload.len())
    }
}

/// What became of an entry that is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The last event with it.
    pub last: EventId,
    /// How many events it has.
    pub events: u64,
}

/// A node in a term: one that stands for election or leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The term.
    pub term: u64,
    /// The node.
    pub node: NodeId,
}

/// The one leader of a term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Leader {
    /// The term.
    pub term: u64,
    /// The node.
    pub node: NodeId,
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "term {} of {}", self.term, self.node)
    }
}

impl fmt::Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "term {} of {}", self.term, self.node)
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        // Two candidates of one term cannot be compared: whoever has voted for one never does for the
        // other.
        LeaderIdCompare::std(self, other)
    }
}

impl PartialEq<Leader> for Candidate {
    fn eq(&self, _: &Leader) -> bool {
        false
    }
}

impl PartialOrd<Leader> for Candidate {
    fn partial_cmp(&self, other: &Leader) -> Option<Ordering> {
        Some(self.term.cmp(&other.term).then(Ordering::Less))
    }
}

impl RaftLeaderId for Candidate {
    type Term = u64;
    type NodeId = NodeId;
    type Committed = Leader;

    fn new(term: u64, node: NodeId) -> Self {
        Self { term, node }
    }

    fn term(&self) -> u64 {
        self.term
    }

    fn node_id(&self) -> &NodeId {
        &self.node
    }

    fn to_committed(&self) -> Leader {
        Leader { term: self.term, node: self.node }
    }
}

/// An entry with its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Placed {
    /// Where it stands.
    pub id: LogId<Leader>,
    /// What stands there.
    pub payload: EntryPayload<Data, NodeId, Member>,
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.id, self.payload)
    }
}

impl RaftEntry for Placed {
    type CommittedLeaderId = Leader;
    type Payload = EntryPayload<Data, NodeId, Member>;

    fn new(id: LogId<Leader>, payload: Self::Payload) -> Self {
        Self { id, payload }
    }

    fn log_id_parts(&self) -> (&Leader, u64) {
        (&self.id.leader_id, self.id.index)
    }

    fn set_log_id(&mut self, id: LogId<Leader>) {
        self.id = id;
    }

    fn get_membership(&self) -> Option<Membership<NodeId, Member>> {
        match &self.payload {
            EntryPayload::Membership(membership) => Some(membership.clone()),
            EntryPayload::Blank | EntryPayload::Normal(_) => None,
        }
    }
}

/// An index of theirs as one of ours.
pub fn ours(index: u64) -> Index {
    Index::new(index + 1)
}

/// An index of ours as one of theirs.
///
/// # Panics
/// For index 0, at which nothing stands.
pub fn theirs(index: Index) -> u64 {
    index.get().checked_sub(1).expect("entries are counted from 1")
}

/// The id of an entry; `None` for index 0.
pub fn log_id(index: Index, term: Term, leader: NodeId) -> Option<LogId<Leader>> {
    (index > Index::ZERO)
        .then(|| LogId { leader_id: Leader { term: term.get(), node: leader }, index: theirs(index) })
}

/// The version of the encoding of memberships.
const MEMBERSHIP: u8 = 1;

/// Who is a member, as it is stored: configurations of voters, and everyone's address.
#[derive(Serialize, Deserialize)]
struct StoredMembers {
    voters: Vec<std::collections::BTreeSet<NodeId>>,
    nodes: BTreeMap<NodeId, Member>,
}

/// The stored form of a membership.
pub fn encode_members(members: &Membership<NodeId, Member>) -> Bytes {
    let nodes = members.nodes().map(|(id, member)| (*id, member.clone())).collect();
    let stored = StoredMembers { voters: members.get_joint_config().clone(), nodes };
    let mut bytes = vec![MEMBERSHIP];
    bytes.extend(postcard::to_stdvec(&stored).expect("members are plain data"));
    bytes.into()
}

/// A membership from its stored form.
///
/// # Errors
/// It is of a later version, or not one at all.
pub fn decode_members(bytes: &[u8]) -> Result<Membership<NodeId, Member>, String> {
    let Some((&MEMBERSHIP, body)) = bytes.split_first() else {
        return Err("the members are written in a form that this program does not know".into());
    };
    let stored: StoredMembers = postcard::from_bytes(body).map_err(|error| error.to_string())?;
    Membership::new(stored.voters, stored.nodes).map_err(|error| error.to_string())
}

impl Placed {
    /// As our log stores it.
    ///
    /// # Errors
    /// It is of a kind that this program does not know: a newer one must have sent it.
    pub fn to_raw(&self) -> Result<RawEntry, String> {
        let (kind, payload) = match &self.payload {
            EntryPayload::Blank => (Kind::Blank, Bytes::new()),
            EntryPayload::Membership(members) => (Kind::Membership, encode_members(members)),
            EntryPayload::Normal(data) => {
                let kind = Kind::from_code(data.code).filter(|kind| kind.is_data());
                let unknown = || format!("an entry of kind {}, which this program does not know", data.code);
                (kind.ok_or_else(unknown)?, data.payload.clone())
            }
        };
        let leader = self.id.leader_id;
        Ok(RawEntry { kind, term: Term::new(leader.term), leader: leader.node, payload })
    }

    /// How many bytes it takes, about.
    pub fn bytes(&self) -> usize {
        match &self.payload {
            EntryPayload::Normal(data) => size_of::<Self>() + data.payload.len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => size_of::<Self>(),
        }
    }

    /// Whether it can be written here: looked at before consensus takes what another member sent.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        crate::wal::check_entry(&self.to_raw()?)
    }

    /// From how our log stores it.
    ///
    /// # Errors
    /// Members that cannot be read.
    pub fn from_raw(index: Index, raw: RawEntry) -> Result<Self, String> {
        let leader_id = Leader { term: raw.term.get(), node: raw.leader };
        let payload = match raw.kind {
            Kind::Blank => EntryPayload::Blank,
            Kind::Membership => EntryPayload::Membership(decode_members(&raw.payload)?),
            kind @ (Kind::Batch | Kind::Proposal | Kind::Epoch) => {
                EntryPayload::Normal(Data { code: kind.code(), payload: raw.payload })
            }
        };
        Ok(Self { id: LogId { leader_id, index: theirs(index) }, payload })
    }
}

/// Is called with an answer. Dropped without a call, the answer is not known.
pub struct Call<T>(pub Box<dyn FnOnce(T) + Send>);

impl<T: OptionalSend + 'static> Responder<Shape, T> for Call<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// Tokio, but for very short waits: a timer of tokio takes a millisecond at least, and the consensus
/// layer waits for one microsecond to gather its messages.
#[derive(Debug)]
pub struct Runtime(TokioRuntime);

/// Waits that are shorter than this only let others go first.
const NO_WAIT: Duration = Duration::from_micros(50);

impl AsyncRuntime for Runtime {
    type JoinError = rt::TaskGone;
    type JoinHandle<T: OptionalSend + 'static> = rt::JoinHandle<T>;
    type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;
    type Instant = TokioInstant;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = Dice;
    type Mpsc = TokioMpsc;
    type Watch = TokioWatch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        rt::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        Box::pin(tokio::time::sleep(duration))
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        let now = <TokioInstant as openraft::Instant>::now();
        // In a simulation time moves only while everybody waits.
        let no_wait = if rt::SimTasks::here().is_some() { Duration::ZERO } else { NO_WAIT };
        if deadline <= now + no_wait {
            return Box::pin(rt::give_way());
        }
        Box::pin(TokioRuntime::sleep_until(deadline))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        tokio::time::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(error: &Self::JoinError) -> bool {
        error.panicked
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        match rt::SimTasks::here() {
            Some(tasks) => Dice::Sim(tasks),
            None => Dice::Thread(TokioRuntime::thread_rng()),
        }
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

/// The dice of consensus: the thread's, or those of the simulation that it runs in.
#[derive(Debug)]
pub enum Dice {
    /// The thread's.
    Thread(<TokioRuntime as AsyncRuntime>::ThreadLocalRng),
    /// Known by their seed.
    Sim(rt::SimTasks),
}

impl rand_core::TryRng for Dice {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        match self {
            Self::Thread(dice) => dice.try_next_u32(),
            Self::Sim(tasks) => Ok((tasks.dice() >> 32) as u32),
        }
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        match self {
            Self::Thread(dice) => dice.try_next_u64(),
            Self::Sim(tasks) => Ok(tasks.dice()),
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        match self {
            Self::Thread(dice) => dice.try_fill_bytes(bytes)?,
            Self::Sim(tasks) => {
                for piece in bytes.chunks_mut(8) {
                    piece.copy_from_slice(&tasks.dice().to_le_bytes()[..piece.len()]);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_of_an_unknown_kind_is_refused_and_never_becomes_another() {
        let leader_id = Leader { term: 1, node: NodeId::from_u128(1) };
        let placed = |code| {
            let payload = crate::wal::epoch_payload(leader_id.node, b"why");
            let payload = EntryPayload::Normal(Data { code, payload });
            Placed { id: LogId { leader_id, index: 0 }, payload }
        };
        assert_eq!(placed(Kind::Epoch.code()).check(), Ok(()));
        for code in [0, Kind::Blank.code(), Kind::Membership.code(), 6, 255] {
            let refused = placed(code).check().expect_err("not what a leader is asked for");
            assert!(refused.contains(&format!("kind {code}")), "{refused}");
        }
        assert!(placed(Kind::Batch.code()).check().is_err(), "not in the form of its kind");
    }
}
