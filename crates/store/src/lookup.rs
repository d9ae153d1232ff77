//! Single rows and pages that the API reads from the projections, the commands that wait, and what the API asks the
//! database about itself.
//!
//! Invariant: every page is bounded by its caller and walks an index; every row is asked for together with its owner.

mod kept;
mod money;
mod orders;

use units::Sequence;

use crate::notices::{self, Notices};
use crate::numbers::to_u64;
use crate::{Db, StoreError};

pub use kept::{Kept, decided_at, kept};
pub use money::{MoneyRow, WithdrawalRow, movement, movements, withdrawal, withdrawals};
pub use orders::{
    FillRow, OrderPage, OrderRow, PendingOrder, fills, insert_pending, order, orders, sweep_pending,
};

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

/// Returns the last journal row that is in the projections.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn projected(db: &Db) -> Result<Sequence, StoreError> {
    let client = db.get().await?;
    let text =
        client.prepare_cached("SELECT sequence FROM projection_progress WHERE active").await?;
    let sequence: i64 = client.query_one(&text, &[]).await?.get(0);
    Ok(Sequence::new(to_u64(sequence)?))
}

/// Tells whoever writes the projections that somebody waits for a row of them.
///
/// # Errors
///
/// [`StoreError`] when the database does.
pub async fn want_projected(db: &Db, sequence: Sequence) -> Result<(), StoreError> {
    let client = db.get().await?;
    let statement = client.prepare_cached("SELECT pg_notify('projection_wanted', $1)").await?;
    client.execute(&statement, &[&sequence.to_string()]).await?;
    Ok(())
}

/// Begins to hear of rows that somebody waits for in the projections.
///
/// # Errors
///
/// [`StoreError`] when the connection cannot be made.
pub async fn listen_wanted(db: &Db) -> Result<Notices<u64>, StoreError> {
    notices::listen(db, "LISTEN projection_wanted").await
}
