//! Tokens of people and programs: made, listed, revoked.

use super::{
    Http,
    access::Caller,
    answer::{At, Result, missing, refused},
    input::{Asked, Places, Said},
    reads::{self, Order},
    roles, rows,
    write::{self, Executed, Write},
};
use crate::secret::Secret;
use api::{Code, Page, PageQuery, Problem, Receipt, TokenRequest, TokenRow};
use axum::extract::State;
use domain::{
    Command, NewToken,
    state::{Holder, Scope},
};
use std::collections::BTreeSet;
use types::{DurationMs, TokenId};

/// The longest life of a token that is made over HTTP.
const LONGEST: DurationMs = DurationMs::from_secs(10 * 366 * 86_400);

/// `GET /v1/tokens`: those of the caller's org.
pub(super) async fn list(
    State(http): State<Http>,
    caller: Caller,
    Asked(query): Asked<PageQuery>,
) -> Result<At<Page<TokenRow>>> {
    let org = caller.own_org()?;
    let state = reads::fresh(&http, query.at_least).await?;
    let of_org = state.tokens.iter().filter(|(_, token)| token.org == Some(org));
    let rows = of_org.filter_map(|(id, token)| Some((id.to_string(), rows::token(&state, *id, token)?)));
    Ok(At::new(state.head, reads::page(rows.collect(), &query, Order::Rising)))
}

/// `POST /v1/tokens`: the secret is in this answer and in no other.
pub(super) async fn create(State(http): State<Http>, caller: Caller, said: Said) -> Result<At<Receipt>> {
    let (write, before) = write::open(&http, &caller, &said)?;
    if let Some(executed) = before {
        return write.receipt(&http, executed).await;
    }
    let TokenRequest { name, role, org, expires_in, scopes } = write::parse(&said)?;
    let org = match org {
        Some(name) => caller.org(&http.core.state(), name.as_str())?,
        None => caller.own_org()?,
    };
    let role = roles::meant(role);
    caller.must_cover(role)?;
    let scopes = match scopes {
        Some(scopes) => Some(scopes.iter().map(|text| scope(text)).collect::<Result<BTreeSet<_>>>()?),
        None => None,
    };
    caller.must_cover_scopes(&http.core.state(), scopes.as_ref())?;
    let secret = Secret::make(http.core.random());
    let expires = Some(http.core.now().plus(lifetime(expires_in)?));
    let token = NewToken { name, hash: secret.hash(), expires };
    let command = match scopes {
        Some(scopes) => Command::IssueToken { org, role, holder: Holder::Service(scopes), token },
        None => Command::CreateToken { org, role, token },
    };
    let executed = write.submit(&http, command).await?;
    with_secret(&http, &write, executed, &secret).await
}

fn scope(text: &str) -> Result<Scope> {
    text.parse().map_err(|error: types::ParseError| {
        Problem::new(Code::InvalidRequest, error.to_string()).with_path("scopes").into()
    })
}

/// A life that begins and ends.
pub(super) fn lifetime(asked: DurationMs) -> Result<DurationMs> {
    if asked.as_ms() == 0 || asked > LONGEST {
        return Err(refused(
            Code::InvalidRequest,
            format!("expires_in is {asked}; wants more than nothing and at most {LONGEST}"),
        ));
    }
    Ok(asked)
}

/// A receipt with the secret, unless another copy of the request was quicker: then the secret made
/// here opens nothing, and is not shown.
pub(super) async fn with_secret(
    http: &Http,
    write: &Write,
    executed: Executed,
    secret: &Secret,
) -> Result<At<Receipt>> {
    let shown = (!executed.replayed).then(|| secret.reveal().to_owned());
    write.receipt_with(http, executed, shown).await
}

/// `DELETE /v1/tokens/{id}`
pub(super) async fn revoke(
    State(http): State<Http>,
    caller: Caller,
    Places(id): Places<String>,
    said: Said,
) -> Result<At<Receipt>> {
    let (write, before) = write::open(&http, &caller, &said)?;
    let executed = match before {
        Some(executed) => executed,
        None => {
            let gone = || missing(format_args!("token {id}"));
            let token: TokenId = id.parse().map_err(|_| gone())?;
            let org = caller.own_org()?;
            // Join tokens and nodes belong to the server, which every owner may govern.
            let visible = |found: &domain::state::Token| found.org.is_none_or(|of| of == org);
            let state = http.core.state();
            let found = state.tokens.get(&token).filter(|found| visible(found)).ok_or_else(gone)?;
            // Those of machines are no role of people: whoever governs may end them.
            if roles::told(found.role).is_some() {
                caller.must_cover(found.role)?;
            }
            write.submit(&http, Command::RevokeToken { token }).await?
        }
    };
    write.receipt(&http, executed).await
}
