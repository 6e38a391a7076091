//! Logging in by way of a provider, against a test issuer that makes every mistake; a real provider is met
//! by the tests of the whole binary.

use crate::{
    issuer::{Issuer, Mistake, said},
    world::*,
};
use api::{
    AuditQuery, AuditRow, AuditType, ClientError, Code, LoginRequest, Password, PersonIdentity,
    PersonRequest, TokenRole, routes,
};
use holdfast_control::{Options, providers::Settings};
use reqwest::{Response, StatusCode};
use rt::Clock as _;
use types::{DurationMs, limits};

const PASSWORD: &str = "tables of green rain";
const SUBJECT: &str = "248289761001";

struct Scene {
    world: World,
    issuer: Issuer,
}

/// A login on its way: what the browser was given, and where it was sent.
struct Sent {
    cookie: String,
    place: String,
}

/// What a browser was shown in the end.
struct Seen {
    status: u16,
    page: String,
    /// The session, if one was opened.
    session: Option<String>,
}

impl Seen {
    #[track_caller]
    fn is_refused_as(&self, code: Code) {
        assert!(self.page.contains(&format!("<code>{code}</code>")), "{code}: {}", self.page);
        assert_eq!((self.status, &self.session), (code.status(), &None), "{}", self.page);
    }
}

/// A client that stays where it is sent away.
fn unmoved() -> reqwest::Client {
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    client.no_proxy().tls_certs_only([]).build().expect("a client")
}

fn cookies(answer: &Response) -> Vec<String> {
    let lines = answer.headers().get_all("set-cookie").iter();
    lines.map(|line| line.to_str().expect("text").to_owned()).collect()
}

impl Scene {
    async fn new() -> Self {
        Self::at("http://127.0.0.1:7070").await
    }

    /// A server that browsers reach there, and one member, linked.
    async fn at(url: &str) -> Self {
        let issuer = Issuer::start(START.as_ms()).await;
        let providers = Some(Settings { url: url.into(), providers: vec![issuer.provider()] });
        let options = Options { providers, ..Options::default() };
        let world = World::audited_with(&rt::SimDisk::new(1), options).await;
        let scene = Self { world, issuer };
        scene.add("ann", None).await;
        scene.link("ann", SUBJECT).await.expect("linked");
        scene
    }

    async fn add(&self, called: &str, password: Option<&str>) {
        let password = password.map(Password::new);
        let request = PersonRequest { name: name(called), role: TokenRole::Developer, password };
        self.world.owner().create_member(self.world.id(), &request).await.expect("added");
    }

    async fn link(&self, called: &str, subject: &str) -> Result<api::Receipt, ClientError> {
        let identity = PersonIdentity { issuer: self.issuer.url(), subject: subject.into() };
        self.world.owner().link_member(self.world.id(), &name(called), &identity).await
    }

    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        unmoved().get(format!("{}{path}", self.world.url()))
    }

    async fn begin(&self) -> Sent {
        self.begin_with("").await
    }

    /// The same in a browser that has these cookies.
    async fn begin_with(&self, cookies_of: &str) -> Sent {
        let request = self.get("/login/corp?to=%2Fnodes").header("cookie", cookies_of);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{:?}", answer.text().await);
        let place = answer.headers()["location"].to_str().expect("text").to_owned();
        let set = cookies(&answer).remove(0);
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Lax"), "{set}");
        Sent { cookie: set.split(';').next().expect("a pair").to_owned(), place }
    }

    /// A login that is turned away before anybody is sent anywhere.
    async fn begin_in_vain(&self) -> Seen {
        seen(self.get("/login/corp").send().await.expect("an answer")).await
    }

    async fn back(&self, cookie: &str, query: &str) -> Seen {
        let request = self.get(&format!("/login/corp/callback?{query}"));
        seen(request.header("cookie", cookie).send().await.expect("an answer")).await
    }

    /// A whole login of somebody.
    async fn log_in(&self, subject: &str) -> Seen {
        let sent = self.begin().await;
        let query = self.issuer.logs_in(&sent.place, subject);
        self.back(&sent.cookie, &query).await
    }

    async fn status_of(&self, session: &str) -> u16 {
        let asked = self.world.bare("GET", routes::WHOAMI).header("cookie", session);
        asked.send().await.expect("an answer").status().as_u16()
    }
}

