//! What is wrong with a manifest, where, and what would be right, in the words of a person.
//!
//! The reader below gives its complaints as text. They are recognised here by their first words;
//! one that is not recognised is shown as it is, at its place.

use super::places::Places;
use std::{fmt, ops::Range};
use types::{limits, manifest::Unsound};

/// One thing that is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The file, as it was named.
    pub file: String,
    /// Where in it, if it is about a place in it.
    pub at: Option<Box<Spot>>,
    /// The path of the key, as in `processes.web.memory`.
    pub path: Option<String>,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub next: Option<String>,
}

/// A place in a text, for people: counted from 1, in characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
    /// The text of the line.
    pub text: String,
    /// How many characters are meant, at least 1.
    pub width: usize,
}

impl Spot {
    fn of(text: &str, span: &Range<usize>) -> Box<Self> {
        let mut start = span.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let line_start = text[..start].rfind('\n').map_or(0, |place| place + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |place| start + place);
        let mut end = span.end.clamp(start, line_end);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Box::new(Self {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            text: text[line_start..line_end].trim_end_matches('\r').to_owned(),
            width: text[start..end].trim_end().chars().count().max(1),
        })
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(spot) = &self.at else {
            write!(f, "{}: {}", self.file, self.what)?;
            return match &self.next {
                Some(next) => write!(f, "\n  next: {next}"),
                None => Ok(()),
            };
        };
        let number = spot.line.to_string();
        let margin = " ".repeat(number.len());
        // Tabs stay tabs, so that the caret stands under its character at any tab width.
        let indent: String =
            spot.text.chars().take(spot.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        writeln!(f, "{}:{}:{}: {}", self.file, spot.line, spot.column, self.what)?;
        writeln!(f, "{margin} |")?;
        writeln!(f, "{number} | {}", spot.text)?;
        write!(f, "{margin} | {indent}{}", "^".repeat(spot.width))?;
        match &self.next {
            Some(next) => write!(f, " {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ManifestError {}

impl ManifestError {
    pub(super) fn of_file(file: &str, what: String, next: &str) -> Self {
        Self { file: file.to_owned(), at: None, path: None, what, next: Some(next.to_owned()) }
    }

    /// The text is not TOML.
    pub(super) fn syntax(file: &str, text: &str, error: &toml::de::Error) -> Self {
        let at = error.span().map(|span| Spot::of(text, &span));
        let what = match error.message() {
            "duplicate key" => "this key is given twice".to_owned(),
            message => format!("this is not TOML: {message}"),
        };
        Self { file: file.to_owned(), at, path: None, what, next: None }
    }

    /// The text is TOML, but not a manifest.
    pub(super) fn shape(file: &str, text: &str, places: &Places, error: &toml::de::Error) -> Self {
        let span = error.span().unwrap_or(0..0);
        let path = places.path_at(&span).map(str::to_owned);
        let (what, next) = explain(error.message(), path.as_deref());
        Self { file: file.to_owned(), at: Some(Spot::of(text, &span)), path, what, next }
    }

    /// The text is a manifest that breaks a rule.
    pub(super) fn unsound(file: &str, text: &str, places: &Places, unsound: &Unsound) -> Self {
        let at = places.around(&unsound.path).map(|span| Spot::of(text, &span));
        let what = format!("{}: {}", unsound.path, unsound.problem);
        Self { file: file.to_owned(), at, path: Some(unsound.path.clone()), what, next: None }
    }
}

/// Turns the reader's words into ours: what is wrong, and what would be right.
fn explain(message: &str, path: Option<&str>) -> (String, Option<String>) {
    if let Some((given, known)) = quoted_after(message, "unknown field ") {
        let within = table_of(path, &given).map_or(String::new(), |table| format!(" in {table}"));
        return (format!("unknown key `{given}`{within}"), Some(nearest(&given, &known)));
    }
    if let Some((given, known)) = quoted_after(message, "unknown variant ") {
        let key = path.map_or(String::new(), |path| format!("{path}: "));
        return (format!("{key}`{given}` is not one of its values"), Some(nearest(&given, &known)));
    }
    if let Some((key, _)) = quoted_after(message, "missing field ") {
        let within = path.map_or("the manifest".to_owned(), str::to_owned);
        return (
            format!("{within} has no `{key}`, which it needs"),
            Some(format!("add {key} = {}", example(&key))),
        );
    }
    let key = path.and_then(|path| path.rsplit('.').next()).unwrap_or_default();
    let named = path.map_or(String::new(), |path| format!("{path}: "));
    if let Some(rest) = message.strip_prefix("invalid type: ") {
        let (got, wanted) = rest.split_once(", expected ").unwrap_or((rest, "something else"));
        let next = match unit_example(key) {
            Some(example) => format!("wants a whole number and a unit in quotes, as in {example}"),
            None => format!("wants {}", plain(wanted)),
        };
        return (format!("{named}is {}", plain(got)), Some(next));
    }
    if let Some(rest) = message.strip_prefix("invalid value: ") {
        let (got, wanted) = rest.split_once(", expected ").unwrap_or((rest, "something else"));
        return (
            format!("{named}is {}", plain(got)),
            Some(format!("wants {}", range(key, wanted).unwrap_or_else(|| plain(wanted)))),
        );
    }
    (format!("{named}{message}"), None)
}

/// The table that a key is in, by the path of what was complained of: that may be the key itself or,
/// for a table that is written as a heading, something below it.
fn table_of<'a>(path: Option<&'a str>, key: &str) -> Option<&'a str> {
    let path = path?;
    let ends = path.match_indices('.').map(|(place, _)| place).chain([path.len()]);
    let starts = std::iter::once(0).chain(path.match_indices('.').map(|(place, _)| place + 1));
    let found = starts.zip(ends).filter(|&(start, end)| path[start..end] == *key).last();
    match found {
        Some((start, _)) => start.checked_sub(1).map(|end| &path[..end]),
        None => path.rsplit_once('.').map(|(table, _)| table),
    }
}

/// The numbers that a key takes, where the reader knows only their type.
fn range(key: &str, wanted: &str) -> Option<String> {
    match (key, wanted) {
        ("port" | "listen", "u16") => Some("a whole number from 1 to 65535".to_owned()),
        ("replicas", "u32") => Some(format!("a whole number from 0 to {}", limits::REPLICAS)),
        (_, "u16") => Some(format!("a whole number from 0 to {}", u16::MAX)),
        (_, "u32") => Some(format!("a whole number from 0 to {}", u32::MAX)),
        (_, "u64" | "usize") => Some("a whole number from 0 on".to_owned()),
        _ => None,
    }
}

/// Serde's words for types, in the words of someone who writes TOML.
fn plain(words: &str) -> String {
    let known = match words {
        "a string" | "a borrowed string" => "text in quotes",
        "u16" | "u32" | "u64" | "usize" => "a whole number",
        "f64" => "a number",
        "a sequence" => "a list: [ … ]",
        "a map" => "a table: { … }",
        "sequence" => "a list",
        "map" => "a table",
        _ => match words.strip_prefix("struct ") {
            Some(_) => "a table: { … }",
            None => words,
        },
    };
    match known.split_once(' ') {
        Some(("integer", value)) => format!("the number {value}"),
        Some(("floating", value)) => format!("the number {}", value.trim_start_matches("point ")),
        Some(("boolean", value)) => value.to_owned(),
        Some(("string", value)) => format!("the text {value}"),
        _ => known.to_owned(),
    }
}

fn unit_example(key: &str) -> Option<&'static str> {
    match key {
        "memory" | "size" => Some("\"256Mi\""),
        "interval" | "timeout" | "grace" | "stop_grace" | "deadline" | "every" => Some("\"5s\""),
        _ => None,
    }
}

fn example(key: &str) -> &'static str {
    match key {
        "schema" => "1",
        "app" => "\"shop\"",
        "ref" => "\"registry.example/shop:1.4\"",
        "image" => "{ ref = \"registry.example/shop:1.4\" }",
        "processes" => "{ web = { memory = \"256Mi\" } }",
        "name" => "\"http\"",
        "process" => "\"web\"",
        "port" => "…, as one of the process's ports",
        "type" => "\"http\" or \"tcp\"",
        _ => unit_example(key).unwrap_or("…"),
    }
}

/// From "unknown field `a`, expected one of `b`, `c`": a, and b and c.
fn quoted_after(message: &str, start: &str) -> Option<(String, Vec<String>)> {
    let mut quoted = message.strip_prefix(start)?.split('`').skip(1).step_by(2).map(str::to_owned);
    Some((quoted.next()?, quoted.collect()))
}

fn nearest(given: &str, known: &[String]) -> String {
    let close = known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(given, word), word))
        .filter(|(distance, word)| {
            *distance <= (word.len().max(given.len()) / 3).max(1) || word.starts_with(given)
        })
        .min();
    match close {
        Some((_, word)) => format!("did you mean `{word}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}
