//! Redaction: what a request said, without its secrets, and no longer than a line may be.
//!
//! What looks like a secret is replaced by `[redacted]`, so that a reader sees that there was one. A
//! body that is not JSON cannot be looked through and is not kept at all.

use api::AuditRequest;
use serde_json::Value;
use types::{RequestId, limits};

/// What stands where a secret stood.
const REDACTED: &str = "[redacted]";

/// Parts of a key whose value is taken for a secret.
const KEYS: [&str; 9] = [
    "secret",
    "password",
    "passwd",
    "passphrase",
    "token",
    "credential",
    "private",
    "cookie",
    "authorization",
];

/// Beginnings of words that are secrets wherever they stand.
const WORDS: [&str; 5] = ["hf_", "act_", "off_", "rec_", "-----BEGIN"];

/// A request as a line holds it, and the texts that were taken out of it. `whole` says whether all of
/// the body was read; none of it may have been.
pub(crate) fn request(
    id: Option<RequestId>,
    method: &str,
    path: &str,
    body: &[u8],
    whole: bool,
) -> (AuditRequest, Vec<String>) {
    let mut found = Vec::new();
    let path = query(path, &mut found);
    let mut request = AuditRequest { id, method: method.to_owned(), path, ..AuditRequest::default() };
    let is_blank = body.iter().all(u8::is_ascii_whitespace);
    if is_blank {
        if !whole {
            request.cut = Some("the body was not read".to_owned());
        }
        return (request, found);
    }
    match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            hide(&mut value, false, &mut found);
            let text = value.to_string();
            if text.len() <= limits::JOURNAL_BODY {
                request.body = Some(value);
            } else {
                let cut = (0..=limits::JOURNAL_BODY).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
                request.cut = Some(format!("the first {cut} of {} bytes are kept", text.len()));
                request.body = Some(Value::String(text[..cut].to_owned()));
            }
        }
        Err(_) => {
            let read = if whole { "" } else { " so far" };
            request.cut = Some(format!("{} bytes{read} that are not JSON are not kept", body.len()));
        }
    }
    (request, found)
}

/// A reason without what was taken out of its request. Of a request whose body could not be looked
/// through, nothing is kept that may be a quotation of it.
pub(crate) fn scrubbed(mut reason: String, request: &AuditRequest, found: &[String]) -> String {
    if request.body.is_none() && request.cut.is_some() {
        if let Some(at) = reason.find(['"', '`']) {
            reason.truncate(at);
            reason.push_str(REDACTED);
        }
        return reason;
    }
    // The longest first: one may be a part of another.
    let mut found: Vec<&String> = found.iter().filter(|text| text.len() >= 3).collect();
    found.sort_by_key(|text| std::cmp::Reverse(text.len()));
    for text in found {
        reason = reason.replace(text.as_str(), REDACTED);
    }
    reason
}

fn hide(value: &mut Value, is_secret: bool, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                hide(value, is_secret || is_secret_key(key), found);
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| hide(value, is_secret, found)),
        Value::String(text) if is_secret || is_secret_text(text) => {
            found.push(std::mem::replace(text, REDACTED.to_owned()));
        }
        Value::Number(number) if is_secret => {
            found.push(number.to_string());
            *value = Value::String(REDACTED.to_owned());
        }
        _ => {}
    }
}

fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let words = |key: &str| {
        key.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == "key" || word == "pin")
    };
    KEYS.iter().any(|part| key.contains(part)) || key.ends_with("apikey") || words(&key)
}

fn is_secret_text(text: &str) -> bool {
    let mut words = text.split(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ',' | '=' | ';'));
    words.any(|word| WORDS.iter().any(|start| word.len() > start.len() && word.starts_with(start)))
        || text.contains("Bearer ")
        || has_userinfo(text)
}

/// Whether there is a URL with a password, as in `postgres://user:pass@host`.
fn has_userinfo(text: &str) -> bool {
    text.match_indices("://").any(|(at, mark)| {
        let authority = text[at + mark.len()..].split(['/', '?', '#', ' ']).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
    })
}

fn query(path: &str, found: &mut Vec<String>) -> String {
    let Some((path, query)) = path.split_once('?') else { return path.to_owned() };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, value)) if is_secret_key(key) || is_secret_text(value) => {
            found.push(value.to_owned());
            format!("{key}={REDACTED}")
        }
        _ => pair.to_owned(),
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(body: &Value) -> (AuditRequest, Vec<String>) {
        request(None, "POST", "/v1/x", body.to_string().as_bytes(), true)
    }

    #[test]
    fn what_looks_like_a_secret_is_replaced_and_seen_to_be() {
        let (request, found) = of(&json!({
            "name": "ann", "password": "hunter2", "nested": { "db_secret": ["one", 2], "note": "say hf_abc" },
            "url": "postgres://shop:pw@db/shop", "api_key": "k", "keep": "https://host:80/a@b", "expires_in": "1h",
        }));
        let body = request.body.expect("kept");
        assert_eq!(body["password"], REDACTED);
        assert_eq!(body["nested"], json!({ "db_secret": [REDACTED, REDACTED], "note": REDACTED }));
        assert_eq!((&body["url"], &body["api_key"]), (&json!(REDACTED), &json!(REDACTED)));
        assert_eq!((&body["name"], &body["keep"]), (&json!("ann"), &json!("https://host:80/a@b")));
        assert_eq!(body["expires_in"], "1h");
        assert!(found.contains(&"hunter2".to_owned()) && found.contains(&"2".to_owned()), "{found:?}");
    }

    #[test]
    fn a_reason_does_not_give_away_what_the_body_hides() {
        let (request, found) = of(&json!({ "password": "hunter2" }));
        let reason = scrubbed("invalid value \"hunter2\" at line 1".to_owned(), &request, &found);
        assert_eq!(reason, "invalid value \"[redacted]\" at line 1");
        let (request, found) =
            super::request(None, "POST", "/v1/x?token=abc&a=b", b"{\"password\": \"hu", true);
        assert_eq!(request.path, "/v1/x?token=[redacted]&a=b");
        assert_eq!(
            (request.body.clone(), request.cut.as_deref()),
            (None, Some("16 bytes that are not JSON are not kept"))
        );
        let reason = scrubbed("the body cannot be read: string \"hu\"".to_owned(), &request, &found);
        assert_eq!(reason, "the body cannot be read: string [redacted]");
    }

    #[test]
    fn a_long_body_is_cut_and_says_so() {
        let (request, _) = of(&json!({ "text": "ü".repeat(limits::JOURNAL_BODY) }));
        let text = request.body.as_ref().and_then(Value::as_str).expect("text");
        assert!(text.len() <= limits::JOURNAL_BODY && text.starts_with("{\"text\":\"ü"), "{}", text.len());
        assert!(request.cut.expect("said").contains("of 8203 bytes are kept"));
        let (unread, _) = super::request(None, "POST", "/v1/x", b"", false);
        assert_eq!(unread.cut.as_deref(), Some("the body was not read"));
    }
}
