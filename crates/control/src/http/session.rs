//! Sessions: who has logged in on the page, and what keeps others from writing in their name.
//!
//! ```text
//!   name + password ─▶ open ──────────┐
//!   token ─▶ Shared::log_in ──────────┤
//!   a provider's word ─▶ open_linked ─┴─▶ begin ─▶ cookie ─▶ introduce (each request) ─▶ Caller
//!                                            │ handed on to the leader: the member says who it is
//!                                            ▼
//!                                         shut: idle, old, logged in anew, logged out, other password,
//!                                               other link, removed, token over
//! ```
//! Invariants:
//! - a session is in the memory of the server that opened it, by the SHA-256 of its secret, and ends
//!   with that server; nothing of it is in the log, and nothing of a token in it but its id.
//! - a session opens nothing once its person was removed, what it was opened with, a password or the
//!   link to an identity, is another or none, or its token opens nothing; the role is what the log says
//!   when the request is made.
//! - a browser has one session: a login ends the one it had.
//! - what an open page asks by itself keeps no session from falling idle.
//! - a write in the name of a session has its CSRF token and comes from this very origin.
//! - `only_members_vouch`: that somebody has logged in elsewhere is believed only of what came in
//!   through the members' own line.

use super::{
    Http, Shared,
    access::{self, By, Caller, Who},
    answer::{At, Refused, Result},
    attempts::Attempt,
    input::Said,
    password, roles,
    table::{Row, Rule},
    write,
};
use crate::{cluster::Forwarded, secret::Secret};
use api::{Code, LoginAnswer, LoginRequest, Problem, routes};
use axum::{
    extract::{Request, State},
    http::{Extensions, HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use domain::{
    Actor, State as Decided,
    state::{Identity, Person},
};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};
use types::{EventId, Name, PersonId, Timestamp, TokenId, limits};

/// The cookie over plain HTTP, which only a loopback address serves.
const PLAIN: &str = "holdfast";
/// The cookie over TLS: the browser itself keeps it to this host, this path and TLS.
const SECURE: &str = "__Host-holdfast";
/// By which one member tells another who has logged in there.
const VOUCHED: HeaderName = HeaderName::from_static("holdfast-vouched");
/// In which a browser says where a request comes from.
pub(crate) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// With this an open page says that it asks by itself: nobody uses the session.
pub(crate) const UNATTENDED: HeaderName = HeaderName::from_static("holdfast-unattended");

/// The SHA-256 of a session's secret.
pub(super) type Key = [u8; 32];

/// Where a connection comes from; whoever serves puts it into each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Peer(pub(super) IpAddr);

/// That a request came over TLS; whoever serves TLS puts it into each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Encrypted;

/// All sessions of one server.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<BTreeMap<Key, Session>>);

#[derive(Clone, Debug)]
struct Session {
    /// What it was opened with.
    by: By,
    csrf: String,
    opened: Timestamp,
    used: Timestamp,
}

impl Session {
    /// A clock that was set back ends it: nobody knows how old it is then.
    fn lives(&self, now: Timestamp) -> bool {
        now >= self.used
            && now.since(self.used) < limits::SESSION_IDLE
            && now.since(self.opened) < limits::SESSION_LIFE
    }
}

/// A session that was just opened.
pub(super) struct Opened {
    /// For the `Set-Cookie` header.
    pub(super) cookie: HeaderValue,
    pub(super) answer: LoginAnswer,
}

/// Somebody who has logged in, as a request shows.
#[derive(Clone, Debug)]
pub(super) struct Found {
    key: Key,
    by: By,
    /// For forms: the field or header of every write has to say it.
    pub(super) csrf: String,
}

impl Found {
    /// Who it is.
    pub(super) fn owner(&self) -> Actor {
        self.by.owner()
    }
}

impl Sessions {
    /// How many are open, for the figures.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    /// Whether this one is still open. Asking is no use of it.
    pub(super) fn lives(&self, key: &Key, now: Timestamp) -> bool {
        self.lock().get(key).is_some_and(|session| session.lives(now))
    }

    fn add(&self, key: Key, session: Session, now: Timestamp) {
        let mut all = self.lock();
        all.retain(|_, session| session.lives(now));
        let (owner, oldest) = (session.by.owner(), |(_, other): &(&Key, &Session)| other.used);
        let of_one = all.iter().filter(|(_, other)| other.by.owner() == owner);
        let full = match of_one.clone().count() >= limits::SESSIONS_OF_ONE {
            true => of_one.min_by_key(oldest).map(|(key, _)| *key),
            false if all.len() >= limits::SESSIONS => all.iter().min_by_key(oldest).map(|(key, _)| *key),
            false => None,
        };
        full.map(|key| all.remove(&key));
        all.insert(key, session);
    }

    /// The session of a key, if it is still open; its use keeps it so.
    fn get(&self, key: Key, now: Timestamp, is_use: bool) -> Option<Found> {
        let mut all = self.lock();
        let session = all.get_mut(&key)?;
        if !session.lives(now) {
            all.remove(&key);
            return None;
        }
        if is_use {
            session.used = now;
        }
        Some(Found { key, by: session.by, csrf: session.csrf.clone() })
    }

    /// Ends what a browser has here.
    fn end(&self, had: &[Key]) {
        had.iter().for_each(|key| drop(self.lock().remove(key)));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who a request is from, where the gate found that out by a session.
#[derive(Clone, Copy, Debug)]
struct Introduced {
    by: By,
    key: Option<Key>,
}

/// Finds out whether a request belongs to a session, and has it say so to whichever member answers.
/// A bearer token is stronger than a cookie.
pub(super) fn introduce(http: &Http, row: &Row, request: &mut Request) -> Result<()> {
    let vouched = request.headers_mut().remove(VOUCHED);
    if request.extensions().get::<Forwarded>().is_some() {
        let introduced = vouched.as_ref().and_then(read_vouched);
        introduced.map(|introduced| request.extensions_mut().insert(introduced));
        return Ok(());
    }
    let headers = request.headers();
    if !matches!(row.rule, Rule::May(_)) || headers.contains_key(header::AUTHORIZATION) {
        return Ok(());
    }
    if !is_named(headers, request.extensions()) {
        return Ok(());
    }
    let Some(found) = find(http, headers, request.extensions()) else { return Err(ended()) };
    if row.method != "GET" {
        may_write(&found, headers, None)?;
    }
    let introduced = Introduced { by: found.by, key: Some(found.key) };
    let told = match found.by {
        By::Session { person, proof } => format!("{person} {proof}"),
        By::Token(token) => token.to_string(),
    };
    let told = HeaderValue::from_str(&told);
    request.headers_mut().insert(VOUCHED, told.expect("an id and a number can stand in a header"));
    // The secret stays here: no other member has a use for it.
    request.headers_mut().remove(header::COOKIE);
    request.extensions_mut().insert(introduced);
    Ok(())
}

fn read_vouched(value: &HeaderValue) -> Option<Introduced> {
    let text = value.to_str().ok()?;
    let by = match text.split_once(' ') {
        Some((person, proof)) => By::Session { person: person.parse().ok()?, proof: proof.parse().ok()? },
        None => By::Token(text.parse().ok()?),
    };
    Some(Introduced { by, key: None })
}

/// The caller that [`introduce`] found, if it found one.
pub(super) fn introduced(http: &Shared, extensions: &Extensions) -> Option<Result<Caller>> {
    let Introduced { by, key } = *extensions.get::<Introduced>()?;
    let caller = caller(&http.core.state(), by, http.core.now());
    Some(caller.map(|caller| Caller { session: key, ..caller }))
}

fn caller(state: &Decided, by: By, now: Timestamp) -> Result<Caller> {
    match by {
        By::Token(token) => access::bearer_of(state, token, now),
        By::Session { person, proof } => {
            let found = still(state, person, proof).ok_or_else(ended)?;
            let who = Who::Person { role: found.role, org: found.org };
            Ok(Caller { by, who, session: None, judged: state.head })
        }
    }
}

/// The person of a session, if it is still there with the password or the link that opened the session.
pub(super) fn still(state: &Decided, id: PersonId, proof: EventId) -> Option<&Person> {
    state.people.get(&id).filter(|person| person.proves(proof))
}

/// The session whose cookie a request carries. Uses it, unless the page asks by itself: it is not idle.
pub(super) fn find(http: &Shared, headers: &HeaderMap, connection: &Extensions) -> Option<Found> {
    let (key, now) = (hashed(secret(headers, connection)?), http.core.now());
    let found = http.sessions.get(key, now, !headers.contains_key(UNATTENDED))?;
    match caller(&http.core.state(), found.by, now) {
        Err(refused) if refused.problem.code == Code::Unauthenticated => {
            http.sessions.lock().remove(&key);
            None
        }
        // What it may not do now it may do again.
        _ => Some(found),
    }
}

fn ended() -> Refused {
    let problem = Problem::new(Code::Unauthenticated, "the session has ended");
    problem.with_hint("log in again").into()
}

fn hashed(secret: &str) -> Key {
    Sha256::digest(secret.as_bytes()).into()
}

/// The secret in the cookie of ours, if there is one. Over TLS only the one that nothing but TLS can have set
/// counts: whoever serves plain HTTP on this host can set the other.
fn secret<'a>(headers: &'a HeaderMap, connection: &Extensions) -> Option<&'a str> {
    let ours = if is_encrypted(connection) { SECURE } else { PLAIN };
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = lines.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == ours).map(|(_, value)| value)
}

