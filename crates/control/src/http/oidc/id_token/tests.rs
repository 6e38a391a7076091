//! `vectors.json` was signed by OpenSSL 3 (`node:crypto`): one token for each algorithm, and one with a
//! short key. What no provider would sign is signed here.

use super::*;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

const NOW: u64 = 1_763_673_600;

fn vectors() -> Value {
    serde_json::from_str(include_str!("vectors.json")).expect("JSON")
}

fn keys(keys: &Value) -> Keys {
    Keys::read(json!({ "keys": keys }).to_string().as_bytes()).expect("keys")
}

fn wanted(at: u64) -> Wanted<'static> {
    let now = Timestamp::from_ms(at * 1000);
    Wanted { issuer: "https://login.example", client: "holdfast", nonce: "n-0S6_WzA2Mj", now }
}

fn encoded(text: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(text)
}

/// A provider that signs whatever it is told.
struct Signer(Ed25519KeyPair);

impl Signer {
    fn new() -> Self {
        Self(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key"))
    }

    fn key(&self) -> Value {
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": "one", "use": "sig", "alg": "EdDSA",
                "x": encoded(self.0.public_key()) })
    }

    fn signs(&self, head: &Value, claims: &str) -> String {
        let said = format!("{}.{}", encoded(head.to_string()), encoded(claims));
        let signature = encoded(self.0.sign(said.as_bytes()));
        format!("{said}.{signature}")
    }
}

fn head() -> Value {
    json!({ "alg": "EdDSA", "kid": "one" })
}

fn claims() -> Value {
    json!({ "iss": "https://login.example", "sub": "248289761001", "aud": "holdfast", "iat": NOW,
            "nonce": "n-0S6_WzA2Mj", "exp": NOW + 300 })
}

#[test]
fn every_algorithm_is_checked_as_openssl_signs_it() {
    let vectors = vectors();
    let all = keys(&vectors["keys"]);
    let tokens = vectors["tokens"].as_object().expect("tokens");
    assert_eq!(tokens.len(), 10);
    for (name, token) in tokens {
        let token = token.as_str().expect("text");
        assert_eq!(wanted(NOW).subject(token, &all).as_deref(), Ok("248289761001"), "{name}");
        let (said, signature) = token.rsplit_once('.').expect("three parts");
        let mut bent = decoded(signature).expect("base64");
        for at in [0, bent.len() / 2, bent.len() - 1] {
            bent[at] ^= 1;
            let bent_token = format!("{said}.{}", encoded(&bent));
            assert_eq!(wanted(NOW).subject(&bent_token, &all), Err(Unfit::Key), "{name} {at}");
            bent[at] ^= 1;
        }
        let (head, _) = said.split_once('.').expect("three parts");
        let other = encoded(claims().to_string().replace("248289761001", "248289761002"));
        let other = format!("{head}.{other}.{signature}");
        assert_eq!(wanted(NOW).subject(&other, &all), Err(Unfit::Key), "{name}");
        let cut = format!("{said}.{}", encoded(&bent[1..]));
        assert_eq!(wanted(NOW).subject(&cut, &all), Err(Unfit::Key), "{name}");
    }
    let weak = vectors["weak"].as_str().expect("text");
    assert_eq!(wanted(NOW).subject(weak, &all), Err(Unfit::Key), "a key of 1024 bits");
}

#[test]
fn zeros_in_front_of_a_modulus_do_no_harm() {
    let mut vectors = vectors();
    let n = decoded(vectors["keys"][0]["n"].as_str().expect("text")).expect("base64");
    vectors["keys"][0]["n"] = json!(encoded([&[0], n.as_slice()].concat()));
    let token = vectors["tokens"]["RS256"].as_str().expect("text");
    assert!(wanted(NOW).subject(token, &keys(&vectors["keys"])).is_ok());
}

#[test]
fn a_token_says_for_itself_neither_that_it_needs_no_key_nor_which() {
    let (signer, vectors) = (Signer::new(), vectors());
    let own = keys(&json!([signer.key()]));
    let says = |head: Value| wanted(NOW).subject(&signer.signs(&head, &claims().to_string()), &own);
    assert!(says(head()).is_ok());
    assert!(says(json!({ "alg": "EdDSA" })).is_ok(), "one that names no key");
    for alg in ["none", "None", "HS256", "HS384", "HS512", "eddsa", "ES512", ""] {
        assert_eq!(says(json!({ "alg": alg })), Err(Unfit::Algorithm(alg.into())), "{alg}");
    }
    for alg in ["RS256", "PS512", "ES256", "ES384", "Ed25519"] {
        assert_eq!(says(json!({ "alg": alg, "kid": "one" })), Err(Unfit::Key), "{alg} with a key of another");
    }
    assert_eq!(says(json!({ "alg": "EdDSA", "kid": "two" })), Err(Unfit::Key));
    let unread = says(json!({ "alg": "EdDSA", "kid": "one", "crit": ["b64"], "b64": false }));
    assert!(matches!(unread, Err(Unfit::Unreadable(_))), "{unread:?}");
    let brought = json!({ "alg": "EdDSA", "kid": "one", "jwk": signer.key(), "jku": "https://evil.example" });
    let token = signer.signs(&brought, &claims().to_string());
    assert_eq!(wanted(NOW).subject(&token, &keys(&vectors["keys"])), Err(Unfit::Key), "a key of its own");
    // The public key as the secret of a code that whoever knows it can make.
    let said =
        format!("{}.{}", encoded(json!({ "alg": "HS256" }).to_string()), encoded(claims().to_string()));
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, signer.0.public_key().as_ref());
    let token = format!("{said}.{}", encoded(ring::hmac::sign(&secret, said.as_bytes())));
    assert_eq!(wanted(NOW).subject(&token, &own), Err(Unfit::Algorithm("HS256".into())));
}

