//! Changes of what somebody gets in with: passwords, the e-mail address, and the end of an account.
//!
//! Invariant: a change of security settings ends the other ways in, freezes withdrawals and writes its mail in one
//! transaction: no one of these happens without the others.

use std::time::Duration;

use tokio_postgres::Transaction;
use uuid::Uuid;

use crate::outbox::{self, NewMail};
use crate::{Db, StoreError, keys, sessions};

/// Freezes a user's withdrawals from now on for a while; a longer freeze stays. Every change of security settings calls this.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn freeze_withdrawals(
    transaction: &Transaction<'_>,
    user: Uuid,
    time: Duration,
) -> Result<(), StoreError> {
    transaction
        .execute(
            "UPDATE users SET withdrawals_frozen_until = \
                 greatest(withdrawals_frozen_until, clock_timestamp() + make_interval(secs => $2)) \
              WHERE id = $1",
            &[&user, &time.as_secs_f64()],
        )
        .await?;
    Ok(())
}

/// Locks a user's row. What changes more than one of a user's rows does this first, so that two such changes wait for each
/// other and never in a ring.
pub(crate) async fn lock_user(transaction: &Transaction<'_>, user: Uuid) -> Result<(), StoreError> {
    transaction.execute("SELECT FROM users WHERE id = $1 FOR UPDATE", &[&user]).await?;
    Ok(())
}

/// Takes away what somebody could still get in with: links, second steps, codes that wait, API keys and sessions.
pub(crate) async fn end_ways_in(
    transaction: &Transaction<'_>,
    user: Uuid,
    keep: Option<Uuid>,
    reason: &str,
) -> Result<Vec<Uuid>, StoreError> {
    for text in [
        "DELETE FROM password_resets WHERE user_id = $1",
        "DELETE FROM login_steps WHERE user_id = $1",
        "DELETE FROM email_changes WHERE user_id = $1",
    ] {
        transaction.execute(text, &[&user]).await?;
    }
    keys::revoke_all(transaction, user, reason).await?;
    sessions::end_all(transaction, user, keep, reason).await
}

/// A new password.
#[derive(Clone, Copy)]
pub struct NewPassword<'a> {
    /// Whose.
    pub user: Uuid,
    /// Its hash, as a PHC string.
    pub hash: &'a str,
    /// How long withdrawals are frozen.
    pub freeze: Duration,
    /// The mail that tells the owner.
    pub mail: &'a NewMail,
}

/// Changes a password, unless it is not the one any more that was checked. Returns the sessions that ended, all of them.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn change_password(
    db: &Db,
    old_hash: &str,
    new: &NewPassword<'_>,
) -> Result<Option<Vec<Uuid>>, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let changed = transaction
        .execute(
            "UPDATE users SET password_hash = $3, password_changed_at = clock_timestamp() \
              WHERE id = $1 AND password_hash = $2 AND locked_at IS NULL",
            &[&new.user, &old_hash, &new.hash],
        )
        .await?;
    if changed == 0 {
        return Ok(None);
    }
    let ended = end_ways_in(&transaction, new.user, None, "password_changed").await?;
    freeze_withdrawals(&transaction, new.user, new.freeze).await?;
    outbox::put(&transaction, new.mail).await?;
    transaction.commit().await?;
    Ok(Some(ended))
}

/// A link that sets a new password.
#[derive(Clone, Copy)]
pub struct NewReset<'a> {
    /// Whose password.
    pub user: Uuid,
    /// The hash of the token.
    pub token_hash: &'a [u8],
    /// How long it is good.
    pub lifetime: Duration,
    /// How long the one before must have been sent.
    pub pause: Duration,
    /// How many may be good at once.
    pub tokens_max: i64,
    /// The mail that brings it.
    pub mail: &'a NewMail,
}

