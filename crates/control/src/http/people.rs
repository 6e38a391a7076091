//! Members of an org: people with a name, a password and a role; and what each may do for itself.
//!
//! Routes and the command line call them members; here they are people, for members of the cluster
//! have that name.

use super::{
    Http,
    access::{By, Caller},
    answer::{At, Result, missing, refused},
    input::{Asked, Places, Said},
    password,
    reads::{self, Order},
    roles, rows,
    session::{self, Peer},
    tokens,
    write::{self, Executed, Write},
};
use crate::secret::Secret;
use api::{
    Code, OwnTokenRequest, Page, PageQuery, PasswordChange, PersonChange, PersonIdentity, PersonRequest,
    PersonRow, Problem, Receipt, TokenRow,
};
use axum::extract::State;
use domain::{
    Command, NewToken, State as Decided,
    state::{Holder, Identity, Person},
};
use types::{Name, PersonId, TokenId};

/// `GET /v1/members`: those of the caller's org.
pub(super) async fn list(
    State(http): State<Http>,
    caller: Caller,
    Asked(query): Asked<PageQuery>,
) -> Result<At<Page<PersonRow>>> {
    let org = caller.own_org()?;
    let state = reads::fresh(&http, query.at_least).await?;
    let now = http.core.now();
    let ids = state.person_names.values();
    let people = ids.filter_map(|id| Some((*id, state.people.get(id)?)));
    let own = people.filter(|(_, person)| person.org == org);
    let rows = own
        .filter_map(|(id, person)| Some((person.name.to_string(), rows::person(&state, id, person, now)?)));
    Ok(At::new(state.head, reads::page(rows.collect(), &query, Order::Rising)))
}

/// `POST /v1/members`
pub(super) async fn create(State(http): State<Http>, caller: Caller, said: Said) -> Result<At<Receipt>> {
    let (write, before) = write::open(&http, &caller, &said)?;
    let executed = match before {
        Some(executed) => executed,
        None => {
            let PersonRequest { name, role, password } = write::parse(&said)?;
            let (org, role) = (caller.own_org()?, roles::meant(role));
            caller.must_be_no_service(&http.core.state())?;
            caller.must_cover(role)?;
            let hash = match password {
                Some(password) => {
                    password::acceptable(&password, name.as_str())?;
                    password::hash(&http, &password).await?
                }
                None => String::new(),
            };
            write.submit(&http, Command::AddPerson { org, name, role, hash }).await?
        }
    };
    write.receipt(&http, executed).await
}

/// `POST /v1/members/{name}`: another role, another password, or both.
pub(super) async fn set(
    State(http): State<Http>,
    caller: Caller,
    Places(name): Places<String>,
    said: Said,
) -> Result<At<Receipt>> {
    let (write, before) = write::open(&http, &caller, &said)?;
    let executed = match before {
        Some(executed) => executed,
        None => {
            let PersonChange { role, password } = write::parse(&said)?;
            let state = http.core.state();
            caller.must_be_no_service(&state)?;
            let (person, found) = find(&state, &caller, &name)?;
            let role = role.map(roles::meant);
            // Whoever sets a password can log in with it: that is all that its role may do.
            caller.must_cover(found.role)?;
            role.map_or(Ok(()), |role| caller.must_cover(role))?;
            write.check(Some(found.changed))?;
            let hash = match password {
                Some(password) => {
                    password::acceptable(&password, found.name.as_str())?;
                    Some(password::hash(&http, &password).await?)
                }
                None => None,
            };
            write.submit(&http, Command::SetPerson { person, role, hash }).await?
        }
    };
    write.receipt(&http, executed).await
}

/// `DELETE /v1/members/{name}`: its sessions and tokens end with it.
pub(super) async fn remove(
    State(http): State<Http>,
    caller: Caller,
    Places(name): Places<String>,
    said: Said,
) -> Result<At<Receipt>> {
    let (write, before) = write::open(&http, &caller, &said)?;
    let executed = match before {
        Some(executed) => executed,
        None => {
            let state = http.core.state();
            caller.must_be_no_service(&state)?;
            let (person, found) = find(&state, &caller, &name)?;
            caller.must_cover(found.role)?;
            write.check(Some(found.changed))?;
            write.submit(&http, Command::RemovePerson { person }).await?
        }
    };
    write.receipt(&http, executed).await
}

/// `POST /v1/members/{name}/identity`: whoever links one can log in as that member, as whoever sets its
/// password can.
pub(super) async fn link(
    State(http): State<Http>,
    caller: Caller,
    Places(name): Places<String>,
    said: Said,
) -> Result<At<Receipt>> {
    let (write, before) = write::open(&http, &caller, &said)?;
    let executed = match before {
        Some(executed) => executed,
        None => {
            let PersonIdentity { issuer, subject } = write::parse(&said)?;
            let state = http.core.state();
            caller.must_be_no_service(&state)?;
            let (person, found) = find(&state, &caller, &name)?;
            caller.must_cover(found.role)?;
            write.check(Some(found.changed))?;
            let identity = Identity { issuer, subject };
            write.submit(&http, Command::LinkPerson { person, identity }).await?
        }
    };
    write.receipt(&http, executed).await
}

