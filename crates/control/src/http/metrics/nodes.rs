//! Nodes, instances and deploys, as the log and the leases say.

use super::Page;
use crate::http::Shared;
use domain::{
    NodeHealth,
    state::{DeployState, InstanceState, NodeState},
};
use std::{cmp::Reverse, collections::BTreeMap};
use types::{NodeId, limits, plan::NodeRole};

pub(super) fn figures(http: &Shared, page: &mut Page) {
    // Nodes speak to whoever leads: any other has nothing to say of their leases.
    if http.core.leads() {
        leases(http, page);
    }
    states(http, page);
    page.gauge("agents_attended", "Agents with an open stream.", http.asks.attended());
}

fn leases(http: &Shared, page: &mut Page) {
    let (observed, state, now) = (http.core.observations().snapshot(), http.core.state(), http.core.now());
    let mut leases: Vec<(u64, NodeId, &str, &str)> = Vec::new();
    for (id, node) in &state.nodes {
        let seen = observed.nodes.get(id);
        for role in &node.roles {
            let (word, seen) = match role {
                NodeRole::Agent => ("agent", seen.and_then(|seen| seen.agent.as_ref())),
                NodeRole::Edge => ("edge", seen.and_then(|seen| seen.edge.as_ref())),
            };
            // One that was never heard is silent since this server began to listen.
            let last = seen.map_or(observed.since, |seen| seen.last.max(observed.since));
            leases.push((now.since(last).as_ms(), *id, node.name.as_str(), word));
        }
    }
    // Those silent for longest have lines of their own, however many there are.
    leases.sort_unstable_by_key(|(age, id, _, role)| (Reverse(*age), *id, *role));
    let left_out = leases.len().saturating_sub(limits::METRICS_NODES);
    page.gauge("leases_left_out", "Roles of nodes that have no lines of their own here.", left_out);
    page.head("lease_age_seconds", "gauge", "Since a role of a node was last heard of.");
    for (age, id, name, role) in leases.iter().take(limits::METRICS_NODES) {
        let id = id.to_string();
        let labels = [("node", id.as_str()), ("name", name), ("role", role)];
        page.line("lease_age_seconds", &labels, *age as f64 / 1000.0);
    }
    let apart = observed.nodes.values().filter(|seen| seen.apart.is_some()).count();
    page.gauge("nodes_apart", "Nodes that hold a plan which this log never made.", apart);
    let short = observed.nodes.values().filter_map(|seen| seen.agent.as_ref()?.pressure).count();
    page.gauge("nodes_short", "Nodes that take no new instances for want of something.", short);
}

fn states(http: &Shared, page: &mut Page) {
    const NODES: [(NodeState, &str); 3] =
        [(NodeState::Enrolled, "enrolled"), (NodeState::Active, "active"), (NodeState::Draining, "draining")];
    const HEALTH: [(NodeHealth, &str); 2] =
        [(NodeHealth::Reachable, "reachable"), (NodeHealth::Offline, "offline")];
    const INSTANCES: [(InstanceState, &str); 7] = [
        (InstanceState::Allocated, "allocated"),
        (InstanceState::Preparing, "preparing"),
        (InstanceState::Booting, "booting"),
        (InstanceState::Ready, "ready"),
        (InstanceState::Draining, "draining"),
        (InstanceState::Stopped, "stopped"),
        (InstanceState::Failed, "failed"),
    ];
    const DEPLOYS: [(DeployState, &str); 5] = [
        (DeployState::Started, "started"),
        (DeployState::Rolling, "rolling"),
        (DeployState::Cutover, "cutover"),
        (DeployState::Succeeded, "succeeded"),
        (DeployState::Failed, "failed"),
    ];
    let state = http.core.state();
    page.head("nodes", "gauge", "Nodes enrolled, by where they are in their life and how well they are.");
    for (at, word) in NODES {
        for (health, well) in HEALTH {
            let these = state.nodes.values().filter(|node| node.state == at && node.health == health);
            page.line("nodes", &[("state", word), ("health", well)], these.count());
        }
    }
    let instances = counted(state.instances.values().map(|instance| instance.state));
    let instances = INSTANCES.map(|(at, word)| (word, instances.get(&at).copied().unwrap_or(0)));
    page.by(("instances", "gauge", "Instances, by where they are in their life."), "state", instances);
    let deploys = counted(state.deploys.values().map(|deploy| deploy.state));
    let deploys = DEPLOYS.map(|(at, word)| (word, deploys.get(&at).copied().unwrap_or(0)));
    page.by(
        ("deploys", "gauge", "Deploys of this log, by where they are or how they ended."),
        "state",
        deploys,
    );
    let now = http.core.now();
    let under_way = state.deploys.values().filter(|deploy| deploy.state.is_active());
    let overdue = under_way.map(|deploy| now.since(deploy.deadline).as_ms()).max().unwrap_or(0);
    page.gauge(
        "deploy_overdue_seconds",
        "How far the deploy that is under way for longest past its deadline is past it; 0 if none is.",
        overdue as f64 / 1000.0,
    );
}

fn counted<T: Ord>(all: impl Iterator<Item = T>) -> BTreeMap<T, u64> {
    let mut counts = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_insert(0) += 1;
    }
    counts
}
