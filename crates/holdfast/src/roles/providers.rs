//! `--providers FILE`: by way of which OpenID providers people may log in on the page.
//!
//! A file of its own: each provider has several values, which no flag takes, and a secret, which no
//! command line is to show.

use super::process::whole;
use crate::failure::Failure;
use control::{
    Secret,
    providers::{Provider, Settings},
};
use serde::Deserialize;
use std::{
    fs::{self, File},
    io::{self, Read as _},
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};
use types::{Name, limits};

/// Others may not read or write a file with a secret in it.
const OTHERS: u32 = 0o077;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    url: String,
    #[serde(default)]
    provider: Vec<ToldProvider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ToldProvider {
    name: Name,
    title: Option<String>,
    issuer: String,
    client_id: String,
    client_secret_file: PathBuf,
}

/// Reads the file and the secrets that it names, for a server that listens there; paths in it are seen from
/// where it lies.
///
/// # Errors
/// What cannot be read or used, with its place.
pub fn load(path: &Path, listen: SocketAddr) -> Result<Settings, Failure> {
    let next = "docs/login.md shows such a file";
    let failed = |why: String| Failure::usage(format!("{}: {why}", path.display()), next);
    let text = read(path).map_err(|error| failed(error.to_string()))?;
    let told: Told =
        toml::from_str(&text).map_err(|error| failed(error.to_string().trim_end().to_owned()))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut providers = Vec::new();
    for ToldProvider { name, title, issuer, client_id, client_secret_file } in told.provider {
        let title = title.unwrap_or_else(|| name.to_string());
        let client_secret = secret(&dir.join(client_secret_file))?;
        providers.push(Provider { name, title, issuer, client_id, client_secret });
    }
    let settings = Settings { url: told.url, providers };
    settings.check().map_err(|error| failed(whole(&error)))?;
    // Over loopback it may be reached by way of a proxy that speaks TLS.
    if !listen.ip().is_loopback() && !settings.url.starts_with("https:") {
        let why = format!("url {:?}: wants https: on {listen} this server speaks TLS", settings.url);
        return Err(failed(why));
    }
    Ok(settings)
}

fn secret(path: &Path) -> Result<Secret, Failure> {
    let next = format!("chmod 600 {}", path.display());
    let failed = |why: String| Failure::usage(format!("{}: {why}", path.display()), next.clone());
    let mode = fs::metadata(path).map_err(|error| failed(error.to_string()))?.mode();
    if mode & OTHERS != 0 {
        return Err(failed("others may read this file, and it holds a secret".to_owned()));
    }
    let text = read(path).map_err(|error| failed(error.to_string()))?;
    Ok(Secret::from_text(text.trim()))
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(limits::PROVIDERS_FILE + 1).read_to_string(&mut text)?;
    match text.len() as u64 > limits::PROVIDERS_FILE {
        true => Err(io::Error::other(format!("more than {} bytes", limits::PROVIDERS_FILE))),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const FILE: &str = r#"
url = "https://holdfast.example"

[[provider]]
name = "corp"
title = "Example Corp"
issuer = "https://login.example"
client_id = "holdfast"
client_secret_file = "corp.secret"
"#;

    fn loaded(text: &str, mode: u32) -> Result<Settings, Failure> {
        loaded_at(text, mode, "127.0.0.1:7070")
    }

    fn loaded_at(text: &str, mode: u32, listen: &str) -> Result<Settings, Failure> {
        let dir = tempfile::tempdir().expect("a directory");
        let (file, secret) = (dir.path().join("providers.toml"), dir.path().join("corp.secret"));
        fs::write(&file, text).expect("written");
        fs::write(&secret, "s3cret\n").expect("written");
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).expect("set");
        load(&file, listen.parse().expect("an address"))
    }

    #[test]
    fn a_file_names_providers_and_where_their_secrets_lie() {
        let settings = loaded(FILE, 0o600).expect("good");
        assert_eq!(settings.providers[0].client_secret.reveal(), "s3cret");
        assert_eq!(settings.providers[0].title, "Example Corp");
        let untitled = FILE.replace("title = \"Example Corp\"", "");
        assert_eq!(loaded(&untitled, 0o400).expect("good").providers[0].title, "corp");
    }

    #[test]
    fn what_is_wrong_in_it_is_told() {
        let said = |text: &str, mode| {
            let failure = loaded(text, mode).expect_err("refused");
            assert_eq!(failure.exit, 2);
            failure.problem.detail.clone()
        };
        assert!(said(FILE, 0o640).contains("corp.secret: others may read"));
        assert!(said(&FILE.replace("client_id", "client"), 0o600).contains("unknown field `client`"));
        assert!(said(&FILE.replace("https://login", "http://login"), 0o600).contains("wants https"));
        assert!(said(&FILE.replace("corp.secret", "none"), 0o600).contains("none: No such file"));
        assert!(said("url = \"https://holdfast.example\"", 0o600).contains("0 providers"));
    }

    #[test]
    fn browsers_come_back_over_tls_where_the_server_speaks_it() {
        let plain = FILE.replace("https://holdfast.example", "http://127.0.0.1:7070");
        assert!(loaded(&plain, 0o600).is_ok());
        let failure = loaded_at(&plain, 0o600, "0.0.0.0:7070").expect_err("it would never come back");
        assert!(
            failure.problem.detail.contains("wants https: on 0.0.0.0:7070"),
            "{}",
            failure.problem.detail
        );
        assert!(loaded_at(FILE, 0o600, "[::]:7070").is_ok());
        assert!(loaded(FILE, 0o600).is_ok(), "behind a proxy");
    }
}
