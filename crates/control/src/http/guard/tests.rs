//! The guard behind a real listener: one act, the house's own gate and rim, the real client.

use super::*;
use crate::{
    audit::Journal,
    http::{
        Http, Options, access,
        act::{self, Came},
        answer::{At, Result},
        rim, serve, shared,
    },
    secret::Secret,
};
use api::{ActDone, Client, ClientError};
use axum::{
    Json, Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::post,
};
use domain::{Command, Envelope, Event, NewToken, Role, codec};
use log::{Batch, Log, MemoryLog};
use rt::{Clock as _, Disk, Fault, OsRandom, Random as _, SimClock, SimDisk};
use serde_json::json;
use std::{net::SocketAddr, path::Path, sync::Arc};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;
use types::{DurationMs, Epoch, EventId, OrgId, RequestId, TokenId};

const ACT: &str = "/v1/test/acts/one";
const OTHER: &str = "/v1/test/acts/two";
/// An act that goes the way of all guarded acts.
const RUN: &str = "/v1/test/run";
const START: Timestamp = Timestamp::from_ms(1_763_673_600_000);
const DIR: &str = "/data";

/// What the act of these tests is about.
#[derive(Clone, Debug, Default)]
struct Target {
    position: u64,
    overrides: Vec<Override>,
    reason: Reason,
    denied: Option<&'static str>,
    /// How often an act of [`RUN`] has run.
    ran: u64,
    /// How many handlers of it nobody waits for any more, or that have answered.
    left: u64,
}

pub(in crate::http) struct World {
    pub(in crate::http) http: Http,
    target: Arc<Mutex<Target>>,
    clock: Arc<SimClock>,
    disk: SimDisk,
    address: SocketAddr,
    shutdown: CancellationToken,
    stop_driver: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.stop_driver.cancel();
    }
}

fn shown(target: &Target, age: u64) -> Shown {
    Shown {
        act: "test one".into(),
        will: vec!["move one to the front".into()],
        touches: vec!["one".into()],
        irreversible: vec!["the epoch that it opens".into()],
        invariants: vec![Proof {
            name: "one_authority".into(),
            proven_by: "the promises of one, two".into(),
        }],
        overrides: target.overrides.clone(),
        facts: json!([{ "name": "one", "position": target.position, "heard_ms": age }]),
        state: json!({ "position": target.position, "members": { "one": "leads" } }),
        reason: target.reason,
    }
}

async fn act(
    State((http, target)): State<(Http, Arc<Mutex<Target>>)>,
    caller: Caller,
    said: Said,
) -> Result<Response> {
    // An age that is another at every look: only `facts` may hold one.
    let target = target.lock().expect("not poisoned").clone();
    let shown = shown(&target, u64::from(OsRandom.u128() as u32));
    if let Some(why) = target.denied {
        let denied = Problem::new(Code::Denied, why);
        http.guard.denied(&caller, &said, &shown.act, &denied).await;
        return Err(denied.into());
    }
    if wants_explanation(&said) {
        return Ok(Json(http.guard.explain(&caller, &said, shown)?).into_response());
    }
    let confirmed = http.guard.judge(&caller, &said, &shown).await?;
    http.guard.confirm(&confirmed, &said, &shown).await?;
    Ok(Json(confirmed).into_response())
}

/// Counts a handler when it is gone.
struct Leaves(Arc<Mutex<Target>>);

impl Drop for Leaves {
    fn drop(&mut self) {
        self.0.lock().expect("not poisoned").left += 1;
    }
}

async fn run(
    State((http, target)): State<(Http, Arc<Mutex<Target>>)>,
    caller: Caller,
    said: Said,
) -> Result<Response> {
    let _leaves = Leaves(target.clone());
    let shown = shown(&Target::default(), 0);
    act::guarded(&http, &caller, said, "test one", Ok(shown), move |_| async move {
        target.lock().expect("not poisoned").ran += 1;
        Came::executed("it ran".to_owned(), At::new(EventId::ZERO, ActDone::executed("it ran")))
    })
    .await
}

async fn gate(State(http): State<Http>, mut request: Request, next: Next) -> Response {
    match access::authenticate(&http.core.state(), request.headers(), http.core.now()) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    }
}