/// What a browser has here, ended or not.
pub(super) fn had(headers: &HeaderMap, connection: &Extensions) -> Vec<Key> {
    secret(headers, connection).map(hashed).into_iter().collect()
}

/// Whether a browser brings a session, ended or not.
pub(crate) fn is_named(headers: &HeaderMap, connection: &Extensions) -> bool {
    secret(headers, connection).is_some()
}

/// Whether a session may write with this request: it says the session's CSRF token, in its header or in
/// the `field` of a form, and it comes from a page of this very server.
pub(super) fn may_write(found: &Found, headers: &HeaderMap, field: Option<&str>) -> Result<()> {
    same_origin(headers)?;
    let said = headers.get(routes::CSRF).and_then(|value| value.to_str().ok()).or(field).unwrap_or_default();
    // Hashed first, so that how long a comparison takes says nothing of the token.
    if Sha256::digest(said.as_bytes()) != Sha256::digest(found.csrf.as_bytes()) {
        let detail = format!("a write of a session has to say its CSRF token in {}", routes::CSRF);
        let problem = Problem::new(Code::Forbidden, detail);
        return Err(problem.with_hint("load the page again and send the form from there").into());
    }
    Ok(())
}

/// Whether a request comes from a page of this server. Every browser says so of a write, in one of two
/// headers; what says neither is no browser, and has no business with a cookie.
///
/// `Sec-Fetch-Site` counts first: a browser that is told `no-referrer` sends `Origin: null` with its forms.
pub(super) fn same_origin(headers: &HeaderMap) -> Result<()> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    let is_own = |origin: &str| {
        let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        !host.is_empty() && authority == Some(host)
    };
    let comes_from_here = match (text(SEC_FETCH_SITE), text(header::ORIGIN)) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => is_own(origin),
        (None, None) => false,
    };
    if comes_from_here {
        return Ok(());
    }
    let problem = Problem::new(Code::Forbidden, "the request does not come from a page of this server");
    Err(problem.with_hint("open the page here and send its form from there").into())
}

