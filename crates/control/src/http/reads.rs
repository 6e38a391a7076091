//! Reads of apps and environments. Each says which event it reflects, and waits for one if asked.

use super::{
    Http,
    access::Caller,
    answer::{At, Refused, Result, missing},
    input::{Asked, Places},
    place, rows, status,
};
use api::{
    AppRow, Code, DeployRow, EnvRow, EnvStatus, Explanation, InstanceRow, Page, PageQuery, Problem,
    ReleaseRow, RouteRow,
};
use axum::extract::State;
use domain::{State as Decided, view::Apps};
use std::{collections::BTreeSet, sync::Arc};
use types::{DeployId, EventId, limits};

type Names = (String, String, String);

/// The state, once it reflects what the reader asks for.
pub(super) async fn fresh(http: &Http, at_least: Option<EventId>) -> Result<Arc<Decided>> {
    if let Some(event) = at_least
        && let Err(not_yet) = http.core.wait_for(event).await
    {
        let head = http.core.head().event;
        if event > head {
            // Nothing of that number is known here, so nothing is said about it.
            let detail = format!("event {event} is not in this copy of the log, which ends at event {head}");
            return Err(Problem::new(Code::EventAhead, detail).into());
        }
        return Err(Problem::new(Code::NotVisibleYet, not_yet.to_string()).into());
    }
    Ok(http.core.state())
}

/// Which way a list goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Keys rise.
    Rising,
    /// Keys fall: the newest first.
    Falling,
}

/// Cuts a page out of rows that are in order of their keys. The cursor is the last key of a page,
/// so rows that come and go between two pages shift nothing.
pub(super) fn page<T>(rows: Vec<(String, T)>, query: &PageQuery, order: Order) -> Page<T> {
    let limit = query.limit.unwrap_or(limits::PAGE_ROWS).clamp(1, limits::PAGE_ROWS);
    let after = |key: &String| match (&query.cursor, order) {
        (None, _) => true,
        (Some(cursor), Order::Rising) => key > cursor,
        (Some(cursor), Order::Falling) => key < cursor,
    };
    let mut rest = rows.into_iter().filter(|(key, _)| after(key)).peekable();
    let mut taken = Vec::new();
    let mut last = None;
    while let Some((key, row)) = rest.next_if(|_| taken.len() < limit) {
        taken.push(row);
        last = Some(key);
    }
    Page { rows: taken, next: rest.peek().and(last) }
}

/// `GET …/apps`
pub(super) async fn apps(
    State(http): State<Http>,
    caller: Caller,
    Places(org): Places<String>,
    Asked(query): Asked<PageQuery>,
) -> Result<At<Page<AppRow>>> {
    let org = caller.org(&http.core.state(), &org)?;
    let state = fresh(&http, query.at_least).await?;
    // By their names: one that was deleted has none, though something of it may still be running.
    let of_org = state.app_names.iter().filter(|((of, _), _)| *of == org);
    let mut rows: Vec<_> = of_org.filter_map(|(_, id)| rows::app(&state, *id)).collect();
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    let keyed = rows.into_iter().map(|row| (row.name.to_string(), row)).collect();
    Ok(At::new(state.head, page(keyed, &query, Order::Rising)))
}

/// `GET …/apps/{app}`
pub(super) async fn app(
    State(http): State<Http>,
    caller: Caller,
    Places((org, app)): Places<(String, String)>,
    Asked(query): Asked<PageQuery>,
) -> Result<At<AppRow>> {
    caller.org(&http.core.state(), &org)?;
    let state = fresh(&http, query.at_least).await?;
    let (_, id, _) = place::app(&state, &caller, &org, &app)?;
    let row = rows::app(&state, id).ok_or_else(|| missing(format_args!("app {app}")))?;
    Ok(At::new(state.head, row))
}

/// `GET …/envs`
pub(super) async fn envs(
    State(http): State<Http>,
    caller: Caller,
    Places((org, app)): Places<(String, String)>,
    Asked(query): Asked<PageQuery>,
) -> Result<At<Page<EnvRow>>> {
    caller.org(&http.core.state(), &org)?;
    let state = fresh(&http, query.at_least).await?;
    let (_, id, name) = place::app(&state, &caller, &org, &app)?;
    let of_app = state.envs.iter().filter(|(env, found)| found.app == id && !state.is_deleted(**env));
    let mut rows: Vec<_> = of_app.map(|(id, env)| rows::env(&state, *id, env, &name)).collect();
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    let keyed = rows.into_iter().map(|row| (row.name.to_string(), row)).collect();
    Ok(At::new(state.head, page(keyed, &query, Order::Rising)))
}

