//! Members of an org: their passwords, sessions and tokens, and what each of them opens until it is gone.

use crate::{
    access::{everything, is_open},
    world::*,
};
use api::{
    ClientError, Code, LoginRequest, OwnTokenRequest, Password, PasswordChange, PersonChange, PersonRequest,
    Problem, Receipt, Session, TokenRequest, TokenRole, routes,
};
use reqwest::StatusCode;
use rt::Clock as _;
use types::{DurationMs, limits};

const PASSWORD: &str = "tables of green rain";
const OTHER: &str = "seven rivers in winter";

async fn add(world: &World, called: &str, role: TokenRole) -> Receipt {
    let request = PersonRequest { name: name(called), role, password: Some(Password::new(PASSWORD)) };
    world.owner().create_member(world.id(), &request).await.expect("added")
}

async fn login(world: &World, called: &str, password: &str) -> Result<Session, ClientError> {
    let request = LoginRequest { name: called.to_owned(), password: Password::new(password) };
    world.client("").login(&request).await
}

/// A session as a browser has it: cookie and CSRF token.
struct Browser {
    cookie: String,
    csrf: String,
    origin: String,
}

impl Browser {
    async fn open(world: &World, called: &str) -> Self {
        let body = serde_json::json!({ "name": called, "password": PASSWORD });
        let answer = world.bare("POST", routes::LOGIN).json(&body).send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        let set = answer.headers()["set-cookie"].to_str().expect("text").to_owned();
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict"), "{set}");
        let cookie = set.split(';').next().expect("a pair").to_owned();
        let answer: serde_json::Value = answer.json().await.expect("JSON");
        Self { cookie, csrf: answer["csrf"].as_str().expect("a token").to_owned(), origin: world.url() }
    }

    fn read(&self, world: &World, path: &str) -> reqwest::RequestBuilder {
        world.bare("GET", path).header("cookie", &self.cookie)
    }

    fn write(&self, world: &World, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = world.bare(method, path).header("cookie", &self.cookie).header("origin", &self.origin);
        let request = request.header(routes::CSRF, &self.csrf);
        request.header(routes::IDEMPOTENCY_KEY, world.id().to_string())
    }

    async fn status(&self, world: &World) -> u16 {
        self.read(world, routes::WHOAMI).send().await.expect("an answer").status().as_u16()
    }
}

const fn almost_idle() -> DurationMs {
    DurationMs::from_ms(limits::SESSION_IDLE.as_ms() - 1000)
}

fn code(result: Result<impl std::fmt::Debug, ClientError>) -> Option<Code> {
    result.expect_err("refused").code()
}

#[tokio::test]
async fn a_member_logs_in_and_is_known_by_its_session() {
    let world = World::start().await;
    add(&world, "ann", TokenRole::Developer).await;
    let browser = Browser::open(&world, "ann").await;
    let who: api::Whoami =
        browser.read(&world, routes::WHOAMI).send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!((who.role, who.member, who.token), (TokenRole::Developer, Some(name("ann")), None));
    let apply = browser.write(&world, "POST", "/v1/orgs/main/apply").json(&shop("registry.test/shop:1"));
    assert_eq!(apply.send().await.expect("an answer").status(), StatusCode::OK);
    let page = world.owner().events(api::EventsQuery::default()).await.expect("events");
    let made = page.events.iter().find(|row| row.kind == "app.created").expect("one");
    assert_eq!(made.actor, who.principal, "the log says who it was");
    let refused = browser.write(&world, "POST", routes::MEMBERS).send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    let out = browser.write(&world, "POST", routes::LOGOUT).send().await.expect("an answer");
    assert_eq!(out.status(), StatusCode::NO_CONTENT);
    assert_eq!(browser.status(&world).await, 401);
}