fn owner(id: u128, secret: &str, role: Role) -> Event {
    let hash = Secret::from_text(secret).hash();
    let (token, org) = (TokenId::from_u128(id), Some(OrgId::from_u128(1)));
    let name = secret.trim_start_matches("hf_").parse().expect("a name");
    Event::TokenCreated { token, org, name, role, node: None, hash, expires: None }
}

fn service(id: u128, secret: &str, scopes: &[&str]) -> Event {
    let hash = Secret::from_text(secret).hash();
    let (token, org) = (TokenId::from_u128(id), OrgId::from_u128(1));
    let name = secret.trim_start_matches("hf_").parse().expect("a name");
    let holder = Holder::Service(scopes.iter().map(|scope| scope.parse().expect("a scope")).collect());
    Event::TokenIssued { token, org, name, role: Role::Operator, holder, hash, expires: None }
}

async fn begin(log: &MemoryLog) {
    let events = [
        Event::ClusterCreated { cluster: "test".into() },
        Event::OrgCreated { org: OrgId::from_u128(1), name: "main".parse().expect("a name") },
        owner(21, "hf_ann", Role::Owner),
        owner(22, "hf_bob", Role::Owner),
        owner(23, "hf_vic", Role::Viewer),
        service(24, "hf_robot", &[]),
        service(25, "hf_scoped", &["confirm:test.one"]),
    ];
    let encode = |(event, nth): (Event, u64)| {
        let id = EventId::new(nth);
        let (epoch, at, actor) = (Epoch::new(1), START, Actor::System);
        let envelope = Envelope { id, epoch, at, actor, request: None, cause: None, sequence: 1, event };
        codec::encode(&envelope).into()
    };
    let batch = events.into_iter().zip(1..).map(encode).collect();
    log.append(EventId::ZERO, Batch::new(batch)).await.expect("memory takes it");
}

impl World {
    pub(in crate::http) async fn start() -> Self {
        let disk = SimDisk::new(1);
        disk.create_dir(Path::new(DIR)).expect("a directory");
        let door: Arc<dyn Disk> = Arc::new(disk.clone());
        let (journal, _) = Journal::open(&door, Path::new(DIR)).expect("a journal");
        Self::with(disk, Some(Arc::new(journal))).await
    }

    async fn with(disk: SimDisk, journal: Option<Arc<Journal>>) -> Self {
        let (log, clock) = (Arc::new(MemoryLog::new()), Arc::new(SimClock::new(START)));
        begin(&log).await;
        let (core, driver) = Core::open(log, clock.clone(), Arc::new(OsRandom)).expect("a sound log");
        let (shutdown, stop_driver) = (CancellationToken::new(), CancellationToken::new());
        tokio::spawn(driver.run(stop_driver.clone()));
        let audit = journal.map(|journal| {
            let (audit, recorder) = Audit::of(Ok(journal), None, core.clone());
            tokio::spawn(recorder.run(stop_driver.clone()));
            audit
        });
        let http = shared(core, Options { audit: audit.unwrap_or_default(), ..Options::default() });
        let target = Arc::new(Mutex::new(Target { position: 7, ..Target::default() }));
        let router = Router::new()
            .route("/v1/test/acts/{which}", post(act))
            .route(RUN, post(run))
            .with_state((http.clone(), target.clone()))
            .layer(middleware::from_fn_with_state(http.clone(), gate))
            .layer(middleware::from_fn_with_state(http.clone(), rim::around));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(serve::serve(listener, router, shutdown.clone()));
        Self { http, target, clock, disk, address, shutdown, stop_driver }
    }

    fn client(&self, who: &str) -> Client {
        Client::new(&format!("http://{}", self.address), Some(format!("hf_{who}"))).expect("a client")
    }

    fn id(&self) -> RequestId {
        RequestId::from_parts(self.clock.now(), OsRandom.u128())
    }

    async fn explain(&self, who: &str, body: &Value) -> Explained {
        self.client(who).explain_act(ACT, self.id(), body).await.expect("explained")
    }

    async fn confirm(&self, who: &str, token: &str, body: &Value) -> std::result::Result<Confirmed, Problem> {
        self.confirm_at(ACT, who, token, body).await
    }

    async fn confirm_at(
        &self,
        path: &str,
        who: &str,
        token: &str,
        body: &Value,
    ) -> std::result::Result<Confirmed, Problem> {
        let call = self.client(who).confirm_act(path, self.id(), (token, ConfirmedBy::Person), body).await;
        call.map_err(|error| match error {
            ClientError::Problem(problem) => *problem,
            other => panic!("{other}"),
        })
    }

