//! Users, their credentials and verification codes.
//!
//! Invariant: one e-mail address, folded, is one user, whatever comes in parallel: the unique index decides.

use std::net::IpAddr;
use std::time::Duration;

use tokio_postgres::Row;
use units::AccountId;
use uuid::Uuid;

use crate::outbox::{self, NewMail};
use crate::{Db, StoreError};

/// A user as stored.
#[derive(Clone)]
pub struct User {
    /// The id.
    pub id: Uuid,
    /// The account in the journal.
    pub account: AccountId,
    /// The folded e-mail address.
    pub email: String,
    /// The password's hash, as a PHC string.
    pub password_hash: String,
    /// Goes into the hashes that the journal has of this user's references.
    pub reference_salt: Vec<u8>,
    /// Whether the e-mail address is verified.
    pub verified: bool,
    /// Whether the user is locked out.
    pub locked: bool,
    /// When the user registered, in microseconds since 1970.
    pub created_at_micros: i64,
    /// What others may call the user.
    pub display_name: String,
    /// Whether a second factor is asked for.
    pub two_factor: bool,
    /// Until when withdrawals are frozen, in microseconds since 1970.
    pub withdrawals_frozen_until_micros: Option<i64>,
    /// When the password was changed last, in microseconds since 1970.
    pub password_changed_at_micros: Option<i64>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("id", &self.id).finish_non_exhaustive()
    }
}

/// How many columns [`user`] reads.
const USER_COLUMNS: usize = 12;

/// A statement that ends in, or is about, the columns that [`user`] reads.
macro_rules! of_user {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " id, account_id, email, password_hash, reference_salt, verified_at IS NOT NULL, ",
            "locked_at IS NOT NULL, (extract(epoch FROM created_at) * 1000000)::bigint, display_name, ",
            "EXISTS (SELECT FROM two_factor WHERE user_id = users.id AND secret IS NOT NULL), ",
            "(extract(epoch FROM withdrawals_frozen_until) * 1000000)::bigint, ",
            "(extract(epoch FROM password_changed_at) * 1000000)::bigint ",
            $after
        )
    };
}

pub(crate) fn user(row: &Row) -> Result<User, StoreError> {
    let account: i64 = row.get(1);
    let account = u64::try_from(account)
        .map_err(|_| StoreError::Corrupt(format!("the account id {account} is negative")))?;
    Ok(User {
        id: row.get(0),
        account: AccountId::new(account),
        email: row.get(2),
        password_hash: row.get(3),
        reference_salt: row.get(4),
        verified: row.get(5),
        locked: row.get(6),
        created_at_micros: row.get(7),
        display_name: row.get(8),
        two_factor: row.get(9),
        withdrawals_frozen_until_micros: row.get(10),
        password_changed_at_micros: row.get(11),
    })
}

/// What it takes to make a user.
#[derive(Clone, Copy)]
pub struct NewUser<'a> {
    /// The id.
    pub id: Uuid,
    /// The folded e-mail address.
    pub email: &'a str,
    /// The password's hash, as a PHC string.
    pub password_hash: &'a str,
    /// 16 random bytes.
    pub reference_salt: &'a [u8],
    /// The hash of the first verification code.
    pub code_hash: &'a [u8],
    /// How long the code is good.
    pub code_lifetime: Duration,
    /// How often it may be tried.
    pub code_attempts: i16,
    /// The mail that brings it.
    pub mail: &'a NewMail,
}

/// Makes an unverified user with a first verification code.
///
/// # Errors
///
/// [`StoreError::Unique`] when the e-mail address is taken.
pub async fn register(db: &Db, new: &NewUser<'_>) -> Result<User, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let row = transaction
        .query_one(
            of_user!(
                "INSERT INTO users (id, email, password_hash, reference_salt) VALUES ($1, $2, $3, $4) RETURNING",
                ""
            ),
            &[&new.id, &new.email, &new.password_hash, &new.reference_salt],
        )
        .await?;
    transaction
        .execute(
            "INSERT INTO verification_codes (user_id, code_hash, expires_at, attempts_left) \
             VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3), $4)",
            &[&new.id, &new.code_hash, &new.code_lifetime.as_secs_f64(), &new.code_attempts],
        )
        .await?;
    outbox::put(&transaction, new.mail).await?;
    transaction.commit().await?;
    user(&row)
}

/// Finds a user by the folded e-mail address.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn by_email(db: &Db, email: &str) -> Result<Option<User>, StoreError> {
    let client = db.get().await?;
    let text = client.prepare_cached(of_user!("SELECT", "FROM users WHERE email = $1")).await?;
    client.query_opt(&text, &[&email]).await?.as_ref().map(user).transpose()
}

/// Finds a user by id.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn by_id(db: &Db, id: Uuid) -> Result<Option<User>, StoreError> {
    let client = db.get().await?;
    let text = client.prepare_cached(of_user!("SELECT", "FROM users WHERE id = $1")).await?;
    client.query_opt(&text, &[&id]).await?.as_ref().map(user).transpose()
}

/// Finds a user by the folded e-mail address for a login from an address, and whether the user has logged in from there
/// within 90 days.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn for_login(
    db: &Db,
    email: &str,
    address: IpAddr,
) -> Result<(Option<User>, bool), StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(of_user!(
            "SELECT",
            ", EXISTS (SELECT FROM sessions WHERE user_id = users.id AND address = $2 \
               AND revoked_reason IS DISTINCT FROM 'reused' AND created_at > clock_timestamp() - interval '90 days') \
             FROM users WHERE email = $1"
        ))
        .await?;
    let row = client.query_opt(&text, &[&email, &address]).await?;
    let known = row.as_ref().is_some_and(|row| row.get(USER_COLUMNS));
    Ok((row.as_ref().map(user).transpose()?, known))
}

