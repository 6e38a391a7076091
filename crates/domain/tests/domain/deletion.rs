//! Single rules of deletions and of nodes that are taken out, each by itself. How they go is in the
//! transcript `deletion`, and that they break nothing in the properties.

use crate::world::{World, manifest, name};
use holdfast_domain::{
    Actor, Command, Content, Event, Rejection, UNHEARD, derive,
    state::{InstanceState, NodeState},
};
use types::{
    ByteSize, DurationMs, EnvId,
    plan::{Change, NodeRole},
};

fn pass(world: &mut World) {
    world.wait(DurationMs::from_secs(1));
    world.lease_all();
    world.agents(&mut |_, _| Change::Ready);
    world.plan();
}

fn serving() -> (World, EnvId) {
    let mut world = World::new();
    world.node("a", &[NodeRole::Agent], ByteSize::from_mib(512));
    world.node("b", &[NodeRole::Agent, NodeRole::Edge], ByteSize::from_mib(512));
    for (app, host) in [("shop", "shop.example"), ("blog", "blog.example")] {
        world.apply(manifest(app, "1", &[("web", 2, 64)], Some(host))).expect("accepted");
    }
    (0..8).for_each(|_| pass(&mut world));
    let env = world.env("shop", "prod");
    (world, env)
}

#[test]
fn what_has_content_is_deleted_only_when_confirmed_and_as_it_was_shown() {
    let (mut world, env) = serving();
    let app = world.state.envs[&env].app;
    let (of_env, of_app) = (Content::of_env(&world.state, env), Content::of_app(&world.state, app));
    let unconfirmed = world
        .submit(Command::DeleteEnvironment { env, shown: of_env.clone(), confirmed: None })
        .expect_err("it has content");
    assert_eq!(unconfirmed.code(), "confirmation_required");
    let unconfirmed = world
        .submit(Command::DeleteApp { app, shown: of_app.clone(), confirmed: None })
        .expect_err("it has content");
    assert_eq!(unconfirmed.code(), "confirmation_required");
    world.ok(Command::Scale { env, process: name("web"), replicas: 1 });
    let confirmed = Some(world.confirmed(&[]));
    for command in [
        Command::DeleteEnvironment { env, shown: of_env.clone(), confirmed: confirmed.clone() },
        Command::DeleteApp { app, shown: of_app, confirmed: confirmed.clone() },
    ] {
        let moved = world.submit(command).expect_err("it was scaled meanwhile");
        assert_eq!(moved.code(), "confirmation_stale");
        assert!(moved.to_string().contains("instances of web was 2 and is 1"), "{moved}");
    }
    // What changes by itself does not matter.
    world.ok(Command::Scale { env, process: name("web"), replicas: 2 });
    let id = world.state.instances_of(env).next().expect("it runs").0;
    world.report(id, Change::Unready { detail: "no answer".into() });
    let events = world.ok(Command::DeleteEnvironment { env, shown: of_env, confirmed: confirmed.clone() });
    assert!(
        matches!(&events[..], [Event::RouteRemoved { .. }, Event::EnvironmentDeleted { confirmed: by, .. }] if *by == confirmed),
        "{events:?}"
    );
}

#[test]
fn a_deploy_meanwhile_is_named() {
    let (mut world, env) = serving();
    let shown = Content::of_env(&world.state, env);
    world.apply(manifest("shop", "2", &[("web", 2, 64)], Some("shop.example"))).expect("accepted");
    let confirmed = Some(world.confirmed(&[]));
    let moved = world.submit(Command::DeleteEnvironment { env, shown, confirmed }).expect_err("a new deploy");
    let text = moved.to_string();
    assert!(text.contains("newest deploy was dep_") && text.contains("of release 2"), "{text}");
}

