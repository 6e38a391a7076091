//! What is left of an app, an environment or a node when it is gone: nothing, once nothing of it runs.

use super::{InstanceState, State};
use crate::event::Envelope;
use std::sync::Arc;
use types::{AppId, EnvId, InstanceId, NodeId, TokenId};

impl State {
    /// Its name is free. It stays, without any wish, until its last instance is gone: agents are still
    /// told whose that is.
    pub(super) fn apply_env_deleted(&mut self, envelope: &Envelope, id: EnvId) {
        let Some(env) = self.envs.get(&id) else { return };
        let key = (env.app, env.name.clone());
        if self.env_names.get(&key) == Some(&id) {
            self.env_names.remove(&key);
        }
        let mut deploys = Vec::new();
        self.with_env(id, envelope, |env| {
            deploys.extend([env.latest.take(), env.serving.take(), env.rolling.take()]);
            env.scale.clear();
            env.promoted.clear();
            env.sequence = envelope.sequence;
        });
        deploys.into_iter().flatten().for_each(|deploy| drop(self.deploys.remove(&deploy)));
        self.forget_env(id);
    }

    pub(super) fn apply_app_deleted(&mut self, envelope: &Envelope, id: AppId) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        app.sequence = envelope.sequence;
        let key = (app.org, app.name.clone());
        if self.app_names.get(&key) == Some(&id) {
            self.app_names.remove(&key);
        }
        self.forget_app(id);
    }

    /// What it had is nowhere any more, and its credential opens nothing.
    pub(super) fn apply_node_removed(&mut self, envelope: &Envelope, id: NodeId) {
        let held: Vec<InstanceId> = self.instances_on(id).map(|(instance, _)| instance).collect();
        for instance in held {
            self.step_instance(envelope, instance, InstanceState::Draining);
            self.forget_instance(envelope, instance);
        }
        let credentials: Vec<TokenId> =
            self.tokens.iter().filter(|(_, token)| token.node == Some(id)).map(|(token, _)| *token).collect();
        credentials.into_iter().for_each(|token| self.kill_token(token));
        if let Some(node) = self.nodes.remove(&id)
            && self.node_names.get(&node.name) == Some(&id)
        {
            self.node_names.remove(&node.name);
        }
    }

    /// Forgets an environment that was deleted and of which nothing runs.
    pub(super) fn forget_env(&mut self, id: EnvId) {
        if !self.is_deleted(id) || self.instances_of(id).next().is_some() {
            return;
        }
        let Some(env) = self.envs.remove(&id) else { return };
        env.releases.iter().for_each(|release| drop(self.releases.remove(release)));
        self.forget_app(env.app);
    }

    /// Forgets an app that was deleted, with the last of its environments.
    fn forget_app(&mut self, id: AppId) {
        let Some(app) = self.apps.get(&id) else { return };
        let is_deleted = self.app_names.get(&(app.org, app.name.clone())) != Some(&id);
        if is_deleted && !self.envs.values().map(Arc::as_ref).any(|env| env.app == id) {
            self.apps.remove(&id);
        }
    }
}
