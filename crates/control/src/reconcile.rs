//! The reconcilers: loops that ask the planners what is missing and propose it.
//!
//! They hold no truth. Each pass reads the durable state and what nodes said, lets a pure planner
//! say what is still missing, proposes that through the same sequencer as everybody else, and waits
//! for the answers before it looks again, so nothing is proposed twice. A restart loses nothing: the
//! next pass sees what the last one did. A poke wakes them; a timer does too, should a poke be lost,
//! and however many pokes come.

use crate::{
    sequencer::Proposal,
    writer::{Answer, Core},
};
use domain::{
    Actor, State,
    plan::{self, Observed, Step},
    state::RouteState,
};
use futures_util::future::join_all;
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;
use types::{EnvId, EventId, Timestamp};

/// How long the rollout reconciler rests at the most.
const TICK: Duration = Duration::from_millis(500);
/// Between two looks at the leases.
const LIVENESS_TICK: Duration = Duration::from_secs(1);
/// Between two looks for what may be forgotten.
const GARBAGE_TICK: Duration = Duration::from_secs(60);

/// What a pass found of one environment, so that the next can tell whether to look again.
#[derive(Clone, Copy, Debug)]
struct Looked {
    /// The environment's last change that the pass knew of.
    at: EventId,
    /// The last change of any node: one that is drained or disabled concerns what is at rest, too.
    nodes: EventId,
    /// When time alone makes it worth looking again.
    wake: Option<Timestamp>,
    /// Something is under way that depends on what nodes say.
    restless: bool,
}

/// Moves every environment towards what is declared, until told to stop.
pub async fn rollout(core: Core, shutdown: CancellationToken) {
    let mut applied = core.applied();
    let mut said = core.observations().changed();
    let mut looked: BTreeMap<EnvId, Looked> = BTreeMap::new();
    let mut tick = timer(TICK);
    let mut news = true;
    while leads(&core, &shutdown).await {
        let (state, observed, now) = (core.state(), core.observations().snapshot(), core.now());
        let nodes = state.nodes.values().map(|node| node.changed).max().unwrap_or(EventId::ZERO);
        // What was deleted is not looked at again.
        looked.retain(|id, _| state.envs.contains_key(id));
        for (id, env) in &state.envs {
            let due = looked.get(id).is_none_or(|last| {
                last.at < env.changed
                    || last.nodes != nodes
                    || last.wake.is_some_and(|wake| wake <= now)
                    || (news && last.restless)
            });
            if due {
                let steps = plan::rollout(&state, *id, &observed, now);
                let restless = !steps.is_empty() || is_restless(&state, *id);
                let wake = plan::next_wake(&state, *id, &observed, now);
                looked.insert(*id, Looked { at: env.changed, nodes, wake, restless });
                // An answer may not come before the writer has stopped; nothing is lost with it.
                if shutdown.run_until_cancelled(propose(&core, steps)).await.is_none() {
                    return;
                }
            }
        }
        news = tokio::select! {
            woken = next_wake(&mut applied, &mut said, &mut tick) => match woken {
                Some(woken) => woken == Woken::News,
                None => return,
            },
            () = shutdown.cancelled() => return,
        };
    }
}

/// Waits until this node sequences; false at the end. Another that reconciled as well would be
/// refused, and would plan without what nodes say.
async fn leads(core: &Core, shutdown: &CancellationToken) -> bool {
    let mut authority = core.authority();
    let held = shutdown.run_until_cancelled(authority.wait_for(Option::is_some)).await;
    match held {
        Some(Ok(_)) => true,
        // Its sender is gone: what it says now is for ever.
        Some(Err(_)) => core.leads(),
        None => false,
    }
}

/// Why a reconciler looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    /// Something was written.
    Event,
    /// A node said something new, or it is time to look at everything.
    News,
}

/// Waits for the next reason to look; none when there is nobody left to give one. The timer comes
/// first, and is not begun anew by what else happens: under load something always does.
async fn next_wake(
    applied: &mut watch::Receiver<EventId>,
    said: &mut watch::Receiver<u64>,
    tick: &mut Interval,
) -> Option<Woken> {
    tokio::select! {
        biased;
        _ = tick.tick() => Some(Woken::News),
        changed = said.changed() => changed.ok().map(|()| Woken::News),
        changed = applied.changed() => changed.ok().map(|()| Woken::Event),
    }
}

