//! Asking for a password: from the terminal without showing it, or one line of standard input. Never
//! from an argument, which every process of the machine can read.

use crate::failure::Failure;
use api::Password;
use rustix::termios::{self, LocalModes, OptionalActions};
use std::{
    fs::File,
    io::{BufRead, BufReader, IsTerminal, Write as _},
    os::fd::AsFd,
};
use types::limits;

/// Asks once.
pub fn ask(prompt: &str) -> Result<Password, Failure> {
    if !std::io::stdin().is_terminal() {
        return line(std::io::stdin().lock());
    }
    let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(unreadable)?;
    ask_at(&terminal, prompt)
}

/// Asks for a new one: twice on a terminal, so that a slip of the finger is noticed.
pub fn ask_new(prompt: &str) -> Result<Password, Failure> {
    let first = ask(prompt)?;
    if std::io::stdin().is_terminal() && ask("the same again: ")? != first {
        let hint = "try again; nothing was sent";
        return Err(Failure::usage("the two passwords are not the same", hint));
    }
    Ok(first)
}

fn ask_at(terminal: &File, prompt: &str) -> Result<Password, Failure> {
    let shown = termios::tcgetattr(terminal).map_err(unreadable)?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    hidden.local_modes.insert(LocalModes::ICANON | LocalModes::ECHONL);
    termios::tcsetattr(terminal, OptionalActions::Flush, &hidden).map_err(unreadable)?;
    let restored = Restore { terminal, shown };
    let mut out = terminal;
    write!(out, "{prompt}").and_then(|()| out.flush()).map_err(unreadable)?;
    let read = line(BufReader::new(terminal));
    drop(restored);
    read
}

/// Has the terminal show again what is typed, whatever happens.
struct Restore<T: AsFd> {
    terminal: T,
    shown: termios::Termios,
}

impl<T: AsFd> Drop for Restore<T> {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        let _gone = termios::tcsetattr(&self.terminal, OptionalActions::Flush, &self.shown);
    }
}

fn line(from: impl BufRead) -> Result<Password, Failure> {
    let mut text = String::new();
    // One more than may be, so that a longer one is not quietly cut.
    let bound = limits::PASSWORD_LONGEST as u64 + 3;
    from.take(bound).read_line(&mut text).map_err(unreadable)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text.is_empty() {
        true => Err(Failure::usage("no password was given", "type one, or pipe it in as one line")),
        false => Ok(Password::new(text)),
    }
}

fn unreadable(error: impl std::fmt::Display) -> Failure {
    let hint = "pipe it in as one line of standard input";
    Failure::usage(format!("the password cannot be asked for: {error}"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_password_without_its_end() {
        let read = |text: &str| line(text.as_bytes()).map(|found| found.reveal().to_owned()).ok();
        assert_eq!(read("one two three\n").as_deref(), Some("one two three"));
        assert_eq!(read("one two three\r\nmore").as_deref(), Some("one two three"));
        assert_eq!(read(" spaces stay ").as_deref(), Some(" spaces stay "));
        assert_eq!(read("\n"), None);
        assert_eq!(read(""), None);
        let long = "a".repeat(limits::PASSWORD_LONGEST + 10);
        assert!(read(&long).is_some_and(|found| found.len() > limits::PASSWORD_LONGEST), "refused, not cut");
    }
}
