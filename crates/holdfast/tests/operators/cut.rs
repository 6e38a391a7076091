//! Every connection of every command that changes something, cut at every place that is different, in
//! every way: what the command line says is held against the log. No verdict may be wrong.
//!
//! Most cuts are tried on the command line's own code in this process: [`api::Sending`], which sends, asks
//! and judges, with [`api::Client`] below it; the command line adds the words and nothing to the verdict.
//! The others are tried on the program. `HOLDFAST_CUTS` is how many there are in all; a test run has a
//! share of them.

use crate::{
    proxy::{Cut, How, Place, Proxy, Which},
    scene::{SOON, Scene, fresh, said},
};
use api::{
    ActDone, ApplyRequest, Came, Client, ClientError, ClusterActRequest, ConfirmedBy, DeployRequest,
    EnrolRequest, JoinTokenRequest, MemberJoinRequest, NodeClient, Outcome, Password, PersonChange,
    PersonRequest, Problem, Receipt, RequestState, RequestVerdict, RestartRequest, RollbackRequest,
    ScaleRequest, Sending, TokenRequest, TokenRole, routes,
};
use demo::wait_for;
use std::{collections::BTreeMap, net::SocketAddr, path::Path, process::Command, sync::Arc, time::Duration};
use types::{
    ByteSize, DurationMs, MilliCpu, Name, RequestId, TokenId,
    plan::{Capacity, NodeRole},
};

/// Cuts of a test run; one of so many is tried on the program.
const SHARE: usize = 330;
const ON_THE_PROGRAM: usize = 11;
/// So many are under way at once.
const AT_ONCE: usize = 48;
/// How long a client in this process waits for an answer, and then asks: less than a person would.
const ANSWER: Duration = Duration::from_millis(1500);
const ASK: Duration = Duration::from_millis(1500);

/// The node that is drained and activated. Nothing runs there.
const NODE: &str = "somewhere";
/// What a service principal may confirm.
const SCOPE: &str = "confirm:apps.delete";

/// What members that are added would log in with.
const PASSWORD: &str = "a password for nobody";

/// The places, in the order of time.
const PLACES: [Place; 14] = [
    Place::Taken,
    Place::Head(0),
    Place::Head(400),
    Place::Head(1000),
    Place::Body(0),
    Place::Body(500),
    Place::Body(1000),
    Place::Sent,
    Place::Done,
    Place::AnswerHead(10),
    Place::AnswerHead(1000),
    Place::AnswerBody(0),
    Place::AnswerBody(1000),
    Place::Answered,
];
const HOWS: [How; 3] = [How::Reset, How::Finish, How::Silence];
const WHICH: [Which; 3] = [Which::Writes, Which::WritesAndAfter, Which::All];

/// Everything that changes something and is a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Verb {
    Scale,
    Restart,
    Rollback,
    Deploy,
    CreateToken,
    RevokeToken,
    NodeSecret,
    MemberSecret,
    DrainNode,
    ActivateNode,
    AddMember,
    SetMember,
    RemoveMember,
    Apply,
    Service,
    /// Guarded, as all that follow: it was explained and is confirmed, and the confirmation is what is cut.
    DeleteApp,
    DeleteEnv,
    DisableNode,
    RemoveNode,
    /// Its request is the one that is voided.
    Void,
}

const VERBS: [Verb; 20] = [
    Verb::CreateToken,
    Verb::Scale,
    Verb::Deploy,
    Verb::RevokeToken,
    Verb::Restart,
    Verb::NodeSecret,
    Verb::Rollback,
    Verb::MemberSecret,
    Verb::DrainNode,
    Verb::DeleteApp,
    Verb::ActivateNode,
    Verb::AddMember,
    Verb::Void,
    Verb::SetMember,
    Verb::DeleteEnv,
    Verb::Apply,
    Verb::DisableNode,
    Verb::RemoveMember,
    Verb::Service,
    Verb::RemoveNode,
];

