//! Writes: one verdict for one request, whatever is sent again, lost or refused.

use crate::world::*;
use api::{
    Client, ClientError, Code, DeployRequest, Outcome, Problem, RequestVerdict, RestartRequest,
    RollbackRequest, ScaleRequest, TokenRequest, TokenRole, routes,
};
use log::AppendError;
use std::sync::atomic::Ordering;
use types::{DurationMs, RequestId, limits};

fn refusal(error: ClientError) -> Problem {
    match error {
        ClientError::Problem(problem) => *problem,
        other => panic!("no problem: {other}"),
    }
}

async fn scale(client: &Client, id: RequestId, replicas: u32) -> Result<api::Receipt, ClientError> {
    let (org, app, env) = place();
    client.scale((&org, &app, &env), id, &ScaleRequest { process: name("web"), replicas }).await
}

#[tokio::test]
async fn a_request_sent_again_gets_its_receipt_even_when_the_registry_is_gone() {
    let world = World::start().await;
    let (id, request) = (world.id(), shop("registry.test/shop:1"));
    let first = world.owner().apply(&name("main"), id, &request).await.expect("applied");
    assert_eq!(first.outcome, Outcome::Executed);
    assert_eq!(first.result.release_number, Some(1));
    assert!(first.events.iter().any(|event| event.kind == "deploy.started"), "{first:?}");
    assert_eq!(first.events.last().map(|event| event.id), Some(first.event));
    let head = world.core.head().event;
    world.registry.off.store(true, Ordering::SeqCst);
    let again = world.owner().apply(&name("main"), id, &request).await.expect("the same receipt");
    assert_eq!(again, first);
    assert_eq!(world.core.head().event, head, "nothing was written for the copy");
    assert_eq!(world.registry.asked.load(Ordering::SeqCst), 1);
    let fresh = world.owner().apply(&name("main"), world.id(), &shop("registry.test/shop:2")).await;
    let fresh = refusal(fresh.expect_err("no registry"));
    assert_eq!((fresh.code, fresh.outcome), (Code::ImageUnavailable, Outcome::NotExecuted));
}

#[tokio::test]
async fn copies_of_a_request_that_run_into_each_other_run_once() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let (id, head) = (world.id(), world.core.head().event);
    let client = world.owner();
    let copies = futures_util::future::join_all((0..20).map(|_| scale(&client, id, 5))).await;
    let receipts: Vec<_> = copies.into_iter().map(|copy| copy.expect("executed")).collect();
    assert!(receipts.iter().all(|receipt| *receipt == receipts[0]), "{receipts:?}");
    assert_eq!(world.core.head().event.get(), head.get() + 2, "one scale.set and one verdict");
}

