//! `an_org_keeps_an_owner`, and what ends with a person.

use crate::world::{World, name};
use holdfast_domain::{
    Actor, Command, Event, NewToken, Rejection, Role, Settled,
    state::{Holder, Identity, Scope},
};
use proptest::prelude::*;
use types::{DurationMs, PersonId, Timestamp, TokenId};

fn add(world: &mut World, called: &str, role: Role) -> PersonId {
    let command = Command::AddPerson { org: world.org, name: name(called), role, hash: "hash".into() };
    match world.ok(command)[0] {
        Event::PersonAdded { person, .. } => person,
        ref other => panic!("{other:?}"),
    }
}

fn token(nth: u8, expires: Option<Timestamp>) -> NewToken {
    NewToken { name: name("t"), hash: [nth; 32], expires }
}

fn issue(world: &mut World, nth: u8, role: Role, holder: Holder) -> TokenId {
    let command = Command::IssueToken { org: world.org, role, holder, token: token(nth, None) };
    match world.ok(command)[0] {
        Event::TokenIssued { token, .. } => token,
        ref other => panic!("{other:?}"),
    }
}

fn first(world: &World) -> TokenId {
    world.state.token_hashes[&[1; 32]]
}

fn role(person: PersonId, role: Role) -> Command {
    Command::SetPerson { person, role: Some(role), hash: None }
}

#[test]
fn the_last_owner_stays_whether_it_is_a_person_or_a_token() {
    let mut world = World::new();
    let ann = add(&mut world, "ann", Role::Owner);
    let first = first(&world);
    world.ok(Command::RevokeToken { token: first });
    // A token of her own ends with her, so it is no other owner.
    issue(&mut world, 9, Role::Owner, Holder::Person(ann));
    assert_eq!(world.submit(Command::RemovePerson { person: ann }), Err(Rejection::LastOwner));
    assert_eq!(world.submit(role(ann, Role::Admin)), Err(Rejection::LastOwner));
    let ci = issue(&mut world, 8, Role::Owner, Holder::Service([].into()));
    world.ok(role(ann, Role::Admin));
    assert_eq!(world.submit(Command::RevokeToken { token: ci }), Err(Rejection::LastOwner));
    add(&mut world, "bea", Role::Owner);
    world.ok(Command::RevokeToken { token: ci });
}

#[test]
fn an_owner_that_ended_by_itself_is_none() {
    let mut world = World::new();
    let ann = add(&mut world, "ann", Role::Owner);
    let ends = world.now.plus(DurationMs::from_secs(60));
    world.ok(Command::CreateToken { org: world.org, role: Role::Owner, token: token(9, Some(ends)) });
    let first = first(&world);
    world.ok(Command::RevokeToken { token: first });
    world.wait(DurationMs::from_secs(60));
    assert_eq!(world.submit(Command::RemovePerson { person: ann }), Err(Rejection::LastOwner));
}

#[test]
fn a_persons_tokens_and_name_end_with_the_person() {
    let mut world = World::new();
    let ann = add(&mut world, "ann", Role::Developer);
    let own = issue(&mut world, 9, Role::Developer, Holder::Person(ann));
    let again =
        Command::AddPerson { org: world.org, name: name("ann"), role: Role::Viewer, hash: "h".into() };
    assert!(matches!(world.submit(again.clone()), Err(Rejection::NameTaken { .. })));
    world.ok(Command::RemovePerson { person: ann });
    assert!(world.state.tokens[&own].dead && !world.state.token_hashes.contains_key(&[9; 32]));
    assert!(world.state.people[&ann].hash.is_empty(), "nothing of the password is kept");
    for gone in [Command::RemovePerson { person: ann }, role(ann, Role::Viewer)] {
        assert!(matches!(world.submit(gone), Err(Rejection::NotFound { .. })));
    }
    world.ok(again);
    assert!(world.state.people[&ann].removed.is_some());
}

