//! Deleting an app, or an environment, with all it has. Guarded, unless nothing runs, is routed, or is
//! about to.
//!
//! What is confirmed is what was shown: the command carries it, and the sequencer compares it with the
//! state that it decides on, so that a deploy between the confirmation and the decision is never lost.

use super::{
    Http,
    access::Caller,
    act::{before, bound, decided, guarded, instances, proof},
    answer::Result,
    guard::{self, Reason, Shown},
    input::{Places, Said},
    place,
    write::{self, Write},
};
use api::{ActRequest, Code, Explained, Problem, routes};
use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use domain::{Command, Confirmed, Content, State as Decided, state::Environment};
use types::{EnvId, Name, limits};

/// `POST …/apps/{app}/delete`
pub(super) async fn app(
    State(http): State<Http>,
    caller: Caller,
    Places((org, app)): Places<(String, String)>,
    said: Said,
) -> Result<Response> {
    let write = open(&http, &caller, &org, &said)?;
    if let Some(answer) = before(&http, &write, "it was deleted before, by this very request")? {
        return Ok(answer);
    }
    let state = http.core.state();
    let (_, id, name) = place::app(&state, &caller, &org, &app)?;
    let of_app = state.envs.iter().filter(|(env, found)| found.app == id && !state.is_deleted(**env));
    let envs: Vec<(EnvId, &Environment)> = of_app.map(|(env, found)| (*env, found.as_ref())).collect();
    let shown = Content::of_app(&state, id);
    let what = format!("apps delete {name}");
    let told = explained(&state, what.clone(), &envs, &shown, format!("the name {name} is free at once"));
    let told = small_enough(&state, &name, &envs).map(|()| told);
    let command = move |confirmed| Command::DeleteApp { app: id, shown: shown.clone(), confirmed };
    run(&http, &caller, said, write, (&what, envs.is_empty()), told, command).await
}

/// Whether one command can end all that an app has: what is explained is possible.
fn small_enough(state: &Decided, app: &Name, envs: &[(EnvId, &Environment)]) -> Result<()> {
    // The app's own end is one more.
    let (events, most) =
        (domain::ending(state, envs.iter().map(|(env, _)| *env)) + 1, limits::COMMAND_EVENTS);
    let first = envs.iter().map(|(_, env)| &env.name).min().filter(|_| events > most);
    let Some(first) = first else { return Ok(()) };
    let detail = format!(
        "deleting {app} with its {} environments is {events} events, and one act is at most {most}",
        envs.len()
    );
    let hint = format!("delete environments of it first: holdfast envs delete {first} --app {app}");
    Err(Problem::new(Code::TooMany, detail).with_hint(hint).into())
}

/// `POST …/envs/{env}/delete`
pub(super) async fn environment(
    State(http): State<Http>,
    caller: Caller,
    Places(names): Places<(String, String, String)>,
    said: Said,
) -> Result<Response> {
    let write = open(&http, &caller, &names.0, &said)?;
    if let Some(answer) = before(&http, &write, "it was deleted before, by this very request")? {
        return Ok(answer);
    }
    let state = http.core.state();
    let place = place::env(&state, &caller, (&names.0, &names.1, &names.2))?;
    let (env, shown) = (place.env, Content::of_env(&state, place.env));
    let label = state.env_label(env);
    let after = format!("{} stays, and the name {} is free in it at once", place.app_name, place.found.name);
    let what = format!("envs delete {label}");
    let told = explained(&state, what.clone(), &[(env, place.found.as_ref())], &shown, after);
    let is_empty = state.is_idle(env);
    let command = move |confirmed| Command::DeleteEnvironment { env, shown: shown.clone(), confirmed };
    run(&http, &caller, said, write, (&what, is_empty), Ok(told), command).await
}

/// The head of a deletion; what it names may be gone already, by this very request.
fn open(http: &Http, caller: &Caller, org: &str, said: &Said) -> Result<Write> {
    let _well_formed: ActRequest = write::parse(said)?;
    caller.org(&http.core.state(), org)?;
    Write::read(http, said, caller)
}

async fn run(
    http: &Http,
    caller: &Caller,
    said: Said,
    write: Write,
    (act, is_empty): (&str, bool),
    shown: Result<Shown>,
    command: impl Fn(Option<Confirmed>) -> Command + Send + 'static,
) -> Result<Response> {
    // A token was given when there was something to lose: then it is held against what is there now.
    let is_free = is_empty && !said.parts.headers.contains_key(routes::CONFIRM);
    if is_free && guard::wants_explanation(&said) {
        return Ok(Json(unguarded(shown?)).into_response());
    }
    if is_free {
        return Ok(decided(http, &write, command(None)).await.answer?.into_response());
    }
    let core = http.clone();
    guarded(http, caller, said, act, shown, move |confirmed| {
        let command = command(Some(confirmed));
        async move { decided(&core, &write, command).await }
    })
    .await
}

/// What an act would do that needs no confirmation.
fn unguarded(shown: Shown) -> Explained {
    let Shown { act, will, touches, irreversible, invariants, overrides, facts, .. } = shown;
    let (token, expires_ms) = (String::new(), 0);
    Explained { act, will, touches, irreversible, invariants, overrides, facts, token, expires_ms }
}

fn explained(
    state: &Decided,
    act: String,
    envs: &[(EnvId, &Environment)],
    content: &Content,
    after: String,
) -> Shown {
    let (mut will, mut irreversible) = (Vec::new(), Vec::new());
    for (id, env) in envs {
        ends(state, *id, env, &mut will);
        let label = state.env_label(*id);
        let releases = match env.releases.len() {
            1 => "its release".to_owned(),
            count => format!("its {count} releases"),
        };
        irreversible.push(format!("{label}: {releases}; only applying a manifest makes it anew"));
    }
    will.push(after);
    let facts = instances(state, envs.iter().flat_map(|(id, _)| state.instances_of(*id)));
    if !envs.is_empty() {
        irreversible.push("connections that are still open when an instance stops end with it".to_owned());
    }
    let labels: Vec<String> = envs.iter().map(|(id, _)| state.env_label(*id)).collect();
    Shown {
        act,
        will,
        touches: vec![match labels.is_empty() {
            true => "no environment: it has none".to_owned(),
            false => format!("{}, and nothing of any other", labels.join(", ")),
        }],
        irreversible,
        invariants: vec![
            proof("append_only", "what happened stays in the log: holdfast events"),
            proof("route_is_never_crossed", "edges lead a name to the environment that has it, or close"),
        ],
        overrides: Vec::new(),
        facts,
        state: bound(content),
        reason: Reason::Optional,
    }
}

/// What ends with one environment.
fn ends(state: &Decided, id: EnvId, env: &Environment, will: &mut Vec<String>) {
    let label = state.env_label(id);
    if let Some(deploy) = env.rolling {
        will.push(format!("{label}: deploy {deploy}, which is under way, ends as failed"));
    }
    let routes: Vec<String> = state.routes_of(id).map(|(_, route)| route.matches.to_string()).collect();
    if !routes.is_empty() {
        will.push(format!("{label}: answers no more, and anybody may take: {}", routes.join(", ")));
    }
    let wanted: Vec<String> = env.scale.iter().map(|(name, count)| format!("{count} of {name}")).collect();
    let wanted = if wanted.is_empty() { "none is wanted".to_owned() } else { wanted.join(", ") };
    will.push(format!("{label}: every instance ({wanted}) is stopped as edges let go of it"));
}
