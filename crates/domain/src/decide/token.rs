//! Tokens, and the first command of a log.

use super::{Decision, done, missing, person};
use crate::{
    command::{Context, NewToken},
    event::{Event, Role},
    rejection::Rejection,
    state::State,
};
use types::{Name, OrgId, TokenId};

/// Names the log, and makes the first org with its owner token.
pub(super) fn bootstrap(
    state: &State,
    cluster: &str,
    org_name: &Name,
    owner: &NewToken,
    context: &Context,
) -> Result<Decision, Rejection> {
    if !state.cluster.is_empty() {
        return Err(Rejection::Begun);
    }
    let org = OrgId::from_parts(context.now, context.dice(0));
    let token = TokenId::from_parts(context.now, context.dice(1));
    let events = vec![
        Event::ClusterCreated { cluster: cluster.to_owned() },
        Event::OrgCreated { org, name: org_name.clone() },
        created(token, Some(org), Role::Owner, owner),
    ];
    let mut decision = done(events, format!("began the log of {cluster}"));
    decision.done.token = Some(token);
    Ok(decision)
}

/// Makes a token for people or programs.
pub(super) fn create(
    state: &State,
    org: OrgId,
    role: Role,
    new: &NewToken,
    context: &Context,
) -> Result<Decision, Rejection> {
    if !state.orgs.contains_key(&org) {
        return Err(missing(format!("org {org}")));
    }
    let token = TokenId::from_parts(context.now, context.dice(0));
    let mut decision =
        done(vec![created(token, Some(org), role, new)], format!("made token {token} ({})", new.name));
    decision.done.token = Some(token);
    Ok(decision)
}

/// Makes a token that enrols one node.
pub(super) fn create_join(new: &NewToken, context: &Context) -> Result<Decision, Rejection> {
    let token = TokenId::from_parts(context.now, context.dice(0));
    let mut decision = done(vec![created(token, None, Role::Join, new)], format!("made join token {token}"));
    decision.done.token = Some(token);
    Ok(decision)
}

fn created(token: TokenId, org: Option<OrgId>, role: Role, new: &NewToken) -> Event {
    Event::TokenCreated {
        token,
        org,
        name: new.name.clone(),
        role,
        node: None,
        hash: new.hash,
        expires: new.expires,
    }
}

/// Ends a token, unless nobody could open its org then.
pub(super) fn revoke(state: &State, id: TokenId, context: &Context) -> Result<Decision, Rejection> {
    let token = state.tokens.get(&id).ok_or_else(|| missing(format!("token {id}")))?;
    if token.dead {
        return Ok(done(Vec::new(), "was revoked before"));
    }
    // One that ends by itself counts as well: over HTTP every token does, and a first token that
    // could never be revoked would be worse than an org whose last owner has to renew in time.
    let last =
        |org| person::opens_as_owner(token, org, context.now) && person::owners(state, org, context.now) < 2;
    if token.org.is_some_and(last) {
        return Err(Rejection::LastOwner);
    }
    let mut decision =
        done(vec![Event::TokenRevoked { token: id }], format!("revoked token {id} ({})", token.name));
    decision.done.token = Some(id);
    Ok(decision)
}
