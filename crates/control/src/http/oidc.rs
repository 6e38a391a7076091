//! Logging in by way of an OpenID provider: authorization code flow with PKCE, for a browser.
//!
//! ```text
//!   begin ─▶ cookie + redirect ─▶ provider ─▶ callback ─▶ finish: code ─▶ ID token ─▶ (issuer, subject)
//!                                                                                         │ linked in the log
//!                                                                                         ▼
//!                                                                              session::open_linked
//! ```
//! Invariants:
//! - who somebody is comes from the issuer and the subject of an ID token that was checked, and from
//!   nothing else: no name, no address, no group. Which member that is stands in the log.
//! - a login comes back once, in time, to the browser that began it: see [`pending`].
//! - what a provider does or fails to do touches nobody who logs in otherwise, and no open session.
//!
//! [`known`] asks a provider and [`id_token`] judges what it says; where it may connect to and how much it
//! may read is [`fetch`]'s; [`page`] is the way in, and writes down what came of it.

mod fetch;
mod id_token;
mod known;
mod page;
mod pending;

use super::{
    Http,
    answer::{Refused, Result, missing},
    session,
};
use crate::{providers::Settings, secret::Secret};
use api::{Code, Problem};
use axum::http::{Extensions, HeaderMap, HeaderValue, header};
use domain::state::Identity;
use known::Known;
pub(crate) use page::ByProvider;
use pending::{Pending, Waiting, hashed};
use std::net::IpAddr;
use types::{Name, PersonId, limits};

/// The cookie that binds a login to its browser, where browsers reach this server over plain HTTP.
const PLAIN: &str = "holdfast-login";
/// The same over TLS: the browser itself keeps it to this host, this path and TLS.
const SECURE: &str = "__Host-holdfast-login";
/// The most of what a provider says that is shown to people, in characters.
const SHOWN: usize = 200;

/// Every provider of this server, and the logins that are under way there.
#[derive(Default)]
pub(super) struct Providers {
    all: Vec<Known>,
    pending: Pending,
    /// Browsers reach this server over TLS.
    secure: bool,
}

impl Providers {
    /// Those of the settings, which were checked. None is asked for anything before somebody logs in.
    pub(super) fn new(settings: &Settings) -> Self {
        let all = settings.providers.iter();
        let all = all.map(|told| Known::new(told, settings.callback(&told.name))).collect();
        Self { all, pending: Pending::default(), secure: settings.url.starts_with("https:") }
    }

    /// Name and title of each, for the page.
    fn titles(&self) -> Vec<(Name, String)> {
        self.all.iter().map(|known| (known.told.name.clone(), known.told.title.clone())).collect()
    }

    fn find(&self, name: &str) -> Result<&Known> {
        let found = self.all.iter().find(|known| known.told.name.as_str() == name);
        found.ok_or_else(|| missing(format_args!("login provider {name}")))
    }

    /// The `Set-Cookie` that binds a login to a browser, or takes that back.
    fn cookie(&self, secret: &str) -> HeaderValue {
        let (name, only_tls) = if self.secure { (SECURE, "; Secure") } else { (PLAIN, "") };
        let life = if secret.is_empty() { 0 } else { limits::LOGIN_PENDING.as_ms() / 1000 };
        // Lax: it has to come along when the provider sends the browser back.
        let text = format!("{name}={secret}; Path=/; Max-Age={life}; HttpOnly; SameSite=Lax{only_tls}");
        HeaderValue::from_str(&text).expect("a secret of ours can stand in a header")
    }

    fn browser<'a>(&self, headers: &'a HeaderMap) -> &'a str {
        let wanted = if self.secure { SECURE } else { PLAIN };
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(name, _)| *name == wanted).map(|(_, value)| value).next().unwrap_or_default()
    }
}

/// What somebody else said, for people: no control characters, and not too much of it.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(SHOWN).collect()
}

/// Where a browser is sent to log in.
pub(crate) struct Sent {
    /// A URL of the provider.
    pub(crate) place: HeaderValue,
    /// For the `Set-Cookie` header: what comes back is taken from this browser only.
    pub(crate) cookie: HeaderValue,
}

/// What a provider gives a browser to bring back.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Brought {
    state: String,
    code: String,
    error: String,
    error_description: String,
    iss: Option<String>,
}

/// What became of a login that came back.
pub(crate) struct Finished {
    pub(crate) opened: std::result::Result<OpenedBy, Box<Problem>>,
    /// Who the provider says that it was, if it said so.
    identity: Option<Identity>,
    /// For the `Set-Cookie` header: the browser has no more use for what bound it.
    pub(crate) cookie: HeaderValue,
}

