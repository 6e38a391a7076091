//! Taking a node out: disabling it, and removing it once it has nothing.
//!
//! `drain` moves instances away and never goes below what is wanted; it is no guarded act. `disable`
//! does not wait for others to take their place. `remove` forgets the node: one that is heard must have
//! stopped everything first, and of one that is not somebody has to say that it is off.

use super::{
    Http,
    access::Caller,
    act::{before, bound, decided, guarded, instances, proof},
    answer::{Result, refused},
    guard::{Reason, Shown},
    input::{Places, Said},
    nodes,
    write::{self, Write},
};
use api::{ActRequest, Code, Override, Problem};
use axum::{extract::State, response::Response};
use domain::{
    Command, Content, NodeHealth, State as Decided, UNHEARD,
    plan::Observed,
    state::{Node, NodeState},
};
use std::collections::BTreeMap;
use types::{NodeId, limits, plan::NodeRole};

/// `POST /v1/nodes/{node}/disable`
pub(super) async fn disable(
    State(http): State<Http>,
    caller: Caller,
    Places(node): Places<String>,
    said: Said,
) -> Result<Response> {
    let _well_formed: ActRequest = write::parse(&said)?;
    let write = Write::read(&http, &said, &caller)?;
    if let Some(answer) = before(&http, &write, "it was disabled before, by this very request")? {
        return Ok(answer);
    }
    let (id, state) = (nodes::find(&http, &node)?, http.core.state());
    let found = of(&state, id)?;
    let (act, content) = (format!("nodes disable {}", found.name), Content::of_node(&state, id));
    let shown = match found.state {
        NodeState::Disabled => {
            Err(refused(Code::Conflict, format!("node {} is disabled already", found.name)))
        }
        _ => Ok(disabling(&state, id, found, &content)),
    };
    let core = http.clone();
    guarded(&http, &caller, said, &act, shown, move |confirmed| async move {
        decided(&core, &write, Command::DisableNode { node: id, shown: content, confirmed }).await
    })
    .await
}

/// `POST /v1/nodes/{node}/remove`
pub(super) async fn remove(
    State(http): State<Http>,
    caller: Caller,
    Places(node): Places<String>,
    said: Said,
) -> Result<Response> {
    let _well_formed: ActRequest = write::parse(&said)?;
    let write = Write::read(&http, &said, &caller)?;
    if let Some(answer) = before(&http, &write, "it was removed before, by this very request")? {
        return Ok(answer);
    }
    let (id, state) = (nodes::find(&http, &node)?, http.core.state());
    let found = of(&state, id)?;
    let (act, content) = (format!("nodes remove {}", found.name), Content::of_removal(&state, id));
    let shown = removing(&state, id, found, &http.core.observations().snapshot(), &content);
    let core = http.clone();
    guarded(&http, &caller, said, &act, shown, move |confirmed| async move {
        decided(&core, &write, Command::RemoveNode { node: id, shown: content, confirmed }).await
    })
    .await
}

fn of(state: &Decided, id: NodeId) -> Result<&Node> {
    let found = state.nodes.get(&id).map(AsRef::as_ref);
    found.ok_or_else(|| super::answer::missing(format_args!("node {id}")))
}

fn disabling(state: &Decided, id: NodeId, node: &Node, content: &Content) -> Shown {
    let name = &node.name;
    let (mut will, mut of) = (Vec::new(), BTreeMap::<String, u32>::new());
    for (_, instance) in state.instances_on(id).filter(|(_, instance)| instance.holds_memory()) {
        *of.entry(format!("{}/{}", state.env_label(instance.env), instance.process)).or_default() += 1;
    }
    let count: u32 = of.values().sum();
    if node.roles.contains(&NodeRole::Agent) {
        will.push(format!("{name} takes no instance any more, until holdfast nodes activate {name}"));
        will.push(format!(
            "its {count} instances are stopped as edges let go of them, whether or not others have taken \
             their place; they are replaced on other nodes where there is room"
        ));
    }
    if node.roles.contains(&NodeRole::Edge) {
        will.push(
            "its edge takes no new connection; the open ones go on while their instances do".to_owned(),
        );
    }
    Shown {
        act: format!("nodes disable {name}"),
        will,
        touches: touched(state, id, &of),
        irreversible: match count {
            0 => Vec::new(),
            _ => vec!["what those instances have in memory, and the connections they hold open".to_owned()],
        },
        invariants: vec![proof(
            "route_is_never_crossed",
            format!(
                "an instance is stopped once edges have let go of it, or have had {} to",
                limits::DRAIN_WAIT
            ),
        )],
        overrides: Vec::new(),
        facts: instances(state, state.instances_on(id)),
        state: bound(content),
        reason: Reason::Optional,
    }
}