/// Makes a reset token, unless one was sent within the pause, too many are good, or there is no such user.
///
/// Returns whether it did.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn begin_reset(db: &Db, new: &NewReset<'_>) -> Result<bool, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    // The lock lets requests that come at once see each other's tokens.
    transaction.execute("SELECT FROM users WHERE id = $1 FOR NO KEY UPDATE", &[&new.user]).await?;
    transaction
        .execute(
            "DELETE FROM password_resets WHERE user_id = $1 AND expires_at <= clock_timestamp()",
            &[&new.user],
        )
        .await?;
    let made = transaction
        .execute(
            "INSERT INTO password_resets (token_hash, user_id, expires_at) \
             SELECT $2, id, clock_timestamp() + make_interval(secs => $3) FROM users \
              WHERE id = $1 AND locked_at IS NULL \
                AND NOT EXISTS (SELECT FROM password_resets WHERE user_id = $1 \
                     AND sent_at > clock_timestamp() - make_interval(secs => $4)) \
                AND (SELECT count(*) FROM password_resets WHERE user_id = $1) < $5",
            &[
                &new.user,
                &new.token_hash,
                &new.lifetime.as_secs_f64(),
                &new.pause.as_secs_f64(),
                &new.tokens_max,
            ],
        )
        .await?;
    if made == 1 {
        outbox::put(&transaction, new.mail).await?;
    }
    transaction.commit().await?;
    Ok(made == 1)
}

/// Returns whose password a token resets; the token stays good.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn reset_owner(db: &Db, token_hash: &[u8]) -> Result<Option<Uuid>, StoreError> {
    let client = db.get().await?;
    let row = client
        .query_opt(
            "SELECT user_id FROM password_resets \
              WHERE token_hash = $1 AND expires_at > clock_timestamp()",
            &[&token_hash],
        )
        .await?;
    Ok(row.map(|row| row.get(0)))
}

/// Uses a reset token: the password is set, the e-mail address counts as verified, and every session ends. Returns the
/// sessions that ended; `None` where the token is not good any more.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn reset_password(
    db: &Db,
    token_hash: &[u8],
    new: &NewPassword<'_>,
) -> Result<Option<Vec<Uuid>>, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    lock_user(&transaction, new.user).await?;
    // Deleting it is using it: of two at once, one finds it gone.
    let used = transaction
        .execute(
            "DELETE FROM password_resets \
              WHERE token_hash = $1 AND user_id = $2 AND expires_at > clock_timestamp()",
            &[&token_hash, &new.user],
        )
        .await?;
    let changed = transaction
        .execute(
            "UPDATE users SET password_hash = $2, password_changed_at = clock_timestamp(), \
                    verified_at = coalesce(verified_at, clock_timestamp()) \
              WHERE id = $1 AND locked_at IS NULL",
            &[&new.user, &new.hash],
        )
        .await?;
    if used == 0 || changed == 0 {
        return Ok(None);
    }
    let ended = end_ways_in(&transaction, new.user, None, "password_reset").await?;
    freeze_withdrawals(&transaction, new.user, new.freeze).await?;
    outbox::put(&transaction, new.mail).await?;
    transaction.commit().await?;
    Ok(Some(ended))
}

/// A new e-mail address that is to be confirmed.
#[derive(Clone, Copy)]
pub struct NewEmail<'a> {
    /// Whose.
    pub user: Uuid,
    /// The folded address.
    pub email: &'a str,
    /// The hash of the code.
    pub code_hash: &'a [u8],
    /// How long it is good.
    pub lifetime: Duration,
    /// How often it may be tried.
    pub attempts: i16,
    /// The mail that brings it to the new address.
    pub mail: &'a NewMail,
}

/// Keeps a new address until it is confirmed; it takes the place of an earlier one. An address that has an account gets no
/// mail, and nobody is told.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn begin_email_change(db: &Db, new: &NewEmail<'_>) -> Result<(), StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    transaction
        .execute(
            "INSERT INTO email_changes (user_id, email, code_hash, expires_at, attempts_left) \
             VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4), $5) \
             ON CONFLICT (user_id) DO UPDATE SET email = excluded.email, code_hash = excluded.code_hash, \
                 expires_at = excluded.expires_at, attempts_left = excluded.attempts_left",
            &[&new.user, &new.email, &new.code_hash, &new.lifetime.as_secs_f64(), &new.attempts],
        )
        .await?;
    let taken: bool = transaction
        .query_one("SELECT EXISTS (SELECT FROM users WHERE email = $1)", &[&new.email])
        .await?
        .get(0);
    if !taken {
        outbox::put(&transaction, new.mail).await?;
    }
    transaction.commit().await?;
    Ok(())
}

