//! An explanation as people read it: what will happen first, what proves it, what is known.

use crate::output;
use api::Explained;
use serde_json::Value;
use std::collections::BTreeSet;

/// The whole of it, without the token.
pub fn text(explained: &Explained) -> String {
    let Explained { act, will, touches, irreversible, invariants, overrides, facts, .. } = explained;
    let mut text = format!("{act}\n");
    section(&mut text, "Will", will);
    section(&mut text, "Touches", touches);
    section(&mut text, "Cannot be undone", irreversible);
    let proofs: Vec<String> =
        invariants.iter().map(|proof| format!("{}: {}", proof.name, proof.proven_by)).collect();
    section(&mut text, "Holds", &proofs);
    let risks: Vec<String> = overrides
        .iter()
        .map(|each| format!("{}: to be acknowledged with {:?}", each.invariant, each.type_this))
        .collect();
    section(&mut text, "Overrides", &risks);
    let known = table(facts);
    if !known.is_empty() {
        text.push_str("Known\n");
        known.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    text
}

fn section(text: &mut String, heading: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    text.push_str(heading);
    text.push('\n');
    lines.iter().for_each(|line| text.push_str(&format!("  - {}\n", output::plain(line))));
}

/// Facts as a table: an array of objects as rows, anything else as names and values.
fn table(facts: &Value) -> String {
    match facts {
        Value::Null => String::new(),
        Value::Array(rows) if !rows.is_empty() && rows.iter().all(Value::is_object) => rows_of(rows),
        Value::Object(fields) => {
            let (tables, plain): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| is_table(value));
            let pairs: Vec<Vec<String>> =
                plain.iter().map(|(name, value)| vec![(*name).clone(), cell(value)]).collect();
            let mut text = match pairs.is_empty() {
                true => String::new(),
                false => output::columns(&["FACT", "IS"], &pairs),
            };
            for (name, value) in tables {
                text.push_str(&format!("{name}:\n{}", table(value)));
            }
            text
        }
        other => cell(other),
    }
}

fn is_table(value: &Value) -> bool {
    value.as_array().is_some_and(|rows| !rows.is_empty() && rows.iter().all(Value::is_object))
}

fn rows_of(rows: &[Value]) -> String {
    let names: BTreeSet<&String> =
        rows.iter().filter_map(Value::as_object).flat_map(|row| row.keys()).collect();
    // Who it is about stands first; the rest as the alphabet has it.
    let (first, rest): (Vec<&String>, Vec<&String>) =
        names.into_iter().partition(|name| ["name", "node"].contains(&name.as_str()));
    let names: Vec<&String> = first.into_iter().chain(rest).collect();
    let headings: Vec<String> = names.iter().map(|name| name.to_uppercase().replace('_', " ")).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| names.iter().map(|name| cell(&row[name.as_str()])).collect()).collect();
    output::columns(&headings, &cells)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(cell).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::{Override, Proof};
    use serde_json::json;

    #[test]
    fn everything_but_the_token_is_shown() {
        let explained = Explained {
            act: "cluster promote two".into(),
            will: vec!["ask every voter".into(), "open epoch 4".into()],
            touches: vec!["one, two, three".into()],
            irreversible: vec!["epoch 4".into()],
            invariants: vec![Proof {
                name: "one_authority".into(),
                proven_by: "two of three promise".into(),
            }],
            overrides: vec![Override { invariant: "acked_is_durable".into(), type_this: "lose 3".into() }],
            facts: json!({
                "members": [
                    { "name": "one", "index": null, "votes": true },
                    { "name": "two", "index": 7, "votes": true, "aside": ["a", "b"] },
                ],
                "epoch": 3,
            }),
            token: "act_secret".into(),
            expires_ms: 120_000,
        };
        let expected = "\
cluster promote two
Will
  - ask every voter
  - open epoch 4
Touches
  - one, two, three
Cannot be undone
  - epoch 4
Holds
  - one_authority: two of three promise
Overrides
  - acked_is_durable: to be acknowledged with \"lose 3\"
Known
  FACT   IS
  epoch  3
  members:
  NAME  ASIDE  INDEX  VOTES
  one   -      -      yes
  two   a, b   7      yes
";
        assert_eq!(text(&explained), expected);
    }
}