/// What the page asks, in the words of its own problems.
impl Shared {
    /// Whether a form comes from a page of this server and, where somebody has logged in, brings back what
    /// that page was given.
    pub(crate) fn takes_form(
        &self,
        headers: &HeaderMap,
        connection: &Extensions,
        csrf: &str,
    ) -> std::result::Result<(), Box<Problem>> {
        let judged = match find(self, headers, connection) {
            Some(found) => may_write(&found, headers, Some(csrf)),
            None => same_origin(headers),
        };
        judged.map_err(|refused| refused.problem)
    }

    /// Whether the form of a login comes from a page of this server.
    pub(crate) fn takes_login(&self, headers: &HeaderMap) -> std::result::Result<(), Box<Problem>> {
        same_origin(headers).map_err(|refused| refused.problem)
    }

    /// Opens a session for the bearer of a token, and ends the one that the browser had. Its cookie.
    pub(crate) fn log_in(
        &self,
        token: TokenId,
        headers: &HeaderMap,
        connection: &Extensions,
    ) -> std::result::Result<HeaderValue, Box<Problem>> {
        let by = By::Token(token);
        caller(&self.core.state(), by, self.core.now()).map_err(|refused| refused.problem)?;
        Ok(begin(self, by, &had(headers, connection), connection).0)
    }

