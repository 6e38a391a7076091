//! An environment as the rollout planner sees it: what is wanted of each process, what there is,
//! what of it is kept and what has to go. Planning and explaining both start from here, so that an
//! explanation is about the very facts that the planner acts on.

use super::{Observed, backoff, edges::Edges};
use crate::{
    derive::ways,
    state::{Deploy, DeployState, Environment, Instance, InstanceState, NodeState, Release, State},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use types::{DeployId, EnvId, InstanceId, Name, ReleaseId, RouteId, Timestamp};

/// What the environment is doing.
#[derive(Clone, Copy)]
pub(super) enum Mode<'a> {
    /// Nothing has ever served and nothing is under way.
    Idle,
    /// A deploy has succeeded and is kept running.
    Steady(DeployId),
    /// A deploy is under way.
    Rolling(DeployId, &'a Deploy),
}

/// One instance and what the planner makes of it.
#[derive(Clone)]
pub(super) struct Seat<'a> {
    pub(super) id: InstanceId,
    pub(super) instance: &'a Arc<Instance>,
    /// Ready, and every edge knows.
    pub(super) available: bool,
    /// The routes through which it is reached when it is ready.
    pub(super) ways: BTreeSet<RouteId>,
}

impl Seat<'_> {
    pub(super) fn ready(&self) -> bool {
        self.instance.state == InstanceState::Ready
    }

    /// Where it is counted: among all, and by each route.
    fn counted(&self) -> impl Iterator<Item = Option<RouteId>> {
        std::iter::once(None).chain(self.ways.iter().copied().map(Some))
    }
}

/// How many of a process are available, in all and by each route that leads to it: during a rollout
/// one release may answer a route that the other does not.
pub(super) struct Available {
    desired: u32,
    /// By route; `None` counts all.
    ways: BTreeMap<Option<RouteId>, u32>,
}

impl Available {
    /// Takes a seat off, and says how many are left, if without it enough are left wherever it is
    /// reached.
    pub(super) fn spare(&mut self, seat: &Seat<'_>) -> Option<u32> {
        let count = |way: &Option<RouteId>| self.ways.get(way).copied().unwrap_or(0);
        let left = seat.counted().map(|way| count(&way).saturating_sub(u32::from(seat.available))).min()?;
        if left < self.desired {
            return None;
        }
        if seat.available {
            for way in seat.counted() {
                *self.ways.entry(way).or_default() -= 1;
            }
        }
        Some(left)
    }
}

/// One process: what is wanted of it and what there is.
#[derive(Default)]
pub(super) struct Group<'a> {
    /// How many are wanted.
    pub(super) desired: u32,
    /// The target's manifest has this process.
    pub(super) declared: bool,
    /// The routes through which the target's instances are reached.
    pub(super) ways: BTreeSet<RouteId>,
    /// A route leads to old ones that the target's do not answer: it moves, or goes, at cutover, and
    /// until then only the old ones serve it.
    pub(super) held: bool,
    /// Live and to stay.
    pub(super) keep: Vec<Seat<'a>>,
    /// Live, serving or able to, and to be replaced.
    pub(super) old: Vec<Seat<'a>>,
    /// Live, of a deploy that came to nothing, and not serving: of no use to anybody.
    pub(super) useless: Vec<Seat<'a>>,
    /// Live, and has to go whatever is wanted: its node is disabled, or its environment deleted.
    pub(super) evicted: Vec<Seat<'a>>,
    /// Can never run.
    pub(super) failed: Vec<Seat<'a>>,
    /// Take no new connection; not released yet.
    pub(super) draining: Vec<Seat<'a>>,
}

impl Group<'_> {
    pub(super) fn kept_available(&self) -> u32 {
        self.keep.iter().filter(|seat| seat.available).count() as u32
    }

    pub(super) fn live(&self) -> u32 {
        (self.keep.len() + self.old.len()) as u32
    }

    pub(super) fn available(&self) -> Available {
        let mut ways = BTreeMap::<Option<RouteId>, u32>::new();
        for seat in self.keep.iter().chain(&self.old).filter(|seat| seat.available) {
            seat.counted().for_each(|way| *ways.entry(way).or_default() += 1);
        }
        Available { desired: self.desired, ways }
    }

    /// All that is wanted is available and nothing is left to be replaced before cutover.
    pub(super) fn is_rolled(&self) -> bool {
        self.keep.len() as u32 == self.desired
            && self.kept_available() == self.desired
            && (self.old.is_empty() || self.held)
            && self.useless.is_empty()
            && self.evicted.is_empty()
    }
}

/// Everything about one environment that a pass decides on.
pub(super) struct Survey<'a> {
    pub(super) state: &'a State,
    pub(super) env_id: EnvId,
    pub(super) env: &'a Arc<Environment>,
    pub(super) observed: &'a Observed,
    pub(super) now: Timestamp,
    pub(super) mode: Mode<'a>,
    /// What the target runs.
    pub(super) release: Option<&'a Arc<Release>>,
    pub(super) edges: Edges,
    pub(super) groups: BTreeMap<Name, Group<'a>>,
    /// The routes through which a process of a release is reached. Instances are many, releases few.
    ways: BTreeMap<(ReleaseId, Name), BTreeSet<RouteId>>,
}

