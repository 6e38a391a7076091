//! The recorder: what has each attempt written down, many with one sync, and none lost without a word.
//!
//! ```text
//!   attempt ─► queue ─► floods ─► journal ─► told
//!                │ full, or the disk refuses: counted ─► one line as soon as the disk takes it
//! ```
//!
//! Guarded acts do not stand in this queue: see [`Audit::write`].

use super::{
    entry::{Note, Seen},
    flood::{Floods, Verdict},
    journal::{Journal, JournalError},
};
use crate::writer::Core;
use api::{AuditMore, AuditRequest, AuditType, Outcome};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use types::{NodeId, Timestamp, limits};

/// An attempt that is to be written down.
#[derive(Clone, Debug)]
pub(crate) struct Attempted {
    pub(crate) at: Timestamp,
    pub(crate) note: Note,
    /// Who it is counted for if it may be one of a flood.
    pub(crate) flood: Option<String>,
}

/// A handle on the audit of one server.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    /// The journal, or why there is none.
    journal: Result<Arc<Journal>, JournalError>,
    node: Option<NodeId>,
    queue: mpsc::Sender<Asked>,
    state: Mutex<State>,
}

/// What is known besides the journal.
#[derive(Debug, Default)]
struct State {
    /// Why the last write failed; none if it did not.
    trouble: Option<String>,
    /// What was not written since.
    lost: Option<AuditMore>,
    /// Acts that were explained and neither confirmed nor refused yet, by their token's hash.
    explained: BTreeMap<[u8; 32], Explained>,
    /// For figures: lines by type, attempts that were only counted, attempts that were lost.
    written: BTreeMap<&'static str, u64>,
    counted: u64,
    lost_ever: u64,
}

#[derive(Debug)]
struct Explained {
    note: Note,
    until: Timestamp,
}

/// What figures tell.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) written: BTreeMap<&'static str, u64>,
    pub(crate) counted: u64,
    pub(crate) lost: u64,
    pub(crate) queued: usize,
    pub(crate) is_writable: bool,
}

struct Asked {
    attempted: Attempted,
    seen: Seen,
    told: oneshot::Sender<()>,
}

/// What writes, as long as it is run.
pub struct Recorder {
    audit: Audit,
    core: Core,
    queue: mpsc::Receiver<Asked>,
    floods: Floods,
}

impl Default for Audit {
    /// Of a server that has no journal by design: guarded acts are refused, nothing else is said.
    fn default() -> Self {
        Self::new(Err(JournalError::Absent), None).0
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("journal", &self.0.journal).finish_non_exhaustive()
    }
}

impl Audit {
    fn new(
        journal: Result<Arc<Journal>, JournalError>,
        node: Option<NodeId>,
    ) -> (Self, mpsc::Receiver<Asked>) {
        let (queue, asked) = mpsc::channel(limits::AUDIT_QUEUE);
        let inner = Inner { journal, node, queue, state: Mutex::default() };
        (Self(Arc::new(inner)), asked)
    }

    /// The audit of a node over its journal, or over why that cannot be opened. Nothing but guarded acts
    /// is written until the recorder is run.
    pub fn of(
        journal: Result<Arc<Journal>, JournalError>,
        node: Option<NodeId>,
        core: Core,
    ) -> (Self, Recorder) {
        let trouble = journal.as_ref().err().map(ToString::to_string);
        let (audit, queue) = Self::new(journal, node);
        audit.state().trouble = trouble;
        (audit.clone(), Recorder { audit, core, queue, floods: Floods::default() })
    }

    /// The journal.
    ///
    /// # Errors
    /// Why there is none.
    pub fn journal(&self) -> Result<&Arc<Journal>, &JournalError> {
        self.0.journal.as_ref()
    }

    /// Whose audit it is.
    pub(crate) fn node(&self) -> Option<NodeId> {
        self.0.node
    }

    /// Why attempts cannot be written down; none if they can.
    pub fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    pub(crate) fn figures(&self) -> Figures {
        let state = self.state();
        Figures {
            written: state.written.clone(),
            counted: state.counted,
            lost: state.lost_ever,
            queued: limits::AUDIT_QUEUE - self.0.queue.capacity(),
            is_writable: state.trouble.is_none() && self.0.journal.is_ok(),
        }
    }

    fn seen(&self, core: &Core) -> Seen {
        let head = core.head();
        Seen { node: self.0.node, epoch: head.epoch, event: head.event }
    }

