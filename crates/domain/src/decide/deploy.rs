//! Apply, scale, restart, roll back, and the steps of a deploy.
//!
//! New names are taken when a deploy starts, so that nobody else can take them meanwhile. What a
//! new release changes or drops of existing routes happens at cutover, when its instances serve:
//! until then the old ones answer as before.

use super::{Decision, done, missing};
use crate::{
    command::Context,
    derive::key_of,
    event::{DeployFailure, DeployKind, Done, Event},
    rejection::Rejection,
    state::{Deploy, DeployState, Environment, ReleaseState, RouteState, State},
};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, sync::Arc};
use types::{
    AppId, DeployId, EnvId, Name, OrgId, ReleaseId, RouteId, limits,
    manifest::{Manifest, Route as Declared},
    plan::{PinnedImage, RouteMatch},
};

/// Where an apply lands: what is there already, and the events that make what is not.
struct Place {
    app: AppId,
    env: EnvId,
    events: Vec<Event>,
}

fn place(state: &State, org: OrgId, app: &Name, env: &Name, context: &Context) -> Result<Place, Rejection> {
    if !state.orgs.contains_key(&org) {
        return Err(missing(format!("org {org}")));
    }
    let mut events = Vec::new();
    let app_id = state.app_names.get(&(org, app.clone())).copied().unwrap_or_else(|| {
        let id = AppId::from_parts(context.now, context.dice(0));
        events.push(Event::AppCreated { app: id, org, name: app.clone() });
        id
    });
    let env_id = state.env_names.get(&(app_id, env.clone())).copied().unwrap_or_else(|| {
        let id = EnvId::from_parts(context.now, context.dice(1));
        events.push(Event::EnvironmentCreated { env: id, app: app_id, name: env.clone() });
        id
    });
    Ok(Place { app: app_id, env: env_id, events })
}

/// The address of a release: SHA-256 over its canonical manifest and its image's digest.
pub(crate) fn content(manifest: &Manifest, image: &PinnedImage) -> [u8; 32] {
    let bytes = postcard::to_allocvec(&(manifest, &image.digest))
        .expect("a manifest has no type that postcard refuses");
    Sha256::digest(bytes).into()
}

/// Brings an environment to a manifest.
pub(super) fn apply(
    state: &State,
    org: OrgId,
    env_name: &Name,
    manifest: &Manifest,
    image: &PinnedImage,
    context: &Context,
) -> Result<Decision, Rejection> {
    manifest.check()?;
    let Place { app, env, mut events } = place(state, org, &manifest.app, env_name, context)?;
    let existing = state.envs.get(&env);
    let content = content(manifest, image);
    let same = existing.and_then(|found| {
        found
            .releases
            .iter()
            .rev()
            .copied()
            .find(|id| state.releases.get(id).is_some_and(|known| known.content == content))
    });
    let release = same.unwrap_or_else(|| ReleaseId::from_parts(context.now, context.dice(2)));
    let number = match same.and_then(|id| state.releases.get(&id)) {
        Some(known) => known.number,
        None => existing.map_or(0, |found| found.releases.len() as u32) + 1,
    };
    if same.is_none() {
        let manifest = Box::new(manifest.clone());
        events.push(Event::ReleaseCreated { release, env, number, manifest, image: image.clone(), content });
        events.push(Event::ReleaseAvailable { release });
    }
    events.extend(new_routes(state, env, manifest, context)?);
    for (name, process) in &manifest.processes {
        if existing.and_then(|found| found.scale.get(name)) != Some(&process.replicas) {
            events.push(Event::ScaleSet { env, process: name.clone(), replicas: process.replicas });
        }
    }
    let made =
        |deploy| Done { app: Some(app), env: Some(env), release: Some(release), deploy, ..Done::default() };
    // What serves is not all that is wanted after something newer has failed: of that, instances may
    // be left that serve as well, and only a deploy replaces them.
    let settled = existing.is_some_and(|found| found.rolling.is_some() || !found.is_unsettled());
    let target = existing.and_then(|found| state.deploys.get(&found.target()?));
    if settled && target.is_some_and(|target| target.release == release) {
        let summary = match events.is_empty() {
            true => format!("release {number} is what is wanted already"),
            false => format!("release {number} stays; what differs beside it was changed"),
        };
        return Ok(Decision {
            events,
            done: Done { summary, ..made(existing.and_then(|found| found.target())) },
        });
    }
    let deploy = start(state, env, release, manifest, DeployKind::Apply, &mut events, context);
    let summary = format!("deploying release {number} of {}", manifest.app);
    Ok(Decision { events, done: Done { summary, ..made(Some(deploy)) } })
}