impl<'a> Survey<'a> {
    pub(super) fn new(
        state: &'a State,
        env_id: EnvId,
        observed: &'a Observed,
        now: Timestamp,
    ) -> Option<Self> {
        let env = state.envs.get(&env_id)?;
        let find = |id: Option<DeployId>| id.and_then(|id| Some((id, state.deploys.get(&id)?)));
        let (mode, target) = match (find(env.rolling), find(env.serving)) {
            (Some((id, deploy)), _) => (Mode::Rolling(id, deploy), Some(deploy)),
            (None, Some((id, deploy))) => (Mode::Steady(id), Some(deploy)),
            (None, None) => (Mode::Idle, None),
        };
        let release = target.and_then(|deploy| state.releases.get(&deploy.release));
        let mut groups = BTreeMap::<Name, Group<'a>>::new();
        for (name, process) in release.iter().flat_map(|release| &release.manifest.processes) {
            let group = groups.entry(name.clone()).or_default();
            group.declared = true;
            group.desired = env.scale.get(name).copied().unwrap_or(process.replicas);
            group.ways = release.map_or_else(BTreeSet::new, |release| ways(state, env_id, release, name));
        }
        let edges = Edges::new(state, observed, now);
        let ways = BTreeMap::new();
        let mut survey = Self { state, env_id, env, observed, now, mode, release, edges, groups, ways };
        for (id, instance) in state.instances_of(env_id) {
            survey.seat(id, instance);
        }
        Some(survey)
    }

    fn seat(&mut self, id: InstanceId, instance: &'a Arc<Instance>) {
        let available = instance.state == InstanceState::Ready && self.edges.acknowledged(instance.routed);
        let (leaving, useless) = (self.is_leaving(instance), self.is_useless(instance));
        let target = match self.mode {
            Mode::Idle => None,
            Mode::Steady(id) | Mode::Rolling(id, _) => Some(id),
        };
        let rolling = matches!(self.mode, Mode::Rolling(..));
        let (releases, process) = (&self.state.releases, &instance.process);
        let reached = || Some(ways(self.state, self.env_id, releases.get(&instance.release)?, process));
        let known = self.ways.entry((instance.release, process.clone()));
        let ways = known.or_insert_with(|| reached().unwrap_or_default()).clone();
        let group = self.groups.entry(instance.process.clone()).or_default();
        // What a failed deploy left behind and serves well is kept until somebody decides otherwise.
        let serves_on = !rolling && instance.state == InstanceState::Ready && group.ways.is_subset(&ways);
        let is_held = rolling && group.declared && !ways.is_subset(&group.ways);
        let seat = Seat { id, instance, available, ways };
        match instance.state {
            InstanceState::Stopped => {}
            InstanceState::Failed => group.failed.push(seat),
            InstanceState::Draining if instance.released => {}
            InstanceState::Draining => group.draining.push(seat),
            _ if self.state.is_evicted(instance) => group.evicted.push(seat),
            _ if useless => group.useless.push(seat),
            _ if !leaving && (Some(instance.deploy) == target || serves_on) => group.keep.push(seat),
            _ => {
                group.held |= is_held;
                group.old.push(seat);
            }
        }
    }

    /// Its node is being emptied.
    fn is_leaving(&self, instance: &Instance) -> bool {
        self.state.nodes.get(&instance.node).is_none_or(|node| node.state == NodeState::Draining)
    }

    /// It belongs to a deploy that came to nothing, and it does not serve. While another deploy is
    /// under way one that has served before gets the chance to come back.
    fn is_useless(&self, instance: &Instance) -> bool {
        let wanted = Some(instance.deploy) == self.env.rolling || Some(instance.deploy) == self.env.serving;
        let hopeless = match self.mode {
            Mode::Rolling(..) => !instance.was_ready,
            Mode::Steady(_) => true,
            Mode::Idle => !instance.was_ready,
        };
        !wanted && hopeless && instance.state != InstanceState::Ready
    }

    /// Until when nothing is placed, because too much failed just before.
    pub(super) fn held_until(&self) -> Option<Timestamp> {
        let until = self.env.last_failed.plus(backoff(self.env.failed_in_a_row));
        (self.env.failed_in_a_row > 0 && until > self.now).then_some(until)
    }

    /// How many may be placed now: what is missing, and at most one more than wanted at a time. Beside
    /// old ones that have to stay until cutover there is no other way than to place all.
    pub(super) fn room(&self, group: &Group<'_>) -> u32 {
        let missing = group.desired.saturating_sub(group.keep.len() as u32);
        if group.held {
            return missing;
        }
        missing.min((group.desired + 1).saturating_sub(group.live()))
    }

    /// The deploy is past the point where its instances replace others one by one.
    pub(super) fn is_cut_over(&self) -> bool {
        matches!(self.mode, Mode::Rolling(_, deploy) if deploy.state == DeployState::Cutover)
    }
}
