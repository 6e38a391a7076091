//! Messages between members: how they are written, and the door through which they go.
//!
//! ```text
//! version u8, kind u8, sender [u8;16], its start: count u64, nonce [u8;16],
//! what it had then: term of its vote u64, last entry u64; content in postcard
//! ```
//!
//! An answer begins likewise, with kind 0. What comes from an earlier life of a member, or from a copy of
//! it, is refused before consensus sees it ([`crate::wal::Incarnations`]), with an answer of kind 255: a
//! member that gets one marks its directory and ends. What carries messages is not known here: TLS between
//! real members, memory in tests.

use super::shape::{Member, Placed, Shape, ours};
use crate::wal::{Has, Incarnation, MemberLog, Stale};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2,
    alias::{SnapshotOf, VoteOf},
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable},
    network::{RPCOption, RPCTypes},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
        TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use serde::{Serialize, de::DeserializeOwned};
use std::{io, sync::Arc, time::Duration};
use tokio::time::Instant;
use types::{ByteSize, Index, NodeId, Term, limits};

/// The version of the messages. A member that speaks another is told so.
const VERSION: u8 = 3;
/// The kind of an answer.
const ANSWER: u8 = 0;
/// The kind of an answer to a member that cannot be heard, now and ever: which of its lives, and why.
const REFUSAL: u8 = 255;
const HEADER: usize = 2 + 16 + 8 + 16 + 8 + 8;

/// What a message asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Take these entries.
    Append,
    /// Vote.
    Vote,
    /// Would you vote?
    PreVote,
    /// Take over the lead.
    Transfer,
    /// How far are you?
    Position,
    /// The lead is about to be handed to you, because …
    Expect,
}

impl Message {
    const fn code(self) -> u8 {
        match self {
            Self::Append => 1,
            Self::Vote => 2,
            Self::PreVote => 3,
            Self::Transfer => 4,
            Self::Position => 5,
            Self::Expect => 6,
        }
    }

    /// Who sent this message, in its own words: to be compared with who is known to have sent it.
    pub fn sender(bytes: &[u8]) -> Option<NodeId> {
        let node = bytes.get(2..18)?.try_into().expect("a range of sixteen bytes");
        Some(NodeId::from_u128(u128::from_le_bytes(node)))
    }

    /// Whether an answer says that the asker is not heard: it is an older copy of its directory.
    pub fn is_refusal(answer: &[u8]) -> bool {
        answer.starts_with(&[VERSION, REFUSAL])
    }

    /// The kind of a message, its sender, and its content.
    ///
    /// # Errors
    /// Another version, no kind that is known, or a life of its sender that is not heard.
    pub(super) async fn read(log: &Arc<MemberLog>, bytes: &Bytes) -> Result<(Self, NodeId, Bytes), NotHeard> {
        let (code, sender, content) = open(log, bytes).await?;
        let all = [Self::Append, Self::Vote, Self::PreVote, Self::Transfer, Self::Position, Self::Expect];
        let kind = all.into_iter().find(|kind| kind.code() == code);
        let kind = kind.ok_or_else(|| TransportError::Refused(format!("a message of kind {code}")))?;
        Ok((kind, sender, content))
    }

    pub(super) fn write(self, log: &MemberLog, content: &impl Serialize) -> Bytes {
        sealed(log, self.code(), content)
    }
}

/// What a member sends: its content after who it is, in this life.
fn sealed(log: &MemberLog, code: u8, content: &impl Serialize) -> Bytes {
    let (life, has) = (log.lives().own(), log.lives().began());
    let mut start = vec![VERSION, code];
    start.extend_from_slice(&log.node().as_u128().to_le_bytes());
    start.extend_from_slice(&life.count.to_le_bytes());
    start.extend_from_slice(&life.nonce.to_le_bytes());
    start.extend_from_slice(&has.vote.get().to_le_bytes());
    start.extend_from_slice(&has.entry.get().to_le_bytes());
    postcard::to_extend(content, start).expect("messages are plain data").into()
}

/// Why a message or an answer is not taken.
pub(super) enum NotHeard {
    /// Its sender is not heard in this life any more.
    Stale(Incarnation, Stale),
    /// It says that this member is not heard in this life, now and ever.
    Refused(String),
    /// Something else.
    Other(TransportError),
}

impl From<TransportError> for NotHeard {
    fn from(error: TransportError) -> Self {
        Self::Other(error)
    }
}

impl From<NotHeard> for TransportError {
    fn from(error: NotHeard) -> Self {
        match error {
            NotHeard::Stale(_, stale) => Self::Refused(stale.to_string()),
            NotHeard::Refused(why) => Self::Refused(why),
            NotHeard::Other(error) => error,
        }
    }
}