/// `DELETE /v1/members/{name}/identity`: sessions that were opened that way end.
pub(super) async fn unlink(
    State(http): State<Http>,
    caller: Caller,
    Places(name): Places<String>,
    said: Said,
) -> Result<At<Receipt>> {
    let (write, before) = write::open(&http, &caller, &said)?;
    let executed = match before {
        Some(executed) => executed,
        None => {
            let state = http.core.state();
            caller.must_be_no_service(&state)?;
            let (person, found) = find(&state, &caller, &name)?;
            caller.must_cover(found.role)?;
            write.check(Some(found.changed))?;
            write.submit(&http, Command::UnlinkPerson { person }).await?
        }
    };
    write.receipt(&http, executed).await
}

fn find(state: &Decided, caller: &Caller, name: &str) -> Result<(PersonId, Person)> {
    let id = name.parse::<Name>().ok().and_then(|name| state.person_names.get(&name).copied());
    let found = id.and_then(|id| Some((id, state.people.get(&id)?)));
    let own = caller.own_org()?;
    let found = found.filter(|(_, person)| person.org == own);
    found.map(|(id, person)| (id, person.clone())).ok_or_else(|| missing(format_args!("member {name}")))
}

/// The person that asks, by a session or a token of its own.
fn own(state: &Decided, caller: &Caller) -> Result<(PersonId, Person)> {
    let found = caller.person(state).and_then(|id| Some((id, state.people.get(&id)?.clone())));
    found.ok_or_else(|| {
        let problem = Problem::new(Code::Forbidden, "this token belongs to nobody who could log in");
        problem.with_hint("holdfast members create NAME makes somebody who can").into()
    })
}

/// `POST /v1/whoami/password`: the present one is asked for, since whoever finds a page open must not
/// be able to keep its owner out.
pub(super) async fn own_password(
    State(http): State<Http>,
    caller: Caller,
    said: Said,
) -> Result<At<Receipt>> {
    let (write, before) = write::open(&http, &caller, &said)?;
    let executed = match before {
        Some(executed) => executed,
        None => {
            let PasswordChange { current, password } = write::parse(&said)?;
            let (id, person) = own(&http.core.state(), &caller)?;
            let (name, address) =
                (person.name.as_str(), said.parts.extensions.get::<Peer>().map(|peer| peer.0));
            password::acceptable(&password, name)?;
            http.logins.begin(name, address)?;
            if !password::check(&http, &current, Some(person.hash.clone())).await? {
                http.logins.failed();
                return Err(refused(Code::Forbidden, "the present password is another one"));
            }
            http.logins.forgive(name, address);
            let hash = Some(password::hash(&http, &password).await?);
            // Set by another meanwhile: what was checked is no password any more.
            if session::still(&http.core.state(), id, person.password).is_none() {
                return Err(refused(Code::Conflict, "the password was changed meanwhile"));
            }
            write.submit(&http, Command::SetPerson { person: id, role: None, hash }).await?
        }
    };
    write.receipt(&http, executed).await
}

/// `GET /v1/whoami/tokens`
pub(super) async fn own_tokens(
    State(http): State<Http>,
    caller: Caller,
    Asked(query): Asked<PageQuery>,
) -> Result<At<Page<TokenRow>>> {
    let state = reads::fresh(&http, query.at_least).await?;
    let (id, _) = own(&state, &caller)?;
    let held = state.tokens.iter().filter(|(_, token)| token.holder == Some(Holder::Person(id)));
    let rows = held.filter_map(|(id, token)| Some((id.to_string(), rows::token(&state, *id, token)?)));
    Ok(At::new(state.head, reads::page(rows.collect(), &query, Order::Rising)))
}

/// `POST /v1/whoami/tokens`: only who has logged in makes one, so that a token cannot outlive itself.
pub(super) async fn own_token(State(http): State<Http>, caller: Caller, said: Said) -> Result<At<Receipt>> {
    let (write, before) = write::open(&http, &caller, &said)?;
    if let Some(executed) = before {
        return write.receipt(&http, executed).await;
    }
    let (id, person) = own(&http.core.state(), &caller)?;
    if !matches!(caller.by, By::Session { .. }) {
        let problem = Problem::new(Code::Forbidden, "a token of one's own is made by who has logged in");
        return Err(problem.with_hint("holdfast login asks for the password and makes one").into());
    }
    let OwnTokenRequest { name, role, expires_in } = write::parse(&said)?;
    let role = role.map_or(person.role, roles::meant);
    caller.must_cover(role)?;
    let secret = Secret::make(http.core.random());
    let expires = Some(http.core.now().plus(tokens::lifetime(expires_in)?));
    let token = NewToken { name, hash: secret.hash(), expires };
    let command = Command::IssueToken { org: person.org, role, holder: Holder::Person(id), token };
    let executed = write.submit(&http, command).await?;
    tokens::with_secret(&http, &write, executed, &secret).await
}

/// `DELETE /v1/whoami/tokens/{id}`
pub(super) async fn revoke_own(
    State(http): State<Http>,
    caller: Caller,
    Places(id): Places<String>,
    said: Said,
) -> Result<At<Receipt>> {
    let (write, before): (Write, Option<Executed>) = write::open(&http, &caller, &said)?;
    let executed = match before {
        Some(executed) => executed,
        None => {
            let state = http.core.state();
            let (person, _) = own(&state, &caller)?;
            let gone = || missing(format_args!("token {id}"));
            let token: TokenId = id.parse().map_err(|_| gone())?;
            let is_own = |found: &&domain::state::Token| found.holder == Some(Holder::Person(person));
            state.tokens.get(&token).filter(is_own).ok_or_else(gone)?;
            write.submit(&http, Command::RevokeToken { token }).await?
        }
    };
    write.receipt(&http, executed).await
}
