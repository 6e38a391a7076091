//! The web page over real HTTP, without a browser: who gets in, what a form does, and that a page can do
//! nothing that the API would not.

use crate::{
    logs::{ask, attend},
    world::*,
};
use api::TokenRole;
use futures_util::StreamExt;
use reqwest::{Response, StatusCode};
use rt::SimDisk;
use std::{collections::BTreeSet, time::Duration};
use types::{EventId, limits};

const PAGES: [&str; 11] = [
    "/",
    "/apps",
    "/routes",
    "/nodes",
    "/cluster",
    "/events",
    "/audit",
    "/requests",
    "/views",
    "/members",
    "/tokens",
];

/// A browser that has logged in, as far as the server can tell.
struct Visitor<'a> {
    world: &'a World,
    cookie: String,
}

impl<'a> Visitor<'a> {
    async fn new(world: &'a World, secret: &str) -> Self {
        let answer = log_in(world, secret).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        assert!(!set_cookie(&answer).contains(secret), "the token is in no cookie");
        Self::of(world, &answer)
    }

    /// The one that an answer lets in.
    fn of(world: &'a World, answer: &Response) -> Self {
        let cookie = set_cookie(answer);
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        assert!(!cookie.contains("Domain"), "for the host that was asked only: {cookie}");
        let cookie = cookie.split(';').next().expect("a pair").to_owned();
        assert!(cookie.starts_with("holdfast="), "one cookie, whatever somebody logs in with: {cookie}");
        Self { world, cookie }
    }

    /// What an open page reads by itself.
    async fn reads_by_itself(&self, path: &str) -> StatusCode {
        let request = self.world.bare("GET", path).header("cookie", &self.cookie);
        request.header("holdfast-unattended", "true").send().await.expect("an answer").status()
    }

    async fn log_out(&self, csrf: &str) -> Response {
        let request = self.world.bare("POST", "/logout").header("cookie", &self.cookie);
        let request = request.header("sec-fetch-site", "same-origin");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        request.body(encoded(&[("csrf", csrf)])).send().await.expect("an answer")
    }

    /// What its forms bring back.
    async fn csrf(&self) -> String {
        let page = self.page("/").await;
        let after = page.split("name=\"csrf\" value=\"").nth(1);
        after.and_then(|rest| rest.split('"').next()).expect("logout's").to_owned()
    }

    async fn get(&self, path: &str) -> Response {
        let request =
            self.world.bare("GET", path).header("cookie", &self.cookie).header("accept", "text/html");
        request.send().await.expect("an answer")
    }

    /// Whether its session is none any more. A browser would be sent to log in.
    async fn is_out(&self) -> bool {
        let request = self.world.bare("GET", "/live").header("cookie", &self.cookie);
        request.send().await.expect("an answer").status() == StatusCode::UNAUTHORIZED
    }

    async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        let (status, text) = (answer.status(), answer.text().await.expect("a page"));
        assert_eq!(status, StatusCode::OK, "{path}: {text}");
        text
    }

    /// Sends a form with what its page gave it.
    async fn send(&self, page: &str, act: &str, fields: &[(&str, &str)]) -> (StatusCode, String) {
        let text = self.page(page).await;
        let id = hidden(&text, act, "request_id");
        self.send_as(&hidden(&text, act, "csrf"), act, &[&[("request_id", id.as_str())], fields].concat())
            .await
    }

    async fn send_as(&self, csrf: &str, act: &str, fields: &[(&str, &str)]) -> (StatusCode, String) {
        let fields = [&[("csrf", csrf)], fields].concat();
        let request = self.form(act, &fields).header("sec-fetch-site", "same-origin");
        let answer = request.send().await.expect("an answer");
        (answer.status(), answer.text().await.expect("a page"))
    }

    fn form(&self, act: &str, fields: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let request = self.world.bare("POST", &format!("/do/{act}")).header("cookie", &self.cookie);
        request.header("content-type", "application/x-www-form-urlencoded").body(encoded(fields))
    }
}

fn encoded(fields: &[(&str, &str)]) -> String {
    let part = |text: &str| api::routes::fill("/{x}", &[text])[1..].to_owned();
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}={}", part(name), part(value))).collect();
    pairs.join("&")
}

/// A client that stays where it is sent away.
fn unmoved() -> reqwest::Client {
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    client.no_proxy().tls_certs_only([]).build().expect("a client")
}

fn set_cookie(answer: &Response) -> String {
    answer.headers()["set-cookie"].to_str().expect("text").to_owned()
}

