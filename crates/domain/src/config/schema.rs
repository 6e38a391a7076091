//! Schemas: JSON Schema 2020-12, bound to a namespace, looking at each key's value by itself.
//!
//! The document is one of an object whose properties are the keys. A value is held against it as an
//! object of this one key, so a write looks at what it writes and at nothing else; `required` means
//! that the effective value may not go away. Bytes and secrets are no JSON and are not looked at.
//!
//! A schema is compiled once and looks at a value within a bound: it follows no reference to the
//! outside and none in a circle, its steps with all references followed are counted, and patterns run
//! in linear time. Only whoever decides uses one; nothing is ever looked at when an event is applied.

use super::value::Value;
use jsonschema::{PatternOptions, ValidationError, Validator, draft202012};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};
use types::{ConfigKey, limits};

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Keywords that speak of several keys at once, where only one is looked at.
const OF_MANY: [&str; 4] = ["minProperties", "maxProperties", "dependentRequired", "dependentSchemas"];
/// Keywords whose value is data, not schema.
const DATA: [&str; 4] = ["enum", "const", "default", "examples"];
/// References that are followed from one to the next.
const DEEPEST: usize = 256;
/// The longest text about one fault.
const TOLD: usize = 300;

/// Why a text is no schema that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at {place}: {why}")]
pub struct NotASchema {
    /// A JSON pointer into it, or a line and column.
    pub place: String,
    /// What is wrong there.
    pub why: String,
}

/// A value that a schema forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Whose value.
    pub key: ConfigKey,
    /// What the schema says.
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.why)
    }
}

/// A schema of a namespace.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Schema {
    text: Arc<str>,
    /// Made when it is first needed; nothing but the text in another form.
    #[serde(skip)]
    ready: Arc<OnceLock<Option<Ready>>>,
}

impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

#[derive(Debug)]
struct Ready {
    validator: Validator,
    required: Vec<ConfigKey>,
}

impl Schema {
    /// What an event holds.
    pub(crate) fn stored(text: Arc<str>) -> Self {
        Self { text, ready: Arc::default() }
    }

    /// Reads a schema.
    ///
    /// # Errors
    /// Where it is none, or looks at more than it may.
    pub fn parse(text: &Arc<str>) -> Result<Self, NotASchema> {
        let ready = Ready::read(text)?;
        Ok(Self { text: text.clone(), ready: Arc::new(OnceLock::from(Some(ready))) })
    }

    /// Its text, as it was given.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    fn ready(&self) -> Option<&Ready> {
        self.ready.get_or_init(|| Ready::read(&self.text).ok()).as_ref()
    }

    /// What it says against a value of a key; none if it may be.
    pub fn against(&self, key: &ConfigKey, value: &Value) -> Option<Violation> {
        let violation = |why: String| Some(Violation { key: key.clone(), why });
        let Some(ready) = self.ready() else {
            return violation("the schema cannot be read by this Holdfast; set it again".to_owned());
        };
        let mut object = serde_json::Map::new();
        object.insert(key.as_str().to_owned(), value.json()?);
        let object = serde_json::Value::Object(object);
        let error = ready.validator.iter_errors(&object).next()?;
        let inside = error.instance_path().to_string();
        let inside = inside.splitn(3, '/').nth(2).map(|rest| format!(" (at /{rest})")).unwrap_or_default();
        violation(format!("{}{inside}", told(error.masked())))
    }

    /// The keys that must have a value.
    pub fn required(&self) -> &[ConfigKey] {
        self.ready().map_or(&[], |ready| &ready.required)
    }
}

impl Ready {
    fn read(text: &str) -> Result<Self, NotASchema> {
        let refused = |place: String, why: &str| NotASchema { place, why: why.to_owned() };
        if text.len() > limits::CONFIG_SCHEMA {
            return Err(refused("its end".into(), "it is longer than 256 KiB"));
        }
        let mut schema: serde_json::Value = serde_json::from_str(text).map_err(|error| NotASchema {
            place: format!("line {} column {}", error.line(), error.column()),
            why: format!("it is not JSON: {error}"),
        })?;
        let Some(fields) = schema.as_object_mut() else {
            return Err(refused("#".into(), "it wants an object with the keys as its properties"));
        };
        let draft = fields.get("$schema").and_then(serde_json::Value::as_str).unwrap_or(DRAFT);
        if draft.trim_end_matches('#') != DRAFT {
            return Err(refused("#/$schema".into(), "only JSON Schema 2020-12 is read"));
        }
        if let Some(keyword) = OF_MANY.into_iter().find(|keyword| fields.contains_key(*keyword)) {
            return Err(refused(format!("#/{keyword}"), "each key is looked at by itself"));
        }
        let required = required(fields.remove("required"))?;
        draft202012::meta::validate(&schema).map_err(|error| at(&error))?;
        let steps = Walk { root: &schema, within: Vec::new(), known: BTreeMap::new() }.steps("#", &schema)?;
        if steps > limits::CONFIG_SCHEMA_STEPS {
            return Err(refused("#".into(), "it takes too many steps with all its references followed"));
        }
        let options = draft202012::options().with_pattern_options(PatternOptions::regex());
        let validator = options.build(&schema).map_err(|error| at(&error))?;
        Ok(Self { validator, required })
    }
}

fn at(error: &ValidationError<'_>) -> NotASchema {
    NotASchema { place: format!("#{}", error.instance_path()), why: told(error) }
}