#[tokio::test]
async fn the_same_body_in_another_spelling_is_the_same_request_and_another_body_is_not() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let id = world.id().to_string();
    let path = "/v1/orgs/main/apps/shop/envs/prod/scale";
    let send = |body: &'static str| {
        world.bare("POST", path).bearer_auth(OWNER).header(routes::IDEMPOTENCY_KEY, &id).body(body)
    };
    let first = send(r#"{"process":"web","replicas":4}"#).send().await.expect("an answer");
    assert_eq!(first.status(), 200);
    let first = first.text().await.expect("a body");
    let again = send("{ \"replicas\": 4,\n \"process\": \"web\" }").send().await.expect("an answer");
    assert_eq!(again.text().await.expect("a body"), first);
    let (status, reused) = problem(send(r#"{"process":"web","replicas":9}"#)).await;
    assert_eq!((status, reused.code), (422, Code::RequestIdReused));
    assert_eq!(reused.request_id.map(|id| id.to_string()), Some(id.clone()));
    let other_path = world.bare("POST", "/v1/orgs/main/apps/shop/envs/prod/restart").bearer_auth(OWNER);
    let (_, reused) = problem(other_path.header(routes::IDEMPOTENCY_KEY, &id)).await;
    assert_eq!(reused.code, Code::RequestIdReused);
    let env = world.env();
    assert_eq!(world.core.state().envs[&env].scale[&name("web")], 4);
}

#[tokio::test]
async fn a_write_names_its_request_properly_or_is_not_executed() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let head = world.core.head().event;
    let path = "/v1/orgs/main/apps/shop/envs/prod/scale";
    let body = r#"{"process":"web","replicas":4}"#;
    let (_, none) = problem(world.bare("POST", path).bearer_auth(OWNER).body(body)).await;
    assert_eq!(none.code, Code::InvalidRequest);
    assert!(none.hint.is_some());
    let send = |id: &str| {
        problem(
            world
                .bare("POST", path)
                .bearer_auth(OWNER)
                .header(routes::IDEMPOTENCY_KEY, id.to_owned())
                .body(body),
        )
    };
    assert_eq!(send("123").await.1.code, Code::InvalidRequestId);
    let old = RequestId::from_parts(types::Timestamp::from_ms(5), 1);
    assert_eq!(send(&old.to_string()).await.1.code, Code::RequestExpired);
    let ahead = RequestId::from_parts(rt::Clock::now(&*world.clock).plus(DurationMs::from_secs(3600)), 1);
    assert_eq!(send(&ahead.to_string()).await.1.code, Code::RequestAhead);
    assert_eq!(world.core.head().event, head);
    let seen = world.owner().request(old).await.expect("an answer");
    assert_eq!((seen.state, seen.is_final), (RequestVerdict::Expired, true));
}

#[tokio::test]
async fn a_refusal_stands_in_the_log_and_is_given_again() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let (org, app, env) = place();
    let request = ScaleRequest { process: name("worker"), replicas: 1 };
    let id = world.id();
    let first =
        refusal(world.owner().scale((&org, &app, &env), id, &request).await.expect_err("no such process"));
    assert_eq!((first.code, first.outcome), (Code::NoSuchProcess, Outcome::NotExecuted));
    let again = refusal(world.owner().scale((&org, &app, &env), id, &request).await.expect_err("the same"));
    assert_eq!(again, first);
    let seen = world.owner().request(id).await.expect("known");
    assert_eq!(
        (seen.state, seen.code, seen.is_final),
        (RequestVerdict::Refused, Some(Code::NoSuchProcess), true)
    );
}

#[tokio::test]
async fn a_voided_request_never_runs_and_an_executed_one_is_not_voided() {
    let world = World::start().await;
    let receipt = world.apply("registry.test/shop:1").await;
    let id = world.id();
    assert_eq!(world.owner().request(id).await.expect("known").state, RequestVerdict::NotSeen);
    let voided = world.owner().void(id).await.expect("voided");
    assert_eq!((voided.state, voided.is_final), (RequestVerdict::Voided, true));
    let late = refusal(scale(&world.owner(), id, 7).await.expect_err("voided"));
    assert_eq!((late.code, late.outcome), (Code::RequestVoided, Outcome::NotExecuted));
    let done = refusal(world.owner().void(receipt.request_id).await.expect_err("done"));
    assert_eq!((done.code, done.outcome), (Code::Conflict, Outcome::Executed));
}

#[tokio::test]
async fn what_the_log_does_not_know_is_not_guessed() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    world.log.hold();
    let client = world.owner();
    let sent = tokio::spawn({
        let (client, id) = (client.clone(), world.id());
        async move { scale(&client, id, 9).await }
    });
    world.until_held().await;
    world.log.fail_held(AppendError::NoSpace);
    let full = refusal(soon("an answer", sent).await.expect("no panic").expect_err("no space"));
    assert_eq!((full.code, full.outcome), (Code::StorageFull, Outcome::NotExecuted));
    assert!(scale(&client, world.id(), 3).await.is_ok(), "writes go on when there is space");
    world.log.hold();
    let id = world.id();
    let sent = tokio::spawn(async move { scale(&client, id, 9).await });
    world.until_held().await;
    world.log.fail_held(AppendError::Unknown);
    let unknown = refusal(soon("an answer", sent).await.expect("no panic").expect_err("unknown"));
    assert_eq!((unknown.code, unknown.outcome), (Code::UnknownOutcome, Outcome::Unknown));
    assert!(unknown.hint.expect("a way on").contains(&id.to_string()));
    assert_eq!(unknown.request_id, Some(id));
}

