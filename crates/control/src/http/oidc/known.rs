//! One provider: what it says of itself (OpenID Connect Discovery 1.0), and what it gives for a code.

use super::{
    super::answer::{Refused, Result},
    fetch::{Fetch, FetchError, Told},
    id_token::{Keys, Unfit, Wanted},
    pending::Waiting,
    shown,
};
use crate::{http::Shared, providers::Provider};
use api::{Code, Problem};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use form_urlencoded::{Serializer, byte_serialize};
use reqwest::Url;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};
use types::{Timestamp, limits};

/// One provider, and what it said of itself last.
pub(super) struct Known {
    pub(super) told: Provider,
    callback: String,
    fetch: std::result::Result<Fetch, FetchError>,
    said: Mutex<Option<(Arc<Said>, Timestamp)>>,
    turns: Semaphore,
}

/// What a provider says of itself; as much of it as is used.
pub(super) struct Said {
    authorization: Url,
    token: Url,
    /// It wants the client's secret in the form, and not in the head.
    by_body: bool,
    keys: Keys,
}

/// The same as it says it.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
}

/// What it gives for a code, or why it gives nothing (RFC 6749, sections 5.1 and 5.2).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Given {
    id_token: Option<String>,
    error: String,
    error_description: String,
}

impl Known {
    /// One of the settings, which were checked. It is asked for nothing before somebody logs in.
    pub(super) fn new(told: &Provider, callback: String) -> Self {
        let issuer = told.issuer.parse().expect("the settings were checked");
        let fetch = Fetch::new(&issuer);
        if let Err(error) = &fetch {
            tracing::error!(provider = %told.name, %error, "a login provider cannot be asked");
        }
        let turns = Semaphore::new(limits::PROVIDER_ASKED);
        Self { told: told.clone(), callback, fetch, said: Mutex::default(), turns }
    }

    pub(super) fn unavailable(&self, why: impl std::fmt::Display) -> Refused {
        let detail = format!("{} could not be asked: {why}", self.told.title);
        let problem = Problem::new(Code::ProviderUnavailable, shown(&detail));
        problem.with_hint("try again in a while, or log in with a password or a token").into()
    }

    pub(super) fn refused(&self, why: impl std::fmt::Display) -> Refused {
        let detail = format!("{} does not vouch for this login: {why}", self.told.title);
        let problem = Problem::new(Code::LoginRefused, shown(&detail));
        problem.with_hint("begin again; if it stays, ask whoever runs the provider").into()
    }

