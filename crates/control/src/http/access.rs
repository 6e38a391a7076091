//! The gate: who asks, and whether the table lets them. Deny by default, in one place.
//!
//! Secrets are 256 random bits and looked up by their SHA-256, so how long a look-up takes says
//! nothing about any secret.

use super::{
    Http, Shared,
    answer::{Carried, Refused, Result, missing, refused},
    attempts, copies, forward, rim,
    roles::{self, Permission},
    session,
    table::{self, Row, Rule},
    write,
};
use crate::secret::Secret;
use api::{Code, Problem, routes};
use axum::{
    extract::{FromRequestParts, MatchedPath, Request, State},
    http::{Extensions, HeaderMap, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use domain::{
    Actor, Role, State as Decided,
    state::{Holder, Person, Scope, Token},
};
use std::collections::BTreeSet;
use types::{EventId, Name, NodeId, OrgId, PersonId, RequestId, Timestamp, TokenId};

/// Who asks, as the gate found out. A handler of a route that is not open takes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// What showed who it is.
    pub(super) by: By,
    /// Whose it is.
    pub(super) who: Who,
    /// The event of the state that says so: a write is refused if the asker was changed after it.
    pub(super) judged: EventId,
    /// The session that it came by; none without one, and if it is another member's, which says so.
    pub(super) session: Option<session::Key>,
}

/// What shows who somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A token: borne by the request, or given at login.
    Token(TokenId),
    /// A session, opened with the password or the link to an identity that an event had set.
    Session {
        /// Who has logged in.
        person: PersonId,
        /// That event.
        proof: EventId,
    },
}

impl By {
    /// Whom it shows, as the log names them.
    pub(super) fn owner(self) -> Actor {
        match self {
            Self::Token(token) => Actor::Token(token),
            Self::Session { person, .. } => Actor::Person(person),
        }
    }
}

/// The two kinds of callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A person or a program, in one org.
    Person {
        /// What it may do: one of [`roles::PEOPLE`].
        role: Role,
        /// The org the token is bound to.
        org: OrgId,
    },
    /// A node, for itself only.
    Node(NodeId),
}

impl Caller {
    /// The org with this name, if it is the caller's. Another org's is as missing as none.
    pub(super) fn org(&self, state: &Decided, name: &str) -> Result<OrgId> {
        let id = name.parse::<Name>().ok().and_then(|name| state.org_names.get(&name).copied());
        match (id, self.who) {
            (Some(id), Who::Person { org, .. }) if id == org => Ok(id),
            _ => Err(missing(format_args!("org {name}"))),
        }
    }

    /// The org of a person.
    pub(super) fn own_org(&self) -> Result<OrgId> {
        match self.who {
            Who::Person { org, .. } => Ok(org),
            Who::Node(_) => Err(refused(Code::Forbidden, "a node belongs to no org")),
        }
    }

    /// The node that asks.
    pub(super) fn node(&self) -> Result<NodeId> {
        match self.who {
            Who::Node(node) => Ok(node),
            Who::Person { .. } => Err(refused(Code::Forbidden, "only a node may ask for this")),
        }
    }

    /// Whether its role has a permission.
    pub(super) fn may(&self, permission: Permission) -> bool {
        matches!(self.who, Who::Person { role, .. } if permission.is_of(role))
    }

    /// The same for what goes on only then.
    pub(super) fn must(&self, permission: Permission) -> Result<()> {
        let Who::Person { role, .. } = self.who else {
            let detail = "a node's credential opens nothing but the node's own paths";
            return Err(refused(Code::Forbidden, detail));
        };
        if permission.is_of(role) {
            return Ok(());
        }
        let detail =
            format!("the role {} may not do this; it takes {}", roles::name(role), permission.holders());
        let problem = Problem::new(Code::Forbidden, detail);
        Err(problem.with_hint("holdfast whoami says who you are; docs/access.md says who may do what").into())
    }

    /// Whether it may give a role to somebody, or take it away.
    pub(super) fn must_cover(&self, given: Role) -> Result<()> {
        match self.who {
            Who::Person { role, .. } if roles::covers(role, given) => Ok(()),
            Who::Person { role, .. } => {
                let (giver, given) = (roles::name(role), roles::name(given));
                let detail = format!("the role {giver} may not give or take away the role {given}");
                Err(refused(Code::Forbidden, detail))
            }
            Who::Node(_) => Err(refused(Code::Forbidden, "a node gives no role")),
        }
    }