impl Verb {
    /// What the log says of its request when it was done.
    const fn verdict(self) -> RequestVerdict {
        match self {
            Self::Void => RequestVerdict::Voided,
            _ => RequestVerdict::Executed,
        }
    }
}

impl Trial {
    /// Where a guarded act is sent.
    fn guarded(self) -> Option<String> {
        let doomed = doomed(self);
        match self.verb {
            Verb::DeleteApp => Some(routes::fill(routes::APP_DELETE, &["main", &doomed])),
            Verb::DeleteEnv => Some(routes::fill(routes::ENV_DELETE, &["main", &doomed, "prod"])),
            Verb::DisableNode => Some(routes::fill(routes::NODE_DISABLE, &[&doomed])),
            Verb::RemoveNode => Some(routes::fill(routes::NODE_REMOVE, &[&doomed])),
            _ => None,
        }
    }
}

/// One trial.
#[derive(Clone, Copy, Debug)]
struct Trial {
    verb: Verb,
    cut: Cut,
    id: RequestId,
    /// Otherwise on its code in this process.
    on_the_program: bool,
}

/// What was told of it.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "words are for whoever reads a mistake")]
struct Told {
    trial: Trial,
    exit: i32,
    outcome: String,
    writes: usize,
    words: String,
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

/// Trial number so and so: every verb meets every cut in the end, and in a share every place.
fn trial(number: usize) -> Trial {
    let cuts = PLACES.len() * HOWS.len() * WHICH.len();
    let (round, verb) = (number / VERBS.len(), number % VERBS.len());
    // Steps that have no divisor with the counts.
    let at = (round * 41 + verb * 13) % cuts;
    let cut = Cut {
        place: PLACES[at % PLACES.len()],
        how: HOWS[at / PLACES.len() % HOWS.len()],
        which: WHICH[at / PLACES.len() / HOWS.len()],
    };
    Trial {
        verb: VERBS[verb],
        cut,
        id: fresh(),
        on_the_program: (round + verb).is_multiple_of(ON_THE_PROGRAM),
    }
}

/// What the app is made from: an image with nothing in it.
pub fn image(dir: &Path) -> String {
    let layout = dir.join("image").display().to_string();
    for arguments in [["init", "--layout", &layout], ["new", "--image", &format!("{layout}:v1")]] {
        demo::image::run(Command::new("umoci").args(arguments)).expect("an image (make setup brings umoci)");
    }
    format!("oci:{layout}:v1")
}

/// A server with an app that has two releases. Nothing of it is wanted to run, so that without any node one of them
/// serves: what serves nothing is not restarted.
fn scene() -> (Scene, String) {
    let scene = Scene::of(1);
    let image = image(scene.dir());
    ["64Mi", "65Mi"].iter().for_each(|memory| apply(&scene, &image, memory));
    let server = scene.url(0);
    scene
        .cli(&["scale", "web=0", "--app", "shop", "--no-wait", "--server", &server])
        .executed()
        .expect("scaled");
    let converged = ["wait", "converged", "--timeout", "30s", "--server", &server];
    scene.cli(&converged).executed().expect("it serves");
    (scene, image)
}

/// Declares the app.
pub fn apply(scene: &Scene, image: &str, memory: &str) {
    let text = format!(
        "schema = 1\napp = \"shop\"\n[image]\nref = \"{image}\"\n[processes.web]\nmemory = \"{memory}\"\n"
    );
    std::fs::write(scene.dir().join("holdfast.toml"), text).expect("written");
    let apply = ["apply", "--yes", "--no-wait", "--server", &scene.url(0)];
    scene.cli(&apply).executed().expect("applied");
}

/// The app or the node that a trial takes away.
fn doomed(trial: Trial) -> String {
    format!("cut-{}", &trial.id.to_string().to_lowercase()[10..])
}

/// The member that a trial adds, or removes.
fn newcomer(trial: Trial) -> String {
    format!("m{}", &trial.id.to_string().to_lowercase()[10..])
}

/// What a trial wants first, over a connection that is whole: a token to revoke, a member to remove, an app or a
/// node to take away and the token that does. The id or the token.
async fn prepared(direct: &Client, trial: Trial, image: &str) -> String {
    match trial.verb {
        Verb::RevokeToken => {
            let made = direct.create_token(fresh(), &token(None)).await.expect("made");
            return made.result.token.expect("its id").to_string();
        }
        Verb::RemoveMember => {
            let name = name(&newcomer(trial));
            let password = Password::new(PASSWORD);
            let member = PersonRequest { name, role: TokenRole::Viewer, password: Some(password) };
            direct.create_member(fresh(), &member).await.expect("added");
        }
        Verb::DeleteApp | Verb::DeleteEnv => {
            let apply = declared(&doomed(trial), image, "64Mi");
            direct.apply(&name("main"), fresh(), &apply).await.expect("applied");
        }
        Verb::DisableNode | Verb::RemoveNode => enrol(direct, &doomed(trial)).await,
        _ => {}
    }
    let explain = async |path: &str, id| {
        direct.explain_act(path, id, &ClusterActRequest::default()).await.expect("explained").token
    };
    if trial.verb == Verb::RemoveNode {
        let (path, id) = (routes::fill(routes::NODE_DISABLE, &[&doomed(trial)]), fresh());
        let (token, act) = (explain(&path, id).await, ClusterActRequest::default());
        let done = direct.confirm_act::<ActDone>(&path, id, (&token, ConfirmedBy::Script), &act).await;
        done.expect("disabled");
    }
    match trial.guarded() {
        Some(path) => explain(&path, trial.id).await,
        None => String::new(),
    }
}

/// What is applied.
fn declared(app: &str, image: &str, memory: &str) -> ApplyRequest {
    let manifest = serde_json::json!({
        "schema": 1, "app": app, "image": { "ref": image }, "processes": { "web": { "memory": memory } },
    });
    ApplyRequest { env: name("prod"), manifest: serde_json::from_value(manifest).expect("a manifest") }
}

/// A person's token, or a service principal's.
fn token(scopes: Option<Vec<String>>) -> TokenRequest {
    let expires_in = DurationMs::from_secs(3600);
    let role = if scopes.is_some() { TokenRole::Operator } else { TokenRole::Viewer };
    TokenRequest { name: name("ci"), role, org: None, expires_in, scopes }
}

/// `prepared`: what [`prepared`] made.
async fn call(client: &Client, trial: Trial, image: &str, prepared: &str) -> Result<(), ClientError> {
    let (org, app, env) = (name("main"), name("shop"), name("prod"));
    let (place, id) = ((&org, &app, &env), trial.id);
    let number = u32::try_from(id.as_u128() % 5).expect("small") + 1;
    let hour = DurationMs::from_secs(3600);
    let gone = |receipt: Receipt| assert_eq!((receipt.request_id, receipt.outcome), (id, Outcome::Executed));
    match trial.verb {
        Verb::Scale => {
            client.scale(place, id, &ScaleRequest { process: name("web"), replicas: number }).await.map(gone)
        }
        Verb::Restart => client.restart(place, id, &RestartRequest { process: None }).await.map(gone),
        Verb::Rollback => {
            client.rollback(place, id, &RollbackRequest { release: Some("1".into()) }).await.map(gone)
        }
        Verb::Deploy => client.deploy(place, id, &DeployRequest { image: image.to_owned() }).await.map(gone),
        Verb::CreateToken => client.create_token(id, &token(None)).await.map(gone),
        Verb::Service => client.create_token(id, &token(Some(vec![SCOPE.to_owned()]))).await.map(gone),
        Verb::Apply => {
            let apply = declared("shop", image, &format!("{}Mi", 70 + number));
            client.apply(&org, id, &apply).await.map(gone)
        }
        Verb::RevokeToken => client.revoke_token(id, prepared.parse().expect("an id")).await.map(gone),
        Verb::NodeSecret => {
            client.create_join_token(id, &JoinTokenRequest { expires_in: hour }).await.map(gone)
        }
        Verb::MemberSecret => {
            client.create_member_secret(id, &MemberJoinRequest { expires_in: hour }).await.map(drop)
        }
        Verb::DrainNode => client.drain_node(id, NODE).await.map(gone),
        Verb::ActivateNode => client.activate_node(id, NODE).await.map(gone),
        Verb::AddMember => {
            let name = name(&newcomer(trial));
            let password = Password::new(PASSWORD);
            client
                .create_member(id, &PersonRequest { name, role: TokenRole::Viewer, password: Some(password) })
                .await
                .map(gone)
        }
        Verb::SetMember => {
            let role = if number > 3 { TokenRole::Viewer } else { TokenRole::Developer };
            let change = PersonChange { role: Some(role), password: None };
            client.set_member(id, &name("stays"), &change).await.map(gone)
        }
        Verb::RemoveMember => client.delete_member(id, &name(&newcomer(trial))).await.map(gone),
        Verb::DeleteApp | Verb::DeleteEnv | Verb::DisableNode | Verb::RemoveNode => {
            let (path, confirm) = (trial.guarded().expect("it is"), (prepared, ConfirmedBy::Script));
            let done = client.confirm_act::<ActDone>(&path, id, confirm, &ClusterActRequest::default()).await;
            done.map(|done| assert_eq!(done.outcome, Outcome::Executed))
        }
        Verb::Void => unreachable!("it is no request of its own"),
    }
}

/// The command line of the program for the same.
fn line(trial: Trial, image: &str, prepared: &str) -> Vec<String> {
    let (id, app) = (trial.id.to_string(), doomed(trial));
    let words: &[&str] = match trial.verb {
        Verb::Scale => &["scale", "web=3", "--app", "shop"],
        Verb::Restart => &["restart", "--app", "shop"],
        Verb::Rollback => &["rollback", "1", "--app", "shop"],
        Verb::Deploy => &["deploy", "--image", image, "--app", "shop", "--yes"],
        Verb::CreateToken => &["tokens", "create", "ci", "--role", "viewer"],
        Verb::RevokeToken => &["tokens", "revoke", prepared],
        Verb::NodeSecret => &["nodes", "join-token"],
        Verb::MemberSecret => &["cluster", "join-token"],
        Verb::DrainNode => &["nodes", "drain", NODE],
        Verb::ActivateNode => &["nodes", "activate", NODE],
        Verb::AddMember => &["members", "create", &newcomer(trial), "--role", "viewer"],
        Verb::SetMember => &["members", "set", "stays", "--role", "viewer"],
        Verb::RemoveMember => &["members", "delete", &newcomer(trial)],
        Verb::Service => &["tokens", "create", "ci", "--role", "operator", "--service", "--scope", SCOPE],
        Verb::Apply => &["apply", "--yes"],
        Verb::DeleteApp => &["apps", "delete", &app, "--confirm", prepared],
        Verb::DeleteEnv => &["envs", "delete", "prod", "--app", &app, "--confirm", prepared],
        Verb::DisableNode => &["nodes", "disable", &app, "--confirm", prepared],
        Verb::RemoveNode => &["nodes", "remove", &app, "--confirm", prepared],
        Verb::Void => &["requests", "void", &id],
    };
    let named: &[&str] = if trial.verb == Verb::Void { &[] } else { &["--request-id", &id] };
    let more = ["--no-wait", "--json", "--timeout", "2s"];
    words.iter().chain(&more).chain(named).map(ToString::to_string).collect()
}

/// What came of a void: whether the request may never run is what it is about.
fn voided(came: Result<RequestState, ClientError>) -> (i32, Outcome, String) {
    match came {
        Ok(state) => {
            assert_eq!(state.state, RequestVerdict::Voided, "nobody else sends it: {state:?}");
            (0, Outcome::Executed, String::new())
        }
        Err(error @ (ClientError::Unknown { .. } | ClientError::BadAnswer { .. })) => {
            (7, Outcome::Unknown, error.to_string())
        }
        Err(error @ ClientError::NotSent { .. }) => (6, Outcome::NotExecuted, error.to_string()),
        Err(ClientError::Problem(problem)) => {
            (i32::from(problem.exit_code()), problem.outcome, problem.to_string())
        }
    }
}

/// A trial in this process.
async fn in_process(to: SocketAddr, secret: String, image: Arc<String>, token: String, trial: Trial) -> Told {
    let proxy = Proxy::start(to, trial.cut).await;
    let client = Client::new(&proxy.url, Some(secret)).expect("a client").with_timeout(ANSWER);
    let sending =
        Sending { id: trial.id, to: &client, others: &[], patience: ASK, next: "holdfast requests …" };
    let (exit, outcome, words) = if trial.verb == Verb::Void {
        voided(client.void(trial.id).await)
    } else {
        match sending.once(async |client| call(client, trial, &image, &token).await, |_| {}).await {
            Ok(Came::Answered(()) | Came::Found { .. }) => (0, Outcome::Executed, String::new()),
            Err(problem) => (i32::from(problem.exit_code()), problem.outcome, problem.to_string()),
        }
    };
    Told { trial, exit, outcome: outcome.to_string(), writes: proxy.writes().len(), words }
}

/// A trial of the program.
async fn with_the_program(to: SocketAddr, mut command: Command, trial: Trial) -> Told {
    let proxy = Proxy::start(to, trial.cut).await;
    command.args(["--server", &proxy.url]);
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("no panic");
    let said = said(&output.expect("the program runs"));
    let text = if said.code == 0 { &said.stdout } else { &said.stderr };
    let value: serde_json::Value =
        serde_json::from_str(text.trim()).unwrap_or_else(|error| panic!("{error}: {trial:?}: {said:?}"));
    let outcome = match (trial.verb, said.code) {
        (Verb::Void, 0) if value["state"] == "voided" => Some("executed"),
        _ => value["outcome"].as_str(),
    };
    let outcome = outcome.unwrap_or_else(|| panic!("{trial:?}: {said:?}")).to_owned();
    if said.code == 7 && outcome == "unknown" {
        let hint = value["hint"].as_str().unwrap_or_default();
        // Voiding can be said again, and that resolves it.
        let next: &[&str] = if trial.verb == Verb::Void { &["void"] } else { &["show", "void"] };
        for verb in next {
            assert!(hint.contains(&format!("holdfast requests {verb} {}", trial.id)), "{trial:?}: {said:?}");
        }
    }
    let words = said.stderr.trim().to_owned();
    Told { trial, exit: said.code, outcome, writes: proxy.writes().len(), words }
}

async fn all_of(scene: &Scene, image: &str, count: usize) -> Vec<Told> {
    let to: SocketAddr = scene.address(0).parse().expect("an address");
    let image = Arc::new(image.to_owned());
    let places = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    // Each of them is a process.
    let programs = Arc::new(tokio::sync::Semaphore::new(8));
    let password = scene.dir().join("password");
    std::fs::write(&password, format!("{PASSWORD}\n")).expect("written");
    let stays = PersonRequest {
        name: name("stays"),
        role: TokenRole::Viewer,
        password: Some(Password::new(PASSWORD)),
    };
    scene.client(0).create_member(fresh(), &stays).await.expect("added");
    enrol(&scene.client(0), NODE).await;
    let begun = (0..count).map(|number| {
        let (places, programs) = (Arc::clone(&places), Arc::clone(&programs));
        let (image, secret) = (Arc::clone(&image), scene.token().to_owned());
        let (trial, direct, mut command) = (trial(number), scene.client(0), scene.command(&[]));
        command.stdin(std::fs::File::open(&password).expect("a password"));
        tokio::spawn(async move {
            let semaphore = if trial.on_the_program { programs } else { places };
            let _place = semaphore.acquire_owned().await.expect("never closed");
            let token = prepared(&direct, trial, &image).await;
            match trial.on_the_program {
                true => {
                    command.args(line(trial, &image, &token));
                    with_the_program(to, command, trial).await
                }
                false => in_process(to, secret, image, token, trial).await,
            }
        })
    });
    let begun: Vec<_> = begun.collect();
    let mut told = Vec::new();
    for trial in begun {
        told.push(trial.await.expect("no panic"));
    }
    told
}

/// Makes a node of which nothing runs, and that has no room for an instance.
async fn enrol(direct: &Client, called: &str) {
    let life = JoinTokenRequest { expires_in: DurationMs::from_secs(3600) };
    let secret = direct.create_join_token(fresh(), &life).await.expect("made").result.secret;
    let request = EnrolRequest {
        join_token: secret.expect("its secret"),
        name: name(called),
        roles: vec![NodeRole::Agent],
        capacity: Capacity { memory: ByteSize::from_mib(1), cpu: MilliCpu::new(100) },
    };
    NodeClient::enrol(&direct.server(), fresh(), &request).await.expect("enrolled");
}

/// What is wrong with what was told, if anything is.
fn wrong(told: &Told, verdict: RequestVerdict) -> Option<&'static str> {
    let ran = verdict == told.trial.verb.verdict();
    let known = match told.exit {
        0 => Some("executed"),
        1..=6 => Some("not_executed"),
        _ => None,
    };
    if known.is_some_and(|known| known != told.outcome) || told.exit == 7 && told.outcome == "not_executed" {
        return Some("the exit code and the outcome say different things");
    }
    match told.outcome.as_str() {
        "executed" if !ran => Some("told as executed, and it was not"),
        "not_executed" if ran => Some("told as not executed, and it was"),
        _ if told.writes > 1 => Some("it was sent more than once"),
        _ => None,
    }
}

