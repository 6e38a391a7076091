//! Logs of instances: a reader asks, the node's agent is told on its stream and answers with a
//! body of its own, which goes through to the reader piece by piece.
//!
//! ```text
//!   reader ─GET logs─▶ ask n ──"logs" on the agent's stream──▶ agent
//!   reader ◀──────── bounded pipe ◀────────POST /asks/n──────── agent
//! ```
//! Invariants: a node answers only what it was asked; an ask ends with its reader, and the agent's
//! upload with it; nothing of a log is kept here.

use super::{
    Http,
    access::Caller,
    answer::{Refused, Result, missing, refused},
    input::{Asked as Query, Places},
    serve::Stopping,
    streams::Ticket,
};
use api::{Code, LogsAsk, LogsQuery, Problem};
use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::StreamExt;
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{mpsc, oneshot, watch};
use types::{EventId, InstanceId, NodeId, limits};

/// Lines sent first when the reader does not say how many.
const TAIL: u32 = 100;

/// Who waits for what, and which agents listen.
#[derive(Default)]
pub(super) struct Asks {
    next: AtomicU64,
    open: Mutex<BTreeMap<u64, Open>>,
    agents: Mutex<BTreeMap<NodeId, mpsc::Sender<LogsAsk>>>,
}

/// An ask that nobody has begun to answer.
struct Open {
    node: NodeId,
    begun: oneshot::Sender<()>,
    pieces: mpsc::Sender<Bytes>,
}

/// What an agent's stream hears of.
pub(super) struct Asked(mpsc::Receiver<LogsAsk>);

impl Asked {
    /// The next wish; none when a newer stream of the same node has taken over.
    pub(super) async fn next(&mut self) -> Option<LogsAsk> {
        self.0.recv().await
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().expect("no thread panics while it holds this")
}

impl Asks {
    /// From now on the asks for this node go to whoever holds the answer.
    pub(super) fn attend(&self, node: NodeId) -> Asked {
        let (wish, wishes) = mpsc::channel(limits::ASKS_PER_NODE);
        lock(&self.agents).insert(node, wish);
        Asked(wishes)
    }

    /// Agents with an open stream.
    pub(super) fn attended(&self) -> usize {
        lock(&self.agents).values().filter(|agent| !agent.is_closed()).count()
    }

    fn tell(&self, node: NodeId, ask: LogsAsk) -> std::result::Result<(), &'static str> {
        let mut agents = lock(&self.agents);
        match agents.get(&node).map(|agent| agent.try_send(ask)) {
            Some(Ok(())) => Ok(()),
            Some(Err(mpsc::error::TrySendError::Full(_))) => Err("has more asks waiting than it takes"),
            Some(Err(mpsc::error::TrySendError::Closed(_))) => {
                agents.remove(&node);
                Err("is not connected")
            }
            None => Err("is not connected"),
        }
    }

    /// Takes an ask that was put to this node.
    fn take(&self, ask: u64, node: NodeId) -> Option<Open> {
        let mut open = lock(&self.open);
        if open.get(&ask)?.node != node {
            return None;
        }
        open.remove(&ask)
    }
}

/// Takes an ask back when its reader has gone before an answer began.
struct Withdraw<'a>(&'a Asks, u64);

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        lock(&self.0.open).remove(&self.1);
    }
}

