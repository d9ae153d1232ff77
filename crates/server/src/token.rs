//! Tokens: JWT, HS256 and nothing else.
//!
//! Invariant: a token is taken only if its header is, byte for byte, one that is written here for its kind. So no
//! algorithm, key or URL that a token names is ever looked at, and an unknown key id is an unknown token.

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

/// What a token is for. One of a kind is never taken for another: the kind stands in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes into `Authorization`.
    Access,
    /// Stands for a login whose password was right.
    SecondStep,
    /// Stands for a device that its owner has logged in from.
    Device,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Access, Self::SecondStep, Self::Device];

    fn name(self) -> &'static str {
        match self {
            Self::Access => "at+jwt",
            Self::SecondStep => "step+jwt",
            Self::Device => "device+jwt",
        }
    }

    /// Returns how long a token of this kind is good, in seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        match self {
            Self::Access => ACCESS_SECONDS,
            Self::SecondStep => 300,
            Self::Device => 180 * 24 * 60 * 60,
        }
    }
}

/// Signs tokens with the newest key, and checks them with that and the one before.
pub struct Tokens {
    /// The newest first.
    keys: Vec<Key>,
}

struct Key {
    mac: Hmac<Sha256>,
    /// `base64url(header).` of each kind: the only headers that there are.
    heads: [String; Kind::ALL.len()],
}

impl Key {
    fn new(secret: &JwtSecret) -> Self {
        let mac = Hmac::new_from_slice(secret.bytes()).expect("HMAC takes keys of any length");
        // The id tells two keys apart without saying anything about either.
        let digest = Sha256::new().chain_update(b"kid").chain_update(secret.bytes()).finalize();
        let kid = URL_SAFE_NO_PAD.encode(&digest[..6]);
        let heads = Kind::ALL.map(|kind| {
            let header = format!(r#"{{"alg":"HS256","typ":"{}","kid":"{kid}"}}"#, kind.name());
            format!("{}.", URL_SAFE_NO_PAD.encode(header))
        });
        Self { mac, heads }
    }

    fn head(&self, kind: Kind) -> &str {
        &self.heads[kind as usize]
    }

    fn keyed(&self, label: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
        // No token begins with a NUL, so no hash made here is a token's signature. Each part stands behind its length.
        let mut mac = self.mac.clone().chain_update([0]).chain_update(label.as_bytes());
        for part in parts {
            mac = mac.chain_update((part.len() as u64).to_be_bytes()).chain_update(part);
        }
        mac
    }
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

/// What stands in a token that is no access token: whose it is, and which one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    /// The user.
    pub user: Uuid,
    /// The login, or the device.
    pub id: Uuid,
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

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PassClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: Uuid,
    jti: Uuid,
    iat: u64,
    nbf: u64,
    exp: u64,
}

/// The claims that every kind has.
struct Common<'a> {
    iss: &'a str,
    aud: &'a str,
    iat: u64,
    nbf: u64,
    exp: u64,
}

impl Tokens {
    /// Makes a signer from the configured key.
    #[must_use]
    pub fn new(secret: &JwtSecret) -> Self {
        Self::with_previous(secret, None)
    }

    /// Makes a signer that still takes what the key before has signed.
    #[must_use]
    pub fn with_previous(secret: &JwtSecret, previous: Option<&JwtSecret>) -> Self {
        Self { keys: std::iter::once(secret).chain(previous).map(Key::new).collect() }
    }

    /// Makes an access token. `now` is in seconds since 1970.
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
        self.sign_claims(Kind::Access, &claims)
    }

    /// Makes a token of another kind. `now` is in seconds since 1970.
    #[must_use]
    pub fn sign_pass(&self, kind: Kind, pass: &Pass, now: u64) -> String {
        let claims = PassClaims {
            iss: ISSUER,
            aud: AUDIENCE,
            sub: pass.user,
            jti: pass.id,
            iat: now,
            nbf: now,
            exp: now.saturating_add(kind.seconds()),
        };
        self.sign_claims(kind, &claims)
    }

    fn sign_claims(&self, kind: Kind, claims: &impl Serialize) -> String {
        let key = &self.keys[0];
        let claims = serde_json::to_vec(claims).expect("claims are plain values");
        let mut token = key.head(kind).to_owned();
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = key.mac.clone().chain_update(token.as_bytes()).finalize().into_bytes();
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// Hashes something with the signing key, for a purpose that the label names.
    #[must_use]
    pub fn keyed_hash(&self, label: &str, parts: &[&[u8]]) -> [u8; 32] {
        self.keys[0].keyed(label, parts).finalize().into_bytes().into()
    }

    /// Tells, in constant time, whether a hash is the one of [`Tokens::keyed_hash`], with this key or the one before.
    #[must_use]
    pub fn verify_keyed_hash(&self, label: &str, parts: &[&[u8]], hash: &[u8]) -> bool {
        self.keys.iter().any(|key| key.keyed(label, parts).verify_slice(hash).is_ok())
    }

    /// Checks an access token. `now` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`BadToken`], which says no more than a client may know.
    pub fn verify(&self, token: &str, now: u64) -> Result<Principal, BadToken> {
        let bytes = self.signed_claims(Kind::Access, token)?;
        let claims: Claims<'_> = serde_json::from_slice(&bytes).map_err(|_| BadToken::Invalid)?;
        let Claims { iss, aud, iat, nbf, exp, .. } = claims;
        check(Kind::Access, &Common { iss, aud, iat, nbf, exp }, now)?;
        let account = AccountId::new(claims.acc);
        Ok(Principal { user: claims.sub, account, session: claims.sid })
    }

    /// Checks a token of another kind. `now` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// [`BadToken`], which says no more than a client may know.
    pub fn verify_pass(&self, kind: Kind, token: &str, now: u64) -> Result<Pass, BadToken> {
        let bytes = self.signed_claims(kind, token)?;
        let claims: PassClaims<'_> =
            serde_json::from_slice(&bytes).map_err(|_| BadToken::Invalid)?;
        let PassClaims { iss, aud, iat, nbf, exp, .. } = claims;
        check(kind, &Common { iss, aud, iat, nbf, exp }, now)?;
        Ok(Pass { user: claims.sub, id: claims.jti })
    }

    /// Returns the claims of a token whose header and signature are ours.
    fn signed_claims(&self, kind: Kind, token: &str) -> Result<Vec<u8>, BadToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadToken::Invalid);
        }
        let with_head = |key: &'_ Key| token.starts_with(key.head(kind));
        let key = self.keys.iter().find(|key| with_head(key)).ok_or(BadToken::Invalid)?;
        let rest = &token[key.head(kind).len()..];
        let (claims, signature) = rest.split_once('.').ok_or(BadToken::Invalid)?;
        let signed = &token.as_bytes()[..key.head(kind).len() + claims.len()];
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| BadToken::Invalid)?;
        // Compares in constant time.
        let mac = key.mac.clone().chain_update(signed);
        mac.verify_slice(&signature).map_err(|_| BadToken::Invalid)?;
        URL_SAFE_NO_PAD.decode(claims).map_err(|_| BadToken::Invalid)
    }
}

