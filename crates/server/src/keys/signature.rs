//! What a signed request signs: docs/API-KEYS.md describes it, with the test vector below.
//!
//! Invariant: everything that a request makes happen is signed: the moment, the method, the path with its query, the body,
//! and the idempotency key where there is one. Signatures are compared in constant time.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// Digits of a signature: 32 bytes in hexadecimal.
const DIGITS: usize = 64;

/// What a request says that is signed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed<'a> {
    /// Milliseconds since 1970, as they stand in the header.
    pub(super) timestamp: &'a str,
    /// The method.
    pub(super) method: &'a str,
    /// The path with its query, as they stand in the request line.
    pub(super) target: &'a str,
    /// The body; empty where there is none.
    pub(super) body: &'a [u8],
    /// The `Idempotency-Key`, where there is one.
    pub(super) idempotency_key: Option<&'a [u8]>,
}

impl Signed<'_> {
    fn mac(&self, secret: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
        for line in [self.timestamp, self.method, self.target] {
            mac.update(line.as_bytes());
            mac.update(b"\n");
        }
        mac.update(hex(&Sha256::digest(self.body)).as_bytes());
        if let Some(key) = self.idempotency_key {
            mac.update(b"\n");
            mac.update(key);
        }
        mac
    }

    /// Signs.
    #[cfg(test)]
    pub(super) fn sign(&self, secret: &[u8]) -> String {
        hex(&self.mac(secret).finalize().into_bytes())
    }

    /// Tells, in constant time, whether a signature is right.
    pub(super) fn is_signed(&self, secret: &[u8], signature: &[u8; 32]) -> bool {
        self.mac(secret).verify_slice(signature).is_ok()
    }
}

/// Reads a signature: 64 hexadecimal digits, in lower case so that one signature has one spelling.
pub(super) fn read(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    if text.len() != DIGITS {
        return None;
    }
    let mut signature = [0; 32];
    for (byte, pair) in signature.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(signature)
}

/// Writes bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"kxs_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";

    fn order() -> Signed<'static> {
        Signed {
            timestamp: "1790000000000",
            method: "POST",
            target: "/api/v1/orders",
            body: br#"{"market":"BTC/USD","side":"buy","orderType":"limit","price":"50000.00","quantity":"0.01"}"#,
            idempotency_key: None,
        }
    }

    /// The test vectors of docs/API-KEYS.md, made with openssl.
    #[test]
    fn the_test_vectors_are_right() {
        assert_eq!(
            order().sign(SECRET),
            "4fc37b1692a35ae71cac090948447f35475bed9a3d0d7252415c22d339b6b116"
        );
        let keyed = Signed { idempotency_key: Some(b"order-1"), ..order() };
        assert_eq!(
            keyed.sign(SECRET),
            "b915f26209324ddf6365597a7f4dcd42a0ab7ccdbd7277100cf8c9da45ebf8e7"
        );
        let read = Signed {
            timestamp: "1790000000000",
            method: "GET",
            target: "/api/v1/orders?status=open&limit=10",
            body: b"",
            idempotency_key: None,
        };
        assert_eq!(
            read.sign(SECRET),
            "f50efe53bab0039e75b0c78670f131b388f46943d27ebbc2eb1e2465fb96f089"
        );
    }

    #[test]
    fn whatever_is_changed_changes_the_signature() {
        let signature = read(&order().sign(SECRET)).unwrap();
        assert!(order().is_signed(SECRET, &signature));
        assert!(!order().is_signed(b"another", &signature));
        for changed in [
            Signed { timestamp: "1790000000001", ..order() },
            Signed { method: "PATCH", ..order() },
            Signed { target: "/api/v1/orders?", ..order() },
            Signed { body: b"{}", ..order() },
            Signed { idempotency_key: Some(b""), ..order() },
            Signed { idempotency_key: Some(b"k"), ..order() },
        ] {
            assert!(!changed.is_signed(SECRET, &signature), "{changed:?}");
        }
    }

    /// Whatever stands in the header is read or refused, and what is read is spelt in one way.
    #[test]
    fn fuzz_signatures() {
        let (whole, time) = (order().sign(SECRET), std::time::Duration::from_secs(2));
        type Damage = (Vec<(u8, u8)>, String);
        bolero::check!().with_test_time(time).with_type::<Damage>().for_each(|(changes, any)| {
            let mut bytes = whole.clone().into_bytes();
            for (at, byte) in changes {
                let length = bytes.len();
                bytes[usize::from(*at) % length] = *byte;
            }
            let changed = String::from_utf8(bytes).unwrap_or_default();
            for text in [&changed, any] {
                if let Some(signature) = read(text) {
                    assert_eq!(hex(&signature), *text);
                    assert_eq!(order().is_signed(SECRET, &signature), *text == whole, "{text}");
                }
                let _ = text.parse::<crate::keys::network::Network>();
            }
        });
    }

    #[test]
    fn a_signature_has_one_spelling() {
        let text = order().sign(SECRET);
        assert_eq!(read(&text).map(|bytes| hex(&bytes)), Some(text.clone()));
        for wrong in [
            "",
            "00",
            &text[1..],
            &format!("{text}0"),
            &text.to_uppercase(),
            &"g".repeat(64),
            &"é".repeat(32),
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
