//! The way from the names in a path to the things they name, within one org.

use super::{
    access::Caller,
    answer::{Result, missing},
};
use domain::{State, state::Environment};
use std::sync::Arc;
use types::{AppId, EnvId, Name, OrgId};

/// An environment that was found, with its names.
pub(super) struct Place<'a> {
    pub(super) org: OrgId,
    pub(super) env: EnvId,
    pub(super) app_name: Name,
    pub(super) found: &'a Arc<Environment>,
}

/// Finds an app of the caller's org.
pub(super) fn app(state: &State, caller: &Caller, org: &str, app: &str) -> Result<(OrgId, AppId, Name)> {
    let org_id = caller.org(state, org)?;
    let name = app.parse::<Name>().ok();
    let found = name.and_then(|name| Some((state.app_names.get(&(org_id, name.clone())).copied()?, name)));
    let (id, name) = found.ok_or_else(|| missing(format_args!("app {app}")))?;
    Ok((org_id, id, name))
}

/// Finds an environment of the caller's org.
pub(super) fn env<'a>(
    state: &'a State,
    caller: &Caller,
    (org_name, app_name, env_name): (&str, &str, &str),
) -> Result<Place<'a>> {
    let (org, app, name) = app(state, caller, org_name, app_name)?;
    let id = env_name.parse::<Name>().ok().and_then(|env| state.env_names.get(&(app, env)).copied());
    let found = id.and_then(|id| Some((id, state.envs.get(&id)?)));
    let (env, found) = found.ok_or_else(|| missing(format_args!("environment {app_name}/{env_name}")))?;
    Ok(Place { org, env, app_name: name, found })
}