/// Sends a write of its own kind and gives its answer as a problem.
async fn refused(world: &World, secret: &str, path: &str, id: RequestId, body: String) -> Problem {
    let request = world.bare("POST", path).bearer_auth(secret);
    problem(request.header(routes::IDEMPOTENCY_KEY, id.to_string()).body(body)).await.1
}

#[tokio::test]
async fn a_token_that_died_is_told_nothing_about_its_request_and_nothing_false() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let request = TokenRequest {
        name: name("ci"),
        role: TokenRole::Owner,
        org: None,
        expires_in: DurationMs::from_secs(60),
        scopes: None,
    };
    let made = world.owner().create_token(world.id(), &request).await.expect("made");
    let secret = made.result.secret.clone().expect("a secret");
    let id = world.id();
    scale(&world.client(&secret), id, 5).await.expect("executed");
    world.owner().revoke_token(world.id(), made.result.token.expect("a token")).await.expect("revoked");
    let late = refusal(scale(&world.client(&secret), id, 5).await.expect_err("revoked"));
    assert_eq!((late.code, late.request_id), (Code::Unauthenticated, None));
    assert_ne!(late.outcome, Outcome::NotExecuted, "it was executed: {late:?}");
    let fresh = refusal(scale(&world.client(&secret), world.id(), 5).await.expect_err("revoked"));
    assert_eq!((fresh.request_id, fresh.outcome), (None, Outcome::NotExecuted));
}

#[tokio::test]
async fn a_copy_that_meets_a_silent_registry_says_nothing_of_the_copy_that_waits_for_it() {
    let world = World::start().await;
    let silent = world.registry.silent.clone().lock_owned().await;
    let (id, client) = (world.id(), world.owner());
    let first =
        tokio::spawn(async move { client.apply(&name("main"), id, &shop("registry.test/shop:1")).await });
    while world.registry.asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    world.registry.off.store(true, Ordering::SeqCst);
    let second = world.owner().apply(&name("main"), id, &shop("registry.test/shop:1")).await;
    let second = refusal(second.expect_err("no registry"));
    assert_eq!((second.code, second.outcome), (Code::ImageUnavailable, Outcome::Unknown));
    assert_eq!(second.request_id, Some(id));
    assert!(second.hint.expect("a way on").contains(&id.to_string()));
    drop(silent);
    soon("the first copy", first).await.expect("no panic").expect("executed after all");
    world.registry.off.store(true, Ordering::SeqCst);
    let other = world.owner().apply(&name("main"), world.id(), &shop("registry.test/shop:2")).await;
    assert_eq!(refusal(other.expect_err("no registry")).outcome, Outcome::NotExecuted);
}

#[tokio::test]
async fn what_is_refused_on_the_way_to_an_executed_request_says_that_it_is_executed() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let id = world.id();
    scale(&world.owner(), id, 5).await.expect("executed");
    let path = "/v1/orgs/main/apps/shop/envs/prod/scale";
    let cut = refused(&world, OWNER, path, id, r#"{"process":"web","#.into()).await;
    assert_eq!((cut.code, cut.outcome), (Code::InvalidRequest, Outcome::Executed));
    assert_eq!(cut.request_id, Some(id));
    // Who may not see the request learns nothing of it.
    let foreign = refused(&world, FOREIGN, path, id, String::new()).await;
    assert_eq!((foreign.code, foreign.outcome), (Code::NotFound, Outcome::NotExecuted));
}

