//! Checks codes of the second factor: those of an authenticator, and backup codes.
//!
//! Invariant: a try is counted before it is made, and a code that was right is taken by the statement that says so.

use std::time::Duration;

use sha2::{Digest, Sha256};
use store::StoreError;
use store::audit::Level;
use store::two_factor;
use store::users::User;
use uuid::Uuid;

use super::{audit, origin, totp};
use crate::app::App;
use crate::edge::Context;
use crate::mail::letter::Letter;
use crate::problem::{Code, Problem, chain};

/// What seals in the vault are for.
pub(super) const PURPOSE: &str = "two factor";
/// Tries in [`TRIES_PERIOD`]: five of three codes in a million that are right at any time.
const TRIES_MAX: i16 = 5;
const TRIES_PERIOD: Duration = Duration::from_secs(15 * 60);
/// 80 random bits, so that a plain hash cannot be turned round.
const BACKUP_BYTES: usize = 10;
pub(super) const BACKUP_CODES: usize = 10;
const BACKUP_CHARACTERS: usize = 16;

/// A code as somebody has typed it.
enum Typed {
    Totp(String),
    Backup(String),
}

fn read(text: &str) -> Result<Typed, Problem> {
    let plain: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).take(64).collect();
    if plain.len() == 6 && plain.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Typed::Totp(plain));
    }
    if plain.len() == BACKUP_CHARACTERS && plain.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Ok(Typed::Backup(plain.to_ascii_lowercase()));
    }
    Err(Problem::value("code", "code_malformed", "must be six digits, or a backup code"))
}

/// Refuses what is no code, before it counts as a try.
pub(super) fn check_form(text: &str) -> Result<(), Problem> {
    read(text).map(|_| ())
}

/// Checks a code of a user and takes it. `known` says whether it comes from where the owner is known to be.
///
/// # Errors
///
/// 401 where it is wrong or was used, 429 after too many tries.
pub(super) async fn check(
    app: &App,
    context: &Context,
    user: &User,
    code: Option<&str>,
    known: bool,
) -> Result<(), Problem> {
    let code = code.ok_or(Problem::new(Code::SecondFactorRequired))?;
    let typed = read(code)?;
    let unavailable = |error: StoreError| Problem::unavailable("cannot check a code", &error);
    let counted = two_factor::count_try(&app.db, user.id, known, TRIES_MAX, TRIES_PERIOD).await;
    let Some(count) = counted.map_err(unavailable)? else {
        let seconds = u32::try_from(TRIES_PERIOD.as_secs()).unwrap_or(u32::MAX);
        return Err(Problem::new(Code::TooManyAttempts).retry_after(seconds));
    };
    if take(app, user.id, &typed).await? {
        two_factor::forget_tries(&app.db, user.id, known).await.map_err(unavailable)?;
        return Ok(());
    }
    audit(app, context, Level::Warn, "auth.second_factor_failed", Some(user.id));
    if count >= TRIES_MAX {
        warn(app, context, user).await;
    }
    Err(Problem::new(Code::SecondFactorInvalid))
}

async fn take(app: &App, user: Uuid, typed: &Typed) -> Result<bool, Problem> {
    let unavailable = |error: StoreError| Problem::unavailable("cannot check a code", &error);
    match typed {
        Typed::Backup(code) => {
            let hash = backup_hash(user, code);
            two_factor::use_backup_code(&app.db, user, &hash).await.map_err(unavailable)
        }
        Typed::Totp(code) => {
            let kept = two_factor::of_user(&app.db, user).await.map_err(unavailable)?;
            let Some(sealed) = kept.secret else { return Ok(false) };
            let secret = open(app, user, &sealed)?;
            let step = totp::matching(&secret, code, app.now_seconds(), kept.last_step);
            let Some(step) = step else { return Ok(false) };
            two_factor::use_step(&app.db, user, &sealed, step).await.map_err(unavailable)
        }
    }
}

/// Opens a sealed secret. One that no key of ours opens is a fault of the configuration: nobody gets in by it.
pub(super) fn open(app: &App, user: Uuid, sealed: &[u8]) -> Result<Vec<u8>, Problem> {
    app.vault.open(PURPOSE, user, sealed).ok_or_else(|| {
        tracing::error!(%user, "a second factor was sealed with a key that is not configured");
        Problem::new(Code::Unavailable)
    })
}

/// Tells the owner that somebody who knows the password guesses codes.
async fn warn(app: &App, context: &Context, user: &User) {
    let mail = Letter::codes_guessed(&origin(context)).seal(app, &user.email);
    match store::outbox::enqueue(&app.db, &mail).await {
        Ok(()) => app.delivery.wake(),
        Err(error) => tracing::error!(error = %chain(&error), "a warning could not be written"),
    }
}

/// Makes backup codes, as they are shown, with the hashes that are kept.
pub(super) fn new_backup_codes(user: Uuid) -> (Vec<String>, Vec<Vec<u8>>) {
    let one = |_| {
        let plain = totp::base32(&rand::random::<[u8; BACKUP_BYTES]>()).to_lowercase();
        let hash = backup_hash(user, &plain);
        let groups: Vec<&str> =
            (0..BACKUP_CHARACTERS).step_by(4).map(|at| &plain[at..at + 4]).collect();
        (groups.join("-"), hash)
    };
    (0..BACKUP_CODES).map(one).unzip()
}

fn backup_hash(user: Uuid, plain: &str) -> Vec<u8> {
    let hash = Sha256::new()
        .chain_update(b"krystalinex backup code\0")
        .chain_update(user.as_bytes())
        .chain_update(plain);
    hash.finalize().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_as_people_type_them() {
        let kind = |text: &str| match read(text) {
            Ok(Typed::Totp(code)) => format!("totp {code}"),
            Ok(Typed::Backup(code)) => format!("backup {code}"),
            Err(problem) => problem.code().name().to_owned(),
        };
        assert_eq!(kind("123 456"), "totp 123456");
        assert_eq!(kind("ABCD-efgh-2345-mnop"), "backup abcdefgh2345mnop");
        for text in ["", "12345", "1234567", "１２３４５６", "12345\0", "abcd-efgh-2345-mno"]
        {
            assert_eq!(kind(text), "value_invalid", "{text:?}");
        }
    }

    #[test]
    fn backup_codes_differ_and_their_hashes_are_of_their_user() {
        let (ann, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (codes, hashes) = new_backup_codes(ann);
        assert_eq!((codes.len(), hashes.len()), (BACKUP_CODES, BACKUP_CODES));
        let distinct: std::collections::HashSet<_> = codes.iter().collect();
        assert_eq!(distinct.len(), BACKUP_CODES);
        let Ok(Typed::Backup(plain)) = read(&codes[0].to_uppercase()) else {
            panic!("a backup code is read as one: {}", codes[0]);
        };
        assert_eq!(backup_hash(ann, &plain), hashes[0]);
        assert_ne!(backup_hash(bob, &plain), hashes[0]);
    }
}
