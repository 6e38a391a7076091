//! Rows for people, made from the state.

use super::{difference, roles};
use api::{
    AppRow, BackendRow, EnvRow, InstanceRow, NodeRow, PersonIdentity, PersonRow, ReleaseRow, RouteRow,
    TokenRow,
};
use domain::{
    NodeHealth, State,
    plan::{Observed, RoleSeen},
    state::{
        Environment, Holder, Instance, InstanceState, Node, NodeState, Person, ReleaseState, Route,
        RouteState, Token,
    },
};
use types::{
    AppId, EnvId, InstanceId, Name, NodeId, PersonId, ReleaseId, RouteId, Timestamp, TokenId, limits,
    manifest::RouteMode,
    plan::{Capacity, EdgePlan, RouteMatch},
};

/// An app.
pub(super) fn app(state: &State, id: AppId) -> Option<AppRow> {
    let app = state.apps.get(&id)?;
    let org = state.orgs.get(&app.org)?.name.clone();
    let first = (id, Name::clone(&app.name));
    let mut envs: Vec<Name> = state
        .env_names
        .iter()
        .filter(|((of, _), _)| *of == first.0)
        .map(|((_, name), _)| name.clone())
        .collect();
    envs.sort();
    Some(AppRow { id, org, name: first.1, created: id.time(), envs })
}

/// An environment in a list.
pub(super) fn env(state: &State, id: EnvId, env: &Environment, app: &Name) -> EnvRow {
    let latest = env.latest.and_then(|deploy| state.deploys.get(&deploy));
    let ready = state.instances_of(id).filter(|(_, instance)| instance.state == InstanceState::Ready).count();
    EnvRow {
        id,
        app: app.clone(),
        name: env.name.clone(),
        release: difference::target(state, env).map(|release| u64::from(release.number)),
        deploy: latest.map(|deploy| super::status::deploy_state(deploy.state)),
        desired: env.scale.values().sum(),
        ready: ready as u32,
    }
}

/// A release.
pub(super) fn release(state: &State, env: &Environment, id: ReleaseId) -> Option<ReleaseRow> {
    let release = state.releases.get(&id)?;
    let target = env.target().and_then(|deploy| state.deploys.get(&deploy)).map(|deploy| deploy.release);
    let word = match release.state {
        ReleaseState::Created => "created",
        ReleaseState::Available => "available",
        ReleaseState::Promoted => "promoted",
        ReleaseState::Superseded => "superseded",
        ReleaseState::RolledBack => "rolled_back",
    };
    Some(ReleaseRow {
        id,
        number: u64::from(release.number),
        image: release.image.clone(),
        created: release.created,
        state: word.to_owned(),
        current: target == Some(id),
    })
}

/// The word for where an instance is.
pub(super) const fn instance_word(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Allocated => "allocated",
        InstanceState::Preparing => "preparing",
        InstanceState::Booting => "booting",
        InstanceState::Ready => "ready",
        InstanceState::Draining => "draining",
        InstanceState::Stopped => "stopped",
        InstanceState::Failed => "failed",
    }
}

/// An instance.
pub(super) fn instance(state: &State, id: InstanceId, instance: &Instance) -> Option<InstanceRow> {
    let env = state.envs.get(&instance.env)?;
    let app = state.apps.get(&env.app)?;
    let (reason, detail) = match &instance.reason {
        Some((reason, detail)) if instance.state != InstanceState::Ready => {
            (Some(*reason), Some(detail.clone()))
        }
        _ => (None, None),
    };
    Some(InstanceRow {
        id,
        app: app.name.clone(),
        env: env.name.clone(),
        process: instance.process.clone(),
        release: state.releases.get(&instance.release).map_or(0, |release| u64::from(release.number)),
        node: state.nodes.get(&instance.node)?.name.clone(),
        state: instance_word(instance.state).to_owned(),
        reason,
        detail: detail.filter(|text| !text.is_empty()),
        restarts: instance.restarts,
        address: instance.address,
        since: instance.since,
    })
}

