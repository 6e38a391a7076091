//! Every code has its page under `docs/errors`, every page its code, and both say the same.

#![allow(clippy::disallowed_methods, reason = "a test reads the project's files")]

use holdfast_api::{Code, Problem};
use std::{collections::BTreeSet, fs, path::PathBuf};

fn pages() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/errors")
}

#[test]
fn every_code_has_a_page_and_every_page_a_code() {
    let found: BTreeSet<String> = fs::read_dir(pages())
        .expect("there are pages")
        .map(|page| page.expect("is listed").file_name().to_string_lossy().into_owned())
        .collect();
    let wanted: BTreeSet<String> = Code::ALL.iter().map(|code| format!("{code}.md")).collect();
    assert_eq!(found, wanted);
}

#[test]
fn a_page_says_what_the_code_says_and_what_to_do() {
    for code in Code::ALL {
        let page = fs::read_to_string(pages().join(format!("{code}.md"))).expect("the page is there");
        let problem = Problem::new(*code, "");
        let (title, outcome) = (code.title(), problem.outcome.to_string().replace('_', " "));
        let exit = problem.exit_code();
        let status = code.status();
        let head = format!(
            "# `{code}`: {title}\n\nStatus {status}, exit {exit}, outcome: {outcome}, unless the answer says otherwise.\n"
        );
        assert!(page.starts_with(&head), "docs/errors/{code}.md begins with:\n{head}");
        let mut rest = &page[head.len()..];
        for heading in ["What it means", "Why", "What to do"] {
            let at = rest.find(&format!("\n## {heading}\n\n")).unwrap_or_else(|| panic!("{code}: {heading}"));
            rest = &rest[at + heading.len() + 6..];
            let text = rest.split("\n## ").next().unwrap_or_default().trim();
            assert!(text.len() > 20, "{code}: {heading} says something");
        }
        assert_eq!(problem.kind, format!("docs/errors/{code}.md"), "the problem links its page");
    }
}
