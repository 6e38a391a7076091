//! The client of agents and edges. A lost call or stream is theirs to open again: reports carry
//! sequences and streams carry generations, so that saying a thing twice changes nothing.

use crate::{
    ClientError, EnrolRequest, Enrolled, LeaseAnswer, NodeMessage, NodeStreamQuery, ReportAnswer,
    ReportRequest,
    client::Wire,
    routes::{self, fill},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::Method;
use types::{
    RequestId,
    history::Held,
    limits,
    plan::{EdgePlan, Lease, NodePlan, Transition},
};

/// A node's way to its server.
#[derive(Clone, Debug)]
pub struct NodeClient {
    wire: Wire,
}

impl NodeClient {
    /// A client of the server at this URL, as the node that this credential belongs to.
    ///
    /// # Errors
    /// *Not sent*, if the URL cannot be one of a server.
    pub fn new(server: &str, credential: &str) -> Result<Self, ClientError> {
        let wire = Wire::new(server, Some(credential.to_owned()), limits::CLIENT_ANSWER.into())?;
        Ok(Self { wire })
    }

    /// Becomes a node: the join token is used up. Needs no credential; it gives one.
    ///
    /// # Errors
    /// As any call. If the outcome is unknown, the same request id may be sent again with the same
    /// body; the credential itself is given once, so a new join token may be needed.
    pub async fn enrol(server: &str, id: RequestId, request: &EnrolRequest) -> Result<Enrolled, ClientError> {
        let wire = Wire::new(server, None, limits::CLIENT_ANSWER.into())?;
        wire.write(routes::ENROL, id, request).await
    }

    /// Every plan newer than the one held for this node's agent, and every ask, as they come.
    ///
    /// Ends with an error when the stream is lost or the server is silent for
    /// [`limits::STREAM_SILENCE`].
    ///
    /// # Errors
    /// As any call; *unknown* harms nothing here.
    pub async fn agent_stream<H: Into<Held>>(
        &self,
        held: H,
    ) -> Result<impl Stream<Item = Result<NodeMessage, ClientError>> + Send + use<H>, ClientError> {
        let query = NodeStreamQuery::of(held.into(), false);
        let response = self.wire.send(self.wire.stream(routes::AGENT_STREAM).query(&query)).await?;
        Ok(self.wire.messages(response).filter_map(|message| async move {
            let (wire, message) = match message {
                Ok(message) => message,
                Err(error) => return Some(Err(error)),
            };
            match message.event.as_str() {
                "plan" => Some(wire.read(&message.data).map(|plan| NodeMessage::Plan(Box::new(plan)))),
                "logs" => Some(wire.read(&message.data).map(NodeMessage::Logs)),
                // A newer server may say more; what is not known is not for this version.
                _ => None,
            }
        }))
    }

    /// Every plan newer than the one held for this node's edge, as they come; see [`Self::agent_stream`].
    ///
    /// # Errors
    /// As any call; *unknown* harms nothing here.
    pub async fn edge_stream<H: Into<Held>>(
        &self,
        held: H,
    ) -> Result<impl Stream<Item = Result<EdgePlan, ClientError>> + Send + use<H>, ClientError> {
        let query = NodeStreamQuery::of(held.into(), false);
        let response = self.wire.send(self.wire.stream(routes::EDGE_STREAM).query(&query)).await?;
        Ok(self.wire.messages(response).filter_map(|message| async move {
            match message {
                Ok((wire, message)) if message.event == "plan" => Some(wire.read(&message.data)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            }
        }))
    }

    /// One plan newer than the one held for the agent; `None` if there is none within the bound of a poll.
    ///
    /// # Errors
    /// As any call.
    pub async fn agent_poll(&self, held: impl Into<Held>) -> Result<Option<NodePlan>, ClientError> {
        self.poll(routes::AGENT_STREAM, held.into()).await
    }

    /// One plan newer than the one held for the edge; `None` if there is none within the bound of a poll.
    ///
    /// # Errors
    /// As any call.
    pub async fn edge_poll(&self, held: impl Into<Held>) -> Result<Option<EdgePlan>, ClientError> {
        self.poll(routes::EDGE_STREAM, held.into()).await
    }

    async fn poll<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        held: Held,
    ) -> Result<Option<T>, ClientError> {
        let query = NodeStreamQuery::of(held, true);
        let wait =
            std::time::Duration::from(limits::POLL_WAIT) + std::time::Duration::from(limits::CLIENT_ANSWER);
        self.wire.json_or_nothing(self.wire.call(Method::GET, path).query(&query).timeout(wait)).await
    }

    /// Renews the lease of one role of this node.
    ///
    /// # Errors
    /// As any call.
    pub async fn renew(&self, lease: &Lease) -> Result<LeaseAnswer, ClientError> {
        self.wire.json(self.wire.call(Method::POST, routes::LEASE).json(lease)).await
    }

    /// Reports transitions. What the answer accepts is durable and need not be said again.
    ///
    /// # Errors
    /// As any call; on *unknown* the same transitions are simply reported again.
    pub async fn report(&self, transitions: Vec<Transition>) -> Result<ReportAnswer, ClientError> {
        self.wire
            .json(self.wire.call(Method::POST, routes::REPORT).json(&ReportRequest { transitions }))
            .await
    }

    /// Answers an ask for logs with bytes as they come; ends when they end or nobody reads any more.
    ///
    /// # Errors
    /// As any call; *not found* if nobody waits for the answer.
    pub async fn answer_logs(
        &self,
        ask: u64,
        bytes: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<(), ClientError> {
        let body = reqwest::Body::wrap_stream(bytes.map(Ok::<_, std::convert::Infallible>));
        let call = self.wire.open(Method::POST, &fill(routes::ASK, &[&ask.to_string()]));
        self.wire.send(call.header("content-type", "application/octet-stream").body(body)).await.map(drop)
    }
}
