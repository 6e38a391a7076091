//! Answers that are lost: who is asked instead, and what is printed of it.

use super::*;

#[test]
fn another_server_of_the_cluster_is_asked_when_the_first_is_gone() {
    let first = Fake::start(|_| Reaction::Cut);
    let verdict = state("executed", true, Some(42), None, None);
    let second = losing(verdict);
    let both = format!("{},{}", first.url, second.url);
    let said = scale(&both);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("event 42 (scale.set)"), "{}", said.out);
    assert_eq!((first.writes().len(), second.writes().len()), (1, 0), "sent once, and to the first");
    // Nobody knows: the commands mean the same servers.
    let second = losing(state("not_seen", false, None, None, None));
    let both = format!("{},{}", first.url, second.url);
    let said = scale(&both);
    assert_eq!(said.code, 7, "{}", said.err);
    for verb in ["show", "void"] {
        assert!(said.err.contains(&format!("holdfast requests {verb} {ID} --server {both}")), "{}", said.err);
    }
}

#[test]
fn with_json_a_lost_answer_leaves_one_problem_object_and_its_outcome() {
    let args = ["scale", "web=3", "--no-wait", "--json", "--request-id", ID];
    for (verdict, exit, outcome) in [
        (state("not_seen", false, None, None, None), 7, "unknown"),
        (state("voided", true, Some(9), Some("by its owner"), None), 5, "not_executed"),
        (state("refused", true, Some(9), Some("gone"), Some("conflict")), 5, "not_executed"),
    ] {
        let fake = losing(verdict);
        let said = holdfast(&fake.url, &args);
        assert_eq!((said.code, said.out.as_str()), (exit, ""), "{}", said.err);
        let problem: Value = serde_json::from_str(&said.err).expect("one object and nothing beside it");
        assert_eq!((&problem["outcome"], &problem["request_id"]), (&json!(outcome), &json!(ID)), "{problem}");
    }
    let fake = losing(state("executed", true, Some(42), None, None));
    let said = holdfast(&fake.url, &args);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let receipt: Value = serde_json::from_str(&said.out).expect("one object");
    assert_eq!(receipt["outcome"], "executed");
}

#[test]
fn a_request_that_nobody_named_is_told_before_it_is_sent() {
    let fake = Fake::start(|_| Reaction::Cut);
    let said = holdfast(&fake.url, &["scale", "web=3", "--no-wait"]);
    assert_eq!(said.code, 7, "{}", said.err);
    let first = said.err.lines().next().unwrap_or_default().to_owned();
    let id = first.strip_prefix("request ").expect("its id, and nothing before it");
    let writes = fake.writes();
    let heard = writes[0].text.to_lowercase();
    assert!(heard.contains(&format!("idempotency-key: {}", id.to_lowercase())), "{heard}");
}
