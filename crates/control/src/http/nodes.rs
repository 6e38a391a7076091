//! Nodes as operators see them, and how a machine becomes one.

use super::{
    Http,
    access::Caller,
    answer::{At, Refused, Result, missing, refused},
    input::{Asked, Places, Said},
    reads::{self, Order},
    rows, tokens,
    write::{self, Executed, Write},
};
use crate::secret::Secret;
use api::{
    Code, EnrolRequest, Enrolled, JoinTokenRequest, NodeRow, Outcome, Page, PageQuery, Problem, Receipt,
};
use axum::extract::State;
use domain::{Actor, Command, NewToken, Role};
use types::{Name, NodeId, TokenId};

/// `GET /v1/nodes`
pub(super) async fn list(
    State(http): State<Http>,
    Asked(query): Asked<PageQuery>,
) -> Result<At<Page<NodeRow>>> {
    let state = reads::fresh(&http, query.at_least).await?;
    let (observed, now) = (http.core.observations().snapshot(), http.core.now());
    let mut rows: Vec<NodeRow> =
        state.nodes.iter().map(|(id, node)| rows::node(*id, node, &observed, now)).collect();
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    let keyed = rows.into_iter().map(|row| (row.name.to_string(), row)).collect();
    Ok(At::new(state.head, reads::page(keyed, &query, Order::Rising)))
}

/// A node by its name or its id.
pub(super) fn find(http: &Http, text: &str) -> Result<NodeId> {
    let state = http.core.state();
    let by_name = text.parse::<Name>().ok().and_then(|name| state.node_names.get(&name).copied());
    let by_id = || text.parse::<NodeId>().ok().filter(|id| state.nodes.contains_key(id));
    by_name.or_else(by_id).ok_or_else(|| missing(format_args!("node {text}")))
}

/// `POST /v1/nodes/{node}/drain`
pub(super) async fn drain(
    State(http): State<Http>,
    caller: Caller,
    Places(node): Places<String>,
    said: Said,
) -> Result<At<Receipt>> {
    change(&http, &caller, &node, &said, |node| Command::DrainNode { node }).await
}

/// `POST /v1/nodes/{node}/activate`
pub(super) async fn activate(
    State(http): State<Http>,
    caller: Caller,
    Places(node): Places<String>,
    said: Said,
) -> Result<At<Receipt>> {
    change(&http, &caller, &node, &said, |node| Command::ActivateNode { node }).await
}

async fn change(
    http: &Http,
    caller: &Caller,
    node: &str,
    said: &Said,
    command: impl FnOnce(NodeId) -> Command,
) -> Result<At<Receipt>> {
    let (write, before) = write::open(http, caller, said)?;
    let executed = match before {
        Some(executed) => executed,
        None => write.submit(http, command(find(http, node)?)).await?,
    };
    write.receipt(http, executed).await
}

/// `POST /v1/join-tokens`: the secret is in this answer and in no other.
pub(super) async fn create_join(State(http): State<Http>, caller: Caller, said: Said) -> Result<At<Receipt>> {
    let (write, before) = write::open(&http, &caller, &said)?;
    if let Some(executed) = before {
        return write.receipt(&http, executed).await;
    }
    let JoinTokenRequest { expires_in } = write::parse(&said)?;
    let secret = Secret::make(http.core.random());
    let expires = Some(http.core.now().plus(tokens::lifetime(expires_in)?));
    let name = "join".parse().expect("a valid name");
    let token = NewToken { name, hash: secret.hash(), expires };
    let executed = write.submit(&http, Command::CreateJoin { token }).await?;
    // Whoever joins believes this server and no other: the fingerprint goes with the secret.
    let shown = match http.pin {
        Some(pin) => format!("{}.{pin}", secret.reveal()),
        None => secret.reveal().to_owned(),
    };
    let shown = (!executed.replayed).then_some(shown);
    write.receipt_with(&http, executed, shown).await
}

/// `POST /v1/enrol`: the join secret in the body is what lets the caller in.
pub(super) async fn enrol(State(http): State<Http>, said: Said) -> Result<At<Enrolled>> {
    let request: EnrolRequest = write::parse(&said)?;
    let join = join_token(&http, &said, &request.join_token)?;
    let write = Write::of(&http, &said, Actor::Token(join), None)?;
    if let Some(executed) = write.before(&http.core.state())? {
        return Err(enrolled_before(&write, &executed));
    }
    alive(&http, join)?;
    if request.roles.is_empty() {
        return Err(refused(Code::InvalidRequest, "a node plays at least one role: agent or edge"));
    }
    let credential = Secret::make(http.core.random());
    let command = Command::EnrolNode {
        join,
        name: request.name,
        roles: request.roles.into_iter().collect(),
        capacity: request.capacity,
        credential: credential.hash(),
    };
    let executed = write.submit(&http, command).await?;
    if executed.replayed {
        return Err(enrolled_before(&write, &executed));
    }
    let _late = http.core.wait_for(executed.event).await;
    let state = http.core.state();
    let made = executed.done.node.and_then(|id| Some((id, state.nodes.get(&id)?)));
    let Some((node, made)) = made else {
        return Err(refused(Code::Internal, "the node was enrolled and is not in the state"));
    };
    let enrolled = Enrolled {
        node,
        credential: credential.reveal().to_owned(),
        cluster: http.core.identity(),
        prefix: made.prefix,
    };
    Ok(At::new(executed.event, enrolled))
}

/// The join token that this secret belongs to. A used one is found by the request that used it, so
/// that a request sent again gets its own verdict.
fn join_token(http: &Http, said: &Said, secret: &str) -> Result<TokenId> {
    let state = http.core.state();
    let hash = Secret::from_text(secret).hash();
    let used = || match state.requests.get(write::request_id(&said.parts.headers)?)?.principal {
        Actor::Token(token) => Some(token),
        Actor::System | Actor::Node(_) | Actor::Person(_) => None,
    };
    let found = state.token_hashes.get(&hash).copied().or_else(used);
    let fits = |id: &TokenId| {
        state.tokens.get(id).is_some_and(|token| token.role == Role::Join && token.hash == hash)
    };
    found.filter(fits).ok_or_else(|| no_entry("the join token is not known here, or was used"))
}

fn alive(http: &Http, join: TokenId) -> Result<()> {
    let (state, now) = (http.core.state(), http.core.now());
    match state.tokens.get(&join) {
        Some(token) if token.lives(now) => Ok(()),
        Some(token) if token.dead => Err(no_entry("the join token was used or revoked")),
        _ => Err(no_entry("the join token has expired")),
    }
}

fn no_entry(why: &str) -> Refused {
    Problem::new(Code::Unauthenticated, why)
        .with_hint("ask an owner for a new one: holdfast nodes join-token")
        .into()
}

/// The credential went out once and is kept nowhere.
fn enrolled_before(write: &Write, executed: &Executed) -> Refused {
    let detail = "this request enrolled its node before; the credential was in the first answer only";
    let problem = Problem::new(Code::Conflict, detail).with_request(write.id).with_outcome(Outcome::Executed);
    let problem = problem.with_hint("make a new join token and enrol under another name");
    Refused { problem: Box::new(problem), event: Some(executed.event), settled: true }
}
