//! Sessions and their refresh tokens.
//!
//! Invariant: a refresh token works once. Its second use revokes its session with every token of it, because one of
//! the two users of the token is a thief and nobody can tell which.

use std::net::IpAddr;
use std::time::Duration;

use tokio_postgres::Transaction;
use units::AccountId;
use uuid::Uuid;

use crate::credentials::lock_user;
use crate::notices::{self, Notices};
use crate::outbox::{self, NewMail};
use crate::{Db, StoreError};

/// The channel on which revocations are told.
const CHANNEL: &str = "session_revoked";

/// Ends one session. The notice goes out with the commit of the same statement, never before it and never without it.
const REVOKE: &str = "WITH ended AS ( \
         UPDATE sessions SET revoked_at = clock_timestamp(), revoked_reason = $3 \
          WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL RETURNING id) \
     SELECT pg_notify($4, id::text) FROM ended";

/// What it takes to make a session.
#[derive(Clone, Copy, Debug)]
pub struct NewSession<'a> {
    /// The id.
    pub id: Uuid,
    /// Whose.
    pub user: Uuid,
    /// The hash of the first refresh token.
    pub token_hash: &'a [u8],
    /// How long it may be refreshed.
    pub lifetime: Duration,
    /// What the client says it is.
    pub user_agent: &'a str,
    /// Where it comes from.
    pub address: IpAddr,
}

/// Makes a session for a login whose password was checked against `password_hash`.
///
/// Returns whether it did: not where the password was changed, or the user locked, after it was checked.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn begin(db: &Db, new: &NewSession<'_>, password_hash: &str) -> Result<bool, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    // The lock makes a change of the password wait: it then ends this session too.
    let row = transaction
        .query_opt(
            "SELECT 1 FROM users WHERE id = $1 AND password_hash = $2 AND locked_at IS NULL FOR SHARE",
            &[&new.user, &password_hash],
        )
        .await?;
    if row.is_none() {
        return Ok(false);
    }
    insert(&transaction, new).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Writes a session. The transaction has locked its user.
pub(crate) async fn insert(
    transaction: &Transaction<'_>,
    new: &NewSession<'_>,
) -> Result<(), StoreError> {
    transaction
        .execute(
            "WITH session AS ( \
                 INSERT INTO sessions (id, user_id, expires_at, user_agent, address) \
                 VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3), $4, $5) RETURNING id) \
             INSERT INTO refresh_tokens (token_hash, session_id) SELECT $6, id FROM session",
            &[
                &new.id,
                &new.user,
                &new.lifetime.as_secs_f64(),
                &new.user_agent,
                &new.address,
                &new.token_hash,
            ],
        )
        .await?;
    Ok(())
}

/// A session as its owner sees it.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// The id.
    pub id: Uuid,
    /// What the client said it was.
    pub user_agent: String,
    /// Where it was begun from.
    pub address: Option<IpAddr>,
    /// When it was begun, in microseconds since 1970.
    pub created_at_micros: i64,
    /// When it was refreshed last, in microseconds since 1970.
    pub last_used_at_micros: i64,
    /// When it ends by itself, in microseconds since 1970.
    pub expires_at_micros: i64,
}

/// Returns a user's sessions that are not over, the last used first.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn of_user(db: &Db, user: Uuid, rows_max: i64) -> Result<Vec<SessionRow>, StoreError> {
    let client = db.get().await?;
    let rows = client
        .query(
            "SELECT id, user_agent, address, (extract(epoch FROM created_at) * 1000000)::bigint, \
                    (extract(epoch FROM last_used_at) * 1000000)::bigint, \
                    (extract(epoch FROM expires_at) * 1000000)::bigint \
               FROM sessions WHERE user_id = $1 AND revoked_at IS NULL AND expires_at > clock_timestamp() \
              ORDER BY last_used_at DESC, id LIMIT $2",
            &[&user, &rows_max],
        )
        .await?;
    let session = rows.iter().map(|row| SessionRow {
        id: row.get(0),
        user_agent: row.get(1),
        address: row.get(2),
        created_at_micros: row.get(3),
        last_used_at_micros: row.get(4),
        expires_at_micros: row.get(5),
    });
    Ok(session.collect())
}

