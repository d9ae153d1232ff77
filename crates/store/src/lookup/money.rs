//! Deposits, withdrawals and transfers of one account.

use tokio_postgres::Row;
use units::{AccountId, Amount, AssetId, Time};
use uuid::Uuid;

use crate::numbers::{to_i64, to_u64};
use crate::{Db, Numeric, StoreError, Timestamp};

/// Money that came in, went out or across, or was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoneyRow {
    /// The command that asked for it.
    pub id: Uuid,
    /// `deposit`, `withdrawal`, `transfer_in` or `transfer_out`.
    pub kind: String,
    /// Of what.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
    /// Where it stands.
    pub status: String,
    /// Why it was refused.
    pub reason: Option<String>,
    /// The account on the other side of a transfer.
    pub other: Option<AccountId>,
    /// Journal time.
    pub created_at: Time,
    /// The journal row.
    pub sequence: u64,
}

fn amount(number: Numeric) -> Result<Amount, StoreError> {
    number.amount().ok_or_else(|| StoreError::Corrupt("an amount is out of its range".to_owned()))
}

fn asset(number: i32) -> Result<AssetId, StoreError> {
    let asset = u16::try_from(number).map(AssetId::new);
    asset.map_err(|_| StoreError::Corrupt("an asset is out of its range".to_owned()))
}

fn money_row(row: &Row) -> Result<MoneyRow, StoreError> {
    Ok(MoneyRow {
        id: row.get(0),
        kind: row.get(1),
        asset: asset(row.get(2))?,
        amount: amount(row.get(3))?,
        status: row.get(4),
        reason: row.get(5),
        other: row.get::<_, Option<i64>>(6).map(to_u64).transpose()?.map(AccountId::new),
        created_at: row.get::<_, Timestamp>(7).0,
        sequence: to_u64(row.get(8))?,
    })
}

/// Movements of one account, each part bounded by itself so that it walks its own index.
macro_rules! of_movement {
    ($where:literal, $order:literal, $rest:literal) => {
        concat!(
            "(SELECT id, 'deposit' AS kind, asset_id, amount, status, reason, NULL::bigint AS other, created_at, sequence ",
            "FROM deposits WHERE account_id = $1 ", $where, $order, ") UNION ALL ",
            "(SELECT id, 'withdrawal', asset_id, amount, ",
            "CASE WHEN is_rejected THEN 'rejected' ELSE status END, ",
            "CASE WHEN is_rejected THEN 'rejected_by_operator' ELSE reason END, NULL, created_at, sequence ",
            "FROM (SELECT *, status = 'cancelled' AND EXISTS (SELECT FROM withdrawal_destinations d ",
            "WHERE d.withdrawal_id = w.id AND d.rejected_at IS NOT NULL) AS is_rejected FROM withdrawals w) w WHERE account_id = $1 ", $where, $order, ") UNION ALL ",
            "(SELECT id, 'transfer_out', asset_id, amount, status, reason, to_account_id, created_at, sequence ",
            "FROM transfers WHERE from_account_id = $1 ", $where, $order, ") UNION ALL ",
            "(SELECT id, 'transfer_in', asset_id, amount, status, reason, from_account_id, created_at, sequence ",
            "FROM transfers WHERE to_account_id = $1 AND status = 'completed' ", $where, $order, ") ",
            $rest
        )
    };
}

/// Returns a page of an account's movements, newest first, after the one at `after` (its row, its id).
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn movements(
    db: &Db,
    account: AccountId,
    asset: Option<AssetId>,
    after: Option<(u64, Uuid)>,
    rows_max: usize,
) -> Result<Vec<MoneyRow>, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(of_movement!(
            "AND ($2::int IS NULL OR asset_id = $2) AND (sequence, id) < ($3, $4) ",
            "ORDER BY sequence DESC, id DESC LIMIT $5",
            "ORDER BY sequence DESC, id DESC LIMIT $5"
        ))
        .await?;
    let (sequence, id) = after.unwrap_or((i64::MAX.unsigned_abs(), Uuid::max()));
    let asset = asset.map(|asset| i32::from(asset.get()));
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let rows = client
        .query(&text, &[&to_i64(account.get())?, &asset, &to_i64(sequence)?, &id, &rows_max])
        .await?;
    rows.iter().map(money_row).collect()
}

