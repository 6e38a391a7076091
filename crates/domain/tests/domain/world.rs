//! A world without a clock: a log in memory, nodes whose agents do what their plan says, edges that
//! take plans over sooner or later. Every event is checked against the invariants as it is applied.

use holdfast_domain::{
    Actor, Command, Confirmation, Confirmed, Content, Context, Decision, Envelope, Event, NewToken,
    NodeHealth, Rejection, Settled, State, derive,
    plan::{self, NodeSeen, Observed, RoleSeen, Step},
    settle,
    state::{InstanceState, Node, Route},
    view::Views,
};
use std::collections::{BTreeMap, BTreeSet};
use types::{
    AppId, ByteSize, Digest, DurationMs, EnvId, Epoch, EventId, Generation, InstanceId, MilliCpu, Name,
    NodeId, OrgId, RequestId, RouteId, Timestamp,
    manifest::{self, DeployPolicy, Image, Manifest, Port, Process, ProxyProtocol, RouteMode, SCHEMA},
    plan::{Capacity, Change, Desired, NodeRole, PinnedImage, Reason, RouteMatch, Transition},
};

pub fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// A machine: what its agent knows and its edge has taken over.
#[derive(Clone, Debug)]
pub struct Machine {
    pub roles: BTreeSet<NodeRole>,
    pub up: bool,
    /// Passes until the edge takes the newest plan over.
    pub lag: u32,
    pub generation: Generation,
    reports: BTreeMap<InstanceId, (u64, Life)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Fresh,
    Preparing,
    Booting,
    Ready,
    Failed,
    Stopped,
}

#[derive(Clone)]
pub struct World {
    pub state: State,
    pub log: Vec<Envelope>,
    pub views: Views,
    pub observed: Observed,
    pub now: Timestamp,
    pub machines: BTreeMap<NodeId, Machine>,
    pub org: OrgId,
    /// By which state the next who ask are let in; by the present one if none.
    pub judged: Option<EventId>,
    dice: u128,
}

const START: u64 = 1_800_000_000_000;

impl World {
    pub fn new() -> Self {
        let now = Timestamp::from_ms(START);
        let mut world = Self {
            state: State::default(),
            log: Vec::new(),
            views: Views::new(),
            observed: Observed { since: now, ..Observed::default() },
            now,
            machines: BTreeMap::new(),
            org: OrgId::from_u128(0),
            judged: None,
            dice: 7,
        };
        let owner = NewToken { name: name("first"), hash: [1; 32], expires: None };
        world.ok(Command::Bootstrap { cluster: "holdfast-test".into(), org: name("acme"), owner });
        world.org =
            *world.state.org_names.get("acme".parse::<Name>().as_ref().expect("a name")).expect("made");
        world
    }

    fn roll(&mut self) -> u128 {
        // An odd step of full period: every id differs, every run is the same.
        self.dice = self
            .dice
            .wrapping_mul(0x2360_ED05_1FC6_5DA4_4385_DF64_9FCC_F645)
            .wrapping_add(0x5851_F42D_4C95_7F2D);
        self.dice >> 17
    }

    pub fn submit_as(
        &mut self,
        actor: Actor,
        command: &Command,
        request: Option<(RequestId, [u8; 32])>,
        cause: Option<EventId>,
    ) -> Settled {
        let random = self.roll();
        let context = Context { now: self.now, actor, judged: self.judged, request, cause, random };
        let settled = settle(&self.state, command, &context);
        if let Settled::Now { events, .. } = &settled {
            for event in events {
                self.write(event.clone(), actor, request.map(|(id, _)| id), cause);
            }
        }
        settled
    }

    fn write(&mut self, event: Event, actor: Actor, request: Option<RequestId>, cause: Option<EventId>) {
        let sequence = self.state.next_sequence(event.subject());
        let id = self.state.head.next();
        let envelope =
            Envelope { id, epoch: Epoch::new(1), at: self.now, actor, request, cause, sequence, event };
        let before = self.state.clone();
        self.state.apply(&envelope);
        self.views.apply(&envelope);
        self.check(&before, &envelope);
        self.log.push(envelope);
    }

    pub fn submit(&mut self, command: Command) -> Result<Vec<Event>, Rejection> {
        match self.submit_as(Actor::System, &command, None, None) {
            Settled::Now { events, outcome } => outcome.map(|_| events),
            Settled::Unacceptable(rejection) => Err(rejection),
            Settled::Before(_) => unreachable!("no request was given"),
        }
    }