/// Puts a stronger hash of the same password in the place of the old one, unless that has changed meanwhile.
///
/// Returns whether it did.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn rehash(db: &Db, id: Uuid, old: &str, new: &str) -> Result<bool, StoreError> {
    let client = db.get().await?;
    let changed = client
        .execute(
            "UPDATE users SET password_hash = $3 WHERE id = $1 AND password_hash = $2",
            &[&id, &old, &new],
        )
        .await?;
    Ok(changed == 1)
}

/// Sets what others may call a user.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn set_display_name(db: &Db, id: Uuid, name: &str) -> Result<(), StoreError> {
    let client = db.get().await?;
    client
        .execute(
            "UPDATE users SET display_name = $2 WHERE id = $1 AND closed_at IS NULL",
            &[&id, &name],
        )
        .await?;
    Ok(())
}

/// A verification code that takes the place of the one before.
#[derive(Clone, Copy)]
pub struct NewCode<'a> {
    /// Its hash.
    pub hash: &'a [u8],
    /// How long it is good.
    pub lifetime: Duration,
    /// How often it may be tried.
    pub attempts: i16,
    /// How long the one before must have been sent.
    pub pause: Duration,
    /// The mail that brings it.
    pub mail: &'a NewMail,
}

/// Puts a new verification code in the place of the old one, unless that was sent within the pause.
///
/// Returns whether it did.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn renew_code(db: &Db, id: Uuid, code: &NewCode<'_>) -> Result<bool, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let renewed = transaction
        .execute(
            "INSERT INTO verification_codes AS code (user_id, code_hash, expires_at, attempts_left) \
             SELECT id, $2, clock_timestamp() + make_interval(secs => $3), $4 FROM users \
              WHERE id = $1 AND verified_at IS NULL \
             ON CONFLICT (user_id) DO UPDATE SET code_hash = excluded.code_hash, \
                 expires_at = excluded.expires_at, attempts_left = excluded.attempts_left, \
                 sent_at = clock_timestamp() \
              WHERE code.sent_at <= clock_timestamp() - make_interval(secs => $5)",
            &[
                &id,
                &code.hash,
                &code.lifetime.as_secs_f64(),
                &code.attempts,
                &code.pause.as_secs_f64(),
            ],
        )
        .await?;
    if renewed == 1 {
        outbox::put(&transaction, code.mail).await?;
    }
    transaction.commit().await?;
    Ok(renewed == 1)
}

/// What became of a verification code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// It was right: the address is verified now.
    Now,
    /// Wrong, expired, used, or tried too often.
    Refused,
}

/// Tries a verification code: one attempt less, and if it is right the user is verified, in one transaction.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn verify(db: &Db, id: Uuid, code_hash: &[u8]) -> Result<Verified, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    // Counting the attempt locks the row, so parallel guesses are counted one by one.
    let row = transaction
        .query_opt(
            "UPDATE verification_codes SET attempts_left = attempts_left - 1 \
              WHERE user_id = $1 AND attempts_left > 0 AND expires_at > clock_timestamp() \
             RETURNING code_hash = $2",
            &[&id, &code_hash],
        )
        .await?;
    let right = row.is_some_and(|row| row.get(0));
    if right {
        transaction.execute("DELETE FROM verification_codes WHERE user_id = $1", &[&id]).await?;
        transaction
            .execute(
                "UPDATE users SET verified_at = clock_timestamp() \
                  WHERE id = $1 AND verified_at IS NULL",
                &[&id],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok(if right { Verified::Now } else { Verified::Refused })
}

/// Makes a verified user, for demonstrations and tests; an address that is taken is left as it is.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn ensure_verified(
    db: &Db,
    id: Uuid,
    email: &str,
    password_hash: &str,
    reference_salt: &[u8],
) -> Result<User, StoreError> {
    let client = db.get().await?;
    client
        .execute(
            "INSERT INTO users (id, email, password_hash, reference_salt, verified_at) \
             VALUES ($1, $2, $3, $4, clock_timestamp()) ON CONFLICT (email) DO NOTHING",
            &[&id, &email, &password_hash, &reference_salt],
        )
        .await?;
    drop(client);
    let found = by_email(db, email).await?;
    found.ok_or_else(|| StoreError::Corrupt("a user that was just made is not there".to_owned()))
}

/// Keeps where a withdrawal goes; the same again changes nothing.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn keep_destination(
    db: &Db,
    withdrawal: Uuid,
    user: Uuid,
    destination: &str,
) -> Result<(), StoreError> {
    let client = db.get().await?;
    client
        .execute(
            "INSERT INTO withdrawal_destinations (withdrawal_id, user_id, destination) \
             VALUES ($1, $2, $3) ON CONFLICT (withdrawal_id) DO NOTHING",
            &[&withdrawal, &user, &destination],
        )
        .await?;
    Ok(())
}

/// Returns where withdrawals of a user go, in the order asked for; `None` where it is not known (any more).
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn destinations(
    db: &Db,
    user: Uuid,
    withdrawals: &[Uuid],
) -> Result<Vec<Option<String>>, StoreError> {
    let client = db.get().await?;
    let rows = client
        .query(
            "SELECT kept.destination FROM unnest($2::uuid[]) WITH ORDINALITY AS asked (id, place) \
             LEFT JOIN withdrawal_destinations kept ON kept.withdrawal_id = asked.id AND kept.user_id = $1 \
             ORDER BY asked.place",
            &[&user, &withdrawals],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}
