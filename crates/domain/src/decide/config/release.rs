//! Releases: what is looked at whenever something is published, and direct writes.

use super::{at_most, event, said, schema, there, who};
use crate::{
    command::Context,
    config::{Based, ConfigEvent, ConfigRefusal, Edit, Mismatch, Put},
    decide::{Decision, done, missing},
    event::Event,
    rejection::Rejection,
    state::{Entry, Held, Namespace, State},
};
use std::{collections::BTreeSet, sync::Arc};
use types::{ChangeId, ConfigKey, NamespaceId, limits};

/// Writes values where no review is asked for: all of them, or none.
pub(super) fn write(
    state: &State,
    namespace: NamespaceId,
    edits: &[Edit],
    note: &Arc<str>,
    context: &Context,
) -> Result<Decision, Rejection> {
    let found = there(state, namespace)?;
    said("a note", note, limits::CONFIG_COMMENT)?;
    if !state.config.policy(namespace).direct {
        return Err(ConfigRefusal::ReviewOnly { path: found.path.clone() }.into());
    }
    let mut edits = based(state, found, edits)?;
    edits.retain(|edit| changes_something(found.entries.get(&edit.key), &edit.put));
    if edits.is_empty() {
        return Ok(done(Vec::new(), "is as wanted already"));
    }
    let by = who(state, context.actor);
    let release = found.release + 1;
    let others = may_release(state, namespace, &edits.iter().collect::<Vec<_>>(), None)?;
    let summary = match &edits[..] {
        [Based { key, base, put: Put::Set(_) }] => format!("set {key} to version {}", base + 1),
        [Based { key, .. }] => format!("took {key} away"),
        several => format!("wrote {} keys", several.len()),
    };
    let summary = format!("{summary}: release {release} of {}", found.path);
    let written = ConfigEvent::Written { namespace, by, release, edits, note: note.clone() };
    Ok(done(std::iter::once(event(written)).chain(others).collect(), summary))
}

/// Edits on the versions that are there, each looked at by itself.
pub(super) fn based(state: &State, found: &Namespace, edits: &[Edit]) -> Result<Vec<Based>, Rejection> {
    at_most("keys of one change", edits.len() as u64, limits::CONFIG_EDITS as u64)?;
    let mut seen = BTreeSet::new();
    let mut mismatches = Vec::new();
    let mut based = Vec::with_capacity(edits.len());
    let mut bytes = 0;
    for Edit { key, put, expect } in edits {
        if !seen.insert(key) {
            return Err(Rejection::Invalid { what: format!("the key {key}"), why: "is named twice" });
        }
        let entry = found.entries.get(key);
        let base = entry.map_or(0, |entry| entry.version);
        // What has no value is absent to whoever expects nothing to be there.
        let is_met =
            |wanted: u32| wanted == base || wanted == 0 && entry.is_none_or(|entry| entry.value().is_none());
        if let Some(wanted) = expect.filter(|wanted| !is_met(*wanted)) {
            mismatches.push(Mismatch { key: key.clone(), wanted, found: base });
        }
        match put {
            Put::Set(value) => value.check().map_err(|why| ConfigRefusal::Unfit { key: key.clone(), why })?,
            Put::Delete | Put::Inherit => is_anywhere(state, found, key)?,
        }
        let edit = Based { key: key.clone(), base, put: put.clone() };
        bytes += edit.size();
        based.push(edit);
    }
    at_most("bytes of the values of one change", bytes, limits::CONFIG_CHANGE_BYTES as u64)?;
    match mismatches.is_empty() {
        true => Ok(based),
        false => Err(ConfigRefusal::Versions(mismatches).into()),
    }
}

/// A key that is deleted was there, or is inherited.
fn is_anywhere(state: &State, found: &Namespace, key: &ConfigKey) -> Result<(), Rejection> {
    let inherited = || found.parent.and_then(|parent| state.config.effective(parent, key));
    match found.entries.contains_key(key) || inherited().is_some() {
        true => Ok(()),
        false => Err(missing(format!("key {key} of {}", found.path))),
    }
}

