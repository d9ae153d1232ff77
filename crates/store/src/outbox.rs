//! Mail that is to be sent.
//!
//! Invariant: a mail is written in the transaction that causes it, and its row goes when it was handed over. Whoever claims
//! one has it alone for a while; one that crashes its sender has used up a try nevertheless.

use std::time::Duration;

use tokio_postgres::Transaction;
use uuid::Uuid;

use crate::{Db, StoreError};

/// How long a mail that was set aside is kept for somebody to look at.
const KEPT_DAYS: i32 = 7;

/// A mail that is to be sent.
#[derive(Clone, Debug)]
pub struct NewMail {
    /// Its id, which its sealed content is bound to.
    pub id: Uuid,
    /// What it is about, for operators.
    pub kind: &'static str,
    /// To whom.
    pub recipient: String,
    /// What it says, sealed; its first four bytes say with which key.
    pub content: Vec<u8>,
    /// How long it is of use.
    pub lifetime: Duration,
    /// Whether an unsent one of this kind to this recipient is of no use any more.
    pub replaces: bool,
}

/// A mail that was claimed.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Its id.
    pub id: Uuid,
    /// What it is about.
    pub kind: String,
    /// To whom.
    pub recipient: String,
    /// What it says, sealed.
    pub content: Vec<u8>,
    /// The tries so far, this one included.
    pub attempts: i16,
}

/// Writes a mail within a transaction.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub(crate) async fn put(transaction: &Transaction<'_>, mail: &NewMail) -> Result<(), StoreError> {
    if mail.replaces {
        transaction
            .execute(
                "DELETE FROM mail_outbox WHERE recipient = $1 AND kind = $2 AND failed_at IS NULL",
                &[&mail.recipient, &mail.kind],
            )
            .await?;
    }
    transaction
        .execute(
            "INSERT INTO mail_outbox (id, kind, recipient, content, expires_at) \
             VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5))",
            &[&mail.id, &mail.kind, &mail.recipient, &mail.content, &mail.lifetime.as_secs_f64()],
        )
        .await?;
    Ok(())
}

/// Writes a mail that nothing else in the database goes with.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn enqueue(db: &Db, mail: &NewMail) -> Result<(), StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    put(&transaction, mail).await?;
    transaction.commit().await?;
    Ok(())
}

/// Claims mails that are due, oldest first, of those that were sealed with one of these keys: while keys change, another
/// server may have sealed what this one cannot open. Nobody else gets them before `lease` is over.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn claim(
    db: &Db,
    mails_max: i64,
    lease: Duration,
    key_ids: &[&[u8]],
) -> Result<Vec<Claimed>, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(
            "WITH due AS MATERIALIZED ( \
                 SELECT id FROM mail_outbox \
                  WHERE failed_at IS NULL AND next_attempt_at <= clock_timestamp() \
                    AND expires_at > clock_timestamp() AND substring(content FOR 4) = ANY($3) \
                  ORDER BY next_attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED) \
             UPDATE mail_outbox mail SET attempts = mail.attempts + 1, \
                    next_attempt_at = clock_timestamp() + make_interval(secs => $2) \
               FROM due WHERE mail.id = due.id \
             RETURNING mail.id, mail.kind, mail.recipient, mail.content, mail.attempts",
        )
        .await?;
    let rows = client.query(&text, &[&mails_max, &lease.as_secs_f64(), &key_ids]).await?;
    let claimed = rows.iter().map(|row| Claimed {
        id: row.get(0),
        kind: row.get(1),
        recipient: row.get(2),
        content: row.get(3),
        attempts: row.get(4),
    });
    Ok(claimed.collect())
}

/// Takes away a mail that was handed over.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn sent(db: &Db, id: Uuid) -> Result<(), StoreError> {
    let client = db.get().await?;
    client.execute("DELETE FROM mail_outbox WHERE id = $1", &[&id]).await?;
    Ok(())
}

/// Says when a mail that could not be sent is tried again.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn again(db: &Db, id: Uuid, wait: Duration) -> Result<(), StoreError> {
    let client = db.get().await?;
    client
        .execute(
            "UPDATE mail_outbox SET next_attempt_at = clock_timestamp() + make_interval(secs => $2) \
              WHERE id = $1 AND failed_at IS NULL",
            &[&id, &wait.as_secs_f64()],
        )
        .await?;
    Ok(())
}

/// Sets a mail aside that cannot be sent: what it says is erased, that it was there stays for a week.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn set_aside(db: &Db, id: Uuid, failure: &str) -> Result<(), StoreError> {
    let client = db.get().await?;
    client
        .execute(
            "UPDATE mail_outbox SET failed_at = clock_timestamp(), failure = $2, content = ''::bytea \
              WHERE id = $1",
            &[&id, &failure],
        )
        .await?;
    Ok(())
}

/// Takes away what is of no use any more. Returns how many mails were never sent.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn sweep(db: &Db) -> Result<u64, StoreError> {
    let client = db.get().await?;
    let late = client
        .execute(
            "DELETE FROM mail_outbox WHERE failed_at IS NULL AND expires_at <= clock_timestamp()",
            &[],
        )
        .await?;
    client
        .execute(
            "DELETE FROM mail_outbox WHERE failed_at < clock_timestamp() - make_interval(days => $1)",
            &[&KEPT_DAYS],
        )
        .await?;
    Ok(late)
}
