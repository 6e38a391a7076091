//! A line of the journal: its shape, the shapes before it, and its place in the chain.
//!
//! A line is one JSON object whose last field is `chain`. The chain of a line is the SHA-256, in
//! hexadecimal, of the chain of the line before (64 zeroes before the first) and the line itself with
//! an empty chain. It is computed over bytes as they stand, so that no reader has to write JSON as the
//! writer did.

use api::{AuditConfirmation, AuditMore, AuditRequest, AuditRow, AuditType, Code, Outcome};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use types::{Epoch, EventId, NodeId, Timestamp, limits};

/// The version of the shape of a line.
pub(super) const VERSION: u32 = 2;

/// What is to be written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// What it tells of.
    pub ended: AuditType,
    /// Who acted.
    pub actor: String,
    /// From where, as far as that is known.
    pub source: Option<String>,
    /// The act and its target, where it is a guarded one.
    pub act: Option<String>,
    /// What was asked, with its secrets redacted.
    pub request: AuditRequest,
    /// How it was confirmed.
    pub confirmation: Option<AuditConfirmation>,
    /// The problem's code.
    pub code: Option<Code>,
    /// What became of it.
    pub outcome: Outcome,
    /// Why: the reason given, or the rule that said no.
    pub reason: String,
    /// How many it stands for.
    pub more: Option<AuditMore>,
}

impl Note {
    /// A note of somebody's request, of which nothing else is known.
    pub fn new(ended: AuditType, actor: impl Into<String>, request: AuditRequest, outcome: Outcome) -> Self {
        Self {
            ended,
            actor: actor.into(),
            source: None,
            act: None,
            request,
            confirmation: None,
            code: None,
            outcome,
            reason: String::new(),
            more: None,
        }
    }

    /// A note of a command that runs on this machine without a server.
    pub fn offline(ended: AuditType, actor: String, act: String, command: String, reason: String) -> Self {
        let outcome = match ended {
            AuditType::Executed => Outcome::Executed,
            AuditType::Confirmed | AuditType::Failed => Outcome::Unknown,
            _ => Outcome::NotExecuted,
        };
        let request = AuditRequest { path: command, ..AuditRequest::default() };
        let confirmation = (ended == AuditType::Confirmed)
            .then(|| AuditConfirmation { kind: "offline".to_owned(), acknowledged: Vec::new() });
        Self { act: Some(act), reason, confirmation, ..Self::new(ended, actor, request, outcome) }
    }
}

/// What the node that writes had seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Which node; none if that is not known.
    pub node: Option<NodeId>,
    /// The authority that it knows of.
    pub epoch: Epoch,
    /// The last event.
    pub event: EventId,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The version of this shape.
    #[serde(rename = "v")]
    pub version: u32,
    /// Its place: 1, 2, 3, …
    pub seq: u64,
    /// When, by the machine's clock.
    pub at: Timestamp,
    /// What it tells of.
    #[serde(rename = "type")]
    pub ended: AuditType,
    /// Who attempted it.
    pub actor: String,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The node that wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// The authority that the node knew of.
    pub epoch: Epoch,
    /// The last event that the node had seen.
    pub last_event: EventId,
    /// The act and its target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<String>,
    /// What was asked.
    pub request: AuditRequest,
    /// How it was confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<AuditConfirmation>,
    /// The problem's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What became of it, as far as was known.
    pub outcome: Outcome,
    /// Why.
    pub reason: String,
    /// How many it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<AuditMore>,
    /// The first of the lines that became durable together with this one; none if it was alone. A crash
    /// may tear such lines together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u64>,
    /// See the module.
    pub chain: String,
}

impl Entry {
    /// A line that is not chained yet. Long texts are cut, and say so.
    pub(super) fn new(seq: u64, at: Timestamp, seen: Seen, note: Note) -> Self {
        let Note { ended, actor, source, act, request, confirmation, code, outcome, reason, more } = note;
        Self {
            version: VERSION,
            seq,
            at,
            ended,
            actor: bounded(actor),
            source: source.map(bounded),
            node: seen.node,
            epoch: seen.epoch,
            last_event: seen.event,
            act: act.map(bounded),
            request: AuditRequest { path: bounded(request.path), ..request },
            confirmation,
            code: code.map(|code| code.to_string()),
            outcome,
            reason: bounded(reason),
            more,
            group: None,
            chain: String::new(),
        }
    }

