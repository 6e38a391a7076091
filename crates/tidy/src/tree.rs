//! Every text file of the repository that rules apply to, in a stable order.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// One file.
pub struct Source {
    /// Its path from the root, with `/`.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files below the root with one of these endings, build output and hidden folders left out.
///
/// # Errors
/// A folder or file that cannot be read.
pub fn sources(endings: &[&str]) -> io::Result<Vec<Source>> {
    let mut found = Vec::new();
    walk(&root(), "", endings, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(folder: &Path, prefix: &str, endings: &[&str], found: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') || (prefix.is_empty() && name == "target") {
            continue;
        }
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &format!("{path}/"), endings, found)?;
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(Source { text: fs::read_to_string(entry.path())?, path });
        }
    }
    Ok(())
}