async fn seen(answer: Response) -> Seen {
    let status = answer.status().as_u16();
    let set = cookies(&answer);
    let session = set.iter().find(|line| line.starts_with("holdfast=hf_"));
    let session = session.map(|line| line.split(';').next().expect("a pair").to_owned());
    Seen { status, page: answer.text().await.expect("text"), session }
}

#[tokio::test]
async fn a_linked_member_logs_in_and_goes_on_to_where_it_wanted() {
    let scene = Scene::new().await;
    let page = scene.get("/login?to=%2Fnodes").send().await.expect("an answer").text().await.expect("text");
    assert!(page.contains("href=\"/login/corp?to=%2Fnodes\">Log in with Test Issuer</a>"), "{page}");
    let head = scene.world.core.head().event;
    let sent = scene.begin().await;
    let asked = sent.place.split_once('?').expect("a query").1;
    assert_eq!(said(asked, "redirect_uri").as_deref(), Some("http://127.0.0.1:7070/login/corp/callback"));
    assert_eq!(said(asked, "of").as_deref(), Some("test"), "what the provider's own place says is kept");
    let query = scene.issuer.logs_in(&sent.place, SUBJECT);
    let request = scene.get(&format!("/login/corp/callback?{query}")).header("cookie", &sent.cookie);
    let answer = request.send().await.expect("an answer");
    assert_eq!(
        (answer.status(), &answer.headers()["refresh"]),
        (StatusCode::OK, &"0;url=/nodes".parse().expect("a value"))
    );
    assert!(cookies(&answer).iter().any(|line| line.starts_with("holdfast-login=; ")), "taken back");
    let session = seen(answer).await.session.expect("a session");
    let who = scene.world.bare("GET", routes::WHOAMI).header("cookie", &session).send().await;
    let who: api::Whoami = who.expect("an answer").json().await.expect("JSON");
    assert_eq!((who.role, who.member, who.token), (TokenRole::Developer, Some(name("ann")), None));
    assert_eq!(scene.world.core.head().event, head, "a login is nothing for the log");
    let page = scene.get("/").header("cookie", &session).send().await.expect("an answer");
    assert_eq!(page.status(), StatusCode::OK);
    let own = scene.get("/members").header("cookie", &session).send().await.expect("an answer");
    let own = own.text().await.expect("text");
    assert!(own.contains("as ann, with a password or by way of a provider"), "{own}");
    assert!(own.contains("action=\"/do/own-token\""), "a token for the command line: {own}");
    let keys = scene.issuer.asked_for_keys();
    assert!(scene.log_in(SUBJECT).await.session.is_some());
    assert_eq!(scene.issuer.asked_for_keys(), keys, "what the provider said is kept for a while");
    scene.world.clock.advance(limits::PROVIDER_KEPT);
    scene.begin().await;
    assert_eq!(scene.issuer.asked_for_keys(), keys + 1, "and no longer");
}

#[tokio::test]
async fn what_the_provider_says_must_hold() {
    use Mistake::*;
    let scene = Scene::new().await;
    for (mistake, code) in [
        (WrongNonce, Code::LoginRefused),
        (NoNonce, Code::LoginRefused),
        (WrongIssuer, Code::LoginRefused),
        (WrongAudience, Code::LoginRefused),
        (TwoAudiences, Code::LoginRefused),
        (OtherParty, Code::LoginRefused),
        (Expired, Code::LoginRefused),
        (AlgorithmNone, Code::LoginRefused),
        (SharedSecret, Code::LoginRefused),
        (OtherKey, Code::LoginRefused),
        (UnknownKey, Code::LoginRefused),
        (NoSubject, Code::LoginRefused),
        (LongSubject, Code::LoginRefused),
        (NoIdToken, Code::LoginRefused),
        (InvalidGrant, Code::LoginRefused),
        (NoToken, Code::ProviderUnavailable),
        (HugeToken, Code::ProviderUnavailable),
    ] {
        let sent = scene.begin().await;
        let query = scene.issuer.logs_in(&sent.place, SUBJECT);
        scene.issuer.makes(mistake);
        let seen = scene.back(&sent.cookie, &query).await;
        scene.issuer.makes(None);
        eprintln!("{mistake:?}: {}", seen.status);
        seen.is_refused_as(code);
        scene.back(&sent.cookie, &query).await.is_refused_as(Code::LoginExpired);
    }
    assert!(scene.log_in(SUBJECT).await.session.is_some(), "and what does is taken");
}

