//! How each event changes the state. Total: an event about something unknown changes nothing.

use super::{
    App, Decided, Deploy, DeployState, Environment, Holder, Instance, InstanceState, Link, MemberState, Node,
    NodeState, Org, Person, Release, ReleaseState, Route, RouteState, State, Token,
};
use crate::event::{DeployFailure, Envelope, Event, NodeHealth};
use std::sync::Arc;
use types::{
    ByteSize, DeployId, EnvId, Generation, InstanceId, MilliCpu, NodeId, ReleaseId, RouteId, TokenId,
    plan::{Change, NodeRole},
};

/// Promoted releases an environment remembers the order of.
const PROMOTED_KEPT: usize = 64;

impl State {
    /// Folds one event in. Events must come in order, each exactly once.
    pub fn apply(&mut self, envelope: &Envelope) {
        debug_assert_eq!(envelope.id, self.head.next(), "gapless_order");
        self.head = envelope.id;
        self.at = self.at.max(envelope.at);
        self.line.note_epoch(envelope);
        match &envelope.event {
            Event::ClusterCreated { .. }
            | Event::HorizonMoved { .. }
            | Event::ActConfirmed { .. }
            | Event::BackupNoted { .. } => self.apply_cluster(envelope),
            Event::OrgCreated { org, name } => {
                self.orgs.insert(*org, Org { name: name.clone(), sequence: envelope.sequence });
                self.org_names.insert(name.clone(), *org);
            }
            Event::AppCreated { app, org, name } => {
                self.apps.insert(*app, App { org: *org, name: name.clone(), sequence: envelope.sequence });
                self.app_names.insert((*org, name.clone()), *app);
            }
            Event::RequestDecided { .. } => self.apply_decided(envelope),
            Event::EnvironmentCreated { .. } | Event::ScaleSet { .. } => self.apply_environment(envelope),
            Event::ReleaseCreated { .. }
            | Event::ReleaseAvailable { .. }
            | Event::ReleasePromoted { .. }
            | Event::ReleaseSuperseded { .. }
            | Event::ReleaseRolledBack { .. } => self.apply_release(envelope),
            Event::DeployStarted { .. }
            | Event::DeployRolling { .. }
            | Event::DeployCutOver { .. }
            | Event::DeploySucceeded { .. }
            | Event::DeployFailed { .. } => self.apply_deploy(envelope),
            Event::InstanceAllocated { .. } => self.apply_allocated(envelope),
            Event::InstanceChanged { instance, report, change, .. } => {
                self.apply_changed(envelope, *instance, *report, change);
            }
            Event::InstanceDraining { .. } | Event::InstanceReleased { .. } | Event::InstanceLost { .. } => {
                self.apply_withdrawn(envelope);
            }
            Event::RouteRequested { .. }
            | Event::RouteValidated { .. }
            | Event::RouteActivated { .. }
            | Event::RouteUpdating { .. }
            | Event::RouteRemoved { .. } => self.apply_route(envelope),
            Event::NodeEnrolled { .. }
            | Event::NodeActivated { .. }
            | Event::NodeDraining { .. }
            | Event::NodeDisabled { .. }
            | Event::NodeHealthChanged { .. } => self.apply_node(envelope),
            Event::TokenCreated { .. } | Event::TokenRevoked { .. } | Event::TokenIssued { .. } => {
                self.apply_token(envelope);
            }
            Event::PersonAdded { .. }
            | Event::PersonRoleChanged { .. }
            | Event::PersonPasswordChanged { .. }
            | Event::PersonLinked { .. }
            | Event::PersonUnlinked { .. }
            | Event::PersonRemoved { .. } => self.apply_person(envelope),
            Event::NodeRemoved { node, .. } => self.apply_node_removed(envelope, *node),
            Event::EnvironmentDeleted { env, .. } => self.apply_env_deleted(envelope, *env),
            Event::AppDeleted { app, .. } => self.apply_app_deleted(envelope, *app),
            Event::MemberAdmitted { .. } | Event::MemberRemoved { .. } => self.apply_member(envelope),
            Event::Config(event) => self.config.apply(event, envelope),
            Event::ClusterAdopted { taken, absent, .. } => self.apply_adopted(envelope, taken, absent),
        }
    }

