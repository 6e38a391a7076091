//! Rights of reviewers, by the settings that hold in a namespace when it is decided.

use super::{actor_person, there, who};
use crate::{
    command::Context,
    config::{ConfigRefusal, Reviewers, Who},
    event::{Actor, Role},
    rejection::Rejection,
    state::{Change, Person, Policy, State},
};
use types::{NamespaceId, Timestamp};

/// How many approvals a change needs: where four eyes are asked for, one at least.
pub(super) fn needed(policy: &Policy) -> u8 {
    policy.approvals.max(u8::from(policy.four_eyes))
}

/// How many approvals a change has that count now, and how many it needs.
pub fn approvals(state: &State, change: &Change, now: Timestamp) -> (u8, u8) {
    let policy = state.config.policy(change.namespace);
    (approved(state, &policy, change, now), needed(&policy))
}

/// How many approvals of a change count now: of whoever still may give one.
pub(super) fn approved(state: &State, policy: &Policy, change: &Change, now: Timestamp) -> u8 {
    let counts = |by: Who| is_reviewer(state, policy, by, now) && may_approve(policy, change, by);
    change.approvals.iter().filter(|approval| counts(approval.by)).count() as u8
}

/// Whether somebody's approval of a change counts, if it is a reviewer at all.
pub(super) fn may_approve(policy: &Policy, change: &Change, by: Who) -> bool {
    !policy.four_eyes || matches!(by, Who::Person(_)) && !change.writers.contains(&by)
}

/// Whether somebody is a reviewer, whatever it came with.
pub(super) fn is_reviewer(state: &State, policy: &Policy, by: Who, now: Timestamp) -> bool {
    match by {
        Who::Person(id) => state.people.get(&id).is_some_and(|person| {
            person.is_there() && (policy.reviewers.has(person.role) || policy.reviewers.people.contains(&id))
        }),
        Who::Token(id) => {
            state.tokens.get(&id).is_some_and(|token| token.lives(now) && policy.reviewers.has(token.role))
        }
        Who::Platform => false,
    }
}

/// Says no to whoever asks and is no reviewer. A member's token that may less than the member is held to that.
pub(super) fn reviews(
    state: &State,
    policy: &Policy,
    namespace: NamespaceId,
    what: &'static str,
    context: &Context,
) -> Result<(), Rejection> {
    let named = actor_person(state, context.actor).is_some_and(|id| policy.reviewers.people.contains(&id));
    let by_role = role(state, context.actor).is_some_and(|role| policy.reviewers.has(role));
    if (named || by_role) && is_reviewer(state, policy, who(state, context.actor), context.now) {
        return Ok(());
    }
    let path = there(state, namespace)?.path.clone();
    Err(ConfigRefusal::NotAReviewer { path, what, reviewers: told(state, &policy.reviewers) }.into())
}

fn role(state: &State, actor: Actor) -> Option<Role> {
    match actor {
        Actor::Person(id) => state.people.get(&id).map(|person| person.role),
        Actor::Token(id) => state.tokens.get(&id).map(|token| token.role),
        Actor::System | Actor::Node(_) => None,
    }
}

fn told(state: &State, reviewers: &Reviewers) -> String {
    let roles = reviewers.roles.iter().map(|role| format!("the role {}", format!("{role:?}").to_lowercase()));
    let name = |person: &Person| person.name.to_string();
    let people = reviewers.people.iter().filter_map(|id| state.people.get(id).map(name));
    let all: Vec<String> = roles.chain(people).collect();
    all.join(", ")
}

impl Reviewers {
    fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}