    fn journal(&self) -> Vec<(Ended, String)> {
        let mut found = Vec::new();
        let read = Journal::read(&self.disk, Path::new(DIR), |entry| {
            assert_eq!(entry.act.as_deref(), Some("test one"));
            assert!(entry.request.path.starts_with("/v1/test/"), "{:?}", entry.request);
            found.push((entry.ended, entry.reason));
        });
        read.expect("a sound journal");
        found
    }
}

fn body() -> Value {
    json!({ "node": "one", "reason": "the rack is moved" })
}

#[tokio::test]
async fn an_act_is_explained_confirmed_and_runs_once() {
    let world = World::start().await;
    let explained = world.explain("ann", &body()).await;
    assert_eq!(explained.expires_ms, 120_000);
    assert_eq!((explained.act.as_str(), explained.will.len()), ("test one", 1));
    assert_eq!(explained.facts[0]["position"], 7);
    // The same body in other words: order and spaces mean nothing.
    let other = json!({ "reason": "the rack is moved", "node": "one" });
    let confirmed = world.confirm("ann", &explained.token, &other).await.expect("confirmed");
    assert_eq!(confirmed.kind, Confirmation::Person);
    assert_eq!((confirmed.actor, confirmed.at), (Actor::Token(TokenId::from_u128(21)), START));
    assert_eq!((confirmed.reason.as_str(), confirmed.acknowledged.len()), ("the rack is moved", 0));
    let again = world.confirm("ann", &explained.token, &body()).await.expect_err("used");
    assert_eq!((again.code, again.status, again.exit_code()), (Code::ConfirmationInvalid, 409, 5));
    let journal = world.journal();
    assert_eq!(journal[0], (Ended::Confirmed, "the rack is moved".to_owned()));
    assert_eq!(journal[1].0, Ended::Refused);
}

#[tokio::test]
async fn a_service_principal_confirms_what_its_scopes_name_and_nothing_else() {
    let world = World::start().await;
    let token = world.explain("robot", &body()).await.token;
    let refused = world.confirm("robot", &token, &body()).await.expect_err("no scope");
    assert_eq!(refused.code, Code::Forbidden);
    assert!(refused.detail.contains("lacks confirm:test.one"), "{}", refused.detail);
    assert_eq!(world.journal().last().map(|(ended, _)| *ended), Some(Ended::Refused));
    let token = world.explain("scoped", &body()).await.token;
    let confirmed = world.confirm("scoped", &token, &body()).await.expect("confirmed");
    assert_eq!(confirmed.kind, Confirmation::Service);
    let told = world.http.guard.label(Actor::Token(TokenId::from_u128(25)));
    assert!(told.ends_with("(service scoped: confirm:test.one)"), "{told}");
}

#[tokio::test]
async fn whoever_is_turned_away_again_and_again_does_not_fill_the_journal() {
    let world = World::start().await;
    for _ in 0..limits::FLOOD_LINES + 10 {
        world.confirm("robot", "no such token", &body()).await.expect_err("no scope");
    }
    assert_eq!(world.journal().len() as u64, limits::FLOOD_LINES);
    // Of somebody else it is still told.
    world.confirm("ann", "no such token", &body()).await.expect_err("no token");
    assert_eq!(world.journal().len() as u64, limits::FLOOD_LINES + 1);
}

#[tokio::test]
async fn two_copies_at_once_are_confirmed_once() {
    let world = World::start().await;
    let token = world.explain("ann", &body()).await.token;
    let body = body();
    let copies = (0..8).map(|_| world.confirm("ann", &token, &body));
    let confirmed = futures_util::future::join_all(copies).await;
    assert_eq!(confirmed.iter().filter(|one| one.is_ok()).count(), 1);
}

#[tokio::test]
async fn without_a_token_it_says_how_to_get_one() {
    let world = World::start().await;
    let url = format!("http://{}{ACT}", world.address);
    // The client makes the house's own TLS choice for this process.
    let _ = world.client("ann");
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
    let call = http.post(url).bearer_auth("hf_ann").body(body().to_string());
    let answer = call.send().await.expect("an answer").bytes().await.expect("a body");
    let problem: Problem = serde_json::from_slice(&answer).expect("a problem");
    assert_eq!((problem.code, problem.status, problem.exit_code()), (Code::ConfirmationRequired, 428, 5));
    assert!(problem.hint.as_deref().is_some_and(|hint| hint.contains("/v1/test/acts/one?explain")));
    assert_eq!(problem.outcome, api::Outcome::NotExecuted);
    assert!(world.journal().is_empty(), "nothing was tried");
}

