//! Reads: what they show, which event they reflect, and waiting for one.

use crate::world::*;
use api::{Code, DeployState};
use domain::{Actor, Command};
use types::{
    EventId, InstanceId, NodeId, Timestamp,
    plan::{Change, Transition},
};

async fn report(world: &World, node: NodeId, instance: InstanceId, sequence: u64, change: Change) {
    let transition = Transition { instance, sequence, at: Timestamp::from_ms(1), change };
    let command = Command::Report { node, transitions: vec![transition] };
    world.core.submit(command, Actor::Node(node), None).await;
}

#[tokio::test]
async fn what_was_written_is_read_at_once_and_the_answer_says_which_event_it_reflects() {
    let world = World::start().await;
    let (org, app, env) = place();
    for round in 1..20_u64 {
        let receipt = world.apply(&format!("registry.test/shop:{round}")).await;
        let reader = world.owner().at_least(receipt.event);
        let status = reader.status((&org, &app, &env)).await.expect("a status");
        assert!(status.event >= receipt.event);
        assert_eq!(status.release.expect("a release").number, round);
        let views = world.owner().views().await.expect("views");
        assert!(views.iter().all(|view| view.checkpoint >= receipt.event), "{views:?}");
    }
}

#[tokio::test]
async fn an_event_that_was_never_written_is_not_waited_for_in_vain() {
    let world = World::start().await;
    let nowhere = world.owner().at_least(EventId::new(1_000_000));
    let error = nowhere.apps(&name("main")).await.expect_err("not there");
    assert_eq!(error.code(), Some(Code::EventAhead));
}

#[tokio::test]
async fn a_status_counts_what_is_wanted_placed_and_ready() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let (org, app, env) = place();
    let at = (&org, &app, &env);
    let status = world.owner().status(at).await.expect("a status");
    assert!(!status.converged && !status.why.is_empty());
    let instance = world.place(ONE).await;
    report(&world, ONE, instance, 1, Change::Booting).await;
    report(&world, ONE, instance, 2, Change::Ready).await;
    let failing = world.place(TWO).await;
    let reason = types::plan::Reason::ImageNotFound;
    report(&world, TWO, failing, 1, Change::Failed { reason, detail: "no such image".into() }).await;
    let status = world.owner().status(at).await.expect("a status");
    let web = &status.processes[0];
    assert_eq!((web.desired, web.placed, web.ready, web.current, web.failing), (2, 2, 1, 1, 1), "{web:?}");
    assert_eq!(status.routes[0].backends.len(), 1);
    let rows = world.owner().instances(at).await.expect("instances");
    let failed = rows.iter().find(|row| row.id == failing).expect("listed");
    assert_eq!((failed.state.as_str(), failed.reason, failed.node.as_str()), ("failed", Some(reason), "two"));
    let explained = world.owner().explain(at).await.expect("an explanation");
    assert!(!explained.lines.is_empty() && explained.summary.contains("not as declared"), "{explained:?}");
    let routes = world.owner().routes(&org).await.expect("routes");
    assert_eq!(routes[0].backends[0].instance, instance);
}

#[tokio::test]
async fn every_deploy_is_listed_with_how_it_ended() {
    let world = World::start().await;
    let (org, app, env) = place();
    for image in ["registry.test/shop:1", "registry.test/shop:2", "registry.test/shop:3"] {
        world.apply(image).await;
    }
    let deploys = world.owner().deploys((&org, &app, &env)).await.expect("deploys");
    let shown: Vec<_> =
        deploys.iter().map(|deploy| (deploy.release, deploy.state, deploy.ended.is_some())).collect();
    let expected =
        [(3, DeployState::Started, false), (2, DeployState::Failed, true), (1, DeployState::Failed, true)];
    assert_eq!(shown, expected);
    let oldest = &deploys[2];
    assert!(oldest.reason.as_ref().expect("a reason").contains("took its place"), "{oldest:?}");
    let one = world.owner().deploy_status((&org, &app, &env), oldest.id).await.expect("the same");
    assert_eq!(one, *oldest);
}

#[tokio::test]
async fn lists_come_in_pages() {
    let world = World::start().await;
    for image in 1..=7 {
        world.apply(&format!("registry.test/shop:{image}")).await;
    }
    let mut numbers = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/orgs/main/apps/shop/envs/prod/releases?limit=3{cursor}");
        let answer = world.bare("GET", &path).bearer_auth(VIEWER).send().await.expect("an answer");
        let page: api::Page<api::ReleaseRow> = answer.json().await.expect("a page");
        assert!(page.rows.len() <= 3);
        numbers.extend(page.rows.iter().map(|row| row.number));
        match page.next {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(numbers, [7, 6, 5, 4, 3, 2, 1]);
    assert_eq!(world.owner().apps(&name("main")).await.expect("apps")[0].envs, [name("prod")]);
    assert_eq!(world.owner().envs(&name("main"), &name("shop")).await.expect("envs")[0].release, Some(7));
}
