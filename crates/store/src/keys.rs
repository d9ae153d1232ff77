//! API keys: rows that say whose a key is, what it may do, from where, and its sealed secret.
//!
//! Invariant: a key that has ended never works again, and every server hears of its end with the commit that ends it.

use std::net::IpAddr;
use std::time::Duration;

use tokio_postgres::{GenericClient, Row};
use units::AccountId;
use uuid::Uuid;

use crate::credentials::freeze_withdrawals;
use crate::notices::{self, Notices};
use crate::outbox::{self, NewMail};
use crate::{Db, StoreError, Timestamp};
use units::Time;

/// The channel on which ended keys are told.
const CHANNEL: &str = "api_key_ended";

/// Keys of one user that have not ended.
pub const KEYS_MAX: i64 = 20;

/// A key as stored.
#[derive(Clone)]
pub struct KeyRow {
    /// The id, which is public.
    pub id: Uuid,
    /// Whose.
    pub user: Uuid,
    /// The user's account.
    pub account: AccountId,
    /// What its owner calls it.
    pub label: String,
    /// Bits: 1 read, 2 trade, 4 withdraw.
    pub scopes: u8,
    /// Networks that it may be used from; empty: from anywhere.
    pub networks: Vec<String>,
    /// The encrypted secret.
    pub sealed: Vec<u8>,
    /// When it was made.
    pub created_at: Time,
    /// When its time is over.
    pub expires_at: Option<Time>,
    /// When it was used last, a few seconds late.
    pub last_used_at: Option<Time>,
    /// From where it was used last.
    pub last_address: Option<IpAddr>,
    /// When it was ended.
    pub revoked_at: Option<Time>,
    /// Whether its owner is locked out.
    pub locked: bool,
}

impl std::fmt::Debug for KeyRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyRow").field("id", &self.id).finish_non_exhaustive()
    }
}

/// A statement about the columns that [`key`] reads.
macro_rules! of_key {
    ($rest:literal) => {
        concat!(
            "SELECT k.id, k.user_id, u.account_id, k.label, k.scopes, k.networks, k.secret_sealed, k.created_at, ",
            "k.expires_at, k.last_used_at, k.last_address, k.revoked_at, u.locked_at IS NOT NULL ",
            "FROM api_keys k JOIN users u ON u.id = k.user_id ",
            $rest
        )
    };
}

fn key(row: &Row) -> Result<KeyRow, StoreError> {
    let time = |at: usize| row.get::<_, Option<Timestamp>>(at).map(|time| time.0);
    let account = crate::numbers::to_u64(row.get(2))?;
    let scopes = u8::try_from(row.get::<_, i16>(4))
        .map_err(|_| StoreError::Corrupt("a key's scopes are out of their range".to_owned()))?;
    Ok(KeyRow {
        id: row.get(0),
        user: row.get(1),
        account: AccountId::new(account),
        label: row.get(3),
        scopes,
        networks: row.get(5),
        sealed: row.get(6),
        created_at: row.get::<_, Timestamp>(7).0,
        expires_at: time(8),
        last_used_at: time(9),
        last_address: row.get(10),
        revoked_at: time(11),
        locked: row.get(12),
    })
}

/// What it takes to make a key.
#[derive(Clone, Copy)]
pub struct NewKey<'a> {
    /// The id.
    pub id: Uuid,
    /// Whose.
    pub user: Uuid,
    /// What its owner calls it.
    pub label: &'a str,
    /// Bits: 1 read, 2 trade, 4 withdraw.
    pub scopes: u8,
    /// Networks that it may be used from; empty: from anywhere.
    pub networks: &'a [String],
    /// The encrypted secret.
    pub sealed: &'a [u8],
    /// How long it is good; `None`: until it is revoked.
    pub lifetime: Option<Duration>,
    /// How long withdrawals are frozen: a key is a way in.
    pub freeze: Duration,
    /// The mail that tells the owner.
    pub mail: &'a NewMail,
}