#[tokio::test]
async fn new_keys_of_the_provider_are_fetched_once_when_they_are_met() {
    let scene = Scene::new().await;
    assert!(scene.log_in(SUBJECT).await.session.is_some());
    let keys = scene.issuer.asked_for_keys();
    scene.issuer.rotate();
    assert!(scene.log_in(SUBJECT).await.session.is_some());
    assert_eq!(scene.issuer.asked_for_keys(), keys + 1);
    let sent = scene.begin().await;
    let query = scene.issuer.logs_in(&sent.place, SUBJECT);
    scene.issuer.makes(Mistake::UnknownKey);
    scene.back(&sent.cookie, &query).await.is_refused_as(Code::LoginRefused);
    assert_eq!(scene.issuer.asked_for_keys(), keys + 2);
}

#[tokio::test]
async fn a_login_comes_back_once_to_the_browser_that_began_it() {
    let scene = Scene::new().await;
    let (one, other) = (scene.begin().await, scene.begin().await);
    let query = scene.issuer.logs_in(&one.place, SUBJECT);
    scene.back(&other.cookie, &query).await.is_refused_as(Code::LoginExpired);
    scene.back(&one.cookie, &query).await.is_refused_as(Code::LoginExpired);
    let sent = scene.begin().await;
    let query = scene.issuer.logs_in(&sent.place, SUBJECT);
    assert!(scene.back(&sent.cookie, &query).await.session.is_some());
    scene.back(&sent.cookie, &query).await.is_refused_as(Code::LoginExpired);
    for query in ["", "state=made-up&code=x", "state=a&state=b", "error=access_denied"] {
        scene.back(&sent.cookie, query).await.is_refused_as(Code::LoginExpired);
    }
    let sent = scene.begin().await;
    let query = scene.issuer.logs_in(&sent.place, SUBJECT);
    scene.back("", &query).await.is_refused_as(Code::LoginExpired);
    let sent = scene.begin().await;
    let query = scene.issuer.logs_in(&sent.place, SUBJECT);
    scene.world.clock.advance(limits::LOGIN_PENDING);
    scene.back(&sent.cookie, &query).await.is_refused_as(Code::LoginExpired);
}

#[tokio::test]
async fn a_refusal_of_the_provider_and_an_answer_of_another_are_told() {
    let scene = Scene::new().await;
    let sent = scene.begin().await;
    let state = said(sent.place.split_once('?').expect("a query").1, "state").expect("a state");
    let denied = format!("error=access_denied&error_description=%3Cb%3Eno%0Ano&state={state}");
    let seen = scene.back(&sent.cookie, &denied).await;
    seen.is_refused_as(Code::LoginRefused);
    assert!(seen.page.contains("access_denied &lt;b&gt;nono"), "{}", seen.page);
    let sent = scene.begin().await;
    let query = scene.issuer.logs_in(&sent.place, SUBJECT);
    let of_another = format!("{query}&iss=https%3A%2F%2Fanother.example");
    scene.back(&sent.cookie, &of_another).await.is_refused_as(Code::LoginRefused);
    let sent = scene.begin().await;
    let query = scene.issuer.logs_in(&sent.place, SUBJECT);
    let (_, iss) = scene
        .issuer
        .url()
        .split_once(':')
        .map(|(a, b)| (a.to_owned(), b.replace('/', "%2F")))
        .expect("a URL");
    let own = format!("{query}&iss=http%3A{}", iss.replace(':', "%3A"));
    assert!(scene.back(&sent.cookie, &own).await.session.is_some());
}

#[tokio::test]
async fn who_is_linked_to_nobody_is_told_how_to_be_and_an_address_links_nobody() {
    let scene = Scene::new().await;
    // The provider says the same name and address of everybody; neither is looked at.
    let seen = scene.log_in("o'stranger").await;
    seen.is_refused_as(Code::LoginUnlinked);
    let hint = format!(
        "holdfast members link NAME --issuer {} --subject &#39;o&#39;\\&#39;&#39;stranger&#39;",
        scene.issuer.url()
    );
    let page = seen.page.replace("&apos;", "&#39;").replace('\'', "&#39;");
    assert!(page.contains(&hint), "{hint} in {page}");
    scene.add("bea", Some(PASSWORD)).await;
    let taken = scene.link("bea", SUBJECT).await.expect_err("ann's");
    assert_eq!(taken.code(), Some(Code::Conflict));
    let elsewhere = PersonIdentity { issuer: "https://another.example".into(), subject: "o'stranger".into() };
    scene.world.owner().link_member(scene.world.id(), &name("bea"), &elsewhere).await.expect("linked");
    scene.log_in("o'stranger").await.is_refused_as(Code::LoginUnlinked);
    scene.link("bea", "o'stranger").await.expect("linked");
    assert!(scene.log_in("o'stranger").await.session.is_some());
    let rows = scene.world.owner().members().await.expect("members");
    let row = |called| rows.iter().find(|row| row.name == name(called)).expect("listed");
    assert_eq!((row("ann").password, row("bea").password), (false, true));
    assert_eq!(row("ann").identity.as_ref().map(|linked| linked.subject.as_str()), Some(SUBJECT));
}

