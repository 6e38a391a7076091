//! Passwords: hashed with Argon2id, a few at once, and never on the threads that answer.
//!
//! An unknown name costs what a known one does: its password is held against a hash that nobody
//! has the password to.

use super::{
    Http,
    answer::{Result, refused},
};
use api::{Code, Password};
use argon2::{
    Algorithm, Argon2, Params, PasswordHash, PasswordVerifier, Version,
    password_hash::{PasswordHasher, SaltString},
};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use types::limits;

/// Where passwords wait their turn.
pub(super) struct Hashers {
    turns: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

impl Default for Hashers {
    fn default() -> Self {
        Self {
            turns: Arc::new(Semaphore::new(limits::PASSWORD_HASHERS)),
            waiting: Arc::new(Semaphore::new(limits::PASSWORDS_WAITING)),
        }
    }
}

impl Hashers {
    async fn turn(&self) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let full = |_| {
            let detail = format!("{} passwords wait to be looked at", limits::PASSWORDS_WAITING);
            refused(Code::Unavailable, detail)
        };
        let place = self.waiting.clone().try_acquire_owned().map_err(full)?;
        let turn = self.turns.clone().acquire_owned().await.expect("the semaphore is never closed");
        Ok((place, turn))
    }
}

fn argon2() -> Argon2<'static> {
    let params = Params::new(limits::ARGON2_KIB, limits::ARGON2_PASSES, 1, None);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.expect("the limits are in Argon2's range"))
}

fn hashed(password: &str, salt: [u8; 16]) -> String {
    let salt = SaltString::encode_b64(&salt).expect("16 bytes are a salt");
    let hash = argon2().hash_password(password.as_bytes(), &salt);
    hash.expect("the password's length is bounded").to_string()
}

fn fits(password: &str, hash: &str) -> bool {
    let parsed = PasswordHash::new(hash);
    parsed.is_ok_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok())
}

/// A hash to hold the passwords of unknown names against, as costly as a real one; no password is known
/// that fits it.
fn nobodys() -> String {
    let (memory, passes) = (limits::ARGON2_KIB, limits::ARGON2_PASSES);
    format!("$argon2id$v=19$m={memory},t={passes},p=1${}${}", "A".repeat(22), "A".repeat(43))
}

/// Whether a password may be used: long enough to withstand guessing, short enough to be hashed.
pub(super) fn acceptable(password: &Password, name: &str) -> Result<()> {
    let text = password.reveal();
    let chars = text.chars().count();
    let why = if chars < limits::PASSWORD_SHORTEST {
        format!("the password has {chars} characters and needs at least {}", limits::PASSWORD_SHORTEST)
    } else if text.len() > limits::PASSWORD_LONGEST {
        format!("the password has more than {} bytes", limits::PASSWORD_LONGEST)
    } else if text.to_lowercase().contains(&name.to_lowercase()) && chars < 2 * limits::PASSWORD_SHORTEST {
        "the password has the member's name in it".to_owned()
    } else {
        return Ok(());
    };
    let problem = api::Problem::new(Code::InvalidRequest, why).with_path("password");
    Err(problem.with_hint("a few random words make a good one").into())
}

/// The hash of a new password.
pub(super) async fn hash(http: &Http, password: &Password) -> Result<String> {
    let turn = http.hashers.turn().await?;
    let (password, salt) = (password.clone(), http.core.random().u128().to_le_bytes());
    let task = tokio::task::spawn_blocking(move || {
        let _until_done = turn;
        hashed(password.reveal(), salt)
    });
    task.await.map_err(|error| refused(Code::Internal, format!("a password was not hashed: {error}")))
}

/// Whether a password is the one of this hash; with none it never is, and that takes as long.
pub(super) async fn check(http: &Http, password: &Password, hash: Option<String>) -> Result<bool> {
    let turn = http.hashers.turn().await?;
    let is_known = hash.is_some();
    let (password, hash) = (password.clone(), hash.unwrap_or_else(nobodys));
    let task = tokio::task::spawn_blocking(move || {
        let _until_done = turn;
        let short = password.reveal().len() <= limits::PASSWORD_LONGEST;
        short && fits(password.reveal(), &hash)
    });
    let fits = task
        .await
        .map_err(|error| refused(Code::Internal, format!("a password was not checked: {error}")))?;
    Ok(fits && is_known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_says_how_it_was_made_and_fits_one_password() {
        let hash = hashed("correct horse battery", [7; 16]);
        assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
        assert!(hash.len() <= limits::PASSWORD_HASH);
        assert!(fits("correct horse battery", &hash));
        assert!(!fits("correct horse batterz", &hash));
        assert!(!fits("correct horse battery", "") && !fits("", &nobodys()));
        let (real, nobodys) = (PasswordHash::new(&hash).expect("a hash"), nobodys());
        let nobodys = PasswordHash::new(&nobodys).expect("a hash");
        assert_eq!((real.algorithm, real.params.clone()), (nobodys.algorithm, nobodys.params.clone()));
        let length = |hash: &PasswordHash<'_>| hash.hash.expect("bytes").len();
        assert_eq!(length(&real), length(&nobodys), "both cost the same");
        assert_ne!(hash, hashed("correct horse battery", [8; 16]));
    }

    #[test]
    fn what_is_easily_guessed_is_no_password() {
        let fits = |text: &str| acceptable(&Password::new(text), "ann").is_ok();
        assert!(fits("tables of green rain") && fits(&"a".repeat(limits::PASSWORD_LONGEST)));
        assert!(!fits("short") && !fits("Ann was here 1234") && !fits(""));
        assert!(!fits(&"a".repeat(limits::PASSWORD_LONGEST + 1)));
    }
}
