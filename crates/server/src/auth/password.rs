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

/// Hashes and checks passwords.
pub struct Passwords {
    argon2: Argon2<'static>,
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
        let permits = Arc::new(Semaphore::new(cost.parallel_max.max(1)));
        Self { argon2, permits, nobody: nobody.into() }
    }

    /// Hashes a password.
    ///
    /// # Errors
    ///
    /// [`Code::Defect`] when the hasher fails.
    pub async fn hash(&self, password: String) -> Result<String, Problem> {
        let argon2 = self.argon2.clone();
        self.blocking(move || hash_now(&argon2, &password)).await
    }

    /// Checks a password against a stored hash; without one it takes as long and says no.
    ///
    /// # Errors
    ///
    /// [`Code::Defect`] when the hasher fails.
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
    }
}
