//! What came of a form: an explanation to be confirmed, a receipt, or why not.

use super::{
    acts::{ACKNOWLEDGE, Act, Guarded, Said},
    doing::CONFIRM,
    forms,
    frame::Place,
    parts,
    visit::Visit,
};
use api::{ActDone, Explained, Problem, Receipt};
use maud::{Markup, html};
use serde_json::Value;
use types::Timestamp;

/// The field that says that the act was explained.
pub(super) const EXPLAINED: &str = "explained";
/// The field of what is typed to confirm an act: the name of what it is about.
pub(super) const TYPED: &str = "typed";

/// What a guarded act would do, and the form that confirms it.
pub(super) fn explanation(visit: &Visit, act: &Act, said: &Said, explained: &Explained) -> Markup {
    let until = visit.now.plus(types::DurationMs::from_ms(explained.expires_ms));
    html! {
        h1 { "Confirm: " (explained.act) }
        p { strong { "Nothing has been done yet." } " This is what would happen now." }
        (what(explained))
        h2 { "Confirm" }
        form method="post" action={ "/do/" (act.key) } {
            (forms::hidden(visit, &kept(said)))
            input type="hidden" name=(EXPLAINED) value="yes";
            input type="hidden" name=(CONFIRM) value=(explained.token);
            @for (place, each) in explained.overrides.iter().enumerate() {
                p {
                    label for={ "acknowledge-" (place) } {
                        "This overrides " strong { (each.invariant) } ". Type " code { (each.type_this) } " to acknowledge it"
                    }
                    input id={ "acknowledge-" (place) } name=(ACKNOWLEDGE) required autocomplete="off" spellcheck="false";
                }
            }
            @if !said.get("reason").is_empty() { p { "The reason that is written down: " (said.get("reason")) } }
            @if explained.token.is_empty() {
                p { "Nothing of it runs, is routed or is about to be, so that it needs no confirmation." }
            } @else {
                (name_of(&(act.typed)(said)))
                p {
                    "It can be confirmed once, " (remaining(until, visit.now)) ", and only while what it shows is so."
                }
            }
            button { "Confirm: " (explained.act) }
            " "
            a href=(act.place.link().0) { "Do nothing" }
        }
        (parts::command(&act.command(said)))
    }
}

/// The name that is typed, where one is asked for.
fn name_of(name: &str) -> Markup {
    html! {
        @if !name.is_empty() {
            p {
                label for=(TYPED) { "Type " code { (name) } " to confirm" }
                input id=(TYPED) name=(TYPED) required autocomplete="off" spellcheck="false";
            }
        }
    }
}

fn remaining(until: Timestamp, now: Timestamp) -> Markup {
    html! { "for " span data-until=(until.as_ms()) { (parts::span(until.since(now).as_ms())) } }
}

/// Everything that an explanation says.
fn what(explained: &Explained) -> Markup {
    let proofs: Vec<String> =
        explained.invariants.iter().map(|proof| format!("{}: {}", proof.name, proof.proven_by)).collect();
    html! {
        (parts::sentences("What it will do", &explained.will))
        (parts::sentences("What it touches", &explained.touches))
        (parts::sentences("What cannot be undone", &explained.irreversible))
        (parts::sentences("Invariants that hold, and what proves them", &proofs))
        @if explained.facts.is_object() {
            h2 { "What is known" }
        }
        @if !is_nothing(&explained.facts) {
            (parts::facts("What is known", &explained.facts))
        }
    }
}

fn is_nothing(facts: &Value) -> bool {
    match facts {
        Value::Null => true,
        Value::Array(rows) => rows.is_empty(),
        Value::Object(rows) => rows.is_empty(),
        _ => false,
    }
}

/// What a form goes on with: all that it said, but for what each answer makes anew.
fn kept(said: &Said) -> Vec<(String, String)> {
    let anew = ["csrf", CONFIRM, ACKNOWLEDGE, EXPLAINED, TYPED];
    said.0.iter().filter(|(name, _)| !anew.contains(&name.as_str())).cloned().collect()
}

