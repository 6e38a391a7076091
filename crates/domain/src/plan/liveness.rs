//! Nodes by their leases, instances of lost nodes, and the horizon of requests.
//!
//! A lost node's instances are replaced only when there is somewhere else to run them, and not when
//! most nodes seem lost at once: then it is more likely that this observer is cut off.

use super::{Observed, Step, fresh};
use crate::{command::Command, event::NodeHealth, state::State};
use types::{DurationMs, NodeId, Timestamp, limits, plan::NodeRole};

/// Between two moves of the horizon, so that it does not fill the log.
const HORIZON_STEP: DurationMs = DurationMs::from_secs(600);

/// When any role of a node was last heard of.
fn last_heard(observed: &Observed, id: NodeId) -> Timestamp {
    observed.last(observed.agent(id)).max(observed.last(observed.edge(id)))
}

fn silent(observed: &Observed, id: NodeId, now: Timestamp) -> bool {
    now >= last_heard(observed, id).plus(limits::LEASE_OFFLINE)
}

/// Why no instance is given up though nodes are offline: most of them are, at once.
pub fn suspicion(state: &State, observed: &Observed, now: Timestamp) -> Option<String> {
    let agents = state.nodes.iter().filter(|(_, node)| node.roles.contains(&NodeRole::Agent));
    let (mut all, mut lost) = (0u64, 0u64);
    for (id, node) in agents {
        all += 1;
        lost += u64::from(node.health == NodeHealth::Offline || silent(observed, *id, now));
    }
    (all >= 2 && lost * 2 > all).then(|| {
        format!(
            "{lost} of {all} nodes are silent at once: this server may be cut off, so nothing is replaced"
        )
    })
}

/// What the leases say about nodes, and what follows for the instances on them.
pub fn liveness(state: &State, observed: &Observed, now: Timestamp) -> Vec<Step> {
    let mut steps = Vec::new();
    for (id, node) in &state.nodes {
        let silent_for = now.since(last_heard(observed, *id));
        let health = match (silent(observed, *id, now), node.health) {
            (true, NodeHealth::Reachable) => NodeHealth::Offline,
            (false, NodeHealth::Offline) if heard(observed, *id, now) => NodeHealth::Reachable,
            _ => continue,
        };
        let why = match health {
            NodeHealth::Offline => format!("node {} has not been heard of for {silent_for}", node.name),
            NodeHealth::Reachable => format!("node {} is heard of again", node.name),
        };
        steps.push(Step { command: Command::SetNodeHealth { node: *id, health }, cause: node.changed, why });
    }
    if suspicion(state, observed, now).is_none() {
        lose(state, observed, now, &mut steps);
    }
    steps.truncate(limits::PLAN_STEPS);
    steps
}

fn heard(observed: &Observed, id: NodeId, now: Timestamp) -> bool {
    fresh(observed.agent(id), now) || fresh(observed.edge(id), now)
}

fn lose(state: &State, observed: &Observed, now: Timestamp, steps: &mut Vec<Step>) {
    let elsewhere =
        state.nodes.iter().any(|(id, node)| node.takes_instances() && fresh(observed.agent(*id), now));
    if !elsewhere {
        return;
    }
    let lost = state
        .nodes
        .iter()
        .filter(|(id, node)| node.health == NodeHealth::Offline && silent(observed, **id, now));
    for (id, node) in lost {
        for (instance, found) in state.instances_on(*id).filter(|(_, found)| found.is_live()) {
            if steps.len() >= limits::PLAN_STEPS {
                return;
            }
            steps.push(Step {
                command: Command::LoseInstance { instance },
                cause: node.changed,
                why: format!("{} is on node {}, which is offline", found.process, node.name),
            });
        }
    }
}

/// Moves the horizon of requests forward, in steps that do not fill the log.
pub fn garbage(state: &State, now: Timestamp) -> Vec<Step> {
    let to = now.minus(limits::REQUEST_HORIZON);
    if to.as_ms() == 0 || to < state.requests.horizon().plus(HORIZON_STEP) {
        return Vec::new();
    }
    // An empty memory has nothing to forget; old ids are refused by the clock meanwhile.
    if state.requests.is_empty() {
        return Vec::new();
    }
    let why = format!("requests made before {to} are refused from now on");
    vec![Step { command: Command::MoveHorizon { to }, cause: state.head, why }]
}