/// Waits, finds the environment, and lets `answer` look at it.
async fn look<T>(
    http: &Http,
    caller: &Caller,
    names: &Names,
    at_least: Option<EventId>,
    answer: impl FnOnce(&Decided, &place::Place<'_>) -> Result<T>,
) -> Result<At<T>> {
    caller.org(&http.core.state(), &names.0)?;
    let state = fresh(http, at_least).await?;
    let place = place::env(&state, caller, (&names.0, &names.1, &names.2))?;
    let body = answer(&state, &place)?;
    Ok(At::new(state.head, body).tagged(place.found.changed))
}

/// `GET …/envs/{env}`
pub(super) async fn env(
    State(http): State<Http>,
    caller: Caller,
    Places(names): Places<Names>,
    Asked(query): Asked<PageQuery>,
) -> Result<At<EnvStatus>> {
    let (observed, now) = (http.core.observations().snapshot(), http.core.now());
    look(&http, &caller, &names, query.at_least, |state, place| {
        Ok(status::of(state, &view(&http), place, &observed, now))
    })
    .await
}

/// `GET …/releases`, the newest first.
pub(super) async fn releases(
    State(http): State<Http>,
    caller: Caller,
    Places(names): Places<Names>,
    Asked(query): Asked<PageQuery>,
) -> Result<At<Page<ReleaseRow>>> {
    look(&http, &caller, &names, query.at_least, |state, place| {
        let newest_first = place.found.releases.iter().rev();
        // By number: ids made in the same millisecond do not sort by birth.
        let rows = newest_first.filter_map(|id| rows::release(state, place.found, *id));
        let rows = rows.map(|row| (format!("{:020}", row.number), row));
        Ok(page(rows.collect(), &query, Order::Falling))
    })
    .await
}

/// `GET …/deploys`, the newest first.
pub(super) async fn deploys(
    State(http): State<Http>,
    caller: Caller,
    Places(names): Places<Names>,
    Asked(query): Asked<PageQuery>,
) -> Result<At<Page<DeployRow>>> {
    let (observed, now) = (http.core.observations().snapshot(), http.core.now());
    look(&http, &caller, &names, query.at_least, |state, place| {
        let apps = view(&http);
        let mut ids: BTreeSet<DeployId> = place.found.latest.into_iter().collect();
        ids.extend(apps.envs.get(&place.env).iter().flat_map(|env| &env.deploys));
        // By the event that started each; one that the view has not seen yet is the newest.
        let started = |id: &DeployId| Some(apps.deploys.get(id)?.steps.first()?.mark.event.get());
        let mut order: Vec<(u64, DeployId)> =
            ids.into_iter().map(|id| (started(&id).unwrap_or(u64::MAX), id)).collect();
        order.sort_by(|one, other| other.cmp(one));
        let rows = order.into_iter().filter_map(|(event, id)| {
            Some((format!("{event:020}"), status::deploy(state, &apps, id, &observed, now)?))
        });
        Ok(page(rows.collect(), &query, Order::Falling))
    })
    .await
}

/// The view of apps as it is now.
fn view(http: &Http) -> Apps {
    http.core.with_views(|views| views.apps().clone())
}

/// `GET …/deploys/{deploy}`
pub(super) async fn deploy(
    State(http): State<Http>,
    caller: Caller,
    Places((org, app, env, deploy)): Places<(String, String, String, String)>,
    Asked(query): Asked<PageQuery>,
) -> Result<At<DeployRow>> {
    let (observed, now) = (http.core.observations().snapshot(), http.core.now());
    look(&http, &caller, &(org, app, env), query.at_least, |state, place| {
        let gone = || -> Refused { missing(format_args!("deploy {deploy}")) };
        let id: DeployId = deploy.parse().map_err(|_| gone())?;
        let apps = view(&http);
        let owner = state.deploys.get(&id).map(|found| found.env);
        let owner = owner.or_else(|| apps.deploys.get(&id).map(|kept| kept.env));
        if owner != Some(place.env) {
            return Err(gone());
        }
        status::deploy(state, &apps, id, &observed, now).ok_or_else(gone)
    })
    .await
}

/// `GET …/instances`
pub(super) async fn instances(
    State(http): State<Http>,
    caller: Caller,
    Places(names): Places<Names>,
    Asked(query): Asked<PageQuery>,
) -> Result<At<Page<InstanceRow>>> {
    look(&http, &caller, &names, query.at_least, |state, place| {
        let all = state.instances_of(place.env);
        let rows = all.filter_map(|(id, found)| Some((id.to_string(), rows::instance(state, id, found)?)));
        Ok(page(rows.collect(), &query, Order::Rising))
    })
    .await
}

/// `GET …/explain`
pub(super) async fn explain(
    State(http): State<Http>,
    caller: Caller,
    Places(names): Places<Names>,
    Asked(query): Asked<PageQuery>,
) -> Result<At<Explanation>> {
    let (observed, now) = (http.core.observations().snapshot(), http.core.now());
    look(&http, &caller, &names, query.at_least, |state, place| {
        Ok(status::explanation(state, place, &observed, now))
    })
    .await
}

/// `GET …/routes`
pub(super) async fn routes(
    State(http): State<Http>,
    caller: Caller,
    Places(org): Places<String>,
    Asked(query): Asked<PageQuery>,
) -> Result<At<Page<RouteRow>>> {
    let org = caller.org(&http.core.state(), &org)?;
    let state = fresh(&http, query.at_least).await?;
    let plan = domain::derive::edge_plan(&state, &http.core.identity());
    let of_org = state.routes.iter().filter(|(_, route)| state.org_of(route.env) == Some(org));
    let rows =
        of_org.filter_map(|(id, route)| Some((id.to_string(), rows::route(&state, &plan, *id, route)?)));
    Ok(At::new(state.head, page(rows.collect(), &query, Order::Rising)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(order: Order, keys: &[&str], limit: usize) -> Vec<String> {
        let rows = || keys.iter().map(|key| ((*key).to_owned(), (*key).to_owned())).collect::<Vec<_>>();
        let mut query = PageQuery { limit: Some(limit), ..PageQuery::default() };
        let mut all = Vec::new();
        loop {
            let Page { rows, next } = page(rows(), &query, order);
            assert!(rows.len() <= limit);
            all.extend(rows);
            match next {
                Some(cursor) => query.cursor = Some(cursor),
                None => return all,
            }
        }
    }

    #[test]
    fn pages_put_together_are_the_list() {
        let (rising, falling) = (["a", "b", "c", "d", "e"], ["e", "d", "c", "b", "a"]);
        for limit in 1..7 {
            assert_eq!(walk(Order::Rising, &rising, limit), rising);
            assert_eq!(walk(Order::Falling, &falling, limit), falling);
        }
        assert!(walk(Order::Rising, &[], 3).is_empty());
    }
}