    pub fn ok(&mut self, command: Command) -> Vec<Event> {
        let text = format!("{command:?}");
        self.submit(command).unwrap_or_else(|rejection| panic!("{text}: {rejection}"))
    }

    pub fn node(&mut self, text: &str, roles: &[NodeRole], memory: ByteSize) -> NodeId {
        let random = self.roll().to_be_bytes();
        let (mut hash, mut credential) = ([2; 32], [3; 32]);
        hash[..16].copy_from_slice(&random);
        credential[..16].copy_from_slice(&random);
        let events =
            self.ok(Command::CreateJoin { token: NewToken { name: name(text), hash, expires: None } });
        let Event::TokenCreated { token: join, .. } = events[0] else { panic!("a token") };
        let roles: BTreeSet<NodeRole> = roles.iter().copied().collect();
        let capacity = Capacity { memory, cpu: MilliCpu::new(4000) };
        let (named, held) = (name(text), roles.clone());
        let events = self.ok(Command::EnrolNode { join, name: named, roles: held, capacity, credential });
        let Event::NodeEnrolled { node, .. } = events[0] else { panic!("a node") };
        let generation = Generation::ZERO;
        self.machines.insert(node, Machine { roles, up: true, lag: 0, generation, reports: BTreeMap::new() });
        self.lease(node);
        node
    }

    pub fn node_named(&self, text: &str) -> NodeId {
        *self.state.node_names.get(&name(text)).unwrap_or_else(|| panic!("no node {text}"))
    }

    /// The node renews its leases.
    pub fn lease(&mut self, id: NodeId) {
        let machine = &self.machines[&id];
        let seen = RoleSeen { last: self.now, generation: machine.generation, ..RoleSeen::default() };
        let has = |role| machine.roles.contains(&role).then(|| seen.clone());
        let seen = NodeSeen { agent: has(NodeRole::Agent), edge: has(NodeRole::Edge), apart: None };
        self.observed.nodes.insert(id, seen);
    }

    /// Every node that is up renews, and edges that have nothing to wait for take the plan over.
    pub fn lease_all(&mut self) {
        for id in self.machines.keys().copied().collect::<Vec<_>>() {
            let newest = self.state.edge_generation;
            let machine = self.machines.get_mut(&id).expect("listed");
            if !machine.up {
                continue;
            }
            match machine.lag {
                0 => machine.generation = newest,
                _ => machine.lag -= 1,
            }
            self.lease(id);
        }
    }

    /// Each agent brings each of its instances one step on, as `fate` says for those that boot.
    pub fn agents(&mut self, fate: &mut impl FnMut(&State, InstanceId) -> Change) {
        for id in self.machines.keys().copied().collect::<Vec<_>>() {
            if !self.machines[&id].up {
                continue;
            }
            let Some(plan) = derive::node_plan(&self.state, "test", id) else { continue };
            let mut transitions = Vec::new();
            for (instance, wanted) in &plan.instances {
                let restarts = self.state.instances[instance].restarts;
                let machine = self.machines.get_mut(&id).expect("listed");
                let (sequence, life) = machine.reports.entry(*instance).or_insert((0, Life::Fresh));
                let Some((change, next)) =
                    next(*life, wanted.desired, restarts, || fate(&self.state, *instance))
                else {
                    continue;
                };
                *sequence += 1;
                *life = next;
                let (sequence, at) = (*sequence, self.now);
                transitions.push(Transition { instance: *instance, sequence, at, change });
            }
            if !transitions.is_empty() {
                self.ok(Command::Report { node: id, transitions });
            }
        }
    }

    /// A report of one instance by hand.
    pub fn report(&mut self, instance: InstanceId, change: Change) -> Vec<Event> {
        let node = self.state.instances[&instance].node;
        let sequence = self.state.instances[&instance].report + 1;
        let life = match change {
            Change::Preparing => Life::Preparing,
            Change::Ready => Life::Ready,
            Change::Failed { .. } => Life::Failed,
            Change::Stopped | Change::Collected => Life::Stopped,
            _ => Life::Booting,
        };
        let machine = self.machines.get_mut(&node).expect("a node of this world");
        machine.reports.insert(instance, (sequence, life));
        let at = self.now;
        self.ok(Command::Report { node, transitions: vec![Transition { instance, sequence, at, change }] })
    }

