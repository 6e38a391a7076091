//! A page of `docs/runbooks`, and the machine on which its commands are typed.
//!
//! ```text
//!   ```console STEP
//!   $ command                  # exits 5        typed into a shell; without a word it must exit with 0
//!   > answer                                    typed when the command before it asks, on a terminal
//!   $ holdfast server …        # runs on        a process that stays: the test starts it, its flags are tried
//!   ```
//! ```

use demo::Cli;
use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Where an operator sits.
pub trait Machine {
    /// A program with what the command line there goes by.
    fn program(&self, program: &str) -> Command;
}

/// What words in capitals stand for here.
pub type Words<'a> = &'a [(&'a str, &'a str)];

/// A page, and which of its steps were walked. All of them must be, before it is dropped.
pub struct Page {
    name: &'static str,
    steps: Vec<Step>,
    walked: BTreeSet<String>,
}

struct Step {
    name: String,
    lines: Vec<Line>,
}

struct Line {
    command: String,
    typed: Vec<String>,
    ending: Ending,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    Exits(i32),
    RunsOn,
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/runbooks")
}

impl Page {
    pub fn read(name: &'static str) -> Self {
        let path = folder().join(format!("{name}.md"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { name, steps: steps(&text), walked: BTreeSet::new() }
    }

    /// Types a step on a machine. Each command must end as the page says; what they said.
    pub fn walk(&mut self, step: &str, machine: &dyn Machine, words: Words<'_>) -> Vec<Cli> {
        let found = self.steps.iter().find(|found| found.name == step);
        let found = found.unwrap_or_else(|| panic!("{} has no step {step}", self.name));
        let mut said = Vec::new();
        for line in &found.lines {
            let command = filled(&line.command, words);
            let typed: Vec<String> = line.typed.iter().map(|typed| filled(typed, words)).collect();
            let wanted = match line.ending {
                Ending::Exits(code) => code,
                Ending::RunsOn => 0,
            };
            let ran = match line.ending {
                // The test starts it, and it would not end: that it is understood is tried here.
                Ending::RunsOn => typed_in(machine, &format!("{} --help", bare(&command)), &typed),
                Ending::Exits(_) => typed_in(machine, &command, &typed),
            };
            assert_eq!(
                ran.code, wanted,
                "{}, step {step}: $ {command}\n{}{}",
                self.name, ran.stdout, ran.stderr
            );
            said.push(ran);
        }
        self.walked.insert(step.to_owned());
        said
    }

    /// The same, with all that was said in one text.
    pub fn says(&mut self, step: &str, machine: &dyn Machine, words: Words<'_>) -> String {
        let said = self.walk(step, machine, words);
        said.into_iter().map(|said| said.stdout + &said.stderr).collect()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let left: Vec<&str> = self
                .steps
                .iter()
                .map(|step| &*step.name)
                .filter(|name| !self.walked.contains(*name))
                .collect();
            assert!(left.is_empty(), "{}: nobody walked {left:?}", self.name);
        }
    }
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut open: Option<Step> = None;
    for line in text.lines().map(str::trim) {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(kind)) => {
                let name = kind
                    .strip_prefix("console")
                    .unwrap_or_else(|| panic!("a block that is not tried: {line}"));
                open = Some(Step { name: name.trim().to_owned(), lines: Vec::new() });
            }
            (Some(_), Some(_)) => steps.extend(open.take()),
            (Some(step), None) => {
                if let Some(command) = line.strip_prefix("$ ") {
                    step.lines.push(read_line(command));
                } else if let Some(typed) = line.strip_prefix("> ") {
                    step.lines.last_mut().expect("a command before").typed.push(typed.to_owned());
                } else {
                    panic!("neither typed nor answered: {line}");
                }
            }
            (None, None) => {}
        }
    }
    steps
}

fn read_line(text: &str) -> Line {
    let (command, word) = text.split_once(" # ").unwrap_or((text, ""));
    let ending = match word.trim().strip_prefix("exits ") {
        Some(code) => Ending::Exits(code.parse().expect("a number")),
        None if word.trim() == "runs on" => Ending::RunsOn,
        None => {
            assert!(word.is_empty(), "not understood: {text}");
            Ending::Exits(0)
        }
    };
    Line { command: command.trim().to_owned(), typed: Vec::new(), ending }
}

/// A command without what sends its input or output elsewhere.
fn bare(command: &str) -> &str {
    command.split(['<', '>', '|', '&']).next().unwrap_or(command).trim()
}

/// Puts values in the place of words that stand alone.
fn filled(text: &str, words: Words<'_>) -> String {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-';
    let mut filled = text.to_owned();
    for (word, value) in words {
        let mut from = 0;
        while let Some(at) = filled[from..].find(word).map(|at| from + at) {
            let end = at + word.len();
            let alone = !filled[..at].ends_with(is_part) && !filled[end..].starts_with(is_part);
            if alone {
                filled.replace_range(at..end, value);
            }
            from = at + if alone { value.len() } else { word.len() };
        }
    }
    filled
}

/// Runs a command in a shell, on a terminal if something is to be typed.
fn typed_in(machine: &dyn Machine, script: &str, typed: &[String]) -> Cli {
    let mut command = match typed.is_empty() {
        true => machine.program("bash"),
        false => machine.program("script"),
    };
    match typed.is_empty() {
        true => command.args(["-c", script]).stdin(Stdio::null()),
        false => {
            command.args(["--quiet", "--return", "--command", script, "/dev/null"]).stdin(Stdio::piped())
        }
    };
    let own = Path::new(env!("CARGO_BIN_EXE_holdfast")).parent().expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", own.display())).env("SHELL", "/bin/bash");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a shell");
    if let Some(mut terminal) = child.stdin.take() {
        for line in typed {
            // One that has ended without asking is told by its exit code.
            let _ = writeln!(terminal, "{line}");
        }
    }
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Cli {
        code: output.status.code().unwrap_or(-1),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

#[test]
fn words_are_filled_in_where_they_stand_alone() {
    let words: Words<'_> = &[("NODE", "two"), ("DATA", "/d"), ("HOST:PORT", "h:1")];
    assert_eq!(filled("x NODE --data-dir DATA DATA.older", words), "x two --data-dir /d /d.older");
    assert_eq!(filled("NODES --peer HOST:PORT DATA/log METADATA", words), "NODES --peer h:1 /d/log METADATA");
}

/// Every page is walked by a test here, and every step of it: [`Page`] sees to the steps.
#[test]
fn every_page_is_walked() {
    let walks = ["members.rs", "majority.rs", "disks.rs", "restores.rs", "hosts.rs"];
    let folder_here = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/runbooks");
    let code: String = walks.map(|name| fs::read_to_string(folder_here.join(name)).expect("a walk")).concat();
    for entry in fs::read_dir(folder()).expect("pages").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix(".md").filter(|name| *name != "README") else { continue };
        assert!(code.contains(&format!("Page::read(\"{name}\")")), "{name} is walked by no test");
        let text = fs::read_to_string(entry.path()).expect("text");
        assert!(!steps(&text).is_empty(), "{name} has no command");
        let index = fs::read_to_string(folder().join("README.md")).expect("an index");
        assert!(index.contains(&format!("]({name}.md)")), "the index does not lead to {name}");
    }
}