    fn apply_decided(&mut self, envelope: &Envelope) {
        let Event::RequestDecided { request, principal, body, verdict } = &envelope.event else { return };
        let decided = Decided {
            principal: *principal,
            body: *body,
            verdict: verdict.clone(),
            event: envelope.id,
            at: envelope.at,
        };
        self.requests.insert(*request, decided);
    }

    fn apply_cluster(&mut self, envelope: &Envelope) {
        self.cluster_sequence = envelope.sequence;
        match &envelope.event {
            Event::ClusterCreated { cluster } => self.cluster.clone_from(cluster),
            Event::HorizonMoved { to } => self.requests.move_horizon(*to),
            Event::BackupNoted { note } => self.backups.apply(note, envelope),
            _ => {}
        }
    }

    pub(super) fn with_env(&mut self, id: EnvId, envelope: &Envelope, change: impl FnOnce(&mut Environment)) {
        if let Some(env) = self.envs.get_mut(&id) {
            let env = Arc::make_mut(env);
            env.changed = envelope.id;
            change(env);
        }
    }

    fn apply_environment(&mut self, envelope: &Envelope) {
        match &envelope.event {
            Event::EnvironmentCreated { env, app, name } => {
                let made = Environment {
                    app: *app,
                    name: name.clone(),
                    releases: Vec::new(),
                    serving: None,
                    rolling: None,
                    latest: None,
                    promoted: Vec::new(),
                    scale: Default::default(),
                    failed_in_a_row: 0,
                    last_failed: Default::default(),
                    changed: envelope.id,
                    sequence: envelope.sequence,
                };
                self.envs.insert(*env, Arc::new(made));
                self.env_names.insert((*app, name.clone()), *env);
            }
            Event::ScaleSet { env, process, replicas } => self.with_env(*env, envelope, |env| {
                env.scale.insert(process.clone(), *replicas);
                env.sequence = envelope.sequence;
            }),
            _ => {}
        }
    }

    fn apply_release(&mut self, envelope: &Envelope) {
        let change = |state: &mut Self, id: &ReleaseId, to: ReleaseState| {
            if let Some(release) = state.releases.get_mut(id) {
                let release = Arc::make_mut(release);
                release.go(to);
                release.sequence = envelope.sequence;
            }
        };
        match &envelope.event {
            Event::ReleaseCreated { release, env, number, manifest, image, content } => {
                let made = Release {
                    env: *env,
                    number: *number,
                    manifest: manifest.clone(),
                    image: image.clone(),
                    content: *content,
                    state: ReleaseState::Created,
                    created: envelope.at,
                    sequence: envelope.sequence,
                };
                self.releases.insert(*release, Arc::new(made));
                self.with_env(*env, envelope, |env| env.releases.push(*release));
            }
            Event::ReleaseAvailable { release } => change(self, release, ReleaseState::Available),
            Event::ReleasePromoted { release } => {
                change(self, release, ReleaseState::Promoted);
                if let Some(env) = self.releases.get(release).map(|release| release.env) {
                    self.with_env(env, envelope, |env| {
                        env.promoted.push(*release);
                        if env.promoted.len() > PROMOTED_KEPT {
                            env.promoted.remove(0);
                        }
                    });
                }
            }
            Event::ReleaseSuperseded { release } => change(self, release, ReleaseState::Superseded),
            Event::ReleaseRolledBack { release } => change(self, release, ReleaseState::RolledBack),
            _ => {}
        }
    }