#[tokio::test]
async fn what_was_opened_ends_with_the_link_and_the_member_and_nothing_else_opens_without_a_password() {
    let scene = Scene::new().await;
    let (owner, world) = (scene.world.owner(), &scene.world);
    let session = scene.log_in(SUBJECT).await.session.expect("a session");
    assert_eq!(scene.status_of(&session).await, 200);
    for password in ["", "anything at all"] {
        let request = LoginRequest { name: "ann".into(), password: Password::new(password) };
        let refused = world.client("").login(&request).await.expect_err("she has none");
        assert_eq!(refused.code(), Some(Code::Unauthenticated));
    }
    owner.unlink_member(world.id(), &name("ann")).await.expect("unlinked");
    assert_eq!(scene.status_of(&session).await, 401);
    scene.log_in(SUBJECT).await.is_refused_as(Code::LoginUnlinked);
    scene.link("ann", SUBJECT).await.expect("linked");
    assert_eq!(scene.status_of(&session).await, 401, "another link opens no old session");
    let session = scene.log_in(SUBJECT).await.session.expect("a session");
    // Removed while the provider is asked.
    let sent = scene.begin().await;
    let query = scene.issuer.logs_in(&sent.place, SUBJECT);
    owner.delete_member(world.id(), &name("ann")).await.expect("removed");
    scene.back(&sent.cookie, &query).await.is_refused_as(Code::LoginUnlinked);
    assert_eq!(scene.status_of(&session).await, 401);
    // Somebody else gets the name; the identity is not theirs.
    scene.add("ann", None).await;
    scene.log_in(SUBJECT).await.is_refused_as(Code::LoginUnlinked);
}

#[tokio::test]
async fn a_browser_has_one_session_whatever_its_login() {
    let scene = Scene::new().await;
    let (first, elsewhere) = (scene.log_in(SUBJECT).await, scene.log_in(SUBJECT).await);
    let (first, elsewhere) = (first.session.expect("a session"), elsewhere.session.expect("a session"));
    // Coming back from another site, a browser shows the cookie of the login and not that of the session.
    let sent = scene.begin_with(&first).await;
    scene.back(&sent.cookie, "error=access_denied").await.is_refused_as(Code::LoginExpired);
    assert_eq!(scene.status_of(&first).await, 200, "who does not come in again is not thrown out");
    let sent = scene.begin_with(&first).await;
    let query = scene.issuer.logs_in(&sent.place, SUBJECT);
    let second = scene.back(&sent.cookie, &query).await.session.expect("a session");
    let all = [&first, &second, &elsewhere];
    let mut told = Vec::new();
    for session in all {
        told.push(scene.status_of(session).await);
    }
    assert_eq!(told, [401, 200, 200], "the browser's last one, and another browser's");
    let mut opened = vec![second, elsewhere];
    for _ in 0..limits::SESSIONS_OF_ONE {
        scene.world.clock.advance(DurationMs::from_ms(1));
        opened.push(scene.log_in(SUBJECT).await.session.expect("a session"));
    }
    assert_eq!(scene.status_of(&opened[0]).await, 401, "one person has a bounded number of them");
    assert_eq!(scene.status_of(opened.last().expect("some")).await, 200);
}

