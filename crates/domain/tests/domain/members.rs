//! Members of the cluster: admitted once with a secret of their own kind, removed for ever.

use crate::world::{World, name};
use holdfast_domain::{
    Actor, Command, Confirmation, Confirmed, Done, Event, NewMember, NewToken, Rejection, Role, Settled,
};
use types::{ByteSize, DurationMs, MilliCpu, NodeId, RequestId, Timestamp, TokenId, limits, plan::Capacity};

const SECRET: [u8; 32] = [5; 32];
const FIRST: NodeId = NodeId::from_u128(77);

fn member(called: &str, peer: &str) -> NewMember {
    NewMember { name: name(called), peer: peer.into(), api: "https://one.example:7070".into(), votes: true }
}

fn world() -> World {
    let mut world = World::new();
    world.ok(Command::FoundMember { node: FIRST, member: member("one", "10.0.0.1:7071") });
    world
}

fn secret(world: &mut World, hash: [u8; 32], expires: Option<Timestamp>) {
    let token = NewToken { name: name("join"), hash, expires };
    world.ok(Command::CreateMemberJoin { token });
}

fn admit(world: &mut World, hash: [u8; 32], new: NewMember) -> Result<NodeId, Rejection> {
    let events = world.submit(Command::AdmitMember { secret: hash, member: new })?;
    match &events[..] {
        [Event::MemberAdmitted { node, .. }] => Ok(*node),
        other => panic!("{other:?}"),
    }
}

fn confirmed(reason: &str) -> Confirmed {
    let (actor, kind) = (Actor::Token(TokenId::from_u128(1)), Confirmation::Person);
    let at = Timestamp::from_ms(1_800_000_000_000);
    Confirmed { actor, kind, acknowledged: Vec::new(), reason: reason.into(), at }
}

#[test]
fn a_member_is_admitted_once_for_each_secret() {
    let mut world = world();
    secret(&mut world, SECRET, None);
    let two = admit(&mut world, SECRET, member("two", "[fd00::2]:7071")).expect("admitted");
    assert_ne!(two, FIRST);
    let found = &world.state.members[&two];
    assert_eq!((found.name.as_str(), found.votes, found.is_present()), ("two", true, true));
    assert_eq!(found.admitted, world.state.head);
    let again = admit(&mut world, SECRET, member("three", "10.0.0.3:7071")).expect_err("used up");
    assert_eq!(again, Rejection::TokenDead);
    let end = world.now.plus(DurationMs::from_secs(60));
    secret(&mut world, [6; 32], Some(end));
    world.wait(DurationMs::from_secs(60));
    let late = admit(&mut world, [6; 32], member("three", "10.0.0.3:7071")).expect_err("expired");
    assert_eq!(late, Rejection::TokenDead);
    assert_eq!(world.state.members.len(), 2);
}

#[test]
fn neither_kind_of_join_token_works_for_the_other() {
    let mut world = world();
    secret(&mut world, SECRET, None);
    world.ok(Command::CreateJoin { token: NewToken { name: name("join"), hash: [6; 32], expires: None } });
    let (of_member, of_node) = (world.state.token_hashes[&SECRET], world.state.token_hashes[&[6; 32]]);
    assert_eq!(world.state.tokens[&of_member].role, Role::MemberJoin);
    let crossed = admit(&mut world, [6; 32], member("two", "10.0.0.2:7071"));
    assert_eq!(crossed, Err(Rejection::TokenDead));
    let enrol = |join| Command::EnrolNode {
        join,
        name: name("n1"),
        roles: Default::default(),
        capacity: Capacity { memory: ByteSize::from_mib(64), cpu: MilliCpu::new(100) },
        credential: [9; 32],
    };
    assert_eq!(world.submit(enrol(of_member)), Err(Rejection::TokenDead));
    world.ok(enrol(of_node));
    admit(&mut world, SECRET, member("two", "10.0.0.2:7071")).expect("still good");
}

/// The join token is dead after its use, and who presents it is that token: a copy of the request
/// must still get its answer.
#[test]
fn a_request_that_is_sent_again_gives_the_same_member() {
    let mut world = world();
    secret(&mut world, SECRET, None);
    let asker = Actor::Token(world.state.token_hashes[&SECRET]);
    let request = Some((RequestId::from_parts(world.now, 1), [1; 32]));
    let command = Command::AdmitMember { secret: SECRET, member: member("two", "10.0.0.2:7071") };
    let node = match world.submit_as(asker, &command, request, None) {
        Settled::Now { outcome: Ok(Done { node: Some(node), .. }), .. } => node,
        other => panic!("{other:?}"),
    };
    match world.submit_as(asker, &command, request, None) {
        Settled::Before(decided) => {
            let holdfast_domain::Verdict::Executed(done) = decided.verdict else { panic!("{decided:?}") };
            assert_eq!(done.node, Some(node));
        }
        other => panic!("{other:?}"),
    }
    let other = Some((RequestId::from_parts(world.now, 2), [1; 32]));
    let settled = world.submit_as(asker, &command, other, None);
    assert!(matches!(settled, Settled::Now { outcome: Err(Rejection::TokenDead), .. }), "{settled:?}");
    assert_eq!(world.state.members.len(), 2);
}

