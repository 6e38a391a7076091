//! What documents claim to exist: paths, and tests by name.

/// Something a document says is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// A file or folder, from the root of the repository (a link is resolved first).
    Path(String),
    /// A test function whose name begins with a row of the failure model, such as `fm_a_…`.
    Test(String),
    /// A test function in a file: `crates/x/tests/y.rs::name`.
    TestIn(String, String),
}

/// Folders at the root whose paths are checked when they stand between backquotes.
const FOLDERS: [&str; 6] = ["crates/", "docs/", "ops/", "scripts/", ".ci/", ".config/"];

/// Every claim in a document at `path`, outside fenced blocks for links and inside them too for
/// nothing: examples may show what a user would have.
pub fn claims(path: &str, text: &str) -> Vec<Claim> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        found.extend(line.split('`').skip(1).step_by(2).filter_map(quoted));
        found.extend(links(line).filter_map(|target| link(path, target)));
    }
    found.sort();
    found.dedup();
    found
}

fn quoted(text: &str) -> Option<Claim> {
    if let Some((file, test)) = text.split_once(".rs::") {
        return Some(Claim::TestIn(format!("{file}.rs"), test.to_owned()));
    }
    if text.starts_with("fm_") && text.matches('_').count() > 1 && !text.contains(['*', '…', '.', '/']) {
        return Some(Claim::Test(text.to_owned()));
    }
    let plain = !text.contains(['*', '…', '<', '{', ' ', '$']);
    let path = text.split(':').next().unwrap_or(text);
    (plain && FOLDERS.iter().any(|folder| text.starts_with(folder))).then(|| Claim::Path(path.to_owned()))
}

fn links(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("](").filter_map(|(at, _)| line[at + 2..].split(')').next())
}

fn link(from: &str, target: &str) -> Option<Claim> {
    let target = target.split('#').next().unwrap_or_default();
    if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    Some(Claim::Path(parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_from_quotes_and_links() {
        let text = "See `crates/log/src`, `fm_a_serves`, `fm_a`, [rows](../docs/x.md#a), [web](https://x.y/z).\n\
                    ```\n`crates/none`\n```\n`crates/sim/tests/a.rs::holds`, `crates/*/src`";
        let wanted = [
            Claim::Path("crates/log/src".into()),
            Claim::Path("docs/x.md".into()),
            Claim::Test("fm_a_serves".into()),
            Claim::TestIn("crates/sim/tests/a.rs".into(), "holds".into()),
        ];
        assert_eq!(claims("docs/page.md", text), wanted);
    }
}
