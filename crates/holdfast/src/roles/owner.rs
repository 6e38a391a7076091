//! Handing the first owner's token to the person at this machine: printed once, and saved as the
//! context of the local user, so that the next command simply works.

use crate::{
    context::{Saved, saved_path},
    output,
};
use std::path::Path;

/// Saves the token, prints it to standard output, and forgets the server's own copy of it.
///
/// It is saved before it is printed: whoever reads the line can use the context at once. Where
/// nobody reads standard output and the token could not be saved either, the server keeps its copy.
///
/// A context that was saved for another server is left as it is: it may hold the only copy of that
/// server's token.
pub fn hand_over(server: &str, token: &str, data_dir: &Path) {
    let saved = save(server, token);
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

fn save(server: &str, token: &str) -> Result<String, String> {
    let path = saved_path().ok_or("there is no home directory to save it in")?;
    let before = Saved::load(Some(&path)).map_err(|failure| failure.problem.detail.clone())?;
    if before.server.as_deref().is_some_and(|known| known.trim_end_matches('/') != server)
        && before.token.is_some()
    {
        let known = before.server.unwrap_or_default();
        return Err(format!("{} is the context of {known}", path.display()));
    }
    let saved = Saved { server: Some(server.to_owned()), token: Some(token.to_owned()), ..before };
    saved.save(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(format!("saved for this user in {}", path.display()))
}