/// A route, with the backends that the plan of edges gives it.
pub(super) fn route(state: &State, plan: &EdgePlan, id: RouteId, route: &Route) -> Option<RouteRow> {
    let env = state.envs.get(&route.env)?;
    let app = state.apps.get(&env.app)?;
    let (mode, host, listen) = match &route.matches {
        RouteMatch::Tls { host } => (RouteMode::Tls, Some(host.clone()), None),
        RouteMatch::Tcp { listen } => (RouteMode::Tcp, None, Some(*listen)),
    };
    let word = match route.state {
        RouteState::Requested => "requested",
        RouteState::Validated => "validated",
        RouteState::Active => "active",
        RouteState::Updating => "updating",
    };
    let backends = plan.routes.get(&id).map(|planned| planned.backends.as_slice()).unwrap_or_default();
    Some(RouteRow {
        id,
        app: app.name.clone(),
        env: env.name.clone(),
        process: route.process.clone(),
        port: route.port.clone(),
        mode,
        host,
        listen,
        state: word.to_owned(),
        backends: backends
            .iter()
            .map(|found| BackendRow { instance: found.instance, address: found.address })
            .collect(),
    })
}

/// A node: where it is in its life, unless its silence says more.
pub(super) fn node(id: NodeId, node: &Node, observed: &Observed, now: Timestamp) -> NodeRow {
    let seen = observed.nodes.get(&id);
    let (agent, edge) = (seen.and_then(|seen| seen.agent.as_ref()), seen.and_then(|seen| seen.edge.as_ref()));
    let last_seen = [agent, edge].into_iter().flatten().map(|role| role.last).max();
    let silent = last_seen.is_some_and(|last| now.since(last) >= limits::LEASE_SUSPECT);
    let word = match (node.health, node.state) {
        (NodeHealth::Offline, _) => "offline",
        (NodeHealth::Reachable, _) if silent => "suspected",
        (_, NodeState::Enrolled) => "enrolled",
        (_, NodeState::Active) => "active",
        (_, NodeState::Draining) => "draining",
        (_, NodeState::Disabled) => "disabled",
    };
    let generation = |role: &RoleSeen| role.generation;
    NodeRow {
        id,
        name: node.name.clone(),
        state: word.to_owned(),
        roles: node.roles.iter().copied().collect(),
        capacity: node.capacity,
        used: Capacity { memory: node.used, cpu: node.cpu_used },
        last_seen,
        generation: node.generation,
        acknowledged: agent.map(generation),
        edge_acknowledged: edge.map(generation),
        pressure: agent.and_then(|role| role.pressure),
        apart: seen.and_then(|seen| seen.apart.clone()),
    }
}

/// A token of people or programs; none for those of nodes.
pub(super) fn token(state: &State, id: TokenId, token: &Token) -> Option<TokenRow> {
    let role = roles::told(token.role)?;
    Some(TokenRow {
        id,
        name: token.name.clone(),
        role,
        org: token.org.and_then(|org| state.orgs.get(&org)).map(|org| org.name.clone()),
        created: id.time(),
        expires: token.expires,
        revoked: token.dead,
        member: match &token.holder {
            Some(Holder::Person(id)) => state.people.get(id).map(|person| person.name.clone()),
            _ => None,
        },
        scopes: match &token.holder {
            Some(Holder::Service(scopes)) => Some(scopes.iter().map(ToString::to_string).collect()),
            _ => None,
        },
    })
}

/// A member of an org, who may log in.
pub(super) fn person(state: &State, id: PersonId, person: &Person, now: Timestamp) -> Option<PersonRow> {
    let held = Some(Holder::Person(id));
    let living = state.tokens.values().filter(|token| token.holder == held && token.lives(now));
    Some(PersonRow {
        id,
        name: person.name.clone(),
        role: roles::told(person.role)?,
        org: state.orgs.get(&person.org)?.name.clone(),
        added: id.time(),
        tokens: living.count() as u64,
        password: !person.hash.is_empty(),
        identity: person.link.as_ref().map(|link| PersonIdentity {
            issuer: link.identity.issuer.clone(),
            subject: link.identity.subject.clone(),
        }),
    })
}