#[tokio::test]
async fn a_token_is_good_for_its_actor_request_and_time_only() {
    let world = World::start().await;
    let invalid = |problem: Problem| assert_eq!(problem.code, Code::ConfirmationInvalid, "{problem:?}");
    let token = world.explain("ann", &body()).await.token;
    invalid(world.confirm("bob", &token, &body()).await.expect_err("another owner's"));
    invalid(world.confirm("ann", "act_0", &body()).await.expect_err("never given"));
    world.confirm("ann", &token, &body()).await.expect("those used nothing up");

    let token = world.explain("ann", &body()).await.token;
    let other = json!({ "node": "two", "reason": "the rack is moved" });
    invalid(world.confirm("ann", &token, &other).await.expect_err("another body"));
    let token = world.explain("ann", &body()).await.token;
    invalid(world.confirm_at(OTHER, "ann", &token, &body()).await.expect_err("another path"));
    invalid(world.confirm("ann", &token, &body()).await.expect_err("used up by that"));

    let token = world.explain("ann", &body()).await.token;
    world.clock.advance(DurationMs::from_ms(119_999));
    world.confirm("ann", &token, &body()).await.expect("just in time");
    let token = world.explain("ann", &body()).await.token;
    world.clock.advance(DurationMs::from_ms(120_000));
    invalid(world.confirm("ann", &token, &body()).await.expect_err("too late"));
    let token = world.explain("ann", &body()).await.token;
    world.clock.set(START);
    invalid(world.confirm("ann", &token, &body()).await.expect_err("the clock went back"));

    // All of the query counts, but the flag.
    let token = world.explain("ann", &body()).await.token;
    let other = format!("{ACT}?explainer=1");
    invalid(world.confirm_at(&other, "ann", &token, &body()).await.expect_err("another query"));

    let restarted = World::start().await;
    let token = world.explain("ann", &body()).await.token;
    invalid(restarted.confirm("ann", &token, &body()).await.expect_err("another process"));
}

#[tokio::test]
async fn a_state_that_has_changed_is_told_and_ends_the_token() {
    let world = World::start().await;
    let token = world.explain("ann", &body()).await.token;
    world.target.lock().expect("not poisoned").position = 9;
    let stale = world.confirm("ann", &token, &body()).await.expect_err("it moved");
    assert_eq!((stale.code, stale.status), (Code::ConfirmationStale, 409));
    assert!(stale.detail.contains("position was 7 and is 9"), "{}", stale.detail);
    assert!(!stale.detail.contains("members"), "{}", stale.detail);
    world.target.lock().expect("not poisoned").position = 7;
    let used = world.confirm("ann", &token, &body()).await.expect_err("it does not come back");
    assert_eq!(used.code, Code::ConfirmationInvalid);

    let token = world.explain("ann", &body()).await.token;
    let risk = Override { invariant: "acked_is_durable".into(), type_this: "lose events".into() };
    world.target.lock().expect("not poisoned").overrides = vec![risk];
    let stale = world.confirm("ann", &token, &body()).await.expect_err("a risk came up");
    assert!(stale.detail.contains("what has to be acknowledged has changed"), "{}", stale.detail);
}

#[tokio::test]
async fn an_override_is_typed_letter_by_letter_and_has_a_reason() {
    let world = World::start().await;
    let risk = Override { invariant: "acked_is_durable".into(), type_this: "lose 3 events".into() };
    world.target.lock().expect("not poisoned").overrides = vec![risk.clone()];
    let explained = world.explain("ann", &body()).await;
    assert_eq!(explained.overrides, [risk]);
    let with = |acknowledge: &[&str], reason: &str| json!({ "node": "one", "reason": reason, "acknowledge": acknowledge });
    let why = "the rack is moved";
    for typed in [&[][..], &["Lose 3 events"], &["lose 3 events "], &["lose 3 events", "and more"]] {
        let refused =
            world.confirm("ann", &explained.token, &with(typed, why)).await.expect_err("not as asked");
        assert_eq!((refused.code, refused.exit_code()), (Code::AcknowledgementRequired, 5), "{typed:?}");
    }
    let confirmed = world.confirm("ann", &explained.token, &with(&["lose 3 events"], why)).await;
    assert_eq!(confirmed.expect("as asked").acknowledged, ["acked_is_durable"]);

    let token = world.explain("ann", &with(&[], " ")).await.token;
    let refused = world.confirm("ann", &token, &with(&["lose 3 events"], " ")).await.expect_err("no reason");
    assert_eq!((refused.code, refused.path.as_deref()), (Code::InvalidRequest, Some("reason")));
}

