//! The events of the log, a page at a time or as they come.
//!
//! `gapless_order`, seen by one reader: a page and a stream hold every event that the reader may
//! see, in order, once. The id of an event is the cursor to go on from, in both.

use super::{
    Http,
    access::Caller,
    answer::{At, Refused, Result, refused},
    input::Asked,
    requests,
    roles::Permission,
    serve::Stopping,
    streams::{self, Ticket},
};
use api::{Code, EventPage, EventRow, EventsQuery, Subject as Row, routes};
use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use domain::{Envelope, State as Decided, Subject, Verdict};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{sync::watch, time::Instant};
use types::{EventId, OrgId, limits};

/// `GET /v1/events`
pub(super) async fn events(
    State(http): State<Http>,
    caller: Caller,
    stopping: Stopping,
    Asked(query): Asked<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let streamed = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let after = cursor(&headers, &query)?;
    let head = http.core.state().head;
    if after > head {
        let detail = format!("there is no event {after} yet: the log ends at {head}");
        return Err(api::Problem::new(Code::InvalidRequest, detail).with_path("after").into());
    }
    let reader = Reader { http: http.clone(), caller, after, ready: VecDeque::new() };
    if streamed.is_some_and(|accept| accept.contains("text/event-stream")) {
        let ticket = http.streams.take()?;
        return Ok(streams::respond(follow(reader, stopping, ticket)));
    }
    let ticket = if query.wait { Some(http.streams.take()?) } else { None };
    let limit = query.limit.unwrap_or(limits::PAGE_ROWS).clamp(1, limits::PAGE_ROWS);
    let page = poll(reader, limit, query.wait, &stopping).await?;
    drop(ticket);
    Ok(At::new(page.head, page).into_response())
}

/// Where to go on: a reader that lost its stream says the last id it has, and that is newer than
/// the one in its address.
fn cursor(headers: &HeaderMap, query: &EventsQuery) -> Result<EventId> {
    let Some(value) = headers.get(routes::LAST_EVENT_ID) else { return Ok(query.after) };
    let id = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    id.ok_or_else(|| refused(Code::InvalidRequest, "Last-Event-ID is not the id of an event"))
}

/// One reader with its cursor.
struct Reader {
    http: Http,
    caller: Caller,
    after: EventId,
    ready: VecDeque<EventRow>,
}

impl Reader {
    /// Reads on until there is something to show or the state's end is reached.
    async fn advance(&mut self) -> Result<()> {
        let state = self.http.core.state();
        // What is durable and not yet in the state cannot be told apart by org: it waits.
        while self.ready.is_empty() && self.after < state.head {
            let (core, after) = (self.http.core.clone(), self.after);
            let wanted = (state.head.get() - after.get()).min(limits::PAGE_ROWS as u64) as usize;
            let read = tokio::task::spawn_blocking(move || core.events(after, wanted)).await;
            let envelopes = read.map_err(|error| unreadable(&error))?.map_err(|error| unreadable(&error))?;
            let Some(last) = envelopes.last() else { break };
            self.after = last.id;
            let seen = envelopes.iter().filter(|envelope| is_visible(&state, &self.caller, envelope));
            self.ready.extend(seen.map(|envelope| row(&state, &self.caller, envelope)));
        }
        Ok(())
    }
}

