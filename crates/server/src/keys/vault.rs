//! Keys' secrets, encrypted where they are stored: whoever reads the database alone can sign nothing.
//!
//! Invariant: a sealed secret opens only for the key and the user that it was sealed for, so rows cannot be swapped.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use uuid::Uuid;

const NONCE_BYTES: usize = 24;

/// Seals and opens secrets.
pub(super) struct Vault {
    /// The first one seals; any may open.
    ciphers: Vec<XChaCha20Poly1305>,
}

impl Vault {
    /// Makes a vault from secrets of the configuration, the current one first.
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let cipher = |secret: &[u8]| {
            let mut key = [0; 32];
            Hkdf::<Sha256>::new(None, secret)
                .expand(b"krystalinex api key secrets 1", &mut key)
                .expect("32 bytes are one block of the hash");
            XChaCha20Poly1305::new(&key.into())
        };
        Self { ciphers: secrets.into_iter().map(cipher).collect() }
    }

    /// Encrypts a secret.
    pub(super) fn seal(&self, key: Uuid, user: Uuid, secret: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let payload = Payload { msg: secret, aad: &bound(key, user) };
        let sealed = self.ciphers[0].encrypt(&XNonce::from(nonce), payload);
        let mut bytes = nonce.to_vec();
        bytes.extend(sealed.expect("a secret is far below the cipher's limit"));
        bytes
    }

    /// Decrypts a secret; `None` where it was not sealed here, or for another key or user.
    pub(super) fn open(&self, key: Uuid, user: Uuid, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_BYTES)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
        let bound = bound(key, user);
        let open = |cipher: &XChaCha20Poly1305| {
            cipher.decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad: &bound }).ok()
        };
        self.ciphers.iter().find_map(open)
    }
}

fn bound(key: Uuid, user: Uuid) -> Vec<u8> {
    [&key.as_bytes()[..], &user.as_bytes()[..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &[u8] = b"0123456789abcdef0123456789abcdef";
    const TWO: &[u8] = b"fedcba9876543210fedcba9876543210";

    #[test]
    fn a_sealed_secret_opens_for_its_key_and_user_alone() {
        let (key, user, other) = (Uuid::from_u128(1), Uuid::from_u128(2), Uuid::from_u128(3));
        let vault = Vault::new([ONE]);
        let sealed = vault.seal(key, user, b"secret");
        assert!(!sealed.windows(6).any(|six| six == b"secret"));
        assert_ne!(sealed, vault.seal(key, user, b"secret"), "each has its own nonce");
        assert_eq!(vault.open(key, user, &sealed).as_deref(), Some(&b"secret"[..]));
        assert_eq!(vault.open(other, user, &sealed), None);
        assert_eq!(vault.open(key, other, &sealed), None);
        assert_eq!(Vault::new([TWO]).open(key, user, &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(vault.open(key, user, &changed), None, "byte {at}");
        }
        assert_eq!(vault.open(key, user, &sealed[..10]), None);
    }

    #[test]
    fn a_former_secret_still_opens() {
        let (key, user) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let sealed = Vault::new([ONE]).seal(key, user, b"secret");
        assert!(Vault::new([TWO, ONE]).open(key, user, &sealed).is_some());
    }
}
