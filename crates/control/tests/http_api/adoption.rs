//! Nodes that hold plans of another log: seen from their first message, left alone, shown, taken over.

use crate::world::{NODE_ONE, NODE_TWO, ONE, World, name, soon};
use api::{ClientError, ClusterActRequest, Code, Explained, NodeMessage, Problem, routes};
use domain::{
    Actor, Command, Confirmation, Confirmed,
    state::{InstanceState, Taken},
};
use futures_util::StreamExt;
use holdfast_control::Answer;
use std::time::Duration;
use types::{
    Epoch, EventId, Generation, InstanceId, Timestamp, TokenId,
    history::{Held, follows},
    plan::{Change, Lease, NodeRole, Transition},
};

const STRANGER: InstanceId = InstanceId::from_u128(4711);

fn old(generation: u64) -> Held {
    let (epoch, generation) = (Epoch::new(7), Generation::new(generation));
    Held { cluster: "old".into(), epoch, event: EventId::new(generation.get()), generation }
}

fn lease(role: NodeRole, held: &Held, running: &[InstanceId]) -> Lease {
    let (generation, running) = (held.generation, running.to_vec());
    Lease { role, generation, held: Some(held.clone()), pressure: None, running, draining: Vec::new() }
}

async fn explain(world: &World, reason: &str) -> Result<Explained, Box<Problem>> {
    let request = ClusterActRequest { reason: reason.into(), ..ClusterActRequest::default() };
    match world.owner().explain_act(routes::CLUSTER_ADOPT, world.id(), &request).await {
        Ok(explained) => Ok(explained),
        Err(ClientError::Problem(problem)) => Err(problem),
        Err(error) => panic!("{error}"),
    }
}

/// What a confirmed adoption writes.
async fn adopt(world: &World, upto: u64, absent: Vec<InstanceId>) {
    let taken =
        vec![Taken { cluster: "old".into(), generation: Generation::new(upto), epoch: Epoch::new(7) }];
    let confirmed = Confirmed {
        actor: Actor::Token(TokenId::from_u128(21)),
        kind: Confirmation::Person,
        acknowledged: Vec::new(),
        reason: "restored".into(),
        at: Timestamp::from_ms(1),
    };
    let command = Command::Adopt { cluster: "test-cluster".into(), taken, absent, confirmed };
    let answer = world.core.submit(command, Actor::System, None).await;
    assert!(matches!(answer, Answer::Executed { .. }), "{answer:?}");
}

#[tokio::test]
async fn a_node_of_another_log_is_left_alone_and_shown() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let instance = world.place(ONE).await;
    let one = world.node(NODE_ONE);
    // Its number alone would pass for one of this log.
    let held = old(3);
    let error = one.agent_stream(held.clone()).await.map(drop).expect_err("of another log");
    assert_eq!(error.code(), Some(Code::Conflict));
    one.renew(&lease(NodeRole::Agent, &held, &[STRANGER])).await.expect("a lease is only noted");
    one.renew(&lease(NodeRole::Edge, &held, &[])).await.expect("a lease is only noted");
    let edge = world.core.observations().snapshot().nodes[&ONE].edge.clone().expect("heard of");
    assert_eq!(edge.generation, Generation::ZERO, "it acknowledges nothing of this log");
    assert_eq!(one.report(Vec::new()).await.expect_err("refused").code(), Some(Code::Conflict));
    assert_eq!(one.edge_poll(held.clone()).await.expect_err("refused").code(), Some(Code::Conflict));
    let rows = world.owner().nodes().await.expect("nodes");
    let why =
        |called: &str| rows.iter().find(|row| row.name == name(called)).and_then(|row| row.apart.clone());
    assert!(why("one").is_some_and(|why| why.contains("cluster adopt")), "{rows:?}");
    assert_eq!(why("two"), None);
    let (org, app, env) = (name("main"), name("shop"), name("prod"));
    let status = world.owner().status((&org, &app, &env)).await;
    let status = status.expect("a status");
    assert!(
        !status.converged && status.why.iter().any(|why| why.contains("another log")),
        "{:?}",
        status.why
    );

    let explained = explain(&world, "restored").await.expect("explained");
    let will = explained.will.join("\n");
    assert!(
        will.contains(&format!("one: stops and removes 1: {STRANGER} (not known to this log)")),
        "{will}"
    );
    assert!(will.contains(&format!("one: starts 1: {instance} (shop/prod/web)")), "{will}");
    assert!(will.contains("not heard yet: two"), "{will}");
    assert!(will.contains("plans up to 3 of log old; plans are made anew, above generation 3"), "{will}");
    // Another node is not concerned.
    world.renew(NODE_TWO, NodeRole::Agent, Generation::ZERO).await;
    world.node(NODE_TWO).report(Vec::new()).await.expect("accepted");
}

