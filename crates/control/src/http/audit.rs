//! `GET /v1/audit`: executed acts of the log and the journals of all members, as one order.
//!
//! ```text
//!   log ───────────────┐
//!   own journal ───────┼─► merged by (last event seen, member, line) ─► a page, or a stream
//!   others' journals ──┘
//!     │ over the members' own line; one that does not answer is named, and what was read of it
//!     ▼ before is shown with its age
//!   mirrors
//! ```
//!
//! A cursor holds the place in each source, so none is missed and none comes twice, also of a member
//! that was away.

use super::{
    Http,
    access::Caller,
    answer::{At, Refused, Result, refused},
    events,
    input::Asked,
    serve::Stopping,
    streams::{self, Ticket},
};
use crate::audit::{Filter, JournalAsk, JournalTold, Piece, last_of_log, of_log};
use api::{
    AuditJournal, AuditNews, AuditPage, AuditQuery, AuditRow, AuditVerified, Code, Page, Problem, routes,
};
use axum::{
    Json,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use domain::State as Decided;
use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    fmt,
    str::FromStr,
    sync::{Mutex, PoisonError},
};
use tokio::time::sleep;
use types::{EventId, NodeId, PersonId, RequestId, Timestamp, TokenId, limits};

/// What was read of other members' journals: the last lines of each, without a gap.
#[derive(Debug, Default)]
pub(super) struct Mirrors(Mutex<BTreeMap<NodeId, Mirror>>);

#[derive(Debug, Default)]
struct Mirror {
    /// Everything after this line and up to the last is here.
    from: u64,
    to: u64,
    rows: VecDeque<AuditRow>,
    read: Timestamp,
}

impl Mirrors {
    fn note(&self, node: NodeId, after: u64, piece: &Piece, now: Timestamp) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mirror = all.entry(node).or_default();
        mirror.read = now;
        if after > mirror.to || mirror.rows.is_empty() {
            *mirror = Mirror { from: after, to: after, rows: VecDeque::new(), read: now };
        }
        let fresh = piece.rows.iter().filter(|row| row.seq > mirror.to).cloned();
        mirror.rows.extend(fresh.collect::<Vec<_>>());
        mirror.to = mirror.to.max(piece.reached);
        while mirror.rows.len() > limits::JOURNAL_RECENT {
            mirror.from = mirror.rows.pop_front().map_or(mirror.from, |row| row.seq);
        }
    }

    /// What is known of a journal after a line, its last line, and when that was read.
    fn after(&self, node: NodeId, seq: Option<u64>, filter: &Filter) -> Option<(Piece, u64, Timestamp)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mirror = all.get(&node)?;
        let seq = seq.unwrap_or(mirror.from);
        if seq < mirror.from {
            return Some((Piece { reached: seq, ..Piece::default() }, mirror.to, mirror.read));
        }
        let rows = mirror.rows.iter().filter(|row| row.seq > seq && filter.fits(row));
        let piece = Piece {
            rows: rows.cloned().collect(),
            reached: mirror.to.max(seq),
            reached_event: mirror.rows.back().map_or(EventId::ZERO, |row| row.last_event),
            more: false,
            end: mirror.to,
            cut: false,
        };
        Some((piece, mirror.to, mirror.read))
    }
}

