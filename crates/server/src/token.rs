//! Access tokens: JWT, HS256 and nothing else.
//!
//! Invariant: a token is taken only if its header is, byte for byte, the one that is written here. So no algorithm, key
//! or URL that a token names is ever looked at, and an unknown key id is an unknown token.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use units::AccountId;
use uuid::Uuid;

use crate::config::JwtSecret;

/// How long an access token is good, in seconds.
pub const ACCESS_SECONDS: u64 = 300;
/// Clocks of servers may differ by this much, in seconds.
const LEEWAY_SECONDS: u64 = 5;
/// The longest token, in bytes.
const TOKEN_BYTES_MAX: usize = 1_024;

const ISSUER: &str = "krystalinex";
const AUDIENCE: &str = "krystalinex-api";

/// Signs and checks access tokens.
pub struct Tokens {
    key: Hmac<Sha256>,
    /// `base64url(header).`, the one header that there is.
    head: String,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Principal {
    /// The user.
    pub user: Uuid,
    /// The user's account.
    pub account: AccountId,
    /// The session that the token is of.
    pub session: Uuid,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadToken {
    /// Not one of ours, or not as we made it.
    Invalid,
    /// Ours, but its time is over.
    Expired,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: Uuid,
    acc: u64,
    sid: Uuid,
    iat: u64,
    nbf: u64,
    exp: u64,
}

impl Tokens {
    /// Makes a signer from the configured key.
    ///
    /// # Panics
    ///
    /// Never: HMAC takes keys of any length.
    #[must_use]
    pub fn new(secret: &JwtSecret) -> Self {
        let key = Hmac::new_from_slice(secret.bytes()).expect("HMAC takes keys of any length");
        // The id tells two keys apart without saying anything about either.
        let digest = Sha256::new().chain_update(b"kid").chain_update(secret.bytes()).finalize();
        let kid = URL_SAFE_NO_PAD.encode(&digest[..6]);
        let header = format!(r#"{{"alg":"HS256","typ":"at+jwt","kid":"{kid}"}}"#);
        let head = format!("{}.", URL_SAFE_NO_PAD.encode(header));
        Self { key, head }
    }

    /// Makes an access token. `now` is in seconds since 1970.
    ///
    /// # Panics
    ///
    /// Never: claims are plain values.
    #[must_use]
    pub fn sign(&self, principal: &Principal, now: u64) -> String {
        let claims = Claims {
            iss: ISSUER,
            aud: AUDIENCE,
            sub: principal.user,
            acc: principal.account.get(),
            sid: principal.session,
            iat: now,
            nbf: now,
            exp: now.saturating_add(ACCESS_SECONDS),
        };
        let claims = serde_json::to_vec(&claims).expect("claims are plain values");
        let mut token = self.head.clone();
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.key.clone().chain_update(token.as_bytes()).finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// Hashes something with the signing key, for a purpose that the label names.
    #[must_use]
    pub fn keyed_hash(&self, label: &str, parts: &[&[u8]]) -> [u8; 32] {
        self.keyed(label, parts).finalize().into_bytes().into()
    }

    /// Tells, in constant time, whether a hash is the one of [`Tokens::keyed_hash`].
    #[must_use]
    pub fn verify_keyed_hash(&self, label: &str, parts: &[&[u8]], hash: &[u8]) -> bool {
        self.keyed(label, parts).verify_slice(hash).is_ok()
    }

    fn keyed(&self, label: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
        // No token begins with a NUL, so no hash made here is a token's signature. Each part stands behind its length.
        let mut mac = self.key.clone().chain_update([0]).chain_update(label.as_bytes());
        for part in parts {
            mac = mac.chain_update((part.len() as u64).to_be_bytes()).chain_update(part);
        }
        mac
    }

    /// Checks an access token. `now` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`BadToken`], which says no more than a client may know.
    pub fn verify(&self, token: &str, now: u64) -> Result<Principal, BadToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadToken::Invalid);
        }
        let rest = token.strip_prefix(&self.head).ok_or(BadToken::Invalid)?;
        let (claims, signature) = rest.split_once('.').ok_or(BadToken::Invalid)?;
        let signed = &token.as_bytes()[..self.head.len() + claims.len()];
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| BadToken::Invalid)?;
        // Compares in constant time.
        let mac = self.key.clone().chain_update(signed);
        mac.verify_slice(&signature).map_err(|_| BadToken::Invalid)?;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| BadToken::Invalid)?;
        let claims: Claims<'_> = serde_json::from_slice(&claims).map_err(|_| BadToken::Invalid)?;
        let lifetime = claims.exp.checked_sub(claims.iat).ok_or(BadToken::Invalid)?;
        let begun = claims.iat.max(claims.nbf) <= now.saturating_add(LEEWAY_SECONDS);
        if claims.iss != ISSUER || claims.aud != AUDIENCE || lifetime > ACCESS_SECONDS || !begun {
            return Err(BadToken::Invalid);
        }
        if claims.exp.saturating_add(LEEWAY_SECONDS) <= now {
            return Err(BadToken::Expired);
        }
        let account = AccountId::new(claims.acc);
        Ok(Principal { user: claims.sub, account, session: claims.sid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000;

    fn tokens() -> Tokens {
        Tokens::new(&JwtSecret::new("0123456789abcdef0123456789abcdef").unwrap())
    }

    /// A token that was changed anywhere is none, whatever stands in it.
    #[test]
    fn fuzz_tokens() {
        let (tokens, whole) = (tokens(), tokens().sign(&principal(), NOW));
        let time = std::time::Duration::from_secs(2);
        type Damage = (Vec<(u16, u8)>, String);
        bolero::check!().with_test_time(time).with_type::<Damage>().for_each(|(changes, any)| {
            let mut bytes = whole.clone().into_bytes();
            for (at, byte) in changes {
                let length = bytes.len();
                bytes[usize::from(*at) % length] = *byte;
            }
            if let Ok(text) = String::from_utf8(bytes) {
                assert_eq!(tokens.verify(&text, NOW).is_ok(), text == whole, "{text}");
            }
            assert!(tokens.verify(any, NOW).is_err(), "{any}");
        });
    }

    fn principal() -> Principal {
        let account = AccountId::new(1_000);
        Principal { user: Uuid::from_u128(1), account, session: Uuid::from_u128(2) }
    }

    fn forge(tokens: &Tokens, header: &str, claims: &str) -> String {
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let mac = tokens.key.clone().chain_update(signed.as_bytes()).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
    }

    fn header(tokens: &Tokens) -> String {
        let head = tokens.head.trim_end_matches('.');
        String::from_utf8(URL_SAFE_NO_PAD.decode(head).unwrap()).unwrap()
    }

    #[test]
    fn a_token_names_its_user_for_five_minutes() {
        let tokens = tokens();
        let token = tokens.sign(&principal(), NOW);
        assert_eq!(tokens.verify(&token, NOW), Ok(principal()));
        assert_eq!(tokens.verify(&token, NOW + ACCESS_SECONDS), Ok(principal()));
        let late = NOW + ACCESS_SECONDS + LEEWAY_SECONDS;
        assert_eq!(tokens.verify(&token, late), Err(BadToken::Expired));
        assert_eq!(tokens.verify(&token, NOW - 60), Err(BadToken::Invalid));
    }

    #[test]
    fn another_key_another_token() {
        let other = Tokens::new(&JwtSecret::new("fedcba9876543210fedcba9876543210").unwrap());
        assert_eq!(tokens().verify(&other.sign(&principal(), NOW), NOW), Err(BadToken::Invalid));
    }

    #[test]
    fn no_header_but_ours_is_taken_even_with_a_right_signature() {
        let tokens = tokens();
        let token = tokens.sign(&principal(), NOW);
        let claims = token.split('.').nth(1).unwrap();
        let claims = String::from_utf8(URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(tokens.verify(&forge(&tokens, &header(&tokens), &claims), NOW), Ok(principal()));
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"None","typ":"JWT"}"#,
            r#"{"alg":"nOnE","typ":"at+jwt"}"#,
            r#"{"alg":"HS256","typ":"JWT"}"#,
            r#"{"alg":"HS256","typ":"rt+jwt"}"#,
            r#"{"alg":"RS256","typ":"at+jwt"}"#,
            r#"{"alg":"HS256","typ":"at+jwt","kid":"../../dev/null"}"#,
            r#"{"alg":"HS256","typ":"at+jwt","kid":"x' UNION SELECT 1"}"#,
            r#"{"alg":"HS256","typ":"at+jwt","jku":"http://evil.example/keys"}"#,
        ] {
            assert_eq!(
                tokens.verify(&forge(&tokens, header, &claims), NOW),
                Err(BadToken::Invalid),
                "{header}"
            );
        }
        let unsigned = token.rsplit_once('.').unwrap().0;
        assert_eq!(tokens.verify(&format!("{unsigned}."), NOW), Err(BadToken::Invalid));
        assert_eq!(tokens.verify(unsigned, NOW), Err(BadToken::Invalid));
    }

    #[test]
    fn odd_claims_are_refused() {
        let tokens = tokens();
        let header = header(&tokens);
        let (user, session) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let claims = |iss: &str, aud: &str, times: &str| {
            format!(
                r#"{{"iss":"{iss}","aud":"{aud}","sub":"{user}","acc":1000,"sid":"{session}",{times}}}"#
            )
        };
        let fine = format!(r#""iat":{NOW},"nbf":{NOW},"exp":{}"#, NOW + 300);
        let good = forge(&tokens, &header, &claims(ISSUER, AUDIENCE, &fine));
        assert_eq!(tokens.verify(&good, NOW), Ok(principal()));
        let future = NOW + 100;
        let odd = [
            claims("evil", AUDIENCE, &fine),
            claims(ISSUER, "other", &fine),
            claims(ISSUER, AUDIENCE, &format!(r#""iat":{NOW},"nbf":{NOW}"#)),
            claims(ISSUER, AUDIENCE, &format!(r#""iat":{NOW},"nbf":{NOW},"exp":"{NOW}""#)),
            claims(ISSUER, AUDIENCE, &format!(r#""iat":{NOW},"nbf":{NOW},"exp":1e20"#)),
            claims(ISSUER, AUDIENCE, &format!(r#""iat":{NOW},"nbf":{NOW},"exp":{}"#, NOW + 301)),
            claims(ISSUER, AUDIENCE, &format!(r#""iat":{future},"nbf":{NOW},"exp":{future}"#)),
            claims(ISSUER, AUDIENCE, &format!(r#""iat":{NOW},"nbf":{future},"exp":{future}"#)),
            claims(ISSUER, AUDIENCE, &format!(r#"{fine},"role":"admin""#)),
        ];
        for claims in odd {
            let token = forge(&tokens, &header, &claims);
            assert_eq!(tokens.verify(&token, NOW), Err(BadToken::Invalid), "{claims}");
        }
    }
}