fn told(what: impl fmt::Display) -> String {
    let text = what.to_string();
    match text.char_indices().nth(TOLD) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

fn required(value: Option<serde_json::Value>) -> Result<Vec<ConfigKey>, NotASchema> {
    let refused = |why: String| NotASchema { place: "#/required".into(), why };
    let Some(value) = value else { return Ok(Vec::new()) };
    let keys: Vec<String> =
        serde_json::from_value(value).map_err(|_| refused("it wants a list of keys".into()))?;
    keys.iter().map(|key| key.parse().map_err(|error| refused(format!("{error}")))).collect()
}

/// Counts how many steps a schema takes at most, and finds references that must not be.
struct Walk<'s> {
    root: &'s serde_json::Value,
    within: Vec<String>,
    known: BTreeMap<String, usize>,
}

impl<'s> Walk<'s> {
    fn steps(&mut self, place: &str, schema: &'s serde_json::Value) -> Result<usize, NotASchema> {
        if let Some(steps) = self.known.get(place) {
            return Ok(*steps);
        }
        let refused = |why: &str| NotASchema { place: place.to_owned(), why: why.to_owned() };
        if self.within.iter().any(|outer| outer == place) {
            return Err(refused("it refers to itself, and a value could be looked at without end"));
        }
        if self.within.len() > DEEPEST {
            return Err(refused("it refers too deep"));
        }
        self.within.push(place.to_owned());
        let mut steps = 1usize;
        match schema {
            serde_json::Value::Object(fields) => {
                for (name, value) in fields.iter().filter(|(name, _)| !DATA.contains(&name.as_str())) {
                    steps = steps.saturating_add(self.field(place, name, value)?);
                }
            }
            serde_json::Value::Array(items) => {
                for (nth, item) in items.iter().enumerate() {
                    steps = steps.saturating_add(self.steps(&format!("{place}/{nth}"), item)?);
                }
            }
            _ => {}
        }
        self.within.pop();
        self.known.insert(place.to_owned(), steps);
        Ok(steps)
    }

    fn field(&mut self, place: &str, name: &str, value: &'s serde_json::Value) -> Result<usize, NotASchema> {
        let inside = format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
        let refused = |why: &str| NotASchema { place: inside.clone(), why: why.to_owned() };
        let Some(text) = value.as_str() else { return self.steps(&inside, value) };
        match name {
            "$ref" if text == "#" || text.starts_with("#/") => {
                let target = self.root.pointer(&text[1..]);
                self.steps(text, target.ok_or_else(|| refused("it refers to nothing"))?)
            }
            "$ref" => Err(refused("it wants a place in this schema, as in #/$defs/port")),
            "$dynamicRef" | "$recursiveRef" => Err(refused("references are $ref to a place in this schema")),
            "$id" | "$anchor" | "$dynamicAnchor" if place != "#" => {
                Err(refused("a part of the schema has no name of its own; refer to its place"))
            }
            _ => Ok(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::ValueKind;

    fn parse(text: &str) -> Result<Schema, NotASchema> {
        Schema::parse(&Arc::from(text))
    }

    fn value(kind: ValueKind, text: &str) -> Value {
        Value::new(kind, text.as_bytes(), "", &[]).expect("a value")
    }

    #[test]
    fn each_key_is_looked_at_by_itself() {
        let schema = parse(
            r##"{"properties": {"port": {"$ref": "#/$defs/port"}, "host": {"type": "string", "pattern": "^[a-z]+$"}},
                "required": ["host"], "additionalProperties": false,
                "$defs": {"port": {"type": "integer", "maximum": 65535}}}"##,
        )
        .expect("a schema");
        let key = |text: &str| text.parse::<ConfigKey>().expect("a key");
        assert_eq!(schema.against(&key("port"), &value(ValueKind::Number, "80")), None);
        assert_eq!(schema.against(&key("host"), &value(ValueKind::Text, "abc")), None);
        assert_eq!(schema.against(&key("other"), &value(ValueKind::Secret, "abc")), None);
        for (bad, kind, text) in [
            ("port", ValueKind::Number, "80000"),
            ("port", ValueKind::String, "80"),
            ("host", ValueKind::String, "A"),
            ("other", ValueKind::String, "a"),
        ] {
            assert!(schema.against(&key(bad), &value(kind, text)).is_some(), "{bad}");
        }
        assert_eq!(schema.required(), [key("host")]);
    }

    #[test]
    fn what_is_no_schema_is_refused_with_its_place() {
        let doubling: String = (0..30)
            .map(|n| {
                format!(
                    r##""d{n}": {{"allOf": [{{"$ref": "#/$defs/d{m}"}}, {{"$ref": "#/$defs/d{m}"}}]}},"##,
                    m = n + 1
                )
            })
            .collect();
        let doubling = format!(
            r##"{{"$defs": {{{doubling} "d30": {{}}}}, "properties": {{"a": {{"$ref": "#/$defs/d0"}}}}}}"##
        );
        for (text, place) in [
            ("{\n", "line 2 column 0"),
            ("[]", "#"),
            (r#"{"properties": {"a": {"type": "strange"}}}"#, "#/properties/a/type"),
            (r#"{"properties": {"a": {"pattern": "("}}}"#, "#/properties/a/pattern"),
            (r#"{"properties": {"a": {"$ref": "https://elsewhere.example/x"}}}"#, "#/properties/a/$ref"),
            (r#"{"properties": {"a": {"$ref": "file:///etc/passwd"}}}"#, "#/properties/a/$ref"),
            (r##"{"properties": {"a": {"$ref": "#/$defs/b"}}}"##, "#/properties/a/$ref"),
            (r##"{"properties": {"a": {"$ref": "#"}}}"##, "#"),
            (r#"{"minProperties": 1}"#, "#/minProperties"),
            (r#"{"required": 1}"#, "#/required"),
            (r#"{"$schema": "http://json-schema.org/draft-07/schema#"}"#, "#/$schema"),
            (&doubling, "#"),
        ] {
            let refused = parse(text).expect_err(text);
            assert_eq!(refused.place, place, "{refused}");
        }
    }
}