async fn log_in(world: &World, secret: &str) -> Response {
    enter(world, "", &[("token", secret), ("to", "/nodes")]).await
}

/// Sends the form of a login, from a browser that has these cookies.
async fn enter(world: &World, cookies: &str, fields: &[(&str, &str)]) -> Response {
    let request = unmoved().post(format!("{}/login", world.url())).header("sec-fetch-site", "same-origin");
    let request =
        request.header("content-type", "application/x-www-form-urlencoded").header("cookie", cookies);
    request.body(encoded(fields)).send().await.expect("an answer")
}

const PASSWORD: &str = "correct horse battery";

/// Adds a member.
async fn member(world: &World, called: &str, role: &str) {
    let member = serde_json::json!({ "name": called, "role": role, "password": PASSWORD }).to_string();
    let request = world.bare("POST", api::routes::MEMBERS).bearer_auth(OWNER).body(member);
    let added = request.header(api::routes::IDEMPOTENCY_KEY, world.id().to_string()).send().await;
    assert_eq!(added.expect("an answer").status(), StatusCode::OK);
}

/// The value of a hidden field of the form of an act.
fn hidden(page: &str, act: &str, name: &str) -> String {
    let form = page.split("<form ").find(|form| form.contains(&format!("action=\"/do/{act}\"")));
    let form = form.unwrap_or_else(|| panic!("no form {act} in {page}"));
    let after = form.split(&format!("name=\"{name}\" value=\"")).nth(1);
    after.and_then(|rest| rest.split('"').next()).unwrap_or_else(|| panic!("no {name} in {form}")).to_owned()
}

const PROD: &str = "/apps/shop/prod";
const SHOP: [(&str, &str); 2] = [("app", "shop"), ("env", "prod")];