/// A place in every source. The log's comes first, then each journal's; a server without members has
/// one journal, of nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Cursor {
    event: u64,
    lines: BTreeMap<Option<NodeId>, u64>,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.event)?;
        for (node, line) in &self.lines {
            match node {
                Some(node) => write!(f, ".{node}-{line}")?,
                None => write!(f, ".-{line}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = ();
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let mut parts = text.split('.');
        let event = parts.next().and_then(|event| event.parse().ok()).ok_or(())?;
        let mut lines = BTreeMap::new();
        for part in parts {
            let (node, line) = part.rsplit_once('-').ok_or(())?;
            let node = if node.is_empty() { None } else { Some(node.parse().map_err(|_| ())?) };
            lines.insert(node, line.parse().map_err(|_| ())?);
        }
        Ok(Self { event, lines })
    }
}

/// The log, or whose journal.
type Source = Option<Option<NodeId>>;

type Sourced = (Source, AuditRow);

/// One who reads, and where.
struct Reader {
    http: Http,
    caller: Caller,
    filter: Filter,
    cursor: Cursor,
    /// Begin so many before the end, at the first look.
    last: Option<usize>,
    journals: Vec<AuditJournal>,
}

/// `GET /v1/audit`
pub(super) async fn show(
    State(http): State<Http>,
    caller: Caller,
    stopping: Stopping,
    Asked(query): Asked<AuditQuery>,
    headers: HeaderMap,
) -> Result<Response> {
    let wrong = |()| {
        let problem = Problem::new(Code::InvalidRequest, "the cursor is none of this log");
        Refused::from(problem.with_path("cursor"))
    };
    let given = headers.get(routes::LAST_EVENT_ID).and_then(|value| value.to_str().ok());
    let given = given.map(str::to_owned).or(query.cursor);
    let cursor: Option<Cursor> = given.map(|text| text.parse().map_err(wrong)).transpose()?;
    let limit = query.limit.unwrap_or(limits::PAGE_ROWS).clamp(1, limits::PAGE_ROWS);
    let filter = Filter {
        actor: query.actor,
        kind: query.kind,
        outcome: query.outcome,
        since: query.since,
        request: None,
    };
    let last = query.last.filter(|_| cursor.is_none()).map(|last| last.clamp(1, limits::PAGE_ROWS));
    let (cursor, journals) = (cursor.unwrap_or_default(), Vec::new());
    let mut reader = Reader { http: http.clone(), caller, filter, cursor, last, journals };
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accept.is_some_and(|accept| accept.contains("text/event-stream")) {
        let ticket = http.streams.take()?;
        return Ok(streams::respond(follow(reader, stopping, ticket)));
    }
    let as_of = http.core.state().head;
    let Merged { rows, more, earlier, .. } = reader.look(limit).await?;
    let rows = rows.into_iter().map(|(_, row)| row).collect();
    // It was waited for: the token may have died meanwhile.
    caller.still(&http)?;
    let cursor = reader.cursor.to_string();
    let page = AuditPage { rows, cursor, more, earlier, journals: reader.journals };
    Ok(At::new(as_of, page).into_response())
}

impl Reader {
    /// The next rows.
    async fn look(&mut self, limit: usize) -> Result<Merged> {
        let last = self.last.take();
        let wanted = last.unwrap_or(limit).max(1);
        let (log, journals) = tokio::join!(self.log(wanted, last), self.all_journals(wanted, last));
        let mut sources = vec![(None, log?)];
        self.journals.clear();
        for (state, piece) in journals {
            sources.extend(piece.map(|piece| (Some(state.node), piece)));
            self.journals.push(state);
        }
        let state = self.http.core.state();
        let Merged { mut rows, more, start, earlier } =
            merge(sources, wanted, last.is_some(), &mut self.cursor);
        rows.retain(|(_, row)| is_visible(&state, &self.caller, row));
        Ok(Merged { rows, more, start, earlier })
    }

    async fn log(&self, wanted: usize, last: Option<usize>) -> Result<Piece> {
        let (core, caller, filter) = (self.http.core.clone(), self.caller, self.filter.clone());
        let (state, cursor) = (core.state(), EventId::new(self.cursor.event));
        let read = tokio::task::spawn_blocking(move || {
            let fits =
                |envelope: &_, row: &_| events::is_visible(&state, &caller, envelope) && filter.fits(row);
            match last {
                Some(last) => last_of_log(&core, last, filter.since, fits),
                None => of_log(&core, cursor, wanted, fits),
            }
        });
        let unreadable = |why: String| {
            tracing::error!(why, "the audit's events cannot be read");
            refused(Code::Internal, "the log cannot be read; the server's own log says why")
        };
        let read = read.await.map_err(|error| unreadable(error.to_string()))?;
        read.map_err(|error| unreadable(error.to_string()))
    }

    /// Every member's journal: how it is with it, and what was read of it.
    async fn all_journals(&self, wanted: usize, last: Option<usize>) -> Vec<(AuditJournal, Option<Piece>)> {
        let asked = members(&self.http).into_iter().map(|member| {
            let node = member.node;
            let (seq, filter) =
                (self.cursor.lines.get(&node).copied().unwrap_or_default(), self.filter.clone());
            let ask = match last {
                Some(_) => JournalAsk::Last { limit: wanted, filter },
                None => JournalAsk::After { seq, limit: wanted, filter },
            };
            async move {
                let told = ask_of(&self.http, &member, ask, limits::AUDIT_ANSWER.into()).await;
                self.heard(node, member.name, last.is_none().then_some(seq), told)
            }
        });
        futures_util::future::join_all(asked).await
    }

    fn heard(
        &self,
        node: Option<NodeId>,
        name: String,
        seq: Option<u64>,
        told: std::result::Result<JournalTold, String>,
    ) -> (AuditJournal, Option<Piece>) {
        let now = self.http.core.now();
        let mut state = AuditJournal { node, name, unread: None, as_of: None, last_line: None };
        let why = match told {
            Ok(JournalTold::Piece(mut piece)) => {
                // The first shape of a line does not name its member.
                piece.rows.iter_mut().for_each(|row| row.node = row.node.or(node));
                (state.as_of, state.last_line) = (Some(now), Some(piece.end));
                if let Some(node) = node.filter(|_| self.filter == Filter::default()) {
                    let first = piece.rows.first().map_or(piece.reached, |row| row.seq - 1);
                    self.http.mirrors.note(node, seq.unwrap_or(first), &piece, now);
                }
                return (state, Some(piece));
            }
            Ok(JournalTold::Failed(why)) => why,
            Ok(JournalTold::Verified(_)) => "it answered something else".to_owned(),
            Err(why) => why,
        };
        state.unread = Some(why);
        let known = node.and_then(|node| self.http.mirrors.after(node, seq, &self.filter));
        let piece = known.map(|(piece, to, read)| {
            (state.as_of, state.last_line) = (Some(read), Some(to));
            piece
        });
        (state, piece)
    }
}

/// Rows of all sources in one order.
struct Merged {
    rows: Vec<Sourced>,
    /// There is more behind them already.
    more: bool,
    /// The place before the first of them.
    start: Cursor,
    /// There may be rows before them that nobody looked for.
    earlier: bool,
}

/// Takes row by row the smallest of those that are next in their sources, so that each source keeps its own
/// order: what a journal's lines had seen falls when a log that is behind comes to its directory. With
/// `is_last` the last rows are taken, else the first ones; the cursor goes behind what was taken, and over what
/// was looked at and did not fit.
fn merge(sources: Vec<(Source, Piece)>, wanted: usize, is_last: bool, cursor: &mut Cursor) -> Merged {
    let mut start = cursor.clone();
    let earlier = is_last && sources.iter().any(|(_, piece)| piece.cut);
    let mut sources: Vec<(Source, Piece, VecDeque<AuditRow>)> = sources
        .into_iter()
        .map(|(source, mut piece)| {
            piece.more &= !is_last;
            let rows = std::mem::take(&mut piece.rows).into();
            (source, piece, rows)
        })
        .collect();
    let mut rows: VecDeque<Sourced> = VecDeque::new();
    while is_last || rows.len() < wanted {
        let nexts = sources.iter_mut().filter_map(|all| Some((next(all)?, all)));
        let Some((_, (source, _, of))) = nexts.min_by_key(|(next, _)| *next) else { break };
        // Behind what it has looked at so far may be a row that belongs here.
        let Some(row) = of.pop_front() else { break };
        rows.push_back((*source, row));
        if rows.len() > wanted {
            rows.pop_front();
        }
    }
    let mut more = false;
    for (source, piece, left) in &sources {
        let last = rows.iter().rfind(|(of, _)| of == source);
        match last {
            _ if left.is_empty() => go(cursor, *source, piece.reached),
            Some((_, row)) => go(cursor, *source, row.seq),
            None => {}
        }
        more |= piece.more || !left.is_empty();
        if is_last {
            let first = rows.iter().find(|(of, _)| of == source);
            go(&mut start, *source, first.map_or(piece.reached, |(_, row)| row.seq - 1));
        }
    }
    Merged { rows: rows.into(), more, start, earlier }
}

/// The place in the order of what is next in a source; none if there is nothing more. Of what was not looked at
/// yet, the least that it can be.
fn next(
    (source, piece, rows): &(Source, Piece, VecDeque<AuditRow>),
) -> Option<(EventId, Option<NodeId>, u64)> {
    match rows.front() {
        Some(row) => Some((row.last_event, row.node, row.seq)),
        None if piece.more => Some((piece.reached_event, source.flatten(), piece.reached + 1)),
        None => None,
    }
}

fn go(cursor: &mut Cursor, source: Source, to: u64) {
    match source {
        None => cursor.event = to,
        Some(node) => drop(cursor.lines.insert(node, to)),
    }
}

/// Whose journal it is.
struct Member {
    /// None of a server that has no members.
    node: Option<NodeId>,
    /// What people call it.
    name: String,
    /// The event since which it is none.
    removed: Option<EventId>,
}

/// The members whose journals there are, this one among them, and those that were removed: what they wrote is
/// on their disks.
fn members(http: &Http) -> Vec<Member> {
    let present = |node, name| Member { node, name, removed: None };
    let mut all: Vec<Member> = match &http.cluster {
        None => vec![present(http.audit.node(), "this server".to_owned())],
        Some(cluster) => {
            let members = cluster.log().status().members.into_iter().map(|(node, member)| {
                let name = if member.name.is_empty() { node.to_string() } else { member.name };
                present(Some(node), name)
            });
            members.collect()
        }
    };
    let own = http.cluster.as_ref().map(|cluster| cluster.own());
    if own.is_some_and(|own| !all.iter().any(|member| member.node == Some(own))) {
        all.push(present(own, "this member".to_owned()));
    }
    let state = http.core.state();
    let removed =
        state.members.iter().filter(|(_, member)| member.removed.is_some()).map(|(node, member)| Member {
            node: Some(*node),
            name: member.name.to_string(),
            removed: member.removed,
        });
    let removed: Vec<Member> =
        removed.filter(|gone| !all.iter().any(|member| member.node == gone.node)).collect();
    all.extend(removed);
    all
}

/// Asks one member, which may be this one.
async fn ask_of(
    http: &Http,
    member: &Member,
    ask: JournalAsk,
    patience: std::time::Duration,
) -> std::result::Result<JournalTold, String> {
    if let Some(event) = member.removed {
        return Err(format!("it is no member since event {event}; what it wrote is in its data directory"));
    }
    match (&http.cluster, member.node) {
        (Some(cluster), Some(node)) if node != cluster.own() => {
            cluster.ask_journal(node, &ask, patience).await
        }
        _ => {
            let audit = http.audit.clone();
            let told = tokio::task::spawn_blocking(move || audit.answer(ask)).await;
            told.map_err(|error| error.to_string())
        }
    }
}

/// Whether a caller may see a row: not what belongs to another org.
fn is_visible(state: &Decided, caller: &Caller, row: &AuditRow) -> bool {
    let Ok(own) = caller.own_org() else { return false };
    // What follows the id of a service tells its scopes.
    let id = row.actor.split(' ').next().unwrap_or_default();
    let token = id.parse::<TokenId>().ok().and_then(|id| state.tokens.get(&id)?.org);
    let person = id.parse::<PersonId>().ok().and_then(|id| Some(state.people.get(&id)?.org));
    token.or(person).is_none_or(|org| org == own)
}

/// A stream under way.
struct Following {
    reader: Reader,
    ready: VecDeque<Bytes>,
    told: Option<Vec<(String, bool)>>,
    stopping: Stopping,
    _ticket: Ticket,
}

fn follow(
    reader: Reader,
    stopping: Stopping,
    ticket: Ticket,
) -> impl futures_util::Stream<Item = std::result::Result<Bytes, Infallible>> + Send + 'static {
    let following = Following { reader, ready: VecDeque::new(), told: None, stopping, _ticket: ticket };
    futures_util::stream::unfold(following, |mut following| async move {
        let bytes = following.next().await?;
        Some((Ok(bytes), following))
    })
}

