//! The journal, read and followed: what parts of the projections are filled from that no follower feeds.

use std::sync::Arc;

use engine::State;
use futures::future::try_join_all;
use journal::Applied;
use trace::Micros;
use units::{Hash32, Sequence};

use super::Projector;
use crate::{Db, StoreError, journal as stored};

/// Rows that are read at once.
const ROWS_MAX: usize = 256;

/// How far a long work has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The last journal row that is done.
    pub done: Sequence,
    /// The last journal row there is, or the one to stop at.
    pub goal: Sequence,
}

/// Rows that have been written, and by whom.
#[derive(Debug)]
pub struct Filled<'a> {
    /// The rows.
    pub batches: &'a [Arc<Applied>],
    /// When each projector began, and how many microseconds it took, in the order in which they were given.
    pub times: Vec<(Micros, u32)>,
    /// How far all of them are now.
    pub progress: Progress,
}

/// A state of its own that follows the journal.
#[derive(Debug)]
pub struct Source {
    db: Db,
    state: State,
    hash: Hash32,
}

impl Source {
    /// Follows from a state whose last row has this hash.
    #[must_use]
    pub fn new(db: Db, state: State, hash: Hash32) -> Self {
        Self { db, state, hash }
    }

    /// Follows from the first row on.
    pub(super) fn from_zero(db: &Db) -> Self {
        Self::new(db.clone(), State::new(), Hash32::default())
    }

    /// Returns the last row that was read.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.state.sequence()
    }

    /// Reads, checks and evolves the next rows up to `until`; none: all of them have been read.
    async fn next(mut self, until: Sequence) -> Result<(Self, Vec<Arc<Applied>>), StoreError> {
        let after = self.sequence();
        let left = usize::try_from(until.get().saturating_sub(after.get())).unwrap_or(usize::MAX);
        let rows = stored::rows_after(&self.db, after, left.min(ROWS_MAX)).await?;
        // Deciding nothing, but still work: not on a thread that others wait for.
        let worked = tokio::task::spawn_blocking(move || {
            let applied: Result<Vec<_>, StoreError> =
                rows.iter().map(|row| self.follow(row).map(Arc::new)).collect();
            applied.map(|applied| (self, applied))
        });
        worked.await.map_err(|error| {
            StoreError::Corrupt(format!("a journal row does not fit those before it: {error}"))
        })?
    }

    fn follow(&mut self, row: &::journal::Row) -> Result<Applied, StoreError> {
        if row.previous_hash != self.hash {
            return Err(StoreError::Corrupt(format!(
                "journal row {} does not carry the hash of the row before",
                row.sequence
            )));
        }
        let batch = ::journal::read(row).map_err(|bad| StoreError::Corrupt(bad.to_string()))?;
        let effects = ::journal::apply(&mut self.state, &batch);
        self.hash = row.hash;
        Ok(Applied { batch, hash: row.hash, effects })
    }

    /// Writes everything up to `until` with projectors, reading ahead while they write. `on_filled` hears of it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] where the journal cannot be followed, or does not follow what a projector has written; else
    /// what the database said. What is written stays.
    pub async fn fill(
        self,
        projectors: &mut [&mut Projector],
        until: Sequence,
        on_filled: &mut (dyn FnMut(Filled<'_>) + Send),
    ) -> Result<Self, StoreError> {
        let (mut source, mut batches) = self.next(until).await?;
        while !batches.is_empty() {
            let done = source.sequence();
            let written = try_join_all(projectors.iter_mut().map(|each| timed(each, &batches)));
            let (next, written) = tokio::join!(source.next(until), written);
            let progress = Progress { done, goal: until };
            on_filled(Filled { batches: &batches, times: written?, progress });
            (source, batches) = next?;
        }
        Ok(source)
    }
}

async fn timed(
    projector: &mut Projector,
    batches: &[Arc<Applied>],
) -> Result<(Micros, u32), StoreError> {
    let begun = Micros::now();
    projector.write(batches).await?;
    Ok((begun, Micros::now().since(begun)))
}
