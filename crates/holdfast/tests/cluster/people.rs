//! Somebody who has logged in on one member writes through another, and is out everywhere at once.

use crate::{
    ledger::fresh,
    scene::{Cluster, SOON},
    wire::{self, Answer, Call},
};
use demo::wait_for;
use serde_json::{Value, json};

const PASSWORD: &str = "tables of green rain";

fn call(
    cluster: &Cluster,
    at: usize,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: &Value,
) -> Answer {
    let body = Some(body).filter(|body| !body.is_null());
    wire::call(cluster.host(at), &Call { method, path, headers, body }, SOON).expect("an answer")
}

/// Cookie and CSRF token of a new session.
fn login(cluster: &Cluster, at: usize) -> (String, String) {
    let body = json!({ "name": "ann", "password": PASSWORD });
    let answer = call(cluster, at, ("POST", "/v1/login"), &[], &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let cookie = answer.header("set-cookie").and_then(|cookie| cookie.split(';').next()).expect("a cookie");
    (cookie.to_owned(), answer.body["csrf"].as_str().expect("a token").to_owned())
}

#[test]
fn a_session_writes_through_the_leader_and_ends_with_its_member() {
    let mut cluster = Cluster::of_three();
    let leader = cluster.leader_among(&[0, 1, 2]);
    let (at, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let bearer = format!("Bearer {}", cluster.token());
    let owner = |at: usize, what: (&str, &str), id: &str, body: &Value| {
        call(&cluster, at, what, &[("authorization", &bearer), ("idempotency-key", id)], body)
    };
    let ann = json!({ "name": "ann", "role": "admin", "password": PASSWORD });
    let added = owner(leader, ("POST", "/v1/members"), &fresh().to_string(), &ann);
    assert_eq!(added.status, 200, "{added:?}");
    wait_for("the follower to know ann", SOON, || {
        let body = json!({ "name": "ann", "password": PASSWORD });
        (call(&cluster, at, ("POST", "/v1/login"), &[], &body).status == 200).then_some(())
    })
    .expect("known");

    let (cookie, csrf) = login(&cluster, at);
    let id = fresh().to_string();
    let session = [
        ("cookie", cookie.as_str()),
        ("origin", "http://holdfast"),
        ("holdfast-csrf", csrf.as_str()),
        ("idempotency-key", id.as_str()),
    ];
    let token = json!({ "name": "made", "role": "viewer", "expires_in": "1h" });
    let made = call(&cluster, at, ("POST", "/v1/tokens"), &session, &token);
    assert_eq!(made.status, 200, "handed on to the leader: {made:?}");
    let without = call(&cluster, at, ("POST", "/v1/tokens"), &session[..2], &token);
    assert_eq!(without.status, 403, "no CSRF token: {without:?}");
    let elsewhere = call(&cluster, other, ("GET", "/v1/whoami"), &session[..1], &Value::Null);
    assert_eq!(elsewhere.status, 401, "the session belongs to the member that opened it: {elsewhere:?}");
    let me = call(&cluster, at, ("GET", "/v1/whoami"), &session[..1], &Value::Null);
    let person = me.body["principal"].as_str().expect("a person").to_owned();
    for event in 1..40 {
        let told = format!("{person} {event}");
        let vouched =
            call(&cluster, leader, ("GET", "/v1/whoami"), &[("holdfast-vouched", &told)], &Value::Null);
        assert_eq!(vouched.status, 401, "nobody vouches from outside");
    }

    by_token(&cluster, at, leader);

    let gone = owner(leader, ("DELETE", "/v1/members/ann"), &fresh().to_string(), &Value::Null);
    assert_eq!(gone.status, 200, "{gone:?}");
    let late = call(
        &cluster,
        at,
        ("POST", "/v1/tokens"),
        &session,
        &json!({ "name": "late", "role": "viewer", "expires_in": "1h" }),
    );
    assert_eq!(late.status, 401, "the leader knows at once: {late:?}");
    cluster.stop(at);
    cluster.start(at);
    let after = call(&cluster, at, ("GET", "/v1/whoami"), &session[..1], &Value::Null);
    assert_eq!(after.status, 401, "and it ends with its server: {after:?}");
}

/// The same for somebody who has logged in with a token, on the page.
fn by_token(cluster: &Cluster, at: usize, leader: usize) {
    let own = ("origin", "http://holdfast");
    let form = Value::String(format!("token={}&to=%2Ftokens", cluster.token()));
    let entered = call(cluster, at, ("POST", "/login"), &[own], &form);
    assert_eq!((entered.status, entered.header("location")), (303, Some("/tokens")), "{entered:?}");
    let cookie = entered.header("set-cookie").and_then(|cookie| cookie.split(';').next()).expect("a cookie");
    let page = call(cluster, at, ("GET", "/tokens"), &[("cookie", cookie)], &Value::Null);
    let page = page.body.as_str().expect("a page");
    let csrf = page.split("name=\"csrf\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
    let (csrf, id) = (csrf.expect("a form").to_owned(), fresh().to_string());
    let session =
        [("cookie", cookie), own, ("holdfast-csrf", csrf.as_str()), ("idempotency-key", id.as_str())];
    let token = json!({ "name": "by-token", "role": "viewer", "expires_in": "1h" });
    let made = call(cluster, at, ("POST", "/v1/tokens"), &session, &token);
    assert_eq!(made.status, 200, "handed on to the leader: {made:?}");
    let me = call(cluster, at, ("GET", "/v1/whoami"), &session[..1], &Value::Null);
    let token = me.body["token"].as_str().expect("a token");
    for path in ["/v1/whoami", "/v1/tokens"] {
        let vouched = call(cluster, leader, ("GET", path), &[("holdfast-vouched", token)], &Value::Null);
        assert_eq!(vouched.status, 401, "nobody vouches from outside: {vouched:?}");
    }
    let out = call(cluster, at, ("POST", "/logout"), &session[..2], &Value::String(format!("csrf={csrf}")));
    assert_eq!(out.status, 303, "{out:?}");
    let after = call(cluster, at, ("GET", "/v1/whoami"), &session[..1], &Value::Null);
    assert_eq!(after.status, 401, "it is out: {after:?}");
}