/// Starts a deploy, ending the one under way.
fn start(
    state: &State,
    env: EnvId,
    release: ReleaseId,
    manifest: &Manifest,
    kind: DeployKind,
    events: &mut Vec<Event>,
    context: &Context,
) -> DeployId {
    let deploy = DeployId::from_parts(context.now, context.dice(3));
    if let Some(under_way) = state.envs.get(&env).and_then(|found| found.rolling) {
        let failure = DeployFailure::Superseded { by: deploy };
        events.push(Event::DeployFailed { deploy: under_way, failure });
    }
    let deadline = context.now.plus(manifest.deploy.deadline);
    events.push(Event::DeployStarted {
        deploy,
        env,
        release,
        kind,
        deadline,
        attempts: manifest.deploy.attempts,
    });
    deploy
}

/// Takes the names a manifest asks for that its environment does not hold yet.
fn new_routes(
    state: &State,
    env: EnvId,
    manifest: &Manifest,
    context: &Context,
) -> Result<Vec<Event>, Rejection> {
    let mut events = Vec::new();
    for (place, (declared, key)) in manifest.routes.iter().filter_map(|r| Some((r, key_of(r)?))).enumerate() {
        match state.route_keys.get(&key).and_then(|id| state.routes.get(id)) {
            Some(owner) if owner.env == env => {}
            Some(_) => {
                return Err(Rejection::RouteTaken { route: key.to_string(), host: declared.host.clone() });
            }
            None => {
                let route = RouteId::from_parts(context.now, context.dice(16 + place as u64));
                events.push(Event::RouteRequested {
                    route,
                    env,
                    matches: key,
                    process: declared.process.clone(),
                    port: declared.port.clone(),
                    proxy_protocol: declared.proxy_protocol,
                });
                events.push(Event::RouteValidated { route });
            }
        }
    }
    Ok(events)
}

/// What a release changes or drops of the routes its environment holds.
fn changed_routes(state: &State, env: EnvId, manifest: &Manifest) -> Vec<Event> {
    let wanted: BTreeMap<RouteMatch, &Declared> =
        manifest.routes.iter().filter_map(|route| Some((key_of(route)?, route))).collect();
    let mut events = Vec::new();
    for (id, held) in state.routes_of(env) {
        match wanted.get(&held.matches) {
            None => events.push(Event::RouteRemoved { route: id }),
            Some(declared)
                if (&declared.process, &declared.port, declared.proxy_protocol)
                    != (&held.process, &held.port, held.proxy_protocol) =>
            {
                events.push(Event::RouteUpdating {
                    route: id,
                    process: declared.process.clone(),
                    port: declared.port.clone(),
                    proxy_protocol: declared.proxy_protocol,
                });
            }
            Some(_) => {}
        }
    }
    events
}

fn find_env(state: &State, id: EnvId) -> Result<&Arc<Environment>, Rejection> {
    let found = state.envs.get(&id).filter(|_| !state.is_deleted(id));
    found.ok_or_else(|| missing(format!("environment {id}")))
}

