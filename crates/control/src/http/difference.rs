//! What a manifest would change of an environment, as a flat list in the order of the manifest.

use api::Difference;
use domain::{
    State,
    state::{Environment, Release},
};
use std::collections::{BTreeMap, BTreeSet};
use types::{
    Name,
    manifest::{Health, HealthKind, Manifest, Process, ProxyProtocol, Route, RouteMode},
    plan::{PinnedImage, RouteMatch},
};

/// The release an environment is at or on the way to.
pub(super) fn target<'a>(state: &'a State, env: &Environment) -> Option<&'a Release> {
    let deploy = state.deploys.get(&env.target()?)?;
    state.releases.get(&deploy.release).map(AsRef::as_ref)
}

/// What differs between what is declared now, scale included, and what would be.
pub(super) fn changes(
    state: &State,
    env: Option<&Environment>,
    manifest: &Manifest,
    image: &PinnedImage,
) -> Vec<Difference> {
    let now = env.and_then(|env| target(state, env));
    let before = now.map(|release| flat(&release.manifest, &release.image, env.map(|env| &env.scale)));
    let after = flat(manifest, image, None);
    let mut changes = compare(&before.unwrap_or_default(), &after);
    // What served before a deploy that failed is declared again by deploying it: instances of the
    // failed one may still be there.
    let failed = |env: &Environment| env.rolling.is_none() && env.is_unsettled();
    if changes.is_empty() && env.is_some_and(failed) {
        changes.push(Difference {
            path: "deploy".into(),
            before: Some("the last one failed".into()),
            after: Some("deployed again".into()),
        });
    }
    changes
}

/// Leaves with their paths, in order.
type Flat = Vec<(String, String)>;

/// Paths that are gone stand where they were: after the last path before them that is still there.
fn compare(before: &Flat, after: &Flat) -> Vec<Difference> {
    let old: BTreeMap<&String, &String> = before.iter().map(|(path, value)| (path, value)).collect();
    let new: BTreeSet<&String> = after.iter().map(|(path, _)| path).collect();
    let mut changes = Vec::new();
    let mut gone = before.iter().filter(|(path, _)| !new.contains(path)).peekable();
    let place: BTreeMap<&String, usize> =
        before.iter().enumerate().map(|(nth, (path, _))| (path, nth)).collect();
    for (path, value) in after {
        while let (Some((lost, was)), Some(here)) = (gone.peek(), place.get(path)) {
            if place[lost] > *here {
                break;
            }
            changes.push(Difference { path: lost.clone(), before: Some(was.clone()), after: None });
            gone.next();
        }
        let was = old.get(path).copied();
        if was != Some(value) {
            changes.push(Difference { path: path.clone(), before: was.cloned(), after: Some(value.clone()) });
        }
    }
    changes.extend(gone.map(|(path, was)| Difference {
        path: path.clone(),
        before: Some(was.clone()),
        after: None,
    }));
    changes
}

fn flat(manifest: &Manifest, image: &PinnedImage, scale: Option<&BTreeMap<Name, u32>>) -> Flat {
    let mut leaves = Flat::new();
    let mut put = |path: String, value: String| leaves.push((path, value));
    put("image.ref".into(), manifest.image.reference.clone());
    put("image.digest".into(), image.digest.to_string());
    for (name, process) in &manifest.processes {
        let replicas = scale.and_then(|scale| scale.get(name)).copied().unwrap_or(process.replicas);
        flat_process(&format!("processes.{name}"), process, replicas, &mut put);
    }
    for route in &manifest.routes {
        flat_route(route, &mut put);
    }
    put("deploy.deadline".into(), manifest.deploy.deadline.to_string());
    put("deploy.attempts".into(), manifest.deploy.attempts.to_string());
    leaves
}

fn flat_process(at: &str, process: &Process, replicas: u32, put: &mut impl FnMut(String, String)) {
    let Process { command, memory, cpu, replicas: _, ports, health, env, stop_grace } = process;
    if !command.is_empty() {
        put(format!("{at}.command"), command.join(" "));
    }
    put(format!("{at}.memory"), memory.to_string());
    put(format!("{at}.cpu"), cpu.to_string());
    put(format!("{at}.replicas"), replicas.to_string());
    for port in ports {
        put(format!("{at}.ports.{}", port.name), port.port.to_string());
    }
    if let Some(Health { kind, port, path, interval, timeout, grace }) = health {
        let kind = match kind {
            HealthKind::Tcp => "tcp",
            HealthKind::Http => "http",
        };
        put(format!("{at}.health.type"), kind.into());
        put(format!("{at}.health.port"), port.to_string());
        if let Some(path) = path {
            put(format!("{at}.health.path"), path.clone());
        }
        put(format!("{at}.health.interval"), interval.to_string());
        put(format!("{at}.health.timeout"), timeout.to_string());
        put(format!("{at}.health.grace"), grace.to_string());
    }
    for (key, value) in env {
        put(format!("{at}.env.{key}"), value.clone());
    }
    put(format!("{at}.stop_grace"), stop_grace.to_string());
}

