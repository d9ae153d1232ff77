//! The second factor: sealed secrets, backup codes, tries, and logins that wait for their second step.
//!
//! Invariant: a code is taken once. The step of the last one only rises, by compare-and-set, and a backup code is marked
//! by the statement that takes it: of two uses at once, one wins.

use std::time::Duration;

use uuid::Uuid;

use crate::credentials::{freeze_withdrawals, lock_user};
use crate::outbox::{self, NewMail};
use crate::sessions::{self, NewSession};
use crate::{Db, StoreError};

/// What is kept of a user's second factor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TwoFactor {
    /// The sealed secret that codes are checked with.
    pub secret: Option<Vec<u8>>,
    /// The step of the last code that was taken.
    pub last_step: i64,
    /// The sealed secret of an enrolment that waits for its first code.
    pub pending: Option<Vec<u8>>,
    /// Backup codes that have not been used.
    pub backup_codes_left: i64,
}

/// Returns what is kept of a user's second factor.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn of_user(db: &Db, user: Uuid) -> Result<TwoFactor, StoreError> {
    let client = db.get().await?;
    let row = client
        .query_opt(
            "SELECT secret, last_step, CASE WHEN pending_expires_at > clock_timestamp() THEN pending END, \
                    (SELECT count(*) FROM backup_codes WHERE user_id = $1 AND used_at IS NULL) \
               FROM two_factor WHERE user_id = $1",
            &[&user],
        )
        .await?;
    Ok(row.map_or_else(TwoFactor::default, |row| TwoFactor {
        secret: row.get(0),
        last_step: row.get(1),
        pending: row.get(2),
        backup_codes_left: row.get(3),
    }))
}

/// Begins an enrolment: the secret is used by nothing until it is confirmed. It takes the place of an earlier one.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn enrol(
    db: &Db,
    user: Uuid,
    secret: &[u8],
    lifetime: Duration,
) -> Result<(), StoreError> {
    let client = db.get().await?;
    client
        .execute(
            "INSERT INTO two_factor (user_id, pending, pending_expires_at) \
             VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3)) \
             ON CONFLICT (user_id) DO UPDATE SET pending = excluded.pending, \
                 pending_expires_at = excluded.pending_expires_at",
            &[&user, &secret, &lifetime.as_secs_f64()],
        )
        .await?;
    Ok(())
}

/// What goes with a change of the second factor.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    /// Whose.
    pub user: Uuid,
    /// How long withdrawals are frozen.
    pub freeze: Duration,
    /// The mail that tells the owner.
    pub mail: &'a NewMail,
}

/// Makes the secret that waits the one that codes are checked with, and sets the backup codes. `step` is that of the code
/// that confirmed it. Returns the other sessions, which ended: they were begun without it; `None` where another secret waits
/// by now.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn confirm(
    db: &Db,
    pending: &[u8],
    step: i64,
    backup_hashes: &[Vec<u8>],
    keep: Uuid,
    change: &Change<'_>,
) -> Result<Option<Vec<Uuid>>, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    lock_user(&transaction, change.user).await?;
    let confirmed = transaction
        .execute(
            "UPDATE two_factor SET secret = pending, confirmed_at = clock_timestamp(), last_step = $3, \
                    pending = NULL, pending_expires_at = NULL \
              WHERE user_id = $1 AND pending = $2 AND pending_expires_at > clock_timestamp()",
            &[&change.user, &pending, &step],
        )
        .await?;
    if confirmed == 0 {
        return Ok(None);
    }
    // A login that waits for its second step was begun when there was another one, or none.
    transaction.execute("DELETE FROM login_steps WHERE user_id = $1", &[&change.user]).await?;
    let ended = sessions::end_all(&transaction, change.user, Some(keep), "two_factor_on").await?;
    put_backup_codes(&transaction, change.user, backup_hashes).await?;
    freeze_withdrawals(&transaction, change.user, change.freeze).await?;
    outbox::put(&transaction, change.mail).await?;
    transaction.commit().await?;
    Ok(Some(ended))
}

