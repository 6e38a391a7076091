//! Streams of plans for nodes, and what all streams share: a bound, a pulse, an end.
//!
//! A plan is whole, so a stream needs no memory of what it sent but one generation. It is made only
//! when the generation moved, by whoever pushes it; there is no queue that could fall behind.

use super::{
    Http,
    access::Caller,
    answer::{At, Result, refused},
    asks::Asked as Wishes,
    input::Asked,
    serve::Stopping,
};
use api::{Code, NodeStreamQuery, Problem};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use domain::{State as Decided, derive};
use futures_util::Stream;
use serde::Serialize;
use std::{convert::Infallible, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::Instant,
};
use types::{EventId, Generation, NodeId, limits, plan::NodeRole};

/// The right to hold one stream or long poll open.
pub(super) struct Ticket(
    #[allow(dead_code, reason = "held for what its end gives back")] OwnedSemaphorePermit,
);

impl Ticket {
    /// One of the server's, if one is left.
    pub(super) fn take(http: &Http) -> Result<Self> {
        http.streams.clone().try_acquire_owned().map(Self).map_err(|_| {
            let detail =
                format!("the server carries {} streams already, which is the most", http.stream_limit);
            Problem::new(Code::StreamLimit, detail).with_hint("close one, or ask for pages instead").into()
        })
    }
}

/// One server-sent event. JSON has no line feeds of its own, so it is one line of data.
pub(super) fn message(event: &str, id: &str, data: &impl Serialize) -> Bytes {
    let data = serde_json::to_string(data).expect("what is streamed has no type that JSON refuses");
    Bytes::from(format!("event: {event}\nid: {id}\ndata: {data}\n\n"))
}

/// A comment: there is nothing to say, and the stream lives.
pub(super) fn ping() -> Bytes {
    Bytes::from_static(b": ping\n\n")
}

/// A response that streams.
pub(super) fn respond(
    stream: impl Stream<Item = std::result::Result<Bytes, Infallible>> + Send + 'static,
) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (headers, Body::from_stream(stream)).into_response()
}

/// `GET /v1/node/agent-stream`
pub(super) async fn agent(
    State(http): State<Http>,
    caller: Caller,
    stopping: Stopping,
    Asked(query): Asked<NodeStreamQuery>,
) -> Result<Response> {
    let wishes = if query.poll { None } else { Some(http.asks.attend(caller.node()?)) };
    answer(http, caller, stopping, query, NodeRole::Agent, wishes).await
}

/// `GET /v1/node/edge-stream`
pub(super) async fn edge(
    State(http): State<Http>,
    caller: Caller,
    stopping: Stopping,
    Asked(query): Asked<NodeStreamQuery>,
) -> Result<Response> {
    answer(http, caller, stopping, query, NodeRole::Edge, None).await
}

async fn answer(
    http: Http,
    caller: Caller,
    stopping: Stopping,
    query: NodeStreamQuery,
    role: NodeRole,
    wishes: Option<Wishes>,
) -> Result<Response> {
    let node = caller.node()?;
    plays(&http.core.state(), node, role)?;
    if let Some(why) = ahead(&http, node, query.after) {
        return Err(refused(Code::Conflict, why));
    }
    let ticket = Ticket::take(&http)?;
    let applied = http.core.applied();
    let feed =
        Feed { http, caller, node, role, held: query.after, applied, stopping, wishes, _ticket: ticket };
    if query.poll { feed.poll().await } else { Ok(respond(feed.stream())) }
}

/// A node acts only in the roles it was enrolled with.
pub(super) fn plays(state: &Decided, node: NodeId, role: NodeRole) -> Result<()> {
    let found =
        state.nodes.get(&node).ok_or_else(|| refused(Code::Forbidden, "this node is not known any more"))?;
    if found.roles.contains(&role) {
        return Ok(());
    }
    let role = match role {
        NodeRole::Agent => "agent",
        NodeRole::Edge => "edge",
    };
    Err(refused(Code::Forbidden, format!("node {} is not enrolled as {role}", found.name)))
}

/// Why nothing may be pushed: the node holds what this log never made.
pub(super) fn ahead(http: &Http, node: NodeId, held: Generation) -> Option<String> {
    let head = http.core.state().head;
    if held.get() > head.get() {
        return Some(format!(
            "node {node} holds plan {held}, and this log ends at event {head}: the log is older than what runs. Nothing is pushed to the node."
        ));
    }
    http.core.data_plane_ahead(node)
}

