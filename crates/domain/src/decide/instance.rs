//! Instances: placed and withdrawn by reconcilers, moved along by what agents report.

use super::{Decision, done, missing};
use crate::{
    command::Context,
    derive::ways,
    event::Event,
    rejection::Rejection,
    state::{Instance, InstanceState, State},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv6Addr,
    sync::Arc,
};
use types::{DeployId, EnvId, InstanceId, Name, NodeId, ReleaseId, RouteId, plan::Transition};

/// Places one instance. `memory_is_never_oversubscribed` is decided here and nowhere else.
pub(super) fn allocate(
    state: &State,
    env: EnvId,
    process: &Name,
    deploy: DeployId,
    node_id: NodeId,
    context: &Context,
) -> Result<Decision, Rejection> {
    let environment = state.envs.get(&env).ok_or_else(|| missing(format!("environment {env}")))?;
    if environment.target() != Some(deploy) {
        let what = format!("deploy {deploy}");
        return Err(Rejection::LifeCycle {
            what,
            is: "not the target any more".into(),
            cannot: "get instances",
        });
    }
    let target = state.deploys.get(&deploy).ok_or_else(|| missing(format!("deploy {deploy}")))?;
    let release =
        state.releases.get(&target.release).ok_or_else(|| missing(format!("release {}", target.release)))?;
    let wanted =
        release.manifest.processes.get(process).ok_or_else(|| missing(format!("process {process}")))?;
    let node = state.nodes.get(&node_id).ok_or_else(|| missing(format!("node {node_id}")))?;
    if !node.takes_instances() {
        let what = format!("node {}", node.name);
        return Err(Rejection::LifeCycle { what, is: "not active".into(), cannot: "take instances" });
    }
    if node.free() < wanted.memory {
        let node_name = node.name.to_string();
        return Err(Rejection::NoMemory { node: node_name, free: node.free(), wanted: wanted.memory });
    }
    let instance = InstanceId::from_parts(context.now, context.dice(0));
    let allocated = Event::InstanceAllocated {
        instance,
        env,
        process: process.clone(),
        release: target.release,
        deploy,
        node: node_id,
        address: address_of(node.prefix, instance),
    };
    Ok(done(vec![allocated], "placed"))
}

/// The node's /64 and the random low half of the instance's id: no table, no collision to speak of.
fn address_of(prefix: Ipv6Addr, instance: InstanceId) -> Ipv6Addr {
    let low = instance.as_u128() & u128::from(u64::MAX);
    Ipv6Addr::from(u128::from(prefix) | low.max(2))
}

fn find(state: &State, id: InstanceId) -> Result<&Arc<Instance>, Rejection> {
    state.instances.get(&id).ok_or_else(|| missing(format!("instance {id}")))
}

fn check(
    id: InstanceId,
    instance: &Instance,
    to: InstanceState,
    cannot: &'static str,
) -> Result<(), Rejection> {
    if instance.may_go(to) {
        return Ok(());
    }
    let is = format!("{:?}", instance.state).to_lowercase();
    Err(Rejection::LifeCycle { what: format!("instance {id}"), is, cannot })
}

/// Says no while it serves and, wherever it is reached, fewer others than are wanted do. The planner
/// counts closer, by what edges have acknowledged; between its look and this decision others may
/// have failed. What has to go whatever is wanted is not asked for.
fn needed(state: &State, id: InstanceId, instance: &Instance) -> Result<(), Rejection> {
    if instance.state != InstanceState::Ready || state.is_evicted(instance) {
        return Ok(());
    }
    let find = || {
        let env = state.envs.get(&instance.env)?;
        let target = state.releases.get(&state.deploys.get(&env.target()?)?.release)?;
        let process = target.manifest.processes.get(&instance.process)?;
        Some(env.scale.get(&instance.process).copied().unwrap_or(process.replicas) as usize)
    };
    // What the target does not have is not wanted.
    let wanted = find().unwrap_or(0);
    let mut others = BTreeMap::<ReleaseId, usize>::new();
    state
        .instances_of(instance.env)
        .filter(|(other, found)| *other != id && found.process == instance.process)
        .filter(|(_, found)| found.state == InstanceState::Ready)
        .for_each(|(_, found)| *others.entry(found.release).or_default() += 1);
    let reached = |release: &ReleaseId| {
        let release = state.releases.get(release);
        release.map_or_else(BTreeSet::new, |own| ways(state, instance.env, own, &instance.process))
    };
    let answering = |route: &RouteId| {
        others.iter().filter(|(release, _)| reached(release).contains(route)).map(|(_, count)| count).sum()
    };
    let in_all: usize = others.values().sum();
    let left = reached(&instance.release).iter().map(answering).fold(in_all, usize::min);
    if left < wanted {
        return Err(Rejection::LifeCycle {
            what: format!("instance {id}"),
            is: format!("one of {wanted} wanted and only {left} others are ready"),
            cannot: "drain",
        });
    }
    Ok(())
}

/// No new connection is to reach it.
pub(super) fn drain(state: &State, id: InstanceId) -> Result<Decision, Rejection> {
    let instance = find(state, id)?;
    if instance.state == InstanceState::Draining {
        return Ok(Decision::default());
    }
    check(id, instance, InstanceState::Draining, "drain")?;
    needed(state, id, instance)?;
    Ok(done(vec![Event::InstanceDraining { instance: id }], "draining"))
}

/// It may be stopped now.
pub(super) fn release(state: &State, id: InstanceId, forced: bool) -> Result<Decision, Rejection> {
    let instance = find(state, id)?;
    if instance.released {
        return Ok(Decision::default());
    }
    check(id, instance, InstanceState::Stopped, "be released before it drains")?;
    Ok(done(vec![Event::InstanceReleased { instance: id, forced }], "released"))
}

/// Its node was lost.
pub(super) fn lose(state: &State, id: InstanceId) -> Result<Decision, Rejection> {
    let instance = find(state, id)?;
    if !instance.is_live() {
        return Ok(Decision::default());
    }
    Ok(done(vec![Event::InstanceLost { instance: id }], "lost with its node"))
}

/// What an agent saw. Reports of other nodes' or forgotten instances are passed over, and so are
/// those that were applied before: an agent may send anything any number of times.
pub(super) fn report(state: &State, node: NodeId, transitions: &[Transition]) -> Result<Decision, Rejection> {
    let mut newest = std::collections::BTreeMap::new();
    let mut events = Vec::new();
    for transition in transitions {
        let Some(instance) = state.instances.get(&transition.instance).filter(|found| found.node == node)
        else {
            continue;
        };
        let last = newest.entry(transition.instance).or_insert(instance.report);
        if transition.sequence <= *last {
            continue;
        }
        *last = transition.sequence;
        events.push(Event::InstanceChanged {
            instance: transition.instance,
            report: transition.sequence,
            seen: transition.at,
            change: transition.change.clone(),
        });
    }
    Ok(done(events, "noted"))
}
