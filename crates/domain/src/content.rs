//! What something holds, in words: what is shown before it is deleted or disabled, and what the
//! confirmation is bound to.
//!
//! Only what people decide and what is placed is in it, not what changes by itself (an instance that
//! crashes, a probe that fails), so that a confirmation is stale exactly when somebody or something
//! has decided anew since.

use crate::{
    config::Schema,
    rejection::Rejection,
    state::{Environment, State},
};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, fmt::Write as _};
use types::{AppId, ChangeId, DeployId, EnvId, InstanceId, NamespaceId, NodeId};

/// Names for people, and what each is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content(BTreeMap<String, String>);

impl Content {
    /// What an environment declares, serves and routes.
    pub fn of_env(state: &State, id: EnvId) -> Self {
        let mut content = Self::default();
        if let Some(env) = state.envs.get(&id) {
            content.add_env(state, "", id, env);
        }
        content
    }

    /// The same of every environment of an app.
    pub fn of_app(state: &State, app: AppId) -> Self {
        let mut content = Self::default();
        for (id, env) in environments(state, app) {
            content.add_env(state, &format!("{} ", env.name), id, env);
        }
        content
    }

    /// How a node is used, which instances it holds, and whether it is heard: what somebody has to say of it
    /// before it is removed depends on that.
    pub fn of_removal(state: &State, id: NodeId) -> Self {
        let mut content = Self::of_node(state, id);
        if let Some(node) = state.nodes.get(&id) {
            content.0.insert("health".into(), format!("{:?}", node.health).to_lowercase());
        }
        content
    }

    /// How a node is used, and which instances it holds.
    pub fn of_node(state: &State, id: NodeId) -> Self {
        let mut content = Self::default();
        if let Some(node) = state.nodes.get(&id) {
            content.0.insert("state".into(), format!("{:?}", node.state).to_lowercase());
            let held = state.instances_on(id).filter(|(_, instance)| instance.holds_memory());
            content.0.insert("instances".into(), counted(held.map(|(id, _)| id)));
        }
        content
    }

    /// What a namespace of configuration has.
    pub fn of_namespace(state: &State, id: NamespaceId) -> Self {
        let mut content = Self::default();
        if let Some(namespace) = state.config.namespaces.get(&id) {
            content.0.insert("release".into(), namespace.release.to_string());
            content.0.insert("values".into(), namespace.values.to_string());
            content.0.insert("settings of event".into(), namespace.changed.to_string());
            content.0.insert("open changes".into(), state.config.open_of(id).count().to_string());
        }
        content
    }

    /// What a change of configuration would publish.
    pub fn of_change(state: &State, id: ChangeId) -> Self {
        let mut content = Self::default();
        if let Some(change) = state.config.changes.get(&id) {
            let release = state.config.namespaces.get(&change.namespace).map(|found| found.release);
            let hash: String = change.content_hash()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
            content.0.insert("content".into(), hash);
            content.0.insert("stage".into(), change.stage.as_str().into());
            content.0.insert("release before it".into(), release.unwrap_or(0).to_string());
        }
        content
    }

    /// What a schema would break.
    pub fn of_schema(state: &State, id: NamespaceId, schema: &Schema) -> Self {
        let violations = crate::decide::broken_by(state, id, schema);
        Self(violations.into_iter().map(|broken| (broken.place, broken.why)).collect())
    }

    fn add_env(&mut self, state: &State, before: &str, id: EnvId, env: &Environment) {
        let mut add = |name: &str, value: String| self.0.insert(format!("{before}{name}"), value);
        add("newest deploy", env.latest.map_or("none".into(), |deploy| deploy_text(state, deploy)));
        add("serves", env.serving.map_or("nothing".into(), |deploy| deploy_text(state, deploy)));
        let routes: Vec<String> = state.routes_of(id).map(|(_, route)| route.matches.to_string()).collect();
        add("routes", if routes.is_empty() { "none".into() } else { routes.join(", ") });
        for (process, replicas) in &env.scale {
            add(&format!("instances of {process}"), replicas.to_string());
        }
    }

    /// Each with its name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Says no when it is not what was shown, and what has changed.
    pub(crate) fn unmoved_since(&self, shown: &Self) -> Result<(), Rejection> {
        let names = shown.0.keys().chain(self.0.keys().filter(|name| !shown.0.contains_key(*name)));
        let word = |content: &Self, name| content.0.get(name).cloned().unwrap_or_else(|| "nothing".into());
        let mut what = String::new();
        for name in names.filter(|name| shown.0.get(*name) != self.0.get(*name)) {
            let between = if what.is_empty() { "" } else { "; " };
            let (was, is) = (word(shown, name), word(self, name));
            write!(what, "{between}{name} was {was} and is {is}").expect("writing to a string cannot fail");
        }
        if what.is_empty() { Ok(()) } else { Err(Rejection::Moved { what }) }
    }
}

/// The environments of an app that are not deleted.
pub(crate) fn environments(state: &State, app: AppId) -> impl Iterator<Item = (EnvId, &Environment)> {
    let of_app = state.envs.iter().filter(move |(id, env)| env.app == app && !state.is_deleted(**id));
    of_app.map(|(id, env)| (*id, env.as_ref()))
}

fn deploy_text(state: &State, id: DeployId) -> String {
    let release = state.deploys.get(&id).and_then(|deploy| state.releases.get(&deploy.release));
    match release {
        Some(release) => format!("{id} of release {}", release.number),
        None => id.to_string(),
    }
}

/// How many, and a fingerprint of which.
fn counted(ids: impl Iterator<Item = InstanceId>) -> String {
    let (mut count, mut hash) = (0u64, Sha256::new());
    for id in ids {
        count += 1;
        hash.update(id.as_u128().to_be_bytes());
    }
    if count == 0 {
        return "none".into();
    }
    let digits: String = hash.finalize()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{count} ({digits})")
}