#[test]
fn fm_o5_a_connection_cut_anywhere_never_makes_a_wrong_verdict() {
    let count = std::env::var("HOLDFAST_CUTS").ok().and_then(|count| count.parse().ok()).unwrap_or(SHARE);
    let (mut scene, image) = scene();
    let started = std::time::Instant::now();
    let told = scene.block(all_of(&scene, &image, count));
    let took = started.elapsed();
    // What was under way when its client went is decided by now, or never was begun.
    let head = scene.events(0).len();
    scene.restart(0);
    assert!(scene.events(0).len() >= head);
    let mut counts: BTreeMap<(i32, String, RequestVerdict), usize> = BTreeMap::new();
    let mut mistakes = Vec::new();
    for told in &told {
        let (id, mut state) = (told.trial.id, scene.state(0, told.trial.id));
        let before = state.state;
        if told.outcome == "unknown" && !state.is_final {
            // The second of the two commands that were named: from here on it is certain.
            state = scene.block(scene.client(0).void(id)).expect("voided");
            assert!(state.is_final, "{told:?}: {state:?}");
        }
        *counts.entry((told.exit, told.outcome.clone(), before)).or_default() += 1;
        if let Some(why) = wrong(told, state.state) {
            mistakes.push(format!("{why}: {told:?}: {state:?}"));
        }
    }
    // By the events themselves: whole, once, and nothing of what did not run.
    let caused = scene.caused(0);
    for told in &told {
        let ran = scene.runs(&caused, told.trial);
        if (told.outcome == "executed" && !ran) || (told.outcome == "not_executed" && ran) {
            mistakes.push(format!("by the events of the log: {ran}: {told:?}"));
        }
    }
    eprintln!("{} cuts in {took:?}; exit, outcome, the log then: {counts:#?}", told.len());
    assert_eq!(mistakes, Vec::<String>::new());
    let distinct = |outcome: &str| told.iter().filter(|told| told.outcome == outcome).count();
    for outcome in ["executed", "not_executed", "unknown"] {
        assert!(distinct(outcome) > 0, "the cuts make all three: {counts:?}");
    }
    let ran = |verb: &Verb| {
        told.iter().any(|told| told.trial.verb == *verb && told.outcome == "executed" && told.exit == 0)
    };
    let never: Vec<Verb> = VERBS.into_iter().filter(|verb| !ran(verb)).collect();
    let of_them: Vec<_> = told.iter().filter(|told| never.contains(&told.trial.verb)).collect();
    assert_eq!(never, [], "each of them can be executed, or nothing is proven of it: {of_them:#?}");
}

