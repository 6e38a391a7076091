//! Guarded acts: explain, confirm, act.
//!
//! ```text
//!   POST path?explain ─▶ Shown ─▶ token, bound to actor, request and what was shown
//!   POST path + token ─▶ Shown anew ─▶ the same? ─▶ journal ─▶ Confirmed ─▶ the act
//! ```
//! Invariants (`no_confirmation_no_act`):
//! - a [`Confirmed`] is made here and nowhere else, once for each token.
//! - tokens are in memory only: they end with the process, after [`limits::CONFIRMATION_LIFE`], with
//!   their use, and with the state that was shown.
//! - a confirmation that the journal did not take is none.

use super::{
    access::Caller,
    answer::{Refused, Result, refused},
    attempts::{self, Attempt},
    input::Said,
    roles::Permission,
    write,
};
use crate::{
    audit::{Attempted, Audit, Ended, Note, confirmed_by},
    writer::Core,
};
use api::{Code, ConfirmedBy, Explained, Outcome, Override, Problem, Proof, routes};
use domain::{
    Actor, Confirmation, Confirmed, State,
    state::{Holder, Scope},
};
use rt::Boundary;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use types::{Name, Timestamp, limits};

/// What an act would do now. Computed afresh for the explanation and for the confirmation; a token is
/// bound to all of it but `facts`, so whatever changes by itself (an age, a lag) belongs there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    /// The act and its target, as in `cluster promote three`.
    pub(crate) act: String,
    pub(crate) will: Vec<String>,
    pub(crate) touches: Vec<String>,
    pub(crate) irreversible: Vec<String>,
    pub(crate) invariants: Vec<Proof>,
    pub(crate) overrides: Vec<Override>,
    /// What is known, for readers: an object, or an array of rows.
    pub(crate) facts: Value,
    /// What the token is bound to: an object whose keys are words for people, for they are told which
    /// of them has changed. At most [`limits::CONFIRMATION_STATE`] bytes with the texts above.
    pub(crate) state: Value,
    /// Whether the act wants a reason even when it overrides nothing.
    pub(crate) reason: Reason,
}

/// Whether an act wants a reason. One that overrides an invariant always does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reason {
    #[default]
    Optional,
    Required,
}

/// The tokens of one server, and the journal that takes what is done with them.
pub(crate) struct Guard {
    core: Core,
    audit: Audit,
    given: Mutex<Given>,
}

/// Tokens by their SHA-256.
#[derive(Debug, Default)]
struct Given {
    tokens: BTreeMap<[u8; 32], Token>,
    count: u64,
}

#[derive(Clone, Debug)]
struct Token {
    actor: Actor,
    request: [u8; 32],
    bound: Value,
    /// Which of them is older.
    number: u64,
    /// Both clocks must agree that it lives: one stands still while a machine sleeps, the other jumps.
    made: Instant,
    at: Timestamp,
}

/// What a body may say to its guard; the rest is the act's own.
#[derive(Debug, Default, Deserialize)]
struct Words {
    #[serde(default)]
    acknowledge: Vec<String>,
    #[serde(default)]
    reason: String,
}

impl Guard {
    /// A guard that has given no token yet. Without a journal it explains, and confirms nothing.
    pub(crate) fn new(core: Core, audit: Audit) -> Self {
        Self { core, audit, given: Mutex::default() }
    }

    /// Explains an act and gives the token that runs it.
    pub(crate) fn explain(&self, caller: &Caller, said: &Said, shown: Shown) -> Result<Explained> {
        caller.must(Permission::Guarded)?;
        let words: Words = write::parse(said)?;
        bounded(&words)?;
        let bound = bound(&shown)?;
        let token = format!("act_{:032x}", self.core.random().u128());
        let given = Token {
            actor: caller.actor(),
            request: fingerprint(said)?,
            bound,
            number: 0,
            made: Instant::now(),
            at: self.core.now(),
        };
        let (until, at) = (given.at.plus(limits::CONFIRMATION_LIFE), hashed(&token));
        let ended = self.give(&token, given)?;
        ended.inspect(|oldest| self.audit.outdated(&self.core, oldest));
        let note = note(Ended::Abandoned, self.label(caller.actor()), said, &shown.act, "");
        self.audit.explained(&self.core, at, note, until);
        Boundary::ActExplained.reached();
        let Shown { act, will, touches, irreversible, invariants, overrides, facts, .. } = shown;
        let expires_ms = limits::CONFIRMATION_LIFE.as_ms();
        Ok(Explained { act, will, touches, irreversible, invariants, overrides, facts, token, expires_ms })
    }