/// Fires at once and then every `period`, or as soon after that as somebody waits for it.
fn timer(period: Duration) -> Interval {
    let mut timer = tokio::time::interval(period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    timer
}

/// Whether an acknowledgement or a lease could make a difference to an environment.
fn is_restless(state: &State, id: EnvId) -> bool {
    state.envs.get(&id).is_some_and(|env| env.rolling.is_some())
        || state.routes_of(id).any(|(_, route)| route.state != RouteState::Active)
        || state.instances_of(id).any(|(_, instance)| !instance.is_live())
        || state.envs.get(&id).is_some_and(|env| {
            let live = state.instances_of(id).filter(|(_, instance)| instance.is_live()).count();
            live as u64 != env.scale.values().map(|count| u64::from(*count)).sum::<u64>()
        })
        || state
            .instances_of(id)
            .any(|(_, instance)| state.nodes.get(&instance.node).is_none_or(|node| !node.takes_instances()))
}

/// Keeps the health of nodes in step with their leases, until told to stop.
pub async fn liveness(core: Core, shutdown: CancellationToken) {
    every(LIVENESS_TICK, core, shutdown, plan::liveness).await;
}

/// Moves the horizon of requests, until told to stop.
pub async fn garbage(core: Core, shutdown: CancellationToken) {
    every(GARBAGE_TICK, core, shutdown, |state, _, now| plan::garbage(state, now)).await;
}

async fn every(
    tick: Duration,
    core: Core,
    shutdown: CancellationToken,
    look: impl Fn(&State, &Observed, Timestamp) -> Vec<Step>,
) {
    let mut tick = timer(tick);
    while shutdown.run_until_cancelled(tick.tick()).await.is_some() && leads(&core, &shutdown).await {
        let steps = look(&core.state(), &core.observations().snapshot(), core.now());
        if shutdown.run_until_cancelled(propose(&core, steps)).await.is_none() {
            return;
        }
    }
}

/// Proposes steps together and waits for all answers.
async fn propose(core: &Core, steps: Vec<Step>) {
    let asked = steps.into_iter().map(|Step { command, cause, why }| async move {
        let proposal = Proposal {
            command: command.clone(),
            actor: Actor::System,
            judged: None,
            request: None,
            cause: Some(cause),
        };
        match core.propose(proposal).await {
            Answer::Executed { .. } => tracing::debug!(?command, %why, "reconciled"),
            // The state moved between the look and the decision; the next look sees it.
            Answer::Refused { text, .. } => tracing::debug!(?command, %why, %text, "no longer wanted"),
            Answer::Unavailable { why: trouble, .. } | Answer::Unknown { why: trouble } => {
                tracing::warn!(?command, %why, %trouble, "a step was not written");
            }
        }
    });
    join_all(asked).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::Command;
    use rt::{OsRandom, SimClock};
    use std::sync::Arc;
    use tokio::sync::Notify;

    #[tokio::test]
    async fn a_reconciler_that_waits_for_an_answer_stops_when_it_is_told_to() {
        let clock = Arc::new(SimClock::new(Timestamp::from_ms(1_800_000_000_000)));
        let log = Arc::new(log::MemoryLog::new());
        let (core, _never_run) = Core::open(log, clock, Arc::new(OsRandom)).expect("a sound log");
        let (shutdown, asked) = (CancellationToken::new(), Arc::new(Notify::new()));
        let tell = Arc::clone(&asked);
        let look = move |state: &State, _: &Observed, now| {
            tell.notify_one();
            vec![Step { command: Command::MoveHorizon { to: now }, cause: state.head, why: String::new() }]
        };
        let running = tokio::spawn(every(Duration::from_millis(1), core, shutdown.clone(), look));
        asked.notified().await;
        shutdown.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(10), running).await;
        ended.expect("nobody ever answers it").expect("no panic");
    }

    #[tokio::test]
    async fn a_reconciler_looks_at_everything_in_time_however_much_is_written() {
        let (write, mut applied) = watch::channel(EventId::ZERO);
        let (_nodes, mut said) = watch::channel(0);
        let mut tick = timer(Duration::from_millis(20));
        tick.tick().await;
        let begun = std::time::Instant::now();
        // Whenever it looks for a reason to look, something has just been written.
        let mut id = EventId::ZERO;
        loop {
            id = id.next();
            write.send_replace(id);
            if next_wake(&mut applied, &mut said, &mut tick).await == Some(Woken::News) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "it never looks at everything");
        }
    }
}