/// The generation of the newest plan for a role of a node.
pub(super) fn newest(state: &Decided, node: NodeId, role: NodeRole) -> Option<Generation> {
    match role {
        NodeRole::Agent => state.nodes.get(&node).map(|node| node.generation),
        NodeRole::Edge => Some(state.edge_generation),
    }
}

/// One node's stream under way.
struct Feed {
    http: Http,
    caller: Caller,
    node: NodeId,
    role: NodeRole,
    held: Generation,
    applied: watch::Receiver<EventId>,
    stopping: Stopping,
    wishes: Option<Wishes>,
    _ticket: Ticket,
}

impl Feed {
    /// The plan, if there is a newer one than the node holds and it may be pushed.
    fn due<T>(&mut self, write: impl Fn(Generation, &dyn erased::Plan) -> T) -> Option<T> {
        self.applied.borrow_and_update();
        let state = self.http.core.state();
        let newest = newest(&state, self.node, self.role)?;
        if newest <= self.held || ahead(&self.http, self.node, self.held).is_some() {
            return None;
        }
        let written = match self.role {
            NodeRole::Agent => write(newest, &derive::node_plan(&state, self.node)?),
            NodeRole::Edge => write(newest, &derive::edge_plan(&state)),
        };
        self.held = newest;
        Some(written)
    }

    fn lives(&self) -> bool {
        let core = &self.http.core;
        !self.stopping.is_stopped() && self.caller.lives(&core.state(), core.clock().now())
    }

    async fn poll(mut self) -> Result<Response> {
        let until = Instant::now() + Duration::from(limits::POLL_WAIT);
        loop {
            let answer = self.due(|generation, plan| plan.answer(EventId::new(generation.get())));
            if let Some(answer) = answer {
                return Ok(answer);
            }
            let over = tokio::select! {
                changed = self.applied.changed() => changed.is_err(),
                () = tokio::time::sleep_until(until) => true,
                () = self.stopping.stopped() => true,
            };
            if over {
                return Ok(StatusCode::NO_CONTENT.into_response());
            }
        }
    }

    fn stream(self) -> impl Stream<Item = std::result::Result<Bytes, Infallible>> + Send + 'static {
        futures_util::stream::unfold(self, |mut feed| async move {
            let bytes = feed.next().await?;
            Some((Ok(bytes), feed))
        })
    }

    /// The next bytes; none when the stream ends: the server stops, or the credential died.
    async fn next(&mut self) -> Option<Bytes> {
        let pulse = Instant::now() + Duration::from(limits::STREAM_PING);
        loop {
            if !self.lives() {
                return None;
            }
            let due = self.due(|generation, plan| plan.message(generation));
            if due.is_some() {
                return due;
            }
            let wish = async {
                match &mut self.wishes {
                    Some(wishes) => wishes.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.applied.changed() => changed.ok()?,
                wish = wish => {
                    // Without a wish this stream was replaced by a newer one of the same node.
                    let wish = wish?;
                    return Some(message("logs", &self.held.to_string(), &wish));
                }
                () = tokio::time::sleep_until(pulse) => return Some(ping()),
                () = self.stopping.stopped() => return None,
            }
        }
    }
}

/// The two kinds of plans, as a stream and a poll write them.
mod erased {
    use super::{At, message};
    use axum::response::{IntoResponse, Response};
    use bytes::Bytes;
    use types::{
        EventId, Generation,
        plan::{EdgePlan, NodePlan},
    };

    /// A plan that can be sent.
    pub(super) trait Plan {
        /// As an event of a stream.
        fn message(&self, generation: Generation) -> Bytes;
        /// As the answer to a poll.
        fn answer(&self, event: EventId) -> Response;
    }

    impl Plan for NodePlan {
        fn message(&self, generation: Generation) -> Bytes {
            message("plan", &generation.to_string(), self)
        }
        fn answer(&self, event: EventId) -> Response {
            At::new(event, self.clone()).into_response()
        }
    }

    impl Plan for EdgePlan {
        fn message(&self, generation: Generation) -> Bytes {
            message("plan", &generation.to_string(), self)
        }
        fn answer(&self, event: EventId) -> Response {
            At::new(event, self.clone()).into_response()
        }
    }
}
