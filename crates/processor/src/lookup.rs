//! What became of a command that the state remembers no more.

use engine::State;
use store::{Db, StoreError};
use units::CommandId;

use crate::rules::{has_decided, is_remembered};

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 64;

/// Tells whether a command that the state does not know is in the journal: by the projections, which keep orders, deposits,
/// withdrawals and transfers for ever, and by the rows that they do not have yet. Those the state mostly remembers, so
/// that nothing is read; but projections may lag by more than the window.
pub(crate) async fn was_decided(
    db: &Db,
    state: &State,
    command: CommandId,
) -> Result<bool, StoreError> {
    // The progress first: whatever is projected after this look is found in the tables.
    let mut last = store::lookup::projected(db).await?;
    let id = uuid::Uuid::from_u128(command.get());
    if store::lookup::decided_in(db, id).await?.is_some() {
        return Ok(true);
    }
    loop {
        let rows = store::journal::rows_after(db, last, ROWS_AT_ONCE).await?;
        for row in &rows {
            if is_remembered(row.time, state) {
                return Ok(false);
            }
            let batch = journal::read(row).map_err(|bad| StoreError::Corrupt(bad.to_string()))?;
            if has_decided(&batch, command) {
                return Ok(true);
            }
            last = row.sequence;
        }
        if rows.is_empty() {
            return Ok(false);
        }
    }
}