    fn apply_deploy(&mut self, envelope: &Envelope) {
        match &envelope.event {
            Event::DeployStarted { deploy, env, release, kind, deadline, attempts } => {
                let made = Deploy {
                    env: *env,
                    release: *release,
                    kind: *kind,
                    state: DeployState::Started,
                    started: envelope.at,
                    deadline: *deadline,
                    attempts: *attempts,
                    failures: 0,
                    last_failure: None,
                    failure: None,
                    sequence: envelope.sequence,
                };
                self.deploys.insert(*deploy, Arc::new(made));
                let mut forgotten = None;
                self.with_env(*env, envelope, |env| {
                    forgotten = env
                        .latest
                        .filter(|latest| env.serving != Some(*latest) && env.rolling != Some(*latest));
                    env.rolling = Some(*deploy);
                    env.latest = Some(*deploy);
                    // What failed before says nothing about what somebody has just declared.
                    env.failed_in_a_row = 0;
                });
                forgotten.map(|old| self.deploys.remove(&old));
            }
            Event::DeployRolling { deploy } => {
                self.step_deploy(envelope, *deploy, DeployState::Rolling);
            }
            Event::DeployCutOver { deploy } => {
                self.step_deploy(envelope, *deploy, DeployState::Cutover);
            }
            Event::DeploySucceeded { deploy } => {
                let env = self.step_deploy(envelope, *deploy, DeployState::Succeeded);
                let mut replaced = None;
                if let Some(env) = env {
                    self.with_env(env, envelope, |env| {
                        replaced = env.serving.replace(*deploy).filter(|old| old != deploy);
                        env.rolling = None;
                        env.failed_in_a_row = 0;
                    });
                }
                replaced.map(|old| self.deploys.remove(&old));
            }
            Event::DeployFailed { deploy, failure } => {
                if let Some(env) = self.step_deploy(envelope, *deploy, DeployState::Failed) {
                    self.with_env(env, envelope, |env| {
                        if env.rolling == Some(*deploy) {
                            env.rolling = None;
                        }
                    });
                }
                self.note_failure(*deploy, failure);
            }
            _ => {}
        }
    }

    fn step_deploy(&mut self, envelope: &Envelope, id: DeployId, to: DeployState) -> Option<EnvId> {
        let deploy = Arc::make_mut(self.deploys.get_mut(&id)?);
        deploy.go(to);
        deploy.sequence = envelope.sequence;
        let env = deploy.env;
        self.with_env(env, envelope, |_| {});
        Some(env)
    }

    fn note_failure(&mut self, id: DeployId, failure: &DeployFailure) {
        if let Some(deploy) = self.deploys.get_mut(&id) {
            Arc::make_mut(deploy).failure = Some(failure.clone());
        }
    }

    fn apply_allocated(&mut self, envelope: &Envelope) {
        let Event::InstanceAllocated { instance, env, process, release, deploy, node, address } =
            &envelope.event
        else {
            return;
        };
        let wanted = self.releases.get(release).and_then(|release| release.manifest.processes.get(process));
        let (memory, cpu) = wanted.map_or_else(Default::default, |process| (process.memory, process.cpu));
        let made = Instance {
            env: *env,
            process: process.clone(),
            release: *release,
            deploy: *deploy,
            node: *node,
            address: *address,
            memory,
            cpu,
            state: InstanceState::Allocated,
            was_ready: false,
            released: false,
            reason: None,
            restarts: 0,
            report: 0,
            allocated: envelope.at,
            since: envelope.at,
            changed: envelope.id,
            routed: Generation::ZERO,
            sequence: envelope.sequence,
        };
        self.instances.insert(*instance, Arc::new(made));
        self.env_instances.insert((*env, *instance));
        self.node_instances.insert((*node, *instance));
        self.touch_node(envelope, *node);
        self.charge(*node, memory, cpu, Charge::Take);
        self.with_env(*env, envelope, |_| {});
    }

