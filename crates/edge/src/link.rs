//! The way to the control plane, as the edge sees it. Losing it costs freshness, never traffic.

use futures_util::{FutureExt, StreamExt, TryFutureExt, future::BoxFuture, stream::BoxStream};
use types::{
    Generation,
    history::Held,
    plan::{EdgePlan, Lease},
};

/// The control plane could not be reached, or answered what cannot be used.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct LinkError(#[from] Box<dyn std::error::Error + Send + Sync>);

impl LinkError {
    /// An error with this cause.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// Plans as they come.
pub type Plans = BoxStream<'static, Result<EdgePlan, LinkError>>;

/// What an edge asks of its control plane. Every call may fail at any time and is made again.
pub trait ControlLink: Send + Sync + 'static {
    /// Every plan newer than the one held, as they come.
    fn plans(&self, held: Held) -> BoxFuture<'_, Result<Plans, LinkError>>;

    /// Says what the edge holds; answers the newest generation there is.
    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<Generation, LinkError>>;
}

impl ControlLink for api::NodeClient {
    fn plans(&self, held: Held) -> BoxFuture<'_, Result<Plans, LinkError>> {
        let plans = self.edge_stream(held).map_err(LinkError::new);
        plans.map_ok(|plans| plans.map(|plan| plan.map_err(LinkError::new)).boxed()).boxed()
    }

    fn renew(&self, lease: Lease) -> BoxFuture<'_, Result<Generation, LinkError>> {
        async move { Ok(Self::renew(self, &lease).await.map_err(LinkError::new)?.generation) }.boxed()
    }
}
