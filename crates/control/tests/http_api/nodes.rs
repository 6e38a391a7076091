//! What nodes are told and say, and what they cannot get at.

use crate::world::*;
use api::{ClientError, Code, EnrolRequest, JoinTokenRequest, NodeClient, NodeMessage};
use domain::{Actor, Command, NewToken};
use futures_util::StreamExt;
use holdfast_control::{Answer, Secret};
use types::{
    DurationMs, Generation, InstanceId, NodeId, Timestamp, limits,
    plan::{Change, EdgePlan, Lease, NodePlan, NodeRole, Transition},
};

fn lease(role: NodeRole, generation: Generation) -> Lease {
    Lease { role, generation, held: None, pressure: None, running: Vec::new(), draining: Vec::new() }
}

fn ready(instance: InstanceId, sequence: u64) -> Transition {
    Transition { instance, sequence, at: Timestamp::from_ms(1), change: Change::Booting }
}

async fn plan_of(client: &NodeClient, after: Generation) -> NodePlan {
    let mut stream = Box::pin(client.agent_stream(after).await.expect("a stream"));
    match soon("a plan", stream.next()).await.expect("goes on").expect("a plan") {
        NodeMessage::Plan(plan) => *plan,
        NodeMessage::Logs(ask) => panic!("no plan but {ask:?}"),
    }
}

#[tokio::test]
async fn a_node_is_given_its_own_plan_and_each_newer_one() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let (one, two) = (world.node(NODE_ONE), world.node(NODE_TWO));
    let first = plan_of(&one, Generation::ZERO).await;
    assert_eq!((first.node, first.instances.len()), (ONE, 0));
    let mut stream = Box::pin(one.agent_stream(first.generation).await.expect("a stream"));
    let instance = world.place(ONE).await;
    let NodeMessage::Plan(plan) = soon("a plan", stream.next()).await.expect("goes on").expect("a plan")
    else {
        panic!("no plan");
    };
    assert!(plan.generation > first.generation);
    assert_eq!(plan.instances.keys().copied().collect::<Vec<_>>(), [instance]);
    assert_eq!(plan.cluster, "test-cluster");
    let others = plan_of(&two, Generation::ZERO).await;
    assert_eq!((others.node, others.instances.len()), (TWO, 0));
}

#[tokio::test]
async fn an_edge_is_given_routes_and_a_poll_brings_what_a_stream_brings() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let one = world.node(NODE_ONE);
    let plan: EdgePlan = one.edge_poll(Generation::ZERO).await.expect("an answer").expect("a plan");
    assert_eq!(plan.routes.len(), 1);
    let waiting = tokio::spawn({
        let (one, held) = (one.clone(), plan.generation);
        async move { one.edge_poll(held).await }
    });
    let instance = world.place(ONE).await;
    world.renew(NODE_ONE, NodeRole::Agent, Generation::ZERO).await;
    one.report(vec![ready(instance, 1), Transition { change: Change::Ready, ..ready(instance, 2) }])
        .await
        .expect("taken");
    let next = soon("a plan", waiting).await.expect("no panic").expect("an answer").expect("a plan");
    assert!(next.generation > plan.generation);
    let mut stream = Box::pin(one.edge_stream(plan.generation).await.expect("a stream"));
    let streamed = soon("a plan", stream.next()).await.expect("goes on").expect("a plan");
    assert_eq!(streamed, next);
    assert_eq!(streamed.routes.values().next().expect("a route").backends[0].instance, instance);
}

#[tokio::test]
async fn a_node_plays_only_the_parts_it_was_enrolled_with() {
    let world = World::start().await;
    let two = world.node(NODE_TWO);
    assert_eq!(
        two.edge_stream(Generation::ZERO).await.map(drop).expect_err("no edge").code(),
        Some(Code::Forbidden)
    );
    let error = two.renew(&lease(NodeRole::Edge, Generation::ZERO)).await.expect_err("no edge");
    assert_eq!(error.code(), Some(Code::Forbidden));
    assert!(world.core.observations().snapshot().nodes.is_empty());
}

