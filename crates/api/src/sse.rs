//! A reader of server-sent events: small, and bounded by [`limits::STREAM_EVENT`].
//!
//! Bytes go in as they come, in pieces of any size; messages come out when they are whole. Comments
//! are dropped (their arrival alone says that the stream lives). Only `event`, `data` and `id` are
//! read; `retry` is the server's wish about reconnecting, which is this program's own affair.

use types::limits;

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseMessage {
    /// What kind it is; `message` if the stream did not say.
    pub event: String,
    /// Its data, lines joined by line feeds.
    pub data: String,
    /// Its id, if it has one.
    pub id: Option<String>,
}

/// Why a stream cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SseError {
    /// A message larger than the bound.
    #[error("a message of the stream is larger than {} bytes", limits::STREAM_EVENT)]
    TooLarge,
    /// Bytes that are not UTF-8.
    #[error("the stream is not UTF-8")]
    NotText,
}

/// Takes bytes, gives messages. After an error it must not be used again.
#[derive(Debug)]
pub struct SseParser {
    bound: usize,
    line: Vec<u8>,
    /// The line before ended in a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    /// Nothing was read yet: a byte order mark may come.
    at_start: bool,
    message: SseMessage,
    has_data: bool,
}

impl Default for SseParser {
    fn default() -> Self {
        Self::with_bound(limits::STREAM_EVENT)
    }
}

impl SseParser {
    /// A reader that takes messages up to `bound` bytes.
    pub fn with_bound(bound: usize) -> Self {
        Self {
            bound,
            line: Vec::new(),
            after_return: false,
            at_start: true,
            message: SseMessage::default(),
            has_data: false,
        }
    }

    /// Takes the next bytes and returns the messages that became whole.
    ///
    /// # Errors
    /// A message over the bound, or bytes that are not text.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<SseMessage>, SseError> {
        let mut whole = Vec::new();
        for &byte in bytes {
            let follows_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if follows_return => {}
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    whole.extend(self.end_line()?);
                }
                _ => {
                    if self.line.len() + self.message.data.len() >= self.bound {
                        return Err(SseError::TooLarge);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(whole)
    }

    fn end_line(&mut self) -> Result<Option<SseMessage>, SseError> {
        let line = std::mem::take(&mut self.line);
        let mut text = std::str::from_utf8(&line).map_err(|_| SseError::NotText)?;
        if std::mem::take(&mut self.at_start) {
            text = text.strip_prefix('\u{feff}').unwrap_or(text);
        }
        if text.is_empty() {
            return Ok(self.end_message());
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.message.event),
            "data" => {
                if self.has_data {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
                self.has_data = true;
            }
            "id" if !value.contains('\0') => self.message.id = Some(value.to_owned()),
            _ => {}
        }
        Ok(None)
    }

    /// A message without data is none, as the standard has it.
    fn end_message(&mut self) -> Option<SseMessage> {
        let mut message = std::mem::take(&mut self.message);
        if !std::mem::take(&mut self.has_data) {
            return None;
        }
        if message.event.is_empty() {
            "message".clone_into(&mut message.event);
        }
        Some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str =
        ": ping\n\nevent: plan\nid: 7\ndata: {\"a\":\ndata: \"ä\"}\n\nretry: 5\r\ndata:x\r\n\r\ndata\r\r";

    fn expected() -> Vec<SseMessage> {
        vec![
            SseMessage { event: "plan".into(), data: "{\"a\":\n\"ä\"}".into(), id: Some("7".into()) },
            SseMessage { event: "message".into(), data: "x".into(), id: None },
            SseMessage { event: "message".into(), data: String::new(), id: None },
        ]
    }

    #[test]
    fn a_stream_split_at_any_byte_reads_the_same() {
        for at in 0..=STREAM.len() {
            let mut parser = SseParser::default();
            let (first, second) = STREAM.as_bytes().split_at(at);
            let mut messages = parser.push(first).expect("text");
            messages.extend(parser.push(second).expect("text"));
            assert_eq!(messages, expected(), "split at {at}");
        }
        let mut parser = SseParser::default();
        let messages: Vec<_> = STREAM.bytes().flat_map(|byte| parser.push(&[byte]).expect("text")).collect();
        assert_eq!(messages, expected());
    }

    #[test]
    fn a_message_over_the_bound_is_refused_however_it_comes() {
        let one_line = format!("data:{}\n\n", "x".repeat(100));
        assert_eq!(SseParser::with_bound(64).push(one_line.as_bytes()), Err(SseError::TooLarge));
        let many_lines = "data: 0123456789\n".repeat(20);
        assert_eq!(SseParser::with_bound(64).push(many_lines.as_bytes()), Err(SseError::TooLarge));
        let small = "data: 0123456789\n\n".repeat(20);
        assert_eq!(SseParser::with_bound(64).push(small.as_bytes()).map(|all| all.len()), Ok(20));
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        assert_eq!(SseParser::default().push(b"data: \xff\n"), Err(SseError::NotText));
    }
}