    /// Decides a step. In a world where nothing else happens meanwhile each must be accepted.
    pub fn step(&mut self, step: Step) -> Vec<Event> {
        let Step { command, cause, why } = step;
        match self.submit_as(Actor::System, &command, None, Some(cause)) {
            Settled::Now { events, outcome: Ok(_) } => {
                assert!(!events.is_empty(), "a step must change something: {command:?} ({why})");
                events
            }
            other => panic!("{command:?} ({why}) was not accepted: {other:?}"),
        }
    }

    /// One pass of every planner; how many steps they took.
    pub fn plan(&mut self) -> usize {
        let mut taken = 0;
        let mut run = |world: &mut Self, steps: Vec<Step>| {
            assert!(steps.len() <= types::limits::PLAN_STEPS, "a pass is bounded");
            taken += steps.len();
            steps.into_iter().for_each(|step| drop(world.step(step)));
        };
        let steps = plan::liveness(&self.state, &self.observed, self.now);
        run(self, steps);
        for env in self.state.envs.keys().copied().collect::<Vec<_>>() {
            let steps = plan::rollout(&self.state, env, &self.observed, self.now);
            run(self, steps);
        }
        taken
    }

    /// What a confirmation is, where it does not matter whose.
    pub fn confirmed(&self, acknowledged: &[&str]) -> Confirmed {
        Confirmed {
            actor: Actor::System,
            kind: Confirmation::Person,
            acknowledged: acknowledged.iter().map(|text| (*text).to_owned()).collect(),
            reason: String::new(),
            at: self.now,
        }
    }

    /// Deletes an environment as it is, confirmed.
    pub fn delete_env(&mut self, env: EnvId) -> Result<Vec<Event>, Rejection> {
        let (shown, confirmed) = (Content::of_env(&self.state, env), Some(self.confirmed(&[])));
        self.submit(Command::DeleteEnvironment { env, shown, confirmed })
    }

    /// Deletes an app as it is, confirmed.
    pub fn delete_app(&mut self, app: AppId) -> Result<Vec<Event>, Rejection> {
        let (shown, confirmed) = (Content::of_app(&self.state, app), Some(self.confirmed(&[])));
        self.submit(Command::DeleteApp { app, shown, confirmed })
    }

    /// Disables a node as it is.
    pub fn disable(&mut self, node: NodeId) -> Result<Vec<Event>, Rejection> {
        let (shown, confirmed) = (Content::of_node(&self.state, node), self.confirmed(&[]));
        self.submit(Command::DisableNode { node, shown, confirmed })
    }

    /// Removes a node as it is; its machine is none of this world any more.
    pub fn remove(&mut self, node: NodeId, acknowledged: &[&str]) -> Result<Vec<Event>, Rejection> {
        let (shown, confirmed) = (Content::of_removal(&self.state, node), self.confirmed(acknowledged));
        let events = self.submit(Command::RemoveNode { node, shown, confirmed })?;
        self.machines.remove(&node);
        self.observed.nodes.remove(&node);
        Ok(events)
    }

    pub fn wait(&mut self, span: DurationMs) {
        self.now = self.now.plus(span);
    }

    pub fn env(&self, app: &str, env: &str) -> EnvId {
        let app = self.state.app_names[&(self.org, name(app))];
        self.state.env_names[&(app, name(env))]
    }

    pub fn apply(&mut self, manifest: Manifest) -> Result<Vec<Event>, Rejection> {
        let (org, image) = (self.org, image(&manifest.image.reference));
        self.submit(Command::Apply { org, env: name("prod"), manifest: Box::new(manifest), image })
    }

    /// How many edges are to route, and how many of them are not known to be offline.
    fn edges(&self, state: &State) -> (usize, usize) {
        let active = |node: &&Node| {
            node.roles.contains(&NodeRole::Edge) && node.state == holdfast_domain::state::NodeState::Active
        };
        let heard = |id: &NodeId| {
            let seen = self.observed.nodes.get(id).and_then(|seen| seen.edge.as_ref());
            let last = seen.map_or(self.observed.since, |seen| seen.last.max(self.observed.since));
            self.now < last.plus(types::limits::LEASE_OFFLINE)
        };
        let all = state.nodes.iter().filter(|(_, node)| active(&node.as_ref()));
        let live = all.clone().filter(|(id, node)| node.health == NodeHealth::Reachable && heard(id));
        (all.count(), live.count())
    }