    /// Keeps a token, and says which one ended for it: an actor has so many at a time.
    fn give(&self, token: &str, given: Token) -> Result<Option<[u8; 32]>> {
        let now = self.core.now();
        let mut all = self.lock();
        all.tokens.retain(|_, token| token.lives(now));
        let of_actor = all.tokens.iter().filter(|(_, token)| token.actor == given.actor);
        let is_full = of_actor.clone().count() >= limits::CONFIRMATIONS_PER_ACTOR;
        let oldest = of_actor.min_by_key(|(_, token)| token.number).map(|(hash, _)| *hash);
        let ended = oldest.filter(|_| is_full);
        ended.inspect(|hash| drop(all.tokens.remove(hash)));
        if all.tokens.len() >= limits::CONFIRMATIONS {
            let detail = format!("{} acts wait for their confirmation here", limits::CONFIRMATIONS);
            let problem = Problem::new(Code::TooMany, detail);
            let life = limits::CONFIRMATION_LIFE;
            return Err(problem.with_hint(format!("ask again; each waits for at most {life}")).into());
        }
        all.count += 1;
        let number = all.count;
        all.tokens.insert(hashed(token), Token { number, ..given });
        Ok(ended)
    }

    /// Holds a confirmation against what would happen now, and uses its token up. What is refused stands in the
    /// journal when this returns, except that there was no token at all; what is judged well is returned at once.
    pub(crate) async fn judge(&self, caller: &Caller, said: &Said, shown: &Shown) -> Result<Confirmed> {
        caller.must(Permission::Guarded)?;
        match self.judged(caller, said, shown) {
            Ok(confirmed) => Ok(confirmed),
            Err(refused) if refused.problem.code == Code::ConfirmationRequired => Err(refused),
            Err(refused) => {
                let code = Some(refused.problem.code);
                let actor = self.label(caller.actor());
                let bare = note(Ended::Refused, actor, said, &shown.act, &refused.problem.detail);
                self.turned_away(said, Note { code, ..bare }).await;
                Err(refused)
            }
        }
    }

    /// Writes down that an act was confirmed: it may run when this returns, and only then.
    ///
    /// # Errors
    /// The journal does not take it; the token is used up all the same.
    pub(crate) async fn confirm(&self, confirmed: &Confirmed, said: &Said, shown: &Shown) -> Result<()> {
        Boundary::ActJudged.reached();
        let confirmation = Some(confirmed_by(confirmed));
        let bare = note(Ended::Confirmed, self.label(confirmed.actor), said, &shown.act, &confirmed.reason);
        let written = self.write_down(Note { confirmation, ..bare }).await;
        written.inspect_err(|_| Attempt::is_written(&said.parts))?;
        Boundary::ActConfirmed.reached();
        Ok(())
    }

    /// Writes down that an act was denied, or is none now, for which somebody had brought a token. That stands,
    /// written down or not.
    pub(crate) async fn denied(&self, caller: &Caller, said: &Said, act: &str, problem: &Problem) {
        if wants_explanation(said)
            || !caller.may(Permission::Guarded)
            || !said.parts.headers.contains_key(routes::CONFIRM)
        {
            return;
        }
        let (ended, code) = (attempts::kind(problem).unwrap_or(Ended::Refused), Some(problem.code));
        let bare = note(ended, self.label(caller.actor()), said, act, &problem.detail);
        self.turned_away(said, Note { code, outcome: problem.outcome, ..bare }).await;
    }

    /// Writes down what nothing came of: it stands, written down or not, so of somebody who is turned away again
    /// and again only the count is.
    async fn turned_away(&self, said: &Said, note: Note) {
        let flood = Some(note.actor.clone());
        self.audit.record(&self.core, Attempted { at: self.core.now(), note, flood }).await;
        Attempt::is_written(&said.parts);
    }