/// `GET …/instances/{id}/logs`
pub(super) async fn logs(
    State(http): State<Http>,
    caller: Caller,
    stopping: Stopping,
    Places((org, id)): Places<(String, String)>,
    Query(query): Query<LogsQuery>,
) -> Result<Response> {
    let state = http.core.state();
    let org = caller.org(&state, &org)?;
    let gone = || missing(format_args!("instance {id}"));
    let instance: InstanceId = id.parse().map_err(|_| gone())?;
    let found = state.instances.get(&instance).filter(|found| state.org_of(found.env) == Some(org));
    let node = found.ok_or_else(gone)?.node;
    let node_name = state.nodes.get(&node).map_or_else(|| node.to_string(), |node| node.name.to_string());
    let ticket = http.streams.take()?;
    let (begun, begins) = oneshot::channel();
    let (pieces, read) = mpsc::channel(limits::ASK_PIECES);
    let ask = http.asks.next.fetch_add(1, Ordering::Relaxed) + 1;
    lock(&http.asks.open).insert(ask, Open { node, begun, pieces });
    let withdraw = Withdraw(&http.asks, ask);
    let tail_lines = query.tail.unwrap_or(TAIL);
    let wish = LogsAsk { ask, instance, tail_lines, follow: query.follow };
    http.asks.tell(node, wish).map_err(|why| no_answer(&node_name, why))?;
    tokio::select! {
        begun = begins => begun.map_err(|_| no_answer(&node_name, "gave no answer"))?,
        () = tokio::time::sleep(limits::ASK_WAIT.into()) => {
            return Err(no_answer(&node_name, &format!("did not answer within {}", limits::ASK_WAIT)));
        }
        () = stopping.stopped() => return Err(refused(Code::Unavailable, "the server is stopping")),
    }
    drop(withdraw);
    let applied = http.core.applied();
    let reading = Reading { http: http.clone(), caller, read, applied, stopping, _ticket: ticket };
    Ok(respond(reading))
}

fn no_answer(node: &str, why: &str) -> Refused {
    let problem = Problem::new(
        Code::Unavailable,
        format!("the agent on node {node} {why}, so its logs cannot be read"),
    );
    problem.with_hint("holdfast nodes").into()
}

/// A log that somebody reads.
struct Reading {
    http: Http,
    caller: Caller,
    read: mpsc::Receiver<Bytes>,
    applied: watch::Receiver<EventId>,
    stopping: Stopping,
    _ticket: Ticket,
}

impl Reading {
    /// The next piece; none when the log ends, the server stops, or the reader's token died.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            // A token dies by an event or by the clock, and a quiet log outlives it by neither.
            if !self.caller.lives(&self.http) {
                return None;
            }
            tokio::select! {
                // It was waited for: the reader may have gone meanwhile.
                piece = self.read.recv() => return piece.filter(|_| self.caller.lives(&self.http)),
                changed = self.applied.changed() => changed.ok()?,
                () = tokio::time::sleep(limits::STREAM_PING.into()) => {}
                () = self.stopping.stopped() => return None,
            }
        }
    }
}

fn respond(reading: Reading) -> Response {
    let pieces = futures_util::stream::unfold(reading, |mut reading| async move {
        let piece = reading.next().await?;
        Some((Ok::<_, Infallible>(piece), reading))
    });
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    (headers, Body::from_stream(pieces)).into_response()
}

/// `POST /v1/node/asks/{ask}`: the bytes of an answer, for as long as somebody reads them.
pub(super) async fn answer(
    State(http): State<Http>,
    caller: Caller,
    stopping: Stopping,
    Places(ask): Places<u64>,
    request: Request,
) -> Result<StatusCode> {
    let open = http.asks.take(ask, caller.node()?).ok_or_else(|| missing(format_args!("ask {ask}")))?;
    let gone = || missing(format_args!("ask {ask}"));
    open.begun.send(()).map_err(|()| gone())?;
    let mut body = request.into_body().into_data_stream();
    loop {
        let piece = tokio::select! {
            piece = body.next() => piece,
            () = open.pieces.closed() => return Ok(StatusCode::NO_CONTENT),
            () = stopping.stopped() => return Ok(StatusCode::NO_CONTENT),
        };
        let Some(Ok(piece)) = piece else { return Ok(StatusCode::NO_CONTENT) };
        caller.still(&http)?;
        if open.pieces.send(piece).await.is_err() {
            return Ok(StatusCode::NO_CONTENT);
        }
    }
}
