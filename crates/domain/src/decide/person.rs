//! People: added, given another role or password, removed, and their tokens.
//!
//! `an_org_keeps_an_owner`: an owner is a person with that role, or a living token of that role that
//! belongs to no person (a person's tokens end with the person). Nothing takes the last of them
//! away: not removing or demoting a person, and not revoking a token. One that ends by itself counts
//! until it has ended.

use super::{Decision, done, missing, unmoved};
use crate::{
    command::{Context, NewToken},
    event::{Event, Role},
    rejection::Rejection,
    state::{Holder, Identity, Person, State, Token},
};
use types::{Name, OrgId, PersonId, Timestamp, TokenId, limits};

/// Adds a member to an org.
pub(super) fn add(
    state: &State,
    org: OrgId,
    name: &Name,
    role: Role,
    hash: &str,
    context: &Context,
) -> Result<Decision, Rejection> {
    if !state.orgs.contains_key(&org) {
        return Err(missing(format!("org {org}")));
    }
    if state.person_names.contains_key(name) {
        return Err(Rejection::NameTaken { what: "member", name: name.clone() });
    }
    if state.person_names.len() >= limits::PEOPLE {
        let what = "people who may log in".to_owned();
        return Err(Rejection::TooMany { what, limit: limits::PEOPLE as u64 });
    }
    is_sound(role, hash)?;
    let person = PersonId::from_parts(context.now, context.dice(0));
    let added = Event::PersonAdded { person, org, name: name.clone(), role, hash: hash.to_owned() };
    Ok(done(vec![added], format!("added member {name}")))
}

/// Gives a member another role, another password, or both. With another password its tokens end, for whoever
/// knew the old one may have made some.
pub(super) fn set(
    state: &State,
    id: PersonId,
    role: Option<Role>,
    hash: Option<&str>,
    context: &Context,
) -> Result<Decision, Rejection> {
    let person = there(state, id)?;
    unmoved(person, context)?;
    let role = role.filter(|role| *role != person.role);
    is_sound(role.unwrap_or(person.role), hash.unwrap_or(&person.hash))?;
    if role.is_some() {
        keeps_an_owner(state, person, context.now)?;
    }
    let mut events = Vec::new();
    events.extend(role.map(|role| Event::PersonRoleChanged { person: id, role }));
    if let Some(hash) = hash {
        events.push(Event::PersonPasswordChanged { person: id, hash: hash.to_owned() });
        events.extend(tokens_end(state, id, context));
    }
    Ok(done(events, format!("changed member {}", person.name)))
}

/// Removes a member; its tokens end with it.
pub(super) fn remove(state: &State, id: PersonId, context: &Context) -> Result<Decision, Rejection> {
    let person = there(state, id)?;
    unmoved(person, context)?;
    keeps_an_owner(state, person, context.now)?;
    Ok(done(vec![Event::PersonRemoved { person: id }], format!("removed member {}", person.name)))
}

/// Lets a member log in as somebody whom a provider knows. An identity belongs to one member at most. With
/// another one than before the member's tokens end, as with another password.
pub(super) fn link(
    state: &State,
    id: PersonId,
    identity: &Identity,
    context: &Context,
) -> Result<Decision, Rejection> {
    let person = there(state, id)?;
    unmoved(person, context)?;
    let unsound = |text: &str, longest: usize| text.is_empty() || text.len() > longest;
    if unsound(&identity.issuer, limits::ISSUER) || unsound(&identity.subject, limits::SUBJECT) {
        let what = "the identity".to_owned();
        return Err(Rejection::Invalid { what, why: "has an empty part or one that is too long" });
    }
    match state.identities.get(identity) {
        Some(linked) if *linked == id => {
            return Ok(done(Vec::new(), format!("member {} is linked to it already", person.name)));
        }
        Some(linked) => {
            let name = state.people.get(linked).map(|person| person.name.to_string());
            let what = format!("this identity of {}", identity.issuer);
            let is = format!("linked to member {}", name.unwrap_or_else(|| linked.to_string()));
            return Err(Rejection::LifeCycle { what, is, cannot: "be linked to another" });
        }
        None => {}
    }
    let mut events = vec![Event::PersonLinked { person: id, identity: identity.clone() }];
    if person.link.is_some() {
        events.extend(tokens_end(state, id, context));
    }
    Ok(done(events, format!("member {} may log in by way of {}", person.name, identity.issuer)))
}

