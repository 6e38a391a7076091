//! The way to the control plane, as the agent sees it.
//!
//! Whatever goes wrong here touches no instance: the agent keeps its plan, keeps its reports, and
//! asks again. Tests put a control plane of their own behind [`ControlLink`].

use api::{LeaseAnswer, NodeMessage};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use std::collections::BTreeMap;
use types::{
    InstanceId,
    history::Held,
    plan::{Lease, Transition},
};

/// The control plane did not answer, or not well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("control plane: {0}")]
pub struct LinkError(pub String);

/// What an agent asks of its control plane.
#[async_trait]
pub trait ControlLink: Send + Sync + 'static {
    /// Opens the stream of plans newer than the one held, and of wishes to read logs.
    async fn stream(
        &self,
        held: Held,
    ) -> Result<BoxStream<'static, Result<NodeMessage, LinkError>>, LinkError>;

    /// Says that the node lives and what it holds.
    async fn renew(&self, lease: &Lease) -> Result<LeaseAnswer, LinkError>;

    /// Hands over reports. Answers for each instance the highest sequence that need not be sent again.
    async fn report(&self, transitions: &[Transition]) -> Result<BTreeMap<InstanceId, u64>, LinkError>;

    /// Answers a wish to read a log. Ends when the text ends or nobody reads any more.
    async fn answer_logs(&self, ask: u64, text: BoxStream<'static, Bytes>) -> Result<(), LinkError>;
}

fn failed(error: &api::ClientError) -> LinkError {
    LinkError(error.to_string())
}

#[async_trait]
impl ControlLink for api::NodeClient {
    async fn stream(
        &self,
        held: Held,
    ) -> Result<BoxStream<'static, Result<NodeMessage, LinkError>>, LinkError> {
        let messages = self.agent_stream(held).await.map_err(|error| failed(&error))?;
        Ok(messages.map(|message| message.map_err(|error| failed(&error))).boxed())
    }

    async fn renew(&self, lease: &Lease) -> Result<LeaseAnswer, LinkError> {
        api::NodeClient::renew(self, lease).await.map_err(|error| failed(&error))
    }

    async fn report(&self, transitions: &[Transition]) -> Result<BTreeMap<InstanceId, u64>, LinkError> {
        let answer =
            api::NodeClient::report(self, transitions.to_vec()).await.map_err(|error| failed(&error))?;
        Ok(answer.accepted)
    }

    async fn answer_logs(&self, ask: u64, text: BoxStream<'static, Bytes>) -> Result<(), LinkError> {
        api::NodeClient::answer_logs(self, ask, text).await.map_err(|error| failed(&error))
    }
}
