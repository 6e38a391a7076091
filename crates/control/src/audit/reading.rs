//! What readers are told of the audit: pieces of a journal and of the log, in one shape.

use super::{Audit, Journal, JournalError, Verified};
use crate::writer::{Core, StartError};
use api::{AuditConfirmation, AuditRequest, AuditRow, AuditType, AuditVerified, Outcome};
use domain::{Actor, Envelope, Event, Verdict};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use types::{EventId, RequestId, Timestamp, limits};

/// Which rows are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Filter {
    pub(crate) actor: Option<String>,
    pub(crate) kind: Option<AuditType>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) request: Option<RequestId>,
}

impl Filter {
    pub(crate) fn fits(&self, row: &AuditRow) -> bool {
        self.actor.as_ref().is_none_or(|actor| row.actor.split(' ').next() == Some(actor))
            && self.kind.is_none_or(|kind| kind == row.kind)
            && self.outcome.is_none_or(|outcome| outcome == row.outcome)
            && self.since.is_none_or(|since| row.at >= since)
            && self.request.is_none_or(|request| row.request.id == Some(request))
    }
}

/// What a member is asked of its journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JournalAsk {
    /// Lines after this one that fit.
    After { seq: u64, limit: usize, filter: Filter },
    /// The last lines that fit.
    Last { limit: usize, filter: Filter },
    /// Hold all of it against its chain.
    Verify,
}

/// What it answers. As JSON, for a line holds what somebody asked for in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JournalTold {
    Piece(Piece),
    Verified(AuditVerified),
    Failed(String),
}

/// A piece of a journal, or of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Piece {
    /// What fits, in order.
    pub(crate) rows: Vec<AuditRow>,
    /// Everything up to here was looked at.
    pub(crate) reached: u64,
    /// The last event that is seen there.
    pub(crate) reached_event: EventId,
    /// There is more behind it.
    pub(crate) more: bool,
    /// The last line that there is.
    pub(crate) end: u64,
    /// Of the last rows that fit: there may be earlier ones, behind which nothing was looked for.
    #[serde(default)]
    pub(crate) cut: bool,
}

impl Audit {
    /// Answers another member, or this one. Blocks.
    pub(crate) fn answer(&self, ask: JournalAsk) -> JournalTold {
        let journal = match (self.journal(), &ask) {
            (Ok(journal), _) => journal,
            (Err(error), JournalAsk::Verify) => return self.verified(Err(error)),
            (Err(error), _) => return JournalTold::Failed(error.to_string()),
        };
        let told = match ask {
            JournalAsk::After { seq, limit, filter } => {
                after(journal, seq, limit, &filter).map(JournalTold::Piece)
            }
            JournalAsk::Last { limit, filter } => last(journal, limit, &filter).map(JournalTold::Piece),
            JournalAsk::Verify => return self.verified(journal.verify_now().as_ref()),
        };
        told.unwrap_or_else(|error| JournalTold::Failed(error.to_string()))
    }

    fn verified(&self, found: Result<&Verified, &JournalError>) -> JournalTold {
        let mut verified = AuditVerified {
            node: self.node(),
            name: String::new(),
            first: None,
            last: None,
            head: None,
            differs: None,
            unread: None,
            removed: None,
        };
        match found {
            Ok(found) => {
                (verified.first, verified.last) = (Some(found.first), Some(found.entries));
                verified.head = Some(found.head());
            }
            Err(error @ JournalError::Damaged { .. }) => verified.differs = Some(error.to_string()),
            Err(error) => verified.unread = Some(error.to_string()),
        }
        JournalTold::Verified(verified)
    }
}

fn after(journal: &Arc<Journal>, mut seq: u64, limit: usize, filter: &Filter) -> Result<Piece, JournalError> {
    let limit = limit.clamp(1, limits::JOURNAL_PAGE);
    let (end, _) = journal.last();
    let mut piece = Piece { reached: seq, end, ..Piece::default() };
    let mut scanned = 0;
    'pages: while seq < end {
        let lines = journal.after(seq)?;
        let Some(last) = lines.last() else {
            piece.reached = end;
            break;
        };
        seq = last.seq;
        for line in &lines {
            (piece.reached, piece.reached_event) = (line.seq, line.last_event);
            scanned += 1;
            let row = line.row();
            if filter.fits(&row) {
                piece.rows.push(row);
            }
            if piece.rows.len() >= limit || scanned >= limits::AUDIT_SCAN {
                break 'pages;
            }
        }
    }
    piece.more = piece.reached < end;
    Ok(piece)
}

/// The last lines that fit, looked for among so many as one page may look through.
fn last(journal: &Arc<Journal>, limit: usize, filter: &Filter) -> Result<Piece, JournalError> {
    let limit = limit.clamp(1, limits::JOURNAL_PAGE);
    let (end, _) = journal.last();
    let window = if *filter == Filter::default() { limit } else { limits::AUDIT_SCAN };
    let mut rows = Vec::new();
    let start = end.saturating_sub(window as u64);
    let mut seq = start;
    loop {
        let mut piece = after(journal, seq, limits::JOURNAL_PAGE, filter)?;
        rows.append(&mut piece.rows);
        rows.drain(..rows.len().saturating_sub(limit));
        seq = piece.reached;
        if !piece.more {
            let cut = rows.len() < limit && may_fit(journal, start, filter)?;
            return Ok(Piece { rows, cut, ..piece });
        }
    }
}

/// Whether this line, or one before it, may fit: not if it is older than what is wanted, or nobody has it any more.
fn may_fit(journal: &Arc<Journal>, seq: u64, filter: &Filter) -> Result<bool, JournalError> {
    let Some(before) = seq.checked_sub(1) else { return Ok(false) };
    let line = journal.after(before)?.first().filter(|line| line.seq == seq).cloned();
    Ok(line.is_some_and(|line| filter.since.is_none_or(|since| line.at >= since)))
}

