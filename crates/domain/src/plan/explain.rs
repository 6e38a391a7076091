//! Why what runs is not what is wanted, in words, from the same facts the planner acts on.

use super::{
    Observed,
    liveness::suspicion,
    placement::Fleet,
    rollout::{ask, short, unfinished},
    survey::{Group, Mode, Seat, Survey},
};
use crate::{
    event::{DeployFailure, NodeHealth},
    state::{DeployState, InstanceState, NodeState, RouteState, State},
};
use types::{DeployId, EnvId, EventId, Name, NodeId, Timestamp, limits};

/// Instances named in one line; the rest is counted.
const NAMED: usize = 4;

/// One thing that is not as declared, or that people ask about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it is about: `web`, `deploy`, `route shop.example`, `node eu-1`.
    pub subject: String,
    /// What is wanted.
    pub desired: String,
    /// What there is.
    pub actual: String,
    /// Why they differ.
    pub why: String,
    /// The last event that changed it.
    pub since: EventId,
}

/// Why an environment is not as declared. Empty when it is.
pub fn explain(state: &State, env: EnvId, observed: &Observed, now: Timestamp) -> Vec<Line> {
    let Some(survey) = Survey::new(state, env, observed, now) else { return Vec::new() };
    let mut lines = Vec::new();
    deploy_line(&survey, &mut lines);
    for (name, group) in &survey.groups {
        lines.extend(process_line(&survey, name, group));
    }
    route_lines(&survey, &mut lines);
    node_lines(&survey, &mut lines);
    lines
}

fn deploy_line(survey: &Survey<'_>, lines: &mut Vec<Line>) {
    let Some(id) = survey.env.latest else { return };
    let Some(deploy) = survey.state.deploys.get(&id) else { return };
    let number = survey.state.releases.get(&deploy.release).map_or(0, |release| release.number);
    let (actual, why) = match (deploy.state, &deploy.failure) {
        (DeployState::Succeeded, _) => return,
        (DeployState::Failed, failure) => {
            let cause = failure.as_ref().map_or_else(String::new, failure_text);
            let back = way_back(survey.state, id).unwrap_or_default();
            ("failed".to_owned(), [cause, back].join(" — ").trim_matches([' ', '—']).to_owned())
        }
        (DeployState::Cutover, _) => ("cut over".to_owned(), waiting(survey)),
        (state, _) => {
            let tries = format!("{} of {} attempts failed", deploy.failures, deploy.attempts);
            let left = deploy.deadline.since(survey.now).as_ms() / 1000;
            let text = format!("{}; {tries}; gives up in {left}s", waiting(survey));
            (format!("{state:?}").to_lowercase(), text)
        }
    };
    lines.push(Line {
        subject: "deploy".to_owned(),
        desired: format!("release {number}"),
        actual,
        why,
        since: survey.env.changed,
    });
}

/// What a failure was, in words.
fn failure_text(failure: &DeployFailure) -> String {
    match failure {
        DeployFailure::Attempts { reason, detail } if detail.is_empty() => {
            format!("instances failed: {reason}")
        }
        DeployFailure::Attempts { reason, detail } => format!("instances failed: {reason}: {detail}"),
        DeployFailure::Deadline { waiting } => format!("not done in time: {waiting}"),
        DeployFailure::Superseded { by } => format!("deploy {by} took its place"),
        DeployFailure::Deleted => "its environment was deleted".to_owned(),
    }
}

/// What to do about a failed deploy; nothing for one that did not fail.
pub fn way_back(state: &State, deploy: DeployId) -> Option<String> {
    let failed = state.deploys.get(&deploy).filter(|found| found.state == DeployState::Failed)?;
    let serving = state.envs.get(&failed.env)?.serving.and_then(|id| state.deploys.get(&id));
    Some(match serving.and_then(|serving| state.releases.get(&serving.release)) {
        Some(release) => {
            format!("release {} still serves; holdfast rollback, or fix and apply again", release.number)
        }
        None => "nothing has served yet; fix and apply again".to_owned(),
    })
}

/// What a deploy is waiting for, in words.
pub(super) fn waiting(survey: &Survey<'_>) -> String {
    let mut waits: Vec<String> = match survey.is_cut_over() {
        true => unfinished(survey),
        false => survey
            .groups
            .iter()
            .filter(|(_, group)| group.declared && !group.is_rolled())
            .map(|(name, group)| {
                let why = troubles(survey, name, group).join("; ");
                format!("{name}: {} of {} available: {why}", group.kept_available(), group.desired)
            })
            .collect(),
    };
    if waits.is_empty() {
        waits.push("the next look of the planner".to_owned());
    }
    let mut text = waits.join("; ");
    if let Some((cut, _)) = text.char_indices().nth(limits::DETAIL_CHARS) {
        text.truncate(cut);
        text.push('…');
    }
    text
}

fn process_line(survey: &Survey<'_>, name: &Name, group: &Group<'_>) -> Option<Line> {
    let troubles = troubles(survey, name, group);
    let ready = group.keep.iter().chain(&group.old).filter(|seat| seat.ready()).count();
    if troubles.is_empty() && (group.is_rolled() || matches!(survey.mode, Mode::Idle)) {
        return None;
    }
    let seats = [&group.keep, &group.old, &group.useless, &group.evicted, &group.failed, &group.draining];
    let since = seats.into_iter().flatten().map(|seat| seat.instance.changed).max();
    let since = since.unwrap_or(survey.env.changed);
    Some(Line {
        subject: name.to_string(),
        desired: format!("{} wanted", group.desired),
        actual: format!("{ready} ready"),
        why: troubles.join("; "),
        since,
    })
}

