//! Passwords, hashed with argon2id off the async threads, few at a time.
//!
//! Invariant: an unknown user costs the same hash as a known one, so time tells nobody who has an account.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;

use crate::config::PasswordCost;
use crate::problem::{Code, Problem};

/// The shortest password, in characters.
pub const CHARACTERS_MIN: usize = 10;
/// The longest password, in bytes.
pub const BYTES_MAX: usize = 128;

/// Those who wait for one hash that is being made, and that one: about half a second's work.
const PLACES_PER_PERMIT: usize = 16;

/// Hashes and checks passwords.
pub struct Passwords {
    argon2: Argon2<'static>,
    /// What a hash of the present cost begins with.
    prefix: String,
    /// Who is being served or waits for it.
    places: Arc<Semaphore>,
    permits: Arc<Semaphore>,
    /// The hash of a password that nobody has, for users that are not there.
    nobody: Arc<str>,
}

impl Passwords {
    /// Makes a hasher.
    ///
    /// # Panics
    ///
    /// When the cost is not one that argon2 takes; the configuration is checked before.
    #[must_use]
    pub fn new(cost: PasswordCost) -> Self {
        let params = Params::new(cost.memory_kib, cost.passes, 1, None)
            .expect("the configured cost is one that argon2 takes");
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let nobody = hash_now(&argon2, &rand::random::<u128>().to_string());
        let parallel = cost.parallel_max.max(1);
        let permits = Arc::new(Semaphore::new(parallel));
        let places = Arc::new(Semaphore::new(parallel * PLACES_PER_PERMIT));
        let prefix = format!("$argon2id$v=19$m={},t={},p=1$", cost.memory_kib, cost.passes);
        Self { argon2, prefix, places, permits, nobody: nobody.into() }
    }

    /// Tells whether a hash was made at another cost than the present one.
    #[must_use]
    pub fn is_outdated(&self, stored: &str) -> bool {
        !stored.starts_with(&self.prefix)
    }

    /// Hashes a password.
    ///
    /// # Errors
    ///
    /// [`Code::TooManyRequests`] when too many wait; [`Code::Defect`] when the hasher fails.
    pub async fn hash(&self, password: String) -> Result<String, Problem> {
        let argon2 = self.argon2.clone();
        self.blocking(move || hash_now(&argon2, &password)).await
    }

    /// Checks a password against a stored hash; without one it takes as long and says no.
    ///
    /// # Errors
    ///
    /// [`Code::TooManyRequests`] when too many wait; [`Code::Defect`] when the hasher fails.
    pub async fn check(&self, password: String, stored: Option<String>) -> Result<bool, Problem> {
        let argon2 = self.argon2.clone();
        let nobody = Arc::clone(&self.nobody);
        self.blocking(move || {
            let known = stored.is_some();
            let text = stored.as_deref().unwrap_or(&nobody);
            let right = PasswordHash::new(text)
                .is_ok_and(|hash| argon2.verify_password(password.as_bytes(), &hash).is_ok());
            right && known
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        // A storm of logins is told to come back: whoever waited longer would have gone by then.
        let Ok(_place) = Arc::clone(&self.places).try_acquire_owned() else {
            return Err(Problem::new(Code::TooManyRequests));
        };
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let Ok(permit) = permit else { return Err(Problem::new(Code::Defect)) };
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        });
        done.await.map_err(|_| Problem::new(Code::Defect))
    }
}

fn hash_now(argon2: &Argon2<'_>, password: &str) -> String {
    argon2
        .hash_password(password.as_bytes())
        .expect("a password of bounded length and a random salt can be hashed")
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_recognized_and_nobodys_is_not() {
        let cost = PasswordCost { memory_kib: 64, passes: 1, parallel_max: 1 };
        let passwords = Passwords::new(cost);
        let stored = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{stored}");
        let check = async |password: &str, stored: Option<&String>| {
            passwords.check(password.to_owned(), stored.cloned()).await.unwrap()
        };
        assert!(check("correct horse", Some(&stored)).await);
        assert!(!check("battery staple", Some(&stored)).await);
        assert!(!check("correct horse", None).await);
        assert!(!check("correct horse", Some(&"nonsense".to_owned())).await);
        assert!(!check("", Some(&String::new())).await, "a closed user has no hash");
    }

    #[tokio::test]
    async fn a_hash_of_another_cost_is_taken_and_known_to_be_outdated() {
        let cost = PasswordCost { memory_kib: 64, passes: 1, parallel_max: 1 };
        let old = Passwords::new(cost).hash("correct horse".to_owned()).await.unwrap();
        let passwords = Passwords::new(PasswordCost { passes: 2, ..cost });
        assert!(passwords.check("correct horse".to_owned(), Some(old.clone())).await.unwrap());
        assert!(!passwords.check("battery staple".to_owned(), Some(old.clone())).await.unwrap());
        assert!(passwords.is_outdated(&old));
        let new = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(!passwords.is_outdated(&new));
    }

    #[tokio::test]
    async fn more_than_can_wait_are_sent_away() {
        let cost = PasswordCost { memory_kib: 64, passes: 1, parallel_max: 1 };
        let passwords = Arc::new(Passwords::new(cost));
        let free = Arc::clone(&passwords.permits).acquire_owned().await.unwrap();
        let ask = || {
            tokio::spawn({
                let passwords = Arc::clone(&passwords);
                async move { passwords.hash("correct horse".to_owned()).await }
            })
        };
        let waiting: Vec<_> = (0..PLACES_PER_PERMIT).map(|_| ask()).collect();
        while passwords.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let refused = passwords.hash("correct horse".to_owned()).await.unwrap_err();
        assert_eq!(refused.code(), Code::TooManyRequests);
        drop(free);
        for one in waiting {
            one.await.unwrap().unwrap();
        }
    }
}