async fn put_backup_codes(
    transaction: &tokio_postgres::Transaction<'_>,
    user: Uuid,
    hashes: &[Vec<u8>],
) -> Result<(), StoreError> {
    transaction.execute("DELETE FROM backup_codes WHERE user_id = $1", &[&user]).await?;
    transaction
        .execute(
            "INSERT INTO backup_codes (user_id, code_hash) SELECT $1, unnest($2::bytea[])",
            &[&user, &hashes],
        )
        .await?;
    Ok(())
}

/// Puts new backup codes in the place of the old ones.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn renew_backup_codes(
    db: &Db,
    hashes: &[Vec<u8>],
    change: &Change<'_>,
) -> Result<(), StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    lock_user(&transaction, change.user).await?;
    put_backup_codes(&transaction, change.user, hashes).await?;
    freeze_withdrawals(&transaction, change.user, change.freeze).await?;
    outbox::put(&transaction, change.mail).await?;
    transaction.commit().await?;
    Ok(())
}

/// Takes the second factor away, with its backup codes.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn disable(db: &Db, change: &Change<'_>) -> Result<(), StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    lock_user(&transaction, change.user).await?;
    for text in [
        "DELETE FROM two_factor WHERE user_id = $1",
        "DELETE FROM backup_codes WHERE user_id = $1",
        "DELETE FROM login_steps WHERE user_id = $1",
    ] {
        transaction.execute(text, &[&change.user]).await?;
    }
    freeze_withdrawals(&transaction, change.user, change.freeze).await?;
    outbox::put(&transaction, change.mail).await?;
    transaction.commit().await?;
    Ok(())
}

/// Takes a code's step, if it is after that of the last code and the secret is the one it was checked with. Returns whether
/// it did.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn use_step(db: &Db, user: Uuid, secret: &[u8], step: i64) -> Result<bool, StoreError> {
    let client = db.get().await?;
    let used = client
        .execute(
            "UPDATE two_factor SET last_step = $3 \
              WHERE user_id = $1 AND secret = $2 AND last_step < $3",
            &[&user, &secret, &step],
        )
        .await?;
    Ok(used == 1)
}

/// Takes a backup code, if it has not been used. Returns whether it did.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn use_backup_code(db: &Db, user: Uuid, code_hash: &[u8]) -> Result<bool, StoreError> {
    let client = db.get().await?;
    let used = client
        .execute(
            "UPDATE backup_codes SET used_at = clock_timestamp() \
              WHERE user_id = $1 AND code_hash = $2 AND used_at IS NULL",
            &[&user, &code_hash],
        )
        .await?;
    Ok(used == 1)
}

/// Counts a try before it is made. Returns how many that makes; `None` where it may not be made: at most so many within the
/// time, whatever comes at once.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn count_try(
    db: &Db,
    user: Uuid,
    known_device: bool,
    tries_max: i16,
    time: Duration,
) -> Result<Option<i16>, StoreError> {
    let client = db.get().await?;
    let counted = client
        .query_opt(
            "INSERT INTO second_factor_tries AS tries (user_id, known_device, count) VALUES ($1, $2, 1) \
             ON CONFLICT (user_id, known_device) DO UPDATE SET \
                 count = CASE WHEN tries.begun_at <= clock_timestamp() - make_interval(secs => $4) \
                         THEN 1 ELSE tries.count + 1 END, \
                 begun_at = CASE WHEN tries.begun_at <= clock_timestamp() - make_interval(secs => $4) \
                         THEN clock_timestamp() ELSE tries.begun_at END \
              WHERE tries.count < $3 OR tries.begun_at <= clock_timestamp() - make_interval(secs => $4) \
             RETURNING count",
            &[&user, &known_device, &tries_max, &time.as_secs_f64()],
        )
        .await?;
    Ok(counted.map(|row| row.get(0)))
}

/// Forgets the tries: one was right.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn forget_tries(db: &Db, user: Uuid, known_device: bool) -> Result<(), StoreError> {
    let client = db.get().await?;
    client
        .execute(
            "DELETE FROM second_factor_tries WHERE user_id = $1 AND known_device = $2",
            &[&user, &known_device],
        )
        .await?;
    Ok(())
}

