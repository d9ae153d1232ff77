//! Single rows and pages that the API reads from the projections, and what it asks the database about itself.

use units::Sequence;
use uuid::Uuid;

use crate::numbers::to_u64;
use crate::{Db, StoreError};

/// Returns what PostgreSQL promises when it says that a row is committed.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn durability(db: &Db) -> Result<String, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(
            "SELECT current_setting('synchronous_commit') || CASE \
                 WHEN current_setting('synchronous_standby_names') = '' THEN ', no standby' \
                 ELSE ', standbys ' || current_setting('synchronous_standby_names') END",
        )
        .await?;
    Ok(client.query_one(&text, &[]).await?.get(0))
}

/// Returns the journal row that has decided a command of a user, by what the command has made: an order, a deposit, a
/// withdrawal or a transfer; `None` where it has made nothing.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn decided_in(db: &Db, id: Uuid) -> Result<Option<Sequence>, StoreError> {
    let client = db.get().await?;
    let text = client
        .prepare_cached(
            "SELECT created_in FROM orders WHERE id = $1 AND created_in IS NOT NULL \
             UNION ALL SELECT created_in FROM deposits WHERE id = $1 \
             UNION ALL SELECT created_in FROM withdrawals WHERE id = $1 \
             UNION ALL SELECT created_in FROM transfers WHERE id = $1 LIMIT 1",
        )
        .await?;
    let row = client.query_opt(&text, &[&id]).await?;
    row.map(|row| to_u64(row.get(0)).map(Sequence::new)).transpose()
}
