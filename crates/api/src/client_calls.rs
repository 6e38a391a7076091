//! One method of [`Client`] for each route. Writes take the request id that names their intent.

use crate::{
    AppRow, ApplyRequest, Client, ClientError, DeployRequest, DeployRow, EnvRow, EnvStatus, EventPage,
    EventRow, EventsQuery, Explanation, InstanceRow, JoinTokenRequest, LogsQuery, NodeRow, Page, PlanAnswer,
    PlanQuery, Ready, RebuildAnswer, Receipt, ReleaseRow, RequestState, RestartRequest, RollbackRequest,
    RouteRow, ScaleRequest, SseParser, TokenRequest, TokenRow, Version, ViewRow, Whoami,
    routes::{self, fill},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use reqwest::{Method, RequestBuilder};
use serde::de::DeserializeOwned;
use types::{DeployId, EventId, InstanceId, Name, RequestId, TokenId, limits};

/// The way to an environment, for calls.
type Place<'a> = (&'a Name, &'a Name, &'a Name);

fn at(path: &str, (org, app, env): Place<'_>) -> String {
    fill(path, &[org.as_str(), app.as_str(), env.as_str()])
}

/// What each call can fail with is told by [`ClientError`]; each sends one request, once.
impl Client {
    fn get(&self, path: &str) -> RequestBuilder {
        let request = self.wire.call(Method::GET, path);
        match self.at_least {
            Some(event) => request.query(&[("at_least", event.get())]),
            None => request,
        }
    }

