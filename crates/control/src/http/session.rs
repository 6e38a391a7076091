//! Sessions: who has logged in on the page, and what keeps others from writing in their name.
//!
//! ```text
//!   name + password ─▶ open ─▶ cookie ─▶ introduce (each request) ─▶ Caller
//!                                            │ handed on to the leader: the member says who it is
//!                                            ▼
//!                                         shut: idle, old, logged out, other password, removed
//! ```
//! Invariants:
//! - a session is in the memory of the server that opened it, by the SHA-256 of its secret, and ends
//!   with that server; nothing of it is in the log.
//! - a session opens nothing once its person was removed or has another password; the role is what
//!   the log says when the request is made.
//! - a write in the name of a session has its CSRF token and comes from this very origin.
//! - `only_members_vouch`: that somebody has logged in elsewhere is believed only of what came in
//!   through the members' own line.

use super::{
    Http, Shared,
    access::{By, Caller, Who},
    answer::{At, Refused, Result, refused},
    input::Said,
    password, roles,
    table::{Row, Rule},
    write,
};
use crate::{cluster::Forwarded, secret::Secret};
use api::{Code, LoginAnswer, LoginRequest, Problem, routes};
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use domain::{State as Decided, state::Person};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
};
use types::{EventId, Name, PersonId, Timestamp, limits};

/// The cookie over plain HTTP, which only a loopback address serves.
const PLAIN: &str = "holdfast";
/// The cookie over TLS: the browser itself keeps it to this host, this path and TLS.
const SECURE: &str = "__Host-holdfast";
/// By which one member tells another who has logged in there.
const VOUCHED: HeaderName = HeaderName::from_static("holdfast-vouched");
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

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
    person: PersonId,
    /// The event that had set the password it was opened with.
    password: EventId,
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
    person: PersonId,
    password: EventId,
    /// For forms: the field or header of every write has to say it.
    pub(super) csrf: String,
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
        let of_person = all.iter().filter(|(_, other)| other.person == session.person);
        let full = match of_person.clone().count() >= limits::SESSIONS_OF_A_PERSON {
            true => of_person.min_by_key(|(_, other)| other.used).map(|(key, _)| *key),
            false if all.len() >= limits::SESSIONS => {
                all.iter().min_by_key(|(_, other)| other.used).map(|(key, _)| *key)
            }
            false => None,
        };
        full.map(|key| all.remove(&key));
        all.insert(key, session);
    }

    fn use_it(&self, key: Key, now: Timestamp) -> Option<Found> {
        let mut all = self.lock();
        let session = all.get_mut(&key)?;
        if !session.lives(now) {
            all.remove(&key);
            return None;
        }
        session.used = now;
        let Session { person, password, csrf, .. } = session.clone();
        Some(Found { key, person, password, csrf })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who a request is from, where the gate found that out by a session.
#[derive(Clone, Copy, Debug)]
struct Introduced {
    person: PersonId,
    password: EventId,
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
    if secret(headers).is_none() {
        return Ok(());
    }
    let Some(found) = find(http, headers) else { return Err(ended()) };
    if row.method != "GET" {
        may_write(&found, headers, None)?;
    }
    let introduced = Introduced { person: found.person, password: found.password, key: Some(found.key) };
    let told = HeaderValue::from_str(&format!("{} {}", found.person, found.password));
    request.headers_mut().insert(VOUCHED, told.expect("an id and a number can stand in a header"));
    // The secret stays here: no other member has a use for it.
    request.headers_mut().remove(header::COOKIE);
    request.extensions_mut().insert(introduced);
    Ok(())
}

fn read_vouched(value: &HeaderValue) -> Option<Introduced> {
    let (person, password) = value.to_str().ok()?.split_once(' ')?;
    Some(Introduced { person: person.parse().ok()?, password: password.parse().ok()?, key: None })
}

/// The caller that [`introduce`] found, if it found one.
pub(super) fn introduced(state: &Decided, extensions: &axum::http::Extensions) -> Option<Result<Caller>> {
    let Introduced { person, password, key } = *extensions.get::<Introduced>()?;
    Some(caller(state, person, password, key))
}

fn caller(state: &Decided, id: PersonId, password: EventId, key: Option<Key>) -> Result<Caller> {
    let person = still(state, id, password).ok_or_else(ended)?;
    let who = Who::Person { role: person.role, org: person.org };
    Ok(Caller { by: By::Session { person: id, password, key }, who, judged: state.head })
}

/// The person of a session, if it is still there with the password that opened the session.
pub(super) fn still(state: &Decided, id: PersonId, password: EventId) -> Option<&Person> {
    state.people.get(&id).filter(|person| person.is_there() && person.password == password)
}

/// The session whose cookie a request carries. Uses it: it is not idle.
pub(super) fn find(http: &Shared, headers: &HeaderMap) -> Option<Found> {
    let key = Sha256::digest(secret(headers)?.as_bytes()).into();
    let found = http.sessions.use_it(key, http.core.now())?;
    still(&http.core.state(), found.person, found.password)?;
    Some(found)
}

/// The caller of a session, for whoever answers outside of the table.
#[allow(dead_code, reason = "for pages, which answer outside of the table")]
pub(super) fn caller_of(http: &Shared, found: &Found) -> Result<Caller> {
    caller(&http.core.state(), found.person, found.password, Some(found.key))
}

fn ended() -> Refused {
    let problem = Problem::new(Code::Unauthenticated, "the session has ended");
    problem.with_hint("log in again").into()
}

/// The secret in the cookie of ours, if there is one.
fn secret(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| [PLAIN, SECURE].contains(name)).map(|(_, value)| value).next()
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
pub(super) fn same_origin(headers: &HeaderMap) -> Result<()> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let site = text(SEC_FETCH_SITE).map(|site| site == "same-origin");
    let host = text(header::HOST).unwrap_or_default();
    let is_own = |origin: &str| {
        let authority = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
        !host.is_empty() && authority == Some(host)
    };
    let origin = text(header::ORIGIN).map(is_own);
    if [site, origin].contains(&Some(false)) || (site, origin) == (None, None) {
        let detail = "the request does not come from a page of this server";
        return Err(refused(Code::Forbidden, detail));
    }
    Ok(())
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
    let fits = password::check(http, &asked.password, found.map(|(_, person)| person.hash.clone())).await?;
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
    http.logins.opened();
    let now = http.core.now();
    let secret = Secret::make(http.core.random());
    let csrf = format!("{:032x}", http.core.random().u128());
    let session =
        Session { person: id, password: person.password, csrf: csrf.clone(), opened: now, used: now };
    http.sessions.add(secret.hash(), session, now);
    let role = roles::told(person.role).ok_or_else(ended)?;
    let answer = LoginAnswer {
        person: id,
        name: person.name.clone(),
        role,
        csrf,
        idle: limits::SESSION_IDLE,
        ends: now.plus(limits::SESSION_LIFE),
    };
    Ok(Opened { cookie: cookie(secret.reveal(), is_encrypted(parts)), answer })
}