/// Another number of instances of one process.
pub(super) fn scale(state: &State, id: EnvId, process: &Name, replicas: u32) -> Result<Decision, Rejection> {
    let env = find_env(state, id)?;
    let target = env.target().and_then(|deploy| state.deploys.get(&deploy));
    let manifest =
        target.and_then(|deploy| state.releases.get(&deploy.release)).map(|release| &release.manifest);
    if !manifest.is_some_and(|manifest| manifest.processes.contains_key(process)) {
        let known: Vec<&str> =
            manifest.iter().flat_map(|manifest| manifest.processes.keys()).map(Name::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(Rejection::NoSuchProcess { process: process.clone(), known });
    }
    if replicas > limits::REPLICAS {
        let what = format!("replicas of {process}");
        return Err(Rejection::TooMany { what, limit: u64::from(limits::REPLICAS) });
    }
    let mut decision = match env.scale.get(process) == Some(&replicas) {
        true => done(Vec::new(), format!("{process} is at {replicas} already")),
        false => {
            let set = Event::ScaleSet { env: id, process: process.clone(), replicas };
            done(vec![set], format!("{process} goes to {replicas}"))
        }
    };
    decision.done.app = Some(env.app);
    decision.done.env = Some(id);
    Ok(decision)
}

/// Fresh instances of what serves.
pub(super) fn restart(state: &State, id: EnvId, context: &Context) -> Result<Decision, Rejection> {
    let env = find_env(state, id)?;
    let serving = env.serving.and_then(|deploy| state.deploys.get(&deploy));
    let Some(serving) = serving else {
        let what = format!("environment {}", state.env_label(id));
        return Err(Rejection::LifeCycle { what, is: "serving nothing yet".into(), cannot: "restart" });
    };
    redeploy(state, id, env, serving.release, DeployKind::Restart, context)
}

/// Back to a release: the named one; else what serves, if something newer is under way or has
/// failed; else the one promoted before what serves.
pub(super) fn rollback(
    state: &State,
    id: EnvId,
    to: Option<ReleaseId>,
    context: &Context,
) -> Result<Decision, Rejection> {
    let env = find_env(state, id)?;
    let find = |deploy: Option<DeployId>| deploy.and_then(|deploy| state.deploys.get(&deploy));
    let serving = find(env.serving).map(|deploy| deploy.release);
    let rolling = find(env.rolling);
    // Asked again, or by somebody else, it means the way back that is under way and not a turn.
    let turning = rolling.filter(|deploy| deploy.kind == DeployKind::Rollback).map(|deploy| deploy.release);
    let previous = || match env.is_unsettled() {
        true => turning.or(serving),
        false => env.promoted.iter().rev().copied().find(|release| Some(*release) != serving),
    };
    let Some(release) = to.or_else(previous) else {
        let what = format!("environment {}", state.env_label(id));
        return Err(Rejection::LifeCycle { what, is: "at its first release".into(), cannot: "roll back" });
    };
    if !env.releases.contains(&release) {
        return Err(missing(format!("release {release} of {}", state.env_label(id))));
    }
    let as_wanted = match rolling {
        Some(rolling) if rolling.release == release => Some("is under way already"),
        None if serving == Some(release) && !env.is_unsettled() => Some("serves already"),
        _ => None,
    };
    if let Some(summary) = as_wanted {
        let mut decision = done(Vec::new(), summary);
        let (app, deploy) = (Some(env.app), env.rolling);
        decision.done = Done { app, env: Some(id), release: Some(release), deploy, ..decision.done };
        return Ok(decision);
    }
    redeploy(state, id, env, release, DeployKind::Rollback, context)
}

fn redeploy(
    state: &State,
    id: EnvId,
    env: &Environment,
    release: ReleaseId,
    kind: DeployKind,
    context: &Context,
) -> Result<Decision, Rejection> {
    let known = state.releases.get(&release).ok_or_else(|| missing(format!("release {release}")))?;
    let mut events = new_routes(state, id, &known.manifest, context)?;
    for (name, process) in known.manifest.processes.iter().filter(|(name, _)| !env.scale.contains_key(*name))
    {
        events.push(Event::ScaleSet { env: id, process: name.clone(), replicas: process.replicas });
    }
    let deploy = start(state, id, release, &known.manifest, kind, &mut events, context);
    let word = match kind {
        DeployKind::Rollback => "rolling back to",
        DeployKind::Restart | DeployKind::Apply => "restarting",
    };
    let summary = format!("{word} release {}", known.number);
    let done = Done {
        summary,
        app: Some(env.app),
        env: Some(id),
        release: Some(release),
        deploy: Some(deploy),
        ..Done::default()
    };
    Ok(Decision { events, done })
}

fn step<'a>(
    state: &'a State,
    id: DeployId,
    to: DeployState,
    cannot: &'static str,
) -> Result<Option<&'a Arc<Deploy>>, Rejection> {
    let deploy = state.deploys.get(&id).ok_or_else(|| missing(format!("deploy {id}")))?;
    if deploy.state == to {
        return Ok(None);
    }
    if !deploy.state.may_go(to) {
        let is = format!("{:?}", deploy.state).to_lowercase();
        return Err(Rejection::LifeCycle { what: format!("deploy {id}"), is, cannot });
    }
    Ok(Some(deploy))
}