    /// Writes down what a guarded act rests on: when this returns, it is durable.
    ///
    /// # Errors
    /// It is not written, and why: the act must not go on.
    pub(crate) async fn write(&self, core: &Core, note: Note) -> Result<(), String> {
        let journal = self.journal().map_err(ToString::to_string)?.clone();
        let (at, seen, kind) = (core.now(), self.seen(core), note.ended);
        let written = tokio::task::spawn_blocking(move || journal.append(at, seen, note)).await;
        let written =
            written.map_err(|error| error.to_string()).and_then(|done| done.map_err(|e| e.to_string()));
        let mut state = self.state();
        match written {
            Ok(_) => {
                *state.written.entry(kind.as_str()).or_default() += 1;
                Ok(())
            }
            Err(why) => {
                state.lose(once(at), &why);
                Err(why)
            }
        }
    }

    /// Has an attempt written down, and waits until it is, for a while. What was attempted is answered
    /// as it is in any case.
    pub(crate) async fn record(&self, core: &Core, attempted: Attempted) {
        let Some(told) = self.offer(core, attempted) else { return };
        // Past the bound it is still in the queue, or counted as lost.
        let _late = tokio::time::timeout(Duration::from(limits::AUDIT_WAIT), told).await;
    }

    /// Has an attempt written down and does not wait. Without a journal that should be there it is counted.
    pub(crate) fn offer(&self, core: &Core, attempted: Attempted) -> Option<oneshot::Receiver<()>> {
        let at = attempted.at;
        match self.journal() {
            Ok(_) => {}
            Err(JournalError::Absent) => return None,
            Err(error) => {
                let why = error.to_string();
                self.state().lose(once(at), &why);
                return None;
            }
        }
        let (told, wait) = oneshot::channel();
        match self.0.queue.try_send(Asked { attempted, seen: self.seen(core), told }) {
            Ok(()) => Some(wait),
            Err(_) => {
                self.state().lose(once(at), "more was attempted than the disk takes");
                None
            }
        }
    }

    /// An act was explained: if nothing is said of its token before `until`, it was abandoned. So is at once the
    /// oldest of those that are one too many to be remembered.
    pub(crate) fn explained(&self, core: &Core, token: [u8; 32], note: Note, until: Timestamp) {
        if self.0.journal.is_err() {
            return;
        }
        let oldest = {
            let explained = &mut self.state().explained;
            let oldest = explained.iter().min_by_key(|(_, it)| it.until).map(|(token, _)| *token);
            explained.insert(token, Explained { note, until });
            oldest.filter(|_| explained.len() > limits::CONFIRMATIONS)
        };
        oldest.inspect(|oldest| self.outdated(core, oldest));
    }

    /// The token ended because others were given since: what it was for was abandoned. Whoever has one thing after
    /// the other explained is written down as often as one who is turned away; the rest is counted.
    pub(crate) fn outdated(&self, core: &Core, token: &[u8; 32]) {
        let Some(Explained { note, .. }) = self.state().explained.remove(token) else { return };
        let (at, flood) = (core.now(), Some(note.actor.clone()));
        let reason =
            "it was explained and not confirmed, and too many others were explained since".to_owned();
        let _written_soon = self.offer(core, Attempted { at, note: Note { reason, ..note }, flood });
    }