    /// Most edges are offline: what they serve cannot be told.
    pub fn edges_are_dark(&self, state: &State) -> bool {
        let (all, live) = self.edges(state);
        live * 2 < all
    }

    /// Ready, and every edge that is not known to be offline has the plan that says so: of a process,
    /// or where a route is given, of those that it leads to.
    fn available(&self, state: &State, env: EnvId, process: &Name, route: Option<RouteId>) -> usize {
        let dark = self.edges_are_dark(state);
        let plan = route.map(|_| derive::edge_plan(state, "test"));
        let backends = plan.as_ref().zip(route).and_then(|(plan, route)| plan.routes.get(&route));
        let reached = |id: InstanceId| {
            let found = backends.map(|route| route.backends.iter().any(|backend| backend.instance == id));
            route.is_none() || found.unwrap_or(false)
        };
        // Edges that are silent all together serve what is ready, as far as anybody can tell.
        let knows = |generation: Generation| {
            dark || state.nodes.iter().all(|(id, node)| {
                let seen = self.observed.nodes.get(id).and_then(|seen| seen.edge.as_ref());
                !node.roles.contains(&NodeRole::Edge)
                    || node.health == NodeHealth::Offline
                    || seen.is_some_and(|seen| seen.generation >= generation)
                    || seen.is_none_or(|seen| self.now >= seen.last.plus(types::limits::LEASE_OFFLINE))
            })
        };
        state
            .instances_of(env)
            .filter(|(id, found)| {
                found.process == *process
                    && found.state == InstanceState::Ready
                    && knows(found.routed)
                    && reached(*id)
            })
            .count()
    }

    fn check(&self, before: &State, envelope: &Envelope) {
        for (id, node) in &self.state.nodes {
            let held = self.state.instances_on(*id).filter(|(_, instance)| instance.holds_memory());
            let sum: u64 = held.map(|(_, instance)| instance.memory.bytes()).sum();
            assert_eq!(sum, node.used.bytes(), "what {} holds is what was placed", node.name);
            assert!(sum <= node.capacity.memory.bytes(), "memory_is_never_oversubscribed on {}", node.name);
        }
        match envelope.event {
            Event::InstanceDraining { instance } => self.check_stays_up(before, instance),
            Event::InstanceReleased { instance, .. } => {
                let unused = !before.instances[&instance].was_ready;
                assert!(unused || !self.edges_are_dark(before), "edges may still send to {instance}");
            }
            _ => {}
        }
        if before.edge_generation != self.state.edge_generation {
            self.check_speech();
        }
    }

    /// Every backend is spoken to as its own release declared it.
    fn check_speech(&self) {
        for (id, route) in derive::edge_plan(&self.state, "test").routes {
            for backend in route.backends {
                let instance = &self.state.instances[&backend.instance];
                let own = &self.state.releases[&instance.release].manifest;
                let RouteMatch::Tls { host } = &route.matches else { panic!("only names here") };
                let declared = own
                    .routes
                    .iter()
                    .find(|own| own.host.as_ref() == Some(host) && own.process == instance.process);
                let Some(declared) = declared else { continue };
                let ports = &own.processes[&instance.process].ports;
                let port = ports.iter().find(|port| port.name == declared.port).expect("a sound manifest");
                assert_eq!(backend.address.port(), port.port, "{id}");
                let told = backend.proxy_protocol.unwrap_or(route.proxy_protocol);
                assert_eq!(told, declared.proxy_protocol, "{id}");
            }
        }
    }

