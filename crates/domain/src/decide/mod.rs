//! Decisions: a command, the state it meets, and what comes of it.
//!
//! [`settle`] is what the sequencer calls: it answers a request that was decided before with the
//! verdict it got then (`request_runs_once`), refuses ids beyond the horizon without remembering
//! them, and otherwise lets [`decide`] decide and adds the verdict as the last event.

mod adopt;
mod backup;
mod config;
mod delete;
mod deploy;
mod instance;
mod member;
mod node;
mod person;
mod token;

pub use config::approvals;
pub(crate) use config::broken_by;
pub use delete::ending;
pub use node::UNHEARD;

use crate::{
    command::{Command, Context},
    event::{Actor, Done, Event, Verdict},
    rejection::Rejection,
    state::{Decided, Holder, Person, State},
};
use types::{RequestId, limits};

/// What a command causes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What happened, in order. Empty when everything is as wanted already.
    pub events: Vec<Event>,
    /// What to tell the asker.
    pub done: Done,
}

/// What the sequencer is to do with a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It was decided before; this is what came of it then.
    Before(Decided),
    /// Write these events; the last one is the verdict if the command came as a request.
    Now {
        /// To be written in one batch.
        events: Vec<Event>,
        /// What to answer once they are durable.
        outcome: Result<Done, Rejection>,
    },
    /// Nothing is written and nothing remembered: the id itself is not acceptable.
    Unacceptable(Rejection),
}

/// Decides a command and, for a request, its one verdict.
///
/// A token may have been revoked, or have come to its end, after the rim let the command in and
/// before its turn. What was decided before is still told; nothing new is done in its name.
pub fn settle(state: &State, command: &Command, context: &Context) -> Settled {
    let Some((request, body)) = context.request else {
        if let Err(rejection) = entitled(state, command, context) {
            return Settled::Unacceptable(rejection);
        }
        let outcome = decide(state, command, context);
        let events = outcome.as_ref().map(|decision| decision.events.clone()).unwrap_or_default();
        return Settled::Now { events, outcome: outcome.map(|decision| decision.done) };
    };
    if let Some(decided) = state.requests.get(request) {
        let same = decided.body == body && decided.principal == context.actor;
        return match (&decided.verdict, same) {
            (Verdict::Voided, _) => Settled::Unacceptable(Rejection::Voided(request)),
            (_, true) => Settled::Before(decided.as_ref().clone()),
            (_, false) => Settled::Unacceptable(Rejection::RequestReused(request)),
        };
    }
    let may_run = entitled(state, command, context).and_then(|()| acceptable(state, request, context));
    if let Err(rejection) = may_run {
        return Settled::Unacceptable(rejection);
    }
    let (mut events, outcome) = match decide(state, command, context) {
        Ok(Decision { events, done }) => (events, Ok(done)),
        Err(rejection) => (Vec::new(), Err(rejection)),
    };
    let verdict = match &outcome {
        Ok(done) => Verdict::Executed(done.clone()),
        Err(rejection) => Verdict::Refused { code: rejection.code().into(), text: rejection.to_string() },
    };
    events.push(Event::RequestDecided { request, principal: context.actor, body, verdict });
    Settled::Now { events, outcome }
}

/// Whether the asker's token still opens anything, or the asker is still there and what it was when it was let
/// in. A join token is judged where it is used up.
fn entitled(state: &State, command: &Command, context: &Context) -> Result<(), Rejection> {
    let ended = match context.actor {
        Actor::Token(id) => state.tokens.get(&id).is_some_and(|token| !token.lives(context.now)),
        Actor::Person(id) => !state.people.get(&id).is_some_and(Person::is_there),
        Actor::System | Actor::Node(_) => false,
    };
    if ended && !matches!(command, Command::EnrolNode { .. } | Command::AdmitMember { .. }) {
        return Err(Rejection::TokenDead);
    }
    asker(state, context.actor).map_or(Ok(()), |person| unmoved(person, context))
}

/// The person that asks, by itself or with a token of its own.
fn asker(state: &State, actor: Actor) -> Option<&Person> {
    let person = match actor {
        Actor::Person(id) => id,
        Actor::Token(id) => match state.tokens.get(&id)?.holder {
            Some(Holder::Person(id)) => id,
            _ => return None,
        },
        Actor::System | Actor::Node(_) => return None,
    };
    state.people.get(&person)
}

/// Whether a person is what it was when the request was let in: what the asker may do was judged by that.
fn unmoved(person: &Person, context: &Context) -> Result<(), Rejection> {
    match context.judged.is_some_and(|judged| person.changed > judged) {
        true => Err(Rejection::AuthorityMoved(person.name.clone())),
        false => Ok(()),
    }
}

/// Whether a fresh id is young enough to be remembered, and its asker within bounds.
fn acceptable(state: &State, request: RequestId, context: &Context) -> Result<(), Rejection> {
    let horizon = state.requests.horizon().max(context.now.minus(limits::REQUEST_HORIZON));
    if request.time() < horizon {
        return Err(Rejection::RequestExpired { request, horizon });
    }
    if request.time() > context.now.plus(limits::REQUEST_AHEAD) {
        return Err(Rejection::RequestAhead { request, now: context.now });
    }
    if state.requests.count(context.actor) >= limits::VERDICTS_PER_PRINCIPAL as u64 {
        let what = "requests of one principal within the horizon".to_owned();
        return Err(Rejection::TooMany { what, limit: limits::VERDICTS_PER_PRINCIPAL as u64 });
    }
    Ok(())
}