#[tokio::test]
async fn a_lease_is_noted_and_answered_with_the_newest_generation() {
    let world = World::start().await;
    let one = world.node(NODE_ONE);
    let held = plan_of(&one, Generation::ZERO).await.generation;
    let answer = one.renew(&lease(NodeRole::Agent, held)).await.expect("renewed");
    assert_eq!((answer.generation, answer.cluster.as_str()), (held, "test-cluster"));
    world.apply("registry.test/shop:1").await;
    world.place(ONE).await;
    assert!(one.renew(&lease(NodeRole::Agent, held)).await.expect("renewed").generation > held);
    let nodes = world.owner().nodes().await.expect("nodes");
    let seen = nodes.iter().find(|node| node.name == name("one")).expect("listed");
    assert_eq!((seen.acknowledged, seen.state.as_str()), (Some(held), "active"));
    assert!(seen.last_seen.is_some() && seen.used.memory.bytes() > 0);
    assert!(nodes.iter().any(|node| node.name == name("two") && node.last_seen.is_none()));
    world.clock.advance(limits::LEASE_SUSPECT);
    assert_eq!(world.owner().nodes().await.expect("nodes")[0].state, "suspected");
}

#[tokio::test]
async fn a_report_is_accepted_once_and_only_about_the_nodes_own_instances() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let instance = world.place(ONE).await;
    let head = world.core.head().event;
    for node in [NODE_ONE, NODE_TWO] {
        world.renew(node, NodeRole::Agent, Generation::ZERO).await;
    }
    let two = world.node(NODE_TWO);
    two.report(vec![ready(instance, 1)]).await.expect("of no use");
    assert_eq!(world.core.head().event, head, "another node's instance does not change");
    let one = world.node(NODE_ONE);
    let taken = one.report(vec![ready(instance, 1)]).await.expect("taken");
    assert_eq!(taken.accepted[&instance], 1);
    let again = one.report(vec![ready(instance, 1)]).await.expect("taken");
    assert_eq!(again, taken);
    assert_eq!(world.core.head().event, head.next(), "a report sent twice is applied once");
    let many = one.report((0..=limits::REPORT_BATCH as u64).map(|nth| ready(instance, nth)).collect()).await;
    assert_eq!(many.expect_err("too many").code(), Some(Code::TooMany));
}

#[tokio::test]
async fn a_report_is_not_accepted_before_it_is_durable() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let instance = world.place(ONE).await;
    world.renew(NODE_ONE, NodeRole::Agent, Generation::ZERO).await;
    world.log.hold();
    let one = world.node(NODE_ONE);
    let sent = tokio::spawn(async move { one.report(vec![ready(instance, 1)]).await });
    world.until_held().await;
    assert!(!sent.is_finished(), "an agent forgets what is accepted");
    world.log.release();
    assert_eq!(soon("an answer", sent).await.expect("no panic").expect("taken").accepted[&instance], 1);
}

#[tokio::test]
async fn nothing_is_pushed_to_a_node_that_is_ahead_of_this_log() {
    let world = World::start().await;
    let one = world.node(NODE_ONE);
    let beyond = Generation::new(world.core.head().event.get() + 100);
    let error = one.agent_stream(beyond).await.map(drop).expect_err("ahead");
    assert_eq!(error.code(), Some(Code::Conflict));
    one.renew(&lease(NodeRole::Agent, beyond)).await.expect("a lease is only noted");
    let error = one.edge_stream(Generation::ZERO).await.map(drop).expect_err("the node is ahead");
    let ClientError::Problem(problem) = error else { panic!("{error}") };
    assert!(problem.detail.contains("older than what runs"), "{problem:?}");
    assert_eq!(one.report(Vec::new()).await.expect_err("refused").code(), Some(Code::Conflict));
}

