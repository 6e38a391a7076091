//! A test issuer: an OpenID provider that says it is one and does what no real one would. It knows one
//! client and asks nobody who they are; the test says so.

use axum::{
    Json, Router,
    body::Body,
    extract::{RawForm, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use holdfast_control::{Secret, providers::Provider};
use reqwest::Url;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};
use tokio::net::TcpListener;

pub const CLIENT: &str = "holdfast";
pub const CLIENT_SECRET: &str = "the client's secret";

/// What it does otherwise than a provider should, next time it is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mistake {
    #[default]
    None,
    WrongNonce,
    NoNonce,
    WrongIssuer,
    WrongAudience,
    TwoAudiences,
    OtherParty,
    Expired,
    AlgorithmNone,
    SharedSecret,
    /// Signed by another key under the name of the known one.
    OtherKey,
    /// Signed by a key that it publishes nowhere.
    UnknownKey,
    NoIdToken,
    NoToken,
    NoSubject,
    LongSubject,
    InvalidGrant,
    HugeToken,
    HugeKeys,
    HugeDiscovery,
    /// Never answers what is asked for a token.
    SlowToken,
    /// Never ends its answer to the first question.
    SlowDiscovery,
    RedirectedDiscovery,
    DiscoveryOfAnother,
    /// Has its tokens made at another host.
    ElsewhereToken,
    /// Sends people there over plain HTTP.
    ElsewhereLogin,
    Down,
}

struct Granted {
    nonce: String,
    challenge: String,
    redirect: String,
    subject: String,
}

struct Inner {
    url: String,
    now: u64,
    mistake: Mistake,
    key: EcdsaKeyPair,
    kid: String,
    codes: BTreeMap<String, Granted>,
    /// How often it was asked for its keys.
    asked_for_keys: usize,
    asked: usize,
}

#[derive(Clone)]
pub struct Issuer(Arc<Mutex<Inner>>);

fn key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).expect("a key")
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The value of a query or form.
pub fn said(pairs: &str, name: &str) -> Option<String> {
    let url = Url::parse(&format!("http://x/?{pairs}")).expect("a query");
    url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

impl Issuer {
    /// Starts one; its time is the test's.
    pub async fn start(now_ms: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let issuer = Self(Arc::new(Mutex::new(Inner {
            url,
            now: now_ms / 1000,
            mistake: Mistake::None,
            key: key(),
            kid: "first".into(),
            codes: BTreeMap::new(),
            asked_for_keys: 0,
            asked: 0,
        })));
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
            .with_state(issuer.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no test panics while it holds this")
    }

    pub fn url(&self) -> String {
        self.lock().url.clone()
    }

    pub fn makes(&self, mistake: Mistake) {
        self.lock().mistake = mistake;
    }

    /// Signs with a new key from now on, and publishes that one only.
    pub fn rotate(&self) {
        let mut inner = self.lock();
        (inner.key, inner.kid) = (key(), "second".into());
    }

    pub fn asked_for_keys(&self) -> usize {
        self.lock().asked_for_keys
    }

    pub fn asked(&self) -> usize {
        self.lock().asked
    }

    /// As a server is told of it.
    pub fn provider(&self) -> Provider {
        Provider {
            name: "corp".parse().expect("a name"),
            title: "Test Issuer".into(),
            issuer: self.url(),
            client_id: CLIENT.into(),
            client_secret: Secret::from_text(CLIENT_SECRET),
        }
    }

    /// Somebody logs in who was sent to this place: the query with which they are sent back.
    pub fn logs_in(&self, place: &str, subject: &str) -> String {
        let place = Url::parse(place).expect("a URL");
        let asked = |name| said(place.query().expect("a query"), name).unwrap_or_default();
        assert_eq!(place.origin(), Url::parse(&self.url()).expect("a URL").origin());
        assert_eq!((asked("response_type"), asked("client_id")), ("code".into(), CLIENT.into()));
        assert_eq!((asked("scope"), asked("code_challenge_method")), ("openid".into(), "S256".into()));
        let mut inner = self.lock();
        let code = format!("code-{}", inner.codes.len());
        let granted = Granted {
            nonce: asked("nonce"),
            challenge: asked("code_challenge"),
            redirect: asked("redirect_uri"),
            subject: subject.into(),
        };
        inner.codes.insert(code.clone(), granted);
        format!("code={code}&state={}", asked("state"))
    }
}

impl Inner {
    fn key_as_json(&self) -> Value {
        let point = self.key.public_key().as_ref();
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
                "x": encoded(&point[1..33]), "y": encoded(&point[33..65]) })
    }

    fn claims(&self, granted: &Granted) -> Value {
        let mut claims = json!({
            "iss": self.url, "sub": granted.subject, "aud": CLIENT, "nonce": granted.nonce,
            "iat": self.now, "exp": self.now + 300, "email": "ann@example.test", "name": "ann",
        });
        match self.mistake {
            Mistake::WrongNonce => claims["nonce"] = json!("of another login"),
            Mistake::NoNonce => drop(claims.as_object_mut().expect("an object").remove("nonce")),
            Mistake::WrongIssuer => claims["iss"] = json!("https://another.example"),
            Mistake::WrongAudience => claims["aud"] = json!("another"),
            Mistake::TwoAudiences => claims["aud"] = json!([CLIENT, "another"]),
            Mistake::OtherParty => claims["azp"] = json!("another"),
            Mistake::Expired => claims["exp"] = json!(self.now - 1),
            Mistake::NoSubject => claims["sub"] = json!(""),
            Mistake::LongSubject => claims["sub"] = json!("s".repeat(256)),
            _ => {}
        }
        claims
    }

    fn id_token(&self, granted: &Granted) -> String {
        let header = match self.mistake {
            Mistake::AlgorithmNone => json!({ "alg": "none" }),
            Mistake::SharedSecret => json!({ "alg": "HS256" }),
            Mistake::UnknownKey => json!({ "alg": "ES256", "kid": "nowhere" }),
            _ => json!({ "alg": "ES256", "kid": self.kid }),
        };
        let signed = format!("{}.{}", encoded(header.to_string()), encoded(self.claims(granted).to_string()));
        let random = SystemRandom::new();
        let by = |key: &EcdsaKeyPair| {
            let signature = key.sign(&random, signed.as_bytes()).expect("signed");
            encoded(signature.as_ref())
        };
        let signature = match self.mistake {
            Mistake::AlgorithmNone => String::new(),
            Mistake::SharedSecret => {
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, CLIENT_SECRET.as_bytes());
                encoded(ring::hmac::sign(&key, signed.as_bytes()))
            }
            Mistake::OtherKey | Mistake::UnknownKey => by(&key()),
            _ => by(&self.key),
        };
        format!("{signed}.{signature}")
    }

    fn redeem(&mut self, headers: &HeaderMap, form: &str) -> Result<Granted, &'static str> {
        let credentials =
            format!("Basic {}", BASE64_STANDARD.encode(format!("{CLIENT}:{}", "the+client%27s+secret")));
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if shown != Some(&credentials) {
            return Err("invalid_client");
        }
        let granted = said(form, "code").and_then(|code| self.codes.remove(&code)).ok_or("invalid_grant")?;
        let verifier = said(form, "code_verifier").unwrap_or_default();
        let fits = encoded(Sha256::digest(verifier)) == granted.challenge
            && said(form, "redirect_uri").as_ref() == Some(&granted.redirect);
        if !fits || self.mistake == Mistake::InvalidGrant {
            return Err("invalid_grant");
        }
        Ok(granted)
    }
}

