//! Deletions: an environment or an app with all it has.
//!
//! Names and routes are free with the event itself. What still runs is drained and stopped by the
//! planner, as edges let go of it; the environment is forgotten with its last instance.

use super::{Decision, done, member::bounded, missing};
use crate::{
    confirmed::Confirmed,
    content::{self, Content},
    event::{DeployFailure, Event},
    rejection::Rejection,
    state::State,
};
use types::{AppId, EnvId};

/// Deletes an environment.
pub(super) fn environment(
    state: &State,
    id: EnvId,
    shown: &Content,
    confirmed: Option<&Confirmed>,
) -> Result<Decision, Rejection> {
    let env = state.envs.get(&id).filter(|_| !state.is_deleted(id));
    let env = env.ok_or_else(|| missing(format!("environment {id}")))?;
    let label = state.env_label(id);
    check(&Content::of_env(state, id), shown, confirmed)?;
    if confirmed.is_none() && !state.is_idle(id) {
        return Err(Rejection::Unconfirmed { what: format!("environment {label}") });
    }
    let mut decision = done(gone(state, id, confirmed)?, format!("deleted environment {label}"));
    (decision.done.app, decision.done.env) = (Some(env.app), Some(id));
    Ok(decision)
}

/// Deletes an app with its environments.
pub(super) fn app(
    state: &State,
    id: AppId,
    shown: &Content,
    confirmed: Option<&Confirmed>,
) -> Result<Decision, Rejection> {
    let app =
        state.apps.get(&id).filter(|app| state.app_names.get(&(app.org, app.name.clone())) == Some(&id));
    let app = app.ok_or_else(|| missing(format!("app {id}")))?;
    check(&Content::of_app(state, id), shown, confirmed)?;
    let mut events = Vec::new();
    for (env, _) in content::environments(state, id) {
        if confirmed.is_none() {
            return Err(Rejection::Unconfirmed { what: format!("app {}", app.name) });
        }
        events.extend(gone(state, env, confirmed)?);
    }
    events.push(Event::AppDeleted { app: id, org: app.org, confirmed: confirmed.cloned() });
    let mut decision = done(events, format!("deleted app {}", app.name));
    decision.done.app = Some(id);
    Ok(decision)
}

fn check(now: &Content, shown: &Content, confirmed: Option<&Confirmed>) -> Result<(), Rejection> {
    confirmed.map_or(Ok(()), bounded)?;
    now.unmoved_since(shown)
}

/// How many events the end of these environments is. A command causes at most
/// [`types::limits::COMMAND_EVENTS`], an app's own among them.
pub fn ending(state: &State, envs: impl IntoIterator<Item = EnvId>) -> usize {
    envs.into_iter().map(|env| gone(state, env, None).map_or(0, |events| events.len())).sum()
}

/// What the end of an environment is.
fn gone(state: &State, id: EnvId, confirmed: Option<&Confirmed>) -> Result<Vec<Event>, Rejection> {
    let org = state.org_of(id).ok_or_else(|| missing(format!("environment {id}")))?;
    let under_way = state.envs.get(&id).and_then(|env| env.rolling);
    let failed = under_way.map(|deploy| Event::DeployFailed { deploy, failure: DeployFailure::Deleted });
    let routes = state.routes_of(id).map(|(route, _)| Event::RouteRemoved { route });
    let deleted = Event::EnvironmentDeleted { env: id, org, confirmed: confirmed.cloned() };
    Ok(failed.into_iter().chain(routes).chain([deleted]).collect())
}
