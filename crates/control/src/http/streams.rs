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
use crate::observe::Line;
use api::{Code, NodeStreamQuery, Problem};
use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use domain::{State as Decided, derive, plan, state::Standing};
use futures_util::Stream;
use serde::Serialize;
use std::{convert::Infallible, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::Instant,
};
use types::{
    EventId, Generation, NodeId,
    history::Held,
    limits,
    plan::{EdgePlan, NodePlan, NodeRole},
};

/// How many streams and long polls may be open at once.
pub(super) struct Places {
    free: Arc<Semaphore>,
    most: usize,
}

/// The right to hold one of them open.
pub(super) struct Ticket(
    #[allow(dead_code, reason = "held for what its end gives back")] OwnedSemaphorePermit,
);

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), most }
    }

    /// How many there are.
    pub(super) fn most(&self) -> usize {
        self.most
    }

    /// How many are taken.
    pub(super) fn taken(&self) -> usize {
        self.most - self.free.available_permits()
    }

    /// One of them, if one is left.
    pub(super) fn take(&self) -> Result<Ticket> {
        self.free.clone().try_acquire_owned().map(Ticket).map_err(|_| {
            let detail = format!("the server carries {} streams already, which is the most", self.most);
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
    answer(http, caller, stopping, query, NodeRole::Agent).await
}

/// `GET /v1/node/edge-stream`
pub(super) async fn edge(
    State(http): State<Http>,
    caller: Caller,
    stopping: Stopping,
    Asked(query): Asked<NodeStreamQuery>,
) -> Result<Response> {
    answer(http, caller, stopping, query, NodeRole::Edge).await
}

async fn answer(
    http: Http,
    caller: Caller,
    stopping: Stopping,
    query: NodeStreamQuery,
    role: NodeRole,
) -> Result<Response> {
    let node = caller.node()?;
    let state = http.core.state();
    plays(&state, node, role)?;
    let (held, identity) = (named(query.held())?, http.core.identity());
    let standing = state.standing(&identity, &held);
    // Only who sequences knows where the log ends: what another has not caught up with yet, or cannot
    // know to be committed, is no plan of another log.
    if http.core.leads() && !http.core.is_late(&state, &held) {
        let line = Line { state: &state, identity: &identity };
        http.core.observations().hear(node, role, &held, line);
    } else if let Standing::Apart(_) = standing {
        let detail = format!("this server is at event {}, and does not know {held}", state.head);
        return Err(refused(Code::Unavailable, detail));
    }
    if let Some(why) = http.core.why_apart(node) {
        return Err(refused(Code::Conflict, why));
    }
    let is_ours = standing == Standing::Own;
    let wait = Duration::from(limits::ADOPT_EDGES);
    let comes_over = (!is_ours && role == NodeRole::Agent).then(|| Instant::now() + wait);
    let held = if is_ours { held.generation } else { Generation::ZERO };
    let ticket = http.node_streams.take()?;
    // Last of all: from here on this stream takes the place of the node's older one.
    let attends = role == NodeRole::Agent && !query.poll;
    let wishes = attends.then(|| http.asks.attend(node));
    let (applied, said) = (http.core.applied(), http.core.observations().changed());
    let feed =
        Feed { http, caller, node, role, held, comes_over, applied, said, stopping, wishes, _ticket: ticket };
    if query.poll { feed.poll().await } else { Ok(respond(feed.stream())) }
}

/// The name of a plan, if it can be one.
pub(super) fn named(held: Held) -> Result<Held> {
    match held.is_sound() {
        true => Ok(held),
        false => Err(refused(Code::InvalidRequest, "no plan has such a name")),
    }
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

/// The generation of the newest plan for a role of a node.
pub(super) fn newest(state: &Decided, node: NodeId, role: NodeRole) -> Option<Generation> {
    match role {
        NodeRole::Agent => state.nodes.get(&node).map(|node| node.generation),
        NodeRole::Edge => Some(state.edge_generation),
    }
}

/// A plan that is sent.
enum Plan {
    Node(NodePlan),
    Edge(EdgePlan),
}

impl Plan {
    /// As an event of a stream.
    fn message(&self, generation: Generation) -> Bytes {
        match self {
            Self::Node(plan) => message("plan", &generation.to_string(), plan),
            Self::Edge(plan) => message("plan", &generation.to_string(), plan),
        }
    }

    /// As the answer to a poll.
    fn answer(self) -> Response {
        match self {
            Self::Node(plan) => At::new(plan.name().event, plan).into_response(),
            Self::Edge(plan) => At::new(plan.name().event, plan).into_response(),
        }
    }
}

/// One node's stream under way.
struct Feed {
    http: Http,
    caller: Caller,
    node: NodeId,
    role: NodeRole,
    held: Generation,
    /// An agent that holds a plan of another log, which was adopted: how long it waits for the edges.
    comes_over: Option<Instant>,
    applied: watch::Receiver<EventId>,
    /// Moves on with what nodes say.
    said: watch::Receiver<u64>,
    stopping: Stopping,
    wishes: Option<Wishes>,
    _ticket: Ticket,
}

impl Feed {
    /// The plan, if there is a newer one than the node holds and it may be pushed.
    fn due(&mut self) -> Option<Plan> {
        self.applied.borrow_and_update();
        let state = self.http.core.state();
        let waits = self.waits(&state);
        let newest = newest(&state, self.node, self.role)?;
        if newest <= self.held || self.http.core.why_apart(self.node).is_some() || waits {
            return None;
        }
        let identity = self.http.core.identity();
        let plan = match self.role {
            NodeRole::Agent => Plan::Node(derive::node_plan(&state, &identity, self.node)?),
            NodeRole::Edge => Plan::Edge(derive::edge_plan_of(&state, &identity, self.node)),
        };
        self.held = newest;
        Some(plan)
    }

    /// Whether an agent that comes over from another log has to wait: what it then stops may still be
    /// routed to. Not for ever: an edge that is silent may never come.
    fn waits(&mut self, state: &Decided) -> bool {
        let Some(until) = self.comes_over else { return false };
        self.said.borrow_and_update();
        let (core, since) = (&self.http.core, state.line_since());
        let is_over = Instant::now() >= until;
        if is_over || plan::let_go(state, &core.observations().snapshot(), core.now(), since) {
            self.comes_over = None;
        }
        self.comes_over.is_some()
    }

    /// Waits for a reason to look again that only one who comes over has.
    async fn wait_over(until: Option<Instant>, said: &mut watch::Receiver<u64>) {
        match until {
            None => std::future::pending().await,
            Some(until) => {
                let _changed_or_late = tokio::time::timeout_at(until, said.changed()).await;
            }
        }
    }

    fn lives(&self) -> bool {
        !self.stopping.is_stopped() && self.caller.lives(&self.http)
    }

    async fn poll(mut self) -> Result<Response> {
        let until = Instant::now() + Duration::from(limits::POLL_WAIT);
        loop {
            self.caller.still(&self.http)?;
            if let Some(plan) = self.due() {
                return Ok(plan.answer());
            }
            let over = tokio::select! {
                changed = self.applied.changed() => changed.is_err(),
                () = Self::wait_over(self.comes_over, &mut self.said) => false,
                () = tokio::time::sleep_until(until) => true,
                () = self.stopping.stopped() => true,
            };
            if over {
                self.caller.still(&self.http)?;
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
            if let Some(plan) = self.due() {
                return Some(plan.message(self.held));
            }
            let wish = async {
                match &mut self.wishes {
                    Some(wishes) => wishes.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.applied.changed() => changed.ok()?,
                () = Self::wait_over(self.comes_over, &mut self.said) => {}
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
