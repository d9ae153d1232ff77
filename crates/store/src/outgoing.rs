//! What may leave an account: listed destinations, their cooling-off time, allowances per day, freezes.
//!
//! Invariant: a withdrawal or transfer is admitted under a lock of its user's row and written down before its command is
//! sent. Two servers at once cannot let the same allowance out twice, and what was admitted counts for 24 hours even if
//! the server dies on the way, unless the journal says that it was refused or given back.

use std::time::Duration;

use tokio_postgres::Transaction;
use units::{Amount, AssetId, Time};
use uuid::Uuid;

use crate::credentials::freeze_withdrawals;
use crate::{Db, Numeric, StoreError, Timestamp};

/// Listed destinations of one user.
pub const ADDRESSES_MAX: i64 = 100;

/// How money leaves an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Out of the exchange.
    Withdrawal,
    /// To another user.
    Transfer,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Withdrawal => "withdrawal",
            Self::Transfer => "transfer",
        }
    }
}

/// Money that asks to leave.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The id of the command.
    pub id: Uuid,
    /// Whose.
    pub user: Uuid,
    /// How.
    pub way: Way,
    /// Of what.
    pub asset: AssetId,
    /// How much.
    pub amount: Amount,
    /// Where to.
    pub destination: &'a str,
    /// Whether the destination must be listed, whatever the user has chosen.
    pub must_be_listed: bool,
    /// What may leave in 24 hours.
    pub daily_max: Option<Amount>,
}

/// Whether money may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Admitted,
    /// The user is not there, or locked out.
    Locked,
    /// A command with this id was admitted with something else in it.
    Differs,
    /// Nothing may leave until then.
    Frozen(Time),
    /// The destination is not listed.
    Unlisted,
    /// The destination is listed, but not for long enough; it is from then on.
    CoolingOff(Time),
    /// It is more than what is left of the day's allowance.
    BeyondLimit(Amount),
}

/// Admits money that asks to leave, or says why not. The same again is the same answer.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn admit(db: &Db, outgoing: &Outgoing<'_>) -> Result<Admission, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let refused = check(&transaction, outgoing).await?;
    if refused != Admission::Admitted {
        return Ok(refused);
    }
    transaction
        .execute(
            "INSERT INTO outgoing_admissions (id, user_id, kind, asset_id, amount, destination) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING",
            &[
                &outgoing.id,
                &outgoing.user,
                &outgoing.way.name(),
                &i32::from(outgoing.asset.get()),
                &Numeric::from(outgoing.amount),
                &outgoing.destination,
            ],
        )
        .await?;
    if outgoing.way == Way::Withdrawal {
        // Kept before the command is sent: whoever pays must find it. One that is refused leaves a row that nobody reads.
        transaction
            .execute(
                "INSERT INTO withdrawal_destinations (withdrawal_id, user_id, destination) \
                 VALUES ($1, $2, $3) ON CONFLICT (withdrawal_id) DO NOTHING",
                &[&outgoing.id, &outgoing.user, &outgoing.destination],
            )
            .await?;
    }
    transaction.commit().await?;
    Ok(Admission::Admitted)
}

async fn check(transaction: &Transaction<'_>, out: &Outgoing<'_>) -> Result<Admission, StoreError> {
    // Whatever else the user lets out at this moment waits here, on whichever server.
    let user = transaction
        .query_opt(
            "SELECT withdrawal_allow_list, CASE WHEN withdrawals_frozen_until > clock_timestamp() \
                    THEN withdrawals_frozen_until END \
               FROM users WHERE id = $1 AND locked_at IS NULL FOR NO KEY UPDATE",
            &[&out.user],
        )
        .await?;
    let Some(user) = user else { return Ok(Admission::Locked) };
    let before = transaction
        .query_opt(
            "SELECT user_id = $2 AND kind = $3 AND asset_id = $4 AND amount = $5 AND destination = $6 \
               FROM outgoing_admissions WHERE id = $1",
            &[
                &out.id,
                &out.user,
                &out.way.name(),
                &i32::from(out.asset.get()),
                &Numeric::from(out.amount),
                &out.destination,
            ],
        )
        .await?
        .map(|row| row.get::<_, bool>(0));
    if before == Some(false) {
        return Ok(Admission::Differs);
    }
    if let Some(until) = user.get::<_, Option<Timestamp>>(1) {
        return Ok(Admission::Frozen(until.0));
    }
    if out.must_be_listed || user.get::<_, bool>(0) {
        let listed = listed(transaction, out).await?;
        if listed != Admission::Admitted {
            return Ok(listed);
        }
    }
    match out.daily_max {
        // What was admitted before is counted already.
        Some(max) if before.is_none() => within(transaction, out, max).await,
        _ => Ok(Admission::Admitted),
    }
}

async fn listed(
    transaction: &Transaction<'_>,
    out: &Outgoing<'_>,
) -> Result<Admission, StoreError> {
    let row = transaction
        .query_opt(
            "SELECT usable_at <= clock_timestamp(), usable_at FROM withdrawal_addresses \
              WHERE user_id = $1 AND destination = $2 AND removed_at IS NULL",
            &[&out.user, &out.destination],
        )
        .await?;
    Ok(match row {
        None => Admission::Unlisted,
        Some(row) if row.get(0) => Admission::Admitted,
        Some(row) => Admission::CoolingOff(row.get::<_, Timestamp>(1).0),
    })
}

