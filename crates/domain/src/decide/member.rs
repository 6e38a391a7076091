//! Members of the cluster: admitted with a secret that works once, removed by a confirmed act. An id is
//! given once and never again, also not to the machine that had it.

use super::{Decision, done, missing};
use crate::{
    command::{Context, NewMember, NewToken},
    confirmed::{Confirmation, Confirmed},
    event::{Actor, Event, Role},
    rejection::Rejection,
    state::{MemberState, State, Token},
};
use types::{NodeId, TokenId, limits};

/// Makes a secret that admits one member.
pub(super) fn create_join(new: &NewToken, context: &Context) -> Result<Decision, Rejection> {
    let token = TokenId::from_parts(context.now, context.dice(0));
    let created = Event::TokenCreated {
        token,
        org: None,
        name: new.name.clone(),
        role: Role::MemberJoin,
        node: None,
        hash: new.hash,
        expires: new.expires,
    };
    let mut decision = done(vec![created], format!("made join token {token} for a member"));
    decision.done.token = Some(token);
    Ok(decision)
}

/// The member that began the cluster, under the id that its log was made with.
pub(super) fn found(
    state: &State,
    node: NodeId,
    new: &NewMember,
    context: &Context,
) -> Result<Decision, Rejection> {
    if let Some(found) = state.members.get(&node) {
        return Ok(about(node, done(Vec::new(), format!("member {} was there before", found.name))));
    }
    if context.actor != Actor::System || state.members.values().any(MemberState::is_present) {
        return Err(Rejection::Begun);
    }
    acceptable(state, new)?;
    Ok(about(node, done(vec![admitted(node, new, None)], format!("member {} begins", new.name))))
}

/// Makes a member and uses its join secret up.
pub(super) fn admit(
    state: &State,
    secret: [u8; 32],
    new: &NewMember,
    context: &Context,
) -> Result<Decision, Rejection> {
    let lives = |token: &Token| token.role == Role::MemberJoin && token.lives(context.now);
    let join = state.token_hashes.get(&secret).copied();
    let join = join.filter(|id| state.tokens.get(id).is_some_and(lives)).ok_or(Rejection::TokenDead)?;
    acceptable(state, new)?;
    let node = NodeId::from_parts(context.now, context.dice(0));
    let decision = done(vec![admitted(node, new, Some(join))], format!("admitted member {}", new.name));
    Ok(about(node, decision))
}

fn admitted(node: NodeId, new: &NewMember, join: Option<TokenId>) -> Event {
    let NewMember { name, peer, api, votes } = new.clone();
    Event::MemberAdmitted { node, name, peer, api, votes, join }
}

fn about(node: NodeId, mut decision: Decision) -> Decision {
    decision.done.node = Some(node);
    decision
}

fn acceptable(state: &State, new: &NewMember) -> Result<(), Rejection> {
    let NewMember { name, peer, api, .. } = new;
    peer_address(peer)?;
    let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    if !api.is_empty() && (!is_url(api) || !is_plain(api)) {
        return Err(Rejection::Invalid {
            what: format!("the address {:?} of its API", shown(api)),
            why: "wants to be empty, or a URL with http:// or https:// of bounded length",
        });
    }
    let present = || state.members.iter().filter(|(_, member)| member.is_present());
    if present().any(|(_, member)| member.name == *name) {
        return Err(Rejection::NameTaken { what: "member", name: name.clone() });
    }
    if let Some((_, other)) = present().find(|(_, member)| member.peer == *peer) {
        let (what, is) = (format!("the address {peer}"), format!("that of member {}", other.name));
        return Err(Rejection::LifeCycle { what, is, cannot: "be that of another" });
    }
    if present().count() >= limits::MEMBERS {
        return Err(Rejection::TooMany {
            what: "members of a cluster".into(),
            limit: limits::MEMBERS as u64,
        });
    }
    Ok(())
}

/// `host:port`, with IPv6 addresses in brackets.
fn peer_address(peer: &str) -> Result<(), Rejection> {
    let sound = peer.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        !host.is_empty()
            && (bracketed || !host.contains(':'))
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    match sound && is_plain(peer) {
        true => Ok(()),
        false => Err(Rejection::Invalid {
            what: format!("the address {:?} for peers", shown(peer)),
            why: "wants host:port, of bounded length",
        }),
    }
}

fn is_plain(text: &str) -> bool {
    text.len() <= limits::ADDRESS_CHARS && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

/// Takes a member out of the cluster, for ever.
pub(super) fn remove(
    state: &State,
    node: NodeId,
    confirmed: &Confirmed,
    context: &Context,
) -> Result<Decision, Rejection> {
    let member = state.members.get(&node).ok_or_else(|| missing(format!("member {node}")))?;
    if !member.is_present() {
        return Ok(about(node, done(Vec::new(), format!("member {} was removed before", member.name))));
    }
    bounded(confirmed)?;
    let voters = |member: &&MemberState| member.is_present() && member.votes;
    // Offline, the last of a cluster that this log was recovered from: its voter is another now.
    let is_lost = confirmed.kind == Confirmation::Offline && context.actor == Actor::System;
    if member.votes && !is_lost && state.members.values().filter(voters).count() < 2 {
        let what = format!("member {}", member.name);
        return Err(Rejection::LifeCycle { what, is: "the only voter".into(), cannot: "be removed" });
    }
    let removed = Event::MemberRemoved { node, confirmed: confirmed.clone() };
    Ok(about(node, done(vec![removed], format!("removed member {}", member.name))))
}

/// Writes down a guarded act that changes nothing else in the log.
pub(super) fn confirm(act: &str, target: &str, confirmed: &Confirmed) -> Result<Decision, Rejection> {
    bounded(confirmed)?;
    for (text, what) in [(act, "the act"), (target, "the target of the act")] {
        let count = text.chars().count();
        if count > limits::ACT_CHARS
            || text.chars().any(char::is_control)
            || (text.is_empty() && what == "the act")
        {
            let why = "wants one line of bounded length";
            return Err(Rejection::Invalid { what: what.to_owned(), why });
        }
    }
    let event =
        Event::ActConfirmed { act: act.to_owned(), target: target.to_owned(), confirmed: confirmed.clone() };
    Ok(done(vec![event], format!("confirmed: {act} {target}").trim_end().to_owned()))
}

/// What a server lets through is bounded there; the log does not rest on that.
pub(super) fn bounded(confirmed: &Confirmed) -> Result<(), Rejection> {
    let Confirmed { acknowledged, reason, .. } = confirmed;
    let too_many =
        |what: &str, limit: usize| Err(Rejection::TooMany { what: what.to_owned(), limit: limit as u64 });
    if reason.chars().count() > limits::REASON_CHARS {
        return too_many("characters of a reason", limits::REASON_CHARS);
    }
    if acknowledged.len() > limits::ACKNOWLEDGEMENTS {
        return too_many("acknowledgements of one act", limits::ACKNOWLEDGEMENTS);
    }
    if acknowledged.iter().any(|text| text.chars().count() > limits::ACKNOWLEDGEMENT_CHARS) {
        return too_many("characters of an acknowledgement", limits::ACKNOWLEDGEMENT_CHARS);
    }
    Ok(())
}
