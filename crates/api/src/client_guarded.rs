//! Guarded acts from the client's side (one call explains, the other confirms), and the cluster.

use crate::{
    BackupAsked, Client, ClientError, ClusterStatus, ConfirmedBy, Explained, MemberJoinRequest,
    MemberJoinSecret, SnapshotDone, routes,
};
use reqwest::{Method, RequestBuilder};
use serde::{Serialize, de::DeserializeOwned};
use types::RequestId;

/// What each call can fail with is told by [`ClientError`]; each sends one request, once.
impl Client {
    /// What a guarded act would do, and the token that runs it. Changes nothing.
    pub async fn explain_act(
        &self,
        path: &str,
        id: RequestId,
        body: &(impl Serialize + Sync),
    ) -> Result<Explained, ClientError> {
        let call = self.named(&format!("{path}?{}", routes::EXPLAIN_FLAG), id);
        self.wire.json(call.json(body)).await
    }

    /// Runs a guarded act that was explained.
    pub async fn confirm_act<T: DeserializeOwned>(
        &self,
        path: &str,
        id: RequestId,
        (token, by): (&str, ConfirmedBy),
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        let call = self.named(path, id).header(routes::CONFIRM, token);
        self.wire.json(call.header(routes::CONFIRMED_BY, by.as_str()).json(body)).await
    }

    /// Runs an act of which the explanation says that nothing has to be confirmed.
    pub async fn act<T: DeserializeOwned>(
        &self,
        path: &str,
        id: RequestId,
        body: &(impl Serialize + Sync),
    ) -> Result<T, ClientError> {
        self.wire.write(path, id, body).await
    }

    /// The cluster, as the server knows it.
    pub async fn cluster(&self) -> Result<ClusterStatus, ClientError> {
        self.wire.json(self.wire.call(Method::GET, routes::CLUSTER)).await
    }

    /// Makes a single-use secret that admits a member.
    pub async fn create_member_secret(
        &self,
        id: RequestId,
        request: &MemberJoinRequest,
    ) -> Result<MemberJoinSecret, ClientError> {
        self.wire.write(routes::CLUSTER_JOIN_TOKENS, id, request).await
    }

    /// Has the server make a snapshot now.
    pub async fn snapshot(&self, id: RequestId) -> Result<SnapshotDone, ClientError> {
        self.wire.json(self.named(routes::CLUSTER_SNAPSHOT, id)).await
    }

    /// Has the member that leads make a backup out of turn, to where it was told to.
    pub async fn ask_backup(&self, id: RequestId) -> Result<BackupAsked, ClientError> {
        self.wire.json(self.named(routes::CLUSTER_BACKUP, id)).await
    }

    fn named(&self, path: &str, id: RequestId) -> RequestBuilder {
        self.wire.call(Method::POST, path).header(routes::IDEMPOTENCY_KEY, id.to_string())
    }
}