/// Everything that keeps a process from being as wanted.
fn troubles(survey: &Survey<'_>, name: &Name, group: &Group<'_>) -> Vec<String> {
    let mut texts = Vec::new();
    let unready = group.keep.iter().filter(|seat| !seat.available);
    let old = group.old.iter().filter(|seat| !seat.ready());
    let others = old.chain(&group.evicted).chain(&group.failed).chain(&group.draining);
    let named: Vec<&Seat<'_>> = unready.chain(others).collect();
    texts.extend(named.iter().take(NAMED).map(|seat| seat_text(survey, seat)));
    if named.len() > NAMED {
        texts.push(format!("and {} more like these", named.len() - NAMED));
    }
    if let Some(text) = placing_text(survey, name, group) {
        texts.push(text);
    }
    if !group.old.is_empty() {
        texts.push(format!("{} old to be replaced", group.old.len()));
    }
    texts
}

fn placing_text(survey: &Survey<'_>, name: &Name, group: &Group<'_>) -> Option<String> {
    if survey.room(group) == 0 {
        return None;
    }
    if let Some(until) = survey.held_until() {
        let row = survey.env.failed_in_a_row;
        return Some(format!("{row} failures in a row: the next is placed at {until}"));
    }
    let mut fleet = Fleet::new(survey.state, survey.observed, survey.now);
    let placed = fleet.place(survey.state, &ask(survey, name, survey.room(group))?);
    placed.unplaced.map(|unplaced| unplaced.to_string())
}

fn seat_text(survey: &Survey<'_>, seat: &Seat<'_>) -> String {
    let instance = seat.instance;
    let node = survey.state.nodes.get(&instance.node);
    let mut text = format!("{} {}", short(seat.id), format!("{:?}", instance.state).to_lowercase());
    if let Some(node) = node {
        text.push_str(&format!(" on {}", node.name));
    }
    match instance.state {
        InstanceState::Ready => {
            text.push_str(&format!(": {}", survey.edges.behind(instance.routed).join(", ")))
        }
        InstanceState::Draining if survey.edges.holds(seat.id) => {
            text.push_str(": connections are still open")
        }
        InstanceState::Draining => {
            let behind = survey.edges.behind(instance.routed);
            if !behind.is_empty() {
                text.push_str(&format!(": {}", behind.join(", ")));
            }
        }
        _ => {
            if instance.restarts > 0 {
                text.push_str(&format!(", ended {} times", instance.restarts));
            }
            if let Some((reason, detail)) = &instance.reason {
                text.push_str(&format!(", {reason}"));
                if *reason == types::plan::Reason::OomKilled {
                    text.push_str(&format!(" at its cap of {}", instance.memory));
                }
                if !detail.is_empty() {
                    text.push_str(&format!(": {detail}"));
                }
            }
        }
    }
    text.push_str(&format!(" (since {})", instance.since));
    text
}

fn route_lines(survey: &Survey<'_>, lines: &mut Vec<Line>) {
    for (_, route) in survey.state.routes_of(survey.env_id) {
        if route.state == RouteState::Active {
            continue;
        }
        lines.push(Line {
            subject: format!("route {}", route.matches),
            desired: "active".to_owned(),
            actual: format!("{:?}", route.state).to_lowercase(),
            why: survey.edges.behind(route.routed).join(", "),
            since: survey.state.event_of(route.routed).unwrap_or(survey.state.head),
        });
    }
}

/// Nodes that have instances of this environment and are not well.
fn node_lines(survey: &Survey<'_>, lines: &mut Vec<Line>) {
    let here = survey.state.instances_of(survey.env_id);
    let mut nodes: std::collections::BTreeSet<NodeId> =
        here.filter(|(_, instance)| instance.holds_memory()).map(|(_, instance)| instance.node).collect();
    // Its edge may route this environment, and its agent run what this log does not know.
    nodes.extend(survey.observed.nodes.iter().filter(|(_, seen)| seen.apart.is_some()).map(|(id, _)| *id));
    let suspicion = suspicion(survey.state, survey.observed, survey.now);
    for id in nodes {
        let Some(node) = survey.state.nodes.get(&id) else { continue };
        let pressure = survey.observed.agent(id).and_then(|seen| seen.pressure);
        let apart = survey.observed.nodes.get(&id).and_then(|seen| seen.apart.clone());
        let (actual, why) = match (node.health, node.state, pressure) {
            _ if apart.is_some() => ("apart".to_owned(), apart.unwrap_or_default()),
            (NodeHealth::Offline, _, _) => {
                let lost = "its instances are replaced where there is room".to_owned();
                ("offline".to_owned(), suspicion.clone().unwrap_or(lost))
            }
            (_, NodeState::Draining, _) => {
                ("draining".to_owned(), "its instances move to other nodes".to_owned())
            }
            (_, NodeState::Disabled, _) => {
                ("disabled".to_owned(), "its instances are stopped, and replaced on other nodes".to_owned())
            }
            (_, _, Some(reason)) => {
                ("under pressure".to_owned(), format!("{reason}: nothing new is placed there"))
            }
            _ if !super::fresh(survey.observed.agent(id), survey.now) => {
                ("silent".to_owned(), "its agent has not been heard of".to_owned())
            }
            _ => continue,
        };
        lines.push(Line {
            subject: format!("node {}", node.name),
            desired: "well".to_owned(),
            actual,
            why,
            since: node.changed,
        });
    }
}