    fn apply_changed(&mut self, envelope: &Envelope, id: InstanceId, report: u64, change: &Change) {
        if let Some(instance) = self.instances.get_mut(&id) {
            let instance = Arc::make_mut(instance);
            instance.report = report;
            instance.sequence = envelope.sequence;
        }
        match change {
            Change::Preparing => self.step_instance(envelope, id, InstanceState::Preparing),
            Change::Booting => self.step_instance(envelope, id, InstanceState::Booting),
            Change::Ready => {
                self.step_instance(envelope, id, InstanceState::Ready);
                self.note_ready(envelope, id);
            }
            Change::Unready { detail } => {
                self.note_reason(id, types::plan::Reason::HealthLost, detail);
                self.step_instance(envelope, id, InstanceState::Booting);
            }
            Change::Waiting { reason, detail } => self.note_reason(id, *reason, detail),
            Change::Crashed { reason, detail, restarts } => {
                self.count_failure(envelope, id, *reason, detail);
                self.note_reason(id, *reason, detail);
                if let Some(instance) = self.instances.get_mut(&id) {
                    Arc::make_mut(instance).restarts = *restarts;
                }
                self.step_instance(envelope, id, InstanceState::Booting);
            }
            Change::Failed { reason, detail } => {
                self.count_failure(envelope, id, *reason, detail);
                self.note_reason(id, *reason, detail);
                self.step_instance(envelope, id, InstanceState::Failed);
            }
            Change::Stopped => self.stop_instance(envelope, id),
            Change::Collected => {
                self.stop_instance(envelope, id);
                self.forget_instance(envelope, id);
            }
        }
    }

    fn apply_withdrawn(&mut self, envelope: &Envelope) {
        match &envelope.event {
            Event::InstanceDraining { instance } => {
                self.step_instance(envelope, *instance, InstanceState::Draining)
            }
            Event::InstanceReleased { instance, .. } => {
                if let Some(found) = self.instances.get_mut(instance) {
                    let found = Arc::make_mut(found);
                    found.released = true;
                    found.changed = envelope.id;
                    let (node, env) = (found.node, found.env);
                    self.touch_node(envelope, node);
                    self.with_env(env, envelope, |_| {});
                }
            }
            Event::InstanceLost { instance } => {
                // Its node keeps it in mind until it comes back and stops it; its memory there stays taken.
                self.note_reason(*instance, types::plan::Reason::NodeLost, "its node was lost");
                self.step_instance(envelope, *instance, InstanceState::Failed);
            }
            _ => {}
        }
        if let Some(instance) = match envelope.event {
            Event::InstanceDraining { instance }
            | Event::InstanceReleased { instance, .. }
            | Event::InstanceLost { instance } => self.instances.get_mut(&instance),
            _ => None,
        } {
            Arc::make_mut(instance).sequence = envelope.sequence;
        }
    }

    /// Moves an instance and whatever depends on where it is: its environment, and the edges.
    pub(super) fn step_instance(&mut self, envelope: &Envelope, id: InstanceId, to: InstanceState) {
        let Some(found) = self.instances.get(&id) else { return };
        if !found.may_go(to) {
            return;
        }
        let was_target = found.state == InstanceState::Ready;
        let (env, node, routed) = (found.env, found.node, self.is_routed(found.env, &found.process));
        if was_target != (to == InstanceState::Ready) && routed {
            self.edge_generation = self.generation_of(envelope.id);
        }
        let routed = self.edge_generation;
        let Some(found) = self.instances.get_mut(&id) else { return };
        let instance = Arc::make_mut(found);
        if instance.state != to {
            instance.since = envelope.at;
        }
        instance.state = to;
        instance.changed = envelope.id;
        instance.routed = routed;
        if matches!(to, InstanceState::Draining | InstanceState::Failed) {
            self.touch_node(envelope, node);
        }
        self.with_env(env, envelope, |_| {});
    }

