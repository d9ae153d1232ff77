//! What the exchange's own people see of users and withdrawals.

use tokio_postgres::Row;
use units::{AccountId, Amount, AssetId, Time};
use uuid::Uuid;

use crate::numbers::{to_i64, to_u64};
use crate::{Db, Numeric, StoreError, Timestamp};

/// A user, without any secret.
#[derive(Clone, Debug)]
pub struct UserRow {
    /// The id.
    pub id: Uuid,
    /// The account in the journal.
    pub account: AccountId,
    /// The e-mail address.
    pub email: String,
    /// The role.
    pub role: String,
    /// When the e-mail address was verified.
    pub verified_at: Option<Time>,
    /// When the user was locked out.
    pub locked_at: Option<Time>,
    /// Until when nothing may leave.
    pub frozen_until: Option<Time>,
    /// When the user registered.
    pub created_at: Time,
    /// Sessions that have not ended.
    pub sessions: i64,
    /// Keys that have not ended.
    pub keys: i64,
}

macro_rules! of_user {
    ($rest:literal) => {
        concat!(
            "SELECT u.id, u.account_id, u.email, u.role, u.verified_at, u.locked_at, ",
            "CASE WHEN u.withdrawals_frozen_until > clock_timestamp() THEN u.withdrawals_frozen_until END, ",
            "u.created_at, ",
            "(SELECT count(*) FROM sessions s WHERE s.user_id = u.id AND s.revoked_at IS NULL ",
            "AND s.expires_at > clock_timestamp()), ",
            "(SELECT count(*) FROM api_keys k WHERE k.user_id = u.id AND k.revoked_at IS NULL ",
            "AND (k.expires_at IS NULL OR k.expires_at > clock_timestamp())) FROM users u ",
            $rest
        )
    };
}

fn user(row: &Row) -> Result<UserRow, StoreError> {
    let time = |at: usize| row.get::<_, Option<Timestamp>>(at).map(|time| time.0);
    Ok(UserRow {
        id: row.get(0),
        account: AccountId::new(to_u64(row.get(1))?),
        email: row.get(2),
        role: row.get(3),
        verified_at: time(4),
        locked_at: time(5),
        frozen_until: time(6),
        created_at: row.get::<_, Timestamp>(7).0,
        sessions: row.get(8),
        keys: row.get(9),
    })
}

/// Returns users whose e-mail address begins with a text, newest first, after the one at `after` (microseconds, id).
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn users(
    db: &Db,
    email: &str,
    after: Option<(u64, Uuid)>,
    rows_max: usize,
) -> Result<Vec<UserRow>, StoreError> {
    let client = db.get().await?;
    let text = of_user!(
        "WHERE starts_with(u.email, $1) AND ($2::timestamptz IS NULL OR (u.created_at, u.id) < ($2, $3)) \
         ORDER BY u.created_at DESC, u.id DESC LIMIT $4"
    );
    let at = after.map(|(micros, _)| Timestamp(Time::from_micros(micros)));
    let id = after.map_or(Uuid::nil(), |(_, id)| id);
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    client.query(text, &[&email, &at, &id, &rows_max]).await?.iter().map(user).collect()
}

/// Finds a user by id.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn find(db: &Db, id: Uuid) -> Result<Option<UserRow>, StoreError> {
    let client = db.get().await?;
    let row = client.query_opt(of_user!("WHERE u.id = $1"), &[&id]).await?;
    row.as_ref().map(user).transpose()
}

/// A withdrawal in the queue.
#[derive(Clone, Debug)]
pub struct QueuedRow {
    /// Its id.
    pub id: Uuid,
    /// Whose; `None` where the user has been erased.
    pub user: Option<Uuid>,
    /// The user's e-mail address.
    pub email: Option<String>,
    /// The account.
    pub account: AccountId,
    /// Of what.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
    /// Where it stands.
    pub status: String,
    /// Where to.
    pub destination: Option<String>,
    /// When it was requested.
    pub created_at: Time,
    /// When it changed last.
    pub updated_at: Time,
    /// The journal row of the request.
    pub sequence: u64,
}

macro_rules! of_withdrawal {
    ($rest:literal) => {
        concat!(
            "SELECT w.id, u.id, u.email, w.account_id, w.asset_id, w.amount, w.status, d.destination, ",
            "w.created_at, w.updated_at, w.sequence FROM withdrawals w ",
            "LEFT JOIN users u ON u.account_id = w.account_id ",
            "LEFT JOIN withdrawal_destinations d ON d.withdrawal_id = w.id ",
            $rest
        )
    };
}

fn queued(row: &Row) -> Result<QueuedRow, StoreError> {
    let corrupt = |what: &str| StoreError::Corrupt(format!("{what} is out of its range"));
    let asset = u16::try_from(row.get::<_, i32>(4)).map_err(|_| corrupt("an asset"))?;
    Ok(QueuedRow {
        id: row.get(0),
        user: row.get(1),
        email: row.get(2),
        account: AccountId::new(to_u64(row.get(3))?),
        asset: AssetId::new(asset),
        amount: row.get::<_, Numeric>(5).amount().ok_or_else(|| corrupt("an amount"))?,
        status: row.get(6),
        destination: row.get(7),
        created_at: row.get::<_, Timestamp>(8).0,
        updated_at: row.get::<_, Timestamp>(9).0,
        sequence: to_u64(row.get(10))?,
    })
}

/// Returns withdrawals in a state, oldest first, after the one at `after` (its row, its id).
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn withdrawals(
    db: &Db,
    status: &str,
    after: Option<(u64, Uuid)>,
    rows_max: usize,
) -> Result<Vec<QueuedRow>, StoreError> {
    let client = db.get().await?;
    let text = of_withdrawal!(
        "WHERE w.status = $1 AND (w.sequence, w.id) > ($2, $3) ORDER BY w.sequence, w.id LIMIT $4"
    );
    let (sequence, id) = after.unwrap_or((0, Uuid::nil()));
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let rows = client.query(text, &[&status, &to_i64(sequence)?, &id, &rows_max]).await?;
    rows.iter().map(queued).collect()
}

/// Writes down that it was an operator who has given a withdrawal back: the journal does not say so.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn mark_rejected(db: &Db, withdrawal: Uuid) -> Result<(), StoreError> {
    let client = db.get().await?;
    let text = "UPDATE withdrawal_destinations SET rejected_at = clock_timestamp() \
                 WHERE withdrawal_id = $1 AND rejected_at IS NULL";
    client.execute(text, &[&withdrawal]).await?;
    Ok(())
}

/// Finds a withdrawal.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn withdrawal(db: &Db, id: Uuid) -> Result<Option<QueuedRow>, StoreError> {
    let client = db.get().await?;
    let row = client.query_opt(of_withdrawal!("WHERE w.id = $1"), &[&id]).await?;
    row.as_ref().map(queued).transpose()
}