fn unreadable(error: &(dyn std::error::Error + 'static)) -> Refused {
    tracing::error!(error, "events cannot be read");
    refused(Code::Internal, "the log cannot be read; the server's own log says why")
}

async fn poll(mut reader: Reader, limit: usize, wait: bool, stopping: &Stopping) -> Result<EventPage> {
    let mut applied = reader.http.core.applied();
    let until = Instant::now() + Duration::from(limits::POLL_WAIT);
    let mut events = Vec::new();
    loop {
        let head = *applied.borrow_and_update();
        while events.len() < limit {
            reader.advance().await?;
            let room = limit - events.len();
            let count = reader.ready.len().min(room);
            if count == 0 {
                break;
            }
            events.extend(reader.ready.drain(..count));
        }
        // It was waited for: the token may have died meanwhile.
        reader.caller.still(&reader.http)?;
        if !events.is_empty() || !wait {
            return Ok(EventPage { events, head });
        }
        let over = tokio::select! {
            changed = applied.changed() => changed.is_err(),
            () = tokio::time::sleep_until(until) => true,
            () = stopping.stopped() => true,
        };
        if over {
            reader.caller.still(&reader.http)?;
            return Ok(EventPage { events, head });
        }
    }
}

/// A stream under way.
struct Following {
    reader: Reader,
    applied: watch::Receiver<EventId>,
    stopping: Stopping,
    _ticket: Ticket,
}

fn follow(
    reader: Reader,
    stopping: Stopping,
    ticket: Ticket,
) -> impl futures_util::Stream<Item = std::result::Result<Bytes, std::convert::Infallible>> + Send + 'static {
    let applied = reader.http.core.applied();
    let following = Following { reader, applied, stopping, _ticket: ticket };
    futures_util::stream::unfold(following, |mut following| async move {
        let bytes = following.next().await?;
        Some((Ok(bytes), following))
    })
}

impl Following {
    /// The next bytes; none when the stream ends: the server stops, the token died, or the log
    /// cannot be read.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.stopping.is_stopped() || !self.reader.caller.lives(&self.reader.http) {
                return None;
            }
            self.applied.borrow_and_update();
            self.reader.advance().await.ok()?;
            if let Some(row) = self.reader.ready.pop_front() {
                return Some(streams::message(&row.kind, &row.id.to_string(), &row));
            }
            tokio::select! {
                changed = self.applied.changed() => changed.ok()?,
                () = tokio::time::sleep(limits::STREAM_PING.into()) => return Some(streams::ping()),
                () = self.stopping.stopped() => return None,
            }
        }
    }
}

/// Whether a caller may see an event: what belongs to its org and, by its role, who may open it and
/// what belongs to the server as a whole.
pub(super) fn is_visible(state: &Decided, caller: &Caller, envelope: &Envelope) -> bool {
    let Ok(org) = caller.own_org() else { return false };
    match owner_of(state, envelope) {
        Belongs::To(of) => of == org,
        Belongs::Access(of) => of == org && caller.may(Permission::ReadAccess),
        Belongs::ToServer => caller.may(Permission::ReadServer),
        // A thing that is gone from the state belongs to the only org there is or, where there are
        // more, is shown to nobody rather than to the wrong one.
        Belongs::Forgotten => state.orgs.len() == 1,
    }
}

enum Belongs {
    To(OrgId),
    Access(OrgId),
    ToServer,
    Forgotten,
}

fn owner_of(state: &Decided, envelope: &Envelope) -> Belongs {
    use domain::Event;
    let of_env = |env: Option<types::EnvId>| env.and_then(|env| state.org_of(env));
    let org = match envelope.event.subject() {
        Subject::Cluster | Subject::Node(_) | Subject::Member(_) => return Belongs::ToServer,
        Subject::Token(id) => {
            let org = state.tokens.get(&id).and_then(|token| token.org);
            return org.map_or(Belongs::ToServer, Belongs::Access);
        }
        Subject::Person(id) => {
            return state.people.get(&id).map_or(Belongs::Forgotten, |person| Belongs::Access(person.org));
        }
        Subject::Request(_) => match envelope.event {
            Event::RequestDecided { principal, .. } => match requests::principal_org(state, principal) {
                Some(org) => Some(org),
                None => return Belongs::ToServer,
            },
            _ => None,
        },
        Subject::Org(org) => Some(org),
        Subject::Namespace(_) | Subject::Change(_) => match &envelope.event {
            Event::Config(event) => state.config.owners.get(&event.namespace()).copied(),
            _ => None,
        },
        Subject::App(_) | Subject::Environment(_)
            if let Event::AppDeleted { org, .. } | Event::EnvironmentDeleted { org, .. } = envelope.event =>
        {
            Some(org)
        }
        Subject::App(app) => state.apps.get(&app).map(|app| app.org),
        Subject::Environment(env) => of_env(Some(env)),
        Subject::Release(id) => of_env(state.releases.get(&id).map(|release| release.env)),
        Subject::Deploy(id) => of_env(match envelope.event {
            Event::DeployStarted { env, .. } => Some(env),
            _ => state.deploys.get(&id).map(|deploy| deploy.env),
        }),
        Subject::Instance(id) => of_env(match envelope.event {
            Event::InstanceAllocated { env, .. } => Some(env),
            _ => state.instances.get(&id).map(|instance| instance.env),
        }),
        Subject::Route(id) => of_env(match envelope.event {
            Event::RouteRequested { env, .. } => Some(env),
            _ => state.routes.get(&id).map(|route| route.env),
        }),
    };
    org.map_or(Belongs::Forgotten, Belongs::To)
}