/// How many instances of each process are here, and in all.
fn touched(state: &Decided, id: NodeId, of: &BTreeMap<String, u32>) -> Vec<String> {
    let mut all = BTreeMap::<String, u32>::new();
    for instance in state.instances.values().filter(|instance| instance.is_live()) {
        *all.entry(format!("{}/{}", state.env_label(instance.env), instance.process)).or_default() += 1;
    }
    let named = of.iter().take(limits::ADOPT_NAMED).map(|(label, here)| {
        let all = all.get(label).copied().unwrap_or(0).max(*here);
        format!("{label}: {here} of {all} instances are there")
    });
    let mut touches: Vec<String> = named.collect();
    let more = of.len().saturating_sub(touches.len());
    if more > 0 {
        touches.push(format!("and {more} more processes"));
    }
    let elsewhere = state.nodes.iter().any(|(other, node)| *other != id && node.takes_instances());
    if !of.is_empty() && !elsewhere {
        touches.push("no other node takes instances: nothing replaces them".to_owned());
    }
    touches
}

fn removing(
    state: &Decided,
    id: NodeId,
    node: &Node,
    observed: &Observed,
    content: &Content,
) -> Result<Shown> {
    let name = &node.name;
    if node.state != NodeState::Disabled {
        let detail = format!("node {name} is in use; it has to be disabled before it is removed");
        return Err(Problem::new(Code::Conflict, detail)
            .with_hint(format!("holdfast nodes disable {name}"))
            .into());
    }
    let holds = state.instances_on(id).filter(|(_, instance)| instance.holds_memory()).count();
    let (mut invariants, mut overrides) = (Vec::new(), Vec::new());
    match node.health {
        NodeHealth::Offline => {
            overrides.push(Override { invariant: UNHEARD.to_owned(), type_this: format!("{name} is off") })
        }
        NodeHealth::Reachable => {
            let_go(state, id, node, observed, holds)?;
            invariants.push(proof(UNHEARD, "it is heard, and has said that everything is stopped"));
        }
    }
    let mut will = vec![
        "its credential opens nothing any more, and its name is free".to_owned(),
        "the machine can become a node again with a new secret: holdfast nodes join-token".to_owned(),
    ];
    if holds > 0 {
        will.push(format!(
            "{holds} instances that it was not heard to stop are forgotten; if it is not off, it runs and \
             routes them on, and nobody can tell it not to"
        ));
    }
    Ok(Shown {
        act: format!("nodes remove {name}"),
        will,
        touches: vec![format!("{name} ({id}), and no other node")],
        irreversible: vec![format!("the id {id} is never used again")],
        invariants,
        overrides,
        facts: instances(state, state.instances_on(id)),
        state: bound(content),
        reason: Reason::Optional,
    })
}

/// A node that is heard is removed when it has nothing any more.
fn let_go(state: &Decided, id: NodeId, node: &Node, observed: &Observed, holds: usize) -> Result<()> {
    let seen = observed.nodes.get(&id);
    let why = if holds > 0 {
        format!("it still stops {holds} instances")
    } else if node.roles.contains(&NodeRole::Edge)
        && seen.and_then(|seen| seen.edge.as_ref()).is_none_or(|edge| edge.generation < state.edge_generation)
    {
        "its edge has not said that it has let go of its routes".to_owned()
    } else {
        return Ok(());
    };
    let problem =
        Problem::new(Code::Denied, format!("denied by {UNHEARD}: node {} is heard, and {why}", node.name));
    Err(problem.with_hint("ask again in a while; holdfast nodes shows what it holds").into())
}
