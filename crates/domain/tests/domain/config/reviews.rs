//! Reviews: who may do what with a change, and what takes approvals away.

use super::{Desk, confirmed, key, refusal, reviewed, set};
use holdfast_domain::{
    Actor, Command, Content, Event, NewToken, Rejection, Role, Settled,
    config::{ChangeStep, ConfigCommand, ConfigEvent, ConfigRefusal, Edit, Reviewers, Settings, Stage},
    state::Holder,
};
use std::sync::Arc;
use types::{ChangeId, DurationMs, NamespaceId, Timestamp, TokenId};

fn kinds(events: &[Event]) -> Vec<&'static str> {
    events.iter().map(Event::kind).collect()
}

/// A change by Cid, approved by Bob.
fn approved(desk: &mut Desk, namespace: NamespaceId, edits: &[Edit]) -> ChangeId {
    let (bob, cid) = (desk.bob, desk.cid);
    let change = desk.draft(cid, namespace, edits);
    desk.step(cid, change, ChangeStep::Submit).expect("submitted");
    desk.approve(bob, change).expect("approved");
    assert_eq!(desk.change(change).stage, Stage::Approved);
    change
}

fn settings(desk: &mut Desk, namespace: NamespaceId, settings: Settings) {
    let (by, settings) = (desk.ann, Some(Arc::new(settings)));
    let command = ConfigCommand::SetNamespace { namespace, inherits: None, description: None, settings };
    desk.says(by, command).expect("set");
}

#[test]
fn a_change_is_drafted_submitted_approved_and_published_as_one_release() {
    let mut desk = Desk::new();
    let shop = desk.namespace("shop", reviewed());
    let (bob, cid) = (desk.bob, desk.cid);
    let change = desk.draft(cid, shop, &[set("a", "1"), set("b", "1")]);
    assert!(matches!(desk.step(bob, change, ChangeStep::Publish), Err(Rejection::LifeCycle { .. })));
    desk.step(cid, change, ChangeStep::Submit).expect("submitted");
    let early = refusal(desk.step(bob, change, ChangeStep::Publish));
    assert_eq!(early, ConfigRefusal::TooFewApprovals { needed: 1, has: 0 });
    desk.step(cid, change, ChangeStep::Comment { text: "please".into() }).expect("said");
    desk.approve(bob, change).expect("approved");
    assert!(desk.approve(bob, change).expect("again").is_empty(), "one yes each");
    assert_eq!(refusal(desk.step(cid, change, ChangeStep::Publish)).code(), "not_a_reviewer");
    let events = desk.step(bob, change, ChangeStep::Publish).expect("published");
    assert_eq!(kinds(&events), ["change.published"]);
    assert_eq!((desk.read(shop, "a"), desk.version(shop, "b")), (Some("1".into()), 1));
    let row = desk.world.views.config().changes[&change].clone();
    assert_eq!((row.stage, row.release, row.steps.len()), (Stage::Published, Some(1), 5));
    assert_eq!(row.edits[&key("a")].held, row.drafted.event, "the value stands where it was drafted");
    assert!(matches!(desk.step(cid, change, ChangeStep::Submit), Err(Rejection::NotFound { .. })));
}