/// Returns one movement of an account.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn movement(
    db: &Db,
    account: AccountId,
    id: Uuid,
) -> Result<Option<MoneyRow>, StoreError> {
    let client = db.get().await?;
    let text = client.prepare_cached(of_movement!("AND id = $2", "", "LIMIT 1")).await?;
    let row = client.query_opt(&text, &[&to_i64(account.get())?, &id]).await?;
    row.as_ref().map(money_row).transpose()
}

/// A withdrawal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithdrawalRow {
    /// Its id.
    pub id: Uuid,
    /// Of what.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
    /// Where it stands.
    pub status: String,
    /// Why it was refused.
    pub reason: Option<String>,
    /// Where to, as long as that is kept.
    pub destination: Option<String>,
    /// Journal time of the request.
    pub created_at: Time,
    /// Journal time of the last change.
    pub updated_at: Time,
    /// The journal row of the request.
    pub sequence: u64,
}

macro_rules! of_withdrawal {
    ($rest:literal) => {
        concat!(
            // To the journal, what an operator rejects is taken back.
            "SELECT w.id, w.asset_id, w.amount, ",
            "CASE WHEN w.status = 'cancelled' AND d.rejected_at IS NOT NULL THEN 'rejected' ELSE w.status END, ",
            "CASE WHEN w.status = 'cancelled' AND d.rejected_at IS NOT NULL THEN 'rejected_by_operator' ",
            "ELSE w.reason END, d.destination, w.created_at, w.updated_at, ",
            "w.sequence FROM withdrawals w LEFT JOIN withdrawal_destinations d ON d.withdrawal_id = w.id ",
            "WHERE w.account_id = $1 ",
            $rest
        )
    };
}

fn withdrawal_row(row: &Row) -> Result<WithdrawalRow, StoreError> {
    Ok(WithdrawalRow {
        id: row.get(0),
        asset: asset(row.get(1))?,
        amount: amount(row.get(2))?,
        status: row.get(3),
        reason: row.get(4),
        destination: row.get(5),
        created_at: row.get::<_, Timestamp>(6).0,
        updated_at: row.get::<_, Timestamp>(7).0,
        sequence: to_u64(row.get(8))?,
    })
}

/// Returns a withdrawal of an account.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn withdrawal(
    db: &Db,
    account: AccountId,
    id: Uuid,
) -> Result<Option<WithdrawalRow>, StoreError> {
    let client = db.get().await?;
    let text = client.prepare_cached(of_withdrawal!("AND w.id = $2")).await?;
    let row = client.query_opt(&text, &[&to_i64(account.get())?, &id]).await?;
    row.as_ref().map(withdrawal_row).transpose()
}

/// Returns a page of an account's withdrawals, newest first, after the one at `after` (its row, its id).
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn withdrawals(
    db: &Db,
    account: AccountId,
    after: Option<(u64, Uuid)>,
    rows_max: usize,
) -> Result<Vec<WithdrawalRow>, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(of_withdrawal!(
            "AND (w.sequence, w.id) < ($2, $3) ORDER BY w.sequence DESC, w.id DESC LIMIT $4"
        ))
        .await?;
    let (sequence, id) = after.unwrap_or((i64::MAX.unsigned_abs(), Uuid::max()));
    let rows_max = i64::try_from(rows_max).unwrap_or(i64::MAX);
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
        [&to_i64(account.get())?, &to_i64(sequence)?, &id, &rows_max];
    client.query(&text, &parameters).await?.iter().map(withdrawal_row).collect()
}
