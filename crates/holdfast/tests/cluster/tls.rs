//! Servers that others reach: everything between people and members is TLS, and one fingerprint, or the
//! authority's certificate, is good for all of them.

use crate::{
    ledger,
    scene::{ANSWER, Cluster, NAMES},
    wire::Call,
};
use std::process::Stdio;

const ALL: [usize; 3] = [0, 1, 2];

#[test]
fn members_that_others_reach_are_asked_handed_on_and_sent_on_over_tls() {
    let mut cluster = Cluster::machines(ALL.len());
    cluster.listen_for_others();
    cluster.found(&[]);
    ALL[1..].iter().for_each(|at| cluster.join(*at));
    cluster.all_vote(ALL.len());
    let leader = cluster.leader_among(&ALL);
    let [one, two] = [1, 2].map(|step| (leader + step) % ALL.len());

    // What `cluster init` saved for its user names the address and the fingerprint.
    let saved = std::fs::read_to_string(cluster.dir().join(format!("{}.toml", NAMES[0]))).expect("saved");
    let pin = saved.split('#').nth(1).expect("a fingerprint").split('"').next().expect("its end");
    assert!(saved.contains(&format!("{}#{pin}", cluster.api(0))), "{saved}");
    let named = |at: usize| format!("{}#{pin}", cluster.api(at));
    let cli = |from: usize, to: &str, words: &[&str]| cluster.cli(from, &[words, &["--server", to]].concat());

    // One fingerprint for all, from any machine; a write on a follower is handed on, and every member knows.
    for at in ALL {
        let said = cli(one, &named(at), &["cluster", "status", "--json"]).executed().expect("a status");
        assert!(said.stdout.contains(pin), "{}", said.stdout);
    }
    let id = ledger::fresh().to_string();
    let create = ["tokens", "create", "ci", "--role", "viewer", "--request-id", &id];
    cli(two, &named(one), &create).executed().expect("handed on");
    for at in ALL {
        let said = cli(one, &named(at), &["requests", "show", &id]).executed().expect("known there");
        assert!(said.stdout.contains("executed"), "{}", said.stdout);
    }

    // Sent on to where the leader says it is, by a client that has the certificate of the authority.
    let id = ledger::fresh().to_string();
    let headers = [("idempotency-key", id.as_str()), ("holdfast-forward", "redirect")];
    let body = ledger::token();
    let call = Call { method: "POST", path: "/v1/tokens", headers: &headers, body: Some(&body) };
    let sent_on = cluster.call(two, &call, ANSWER).expect("an answer");
    let there = format!("{}/v1/tokens", cluster.api(leader));
    assert_eq!((sent_on.status, sent_on.header("location")), (307, Some(there.as_str())), "{sent_on:?}");
    let curl = |more: &[&str], url: &str| {
        let mut command = cluster.program(one, "curl");
        command.args(["-sS", "--max-time", "20", "--cacert"]).arg(cluster.authority()).args(more).arg(url);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().expect("curl: make setup installs it")
    };
    let bearer = format!("authorization: Bearer {}", cluster.token());
    let (key, body) = (format!("idempotency-key: {id}"), body.to_string());
    let asked = ["-H", &bearer, "-H", &key, "-H", "content-type: application/json", "-d", &body];
    let redirect = [
        "-H",
        "holdfast-forward: redirect",
        "-L",
        "--location-trusted",
        "-w",
        " %{http_code} %{url_effective}",
    ];
    let done = curl(&[&asked[..], &redirect].concat(), &format!("{}/v1/tokens", cluster.api(two)));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && text.contains("\"executed\""), "{text} {done:?}");
    assert!(text.ends_with(&format!(" 200 {there}")), "{text}");

    // And when the one that ran it is gone.
    let other = named(one);
    cluster.kill(leader);
    cluster.leader_among(&[one, two]);
    let show = ["requests", "show", &id, "--server", &other];
    let said = cluster.cli(two, &show).executed().expect("known there");
    assert!(said.stdout.contains("executed"), "{}", said.stdout);
}