    /// Whether it may make a token with these scopes; none for one that is no service principal's. Whoever is one
    /// itself makes only others with scopes that it has: else a scope would be a step away from everybody.
    pub(super) fn must_cover_scopes(&self, state: &Decided, given: Option<&BTreeSet<Scope>>) -> Result<()> {
        let Some(own) = self.scopes(state) else { return Ok(()) };
        if given.is_some_and(|given| given.is_subset(own)) {
            return Ok(());
        }
        let detail = "a service principal makes only service principals, with no scope that it lacks itself";
        Err(Problem::new(Code::Forbidden, detail).with_hint("a member may: holdfast login NAME").into())
    }

    /// Whether it may make members and change them: people answer for people.
    pub(super) fn must_be_no_service(&self, state: &Decided) -> Result<()> {
        match self.scopes(state) {
            Some(_) => {
                let detail = "a service principal makes no members and changes none";
                Err(Problem::new(Code::Forbidden, detail)
                    .with_hint("a member may: holdfast login NAME")
                    .into())
            }
            None => Ok(()),
        }
    }

    /// The scopes of a service principal, if it is one.
    fn scopes<'a>(&self, state: &'a Decided) -> Option<&'a BTreeSet<Scope>> {
        let By::Token(token) = self.by else { return None };
        match &state.tokens.get(&token)?.holder {
            Some(Holder::Service(scopes)) => Some(scopes),
            _ => None,
        }
    }

    /// As the log names it.
    pub(super) fn actor(&self) -> Actor {
        match self.who {
            Who::Node(node) => Actor::Node(node),
            Who::Person { .. } => self.by.owner(),
        }
    }

    /// The person that asks, by a session or by a token of its own.
    pub(super) fn person(&self, state: &Decided) -> Option<PersonId> {
        match self.by {
            By::Session { person, .. } => Some(person),
            By::Token(token) => match state.tokens.get(&token)?.holder {
                Some(Holder::Person(person)) => Some(person),
                _ => None,
            },
        }
    }

    /// Whether it would still be let in as what it was; whatever goes on for a while asks again and again.
    pub(super) fn lives(&self, http: &Shared) -> bool {
        let (state, now) = (http.core.state(), http.core.now());
        if self.session.is_some_and(|key| !http.sessions.lives(&key, now)) {
            return false;
        }
        match self.by {
            By::Token(id) => state.tokens.get(&id).is_some_and(|token| {
                token.lives(now) && matches!(of_token(&state, token), Ok(who) if who == self.who)
            }),
            By::Session { person, proof } => {
                let same = |found: &Person| self.who == Who::Person { role: found.role, org: found.org };
                session::still(&state, person, proof).is_some_and(same)
            }
        }
    }

    /// The same for an answer that was waited for.
    pub(super) fn still(&self, http: &Shared) -> Result<()> {
        if self.lives(http) {
            return Ok(());
        }
        let why = "the token or session ended, or its role was changed meanwhile";
        let problem = Problem::new(Code::Unauthenticated, why);
        Err(problem
            .with_hint("ask an owner for a new token (holdfast tokens create), or log in again")
            .into())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        // Only an open route has none, and its handler must not take one.
        let none = || refused(Code::Forbidden, "nobody was let in here");
        parts.extensions.get::<Self>().copied().ok_or_else(none)
    }
}

/// Lets a request through to its handler, or not; and has a problem say what is known of the
/// request that it is about.
pub(super) async fn gate(State(http): State<Http>, request: Request, next: Next) -> Response {
    // Without a mounted path only the answer "no such path" is reached.
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        return next.run(request).await;
    };
    let Some(row) = table::row(request.method().as_str(), path.as_str()) else {
        let problem = rim::method_not_allowed(request.method(), path.as_str());
        return Refused::from(problem).into_response();
    };
    let once = if row.once { write::request_id(request.headers()) } else { None };
    let mut request = request;
    if let Err(refused) = session::introduce(&http, row, &mut request) {
        return told(&http, None, once, refused.into_response());
    }
    if let Some(Ok(caller)) = session::introduced(&http, request.extensions()) {
        attempts::Attempt::is_of(request.extensions(), caller.actor());
    }
    let shown = once.map(|_| (request.headers().clone(), request.extensions().clone()));
    let mut request = match forward::way(&http, row, request).await {
        Ok(forward::Way::Here(request)) => *request,
        Ok(forward::Way::Answered(response)) => return *response,
        Err(mut refused) => {
            if let Some((id, (headers, extensions))) = once.zip(shown) {
                let caller = admit(&http, row, &headers, &extensions).ok().flatten();
                copies::recall(&http, caller.as_ref(), id, &mut refused.problem);
            }
            return refused.into_response();
        }
    };
    let admitted = admit(&http, row, request.headers(), request.extensions());
    let caller = admitted.as_ref().ok().copied().flatten();
    let response = match admitted {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
        Err(refused) => refused.into_response(),
    };
    let mut response = told(&http, caller.as_ref(), once, response);
    if let Some(age) = forward::age(&http) {
        response.headers_mut().insert(routes::HOLDFAST_AGE, age);
    }
    response
}