/// Its first instances are being placed.
pub(super) fn start_rolling(state: &State, id: DeployId) -> Result<Decision, Rejection> {
    let step = step(state, id, DeployState::Rolling, "start rolling")?;
    Ok(step.map_or_else(Decision::default, |_| done(vec![Event::DeployRolling { deploy: id }], "rolling")))
}

/// All its instances serve: routes take their new form, the old instances have been told to drain.
pub(super) fn cut_over(state: &State, id: DeployId) -> Result<Decision, Rejection> {
    let Some(deploy) = step(state, id, DeployState::Cutover, "cut over")? else {
        return Ok(Decision::default());
    };
    let mut events = vec![Event::DeployCutOver { deploy: id }];
    if let Some(release) = state.releases.get(&deploy.release) {
        events.extend(changed_routes(state, deploy.env, &release.manifest));
    }
    Ok(done(events, "cut over"))
}

/// Every edge has let go of what was there before.
pub(super) fn succeed(state: &State, id: DeployId) -> Result<Decision, Rejection> {
    let Some(deploy) = step(state, id, DeployState::Succeeded, "succeed")? else {
        return Ok(Decision::default());
    };
    let before =
        state.envs.get(&deploy.env).and_then(|env| env.serving).and_then(|old| state.deploys.get(&old));
    let mut events = vec![Event::DeploySucceeded { deploy: id }];
    if let Some(old) = before.filter(|old| old.release != deploy.release) {
        events.push(match deploy.kind {
            DeployKind::Rollback => Event::ReleaseRolledBack { release: old.release },
            DeployKind::Apply | DeployKind::Restart => Event::ReleaseSuperseded { release: old.release },
        });
    }
    if state.releases.get(&deploy.release).is_some_and(|release| release.state != ReleaseState::Promoted) {
        events.push(Event::ReleasePromoted { release: deploy.release });
    }
    Ok(done(events, "succeeded"))
}

/// It is given up. What serves keeps serving; nothing is rolled back by itself.
pub(super) fn fail(state: &State, id: DeployId, failure: &DeployFailure) -> Result<Decision, Rejection> {
    let step = step(state, id, DeployState::Failed, "fail")?;
    let failed = || done(vec![Event::DeployFailed { deploy: id, failure: failure.clone() }], "failed");
    Ok(step.map_or_else(Decision::default, |_| failed()))
}

/// Every edge has taken the route's newest form over.
pub(super) fn activate_route(state: &State, id: RouteId) -> Result<Decision, Rejection> {
    let route = state.routes.get(&id).ok_or_else(|| missing(format!("route {id}")))?;
    if route.state == RouteState::Active {
        return Ok(Decision::default());
    }
    Ok(done(vec![Event::RouteActivated { route: id }], "active"))
}