    /// A place among those who wait for this provider.
    pub(super) fn turn(&self) -> Result<SemaphorePermit<'_>> {
        let full =
            |_| self.unavailable(format_args!("{} logins wait for it already", limits::PROVIDER_ASKED));
        self.turns.try_acquire().map_err(full)
    }

    /// What the provider says of itself; asked anew when that is old.
    pub(super) async fn said(&self, now: Timestamp) -> Result<Arc<Said>> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match said {
            Some((said, at)) if now >= at && now.since(at) < limits::PROVIDER_KEPT => Ok(said),
            _ => self.discover(now).await,
        }
    }

    async fn discover(&self, now: Timestamp) -> Result<Arc<Said>> {
        let issuer = &self.told.issuer;
        let document = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let document: Document = serde_json::from_slice(&self.read(&document).await?).map_err(|error| {
            self.unavailable(format_args!("what it says of itself is unreadable: {error}"))
        })?;
        if document.issuer != *issuer {
            let says =
                format_args!("it says that it is {}, and it is told here as {issuer}", document.issuer);
            return Err(self.unavailable(says));
        }
        let keys = self.read(&document.jwks_uri).await?;
        let keys = Keys::read(&keys)
            .map_err(|error| self.unavailable(format_args!("its keys are unreadable: {error}")))?;
        let takes = |way| document.token_endpoint_auth_methods_supported.iter().any(|taken| taken == way);
        let said = Arc::new(Said {
            authorization: self.url(&document.authorization_endpoint)?,
            token: self.url(&document.token_endpoint)?,
            by_body: takes("client_secret_post") && !takes("client_secret_basic"),
            keys,
        });
        self.fetch()?.may_send_to(&said.authorization).map_err(|error| self.unavailable(error))?;
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some((said.clone(), now));
        Ok(said)
    }

    async fn read(&self, place: &str) -> Result<Vec<u8>> {
        let url = self.url(place)?;
        let told = self.fetch()?.get(&url).await.map_err(|error| self.unavailable(error))?;
        match told.status.as_u16() {
            200 => Ok(told.body),
            status => Err(self.unavailable(format_args!("{url} answers {status}"))),
        }
    }

    fn url(&self, text: &str) -> Result<Url> {
        Url::parse(text).map_err(|error| self.unavailable(format_args!("it names {text:?}: {error}")))
    }

    fn fetch(&self) -> Result<&Fetch> {
        self.fetch.as_ref().map_err(|error| self.unavailable(error))
    }

    /// Where a browser is sent to log in.
    pub(super) fn place(&self, said: &Said, state: &str, waiting: &Waiting) -> String {
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(waiting.verifier.as_bytes()));
        let mut place = said.authorization.clone();
        place.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("scope", "openid"),
            ("client_id", &self.told.client_id),
            ("redirect_uri", &self.callback),
            ("state", state),
            ("nonce", &waiting.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        place.into()
    }

    /// Whom the provider says that it is, checked.
    pub(super) async fn subject(&self, http: &Shared, code: &str, waiting: &Waiting) -> Result<String> {
        let _turn = self.turn()?;
        let said = self.said(http.core.now()).await?;
        let token = self.redeem(&said, code, &waiting.verifier).await?;
        let now = http.core.now();
        let Provider { issuer, client_id: client, .. } = &self.told;
        let wanted = Wanted { issuer, client, nonce: &waiting.nonce, now };
        let subject = match wanted.subject(&token, &said.keys) {
            // It may sign with keys that are newer than what is known of it. Asked once: the token came from
            // the provider itself, so nobody else can have this server ask again and again.
            Err(Unfit::Key) => wanted.subject(&token, &self.discover(now).await?.keys),
            judged => judged,
        };
        subject.map_err(|error| self.refused(error))
    }

    /// Changes a code for an ID token.
    async fn redeem(&self, said: &Said, code: &str, verifier: &str) -> Result<String> {
        let (form, by) = self.form(said, code, verifier);
        let told = self.fetch()?.post(&said.token, form, by).await;
        let Told { status, body } = told.map_err(|error| self.unavailable(error))?;
        let given = serde_json::from_slice::<Given>(&body);
        match (status.as_u16(), given) {
            (200, Ok(Given { id_token, .. })) => id_token.ok_or_else(|| self.refused("it gave no ID token")),
            // What was read is not repeated: there may be a token in it.
            (200, Err(_)) => Err(self.unavailable("what it answers is no token")),
            (_, Ok(Given { error, error_description, .. })) if !error.is_empty() => {
                Err(self.refused(format!("{error} {error_description}").trim()))
            }
            (status, _) => Err(self.unavailable(format_args!("{} answers {status}", said.token))),
        }
    }

    /// What a code is redeemed with, and as whom if that goes into the head.
    fn form(&self, said: &Said, code: &str, verifier: &str) -> (String, Option<(String, String)>) {
        let (id, secret) = (self.told.client_id.as_str(), self.told.client_secret.reveal());
        let mut form = Serializer::new(String::new());
        form.extend_pairs([
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", &self.callback),
            ("code_verifier", verifier),
        ]);
        // RFC 6749, section 2.3.1: encoded as in a form, in the head too.
        let encoded = |text: &str| byte_serialize(text.as_bytes()).collect();
        if !said.by_body {
            return (form.finish(), Some((encoded(id), encoded(secret))));
        }
        form.extend_pairs([("client_id", id), ("client_secret", secret)]);
        (form.finish(), None)
    }
}