#[tokio::test]
async fn what_became_of_each_login_is_in_the_audit_without_its_secrets() {
    let scene = Scene::new().await;
    let row_of = async |code: Option<Code>| {
        let rows = scene.world.owner().audit(&AuditQuery::default()).await.expect("a page").rows;
        let code = code.map(|code| code.to_string());
        let fits = |row: &AuditRow| row.request.path.starts_with("/login/") && row.code == code;
        let found: Vec<_> = rows.into_iter().filter(fits).collect();
        assert_eq!(found.len(), 1, "{code:?}: {found:#?}");
        found.into_iter().next().expect("one")
    };
    let is = |row: &AuditRow, kind, path: &str| {
        assert_eq!((row.kind, row.request.path.as_str()), (kind, path));
        assert_eq!((row.request.method.as_str(), row.source.as_deref()), ("GET", Some("127.0.0.1")));
        let line = serde_json::to_string(row).expect("JSON");
        for secret in ["hf_", "code-", "state=", "code="] {
            assert!(!line.contains(secret), "{secret} in {line}");
        }
    };
    let (callback, begun) = ("/login/corp/callback", "/login/corp");
    scene.log_in("stranger").await.is_refused_as(Code::LoginUnlinked);
    let row = row_of(Some(Code::LoginUnlinked)).await;
    is(&row, AuditType::Denied, callback);
    assert_eq!((row.actor.as_str(), row.outcome), ("nobody", api::Outcome::NotExecuted));
    let told = serde_json::json!({ "issuer": scene.issuer.url(), "subject": "stranger" });
    assert_eq!(row.request.body, Some(told), "whom the provider vouched for");
    let sent = scene.begin().await;
    let query = scene.issuer.logs_in(&sent.place, SUBJECT);
    scene.issuer.makes(Mistake::WrongNonce);
    scene.back(&sent.cookie, &query).await.is_refused_as(Code::LoginRefused);
    let row = row_of(Some(Code::LoginRefused)).await;
    is(&row, AuditType::Denied, callback);
    assert!(row.reason.contains("is for another login") && row.request.body.is_none(), "{row:?}");
    scene.issuer.makes(Mistake::None);
    scene.back(&sent.cookie, &query).await.is_refused_as(Code::LoginExpired);
    is(&row_of(Some(Code::LoginExpired)).await, AuditType::Denied, callback);
    assert!(scene.log_in(SUBJECT).await.session.is_some());
    let row = row_of(None).await;
    is(&row, AuditType::Executed, callback);
    let ann = scene.world.owner().members().await.expect("members").remove(0);
    assert_eq!(row.actor, ann.id.to_string());
    let crossed = scene.get("/login/corp").header("sec-fetch-site", "cross-site");
    seen(crossed.send().await.expect("an answer")).await.is_refused_as(Code::Forbidden);
    is(&row_of(Some(Code::Forbidden)).await, AuditType::Denied, begun);
    scene.issuer.makes(Mistake::Down);
    scene.world.clock.advance(limits::PROVIDER_KEPT);
    scene.begin_in_vain().await.is_refused_as(Code::ProviderUnavailable);
    is(&row_of(Some(Code::ProviderUnavailable)).await, AuditType::Failed, begun);
    let knock = scene.get("/login/nowhere");
    for _ in 0..limits::FLOOD_LINES + 5 {
        seen(knock.try_clone().expect("no body").send().await.expect("an answer")).await;
    }
    let rows = scene.world.owner().audit(&AuditQuery::default()).await.expect("a page").rows;
    let lines = rows.iter().filter(|row| row.request.path == "/login/nowhere").count() as u64;
    assert!(lines <= limits::FLOOD_LINES, "who knocks again and again is counted: {lines}");
}

#[tokio::test]
async fn only_who_may_set_a_members_password_may_link_it() {
    let scene = Scene::new().await;
    let identity = PersonIdentity { issuer: scene.issuer.url(), subject: "mine".into() };
    let refused = scene.world.client(VIEWER).link_member(scene.world.id(), &name("ann"), &identity).await;
    assert_eq!(refused.expect_err("a viewer").code(), Some(Code::Forbidden));
    let foreign = scene.world.client(FOREIGN).link_member(scene.world.id(), &name("ann"), &identity).await;
    assert_eq!(foreign.expect_err("another org's").code(), Some(Code::NotFound));
    let request = api::TokenRequest {
        name: name("admin"),
        role: TokenRole::Admin,
        org: None,
        expires_in: DurationMs::from_secs(600),
        scopes: None,
    };
    let made = scene.world.owner().create_token(scene.world.id(), &request).await.expect("made");
    let admin = scene.world.client(&made.result.secret.expect("a secret"));
    let owner = PersonRequest { name: name("bea"), role: TokenRole::Owner, password: None };
    scene.world.owner().create_member(scene.world.id(), &owner).await.expect("added");
    let refused = admin.link_member(scene.world.id(), &name("bea"), &identity).await;
    assert_eq!(refused.expect_err("an admin is no owner").code(), Some(Code::Forbidden));
    let refused = admin.unlink_member(scene.world.id(), &name("bea")).await;
    assert_eq!(refused.expect_err("an admin is no owner").code(), Some(Code::Forbidden));
    admin.link_member(scene.world.id(), &name("ann"), &identity).await.expect("a developer");
}