/// Decides a command against the state it will be applied to.
///
/// # Errors
/// The rule that says no. Nothing has happened then.
pub fn decide(state: &State, command: &Command, context: &Context) -> Result<Decision, Rejection> {
    let decision = match command {
        Command::Bootstrap { cluster, org, owner } => token::bootstrap(state, cluster, org, owner, context),
        Command::CreateToken { org, role, token } => token::create(state, *org, *role, token, context),
        Command::RevokeToken { token } => token::revoke(state, *token, context),
        Command::IssueToken { org, role, holder, token } => {
            person::issue(state, *org, *role, holder, token, context)
        }
        Command::AddPerson { org, name, role, hash } => person::add(state, *org, name, *role, hash, context),
        Command::SetPerson { person, role, hash } => {
            person::set(state, *person, *role, hash.as_deref(), context)
        }
        Command::RemovePerson { person } => person::remove(state, *person, context),
        Command::LinkPerson { person, identity } => person::link(state, *person, identity, context),
        Command::UnlinkPerson { person } => person::unlink(state, *person, context),
        Command::CreateJoin { token } => token::create_join(token, context),
        Command::Config(command) => config::decide(state, command, context),
        Command::VoidRequest { request } => void(state, *request, context),
        Command::MoveHorizon { to } => move_horizon(state, *to, context),
        Command::NoteBackup { note } => backup::note(state, note, context),
        Command::Apply { org, env, manifest, image } => {
            deploy::apply(state, *org, env, manifest, image, context)
        }
        Command::Scale { env, process, replicas } => deploy::scale(state, *env, process, *replicas),
        Command::Restart { env } => deploy::restart(state, *env, context),
        Command::Rollback { env, release } => deploy::rollback(state, *env, *release, context),
        Command::StartRolling { deploy } => deploy::start_rolling(state, *deploy),
        Command::CutOver { deploy } => deploy::cut_over(state, *deploy),
        Command::SucceedDeploy { deploy } => deploy::succeed(state, *deploy),
        Command::FailDeploy { deploy, failure } => deploy::fail(state, *deploy, failure),
        Command::ActivateRoute { route } => deploy::activate_route(state, *route),
        Command::AllocateInstance { env, process, deploy, node } => {
            instance::allocate(state, *env, process, *deploy, *node, context)
        }
        Command::DrainInstance { instance } => instance::drain(state, *instance),
        Command::ReleaseInstance { instance, forced } => instance::release(state, *instance, *forced),
        Command::LoseInstance { instance } => instance::lose(state, *instance),
        Command::Report { node, transitions } => instance::report(state, *node, transitions),
        Command::EnrolNode { join, name, roles, capacity, credential } => {
            node::enrol(state, *join, name, roles, *capacity, *credential, context)
        }
        Command::CreateMemberJoin { token } => member::create_join(token, context),
        Command::FoundMember { node, member } => member::found(state, *node, member, context),
        Command::AdmitMember { secret, member } => member::admit(state, *secret, member, context),
        Command::RemoveMember { node, confirmed } => member::remove(state, *node, confirmed, context),
        Command::ConfirmAct { act, target, confirmed } => member::confirm(act, target, confirmed),
        Command::Adopt { cluster, taken, absent, confirmed } => {
            adopt::adopt(state, cluster, taken, absent, confirmed)
        }
        Command::DeleteEnvironment { env, shown, confirmed } => {
            delete::environment(state, *env, shown, confirmed.as_ref())
        }
        Command::DeleteApp { app, shown, confirmed } => delete::app(state, *app, shown, confirmed.as_ref()),
        Command::DisableNode { node, shown, confirmed } => node::disable(state, *node, shown, confirmed),
        Command::RemoveNode { node, shown, confirmed } => node::remove(state, *node, shown, confirmed),
        Command::DrainNode { node } => node::drain(state, *node),
        Command::ActivateNode { node } => node::activate(state, *node),
        Command::SetNodeHealth { node, health } => node::set_health(state, *node, *health),
    }?;
    if decision.events.len() > limits::COMMAND_EVENTS {
        let what = "events that one command may cause".to_owned();
        return Err(Rejection::TooMany { what, limit: limits::COMMAND_EVENTS as u64 });
    }
    Ok(decision)
}

fn void(state: &State, request: RequestId, context: &Context) -> Result<Decision, Rejection> {
    // A request cannot be both executed and voided.
    if context.request.is_some_and(|(own, _)| own == request) {
        return Err(Rejection::RequestReused(request));
    }
    if let Some(decided) = state.requests.get(request) {
        if decided.verdict == Verdict::Voided {
            return Ok(done(Vec::new(), "was voided before"));
        }
        let is = match decided.verdict {
            Verdict::Executed(_) => "executed",
            _ => "refused",
        };
        return Err(Rejection::LifeCycle {
            what: format!("request {request}"),
            is: format!("{is} at event {}", decided.event),
            cannot: "be voided any more",
        });
    }
    acceptable(state, request, context)?;
    let principal = context.actor;
    let verdict = Event::RequestDecided { request, principal, body: [0; 32], verdict: Verdict::Voided };
    Ok(done(vec![verdict], "voided: it may never run"))
}

fn move_horizon(state: &State, to: types::Timestamp, context: &Context) -> Result<Decision, Rejection> {
    if context.actor != Actor::System || to <= state.requests.horizon() {
        return Ok(Decision::default());
    }
    Ok(done(vec![Event::HorizonMoved { to }], "horizon moved"))
}

pub(crate) fn done(events: Vec<Event>, summary: impl Into<String>) -> Decision {
    Decision { events, done: Done { summary: summary.into(), ..Done::default() } }
}

pub(crate) fn missing(what: impl Into<String>) -> Rejection {
    Rejection::NotFound { what: what.into() }
}