/// Ends all sessions of a user but the one to keep, within a transaction, and tells every server. Returns those that ended.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub(crate) async fn end_all(
    transaction: &Transaction<'_>,
    user: Uuid,
    keep: Option<Uuid>,
    reason: &str,
) -> Result<Vec<Uuid>, StoreError> {
    let rows = transaction
        .query(
            "WITH ended AS ( \
                 UPDATE sessions SET revoked_at = clock_timestamp(), revoked_reason = $3 \
                  WHERE user_id = $1 AND id IS DISTINCT FROM $2 AND revoked_at IS NULL RETURNING id) \
             SELECT id, pg_notify($4, id::text) FROM ended",
            &[&user, &keep, &reason, &CHANNEL],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Ends all sessions of a user but one. Returns those that ended.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn revoke_others(db: &Db, user: Uuid, keep: Uuid) -> Result<Vec<Uuid>, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    lock_user(&transaction, user).await?;
    let ended = end_all(&transaction, user, Some(keep), "revoked").await?;
    transaction.commit().await?;
    Ok(ended)
}

/// A session that was refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refreshed {
    /// The session.
    pub session: Uuid,
    /// Whose.
    pub user: Uuid,
    /// The user's account.
    pub account: AccountId,
}

/// What became of a refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// It was good, and the new one has taken its place.
    Good(Refreshed),
    /// It is not known, or its session is over.
    Unknown,
    /// It was used before: its session is revoked.
    Reused {
        /// The session.
        session: Uuid,
        /// Whose.
        user: Uuid,
    },
}

/// Uses a refresh token and puts a new one in its place, in one transaction. Where it was used before, the session ends, and
/// the first such time `warning`, which is given the user's e-mail address, is written with it.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn refresh(
    db: &Db,
    old_hash: &[u8],
    new_hash: &[u8],
    warning: impl FnOnce(String) -> NewMail + Send,
) -> Result<Refresh, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    // The lock makes two uses of one token wait for each other: the second finds it used.
    let row = transaction
        .query_opt(
            "SELECT token.used_at IS NOT NULL, session.id, users.id, users.account_id, \
                    session.revoked_at IS NULL AND session.expires_at > clock_timestamp() \
                        AND users.locked_at IS NULL, users.email \
               FROM refresh_tokens token JOIN sessions session ON session.id = token.session_id \
               JOIN users ON users.id = session.user_id \
              WHERE token.token_hash = $1 FOR UPDATE OF token",
            &[&old_hash],
        )
        .await?;
    let Some(row) = row else {
        return Ok(Refresh::Unknown);
    };
    let (used, session, user): (bool, Uuid, Uuid) = (row.get(0), row.get(1), row.get(2));
    if used {
        let ended = transaction.query_opt(REVOKE, &[&session, &user, &"reused", &CHANNEL]).await?;
        if ended.is_some() {
            outbox::put(&transaction, &warning(row.get(5))).await?;
        }
        transaction.commit().await?;
        return Ok(Refresh::Reused { session, user });
    }
    if !row.get::<_, bool>(4) {
        return Ok(Refresh::Unknown);
    }
    transaction
        .execute(
            "UPDATE refresh_tokens SET used_at = clock_timestamp() WHERE token_hash = $1",
            &[&old_hash],
        )
        .await?;
    transaction
        .execute(
            "INSERT INTO refresh_tokens (token_hash, session_id) VALUES ($1, $2)",
            &[&new_hash, &session],
        )
        .await?;
    transaction
        .execute("UPDATE sessions SET last_used_at = clock_timestamp() WHERE id = $1", &[&session])
        .await?;
    transaction.commit().await?;
    let account: i64 = row.get(3);
    let account = u64::try_from(account)
        .map_err(|_| StoreError::Corrupt(format!("the account id {account} is negative")))?;
    Ok(Refresh::Good(Refreshed { session, user, account: AccountId::new(account) }))
}

/// Returns the session of a refresh token, and its user.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn of_token(db: &Db, token_hash: &[u8]) -> Result<Option<(Uuid, Uuid)>, StoreError> {
    let client = db.get().await?;
    let row = client
        .query_opt(
            "SELECT session.id, session.user_id FROM refresh_tokens token \
               JOIN sessions session ON session.id = token.session_id WHERE token.token_hash = $1",
            &[&token_hash],
        )
        .await?;
    Ok(row.map(|row| (row.get(0), row.get(1))))
}

/// Ends a user's session and tells every server. A session that has ended stays as it is. Returns whether it ended now.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn revoke(db: &Db, user: Uuid, session: Uuid, reason: &str) -> Result<bool, StoreError> {
    let client = db.get().await?;
    let row = client.query_opt(REVOKE, &[&session, &user, &reason, &CHANNEL]).await?;
    Ok(row.is_some())
}

/// Returns the sessions that were revoked within a time.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn revoked_within(db: &Db, time: Duration) -> Result<Vec<Uuid>, StoreError> {
    let client = db.get().await?;
    let rows = client
        .query(
            "SELECT id FROM sessions WHERE revoked_at > clock_timestamp() - make_interval(secs => $1)",
            &[&time.as_secs_f64()],
        )
        .await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Begins to hear of revocations.
///
/// # Errors
///
/// [`StoreError`] when the connection cannot be made.
pub async fn listen(db: &Db) -> Result<Notices<Uuid>, StoreError> {
    notices::listen(db, "LISTEN session_revoked").await
}
