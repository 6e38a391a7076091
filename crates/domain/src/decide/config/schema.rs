//! Schemas: bound to a namespace, and what holding one against values finds.

use super::{one, there};
use crate::{
    config::{Based, ConfigEvent, ConfigRefusal, Put, Schema},
    confirmed::Confirmed,
    content::Content,
    decide::{Decision, done, member::bounded},
    rejection::Rejection,
    state::State,
};
use std::sync::Arc;
use types::{ConfigKey, NamespaceId, limits};

/// Something that a schema would break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    /// `namespace key`, for people.
    pub(crate) place: String,
    /// What the schema says.
    pub(crate) why: String,
}

/// Binds a schema to a namespace, or takes its own away.
pub(super) fn set(
    state: &State,
    namespace: NamespaceId,
    text: Option<&Arc<str>>,
    forced: Option<&(Content, Confirmed)>,
) -> Result<Decision, Rejection> {
    let found = there(state, namespace)?;
    if found.schema.as_ref().map(|(schema, _)| schema.text()) == text {
        return Ok(done(Vec::new(), "is as wanted already"));
    }
    let Some(text) = text else {
        let unset = ConfigEvent::SchemaSet { namespace, schema: None, confirmed: None };
        return Ok(one(unset, format!("took the schema of {} away", found.path)));
    };
    let schema = Schema::parse(text).map_err(ConfigRefusal::NotASchema)?;
    let mut confirmed = None;
    match forced {
        Some((shown, given)) => {
            bounded(given)?;
            Content::of_schema(state, namespace, &schema).unmoved_since(shown)?;
            confirmed = Some(given.clone());
        }
        None => {
            let broken = broken_by(state, namespace, &schema);
            if !broken.is_empty() {
                return Err(ConfigRefusal::Breaks { violations: listed(&broken) }.into());
            }
        }
    }
    let bound = ConfigEvent::SchemaSet { namespace, schema: Some(text.clone()), confirmed };
    Ok(one(bound, format!("set the schema of {}", found.path)))
}

fn listed(broken: &[Broken]) -> String {
    let told: Vec<String> = broken.iter().map(|each| format!("{}: {}", each.place, each.why)).collect();
    told.join("; ")
}

/// What a schema would break where it would hold: in the namespace and in those that inherit it. At
/// most so many places as one answer lists, and a last one that says that there are more.
pub(crate) fn broken_by(state: &State, namespace: NamespaceId, schema: &Schema) -> Vec<Broken> {
    let mut broken = Vec::new();
    let mut left = limits::CONFIG_SCHEMA_VALUES;
    let mut waiting = vec![namespace];
    while let Some(id) = waiting.pop() {
        let Some(found) = state.config.namespaces.get(&id) else { continue };
        let place = |key: &ConfigKey| format!("{} {key}", found.path);
        for (key, entry) in &found.entries {
            let Some(value) = entry.value() else { continue };
            if left == 0 || broken.len() >= limits::CONFIG_VIOLATIONS {
                let (place, why) = ("and perhaps more".to_owned(), "not all was looked at".to_owned());
                broken.push(Broken { place, why });
                return broken;
            }
            left -= 1;
            let violation = schema.against(key, value);
            broken.extend(violation.map(|violation| Broken { place: place(key), why: violation.why }));
        }
        let missing = schema.required().iter().filter(|key| state.config.effective(id, key).is_none());
        let why = || "it is required and has no value".to_owned();
        broken.extend(missing.map(|key| Broken { place: place(key), why: why() }));
        let of_own =
            |heir: &NamespaceId| state.config.namespaces.get(heir).is_some_and(|own| own.schema.is_some());
        waiting.extend(state.config.heirs_of(id).filter(|heir| !of_own(heir)));
    }
    broken.truncate(limits::CONFIG_VIOLATIONS);
    broken
}

/// Whether the schema that holds lets these edits be published.
pub(super) fn check(state: &State, namespace: NamespaceId, edits: &[&Based]) -> Result<(), Rejection> {
    let Some((owner, schema)) = state.config.schema(namespace) else { return Ok(()) };
    let mut violations = Vec::new();
    for Based { key, put, .. } in edits {
        let lost = match put {
            Put::Set(value) => {
                violations.extend(schema.against(key, value).map(|violation| violation.to_string()));
                continue;
            }
            Put::Delete => true,
            Put::Inherit => {
                let parent = state.config.namespaces.get(&namespace).and_then(|found| found.parent);
                parent.and_then(|parent| state.config.effective(parent, key)).is_none()
            }
        };
        if lost && schema.required().contains(key) {
            violations.push(format!("{key}: it is required"));
        }
    }
    if violations.is_empty() {
        return Ok(());
    }
    let more = violations.len().saturating_sub(limits::CONFIG_VIOLATIONS);
    violations.truncate(limits::CONFIG_VIOLATIONS);
    let mut text = violations.join("; ");
    if more > 0 {
        text.push_str(&format!("; and {more} more"));
    }
    let path = there(state, owner)?.path.clone();
    Err(ConfigRefusal::Violates { path, violations: text }.into())
}
