//! Commands that a sequencer has died of, or may have.
//!
//! Invariant: they are written before the process ends, so that its successor decides each of them alone.

use units::CommandId;
use uuid::Uuid;

use crate::{Db, StoreError};

/// The most suspects that are read: as many as a few batches have.
const SUSPECTS_MAX: i64 = 100_000;

/// Remembers that applying a batch with these commands has failed, once more for those that are known.
///
/// # Errors
///
/// [`StoreError`].
pub async fn record(db: &Db, commands: &[CommandId]) -> Result<(), StoreError> {
    let client = db.get().await?;
    let mut ids: Vec<Uuid> = commands.iter().map(|id| Uuid::from_u128(id.get())).collect();
    ids.sort_unstable();
    ids.dedup();
    let text = "INSERT INTO suspects (command) SELECT unnest($1::uuid[])
                ON CONFLICT (command) DO UPDATE SET failures = suspects.failures + 1";
    client.execute(text, &[&ids]).await?;
    Ok(())
}

/// Returns the suspects, and how often each was in a batch that failed.
///
/// # Errors
///
/// [`StoreError`].
pub async fn all(db: &Db) -> Result<Vec<(CommandId, u32)>, StoreError> {
    let client = db.get().await?;
    let text = "SELECT command, failures FROM suspects ORDER BY recorded_at DESC LIMIT $1";
    let found = client.query(text, &[&SUSPECTS_MAX]).await?;
    let suspect = |row: &tokio_postgres::Row| {
        let id: Uuid = row.get(0);
        let failures: i32 = row.get(1);
        (CommandId::new(id.as_u128()), u32::try_from(failures).unwrap_or(1))
    };
    Ok(found.iter().map(suspect).collect())
}

/// Forgets a suspect that was decided.
///
/// # Errors
///
/// [`StoreError`].
pub async fn forget(db: &Db, command: CommandId) -> Result<(), StoreError> {
    let client = db.get().await?;
    let id = Uuid::from_u128(command.get());
    client.execute("DELETE FROM suspects WHERE command = $1", &[&id]).await?;
    Ok(())
}
