//! What is kept of a command for ever, beyond the time for which the state remembers it.

use units::{CommandId, Sequence, Time};
use uuid::Uuid;

use crate::numbers::to_u64;
use crate::{Db, StoreError, Timestamp};

/// Rows of the journal that are read at once.
const ROWS_AT_ONCE: usize = 64;

/// What is kept of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The journal row that has decided it: as an order, a deposit, a withdrawal or a transfer, refused ones included.
    pub decided_in: Option<Sequence>,
    /// When it expires, where it was answered 202.
    pub pending_until: Option<Time>,
}

/// Returns what is kept of a command that a state does not remember: what the projections say, and the rows that they do
/// not have yet, as far as the state has forgotten those too. It remembers rows from `remembered_since` on, so that rows are
/// read only where the projections lag by more than the window.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn kept(db: &Db, command: CommandId, remembered_since: Time) -> Result<Kept, StoreError> {
    let client = db.get().await?;
    // One statement: what the tables say is what they say at this progress.
    let text = client
        .prepare_cached(
            "SELECT g.sequence, g.time, \
                 (SELECT created_in FROM orders_projected WHERE id = $1 \
                  UNION ALL SELECT sequence FROM deposits WHERE id = $1 \
                  UNION ALL SELECT sequence FROM withdrawals WHERE id = $1 \
                  UNION ALL SELECT sequence FROM transfers WHERE id = $1 LIMIT 1), \
                 (SELECT expires_at FROM pending_commands WHERE id = $1) \
             FROM projection_progress g WHERE g.active",
        )
        .await?;
    let found = client.query_one(&text, &[&Uuid::from_u128(command.get())]).await?;
    let decided_in: Option<i64> = found.get(2);
    let decided_in = decided_in.map(to_u64).transpose()?.map(Sequence::new);
    let pending_until = found.get::<_, Option<Timestamp>>(3).map(|time| time.0);
    let kept = Kept { decided_in, pending_until };
    if decided_in.is_some() || found.get::<_, Timestamp>(1).0 >= remembered_since {
        return Ok(kept);
    }
    drop(client);
    let progress = Sequence::new(to_u64(found.get(0))?);
    let decided_in = unprojected(db, command, progress, remembered_since).await?;
    Ok(Kept { decided_in, ..kept })
}

/// Returns the journal row in which a command was decided, and its place in it: an order, a deposit, a withdrawal or a
/// transfer, as far as the projections have it.
///
/// # Errors
///
/// [`StoreError`].
pub async fn decided_at(
    db: &Db,
    command: CommandId,
) -> Result<Option<(Sequence, usize)>, StoreError> {
    // No row is read beyond those: anybody may ask, and the projections may lag by many.
    let kept = kept(db, command, Time::default()).await?;
    let Some(sequence) = kept.decided_in else { return Ok(None) };
    let Some(row) = crate::journal::row(db, sequence).await? else { return Ok(None) };
    let batch = ::journal::read(&row).map_err(|bad| StoreError::Corrupt(bad.to_string()))?;
    Ok(batch.place_of(command).map(|place| (sequence, place)))
}

/// Looks for a command in the rows after `last` that are older than `remembered_since`.
async fn unprojected(
    db: &Db,
    command: CommandId,
    mut last: Sequence,
    remembered_since: Time,
) -> Result<Option<Sequence>, StoreError> {
    loop {
        let rows = crate::journal::rows_after(db, last, ROWS_AT_ONCE).await?;
        for row in &rows {
            if row.time >= remembered_since {
                return Ok(None);
            }
            let batch = ::journal::read(row).map_err(|bad| StoreError::Corrupt(bad.to_string()))?;
            if batch.has_decided(command) {
                return Ok(Some(row.sequence));
            }
            last = row.sequence;
        }
        if rows.is_empty() {
            return Ok(None);
        }
    }
}