    /// Failures were in a row until one became ready.
    fn note_ready(&mut self, envelope: &Envelope, id: InstanceId) {
        if let Some(instance) =
            self.instances.get_mut(&id).filter(|found| found.state == InstanceState::Ready)
        {
            let instance = Arc::make_mut(instance);
            instance.was_ready = true;
            instance.reason = None;
            let env = instance.env;
            self.with_env(env, envelope, |env| env.failed_in_a_row = 0);
        }
    }

    fn note_reason(&mut self, id: InstanceId, reason: types::plan::Reason, detail: &str) {
        if let Some(instance) = self.instances.get_mut(&id) {
            Arc::make_mut(instance).reason = Some((reason, detail.to_owned()));
        }
    }

    /// A fresh instance that fails counts against its deploy, and against how soon the next is tried.
    fn count_failure(
        &mut self,
        envelope: &Envelope,
        id: InstanceId,
        reason: types::plan::Reason,
        detail: &str,
    ) {
        let Some(instance) = self.instances.get(&id).filter(|found| !found.was_ready) else { return };
        let (env, deploy) = (instance.env, instance.deploy);
        if let Some(deploy) = self.deploys.get_mut(&deploy) {
            let deploy = Arc::make_mut(deploy);
            deploy.failures = deploy.failures.saturating_add(1);
            deploy.last_failure = Some((reason, detail.to_owned()));
        }
        self.with_env(env, envelope, |env| {
            env.failed_in_a_row = env.failed_in_a_row.saturating_add(1);
            env.last_failed = envelope.at;
        });
    }

    fn stop_instance(&mut self, envelope: &Envelope, id: InstanceId) {
        let Some(found) = self.instances.get(&id) else { return };
        if !found.holds_memory() {
            return;
        }
        let (node, memory, cpu) = (found.node, found.memory, found.cpu);
        self.step_instance(envelope, id, InstanceState::Draining);
        self.step_instance(envelope, id, InstanceState::Stopped);
        if self.instances.get(&id).is_some_and(|found| !found.holds_memory()) {
            self.charge(node, memory, cpu, Charge::Give);
        }
    }

    pub(super) fn forget_instance(&mut self, envelope: &Envelope, id: InstanceId) {
        if let Some(gone) = self.instances.remove(&id) {
            self.env_instances.remove(&(gone.env, id));
            self.node_instances.remove(&(gone.node, id));
            self.touch_node(envelope, gone.node);
            self.with_env(gone.env, envelope, |_| {});
            self.forget_env(gone.env);
        }
    }

    fn apply_route(&mut self, envelope: &Envelope) {
        let generation = self.generation_of(envelope.id);
        match &envelope.event {
            Event::RouteRequested { route, env, matches, process, port, proxy_protocol } => {
                let made = Route {
                    env: *env,
                    matches: matches.clone(),
                    process: process.clone(),
                    port: port.clone(),
                    proxy_protocol: *proxy_protocol,
                    state: RouteState::Requested,
                    routed: generation,
                    sequence: envelope.sequence,
                };
                self.routes.insert(*route, made);
                self.route_keys.insert(matches.clone(), *route);
                self.env_routes.insert((*env, *route));
            }
            Event::RouteValidated { route } => {
                self.step_route(envelope, *route, RouteState::Validated);
                self.edge_generation = generation;
            }
            Event::RouteActivated { route } => self.step_route(envelope, *route, RouteState::Active),
            Event::RouteUpdating { route, process, port, proxy_protocol } => {
                if let Some(found) = self.routes.get_mut(route) {
                    found.process = process.clone();
                    found.port = port.clone();
                    found.proxy_protocol = *proxy_protocol;
                }
                self.step_route(envelope, *route, RouteState::Updating);
                self.edge_generation = generation;
            }
            Event::RouteRemoved { route } => {
                if let Some(gone) = self.routes.remove(route) {
                    self.route_keys.remove(&gone.matches);
                    self.env_routes.remove(&(gone.env, *route));
                    self.edge_generation = generation;
                    self.with_env(gone.env, envelope, |_| {});
                }
            }
            _ => {}
        }
    }

