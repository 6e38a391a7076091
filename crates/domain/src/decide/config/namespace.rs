//! Namespaces: made, set, deleted.

use super::{at_most, one, said, there};
use crate::{
    command::Context,
    config::{ConfigEvent, ConfigRefusal, Inherits, Settings},
    confirmed::Confirmed,
    content::Content,
    decide::{Decision, done, member::bounded, missing},
    event::Role,
    rejection::Rejection,
    state::{Person, State},
};
use std::sync::Arc;
use types::{NamespaceId, NamespacePath, OrgId, limits};

/// Makes a namespace.
pub(super) fn create(
    state: &State,
    org: OrgId,
    path: &NamespacePath,
    inherits: Inherits,
    (description, settings): (&Arc<str>, &Arc<Settings>),
    context: &Context,
) -> Result<Decision, Rejection> {
    if !state.orgs.contains_key(&org) {
        return Err(missing(format!("org {org}")));
    }
    if state.config.at(org, path).is_some() {
        return Err(ConfigRefusal::PathTaken(path.clone()).into());
    }
    // Whoever names another parent still has a place below something that is there.
    let front = front(state, org, path)?;
    let parent = match inherits {
        Inherits::Front => front,
        Inherits::From(id) => Some(parent(state, org, id)?),
    };
    let depth = parent.map_or(0, |parent| state.config.chain(parent).count());
    at_most("namespaces that inherit one from another", depth as u64 + 1, limits::CONFIG_CHAIN as u64)?;
    let has = state.config.usage.get(&org).map_or(0, |usage| usage.namespaces);
    at_most("namespaces of an org", u64::from(has) + 1, limits::CONFIG_NAMESPACES as u64)?;
    said("a description", description, limits::CONFIG_DESCRIPTION)?;
    are_sound(state, org, settings)?;
    let namespace = NamespaceId::from_parts(context.now, context.dice(0));
    let (path, description, settings) = (path.clone(), description.clone(), settings.clone());
    let summary = format!("created namespace {path}");
    Ok(one(ConfigEvent::NamespaceCreated { namespace, org, path, parent, description, settings }, summary))
}

/// Gives a namespace another parent, description or settings.
pub(super) fn set(
    state: &State,
    namespace: NamespaceId,
    inherits: Option<Inherits>,
    (description, settings): (Option<&Arc<str>>, Option<&Arc<Settings>>),
) -> Result<Decision, Rejection> {
    let found = there(state, namespace)?;
    let parent = match inherits {
        None => found.parent,
        Some(Inherits::Front) => front(state, found.org, &found.path)?,
        Some(Inherits::From(id)) => Some(parent(state, found.org, id)?),
    };
    if let Some(parent) = parent.filter(|_| parent != found.parent) {
        has_no_circle(state, namespace, parent)?;
        let depth = state.config.chain(parent).count() + height(state, namespace, limits::CONFIG_CHAIN);
        at_most("namespaces that inherit one from another", depth as u64, limits::CONFIG_CHAIN as u64)?;
    }
    let description = description.unwrap_or(&found.description).clone();
    let settings = settings.unwrap_or(&found.settings).clone();
    said("a description", &description, limits::CONFIG_DESCRIPTION)?;
    are_sound(state, found.org, &settings)?;
    if parent == found.parent && description == found.description && settings == found.settings {
        return Ok(done(Vec::new(), "is as wanted already"));
    }
    let summary = format!("changed namespace {}", found.path);
    Ok(one(ConfigEvent::NamespaceSet { namespace, parent, description, settings }, summary))
}

