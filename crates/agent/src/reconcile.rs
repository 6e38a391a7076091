//! What to do next, from what the plan wants and what is there. Pure: the agent does the steps.
//!
//! Invariants, each with a property below:
//!
//! - Without a plan nothing is done: an agent that lost its plan waits for one.
//! - What runs as planned is adopted or left alone, never started again.
//! - What the plan does not hold, or wants stopped, is stopped and then removed.
//! - When all is as wanted, nothing is done.

use std::{collections::BTreeMap, sync::Arc};
use types::{
    InstanceId,
    plan::{Desired, InstanceSpec, NodePlan},
};

/// Everything the agent knows of its instances, complete.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) instances: BTreeMap<InstanceId, Seen>,
}

/// One instance as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// What there is of it on this machine.
    pub(crate) trace: Trace,
    /// What its supervisor was told last, if it has one.
    pub(crate) told: Option<Wish>,
    /// It has been reported as collected.
    pub(crate) collected: bool,
}

/// What there is of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trace {
    /// Nothing.
    Nothing,
    /// Files, or a run that has ended.
    Remains,
    /// A process.
    Runs { pid: i32 },
}

/// What a supervisor is to achieve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// It runs, as specified.
    Run(Arc<InstanceSpec>),
    /// It is stopped and gone.
    Stop,
}

/// How a supervisor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// There is nothing yet.
    Fresh,
    /// There is a run that ended while nobody looked.
    Remains,
    /// It runs.
    Adopt { pid: i32 },
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Give the instance a supervisor.
    Supervise { id: InstanceId, begin: Begin, wish: Wish },
    /// Tell its supervisor something new.
    Tell { id: InstanceId, wish: Wish },
}

/// The steps that bring what is nearer to what is wanted, in the order of ids.
pub(crate) fn plan(desired: Option<&NodePlan>, observed: &Observed) -> Vec<Step> {
    let Some(desired) = desired else { return Vec::new() };
    let mut steps = Vec::new();
    let nothing = Seen { trace: Trace::Nothing, told: None, collected: false };
    let mut ids: Vec<InstanceId> =
        desired.instances.keys().chain(observed.instances.keys()).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    for id in ids {
        let wanted = desired.instances.get(&id);
        let seen = observed.instances.get(&id).unwrap_or(&nothing);
        let wish = match wanted {
            Some(planned) if planned.desired == Desired::Running => Wish::Run(Arc::new(planned.spec.clone())),
            _ => Wish::Stop,
        };
        steps.extend(step(id, wish, wanted.is_some(), seen));
    }
    steps
}

fn step(id: InstanceId, wish: Wish, is_planned: bool, seen: &Seen) -> Option<Step> {
    match &seen.told {
        Some(told) if *told == wish => return None,
        // What was told to stop goes its way to the end; then it may be begun anew.
        Some(Wish::Stop) => return None,
        Some(Wish::Run(_)) => return Some(Step::Tell { id, wish }),
        None => {}
    }
    let begin = match seen.trace {
        Trace::Nothing => Begin::Fresh,
        Trace::Remains => Begin::Remains,
        Trace::Runs { pid } => Begin::Adopt { pid },
    };
    // Nothing of it is here, and nobody has to be told so.
    let gone = begin == Begin::Fresh && (seen.collected || !is_planned);
    if wish == Wish::Stop && gone { None } else { Some(Step::Supervise { id, begin, wish }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;
    use proptest::prelude::*;

    fn seen(trace: Trace) -> Seen {
        Seen { trace, told: None, collected: false }
    }

    fn observed(id: u128, what: Seen) -> Observed {
        Observed { instances: [(InstanceId::from_u128(id), what)].into() }
    }

    #[test]
    fn without_a_plan_nothing_is_done() {
        assert_eq!(plan(None, &observed(1, seen(Trace::Runs { pid: 7 }))), []);
    }

    #[test]
    fn what_is_missing_is_started_and_what_runs_is_adopted() {
        let wanted = fixture::plan(1, &[1, 2]);
        let steps = plan(Some(&wanted), &observed(1, seen(Trace::Runs { pid: 7 })));
        let begins: Vec<Begin> = steps
            .iter()
            .map(|step| match step {
                Step::Supervise { begin, wish: Wish::Run(_), .. } => *begin,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(begins, [Begin::Adopt { pid: 7 }, Begin::Fresh]);
    }

    #[test]
    fn what_the_plan_does_not_hold_is_stopped() {
        let wanted = fixture::plan(1, &[]);
        let id = InstanceId::from_u128(3);
        let runs = observed(3, seen(Trace::Runs { pid: 7 }));
        let stop = Step::Supervise { id, begin: Begin::Adopt { pid: 7 }, wish: Wish::Stop };
        assert_eq!(plan(Some(&wanted), &runs), [stop]);
        let remains = Step::Supervise { id, begin: Begin::Remains, wish: Wish::Stop };
        assert_eq!(plan(Some(&wanted), &observed(3, seen(Trace::Remains))), [remains]);
    }

    #[test]
    fn a_stopped_instance_is_reported_as_gone_once() {
        let mut wanted = fixture::plan(1, &[1]);
        wanted.instances.values_mut().for_each(|planned| planned.desired = Desired::Stopped);
        assert_eq!(plan(Some(&wanted), &Observed::default()).len(), 1, "its end has to be reported");
        let gone = Seen { trace: Trace::Nothing, told: None, collected: true };
        assert_eq!(plan(Some(&wanted), &observed(1, gone)), []);
    }

    fn any_seen() -> impl Strategy<Value = Seen> {
        let trace = prop_oneof![Just(Trace::Nothing), Just(Trace::Remains), Just(Trace::Runs { pid: 7 }),];
        let told = prop_oneof![
            Just(None),
            Just(Some(Wish::Stop)),
            Just(Some(Wish::Run(Arc::new(fixture::spec(1)))))
        ];
        (trace, told, any::<bool>()).prop_map(|(trace, told, collected)| Seen { trace, told, collected })
    }

    proptest! {
        #[test]
        fn doing_the_steps_leaves_nothing_to_do(
            all in prop::collection::btree_map(0u128..6, any_seen(), 0..6),
            wanted in prop::collection::btree_set(0u128..6, 0..6),
        ) {
            let ids: Vec<u128> = wanted.into_iter().collect();
            let wanted = fixture::plan(1, &ids);
            let mut observed = Observed {
                instances: all.into_iter().map(|(id, seen)| (InstanceId::from_u128(id), seen)).collect(),
            };
            for step in plan(Some(&wanted), &observed) {
                let (id, wish) = match step {
                    Step::Supervise { id, wish, begin } => {
                        if let Some(Seen { trace: Trace::Runs { pid }, .. }) = observed.instances.get(&id) {
                            prop_assert_eq!(begin, Begin::Adopt { pid: *pid }, "what runs is never started again");
                        }
                        (id, wish)
                    }
                    Step::Tell { id, wish } => (id, wish),
                };
                prop_assert_eq!(wish == Wish::Stop, !wanted.instances.contains_key(&id));
                let seen = observed.instances.entry(id).or_insert(seen(Trace::Nothing));
                seen.told = Some(wish);
            }
            prop_assert_eq!(plan(Some(&wanted), &observed), []);
        }
    }
}