#[test]
fn keys_are_used_for_what_they_are_published_for() {
    let signer = Signer::new();
    let token = signer.signs(&head(), &claims().to_string());
    let with = |change: &Value| {
        let mut key = signer.key();
        key.as_object_mut().expect("an object").extend(change.as_object().expect("an object").clone());
        wanted(NOW).subject(&token, &keys(&json!([{ "kty": 7 }, { "kty": "new" }, key])))
    };
    assert!(with(&json!({})).is_ok(), "what is not known is left out");
    assert!(with(&json!({ "use": null, "alg": null })).is_ok());
    for change in [
        json!({ "use": "enc" }),
        json!({ "alg": "Ed448" }),
        json!({ "kid": null }),
        json!({ "kty": "RSA" }),
        json!({ "crv": "X25519" }),
        json!({ "x": "" }),
        json!({ "x": "!" }),
    ] {
        assert_eq!(with(&change), Err(Unfit::Key), "{change}");
    }
    let many = vec![json!({ "kty": "OKP" }); limits::PROVIDER_KEYS + 5];
    assert_eq!(keys(&json!(many)).0.len(), limits::PROVIDER_KEYS);
    assert!(Keys::read(b"{}").is_err() && Keys::read(b"<html>").is_err());
}

#[test]
fn what_it_says_is_for_this_login_of_this_client_now() {
    let signer = Signer::new();
    let own = keys(&json!([signer.key()]));
    let said = |text: &str| wanted(NOW).subject(&signer.signs(&head(), text), &own);
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        said(&claims.to_string())
    };
    for (name, value) in [
        ("aud", json!(["holdfast"])),
        ("azp", json!("holdfast")),
        ("exp", json!(NOW + 1)),
        ("exp", json!(NOW as f64 + 0.5)),
        ("nbf", json!(NOW + 60)),
        ("sub", json!("s".repeat(limits::SUBJECT))),
        ("email", json!({ "of": "no interest" })),
    ] {
        assert!(with(name, value.clone()).is_ok(), "{name} {value}");
    }
    for (name, value) in [
        ("iss", json!("https://login.example/")),
        ("aud", json!("another")),
        ("aud", json!([])),
        ("aud", json!(["holdfast", "another"])),
        ("azp", json!("another")),
        ("exp", json!(NOW)),
        ("exp", json!(-1)),
        ("nbf", json!(NOW + 61)),
        ("nonce", Value::Null),
        ("nonce", json!("")),
        ("nonce", json!("n-0S6_WzA2MJ")),
        ("sub", json!("")),
        ("sub", json!("s".repeat(limits::SUBJECT + 1))),
    ] {
        assert!(matches!(with(name, value.clone()), Err(Unfit::Says(_))), "{name} {value}");
    }
    for (name, value) in [
        ("exp", Value::Null),
        ("exp", json!("1763673900")),
        ("nbf", json!("never")),
        ("nonce", json!(["n-0S6_WzA2Mj"])),
        ("iss", json!(["https://login.example"])),
        ("aud", json!({ "holdfast": true })),
        ("sub", json!(248_289_761_001_u64)),
    ] {
        assert!(matches!(with(name, value.clone()), Err(Unfit::Unreadable(_))), "{name} {value}");
    }
    let twice = claims().to_string().replacen('{', "{\"sub\":\"somebody else\",", 1);
    assert!(matches!(said(&twice), Err(Unfit::Unreadable(_))), "two subjects");
    let good = signer.signs(&head(), &claims().to_string());
    for bad in
        ["", ".", "..", "a.b", "a.b.c", "a.b.c.d", &format!("{good}="), &format!("{good}."), &good[1..]]
    {
        assert!(matches!(wanted(NOW).subject(bad, &own), Err(Unfit::Unreadable(_) | Unfit::Key)), "{bad}");
    }
}
