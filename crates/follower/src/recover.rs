//! A state from the newest good snapshot and the journal's tail.
//!
//! Invariant: what is loaded is checked: a snapshot by its state hash and by the hash of the journal row that it stands
//! on, every row by its sequence, its hash and the hash before. A bad snapshot is passed over for an older one, and the
//! whole journal is the last resort; a bad row is an end.

use engine::State;
use journal::{BadRow, Batch, Row};
use store::{Db, StoreError};
use units::{Hash32, Sequence};

/// Rows that are read at once; each has at most a few hundred commands.
pub(crate) const ROWS_AT_ONCE: usize = 256;

/// Beyond the end of every journal, and still what PostgreSQL can count to.
pub const HEAD: Sequence = Sequence::new(u64::MAX >> 1);

/// Why a state cannot be loaded or followed any further.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row cannot be read: written by a newer release, or changed.
    #[error(transparent)]
    Row(#[from] BadRow),
    /// The rows do not follow one another.
    #[error("journal row {found} does not follow row {last}: {what}")]
    Chain {
        /// The last row that was followed.
        last: Sequence,
        /// The row that came.
        found: Sequence,
        /// What does not fit.
        what: &'static str,
    },
    /// Applying a row failed: a defect that stops every follower.
    #[error("journal row {0} cannot be applied: a defect; the log has the cause")]
    Apply(Sequence),
    /// Writing a snapshot failed: a defect.
    #[error("a snapshot could not be written: a defect; the log has the cause")]
    Snapshot,
}

/// A state with what the journal says of its last row.
#[derive(Debug)]
pub struct Recovered {
    /// The state.
    pub state: State,
    /// The hash of its last row; all zeros before the first.
    pub hash: Hash32,
    /// The row of the snapshot that it was loaded from; 0: from the first row on.
    pub snapshot: Sequence,
}

/// Loads the newest good snapshot at or before `at_most`; an empty state where there is none. A bad snapshot is logged
/// and passed over.
///
/// # Errors
///
/// [`FollowError::Store`] when the database fails.
pub async fn load_snapshot(db: &Db, at_most: Sequence) -> Result<Recovered, FollowError> {
    let Some((snapshot, state)) = store::snapshots::load_newest(db, Some(at_most)).await? else {
        return Ok(Recovered {
            state: State::new(),
            hash: Hash32::default(),
            snapshot: Sequence::new(0),
        });
    };
    Ok(Recovered { state, hash: snapshot.journal_hash, snapshot: snapshot.sequence })
}

/// Loads the newest good snapshot at or before `at_most` and follows the journal to its head. `progress` hears of the
/// last row that was followed.
///
/// # Errors
///
/// [`FollowError`].
pub async fn recover(
    db: &Db,
    at_most: Sequence,
    mut progress: impl FnMut(Sequence),
) -> Result<Recovered, FollowError> {
    let mut recovered = load_snapshot(db, at_most).await?;
    catch_up(db, &mut recovered, HEAD, &mut progress).await?;
    Ok(recovered)
}

/// Follows the journal to its head, at most to `until`.
///
/// # Errors
///
/// [`FollowError`].
pub async fn catch_up(
    db: &Db,
    recovered: &mut Recovered,
    until: Sequence,
    progress: &mut impl FnMut(Sequence),
) -> Result<(), FollowError> {
    loop {
        let last = recovered.state.sequence();
        let rows = store::journal::rows_after(db, last, ROWS_AT_ONCE).await?;
        if rows.is_empty() || last >= until {
            return Ok(());
        }
        for row in rows.iter().take_while(|row| row.sequence <= until) {
            let batch = read_next(recovered.state.sequence(), recovered.hash, row)?;
            // Nobody follows yet who could want the effects.
            batch.open(&mut recovered.state);
            for entry in &batch.entries {
                engine::evolve(&mut recovered.state, &entry.command, &entry.event, &mut ());
            }
            recovered.hash = row.hash;
        }
        progress(recovered.state.sequence());
        tokio::task::yield_now().await;
    }
}

/// Reads a row that must follow the row `last` with this hash.
///
/// # Errors
///
/// [`FollowError::Row`] or [`FollowError::Chain`].
pub fn read_next(last: Sequence, hash: Hash32, row: &Row) -> Result<Batch, FollowError> {
    let chain = |what| FollowError::Chain { last, found: row.sequence, what };
    if row.sequence != last.next() {
        return Err(chain("a row is missing"));
    }
    // The versions come first: a newer release may chain otherwise.
    let batch = journal::read(row)?;
    if row.previous_hash != hash {
        return Err(chain("its previous hash is another"));
    }
    Ok(batch)
}