/// Checks whom a token is from and for, and its times.
fn check(kind: Kind, claims: &Common<'_>, now: u64) -> Result<(), BadToken> {
    let lifetime = claims.exp.checked_sub(claims.iat).ok_or(BadToken::Invalid)?;
    let begun = claims.iat.max(claims.nbf) <= now.saturating_add(LEEWAY_SECONDS);
    if claims.iss != ISSUER || claims.aud != AUDIENCE || lifetime > kind.seconds() || !begun {
        return Err(BadToken::Invalid);
    }
    if claims.exp.saturating_add(LEEWAY_SECONDS) <= now {
        return Err(BadToken::Expired);
    }
    Ok(())
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
        let mac =
            tokens.keys[0].mac.clone().chain_update(signed.as_bytes()).finalize().into_bytes();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
    }

    fn header(tokens: &Tokens) -> String {
        let head = tokens.keys[0].head(Kind::Access).trim_end_matches('.');
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
    fn the_key_before_is_taken_and_the_one_before_that_is_not() {
        let key = |text: &str| JwtSecret::new(text).unwrap();
        let first = key("0123456789abcdef0123456789abcdef");
        let second = key("fedcba9876543210fedcba9876543210");
        let third = key("00112233445566778899aabbccddeeff");
        let old = Tokens::new(&first);
        let token = old.sign(&principal(), NOW);
        let hash = old.keyed_hash("label", &[b"part"]);
        let rotated = Tokens::with_previous(&second, Some(&first));
        assert_eq!(rotated.verify(&token, NOW), Ok(principal()));
        assert!(rotated.verify_keyed_hash("label", &[b"part"], &hash));
        assert_ne!(rotated.sign(&principal(), NOW), token, "the newest key signs");
        let again = Tokens::with_previous(&third, Some(&second));
        assert_eq!(again.verify(&token, NOW), Err(BadToken::Invalid));
        assert!(!again.verify_keyed_hash("label", &[b"part"], &hash));
        let moved = rotated.sign(&principal(), NOW);
        assert_eq!(again.verify(&moved, NOW), Ok(principal()));
        // The head of one key with the signature of the other.
        let mixed =
            format!("{}.{}", token.rsplit_once('.').unwrap().0, moved.rsplit_once('.').unwrap().1);
        assert_eq!(rotated.verify(&mixed, NOW), Err(BadToken::Invalid));
    }

    #[test]
    fn a_token_of_one_kind_is_none_of_another() {
        let tokens = tokens();
        let pass = Pass { user: Uuid::from_u128(1), id: Uuid::from_u128(2) };
        let step = tokens.sign_pass(Kind::SecondStep, &pass, NOW);
        let device = tokens.sign_pass(Kind::Device, &pass, NOW);
        let access = tokens.sign(&principal(), NOW);
        assert_eq!(tokens.verify_pass(Kind::SecondStep, &step, NOW), Ok(pass));
        assert_eq!(tokens.verify_pass(Kind::Device, &device, NOW), Ok(pass));
        for other in [&step, &device] {
            assert_eq!(tokens.verify(other, NOW), Err(BadToken::Invalid));
        }
        for (kind, other) in [
            (Kind::SecondStep, &device),
            (Kind::SecondStep, &access),
            (Kind::Device, &step),
            (Kind::Device, &access),
        ] {
            assert_eq!(tokens.verify_pass(kind, other, NOW), Err(BadToken::Invalid));
        }
        let late = NOW + Kind::SecondStep.seconds() + LEEWAY_SECONDS;
        assert_eq!(tokens.verify_pass(Kind::SecondStep, &step, late), Err(BadToken::Expired));
        assert_eq!(tokens.verify_pass(Kind::Device, &device, late), Ok(pass));
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