#[tokio::test]
async fn nobody_gets_in_without_a_token_and_the_way_back_is_kept() {
    let world = World::start().await;
    let rejected = [EXPIRED, REVOKED, JOIN, NODE_ONE, "hf_unknown", "", "a\nb"];
    for secret in rejected {
        let answer = log_in(&world, secret).await;
        assert!(answer.status().is_client_error(), "{secret:?}: {}", answer.status());
        assert!(!answer.headers().contains_key("set-cookie"), "{secret:?}");
    }
    for path in PAGES {
        let request = unmoved().get(format!("{}{path}", world.url())).header("accept", "text/html");
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{path}");
        assert!(answer.headers()["location"].to_str().expect("text").starts_with("/login?to=%2F"), "{path}");
    }
    let posted = world.bare("POST", "/do/scale").send().await.expect("an answer");
    assert!(posted.status().is_client_error(), "{}", posted.status());
    let live = world.bare("GET", "/live").send().await.expect("an answer");
    assert_eq!(live.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(log_in(&world, OWNER).await.headers()["location"], "/nodes");
}

#[tokio::test]
async fn every_page_is_small_says_as_of_when_and_lets_nothing_else_in() {
    let world = World::start().await;
    world.apply("registry.test/<b>shop:1").await;
    let instance = world.place(ONE).await;
    let visitor = Visitor::new(&world, OWNER).await;
    let deploy = world.core.state().deploys.keys().next().expect("a deploy").to_string();
    let more = [PROD.to_owned(), format!("{PROD}/deploys/{deploy}"), format!("{PROD}/instances/{instance}")];
    for path in PAGES.map(str::to_owned).iter().chain(&more) {
        let answer = visitor.get(path).await;
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        assert_eq!(answer.headers()["referrer-policy"], "no-referrer");
        assert_eq!(answer.headers()["cache-control"], "no-store");
        let policy = answer.headers()["content-security-policy"].to_str().expect("text").to_owned();
        assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"), "{policy}");
        let status = answer.status();
        let text = answer.text().await.expect("a page");
        // This world's log has no members, and says so.
        let wanted = if path == "/cluster" { 503 } else { 200 };
        assert_eq!(status.as_u16(), wanted, "{path}: {text}");
        assert!(text.len() < 100 << 10, "{path}: {} bytes", text.len());
        assert!(!text.contains("<b>"), "{path} shows what it was given as markup");
        assert!(!text.contains("style=\"") && !text.contains("onclick"), "{path} has nothing inline");
        assert!(text.contains("<html lang=\"en\">") && text.contains("href=\"#main\""), "{path}");
        if path != "/requests" && status.is_success() {
            assert!(text.contains(", as of event"), "{path}: {text}");
        }
        let loads: Vec<&str> =
            text.split("\"/assets/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(loads.len(), 3, "{path}");
        for name in loads {
            let asset = visitor.get(&format!("/assets/{name}")).await;
            assert!(asset.headers()["cache-control"].to_str().expect("text").contains("immutable"), "{name}");
        }
    }
    let text = visitor.page(PROD).await;
    assert!(text.contains("registry.test/&lt;b&gt;shop:1"), "{text}");
    assert_eq!(visitor.get("/apps/shop/none").await.status(), StatusCode::NOT_FOUND);
    assert_eq!(visitor.get("/assets/none.css").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_first_page_comes_within_fifty_milliseconds_and_with_all_it_loads_in_a_hundred_kilobytes() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    world.place(ONE).await;
    let visitor = Visitor::new(&world, OWNER).await;
    let (mut took, mut text) = (Vec::new(), String::new());
    for _ in 0..21 {
        let since = std::time::Instant::now();
        text = visitor.page("/").await;
        took.push(since.elapsed());
    }
    took.sort();
    assert!(took[10] < Duration::from_millis(50), "the middle one of {took:?}");
    let mut bytes = text.len();
    for name in text.split("\"/assets/").skip(1).filter_map(|rest| rest.split('"').next()) {
        bytes += visitor.get(&format!("/assets/{name}")).await.bytes().await.expect("whole").len();
    }
    eprintln!("the first page: {:?}, {bytes} bytes", took[10]);
    assert!(bytes < 100_000, "{bytes} bytes");
}

#[tokio::test]
async fn a_form_that_is_sent_twice_runs_once() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let visitor = Visitor::new(&world, OWNER).await;
    let page = visitor.page(PROD).await;
    let (csrf, id) = (hidden(&page, "scale", "csrf"), hidden(&page, "scale", "request_id"));
    let fields = [&SHOP[..], &[("process", "web"), ("replicas", "5"), ("request_id", &id)]].concat();
    let (first, second) =
        tokio::join!(visitor.send_as(&csrf, "scale", &fields), visitor.send_as(&csrf, "scale", &fields));
    for (status, text) in [&first, &second] {
        assert_eq!(*status, StatusCode::OK, "{text}");
        assert!(
            text.contains("scale.set") && text.contains("holdfast scale web=5 --app shop --env prod"),
            "{text}"
        );
        assert!(text.contains(&format!("/requests?id={id}")), "{text}");
    }
    let head = world.core.head().event;
    let (status, _) = visitor.send_as(&csrf, "scale", &fields).await;
    assert_eq!((status, world.core.head().event), (StatusCode::OK, head), "a reload writes nothing");
    assert_eq!(world.core.state().envs[&world.env()].scale[&name("web")], 5);
    let looked = visitor.page(&format!("/requests?id={id}")).await;
    assert!(looked.contains("executed") && looked.contains(&id), "{looked}");
}

#[tokio::test]
async fn a_refusal_is_shown_word_for_word_with_what_became_of_the_request() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let visitor = Visitor::new(&world, OWNER).await;
    let head = world.core.head().event;
    let fields = [&SHOP[..], &[("process", "<i>"), ("replicas", "many")]].concat();
    let (status, text) = visitor.send(PROD, "scale", &fields).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
    assert!(
        text.contains("not executed") && text.contains("invalid_request") && !text.contains("<i>"),
        "{text}"
    );
    let fields = [&SHOP[..], &[("process", "none"), ("replicas", "1")]].concat();
    let (status, text) = visitor.send(PROD, "scale", &fields).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{text}");
    assert!(text.contains("no_such_process"), "{text}");
    let (status, _) = visitor.send(PROD, "scale", &[("app", "other"), ("env", "x")]).await;
    assert!(status.is_client_error());
    assert!(world.core.head().event.get() <= head.get() + 1, "but for a verdict nothing is written");
}

#[tokio::test]
async fn a_form_of_another_page_or_session_does_nothing() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let (visitor, other) = (Visitor::new(&world, OWNER).await, Visitor::new(&world, OWNER).await);
    let page = visitor.page(PROD).await;
    let (csrf, id) = (hidden(&page, "scale", "csrf"), hidden(&page, "scale", "request_id"));
    let fields = [&SHOP[..], &[("process", "web"), ("replicas", "7"), ("request_id", &id)]].concat();
    let head = world.core.head().event;
    let forged = [
        (other.send_as(&csrf, "scale", &fields).await.0, "another session's"),
        (visitor.send_as("", "scale", &fields).await.0, "none"),
    ];
    for (status, why) in forged {
        assert_eq!(status, StatusCode::FORBIDDEN, "{why}");
    }
    let whole = [&[("csrf", csrf.as_str())], &fields[..]].concat();
    for headers in [
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "same-site")],
        vec![("origin", "http://evil.example")],
        vec![("origin", "null")],
        vec![],
    ] {
        let request = visitor.form("scale", &whole);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let status = request.send().await.expect("an answer").status();
        assert_eq!(status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    assert_eq!(world.core.head().event, head, "nothing was done");
    let large = "x".repeat(limits::FORM_BODY + 1);
    let (status, _) = visitor.send_as(&csrf, "scale", &[("process", &large)]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn a_viewer_reads_and_does_nothing_whatever_is_sent() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let viewer = Visitor::new(&world, VIEWER).await;
    let text = viewer.page(PROD).await;
    assert!(text.contains("it may read only") && !text.contains("/do/scale"), "{text}");
    for path in ["/nodes", "/tokens"] {
        assert_eq!(viewer.get(path).await.status(), StatusCode::FORBIDDEN, "{path}");
    }
    let csrf = text
        .split("name=\"csrf\" value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("logout's");
    let (head, id) = (world.core.head().event, world.id().to_string());
    for act in ["scale", "restart", "rollback", "deploy", "drain", "token", "revoke", "promote", "adopt"] {
        let fields =
            [&SHOP[..], &[("process", "web"), ("replicas", "1"), ("node", "one"), ("id", "x")]].concat();
        let fields =
            [&fields[..], &[("image", "x"), ("name", "n"), ("role", "owner"), ("request_id", &id)]].concat();
        let fields = [&fields[..], &[("expires_in", "1h"), ("reason", "why"), ("release", "1")]].concat();
        let (status, text) = viewer.send_as(csrf, act, &fields).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{act}: {text}");
    }
    assert_eq!(world.core.head().event, head);
    // Another org's owner sees none of this one's.
    let foreign = Visitor::new(&world, FOREIGN).await;
    assert_eq!(foreign.get(PROD).await.status(), StatusCode::NOT_FOUND);
    assert!(!foreign.page("/").await.contains("shop"));
}

#[tokio::test]
async fn a_session_ends_with_its_token_with_time_and_with_a_logout() {
    let world = World::start().await;
    let visitor = Visitor::new(&world, OWNER).await;
    let page = visitor.page("/tokens").await;
    let csrf = hidden(&page, "token", "csrf");
    let fields = [("name", "short"), ("role", "owner"), ("expires_in", "1h")];
    let (status, text) = visitor.send("/tokens", "token", &fields).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let secret =
        text.split("class=\"secret\">").nth(1).and_then(|rest| rest.split('<').next()).expect("a secret");
    let short = Visitor::new(&world, secret).await;
    short.page("/").await;
    world.clock.advance(types::DurationMs::from_secs(1799));
    short.page("/").await;
    visitor.page("/").await;
    world.clock.advance(types::DurationMs::from_secs(1799));
    short.page("/").await;
    visitor.page("/").await;
    world.clock.advance(types::DurationMs::from_secs(10));
    assert!(short.is_out().await, "the token is over, so its session is");
    visitor.page("/").await;
    world.clock.advance(limits::SESSION_IDLE);
    assert!(visitor.is_out().await, "nobody came by");
    let again = Visitor::new(&world, OWNER).await;
    let page = again.page("/tokens").await;
    assert_ne!(hidden(&page, "token", "csrf"), csrf);
    let own = hidden(&page, "token", "csrf");
    assert_eq!(again.log_out(&csrf).await.status(), StatusCode::FORBIDDEN);
    again.page("/").await;
    again.log_out(&own).await;
    assert!(again.is_out().await);
}

#[tokio::test]
async fn the_pulse_tells_of_each_event_and_ends_with_the_session() {
    let world = World::start().await;
    let visitor = Visitor::new(&world, VIEWER).await;
    let head = world.core.head().event;
    let mut pulse = visitor.get(&format!("/live?after={head}")).await;
    assert_eq!(pulse.headers()["content-type"], "text/event-stream");
    world.apply("registry.test/shop:1").await;
    let first = soon("a pulse", pulse.chunk()).await.expect("bytes").expect("a line");
    let text = String::from_utf8_lossy(&first).into_owned();
    assert!(text.starts_with(&format!("data: {}", EventId::new(head.get() + 1))), "{text}");
    let token = types::TokenId::from_u128(22);
    world.owner().revoke_token(world.id(), token).await.expect("revoked");
    soon("the end", async { while let Ok(Some(_)) = pulse.chunk().await {} }).await;
    assert!(visitor.is_out().await);
}

#[tokio::test]
async fn a_member_logs_in_with_a_password_does_what_its_role_may_and_logs_out() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    member(&world, "ann", "developer").await;
    let enter = async |password: &str| enter(&world, "", &[("name", "ann"), ("password", password)]).await;
    let wrong = enter("a guess at a password").await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert!(!wrong.headers().contains_key("set-cookie"));
    let entered = enter(PASSWORD).await;
    assert_eq!(entered.status(), StatusCode::SEE_OTHER);
    let ann = Visitor::of(&world, &entered);
    assert!(ann.page("/").await.contains("developer in main"));
    let fields = [&SHOP[..], &[("process", "web"), ("replicas", "4")]].concat();
    let (status, text) = ann.send(PROD, "scale", &fields).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert_eq!(world.core.state().envs[&world.env()].scale[&name("web")], 4);
    let csrf = hidden(&ann.page(PROD).await, "scale", "csrf");
    let id = world.id().to_string();
    let (status, text) = ann.send_as(&csrf, "drain", &[("node", "one"), ("request_id", &id)]).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{text}");
    let (status, _) = ann.send_as("other", "scale", &fields).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    ann.log_out(&csrf).await;
    assert!(ann.is_out().await);
}

/// What the forms of a page would do.
fn acts(page: &str) -> impl Iterator<Item = String> {
    let after = page.split("action=\"/do/").skip(1);
    after.map(|rest| rest.split('"').next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn a_form_is_shown_exactly_to_those_whose_role_the_api_lets_send_it() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let password = api::Password::new("correct horse battery");
    let ann = api::PersonRequest { name: name("ann"), role: TokenRole::Viewer, password: Some(password) };
    world.owner().create_member(world.id(), &ann).await.expect("a member");
    let unseen = format!("/requests?id={}", world.id());
    let mut shown = Vec::new();
    for role in TokenRole::ALL {
        let request = api::TokenRequest {
            name: name(role.as_str()),
            role,
            org: None,
            expires_in: types::DurationMs::from_secs(3600),
            scopes: None,
        };
        let made = world.owner().create_token(world.id(), &request).await.expect("a token");
        let visitor = Visitor::new(&world, &made.result.secret.expect("a secret")).await;
        let (mut offered, first) = (BTreeSet::new(), visitor.page("/").await);
        for path in PAGES.into_iter().chain([PROD, unseen.as_str()]) {
            let answer = visitor.get(path).await;
            let (status, text) = (answer.status(), answer.text().await.expect("a page"));
            let leads = !PAGES.contains(&path) || first.contains(&format!("href=\"{path}\""));
            let opens = status != StatusCode::FORBIDDEN;
            assert_eq!(leads, opens, "{role}: the menu leads to {path}, which is {status}");
            offered.extend(acts(&text));
        }
        shown.push((role, visitor, offered));
    }
    let all = shown[0].2.clone();
    assert!(all.len() >= 16, "{all:?}");
    assert!(shown.iter().all(|(_, _, offered)| offered.is_subset(&all)), "an owner may do everything");
    for (role, visitor, offered) in &shown {
        let page = visitor.page("/").await;
        let csrf = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        // What is named is not there, so that nothing is done whoever sends it.
        let id = world.id().to_string();
        let places = ["app", "env", "node", "id", "name"].map(|place| (place, "none"));
        let fields = [&places[..], &[("request_id", &id)]].concat();
        for act in &all {
            let (status, text) = visitor.send_as(csrf.expect("logout's"), act, &fields).await;
            let refused = status == StatusCode::FORBIDDEN && text.contains("may not do this; it takes");
            assert_eq!(refused, !offered.contains(act), "{role}: {act} is {status}: {text}");
        }
    }
}

#[tokio::test]
async fn the_audit_page_shows_what_was_attempted_and_chooses() {
    let world = World::audited(&SimDisk::new(1)).await;
    let executed = world.apply("registry.test/shop:1").await.request_id;
    let (status, _) = problem(world.bare("POST", api::routes::TOKENS)).await;
    assert_eq!(status, 401);
    let visitor = Visitor::new(&world, OWNER).await;
    let all = visitor.page("/audit").await;
    for part in [
        "denied",
        &executed.to_string(),
        "POST /v1/tokens",
        "nobody",
        "was read",
        "holdfast audit --limit 30",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
    let denied = visitor.page("/audit?type=denied&outcome=&actor=nobody&since=1h").await;
    assert!(denied.contains("POST /v1/tokens") && !denied.contains(&executed.to_string()), "{denied}");
    assert!(denied.contains("holdfast audit --limit 30 --type denied --actor nobody --since 1h"), "{denied}");
    let none = visitor.page("/audit?type=abandoned").await;
    assert!(none.contains("there is nothing here that fits"), "{none}");
    let first = visitor.page("/audit?from=beginning").await;
    assert!(
        first.find("POST /v1/tokens") > first.find(&executed.to_string()),
        "in the order of the log: {first}"
    );
    let answer = visitor.get("/audit?since=yesterday").await;
    assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
    let viewer = Visitor::new(&world, VIEWER).await;
    assert_eq!(viewer.get("/audit").await.status(), StatusCode::FORBIDDEN);
    assert!(!viewer.page("/").await.contains("href=\"/audit\""));
}

#[tokio::test]
async fn members_are_added_changed_and_removed_and_each_does_the_own_things() {
    let world = World::start().await;
    let owner = Visitor::new(&world, OWNER).await;
    let (long, longer) = (" a long password ", "a much longer password");
    let ann = [("name", "ann"), ("role", "viewer"), ("password", long)];
    let (status, text) = owner.send("/members", "add-member", &ann).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(text.contains("holdfast members create ann --role viewer") && !text.contains(long), "{text}");
    let enter = async |password: &str| {
        let request =
            unmoved().post(format!("{}/login", world.url())).header("sec-fetch-site", "same-origin");
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(encoded(&[("name", "ann"), ("password", password)])).send().await;
        let answer = answer.expect("an answer");
        let cookie =
            answer.headers().get("set-cookie")?.to_str().expect("text").split(';').next()?.to_owned();
        Some(Visitor { world: &world, cookie })
    };
    let visitor = enter(long).await.expect("blanks and all");
    let page = visitor.page("/members").await;
    assert!(page.contains("as ann, with a password") && page.contains("is not told to this login"), "{page}");
    assert!(!page.contains("/do/add-member") && !page.contains(">auditor</option>"), "{page}");
    let token = [("name", "own"), ("role", "viewer"), ("expires_in", "1h"), ("member", "ann")];
    let (status, text) = visitor.send("/members", "own-token", &token).await;
    assert!(status == StatusCode::OK && text.contains("class=\"secret\">"), "{text}");
    let change = [("current", long), ("password", longer)];
    let (status, text) = visitor.send("/members", "own-password", &change).await;
    assert!(status == StatusCode::OK && !text.contains(longer), "{text}");
    assert!(visitor.is_out().await, "the old password opened it");
    assert!(enter(long).await.is_none());
    let visitor = enter(longer).await.expect("the new one");
    let (status, text) = owner.send("/members", "set-role", &[("name", "ann"), ("role", "auditor")]).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(visitor.page("/audit").await.contains("What was attempted"));
    let service = [
        ("name", "ci"),
        ("role", "operator"),
        ("scopes", "confirm:cluster.promote  confirm:cluster.fence"),
        ("expires_in", "1h"),
    ];
    let (status, text) = owner.send("/members", "service", &service).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let page = owner.page("/members").await;
    assert!(page.contains("confirm:cluster.fence") && page.contains("confirm:cluster.promote"), "{page}");
    let (status, text) = owner.send("/members", "remove-member", &[("name", "ann")]).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    assert!(visitor.is_out().await);
}

#[tokio::test]
async fn a_browser_has_one_session_whatever_it_logs_in_with() {
    let world = World::start().await;
    member(&world, "ann", "developer").await;
    let bearer = Visitor::new(&world, VIEWER).await;
    let failed = enter(&world, &bearer.cookie, &[("name", "ann"), ("password", "a guess at it")]).await;
    assert_eq!(failed.status(), StatusCode::UNAUTHORIZED);
    assert!(bearer.page("/").await.contains("viewer in main"), "a login that failed ends nothing");
    let ann = [("name", "ann"), ("password", PASSWORD)];
    let ann = Visitor::of(&world, &enter(&world, &bearer.cookie, &ann).await);
    assert!(bearer.is_out().await, "the login of another took its place");
    assert!(ann.page("/").await.contains("developer in main"));
    let owner = Visitor::of(&world, &enter(&world, &ann.cookie, &[("token", OWNER)]).await);
    assert!(ann.is_out().await, "and so the other way round");
    assert!(owner.page("/").await.contains("owner in main"));
    let body = serde_json::json!({ "name": "ann", "password": PASSWORD });
    let request = world.bare("POST", api::routes::LOGIN).header("cookie", &owner.cookie).json(&body);
    let ann = Visitor::of(&world, &request.send().await.expect("an answer"));
    assert!(owner.is_out().await, "a login of the API too");
    ann.log_out(&ann.csrf().await).await;
    assert!(ann.is_out().await && owner.is_out().await && bearer.is_out().await, "nobody is left");
    // The session of a token is one for the API as well, and writes there by the same rule.
    let owner = Visitor::new(&world, OWNER).await;
    let csrf = owner.csrf().await;
    let apply = || {
        let request = world.bare("POST", "/v1/orgs/main/apply").header("cookie", &owner.cookie);
        let request = request.header(api::routes::IDEMPOTENCY_KEY, world.id().to_string());
        request.header("sec-fetch-site", "same-origin").json(&shop("registry.test/shop:1"))
    };
    let without = apply().send().await.expect("an answer");
    assert_eq!(without.status(), StatusCode::FORBIDDEN);
    let with = apply().header(api::routes::CSRF, &csrf).send().await.expect("an answer");
    assert_eq!(with.status(), StatusCode::OK);
    // No other server's page logs anybody out.
    let foreign = world.bare("POST", "/logout").header("sec-fetch-site", "cross-site");
    let foreign = foreign.header("content-type", "application/x-www-form-urlencoded").body("csrf=");
    let foreign = foreign.send().await.expect("an answer");
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    assert!(!foreign.headers().contains_key("set-cookie"));
}

#[tokio::test]
async fn an_open_page_keeps_no_session_from_falling_idle() {
    let world = World::start().await;
    member(&world, "ann", "developer").await;
    let entered = enter(&world, "", &[("name", "ann"), ("password", PASSWORD)]).await;
    let (ann, bearer) = (Visitor::of(&world, &entered), Visitor::new(&world, VIEWER).await);
    let step = types::DurationMs::from_secs(300);
    let open_for = async |half_hours: u64| {
        for _ in 0..half_hours * (limits::SESSION_IDLE.as_ms() / step.as_ms()) - 1 {
            world.clock.advance(step);
            for visitor in [&ann, &bearer] {
                assert_eq!(visitor.reads_by_itself("/").await, StatusCode::OK);
                assert_eq!(visitor.get("/live").await.status(), StatusCode::OK);
            }
        }
    };
    open_for(1).await;
    ann.page("/").await;
    bearer.page("/").await;
    open_for(1).await;
    world.clock.advance(step);
    assert!(ann.is_out().await && bearer.is_out().await, "pages that are open are no visit");
    let why = unmoved().get(world.url()).header("cookie", &ann.cookie).header("accept", "text/html");
    let why = why.send().await.expect("an answer").headers()["location"].to_str().expect("text").to_owned();
    assert!(why.contains("Your%20session%20has%20ended"), "{why}");
}

#[tokio::test]
async fn a_followed_log_ends_with_the_session_of_its_reader() {
    let world = World::start().await;
    world.apply("registry.test/shop:1").await;
    let instance = world.place(ONE).await;
    let mut messages = attend(&world).await;
    let visitor = Visitor::new(&world, OWNER).await;
    let csrf = visitor.csrf().await;
    let path = format!("/instances/{instance}/log?tail=1&follow=true");
    let (log, wish) = tokio::join!(visitor.get(&path), async {
        let wish = ask(&mut messages).await;
        let (line, lines) = tokio::sync::mpsc::channel::<&'static str>(1);
        line.send("before\n").await.expect("room");
        let lines = futures_util::stream::unfold(lines, |mut lines| async move {
            let line = lines.recv().await?;
            Some((bytes::Bytes::from(line), lines))
        });
        let agent = world.node(NODE_ONE);
        let upload = tokio::spawn(async move { agent.answer_logs(wish.ask, lines.boxed()).await });
        (line, upload)
    });
    let (line, upload) = wish;
    let mut log = log;
    assert_eq!(log.status(), StatusCode::OK);
    let first = soon("a line", log.chunk()).await.expect("bytes").expect("a line");
    assert_eq!(&first[..], b"before\n");
    visitor.log_out(&csrf).await;
    let _nobody_reads = line.send("after\n").await;
    let rest = soon("the end", async {
        let mut rest = Vec::new();
        while let Ok(Some(piece)) = log.chunk().await {
            rest.extend_from_slice(&piece);
        }
        rest
    })
    .await;
    assert_eq!(String::from_utf8_lossy(&rest), "", "nothing is shown after the logout");
    drop(line);
    let _ended = soon("the upload", upload).await.expect("no panic");
}

#[tokio::test]
async fn a_login_stays_on_the_host_that_was_asked() {
    let world = World::start().await;
    let host = format!("holdfast.localhost:{}", world.address.port());
    let request = unmoved().post(format!("{}/login", world.url())).header("host", &host);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let request = request.header("origin", format!("http://{host}"));
    let answer = request.body(encoded(&[("token", OWNER), ("to", "/\t/evil.example")])).send().await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(answer.headers()["location"], "/", "no way to another server");
    Visitor::of(&world, &answer).page("/").await;
    let form = world.bare("GET", "/login?to=/%09/evil.example").send().await.expect("a page");
    let form = form.text().await.expect("text");
    assert!(form.contains("name=\"to\" value=\"/\"") && !form.contains("evil"), "{form}");
}

#[tokio::test]
async fn what_the_page_answers_by_itself_is_written_down_like_what_the_api_answers() {
    let world = World::audited(&SimDisk::new(1)).await;
    world.apply("registry.test/shop:1").await;
    member(&world, "ann", "viewer").await;
    let owner = Visitor::new(&world, OWNER).await;
    for secret in ["hf_unknown", EXPIRED] {
        assert_eq!(log_in(&world, secret).await.status(), StatusCode::UNAUTHORIZED);
    }
    let password = [("name", "ann"), ("password", PASSWORD)];
    assert_eq!(enter(&world, "", &password).await.status(), StatusCode::SEE_OTHER);
    let fields = [&SHOP[..], &[("process", "web"), ("replicas", "3")]].concat();
    assert_eq!(owner.send_as("of another page", "scale", &fields).await.0, StatusCode::FORBIDDEN);
    let csrf = owner.csrf().await;
    let elsewhere = owner.form("scale", &[&[("csrf", csrf.as_str())], &fields[..]].concat());
    let elsewhere = elsewhere.header("sec-fetch-site", "cross-site").send().await.expect("an answer");
    assert_eq!(elsewhere.status(), StatusCode::FORBIDDEN);
    let stranger = Visitor { world: &world, cookie: "holdfast=hf_none".to_owned() };
    assert_eq!(stranger.send_as("x", "scale", &fields).await.0, StatusCode::UNAUTHORIZED);
    let mistyped = [("explained", "yes"), ("confirm", "act_1"), ("typed", "shop/beta")];
    let (status, page) = owner.send(PROD, "delete-env", &[&SHOP[..], &mistyped].concat()).await;
    assert!(status.is_client_error() && page.contains("nothing was sent"), "{page}");
    assert!(!page.contains("stands in the log") && !page.contains("stands there"), "{page}");
    assert!(owner.log_out(&csrf).await.status().is_success(), "the page after it");

    let rows = world.owner().audit(&api::AuditQuery::default()).await.expect("a page").rows;
    let told: Vec<(&str, &str, &str, Option<&str>)> = rows
        .iter()
        .filter(|row| row.act.is_none())
        .map(|row| (row.kind.as_str(), row.actor.as_str(), row.request.path.as_str(), row.code.as_deref()))
        .collect();
    let token = |id| types::TokenId::from_u128(id).to_string();
    let (bearer, expired) = (token(21), token(24));
    let ann = world.core.state().person_names[&name("ann")].to_string();
    let stranger = (Some("unauthenticated"), Some("forbidden"));
    assert_eq!(
        told,
        [
            ("executed", bearer.as_str(), "/login", None),
            ("denied", "nobody", "/login", stranger.0),
            ("denied", expired.as_str(), "/login", stranger.0),
            ("executed", ann.as_str(), api::routes::LOGIN, None),
            ("denied", "nobody", "/do/scale", stranger.1),
            ("denied", "nobody", "/do/scale", stranger.1),
            ("denied", "nobody", "/do/scale", stranger.0),
            ("refused", bearer.as_str(), "/do/delete-env", Some("acknowledgement_required")),
            ("executed", bearer.as_str(), "/logout", None),
        ],
        "{rows:#?}"
    );
    let text = format!("{rows:?}");
    assert!(!text.contains(OWNER) && !text.contains("hf_unknown") && !text.contains(&csrf), "{text}");
}