/// The type and the id of what an event is about.
pub(super) fn subject(subject: Subject, cluster: &str) -> (&'static str, String) {
    match subject {
        Subject::Cluster => ("cluster", cluster.to_owned()),
        Subject::Org(id) => ("org", id.to_string()),
        Subject::App(id) => ("app", id.to_string()),
        Subject::Environment(id) => ("environment", id.to_string()),
        Subject::Release(id) => ("release", id.to_string()),
        Subject::Deploy(id) => ("deploy", id.to_string()),
        Subject::Instance(id) => ("instance", id.to_string()),
        Subject::Route(id) => ("route", id.to_string()),
        Subject::Node(id) => ("node", id.to_string()),
        Subject::Member(id) => ("member", id.to_string()),
        Subject::Token(id) => ("token", id.to_string()),
        Subject::Person(id) => ("person", id.to_string()),
        Subject::Namespace(id) => ("namespace", id.to_string()),
        Subject::Change(id) => ("change", id.to_string()),
        Subject::Request(id) => ("request", id.to_string()),
    }
}

/// Whether a caller may read what came of a request in words: they can name who may get in.
fn is_told(caller: &Caller, event: &domain::Event) -> bool {
    match event {
        domain::Event::RequestDecided { principal, verdict: Verdict::Executed(done), .. } => {
            let of_apps = done.app.is_some() || done.env.is_some();
            of_apps || *principal == caller.actor() || caller.may(Permission::ReadAccess)
        }
        domain::Event::RequestDecided { principal, .. } => {
            *principal == caller.actor() || caller.may(Permission::ReadAccess)
        }
        _ => true,
    }
}

fn row(state: &Arc<Decided>, caller: &Caller, envelope: &Envelope) -> EventRow {
    let (kind, id) = subject(envelope.event.subject(), &state.cluster);
    let mut data = data(&envelope.event);
    if !is_told(caller, &envelope.event)
        && let Some(fields) = data.as_object_mut()
    {
        fields.remove("verdict");
    }
    EventRow {
        id: envelope.id,
        at: envelope.at,
        kind: envelope.event.kind().to_owned(),
        version: envelope.event.version(),
        subject: Row { kind: kind.to_owned(), id, sequence: envelope.sequence },
        actor: envelope.actor.to_string(),
        request_id: envelope.request,
        epoch: envelope.epoch,
        cause: envelope.cause,
        data,
    }
}

/// The fields of an event. Hashes are shown as digits; the hash of a secret is shown to nobody,
/// since whoever guesses a secret could try the guess against it.
fn data(event: &domain::Event) -> serde_json::Value {
    use serde_json::Value;
    let tagged = serde_json::to_value(event).unwrap_or(Value::Null);
    let mut fields = match tagged {
        Value::Object(map) => map.into_iter().next().map_or(Value::Null, |(_, fields)| fields),
        other => other,
    };
    if let Value::Object(fields) = &mut fields {
        fields.remove("hash");
        for key in ["content", "body"] {
            if let Some(Value::Array(bytes)) = fields.get(key) {
                let hex: String =
                    bytes.iter().filter_map(Value::as_u64).map(|byte| format!("{byte:02x}")).collect();
                fields.insert(key.to_owned(), Value::String(hex));
            }
        }
    }
    fields
}