/// Ends the session of a request, and takes its cookie back.
pub(super) fn close(http: &Shared, caller: &Caller, parts: &Parts) -> HeaderValue {
    if let By::Session { key: Some(key), .. } = caller.by {
        http.sessions.lock().remove(&key);
    }
    cookie("", is_encrypted(parts))
}

fn is_encrypted(parts: &Parts) -> bool {
    parts.extensions.get::<Encrypted>().is_some()
}

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
        let person = PersonId::from_u128(person);
        Session { person, password: EventId::new(1), csrf: "c".into(), opened: NOW, used }
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
            assert!(sessions.use_it(key(1), at).is_some(), "used in time");
        }
        assert!(sessions.lives(&key(1), at));
        assert!(sessions.use_it(key(1), NOW.plus(life)).is_none(), "too old, however often used");
        sessions.add(key(2), session(1, NOW), NOW);
        assert!(!sessions.lives(&key(2), NOW.plus(idle)));
        assert!(!sessions.lives(&key(2), Timestamp::from_ms(NOW.as_ms() - 1)));
        assert!(sessions.use_it(key(3), NOW).is_none(), "never opened");
    }

    #[test]
    fn sessions_are_bounded_and_the_one_that_was_idle_for_longest_goes() {
        let sessions = Sessions::default();
        for nth in 0..=limits::SESSIONS_OF_A_PERSON as u64 {
            let used = Timestamp::from_ms(NOW.as_ms() + nth);
            sessions.add(key(nth), session(1, used), used);
        }
        assert_eq!(sessions.count(), limits::SESSIONS_OF_A_PERSON);
        let last = Timestamp::from_ms(NOW.as_ms() + limits::SESSIONS_OF_A_PERSON as u64);
        assert!(!sessions.lives(&key(0), last) && sessions.lives(&key(1), last));
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let name = HeaderName::from_static;
        pairs.iter().map(|(key, value)| (name(key), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_a_page_of_this_server_writes_in_the_name_of_a_session() {
        let found = Found {
            key: key(1),
            person: PersonId::from_u128(1),
            password: EventId::new(1),
            csrf: "token".into(),
        };
        let host = ("host", "one.example:7070");
        let (own, csrf) = (("origin", "http://one.example:7070"), ("holdfast-csrf", "token"));
        assert!(may_write(&found, &headers(&[host, own, csrf]), None).is_ok());
        assert!(may_write(&found, &headers(&[host, own]), Some("token")).is_ok(), "in a form");
        assert!(may_write(&found, &headers(&[host, ("sec-fetch-site", "same-origin"), csrf]), None).is_ok());
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
        assert_eq!(secret(&headers(&[("cookie", "a=b; holdfast=hf_x; c=d")])), Some("hf_x"));
        assert_eq!(secret(&headers(&[("cookie", "__Host-holdfast=hf_y")])), Some("hf_y"));
        assert_eq!(secret(&headers(&[("cookie", "myholdfast=hf_x")])), None);
        let plain = cookie("hf_x", false);
        assert_eq!(plain, "holdfast=hf_x; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict");
        let secure = cookie("", true);
        assert_eq!(secure, "__Host-holdfast=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict; Secure");
    }
}