/// Deletes a namespace that no other inherits from.
pub(super) fn delete(
    state: &State,
    namespace: NamespaceId,
    shown: &Content,
    confirmed: Option<&Confirmed>,
) -> Result<Decision, Rejection> {
    let found = there(state, namespace)?;
    confirmed.map_or(Ok(()), bounded)?;
    Content::of_namespace(state, namespace).unmoved_since(shown)?;
    let heirs: Vec<String> =
        state.config.heirs_of(namespace).take(4).map(|heir| label(state, heir)).collect();
    let path = found.path.clone();
    if !heirs.is_empty() {
        return Err(ConfigRefusal::Inherited { path, heirs: heirs.join(", ") }.into());
    }
    let inside = (state.config.paths.get_next(&(found.org, path.clone())))
        .filter(|((org, next), _)| *org == found.org && next.front().as_ref() == Some(&path));
    if let Some(((_, inside), _)) = inside {
        return Err(ConfigRefusal::Inherited { path, heirs: inside.to_string() }.into());
    }
    if confirmed.is_none() && (found.values > 0 || state.config.open_of(namespace).next().is_some()) {
        return Err(Rejection::Unconfirmed { what: format!("namespace {path}") });
    }
    let deleted = ConfigEvent::NamespaceDeleted { namespace, confirmed: confirmed.cloned() };
    Ok(one(deleted, format!("deleted namespace {path}")))
}

fn front(state: &State, org: OrgId, path: &NamespacePath) -> Result<Option<NamespaceId>, Rejection> {
    let Some(front) = path.front() else { return Ok(None) };
    match state.config.at(org, &front) {
        Some((id, _)) => Ok(Some(id)),
        None => Err(ConfigRefusal::NoParent { path: path.clone(), front }.into()),
    }
}

fn parent(state: &State, org: OrgId, id: NamespaceId) -> Result<NamespaceId, Rejection> {
    there(state, id)
        .ok()
        .filter(|found| found.org == org)
        .map(|_| id)
        .ok_or_else(|| missing(format!("namespace {id}")))
}

fn label(state: &State, id: NamespaceId) -> String {
    state.config.namespaces.get(&id).map_or_else(|| id.to_string(), |found| found.path.to_string())
}

fn has_no_circle(state: &State, id: NamespaceId, parent: NamespaceId) -> Result<(), Rejection> {
    let upwards: Vec<NamespaceId> = state.config.chain(parent).map(|(above, _)| above).collect();
    let Some(end) = upwards.iter().position(|above| *above == id) else { return Ok(()) };
    let circle = std::iter::once(id).chain(upwards[..=end].iter().copied());
    let circle: Vec<String> = circle.map(|id| label(state, id)).collect();
    Err(ConfigRefusal::Cycle(circle.join(" → ")).into())
}

/// How many namespaces are below one another from this one on, itself counted; at most one above `limit`.
fn height(state: &State, id: NamespaceId, limit: usize) -> usize {
    if limit == 0 {
        return 1;
    }
    1 + state.config.heirs_of(id).map(|heir| height(state, heir, limit - 1)).max().unwrap_or(0)
}

fn are_sound(state: &State, org: OrgId, settings: &Settings) -> Result<(), Rejection> {
    let approvals = settings.approvals.unwrap_or(0);
    at_most("approvals of one change", u64::from(approvals), u64::from(limits::CONFIG_APPROVALS))?;
    let entries = settings.entries.unwrap_or(0);
    at_most("values of a namespace", u64::from(entries), u64::from(limits::CONFIG_ENTRIES))?;
    let bytes = settings.bytes.unwrap_or_default().bytes();
    at_most("bytes of values of a namespace", bytes, limits::CONFIG_BYTES.bytes())?;
    let Some(reviewers) = &settings.reviewers else { return Ok(()) };
    at_most("reviewers by name", reviewers.people.len() as u64, limits::CONFIG_REVIEWERS as u64)?;
    let review = [Role::Owner, Role::Admin, Role::Operator, Role::Developer];
    if !reviewers.roles.iter().all(|role| review.contains(role)) {
        let what = "a role of reviewers".to_owned();
        return Err(Rejection::Invalid { what, why: "is not owner, admin, operator or developer" });
    }
    let is_member = |person: &Person| person.is_there() && person.org == org;
    let stranger = reviewers.people.iter().find(|id| !state.people.get(*id).is_some_and(is_member));
    match stranger {
        Some(stranger) => Err(missing(format!("member {stranger}"))),
        None if reviewers.people.is_empty() && reviewers.roles.is_empty() => {
            let what = "a namespace without reviewers".to_owned();
            Err(Rejection::Invalid { what, why: "could publish nothing" })
        }
        None => Ok(()),
    }
}
