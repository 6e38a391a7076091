//! Reading `holdfast.toml`: strict, and with errors that point at the character.
//!
//! TOML is read twice: once as a tree that knows where each key and value stands ([`places`]), once
//! into [`Manifest`]. Whatever goes wrong in the second reading, or in the rules that follow it, is
//! shown at its place in the first. Nothing is guessed: a wrong file sends nothing.

mod complaint;
mod places;

pub use complaint::ManifestError;

use places::Places;
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};
use types::{
    limits,
    manifest::{Manifest, Unsound},
};

/// Reads, checks and completes the manifest in this file.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn read(path: &Path) -> Result<Manifest, ManifestError> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let whole = |what: String, next: &str| ManifestError::of_file(&name, what, next);
    let opened = if is_stdin { bounded(std::io::stdin().lock()) } else { of_file(path) };
    let bytes = match opened {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {
            return Err(whole(
                "it is not a file".to_owned(),
                "name a file, or give the text on standard input: -f -",
            ));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(whole("there is no such file".to_owned(), "holdfast apply -f PATH/TO/holdfast.toml"));
        }
        Err(error) => return Err(whole(format!("it cannot be read: {error}"), "check its permissions")),
    };
    if bytes.len() > limits::MANIFEST_BYTES {
        let what = format!("it has more than the {} bytes that a manifest may have", limits::MANIFEST_BYTES);
        return Err(whole(what, "is this the right file?"));
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let what = format!("byte {at} is not part of a UTF-8 character");
            return Err(whole(what, "save it as UTF-8"));
        }
    };
    let mut manifest = parse(&name, &text)?;
    let home = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    manifest.image.reference = absolute_reference(&manifest.image.reference, home);
    Ok(manifest)
}

/// The content of a regular file. A pipe or a device might never end or never begin.
fn of_file(path: &Path) -> std::io::Result<Vec<u8>> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    bounded(std::fs::File::open(path)?)
}

/// All of it, or just enough to see that it is too long.
fn bounded(from: impl std::io::Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(limits::MANIFEST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads and checks the text of a manifest; `name` is what errors call the file.
pub fn parse(name: &str, text: &str) -> Result<Manifest, ManifestError> {
    let places = Places::of(text).map_err(|error| ManifestError::syntax(name, text, &error))?;
    let manifest: Manifest =
        toml::from_str(text).map_err(|error| ManifestError::shape(name, text, &places, &error))?;
    let refused = |unsound: Unsound| ManifestError::unsound(name, text, &places, &unsound);
    manifest.check().map_err(refused)?;
    check_reference(&manifest.image.reference).map_err(refused)?;
    Ok(manifest)
}

/// Whether the server could read this image reference. A layout's path is made absolute only later.
fn check_reference(reference: &str) -> Result<(), Unsound> {
    let absolute = absolute_reference(reference, Path::new("/"));
    absolute
        .parse::<oci::Reference>()
        .map(drop)
        .map_err(|error| Unsound { path: "image.ref".to_owned(), problem: error.why.to_owned() })
}

/// Makes the path of `oci:PATH[:tag]` absolute, so that it means the same on the server.
pub fn absolute_reference(reference: &str, home: &Path) -> String {
    let Some(path) = reference.strip_prefix("oci:") else { return reference.to_owned() };
    let joined: PathBuf = home.join(path);
    match std::path::absolute(&joined) {
        Ok(absolute) => format!("oci:{}", absolute.display()),
        Err(_) => reference.to_owned(),
    }
}

#[cfg(test)]
mod tests;