#[test]
fn nobody_approves_what_they_wrote_with_whatever_they_come() {
    let mut desk = Desk::new();
    let shop = desk.namespace("shop", reviewed());
    let (ann, bob) = (desk.ann, desk.bob);
    let change = desk.draft(ann, shop, &[set("a", "1")]);
    let edits = vec![set("b", "1")];
    let edit = ChangeStep::Edit { title: None, edits, drop: vec![], rebase: false };
    desk.step(bob, change, edit).expect("edited");
    desk.step(ann, change, ChangeStep::Submit).expect("submitted");
    for writer in [ann, bob] {
        assert!(matches!(refusal(desk.approve(writer, change)), ConfigRefusal::OwnChange { .. }));
    }
    // A token of a person is that person; one of nobody is no pair of eyes.
    let token = |desk: &mut Desk, nth: u8, holder: Holder| -> TokenId {
        let token = NewToken { name: crate::world::name("t"), hash: [nth; 32], expires: None };
        let command = Command::IssueToken { org: desk.world.org, role: Role::Operator, holder, token };
        match desk.world.ok(command)[0] {
            Event::TokenIssued { token, .. } => token,
            ref other => panic!("{other:?}"),
        }
    };
    let own = token(&mut desk, 9, Holder::Person(ann));
    let service = token(&mut desk, 8, Holder::Service([].into()));
    for (token, code) in [(own, "cannot"), (service, "belongs to none")] {
        let (revision, hash) = (desk.change(change).revision, desk.change(change).hash);
        let step = ChangeStep::Approve { revision, hash };
        let command = Command::Config(ConfigCommand::Change { change, step });
        let settled = desk.world.submit_as(Actor::Token(token), &command, None, None);
        let Settled::Now { outcome: Err(refused), .. } = settled else { panic!("{settled:?}") };
        assert_eq!(refused.code(), "four_eyes", "{code}: {refused}");
    }
    assert!(matches!(
        refusal({
            let cid = desk.cid;
            desk.approve(cid, change)
        }),
        ConfigRefusal::NotAReviewer { .. }
    ));
}

#[test]
fn an_approval_is_of_what_was_looked_at() {
    let mut desk = Desk::new();
    let shop = desk.namespace("shop", reviewed());
    let (bob, cid) = (desk.bob, desk.cid);
    let change = desk.draft(cid, shop, &[set("a", "1")]);
    desk.step(cid, change, ChangeStep::Submit).expect("submitted");
    let seen = (desk.change(change).revision, desk.change(change).hash);
    let edit = ChangeStep::Edit { title: None, edits: vec![set("a", "2")], drop: vec![], rebase: false };
    desk.step(cid, change, edit).expect("edited");
    desk.step(cid, change, ChangeStep::Submit).expect("submitted");
    let late = ChangeStep::Approve { revision: seen.0, hash: seen.1 };
    assert_eq!(refusal(desk.step(bob, change, late)), ConfigRefusal::OtherRevision { seen: 1, now: 2 });
    let other = ChangeStep::Approve { revision: 2, hash: seen.1 };
    assert_eq!(refusal(desk.step(bob, change, other)), ConfigRefusal::OtherContent { revision: 2 });
    desk.approve(bob, change).expect("approved");
    let edit = ChangeStep::Edit { title: None, edits: vec![set("a", "3")], drop: vec![], rebase: false };
    desk.step(cid, change, edit).expect("edited");
    assert!(desk.change(change).approvals.is_empty() && desk.change(change).stage == Stage::Draft);
}

#[test]
fn a_release_that_moves_the_base_voids_approvals_in_the_same_batch_and_says_so() {
    let mut desk = Desk::new();
    let shop = desk.namespace("shop", reviewed());
    let (bob, cid) = (desk.bob, desk.cid);
    let first = approved(&mut desk, shop, &[set("a", "1")]);
    let second = approved(&mut desk, shop, &[set("a", "2"), set("b", "2")]);
    let apart = approved(&mut desk, shop, &[set("c", "3")]);
    let at = desk.world.now.plus(DurationMs::from_secs(60));
    desk.step(bob, second, ChangeStep::Schedule { at: Some(at) }).expect("scheduled");
    let events = desk.step(bob, first, ChangeStep::Publish).expect("published");
    assert_eq!(kinds(&events), ["change.published", "change.reopened"]);
    let found = desk.change(second);
    assert_eq!((found.stage, found.moved, found.approvals.len()), (Stage::Draft, Some(1), 0));
    assert_eq!(found.suspended.as_deref(), Some("release 1 moved what it was based on"));
    assert!(desk.world.state.config.due.is_empty());
    assert_eq!(desk.change(apart).stage, Stage::Approved, "it rests on other keys");
    let stale = refusal(desk.approve(bob, second));
    assert!(matches!(stale, ConfigRefusal::BaseMoved(_)), "{stale}");
    assert!(matches!(refusal(desk.step(cid, second, ChangeStep::Submit)), ConfigRefusal::BaseMoved(_)));
    let rebase = ChangeStep::Edit { title: None, edits: vec![], drop: vec![], rebase: true };
    desk.step(cid, second, rebase).expect("rebased");
    desk.step(cid, second, ChangeStep::Submit).expect("submitted");
    desk.approve(bob, second).expect("approved anew");
    desk.step(bob, second, ChangeStep::Publish).expect("published");
    assert_eq!((desk.read(shop, "a"), desk.version(shop, "a")), (Some("2".into()), 2));
}

