//! The status of an environment, of a deploy, and why they are as they are.

use super::{difference, place::Place, rows};
use api::{DeployRow, DeployState as Word, EnvStatus, Explanation, ExplanationLine, ProcessStatus};
use domain::{
    DeployFailure, DeployKind, State,
    plan::{self, Observed},
    state::{Deploy, DeployState, Instance, InstanceState},
    view::Apps,
};
use std::{collections::BTreeSet, sync::Arc};
use types::{DeployId, Generation, InstanceId, Name, Timestamp};

/// The wire's word for where a deploy is.
pub(super) const fn deploy_state(state: DeployState) -> Word {
    match state {
        DeployState::Started => Word::Started,
        DeployState::Rolling => Word::Rolling,
        DeployState::Cutover => Word::Cutover,
        DeployState::Succeeded => Word::Succeeded,
        DeployState::Failed => Word::Failed,
    }
}

/// Everything about one environment.
pub(super) fn of(
    state: &State,
    apps: &Apps,
    place: &Place<'_>,
    observed: &Observed,
    now: Timestamp,
) -> EnvStatus {
    let env = place.found;
    let lines = plan::explain(state, place.env, observed, now);
    let edges = domain::derive::edge_plan(state, &state.cluster);
    let target = env.target().and_then(|id| state.deploys.get(&id)).map(|deploy| deploy.release);
    let routes = state.routes_of(place.env);
    EnvStatus {
        id: place.env,
        org: state.orgs.get(&place.org).map_or_else(|| place.app_name.clone(), |org| org.name.clone()),
        app: place.app_name.clone(),
        env: env.name.clone(),
        release: target.and_then(|id| rows::release(state, env, id)),
        deploy: env.latest.and_then(|id| deploy(state, apps, id, observed, now)),
        processes: processes(state, place, observed, &lines),
        routes: routes.filter_map(|(id, route)| rows::route(state, &edges, id, route)).collect(),
        converged: lines.is_empty(),
        why: lines.iter().map(sentence).collect(),
        event: state.head,
    }
}

fn sentence(line: &plan::Line) -> String {
    match line.why.is_empty() {
        true => format!("{}: wanted {}, is {}", line.subject, line.desired, line.actual),
        false => format!("{}: wanted {}, is {}: {}", line.subject, line.desired, line.actual, line.why),
    }
}

fn processes(
    state: &State,
    place: &Place<'_>,
    observed: &Observed,
    lines: &[plan::Line],
) -> Vec<ProcessStatus> {
    let env = place.found;
    let release = difference::target(state, env);
    let target = env.target().and_then(|id| state.deploys.get(&id)).map(|deploy| deploy.release);
    let acknowledged = acknowledged(observed);
    let instances: Vec<(InstanceId, &Arc<Instance>)> = state.instances_of(place.env).collect();
    let mut names: BTreeSet<&Name> =
        release.iter().flat_map(|release| release.manifest.processes.keys()).collect();
    names.extend(instances.iter().map(|(_, instance)| &instance.process));
    let one = |name: &Name| {
        let declared = release.is_some_and(|release| release.manifest.processes.contains_key(name));
        let of: Vec<&Instance> = instances
            .iter()
            .map(|(_, instance)| instance.as_ref())
            .filter(|found| found.process == *name)
            .collect();
        let count = |fits: &dyn Fn(&Instance) -> bool| of.iter().filter(|found| fits(found)).count() as u32;
        let routed = state.is_routed(place.env, name);
        ProcessStatus {
            process: name.clone(),
            desired: if declared { env.scale.get(name).copied().unwrap_or(0) } else { 0 },
            placed: count(&|found| found.state != InstanceState::Stopped),
            ready: count(&|found| found.state == InstanceState::Ready),
            current: count(&|found| found.state == InstanceState::Ready && Some(found.release) == target),
            starting: count(&|found| {
                found.is_live() && found.state != InstanceState::Ready && !failing(found)
            }),
            draining: count(&|found| found.state == InstanceState::Draining),
            failing: count(&failing),
            routed: count(&|found| {
                routed
                    && found.state == InstanceState::Ready
                    && acknowledged.is_some_and(|held| held >= found.routed)
            }),
            why: lines.iter().find(|line| line.subject == name.as_str()).map(|line| line.why.clone()),
        }
    };
    names.into_iter().map(one).collect()
}

/// It crashed, cannot start, or never will.
fn failing(instance: &Instance) -> bool {
    let starting = instance.is_live() && instance.state != InstanceState::Ready;
    instance.state == InstanceState::Failed || (starting && instance.reason.is_some())
}

/// The newest plan that any edge acts on.
fn acknowledged(observed: &Observed) -> Option<Generation> {
    observed.nodes.values().filter_map(|node| node.edge.as_ref()).map(|edge| edge.generation).max()
}

