//! The audit: everything that is attempted is there, once, without its secrets.

use crate::world::*;
use api::{
    ActDone, ActRequest, AuditNews, AuditPage, AuditQuery, AuditRow, AuditType, Code, ConfirmedBy, Outcome,
    Password, PersonRequest, RequestVerdict, TokenRole, routes,
};
use domain::{Actor, Command};
use futures_util::StreamExt;
use holdfast_control::{Answer, Journal, Options};
use rt::{Clock as _, Disk as _, SimDisk};
use serde_json::json;
use std::{path::Path, sync::atomic::Ordering, time::Duration};
use tokio::io::AsyncWriteExt;
use types::limits;

async fn page(world: &World) -> AuditPage {
    world.owner().audit(&AuditQuery::default()).await.expect("a page")
}

/// The rows about requests of people, once there are so many that fit.
async fn until(world: &World, what: &str, fits: impl Fn(&[AuditRow]) -> bool) -> Vec<AuditRow> {
    for _ in 0..1000 {
        let rows = page(world).await.rows;
        if fits(&rows) {
            return rows;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: {:#?}", page(world).await.rows);
}

fn of(rows: &[AuditRow], kind: AuditType) -> Vec<&AuditRow> {
    rows.iter().filter(|row| row.kind == kind).collect()
}

/// Sends a write whose image nobody names, and hangs up.
async fn hang_up(world: &World, id: types::RequestId) {
    let body = serde_json::to_string(&shop("registry.test/silent:1")).expect("JSON");
    let head = format!(
        "POST /v1/orgs/main/apply HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {OWNER}\r\n\
         idempotency-key: {id}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let asked = world.registry.asked.load(Ordering::SeqCst);
    let mut stream = tokio::net::TcpStream::connect(world.address).await.expect("connected");
    stream.write_all(head.as_bytes()).await.expect("sent");
    for _ in 0..1000 {
        if world.registry.asked.load(Ordering::SeqCst) > asked {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the request never came so far");
}

#[tokio::test]
async fn every_attempt_is_there_once_with_what_came_of_it() {
    let world = World::audited(&SimDisk::new(1)).await;
    let executed = world.apply("registry.test/shop:1").await.request_id;
    let (refused, failed, abandoned) = (world.id(), world.id(), world.id());
    let (org, app, env) = place();
    let scale = |process: &str| api::ScaleRequest { process: name(process), replicas: 2 };
    let to = (&org, &app, &env);
    world.owner().scale(to, refused, &scale("nothing")).await.expect_err("no such process");
    world.client(VIEWER).scale(to, world.id(), &scale("web")).await.expect_err("a viewer");
    world.client("hf_unknown").scale(to, world.id(), &scale("web")).await.expect_err("nobody");
    world.client(EXPIRED).scale(to, world.id(), &scale("web")).await.expect_err("expired");
    world.registry.off.store(true, Ordering::SeqCst);
    let deploy = api::DeployRequest { image: "registry.test/shop:2".into() };
    world.owner().deploy(to, failed, &deploy).await.expect_err("the registry is gone");
    world.registry.off.store(false, Ordering::SeqCst);
    let silent = world.registry.silent.clone().lock_owned().await;
    hang_up(&world, abandoned).await;
    let rows = until(&world, "abandoned", |rows| !of(rows, AuditType::Abandoned).is_empty()).await;
    drop(silent);

    let id = |kind| of(&rows, kind).iter().filter_map(|row| row.request.id).collect::<Vec<_>>();
    assert_eq!(id(AuditType::Executed), [executed]);
    assert_eq!(id(AuditType::Refused), [refused]);
    assert_eq!(id(AuditType::Failed), [failed]);
    assert_eq!(id(AuditType::Abandoned), [abandoned]);
    let denied = of(&rows, AuditType::Denied);
    let who: Vec<_> = denied.iter().map(|row| (row.actor.as_str(), row.code.as_deref())).collect();
    let viewer = types::TokenId::from_u128(22).to_string();
    let expired = types::TokenId::from_u128(24).to_string();
    assert_eq!(
        who,
        [
            (viewer.as_str(), Some("forbidden")),
            ("nobody", Some("unauthenticated")),
            (expired.as_str(), Some("unauthenticated"))
        ]
    );
    let refused = of(&rows, AuditType::Refused)[0];
    assert_eq!(refused.code.as_deref(), Some("no_such_process"));
    assert_eq!(refused.request.path, "/v1/orgs/main/apps/shop/envs/prod/scale");
    assert_eq!(refused.request.body, Some(json!({ "process": "nothing", "replicas": 2 })));
    assert_eq!((refused.source.as_deref(), refused.node), (Some("127.0.0.1"), Some(ONE)));
    assert_eq!((refused.outcome, refused.epoch.get()), (Outcome::NotExecuted, 1));
    assert!(refused.last_event.get() > 16);
    let executed = of(&rows, AuditType::Executed)[0];
    assert!(executed.act.as_deref().is_some_and(|act| act.contains("deploy.started")), "{executed:?}");
    assert_eq!(of(&rows, AuditType::Abandoned)[0].outcome, Outcome::Unknown);
    let events: Vec<_> = rows.iter().map(|row| row.last_event).collect();
    assert!(events.is_sorted(), "{events:?}");

    let only = AuditQuery { kind: Some(AuditType::Denied), actor: Some(viewer), ..AuditQuery::default() };
    assert_eq!(world.owner().audit(&only).await.expect("a page").rows.len(), 1);
    let viewer = world.client(VIEWER).audit(&AuditQuery::default()).await.expect_err("for owners");
    assert_eq!(viewer.code(), Some(Code::Forbidden));
    let foreign = world.client(FOREIGN).audit(&AuditQuery::default()).await.expect("a page").rows;
    assert!(foreign.iter().all(|row| row.actor == "nobody"), "{foreign:#?}");
}

#[tokio::test]
async fn secrets_are_seen_to_be_redacted_and_are_nowhere() {
    let disk = SimDisk::new(1);
    let world = World::audited(&disk).await;
    let body = json!({ "name": "ci", "role": "viewer", "password": "hunter2", "expires_in": "1h" });
    let call = world.bare("POST", routes::TOKENS).bearer_auth(OWNER);
    let id = world.id().to_string();
    let (status, _) = problem(call.header(routes::IDEMPOTENCY_KEY, id).json(&body)).await;
    assert_eq!(status, 400);
    let call = world.bare("POST", routes::TOKENS).bearer_auth("hf_very-secret").json(&body);
    assert_eq!(problem(call).await.0, 401);
    let rows = page(&world).await.rows;
    let refused = of(&rows, AuditType::Refused)[0];
    let body = refused.request.body.as_ref().expect("kept");
    assert_eq!((&body["password"], &body["name"]), (&json!("[redacted]"), &json!("ci")));
    let denied = of(&rows, AuditType::Denied)[0];
    assert_eq!(denied.request.cut.as_deref(), Some("the body was not read"));
    let text = disk.read(&Path::new(AUDITED).join("audit/journal")).expect("a journal");
    let text = String::from_utf8(text).expect("text");
    assert!(!text.contains("hunter2") && !text.contains("very-secret") && !text.contains(OWNER), "{text}");
}

#[tokio::test]
async fn a_flood_of_denials_is_bounded_and_counted() {
    let world = World::audited(&SimDisk::new(1)).await;
    for _ in 0..limits::FLOOD_LINES + 7 {
        assert_eq!(problem(world.bare("POST", routes::TOKENS)).await.0, 401);
    }
    assert_eq!(page(&world).await.rows.len() as u64, limits::FLOOD_LINES);
    let figures =
        world.bare("GET", routes::METRICS).send().await.expect("an answer").text().await.expect("text");
    assert!(figures.contains("\nholdfast_audit_counted_total 7\n"), "{figures}");
    let lines = format!("\nholdfast_audit_lines_total{{type=\"denied\"}} {}\n", limits::FLOOD_LINES);
    assert!(figures.contains(&lines), "{figures}");
    world.clock.advance(limits::FLOOD_WINDOW);
    let rows = until(&world, "the rest", |rows| !of(rows, AuditType::More).is_empty()).await;
    let more = of(&rows, AuditType::More)[0];
    assert!(more.reason.starts_with("and 7 more from 127.0.0.1 between "), "{more:?}");
    assert_eq!(more.more.map(|more| more.count), Some(7));
}

#[tokio::test]
async fn a_disk_that_takes_nothing_is_said_and_everything_else_goes_on() {
    let disk = SimDisk::new(1);
    let world = World::audited(&disk).await;
    disk.set_capacity(Some(disk.used()));
    assert_eq!(problem(world.bare("POST", routes::TOKENS)).await.0, 401);
    world.apply("registry.test/shop:1").await;
    let ready = world.owner().ready().await.expect("ready");
    let reason = ready.reason.expect("a reason");
    assert!(ready.ready && reason.contains("the audit cannot be written"), "{reason}");
    let figures =
        world.bare("GET", routes::METRICS).send().await.expect("an answer").text().await.expect("text");
    assert!(figures.contains("\nholdfast_audit_writable 0\n"), "{figures}");
    disk.set_capacity(None);
    let rows = until(&world, "the gap", |rows| !of(rows, AuditType::Lost).is_empty()).await;
    assert_eq!(of(&rows, AuditType::Lost)[0].more.map(|more| more.count), Some(1));
    soon("well again", async {
        while world.owner().ready().await.expect("ready").reason.is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_shows_what_the_journals_know_of_it_and_what_is_final() {
    let world = World::audited(&SimDisk::new(1)).await;
    world.apply("registry.test/shop:1").await;
    let (org, app, env) = place();
    let (to, id) = ((&org, &app, &env), world.id());
    let scale = api::ScaleRequest { process: name("web"), replicas: 1 };
    world.client(VIEWER).scale(to, id, &scale).await.expect_err("a viewer");
    let state = world.owner().request(id).await.expect("known");
    assert_eq!((state.state, state.is_final), (RequestVerdict::NotSeen, false));
    assert_eq!(state.attempts.iter().map(|row| row.kind).collect::<Vec<_>>(), [AuditType::Denied]);
    let receipt = world.owner().scale(to, id, &scale).await.expect("scaled");
    let state = world.owner().request(id).await.expect("known");
    assert_eq!(
        (state.state, state.is_final, state.event),
        (RequestVerdict::Executed, true, Some(receipt.event))
    );
    assert_eq!(state.attempts.len(), 1, "what was denied before is still told");
    let viewer = world.client(VIEWER).request(id).await.expect("known");
    assert!(viewer.attempts.is_empty(), "bodies are for those who may read the audit");
}

#[tokio::test]
async fn a_removed_members_journal_is_named_and_no_failure_of_those_that_are_there() {
    let world = World::audited(&SimDisk::new(1)).await;
    let node = types::NodeId::from_u128(77);
    let member =
        domain::NewMember { name: name("two"), peer: "host:1".into(), api: String::new(), votes: true };
    let confirmed = domain::Confirmed {
        actor: domain::Actor::System,
        kind: domain::Confirmation::Offline,
        acknowledged: Vec::new(),
        reason: "it burnt".into(),
        at: world.core.now(),
    };
    for command in
        [domain::Command::FoundMember { node, member }, domain::Command::RemoveMember { node, confirmed }]
    {
        let answer = world.core.submit(command, domain::Actor::System, None).await;
        assert!(matches!(answer, holdfast_control::Answer::Executed { .. }), "{answer:?}");
    }
    let journals = page(&world).await.journals;
    let names: Vec<_> =
        journals.iter().map(|journal| (journal.name.as_str(), journal.unread.is_some())).collect();
    assert_eq!(names, [("this server", false), ("two", true)]);
    let why = journals[1].unread.as_deref().expect("why");
    assert!(why.contains("no member since event "), "{why}");
    let all = world.owner().verify_audit().await.expect("all of them");
    assert_eq!((all[0].removed, all[0].unread.is_some()), (None, false));
    assert!(all[1].removed.is_some() && all[1].unread.is_some(), "{all:?}");
}

#[tokio::test]
async fn whoever_follows_misses_nothing_and_gets_nothing_twice() {
    let world = World::audited(&SimDisk::new(1)).await;
    let (owner, query) = (world.owner(), AuditQuery { last: Some(10), ..AuditQuery::default() });
    assert_eq!(problem(world.bare("POST", routes::TOKENS)).await.0, 401);
    let mut stream = Box::pin(owner.audit_stream(&query).await.expect("a stream"));
    let (_, first) = soon("the journals", stream.next()).await.expect("open").expect("sound");
    assert!(
        matches!(&first, AuditNews::Journals(all) if all.len() == 1 && all[0].unread.is_none()),
        "{first:?}"
    );
    let (cursor, denied) = soon("a row", stream.next()).await.expect("open").expect("sound");
    assert!(matches!(&denied, AuditNews::Row(row) if row.kind == AuditType::Denied), "{denied:?}");
    world.apply("registry.test/shop:1").await;
    let (_, executed) = soon("a row", stream.next()).await.expect("open").expect("sound");
    assert!(matches!(&executed, AuditNews::Row(row) if row.kind == AuditType::Executed), "{executed:?}");
    drop(stream);
    let again = AuditQuery { cursor: Some(cursor), ..AuditQuery::default() };
    let rows = owner.audit(&again).await.expect("a page").rows;
    assert_eq!(rows.iter().map(|row| row.kind).collect::<Vec<_>>(), [AuditType::Executed]);
    let wrong = AuditQuery { cursor: Some("x".into()), ..AuditQuery::default() };
    assert_eq!(owner.audit(&wrong).await.expect_err("no cursor").code(), Some(Code::InvalidRequest));
}

#[tokio::test]
async fn a_flipped_byte_is_found() {
    let disk = SimDisk::new(1);
    let world = World::audited(&disk).await;
    for _ in 0..3 {
        assert_eq!(problem(world.bare("POST", routes::TOKENS)).await.0, 401);
    }
    let verified = world.owner().verify_audit().await.expect("verified");
    assert_eq!((verified[0].first, verified[0].last, &verified[0].differs), (Some(1), Some(3), &None));
    let head = verified[0].head.clone().expect("a head");
    let found = Journal::verify(&disk, Path::new(AUDITED)).expect("sound");
    assert_eq!(found.head(), head);
    disk.damage(&Path::new(AUDITED).join("audit/journal"), |bytes| {
        let second = bytes.iter().position(|byte| *byte == b'\n').expect("a line") + 30;
        bytes[second] ^= 1;
    });
    let verified = world.owner().verify_audit().await.expect("an answer");
    let differs = verified[0].differs.as_deref().expect("it differs");
    assert!(differs.contains("at entry 2"), "{differs}");
}

const PASSWORD: &str = "tables of green rain";

async fn add_member(world: &World, called: &str) -> types::PersonId {
    let request = PersonRequest {
        name: name(called),
        role: TokenRole::Viewer,
        password: Some(Password::new(PASSWORD)),
    };
    world.owner().create_member(world.id(), &request).await.expect("added");
    world.core.state().person_names[&name(called)]
}

fn login(world: &World) -> reqwest::RequestBuilder {
    world.bare("POST", routes::LOGIN).json(&json!({ "name": "ann", "password": PASSWORD }))
}

#[tokio::test]
async fn a_question_is_one_only_where_a_route_can_be_asked() {
    let world = World::audited(&SimDisk::new(1)).await;
    world.apply("registry.test/shop:1").await;
    let send = |path: &str, body: serde_json::Value| {
        let call = world.bare("POST", path).bearer_auth(OWNER).json(&body);
        problem(call.header(routes::IDEMPOTENCY_KEY, world.id().to_string()))
    };
    let scale = "/v1/orgs/main/apps/shop/envs/prod/scale";
    for flag in ["plan", "explain", "plan=true"] {
        let nothing = json!({ "process": "nothing", "replicas": 2 });
        assert_eq!(send(&format!("{scale}?{flag}"), nothing).await.1.code, Code::NoSuchProcess);
    }
    let rows = page(&world).await.rows;
    let refused: Vec<&str> =
        of(&rows, AuditType::Refused).iter().map(|row| row.request.path.as_str()).collect();
    assert_eq!(
        refused,
        ["plan", "explain", "plan=true"].map(|flag| format!("{scale}?{flag}")),
        "they were to be done"
    );
    let apply = "/v1/orgs/main/apply?plan=true";
    assert_eq!(send(apply, json!({ "env": "prod" })).await.0, 400);
    assert_eq!(send("/v1/nodes/one/remove?explain", json!({})).await.1.code, Code::Conflict);
    assert_eq!(page(&world).await.rows.len(), rows.len(), "these only asked");
}

#[tokio::test]
async fn what_was_executed_is_one_row_whoever_borrows_its_id_and_however_long_ago() {
    let world = World::audited(&SimDisk::new(1)).await;
    let executed = world.apply("registry.test/shop:1").await.request_id;
    add_member(&world, "ann").await;
    let answer = login(&world).header(routes::IDEMPOTENCY_KEY, executed.to_string()).send().await;
    assert_eq!(answer.expect("an answer").status(), 200);
    let (path, id, body) = ("/v1/orgs/main/apps/shop/envs/prod/delete", world.id(), ActRequest::default());
    let token = world.owner().explain_act(path, id, &body).await.expect("explained").token;
    let confirm = (token.as_str(), ConfirmedBy::Script);
    world.owner().confirm_act::<ActDone>(path, id, confirm, &body).await.expect("deleted");
    let executed = |rows: &[AuditRow]| -> Vec<(Option<types::RequestId>, String)> {
        let executed = of(rows, AuditType::Executed);
        executed.iter().map(|row| (row.request.id, row.request.path.clone())).collect()
    };
    let before = page(&world).await.rows;
    let rows = executed(&before);
    assert!(rows.iter().any(|(_, path)| path == routes::LOGIN), "{rows:?}");
    assert_eq!(rows.iter().filter(|(of, _)| *of == Some(id)).count(), 1, "{before:#?}");
    // A day later its verdict is forgotten.
    world.clock.advance(limits::REQUEST_HORIZON);
    let forget = Command::MoveHorizon { to: world.clock.now() };
    let forgotten = world.core.submit(forget, Actor::System, None).await;
    assert!(matches!(forgotten, Answer::Executed { .. }), "{forgotten:?}");
    assert!(world.core.state().requests.get(id).is_none());
    assert_eq!(executed(&page(&world).await.rows), rows);
}

#[tokio::test]
async fn a_login_is_somebodys_and_written_whatever_came_from_there_before() {
    let world = World::audited(&SimDisk::new(1)).await;
    let ann = add_member(&world, "ann").await;
    for _ in 0..limits::FLOOD_LINES + 3 {
        assert_eq!(problem(world.bare("POST", routes::TOKENS)).await.0, 401);
    }
    assert_eq!(login(&world).send().await.expect("an answer").status(), 200);
    let only = AuditQuery { actor: Some(ann.to_string()), ..AuditQuery::default() };
    let rows = world.owner().audit(&only).await.expect("a page").rows;
    let told: Vec<_> = rows.iter().map(|row| (row.kind, row.outcome, row.request.path.as_str())).collect();
    assert_eq!(told, [(AuditType::Executed, Outcome::Executed, routes::LOGIN)]);
    let body = rows[0].request.body.as_ref().expect("kept");
    assert_eq!((&body["name"], &body["password"]), (&json!("ann"), &json!("[redacted]")));
}

#[tokio::test]
async fn whoever_asks_too_fast_does_not_fill_the_journal() {
    let slow = Options { requests_per_second: 1, requests_burst: 3, ..Options::default() };
    let world = World::audited_with(&SimDisk::new(1), slow).await;
    let mut slowed = 0;
    for _ in 0..limits::FLOOD_LINES * 2 + 10 {
        slowed += u64::from(problem(world.bare("POST", routes::TOKENS).bearer_auth(VIEWER)).await.0 == 429);
    }
    assert!(slowed > limits::FLOOD_LINES, "{slowed}");
    // The owner has a pace as well.
    let rows = page(&world).await.rows;
    let limited = rows.iter().filter(|row| row.code.as_deref() == Some("rate_limited")).count();
    assert_eq!(limited as u64, limits::FLOOD_LINES);
    world.clock.advance(limits::FLOOD_WINDOW);
    let more = soon("the rest", async {
        loop {
            // Not faster than that.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let rows = page(&world).await.rows;
            let more = of(&rows, AuditType::More).first().map(|row| (row.reason.clone(), row.more));
            if let Some(more) = more {
                break more;
            }
        }
    })
    .await;
    let viewer = types::TokenId::from_u128(22);
    assert!(more.0.contains(&format!("more from {viewer} between")), "{more:?}");
    assert_eq!(more.1.map(|more| more.count), Some(slowed - limits::FLOOD_LINES));
}

#[tokio::test]
async fn an_act_that_is_none_any_more_is_refused_in_the_journal_as_in_its_answer() {
    let world = World::audited(&SimDisk::new(1)).await;
    let (path, body) = ("/v1/nodes/one/disable", ActRequest::default());
    let (first, second) = (world.id(), world.id());
    let mut tokens = Vec::new();
    for id in [first, second] {
        tokens.push(world.owner().explain_act(path, id, &body).await.expect("explained").token);
    }
    let confirm = |id, token: &str| {
        let (owner, token, body) = (world.owner(), token.to_owned(), body.clone());
        async move { owner.confirm_act::<ActDone>(path, id, (&token, ConfirmedBy::Script), &body).await }
    };
    confirm(first, &tokens[0]).await.expect("disabled");
    let late = confirm(second, &tokens[1]).await.expect_err("it is disabled already");
    assert_eq!(late.code(), Some(Code::Conflict));
    let rows = page(&world).await.rows;
    let of_it: Vec<_> = rows
        .iter()
        .filter(|row| row.request.id == Some(second))
        .map(|row| (row.kind, row.code.as_deref(), row.outcome))
        .collect();
    assert_eq!(of_it, [(AuditType::Refused, Some("conflict"), Outcome::NotExecuted)]);
}