    /// The token was used, whatever came of that.
    pub(crate) fn settled(&self, token: &[u8; 32]) {
        self.state().explained.remove(token);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lose(&mut self, more: AuditMore, why: &str) {
        if self.trouble.as_deref() != Some(why) {
            tracing::error!(why, "the audit cannot be written; guarded acts are refused");
        }
        self.trouble = Some(why.to_owned());
        self.lost = Some(self.lost.map_or(more, |lost| both(lost, more)));
        self.lost_ever += more.count;
    }
}

/// One attempt.
const fn once(at: Timestamp) -> AuditMore {
    AuditMore { count: 1, from: at, until: at }
}

fn both(one: AuditMore, other: AuditMore) -> AuditMore {
    AuditMore {
        count: one.count + other.count,
        from: one.from.min(other.from),
        until: one.until.max(other.until),
    }
}

impl Recorder {
    /// Writes what the start of the journal cut off, and then what is attempted, until told to stop; then what is
    /// queued, what is open, and what was counted.
    pub async fn run(mut self, shutdown: CancellationToken) {
        self.own_up().await;
        let mut ticks = tokio::time::interval(limits::AUDIT_TICK.into());
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let mut asked = Vec::new();
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                got = self.queue.recv_many(&mut asked, limits::AUDIT_BATCH) => {
                    if got == 0 {
                        break;
                    }
                }
                _ = ticks.tick() => {}
            }
            self.turn(asked, Some(self.core.now())).await;
        }
        self.queue.close();
        loop {
            let mut asked = Vec::new();
            if self.queue.recv_many(&mut asked, limits::AUDIT_BATCH).await == 0 {
                break;
            }
            self.turn(asked, Some(self.core.now())).await;
        }
        self.turn(Vec::new(), None).await;
        if let Some(AuditMore { count, from, until }) = self.audit.state().lost {
            let why = self.audit.trouble().unwrap_or_default();
            tracing::error!(count, %from, %until, why, "attempts are in no journal, and that is in none either");
        }
    }

    async fn own_up(&self) {
        let Ok(journal) = self.audit.journal().cloned() else { return };
        let (at, seen) = (self.core.now(), self.audit.seen(&self.core));
        let written = tokio::task::spawn_blocking(move || journal.own_up(at, seen)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, "what was torn off the journal will be written down with its next line");
        }
    }

    /// Writes what was asked for, and what is over by now; without a time, everything is.
    async fn turn(&mut self, asked: Vec<Asked>, now: Option<Timestamp>) {
        let Ok(journal) = self.audit.journal().cloned() else { return };
        let (at, seen) = (self.core.now(), self.audit.seen(&self.core));
        let mut lines = Vec::new();
        let mut told = Vec::new();
        for Asked { attempted: Attempted { at, note, flood }, seen, told: tell } in asked {
            let verdict = flood.map_or(Verdict::Written, |source| self.floods.count(&source, at));
            match verdict {
                Verdict::Written => lines.push((at, seen, note)),
                Verdict::Counted => self.audit.state().counted += 1,
            }
            told.push(tell);
        }
        let counted = self.floods.close(now).into_iter().map(|(source, more)| (at, seen, many(source, more)));
        lines.extend(counted);
        lines.extend(self.abandoned(now).into_iter().map(|note| (at, seen, note)));
        let lost = self.audit.state().lost.take();
        if let Some(lost) = lost {
            let why = self.audit.trouble().unwrap_or_default();
            lines.insert(0, (at, seen, gap(lost, &why)));
        }
        if !lines.is_empty() {
            self.write(journal, lines, lost).await;
        }
        drop(told);
    }

    async fn write(
        &self,
        journal: Arc<Journal>,
        lines: Vec<(Timestamp, Seen, Note)>,
        lost: Option<AuditMore>,
    ) {
        let kinds: Vec<(AuditType, AuditMore)> =
            lines.iter().map(|(at, _, note)| (note.ended, note.more.unwrap_or(once(*at)))).collect();
        let written = tokio::task::spawn_blocking(move || journal.append_all(lines)).await;
        let written =
            written.map_err(|error| error.to_string()).and_then(|done| done.map_err(|e| e.to_string()));
        let mut state = self.audit.state();
        match written {
            Ok(_) => {
                for (kind, _) in kinds {
                    *state.written.entry(kind.as_str()).or_default() += 1;
                }
                if state.lost.is_none() && state.trouble.take().is_some() {
                    tracing::info!("the audit can be written again");
                }
            }
            Err(why) => {
                // What was lost before is still lost, and only counted once.
                state.lost = lost.into_iter().chain(state.lost.take()).reduce(both);
                let fresh = kinds.into_iter().filter(|(kind, _)| *kind != AuditType::Lost);
                fresh.for_each(|(_, more)| state.lose(more, &why));
            }
        }
    }

    /// Takes out the explained acts whose time is over.
    fn abandoned(&self, now: Option<Timestamp>) -> Vec<Note> {
        let mut state = self.audit.state();
        let is_over = |explained: &Explained| now.is_none_or(|now| now >= explained.until);
        let over: Vec<[u8; 32]> =
            state.explained.iter().filter(|(_, it)| is_over(it)).map(|(token, _)| *token).collect();
        let taken = over.iter().filter_map(|token| state.explained.remove(token));
        let why = match now {
            Some(_) => format!("it was explained and not confirmed within {}", limits::CONFIRMATION_LIFE),
            None => "it was explained and not confirmed before the server stopped".to_owned(),
        };
        taken.map(|Explained { note, .. }| Note { reason: why.clone(), ..note }).collect()
    }
}

/// The line that stands for those of a flood that were only counted.
fn many(source: String, more: AuditMore) -> Note {
    let AuditMore { count, from, until } = more;
    let reason = format!("and {} more from {source} between {from} and {until}", grouped(count));
    let request = AuditRequest::default();
    Note {
        source: Some(source),
        reason,
        more: Some(more),
        ..Note::new(AuditType::More, "several", request, Outcome::NotExecuted)
    }
}

/// The line that stands for those that could not be written.
fn gap(lost: AuditMore, why: &str) -> Note {
    let AuditMore { count, from, until } = lost;
    let reason =
        format!("{} attempts between {from} and {until} could not be written: {why}", grouped(count));
    let request = AuditRequest::default();
    Note { reason, more: Some(lost), ..Note::new(AuditType::Lost, "several", request, Outcome::Unknown) }
}

/// A number as people read it: `1,234`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