/// Makes a key. `None` where the user has [`KEYS_MAX`] of them, or is locked out.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn create(db: &Db, new: &NewKey<'_>) -> Result<Option<KeyRow>, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    // The lock makes parallel requests of one user count one after the other.
    let free = transaction
        .query_opt(
            "SELECT 1 FROM users WHERE id = $1 AND locked_at IS NULL FOR NO KEY UPDATE",
            &[&new.user],
        )
        .await?;
    if free.is_none() {
        return Ok(None);
    }
    let seconds = new.lifetime.map(|lifetime| lifetime.as_secs_f64());
    let made = transaction
        .execute(
            "INSERT INTO api_keys (id, user_id, label, scopes, networks, secret_sealed, expires_at) \
             SELECT $1, $2, $3, $4, $5, $6, clock_timestamp() + make_interval(secs => $7) \
              WHERE (SELECT count(*) FROM api_keys WHERE user_id = $2 AND revoked_at IS NULL \
                        AND (expires_at IS NULL OR expires_at > clock_timestamp())) < $8",
            &[
                &new.id,
                &new.user,
                &new.label,
                &i16::from(new.scopes),
                &new.networks,
                &new.sealed,
                &seconds,
                &KEYS_MAX,
            ],
        )
        .await?;
    if made == 0 {
        return Ok(None);
    }
    let row = transaction.query_one(of_key!("WHERE k.id = $1"), &[&new.id]).await?;
    freeze_withdrawals(&transaction, new.user, new.freeze).await?;
    outbox::put(&transaction, new.mail).await?;
    transaction.commit().await?;
    key(&row).map(Some)
}

/// Returns a user's keys that have not been revoked, newest first.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn list(db: &Db, user: Uuid) -> Result<Vec<KeyRow>, StoreError> {
    let client = db.get().await?;
    let text = of_key!(
        "WHERE k.user_id = $1 AND k.revoked_at IS NULL ORDER BY k.created_at DESC, k.id LIMIT 100"
    );
    client.query(text, &[&user]).await?.iter().map(key).collect()
}

/// Finds a key by its id, ended ones too.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn find(db: &Db, id: Uuid) -> Result<Option<KeyRow>, StoreError> {
    let client = db.get().await?;
    let text = client.prepare_cached(of_key!("WHERE k.id = $1")).await?;
    client.query_opt(&text, &[&id]).await?.as_ref().map(key).transpose()
}

/// Ends a user's key and tells every server. Returns whether there was one to end.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn revoke(db: &Db, user: Uuid, id: Uuid, reason: &str) -> Result<bool, StoreError> {
    let client = db.get().await?;
    let ended = client
        .query_opt(
            "WITH ended AS ( \
                 UPDATE api_keys SET revoked_at = clock_timestamp(), revoked_reason = $3 \
                  WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL RETURNING id) \
             SELECT pg_notify($4, id::text) FROM ended",
            &[&id, &user, &reason, &CHANNEL],
        )
        .await?;
    Ok(ended.is_some())
}

/// Ends all keys of a user and tells every server: after a change of the password, with a lock, with the account's closure.
/// Takes a transaction too, so that it is one with what causes it. Returns how many have ended.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn revoke_all(
    client: &impl GenericClient,
    user: Uuid,
    reason: &str,
) -> Result<usize, StoreError> {
    // The notices go out with the commit, never before it and never without it.
    let ended = client
        .query(
            "WITH ended AS ( \
                 UPDATE api_keys SET revoked_at = clock_timestamp(), revoked_reason = $2 \
                  WHERE user_id = $1 AND revoked_at IS NULL RETURNING id) \
             SELECT pg_notify($3, id::text) FROM ended",
            &[&user, &reason, &CHANNEL],
        )
        .await?;
    Ok(ended.len())
}

/// Puts a secret that was sealed anew in the place of the old one.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn reseal(db: &Db, id: Uuid, old: &[u8], new: &[u8]) -> Result<(), StoreError> {
    let client = db.get().await?;
    client
        .execute(
            "UPDATE api_keys SET secret_sealed = $3 WHERE id = $1 AND secret_sealed = $2",
            &[&id, &old, &new],
        )
        .await?;
    Ok(())
}

/// A key's last use.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    /// The key.
    pub key: Uuid,
    /// From where.
    pub address: IpAddr,
    /// When.
    pub at: Time,
}

/// Writes the last uses of many keys at once; an older use never replaces a newer one.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn touch(db: &Db, uses: &[Use]) -> Result<(), StoreError> {
    let client = db.get().await?;
    let ids: Vec<_> = uses.iter().map(|one| one.key).collect();
    let addresses: Vec<_> = uses.iter().map(|one| one.address).collect();
    let times: Vec<_> = uses.iter().map(|one| Timestamp(one.at)).collect();
    client
        .execute(
            "UPDATE api_keys k SET last_used_at = used.at, last_address = used.address \
               FROM unnest($1::uuid[], $2::inet[], $3::timestamptz[]) AS used (id, address, at) \
              WHERE k.id = used.id AND (k.last_used_at IS NULL OR k.last_used_at < used.at)",
            &[&ids, &addresses, &times],
        )
        .await?;
    Ok(())
}

/// Begins to hear of keys that have ended.
///
/// # Errors
///
/// [`StoreError`] when the connection cannot be made.
pub async fn listen(db: &Db) -> Result<Notices<Uuid>, StoreError> {
    notices::listen(db, "LISTEN api_key_ended").await
}