/// One deploy: from the state while decisions rest on it, from the view for ever.
pub(super) fn deploy(
    state: &State,
    apps: &Apps,
    id: DeployId,
    observed: &Observed,
    now: Timestamp,
) -> Option<DeployRow> {
    let kept = apps.deploys.get(&id);
    let deploy = match (state.deploys.get(&id), kept) {
        (Some(found), _) => found.as_ref().clone(),
        (None, Some(kept)) => from_view(kept),
        (None, None) => return None,
    };
    let last = kept.and_then(|kept| kept.steps.last());
    let ended = last.filter(|step| !step.state.is_active()).map(|step| step.mark.at);
    Some(DeployRow { ended, ..row(state, id, &deploy, observed, now) })
}

fn from_view(kept: &domain::view::DeployRow) -> Deploy {
    Deploy {
        env: kept.env,
        release: kept.release,
        kind: kept.kind,
        state: kept.state,
        started: kept.steps.first().map(|step| step.mark.at).unwrap_or_default(),
        deadline: kept.deadline,
        attempts: kept.attempts,
        failures: 0,
        last_failure: None,
        failure: kept.failure.clone(),
        sequence: 0,
    }
}

fn row(state: &State, id: DeployId, deploy: &Deploy, observed: &Observed, now: Timestamp) -> DeployRow {
    let number = state.releases.get(&deploy.release).map_or(0, |release| u64::from(release.number));
    let kind = match deploy.kind {
        DeployKind::Apply => "deploy",
        DeployKind::Rollback => "rollback",
        DeployKind::Restart => "restart",
    };
    let env = state.envs.get(&deploy.env);
    let is_latest = env.is_some_and(|env| env.latest == Some(id));
    let waits = || {
        let lines = plan::explain(state, deploy.env, observed, now);
        lines.into_iter().find(|line| line.subject == "deploy").map(|line| line.why)
    };
    let reason = match (&deploy.failure, deploy.state.is_active() && is_latest) {
        (Some(failure), _) => Some(failure_text(failure)),
        (None, true) => waits(),
        (None, false) => None,
    };
    DeployRow {
        id,
        kind: kind.to_owned(),
        release: number,
        state: deploy_state(deploy.state),
        started: deploy.started,
        deadline: deploy.deadline,
        ended: None,
        failures: deploy.failures,
        attempts: deploy.attempts,
        reason,
        way_back: plan::way_back(state, id),
        steps: steps(state, deploy),
    }
}

fn failure_text(failure: &DeployFailure) -> String {
    match failure {
        DeployFailure::Attempts { reason, detail } if detail.is_empty() => {
            format!("its instances failed: {reason}")
        }
        DeployFailure::Attempts { reason, detail } => format!("its instances failed: {reason}: {detail}"),
        DeployFailure::Deadline { waiting } => format!("it was not done in time: {waiting}"),
        DeployFailure::Superseded { by } => format!("deploy {by} took its place"),
        DeployFailure::Deleted => "its environment was deleted".to_owned(),
    }
}

/// What has happened and what is next, in lines.
fn steps(state: &State, deploy: &Deploy) -> Vec<String> {
    let of_env: Vec<&Arc<Instance>> = state.instances_of(deploy.env).map(|(_, instance)| instance).collect();
    let of_release = of_env.iter().filter(|found| found.release == deploy.release && found.is_live());
    let ready = of_release.clone().filter(|found| found.state == InstanceState::Ready).count();
    let wanted: u32 = state.envs.get(&deploy.env).map_or(0, |env| env.scale.values().sum());
    let draining = of_env.iter().filter(|found| found.state == InstanceState::Draining).count();
    let mut steps = vec![format!("decided at {}", deploy.started)];
    if deploy.state >= DeployState::Rolling {
        steps.push(format!("{ready} of {wanted} new instances are ready, {} placed", of_release.count()));
    }
    if deploy.failures > 0 {
        steps.push(format!("{} of {} failures that end it", deploy.failures, deploy.attempts));
    }
    if draining > 0 {
        steps.push(format!("{draining} old instances drain"));
    }
    let next = match deploy.state {
        DeployState::Started => "next: place the first new instances",
        DeployState::Rolling => "next: cut over when all new instances serve",
        DeployState::Cutover => "next: done when every edge has let go of the old instances",
        DeployState::Succeeded => "done",
        DeployState::Failed => "given up; what served before still serves",
    };
    steps.push(next.to_owned());
    steps
}

/// Why an environment is as it is.
pub(super) fn explanation(
    state: &State,
    place: &Place<'_>,
    observed: &Observed,
    now: Timestamp,
) -> Explanation {
    let lines = plan::explain(state, place.env, observed, now);
    let label = format!("{}/{}", place.app_name, place.found.name);
    let summary = match (lines.len(), difference::target(state, place.found)) {
        (0, Some(release)) => {
            format!("{label} is as declared: release {} runs and is routed", release.number)
        }
        (0, None) => format!("{label} declares nothing yet"),
        (1, _) => format!("{label} is not as declared: {}", sentence(&lines[0])),
        (count, _) => format!("{label} is not as declared, in {count} ways"),
    };
    let line = |line: plan::Line| ExplanationLine {
        subject: line.subject,
        desired: line.desired,
        actual: line.actual,
        why: line.why,
        since_event: Some(line.since),
    };
    Explanation { summary, lines: lines.into_iter().map(line).collect() }
}