/// What was done.
pub(super) fn done(act: &Act, said: &Said, value: &Value) -> Markup {
    let content = if let Ok(receipt) = serde_json::from_value::<Receipt>(value.clone()) {
        receipt_of(said, &receipt)
    } else if let (Guarded::Yes, Ok(done)) = (act.guarded, serde_json::from_value::<ActDone>(value.clone())) {
        act_done(&done)
    } else {
        parts::facts("The answer", value)
    };
    html! {
        h1 { (act.title) ": executed" }
        (content)
        (stands(act, said, Sent::Answered))
        (parts::command(&act.command(said)))
    }
}

fn act_done(done: &ActDone) -> Markup {
    html! {
        p { strong { (done.done) } }
        dl {
            @if let Some(epoch) = done.epoch { dt { "Epoch" } dd { (epoch) } }
            @if let Some(event) = done.event { dt { "Event" } dd { (event_link(event)) } }
            @if let Some(gap) = done.gap_ms { dt { "No member took writes for" } dd { (parts::span(gap)) } }
        }
    }
}

fn event_link(event: types::EventId) -> Markup {
    html! { a href={ "/events?after=" (event.get().saturating_sub(1)) } { (event) } }
}

fn receipt_of(said: &Said, receipt: &Receipt) -> Markup {
    let result = &receipt.result;
    let row = |event: &api::EventSummary| {
        vec![event_link(event.id), html! { (event.kind) }, html! { span .id { (event.subject) } }]
    };
    let (app, env) = (said.get("app"), said.get("env"));
    html! {
        @if let Some(unchanged) = &result.unchanged { p { strong { "Nothing changed: " } (unchanged) } }
        @if let Some(secret) = &result.secret {
            p { "The secret, shown this once:" }
            p { code .secret { (secret) } }
        }
        @if let (Some(deploy), false) = (&result.deploy, app.is_empty()) {
            p { a href=(api::routes::fill("/apps/{app}/{env}/deploys/{deploy}", &[app, env, &deploy.to_string()])) {
                "Watch the deploy"
            } }
        }
        @if !app.is_empty() { p { a href=(api::routes::fill("/apps/{app}/{env}", &[app, env])) { "Back to " (app) "/" (env) } } }
        (parts::Table {
            id: "",
            caption: "Events that it caused",
            headings: &["Event", "What", "About"],
            rows: receipt.events.iter().map(row).collect(),
            empty: "none",
        }.show())
    }
}

/// How far a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It was not sent, or only to be explained.
    No,
    /// It was sent, and did not do what it was to do.
    InVain,
    /// It was done.
    Answered,
}

/// Why it was not done, or why that is not known.
pub(super) fn failure(visit: &Visit, act: &Act, said: &Said, problem: &Problem, sent: Sent) -> Markup {
    // Another intent, for whoever has read why: nothing is sent again by itself.
    let again: Vec<(String, String)> =
        kept(said).into_iter().filter(|(name, _)| name != forms::REQUEST).collect();
    html! {
        h1 { (act.title) ": " @match problem.outcome {
            api::Outcome::Executed => "executed",
            api::Outcome::NotExecuted => "not executed",
            api::Outcome::Unknown => "the outcome is not known",
        } }
        (parts::problem(&of_act(act, problem)))
        (stands(act, said, sent))
        @if act.guarded == Guarded::Yes {
            form method="post" action={ "/do/" (act.key) } {
                (forms::hidden(visit, &again))
                button { "Explain it anew" }
            }
        }
        (parts::command(&act.command(said)))
    }
}

/// A problem without a request that nobody can look up.
fn of_act(act: &Act, problem: &Problem) -> Problem {
    let request_id = problem.request_id.filter(|_| act.leaves_verdict());
    Problem { request_id, ..problem.clone() }
}