/// The code, the sender and the content of what a member sent.
async fn open(log: &Arc<MemberLog>, bytes: &Bytes) -> Result<(u8, NodeId, Bytes), NotHeard> {
    let refused = |why: String| Err(NotHeard::Other(TransportError::Refused(why)));
    match bytes.first() {
        Some(&VERSION) => {}
        Some(version) => {
            return refused(format!(
                "messages of version {version}, and this member speaks version {VERSION}"
            ));
        }
        None => return refused("a message without a byte".into()),
    }
    let Some(header) = bytes.get(..HEADER) else {
        return refused("a message that is shorter than its header".into());
    };
    let sender = Message::sender(header).expect("it has a header");
    let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let nonce = u128::from_le_bytes(header[26..42].try_into().expect("a range of sixteen bytes"));
    let life = Incarnation { count: number(18), nonce };
    let heard = match log.lives().known(sender, life) {
        Some(known) => known,
        None => {
            let has = Has { vote: Term::new(number(42)), entry: Index::new(number(50)) };
            let log = Arc::clone(log);
            let admitted = rt::blocking(move || log.lives().admit(sender, life, has)).await;
            admitted.map_err(|error| TransportError::Lost(error.to_string()))?
        }
    };
    match heard {
        Ok(()) => Ok((header[1], sender, bytes.slice(HEADER..))),
        Err(stale) => Err(NotHeard::Stale(life, stale)),
    }
}

/// What is answered to a member that is not heard.
///
/// # Errors
/// It may be heard later.
pub(super) fn refusal(log: &MemberLog, error: NotHeard) -> Result<Bytes, TransportError> {
    match error {
        NotHeard::Stale(life, stale) if stale.is_final() => {
            Ok(sealed(log, REFUSAL, &(life.count, life.nonce, stale.to_string())))
        }
        error => Err(error.into()),
    }
}

/// Another member has refused this one. If it means this life, the directory is none to go on with.
async fn obey_refusal(log: &Arc<MemberLog>, by: NodeId, body: &[u8]) -> NotHeard {
    let (count, nonce, why): (u64, u128, String) = match content(body) {
        Ok(refusal) => refusal,
        Err(error) => return error.into(),
    };
    if log.lives().own() != (Incarnation { count, nonce }) {
        return TransportError::Refused(why).into();
    }
    tracing::error!(%by, why, "another member refuses this one");
    let (log, told) = (Arc::clone(log), why.clone());
    let _ends_anyway = rt::blocking(move || log.refused(&told)).await;
    NotHeard::Refused(why)
}

/// Writes an answer.
pub(super) fn answer(log: &MemberLog, content: &impl Serialize) -> Bytes {
    sealed(log, ANSWER, content)
}

/// Reads the answer of this member.
pub(super) async fn answer_of<T: DeserializeOwned>(
    log: &Arc<MemberLog>,
    from: NodeId,
    bytes: &Bytes,
) -> Result<T, TransportError> {
    Ok(heard_from(log, from, bytes).await?)
}

/// Reads the answer of this member; the error tells whether this life is refused.
pub(super) async fn heard_from<T: DeserializeOwned>(
    log: &Arc<MemberLog>,
    from: NodeId,
    bytes: &Bytes,
) -> Result<T, NotHeard> {
    match open(log, bytes).await? {
        (ANSWER, sender, body) if sender == from => Ok(content(&body)?),
        (REFUSAL, sender, body) if sender == from => Err(obey_refusal(log, from, &body).await),
        (_, sender, _) => {
            Err(TransportError::Refused(format!("node {sender} answers in place of {from}")).into())
        }
    }
}

/// Reads a message's or an answer's content.
pub(super) fn content<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, TransportError> {
    postcard::from_bytes(bytes).map_err(|error| TransportError::Refused(error.to_string()))
}

/// Why a message was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nobody is there.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// It was sent, and no answer came. It may have been heard.
    #[error("did not answer: {0}")]
    Lost(String),
    /// The other side did not take it, and says why.
    #[error("refused: {0}")]
    Refused(String),
}

/// The door to other members.
pub trait Transport: Send + Sync + 'static {
    /// Sends a message to a member and waits for its answer, at most so long.
    fn call(
        &self,
        to: NodeId,
        member: &Member,
        message: Bytes,
        patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>>;
}

/// The door of a member that has no others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Transport for Alone {
    fn call(
        &self,
        _to: NodeId,
        _member: &Member,
        _message: Bytes,
        _patience: Duration,
    ) -> BoxFuture<'static, Result<Bytes, TransportError>> {
        let why = "this node was started without a way to other members";
        Box::pin(std::future::ready(Err(TransportError::Unreachable(why.into()))))
    }
}

/// openraft's network over a [`Transport`].
#[derive(Clone)]
pub(super) struct Network {
    pub transport: Arc<dyn Transport>,
    pub log: Arc<MemberLog>,
    /// How many bytes a second a member gets that catches up.
    pub catch_up: ByteSize,
}

/// The way to one member.
pub(super) struct Way {
    network: Network,
    to: NodeId,
    member: Member,
    /// When the next entries may be sent, if they are to catch up with.
    next: Instant,
}

impl RaftNetworkFactory<Shape> for Network {
    type Network = Way;

