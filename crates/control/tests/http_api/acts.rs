//! Deleting apps and environments, disabling and removing nodes: explained, confirmed, done once.

use crate::world::{FOREIGN, NODE_ONE, NODE_TWO, ONE, TWO, VIEWER, World, name};
use api::{ActDone, ActRequest, Client, ClientError, Code, ConfirmedBy, Explained, Problem, routes};
use domain::{Actor, Command, Event, NewToken, Role, state::NodeState};
use holdfast_control::{Answer, Options, Secret, router, serve};
use rt::SimDisk;
use tokio::net::TcpListener;
use types::{
    DurationMs, EventId, Generation, RequestId, Timestamp,
    history::Held,
    limits,
    plan::{Change, Lease, NodeRole, Transition},
};

const ENV: &str = "/v1/orgs/main/apps/shop/envs/prod/delete";
const APP: &str = "/v1/orgs/main/apps/shop/delete";
const IMAGE: &str = "registry.test/shop:1";

fn problem(error: ClientError) -> Problem {
    match error {
        ClientError::Problem(problem) => *problem,
        other => panic!("{other}"),
    }
}

async fn explain(world: &World, path: &str) -> Result<Explained, Problem> {
    world.owner().explain_act(path, world.id(), &ActRequest::default()).await.map_err(problem)
}

async fn confirm_as(
    client: &Client,
    (path, id): (&str, RequestId),
    token: &str,
    acknowledge: &[&str],
) -> Result<ActDone, Problem> {
    let reason = if acknowledge.is_empty() { "" } else { "it burnt" }.to_owned();
    let body =
        ActRequest { reason, acknowledge: acknowledge.iter().map(|text| (*text).to_owned()).collect() };
    client.confirm_act(path, id, (token, ConfirmedBy::Script), &body).await.map_err(problem)
}

async fn confirm(world: &World, path: &str, token: &str) -> Result<ActDone, Problem> {
    confirm_as(&world.owner(), (path, world.id()), token, &[]).await
}

async fn done(world: &World, path: &str) -> ActDone {
    let explained = explain(world, path).await.expect("explained");
    confirm(world, path, &explained.token).await.expect("confirmed")
}

fn events_of(world: &World, after: EventId) -> Vec<Event> {
    world.core.events(after, 100).expect("read").into_iter().map(|envelope| envelope.event).collect()
}

#[tokio::test]
async fn an_environment_is_deleted_as_it_was_explained_and_once() {
    let world = World::audited(&SimDisk::new(1)).await;
    world.apply(IMAGE).await;
    let instance = world.place(ONE).await;
    let head = world.core.head().event;
    let explained = explain(&world, ENV).await.expect("explained");
    assert_eq!(explained.act, "envs delete shop/prod");
    let told = format!("{:?} {:?} {}", explained.will, explained.irreversible, explained.facts);
    for part in
        ["shop.test", "2 of web", "which is under way, ends as failed", "its release;", &instance.to_string()]
    {
        assert!(told.contains(part), "{part} in {told}");
    }
    let bare = world.bare("POST", ENV).bearer_auth(crate::world::OWNER).json(&ActRequest::default());
    let bare = bare.header(routes::IDEMPOTENCY_KEY, world.id().to_string());
    let (status, refused) = crate::world::problem(bare).await;
    assert_eq!((status, refused.code), (428, Code::ConfirmationRequired));
    assert_eq!(world.core.head().event, head, "explaining and asking in vain change nothing");

    let id = world.id();
    let first = confirm_as(&world.owner(), (ENV, id), &explained.token, &[]).await.expect("done");
    let kinds: Vec<&str> = events_of(&world, head).iter().map(Event::kind).collect();
    assert_eq!(kinds, ["deploy.failed", "route.removed", "environment.deleted", "request.decided"]);
    let confirmed = events_of(&world, head).into_iter().find_map(|event| match event {
        Event::EnvironmentDeleted { confirmed, .. } => confirmed,
        _ => None,
    });
    assert!(
        confirmed.is_some_and(|by| matches!(by.actor, Actor::Token(_))),
        "who confirmed stands in the event"
    );
    // The same request again is told what came of it, and does nothing.
    let again = confirm_as(&world.owner(), (ENV, id), &explained.token, &[]).await.expect("as before");
    assert_eq!(again.event, first.event);
    assert_eq!(Some(world.core.head().event), first.event);
    let gone = explain(&world, ENV).await.expect_err("it is gone");
    assert_eq!(gone.code, Code::NotFound);
    assert_eq!(world.core.state().routes.len(), 0);
    assert_eq!(world.owner().app(&name("main"), &name("shop")).await.expect("the app stays").envs, []);

    // The name is free, and a token that was used opens nothing, though it is for the same call.
    world.apply("registry.test/shop:2").await;
    let used = confirm(&world, ENV, &explained.token).await.expect_err("used");
    assert_eq!(used.code, Code::ConfirmationInvalid);
}

