//! The audit from the client's side.

use crate::{AuditNews, AuditPage, AuditQuery, AuditVerified, Client, ClientError, Page, routes};
use futures_util::{Stream, StreamExt};
use reqwest::Method;

/// What each call can fail with is told by [`ClientError`]; each sends one request, once.
impl Client {
    /// One page of what anybody attempted.
    pub async fn audit(&self, query: &AuditQuery) -> Result<AuditPage, ClientError> {
        self.wire.json(self.wire.call(Method::GET, routes::AUDIT).query(query)).await
    }

    /// The same as it comes, for as long as the connection holds; each with the cursor to go on from.
    pub async fn audit_stream(
        &self,
        query: &AuditQuery,
    ) -> Result<impl Stream<Item = Result<(String, AuditNews), ClientError>> + Send + use<>, ClientError>
    {
        let response = self.wire.send(self.wire.stream(routes::AUDIT).query(query)).await?;
        Ok(self.wire.messages(response).map(|message| {
            let (wire, message) = message?;
            Ok((message.id.clone().unwrap_or_default(), wire.read(&message.data)?))
        }))
    }

    /// Has every member hold its journal against its chain.
    pub async fn verify_audit(&self) -> Result<Vec<AuditVerified>, ClientError> {
        let page: Page<AuditVerified> =
            self.wire.json(self.wire.call(Method::GET, routes::AUDIT_VERIFY)).await?;
        Ok(page.rows)
    }
}
