//! Plans for agents and edges, derived from the state: the same state gives the same plan.

use crate::state::{InstanceState, NodeState, Release, Route, State};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};
use types::{
    EnvId, Generation, Name, NodeId, RouteId,
    history::Held,
    manifest::{self, ProxyProtocol, RouteMode},
    plan::{Backend, Desired, EdgePlan, EdgeRoute, InstancePlan, InstanceSpec, NodePlan, RouteMatch},
};

/// What a node is to run, by the log of this identity; `None` for a node nobody knows.
pub fn node_plan(state: &State, identity: &str, id: NodeId) -> Option<NodePlan> {
    let node = state.nodes.get(&id)?;
    let mut instances = BTreeMap::new();
    for (instance_id, instance) in state.instances_on(id) {
        let Some(release) = state.releases.get(&instance.release) else { continue };
        let Some(process) = release.manifest.processes.get(&instance.process) else { continue };
        let Some(env) = state.envs.get(&instance.env) else { continue };
        let Some(app) = state.apps.get(&env.app) else { continue };
        let Some(org) = state.orgs.get(&app.org) else { continue };
        let gone =
            instance.released || matches!(instance.state, InstanceState::Failed | InstanceState::Stopped);
        let spec = InstanceSpec {
            org: org.name.clone(),
            app: app.name.clone(),
            env: env.name.clone(),
            process: instance.process.clone(),
            env_id: instance.env,
            image: release.image.clone(),
            command: process.command.clone(),
            variables: process.env.clone(),
            memory: process.memory,
            cpu: process.cpu,
            address: instance.address,
            ports: process.ports.iter().map(|port| (port.name.clone(), port.port)).collect(),
            health: process.health.clone(),
            stop_grace: process.stop_grace,
        };
        let desired = if gone { Desired::Stopped } else { Desired::Running };
        instances.insert(instance_id, InstancePlan { desired, spec });
    }
    let Held { cluster, epoch, generation, .. } = name(state, identity, node.generation);
    Some(NodePlan { node: id, cluster, epoch, generation, adoption: state.adoption(), instances })
}

/// What a plan of this generation is called, by the log of this identity.
pub fn name(state: &State, identity: &str, generation: Generation) -> Held {
    let event = state.event_of(generation).unwrap_or_default();
    Held { cluster: identity.to_owned(), epoch: state.epoch_of(event), event, generation }
}

/// What an edge listens for on behalf of a declared route; `None` for one that lacks what its mode needs.
pub(crate) fn key_of(route: &manifest::Route) -> Option<RouteMatch> {
    match route.mode {
        RouteMode::Tls => route.host.clone().map(|host| RouteMatch::Tls { host }),
        RouteMode::Tcp => route.listen.map(|listen| RouteMatch::Tcp { listen }),
    }
}

/// How instances of one release are spoken to through a route.
#[derive(Clone, Copy)]
struct Speech {
    port: u16,
    proxy_protocol: ProxyProtocol,
}

/// What a release declares of a route that leads to this process.
fn declared<'a>(release: &'a Release, process: &Name, route: &Route) -> Option<&'a manifest::Route> {
    let same = |declared: &manifest::Route| match (declared.mode, &route.matches) {
        (RouteMode::Tls, RouteMatch::Tls { host }) => declared.host.as_ref() == Some(host),
        (RouteMode::Tcp, RouteMatch::Tcp { listen }) => declared.listen == Some(*listen),
        _ => false,
    };
    release.manifest.routes.iter().find(|declared| declared.process == *process && same(declared))
}

/// How a route speaks to a process of a release, if that has a port for it.
///
/// An instance is spoken to as its own release declared it: the route takes a new port name or
/// protocol at cutover only, and until then instances of both releases answer through it. A release
/// that does not lead this route to this process is taken to listen as the route says now.
fn speech(release: &Release, process: &Name, route: &Route) -> Option<Speech> {
    let (name, proxy_protocol) = declared(release, process, route)
        .map_or((&route.port, route.proxy_protocol), |own| (&own.port, own.proxy_protocol));
    let ports = &release.manifest.processes.get(process)?.ports;
    let port = ports.iter().find(|port| port.name == *name)?.port;
    Some(Speech { port, proxy_protocol })
}

/// The routes through which instances of a release of this process are reached, and that somebody
/// counts on: what serves or what is under way declares them. A failed deploy may have left others.
pub(crate) fn ways(state: &State, env: EnvId, release: &Release, process: &Name) -> BTreeSet<RouteId> {
    let deploys = state.envs.get(&env).map_or([None, None], |env| [env.serving, env.rolling]);
    let counted = |route: &Route| {
        let releases = deploys.iter().flatten().filter_map(|id| state.deploys.get(id));
        let mut releases = releases.filter_map(|deploy| state.releases.get(&deploy.release));
        releases.any(|release| declared(release, process, route).is_some())
    };
    state
        .routes_of(env)
        .filter(|(_, route)| {
            route.process == *process && speech(release, process, route).is_some() && counted(route)
        })
        .map(|(id, _)| id)
        .collect()
}

/// What the edge of one node is to route: that of a disabled one nothing.
pub fn edge_plan_of(state: &State, identity: &str, id: NodeId) -> EdgePlan {
    let is_disabled = state.nodes.get(&id).is_some_and(|node| node.state == NodeState::Disabled);
    if !is_disabled {
        return edge_plan(state, identity);
    }
    let Held { cluster, epoch, generation, .. } = name(state, identity, state.edge_generation);
    EdgePlan { cluster, epoch, generation, adoption: state.adoption(), routes: BTreeMap::new() }
}

/// What every edge is to route, by the log of this identity.
pub fn edge_plan(state: &State, identity: &str) -> EdgePlan {
    let mut routes = BTreeMap::new();
    for (id, route) in &state.routes {
        // Instances are many and releases few: each is asked once.
        let mut known = BTreeMap::new();
        let backends = state
            .instances_of(route.env)
            .filter(|(_, instance)| {
                instance.state == InstanceState::Ready && instance.process == route.process
            })
            .filter_map(|(instance_id, instance)| {
                let speech = *known.entry(instance.release).or_insert_with(|| {
                    speech(state.releases.get(&instance.release)?, &instance.process, route)
                });
                let speech = speech?;
                let address = SocketAddr::from((instance.address, speech.port));
                let proxy_protocol =
                    (speech.proxy_protocol != route.proxy_protocol).then_some(speech.proxy_protocol);
                Some(Backend { instance: instance_id, env: instance.env, address, proxy_protocol })
            })
            .collect();
        let matches = route.matches.clone();
        routes.insert(
            *id,
            EdgeRoute { env: route.env, matches, proxy_protocol: route.proxy_protocol, backends },
        );
    }
    let Held { cluster, epoch, generation, .. } = name(state, identity, state.edge_generation);
    EdgePlan { cluster, epoch, generation, adoption: state.adoption(), routes }
}
