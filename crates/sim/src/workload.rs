//! What people and reconcilers ask for in a round: some of it right, some refused, some sent twice.

use control::Proposal;
use domain::{Actor, Command, NewToken, Role, State};
use rt::{Random, SimRandom};
use types::{DurationMs, EnvId, Name, OrgId, RequestId, Timestamp, TokenId};

fn name(text: &str) -> Name {
    text.parse().expect("a plain word is a name")
}

pub(crate) fn token(random: &SimRandom) -> NewToken {
    let mut hash = [0; 32];
    hash[..16].copy_from_slice(&random.u128().to_le_bytes());
    // Some names have one length: records of equal size are where a tail that was not cut shows.
    let length = if random.percent(50) { 8 } else { 1 + random.below(30) as usize };
    NewToken { name: name(&"n".repeat(length)), hash, expires: None }
}

/// What a log begins with.
pub(crate) fn begin(random: &SimRandom) -> Command {
    Command::Bootstrap { cluster: "sim".into(), org: name("acme"), owner: token(random) }
}

/// The next few proposals.
pub(crate) fn proposals(
    state: &State,
    random: &SimRandom,
    now: Timestamp,
    sent: &mut Vec<Proposal>,
) -> Vec<Proposal> {
    let mut proposals = Vec::new();
    if state.cluster.is_empty() {
        let command = begin(random);
        proposals.push(Proposal { command, actor: Actor::System, judged: None, request: None, cause: None });
    }
    for _ in 0..=random.below(6) {
        // A client that heard nothing sends the same again.
        if !sent.is_empty() && random.percent(15) {
            proposals.push(sent[random.below(sent.len() as u64) as usize].clone());
            continue;
        }
        let mut body = [0; 32];
        body[..16].copy_from_slice(&random.u128().to_le_bytes());
        let request = RequestId::from_parts(now, random.u128());
        let actor = Actor::Token(TokenId::from_u128(1 + u128::from(random.below(3))));
        let command = command(state, random);
        let proposal = Proposal { command, actor, judged: None, request: Some((request, body)), cause: None };
        sent.push(proposal.clone());
        proposals.push(proposal);
    }
    if random.percent(5) {
        let to = now.minus(DurationMs::from_secs(24 * 3600));
        let command = Command::MoveHorizon { to };
        proposals.push(Proposal { command, actor: Actor::System, judged: None, request: None, cause: None });
    }
    proposals
}

fn command(state: &State, random: &SimRandom) -> Command {
    let org = state.orgs.keys().next().copied().unwrap_or(OrgId::from_u128(0));
    match random.below(10) {
        0..6 => Command::CreateToken { org, role: Role::Viewer, token: token(random) },
        6 => Command::CreateJoin { token: token(random) },
        7 => {
            let tokens: Vec<TokenId> = state.tokens.keys().copied().collect();
            let known = tokens.get(random.below(tokens.len().max(1) as u64) as usize);
            Command::RevokeToken { token: known.copied().unwrap_or(TokenId::from_u128(random.u128())) }
        }
        8 => Command::Scale { env: EnvId::from_u128(random.u128()), process: name("web"), replicas: 2 },
        _ => Command::CreateToken {
            org: OrgId::from_u128(random.u128()),
            role: Role::Owner,
            token: token(random),
        },
    }
}