#[test]
fn nothing_is_done_in_the_name_of_somebody_who_was_removed_before_its_turn() {
    let mut world = World::new();
    let ann = add(&mut world, "ann", Role::Owner);
    world.ok(Command::RemovePerson { person: ann });
    let command = Command::CreateToken { org: world.org, role: Role::Viewer, token: token(9, None) };
    let settled = world.submit_as(Actor::Person(ann), &command, None, None);
    assert_eq!(settled, Settled::Unacceptable(Rejection::TokenDead));
}

fn identity(subject: &str) -> Identity {
    Identity { issuer: "https://login.example".into(), subject: subject.into() }
}

#[test]
fn an_identity_is_one_persons_and_ends_with_the_link_and_the_person() {
    let mut world = World::new();
    let (ann, bea) = (add(&mut world, "ann", Role::Viewer), add(&mut world, "bea", Role::Viewer));
    let link = |person, subject| Command::LinkPerson { person, identity: identity(subject) };
    world.ok(link(ann, "1"));
    let linked = world.state.people[&ann].link.clone().expect("linked").event;
    assert!(world.state.people[&ann].proves(linked) && !world.state.people[&bea].proves(linked));
    assert!(matches!(world.submit(link(bea, "1")), Err(Rejection::LifeCycle { .. })), "hers");
    world.ok(link(ann, "1"));
    assert!(world.state.people[&ann].proves(linked), "the same again changes nothing");
    let own = issue(&mut world, 9, Role::Viewer, Holder::Person(ann));
    world.ok(link(ann, "1"));
    assert!(!world.state.tokens[&own].dead);
    world.ok(link(ann, "2"));
    assert!(world.state.tokens[&own].dead, "whoever logged in as the first may have made it");
    assert!(!world.state.people[&ann].proves(linked), "another identity shuts what the first had opened");
    world.ok(link(bea, "1"));
    world.ok(Command::UnlinkPerson { person: bea });
    world.ok(Command::UnlinkPerson { person: bea });
    world.ok(Command::RemovePerson { person: ann });
    assert!(world.state.identities.is_empty() && world.state.people[&ann].link.is_none());
    assert!(matches!(world.submit(link(ann, "3")), Err(Rejection::NotFound { .. })));
    let long = Identity { subject: "s".repeat(256), ..identity("") };
    for wrong in [identity(""), long] {
        let wrong = Command::LinkPerson { person: bea, identity: wrong };
        assert!(matches!(world.submit(wrong), Err(Rejection::Invalid { .. })));
    }
}

#[test]
fn nothing_is_done_in_the_name_of_somebody_who_was_changed_before_its_turn() {
    let mut world = World::new();
    let ann = add(&mut world, "ann", Role::Admin);
    let own = issue(&mut world, 9, Role::Admin, Holder::Person(ann));
    world.judged = Some(world.state.head);
    let command = Command::CreateToken { org: world.org, role: Role::Viewer, token: token(8, None) };
    world.submit_as(Actor::Person(ann), &command, None, None);
    world.judged = Some(world.state.head);
    world.ok(role(ann, Role::Viewer));
    for actor in [Actor::Person(ann), Actor::Token(own)] {
        let settled = world.submit_as(actor, &command, None, None);
        assert_eq!(settled, Settled::Unacceptable(Rejection::AuthorityMoved(name("ann"))));
    }
    // Who asks after that is judged by what is so then.
    world.judged = Some(world.state.head);
    assert!(matches!(world.submit_as(Actor::Token(own), &command, None, None), Settled::Now { .. }));
}

#[test]
fn a_member_that_became_another_meanwhile_is_not_changed_by_who_saw_the_old_one() {
    let mut world = World::new();
    let bob = add(&mut world, "bob", Role::Viewer);
    world.judged = Some(world.state.head);
    world.ok(role(bob, Role::Owner));
    let moved = || Err(Rejection::AuthorityMoved(name("bob")));
    let password = Command::SetPerson { person: bob, role: None, hash: Some("other".into()) };
    assert_eq!(world.submit(password.clone()), moved());
    assert_eq!(world.submit(Command::RemovePerson { person: bob }), moved());
    world.judged = Some(world.state.head);
    world.ok(password);
}