impl Following {
    /// The next bytes; none when the stream ends: the server stops, the token died, or the log
    /// cannot be read.
    async fn next(&mut self) -> Option<Bytes> {
        let mut silent = 0;
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Some(bytes);
            }
            if self.stopping.is_stopped() || !self.reader.caller.lives(&self.reader.http) {
                return None;
            }
            let Merged { rows, more, start, .. } = self.reader.look(limits::PAGE_ROWS).await.ok()?;
            self.tell_of_journals(&start);
            let mut behind = start;
            for (source, row) in rows {
                go(&mut behind, source, row.seq);
                let (kind, id) = (row.kind.as_str(), behind.to_string());
                self.ready.push_back(streams::message(kind, &id, &AuditNews::Row(Box::new(row))));
            }
            if more || !self.ready.is_empty() {
                continue;
            }
            let look = std::time::Duration::from(limits::AUDIT_LOOK);
            silent += 1;
            if look * silent >= std::time::Duration::from(limits::STREAM_PING) {
                return Some(streams::ping());
            }
            tokio::select! {
                () = sleep(look) => {}
                () = self.stopping.stopped() => return None,
            }
        }
    }

    /// Says which journals cannot be read, at first and whenever that changes.
    fn tell_of_journals(&mut self, cursor: &Cursor) {
        let journals = &self.reader.journals;
        let now: Vec<(String, bool)> =
            journals.iter().map(|journal| (journal.name.clone(), journal.unread.is_none())).collect();
        if self.told.as_ref() != Some(&now) {
            let news = AuditNews::Journals(journals.clone());
            self.ready.push_back(streams::message("journals", &cursor.to_string(), &news));
            self.told = Some(now);
        }
    }
}

