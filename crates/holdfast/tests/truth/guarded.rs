//! Guarded acts from the command line: nothing runs without a token that was shown, and what is not
//! known is said.

use super::*;

const PROMOTE: &[&str] = &["cluster", "promote", "two", "--reason", "it's gone"];

fn explained(overrides: Value) -> Value {
    json!({
        "act": "cluster promote two",
        "will": ["open epoch 4"],
        "touches": ["one", "two", "three"],
        "irreversible": ["epoch 4"],
        "invariants": [{ "name": "one_authority", "proven_by": "two of three promise" }],
        "overrides": overrides,
        "facts": [{ "name": "one", "index": 7 }],
        "token": "act_0123",
        "expires_ms": 120_000,
    })
}

fn problem(status: u16, code: &str, exit_outcome: &str) -> Reaction {
    Reaction::Answer(
        status,
        json!({
            "type": format!("docs/errors/{code}.md"), "title": "t", "status": status, "code": code,
            "detail": "it moved", "outcome": exit_outcome, "hint": "POST /v1/cluster/promote?explain",
        }),
    )
}

#[test]
fn without_a_terminal_an_act_is_explained_and_the_command_that_confirms_is_told() {
    for yes in [&[][..], &["--yes"]] {
        let fake = Fake::start(|_| Reaction::Answer(200, explained(json!([]))));
        let said = holdfast(&fake.url, &[PROMOTE, yes].concat());
        assert_eq!(said.code, 5, "{}", said.err);
        assert!(
            said.out.contains("open epoch 4") && said.out.contains("two of three promise"),
            "{}",
            said.out
        );
        let next = format!(
            "holdfast cluster promote two --reason 'it'\\''s gone' --server {} --confirm act_0123",
            fake.url
        );
        assert!(said.err.contains(&next), "{}", said.err);
        assert_eq!(said.err.contains("--yes does not answer"), !yes.is_empty());
        let writes = fake.writes();
        assert_eq!(writes.len(), 1);
        assert_eq!(writes[0].line, "POST /v1/cluster/promote?explain");
        assert!(writes[0].text.contains(r#"{"node":"two","reason":"it's gone"}"#), "{}", writes[0].text);
    }
}

#[test]
fn what_is_overridden_is_left_for_somebody_to_type() {
    let risk = json!([{ "invariant": "acked_is_durable", "type_this": "lose 3 events" }]);
    let fake = Fake::start(move |_| Reaction::Answer(200, explained(risk.clone())));
    let said = holdfast(&fake.url, PROMOTE);
    assert_eq!(said.code, 5);
    assert!(said.out.contains("lose 3 events"), "{}", said.out);
    assert!(said.err.contains("--acknowledge") && !said.err.contains("lose 3"), "{}", said.err);
}

#[test]
fn json_gives_the_explanation_as_data_and_the_problem_beside_it() {
    let fake = Fake::start(|_| Reaction::Answer(200, explained(json!([]))));
    let said = holdfast(&fake.url, &[PROMOTE, &["--json"]].concat());
    assert_eq!(said.code, 5);
    let shown: Value = serde_json::from_str(&said.out).expect("one value");
    assert_eq!(shown, explained(json!([])));
    let problem: Value = serde_json::from_str(&said.err).expect("one problem");
    assert_eq!(problem["code"], "confirmation_required");
    assert_eq!(holdfast(&fake.url, &[PROMOTE, &["--explain"]].concat()).code, 0);
    assert!(fake.writes().iter().all(|heard| heard.line.ends_with("?explain")));
}

#[test]
fn a_token_runs_the_act_once_as_a_script() {
    let done =
        json!({ "outcome": "executed", "done": "two has authority", "epoch": 4, "event": 12, "gap_ms": 40 });
    let fake = Fake::start(move |_| Reaction::Answer(200, done.clone()));
    let confirm = ["--confirm", "act_0123", "--acknowledge", "lose 3 events", "--request-id", ID];
    let said = holdfast(&fake.url, &[PROMOTE, &confirm].concat());
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(said.out, "two has authority (epoch 4, event 12, no writes for 40 ms)\n");
    let writes = fake.writes();
    assert_eq!((writes.len(), writes[0].line.as_str()), (1, "POST /v1/cluster/promote"));
    let text = writes[0].text.to_lowercase();
    for part in [
        "holdfast-confirm: act_0123",
        "holdfast-confirmed-by: script",
        &format!("idempotency-key: {}", ID.to_lowercase()),
        r#""acknowledge":["lose 3 events"]"#,
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_fence_is_of_the_member_that_is_named_or_of_the_one_that_is_asked() {
    for (named, sent) in [(Some("two"), r#""node":"two""#), (None, r#""reason":"cut off""#)] {
        let fake = Fake::start(|_| problem(409, "confirmation_stale", "not_executed"));
        let fence = ["cluster", "fence", "--reason", "cut off", "--confirm", "act_1"];
        let said = holdfast(&fake.url, &[&fence[..], named.as_slice()].concat());
        let writes = fake.writes();
        assert!(writes[0].line.ends_with("/v1/cluster/fence") && writes[0].text.contains(sent), "{writes:?}");
        assert_eq!(writes[0].text.contains("\"node\""), named.is_some(), "{writes:?}");
        let next = named.map_or("fence".to_owned(), |named| format!("fence {named}"));
        assert!(said.err.contains(&format!("next: holdfast cluster {next} …")), "{}", said.err);
    }
    let both = holdfast("http://127.0.0.1:1", &["cluster", "fence", "two", "--data-dir", "d"]);
    assert_eq!(both.code, 2, "{}", both.err);
}

#[test]
fn a_stale_confirmation_is_refused_with_the_command_that_explains_anew() {
    let fake = Fake::start(|_| problem(409, "confirmation_stale", "not_executed"));
    let said = holdfast(&fake.url, &[PROMOTE, &["--confirm", "act_1"]].concat());
    assert_eq!(said.code, 5);
    assert!(
        said.err.contains("it moved") && said.err.contains("next: holdfast cluster promote two"),
        "{}",
        said.err
    );
}

#[test]
fn an_act_whose_answer_is_lost_is_unknown_and_not_sent_again() {
    for (args, next) in [
        (PROMOTE, "holdfast cluster status".to_owned()),
        (&["cluster", "remove", "two", "--reason", "sold"], format!("holdfast requests show {ID}")),
    ] {
        let fake = Fake::start(|_| Reaction::Cut);
        let said = holdfast(&fake.url, &[args, &["--confirm", "act_1", "--request-id", ID]].concat());
        assert_eq!(said.code, 7, "{}", said.err);
        assert!(said.err.contains(&next), "{}", said.err);
        assert_eq!(fake.writes().len(), 1);
    }
    // What is a request in the log is looked up there.
    let fake = losing(state("executed", true, Some(42), None, None));
    let remove = ["cluster", "remove", "two", "--reason", "sold", "--confirm", "act_1", "--request-id", ID];
    let said = holdfast(&fake.url, &remove);
    assert_eq!((said.code, said.out.as_str()), (0, "the log says: executed (event 42)\n"), "{}", said.err);
    assert_eq!(fake.writes().len(), 1);
    let fake = losing(state("voided", true, Some(9), Some("by its owner"), None));
    assert_eq!(holdfast(&fake.url, &remove).code, 5);
    // What is not is told by the state of the cluster, and no request is asked for in vain.
    let fake = Fake::start(|_| Reaction::Cut);
    let said = holdfast(&fake.url, &["cluster", "fence", "--confirm", "act_1", "--json"]);
    assert_eq!((said.code, fake.count()), (7, 1), "{}", said.err);
    let problem: Value = serde_json::from_str(&said.err).expect("one problem");
    assert_eq!(problem["outcome"], "unknown");
    assert_eq!(problem["hint"], format!("holdfast cluster status --server {}", fake.url));
    // The explanation changes nothing: it may be asked for again.
    let fake = Fake::start(|_| Reaction::Cut);
    assert_eq!(holdfast(&fake.url, PROMOTE).code, 6);
}

#[test]
fn a_secret_for_a_member_is_data_and_a_lost_one_is_unknown() {
    let fake = Fake::start(|_| {
        Reaction::Answer(
            200,
            json!({ "outcome": "executed", "secret": "hfm_1", "expires": 1_800_000_000_000_u64 }),
        )
    });
    let said = holdfast(&fake.url, &["cluster", "join-token"]);
    assert_eq!((said.code, said.out.as_str()), (0, "hfm_1\n"));
    assert!(fake.writes()[0].text.contains(r#"{"expires_in":"1h"}"#), "{:?}", fake.writes());
    let cut = Fake::start(|_| Reaction::Cut);
    assert_eq!(holdfast(&cut.url, &["cluster", "join-token"]).code, 7);
    let fake = Fake::start(|_| Reaction::Answer(200, json!({ "outcome": "executed", "event": 41 })));
    assert_eq!(holdfast(&fake.url, &["cluster", "snapshot"]).out, "snapshot of event 41\n");
}

#[test]
fn what_a_path_names_is_named_in_the_command_that_confirms() {
    let delete = ["envs", "delete", "staging", "--org", "acme", "--reason", "over"];
    let fake = Fake::start(|_| Reaction::Answer(200, explained(json!([]))));
    let said = holdfast(&fake.url, &delete);
    assert_eq!(said.code, 5, "{}", said.err);
    let next = "holdfast envs delete staging --app shop --org acme --reason over --server ";
    assert!(said.err.contains(next) && said.err.contains("--confirm act_0123"), "{}", said.err);
    let writes = fake.writes();
    assert_eq!(writes[0].line, "POST /v1/orgs/acme/apps/shop/envs/staging/delete?explain");
    assert!(writes[0].text.contains(r#"{"reason":"over"}"#), "{}", writes[0].text);
}

#[test]
fn nobody_is_asked_where_nothing_is_lost() {
    let mut free = explained(json!([]));
    free["token"] = "".into();
    let shown = free.clone();
    let fake = Fake::start(move |heard| match heard.line.ends_with("?explain") {
        true => Reaction::Answer(200, shown.clone()),
        false => {
            Reaction::Answer(200, json!({ "outcome": "executed", "done": "deleted app shop", "event": 12 }))
        }
    });
    let said = holdfast(&fake.url, &["apps", "delete", "shop"]);
    assert_eq!((said.code, said.out.as_str()), (0, "deleted app shop (event 12)\n"), "{}", said.err);
    let lines: Vec<String> = fake.writes().iter().map(|heard| heard.line.clone()).collect();
    let path = "POST /v1/orgs/main/apps/shop/delete";
    assert_eq!(lines, [format!("{path}?explain"), path.to_owned()]);
    assert!(!fake.writes()[1].text.to_lowercase().contains("holdfast-confirm"));
    // To explain is not to do.
    assert_eq!(holdfast(&fake.url, &["apps", "delete", "shop", "--explain"]).code, 0);
    assert_eq!(fake.writes().len(), 3);
}