#[tokio::test]
async fn without_a_node_that_is_apart_there_is_nothing_to_adopt() {
    let world = World::start().await;
    let problem = explain(&world, "restored").await.expect_err("nothing");
    assert_eq!((problem.code, problem.code.exit_code()), (Code::Conflict, 5));
    assert!(problem.detail.contains("nothing to adopt"), "{problem:?}");
    world.renew(NODE_ONE, NodeRole::Agent, Generation::ZERO).await;
    explain(&world, "restored").await.expect_err("still nothing");
    let one = world.node(NODE_ONE);
    one.renew(&lease(NodeRole::Agent, &old(9), &[])).await.expect("noted");
    explain(&world, "restored").await.expect("something");
    // This server has no journal, so it confirms nothing; and nothing happens without a confirmation.
    let head = world.core.head().event;
    let request = ClusterActRequest { reason: "restored".into(), ..ClusterActRequest::default() };
    let sent = world.bare("POST", routes::CLUSTER_ADOPT).bearer_auth(crate::world::OWNER);
    let sent = sent.header(routes::IDEMPOTENCY_KEY, world.id().to_string()).json(&request);
    let (status, problem) = crate::world::problem(sent).await;
    assert_eq!((status, problem.code), (Code::ConfirmationRequired.status(), Code::ConfirmationRequired));
    assert_eq!(world.core.head().event, head);
}

#[tokio::test]
async fn an_adopted_node_is_sent_plans_above_its_own_and_its_agent_waits_for_the_edge() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let instance = world.place(ONE).await;
    let (one, held) = (world.node(NODE_ONE), old(100_000));
    one.renew(&lease(NodeRole::Agent, &held, &[STRANGER])).await.expect("noted");
    one.agent_stream(held.clone()).await.map(drop).expect_err("apart");
    adopt(&world, held.generation.get(), Vec::new()).await;
    assert_eq!(world.core.state().instances[&instance].state, InstanceState::Booting);
    let mut stream = Box::pin(one.agent_stream(held.clone()).await.expect("it comes over"));
    let early = tokio::time::timeout(Duration::from_millis(300), stream.next()).await;
    assert!(early.is_err(), "the edge may still send to what the agent would stop");
    let early = one.report(Vec::new()).await.expect_err("it still acts on the other log's plan");
    assert_eq!(early.code(), Some(Code::Unavailable));
    let routed = soon("a plan", one.edge_poll(held.clone())).await.expect("an answer").expect("a plan");
    assert_eq!(follows(&held, &routed.name(), routed.adoption.as_ref()), Ok(()));
    one.renew(&lease(NodeRole::Edge, &routed.name(), &[])).await.expect("acknowledged");
    let NodeMessage::Plan(plan) = soon("a plan", stream.next()).await.expect("goes on").expect("a plan")
    else {
        panic!("no plan");
    };
    assert!(plan.generation > held.generation && plan.instances.contains_key(&instance), "{plan:?}");
    assert_eq!(follows(&held, &plan.name(), plan.adoption.as_ref()), Ok(()));
    assert_eq!((plan.cluster.as_str(), plan.name().event), ("test-cluster", world.core.head().event));
    one.renew(&lease(NodeRole::Agent, &plan.name(), &[])).await.expect("renewed");
    // What it reports counts from wherever it counts now.
    let ready = Transition { instance, sequence: 1, at: Timestamp::from_ms(1), change: Change::Ready };
    one.report(vec![ready]).await.expect("accepted");
    assert_eq!(world.core.state().instances[&instance].state, InstanceState::Ready);
    explain(&world, "again").await.expect_err("nothing is left to adopt");
    // A node that comes later with more than was shown is shown again.
    world.node(NODE_TWO).agent_stream(old(100_001)).await.map(drop).expect_err("beyond");
    explain(&world, "again").await.expect("another adoption");
}

#[tokio::test]
async fn a_plan_of_a_branch_that_was_left_is_told_by_its_epoch() {
    let world = World::start().await;
    let one = world.node(NODE_ONE);
    let own = one.agent_poll(Held::default()).await.expect("an answer").expect("a plan").name();
    drop(Box::pin(one.agent_stream(own.clone()).await.expect("it is this log's")));
    let branch = Held { epoch: own.epoch.plus(3), ..own };
    let error = one.agent_stream(branch).await.map(drop).expect_err("of another authority");
    assert_eq!(error.code(), Some(Code::Conflict));
}