#[tokio::test]
async fn an_act_may_want_a_reason_and_a_reason_is_a_line_of_bounded_text() {
    let world = World::start().await;
    let empty = json!({ "node": "one" });
    let token = world.explain("ann", &empty).await.token;
    world.confirm("ann", &token, &empty).await.expect("none is wanted");
    world.target.lock().expect("not poisoned").reason = Reason::Required;
    let token = world.explain("ann", &empty).await.token;
    let refused = world.confirm("ann", &token, &empty).await.expect_err("one is wanted");
    assert_eq!((refused.code, refused.path.as_deref()), (Code::InvalidRequest, Some("reason")));
    for reason in ["x".repeat(501), "two\nlines".to_owned()] {
        let body = json!({ "node": "one", "reason": reason });
        let refused = world.client("ann").explain_act(ACT, world.id(), &body).await.expect_err("no reason");
        assert_eq!(refused.code(), Some(Code::InvalidRequest));
    }
}

#[tokio::test]
async fn only_owners_are_heard() {
    let world = World::start().await;
    let refused = world.client("vic").explain_act(ACT, world.id(), &body()).await.expect_err("a viewer");
    assert_eq!(refused.code(), Some(Code::Forbidden));
    let token = world.explain("ann", &body()).await.token;
    let refused = world.confirm("vic", &token, &body()).await.expect_err("a viewer");
    assert_eq!(refused.code, Code::Forbidden);
}

#[tokio::test]
async fn tokens_are_bounded_for_each_and_for_all() {
    let world = World::start().await;
    let first = world.explain("ann", &body()).await.token;
    let second = world.explain("ann", &body()).await.token;
    for _ in 0..limits::CONFIRMATIONS_PER_ACTOR - 1 {
        world.explain("ann", &body()).await;
    }
    let gone = world.confirm("ann", &first, &body()).await.expect_err("the oldest made place");
    assert_eq!(gone.code, Code::ConfirmationInvalid);
    world.confirm("ann", &second, &body()).await.expect("still there");

    let bob = world.explain("bob", &body()).await.token;
    let given = |nth: usize| Token {
        actor: Actor::Token(TokenId::from_u128(1000 + nth as u128)),
        request: [0; 32],
        bound: Value::Null,
        number: 0,
        made: Instant::now(),
        at: START,
    };
    let filled = (0..).map_while(|nth| world.http.guard.give(&format!("act_{nth}"), given(nth)).ok()).count();
    assert!(filled < limits::CONFIRMATIONS && world.http.guard.lock().tokens.len() == limits::CONFIRMATIONS);
    let command = Command::CreateToken {
        org: OrgId::from_u128(1),
        role: Role::Owner,
        token: NewToken {
            name: "cat".parse().expect("a name"),
            hash: Secret::from_text("hf_cat").hash(),
            expires: None,
        },
    };
    let made = world.http.core.submit(command, Actor::System, None).await;
    assert!(matches!(made, crate::writer::Answer::Executed { .. }), "{made:?}");
    let full = world.client("cat").explain_act(ACT, world.id(), &body()).await.expect_err("no place");
    assert_eq!(full.code(), Some(Code::TooMany));
    world.confirm("bob", &bob, &body()).await.expect("what was given stays");
    world.clock.advance(limits::CONFIRMATION_LIFE);
    world.explain("cat", &body()).await;
}