/// Has a problem say what is known of the request that it is about.
fn told(http: &Http, caller: Option<&Caller>, once: Option<RequestId>, mut response: Response) -> Response {
    if let (Some(id), Some(carried)) = (once, response.extensions_mut().get_mut::<Carried>()) {
        copies::tell(http, caller, id, carried);
    }
    response
}

fn admit(http: &Http, row: &Row, headers: &HeaderMap, extensions: &Extensions) -> Result<Option<Caller>> {
    if row.rule == Rule::Open {
        return Ok(None);
    }
    let caller = match session::introduced(http, extensions) {
        Some(introduced) => introduced?,
        None => authenticate(&http.core.state(), headers, http.core.now())?,
    };
    http.pace.take(caller.actor())?;
    match row.rule {
        Rule::Open => {}
        Rule::May(permission) => caller.must(permission)?,
        Rule::Node => drop(caller.node()?),
    }
    Ok(Some(caller))
}

fn stranger(why: &str, hint: &str) -> Refused {
    Problem::new(Code::Unauthenticated, why).with_hint(hint).into()
}

/// Finds out whose secret the request carries.
pub(super) fn authenticate(state: &Decided, headers: &HeaderMap, now: Timestamp) -> Result<Caller> {
    let Some(given) = headers.get(header::AUTHORIZATION) else {
        return Err(stranger(
            "the request carries no token",
            "give one with --token or HOLDFAST_TOKEN; `holdfast up` and `holdfast server` save the first for the user who starts them",
        ));
    };
    let secret = given.to_str().ok().and_then(bearer);
    let Some(secret) = secret else {
        return Err(stranger(
            "the Authorization header is not `Bearer <token>`",
            "send `Authorization: Bearer hf_…`",
        ));
    };
    let token = state.token_hashes.get(&Secret::from_text(secret).hash()).copied();
    bearer_of(state, token.ok_or_else(unknown)?, now)
}

fn unknown() -> Refused {
    stranger(
        "the token is not known here, or was revoked",
        "ask an owner for a new one: holdfast tokens create",
    )
}

/// Whoever has this token, if it opens anything.
pub(super) fn bearer_of(state: &Decided, id: TokenId, now: Timestamp) -> Result<Caller> {
    let token = state.tokens.get(&id).ok_or_else(unknown)?;
    if token.dead {
        return Err(stranger(
            "the token was revoked or used up",
            "ask an owner for a new one: holdfast tokens create",
        ));
    }
    if let Some(end) = token.expires.filter(|end| now >= *end) {
        let why = format!("the token expired at {end}");
        return Err(stranger(&why, "ask an owner for a new one: holdfast tokens create"));
    }
    Ok(Caller { by: By::Token(id), who: of_token(state, token)?, session: None, judged: state.head })
}

/// Who presents a token. One of a person gives at most what that person may now.
fn of_token(state: &Decided, token: &Token) -> Result<Who> {
    if let Some(Holder::Person(id)) = token.holder {
        let holder = state.people.get(&id).filter(|person| person.is_there());
        if !holder.is_some_and(|person| roles::covers(person.role, token.role)) {
            let detail = "the token may do more than its holder may now, so it opens nothing";
            return Err(refused(Code::Forbidden, detail));
        }
    }
    match (token.role, token.org, token.node) {
        (role, Some(org), _) if roles::PEOPLE.contains(&role) => Ok(Who::Person { role, org }),
        (Role::Node, _, Some(node)) => Ok(Who::Node(node)),
        _ => Err(refused(Code::Forbidden, "a join token lets one machine join, and is for nothing else")),
    }
}

/// The token whose secret a request carries, also one that opens nothing any more.
pub(super) fn presented(state: &Decided, headers: &HeaderMap) -> Option<TokenId> {
    let secret = headers.get(header::AUTHORIZATION)?.to_str().ok().and_then(bearer)?;
    state.token_hashes.get(&Secret::from_text(secret).hash()).copied()
}

fn bearer(header: &str) -> Option<&str> {
    let (scheme, secret) = header.split_once(' ')?;
    let secret = secret.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty()).then_some(secret)
}