/// `GET /v1/audit/verify`
pub(super) async fn verify(State(http): State<Http>) -> Result<Json<Page<AuditVerified>>> {
    let asked = members(&http).into_iter().map(|member| {
        let http = http.clone();
        async move {
            let told = ask_of(&http, &member, JournalAsk::Verify, limits::AUDIT_VERIFY.into()).await;
            let Member { node, name, removed } = member;
            let unread = |why| AuditVerified {
                node,
                name: name.clone(),
                first: None,
                last: None,
                head: None,
                differs: None,
                unread: Some(why),
                removed,
            };
            match told {
                Ok(JournalTold::Verified(verified)) => AuditVerified { node, name: name.clone(), ..verified },
                Ok(JournalTold::Failed(why)) | Err(why) => unread(why),
                Ok(JournalTold::Piece(_)) => unread("it answered something else".to_owned()),
            }
        }
    });
    Ok(Json(Page { rows: futures_util::future::join_all(asked).await, next: None }))
}

/// What the journals know of one request, for one who may read the audit; and the members whose journals
/// could not be read, or not as far back as to know.
pub(super) async fn of_request(http: &Http, caller: &Caller, id: RequestId) -> (Vec<AuditRow>, Vec<String>) {
    let since = Some(id.time().minus(limits::CONFIRMATION_LIFE));
    let filter = Filter { request: Some(id), since, ..Filter::default() };
    let asked = members(http).into_iter().map(|member| {
        let ask = JournalAsk::Last { limit: limits::REQUEST_LINES, filter: filter.clone() };
        async move {
            let told = ask_of(http, &member, ask, limits::AUDIT_ANSWER.into()).await;
            (member.name, told)
        }
    });
    let (mut rows, mut unread) = (Vec::new(), Vec::new());
    let state = http.core.state();
    for (name, told) in futures_util::future::join_all(asked).await {
        match told {
            Ok(JournalTold::Piece(piece)) => {
                if piece.cut {
                    unread
                        .push(format!("{name} (only its last {} lines were looked at)", limits::AUDIT_SCAN));
                }
                rows.extend(piece.rows.into_iter().filter(|row| is_visible(&state, caller, row)));
            }
            _ => unread.push(name),
        }
    }
    rows.sort_by_key(|row| (row.at, row.node, row.seq));
    (rows, unread)
}

#[cfg(test)]
mod tests;