    /// Every page of a list, one after the other.
    pub(crate) async fn list<T: DeserializeOwned>(&self, path: &str) -> Result<Vec<T>, ClientError> {
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let request = match &cursor {
                Some(cursor) => self.get(path).query(&[("cursor", cursor)]),
                None => self.get(path),
            };
            let page: Page<T> = self.wire.json(request).await?;
            rows.extend(page.rows);
            match page.next {
                // A cursor that does not move would be asked for ever.
                Some(next) if cursor.as_ref() != Some(&next) => cursor = Some(next),
                _ => return Ok(rows),
            }
        }
    }

    /// What an apply would change. Writes nothing.
    pub async fn plan(&self, org: &Name, request: &ApplyRequest) -> Result<PlanAnswer, ClientError> {
        let call = self.wire.call(Method::POST, &fill(routes::APPLY, &[org.as_str()]));
        self.wire.json(call.query(&PlanQuery { plan: true }).json(request)).await
    }

    /// Brings an environment to a manifest.
    pub async fn apply(
        &self,
        org: &Name,
        id: RequestId,
        request: &ApplyRequest,
    ) -> Result<Receipt, ClientError> {
        self.wire.write(&fill(routes::APPLY, &[org.as_str()]), id, request).await
    }

    /// Scales a process.
    pub async fn scale(
        &self,
        to: Place<'_>,
        id: RequestId,
        request: &ScaleRequest,
    ) -> Result<Receipt, ClientError> {
        self.wire.write(&at(routes::SCALE, to), id, request).await
    }

    /// Replaces instances by fresh ones.
    pub async fn restart(
        &self,
        to: Place<'_>,
        id: RequestId,
        request: &RestartRequest,
    ) -> Result<Receipt, ClientError> {
        self.wire.write(&at(routes::RESTART, to), id, request).await
    }

    /// Goes back to an earlier release.
    pub async fn rollback(
        &self,
        to: Place<'_>,
        id: RequestId,
        request: &RollbackRequest,
    ) -> Result<Receipt, ClientError> {
        self.wire.write(&at(routes::ROLLBACK, to), id, request).await
    }

    /// Deploys another image with the manifest as it is.
    pub async fn deploy(
        &self,
        to: Place<'_>,
        id: RequestId,
        request: &DeployRequest,
    ) -> Result<Receipt, ClientError> {
        self.wire.write(&at(routes::DEPLOY, to), id, request).await
    }

    /// The apps of an org.
    pub async fn apps(&self, org: &Name) -> Result<Vec<AppRow>, ClientError> {
        self.list(&fill(routes::APPS, &[org.as_str()])).await
    }

    /// One app.
    pub async fn app(&self, org: &Name, app: &Name) -> Result<AppRow, ClientError> {
        self.wire.json(self.get(&fill(routes::APP, &[org.as_str(), app.as_str()]))).await
    }

    /// The environments of an app.
    pub async fn envs(&self, org: &Name, app: &Name) -> Result<Vec<EnvRow>, ClientError> {
        self.list(&fill(routes::ENVS, &[org.as_str(), app.as_str()])).await
    }

    /// The status of an environment.
    pub async fn status(&self, of: Place<'_>) -> Result<EnvStatus, ClientError> {
        self.wire.json(self.get(&at(routes::ENV, of))).await
    }

    /// Its releases.
    pub async fn releases(&self, of: Place<'_>) -> Result<Vec<ReleaseRow>, ClientError> {
        self.list(&at(routes::RELEASES, of)).await
    }

    /// Its deploys, the newest first.
    pub async fn deploys(&self, of: Place<'_>) -> Result<Vec<DeployRow>, ClientError> {
        self.list(&at(routes::DEPLOYS, of)).await
    }

    /// One of its deploys.
    pub async fn deploy_status(&self, of: Place<'_>, deploy: DeployId) -> Result<DeployRow, ClientError> {
        let (org, app, env) = of;
        let values = [org.as_str(), app.as_str(), env.as_str(), &deploy.to_string()];
        self.wire.json(self.get(&fill(routes::DEPLOY_ONE, &values))).await
    }

    /// Its instances.
    pub async fn instances(&self, of: Place<'_>) -> Result<Vec<InstanceRow>, ClientError> {
        self.list(&at(routes::INSTANCES, of)).await
    }

    /// Why it is as it is.
    pub async fn explain(&self, of: Place<'_>) -> Result<Explanation, ClientError> {
        self.wire.json(self.get(&at(routes::EXPLAIN, of))).await
    }

    /// The routes of an org.
    pub async fn routes(&self, org: &Name) -> Result<Vec<RouteRow>, ClientError> {
        self.list(&fill(routes::ROUTES, &[org.as_str()])).await
    }

    /// The log of an instance, as text.
    pub async fn logs(
        &self,
        org: &Name,
        instance: InstanceId,
        query: LogsQuery,
    ) -> Result<impl Stream<Item = Result<Bytes, ClientError>> + Send + use<>, ClientError> {
        let path = fill(routes::LOGS, &[org.as_str(), &instance.to_string()]);
        let response = self.wire.send(self.wire.open(Method::GET, &path).query(&query)).await?;
        Ok(self.wire.bytes(response))
    }

    /// The nodes.
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, ClientError> {
        self.list(routes::NODES).await
    }

    /// No new instances on this node, and the present ones away from it.
    pub async fn drain_node(&self, id: RequestId, node: &str) -> Result<Receipt, ClientError> {
        self.wire.write(&fill(routes::NODE_DRAIN, &[node]), id, &serde_json::json!({})).await
    }

    /// Instances on this node again.
    pub async fn activate_node(&self, id: RequestId, node: &str) -> Result<Receipt, ClientError> {
        self.wire.write(&fill(routes::NODE_ACTIVATE, &[node]), id, &serde_json::json!({})).await
    }

    /// The tokens.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, ClientError> {
        self.list(routes::TOKENS).await
    }

    /// Makes a token.
    pub async fn create_token(&self, id: RequestId, request: &TokenRequest) -> Result<Receipt, ClientError> {
        self.wire.write(routes::TOKENS, id, request).await
    }

    /// Revokes a token.
    pub async fn revoke_token(&self, id: RequestId, token: TokenId) -> Result<Receipt, ClientError> {
        let call = self.wire.call(Method::DELETE, &fill(routes::TOKEN, &[&token.to_string()]));
        self.wire.json(call.header(routes::IDEMPOTENCY_KEY, id.to_string())).await
    }

    /// Makes a single-use secret that enrols a node.
    pub async fn create_join_token(
        &self,
        id: RequestId,
        request: &JoinTokenRequest,
    ) -> Result<Receipt, ClientError> {
        self.wire.write(routes::JOIN_TOKENS, id, request).await
    }

    /// A page of events.
    pub async fn events(&self, query: EventsQuery) -> Result<EventPage, ClientError> {
        self.wire.json(self.get(routes::EVENTS).query(&query)).await
    }

    /// Every event after this one, as it comes. Ends with an error when the stream is lost; open it
    /// again after the last event taken.
    pub async fn event_stream(
        &self,
        after: EventId,
    ) -> Result<impl Stream<Item = Result<EventRow, ClientError>> + Send + use<>, ClientError> {
        let query = EventsQuery { after, ..EventsQuery::default() };
        let response = self.wire.send(self.wire.stream(routes::EVENTS).query(&query)).await?;
        Ok(self
            .wire
            .messages(response)
            .map(|message| message.and_then(|(wire, message)| wire.read(&message.data))))
    }

    /// What became of a request.
    pub async fn request(&self, id: RequestId) -> Result<RequestState, ClientError> {
        self.wire.json(self.wire.call(Method::GET, &fill(routes::REQUEST, &[&id.to_string()]))).await
    }

    /// A request that was not seen may never run.
    pub async fn void(&self, id: RequestId) -> Result<RequestState, ClientError> {
        self.wire.json(self.wire.call(Method::POST, &fill(routes::REQUEST_VOID, &[&id.to_string()]))).await
    }

    /// The read views.
    pub async fn views(&self) -> Result<Vec<ViewRow>, ClientError> {
        self.list(routes::VIEWS).await
    }

    /// Folds a view anew and compares.
    pub async fn rebuild_view(&self, name: &str) -> Result<RebuildAnswer, ClientError> {
        self.wire.json(self.wire.call(Method::POST, &fill(routes::VIEW_REBUILD, &[name]))).await
    }

    /// Whether the server can do its work. A server that cannot answers with a problem.
    pub async fn ready(&self) -> Result<Ready, ClientError> {
        self.wire.json(self.wire.call(Method::GET, routes::HEALTH_READY)).await
    }

    /// What runs there.
    pub async fn version(&self) -> Result<Version, ClientError> {
        self.wire.json(self.wire.call(Method::GET, routes::VERSION)).await
    }

    /// Who the token is.
    pub async fn whoami(&self) -> Result<Whoami, ClientError> {
        self.wire.json(self.wire.call(Method::GET, routes::WHOAMI)).await
    }
}

