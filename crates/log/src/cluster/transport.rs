//! Messages between members: how they are written, and the door through which they go.
//!
//! ```text
//! version u8, kind u8, sender [u8;16], its start: count u64, nonce [u8;16]; content in postcard
//! ```
//!
//! An answer begins likewise, with kind 0. What comes from an earlier life of a member, or from a copy of
//! it, is refused before consensus sees it ([`crate::wal::Incarnations`]). What carries messages is not
//! known here: TLS between real members, memory in tests.

use super::shape::{Member, Shape};
use crate::wal::{Incarnation, MemberLog};
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
use types::NodeId;

/// The version of the messages. A member that speaks another is told so.
const VERSION: u8 = 2;
/// The kind of an answer.
const ANSWER: u8 = 0;
const HEADER: usize = 2 + 16 + 8 + 16;

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

    /// The kind of a message, its sender, and its content.
    ///
    /// # Errors
    /// Another version, no kind that is known, or an earlier life of its sender.
    pub(super) fn read(log: &MemberLog, bytes: &Bytes) -> Result<(Self, NodeId, Bytes), TransportError> {
        let (code, sender, content) = open(log, bytes)?;
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
    let life = log.lives().own();
    let mut start = vec![VERSION, code];
    start.extend_from_slice(&log.node().as_u128().to_le_bytes());
    start.extend_from_slice(&life.count.to_le_bytes());
    start.extend_from_slice(&life.nonce.to_le_bytes());
    postcard::to_extend(content, start).expect("messages are plain data").into()
}

/// The code, the sender and the content of what a member sent.
fn open(log: &MemberLog, bytes: &Bytes) -> Result<(u8, NodeId, Bytes), TransportError> {
    let refused = |why: String| Err(TransportError::Refused(why));
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
    let count = u64::from_le_bytes(header[18..26].try_into().expect("a range of eight bytes"));
    let nonce = u128::from_le_bytes(header[26..].try_into().expect("a range of sixteen bytes"));
    if let Err(stale) = log.lives().admit(sender, Incarnation { count, nonce }) {
        return refused(stale.to_string());
    }
    Ok((header[1], sender, bytes.slice(HEADER..)))
}

/// Writes an answer.
pub(super) fn answer(log: &MemberLog, content: &impl Serialize) -> Bytes {
    sealed(log, ANSWER, content)
}

/// Reads the answer of this member.
pub(super) fn answer_of<T: DeserializeOwned>(
    log: &MemberLog,
    from: NodeId,
    bytes: &Bytes,
) -> Result<T, TransportError> {
    match open(log, bytes)? {
        (ANSWER, sender, body) if sender == from => content(&body),
        (_, sender, _) => Err(TransportError::Refused(format!("node {sender} answers in place of {from}"))),
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
}

/// The way to one member.
pub(super) struct Way {
    network: Network,
    to: NodeId,
    member: Member,
}

impl RaftNetworkFactory<Shape> for Network {
    type Network = Way;

    async fn new_client(&mut self, to: NodeId, member: &Member) -> Way {
        Way { network: self.clone(), to, member: member.clone() }
    }
}

/// How long the answer to entries may take at the least; a far member is no lost one.
const ARRIVAL: Duration = Duration::from_millis(300);
/// And for each so many bytes as long again.
const PER_ARRIVAL: usize = 1 << 20;

impl Way {
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
            // openraft gives what is appended no more time than a heartbeat; what takes longer to arrive
            // would be sent for ever and never be acknowledged.
            true => {
                option.hard_ttl().max(ARRIVAL)
                    + ARRIVAL * u32::try_from(message.len() / PER_ARRIVAL).unwrap_or(0)
            }
            false => option.hard_ttl(),
        };
        let call = self.network.transport.call(self.to, &self.member, message, patience);
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(bytes)) => {
                answer_of(log, self.to, &bytes).map_err(|error| RPCError::Network(NetworkError::new(&error)))
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
        let carries = !request.entries.is_empty();
        self.ask(Message::Append, RPCTypes::AppendEntries, &request, &option, carries).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Shape>,
        option: RPCOption,
    ) -> Result<VoteResponse<Shape>, RPCError<Shape>> {
        self.ask(Message::Vote, RPCTypes::Vote, &request, &option, false).await
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