    fn step_route(&mut self, envelope: &Envelope, id: RouteId, to: RouteState) {
        let generation = self.generation_of(envelope.id);
        let Some(route) = self.routes.get_mut(&id) else { return };
        route.go(to);
        route.sequence = envelope.sequence;
        if to != RouteState::Active {
            route.routed = generation;
        }
        let env = route.env;
        self.with_env(env, envelope, |_| {});
    }

    fn apply_node(&mut self, envelope: &Envelope) {
        if let Event::NodeEnrolled { node, name, roles, capacity, prefix, join } = &envelope.event {
            let made = Node {
                name: name.clone(),
                roles: roles.clone(),
                capacity: *capacity,
                used: ByteSize::default(),
                cpu_used: MilliCpu::default(),
                prefix: *prefix,
                state: NodeState::Enrolled,
                health: NodeHealth::Reachable,
                generation: self.generation_of(envelope.id),
                changed: envelope.id,
                sequence: envelope.sequence,
            };
            self.nodes.insert(*node, Arc::new(made));
            self.node_names.insert(name.clone(), *node);
            self.kill_token(*join);
            return;
        }
        let id = match envelope.event {
            Event::NodeActivated { node }
            | Event::NodeDraining { node }
            | Event::NodeDisabled { node, .. }
            | Event::NodeHealthChanged { node, .. } => node,
            _ => return,
        };
        let generation = self.generation_of(envelope.id);
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let node = Arc::make_mut(node);
        let was_disabled = node.state == NodeState::Disabled;
        node.changed = envelope.id;
        node.sequence = envelope.sequence;
        match envelope.event {
            Event::NodeActivated { .. } => node.go(NodeState::Active),
            Event::NodeDraining { .. } => node.go(NodeState::Draining),
            Event::NodeDisabled { .. } => node.go(NodeState::Disabled),
            Event::NodeHealthChanged { health, .. } => node.health = health,
            _ => {}
        }
        // The edge of a disabled node routes nothing.
        let is_edge = node.roles.contains(&NodeRole::Edge);
        if is_edge && was_disabled != (node.state == NodeState::Disabled) {
            self.edge_generation = generation;
        }
    }

    fn apply_token(&mut self, envelope: &Envelope) {
        match &envelope.event {
            Event::TokenCreated { token, org, name, role, node, hash, expires } => {
                let made = Token {
                    org: *org,
                    name: name.clone(),
                    role: *role,
                    node: *node,
                    hash: *hash,
                    expires: *expires,
                    holder: None,
                    dead: false,
                    sequence: envelope.sequence,
                };
                self.tokens.insert(*token, made);
                self.token_hashes.insert(*hash, *token);
            }
            Event::TokenIssued { token, org, name, role, holder, hash, expires } => {
                let made = Token {
                    org: Some(*org),
                    name: name.clone(),
                    role: *role,
                    node: None,
                    hash: *hash,
                    expires: *expires,
                    holder: Some(holder.clone()),
                    dead: false,
                    sequence: envelope.sequence,
                };
                self.tokens.insert(*token, made);
                self.token_hashes.insert(*hash, *token);
            }
            Event::TokenRevoked { token } => {
                self.kill_token(*token);
                if let Some(found) = self.tokens.get_mut(token) {
                    found.sequence = envelope.sequence;
                }
            }
            _ => {}
        }
    }