#[tokio::test]
async fn a_provider_that_fails_keeps_nobody_else_out() {
    use Mistake::*;
    let scene = Scene::new().await;
    scene.add("bea", Some(PASSWORD)).await;
    let session = scene.log_in(SUBJECT).await.session.expect("a session");
    for mistake in [Down, HugeDiscovery, HugeKeys, RedirectedDiscovery, DiscoveryOfAnother, ElsewhereLogin] {
        scene.world.clock.advance(DurationMs::from_ms(limits::SESSION_IDLE.as_ms() - 1000));
        assert_eq!(scene.status_of(&session).await, 200);
        scene.world.clock.advance(DurationMs::from_ms(limits::SESSION_IDLE.as_ms() - 1000));
        assert_eq!(scene.status_of(&session).await, 200);
        scene.world.clock.advance(DurationMs::from_secs(60));
        assert_eq!(scene.status_of(&session).await, 200);
        scene.issuer.makes(mistake);
        scene.begin_in_vain().await.is_refused_as(Code::ProviderUnavailable);
        eprintln!("{mistake:?}");
    }
    let request = LoginRequest { name: "bea".into(), password: Password::new(PASSWORD) };
    scene.world.client("").login(&request).await.expect("a password needs no provider");
    assert_eq!(scene.status_of(&session).await, 200);
    scene.issuer.makes(ElsewhereToken);
    let sent = scene.begin().await;
    let query = scene.issuer.logs_in(&sent.place, SUBJECT);
    let seen = scene.back(&sent.cookie, &query).await;
    seen.is_refused_as(Code::ProviderUnavailable);
    assert!(seen.page.contains("is on it with all its parts"), "{}", seen.page);
}

#[tokio::test]
async fn a_provider_that_hangs_is_given_up_and_holds_a_bounded_number_of_logins() {
    let (scene, other) = (Scene::new().await, Scene::new().await);
    let sent = other.begin().await;
    let query = other.issuer.logs_in(&sent.place, SUBJECT);
    other.issuer.makes(Mistake::SlowToken);
    scene.issuer.makes(Mistake::SlowDiscovery);
    let since = std::time::Instant::now();
    let asked = (0..limits::PROVIDER_ASKED + 3).map(|_| scene.begin_in_vain());
    let (seen, back) = tokio::join!(futures_util::future::join_all(asked), other.back(&sent.cookie, &query));
    back.is_refused_as(Code::ProviderUnavailable);
    let full = format!("{} logins wait for it already", limits::PROVIDER_ASKED);
    assert_eq!(seen.iter().filter(|seen| seen.page.contains(&full)).count(), 3);
    seen.iter().for_each(|seen| seen.is_refused_as(Code::ProviderUnavailable));
    let took = since.elapsed();
    let wait = std::time::Duration::from(limits::PROVIDER_WAIT);
    assert!(took >= wait && took < wait * 3, "{took:?}");
    assert_eq!(scene.issuer.asked(), limits::PROVIDER_ASKED);
}

#[tokio::test]
async fn a_login_is_begun_by_a_page_of_this_server_and_over_tls_its_cookie_stays_there() {
    let scene = Scene::at("https://holdfast.example").await;
    for site in ["cross-site", "same-site"] {
        let request = scene.get("/login/corp").header("sec-fetch-site", site);
        seen(request.send().await.expect("an answer")).await.is_refused_as(Code::Forbidden);
    }
    let sent = scene.begin().await;
    assert!(sent.cookie.starts_with("__Host-holdfast-login=hf_"), "{}", sent.cookie);
    let unknown = seen(scene.get("/login/other").send().await.expect("an answer")).await;
    unknown.is_refused_as(Code::NotFound);
    let plain = World::start().await;
    let page = plain.bare("GET", "/login").send().await.expect("an answer").text().await.expect("text");
    assert!(!page.contains("Log in with <") && !page.contains("/login/"), "no provider, no link");
    assert!(scene.world.clock.now() >= START);
}