/// Keeps that a login's password was right, until its second step. Returns whether it did: not where the password was
/// changed, or the user locked, after it was checked.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn begin_step(
    db: &Db,
    id: Uuid,
    user: Uuid,
    password_hash: &str,
    lifetime: Duration,
    attempts: i16,
) -> Result<bool, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let row = transaction
        .query_opt(
            "SELECT 1 FROM users WHERE id = $1 AND password_hash = $2 AND locked_at IS NULL FOR SHARE",
            &[&user, &password_hash],
        )
        .await?;
    if row.is_none() {
        return Ok(false);
    }
    transaction
        .execute(
            "DELETE FROM login_steps WHERE id IN ( \
                 SELECT id FROM login_steps WHERE expires_at <= clock_timestamp() \
                  LIMIT 100 FOR UPDATE SKIP LOCKED)",
            &[],
        )
        .await?;
    transaction
        .execute(
            "INSERT INTO login_steps (id, user_id, expires_at, attempts_left) \
             VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3), $4)",
            &[&id, &user, &lifetime.as_secs_f64(), &attempts],
        )
        .await?;
    transaction.commit().await?;
    Ok(true)
}

/// What became of a try at a login's second step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepTry {
    /// It was counted and may be made.
    Counted,
    /// The login has used up its tries.
    UsedUp,
    /// There is no such login any more.
    Unknown,
}

/// Counts a try at a login's second step before it is made.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn try_step(db: &Db, id: Uuid, user: Uuid) -> Result<StepTry, StoreError> {
    let client = db.get().await?;
    let counted = client
        .execute(
            "UPDATE login_steps SET attempts_left = attempts_left - 1 \
              WHERE id = $1 AND user_id = $2 AND attempts_left > 0 AND expires_at > clock_timestamp()",
            &[&id, &user],
        )
        .await?;
    if counted == 1 {
        return Ok(StepTry::Counted);
    }
    let row = client
        .query_opt(
            "SELECT 1 FROM login_steps \
              WHERE id = $1 AND user_id = $2 AND expires_at > clock_timestamp()",
            &[&id, &user],
        )
        .await?;
    Ok(if row.is_some() { StepTry::UsedUp } else { StepTry::Unknown })
}

/// Ends a login's second step with a session. Returns whether it did: not where the login is over, or was used before.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn finish_step(db: &Db, id: Uuid, session: &NewSession<'_>) -> Result<bool, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    // The lock makes a change of the password wait; one that came before has taken the step away.
    let user = transaction
        .query_opt(
            "SELECT 1 FROM users WHERE id = $1 AND locked_at IS NULL FOR SHARE",
            &[&session.user],
        )
        .await?;
    let step = transaction
        .execute("DELETE FROM login_steps WHERE id = $1 AND user_id = $2", &[&id, &session.user])
        .await?;
    if user.is_none() || step == 0 {
        return Ok(false);
    }
    sessions::insert(&transaction, session).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Returns some sealed secrets that do not begin with a key's id, for sealing them anew.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn sealed_otherwise(
    db: &Db,
    key_id: &[u8],
    after: Uuid,
    rows_max: i64,
) -> Result<Vec<(Uuid, Vec<u8>)>, StoreError> {
    let client = db.get().await?;
    let rows = client
        .query(
            "SELECT user_id, secret FROM two_factor \
              WHERE secret IS NOT NULL AND substring(secret FOR length($1::bytea)) <> $1::bytea AND user_id > $2 \
              ORDER BY user_id LIMIT $3",
            &[&key_id, &after, &rows_max],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Puts a secret that was sealed anew in the place of the old one, unless that has changed.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn reseal(db: &Db, user: Uuid, old: &[u8], new: &[u8]) -> Result<(), StoreError> {
    let client = db.get().await?;
    client
        .execute(
            "UPDATE two_factor SET secret = $3 WHERE user_id = $1 AND secret = $2",
            &[&user, &old, &new],
        )
        .await?;
    Ok(())
}
