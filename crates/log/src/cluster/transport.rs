//! Messages between members: how they are written, and the door through which they go.
//!
//! A message is one byte of version, one of kind, and its content in postcard. What carries it is not
//! known here: TLS between real members, memory in tests.

use super::shape::{Member, Shape};
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
const VERSION: u8 = 1;

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
}

impl Message {
    const fn code(self) -> u8 {
        match self {
            Self::Append => 1,
            Self::Vote => 2,
            Self::PreVote => 3,
            Self::Transfer => 4,
            Self::Position => 5,
        }
    }

    /// The kind of a message and its content.
    ///
    /// # Errors
    /// Another version, or no kind that is known.
    pub(super) fn read(bytes: &Bytes) -> Result<(Self, Bytes), TransportError> {
        let (version, code) = match bytes.get(..2) {
            Some(&[version, code]) => (version, code),
            _ => return Err(TransportError::Refused("a message of less than two bytes".into())),
        };
        if version != VERSION {
            let why = format!("messages of version {version}, and this member speaks version {VERSION}");
            return Err(TransportError::Refused(why));
        }
        let all = [Self::Append, Self::Vote, Self::PreVote, Self::Transfer, Self::Position];
        let kind = all.into_iter().find(|kind| kind.code() == code);
        let kind = kind.ok_or_else(|| TransportError::Refused(format!("a message of kind {code}")))?;
        Ok((kind, bytes.slice(2..)))
    }

    pub(super) fn write(self, content: &impl Serialize) -> Bytes {
        let start = vec![VERSION, self.code()];
        postcard::to_extend(content, start).expect("messages are plain data").into()
    }
}

/// Writes an answer.
pub(super) fn answer(content: &impl Serialize) -> Bytes {
    postcard::to_stdvec(content).expect("answers are plain data").into()
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
    pub own: NodeId,
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

impl Way {
    async fn ask<T: DeserializeOwned>(
        &self,
        kind: Message,
        action: RPCTypes,
        content_: &impl Serialize,
        option: &RPCOption,
    ) -> Result<T, RPCError<Shape>> {
        let message = kind.write(content_);
        let patience = option.hard_ttl();
        let call = self.network.transport.call(self.to, &self.member, message, patience);
        match tokio::time::timeout(patience, call).await {
            Ok(Ok(bytes)) => content(&bytes).map_err(|error| RPCError::Network(NetworkError::new(&error))),
            Ok(Err(error @ TransportError::Unreachable(_))) => {
                Err(RPCError::Unreachable(Unreachable::new(&error)))
            }
            Ok(Err(error)) => Err(RPCError::Network(NetworkError::new(&error))),
            Err(_) => Err(RPCError::Timeout(Timeout {
                action,
                id: self.network.own,
                target: self.to,
                timeout: patience,
            })),
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
        self.ask(Message::Append, RPCTypes::AppendEntries, &request, &option).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<Shape>,
        option: RPCOption,
    ) -> Result<VoteResponse<Shape>, RPCError<Shape>> {
        self.ask(Message::Vote, RPCTypes::Vote, &request, &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Shape>,
        option: RPCOption,
    ) -> Result<VoteResponse<Shape>, RPCError<Shape>> {
        self.ask(Message::PreVote, RPCTypes::Vote, &request, &option).await
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
        self.ask(Message::Transfer, RPCTypes::TransferLeader, &request, &option).await
    }
}