#[tokio::test]
async fn a_deploy_after_the_explanation_makes_it_stale_and_is_named() {
    let world = World::audited(&SimDisk::new(1)).await;
    world.apply(IMAGE).await;
    for path in [ENV, APP] {
        let explained = explain(&world, path).await.expect("explained");
        world.apply(&format!("registry.test/shop:{}", path.len())).await;
        let head = world.core.head().event;
        let stale = confirm(&world, path, &explained.token).await.expect_err("stale");
        assert_eq!((stale.code, stale.code.exit_code()), (Code::ConfirmationStale, 5));
        assert!(
            stale.detail.contains("newest deploy was dep_") && stale.detail.contains("of release"),
            "{stale:?}"
        );
        assert_eq!(world.core.head().event, head, "nothing was done");
    }
    // What is placed meanwhile is not what anybody decided.
    let explained = explain(&world, ENV).await.expect("explained");
    world.place(ONE).await;
    confirm(&world, ENV, &explained.token).await.expect("nothing that was shown has changed");
}

#[tokio::test]
async fn a_token_is_for_one_who_asked_for_a_while_and_for_one_server() {
    let world = World::audited(&SimDisk::new(1)).await;
    world.apply(IMAGE).await;
    let (org, other) = (crate::world::ORG, Secret::from_text("hf_second"));
    let token = NewToken { name: name("second"), hash: other.hash(), expires: None };
    let made = world.core.submit(Command::CreateToken { org, role: Role::Owner, token }, Actor::System, None);
    assert!(matches!(made.await, Answer::Executed { .. }));
    let head = world.core.head().event;
    let token = explain(&world, ENV).await.expect("explained").token;
    let by = |secret| world.client(secret);
    let second = confirm_as(&by("hf_second"), (ENV, world.id()), &token, &[]).await.expect_err("not theirs");
    assert_eq!(second.code, Code::ConfirmationInvalid);
    let viewer = confirm_as(&by(VIEWER), (ENV, world.id()), &token, &[]).await.expect_err("may not");
    assert_eq!(viewer.code, Code::Forbidden);
    let foreign = confirm_as(&by(FOREIGN), (ENV, world.id()), &token, &[]).await.expect_err("not seen");
    assert_eq!(foreign.code, Code::NotFound);
    let elsewhere = confirm(&world, APP, &token).await.expect_err("for another act");
    assert_eq!(elsewhere.code, Code::ConfirmationInvalid);

    let token = explain(&world, ENV).await.expect("explained").token;
    world.clock.advance(DurationMs::from_secs(121));
    assert_eq!(confirm(&world, ENV, &token).await.expect_err("late").code, Code::ConfirmationInvalid);

    // Another server over the same log, as after a restart.
    let token = explain(&world, ENV).await.expect("explained").token;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(serve(listener, router(world.core.clone(), Options::default()), world.shutdown.clone()));
    let restarted = Client::new(&url, Some(crate::world::OWNER.to_owned())).expect("a client");
    let unknown = confirm_as(&restarted, (ENV, world.id()), &token, &[]).await.expect_err("not known there");
    assert_eq!(unknown.code, Code::ConfirmationInvalid);
    assert_eq!(world.core.head().event, head, "nothing was done by any of them");
    confirm(&world, ENV, &token).await.expect("where it was given it is good");
}

