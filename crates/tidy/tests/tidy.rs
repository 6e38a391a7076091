//! The rules of the house, applied to the whole repository. Each failure lists every offender.

use holdfast_tidy::{
    Claim, EMPTY_NAMES, FILE_LINES, FUNCTION_LINES, MARKERS, Source, claims, functions, root, sources,
};
use std::{collections::BTreeMap, fs};

/// Functions that were longer than the rule when it came; a number may only fall, and a line goes
/// when its function is short enough.
fn ratchet() -> BTreeMap<String, usize> {
    let text = fs::read_to_string(root().join("crates/tidy/golden/long_functions.txt")).expect("the ratchet");
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| {
            let (name, lines) = line.rsplit_once(' ').expect("a name and a number");
            (name.to_owned(), lines.parse().expect("a number"))
        })
        .collect()
}

fn rust() -> Vec<Source> {
    sources(&[".rs"]).expect("readable sources")
}

fn none(offenders: &[String], rule: &str) {
    assert!(offenders.is_empty(), "{rule}:\n  {}", offenders.join("\n  "));
}

#[test]
fn files_are_short() {
    let offenders: Vec<String> = rust()
        .iter()
        .filter(|source| source.text.lines().count() > FILE_LINES)
        .map(|source| format!("{}: {} lines", source.path, source.text.lines().count()))
        .collect();
    none(&offenders, &format!("a file has at most {FILE_LINES} lines; split these by what they are about"));
}

#[test]
fn functions_are_short() {
    let mut known = ratchet();
    let mut offenders = Vec::new();
    for source in rust() {
        for function in functions(&source.text).iter().filter(|function| function.lines > FUNCTION_LINES) {
            let name = format!("{}::{}", source.path, function.name);
            if known.remove(&name).is_none_or(|allowed| function.lines > allowed) {
                offenders.push(format!("{name} (line {}): {} lines", function.line, function.lines));
            }
        }
    }
    none(&offenders, &format!("a function has at most {FUNCTION_LINES} lines"));
    let stale: Vec<String> = known.into_keys().collect();
    none(&stale, "short enough now: take these out of crates/tidy/golden/long_functions.txt");
}

#[test]
fn names_say_something() {
    let mut offenders = Vec::new();
    for source in rust() {
        let parts = source.path.split('/').map(|part| part.trim_end_matches(".rs"));
        offenders.extend(
            parts.filter(|part| EMPTY_NAMES.contains(part)).map(|part| format!("{}: {part}", source.path)),
        );
        let inline = source.text.lines().filter_map(|line| {
            let line = line.trim_start();
            let line = line.strip_prefix("pub ").unwrap_or(line);
            line.strip_prefix("mod ")?.split([' ', ';', '{']).next()
        });
        offenders.extend(
            inline
                .filter(|name| EMPTY_NAMES.contains(name))
                .map(|name| format!("{}: mod {name}", source.path)),
        );
    }
    none(&offenders, "a module is named after what is in it");
}

#[test]
fn nothing_is_left_over() {
    let mut offenders = Vec::new();
    for source in sources(&[".rs", ".md", ".toml", ".sh"]).expect("readable sources") {
        for (number, line) in source.text.lines().enumerate() {
            if MARKERS.iter().any(|marker| line.contains(marker)) {
                offenders.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    none(&offenders, "what is left to do is an issue, not a marker");
}

#[test]
fn documents_name_what_exists() {
    let code = rust();
    let has_test = |name: &str, text: &str| text.contains(&format!("fn {name}("));
    let mut offenders = Vec::new();
    for source in sources(&[".md"]).expect("readable documents") {
        for claim in claims(&source.path, &source.text) {
            let there = match &claim {
                Claim::Path(path) => root().join(path).exists(),
                Claim::Test(name) => code.iter().any(|file| has_test(name, &file.text)),
                Claim::TestIn(path, name) => {
                    code.iter().any(|file| file.path == *path && has_test(name, &file.text))
                }
            };
            if !there {
                offenders.push(format!("{}: {claim:?}", source.path));
            }
        }
    }
    none(&offenders, "documents name files and tests that are not there");
}