/// The last executed acts that fit, looked for among so many events as one page may look through. Blocks.
pub(crate) fn last_of_log(
    core: &Core,
    last: usize,
    since: Option<Timestamp>,
    fits: impl Fn(&Envelope, &AuditRow) -> bool,
) -> Result<Piece, StartError> {
    let head = core.state().head.get();
    let look = |window: u64| {
        let start = EventId::new(head.saturating_sub(window));
        of_log(core, start, limits::AUDIT_SCAN, &fits).map(|found| (start, found))
    };
    // Most acts are a handful of events; the widest window is read only if need be.
    let (mut start, mut found) = look(last as u64 * ACT_EVENTS)?;
    if found.rows.len() < last && start > EventId::ZERO {
        (start, found) = look(limits::AUDIT_SCAN as u64)?;
    }
    if found.rows.len() < last && start > EventId::ZERO {
        let oldest = core.events(start, 1)?.first().map(|envelope| envelope.at);
        found.cut = oldest.is_none_or(|at| since.is_none_or(|since| at >= since));
    }
    Ok(found)
}

/// Events that one act causes, about.
const ACT_EVENTS: u64 = 16;

/// Executed acts in the log after an event: one row for each request, and one for each event that
/// somebody caused without one. What the platform does by itself is no act of anybody. Blocks.
pub(crate) fn of_log(
    core: &Core,
    after: EventId,
    limit: usize,
    fits: impl Fn(&Envelope, &AuditRow) -> bool,
) -> Result<Piece, StartError> {
    let head = core.state().head;
    let mut piece = Piece { reached: after.get(), reached_event: after, end: head.get(), ..Piece::default() };
    let mut scanned = 0;
    // A request's events stand together and end with its verdict.
    let mut open: Vec<Envelope> = Vec::new();
    let mut at = after;
    while at < head && piece.rows.len() < limit && scanned < limits::AUDIT_SCAN {
        let wanted = (head.get() - at.get()).min(limits::PAGE_ROWS as u64) as usize;
        let events = core.events(at, wanted)?;
        let Some(last) = events.last() else { break };
        at = last.id;
        for envelope in events {
            scanned += 1;
            let id = envelope.id;
            let row = match (envelope.request, &envelope.event) {
                (_, Event::RequestDecided { .. }) => act(std::mem::take(&mut open), &envelope),
                (Some(_), _) => {
                    open.push(envelope);
                    continue;
                }
                (None, _) => by_itself(&envelope),
            };
            if let Some((envelope, row)) = row
                && fits(&envelope, &row)
            {
                piece.rows.push(row);
            }
            (piece.reached, piece.reached_event) = (id.get(), id);
            if piece.rows.len() >= limit {
                break;
            }
        }
    }
    if piece.rows.len() < limit && scanned < limits::AUDIT_SCAN {
        (piece.reached, piece.reached_event) = (at.get(), at);
    }
    piece.more = piece.reached < head.get();
    Ok(piece)
}

/// A request that was executed or voided, with the events that it caused. Refusals stand in the journal
/// of the member that saw them.
fn act(events: Vec<Envelope>, decided: &Envelope) -> Option<(Envelope, AuditRow)> {
    let Event::RequestDecided { request, principal, verdict, .. } = &decided.event else { return None };
    let (kinds, reason, id): (Vec<&str>, _, _) = match verdict {
        Verdict::Executed(done) => {
            (events.iter().map(|envelope| envelope.event.kind()).collect(), done.summary.clone(), *request)
        }
        Verdict::Voided => (vec!["request.voided"], format!("request {request} may never run"), *request),
        Verdict::Refused { .. } => return None,
    };
    let mut row = row(decided, *principal, kinds.join(" "), reason);
    row.request.id = Some(id);
    row.confirmation = events.iter().find_map(|envelope| confirmation(&envelope.event));
    Some((decided.clone(), row))
}

/// An event that somebody caused without a request.
fn by_itself(envelope: &Envelope) -> Option<(Envelope, AuditRow)> {
    let (Actor::Token(_) | Actor::Person(_)) = envelope.actor else { return None };
    let mut row = row(envelope, envelope.actor, envelope.event.kind().to_owned(), String::new());
    row.confirmation = confirmation(&envelope.event);
    Some((envelope.clone(), row))
}

fn row(envelope: &Envelope, actor: Actor, act: String, reason: String) -> AuditRow {
    AuditRow {
        at: envelope.at,
        kind: AuditType::Executed,
        actor: actor.to_string(),
        source: None,
        node: None,
        seq: envelope.id.get(),
        epoch: envelope.epoch,
        last_event: envelope.id,
        act: Some(act).filter(|act| !act.is_empty()),
        request: AuditRequest::default(),
        confirmation: None,
        code: None,
        outcome: Outcome::Executed,
        reason,
        more: None,
    }
}

fn confirmation(event: &Event) -> Option<AuditConfirmation> {
    // Whichever event holds one holds it under this name.
    let value = serde_json::to_value(event).ok()?;
    let fields = value.as_object()?.values().next()?;
    let confirmed: domain::Confirmed = serde_json::from_value(fields.get("confirmed")?.clone()).ok()?;
    Some(confirmed_by(&confirmed))
}

/// A confirmation as rows show it.
pub(crate) fn confirmed_by(confirmed: &domain::Confirmed) -> AuditConfirmation {
    let kind = serde_json::to_value(confirmed.kind).expect("a kind is plain data");
    let kind = kind.as_str().expect("and one word").to_owned();
    AuditConfirmation { kind, acknowledged: confirmed.acknowledged.clone() }
}

#[cfg(test)]
mod tests;
