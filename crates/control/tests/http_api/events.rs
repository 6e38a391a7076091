//! Events: pages, long polls and streams, without loss, without repeats, without other orgs' things.

use crate::world::*;
use api::{EventRow, EventsQuery, SseParser};
use futures_util::StreamExt;
use std::time::Duration;
use types::{EventId, RequestId};

async fn scale(world: &World, replicas: u32) {
    let (org, app, env) = place();
    let request = api::ScaleRequest { process: name("web"), replicas };
    world.owner().scale((&org, &app, &env), world.id(), &request).await.expect("scaled");
}

async fn page(client: &api::Client, after: EventId) -> Vec<EventRow> {
    client.events(EventsQuery { after, ..EventsQuery::default() }).await.expect("a page").events
}

#[tokio::test]
async fn a_stream_that_is_lost_again_and_again_misses_none_and_repeats_none() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let mut seen: Vec<EventRow> = Vec::new();
    for round in 0..8 {
        let after = seen.last().map(|event| event.id).unwrap_or_default();
        let mut stream = Box::pin(world.owner().event_stream(after).await.expect("a stream"));
        scale(&world, 10 + round).await;
        for _ in 0..5 {
            if seen.last().map(|event| event.id) == Some(world.core.head().event) {
                break;
            }
            seen.push(soon("an event", stream.next()).await.expect("goes on").expect("an event"));
        }
    }
    let after = seen.last().expect("some").id;
    seen.extend(page(&world.owner(), after).await);
    let whole = page(&world.owner(), EventId::ZERO).await;
    assert_eq!(seen, whole);
    let others = whole.iter().map(|event| event.id.get()).collect::<Vec<_>>();
    assert!(others.windows(2).all(|pair| pair[0] < pair[1]));
}

#[tokio::test]
async fn the_last_id_that_a_reader_has_is_where_it_goes_on() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let head = world.core.head().event;
    let last = EventId::new(head.get() - 2);
    let request = world.bare("GET", "/v1/events?after=1").bearer_auth(OWNER);
    let request = request.header("accept", "text/event-stream").header("last-event-id", last.to_string());
    let response = request.send().await.expect("a stream");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut parser, mut bytes, mut ids) = (SseParser::default(), response.bytes_stream(), Vec::new());
    while ids.len() < 2 {
        let piece = soon("bytes", bytes.next()).await.expect("goes on").expect("bytes");
        let messages = parser.push(&piece).expect("a stream of events");
        ids.extend(messages.into_iter().map(|message| message.id.expect("an id")));
    }
    assert_eq!(ids, [(last.get() + 1).to_string(), head.to_string()]);
}

#[tokio::test]
async fn a_long_poll_waits_for_the_next_event() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let after = world.core.head().event;
    let client = world.owner();
    let waiting = tokio::spawn(async move {
        client.events(EventsQuery { after, limit: None, wait: true }).await.expect("a page")
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    scale(&world, 4).await;
    let page = soon("the page", waiting).await.expect("no panic");
    assert_eq!(page.events[0].id, after.next());
    assert_eq!(page.events[0].kind, "scale.set");
}

#[tokio::test]
async fn each_reader_sees_its_own_org_and_only_owners_the_server() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let kinds = |events: &[EventRow]| events.iter().map(|event| event.kind.clone()).collect::<Vec<_>>();
    let owner = kinds(&page(&world.owner(), EventId::ZERO).await);
    assert!(
        ["deploy.started", "node.enrolled", "cluster.created", "token.created"]
            .iter()
            .all(|kind| owner.contains(&(*kind).to_owned()))
    );
    let viewer = kinds(&page(&world.client(VIEWER), EventId::ZERO).await);
    assert!(viewer.contains(&"deploy.started".to_owned()));
    assert!(
        !viewer.iter().any(|kind| ["node.", "cluster.", "token."].iter().any(|of| kind.starts_with(of))),
        "{viewer:?}"
    );
    let foreign = page(&world.client(FOREIGN), EventId::ZERO).await;
    let text = serde_json::to_string(&foreign).expect("JSON");
    assert!(!text.contains("shop") && !text.contains(&types::OrgId::from_u128(1).to_string()), "{text}");
}