use crate::{SseMessage, client::Wire};
use reqwest::Response;

impl Wire {
    /// The messages of an event stream. A stream that the server ends is an error like any other
    /// loss: a reader must never take it for "nothing more will happen".
    pub(crate) fn messages(
        &self,
        response: Response,
    ) -> impl Stream<Item = Result<(Self, SseMessage), ClientError>> + Send + use<> {
        let state = Reading {
            bytes: Box::pin(self.bytes(response)),
            parser: SseParser::with_bound(limits::STREAM_EVENT),
            ready: Default::default(),
            wire: Some(self.clone()),
        };
        futures_util::stream::unfold(state, |mut state| async move {
            let next = state.next().await?;
            Some((next, state))
        })
    }

    pub(crate) fn read<T: DeserializeOwned>(&self, data: &str) -> Result<T, ClientError> {
        serde_json::from_str(data).map_err(|error| self.bad(reqwest::StatusCode::OK, error.to_string()))
    }
}

/// A stream under way. Without a wire it has failed, said so, and is over.
struct Reading<S> {
    bytes: std::pin::Pin<Box<S>>,
    parser: SseParser,
    ready: std::collections::VecDeque<SseMessage>,
    wire: Option<Wire>,
}

impl<S: Stream<Item = Result<Bytes, ClientError>>> Reading<S> {
    async fn next(&mut self) -> Option<Result<(Wire, SseMessage), ClientError>> {
        let wire = self.wire.clone()?;
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(Ok((wire, message)));
            }
            let error = match self.bytes.next().await {
                Some(Ok(bytes)) => match self.parser.push(&bytes) {
                    Ok(messages) => {
                        self.ready.extend(messages);
                        continue;
                    }
                    Err(error) => wire.unreadable(&error),
                },
                Some(Err(error)) => error,
                None => ClientError::Unknown {
                    server: wire.server.clone(),
                    why: "the server ended the stream".to_owned(),
                },
            };
            self.wire = None;
            return Some(Err(error));
        }
    }
}
