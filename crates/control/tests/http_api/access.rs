//! Who may ask for what: every route of the contract, with every kind of wrong token.

use crate::world::*;
use api::{Code, routes};
use std::collections::BTreeSet;

/// Every method and path of the contract, with the places filled with things that are there.
pub fn everything(org: &str) -> Vec<(String, &'static str, String)> {
    let contract = serde_json::to_value(holdfast_control::openapi()).expect("a contract");
    let mut all = Vec::new();
    for path in routes::ALL {
        let methods =
            contract["paths"][path].as_object().unwrap_or_else(|| panic!("{path} is in the contract"));
        for method in methods.keys().filter(|key| ["get", "post", "delete"].contains(&key.as_str())) {
            let filled = path
                .replace("{org}", org)
                .replace("{app}", "shop")
                .replace("{env}", "prod")
                .replace("{name}", "apps")
                .replace("{node}", "one")
                .replace("{ask}", "1")
                .replace("{deploy}", "dep_00000000000000000000000001")
                .replace("{id}", "00000000000000000000000001");
            all.push((method.to_uppercase(), *path, filled));
        }
    }
    assert!(all.len() >= routes::ALL.len(), "every path has a method");
    all
}

pub fn is_open(path: &str) -> bool {
    let open = [
        routes::HEALTH_LIVE,
        routes::HEALTH_READY,
        routes::METRICS,
        routes::OPENAPI,
        routes::VERSION,
        routes::ENROL,
        routes::LOGIN,
    ];
    open.contains(&path)
}

async fn all_answer(
    world: &World,
    secret: Option<&str>,
    status: u16,
    fits: impl Fn(&str, &str) -> bool,
) -> usize {
    let mut count = 0;
    for (method, path, url) in everything("main") {
        if is_open(path) || !fits(&method, path) {
            continue;
        }
        let mut request = world.bare(&method, &url);
        if let Some(secret) = secret {
            request = request.bearer_auth(secret);
        }
        let (got, problem) = problem(request).await;
        assert_eq!(got, status, "{method} {path} with {secret:?}: {problem:?}");
        count += 1;
    }
    count
}

#[tokio::test]
async fn nobody_gets_in_without_a_living_token() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let head = world.core.head().event;
    for secret in [None, Some("hf_unknown"), Some(EXPIRED), Some(REVOKED), Some("")] {
        assert!(all_answer(&world, secret, 401, |_, _| true).await > 30);
    }
    let (status, problem) =
        problem(world.bare("GET", routes::WHOAMI).header("authorization", "Basic abc")).await;
    assert_eq!((status, problem.code), (401, Code::Unauthenticated));
    assert_eq!(world.core.head().event, head, "nothing was written for any of them");
}

#[tokio::test]
async fn nobody_gets_in_with_what_is_no_token() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let head = world.core.head().event;
    let long = format!("Bearer {}", "a".repeat(10_000));
    let owner_twice = format!("Bearer {OWNER} {OWNER}");
    for header in [
        "",
        "Bearer",
        "Bearer ",
        "Basic aGZfb3duZXI6",
        OWNER,
        "Bearer hf_",
        "Bearer \u{e9}",
        "Token hf_owner",
        long.as_str(),
        owner_twice.as_str(),
    ] {
        for (method, path, url) in everything("main").into_iter().filter(|(_, path, _)| !is_open(path)) {
            let value = reqwest::header::HeaderValue::from_bytes(header.as_bytes()).expect("a header");
            let (status, problem) = problem(world.bare(&method, &url).header("authorization", value)).await;
            assert_eq!((status, problem.code), (401, Code::Unauthenticated), "{method} {path} {header:?}");
            assert!(!problem.detail.contains("hf_owner"), "no secret comes back: {problem:?}");
        }
    }
    assert_eq!(world.core.head().event, head, "nothing was written for any of them");
}

#[tokio::test]
async fn an_expired_token_is_told_how_to_go_on() {
    let world = World::start().await;
    let (_, problem) = problem(world.bare("GET", routes::WHOAMI).bearer_auth(EXPIRED)).await;
    assert!(problem.detail.contains("expired") && problem.hint.is_some(), "{problem:?}");
}