    /// As readers see it.
    pub(crate) fn row(&self) -> AuditRow {
        let entry = self.clone();
        AuditRow {
            at: entry.at,
            kind: entry.ended,
            actor: entry.actor,
            source: entry.source,
            node: entry.node,
            seq: entry.seq,
            epoch: entry.epoch,
            last_event: entry.last_event,
            act: entry.act,
            request: entry.request,
            confirmation: entry.confirmation,
            code: entry.code,
            outcome: entry.outcome,
            reason: entry.reason,
            more: entry.more,
        }
    }
}

/// The first shape.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryV1 {
    #[serde(rename = "v")]
    _version: u32,
    seq: u64,
    at: Timestamp,
    actor: String,
    act: String,
    request: String,
    outcome: AuditType,
    reason: String,
    chain: String,
}

/// The first shape in the words of the present one.
fn migrate(old: EntryV1) -> Entry {
    let outcome = match old.outcome {
        AuditType::Executed => Outcome::Executed,
        AuditType::Confirmed | AuditType::Failed => Outcome::Unknown,
        _ => Outcome::NotExecuted,
    };
    Entry {
        version: 1,
        seq: old.seq,
        at: old.at,
        ended: old.outcome,
        actor: old.actor,
        source: None,
        node: None,
        epoch: Epoch::default(),
        last_event: EventId::default(),
        act: Some(old.act),
        request: AuditRequest { path: old.request, ..AuditRequest::default() },
        confirmation: None,
        code: None,
        outcome,
        reason: old.reason,
        more: None,
        group: None,
        chain: old.chain,
    }
}

/// A line without its newline, and the chain after it.
pub(super) fn written(mut entry: Entry, before: [u8; 32]) -> (Entry, String, [u8; 32]) {
    let text = |entry: &Entry| serde_json::to_string(entry).expect("an entry is plain data");
    let chain = chained(VERSION, before, &text(&entry));
    entry.chain = hex(chain);
    let line = text(&entry);
    (entry, line, chain)
}

/// Reads a line; says nothing of its chain.
pub(super) fn read(line: &[u8]) -> Result<Entry, String> {
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    let Versioned { v } = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    match v {
        1 => serde_json::from_slice(line).map(migrate).map_err(|error| error.to_string()),
        VERSION => serde_json::from_slice(line).map_err(|error| error.to_string()),
        other => Err(format!("it is of version {other}, and this Holdfast reads up to {VERSION}")),
    }
}

/// Reads a line and holds it against the chain before it; the second value is the chain after it.
pub(super) fn check(line: &[u8], before: Option<[u8; 32]>) -> Result<(Entry, [u8; 32]), String> {
    let entry = read(line)?;
    let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
    let end = format!("\"chain\":\"{}\"}}", entry.chain);
    let bare = text.strip_suffix(&end).ok_or("it does not end with its chain")?;
    let bare = format!("{bare}\"chain\":\"\"}}");
    let own = unhex(&entry.chain).ok_or("its chain is no SHA-256")?;
    match before.map(|before| chained(entry.version, before, &bare)) {
        Some(chain) if chain != own => Err("it is not what its chain says".to_owned()),
        _ => Ok((entry, own)),
    }
}

/// Version 1 took the hash before as 32 bytes, which no tool of a shell does.
fn chained(version: u32, before: [u8; 32], bare: &str) -> [u8; 32] {
    let hash = match version {
        1 => Sha256::new_with_prefix(before),
        _ => Sha256::new_with_prefix(hex(before)),
    };
    hash.chain_update(bare).finalize().into()
}

pub(super) fn bounded(mut text: String) -> String {
    if text.len() > limits::JOURNAL_TEXT {
        let whole = text.len();
        let cut = (0..=limits::JOURNAL_TEXT).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(cut);
        text.push_str(&format!("… ({whole} bytes)"));
    }
    text
}

pub(super) fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits = |at: usize| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok();
    if text.len() != 64 || text.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let bytes: Vec<u8> = (0..32).filter_map(digits).collect();
    bytes.try_into().ok()
}
