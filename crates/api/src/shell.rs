//! Commands that are printed to be run: words as a shell takes them.

/// A word that every POSIX shell, and zsh, reads as this text: as it is, or in single quotes.
pub fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=.:/@+,%".contains(&byte);
    // zsh looks for a command where a word begins with `=`.
    if !word.is_empty() && !word.starts_with('=') && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &[(&str, &str)] = &[
        ("two", "two"),
        ("web=3", "web=3"),
        ("http://127.0.0.1:7070", "http://127.0.0.1:7070"),
        ("registry.test/shop@sha256:0a,b+c_d-e%", "registry.test/shop@sha256:0a,b+c_d-e%"),
        ("", "''"),
        ("=ls", "'=ls'"),
        ("a b", "'a b'"),
        ("http://[::1]:7070", "'http://[::1]:7070'"),
        ("it's $HOME", r"'it'\''s $HOME'"),
        ("'", r"''\'''"),
        ("a\nb", "'a\nb'"),
        (r"`id`;#\", r"'`id`;#\'"),
        ("~", "'~'"),
        ("{a,b}*?!", "'{a,b}*?!'"),
        ("größe", "'größe'"),
    ];

    #[test]
    fn a_shell_reads_a_quoted_word_as_it_was() {
        for (word, wanted) in WORDS {
            assert_eq!(quoted(word), *wanted);
            let script = format!("printf %s {}", quoted(word));
            let read = std::process::Command::new("sh").args(["-c", &script]).output().expect("a shell");
            assert_eq!(String::from_utf8_lossy(&read.stdout), *word);
        }
    }
}
