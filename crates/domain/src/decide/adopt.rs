//! Adoption: taking over what nodes hold of another history.

use super::{Decision, done, member::bounded};
use crate::{
    confirmed::Confirmed,
    event::Event,
    rejection::Rejection,
    state::{State, Taken},
};
use types::{InstanceId, history::Held, limits};

/// Takes over what nodes hold of other histories, each up to where it is named.
pub(super) fn adopt(
    state: &State,
    cluster: &str,
    taken: &[Taken],
    absent: &[InstanceId],
    confirmed: &Confirmed,
) -> Result<Decision, Rejection> {
    bounded(confirmed)?;
    for (what, count, limit) in [
        ("histories to adopt", taken.len(), limits::ADOPTED_LOGS),
        ("instances that do not run", absent.len(), limits::ADOPT_ABSENT),
    ] {
        if count > limit {
            return Err(Rejection::TooMany { what: what.to_owned(), limit: limit as u64 });
        }
    }
    let held = |each: &Taken| Held { cluster: each.cluster.clone(), ..Held::from(each.generation) };
    let is_log = |held: &Held| held.is_sound() && !held.cluster.is_empty();
    let own = Held { cluster: cluster.to_owned(), ..Held::default() };
    if !is_log(&own) || !taken.iter().all(|each| is_log(&held(each))) {
        let what = "the name of a plan".to_owned();
        return Err(Rejection::Invalid { what, why: "wants the identity of its log and a number in bounds" });
    }
    if taken.iter().all(|each| state.has_adopted(cluster, &held(each))) {
        return Ok(done(Vec::new(), "it was adopted before"));
    }
    let adopted = Event::ClusterAdopted {
        cluster: cluster.to_owned(),
        taken: taken.to_vec(),
        absent: absent.to_vec(),
        confirmed: confirmed.clone(),
    };
    Ok(done(vec![adopted], "adopted what the nodes hold"))
}