fn changes_something(entry: Option<&Entry>, put: &Put) -> bool {
    match (entry.map(|entry| &entry.held), put) {
        (Some(Held::Value(old)), Put::Set(new)) => old != new,
        (Some(Held::Deleted), Put::Delete) | (Some(Held::Inherited) | None, Put::Inherit) => false,
        _ => true,
    }
}

/// The edits whose key is not in the version any more that they were made on.
pub(super) fn moved<'e>(found: &Namespace, edits: impl Iterator<Item = &'e Based>) -> Vec<Mismatch> {
    let version = |key| found.entries.get(key).map_or(0, |entry: &Entry| entry.version);
    let stale = edits.filter(|edit| version(&edit.key) != edit.base);
    stale
        .map(|edit| Mismatch { key: edit.key.clone(), wanted: edit.base, found: version(&edit.key) })
        .collect()
}

/// Whether these edits may be the next release: within limits, as the schema says. What it does to
/// other changes that rest on the same keys comes back as events.
pub(super) fn may_release(
    state: &State,
    namespace: NamespaceId,
    edits: &[&Based],
    own: Option<ChangeId>,
) -> Result<Vec<Event>, Rejection> {
    let found = there(state, namespace)?;
    fits(state, namespace, found, edits, own)?;
    schema::check(state, namespace, edits)?;
    Ok(reopened(state, namespace, found.release + 1, edits, own))
}

/// Whether a namespace and its org have room for these edits.
fn fits(
    state: &State,
    namespace: NamespaceId,
    found: &Namespace,
    edits: &[&Based],
    own: Option<ChangeId>,
) -> Result<(), Rejection> {
    let policy = state.config.policy(namespace);
    let (mut values, mut bytes, mut keys) = (found.values, found.bytes, found.entries.len());
    for edit in edits {
        let entry = found.entries.get(&edit.key);
        keys += usize::from(entry.is_none());
        if let Some(old) = entry.and_then(Entry::value) {
            values -= 1;
            bytes -= old.size();
        }
        if let Put::Set(value) = &edit.put {
            values += 1;
            bytes += value.size();
        }
    }
    // Whatever makes less of it may go through, also where there is too much.
    if values > found.values {
        at_most(format!("values of {}", found.path), u64::from(values), u64::from(policy.entries))?;
    }
    at_most(format!("keys that {} ever had", found.path), keys as u64, limits::CONFIG_KEYS as u64)?;
    if bytes > found.bytes {
        at_most(format!("bytes of values of {}", found.path), bytes, policy.bytes)?;
        let proposed = own.and_then(|id| state.config.changes.get(&id)).map_or(0, |change| change.bytes);
        let used = state.config.usage.get(&found.org).map_or(0, |usage| usage.bytes);
        let after = used + (bytes - found.bytes) - proposed;
        at_most("bytes of values of an org", after, limits::CONFIG_ORG_BYTES.bytes())?;
    }
    Ok(())
}

/// What becomes of the changes under review that rest on the same keys: their approvals are void.
fn reopened(
    state: &State,
    namespace: NamespaceId,
    release: u32,
    edits: &[&Based],
    own: Option<ChangeId>,
) -> Vec<Event> {
    let touching = |key| state.config.touching(namespace, key).filter(|id| Some(*id) != own);
    let ids: BTreeSet<ChangeId> = edits.iter().flat_map(|edit| touching(&edit.key)).collect();
    let reviewed =
        |id: &ChangeId| state.config.changes.get(id).is_some_and(|change| change.stage.is_reviewed());
    let reopen = |change: ChangeId| {
        let proposed = state.config.changes.get(&change).map(|change| &change.edits);
        let moved = edits.iter().filter(|edit| proposed.is_some_and(|all| all.contains_key(&edit.key)));
        let keys = moved.map(|edit| edit.key.clone()).collect();
        event(ConfigEvent::Reopened { change, namespace, release, keys })
    };
    ids.into_iter().filter(reviewed).map(reopen).collect()
}