/// A server that cannot be reached at all: the connection is never made.
#[test]
fn fm_o5_a_connection_that_is_never_made_is_not_executed() {
    let (scene, image) = scene();
    // Refused at once: nobody listens. Never answered: the queue of who listens is full.
    let refused = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = refused.local_addr().expect("bound");
    drop(refused);
    let silent = Full::new();
    let (secret, nothing) = (scene.token().to_owned(), TokenId::from_u128(5).to_string());
    for (number, to) in [(0, port), (1, port), (2, port), (3, silent.address), (4, silent.address)] {
        let trial = trial(number);
        let client = Client::new(&format!("http://{to}"), Some(secret.clone())).expect("a client");
        let sending =
            Sending { id: trial.id, to: &client, others: &[], patience: ASK, next: "holdfast requests …" };
        let came =
            scene.block(sending.once(async |client| call(client, trial, &image, &nothing).await, |_| {}));
        let problem: Box<Problem> = came.map(drop).expect_err("nobody answers");
        assert_eq!((problem.exit_code(), problem.outcome), (6, Outcome::NotExecuted), "{problem:?}");
    }
    let said = scene.cli(&[
        "tokens",
        "create",
        "ci",
        "--role",
        "viewer",
        "--server",
        &format!("http://{}", silent.address),
    ]);
    assert_eq!(said.code, 6, "{said:?}");
    // One that is named may have been sent before, and of that nothing is known here.
    let (id, to) = (fresh().to_string(), format!("http://{port}"));
    let said = scene.cli(&["tokens", "revoke", "tok_0", "--server", &to, "--request-id", &id, "--json"]);
    assert_eq!(said.code, 2, "{said:?}");
    let token = TokenId::from_u128(5).to_string();
    let said = scene.cli(&["tokens", "revoke", &token, "--server", &to, "--request-id", &id, "--json"]);
    let problem: Problem = serde_json::from_str(said.stderr.trim()).expect("a problem");
    assert_eq!((said.code, problem.hint), (6, Some(format!("holdfast requests show {id}"))), "{said:?}");
    assert!(problem.detail.contains("an earlier sending"), "{said:?}");
}

/// Somebody who listens and takes nobody, with no room left.
struct Full {
    address: SocketAddr,
    _listener: std::net::TcpListener,
    _waiting: Vec<std::net::TcpStream>,
}

impl Full {
    fn new() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        // SAFETY: plain system call on a descriptor that is open; it makes the queue shorter.
        let shorter = unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 0) };
        assert_eq!(shorter, 0);
        let address = listener.local_addr().expect("bound");
        let mut waiting = Vec::new();
        wait_for("a queue that is full", SOON, || {
            match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
                Ok(stream) => {
                    waiting.push(stream);
                    None
                }
                Err(_) => Some(()),
            }
        })
        .expect("it fills up");
        Self { address, _listener: listener, _waiting: waiting }
    }
}

impl Scene {
    /// Whether a request ran, by the events that it caused and by its verdict among them.
    fn runs(&self, caused: &BTreeMap<RequestId, Vec<String>>, trial: Trial) -> bool {
        // One that changes nothing and is executed all the same leaves its verdict alone.
        // A voided request causes nothing and has its verdict by another.
        let is_there = trial.verb == Verb::Void || caused.contains_key(&trial.id);
        is_there && self.state(0, trial.id).state == trial.verb.verdict()
    }
}
