//! What a problem may say about the request it met.
//!
//! A refusal that the log holds is the last word on a request. Every other problem (a full queue, a
//! silent registry, a condition that does not hold) is about one copy of it, and other copies may
//! have run, or be about to. So a problem says *not executed* of a request only when the log holds
//! no verdict on it and no other copy is under way here.

use super::{Http, access::Caller, answer::Carried, requests};
use api::{Code, Outcome, Problem};
use domain::{State, Verdict, state::Decided};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};
use types::RequestId;

/// The requests of which copies are under way: read, and not answered by the log yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies(Arc<Mutex<BTreeMap<RequestId, usize>>>);

/// One copy under way, until this is dropped.
#[derive(Debug)]
pub(super) struct UnderWay {
    copies: Copies,
    id: RequestId,
}

impl Copies {
    /// One more copy of this request.
    pub(super) fn enter(&self, id: RequestId) -> UnderWay {
        *self.lock().entry(id).or_default() += 1;
        UnderWay { copies: self.clone(), id }
    }

    fn is_under_way(&self, id: RequestId) -> bool {
        self.lock().contains_key(&id)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<RequestId, usize>> {
        self.0.lock().expect("no thread panics while it holds this")
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut copies = self.copies.lock();
        let left = copies.get_mut(&self.id).map_or(0, |count| {
            *count -= 1;
            *count
        });
        if left == 0 {
            copies.remove(&self.id);
        }
    }
}

/// Has a problem say of the request that was asked for what is known of it, unless the log itself
/// refused it. To be called when the copy that met the problem is not under way any more.
pub(super) fn tell(http: &Http, caller: Option<&Caller>, id: RequestId, carried: &mut Carried) {
    let Carried { problem, settled } = carried;
    if *settled {
        problem.request_id = problem.request_id.or(Some(id));
        return;
    }
    if matches!(problem.code, Code::Unauthenticated | Code::Forbidden) {
        // Whoever is not let in is told of no request, nor that nothing came of one that may have run.
        problem.request_id = None;
        if known(http, id, problem, |_, _| true) != Outcome::NotExecuted {
            problem.outcome = Outcome::Unknown;
        }
        return;
    }
    let outcome = known(http, id, problem, |state, decided| requests::is_visible(state, caller, decided));
    problem.request_id = problem.request_id.or(Some(id));
    if outcome != problem.outcome {
        problem.outcome = outcome;
        problem.hint = Some(format!("holdfast requests show {id}"));
    }
}

/// The same for a copy that this member could not hand on, and so knows nothing of: an earlier one may
/// have left its verdict here.
pub(super) fn recall(http: &Http, caller: Option<&Caller>, id: RequestId, problem: &mut Problem) {
    let state = http.core.state();
    let decided = state.requests.get(id).filter(|decided| requests::is_visible(&state, caller, decided));
    let outcome = match decided.map(|decided| &decided.verdict) {
        Some(Verdict::Executed(_)) => Outcome::Executed,
        Some(Verdict::Refused { .. } | Verdict::Voided) => Outcome::NotExecuted,
        None => return,
    };
    problem.request_id = Some(id);
    if outcome != problem.outcome {
        problem.outcome = outcome;
        problem.hint = Some(format!("holdfast requests show {id}"));
    }
}

/// What is known of a request, if its verdict is one to be looked at.
fn known(
    http: &Http,
    id: RequestId,
    problem: &Problem,
    is_looked_at: impl Fn(&State, &Decided) -> bool,
) -> Outcome {
    // In this order: a copy that is under way no more has left its verdict in the state.
    let under_way = http.copies.is_under_way(id) || http.core.in_doubt();
    let state = http.core.state();
    let decided = state.requests.get(id).filter(|decided| is_looked_at(&state, decided));
    match decided.map(|decided| &decided.verdict) {
        Some(Verdict::Executed(_)) => Outcome::Executed,
        Some(Verdict::Refused { .. } | Verdict::Voided) => Outcome::NotExecuted,
        None if under_way => Outcome::Unknown,
        None => problem.outcome,
    }
}