/// More than anybody should read, without making it first.
fn endless() -> Response {
    let pieces = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 64 << 10]));
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(pieces)).into_response()
}

/// Nothing, for ever.
fn never() -> Response {
    let pieces = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(pieces)).into_response()
}

async fn discovery(State(issuer): State<Issuer>) -> Response {
    let mut inner = issuer.lock();
    inner.asked += 1;
    let url = inner.url.clone();
    let mut said = json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize?of=test"),
        "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/jwks"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256", "HS256", "none"],
    });
    match inner.mistake {
        Mistake::Down => return StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Mistake::HugeDiscovery => return endless(),
        Mistake::SlowDiscovery => return never(),
        Mistake::RedirectedDiscovery => {
            return (StatusCode::FOUND, [(header::LOCATION, format!("{url}/elsewhere"))]).into_response();
        }
        Mistake::DiscoveryOfAnother => said["issuer"] = json!("https://another.example"),
        Mistake::ElsewhereToken => said["token_endpoint"] = json!("http://192.0.2.1/token"),
        Mistake::ElsewhereLogin => said["authorization_endpoint"] = json!("http://login.example/authorize"),
        _ => {}
    }
    Json(said).into_response()
}

async fn jwks(State(issuer): State<Issuer>) -> Response {
    let mut inner = issuer.lock();
    inner.asked_for_keys += 1;
    match inner.mistake {
        Mistake::HugeKeys => endless(),
        _ => Json(json!({ "keys": [inner.key_as_json()] })).into_response(),
    }
}

async fn token(State(issuer): State<Issuer>, headers: HeaderMap, RawForm(form): RawForm) -> Response {
    let form = String::from_utf8(form.to_vec()).expect("text");
    let mut inner = issuer.lock();
    match inner.mistake {
        Mistake::HugeToken => return endless(),
        Mistake::SlowToken => return never(),
        Mistake::NoToken => return "no token at all".into_response(),
        _ => {}
    }
    match inner.redeem(&headers, &form) {
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({ "error": error }))).into_response(),
        Ok(granted) => {
            let mut answer = json!({ "access_token": "unused", "token_type": "Bearer", "expires_in": 300 });
            if inner.mistake != Mistake::NoIdToken {
                answer["id_token"] = json!(inner.id_token(&granted));
            }
            Json(answer).into_response()
        }
    }
}
