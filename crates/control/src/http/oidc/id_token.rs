//! ID tokens: whether a provider made this one, for this client and this login, and whom it names.
//!
//! OpenID Connect Core 1.0, section 3.1.3.7, over RFC 7515 (signatures), 7517 (keys) and 7518
//! (algorithms). `ring`, which TLS is made of here, checks the signatures.
//!
//! Invariants:
//! - the algorithm is one of [`algorithm`]'s: none of them is "none", and none has a secret that this
//!   server knows too. The key has to be of the algorithm's kind, so that neither stands in for another.
//! - keys come from the provider's own document; what a token says of keys (`jwk`, `jku`, `x5u`) is not read.
//! - nothing of a token is looked at before its signature is known to be good, but its head.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::signature::{
    self, EcdsaVerificationAlgorithm, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde_json::Value;
use types::{Timestamp, limits};

/// How far a provider's clock may be ahead, in seconds: its tokens are read within a moment.
const AHEAD: f64 = 60.0;

/// Why an ID token lets nobody in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// No known key of the provider made the signature: newer ones may have.
    #[error("its ID token is signed with no key that it publishes")]
    Key,
    /// It is no such token.
    #[error("its ID token cannot be read: {0}")]
    Unreadable(&'static str),
    /// It is signed in a way that shows nothing.
    #[error("its ID token is signed with {0:?}, which is no signature of a provider")]
    Algorithm(String),
    /// It says something else than it has to.
    #[error("its ID token {0}")]
    Says(&'static str),
}

/// A public key of a provider (RFC 7517, section 4); as much of it as is used.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Key {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    crv: String,
    n: String,
    e: String,
    x: String,
    y: String,
}

/// The keys that a provider signs with.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// Those of a document of the provider's. Keys of kinds that are not known here are left out.
    ///
    /// # Errors
    /// It is no such document.
    pub(super) fn read(text: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let Set { keys } = serde_json::from_slice(text)?;
        let known = keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
        Ok(Self(known.take(limits::PROVIDER_KEYS).collect()))
    }
}

/// How a signature is checked.
#[derive(Clone, Copy)]
enum Algorithm {
    Rsa(&'static RsaParameters),
    /// The curve, and how long a coordinate is.
    Ecdsa(&'static EcdsaVerificationAlgorithm, &'static str, usize),
    Ed25519,
}

/// The algorithms that show that a provider signed: each with a private key of its own.
fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        "RS384" => Algorithm::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        "RS512" => Algorithm::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        "PS256" => Algorithm::Rsa(&signature::RSA_PSS_2048_8192_SHA256),
        "PS384" => Algorithm::Rsa(&signature::RSA_PSS_2048_8192_SHA384),
        "PS512" => Algorithm::Rsa(&signature::RSA_PSS_2048_8192_SHA512),
        "ES256" => Algorithm::Ecdsa(&signature::ECDSA_P256_SHA256_FIXED, "P-256", 32),
        "ES384" => Algorithm::Ecdsa(&signature::ECDSA_P384_SHA384_FIXED, "P-384", 48),
        "EdDSA" | "Ed25519" => Algorithm::Ed25519,
        _ => return None,
    })
}

/// The head of a token (RFC 7515, section 4).
#[derive(Deserialize)]
struct Head {
    alg: String,
    kid: Option<String>,
    /// What has to be understood besides; nothing of it is.
    crit: Option<Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    nbf: Option<f64>,
    nonce: Option<String>,
    azp: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// What an ID token has to be for one login.
pub(super) struct Wanted<'a> {
    pub(super) issuer: &'a str,
    pub(super) client: &'a str,
    pub(super) nonce: &'a str,
    pub(super) now: Timestamp,
}