#[tokio::test]
async fn a_session_writes_only_with_its_csrf_token_and_from_its_own_pages() {
    let world = World::start().await;
    add(&world, "ann", TokenRole::Owner).await;
    let browser = Browser::open(&world, "ann").await;
    let head = world.core.head().event;
    let bare = || {
        let request = world.bare("POST", "/v1/orgs/main/apply").header("cookie", &browser.cookie);
        let request = request.json(&shop("registry.test/shop:1"));
        request.header(routes::IDEMPOTENCY_KEY, world.id().to_string())
    };
    let (csrf, own) = (browser.csrf.as_str(), browser.origin.as_str());
    for request in [
        bare(),
        bare().header("origin", own),
        bare().header(routes::CSRF, csrf),
        bare().header("origin", own).header(routes::CSRF, "guessed"),
        bare().header("origin", "http://evil.example").header(routes::CSRF, csrf),
        bare().header("sec-fetch-site", "cross-site").header("origin", own).header(routes::CSRF, csrf),
    ] {
        let (status, problem) = problem(request).await;
        assert_eq!((status, problem.code), (403, Code::Forbidden), "{problem:?}");
    }
    assert_eq!(world.core.head().event, head, "nothing came of any of them");
    let sent = bare().header("origin", own).header(routes::CSRF, csrf).send().await.expect("an answer");
    assert_eq!(sent.status(), StatusCode::OK);
}

#[tokio::test]
async fn no_route_is_opened_by_a_session_that_is_none_and_none_written_without_its_csrf_token() {
    let world = World::start().await;
    add(&world, "ann", TokenRole::Owner).await;
    add(&world, "bea", TokenRole::Owner).await;
    world.apply("registry.test/shop:1").await;
    let (ann, gone) = (Browser::open(&world, "ann").await, Browser::open(&world, "bea").await);
    world.owner().delete_member(world.id(), &name("bea")).await.expect("removed");
    let head = world.core.head().event;
    for (method, path, url) in everything("main").into_iter().filter(|(_, path, _)| !is_open(path)) {
        for cookie in ["holdfast=", "holdfast=hf_unknown", "__Host-holdfast=hf_unknown", &gone.cookie] {
            let request = world.bare(&method, &url).header("cookie", cookie).header("origin", world.url());
            let (status, _) = problem(request.header(routes::CSRF, &gone.csrf)).await;
            assert_eq!(status, 401, "{method} {path} with {cookie}");
        }
        let by_cookie = world.bare(&method, &url).header("cookie", &ann.cookie);
        let wanted = match (method.as_str(), path.starts_with("/v1/node/")) {
            (_, true) => 401,
            ("GET", false) => continue,
            _ => 403,
        };
        let (status, _) = problem(by_cookie.header("origin", world.url())).await;
        assert_eq!(status, wanted, "{method} {path} without the CSRF token");
    }
    assert_eq!(world.core.head().event, head, "nothing was written for any of them");
}

#[tokio::test]
async fn nobody_says_of_themselves_that_they_have_logged_in_elsewhere() {
    let world = World::start().await;
    let added = add(&world, "ann", TokenRole::Owner).await;
    let page = world.owner().members().await.expect("members");
    let told = format!("{} {}", page[0].id, added.event);
    for id in 1..=added.event.get() {
        let told = format!("{} {id}", page[0].id);
        let (status, _) = problem(world.bare("GET", routes::WHOAMI).header("holdfast-vouched", told)).await;
        assert_eq!(status, 401);
    }
    let with_token = world.bare("GET", routes::WHOAMI).header("holdfast-vouched", told).bearer_auth(VIEWER);
    let who: api::Whoami = with_token.send().await.expect("an answer").json().await.expect("JSON");
    assert_eq!(who.role, TokenRole::Viewer);
}

