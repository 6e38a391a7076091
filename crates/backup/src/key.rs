//! The key that seals a backup: 32 bytes, as base64 in a file or in what a command says.

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hkdf, hmac};
use serde::{Deserialize, Serialize};
use std::{
    fmt, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::io::AsyncReadExt;
use types::limits;

/// Names a key without giving it away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub(crate) [u8; 8]);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key from {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others may read it.
    #[error("other users may read the key in {0}: run `chmod 600 {0}`", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// The command did not run, or ended badly.
    #[error("the command that gives the key, `{command}`, {why}")]
    Command {
        /// The program.
        command: String,
        /// What became of it.
        why: String,
    },
    /// What was read is no key.
    #[error("what {place} gives is no key: 32 bytes as base64 are one, as from `openssl rand -base64 32`")]
    NoKey {
        /// Where it was read.
        place: String,
    },
}

/// A key. Never shown.
#[derive(Clone)]
pub struct Key {
    id: KeyId,
    /// For the key of one object, from its salt.
    master: [u8; 32],
    /// For the names of objects, from their content.
    naming: hmac::Key,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Key {
    /// The key of these bytes.
    pub fn new(master: [u8; 32]) -> Self {
        let id = derive(&master, &[], b"holdfast backup: the name of the key");
        let naming = derive(&master, &[], b"holdfast backup: the names of objects");
        Self {
            id: KeyId(id[..8].try_into().expect("a range of eight bytes")),
            naming: hmac::Key::new(hmac::HMAC_SHA256, &naming),
            master,
        }
    }

    /// The key in a file that nobody else may read.
    ///
    /// # Errors
    /// The file cannot be read, is open to others, or holds no key.
    pub fn from_file(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.into(), source };
        let file = std::fs::File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
            return Err(KeyError::Open { path: path.into() });
        }
        let mut text = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, limits::KEY_TEXT as u64), &mut text)
            .map_err(failed)?;
        Self::parse(&text, || path.display().to_string())
    }

    /// The key that a command writes to its standard output.
    ///
    /// # Errors
    /// It does not run, fails, takes longer than [`limits::KEY_COMMAND`], or gives no key.
    pub async fn from_command(program: &str, arguments: &[String]) -> Result<Self, KeyError> {
        let failed = |why: String| KeyError::Command { command: program.into(), why };
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| failed(format!("does not run: {error}")))?;
        let output = child.stdout.take().expect("it was asked for");
        let run = async {
            let mut text = Vec::new();
            output.take(limits::KEY_TEXT as u64).read_to_end(&mut text).await?;
            Ok::<_, io::Error>((text, child.wait().await?))
        };
        match tokio::time::timeout(limits::KEY_COMMAND.into(), run).await {
            Err(_) => Err(failed(format!("took longer than {}", limits::KEY_COMMAND))),
            Ok(Err(error)) => Err(failed(format!("cannot be listened to: {error}"))),
            Ok(Ok((_, status))) if !status.success() => Err(failed(format!("failed: {status}"))),
            Ok(Ok((text, _))) => Self::parse(&text, || format!("`{program}`")),
        }
    }

    fn parse(text: &[u8], place: impl FnOnce() -> String) -> Result<Self, KeyError> {
        let bytes = STANDARD.decode(text.trim_ascii()).ok();
        let master = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        master.map(Self::new).ok_or_else(|| KeyError::NoKey { place: place() })
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The key of the object with this salt.
    pub(crate) fn of_object(&self, salt: &[u8]) -> [u8; 32] {
        derive(&self.master, salt, b"holdfast backup: one object")
    }

    /// What an object of this content is called: without the key, the name tells nothing about it.
    pub(crate) fn name(&self, sha256: &[u8; 32]) -> [u8; 32] {
        hmac::sign(&self.naming, sha256).as_ref().try_into().expect("such a tag has 32 bytes")
    }
}

/// 32 bytes as of HKDF with SHA-256 (RFC 5869).
fn derive(master: &[u8; 32], salt: &[u8], purpose: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    let purpose = [purpose];
    let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(master);
    let derived = derived.expand(&purpose, hkdf::HKDF_SHA256).expect("32 bytes are not too many");
    derived.fill(&mut out).expect("as many as were asked for");
    out
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("such a digest has 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_comes_from_a_file_or_a_command_and_nothing_else_is_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        let text = STANDARD.encode([7; 32]);
        std::fs::write(&path, format!("{text}\n")).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("a mode");
        assert!(matches!(Key::from_file(&path), Err(KeyError::Open { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
        let key = Key::from_file(&path).expect("a key");
        assert_eq!(key.id(), Key::new([7; 32]).id());
        assert_ne!(key.id(), Key::new([8; 32]).id());
        assert!(!format!("{key:?}").contains(&text), "a key is never shown");

        let said = |text: &str| vec!["-c".to_owned(), text.to_owned()];
        let key = Key::from_command("sh", &said(&format!("echo {text}"))).await.expect("a key");
        assert_eq!(key.id(), Key::new([7; 32]).id());
        let failed = Key::from_command("sh", &said("echo no; exit 3")).await.expect_err("it fails");
        assert!(failed.to_string().contains("exit status: 3"), "{failed}");
        let short = Key::from_command("sh", &said("echo c2hvcnQ=")).await.expect_err("it is too short");
        assert!(matches!(short, KeyError::NoKey { .. }));
        assert!(Key::from_command("/nowhere/at/all", &[]).await.is_err());
    }
}