/// A code for a new e-mail address, tried by the session that is to go on.
#[derive(Clone, Copy)]
pub struct EmailCode<'a> {
    /// Whose.
    pub user: Uuid,
    /// The session that goes on.
    pub session: Uuid,
    /// The hash of the code.
    pub code_hash: &'a [u8],
    /// How long withdrawals are frozen.
    pub freeze: Duration,
    /// The mail that tells the old address.
    pub mail: &'a NewMail,
}

/// Tries the code for a new e-mail address: one try less, and if it is right the address is changed. Returns the new address
/// and the other sessions, which ended.
///
/// # Errors
///
/// [`StoreError::Unique`] when somebody else has the address by now.
pub async fn confirm_email_change(
    db: &Db,
    code: &EmailCode<'_>,
) -> Result<Option<(String, Vec<Uuid>)>, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    lock_user(&transaction, code.user).await?;
    let row = transaction
        .query_opt(
            "UPDATE email_changes SET attempts_left = attempts_left - 1 \
              WHERE user_id = $1 AND attempts_left > 0 AND expires_at > clock_timestamp() \
             RETURNING code_hash = $2, email",
            &[&code.user, &code.code_hash],
        )
        .await?;
    let Some(email) = row.filter(|row| row.get(0)).map(|row| row.get::<_, String>(1)) else {
        transaction.commit().await?;
        return Ok(None);
    };
    transaction
        .execute(
            "UPDATE users SET email = $2, verified_at = coalesce(verified_at, clock_timestamp()) \
              WHERE id = $1 AND closed_at IS NULL",
            &[&code.user, &email],
        )
        .await?;
    // Links that went to the old address are not good any more.
    let ended = end_ways_in(&transaction, code.user, Some(code.session), "email_changed").await?;
    freeze_withdrawals(&transaction, code.user, code.freeze).await?;
    outbox::put(&transaction, code.mail).await?;
    transaction.commit().await?;
    Ok(Some((email, ended)))
}

/// Closes a user for ever: nobody gets in, and what names a person is erased. What the records of money need stays: the row,
/// where withdrawals went, the audit log. Returns the sessions that ended.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn close(db: &Db, user: Uuid, mail: &NewMail) -> Result<Vec<Uuid>, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    transaction
        .execute(
            "UPDATE users SET email = 'closed-' || id || '@closed.invalid', display_name = '', \
                    password_hash = '', closed_at = clock_timestamp(), \
                    locked_at = coalesce(locked_at, clock_timestamp()), \
                    flags_due_at = greatest(flags_due_at, clock_timestamp()) \
              WHERE id = $1 AND closed_at IS NULL",
            &[&user],
        )
        .await?;
    let ended = end_ways_in(&transaction, user, None, "closed").await?;
    // What their owner called them may say who it was. The notices of their end are on their way.
    for text in [
        "DELETE FROM api_keys WHERE user_id = $1",
        "DELETE FROM withdrawal_addresses WHERE user_id = $1",
    ] {
        transaction.execute(text, &[&user]).await?;
    }
    for text in [
        "DELETE FROM two_factor WHERE user_id = $1",
        "DELETE FROM backup_codes WHERE user_id = $1",
        "DELETE FROM second_factor_tries WHERE user_id = $1",
        "DELETE FROM verification_codes WHERE user_id = $1",
        "UPDATE sessions SET user_agent = '', address = NULL WHERE user_id = $1",
    ] {
        transaction.execute(text, &[&user]).await?;
    }
    outbox::put(&transaction, mail).await?;
    transaction.commit().await?;
    Ok(ended)
}