#[tokio::test]
async fn a_journal_that_takes_nothing_refuses_every_guarded_act() {
    let world = World::start().await;
    let token = world.explain("ann", &body()).await.token;
    world.disk.fail_next(rt::Operation::Sync, Fault::Io);
    let refused = world.confirm("ann", &token, &body()).await.expect_err("not written down");
    assert_eq!((refused.code, refused.outcome), (Code::Unavailable, api::Outcome::NotExecuted));
    assert!(refused.detail.contains("written down"), "{}", refused.detail);
    // It was not done and its token is gone; the next one is written down where the lost one stood.
    world.confirm("ann", &token, &body()).await.expect_err("used up");
    let token = world.explain("ann", &body()).await.token;
    world.confirm("ann", &token, &body()).await.expect("the disk does what it is asked again");

    let without = World::with(SimDisk::new(1), None).await;
    let token = without.explain("ann", &body()).await.token;
    let refused = without.confirm("ann", &token, &body()).await.expect_err("no journal");
    assert_eq!(refused.code, Code::Unavailable);
}

#[tokio::test]
async fn what_became_of_an_act_is_written_down_after_it() {
    let world = World::start().await;
    let shown = shown(&Target::default(), 0);
    let confirmed = Confirmed {
        actor: Actor::Token(TokenId::from_u128(21)),
        kind: Confirmation::Script,
        acknowledged: Vec::new(),
        reason: String::new(),
        at: START,
    };
    let (parts, ()) = Request::builder().method("POST").uri(ACT).body(()).expect("a request").into_parts();
    let said = Said { parts, body: Default::default() };
    let denied = (Ended::Denied, "majority missing");
    world.http.guard.ended(&confirmed, &said, &shown, denied, None).await.expect("written");
    assert_eq!(world.journal(), [(Ended::Denied, "majority missing".to_owned())]);
}

#[tokio::test]
async fn a_denial_is_written_down_if_somebody_had_a_token() {
    let world = World::start().await;
    let token = world.explain("ann", &body()).await.token;
    world.target.lock().expect("not poisoned").denied = Some("the primary lives");
    let asked = world.client("ann").explain_act(ACT, world.id(), &body()).await;
    assert!(asked.is_err());
    assert_eq!(world.journal(), [], "an explanation that is denied was only a question");
    let denied = world.confirm("ann", &token, &body()).await.expect_err("denied");
    assert_eq!(denied.code, Code::Denied);
    assert_eq!(world.journal(), [(Ended::Denied, "the primary lives".to_owned())]);
    // It was not used up: the state that it was given for may come again.
    world.target.lock().expect("not poisoned").denied = None;
    world.confirm("ann", &token, &body()).await.expect("confirmed");
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

/// From the moment its token is used up, an act is the server's to finish: also if whoever confirmed it hangs up
/// while the confirmation is still on its way to the disk.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_hangs_up_while_the_confirmation_becomes_durable_stops_nothing() {
    let world = World::start().await;
    let token = world.client("ann").explain_act(RUN, world.id(), &body()).await.expect("explained").token;
    // The disk stands still until it is let go.
    let (disk, (let_go, held)) = (world.disk.clone(), std::sync::mpsc::sync_channel::<()>(1));
    let (stands, still) = tokio::sync::oneshot::channel();
    let holder = std::thread::spawn(move || {
        disk.damage(&Path::new(DIR).join("audit/journal"), |_| {
            stands.send(()).expect("somebody waits");
            held.recv().expect("let go");
        });
    });
    still.await.expect("it stands still");
    let text = body().to_string();
    let head = format!(
        "POST {RUN} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer hf_ann\r\n{}: {token}\r\n{}: {}\r\n\
         content-length: {}\r\n\r\n{text}",
        routes::CONFIRM,
        routes::IDEMPOTENCY_KEY,
        world.id(),
        text.len()
    );
    let mut stream = TcpStream::connect(world.address).await.expect("connected");
    stream.write_all(head.as_bytes()).await.expect("sent");
    until("the token is used up", || world.http.guard.lock().tokens.is_empty()).await;
    let left = || world.target.lock().expect("not poisoned").left;
    let before = left();
    drop(stream);
    until("nobody waits", || left() > before).await;
    let_go.send(()).expect("the disk stands still");
    holder.join().expect("no panic");
    until("it ran", || world.target.lock().expect("not poisoned").ran == 1).await;
    until("its end is written down", || world.journal().len() == 2).await;
    let journal = world.journal();
    assert_eq!(journal[0], (Ended::Confirmed, "the rack is moved".to_owned()));
    assert_eq!(journal[1], (Ended::Executed, "it ran".to_owned()));
}
