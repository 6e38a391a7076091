//! Nodes: enrolled by a token that works once, drained and activated by people, health by leases.

use super::{Decision, done, missing};
use crate::{
    command::Context,
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
        NodeState::Enrolled => {
            let what = format!("node {}", node.name);
            return Err(Rejection::LifeCycle {
                what,
                is: "enrolled".into(),
                cannot: "drain before it is active",
            });
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

/// What the leases say.
pub(super) fn set_health(state: &State, id: NodeId, health: NodeHealth) -> Result<Decision, Rejection> {
    if find(state, id)?.health == health {
        return Ok(Decision::default());
    }
    Ok(done(vec![Event::NodeHealthChanged { node: id, health }], "health noted"))
}
