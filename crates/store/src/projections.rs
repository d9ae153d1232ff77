//! Step 7 of the order's way: project. The journal's effects as rows that people and programs can query.
//!
//! Invariant: a generation of the projections says exactly what the journal says up to its progress, which moves by
//! compare-and-set in the writing transaction, so two writers cannot double and a crash cannot skip.

mod candles;
mod codes;
mod compare;
mod copy;
mod orders;
mod rebuild;
mod rows;
mod session;
mod source;
mod sql;
mod tables;

use std::sync::Arc;

use units::Sequence;

pub use compare::{Compared, Difference, compare};
pub use rebuild::{Rebuilt, rebuild};
pub use source::Progress;

use crate::{Db, StoreError};

use session::Session;

/// Effects that are written in one transaction before the next one begins.
const EFFECTS_MAX: usize = 60_000;

/// Writes the projections.
#[derive(Debug)]
pub struct Projector {
    db: Db,
    /// The generation to write; `None`: whichever is in use.
    generation: Option<String>,
    session: Option<Session>,
}

impl Projector {
    /// Returns a writer of the generation that is in use, also after a rebuild has put another in its place.
    #[must_use]
    pub fn new(db: Db) -> Self {
        Self { db, generation: None, session: None }
    }

    /// Returns a writer of one generation, in use or not.
    fn of_generation(db: Db, generation: &str) -> Self {
        Self { db, generation: Some(generation.to_owned()), session: None }
    }

    /// Returns the last journal row that is projected, as the database says.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn progress(&mut self) -> Result<Sequence, StoreError> {
        self.session = None;
        Ok(self.session().await?.progress())
    }

    /// Writes batches, oldest first, in as few transactions as they fit. Batches that are projected already are passed
    /// over, whoever wrote them. Returns the progress.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] where a batch is missing between the progress and the first one; else what the database
    /// said. After an error the same batches can be given again.
    pub async fn write(
        &mut self,
        batches: &[Arc<::journal::Applied>],
    ) -> Result<Sequence, StoreError> {
        let mut rest = batches;
        loop {
            let progress = self.session().await?.progress();
            rest = &rest[rest.partition_point(|applied| applied.batch.sequence <= progress)..];
            let Some(first) = rest.first() else { return Ok(progress) };
            if first.batch.sequence != progress.next() {
                return Err(StoreError::Corrupt(format!(
                    "the projections stand at row {progress}, and row {} was given next",
                    first.batch.sequence
                )));
            }
            let now = &rest[..fitting(rest)];
            let mut session = self.session.take().expect("the session was opened above");
            // A session that has failed, or found that somebody else moved the progress, is not used again: the next
            // one asks the database where it stands.
            if session.write(now).await? {
                self.session = Some(session);
            }
        }
    }

    async fn session(&mut self) -> Result<&mut Session, StoreError> {
        if self.session.as_ref().is_none_or(Session::is_closed) {
            self.session = Some(Session::open(&self.db, self.generation.as_deref()).await?);
        }
        Ok(self.session.as_mut().expect("the session was opened above"))
    }
}

/// Returns how many of the batches, at least one, go into one transaction.
fn fitting(batches: &[Arc<::journal::Applied>]) -> usize {
    let mut effects = 0;
    for (at, applied) in batches.iter().enumerate() {
        effects += applied.batch.entries.len()
            + applied.effects.postings.len()
            + applied.effects.trades.len();
        if effects > EFFECTS_MAX {
            return at.max(1);
        }
    }
    batches.len()
}