    /// Ends the session that a browser has, and takes its cookie back.
    pub(crate) fn log_out(&self, headers: &HeaderMap, connection: &Extensions) -> HeaderValue {
        self.sessions.end(&had(headers, connection));
        cookie("", is_encrypted(connection))
    }
}

/// A new session, in the place of the one that the browser had: its cookie and its CSRF token.
fn begin(http: &Shared, by: By, had: &[Key], connection: &Extensions) -> (HeaderValue, String) {
    http.sessions.end(had);
    http.logins.opened();
    let now = http.core.now();
    let secret = Secret::make(http.core.random());
    let csrf = format!("{:032x}", http.core.random().u128());
    http.sessions.add(secret.hash(), Session { by, csrf: csrf.clone(), opened: now, used: now }, now);
    (cookie(secret.reveal(), is_encrypted(connection)), csrf)
}

/// Holds a name and a password against the log and, if they fit, opens a session.
pub(super) async fn open(http: &Http, asked: &LoginRequest, parts: &Parts) -> Result<Opened> {
    let address = parts.extensions.get::<Peer>().map(|peer| peer.0);
    let name = asked.name.trim().parse::<Name>().ok();
    // What can be nobody's name is counted as one.
    let counted = name.as_ref().map_or("", Name::as_str).to_owned();
    http.logins.begin(&counted, address)?;
    let state = http.core.state();
    let id = name.and_then(|name| state.person_names.get(&name).copied());
    let found = id.and_then(|id| Some((id, state.people.get(&id)?)));
    // One who logs in by way of a provider only has none, and is answered like one who is not there.
    let hash = found.map(|(_, person)| person.hash.clone()).filter(|hash| !hash.is_empty());
    let fits = password::check(http, &asked.password, hash).await?;
    let Some((id, person)) = found.filter(|_| fits) else {
        http.logins.failed();
        tracing::info!(name = counted, ?address, "a login failed");
        return Err(Problem::new(Code::Unauthenticated, "the name or the password is wrong").into());
    };
    // It took a while: what was changed meanwhile counts.
    if still(&http.core.state(), id, person.password).is_none() {
        return Err(ended());
    }
    http.logins.forgive(&counted, address);
    let role = roles::told(person.role).ok_or_else(ended)?;
    let by = By::Session { person: id, proof: person.password };
    Attempt::is_of(&parts.extensions, by.owner());
    let (cookie, csrf) = begin(http, by, &had(&parts.headers, &parts.extensions), &parts.extensions);
    let answer = LoginAnswer {
        person: id,
        name: person.name.clone(),
        role,
        csrf,
        idle: limits::SESSION_IDLE,
        ends: http.core.now().plus(limits::SESSION_LIFE),
    };
    Ok(Opened { cookie, answer })
}