/// A route is told apart by its way in, not by its place in the list.
fn flat_route(route: &Route, put: &mut impl FnMut(String, String)) {
    let at = format!("routes.{}", way_in(route));
    put(format!("{at}.process"), route.process.to_string());
    put(format!("{at}.port"), route.port.to_string());
    let proxy_protocol = match route.proxy_protocol {
        ProxyProtocol::Off => "off",
        ProxyProtocol::V2 => "v2",
    };
    put(format!("{at}.proxy_protocol"), proxy_protocol.into());
}

fn way_in(route: &Route) -> String {
    match (route.mode, &route.host, route.listen) {
        (RouteMode::Tls, Some(host), _) => host.to_string(),
        (RouteMode::Tcp, _, Some(listen)) => listen.to_string(),
        _ => "?".to_owned(),
    }
}

fn key(route: &Route) -> Option<RouteMatch> {
    match route.mode {
        RouteMode::Tls => route.host.clone().map(|host| RouteMatch::Tls { host }),
        RouteMode::Tcp => route.listen.map(|listen| RouteMatch::Tcp { listen }),
    }
}

/// What a person should know before saying yes.
pub(super) fn warnings(
    state: &State,
    env: Option<&Environment>,
    manifest: &Manifest,
    image: &PinnedImage,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if !state.nodes.values().any(|node| node.takes_instances()) {
        warnings.push("no node takes instances now: the deploy waits for one".to_owned());
    }
    for route in &manifest.routes {
        let owner = key(route).and_then(|key| state.routes.get(state.route_keys.get(&key)?));
        let ours = env.is_some_and(|env| owner.is_some_and(|owner| is(state, owner.env, env)));
        if owner.is_some() && !ours {
            warnings.push(format!(
                "{} is routed to another environment: the apply will be refused",
                way_in(route)
            ));
        }
        if manifest.processes.get(&route.process).is_some_and(|process| process.health.is_none()) {
            warnings.push(format!(
                "{} has no health probe: its instances count as ready as soon as they run",
                route.process
            ));
        }
    }
    let Some(env) = env else { return warnings };
    let Some(now) = target(state, env) else { return warnings };
    if now.manifest.image.reference == manifest.image.reference && now.image.digest != image.digest {
        warnings.push(format!(
            "{} names another image than it did for release {}",
            manifest.image.reference, now.number
        ));
    }
    for name in now.manifest.processes.keys().filter(|name| !manifest.processes.contains_key(*name)) {
        warnings.push(format!("process {name} goes away, and its instances stop"));
    }
    for (name, process) in &manifest.processes {
        let declared = now.manifest.processes.get(name).map(|process| process.replicas);
        match (env.scale.get(name), declared) {
            (Some(scaled), Some(declared)) if *scaled != declared && *scaled != process.replicas => {
                warnings.push(format!(
                    "{name} was scaled to {scaled} by hand; this sets it to {}",
                    process.replicas
                ));
            }
            _ => {}
        }
    }
    let kept: BTreeSet<RouteMatch> = manifest.routes.iter().filter_map(key).collect();
    for route in now.manifest.routes.iter().filter(|route| key(route).is_some_and(|key| !kept.contains(&key)))
    {
        warnings.push(format!("the route {} goes away", way_in(route)));
    }
    warnings
}

fn is(state: &State, id: types::EnvId, env: &Environment) -> bool {
    state.envs.get(&id).is_some_and(|found| found.app == env.app && found.name == env.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(text: &str) -> Flat {
        text.split_whitespace()
            .filter_map(|leaf| leaf.split_once('='))
            .map(|(k, v)| (k.into(), v.into()))
            .collect()
    }

    fn shown(before: &str, after: &str) -> Vec<String> {
        let show = |d: Difference| {
            format!("{}:{}>{}", d.path, d.before.unwrap_or_default(), d.after.unwrap_or_default())
        };
        compare(&leaves(before), &leaves(after)).into_iter().map(show).collect()
    }

    #[test]
    fn what_is_equal_is_left_out_and_the_order_is_the_manifests() {
        assert!(shown("a=1 b=2", "a=1 b=2").is_empty());
        assert_eq!(shown("", "b=1 a=2"), ["b:>1", "a:>2"]);
        assert_eq!(shown("a=1 x=9 b=2 y=8", "a=1 b=3 c=4"), ["x:9>", "b:2>3", "c:>4", "y:8>"]);
    }
}