#[tokio::test]
async fn a_session_ends_when_idle_when_old_and_with_the_password_the_role_and_the_member() {
    let world = World::start().await;
    let owner = world.owner();
    for called in ["ann", "bea", "cid", "dan"] {
        add(&world, called, TokenRole::Viewer).await;
    }
    let (ann, bea, cid, dan) = (
        Browser::open(&world, "ann").await,
        Browser::open(&world, "bea").await,
        Browser::open(&world, "cid").await,
        Browser::open(&world, "dan").await,
    );
    for browser in [&ann, &bea, &cid, &dan] {
        assert_eq!(browser.status(&world).await, 200);
    }
    owner.delete_member(world.id(), &name("ann")).await.expect("removed");
    assert_eq!(ann.status(&world).await, 401);
    let change = PersonChange { password: Some(Password::new(OTHER)), ..PersonChange::default() };
    owner.set_member(world.id(), &name("bea"), &change).await.expect("changed");
    assert_eq!(bea.status(&world).await, 401);
    assert_eq!(code(login(&world, "bea", PASSWORD).await), Some(Code::Unauthenticated));
    login(&world, "bea", OTHER).await.expect("the new one");
    let change = PersonChange { role: Some(TokenRole::Auditor), ..PersonChange::default() };
    owner.set_member(world.id(), &name("cid"), &change).await.expect("changed");
    let nodes = cid.read(&world, routes::NODES).send().await.expect("an answer").status();
    assert_eq!(nodes, StatusCode::OK, "a new role counts at once");
    world.clock.advance(almost_idle());
    assert_eq!(dan.status(&world).await, 200);
    world.clock.advance(DurationMs::from_secs(1));
    assert_eq!(cid.status(&world).await, 401, "idle");
    assert_eq!(dan.status(&world).await, 200);
    let begun = world.clock.now();
    while world.clock.now().since(begun) < limits::SESSION_LIFE {
        world.clock.advance(almost_idle());
        dan.status(&world).await;
    }
    assert_eq!(dan.status(&world).await, 401, "old, however often it was used");
}