/// Opens a session for whoever a provider says that it is, and ends those that the browser `had`: who that
/// is here, and its cookie. None if no member is linked to that identity.
pub(super) fn open_linked(
    http: &Shared,
    identity: &Identity,
    had: &[Key],
    connection: &Extensions,
) -> Option<(PersonId, HeaderValue)> {
    let state = http.core.state();
    let person = *state.identities.get(identity)?;
    let proof = state.people.get(&person)?.link.as_ref()?.event;
    still(&state, person, proof)?;
    Some((person, begin(http, By::Session { person, proof }, had, connection).0))
}

/// Ends the session of a request, and takes its cookie back.
pub(super) fn close(http: &Shared, caller: &Caller, parts: &Parts) -> HeaderValue {
    if let Some(key) = caller.session {
        http.sessions.lock().remove(&key);
    }
    cookie("", is_encrypted(&parts.extensions))
}

/// Whether a request came over TLS.
fn is_encrypted(connection: &Extensions) -> bool {
    connection.get::<Encrypted>().is_some()
}

/// Without `Domain`, so for the host that was asked and no other.
fn cookie(secret: &str, encrypted: bool) -> HeaderValue {
    let (name, only_tls) = if encrypted { (SECURE, "; Secure") } else { (PLAIN, "") };
    let life = if secret.is_empty() { 0 } else { limits::SESSION_LIFE.as_ms() / 1000 };
    let text = format!("{name}={secret}; Path=/; Max-Age={life}; HttpOnly; SameSite=Strict{only_tls}");
    HeaderValue::from_str(&text).expect("a secret of ours can stand in a header")
}