    /// Writes down what came of an act after it was confirmed, and the problem that it met if it met one.
    ///
    /// # Errors
    /// The journal does not take it; the act itself is as it is.
    pub(crate) async fn ended(
        &self,
        confirmed: &Confirmed,
        said: &Said,
        shown: &Shown,
        (ended, why): (Ended, &str),
        problem: Option<&Problem>,
    ) -> Result<()> {
        let bare = note(ended, self.label(confirmed.actor), said, &shown.act, why);
        let note = Note {
            confirmation: Some(confirmed_by(confirmed)),
            code: problem.map(|problem| problem.code),
            outcome: problem.map_or(bare.outcome, |problem| problem.outcome),
            ..bare
        };
        self.write_down(note).await?;
        Boundary::ActEnded.reached();
        Ok(())
    }

    async fn write_down(&self, note: Note) -> Result<()> {
        let unwritten = |why: String| -> Refused {
            tracing::error!(why, "the journal cannot be written; guarded acts are refused");
            let problem =
                Problem::new(Code::Unavailable, format!("a guarded act must be written down: {why}"));
            problem
                .with_hint("mend the disk under audit/ in the server's data directory; nothing was done")
                .into()
        };
        self.audit.write(&self.core, note).await.map_err(unwritten)
    }

    /// Looks at a confirmation and uses its token up. Under one lock, so that of two equal calls one is
    /// confirmed.
    fn judged(&self, caller: &Caller, said: &Said, shown: &Shown) -> Result<Confirmed> {
        let words: Words = write::parse(said)?;
        bounded(&words)?;
        let Some(token) = said.parts.headers.get(routes::CONFIRM) else { return Err(required(said, shown)) };
        let hash = hashed(token.to_str().unwrap_or_default());
        let kind = self.kind(caller, said, shown)?;
        let (request, bound, now) = (fingerprint(said)?, bound(shown)?, self.core.now());
        let mut all = self.lock();
        all.tokens.retain(|_, token| token.lives(now));
        // Somebody else's token is not used up by those who may not use it.
        let Some(given) = all.tokens.get(&hash).filter(|token| token.actor == caller.actor()).cloned() else {
            let life = limits::CONFIRMATION_LIFE;
            return Err(invalid(
                said,
                format!(
                    "the confirmation is not known here: it was used, is older than {life}, was given to \
                     somebody else, or the server has started since"
                ),
            ));
        };
        if given.request != request {
            all.tokens.remove(&hash);
            self.audit.settled(&hash);
            return Err(invalid(said, "the confirmation was given for another request".to_owned()));
        }
        if given.bound != bound {
            all.tokens.remove(&hash);
            self.audit.settled(&hash);
            let moved = moved(&given.bound, &bound);
            let problem = Problem::new(Code::ConfirmationStale, format!("since it was explained, {moved}"));
            return Err(problem.with_hint(explain_hint(said)).into());
        }
        // What was typed wrongly may be typed again.
        acknowledged(&words, shown)?;
        all.tokens.remove(&hash);
        self.audit.settled(&hash);
        Ok(Confirmed {
            actor: caller.actor(),
            kind,
            acknowledged: shown.overrides.iter().map(|each| each.invariant.clone()).collect(),
            reason: words.reason.trim().to_owned(),
            at: now,
        })
    }

    /// How it is confirmed. A service principal does it with a scope made for this act, or not at all.
    fn kind(&self, caller: &Caller, said: &Said, shown: &Shown) -> Result<Confirmation> {
        let state = self.core.state();
        let Some((name, scopes)) = service(&state, caller.actor()) else { return kind(said) };
        let needed = Scope::of_act(&shown.act);
        if scopes.contains(&needed) {
            return Ok(Confirmation::Service);
        }
        let detail = format!("the service principal {name} may not confirm {}: it lacks {needed}", shown.act);
        let problem = Problem::new(Code::Forbidden, detail);
        Err(problem.with_hint(format!("holdfast tokens create NAME --role operator --scope {needed}")).into())
    }