#[tokio::test]
async fn the_stream_of_a_session_ends_with_it() {
    let world = World::start().await;
    add(&world, "ann", TokenRole::Owner).await;
    let browser = Browser::open(&world, "ann").await;
    let stream = browser.read(&world, routes::EVENTS).header("accept", "text/event-stream");
    let mut stream = stream.send().await.expect("a stream");
    world.until_streams(1).await;
    world.owner().delete_member(world.id(), &name("ann")).await.expect("removed");
    let ended = async {
        while let Ok(Some(bytes)) = stream.chunk().await {
            assert!(!String::from_utf8_lossy(&bytes).contains("person.removed"), "nothing is shown after it");
        }
    };
    soon("the stream ends", ended).await;
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_are_answered_alike() {
    let world = World::start().await;
    add(&world, "ann", TokenRole::Owner).await;
    let answer = async |called: &str| {
        let body = serde_json::json!({ "name": called, "password": "not the password" });
        let (_, problem) = problem(world.bare("POST", routes::LOGIN).json(&body)).await;
        problem
    };
    let (wrong, unknown, none) = (answer("ann").await, answer("bea").await, answer("no name!").await);
    assert_eq!((wrong.code, &wrong), (Code::Unauthenticated, &unknown));
    assert_eq!(wrong, none);
    let figures = world.bare("GET", routes::METRICS).send().await.expect("an answer").text().await;
    assert!(figures.expect("text").contains("holdfast_logins_total{outcome=\"failed\"} 3"));
}

#[tokio::test]
async fn a_name_that_failed_too_often_waits_even_with_the_right_password() {
    let world = World::start().await;
    add(&world, "ann", TokenRole::Owner).await;
    for _ in 0..limits::LOGIN_FAILURES_PER_NAME {
        assert_eq!(code(login(&world, "ann", "a guess at a password").await), Some(Code::Unauthenticated));
    }
    let body = serde_json::json!({ "name": "ann", "password": PASSWORD });
    let answer = world.bare("POST", routes::LOGIN).json(&body).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
    let wait: u64 = answer.headers()["retry-after"].to_str().expect("text").parse().expect("seconds");
    assert!(wait > 0 && wait <= limits::LOGIN_WINDOW.as_ms() / 1000);
    let problem: Problem = answer.json().await.expect("a problem");
    assert_eq!((problem.code, problem.retry_after_s), (Code::RateLimited, Some(wait)));
    add(&world, "bea", TokenRole::Viewer).await;
    login(&world, "bea", PASSWORD).await.expect("another name is not kept out");
}

#[tokio::test]
async fn neither_the_password_nor_a_fast_hash_of_it_is_in_the_log() {
    let world = World::start().await;
    let id = world.id();
    let request = |password: &str| PersonRequest {
        name: name("ann"),
        role: TokenRole::Viewer,
        password: Some(Password::new(password)),
    };
    let first = world.owner().create_member(id, &request(PASSWORD)).await.expect("added");
    // What is remembered of the request has no trace of the password: with another it is the same request.
    let again = world.owner().create_member(id, &request(OTHER)).await.expect("the same verdict");
    assert_eq!(first.event, again.event);
    login(&world, "ann", PASSWORD).await.expect("the first one was taken");
    let state = world.core.state();
    let person = state.people.values().next().expect("a person");
    assert!(person.hash.starts_with("$argon2id$"), "{}", person.hash);
    let page = world.owner().events(api::EventsQuery::default()).await.expect("events");
    let shown = serde_json::to_string(&page).expect("JSON");
    assert!(shown.contains("person.added") && !shown.contains("argon2") && !shown.contains(PASSWORD));
}

#[tokio::test]
async fn an_easily_guessed_password_is_refused() {
    let world = World::start().await;
    let request =
        PersonRequest { name: name("ann"), role: TokenRole::Viewer, password: Some(Password::new("short")) };
    let refused = world.owner().create_member(world.id(), &request).await;
    assert_eq!(code(refused), Some(Code::InvalidRequest));
}

#[tokio::test]
async fn an_org_keeps_an_owner() {
    let world = World::start().await;
    add(&world, "ann", TokenRole::Owner).await;
    let own = world.owner().whoami().await.expect("an answer").token.expect("a token");
    world.owner().revoke_token(world.id(), own).await.expect("ann is left");
    let browser = Browser::open(&world, "ann").await;
    let (status, last) = problem(browser.write(&world, "DELETE", "/v1/members/ann")).await;
    assert_eq!((status, last.code), (409, Code::Conflict));
    let demote =
        browser.write(&world, "POST", "/v1/members/ann").json(&serde_json::json!({ "role": "admin" }));
    assert_eq!(problem(demote).await.1.code, Code::Conflict);
    // A token of her own is no other owner: it ends with her.
    let body = serde_json::json!({ "name": "laptop", "expires_in": "1h" });
    let made = browser.write(&world, "POST", routes::OWN_TOKENS).json(&body).send().await.expect("an answer");
    assert_eq!(made.status(), StatusCode::OK);
    let (_, last) = problem(browser.write(&world, "DELETE", "/v1/members/ann")).await;
    assert_eq!(last.code, Code::Conflict);
    let bea = serde_json::json!({ "name": "bea", "role": "owner", "password": PASSWORD });
    let added = browser.write(&world, "POST", routes::MEMBERS).json(&bea).send().await.expect("an answer");
    assert_eq!(added.status(), StatusCode::OK);
    let gone = browser.write(&world, "DELETE", "/v1/members/ann").send().await.expect("an answer");
    assert_eq!(gone.status(), StatusCode::OK, "bea is left");
}

#[tokio::test]
async fn an_admin_governs_all_but_owners() {
    let world = World::start().await;
    add(&world, "ann", TokenRole::Owner).await;
    add(&world, "bea", TokenRole::Admin).await;
    let session = login(&world, "bea", PASSWORD).await.expect("in");
    let token = OwnTokenRequest { name: name("t"), role: None, expires_in: DurationMs::from_secs(600) };
    let secret =
        session.create_token(world.id(), &token).await.expect("made").result.secret.expect("a secret");
    let admin = world.client(&secret);
    let change = PersonChange { password: Some(Password::new(OTHER)), ..PersonChange::default() };
    let taken_over = admin.set_member(world.id(), &name("ann"), &change).await;
    assert_eq!(code(taken_over), Some(Code::Forbidden), "whoever sets a password has the role");
    assert_eq!(code(admin.delete_member(world.id(), &name("ann")).await), Some(Code::Forbidden));
    let promoted = PersonChange { role: Some(TokenRole::Owner), ..PersonChange::default() };
    assert_eq!(code(admin.set_member(world.id(), &name("bea"), &promoted).await), Some(Code::Forbidden));
    let request = PersonRequest {
        name: name("cid"),
        role: TokenRole::Operator,
        password: Some(Password::new(PASSWORD)),
    };
    admin.create_member(world.id(), &request).await.expect("added");
    assert_eq!(
        code(world.client(FOREIGN).delete_member(world.id(), &name("cid")).await),
        Some(Code::NotFound)
    );
    assert!(world.client(FOREIGN).members().await.expect("members").is_empty());
    admin.delete_member(world.id(), &name("cid")).await.expect("removed");
}

#[tokio::test]
async fn a_token_of_ones_own_gives_what_its_holder_may_and_ends_with_it() {
    let world = World::start().await;
    add(&world, "ann", TokenRole::Developer).await;
    let session = login(&world, "ann", PASSWORD).await.expect("in");
    let make = async |role| {
        let expires_in = DurationMs::from_secs(600);
        session.create_token(world.id(), &OwnTokenRequest { name: name("t"), role, expires_in }).await
    };
    assert_eq!(code(make(Some(TokenRole::Operator)).await), Some(Code::Forbidden));
    let secret = make(None).await.expect("made").result.secret.expect("a secret");
    let reads = make(Some(TokenRole::Viewer)).await.expect("made").result.secret.expect("a secret");
    let (client, reader) = (world.client(&secret), world.client(&reads));
    client.apply(&name("main"), world.id(), &shop("registry.test/shop:1")).await.expect("applied");
    assert_eq!(client.own_tokens().await.expect("tokens").len(), 2);
    assert_eq!(
        code(reader.apply(&name("main"), world.id(), &shop("registry.test/shop:2")).await),
        Some(Code::Forbidden)
    );
    // With a token alone no further one is made, which would outlive it.
    let body = serde_json::json!({ "name": "more", "expires_in": "1h" });
    let more = world.bare("POST", routes::OWN_TOKENS).bearer_auth(&secret).json(&body);
    let (status, _) = problem(more.header(routes::IDEMPOTENCY_KEY, world.id().to_string())).await;
    assert_eq!(status, 403);
    let demoted = PersonChange { role: Some(TokenRole::Viewer), ..PersonChange::default() };
    world.owner().set_member(world.id(), &name("ann"), &demoted).await.expect("changed");
    assert_eq!(code(client.whoami().await), Some(Code::Forbidden), "it may more than ann may now");
    reader.whoami().await.expect("this one does not");
    world.owner().delete_member(world.id(), &name("ann")).await.expect("removed");
    assert_eq!(code(reader.whoami().await), Some(Code::Unauthenticated));
    session.logout().await.expect_err("it ended with ann");
}

#[tokio::test]
async fn a_password_is_changed_by_who_knows_the_present_one() {
    let world = World::start().await;
    add(&world, "ann", TokenRole::Viewer).await;
    let browser = Browser::open(&world, "ann").await;
    let ask = |current: &str| {
        let change = PasswordChange { current: Password::new(current), password: Password::new(OTHER) };
        browser.write(&world, "POST", routes::OWN_PASSWORD).json(&change)
    };
    assert_eq!(problem(ask("a guess at a password")).await.1.code, Code::Forbidden);
    assert_eq!(ask(PASSWORD).send().await.expect("an answer").status(), StatusCode::OK);
    assert_eq!(browser.status(&world).await, 401, "what was opened with the old one is shut");
    login(&world, "ann", OTHER).await.expect("the new one");
}

#[tokio::test]
async fn a_page_of_another_server_logs_nobody_in() {
    let world = World::start().await;
    add(&world, "ann", TokenRole::Viewer).await;
    let body = serde_json::json!({ "name": "ann", "password": PASSWORD });
    let foreign = world.bare("POST", routes::LOGIN).header("origin", "http://evil.example").json(&body);
    assert_eq!(problem(foreign).await.0, 403);
}

#[tokio::test]
async fn whoever_asks_too_fast_is_told_when_to_go_on() {
    let slow = holdfast_control::Options { requests_per_second: 1, requests_burst: 3, ..Default::default() };
    let world = World::with(slow).await;
    let one = async |secret: &str| {
        let answer = world.bare("GET", routes::WHOAMI).bearer_auth(secret).send().await.expect("an answer");
        (answer.status(), answer.headers().get("retry-after").cloned())
    };
    let mut turned_away = None;
    for _ in 0..100 {
        let asked = one(VIEWER).await;
        if asked.0 == StatusCode::TOO_MANY_REQUESTS {
            turned_away = Some(asked);
            break;
        }
    }
    let (_, wait) = turned_away.expect("turned away after a burst");
    assert_eq!(wait.expect("a header"), "1");
    assert_eq!(one(OWNER).await.0, StatusCode::OK, "another asker is not slowed");
    assert_eq!(one(NODE_ONE).await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_service_principal_is_shown_with_its_scopes() {
    let world = World::start().await;
    let request = |scopes: &[&str]| TokenRequest {
        name: name("ci"),
        role: TokenRole::Operator,
        org: None,
        expires_in: DurationMs::from_secs(600),
        scopes: Some(scopes.iter().map(|scope| (*scope).to_owned()).collect()),
    };
    for wrong in ["cluster.promote", "confirm:all", "confirm:", "confirm:a.b.c", "confirm:Cluster.promote"] {
        let refused = world.owner().create_token(world.id(), &request(&[wrong])).await;
        assert_eq!(code(refused), Some(Code::InvalidRequest), "{wrong}");
    }
    let made = world.owner().create_token(world.id(), &request(&["confirm:cluster.promote"])).await;
    let made = made.expect("made");
    let rows = world.owner().tokens().await.expect("tokens");
    let row = rows.iter().find(|row| Some(row.id) == made.result.token).expect("listed");
    assert_eq!(row.scopes.as_deref(), Some(&["confirm:cluster.promote".to_owned()][..]));
    let client = world.client(&made.result.secret.expect("a secret"));
    assert_eq!(client.whoami().await.expect("in").role, TokenRole::Operator);
}

/// A service principal that governs, with the one scope that it has.
async fn governing_service(world: &World) -> String {
    let request = TokenRequest {
        name: name("bot"),
        role: TokenRole::Admin,
        org: None,
        expires_in: DurationMs::from_secs(60),
        scopes: Some(vec!["confirm:cluster.fence".to_owned()]),
    };
    let made = world.owner().create_token(world.id(), &request).await.expect("made");
    made.result.secret.expect("a secret")
}

#[tokio::test]
async fn a_service_principal_gives_nobody_what_its_scopes_do_not_let_it_do() {
    let world = World::start().await;
    let bot = world.client(&governing_service(&world).await);
    let token = |scopes: Option<&[&str]>| TokenRequest {
        name: name("other"),
        role: TokenRole::Operator,
        org: None,
        expires_in: DurationMs::from_secs(60),
        scopes: scopes.map(|all| all.iter().map(|scope| (*scope).to_owned()).collect()),
    };
    for refused in [token(None), token(Some(&["confirm:cluster.promote"]))] {
        let refused = code(bot.create_token(world.id(), &refused).await);
        assert_eq!(refused, Some(Code::Forbidden));
    }
    for within in [token(Some(&[])), token(Some(&["confirm:cluster.fence"]))] {
        bot.create_token(world.id(), &within).await.expect("no more than it has");
    }
    add(&world, "ann", TokenRole::Viewer).await;
    let person =
        PersonRequest { name: name("bea"), role: TokenRole::Viewer, password: Some(Password::new(PASSWORD)) };
    assert_eq!(code(bot.create_member(world.id(), &person).await), Some(Code::Forbidden));
    let change = PersonChange { role: None, password: Some(Password::new(OTHER)) };
    assert_eq!(code(bot.set_member(world.id(), &name("ann"), &change).await), Some(Code::Forbidden));
    assert_eq!(code(bot.delete_member(world.id(), &name("ann")).await), Some(Code::Forbidden));
    login(&world, "ann", PASSWORD).await.expect("is as she was");
}

#[tokio::test]
async fn an_operator_reads_of_members_and_tokens_only_what_it_did_itself() {
    let world = World::start().await;
    add(&world, "ann", TokenRole::Viewer).await;
    world.apply("shop:1").await;
    let verdicts = async |secret: &str| {
        let query = api::EventsQuery { after: types::EventId::ZERO, limit: None, wait: false };
        let page = world.client(secret).events(query).await.expect("events");
        let decided = page.events.into_iter().filter(|event| event.kind == "request.decided");
        decided.map(|event| event.data.get("verdict").map(ToString::to_string)).collect::<Vec<_>>()
    };
    let (all, some) = (verdicts(OWNER).await, verdicts(VIEWER).await);
    assert!(all[0].as_ref().is_some_and(|text| text.contains("ann")), "{all:?}");
    assert_eq!((some[0].as_ref(), some.len()), (None, all.len()), "{some:?}");
    assert!(some[1].is_some() && some[1] == all[1], "what apps do, all of the org may read: {some:?}");
}