/// `POST /v1/login`. A page of another server may not log anybody in here.
pub(super) async fn login(State(http): State<Http>, said: Said) -> Result<Response> {
    let headers = &said.parts.headers;
    if headers.contains_key(header::ORIGIN) || headers.contains_key(SEC_FETCH_SITE) {
        same_origin(headers)?;
    }
    let asked: LoginRequest = write::parse(&said)?;
    let Opened { cookie, answer } = open(&http, &asked, &said.parts).await?;
    let mut response = At::new(http.core.state().head, answer).into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// `POST /v1/logout`
pub(super) async fn logout(State(http): State<Http>, caller: Caller, said: Said) -> Response {
    let cookie = close(&http, &caller, &said.parts);
    let mut response = axum::http::StatusCode::NO_CONTENT.into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_ms(1_763_673_600_000);

    fn session(person: u128, used: Timestamp) -> Session {
        let by = By::Session { person: PersonId::from_u128(person), proof: EventId::new(1) };
        Session { by, csrf: "c".into(), opened: NOW, used }
    }

    fn bearer(token: u128, used: Timestamp) -> Session {
        Session { by: By::Token(TokenId::from_u128(token)), ..session(0, used) }
    }

    fn key(nth: u64) -> Key {
        Sha256::digest(nth.to_be_bytes()).into()
    }

    #[test]
    fn a_session_ends_when_it_is_idle_when_it_is_old_and_when_the_clock_goes_back() {
        let sessions = Sessions::default();
        let (idle, life) = (limits::SESSION_IDLE, limits::SESSION_LIFE);
        sessions.add(key(1), session(1, NOW), NOW);
        let mut at = NOW;
        while at.plus(idle).since(NOW) < life {
            at = Timestamp::from_ms(at.plus(idle).as_ms() - 1);
            assert!(sessions.get(key(1), at, true).is_some(), "used in time");
        }
        assert!(sessions.lives(&key(1), at));
        assert!(sessions.get(key(1), NOW.plus(life), true).is_none(), "too old, however often used");
        sessions.add(key(2), session(1, NOW), NOW);
        assert!(!sessions.lives(&key(2), NOW.plus(idle)));
        assert!(!sessions.lives(&key(2), Timestamp::from_ms(NOW.as_ms() - 1)));
        assert!(sessions.get(key(3), NOW, true).is_none(), "never opened");
    }

    #[test]
    fn what_a_page_asks_by_itself_is_no_use_of_its_session() {
        let sessions = Sessions::default();
        sessions.add(key(1), session(1, NOW), NOW);
        let at = |ms: u64| Timestamp::from_ms(NOW.as_ms() + ms);
        let idle = limits::SESSION_IDLE.as_ms();
        for ms in (0..idle).step_by(60_000) {
            assert!(sessions.get(key(1), at(ms), false).is_some());
        }
        assert!(sessions.get(key(1), at(idle), false).is_none());
    }

    #[test]
    fn sessions_are_bounded_and_the_one_that_was_idle_for_longest_goes() {
        let (most, at) = (limits::SESSIONS_OF_ONE as u64, |nth: u64| Timestamp::from_ms(NOW.as_ms() + nth));
        for of_one in [|used| session(1, used), |used| bearer(1, used)] as [fn(Timestamp) -> Session; 2] {
            let sessions = Sessions::default();
            sessions.add(key(1000), session(2, NOW), NOW);
            sessions.add(key(1001), bearer(2, NOW), NOW);
            for nth in 0..=most {
                sessions.add(key(nth), of_one(at(nth)), at(nth));
            }
            assert_eq!(sessions.count(), limits::SESSIONS_OF_ONE + 2);
            let lives = |nth| sessions.lives(&key(nth), at(most));
            assert!(!lives(0) && lives(1), "the oldest of the same");
            assert!(lives(1000) && lives(1001), "nobody else's goes");
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let name = HeaderName::from_static;
        pairs.iter().map(|(key, value)| (name(key), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_a_page_of_this_server_writes_in_the_name_of_a_session() {
        let found = Found { key: key(1), by: By::Token(TokenId::from_u128(1)), csrf: "token".into() };
        let host = ("host", "one.example:7070");
        let (own, csrf) = (("origin", "http://one.example:7070"), ("holdfast-csrf", "token"));
        assert!(may_write(&found, &headers(&[host, own, csrf]), None).is_ok());
        assert!(may_write(&found, &headers(&[host, own]), Some("token")).is_ok(), "in a form");
        let site = ("sec-fetch-site", "same-origin");
        assert!(may_write(&found, &headers(&[host, site, csrf]), None).is_ok());
        assert!(may_write(&found, &headers(&[host, site, csrf, ("origin", "null")]), None).is_ok(), "a form");
        for wrong in [
            vec![host, own],
            vec![host, own, ("holdfast-csrf", "other")],
            vec![host, csrf],
            vec![host, csrf, ("origin", "null")],
            vec![host, csrf, ("origin", "http://evil.example")],
            vec![host, csrf, ("origin", "http://one.example:7070.evil.example")],
            vec![host, csrf, own, ("sec-fetch-site", "cross-site")],
            vec![host, csrf, ("sec-fetch-site", "same-site")],
            vec![host, csrf, ("sec-fetch-site", "none")],
            vec![own, csrf],
        ] {
            assert!(may_write(&found, &headers(&wrong), None).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others_and_kept_from_scripts() {
        let (mut tls, http) = (Extensions::new(), Extensions::new());
        tls.insert(Encrypted);
        let found = |line, connection| secret(&headers(&[("cookie", line)]), connection).map(str::to_owned);
        assert_eq!(found("a=b; holdfast=hf_x; c=d", &http).as_deref(), Some("hf_x"));
        let both = "holdfast=hf_x; __Host-holdfast=hf_y";
        assert_eq!(found(both, &http).as_deref(), Some("hf_x"));
        assert_eq!(found(both, &tls).as_deref(), Some("hf_y"));
        assert_eq!(found("holdfast=hf_x", &tls), None, "anything on this host may have set it");
        assert_eq!(found("myholdfast=hf_x", &http), None);
        let plain = cookie("hf_x", false);
        assert_eq!(plain, "holdfast=hf_x; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");
        let secure = cookie("", true);
        assert_eq!(secure, "__Host-holdfast=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure");
    }
}