#[tokio::test]
async fn a_copy_for_which_the_queue_is_full_says_nothing_of_the_copy_that_is_queued() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    world.log.hold();
    let (id, client) = (world.id(), world.owner());
    let first = tokio::spawn(async move { scale(&client, id, 9).await });
    world.until_held().await;
    // The client of the first copy hangs up; what is queued runs all the same.
    first.abort();
    let (voided, env) = (world.id(), world.env());
    let mut crowd = Vec::new();
    while world.core.queued() < limits::COMMAND_QUEUE {
        let core = world.core.clone();
        let command = domain::Command::Restart { env };
        crowd.push(tokio::spawn(async move { core.submit(command, domain::Actor::System, None).await }));
        tokio::task::yield_now().await;
    }
    let copy = refusal(scale(&world.owner(), id, 9).await.expect_err("full"));
    assert_eq!((copy.code, copy.outcome, copy.request_id), (Code::Unavailable, Outcome::Unknown, Some(id)));
    let other = refusal(scale(&world.owner(), world.id(), 9).await.expect_err("full"));
    assert_eq!((other.code, other.outcome), (Code::Unavailable, Outcome::NotExecuted));
    let void = refusal(world.owner().void(voided).await.expect_err("full"));
    assert_eq!((void.code, void.outcome), (Code::Unavailable, Outcome::Unknown), "it may still arrive");
    assert_eq!(void.request_id, Some(voided));
    world.log.release();
    for asked in crowd {
        soon("an answer", asked).await.expect("no panic");
    }
    let seen = world.owner().request(id).await.expect("known");
    assert_eq!(seen.state, RequestVerdict::Executed);
}

#[tokio::test]
async fn a_query_is_part_of_what_was_asked() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let path = "/v1/orgs/main/apps/shop/envs/prod/scale";
    let (id, body) = (world.id(), r#"{"process":"web","replicas":4}"#.to_owned());
    scale(&world.owner(), id, 4).await.expect("executed");
    let other = refused(&world, OWNER, &format!("{path}?dry=true"), id, body).await;
    assert_eq!(other.code, Code::RequestIdReused);
}

#[tokio::test]
async fn a_write_whose_token_dies_before_it_is_decided_is_not_let_in() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let request = TokenRequest {
        name: name("ci"),
        role: TokenRole::Owner,
        org: None,
        expires_in: DurationMs::from_secs(60),
        scopes: None,
    };
    let made = world.owner().create_token(world.id(), &request).await.expect("made");
    let (client, token) =
        (world.client(&made.result.secret.expect("a secret")), made.result.token.expect("a token"));
    // It is let in, and then waits for a registry until nobody would let it in any more.
    let silent = world.registry.silent.clone().lock_owned().await;
    let (id, asked) = (world.id(), world.registry.asked.load(Ordering::SeqCst));
    let late =
        tokio::spawn(async move { client.apply(&name("main"), id, &shop("registry.test/shop:2")).await });
    while world.registry.asked.load(Ordering::SeqCst) == asked {
        tokio::task::yield_now().await;
    }
    world.owner().revoke_token(world.id(), token).await.expect("revoked");
    let head = world.core.head().event;
    drop(silent);
    let late = refusal(soon("an answer", late).await.expect("no panic").expect_err("too late"));
    assert_eq!((late.code, late.status, late.outcome), (Code::Unauthenticated, 401, Outcome::NotExecuted));
    assert_eq!(world.core.head().event, head, "nothing was written for it");
}