    fn apply_person(&mut self, envelope: &Envelope) {
        let id = match &envelope.event {
            Event::PersonAdded { person, org, name, role, hash } => {
                let made = Person {
                    org: *org,
                    name: name.clone(),
                    role: *role,
                    hash: hash.clone(),
                    password: envelope.id,
                    link: None,
                    changed: envelope.id,
                    removed: None,
                    sequence: envelope.sequence,
                };
                self.people.insert(*person, made);
                self.person_names.insert(name.clone(), *person);
                return;
            }
            Event::PersonRoleChanged { person, .. }
            | Event::PersonPasswordChanged { person, .. }
            | Event::PersonLinked { person, .. }
            | Event::PersonUnlinked { person }
            | Event::PersonRemoved { person } => *person,
            _ => return,
        };
        let Some(person) = self.people.get_mut(&id) else { return };
        person.changed = envelope.id;
        person.sequence = envelope.sequence;
        match &envelope.event {
            Event::PersonRoleChanged { role, .. } => person.role = *role,
            Event::PersonPasswordChanged { hash, .. } => {
                person.hash.clone_from(hash);
                person.password = envelope.id;
            }
            Event::PersonLinked { identity, .. } => {
                let link = Link { identity: identity.clone(), event: envelope.id };
                let before = person.link.replace(link);
                before.map(|before| self.identities.remove(&before.identity));
                self.identities.insert(identity.clone(), id);
            }
            Event::PersonUnlinked { .. } => {
                let before = person.link.take();
                before.map(|before| self.identities.remove(&before.identity));
            }
            Event::PersonRemoved { .. } => {
                person.removed = Some(envelope.id);
                person.hash.clear();
                let link = person.link.take();
                let name = person.name.clone();
                self.person_names.remove(&name);
                link.map(|link| self.identities.remove(&link.identity));
                let held = Some(Holder::Person(id));
                let own: Vec<TokenId> =
                    self.tokens.iter().filter(|(_, token)| token.holder == held).map(|(id, _)| *id).collect();
                own.into_iter().for_each(|token| self.kill_token(token));
            }
            _ => {}
        }
    }

    fn apply_member(&mut self, envelope: &Envelope) {
        match &envelope.event {
            Event::MemberAdmitted { node, name, peer, api, votes, join } => {
                let made = MemberState {
                    name: name.clone(),
                    peer: peer.clone(),
                    api: api.clone(),
                    votes: *votes,
                    admitted: envelope.id,
                    removed: None,
                    sequence: envelope.sequence,
                };
                self.members.insert(*node, made);
                if let Some(join) = join {
                    self.kill_token(*join);
                }
            }
            Event::MemberRemoved { node, .. } => {
                if let Some(member) = self.members.get_mut(node) {
                    member.removed = member.removed.or(Some(envelope.id));
                    member.sequence = envelope.sequence;
                }
            }
            _ => {}
        }
    }

    pub(super) fn kill_token(&mut self, id: TokenId) {
        if let Some(token) = self.tokens.get_mut(&id) {
            token.dead = true;
            self.token_hashes.remove(&token.hash);
        }
    }

    fn touch_node(&mut self, envelope: &Envelope, id: NodeId) {
        let generation = self.generation_of(envelope.id);
        if let Some(node) = self.nodes.get_mut(&id) {
            Arc::make_mut(node).generation = generation;
        }
    }

    fn charge(&mut self, id: NodeId, memory: ByteSize, cpu: MilliCpu, charge: Charge) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let node = Arc::make_mut(node);
        let (used, cpu_used) = (node.used.bytes(), node.cpu_used.get());
        let (used, cpu_used) = match &charge {
            Charge::Take => (used.saturating_add(memory.bytes()), cpu_used.saturating_add(cpu.get())),
            Charge::Give => (used.saturating_sub(memory.bytes()), cpu_used.saturating_sub(cpu.get())),
        };
        assert!(
            matches!(charge, Charge::Give) || used <= node.capacity.memory.bytes(),
            "memory_is_never_oversubscribed: {} bytes placed on {}, which has {}",
            used,
            node.name,
            node.capacity.memory.bytes()
        );
        node.used = ByteSize::from_bytes(used);
        node.cpu_used = MilliCpu::new(cpu_used);
    }
}

enum Charge {
    Take,
    Give,
}