#[tokio::test]
async fn events_after_the_end_are_refused_rather_than_waited_for() {
    let world = World::start().await;
    let error =
        world.owner().events(EventsQuery { after: EventId::new(9999), ..EventsQuery::default() }).await;
    assert_eq!(error.expect_err("no such place").code(), Some(api::Code::InvalidRequest));
}

#[tokio::test]
async fn a_stream_ends_with_its_token_and_with_the_server() {
    let mut world = World::start().await;
    let request = api::TokenRequest {
        name: name("reader"),
        role: api::TokenRole::Viewer,
        org: None,
        expires_in: types::DurationMs::from_secs(3600),
        scopes: None,
    };
    let made = world.owner().create_token(world.id(), &request).await.expect("made");
    let reader = world.client(&made.result.secret.expect("a secret"));
    let mut theirs = Box::pin(reader.event_stream(world.core.head().event).await.expect("a stream"));
    world.owner().revoke_token(world.id(), made.result.token.expect("a token")).await.expect("revoked");
    let mut ended = false;
    while let Some(next) = soon("the end", theirs.next()).await {
        ended = next.is_err();
    }
    assert!(ended, "a lost stream is an error to its reader");
    let mut mine = Box::pin(world.owner().event_stream(world.core.head().event).await.expect("a stream"));
    let started = std::time::Instant::now();
    world.shutdown.cancel();
    while soon("the end", mine.next()).await.is_some() {}
    soon("the server", world.served.take().expect("served")).await.expect("no panic");
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "streams end with the server: {:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_long_poll_ends_with_its_token() {
    let world = World::start().await;
    let request = api::TokenRequest {
        name: name("reader"),
        role: api::TokenRole::Viewer,
        org: None,
        expires_in: types::DurationMs::from_secs(3600),
        scopes: None,
    };
    let made = world.owner().create_token(world.id(), &request).await.expect("made");
    let after = world.core.head().event;
    let reader = world.client(&made.result.secret.expect("a secret"));
    let waiting =
        tokio::spawn(
            async move { reader.events(EventsQuery { after, limit: None, wait: true }).await.map(drop) },
        );
    world.until_streams(1).await;
    world.owner().revoke_token(world.id(), made.result.token.expect("a token")).await.expect("revoked");
    // The owner's next event is one that this viewer could have seen.
    world.apply("registry.test/shop:1").await;
    let error = soon("an answer", waiting).await.expect("no panic").expect_err("revoked");
    assert_eq!(error.code(), Some(api::Code::Unauthenticated));
}

#[tokio::test]
async fn readers_of_events_take_no_place_from_nodes() {
    let world = World::with_streams(1, 1).await;
    let _theirs = world.owner().event_stream(EventId::ZERO).await.expect("a stream");
    let second = world.owner().event_stream(EventId::ZERO).await.map(drop).expect_err("one too many");
    assert_eq!(second.code(), Some(api::Code::StreamLimit));
    let mut plans =
        Box::pin(world.node(NODE_ONE).agent_stream(types::Generation::ZERO).await.expect("a stream"));
    soon("a plan", plans.next()).await.expect("goes on").expect("a plan");
}

#[tokio::test]
async fn streams_have_a_bound() {
    let world = World::with_streams(2, 2).await;
    let (one, _two) =
        (world.owner().event_stream(EventId::ZERO).await, world.owner().event_stream(EventId::ZERO).await);
    let third = world.owner().event_stream(EventId::ZERO).await.map(drop).expect_err("one too many");
    assert_eq!(third.code(), Some(api::Code::StreamLimit));
    drop(one);
    for _ in 0..500 {
        if world.owner().event_stream(EventId::ZERO).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("what a closed stream held was never given back");
}

#[tokio::test]
async fn a_request_id_is_found_in_the_events_it_caused() {
    let world = World::start().await;
    let receipt = world.apply("registry.test/shop:1").await;
    let events = page(&world.owner(), EventId::ZERO).await;
    let of_request: Vec<_> =
        events.iter().filter(|event| event.request_id == Some(receipt.request_id)).collect();
    assert_eq!(of_request.len(), receipt.events.len());
    let shown: Vec<_> = of_request.iter().map(|event| (event.id, event.kind.clone())).collect();
    let told: Vec<_> = receipt.events.iter().map(|event| (event.id, event.kind.clone())).collect();
    assert_eq!(shown, told);
    assert!(of_request.iter().all(|event| event.actor.starts_with("tok_")));
    let _: RequestId = receipt.request_id;
}
