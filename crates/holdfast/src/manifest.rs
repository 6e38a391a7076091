//! Reading `holdfast.toml`: strict, and with errors that point at the character.
//!
//! TOML is read twice: once as a tree that knows where each key and value stands ([`places`]), once
//! into [`Manifest`]. Whatever goes wrong in the second reading, or in the rules that follow it, is
//! shown at its place in the first. Nothing is guessed: a wrong file sends nothing.

mod complaint;
mod places;

pub use complaint::ManifestError;

use places::Places;
use std::path::{Path, PathBuf};
use types::{limits, manifest::Manifest};

/// Reads, checks and completes the manifest in this file.
///
/// # Errors
/// The first thing that is wrong, with its place.
pub fn read(path: &Path) -> Result<Manifest, ManifestError> {
    let name = path.display().to_string();
    let whole = |what: String, next: &str| ManifestError::of_file(&name, what, next);
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(whole("there is no such file".to_owned(), "holdfast apply -f PATH/TO/holdfast.toml"));
        }
        Err(error) => return Err(whole(format!("it cannot be read: {error}"), "check its permissions")),
    };
    if bytes.len() > limits::MANIFEST_BYTES {
        let what =
            format!("it has {} bytes, and a manifest may have {}", bytes.len(), limits::MANIFEST_BYTES);
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

/// Reads and checks the text of a manifest; `name` is what errors call the file.
pub fn parse(name: &str, text: &str) -> Result<Manifest, ManifestError> {
    let places = Places::of(text).map_err(|error| ManifestError::syntax(name, text, &error))?;
    let manifest: Manifest =
        toml::from_str(text).map_err(|error| ManifestError::shape(name, text, &places, &error))?;
    manifest.check().map_err(|unsound| ManifestError::unsound(name, text, &places, &unsound))?;
    Ok(manifest)
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