#[test]
fn a_rejected_change_is_submitted_again_as_another_revision() {
    let mut desk = Desk::new();
    let shop = desk.namespace("shop", reviewed());
    let (bob, cid) = (desk.bob, desk.cid);
    let change = approved(&mut desk, shop, &[set("a", "1")]);
    let reject = |revision, reason: &str| ChangeStep::Reject { revision, reason: reason.into() };
    assert!(matches!(desk.step(bob, change, reject(1, " ")), Err(Rejection::Invalid { .. })));
    desk.step(bob, change, reject(1, "too early")).expect("rejected");
    assert!(matches!(desk.step(bob, change, ChangeStep::Publish), Err(Rejection::LifeCycle { .. })));
    desk.step(cid, change, ChangeStep::Submit).expect("again");
    assert_eq!((desk.change(change).revision, desk.change(change).approvals.len()), (2, 0));
    desk.approve(bob, change).expect("approved");
    desk.step(cid, change, ChangeStep::Withdraw { reason: "".into() }).expect("its author may");
    assert!(desk.world.state.config.changes.is_empty());
}

#[test]
fn rights_are_those_of_the_moment() {
    let mut desk = Desk::new();
    let shop = desk.namespace("shop", reviewed());
    let (ann, bob, cid) = (desk.ann, desk.bob, desk.cid);
    let change = approved(&mut desk, shop, &[set("a", "1")]);
    // Stricter settings are asked of what was approved before, too.
    settings(&mut desk, shop, Settings { approvals: Some(2), ..reviewed() });
    let short = refusal(desk.step(ann, change, ChangeStep::Publish));
    assert_eq!(short, ConfigRefusal::TooFewApprovals { needed: 2, has: 1 });
    desk.approve(ann, change).expect("a second one");
    // Whoever is no reviewer any more has not approved.
    desk.world.ok(Command::SetPerson { person: bob, role: Some(Role::Viewer), hash: None });
    let short = refusal(desk.step(ann, change, ChangeStep::Publish));
    assert_eq!(short, ConfigRefusal::TooFewApprovals { needed: 2, has: 1 });
    // Named people review whatever their role is, and nobody else does.
    let reviewers = Some(Reviewers { roles: [].into(), people: [bob].into() });
    settings(&mut desk, shop, Settings { reviewers, ..reviewed() });
    assert_eq!(refusal(desk.step(ann, change, ChangeStep::Publish)).code(), "not_a_reviewer");
    desk.step(bob, change, ChangeStep::Publish).expect("published");
    let own = desk.draft(cid, shop, &[set("b", "1")]);
    let other = refusal(desk.step(ann, own, ChangeStep::Withdraw { reason: "".into() }));
    assert!(matches!(other, ConfigRefusal::NotTheAuthor { .. }));
}