/// Only who sequences knows where the log ends: a follower lags, and must not take a node for one of another
/// log.
#[tokio::test]
async fn a_server_that_does_not_lead_calls_no_node_ahead_of_the_log() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let one = world.node(NODE_ONE);
    let beyond = Generation::new(world.core.head().event.get() + 2);
    world.log.follow(true);
    let error = one.edge_stream(beyond).await.map(drop).expect_err("it has to catch up first");
    assert_eq!(error.code(), Some(Code::Unavailable));
    world.log.follow(false);
    while world.core.head().event.get() <= beyond.get() {
        world.owner().drain_node(world.id(), "two").await.expect("drained");
        world.owner().activate_node(world.id(), "two").await.expect("active");
    }
    one.edge_stream(beyond).await.map(drop).expect("the plan is one of this log");
}

#[tokio::test]
async fn a_log_that_grows_past_a_nodes_plan_is_still_older_than_what_runs() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let one = world.node(NODE_ONE);
    let beyond = Generation::new(world.core.head().event.get() + 2);
    one.renew(&lease(NodeRole::Edge, beyond)).await.expect("a lease is only noted");
    while world.core.head().event.get() <= beyond.get() {
        world.owner().drain_node(world.id(), "two").await.expect("drained");
        world.owner().activate_node(world.id(), "two").await.expect("active");
    }
    // The same plan again, and a newer number of that other log: neither is of this one.
    for held in [beyond, Generation::new(world.core.head().event.get())] {
        one.renew(&lease(NodeRole::Edge, held)).await.expect("noted");
        let edge = world.core.observations().snapshot().nodes[&ONE].edge.clone().expect("heard of");
        assert_eq!(edge.generation, Generation::ZERO, "it acknowledges nothing of this log");
        let error = one.edge_stream(held).await.map(drop).expect_err("the node is ahead");
        assert_eq!(error.code(), Some(Code::Conflict));
        assert_eq!(one.report(Vec::new()).await.expect_err("refused").code(), Some(Code::Conflict));
    }
    world.renew(NODE_TWO, NodeRole::Agent, Generation::ZERO).await;
    world.node(NODE_TWO).report(Vec::new()).await.expect("another node is not concerned");
}

#[tokio::test]
async fn nothing_is_accepted_of_a_node_before_it_has_said_which_plan_it_holds() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let instance = world.place(ONE).await;
    let (one, head) = (world.node(NODE_ONE), world.core.head().event);
    let error = one.report(vec![ready(instance, 1)]).await.expect_err("it may be of another log");
    assert_eq!(error.code(), Some(Code::Unavailable));
    world.renew(NODE_ONE, NodeRole::Edge, Generation::ZERO).await;
    let error = one.report(vec![ready(instance, 1)]).await.expect_err("that was the edge");
    assert_eq!(error.code(), Some(Code::Unavailable));
    assert_eq!(world.core.head().event, head);
    plan_of(&one, Generation::ZERO).await;
    one.report(vec![ready(instance, 1)]).await.expect("taken");
}

#[tokio::test]
async fn a_stream_that_is_refused_takes_nothing_from_the_one_that_is_open() {
    let world = World::with_streams(8, 1).await;
    world.apply("registry.test/shop:1").await;
    let one = world.node(NODE_ONE);
    let mut open = Box::pin(one.agent_stream(Generation::ZERO).await.expect("a stream"));
    soon("a plan", open.next()).await.expect("goes on").expect("a plan");
    let refused = one.agent_stream(Generation::ZERO).await.map(drop).expect_err("one too many");
    assert_eq!(refused.code(), Some(Code::StreamLimit));
    let instance = world.place(ONE).await;
    let NodeMessage::Plan(plan) = soon("a plan", open.next()).await.expect("goes on").expect("a plan") else {
        panic!("no plan");
    };
    assert!(plan.instances.contains_key(&instance));
}

