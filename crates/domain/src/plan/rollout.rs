//! One environment on its way to what is declared, and kept there.
//!
//! ```text
//!  place what is missing (one more than wanted at most) ─▶ ready, every edge knows
//!      ─▶ drain an old one ─▶ every edge let go ─▶ released ─▶ (the agent stops it)
//! ```
//! Each pass returns what can be done now; what has to wait is seen by a later pass.

use super::{
    Observed, Step,
    edges::edge_nodes,
    placement::{Ask, Fleet, Placed},
    survey::{Available, Group, Mode, Seat, Survey},
};
use crate::{
    command::Command,
    event::DeployFailure,
    state::{Deploy, DeployState, RouteState, State},
};
use types::{DeployId, DurationMs, EnvId, EventId, InstanceId, Name, Timestamp, limits, plan::Reason};

/// What is missing in one environment. Bounded by [`limits::PLAN_STEPS`].
pub fn rollout(state: &State, env: EnvId, observed: &Observed, now: Timestamp) -> Vec<Step> {
    let Some(survey) = Survey::new(state, env, observed, now) else { return Vec::new() };
    let mut pass = Pass { survey: &survey, steps: Vec::new(), fleet: None };
    pass.release_drained();
    pass.activate_routes();
    pass.withdraw_failed();
    if pass.end_failed_deploy() {
        return pass.bounded();
    }
    pass.start_rolling();
    for (name, group) in &survey.groups {
        pass.reconcile(name, group);
    }
    pass.finish();
    pass.bounded()
}

struct Pass<'s, 'a> {
    survey: &'s Survey<'a>,
    steps: Vec<Step>,
    /// Made when the first instance is placed; remembers what this pass has taken.
    fleet: Option<Fleet>,
}

impl Pass<'_, '_> {
    fn bounded(mut self) -> Vec<Step> {
        self.steps.truncate(limits::PLAN_STEPS);
        self.steps
    }

    fn push(&mut self, command: Command, cause: EventId, why: impl Into<String>) {
        self.steps.push(Step { command, cause, why: why.into() });
    }

    fn drain(&mut self, seat: &Seat<'_>, why: impl Into<String>) {
        self.push(Command::DrainInstance { instance: seat.id }, seat.instance.changed, why);
    }

    fn release_drained(&mut self) {
        let survey = self.survey;
        for seat in survey.groups.values().flat_map(|group| &group.draining) {
            let (id, instance) = (seat.id, seat.instance);
            // One that was never ready was in no edge's plan.
            let unused = !instance.was_ready || survey.edges.acknowledged(instance.routed);
            let gone = unused && !survey.edges.holds(id);
            // Connections that stay open are told to end by the instance itself, in its stop grace.
            let wait = if unused { limits::DRAIN_OPEN } else { limits::DRAIN_WAIT };
            // Edges that seem dead all at once may serve a stored plan with it for as long as they like.
            let may_force = unused || !survey.edges.is_suspicious();
            let forced = !gone && may_force && survey.now >= drain_end(survey.observed, instance.since, wait);
            if gone || forced {
                let why = match (forced, unused) {
                    (false, _) => "no edge sends to it any more".to_owned(),
                    (true, true) => format!("connections to it were still open after {wait}"),
                    (true, false) => format!("edges did not let go of it within {wait}"),
                };
                self.push(Command::ReleaseInstance { instance: id, forced }, instance.changed, why);
            }
        }
    }

    fn activate_routes(&mut self) {
        let survey = self.survey;
        for (id, route) in survey.state.routes_of(survey.env_id) {
            let waits = matches!(route.state, RouteState::Validated | RouteState::Updating);
            if waits && survey.edges.acknowledged(route.routed) {
                self.push(Command::ActivateRoute { route: id }, survey.env.changed, "every edge has it");
            }
        }
    }

    fn withdraw_failed(&mut self) {
        for seat in self.survey.groups.values().flat_map(|group| &group.failed) {
            let why = match &seat.instance.reason {
                Some((reason, _)) => format!("it can never run: {reason}"),
                None => "it can never run".to_owned(),
            };
            self.drain(seat, why);
        }
    }