/// Where it stands what became of it.
fn stands(act: &Act, said: &Said, sent: Sent) -> Markup {
    if sent == Sent::No {
        return html! { p { "Nothing was asked for that the log could tell of." } };
    }
    let looked_up = |id: &str| format!("/requests?id={}", &api::routes::fill("/{id}", &[id])[1..]);
    let id = said.get(forms::REQUEST);
    if act.leaves_verdict() {
        return html! {
            p {
                "Request " a .id href=(looked_up(id)) { (id) } ". "
                @match sent {
                    Sent::Answered => "What became of it stands in the log.",
                    _ => "If it came as far as the log, what became of it stands there.",
                }
            }
        };
    }
    let (page, name) = act.place.link();
    let voided = (act.place == Place::Requests).then(|| looked_up(said.get("id")));
    html! {
        p { "The log has no request for this. What it did shows on the page "
            a href=(voided.as_deref().unwrap_or(page)) { (name) } "." }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::acts;
    use serde_json::json;

    fn said() -> Said {
        let pairs =
            [("csrf", "c"), ("request_id", "r"), ("confirm", "t"), ("acknowledge", "a"), ("node", "<two>")];
        let pairs = pairs.iter().chain(&[("explained", "yes"), ("typed", "two")]);
        Said(pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn an_explanation_is_shown_whole_and_escaped() {
        let explained: Explained = serde_json::from_value(json!({
            "act": "cluster promote <two>", "will": ["w<"], "touches": ["t<"], "irreversible": ["i<"],
            "invariants": [{ "name": "one_authority", "proven_by": "p<" }], "overrides": [],
            "facts": [{ "member": "<two>", "lag": 3 }], "token": "act_1", "expires_ms": 120000
        }))
        .expect("an explanation");
        let text = what(&explained).into_string();
        for part in
            ["w&lt;", "t&lt;", "i&lt;", "one_authority: p&lt;", "&lt;two&gt;", "<th scope=\"col\">lag</th>"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_confirmation_is_never_kept_for_another_try() {
        assert_eq!(kept(&said()), [("request_id".into(), "r".into()), ("node".into(), "<two>".into())]);
    }

    #[test]
    fn a_secret_is_shown_and_an_answer_of_any_shape_too() {
        let receipt = json!({ "request_id": types::RequestId::from_u128(1), "outcome": "executed", "event": 5,
            "events": [{ "id": 5, "kind": "token.created", "subject": "tok_1" }], "result": { "secret": "hf_<x>" } });
        let text = done(&acts::CREATE_TOKEN, &said(), &receipt).into_string();
        assert!(
            text.contains("hf_&lt;x&gt;") && text.contains("token.created") && text.contains("after=4"),
            "{text}"
        );
        let text = done(&acts::SNAPSHOT, &said(), &json!({ "event": 7 })).into_string();
        assert!(text.contains("<dt>event</dt><dd>7</dd>"), "{text}");
        let text = done(
            &acts::PROMOTE,
            &said(),
            &json!({ "outcome": "executed", "done": "two sequences", "epoch": 2, "gap_ms": 9 }),
        );
        assert!(text.into_string().contains("two sequences"));
    }

    #[test]
    fn only_what_the_log_has_a_request_for_is_looked_up_there() {
        let said = Said([&said().0[..], &[("id".to_owned(), "a/b".to_owned())]].concat());
        for act in [
            &acts::SCALE,
            &acts::DRAIN,
            &acts::CREATE_TOKEN,
            &acts::MEMBER_TOKEN,
            &acts::REMOVE,
            &acts::ADOPT,
        ] {
            let text = done(act, &said, &json!({})).into_string();
            assert!(
                text.contains("/requests?id=r") && text.contains("stands in the log"),
                "{}: {text}",
                act.key
            );
        }
        for (act, place) in [
            (&acts::PROMOTE, "/cluster"),
            (&acts::HANDOVER, "/cluster"),
            (&acts::FENCE, "/cluster"),
            (&acts::SNAPSHOT, "/cluster"),
            (&acts::BACKUP, "/cluster"),
            (&acts::REBUILD, "/views"),
            (&acts::VOID, "/requests?id=a%2Fb"),
        ] {
            let text = done(act, &said, &json!({})).into_string();
            assert!(!text.contains("stands in the log") && !text.contains("?id=r"), "{}: {text}", act.key);
            assert!(text.contains(&format!("href=\"{place}\"")), "{}: {text}", act.key);
            let lost =
                Problem::new(api::Code::UnknownOutcome, "cut").with_request(types::RequestId::from_u128(1));
            assert_eq!(of_act(act, &lost).request_id, None, "{}", act.key);
        }
    }
}