    /// A drain leaves what is wanted, or what there was if that is less.
    fn check_stays_up(&self, before: &State, id: InstanceId) {
        let instance = &before.instances[&id];
        // Somebody confirmed that it has to go.
        if before.is_evicted(instance) {
            return;
        }
        let env = &before.envs[&instance.env];
        let Some(target) = env.target().and_then(|id| before.deploys.get(&id)) else { return };
        let manifest = &before.releases[&target.release].manifest;
        if !manifest.processes.contains_key(&instance.process) {
            return;
        }
        let wanted = env.scale.get(&instance.process).copied().unwrap_or(0) as usize;
        // What nothing promoted or under way declares, a failed deploy has left behind.
        let serving = env.serving.and_then(|id| before.deploys.get(&id));
        let counts = |route: &Route| {
            [Some(target), serving].into_iter().flatten().any(|deploy| {
                let declared = &before.releases[&deploy.release].manifest.routes;
                declared.iter().any(|own| {
                    let matches = RouteMatch::Tls { host: own.host.clone().expect("only names here") };
                    own.process == instance.process && matches == route.matches
                })
            })
        };
        let to_it = |route: &Route| route.process == instance.process && counts(route);
        let routes = before.routes_of(instance.env).filter(|(_, route)| to_it(route));
        for route in std::iter::once(None).chain(routes.map(|(id, _)| Some(id))) {
            let was = self.available(before, instance.env, &instance.process, route);
            let is = self.available(&self.state, instance.env, &instance.process, route);
            assert!(
                is >= wanted.min(was),
                "{} ({route:?}): {is} available of {wanted} wanted, {was} before",
                instance.process
            );
        }
    }
}

/// What an agent does next with an instance.
fn next(
    life: Life,
    desired: Desired,
    restarts: u32,
    fate: impl FnOnce() -> Change,
) -> Option<(Change, Life)> {
    match (life, desired) {
        (Life::Stopped, _) => Some((Change::Collected, Life::Stopped)),
        (_, Desired::Stopped) => Some((Change::Stopped, Life::Stopped)),
        (Life::Fresh, _) => Some((Change::Preparing, Life::Preparing)),
        (Life::Preparing, _) => Some((Change::Booting, Life::Booting)),
        (Life::Booting, _) => Some(match fate() {
            Change::Crashed { reason, detail, .. } => {
                (Change::Crashed { reason, detail, restarts: restarts + 1 }, Life::Booting)
            }
            change @ Change::Failed { .. } => (change, Life::Failed),
            change => (change, Life::Ready),
        }),
        (Life::Ready | Life::Failed, _) => None,
    }
}

pub fn image(reference: &str) -> PinnedImage {
    let mut bytes = [0; 32];
    bytes[..reference.len().min(32)].copy_from_slice(&reference.as_bytes()[..reference.len().min(32)]);
    PinnedImage { reference: reference.to_owned(), digest: Digest::from_sha256(bytes) }
}

/// A manifest: image `tag`, processes with replicas and memory, a host that leads to the first.
pub fn manifest(app: &str, tag: &str, processes: &[(&str, u32, u64)], host: Option<&str>) -> Manifest {
    let process = |replicas, mib| Process {
        command: Vec::new(),
        memory: ByteSize::from_mib(mib),
        cpu: MilliCpu::new(100),
        replicas,
        ports: vec![Port { name: name("http"), port: 8080 }],
        health: None,
        env: BTreeMap::new(),
        stop_grace: DurationMs::from_secs(10),
    };
    let route = |host: &str| manifest::Route {
        host: Some(host.parse().expect("a host name")),
        process: name(processes[0].0),
        port: name("http"),
        mode: RouteMode::Tls,
        listen: None,
        proxy_protocol: ProxyProtocol::Off,
    };
    Manifest {
        schema: SCHEMA,
        app: name(app),
        image: Image { reference: format!("registry.test/{app}:{tag}") },
        processes: processes.iter().map(|(text, count, mib)| (name(text), process(*count, *mib))).collect(),
        routes: host.map(route).into_iter().collect(),
        volumes: Vec::new(),
        secrets: Default::default(),
        config: Default::default(),
        deploy: DeployPolicy { deadline: DurationMs::from_secs(60), attempts: 3 },
    }
}

/// The same with the port of every process renamed and moved, and PROXY protocol as said.
pub fn speaking(mut manifest: Manifest, port: &str, number: u16, proxy_protocol: ProxyProtocol) -> Manifest {
    for process in manifest.processes.values_mut() {
        process.ports = vec![Port { name: name(port), port: number }];
    }
    for route in &mut manifest.routes {
        (route.port, route.proxy_protocol) = (name(port), proxy_protocol);
    }
    manifest
}

pub fn crashed(reason: Reason) -> Change {
    Change::Crashed { reason, detail: String::new(), restarts: 1 }
}

/// Nothing but the decision, for commands that are not to be applied.
pub fn decision(world: &World, command: &Command) -> Result<Decision, Rejection> {
    let context =
        Context { now: world.now, actor: Actor::System, judged: None, request: None, cause: None, random: 1 };
    holdfast_domain::decide(&world.state, command, &context)
}
