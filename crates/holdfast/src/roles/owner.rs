//! Handing the first owner's token to the person at this machine: printed once, and saved as the
//! context of the local user, so that the next command simply works.

use crate::{
    context::{DEFAULT_SERVER, Saved, saved_path},
    output, private_file,
};
use std::path::{Path, PathBuf};

/// Saves the token, prints it to standard output, and forgets the server's own copy of it.
///
/// It is saved before it is printed: whoever reads the line can use the context at once. Where
/// nobody reads standard output and the token could not be saved either, the server keeps its copy.
///
/// A context that was saved for another server is left as it is: it may hold the only copy of that
/// server's token.
pub fn hand_over(server: &str, token: &str, data_dir: &Path) {
    let saved = save(saved_path(), server, token);
    let printed = output::try_line(&format!("owner token (shown this once): {token}"));
    match &saved {
        Ok(text) => output::note(text),
        Err(why) => output::note(&format!("it is not saved: {why}; export HOLDFAST_TOKEN=… to use it")),
    }
    if printed.is_err() && saved.is_err() {
        tracing::warn!("nobody has the owner token yet: it is shown again at the next start");
        return;
    }
    if let Err(error) = control::Server::owner_taken(data_dir) {
        // It will be shown again at the next start, which harms nobody who may read this directory.
        tracing::warn!(%error, "the server's copy of the owner token stays for now");
    }
}

/// A server that others reach is not where `cluster init` could know it to be: a context that was saved for
/// the default address, with a token of this very server, goes on to where it is.
pub fn follow(server: &str, is_of_it: impl Fn(&str) -> bool) {
    match moved(saved_path(), server, is_of_it) {
        Ok(Some(path)) => output::note(&format!("{} names {server} from now on", path.display())),
        Ok(None) => {}
        Err(why) => tracing::warn!(why, "the saved context still names another address"),
    }
}

fn moved(
    path: Option<PathBuf>,
    server: &str,
    is_of_it: impl Fn(&str) -> bool,
) -> Result<Option<PathBuf>, String> {
    let Some(path) = path.filter(|path| path.exists()) else { return Ok(None) };
    let before = Saved::load(Some(&path)).map_err(|failure| failure.problem.detail.clone())?;
    let is_default = before.server.as_deref().is_none_or(|known| known == DEFAULT_SERVER);
    if !is_default || !before.token.as_deref().is_some_and(is_of_it) {
        return Ok(None);
    }
    let after = Saved { server: Some(server.to_owned()), ..before };
    after.save(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Some(path))
}

fn save(path: Option<PathBuf>, server: &str, token: &str) -> Result<String, String> {
    let path = path.ok_or("there is no home directory to save it in")?;
    let before = Saved::load(Some(&path)).map_err(|failure| failure.problem.detail.clone())?;
    if before.server.as_deref().is_some_and(|known| known.trim_end_matches('/') != server)
        && before.token.is_some()
    {
        let known = before.server.unwrap_or_default();
        return Err(format!("{} is the context of {known}", path.display()));
    }
    let other = before.token.as_deref().is_some_and(|known| known != token);
    let kept = if other { keep_before(&path)? } else { String::new() };
    let saved = Saved { server: Some(server.to_owned()), token: Some(token.to_owned()), ..before };
    saved.save(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(format!("saved for this user in {}{kept}", path.display()))
}

/// Another data directory on the same address has another owner: what was saved may be the only copy
/// of that one's token.
fn keep_before(path: &Path) -> Result<String, String> {
    let mut name = path.as_os_str().to_owned();
    name.push(".before");
    let before = PathBuf::from(name);
    let failed = |error: std::io::Error| format!("{}: {error}", before.display());
    let text = std::fs::read_to_string(path).map_err(failed)?;
    private_file::replace(&before, &text).map_err(failed)?;
    Ok(format!("; the context that was there has another token and is kept in {}", before.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_context_follows_the_server_that_its_token_is_of_and_no_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("context.toml");
        let (there, is_ours) = ("https://10.0.0.1:7070#sha256=ab", |token: &str| token == "hf_ours");
        let after = |server: &str, token: &str| {
            let saved = Saved { server: Some(server.into()), token: Some(token.into()), ..Saved::default() };
            saved.save(&path).expect("saved");
            moved(Some(path.clone()), there, is_ours).expect("read");
            Saved::load(Some(&path)).expect("there").server.expect("a server")
        };
        assert_eq!(after(DEFAULT_SERVER, "hf_ours"), there);
        assert_eq!(after(DEFAULT_SERVER, "hf_other"), DEFAULT_SERVER);
        assert_eq!(after("https://10.0.0.9:7070", "hf_ours"), "https://10.0.0.9:7070");
        assert_eq!(moved(Some(dir.path().join("none")), there, is_ours), Ok(None));
    }

    #[test]
    fn a_token_of_another_data_directory_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, before) = (dir.path().join("context.toml"), dir.path().join("context.toml.before"));
        let url = "http://127.0.0.1:7070";
        let save = |token: &str| save(Some(path.clone()), url, token).expect("saved");
        save("hf_first");
        assert!(!save("hf_first").contains("before"), "the same token replaces nothing");
        assert!(!before.exists());
        assert!(save("hf_second").contains("context.toml.before"), "it is said");
        assert!(std::fs::read_to_string(&before).expect("kept").contains("hf_first"));
        assert_eq!(std::fs::metadata(&before).expect("kept").permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&path).expect("saved").contains("hf_second"));
    }
}