/// A session that a provider's word opened.
pub(crate) struct OpenedBy {
    person: PersonId,
    /// For the `Set-Cookie` header.
    pub(crate) cookie: HeaderValue,
    /// The page to go on with.
    pub(crate) to: String,
}

/// Begins a login by way of a provider; `to` is the page to go on with.
async fn begin(
    http: &Http,
    name: &str,
    to: String,
    had: Vec<session::Key>,
    address: Option<IpAddr>,
) -> Result<Sent> {
    let known = http.providers.find(name)?;
    http.logins.begin_from(address)?;
    let _turn = known.turn()?;
    let now = http.core.now();
    let said = known.said(now).await?;
    let random = http.core.random();
    let make = || Secret::make(random).reveal().to_owned();
    let (state, nonce, verifier, browser) = (make(), make(), make(), make());
    let provider = known.told.name.clone();
    let waiting = Waiting { provider, browser: hashed(&browser), had, nonce, verifier, to, begun: now };
    let place = known.place(&said, &state, &waiting);
    let place = HeaderValue::from_str(&place).map_err(|error| known.unavailable(error))?;
    http.providers.pending.add(&state, waiting);
    Ok(Sent { place, cookie: http.providers.cookie(&browser) })
}

/// Finishes a login that a browser brought back.
async fn finish(
    http: &Http,
    name: &str,
    brought: &Brought,
    headers: &HeaderMap,
    connection: &Extensions,
) -> Finished {
    let cookie = http.providers.cookie("");
    let (known, identity, waiting) = match identify(http, name, brought, headers).await {
        Ok(identified) => identified,
        Err(refused) => return Finished { opened: Err(refused.problem), identity: None, cookie },
    };
    let opened = session::open_linked(http, &identity, &waiting.had, connection)
        .map(|(person, cookie)| OpenedBy { person, cookie, to: waiting.to })
        .ok_or_else(|| unlinked(known, &identity).problem);
    Finished { opened, identity: Some(identity), cookie }
}

/// Who it is that comes back, and which login that was.
async fn identify<'a>(
    http: &'a Http,
    name: &str,
    brought: &Brought,
    headers: &HeaderMap,
) -> Result<(&'a Known, Identity, Waiting)> {
    let known = http.providers.find(name)?;
    let browser = http.providers.browser(headers);
    let Some(waiting) = http.providers.pending.take(&brought.state, name, browser, http.core.now()) else {
        let detail = format!(
            "it took longer than {}, was finished before, or began in another browser or window",
            limits::LOGIN_PENDING
        );
        return Err(Problem::new(Code::LoginExpired, detail).with_hint("begin again").into());
    };
    // RFC 9207: another provider's answer is none of this one's.
    if brought.iss.as_ref().is_some_and(|iss| *iss != known.told.issuer) {
        return Err(known.refused("another provider answers"));
    }
    if !brought.error.is_empty() {
        let why = format!("{} {}", brought.error, brought.error_description);
        return Err(known.refused(why.trim()));
    }
    let subject = known.subject(http, &brought.code, &waiting).await?;
    Ok((known, Identity { issuer: known.told.issuer.clone(), subject }, waiting))
}

fn unlinked(known: &Known, identity: &Identity) -> Refused {
    let Identity { issuer, subject } = identity;
    let detail = format!(
        "{} knows who you are ({}), and no member here is linked to that",
        known.told.title,
        shown(subject)
    );
    let hint = format!(
        "ask an owner or admin: holdfast members link NAME --issuer {} --subject {}",
        quoted(issuer),
        quoted(subject)
    );
    Problem::new(Code::LoginUnlinked, detail).with_hint(hint).into()
}

/// A word as a shell takes it: it is another's text in a command that somebody will copy.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=.:/@+,%".contains(c);
    if word.chars().all(plain) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Whether a login was begun here: by a page of this server, or by the person who typed the address.
fn is_begun_here(headers: &HeaderMap) -> Result<()> {
    let site = headers.get(session::SEC_FETCH_SITE).map(|site| site.to_str().unwrap_or_default());
    if site.is_none_or(|site| ["same-origin", "none"].contains(&site)) {
        return Ok(());
    }
    let problem = Problem::new(Code::Forbidden, "another site's page tried to begin this login");
    Err(problem.with_hint("begin it from the page here").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_cut_and_quoted() {
        assert_eq!(shown("a\nb\u{1b}[31m"), "ab[31m");
        assert_eq!(shown(&"x".repeat(1000)).len(), SHOWN);
        assert_eq!(quoted("https://login.example/a"), "https://login.example/a");
        assert_eq!(quoted("x'; rm -rf /"), r"'x'\''; rm -rf /'");
    }
}
