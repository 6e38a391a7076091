//! Nodes: enrolled by a token that works once, drained and activated by people, health by leases.

use super::{Decision, done, member::bounded, missing};
use crate::{
    command::Context,
    confirmed::Confirmed,
    content::Content,
    event::{Event, NodeHealth, Role},
    rejection::Rejection,
    state::{Node, NodeState, State},
};
use std::{collections::BTreeSet, net::Ipv6Addr, sync::Arc};
use types::{
    Name, NodeId, TokenId,
    plan::{Capacity, NodeRole},
};

/// Makes a node, its credential, and uses the join token up.
pub(super) fn enrol(
    state: &State,
    join: TokenId,
    name: &Name,
    roles: &BTreeSet<NodeRole>,
    capacity: Capacity,
    credential: [u8; 32],
    context: &Context,
) -> Result<Decision, Rejection> {
    let alive = |token: &crate::state::Token| token.role == Role::Join && token.lives(context.now);
    if !state.tokens.get(&join).is_some_and(alive) {
        return Err(Rejection::TokenDead);
    }
    if state.node_names.contains_key(name) {
        return Err(Rejection::NameTaken { what: "node", name: name.clone() });
    }
    let node = NodeId::from_parts(context.now, context.dice(0));
    let token = TokenId::from_parts(context.now, context.dice(1));
    let prefix = free_prefix(state, context);
    let events = vec![
        Event::NodeEnrolled { node, name: name.clone(), roles: roles.clone(), capacity, prefix, join },
        Event::TokenCreated {
            token,
            org: None,
            name: name.clone(),
            role: Role::Node,
            node: Some(node),
            hash: credential,
            expires: None,
        },
        Event::NodeActivated { node },
    ];
    let mut decision = done(events, format!("enrolled node {name}"));
    decision.done.node = Some(node);
    Ok(decision)
}

/// A /64 of the unique local range (RFC 4193) that no other node has: `fd`, 56 random bits.
fn free_prefix(state: &State, context: &Context) -> Ipv6Addr {
    (2..)
        .map(|nth| {
            let random = context.dice(nth).to_be_bytes();
            let mut bytes = [0; 16];
            bytes[0] = 0xfd;
            bytes[1..8].copy_from_slice(&random[..7]);
            Ipv6Addr::from(bytes)
        })
        .find(|prefix| state.nodes.values().all(|node| node.prefix != *prefix))
        .expect("there are more prefixes than nodes")
}

fn find(state: &State, id: NodeId) -> Result<&Arc<Node>, Rejection> {
    state.nodes.get(&id).ok_or_else(|| missing(format!("node {id}")))
}

/// Nothing new on the node from now on.
pub(super) fn drain(state: &State, id: NodeId) -> Result<Decision, Rejection> {
    let node = find(state, id)?;
    let mut decision = match node.state {
        NodeState::Draining => done(Vec::new(), "was draining before"),
        NodeState::Active => {
            done(vec![Event::NodeDraining { node: id }], format!("draining node {}", node.name))
        }
        NodeState::Enrolled | NodeState::Disabled => {
            let what = format!("node {}", node.name);
            let is = format!("{:?}", node.state).to_lowercase();
            return Err(Rejection::LifeCycle { what, is, cannot: "drain before it is active" });
        }
    };
    decision.done.node = Some(id);
    Ok(decision)
}

/// The node takes instances again.
pub(super) fn activate(state: &State, id: NodeId) -> Result<Decision, Rejection> {
    let node = find(state, id)?;
    let mut decision = match node.state {
        NodeState::Active => done(Vec::new(), "was active before"),
        _ => done(vec![Event::NodeActivated { node: id }], format!("node {} takes instances", node.name)),
    };
    decision.done.node = Some(id);
    Ok(decision)
}

/// Nothing on the node any more: what it has goes at once, replaced elsewhere or not.
pub(super) fn disable(
    state: &State,
    id: NodeId,
    shown: &Content,
    confirmed: &Confirmed,
) -> Result<Decision, Rejection> {
    let node = find(state, id)?;
    bounded(confirmed)?;
    let mut decision = match node.state {
        NodeState::Disabled => done(Vec::new(), "was disabled before"),
        _ => {
            Content::of_node(state, id).unmoved_since(shown)?;
            let disabled = Event::NodeDisabled { node: id, confirmed: confirmed.clone() };
            done(vec![disabled], format!("disabled node {}", node.name))
        }
    };
    decision.done.node = Some(id);
    Ok(decision)
}

/// What has to be acknowledged to remove a node that nobody hears: what it runs may go on.
pub const UNHEARD: &str = "partial_view_removes_nothing";

/// The node is none any more. One that is heard has to have stopped what it had; of one that is not,
/// somebody must say that it is off (`partial_view_removes_nothing`).
pub(super) fn remove(
    state: &State,
    id: NodeId,
    shown: &Content,
    confirmed: &Confirmed,
) -> Result<Decision, Rejection> {
    let node = find(state, id)?;
    bounded(confirmed)?;
    Content::of_removal(state, id).unmoved_since(shown)?;
    let refuse =
        |is: String, cannot| Err(Rejection::LifeCycle { what: format!("node {}", node.name), is, cannot });
    if node.state != NodeState::Disabled {
        let is = format!("{:?}", node.state).to_lowercase();
        return refuse(is, "be removed before it is disabled");
    }
    let holds = state.instances_on(id).filter(|(_, instance)| instance.holds_memory()).count();
    let is_said_off = confirmed.acknowledged.iter().any(|name| name == UNHEARD);
    match node.health {
        NodeHealth::Reachable if holds > 0 => {
            return refuse(format!("still stopping {holds} instances"), "be removed yet");
        }
        NodeHealth::Offline if !is_said_off => {
            return refuse("not heard of".to_owned(), "be removed unless somebody says that it is off");
        }
        NodeHealth::Reachable | NodeHealth::Offline => {}
    }
    let removed = Event::NodeRemoved { node: id, confirmed: confirmed.clone() };
    let mut decision = done(vec![removed], format!("removed node {}", node.name));
    decision.done.node = Some(id);
    Ok(decision)
}

/// What the leases say.
pub(super) fn set_health(state: &State, id: NodeId, health: NodeHealth) -> Result<Decision, Rejection> {
    if find(state, id)?.health == health {
        return Ok(Decision::default());
    }
    Ok(done(vec![Event::NodeHealthChanged { node: id, health }], "health noted"))
}
