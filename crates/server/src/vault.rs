//! What is kept sealed in the database: secrets of second factors, and mail that waits.
//!
//! Invariant: what was sealed for one purpose and owner opens for no other: both are part of what is authenticated. A key is
//! derived from the configured secret for this alone, so that it says nothing about the key that signs tokens.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use uuid::Uuid;

use crate::config::JwtSecret;

/// Bytes of a key's id, with which everything begins that was sealed with it.
const ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;

/// Seals and opens.
pub(crate) struct Vault {
    /// The one that seals first; all of them open.
    keys: Vec<Key>,
}

struct Key {
    id: [u8; ID_BYTES],
    cipher: XChaCha20Poly1305,
}

impl Key {
    fn new(secret: &JwtSecret) -> Self {
        let derive = Hkdf::<Sha256>::new(None, secret.bytes());
        let (mut id, mut key) = ([0; ID_BYTES], [0; 32]);
        derive.expand(b"krystalinex vault key id", &mut id).expect("it is short enough");
        derive.expand(b"krystalinex vault key", &mut key).expect("it is short enough");
        Self { id, cipher: XChaCha20Poly1305::new(&key.into()) }
    }
}

impl Vault {
    /// Makes one from the secrets, of which the first seals.
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a JwtSecret>) -> Self {
        Self { keys: secrets.into_iter().map(Key::new).collect() }
    }

    /// Returns the id of the key that seals.
    pub(crate) fn key_id(&self) -> &[u8] {
        &self.keys[0].id
    }

    /// Returns the ids of the keys that open.
    pub(crate) fn key_ids(&self) -> Vec<&[u8]> {
        self.keys.iter().map(|key| &key.id[..]).collect()
    }

    /// Seals something of an owner.
    pub(crate) fn seal(&self, purpose: &str, owner: Uuid, plain: &[u8]) -> Vec<u8> {
        let key = &self.keys[0];
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let aad = aad(purpose, owner);
        let payload = Payload { msg: plain, aad: &aad };
        let sealed = key.cipher.encrypt(&XNonce::from(nonce), payload);
        let sealed = sealed.expect("what is sealed here is far shorter than the cipher takes");
        [&key.id[..], &nonce, &sealed].concat()
    }

    /// Opens what was sealed for this purpose and owner; `None` for anything else.
    pub(crate) fn open(&self, purpose: &str, owner: Uuid, sealed: &[u8]) -> Option<Vec<u8>> {
        let (id, rest) = sealed.split_at_checked(ID_BYTES)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_BYTES)?;
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
        let key = self.keys.iter().find(|key| key.id == id)?;
        let aad = aad(purpose, owner);
        key.cipher.decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad: &aad }).ok()
    }
}

fn aad(purpose: &str, owner: Uuid) -> Vec<u8> {
    [purpose.as_bytes(), &[0], owner.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> JwtSecret {
        JwtSecret::new(text).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_for_its_owner_and_purpose_alone() {
        let (first, second) = (
            secret("0123456789abcdef0123456789abcdef"),
            secret("fedcba9876543210fedcba9876543210"),
        );
        let vault = Vault::new([&first]);
        let (ann, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let sealed = vault.seal("secret", ann, b"plain");
        assert!(!sealed.windows(5).any(|part| part == b"plain"));
        assert_ne!(sealed, vault.seal("secret", ann, b"plain"), "every seal is another");
        assert_eq!(vault.open("secret", ann, &sealed).as_deref(), Some(&b"plain"[..]));
        assert_eq!(vault.open("secret", bob, &sealed), None);
        assert_eq!(vault.open("mail", ann, &sealed), None);
        for at in 0..sealed.len() {
            let mut broken = sealed.clone();
            broken[at] ^= 1;
            assert_eq!(vault.open("secret", ann, &broken), None, "byte {at}");
            assert_eq!(vault.open("secret", ann, &sealed[..at]), None);
        }
        let rotated = Vault::new([&second, &first]);
        assert_eq!(rotated.open("secret", ann, &sealed).as_deref(), Some(&b"plain"[..]));
        assert!(!sealed.starts_with(rotated.key_id()));
        assert_eq!(Vault::new([&second]).open("secret", ann, &sealed), None);
    }
}