#[tokio::test]
async fn what_is_empty_is_deleted_without_a_confirmation() {
    let world = World::audited(&SimDisk::new(1)).await;
    world.apply(IMAGE).await;
    world.place(ONE).await;
    let token = explain(&world, APP).await.expect("explained").token;
    done(&world, ENV).await;
    let stale = confirm(&world, APP, &token).await.expect_err("there was something to lose");
    assert_eq!(stale.code, Code::ConfirmationStale);
    let explained = explain(&world, APP).await.expect("explained");
    assert_eq!((explained.token.as_str(), explained.touches[0].contains("no environment")), ("", true));
    let deleted: ActDone = world.owner().act(APP, world.id(), &ActRequest::default()).await.expect("done");
    let last = events_of(&world, EventId::new(deleted.event.expect("an event").get() - 2));
    assert!(matches!(last[0], Event::AppDeleted { confirmed: None, .. }), "{last:?}");
    assert!(world.owner().apps(&name("main")).await.expect("read").is_empty());
    world.apply(IMAGE).await;
    assert_eq!(world.owner().apps(&name("main")).await.expect("read").len(), 1, "the name is free");
}

async fn stopped(world: &World, secret: &str) {
    let (state, node) = (world.core.state(), if secret == NODE_ONE { ONE } else { TWO });
    let changes = state.instances_on(node).flat_map(|(instance, found)| {
        let at = |nth, change| Transition {
            instance,
            sequence: found.report + nth,
            at: Timestamp::from_ms(1),
            change,
        };
        [at(1, Change::Stopped), at(2, Change::Collected)]
    });
    world.renew(secret, NodeRole::Agent, Generation::ZERO).await;
    world.node(secret).report(changes.collect()).await.expect("reported");
}

#[tokio::test]
async fn a_node_is_disabled_at_once_and_removed_when_it_has_nothing() {
    let world = World::audited(&SimDisk::new(1)).await;
    world.apply(IMAGE).await;
    world.place(ONE).await;
    let path = |verb: &str| format!("/v1/nodes/one/{verb}");
    let early = explain(&world, &path("remove")).await.expect_err("in use");
    assert_eq!((early.code, early.hint.as_deref()), (Code::Conflict, Some("holdfast nodes disable one")));
    let explained = explain(&world, &path("disable")).await.expect("explained");
    let told = format!("{:?} {:?}", explained.will, explained.touches);
    assert!(told.contains("its 1 instances are stopped") && told.contains("shop/prod/web: 1 of 1"), "{told}");
    world.place(ONE).await;
    let stale = confirm(&world, &path("disable"), &explained.token).await.expect_err("one more is there");
    assert!(stale.detail.contains("instances was 1 (") && stale.detail.contains("and is 2 ("), "{stale:?}");
    done(&world, &path("disable")).await;
    assert_eq!(world.core.state().nodes[&ONE].state, NodeState::Disabled);
    let rows = world.owner().nodes().await.expect("rows");
    assert_eq!(rows.iter().find(|row| row.id == ONE).expect("listed").state, "disabled");
    let plan = world.node(NODE_ONE).edge_poll(Held::default()).await.expect("answered").expect("a plan");
    assert!(plan.routes.is_empty(), "its edge routes nothing");

    let denied = explain(&world, &path("remove")).await.expect_err("it still has instances");
    assert_eq!(denied.code, Code::Denied);
    assert!(denied.detail.contains("it still stops 2 instances"), "{denied:?}");
    stopped(&world, NODE_ONE).await;
    let denied = explain(&world, &path("remove")).await.expect_err("its edge has said nothing");
    assert!(denied.detail.contains("its edge has not said"), "{denied:?}");
    let held = Some(plan.name());
    let lease = Lease {
        role: NodeRole::Edge,
        generation: plan.generation,
        held,
        pressure: None,
        running: Vec::new(),
        draining: Vec::new(),
    };
    world.node(NODE_ONE).renew(&lease).await.expect("renewed");
    done(&world, &path("remove")).await;
    assert!(!world.core.state().nodes.contains_key(&ONE));
    let refused = world.node(NODE_ONE).renew(&lease).await.expect_err("its credential is dead");
    assert_eq!(refused.code(), Some(Code::Unauthenticated));
    world.renew(NODE_TWO, NodeRole::Agent, Generation::ZERO).await;
}