#[tokio::test]
async fn a_nodes_long_poll_ends_with_its_credential() {
    let world = World::start().await;
    let ask = JoinTokenRequest { expires_in: DurationMs::from_secs(600) };
    let join = world.owner().create_join_token(world.id(), &ask).await.expect("made").result;
    let request = EnrolRequest {
        join_token: join.secret.expect("a secret"),
        name: name("three"),
        roles: vec![NodeRole::Agent],
        capacity: capacity(),
    };
    let enrolled = NodeClient::enrol(&world.url(), world.id(), &request).await.expect("enrolled");
    let held = plan_of(&world.node(&enrolled.credential), Generation::ZERO).await.generation;
    let path = format!("{}?after={held}&poll=true", api::routes::AGENT_STREAM);
    let waiting = tokio::spawn(problem(world.bare("GET", &path).bearer_auth(&enrolled.credential)));
    let state = world.core.state();
    let credential = state.tokens.iter().find(|(_, token)| token.node == Some(enrolled.node));
    let credential = *credential.expect("there is one").0;
    world.until_node_streams(1).await;
    world.owner().revoke_token(world.id(), credential).await.expect("revoked");
    let (status, ended) = soon("an answer", waiting).await.expect("no panic");
    assert_eq!((status, ended.code), (401, Code::Unauthenticated));
}

#[tokio::test]
async fn a_machine_becomes_a_node_once_for_each_join_token() {
    let world = World::start().await;
    let ask = JoinTokenRequest { expires_in: DurationMs::from_secs(600) };
    let join = world
        .owner()
        .create_join_token(world.id(), &ask)
        .await
        .expect("made")
        .result
        .secret
        .expect("a secret");
    let request = |called: &str| EnrolRequest {
        join_token: join.clone(),
        name: name(called),
        roles: vec![NodeRole::Agent],
        capacity: capacity(),
    };
    let id = world.id();
    let enrolled = NodeClient::enrol(&world.url(), id, &request("three")).await.expect("enrolled");
    assert_eq!(enrolled.cluster, "test-cluster");
    let node: NodeId = enrolled.node;
    let plan = plan_of(&world.node(&enrolled.credential), Generation::ZERO).await;
    assert_eq!(plan.node, node);
    let again = NodeClient::enrol(&world.url(), id, &request("three")).await.expect_err("given once");
    let ClientError::Problem(again) = again else { panic!("{again}") };
    assert_eq!((again.code, again.outcome), (Code::Conflict, api::Outcome::Executed));
    let second = NodeClient::enrol(&world.url(), world.id(), &request("four")).await.expect_err("used up");
    assert_eq!(second.code(), Some(Code::Unauthenticated));
    let person = EnrolRequest { join_token: OWNER.into(), ..request("five") };
    let person = NodeClient::enrol(&world.url(), world.id(), &person).await.expect_err("no join token");
    assert_eq!(person.code(), Some(Code::Unauthenticated));
    let drained = world.owner().drain_node(world.id(), "three").await.expect("drained");
    assert_eq!(drained.result.node, Some(node));
    let repeated = world.owner().drain_node(world.id(), &node.to_string()).await.expect("executed");
    assert!(repeated.result.unchanged.is_some());
    world.owner().activate_node(world.id(), "three").await.expect("active");
    assert_eq!(
        world.owner().drain_node(world.id(), "nine").await.expect_err("none").code(),
        Some(Code::NotFound)
    );
}

#[tokio::test]
async fn the_join_secret_of_a_member_makes_no_node_and_opens_nothing() {
    let world = World::start().await;
    let token = NewToken { name: name("join"), hash: Secret::from_text("hf_member").hash(), expires: None };
    let made = world.core.submit(Command::CreateMemberJoin { token }, Actor::System, None).await;
    assert!(matches!(made, Answer::Executed { .. }), "{made:?}");
    let request = EnrolRequest {
        join_token: "hf_member".into(),
        name: name("new"),
        roles: vec![NodeRole::Agent],
        capacity: capacity(),
    };
    let refused = NodeClient::enrol(&world.url(), world.id(), &request).await.expect_err("for members only");
    assert_eq!(refused.code(), Some(Code::Unauthenticated));
    assert_eq!(
        world.client("hf_member").whoami().await.expect_err("no person").code(),
        Some(Code::Forbidden)
    );
    let listed = world.owner().tokens().await.expect("tokens");
    assert!(listed.iter().all(|row| row.name.as_str() != "join"), "{listed:?}");
}