#[test]
fn a_removed_member_stays_removed_and_its_name_is_free() {
    let mut world = world();
    secret(&mut world, SECRET, None);
    let two = admit(&mut world, SECRET, member("two", "10.0.0.2:7071")).expect("admitted");
    let remove = |node| Command::RemoveMember { node, confirmed: confirmed("sold") };
    let events = world.ok(remove(two));
    assert!(matches!(&events[..], [Event::MemberRemoved { confirmed, .. }] if confirmed.reason == "sold"));
    assert_eq!(world.state.members[&two].removed, Some(world.state.head));
    assert!(world.ok(remove(two)).is_empty(), "removing twice is removing once");
    secret(&mut world, [6; 32], None);
    let again = admit(&mut world, [6; 32], member("two", "10.0.0.2:7071")).expect("the name is free");
    assert_ne!(again, two, "an id is never used twice");
    assert!(!world.state.members[&two].is_present());
    let nobody = world.submit(remove(NodeId::from_u128(1))).expect_err("no such member");
    assert_eq!(nobody.code(), "not_found");
}

#[test]
fn the_only_voter_is_not_removed() {
    let mut world = world();
    secret(&mut world, SECRET, None);
    let reader = NewMember { votes: false, ..member("two", "10.0.0.2:7071") };
    let two = admit(&mut world, SECRET, reader).expect("admitted");
    let remove = |node| Command::RemoveMember { node, confirmed: confirmed("") };
    let refused = world.submit(remove(FIRST)).expect_err("nobody could decide any more");
    assert_eq!(refused.to_string(), "member one is the only voter, so it cannot be removed");
    world.ok(remove(two));
}

#[test]
fn names_and_addresses_are_one_of_a_kind_and_sound() {
    let mut world = world();
    secret(&mut world, SECRET, None);
    let mut refused = |new: NewMember| admit(&mut world, SECRET, new).expect_err("refused").code();
    assert_eq!(refused(member("one", "10.0.0.2:7071")), "name_taken");
    assert_eq!(refused(member("two", "10.0.0.1:7071")), "conflict");
    let long = format!("{}:1", "a".repeat(limits::ADDRESS_CHARS));
    for peer in ["", "host", "host:", ":1", "host:0", "host:65536", "a b:1", "fd00::1:7071", "ü:1", &long] {
        assert_eq!(refused(member("two", peer)), "invalid_request", "{peer:?}");
    }
    for api in ["one.example", "ftp://one", "http://a b"] {
        let new = NewMember { api: api.into(), ..member("two", "10.0.0.2:7071") };
        assert_eq!(refused(new), "invalid_request", "{api:?}");
    }
    for nth in 1..limits::MEMBERS {
        let hash = [100 + nth as u8; 32];
        secret(&mut world, hash, None);
        admit(&mut world, hash, member(&format!("m{nth}"), &format!("10.1.0.{nth}:7071"))).expect("a place");
    }
    let full = admit(&mut world, SECRET, member("two", "10.0.0.2:7071")).expect_err("no place");
    assert_eq!(full.code(), "too_many");
}

#[test]
fn a_cluster_is_begun_once_and_by_the_platform_alone() {
    let mut world = World::new();
    let found = |node| Command::FoundMember { node, member: member("one", "10.0.0.1:7071") };
    let stranger = Actor::Token(TokenId::from_u128(1));
    let settled = world.submit_as(stranger, &found(FIRST), None, None);
    assert!(matches!(settled, Settled::Now { outcome: Err(Rejection::Begun), .. }), "{settled:?}");
    world.ok(found(FIRST));
    assert!(world.ok(found(FIRST)).is_empty(), "said again at every start");
    assert_eq!(world.submit(found(NodeId::from_u128(78))), Err(Rejection::Begun));
}

#[test]
fn a_guarded_act_leaves_its_record_within_bounds() {
    let mut world = world();
    let record = |act: &str, reason: &str| Command::ConfirmAct {
        act: act.into(),
        target: "one".into(),
        confirmed: confirmed(reason),
    };
    let before = world.state.cluster_sequence;
    let events = world.ok(record("cluster handover", "planned"));
    assert!(matches!(&events[..], [Event::ActConfirmed { target, .. }] if target == "one"));
    assert_eq!(world.state.cluster_sequence, before + 1);
    let long = "x".repeat(limits::REASON_CHARS + 1);
    assert_eq!(world.submit(record("cluster handover", &long)).expect_err("too long").code(), "too_many");
    for act in ["", "two\nlines", &"x".repeat(limits::ACT_CHARS + 1)] {
        assert_eq!(world.submit(record(act, "")).expect_err("no name").code(), "invalid_request");
    }
}