    /// Who it is, for the journal: a service principal with what it may confirm.
    fn label(&self, actor: Actor) -> String {
        let state = self.core.state();
        match service(&state, actor) {
            Some((name, scopes)) => {
                let scopes: Vec<&str> = scopes.iter().map(Scope::as_str).collect();
                let scopes = if scopes.is_empty() { "no scopes".to_owned() } else { scopes.join(", ") };
                format!("{actor} (service {name}: {scopes})")
            }
            None => actor.to_string(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Given> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Token {
    fn lives(&self, now: Timestamp) -> bool {
        let life = limits::CONFIRMATION_LIFE;
        self.made.elapsed() < Duration::from(life) && now >= self.at && now.since(self.at) < life
    }
}

/// Whether a call is only to be explained.
pub(crate) fn wants_explanation(said: &Said) -> bool {
    query(said).any(|part| is_flag(part) && !part.ends_with("=false"))
}

fn query(said: &Said) -> impl Iterator<Item = &str> {
    said.parts.uri.query().unwrap_or_default().split('&').filter(|part| !part.is_empty())
}

fn is_flag(part: &str) -> bool {
    part.split('=').next() == Some(routes::EXPLAIN_FLAG)
}

/// SHA-256 over method, path, the query without the flag, and the body without its acknowledgements,
/// which are typed after the explanation and held against it one by one.
fn fingerprint(said: &Said) -> Result<[u8; 32]> {
    let mut body: Value = super::input::json(&said.body)?;
    if let Some(object) = body.as_object_mut() {
        object.remove("acknowledge");
    }
    let mut query: Vec<&str> = query(said).filter(|part| !is_flag(part)).collect();
    query.sort_unstable();
    let mut hash = Sha256::new();
    for text in [said.parts.method.as_str(), said.parts.uri.path(), &query.join("&")] {
        hash.update(text);
        hash.update(b"\n");
    }
    let mut canonical = Vec::with_capacity(said.body.len());
    write::canonicalise(&body, &mut canonical);
    hash.update(&canonical);
    Ok(hash.finalize().into())
}

fn hashed(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Everything a token is bound to, under names for people.
pub(super) fn bound(shown: &Shown) -> Result<Value> {
    let Shown { act, will, touches, irreversible, invariants, overrides, state, .. } = shown;
    let value = serde_json::json!({
        "the act": act,
        "what it will do": will,
        "what it touches": touches,
        "what cannot be undone": irreversible,
        "the proof of its invariants": invariants,
        "what has to be acknowledged": overrides,
        "the state": state,
    });
    let size = value.to_string().len();
    if size > limits::CONFIRMATION_STATE {
        let detail = format!("the explanation has {size} bytes of at most {}", limits::CONFIRMATION_STATE);
        return Err(refused(Code::TooMany, detail));
    }
    Ok(value)
}

/// What differs between two states, in one sentence.
fn moved(before: &Value, now: &Value) -> String {
    let mut found = Vec::new();
    compare("", &before["the state"], &now["the state"], &mut found);
    if found.is_empty() {
        let texts = before.as_object().into_iter().flatten().filter(|(name, text)| now[name] != **text);
        found.extend(texts.map(|(name, _)| format!("{name} has changed")));
    }
    found.join("; ")
}

fn compare(place: &str, before: &Value, now: &Value, found: &mut Vec<String>) {
    if before == now {
        return;
    }
    if let (Value::Object(was), Value::Object(is)) = (before, now) {
        let names: std::collections::BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        for name in names {
            let place = if place.is_empty() { name.clone() } else { format!("{place} {name}") };
            compare(&place, &before[name], &now[name], found);
        }
        return;
    }
    let word = |value: &Value| match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let place = if place.is_empty() { "the state" } else { place };
    found.push(format!("{place} was {} and is {}", word(before), word(now)));
}

fn bounded(words: &Words) -> Result<()> {
    let wrong = |path: &str, detail: String| {
        Err(Problem::new(Code::InvalidRequest, detail).with_path(path.to_owned()).into())
    };
    if words.reason.chars().count() > limits::REASON_CHARS {
        return wrong("reason", format!("the reason has more than {} characters", limits::REASON_CHARS));
    }
    if words.reason.chars().any(char::is_control) {
        return wrong("reason", "the reason is one line of text, without control characters".to_owned());
    }
    let longest = words.acknowledge.iter().map(|text| text.chars().count()).max().unwrap_or(0);
    if words.acknowledge.len() > limits::ACKNOWLEDGEMENTS || longest > limits::ACKNOWLEDGEMENT_CHARS {
        let (count, chars) = (limits::ACKNOWLEDGEMENTS, limits::ACKNOWLEDGEMENT_CHARS);
        let detail = format!("at most {count} acknowledgements of {chars} characters each");
        return wrong("acknowledge", detail);
    }
    Ok(())
}

/// Whether every override, and nothing else, is acknowledged, and the reason given.
fn acknowledged(words: &Words, shown: &Shown) -> Result<()> {
    let wrong =
        |code, path: &str, detail: String| Err(Problem::new(code, detail).with_path(path.to_owned()).into());
    for each in &shown.overrides {
        if !words.acknowledge.contains(&each.type_this) {
            let Override { invariant, type_this } = each;
            let detail =
                format!("the act overrides {invariant}; it has to be acknowledged with: {type_this}");
            return wrong(Code::AcknowledgementRequired, "acknowledge", detail);
        }
    }
    let asked = |text: &&String| shown.overrides.iter().any(|each| each.type_this == **text);
    if let Some(text) = words.acknowledge.iter().find(|text| !asked(text)) {
        let detail = format!("{text:?} acknowledges nothing that this act overrides");
        return wrong(Code::AcknowledgementRequired, "acknowledge", detail);
    }
    let needed = shown.reason == Reason::Required || !shown.overrides.is_empty();
    if needed && words.reason.trim().is_empty() {
        return wrong(Code::InvalidRequest, "reason", "this act wants a reason".to_owned());
    }
    Ok(())
}

/// Name and scopes of a service principal, if it is one that asks.
fn service(state: &State, actor: Actor) -> Option<(&Name, &BTreeSet<Scope>)> {
    let Actor::Token(id) = actor else { return None };
    let token = state.tokens.get(&id)?;
    match &token.holder {
        Some(Holder::Service(scopes)) => Some((&token.name, scopes)),
        _ => None,
    }
}

fn kind(said: &Said) -> Result<Confirmation> {
    let Some(value) = said.parts.headers.get(routes::CONFIRMED_BY) else { return Ok(Confirmation::Script) };
    match value.to_str().unwrap_or_default().parse::<ConfirmedBy>() {
        Ok(ConfirmedBy::Person) => Ok(Confirmation::Person),
        Ok(ConfirmedBy::Script) => Ok(Confirmation::Script),
        Err(error) => Err(refused(Code::InvalidRequest, format!("{}: {error}", routes::CONFIRMED_BY))),
    }
}

fn required(said: &Said, shown: &Shown) -> Refused {
    let detail = format!("{} is a guarded act and wants a confirmation", shown.act);
    Problem::new(Code::ConfirmationRequired, detail).with_hint(explain_hint(said)).into()
}

fn invalid(said: &Said, detail: String) -> Refused {
    Problem::new(Code::ConfirmationInvalid, detail).with_hint(explain_hint(said)).into()
}

fn explain_hint(said: &Said) -> String {
    let (method, path, flag) = (&said.parts.method, said.parts.uri.path(), routes::EXPLAIN_FLAG);
    format!(
        "have it explained with {method} {path}?{flag} and the same body, and send its token in {}",
        routes::CONFIRM
    )
}

/// A line about a guarded act.
fn note(ended: Ended, actor: String, said: &Said, act: &str, reason: &str) -> Note {
    let outcome = match ended {
        Ended::Executed => Outcome::Executed,
        Ended::Confirmed | Ended::Failed => Outcome::Unknown,
        _ => Outcome::NotExecuted,
    };
    let (act, reason) = (Some(act.to_owned()), reason.to_owned());
    let source = attempts::source(&said.parts);
    Note { act, reason, source, ..Note::new(ended, actor, attempts::of_said(said), outcome) }
}

#[cfg(test)]
pub(in crate::http) mod tests;
