//! `request_runs_once`: a request has at most one effect, whatever is sent again or late.

use crate::world::{World, manifest, name};
use holdfast_domain::{Actor, Command, Done, Event, NewToken, Rejection, Role, Settled, Verdict};
use types::{ByteSize, DurationMs, EnvId, RequestId, Timestamp, TokenId, limits, plan::NodeRole};

const ASKER: Actor = Actor::Token(TokenId::from_u128(1));

fn world() -> (World, EnvId) {
    let mut world = World::new();
    world.node("n1", &[NodeRole::Agent], ByteSize::from_mib(512));
    world.apply(manifest("shop", "1", &[("web", 1, 32)], None)).expect("accepted");
    let env = world.env("shop", "prod");
    (world, env)
}

fn scale(env: EnvId, to: u32) -> Command {
    Command::Scale { env, process: name("web"), replicas: to }
}

fn ask(world: &mut World, id: RequestId, body: u8, command: &Command) -> Settled {
    world.submit_as(ASKER, command, Some((id, [body; 32])), None)
}

fn executed(settled: &Settled) -> Done {
    match settled {
        Settled::Now { outcome: Ok(done), .. } => done.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_same_request_gets_the_verdict_it_got() {
    let (mut world, env) = world();
    let id = RequestId::from_parts(world.now, 1);
    let done = executed(&ask(&mut world, id, 1, &scale(env, 3)));
    let head = world.state.head;
    assert_eq!(world.state.envs[&env].scale[&name("web")], 3);
    world.ok(scale(env, 5));
    match ask(&mut world, id, 1, &scale(env, 3)) {
        Settled::Before(decided) => {
            assert_eq!(decided.verdict, Verdict::Executed(done));
            assert_eq!(decided.event, head);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(world.state.envs[&env].scale[&name("web")], 5, "it did not run again");
}

#[test]
fn a_refusal_and_a_no_op_are_remembered_too() {
    let (mut world, env) = world();
    let refused = RequestId::from_parts(world.now, 1);
    let bad = Command::Scale { env, process: name("cron"), replicas: 1 };
    let first = ask(&mut world, refused, 1, &bad);
    assert!(matches!(first, Settled::Now { outcome: Err(Rejection::NoSuchProcess { .. }), .. }));
    let Settled::Before(decided) = ask(&mut world, refused, 1, &bad) else { panic!("it was decided before") };
    let Verdict::Refused { code, text } = &decided.verdict else { panic!("{decided:?}") };
    assert_eq!(code, "no_such_process");
    assert!(text.contains("there is web"), "{text}");
    let idle = RequestId::from_parts(world.now, 2);
    let done = executed(&ask(&mut world, idle, 2, &scale(env, 1)));
    assert_eq!(done.summary, "web is at 1 already");
    assert!(matches!(ask(&mut world, idle, 2, &scale(env, 1)), Settled::Before(_)));
}

#[test]
fn another_body_or_another_asker_is_refused() {
    let (mut world, env) = world();
    let id = RequestId::from_parts(world.now, 1);
    executed(&ask(&mut world, id, 1, &scale(env, 3)));
    let head = world.state.head;
    let other_body = ask(&mut world, id, 2, &scale(env, 4));
    assert_eq!(other_body, Settled::Unacceptable(Rejection::RequestReused(id)));
    let other = Actor::Token(TokenId::from_u128(2));
    let other_asker = world.submit_as(other, &scale(env, 3), Some((id, [1; 32])), None);
    assert_eq!(other_asker, Settled::Unacceptable(Rejection::RequestReused(id)));
    assert_eq!(world.state.head, head, "nothing was written");
}

#[test]
fn a_voided_request_stays_voided() {
    let (mut world, env) = world();
    let (id, voiding) = (RequestId::from_parts(world.now, 1), RequestId::from_parts(world.now, 2));
    executed(&ask(&mut world, voiding, 9, &Command::VoidRequest { request: id }));
    for body in [1, 2] {
        let late = ask(&mut world, id, body, &scale(env, 3));
        assert_eq!(late, Settled::Unacceptable(Rejection::Voided(id)));
    }
    assert_eq!(world.state.envs[&env].scale[&name("web")], 1);
    let again = world.ok(Command::VoidRequest { request: id });
    assert!(again.is_empty(), "voiding twice is voiding once");
}

#[test]
fn an_executed_request_cannot_be_voided_nor_can_a_request_void_itself() {
    let (mut world, env) = world();
    let id = RequestId::from_parts(world.now, 1);
    executed(&ask(&mut world, id, 1, &scale(env, 3)));
    let late = world.submit(Command::VoidRequest { request: id }).expect_err("it ran");
    assert!(late.to_string().contains("is executed at event"), "{late}");
    let own = RequestId::from_parts(world.now, 2);
    let settled = ask(&mut world, own, 1, &Command::VoidRequest { request: own });
    assert!(matches!(settled, Settled::Now { outcome: Err(Rejection::RequestReused(_)), .. }), "{settled:?}");
}

#[test]
fn the_horizon_only_moves_forward_and_forgetting_never_doubles() {
    let (mut world, env) = world();
    let id = RequestId::from_parts(world.now, 1);
    executed(&ask(&mut world, id, 1, &scale(env, 3)));
    world.wait(limits::REQUEST_HORIZON);
    world.wait(DurationMs::from_secs(1200));
    let step = holdfast_domain::plan::garbage(&world.state, world.now).pop().expect("the horizon lags");
    world.step(step);
    assert!(world.state.requests.get(id).is_none(), "the verdict is forgotten");
    assert_eq!(world.state.requests.count(ASKER), 0);
    assert!(holdfast_domain::plan::garbage(&world.state, world.now).is_empty(), "not again at once");
    let horizon = world.state.requests.horizon();
    let late = ask(&mut world, id, 1, &scale(env, 3));
    assert!(matches!(late, Settled::Unacceptable(Rejection::RequestExpired { .. })), "{late:?}");
    assert!(world.ok(Command::MoveHorizon { to: Timestamp::ZERO }).is_empty());
    assert_eq!(world.state.requests.horizon(), horizon);
    let ahead = RequestId::from_parts(world.now.plus(limits::REQUEST_AHEAD).plus(DurationMs::from_ms(1)), 1);
    let early = ask(&mut world, ahead, 1, &scale(env, 3));
    assert!(matches!(early, Settled::Unacceptable(Rejection::RequestAhead { .. })), "{early:?}");
}

/// Whoever asks by a token that ended between the rim and the turn of the command.
#[test]
fn nothing_new_is_done_in_the_name_of_a_token_that_was_revoked_before_its_turn() {
    let (mut world, env) = world();
    let token = made(&mut world, None);
    let asker = Actor::Token(token);
    let id = |world: &World, nth| RequestId::from_parts(world.now, nth);
    let before = id(&world, 1);
    executed(&world.submit_as(asker, &scale(env, 3), Some((before, [1; 32])), None));
    world.ok(Command::RevokeToken { token });
    let head = world.state.head;
    let told = world.submit_as(asker, &scale(env, 3), Some((before, [1; 32])), None);
    assert!(matches!(told, Settled::Before(_)), "what was decided is still told: {told:?}");
    let (late, voiding) = (id(&world, 2), id(&world, 3));
    let void = Command::VoidRequest { request: late };
    for (command, request) in
        [(&scale(env, 5), Some((late, [2; 32]))), (&void, Some((voiding, [3; 32]))), (&scale(env, 5), None)]
    {
        let settled = world.submit_as(asker, command, request, None);
        assert_eq!(settled, Settled::Unacceptable(Rejection::TokenDead), "{command:?}");
    }
    assert_eq!(Rejection::TokenDead.code(), "unauthenticated");
    assert_eq!(world.state.head, head, "nothing was written, so the request is not remembered");
    assert_eq!(world.state.envs[&env].scale[&name("web")], 3);
}

#[test]
fn a_token_that_ended_by_itself_before_its_turn_does_nothing_either() {
    let (mut world, env) = world();
    let ends = world.now.plus(DurationMs::from_secs(60));
    let asker = Actor::Token(made(&mut world, Some(ends)));
    world.wait(DurationMs::from_secs(59));
    let scaled = |world: &mut World, to| world.submit_as(asker, &scale(env, to), None, None);
    executed(&scaled(&mut world, 3));
    world.wait(DurationMs::from_secs(1));
    assert_eq!(scaled(&mut world, 4), Settled::Unacceptable(Rejection::TokenDead));
}

fn made(world: &mut World, expires: Option<Timestamp>) -> TokenId {
    let token = NewToken { name: name("ci"), hash: [9; 32], expires };
    let events = world.ok(Command::CreateToken { org: world.org, role: Role::Owner, token });
    let Event::TokenCreated { token, .. } = events[0] else { panic!("a token") };
    token
}