#[tokio::test]
async fn a_hundred_megabytes_are_refused_and_the_answer_arrives() {
    let world = World::start().await;
    let path = "/v1/orgs/main/apply";
    let large = || vec![b'x'; 100 << 20];
    let send = || {
        world.bare("POST", path).bearer_auth(OWNER).header(routes::IDEMPOTENCY_KEY, world.id().to_string())
    };
    let (status, announced) = problem(send().body(large())).await;
    assert_eq!((status, announced.code, announced.outcome), (413, Code::BodyTooLarge, Outcome::NotExecuted));
    let pieces = futures_util::stream::iter(
        large().chunks(1 << 20).map(<[u8]>::to_vec).map(Ok::<_, std::io::Error>).collect::<Vec<_>>(),
    );
    let (status, chunked) = problem(send().body(reqwest::Body::wrap_stream(pieces))).await;
    assert_eq!((status, chunked.code), (413, Code::BodyTooLarge));
}

#[tokio::test]
async fn an_unsound_manifest_is_refused_with_its_place_before_any_registry_is_asked() {
    let world = World::start().await;
    let mut request = shop("registry.test/shop:1");
    request.manifest.processes.get_mut(&name("web")).expect("web").replicas = limits::REPLICAS + 1;
    let refused =
        refusal(world.owner().apply(&name("main"), world.id(), &request).await.expect_err("unsound"));
    assert_eq!(
        (refused.code, refused.path.as_deref()),
        (Code::InvalidManifest, Some("processes.web.replicas"))
    );
    assert_eq!(world.registry.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_plan_says_what_would_change_and_writes_nothing() {
    let world = World::start().await;
    let request = shop("registry.test/shop:1");
    let first = world.owner().plan(&name("main"), &request).await.expect("a plan");
    assert!(!first.release_exists && first.changes.iter().all(|change| change.before.is_none()));
    world.apply("registry.test/shop:1").await;
    let head = world.core.head().event;
    let same = world.owner().plan(&name("main"), &request).await.expect("a plan");
    assert!(same.changes.is_empty() && same.release_exists, "{same:?}");
    assert!(same.rolling.is_some(), "the deploy that is to be followed: {same:?}");
    assert!(!same.warnings.iter().any(|warning| warning.contains("under way")), "{:?}", same.warnings);
    scale(&world.owner(), world.id(), 5).await.expect("scaled");
    let mut next = shop("registry.test/shop:2");
    next.manifest.processes.get_mut(&name("web")).expect("web").memory = types::ByteSize::from_mib(128);
    let plan = world.owner().plan(&name("main"), &next).await.expect("a plan");
    let shown: Vec<_> = plan.changes.iter().map(|change| change.path.as_str()).collect();
    assert_eq!(shown, ["image.ref", "image.digest", "processes.web.memory", "processes.web.replicas"]);
    let replicas = plan.changes.last().expect("a change");
    assert_eq!((replicas.before.as_deref(), replicas.after.as_deref()), (Some("5"), Some("2")));
    assert!(plan.warnings.iter().any(|warning| warning.contains("takes its place")), "{:?}", plan.warnings);
    assert!(plan.warnings.iter().any(|warning| warning.contains("by hand")), "{:?}", plan.warnings);
    assert_eq!(world.core.head().event.get(), head.get() + 2, "only the scale was written");
}

#[tokio::test]
async fn if_match_lets_only_those_write_who_saw_what_is_there() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let path = "/v1/orgs/main/apps/shop/envs/prod";
    let seen = world.bare("GET", path).bearer_auth(OWNER).send().await.expect("an answer");
    let tag = seen.headers()["etag"].to_str().expect("text").to_owned();
    let send = |tag: &str, replicas: u32| {
        let request = world
            .bare("POST", &format!("{path}/scale"))
            .bearer_auth(OWNER)
            .header("if-match", tag.to_owned());
        let body = format!(r#"{{"process":"web","replicas":{replicas}}}"#);
        request.header(routes::IDEMPOTENCY_KEY, world.id().to_string()).body(body)
    };
    assert_eq!(send(&tag, 6).send().await.expect("an answer").status(), 200);
    let (status, stale) = problem(send(&tag, 7)).await;
    assert_eq!((status, stale.code), (412, Code::PreconditionFailed));
    assert_eq!(send("*", 8).send().await.expect("an answer").status(), 200);
    let (_, new) = problem(
        world
            .bare("POST", "/v1/orgs/main/apply")
            .bearer_auth(OWNER)
            .header("if-match", "*")
            .header(routes::IDEMPOTENCY_KEY, world.id().to_string())
            .json(&api::ApplyRequest { env: name("new"), ..shop("registry.test/shop:1") }),
    )
    .await;
    assert_eq!(new.code, Code::PreconditionFailed);
}

#[tokio::test]
async fn rollback_deploy_and_restart_go_through_the_same_door() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let (org, app, env) = place();
    let at = (&org, &app, &env);
    let second = DeployRequest { image: "registry.test/shop:2".into() };
    let second = world.owner().deploy(at, world.id(), &second).await.expect("deployed");
    assert_eq!(second.result.release_number, Some(2));
    assert_eq!(second.result.image.expect("pinned"), pinned("registry.test/shop:2"));
    let back = RollbackRequest { release: Some("1".into()) };
    let back = world.owner().rollback(at, world.id(), &back).await.expect("rolled back");
    assert_eq!(back.result.release_number, Some(1));
    let missing = RollbackRequest { release: Some("77".into()) };
    let missing = refusal(world.owner().rollback(at, world.id(), &missing).await.expect_err("none"));
    assert_eq!((missing.code, missing.outcome), (Code::NotFound, Outcome::NotExecuted));
    let restart = refusal(
        world.owner().restart(at, world.id(), &RestartRequest::default()).await.expect_err("serves nothing"),
    );
    assert_eq!(restart.code, Code::Conflict);
    let nothing = scale(&world.owner(), world.id(), 2).await.expect("executed");
    assert!(nothing.result.unchanged.is_some(), "{nothing:?}");
}

#[tokio::test]
async fn a_tokens_secret_is_shown_once() {
    let world = World::start().await;
    let request = TokenRequest {
        name: name("ci"),
        role: TokenRole::Viewer,
        org: None,
        expires_in: DurationMs::from_secs(60),
        scopes: None,
    };
    let id = world.id();
    let made = world.owner().create_token(id, &request).await.expect("made");
    let secret = made.result.secret.clone().expect("a secret");
    assert!(secret.starts_with("hf_") && secret.len() == 67);
    let again = world.owner().create_token(id, &request).await.expect("the same receipt");
    assert_eq!(again.result.secret, None);
    assert!(again.result.unchanged.is_some());
    assert_eq!((again.event, again.result.token), (made.event, made.result.token));
    let who = world.client(&secret).whoami().await.expect("let in");
    assert_eq!((who.role, who.org), (TokenRole::Viewer, Some(name("main"))));
    world.clock.advance(DurationMs::from_secs(61));
    assert_eq!(
        world.client(&secret).whoami().await.expect_err("expired").code(),
        Some(Code::Unauthenticated)
    );
    let page = world.owner().events(api::EventsQuery::default()).await.expect("events");
    let text = serde_json::to_string(&page.events).expect("JSON");
    assert!(!text.contains(&secret) && !text.contains("\"hash\""));
}

#[tokio::test]
async fn a_revoked_token_opens_nothing_from_then_on() {
    let world = World::start().await;
    let request = TokenRequest {
        name: name("ci"),
        role: TokenRole::Owner,
        org: None,
        expires_in: DurationMs::from_secs(60),
        scopes: None,
    };
    let made = world.owner().create_token(world.id(), &request).await.expect("made");
    let client = world.client(&made.result.secret.expect("a secret"));
    client.whoami().await.expect("let in");
    world.owner().revoke_token(world.id(), made.result.token.expect("a token")).await.expect("revoked");
    assert_eq!(client.whoami().await.expect_err("revoked").code(), Some(Code::Unauthenticated));
}