    /// Gives a deploy up that failed too often or took too long. Past cutover it is not given up:
    /// all of it serves by then, and only edges have to let go of what was there before.
    fn end_failed_deploy(&mut self) -> bool {
        let Mode::Rolling(id, deploy) = self.survey.mode else { return false };
        if deploy.state == DeployState::Cutover {
            return false;
        }
        let Some(failure) = failure_of(self.survey, deploy) else { return false };
        let why = match &failure {
            DeployFailure::Attempts { reason, .. } => {
                format!("{} of {} attempts failed, the last with {reason}", deploy.failures, deploy.attempts)
            }
            DeployFailure::Deadline { waiting } => format!("its time is over: {waiting}"),
            DeployFailure::Superseded { by } => format!("deploy {by} took its place"),
            DeployFailure::Deleted => "its environment is deleted".to_owned(),
        };
        self.push(Command::FailDeploy { deploy: id, failure }, self.survey.env.changed, why);
        true
    }

    fn start_rolling(&mut self) {
        if let Mode::Rolling(deploy, found) = self.survey.mode
            && found.state == DeployState::Started
        {
            self.push(
                Command::StartRolling { deploy },
                self.survey.env.changed,
                "its first instances are placed",
            );
        }
    }

    fn reconcile(&mut self, name: &Name, group: &Group<'_>) {
        for seat in &group.evicted {
            let deleted = self.survey.state.is_deleted(self.survey.env_id);
            self.drain(seat, if deleted { "its environment is deleted" } else { "its node is disabled" });
        }
        for seat in &group.useless {
            self.drain(seat, "its deploy came to nothing and it does not serve");
        }
        let target = match self.survey.mode {
            Mode::Idle => return,
            Mode::Rolling(id, _) | Mode::Steady(id) => id,
        };
        // A process that the new release no longer has serves until the new release does.
        if !group.declared && matches!(self.survey.mode, Mode::Rolling(..)) && !self.survey.is_cut_over() {
            return;
        }
        let mut available = group.available();
        self.drain_surplus(group, target, &mut available);
        self.allocate(name, group, target);
        if !group.held {
            self.drain_old(group, &mut available);
        }
    }

    /// More are to stay than are wanted: the least useful go first.
    fn drain_surplus(&mut self, group: &Group<'_>, target: DeployId, available: &mut Available) {
        let surplus = (group.keep.len() as u32).saturating_sub(group.desired);
        let mut order: Vec<&Seat<'_>> = group.keep.iter().collect();
        order.sort_by_key(|seat| {
            (seat.ready(), seat.available, seat.instance.deploy == target, std::cmp::Reverse(seat.id))
        });
        for seat in order.into_iter().take(surplus as usize) {
            // One that is ready may serve through an edge that has not been heard of yet, so it goes
            // only when enough others are known to be available.
            if seat.ready() && available.spare(seat).is_none() {
                continue;
            }
            self.drain(seat, format!("{} wanted and {} live", group.desired, group.keep.len()));
        }
    }

    fn allocate(&mut self, name: &Name, group: &Group<'_>, target: DeployId) {
        let survey = self.survey;
        let count = survey.room(group);
        if count == 0 || survey.held_until().is_some() {
            return;
        }
        let Some(ask) = ask(survey, name, count) else { return };
        let fleet = self.fleet.get_or_insert_with(|| Fleet::new(survey.state, survey.observed, survey.now));
        let Placed { nodes, .. } = fleet.place(survey.state, &ask);
        for node in nodes {
            let command =
                Command::AllocateInstance { env: survey.env_id, process: name.clone(), deploy: target, node };
            let why = format!("{} of {name} wanted and {} live", group.desired, group.keep.len());
            self.push(command, survey.env.changed, why);
        }
    }

    /// Old ones go as far as new ones have taken their place.
    fn drain_old(&mut self, group: &Group<'_>, available: &mut Available) {
        let answered = group.desired == 0 || group.keep.iter().any(Seat::ready);
        // Where so many old ones are left that not one new can be tried, those that do not serve make
        // way. While a new one is on trial they stay: they may come back, and it may not work.
        let excess = if group.keep.is_empty() { group.live().saturating_sub(group.desired) } else { 0 };
        for (nth, seat) in group.old.iter().filter(|seat| !seat.ready()).enumerate() {
            if answered {
                self.drain(seat, "it does not serve and a new one does");
            } else if (nth as u32) < excess {
                self.drain(seat, "it does not serve and leaves no room to try a new one");
            }
        }
        for seat in group.old.iter().filter(|seat| seat.ready()) {
            if let Some(left) = available.spare(seat) {
                self.drain(seat, format!("{left} others are available and {} wanted", group.desired));
            }
        }
    }