/// Takes that away again; what was opened with it is shut.
pub(super) fn unlink(state: &State, id: PersonId, context: &Context) -> Result<Decision, Rejection> {
    let person = there(state, id)?;
    unmoved(person, context)?;
    let mut events = Vec::new();
    if person.link.is_some() {
        events.push(Event::PersonUnlinked { person: id });
        events.extend(tokens_end(state, id, context));
    }
    Ok(done(events, format!("member {} is linked to no provider", person.name)))
}

/// The ends of a person's living tokens: whoever logged in as it before may have made some.
fn tokens_end(state: &State, id: PersonId, context: &Context) -> Vec<Event> {
    let held = Some(Holder::Person(id));
    let own = state.tokens.iter().filter(|(_, token)| token.holder == held && token.lives(context.now));
    own.map(|(token, _)| Event::TokenRevoked { token: *token }).collect()
}

/// Makes a token for a member or for a program.
pub(super) fn issue(
    state: &State,
    org: OrgId,
    role: Role,
    holder: &Holder,
    new: &NewToken,
    context: &Context,
) -> Result<Decision, Rejection> {
    if !state.orgs.contains_key(&org) {
        return Err(missing(format!("org {org}")));
    }
    is_sound(role, "")?;
    match holder {
        Holder::Person(id) => {
            let person = there(state, *id)?;
            let of_person = Some(Holder::Person(*id));
            let own = |token: &&Token| token.holder == of_person && token.lives(context.now);
            let limit = limits::TOKENS_OF_A_PERSON;
            if person.org != org {
                return Err(missing(format!("member {id}")));
            }
            if state.tokens.values().filter(own).count() >= limit {
                let what = format!("tokens of member {}", person.name);
                return Err(Rejection::TooMany { what, limit: limit as u64 });
            }
        }
        Holder::Service(scopes) if scopes.len() > limits::SCOPES => {
            let what = "scopes of one token".to_owned();
            return Err(Rejection::TooMany { what, limit: limits::SCOPES as u64 });
        }
        Holder::Service(_) => {}
    }
    let token = TokenId::from_parts(context.now, context.dice(0));
    let NewToken { name, hash, expires } = new.clone();
    let summary = format!("made token {token} ({name})");
    let issued = Event::TokenIssued { token, org, name, role, holder: holder.clone(), hash, expires };
    let mut decision = done(vec![issued], summary);
    decision.done.token = Some(token);
    Ok(decision)
}

/// How many ways there are to open an org as its owner.
pub(super) fn owners(state: &State, org: OrgId, now: Timestamp) -> usize {
    let people = state.people.values().filter(|person| is_owner(person) && person.org == org);
    let tokens = state.tokens.values().filter(|token| opens_as_owner(token, org, now));
    people.count() + tokens.count()
}

/// Whether a token is a way to open an org as its owner by itself.
pub(super) fn opens_as_owner(token: &Token, org: OrgId, now: Timestamp) -> bool {
    let of_person = matches!(token.holder, Some(Holder::Person(_)));
    token.role == Role::Owner && token.org == Some(org) && !of_person && token.lives(now)
}

fn is_owner(person: &Person) -> bool {
    person.is_there() && person.role == Role::Owner
}

fn keeps_an_owner(state: &State, leaving: &Person, now: Timestamp) -> Result<(), Rejection> {
    match is_owner(leaving) && owners(state, leaving.org, now) < 2 {
        true => Err(Rejection::LastOwner),
        false => Ok(()),
    }
}

fn there(state: &State, id: PersonId) -> Result<&Person, Rejection> {
    let found = state.people.get(&id).filter(|person| person.is_there());
    found.ok_or_else(|| missing(format!("member {id}")))
}

fn is_sound(role: Role, hash: &str) -> Result<(), Rejection> {
    if matches!(role, Role::Join | Role::Node | Role::MemberJoin) {
        return Err(Rejection::Invalid { what: "the role".to_owned(), why: "is not one of people" });
    }
    if hash.len() > limits::PASSWORD_HASH {
        return Err(Rejection::Invalid { what: "the password's hash".to_owned(), why: "is too long" });
    }
    Ok(())
}