#[test]
fn nothing_is_confirmed_for_what_is_empty() {
    let (mut world, env) = serving();
    let app = world.state.envs[&env].app;
    world.delete_env(env).expect("as shown");
    assert!(world.state.is_deleted(env));
    let shown = Content::of_app(&world.state, app);
    assert_eq!(shown.iter().count(), 0, "no environment is left, though its instances still drain");
    world.ok(Command::DeleteApp { app, shown, confirmed: None });
    assert!(!world.state.app_names.contains_key(&(world.org, name("shop"))));
    assert!(world.state.apps.contains_key(&app), "its instances are still somebody's");
    (0..8).for_each(|_| pass(&mut world));
    assert!(!world.state.apps.contains_key(&app) && !world.state.envs.contains_key(&env));
    assert!(world.state.releases.values().all(|release| release.env != env));
    assert_eq!(world.views.apps().apps.len(), 1, "the other is untouched");
}

#[test]
fn a_deleted_environment_takes_no_wish_and_the_other_is_untouched() {
    let (mut world, env) = serving();
    let other = world.env("blog", "prod");
    let of_other = Content::of_env(&world.state, other);
    let before: Vec<_> = world.state.instances_of(other).map(|(id, found)| (id, found.clone())).collect();
    world.delete_env(env).expect("as shown");
    for command in [
        Command::Scale { env, process: name("web"), replicas: 1 },
        Command::Restart { env },
        Command::Rollback { env, release: None },
        Command::DeleteEnvironment { env, shown: Content::default(), confirmed: None },
    ] {
        let refused = world.submit(command).expect_err("it is gone");
        assert!(matches!(refused, Rejection::NotFound { .. }), "{refused}");
    }
    (0..8).for_each(|_| pass(&mut world));
    assert_eq!(Content::of_env(&world.state, other), of_other);
    let after: Vec<_> = world.state.instances_of(other).map(|(id, found)| (id, found.clone())).collect();
    assert_eq!(before, after);
    assert!(world.log.iter().all(|envelope| envelope.actor == Actor::System));
}

#[test]
fn the_edge_of_a_disabled_node_routes_nothing_until_it_is_activated() {
    let (mut world, _) = serving();
    let node = world.node_named("b");
    let routes = |world: &World| derive::edge_plan_of(&world.state, "test", node);
    let before = routes(&world);
    assert_eq!(before.routes.len(), 2);
    world.disable(node).expect("as shown");
    let disabled = routes(&world);
    assert!(disabled.routes.is_empty() && disabled.generation > before.generation);
    assert_eq!(derive::edge_plan(&world.state, "test").routes.len(), 2, "others route on");
    world.ok(Command::ActivateNode { node });
    let again = routes(&world);
    assert!(again.routes.len() == 2 && again.generation > disabled.generation);
}

#[test]
fn a_removed_node_leaves_neither_name_nor_credential_nor_instances() {
    let (mut world, _) = serving();
    let node = world.node_named("a");
    let credential = *world.state.tokens.iter().find(|(_, token)| token.node == Some(node)).expect("one").0;
    world.machines.get_mut(&node).expect("listed").up = false;
    (0..35).for_each(|_| pass(&mut world));
    let held = world.state.instances_on(node).count();
    assert!(held > 0, "nobody has heard it stop anything");
    world.disable(node).expect("as shown");
    let refused = world.remove(node, &[]).expect_err("nobody says that it is off");
    assert_eq!(refused.code(), "conflict");
    world.remove(node, &[UNHEARD]).expect("somebody says so");
    assert!(world.state.tokens[&credential].dead && !world.state.nodes.contains_key(&node));
    assert_eq!(world.state.instances_on(node).count(), 0);
    assert_eq!(world.state.instances.len(), world.views.instances().rows.len());
    assert!(!world.views.nodes().rows.contains_key(&node));
    (0..8).for_each(|_| pass(&mut world));
    let ready = world.state.instances.values().filter(|found| found.state == InstanceState::Ready).count();
    assert_eq!(ready, 4, "all of it runs on what is left");
    // The name is free.
    let again = world.node("a", &[NodeRole::Agent], ByteSize::from_mib(512));
    assert_eq!(world.state.nodes[&again].state, NodeState::Active);
}