    fn finish(&mut self) {
        let Mode::Rolling(deploy, found) = self.survey.mode else { return };
        let survey = self.survey;
        match found.state {
            DeployState::Rolling
                if survey.groups.values().filter(|group| group.declared).all(Group::is_rolled) =>
            {
                self.push(Command::CutOver { deploy }, survey.env.changed, "all that is wanted is available");
            }
            DeployState::Cutover if unfinished(survey).is_empty() => {
                self.push(Command::SucceedDeploy { deploy }, survey.env.changed, "edges let go of the rest");
            }
            _ => {}
        }
    }
}

/// What a deploy past cutover still waits for, in words.
pub(super) fn unfinished(survey: &Survey<'_>) -> Vec<String> {
    let mut waits = Vec::new();
    let rolling = survey.env.rolling;
    for (name, group) in &survey.groups {
        if !group.old.is_empty() {
            waits.push(format!("{} old of {name} still to drain", group.old.len()));
        }
        for seat in group.draining.iter().filter(|seat| Some(seat.instance.deploy) != rolling) {
            waits.extend(survey.edges.behind(seat.instance.routed));
        }
    }
    for (_, route) in survey.state.routes_of(survey.env_id) {
        waits.extend(survey.edges.behind(route.routed));
    }
    waits.sort();
    waits.dedup();
    waits
}

/// The first instance of `count` to be placed of a process of the target.
pub(super) fn ask(survey: &Survey<'_>, name: &Name, count: u32) -> Option<Ask> {
    let process = survey.release?.manifest.processes.get(name)?;
    Some(Ask { env: survey.env_id, process: name.clone(), memory: process.memory, cpu: process.cpu, count })
}

fn failure_of(survey: &Survey<'_>, deploy: &Deploy) -> Option<DeployFailure> {
    if deploy.failures >= deploy.attempts {
        let unknown = || (Reason::RuntimeFailed, String::new());
        let (reason, detail) = deploy.last_failure.clone().unwrap_or_else(unknown);
        return Some(DeployFailure::Attempts { reason, detail });
    }
    (survey.now >= deploy.deadline)
        .then(|| DeployFailure::Deadline { waiting: super::explain::waiting(survey) })
}

/// When a draining instance is stopped, though edges have not let go of it.
fn drain_end(observed: &Observed, since: Timestamp, wait: DurationMs) -> Timestamp {
    since.max(observed.since).plus(wait)
}

/// When time alone will change what [`rollout`] returns, if it will.
pub fn next_wake(state: &State, env: EnvId, observed: &Observed, now: Timestamp) -> Option<Timestamp> {
    let survey = Survey::new(state, env, observed, now)?;
    let mut times: Vec<Timestamp> = Vec::new();
    if let Mode::Rolling(_, deploy) = survey.mode
        && deploy.state != DeployState::Cutover
    {
        times.push(deploy.deadline);
    }
    if survey.groups.values().any(|group| survey.room(group) > 0) {
        times.extend(survey.held_until());
    }
    let draining = survey.groups.values().flat_map(|group| &group.draining);
    times.extend(draining.flat_map(|seat| {
        [limits::DRAIN_OPEN, limits::DRAIN_WAIT].map(|wait| drain_end(observed, seat.instance.since, wait))
    }));
    if !times.is_empty() {
        let silent = edge_nodes(state, observed).map(|(_, _, last)| last.plus(limits::LEASE_OFFLINE));
        times.extend(silent);
    }
    times.into_iter().filter(|time| *time > now).min()
}

/// The prefix and the tail of an instance's id, for people; the parts between are mostly alike.
pub(super) fn short(id: InstanceId) -> String {
    let text = id.to_string();
    let tail = text.len().saturating_sub(6);
    format!("ins_…{}", &text[tail..])
}