async fn within(
    transaction: &Transaction<'_>,
    out: &Outgoing<'_>,
    max: Amount,
) -> Result<Admission, StoreError> {
    // The projections may be behind: then what was refused or given back still counts, which errs on the safe side.
    let row = transaction
        .query_one(
            "SELECT coalesce(sum(a.amount), 0) FROM outgoing_admissions a \
               LEFT JOIN withdrawals w ON w.id = a.id LEFT JOIN transfers t ON t.id = a.id \
              WHERE a.user_id = $1 AND a.asset_id = $2 \
                AND a.admitted_at > clock_timestamp() - interval '24 hours' \
                AND coalesce(w.status, t.status, '') NOT IN ('rejected', 'expired', 'cancelled', 'failed')",
            &[&out.user, &i32::from(out.asset.get())],
        )
        .await?;
    let gone = row.get::<_, Numeric>(0).amount();
    let gone = gone.ok_or_else(|| StoreError::Corrupt("a sum is out of its range".to_owned()))?;
    let left = max.checked_sub(gone).unwrap_or(Amount::ZERO);
    Ok(if out.amount <= left { Admission::Admitted } else { Admission::BeyondLimit(left) })
}

/// A listed destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRow {
    /// The id.
    pub id: Uuid,
    /// What its owner calls it.
    pub label: String,
    /// Where to.
    pub destination: String,
    /// When it was listed.
    pub created_at: Time,
    /// When its cooling-off time ends.
    pub usable_at: Time,
}

fn address(row: &tokio_postgres::Row) -> AddressRow {
    AddressRow {
        id: row.get(0),
        label: row.get(1),
        destination: row.get(2),
        created_at: row.get::<_, Timestamp>(3).0,
        usable_at: row.get::<_, Timestamp>(4).0,
    }
}

/// What became of a destination to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// It is listed.
    Now(AddressRow),
    /// It was before.
    Known,
    /// The user has [`ADDRESSES_MAX`] of them.
    TooMany,
}

/// Lists a destination, usable after the cooling-off time.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn add_address(
    db: &Db,
    id: Uuid,
    user: Uuid,
    label: &str,
    destination: &str,
    cooling_off: Duration,
) -> Result<Listed, StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    transaction.query_opt("SELECT 1 FROM users WHERE id = $1 FOR NO KEY UPDATE", &[&user]).await?;
    let row = transaction
        .query_one(
            "SELECT count(*), coalesce(bool_or(destination = $2), false) FROM withdrawal_addresses \
              WHERE user_id = $1 AND removed_at IS NULL",
            &[&user, &destination],
        )
        .await?;
    if row.get(1) {
        return Ok(Listed::Known);
    }
    if row.get::<_, i64>(0) >= ADDRESSES_MAX {
        return Ok(Listed::TooMany);
    }
    let row = transaction
        .query_one(
            "INSERT INTO withdrawal_addresses (id, user_id, label, destination, usable_at) \
             VALUES ($1, $2, $3, $4, clock_timestamp() + make_interval(secs => $5)) \
             RETURNING id, label, destination, created_at, usable_at",
            &[&id, &user, &label, &destination, &cooling_off.as_secs_f64()],
        )
        .await?;
    transaction.commit().await?;
    Ok(Listed::Now(address(&row)))
}

/// Returns a user's listed destinations, newest first, and whether money may leave to these alone.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn addresses(db: &Db, user: Uuid) -> Result<(Vec<AddressRow>, bool), StoreError> {
    let client = db.get().await?;
    let rows = client
        .query(
            "SELECT id, label, destination, created_at, usable_at FROM withdrawal_addresses \
              WHERE user_id = $1 AND removed_at IS NULL ORDER BY created_at DESC, id",
            &[&user],
        )
        .await?;
    let only = client
        .query_opt("SELECT withdrawal_allow_list FROM users WHERE id = $1", &[&user])
        .await?
        .is_some_and(|row| row.get(0));
    Ok((rows.iter().map(address).collect(), only))
}

/// Takes a destination off the list. Returns whether it was on it.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn remove_address(db: &Db, user: Uuid, id: Uuid) -> Result<bool, StoreError> {
    let client = db.get().await?;
    let removed = client
        .execute(
            "UPDATE withdrawal_addresses SET removed_at = clock_timestamp() \
              WHERE id = $1 AND user_id = $2 AND removed_at IS NULL",
            &[&id, &user],
        )
        .await?;
    Ok(removed == 1)
}

/// Lets money leave to listed destinations alone, or to any. Letting it go anywhere freezes what may leave, for `frozen`.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn set_allow_list(
    db: &Db,
    user: Uuid,
    only: bool,
    frozen: Duration,
) -> Result<(), StoreError> {
    let mut client = db.get().await?;
    let transaction = client.transaction().await?;
    let changed = transaction
        .execute(
            "UPDATE users SET withdrawal_allow_list = $2 WHERE id = $1 AND withdrawal_allow_list <> $2",
            &[&user, &only],
        )
        .await?;
    if changed == 1 && !only {
        freeze_withdrawals(&transaction, user, frozen).await?;
    }
    transaction.commit().await?;
    Ok(())
}