#[tokio::test]
async fn a_viewer_changes_nothing_and_sees_nothing_of_the_server() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let head = world.core.head().event;
    // What everybody may do for itself is tried with people, who have something of their own.
    let is_own = |path: &str| path.starts_with("/v1/whoami/") || path == routes::LOGOUT;
    let writes = all_answer(&world, Some(VIEWER), 403, |method, path| method != "GET" && !is_own(path)).await;
    assert!(writes >= 14, "{writes}");
    let infrastructure = [routes::NODES, routes::TOKENS, routes::AGENT_STREAM, routes::EDGE_STREAM];
    all_answer(&world, Some(VIEWER), 403, |method, path| method == "GET" && infrastructure.contains(&path))
        .await;
    assert_eq!(world.core.head().event, head);
    assert!(world.client(VIEWER).status((&place().0, &place().1, &place().2)).await.is_ok());
}

#[tokio::test]
async fn a_nodes_credential_opens_its_own_paths_only_and_a_persons_token_none_of_them() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    all_answer(&world, Some(NODE_ONE), 403, |_, path| !path.starts_with("/v1/node/")).await;
    all_answer(&world, Some(OWNER), 403, |_, path| path.starts_with("/v1/node/")).await;
    all_answer(&world, Some(JOIN), 403, |_, _| true).await;
}

#[tokio::test]
async fn another_orgs_things_are_answered_like_things_that_do_not_exist() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let mut seen = BTreeSet::new();
    let (foreign, nowhere) = (everything("main"), everything("nowhere"));
    for ((method, path, theirs), (_, _, none)) in foreign.into_iter().zip(nowhere) {
        if !path.contains("{org}") {
            continue;
        }
        let ask = |url: &str| {
            let request = world.bare(&method, url).bearer_auth(FOREIGN);
            request.header(routes::IDEMPOTENCY_KEY, world.id().to_string())
        };
        let (status, foreign) = problem(ask(&theirs)).await;
        let (other_status, missing) = problem(ask(&none)).await;
        assert_eq!((status, other_status), (404, 404), "{method} {path}: {foreign:?}");
        assert_eq!(foreign.detail.replace("main", "nowhere"), missing.detail, "{method} {path}");
        assert_eq!((foreign.code, &foreign.hint), (missing.code, &missing.hint));
        seen.insert(path);
    }
    assert!(seen.len() >= 16, "{seen:?}");
}

#[tokio::test]
async fn what_has_no_org_in_its_path_is_kept_apart_too() {
    let world = World::start().await;
    let receipt = world.apply("registry.test/shop:1").await;
    let foreign = world.client(FOREIGN);
    let seen = foreign.request(receipt.request_id).await.expect("an answer");
    assert_eq!(seen.state, api::RequestVerdict::NotSeen);
    assert_eq!(foreign.void(receipt.request_id).await.expect_err("not theirs").code(), Some(Code::NotFound));
    let own = world.owner().tokens().await.expect("tokens");
    assert_eq!(foreign.tokens().await.expect("tokens").len(), 1);
    let revoked = foreign.revoke_token(world.id(), own[0].id).await.expect_err("not theirs");
    assert_eq!(revoked.code(), Some(Code::NotFound));
    let page = foreign.events(api::EventsQuery::default()).await.expect("events");
    assert!(page.events.iter().all(|event| {
        !["app", "environment", "release", "deploy", "route"].contains(&event.subject.kind.as_str())
    }));
}

#[tokio::test]
async fn whatever_is_wrong_with_a_request_it_leaves_as_a_problem() {
    let world = World::start().await;
    let (status, none) = problem(world.bare("GET", "/v2/nothing")).await;
    assert_eq!((status, none.code), (404, Code::NotFound));
    let response = world.bare("PUT", routes::NODES).bearer_auth(OWNER).send().await.expect("an answer");
    assert_eq!(response.headers()["allow"], "GET");
    let (status, wrong) = problem(world.bare("PUT", routes::NODES).bearer_auth(OWNER)).await;
    assert_eq!((status, wrong.code), (405, Code::InvalidRequest));
    let (status, query) = problem(world.bare("GET", "/v1/events?after=x").bearer_auth(OWNER)).await;
    assert_eq!((status, query.code), (400, Code::InvalidRequest));
    let (status, path) = problem(world.bare("GET", "/v1/orgs/%FF/apps").bearer_auth(OWNER)).await;
    assert_eq!((status, path.code), (400, Code::InvalidRequest));
    let bad = world.bare("POST", "/v1/orgs/main/apply").bearer_auth(OWNER);
    let (status, bad) =
        problem(bad.header(routes::IDEMPOTENCY_KEY, world.id().to_string()).body("{\n  nonsense")).await;
    assert_eq!((status, bad.code), (400, Code::InvalidRequest));
    assert_eq!(bad.path.as_deref(), Some("line 2, column 3"), "{bad:?}");
    assert!(bad.request_id.is_some());
}
