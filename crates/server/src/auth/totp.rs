//! Codes of authenticator apps: RFC 6238 with SHA-1, 30 seconds, six digits, which is what they all know.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// Seconds of a step.
const STEP_SECONDS: u64 = 30;
/// Clocks may differ by so many steps.
const LEEWAY_STEPS: i64 = 1;
const DIGITS: u32 = 6;
/// As many bytes as SHA-1 has (RFC 4226, 4: 160 bits recommended).
pub(super) const SECRET_BYTES: usize = 20;

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Returns the step of a moment, in seconds since 1970.
fn step(now: u64) -> i64 {
    i64::try_from(now / STEP_SECONDS).unwrap_or(i64::MAX)
}

/// Returns a step's code (RFC 4226, 5.3).
fn code(secret: &[u8], step: i64) -> String {
    let mac = Hmac::<Sha1>::new_from_slice(secret).expect("HMAC takes keys of any length");
    let hash = mac.chain_update(step.to_be_bytes()).finalize().into_bytes();
    let offset = usize::from(hash[19] & 0x0f);
    let mut four = [0; 4];
    four.copy_from_slice(&hash[offset..offset + 4]);
    let number = u32::from_be_bytes(four) & 0x7fff_ffff;
    format!("{:06}", number % 10_u32.pow(DIGITS))
}

/// Returns the earliest step after `last` that a code is right for now; a step that was used, or one before it, counts for
/// nothing.
pub(super) fn matching(secret: &[u8], text: &str, now: u64, last: i64) -> Option<i64> {
    let now = step(now);
    let mut found = None;
    // Every step is looked at, so that time tells nothing.
    for step in (now - LEEWAY_STEPS..=now + LEEWAY_STEPS).rev() {
        if is_equal(&code(secret, step), text) && step > last {
            found = Some(step);
        }
    }
    found
}

/// Compares in a time that tells nothing of where they differ.
fn is_equal(a: &str, b: &str) -> bool {
    let different = a.bytes().zip(b.bytes()).fold(0, |all, (x, y)| all | (x ^ y));
    a.len() == b.len() && different == 0
}

/// Writes bytes as people and authenticators do (RFC 4648, without padding).
pub(super) fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut buffer, mut bits) = (0_u16, 0);
    for byte in bytes {
        buffer = (buffer << 8) | u16::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(BASE32[usize::from((buffer >> bits) & 31)]));
            buffer &= (1 << bits) - 1;
        }
    }
    if bits > 0 {
        text.push(char::from(BASE32[usize::from((buffer << (5 - bits)) & 31)]));
    }
    text
}

/// Returns what an authenticator reads, as a link or a picture of it. The e-mail address has only characters of its own
/// rules, of which some mean something in a link.
pub(super) fn uri(secret: &[u8], email: &str) -> String {
    let mut label = String::with_capacity(email.len());
    for byte in email.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            label.push(char::from(byte));
        } else {
            label.push_str(&format!("%{byte:02X}"));
        }
    }
    let secret = base32(secret);
    format!(
        "otpauth://totp/KrystalineX:{label}?secret={secret}&issuer=KrystalineX&algorithm=SHA1&digits={DIGITS}\
         &period={STEP_SECONDS}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B, the SHA-1 column: six digits are the last six of its eight.
    const VECTORS: [(u64, &str); 6] = [
        (59, "94287082"),
        (1_111_111_109, "07081804"),
        (1_111_111_111, "14050471"),
        (1_234_567_890, "89005924"),
        (2_000_000_000, "69279037"),
        (20_000_000_000, "65353130"),
    ];
    const SECRET: &[u8] = b"12345678901234567890";

    #[test]
    fn the_vectors_of_rfc_6238_hold() {
        for (time, digits) in VECTORS {
            assert_eq!(code(SECRET, step(time)), digits[2..], "{time}");
            assert_eq!(matching(SECRET, &digits[2..], time, 0), Some(step(time)), "{time}");
        }
    }

    #[test]
    fn a_code_counts_one_step_early_or_late_and_never_after_its_use() {
        let now = 1_790_000_010;
        let here = step(now);
        for distance in -3_i64..=3 {
            let text = code(SECRET, here + distance);
            let expected = (distance.abs() <= 1).then_some(here + distance);
            assert_eq!(matching(SECRET, &text, now, 0), expected, "{distance}");
        }
        let text = code(SECRET, here);
        assert_eq!(matching(SECRET, &text, now, here - 1), Some(here));
        assert_eq!(matching(SECRET, &text, now, here), None, "it was used");
        assert_eq!(matching(SECRET, &code(SECRET, here - 1), now, here), None, "a later one was");
        for text in ["", "12345", "1234567", "abcdef"] {
            assert_eq!(matching(SECRET, text, now, 0), None, "{text}");
        }
    }

    #[test]
    fn base32_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
        assert_eq!(base32(SECRET), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    }

    #[test]
    fn the_link_is_what_authenticators_read() {
        let link = uri(SECRET, "ann+x&y@example.com");
        assert!(
            link.starts_with("otpauth://totp/KrystalineX:ann%2Bx%26y%40example.com?"),
            "{link}"
        );
        assert!(link.contains("secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=KrystalineX"));
    }
}
