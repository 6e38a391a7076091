//! Where functions begin and end, by counting braces.
//!
//! This is not a parser. Text inside strings, characters and comments is blanked first
//! ([`blank_text`]); after that a function is the word `fn`, a name, and everything up to the brace
//! that closes the first one opened outside parentheses and brackets. A `;` there instead means a
//! declaration without a body. That is right for formatted code; code inside macros is counted the
//! same way.

/// One function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of the word `fn`, from 1.
    pub line: usize,
    /// Lines from there to the closing brace, both included.
    pub lines: usize,
}

/// The same text with the insides of strings, characters and comments replaced by spaces.
/// Line breaks stay, so lines keep their numbers.
pub fn blank_text(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => block_comment_end(bytes, at),
            b'r' if starts_raw_string(bytes, at) => raw_string_end(bytes, at),
            b'"' => string_end(bytes, at),
            b'\'' => character_end(bytes, at),
            _ => at,
        };
        for byte in &mut out[at..end] {
            if *byte != b'\n' {
                *byte = b' ';
            }
        }
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0, start);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn starts_raw_string(bytes: &[u8], at: usize) -> bool {
    let after_word = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() && bytes[at - 1] != b'b');
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    !after_word && bytes.get(at + 1 + hashes) == Some(&b'"')
}

fn raw_string_end(bytes: &[u8], at: usize) -> usize {
    let hashes = bytes[at + 1..].iter().take_while(|byte| **byte == b'#').count();
    let close = [b"\"".as_slice(), &vec![b'#'; hashes]].concat();
    let inside = at + 2 + hashes;
    let length = bytes[inside..].windows(close.len()).position(|window| window == close);
    length.map_or(bytes.len(), |length| inside + length + close.len())
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// The end of a character literal, or `start` where the quote begins a lifetime.
fn character_end(bytes: &[u8], start: usize) -> usize {
    let Some(first) = bytes.get(start + 1) else { return start };
    if *first == b'\\' {
        let close = bytes[(start + 3).min(bytes.len())..].iter().position(|byte| *byte == b'\'');
        return close.map_or(bytes.len(), |length| start + 4 + length);
    }
    let width = std::str::from_utf8(&bytes[start + 1..(start + 5).min(bytes.len())])
        .map_or_else(|error| error.valid_up_to().max(1), |_| 4)
        .min(match first {
            0..0x80 => 1,
            0x80..0xE0 => 2,
            0xE0..0xF0 => 3,
            _ => 4,
        });
    if bytes.get(start + 1 + width) == Some(&b'\'') { start + width + 2 } else { start }
}

/// Every function with a body, nested ones too, in the order of their first lines.
pub fn functions(text: &str) -> Vec<Function> {
    let blank = blank_text(text);
    let bytes = blank.as_bytes();
    let mut found = Vec::new();
    for (at, _) in blank.match_indices("fn ") {
        if at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_') {
            continue;
        }
        let name: String = blank[at + 3..]
            .chars()
            .take_while(|next| next.is_alphanumeric() || "_$".contains(*next))
            .collect();
        if name.is_empty() {
            continue;
        }
        if let Some(end) = body_end(bytes, at) {
            let line = 1 + bytes[..at].iter().filter(|byte| **byte == b'\n').count();
            let lines = 1 + bytes[at..end].iter().filter(|byte| **byte == b'\n').count();
            found.push(Function { name, line, lines });
        }
    }
    found
}

fn body_end(bytes: &[u8], start: usize) -> Option<usize> {
    let (mut braces, mut brackets) = (0usize, 0usize);
    for (at, byte) in bytes.iter().enumerate().skip(start) {
        match byte {
            b'(' | b'[' if braces == 0 => brackets += 1,
            b')' | b']' if braces == 0 => brackets = brackets.checked_sub(1)?,
            b';' if braces == 0 && brackets == 0 => return None,
            b'{' if brackets == 0 => braces += 1,
            b'}' if brackets == 0 => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_in_text_do_not_count() {
        let text = "fn a() {\n    let b = '{'; // }\n    let c = \"}\\\"{\";\n    let d = r#\"}\"#; /* } */\n}\nfn e<'x>(f: &'x str) -> char {\n    '\\''\n}\n";
        let found = functions(text);
        let found: Vec<_> =
            found.iter().map(|found| (found.name.as_str(), found.line, found.lines)).collect();
        assert_eq!(found, [("a", 1, 5), ("e", 6, 3)]);
    }

    #[test]
    fn a_declaration_is_not_a_function() {
        assert_eq!(functions("trait T {\n    fn a(&self, b: [u8; 4]) -> u8;\n}\n"), []);
    }

    #[test]
    fn characters_of_any_width_are_blanked() {
        assert_eq!(
            blank_text("['→', 'é', '}', b'{']"),
            format!("[{}, {}, {}, b{}]", " ".repeat(5), " ".repeat(4), " ".repeat(3), " ".repeat(3))
        );
    }
}