impl Wanted<'_> {
    /// Holds a token against everything that it has to be. Its subject.
    ///
    /// # Errors
    /// The first thing that it is not.
    pub(super) fn subject(&self, token: &str, keys: &Keys) -> Result<String, Unfit> {
        let claims: Claims = serde_json::from_slice(&signed(token, keys)?)
            .map_err(|_| Unfit::Unreadable("what it says is not what an ID token says"))?;
        if claims.iss != self.issuer {
            return Err(Unfit::Says("is of another provider"));
        }
        // For several clients at once, each of them could bring it here.
        let for_this_client = match &claims.aud {
            Audience::One(one) => one == self.client,
            Audience::Many(many) => !many.is_empty() && many.iter().all(|one| one == self.client),
        };
        if !for_this_client || claims.azp.is_some_and(|party| party != self.client) {
            return Err(Unfit::Says("is for another client"));
        }
        let now = self.now.as_ms() as f64 / 1000.0;
        if now >= claims.exp {
            return Err(Unfit::Says("has expired"));
        }
        if claims.nbf.is_some_and(|begins| now + AHEAD < begins) {
            return Err(Unfit::Says("is not valid yet"));
        }
        if claims.nonce.as_deref() != Some(self.nonce) {
            return Err(Unfit::Says("is for another login"));
        }
        if claims.sub.is_empty() || claims.sub.len() > limits::SUBJECT {
            return Err(Unfit::Says("names nobody"));
        }
        Ok(claims.sub)
    }
}

/// What a token says, if one of these keys signed it (RFC 7515, section 5.2, compact).
fn signed(token: &str, keys: &Keys) -> Result<Vec<u8>, Unfit> {
    let shape = || Unfit::Unreadable("it has not the shape of one");
    let (said, signature) = token.rsplit_once('.').ok_or_else(shape)?;
    let (head, claims) = said.split_once('.').ok_or_else(shape)?;
    let [head, claims, signature] = [head, claims, signature].map(decoded);
    let head: Head = serde_json::from_slice(&head.ok_or_else(shape)?).map_err(|_| shape())?;
    if head.crit.is_some() {
        return Err(Unfit::Unreadable("it wants something understood that is not"));
    }
    let algorithm = algorithm(&head.alg).ok_or_else(|| Unfit::Algorithm(head.alg.clone()))?;
    let (claims, signature) = (claims.ok_or_else(shape)?, signature.ok_or_else(shape)?);
    let is_meant = |key: &&Key| {
        (head.kid.is_none() || key.kid == head.kid)
            && key.alg.as_ref().is_none_or(|alg| *alg == head.alg)
            && key.usage.as_ref().is_none_or(|usage| usage == "sig")
    };
    let is_good = keys.0.iter().filter(is_meant).any(|key| key.signed(algorithm, said, &signature).is_some());
    if is_good { Ok(claims) } else { Err(Unfit::Key) }
}

impl Key {
    /// Nothing if it is of another kind, or did not sign this.
    fn signed(&self, algorithm: Algorithm, said: &str, signature: &[u8]) -> Option<()> {
        let said = said.as_bytes();
        match algorithm {
            Algorithm::Rsa(parameters) if self.kty == "RSA" => {
                let (n, e) = (number(&self.n)?, number(&self.e)?);
                RsaPublicKeyComponents { n, e }.verify(parameters, said, signature).ok()
            }
            Algorithm::Ecdsa(curve, name, size) if self.kty == "EC" && self.crv == name => {
                let (x, y) = (decoded(&self.x)?, decoded(&self.y)?);
                let fits = x.len() == size && y.len() == size;
                let point = fits.then(|| [&[4][..], &x, &y].concat())?;
                UnparsedPublicKey::new(curve, point).verify(said, signature).ok()
            }
            Algorithm::Ed25519 if self.kty == "OKP" && self.crv == "Ed25519" => {
                UnparsedPublicKey::new(&signature::ED25519, decoded(&self.x)?).verify(said, signature).ok()
            }
            _ => None,
        }
    }
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// A number without zeros in front, which some providers write and `ring` does not take.
fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = decoded(text)?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[first..].to_vec())
}

#[cfg(test)]
mod tests;
