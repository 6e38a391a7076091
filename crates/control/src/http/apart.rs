//! Nodes that hold a plan which this log never made: what they hold, what it has for them, and what runs
//! there besides.

use crate::{
    observe::{Line, Stray},
    writer::Core,
};
use api::ApartRow;
use domain::{State, derive, plan::Observed};
use std::collections::{BTreeMap, BTreeSet};
use types::{
    InstanceId, NodeId, limits,
    plan::{Desired, NodeRole},
};

/// Everything known of them at one moment.
pub(super) struct Apart {
    pub(super) rows: Vec<ApartRow>,
    /// Agents among them that have not said what runs there.
    pub(super) silent: BTreeSet<NodeId>,
    /// Nodes that have not said which plan they hold, by name.
    pub(super) unheard: Vec<String>,
}

/// What is known now, of all of them.
pub(super) fn known(core: &Core) -> Apart {
    let (state, identity) = (core.state(), core.identity());
    let observations = core.observations();
    let (strays, observed) =
        (observations.all_apart(Line { state: &state, identity: &identity }), observations.snapshot());
    let mut silent = BTreeSet::new();
    for (node, role) in strays.keys() {
        let is_silent = agent(&observed, *node).is_none();
        silent.extend((*role == NodeRole::Agent && is_silent).then_some(*node));
    }
    let rows = rows(&state, &identity, &observed, &strays);
    let heard = |id: &NodeId, role: &NodeRole| observations.has_heard(*id, *role);
    let unheard = state.nodes.iter().filter(|(id, node)| !node.roles.iter().all(|role| heard(id, role)));
    let unheard = unheard.map(|(_, node)| node.name.to_string()).collect();
    Apart { rows, silent, unheard }
}

/// The first of them, as the status of the cluster has them.
pub(super) fn first(core: &Core) -> Vec<ApartRow> {
    let mut rows = known(core).rows;
    rows.truncate(limits::ADOPT_NODES);
    rows
}

fn agent(observed: &Observed, node: NodeId) -> Option<&BTreeSet<InstanceId>> {
    Some(&observed.nodes.get(&node)?.agent.as_ref()?.running)
}

fn rows(
    state: &State,
    identity: &str,
    observed: &Observed,
    strays: &BTreeMap<(NodeId, NodeRole), Stray>,
) -> Vec<ApartRow> {
    let row = |((node, role), stray): (&(NodeId, NodeRole), &Stray)| {
        let found = state.nodes.get(node)?;
        let generation = match role {
            NodeRole::Agent => found.generation,
            NodeRole::Edge => state.edge_generation,
        };
        let mut row = ApartRow {
            node: *node,
            name: found.name.clone(),
            role: *role,
            holds: stray.held.clone(),
            here: derive::name(state, identity, generation),
            why: stray.to_string(),
            stops: Vec::new(),
            starts: Vec::new(),
            keeps: Vec::new(),
        };
        if let (NodeRole::Agent, Some(running)) = (role, agent(observed, *node)) {
            let plan = derive::node_plan(state, identity, *node)?;
            let wanted = plan.instances.iter().filter(|(_, planned)| planned.desired == Desired::Running);
            let wanted: BTreeSet<InstanceId> = wanted.map(|(id, _)| *id).collect();
            row.stops = running.difference(&wanted).copied().collect();
            row.starts = wanted.difference(running).copied().collect();
            row.keeps = running.intersection(&wanted).copied().collect();
        }
        Some(row)
    };
    strays.iter().filter_map(row).collect()
}