#[tokio::test]
async fn one_that_is_not_heard_is_removed_on_somebodys_word() {
    let world = World::audited(&SimDisk::new(1)).await;
    world.apply(IMAGE).await;
    world.place(TWO).await;
    let offline = Command::SetNodeHealth { node: TWO, health: domain::NodeHealth::Offline };
    assert!(matches!(world.core.submit(offline, Actor::System, None).await, Answer::Executed { .. }));
    done(&world, "/v1/nodes/two/disable").await;
    let path = "/v1/nodes/two/remove";
    let explained = explain(&world, path).await.expect("explained");
    assert_eq!(explained.overrides[0].invariant, "partial_view_removes_nothing");
    let silent = confirm(&world, path, &explained.token).await.expect_err("nothing is acknowledged");
    assert_eq!(silent.code, Code::AcknowledgementRequired);
    let by = (path, world.id());
    let token = explained.token.as_str();
    let unexplained = confirm_as(&world.owner(), by, token, &["two is off"]).await;
    assert_eq!(unexplained.expect_err("the reason is of another request").code, Code::ConfirmationInvalid);
    let body = ActRequest { reason: "it burnt".into(), acknowledge: Vec::new() };
    let explained = world.owner().explain_act(path, world.id(), &body).await.expect("explained");
    confirm_as(&world.owner(), (path, world.id()), &explained.token, &["two is off"]).await.expect("removed");
    let state = world.core.state();
    assert!(!state.nodes.contains_key(&TWO) && state.instances.is_empty());
}

#[tokio::test]
async fn a_node_whose_health_comes_and_goes_is_disabled_as_it_was_explained() {
    let world = World::audited(&SimDisk::new(1)).await;
    let explained = explain(&world, "/v1/nodes/two/disable").await.expect("explained");
    for health in [domain::NodeHealth::Offline, domain::NodeHealth::Reachable, domain::NodeHealth::Offline] {
        let changed =
            world.core.submit(Command::SetNodeHealth { node: TWO, health }, Actor::System, None).await;
        assert!(matches!(changed, Answer::Executed { .. }), "{changed:?}");
    }
    confirm(&world, "/v1/nodes/two/disable", &explained.token).await.expect("nobody decided anything since");
    // What has to be said before it is removed depends on whether it is heard.
    let body = ActRequest { reason: "it burnt".into(), acknowledge: Vec::new() };
    let path = "/v1/nodes/two/remove";
    let explained = world.owner().explain_act(path, world.id(), &body).await.expect("explained");
    let back = Command::SetNodeHealth { node: TWO, health: domain::NodeHealth::Reachable };
    assert!(matches!(world.core.submit(back, Actor::System, None).await, Answer::Executed { .. }));
    let token = explained.token.as_str();
    let stale = confirm_as(&world.owner(), (path, world.id()), token, &["two is off"]).await;
    let stale = stale.expect_err("it is heard");
    assert_eq!(stale.code, Code::ConfirmationStale);
    assert!(stale.detail.contains("health was offline and is reachable"), "{stale:?}");
}

#[tokio::test]
async fn what_is_too_large_for_one_act_is_said_before_it_is_confirmed() {
    let world = World::audited(&SimDisk::new(1)).await;
    let routes = limits::ROUTES;
    let envs = limits::COMMAND_EVENTS / routes + 1;
    for env in 0..envs {
        let mut request = crate::world::shop(IMAGE);
        request.env = name(&format!("e{env}"));
        let route = request.manifest.routes[0].clone();
        request.manifest.routes = (0..routes)
            .map(|nth| {
                let mut route = route.clone();
                route.host = Some(format!("r{nth}.e{env}.test").parse().expect("a host"));
                route
            })
            .collect();
        world.owner().apply(&name("main"), world.id(), &request).await.expect("applied");
    }
    let large = explain(&world, APP).await.expect_err("more than one act may be");
    assert_eq!(large.code, Code::TooMany);
    assert_eq!(
        large.hint.as_deref(),
        Some("delete environments of it first: holdfast envs delete e0 --app shop")
    );
    for env in ["e0", "e1"] {
        done(&world, &format!("/v1/orgs/main/apps/shop/envs/{env}/delete")).await;
    }
    done(&world, APP).await;
    assert!(world.owner().apps(&name("main")).await.expect("read").is_empty());
}