#[test]
fn tokens_of_a_person_end_with_the_password_by_which_they_were_made() {
    let mut world = World::new();
    let ann = add(&mut world, "ann", Role::Developer);
    let own = issue(&mut world, 9, Role::Developer, Holder::Person(ann));
    let other = issue(&mut world, 8, Role::Developer, Holder::Service([].into()));
    world.ok(role(ann, Role::Viewer));
    assert!(!world.state.tokens[&own].dead, "another role ends no token");
    world.ok(Command::SetPerson { person: ann, role: None, hash: Some("other".into()) });
    assert!(world.state.tokens[&own].dead && !world.state.tokens[&other].dead);
}

#[test]
fn machines_have_no_role_of_people() {
    let mut world = World::new();
    for role in [Role::Node, Role::Join, Role::MemberJoin] {
        let command = Command::AddPerson { org: world.org, name: name("m"), role, hash: "h".into() };
        assert!(matches!(world.submit(command), Err(Rejection::Invalid { .. })));
        let (holder, token) = (Holder::Service([].into()), token(9, None));
        let command = Command::IssueToken { org: world.org, role, holder, token };
        assert!(matches!(world.submit(command), Err(Rejection::Invalid { .. })));
    }
}

#[test]
fn a_scope_names_one_guarded_act() {
    let scope: Scope = "confirm:cluster.promote".parse().expect("a scope");
    assert_eq!(Scope::of_act("cluster promote three"), scope);
    assert_ne!(Scope::of_act("cluster remove three"), scope);
    for wrong in ["", "confirm:", "confirm:cluster", "confirm:*.*", "cluster.promote", "confirm:a.b.c"] {
        assert!(wrong.parse::<Scope>().is_err(), "{wrong}");
    }
}

/// What may happen to owners, in any order.
#[derive(Clone, Copy, Debug)]
enum Step {
    Add(u8, bool),
    Demote(u8),
    Remove(u8),
    Issue(u8, bool),
    Revoke(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        (0..4u8, any::<bool>()).prop_map(|(who, owner)| Step::Add(who, owner)),
        (0..4u8).prop_map(Step::Demote),
        (0..4u8).prop_map(Step::Remove),
        (0..4u8, any::<bool>()).prop_map(|(who, own)| Step::Issue(who, own)),
        (0..8u8).prop_map(Step::Revoke),
    ];
    prop::collection::vec(step, 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is tried, somebody can open the org as its owner without anybody else's help.
    #[test]
    fn somebody_is_always_left_who_may_do_everything(steps in steps()) {
        let mut world = World::new();
        let (org, mut nth) = (world.org, 10u8);
        for step in steps {
            let called = |who: u8| name(["ann", "bea", "cid", "dan"][usize::from(who)]);
            let of = |world: &World, who| world.state.person_names.get(&called(who)).copied();
            let command = match step {
                Step::Add(who, owner) => {
                    let role = if owner { Role::Owner } else { Role::Viewer };
                    Some(Command::AddPerson { org, name: called(who), role, hash: "h".into() })
                }
                Step::Demote(who) => of(&world, who).map(|person| role(person, Role::Admin)),
                Step::Remove(who) => of(&world, who).map(|person| Command::RemovePerson { person }),
                Step::Issue(who, own) => {
                    nth += 1;
                    let holder = match of(&world, who).filter(|_| own) {
                        Some(person) => Holder::Person(person),
                        None => Holder::Service([].into()),
                    };
                    Some(Command::IssueToken { org, role: Role::Owner, holder, token: token(nth, None) })
                }
                Step::Revoke(which) => {
                    let token = world.state.tokens.keys().nth(usize::from(which)).copied();
                    token.map(|token| Command::RevokeToken { token })
                }
            };
            command.map(|command| world.submit(command));
            let people = world.state.people.values();
            let person = people.into_iter().any(|person| person.is_there() && person.role == Role::Owner);
            let token = world.state.tokens.values().any(|token| {
                let personal = matches!(token.holder, Some(Holder::Person(_)));
                token.role == Role::Owner && !personal && token.lives(world.now)
            });
            prop_assert!(person || token, "after {step:?}");
        }
    }
}