    async fn new_client(&mut self, to: NodeId, member: &Member) -> Way {
        Way { network: self.clone(), to, member: member.clone(), next: Instant::now() }
    }
}

/// How long the answer to entries may take at the least; a far member is no lost one.
const ARRIVAL: Duration = Duration::from_millis(300);
/// And for each so many bytes as long again.
const PER_ARRIVAL: usize = 1 << 20;

/// How long the answer to entries of so many bytes is waited for. openraft gives what is appended no more
/// time than a heartbeat; what takes longer to arrive would be sent for ever and never be acknowledged.
fn arrival(least: Duration, bytes: usize) -> Duration {
    least.max(ARRIVAL) + ARRIVAL * u32::try_from(bytes / PER_ARRIVAL).unwrap_or(0)
}

impl Way {
    /// Keeps a member that catches up to its share, so that what is new reaches the others in time: the
    /// first entries go at once, and each after as long as those before take at that rate.
    async fn pace(&mut self, request: &AppendEntriesRequest<Shape>) {
        let Some(last) = request.entries.last() else { return };
        let lacks = self.network.log.newest().get().saturating_sub(ours(last.id.index).get());
        if lacks <= limits::BATCHES_IN_FLIGHT as u64 {
            return;
        }
        tokio::time::sleep_until(self.next).await;
        let bytes: usize = request.entries.iter().map(Placed::bytes).sum();
        let takes = Duration::from_secs_f64(bytes as f64 / self.network.catch_up.bytes().max(1) as f64);
        self.next = Instant::now() + takes;
    }

    /// What a member has acknowledged it cannot have forgotten, whenever it is heard again.
    fn remember(&self, has: Has) {
        self.network.log.lives().promised(self.to, has);
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        kind: Message,
        action: RPCTypes,
        content_: &impl Serialize,
        option: &RPCOption,
        carries: bool,
    ) -> Result<T, RPCError<Shape>> {
        let log = &self.network.log;
        let message = kind.write(log, content_);
        let patience = match carries {
            true => arrival(option.hard_ttl(), message.len()),
            false => option.hard_ttl(),
        };
        let call = self.network.transport.call(self.to, &self.member, message, patience);
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(bytes)) => {
                let answer = answer_of(log, self.to, &bytes).await;
                answer.map_err(|error| RPCError::Network(NetworkError::new(&error)))
            }
            Ok(Err(error @ TransportError::Unreachable(_))) => {
                Err(RPCError::Unreachable(Unreachable::new(&error)))
            }
            Ok(Err(error)) => Err(RPCError::Network(NetworkError::new(&error))),
            Err(_) => {
                Err(RPCError::Timeout(Timeout { action, id: log.node(), target: self.to, timeout: patience }))
            }
        }
    }
}

impl RaftNetworkV2<Shape> for Way {
    type SnapshotData = io::Cursor<Vec<u8>>;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Shape>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Shape>, RPCError<Shape>> {
        self.pace(&request).await;
        let carries = !request.entries.is_empty();
        let answer = self.ask(Message::Append, RPCTypes::AppendEntries, &request, &option, carries).await?;
        let matched = match &answer {
            AppendEntriesResponse::Success => {
                request.entries.last().map(|last| last.id).or(request.prev_log_id)
            }
            AppendEntriesResponse::PartialSuccess(matched) => *matched,
            AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => return Ok(answer),
        };
        let entry = matched.map_or(Index::ZERO, |id| ours(id.index));
        self.remember(Has { vote: Term::new(request.vote.leader_id.term), entry });
        Ok(answer)
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Shape>,
        option: RPCOption,
    ) -> Result<VoteResponse<Shape>, RPCError<Shape>> {
        let answer: VoteResponse<Shape> =
            self.ask(Message::Vote, RPCTypes::Vote, &request, &option, false).await?;
        if answer.vote_granted {
            self.remember(Has { vote: Term::new(request.vote.leader_id.term), entry: Index::ZERO });
        }
        Ok(answer)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Shape>,
        option: RPCOption,
    ) -> Result<VoteResponse<Shape>, RPCError<Shape>> {
        self.ask(Message::PreVote, RPCTypes::Vote, &request, &option, false).await
    }

    async fn full_snapshot(
        &mut self,
        _vote: VoteOf<Shape>,
        _snapshot: SnapshotOf<Shape, Self::SnapshotData>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Shape>, StreamingError<Shape>> {
        let error = io::Error::other("snapshots do not travel between members; entries do");
        Err(StreamingError::Unreachable(Unreachable::new(&error)))
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Shape>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Shape>, RPCError<Shape>> {
        self.ask(Message::Transfer, RPCTypes::TransferLeader, &request, &option, false).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_have_as_long_as_a_far_link_needs() {
        let ms = Duration::from_millis;
        assert_eq!(arrival(ms(20), 100), ms(300), "a far member is no lost one");
        assert_eq!(arrival(ms(500), 100), ms(500));
        assert_eq!(arrival(ms(20), 16 << 20), ms(300 * 17), "and for each MiB as long again");
    }
}