#[test]
fn what_is_scheduled_is_published_by_the_platform_or_says_why_not() {
    let mut desk = Desk::new();
    let shop = desk.namespace("shop", reviewed());
    let (bob, now) = (desk.bob, desk.world.now);
    let [one, two] = ["a", "b"].map(|at| approved(&mut desk, shop, &[set(at, "1")]));
    let soon = now.plus(DurationMs::from_secs(60));
    for at in [now, Timestamp::from_ms(0), now.plus(DurationMs::from_secs(400 * 24 * 3600))] {
        let wrong = desk.step(bob, one, ChangeStep::Schedule { at: Some(at) });
        assert!(matches!(wrong, Err(Rejection::Invalid { .. })), "{wrong:?}");
    }
    for change in [one, two] {
        desk.step(bob, change, ChangeStep::Schedule { at: Some(soon) }).expect("scheduled");
    }
    let due = |change| Command::Config(ConfigCommand::Change { change, step: ChangeStep::PublishDue });
    assert!(desk.world.ok(due(one)).is_empty(), "not yet");
    desk.world.wait(DurationMs::from_secs(60));
    assert!(desk.step(bob, one, ChangeStep::PublishDue).expect("not by people").is_empty());
    let events = desk.world.ok(due(one));
    assert!(
        matches!(&events[0], Event::Config(ConfigEvent::Published { by, .. }) if *by == holdfast_domain::config::Who::Person(bob))
    );
    desk.world.ok(Command::RemovePerson { person: bob });
    assert_eq!(kinds(&desk.world.ok(due(two))), ["change.suspended"]);
    let why = desk.change(two).suspended.clone().expect("a reason");
    assert!(why.contains("only reviewers of shop may publish"), "{why}");
    assert!(desk.world.ok(due(two)).is_empty(), "once");
}

#[test]
fn break_glass_needs_a_reason_and_what_was_shown_and_is_loud() {
    let mut desk = Desk::new();
    let shop = desk.namespace("shop", reviewed());
    let (ann, cid) = (desk.ann, desk.cid);
    let change = desk.draft(cid, shop, &[set("a", "1")]);
    let shown = Content::of_change(&desk.world.state, change);
    let glass = |shown: &Content, reason: &str| ChangeStep::BreakGlass {
        shown: shown.clone(),
        confirmed: confirmed(reason),
    };
    assert!(matches!(desk.step(ann, change, glass(&shown, "")), Err(Rejection::Invalid { .. })));
    let edit = ChangeStep::Edit { title: None, edits: vec![set("a", "2")], drop: vec![], rebase: false };
    desk.step(cid, change, edit).expect("edited");
    assert!(matches!(desk.step(ann, change, glass(&shown, "fire")), Err(Rejection::Moved { .. })));
    let shown = Content::of_change(&desk.world.state, change);
    assert_eq!(kinds(&desk.step(ann, change, glass(&shown, "fire")).expect("done")), ["change.break_glass"]);
    let release = desk.world.views.config().namespaces[&shop].releases[0].clone();
    assert_eq!((release.break_glass.as_deref(), release.change), (Some("fire"), Some(change)));
}

#[test]
fn where_nobodys_approval_is_asked_a_submitted_change_is_approved() {
    let mut desk = Desk::new();
    let shop = desk.namespace("shop", Settings::default());
    let cid = desk.cid;
    let change = desk.draft(cid, shop, &[set("a", "1")]);
    desk.step(cid, change, ChangeStep::Submit).expect("submitted");
    assert_eq!(desk.change(change).stage, Stage::Approved);
    // Whoever may write here directly may publish as well.
    desk.step(cid, change, ChangeStep::Publish).expect("published");
    let other = approved_by_nobody(&mut desk, shop);
    desk.write(shop, &[set("a", "7")]).expect("written");
    assert_eq!(desk.change(other).stage, Stage::Draft, "its base moved");
}

fn approved_by_nobody(desk: &mut Desk, shop: NamespaceId) -> ChangeId {
    let cid = desk.cid;
    let change = desk.draft(cid, shop, &[set("a", "2")]);
    desk.step(cid, change, ChangeStep::Submit).expect("submitted");
    change
}
