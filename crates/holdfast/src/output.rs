//! Printing. Data goes to standard output, everything else to standard error.

use serde::Serialize;
use std::{
    borrow::Cow,
    io::{IsTerminal as _, Write as _},
};
use types::{DurationMs, Timestamp};

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// One JSON value or, for streams, one in each line.
    Json,
}

/// Writes a line of data that was asked for: without it the command has failed. A reader that has gone away (`| head`) ends the program quietly.
pub fn line(text: &str) {
    raw(plain(text).as_bytes());
    raw(b"\n");
}

/// The same text as one line that is nothing but a line: what would end it, move the cursor or turn the
/// direction of writing is shown by its name instead. Much of what is printed was said by somebody else.
pub fn plain(text: &str) -> Cow<'_, str> {
    let acts = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
    };
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        match acts(letter) {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    Cow::Owned(shown)
}

/// Writes what became of something that was done: the exit code is that outcome's, whether anybody
/// could read of it or not. A reader that has gone away, or a full disk, is noted and no more.
pub fn outcome(text: &str) {
    if let Err(error) = try_raw(text.as_bytes()) {
        note(&format!("note: standard output cannot be written: {error}; the exit code tells the outcome"));
    }
}

/// The same as one line of JSON.
pub fn outcome_json(value: &impl Serialize) {
    outcome(&format!("{}\n", serde_json::to_string(value).expect("answers are plain data")));
}

/// Writes data as it is.
pub fn raw(bytes: &[u8]) {
    if let Err(error) = try_raw(bytes) {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        note(&format!("error: standard output cannot be written: {error}"));
        std::process::exit(1);
    }
}

/// Writes a line of data for a process that must outlive its reader: a role goes on without one.
pub fn try_line(text: &str) -> std::io::Result<()> {
    try_raw(format!("{text}\n").as_bytes())
}

fn try_raw(bytes: &[u8]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush())
}

/// Writes one value as one line of JSON.
pub fn json(value: &impl Serialize) {
    line(&serde_json::to_string(value).expect("answers are plain data"));
}

/// Says something that is not data. Nobody needs to listen: a closed standard error is no failure,
/// and must not end a program in the middle of what it does (`eprintln!` would).
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Prints rows under headings, in columns as wide as they need to be. Nothing but a note if empty.
pub fn table(headings: &[&str], rows: &[Vec<String>], if_empty: &str) {
    if rows.is_empty() {
        note(if_empty);
    } else {
        raw(columns(headings, rows).as_bytes());
    }
}

/// Rows under headings, in columns as wide as they need to be; each row is one line.
pub fn columns(headings: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<Cow<'_, str>>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    let mut add = |cells: &mut dyn Iterator<Item = &str>| {
        let mut row = String::new();
        for (cell, width) in cells.zip(&widths) {
            let gap = width - cell.chars().count() + 2;
            row.push_str(cell);
            row.push_str(&" ".repeat(gap));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    };
    add(&mut headings.iter().copied());
    for row in &rows {
        add(&mut row.iter().map(AsRef::as_ref));
    }
    text
}

/// A time as people read it, to the second.
pub fn time(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{}Z", text.split('.').next().unwrap_or_default())
}

/// A span as people read it: `4.2s`, `3m 5s`.
pub fn span(span: DurationMs) -> String {
    if span.as_ms() < 60_000 {
        return format!("{:.1}s", span.as_ms() as f64 / 1000.0);
    }
    humantime::format_duration(std::time::Duration::from_secs(span.as_ms() / 1000)).to_string()
}

/// How long ago, by this machine's clock.
pub fn ago(at: Timestamp) -> String {
    use rt::Clock as _;
    let seconds = rt::SystemClock.now().since(at).as_ms() / 1000;
    let text = humantime::format_duration(std::time::Duration::from_secs(seconds)).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// What is there, or a dash.
pub fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A line on a terminal that shows what is going on and goes away when it is over. Where there is no
/// terminal it shows nothing.
#[derive(Debug)]
pub struct Progress {
    on_terminal: bool,
    shown: bool,
}

impl Progress {
    /// On standard error, if that is a terminal and people read it.
    pub fn new(form: Form) -> Self {
        Self { on_terminal: form == Form::Text && std::io::stderr().is_terminal(), shown: false }
    }

    /// Shows this instead of what was shown before.
    pub fn show(&mut self, text: &str) {
        if self.on_terminal {
            let mut err = std::io::stderr();
            let _ = write!(err, "\r\x1b[K{text}").and_then(|()| err.flush());
            self.shown = true;
        }
    }

    /// Says something that stays.
    pub fn say(&mut self, text: &str) {
        self.clear();
        note(text);
    }

    /// Takes away what is shown.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_has_said_makes_no_line_of_its_own_and_moves_no_cursor() {
        let said = "org x\n2026-11-22T10:00:00Z  executed\r\u{1b}[1A\u{9b}2K\u{202e}\u{2028}";
        let shown = plain(said);
        assert_eq!(shown, r"org x\n2026-11-22T10:00:00Z  executed\r\u{1b}[1A\u{9b}2K\u{202e}\u{2028}");
        assert!(matches!(plain("größer – ✓ 日本"), Cow::Borrowed(_)), "letters are letters");
        let table = columns(&["NAME", "WHY"], &[vec!["a\nb".into(), "c\u{1b}[2K".into()]]);
        assert_eq!(table, "NAME  WHY\na\\nb  c\\u{1b}[2K\n");
    }
}
