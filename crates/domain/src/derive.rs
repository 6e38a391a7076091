//! Plans for agents and edges, derived from the state: the same state gives the same plan.

use crate::state::{InstanceState, State};
use std::{collections::BTreeMap, net::SocketAddr};
use types::{
    NodeId,
    plan::{Backend, Desired, EdgePlan, EdgeRoute, InstancePlan, InstanceSpec, NodePlan},
};

/// What a node is to run; `None` for a node nobody knows.
pub fn node_plan(state: &State, id: NodeId) -> Option<NodePlan> {
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
    Some(NodePlan { node: id, cluster: state.cluster.clone(), generation: node.generation, instances })
}

/// What every edge is to route.
pub fn edge_plan(state: &State) -> EdgePlan {
    let mut routes = BTreeMap::new();
    for (id, route) in &state.routes {
        let backends = state
            .instances_of(route.env)
            .filter(|(_, instance)| {
                instance.state == InstanceState::Ready && instance.process == route.process
            })
            .filter_map(|(instance_id, instance)| {
                let release = state.releases.get(&instance.release)?;
                let process = release.manifest.processes.get(&instance.process)?;
                let port = process.ports.iter().find(|port| port.name == route.port)?.port;
                let address = SocketAddr::from((instance.address, port));
                Some(Backend { instance: instance_id, env: instance.env, address })
            })
            .collect();
        let matches = route.matches.clone();
        routes.insert(
            *id,
            EdgeRoute { env: route.env, matches, proxy_protocol: route.proxy_protocol, backends },
        );
    }
    EdgePlan { cluster: state.cluster.clone(), generation: state.edge_generation, routes }
}
